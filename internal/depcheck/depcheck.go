// Package depcheck tests which modules a module's users link.
package depcheck

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// own is the path of the root module, and the start of every other path of
// this repository.
const own = "github.com/reincubate/ricloud-go"

// Modules fails the test unless the packages in and below the current folder
// depend on exactly the allowed modules. The standard library and the modules
// of this repository need no entry, and test files do not count. An entry that
// ends in "/..." allows that module and every module below it.
//
// Modules runs "go list", which compiles nothing.
func Modules(t *testing.T, allowed ...string) {
	t.Helper()
	const format = "{{with .Module}}{{.Path}}{{end}}"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", format, "./...")
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "GOARCH=amd64") // one answer on every machine
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	added, gone := compare(strings.Fields(string(out)), allowed)
	for _, module := range added {
		t.Errorf("%s is a new dependency of this module's users; if they need it, add it to the list",
			module)
	}
	for _, module := range gone {
		t.Errorf("%s is no longer a dependency; remove it from the list", module)
	}
}

// compare returns the modules that no allowed entry matches, and the entries
// that match no module.
func compare(modules, allowed []string) (added, gone []string) {
	slices.Sort(modules)
	for _, module := range slices.Compact(modules) {
		if !matches(own+"/...", module) && !slices.ContainsFunc(allowed, func(entry string) bool {
			return matches(entry, module)
		}) {
			added = append(added, module)
		}
	}
	for _, entry := range allowed {
		if !slices.ContainsFunc(modules, func(module string) bool { return matches(entry, module) }) {
			gone = append(gone, entry)
		}
	}
	return added, gone
}

func matches(entry, module string) bool {
	prefix, wild := strings.CutSuffix(entry, "/...")
	return module == prefix || wild && strings.HasPrefix(module, prefix+"/")
}
