package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// ErrorCode is the API's code for what went wrong. The body of an error answer
// has one, and so has the error field of a session, a task or a poll. The API
// may send codes that this package does not know.
type ErrorCode string

// UnmarshalJSON reads a code. No document shows an error of another type than a
// string, but one must not pass for none: of an object it reads the "code", the
// "error" or the "type", and any other value is kept as the JSON that it is. null,
// false, 0 and what is empty are no error.
func (c *ErrorCode) UnmarshalJSON(b []byte) error {
	*c = ErrorCode(wire.Code(b))
	return nil
}

// The codes that the API's documents name (see docs/contract.md). The API also
// has codes for a wrong password and for a locked account, but no document
// names them. A wrong password therefore shows as a session that failed with
// another code, in StateError.Code, and a locked account as ErrSourceLocked.
const (
	CodeInvalidBody       ErrorCode = "invalid-body"
	CodeInvalidParameter  ErrorCode = "invalid-parameter"
	CodeUnconfigured      ErrorCode = "unconfigured"
	CodeMissingScope      ErrorCode = "missing-scope"
	CodeLimitExceeded     ErrorCode = "limit-exceeded"
	CodeSessionExpired    ErrorCode = "session-expired"
	CodeTwoFactorRequired ErrorCode = "code-required" // also after a wrong two-factor code
	CodePairingInvalid    ErrorCode = "code-invalid"  // the pairing code of Relay
)

// Errors by meaning, for errors.Is. The details are in *Error, *StateError,
// *CallError and *DecodeError, for errors.AsType.
var (
	// ErrUnauthorized means that the token is missing, wrong or revoked. Any
	// call returns it, and waits end with it. Make a new Client with a valid
	// token.
	ErrUnauthorized = errors.New("ricloud: the token is missing or not valid")

	// ErrForbidden means that the token does not permit the call. Any call
	// returns it. Ask for the permission that the message names.
	ErrForbidden = errors.New("ricloud: not permitted")

	// ErrNotFound means that no resource has the ID that was given, or none has
	// it any more. Calls that take an ID return it.
	ErrNotFound = errors.New("ricloud: not found")

	// ErrRateLimited means that the API answered 429 until the retries or the
	// time of the call were used up, or that a call was not sent because of an
	// earlier 429. Any call returns it. Call again later, or set WithRateLimit.
	ErrRateLimited = errors.New("ricloud: rate limited")

	// ErrServer means that the API answered with a status of 500 or more until
	// the retries were used up. Any call returns it. Call again later; before
	// a create is repeated, check CallError.MaybeApplied.
	ErrServer = errors.New("ricloud: server error")

	// ErrInvalidBody means that the API could not parse the request. It points
	// to a defect of this package, or of a body given to Client.Call.
	ErrInvalidBody = errors.New("ricloud: invalid body")

	// ErrInvalidParameter means that the API refused a parameter. Creates,
	// updates and lists return it. Error.Params says which one and why.
	ErrInvalidParameter = errors.New("ricloud: invalid parameter")

	// ErrUnconfigured means that the organisation lacks configuration, such as
	// a storage config. Sessions.Create and Polls.Create return it. The message
	// says what is missing.
	ErrUnconfigured = errors.New("ricloud: the organisation lacks configuration")

	// ErrMissingScope means that the organisation, the key or the user lacks a
	// scope that the call needs. Creates return it. Permissions holds the scopes.
	ErrMissingScope = errors.New("ricloud: missing scope")

	// ErrLimitExceeded means that the call would exceed a limit of the
	// permissions. Creates return it. Raise the limit, or wait for its period
	// to end.
	ErrLimitExceeded = errors.New("ricloud: a permission limit would be exceeded")

	// ErrSessionExpired means that the session has expired. Polls.Create,
	// Subscriptions.Create and the waits for a session return it. Create a new
	// session.
	ErrSessionExpired = errors.New("ricloud: the session has expired; create a new one")

	// ErrCodeRequired means that the account asks for a two-factor code, or
	// that the code was wrong: the API does not tell these apart, see
	// ErrCodeRejected. Sessions.Wait and Sessions.Login return it. Log in again
	// with password and code; Sessions.Login does this when given a function
	// that asks for the code.
	ErrCodeRequired = errors.New("ricloud: a two-factor code is required")

	// ErrCodeRejected means that a two-factor code was sent and the API asks
	// for one again: the code was wrong or too old. Sessions.Login returns it,
	// together with ErrCodeRequired.
	ErrCodeRejected = errors.New("ricloud: the two-factor code was not accepted")

	// ErrCodeInvalid means that the pairing code of a Relay instance is not
	// valid. Sessions.Wait and Sessions.Login return it. Ask for a new pairing
	// code.
	ErrCodeInvalid = errors.New("ricloud: the pairing code is not valid")

	// ErrSourceLocked means that a session failed and its source is locked: the
	// third party has locked the account until its owner unlocks it.
	// Sessions.Wait and Sessions.Login return it. Do not log in again until
	// then.
	ErrSourceLocked = errors.New("ricloud: the account is locked until its owner unlocks it")

	// ErrTasksFailed means that a poll ended and some of its tasks failed or
	// are suspended, or that it completed with errors. Polls.Wait, Polls.Watch
	// and Polls.Results return it. The results of the other tasks can be used.
	ErrTasksFailed = errors.New("ricloud: some tasks of the poll did not succeed")
)

// meaning returns the sentinel of a code, nil for one that has none.
func (c ErrorCode) meaning() error {
	switch c {
	case CodeInvalidBody:
		return ErrInvalidBody
	case CodeInvalidParameter:
		return ErrInvalidParameter
	case CodeUnconfigured:
		return ErrUnconfigured
	case CodeMissingScope:
		return ErrMissingScope
	case CodeLimitExceeded:
		return ErrLimitExceeded
	case CodeSessionExpired:
		return ErrSessionExpired
	case CodeTwoFactorRequired:
		return ErrCodeRequired
	case CodePairingInvalid:
		return ErrCodeInvalid
	}
	return nil
}

// Error is an answer of the API with a status of 400 or more. errors.Is matches
// its meaning by code and by status: a 403 with the code missing-scope is
// ErrMissingScope and ErrForbidden.
type Error struct {
	Operation  string          // as it is written in Go: "Sessions.Create"
	StatusCode int             // 400 or more
	Code       ErrorCode       // empty when the body is not the API's
	Message    string          // the API's words, on one line, at most 1 KiB
	Params     json.RawMessage // which parameter is wrong and why, in the API's form
	RetryAfter time.Duration   // how long the API asks to wait; 0: it does not say
	Body       Raw             // at most 64 KiB; secrets that were sent and queries of URLs are masked
	Attempts   []Attempt       // the requests that were made
}

// Limits on what an error repeats, in bytes.
const (
	maxMessage = 1 << 10 // in Error.Message
	maxQuote   = 200     // of one value from outside, in a text
	maxWord    = 64      // of a code, a state or an ID, in a text
)

// quote returns text from outside as an error may print it: on one line,
// without control characters, and short.
func quote[S ~string | ~[]byte](text S, limit int) string {
	return transport.OneLine(string(text), limit)
}

// Error names the operation, the answer, and what the API said.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: %s: %d %s", quote(e.Operation, maxQuote), e.StatusCode,
		http.StatusText(e.StatusCode))
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", quote(e.Code, maxWord))
	}
	switch {
	case e.Message != "":
		fmt.Fprintf(&b, ": %s", quote(e.Message, maxQuote))
	case e.Code == "" && len(e.Body) > 0:
		fmt.Fprintf(&b, ": not an answer of the API: %q", quote(transport.Snapshot(e.Body), maxQuote))
	}
	if len(e.Params) > 0 {
		// Secrets that were sent are masked in the params.
		fmt.Fprintf(&b, " (params %s)", quote(e.Params, maxQuote))
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, " (retry after %s)", e.RetryAfter)
	}
	if n := len(e.Attempts); n > 1 {
		fmt.Fprintf(&b, " (after %d attempts)", n)
	}
	return b.String()
}

// Is reports whether e means target.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrUnauthorized:
		return e.StatusCode == http.StatusUnauthorized
	case ErrForbidden:
		return e.StatusCode == http.StatusForbidden
	case ErrNotFound:
		return e.StatusCode == http.StatusNotFound || e.StatusCode == http.StatusGone
	case ErrRateLimited:
		return e.StatusCode == http.StatusTooManyRequests
	case ErrServer:
		return e.StatusCode >= http.StatusInternalServerError
	}
	return target == e.Code.meaning()
}

// newError reads an error answer. Of a body that is not the API's, it keeps
// the status and the body.
func newError(operation string, resp *transport.Response) *Error {
	e := &Error{
		Operation:  operation,
		StatusCode: resp.StatusCode,
		Body:       resp.Body,
		RetryAfter: resp.RetryAfter,
		Attempts:   attempts(resp.Attempts),
	}
	var body map[string]json.RawMessage
	if json.Unmarshal(resp.Body, &body) != nil {
		return e
	}
	var message string
	_ = json.Unmarshal(body["error"], (*string)(&e.Code))
	_ = json.Unmarshal(body["message"], &message)
	e.Message = quote(transport.WithoutQueries(message), maxMessage)
	if params := body["params"]; string(params) != "null" {
		e.Params = params
	}
	return e
}

// CallError reports a call without a usable answer: there was no connection, a
// timeout, a context that ended, a create that was answered with a server
// error or by a proxy in the API's place, or a successful answer that cannot be
// decoded. It unwraps to what ended the call (for an ended context, the context's
// cause and its error) and to the last *Error that the API answered, if any.
type CallError struct {
	Operation string
	// Attempts are the requests that were tried: the first and each retry. They
	// include one that found no connection and one that the context ended. A
	// redirect that is followed is part of its attempt; the wait for a turn is
	// part of none. Attempts is empty if the call never had a turn, and in the
	// errors of methods that make several calls, such as Wait.
	Attempts []Attempt
	Duration time.Duration
	Err      error // what ended the call

	last         *Error // seen before Err, and not Err
	maybeApplied bool
	repeatable   bool
	notSent      bool
}

// MaybeApplied reports whether the API may have acted on the request. If so,
// look for what the call may have created before you repeat it.
func (e *CallError) MaybeApplied() bool { return e.maybeApplied }

// Error says what ended the call, and what to do when the outcome is unknown.
// It says "not sent" if it is proven that no attempt was sent: none had a turn,
// or there was no connection because of DNS, the dial, a proxy or the TLS
// handshake. Such a create did not happen and can be repeated.
func (e *CallError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: %s: ", quote(e.Operation, maxQuote))
	if e.notSent {
		b.WriteString("not sent: ")
	}
	b.WriteString(quote(trimPrefix(e.Err, e.Operation), 2*maxQuote))
	if n := len(e.Attempts); n > 0 {
		fmt.Fprintf(&b, " (attempt %d, after %s)", n, e.Duration.Round(time.Millisecond))
	}
	if e.last != nil {
		fmt.Fprintf(&b, "; the last answer was: %s", quote(trimPrefix(e.last, e.Operation), maxQuote))
	} else if failed := e.failedBefore(); failed != nil {
		fmt.Fprintf(&b, "; the attempt before failed: %s", quote(failed.Error(), maxQuote))
	}
	if e.maybeApplied {
		fmt.Fprintf(&b, "; %s", e.advice())
	}
	return b.String()
}

// failedBefore returns why the last attempt failed that did not end with the
// call's time, or nil if that is what ended the call.
func (e *CallError) failedBefore() error {
	for _, a := range slices.Backward(e.Attempts) {
		switch {
		case a.Err == nil || errors.Is(a.Err, context.DeadlineExceeded) ||
			errors.Is(a.Err, context.Canceled):
		case e.Err != nil && a.Err.Error() == e.Err.Error():
			return nil
		default:
			return a.Err
		}
	}
	return nil
}

// Unwrap returns what ended the call and the last *Error seen.
func (e *CallError) Unwrap() []error {
	if e.last != nil {
		return []error{e.Err, e.last}
	}
	return []error{e.Err}
}

// advice says what a call of unknown outcome may have done and what to do.
func (e *CallError) advice() string {
	service, verb, _ := strings.Cut(e.Operation, ".")
	switch {
	case e.repeatable:
		return "the request may have been applied; it is safe to repeat"
	case e.Operation == "Sessions.Create":
		return "it may have been created: look for it with Sessions.Find before you create another"
	case verb == "Create":
		return fmt.Sprintf("it may have been created: "+
			"look for it with %s.List, newest first, before you create another", service)
	case verb == "Rotate":
		return "the key may have been rotated: read its token with Keys.Get under another key"
	}
	return "the request may have been applied: check before you repeat it"
}

func trimPrefix(err error, operation string) string {
	return strings.TrimPrefix(causeText(err), "ricloud: "+operation+": ")
}

// causeText is the text of the cause of an error. A test of the caller's may
// have made the error without one.
func causeText(err error) string {
	if err == nil {
		return "unknown cause"
	}
	return err.Error()
}

// DecodeError reports an answer that does not have the form of its Go type.
type DecodeError struct {
	Operation string
	Path      string // the place in the JSON, as "data[3].source.user"; empty: the whole body
	Snapshot  string // the value there, at most 512 bytes, cut where a secret may begin
	Err       error
}

// Error names the operation, the place in the JSON and the value there.
func (e *DecodeError) Error() string {
	at := "the body"
	if e.Path != "" {
		at = quote(e.Path, maxQuote)
	}
	text := fmt.Sprintf("ricloud: %s: cannot decode %s: %s",
		quote(e.Operation, maxQuote), at, quote(e.reason(), maxQuote))
	if e.Snapshot == "" {
		return text
	}
	return text + "; the value is " + quote(e.Snapshot, maxQuote)
}

func (e *DecodeError) reason() string {
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](e.Err); ok {
		return fmt.Sprintf("got %s, want %s", mismatch.Value, mismatch.Type)
	}
	return causeText(e.Err)
}

// Unwrap returns the decoder's error.
func (e *DecodeError) Unwrap() error { return e.Err }

// StateError reports a resource that ended in failure, or a poll that completed
// although some of its tasks did not succeed.
type StateError struct {
	Resource  string // "session", "poll", "task", "subscription", "webhook_config", "storage_config"
	ID        ID
	State     string
	Code      ErrorCode // why, where the API says
	Failed    []ID      // a poll's failed tasks
	Suspended []ID      // a poll's suspended tasks
	Detail    string    // more details, in words

	SourceState SourceState // a session's: SourceLocked means ErrSourceLocked
	CodeSent    bool        // a two-factor code was sent, see ErrCodeRejected
}

// Error says which resource ended how and why.
func (e *StateError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: %s %s is %s", e.Resource, quote(e.ID, maxWord), quote(e.State, maxWord))
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", quote(e.Code, maxWord))
	}
	switch {
	case e.Is(ErrSourceLocked):
		b.WriteString("; the account is locked until its owner unlocks it")
	case e.Is(ErrCodeRejected):
		b.WriteString("; the code that was sent was not accepted")
	}
	for _, part := range []struct {
		name  string
		tasks []ID
	}{{"failed", e.Failed}, {"suspended", e.Suspended}} {
		if len(part.tasks) > 0 {
			fmt.Fprintf(&b, "; %s tasks: %s", part.name, joinIDs(part.tasks))
		}
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, "; %s", quote(e.Detail, maxQuote))
	}
	return b.String()
}

// joinIDs lists the first ten, and counts those that came without an ID.
func joinIDs(ids []ID) string {
	const most = 10
	var words []string
	unnamed := 0
	for _, id := range ids {
		switch {
		case id == "":
			unnamed++
		case len(words) < most:
			words = append(words, quote(id, maxWord))
		}
	}
	if len(ids)-unnamed > most {
		words = append(words, "…")
	}
	if unnamed > 0 {
		words = append(words, fmt.Sprintf("%d without an ID", unnamed))
	}
	return strings.Join(words, ", ")
}

// Is reports whether e means target: ErrTasksFailed, ErrSessionExpired,
// ErrSourceLocked, ErrCodeRejected, or the meaning of its code.
func (e *StateError) Is(target error) bool {
	switch target {
	case ErrTasksFailed:
		return len(e.Failed)+len(e.Suspended) > 0 ||
			e.Resource == "poll" && e.State == string(PollCompleted)
	case ErrSourceLocked:
		return e.SourceState == SourceLocked
	case ErrCodeRejected:
		return e.CodeSent && e.Code == CodeTwoFactorRequired
	case ErrSessionExpired:
		return e.Code == CodeSessionExpired ||
			e.Resource == "session" && e.State == string(SessionExpired)
	}
	return target == e.Code.meaning()
}

// AcknowledgeError reports an AcknowledgeAll that did not reach all results.
type AcknowledgeError struct {
	Remaining []ID  // not known to be acknowledged, in the order they were given
	Err       error // the last failure
}

// Error says how many results remain and why.
func (e *AcknowledgeError) Error() string {
	return fmt.Sprintf("ricloud: Results.AcknowledgeAll: %d results remain: %s: %s; it is safe to "+
		"acknowledge again",
		len(e.Remaining), joinIDs(e.Remaining), trimPrefix(e.Err, "Results.AcknowledgeAll"))
}

// Unwrap returns the last failure.
func (e *AcknowledgeError) Unwrap() error { return e.Err }

// ParamError reports a parameter or an option that was refused before any
// request was made.
type ParamError struct {
	Operation string
	Field     string // as it is written in Go: "Source.User"
	Reason    string
}

// Error names the operation and the field.
func (e *ParamError) Error() string {
	if e.Operation == "" {
		return fmt.Sprintf("ricloud: %s %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("ricloud: %s: %s %s", e.Operation, e.Field, e.Reason)
}

// invalid returns a ParamError without its operation, which send fills in.
func invalid(field, reason string) error { return &ParamError{Field: field, Reason: reason} }

// forOperation fills in the operation of a ParamError.
func forOperation(operation string, err error) error {
	if p, ok := errors.AsType[*ParamError](err); ok {
		p.Operation = operation
	}
	return err
}

// required returns an error for the first name whose value is empty.
func required(pairs ...string) error {
	for ; len(pairs) > 1; pairs = pairs[2:] {
		if pairs[1] == "" {
			return invalid(pairs[0], "is required")
		}
	}
	return nil
}
