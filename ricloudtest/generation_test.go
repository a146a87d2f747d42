package ricloudtest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// vendorClient describes what one version of the vendor's Python client sends and reads. The facts
// come from its published releases; none of its code is here.
type vendorClient struct {
	version    string
	generation ricloudtest.Generation
	deliveries bool // reads events as JSON strings

	awaits       bool   // sends Ricloud-Await: 0 with every request
	typed        bool   // sends the "type" of a poll, and asks for files with "file_ids"
	ackMethod    string // of POST /results/{id}/ack
	testMethod   string // of POST /configs/*/{id}/test
	listsInPolls bool   // reads poll.results as a list object
}

// Versions rc0 to 3.1.1 iterate over poll.results, index its items, and compare the state with
// "pending" and "processing". Version 3.2.0 unpacks list objects. All versions need a result's
// "type", a bare "identifier", and "files", "file" or "attachments" in records.
func vendorClients() []vendorClient {
	const old, now = ricloudtest.Generation2019, ricloudtest.GenerationCurrent
	get, post := http.MethodGet, http.MethodPost
	return []vendorClient{
		{version: "3.0.0rc0", generation: old, typed: true, ackMethod: get, testMethod: get},
		{version: "3.0.0rc1", generation: old, deliveries: true, ackMethod: get, testMethod: get},
		{version: "3.0.0rc2", generation: old, deliveries: true, ackMethod: get, testMethod: get},
		{version: "3.0.0rc3", generation: old, deliveries: true, ackMethod: get, testMethod: get},
		{
			version: "3.0.0", generation: old, deliveries: true, awaits: true, ackMethod: get,
			testMethod: post,
		},
		{
			version: "3.0.1", generation: old, deliveries: true, awaits: true, ackMethod: get,
			testMethod: post,
		},
		{version: "3.1.0", generation: old, awaits: true, ackMethod: post, testMethod: post},
		{version: "3.1.1", generation: old, awaits: true, ackMethod: post, testMethod: post},
		{
			version: "3.2.0", generation: now, awaits: true, ackMethod: post, testMethod: post,
			listsInPolls: true,
		},
	}
}

// vendorRun is one run of a vendor's client against a server.
type vendorRun struct {
	vendorClient

	t   *testing.T
	ctx context.Context //nolint:containedctx // the test's own
	srv *ricloudtest.Server
}

func (v *vendorRun) ask(method, path, body string) map[string]any {
	v.t.Helper()
	r := request(v.ctx, v.t, method, path, v.srv.Token(), body)
	r.Header.Set("User-Agent", "ricloud-py/"+v.version)
	if v.awaits {
		r.Header.Set("Ricloud-Await", "0")
	}
	res, err := v.srv.RoundTrip(r)
	require.NoError(v.t, err)
	require.Less(v.t, res.StatusCode, 300, "%s: %s %s", v.version, method, path)
	return decode(v.t, res)
}

// until polls like the vendor's samples, until the state is neither "pending" nor "processing".
func (v *vendorRun) until(path string) map[string]any {
	v.t.Helper()
	for range 60 {
		if got := v.ask(http.MethodGet, path, ""); got["state"] != "pending" &&
			got["state"] != "processing" {
			return got
		}
		pass(time.Second)
	}
	v.t.Fatalf("%s: %s does not end", v.version, path)
	return nil
}

// results reads poll.results in the form that the version expects.
func (v *vendorRun) results(poll map[string]any) []map[string]any {
	v.t.Helper()
	items, isArray := poll["results"].([]any)
	if v.listsInPolls {
		list, ok := poll["results"].(map[string]any)
		require.True(v.t, ok, "%s unpacks a list object", v.version)
		require.Equal(v.t, "list", list["resource"])
		items, isArray = list["data"].([]any)
	}
	require.True(v.t, isArray, "%s iterates over results: %T", v.version, poll["results"])
	out := make([]map[string]any, len(items))
	for i, item := range items {
		out[i], _ = item.(map[string]any)
		require.Contains(v.t, out[i], "type")
		require.NotContains(v.t, out[i]["identifier"], ":", "%s uses it as a key", v.version)
	}
	return out
}

// survives checks what 3.2.0 does with every list object in an answer: it reads "resource" of the
// first item. It leaves empty lists alone.
func survives(t *testing.T, value any) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		data, _ := value["data"].([]any)
		if value["resource"] == "list" && len(data) > 0 {
			first, _ := data[0].(map[string]any)
			require.Contains(t, first, "resource", "3.2.0 dies of a KeyError")
		}
		for _, item := range value {
			survives(t, item)
		}
	case []any:
		for _, item := range value {
			survives(t, item)
		}
	}
}

// idIn returns the ID of a resource as the client writes it into a path.
func idIn(resource map[string]any) string {
	switch id := resource["id"].(type) {
	case string:
		return id
	case float64:
		return strconv.Itoa(int(id))
	}
	return ""
}

// Every version of the vendor's client completes what its samples do: a wrong code and then the
// right one, a poll with a failed task, the files that its records name, an acknowledgement, a
// config test, and receiving the events of all this.
func TestVendorClients(t *testing.T) {
	t.Parallel()
	for _, client := range vendorClients() {
		t.Run(client.version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				jane := ricloudtest.SampleAccount("Jane")
				jane.Identifier, jane.Password, jane.Code = "jane@example.com", "hunter2", "123456"
				jane.Fail = map[string]string{"notes.notes": "service-error"}
				listener := &vendorListener{wrapped: client.deliveries}
				opts := []ricloudtest.Option{
					ricloudtest.WithAccounts(jane), ricloudtest.WithGeneration(client.generation),
					ricloudtest.WithReceiver(receiver, listener),
					ricloudtest.WithDelays(ricloudtest.Delays{FirstTest: ricloudtest.Fixed(5 * time.Second)}),
				}
				if client.deliveries {
					opts = append(opts, ricloudtest.WithStringDeliveries())
				}
				srv := newServer(t, opts...)
				v := &vendorRun{client, t, t.Context(), srv}
				v.listen(listener)
				session := v.login()
				v.retrieve(session)
				listener.mu.Lock()
				defer listener.mu.Unlock()
				assert.Empty(t, listener.refused)
				assert.Greater(t, listener.taken, 5)
			})
		})
	}
}

// listen creates a webhook config before its listener is ready, like "event listen".
func (v *vendorRun) listen(l *vendorListener) {
	config := v.ask(http.MethodPost, "/configs/webhook", `{"url": "`+receiver+`"}`)
	key := v.ask(http.MethodGet, "/key", "")
	v.ask(http.MethodPost, "/keys/"+idIn(key), `{"webhook_config": "`+idIn(config)+`"}`)
	pass(2 * time.Second)              // the listener is starting
	l.start(config["secret"].(string)) //nolint:forcetypeassert // the test may fail here
	pass(10 * time.Second)
	config = v.ask(http.MethodGet, "/configs/webhook/"+idIn(config), "")
	require.Equal(v.t, "valid", config["state"], "the first test comes late enough")
	task := v.ask(v.testMethod, "/configs/webhook/"+idIn(config)+"/test", v.nothing(v.testMethod))
	require.Equal(v.t, "task", task["resource"])
}

// nothing returns the body of an action that has no parameters.
func (v *vendorRun) nothing(method string) string {
	if method == http.MethodGet {
		return ""
	}
	return "null"
}

func (v *vendorRun) login() map[string]any {
	user := v.ask(http.MethodPost, "/users", `{"identifier": "ricloud-py"}`)
	source := `{"source": {"user": "` + idIn(user) + `", "type": "icloud.account",` +
		` "identifier": "jane@example.com"}, "payload": {"password": "hunter2"`
	for _, code := range []string{"", `, "code": "000000"`} {
		session := v.ask(http.MethodPost, "/sessions", source+code+`}}`)
		session = v.until("/sessions/" + idIn(session))
		require.Equal(v.t, "failed", session["state"])
		require.Equal(v.t, "code-required", session["error"])
	}
	session := v.ask(http.MethodPost, "/sessions", source+`, "code": "123456"}}`)
	session = v.until("/sessions/" + idIn(session))
	require.Equal(v.t, "active", session["state"])
	survives(v.t, session)
	sources := v.ask(http.MethodGet, "/sources?user="+idIn(user)+"&identifier=jane%40example.com", "")
	require.Len(v.t, sources["data"], 1)
	latest := v.ask(http.MethodGet, "/sessions?state=active&limit=1", "")
	require.Len(v.t, latest["data"], 1)
	return session
}

func (v *vendorRun) retrieve(session map[string]any) {
	kind, files := "", "files"
	if v.typed {
		kind, files = `, "type": "data"`, "file_ids"
	}
	poll := v.ask(http.MethodPost, "/polls", `{"session": "`+idIn(session)+`"`+kind+
		`, "payload": {"data_types": ["photos.photos", "ios_messages.messages", "notes.notes"]}}`)
	poll = v.until("/polls/" + idIn(poll))
	require.Equal(v.t, "completed", poll["state"])
	require.Len(v.t, poll["tasks_failed"], 1)
	survives(v.t, poll)
	var ids []string
	for _, result := range v.results(poll) {
		require.Equal(v.t, "json", result["type"])
		ids = append(ids, v.download(result)...)
	}
	require.NotEmpty(v.t, ids)
	list, err := json.Marshal(ids)
	require.NoError(v.t, err)
	if v.typed {
		kind = `, "type": "files"`
	}
	source := ""
	if !v.typed { // "source" of a poll, once a nested resource
		//nolint:forcetypeassert // the test may fail here
		source = `, "source": "` + poll["source"].(string) + `"`
	}
	cascade := v.ask(http.MethodPost, "/polls", `{"session": "`+idIn(session)+`"`+kind+source+
		`, "payload": {"`+files+`": `+string(list)+`}}`)
	cascade = v.until("/polls/" + idIn(cascade))
	require.Equal(v.t, "completed", cascade["state"])
	found := v.results(cascade)
	require.Len(v.t, found, len(ids))
	acked := v.ask(v.ackMethod, "/results/"+idIn(found[0])+"/ack", v.nothing(v.ackMethod))
	require.Equal(v.t, "consumed", acked["state"])
}

// download reads a result from the bucket and returns the files that its records name.
func (v *vendorRun) download(result map[string]any) []string {
	at, _ := result["url"].(string)
	_, path, _ := strings.Cut(at, "://")
	r, err := http.NewRequestWithContext(v.ctx, http.MethodGet, "https://storage.ricloud.test/"+path,
		http.NoBody)
	require.NoError(v.t, err)
	r.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential=any/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, "+
			"Signature=0")
	res, err := v.srv.RoundTrip(r)
	require.NoError(v.t, err)
	var document struct {
		Data []struct {
			Files []struct {
				ID string `json:"id"`
			} `json:"files"`
			File struct {
				ID string `json:"id"`
			} `json:"file"`
			Attachments []struct {
				ID string `json:"file_id"`
			} `json:"attachments"`
		} `json:"data"`
	}
	raw, err := readAll(res)
	require.NoError(v.t, err)
	require.NoError(v.t, res.Body.Close())
	require.NoError(v.t, json.Unmarshal(raw, &document), "%s", raw)
	var ids []string
	for _, record := range document.Data {
		switch {
		case len(record.Files) > 0:
			ids = append(ids, record.Files[0].ID)
		case record.File.ID != "":
			ids = append(ids, record.File.ID)
		}
		for _, attachment := range record.Attachments {
			ids = append(ids, attachment.ID)
		}
	}
	return ids
}

// vendorListener is the receiver of the vendor's client.
type vendorListener struct {
	wrapped bool // decodes the body twice, and checks the signature of the inner text

	mu      sync.Mutex
	secret  string
	taken   int
	refused []string
}

func (l *vendorListener) start(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secret = secret
}

// ServeHTTP answers 502 until the listener has started, 400 if it cannot read the body, and else
// 200.
func (l *vendorListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, _ := readAll(&http.Response{Body: r.Body})
	text := string(body)
	if l.wrapped && json.Unmarshal(body, &text) != nil {
		text = ""
	}
	var event struct {
		Type string `json:"type"`
	}
	header := r.Header.Get("Ricloud-Signature")
	seconds, _ := strconv.ParseInt(strings.TrimPrefix(strings.Split(header, ",")[0], "t="), 10, 64)
	switch {
	case l.secret == "":
		w.WriteHeader(http.StatusBadGateway)
	case r.Header.Get("Content-Type") != "application/json",
		ricloudtest.SignWebhook(l.secret, time.Unix(seconds, 0), []byte(text)) != header,
		json.Unmarshal([]byte(text), &event) != nil, event.Type == "":
		l.refused = append(l.refused, text)
		w.WriteHeader(http.StatusBadRequest)
	default:
		l.taken++
	}
}

// Old spellings of actions work in the generations that had them. In others, they work only on
// request.
func TestOldActions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts   []ricloudtest.Option
		status int
	}{
		"current": {opts: nil, status: 405},
		"2018": {
			opts:   []ricloudtest.Option{ricloudtest.WithGeneration(ricloudtest.Generation2018)},
			status: 404,
		},
		"2019": {
			opts:   []ricloudtest.Option{ricloudtest.WithGeneration(ricloudtest.Generation2019)},
			status: 404,
		},
		"2019, without": {
			opts: []ricloudtest.Option{
				ricloudtest.WithGeneration(ricloudtest.Generation2019),
				ricloudtest.WithOldActions(false),
			}, status: 405,
		},
		"current, with them": {
			opts:   []ricloudtest.Option{ricloudtest.WithOldActions(true)},
			status: 404,
		},
	} {
		srv := newServer(t, test.opts...)
		for _, path := range []string{
			"/results/x/ack", "/configs/storage/9/test",
			"/configs/webhook/9/test",
		} {
			status, _ := send(t.Context(), t, srv, http.MethodGet, path, srv.Token(), "")
			assert.Equal(t, test.status, status, "%s: %s", name, path)
		}
	}
}

func TestGenerationNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"current", "2018", "2019", "mixed"} {
		generation, err := ricloudtest.ParseGeneration(name)
		require.NoError(t, err)
		assert.Equal(t, name, generation.String())
	}
	_, err := ricloudtest.ParseGeneration("2017")
	require.ErrorContains(t, err, "2017")
	assert.Contains(t, ricloudtest.Generation(9).String(), "9")
}
