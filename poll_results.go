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
	"sync/atomic"
	"time"

	"github.com/reincubate/ricloud-go/internal/published"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// Results iterates over a poll's results as they are published, while the poll
// still runs. It yields each result once, whatever its state. It ends when the
// poll has ended and every result was yielded. If tasks did not succeed, it
// yields the poll's *StateError last. Any other error ends it at once.
// [WithFiles] adds the files that the results refer to.
//
// If an event or a list shows fewer results of the ended poll than there seem
// to be, Results reads the poll once more, and then the lists of its tasks. If a
// task that has just succeeded shows no result, it looks again up to five times,
// within a minute, and then reports the task to the logger and to [DecodeHook]:
// that such a task may have none is an assumption, see docs/contract.md#results.
//
// GET /polls/{id}
func (s *PollsService) Results(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Result, error] {
	if newCallOptions(opts).files {
		return s.cascade(ctx, id, slices.Concat(opts, []CallOption{withoutFiles}))
	}
	return func(yield func(*Result, error) bool) {
		r := pollResults{
			service: s, opts: opts, yield: yield, asked: map[ID]bool{}, tasks: published.Tasks[ID]{},
			list: published.List[Result]{ID: idOf, Content: contentOf},
		}
		var last *Poll
		var ended error
		running := false // when it was first seen
		for poll, end := range clientFor(s).waits.polls.watch(ctx, "Polls.Results", id, nil, opts) {
			poll, ended = s.readIfShort(ctx, poll, end, r.list.Has, opts)
			if !r.give(s.published(ctx, poll, &r.list, r.asked, opts)) {
				return
			}
			if poll != nil {
				last, running = poll, running || !poll.ended()
			}
			if ended != nil {
				break
			}
		}
		if last != nil && last.ended() && (ended == nil || isStateError(ended)) &&
			(running || s.justEnded(last)) && !r.late(ctx, last) {
			return
		}
		if ended != nil {
			yield(nil, ended)
		}
	}
}

// pollResults is one iteration over the results of a poll.
type pollResults struct {
	service *PollsService
	opts    []CallOption
	yield   func(*Result, error) bool
	list    published.List[Result]
	asked   map[ID]bool         // tasks whose results were listed
	tasks   published.Tasks[ID] // how many results they have
}

// give yields the results that are new. It returns false if the iteration is over.
func (r *pollResults) give(results iter.Seq2[*Result, error]) bool {
	r.list.Look()
	for result, err := range results {
		if err != nil {
			r.yield(nil, renamed("Polls.Results", err))
			return false
		}
		if !r.list.Add(result) {
			continue
		}
		r.tasks[result.Task]++
		if !r.yield(result, nil) {
			return false
		}
	}
	return true
}

// justEnded reports whether a poll ended within the last two minutes, so that what
// the API shows of it may be behind.
func (s *PollsService) justEnded(poll *Poll) bool {
	now := time.Now()
	ahead, _ := s.client.clock.Ahead(now)
	return !poll.DateCompleted.IsZero() && now.Add(ahead).Sub(poll.DateCompleted) < 2*time.Minute
}

// late looks again for the results of tasks that have succeeded and show none: what
// the API shows may be behind. It returns false if the iteration is over.
func (r *pollResults) late(ctx context.Context, poll *Poll) bool {
	s, more := r.service, true
	missing := func() []ID { return r.tasks.Missing(poll.TasksSucceeded) }
	err := published.Late(ctx, func() bool { return len(missing()) > 0 }, func() bool {
		latest, err := s.Get(ctx, poll.ID, r.opts...)
		if err != nil {
			r.yield(nil, renamed("Polls.Results", err))
			more = false
			return false
		}
		if latest.Results.Data != nil {
			more = r.give(r.list.Read(latest.Results.Data, s.pagesOf(ctx, latest, r.opts)))
			return more
		}
		for tasks := missing(); more && len(tasks) > 0; tasks = tasks[1:] {
			delete(r.asked, tasks[0])
			before := len(missing())
			more = r.give(s.byTask(ctx, &Poll{TasksSucceeded: tasks[:1]}, r.asked, r.opts))
			if len(missing()) == before { // one list shows whether there is news
				break
			}
		}
		return more
	})
	if err != nil {
		r.yield(nil, &CallError{Operation: "Polls.Results", Err: err})
		return false
	}
	if tasks := missing(); more && len(tasks) > 0 {
		reason := fmt.Sprintf("task %s shows no result", quote(tasks[0], maxWord))
		if len(tasks) > 1 {
			reason = fmt.Sprintf("task %s and %d others show no result", quote(tasks[0], maxWord),
				len(tasks)-1)
		}
		s.client.report(ctx, "Polls.Results", []wire.Oddity{{Path: "tasks_succeeded", Reason: reason}})
	}
	return more
}

// published iterates over the results of a poll as it was last seen.
func (s *PollsService) published(
	ctx context.Context, poll *Poll, list *published.List[Result], asked map[ID]bool,
	opts []CallOption,
) iter.Seq2[*Result, error] {
	switch {
	case poll == nil:
		return func(func(*Result, error) bool) {}
	case poll.Results.Data == nil: // a generation whose polls show no results
		return s.byTask(ctx, poll, asked, opts)
	case poll.ended() && (poll.Results.HasMore || poll.showsTooFew()): // the last chance
		return s.fromLists(ctx, poll, asked, opts)
	}
	return list.Read(poll.Results.Data, s.pagesOf(ctx, poll, opts))
}

// readIfShort reads a poll that has ended, if it seems to lack results: an event
// or a list may show fewer than there are. It returns the poll with the error at
// its end.
func (s *PollsService) readIfShort(
	ctx context.Context, poll *Poll, end error, has func(*Result) bool, opts []CallOption,
) (*Poll, error) {
	if poll == nil || !poll.ended() || poll.byGet || !poll.lacksResults(has) {
		return poll, end
	}
	latest, err := s.Get(ctx, poll.ID, opts...)
	switch {
	case err != nil:
		return poll, renamed("Polls.Results", err)
	case !latest.ended(): // an answer from before the end
		return poll, end
	case latest.unsorted: // poll says which tasks failed
		latest.TasksSucceeded = poll.TasksSucceeded
		return latest, end
	}
	return latest, pollStatus(latest).Err
}

// ended reports whether a wait for the poll is over.
func (p *Poll) ended() bool {
	known := p.State == PollPending || p.State == PollProcessing
	return p.State.Ended() || !known && p.finished()
}

// lacksResults reports whether a poll that has ended seems to have more results
// than it shows. A list with a URL to go on from is no reason to read the poll.
// Of a result that shows only its ID, it is no matter if the caller has it.
func (p *Poll) lacksResults(has func(*Result) bool) bool {
	if p.Results.HasMore && p.Results.URL != "" {
		return false
	}
	if p.Results.Data == nil { // a poll whose tasks all failed has none
		return len(p.TasksSucceeded) > 0 || len(p.TasksFailed)+len(p.TasksSuspended) == 0
	}
	for i := range p.Results.Data {
		if r := &p.Results.Data[i]; r.State == "" && r.URL == "" && !has(r) {
			return true
		}
	}
	return p.Results.HasMore || p.showsTooFew()
}

// showsTooFew reports whether a poll shows fewer results than it says.
func (p *Poll) showsTooFew() bool {
	shown := len(p.Results.Data)
	return p.Results.TotalCount > shown || shown == 0 && len(p.TasksSucceeded) > 0
}

// fromLists yields the results that a poll shows, then those at the URL of its
// list, all pages again. A list that promises none, that has no URL, or that shows
// fewer than it says, is replaced by those of the tasks.
func (s *PollsService) fromLists(
	ctx context.Context, poll *Poll, asked map[ID]bool, opts []CallOption,
) iter.Seq2[*Result, error] {
	list := poll.Results
	if list.HasMore && list.URL != "" || len(poll.TasksSucceeded) == 0 {
		list.HasMore = list.HasMore || list.URL != ""
		return func(yield func(*Result, error) bool) {
			shown := 0
			for result, err := range list.All(ctx, clientFor(s), opts...) {
				if !yield(result, err) || err != nil {
					return
				}
				shown++
			}
			if shown < list.TotalCount {
				s.byTask(ctx, poll, asked, opts)(yield)
			}
		}
	}
	return func(yield func(*Result, error) bool) {
		for i := range list.Data {
			if !yield(&list.Data[i], nil) {
				return
			}
		}
		s.byTask(ctx, poll, asked, opts)(yield)
	}
}

func idOf(r *Result) string { return string(r.ID) }

// contentOf returns what stays the same of a result, however often it is read.
func contentOf(r *Result) string {
	return fmt.Sprintf("%q", []string{
		string(r.Task), r.Identifier, r.Type, r.URL, r.Checksum, strconv.FormatInt(r.Size, 10),
	})
}

// pagesOf reads the results that a poll lists but does not show. It returns nil
// if the poll shows them all.
func (s *PollsService) pagesOf(
	ctx context.Context, poll *Poll, opts []CallOption,
) func(after string) ([]Result, bool, error) {
	list := &poll.Results
	if !list.HasMore || list.URL == "" {
		return nil
	}
	return func(after string) ([]Result, bool, error) {
		r := list.behind(ID(after))
		r.query = url.Values{"limit": {strconv.Itoa(maxLimit)}}
		page, err := do[List[Result]](ctx, clientFor(s), r, opts)
		if err != nil {
			return nil, false, err
		}
		return page.Data, page.HasMore, nil
	}
}

// byTask reads the results of a poll's tasks that were not asked for them yet,
// one task after the other.
func (s *PollsService) byTask(
	ctx context.Context, poll *Poll, asked map[ID]bool, opts []CallOption,
) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		for _, task := range poll.TasksSucceeded {
			if asked[task] {
				continue
			}
			asked[task] = true
			params := ResultListParams{Task: task}
			for result, err := range clientFor(s).Results.All(ctx, params, opts...) {
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
// answer to a creation was lost, it first looks for the poll in the session. If
// an earlier poll is gone at the API, its files are asked for again. ErrNotFound
// comes only of the poll itself, of a poll for files that was just made, or of an
// object that is gone from storage. Two SaveAlls of one poll into one folder at
// the same time may each make a poll for files, and save each file once.
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
	o := newCallOptions(opts)
	var err error
	switch {
	case o.files:
		err = invalid("WithFiles", "does not apply to this call")
	case o.awaitSet:
		err = invalid("WithAwait", "does not apply to this call")
	default:
		return s.files(ctx, poll, ids, func(filePoll) {}, opts)
	}
	return func(yield func(*Result, error) bool) { yield(nil, forOperation("Polls.Files", err)) }
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
			note(filePoll{Poll: files.ID, Files: chunk})
			for result, err := range s.Results(ctx, files.ID, opts...) {
				if !yield(result, err) {
					return
				}
				if err != nil && !isStateError(err) {
					return
				}
			}
		}
	}
}

func isStateError(err error) bool {
	_, ok := errors.AsType[*StateError](err)
	return ok
}

// A folder notes the polls that ask for files, and the files that are saved.
type (
	filePoll = published.Asked[ID]
	fileNote = published.Saved[ID]
)

// cascade is one iteration over a poll's results and the files that they refer
// to. A SaveAll that takes its results attaches itself: the cascade then reads
// the saved files, not the objects in storage again, and learns which files are
// saved already.
type cascade struct {
	service *PollsService
	poll    *Poll
	yielded []*Result
	to      atomic.Pointer[saveAll] // nil while nobody saves
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
		defer func() {
			for _, result := range c.yielded {
				clientFor(s).cascades.Delete(result)
			}
		}()
		c.run(ctx, opts, yield)
	}
}

func (c *cascade) run(ctx context.Context, opts []CallOption, yield func(*Result, error) bool) {
	give := func(result *Result, err error) bool {
		if result != nil {
			c.yielded = append(c.yielded, result)
			clientFor(c.service).cascades.Store(result, c)
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
		case c.to.Load() != nil:
			saving = append(saving, result)
		default:
			ids, err := c.read(ctx, result, clientFor(c.service).Results.open)
			refs.add(ids...)
			if err != nil && !give(nil, err) {
				return
			}
		}
	}
	for _, result := range saving {
		ids, err := c.read(ctx, result, c.to.Load().openSaved)
		refs.add(ids...)
		if err != nil && !give(nil, err) {
			return
		}
	}
	if ended == nil || isStateError(ended) {
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
	to := c.to.Load()
	if to == nil {
		return c.service.Files(ctx, c.poll, ids, opts...)
	}
	search := published.Search[ID, *Result]{
		Files: ids,
		Saved: func() []*Result { return to.savedFiles(c.poll.ID) },
		Asked: func() []filePoll { return to.filePolls(c.poll.ID) },
		Note:  func(p filePoll) { to.noteFilePoll(c.poll.ID, p) },
		File: func(r *Result) ID {
			if r.State != ResultAvailable {
				return ""
			}
			return ID(r.DataType())
		},
		Ended: func(id ID) (bool, error) {
			poll, err := c.service.Get(ctx, id, opts...)
			if err != nil {
				return false, renamed("Polls.Files", err)
			}
			return poll.State.Ended(), nil
		},
		Gone:    ErrNotFound,
		Results: func(id ID) iter.Seq2[*Result, error] { return c.service.Results(ctx, id, opts...) },
		Partial: isStateError,
		Unknown: func() iter.Seq2[ID, error] { return c.later(ctx, opts) },
	}
	return func(yield func(*Result, error) bool) {
		if rest, more := search.Run(yield); more {
			c.service.files(ctx, c.poll, rest, search.Note, opts)(yield)
		}
	}
}

// later iterates over the polls that may ask for the files of the cascade's
// poll: those of its session or subscription that came after it.
func (c *cascade) later(ctx context.Context, opts []CallOption) iter.Seq2[ID, error] {
	params := PollListParams{Session: c.poll.Session}
	if c.poll.Subscription != "" {
		params = PollListParams{Subscription: c.poll.Subscription}
	}
	return func(yield func(ID, error) bool) {
		for poll, err := range c.service.All(ctx, params, opts...) {
			switch {
			case err != nil:
				yield("", renamed("Polls.Files", err))
				return
			case poll.ID == c.poll.ID || poll.DateCreated.Before(c.poll.DateCreated) ||
				poll.Source != c.poll.Source || poll.Subscription != c.poll.Subscription:
			case !yield(poll.ID, nil):
				return
			}
		}
	}
}

// mayHoldRecords reports whether a result may be a document of records. Not all
// generations say what a result is.
func (c *cascade) mayHoldRecords(result *Result) bool {
	kind, _, _ := strings.Cut(strings.ToLower(result.Type), ";") // perhaps a media type
	switch strings.TrimSpace(kind) {
	case "json", "application/json", "text/json":
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
		err = result.failed(result.Size,
			fmt.Errorf("cannot read which files it refers to: %w", err))
	}
	return ids, err
}
