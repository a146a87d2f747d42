package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	maxSteps   = 16               // at a time
	eventsBack = 10 * time.Minute // how far a new leader looks back

	// A create is given up after createTimeout, and nobody looks for what it made
	// before settleTime has passed since it was begun. So when another process
	// looks, the one that began the create can no longer send it.
	createTimeout = 20 * time.Second
	settleTime    = 30 * time.Second
	// In a folder, the process that began it is known to be gone.
	settleAlone = 10 * time.Second
)

var errLeaseLost = errors.New("another process leads")

// leader is the one process that talks to the API for all.
type leader struct {
	*runner

	lease *lease
	acks  *acker
	onEnd func(func()) (stop func() bool) // calls a function when no more is begun

	mu        sync.Mutex
	items     map[string]*item // by the escaped key
	sessions  map[ricloud.ID]*item
	polls     map[ricloud.ID]*item // polls and subscriptions
	subs      map[ricloud.ID]*item
	used      map[ricloud.ID]*item // the sessions of subscriptions
	pending   map[ricloud.ID]pendingPoll
	readFrom  instant                         // since when the polls of subscriptions have to be read
	readNext  instant                         // and by the reading after the one that is under way
	jobs      map[string]map[string]*jobState // by account and poll
	procs     processes
	offered   []*jobState // jobs that may be handled now
	askers    []*asker    // processes with room for a job
	told      map[string]told
	closed    map[string]bool // accounts whose jobs are done, and which are not known yet
	waiting   int             // accounts that wait for their first login
	more      bool            // others do, and are not in memory
	room      chan struct{}   // there is room for them now
	sweepAt   time.Time       // when to look at all jobs: zero if there is nothing to wait for
	sweepWake chan struct{}   // sweepAt is earlier now
	ready     [classes][]*item
	later     timers
	running   int
	events    time.Time // when the last one arrived
	// When a session and a poll were last looked at, or the leader began. Of the loops that read them.
	sessionLook, pollLook time.Time
	forgotten             map[ricloud.ID]bool // polls of subscriptions that hold nothing to handle
	wake                  chan struct{}
	synced                bool
	settle                time.Duration

	newSessions      *search[ricloud.Session]
	newPolls         *search[ricloud.Poll]
	newSubscriptions *search[ricloud.Subscription]
}

func newLeader(r *runner, held *lease) *leader {
	now := time.Now()
	l := &leader{
		runner: r, lease: held, settle: settleTime, sessionLook: now, pollLook: now,
		items: map[string]*item{}, sessions: map[ricloud.ID]*item{}, polls: map[ricloud.ID]*item{},
		subs: map[ricloud.ID]*item{}, used: map[ricloud.ID]*item{},
		pending: map[ricloud.ID]pendingPoll{}, readFrom: instantOf(now),
		jobs:  map[string]map[string]*jobState{},
		procs: processes{alive: map[string]bool{}, missing: map[string]*missing{}},
		told:  map[string]told{}, closed: map[string]bool{}, forgotten: map[ricloud.ID]bool{},
		wake: make(chan struct{}, 1), sweepWake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		newSessions: newSearch[ricloud.Session](), newPolls: newSearch[ricloud.Poll](),
		newSubscriptions: newSearch[ricloud.Subscription](),
	}
	l.acks = newAcker(l)
	if r.cfg.Dir != "" {
		l.settle = settleAlone
	}
	return l
}

// lead does the work of the leader until begin ends, or until it fails: when the
// lease is lost, or the store.
func (r *runner) lead(begin, work context.Context, held *lease) (failed bool) {
	l := newLeader(r, held)
	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	var followers, others sync.WaitGroup
	follow := func(fn func(context.Context) error) {
		followers.Go(func() {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				cancel(err) // lead again: what was missed is read again
			}
		})
	}
	stepping, stop := context.WithCancel(begin)
	defer stop()
	unhook := context.AfterFunc(ctx, stop)
	defer unhook()
	l.onEnd = func(f func()) func() bool { return context.AfterFunc(stepping, f) }
	followers.Go(func() { l.keepLease(ctx, cancel) })
	follow(func(ctx context.Context) error {
		return l.store.Watch(ctx, accountPrefix, frugal(contained(ctx, l, "a record", l.observeRecord)))
	})
	follow(l.refill)
	follow(func(ctx context.Context) error {
		return l.store.Watch(ctx, workPrefix, contained(ctx, l, "a job", l.observeJob))
	})
	follow(func(ctx context.Context) error {
		return l.followEvents(ctx, time.Now().Add(-eventsBack), contained(ctx, l, "an event",
			l.observeEvent))
	})
	follow(func(ctx context.Context) error {
		return l.store.Answer(ctx, codeSubject, func(data []byte) []byte { return l.takeCode(ctx, data) })
	})
	follow(func(ctx context.Context) error { return l.listenURLs(ctx) })
	follow(func(ctx context.Context) error {
		return l.store.Watch(ctx, processPrefix, l.observeProcess)
	})
	follow(func(context.Context) error {
		return l.store.Answer(stepping, workSubject,
			func(data []byte) []byte { return l.answerAsker(stepping, data) })
	})
	others.Go(func() { l.sweepLoop(stepping) })
	others.Go(func() { l.askMissing(stepping) })
	others.Go(func() { l.readLoop(stepping, l.readSessions, l.sessions) })
	others.Go(func() { l.readLoop(stepping, l.readPolls, l.polls, l.subs) })
	others.Go(func() { l.acks.run(stepping, ctx) })
	l.dispatch(stepping, ctx)
	others.Wait()
	cause := context.Cause(ctx)
	cancel(nil)
	followers.Wait()
	if failed = cause != nil && work.Err() == nil; failed {
		r.log(work, "no longer leading", slog.Any("error", cause))
	}
	return failed
}

// contained returns fn so that what is stored, however odd, cannot end the process by a panic.
func contained[T any](ctx context.Context, l *leader, what string, fn func(T)) func(T) {
	return func(v T) { l.contain(ctx, what, func() { fn(v) }) }
}

// keepLease renews the lease until ctx ends, and ends ctx when it is lost.
func (l *leader) keepLease(ctx context.Context, cancel context.CancelCauseFunc) {
	for sleep(ctx, l.cfg.lease/4) == nil {
		l.mu.Lock()
		held := *l.lease
		l.mu.Unlock()
		ok := held.renew(ctx, l.self())
		l.mu.Lock()
		*l.lease = held
		l.mu.Unlock()
		if !ok {
			cause := errLeaseLost
			if errors.Is(held.err, store.ErrFull) {
				l.noteFull(ctx, held.err)
				cause = held.err
			}
			cancel(cause)
			return
		}
	}
}

func (l *leader) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease.held()
}

// isQuiet reports whether no account is on its way to its results.
func (l *leader) isQuiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sessions)+len(l.polls)+l.running+len(l.ready[beginning]) == 0
}

func (l *leader) wakeUp() { signal(l.wake) }

// observeSession learns that the login of a session has ended, or is in a state that is not known.
func (l *leader) observeSession(session *ricloud.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.sessions[session.ID]
	if it != nil && session.State != ricloud.SessionPending && !loginEnded(session) {
		l.observeOdd(it, "session", session.ID, string(session.State))
	}
	if it == nil && session.State != ricloud.SessionActive {
		it = l.used[session.ID]
	}
	if it != nil && loginEnded(session) && it.news().session == nil {
		it.seen.session = session
		l.schedule(it)
	}
}

// loginEnded reports whether the login of a session has ended. In a state that is not known, the
// date of its expiry tells.
func loginEnded(s *ricloud.Session) bool {
	return s.State.Ended() || s.State != ricloud.SessionPending && !s.DateExpired.IsZero()
}

// observeOdd learns of a state that is not known. l.mu is held.
func (l *leader) observeOdd(it *item, kind string, id ricloud.ID, state string) {
	it.news().odd = fmt.Sprintf("%s %s is in the state %q, which is not known", kind, id, state)
	l.schedule(it)
}

// observePoll learns that a poll has ended, or is in a state that is not known.
func (l *leader) observePoll(poll *ricloud.Poll) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.polls[poll.ID]
	if it != nil && !isKnownPoll(poll.State) && !hasEnded(poll) {
		l.observeOdd(it, "poll", poll.ID, string(poll.State))
	}
	if it == nil && poll.Subscription != "" {
		it = l.subs[poll.Subscription]
	}
	if it == nil || !hasEnded(poll) ||
		slices.ContainsFunc(it.news().polls, func(p *ricloud.Poll) bool { return p.ID == poll.ID }) {
		return
	}
	poll.Results.Data = unsigned(poll.Results.Data)
	it.seen.polls = append(it.seen.polls, poll)
	l.schedule(it)
}

// observeEvent learns what an event says. It may be old, or come twice.
func (l *leader) observeEvent(event *ricloud.Event) {
	l.mu.Lock()
	l.events = time.Now()
	l.mu.Unlock()
	resource, _ := event.Resource() // nil if its data does not decode
	switch r := resource.(type) {
	case *ricloud.Session:
		l.observeSession(r)
	case *ricloud.Poll:
		l.observePoll(r) // its URLs were shared when it came
	case *ricloud.Task:
		// A session's creation is a task, and its end is the session's.
		if r.Poll != "" || r.Session == "" || !r.State.Ended() {
			return
		}
		s := &ricloud.Session{ID: r.Session, State: ricloud.SessionActive, Error: r.Error}
		if r.State == ricloud.TaskFailed {
			s.State = ricloud.SessionFailed
		}
		l.observeSession(s)
	}
}
