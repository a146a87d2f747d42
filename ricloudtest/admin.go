package ricloudtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/jsonerror"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// adminPath is where the sandbox's own API and page are, beside the ricloud API.
const adminPath = "/_sandbox/"

// isAdmin reports whether a request is for the sandbox itself.
func isAdmin(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, adminPath) || r.URL.Path == "/_sandbox"
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
		return refuse("the body: %w", jsonerror.InWords(err))
	}
	return nil
}

// adminRoute is one endpoint of the admin API.
type adminRoute struct {
	on, does string
	run      adminHandler
}

// checkQuery refuses parameters that the endpoint does not have.
func (a adminRoute) checkQuery(query url.Values) error {
	known := map[string][]string{
		"GET calls": {"after", "limit", "operation"}, "GET resources/{kind}": {"limit"},
	}[a.on]
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, name) {
			return refuse("there is no parameter %q", name)
		}
	}
	return nil
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
			s.runAdmin(w, r, route)
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

// largestAdmin bounds the body of an admin request, which may be a dump.
const largestAdmin = 256 << 20

func (s *Server) runAdmin(w http.ResponseWriter, r *http.Request, route adminRoute) {
	request := &adminRequest{Request: r}
	err := route.checkQuery(r.URL.Query())
	if err == nil && r.Body != nil {
		request.body, err = readUpTo(r.Body, largestAdmin)
	}
	var out any
	if err == nil {
		out, err = route.run(s, request)
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

// faults reads one fault, or an array of them.
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
