package ricloud

// Progress says how far a file is.
type Progress struct {
	Result      *Result
	Done, Total int64 // bytes
}

// DownloadOption changes how result files are read.
type DownloadOption func(*downloadOptions)

type downloadOptions struct {
	progress    func(Progress)
	parallel    int
	acknowledge bool
}

const defaultParallel = 4

func newDownloadOptions(opts []DownloadOption) downloadOptions {
	o := downloadOptions{progress: func(Progress) {}, parallel: defaultParallel}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithProgress calls f as bytes arrive, and for a file that was saved already,
// once. Calls never overlap; a slow f slows the transfer.
func WithProgress(f func(Progress)) DownloadOption {
	return func(o *downloadOptions) { o.progress = f }
}

// WithParallel sets how many files SaveAll reads at once. The default is 4.
func WithParallel(n int) DownloadOption {
	return func(o *downloadOptions) { o.parallel = max(n, 1) }
}

// WithAcknowledge lets SaveAll acknowledge the results it saved, many a
// request: those that are verified and on disk, and no others.
func WithAcknowledge() DownloadOption {
	return func(o *downloadOptions) { o.acknowledge = true }
}
