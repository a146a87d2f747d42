package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// check compares what the API saw with what the engine promises.
func (w *world) check(ctx context.Context, finished bool) error {
	took := time.Since(w.began)
	if w.calm {
		w.measureIdle(ctx)
	}
	calls := slices.DeleteFunc(w.sandbox.Calls(), func(c ricloudtest.Call) bool {
		return c.Operation == ricloudtest.StorageGet
	})
	counts := w.sandbox.CallCounts()
	servers := w.nats + alive(w.nodes)
	for _, c := range w.workers { // their CPU time shows when they end
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		<-c.exited
	}
	var wrong []string
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !finished {
		fail("not every account is done or dead")
	}
	w.checkAccounts(ctx, fail)
	w.checkLogins(ctx, fail)
	w.checkResults(ctx, fail)
	worst := w.checkQuota(calls, fail)
	disk := w.checkSecrets(fail)
	each := float64(len(calls)) / float64(w.accounts)
	limit := 4.0
	if w.calm {
		limit = 3.7
		if w.webhooks {
			limit = 3.3
		}
	}
	if each > limit {
		fail("%.2f requests an account are more than %.1f", each, limit)
	}
	fmt.Printf("%d accounts, %d workers, webhooks %v, %d kills, seed %d: %v, %.2f requests an "+
		"account, "+
		"worst minute %d of %d, %.1f ms CPU an account (%d NATS servers: %.1f ms), "+
		"%.1f KB on disk an account\n",
		w.accounts, w.settings.workers, w.webhooks, len(w.killed), w.seed, took.Round(time.Second), each,
		worst, w.quota,
		w.each(w.cpu), w.settings.nodes, w.each(servers), float64(disk)/1024/float64(w.accounts))
	if w.calm && w.idleCPU > 0 {
		busy := w.cpu - w.startCPU - time.Duration(float64(w.idleCPU)*(took+idleFor).Seconds())
		fmt.Printf("CPU of all workers: start %v, each idle second %v, an account beyond that %.1f ms\n",
			w.startCPU, w.idleCPU, w.each(busy))
	}
	fmt.Println("requests:", counts)
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "\n  "))
}

// each returns a CPU time divided by the accounts, in milliseconds.
func (w *world) each(cpu time.Duration) float64 {
	return float64(cpu.Microseconds()) / 1000 / float64(w.accounts)
}

// plain is a client of its own, which no pacer holds back.
func (w *world) plain() *ricloud.Client { return w.sandbox.Client() }

type failer func(format string, args ...any)

// checkAccounts: locked ones are dead letters with a reason, all others done.
func (w *world) checkAccounts(ctx context.Context, fail failer) {
	i := 0
	for a, err := range w.engine.Accounts(ctx) {
		if err != nil {
			fail("accounts: %v", err)
			return
		}
		i++
		want := ingest.Done
		var n int
		_, _ = fmt.Sscanf(a.Account.Key, "customer-%d", &n)
		if w.isLocked(n) {
			want = ingest.Dead
		}
		if a.State != want {
			fail("%s is %s (%s), not %s: %v", a.Account.Key, a.State, a.Reason, want, a.History)
		}
	}
	if i != w.accounts {
		fail("%d accounts are in the store", i)
	}
}

// checkLogins: one session an account, and one more where a code was asked for.
func (w *world) checkLogins(ctx context.Context, fail failer) {
	plain := w.plain()
	if err := w.sandbox.SetFaults(); err != nil {
		fail("faults: %v", err)
	}
	sessions := map[string]int{}
	sources := map[ricloud.ID]string{}
	for s, err := range plain.Sources.All(ctx,
		ricloud.SourceListParams{ListParams: ricloud.ListParams{Limit: 1000}}) {
		if err != nil {
			fail("sources: %v", err)
			return
		}
		sources[s.ID] = s.Identifier
	}
	for s, err := range plain.Sessions.All(ctx,
		ricloud.SessionListParams{ListParams: ricloud.ListParams{Limit: 1000}}) {
		if err != nil {
			fail("sessions: %v", err)
			return
		}
		sessions[sources[s.Source.ID]]++
	}
	for i := range w.accounts {
		want := 1
		if w.hasCode(i) {
			want = 2
		}
		if n := sessions[key(i)+"@example.com"]; n != want {
			fail("%s was logged in to %d times, not %d", key(i), n, want)
		}
	}
}

// checkResults: all are handled and acknowledged; twice only where a process
// died.
func (w *world) checkResults(ctx context.Context, fail failer) {
	w.effects.mu.Lock()
	defer w.effects.mu.Unlock()
	calls := map[string][]effect{}
	for _, e := range w.effects.calls {
		calls[e.Result] = append(calls[e.Result], e)
	}
	results, records, again := 0, 0, 0
	for poll, err := range w.plain().Polls.All(ctx,
		ricloud.PollListParams{ListParams: ricloud.ListParams{Limit: 1000}}) {
		if err != nil {
			fail("polls: %v", err)
			return
		}
		for i := range poll.Results.Data {
			r := &poll.Results.Data[i]
			results++
			if len(calls[string(r.ID)]) == 0 {
				fail("result %s was not handled", r.ID)
			}
			if r.State != ricloud.ResultConsumed {
				fail("result %s is %s", r.ID, r.State)
			}
		}
	}
	for id, all := range calls {
		records += len(all[0].Keys)
		for _, e := range all[:len(all)-1] {
			again++
			if !w.dead[e.PID] {
				fail("result %s was handled again although %s (%d) did not die: %s", id, e.Worker, e.PID,
					w.when(all))
			}
		}
	}
	if len(w.effects.table) != records {
		fail("the table has %d records, not %d", len(w.effects.table), records)
	}
	fmt.Printf("%d results, %d handled again after a death, %d records in the table\n", results, again,
		records)
}

// when says when and by whom a result was handled, and what was killed meanwhile.
func (w *world) when(all []effect) string {
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%s at %v, ", e.Worker, e.at.Sub(w.began).Round(time.Millisecond))
	}
	b.WriteString("killed:")
	for _, k := range w.killed {
		fmt.Fprintf(&b, " %s at %v", k.name, k.at.Sub(w.began).Round(time.Millisecond))
	}
	return b.String()
}

// checkQuota: no window of a minute holds more requests than the quota.
func (w *world) checkQuota(calls []ricloudtest.Call, fail failer) (worst int) {
	slices.SortFunc(calls, func(a, b ricloudtest.Call) int { return a.Time.Compare(b.Time) })
	first, limited := 0, 0
	for i, c := range calls {
		for c.Time.Sub(calls[first].Time) >= time.Minute {
			first++
		}
		worst = max(worst, i-first+1)
		if c.Status == 429 {
			limited++
		}
	}
	if worst > w.quota {
		fail("%d requests in one minute are more than %d", worst, w.quota)
	}
	if limited > 0 {
		fail("%d requests were answered 429", limited)
	}
	return worst
}

// checkSecrets searches the servers' files and the workers' logs.
func (w *world) checkSecrets(fail failer) (size int64) {
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // our own folder
		if err != nil {
			return err
		}
		if strings.Contains(path, "node-0/") {
			size += int64(len(content))
		}
		for _, canary := range []string{password, code + `"`, "signature=", w.sandbox.Token()} {
			if bytes.Contains(content, []byte(canary)) {
				fail("%s holds %q", path, canary)
			}
		}
		return nil
	})
	if err != nil {
		fail("%v", err)
	}
	return size
}
