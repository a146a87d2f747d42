package ricloud

import (
	"context"
	"iter"
	"net/url"
	"slices"
	"strconv"
)

// Results iterates over a poll's results as they are published, while the poll
// still runs. It yields each result once, whatever its state. It ends when the
// poll has ended and every result was yielded. If tasks did not succeed, it then
// yields the poll's *StateError. It ends at the first other error. WithFiles
// adds the files that the results refer to.
//
// GET /polls/{id}
func (s *PollsService) Results(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Result, error] {
	if newCallOptions(opts).files {
		return s.cascade(ctx, id, slices.Concat(opts, []CallOption{withoutFiles}))
	}
	return func(yield func(*Result, error) bool) {
		seen := map[ID]bool{}
		listed := listedResults{client: s.client, opts: opts, seen: seen}
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
			for result, err := range results {
				if err != nil {
					yield(nil, renamed("Polls.Results", err))
					return
				}
				if seen[result.ID] {
					continue
				}
				seen[result.ID] = true
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

// listedResults reads the results that a poll lists. It may yield a result
// again.
type listedResults struct {
	client *Client
	opts   []CallOption
	seen   map[ID]bool // yielded by Results; only read here
	tail   ID          // the last result of the last page that was read
}

func (l *listedResults) read(ctx context.Context, poll *Poll) iter.Seq2[*Result, error] {
	list := &poll.Results
	if list.HasMore && poll.State.Ended() { // the last chance: read all pages again
		return list.All(ctx, l.client, l.opts...)
	}
	return func(yield func(*Result, error) bool) {
		fresh := l.countNew(list.Data)
		for i := range list.Data {
			if !yield(&list.Data[i], nil) {
				return
			}
		}
		if !list.HasMore || list.URL == "" {
			return
		}
		// It is not known whether the list begins with the newest result. New ones
		// are at its beginning if the poll itself shows some, or else at its end.
		after := ID("")
		if fresh == 0 {
			after = l.tail
		}
		for page, err := range l.pages(ctx, list, after) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
		}
	}
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
			// The poll itself shows len(list.Data) of them, which come again.
			if !page.HasMore || fresh == 0 || known > len(list.Data) {
				return
			}
		}
	}
}

// countNew counts the results that were not yielded before.
func (l *listedResults) countNew(results []Result) (n int) {
	for i := range results {
		if !l.seen[results[i].ID] {
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
