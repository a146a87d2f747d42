package ricloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/bag"
	"github.com/reincubate/ricloud-go/internal/download"
)

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
// If dir cannot be made or opened, or its manifest cannot be continued, SaveAll
// returns only that error and reads no result. If the folder is moved, or its
// names cannot be flushed to disk, each result that is affected has an error.
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

// savedFile is a Saved and what its folder knows of it.
type savedFile struct {
	Saved

	own   Result // what was saved, as it was then
	kept  download.Kept
	done  bool          // the name is settled
	poll  ID            // of the cascade that yielded the result; "": none did
	begun time.Time     // reading it
	ended time.Time     // verifying it
	ready chan struct{} // closed when the file is saved or cannot be; nil without a cascade
	err   error         // why it cannot be
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
	func() {
		//nolint:contextcheck // it tells of what is on disk, also after ctx has ended
		defer a.writeManifest()
		batch.Run(a.items(ctx, results))
	}()
	saved := make([]Saved, 0, len(a.saved))
	for _, item := range a.saved {
		if item.done {
			saved = append(saved, item.Saved)
		}
	}
	return saved, errors.Join(a.failures...)
}

func (a *saveAll) writeManifest() {
	if a.bag == nil {
		return
	}
	err := a.bag.Write()
	if err == nil {
		_, err = a.folder.Sync()
	}
	if err != nil {
		a.fail(fmt.Errorf("ricloud: %s: cannot write the manifest: %w", a.operation, err))
	}
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
			of, _ := clientFor(a.service).cascades.Load(result)
			if of, ok := of.(*cascade); ok {
				of.to.Store(a)
				item.poll, item.ready = of.poll.ID, make(chan struct{})
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
	a.note(items)
	switch {
	case a.options.shared != nil:
		for _, item := range items {
			if err := a.options.shared.Add(item.own.ID); err != nil {
				a.fail(item.fail(err))
			}
		}
	case a.options.acknowledge:
		a.acknowledge(ctx, items)
	}
}

// acknowledge acknowledges items, and says of each whether that succeeded.
func (a *saveAll) acknowledge(ctx context.Context, items []*savedFile) {
	ids := make([]ID, 0, len(items))
	for _, item := range items {
		ids = append(ids, item.own.ID)
	}
	err := a.service.AcknowledgeAll(ctx, ids)
	failed, ok := errors.AsType[*AcknowledgeError](err)
	var done []string
	for _, item := range items {
		if err != nil && (!ok || slices.Contains(failed.Remaining, item.own.ID)) {
			a.fail(item.fail(&unacknowledged{err}))
			continue
		}
		item.Acknowledged = true
		done = append(done, string(item.own.ID))
	}
	if a.bag == nil {
		return
	}
	if err := a.bag.Acknowledge(done...); err != nil {
		a.fail(fmt.Errorf("ricloud: %s: cannot write the log: %w", a.operation, err))
	}
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

// errNotSaved says that a SaveAll has reported why a file could not be saved.
var errNotSaved = errors.New("the file could not be saved")

// openSaved waits until a cascade's result is saved and opens its file. It
// returns errNotSaved if the result could not be saved.
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

// savedFiles returns the results of a poll's files that are saved, as the folder's
// notes tell. A file that is there and has the size is verified again when it is
// saved.
func (a *saveAll) savedFiles(poll ID) (found []*Result) {
	for _, note := range download.Notes[fileNote](a.folder, string(poll)) {
		if !a.folder.Holds(note.Name, note.Size) {
			continue
		}
		result := &Result{
			ID: note.Result, Poll: note.Poll, Task: note.Task, Identifier: note.Identifier,
			Type: note.Type, URL: note.URL, Checksum: note.Checksum, Size: note.Size,
			State: ResultAvailable, DateCreated: note.DateCreated,
		}
		found = append(found, result)
		a.mu.Lock()
		a.noted[result] = true
		a.mu.Unlock()
	}
	return found
}

// noteFilePoll notes that a poll asks, or is about to ask, for files of another
// one. Notes are written before the poll is created, and before it is waited for,
// so that a SaveAll after an interruption goes on with the same poll.
func (a *saveAll) noteFilePoll(poll ID, asked filePoll) { a.folder.Note(string(poll), asked) }

// filePolls returns what noteFilePoll noted, in that order.
func (a *saveAll) filePolls(poll ID) []filePoll {
	return slices.DeleteFunc(download.Notes[filePoll](a.folder, string(poll)),
		func(p filePoll) bool { return len(p.Files) == 0 }) // a fileNote has none
}

// note lets the next SaveAll of a poll find the files that are saved. Without a
// note, a file is only asked for again.
func (a *saveAll) note(items []*savedFile) {
	for _, item := range items {
		a.mu.Lock()
		noted := a.noted[item.Result]
		a.mu.Unlock()
		if r := item.own; item.poll != "" && r.Poll != item.poll && !noted {
			a.folder.Note(string(item.poll), fileNote{
				Name: item.kept.Name, Result: r.ID, Poll: r.Poll, Task: r.Task, Identifier: r.Identifier,
				Type: r.Type, URL: r.URL, Checksum: r.Checksum, Size: r.Size, DateCreated: r.DateCreated,
			})
		}
	}
}

// record writes what happened to saved files into the log, then the manifests.
func (a *saveAll) record(items []*savedFile) error {
	files := make([]bag.File, len(items))
	for i, item := range items {
		r := item.own
		files[i] = bag.File{
			Entry:  bag.Entry{Path: item.kept.Name, Size: r.Size, MD5: item.MD5, SHA256: item.SHA256},
			Result: string(r.ID), Published: r.DateCreated,
			Begun: item.begun, Verified: item.ended, Found: item.kept.Found,
			Fields: map[string]any{
				"identifier": r.Identifier, "type": r.Type, "url": cutQuery(r.URL), "size": r.Size,
				"md5": r.Checksum, "organisation": r.Organisation, "poll": r.Poll, "task": r.Task,
			},
		}
	}
	return a.bag.Record(files...)
}

// bagInfo is what bag-info.txt says of a poll.
func bagInfo(poll *Poll) []bag.Field {
	return []bag.Field{
		{Label: "Bag-Software-Agent", Value: userAgent},
		{Label: "External-Identifier", Value: string(poll.ID)},
		{Label: "Ricloud-Organisation", Value: string(poll.Organisation)},
		{Label: "Ricloud-User", Value: string(poll.User)},
		{Label: "Ricloud-Source", Value: string(poll.Source)},
		{Label: "Ricloud-Session", Value: string(poll.Session)},
		{Label: "Ricloud-Poll", Value: string(poll.ID)},
		{Label: "Ricloud-Poll-Created", Value: bag.Time(poll.DateCreated)},
		{Label: "Ricloud-Poll-Completed", Value: bag.Time(poll.DateCompleted)},
	}
}

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
	text, separator := fmt.Sprintf("ricloud: VerifyFolder: %s differs from its manifests", e.Dir), ": "
	for i, d := range e.Differences {
		if i == 10 {
			return fmt.Sprintf("%s; and %d more differences", text, len(e.Differences)-i)
		}
		text += separator + d.Path + ": " + d.Problem
		separator = "; "
	}
	return text
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
