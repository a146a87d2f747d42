package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// transient reports whether the same request may succeed later.
func transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented:
		return false
	}
	return status >= http.StatusInternalServerError
}

// provesNoAction reports whether an answer of 400 or more proves that the
// server did not act. A 5xx proves nothing, nor does a 408: either may come from a
// proxy while the server behind it works on. Nor does an answer that is not the
// API's own: a proxy or a firewall that inspects answers puts its page in the place
// of one, after the API has acted.
func provesNoAction(status int, body []byte) bool {
	return status < http.StatusInternalServerError && status != http.StatusRequestTimeout &&
		isOfAPI(status, body)
}

// isOfAPI reports whether an answer of 400 or more can be the API's: a JSON object,
// as all its errors are. No document shows the body of a 401 or a 429, which may be
// empty.
func isOfAPI(status int, body []byte) bool {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return status == http.StatusUnauthorized || status == http.StatusTooManyRequests
	}
	return body[0] == '{' && json.Valid(body)
}

// notSent reports whether err proves that no request was sent: no connection
// was made, a proxy refused it, or its TLS handshake failed. delivery knows more
// of a request that may change something.
func notSent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		switch op.Op {
		case "dial", "proxyconnect", socksConnect:
			return true
		}
	}
	_, refused := errors.AsType[*ProxyError](err)
	return refused || badPeer(err) || err != nil && isHandshakeTimeout(err)
}

// isHandshakeTimeout recognises an error of net/http that has no exported type.
func isHandshakeTimeout(err error) bool {
	return strings.HasSuffix(err.Error(), "net/http: TLS handshake timeout")
}

// isRefusedStream recognises the errors of HTTP/2 by which a server says that
// it did not process a request (RFC 9113, 8.7): a stream that it refused, and
// one that came after the last of a GOAWAY. net/http would repeat these itself
// if it could; it then says so around the error, whose type is lost.
func isRefusedStream(err error) bool {
	text := err.Error()
	if inner, ok := strings.CutPrefix(text, "http2: Transport: cannot retry err ["); ok {
		text = inner
	}
	if rest, ok := strings.CutPrefix(text, "stream error: stream ID "); ok {
		rest = strings.TrimLeft(rest, "0123456789")
		return strings.HasPrefix(rest, "; REFUSED_STREAM")
	}
	return strings.HasPrefix(text, "http2: Transport received Server's graceful shutdown GOAWAY") ||
		strings.HasPrefix(text, "http2: Transport received GOAWAY from server ErrCode:")
}

// permanent reports whether another attempt would fail in the same way.
func permanent(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return true
	}
	timeout, _ := errors.AsType[*Timeout](err)
	return Unreachable(err) || errors.Is(err, ErrRedirect) || errors.Is(err, ErrBodyTooLarge) ||
		errors.Is(err, ErrTooLate) || timeout != nil && timeout.Limit == "call"
}

// Unreachable reports whether a retry would not reach the server either: its
// certificate is not trusted, it does not speak TLS, or a proxy refuses the way to
// it.
func Unreachable(err error) bool { return badPeer(err) || proxyRefuses(err) }

// badPeer reports whether the other end is not the TLS server it should be.
func badPeer(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return certificate || record || isCertificate(err) || errors.Is(err, http.ErrSchemeMismatch)
}

// isCertificate recognises the errors of transports that verify certificates
// themselves.
func isCertificate(err error) bool {
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return authority || host || invalid
}

// retryAfter reads the hint of a 429 or 503, which is a number of seconds or a
// date. A date is measured against the Date header, if there is one. A hint too
// large for a Duration is the largest Duration; a hint that does not parse, or is
// in the past, is 0.
func retryAfter(status int, header http.Header) time.Duration {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	hint := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(hint, 10, 64); err == nil ||
		errors.Is(err, strconv.ErrRange) {
		if seconds > uint64(math.MaxInt64/time.Second) {
			return math.MaxInt64
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(hint)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, date.Sub(now))
}
