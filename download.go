package ricloud

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // the checksum that the API publishes
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/download"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// ErrChecksum means that the bytes of a result's file do not have the MD5 that
// the API published. Open, Save and SaveAll return it. Nothing is kept; try
// again, and report the result if that does not help.
var ErrChecksum = download.ErrChecksum

// ErrSize means that the object in storage does not have the size that the API
// published. Open, Save and SaveAll return it, without a retry.
var ErrSize = download.ErrSize

// ErrNoStorage means that the client cannot read the storage of a result: the
// result has no signed URL, and the client has no opener for the scheme of its
// URL. See [WithStorage].
var ErrNoStorage = errors.New("ricloud: the client cannot read this storage")

// DownloadError reports that a result file could not be downloaded, verified,
// saved or acknowledged.
type DownloadError struct {
	Result     ID
	Identifier string
	Done, Size int64 // bytes read, of bytes expected
	Err        error
}

// Error names the result and says what went wrong.
func (e *DownloadError) Error() string {
	return fmt.Sprintf("ricloud: result %s (%q), at %d of %d bytes: %s",
		quote(e.Result, maxWord), e.Identifier, e.Done, e.Size,
		strings.ReplaceAll(strings.TrimPrefix(causeText(e.Err), "ricloud: "), "\n", "; "))
}

// Unwrap returns what went wrong.
func (e *DownloadError) Unwrap() error { return e.Err }

// failed returns a *DownloadError about r, of which done bytes were read.
func (r *Result) failed(done int64, err error) error {
	return &DownloadError{
		Result: r.ID, Identifier: r.Identifier, Done: done, Size: r.Size, Err: err,
	}
}

// Progress says how much of a file is done.
type Progress struct {
	Result     *Result
	Done, Size int64 // bytes
}

// DownloadOption changes how result files are read. It is for Open, Save and
// SaveAll.
type DownloadOption func(*downloadOptions)

// SaveOption changes how files are saved. It is for Save, SaveAll and SaveAllTo.
// Each [DownloadOption] is a SaveOption, too.
type SaveOption interface {
	SaveAllOption

	applySave(to *downloadOptions)
}

// SaveAllOption changes how SaveAll and SaveAllTo work. Each [DownloadOption]
// and each [SaveOption] is a SaveAllOption, too.
type SaveAllOption interface{ applySaveAll(*downloadOptions) }

type (
	saveOption    func(*downloadOptions)
	saveAllOption func(*downloadOptions)
)

func (o DownloadOption) applySave(to *downloadOptions)    { o(to) }
func (o DownloadOption) applySaveAll(to *downloadOptions) { o(to) }
func (o saveOption) applySave(to *downloadOptions)        { o(to) }
func (o saveOption) applySaveAll(to *downloadOptions)     { o(to) }
func (o saveAllOption) applySaveAll(to *downloadOptions)  { o(to) }

type downloadOptions struct {
	progress    func(Progress)
	name        func(*Result) string
	parallel    int
	acknowledge bool
	shared      *Acknowledger
	manifest    *Poll

	err error // of an option that cannot work
}

const defaultParallel = 4

// newDownloadOptions applies opts, by one of the three apply methods.
func newDownloadOptions[O any](
	operation string, opts []O, apply func(O, *downloadOptions),
) (downloadOptions, error) {
	o := downloadOptions{
		progress: func(Progress) {}, name: (*Result).DataType, parallel: defaultParallel,
	}
	for _, opt := range opts {
		if isNil(opt) {
			return o, &ParamError{Operation: operation, Field: "opts", Reason: "holds a nil option"}
		}
		apply(opt, &o)
	}
	return o, forOperation(operation, o.err)
}

// WithProgress calls f as bytes arrive, and once for a file that was saved
// before. Calls never overlap. The transfer waits while f runs.
func WithProgress(f func(Progress)) DownloadOption {
	return func(o *downloadOptions) {
		if o.progress = f; f == nil {
			o.err = invalid("WithProgress", "is nil")
		}
	}
}

// WithFileNames names saved files by f instead of by [Result.DataType]: f can
// put the poll or the source into the name. What f returns is made a safe file
// name as by [FileName].
func WithFileNames(f func(*Result) string) SaveOption {
	return saveOption(func(o *downloadOptions) {
		if o.name = f; f == nil {
			o.err = invalid("WithFileNames", "is nil")
		}
	})
}

// WithParallel sets how many files SaveAll reads at once. The default is 4.
func WithParallel(n int) SaveAllOption {
	return saveAllOption(func(o *downloadOptions) {
		if o.parallel = n; n < 1 {
			o.err = invalid("WithParallel", "must be at least 1")
		}
	})
}

// WithAcknowledge makes SaveAll acknowledge the results that it saved, many in
// one request. It acknowledges only those whose files are verified and on disk.
func WithAcknowledge() SaveAllOption {
	return saveAllOption(func(o *downloadOptions) { o.acknowledge = true })
}

// WithAcknowledger makes SaveAll add the results that it saved to an
// acknowledger, which the whole program can share. They are acknowledged later,
// so Saved.Acknowledged stays false.
func WithAcknowledger(a *Acknowledger) SaveAllOption {
	return saveAllOption(func(o *downloadOptions) {
		if o.shared = a; a == nil {
			o.err = invalid("WithAcknowledger", "is nil")
		}
	})
}

// WithManifest makes SaveAll write a BagIt folder (RFC 8493): the files are in
// the folder "data" within dir, their MD5 and SHA-256 in manifests, and the
// organisation, poll, session, source and times in bag-info.txt. A log has a line
// for each step of each result: published, fetched or found, verified,
// acknowledged. Its lines are chained by their hashes.
//
// The log is on disk before a result is acknowledged. After a crash, the next
// SaveAll into the folder completes the manifests. Several polls may share a
// folder. Only one SaveAll writes to it at a time; others wait.
// [VerifyFolder] verifies it.
func WithManifest(poll *Poll) SaveAllOption {
	return saveAllOption(func(o *downloadOptions) {
		if o.manifest = poll; poll == nil {
			o.err = invalid("WithManifest", "needs a poll")
		}
	})
}

// downloads is the part of a client's configuration that reads files.
type downloads struct {
	transport http.RoundTripper // adds no credentials
	storage   map[string]ObjectOpener
	userAgent string
	policy    download.Policy
	local     string // the folder that holds local:// files; "": none
	limits    download.Limits
}

func newDownloads(cfg config, bare http.RoundTripper) downloads {
	return downloads{
		transport: bare,
		storage:   cfg.storage,
		userAgent: cfg.UserAgent,
		policy:    storagePolicy(cfg),
		local:     cfg.local,
		limits: download.Limits{
			Open:        cmp.Or(cfg.AttemptTimeout, transport.DefaultAttemptTimeout),
			Stall:       cmp.Or(cfg.StallTimeout, transport.DefaultStallTimeout),
			Retries:     max(0, cmp.Or(cfg.MaxRetries, transport.DefaultMaxRetries)),
			FirstWait:   cmp.Or(cfg.RetryWaitMin, transport.DefaultMinRetryWait),
			LongestWait: cmp.Or(cfg.RetryWaitMax, transport.DefaultMaxRetryWait),
		},
	}
}

// file describes the file of a result. A result of which only the ID is known
// is read from the API first.
func (c *Client) file(
	ctx context.Context, operation string, result *Result, progress func(Progress), seen *transfer,
) (*download.File, *Result, error) {
	if err := c.check(); err != nil {
		return nil, nil, forOperation(operation, err)
	}
	if result == nil {
		return nil, nil, &ParamError{Operation: operation, Field: "result", Reason: "is required"}
	}
	own := *result // its signed URL may be renewed, and the caller may change it
	if own.Checksum == "" && own.ID != "" {
		latest, err := c.Results.Get(ctx, own.ID)
		if err != nil {
			return nil, nil, own.failed(0, err)
		}
		own = *latest
	}
	want, err := hex.DecodeString(own.Checksum)
	switch {
	case err != nil || len(want) != md5.Size:
		err = invalid("Checksum", "is not an MD5 in hex: the file could not be verified")
	case own.Size < 0:
		err = invalid("Size", "is negative: the file could not be verified")
	}
	var opener ObjectOpener
	var object ObjectRequest
	if err == nil {
		opener, object, err = c.locate(&own)
	}
	if err != nil {
		return nil, nil, own.failed(0, forOperation(operation, err))
	}
	shown := own
	return &download.File{
		Bucket: object.Bucket, Key: object.Key, Size: own.Size, MD5: want, Permanent: permanent,
		Fail: own.failed,
		Open: func(ctx context.Context, req download.Request) (*download.Object, error) {
			object, err := seen.open(ctx, opener, ObjectRequest(req))
			return (*download.Object)(object), err
		},
		Received: seen.received,
		Failed: func(offset int64, err error, again bool, wait time.Duration) {
			seen.interrupted(ctx, offset, err, again, wait)
		},
		Progress: func(done int64) { progress(Progress{Result: &shown, Done: done, Size: own.Size}) },
	}, &own, nil
}

// permanent reports whether another attempt to open an object would end the
// same.
func permanent(err error) bool {
	if e, ok := errors.AsType[*StorageError](err); ok {
		return !e.mayPass()
	}
	if _, ok := errors.AsType[*ParamError](err); ok {
		return true
	}
	// The API's own errors have had their retries.
	if _, ok := errors.AsType[*CallError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return true
	}
	return errors.Is(err, ErrNoStorage) || transport.Unreachable(err)
}

// Open opens the file of a result. It uses the opener for the scheme of the
// result's URL (see [WithStorage]), or else the signed URL, which it renews
// when storage no longer accepts it. A broken connection is resumed at the same
// byte. [WithRetries] bounds how many retries in a row may bring no new byte.
//
// The data is verified by its size and MD5 only once Read returns io.EOF. Until
// then, treat it as unverified. Every error of Open and of Read is a
// *DownloadError around ErrChecksum, ErrSize, ErrObjectChanged, ErrNotFound,
// ErrForbidden, ErrNoStorage, the error of a context that ended, or the error
// of the last attempt.
//
// ctx bounds all reads. Close the reader. It is not safe for concurrent use.
func (s *ResultsService) Open(
	ctx context.Context, result *Result, opts ...DownloadOption,
) (io.ReadCloser, error) {
	o, err := newDownloadOptions("Results.Open", opts, DownloadOption.applySave)
	if err != nil {
		return nil, err
	}
	return s.openWith(ctx, result, o.progress)
}

// open opens a result without options.
func (s *ResultsService) open(ctx context.Context, result *Result) (io.ReadCloser, error) {
	return s.openWith(ctx, result, func(Progress) {})
}

func (s *ResultsService) openWith(
	ctx context.Context, result *Result, progress func(Progress),
) (io.ReadCloser, error) {
	ctx, seen := clientFor(s).beginTransfer(ctx, "Results.Open", result)
	file, _, err := clientFor(s).file(ctx, "Results.Open", result, progress, seen)
	if err != nil {
		seen.end(false, false, err)
		return nil, err
	}
	reader := download.NewReader(ctx, clientFor(s).downloads.limits, file)
	if err := reader.Open(); err != nil {
		seen.end(false, false, err)
		return nil, err
	}
	file.Closed = func(verified bool, err error) { seen.end(verified, false, err) }
	return reader, nil
}

// Saved is a result whose file is saved and verified.
type Saved struct {
	Result       *Result
	Path         string
	MD5, SHA256  string // of the file, in hex
	Synced       bool   // the name is on disk; false where a file system cannot tell
	Acknowledged bool   // the API has acknowledged the result in this call
}

// Save reads the file of a result into the folder dir, which is created if need
// be. The file appears under its name only when its size and MD5 are right and
// its bytes are on disk.
//
// The name is FileName(result.DataType()), see [WithFileNames]. If a file of
// that name has the same content, it is left as it is and nothing is read from
// storage. A file with other content is never overwritten: the result then gets
// a name with "~" and a digest, so that results of one data type can share a
// folder.
//
// Until the file is complete, it is a hidden file whose name ends in ".part".
// When Save is interrupted, that file stays, and the next Save of the result
// resumes from it. [RemovePartials] removes such files. Goroutines and
// processes may save the same result at the same time: one of them reads it,
// and the others wait. On a file system without locks, each reads it.
//
// The bytes are verified as they are written. No other program may write to the
// hidden file meanwhile: Save notices only that its size has changed.
//
// Save returns the errors of Open, and wraps the errors of the file system in a
// *DownloadError.
func (s *ResultsService) Save(
	ctx context.Context, result *Result, dir string, opts ...SaveOption,
) (*Saved, error) {
	o, err := newDownloadOptions("Results.Save", opts, SaveOption.applySave)
	if err != nil {
		return nil, err
	}
	if result == nil {
		return nil, &ParamError{Operation: "Results.Save", Field: "result", Reason: "is required"}
	}
	saved := &savedFile{Saved: Saved{Result: result}}
	folder, err := openFolder("Results.Save", dir, "")
	if err != nil {
		if _, ok := errors.AsType[*ParamError](err); !ok {
			err = result.failed(0, err)
		}
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	if err := s.save(ctx, "Results.Save", folder, saved, o); err != nil {
		return nil, err
	}
	if saved.Synced, err = folder.Sync(saved.kept); err != nil {
		return nil, saved.fail(err)
	}
	saved.Path = filepath.Join(dir, filepath.FromSlash(saved.kept.Name))
	return &saved.Saved, nil
}

func openFolder(operation, dir, sub string) (*download.Folder, error) {
	if dir == "" {
		return nil, &ParamError{Operation: operation, Field: "dir", Reason: "is empty"}
	}
	folder, err := download.OpenFolder(dir, sub)
	if err != nil {
		return nil, fmt.Errorf("ricloud: %s: %w", operation, err)
	}
	return folder, nil
}

// save keeps the file of saved.Result in folder and fills in what is known of
// it.
func (s *ResultsService) save(
	ctx context.Context, operation string, folder *download.Folder, saved *savedFile,
	o downloadOptions,
) (err error) {
	ctx, seen := clientFor(s).beginTransfer(ctx, operation, saved.Result)
	defer func() { seen.end(err == nil, saved.kept.Found, err) }()
	file, own, err := clientFor(s).file(ctx, operation, saved.Result, o.progress, seen)
	if err != nil {
		return err
	}
	saved.own = *own
	saved.kept, err = folder.Save(ctx, o.name(new(*own)), clientFor(s).downloads.limits, file)
	if err != nil {
		return err
	}
	saved.MD5, saved.SHA256 = hex.EncodeToString(file.MD5), hex.EncodeToString(saved.kept.SHA256)
	return nil
}

// fail names the result in an error that came after it was saved.
func (s *Saved) fail(err error) error { return s.Result.failed(s.Result.Size, err) }

// FileName returns the name under which [ResultsService.Save] keeps a file. It
// is the identifier itself, if that is safe. In any other, each unsafe character
// is replaced by "_", and "~" and 20 digits of the identifier's SHA-256 are added
// before the extension:
//
//	callkit.calls     → callkit.calls
//	IMG_0001.JPG      → IMG_0001~c8ae06e33f1ec5d2151f.JPG
//	../../etc/passwd  → __.._etc_passwd~3754d6cb3a38e1185e5b
//
// An identifier is safe if it has at most 100 bytes, all of them lower-case
// letters, digits, ".", "_" or "-"; does not begin with "." or "-"; does not
// end with "."; and is not the name of a Windows device. No two identifiers
// share a name, even on a file system that ignores case. A name has at most 143
// bytes.
func FileName(identifier string) string { return download.FileName(identifier) }

// RemovePartials removes the partial files that interrupted Saves left in the
// folder dir, and returns their names. It keeps those that were written within
// the last age, and those that a Save is writing. A folder that is not there is an
// error.
func RemovePartials(ctx context.Context, dir string, age time.Duration) ([]string, error) {
	switch {
	case dir == "":
		return nil, &ParamError{Operation: "RemovePartials", Field: "dir", Reason: "is empty"}
	case age < 0:
		return nil, &ParamError{Operation: "RemovePartials", Field: "age", Reason: "must not be negative"}
	}
	removed, err := download.RemovePartials(ctx, dir, time.Now().Add(-age))
	if err != nil {
		return removed, fmt.Errorf("ricloud: RemovePartials: %w", err)
	}
	return removed, nil
}
