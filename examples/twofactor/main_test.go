package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// browser is a user's browser.
type browser struct {
	*http.Client
	base string
}

func (b browser) post(t *testing.T, path string, form url.Values) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.base+path,
		strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var text strings.Builder
	_, err = io.Copy(&text, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, text.String()
}

func (b browser) login(t *testing.T, identifier, password string) (int, string) {
	t.Helper()
	return b.post(t, "/login", url.Values{"identifier": {identifier}, "password": {password}})
}

func (b browser) code(t *testing.T, code string) (int, string) {
	t.Helper()
	return b.post(t, "/code", url.Values{"code": {code}})
}

func open(t *testing.T) (browser, *service, *ricloudtest.Server) {
	t.Helper()
	sandbox := ricloudtest.NewServer()
	t.Cleanup(sandbox.Close)
	s := newService(sandbox.Client())
	server := httptest.NewTLSServer(s.routes())
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := server.Client()
	client.Jar = jar
	return browser{client, server.URL}, s, sandbox
}

func TestLoginAndCodeInTwoRequests(t *testing.T) {
	t.Parallel()
	b, _, sandbox := open(t)

	status, body := b.login(t, "jane.appleseed@example.com", "hunter2")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, `name="code"`)
	assert.Equal(t, 1, sandbox.CountCalls("Sessions.Create"))

	status, body = b.code(t, "000000")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "That code was not right.")

	status, body = b.code(t, "123456")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "is active")
	assert.Equal(t, 3, sandbox.CountCalls("Sessions.Create"),
		"one session for the password and one for each code")

	status, body = b.code(t, "123456")
	assert.Equal(t, http.StatusGone, status, "a form sent twice logs in once")
	assert.Contains(t, body, "Please begin again")
	assert.Equal(t, 3, sandbox.CountCalls("Sessions.Create"))
}

func TestAccountWithoutTwoFactor(t *testing.T) {
	t.Parallel()
	b, _, _ := open(t)
	status, body := b.login(t, "john.appleseed@example.com", "hunter2")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "is active")
}

func TestWrongCodesEnd(t *testing.T) {
	t.Parallel()
	b, _, sandbox := open(t)
	_, _ = b.login(t, "jane.appleseed@example.com", "hunter2")
	for range 2 {
		_, body := b.code(t, "000000")
		assert.Contains(t, body, `name="code"`)
	}
	status, body := b.code(t, "000000")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "iCloud refused the login (code-required)")
	status, _ = b.code(t, "123456")
	assert.Equal(t, http.StatusGone, status)
	assert.Equal(t, 4, sandbox.CountCalls("Sessions.Create"))
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	b, _, _ := open(t)
	status, body := b.login(t, "john.appleseed@example.com", "<b>wrong</b>")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "iCloud refused the login")
	assert.NotContains(t, body, "wrong</b>")
}

func TestEmptyFormIsRefusedBeforeAnyLogin(t *testing.T) {
	t.Parallel()
	b, _, sandbox := open(t)
	status, body := b.login(t, "", "")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, body, "Please fill in every field.")
	assert.Zero(t, sandbox.CountCalls("Sessions.Create"))
}

func TestPasswordIsForgotten(t *testing.T) {
	t.Parallel()
	b, s, _ := open(t)
	_, _ = b.login(t, "jane.appleseed@example.com", "hunter2")
	s.mu.Lock()
	require.Len(t, s.logins, 1)
	s.mu.Unlock()
	s.now = func() time.Time { return time.Now().Add(loginLifetime + time.Second) }
	status, _ := b.code(t, "123456")
	assert.Equal(t, http.StatusGone, status)
	s.mu.Lock()
	assert.Empty(t, s.logins)
	s.mu.Unlock()
}

func TestOtherSitesCannotPost(t *testing.T) {
	t.Parallel()
	b, _, sandbox := open(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.base+"/login", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Origin", "https://evil.example.com")
	resp, err := b.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	assert.Zero(t, sandbox.CountCalls("Sessions.Create"))
}
