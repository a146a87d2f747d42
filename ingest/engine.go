package ingest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/natsstore"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Config says where the state is and how fast to go. One of Dir, URL and Memory
// is required; every other field has a default.
type Config struct {
	// Dir keeps the state in a folder, with a NATS server inside this process
	// that opens no port. What was confirmed is on disk. One process at a time
	// may use the folder.
	Dir string

	// URL keeps the state in a NATS cluster with JetStream, for any number of
	// processes: "nats://a,nats://b,nats://c". Credentials and TLS are NATS options.
	URL  string
	NATS []nats.Option

	// Memory keeps the state in memory, for tests: nothing outlives the Engine,
	// and no NATS runs. It works in virtual time, see testing/synctest.
	Memory bool

	// Name tells organisations apart that share a cluster; streams and subjects
	// begin with it. Letters, digits, - and _; default "ricloud".
	Name string

	// Replicas is how many servers of a cluster hold the state; default 3.
	Replicas int

	// Requests is how many requests the API allows the organisation in each Per;
	// defaults 10,000 and an hour. All processes together stay below it.
	Requests int
	Per      time.Duration

	// ReadEvery is how often the leader looks for sessions and polls that have
	// ended. While events arrive, it looks at a sixth of that rate.
	// Acknowledgements are collected for three times ReadEvery, so that one
	// request carries many. A longer time costs fewer requests. Default 10
	// seconds.
	ReadEvery time.Duration

	// Lease is how long a process may be silent before others take over its
	// work; at least a second. Default 5 seconds.
	Lease time.Duration

	// MaxBytes bounds the disk space of the accounts, and also that of the
	// events. Submit returns ErrStoreFull if there is no room to bring one more
	// account to its end, with an eighth to spare. A delivery is answered 503 if
	// there is no room for its event. An account takes 2 to 3 KB. Default 1 GiB.
	MaxBytes int64
}

// settings is a Config with its defaults.
type settings struct {
	Config

	lease      time.Duration
	maxWaiting int
}

func (c Config) settings() (settings, error) {
	const open = "Open"
	places := 0
	for _, set := range []bool{c.Dir != "", c.URL != "", c.Memory} {
		if set {
			places++
		}
	}
	s := settings{Config: c, lease: cmp.Or(c.Lease, 5*time.Second), maxWaiting: maxWaiting}
	s.Name = cmp.Or(c.Name, "ricloud")
	s.Replicas = cmp.Or(c.Replicas, 3)
	s.Requests = cmp.Or(c.Requests, 10_000)
	s.Per = cmp.Or(c.Per, time.Hour)
	s.ReadEvery = cmp.Or(c.ReadEvery, 10*time.Second)
	s.MaxBytes = cmp.Or(c.MaxBytes, 1<<30)
	switch {
	case places != 1:
		return s, invalid(open, "Dir, URL, Memory",
			"need exactly one of them; an embedded folder cannot join a cluster, see docs/ingest.md for "+
				"how to move it")
	case strings.ContainsFunc(s.Name, func(r rune) bool { return escape(string(r)) != string(r) }):
		return s, invalid(open, "Name", "has a character other than letters, digits, - and _")
	case c.URL == "" && (c.Replicas != 0 || len(c.NATS) > 0):
		return s, invalid(open, "Replicas, NATS", "are settings of a cluster: they need URL")
	case s.Replicas < 1 || s.Replicas > 5:
		return s, invalid(open, "Replicas", "must be from 1 to 5")
	case s.Requests < 1:
		return s, invalid(open, "Requests", "must be positive")
	case s.Per < 0 || s.ReadEvery < 0:
		return s, invalid(open, "Per, ReadEvery", "must not be negative")
	case s.lease < time.Second:
		return s, invalid(open, "Lease", "must be at least a second")
	case s.MaxBytes < 1<<20:
		return s, invalid(open, "MaxBytes", "must be at least 1 MiB")
	}
	return s, nil
}

// maxEventAge is how long an event is remembered: longer than the API and its
// users deliver it again.
const maxEventAge = 72 * time.Hour

// Engine brings accounts from a login to acknowledged results, together with
// the engines of other processes on the same state. It is safe for concurrent
// use.
type Engine struct {
	cfg   settings
	id    string // of this process, for claims and history
	store store.Store
	pacer *pacer
	urls  *urlCache

	received  recentURLs
	passwords passwords

	begun   time.Time
	stop    context.CancelFunc
	tasks   sync.WaitGroup
	running atomic.Bool
	closed  atomic.Bool
	leads   atomic.Bool
	active  atomic.Int64 // jobs being handled
	space   space
	lapsed  chan struct{} // this process was silent for longer than its lease
	stopped chan struct{} // the store in the folder takes no more writes
}

// Open opens the state, or creates it if there is none, and joins the other
// processes. ctx bounds only Open itself. Close the Engine when it is no longer
// used.
//
// It returns a *ricloud.ParamError for a Config that cannot work, and an error
// that names the folder when another process uses it.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	s, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	state, err := openStore(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("ingest: Open: %w", err)
	}
	return join(ctx, s, state)
}

// join makes this process one of those that share a state.
func join(ctx context.Context, s settings, state store.Store) (*Engine, error) {
	e := &Engine{
		cfg: s, id: processID(), store: state, urls: newURLCache(), begun: time.Now(),
		lapsed: make(chan struct{}, 1), stopped: make(chan struct{}, 1),
	}
	e.pacer = newPacer(state, e.id, s.Requests, s.Per)
	if s.Dir != "" { // one process only
		if err := e.forgetProcesses(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("ingest: Open: %w", err), state.Close())
		}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	e.tasks.Go(func() { e.pacer.run(background) })
	e.tasks.Go(func() { e.pacer.watchPause(background) })
	e.tasks.Go(func() { e.beat(background) })
	e.tasks.Go(func() { e.repeatURLs(background) })
	return e, nil
}

func openStore(ctx context.Context, s settings) (store.Store, error) {
	o := natsstore.Options{
		Name: s.Name, Replicas: s.Replicas, MaxBytes: s.MaxBytes, MaxEventBytes: s.MaxBytes,
		MaxEventAge: maxEventAge,
	}
	switch {
	case s.Memory:
		return store.NewMemory(), nil
	case s.Dir != "":
		return natsstore.Embed(ctx, s.Dir, o)
	}
	return natsstore.Connect(ctx, s.URL, o, s.NATS...)
}

// processID names a process: where it runs, and a random part, since numbers
// are used again.
func processID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", escape(host), os.Getpid(), strings.ToLower(rand.Text()[:6]))
}

// Pacer paces a client by the quota that all processes share:
//
//	client, err := ricloud.NewClient(token, ricloud.WithPacer(engine.Pacer()))
//
// Give it to every client of the organisation, also to those that do other work.
func (e *Engine) Pacer() ricloud.Pacer { return e.pacer }

// Close leaves the other processes and closes the state. Run must have
// returned. From then on, every call of the Engine returns an error, and so does
// every call of a client that uses the Pacer. A second Close does nothing.
func (e *Engine) Close() error {
	if e.running.Load() {
		return errors.New("ingest: Close: Run has not returned; end its context first")
	}
	if e.closed.Swap(true) {
		return nil
	}
	e.stop()
	e.tasks.Wait()
	return e.store.Close()
}

// outliving returns a context that ends a while after ctx, for what must be written down although
// the work has ended. The end of Run waits for it.
func outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = sleep(longer, lastWrite)
		cancel()
	})
	return longer, func() { stop(); cancel() }
}

const lastWrite = 5 * time.Second

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
