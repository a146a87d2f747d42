# Compares a coverage profile with the floors: awk -v module=PATH/ -f coverage.awk FLOORS PROFILE
FNR == NR {
	if (!/^#/ && NF == 2) floor[$1] = $2
	next
}
/^mode:/ { next }
{
	# module/folder/file.go:10.2,12.3 <statements> <count>
	file = substr($1, 1, index($1, ":") - 1)
	if (index(file, module) != 1) next
	# These programs are run as processes, whose coverage is not collected.
	if (index(file, module "cmd/ricloud/") == 1) next
	if (index(file, module "ingest/internal/chaos/") == 1) next
	parts = split(substr(file, length(module) + 1), folder, "/")
	group = parts == 1 ? "root" : folder[1]
	statements[group] += $2
	if ($3 > 0) covered[group] += $2
}
END {
	for (group in statements) {
		percent = 100 * covered[group] / statements[group]
		verdict = group in floor ? "floor " floor[group] : "no floor"
		if (group in floor && percent < floor[group]) {
			verdict = verdict ": TOO LOW"
			failed = 1
		} else if (group in floor && percent >= floor[group] + 1) {
			verdict = verdict ": raise the floor to " int(percent)
		}
		printf "%-12s %5.1f %%  %s\n", group, percent, verdict
	}
	for (group in floor) if (!(group in statements)) {
		printf "%-12s no statements found\n", group
		failed = 1
	}
	exit failed
}
