package delivery

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func post(t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
}

// statusOf returns the status of a refusal; 0: it is none.
func statusOf(err error) int {
	if refused, ok := errors.AsType[*Refusal](err); ok {
		return refused.Status
	}
	return 0
}

func TestGateCheck(t *testing.T) {
	t.Parallel()
	gate := NewGate(10, 0)
	require.NoError(t, gate.Check(httptest.NewRecorder(), post(t, strings.NewReader("0123456789"))))
	err := gate.Check(httptest.NewRecorder(), post(t, strings.NewReader("0123456789a")))
	assert.Equal(t, http.StatusRequestEntityTooLarge, statusOf(err))
	require.ErrorContains(t, errors.Unwrap(err), "WithWebhookMaxBody", "it tells the operator")
	assert.NotContains(t, err.Error(), "10", "it tells the sender nothing")
	get := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	assert.Equal(t, http.StatusMethodNotAllowed, statusOf(gate.Check(httptest.NewRecorder(), get)))
}

func TestGateEnter(t *testing.T) {
	t.Parallel()
	gate := NewGate(10, 2)
	first, err := gate.Enter()
	require.NoError(t, err)
	_, err = gate.Enter()
	require.NoError(t, err)
	_, err = gate.Enter()
	assert.Equal(t, http.StatusServiceUnavailable, statusOf(err))
	unread := iotest.ErrReader(errors.New("it was read"))
	_, err = gate.Read(httptest.NewRecorder(), post(t, unread))
	assert.Equal(t, http.StatusServiceUnavailable, statusOf(err), "before the body is read")
	first()
	_, err = gate.Enter()
	require.NoError(t, err)

	leave, err := NewGate(10, 0).Enter()
	require.NoError(t, err)
	leave()
}

// A body of any length up to the limit is read whole, in whatever pieces it comes.
func TestGateRead(t *testing.T) {
	t.Parallel()
	const most = 3 * freeBody
	gate := NewGate(most, 0)
	for _, size := range []int{
		0, 1, leastBuffer, freeBody - 1, freeBody, freeBody + 1, most - 1, most,
	} {
		text := strings.Repeat("x", size)
		for name, body := range map[string]io.Reader{
			"at once":                     strings.NewReader(text),
			"in pieces":                   iotest.HalfReader(strings.NewReader(text)),
			"with the end":                iotest.DataErrReader(strings.NewReader(text)),
			"of a length that is unknown": io.MultiReader(strings.NewReader(text)),
		} {
			read, err := gate.Read(httptest.NewRecorder(), post(t, body))
			require.NoError(t, err, "%s: %d", name, size)
			assert.Equal(t, text, string(read), "%s: %d", name, size)
		}
		assert.Zero(t, gate.reading.Load())
	}
	unknown := io.MultiReader(strings.NewReader(strings.Repeat("x", most+1)))
	_, err := gate.Read(httptest.NewRecorder(), post(t, unknown))
	assert.Equal(t, http.StatusRequestEntityTooLarge, statusOf(err))
	broken := io.MultiReader(strings.NewReader("x"), iotest.ErrReader(errors.New("reset")))
	_, err = gate.Read(httptest.NewRecorder(), post(t, broken))
	assert.Equal(t, http.StatusBadRequest, statusOf(err))
	require.ErrorContains(t, errors.Unwrap(err), "reset")
	assert.NotContains(t, err.Error(), "reset")
	assert.Zero(t, gate.reading.Load())
}

// Bodies that are being read share a bounded memory.
func TestGateBoundsUnfinishedBodies(t *testing.T) {
	t.Parallel()
	gate := NewGate(4*freeBody, 0)
	gate.reading.Store(2 * 4 * freeBody)
	_, err := gate.Read(httptest.NewRecorder(), post(t, strings.NewReader("small")))
	require.NoError(t, err, "a small body is not counted")
	large := strings.NewReader(strings.Repeat("x", 2*freeBody))
	_, err = gate.Read(httptest.NewRecorder(), post(t, large))
	assert.Equal(t, http.StatusServiceUnavailable, statusOf(err))
	assert.EqualValues(t, 2*4*freeBody, gate.reading.Load(), "what it took is given back")
}

// A request that no server made may have no body.
func TestGateReadWithoutABody(t *testing.T) {
	t.Parallel()
	r := post(t, nil)
	r.Body = nil
	body, err := NewGate(10, 0).Read(httptest.NewRecorder(), r)
	require.NoError(t, err)
	assert.Empty(t, body)
}

// deadlines is a ResponseWriter that notes the deadlines of reads.
type deadlines struct {
	*httptest.ResponseRecorder

	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// A read has a deadline, unless the server has one of its own.
func TestGateReadHasADeadline(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		server *http.Server
		want   int
	}{
		"no server":                     {want: 2},
		"a server without a limit":      {server: &http.Server{}, want: 2},
		"a server that has its own one": {server: &http.Server{ReadTimeout: time.Second}},
	} {
		r := post(t, strings.NewReader("x"))
		if tt.server != nil {
			r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, tt.server))
		}
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		gate := NewGate(10, 0)
		require.NoError(t, gate.Check(w, r), name)
		_, err := gate.Read(w, r)
		require.NoError(t, err, name)
		require.Len(t, w.set, tt.want, name)
		if tt.want > 0 {
			assert.False(t, w.set[0].IsZero(), name)
			assert.True(t, w.set[1].IsZero(), "%s: it is taken back", name)
		}
	}
}

func TestRefusalReply(t *testing.T) {
	t.Parallel()
	for status, header := range map[int]string{
		http.StatusMethodNotAllowed: "Allow", http.StatusServiceUnavailable: "Retry-After",
		http.StatusUnauthorized: "",
	} {
		w := httptest.NewRecorder()
		Refuse(status, "no").Reply(w)
		assert.Equal(t, status, w.Code)
		assert.Equal(t, "no\n", w.Body.String())
		if header != "" {
			assert.NotEmpty(t, w.Header().Get(header))
		}
	}
}
