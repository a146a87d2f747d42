package ricloudtest

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type result struct {
	collection.Head

	Task       *task
	Identifier string
	Kind       string
	URL        string
	Object     string    // the path of the object in the sandbox's storage; empty if elsewhere
	Signed     time.Time // when its signed URLs expire; zero if it has none
	Checksum   string
	Size       int64
	State      string
	Consumed   time.Time
	Deleted    time.Time
}

func newResults() *collection.Collection[*result] {
	results := collection.New("result", map[string]collection.Filter[*result]{
		"task":  {Value: func(r *result) string { return r.Task.ID }, Indexed: true},
		"poll":  {Value: func(r *result) string { return idOf(r.Task.Poll) }, Indexed: true},
		"state": {Value: func(r *result) string { return r.State }},
		"type":  {Value: func(r *result) string { return r.Kind }},
	})
	results.Hidden = func(r *result) bool { return r.State != stateAvailable }
	return results
}

// allResults is the address of a resource's results in every state, as it lists them itself.
func allResults(filter, id string) string {
	return "/results?" + filter + "=" + url.QueryEscape(id) +
		"&state=available&state=consumed&state=expired"
}

func (v view) result(r *result) object {
	out := object{
		"id": r.ID, "resource": "result", "task": r.Task.ID, "identifier": r.Identifier,
		"url": r.URL, "checksum": r.Checksum, "size": r.Size, "state": r.State,
		"date_created": stamp(r.Created), "date_consumed": stamp(r.Consumed),
		"date_deleted": stamp(r.Deleted),
	}
	if v.guide() {
		if r.Task.Kind != "files" {
			out["identifier"] = r.Task.Kind + ":" + r.Identifier
		}
		return out
	}
	out["organisation"], out["poll"] = v.server.org.ID, optional(idOf(r.Task.Poll))
	out["type"] = r.Kind
	out["signed_url"] = v.signedURL(r)
	return out
}

// signedURL is null once it has expired. The API does not notice that an object is gone.
func (v view) signedURL(r *result) any {
	if r.Object == "" || r.Signed.IsZero() || !v.server.clock.Now().Before(r.Signed) {
		return nil
	}
	return object{
		"url":          v.server.sign(v.origin, r.Object, r.Signed),
		"date_expires": stamp(r.Signed),
	}
}

// document is what a task publishes as one result.
type document struct {
	identifier, kind string
	content          *blob
}

// immediate is the size up to which documents are hashed while the mutex is held. Larger ones are
// read on a goroutine of their own.
const immediate = 256 << 10

// publish writes what a task found to its storage, then ends the task.
//
// Assumption (object-names): objects are named <storage url>/<poll>/<result>.
func (s *Server) publish(t *task, documents []document) {
	to := s.destination(t.Key)
	if to == nil {
		s.finish(t, codeUnconfigured)
		return
	}
	ours := s.writer(to.URL) == nil
	small := true
	var made []*result
	for _, d := range documents {
		r := &result{
			Head: s.unique(), Task: t, Identifier: d.identifier, Kind: d.kind,
			Size: d.content.Size(), State: stateAvailable,
		}
		r.URL = strings.TrimSuffix(to.URL, "/") + "/" + t.Poll.ID + "/" + r.ID
		if to.Signed {
			r.Signed = r.Created.Add(s.scale(to.SignedFor))
		}
		small = small && d.content.Size() <= immediate
		made = append(made, r)
	}
	done := func(err error) {
		if err != nil {
			s.finish(t, codePublishFailed)
			return
		}
		for i, r := range made {
			if ours {
				r.Object = objectPath(r.URL)
				s.objects[r.Object] = &stored{
					path: r.Object, kind: mediaType(r.Kind), content: documents[i].content,
					etag: `"` + r.Checksum + `"`, created: r.Created,
				}
			}
			t.Results = append(t.Results, r)
			s.results.Add(r)
		}
		s.finish(t, "")
	}
	store := func() error {
		for i, r := range made {
			if err := s.store(r, documents[i].content, ours); err != nil {
				return err
			}
		}
		return nil
	}
	if ours && small {
		done(store())
		return
	}
	s.inBackground(func() func() {
		err := store()
		return func() { done(err) }
	})
}

// store hashes a document and, where its storage is not the sandbox's own, writes it there.
func (s *Server) store(r *result, content *blob, ours bool) error {
	sum, err := content.sum()
	r.Checksum = sum
	if err != nil || ours {
		return err
	}
	return s.writer(r.URL)(s.ctx, r.URL, content.Content)
}

// consume marks a result as acknowledged. A second time changes nothing.
func (s *Server) consume(r *result) {
	if r.State == stateAvailable {
		r.State, r.Consumed = stateConsumed, s.clock.Now()
	}
}

func (s *Server) acknowledge(c *call) (answerer, error) {
	r, err := s.results.Get(c.id)
	if err != nil {
		return nil, err
	}
	s.consume(r)
	return answerWith(view.result, r)
}

// acknowledgeAll acknowledges a batch.
//
// Assumption (batch-acknowledge): the body is {"results": ["id", …]}, all or none are
// acknowledged, and the answer is a list of the results. The contract only names the endpoint.
func (s *Server) acknowledgeAll(c *call) (answerer, error) {
	if s.noBatch {
		return nil, notFound("endpoint")
	}
	c.params.require("results")
	ids := c.params.list("results")
	batch := make([]*result, 0, len(ids))
	for i, id := range ids {
		r, ok := s.results.Lookup(id)
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
		return v.list(data, false, len(data), "/results/ack")
	}, nil
}

// ExpireResult deletes a result and its object, as the API's scheduled cleanup does.
func (s *Server) ExpireResult(id ricloud.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.results.Lookup(string(id))
	if !ok {
		return refuse("expire result %s: there is no such result", id)
	}
	s.expireResult(r)
	return nil
}

func (s *Server) expireResult(r *result) {
	r.State, r.Deleted = stateExpired, s.clock.Now()
	delete(s.objects, r.Object)
	r.Object = ""
}

// RemoveObject removes a result's object from the sandbox's storage. The result itself stays as it
// is.
func (s *Server) RemoveObject(resultID ricloud.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.results.Lookup(string(resultID))
	if !ok {
		return refuse("remove object of result %s: there is no such result", resultID)
	}
	delete(s.objects, r.Object)
	return nil
}

// ReplaceObject puts other bytes in place of a result's object. The result keeps its checksum and
// size, so that a careful client notices.
func (s *Server) ReplaceObject(resultID ricloud.ID, content Content) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.results.Lookup(string(resultID))
	if !ok {
		return refuse("replace object of result %s: there is no such result", resultID)
	}
	old := s.objects[r.Object]
	if old == nil || content == nil {
		return refuse("replace object of result %s: there is no object", resultID)
	}
	changed := *old
	changed.content = newBlob(content)
	changed.etag = `"` + s.newSecret("")[:32] + `"`
	s.objects[changed.path] = &changed
	return nil
}
