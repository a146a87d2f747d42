package ricloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

// Load replaces the state of the server with a dump. Work that was under way when the dump was
// written starts again. Options of NewServer that are not part of the state, such as delays and
// receivers, stay as they are.
func (s *Server) Load(r io.Reader) error {
	if r == nil {
		return refuse("load: the reader is nil")
	}
	var d dump
	decoder := json.NewDecoder(r)
	//nolint:musttag // resources are written under their Go names
	if err := decoder.Decode(&d); err != nil {
		return fmt.Errorf("ricloudtest: load: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return refuse("load: there is more text after the dump")
	}
	if d.Version != dumpVersion || d.Organisation == nil {
		return refuse("load: want a dump of version %d, got version %d", dumpVersion, d.Version)
	}
	if len(d.Tokens) == 0 {
		return refuse("load: the dump has no token, so that no client could call")
	}
	if d.hasHoles() {
		return refuse("load: the dump has null in the place of a resource")
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

// hasHoles reports whether a resource of the dump is null.
func (d *dump) hasHoles() bool {
	return slices.Contains(d.Keys, nil) || slices.Contains(d.Permissions, nil) ||
		slices.Contains(d.Users, nil) || slices.Contains(d.Sources, nil) ||
		slices.Contains(d.Sessions, nil) || slices.Contains(d.Polls, nil) ||
		slices.Contains(d.Tasks, nil) || slices.Contains(d.Results, nil) ||
		slices.Contains(d.Subscriptions, nil) || slices.Contains(d.Events, nil) ||
		slices.Contains(d.Storages, nil) || slices.Contains(d.Webhooks, nil) ||
		slices.ContainsFunc(d.Polls, func(p *pollFields) bool { return slices.Contains(p.Tasks, nil) }) ||
		slices.ContainsFunc(d.Tasks, func(t *taskFields) bool { return slices.Contains(t.Results, nil) })
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
	s.counts, s.numbers, s.faultMatches = nonNil(d.Counts), nonNil(d.Numbers), d.FaultMatches
	if s.faultMatches == nil {
		s.faultMatches = map[int]int{}
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

// WithState starts the server from a dump, see Server.Dump.
func WithState(dump []byte) Option { return func(c *config) { c.dump = bytes.Clone(dump) } }
