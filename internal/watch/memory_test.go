package watch

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAMemoryHoldsSoManyResources(t *testing.T) {
	t.Parallel()
	var m memory[job]
	for i := range 3 * maxMemory {
		m.put("again", &job{}, time.Now())
		m.take("again")
		m.put(strconv.Itoa(i), &job{}, time.Now())
	}
	assert.Equal(t, maxMemory, len(m.seen)) //nolint:testifylint // Len prints them all
	for i := range maxMemory - 1 {
		id := strconv.Itoa(2*maxMemory + 1 + i)
		require.NotNil(t, m.get(id).resource, "the latest are held, and so is %s", id)
	}
	for id := range m.seen {
		m.take(id)
	}
	assert.Empty(t, m.order)
	assert.Zero(t, m.bytes)
}

// A memory holds so many bytes of resources, and more only for the latest one. It still knows of
// those that it forgets whether there are events about them.
func TestAMemoryHoldsSoManyBytes(t *testing.T) {
	t.Parallel()
	const each = maxMemoryBytes / 8
	var m memory[deep]
	now := time.Now()
	put := func(id string, size int) {
		now = now.Add(time.Second)
		m.noteEvent(id)
		m.put(id, &deep{Name: strings.Repeat("x", size)}, now)
	}
	put("small", 10)
	for i := range 20 {
		put(strconv.Itoa(i), each)
		assert.LessOrEqual(t, m.bytes, maxMemoryBytes)
	}
	put("14", each) // is the latest now, although it was noted long ago
	put("20", each)
	for id, held := range map[string]bool{
		"small": false, "12": false, "13": false, "14": true, "15": true, "16": true, "20": true,
	} {
		assert.Equal(t, held, m.get(id).resource != nil, id)
		assert.True(t, m.get(id).event, id)
	}
	put("huge", 2*maxMemoryBytes)
	assert.NotNil(t, m.get("huge").resource)
	assert.Nil(t, m.get("20").resource)
	put("next", each)
	assert.Nil(t, m.get("huge").resource)
	assert.Equal(t, size(m.get("next").resource), m.bytes)
}

// A wait for a resource that was too large to be remembered beside others reads it.
func TestAForgottenResourceIsRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(time.Nanosecond)
		<-time.NewTimer(time.Second).C
		h.Notify(a.job(id))
		h.memory.put("huge", &job{id: strings.Repeat("x", 2*maxMemoryBytes)}, time.Now())
		states, err := wait(t.Context(), h, id, nil)
		require.NoError(t, err)
		assert.Equal(t, []int{steps}, states)
		assert.Equal(t, 1, a.reads(id))
	})
}

// An event that came before its wait makes the reads of the wait rare, as a later one does.
func TestAnEventBeforeItsWaitIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(time.Hour)
		h.NotifyChange(id, nil)
		w := h.Join(id, nil)
		defer w.Leave()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for end := false; !end; {
			_, end, _ = w.Next(ctx)
		}
		assert.InDelta(t, 5, a.reads(id), 1, "one at once, and then one each 12 to 15 seconds")
	})
}

func TestSize(t *testing.T) {
	t.Parallel()
	const text = 1000
	large := strings.Repeat("x", text)
	none := size(&deep{})
	for name, d := range map[string]*deep{
		"a string":             {Name: large},
		"a slice":              {IDs: []string{large}},
		"a nested one":         {Nested: []deep{{Next: &deep{Name: large}}}},
		"a map's value":        {Anything: map[string]any{"x": large}},
		"a map's key":          {Labels: map[string][]int{large: nil}},
		"an interface":         {Any: []any{large}},
		"an array's bytes":     {Pair: [2][]byte{nil, make([]byte, text)}},
		"what is not exported": {unseen: []string{large}},
	} {
		assert.InDelta(t, none+text, size(d), 500, name)
	}
}
