package ricloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

const receiverURL = "https://receiver.test/webhooks"

// One call sets up a receiver that has no secret yet: it creates the config, hands over the secret
// and passes the test.
func TestEnsureWebhookConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler, err := ricloud.NewWebhookHandler(ignore)
		require.NoError(t, err)
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL+"/", handler))
		defer srv.Close()
		client := srv.Client()
		params := ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: handler.SetSecrets, MakeKeyDefault: true,
			MakeOrganisationDefault: true,
		}
		config, err := client.WebhookConfigs.Ensure(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigValid, config.State)
		assert.NotEmpty(t, config.Secret)

		key, err := client.Keys.Current(t.Context())
		require.NoError(t, err)
		assert.Equal(t, config.ID, key.WebhookConfig)
		org, err := client.Organisation.Get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, config.ID, org.WebhookConfigDefault)

		params.URL += "/" // leads to the same config
		again, err := client.WebhookConfigs.Ensure(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, config, again, "the existing config is found")
		assert.Equal(t, 1, srv.CountCalls("WebhookConfigs.Create"))
	})
}

func TestEnsureWebhookConfigExplains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL, http.NotFoundHandler()))
		defer srv.Close()
		client := srv.Client()
		config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, MakeKeyDefault: true,
		})
		failed, ok := errors.AsType[*ricloud.StateError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, "webhook_config", failed.Resource)
		assert.Equal(t, config.ID, failed.ID)
		assert.Equal(t, ricloud.ConfigInvalid, config.State)
		assert.NotEmpty(t, config.Secret, "the receiver may lack this secret")
		//nolint:testifylint // more to come
		assert.ErrorContains(t, err, receiverURL+": is the receiver up")
		assert.ErrorContains(t, err, "the right time?") //nolint:testifylint // more to come
		assert.NotContains(t, err.Error(), config.Secret.Reveal())

		key, err := client.Keys.Current(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, config.ID, key.WebhookConfig, "an invalid config does not become the default")
	})
}

// After the answer to a create is lost, Ensure finds the config and does not create another.
func TestEnsureWebhookConfigFindsALostCreate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler := newWebhook(t, ignore)
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL, handler))
		defer srv.Close()
		lose := lostAnswers{srv, http.MethodPost, "/configs/webhook"}
		config, err := srv.Client(ricloud.WithTransport(lose)).WebhookConfigs.Ensure(t.Context(),
			ricloud.WebhookConfigEnsureParams{
				URL: receiverURL, BeforeTest: handler.SetSecrets,
			})
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigValid, config.State)
		assert.Equal(t, 1, srv.CountCalls("WebhookConfigs.Create"))
	})
}

// lostAnswers loses the answers to one kind of request.
type lostAnswers struct {
	http.RoundTripper
	method, path string
}

func (l lostAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	lost := r.Method == l.method && r.URL.Path == l.path
	res, err := l.RoundTripper.RoundTrip(r)
	if err == nil && lost {
		err = res.Body.Close()
		return nil, errors.Join(errors.New("the connection broke"), err)
	}
	return res, err
}

func TestEnsureWebhookConfigStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL, newWebhook(t, ignore)),
			ricloudtest.WithDelays(ricloudtest.Delays{Config: ricloudtest.Fixed(time.Hour)}))
		defer srv.Close()
		client := srv.Client()

		_, err := client.WebhookConfigs.Ensure(t.Context(),
			ricloud.WebhookConfigEnsureParams{URL: "receiver"})
		require.ErrorContains(t, err, "WebhookConfigs.Ensure: URL")
		assert.Empty(t, srv.Calls())

		refused := errors.New("refused")
		config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: func(...ricloud.Secret) error { return refused },
		})
		require.ErrorIs(t, err, refused)
		assert.NotEmpty(t, config.ID)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		config, err = client.WebhookConfigs.Ensure(ctx,
			ricloud.WebhookConfigEnsureParams{URL: receiverURL})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, ricloud.ConfigNew, config.State)
	})
}

// configs is a minimal API of webhook configs. tests decides the outcome of each config test.
type configs struct {
	mu        sync.Mutex
	all       []*webhookConfig
	next      int
	calls     []string
	tests     func(n int) bool // reports whether the nth test of all succeeds
	tested    int
	showOnce  bool   // only the answer to a create shows the secret
	beforeAdd func() // called during a create, without the lock
	now       func() time.Time
	lag       time.Duration // until a list shows a new config
	owner     []string      // the answers about the key and the organisation, the last one repeated
}

type webhookConfig struct {
	id, url, secret, state string
	created, listed        time.Time
}

func (c *configs) RoundTrip(r *http.Request) (*http.Response, error) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if c.beforeAdd != nil && r.Method == http.MethodPost && r.URL.Path == "/configs/webhook" {
		c.beforeAdd()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, r.Method+" "+r.URL.Path)
	status, body := http.StatusOK, `{}`
	switch {
	case path[0] == "tasks":
		state := map[bool]string{true: "succeeded", false: "failed"}[strings.HasSuffix(path[1], "ok")]
		body = fmt.Sprintf(`{"id":%q,"type":"webhook_config.test","state":%q}`, path[1], state)
	case path[0] != "configs":
		body = `{"id":"1"}`
		if len(c.owner) > 0 {
			body = c.owner[0]
			c.owner = c.owner[min(1, len(c.owner)-1):]
		}
	case len(path) == 4: // a config test
		config := c.find(path[2])
		if config == nil {
			status = http.StatusNotFound
			break
		}
		c.tested++
		id := fmt.Sprintf("%d-failed", c.tested)
		if config.state = "invalid"; c.tests == nil || c.tests(c.tested) {
			config.state, id = "valid", fmt.Sprintf("%d-ok", c.tested)
		}
		body = fmt.Sprintf(`{"id":%q,"type":"webhook_config.test","state":"pending"}`, id)
	case len(path) == 3 && r.Method == http.MethodDelete:
		c.all = slices.DeleteFunc(c.all, func(w *webhookConfig) bool { return w.id == path[2] })
	case len(path) == 3:
		if config := c.find(path[2]); config != nil {
			body = c.show(config, false)
		} else {
			status = http.StatusNotFound
		}
	case r.Method == http.MethodPost:
		c.next++
		var asked struct {
			URL string `json:"url"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			return nil, err
		}
		config := &webhookConfig{
			id: strconv.Itoa(c.next), url: asked.URL, secret: fmt.Sprint("secret-", c.next), state: "new",
			created: time.Now().Truncate(time.Second), listed: time.Now().Add(c.lag),
		}
		c.all = append(c.all, config)
		body = c.show(config, true)
	default:
		var shown []string
		for _, config := range slices.Backward(c.all) { // newest first
			if !time.Now().Before(config.listed) {
				shown = append(shown, c.show(config, false))
			}
		}
		body = `{"data":[` + strings.Join(shown, ",") + `]}`
	}
	resp := httpmock.NewStringResponse(status, body)
	if c.now != nil {
		resp.Header.Set("Date", c.now().UTC().Format(http.TimeFormat))
	}
	return resp, nil
}

func (c *configs) find(id string) *webhookConfig {
	for _, config := range c.all {
		if config.id == id {
			return config
		}
	}
	return nil
}

func (c *configs) show(w *webhookConfig, created bool) string {
	secret := fmt.Sprintf(`,"secret":%q`, w.secret)
	if c.showOnce && !created {
		secret = ""
	}
	return fmt.Sprintf(`{"id":%q,"url":%q,"state":%q,"date_created":%q%s}`,
		w.id, w.url, w.state, w.created.UTC().Format(time.RFC3339), secret)
}

func (c *configs) client(t *testing.T) *ricloud.Client {
	t.Helper()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(c))
	require.NoError(t, err)
	return client
}

// secrets collects the secrets that BeforeTest gets.
type secrets []string

func (s *secrets) take(given ...ricloud.Secret) error {
	for _, secret := range given {
		*s = append(*s, secret.Reveal())
	}
	return nil
}

// Ensure does not test a valid config again, so restarts cannot invalidate it.
func TestEnsureLeavesAValidConfigAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &configs{tests: func(n int) bool { return n == 1 }}
		client := api.client(t)
		for range 5 {
			var got secrets
			config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
				URL: receiverURL, BeforeTest: got.take,
			})
			require.NoError(t, err)
			assert.Equal(t, ricloud.ConfigValid, config.State)
			assert.Equal(t, secrets{"secret-1"}, got)
		}
		assert.Equal(t, 1, api.tested)
		assert.Len(t, api.all, 1)
	})
}

// A valid config is preferred to an older one that is not valid.
func TestEnsureChoosesTheValidConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &configs{all: []*webhookConfig{
			{id: "1", url: receiverURL, state: "invalid", secret: "a"},
			{id: "2", url: receiverURL + "/", state: "valid", secret: "b", created: time.Now()},
			{id: "3", url: receiverURL, state: "deactivated", secret: "c"},
			{id: "4", url: receiverURL + "/other", state: "valid", secret: "d"},
		}}
		var got secrets
		config, err := api.client(t).WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: got.take,
			Secrets: []ricloud.Secret{ricloud.NewSecret("former"), ricloud.NewSecret("b")},
		})
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("2"), config.ID)
		assert.Equal(t, secrets{"b", "a", "former"}, got,
			"its own first, then all live ones, then the caller's")
		assert.Zero(t, api.tested)
	})
}

// A failed config test is repeated, because a load balancer may have dropped the first one.
func TestEnsureRepeatsAFailedTest(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]ricloud.ConfigState{
		0: "valid", 1: "valid", 2: "valid",
		3: "invalid",
	} {
		t.Run(strconv.Itoa(failures), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				api := &configs{tests: func(n int) bool { return n > failures }}
				config, err := api.client(t).WebhookConfigs.Ensure(t.Context(),
					ricloud.WebhookConfigEnsureParams{URL: receiverURL})
				_, failed := errors.AsType[*ricloud.StateError](err)
				assert.Equal(t, want == "invalid", failed, "%v", err)
				assert.Equal(t, want, config.State)
				assert.Equal(t, min(failures+1, 3), api.tested)
			})
		})
	}
}

// When replicas start together, one config remains, and all replicas know its secret,
// whichever of them lose the answer to their create.
func TestEnsureConverges(t *testing.T) {
	t.Parallel()
	for replicas, lost := range map[int]int{2: 0, 3: 1, 4: 2, 8: 8} {
		t.Run(fmt.Sprintf("%d lose %d", replicas, lost), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var arrived sync.WaitGroup // done when every replica has seen that there is no config
				arrived.Add(replicas)
				api := &configs{beforeAdd: func() { arrived.Done(); arrived.Wait() }}
				answered := api.client(t)
				unanswered, err := ricloud.NewClient("token", ricloud.WithTransport(
					lostAnswers{api, http.MethodPost, "/configs/webhook"}))
				require.NoError(t, err)
				got := make([]secrets, replicas)
				chosen := make([]ricloud.ID, replicas)
				var group sync.WaitGroup
				for i := range replicas {
					client := answered
					if i < lost {
						client = unanswered
					}
					group.Go(func() {
						config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
							URL: receiverURL, BeforeTest: got[i].take,
						})
						if assert.NoError(t, err) {
							chosen[i] = config.ID
						}
					})
				}
				group.Wait()
				require.Len(t, api.all, 1, "the duplicates are deleted")
				for i := range replicas {
					assert.Equal(t, ricloud.ID(api.all[0].id), chosen[i])
					assert.Contains(t, got[i], api.all[0].secret)
				}
				assert.Equal(t, "valid", api.all[0].state)
			})
		})
	}
}

// Replicas that start together end with one config although the list lags behind their creates.
// Where it lags for longer, some are left. The next Ensure of each replica chooses the same one and
// knows the secrets of all.
func TestEnsureConvergesWhereListsLag(t *testing.T) {
	t.Parallel()
	for lag, left := range map[time.Duration]int{
		time.Second: 1, 5 * time.Second: 1, time.Minute: 4,
	} {
		t.Run(lag.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const replicas = 4
				var arrived sync.WaitGroup
				arrived.Add(replicas)
				api := &configs{lag: lag, beforeAdd: func() { arrived.Done(); arrived.Wait() }}
				ensure := func() (chosen map[ricloud.ID]bool, known [replicas]secrets) {
					chosen = map[ricloud.ID]bool{}
					var mu sync.Mutex
					var all sync.WaitGroup
					for i := range replicas {
						client := api.client(t)
						all.Go(func() {
							config, err := client.WebhookConfigs.Ensure(t.Context(),
								ricloud.WebhookConfigEnsureParams{URL: receiverURL, BeforeTest: known[i].take})
							if assert.NoError(t, err) {
								mu.Lock()
								chosen[config.ID] = true
								mu.Unlock()
							}
						})
					}
					all.Wait()
					return chosen, known
				}
				first, _ := ensure()
				assert.Len(t, first, left)
				assert.Len(t, api.all, left)
				<-time.NewTimer(2 * lag).C
				later, known := ensure()
				assert.Len(t, later, 1)
				for _, config := range api.all {
					for i := range known {
						assert.Contains(t, known[i], config.secret)
					}
				}
			})
		})
	}
}

// Ensure reports an API that shows another default than the one that was asked for, unless the next
// read shows that the answer lagged. An answer without the field shows nothing.
func TestEnsureReportsADefaultThatWasNotMade(t *testing.T) {
	t.Parallel()
	show := func(id string) string {
		return fmt.Sprintf(`{"id":"1","webhook_config":%s,"webhook_config_default":%[1]s}`, id)
	}
	for name, tc := range map[string]struct {
		answers []string // to the first read, the update, and the read after it
		shown   string   // in the error; "": none
	}{
		"made":        {answers: []string{show("null"), show(`"1"`)}},
		"an object":   {answers: []string{show("null"), show(`{"id":1}`)}},
		"a lag":       {answers: []string{show("null"), show("null"), show(`"1"`)}},
		"none shown":  {answers: []string{`{"id":"1"}`}},
		"null":        {answers: []string{show("null")}, shown: "null"},
		"another":     {answers: []string{show(`"777"`)}, shown: `"777"`},
		"not even an": {answers: []string{show("null"), show("true")}, shown: "true"},
	} {
		for _, forKey := range []bool{true, false} {
			api := &configs{owner: slices.Clone(tc.answers)}
			var last ricloud.Response
			config, err := api.client(t).WebhookConfigs.Ensure(t.Context(),
				ricloud.WebhookConfigEnsureParams{
					URL: receiverURL, MakeKeyDefault: forKey, MakeOrganisationDefault: !forKey,
				}, ricloud.WithResponse(&last))
			assert.Equal(t, ricloud.ConfigValid, config.State)
			assert.Equal(t, api.owner[0], string(last.Body), "the answer of the last call")
			if tc.shown == "" {
				require.NoError(t, err, name)
				continue
			}
			var undone *ricloud.DecodeError
			require.ErrorAs(t, err, &undone, name)
			assert.Equal(t, tc.shown, undone.Snapshot, name)
			assert.Contains(t, err.Error(), "the API has not made the config 1 the default", name)
		}
	}
}

// A secret that the API shows only once is kept, and later starts succeed without seeing it again.
func TestEnsureKeepsASecretShownOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &configs{showOnce: true}
		client := api.client(t)
		var got secrets
		config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: got.take,
		})
		require.NoError(t, err)
		assert.Equal(t, secrets{"secret-1"}, got)
		assert.Equal(t, "secret-1", config.Secret.Reveal())
		kept := config.Secret

		handler, err := ricloud.NewWebhookHandler(ignore, ricloud.WithWebhookSecrets(kept))
		require.NoError(t, err)
		config, err = client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: handler.SetSecrets,
		})
		require.NoError(t, err)
		assert.True(t, config.Secret.IsZero())
		r := delivery(t, eventBody("e1"))
		r.Header.Set(ricloud.SignatureHeader, sign(kept.Reveal(), time.Now(), eventBody("e1")))
		assert.Equal(t, http.StatusOK, serve(handler, r).Code, "the handler keeps its secret")

		got = nil
		_, err = client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: got.take, Secrets: []ricloud.Secret{kept},
		})
		require.NoError(t, err)
		assert.Equal(t, secrets{"secret-1"}, got)
	})
}

// If this machine's clock differs from the API's, the error of a failed test says so.
func TestEnsureNamesTheClock(t *testing.T) {
	t.Parallel()
	for drift, want := range map[time.Duration]string{
		-2 * time.Minute: "ahead of the API's", 2 * time.Minute: "behind the API's",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				api := &configs{
					tests: func(int) bool { return false },
					now:   func() time.Time { return time.Now().Add(drift) },
				}
				_, err := api.client(t).WebhookConfigs.Ensure(t.Context(),
					ricloud.WebhookConfigEnsureParams{URL: receiverURL})
				require.ErrorContains(t, err, want)
			})
		})
	}
}

// A URL to which no event can be delivered is refused before any request is sent.
func TestEnsureRefusesURLs(t *testing.T) {
	t.Parallel()
	api := &configs{}
	client := api.client(t)
	for _, raw := range []string{
		"", "receiver", "https://", "https:///path", "https://:8080/x", "//host/path", "ftp://host/x",
		receiverURL + "?key=canary", receiverURL + "?", receiverURL + "#canary", receiverURL + "#",
		"https://user:canary@host/x", "https://canary@host/x", " " + receiverURL, receiverURL + "\n",
		"https://host/a b",
	} {
		var p *ricloud.ParamError
		_, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{URL: raw})
		require.ErrorAs(t, err, &p, "%q", raw)
		assert.Equal(t, "URL", p.Field, "%q", raw)
		assert.NotContains(t, err.Error(), "canary")
		_, err = client.WebhookConfigs.Create(t.Context(), ricloud.WebhookConfigCreateParams{URL: raw})
		require.ErrorAs(t, err, &p, "%q", raw)
		_, err = client.WebhookConfigs.Update(t.Context(), "1",
			ricloud.WebhookConfigUpdateParams{URL: raw})
		require.ErrorAs(t, err, &p, "%q", raw)
	}
	assert.Empty(t, api.calls)
	for _, raw := range []string{
		receiverURL, receiverURL + "/", "http://127.0.0.1:8080/hooks",
		"https://[::1]/x",
	} {
		_, err := client.WebhookConfigs.Create(t.Context(), ricloud.WebhookConfigCreateParams{URL: raw})
		require.NoError(t, err, "%q", raw)
	}
}

// A valid storage config is left alone unless its settings differ or the caller says that the
// credentials changed.
func TestEnsureStorageConfigLeavesAValidOneAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithUnconfigured())
		defer srv.Close()
		client := srv.Client()
		credentials, err := ricloud.CredentialsFromKey("AKIA1", ricloud.NewSecret("secret"))
		require.NoError(t, err)
		params := ricloud.StorageConfigEnsureParams{
			URL: "s3://my-bucket/results", Credentials: credentials, SignedURLsEnabled: new(true),
			MakeKeyDefault: true,
		}
		updates := func() int { return srv.CountCalls("StorageConfigs.Update") }
		for range 3 {
			config, err := client.StorageConfigs.Ensure(t.Context(), params)
			require.NoError(t, err)
			assert.Equal(t, ricloud.ConfigValid, config.State)
		}
		assert.Equal(t, 0, updates())
		assert.Equal(t, 1, srv.CountCalls("StorageConfigs.Create"))
		assert.Equal(t, 1, srv.CountCalls("Keys.UpdateCurrent"), "it is the default already")
		tests := srv.CountCalls("StorageConfigs.Test")

		params.SignedURLsEnabled = new(false)
		config, err := client.StorageConfigs.Ensure(t.Context(), params)
		require.NoError(t, err)
		assert.False(t, config.SignedURLsEnabled)
		assert.Equal(t, 1, updates())
		params.ReplaceCredentials = true
		_, err = client.StorageConfigs.Ensure(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, 2, updates())
		assert.Greater(t, srv.CountCalls("StorageConfigs.Test"), tests)
	})
}

// nthFails answers the nth request with 403, and counts all requests.
type nthFails struct {
	http.RoundTripper

	n, seen int
}

func (f *nthFails) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.seen++; f.seen == f.n {
		const refused = `{"error":"permission-denied","message":"no"}`
		return answering(http.StatusForbidden, []byte(refused))(r)
	}
	return f.RoundTripper.RoundTrip(r)
}

// Whichever request of Ensure fails, the error reports it. The next Ensure continues and does not
// create a second config.
func TestEnsureGoesOnAfterAnyFailedRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ensure func(ctx context.Context, c *ricloud.Client) error
		create string
	}{
		"storage": {
			create: "StorageConfigs.Create",
			ensure: func(ctx context.Context, c *ricloud.Client) error {
				_, err := c.StorageConfigs.Ensure(ctx, ricloud.StorageConfigEnsureParams{
					URL: "s3://my-bucket/results",
					Credentials: ricloud.Credentials{
						"access_key_id":     ricloud.NewSecret("AKIA1"),
						"secret_access_key": ricloud.NewSecret("canary"),
					},
					MakeKeyDefault: true, MakeOrganisationDefault: true,
				})
				return err
			},
		},
		"webhook": {
			create: "WebhookConfigs.Create",
			ensure: func(ctx context.Context, c *ricloud.Client) error {
				_, err := c.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
					URL: receiverURL, MakeKeyDefault: true, MakeOrganisationDefault: true,
				})
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for n := 1; ; n++ {
					require.Less(t, n, 30)
					receiver := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
					srv := ricloudtest.NewServer(ricloudtest.WithUnconfigured(),
						ricloudtest.WithReceiver(receiverURL, receiver))
					failing := &nthFails{RoundTripper: srv, n: n}
					client := srv.Client(ricloud.WithTransport(failing))
					err := test.ensure(t.Context(), client)
					if failing.seen < n { // Ensure sent fewer than n requests
						require.NoError(t, err)
						assert.Greater(t, n, 6)
						srv.Close()
						return
					}
					require.ErrorIs(t, err, ricloud.ErrForbidden, "request %d", n)
					require.NoError(t, test.ensure(t.Context(), client), "after request %d", n)
					created := srv.CountCalls(test.create)
					assert.Equal(t, 1, created, "request %d", n)
					srv.Close()
				}
			})
		})
	}
}

// Ensure finds an existing config even if its URL is spelled differently.
func TestEnsureFindsAURLInAnotherSpelling(t *testing.T) {
	t.Parallel()
	const kept = "https://hooks.example/a%2Fb/w"
	for spelled, same := range map[string]bool{
		"https://hooks.example/a%2Fb/w":      true,
		"https://hooks.example/a%2fb/w/":     false, // the case of an escape is significant
		"https://Hooks.Example/a%2Fb/w":      true,
		"HTTPS://hooks.example:443/a%2Fb/w":  true,
		"https://hooks.example:8443/a%2Fb/w": false,
		"https://hooks.example/a/b/w":        false,
		"https://hooks.example/A%2Fb/w":      false,
		"http://hooks.example/a%2Fb/w":       false,
	} {
		api := httpmock.NewMockTransport()
		config := fmt.Sprintf(`{"id":"1","url":%q,"state":"valid","secret":"whsec"}`, kept)
		api.RegisterResponder(http.MethodGet, `=~/configs/webhook\b`,
			httpmock.NewStringResponder(http.StatusOK, `{"data":[`+config+`]}`))
		api.RegisterResponder(http.MethodGet, `=~/configs/webhook/1$`,
			httpmock.NewStringResponder(http.StatusOK, config))
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api), ricloud.WithRetries(0))
		require.NoError(t, err)
		found, err := client.WebhookConfigs.Ensure(t.Context(),
			ricloud.WebhookConfigEnsureParams{URL: spelled})
		if same {
			require.NoError(t, err, spelled)
			assert.Equal(t, ricloud.ID("1"), found.ID, spelled)
		} else {
			require.Error(t, err, "%s leads to another config", spelled)
		}
	}
}

func TestEnsureStorageConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sandbox := ricloudtest.NewServer(ricloudtest.WithUnconfigured())
		defer sandbox.Close()
		client := sandbox.Client()
		params := ricloud.StorageConfigEnsureParams{
			URL:               "s3://my-bucket/results",
			Credentials:       ricloud.Credentials{"access_key_id": ricloud.NewSecret("AKIA1")},
			SignedURLsEnabled: new(true), MakeKeyDefault: true, MakeOrganisationDefault: true,
		}
		config, err := client.StorageConfigs.Ensure(t.Context(), params)
		var state *ricloud.StateError
		require.ErrorAs(t, err, &state)
		require.ErrorContains(t, err, "these credentials may write to it")
		assert.Equal(t, ricloud.ConfigInvalid, config.State)
		key, err := client.Keys.Current(t.Context())
		require.NoError(t, err)
		assert.Empty(t, key.StorageConfig, "an invalid config does not become the default")

		params.Credentials, err = ricloud.CredentialsFromKey("AKIA1", ricloud.NewSecret("canary"))
		require.NoError(t, err)
		for range 2 { // the first repairs the config, the second finds it
			again, err := client.StorageConfigs.Ensure(t.Context(), params)
			require.NoError(t, err)
			assert.Equal(t, config.ID, again.ID)
			assert.Equal(t, ricloud.ConfigValid, again.State)
			assert.True(t, again.SignedURLsEnabled)
		}
		key, err = client.Keys.Current(t.Context())
		require.NoError(t, err)
		assert.Equal(t, config.ID, key.StorageConfig)
		org, err := client.Organisation.Get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, config.ID, org.StorageConfigDefault)

		params.Credentials = nil
		_, err = client.StorageConfigs.Ensure(t.Context(), params)
		require.ErrorContains(t, err, "StorageConfigs.Ensure: Credentials is required")
	})
}
