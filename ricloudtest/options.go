package ricloudtest

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Option changes how a Server is made. NewServer checks every option, see Server.Err.
type Option func(*config)

// config is what options set.
type config struct {
	settings

	token         string
	receivers     map[string]http.Handler
	deliverer     http.RoundTripper
	publisher     Publisher
	localDir      string
	logger        *slog.Logger
	listener      net.Listener
	storage       net.Listener
	publicAPI     string
	publicObjects string
	remoteAdmin   bool
	origins       []string
	dump          []byte

	wrong []error
}

// settings are what a scenario or a reset changes while the server runs.
type settings struct {
	accounts         []Account
	generation       Generation
	delays           Delays
	speed            float64
	seed             uint64
	faults           []Fault
	limit            int
	limitPer         time.Duration
	inFlight         int
	retries          []time.Duration
	noise            WebhookFaults
	webhookURLs      []string
	storageKey       []string
	unconfigured     bool
	inclusive        bool
	noBatch          bool
	onlyDelivered    bool
	succeeded        bool
	numericVersion   bool
	stringDeliveries bool
	old              *bool
	scopes           Scopes
	lifetime         time.Duration
}

// refuse is an error of this package.
func refuse(format string, args ...any) error {
	return fmt.Errorf("ricloudtest: "+format, args...)
}

// newConfig applies the options and checks what they set.
func newConfig(opts []Option) (config, error) {
	c := config{
		token: "sandbox-token", receivers: map[string]http.Handler{},
		logger: slog.New(slog.DiscardHandler),
		settings: settings{
			delays: defaultDelays(), speed: 1, seed: 1,
			retries: []time.Duration{
				time.Minute, 10 * time.Minute, 30 * time.Minute, 2 * time.Hour,
			},
		},
	}
	for i, opt := range opts {
		if opt == nil {
			c.rejectf("option %d is nil", i)
			continue
		}
		opt(&c)
	}
	if c.accounts == nil {
		c.accounts = DefaultAccounts()
	}
	c.wrong = append(c.wrong, c.check()...)
	return c, errors.Join(c.wrong...)
}

func (c *config) rejectf(format string, args ...any) {
	c.wrong = append(c.wrong, refuse(format, args...))
}

// check returns what is wrong with the settings.
func (c *config) check() []error {
	var wrong []error
	note := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, refuse(format, args...))
		}
	}
	note(c.token == "" || strings.ContainsFunc(c.token, notInToken),
		"token: want visible ASCII characters without spaces")
	note(int(c.generation) >= len(generationNames()), "%v does not exist", c.generation)
	note(!(c.speed > 0) || math.IsInf(c.speed, 0), "speed %v: want more than 0", c.speed)
	note(c.limit < 0 || c.limit > 0 && c.limitPer <= 0,
		"rate limit of %d per %v: want a number of 0 or more, and a time of more than 0",
		c.limit, c.limitPer)
	note(c.inFlight < 0, "in-flight limit %d is negative", c.inFlight)
	note(c.lifetime < 0, "session lifetime %v is negative", c.lifetime)
	note(slices.ContainsFunc(c.retries, func(d time.Duration) bool { return d < 0 }),
		"webhook retries %v: a pause is negative", c.retries)
	note(c.logger == nil, "the logger is nil")
	note(strings.ContainsRune(c.localDir, 0), "the folder of the local storage has a zero byte in it")
	for _, raw := range []string{c.publicAPI, c.publicObjects} {
		note(raw != "" && !isBase(raw), "public URL: want an absolute http or https URL without "+
			"a user, a query or a fragment")
	}
	for _, raw := range c.webhookURLs {
		note(!isHTTP(raw), "webhook %q: want an absolute http or https URL", raw)
	}
	for _, origin := range c.origins {
		parsed, err := url.Parse(origin)
		note(origin != "*" && (err != nil || parsed.Host == "" || parsed.Path != ""),
			"CORS origin %q: want a scheme and a host, or *", origin)
	}
	names := map[string]bool{}
	for _, a := range c.accounts {
		wrong = append(wrong, a.check())
		name := accountName(a.service(), a.Identifier)
		note(names[name], "there are two %s accounts %q", a.service(), a.Identifier)
		names[name] = true
	}
	for _, f := range c.faults {
		wrong = append(wrong, f.check())
	}
	return append(wrong, c.delays.check(), c.noise.check(), c.scopes.check())
}

// isBase reports whether paths can be appended to a URL.
func isBase(raw string) bool {
	parsed, err := url.Parse(raw)
	return err == nil && isHTTP(raw) && parsed.User == nil && !strings.ContainsAny(raw, "?#")
}

func notInToken(r rune) bool { return r <= ' ' || r > '~' }

// oldActions reports whether the old spellings of three endpoints are answered.
func (c *config) oldActions() bool {
	if c.old != nil {
		return *c.old
	}
	return c.generation == Generation2018 || c.generation == Generation2019
}

// WithToken sets the token of the first key. The default is "sandbox-token".
func WithToken(token string) Option { return func(c *config) { c.token = token } }

// WithAccounts replaces the accounts of DefaultAccounts.
func WithAccounts(accounts ...Account) Option {
	return func(c *config) { c.accounts = slices.Concat(c.accounts, accounts) }
}

// WithGeneration chooses how answers are written. The default is GenerationCurrent.
func WithGeneration(g Generation) Option { return func(c *config) { c.generation = g } }

// WithOldActions sets whether three endpoints also answer GET, as they once did: the
// acknowledgement of a result, and the tests of storage and webhook configs. By default they do in
// Generation2018 and Generation2019.
func WithOldActions(answer bool) Option { return func(c *config) { c.old = &answer } }

// WithStringDeliveries sends each event as a JSON string that holds the event's JSON, with the
// signature over the inner JSON, as the vendor's clients 3.0.0rc1 to 3.0.1 read it.
func WithStringDeliveries() Option { return func(c *config) { c.stringDeliveries = true } }

// WithSucceededSessions writes the state of a good session as "succeeded", as one page of the
// vendor's documentation does.
func WithSucceededSessions() Option { return func(c *config) { c.succeeded = true } }

// WithNumericVersion writes the organisation's api_version as a number.
func WithNumericVersion() Option { return func(c *config) { c.numericVersion = true } }

// WithDelays sets how long each kind of work takes. A field that is zero takes no time.
func WithDelays(d Delays) Option { return func(c *config) { c.delays = d } }

// WithSpeed divides every delay, interval and expiry by factor: 60 makes a minute of the API's work
// last a second.
func WithSpeed(factor float64) Option { return func(c *config) { c.speed = factor } }

// WithSeed sets what IDs, delays, faults and mixed generations are drawn from. The same seed and
// the same requests give the same answers.
func WithSeed(seed uint64) Option { return func(c *config) { c.seed = seed } }

// WithFaults adds faults. The first one that matches a call applies to it.
func WithFaults(faults ...Fault) Option {
	return func(c *config) { c.faults = slices.Concat(c.faults, faults) }
}

// WithRateLimit answers 429 to requests beyond n in a window of that length, for the whole
// organisation. An n of 0 is no limit. The API's own example is 10,000 an hour.
func WithRateLimit(n int, per time.Duration) Option {
	return func(c *config) { c.limit, c.limitPer = n, per }
}

// WithInFlightLimit answers 429 to a poll for a session that has n unfinished polls. An n of 0 is
// no limit.
func WithInFlightLimit(n int) Option { return func(c *config) { c.inFlight = n } }

// WithReceiver makes h the receiver for URLs that begin with urlPrefix. It gets its deliveries in
// memory.
func WithReceiver(urlPrefix string, h http.Handler) Option {
	return func(c *config) {
		if h == nil {
			c.rejectf("the receiver for %q is nil", urlPrefix)
			return
		}
		c.receivers[urlPrefix] = h
	}
}

// WithWebhookTransport makes deliveries through rt, except those to a receiver of WithReceiver. The
// default is a transport of the server's own.
func WithWebhookTransport(rt http.RoundTripper) Option {
	return func(c *config) {
		if rt == nil {
			c.rejectf("the webhook transport is nil")
		}
		c.deliverer = rt
	}
}

// WithWebhooks adds webhook configs that are valid from the start. Their secrets are drawn from the
// seed.
func WithWebhooks(urls ...string) Option {
	return func(c *config) { c.webhookURLs = slices.Concat(c.webhookURLs, urls) }
}

// WithoutUndeliveredEvents records no event while there is no valid webhook config. Without it,
// such events are recorded and stay pending.
func WithoutUndeliveredEvents() Option { return func(c *config) { c.onlyDelivered = true } }

// WithWebhookRetries sets the pauses between the attempts of one delivery. There is one attempt
// more than there are pauses. The default is five attempts in about two and a half hours.
func WithWebhookRetries(pauses ...time.Duration) Option {
	return func(c *config) { c.retries = pauses }
}

// WithWebhookFaults disturbs deliveries.
func WithWebhookFaults(f WebhookFaults) Option { return func(c *config) { c.noise = f } }

// WithPublisher gives the result objects of s3:// and gs:// configs to p, instead of keeping them
// in the server's memory.
func WithPublisher(p Publisher) Option {
	return func(c *config) {
		if p == nil {
			c.rejectf("the publisher is nil")
		}
		c.publisher = p
	}
}

// WithLocalStorage publishes to files below dir, as local:// URLs, and lets clients configure
// local:// storage there.
func WithLocalStorage(dir string) Option {
	return func(c *config) {
		if dir == "" {
			c.rejectf("the folder for local storage has no name")
		}
		c.localDir = dir
	}
}

// WithStorageKey names the only credentials that buckets accept: the access key's ID and secret for
// S3, or client_email and private_key for Google. Without it, any are accepted.
func WithStorageKey(id, secret string) Option {
	return func(c *config) {
		if id == "" || secret == "" {
			c.rejectf("the storage key needs an ID and a secret")
		}
		c.storageKey = []string{id, secret}
	}
}

// WithUnconfigured starts the organisation as the getting-started guide does, with nowhere to
// publish to. Polls answer "unconfigured" until there is a valid storage config, and subscriptions
// until there is a valid webhook config too.
func WithUnconfigured() Option { return func(c *config) { c.unconfigured = true } }

// WithInclusiveCursors makes after_id and before_id include the resource that they name. The
// contract does not say whether they do.
func WithInclusiveCursors() Option { return func(c *config) { c.inclusive = true } }

// WithoutBatchAcknowledge answers 404 to POST /results/ack, as an older API would.
func WithoutBatchAcknowledge() Option { return func(c *config) { c.noBatch = true } }

// WithScopes sets the organisation's base permissions. Without it, everything is allowed.
func WithScopes(scopes Scopes) Option { return func(c *config) { c.scopes = scopes } }

// WithSessionLifetime expires each session that long after it became active. Without it, sessions
// do not expire by themselves.
func WithSessionLifetime(d time.Duration) Option { return func(c *config) { c.lifetime = d } }

// WithLogger logs each request and delivery at debug level: operation, status and time, never a
// body or a token.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithListeners serves the API and the stored objects on these listeners instead of free loopback
// ports. Either may be nil. The server closes them.
func WithListeners(api, storage net.Listener) Option {
	return func(c *config) { c.listener, c.storage = api, storage }
}

// WithPublicURLs sets the addresses that URL, StorageURL and signed URLs show, for a sandbox behind
// a proxy or in a container. Either may be empty.
func WithPublicURLs(api, storage string) Option {
	return func(c *config) {
		c.publicAPI = strings.TrimRight(api, "/")
		c.publicObjects = strings.TrimRight(storage, "/")
	}
}

// WithRemoteAdmin opens the admin API and its page to clients that are not on this machine. Anyone
// who reaches the sandbox can then read and change everything in it.
func WithRemoteAdmin() Option { return func(c *config) { c.remoteAdmin = true } }

// WithCORS lets scripts on pages of these origins call the API and read stored objects. The origin
// "*" allows all.
func WithCORS(origins ...string) Option {
	return func(c *config) { c.origins = slices.Concat(c.origins, origins) }
}
