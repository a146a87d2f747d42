package ricloudtest

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Generation is how the API spells its answers.
type Generation uint8

// The generations. GenerationMixed draws one for each answer, with list
// cursors now inclusive and now exclusive: a client that lives with it lives
// with every version of the API.
const (
	GenerationCurrent Generation = iota // about 2020: list objects, nested sources, signed URLs, errors, config
	Generation2018                      // the getting-started guide: arrays, numeric IDs, tasks_completed
	GenerationMixed
)

// view renders resources in one generation, for clients that reach the storage
// at origin. It shares nothing with the SDK's own types, on purpose.
type view struct {
	server *Server
	old    bool // Generation2018
	origin string
	broken bool // total_count is 0, as the documentation once shows
}

func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// number is an ID that old answers write as a number.
func (v view) number(id string) any {
	if n, err := strconv.Atoi(id); v.old && err == nil {
		return n
	}
	return id
}

// optional is a value, or null instead of an empty one.
func optional[T comparable](value T) any {
	var zero T
	if value == zero {
		return nil
	}
	return value
}

// nested is a list inside a resource: an array in old answers, the first page
// of a list object in new ones.
func nested[T any](v view, items []T, path string, render func(view, T) object) any {
	const shown = 10
	data := make([]object, 0, min(len(items), shown))
	for i := len(items) - 1; i >= 0 && (v.old || len(data) < shown); i-- { // newest first, as in lists
		data = append(data, render(v, items[i]))
	}
	if v.old {
		return data
	}
	return v.list(data, len(items) > len(data), len(items), path)
}

func (v view) list(data []object, more bool, total int, path string) object {
	if v.broken {
		total = 0
	}
	list := object{"resource": "list", "data": data, "has_more": more, "total_count": total, "url": path}
	if v.old {
		delete(list, "resource")
	}
	return list
}

func (v view) organisation(o *organisation) object {
	state := stateActive
	switch {
	case o.deactivated:
		state = stateDeactivated
	case !v.server.configured():
		state = "unconfigured"
	}
	out := object{
		"id": v.number(o.id), "resource": "organisation", "name": o.name, "slug": o.slug,
		"permissions":            v.basePermission(o.base),
		"storage_configs":        nested(v, v.server.storages.all, "/configs/storage", view.storageConfig),
		"storage_config_default": v.reference(idOf(o.storageDefault)),
		"webhook_configs":        nested(v, v.server.webhooks.all, "/configs/webhook", view.webhookConfig),
		"webhook_config_default": v.reference(idOf(o.webhookDefault)),
		"state":                  state, "date_created": stamp(o.created),
	}
	if !v.old {
		out["api_version"] = "2020-02-25" // Assumption: a date; no source shows one
		out["config"] = object{"publish_source_files": o.publishFiles}
	}
	return out
}

// reference is a nullable ID.
func (v view) reference(id string) any {
	if id == "" {
		return nil
	}
	return v.number(id)
}

func (v view) basePermission(p *permission) object {
	out := v.permission(p)
	if v.old {
		out["resource"] = "organisation_permissions"
		out["identifier"] = "default"
		delete(out, "organisation")
	}
	return out
}

func (v view) permission(p *permission) object {
	scopes := object{}
	for name, limits := range p.scopes {
		if limits == nil {
			limits = []ScopeLimit{}
		}
		scopes[name] = limits
	}
	out := object{"id": v.number(p.id), "resource": "permissions", "organisation": v.server.org.id, "scopes": scopes, "date_created": stamp(p.created)}
	if v.old {
		out["resource"] = "permission"
	}
	return out
}

func (v view) key(k *key) object {
	out := object{
		"id": v.number(k.id), "resource": "key", "organisation": v.number(v.server.org.id), "type": "standard",
		"storage_config": v.reference(idOf(k.storage)), "webhook_config": v.reference(idOf(k.webhook)),
		"token": k.token, "state": k.state, "date_created": stamp(k.created), "date_expires": stamp(k.expires),
	}
	if !v.old {
		config := object{}
		if k.publishFiles != nil {
			config["publish_source_files"] = *k.publishFiles
		}
		out["config"] = config
	}
	return out
}

func (v view) user(u *user) object {
	return object{
		"id": u.id, "resource": "user", "organisation": v.server.org.id, "key": u.key.id,
		"identifier": u.identifier, "state": u.state, "date_created": stamp(u.created),
	}
}

func (v view) source(x *source) object {
	out := object{
		"id": v.number(x.id), "resource": "source", "user": x.user.id, "type": x.kind, "identifier": optional(x.identifier),
		"children": nested(v, x.children, "/sources/"+url.PathEscape(x.id)+"/children", view.source),
		"state":    x.state, "date_created": stamp(x.created),
	}
	if x.parent == nil { // the contract's sample of a child has no such key
		out["parent"] = nil
	} else if v.old {
		out["parent"] = x.parent.id
	}
	if !v.old {
		out["info"] = x.info
	}
	return out
}

func (v view) session(x *session) object {
	out := object{
		"id": x.id, "resource": "session", "organisation": v.server.org.id, "user": x.source.user.id,
		"state": x.state, "error": optional(x.err), "date_created": stamp(x.created), "date_expired": stamp(x.expired),
	}
	if v.old {
		out["source"] = x.source.id
		return out
	}
	out["key"] = x.key.id
	out["source"] = v.source(x.source)
	return out
}

func (v view) poll(p *poll) object {
	out := object{
		"id": p.id, "resource": "poll", "organisation": v.server.org.id, "key": p.key.id, "user": p.source.user.id,
		"source": p.source.id, "session": p.session.id, "state": p.state,
		"date_created": stamp(p.created), "date_started": stamp(p.started), "date_completed": stamp(p.completed),
	}
	tasks := map[string][]string{statePending: {}, stateProcessing: {}, stateSuspended: {}, stateSucceeded: {}, stateFailed: {}}
	var results []*result
	errs := []*task{}
	for _, t := range p.tasks {
		tasks[t.state] = append(tasks[t.state], t.id)
		results = append(results, t.results...)
		if t.err != "" {
			errs = append(errs, t)
		}
	}
	out["tasks_pending"], out["tasks_processing"] = tasks[statePending], tasks[stateProcessing]
	out["results"] = nested(v, results, "/results?poll="+p.id, view.result)
	if v.old {
		out["type"] = p.kind
		out["tasks_processing"] = slices.Concat(tasks[stateProcessing], tasks[stateSuspended])
		out["tasks_completed"] = slices.Concat(tasks[stateSucceeded], tasks[stateFailed])
		if p.state == stateCompleted {
			out["state"] = stateProcessing // as the guide's finished poll still says
		}
		return out
	}
	out["tasks_suspended"], out["tasks_succeeded"], out["tasks_failed"] = tasks[stateSuspended], tasks[stateSucceeded], tasks[stateFailed]
	out["subscription"] = optional(idOf(p.subscription))
	out["errors"] = nested(v, errs, "/tasks?state=failed&poll="+p.id, view.pollError)
	return out
}

// pollError is one item of poll.errors.
// Assumption: its shape; the contract only names the list. It has no
// "resource", which the vendor's own client would not survive.
func (v view) pollError(t *task) object {
	return object{"task": t.id, "error": t.err, "message": "The task for " + t.target + " failed."}
}

func (v view) task(t *task) object {
	out := object{
		"id": t.id, "resource": "task", "organisation": v.server.org.id, "key": t.key.id, "user": nil, "source": nil,
		"session": optional(idOf(t.session)), "poll": optional(idOf(t.poll)), "source_type": optional(t.sourceType()),
		"type": t.kind, "target": optional(t.target), "state": t.state, "error": optional(t.err),
		"results":      nested(v, t.results, "/results?task="+t.id, view.result),
		"date_created": stamp(t.created), "date_started": stamp(t.started), "date_completed": stamp(t.completed),
	}
	if from := t.source(); from != nil {
		out["user"], out["source"] = from.user.id, from.id
	}
	if v.old && t.state == stateSuspended {
		out["state"] = stateProcessing
	}
	return out
}

func (v view) result(r *result) object {
	out := object{
		"id": r.id, "resource": "result", "task": r.task.id, "identifier": r.identifier, "url": r.url,
		"checksum": r.checksum, "size": r.size, "state": r.state,
		"date_created": stamp(r.created), "date_consumed": stamp(r.consumed), "date_deleted": stamp(r.deleted),
	}
	if v.old {
		if r.task.kind != "files" {
			out["identifier"] = r.task.kind + ":" + r.identifier
		}
		return out
	}
	out["organisation"], out["poll"], out["type"] = v.server.org.id, optional(idOf(r.task.poll)), r.kind
	out["signed_url"] = v.signedURL(r)
	return out
}

func (v view) signedURL(r *result) any {
	if r.object == nil || r.signed.IsZero() || !v.server.clock.now().Before(r.signed) {
		return nil
	}
	return object{"url": v.server.sign(v.origin, r.object, r.signed), "date_expires": stamp(r.signed)}
}

func (v view) subscription(x *subscription) object {
	owner := "org" // the documented name, which no other resource uses
	if v.old {
		owner = "organisation"
	}
	return object{
		"id": x.id, "resource": "subscription", owner: v.server.org.id, "source": x.source.id, "session": x.session.id,
		"poll_payload": x.payload, "interval": optional(x.interval.Seconds()),
		"date_start": stamp(x.start), "date_end": stamp(x.end), "state": x.state, "date_created": stamp(x.created),
	}
}

func (v view) event(e *event) object {
	return object{
		"id": e.id, "resource": "event", "type": e.kind, "action": e.action, "data": json.RawMessage(e.data),
		"state": e.state, "retries": e.retries, "date_created": stamp(e.created), "date_delivered": stamp(e.delivered),
	}
}

func (v view) storageConfig(x *storageConfig) object {
	out := object{
		"id": v.number(x.id), "resource": "storage_config", "organisation": v.number(v.server.org.id), "type": scheme(x.url),
		"url": x.url, "credentials": nil, "state": x.state, "date_created": stamp(x.created),
	}
	if !v.old {
		out["signed_urls_enabled"], out["signed_urls_expiry"] = x.signed, x.signedFor.Seconds()
	}
	return out
}

func (v view) webhookConfig(x *webhookConfig) object {
	return object{
		"id": v.number(x.id), "resource": "webhook_config", "organisation": v.number(v.server.org.id),
		"url": x.url, "secret": x.secret, "state": x.state, "date_created": stamp(x.created),
	}
}
