package ricloudtest

import (
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/jsonerror"
)

// scenarioFiles are the scenarios that come with the sandbox, and the schema of all scenarios.
//
//go:embed scenarios
var scenarioFiles embed.FS

// Scenario is a prepared world: accounts and their data, configs, faults and delays. It is a list
// of options that was read from JSON. See docs/sandbox.md for the format, and ScenarioSchema for
// its JSON schema.
type Scenario struct {
	Name        string
	Description string

	options []Option
}

// scenarioJSON is a scenario file.
type scenarioJSON struct {
	Schema             string               `json:"$schema,omitempty"`
	Name               string               `json:"name,omitempty"`
	Description        string               `json:"description,omitempty"`
	Accounts           []Account            `json:"accounts,omitempty"`
	Unconfigured       bool                 `json:"unconfigured,omitempty"`
	Webhooks           []string             `json:"webhooks,omitempty"`
	Generation         string               `json:"generation,omitempty"`
	OldActions         *bool                `json:"old_actions,omitempty"`
	StringDeliveries   bool                 `json:"string_deliveries,omitempty"`
	SucceededSessions  bool                 `json:"succeeded_sessions,omitempty"`
	NumericVersion     bool                 `json:"numeric_version,omitempty"`
	InclusiveCursors   bool                 `json:"inclusive_cursors,omitempty"`
	NoBatchAcknowledge bool                 `json:"no_batch_acknowledge,omitempty"`
	Delays             map[string]delayJSON `json:"delays,omitempty"`
	Speed              *float64             `json:"speed,omitempty"`
	Faults             []Fault              `json:"faults,omitempty"`
	WebhookFaults      *webhookFaultsJSON   `json:"webhook_faults,omitempty"`
	WebhookRetries     []duration           `json:"webhook_retries,omitempty"`
	RateLimit          *rateLimitJSON       `json:"rate_limit,omitempty"`
	InFlightLimit      int                  `json:"in_flight_limit,omitempty"`
	SessionLifetime    duration             `json:"session_lifetime,omitempty"`
	Scopes             Scopes               `json:"scopes,omitempty"`
	StorageKey         *storageKeyJSON      `json:"storage_key,omitempty"`
}

type rateLimitJSON struct {
	Requests int      `json:"requests"`
	Per      duration `json:"per"`
}

type storageKeyJSON struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

type webhookFaultsJSON struct {
	WebhookFaults

	HoldBack duration `json:"hold_back,omitempty"`
}

// delayJSON is a Delay that is written as "1.5s" or as ["1s", "3s"].
type delayJSON Delay

// UnmarshalJSON reads both forms.
func (d *delayJSON) UnmarshalJSON(raw []byte) error {
	var fixed duration
	bounds := []duration{0, 0}
	if err := json.Unmarshal(raw, &fixed); err == nil {
		bounds = []duration{fixed, fixed}
	} else if err := json.Unmarshal(raw, &bounds); err != nil {
		bounds = nil
	}
	if len(bounds) != 2 || bounds[0] < 0 || bounds[1] < bounds[0] {
		return refuse(`delay %s: want a duration such as "1.5s", or two, the shorter one first`, raw)
	}
	*d = delayJSON{Min: time.Duration(bounds[0]), Max: time.Duration(bounds[1])}
	return nil
}

// ReadScenario reads a scenario from JSON. It refuses unknown fields and settings that cannot work.
func ReadScenario(r io.Reader) (Scenario, error) {
	const most = 64 << 20
	raw, err := readUpTo(r, most)
	if err != nil {
		return Scenario{}, refuse("read scenario: %w", err)
	}
	var in scenarioJSON
	if err := decodeStrictly(raw, &in); err != nil {
		return Scenario{}, refuse("read scenario: %w", jsonerror.InWords(err))
	}
	var fields object
	if err := json.Unmarshal(raw, &fields); err != nil || len(fields) == 0 {
		return Scenario{}, refuse("read scenario: it sets nothing")
	}
	options, err := in.options()
	if err == nil {
		_, err = newConfig(options)
	}
	if err != nil {
		return Scenario{}, fmt.Errorf("scenario %q: %w", in.Name, err)
	}
	return Scenario{Name: in.Name, Description: in.Description, options: options}, nil
}

// options turns what the file sets into options. What it leaves out stays as it is.
func (in *scenarioJSON) options() ([]Option, error) {
	var options []Option
	set := func(given bool, option Option) {
		if given {
			options = append(options, option)
		}
	}
	delays := defaultDelays()
	for name, delay := range in.Delays {
		to := namedDelays(&delays)[name]
		if to == nil {
			return nil, refuse("there is no delay %q", name)
		}
		*to = Delay(delay)
	}
	generation := GenerationCurrent
	if in.Generation != "" {
		var err error
		if generation, err = ParseGeneration(in.Generation); err != nil {
			return nil, err
		}
	}
	set(in.Accounts != nil, func(c *config) { c.accounts = in.Accounts })
	set(in.Unconfigured, WithUnconfigured())
	set(in.Webhooks != nil, WithWebhooks(in.Webhooks...))
	set(in.Generation != "", WithGeneration(generation))
	set(in.OldActions != nil, func(c *config) { c.old = in.OldActions })
	set(in.StringDeliveries, WithStringDeliveries())
	set(in.SucceededSessions, WithSucceededSessions())
	set(in.NumericVersion, WithNumericVersion())
	set(in.InclusiveCursors, WithInclusiveCursors())
	set(in.NoBatchAcknowledge, WithoutBatchAcknowledge())
	set(in.Delays != nil, WithDelays(delays))
	set(in.Speed != nil, func(c *config) { c.speed = *in.Speed })
	set(in.Faults != nil, WithFaults(in.Faults...))
	if in.WebhookFaults != nil {
		faults := in.WebhookFaults.WebhookFaults
		faults.HoldBack = time.Duration(in.WebhookFaults.HoldBack)
		set(true, WithWebhookFaults(faults))
	}
	var pauses []time.Duration
	for _, pause := range in.WebhookRetries {
		pauses = append(pauses, time.Duration(pause))
	}
	set(in.WebhookRetries != nil, WithWebhookRetries(pauses...))
	if in.RateLimit != nil {
		set(true, WithRateLimit(in.RateLimit.Requests, time.Duration(in.RateLimit.Per)))
	}
	set(in.InFlightLimit != 0, WithInFlightLimit(in.InFlightLimit))
	set(in.SessionLifetime != 0, WithSessionLifetime(time.Duration(in.SessionLifetime)))
	set(in.Scopes != nil, WithScopes(in.Scopes))
	if in.StorageKey != nil {
		set(true, WithStorageKey(in.StorageKey.ID, in.StorageKey.Secret))
	}
	return options, nil
}

// Scenarios returns the scenarios that come with the sandbox, by name.
func Scenarios() []Scenario {
	files, _ := fs.Glob(scenarioFiles, "scenarios/*.json") // the pattern is good
	var scenarios []Scenario
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".json")
		if scenario, err := NamedScenario(name); err == nil {
			scenarios = append(scenarios, scenario)
		}
	}
	return scenarios
}

// NamedScenario returns a scenario that comes with the sandbox, such as "two-factor".
func NamedScenario(name string) (Scenario, error) {
	file, err := scenarioFiles.Open("scenarios/" + path.Base(name) + ".json")
	if err != nil {
		return Scenario{}, refuse("there is no scenario %q, see Scenarios", name)
	}
	defer func() { _ = file.Close() }() // it is embedded
	return ReadScenario(file)
}

// ScenarioSchema returns the JSON schema of scenario files.
func ScenarioSchema() []byte {
	schema, _ := scenarioFiles.ReadFile("scenarios/schema/scenario.json") // it is embedded
	return schema
}

// WithScenario applies a scenario. Options that come later change it.
func WithScenario(scenario Scenario) Option {
	return func(c *config) {
		for _, option := range scenario.options {
			option(c)
		}
	}
}

// Play resets the server and applies a scenario. Options of NewServer that the scenario does not
// set keep their effect.
func (s *Server) Play(scenario Scenario) error {
	c, err := newConfig(append(slices.Clone(s.opts), WithScenario(scenario)))
	if err != nil {
		return err
	}
	s.ResetCalls()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refuse("play scenario %q: the server is closed", scenario.Name)
	}
	initial := s.initial
	s.initial = c.settings
	s.reset(c.seed)
	s.initial = initial
	return nil
}
