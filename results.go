package ricloud

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Result is a file that a task published to your storage.
type Result struct {
	ID           ID          `json:"id"`
	Organisation ID          `json:"organisation,omitempty"`
	Poll         ID          `json:"poll,omitempty"`
	Task         ID          `json:"task"`
	Identifier   string      `json:"identifier"` // a data type or a file id; not safe as a file name
	Type         string      `json:"type,omitempty"`
	URL          string      `json:"url"` // in your storage: "s3://bucket/key", "gs://bucket/key"
	SignedURL    SignedURL   `json:"signed_url,omitzero"`
	Checksum     string      `json:"checksum"` // MD5, in hex
	Size         int64       `json:"size"`     // bytes
	State        ResultState `json:"state"`
	DateCreated  time.Time   `json:"date_created,omitzero"`
	DateConsumed time.Time   `json:"date_consumed,omitzero"`
	DateDeleted  time.Time   `json:"date_deleted,omitzero"`
}

// UnmarshalJSON reads a result, or its id alone, which then is all it has.
func (r *Result) UnmarshalJSON(b []byte) error {
	type plain Result
	return readRef(b, &r.ID, (*plain)(r))
}

func (r *Result) ident() ID { return r.ID }

// SignedURL lets anyone who has it read a result until it expires. The zero
// value is none. (It is not a pointer: fmt prints what a pointer inside a
// struct points to without asking Secret how.)
type SignedURL struct {
	URL         Secret    `json:"url"`
	DateExpires time.Time `json:"date_expires,omitzero"`
}

// ResultState is the state of a result.
type ResultState string

// The states of a result (contract §11).
const (
	ResultAvailable ResultState = "available"
	ResultConsumed  ResultState = "consumed" // acknowledged
	ResultExpired   ResultState = "expired"  // deleted by a scheduled clean-up
)

// Terminal reports whether the result's state will not change again.
func (s ResultState) Terminal() bool { return s == ResultExpired }

// ResultListParams filters and pages a list of results. Without a State,
// consumed and expired results are left out by the API.
type ResultListParams struct {
	ListParams

	Task  ID
	State ResultState
}

func (p ResultListParams) pairs() []string {
	return []string{"task", string(p.Task), "state", string(p.State)}
}

// ResultsService reads and acknowledges results.
type ResultsService service

// Get returns a result, with a fresh signed URL where the storage config has
// them enabled.
//
// GET /results/{id}
func (s *ResultsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Result, error) {
	return do[Result](ctx, s.client, request{op: transport.ResultsGet.Operation(), ids: []ID{id}}, opts)
}

// List returns one page of results.
//
// GET /results
func (s *ResultsService) List(ctx context.Context, params ResultListParams, opts ...CallOption) (*List[Result], error) {
	return list[Result](ctx, s.client, transport.ResultsList, params, opts)
}

// All iterates over all results, page by page.
//
// GET /results
func (s *ResultsService) All(ctx context.Context, params ResultListParams, opts ...CallOption) iter.Seq2[*Result, error] {
	return all[Result](ctx, s.client, transport.ResultsList, params, opts)
}

// Acknowledge marks a result as consumed: default lists leave it out from then
// on. Acknowledge what was saved and verified only. It may be repeated.
//
// POST /results/{id}/ack
func (s *ResultsService) Acknowledge(ctx context.Context, id ID, opts ...CallOption) (*Result, error) {
	return do[Result](ctx, s.client, request{op: transport.ResultsAcknowledge.Operation(), ids: []ID{id}, mayBeEmpty: true}, opts)
}

// AcknowledgeAll marks results as consumed, 1,000 a request. The contract
// names the endpoint but not its body: it is sent as {"results": [id, …]}, and
// to an API that refuses that the results are acknowledged one by one. It may
// be repeated.
//
// POST /results/ack
func (s *ResultsService) AcknowledgeAll(ctx context.Context, ids []ID, opts ...CallOption) error {
	for chunk := range slices.Chunk(ids, maxLimit) {
		body := map[string][]ID{"results": chunk}
		_, err := s.client.send(ctx, request{op: transport.ResultsAcknowledgeAll.Operation(), body: body}, opts)
		if refused, ok := errors.AsType[*Error](err); ok && refused.refuses() {
			err = s.acknowledgeEach(ctx, chunk, opts)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refuses reports an answer to a request the API cannot make sense of.
func (e *Error) refuses() bool {
	return e.StatusCode == http.StatusBadRequest || e.StatusCode == http.StatusNotFound || e.StatusCode == http.StatusMethodNotAllowed
}

// acknowledgeEach goes on past a failure and returns all of them.
func (s *ResultsService) acknowledgeEach(ctx context.Context, ids []ID, opts []CallOption) error {
	var failures []error
	for _, id := range ids {
		if _, err := s.Acknowledge(ctx, id, opts...); err != nil {
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}
