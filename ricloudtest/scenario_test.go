package ricloudtest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Every built-in scenario does what its description says.
func TestScenarios(t *testing.T) {
	t.Parallel()
	var names []string
	for _, scenario := range ricloudtest.Scenarios() {
		names = append(names, scenario.Name)
		assert.NotEmpty(t, scenario.Description, scenario.Name)
	}
	assert.Equal(t, []string{
		"locked", "quota-exhausted", "receiver-down", "slow-poll", "storage-corrupt", "two-factor",
		"wrong-code",
	}, names)
	for name, test := range map[string]func(*testing.T, *ricloudtest.Server, *ricloud.Client){
		"two-factor": func(t *testing.T, _ *ricloudtest.Server, c *ricloud.Client) {
			assert.Equal(t, "code-required", loginError(t, c, ""))
			assert.Empty(t, loginError(t, c, "123456"))
		},
		"wrong-code": func(t *testing.T, _ *ricloudtest.Server, c *ricloud.Client) {
			assert.Equal(t, "code-required", loginError(t, c, "123456"))
			assert.Empty(t, loginError(t, c, "123456"))
		},
		"locked": func(t *testing.T, _ *ricloudtest.Server, c *ricloud.Client) {
			assert.Equal(t, "source-locked", loginError(t, c, ""))
		},
		"slow-poll": func(t *testing.T, _ *ricloudtest.Server, c *ricloud.Client) {
			session := login(t.Context(), t, c, "ada@example.com", "hunter2")
			began := time.Now()
			poll, err := c.Polls.Create(t.Context(), ricloud.PollCreateParams{
				Session: session.ID,
				Payload: ricloud.PollPayload{DataTypes: []string{"photos.photos", "whatsapp.messages"}},
			})
			require.NoError(t, err)
			pass(25 * time.Second)
			poll, err = c.Polls.Get(t.Context(), poll.ID)
			require.NoError(t, err)
			assert.Len(t, poll.TasksSuspended, 1)
			_, err = c.Polls.Wait(t.Context(), poll.ID)
			require.Error(t, err)
			assert.Greater(t, time.Since(began), 40*time.Second)
		},
		"quota-exhausted": func(t *testing.T, srv *ricloudtest.Server, c *ricloud.Client) {
			session := login(t.Context(), t, c, "ada@example.com", "hunter2")
			for _, want := range []error{nil, nil, ricloud.ErrLimitExceeded} {
				_, err := c.Polls.Create(t.Context(), ricloud.PollCreateParams{
					Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
				})
				require.ErrorIs(t, err, want)
			}
			status := 200
			for range 40 {
				status, _ = send(t.Context(), t, srv, "GET", "/key", srv.Token(), "")
			}
			assert.Equal(t, 429, status)
		},
		"receiver-down": func(t *testing.T, srv *ricloudtest.Server, _ *ricloud.Client) {
			id, err := srv.Deliver("poll", "completed", nil)
			require.NoError(t, err)
			pass(10 * time.Minute)
			event, err := srv.Client().Events.Get(t.Context(), id)
			require.NoError(t, err)
			assert.Equal(t, ricloud.EventFailed, event.State)
			assert.Equal(t, 4, event.Retries)
		},
		"storage-corrupt": func(t *testing.T, srv *ricloudtest.Server, c *ricloud.Client) {
			session := login(t.Context(), t, c, "ada@example.com", "hunter2")
			poll, err := c.Polls.Create(t.Context(), ricloud.PollCreateParams{
				Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			})
			require.NoError(t, err)
			poll, err = c.Polls.Wait(t.Context(), poll.ID)
			require.NoError(t, err)
			bodies := map[string]bool{}
			for range 40 {
				res, err := fetch(t.Context(), srv, poll.Results.Data[0].SignedURL.URL.Reveal(), nil)
				require.NoError(t, err)
				body, _ := readAll(res) // the download may break off
				require.NoError(t, res.Body.Close())
				bodies[string(body)] = true
			}
			assert.Len(t, bodies, 3, "good, flipped and broken off")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				scenario, err := ricloudtest.NamedScenario(name)
				require.NoError(t, err)
				opts := []ricloudtest.Option{ricloudtest.WithScenario(scenario)}
				if name == "receiver-down" { // a synctest bubble cannot open sockets
					opts = append(opts, ricloudtest.WithWebhookTransport(refusing{}))
				}
				srv := newServer(t, opts...)
				test(t, srv, srv.Client())
			})
		})
	}
}

// loginError returns the error code of a login as ada.
func loginError(t *testing.T, c *ricloud.Client, code string) string {
	t.Helper()
	user := newUser(t.Context(), t, c)
	session, err := c.Sessions.Create(t.Context(), ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "ada@example.com",
		},
		Payload: ricloud.SessionPayload{
			Password: ricloud.NewSecret("hunter2"),
			Code:     ricloud.NewSecret(code),
		},
	})
	require.NoError(t, err)
	pass(time.Minute)
	session, err = c.Sessions.Get(t.Context(), session.ID)
	require.NoError(t, err)
	return string(session.Error)
}

// The schema and the reader know exactly the same fields.
func TestScenarioSchema(t *testing.T) {
	t.Parallel()
	var schema struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(ricloudtest.ScenarioSchema(), &schema))
	values := map[string]string{
		"$schema": `"x"`, "name": `"x"`, "description": `"x"`, "accounts": `[]`, "webhooks": `[]`,
		"generation": `"2019"`, "delays": `{}`, "speed": `2`, "faults": `[]`, "webhook_faults": `{}`,
		"webhook_retries": `["1s"]`, "rate_limit": `{"requests":1,"per":"1s"}`, "in_flight_limit": `1`,
		"session_lifetime": `"1s"`, "scopes": `{"data_type:x":[]}`,
		"storage_key": `{"id":"a","secret":"b"}`,
	}
	for name := range schema.Properties {
		value, ok := values[name]
		if !ok {
			value = "true"
		}
		_, err := ricloudtest.ReadScenario(strings.NewReader(`{"` + name + `":` + value + `}`))
		require.NoError(t, err, name)
	}
	fields := func(file, structName string) []string {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(source), "type "+structName+" struct {")
		body, _, _ := strings.Cut(rest, "\n}")
		var names []string
		for _, match := range regexp.MustCompile("json:\"([a-z_$0-9]+)[,\"]").FindAllStringSubmatch(body,
			-1) {
			names = append(names, match[1])
		}
		return names
	}
	keys := func(m map[string]any, except ...string) []string {
		var names []string
		for name := range m {
			if !slices.Contains(except, name) {
				names = append(names, name)
			}
		}
		return names
	}
	assert.ElementsMatch(t, fields("scenario.go", "scenarioJSON"), keys(schema.Properties))
	assert.ElementsMatch(t, fields("account_json.go", "accountJSON"),
		keys(schema.Defs["account"].Properties))
	assert.ElementsMatch(t, fields("faults.go", "Fault"),
		keys(schema.Defs["fault"].Properties, "delay", "drip"))
}

// The assumptions that the code marks are exactly those that the package's documentation lists.
func TestAssumptionsAreListed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	marked := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "doc.go" {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		marks := regexp.MustCompile(`Assumption \(([a-z-]+)\)`)
		for _, match := range marks.FindAllStringSubmatch(string(source), -1) {
			assert.False(t, marked[match[1]], "%s is marked twice", match[1])
			marked[match[1]] = true
		}
		assert.NotRegexp(t, `Assumption:`, string(source), "%s: an assumption without a name", file)
	}
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, match := range regexp.MustCompile(`//   - ([a-z-]+):`).FindAllStringSubmatch(string(doc),
		-1) {
		listed[match[1]] = true
	}
	assert.Equal(t, marked, listed)
	assert.Greater(t, len(marked), 30)
}
