package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// spinner shows that something is going on: a moving line on a terminal, a plain line per change
// elsewhere. It says nothing about work that ends within a second.
type spinner struct {
	out      io.Writer
	terminal bool

	busy *atomic.Int32 // how many there are
	said *atomic.Bool  // if not nil: where there is no terminal, only the first one says something

	mu   sync.Mutex
	text string
	quit chan struct{}
	done chan struct{}
}

const spinnerFrames = `|/-\`

func (a *app) spinner(text string) *spinner { return a.begin(&spinner{text: text}) }

func (a *app) begin(s *spinner) *spinner {
	s.out, s.terminal, s.busy = a.errs, terminal(a.errs), &a.busy
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	s.busy.Add(1)
	go s.run()
	return s
}

// slowCalls is a hook that shows which host a call waits for. It is silent while the command shows
// progress of its own.
type slowCalls struct{ app *app }

// Call implements [ricloud.CallHook].
func (s slowCalls) Call(
	_ context.Context, info ricloud.CallInfo,
) (context.Context, func(ricloud.CallResult)) {
	if info.Background || s.app.busy.Load() > 0 {
		return nil, nil
	}
	host := info.Host
	if s.app.sandbox {
		host = "the sandbox"
	}
	shown := s.app.begin(&spinner{text: "waiting for " + host, said: &s.app.slow})
	return nil, func(ricloud.CallResult) { shown.stop() }
}

func (s *spinner) run() {
	defer close(s.done)
	quiet := time.NewTimer(time.Second)
	defer quiet.Stop()
	select {
	case <-s.quit:
		return
	case <-quiet.C:
	}
	if s.said != nil && !s.terminal && s.said.Swap(true) {
		<-s.quit
		return
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	began, shown := time.Now(), ""
	for frame := 0; ; frame++ {
		s.mu.Lock()
		text := s.text
		s.mu.Unlock()
		switch {
		case s.terminal:
			_, _ = fmt.Fprintf(s.out, "\r\x1b[K%c %s (%s)", spinnerFrames[frame%len(spinnerFrames)], text,
				span(time.Since(began)+time.Second))
		case text != shown:
			_, _ = fmt.Fprintln(s.out, text)
			shown = text
		}
		select {
		case <-s.quit:
			if s.terminal {
				_, _ = fmt.Fprint(s.out, "\r\x1b[K")
			}
			return
		case <-ticker.C:
		}
	}
}

// say changes the text.
func (s *spinner) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

// stop removes the line. It may be called twice.
func (s *spinner) stop() {
	s.mu.Lock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
		s.busy.Add(-1)
	}
	s.mu.Unlock()
	<-s.done
}

// pause waits, or returns why the run ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
