package watch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestInterval(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]time.Duration{
		0: time.Second, 4 * time.Second: time.Second, 20 * time.Second: 5 * time.Second,
		time.Hour: 10 * time.Second,
	} {
		assert.Equal(t, want, rhythm.interval(age, false), "after %s", age)
		assert.Equal(t, 15*time.Second, rhythm.interval(age, true), "after %s, while events flow", age)
	}
}
