package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// receiver takes events from the API's record, or from deliveries to a public URL.
type receiver struct {
	app       *app
	client    *ricloud.Client
	names     []string // empty: all
	since     time.Time
	publicURL string
	address   string // where deliveries to publicURL arrive on this machine
	command   string // the command line that runs this again
	handled   time.Time
	begun     func() // called when events are no longer missed
}

// firstLook tells when the record of events was read for the first time. Without --since, what is
// older is not shown.
type firstLook struct {
	once, failed sync.Once
	seen         func()
	missed       func(error)
}

// Attempt implements [ricloud.AttemptHook].
func (f *firstLook) Attempt(
	_ context.Context, info ricloud.AttemptInfo,
) (context.Context, func(ricloud.AttemptResult)) {
	if info.Operation != "Events.List" {
		return nil, nil
	}
	return nil, func(result ricloud.AttemptResult) {
		if result.Err == nil {
			f.once.Do(f.seen)
		} else {
			f.failed.Do(func() { f.missed(result.Err) })
		}
	}
}

// run calls take with each event, oldest first, until take returns an error or ctx ends.
func (r *receiver) run(ctx context.Context, take func(*ricloud.Event) error) error {
	chosen := func(event *ricloud.Event) error {
		if len(r.names) > 0 && !slices.Contains(r.names, event.Name()) {
			return nil
		}
		if event.DateCreated.Before(r.since) { // the API compares whole seconds
			return nil
		}
		err := take(event)
		if event.DateCreated.After(r.handled) && (err == nil || errors.Is(err, errOnce)) {
			r.handled = event.DateCreated
			r.continueFrom(justAfter(r.handled))
		}
		return err
	}
	if r.publicURL != "" {
		return r.serve(ctx, chosen)
	}
	return r.watch(ctx, chosen)
}

// continueFrom sets the command that continues after an interruption.
func (r *receiver) continueFrom(moment time.Time) {
	r.app.resume = r.command
	if r.publicURL == "" {
		r.app.resume += " --since " + moment.UTC().Format(time.RFC3339Nano)
	}
}

// justAfter returns the moment after an event, from which the next ones are read. Where the API
// tells whole seconds only, it is the same second, since more events may follow in it.
func justAfter(date time.Time) time.Time {
	if date.Nanosecond() == 0 {
		return date
	}
	return date.Add(time.Nanosecond)
}

// watch reads the API's record of events.
func (r *receiver) watch(ctx context.Context, take func(*ricloud.Event) error) error {
	var failed error // of an event that cannot be read, or what ended the watch
	params := ricloud.EventWatchParams{Since: r.since}
	for event, err := range r.client.Events.Watch(ctx, params) {
		if failed != nil {
			r.app.sayf("ricloud: %s\n", oneLine(failed.Error()))
		}
		failed = err
		if event == nil || err != nil {
			continue
		}
		if err := take(event); err != nil {
			return err
		}
	}
	return failed
}

// serve makes the API deliver events to the public URL, and receives them.
func (r *receiver) serve(ctx context.Context, take func(*ricloud.Event) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	events := make(chan *ricloud.Event)
	handler, err := ricloud.NewWebhookHandler(func(delivery context.Context, e *ricloud.Event) error {
		select {
		case events <- e:
			return nil
		case <-delivery.Done():
			return delivery.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.address)
	if err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	defer server.Close() //nolint:errcheck // nothing is in progress that matters
	go func() { stop(server.Serve(listener)) }()
	go func() {
		if err := r.ensure(ctx, handler); err != nil {
			stop(err)
		}
	}()
	for {
		select {
		case event := <-events:
			if err := take(event); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ensure makes the public URL the webhook config of the key.
func (r *receiver) ensure(ctx context.Context, handler *ricloud.WebhookHandler) error {
	config, err := r.client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL: r.publicURL, BeforeTest: handler.AddSecrets, MakeKeyDefault: true,
	})
	if err != nil {
		return err
	}
	r.app.sayf("The API delivers to %s (webhook config %s).\n", config.URL, config.ID)
	if r.begun != nil {
		r.begun()
	}
	return nil
}

func (a *app) eventsTailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tail", Short: "Print events as they happen", Args: cobra.NoArgs,
		Example: "  ricloud events tail --events poll.completed,task.failed\n" +
			"  ricloud events tail --since 1h --jq .data.id",
	}
	r := a.receiverFlags(cmd)
	r.begun = func() {}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := r.open(cmd); err != nil {
			return err
		}
		return r.run(cmd.Context(), func(event *ricloud.Event) error {
			return a.printNow(resourceNamed("events"), []byte(event.Body))
		})
	}
	return cmd
}

// printNow prints an item without waiting for the end of the list.
func (a *app) printNow(kind *resource, item any) error {
	if err := a.printItem(kind, item); err != nil {
		return err
	}
	return a.printer.flushRows()
}

// receiverFlags adds what tail and listen share to cmd.
func (a *app) receiverFlags(cmd *cobra.Command) *eventFlags {
	f := &eventFlags{receiver: receiver{app: a}}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.names, "events", nil, "only events with these `names`")
	flags.StringVar(&f.from, "since", "", "begin with the events after this `moment`")
	_ = cmd.RegisterFlagCompletionFunc("events", fixed(eventNames()...))
	return f
}

// eventFlags are the flags of a receiver.
type eventFlags struct {
	receiver

	from string
}

// open reads the flags and makes the client.
func (f *eventFlags) open(cmd *cobra.Command) (err error) {
	if f.since, err = moment(f.from); err != nil {
		return usageError(cmd, fmt.Errorf("--since: %w", err))
	}
	for _, name := range f.names {
		if err := oneOf(name, eventNames()); err != nil {
			f.app.sayf("--events %s: this is no event that is known: %s\n", oneLine(name), err)
		}
	}
	// Watch reads less often while nothing happens, and a person is waiting.
	f.client, err = f.app.client(ricloud.WithPolling(time.Second, listenInterval),
		ricloud.WithHooks(&firstLook{seen: f.begun, missed: f.notYet}))
	f.command = again(cmd, nil, "since")
	from := f.since
	if from.IsZero() {
		from = now().Truncate(time.Second)
	}
	f.continueFrom(from)
	return err
}

// notYet tells of the first failure to read the record: reading goes on, which may take long.
func (f *eventFlags) notYet(err error) {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		f.app.sayf("The events cannot be read: %s. This goes on trying.\n", oneLine(err.Error()))
	}
}

// listenInterval is how often the record of events is read when nothing happens.
const listenInterval = 2 * time.Second

func (a *app) listenCommand() *cobra.Command {
	var f forwarding
	var once bool
	cmd := &cobra.Command{
		Use: "listen", Short: "Receive events on this machine, without a tunnel",
		Long: `Receive events on this machine. The API's record of events is read, so nothing on the
internet needs to reach this machine. With --forward-to, each event is signed as the API signs
it and posted to URL/EVENT-ID, and the receiver's answer is shown.

The signature is made with the secret of your webhook config. If you have no webhook config, it is
made with a secret that ricloud keeps in a file of yours; the command says where it is.

If this machine has a public URL, or a tunnel does, give it as --public-url: the API then delivers
the events to it, and this command receives them on --addr.`,
		Example: `  ricloud listen
  ricloud listen --forward-to http://127.0.0.1:8080/webhooks --events poll.completed
  ricloud listen --forward-to http://127.0.0.1:8080/webhooks --sandbox
  ricloud listen --public-url https://abcd.example.com/webhooks --addr 127.0.0.1:8080`,
		Args: cobra.NoArgs,
	}
	r := a.receiverFlags(cmd)
	f.flags(cmd, "post each event to this `URL`")
	cmd.Flags().BoolVar(&once, "once", false, "end after the first event")
	cmd.Flags().StringVar(&r.publicURL, "public-url", "",
		"let the API deliver events to this `URL`, which leads to --addr")
	cmd.Flags().StringVar(&r.address, "addr", "127.0.0.1:8080",
		"receive deliveries to --public-url on this `address`")
	cmd.MarkFlagsMutuallyExclusive("public-url", "since")
	r.begun = func() {
		a.sayf("Listening. Ctrl-C ends it. Polls make events: %s\n",
			a.command("fetch", "SESSION", "--data", "callkit.calls"))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := r.open(cmd); err != nil {
			return err
		}
		to, err := f.open(cmd.Context(), a, r.client)
		if err != nil {
			return err
		}
		l := listening{app: a, to: to, once: once}
		err = r.run(cmd.Context(), func(event *ricloud.Event) error {
			return l.take(cmd.Context(), event)
		})
		switch {
		case !errors.Is(err, errOnce):
			return err
		case l.failing:
			return &advised{errors.New("the receiver did not take the event"), l.missed()}
		}
		return nil
	}
	return cmd
}

// listening prints events, or the receiver's answers to them.
type listening struct {
	app     *app
	to      *forwarder // nil: nothing is forwarded
	once    bool
	missing bool // the receiver did not answer the last event
	failing bool // the receiver did not take the last event
}

func (l *listening) take(ctx context.Context, event *ricloud.Event) error {
	kind, item := resourceNamed("events"), any([]byte(event.Body))
	switch {
	case l.to != nil && l.app.dryRun:
		kind, item = nil, l.to.show(event)
	case l.to != nil:
		d := l.to.deliver(ctx, event)
		if d.Status == 0 && ctx.Err() != nil {
			return context.Cause(ctx) // the event comes again when this continues
		}
		kind, item = deliveries(), d
		if d.Status == 0 && !l.missing && !l.once {
			defer l.app.sayf("%s\n", l.missed())
		}
		l.missing, l.failing = d.Status == 0, d.Status/100 != 2
	}
	if err := l.app.printNow(kind, item); err != nil || !l.once {
		return err
	}
	return errOnce
}

// missed says what to do about a receiver that took no event.
func (l *listening) missed() string {
	return receiverMissing(l.to) + "; events that it missed: " +
		l.app.command("events", "replay", "--forward-to", l.to.url)
}

var errOnce = errors.New("one event was enough")

// eventNames returns the names of the events that are known.
func eventNames() []string {
	return []string{
		ricloud.EventSessionExpired, ricloud.EventPollCreated, ricloud.EventPollCompleted,
		ricloud.EventTaskCreated, ricloud.EventTaskSucceeded, ricloud.EventTaskFailed,
		ricloud.EventWebhookConfigTest,
	}
}
