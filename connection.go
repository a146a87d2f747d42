package ricloud

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// connection is an open object whose silences are bounded.
type connection struct {
	object *Object
	ctx    context.Context //nolint:containedctx // ends with the connection
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

// open opens an object within the attempt timeout.
func (d *downloads) open(ctx context.Context, opener ObjectOpener, req ObjectRequest) (*connection, error) {
	c := &connection{stall: d.stallTimeout.After}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	opening := time.AfterFunc(d.openTimeout.After, func() { c.cancel(d.openTimeout) })
	var err error
	c.object, err = opener.OpenObject(c.ctx, req) //nolint:contextcheck // ctx with a limit
	opening.Stop()
	if err != nil {
		err = c.name(err)
		c.cancel(nil)
		return nil, err
	}
	c.timer = time.AfterFunc(c.stall, func() { c.cancel(d.stallTimeout) })
	c.timer.Stop()
	return c, nil
}

// Read reads within the stall timeout. The time between reads is the caller's.
func (c *connection) Read(p []byte) (int, error) {
	c.timer.Reset(c.stall)
	n, err := c.object.Body.Read(p)
	c.timer.Stop()
	if err != nil && err != io.EOF { //nolint:errorlint // an io.Reader returns io.EOF bare
		err = c.name(err)
	}
	return n, err
}

// name returns the limit that was reached in place of what it broke.
func (c *connection) name(err error) error {
	if timeout, ok := errors.AsType[*transport.Timeout](context.Cause(c.ctx)); ok {
		return timeout
	}
	return err
}

func (c *connection) close() {
	c.timer.Stop()
	c.cancel(nil)
	_ = c.object.Body.Close()
}
