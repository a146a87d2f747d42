package ricloudtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/clock"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// The hosts of the sandbox in memory. Storage is on another host than the API, so that a client
// that sends its token to storage is noticed.
const (
	memoryAPI     = "api.ricloud.test"
	liveAPI       = "ricloud-api.reincubate.com" // where a client without a base URL sends
	memoryStorage = "storage.ricloud.test"
)

// Server is a ricloud API in memory. It is an http.Handler for the API's endpoints, and an
// http.RoundTripper for the API and its storage together. All methods are safe for concurrent use.
type Server struct {
	config

	opts    []Option        // of NewServer
	initial settings        // what they set
	err     error           // what is wrong with them
	ctx     context.Context //nolint:containedctx // ends what the server itself started
	cancel  context.CancelFunc
	work    sync.WaitGroup // deliveries, publications and listeners
	slots   chan struct{}  // bounds the deliveries at a time
	router  router
	admin   http.Handler
	journal journal

	mu     sync.Mutex // guards what follows, and the settings
	closed bool
	epoch  int // counts resets, so that work from before a reset is dropped
	state
	servers [2]*http.Server // the API's and the storage's, once they listen
	urls    [2]string
}

// state is everything that a reset replaces.
type state struct {
	clock  *clock.Clock[job]
	pcg    *rand.PCG
	random *rand.Rand // draws from pcg

	org           *organisation
	key           *key // the one that NewServer made
	tokens        map[string]*key
	keys          *collection.Collection[*key]
	permissions   *collection.Collection[*permission]
	users         *collection.Collection[*user]
	sources       *collection.Collection[*source]
	sessions      *collection.Collection[*session]
	polls         *collection.Collection[*poll]
	tasks         *collection.Collection[*task]
	results       *collection.Collection[*result]
	subscriptions *collection.Collection[*subscription]
	events        *collection.Collection[*event]
	storages      *collection.Collection[*storageConfig]
	webhooks      *collection.Collection[*webhookConfig]

	known        map[string]*account // by name
	pairing      map[string]*account // by service and code
	order        []string            // names of accounts, as they were added
	counts       map[string]int      // what limits have counted
	numbers      map[string]int      // the last numeric ID of each kind
	objects      map[string]*stored  // by bucket and key
	storing      []byte              // signs storage URLs
	faultMatches map[int]int         // how many calls each fault has matched, by its index
	window       time.Time           // when the rate limit's window began
	used         int                 // requests in it
}

func (s *Server) newState(seed uint64) state {
	pcg := rand.NewPCG(seed, seed)
	return state{
		clock: clock.New[job](s.tick), pcg: pcg,
		random: rand.New(pcg), //nolint:gosec // repeatable on purpose
		tokens: map[string]*key{}, known: map[string]*account{}, pairing: map[string]*account{},
		counts: map[string]int{}, numbers: map[string]int{}, objects: map[string]*stored{},
		faultMatches: map[int]int{},
		keys:         newKeys(), permissions: newPermissions(), users: newUsers(),
		sources: newSources(), sessions: newSessions(), polls: newPolls(), tasks: newTasks(),
		results: newResults(), subscriptions: newSubscriptions(), events: newEvents(),
		storages: newStorageConfigs(), webhooks: newWebhookConfigs(),
	}
}

// NewServer starts a sandbox with one key, the accounts of DefaultAccounts and an in-memory storage
// to publish to. It opens no socket before URL, Start or ServeHTTP needs one. Inside a synctest
// bubble, make the Server in the bubble.
//
// A server with an option that cannot work answers every request with an error that says so. Err
// returns the same error.
func NewServer(opts ...Option) *Server {
	c, err := newConfig(opts)
	s := &Server{
		config: c, opts: slices.Clone(opts), initial: c.settings, err: err,
		slots: make(chan struct{}, 64), router: newRouter(),
	}
	s.admin = newAdmin(s)
	s.ctx, s.cancel = context.WithCancel(context.Background()) // the server's life, until Close
	s.mu.Lock()
	s.state = s.newState(s.seed)
	s.populate()
	s.mu.Unlock()
	if c.dump != nil {
		s.err = errors.Join(s.err, s.Load(bytes.NewReader(c.dump)))
	}
	return s
}

// Err returns what is wrong with the options of NewServer, or nil.
func (s *Server) Err() error { return s.err }

// populate makes what exists before the first request.
func (s *Server) populate() {
	for _, a := range s.accounts {
		s.addAccount(a)
	}
	s.storing = []byte(s.newSecret(""))
	base := &permission{Head: s.numbered("permissions"), Scopes: s.scopes}
	if base.Scopes == nil {
		base.Scopes = everything()
	}
	s.permissions.Add(base)
	s.org = &organisation{
		Head: s.numbered("organisation"), Name: "Getting started", Slug: "getting-started",
		Base: base,
	}
	s.key = s.newKey(&key{Token: s.token})
	if !s.unconfigured {
		url := "s3://ricloud-sandbox/results"
		if s.localDir != "" {
			url = "local://" + s.localDir
		}
		s.org.StorageDefault = &storageConfig{
			Head: s.numbered("storage_config"), URL: url, Signed: true, SignedFor: time.Hour,
			State: stateValid, Own: true,
		}
		s.storages.Add(s.org.StorageDefault)
	}
	for _, url := range s.webhookURLs {
		x := &webhookConfig{URL: url}
		s.newWebhook(x)
		x.State = stateValid
		s.org.WebhookDefault = cmp.Or(s.org.WebhookDefault, x)
	}
}

// Token returns the current token of the first key.
func (s *Server) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key.Token
}

// Start listens on loopback, unless it does already: for the API and, on another port, for the
// stored objects.
func (s *Server) Start() error {
	if s.err != nil {
		return s.err
	}
	if err := s.listen(0, s.listener, s); err != nil {
		return err
	}
	return s.startStorage()
}

func (s *Server) startStorage() error {
	serve := func(w http.ResponseWriter, r *http.Request) {
		if !s.allowOrigin(w, r) {
			s.serveStorage(r).Write(w, r)
		}
	}
	return s.listen(1, s.storage, http.HandlerFunc(serve))
}

// URL returns the API's base URL, and starts the listener if need be. Where the server cannot
// listen, the URL refuses connections, and Start returns the reason.
func (s *Server) URL() string {
	if err := s.Start(); err != nil {
		s.logger.Error("The sandbox cannot listen.", slog.Any("error", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.urlLocked()
}

func (s *Server) urlLocked() string {
	return cmp.Or(s.publicAPI, s.urls[0], "http://127.0.0.1:1")
}

// StorageURL returns the base URL of the stored objects, and starts the listener if need be. S3
// clients take it as their endpoint, and Google's clients as that of an emulator.
func (s *Server) StorageURL() string {
	_ = s.URL() // starts both listeners, and logs why it cannot
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publicStorage()
}

// publicStorage is where clients over sockets read stored objects.
func (s *Server) publicStorage() string {
	return cmp.Or(s.publicObjects, s.urls[1], "https://"+memoryStorage)
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
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	s.servers[which], s.urls[which] = server, "http://"+reachable(l.Addr())
	s.work.Go(func() { _ = server.Serve(l) }) // ends with Close
	return nil
}

// reachable returns an address for clients on this machine, even if the listener has no address.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}

// Close stops the server: its listeners, timers and deliveries. Requests that wait are ended. Close
// returns once nothing of the server runs any more.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.cancel()
	s.clock.Close()
	servers := s.servers
	s.mu.Unlock()
	for _, server := range servers {
		if server != nil {
			_ = server.Close() // nothing can be done about its listeners' errors
		}
	}
	s.work.Wait()
	if idle, ok := s.deliverer.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// inBackground runs work on a goroutine of its own. Then it runs the function that work returned,
// with s.mu held, unless the server was reset or closed in the meantime. The caller holds s.mu.
func (s *Server) inBackground(work func() func()) {
	if s.closed {
		return
	}
	epoch := s.epoch
	s.work.Go(func() {
		done := work()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.epoch == epoch {
			done()
		}
	})
}

// RoundTrip answers a request in memory. It knows the sandbox's own hosts for the API and the
// storage, and the live API's host, and refuses any other.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if s.err != nil {
		return nil, s.err
	}
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("ricloudtest: %w", net.ErrClosed)
	}
	switch r.URL.Host {
	case memoryAPI, liveAPI:
		if isAdmin(r) {
			return reply.Of(func(w http.ResponseWriter) { s.admin.ServeHTTP(w, r) }).Response(r)
		}
		return s.serveAPI(r, "https://"+memoryStorage).Response(r)
	case memoryStorage:
		return s.serveStorage(r).Response(r)
	}
	return nil, refuse("no host %q in the sandbox", r.URL.Host)
}

// ServeHTTP answers a request to the API, or to the sandbox's own pages under /_sandbox/. Signed
// URLs in its answers lead to another loopback port, which it opens.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.err != nil {
		failure(s.err).Write(w, r)
		return
	}
	if s.allowOrigin(w, r) {
		return
	}
	if isAdmin(r) {
		s.guardAdmin(w, r)
		return
	}
	origin := "https://" + memoryStorage
	if s.startStorage() == nil {
		s.mu.Lock()
		origin = s.publicStorage()
		s.mu.Unlock()
	}
	s.serveAPI(r, origin).Write(w, r)
}

// draw returns true with the given probability.
func (s *Server) draw(probability float64) bool {
	return probability > 0 && s.random.Float64() < probability
}

// idOf is the ID of a resource, or "" for none.
func idOf[T collection.Entity](item T) string {
	var none T
	if item == none {
		return ""
	}
	return item.Meta().ID
}

// numbered makes the head of a resource whose ID looks like a number.
func (s *Server) numbered(kind string) collection.Head {
	s.numbers[kind]++
	return collection.Head{ID: strconv.Itoa(s.numbers[kind]), Created: s.clock.Now()}
}

// unique makes the head of a resource whose ID is a UUID.
func (s *Server) unique() collection.Head {
	var b [16]byte
	s.fill(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return collection.Head{ID: id, Created: s.clock.Now()}
}

// newSecret makes a random string, the same for the same seed.
func (s *Server) newSecret(prefix string) string {
	var b [20]byte
	s.fill(b[:])
	return prefix + hex.EncodeToString(b[:])
}

func (s *Server) fill(b []byte) {
	for i := range b {
		b[i] = byte(s.random.UintN(256)) //nolint:gosec // it fits
	}
}

// Reset returns the server to what NewServer made, with another seed. Work under way is forgotten,
// and so are the journal, the clock's advance, and what a scenario or SetFaults changed.
func (s *Server) Reset(seed uint64) {
	s.ResetCalls()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.reset(seed)
}

func (s *Server) reset(seed uint64) {
	s.clock.Close()
	for _, x := range s.sessions.All() {
		x.ended.end() // end the waits for it
	}
	for _, t := range s.tasks.All() {
		t.ended.end()
	}
	s.epoch++
	s.settings = s.initial
	s.seed = seed
	s.state = s.newState(seed)
	s.populate()
}
