package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

const (
	password = "canary-password-of-" // and the account's key
	code     = "731994"              // the canary of the codes
	hookURL  = "https://hooks.example.com/in"
)

// world is everything that runs: the sandbox here, the rest in processes.
type world struct {
	settings

	dir     string
	rand    *rand.Rand
	sandbox *ricloudtest.Server
	engine  *ingest.Engine // does no work: it submits, gives codes and looks
	client  *ricloud.Client
	effects *effects
	server  *http.Server
	nodes   []*child
	workers []*child
	began   time.Time
	killed  []death

	mu    sync.Mutex
	ports []int         // where the workers receive events
	dead  map[int]bool  // pids that were killed
	cpu   time.Duration // of workers that have ended
	nats  time.Duration // of NATS servers that have ended

	startCPU time.Duration // CPU time of the workers before there was an account
	idleCPU  time.Duration // and in a second after the last account was done
}

// effects is the database of the handlers: a table with a unique key, and a
// list of every call that came.
type effects struct {
	mu    sync.Mutex
	table map[string]bool
	calls []effect
}

// ServeHTTP takes one effect.
func (e *effects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var one effect
	if err := json.NewDecoder(r.Body).Decode(&one); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	one.at = time.Now()
	e.calls = append(e.calls, one)
	for _, key := range one.Keys {
		e.table[key] = true
	}
}

func newWorld(ctx context.Context, s settings) (*world, error) {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	w := &world{
		//nolint:gosec // it is to be repeatable
		settings: s, dir: dir, rand: rand.New(rand.NewPCG(s.seed, s.seed)),
		effects: &effects{table: map[string]bool{}}, dead: map[int]bool{},
	}
	there, _ := w.fleet()
	opts := []ricloudtest.Option{
		ricloudtest.WithAccounts(there...), ricloudtest.WithSeed(s.seed), ricloudtest.WithSpeed(s.speed),
		ricloudtest.WithRateLimit(s.quota, time.Minute),
		ricloudtest.WithDelays(ricloudtest.Delays{
			Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
			Poll:    ricloudtest.Delay{Min: 30 * time.Second, Max: 600 * time.Second},
		}),
		ricloudtest.WithReceiver(hookURL, http.HandlerFunc(w.forward)),
	}
	if !s.calm {
		opts = append(opts,
			ricloudtest.WithWebhookFaults(
				ricloudtest.WebhookFaults{Drop: 0.1, Duplicate: 0.1, Reorder: 0.1},
			),
			ricloudtest.WithWebhookRetries(20*time.Second, 60*time.Second), // divided by the speed
			ricloudtest.WithFaults(
				ricloudtest.Fault{
					Operation: ricloudtest.StorageGet, Rate: 0.05, Count: -1,
					Status: http.StatusServiceUnavailable,
				},
				ricloudtest.Fault{Operation: ricloudtest.StorageGet, Rate: 0.05, Count: -1, Truncate: 10},
				ricloudtest.Fault{Operation: ricloudtest.StorageGet, Rate: 0.2, Count: -1, Delay: time.Second},
				ricloudtest.Fault{
					Operation: ricloudtest.StorageGet, Rate: 1, Count: -1,
					Delay: 5 * time.Millisecond,
				},
				ricloudtest.Fault{Rate: 0.02, Count: -1, After: true, Reset: true},
			))
	}
	w.sandbox = ricloudtest.NewServer(opts...)
	return w, w.start(ctx)
}

// start starts every process.
func (w *world) start(ctx context.Context) error {
	if err := w.sandbox.Start(); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.server = &http.Server{Handler: w.effects, ReadHeaderTimeout: time.Minute}
	go func() { _ = w.server.Serve(listener) }()

	ports, err := freePorts(ctx, 2*w.settings.nodes+w.settings.workers)
	if err != nil {
		return err
	}
	var urls, routes []string
	for i := range w.settings.nodes {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[2*i]))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[2*i+1]))
	}
	if len(routes) == 1 {
		routes = nil
	}
	for i := range w.settings.nodes {
		name := fmt.Sprintf("node-%d", i)
		w.nodes = append(w.nodes, &child{role: "nats", script: script{
			Name: name, Dir: filepath.Join(w.dir, name), Port: ports[2*i], Cluster: ports[2*i+1],
			Routes: strings.Join(routes, ","),
		}})
	}
	for _, c := range w.nodes {
		if err := w.launch(c); err != nil {
			return err
		}
	}
	nats := strings.Join(urls, ",")
	if err := w.open(ctx, nats); err != nil {
		return err
	}
	secret := "unused"
	if w.webhooks {
		hook, err := w.client.WebhookConfigs.Create(ctx, ricloud.WebhookConfigCreateParams{URL: hookURL})
		if err != nil {
			return err
		}
		secret = hook.Secret.Reveal()
		w.mu.Lock()
		w.ports = ports[2*w.settings.nodes:]
		w.mu.Unlock()
	}
	for i := range w.settings.workers {
		c := &child{role: "worker", script: script{
			Name: fmt.Sprintf("worker-%d", i), Port: ports[2*w.settings.nodes+i], NATS: nats,
			API: w.sandbox.URL(), Token: w.sandbox.Token(),
			Effects: "http://" + listener.Addr().String(), Secret: secret, Password: password,
			Quota:     w.quota,
			ReadEvery: time.Duration(float64(10*time.Second) / w.speed), Concurrency: 8,
		}}
		w.workers = append(w.workers, c)
		if err := w.launch(c); err != nil {
			return err
		}
	}
	if w.webhooks {
		return w.testHook(ctx)
	}
	return nil
}

// testHook has the API test its webhook config once a worker receives.
func (w *world) testHook(ctx context.Context) error {
	for range 60 {
		hook, err := w.client.WebhookConfigs.Ensure(ctx,
			ricloud.WebhookConfigEnsureParams{URL: hookURL, MakeOrganisationDefault: true})
		if err == nil && hook.State == ricloud.ConfigValid {
			w.sandbox.ResetCalls()
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return errors.New("the webhook config does not become valid")
}

// open joins the cluster without working for it.
func (w *world) open(ctx context.Context, nats string) error {
	var err error
	for range 30 {
		w.engine, err = ingest.Open(ctx,
			ingest.Config{URL: nats, Requests: w.quota, Per: time.Minute, Replicas: replicas(nats)})
		if err == nil {
			w.client, err = ricloud.NewClient(w.sandbox.Token(), ricloud.WithBaseURL(w.sandbox.URL()),
				ricloud.WithPacer(w.engine.Pacer()))
			return err
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return err
}

// idleFor is how long the workers are left alone to see what they cost then.
const idleFor = 20 * time.Second

// measureIdle measures what the workers cost while there is nothing to do.
func (w *world) measureIdle(ctx context.Context) {
	before := alive(w.workers)
	_ = sleep(ctx, idleFor)
	w.idleCPU = (alive(w.workers) - before) / time.Duration(idleFor.Seconds())
}

// submit submits every account.
func (w *world) submit(ctx context.Context) error {
	w.startCPU = alive(w.workers)
	w.began = time.Now()
	_, here := w.fleet()
	for _, a := range here {
		if err := w.engine.Submit(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// forward delivers an event to one of the workers, as a load balancer does.
func (w *world) forward(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20)) //nolint:forbidigo // bounded
	w.mu.Lock()
	ports := w.ports
	w.mu.Unlock()
	if err != nil || len(ports) == 0 {
		http.Error(rw, "no", http.StatusServiceUnavailable)
		return
	}
	//nolint:gosec // chance
	to, err := http.NewRequestWithContext(r.Context(), http.MethodPost,
		loopback(ports[rand.IntN(len(ports))]), bytes.NewReader(body))
	if err != nil {
		http.Error(rw, "no", http.StatusInternalServerError)
		return
	}
	to.Header = r.Header.Clone()
	resp, err := hookClient.Do(to)
	if err != nil {
		http.Error(rw, "no worker", http.StatusServiceUnavailable)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	rw.WriteHeader(resp.StatusCode)
}

// hookClient keeps its connections, as a load balancer does.
//
//nolint:gochecknoglobals // of a program
var hookClient = &http.Client{
	Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
}

// storm kills and restarts processes for a while.
func (w *world) storm(ctx context.Context, long time.Duration) {
	end, nextNode := time.Now().Add(long), time.Now().Add(12*time.Second)
	var restarts sync.WaitGroup
	for time.Now().Before(end) && ctx.Err() == nil {
		w.giveCodes(ctx)
		_ = sleep(ctx, time.Duration(1500+w.rand.IntN(2500))*time.Millisecond)
		victim := w.workers[w.rand.IntN(len(w.workers))]
		if len(w.nodes) > 1 && time.Now().After(nextNode) {
			victim = w.nodes[w.rand.IntN(len(w.nodes))]
			nextNode = time.Now().Add(18 * time.Second)
		}
		restarts.Wait() // one at a time is down
		w.kill(victim)
		pause := time.Duration(300+w.rand.IntN(2500)) * time.Millisecond
		restarts.Go(func() {
			_ = sleep(ctx, pause)
			if err := w.launch(victim); err != nil {
				fmt.Println("restart:", err)
			}
		})
	}
	restarts.Wait()
}

// giveCodes gives codes to the accounts that ask for one.
func (w *world) giveCodes(ctx context.Context) {
	var asked []string
	for a, err := range w.engine.Accounts(ctx, ingest.CodeNeeded) {
		if err == nil {
			asked = append(asked, a.Account.Key)
		}
	}
	var all sync.WaitGroup
	for _, key := range asked[:min(len(asked), 4)] {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
			defer cancel()
			_ = w.engine.Code(ctx, key, ricloud.NewSecret(code)) // or it is asked for again
		})
	}
	all.Wait()
}

// finish waits until every account is done or dead.
func (w *world) finish(ctx context.Context, patience time.Duration) bool {
	end, shown := time.Now().Add(patience), time.Time{}
	for time.Now().Before(end) && ctx.Err() == nil {
		w.giveCodes(ctx)
		s, err := w.engine.Stats(ctx)
		if err == nil && s.Accounts[ingest.Done]+s.Accounts[ingest.Dead] == w.accounts {
			return true
		}
		if err == nil && time.Since(shown) > 20*time.Second {
			shown = time.Now()
			fmt.Println(time.Since(w.began).Round(time.Second), s.Accounts, s.Results, "results open,",
				len(s.Processes), "processes")
		}
		_ = sleep(ctx, time.Second)
	}
	return false
}

func (w *world) close() {
	for _, c := range append(w.workers, w.nodes...) {
		if c.cmd != nil && c.cmd.Process != nil {
			_ = c.cmd.Process.Signal(syscall.SIGKILL)
			<-c.exited
		}
		if c.log != nil {
			_ = c.log.Close()
		}
	}
	if w.engine != nil {
		_ = w.engine.Close()
	}
	if w.server != nil {
		_ = w.server.Close()
	}
	w.sandbox.Close()
	if w.keep {
		fmt.Println("kept:", w.dir)
		return
	}
	_ = os.RemoveAll(w.dir)
}

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
