package ricloud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestWebhookHandlerTolerance(t *testing.T) {
	t.Parallel()
	h := newWebhook(t, ignore, ricloud.WithWebhookTolerance(time.Hour, 2*time.Hour))
	for ago, want := range map[time.Duration]int{
		59 * time.Minute: http.StatusOK, 61 * time.Minute: http.StatusUnauthorized,
		-119 * time.Minute: http.StatusOK, -121 * time.Minute: http.StatusUnauthorized,
	} {
		r := delivery(t, eventBody("e"+ago.String()))
		r.Header.Set(ricloud.SignatureHeader,
			sign(webhookSecret, time.Now().Add(-ago), eventBody("e"+ago.String())))
		assert.Equal(t, want, serve(h, r).Code, "signed %s ago", ago)
	}
}

func TestWebhookHandlerShedsLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWebhook(t, func(ctx context.Context, _ *ricloud.Event) error {
			<-ctx.Done()
			return ctx.Err()
		}, ricloud.WithWebhookMaxConcurrent(2), ricloud.WithWebhookTimeout(time.Minute))
		codes := make(chan int, 2)
		for _, id := range []string{"e1", "e2"} {
			go func() { codes <- serve(h, delivery(t, eventBody(id))).Code }()
		}
		synctest.Wait()
		w := serve(h, delivery(t, eventBody("e3")))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.NotEmpty(t, w.Header().Get("Retry-After"))
		assert.Equal(t, http.StatusInternalServerError, <-codes, "the limit of time ends fn's context")
		assert.Equal(t, http.StatusInternalServerError, <-codes)
	})
}

// Refusals that do not depend on the body are sent before it is read.
func TestWebhookHandlerRefusesBeforeItReads(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	busy := newWebhook(t, func(context.Context, *ricloud.Event) error {
		close(begun)
		<-release
		return nil
	}, ricloud.WithWebhookMaxConcurrent(1))
	var handling sync.WaitGroup
	handling.Go(func() { serve(busy, delivery(t, eventBody("slow"))) })
	<-begun
	defer func() { close(release); handling.Wait() }()

	unready, err := ricloud.NewWebhookHandler(ignore)
	require.NoError(t, err)
	ready := newWebhook(t, ignore, ricloud.WithWebhookMaxBody(1000))
	for name, tt := range map[string]struct {
		handler http.Handler
		change  func(*http.Request)
		want    int
	}{
		"method": {
			handler: ready,
			change:  func(r *http.Request) { r.Method = http.MethodGet },
			want:    405,
		},
		"length": {
			handler: ready,
			change:  func(r *http.Request) { r.ContentLength = 1001 },
			want:    413,
		},
		"missing signature": {
			handler: ready,
			change:  func(r *http.Request) { r.Header.Del(ricloud.SignatureHeader) },
			want:    401,
		},
		"empty signature": {handler: ready, change: func(r *http.Request) {
			r.Header.Set(ricloud.SignatureHeader, "")
		}, want: 401},
		"malformed signature": {handler: ready, change: func(r *http.Request) {
			r.Header.Set(ricloud.SignatureHeader, "t=1")
		}, want: 401},
		"no secret": {handler: unready, change: nil, want: 503},
		"busy":      {handler: busy, change: nil, want: 503},
	} {
		r := delivery(t, eventBody("e1"))
		r.Body = io.NopCloser(unreadable{t})
		if tt.change != nil {
			tt.change(r)
		}
		assert.Equal(t, tt.want, serve(tt.handler, r).Code, name)
	}
}

// unreadable fails the test if it is read.
type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

// Bodies that never end use a bounded amount of memory, leave room for signed deliveries, and are
// cut off in the end.
//
//nolint:paralleltest // it measures memory
func TestWebhookHandlerBoundsUnfinishedBodies(t *testing.T) {
	const senders, maxBody = 100, 1 << 20
	h := newWebhook(t, ignore, ricloud.WithWebhookMaxConcurrent(4),
		ricloud.WithWebhookMaxBody(maxBody))
	sent := make([]byte, maxBody-1) // all but the last byte
	before := heapInUse()
	synctest.Test(t, func(t *testing.T) {
		codes := make(chan int, senders)
		var pipes []*io.PipeWriter
		for range senders {
			body, sender := io.Pipe()
			pipes = append(pipes, sender)
			r := delivery(t, nil)
			r.Header.Set(ricloud.SignatureHeader, sign("wrong", time.Now(), nil))
			r.ContentLength, r.Body = -1, body
			go func() { codes <- serve(h, r).Code }()
			go func() { _, _ = sender.Write(sent) }()
		}
		synctest.Wait()
		assert.Less(t, heapInUse()-before, int64(8<<20), "the bodies of %d senders", senders)
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code,
			"a signed delivery gets through")
		for _, sender := range pipes {
			require.NoError(t, sender.Close())
		}
		answers := map[int]int{}
		for range senders {
			answers[<-codes]++
		}
		assert.Positive(t, answers[http.StatusServiceUnavailable], "%v", answers)
		assert.Equal(t, senders, answers[http.StatusServiceUnavailable]+answers[http.StatusUnauthorized],
			"%v", answers)
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e2"))).Code,
			"what was reserved is free again")
	})
}

// A sender that never ends its body is answered and loses its connection, also when the body is
// not read.
func TestWebhookHandlerHangsUpOnUnfinishedBodies(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		signature string
		want      int
	}{
		"unsigned": {signature: "", want: http.StatusUnauthorized},
		"signed": {
			signature: sign("secret", time.Now(), nil), want: http.StatusBadRequest,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sender, receiver := net.Pipe()
				listener := &oneConn{conns: make(chan net.Conn, 1)}
				listener.conns <- receiver
				server := &http.Server{
					Handler: newWebhook(t, ignore), ErrorLog: log.New(io.Discard, "", 0),
				}
				go func() { _ = server.Serve(listener) }()
				defer func() { assert.NoError(t, server.Close()) }()
				begun := time.Now()
				_, err := fmt.Fprintf(sender, "POST / HTTP/1.1\r\nHost: receiver.test\r\n%s: %s\r\n"+
					"Content-Length: 100\r\n\r\n{", ricloud.SignatureHeader, tt.signature)
				require.NoError(t, err)
				var answer bytes.Buffer
				_, err = answer.ReadFrom(sender) // to the end of the connection
				require.NoError(t, err)
				assert.Contains(t, answer.String(), fmt.Sprintf("HTTP/1.1 %d ", tt.want))
				assert.LessOrEqual(t, time.Since(begun), time.Minute)
			})
		})
	}
}

// oneConn is a listener of one connection.
type oneConn struct{ conns chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	close(l.conns)
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// The default limit accepts the largest known events.
func TestWebhookHandlerTakesLargeEvents(t *testing.T) {
	t.Parallel()
	padding := strings.Repeat("x", 5<<20)
	body := fmt.Appendf(nil,
		`{"id":"e1","type":"poll","action":"completed","data":{"id":"p1","padding":%q}}`, padding)
	var got *ricloud.Event
	h := newWebhook(t, func(_ context.Context, e *ricloud.Event) error { got = e; return nil })
	for _, length := range []int64{int64(len(body)), -1} {
		got = nil
		body = bytes.Replace(body, []byte(`"e1"`), fmt.Appendf(nil, `"e%d"`, length), 1)
		r := delivery(t, body)
		r.ContentLength = length
		require.Equal(t, http.StatusOK, serve(h, r).Code)
		require.NotNil(t, got)
		assert.Len(t, got.Body, len(body))
		body = bytes.Replace(body, fmt.Appendf(nil, `"e%d"`, length), []byte(`"e1"`), 1)
	}
}

// logOf returns a request that belongs to a server, and the log of that server.
func logOf(r *http.Request) (*http.Request, *bytes.Buffer) {
	var logged bytes.Buffer
	server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
	return r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, server)), &logged
}

// If the clock is wrong, the log and the answer say so.
func TestWebhookHandlerNamesTheClock(t *testing.T) {
	t.Parallel()
	for offset, want := range map[time.Duration]string{
		2 * time.Minute: `dated in the future: by 2m[01]s,` +
			` and 1m0s are allowed; this machine's clock is probably slow`,
		-20 * time.Minute: `too old: it is 20m[01]s old and 10m0s are allowed; unless .* this ` +
			`machine's clock is fast`,
	} {
		r, logged := logOf(delivery(t, eventBody("e1")))
		r.Header.Set(ricloud.SignatureHeader,
			sign(webhookSecret, time.Now().Add(offset), eventBody("e1")))
		w := serve(newWebhook(t, ignore), r)
		assert.Equal(t, http.StatusUnauthorized, w.Code)
		assert.Contains(t, w.Body.String(), "clock")
		assert.Regexp(t, want, logged.String())

		r, logged = logOf(delivery(t, eventBody("e1")))
		r.Header.Set(ricloud.SignatureHeader, sign("wrong", time.Now().Add(offset), eventBody("e1")))
		serve(newWebhook(t, ignore), r)
		assert.NotContains(t, logged.String(), "clock", "an unsigned date is not trusted")
	}
}

// By default, refusals are logged where net/http logs: each reason once a minute. Answers do not
// contain what is logged.
func TestWebhookHandlerLogsRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWebhook(t, func(context.Context, *ricloud.Event) error { return errors.New("fn-canary") })
		var logged bytes.Buffer
		server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
		send := func(change func(*http.Request)) string {
			r := delivery(t, eventBody("e1"))
			change(r)
			ctx := context.WithValue(r.Context(), http.ServerContextKey, server)
			return serve(h, r.WithContext(ctx)).Body.String()
		}
		unsigned := func(r *http.Request) { r.Header.Del(ricloud.SignatureHeader) }
		broken := func(r *http.Request) { r.Body = io.NopCloser(brokenReader{}) }
		for range 50 {
			send(unsigned)
			assert.NotContains(t, send(broken), "connection broke", "the sender learns no inner error")
			assert.NotContains(t, send(func(*http.Request) {}), "canary")
		}
		assert.Equal(t, 3, strings.Count(logged.String(), "\n"), logged.String())
		assert.Contains(t, logged.String(),
			"401: webhook signature: the Ricloud-Signature header is missing")
		assert.Contains(t, logged.String(), "400: cannot read the body: the connection broke")
		assert.Contains(t, logged.String(), "event e1 (poll.completed): fn-canary")

		logged.Reset()
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		send(unsigned)
		assert.Equal(t, 1, strings.Count(logged.String(), "\n"))
		assert.Contains(t, logged.String(), "49 more")
	})
}

// Also with a logger, each refusal is logged once a minute, because anyone can cause it. A failure
// of fn follows a signed delivery, and is logged each time.
func TestWebhookLoggerIsNotFlooded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		h := newWebhook(t, func(context.Context, *ricloud.Event) error { return errors.New("no disk") },
			ricloud.WithWebhookLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		unsigned := delivery(t, eventBody("e1"))
		unsigned.Header.Del(ricloud.SignatureHeader)
		for range 50 {
			serve(h, unsigned)
			serve(h, delivery(t, eventBody("e1")))
		}
		assert.Equal(t, 1, strings.Count(logged.String(), "status=401"))
		assert.Equal(t, 50, strings.Count(logged.String(), "no disk"))

		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		serve(h, unsigned)
		assert.Contains(t, logged.String(), "header is missing\" skipped=49")
	})
}
