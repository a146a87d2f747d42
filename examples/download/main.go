// Download saves every result of a poll into a folder, with the files that its
// records refer to. It saves several at once, verifies each, and acknowledges
// them. The folder is a BagIt folder with manifests and a log, and the program
// verifies it at the end. If you interrupt it and start it again, it continues
// where it stopped.
//
//	go run ./examples/download -dir results
//	RICLOUD_TOKEN=… go run ./examples/download -dir results POLL
//
// Without RICLOUD_TOKEN it runs against a sandbox inside the program. On a
// terminal it draws a bar for each file, elsewhere it writes a line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func main() {
	dir := flag.String("dir", "results", "`folder` to save into")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, ricloud.ID(flag.Arg(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // no deferred call matters at the end
	}
}

func run(ctx context.Context, dir string, poll ricloud.ID) error {
	client, err := ricloud.NewClientFromEnv()
	if os.Getenv("RICLOUD_TOKEN") == "" {
		sandbox := newSandbox()
		defer sandbox.Close()
		client = sandbox.Client()
		poll, err = askSandbox(ctx, client)
	}
	if err != nil {
		return err
	}
	if poll == "" {
		return errors.New("which poll? give its id")
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		bars := newBars(ctx)
		defer bars.wait()
		return download(ctx, client, poll, dir, bars.show, io.Discard)
	}
	return download(ctx, client, poll, dir, func(ricloud.Progress) {}, os.Stdout)
}

func download(
	ctx context.Context, client *ricloud.Client, poll ricloud.ID, dir string,
	show func(ricloud.Progress), w io.Writer,
) error {
	about, err := client.Polls.Get(ctx, poll)
	if err != nil {
		return err
	}
	saved, err := client.Results.SaveAll(ctx, client.Polls.Results(ctx, poll, ricloud.WithFiles()),
		dir, ricloud.WithManifest(about),
		ricloud.WithProgress(show), ricloud.WithParallel(4), ricloud.WithAcknowledge())
	for _, s := range saved {
		_, _ = fmt.Fprintf(w, "%s  %s, %d bytes\n", s.SHA256, s.Path, s.Result.Size)
	}
	if err != nil {
		return err
	}
	return ricloud.VerifyFolder(ctx, dir)
}

// bars draws one bar for each file.
type bars struct {
	*mpb.Progress

	of map[ricloud.ID]*mpb.Bar
}

func newBars(ctx context.Context) bars {
	return bars{mpb.NewWithContext(ctx), map[ricloud.ID]*mpb.Bar{}}
}

// show needs no lock: calls of a progress function never overlap.
func (b bars) show(p ricloud.Progress) {
	bar := b.of[p.Result.ID]
	if bar == nil {
		bar = b.AddBar(p.Size,
			mpb.PrependDecorators(decor.Name(p.Result.Identifier, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.Percentage(decor.WC{W: 6})))
		b.of[p.Result.ID] = bar
	}
	bar.SetCurrent(p.Done)
}

// wait leaves the bars of files that failed as they are.
func (b bars) wait() {
	for _, bar := range b.of {
		bar.Abort(false)
	}
	b.Wait()
}

// newSandbox has an account with messages and three videos.
func newSandbox() *ricloudtest.Server {
	account := ricloudtest.Account{
		Identifier: "john.appleseed@example.com", Password: "hunter2",
		Files: map[string]ricloudtest.File{},
	}
	var messages []any
	for i := range int64(3) {
		id := fmt.Sprintf("video-%d", i)
		account.Files[id] = ricloudtest.File{
			Type:    "mov",
			Content: ricloudtest.GenerateBytes(i, (i+1)<<22),
		}
		messages = append(messages,
			map[string]any{"id": i, "files": []any{map[string]any{"file_id": id}}})
	}
	account.Data = map[string]ricloudtest.Content{
		"ios_messages.messages": ricloudtest.Records(messages...),
	}
	return ricloudtest.NewServer(ricloudtest.WithAccounts(account), ricloudtest.WithSpeed(10))
}

// askSandbox makes a poll. A live run is given one instead.
func askSandbox(ctx context.Context, client *ricloud.Client) (ricloud.ID, error) {
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		return "", err
	}
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, nil)
	if err != nil {
		return "", err
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
	})
	if err != nil {
		return "", err
	}
	return poll.ID, nil
}
