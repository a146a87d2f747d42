package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	ricloud "github.com/reincubate/ricloud-go"
)

// The session of a lost login is the account's own: not another user's on the same source, not one
// of another source, and not an earlier one.
func TestWhoseSessionItIs(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	source := ricloud.Source{
		ID: "s", Type: ricloud.SourceICloudAccount, Identifier: "Jane@example.com ",
	}
	session := func(change func(*ricloud.Session)) ricloud.Session {
		s := ricloud.Session{ID: "1", User: "u", Source: source, DateCreated: begun.Add(time.Second)}
		change(&s)
		return s
	}
	r := new(stored)
	r.User, r.Begun, r.Known = "u", begun, []ricloud.ID{"known"}
	r.Account.Source = ricloud.SourceParams{
		Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com",
	}
	for _, test := range []struct {
		name    string
		session ricloud.Session
		mine    bool // of the account, as findSessionAlone sees it
		found   bool // by newestOf
		certain bool
	}{
		{
			name: "its own", mine: true, found: true, certain: true,
			session: session(func(*ricloud.Session) {}),
		},
		{
			name: "another user on the same source", certain: true,
			session: session(func(s *ricloud.Session) { s.User = "v" }),
		},
		{
			name: "another source of the user", certain: true,
			session: session(func(s *ricloud.Session) {
				s.Source.ID, s.Source.Identifier = "t", "john@example.com"
			}),
		},
		{
			name: "another kind of source", certain: true, mine: true,
			session: session(func(s *ricloud.Session) { s.Source.Type = ricloud.SourceMock }),
		},
		{
			name: "a known one", certain: true, mine: true,
			session: session(func(s *ricloud.Session) { s.ID = "known" }),
		},
		{
			name: "an earlier one", certain: true, mine: true,
			session: session(func(s *ricloud.Session) { s.DateCreated = begun.Add(-time.Hour) }),
		},
		{
			name: "without a date", certain: true, mine: true, found: true,
			session: session(func(s *ricloud.Session) { s.DateCreated = time.Time{} }),
		},
		{
			name: "of an older API, with the source's ID only", mine: true,
			session: session(func(s *ricloud.Session) { s.Source = ricloud.Source{ID: "s"} }),
		},
		{
			name: "without a user", mine: true,
			session: session(func(s *ricloud.Session) { s.User = "" }),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.mine, isOf(&test.session, r.User, &source))
			newest, certain := newestOf([]ricloud.Session{test.session}, r)
			assert.Equal(t, test.certain, certain)
			assert.Equal(t, test.found, newest != nil)
		})
	}
	later := session(func(s *ricloud.Session) { s.ID, s.DateCreated = "2", begun.Add(time.Minute) })
	newest, _ := newestOf([]ricloud.Session{later, session(func(*ricloud.Session) {})}, r)
	assert.Equal(t, ricloud.ID("2"), newest.ID)
}
