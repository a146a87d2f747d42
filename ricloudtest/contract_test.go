package ricloudtest_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// endpoints lists the verbs and paths of the contract independently of the SDK's table and the
// sandbox's. A change of either fails this test.
const endpoints = `
Organisation.Get GET /organisation
Organisation.Update POST /organisation
Keys.Create POST /keys
Keys.Get GET /keys/{id}
Keys.List GET /keys
Keys.Update POST /keys/{id}
Keys.Current GET /key
Keys.UpdateCurrent POST /key
Keys.Rotate POST /keys/{id}/rotate
Permissions.Create POST /permissions
Permissions.Get GET /permissions/{id}
Permissions.List GET /permissions
Permissions.Update POST /permissions/{id}
Users.Create POST /users
Users.Get GET /users/{id}
Users.List GET /users
Users.Update POST /users/{id}
Sources.Get GET /sources/{id}
Sources.List GET /sources
Sources.Update POST /sources/{id}
Sources.Children GET /sources/{id}/children
Sessions.Create POST /sessions
Sessions.Get GET /sessions/{id}
Sessions.List GET /sessions
Sessions.Delete DELETE /sessions/{id}
Polls.Create POST /polls
Polls.Get GET /polls/{id}
Polls.List GET /polls
Subscriptions.Create POST /subscriptions
Subscriptions.Get GET /subscriptions/{id}
Subscriptions.List GET /subscriptions
Subscriptions.Delete DELETE /subscriptions/{id}
Tasks.Get GET /tasks/{id}
Tasks.List GET /tasks
Results.Get GET /results/{id}
Results.List GET /results
Results.Acknowledge POST /results/{id}/ack
Results.AcknowledgeAll POST /results/ack
Events.Get GET /events/{id}
Events.List GET /events
StorageConfigs.Create POST /configs/storage
StorageConfigs.Get GET /configs/storage/{id}
StorageConfigs.List GET /configs/storage
StorageConfigs.Update POST /configs/storage/{id}
StorageConfigs.Delete DELETE /configs/storage/{id}
StorageConfigs.Test POST /configs/storage/{id}/test
WebhookConfigs.Create POST /configs/webhook
WebhookConfigs.Get GET /configs/webhook/{id}
WebhookConfigs.List GET /configs/webhook
WebhookConfigs.Update POST /configs/webhook/{id}
WebhookConfigs.Delete DELETE /configs/webhook/{id}
WebhookConfigs.Test POST /configs/webhook/{id}/test`

func TestVerbsAndPaths(t *testing.T) {
	t.Parallel()
	var table []string
	for _, op := range transport.Operations() {
		table = append(table, op.Name+" "+op.Method+" "+op.Path)
	}
	assert.ElementsMatch(t, strings.Split(strings.TrimSpace(endpoints), "\n"), table)

	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t,
			ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
		w := newWorld(t.Context(), t, srv.Client())
		w.rest(t.Context())
		id := regexp.MustCompile(`/([0-9]+|[0-9a-f]{8}-[0-9a-f-]{27})(/|$)`)
		called := map[string]bool{}
		for _, call := range srv.Calls() {
			called[call.Operation+" "+call.Method+" "+id.ReplaceAllString(call.Path, "/{id}$2")] = true
		}
		for line := range strings.SplitSeq(strings.TrimSpace(endpoints), "\n") {
			assert.True(t, called[line], "the sandbox was not called so: %s", line)
		}
	})
}

// Sessions, polls, tasks, results, events and subscriptions have UUIDs. The other resources have
// numeric IDs.
func TestFormsOfIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t,
			ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
		w := newWorld(t.Context(), t, srv.Client())
		uuid := `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`
		for _, id := range []ricloud.ID{
			w.session.ID, w.poll.ID, w.poll.TasksSucceeded[0], w.poll.Results.Data[0].ID, w.event.ID,
			w.subscription.ID,
		} {
			assert.Regexp(t, uuid, id)
		}
		for _, id := range []ricloud.ID{
			w.key.ID, w.permissions.ID, w.user.ID, w.device.ID, w.storage.ID, w.webhook.ID,
		} {
			assert.Regexp(t, `^[0-9]+$`, id)
		}
	})
}

// The vendor's client can POST /sources and /tasks, but no documentation mentions it. Sources are
// created with sessions, children with polls and devices, and tasks with their work.
func TestSourcesAndTasksAreNotCreated(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	ctx := t.Context()
	for _, path := range []string{"/sources", "/tasks", "/results", "/events"} {
		status, body := send(ctx, t, srv, "POST", path, srv.Token(), `{}`)
		assert.Equal(t, http.StatusMethodNotAllowed, status, path)
		assert.Equal(t, "method-not-allowed", body["error"], path)
	}
	send(ctx, t, srv, "POST", "/users", srv.Token(), `{"identifier":"u"}`)
	for _, kind := range []string{"icloud.backup", "rirelay.source"} {
		status, body := send(ctx, t, srv, "POST", "/sessions", srv.Token(),
			`{"source":{"user":"1","type":"`+kind+`","identifier":"x"},"payload":{}}`)
		assert.Equal(t, http.StatusBadRequest, status, "%s is a child", kind)
		assert.Contains(t, body["params"], "source.type")
	}
	for _, path := range []string{"/sessions/x", "/polls/x"} {
		status, _ := send(ctx, t, srv, "POST", path, srv.Token(), `{}`)
		assert.Equal(t, http.StatusMethodNotAllowed, status, "%s is not updated", path)
	}
}

// An organisation is unconfigured until its first storage config is valid.
func TestOrganisationBecomesActive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithUnconfigured())
		ctx, c := t.Context(), srv.Client()
		state := func() ricloud.OrganisationState {
			org, err := c.Organisation.Get(ctx)
			require.NoError(t, err)
			return org.State
		}
		assert.Equal(t, ricloud.OrganisationState("unconfigured"), state())
		create := func(credentials ricloud.Credentials) *ricloud.StorageConfig {
			config, err := c.StorageConfigs.Create(ctx, ricloud.StorageConfigCreateParams{
				URL: "s3://bucket/x", Credentials: credentials,
			})
			require.NoError(t, err)
			assert.Equal(t, ricloud.ConfigState("new"), config.State)
			pass(time.Minute)
			return config
		}
		create(ricloud.Credentials{"access_key_id": ricloud.NewSecret("a")})
		assert.Equal(t, ricloud.OrganisationState("unconfigured"), state(), "an invalid one")
		good := create(ricloud.Credentials{
			"access_key_id":     ricloud.NewSecret("a"),
			"secret_access_key": ricloud.NewSecret("b"),
		})
		assert.Equal(t, ricloud.OrganisationState("active"), state())
		org, err := c.Organisation.Get(ctx)
		require.NoError(t, err)
		assert.Equal(t, good.ID, org.StorageConfigDefault, "the first valid one is the default")
	})
}

// A deactivated or blocked organisation, user or source can still be read, but refuses new work.
func TestStoppedOrganisationUserAndSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		session := john(ctx, t, c)
		params := ricloud.PollCreateParams{
			Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		for _, stop := range []struct {
			kind string
			id   ricloud.ID
		}{{
			kind: "organisation",
			id:   "1",
		}, {
			kind: "user",
			id:   session.User,
		}, {
			kind: "source",
			id:   session.Source.ID,
		}} {
			for _, state := range []string{"deactivated", "blocked"} {
				require.NoError(t, srv.SetState(stop.kind, stop.id, state))
				_, err := c.Polls.Create(ctx, params)
				require.ErrorIs(t, err, ricloud.ErrForbidden, "%s %s", stop.kind, state)
				_, err = c.Sessions.Create(ctx, ricloud.SessionCreateParams{
					Source: ricloud.SourceParams{
						User: session.User, Type: session.Source.Type, Identifier: session.Source.Identifier,
					},
					Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
				})
				require.ErrorIs(t, err, ricloud.ErrForbidden, "%s %s", stop.kind, state)
			}
			require.NoError(t, srv.SetState(stop.kind, stop.id, "blocked"))
		}
		org, err := c.Organisation.Get(ctx)
		require.NoError(t, err)
		assert.Equal(t, ricloud.OrganisationState("blocked"), org.State)
		user, err := c.Users.Get(ctx, session.User)
		require.NoError(t, err)
		assert.Equal(t, ricloud.UserState("blocked"), user.State)
		source, err := c.Sources.Get(ctx, session.Source.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.SourceState("blocked"), source.State)
		for _, stop := range []struct {
			kind string
			id   ricloud.ID
		}{{
			kind: "organisation",
			id:   "1",
		}, {
			kind: "user",
			id:   session.User,
		}, {
			kind: "source",
			id:   session.Source.ID,
		}} {
			require.NoError(t, srv.SetState(stop.kind, stop.id, "active"))
		}
		require.NoError(t, first(c.Polls.Create(ctx, params)))
	})
}

// There are standard and trial keys. A token is refused in some states of its key.
func TestKeyTypesAndStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx := t.Context()
		status, key := send(ctx, t, srv, "POST", "/keys", srv.Token(), "{}")
		require.Equal(t, http.StatusCreated, status)
		assert.Equal(t, "standard", key["type"])
		assert.Nil(t, key["date_expires"])
		//nolint:forcetypeassert // the test may fail here
		token, id := key["token"].(string), ricloud.ID(fmt.Sprint(key["id"]))
		for state, want := range map[string]int{
			"deactivated": 401, "blocked": 401, "expired": 401, "active": 200,
		} {
			require.NoError(t, srv.SetState("key", id, state))
			status, _ = send(ctx, t, srv, "GET", "/key", token, "")
			assert.Equal(t, want, status, state)
			_, key = send(ctx, t, srv, "GET", "/keys/"+string(id), srv.Token(), "")
			assert.Equal(t, state, key["state"])
		}
		trial, err := srv.AddTrialKey(time.Hour)
		require.NoError(t, err)
		status, key = send(ctx, t, srv, "GET", "/key", trial.Reveal(), "")
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, "trial", key["type"])
		assert.Equal(t, time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"),
			key["date_expires"])
		pass(time.Hour)
		status, _ = send(ctx, t, srv, "GET", "/key", trial.Reveal(), "")
		assert.Equal(t, http.StatusUnauthorized, status)
		_, key = send(ctx, t, srv, "GET", fmt.Sprint("/keys/", key["id"]), srv.Token(), "")
		assert.Equal(t, "expired", key["state"])
		_, err = srv.AddTrialKey(0)
		require.Error(t, err)
	})
}

// The configs of a key take precedence over those of the organisation.
func TestKeyConfigsComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		general, own := &inbox{status: 200}, &inbox{status: 200}
		srv := newServer(t,
			ricloudtest.WithReceiver("https://general.test", general),
			ricloudtest.WithReceiver("https://own.test", own),
			ricloudtest.WithWebhooks("https://general.test/"))
		c := srv.Client()
		session := john(ctx, t, c)
		credentials := ricloud.Credentials{
			"access_key_id":     ricloud.NewSecret("a"),
			"secret_access_key": ricloud.NewSecret("b"),
		}
		storage, err := c.StorageConfigs.Create(ctx,
			ricloud.StorageConfigCreateParams{URL: "s3://own/x", Credentials: credentials})
		require.NoError(t, err)
		webhook, err := c.WebhookConfigs.Create(ctx,
			ricloud.WebhookConfigCreateParams{URL: "https://own.test/"})
		require.NoError(t, err)
		pass(time.Minute)
		retrieved := func() string {
			general.take()
			own.take()
			poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
				Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			})
			require.NoError(t, err)
			pass(time.Minute)
			poll, err = c.Polls.Get(ctx, poll.ID)
			require.NoError(t, err)
			require.Len(t, poll.Results.Data, 1)
			return poll.Results.Data[0].URL
		}
		assert.Contains(t, retrieved(), "s3://ricloud-sandbox/")
		assert.NotEmpty(t, general.take())
		assert.Empty(t, own.take())
		_, err = c.Keys.UpdateCurrent(ctx,
			ricloud.KeyUpdateParams{StorageConfig: &storage.ID, WebhookConfig: &webhook.ID})
		require.NoError(t, err)
		assert.Contains(t, retrieved(), "s3://own/x/")
		assert.Empty(t, general.take())
		assert.NotEmpty(t, own.take())
	})
}

// POST /users answers 201 for a new identifier, and 200 with the existing user for a known one.
func TestUsersAreNotDuplicated(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	status, user := send(t.Context(), t, srv, "POST", "/users", srv.Token(), `{"identifier":"u"}`)
	assert.Equal(t, http.StatusCreated, status)
	again, same := send(t.Context(), t, srv, "POST", "/users", srv.Token(), `{"identifier":"u"}`)
	assert.Equal(t, http.StatusOK, again)
	assert.Equal(t, user, same)
}

// A session creates its own task. The test of a config creates a task that belongs to no user,
// source, session or poll.
func TestTasksOfSessionsAndConfigs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithWebhooks("https://receiver.test/webhooks"),
			ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
		ctx, c := t.Context(), srv.Client()
		session := john(ctx, t, c)
		tasks, err := c.Tasks.List(ctx, ricloud.TaskListParams{})
		require.NoError(t, err)
		require.Len(t, tasks.Data, 1)
		made := tasks.Data[0]
		assert.Equal(t, session.ID, made.Session)
		assert.Equal(t, session.Source.ID, made.Source)
		assert.Equal(t, ricloud.TaskSucceeded, made.State)
		assert.Empty(t, made.Poll)
		for kind, id := range map[string]ricloud.ID{
			"storage_config.test": "1",
			"webhook_config.test": "1",
		} {
			var test *ricloud.Task
			if kind == "storage_config.test" {
				test, err = c.StorageConfigs.Test(ctx, id)
			} else {
				test, err = c.WebhookConfigs.Test(ctx, id)
			}
			require.NoError(t, err)
			assert.Equal(t, kind, test.Type)
			assert.Equal(t, string(id), test.Target)
			assert.Empty(t, test.User, "no user")
			assert.Empty(t, test.Source, "no source")
			assert.Empty(t, test.Session)
			assert.Empty(t, test.Poll)
			pass(time.Minute)
			test, err = c.Tasks.Get(ctx, test.ID)
			require.NoError(t, err)
			assert.Equal(t, ricloud.TaskSucceeded, test.State,
				"%s: the sandbox's own storage needs no credentials", kind)
		}
		config, err := c.StorageConfigs.Update(ctx, "1",
			ricloud.StorageConfigUpdateParams{SignedURLsEnabled: new(false)})
		require.NoError(t, err)
		pass(time.Minute)
		config, err = c.StorageConfigs.Get(ctx, config.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigState("valid"), config.State)
	})
}

// In the oldest API, a poll asks for files with "file_ids" and the type "files".
func TestFileIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithGeneration(ricloudtest.Generation2018))
		ctx, c := t.Context(), srv.Client()
		poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: john(ctx, t, c).ID, Type: "files",
			Payload: ricloud.PollPayload{Files: []ricloud.ID{"7a10photo"}},
		})
		require.NoError(t, err)
		assert.Equal(t, "files", poll.Type)
		page := do(ctx, t, srv, "GET", "calls?operation=Polls.Create", "")
		//nolint:forcetypeassert // the test may fail here
		sent := page["calls"].([]any)[0].(map[string]any)["request"].(map[string]any)
		assert.Equal(t, map[string]any{"file_ids": []any{"7a10photo"}}, sent["payload"])
		pass(time.Minute)
		poll, err = c.Polls.Get(ctx, poll.ID)
		require.NoError(t, err)
		require.Len(t, poll.Results.Data, 1)
		assert.Equal(t, "7a10photo", poll.Results.Data[0].Identifier)
	})
}

// Without an interval, a subscription polls once a day. The shortest interval is an hour for Relay
// and a minute for other services. A deleted subscription has the state "deleted" and does not
// poll.
func TestIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		session := john(ctx, t, c)
		params := ricloud.SubscriptionCreateParams{
			Session: session.ID, PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		subscription, err := c.Subscriptions.Create(ctx, params)
		require.NoError(t, err)
		polls := func() int {
			list, err := c.Polls.List(ctx,
				ricloud.PollListParams{Subscription: subscription.ID, Requestor: "subscription"})
			require.NoError(t, err)
			return len(list.Data)
		}
		pass(time.Minute)
		assert.Equal(t, 1, polls())
		pass(24*time.Hour - 2*time.Minute)
		assert.Equal(t, 1, polls())
		pass(2 * time.Minute)
		assert.Equal(t, 2, polls())
		deleted, err := c.Subscriptions.Delete(ctx, subscription.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.SubscriptionDeleted, deleted.State)
		pass(72 * time.Hour)
		assert.Equal(t, 2, polls())
		status, body := send(ctx, t, srv, "POST", "/subscriptions", srv.Token(),
			`{"session":"`+string(session.ID)+
				`","poll_payload":{"data_types":["a"]},"interval":1e-6}`)
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Contains(t, body["params"], "interval")
	})
}

// Polls of a subscription are at least a tenth of a second apart, however fast the clock is.
func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithSpeed(1e9))
		ctx, c := t.Context(), srv.Client()
		_, err := c.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
			Session:     john(ctx, t, c).ID,
			PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}}, Interval: time.Minute,
		})
		require.NoError(t, err)
		pass(10 * time.Second)
		page := do(ctx, t, srv, "GET", "resources/poll?limit=1", "")
		assert.LessOrEqual(t, page["total_count"], 101.0)
		assert.GreaterOrEqual(t, page["total_count"], 90.0)
	})
}

// The service asrelay is an older name of rirelay.
func TestRelayByItsOlderName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		user := newUser(ctx, t, c)
		session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
			Source:  ricloud.SourceParams{User: user.ID, Type: "asrelay.instance"},
			Payload: ricloud.SessionPayload{Code: ricloud.NewSecret("PAIR-1234")},
		})
		require.NoError(t, err)
		session, err = c.Sessions.Wait(ctx, session.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.SourceType("asrelay.instance"), session.Source.Type)
		children, err := c.Sources.Children(ctx, session.Source.ID, ricloud.ListParams{})
		require.NoError(t, err)
		require.Len(t, children.Data, 1)
		assert.Equal(t, ricloud.SourceType("asrelay.source"), children.Data[0].Type)
		_, err = c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: session.ID, Source: children.Data[0].ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		})
		require.ErrorContains(t, err, "subscription", "Relay data needs one")
	})
}

// publish_source_files is taken from the poll's payload, else from the key, else from the
// organisation. A change also applies to existing subscriptions.
func TestPublishSourceFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
		ctx := t.Context()
		w := newWorld(ctx, t, srv.Client())
		files := func(payload *bool) []string {
			poll, err := w.Polls.Create(ctx,
				ricloud.PollCreateParams{Subscription: w.subscription.ID, Payload: ricloud.PollPayload{
					DataTypes: []string{"ios_messages.messages", "callkit.calls"}, PublishSourceFiles: payload,
				}})
			require.NoError(t, err)
			pass(time.Minute)
			poll, err = w.Polls.Get(ctx, poll.ID)
			require.NoError(t, err)
			var found []string
			for _, result := range poll.Results.Data {
				if result.Type != "json" {
					found = append(found, result.Identifier)
				}
			}
			return found
		}
		organisation := func(on bool) {
			_, err := w.Organisation.Update(ctx, ricloud.OrganisationUpdateParams{
				Name: "Renamed", Config: &ricloud.PublishingConfig{PublishSourceFiles: &on},
			})
			require.NoError(t, err)
			org, err := w.Organisation.Get(ctx)
			require.NoError(t, err)
			assert.Equal(t, "Renamed", org.Name)
		}
		key := func(on bool) {
			_, err := w.Keys.UpdateCurrent(ctx,
				ricloud.KeyUpdateParams{Config: &ricloud.PublishingConfig{PublishSourceFiles: &on}})
			require.NoError(t, err)
		}
		assert.Empty(t, files(nil))
		assert.Equal(t, []string{"sms.db"}, files(new(true)))
		organisation(true)
		assert.Equal(t, []string{"sms.db"}, files(nil))
		key(false)
		assert.Empty(t, files(nil), "the key decides before the organisation")
		assert.Equal(t, []string{"sms.db"}, files(new(true)), "the payload decides before the key")
		key(true)
		organisation(false)
		assert.Equal(t, []string{"sms.db"}, files(nil))
		assert.Empty(t, files(new(false)))

		subscription, err := w.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
			Session: w.session.ID, Source: w.device.ID, Interval: time.Hour,
			PollPayload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
		})
		require.NoError(t, err)
		pass(time.Minute)
		key(false)
		pass(time.Hour)
		var counts []int
		for poll, err := range w.Polls.All(ctx, ricloud.PollListParams{Subscription: subscription.ID}) {
			require.NoError(t, err)
			counts = append(counts, len(poll.Results.Data))
		}
		assert.Equal(t, []int{1, 2}, counts, "newest first")
	})
}

// The fields since and until limit the records.
func TestPeriod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		session := john(ctx, t, c)
		at := func(text string) time.Time {
			parsed, err := time.Parse(time.RFC3339, text)
			require.NoError(t, err)
			return parsed
		}
		for name, test := range map[string]struct {
			payload ricloud.PollPayload
			records int
		}{
			"all": {payload: ricloud.PollPayload{}, records: 2},
			"since": {
				payload: ricloud.PollPayload{Since: at("2018-11-21T00:00:00Z")},
				records: 1,
			},
			"until": {
				payload: ricloud.PollPayload{Until: at("2018-11-21T18:40:10Z")},
				records: 1,
			},
			"between": {payload: ricloud.PollPayload{
				Since: at("2018-11-20T10:00:00Z"),
				Until: at("2018-11-21T00:00:00Z"),
			}, records: 0},
		} {
			test.payload.DataTypes = []string{"callkit.calls"}
			poll, err := c.Polls.Create(ctx,
				ricloud.PollCreateParams{Session: session.ID, Payload: test.payload})
			require.NoError(t, err)
			poll, err = c.Polls.Wait(ctx, poll.ID)
			require.NoError(t, err)
			res, err := fetch(ctx, srv, poll.Results.Data[0].SignedURL.URL.Reveal(), nil)
			require.NoError(t, err)
			body := decode(t, res)
			assert.Len(t, body["data"], test.records, name)
			assert.Equal(t, map[string]any{"count": float64(test.records)}, body["metadata"], name)
		}
		status, body := send(ctx, t, srv, "POST", "/polls", srv.Token(),
			`{"session":"`+string(session.ID)+
				`","payload":{"data_types":["a"],"since":"2020-01-02T00:00:00Z",`+
				`"until":"2020-01-01T00:00:00Z"}}`)
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Contains(t, body["params"], "payload.until")
	})
}

// No answer, event or dump contains credentials that were sent to the API.
func TestCredentialsAreNeverShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, _ := subscribe(ctx, t)
		const body = `{"url":"gs://b/p","credentials":{"client_email":"canary@x",` +
			`"private_key":"canary-key"}}`
		_, made := send(ctx, t, srv, "POST", "/configs/storage", srv.Token(), body)
		pass(time.Minute)
		path := fmt.Sprint("/configs/storage/", made["id"])
		var answers []map[string]any
		for _, ask := range []struct{ method, path, body string }{
			{method: "GET", path: path, body: ""},
			{method: "POST", path: path, body: body},
			{method: "POST", path: path + "/test", body: ""},
			{method: "GET", path: "/configs/storage", body: ""},
			{method: "GET", path: "/organisation", body: ""},
			{method: "GET", path: "/tasks", body: ""},
			{method: "GET", path: "/events", body: ""},
			{method: "DELETE", path: path, body: ""},
		} {
			_, answer := send(ctx, t, srv, ask.method, ask.path, srv.Token(), ask.body)
			answers = append(answers, answer)
			pass(time.Second)
		}
		_, listed := admin(ctx, t, srv, "GET", "resources/storage_config", "")
		assert.NotContains(t, fmt.Sprint(made, answers, listed), "canary")
		for _, event := range in.take() {
			assert.NotContains(t, string(event.body), "canary")
		}
		assert.Contains(t, made, "credentials")
		assert.Nil(t, made["credentials"])
	})
}

// A failed task sends task.failed, and its poll lists the error.
func TestFailedTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		account := ricloudtest.Account{
			Identifier: "ada@example.com", Fail: map[string]string{}, Suspend: map[string]bool{"s": true},
		}
		var types []string
		for i := range 12 {
			name := fmt.Sprint("type.", i)
			types = append(types, name)
			account.Fail[name] = "service-error"
		}
		srv, in, _ := subscribe(ctx, t, ricloudtest.WithAccounts(account))
		c := srv.Client()
		in.take()
		poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: login(ctx, t, c, "ada@example.com", "any").ID,
			Payload: ricloud.PollPayload{DataTypes: append(types, "good")},
		})
		require.NoError(t, err)
		pass(time.Minute)
		slugs := map[string]int{}
		for _, event := range in.take() {
			slugs[event.slug]++
		}
		assert.Equal(t, map[string]int{
			"task.created": 14, "task.succeeded": 2, "task.failed": 12, "poll.created": 1,
			"poll.completed": 1,
		}, slugs)
		_, raw := send(ctx, t, srv, "GET", "/polls/"+string(poll.ID), srv.Token(), "")
		survives(t, raw)
		list := raw["errors"].(map[string]any) //nolint:forcetypeassert // the test may fail here
		assert.NotContains(t, list, "resource", "the vendor's client 3.2.0 unpacks lists that have it")
		assert.Len(t, list["data"], 12)
		assert.Equal(t, false, list["has_more"])
		//nolint:forcetypeassert // the test may fail here
		_, again := send(ctx, t, srv, "GET", list["url"].(string), srv.Token(), "")
		assert.Equal(t, list, again, "its url leads to the same")
	})
}

// A poll can fail as a whole. Only then does it have an error.
func TestFailedPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t,
			ricloudtest.WithAccounts(ricloudtest.Account{
				Identifier: "ada@example.com",
				PollFail:   "service-error",
			}),
		)
		ctx, c := t.Context(), srv.Client()
		session := login(ctx, t, c, "ada@example.com", "any")
		params := ricloud.PollCreateParams{
			Session: session.ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		poll, err := c.Polls.Create(ctx, params)
		require.NoError(t, err)
		pass(time.Minute)
		poll, err = c.Polls.Get(ctx, poll.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.PollFailed, poll.State)
		assert.Equal(t, ricloud.ErrorCode("service-error"), poll.Error)
		byHand, err := c.Polls.Create(ctx, params)
		require.NoError(t, err)
		require.NoError(t, srv.SetState("poll", byHand.ID, "failed"))
		byHand, err = c.Polls.Get(ctx, byHand.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.PollFailed, byHand.State)
	})
}

// A successful session may have the state "succeeded", and api_version may be a number.
func TestVariants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithSucceededSessions(),
			ricloudtest.WithNumericVersion())
		ctx := t.Context()
		session := john(ctx, t, srv.Client())
		_, raw := send(ctx, t, srv, "GET", "/sessions/"+string(session.ID), srv.Token(), "")
		assert.Equal(t, "succeeded", raw["state"])
		require.NoError(t, srv.ExpireSession(session.ID, "api"))
		_, raw = send(ctx, t, srv, "GET", "/sessions/"+string(session.ID), srv.Token(), "")
		assert.Equal(t, "expired", raw["state"])
		_, raw = send(ctx, t, srv, "GET", "/organisation", srv.Token(), "")
		assert.InDelta(t, 3, raw["api_version"], 0)
		org, err := srv.Client().Organisation.Get(ctx)
		require.NoError(t, err)
		assert.Equal(t, "3", org.APIVersion)
	})
}

// The url of a list leads to the same list, with its filters and without its cursors.
func TestListURLs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
		ctx := t.Context()
		w := newWorld(ctx, t, srv.Client())
		poll, source := string(w.poll.ID), string(w.session.Source.ID)
		for asked, want := range map[string]string{
			"/keys": "/keys", "/permissions": "/permissions", "/users": "/users", "/sources": "/sources",
			"/sessions": "/sessions", "/polls": "/polls", "/subscriptions": "/subscriptions",
			"/tasks":   "/tasks",
			"/results": "/results", "/events": "/events", "/configs/storage": "/configs/storage",
			"/configs/webhook":                                 "/configs/webhook",
			"/sources/" + source + "/children":                 "/sources/" + source + "/children",
			"/tasks?state=succeeded&poll=" + poll + "&limit=1": "/tasks?poll=" + poll + "&state=succeeded",
			"/sources/" + source + "/children?limit=5":         "/sources/" + source + "/children",
		} {
			status, list := send(ctx, t, srv, "GET", asked, srv.Token(), "")
			require.Equal(t, http.StatusOK, status, asked)
			assert.Equal(t, want, list["url"], asked)
			//nolint:forcetypeassert // the test may fail here
			status, again := send(ctx, t, srv, "GET", list["url"].(string)+"", srv.Token(), "")
			require.Equal(t, http.StatusOK, status, asked)
			assert.Equal(t, "list", again["resource"])
		}
		// Lists inside resources agree with their url, even after results are consumed.
		_, err := w.Results.Acknowledge(ctx, w.poll.Results.Data[0].ID)
		require.NoError(t, err)
		for _, path := range []string{
			"/organisation", "/polls/" + poll, "/sources/" + source,
			"/tasks/" + string(w.poll.TasksSucceeded[0]),
		} {
			_, resource := send(ctx, t, srv, "GET", path, srv.Token(), "")
			for name, value := range resource {
				list, ok := value.(map[string]any)
				if !ok || list["url"] == nil {
					continue
				}
				//nolint:forcetypeassert // the test may fail here
				status, followed := send(ctx, t, srv, "GET", list["url"].(string), srv.Token(), "")
				require.Equal(t, http.StatusOK, status, "%s of %s", name, path)
				assert.Equal(t, list["data"], followed["data"], "%s of %s", name, path)
			}
		}
	})
}

// after_id selects what follows a resource, and before_id what precedes it. Inclusive cursors also
// select the resource itself.
func TestCursors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts  []ricloudtest.Option
		query string
		want  []string
	}{
		"after":  {opts: nil, query: "after_id=4", want: []string{"3", "2", "1"}},
		"before": {opts: nil, query: "before_id=3", want: []string{"5", "4"}},
		"both":   {opts: nil, query: "after_id=5&before_id=2", want: []string{"4", "3"}},
		"after, inclusive": {
			opts:  []ricloudtest.Option{ricloudtest.WithInclusiveCursors()},
			query: "after_id=4",
			want:  []string{"4", "3", "2", "1"},
		},
		"before, inclusive": {
			opts:  []ricloudtest.Option{ricloudtest.WithInclusiveCursors()},
			query: "before_id=3",
			want:  []string{"5", "4", "3"},
		},
	} {
		srv := newServer(t, test.opts...)
		for _, identifier := range []string{"a", "b", "c", "d", "e"} {
			send(t.Context(), t, srv, "POST", "/users", srv.Token(), `{"identifier":"`+identifier+`"}`)
		}
		_, list := send(t.Context(), t, srv, "GET", "/users?"+test.query, srv.Token(), "")
		var got []string
		for _, item := range list["data"].([]any) { //nolint:forcetypeassert // the test may fail here
			//nolint:forcetypeassert // the test may fail here
			got = append(got, fmt.Sprint(item.(map[string]any)["id"]))
		}
		assert.Equal(t, test.want, got, name)
		status, _ := send(t.Context(), t, srv, "GET", "/users?date_created__gt=soon", srv.Token(), "")
		assert.Equal(t, http.StatusBadRequest, status, "a date that is none is refused")
		status, _ = send(t.Context(), t, srv, "GET", "/users?date_created__near=2020-01-01", srv.Token(),
			"")
		assert.Equal(t, http.StatusBadRequest, status)
	}
}

// Every test that docs/contract-tests.md names exists.
func TestTableOfFacts(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("../docs/contract-tests.md")
	require.NoError(t, err)
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "../*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			sources.Write(source)
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(table), -1)
	assert.Greater(t, len(named), 50)
	for _, name := range named {
		assert.Contains(t, sources.String(), "func "+name[1]+"(")
	}
}
