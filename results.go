package ricloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
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

// UnmarshalJSON reads a result, or only its ID where the API sends no more.
func (r *Result) UnmarshalJSON(b []byte) error {
	type plain Result
	return readRef(b, &r.ID, (*plain)(r))
}

func (r *Result) ident() (kind string, id ID) { return "result", r.ID }

// DataType returns the data type of a data result, such as "callkit.calls", or
// the file ID of a file. It is Identifier without the "data:" that older
// versions of the API put before it.
func (r *Result) DataType() string { return strings.TrimPrefix(r.Identifier, "data:") }

// SignedURL lets anyone who has it read a result until it expires. The zero
// value means that there is none.
type SignedURL struct {
	URL         Secret    `json:"url"`
	DateExpires time.Time `json:"date_expires,omitzero"`
}

// ResultState is the state of a result.
type ResultState string

// The states of a result; see docs/contract.md#results.
const (
	ResultAvailable ResultState = "available"
	ResultConsumed  ResultState = "consumed" // acknowledged
	ResultExpired   ResultState = "expired"  // deleted by a scheduled clean-up
)

// ResultListParams filters and pages a list of results. Without a State,
// consumed and expired results are left out by the API.
type ResultListParams struct {
	ListParams

	Task  ID
	State ResultState
	// Poll is an assumption: no document shows it. An API that does not know it
	// also returns the results of other polls, so check Result.Poll.
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
	return do[Result](ctx, clientFor(s), request{op: transport.ResultsGet, id: id}, opts)
}

// List returns one page of results.
//
// GET /results
func (s *ResultsService) List(
	ctx context.Context, params ResultListParams, opts ...CallOption,
) (*List[Result], error) {
	return list[Result](ctx, clientFor(s), transport.ResultsList, params, opts)
}

// All iterates over all results, page by page.
//
// GET /results
func (s *ResultsService) All(
	ctx context.Context, params ResultListParams, opts ...CallOption,
) iter.Seq2[*Result, error] {
	return all[Result](ctx, clientFor(s), transport.ResultsList, params, opts)
}

// Acknowledge marks a result as consumed. Lists without a State then leave it
// out. Acknowledge only what you have saved and verified. The call may be
// repeated. It returns a *DecodeError if the API shows the result as available or
// expired.
//
// POST /results/{id}/ack
func (s *ResultsService) Acknowledge(
	ctx context.Context, id ID, opts ...CallOption,
) (*Result, error) {
	r := request{op: transport.ResultsAcknowledge, id: id}
	result, err := do[Result](ctx, clientFor(s), r, opts)
	if err == nil && result.ID != "" && result.ID != id {
		return nil, notTheResource(transport.ResultsAcknowledge.Name, "id", string(result.ID))
	}
	if err == nil && isUnconsumed(result.State) {
		return nil, &DecodeError{
			Operation: transport.ResultsAcknowledge.Name, Path: "state",
			Err: fmt.Errorf("the API shows the result as %s: %w", result.State, errUnconsumed),
		}
	}
	return result, err
}

// AcknowledgeAll marks results as consumed, 1,000 in each request. If the API
// refuses a batch, its results are acknowledged one by one. It returns an
// *AcknowledgeError that lists the results that remain. The call may be
// repeated.
//
// If the answer names some results of the batch, the others are acknowledged one
// by one, and so are those that it shows as available or expired. An answer that
// names none of them acknowledges all, and so does a list that has more. The body,
// {"results": [id, …]}, and that reading of the answer are assumptions: see
// docs/contract.md#results.
//
// POST /results/ack
func (s *ResultsService) AcknowledgeAll(ctx context.Context, ids []ID, opts ...CallOption) error {
	if i := slices.Index(ids, ""); i >= 0 {
		return &ParamError{
			Operation: "Results.AcknowledgeAll", Field: fmt.Sprintf("ids[%d]", i),
			Reason: "is empty",
		}
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
func (s *ResultsService) acknowledgeChunk(
	ctx context.Context, ids []ID, opts []CallOption,
) (remaining []ID, err error) {
	missing := false
	if !clientFor(s).noBatch.Load() {
		body := map[string][]ID{"results": ids}
		r := request{op: transport.ResultsAcknowledgeAll, body: body}
		// The answer's shape is not known, but it is JSON: a page of a proxy acknowledges nothing.
		var answer any
		err := clientFor(s).send(ctx, r, opts, &answer)
		refusal, ok := errors.AsType[*Error](err)
		switch {
		case err == nil:
			ids = doubtful(answer, ids)
		case !ok, !isAboutOne(err):
			return ids, err
		default:
			missing = refusal.StatusCode != http.StatusBadRequest
		}
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
		clientFor(s).noBatch.Store(true)
	}
	return remaining, err
}

// doubtful returns the results of a batch that its answer does not acknowledge: those
// that it shows as not consumed and, if it names some and is not the first page of
// a list, those that it leaves out.
func doubtful(answer any, ids []ID) (rest []ID) {
	named, some := wire.Named(answer), false
	list, _ := answer.(map[string]any)
	isCut := list["has_more"] == true
	for _, id := range ids {
		state, ok := named[string(id)]
		some = some || ok
		if !ok && !isCut || isUnconsumed(ResultState(state)) {
			rest = append(rest, id)
		}
	}
	if !some {
		return nil
	}
	return rest
}

var errUnconsumed = errors.New("it is not acknowledged")

func isUnconsumed(state ResultState) bool {
	return state == ResultAvailable || state == ResultExpired
}

// isAboutOne reports whether a request for other results may succeed: the API
// refused this one, and not the caller.
func isAboutOne(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return errors.Is(err, errUnconsumed) || ok && slices.Contains([]int{
		http.StatusBadRequest, http.StatusNotFound,
		http.StatusMethodNotAllowed,
	}, e.StatusCode)
}

// AcknowledgerParams configure an [Acknowledger].
type AcknowledgerParams struct {
	// MaxResults is how many results one request acknowledges at most. The
	// default, and the limit, is 1,000. A request is made as soon as so many
	// are queued.
	MaxResults int
	// MaxDelay is how long a result is queued at most. The default is 10
	// seconds.
	MaxDelay time.Duration
	// Report, if set, is called after every attempt, with the results that the
	// API acknowledged, and with the error if it did not acknowledge all. Calls
	// do not overlap. Report may call Add. It must not call Flush or Close,
	// which wait until it returns.
	Report func(acknowledged []ID, err error)
}

// An Acknowledger collects the results of a whole program, such as those of
// many accounts, and acknowledges them in few requests. It is safe for
// concurrent use. Close it at the end. The zero Acknowledger is closed: make one
// with ResultsService.Acknowledger.
type Acknowledger struct {
	service *ResultsService
	params  AcknowledgerParams
	ctx     context.Context //nolint:containedctx // of what runs between Add and Close
	cancel  context.CancelFunc
	flushes chan struct{} // holds a value while a flush runs
	running sync.WaitGroup

	mu      sync.Mutex
	queued  []ID
	known   map[ID]bool
	refused []ID // by the API, each by itself; not tried again
	last    error
	timer   *time.Timer
	closed  bool
}

// Acknowledger returns a new Acknowledger. Its background requests use ctx.
// When ctx ends, they stop, and the queued results wait for Flush or Close.
func (s *ResultsService) Acknowledger(
	ctx context.Context, params AcknowledgerParams,
) (*Acknowledger, error) {
	if err := clientFor(s).check(); err != nil {
		return nil, forOperation("Results.Acknowledger", err)
	}
	switch {
	case params.MaxResults < 0 || params.MaxResults > maxLimit:
		return nil, &ParamError{
			Operation: "Results.Acknowledger", Field: "MaxResults",
			Reason: "must be between 1 and 1000",
		}
	case params.MaxDelay < 0:
		return nil, &ParamError{
			Operation: "Results.Acknowledger", Field: "MaxDelay", Reason: "must not be negative",
		}
	}
	params.MaxResults = cmp.Or(params.MaxResults, maxLimit)
	params.MaxDelay = cmp.Or(params.MaxDelay, 10*time.Second)
	a := &Acknowledger{
		service: s, params: params, flushes: make(chan struct{}, 1),
		known: map[ID]bool{},
	}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a, nil
}

// ErrClosed means that an [Acknowledger] takes no more results.
var ErrClosed = errors.New("ricloud: the acknowledger is closed")

// Add queues results whose files are saved and verified. It does not wait. A
// result that is queued, or that the API has refused, is not queued again and is
// reported once. One that was acknowledged earlier is acknowledged and reported
// again. Add returns ErrClosed after Close, and a *ParamError for an empty ID. If
// it returns an error, it queues none of the ids.
func (a *Acknowledger) Add(ids ...ID) error {
	if i := slices.Index(ids, ""); i >= 0 {
		return &ParamError{
			Operation: "Acknowledger.Add", Field: fmt.Sprintf("ids[%d]", i),
			Reason: "is empty",
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.service == nil {
		return ErrClosed
	}
	for _, id := range ids {
		if !a.known[id] {
			a.known[id] = true
			a.queued = append(a.queued, id)
		}
	}
	a.schedule()
	return nil
}

// schedule starts a flush now or later, if there is something to flush. The
// caller holds the lock.
func (a *Acknowledger) schedule() {
	switch {
	case a.closed || len(a.queued) == 0 || a.ctx.Err() != nil:
	case a.timer == nil:
		delay := a.params.MaxDelay
		if len(a.queued) >= a.params.MaxResults {
			delay = 0
		}
		a.timer = time.AfterFunc(delay, a.background)
	case len(a.queued) >= a.params.MaxResults:
		a.timer.Reset(0)
	}
}

// background flushes once, and again later if that did not do.
func (a *Acknowledger) background() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.running.Add(1)
	a.mu.Unlock()
	defer a.running.Done()
	failed := a.flush(a.ctx) != nil
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = nil
	if failed && len(a.queued) > 0 && !a.closed && a.ctx.Err() == nil {
		a.timer = time.AfterFunc(a.params.MaxDelay, a.background)
		return
	}
	a.schedule()
}

// Flush acknowledges all results that are queued. It returns nil if none
// remain. Otherwise it returns an *AcknowledgeError that lists the results that
// the API refused, now or earlier, and those that are still queued.
func (a *Acknowledger) Flush(ctx context.Context) error {
	if err := a.flush(ctx); err != nil {
		return err
	}
	return a.remaining(nil)
}

// flush acknowledges what is queued. One flush runs at a time.
func (a *Acknowledger) flush(ctx context.Context) error {
	if a.service == nil {
		return nil
	}
	select {
	case a.flushes <- struct{}{}:
		defer func() { <-a.flushes }()
	case <-ctx.Done():
		return a.remaining(backoff.Cause(ctx))
	}
	for {
		a.mu.Lock()
		batch := slices.Clone(a.queued[:min(len(a.queued), a.params.MaxResults)])
		a.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if err := a.acknowledge(ctx, batch); err != nil {
			return a.remaining(err)
		}
	}
}

// acknowledge acknowledges the first of the queue. It returns an error if
// another attempt may succeed.
func (a *Acknowledger) acknowledge(ctx context.Context, batch []ID) error {
	err := a.service.AcknowledgeAll(ctx, batch)
	remain := map[ID]bool{}
	failed, ok := errors.AsType[*AcknowledgeError](err)
	if ok {
		for _, id := range failed.Remaining {
			remain[id] = true
		}
	}
	var done []ID
	a.mu.Lock()
	// A result that the API still shows as available may be acknowledged later.
	refused := ok && isAboutOne(failed.Err) && !errors.Is(failed.Err, errUnconsumed)
	for _, id := range batch {
		switch {
		case err == nil || ok && !remain[id]:
			done = append(done, id)
			delete(a.known, id)
		case refused:
			a.refused = append(a.refused, id)
		}
	}
	if err == nil || refused {
		a.queued = slices.Delete(a.queued, 0, len(batch))
	} else {
		a.queued = slices.DeleteFunc(a.queued, func(id ID) bool { return slices.Contains(done, id) })
	}
	if err != nil {
		a.last = err
	}
	a.mu.Unlock()
	if a.params.Report != nil {
		a.params.Report(done, err)
	}
	if refused {
		return nil
	}
	return err
}

// remaining returns an *AcknowledgeError if results remain.
func (a *Acknowledger) remaining(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := slices.Concat(a.refused, a.queued)
	if len(left) == 0 {
		return err
	}
	cause := cmp.Or(err, a.last)
	if failed, ok := errors.AsType[*AcknowledgeError](cause); ok {
		cause = failed.Err
	}
	if cause == nil {
		cause = errors.New("they were added after the flush began")
	}
	return &AcknowledgeError{Remaining: left, Err: cause}
}

// Close acknowledges what is queued, as Flush does, and returns the same
// errors. When Close returns, no request is in progress, and Add returns
// ErrClosed. If ctx ends first, Close also cancels a background request.
func (a *Acknowledger) Close(ctx context.Context) error {
	if a.service == nil {
		return nil
	}
	a.mu.Lock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	stop := context.AfterFunc(ctx, a.cancel)
	a.running.Wait()
	stop()
	a.cancel()
	return a.Flush(ctx)
}
