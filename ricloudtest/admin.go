package ricloudtest

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// adminPath is where the sandbox's own API and page are, beside the ricloud API.
const adminPath = "/_sandbox/"

// isAdmin says whether a request is for the sandbox itself.
func isAdmin(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, adminPath) || r.URL.Path == "/_sandbox"
}

// allowOrigin adds the CORS headers for an allowed origin. It answers a preflight request, and then
// returns true.
func (s *Server) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || isAdmin(r) ||
		!slices.Contains(s.origins, origin) && !slices.Contains(s.origins, "*") {
		return false
	}
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Vary", "Origin")
	header.Set("Access-Control-Expose-Headers", "Content-Range, ETag, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE")
	header.Set("Access-Control-Allow-Headers",
		"Authorization, Content-Type, Ricloud-Await, Range, If-Match, If-None-Match")
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// guardAdmin lets only this machine in, unless WithRemoteAdmin opens the door, and no page of
// another site.
func (s *Server) guardAdmin(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == adminPath+"health" {
		s.health(w, r)
		return
	}
	if !s.remoteAdmin && !(isLoopback(r.RemoteAddr) && s.isOwnHost(r.Host)) {
		writeAdmin(w, http.StatusForbidden, object{"error": "the admin API is for this machine " +
			"only; the option WithRemoteAdmin, or the flag -remote-admin, opens it"})
		return
	}
	crossOrigin := http.NewCrossOriginProtection()
	if err := crossOrigin.Check(r); err != nil {
		writeAdmin(w, http.StatusForbidden, object{"error": err.Error()})
		return
	}
	// CrossOriginProtection lets reads pass, but a dump holds secrets.
	site := r.Header.Get("Sec-Fetch-Site")
	if strings.HasPrefix(r.URL.Path, adminPath+"api/") &&
		!slices.Contains([]string{"", "same-origin", "none"}, site) {
		writeAdmin(w, http.StatusForbidden, object{"error": "a page of another site asks"})
		return
	}
	s.serveAdmin(w, r)
}

// isLoopback says whether an address is on this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// isOwnHost refuses the names that another site might point at this machine.
func (s *Server) isOwnHost(host string) bool {
	public, err := url.Parse(s.publicAPI)
	return isLoopback(host) || err == nil && public.Host != "" && public.Host == host
}

func writeAdmin(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(reply.Encode(body), '\n'))
}

// adminHandler does one thing for the admin API. It returns what to answer, or an error, which is
// answered with 400.
type adminHandler func(*Server, *adminRequest) (any, error)

// adminRequest is a request to the admin API with its body.
type adminRequest struct {
	*http.Request

	body []byte
}

// read decodes the body and refuses unknown fields.
func (r *adminRequest) read(to any) error {
	if len(bytes.TrimSpace(r.body)) == 0 {
		return nil
	}
	if err := decodeStrictly(r.body, to); err != nil {
		return refuse("the body: %w", err)
	}
	return nil
}

// adminRoute is one endpoint of the admin API.
type adminRoute struct {
	on, does string
	run      adminHandler
}

// adminRoutes is the admin API. docs/sandbox.md describes each endpoint.
func adminRoutes() []adminRoute {
	return []adminRoute{
		{"GET status", "versions, addresses, accounts and counts", (*Server).adminStatus},
		{"POST reset", "back to the start, with another seed", (*Server).adminReset},
		{"GET scenarios", "the scenarios by name", (*Server).adminScenarios},
		{"POST scenarios", "reset to a scenario, by name or as JSON", (*Server).adminPlay},
		{"GET calls", "the journal, with bodies, secrets masked", (*Server).adminCalls},
		{"DELETE calls", "empty the journal", (*Server).adminClearCalls},
		{"GET faults", "the faults that are set", (*Server).adminFaults},
		{"POST faults", "add a fault, or several", (*Server).adminAddFaults},
		{"PUT faults", "replace all faults", (*Server).adminSetFaults},
		{"DELETE faults", "remove all faults", (*Server).adminClearFaults},
		{"PUT webhook-faults", "disturb deliveries", (*Server).adminWebhookFaults},
		{"GET accounts", "the accounts", (*Server).adminAccounts},
		{"POST accounts", "add or replace an account", (*Server).adminAddAccount},
		{"POST accounts/lock", "the service locks an account", adminLock(true)},
		{"POST accounts/unlock", "the service unlocks an account", adminLock(false)},
		{"POST accounts/data", "give an account more data", (*Server).adminAddData},
		{"POST keys/trial", "make a trial key", (*Server).adminTrialKey},
		{"GET resources/{kind}", "list resources of a kind", (*Server).adminList},
		{"POST resources/{kind}/{id}/state", "set a state", (*Server).adminSetState},
		{"POST sessions/{id}/expire", "expire a session", (*Server).adminExpireSession},
		{"POST results/{id}/expire", "expire a result", (*Server).adminExpireResult},
		{"DELETE results/{id}/object", "remove a result's object", (*Server).adminRemoveObject},
		{"PUT results/{id}/object", "replace its bytes", (*Server).adminReplaceObject},
		{"POST events", "fire an event", (*Server).adminFire},
		{"POST events/{id}/resend", "send an event again", (*Server).adminResend},
		{"POST events/{id}/drop", "stop delivering an event", (*Server).adminDrop},
		{"GET clock", "the sandbox's time", (*Server).adminClock},
		{"POST clock/advance", "move the clock ahead", (*Server).adminAdvance},
		{"GET state", "dump the whole state", (*Server).adminDump},
		{"PUT state", "load a dump", (*Server).adminLoad},
	}
}

// newAdmin builds the admin API and the page.
func newAdmin(s *Server) http.Handler {
	mux := http.NewServeMux()
	index := []object{}
	for _, route := range adminRoutes() {
		method, path, _ := strings.Cut(route.on, " ")
		path = adminPath + "api/" + path
		index = append(index, object{"request": method + " " + path, "does": route.does})
		mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
			s.runAdmin(w, r, route.run)
		})
	}
	mux.HandleFunc("GET "+adminPath+"api/{$}", func(w http.ResponseWriter, _ *http.Request) {
		writeAdmin(w, http.StatusOK, index)
	})
	mux.HandleFunc("GET "+adminPath+"scenario.schema.json", servePageFile(
		"application/schema+json", ScenarioSchema()))
	mux.HandleFunc("GET "+adminPath+"health", s.health)
	mux.Handle("GET /_sandbox", http.RedirectHandler(adminPath, http.StatusMovedPermanently))
	addPage(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeAdmin(w, http.StatusNotFound, object{"error": "there is no " + r.Method + " " +
			r.URL.Path + "; GET " + adminPath + "api/ lists what there is"})
	})
	return mux
}

func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) { s.admin.ServeHTTP(w, r) }

// largestAdmin bounds the body of an admin request, which may be a dump.
const largestAdmin = 256 << 20

func (s *Server) runAdmin(w http.ResponseWriter, r *http.Request, run adminHandler) {
	request := &adminRequest{Request: r}
	var err error
	if r.Body != nil {
		request.body, err = readUpTo(r.Body, largestAdmin)
	}
	var out any
	if err == nil {
		out, err = run(s, request)
	}
	switch {
	case err != nil:
		message := strings.ReplaceAll(err.Error(), "ricloudtest: ", "")
		writeAdmin(w, http.StatusBadRequest, object{"error": message})
	case out == nil:
		writeAdmin(w, http.StatusOK, object{"ok": true})
	default:
		writeAdmin(w, http.StatusOK, out)
	}
}

// health answers monitors. It needs no token and is open to every machine.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	writeAdmin(w, http.StatusOK, object{"status": "ok", "version": ricloud.Version})
}

func (s *Server) adminStatus(*adminRequest) (any, error) {
	counts := object{}
	for _, kind := range adminKinds() {
		counts[kind] = s.countOf(kind)
	}
	accounts := []object{}
	for _, a := range s.Accounts() {
		accounts = append(accounts, describeAccount(a))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return object{
		"version": ricloud.Version, "generation": s.generation.String(),
		"url": s.urlLocked(), "storage_url": s.publicStorage(), "token": s.key.Token,
		"time": stamp(s.clock.Now()), "seed": s.seed, "counts": counts, "accounts": accounts,
		"operations": Operations(), "faults": len(s.faults),
	}, nil
}

// describeAccount shows an account without its contents. The passwords are the sandbox's own.
func describeAccount(a Account) object {
	return object{
		"service": a.service(), "identifier": a.Identifier, "password": a.Password,
		"code": a.Code, "locked": a.Locked, "deactivated": a.Deactivated,
		"data": keysOf(a.Data), "info": keysOf(a.Info), "files": keysOf(a.Files),
		"fail": a.Fail, "suspend": keysOf(a.Suspend), "children": len(a.Children),
	}
}

func keysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (s *Server) adminReset(r *adminRequest) (any, error) {
	in := struct {
		Seed uint64 `json:"seed"`
	}{Seed: 1}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	s.Reset(in.Seed)
	return object{"ok": true}, nil
}

func (s *Server) adminScenarios(*adminRequest) (any, error) {
	out := []object{}
	for _, scenario := range Scenarios() {
		out = append(out, object{"name": scenario.Name, "description": scenario.Description})
	}
	return out, nil
}

func (s *Server) adminPlay(r *adminRequest) (any, error) {
	var named map[string]json.RawMessage
	if err := json.Unmarshal(r.body, &named); err != nil {
		return nil, refuse(`the body: want {"name": "two-factor"}, or a whole scenario: %w`, err)
	}
	var name string
	var scenario Scenario
	var err error
	if len(named) == 1 && json.Unmarshal(named["name"], &name) == nil {
		scenario, err = NamedScenario(name)
	} else {
		scenario, err = ReadScenario(bytes.NewReader(r.body))
	}
	if err != nil {
		return nil, err
	}
	return nil, s.Play(scenario)
}

// adminCalls lists the journal, the oldest call first. "after" is the number of the last call that
// the client has seen.
func (s *Server) adminCalls(r *adminRequest) (any, error) {
	query := r.URL.Query()
	after, err := optionalNumber(query, "after", 0)
	if err != nil {
		return nil, err
	}
	limit, err := optionalNumber(query, "limit", 100)
	if err != nil {
		return nil, err
	}
	operation := query.Get("operation")
	if operation != "" && !slices.Contains(Operations(), operation) {
		return nil, refuse("operation: there is no %q", operation)
	}
	return s.journal.page(operation, after, limit, query.Has("after")), nil
}

func optionalNumber(query url.Values, name string, otherwise int) (int, error) {
	if !query.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < 0 {
		return 0, refuse("%s: want a number that is not negative", name)
	}
	return n, nil
}

func (s *Server) adminClearCalls(*adminRequest) (any, error) {
	s.ResetCalls()
	return object{"ok": true}, nil
}

func (s *Server) adminFaults(*adminRequest) (any, error) {
	return append([]Fault{}, s.Faults()...), nil
}

// readFaults reads one fault, or an array of them.
func (r *adminRequest) faults() ([]Fault, error) {
	var many []Fault
	if bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("[")) {
		err := r.read(&many)
		return many, err
	}
	var one Fault
	if err := r.read(&one); err != nil {
		return nil, err
	}
	return []Fault{one}, nil
}

func (s *Server) adminAddFaults(r *adminRequest) (any, error) {
	more, err := r.faults()
	if err != nil {
		return nil, err
	}
	return nil, s.SetFaults(append(s.Faults(), more...)...)
}

func (s *Server) adminSetFaults(r *adminRequest) (any, error) {
	faults, err := r.faults()
	if err != nil {
		return nil, err
	}
	return nil, s.SetFaults(faults...)
}

func (s *Server) adminClearFaults(*adminRequest) (any, error) { return nil, s.SetFaults() }

func (s *Server) adminWebhookFaults(r *adminRequest) (any, error) {
	var in webhookFaultsJSON
	if err := r.read(&in); err != nil {
		return nil, err
	}
	in.WebhookFaults.HoldBack = time.Duration(in.HoldBack)
	return nil, s.SetWebhookFaults(in.WebhookFaults)
}

func (s *Server) adminAccounts(*adminRequest) (any, error) {
	out := []object{}
	for _, a := range s.Accounts() {
		out = append(out, describeAccount(a))
	}
	return out, nil
}

func (s *Server) adminAddAccount(r *adminRequest) (any, error) {
	var a Account
	if err := r.read(&a); err != nil {
		return nil, err
	}
	return nil, s.AddAccount(a)
}

// accountRef names an account in the admin API.
type accountRef struct {
	Service    ricloud.SourceType `json:"service"`
	Identifier string             `json:"identifier"`
}

func (a accountRef) service() ricloud.SourceType {
	if a.Service == "" {
		return iCloudAccount
	}
	return a.Service
}

func adminLock(locked bool) adminHandler {
	return func(s *Server, r *adminRequest) (any, error) {
		var in accountRef
		if err := r.read(&in); err != nil {
			return nil, err
		}
		return nil, s.LockAccount(in.service(), in.Identifier, locked)
	}
}

// adminAddData merges contents and outcomes into an account.
func (s *Server) adminAddData(r *adminRequest) (any, error) {
	var more Account
	if err := r.read(&more); err != nil {
		return nil, err
	}
	ref := accountRef{more.Service, more.Identifier}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.known[accountName(string(ref.service()), ref.Identifier)]
	if old == nil {
		return nil, refuse("there is no %s account %q", ref.service(), ref.Identifier)
	}
	changed := old.Account
	changed.Info = merge(merge(nil, changed.Info), more.Info)
	changed.Data = merge(merge(nil, changed.Data), more.Data)
	changed.Files = merge(merge(nil, changed.Files), more.Files)
	changed.Fail = merge(merge(nil, changed.Fail), more.Fail)
	changed.Suspend = merge(merge(nil, changed.Suspend), more.Suspend)
	others := slices.DeleteFunc(slices.Clone(changed.Children), func(child Account) bool {
		return slices.ContainsFunc(more.Children, func(c Account) bool {
			return c.Identifier == child.Identifier
		})
	})
	changed.Children = slices.Concat(others, more.Children) // a child that is there is replaced
	if err := changed.check(); err != nil {
		return nil, err
	}
	s.addAccount(changed)
	return object{"ok": true}, nil
}

func (s *Server) adminTrialKey(r *adminRequest) (any, error) {
	in := struct {
		Lifetime duration `json:"lifetime"`
	}{duration(24 * time.Hour)}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	token, err := s.AddTrialKey(time.Duration(in.Lifetime))
	if err != nil {
		return nil, err
	}
	return object{"token": token.Reveal()}, nil
}

func (s *Server) adminSetState(r *adminRequest) (any, error) {
	var in struct {
		State string `json:"state"`
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	return nil, s.SetState(r.PathValue("kind"), ricloud.ID(r.PathValue("id")), in.State)
}

func (s *Server) adminExpireSession(r *adminRequest) (any, error) {
	in := struct {
		Cause string `json:"cause"`
	}{"service"}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	return nil, s.ExpireSession(ricloud.ID(r.PathValue("id")), in.Cause)
}

func (s *Server) adminExpireResult(r *adminRequest) (any, error) {
	return nil, s.ExpireResult(ricloud.ID(r.PathValue("id")))
}

func (s *Server) adminRemoveObject(r *adminRequest) (any, error) {
	return nil, s.RemoveObject(ricloud.ID(r.PathValue("id")))
}

func (s *Server) adminReplaceObject(r *adminRequest) (any, error) {
	return nil, s.ReplaceObject(ricloud.ID(r.PathValue("id")), bytes.NewReader(r.body))
}

func (s *Server) adminFire(r *adminRequest) (any, error) {
	var in struct {
		Type   string `json:"type"`
		Action string `json:"action"`
		Data   any    `json:"data"`
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	id, err := s.Deliver(in.Type, in.Action, in.Data)
	if err != nil {
		return nil, err
	}
	return object{"id": string(id)}, nil
}

func (s *Server) adminResend(r *adminRequest) (any, error) {
	return nil, s.ResendEvent(ricloud.ID(r.PathValue("id")))
}

func (s *Server) adminDrop(r *adminRequest) (any, error) {
	return nil, s.DropEvent(ricloud.ID(r.PathValue("id")))
}

func (s *Server) adminClock(*adminRequest) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return object{
		"time":    stamp(s.clock.Now()),
		"ahead":   s.clock.Offset().Round(time.Millisecond).String(),
		"planned": len(s.clock.Jobs()),
	}, nil
}

func (s *Server) adminAdvance(r *adminRequest) (any, error) {
	var in struct {
		By duration `json:"by"`
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	by := time.Duration(in.By)
	if by <= 0 || by > longestAdvance {
		return nil, refuse("by: want a duration such as \"1h\", of a year at most")
	}
	s.Advance(by)
	return s.adminClock(r)
}

func (s *Server) adminDump(*adminRequest) (any, error) {
	var out bytes.Buffer
	if err := s.Dump(&out); err != nil {
		return nil, err
	}
	return json.RawMessage(out.Bytes()), nil
}

func (s *Server) adminLoad(r *adminRequest) (any, error) {
	return nil, s.Load(bytes.NewReader(r.body))
}

// adminKinds are the kinds of resources that the admin API lists.
func adminKinds() []string {
	return []string{
		"event", "key", "permissions", "poll", "result", "session", "source", "storage_config",
		"subscription", "task", "user", "webhook_config",
	}
}

func (s *Server) countOf(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.resources(kind, 0))
}

// adminList lists resources as today's API writes them, the newest first, with secrets masked.
func (s *Server) adminList(r *adminRequest) (any, error) {
	kind := r.PathValue("kind")
	limit, err := optionalNumber(r.URL.Query(), "limit", 100)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == "organisation" {
		return maskObject(view{server: s, origin: s.publicStorage()}.organisation(s.org)), nil
	}
	if !slices.Contains(adminKinds(), kind) {
		return nil, refuse("there is no kind of resource %q; there are organisation, %s", kind,
			strings.Join(adminKinds(), ", "))
	}
	items := s.resources(kind, limit)
	out := make([]any, 0, len(items))
	for _, write := range items {
		out = append(out, maskObject(write()))
	}
	return object{"data": out, "total_count": len(s.resources(kind, 0))}, nil
}

// resources returns the newest resources of a kind, as functions that write them. A limit of 0 is
// no limit.
func (s *Server) resources(kind string, limit int) []func() object {
	v := view{server: s, origin: s.publicStorage()}
	switch kind {
	case "event":
		return newest(s.events, limit, v, view.event)
	case "key":
		return newest(s.keys, limit, v, view.key)
	case "permissions":
		return newest(s.permissions, limit, v, view.permission)
	case "poll":
		return newest(s.polls, limit, v, view.poll)
	case "result":
		return newest(s.results, limit, v, view.result)
	case "session":
		return newest(s.sessions, limit, v, view.session)
	case "source":
		return newest(s.sources, limit, v, view.source)
	case "storage_config":
		return newest(s.storages, limit, v, view.storageConfig)
	case "subscription":
		return newest(s.subscriptions, limit, v, view.subscription)
	case "task":
		return newest(s.tasks, limit, v, view.task)
	case "user":
		return newest(s.users, limit, v, view.user)
	case "webhook_config":
		return newest(s.webhooks, limit, v, view.webhookConfig)
	}
	return nil
}

func newest[T collection.Entity](
	items *collection.Collection[T], limit int, v view, write func(view, T) object,
) []func() object {
	all := items.All()
	if limit > 0 && len(all) > limit {
		all = all[len(all)-limit:]
	}
	out := make([]func() object, 0, len(all))
	for _, item := range slices.Backward(all) {
		out = append(out, func() object { return write(v, item) })
	}
	return out
}
