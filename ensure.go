package ricloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// ensurer is what Ensure needs of one kind of config.
type ensurer interface {
	configAccess
	configSetup
}

type configAccess interface {
	// list returns the configs for the URL that are not deactivated.
	list(ctx context.Context) ([]anyConfig, error)
	create(ctx context.Context) (anyConfig, error)
	get(ctx context.Context, id ID) (anyConfig, *Response, error)
	remove(ctx context.Context, id ID) error
}

type configSetup interface {
	// prepare makes the receiver or the config ready, and returns the state that
	// the config is then in. all are the configs for the URL.
	prepare(ctx context.Context, chosen anyConfig, all []anyConfig, created bool) (ConfigState, error)
	test(ctx context.Context, id ID) (*Task, error)
	// adopt makes a valid config the default if the params ask for it.
	adopt(ctx context.Context, id ID) error
}

// anyConfig is what the two kinds of config have in common.
type anyConfig struct {
	id      ID
	url     string
	state   ConfigState
	created time.Time
}

const (
	maxConfigTests = 3               // before a config is given up
	testPause      = time.Second     // before a failed test is repeated; then three times as long
	maxEnsureRuns  = 3               // a config that vanishes meanwhile is looked for again
	clockDrift     = 5 * time.Second // a larger difference of the clocks is reported

	// A list may lag behind a create. It is read again after listPause, and then after twice
	// as long each time: for 8 seconds together.
	listPause = 500 * time.Millisecond
	maxLists  = 5
)

// ensuring is one call of Ensure.
type ensuring struct {
	ensurer

	client    *Client
	operation string // "WebhookConfigs.Ensure"
	resource  string // "webhook_config"
	url       string
	advice    string // what to look at when the test fails

	clock string // what is wrong with this machine's clock, or ""
}

// run finds or creates the config for a URL, tests it unless it is valid, and
// makes it a default. It returns its ID also with an error that says why the
// config is not valid.
func (e *ensuring) run(ctx context.Context) (id ID, err error) {
	for range maxEnsureRuns {
		id, err = e.once(ctx)
		if !errors.Is(err, ErrNotFound) { // else another process deleted its duplicate
			break
		}
	}
	return id, err
}

func (e *ensuring) once(ctx context.Context) (ID, error) {
	chosen, all, created, err := e.choose(ctx)
	if err != nil {
		return "", err
	}
	state, err := e.prepare(ctx, chosen, all, created)
	if err != nil {
		return chosen.id, err
	}
	if state != ConfigValid {
		if err := e.validate(ctx, chosen.id); err != nil {
			return chosen.id, err
		}
	}
	return chosen.id, e.adopt(ctx, chosen.id)
}

// choose returns the config to use, and all that are live. It prefers a valid
// one, and creates one if there is none. Processes that do so at the same time
// all choose the oldest and delete their own.
func (e *ensuring) choose(
	ctx context.Context,
) (chosen anyConfig, all []anyConfig, created bool, err error) {
	if all, err = e.list(ctx); err != nil {
		return anyConfig{}, nil, false, err
	}
	if len(all) > 0 {
		slices.SortFunc(all, validThenOldest)
		return all[0], all, false, nil
	}
	own, failure := e.create(ctx)
	if failure != nil {
		if lost, ok := errors.AsType[*CallError](failure); !ok || !lost.MaybeApplied() {
			return anyConfig{}, nil, false, failure
		}
	}
	all, err = e.listWith(ctx, own.id)
	switch {
	case failure != nil && (err != nil || len(all) == 0): // nothing was created
		return anyConfig{}, nil, false, failure
	case err != nil:
		return anyConfig{}, nil, false, err
	case len(all) == 0: // a list that lags behind
		return own, []anyConfig{own}, true, nil
	}
	slices.SortFunc(all, oldest)
	chosen = all[0]
	surplus := []anyConfig{own}
	switch {
	case failure != nil: // any of them may be its own, and all are as new
		surplus = slices.Clone(all[1:])
	case chosen.id == own.id:
		return chosen, all, true, nil
	}
	for _, other := range surplus {
		if err := e.remove(ctx, other.id); err != nil && !errors.Is(err, ErrNotFound) {
			return chosen, all, false, err
		}
		all = slices.DeleteFunc(all, func(p anyConfig) bool { return p.id == other.id })
	}
	return chosen, all, failure != nil, nil
}

// listWith lists the configs until that with an ID is among them: a list that lags
// behind its create also lacks what others have created. The ID may be unknown.
func (e *ensuring) listWith(ctx context.Context, id ID) ([]anyConfig, error) {
	pause := listPause
	for i := 1; ; i++ {
		all, err := e.list(ctx)
		shown := slices.ContainsFunc(all, func(p anyConfig) bool { return p.id == id })
		if err != nil || shown || id == "" || i == maxLists {
			return all, err
		}
		if err := backoff.Sleep(ctx, pause); err != nil {
			return nil, &CallError{Operation: e.operation, Err: err}
		}
		pause *= 2
	}
}

func validThenOldest(a, b anyConfig) int {
	valid := func(p anyConfig) int {
		if p.state == ConfigValid {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(valid(a), valid(b)), oldest(a, b))
}

// oldest orders by date and, within one, by ID: the API numbers configs.
func oldest(a, b anyConfig) int {
	left, errLeft := strconv.ParseUint(string(a.id), 10, 64)
	right, errRight := strconv.ParseUint(string(b.id), 10, 64)
	byID := cmp.Compare(a.id, b.id)
	if errLeft == nil && errRight == nil {
		byID = cmp.Compare(left, right)
	}
	return cmp.Or(a.created.Compare(b.created), byID)
}

// validate tests a config until it is valid. A test that fails may have met a
// receiver that is just starting, so it is repeated. A create and an update
// also begin a test, which may end later and with another outcome.
func (e *ensuring) validate(ctx context.Context, id ID) error {
	var state ConfigState
	var failed *StateError
	pause := testPause
	for i := range maxConfigTests {
		if i > 0 && failed != nil {
			if err := backoff.Sleep(ctx, pause); err != nil {
				return &CallError{Operation: e.operation, Err: err}
			}
			pause *= 3
		}
		task, err := e.test(ctx, id)
		if err != nil {
			return err
		}
		_, failure := last(e.client.waits.tasks.watch(ctx, "Tasks.Wait", task.ID, task, nil))
		var ok bool
		if failed, ok = errors.AsType[*StateError](failure); failure != nil && !ok {
			return failure
		}
		config, resp, err := e.get(ctx, id)
		if err != nil {
			return err
		}
		e.compareClocks(resp)
		if state = config.state; state == ConfigValid {
			return nil
		}
		if state == ConfigDeactivated {
			break
		}
	}
	return e.explain(id, state, failed)
}

// defaultConfigs are the configs that a key or an organisation is to have. An
// empty ID changes nothing.
type defaultConfigs struct{ storage, webhook ID }

// set makes them the defaults of the calling key and of its organisation, as far
// as that is asked for.
func (d defaultConfigs) set(
	ctx context.Context, c *Client, opts []CallOption, forKey, forOrganisation bool,
) error {
	if forKey {
		if err := d.setForKey(ctx, c, opts); err != nil {
			return err
		}
	}
	if forOrganisation {
		return d.setForOrganisation(ctx, c, opts)
	}
	return nil
}

// setForKey updates the calling key, unless it has the configs already.
func (d defaultConfigs) setForKey(ctx context.Context, c *Client, opts []CallOption) error {
	key, err := c.Keys.Current(ctx, opts...)
	if err != nil {
		return err
	}
	change := KeyUpdateParams{
		StorageConfig: replacement(key.StorageConfig, d.storage),
		WebhookConfig: replacement(key.WebhookConfig, d.webhook),
	}
	if change == (KeyUpdateParams{}) {
		return nil
	}
	wanted := map[string]*ID{
		"storage_config": change.StorageConfig, "webhook_config": change.WebhookConfig,
	}
	return adopted(opts, wanted, "Keys.UpdateCurrent", func(opts []CallOption) error {
		_, err := c.Keys.UpdateCurrent(ctx, change, opts...)
		return err
	}, func(opts []CallOption) error {
		_, err := c.Keys.Current(ctx, opts...)
		return err
	})
}

// setForOrganisation updates the organisation, unless it has the configs
// already.
func (d defaultConfigs) setForOrganisation(
	ctx context.Context, c *Client, opts []CallOption,
) error {
	org, err := c.Organisation.Get(ctx, opts...)
	if err != nil {
		return err
	}
	change := OrganisationUpdateParams{
		StorageConfigDefault: replacement(org.StorageConfigDefault, d.storage),
		WebhookConfigDefault: replacement(org.WebhookConfigDefault, d.webhook),
	}
	if change == (OrganisationUpdateParams{}) {
		return nil
	}
	wanted := map[string]*ID{
		"storage_config_default": change.StorageConfigDefault,
		"webhook_config_default": change.WebhookConfigDefault,
	}
	return adopted(opts, wanted, "Organisation.Update", func(opts []CallOption) error {
		_, err := c.Organisation.Update(ctx, change, opts...)
		return err
	}, func(opts []CallOption) error {
		_, err := c.Organisation.Get(ctx, opts...)
		return err
	})
}

// adopted makes an update, and returns an error of operation if its answer shows other
// configs than the wanted ones, and so does a read: the API may ignore the update.
func adopted(
	opts []CallOption, wanted map[string]*ID, operation string, calls ...func([]CallOption) error,
) error {
	var refused error
	for _, call := range calls {
		var resp Response
		err := call(slices.Concat(opts, []CallOption{WithResponse(&resp)}))
		if callers := newCallOptions(opts).response; callers != nil {
			*callers = resp
		}
		if err != nil {
			return err
		}
		if refused = showsOther(operation, resp.Body, wanted); refused == nil {
			return nil
		}
	}
	return refused
}

// showsOther returns an error if an answer shows another ID than the wanted one in a
// field. One that does not have the field shows nothing.
func showsOther(operation string, body []byte, wanted map[string]*ID) error {
	var shown map[string]json.RawMessage
	_ = json.Unmarshal(body, &shown)
	for field, want := range wanted {
		raw, ok := shown[field]
		if !ok || want == nil {
			continue
		}
		var id ID
		if json.Unmarshal(raw, &id) != nil || id != *want {
			return &DecodeError{
				Operation: operation, Path: field, Snapshot: transport.Snapshot(raw),
				Err: errors.New("the API has not made the config " + string(*want) + " the default"),
			}
		}
	}
	return nil
}

// replacement returns the ID to send, or nil if there is nothing to change.
func replacement(current, wanted ID) *ID {
	if wanted == "" || wanted == current {
		return nil
	}
	return &wanted
}

// compareClocks notes when this machine's clock differs from the API's: a
// receiver here would then refuse the deliveries' signatures.
func (e *ensuring) compareClocks(resp *Response) {
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	switch drift := time.Since(now).Round(time.Second); {
	case drift > clockDrift:
		e.clock = " (this clock is " + drift.String() + " ahead of the API's)"
	case -drift > clockDrift:
		e.clock = " (this clock is " + (-drift).String() + " behind the API's)"
	}
}

// explain says in words why a config is not valid.
func (e *ensuring) explain(id ID, state ConfigState, failed *StateError) error {
	err := &StateError{Resource: e.resource, ID: id, State: string(state)}
	found := "its tests were not conclusive"
	if failed != nil {
		err.Code = failed.Code
		found = "its test, task " + string(failed.ID) + ", failed"
	}
	err.Detail = found + e.clock + " for " + plainURL(e.url) + ": " + e.advice
	return err
}

// sameURL reports whether two URLs lead to the same place, however they are
// spelled: the API may keep a config's URL in another spelling. A slash at the
// end makes no difference, because the API appends to the URL.
func sameURL(a, b string) bool { return canonicalURL(a) == canonicalURL(b) }

// canonicalURL lowers the scheme and the host, and removes the scheme's own
// port, escapes that are not needed, and slashes at the end.
func canonicalURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch port := u.Port(); {
	case u.Scheme == "https" && port == "443", u.Scheme == "http" && port == "80", port == "":
		u.Host = strings.TrimSuffix(strings.TrimSuffix(u.Host, port), ":")
	}
	if strings.Contains(strings.ToLower(u.RawPath), "%2f") { // it is not a "/"
		return strings.TrimRight(u.String(), "/")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u.String()
}

// checkURL refuses a config's URL that cannot work. The error does not repeat
// it: people paste credentials into URLs.
func checkURL(raw string) error {
	if raw == "" {
		return invalid("URL", "is required")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "" || strings.ContainsAny(raw, " \t\r\n"):
		return invalid("URL", "must be a whole URL, with scheme and host or bucket")
	case u.User != nil:
		return invalid("URL", "must not hold a user or password")
	}
	return nil
}

// checkWebhookURL refuses a URL that no event can be delivered to: the API
// appends "/" and the event's ID to it.
func checkWebhookURL(raw string) error {
	if err := checkURL(raw); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http":
		return invalid("URL", "must begin with https:// or http://")
	case strings.ContainsAny(raw, "?#"):
		return invalid("URL", "must not have a query or a fragment: the API appends the event's "+
			"ID to the URL")
	}
	return nil
}

// plainURL removes the parts of a URL that may be secret.
func plainURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return redacted
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
