package ricloudtest

import "github.com/reincubate/ricloud-go/ricloudtest/internal/collection"

// The states that the contract names. Each resource uses its own.
const (
	statePending      = "pending"
	stateProcessing   = "processing"
	stateSuspended    = "suspended"
	stateSucceeded    = "succeeded"
	stateCompleted    = "completed"
	stateFailed       = "failed"
	stateActive       = "active"
	stateExpired      = "expired"
	stateDeleted      = "deleted"
	stateDeactivated  = "deactivated"
	stateBlocked      = "blocked"
	stateLocked       = "locked"
	stateUnvalidated  = "unvalidated"
	stateUnconfigured = "unconfigured"
	stateNew          = "new"
	stateValid        = "valid"
	stateInvalid      = "invalid"
	stateAvailable    = "available"
	stateConsumed     = "consumed"
	stateDelivered    = "delivered"
)

type organisation struct {
	collection.Head

	Name, Slug     string
	PublishFiles   bool
	StorageDefault *storageConfig
	WebhookDefault *webhookConfig
	Forced         string // deactivated or blocked; empty for the state that the configs give
	Base           *permission
}

// organisationState returns "unconfigured" until a storage config is valid.
func (s *Server) organisationState() string {
	switch {
	case s.org.Forced != "":
		return s.org.Forced
	case !s.configured():
		return stateUnconfigured
	}
	return stateActive
}

func (v view) organisation(o *organisation) object {
	s := v.server
	out := object{
		"id": v.number(o.ID), "resource": "organisation", "name": o.Name, "slug": o.Slug,
		"permissions": v.basePermission(o.Base),
		"storage_configs": nested(
			v, s.storages.All(), "/configs/storage", view.storageConfig,
		),
		"storage_config_default": v.reference(idOf(o.StorageDefault)),
		"webhook_configs": nested(
			v, s.webhooks.All(), "/configs/webhook", view.webhookConfig,
		),
		"webhook_config_default": v.reference(idOf(o.WebhookDefault)),
		"state":                  s.organisationState(), "date_created": stamp(o.Created),
	}
	if !v.guide() {
		// Assumption (api-version): a date. No source shows the format.
		out["api_version"] = "2020-02-25"
		if s.numericVersion {
			out["api_version"] = 3
		}
		out["config"] = object{"publish_source_files": o.PublishFiles}
	}
	return out
}

func (s *Server) getOrganisation(*call) (answerer, error) {
	return answerWith(view.organisation, s.org)
}

func (s *Server) updateOrganisation(c *call) (answerer, error) {
	name := c.params.text("name")
	storage, webhook := s.org.StorageDefault, s.org.WebhookDefault
	s.readStorageRef(c.params, "storage_config_default", &storage)
	s.readWebhookRef(c.params, "webhook_config_default", &webhook)
	publish := c.params.object("config").flag("publish_source_files")
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if name != "" {
		s.org.Name = name
	}
	if publish != nil {
		s.org.PublishFiles = *publish
	}
	s.org.StorageDefault, s.org.WebhookDefault = storage, webhook
	return answerWith(view.organisation, s.org)
}

// operating returns an error if the organisation may not start new work.
//
// Assumption (stopped): a deactivated or blocked organisation, user or source still answers reads;
// new sessions, polls and subscriptions answer 403.
func (s *Server) operating() error {
	if s.org.Forced != "" {
		return forbidden(codeForbidden, "The organisation is "+s.org.Forced+".")
	}
	return nil
}
