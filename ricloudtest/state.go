package ricloudtest

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// The states the contract names. A resource uses those of its own machine.
const (
	statePending     = "pending"
	stateProcessing  = "processing"
	stateSuspended   = "suspended"
	stateSucceeded   = "succeeded"
	stateCompleted   = "completed"
	stateFailed      = "failed"
	stateActive      = "active"
	stateExpired     = "expired"
	stateDeleted     = "deleted"
	stateDeactivated = "deactivated"
	stateLocked      = "locked"
	stateUnvalidated = "unvalidated"
	stateNew         = "new"
	stateValid       = "valid"
	stateInvalid     = "invalid"
	stateAvailable   = "available"
	stateConsumed    = "consumed"
	stateDelivered   = "delivered"
)

type organisation struct {
	head
	name, slug     string
	publishFiles   bool
	storageDefault *storageConfig
	webhookDefault *webhookConfig
	deactivated    bool
	base           *permission
}

type key struct {
	head
	token        string
	state        string
	storage      *storageConfig
	webhook      *webhookConfig
	permission   *permission
	publishFiles *bool
	expires      time.Time
}

type permission struct {
	head
	scopes Scopes
}

type user struct {
	head
	key        *key
	identifier string
	state      string
}

type source struct {
	head
	user       *user
	kind       string
	identifier string
	info       any
	parent     *source
	children   []*source
	state      string
	account    *account // nil: the service knows no such account
}

type session struct {
	head
	key     *key
	source  *source
	state   string
	err     string
	expired time.Time
	ended   signal // closed when it is no longer pending
	open    int    // its polls that have not completed
}

type poll struct {
	head
	key          *key
	session      *session
	source       *source
	subscription *subscription
	automatic    bool
	kind         string // the oldest generation's "data" or "files"
	tasks        []*task
	open         int // tasks that have not ended
	state        string
	started      time.Time
	completed    time.Time
}

type task struct {
	head
	key       *key
	session   *session
	poll      *poll
	kind      string
	target    string
	state     string
	err       string
	results   []*result
	started   time.Time
	completed time.Time
	ended     signal
}

type result struct {
	head
	task       *task
	identifier string
	kind       string
	url        string
	object     *stored // nil where the bytes are not the sandbox's to serve
	signed     time.Time
	checksum   string
	size       int64
	state      string
	consumed   time.Time
	deleted    time.Time
}

type subscription struct {
	head
	key        *key
	session    *session
	source     *source
	payload    object
	interval   time.Duration
	start, end time.Time
	state      string
}

type event struct {
	head
	kind, action string
	data         []byte
	state        string
	retries      int
	delivered    time.Time
}

type storageConfig struct {
	head
	url         string
	credentials object
	signed      bool
	signedFor   time.Duration
	state       string
}

type webhookConfig struct {
	head
	url, secret string
	state       string
}

// signal tells waiters that something ended. The zero value is ready.
type signal struct {
	ch   chan struct{}
	done bool
}

func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
		if s.done {
			close(s.ch)
		}
	}
	return s.ch
}

func (s *signal) end() {
	if s.done {
		return
	}
	s.done = true
	if s.ch != nil {
		close(s.ch)
	}
}

// state is everything the sandbox remembers. The server's mutex guards it.
type state struct {
	org           *organisation
	key           *key // the one NewServer made
	tokens        map[string]*key
	keys          *collection[*key]
	permissions   *collection[*permission]
	users         *collection[*user]
	sources       *collection[*source]
	sessions      *collection[*session]
	polls         *collection[*poll]
	tasks         *collection[*task]
	results       *collection[*result]
	subscriptions *collection[*subscription]
	events        *collection[*event]
	storages      *collection[*storageConfig]
	webhooks      *collection[*webhookConfig]

	known   map[string]*account // by service and identifier
	counts  map[string]int      // what limits have counted
	numbers map[string]int      // the last numeric ID of each kind
}

func newState() state {
	keyOf := func(k *key) string { return k.id }
	results := newCollection("result", map[string]filter[*result]{
		"task":  {func(r *result) string { return r.task.id }, true},
		"poll":  {func(r *result) string { return idOf(r.task.poll) }, true},
		"state": {value: func(r *result) string { return r.state }},
		"type":  {value: func(r *result) string { return r.kind }},
	})
	results.hidden = func(r *result) bool { return r.state != stateAvailable }
	return state{
		tokens: map[string]*key{}, known: map[string]*account{}, counts: map[string]int{}, numbers: map[string]int{},
		keys:        newCollection("key", map[string]filter[*key]{"state": {value: func(k *key) string { return k.state }}}),
		permissions: newCollection("permission", map[string]filter[*permission]{}),
		users: newCollection("user", map[string]filter[*user]{
			"identifier": {func(u *user) string { return u.identifier }, true},
			"state":      {value: func(u *user) string { return u.state }},
			"key":        {value: func(u *user) string { return keyOf(u.key) }},
		}),
		sources: newCollection("source", map[string]filter[*source]{
			"user":       {func(x *source) string { return x.user.id }, true},
			"identifier": {func(x *source) string { return x.identifier }, false},
			"login":      {func(x *source) string { return sourceLogin(x.user.id, x.kind, x.identifier) }, true},
			"parent":     {func(x *source) string { return idOf(x.parent) }, true},
			"type":       {value: func(x *source) string { return x.kind }},
			"state":      {value: func(x *source) string { return x.state }},
		}),
		sessions: newCollection("session", map[string]filter[*session]{
			"source": {func(x *session) string { return x.source.id }, true},
			"user":   {func(x *session) string { return x.source.user.id }, true},
			"state":  {value: func(x *session) string { return x.state }},
			"key":    {value: func(x *session) string { return keyOf(x.key) }},
		}),
		polls: newCollection("poll", map[string]filter[*poll]{
			"session":      {func(p *poll) string { return p.session.id }, true},
			"source":       {func(p *poll) string { return p.source.id }, true},
			"subscription": {func(p *poll) string { return idOf(p.subscription) }, true},
			"requestor":    {requestor, true},
			"user":         {value: func(p *poll) string { return p.source.user.id }},
			"state":        {value: func(p *poll) string { return p.state }},
			"key":          {value: func(p *poll) string { return keyOf(p.key) }},
		}),
		tasks: newCollection("task", map[string]filter[*task]{
			"poll":        {func(t *task) string { return idOf(t.poll) }, true},
			"session":     {func(t *task) string { return idOf(t.session) }, true},
			"source":      {value: func(t *task) string { return idOf(t.source()) }},
			"source_type": {value: func(t *task) string { return t.sourceType() }},
			"type":        {value: func(t *task) string { return t.kind }},
			"target":      {value: func(t *task) string { return t.target }},
			"state":       {value: func(t *task) string { return t.state }},
		}),
		results: results,
		subscriptions: newCollection("subscription", map[string]filter[*subscription]{
			"session": {func(x *subscription) string { return x.session.id }, true},
			"source":  {func(x *subscription) string { return x.source.id }, true},
			"state":   {value: func(x *subscription) string { return x.state }},
		}),
		events: newCollection("event", map[string]filter[*event]{
			"type":   {func(e *event) string { return e.kind }, true},
			"action": {value: func(e *event) string { return e.action }},
			"state":  {value: func(e *event) string { return e.state }},
		}),
		storages: newCollection("storage config", map[string]filter[*storageConfig]{"state": {value: func(x *storageConfig) string { return x.state }}}),
		webhooks: newCollection("webhook config", map[string]filter[*webhookConfig]{"state": {value: func(x *webhookConfig) string { return x.state }}}),
	}
}

func requestor(p *poll) string {
	if p.automatic {
		return "subscription"
	}
	return "key"
}

func sourceLogin(user, kind, identifier string) string {
	return fmt.Sprintf("%s\x00%s\x00%s", user, kind, identifier)
}

// idOf is the ID of a resource, empty for none.
func idOf[T entity](item T) string {
	var none T
	if item == none {
		return ""
	}
	return item.meta().id
}

func (t *task) source() *source {
	switch {
	case t.poll != nil:
		return t.poll.source
	case t.session != nil:
		return t.session.source
	}
	return nil
}

func (t *task) sourceType() string {
	if from := t.source(); from != nil {
		return from.kind
	}
	return ""
}

// numbered and unique make a new resource's head: the kinds whose IDs look
// like numbers in the contract, and those with UUIDs.
func (s *Server) numbered(kind string) head {
	s.numbers[kind]++
	return head{id: strconv.Itoa(s.numbers[kind]), created: s.clock.now()}
}

func (s *Server) unique() head {
	var b [16]byte
	s.fill(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return head{id: fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), created: s.clock.now()}
}

// newSecret is an unguessable-looking secret, the same for the same seed.
func (s *Server) newSecret(prefix string) string {
	var b [20]byte
	s.fill(b[:])
	return prefix + hex.EncodeToString(b[:])
}

func (s *Server) fill(b []byte) {
	for i := range b {
		b[i] = byte(s.random.UintN(256)) //nolint:gosec // it fits
	}
}
