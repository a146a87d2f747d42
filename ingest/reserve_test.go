package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// However an account fares, its record grows by no more than Submit reserved for it. The way to its
// state can still be followed: its first step, its latest ones and the reason are there.
func TestARecordStaysWithinItsReserve(t *testing.T) {
	t.Parallel()
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	page := strings.Repeat("<p>\"Ä\x01 & a very long page of a proxy</p>", 100)
	for name, c := range map[string]struct {
		account  Account
		note, by string
		ids      int
	}{
		"plain":             {note: "failure", by: "host-1-abcdef", ids: 1},
		"pages of a proxy":  {note: page, by: "host-1-abcdef", ids: 1},
		"a long way":        {note: page, by: "host-1-abcdef", ids: 100},
		"a long host name":  {by: strings.Repeat("h", 80), ids: 100},
		"a subscription":    {note: page, by: "host-1-abcdef", ids: 100, account: Account{Every: 1}},
		"a large account":   {note: page, ids: 100, account: Account{Key: strings.Repeat("ü", 100)}},
		"quotes everywhere": {note: strings.Repeat(`"`, maxReason), ids: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shared := store.NewMemory()
			e := &Engine{store: shared, id: c.by}
			l := &leader{runner: &runner{Engine: e}}
			r := &stored{record: record{Account: c.account}}
			r.Account.Source.Identifier = page
			require.NoError(t, l.saveStep(t.Context(), r, Submitted, ""))
			began := r.History[0].Time
			account, err := r.encode()
			require.NoError(t, err)
			for i := range 2 * c.ids {
				id := ricloud.ID(uuid)
				r.User, r.Session, r.Poll, r.Subscription = id, id, id, id
				r.Begun, r.Due, r.Read, r.Check = time.Now(), time.Now(), time.Now(), time.Now()
				if r.Known = append(r.Known, id); len(r.Known) > maxKnown {
					r.Known = r.Known[1:]
				}
				if r.Closed = append(r.Closed, id); len(r.Closed) > maxClosed || c.account.Every == 0 {
					r.Closed = r.Closed[1:] // only a subscription has many
				}
				r.Open = []openPoll{{ID: id, Chunks: 12, Failed: bounded(c.note)}}
				require.NoError(t, l.failed(t.Context(), r, errors.New(c.note)))
				require.NoError(t, l.saveStep(t.Context(), r, Handling, fmt.Sprint("step ", i)))
				entry, err := shared.Get(t.Context(), accountPrefix+escape(r.Account.Key))
				require.NoError(t, err)
				assert.LessOrEqual(t, len(entry.Value), len(account)+r.Account.growth())
			}
			assert.Equal(t, began, r.History[0].Time)
			assert.Equal(t, Submitted, r.History[0].State)
			last := r.History[len(r.History)-1]
			assert.Equal(t, fmt.Sprint("step ", 2*c.ids-1), last.Note)
			assert.GreaterOrEqual(t, len(r.History), min(2*c.ids+1, 3))
			if c.note != "" {
				assert.Equal(t, c.note[:3], r.Reason[:3])
			}
			require.NoError(t, shared.Close())
		})
	}
}

// What is cut from a record to store it is not cut from a copy that may be put back.
func TestCuttingARecordLeavesItsCopiesAlone(t *testing.T) {
	t.Parallel()
	r := &record{Open: []openPoll{{Failed: strings.Repeat("<", maxReason)}}}
	for range maxHistory {
		r.step("me", Handling, strings.Repeat("<", maxReason))
	}
	before := r.copy()
	value, err := r.encode()
	require.NoError(t, err)
	assert.LessOrEqual(t, len(value), recordGrowth+2<<10)
	assert.Len(t, before.History, maxHistory)
	assert.Len(t, before.History[3].Note, maxReason)
	assert.Len(t, before.Open[0].Failed, maxReason)
}

// The reasons of a job's results that are given up fit into what was reserved for the job.
func TestAJobStaysWithinItsReserve(t *testing.T) {
	t.Parallel()
	w := &worker{runner: &runner{Engine: &Engine{}, h: Handlers{Attempts: 1}}}
	j := &storedJob{}
	for range chunkSize {
		j.Tasks = append(j.Tasks, task{})
	}
	before := encodedSize(t, j.job)
	for i := range j.Tasks {
		failure := &ricloud.DownloadError{Err: &ricloud.StorageError{StatusCode: 403}}
		w.h.Attempts = 2
		j.Tasks[i].Tries = 1
		w.conclude(context.Background(), j, &j.Tasks[i], failure)
		w.h.Attempts = 1
		j.Tasks[i].Tries = 1
		w.conclude(context.Background(), j, &j.Tasks[i], errors.New(strings.Repeat("<p>", 1000)))
		assert.NotEmpty(t, j.Tasks[i].Dead)
	}
	assert.LessOrEqual(t, encodedSize(t, j.job), before+jobGrowth+chunkSize*taskGrowth)
}

func TestShortened(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		atMost int
		want   string
	}{
		{text: "short", atMost: 7, want: "short"},
		{text: "shorter", atMost: 8, want: "sho…"},
		{text: "<b>", atMost: 100, want: "<b>"},
		{text: "<b><b>", atMost: 20, want: "<b>…"},
		{text: "ääää", atMost: 9, want: "ää…"},
		{text: "", atMost: 0, want: ""},
	} {
		got := shortened(c.text, c.atMost)
		assert.Equal(t, c.want, got, "%q in %d", c.text, c.atMost)
	}
}

func encodedSize(t *testing.T, v any) int {
	t.Helper()
	encoded, err := json.Marshal(v)
	require.NoError(t, err)
	return len(encoded)
}
