package ricloudtest

import (
	"encoding/json"
	"fmt"
	"io"
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
	FaultMatches  map[int]int           `json:"fault_matches"`
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
	if w == nil {
		return refuse("dump: the writer is nil")
	}
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
		Numbers: s.numbers, Storing: s.storing, Faults: s.faults, FaultMatches: s.faultMatches,
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
