package ricloudtest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// The addresses of the sandbox in memory. Storage is another host than the API,
// as it is in the world: a client that sends its token there is found out.
const (
	memoryAPI     = "api.ricloud.test"
	liveAPI       = "ricloud-api.reincubate.com" // a client without a base URL asks for it
	memoryStorage = "storage.ricloud.test"
)

// Server is a ricloud API in memory. It is an http.Handler for the API's own
// endpoints, and an http.RoundTripper for the API and its storage together.
// All methods are safe for concurrent use.
type Server struct {
	config
	ctx     context.Context //nolint:containedctx // ends what the server itself started
	cancel  context.CancelFunc
	work    sync.WaitGroup // deliveries, publications, listeners
	slots   chan struct{}  // bounds deliveries at a time
	router  router
	journal journal

	mu     sync.Mutex // guards what follows
	closed bool
	clock  clock
	random *rand.Rand
	state
	objects map[string]*stored // by bucket and key
	storing []byte             // signs storage URLs
	struck  map[string]int     // calls so far, by operation, for faults
	window  time.Time          // when the rate limit's window began
	used    int                // requests in it
	servers [2]*http.Server    // the API's and the storage's, once they listen
	urls    [2]string
}

// NewServer starts a sandbox with one key, the accounts of DefaultAccounts and
// an in-memory storage to publish to. It opens no socket before URL or
// ServeHTTP needs one. Inside a synctest bubble, make the Server in the bubble.
func NewServer(opts ...Option) *Server {
	c := defaultConfig()
	for _, opt := range opts {
		opt(&c)
	}
	if c.accounts == nil {
		c.accounts = DefaultAccounts()
	}
	s := &Server{
		config: c, slots: make(chan struct{}, 64), router: newRouter(), state: newState(),
		clock:   clock{speed: c.speed},
		random:  rand.New(rand.NewPCG(c.seed, c.seed)), //nolint:gosec // repeatable on purpose
		objects: map[string]*stored{}, struck: map[string]int{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background()) // the server's own life, until Close
	s.mu.Lock()
	defer s.mu.Unlock()
	s.furnish()
	return s
}

// furnish makes what is there before the first request.
func (s *Server) furnish() {
	for _, a := range s.accounts {
		s.introduce(newAccount(a))
	}
	s.storing = []byte(s.newSecret(""))
	base := &permission{head: s.numbered("permissions"), scopes: s.scopes}
	if base.scopes == nil {
		base.scopes = everything()
	}
	s.permissions.add(base)
	s.org = &organisation{head: s.numbered("organisation"), name: "Getting started", slug: "getting-started", base: base}
	s.key = &key{head: s.numbered("key"), token: s.token, state: stateActive}
	s.keys.add(s.key)
	s.tokens[s.token] = s.key
	if s.unconfigured {
		return
	}
	url := "s3://ricloud-sandbox/results"
	if s.localDir != "" {
		url = "local://" + s.localDir
	}
	s.org.storageDefault = &storageConfig{head: s.numbered("storage_config"), url: url, signed: true, signedFor: time.Hour, state: stateValid}
	s.storages.add(s.org.storageDefault)
}

func (s *Server) introduce(a *account) {
	s.known[string(a.Service)+" "+a.Identifier] = a
	if a.Service == relayInstance {
		s.known[string(a.Service)+" code "+a.Code] = a
	}
}

// AddAccount adds an account, or replaces the one with the same service and
// identifier for sources made from now on.
func (s *Server) AddAccount(a Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.introduce(newAccount(a))
}

// Token is the current token of the first key.
func (s *Server) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key.token
}

// Start listens on loopback, unless it does already, for the API and, on
// another port, for the stored objects.
func (s *Server) Start() error {
	if err := s.listen(0, s.listener, s); err != nil {
		return err
	}
	return s.startStorage()
}

func (s *Server) startStorage() error {
	return s.listen(1, s.storage, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serveStorage(r).write(w, r)
	}))
}

// URL starts the listener if need be and returns the API's base URL. Where it
// cannot listen, the URL refuses connections; Start tells why.
func (s *Server) URL() string {
	if err := s.Start(); err != nil {
		s.logger.Error("The sandbox cannot listen.", slog.Any("error", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.urls[0], "http://127.0.0.1:1")
}

func (s *Server) listen(which int, l net.Listener, h http.Handler) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers[which] != nil {
		return nil
	}
	if s.closed {
		return fmt.Errorf("ricloudtest: listen: %w", net.ErrClosed)
	}
	if l == nil {
		var err error
		if l, err = new(net.ListenConfig).Listen(s.ctx, "tcp", "127.0.0.1:0"); err != nil {
			return fmt.Errorf("ricloudtest: listen: %w", err)
		}
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return s.ctx }}
	s.servers[which], s.urls[which] = server, "http://"+l.Addr().String()
	s.work.Go(func() { _ = server.Serve(l) }) // ends with Close
	return nil
}

// Close stops the server: listeners, timers, deliveries. It returns when
// nothing of it runs any more. Requests that wait are ended.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.cancel()
	if s.clock.timer != nil {
		s.clock.timer.Stop()
	}
	servers := s.servers
	s.mu.Unlock()
	for _, server := range servers {
		if server != nil {
			_ = server.Close() // the listeners' errors help nobody now
		}
	}
	s.work.Wait() // a delivery may make the transport, and leaves it connections
	if idle, ok := s.deliverer.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// spawn runs fn beside the server, until Close ends s.ctx. s.mu is held.
func (s *Server) spawn(fn func()) {
	if !s.closed {
		s.work.Go(fn)
	}
}

// RoundTrip answers a request in memory. It knows the hosts of the API, the
// live API's among them, and of the storage, and no other.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("ricloudtest: %w", net.ErrClosed)
	}
	switch r.URL.Host {
	case memoryAPI, liveAPI:
		return s.serveAPI(r, "https://"+memoryStorage).response(r)
	case memoryStorage:
		return s.serveStorage(r).response(r)
	}
	return nil, fmt.Errorf("ricloudtest: no host %q in the sandbox", r.URL.Host)
}

// ServeHTTP answers a request to the API over a socket. The results' signed
// URLs then lead to another loopback port, which it opens.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	origin := "https://" + memoryStorage
	if s.startStorage() == nil {
		s.mu.Lock()
		origin = s.urls[1]
		s.mu.Unlock()
	}
	s.serveAPI(r, origin).write(w, r)
}

// draw is true with that probability.
func (s *Server) draw(probability float64) bool {
	return probability > 0 && s.random.Float64() < probability
}

// Operations returns the names that Call.Operation and Fault.Operation take:
// those of the API's endpoint table, and StorageGet.
func Operations() []string {
	names := []string{StorageGet}
	for _, op := range transport.Operations() {
		names = append(names, op.Name)
	}
	slices.Sort(names)
	return names
}
