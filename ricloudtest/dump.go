package ricloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/clock"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

// dumpVersion is the format of a dump. A sandbox reads dumps of its own version only.
const dumpVersion = 1

// dump is the state of a server in a file. References between resources are IDs.
type dump struct {
	Version int           `json:"version"`
	Ahead   time.Duration `json:"ahead"` // of the real time
	Random  []byte        `json:"random"`

	Organisation  *organisationFields   `json:"organisation"`
	Key           string                `json:"key"`
	Tokens        map[string]string     `json:"tokens"`
	Keys          []*keyFields          `json:"keys"`
	Permissions   []*permissionFields   `json:"permissions"`
	Users         []*userFields         `json:"users"`
	Sources       []*sourceFields       `json:"sources"`
	Sessions      []*sessionFields      `json:"sessions"`
	Polls         []*pollFields         `json:"polls"`
	Tasks         []*taskFields         `json:"tasks"`
	Results       []*resultFields       `json:"results"`
	Subscriptions []*subscriptionFields `json:"subscriptions"`
	Events        []*event              `json:"events"`
	Storages      []*storageFields      `json:"storage_configs"`
	Webhooks      []*webhookFields      `json:"webhook_configs"`
	Accounts      []Account             `json:"accounts"`
	Objects       map[string]storedJSON `json:"objects"`
	Contents      map[string]string     `json:"contents"` // base64, by MD5
	Counts        map[string]int        `json:"counts"`
	Numbers       map[string]int        `json:"numbers"`
	Storing       []byte                `json:"storing"`
	Faults        []Fault               `json:"faults"`
	Struck        map[int]int           `json:"struck"`
	Jobs          []clock.Job[job]      `json:"jobs"`
	Generation    Generation            `json:"generation"`
}

type storedJSON struct {
	Kind    string    `json:"kind"`
	Content string    `json:"content"`
	ETag    string    `json:"etag"`
	Created time.Time `json:"created"`
}

// Each of these types is a resource without its methods, so that JSON writes its fields; a pointer
// to a resource, which keeps its methods, is written as an ID.
type (
	organisationFields organisation
	keyFields          key
	permissionFields   permission
	userFields         user
	sourceFields       source
	sessionFields      session
	pollFields         poll
	taskFields         task
	resultFields       result
	subscriptionFields subscription
	storageFields      storageConfig
	webhookFields      webhookConfig
)

func writeID[T collection.Entity](item T) ([]byte, error) { return json.Marshal(idOf(item)) }

// MarshalJSON writes a reference to the key.
func (k *key) MarshalJSON() ([]byte, error) { return writeID(k) }

// MarshalJSON writes a reference to the permission.
func (p *permission) MarshalJSON() ([]byte, error) { return writeID(p) }

// MarshalJSON writes a reference to the user.
func (u *user) MarshalJSON() ([]byte, error) { return writeID(u) }

// MarshalJSON writes a reference to the source.
func (x *source) MarshalJSON() ([]byte, error) { return writeID(x) }

// MarshalJSON writes a reference to the session.
func (x *session) MarshalJSON() ([]byte, error) { return writeID(x) }

// MarshalJSON writes a reference to the poll.
func (p *poll) MarshalJSON() ([]byte, error) { return writeID(p) }

// MarshalJSON writes a reference to the task.
func (t *task) MarshalJSON() ([]byte, error) { return writeID(t) }

// MarshalJSON writes a reference to the result.
func (r *result) MarshalJSON() ([]byte, error) { return writeID(r) }

// MarshalJSON writes a reference to the subscription.
func (x *subscription) MarshalJSON() ([]byte, error) { return writeID(x) }

// MarshalJSON writes a reference to the config.
func (x *storageConfig) MarshalJSON() ([]byte, error) { return writeID(x) }

// MarshalJSON writes a reference to the config.
func (x *webhookConfig) MarshalJSON() ([]byte, error) { return writeID(x) }

// MarshalJSON writes a reference to the account.
func (a *account) MarshalJSON() ([]byte, error) { return json.Marshal(a.name) }

// UnmarshalJSON reads a reference, which relink resolves.
func (k *key) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &k.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (p *permission) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &p.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (u *user) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &u.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (x *source) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &x.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (x *session) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &x.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (p *poll) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &p.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (t *task) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &t.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (r *result) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &r.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (x *subscription) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &x.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (x *storageConfig) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &x.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (x *webhookConfig) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &x.ID) }

// UnmarshalJSON reads a reference, which relink resolves.
func (a *account) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &a.name) }

// each converts resources, between those with methods and those without.
func each[From, To any](items []From, convert func(From) To) []To {
	out := make([]To, len(items))
	for i, item := range items {
		out[i] = convert(item)
	}
	return out
}

// Dump writes the whole state of the server as JSON: resources, accounts, stored objects, faults,
// the clock and what is planned. The dump holds tokens, secrets and passwords in the clear. An
// account's content or an object of more than 8 MiB cannot be dumped.
func (s *Server) Dump(w io.Writer) error {
	s.mu.Lock()
	d, err := s.dump()
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ricloudtest: dump: %w", err)
	}
	raw, err := json.MarshalIndent(d, "", " ")
	if err == nil {
		_, err = w.Write(append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("ricloudtest: dump: %w", err)
	}
	return nil
}

// dump copies the state. Marshalling here, under the lock, keeps it consistent.
func (s *Server) dump() (json.RawMessage, error) {
	random, err := s.pcg.MarshalBinary()
	if err != nil {
		return nil, err
	}
	d := dump{
		Version: dumpVersion, Ahead: s.clock.Offset(), Random: random,
		Organisation: (*organisationFields)(s.org), Key: s.key.ID, Tokens: map[string]string{},
		Keys: each(s.keys.All(), func(k *key) *keyFields { return (*keyFields)(k) }),
		Permissions: each(s.permissions.All(), func(p *permission) *permissionFields {
			return (*permissionFields)(p)
		}),
		Users: each(s.users.All(), func(u *user) *userFields { return (*userFields)(u) }),
		Sources: each(s.sources.All(), func(x *source) *sourceFields {
			return (*sourceFields)(x)
		}),
		Sessions: each(s.sessions.All(), func(x *session) *sessionFields {
			return (*sessionFields)(x)
		}),
		Polls: each(s.polls.All(), func(p *poll) *pollFields { return (*pollFields)(p) }),
		Tasks: each(s.tasks.All(), func(t *task) *taskFields { return (*taskFields)(t) }),
		Results: each(s.results.All(), func(r *result) *resultFields {
			return (*resultFields)(r)
		}),
		Subscriptions: each(s.subscriptions.All(), func(x *subscription) *subscriptionFields {
			return (*subscriptionFields)(x)
		}),
		Events: s.events.All(),
		Storages: each(s.storages.All(), func(x *storageConfig) *storageFields {
			return (*storageFields)(x)
		}),
		Webhooks: each(s.webhooks.All(), func(x *webhookConfig) *webhookFields {
			return (*webhookFields)(x)
		}),
		Objects: map[string]storedJSON{}, Contents: map[string]string{}, Counts: s.counts,
		Numbers: s.numbers, Storing: s.storing, Faults: s.faults, Struck: s.struck,
		Jobs: s.clock.Jobs(), Generation: s.generation,
	}
	for token, k := range s.tokens {
		d.Tokens[token] = k.ID
	}
	for _, name := range s.order {
		d.Accounts = append(d.Accounts, s.known[name].Account)
	}
	for path, o := range s.objects {
		sum, err := o.content.sum()
		if err != nil {
			return nil, err
		}
		if _, ok := d.Contents[sum]; !ok {
			if d.Contents[sum], err = encodeBytes(o.content); err != nil {
				return nil, err
			}
		}
		d.Objects[path] = storedJSON{o.kind, sum, o.etag, o.created}
	}
	return json.Marshal(d) //nolint:musttag // resources are written under their Go names
}

// Load replaces the state of the server with a dump. Work that was under way when the dump was
// written starts again. Options of NewServer that are not part of the state, such as delays and
// receivers, stay as they are.
func (s *Server) Load(r io.Reader) error {
	var d dump
	decoder := json.NewDecoder(r)
	//nolint:musttag // resources are written under their Go names
	if err := decoder.Decode(&d); err != nil {
		return fmt.Errorf("ricloudtest: load: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return refuse("load: there is more text behind the dump")
	}
	if d.Version != dumpVersion || d.Organisation == nil {
		return refuse("load: want a dump of version %d, got version %d", dumpVersion, d.Version)
	}
	if len(d.Tokens) == 0 {
		return refuse("load: the dump has no token, so that no client could call")
	}
	for _, a := range d.Accounts {
		if err := a.check(); err != nil {
			return err
		}
	}
	for _, f := range d.Faults {
		if err := f.check(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refuse("load: the server is closed")
	}
	fresh := s.newState(0)
	if err := fresh.pcg.UnmarshalBinary(d.Random); err != nil {
		return fmt.Errorf("ricloudtest: load: %w", err)
	}
	previous := s.state
	s.state = fresh
	if err := s.restore(&d); err != nil {
		s.clock.Close()
		s.state = previous
		return fmt.Errorf("ricloudtest: load: %w", err)
	}
	previous.clock.Close()
	s.epoch++
	s.faults, s.generation = d.Faults, d.Generation
	s.clock.Restore(d.Ahead, d.Jobs)
	s.restart()
	return nil
}

// restore fills an empty state from a dump.
func (s *Server) restore(d *dump) error {
	for _, a := range d.Accounts {
		s.addAccount(a)
	}
	for path, o := range d.Objects {
		content, err := decodeBytes(d.Contents[o.Content])
		if err != nil {
			return err
		}
		s.objects[path] = &stored{path, o.Kind, newBlob(content), o.ETag, o.Created}
	}
	s.org = (*organisation)(d.Organisation)
	addAll(s.keys, d.Keys, func(k *keyFields) *key { return (*key)(k) })
	addAll(s.permissions, d.Permissions, func(p *permissionFields) *permission {
		return (*permission)(p)
	})
	addAll(s.storages, d.Storages, func(x *storageFields) *storageConfig {
		return (*storageConfig)(x)
	})
	addAll(s.webhooks, d.Webhooks, func(x *webhookFields) *webhookConfig {
		return (*webhookConfig)(x)
	})
	addAll(s.events, d.Events, func(e *event) *event { return e })
	if err := s.relink(d); err != nil {
		return err
	}
	s.storing = d.Storing
	s.counts, s.numbers, s.struck = nonNil(d.Counts), nonNil(d.Numbers), d.Struck
	if s.struck == nil {
		s.struck = map[int]int{}
	}
	for token, id := range d.Tokens {
		k, ok := s.keys.Lookup(id)
		if !ok {
			return refuse("a token names the key %q, which is not there", id)
		}
		s.tokens[token] = k
	}
	var ok bool
	if s.key, ok = s.keys.Lookup(d.Key); !ok {
		return refuse("the key %q is not there", d.Key)
	}
	return nil
}

func nonNil(m map[string]int) map[string]int {
	if m == nil {
		return map[string]int{}
	}
	return m
}

func addAll[F any, T collection.Entity](
	to *collection.Collection[T], items []F, convert func(F) T,
) {
	for _, item := range items {
		to.Restore(convert(item))
	}
}

// linker resolves references to resources, and notes those that lead nowhere.
type linker struct{ missing []string }

func (l *linker) failed() bool { return len(l.missing) > 0 }

// need is link for a reference that a resource cannot be without.
func need[T collection.Entity](l *linker, in *collection.Collection[T], ref *T) {
	var none T
	if link(l, in, ref); *ref == none && !l.failed() {
		l.missing = append(l.missing, "a "+in.Name)
	}
}

func link[T collection.Entity](l *linker, in *collection.Collection[T], ref *T) {
	id := idOf(*ref)
	found, ok := in.Lookup(id)
	if !ok && id != "" {
		l.missing = append(l.missing, in.Name+" "+id)
	}
	*ref = found
}

// relink adds the resources that refer to others, each kind after those that it refers to.
func (s *Server) relink(d *dump) error {
	l := &linker{}
	need(l, s.permissions, &s.org.Base)
	link(l, s.storages, &s.org.StorageDefault)
	link(l, s.webhooks, &s.org.WebhookDefault)
	for _, k := range s.keys.All() {
		link(l, s.permissions, &k.Permission)
		link(l, s.storages, &k.Storage)
		link(l, s.webhooks, &k.Webhook)
	}
	for _, u := range d.Users {
		if need(l, s.keys, &u.Key); l.failed() {
			break
		}
		s.users.Restore((*user)(u))
	}
	for _, x := range d.Sources {
		need(l, s.users, &x.User)
		link(l, s.sources, &x.Parent)
		if l.failed() {
			break
		}
		if x.Account != nil {
			x.Account = s.accountNamed(x.Account.name)
		}
		s.sources.Restore((*source)(x))
		if x.Parent != nil {
			x.Parent.Children = append(x.Parent.Children, (*source)(x))
		}
	}
	for _, x := range d.Sessions {
		need(l, s.keys, &x.Key)
		if need(l, s.sources, &x.Source); l.failed() {
			break
		}
		x.ended.done = x.State != statePending
		s.sessions.Restore((*session)(x))
	}
	for _, x := range d.Subscriptions {
		need(l, s.keys, &x.Key)
		need(l, s.sessions, &x.Session)
		if need(l, s.sources, &x.Source); l.failed() {
			break
		}
		s.subscriptions.Restore((*subscription)(x))
	}
	if !l.failed() {
		s.relinkPolls(l, d)
	}
	if l.failed() {
		return refuse("these are referred to but not there: %s", strings.Join(l.missing, ", "))
	}
	return nil
}

// relinkPolls adds polls, tasks and results, which refer to each other.
func (s *Server) relinkPolls(l *linker, d *dump) {
	tasks := map[string]*task{}
	for _, t := range d.Tasks {
		tasks[t.ID] = (*task)(t)
	}
	results := map[string]*result{}
	for _, r := range d.Results {
		results[r.ID] = (*result)(r)
	}
	for _, p := range d.Polls {
		need(l, s.keys, &p.Key)
		need(l, s.sessions, &p.Session)
		need(l, s.sources, &p.Source)
		if link(l, s.subscriptions, &p.Subscription); l.failed() {
			return
		}
		for i, t := range p.Tasks {
			p.Tasks[i] = tasks[t.ID]
		}
		p.Tasks = slices.DeleteFunc(p.Tasks, func(t *task) bool { return t == nil })
		for _, t := range p.Tasks {
			if t.State != stateSucceeded && t.State != stateFailed {
				p.open++
			}
		}
		if p.State != stateCompleted && p.State != stateFailed {
			p.Session.open++
		}
		s.polls.Restore((*poll)(p))
	}
	for _, t := range d.Tasks {
		need(l, s.keys, &t.Key)
		link(l, s.sessions, &t.Session)
		if link(l, s.polls, &t.Poll); l.failed() {
			return
		}
		t.ended.done = t.State == stateSucceeded || t.State == stateFailed
		for i, r := range t.Results {
			t.Results[i] = results[r.ID]
		}
		t.Results = slices.DeleteFunc(t.Results, func(r *result) bool { return r == nil })
		s.tasks.Restore((*task)(t))
	}
	for _, r := range d.Results {
		if need(l, s.tasks, &r.Task); l.failed() {
			return
		}
		s.results.Restore((*result)(r))
	}
}

// accountNamed finds an account, or a child of one, by name.
func (s *Server) accountNamed(name string) *account {
	if a := s.known[name]; a != nil {
		return a
	}
	parent, _, _ := strings.Cut(name, " / ")
	if a := s.known[parent]; a != nil {
		for _, kid := range a.kids {
			if kid.name == name {
				return kid
			}
		}
	}
	return nil
}

// restart plans the work that was under way, and so not planned, when a dump was written.
func (s *Server) restart() {
	planned := map[string]bool{}
	for _, j := range s.clock.Jobs() {
		planned[j.Work.ID] = true
		planned[j.Work.Other] = planned[j.Work.Other] || j.Work.Do == settleSession
	}
	for _, t := range s.tasks.All() {
		if planned[t.ID] || t.ended.done || t.State == statePending {
			continue
		}
		switch {
		case t.Poll != nil:
			t.State = stateProcessing
			s.after(0, job{Do: endTask, ID: t.ID})
		case t.Kind == "storage_config.test":
			s.after(0, job{Do: testStorage, ID: t.ID})
		case t.Kind == "webhook_config.test":
			s.after(0, job{Do: testWebhook, ID: t.ID})
		}
	}
	for _, e := range s.events.All() {
		if e.State != statePending || e.Unsent || planned[e.ID] {
			continue
		}
		for _, to := range s.validWebhooks() {
			s.after(0, job{Do: deliverEvent, ID: e.ID, Other: to.ID})
		}
	}
}

// Reset returns the server to what NewServer made, with another seed. Work under way is forgotten,
// and so are the journal, the clock's advance, and what a scenario or SetFaults changed.
func (s *Server) Reset(seed uint64) {
	s.ResetCalls()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.reset(seed)
}

func (s *Server) reset(seed uint64) {
	s.clock.Close()
	for _, x := range s.sessions.All() {
		x.ended.end() // end the waits for it
	}
	for _, t := range s.tasks.All() {
		t.ended.end()
	}
	s.epoch++
	s.settings = s.initial
	s.seed = seed
	s.state = s.newState(seed)
	s.populate()
}

// WithState starts the server from a dump, see Server.Dump.
func WithState(dump []byte) Option { return func(c *config) { c.dump = bytes.Clone(dump) } }
