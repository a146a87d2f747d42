package published

import (
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/assert"
)

var (
	errGone    = errors.New("no such poll")
	errPartial = errors.New("some files failed")
	errRefused = errors.New("refused")
)

// poll is one that asks for files.
type poll struct {
	offers []string
	err    error // after what it offers
	runs   bool
}

type account struct {
	saved    []string
	asked    []Asked[string]
	noted    []Asked[string]
	polls    map[string]poll
	order    []string // of the list of polls
	stateErr error
	listErr  error
	read     []string // polls
}

func (a *account) search(files ...string) *Search[string, string] {
	return &Search[string, string]{
		Files: files,
		Saved: func() []string { return a.saved },
		Asked: func() []Asked[string] { return a.asked },
		Note:  func(asked Asked[string]) { a.noted = append(a.noted, asked) },
		File:  func(result string) string { return result },
		Ended: func(id string) (bool, error) {
			if a.stateErr != nil {
				return false, a.stateErr
			}
			return !a.polls[id].runs, nil
		},
		Gone: errGone,
		Results: func(id string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				a.read = append(a.read, id)
				for _, file := range a.polls[id].offers {
					if !yield(file, nil) {
						return
					}
				}
				if err := a.polls[id].err; err != nil {
					yield("", err)
				}
			}
		},
		Partial: func(err error) bool { return errors.Is(err, errPartial) },
		Unknown: func() iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for _, id := range a.order {
					if !yield(id, nil) {
						return
					}
				}
				if a.listErr != nil {
					yield("", a.listErr)
				}
			}
		},
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	noted := func(id string, files ...string) Asked[string] { return Asked[string]{id, files} }
	tests := []struct {
		name    string
		account account
		files   []string
		found   []string
		errs    []error
		rest    []string
		ends    bool // the whole iteration
		noted   []Asked[string]
		read    []string
	}{
		{name: "nothing is known", files: []string{"a", "b"}, rest: []string{"a", "b"}},
		{
			name: "some are saved", account: account{saved: []string{"x", "a", "a"}},
			files: []string{"a", "b"}, found: []string{"a"}, rest: []string{"b"},
		},
		{
			name: "a poll has ended without all of its files",
			account: account{
				asked: []Asked[string]{noted("1", "a", "b")},
				polls: map[string]poll{"1": {offers: []string{"a", "x"}, err: errPartial}},
			},
			files: []string{"a", "b"}, found: []string{"a"}, rest: []string{"b"}, read: []string{"1"},
		},
		{
			name: "a poll that runs says itself what fails",
			account: account{
				asked: []Asked[string]{noted("1", "a", "b")},
				polls: map[string]poll{"1": {offers: []string{"a"}, err: errPartial, runs: true}},
			},
			files: []string{"a", "b"}, found: []string{"a"}, errs: []error{errPartial},
			read: []string{"1"},
		},
		{
			name: "a poll whose files are there is not read",
			account: account{
				saved: []string{"a"}, asked: []Asked[string]{noted("", "a"), noted("1", "a")},
			},
			files: []string{"a"}, found: []string{"a"},
		},
		{
			name:    "a poll is gone",
			account: account{asked: []Asked[string]{noted("1", "a")}, stateErr: errGone},
			files:   []string{"a"}, rest: []string{"a"},
		},
		{
			name:    "a poll cannot be read",
			account: account{asked: []Asked[string]{noted("1", "a")}, stateErr: errRefused},
			files:   []string{"a"}, errs: []error{errRefused}, ends: true,
		},
		{
			name: "its results cannot be read",
			account: account{
				asked: []Asked[string]{noted("1", "a")}, polls: map[string]poll{"1": {err: errRefused}},
			},
			files: []string{"a"}, errs: []error{errRefused}, ends: true, read: []string{"1"},
		},
		{
			name: "a poll was lost, and is among the unknown ones",
			account: account{
				asked: []Asked[string]{
					noted("", "a"), noted("1", "a"), noted("", "b", "c"), noted("", "b", "c"),
				},
				polls: map[string]poll{"1": {}, "2": {offers: []string{"x"}}, "3": {offers: []string{"b"}}},
				order: []string{"1", "2", "3"},
			},
			files: []string{"a", "b", "c"}, found: []string{"b"}, rest: []string{"a", "c"},
			noted: []Asked[string]{noted("3", "b", "c")}, read: []string{"1", "2", "3"},
		},
		{
			name: "the unknown ones cannot be listed",
			account: account{
				asked: []Asked[string]{noted("", "a")}, listErr: errRefused,
			},
			files: []string{"a"}, errs: []error{errRefused}, ends: true,
		},
		{
			name: "an unknown one cannot be read",
			account: account{
				asked: []Asked[string]{noted("", "a")}, order: []string{"1"},
				polls: map[string]poll{"1": {err: errRefused}},
			},
			files: []string{"a"}, errs: []error{errRefused}, ends: true, read: []string{"1"},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var found []string
			var errs []error
			rest, more := tc.account.search(tc.files...).Run(func(file string, err error) bool {
				if err != nil {
					errs = append(errs, err)
				} else {
					found = append(found, file)
				}
				return true
			})
			assert.Equal(t, tc.found, found)
			assert.Equal(t, tc.errs, errs)
			assert.ElementsMatch(t, tc.rest, rest)
			assert.Equal(t, !tc.ends, more)
			assert.Equal(t, tc.noted, tc.account.noted)
			assert.Equal(t, tc.read, tc.account.read)
		})
	}
}

// A consumer that has had enough ends the search at once, whatever it was given.
func TestSearchEndsWithItsConsumer(t *testing.T) {
	t.Parallel()
	asked := []Asked[string]{{"1", []string{"a"}}}
	for name, a := range map[string]account{
		"a saved file": {saved: []string{"a"}, asked: asked},
		"a file":       {asked: asked, polls: map[string]poll{"1": {offers: []string{"a"}}}},
		"an error": {
			asked: asked, polls: map[string]poll{"1": {err: errPartial, runs: true}},
		},
		"a file that was lost": {
			asked: []Asked[string]{{"", []string{"a"}}}, order: []string{"1"},
			polls: map[string]poll{"1": {offers: []string{"a"}}},
		},
	} {
		calls := 0
		_, more := a.search("a", "b").Run(func(string, error) bool {
			calls++
			return false
		})
		assert.False(t, more, name)
		assert.Equal(t, 1, calls, name)
	}
}
