package ricloudtest

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// call is one request to the API on its way through a handler.
type call struct {
	path   string // of the route
	id     string // what "{id}" stands for
	query  url.Values
	params *params
	key    *key
	origin string
	status int             // 200, unless the handler made something
	wait   <-chan struct{} // what Ricloud-Await waits for
}

func (c *call) created() { c.status = http.StatusCreated }

// answerer writes a handler's answer in a generation. It runs when the answer is sent, which is
// after the wait, if there is one.
type answerer func(view) any

// handler does one operation. s.mu is held.
type handler func(*Server, *call) (answerer, error)

// answerWith answers with one resource.
func answerWith[T any](write func(view, T) object, item T) (answerer, error) {
	return func(v view) any { return write(v, item) }, nil
}

// collectionOf returns a collection of a server. Handlers take this function, and not the
// collection, because a reset replaces the collection.
type collectionOf[T collection.Entity] func(*Server) *collection.Collection[T]

func getter[T collection.Entity](items collectionOf[T], write func(view, T) object) handler {
	return func(s *Server, c *call) (answerer, error) {
		item, err := items(s).Get(c.id)
		if err != nil {
			return nil, err
		}
		return answerWith(write, item)
	}
}

func lister[T collection.Entity](items collectionOf[T], write func(view, T) object) handler {
	return func(s *Server, c *call) (answerer, error) {
		return listPage(s, c, items(s), listURL(c.path, c.query), write)
	}
}

// listURL is the address of a list with its filters, but without the page.
func listURL(path string, query url.Values) string {
	filters := url.Values{}
	for name, values := range query {
		if !slices.Contains([]string{"limit", "after_id", "before_id"}, name) {
			filters[name] = values
		}
	}
	if len(filters) == 0 {
		return path
	}
	return path + "?" + filters.Encode()
}

// listPage answers with one page of a collection.
//
// Assumption (lists): the newest resource comes first, cursors are exclusive, unknown filters are
// ignored, total_count is what the indexed filters leave, and date filters are date_created__gt,
// __gte, __lt and __lte.
func listPage[T collection.Entity](
	s *Server, c *call, items *collection.Collection[T], at string, write func(view, T) object,
) (answerer, error) {
	inclusive := s.inclusive || s.generation == GenerationMixed && s.draw(0.5)
	found, err := items.List(c.query, inclusive)
	if err != nil {
		return nil, err
	}
	return func(v view) any {
		data := make([]object, len(found.Items))
		for i, item := range found.Items {
			data[i] = write(v, item)
		}
		return v.list(data, found.More, found.Total, at)
	}, nil
}

// route is one endpoint. The sandbox spells out methods and paths itself, so that a mistake in the
// SDK's own table shows.
type route struct {
	operation string
	on        string // method and path
	run       handler
	wait      waiting
	old       bool // an old spelling of an endpoint, see WithOldActions
}

// waiting says where an endpoint honours Ricloud-Await.
type waiting uint8

const (
	noWait     waiting = iota
	sinceGuide         // already when the guide was written
	sinceLater
)

// routes is the whole API.
//
//nolint:funlen // one line per endpoint
func routes() []route {
	keys := func(s *Server) *collection.Collection[*key] { return s.keys }
	permissions := func(s *Server) *collection.Collection[*permission] { return s.permissions }
	users := func(s *Server) *collection.Collection[*user] { return s.users }
	sources := func(s *Server) *collection.Collection[*source] { return s.sources }
	sessions := func(s *Server) *collection.Collection[*session] { return s.sessions }
	polls := func(s *Server) *collection.Collection[*poll] { return s.polls }
	subs := func(s *Server) *collection.Collection[*subscription] { return s.subscriptions }
	tasks := func(s *Server) *collection.Collection[*task] { return s.tasks }
	results := func(s *Server) *collection.Collection[*result] { return s.results }
	events := func(s *Server) *collection.Collection[*event] { return s.events }
	storages := func(s *Server) *collection.Collection[*storageConfig] { return s.storages }
	webhooks := func(s *Server) *collection.Collection[*webhookConfig] { return s.webhooks }
	get := func(operation, path string, run handler) route {
		return route{operation: operation, on: "GET " + path, run: run}
	}
	post := func(operation, path string, run handler) route {
		return route{operation: operation, on: "POST " + path, run: run}
	}
	remove := func(operation, path string, run handler) route {
		return route{operation: operation, on: "DELETE " + path, run: run}
	}
	awaits := func(since waiting, r route) route {
		r.wait = since
		return r
	}
	old := func(r route) route {
		r.old = true
		return r
	}
	testStorage, testWebhook := (*Server).testStorageConfig, (*Server).testWebhookConfig
	return []route{
		get("Organisation.Get", "/organisation", (*Server).getOrganisation),
		post("Organisation.Update", "/organisation", (*Server).updateOrganisation),

		post("Keys.Create", "/keys", (*Server).createKey),
		get("Keys.Get", "/keys/{id}", getter(keys, view.key)),
		get("Keys.List", "/keys", lister(keys, view.key)),
		post("Keys.Update", "/keys/{id}", (*Server).updateKey),
		get("Keys.Current", "/key", (*Server).currentKey),
		post("Keys.UpdateCurrent", "/key", (*Server).updateKey),
		post("Keys.Rotate", "/keys/{id}/rotate", (*Server).rotateKey),

		post("Permissions.Create", "/permissions", (*Server).createPermission),
		get("Permissions.Get", "/permissions/{id}", getter(permissions, view.permission)),
		get("Permissions.List", "/permissions", lister(permissions, view.permission)),
		post("Permissions.Update", "/permissions/{id}", (*Server).updatePermission),

		post("Users.Create", "/users", (*Server).createUser),
		get("Users.Get", "/users/{id}", getter(users, view.user)),
		get("Users.List", "/users", lister(users, view.user)),
		post("Users.Update", "/users/{id}", (*Server).updateUser),

		get("Sources.Get", "/sources/{id}", getter(sources, view.source)),
		get("Sources.List", "/sources", lister(sources, view.source)),
		post("Sources.Update", "/sources/{id}", (*Server).updateSource),
		get("Sources.Children", "/sources/{id}/children", (*Server).sourceChildren),

		awaits(sinceGuide, post("Sessions.Create", "/sessions", (*Server).createSession)),
		get("Sessions.Get", "/sessions/{id}", getter(sessions, view.session)),
		get("Sessions.List", "/sessions", lister(sessions, view.session)),
		remove("Sessions.Delete", "/sessions/{id}", (*Server).deleteSession),

		post("Polls.Create", "/polls", (*Server).createPoll),
		get("Polls.Get", "/polls/{id}", getter(polls, view.poll)),
		get("Polls.List", "/polls", lister(polls, view.poll)),
		get("Polls.Errors", "/polls/{id}/errors", (*Server).listPollErrors),

		post("Subscriptions.Create", "/subscriptions", (*Server).createSubscription),
		get("Subscriptions.Get", "/subscriptions/{id}", getter(subs, view.subscription)),
		get("Subscriptions.List", "/subscriptions", lister(subs, view.subscription)),
		remove("Subscriptions.Delete", "/subscriptions/{id}", (*Server).deleteSubscription),

		get("Tasks.Get", "/tasks/{id}", getter(tasks, view.task)),
		get("Tasks.List", "/tasks", lister(tasks, view.task)),

		get("Results.Get", "/results/{id}", getter(results, view.result)),
		get("Results.List", "/results", lister(results, view.result)),
		post("Results.Acknowledge", "/results/{id}/ack", (*Server).acknowledge),
		old(get("Results.Acknowledge", "/results/{id}/ack", (*Server).acknowledge)),
		post("Results.AcknowledgeAll", "/results/ack", (*Server).acknowledgeAll),

		get("Events.Get", "/events/{id}", getter(events, view.event)),
		get("Events.List", "/events", lister(events, view.event)),

		post("StorageConfigs.Create", "/configs/storage", (*Server).createStorage),
		get("StorageConfigs.Get", "/configs/storage/{id}", getter(storages, view.storageConfig)),
		get("StorageConfigs.List", "/configs/storage", lister(storages, view.storageConfig)),
		post("StorageConfigs.Update", "/configs/storage/{id}", (*Server).updateStorage),
		remove("StorageConfigs.Delete", "/configs/storage/{id}", (*Server).deleteStorage),
		awaits(sinceLater,
			post("StorageConfigs.Test", "/configs/storage/{id}/test", testStorage)),
		old(get("StorageConfigs.Test", "/configs/storage/{id}/test", testStorage)),

		post("WebhookConfigs.Create", "/configs/webhook", (*Server).createWebhook),
		get("WebhookConfigs.Get", "/configs/webhook/{id}", getter(webhooks, view.webhookConfig)),
		get("WebhookConfigs.List", "/configs/webhook", lister(webhooks, view.webhookConfig)),
		post("WebhookConfigs.Update", "/configs/webhook/{id}", (*Server).updateWebhook),
		remove("WebhookConfigs.Delete", "/configs/webhook/{id}", (*Server).deleteWebhook),
		awaits(sinceLater,
			post("WebhookConfigs.Test", "/configs/webhook/{id}/test", testWebhook)),
		old(get("WebhookConfigs.Test", "/configs/webhook/{id}/test", testWebhook)),
	}
}

// Operations returns the names that Call.Operation and Fault.Operation take: one for each endpoint
// of the API, and StorageGet.
func Operations() []string {
	names := []string{StorageGet}
	for _, r := range routes() {
		names = append(names, r.operation)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// router finds the route of a method and a path.
type router map[string]route

func newRouter() router {
	table := router{}
	for _, r := range routes() {
		table[r.on] = r
	}
	return table
}

// find tries the path as it is, then with one of its segments as the ID.
func (table router) find(method, path string) (found route, id string, ok bool) {
	if found, ok = table[method+" "+path]; ok {
		return found, "", true
	}
	segments := strings.Split(path, "/")
	for i := len(segments) - 1; i > 1; i-- {
		id := segments[i]
		segments[i] = "{id}"
		found, ok = table[method+" "+strings.Join(segments, "/")]
		segments[i] = id
		if unescaped, err := url.PathUnescape(id); ok && err == nil && id != "" {
			return found, unescaped, true
		}
	}
	return route{}, "", false
}

// findRoute finds the endpoint of a request. The old spellings count only where they are enabled.
func (s *Server) findRoute(method, path string) (found route, id string, ok bool) {
	found, id, ok = s.router.find(method, path)
	if ok && found.old && !s.answersOldActions() {
		return route{}, "", false
	}
	return found, id, ok
}

func (s *Server) answersOldActions() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.oldActions()
}

// serveAPI answers one request to the API.
func (s *Server) serveAPI(r *http.Request, origin string) *reply.Answer {
	found, id, ok := s.findRoute(r.Method, r.URL.EscapedPath())
	body, unread := readBody(r)
	entry := s.journal.begin(found.operation, r, body)
	at := target{operation: found.operation, id: id, body: body}
	a := s.disturb(r, at, func() *reply.Answer {
		switch {
		case !ok:
			return s.noRoute(r)
		case unread != nil:
			return failure(unread)
		}
		return s.process(r, found, id, origin, body)
	})
	s.date(a)
	s.journal.end(entry, a)
	s.logger.DebugContext(r.Context(), "The sandbox answered.",
		slog.String("operation", found.operation), slog.Int("status", a.Status))
	return a
}

// date adds the sandbox's time to an answer, unless a fault set another.
func (s *Server) date(a *reply.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Header.Get("Date") == "" {
		a.Header.Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	}
}

func (s *Server) noRoute(r *http.Request) *reply.Answer {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if _, _, ok := s.findRoute(method, r.URL.EscapedPath()); ok {
			message := r.Method + " is not allowed here."
			const status = http.StatusMethodNotAllowed
			return failure(&apiError{status, codeMethodNotAllowed, message, nil})
		}
	}
	return failure(notFound("endpoint"))
}

func failure(err error) *reply.Answer {
	e := asAPIError(err)
	return reply.JSON(e.status, e.body())
}

// process authenticates, decodes, runs, waits and writes.
func (s *Server) process(
	r *http.Request, found route, id, origin string, body []byte,
) *reply.Answer {
	_, path, _ := strings.Cut(found.on, " ")
	c := &call{path: path, id: id, query: r.URL.Query(), origin: origin, status: http.StatusOK}
	out, err := s.act(r, found, c, body)
	if err != nil {
		return failure(err)
	}
	return reply.JSON(c.status, out)
}

// act holds s.mu, except while it waits. What it returns shares nothing that changes.
func (s *Server) act(r *http.Request, found route, c *call, body []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if c.key, err = s.authenticate(r.Header.Get("Authorization")); err != nil {
		return nil, err
	}
	if err = s.spend(); err != nil {
		return nil, err
	}
	if c.params, err = parseParams(body); err != nil {
		return nil, err
	}
	answer, err := found.run(s, c)
	if err != nil {
		return nil, err
	}
	if limit := s.awaitLimit(found); c.wait != nil && limit > 0 {
		s.mu.Unlock()
		s.await(r.Context(), c.wait, min(limit, awaited(r.Header)))
		s.mu.Lock()
	}
	return answer(s.newView(c.origin)), nil
}

// spend takes one request from the rate limit.
//
// Assumption (rate-limit): the window is fixed and starts with its first request. The answer is 429
// without Retry-After, since no source shows one; a Fault can add it. Too many polls in flight for
// a session answer 429 as well.
func (s *Server) spend() error {
	if s.limit <= 0 {
		return nil
	}
	if now := s.clock.Now(); now.Sub(s.window) >= s.limitPer {
		s.window, s.used = now, 0
	}
	s.used++
	if s.used > s.limit {
		return tooMany("The rate limit is reached.")
	}
	return nil
}

// awaitLimit is the longest wait that an endpoint grants: 10 s on three endpoints now; 30 s, and
// only on POST /sessions, when the guide was written.
func (s *Server) awaitLimit(r route) time.Duration {
	switch {
	case r.wait == noWait:
		return 0
	case s.generation != Generation2018:
		return 10 * time.Second
	case r.wait == sinceGuide:
		return 30 * time.Second
	}
	return 0
}

// awaited reads the Ricloud-Await header.
//
// Assumption (await): a fraction of a second counts, a value that is no number counts as 0, and
// more than the longest wait counts as that.
func awaited(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Ricloud-Await"), 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, 60) * float64(time.Second))
}

// await waits for done, for the limit, or until nobody waits any more.
func (s *Server) await(ctx context.Context, done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
}
