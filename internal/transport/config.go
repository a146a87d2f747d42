package transport

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/reincubate/ricloud-go/internal/download"
)

// The limits of a call whose Config leaves them zero.
const (
	// DefaultAttemptTimeout is ample for an API that answers in well under a
	// second, and short enough that a dead server is tried a second time.
	DefaultAttemptTimeout = 30 * time.Second
	// DefaultCallTimeout leaves room for the longest hint that is waited for
	// and two whole attempts.
	DefaultCallTimeout = 2 * time.Minute
	// DefaultStallTimeout ends a body that has gone silent, not one that is slow.
	DefaultStallTimeout = 30 * time.Second
	// DefaultMaxRetries outlasts a restart of the server: the waits take about
	// four seconds on average.
	DefaultMaxRetries = 4
	// DefaultMinRetryWait is the ceiling of the first back-off; it doubles each time.
	DefaultMinRetryWait = 500 * time.Millisecond
	// DefaultMaxRetryWait is the ceiling of every back-off.
	DefaultMaxRetryWait = 30 * time.Second
	// DefaultMaxRetryAfter is the longest Retry-After that is waited for: a
	// caller told to come back in an hour wants to know now.
	DefaultMaxRetryAfter = time.Minute
	// DefaultMaxBody is far above a list page of 1,000 items, and far below
	// what a server's mistake could make a process hold.
	DefaultMaxBody = 32 << 20
	// MaxAwait is the longest the API holds a connection for Ricloud-Await.
	MaxAwait = 10 * time.Second
)

// Config is everything a Client needs. A zero duration or size means its
// default, so no call is without limits.
type Config struct {
	BaseURL   string            // scheme, host and an optional path prefix, which is kept
	AllowHTTP bool              // allow http:// to a host that is not loopback
	Authorize func(http.Header) // sets the credentials; called for requests to BaseURL's host only
	UserAgent string
	Transport http.RoundTripper                     // nil: one of its own, with bounded times
	Proxy     func(*http.Request) (*url.URL, error) // for its own transport; nil: none
	Logger    *slog.Logger                          // nil: silent
	Observe   Observe                               // nil: no observer

	AttemptTimeout time.Duration // one attempt, from connect to headers; an Await value is added
	CallTimeout    time.Duration // the whole call: attempts, waits and body
	StallTimeout   time.Duration // the longest silence while a body is read
	MaxRetries     int           // after the first attempt; 0: the default; negative: none
	RetryWaitMin   time.Duration // ceiling of the first back-off
	RetryWaitMax   time.Duration // ceiling of every back-off
	RetryAfterMax  time.Duration // longest server hint that is waited for
	MaxBody        int64         // bytes of a success body, after decompression

	RateLimit int           // requests per RatePer; 0: unpaced
	RatePer   time.Duration // the period of RateLimit
	Pacer     Pacer         // instead of RateLimit: where each attempt gets its turn; may be nil
}

// longest is more than any duration needs, and the sum of several does not overflow.
const longest = 10 * 365 * 24 * time.Hour

// complete puts the defaults into cfg. Its error names the first field that cannot work.
func (cfg *Config) complete() error {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"attempt timeout", &cfg.AttemptTimeout, DefaultAttemptTimeout},
		{"call timeout", &cfg.CallTimeout, DefaultCallTimeout},
		{"stall timeout", &cfg.StallTimeout, DefaultStallTimeout},
		{"retry wait min", &cfg.RetryWaitMin, DefaultMinRetryWait},
		{"retry wait max", &cfg.RetryWaitMax, max(DefaultMaxRetryWait, cfg.RetryWaitMin)},
		{"retry after max", &cfg.RetryAfterMax, DefaultMaxRetryAfter},
	} {
		switch {
		case *d.value < 0:
			return fmt.Errorf("%s must not be negative, is %v", d.name, *d.value)
		case *d.value == 0:
			*d.value = d.fallback
		}
		*d.value = min(*d.value, longest)
	}
	switch {
	case cfg.RetryWaitMax < cfg.RetryWaitMin:
		return fmt.Errorf("retry wait max %v is less than retry wait min %v", cfg.RetryWaitMax,
			cfg.RetryWaitMin)
	case cfg.MaxBody < 0:
		return fmt.Errorf("max body must not be negative, is %d", cfg.MaxBody)
	case cfg.RateLimit < 0:
		return fmt.Errorf("rate limit must not be negative, is %d", cfg.RateLimit)
	case cfg.RateLimit > 0 && cfg.RatePer <= 0:
		return fmt.Errorf("rate limit needs a positive period, is %v", cfg.RatePer)
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	cfg.MaxBody = min(cfg.MaxBody, math.MaxInt64-1) // one byte more is read
	if cfg.MaxRetries == 0 {
		cfg.MaxRetries = DefaultMaxRetries
	}
	return nil
}

// newTransport bounds what net/http leaves open by default.
func newTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: proxyAnswered,
		DialContext:            counted(download.DialContext(10*time.Second, 30*time.Second)),
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		MaxIdleConnsPerHost:    32, // all connections go to one host
		// Less than the 60 s after which common load balancers drop an idle
		// connection: a create sent into a closing one has an unknown outcome.
		IdleConnTimeout:   50 * time.Second,
		ForceAttemptHTTP2: true,
		// net/http finds a silent HTTP/2 connection only by pings, and would
		// use it for ever. Together with the time for the answer to a ping, a
		// dead connection is replaced within 8 seconds.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 5 * time.Second},
	}
}
