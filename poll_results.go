package ricloud

import (
	"context"
	"iter"
	"slices"
)

// Results iterates over a poll's results as they are published, while the poll
// still runs: each once, whatever its state. It ends when the poll has ended
// and every result was yielded, with the poll's *StateError if tasks did not
// succeed, and at the first other error. WithFiles adds the files that the
// results refer to.
//
// GET /polls/{id}
func (s *PollsService) Results(ctx context.Context, id ID, opts ...CallOption) iter.Seq2[*Result, error] {
	if newCallOptions(opts).files {
		return s.cascade(ctx, id, slices.Concat(opts, []CallOption{withoutFiles}))
	}
	return func(yield func(*Result, error) bool) {
		stream := resultStream{
			pager: pager[Result]{client: s.client, seen: map[ID]bool{}}, asked: map[ID]bool{}, opts: opts, yield: yield,
		}
		for poll, end := range s.Watch(ctx, id, opts...) {
			if poll != nil && !stream.read(ctx, poll) {
				return
			}
			if end != nil {
				yield(nil, end)
				return
			}
		}
	}
}

// resultStream yields each result of a poll once, however often the poll shows
// it.
type resultStream struct {
	pager pager[Result] // knows what was yielded
	tail  ID            // the last result of the last page that was read
	asked map[ID]bool   // tasks
	opts  []CallOption
	yield func(*Result, error) bool
}

// read yields what poll shows for the first time. It reports whether to go on.
func (s *resultStream) read(ctx context.Context, poll *Poll) bool {
	shown := poll.Results.Data
	fresh := s.pager.yieldNew(shown, s.yield)
	switch {
	case fresh < 0:
		return false
	case shown == nil:
		return s.ask(ctx, poll.TasksSucceeded)
	case !poll.Results.HasMore:
		return true
	case poll.State.Terminal(): // the last chance: all pages, whatever was read before
		return s.each(poll.Results.All(ctx, s.pager.client, s.opts...))
	case poll.Results.URL == "":
		return true
	}
	// Whether the list begins with the newest is not known: new ones are at its
	// beginning, as those are that the poll itself shows, or else at its end.
	var from ID
	if fresh == 0 {
		from = s.tail
	}
	s.pager.repeats = len(shown)
	more := true
	s.pager.run(ctx, poll.Results.behind(from), s.opts, func(r *Result, err error) bool {
		more = s.yield(r, err) && err == nil
		return more
	})
	s.tail = s.pager.last
	return more
}

// ask yields the results of tasks that were not asked before. One generation
// of the API shows results nowhere else.
func (s *resultStream) ask(ctx context.Context, tasks []ID) bool {
	for _, task := range tasks {
		if s.asked[task] {
			continue
		}
		s.asked[task] = true
		if !s.each(s.pager.client.Results.All(ctx, ResultListParams{Task: task}, s.opts...)) {
			return false
		}
	}
	return true
}

// each yields those of results that were not yielded before.
func (s *resultStream) each(results iter.Seq2[*Result, error]) bool {
	for r, err := range results {
		if err != nil {
			s.yield(nil, err)
			return false
		}
		if s.pager.yieldNew([]Result{*r}, s.yield) < 0 {
			return false
		}
	}
	return true
}
