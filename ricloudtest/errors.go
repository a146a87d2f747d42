package ricloudtest

import (
	"maps"
	"net/http"
)

// The error codes the contract names, and those it leaves open.
const (
	codeInvalidBody      = "invalid-body"
	codeInvalidParameter = "invalid-parameter"
	codeUnconfigured     = "unconfigured"
	codeMissingScope     = "missing-scope"
	codeLimitExceeded    = "limit-exceeded"
	codeSessionExpired   = "session-expired"
	codeRequired         = "code-required"
	codeInvalid          = "code-invalid"

	// Assumption: the names of these are the sandbox's own.
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

// apiError is an error answer: flat, with the code under "error".
type apiError struct {
	status  int
	code    string
	message string
	params  map[string]string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func (e *apiError) body() object {
	body := object{"error": e.code, "message": e.message}
	if e.params != nil {
		body["params"] = maps.Clone(e.params)
	}
	return body
}

func invalid(param, why string) *apiError {
	return &apiError{http.StatusBadRequest, codeInvalidParameter, "The request has invalid parameters.", map[string]string{param: why}}
}

// Assumption: the contract gives no status for these; 400 for what the
// request or the state is wrong about, 403 for what it may not do.
func badRequest(code, message string) *apiError {
	return &apiError{http.StatusBadRequest, code, message, nil}
}

func forbidden(code, message string) *apiError {
	return &apiError{http.StatusForbidden, code, message, nil}
}

func notFound(what string) *apiError {
	return &apiError{http.StatusNotFound, codeNotFound, "There is no such " + what + ".", nil}
}
