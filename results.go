package ricloud

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Result is a file that a task published to your storage.
type Result struct {
	ID           ID          `json:"id" wire:"strict"`
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

// DataType returns the data type of a data result, such as "callkit.calls", or
// the file ID of a file, whatever the generation of the API: older ones write
// the identifier as "data:callkit.calls".
func (r *Result) DataType() string { return strings.TrimPrefix(r.Identifier, "data:") }

// SignedURL lets anyone who has it read a result until it expires. The zero
// value means that there is none.
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
	// Poll is an assumption: no document shows it. An API that does not know it
	// returns the results of other polls, too, so look at Result.Poll.
	Poll ID
}

func (p ResultListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "task", p.Task)
	setFilter(q, "state", p.State)
	setFilter(q, "poll", p.Poll)
	return q
}

// ResultsService reads and acknowledges results.
type ResultsService service

// Get returns a result, with a signed URL where the storage config has them
// enabled and the API still gives one.
//
// GET /results/{id}
func (s *ResultsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Result, error) {
	return do[Result](ctx, s.client, request{op: transport.ResultsGet, id: id}, opts)
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
	return do[Result](ctx, s.client, request{op: transport.ResultsAcknowledge, id: id}, opts)
}

// AcknowledgeAll marks results as consumed, 1,000 a request. Where the API
// refuses a batch, its results are acknowledged one by one. It returns an
// *AcknowledgeError that says which remain. It may be repeated.
//
// The contract names the endpoint but not its body: it is sent as
// {"results": [id, …]}.
//
// POST /results/ack
func (s *ResultsService) AcknowledgeAll(ctx context.Context, ids []ID, opts ...CallOption) error {
	if i := slices.Index(ids, ""); i >= 0 {
		return &ParamError{Operation: "Results.AcknowledgeAll", Field: fmt.Sprintf("ids[%d]", i), Reason: "is empty"}
	}
	var failed AcknowledgeError
	for begin := 0; begin < len(ids); begin += maxLimit {
		chunk := ids[begin:min(begin+maxLimit, len(ids))]
		remaining, err := s.acknowledgeChunk(ctx, chunk, opts)
		if err == nil {
			continue
		}
		failed.Remaining, failed.Err = append(failed.Remaining, remaining...), err
		if !isAboutOne(err) {
			failed.Remaining = append(failed.Remaining, ids[begin+len(chunk):]...)
			break
		}
	}
	if failed.Err != nil {
		return &failed
	}
	return nil
}

// acknowledgeChunk acknowledges at most 1,000 results, by one request if the
// API has it, and returns those that remain.
func (s *ResultsService) acknowledgeChunk(ctx context.Context, ids []ID, opts []CallOption) (remaining []ID, err error) {
	missing := false
	if !s.client.noBatch.Load() {
		body := map[string][]ID{"results": ids}
		err := s.client.send(ctx, request{op: transport.ResultsAcknowledgeAll, body: body}, opts, nil)
		refusal, ok := errors.AsType[*Error](err)
		switch {
		case err == nil:
			return nil, nil
		case !ok, !isAboutOne(err):
			return ids, err
		}
		missing = refusal.StatusCode != http.StatusBadRequest
	}
	for i, id := range ids {
		_, ackErr := s.Acknowledge(ctx, id, opts...)
		if ackErr == nil {
			continue
		}
		remaining, err = append(remaining, id), ackErr
		if !isAboutOne(ackErr) {
			return append(remaining, ids[i+1:]...), err
		}
	}
	if missing && err == nil { // the results are there: it is the endpoint that is not
		s.client.noBatch.Store(true)
	}
	return remaining, err
}

// isAboutOne reports whether a request for other results may do better: this
// one was refused, not the caller, and the API is well.
func isAboutOne(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed}, e.StatusCode)
}
