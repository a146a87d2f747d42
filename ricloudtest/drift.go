package ricloudtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// Fixture is one request and its answer, without secrets.
type Fixture struct {
	Method   string          `json:"method"`
	Path     string          `json:"path"`
	Query    url.Values      `json:"query,omitempty"`
	Request  json.RawMessage `json:"request,omitempty"`
	Status   int             `json:"status"`
	Header   http.Header     `json:"header,omitempty"` // the fields about limits, and the media type
	Response json.RawMessage `json:"response,omitempty"`
	Time     time.Time       `json:"time"`
}

// Recorder writes traffic as fixtures. It is an http.RoundTripper and safe for concurrent use.
type Recorder struct {
	dir  string
	next http.RoundTripper

	mu     sync.Mutex
	number int
	err    error
}

// Record returns a Recorder that sends requests through next and writes each, with its answer, into
// a file of its own in dir. It masks passwords, codes, tokens, secrets, keys, credentials, the
// values of queries, the queries and user names of URLs, and e-mail addresses. In paths, it writes
// {id} for everything but the API's own words. The API's answers hold no names and no message
// texts, and result files are not recorded.
//
// Use it with ricloud.WithTransport. An answer that is not JSON passes through unrecorded. If
// next is nil, the Recorder has a transport of its own.
func Record(dir string, next http.RoundTripper) *Recorder {
	if next == nil {
		next = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	return &Recorder{dir: dir, next: next}
}

// Err returns the first error of writing a fixture, or nil. Such errors do not disturb the traffic.
func (rec *Recorder) Err() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.err
}

// largestFixture bounds the bodies that a Recorder keeps.
const largestFixture = 16 << 20

// RoundTrip implements http.RoundTripper.
func (rec *Recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		sent, err = readUpTo(r.Body, largestFixture)
		if err = cmp.Or(err, r.Body.Close()); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := rec.next.RoundTrip(r)
	if err != nil || !strings.Contains(res.Header.Get("Content-Type"), "json") {
		return res, err
	}
	body, err := readUpTo(res.Body, largestFixture)
	if err = cmp.Or(err, res.Body.Close()); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	rec.write(&Fixture{
		Method: r.Method, Path: maskPath(r.URL.EscapedPath()), Query: maskQuery(r.URL.Query()),
		Status:  res.StatusCode,
		Request: redact(sent), Response: redact(body), Header: notedHeader(res.Header), Time: time.Now(),
	})
	return res, nil
}

// notedHeader returns the header fields of an answer that a fixture keeps: the contract does not
// know yet how the API tells its limits.
func notedHeader(h http.Header) http.Header {
	kept := http.Header{}
	for name, values := range h {
		lower := strings.ToLower(name)
		if strings.Contains(lower, "ratelimit") || strings.Contains(lower, "rate-limit") ||
			lower == "retry-after" || strings.HasPrefix(lower, "ricloud-") || lower == "content-type" {
			if kept[name] = values; isSecret(name) {
				kept[name] = []string{masked}
			}
		}
	}
	return kept
}

func (rec *Recorder) write(f *Fixture) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.number++
	raw, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = os.MkdirAll(rec.dir, 0o700)
	}
	if err == nil {
		name := fmt.Sprintf("%06d-%s%s.json", rec.number, strings.ToLower(f.Method),
			unsafeInNames().ReplaceAllString(f.Path, "-"))
		err = os.WriteFile(filepath.Join(rec.dir, name), append(raw, '\n'), 0o600)
	}
	if rec.err == nil && err != nil {
		rec.err = fmt.Errorf("ricloudtest: record: %w", err)
	}
}

func unsafeInNames() *regexp.Regexp { return regexp.MustCompile(`[^A-Za-z0-9.]+`) }

func emails() *regexp.Regexp { return regexp.MustCompile(`[^\s"@/]+@[^\s"@/]+\.[A-Za-z]{2,}`) }

// redact masks a body for a fixture.
func redact(raw []byte) json.RawMessage {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	masked, err := json.Marshal(newMasker().json(raw))
	if err != nil {
		return nil
	}
	return emails().ReplaceAll(masked, []byte("someone@example.com"))
}

// maskQuery keeps the names of parameters.
func maskQuery(query url.Values) url.Values {
	kept := url.Values{}
	for name, values := range query {
		name = emails().ReplaceAllString(name, "someone@example.com")
		for range values {
			kept.Add(name, masked)
		}
	}
	return kept
}

// maskPath keeps the words that the API's paths consist of.
func maskPath(path string) string {
	words := map[string]bool{"": true}
	for _, route := range routes() {
		for word := range strings.SplitSeq(route.on, "/") {
			words[word] = true
		}
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if !words[segment] {
			segments[i] = "{id}"
		}
	}
	return strings.Join(segments, "/")
}

// Drift is one difference between an answer and the contract.
type Drift struct {
	Where string // the request, and the path to the value in its answer
	What  string
}

// String returns both parts in one line.
func (d Drift) String() string { return d.Where + ": " + d.What }

// CheckDir compares every fixture in a folder with the contract: fields that the SDK's types do not
// have, unknown resources, states, error codes and event names, and values of another type. Each
// difference is reported once.
func CheckDir(dir string) ([]Drift, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("ricloudtest: check: %w", err)
	}
	if len(files) == 0 {
		return nil, refuse("check: there are no fixtures in %s", dir)
	}
	var all []Drift
	for _, file := range files {
		raw, err := os.ReadFile(file) //nolint:gosec // in the folder that the user named
		if err != nil {
			return nil, fmt.Errorf("ricloudtest: check: %w", err)
		}
		var f Fixture
		if err := json.Unmarshal(raw, &f); err != nil {
			return nil, refuse("check: %s: %w", filepath.Base(file), err)
		}
		for _, d := range Check(f) {
			if !slices.Contains(all, d) {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// Check compares one fixture with the contract.
func Check(f Fixture) []Drift {
	c := &checker{where: f.Method + " " + f.Path}
	if found, _, ok := newRouter().find(f.Method, f.Path); ok {
		c.where = found.on // with "{id}", so that the same difference is reported once
	} else {
		c.note("", "the contract has no such endpoint")
	}
	for name := range f.Header {
		if lower := strings.ToLower(name); lower != "content-type" {
			c.note("", "the header "+name+", of which the contract knows nothing")
		}
	}
	var body any
	if err := json.Unmarshal(f.Response, &body); err != nil {
		c.note("", "the answer is not JSON")
		return c.found
	}
	if f.Status >= http.StatusBadRequest {
		c.errorBody(body)
		return c.found
	}
	c.value("", body, "")
	return c.found
}

type checker struct {
	where string
	found []Drift
}

func (c *checker) note(at, what string) {
	where := c.where
	if at != "" {
		where += " " + at
	}
	d := Drift{where, what}
	if !slices.Contains(c.found, d) {
		c.found = append(c.found, d)
	}
}

func (c *checker) errorBody(body any) {
	fields, ok := body.(object)
	if !ok {
		c.note("", "an error that is not an object")
		return
	}
	c.code("error", fields["error"])
	for name := range fields {
		if name != "error" && name != "message" && name != "params" {
			c.note(name, "a field of an error that the contract does not know")
		}
	}
}

// code checks an error code. The sandbox's own codes are guesses, and so not in the list.
func (c *checker) code(at string, value any) {
	known := []string{
		codeInvalidBody, codeInvalidParameter, codeUnconfigured, codeMissingScope,
		codeLimitExceeded, codeSessionExpired, codeRequired, codeInvalid, "init_failed",
		"service", "api", "organisation", "admin",
	}
	if code, ok := value.(string); !ok && value != nil || ok && !slices.Contains(known, code) {
		c.note(at, fmt.Sprintf("the error code %v, which the contract does not know", value))
	}
}

// value walks an answer.
func (c *checker) value(at string, value any, parent string) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			c.value(at+"[]", item, parent)
		}
	case object:
		if value["data"] != nil && value["has_more"] != nil {
			c.list(at, value, parent)
			return
		}
		if resource, ok := value["resource"].(string); ok {
			c.resource(at, resource, value)
		}
	}
}

func (c *checker) list(at string, list object, parent string) {
	known := []string{"resource", "data", "has_more", "total_count", "url"}
	for name := range list {
		if !slices.Contains(known, name) {
			c.note(at+"."+name, "a field of a list that the contract does not know")
		}
	}
	c.value(at+".data", list["data"], parent)
}

// resource checks one resource's fields, state and event name, and then what is inside.
func (c *checker) resource(at, resource string, fields object) {
	known := knownFields(resource)
	if known == nil {
		c.note(at, "the resource "+resource+", which the contract does not know")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, here := fields[name], strings.TrimPrefix(at+"."+name, ".")
		want, ok := known[name]
		switch {
		case !ok:
			c.note(here, "a field of "+resource+" that the contract does not know")
		case value != nil && want != "" && kindOf(value) != want && !tolerated(name, value):
			c.note(here, "is "+kindOf(value)+", want "+want)
		}
		c.value(here, value, resource)
	}
	states := States(resource)
	if state, ok := fields["state"].(string); ok && states != nil && !slices.Contains(states, state) {
		c.note(strings.TrimPrefix(at+".state", "."), "the state "+state+" of "+resource+
			", which the contract does not know")
	}
	if resource == "session" || resource == "task" || resource == "poll" {
		c.code(strings.TrimPrefix(at+".error", "."), fields["error"])
	}
	if resource == "event" {
		c.slug(fields)
	}
}

func (c *checker) slug(fields object) {
	known := []string{
		"session.expired", "poll.created", "poll.completed", "task.created", "task.succeeded",
		"task.failed", "webhook_config.test",
	}
	if slug := fmt.Sprint(fields["type"], ".", fields["action"]); !slices.Contains(known, slug) {
		c.note("type", "the event "+slug+", which the contract does not know")
	}
}

// tolerated lists what the generations of the API disagree about: IDs, and lists in resources.
func tolerated(name string, value any) bool {
	switch value.(type) {
	case float64:
		return name == "id" || strings.HasSuffix(name, "_default") || name == "organisation" ||
			name == "api_version" || slices.Contains(idFields(), name)
	case []any:
		return slices.Contains([]string{
			"results", "children", "storage_configs", "webhook_configs", "errors",
		}, name)
	case string:
		return name == "source"
	}
	return false
}

func idFields() []string {
	return []string{
		"key", "user", "source", "session", "poll", "task", "subscription", "parent",
		"storage_config", "webhook_config",
	}
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	}
	return "an object"
}

// knownFields returns the fields of a resource with the kinds of their values, from the SDK's own
// types and the older spellings of the contract, or nil for an unknown resource.
func knownFields(resource string) map[string]string {
	sample, ok := map[string]any{
		"organisation": ricloud.Organisation{}, "key": ricloud.Key{}, "user": ricloud.User{},
		"permissions": ricloud.Permissions{}, "permission": ricloud.Permissions{},
		"organisation_permissions": ricloud.Permissions{},
		"source":                   ricloud.Source{}, "session": ricloud.Session{},
		"poll": ricloud.Poll{},
		"task": ricloud.Task{}, "result": ricloud.Result{},
		"subscription": ricloud.Subscription{}, "event": ricloud.Event{},
		"storage_config": ricloud.StorageConfig{}, "webhook_config": ricloud.WebhookConfig{},
	}[resource]
	if !ok {
		return nil
	}
	fields := map[string]string{"resource": "a string"}
	t := reflect.TypeOf(sample)
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = kindOfType(field.Type)
		}
	}
	older := map[string][]string{
		"poll": {"type", "tasks_completed"}, "subscription": {"org", "organisation", "key"},
		"organisation_permissions": {"identifier"},
		"storage_config":           {"credentials", "organisation"}, "session": {"key"},
	}[resource]
	for _, name := range older {
		if _, known := fields[name]; !known {
			fields[name] = ""
		}
	}
	return fields
}

func kindOfType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[ricloud.Secret]() {
		return "a string"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int64, reflect.Float64:
		return "a number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return ""
		}
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return ""
	}
}
