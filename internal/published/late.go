package published

import (
	"context"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Late looks again while something is missing: a few times, within a minute. It
// ends early if look returns false, and returns the error of a context that ended.
func Late(ctx context.Context, missing, look func() bool) error {
	for _, pause := range [...]time.Duration{
		time.Second, 4 * time.Second, 10 * time.Second, 20 * time.Second, 25 * time.Second,
	} {
		if !missing() {
			return nil
		}
		if err := backoff.Sleep(ctx, pause); err != nil {
			return err
		}
		if !look() {
			return nil
		}
	}
	return nil
}

// Tasks counts the items that tasks have shown.
type Tasks[ID comparable] map[ID]int

// Missing returns the tasks that have shown none. An item that does not name its
// task may be of any of them.
func (t Tasks[ID]) Missing(tasks []ID) (missing []ID) {
	for _, task := range tasks {
		if t[task] == 0 {
			missing = append(missing, task)
		}
	}
	var unknown ID
	return missing[min(len(missing), t[unknown]):]
}
