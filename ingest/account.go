package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Account is one account to read, as Submit takes it. It holds no password:
// Handlers.Secret gives that when it is needed.
type Account struct {
	// Key names the account in your system: "customer-42". At most 200 bytes. Submitting the same
	// key again changes nothing. It is also the identifier of the ricloud user,
	// so an account keeps its key for good.
	Key string `json:"key"`

	// Source is what to log in to. User is left empty: the engine makes the user.
	Source ricloud.SourceParams `json:"source"`

	// Poll is what to ask for. The whole account takes at most 100 KiB as JSON.
	Poll ricloud.PollPayload `json:"poll"`

	// Every polls again and again, at this interval, through a subscription. 0
	// polls once.
	Every time.Duration `json:"every,omitempty"`
}

// State says how far an account is.
type State string

// The states of an account, in the order in which most pass through them.
const (
	Submitted  State = "submitted"   // waits for its login
	LoggingIn  State = "logging-in"  // a login was begun; its session is looked for before another
	Connecting State = "connecting"  // its session is pending
	CodeNeeded State = "code-needed" // waits for Engine.Code
	Connected  State = "connected"   // its session is active, its poll is not made yet
	// Requesting means that a poll or a subscription was begun; it is looked for before another.
	Requesting State = "requesting"
	Polling    State = "polling"    // its poll runs
	Subscribed State = "subscribed" // its subscription makes polls
	Handling   State = "handling"   // its results are being handled and acknowledged
	Done       State = "done"       // every result was handled and acknowledged
	Dead       State = "dead"       // needs a person: see Status.Reason, and Engine.Retry
)

// Step is one entry of an account's history.
type Step struct {
	Time  time.Time `json:"time"`
	State State     `json:"state"`
	Note  string    `json:"note,omitempty"` // why, in words; never a secret
	By    string    `json:"by"`             // the process
}

// Status is what is known of an account.
type Status struct {
	Account Account
	State   State
	Since   time.Time // when it came to its state
	Reason  string    // why it is Dead, or what it is being retried for
	Session ricloud.ID
	Poll    ricloud.ID
	History []Step // the first steps and the latest, oldest first
}

// record is what the store holds of an account.
type record struct {
	Account      Account      `json:"account"`
	State        State        `json:"state"`
	Since        time.Time    `json:"since,omitzero"`
	User         ricloud.ID   `json:"user,omitempty"`
	Session      ricloud.ID   `json:"session,omitempty"`
	Known        []ricloud.ID `json:"known,omitempty"` // earlier sessions
	Poll         ricloud.ID   `json:"poll,omitempty"`
	Subscription ricloud.ID   `json:"subscription,omitempty"`
	Begun        time.Time    `json:"begun,omitzero"` // the create whose outcome is not known
	// Read says since when the subscription's polls are read; Check, when to look whether it lives.
	Read  time.Time `json:"read,omitzero"`
	Check time.Time `json:"check,omitzero"`
	Due   time.Time `json:"due,omitzero"` // no step before
	Codes int       `json:"codes,omitempty"`
	Looks int       `json:"looks,omitempty"` // for that create, which found nothing
	// Unmade counts the creates in a row for which no session was found.
	Unmade       int          `json:"unmade,omitempty"`
	Failures     int          `json:"failures,omitempty"` // in a row
	FailingSince time.Time    `json:"failing_since,omitzero"`
	Reason       string       `json:"reason,omitempty"`
	Back         State        `json:"back,omitempty"` // where Retry of a dead letter goes
	Open         []openPoll   `json:"open,omitempty"` // ended polls whose results are being handled
	Closed       []ricloud.ID `json:"closed,omitempty"`
	History      []Step       `json:"history"`
}

// openPoll is an ended poll whose results are being handled.
type openPoll struct {
	ID     ricloud.ID `json:"id"`
	Chunks int        `json:"chunks"`           // jobs
	Failed string     `json:"failed,omitempty"` // what its tasks failed with
}

const (
	maxHistory = 24 // steps; the first quarter is kept
	maxReason  = 500
	maxKey     = 200
	maxAccount = 100 << 10 // bytes of JSON: with all that it gains, it fits into a message of NATS
	maxClosed  = 32
	maxKnown   = 16 // more logins than these are not made within clockSkew
	maxEvery   = 365 * 24 * time.Hour
)

// step appends to the history.
func (r *record) step(by string, state State, note string) Step {
	step := Step{
		Time: time.Now().UTC().Round(time.Millisecond), State: state, Note: bounded(note),
		By: by,
	}
	if n := len(r.History); n == 0 || r.History[n-1].State != state {
		r.Since = step.Time
	}
	r.State = state
	r.History = append(r.History, step)
	if len(r.History) > maxHistory {
		r.History = slices.Delete(r.History, maxHistory/4, maxHistory/4+1)
	}
	return step
}

// copy returns a copy that later steps leave as it is.
func (r *record) copy() record {
	c := *r
	c.History = slices.Clone(r.History)
	return c
}

func bounded(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}

func (r *record) status() *Status {
	s := &Status{
		Account: r.Account, State: r.State, Since: r.Since, Reason: r.Reason,
		Session: r.Session, Poll: r.Poll, History: slices.Clone(r.History),
	}
	for _, step := range slices.Backward(r.History) {
		if !r.Since.IsZero() || step.State != r.State {
			break
		}
		s.Since = step.Time // of an older version: as far as its history goes back
	}
	return s
}

const (
	accountPrefix = "acct."
	workPrefix    = "work."
	processPrefix = "proc."
)

// escape makes a token of a subject out of a key.
func escape(key string) string { return store.Token(key) }

func invalid(operation, field, reason string) error {
	return &ricloud.ParamError{Operation: "ingest." + operation, Field: field, Reason: reason}
}

func (a Account) check() error {
	const submit = "Submit"
	switch {
	case a.Key == "":
		return invalid(submit, "Key", "is required")
	case len(a.Key) > maxKey:
		return invalid(submit, "Key", fmt.Sprintf("is longer than %d bytes", maxKey))
	case !utf8.ValidString(a.Key):
		return invalid(submit, "Key", "is not valid UTF-8")
	case !utf8.ValidString(a.Source.Identifier):
		return invalid(submit, "Source.Identifier", "is not valid UTF-8")
	case a.Source.User != "":
		return invalid(submit, "Source.User", "is made by the engine; leave it empty")
	case a.Source.Type == "":
		return invalid(submit, "Source.Type", "is required")
	case a.Source.Type == ricloud.SourceRelayInstance:
		return invalid(submit, "Source.Type",
			"cannot be Relay: a pairing code names no account to look for after a crash")
	case strings.TrimSpace(a.Source.Identifier) == "":
		return invalid(submit, "Source.Identifier",
			"is required: without it a lost login could not be found again")
	case len(a.Poll.DataTypes)+len(a.Poll.InfoTypes)+len(a.Poll.Files) == 0:
		return invalid(submit, "Poll", "asks for nothing: set DataTypes, InfoTypes or Files")
	case a.Every < 0:
		return invalid(submit, "Every", "must not be negative")
	case a.Every > 0 && a.Every < time.Minute:
		return invalid(submit, "Every", "must be at least a minute")
	}
	return nil
}

// ErrStoreFull reports that there is no room for more: nothing was stored, and
// what is stored already goes on. Submit again later.
var ErrStoreFull = fmt.Errorf("ingest: %w", store.ErrFull)

// Submit stores an account, to be brought from a login to acknowledged results
// by whichever process runs. It returns when the account is durable. The same
// account may be submitted again, at every start for instance: nothing happens.
//
// It returns a *ricloud.ParamError for an account that cannot work, and for a
// known key with another source, poll or interval, and ErrStoreFull.
func (e *Engine) Submit(ctx context.Context, a Account) error {
	if err := a.check(); err != nil {
		return err
	}
	if err := a.checkPoll(); err != nil {
		return err
	}
	r := record{Account: a}
	r.step(e.id, Submitted, "")
	value, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(value, new(record)) // such as a year beyond 9999
	}
	if err != nil {
		return invalid("Submit", "Account", "cannot be stored: "+err.Error())
	}
	if len(value) > maxAccount {
		return invalid("Submit", "Account",
			fmt.Sprintf("takes %d bytes as JSON, and at most %d can be stored", len(value), maxAccount))
	}
	full := e.take(ctx, a, len(value))
	switch {
	case full == nil:
		_, err = e.store.Put(ctx, store.Entry{Key: accountPrefix + escape(a.Key), Value: value}, 0)
		if !errors.Is(err, store.ErrConflict) {
			return storeError("Submit", err)
		}
	case !errors.Is(full, ErrStoreFull):
		return full
	}
	known, err := e.load(ctx, a.Key)
	if full != nil && errors.Is(err, ricloud.ErrNotFound) {
		return full
	}
	if err != nil {
		return err
	}
	if !sameJSON(known.Account, a) {
		return invalid("Submit", "Key",
			fmt.Sprintf("%q was submitted before with another source, poll or interval", a.Key))
	}
	return nil
}

// checkPoll names what the client would refuse once the owner of the account was prompted.
func (a Account) checkPoll() error {
	const submit = "Submit"
	files := make([]string, len(a.Poll.Files))
	for i, file := range a.Poll.Files {
		files[i] = string(file)
	}
	for field, list := range map[string][]string{
		"Source.Type": {string(a.Source.Type)}, "Poll.DataTypes": a.Poll.DataTypes,
		"Poll.InfoTypes": a.Poll.InfoTypes, "Poll.Files": files,
	} {
		for _, text := range list {
			switch {
			case !utf8.ValidString(text):
				return invalid(submit, field, "is not valid UTF-8")
			case strings.TrimSpace(text) == "":
				return invalid(submit, field, "is blank")
			}
		}
	}
	switch {
	case !a.Poll.Since.IsZero() && !a.Poll.Until.IsZero() && a.Poll.Until.Before(a.Poll.Since):
		return invalid(submit, "Poll.Until", "must not be before Since")
	case a.Every > maxEvery:
		return invalid(submit, "Every", "must be at most a year")
	}
	return nil
}

func sameJSON(a, b Account) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// stored is a record at its revision.
type stored struct {
	record

	revision uint64
	told     func() // waits for Handlers.Step: nil if there is nothing to wait for
}

// load reads an account's record.
func (e *Engine) load(ctx context.Context, key string) (*stored, error) {
	entry, err := e.store.Get(ctx, accountPrefix+escape(key))
	if err != nil {
		return nil, storeError("the account "+key, err)
	}
	return decodeRecord(entry)
}

func decodeRecord(entry store.Entry) (*stored, error) {
	r := &stored{revision: entry.Revision}
	if err := json.Unmarshal(entry.Value, &r.record); err != nil {
		return nil, fmt.Errorf("ingest: the record %s cannot be read: %w", entry.Key, err)
	}
	clamp(&r.Due, max(lastRetry, loginPause(r.Unmade)))
	clamp(&r.Begun, 0)
	clamp(&r.Read, 0)
	return r, nil
}

// save writes a record if nobody else has written it since it was read.
func (e *Engine) save(ctx context.Context, r *stored) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	revision, err := e.store.Put(ctx,
		store.Entry{Key: accountPrefix + escape(r.Account.Key), Value: value, Revision: r.revision}, 0)
	if err == nil {
		r.revision = revision
	}
	return err
}

func storeError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("ingest: %s was not submitted: %w", what, ricloud.ErrNotFound)
	case errors.Is(err, store.ErrFull):
		return fmt.Errorf("%w (%s: %w)", ErrStoreFull, what, err)
	}
	return fmt.Errorf("ingest: %s: %w", what, err)
}

// Account returns what is known of an account, with its history. Its Reason may
// also be that of a result that is being retried, which Accounts does not read. It
// returns ricloud.ErrNotFound for an account that was not submitted.
func (e *Engine) Account(ctx context.Context, key string) (*Status, error) {
	r, err := e.load(ctx, key)
	if err != nil {
		return nil, err
	}
	status := r.status()
	if status.Reason == "" {
		status.Reason, err = e.retried(ctx, r)
	}
	return status, err
}

// Accounts iterates over the accounts that are in one of the states, or over all
// accounts if no state is given. An account that changes during the iteration
// may be seen before its change, after it, or both.
//
//	for account, err := range engine.Accounts(ctx, ingest.Dead) { … account.Reason … }
func (e *Engine) Accounts(ctx context.Context, states ...State) iter.Seq2[*Status, error] {
	return func(yield func(*Status, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		more := true
		err := e.store.Watch(ctx, accountPrefix, func(entry store.Entry) {
			if !more || entry.Value == nil && entry.Key != "" {
				return
			}
			if entry.Key == "" { // that was all
				more = false
				cancel()
				return
			}
			r, err := decodeRecord(entry)
			if err != nil {
				more = yield(nil, err)
			} else if len(states) == 0 || slices.Contains(states, r.State) {
				more = yield(r.status(), nil)
			}
			if !more {
				cancel()
			}
		})
		if err == nil && more {
			err = context.Cause(ctx)
		}
		if err != nil && more {
			yield(nil, storeError("Accounts", err))
		}
	}
}

// Retry gives a dead letter another chance, from the step that failed. It
// returns a *ricloud.ParamError for an account that is not Dead.
//
// A login whose outcome could not be found is a dead letter too: look at the
// account in the vendor's console first, since Retry logs in again.
func (e *Engine) Retry(ctx context.Context, key string) error {
	for {
		r, err := e.load(ctx, key)
		if err != nil {
			return err
		}
		if r.State != Dead {
			return invalid("Retry", "key", fmt.Sprintf("%q is %s, not dead", key, r.State))
		}
		if err := e.revive(ctx, r); err != nil {
			return storeError("Retry", err)
		}
		r.step(e.id, r.Back, "retried by hand")
		r.Back, r.Reason, r.Failures, r.Codes = "", "", 0, 0
		r.Due, r.FailingSince, r.Begun, r.Looks, r.Unmade = time.Time{}, time.Time{}, time.Time{}, 0, 0
		if err = e.save(ctx, r); !errors.Is(err, store.ErrConflict) {
			return storeError("Retry", err)
		}
	}
}

// Forget removes an account that is Done or Dead from the store, which makes
// room for others. The API keeps what it has: its user, session and results.
// Submitting the key again logs in again. It returns a *ricloud.ParamError for
// an account in any other state.
func (e *Engine) Forget(ctx context.Context, key string) error {
	r, err := e.load(ctx, key)
	if err != nil {
		return err
	}
	if r.State != Done && r.State != Dead {
		return invalid("Forget", "key", fmt.Sprintf("%q is %s, neither done nor dead", key, r.State))
	}
	if err := e.store.Remove(ctx, accountPrefix+escape(key), r.revision); err != nil {
		return storeError("Forget", err)
	}
	for _, open := range r.Open {
		e.removeJobs(ctx, key, open)
	}
	return nil
}
