package ingest

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	maxSteps   = 16               // at a time
	eventsBack = 10 * time.Minute // how far a new leader looks back

	// A create is given up after createTimeout, and nobody looks for what it made
	// before settleTime has passed since it was begun. So the process that
	// begun it cannot send it any more when another looks.
	createTimeout = 20 * time.Second
	settleTime    = 30 * time.Second
	// In a folder, the process that has begun it is known to be gone.
	settleAlone = 10 * time.Second

	behindWait = 10 * time.Millisecond // between looks whether the watch has caught up
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
	jobs      map[string]map[string]*jobState // by account and poll
	ready     [classes][]*item
	later     timers
	running   int
	events    time.Time           // when the last one arrived
	forgotten map[ricloud.ID]bool // polls of subscriptions that hold nothing to handle
	wake      chan struct{}
	synced    bool
	settle    time.Duration
}

// classes of steps; those nearer to the end go first.
const (
	finishing = iota
	looking
	beginning
	classes
)

// item is what the leader keeps in memory of an account.
type item struct {
	key      string // escaped
	state    State
	revision uint64
	due      instant
	begun    instant
	since    instant // when its session or poll was made
	session  ricloud.ID
	poll     ricloud.ID
	sub      ricloud.ID

	busy    bool
	queued  bool
	written uint64  // the revision that its last step wrote
	when    instant // in later
	seen    *seen   // nil: nothing
}

// instant is a time in a third of the space: nanoseconds since 1970, 0 is none.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixNano())
}

// news returns what was seen of an account, to add to.
func (it *item) news() *seen {
	if it.seen == nil {
		it.seen = new(seen)
	}
	return it.seen
}

// seen is what was learned about an account since its last step.
type seen struct {
	session *ricloud.Session
	polls   []*ricloud.Poll
	closed  bool // all its jobs are done and acknowledged
	code    *codeGiven
}

// codeGiven is a code on its way to a login. It is in memory alone.
type codeGiven struct {
	code ricloud.Secret
	used chan error
}

// lead does the work of the leader until begin ends, or until it fails: when the
// lease is lost, or the store.
func (r *runner) lead(begin, work context.Context, held *lease) (failed bool) {
	l := &leader{
		runner: r, lease: held, items: map[string]*item{}, sessions: map[ricloud.ID]*item{},
		polls: map[ricloud.ID]*item{},
		subs:  map[ricloud.ID]*item{}, jobs: map[string]map[string]*jobState{}, wake: make(chan struct{},
			1),
		forgotten: map[ricloud.ID]bool{},
	}
	l.acks, l.settle = newAcker(l), settleTime
	if r.cfg.Dir != "" {
		l.settle = settleAlone
	}
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
		return l.store.Watch(ctx, accountPrefix, l.observeRecord)
	})
	follow(func(ctx context.Context) error { return l.store.Watch(ctx, workPrefix, l.observeJob) })
	follow(func(ctx context.Context) error {
		return l.followEvents(ctx, time.Now().Add(-eventsBack), l.observeEvent)
	})
	follow(func(ctx context.Context) error {
		return l.store.Answer(ctx, codeSubject, func(data []byte) []byte { return l.takeCode(ctx, data) })
	})
	others.Go(func() { l.readLoop(stepping) })
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
			cancel(errLeaseLost)
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

func (l *leader) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// observeRecord takes over what the store says of an account.
func (l *leader) observeRecord(entry store.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry.Key == "" {
		l.synced = true
		l.wakeUp()
		return
	}
	key := strings.TrimPrefix(entry.Key, accountPrefix)
	it := l.items[key]
	if it == nil {
		it = &item{key: key}
		l.items[key] = it
	}
	l.unlink(it)
	if entry.Value == nil {
		delete(l.items, key)
		return
	}
	var r brief
	if err := json.Unmarshal(entry.Value, &r); err != nil {
		return // of a newer version: its processes know what to do
	}
	it.revision, it.state, it.due, it.begun = entry.Revision, known(r.State), instantOf(r.Due),
		instantOf(r.Begun)
	it.session, it.poll, it.sub = r.Session, r.Poll, r.Subscription
	if n := len(r.History); n > 0 {
		it.since = instantOf(r.History[n-1].Time)
	}
	l.link(it)
	l.schedule(it)
}

// brief is what the leader keeps in memory of a record. To decode a hundred thousand whole records
// would take three times the memory that is kept.
type brief struct {
	State        State      `json:"state"`
	Session      ricloud.ID `json:"session"`
	Poll         ricloud.ID `json:"poll"`
	Subscription ricloud.ID `json:"subscription"`
	Begun        time.Time  `json:"begun"`
	Due          time.Time  `json:"due"`
	History      []struct {
		Time time.Time `json:"time"`
	} `json:"history"`
}

// known returns the constant of a state, so that a hundred thousand items share it.
func known(s State) State {
	for _, k := range []State{
		Submitted, LoggingIn, Connecting, CodeNeeded, Connected, Requesting, Polling, Subscribed,
		Handling, Done, Dead,
	} {
		if s == k {
			return k
		}
	}
	return s
}

func (l *leader) unlink(it *item) {
	delete(l.sessions, it.session)
	delete(l.polls, it.poll)
	delete(l.subs, it.sub)
}

func (l *leader) link(it *item) {
	switch it.state {
	case Connecting:
		l.sessions[it.session] = it
	case Polling:
		l.polls[it.poll] = it
	case Subscribed:
		l.subs[it.sub] = it
	case Done, Dead: // no more events are expected
		it.session, it.poll, it.sub = "", "", ""
		it.seen = nil
	default:
	}
}

// next says when an account's next step may be made, and in which class.
func (l *leader) next(it *item) (when instant, class int, ok bool) {
	var s seen
	if it.seen != nil {
		s = *it.seen
	}
	switch it.state {
	case Submitted:
		return it.due, beginning, true
	case LoggingIn, Requesting:
		when = it.due
		if when == 0 {
			when = it.begun + instant(l.settle)
		}
		return when, looking, true
	case Connecting:
		return it.due, finishing, s.session != nil
	case CodeNeeded:
		return it.due, looking, s.code != nil
	case Connected:
		return it.due, finishing, true
	case Polling:
		return it.due, finishing, len(s.polls) > 0
	case Subscribed:
		return it.due, finishing, len(s.polls) > 0 || s.closed
	case Handling:
		return it.due, finishing, s.closed
	case Done, Dead:
	}
	return 0, 0, false
}

// schedule puts an account where its next step is found. l.mu is held.
func (l *leader) schedule(it *item) {
	// then the watch has yet to bring what was written
	if it.busy || it.queued || it.revision < it.written {
		return
	}
	when, class, ok := l.next(it)
	switch {
	case !ok:
		it.when = 0
	case when <= instantOf(time.Now()):
		it.queued = true
		l.ready[class] = append(l.ready[class], it)
		l.wakeUp()
	case it.when != when:
		it.when = when
		heap.Push(&l.later, timed{when, it})
		l.wakeUp()
	}
}

// dispatch makes steps until begin ends, and then waits for those it made.
func (l *leader) dispatch(begin, ctx context.Context) {
	var steps sync.WaitGroup
	defer steps.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for begin.Err() == nil {
		it, s, wait := l.pick()
		if it != nil {
			steps.Go(func() {
				written := l.step(ctx, it, s)
				l.mu.Lock()
				it.busy, it.written = false, max(it.written, written)
				l.running--
				l.schedule(it)
				l.mu.Unlock()
				l.wakeUp()
			})
			continue
		}
		if timer.Stop(); wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-l.wake:
		case <-begin.Done():
		}
	}
}

// pick returns an account whose step may be made now, or how long to wait.
func (l *leader) pick() (*item, seen, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := instantOf(time.Now())
	for len(l.later) > 0 && l.later[0].when <= now {
		t, _ := heap.Pop(&l.later).(timed)
		if t.item.when == t.when {
			t.item.when = 0
			l.schedule(t.item)
		}
	}
	for class := range l.ready {
		for len(l.ready[class]) > 0 && l.running < maxSteps && l.synced {
			it := l.ready[class][0]
			l.ready[class] = l.ready[class][1:]
			it.queued = false
			when, _, ok := l.next(it)
			if it.busy || it.revision < it.written || !ok || when > now {
				l.schedule(it)
				continue
			}
			it.busy = true
			l.running++
			s := *it.news()
			it.seen = nil
			return it, s, 0
		}
	}
	if len(l.later) > 0 {
		return nil, seen{}, max(time.Duration(l.later[0].when-now), time.Millisecond)
	}
	return nil, seen{}, 0
}

// observeSession takes over that a session has ended its beginning.
func (l *leader) observeSession(session *ricloud.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.sessions[session.ID]
	if it != nil && session.State.Ended() && it.news().session == nil {
		it.seen.session = session
		l.schedule(it)
	}
}

// observePoll takes over that a poll has ended.
func (l *leader) observePoll(poll *ricloud.Poll) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.polls[poll.ID]
	if it == nil && poll.Subscription != "" {
		it = l.subs[poll.Subscription]
	}
	if it == nil || !poll.State.Ended() ||
		slices.ContainsFunc(it.news().polls, func(p *ricloud.Poll) bool { return p.ID == poll.ID }) {
		return
	}
	poll.Results.Data = unsigned(poll.Results.Data)
	it.seen.polls = append(it.seen.polls, poll)
	l.schedule(it)
}

// observeEvent takes over what an event says. It may be old, or come twice.
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

// takeCode gives a code to the account that waits for it, and returns why not,
// or nothing once a login was made with it.
func (l *leader) takeCode(ctx context.Context, data []byte) []byte {
	var q codeQuestion
	if err := json.Unmarshal(data, &q); err != nil {
		return []byte("the question cannot be read")
	}
	given := &codeGiven{ricloud.NewSecret(q.Code), make(chan error, 1)}
	for began := time.Now(); l.isBehind(&q) && time.Since(began) < l.cfg.lease; {
		if sleep(ctx, behindWait) != nil {
			break
		}
	}
	l.mu.Lock()
	it := l.items[escape(q.Key)]
	switch {
	case it == nil:
		l.mu.Unlock()
		return []byte("no such account: " + q.Key)
	case it.state != CodeNeeded || it.busy || it.news().code != nil:
		state := it.state
		l.mu.Unlock()
		return []byte(q.Key + " is " + string(state) + ": no code is wanted now")
	}
	it.seen.code = given
	l.schedule(it)
	l.mu.Unlock()
	select {
	case err := <-given.used:
		if err != nil {
			return []byte(err.Error())
		}
		return nil
	case <-ctx.Done():
		return []byte("this process stops; the code may not have been used: look at the account's state")
	}
}

// isBehind reports whether the leader has yet to learn that an account asks for a code.
func (l *leader) isBehind(q *codeQuestion) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.items[escape(q.Key)]
	return it == nil || it.revision < q.Revision || it.busy
}

// timers is a heap of accounts by when their next step may be made.
type timers []timed

type timed struct {
	when instant
	item *item
}

func (t *timers) Len() int           { return len(*t) }
func (t *timers) Less(i, j int) bool { return (*t)[i].when < (*t)[j].when }
func (t *timers) Swap(i, j int)      { (*t)[i], (*t)[j] = (*t)[j], (*t)[i] }
func (t *timers) Push(x any) {
	if v, ok := x.(timed); ok {
		*t = append(*t, v)
	}
}

func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
