package watch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Verdict is what an error means for the waits.
type Verdict int

// The verdicts.
const (
	Retry     Verdict = iota // an outage: a later read may succeed
	Unsent                   // nothing was sent, because no turn came
	TooLarge                 // the answer was larger than the client accepts
	Missing                  // the API says that there is no such resource
	Final                    // no read of this resource will succeed
	Refused                  // the token was refused; final when it happens again
	Permanent                // no read of any resource will succeed
)

// OfAnswer returns the verdict of an answer that is an error. code is the error in
// its body, if it has one. An answer without a code does not come from the API:
// proxies, firewalls and maintenance pages answer with any status.
func OfAnswer(status int, code string, body []byte) Verdict {
	switch {
	case status == http.StatusUnauthorized:
		text := strings.TrimSpace(string(body))
		if text == "" || text[0] == '{' { // no document shows the body of a 401
			return Refused
		}
		return Retry
	case !isCode(code), status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return Retry
	case status == http.StatusNotFound, status == http.StatusGone:
		return Missing
	}
	return Final
}

// isCode reports whether an error in a body can be a code of the API, which is one word
// in lower case, such as "missing-scope". Gateways write "Not Found".
func isCode(code string) bool {
	return code != "" && !strings.ContainsFunc(code, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsUpper(r)
	})
}

// OfFailure returns the verdict of a request that got no answer, because of err.
func OfFailure(err error) Verdict {
	switch {
	case errors.Is(err, transport.ErrTooLate):
		return Unsent
	case transport.ProxyRefusesLogin(err): // as with a token, the login may be in rotation
		return Refused
	case isCertificateError(err):
		return Permanent
	}
	return Retry
}

// isCertificateError reports whether the server's certificate is not valid.
func isCertificateError(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return verification || authority || host || invalid
}
