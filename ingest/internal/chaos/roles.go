package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
)

// A child process is this program again, with its role in the environment.
const (
	roleVariable   = "CHAOS_ROLE"
	scriptVariable = "CHAOS_SCRIPT"
)

// script is what a child needs to know.
type script struct {
	Name        string        `json:"name"`
	Dir         string        `json:"dir"`
	Port        int           `json:"port"`
	Cluster     int           `json:"cluster"` // a NATS server's port for the others
	Routes      string        `json:"routes"`  // of all servers
	NATS        string        `json:"nats"`    // the servers' URLs
	API         string        `json:"api"`
	Token       string        `json:"token"`
	Effects     string        `json:"effects"` // where a worker tells what its handler does
	Secret      string        `json:"secret"`  // of the webhook config
	Password    string        `json:"password"`
	Quota       int           `json:"quota"`
	ReadEvery   time.Duration `json:"read_every"`
	Concurrency int           `json:"concurrency"`
}

func play(role string) error {
	var s script
	if err := json.Unmarshal([]byte(os.Getenv(scriptVariable)), &s); err != nil {
		return err
	}
	if role == "nats" {
		return serveNATS(s)
	}
	return work(s)
}

// serveNATS is one server of the cluster.
func serveNATS(s script) error {
	opts := &server.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: s.Port, JetStream: true, StoreDir: s.Dir,
		NoSigs: true, NoLog: true,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
	}
	if s.Routes != "" {
		opts.Cluster = server.ClusterOpts{Name: "chaos", Host: "127.0.0.1", Port: s.Cluster}
		opts.Routes = server.RoutesFromStr(s.Routes)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.Start()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	srv.Shutdown()
	return nil
}

// work is one worker.
func work(s script) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	engine, err := ingest.Open(ctx, ingest.Config{
		URL: s.NATS, Requests: s.Quota, Per: time.Minute, ReadEvery: s.ReadEvery,
		Replicas: replicas(s.NATS),
	})
	if err != nil {
		return err
	}
	defer func() { _ = engine.Close() }()
	client, err := ricloud.NewClient(s.Token, ricloud.WithBaseURL(s.API),
		ricloud.WithPacer(engine.Pacer()), ricloud.WithLogger(logger))
	if err != nil {
		return err
	}
	handler, err := engine.WebhookHandler(ricloud.WithWebhookSecrets(ricloud.NewSecret(s.Secret)))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return err
	}
	hooks := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = hooks.Serve(listener) }()
	defer func() { _ = hooks.Close() }()
	effects := &http.Client{Timeout: 10 * time.Second}
	err = engine.Run(ctx, client, ingest.Handlers{
		Concurrency: s.Concurrency, RetryWait: 500 * time.Millisecond, Attempts: 12, Timeout: time.Minute,
		Logger: logger,
		Secret: func(_ context.Context, key string) (ricloud.Secret, error) {
			return ricloud.NewSecret(s.Password + key), nil
		},
		Result: func(ctx context.Context, r *ingest.Result) error {
			file, err := r.Open(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			var keys []string
			for record, err := range ricloud.Records[json.RawMessage](file) {
				if err != nil {
					return err
				}
				_ = record
				keys = append(keys, r.Key(len(keys)))
			}
			body, err := json.Marshal(effect{
				Worker: s.Name, PID: os.Getpid(), Account: r.Account,
				Result: string(r.ID), Keys: keys,
			})
			if err != nil {
				return err
			}
			//nolint:noctx // it is what is being told
			resp, err := effects.Post(s.Effects, "application/json", bytes.NewReader(body))
			if err != nil {
				return err
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New("the effect was refused: " + resp.Status)
			}
			return nil
		},
	})
	return err
}

func replicas(urls string) int { return min(3, strings.Count(urls, ",")+1) }

// effect is what a handler did with a result.
type effect struct {
	Worker  string   `json:"worker"`
	PID     int      `json:"pid"`
	Account string   `json:"account"`
	Result  string   `json:"result"`
	Keys    []string `json:"keys"`
	at      time.Time
}

func loopback(port int) string {
	u := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	return u.String()
}
