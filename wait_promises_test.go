package ricloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/allowance"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// hangs does not answer until the client gives up.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// Outages returns answers that do not come from the API or contain nothing useful.
func Outages() map[string]RoundTripFunc {
	fixed := func(status int, body string) RoundTripFunc {
		return func(*http.Request) (*http.Response, error) { return answer(status, body) }
	}
	return map[string]RoundTripFunc{
		"500":                  fixed(500, `{"error":"server-error","message":"x"}`),
		"502 of a proxy":       fixed(502, "<html>bad gateway</html>"),
		"503 bare":             fixed(503, ""),
		"429":                  fixed(429, `{"error":"rate-limited","message":"x"}`),
		"page with 200":        fixed(200, "<html>We are down for maintenance</html>"),
		"nothing with 200":     fixed(200, ""),
		"JSON of something":    fixed(200, `{"status":"maintenance"}`),
		"array with 200":       fixed(200, `[]`),
		"string with 200":      fixed(200, `"ok"`),
		"another resource":     fixed(200, `{"id":"other","state":"completed"}`),
		"another kind":         fixed(200, `{"id":"x0","resource":"session","state":"failed"}`),
		"another kind, listed": fixed(200, `{"data":[{"id":"x0","resource":"task","state":"failed"}]}`),
		"page with 404":        fixed(404, "<html>no such site</html>"),
		"gateway's 404":        fixed(404, `{"message":"no Route matched with those values"}`),
		"framework's 404":      fixed(404, `{"timestamp":1,"status":404,"error":"Not Found","path":"/"}`),
		"page with 403":        fixed(403, "<html>blocked by the firewall</html>"),
		"page with 401":        fixed(401, "<html>log in to the proxy</html>"),
		"proxy wants a log-in": fixed(407, "<html>407</html>"),
		"captive portal":       fixed(511, "<html>accept our terms</html>"),
		"no content":           fixed(204, ""),
		"redirect to a portal": func(r *http.Request) (*http.Response, error) {
			return redirect(r, "https://portal.example.com/")
		},
		"connection reset": func(*http.Request) (*http.Response, error) {
			return nil, errors.New("connection reset by peer")
		},
		"silence":               hangs,
		"cut in the middle":     fixed(200, `{"id":"x0","sta`),
		"the state is missing":  fixed(200, `{"id":"x0"}`),
		"a page that is a list": fixed(200, `{"data":[],"has_more":false}`),
	}
}

func redirect(r *http.Request, to string) (*http.Response, error) {
	resp, err := answer(302, "")
	resp.Header.Set("Location", to)
	resp.Request = r
	return resp, err
}

// Ten waits tolerate nine minutes of each outage. They use at most a fifth of the quota, and end
// soon after the outage.
func TestWaitsOutliveEveryOutage(t *testing.T) {
	t.Parallel()
	const lasts, begins = 9 * time.Minute, 3 * time.Second
	for name, outage := range Outages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var requests atomic.Int64
				c := clientOf(t, func(r *http.Request) (*http.Response, error) {
					after := time.Since(began)
					if after > begins && after < begins+lasts {
						requests.Add(1)
						return outage(r)
					}
					state := "processing"
					if after > begins+lasts {
						state = "completed"
					}
					if id, ok := strings.CutPrefix(r.URL.Path, "/polls/"); ok {
						return answer(200, fmt.Sprintf(`{"id":%q,"state":%q}`, id, state))
					}
					var all []string
					for i := range 10 {
						all = append(all, fmt.Sprintf(`{"id":"x%d","state":%q}`, i, state))
					}
					return answer(200, `{"data":[`+strings.Join(all, ",")+`]}`)
				})
				var waits sync.WaitGroup
				for i := range 10 {
					waits.Go(func() {
						p, err := c.Polls.Wait(t.Context(), ID("x"+strconv.Itoa(i)))
						require.NoError(t, err)
						assert.Equal(t, PollCompleted, p.State)
					})
				}
				waits.Wait()
				assert.Less(t, time.Since(began), begins+lasts+time.Minute,
					"the end is known soon after the outage")
				allowed := 1.1 * lasts.Hours() * quotaPerHour / allowance.WaitShare
				assert.LessOrEqual(t, float64(requests.Load()), allowed,
					"no outage takes more than a fifth of the quota")
			})
		})
	}
}

// However little the quota is, waits take no more than a fifth of it in any of its periods, within
// a tenth: neither when many begin at once, nor in an outage, nor where each needs its own
// requests. In a shorter window, no more than that tenth go beyond its share, also after a 429 has
// held them up.
func TestWaitsTakeAFifthOfAnyQuota(t *testing.T) {
	t.Parallel()
	for _, quota := range []struct {
		n   int
		per time.Duration
	}{
		{10_000, time.Hour},
		{300, time.Hour},
		{1000, time.Hour},
		{600, time.Minute},
		{20, time.Second},
	} {
		for name, outage := range map[string]RoundTripFunc{
			"429":     func(*http.Request) (*http.Response, error) { return answer(429, "") },
			"500":     func(*http.Request) (*http.Response, error) { return answer(500, "") },
			"no list": func(*http.Request) (*http.Response, error) { return answer(403, `{"error":"x"}`) },
		} {
			t.Run(fmt.Sprintf("%d in %s/%s", quota.n, quota.per, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					var sent []time.Time
					c := clientOf(t, func(r *http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						sent = append(sent, time.Now())
						id, ok := strings.CutPrefix(r.URL.Path, "/polls/")
						if !ok || name != "no list" && len(sent)%300 > 200 {
							return outage(r)
						}
						return answer(200, fmt.Sprintf(`{"id":%q,"state":"processing"}`, id))
					}, WithRateLimit(quota.n, quota.per))
					ctx, cancel := context.WithTimeout(t.Context(), max(2*quota.per, 20*time.Minute))
					defer cancel()
					var waits sync.WaitGroup
					for i := range 100 {
						waits.Go(func() {
							_, err := c.Polls.Wait(ctx, ID("p"+strconv.Itoa(i)))
							assert.Error(t, err)
						})
					}
					waits.Wait()
					period := max(quota.per, time.Minute)
					fifth := float64(quota.n) * float64(period) / float64(quota.per) / allowance.WaitShare
					for _, window := range []time.Duration{period, period / 7, period / 60} {
						share := fifth * float64(window) / float64(period)
						assert.LessOrEqual(t, most(sent, window), int(share+max(1, fifth/10))+1, window)
					}
				})
			})
		}
	}
}

// A request that follows a redirect counts towards the waits' fifth, whichever request of a wait it
// follows.
func TestRedirectsCountTowardsTheFifth(t *testing.T) {
	t.Parallel()
	const (
		open   = `{"id":%q,"state":"processing"}`
		hidden = `{"id":%q,"state":"completed","tasks_completed":["t"]}`
	)
	type watch func(context.Context, *Client)
	polls := func(n int) watch {
		return func(ctx context.Context, c *Client) {
			var waits sync.WaitGroup
			for i := range n {
				waits.Go(func() {
					for ctx.Err() == nil {
						_, err := c.Polls.Wait(ctx, ID("p"+strconv.Itoa(i)))
						assert.Error(t, err)
					}
				})
			}
			waits.Wait()
		}
	}
	for name, tc := range map[string]struct {
		poll, list, tasks string // the answers; none: refused
		begin             watch
	}{
		"of GETs and lists":    {poll: open, begin: polls(20)},
		"of a list of tasks":   {poll: hidden, tasks: `[{"id":"t","state":"failed"}]`, begin: polls(2)},
		"of the GET of a task": {poll: hidden, begin: polls(2)},
		"of a list of events": {list: `[]`, begin: func(ctx context.Context, c *Client) {
			for _, err := range c.Events.Watch(ctx, EventWatchParams{}) {
				assert.Error(t, err, "there are none")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var sent atomic.Int64
				c := clientOf(t, func(r *http.Request) (*http.Response, error) {
					sent.Add(1)
					if hops := len(r.URL.Query().Get("hops")); hops < 3 {
						return redirect(r, r.URL.Path+"?hops="+strings.Repeat("x", hops+1))
					}
					body := tc.list
					switch kind, id, isGet := strings.Cut(r.URL.Path[1:], "/"); {
					case isGet && kind == "polls":
						body = fmt.Sprintf(tc.poll, id)
					case isGet:
						body = `{"id":"t","state":"failed"}`
					case kind == "tasks":
						body = tc.tasks
					}
					if body == "" {
						return answer(403, `{"error":"missing-scope"}`)
					}
					return answer(200, body)
				}, WithPolling(100*time.Millisecond, 200*time.Millisecond), WithRateLimit(10_000, time.Hour))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				tc.begin(ctx, c)
				const fifth = quotaPerHour / allowance.WaitShare
				assert.InDelta(t, fifth, sent.Load(), fifth/10)
			})
		})
	}
}

// Waits have their part of the allowance whatever else reads for the client: a busy record of
// events, many watches of events, and waits with options.
func TestNothingStarvesWaits(t *testing.T) {
	t.Parallel()
	for name, beside := range map[string]struct{ watches, options int }{
		"a busy record": {watches: 1}, "many watches": {watches: 10},
		"waits with options": {options: 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				events, began := 0, time.Now()
				c := clientOf(t, func(r *http.Request) (*http.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					kind, id, isGet := strings.Cut(r.URL.Path[1:], "/")
					switch {
					case kind == "events":
						events++
						return answer(200, fmt.Sprintf(`{"data":[{"id":"e%d","type":"x","date_created":%q}]}`,
							events, time.Now().UTC().Format(time.RFC3339Nano)))
					case !isGet:
						return answer(403, `{"error":"missing-scope"}`)
					case kind == "sessions" && time.Since(began) > 30*time.Second:
						return answer(200, fmt.Sprintf(`{"id":%q,"state":"active"}`, id))
					}
					return answer(200, fmt.Sprintf(`{"id":%q,"state":"pending"}`, id))
				})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				var others, waits sync.WaitGroup
				for range beside.watches {
					others.Go(func() {
						for _, err := range c.Events.Watch(ctx, EventWatchParams{}) {
							if ctx.Err() == nil {
								assert.NoError(t, err)
							}
						}
					})
				}
				for i := range beside.options {
					others.Go(func() {
						_, err := c.Polls.Wait(ctx, ID("p"+strconv.Itoa(i)), WithQuery("a", "b"))
						assert.Error(t, err)
					})
				}
				for i := range 200 {
					waits.Go(func() {
						_, err := c.Sessions.Wait(ctx, ID("s"+strconv.Itoa(i)))
						assert.NoError(t, err)
					})
				}
				waits.Wait()
				// Half of 2,000 an hour: 200 waits, each of which is read once before the end and once after.
				assert.Less(t, time.Since(began), 40*time.Minute)
				cancel()
				others.Wait()
			})
		})
	}
}

// most returns the most requests that were sent in a window.
func most(sent []time.Time, window time.Duration) (n int) {
	for first, at := range sent {
		last, _ := slices.BinarySearchFunc(sent, at.Add(window), time.Time.Compare)
		n = max(n, last-first)
	}
	return n
}

// A wait sends one request for each read and does not retry it: the wait reads again anyway.
func TestAWaitsReadIsNotRetriedWithinTheCall(t *testing.T) {
	t.Parallel()
	for name, outage := range Outages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var last time.Time
				c := clientOf(t, func(r *http.Request) (*http.Response, error) {
					now := time.Now()
					assert.GreaterOrEqual(t, now.Sub(last), 800*time.Millisecond)
					last = now
					if time.Since(began) < 50*time.Second {
						return outage(r)
					}
					return answer(200, `{"id":"x0","state":"completed"}`)
				})
				_, err := c.Polls.Wait(t.Context(), "x0")
				require.NoError(t, err)
			})
		})
	}
}

// A wait fails after more than ten minutes of an outage, and its error says why.
func TestAWaitEndsWithItsOutage(t *testing.T) {
	t.Parallel()
	for name, outage := range Outages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				c := clientOf(t, outage)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				_, err := c.Polls.Wait(ctx, "x0")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorContains(t, err, "; the last read failed: ",
					"whatever ends a wait, the last failure is in its error")
				_, err = c.Polls.Wait(t.Context(), "x0")
				require.Error(t, err)
				assert.Greater(t, time.Since(began), 10*time.Minute)
				assert.Less(t, time.Since(began), 14*time.Minute)
			})
		})
	}
}

func TestWhatCannotHealEndsAWaitAtOnce(t *testing.T) {
	t.Parallel()
	wantsLogin := &transport.ProxyError{StatusCode: 407}
	tests := map[string]struct {
		fault RoundTripFunc
		is    error
	}{
		"an untrusted certificate": {fault: func(*http.Request) (*http.Response, error) {
			return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
		}, is: nil},
		"another host's certificate": {fault: func(*http.Request) (*http.Response, error) {
			return nil, x509.HostnameError{Certificate: &x509.Certificate{}, Host: "api.example.com"}
		}, is: nil},
		"a refused token": {fault: func(*http.Request) (*http.Response, error) {
			return answer(401, `{"error":"unauthorized","message":"x"}`)
		}, is: ErrUnauthorized},
		"a refused token without a body": {fault: func(*http.Request) (*http.Response, error) {
			return answer(401, "")
		}, is: ErrUnauthorized},
		"a proxy that wants a password": {fault: func(*http.Request) (*http.Response, error) {
			return nil, wantsLogin
		}, is: wantsLogin},
		"not permitted": {fault: func(*http.Request) (*http.Response, error) {
			return answer(403, `{"error":"missing-scope","message":"x"}`)
		}, is: ErrMissingScope},
		"no such poll": {fault: func(*http.Request) (*http.Response, error) {
			return answer(404, `{"error":"not-found","message":"x"}`)
		}, is: ErrNotFound},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				c := clientOf(t, tc.fault)
				_, err := c.Polls.Wait(t.Context(), "p")
				require.Error(t, err)
				require.ErrorContains(t, err, "Polls.Wait")
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				} else {
					require.ErrorContains(t, err, "certificate")
				}
				assert.Less(t, time.Since(began), 10*time.Second)
			})
		})
	}
}

// One refusal of the token does not end a wait, because the token may be in rotation.
func TestATokenRefusedOnceIsNoEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := clientOf(t, func(*http.Request) (*http.Response, error) {
			if n++; n == 1 {
				return answer(401, `{"error":"unauthorized"}`)
			}
			return answer(200, `{"id":"p","state":"completed"}`)
		})
		_, err := c.Polls.Wait(t.Context(), "p")
		require.NoError(t, err)
	})
}

// Reads and lists that hang delay no other wait by more than one interval.
func TestWhatHangsDelaysNobody(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 7, 8, 30, 100} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := clientOf(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path != "/polls/good" {
						return hangs(r)
					}
					return answer(200, `{"id":"good","state":"completed"}`)
				}, WithRateLimit(1_000_000, time.Hour))
				ctx, cancel := context.WithCancel(t.Context())
				var waits sync.WaitGroup
				for i := range n {
					waits.Go(func() {
						_, err := c.Polls.Wait(ctx, ID("hangs-"+strconv.Itoa(i)))
						assert.Error(t, err)
					})
				}
				for _, after := range []time.Duration{
					time.Second, 5 * time.Second, 35 * time.Second,
					2 * time.Minute,
				} {
					<-time.NewTimer(after).C
					began := time.Now()
					_, err := c.Polls.Wait(ctx, "good")
					require.NoError(t, err)
					assert.LessOrEqual(t, time.Since(began), 10*time.Second, "after %s", after)
				}
				cancel()
				waits.Wait()
			})
		})
	}
}

func TestBeingOutrunByOnesOwnCallsIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return answer(200, `{"id":"r","state":"consumed"}`)
			}
			state := "processing"
			if time.Since(began) > 30*time.Minute {
				state = "completed"
			}
			return answer(200, fmt.Sprintf(`{"id":"p","state":%q}`, state))
		}, WithRateLimit(10_000, time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for range 20 {
			others.Go(func() {
				for ctx.Err() == nil {
					_, _ = c.Results.Acknowledge(ctx, "r")
				}
			})
		}
		_, err := c.Polls.Wait(t.Context(), "p")
		require.NoError(t, err)
		assert.Less(t, time.Since(began), 31*time.Minute, "waits keep a share")
		cancel()
		others.Wait()
	})
}

// If a page of 100 large polls exceeds the limit of a body, smaller pages are requested.
func TestAListPageThatIsTooLargeIsAskedForSmaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const polls, size, limit = 100, 460, 6_600
		var mu sync.Mutex
		padding := strings.Repeat("x", size)
		began := time.Now()
		tooLarge, lists, gets := 0, 0, 0
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			state := "processing"
			if time.Since(began) > 10*time.Minute {
				state = "completed"
			}
			poll := func(id string) string {
				return fmt.Sprintf(`{"id":%q,"state":%q,"pad":%q}`, id, state, padding)
			}
			if id, ok := strings.CutPrefix(r.URL.Path, "/polls/"); ok {
				gets++
				return answer(200, poll(id))
			}
			asked, err := strconv.Atoi(r.URL.Query().Get("limit"))
			require.NoError(t, err)
			lists++
			if asked*size > limit {
				tooLarge++
			}
			from := 0
			if after := r.URL.Query().Get("after_id"); after != "" {
				from, err = strconv.Atoi(after)
				require.NoError(t, err)
				from++
			}
			var page []string
			for i := from; i < min(from+asked, polls); i++ {
				page = append(page, poll(strconv.Itoa(i)))
			}
			return answer(200,
				fmt.Sprintf(`{"data":[%s],"has_more":%t}`, strings.Join(page, ","), from+asked < polls))
		}, WithMaxBody(limit))
		var waits sync.WaitGroup
		for i := range polls {
			waits.Go(func() {
				_, err := c.Polls.Wait(t.Context(), ID(strconv.Itoa(i)))
				require.NoError(t, err)
			})
		}
		waits.Wait()
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%d lists, of which %d too large, %d gets, ended %s late", lists, tooLarge, gets,
			time.Since(began)-10*time.Minute)
		assert.Less(t, tooLarge, 12, "what is learnt is remembered")
		assert.Less(t, time.Since(began), 11*time.Minute)
	})
}

// Waits share a list page even if some of its items have no ID.
func TestListItemsWithoutAnIDLeaveTheListShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const polls = 100
		began, gets, lists := time.Now(), 0, 0
		var mu sync.Mutex
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			state := "processing"
			if time.Since(began) > 2*time.Minute {
				state = "completed"
			}
			if id, ok := strings.CutPrefix(r.URL.Path, "/polls/"); ok {
				gets++
				return answer(200, fmt.Sprintf(`{"id":%q,"state":%q}`, id, state))
			}
			lists++
			all := []string{`{"state":"draft"}`}
			for i := range polls {
				all = append(all, fmt.Sprintf(`{"id":"p%d","state":%q}`, i, state), `{"id":null}`)
			}
			return answer(200, `{"data":[`+strings.Join(all, ",")+`]}`)
		})
		var waits sync.WaitGroup
		for i := range polls {
			waits.Go(func() {
				_, err := c.Polls.Wait(t.Context(), ID("p"+strconv.Itoa(i)))
				assert.NoError(t, err)
			})
		}
		waits.Wait()
		assert.LessOrEqual(t, gets, polls, "after its first read, the list serves each")
		assert.Less(t, lists, 60)
	})
}

// 5,000 waits use a key that must not list. Their reads stay within a fifth of the quota, and each
// wait gets its turn. The lag is the number of waits divided by the allowed rate of reads, and the
// warning says how to reduce it.
func TestManyWaitsOfAKeyThatMayNotList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const waiting = 5000
		began, gets := time.Now(), 0
		ended := func() bool { return time.Since(began) > time.Hour }
		var mu sync.Mutex
		var lines strings.Builder
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			id, ok := strings.CutPrefix(r.URL.Path, "/polls/")
			if !ok {
				return answer(403, `{"error":"missing-scope","message":"no lists for you"}`)
			}
			gets++
			state := "processing"
			if ended() {
				state = "completed"
			}
			return answer(200, fmt.Sprintf(`{"id":%q,"state":%q}`, id, state))
		}, WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
		lags := make([]time.Duration, waiting)
		var waits sync.WaitGroup
		for i := range waiting {
			waits.Go(func() {
				_, err := c.Polls.Wait(t.Context(), ID(strconv.Itoa(i)))
				assert.NoError(t, err) //nolint:testifylint // not the test's goroutine
				lags[i] = time.Since(began) - time.Hour
			})
		}
		waits.Wait()
		took := time.Since(began)
		slices.Sort(lags)
		allowed := float64(quotaPerHour) / allowance.WaitShare
		t.Logf("the median lag is %s, the worst %s", lags[waiting/2], lags[waiting-1])
		assert.LessOrEqual(t, float64(gets), 1.1*allowed*took.Hours())
		fair := time.Duration(waiting / allowed * float64(time.Hour))
		assert.LessOrEqual(t, lags[waiting/2], fair*55/100, "half of them have been read by then")
		assert.LessOrEqual(t, lags[waiting-1], fair*11/10, "nobody is left out")
		assert.Equal(t, 1, strings.Count(lines.String(), "give webhook events to Client.Notify"))
	})
}

func TestAListThatIsNotPermittedIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lists := 0
		var lines strings.Builder // safe: the hub logs from one goroutine
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			if id, ok := strings.CutPrefix(r.URL.Path, "/polls/"); ok {
				return answer(200, fmt.Sprintf(`{"id":%q,"state":"processing"}`, id))
			}
			lists++
			return answer(403, `{"error":"missing-scope","message":"no lists for you"}`)
		}, WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var waits sync.WaitGroup
		for i := range 50 {
			waits.Go(func() {
				_, err := c.Polls.Wait(ctx, ID(strconv.Itoa(i)))
				require.ErrorIs(t, err, ErrMissingScope)
				require.ErrorContains(t, err, "the key may not list")
			})
		}
		waits.Wait()
		assert.Less(t, lists, 12)
		assert.Equal(t, 1, strings.Count(lines.String(), "cannot list"))
		assert.Contains(t, lines.String(), "Client.Notify")
	})
}

// Events of other resources do not slow down the reads of a wait.
func TestEventsOfOthersSlowNothingDown(t *testing.T) {
	t.Parallel()
	for _, other := range []*Event{
		event("session", `{"id":"other","state":"expired"}`),
		event("task", `{"id":"t","session":"other","state":"processing"}`),
		event("task", `{"id":"t","poll":"other","state":"succeeded"}`),
		event("poll", `{"id":"other","state":"completed"}`),
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			c := clientOf(t, func(*http.Request) (*http.Response, error) {
				if time.Since(began) > 8*time.Second {
					return answer(200, `{"id":"s","state":"active"}`)
				}
				return answer(200, `{"id":"s","state":"pending"}`)
			})
			for i := range 20 {
				time.AfterFunc(time.Duration(i)*time.Second, func() { c.Notify(other) })
			}
			_, err := c.Sessions.Wait(t.Context(), "s")
			require.NoError(t, err)
			assert.Less(t, time.Since(began), 11*time.Second)
		})
	}
}

// Waits for the same poll yield separate copies, which callers may change.
func TestWaitsShareNothing(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t, WithPolling(time.Millisecond, time.Millisecond))
	var n atomic.Int64
	api.RegisterResponder(http.MethodGet, "=~/polls/p", func(*http.Request) (*http.Response, error) {
		state, processing := "processing", strings.Repeat(`"t",`, int(n.Add(1)))
		if n.Load() > 20 {
			state, processing = "completed", ""
		}
		return answer(200,
			fmt.Sprintf(`{"id":"p","state":%q,"tasks_succeeded":["a","b","c"],"tasks_processing":%s,
			"results":[{"id":"r","signed_url":{"url":"https://x/"}}],"errors":[{"code":"x"}]}`,
				state,
				"["+strings.TrimSuffix(processing, ",")+"]"))
	})
	var waits sync.WaitGroup
	for range 4 {
		waits.Go(func() {
			for p, err := range c.Polls.Watch(t.Context(), "p") {
				assert.Equal(t, p.State.Ended(), errors.Is(err, ErrTasksFailed), "%v", err)
				assert.Equal(t, ID("a"), p.TasksSucceeded[0], "another wait has changed it")
				p.TasksSucceeded[0], p.Results.Data[0].ID, p.Errors.Data[0].Raw[0] = "z", "z", 'z'
			}
		})
	}
	waits.Wait()
}

// Waits that end together have errors of their own, which callers may change.
func TestWaitsShareNoError(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"of the poll": `{"id":"p","state":"completed","tasks_succeeded":[],"tasks_failed":["a","b"]}`,
		"of the API":  `{"error":"invalid-parameter","params":{"a":"b"}}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			status := http.StatusOK
			if name == "of the API" {
				status = http.StatusBadRequest
			}
			c, err := NewClient("token", WithTransport(RoundTripFunc(
				func(*http.Request) (*http.Response, error) {
					<-time.NewTimer(time.Second).C // until all waits have begun
					return answer(status, body)
				})))
			require.NoError(t, err)
			var waits sync.WaitGroup
			for range 4 {
				waits.Go(func() {
					_, err := c.Polls.Wait(t.Context(), "p")
					if e, ok := errors.AsType[*StateError](err); ok {
						assert.Equal(t, []ID{"a", "b"}, e.Failed, "another wait has changed it")
						e.Failed[0], e.State = "z", "z"
					}
					if e, ok := errors.AsType[*Error](err); ok {
						assert.JSONEq(t, `{"a":"b"}`, string(e.Params), "another wait has changed it")
						e.Params[2], e.Body[2], e.Attempts[0].StatusCode = 'z', 'z', 0
					}
					assert.Error(t, err)
				})
			}
			waits.Wait()
		})
	}
}

// A wait ends with a remembered state only while that is recent. The state "expired" is final, in
// whatever order it arrives.
func TestNoStaleTruth(t *testing.T) {
	t.Parallel()
	active, expired := `{"id":"s","state":"active"}`, `{"id":"s","state":"expired","error":"service"}`
	create := SessionCreateParams{
		Source:  SourceParams{User: "1", Type: SourceMock, Identifier: "jane"},
		Payload: SessionPayload{Password: NewSecret("pw")},
	}
	tests := map[string]struct {
		between func(context.Context, *Client)
		now     string // the state that the API reports at the end
		is      error
		fresh   bool // the wait starts immediately
	}{
		"a day later": {
			between: func(context.Context, *Client) {}, now: expired, is: ErrSessionExpired,
			fresh: false,
		},
		"a day later, still active": {
			between: func(context.Context, *Client) {},
			now:     active,
			is:      nil,
			fresh:   false,
		},
		"an event said so": {between: func(_ context.Context, c *Client) {
			c.Notify(event("session", expired))
		}, now: active, is: ErrSessionExpired, fresh: false},
		"an event said so, and an older one came late": {between: func(_ context.Context, c *Client) {
			c.Notify(event("session", expired))
			c.Notify(event("session", active))
		}, now: active, is: ErrSessionExpired, fresh: true},
		"Get said so": {
			between: func(ctx context.Context, c *Client) { _, _ = c.Sessions.Get(ctx, "s") },
			now:     expired, is: ErrSessionExpired, fresh: true,
		},
		"it was deleted": {
			between: func(ctx context.Context, c *Client) { _, _ = c.Sessions.Delete(ctx, "s") },
			now:     active, is: ErrSessionExpired, fresh: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				api.RegisterResponder(http.MethodPost, "=~/sessions", jsonResponder(201, active))
				api.RegisterResponder(http.MethodGet, "=~/sessions/s", jsonResponder(200, tc.now))
				api.RegisterResponder(http.MethodDelete, "=~/sessions/s", httpmock.NewStringResponder(204, ""))
				_, err := c.Sessions.Create(t.Context(), create)
				require.NoError(t, err)
				tc.between(t.Context(), c)
				if !tc.fresh {
					<-time.NewTimer(24 * time.Hour).C
				}
				_, err = c.Sessions.Wait(t.Context(), "s")
				if tc.is == nil {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, tc.is)
			})
		})
	}
}

func TestASubscriptionThatWasDeletedIsNotActive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodPost, "=~/subscriptions",
			jsonResponder(201, `{"id":"s","state":"active"}`))
		api.RegisterResponder(http.MethodDelete, "=~/subscriptions/s",
			httpmock.NewStringResponder(204, ""))
		_, err := c.Subscriptions.Create(t.Context(), SubscriptionCreateParams{
			Session: "x", PollPayload: PollPayload{DataTypes: []string{"x"}},
		})
		require.NoError(t, err)
		got, err := c.Subscriptions.Wait(t.Context(), "s")
		require.NoError(t, err)
		assert.Equal(t, SubscriptionActive, got.State, "Create has told the waits")
		assert.Len(t, api.all(), 1)
		_, err = c.Subscriptions.Create(t.Context(), SubscriptionCreateParams{
			Session: "x", PollPayload: PollPayload{DataTypes: []string{"x"}},
		})
		require.NoError(t, err)
		_, err = c.Subscriptions.Delete(t.Context(), "s")
		require.NoError(t, err)
		got, err = c.Subscriptions.Wait(t.Context(), "s")
		_, ok := errors.AsType[*StateError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, SubscriptionDeleted, got.State)
	})
}

func TestAnUnknownStateIsNoSuccess(t *testing.T) {
	t.Parallel()
	const date = `"2026-01-02T03:04:05Z"`
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/x",
			jsonResponder(200, `{"id":"x","state":"cancelled","date_completed":`+date+`}`))
		api.RegisterResponder(http.MethodGet, "=~/tasks/x",
			jsonResponder(200, `{"id":"x","state":"cancelled","date_completed":`+date+`}`))
		api.RegisterResponder(http.MethodGet, "=~/sessions/x",
			jsonResponder(200, `{"id":"x","state":"revoked","date_expired":`+date+`}`))
		poll, err := c.Polls.Wait(t.Context(), "x")
		require.ErrorContains(t, err, "is cancelled")
		assert.Equal(t, PollState("cancelled"), poll.State)
		poll, err = c.Polls.Get(t.Context(), "x")
		require.NoError(t, err)
		assert.Equal(t, PollState("cancelled"), poll.State)
		_, err = c.Tasks.Wait(t.Context(), "x")
		require.ErrorContains(t, err, "is cancelled")
		_, err = c.Sessions.Wait(t.Context(), "x")
		require.ErrorContains(t, err, "is revoked")
	})
}

// A task that ended well but has an error is no success, whether a read or an event shows it, and
// does not say that its session is active.
func TestATaskWithAnErrorIsNoSuccess(t *testing.T) {
	t.Parallel()
	const task = `{"id":"x","session":"s","state":"succeeded","error":"partial"}`
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/tasks/x", jsonResponder(200, task))
		api.RegisterResponder(http.MethodGet, "=~/sessions/s",
			jsonResponder(200, `{"id":"s","state":"failed","error":"service"}`))
		got, err := c.Tasks.Wait(t.Context(), "x")
		state, ok := errors.AsType[*StateError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, ErrorCode("partial"), state.Code)
		assert.Equal(t, TaskSucceeded, got.State)

		c.Notify(event("session", `{"id":"s","state":"pending"}`))
		c.Notify(event("task", task))
		_, err = c.Sessions.Wait(t.Context(), "s")
		require.ErrorContains(t, err, "session s is failed")
		_, err = c.Tasks.Wait(t.Context(), "x")
		require.ErrorContains(t, err, "task x is succeeded: partial")
	})
}

// An error in a shape that no document shows is still an error, and what is empty is none.
func TestAnErrorOfAnyShapeIsNoSuccess(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]string{
		`"error":{"code":"x"}`: "completed: x", `"error":["x"]`: "completed: x",
		`"error":true`: "completed: true", `"error":{"message":"y"}`: `completed: {"message":"y"}`,
		`"errors":"x"`: "completed; x", `"errors":{"code":"x"}`: "completed; x",
		`"errors":true`: "an error without a code", `"errors":3`: "an error without a code",
		`"errors":{"data":[],"total_count":2}`: "completed",
		`"error":{},"errors":{}`:               "", `"error":false,"errors":null`: "",
		`"error":0,"errors":[]`: "", `"error":[],"errors":false`: "", `"error":"","errors":""`: "",
		`"tasks_failed":{}`: "", `"errors":{"object":"list","url":"/polls/x/errors"}`: "",
		`"errors":{"data":null,"has_more":false,"total_count":0,"url":"/x"}`: "",
		`"errors":{"object":"list","has_more":true}`:                         "completed",
		`"errors":{"data":"x"}`:                                              "an error without a code",
	} {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/x",
			jsonResponder(200, `{"id":"x","state":"completed",`+fields+`}`))
		_, err := c.Polls.Wait(t.Context(), "x")
		if want == "" {
			require.NoError(t, err, fields)
			continue
		}
		require.ErrorContains(t, err, want, fields)
	}
	stored, err := json.Marshal(&Poll{Errors: List[PollFailure]{URL: "/polls/x/errors"}})
	require.NoError(t, err)
	var again Poll
	require.NoError(t, json.Unmarshal(stored, &again))
	assert.Empty(t, again.Errors.Data, "what was stored without an error")
	err = json.Unmarshal([]byte(`{"tasks_failed":{"a":{"state":"failed"}}}`), new(Poll))
	require.Error(t, err, "tasks that are no list")
}

// The oldest API lists failed tasks as completed, so the tasks themselves are read.
func TestTasksThatAPollHidesAreAskedFor(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{
		"by a list": `{"data":[{"id":"a","poll":"p","state":"succeeded"},{"id":"b","poll":"p",` +
			`"state":"failed","error":"x"}]}`,
		"one by one":               `{"data":[{"id":"z","poll":"other","state":"succeeded"}]}`,
		"partly listed":            `[{"id":"b","state":"failed"}]`,
		"succeeded, with an error": `[{"id":"b","state":"succeeded","error":"x"}]`,
		"no list":                  `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, byEvent := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					c, api := newTestClient(t)
					body := `{"id":"p","state":"processing","tasks_completed":["a","b"],` +
						`"date_completed":"2018-11-22T14:20:53Z"}`
					api.RegisterResponder(http.MethodGet, "=~/polls/p$", jsonResponder(200, body))
					api.RegisterResponder(http.MethodGet, "=~/tasks$",
						func(*http.Request) (*http.Response, error) {
							return answer(200, list)
						})
					api.RegisterResponder(http.MethodGet, "=~/tasks/a",
						jsonResponder(200, `{"id":"a","state":"succeeded"}`))
					api.RegisterResponder(http.MethodGet, "=~/tasks/b",
						jsonResponder(200, `{"id":"b","state":"failed"}`))
					if byEvent {
						c.Notify(event("poll", body))
					}
					poll, err := c.Polls.Wait(t.Context(), "p")
					require.ErrorIs(t, err, ErrTasksFailed)
					assert.Equal(t, []ID{"a"}, poll.TasksSucceeded)
					assert.Equal(t, []ID{"b"}, poll.TasksFailed)
				})
			}
		})
	}
}

// A poll that says which tasks failed hides none, whatever else it lists.
func TestTasksThatAPollShowsAreNotAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			assert.Equal(t, "/polls/p", r.URL.Path)
			return answer(200, `{"id":"p","state":"completed","tasks_completed":["a"],"tasks_failed":[]}`)
		})
		poll, err := c.Polls.Wait(t.Context(), "p")
		require.NoError(t, err)
		assert.Equal(t, []ID{"a"}, poll.TasksSucceeded)
	})
}

// A poll that is completed, and still lists tasks that have not ended, is read again until it does
// not, however it is shown. After ten minutes it is no success.
func TestAPollWithOpenTasksIsReadAgain(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]string{
		"pending":    `"tasks_pending":["t9"]`,
		"processing": `"tasks_pending":[],"tasks_processing":{"data":["t9"]}`,
	} {
		for _, lasts := range []time.Duration{time.Minute, time.Hour} {
			t.Run(name+" for "+lasts.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					c := clientOf(t, func(r *http.Request) (*http.Response, error) {
						tasks := open
						if time.Since(began) > lasts {
							tasks = `"tasks_pending":[],"tasks_succeeded":["t9"]`
						}
						poll := `"state":"completed","date_completed":"2026-01-02T03:04:05Z",` + tasks
						if id, ok := strings.CutPrefix(r.URL.Path, "/polls/"); ok {
							return answer(200, fmt.Sprintf(`{"id":%q,%s}`, id, poll))
						}
						return answer(200, fmt.Sprintf(
							`{"data":[{"id":"p0",%[1]s},{"id":"p1",%[1]s},{"id":"p2",%[1]s},{"id":"p3",%[1]s}]}`, poll))
					})
					c.Notify(event("poll", `{"id":"p0","state":"completed",`+open+`}`))
					var waits sync.WaitGroup
					for i := range 4 {
						waits.Go(func() {
							poll, err := c.Polls.Wait(t.Context(), ID("p"+strconv.Itoa(i)))
							if !assert.NotNil(t, poll) {
								return
							}
							if lasts == time.Minute {
								require.NoError(t, err)
								assert.Equal(t, []ID{"t9"}, poll.TasksSucceeded)
								return
							}
							require.ErrorIs(t, err, ErrTasksFailed)
							require.ErrorContains(t, err, "is completed; tasks that have not ended: t9")
						})
					}
					waits.Wait()
					assert.Less(t, time.Since(began), min(lasts, 10*time.Minute)+time.Minute)
				})
			})
		}
	}
}

// A list of the oldest API cannot show the end of a poll. Many waits, whose polls a list shows,
// still read each of them once it has ended.
func TestManyPollsThatHideTheirTasksEnd(t *testing.T) {
	t.Parallel()
	for _, polls := range []int{1, 3, 5, 300} {
		for name, failures := range map[string]int{"": 0, ", some reads fail": 2} {
			t.Run(strconv.Itoa(polls)+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					began, gets, failed := time.Now(), 0, map[string]int{}
					poll := func(id string) string {
						if time.Since(began) < 30*time.Second {
							return fmt.Sprintf(`{"id":%q,"state":"processing","tasks_processing":["t%s"]}`, id, id)
						}
						return fmt.Sprintf(`{"id":%q,"state":"processing","tasks_completed":["t%s"],`+
							`"date_completed":"2018-11-22T14:20:53Z"}`, id, id)
					}
					c := clientOf(t, func(r *http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						_, id, _ := strings.Cut(r.URL.Path[1:], "/")
						switch ended := time.Since(began) >= 30*time.Second; {
						case r.URL.Path == "/tasks":
							id = strings.TrimPrefix(r.URL.Query().Get("poll"), "p")
							return answer(200, fmt.Sprintf(`[{"id":"tp%s","state":"succeeded"}]`, id))
						case id == "":
							var all []string
							for i := range polls {
								all = append(all, poll("p"+strconv.Itoa(i)))
							}
							return answer(200, "["+strings.Join(all, ",")+"]")
						case ended && failed[id] < failures && len(failed) <= 3:
							failed[id]++
							return answer(500, "")
						case ended:
							gets++
						}
						return answer(200, poll(id))
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					var waits sync.WaitGroup
					for i := range polls {
						waits.Go(func() {
							p, err := c.Polls.Wait(ctx, ID("p"+strconv.Itoa(i)))
							require.NoError(t, err)
							assert.Len(t, p.TasksSucceeded, 1)
						})
					}
					waits.Wait()
					assert.Equal(t, polls, gets, "one read shows the end of each")
				})
			})
		}
	}
}

// An event of the oldest form does not say which tasks failed, and the read that follows may show
// that none did.
func TestAPollWhoseHiddenTasksAllSucceededEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		body := `{"id":"p","state":"processing","tasks_completed":["a"],` +
			`"date_completed":"2018-11-22T14:20:53Z"}`
		api.RegisterResponder(http.MethodGet, "=~/polls/p$", jsonResponder(200, body))
		api.RegisterResponder(http.MethodGet, "=~/tasks$",
			jsonResponder(200, `[{"id":"a","poll":"p","state":"succeeded"}]`))
		c.Notify(event("poll", body))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		poll, err := c.Polls.Wait(ctx, "p")
		require.NoError(t, err)
		assert.Equal(t, []ID{"a"}, poll.TasksSucceeded)
	})
}

type tenant struct{}

func TestAWaitWithOptionsKeepsItsContextsValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, with := 0, 0
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			n++
			if r.Context().Value(tenant{}) == "acme" {
				with++
			}
			state := "processing"
			if n > 20 {
				state = "completed"
			}
			return answer(200, fmt.Sprintf(`{"id":"p","state":%q}`, state))
		})
		ctx := context.WithValue(t.Context(), tenant{}, "acme")
		_, err := c.Polls.Wait(ctx, "p", WithQuery("expand", "x"))
		require.NoError(t, err)
		assert.Equal(t, n, with)
	})
}

func TestErrorsNameTheCallThatWasMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterNoResponder(jsonResponder(403, `{"error":"missing-scope","message":"x"}`))
		var end error
		for _, err := range c.Polls.Results(t.Context(), "p") {
			end = err
		}
		require.ErrorContains(t, end, "ricloud: Polls.Results: ")
		for _, err := range c.Tasks.Watch(t.Context(), "p") {
			end = err
		}
		require.ErrorContains(t, end, "ricloud: Tasks.Watch: ")
		_, end = c.Subscriptions.Wait(t.Context(), "p")
		require.ErrorContains(t, end, "ricloud: Subscriptions.Wait: ")
	})
}

// What a call returned and what it wraps name the same operation.
func TestAnErrorIsRenamedWithWhatItWraps(t *testing.T) {
	t.Parallel()
	err := renamed("Polls.Wait", &CallError{
		Operation: "Polls.Create", Err: &Error{Operation: "Polls.Create", StatusCode: 500},
	})
	require.EqualError(t, err, "ricloud: Polls.Wait: 500 Internal Server Error")
}

// A wait whose resource has ended says so even if its context ends at the same moment.
func TestAnEndIsSaidAfterTheContextsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(t, func(*http.Request) (*http.Response, error) {
			return answer(200, `{"id":"s1","state":"pending"}`)
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for s, err := range c.Sessions.Watch(ctx, "s1") {
			if last = err; s.State == SessionPending {
				c.Notify(event("session", `{"id":"s1","state":"expired"}`))
				cancel()
			}
		}
		require.ErrorIs(t, last, ErrSessionExpired)
	})
}

// Only an API of which nothing is known has more capacity for shorter intervals. WithRateLimit says
// what it has.
func TestAShortIntervalRaisesNoQuotaThatWasGiven(t *testing.T) {
	t.Parallel()
	short := WithPolling(100*time.Millisecond, time.Second)
	const fifth = 2000. / 3600
	api := func(*http.Request) (*http.Response, error) { return answer(200, "{}") }
	assert.InEpsilon(t, 10*fifth, clientOf(t, api, short).waits.polls.share.Rate(), 1e-9)
	limited := clientOf(t, api, short, WithRateLimit(10_000, time.Hour))
	assert.InEpsilon(t, fifth, limited.waits.polls.share.Rate(), 1e-9)
}

// What a Get of the caller's shows ends the waits for it.
func TestAGetOfTheCallersEndsItsWaits(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]struct {
		state     string
		get, wait func(context.Context, *Client) error
	}{
		"sessions": {
			state: "active",
			get:   func(ctx context.Context, c *Client) error { return result(c.Sessions.Get(ctx, "x")) },
			wait:  func(ctx context.Context, c *Client) error { return result(c.Sessions.Wait(ctx, "x")) },
		},
		"polls": {
			state: "completed",
			get:   func(ctx context.Context, c *Client) error { return result(c.Polls.Get(ctx, "x")) },
			wait:  func(ctx context.Context, c *Client) error { return result(c.Polls.Wait(ctx, "x")) },
		},
		"tasks": {
			state: "succeeded",
			get:   func(ctx context.Context, c *Client) error { return result(c.Tasks.Get(ctx, "x")) },
			wait:  func(ctx context.Context, c *Client) error { return result(c.Tasks.Wait(ctx, "x")) },
		},
		"subscriptions": {
			state: "active",
			get: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Get(ctx, "x"))
			},
			wait: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Wait(ctx, "x"))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var state atomic.Value
				state.Store("pending")
				c := clientOf(t, func(*http.Request) (*http.Response, error) {
					return answer(200, fmt.Sprintf(`{"id":"x","state":%q}`, state.Load()))
				}, WithPolling(time.Minute, time.Minute))
				began := time.Now()
				time.AfterFunc(5*time.Second, func() {
					state.Store(kind.state)
					assert.NoError(t, kind.get(t.Context(), c))
				})
				require.NoError(t, kind.wait(t.Context(), c))
				assert.Equal(t, 5*time.Second, time.Since(began))
			})
		})
	}
}

func TestPollFailureKeepsItsTask(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]PollFailure{
		`{"task":"t1","code":"service","message":"down"}`: {Task: "t1", Code: "service", Message: "down"},
		`{"task_id":7,"error":"x"}`:                       {Task: "7", Code: "x"},
		`{"task":{"id":"t2"}}`:                            {Task: "t2"},
		`"service"`:                                       {Code: "service"},
		`{"task":[]}`:                                     {},
	} {
		var got PollFailure
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		written, err := json.Marshal(got)
		require.NoError(t, err)
		assert.JSONEq(t, body, string(written), "it is written as it came")
		got.Raw = nil
		assert.Equal(t, want, got, body)
	}
}
