package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/reincubate/ricloud-go/internal/download"
)

// ProxyError is the answer of an HTTP proxy that refused a CONNECT. Nothing was
// sent to the API. It leaves out the proxy's words, which may repeat its password.
type ProxyError struct{ StatusCode int }

// Error names the status.
func (e *ProxyError) Error() string {
	text := fmt.Sprintf("the proxy refused to connect: %d %s", e.StatusCode,
		http.StatusText(e.StatusCode))
	if e.StatusCode == http.StatusProxyAuthRequired {
		text += " (it needs another user or password)"
	}
	return text
}

// proxyAnswered is http.Transport's OnProxyConnectResponse.
func proxyAnswered(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &ProxyError{answer.StatusCode}
}

// connectRefusal returns err, or the ProxyError that it stands for. An http.Transport
// of the caller's that has no OnProxyConnectResponse keeps only the words of the status,
// so that this knows the usual ones. No other error of an http.Transport has them as
// its text. Another kind of transport may say them of an answer of the API.
func connectRefusal(bare http.RoundTripper, err error) error {
	t, ok := bare.(*http.Transport)
	if !ok || t.Proxy == nil {
		return err
	}
	words := download.WithoutURLError(err).Error()
	for status := http.StatusCreated; words != "" && status < maxStatus; status++ {
		if http.StatusText(status) == words {
			return &ProxyError{status}
		}
	}
	return err
}

// maxStatus is above every status.
const maxStatus = 600

// socksConnect is the Op of the *net.OpError of a SOCKS5 proxy.
const socksConnect = "socks connect"

// proxyRefuses reports whether a proxy will refuse the next attempt, too. Its
// answer to CONNECT counts like the same status from the API: a failure of the
// proxy (502, 503) may pass, but its rules (403) and a wrong password (407) stay
// as they are.
func proxyRefuses(err error) bool {
	if proxy, ok := errors.AsType[*ProxyError](err); ok {
		return !transient(proxy.StatusCode)
	}
	return ProxyRefusesLogin(err) || socksReason(err) == "connection not allowed by ruleset"
}

// ProxyRefusesLogin reports whether a proxy wants another user or password.
func ProxyRefusesLogin(err error) bool {
	proxy, _ := errors.AsType[*ProxyError](err)
	switch socksReason(err) {
	case "no acceptable authentication methods", "username/password authentication failed":
		return true
	}
	return proxy != nil && proxy.StatusCode == http.StatusProxyAuthRequired
}

// socksReason returns why a SOCKS5 proxy did not connect: net/http's own words,
// because the error has no type. It is empty for other errors.
func socksReason(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != socksConnect || op.Err == nil {
		return ""
	}
	return strings.TrimPrefix(op.Err.Error(), "unknown error ")
}
