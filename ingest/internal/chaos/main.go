// Chaos shows that the ingest engine keeps its promises while processes die.
//
//	go run ./ingest/internal/chaos -minutes 3 -seed 1
//
// It starts three NATS servers and five workers as processes of their own, and a
// sandbox API whose events are dropped, doubled and late, whose answers are
// lost, and whose storage is slow and fails. Workers and one server are killed
// every few seconds. Then everything is left to finish, and what the API saw is
// compared with what the engine promises. It exits with 1 if anything differs.
//
// With -growth it kills nothing, and measures what an account costs with 1, 2,
// 4 and 8 workers.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// settings says how wild it gets.
type settings struct {
	minutes  float64
	seed     uint64
	accounts int
	workers  int
	nodes    int
	speed    float64
	quota    int // requests a minute
	webhooks bool
	calm     bool // nothing is killed, lost or delayed
	growth   bool
	keep     bool // the folder with all state and logs
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var s settings
	flag.Float64Var(&s.minutes, "minutes", 3, "how long to kill processes")
	flag.Uint64Var(&s.seed, "seed", 1, "what chance is drawn from")
	flag.IntVar(&s.accounts, "accounts", 2000, "how many accounts there are")
	flag.IntVar(&s.workers, "workers", 5, "how many workers there are")
	flag.IntVar(&s.nodes, "nodes", 3, "how many NATS servers there are")
	flag.Float64Var(&s.speed, "speed", 20, "how much faster the API works than the real one")
	flag.IntVar(&s.quota, "quota", 0, "requests a minute; 0: five an account in the time given")
	flag.BoolVar(&s.webhooks, "webhooks", true, "whether the API delivers events")
	flag.BoolVar(&s.calm, "calm", false, "kill nothing and lose nothing")
	flag.BoolVar(&s.growth, "growth", false,
		"measure what an account costs with 1, 2, 4 and 8 workers")
	flag.BoolVar(&s.keep, "keep", false, "keep the folder with the state and the logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := chaos
	if s.growth {
		run = growth
	}
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
		os.Exit(1) //nolint:gocritic // nothing deferred matters any more
	}
}

// chaos runs one storm and checks its result.
func chaos(ctx context.Context, s settings) error {
	if s.quota == 0 {
		s.quota = max(600, int(float64(s.accounts)*5/max(s.minutes, 0.25)))
	}
	w, err := newWorld(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.submit(ctx); err != nil {
		return err
	}
	if !s.calm {
		w.storm(ctx, time.Duration(s.minutes*float64(time.Minute)))
	}
	finished := w.finish(ctx, 2*time.Duration(s.minutes*float64(time.Minute))+5*time.Minute)
	return w.check(ctx, finished)
}

// growth measures what an account costs with more and more workers.
func growth(ctx context.Context, s settings) error {
	s.calm = true
	if s.quota == 0 {
		s.quota = int(10_000 / 60 * s.speed) // what the API allows, in its own time
	}
	for _, s.webhooks = range []bool{true, false} {
		for _, s.workers = range []int{1, 2, 4, 8} {
			if err := chaos(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}
