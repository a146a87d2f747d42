package ingest

import (
	"context"
	"errors"
	"log/slog"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

const (
	stretch      = 6    // how much more rarely it reads while events arrive
	maxPage      = 1000 // resources a list page holds at most
	maxPages     = 200  // that one reading takes of a list
	maxPageBytes = 8 << 20
	maxGets      = 5  // of resources that no list shows, in one reading
	staleStretch = 20 // readings between two looks at what a list shows unchanged
)

// readLoop reads one of the lists of sessions and polls for all, as often as needed, until ctx
// ends.
func (l *leader) readLoop(
	ctx context.Context, read func(context.Context, *pageSize) error, of ...map[ricloud.ID]*item,
) {
	size := pageSize{max: maxPage}
	for last := (time.Time{}); ; {
		if wait := time.Until(last.Add(l.readEvery(of...))); wait > 0 {
			if sleep(ctx, min(wait, l.cfg.ReadEvery)) != nil {
				return
			}
			continue
		}
		last = time.Now()
		err := read(background(ctx), &size)
		if errors.Is(err, ricloud.ErrUnauthorized) {
			l.fatal(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			l.log(ctx, "reading failed", slog.Any("error", err))
		}
	}
}

// readEvery says how often to read a list: more rarely while events arrive, and where every wait
// has lasted long. A wait whose event was lost then ends late by a sixth of its time, and costs no
// more requests than others.
func (l *leader) readEvery(of ...map[ricloud.ID]*item) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, most := time.Now(), l.cfg.ReadEvery*stretch
	if now.Sub(l.events) < most {
		return most
	}
	age := most * stretch
	for _, waits := range of {
		for _, it := range waits {
			age = min(age, now.Sub(time.Unix(0, int64(it.since))))
		}
	}
	return max(l.cfg.ReadEvery, age/stretch)
}

// pageSize is how much of a list to ask for at a time: much, and less where
// its answers turn out large.
type pageSize struct{ max int }

func (p *pageSize) of(wanted int) int { return min(p.max, max(wanted*2, 20)) }

func (p *pageSize) learn(items, bytes int, err error) {
	switch {
	case err != nil:
		p.max = max(p.max/2, 10)
	case bytes > maxPageBytes && items > 0:
		p.max = max(items*maxPageBytes/bytes, 10)
	}
}

// awaited returns the ids of sessions or polls that are waited for.
func (l *leader) awaited(of map[ricloud.ID]*item) (ids map[ricloud.ID]bool, oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids = map[ricloud.ID]bool{}
	for id, it := range of {
		ids[id] = true
		if since := time.Unix(0, int64(it.since)); oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
	}
	return ids, oldest
}

func (l *leader) readSessions(ctx context.Context, size *pageSize) error {
	wanted, oldest := l.awaited(l.sessions)
	_, err := walk(oldest, size, func() int { return len(wanted) }, l.sessionList(ctx),
		func(s *ricloud.Session) (ricloud.ID, time.Time) {
			l.observeSession(s)
			delete(wanted, s.ID)
			return s.ID, s.DateCreated
		})
	if err != nil {
		return err
	}
	gets := 0
	for id := range wanted { // that no page has shown
		if gets++; gets > maxGets {
			break
		}
		s, err := l.client.Sessions.Get(ctx, id)
		switch {
		case isGone(err):
			l.observeSession(&ricloud.Session{ID: id, State: ricloud.SessionExpired, Error: "not-found"})
		case err != nil:
			return err
		default:
			l.observeSession(s)
		}
	}
	return l.lookAtOldest(l.sessions, &l.sessionLook, func(id ricloud.ID) (bool, error) {
		s, err := l.client.Sessions.Get(ctx, id)
		if err == nil {
			l.observeSession(s)
		}
		return err == nil && loginEnded(s), err
	})
}

// lookAtOldest gets the session or poll that was waited for, or not looked at, for the longest
// time: a list may lag, even for ever. It does so at every reading as long as the list turns out
// wrong, and seldom otherwise.
func (l *leader) lookAtOldest(
	of map[ricloud.ID]*item, last *time.Time, get func(ricloud.ID) (ended bool, err error),
) error {
	pause := staleStretch * l.cfg.ReadEvery
	now := time.Now()
	l.mu.Lock()
	var oldest *item
	var id ricloud.ID
	for one, it := range of {
		if !it.busy && !it.queued && (oldest == nil || it.looked() < oldest.looked()) {
			oldest, id = it, one
		}
	}
	if oldest == nil || now.Sub(*last) < pause ||
		now.Sub(time.Unix(0, int64(oldest.looked()))) < pause {
		l.mu.Unlock()
		return nil
	}
	*last, oldest.look = now, instantOf(now)
	l.mu.Unlock()
	ended, err := get(id)
	if ended {
		*last = time.Time{}
	}
	if isGone(err) {
		return nil // the list shows it
	}
	return err
}

func (l *leader) readPolls(ctx context.Context, size *pageSize) error {
	wanted, oldest := l.awaited(l.polls)
	subscribed := l.awaitSubscribed(wanted, &oldest)
	all, err := walk(oldest, size, func() int { return len(wanted) }, l.pollList(ctx),
		func(p *ricloud.Poll) (ricloud.ID, time.Time) {
			l.sharePoll(p)
			delete(wanted, p.ID)
			return p.ID, p.DateCreated
		})
	if err != nil {
		return err
	}
	switch {
	case !subscribed:
	case all:
		l.mu.Lock()
		l.readFrom = l.readNext
		l.mu.Unlock()
	default:
		l.log(ctx, "not all polls of subscriptions were read: there are too many")
	}
	delete(wanted, anyPoll)
	gets := 0
	for id := range wanted {
		if gets++; gets > maxGets {
			break
		}
		p, err := l.client.Polls.Get(ctx, id)
		switch {
		case isGone(err):
			l.forgetPoll(id) // if it is a subscription's
			p = &ricloud.Poll{ID: id, State: ricloud.PollFailed, Error: "not-found"}
			p.Results.Data = []ricloud.Result{}
		case err != nil:
			return err
		}
		l.sharePoll(p)
	}
	return l.lookAtOldest(l.polls, &l.pollLook, func(id ricloud.ID) (bool, error) {
		p, err := l.client.Polls.Get(ctx, id)
		if err == nil {
			l.sharePoll(p)
		}
		return err == nil && hasEnded(p), err
	})
}

// pendingPoll is a poll of a subscription that was seen, and whose results are not being handled
// yet.
type pendingPoll struct {
	sub     ricloud.ID
	created instant
}

// anyPoll stands for a poll of a subscription, whose ID is not known, among the wanted ones.
const anyPoll ricloud.ID = "\x00any"

// awaitSubscribed adds the polls of subscriptions to those that are wanted: the ones that run, and
// all since the last reading. It reports whether anything is subscribed.
func (l *leader) awaitSubscribed(wanted map[ricloud.ID]bool, oldest *time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readNext = instantOf(time.Now())
	back := func(to instant) {
		if t := time.Unix(0, int64(to)); oldest.IsZero() || t.Before(*oldest) {
			*oldest = t
		}
	}
	for id, p := range l.pending {
		if l.subs[p.sub] == nil {
			delete(l.pending, id)
			continue
		}
		wanted[id] = true
		back(p.created)
	}
	if len(l.subs) > 0 {
		wanted[anyPoll] = true
		back(l.readFrom)
	}
	return len(l.subs) > 0
}

// readSince has the polls of a subscription read since it was last. l.mu is held.
func (l *leader) readSince(it *item) {
	from := it.read
	if from == 0 { // of an older version
		from = it.since - instant(time.Hour)
	}
	l.readFrom, l.readNext = min(l.readFrom, from), min(l.readNext, from)
}

// readUntil returns since when the polls of a subscription have to be read once one of its polls is
// being handled: since its oldest poll that is not.
func (l *leader) readUntil(poll *ricloud.Poll) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, poll.ID)
	from := min(instantOf(time.Now()), l.readFrom)
	if !poll.DateCreated.IsZero() {
		from = min(from, instantOf(poll.DateCreated))
	}
	for _, p := range l.pending {
		if p.sub == poll.Subscription {
			from = min(from, p.created)
		}
	}
	return time.Unix(0, int64(from)).UTC()
}

// sharePoll hands on a poll that has ended and is waited for.
func (l *leader) sharePoll(p *ricloud.Poll) {
	l.mu.Lock()
	waited := l.polls[p.ID] != nil
	if p.Subscription != "" && l.subs[p.Subscription] != nil && !l.forgotten[p.ID] {
		waited = true
		created := p.DateCreated
		if created.IsZero() {
			created = time.Now()
		}
		l.pending[p.ID] = pendingPoll{p.Subscription, instantOf(created)}
	}
	l.mu.Unlock()
	if !waited {
		return
	}
	if hasEnded(p) {
		l.urls.add(urlsOf(p))
	}
	l.observePoll(p)
}

// isForgotten reports whether a subscription's poll holds nothing more to handle.
func (l *leader) isForgotten(id ricloud.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forgotten[id]
}

// forgetPoll notes that a subscription's poll holds nothing more to handle.
func (l *leader) forgetPoll(id ricloud.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.forgotten) > 10*maxPage {
		clear(l.forgotten)
	}
	l.forgotten[id] = true
	delete(l.pending, id)
}

// pageOf reads a page of a list.
type pageOf[T any] func(ricloud.ListParams, *ricloud.Response) (*ricloud.List[T], error)

func (l *leader) sessionList(ctx context.Context) pageOf[ricloud.Session] {
	return func(
		params ricloud.ListParams, r *ricloud.Response,
	) (*ricloud.List[ricloud.Session], error) {
		return l.client.Sessions.List(ctx, ricloud.SessionListParams{ListParams: params},
			ricloud.WithResponse(r))
	}
}

func (l *leader) pollList(ctx context.Context) pageOf[ricloud.Poll] {
	return func(params ricloud.ListParams, r *ricloud.Response) (*ricloud.List[ricloud.Poll], error) {
		return l.client.Polls.List(ctx, ricloud.PollListParams{ListParams: params},
			ricloud.WithResponse(r))
	}
}

func (l *leader) subscriptionList(ctx context.Context) pageOf[ricloud.Subscription] {
	return func(
		params ricloud.ListParams, r *ricloud.Response,
	) (*ricloud.List[ricloud.Subscription], error) {
		return l.client.Subscriptions.List(ctx, ricloud.SubscriptionListParams{ListParams: params},
			ricloud.WithResponse(r))
	}
}

// walk reads a list, newest first, until nothing more is wanted, or it has shown what is older than
// oldest. It reports whether it came so far.
func walk[T any](
	oldest time.Time, size *pageSize, wanted func() int, list pageOf[T],
	see func(*T) (ricloud.ID, time.Time),
) (all bool, err error) {
	var after ricloud.ID
	for i := range maxPages {
		n := wanted()
		if n == 0 {
			return true, nil
		}
		n <<= min(3*i, 12) // what is wanted is further back: larger pages are fewer requests
		var answer ricloud.Response
		page, err := list(ricloud.ListParams{AfterID: after, Limit: size.of(n)}, &answer)
		if err != nil {
			size.learn(0, 0, err)
			return false, err
		}
		size.learn(len(page.Data), len(answer.Body), nil)
		before := after
		older := false
		for i := range page.Data {
			id, created := see(&page.Data[i])
			after = id
			older = !created.IsZero() && created.Before(oldest.Add(-clockSkew))
		}
		if older || !page.HasMore {
			return true, nil
		}
		if after == before {
			return false, nil
		}
	}
	return false, nil
}
