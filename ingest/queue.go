package ingest

import (
	"container/heap"
	"context"
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

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
	read     instant // since when its subscription's polls are read
	check    instant // when to look whether its subscription lives
	look     instant // when its session or poll was last looked at by itself
	session  ricloud.ID
	poll     ricloud.ID
	sub      ricloud.ID

	waits   bool // for its first login: it counts in leader.waiting
	busy    bool
	queued  bool
	written uint64  // the revision that its last step wrote
	when    instant // in later
	seen    *seen   // nil: nothing
}

// looked returns since when the session or poll of an account is as the lists show it.
func (it *item) looked() instant { return max(it.since, it.look) }

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
	odd     string // a state that is not known, in words
	closed  bool   // all its jobs are done and acknowledged
	code    *codeGiven
}

const (
	maxWaiting = 10_000 // accounts that wait for their login and are kept in memory
	readChunk  = 4_000  // records
)

// observeRecord learns what the store says of an account.
func (l *leader) observeRecord(entry store.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry.Key == "" {
		l.synced = true
		l.wakeUp()
		return
	}
	var r brief
	if entry.Value == nil {
		r.State = Done // nothing more is done with it
	} else if err := json.Unmarshal(entry.Value, &r); err != nil {
		r = brief{} // of a newer version: its processes know what to do
	}
	key := strings.TrimPrefix(entry.Key, accountPrefix)
	it := l.items[key]
	switch {
	case it != nil:
		l.unlink(it)
	case r.State == Done, r.State == Dead:
		return
	case r.State == Submitted && r.Due.IsZero() && l.waiting >= l.cfg.maxWaiting:
		l.more = true
		return
	default:
		it = &item{key: strings.Clone(key)} // alone, and not as the end of the subject
		l.items[it.key] = it
	}
	clamp(&r.Due, max(lastRetry, loginPause(r.Unmade)))
	clamp(&r.Begun, 0)
	it.revision, it.state, it.due, it.begun = entry.Revision, known(r.State), instantOf(r.Due),
		instantOf(r.Begun)
	it.session, it.poll, it.sub = r.Session, r.Poll, r.Subscription
	if n := len(r.History); n > 0 {
		it.since = instantOf(r.History[n-1].Time)
	}
	it.read, it.check = instantOf(r.Read), instantOf(r.Check)
	l.link(it)
	l.schedule(it)
}

// refill reads the accounts again that were left out, when there is room for some, until ctx ends.
func (l *leader) refill(ctx context.Context) error {
	for {
		select {
		case <-l.room:
		case <-ctx.Done():
			return nil
		}
		l.mu.Lock()
		l.more = false
		l.mu.Unlock()
		err := l.each(ctx, accountPrefix, frugal(func(entry store.Entry) {
			l.mu.Lock()
			known := l.items[strings.TrimPrefix(entry.Key, accountPrefix)] != nil
			l.mu.Unlock()
			if !known {
				l.observeRecord(entry)
			}
		}))
		if err != nil {
			return err
		}
	}
}

// frugal returns fn for a reading of very many records. What a hundred thousand take while they are
// read is three times what is kept. It is collected every few thousand: 100,000 accounts then need
// 80 MB instead of 220.
func frugal(fn func(store.Entry)) func(store.Entry) {
	read := 0
	return func(entry store.Entry) {
		fn(entry)
		switch {
		case read < 0: // what comes now are changes
		case entry.Key == "":
			if read >= readChunk {
				debug.FreeOSMemory()
			}
			read = -1
		default:
			if read++; read%readChunk == 0 {
				runtime.GC()
			}
		}
	}
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
	Read         time.Time  `json:"read"`
	Check        time.Time  `json:"check"`
	Unmade       int        `json:"unmade"`
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
	if it.waits {
		it.waits = false
		if l.waiting--; l.more && l.waiting < l.cfg.maxWaiting/2 {
			signal(l.room)
		}
	}
	delete(l.sessions, it.session)
	delete(l.polls, it.poll)
	delete(l.subs, it.sub)
	delete(l.used, it.session)
}

func (l *leader) link(it *item) {
	switch it.state {
	case Submitted:
		if it.waits = it.due == 0; it.waits {
			l.waiting++
		}
	case Connecting:
		l.sessions[it.session] = it
	case Polling:
		l.polls[it.poll] = it
	case Subscribed:
		l.subs[it.sub] = it
		l.used[it.session] = it
		l.readSince(it)
		l.linkClosed(it)
	case Handling:
		l.linkClosed(it)
	case Done, Dead: // nothing more is expected; who still has the item does nothing with it
		delete(l.items, it.key)
		it.seen = nil
	default:
	}
}

// linkClosed tells an account what was acknowledged before it was known.
func (l *leader) linkClosed(it *item) {
	if l.closed[it.key] {
		delete(l.closed, it.key)
		it.news().closed = true
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
		// Those who look at the same time share a reading: see search.
		return (when + instant(lookAgain) - 1) / instant(lookAgain) * instant(lookAgain), looking, true
	case Connecting:
		return it.due, finishing, s.session != nil || s.odd != ""
	case CodeNeeded:
		return it.due, looking, s.code != nil
	case Connected:
		return it.due, finishing, true
	case Polling:
		return it.due, finishing, len(s.polls) > 0 || s.odd != ""
	case Subscribed:
		if len(s.polls) > 0 || s.closed || s.session != nil {
			return it.due, finishing, true
		}
		return max(it.due, it.check), looking, it.check != 0
	case Handling:
		return it.due, finishing, s.closed
	case Done, Dead:
	}
	return 0, 0, false
}

// schedule puts an account where its next step is found. l.mu is held.
func (l *leader) schedule(it *item) {
	// If its revision is older than what its last step wrote, the watch has yet to bring that.
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
				var written uint64
				defer func() { // also when Handlers.Step ends the goroutine
					l.mu.Lock()
					it.busy, it.written = false, max(it.written, written)
					l.running--
					l.schedule(it)
					l.mu.Unlock()
					l.wakeUp()
				}()
				written = l.step(ctx, it, s)
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
	rest := l.space.rest()
	for class := range l.ready {
		if class == beginning && rest > 0 {
			continue
		}
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
	var wait time.Duration // none: until something happens
	if len(l.later) > 0 {
		wait = max(time.Duration(l.later[0].when-now), time.Millisecond)
	}
	if rest > 0 && (wait == 0 || rest < wait) {
		wait = rest
	}
	return nil, seen{}, wait
}

// timers is a heap of accounts by when their next step may be made.
type timers []timed

type timed struct {
	when instant
	item *item
}

func (t *timers) Len() int { return len(*t) }

func (t *timers) Less(i, j int) bool { return (*t)[i].when < (*t)[j].when }

func (t *timers) Swap(i, j int) { (*t)[i], (*t)[j] = (*t)[j], (*t)[i] }

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
