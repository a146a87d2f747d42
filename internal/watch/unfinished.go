package watch

import (
	"fmt"
	"time"
)

// Unfinished returns the error of a wait that ends because of cause, after a time,
// before its resource has ended: what is known of the resource, and what kept the
// wait from knowing more. It wraps cause and the errors that it names, in the words
// of text.
func (w *Wait[R]) Unfinished(cause error, after time.Duration, text func(error) string) error {
	state := "not read yet"
	if w.last != nil {
		state = "still " + w.hub.source.Status(w.last).State
	}
	e := &unfinishedError{causes: []error{cause}}
	e.text = fmt.Sprintf("%s is %s after %s: %v",
		w.entry.id, state, after.Round(time.Millisecond), cause)
	add := func(what string, err error) {
		if err != nil {
			e.text += "; " + what + ": " + text(err)
			e.causes = append(e.causes, err)
		}
	}
	failure, refusal := w.trouble()
	add("the last read failed", failure)
	add("the key may not list, so each wait needs requests of its own", refusal)
	return e
}

// trouble returns what keeps the wait from knowing more: the failure of the last
// read, and why lists are not permitted. Both may be nil.
func (w *Wait[R]) trouble() (failure, refusal error) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	failure = w.hub.outage.err
	if w.entry.failing != nil {
		failure = w.entry.failing.err
	}
	return failure, w.hub.refusal
}

// unfinishedError is a text with several causes.
type unfinishedError struct {
	text   string
	causes []error
}

// Error returns the text.
func (e *unfinishedError) Error() string { return e.text }

// Unwrap returns the causes.
func (e *unfinishedError) Unwrap() []error { return e.causes }
