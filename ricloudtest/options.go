package ricloudtest

import (
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"
)

// Option changes how a Server is made.
type Option func(*config)

type config struct {
	token        string
	accounts     []Account
	generation   Generation
	delays       Delays
	speed        float64
	seed         uint64
	faults       []Fault
	limit        int
	limitPer     time.Duration
	inFlight     int
	receivers    map[string]http.Handler
	deliverer    http.RoundTripper
	retries      []time.Duration
	noise        WebhookFaults
	publisher    Publisher
	localDir     string
	unconfigured bool
	inclusive    bool
	noBatch      bool
	scopes       Scopes
	lifetime     time.Duration
	logger       *slog.Logger
	listener     net.Listener
	storage      net.Listener
}

func defaultConfig() config {
	return config{
		token: "sandbox-token", delays: defaultDelays(), speed: 1, seed: 1,
		receivers: map[string]http.Handler{},
		retries:   []time.Duration{time.Minute, 10 * time.Minute, 30 * time.Minute, 2 * time.Hour},
		logger:    slog.New(slog.DiscardHandler),
	}
}

// WithToken sets the token of the first key. The default is "sandbox-token".
func WithToken(token string) Option { return func(c *config) { c.token = token } }

// WithAccounts replaces the accounts of DefaultAccounts.
func WithAccounts(accounts ...Account) Option {
	return func(c *config) { c.accounts = slices.Concat(c.accounts, accounts) }
}

// WithGeneration chooses how answers are spelled: GenerationCurrent by default.
func WithGeneration(g Generation) Option { return func(c *config) { c.generation = g } }

// WithDelays sets how long each kind of work takes; every field that is zero
// takes no time.
func WithDelays(d Delays) Option { return func(c *config) { c.delays = d } }

// WithSpeed divides every delay, interval and expiry by factor: 60 makes a
// minute of the API's work last a second. A factor of 0 or less changes nothing.
func WithSpeed(factor float64) Option {
	return func(c *config) {
		if factor > 0 {
			c.speed = factor
		}
	}
}

// WithSeed sets what IDs, delays, faults and mixed generations are drawn from.
// The same seed and the same requests give the same answers.
func WithSeed(seed uint64) Option { return func(c *config) { c.seed = seed } }

// WithFaults adds faults. The first one that fits a call strikes it.
func WithFaults(faults ...Fault) Option {
	return func(c *config) { c.faults = slices.Concat(c.faults, faults) }
}

// WithRateLimit answers 429 to what exceeds n requests in a window of that
// length, for the whole organisation. The API's own example is 10,000 an hour.
// Assumption: the window is fixed and starts with its first request, and the
// answer has no Retry-After, since no source shows one; a Fault can add it.
func WithRateLimit(n int, per time.Duration) Option {
	return func(c *config) { c.limit, c.limitPer = n, per }
}

// WithInFlightLimit answers 429 to a poll for a session that has n unfinished.
func WithInFlightLimit(n int) Option { return func(c *config) { c.inFlight = n } }

// WithReceiver hands webhook deliveries to URLs that begin with urlPrefix to h,
// in memory.
func WithReceiver(urlPrefix string, h http.Handler) Option {
	return func(c *config) { c.receivers[urlPrefix] = h }
}

// WithWebhookTransport makes all other deliveries through rt; the default is a
// transport of the server's own.
func WithWebhookTransport(rt http.RoundTripper) Option { return func(c *config) { c.deliverer = rt } }

// WithWebhookRetries sets the pauses between attempts of one delivery; there
// is one attempt more than pauses. The default is five attempts in about two
// and a half hours: the number is the API's, the pauses are an assumption.
func WithWebhookRetries(pauses ...time.Duration) Option {
	return func(c *config) { c.retries = pauses }
}

// WithWebhookFaults disturbs deliveries.
func WithWebhookFaults(f WebhookFaults) Option { return func(c *config) { c.noise = f } }

// WithPublisher has p take the result objects of s3:// and gs:// configs,
// instead of the server's memory.
func WithPublisher(p Publisher) Option { return func(c *config) { c.publisher = p } }

// WithLocalStorage publishes to files below dir, as local:// URLs, and lets
// clients configure local:// storage there.
func WithLocalStorage(dir string) Option { return func(c *config) { c.localDir = dir } }

// WithUnconfigured starts the organisation as the getting-started guide does:
// with nowhere to publish to, so that polls answer "unconfigured" until a valid
// storage config is there, and subscriptions until a valid webhook config is.
func WithUnconfigured() Option { return func(c *config) { c.unconfigured = true } }

// WithInclusiveCursors makes after_id and before_id include the resource they
// name; the contract leaves it open.
func WithInclusiveCursors() Option { return func(c *config) { c.inclusive = true } }

// WithoutBatchAcknowledge answers 404 to POST /results/ack, as an older API would.
func WithoutBatchAcknowledge() Option { return func(c *config) { c.noBatch = true } }

// WithScopes sets the organisation's base permissions; everything is allowed
// without it.
func WithScopes(scopes Scopes) Option { return func(c *config) { c.scopes = scopes } }

// WithSessionLifetime expires each session that long after it became active;
// without it they last.
func WithSessionLifetime(d time.Duration) Option { return func(c *config) { c.lifetime = d } }

// WithLogger logs each request and delivery at debug level: operation, status
// and time, never a body or a token.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithListeners serves the API and the stored objects on these instead of free
// loopback ports. Either may be nil. The server closes them.
func WithListeners(api, storage net.Listener) Option {
	return func(c *config) { c.listener, c.storage = api, storage }
}
