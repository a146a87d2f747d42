package ricloudtest

import (
	"bytes"
	"slices"
	"strings"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

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
		return newMasker().object(view{server: s, origin: s.publicStorage()}.organisation(s.org)), nil
	}
	if !slices.Contains(adminKinds(), kind) {
		return nil, refuse("there is no kind of resource %q; there are organisation, %s", kind,
			strings.Join(adminKinds(), ", "))
	}
	items := s.resources(kind, limit)
	out, mask := make([]any, 0, len(items)), newMasker()
	for _, write := range items {
		out = append(out, mask.object(write()))
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
