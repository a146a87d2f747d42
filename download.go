package ricloud

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // the checksum that the API publishes
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/bag"
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
		e.Result, e.Identifier, e.Done, e.Size, strings.TrimPrefix(e.Err.Error(), "ricloud: "))
}

// Unwrap returns what went wrong.
func (e *DownloadError) Unwrap() error { return e.Err }

// Progress says how much of a file is done.
type Progress struct {
	Result     *Result
	Done, Size int64 // bytes
}

// DownloadOption changes how result files are read. It is for Open, Save and
// SaveAll.
type DownloadOption func(*downloadOptions)

// SaveOption changes how files are saved. It is for Save and SaveAll. Each
// [DownloadOption] is a SaveOption, too.
type SaveOption interface{ applySave(*downloadOptions) }

// SaveAllOption changes how many files are saved. It is for SaveAll and
// SaveAllTo. Each [DownloadOption] and each [SaveOption] of this package is a
// SaveAllOption, too.
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
	if result == nil {
		return nil, nil, &ParamError{Operation: operation, Field: "result", Reason: "is required"}
	}
	own := *result // its signed URL may be renewed
	fail := func(done int64, err error) error {
		return &DownloadError{
			Result: own.ID, Identifier: own.Identifier, Done: done, Size: own.Size, Err: err,
		}
	}
	if own.Checksum == "" && own.ID != "" {
		latest, err := c.Results.Get(ctx, own.ID)
		if err != nil {
			return nil, nil, fail(0, err)
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
		return nil, nil, fail(0, forOperation(operation, err))
	}
	return &download.File{
		Bucket: object.Bucket, Key: object.Key, Size: own.Size, MD5: want, Permanent: permanent,
		Fail: fail,
		Open: func(ctx context.Context, req download.Request) (*download.Object, error) {
			object, err := seen.open(ctx, opener, ObjectRequest(req))
			return (*download.Object)(object), err
		},
		Received: seen.received,
		Failed: func(offset int64, err error, again bool, wait time.Duration) {
			seen.interrupted(ctx, offset, err, again, wait)
		},
		Progress: func(done int64) { progress(Progress{Result: &own, Done: done, Size: own.Size}) },
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
	return errors.Is(err, ErrNoStorage)
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
	o, err := newDownloadOptions("Results.Open", opts, func(opt DownloadOption,
		to *downloadOptions,
	) {
		opt(to)
	})
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
	ctx, seen := s.client.beginTransfer(ctx, "Results.Open", result)
	file, _, err := s.client.file(ctx, "Results.Open", result, progress, seen)
	if err != nil {
		seen.end(false, false, err)
		return nil, err
	}
	reader := download.NewReader(ctx, s.client.downloads.limits, file)
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

// savedFile is a Saved and what its folder knows of it.
type savedFile struct {
	Saved

	kept  download.Kept
	done  bool          // the name is settled
	poll  ID            // of the cascade that yielded the result; "": none did
	begun time.Time     // reading it
	ended time.Time     // verifying it
	ready chan struct{} // closed when the file is saved or cannot be; nil without a cascade
	err   error         // why it cannot be
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
// Save returns the errors of Open, and wraps the errors of the file system in a
// *DownloadError.
func (s *ResultsService) Save(
	ctx context.Context, result *Result, dir string, opts ...SaveOption,
) (*Saved, error) {
	o, err := newDownloadOptions("Results.Save", opts, SaveOption.applySave)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder("Results.Save", dir, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	saved := &savedFile{Saved: Saved{Result: result}}
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
	ctx, seen := s.client.beginTransfer(ctx, operation, saved.Result)
	defer func() { seen.end(err == nil, saved.kept.Found, err) }()
	file, own, err := s.client.file(ctx, operation, saved.Result, o.progress, seen)
	if err != nil {
		return err
	}
	saved.kept, err = folder.Save(ctx, o.name(own), s.client.downloads.limits, file)
	if err != nil {
		return err
	}
	saved.MD5, saved.SHA256 = hex.EncodeToString(saved.kept.MD5), hex.EncodeToString(saved.kept.SHA256)
	return nil
}

// fail names the result in an error that came after it was saved.
func (s *Saved) fail(err error) error {
	return &DownloadError{
		Result: s.Result.ID, Identifier: s.Result.Identifier, Done: s.Result.Size,
		Size: s.Result.Size, Err: err,
	}
}

// settleBatch bounds what is read again should the process die: files that are
// on disk but not acknowledged are found there the next time.
const settleBatch = 100

// SaveAll saves every result of an iterator, several at once, as Save does.
// Pass it the iterator of Polls.Results:
//
//	results := client.Polls.Results(ctx, poll.ID)
//	saved, err := client.Results.SaveAll(ctx, results, dir, ricloud.WithAcknowledge())
//
// A failure does not stop the others. SaveAll returns what was saved, in the
// order of the iterator, and all failures joined: the errors of the iterator,
// and a *DownloadError for each result that could not be saved or acknowledged.
// Once ctx ends, SaveAll begins no more results. When it returns, all its
// goroutines have ended.
func (s *ResultsService) SaveAll(
	ctx context.Context, results iter.Seq2[*Result, error], dir string, opts ...SaveAllOption,
) ([]Saved, error) {
	const operation = "Results.SaveAll"
	o, err := newDownloadOptions(operation, opts, SaveAllOption.applySaveAll)
	if err != nil {
		return nil, err
	}
	if results == nil {
		return nil, &ParamError{Operation: operation, Field: "results", Reason: "is nil"}
	}
	sub := ""
	if o.manifest != nil {
		sub = bag.Payload
	}
	folder, err := openFolder(operation, dir, sub)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	all := newSaveAll(operation, s, o)
	all.folder = folder
	if o.manifest != nil {
		all.bag, err = bag.Open(ctx, folder.Root(), bagInfo(o.manifest), time.Now)
		if err != nil {
			return nil, fmt.Errorf("ricloud: %s: the manifest of %s: %w", operation, dir, err)
		}
		defer func() { _ = all.bag.Close() }()
	}
	all.keep = func(ctx context.Context, item *savedFile) error {
		err := s.save(ctx, operation, folder, item, all.options)
		item.Path = filepath.Join(dir, filepath.FromSlash(item.kept.Name))
		return err
	}
	return all.run(ctx, results)
}

// A Sink stores result files elsewhere than in a folder, such as in a bucket of
// your own. The module storage/s3 has one. It must be safe for concurrent use.
type Sink interface {
	// Store stores a file and returns its location. It must not make the file
	// visible before file.Body has returned io.EOF, which means that size and
	// MD5 are right. It must not overwrite a file that has other content. If it
	// has the file already, it returns without reading Body.
	Store(ctx context.Context, file SinkFile) (StoredFile, error)
}

// SinkFile is a file for a [Sink].
type SinkFile struct {
	Result *Result   // its Checksum and Size are those of the file
	Name   string    // safe as a file name; not unique, see FileName
	Body   io.Reader // nothing is read from storage before the first Read
}

// StoredFile says where a [Sink] has stored a file.
type StoredFile struct {
	Location string // such as a URL
	SHA256   string // in hex, of a file that the sink had already; may be empty
}

// SaveAllTo is SaveAll with a [Sink] in place of a folder. A result is
// acknowledged only after the sink has stored its verified file. [WithManifest]
// does not apply and is refused.
func (s *ResultsService) SaveAllTo(
	ctx context.Context, results iter.Seq2[*Result, error], sink Sink, opts ...SaveAllOption,
) ([]Saved, error) {
	const operation = "Results.SaveAllTo"
	o, err := newDownloadOptions(operation, opts, SaveAllOption.applySaveAll)
	switch {
	case err != nil:
		return nil, err
	case results == nil:
		return nil, &ParamError{Operation: operation, Field: "results", Reason: "is nil"}
	case isNil(sink):
		return nil, &ParamError{Operation: operation, Field: "sink", Reason: "is nil"}
	case o.manifest != nil:
		return nil, &ParamError{
			Operation: operation, Field: "WithManifest", Reason: "does not apply to a Sink",
		}
	}
	all := newSaveAll(operation, s, o)
	all.keep = func(ctx context.Context, item *savedFile) error {
		return s.store(ctx, operation, sink, item, all.options)
	}
	return all.run(ctx, results)
}

// store keeps the file of item.Result in a sink and fills in what is known of
// it.
func (s *ResultsService) store(
	ctx context.Context, operation string, sink Sink, item *savedFile, o downloadOptions,
) (err error) {
	ctx, seen := s.client.beginTransfer(ctx, operation, item.Result)
	body := sinkBody{}
	defer func() { seen.end(err == nil, err == nil && !body.begun, err) }()
	file, own, err := s.client.file(ctx, operation, item.Result, o.progress, seen)
	if err != nil {
		return err
	}
	file.SHA256 = true
	body.Reader = download.NewReader(ctx, s.client.downloads.limits, file)
	defer func() { _ = body.Close() }()
	stored, err := sink.Store(ctx, SinkFile{Result: own, Name: FileName(o.name(own)), Body: &body})
	if err == nil && body.begun && !body.Verified() {
		err = errors.New("the sink did not read the file to its end")
	}
	if err != nil {
		if _, ok := errors.AsType[*DownloadError](err); !ok {
			err = file.Fail(body.Done(), err)
		}
		return err
	}
	item.Path, item.MD5, item.SHA256, item.kept.Found = stored.Location,
		strings.ToLower(own.Checksum), stored.SHA256, !body.begun
	if body.begun {
		_, sha := body.Sums()
		item.SHA256 = hex.EncodeToString(sha)
	}
	return nil
}

// sinkBody knows whether it was read.
type sinkBody struct {
	*download.Reader

	begun bool
}

func (b *sinkBody) Read(p []byte) (int, error) {
	b.begun = true
	return b.Reader.Read(p)
}

func (b *sinkBody) WriteTo(w io.Writer) (int64, error) {
	b.begun = true
	return b.Reader.WriteTo(w)
}

// saveAll is one SaveAll or SaveAllTo.
type saveAll struct {
	operation string
	service   *ResultsService
	options   downloadOptions
	keep      func(context.Context, *savedFile) error
	folder    *download.Folder // nil: a sink
	bag       *bag.Bag         // nil: no manifest

	mu       sync.Mutex
	saved    []*savedFile
	cascaded map[*Result]*savedFile // those that a cascade yielded
	noted    map[*Result]bool       // those that the folder's notes brought
	failures []error
}

func newSaveAll(operation string, s *ResultsService, o downloadOptions) *saveAll {
	a := &saveAll{
		operation: operation, service: s, options: o, cascaded: map[*Result]*savedFile{},
		noted: map[*Result]bool{},
	}
	var reporting sync.Mutex
	a.options.progress = func(p Progress) {
		reporting.Lock()
		defer reporting.Unlock()
		o.progress(p)
	}
	return a
}

func (a *saveAll) run(ctx context.Context, results iter.Seq2[*Result, error]) ([]Saved, error) {
	batch := download.Batch[*savedFile]{
		Parallel: a.options.parallel, Size: settleBatch,
		Work:   func(item *savedFile) bool { return a.save(ctx, item) },
		Settle: func(items []*savedFile) { a.settle(ctx, items) },
	}
	batch.Run(a.items(ctx, results))
	if a.bag != nil {
		//nolint:contextcheck // the manifest tells of what is on disk, also after ctx has ended
		if err := a.bag.Write(); err != nil {
			a.fail(fmt.Errorf("ricloud: %s: cannot write the manifest: %w", a.operation, err))
		}
	}
	saved := make([]Saved, 0, len(a.saved))
	for _, item := range a.saved {
		if item.done {
			saved = append(saved, item.Saved)
		}
	}
	return saved, errors.Join(a.failures...)
}

func (a *saveAll) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures = append(a.failures, err)
}

// items iterates over the results that are to be saved.
func (a *saveAll) items(
	ctx context.Context, results iter.Seq2[*Result, error],
) iter.Seq[*savedFile] {
	return func(yield func(*savedFile) bool) {
		for result, err := range results {
			if err != nil {
				a.fail(err)
				continue
			}
			if ctx.Err() != nil {
				a.fail(&CallError{Operation: a.operation, Err: backoff.Cause(ctx)})
				return
			}
			item := &savedFile{Saved: Saved{Result: result}}
			if item.poll = a.service.client.cascades.attach(result, a); item.poll != "" {
				item.ready = make(chan struct{})
				a.mu.Lock()
				a.cascaded[result] = item
				a.mu.Unlock()
			}
			a.saved = append(a.saved, item)
			if !yield(item) {
				return
			}
		}
	}
}

func (a *saveAll) save(ctx context.Context, item *savedFile) bool {
	if item.ready != nil {
		defer close(item.ready)
	}
	begun := time.Now()
	item.err = a.keep(ctx, item)
	item.begun, item.ended = begun, time.Now()
	if item.err != nil {
		a.fail(item.err)
	}
	return item.err == nil
}

// errNotSaved says that a SaveAll has reported why a file could not be saved.
var errNotSaved = errors.New("the file could not be saved")

// openSaved implements saver.
func (a *saveAll) openSaved(ctx context.Context, result *Result) (io.ReadCloser, error) {
	a.mu.Lock()
	item := a.cascaded[result]
	a.mu.Unlock()
	if item == nil || a.folder == nil { // the caller kept it from SaveAll, or a sink has it
		return a.service.open(ctx, result)
	}
	select {
	case <-item.ready:
	case <-ctx.Done():
		return nil, backoff.Cause(ctx)
	}
	if item.err != nil {
		return nil, errNotSaved
	}
	return a.folder.Open(item.kept.Name)
}

// savedFiles implements saver. The folder's notes say which results the files of
// a poll were. A file that is there and has the size is verified again when it is
// saved.
func (a *saveAll) savedFiles(poll ID, ids []ID) []*Result {
	wanted := make(map[ID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	if a.folder == nil {
		return nil
	}
	var found []*Result
	for _, line := range a.folder.Notes(string(poll)) {
		var note fileNote
		if json.Unmarshal(line, &note) != nil {
			continue // a line that was cut off
		}
		result := &Result{
			ID: note.Result, Poll: note.Poll, Task: note.Task, Identifier: note.Identifier,
			Type: note.Type, URL: note.URL,
			Checksum: note.Checksum, Size: note.Size, State: ResultAvailable, DateCreated: note.DateCreated,
		}
		id := ID(result.DataType())
		if wanted[id] && a.folder.Holds(note.Name, note.Size) {
			wanted[id] = false
			found = append(found, result)
			a.mu.Lock()
			a.noted[result] = true
			a.mu.Unlock()
		}
	}
	return found
}

// fileNote is what a folder notes of a file that a cascade brought.
type fileNote struct {
	Name        string    `json:"name"`
	Result      ID        `json:"result"`
	Poll        ID        `json:"poll,omitempty"`
	Task        ID        `json:"task,omitempty"`
	Identifier  string    `json:"identifier"`
	Type        string    `json:"type,omitempty"`
	URL         string    `json:"url"`
	Checksum    string    `json:"checksum"`
	Size        int64     `json:"size"`
	DateCreated time.Time `json:"date_created,omitzero"`
}

// note lets the next SaveAll of a poll find the files that are saved. Without a
// note, a file is only asked for again.
func (a *saveAll) note(items []*savedFile) {
	for _, item := range items {
		a.mu.Lock()
		noted := a.noted[item.Result]
		a.mu.Unlock()
		if r := item.Result; item.poll != "" && r.Poll != item.poll && !noted {
			line, err := json.Marshal(fileNote{
				Name: item.kept.Name, Result: r.ID, Poll: r.Poll, Task: r.Task, Identifier: r.Identifier,
				Type: r.Type, URL: r.URL,
				Checksum: r.Checksum, Size: r.Size, DateCreated: r.DateCreated,
			})
			if err == nil {
				a.folder.Note(string(item.poll), line)
			}
		}
	}
}

// settle puts the names of saved files on disk, writes what happened to them,
// then acknowledges them.
func (a *saveAll) settle(ctx context.Context, items []*savedFile) {
	synced, err := true, error(nil)
	if a.folder != nil {
		kept := make([]download.Kept, len(items))
		for i, item := range items {
			kept[i] = item.kept
		}
		synced, err = a.folder.Sync(kept...)
	}
	if err == nil && a.bag != nil {
		//nolint:contextcheck // what is on disk is recorded, also after ctx has ended
		if err = a.record(items); err != nil {
			err = fmt.Errorf("cannot write the manifest: %w", err)
		}
	}
	if err != nil {
		for _, item := range items {
			a.fail(item.fail(err))
		}
		return
	}
	for _, item := range items {
		item.done, item.Synced = true, synced
	}
	if a.folder != nil {
		a.note(items)
	}
	switch {
	case a.options.shared != nil:
		for _, item := range items {
			if err := a.options.shared.Add(item.Result.ID); err != nil {
				a.fail(item.fail(err))
			}
		}
	case a.options.acknowledge:
		a.acknowledge(ctx, items)
	}
}

// record writes the steps of saved files into the log, then the manifests.
func (a *saveAll) record(items []*savedFile) error {
	var lines []bag.Line
	for _, item := range items {
		r := item.Result
		entry := bag.Entry{Path: item.kept.Name, Size: r.Size, MD5: item.MD5, SHA256: item.SHA256}
		if a.bag.Has(string(r.ID), "verified") && a.bag.Holds(entry) {
			continue // an earlier SaveAll has written it
		}
		fetched := "fetched"
		if item.kept.Found {
			fetched = "found"
		}
		published := map[string]any{
			"identifier": r.Identifier, "type": r.Type, "url": cutQuery(r.URL), "size": r.Size,
			"md5":          r.Checksum,
			"organisation": r.Organisation, "poll": r.Poll, "task": r.Task,
		}
		lines = append(lines,
			bag.Line{Time: r.DateCreated, Step: "published", Result: string(r.ID), Fields: published},
			bag.Line{Time: item.begun, Step: fetched, Result: string(r.ID)},
			bag.Line{Time: item.ended, Step: "verified", Result: string(r.ID), Entry: &entry})
	}
	if err := a.bag.Log(lines...); err != nil {
		return err
	}
	return a.bag.Write()
}

// recordAcknowledged writes which results the API has acknowledged.
func (a *saveAll) recordAcknowledged(items []*savedFile) {
	if a.bag == nil {
		return
	}
	var lines []bag.Line
	for _, item := range items {
		if item.Acknowledged && !a.bag.Has(string(item.Result.ID), "acknowledged") {
			lines = append(lines, bag.Line{
				Time: time.Now(), Step: "acknowledged",
				Result: string(item.Result.ID),
			})
		}
	}
	if err := a.bag.Log(lines...); err != nil {
		a.fail(fmt.Errorf("ricloud: %s: cannot write the log: %w", a.operation, err))
	}
}

// bagInfo is what bag-info.txt says of a poll.
func bagInfo(poll *Poll) []bag.Field {
	date := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	return []bag.Field{
		{Label: "Bag-Software-Agent", Value: userAgent},
		{Label: "External-Identifier", Value: string(poll.ID)},
		{Label: "Ricloud-Organisation", Value: string(poll.Organisation)},
		{Label: "Ricloud-User", Value: string(poll.User)},
		{Label: "Ricloud-Source", Value: string(poll.Source)},
		{Label: "Ricloud-Session", Value: string(poll.Session)},
		{Label: "Ricloud-Poll", Value: string(poll.ID)},
		{Label: "Ricloud-Poll-Created", Value: date(poll.DateCreated)},
		{Label: "Ricloud-Poll-Completed", Value: date(poll.DateCompleted)},
	}
}

// acknowledge acknowledges items, and says of each whether that succeeded.
func (a *saveAll) acknowledge(ctx context.Context, items []*savedFile) {
	ids := make([]ID, 0, len(items))
	for _, item := range items {
		ids = append(ids, item.Result.ID)
	}
	err := a.service.AcknowledgeAll(ctx, ids)
	remaining := map[ID]bool{}
	if failed, ok := errors.AsType[*AcknowledgeError](err); ok {
		for _, id := range failed.Remaining {
			remaining[id] = true
		}
	}
	for _, item := range items {
		if err != nil && (remaining[item.Result.ID] || len(remaining) == 0) {
			a.fail(item.fail(&unacknowledged{err}))
			continue
		}
		item.Acknowledged = true
	}
	a.recordAcknowledged(items)
}

// unacknowledged is the failure of one result's acknowledgement. The error
// behind it lists all results that remain, its text only the reason.
type unacknowledged struct{ err error }

func (e *unacknowledged) Error() string {
	reason := e.err
	if failed, ok := errors.AsType[*AcknowledgeError](reason); ok {
		reason = failed.Err
	}
	return "the file is saved and verified, but the result is not acknowledged: " +
		strings.TrimPrefix(reason.Error(), "ricloud: ")
}

func (e *unacknowledged) Unwrap() error { return e.err }

// FolderDifference is a difference between a folder and its manifests or log.
type FolderDifference struct {
	Path    string // in the folder
	Problem string
}

// FolderError reports what differs in a folder that [VerifyFolder] has read.
type FolderError struct {
	Dir         string
	Differences []FolderDifference
}

// Error names the first differences.
func (e *FolderError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: VerifyFolder: %d differences in %s", len(e.Differences), e.Dir)
	for i, d := range e.Differences {
		if i == 10 {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; %s: %s", d.Path, d.Problem)
	}
	return b.String()
}

// VerifyFolder reads a folder that SaveAll wrote with [WithManifest], hashes
// all of its files again, and compares them with the manifests and the log. It
// returns nil if nothing has changed, a *FolderError that lists each
// difference, or the error that stopped it from reading.
func VerifyFolder(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("ricloud: VerifyFolder: %w", err)
	}
	defer func() { _ = root.Close() }()
	found, err := bag.Verify(ctx, root)
	if err != nil {
		return fmt.Errorf("ricloud: VerifyFolder: %s: %w", dir, err)
	}
	if len(found) == 0 {
		return nil
	}
	failed := &FolderError{Dir: dir}
	for _, d := range found {
		failed.Differences = append(failed.Differences, FolderDifference(d))
	}
	return failed
}

// FileName returns the name under which [ResultsService.Save] keeps a file. It
// is the identifier itself, if that is safe. In any other, each unsafe character
// is replaced by "_", and "~" and 20 digits of the identifier's SHA-256 are added
// before the extension:
//
//	callkit.calls     → callkit.calls
//	IMG_0001.JPG      → IMG_0001~b6f5f1f5d4b4f28b5e0f.JPG
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
// the last age, and those that a Save is writing.
func RemovePartials(ctx context.Context, dir string, age time.Duration) ([]string, error) {
	removed, err := download.RemovePartials(ctx, dir, time.Now().Add(-age))
	if err != nil {
		return removed, fmt.Errorf("ricloud: RemovePartials: %w", err)
	}
	return removed, nil
}
