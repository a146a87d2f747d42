package sandboxprogram

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/jsonerror"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// settings are the flags.
type settings struct {
	addr, storageAddr           string
	publicURL, publicStorageURL string
	tlsCert, tlsKey             string
	cors                        list
	public, remoteAdmin         bool

	token, generation, oldActions string
	unconfigured                  bool
	stringDeliveries              bool
	succeededSessions             bool
	numericVersion                bool
	inclusiveCursors              bool
	noBatchAcknowledge            bool

	scenario, accounts, scopes, faults string
	webhooks                           list
	webhookFaults                      rates
	webhookRetries                     pauses

	storageDir, storageKey string
	delays                 ricloudtest.Delays
	speed                  float64
	seed                   uint64
	rateLimit              int
	ratePer                time.Duration
	inFlight               int
	lifetime               time.Duration

	state, banner            string
	check, record, upstream  string
	version, health, verbose bool

	given map[string]bool              // flags that were set, here or in the environment
	yaml  func([]byte) ([]byte, error) // turns YAML into JSON; nil: this program has none
}

const usage = `ricloud-sandbox serves the ricloud API from memory. See docs/sandbox.md.

Accounts, unless -accounts or -scenario gives others:
  icloud.account    john.appleseed@example.com  password hunter2, no 2FA
  icloud.account    jane.appleseed@example.com  password hunter2, 2FA code 123456
  icloud.account    locked@example.com          password hunter2, locked
  rirelay.instance  pairing code PAIR-1234
  mocks.mock        any identifier, any password

Each flag can be set in the environment as well: -rate-limit is RICLOUD_SANDBOX_RATE_LIMIT.

Flags:
`

// define makes the flags.
func (set *settings) define(flags *flag.FlagSet) {
	flags.StringVar(&set.addr, "addr", "127.0.0.1:8321",
		"`host:port` of the API; port 0 takes a free one")
	flags.StringVar(&set.storageAddr, "storage-addr", "",
		"`host:port` of the published objects; the port after -addr's by default")
	flags.BoolVar(&set.public, "public", false,
		"allow an address that is not loopback: anyone who reaches it can use it")
	flags.StringVar(&set.publicURL, "public-url", "", "`URL` at which clients reach the API")
	flags.StringVar(&set.publicStorageURL, "public-storage-url", "",
		"`URL` at which clients reach the published objects")
	flags.StringVar(&set.tlsCert, "tls-cert", "", "serve HTTPS with this certificate `file`")
	flags.StringVar(&set.tlsKey, "tls-key", "", "and this key `file`")
	flags.Var(&set.cors, "cors", "let pages of this `origin` call the API; repeatable, * is any")
	flags.BoolVar(&set.remoteAdmin, "remote-admin", false,
		"open the admin API and the page to other machines")

	flags.StringVar(&set.token, "token", "sandbox-token", "the key's `token`")
	flags.StringVar(&set.generation, "generation", "current",
		"how answers are written: current, 2018, 2019 or mixed")
	flags.StringVar(&set.oldActions, "old-actions", "auto",
		"answer GET to acknowledgements and config tests: yes, no, or auto, which is yes "+
			"in 2018 and 2019")
	flags.BoolVar(&set.stringDeliveries, "string-deliveries", false,
		"deliver events as JSON strings, as clients 3.0.0rc1 to 3.0.1 read them")
	flags.BoolVar(&set.succeededSessions, "succeeded-sessions", false,
		"call a good session succeeded instead of active")
	flags.BoolVar(&set.numericVersion, "numeric-version", false, "write api_version as a number")
	flags.BoolVar(&set.inclusiveCursors, "inclusive-cursors", false,
		"after_id and before_id include the resource they name")
	flags.BoolVar(&set.noBatchAcknowledge, "no-batch-acknowledge", false,
		"answer 404 to POST /results/ack")
	flags.BoolVar(&set.unconfigured, "unconfigured", false,
		"start with nowhere to publish to, as the vendor's guide does")

	flags.StringVar(&set.scenario, "scenario", "",
		"start from a scenario: a `name`, see -scenario help, or a JSON or YAML file")
	flags.StringVar(&set.accounts, "accounts", "", "JSON `file` of accounts")
	flags.StringVar(&set.scopes, "scopes", "", "JSON `file` of the organisation's scopes")
	flags.StringVar(&set.faults, "faults", "", "JSON `file` of faults")
	flags.Var(&set.webhooks, "webhook",
		"send events to this `URL`, as a config that is valid from the start; repeatable")
	flags.Var(&set.webhookFaults, "webhook-faults",
		"disturb deliveries, as in `drop=0.1,duplicate=0.5`; also reorder, wrong_signature, "+
			"old_timestamp")
	flags.Var(&set.webhookRetries, "webhook-retries",
		"`pauses` between the attempts of a delivery, as in 1m,10m")

	flags.StringVar(&set.storageDir, "storage-dir", "",
		"publish to files in this `folder`, as local:// URLs")
	flags.StringVar(&set.storageKey, "storage-key", "",
		"the only credentials that buckets accept, as `id:secret`")
	set.delays = unhurried()
	flags.Func("delay", "how long work takes, as in `task=1s` or task=1s-4s; repeatable; of "+
		"session, poll, task, suspend, config, first_test, subscription, delivery",
		func(text string) error { return setDelay(&set.delays, text) })
	flags.Float64Var(&set.speed, "speed", 1, "divide all delays by this `factor`")
	flags.Uint64Var(&set.seed, "seed", 1, "what IDs and delays are drawn from")
	flags.IntVar(&set.rateLimit, "rate-limit", 0, "`requests` in a window; 0 is no limit")
	flags.DurationVar(&set.ratePer, "rate-limit-per", time.Hour, "the window's length")
	flags.IntVar(&set.inFlight, "in-flight-limit", 0, "unfinished `polls` of a session; 0 is any")
	flags.DurationVar(&set.lifetime, "session-lifetime", 0, "expire sessions after this; 0 is never")

	flags.StringVar(&set.state, "state", "",
		"keep the state in this `file`, and start from it if it exists")
	flags.StringVar(&set.banner, "banner", "text", "what to print at the start: text, json or none")
	flags.StringVar(&set.record, "record", "",
		"write what clients ask of -upstream into this `folder`, as redacted fixtures, and serve "+
			"nothing else")
	flags.StringVar(&set.upstream, "upstream", "https://ricloud-api.reincubate.com",
		"the API that -record asks")
	flags.StringVar(&set.check, "check", "",
		"compare the fixtures in this `folder` with the contract, print the differences, and end")
	flags.BoolVar(&set.health, "health", false, "ask the sandbox at -addr whether it is well, and end")
	flags.BoolVar(&set.version, "version", false, "print the version, and end")
	flags.BoolVar(&set.verbose, "v", false, "log each request and delivery")
}

// parse reads the environment and then the arguments.
func parse(args []string, errs io.Writer) (*settings, error) {
	set := &settings{given: map[string]bool{}}
	flags := flag.NewFlagSet("ricloud-sandbox", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a mistake is not answered with all the flags
	set.define(flags)
	var wrong []error
	flags.VisitAll(func(f *flag.Flag) {
		name := "RICLOUD_SANDBOX_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := os.Getenv(name) //nolint:forbidigo // the settings of this program
		if value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s=%q: %w", name, value, err))
		}
	})
	err := errors.Join(wrong...)
	if err == nil {
		err = flags.Parse(args)
	}
	if errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(errs, usage)
		flags.SetOutput(errs)
		flags.PrintDefaults()
		return nil, err
	}
	if err == nil {
		flags.Visit(func(f *flag.Flag) { set.given[f.Name] = true })
		err = set.validate(flags)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrUsage)
	}
	return set, nil
}

// ErrUsage means that the arguments or the environment cannot be used.
var ErrUsage = errors.New("see -help")

// validate refuses arguments that do not go together.
func (set *settings) validate(flags *flag.FlagSet) error {
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case !slices.Contains([]string{"text", "json", "none"}, set.banner):
		return fmt.Errorf("-banner %q: want text, json or none", set.banner)
	case (set.tlsCert == "") != (set.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key belong together")
	case set.given["rate-limit-per"] && set.rateLimit == 0:
		return errors.New("-rate-limit-per needs -rate-limit")
	}
	return nil
}

// list is a flag that can be repeated, or separated with commas.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(text string) error {
	*l = append(*l, strings.Split(text, ",")...)
	return nil
}

// pauses is a list of durations.
type pauses []time.Duration

// String implements flag.Value.
func (p *pauses) String() string { return "" }

// Set implements flag.Value.
func (p *pauses) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		pause, err := time.ParseDuration(part)
		if err != nil {
			return err
		}
		*p = append(*p, pause)
	}
	return nil
}

// rates are webhook faults by name.
type rates ricloudtest.WebhookFaults

// String implements flag.Value.
func (r *rates) String() string { return "" }

// Set implements flag.Value.
func (r *rates) Set(text string) error {
	by := map[string]*float64{
		"drop": &r.Drop, "duplicate": &r.Duplicate, "reorder": &r.Reorder,
		"wrong_signature": &r.WrongSignature, "old_timestamp": &r.OldTimestamp,
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		rate, err := strconv.ParseFloat(value, 64)
		if by[name] == nil || err != nil {
			return fmt.Errorf("%q: want a name of %s and a rate from 0 to 1", part,
				strings.Join(slices.Sorted(maps.Keys(by)), ", "))
		}
		*by[name] = rate
	}
	return nil
}

// setDelay reads "task=1s" or "task=1s-4s".
func setDelay(delays *ricloudtest.Delays, text string) error {
	by := map[string]*ricloudtest.Delay{
		"session": &delays.Session, "poll": &delays.Poll, "task": &delays.Task,
		"suspend": &delays.Suspend, "config": &delays.Config, "first_test": &delays.FirstTest,
		"subscription": &delays.Subscription, "delivery": &delays.Delivery,
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		low, high, ranged := strings.Cut(value, "-")
		shortest, err := time.ParseDuration(low)
		longest := shortest
		if err == nil && ranged {
			longest, err = time.ParseDuration(high)
		}
		if by[name] == nil || err != nil || longest < shortest {
			return fmt.Errorf("%q: want a name of %s, and 1s or 1s-4s", part,
				strings.Join(slices.Sorted(maps.Keys(by)), ", "))
		}
		*by[name] = ricloudtest.Delay{Min: shortest, Max: longest}
	}
	return nil
}

// unhurried returns delays that are long enough to see each state of a session and a poll, and to
// start a receiver after its config was made.
func unhurried() ricloudtest.Delays {
	return ricloudtest.Delays{
		Session:      ricloudtest.Delay{Min: time.Second, Max: 2 * time.Second},
		Poll:         ricloudtest.Fixed(500 * time.Millisecond),
		Task:         ricloudtest.Delay{Min: time.Second, Max: 4 * time.Second},
		Suspend:      ricloudtest.Fixed(2 * time.Second),
		Config:       ricloudtest.Fixed(500 * time.Millisecond),
		FirstTest:    ricloudtest.Fixed(3 * time.Second),
		Subscription: ricloudtest.Fixed(time.Second),
		Delivery:     ricloudtest.Fixed(100 * time.Millisecond),
	}
}

// options turns the flags into what the sandbox takes. A flag that was not given leaves a scenario
// as it is.
func (set *settings) options() ([]ricloudtest.Option, error) {
	var opts []ricloudtest.Option
	add := func(flags string, opt ricloudtest.Option) {
		for name := range strings.SplitSeq(flags, " ") {
			if set.given[name] {
				opts = append(opts, opt)
				return
			}
		}
	}
	if set.scenario == "" || set.given["delay"] {
		opts = append(opts, ricloudtest.WithDelays(set.delays))
	}
	if set.scenario != "" {
		scenario, err := set.readScenario(set.scenario)
		if err != nil {
			return nil, fmt.Errorf("-scenario: %w", err)
		}
		opts = append([]ricloudtest.Option{
			ricloudtest.WithDelays(unhurried()), ricloudtest.WithScenario(scenario),
		}, opts...)
	}
	if err := set.addFiles(add); err != nil {
		return nil, err
	}
	generation, err := ricloudtest.ParseGeneration(set.generation)
	if err != nil {
		return nil, fmt.Errorf("-generation: %w: %w", err, ErrUsage)
	}
	add("generation", ricloudtest.WithGeneration(generation))
	switch set.oldActions {
	case "yes", "no":
		add("old-actions", ricloudtest.WithOldActions(set.oldActions == "yes"))
	case "auto":
	default:
		return nil, fmt.Errorf("-old-actions %q: want yes, no or auto: %w", set.oldActions, ErrUsage)
	}
	for name, option := range map[string]struct {
		on  bool
		opt ricloudtest.Option
	}{
		"string-deliveries":    {set.stringDeliveries, ricloudtest.WithStringDeliveries()},
		"succeeded-sessions":   {set.succeededSessions, ricloudtest.WithSucceededSessions()},
		"numeric-version":      {set.numericVersion, ricloudtest.WithNumericVersion()},
		"inclusive-cursors":    {set.inclusiveCursors, ricloudtest.WithInclusiveCursors()},
		"no-batch-acknowledge": {set.noBatchAcknowledge, ricloudtest.WithoutBatchAcknowledge()},
		"unconfigured":         {set.unconfigured, ricloudtest.WithUnconfigured()},
		"remote-admin":         {set.remoteAdmin, ricloudtest.WithRemoteAdmin()},
	} {
		if option.on {
			add(name, option.opt)
		}
	}
	add("webhook", ricloudtest.WithWebhooks(set.webhooks...))
	add("webhook-faults", ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults(set.webhookFaults)))
	add("webhook-retries", ricloudtest.WithWebhookRetries(set.webhookRetries...))
	add("speed", ricloudtest.WithSpeed(set.speed))
	add("seed", ricloudtest.WithSeed(set.seed))
	add("rate-limit rate-limit-per", ricloudtest.WithRateLimit(set.rateLimit, set.ratePer))
	add("in-flight-limit", ricloudtest.WithInFlightLimit(set.inFlight))
	add("session-lifetime", ricloudtest.WithSessionLifetime(set.lifetime))
	add("cors", ricloudtest.WithCORS(set.cors...))
	return append(opts, ricloudtest.WithToken(set.token)), nil
}

// addFiles adds the options whose values are in files or folders.
func (set *settings) addFiles(add func(string, ricloudtest.Option)) error {
	if set.given["accounts"] {
		var accounts []ricloudtest.Account
		if err := readJSON(set.accounts, &accounts); err != nil {
			return fmt.Errorf("-accounts: %w", err)
		}
		add("accounts", ricloudtest.WithAccounts(accounts...))
	}
	if set.given["scopes"] {
		var scopes ricloudtest.Scopes
		if err := readJSON(set.scopes, &scopes); err != nil {
			return fmt.Errorf("-scopes: %w", err)
		}
		add("scopes", ricloudtest.WithScopes(scopes))
	}
	if set.given["faults"] {
		file, err := os.Open(set.faults)
		if err != nil {
			return fmt.Errorf("-faults: %w", err)
		}
		faults, err := ricloudtest.ReadFaults(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("-faults: %w", err)
		}
		add("faults", ricloudtest.WithFaults(faults...))
	}
	if set.given["storage-dir"] {
		dir, err := filepath.Abs(set.storageDir)
		if err != nil || set.storageDir == "" {
			return fmt.Errorf("-storage-dir %q: %w", set.storageDir, cmp.Or(err, os.ErrInvalid))
		}
		if err := errors.Join(os.MkdirAll(dir, 0o700), checkWritable(dir)); err != nil {
			return fmt.Errorf("-storage-dir: %w", err)
		}
		add("storage-dir", ricloudtest.WithLocalStorage(dir))
	}
	if set.given["storage-key"] {
		id, secret, _ := strings.Cut(set.storageKey, ":")
		add("storage-key", ricloudtest.WithStorageKey(id, secret))
	}
	return nil
}

func readJSON(path string, to any) error {
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return err
	}
	return jsonerror.InWords(json.Unmarshal(raw, to))
}

// readScenario finds a scenario by name, or reads a file.
func (set *settings) readScenario(name string) (ricloudtest.Scenario, error) {
	if !strings.ContainsAny(name, "./\\") {
		scenario, err := ricloudtest.NamedScenario(name)
		if err == nil {
			return scenario, nil
		}
		var known []string
		for _, s := range ricloudtest.Scenarios() {
			known = append(known, "  "+s.Name+": "+s.Description)
		}
		return scenario, fmt.Errorf("%q: want a file, or one of\n%s", name, strings.Join(known, "\n"))
	}
	raw, err := os.ReadFile(name) //nolint:gosec // the user names the file
	if err != nil {
		return ricloudtest.Scenario{}, err
	}
	switch filepath.Ext(name) {
	case ".yaml", ".yml":
		if set.yaml == nil {
			return ricloudtest.Scenario{}, fmt.Errorf("%q: this program reads JSON; for YAML, run ricloud "+
				"sandbox, which takes the same flags", name)
		}
		if raw, err = set.yaml(raw); err != nil {
			return ricloudtest.Scenario{}, fmt.Errorf("%q: %w", name, err)
		}
	}
	return ricloudtest.ReadScenario(bytes.NewReader(raw))
}
