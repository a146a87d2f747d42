package cli

import (
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	ricloud "github.com/reincubate/ricloud-go"
)

// bars shows how far downloads are: a bar each on a terminal, a line at the end of each elsewhere.
type bars struct {
	app      *app
	progress func(ricloud.Progress)
	waiting  *spinner // elsewhere, for what is waited for

	mu    sync.Mutex
	all   *mpb.Progress
	byID  map[ricloud.ID]*mpb.Bar
	there map[string]int64 // the sizes of the files that were there before, by name
	ended map[ricloud.ID]bool
}

// bars begins to show downloads to a folder and, if it is not empty, what is waited for meanwhile.
func (a *app) bars(waitingFor, dir string) *bars {
	b := &bars{app: a, byID: map[ricloud.ID]*mpb.Bar{}, ended: map[ricloud.ID]bool{}}
	b.there = sizes(dir)
	a.busy.Add(1)
	b.progress = b.plain
	if terminal(a.errs) {
		b.all = mpb.New(mpb.WithOutput(a.errs), mpb.WithWidth(40))
		b.progress = b.draw
		if waitingFor != "" {
			b.byID[""] = b.all.New(0, mpb.SpinnerStyle().PositionLeft(), mpb.BarWidth(2),
				mpb.BarRemoveOnComplete(), mpb.BarPriority(-1),
				mpb.AppendDecorators(decor.Name(waitingFor), decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 6})))
		}
	} else if waitingFor != "" {
		b.waiting = a.spinner(waitingFor)
	}
	return b
}

func (b *bars) plain(p ricloud.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Done < p.Size || b.ended[p.Result.ID] {
		return
	}
	b.ended[p.Result.ID] = true
	verb := "fetched"
	if size, found := b.there[ricloud.FileName(p.Result.DataType())]; found && size == p.Size {
		verb = "already there:"
	}
	b.app.sayf("%s %s (%d bytes)\n", verb, oneLine(p.Result.Identifier), p.Size)
}

// sizes returns the sizes of the files in a folder, by name.
func sizes(dir string) map[string]int64 {
	found := map[string]int64{}
	entries, _ := os.ReadDir(dir) // there may be no such folder yet
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			found[entry.Name()] = info.Size()
		}
	}
	return found
}

func (b *bars) draw(p ricloud.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bar := b.byID[p.Result.ID]
	if bar == nil {
		bar = b.all.AddBar(p.Size,
			mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(cut(oneLine(p.Result.Identifier), 30)+" ")),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))
		b.byID[p.Result.ID] = bar
	}
	bar.SetCurrent(p.Done)
}

// stop ends the bars, finished or not.
func (b *bars) stop() {
	b.app.busy.Add(-1)
	if b.waiting != nil {
		b.waiting.stop()
	}
	if b.all == nil {
		return
	}
	b.mu.Lock()
	for _, bar := range b.byID {
		bar.Abort(true)
	}
	b.mu.Unlock()
	b.all.Wait()
}
