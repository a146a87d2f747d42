package ricloudtest

import (
	"errors"
	"maps"
	"net/http"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

// The error codes that the contract names.
const (
	codeInvalidBody      = "invalid-body"
	codeInvalidParameter = "invalid-parameter"
	codeUnconfigured     = "unconfigured"
	codeMissingScope     = "missing-scope"
	codeLimitExceeded    = "limit-exceeded"
	codeSessionExpired   = "session-expired"
	codeRequired         = "code-required"
	codeInvalid          = "code-invalid"
)

// Assumption (error-codes): the contract describes these errors without their codes, so the names
// are the sandbox's own.
const (
	codeUnauthorised      = "unauthorised"
	codeForbidden         = "forbidden"
	codeNotFound          = "not-found"
	codeMethodNotAllowed  = "method-not-allowed"
	codeRateLimited       = "rate-limited"
	codeInternal          = "internal-error"
	codeCredentials       = "credentials-invalid"
	codeLocked            = "source-locked"
	codeSourceDeactivated = "source-deactivated"
	codeTestFailed        = "test-failed"
	codePublishFailed     = "publish-failed"
)

// apiError is an error answer: a flat object with the code under "error".
type apiError struct {
	status  int
	code    string
	message string
	params  map[string]string
}

// Error returns the code and the message.
func (e *apiError) Error() string { return e.code + ": " + e.message }

func (e *apiError) body() object {
	body := object{"error": e.code, "message": e.message}
	if e.params != nil {
		body["params"] = maps.Clone(e.params)
	}
	return body
}

// Assumption (error-params): "params" maps the dotted name of each parameter to a sentence.
func invalid(param, why string) *apiError {
	return &apiError{
		http.StatusBadRequest, codeInvalidParameter, "The request has invalid parameters.",
		map[string]string{param: why},
	}
}

// Assumption (error-statuses): the contract gives no status for most codes. The sandbox answers 400
// where the request or the state of a resource is wrong, and 403 where something is not allowed.
func badRequest(code, message string) *apiError {
	return &apiError{http.StatusBadRequest, code, message, nil}
}

func forbidden(code, message string) *apiError {
	return &apiError{http.StatusForbidden, code, message, nil}
}

func notFound(what string) *apiError {
	return &apiError{http.StatusNotFound, codeNotFound, "There is no such " + what + ".", nil}
}

func tooMany(message string) *apiError {
	return &apiError{http.StatusTooManyRequests, codeRateLimited, message, nil}
}

// asAPIError turns the errors of a collection into answers.
func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*collection.ParamError](err); ok {
		return invalid(e.Name, e.Why)
	}
	if errors.Is(err, collection.ErrNoItem) {
		return notFound("resource")
	}
	return &apiError{http.StatusInternalServerError, codeInternal, err.Error(), nil}
}
