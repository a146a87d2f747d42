package ricloudtest

import (
	"fmt"

	"github.com/reincubate/ricloud-go"
)

// consume marks a result as acknowledged; a second time changes nothing.
func (s *Server) consume(r *result) {
	if r.state == stateAvailable {
		r.state, r.consumed = stateConsumed, s.clock.now()
	}
}

func (s *Server) acknowledge(c *call) (render, error) {
	r, err := s.results.get(c.id)
	if err != nil {
		return nil, err
	}
	s.consume(r)
	return one(view.result, r)
}

// acknowledgeAll acknowledges a batch: all of it, or nothing where an ID is
// unknown.
// Assumption: the body is {"results": ["id", …]} and the answer a list of the
// results; the contract only names the endpoint.
func (s *Server) acknowledgeAll(c *call) (render, error) {
	if s.noBatch {
		return nil, notFound("endpoint")
	}
	c.params.require("results")
	ids := c.params.list("results")
	batch := make([]*result, 0, len(ids))
	for i, id := range ids {
		r, ok := s.results.byID[id]
		if !ok {
			c.params.note(fmt.Sprintf("results.%d", i), "names no result")
		}
		batch = append(batch, r)
	}
	if err := c.params.err(); err != nil {
		return nil, err
	}
	for _, r := range batch {
		s.consume(r)
	}
	return func(v view) any {
		data := make([]object, len(batch))
		for i, r := range batch {
			data[i] = v.result(r)
		}
		return v.list(data, false, len(data), c.op.Path)
	}, nil
}

// ExpireResult deletes a result as the API's scheduled cleanup does, with its
// object.
func (s *Server) ExpireResult(id ricloud.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.results.get(string(id))
	if err != nil {
		return fmt.Errorf("ricloudtest: expire result %s: %w", id, err)
	}
	r.state, r.deleted = stateExpired, s.clock.now()
	if r.object != nil {
		delete(s.objects, r.object.path)
		r.object = nil
	}
	return nil
}
