package ricloudtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// call is one request to the API, on its way through a handler.
type call struct {
	op     transport.Operation
	id     string // what "{id}" stands for
	query  url.Values
	params *params
	key    *key
	origin string
	status int             // 200, unless the handler made something
	wait   <-chan struct{} // what Ricloud-Await waits for
}

// render writes a handler's answer in a generation, when it is sent: after the
// wait, if there is one.
type render func(view) any

// handler does one operation. The server's mutex is held.
type handler func(*Server, *call) (render, error)

// one is the usual answer: a resource.
func one[T any](how func(view, T) object, item T) (render, error) {
	return func(v view) any { return how(v, item) }, nil
}

func getter[T entity](of func(*Server) *collection[T], how func(view, T) object) handler {
	return func(s *Server, c *call) (render, error) {
		item, err := of(s).get(c.id)
		if err != nil {
			return nil, err
		}
		return one(how, item)
	}
}

func lister[T entity](of func(*Server) *collection[T], how func(view, T) object) handler {
	return func(s *Server, c *call) (render, error) {
		found, err := of(s).list(c.query, s.inclusive || s.generation == GenerationMixed && s.draw(0.5))
		if err != nil {
			return nil, err
		}
		return func(v view) any {
			data := make([]object, len(found.items))
			for i, item := range found.items {
				data[i] = how(v, item)
			}
			return v.list(data, found.more, found.total, c.op.Path)
		}, nil
	}
}

// handlers is the whole API.
func handlers() map[transport.Operation]handler {
	keys := func(s *Server) *collection[*key] { return s.keys }
	permissions := func(s *Server) *collection[*permission] { return s.permissions }
	users := func(s *Server) *collection[*user] { return s.users }
	sources := func(s *Server) *collection[*source] { return s.sources }
	sessions := func(s *Server) *collection[*session] { return s.sessions }
	polls := func(s *Server) *collection[*poll] { return s.polls }
	tasks := func(s *Server) *collection[*task] { return s.tasks }
	results := func(s *Server) *collection[*result] { return s.results }
	subscriptions := func(s *Server) *collection[*subscription] { return s.subscriptions }
	events := func(s *Server) *collection[*event] { return s.events }
	storages := func(s *Server) *collection[*storageConfig] { return s.storages }
	webhooks := func(s *Server) *collection[*webhookConfig] { return s.webhooks }
	return map[transport.Operation]handler{
		transport.OrganisationGet:       (*Server).getOrganisation,
		transport.OrganisationUpdate:    (*Server).updateOrganisation,
		transport.KeysCreate:            (*Server).createKey,
		transport.KeysGet:               getter(keys, view.key),
		transport.KeysList:              lister(keys, view.key),
		transport.KeysUpdate:            (*Server).updateKey,
		transport.KeysCurrent:           (*Server).currentKey,
		transport.KeysUpdateCurrent:     (*Server).updateKey,
		transport.KeysRotate:            (*Server).rotateKey,
		transport.PermissionsCreate:     (*Server).createPermission,
		transport.PermissionsGet:        getter(permissions, view.permission),
		transport.PermissionsList:       lister(permissions, view.permission),
		transport.PermissionsUpdate:     (*Server).updatePermission,
		transport.UsersCreate:           (*Server).createUser,
		transport.UsersGet:              getter(users, view.user),
		transport.UsersList:             lister(users, view.user),
		transport.UsersUpdate:           (*Server).updateUser,
		transport.SourcesGet:            getter(sources, view.source),
		transport.SourcesList:           lister(sources, view.source),
		transport.SourcesUpdate:         (*Server).updateSource,
		transport.SourcesChildren:       (*Server).sourceChildren,
		transport.SessionsCreate:        (*Server).createSession,
		transport.SessionsGet:           getter(sessions, view.session),
		transport.SessionsList:          lister(sessions, view.session),
		transport.SessionsDelete:        (*Server).deleteSession,
		transport.PollsCreate:           (*Server).createPoll,
		transport.PollsGet:              getter(polls, view.poll),
		transport.PollsList:             lister(polls, view.poll),
		transport.SubscriptionsCreate:   (*Server).createSubscription,
		transport.SubscriptionsGet:      getter(subscriptions, view.subscription),
		transport.SubscriptionsList:     lister(subscriptions, view.subscription),
		transport.SubscriptionsDelete:   (*Server).deleteSubscription,
		transport.TasksGet:              getter(tasks, view.task),
		transport.TasksList:             lister(tasks, view.task),
		transport.ResultsGet:            getter(results, view.result),
		transport.ResultsList:           lister(results, view.result),
		transport.ResultsAcknowledge:    (*Server).acknowledge,
		transport.ResultsAcknowledgeAll: (*Server).acknowledgeAll,
		transport.EventsGet:             getter(events, view.event),
		transport.EventsList:            lister(events, view.event),
		transport.StorageConfigsCreate:  (*Server).createStorage,
		transport.StorageConfigsGet:     getter(storages, view.storageConfig),
		transport.StorageConfigsList:    lister(storages, view.storageConfig),
		transport.StorageConfigsUpdate:  (*Server).updateStorage,
		transport.StorageConfigsDelete:  (*Server).deleteStorage,
		transport.StorageConfigsTest:    (*Server).testStorage,
		transport.WebhookConfigsCreate:  (*Server).createWebhook,
		transport.WebhookConfigsGet:     getter(webhooks, view.webhookConfig),
		transport.WebhookConfigsList:    lister(webhooks, view.webhookConfig),
		transport.WebhookConfigsUpdate:  (*Server).updateWebhook,
		transport.WebhookConfigsDelete:  (*Server).deleteWebhook,
		transport.WebhookConfigsTest:    (*Server).testWebhook,
	}
}

type route struct {
	op  transport.Operation
	run handler
}

// router finds the route of a method and a path template.
type router map[string]route

func newRouter() router {
	r := router{}
	for op, run := range handlers() {
		row := op
		r[row.Method+" "+row.Path] = route{row, run}
	}
	return r
}

// find tries the path as it is, then with one segment as the ID.
func (r router) find(method, path string) (route, string, bool) {
	if found, ok := r[method+" "+path]; ok {
		return found, "", true
	}
	segments := strings.Split(path, "/")
	for i := len(segments) - 1; i > 1; i-- {
		id := segments[i]
		segments[i] = "{id}"
		found, ok := r[method+" "+strings.Join(segments, "/")]
		segments[i] = id
		if unescaped, err := url.PathUnescape(id); ok && err == nil && id != "" {
			return found, unescaped, true
		}
	}
	return route{}, "", false
}

// serveAPI answers one request to the API.
func (s *Server) serveAPI(r *http.Request, origin string) *answer {
	found, id, ok := s.router.find(r.Method, r.URL.EscapedPath())
	entry := s.journal.begin(found.op.Name, r)
	a := s.disturb(r.Context(), found.op.Name, func() *answer {
		if !ok {
			return s.noRoute(r)
		}
		return s.process(r, found, id, origin)
	})
	s.journal.end(entry, a)
	s.logger.DebugContext(r.Context(), "The sandbox answered.", slog.String("operation", found.op.Name), slog.Int("status", a.status))
	return a
}

func (s *Server) noRoute(r *http.Request) *answer {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if _, _, ok := s.router.find(method, r.URL.EscapedPath()); ok {
			return s.fail(&apiError{http.StatusMethodNotAllowed, codeMethodNotAllowed, r.Method + " is not allowed here.", nil})
		}
	}
	return s.fail(notFound("endpoint"))
}

func (s *Server) fail(err error) *answer {
	if e, ok := errors.AsType[*apiError](err); ok {
		return jsonAnswer(e.status, e.body())
	}
	return jsonAnswer(http.StatusInternalServerError, object{"error": codeInternal, "message": err.Error()})
}

// process reads, acts and writes. Only the middle holds the mutex.
func (s *Server) process(r *http.Request, found route, id, origin string) *answer {
	body, err := readBody(r)
	if err != nil {
		return s.fail(err)
	}
	c := &call{op: found.op, id: id, query: r.URL.Query(), origin: origin, status: http.StatusOK}
	out, err := s.act(r, found, c, body)
	if err != nil {
		return s.fail(err)
	}
	return jsonAnswer(c.status, out)
}

// act authenticates, decodes, runs, waits and renders. What it returns shares
// nothing that changes.
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
	if limit := s.awaitLimit(found.op); c.wait != nil && limit > 0 {
		s.mu.Unlock()
		s.await(r.Context(), c.wait, min(limit, awaited(r.Header)))
		s.mu.Lock()
	}
	return answer(s.view(c.origin)), nil
}

// view draws the generation of one answer. s.mu is held.
func (s *Server) view(origin string) view {
	v := view{server: s, old: s.generation == Generation2018, origin: origin}
	if s.generation == GenerationMixed {
		v.old, v.broken = s.draw(0.5), s.draw(0.5)
	}
	return v
}

// readBody reads at most a megabyte: nothing the API knows is near it.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	const most = 1 << 20
	var body bytes.Buffer
	n, err := io.Copy(&body, io.LimitReader(r.Body, most+1))
	if err != nil || n > most {
		return nil, badRequest(codeInvalidBody, "The body cannot be read, or is too large.")
	}
	return body.Bytes(), nil
}

func (s *Server) authenticate(header string) (*key, error) {
	scheme, token, _ := strings.Cut(header, " ")
	k, ok := s.tokens[token]
	if !ok || scheme != "Token" || k.state != stateActive {
		return nil, &apiError{http.StatusUnauthorized, codeUnauthorised, "The token is missing or not valid.", nil}
	}
	if !k.expires.IsZero() && !s.clock.now().Before(k.expires) {
		k.state = stateExpired
		return nil, &apiError{http.StatusUnauthorized, codeUnauthorised, "The key has expired.", nil}
	}
	return k, nil
}

// spend takes one request from the rate limit.
func (s *Server) spend() error {
	if s.limit <= 0 {
		return nil
	}
	if now := s.clock.now(); now.Sub(s.window) >= s.limitPer {
		s.window, s.used = now, 0
	}
	s.used++
	if s.used > s.limit {
		return &apiError{http.StatusTooManyRequests, codeRateLimited, "The rate limit is reached.", nil}
	}
	return nil
}

// awaitLimit is the longest wait an endpoint grants: 10 s on three of them
// now; 30 s, and only for sessions, when the guide was written.
func (s *Server) awaitLimit(op transport.Operation) time.Duration {
	switch {
	case !op.Awaits():
		return 0
	case s.generation != Generation2018:
		return 10 * time.Second
	case op.Name == transport.SessionsCreate.Name:
		return 30 * time.Second
	}
	return 0
}

// awaited is the Ricloud-Await header.
// Assumption: fractions of a second count, and nonsense counts as 0.
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
