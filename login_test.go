package ricloud_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// account is an API with one iCloud account. Answers to its creates can get lost.
type account struct {
	sessions    []map[string]any // newest first
	creates     int
	lost        map[int]bool  // creates that are carried out, and whose answers are lost
	refused     bool          // lost creates are not carried out at all
	refuseFirst bool          // the first create is not carried out
	late        int           // list calls until a lost session appears
	code        string        // the code that a login needs; "": none
	clock       time.Duration // how far the server's clock is ahead
	undated     bool          // answers have no Date
	fail        error         // error of a list call
	delivered   []string      // codes that were delivered

	written string        // the identifier as the API stores it; "": as it was given
	exact   bool          // the filter by identifier matches only the API's own spelling
	lag     time.Duration // how long lists take to show a session
	missing int           // reads of a session that answer 404
	pending bool          // lists show sessions as still pending
	cut     bool          // dates are cut to the second
	oldest  bool          // lists show the oldest first
}

func (a *account) RoundTrip(req *http.Request) (*http.Response, error) {
	var answer any
	switch route := req.Method + " " + req.URL.Path; {
	case route == "POST /sessions":
		a.creates++
		if a.lost[a.creates] && (a.refused || a.refuseFirst && a.creates == 1) {
			return nil, errors.New("connection reset by peer")
		}
		answer = a.create(req)
		if a.lost[a.creates] {
			return nil, errors.New("connection reset by peer")
		}
	case route == "GET /sources":
		if a.fail != nil {
			return nil, a.fail
		}
		if given := req.URL.Query().Get("identifier"); a.exact && given != "" && given != a.written {
			answer = []any{}
			break
		}
		answer = []any{
			map[string]any{"id": 6, "type": "icloud.backup", "identifier": "jane@example.com"},
			map[string]any{
				"id": 7, "type": "icloud.account",
				"identifier": cmp.Or(a.written, "jane@example.com"),
			},
			map[string]any{"id": 8, "type": "icloud.account", "identifier": "jane@example.com.other"},
		}
	case route == "GET /sessions":
		if a.late--; a.late >= 0 || req.URL.Query().Get("source") != "7" {
			answer = []any{}
			break
		}
		answer = a.listed(req)
	case strings.HasPrefix(route, "GET /sessions/") && a.missing > 0:
		a.missing--
		return httpmock.NewStringResponse(http.StatusNotFound,
			`{"error":"not-found","message":"No such session."}`), nil
	case strings.HasPrefix(route, "GET /sessions/"):
		for _, s := range a.sessions {
			if s["id"] == strings.TrimPrefix(req.URL.Path, "/sessions/") {
				answer = s
			}
		}
	}
	resp, err := httpmock.NewJsonResponse(http.StatusOK, answer)
	if !a.undated {
		resp.Header.Set("Date", a.now().Format(http.TimeFormat))
	}
	return resp, err
}

// listed returns the sessions that a page of a lagging list shows.
func (a *account) listed(req *http.Request) []map[string]any {
	shown := []map[string]any{}
	for _, s := range a.sessions {
		if created, ok := s["date_created"].(time.Time); !ok || a.now().Sub(created) >= a.lag {
			if a.pending {
				s = maps.Clone(s)
				s["state"] = "pending"
			}
			shown = append(shown, s)
		}
	}
	if a.oldest {
		slices.Reverse(shown)
	}
	limit, err := strconv.Atoi(req.URL.Query().Get("limit"))
	if err != nil {
		limit = 10
	}
	return shown[:min(limit, len(shown))]
}

func (a *account) now() time.Time { return time.Now().Add(a.clock).UTC() }

func (a *account) create(req *http.Request) any {
	var body struct {
		Payload struct {
			Code string `json:"code"`
		} `json:"payload"`
	}
	text, _ := io.ReadAll(req.Body) //nolint:forbidigo // our own request
	_ = json.Unmarshal(text, &body)
	session := map[string]any{
		"id": fmt.Sprint("s", a.creates), "source": "7", "state": "active",
		"date_created": a.now(),
	}
	if a.cut {
		session["date_created"] = a.now().Truncate(time.Second)
	}
	if a.code != body.Payload.Code {
		session["state"], session["error"] = "failed", "code-required"
	}
	a.delivered = append(a.delivered, body.Payload.Code)
	a.sessions = append([]map[string]any{session}, a.sessions...)
	return session
}

func janesLogin() ricloud.SessionCreateParams {
	return ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: "1", Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("pw")},
	}
}

func (a *account) login(ctx context.Context, t *testing.T) (*ricloud.Session, error) {
	t.Helper()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(a))
	require.NoError(t, err)
	return client.Sessions.Login(ctx, janesLogin(),
		func(context.Context, ricloud.CodeChallenge) (ricloud.Secret, error) {
			return ricloud.NewSecret("123456"), nil
		})
}

func TestLoginGoesOnWithTheSessionItMayHaveCreated(t *testing.T) {
	t.Parallel()
	yesterday := map[string]any{
		"id": "old", "source": "7", "state": "active",
		"date_created": "1999-01-01T00:00:00Z",
	}
	for _, tt := range []struct {
		name    string
		account account
		want    string // ID of the session; "": none is found
		creates int
	}{
		{name: "found", account: account{lost: map[int]bool{1: true}}, want: "s1", creates: 1},
		{
			name:    "found although the server's clock is ahead",
			account: account{lost: map[int]bool{1: true}, clock: time.Hour},
			want:    "s1", creates: 1,
		},
		{
			name:    "found although the server's clock is behind",
			account: account{lost: map[int]bool{1: true}, clock: -time.Hour},
			want:    "s1", creates: 1,
		},
		{
			name:    "found at the last look",
			account: account{lost: map[int]bool{1: true}, late: 5},
			want:    "s1",
			creates: 1,
		},
		{
			name:    "found too late",
			account: account{lost: map[int]bool{1: true}, late: 6},
			want:    "",
			creates: 1,
		},
		{
			name:    "never created",
			account: account{lost: map[int]bool{1: true}, refused: true},
			want:    "",
			creates: 1,
		},
		{
			name:    "never created, clock ahead",
			account: account{lost: map[int]bool{1: true}, refused: true, clock: time.Hour},
			want:    "", creates: 1,
		},
		{
			name:    "the first round's",
			account: account{lost: map[int]bool{1: true}, code: "123456"},
			want:    "s2",
			creates: 2,
		},
		{
			name:    "the second round's",
			account: account{lost: map[int]bool{2: true}, code: "123456"},
			want:    "s2",
			creates: 2,
		},
		{
			name:    "not the first round's in the second",
			account: account{lost: map[int]bool{2: true}, code: "123456", refused: true},
			want:    "", creates: 2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tt.account.sessions = []map[string]any{yesterday}
				session, err := tt.account.login(t.Context(), t)
				assert.Equal(t, tt.creates, tt.account.creates, "logins a real account sees")
				if tt.want == "" {
					call, ok := errors.AsType[*ricloud.CallError](err)
					require.True(t, ok, err)
					assert.True(t, call.MaybeApplied())
					require.ErrorContains(t, err, "Sessions.Find")
					return
				}
				require.NoError(t, err)
				assert.Equal(t, ricloud.ID(tt.want), session.ID)
				assert.Equal(t, ricloud.SessionActive, session.State)
			})
		})
	}
}

// A proxy that inspects answers may put its page in the place of one, with any status: the session
// is there, and its owner has been asked. Login finds it; a caller of Create is told to look.
func TestLoginBehindAProxyThatReplacesAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 403, 404, 407, 409, 410, 422, 429, 451} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := ricloudtest.NewServer(ricloudtest.WithFaults(ricloudtest.Fault{
					Operation: "Sessions.Create", After: true, Status: status,
					Body: "<html>blocked by the company's proxy", Count: 2,
				}))
				defer server.Close()
				client := server.Client()
				defer client.Close()
				user, err := client.Users.Create(t.Context(), ricloud.UserCreateParams{Identifier: "x"})
				require.NoError(t, err)
				params := ricloud.SessionCreateParams{
					Source: ricloud.SourceParams{
						User: user.ID, Type: ricloud.SourceICloudAccount,
						Identifier: "john.appleseed@example.com",
					},
					Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
				}
				session, err := client.Sessions.Login(t.Context(), params, nil)
				require.NoError(t, err)
				assert.Equal(t, ricloud.SessionActive, session.State)
				assert.Equal(t, 1, server.CountCalls("Sessions.Create"))

				_, err = client.Sessions.Create(t.Context(), params)
				assert.True(t, maybeApplied(err), err)
				answer, ok := errors.AsType[*ricloud.Error](err)
				require.True(t, ok)
				assert.Equal(t, status, answer.StatusCode)
				require.ErrorContains(t, err, "look for it with Sessions.Find")
			})
		})
	}
}

func TestLoginSaysWhenItCouldNotLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := account{lost: map[int]bool{1: true}, fail: errors.New("the network is down")}
		_, err := a.login(t.Context(), t)
		require.ErrorContains(t, err, "connection reset by peer")
		require.ErrorContains(t, err, "the network is down")
		assert.Equal(t, 1, a.creates)
	})
}

func TestLoginStopsLookingWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		began := time.Now()
		a := account{lost: map[int]bool{1: true}, refused: true}
		_, err := a.login(ctx, t)
		require.ErrorContains(t, err, "connection reset by peer")
		assert.Equal(t, 500*time.Millisecond, time.Since(began))
		a.creates, a.fail = 0, errors.New("the network is down")
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		_, err = a.login(ctx, t)
		require.ErrorContains(t, err, "the network is down", "why the search found nothing so far")
	})
}

// A create whose context has ended is not searched for, because nothing could be sent.
func TestLoginDoesNotLookWithoutItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client, err := ricloud.NewClient("token", ricloud.WithTransport(
		ricloud.RoundTripFunc(func(*http.Request) (*http.Response, error) {
			cancel()
			return nil, errors.New("reset")
		})))
	require.NoError(t, err)
	_, err = client.Sessions.Login(ctx, janesLogin(), nil)
	call, ok := errors.AsType[*ricloud.CallError](err)
	require.True(t, ok, err)
	assert.True(t, call.MaybeApplied())
	require.NotContains(t, err.Error(), "Sessions.Find:")
}

// Only a code of digits is known to have no dashes of its own. Those of Relay are not documented.
func TestARelayCodeKeepsItsDashes(t *testing.T) {
	t.Parallel()
	var sent string
	client, err := ricloud.NewClient("token", ricloud.WithTransport(
		ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body) //nolint:forbidigo // our own request
			sent = string(body)
			return httpmock.NewStringResponse(http.StatusCreated, `{"id":"s1","state":"pending"}`), err
		})))
	require.NoError(t, err)
	_, err = client.Sessions.Create(t.Context(), ricloud.SessionCreateParams{
		Source:  ricloud.SourceParams{User: "1", Type: ricloud.SourceRelayInstance},
		Payload: ricloud.SessionPayload{Code: ricloud.NewSecret(" 12-34 56\n")},
	})
	require.NoError(t, err)
	assert.Contains(t, sent, `"code":"12-3456"`)
	blank := janesLogin()
	blank.Payload.Code, sent = ricloud.NewSecret(" \n"), ""
	_, err = client.Sessions.Create(t.Context(), blank)
	require.EqualError(t, err, "ricloud: Sessions.Create: Payload.Code holds only blanks")
	assert.Empty(t, sent, "a login without the code would ask for another one")
}

func TestARelayLoginIsNotGuessed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := account{lost: map[int]bool{1: true}}
		client, err := ricloud.NewClient("token", ricloud.WithTransport(&a))
		require.NoError(t, err)
		_, err = client.Sessions.Login(t.Context(), ricloud.SessionCreateParams{
			Source:  ricloud.SourceParams{User: "1", Type: ricloud.SourceRelayInstance},
			Payload: ricloud.SessionPayload{Code: ricloud.NewSecret("pairing")},
		}, nil)
		call, ok := errors.AsType[*ricloud.CallError](err)
		require.True(t, ok, err)
		assert.True(t, call.MaybeApplied())
		assert.Equal(t, 1, a.creates)
	})
}

func TestLoginFindsItsSessionHoweverTheAPIShowsIt(t *testing.T) {
	t.Parallel()
	lost := map[int]bool{1: true}
	for _, tt := range []struct {
		name    string
		account account
		earlier time.Duration // age of an earlier, failed session; 0: there is none
		want    string        // ID of the session; "": none may be found
	}{
		{name: "in other case", account: account{lost: lost, written: "Jane@Example.COM"}, want: "s1"},
		{
			name:    "in other case, filtered",
			account: account{lost: lost, written: "JANE@example.com", exact: true}, want: "s1",
		},
		{
			name: "with blanks", account: account{lost: lost, written: " jane@example.com ", exact: true},
			want: "s1",
		},
		{name: "5 s late", account: account{lost: lost, lag: 5 * time.Second}, want: "s1"},
		{
			name:    "20 s late, clock ahead",
			account: account{lost: lost, lag: 20 * time.Second, clock: time.Hour}, want: "s1",
		},
		{name: "not read at once", account: account{lost: lost, missing: 3, pending: true}, want: "s1"},
		{name: "after another", account: account{lost: lost}, earlier: 50 * time.Millisecond, want: "s1"},
		{
			name: "after another, clock ahead", account: account{lost: lost, clock: time.Hour},
			earlier: 50 * time.Millisecond, want: "s1",
		},
		{name: "after another, late", account: account{
			lost: lost, clock: -time.Hour,
			lag: 5 * time.Second,
		}, earlier: 50 * time.Millisecond, want: "s1"},
		{
			name: "only another", account: account{lost: lost, refused: true},
			earlier: 50 * time.Millisecond,
		},
		{
			name: "only another, clock ahead", account: account{lost: lost, refused: true, clock: time.Hour},
			earlier: 50 * time.Millisecond,
		},
		{name: "only another, clock behind", account: account{
			lost: lost, refused: true,
			clock: -90 * time.Minute,
		}, earlier: 50 * time.Millisecond},
		{name: "only another, odd clock", account: account{
			lost: lost, refused: true,
			clock: 1234567 * time.Microsecond,
		}, earlier: 100 * time.Millisecond},
		{name: "dates without a fraction", account: account{lost: lost, cut: true}, want: "s1"},
		{
			name: "the oldest first", account: account{lost: lost, oldest: true},
			earlier: 50 * time.Millisecond, want: "s1",
		},
		{name: "only another person's", account: account{lost: lost, written: "jane@example.co"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := &tt.account
				time.Sleep(123 * time.Millisecond) //nolint:forbidigo // virtual: a time that is no whole second
				if tt.earlier > 0 {
					a.sessions = slices.Repeat([]map[string]any{{
						"id": "earlier", "source": "7", "state": "failed", "error": "code-required",
						"date_created": a.now().Add(-tt.earlier),
					}}, 20) // more than a list shows without a limit
				}
				session, err := a.login(t.Context(), t)
				assert.Equal(t, 1, a.creates, "logins a real account sees")
				if tt.want == "" {
					call, ok := errors.AsType[*ricloud.CallError](err)
					require.True(t, ok, err)
					assert.True(t, call.MaybeApplied())
					return
				}
				require.NoError(t, err)
				assert.Equal(t, ricloud.ID(tt.want), session.ID)
			})
		})
	}
}

// Two logins to one account, both without an answer, do not return the same session.
func TestLoginTakesNoSessionOfAnotherLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := account{lost: map[int]bool{1: true, 2: true}}
		client, err := ricloud.NewClient("token", ricloud.WithTransport(&a))
		require.NoError(t, err)
		params := janesLogin()
		first, err := client.Sessions.Login(t.Context(), params, nil)
		require.NoError(t, err)
		second, err := client.Sessions.Login(t.Context(), params, nil)
		require.NoError(t, err)
		assert.NotEqual(t, first.ID, second.ID)
		a.refused, a.lost[3] = true, true
		_, err = client.Sessions.Login(t.Context(), params, nil)
		require.ErrorContains(t, err, "found none")
	})
}

// oneByOne makes an account safe for concurrent use.
type oneByOne struct {
	*account

	mu sync.Mutex
}

func (o *oneByOne) RoundTrip(req *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.account.RoundTrip(req)
}

// Logins of one client to one account overlap, and none gets an answer to its create. Each finds
// the session that it created, and one whose create was not carried out finds none.
func TestLoginsToOneAccountTellTheirSessionsApart(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{time.Millisecond, 200 * time.Millisecond, 3 * time.Second} {
		for _, lag := range []time.Duration{0, 5 * time.Second, 20 * time.Second} {
			for _, clock := range []time.Duration{0, -time.Hour, time.Hour} {
				for _, refused := range []bool{false, true} {
					name := fmt.Sprintf("gap %v, lag %v, clock %v, refused %v", gap, lag, clock, refused)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							a := &account{
								lost: map[int]bool{1: true, 2: true, 3: true}, lag: lag, clock: clock,
								refuseFirst: refused,
							}
							tellLoginsApart(t, &oneByOne{account: a}, gap, refused)
						})
					})
				}
			}
		}
	}
}

func tellLoginsApart(t *testing.T, api http.RoundTripper, gap time.Duration, firstRefused bool) {
	t.Helper()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
	require.NoError(t, err)
	spellings := []string{"jane@example.com", "Jane@Example.com", " jane@example.com"}
	var logins sync.WaitGroup
	for i, spelling := range spellings {
		logins.Go(func() {
			<-time.NewTimer(time.Duration(i+1) * gap).C
			session, err := client.Sessions.Login(t.Context(), ricloud.SessionCreateParams{
				Source: ricloud.SourceParams{
					User: "1", Type: ricloud.SourceICloudAccount, Identifier: spelling,
				},
				Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("pw")},
			}, nil)
			if i == 0 && firstRefused {
				assert.ErrorContains(t, err, "found none")
				return
			}
			if assert.NoError(t, err) {
				assert.Equal(t, ricloud.ID(fmt.Sprint("s", i+1)), session.ID)
			}
		})
	}
	logins.Wait()
}

// A Login that waits for another Login to the same account ends with its own context, and sends
// nothing.
func TestALoginWaitsForItsTurnAsLongAsItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &oneByOne{account: &account{lost: map[int]bool{1: true}, lag: 10 * time.Second}}
		client, err := ricloud.NewClient("token", ricloud.WithTransport(a))
		require.NoError(t, err)
		params := janesLogin()
		var first sync.WaitGroup
		first.Go(func() {
			_, err := client.Sessions.Login(t.Context(), params, nil)
			assert.NoError(t, err)
		})
		<-time.NewTimer(time.Second).C
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = client.Sessions.Login(ctx, params, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "not sent")
		call, ok := errors.AsType[*ricloud.CallError](err)
		require.True(t, ok)
		assert.False(t, call.MaybeApplied())
		first.Wait()
		assert.Equal(t, 1, a.creates)
	})
}

// While a Login searches for its session, a plain Create to the same account is in progress. The
// Login waits for its end, and takes the session that it created itself.
func TestLoginTakesNoSessionOfACreateInProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The first list shows neither session, and the second shows both.
		a := account{lost: map[int]bool{1: true}, late: 1}
		var mu sync.Mutex
		// The second create is carried out at once, but answered after 8 seconds.
		slow := ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			second := r.Method == http.MethodPost && a.creates == 1
			resp, err := a.RoundTrip(r)
			mu.Unlock()
			if second {
				<-time.NewTimer(8 * time.Second).C
			}
			return resp, err
		})
		client, err := ricloud.NewClient("token", ricloud.WithTransport(slow))
		require.NoError(t, err)
		params := janesLogin()
		var other sync.WaitGroup
		other.Go(func() {
			<-time.NewTimer(time.Millisecond).C
			session, err := client.Sessions.Create(t.Context(), params)
			if assert.NoError(t, err) {
				assert.Equal(t, ricloud.ID("s2"), session.ID)
			}
		})
		session, err := client.Sessions.Login(t.Context(), params, nil)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("s1"), session.ID)
		other.Wait()

		a.creates, a.late, a.sessions = 0, 0, nil
		since := time.Now()
		_, err = client.Sessions.Create(t.Context(), params)
		require.Error(t, err)
		a.sessions[0]["id"] = "s3"
		other.Go(func() {
			_, err := client.Sessions.Create(t.Context(), params)
			assert.NoError(t, err)
		})
		<-time.NewTimer(time.Second).C
		session, err = client.Sessions.Find(t.Context(),
			ricloud.SessionFindParams{Source: params.Source, Since: since})
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("s3"), session.ID, "s2 is about to be returned by the other create")
		other.Wait()
	})
}

// A search costs one request for the source and one for each list of sessions. None is retried.
func TestFindCostsFewRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		api   account
		reads int
	}{
		"it is there": {api: account{lost: map[int]bool{1: true}}, reads: 2},
		"it is not":   {api: account{lost: map[int]bool{1: true}, refused: true}, reads: 8},
		"it shows late": {
			api:   account{lost: map[int]bool{1: true}, lag: 5 * time.Second},
			reads: 5,
		},
		"an outage": {
			api:   account{lost: map[int]bool{1: true}, fail: errors.New("reset")},
			reads: 6,
		},
		"clock an hour off": {
			api:   account{lost: map[int]bool{1: true}, clock: time.Hour},
			reads: 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var reads int
				client, err := ricloud.NewClient("token", ricloud.WithTransport(
					ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
						if r.URL.Path == "/sources" || r.URL.Path == "/sessions" && r.Method == http.MethodGet {
							reads++
						}
						return tc.api.RoundTrip(r)
					})))
				require.NoError(t, err)
				for n := range 40 { // these answers show the API's clock
					<-time.NewTimer(time.Duration(n) * 37 * time.Millisecond).C
					_, _ = client.Sessions.Get(t.Context(), "any")
				}
				_, _ = client.Sessions.Login(t.Context(), janesLogin(), nil)
				assert.LessOrEqual(t, reads, tc.reads)
			})
		})
	}
}

// Only a list that shows no session proves that there is none. Another answer does not, nor does a
// list of sessions without their dates.
func TestFindTakesNoOtherAnswerForAnEmptyList(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"a proxy's JSON":          {200, `{"status":"maintenance"}`},
		"an empty answer":         {200, ``},
		"no list":                 {200, `{"data":null}`},
		"a list that is null":     {200, `{"data":null,"has_more":false}`},
		"null":                    {200, `null`},
		"an empty list with more": {200, `{"data":[],"has_more":true}`},
		"no such list":            {404, `{"error":"not-found","message":"no such route"}`},
		"no such route":           {404, `<html>404 page not found</html>`},
		"a list that is gone":     {410, `{"error":"gone"}`},
		"a session without dates": {200, `{"data":[{"id":"s1","source":"7","state":"active"}]}`},
		"a date that is a number": {200, `{"data":[{"id":"s1","source":"7","date_created":1700000000}]}`},
	} {
		for _, list := range []string{"/sources", "/sessions"} {
			if list == "/sources" && strings.Contains(answer.body, "s1") {
				continue
			}
			t.Run(name+" of "+list, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					down := true
					a := account{lost: map[int]bool{1: true}}
					client, err := ricloud.NewClient("token", ricloud.WithTransport(
						ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
							if down && r.Method == http.MethodGet && r.URL.Path == list {
								return httpmock.NewStringResponse(answer.status, answer.body), nil
							}
							return a.RoundTrip(r)
						})))
					require.NoError(t, err)
					find := ricloud.SessionFindParams{Source: janesLogin().Source, Since: time.Now()}
					_, err = client.Sessions.Login(t.Context(), janesLogin(), nil)
					require.Error(t, err)
					require.NotContains(t, err.Error(), "found none")
					_, err = client.Sessions.Find(t.Context(), find)
					require.Error(t, err)
					require.NotErrorIs(t, err, ricloud.ErrNotFound)
					require.ErrorContains(t, err, "Sessions.Find")
					down = false
					session, err := client.Sessions.Find(t.Context(), find)
					require.NoError(t, err)
					assert.Equal(t, ricloud.ID("s1"), session.ID)
				})
			})
		}
	}
}

// Without a Date header, an API's clock that is behind leaves open whether a session is the one.
func TestFindKnowsThatItDoesNotKnowTheClock(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		clock   time.Duration
		undated bool
		certain bool // that there is no session
	}{
		"behind":                {clock: -time.Hour, undated: true},
		"behind, with a Date":   {clock: -time.Hour, certain: true},
		"a day behind":          {clock: -23 * time.Hour, undated: true},
		"an old session's date": {clock: -25 * time.Hour, undated: true, certain: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := account{clock: tt.clock, undated: tt.undated}
				_, err := a.login(t.Context(), t)
				require.NoError(t, err)
				<-time.NewTimer(2 * time.Second).C
				a.lost, a.refused = map[int]bool{2: true}, true
				_, err = a.login(t.Context(), t)
				require.Error(t, err)
				if tt.certain {
					require.ErrorContains(t, err, "found none")
					return
				}
				require.NotErrorIs(t, err, ricloud.ErrNotFound)
				require.ErrorContains(t, err, "Sessions.Find: session s1 is dated earlier")
			})
		})
	}
}

// The date of an error answer may be a proxy's. It says nothing about the API's clock.
func TestAProxysClockIsNotTheAPIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := account{lost: map[int]bool{1: true}, undated: true}
		client, err := ricloud.NewClient("token", ricloud.WithRetries(0), ricloud.WithTransport(
			ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path != "/organisation" {
					return a.RoundTrip(r)
				}
				resp := httpmock.NewStringResponse(http.StatusBadGateway, "")
				resp.Header.Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				return resp, nil
			})))
		require.NoError(t, err)
		_, err = client.Organisation.Get(t.Context())
		require.ErrorIs(t, err, ricloud.ErrServer)
		session, err := client.Sessions.Login(t.Context(), janesLogin(), nil)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("s1"), session.ID)
	})
}

// A login can make a new source, which the list of sources may show later than another one of the
// same name.
func TestFindLooksForTheSourceAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		sources := `{"id":7,"type":"icloud.account","identifier":"Jane@example.com"}`
		client, err := ricloud.NewClient("token", ricloud.WithTransport(
			ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
				body := "[]"
				switch {
				case r.Method == http.MethodPost:
					return nil, errors.New("reset")
				case r.URL.Path == "/sources" && time.Since(began) > 20*time.Second:
					body = "[" + sources + `,{"id":9,"type":"icloud.account","identifier":"jane@example.com"}]`
				case r.URL.Path == "/sources":
					body = "[" + sources + "]"
				case r.URL.Path == "/sessions/s1":
					body = `{"id":"s1","state":"active","source":9}`
				case r.URL.Query().Get("source") == "9":
					body = fmt.Sprintf(`[{"id":"s1","state":"active","source":9,"date_created":%q}]`,
						began.UTC().Format(time.RFC3339Nano))
				}
				resp := httpmock.NewStringResponse(http.StatusOK, body)
				resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
				return resp, nil
			})))
		require.NoError(t, err)
		session, err := client.Sessions.Login(t.Context(), janesLogin(), nil)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("s1"), session.ID)
	})
}

// A list that cannot be found for a moment is read again.
func TestFindOutlivesAListThatIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		missing := 2
		a := account{lost: map[int]bool{1: true}}
		client, err := ricloud.NewClient("token", ricloud.WithTransport(
			ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/sessions" && r.Method == http.MethodGet && missing > 0 {
					missing--
					return httpmock.NewStringResponse(404, `{"error":"not-found"}`), nil
				}
				return a.RoundTrip(r)
			})))
		require.NoError(t, err)
		session, err := client.Sessions.Login(t.Context(), janesLogin(), nil)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("s1"), session.ID)
		assert.Equal(t, 1, a.creates)
	})
}

// An API that does not know a filter lists sources and sessions of other accounts too.
func TestFindTakesNoSessionOfAnotherSource(t *testing.T) {
	t.Parallel()
	const jane = `{"id":"7","user":"1","type":"icloud.account","identifier":"Jane@example.com"}`
	for name, tc := range map[string]struct{ source, session, want string }{
		"her own":         {source: jane, session: `"user":"1","source":` + jane, want: "s1"},
		"an ID only":      {source: jane, session: `"source":"7"`, want: "s1"},
		"another source":  {source: jane, session: `"user":"1","source":"8"`},
		"another user":    {source: jane, session: `"user":"2","source":"7"`},
		"another account": {source: jane, session: `"source":{"id":"7","identifier":"bob@example.com"}`},
		"another's sources": {
			source: strings.Replace(jane, `"user":"1"`, `"user":"2"`, 1), session: `"source":"7"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				since := time.Now()
				session := fmt.Sprintf(`{"id":"s1","state":"active",%s,"date_created":%q}`, tc.session,
					since.Add(time.Minute).UTC().Format(time.RFC3339Nano))
				client, err := ricloud.NewClient("token", ricloud.WithTransport(
					ricloud.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
						item := session
						if r.URL.Path == "/sources" {
							item = tc.source
						}
						return httpmock.NewStringResponse(http.StatusOK, `{"data":[`+item+`]}`), nil
					})))
				require.NoError(t, err)
				found, err := client.Sessions.Find(t.Context(),
					ricloud.SessionFindParams{Source: janesLogin().Source, Since: since})
				if tc.want == "" {
					require.ErrorIs(t, err, ricloud.ErrNotFound)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, ricloud.ID(tc.want), found.ID)
			})
		})
	}
}

func TestFindIsForBackendsThatCreateAndWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := account{lost: map[int]bool{1: true}}
		client, err := ricloud.NewClient("token", ricloud.WithTransport(&a))
		require.NoError(t, err)
		source := janesLogin().Source
		since := time.Now()
		_, err = client.Sessions.Create(t.Context(), janesLogin())
		require.Error(t, err)
		find := ricloud.SessionFindParams{Source: source, Since: since}
		session, err := client.Sessions.Find(t.Context(), find)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("s1"), session.ID)
		find.Known = []ricloud.ID{"s1"}
		_, err = client.Sessions.Find(t.Context(), find)
		require.ErrorIs(t, err, ricloud.ErrNotFound)
		for field, find := range map[string]ricloud.SessionFindParams{
			"Since": {Source: source},
			"Source.Type": {Since: since, Source: ricloud.SourceParams{
				User: "1", Type: ricloud.SourceRelayInstance, Identifier: "jane",
			}},
			"Source.User": {Since: since},
			"Source.Identifier": {
				Since:  since,
				Source: ricloud.SourceParams{User: "1", Type: ricloud.SourceRelayInstance},
			},
		} {
			_, err := client.Sessions.Find(t.Context(), find)
			param, ok := errors.AsType[*ricloud.ParamError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, []string{"Sessions.Find", field}, []string{param.Operation, param.Field})
		}
		find.Since = time.Now().Add(time.Hour)
		_, err = client.Sessions.Find(t.Context(), find)
		require.EqualError(t, err, "ricloud: Sessions.Find: Since is in the future; it is the time just "+
			"before Create was called")
	})
}

func TestLoginTellsAWrongCodeFromAMissingOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := account{code: "654321"} // the login answers 123456
		var rejected []bool
		client, err := ricloud.NewClient("token", ricloud.WithTransport(&a))
		require.NoError(t, err)
		params := janesLogin()
		_, err = client.Sessions.Login(t.Context(), params, nil)
		require.ErrorIs(t, err, ricloud.ErrCodeRequired)
		require.NotErrorIs(t, err, ricloud.ErrCodeRejected)
		_, err = client.Sessions.Login(t.Context(), params,
			func(_ context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
				rejected = append(rejected, c.Rejected)
				return ricloud.NewSecret(" 123-456\n"), nil
			})
		require.ErrorIs(t, err, ricloud.ErrCodeRejected)
		require.ErrorIs(t, err, ricloud.ErrCodeRequired)
		assert.Equal(t, []bool{false, true, true}, rejected)
		assert.Equal(t, []string{"", "", "123456", "123456", "123456"}, a.delivered)
		params.Payload.Code, rejected = ricloud.NewSecret("111111"), nil
		_, err = client.Sessions.Login(t.Context(), params,
			func(_ context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
				rejected = append(rejected, c.Rejected)
				return ricloud.NewSecret("654321"), nil
			})
		require.NoError(t, err)
		assert.Equal(t, []bool{true}, rejected, "the first code was the caller's own")
	})
}

// What a create returned needs no read of its own.
func TestWaitKnowsWhatCreateReturned(t *testing.T) {
	t.Parallel()
	srv := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
	t.Cleanup(srv.Close)
	client := srv.Client()
	user, err := client.Users.Create(t.Context(), ricloud.UserCreateParams{Identifier: "u"})
	require.NoError(t, err)
	session, err := client.Sessions.Create(t.Context(), ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, ricloud.WithAwait(10*time.Second))
	require.NoError(t, err)
	require.Equal(t, ricloud.SessionActive, session.State)
	waited, err := client.Sessions.Wait(t.Context(), session.ID)
	require.NoError(t, err)
	require.Equal(t, session.ID, waited.ID)
	require.Zero(t, srv.CountCalls("Sessions.Get")+srv.CountCalls("Sessions.List"))
}
