package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// object is a JSON object of an answer, with all that is in it.
type object = map[string]any

// odd is an API that changes the resources of one kind in its answers.
type odd struct {
	next   http.RoundTripper
	kind   string
	change func(object)
}

func (o odd) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(r)
	if err != nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body) //nolint:forbidigo // of the sandbox
	if err != nil {
		return nil, err
	}
	var answer any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&answer) == nil && answer != nil {
		o.walk(answer)
		if body, err = json.Marshal(answer); err != nil {
			return nil, err
		}
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

func (o odd) walk(v any) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			o.walk(one)
		}
	case object:
		if v["resource"] == o.kind {
			o.change(v)
		}
		for _, one := range v {
			o.walk(one)
		}
	}
}

func isData(result object) bool { return result["identifier"] == "callkit.calls" }

// Whatever the API says of the state of a result, or nothing, the result is handled: only that it
// is consumed is a reason not to. One that has expired makes a dead letter, which names it.
func TestResultsInOddStates(t *testing.T) {
	t.Parallel()
	set := func(state any) func(object) { return func(r object) { r["state"] = state } }
	ids := func(poll object) {
		if list, ok := poll["results"].(object); ok {
			if data, ok := list["data"].([]any); ok {
				for i := range data {
					if one, ok := data[i].(object); ok {
						data[i] = one["id"]
					}
				}
			}
		}
	}
	for name, c := range map[string]struct {
		kind    string
		change  func(object)
		state   ingest.State
		handled int
		reason  string
	}{
		"none":       {kind: "result", change: func(r object) { delete(r, "state") }, handled: 2},
		"null":       {kind: "result", change: set(nil), handled: 2},
		"upper case": {kind: "result", change: set("Available"), handled: 2},
		"a new word": {kind: "result", change: set("quarantined"), handled: 2},
		"ids alone":  {kind: "poll", change: ids, handled: 2},
		"one expired": {
			kind: "result", handled: 1, state: ingest.Dead,
			reason: "1 results of poll",
			change: func(r object) {
				if isData(r) {
					r["state"] = "expired"
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				here[0].Poll.DataTypes = append(here[0].Poll.DataTypes, "photos.photos")
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
				b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
					ricloud.WithTransport(odd{b.sandbox, c.kind, c.change}))
				stop := b.run(b.handlers())
				b.submit(here...)
				if c.state == "" {
					c.state = ingest.Done
				}
				b.wait(1, c.state)
				status, err := b.engine.Account(t.Context(), here[0].Key)
				require.NoError(t, err)
				assert.Contains(t, status.Reason, c.reason)
				stop()
				assert.Len(t, b.handled.results, c.handled)
				assert.LessOrEqual(t, b.sandbox.CountCalls("Results.Get"), 2)
			})
		})
	}
}

// A poll in a state that is not known has ended once it has a date of completion. Its results are
// handled, and the account is a dead letter that says so. One without a date, and a session, are
// waited for. The reason says what for, and after a day the account is a dead letter.
func TestStatesThatAreNotKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind, from, to string
		undated        bool
		reason         string
		within         time.Duration
		handled        int
		recovers       bool // the API says later what is known
	}{
		"a poll's end": {
			kind: "poll", from: "completed", to: "done", within: time.Hour, handled: 1,
			reason: `ended in the state "done", which is not known`,
		},
		"a poll": {
			kind: "poll", from: "completed", to: "done", undated: true, within: 26 * time.Hour,
			reason: `is in the state "done", which is not known`,
		},
		"a poll, for a while": {
			kind: "poll", from: "completed", to: "done", undated: true, within: 26 * time.Hour,
			reason: `is in the state "done", which is not known`, recovers: true, handled: 1,
		},
		"a session": {
			kind: "session", from: "active", to: "ACTIVE", within: 26 * time.Hour,
			reason: `is in the state "ACTIVE", which is not known`,
		},
		"a session's expiry": {
			kind: "session", from: "failed", to: "ended", within: time.Hour, reason: "the login failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				there[0].Locked = c.from == "failed"
				b := newBench(t, ingest.Config{
					Memory: true, ReadEvery: 5 * time.Minute, Lease: 10 * time.Minute,
				}, ricloudtest.WithAccounts(there...))
				b.poll = 5 * time.Minute
				var known atomic.Bool
				b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
					ricloud.WithTransport(odd{b.sandbox, c.kind, func(o object) {
						if known.Load() || o["state"] != c.from {
							return
						}
						if o["state"] = c.to; c.undated {
							o["date_completed"] = nil
						}
						if c.from == "failed" {
							o["date_expired"] = time.Now().UTC().Format(time.RFC3339)
						}
					}}))
				stop := b.run(b.handlers())
				b.submit(here...)
				says := func() {
					status, err := b.engine.Account(t.Context(), here[0].Key)
					require.NoError(t, err)
					assert.Contains(t, status.Reason, c.reason)
				}
				if c.within > time.Hour {
					after(20 * time.Minute)
					says()
				}
				if b.patience = c.within; c.recovers {
					known.Store(true)
					b.wait(1, ingest.Done)
				} else {
					b.wait(1, ingest.Dead)
					says()
				}
				assert.Len(t, b.handled.results, c.handled)
				assert.Equal(t, 1, b.sandbox.CountCalls("Sessions.Create"))
				stop()
			})
		})
	}
}

// The polls of a subscription that do not say so are found by asking for them, as long as the API
// does not show those of others as well.
func TestPollsThatDoNotNameTheirSubscription(t *testing.T) {
	t.Parallel()
	for name, ignores := range map[string]bool{"asked for": false, "the filter is ignored": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, shared, _, _ := subscribed(t, 2)
				require.NoError(t, b.engine.Close())
				var err error
				b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{
					Memory: true, ReadEvery: 5 * time.Minute, Lease: 10 * time.Minute,
				}, shared)
				require.NoError(t, err)
				api := http.RoundTripper(odd{b.sandbox, "poll", func(p object) { delete(p, "subscription") }})
				if ignores {
					api = unfilteredPolls{api}
				}
				b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
					ricloud.WithTransport(api), ricloud.WithStorage("s3", b.sandbox))
				b.hook.Store(nil)
				stop := b.run(b.handlers())
				after(8 * time.Hour)
				stop()
				if ignores {
					assert.Empty(t, b.handled.results)
					return
				}
				assert.GreaterOrEqual(t, len(b.handled.results), 2*5)
				for id, n := range b.handled.results {
					assert.Equal(t, 1, n, id)
				}
			})
		})
	}
}

// unfilteredPolls is an API that ignores which polls are asked for.
type unfilteredPolls struct{ next http.RoundTripper }

func (u unfilteredPolls) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	query := r.URL.Query()
	query.Del("subscription")
	r.URL.RawQuery = query.Encode()
	return u.next.RoundTrip(r)
}

// Lists that show what has ended as if it went on, for ever, hold nobody up for ever. What they
// show is looked at now and then, and more often once it turns out wrong.
func TestListsThatLagForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 10
		there, here := fleet(accounts)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		pending := func(o object) {
			switch o["state"] {
			case "active":
				o["state"] = "pending"
			case "completed":
				o["state"], o["date_completed"] = "processing", nil
			}
		}
		lists := func(kind string, next http.RoundTripper) http.RoundTripper {
			return lagging{next, odd{next, kind, pending}, "/" + kind + "s"}
		}
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
			ricloud.WithTransport(lists("poll", lists("session", b.sandbox))))
		stop := b.run(b.handlers())
		b.submit(here...)
		b.patience = 30 * time.Minute
		b.wait(accounts, ingest.Done)
		stop()
		assert.LessOrEqual(t, b.sandbox.CountCalls("Sessions.Get"), accounts+5)
		assert.LessOrEqual(t, b.sandbox.CountCalls("Polls.Get"), accounts+5)
	})
}

// lagging is an API with a list that lags.
type lagging struct {
	next, list http.RoundTripper
	path       string
}

func (l lagging) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.URL.Path == l.path {
		return l.list.RoundTrip(r)
	}
	return l.next.RoundTrip(r)
}

// A result that shows some time after the end of its poll is handled, too. The history tells which
// tasks succeeded without one.
func TestResultsThatShowLate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lag     time.Duration
		handled int
		note    string
	}{
		"soon":  {lag: 30 * time.Second, handled: 3, note: "3 results"},
		"never": {lag: 24 * time.Hour, handled: 2, note: "2 results; 1 tasks succeeded without"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				here[0].Poll.DataTypes = append(here[0].Poll.DataTypes, "a.a", "b.b")
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
				hide := func(poll object) {
					list, _ := poll["results"].(object)
					data, _ := list["data"].([]any)
					data = slices.DeleteFunc(data, func(v any) bool {
						r, _ := v.(object)
						made, err := time.Parse(time.RFC3339, fmt.Sprint(r["date_created"]))
						return err == nil && isData(r) && time.Since(made) < c.lag
					})
					if list != nil {
						list["data"], list["total_count"] = data, len(data)
					}
				}
				b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
					ricloud.WithTransport(odd{b.sandbox, "poll", hide}))
				stop := b.run(b.handlers())
				b.submit(here...)
				b.wait(1, ingest.Done)
				status, err := b.engine.Account(t.Context(), here[0].Key)
				require.NoError(t, err)
				i := slices.IndexFunc(status.History, func(s ingest.Step) bool {
					return s.State == ingest.Handling
				})
				require.Positive(t, i)
				assert.Contains(t, status.History[i].Note, c.note)
				stop()
				assert.Len(t, b.handled.results, c.handled)
			})
		})
	}
}
