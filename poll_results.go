package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/reincubate/ricloud-go/internal/wire"
)

// Results iterates over a poll's results as they are published, while the poll
// still runs. It yields each result once, whatever its state. It ends when the
// poll has ended and every result was yielded. If tasks did not succeed, it
// yields the poll's *StateError last. Any other error ends it at once.
// [WithFiles] adds the files that the results refer to.
//
// GET /polls/{id}
func (s *PollsService) Results(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Result, error] {
	if newCallOptions(opts).files {
		return s.cascade(ctx, id, slices.Concat(opts, []CallOption{withoutFiles}))
	}
	return func(yield func(*Result, error) bool) {
		var seen published
		listed := listedResults{client: s.client, opts: opts, seen: &seen}
		byTask := taskResults{client: s.client, opts: opts, asked: map[ID]bool{}}
		for poll, end := range s.client.waits.polls.watch(ctx, "Polls.Results", id, nil, opts) {
			var results iter.Seq2[*Result, error]
			switch {
			case poll == nil:
				results = noResults
			case poll.Results.Data == nil: // a generation whose polls show no results
				results = byTask.read(ctx, poll)
			default:
				results = listed.read(ctx, poll)
			}
			seen.look()
			for result, err := range results {
				if err != nil {
					yield(nil, renamed("Polls.Results", err))
					return
				}
				if !seen.add(result) {
					continue
				}
				if !yield(result, nil) {
					return
				}
			}
			if end != nil {
				yield(nil, end)
				return
			}
		}
	}
}

func noResults(func(*Result, error) bool) {}

// published knows which results were yielded. Results without an ID are told
// apart by what they say of themselves, and equal ones by how many of them one
// look at the list shows. The zero value is ready for use.
type published struct {
	seen  map[string]int // how many were yielded
	shown map[string]int // how many the present look has shown
}

// look begins to read the list again from its beginning.
func (p *published) look() { clear(p.shown) }

// add notes a result and reports whether it is new.
func (p *published) add(r *Result) bool {
	if p.seen == nil {
		p.seen, p.shown = map[string]int{}, map[string]int{}
	}
	key := resultKey(r)
	if r.ID == "" {
		p.shown[key]++
		if p.shown[key] <= p.seen[key] {
			return false
		}
	} else if p.seen[key] > 0 {
		return false
	}
	p.seen[key]++
	return true
}

// has reports whether such a result was yielded.
func (p *published) has(r *Result) bool { return p.seen[resultKey(r)] > 0 }

// resultKey returns what stays the same of a result, however often it is read.
func resultKey(r *Result) string {
	if r.ID != "" {
		return string(r.ID)
	}
	return fmt.Sprintf("without an ID: %q", []string{
		string(r.Task), r.Identifier, r.Type, r.URL, r.Checksum, strconv.FormatInt(r.Size, 10),
	})
}

// listedResults reads the results that a poll lists. It may yield a result
// again.
type listedResults struct {
	client *Client
	opts   []CallOption
	seen   *published // by Results; only read here
	tail   ID         // the last result of the last page that was read
}

func (l *listedResults) read(ctx context.Context, poll *Poll) iter.Seq2[*Result, error] {
	list := &poll.Results
	if list.HasMore && poll.State.Ended() { // the last chance: read all pages again
		return list.All(ctx, l.client, l.opts...)
	}
	return func(yield func(*Result, error) bool) {
		fresh := l.countNew(list.Data)
		if !yieldAll(list.Data, yield) || !list.HasMore || list.URL == "" {
			return
		}
		// It is not known whether the list begins with the newest result. New ones
		// are at its beginning if the poll itself shows some, or else at its end.
		after := ID("")
		if fresh == 0 {
			after = l.tail
		}
		if after == "" { // the pages show what the poll itself has shown
			l.seen.look()
		}
		for page, err := range l.pages(ctx, list, after) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yieldAll(page, yield) {
				return
			}
		}
	}
}

// yieldAll yields results until the consumer has had enough, and reports
// whether it wants more.
func yieldAll(results []Result, yield func(*Result, error) bool) (more bool) {
	for i := range results {
		if !yield(&results[i], nil) {
			return false
		}
	}
	return true
}

// pages reads the pages of list behind a result, until one shows the results
// that an earlier read ended with.
func (l *listedResults) pages(
	ctx context.Context, list *List[Result], after ID,
) iter.Seq2[[]Result, error] {
	return func(yield func([]Result, error) bool) {
		known := 0 // results that were read before
		for {
			r := list.behind(after)
			r.query = url.Values{"limit": {strconv.Itoa(maxLimit)}}
			page, err := do[List[Result]](ctx, l.client, r, l.opts)
			if err != nil {
				yield(nil, err)
				return
			}
			fresh := l.countNew(page.Data)
			known += len(page.Data) - fresh
			if !yield(page.Data, nil) || len(page.Data) == 0 {
				return
			}
			after = page.Data[len(page.Data)-1].ID
			l.tail = after
			// The poll itself shows len(list.Data) of them, which come again. What has
			// no ID is nothing to go on from.
			if !page.HasMore || fresh == 0 || known > len(list.Data) || after == "" {
				return
			}
		}
	}
}

// countNew counts the results that were not yielded before.
func (l *listedResults) countNew(results []Result) (n int) {
	for i := range results {
		if !l.seen.has(&results[i]) {
			n++
		}
	}
	return n
}

// taskResults reads the results of a poll's tasks, one task after the other.
type taskResults struct {
	client *Client
	opts   []CallOption
	asked  map[ID]bool // tasks
}

func (t *taskResults) read(ctx context.Context, poll *Poll) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		for _, task := range poll.TasksSucceeded {
			if t.asked[task] {
				continue
			}
			t.asked[task] = true
			params := ResultListParams{Task: task}
			for result, err := range t.client.Results.All(ctx, params, t.opts...) {
				if !yield(result, err) || err != nil {
					return
				}
			}
		}
	}
}

// filesPerPoll is how many files one poll asks for.
const filesPerPoll = 100

// WithFiles makes Polls.Results also yield the files that the poll's records
// refer to. When the poll has ended, it reads the data results, collects their
// [FileRefs], and asks for the files with Polls.Files. Only Polls.Results
// accepts it.
//
// Within a SaveAll, each object is read from storage once. A later SaveAll of
// the same poll into the same folder makes no poll for files that are already
// there, and goes on with the polls for files that an earlier one made. If the
// answer to a creation was lost, it first looks for the poll in the session.
func WithFiles() CallOption { return func(o *callOptions) { o.files = true } }

// withoutFiles takes WithFiles back, for the polls that follow.
func withoutFiles(o *callOptions) { o.files = false }

// FileRefs returns the IDs of the files that a record refers to, for
// Polls.Files. An object is a file if it is in the record's "file", "files" or
// "attachments", has a "file_id", or says in its "data_type" that it is a file.
// The record itself can be such an object. The ID is the "file_id", or else the
// "id". Digital Touch messages are left out: they are attachments without a
// file. A record that is not JSON refers to no file.
func FileRefs(record json.RawMessage) []ID {
	var ids []ID
	for _, id := range wire.FileRefs(record) {
		ids = append(ids, ID(id))
	}
	return ids
}

// Files asks for the files that a poll's records refer to (see [FileRefs]), and
// iterates over their results as they are published. It creates a poll for
// every 100 IDs, on the session and source of the given poll, because the IDs
// are valid only there. It asks for each ID once. If files of a poll fail, the
// poll's *StateError is yielded and the next poll follows. Any other error ends
// the iteration.
//
// POST /polls, GET /polls/{id}
func (s *PollsService) Files(
	ctx context.Context, poll *Poll, ids []ID, opts ...CallOption,
) iter.Seq2[*Result, error] {
	return s.files(ctx, poll, ids, func(filePoll) {}, opts)
}

// files is Files. It calls note before it creates a poll, without the poll's ID,
// and again with it.
func (s *PollsService) files(
	ctx context.Context, poll *Poll, ids []ID, note func(filePoll), opts []CallOption,
) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		if poll == nil {
			yield(nil, &ParamError{Operation: "Polls.Files", Field: "poll", Reason: "is required"})
			return
		}
		opts := slices.Concat(opts, []CallOption{withoutFiles, forManyCalls})
		params := PollCreateParams{Session: poll.Session, Source: poll.Source}
		if poll.Subscription != "" {
			params = PollCreateParams{Subscription: poll.Subscription}
		}
		if poll.Type != "" { // an API that wants to be told
			params.Type = "files"
		}
		var unique idSet
		unique.add(ids...)
		for chunk := range slices.Chunk(unique.all, filesPerPoll) {
			params.Payload.Files = chunk
			note(filePoll{Files: chunk})
			files, err := s.Create(ctx, params, opts...)
			if err != nil {
				yield(nil, err)
				return
			}
			note(filePoll{files.ID, chunk})
			for result, err := range s.Results(ctx, files.ID, opts...) {
				if !yield(result, err) {
					return
				}
				if _, ok := errors.AsType[*StateError](err); err != nil && !ok {
					return
				}
			}
		}
	}
}

// cascade is one iteration over a poll's results and the files that they refer
// to. A SaveAll that takes its results attaches itself: the cascade then reads
// the saved files, not the objects in storage again, and learns which files are
// saved already.
type cascade struct {
	service *PollsService
	poll    *Poll
	to      saver // nil while nobody saves; see cascades
}

// saver is what a cascade needs of a SaveAll.
type saver interface {
	// openSaved waits until a result is saved and opens its file. It returns
	// errNotSaved if the result could not be saved.
	openSaved(ctx context.Context, result *Result) (io.ReadCloser, error)
	// savedFiles returns the results of those files of a poll that are saved.
	savedFiles(poll ID, ids []ID) []*Result
	// noteFilePoll notes that a poll asks, or is about to ask, for files of
	// another one.
	noteFilePoll(poll ID, asked filePoll)
	// filePolls returns what was noted, in that order.
	filePolls(poll ID) []filePoll
}

// filePoll is a poll that asks for files. Without an ID it is one that was about
// to be created, and may have been.
type filePoll struct {
	ID    ID   `json:"asked,omitempty"`
	Files []ID `json:"files"`
}

func (s *PollsService) cascade(
	ctx context.Context, id ID, opts []CallOption,
) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		poll, err := s.Get(ctx, id, opts...)
		if err != nil {
			yield(nil, renamed("Polls.Results", err))
			return
		}
		c := &cascade{service: s, poll: poll}
		defer s.client.cascades.forget(c)
		c.run(ctx, opts, yield)
	}
}

func (c *cascade) run(ctx context.Context, opts []CallOption, yield func(*Result, error) bool) {
	cascades := c.service.client.cascades
	give := func(result *Result, err error) bool {
		if result != nil {
			cascades.add(c, result)
		}
		return yield(result, err)
	}
	var refs idSet
	var saving []*Result // data results whose files a SaveAll has
	var ended error      // that tasks did not succeed is said at the end
	for result, err := range c.service.Results(ctx, c.poll.ID, opts...) {
		if err != nil {
			ended = err
			break
		}
		if !give(result, nil) {
			return
		}
		switch {
		case !c.mayHoldRecords(result):
		case cascades.saver(c) != nil:
			saving = append(saving, result)
		default:
			ids, err := c.read(ctx, result, c.service.client.Results.open)
			refs.add(ids...)
			if err != nil && !give(nil, err) {
				return
			}
		}
	}
	for _, result := range saving {
		ids, err := c.read(ctx, result, cascades.saver(c).openSaved)
		refs.add(ids...)
		if err != nil && !give(nil, err) {
			return
		}
	}
	if _, ok := errors.AsType[*StateError](ended); ended == nil || ok {
		for file, err := range c.files(ctx, refs.all, opts) {
			if !give(file, err) {
				return
			}
		}
	}
	if ended != nil {
		give(nil, ended)
	}
}

// files iterates over the results of files: those that are saved already, those
// that an earlier SaveAll has asked for, then those that have to be asked for.
func (c *cascade) files(
	ctx context.Context, ids []ID, opts []CallOption,
) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		saver := c.service.client.cascades.saver(c)
		if saver == nil {
			c.service.Files(ctx, c.poll, ids, opts...)(yield)
			return
		}
		missing := make(map[ID]bool, len(ids))
		for _, id := range ids {
			missing[id] = true
		}
		for _, result := range saver.savedFiles(c.poll.ID, ids) {
			delete(missing, ID(result.DataType()))
			if !yield(result, nil) {
				return
			}
		}
		asked := saver.filePolls(c.poll.ID)
		for _, known := range asked {
			if known.ID != "" && !c.continueFiles(ctx, known, missing, opts, yield) {
				return
			}
		}
		note := func(p filePoll) { saver.noteFilePoll(c.poll.ID, p) }
		if !c.findLost(ctx, asked, missing, note, opts, yield) {
			return
		}
		rest := slices.DeleteFunc(slices.Clone(ids), func(id ID) bool { return !missing[id] })
		c.service.files(ctx, c.poll, rest, note, opts)(yield)
	}
}

// findLost looks for the polls whose creation was noted, but not their IDs: the
// answer was lost, or the process ended. A poll does not say which files it asks
// for. So each poll of the session that came after the data's and is not known is
// waited for, and what it offers of the missing files is taken.
func (c *cascade) findLost(
	ctx context.Context, asked []filePoll, missing map[ID]bool, note func(filePoll),
	opts []CallOption, yield func(*Result, error) bool,
) bool {
	known, lost := map[ID]bool{c.poll.ID: true}, []ID(nil)
	for _, a := range asked {
		known[a.ID] = true
		answered := slices.ContainsFunc(asked, func(b filePoll) bool {
			return b.ID != "" && slices.Equal(a.Files, b.Files)
		})
		for _, id := range a.Files {
			if !answered && missing[id] && !slices.Contains(lost, id) {
				lost = append(lost, id)
			}
		}
	}
	if len(lost) == 0 {
		return true
	}
	params := PollListParams{Session: c.poll.Session}
	if c.poll.Subscription != "" {
		params = PollListParams{Subscription: c.poll.Subscription}
	}
	for poll, err := range c.service.All(ctx, params, opts...) {
		switch {
		case err != nil:
			yield(nil, renamed("Polls.Files", err))
			return false
		case known[poll.ID] || poll.DateCreated.Before(c.poll.DateCreated) ||
			poll.Source != c.poll.Source || poll.Subscription != c.poll.Subscription:
			continue
		}
		before := len(missing)
		if !c.takeFiles(ctx, poll.ID, missing, true, opts, yield) {
			return false
		}
		if len(missing) < before {
			note(filePoll{poll.ID, lost})
		}
	}
	return true
}

// continueFiles yields the missing files that a poll of an earlier SaveAll asks
// for, and removes them from missing. A poll that still runs is waited for. What
// a poll that has ended does not offer stays missing. It returns false when the
// iteration has to end.
func (c *cascade) continueFiles(
	ctx context.Context, asked filePoll, missing map[ID]bool, opts []CallOption,
	yield func(*Result, error) bool,
) bool {
	if !slices.ContainsFunc(asked.Files, func(id ID) bool { return missing[id] }) {
		return true
	}
	poll, err := c.service.Get(ctx, asked.ID, opts...)
	if errors.Is(err, ErrNotFound) {
		return true
	}
	if err != nil {
		yield(nil, renamed("Polls.Files", err))
		return false
	}
	ended := poll.State.Ended()
	if !c.takeFiles(ctx, asked.ID, missing, ended, opts, yield) {
		return false
	}
	if !ended {
		for _, id := range asked.Files {
			delete(missing, id)
		}
	}
	return true
}

// takeFiles waits for a poll, yields the missing files that it offers, and removes
// them from missing. What failed is asked for again, or else is an error. It
// returns false when the iteration has to end.
func (c *cascade) takeFiles(
	ctx context.Context, poll ID, missing map[ID]bool, again bool, opts []CallOption,
	yield func(*Result, error) bool,
) bool {
	for result, err := range c.service.Results(ctx, poll, opts...) {
		_, failed := errors.AsType[*StateError](err)
		switch {
		case failed && again:
		case failed:
			if !yield(nil, err) {
				return false
			}
		case err != nil:
			yield(nil, err)
			return false
		case missing[ID(result.DataType())] && result.State == ResultAvailable:
			delete(missing, ID(result.DataType()))
			if !yield(result, nil) {
				return false
			}
		}
	}
	return true
}

// mayHoldRecords reports whether a result may be a document of records. Not all
// generations say what a result is.
func (c *cascade) mayHoldRecords(result *Result) bool {
	switch strings.ToLower(result.Type) {
	case "json", "application/json":
		return true
	case "":
		return c.poll.Type != "files"
	}
	return false
}

// read returns the IDs of the files that a result's records refer to.
func (c *cascade) read(
	ctx context.Context, result *Result, open func(context.Context, *Result) (io.ReadCloser, error),
) ([]ID, error) {
	file, err := open(ctx, result)
	if errors.Is(err, errNotSaved) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ids, err := readFileRefs(file, result.Type != "")
	if err == nil {
		return ids, nil
	}
	if _, ok := errors.AsType[*DownloadError](err); !ok {
		err = &DownloadError{
			Result: result.ID, Identifier: result.Identifier, Done: result.Size, Size: result.Size,
			Err: fmt.Errorf("cannot read which files it refers to: %w", err),
		}
	}
	return ids, err
}

// cascades knows which cascade yielded a result, while it runs, and who saves it.
type cascades struct {
	mu       sync.Mutex
	byResult map[*Result]*cascade
}

func (c *cascades) add(of *cascade, result *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byResult == nil {
		c.byResult = map[*Result]*cascade{}
	}
	c.byResult[result] = of
}

// attach attaches a SaveAll to the cascade that yielded result, if one did, and
// returns the ID of its poll.
func (c *cascades) attach(result *Result, to saver) ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.byResult[result]
	if of == nil {
		return ""
	}
	of.to = to
	return of.poll.ID
}

// saver returns the SaveAll that is attached to a cascade, or nil.
func (c *cascades) saver(of *cascade) saver {
	c.mu.Lock()
	defer c.mu.Unlock()
	return of.to
}

func (c *cascades) forget(of *cascade) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for result, owner := range c.byResult {
		if owner == of {
			delete(c.byResult, result)
		}
	}
}
