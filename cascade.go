package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
)

// filesAPoll is how many files one poll asks for.
const filesAPoll = 100

// WithFiles lets Polls.Results go on, once the poll is over, with the files
// that its records refer to: it reads the data results for FileRefs, and asks
// with Polls.Files. Other calls pass over it.
func WithFiles() CallOption { return func(o *callOptions) { o.files = true } }

// withoutFiles takes WithFiles back, for the polls that follow.
func withoutFiles(o *callOptions) { o.files = false }

// Files asks for files by the ids that a poll's records refer to, see
// FileRefs, and iterates over their results as they are published. The ids are
// asked for once each, in polls of 100, of the same session and source: the
// ids mean nothing elsewhere. A poll in which files failed yields its
// *StateError, and the next polls follow; any other error ends the iteration.
//
// POST /polls, GET /polls/{id}
func (s *PollsService) Files(ctx context.Context, poll *Poll, ids []ID, opts ...CallOption) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		if poll == nil {
			yield(nil, &ParamError{Operation: "Polls.Files", Field: "poll", Reason: "is required"})
			return
		}
		opts := slices.Concat(opts, []CallOption{withoutFiles})
		params := PollCreateParams{Session: poll.Session, Source: poll.Source}
		if poll.Subscription != "" {
			params = PollCreateParams{Subscription: poll.Subscription}
		}
		if poll.Type != "" { // an API that wants to be told
			params.Type = "files"
		}
		for chunk := range slices.Chunk(unique(ids), filesAPoll) {
			params.Payload.Files = chunk
			files, err := s.Create(ctx, params, opts...)
			if err != nil {
				yield(nil, err)
				return
			}
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

// unique returns ids without those that came before.
func unique(ids []ID) []ID {
	seen := make(map[ID]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id ID) bool {
		known := seen[id]
		seen[id] = true
		return known
	})
}

// cascade iterates over a poll's results, then over the files they refer to.
// That tasks of the poll did not succeed is said at the end.
func (s *PollsService) cascade(ctx context.Context, id ID, opts []CallOption) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		poll, err := s.Get(ctx, id, opts...)
		if err != nil {
			yield(nil, err)
			return
		}
		var ids []ID
		var ended error
		for result, err := range s.Results(ctx, id, opts...) {
			if err != nil {
				ended = err
				break
			}
			refs, err := s.refs(ctx, poll, result)
			if !yield(result, nil) || err != nil && !yield(nil, err) {
				return
			}
			ids = append(ids, refs...)
		}
		if _, ok := errors.AsType[*StateError](ended); ended == nil || ok {
			for file, err := range s.Files(ctx, poll, ids, opts...) {
				if !yield(file, err) {
					return
				}
			}
		}
		if ended != nil {
			yield(nil, ended)
		}
	}
}

// refs returns the ids of the files that a result's records refer to; none for
// a result that holds no records.
func (s *PollsService) refs(ctx context.Context, poll *Poll, result *Result) ([]ID, error) {
	if result.Type != "json" && (result.Type != "" || poll.Type != "data") {
		return nil, nil
	}
	file, err := s.client.Results.Open(ctx, result)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var ids []ID
	for record, err := range Records[json.RawMessage](file) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, FileRefs(record)...)
	}
	return ids, nil
}
