package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// spinner shows that something is going on: a moving line on a terminal, a plain line per change
// elsewhere. It says nothing about work that ends within a second.
type spinner struct {
	out      io.Writer
	terminal bool

	mu   sync.Mutex
	text string
	quit chan struct{}
	done chan struct{}
}

const spinnerFrames = `|/-\`

func (a *app) spinner(text string) *spinner {
	s := &spinner{
		out: a.errs, terminal: terminal(a.errs), text: text,
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	go s.run()
	return s
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
