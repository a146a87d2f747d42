package ricloudtest_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// These are the bytes that the vendor's Python client 3.2.0 sends: no Content-Type, Ricloud-Await:
// 0 on every request, null for an action without parameters, and Latin-1 where it should be UTF-8.
func TestThePythonClientsBytes(t *testing.T) {
	t.Parallel()
	srv := newServer(t, ricloudtest.WithToken("tok-abc"), ricloudtest.WithDelays(ricloudtest.Delays{}))
	host := strings.TrimPrefix(srv.URL(), "http://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	answers := bufio.NewReader(conn)
	ask := func(method, path, body string) map[string]any {
		length := ""
		if method != http.MethodGet {
			length = "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
		}
		_, err := io.WriteString(conn,
			method+" "+path+" HTTP/1.1\r\nHost: "+host+
				"\r\nUser-Agent: ricloud-py/3.2.0\r\nAccept-Encoding: gzip, deflate\r\n"+
				"Accept: */*\r\nConnection: keep-alive\r\nAuthorization: Token tok-abc\r\nRicloud-Await: 0\r\n"+
				length+"\r\n"+body)
		require.NoError(t, err)
		res, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		assert.Less(t, res.StatusCode, 300, path)
		return decode(t, res)
	}
	latin1 := func(path, body string) {
		status, answer := send(t.Context(), t, srv, http.MethodPost, path, "tok-abc", body)
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Equal(t, "invalid-body", answer["error"], "a JSON parser refuses what is not UTF-8")
	}
	until := func(path, state string) map[string]any {
		var got map[string]any
		require.Eventually(t, func() bool {
			got = ask("GET", path, "")
			return got["state"] == state
		}, 30*time.Second, 10*time.Millisecond, path)
		return got
	}
	//nolint:forcetypeassert // the test may fail here
	id := func(from map[string]any) string { return from["id"].(string) }

	assert.Equal(t, "organisation", ask("GET", "/organisation", "")["resource"])
	latin1("/users", `{"identifier": "m`+"\xfc"+`ller@example.com"}`)
	user := ask("POST", "/users", `{"identifier": "mueller@example.com"}`)
	assert.Equal(t, id(user), id(ask("POST", "/users", `{"identifier": "mueller@example.com"}`)),
		"get or create")
	session := ask("POST", "/sessions",
		`{"source": {"user": "`+id(user)+`", "type": "mocks.mock",`+
			` "identifier": "john.appleseed@reincubate.com"}, "payload": {"password": "abcd1234"}}`)
	until("/sessions/"+id(session), "active")
	poll := ask("POST", "/polls", `{"session": "`+id(session)+`", "payload": {"info_types": ["*"]}}`)
	until("/polls/"+id(poll), "completed")
	source := session["source"].(map[string]any) //nolint:forcetypeassert // the test may fail here
	poll = ask("POST", "/polls",
		`{"payload": {"data_types": ["ios_messages.messages"], "files": ["7a10photo"]}, "session": "`+
			id(session)+`", "source": "`+id(source)+`"}`)
	poll = until("/polls/"+id(poll), "completed")
	list := poll["results"].(map[string]any) //nolint:forcetypeassert // the test may fail here
	assert.Equal(t, "list", list["resource"], "the client reads nested lists by it")
	for _, result := range list["data"].([]any) { //nolint:forcetypeassert // the test may fail here
		//nolint:forcetypeassert // the test may fail here
		acked := ask("POST", "/results/"+id(result.(map[string]any))+"/ack", "null")
		assert.Equal(t, "consumed", acked["state"])
	}
	empty := ask("POST", "/polls",
		`{"payload": {"files": []}, "session": "`+id(session)+`", "source": "`+id(source)+`"}`)
	until("/polls/"+id(empty), "completed")
	ask("GET", "/results?poll="+id(poll)+"&limit=10&starting_after=abc%2Fdef", "")
	ask("GET", "/tasks?date_created__gt=2026-01-02T03%3A04%3A05.678", "")
	config := ask("POST", "/configs/storage",
		`{"url": "s3://b/p", "credentials": {"access_key_id": "a", "secret_access_key": "b"}}`)
	assert.Equal(t, "task", ask("POST", "/configs/storage/"+id(config)+"/test", "null")["resource"])
	ask("POST", "/keys/"+id(ask("GET", "/key", ""))+"/rotate", `{"expire": 3600}`)
	assert.Equal(t, "expired", ask("DELETE", "/sessions/"+id(session), "")["state"])
}
