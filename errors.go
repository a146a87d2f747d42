package ricloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// ErrorCode is a code the API gives for what went wrong: in the body of an
// error answer, in the error field of a session, task or poll. The set is
// open: the API may send codes this SDK does not know.
type ErrorCode string

// The codes the contract names. It says that there are codes for a wrong
// password and for a locked account, but not what they are.
const (
	CodeInvalidBody       ErrorCode = "invalid-body"
	CodeInvalidParameter  ErrorCode = "invalid-parameter"
	CodeUnconfigured      ErrorCode = "unconfigured"
	CodeMissingScope      ErrorCode = "missing-scope"
	CodeLimitExceeded     ErrorCode = "limit-exceeded"
	CodeSessionExpired    ErrorCode = "session-expired"
	CodeTwoFactorRequired ErrorCode = "code-required"
	CodePairingInvalid    ErrorCode = "code-invalid"
)

// Errors by meaning, for errors.Is. The detail is in *Error, *StateError,
// *CallError or *DecodeError, for errors.AsType.
var (
	ErrUnauthorized     = errors.New("ricloud: the token is missing or not valid")
	ErrForbidden        = errors.New("ricloud: not permitted")
	ErrNotFound         = errors.New("ricloud: not found")
	ErrRateLimited      = errors.New("ricloud: rate limited")
	ErrServer           = errors.New("ricloud: server error")
	ErrInvalidBody      = errors.New("ricloud: invalid body")
	ErrInvalidParameter = errors.New("ricloud: invalid parameter")
	ErrUnconfigured     = errors.New("ricloud: the organisation lacks configuration")
	ErrMissingScope     = errors.New("ricloud: missing scope")
	ErrLimitExceeded    = errors.New("ricloud: a permission limit would be exceeded")
	ErrSessionExpired   = errors.New("ricloud: the session has expired; create a new one")
	ErrCodeRequired     = errors.New("ricloud: a two-factor code is required") // also after a wrong one
	ErrCodeInvalid      = errors.New("ricloud: the pairing code is not valid") // Relay's
	ErrTasksFailed      = errors.New("ricloud: tasks of the poll did not succeed")
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

// Error is an answer of the API with a status of 400 or more. errors.Is finds
// its meaning both by code and by status: a 403 with the code missing-scope is
// ErrMissingScope and ErrForbidden.
type Error struct {
	Operation  string // as it is called: "Sessions.Create"
	StatusCode int
	Code       ErrorCode       // empty where the body was not the API's
	Message    string          // the API's words
	Params     json.RawMessage // what was wrong with which parameter, in the API's shape
	RetryAfter time.Duration   // the server's hint; 0: none
	Body       Raw             // the body, at most 64 KiB, with the secrets that were sent masked
	Attempts   int             // how many requests were made
}

// Error says what was tried and what came back.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: %s: %d %s", e.Operation, e.StatusCode, http.StatusText(e.StatusCode))
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", e.Code)
	}
	switch {
	case e.Message != "":
		fmt.Fprintf(&b, ": %s", e.Message)
	case e.Code == "" && len(e.Body) > 0:
		fmt.Fprintf(&b, ": not an answer of the API: %q", snapshot(e.Body))
	}
	if len(e.Params) > 0 {
		fmt.Fprintf(&b, " (params %s)", bounded(e.Params)) // what was sent in secret is masked in it
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, " (retry after %s)", e.RetryAfter)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (after %d attempts)", e.Attempts)
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
		return e.StatusCode == http.StatusNotFound
	case ErrRateLimited:
		return e.StatusCode == http.StatusTooManyRequests
	case ErrServer:
		return e.StatusCode >= http.StatusInternalServerError
	}
	return target == e.Code.meaning()
}

// newError reads an error answer. A body that is not the API's keeps its
// status and a bounded snapshot.
func newError(operation string, resp *transport.Response) *Error {
	e := &Error{
		Operation:  operation,
		StatusCode: resp.StatusCode,
		Body:       resp.Body,
		RetryAfter: resp.RetryAfter,
		Attempts:   len(resp.Attempts),
	}
	var body map[string]json.RawMessage
	if json.Unmarshal(resp.Body, &body) != nil {
		return e
	}
	_ = json.Unmarshal(body["error"], (*string)(&e.Code))
	_ = json.Unmarshal(body["message"], &e.Message)
	if params := body["params"]; string(params) != "null" {
		e.Params = params
	}
	return e
}

// CallError is a call that ended without a usable answer: no connection, a
// timeout, a cancelled context, or a create answered with a server error,
// which proves nothing. It unwraps to the cause (for an ended context, the
// context's cause) and to the last *Error seen, if any.
type CallError struct {
	Operation string
	Attempts  []Attempt
	Duration  time.Duration
	Err       error // what ended the call

	last         *Error // seen before Err, and not Err
	maybeApplied bool
	replayable   bool
}

// MaybeApplied reports whether the API may have acted on the request although
// no usable answer came. Before a create is sent again, look for what it may
// have created.
func (e *CallError) MaybeApplied() bool { return e.maybeApplied }

// Error says what was tried, what ended it and whether it may have happened.
func (e *CallError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: %s: %v", e.Operation, trimPrefix(e.Err, e.Operation))
	if n := len(e.Attempts); n > 0 {
		fmt.Fprintf(&b, " (attempt %d, after %s)", n, e.Duration.Round(time.Millisecond))
	}
	if e.last != nil {
		fmt.Fprintf(&b, "; the last answer was: %v", trimPrefix(e.last, e.Operation))
	}
	if e.maybeApplied {
		fmt.Fprintf(&b, "; %s", e.advice())
	}
	return b.String()
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
	case e.replayable:
		return "it may have happened all the same, and is safe to repeat"
	case verb == "Create":
		return fmt.Sprintf("it may have been created all the same: look for it with %s.List, newest first, before creating another", service)
	case verb == "Rotate":
		return "the key may have been rotated all the same: read its token with Keys.Get under another key"
	}
	return "it may have happened all the same: look before trying again"
}

func trimPrefix(err error, operation string) string {
	return strings.TrimPrefix(err.Error(), "ricloud: "+operation+": ")
}

// DecodeError is an answer that does not fit its Go type.
type DecodeError struct {
	Operation string
	Path      string // where in the JSON, as "data[3].source.user"; empty: the document
	Snapshot  string // what stands there: bounded, cut where a secret may begin
	Err       error
}

// Error names the operation, the path and what stands there.
func (e *DecodeError) Error() string {
	at := e.Path
	if at == "" {
		at = "the body"
	}
	return fmt.Sprintf("ricloud: %s: %s does not decode: %v; it reads %s", e.Operation, at, e.Err, e.Snapshot)
}

// Unwrap returns the decoder's error.
func (e *DecodeError) Unwrap() error { return e.Err }

// StateError is a resource that ended in failure, or a poll that completed
// although some of its tasks did not succeed.
type StateError struct {
	Resource  string // "session", "poll", "task", "subscription", "webhook_config", "storage_config"
	ID        ID
	State     string
	Code      ErrorCode // why, where the API says
	Failed    []ID      // a poll's failed tasks
	Suspended []ID      // a poll's suspended tasks
	Detail    string    // more, in words
}

// Error says which resource ended how and why.
func (e *StateError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ricloud: %s %s is %s", e.Resource, e.ID, e.State)
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", e.Code)
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
		fmt.Fprintf(&b, "; %s", e.Detail)
	}
	return b.String()
}

// joinIDs lists the first ten.
func joinIDs(ids []ID) string {
	var b strings.Builder
	for i, id := range ids[:min(len(ids), 10)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(id))
	}
	if len(ids) > 10 {
		b.WriteString(", …")
	}
	return b.String()
}

// Is reports whether e means target: ErrTasksFailed, ErrSessionExpired,
// ErrCodeRequired and the other codes.
func (e *StateError) Is(target error) bool {
	switch target {
	case ErrTasksFailed:
		return len(e.Failed)+len(e.Suspended) > 0
	case ErrSessionExpired:
		return e.Code == CodeSessionExpired || e.Resource == "session" && e.State == string(SessionExpired)
	}
	return target == e.Code.meaning()
}

// AcknowledgeError is an AcknowledgeAll that did not reach all results.
type AcknowledgeError struct {
	Remaining []ID  // not known to be acknowledged, in the order they were given
	Err       error // the last failure
}

// Error says how many remain and why.
func (e *AcknowledgeError) Error() string {
	return fmt.Sprintf("ricloud: Results.AcknowledgeAll: %d results remain: %s: %v; acknowledging again does no harm",
		len(e.Remaining), joinIDs(e.Remaining), trimPrefix(e.Err, "Results.AcknowledgeAll"))
}

// Unwrap returns the last failure.
func (e *AcknowledgeError) Unwrap() error { return e.Err }

// ParamError is a parameter that was refused before any request was made.
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

// invalid is a ParamError without its operation, which do fills in.
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
