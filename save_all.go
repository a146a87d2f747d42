package ricloud

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Saved is a result whose verified file is at Path.
type Saved struct {
	Result       *Result
	Path         string
	Acknowledged bool
}

// acknowledgeBatch bounds what is fetched again should the process die: what
// is on disk but not acknowledged is found there the next time.
const acknowledgeBatch = 100

// SaveAll saves every result of an iterator, several at once, as Save does. It
// takes Polls.Results as it is:
//
//	saved, err := client.Results.SaveAll(ctx, client.Polls.Results(ctx, poll.ID), dir, ricloud.WithAcknowledge())
//
// A failure does not stop the others. SaveAll returns what was saved, in the
// order of the iterator, and all failures joined: errors of the iterator, a
// *DownloadError for each result that could not be saved, and what
// acknowledging returned. Once ctx ends, no more are begun. When SaveAll
// returns, nothing runs on.
func (s *ResultsService) SaveAll(ctx context.Context, results iter.Seq2[*Result, error], dir string, opts ...DownloadOption) ([]Saved, error) {
	o := newDownloadOptions(opts)
	folder, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	b := batch{service: s, folder: folder, options: o}
	b.run(ctx, results)
	b.settle(ctx, b.takePending(1))
	saved := make([]Saved, 0, len(b.items))
	for _, item := range b.items {
		if item.Path != "" {
			item.Path = filepath.Join(dir, item.Path)
			saved = append(saved, *item)
		}
	}
	return saved, errors.Join(b.failures...)
}

// batch is one SaveAll.
type batch struct {
	service *ResultsService
	folder  *os.Root
	options downloadOptions

	mu        sync.Mutex
	reporting sync.Mutex
	items     []*Saved // Path is empty until saved
	pending   []*Saved // saved, their names perhaps not on disk yet
	failures  []error
}

func (b *batch) run(ctx context.Context, results iter.Seq2[*Result, error]) {
	queue := make(chan *Saved)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(queue)
	for range b.options.parallel {
		workers.Go(func() {
			for item := range queue {
				b.save(ctx, item)
			}
		})
	}
	for result, err := range results {
		if err != nil {
			b.fail(err)
			continue
		}
		item := &Saved{Result: result}
		select {
		case queue <- item:
			b.items = append(b.items, item)
		case <-ctx.Done():
			b.fail(&CallError{Operation: "Results.SaveAll", Err: backoff.Cause(ctx)})
			return
		}
	}
}

func (b *batch) save(ctx context.Context, item *Saved) {
	name, err := b.service.client.save(ctx, b.folder, item.Result, b.report)
	if err != nil {
		b.fail(err)
		return
	}
	b.mu.Lock()
	item.Path = name
	b.pending = append(b.pending, item)
	b.mu.Unlock()
	b.settle(ctx, b.takePending(acknowledgeBatch))
}

func (b *batch) report(p Progress) {
	b.reporting.Lock()
	defer b.reporting.Unlock()
	b.options.progress(p)
}

func (b *batch) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = append(b.failures, err)
}

// takePending returns what is pending once it is enough.
func (b *batch) takePending(enough int) []*Saved {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) < enough {
		return nil
	}
	taken := b.pending
	b.pending = nil
	return taken
}

// settle makes the names of saved files durable, then acknowledges them.
func (b *batch) settle(ctx context.Context, saved []*Saved) {
	if len(saved) == 0 {
		return
	}
	if err := syncFolder(b.folder); err != nil {
		b.fail(err)
		return
	}
	if !b.options.acknowledge {
		return
	}
	ids := make([]ID, 0, len(saved))
	for _, item := range saved {
		ids = append(ids, item.Result.ID)
	}
	if err := b.service.AcknowledgeAll(ctx, ids); err != nil {
		b.fail(err)
		return
	}
	for _, item := range saved {
		item.Acknowledged = true
	}
}
