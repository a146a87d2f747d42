// Ingest-move moves the state of an ingest.Engine from a folder to a NATS
// cluster. Stop the process that uses the folder first.
//
//	ingest-move -dir state -url nats://a,nats://b,nats://c
//
// It copies accounts, jobs and events, and then marks the folder, so that no
// process opens it again. After an interruption, run it again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reincubate/ricloud-go/ingest/internal/natsstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ingest-move:", err)
		os.Exit(1) //nolint:gocritic // nothing deferred matters any more
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("ingest-move", flag.ContinueOnError)
	dir := flags.String("dir", "", "the `folder`: Config.Dir")
	url := flags.String("url", "", "the cluster's `URL`: Config.URL")
	credentials := flags.String("creds", "", "NATS credentials `file`")
	o := natsstore.Options{MaxEventAge: 72 * time.Hour}
	flags.StringVar(&o.Name, "name", "ricloud", "the organisation's `name`: Config.Name")
	flags.IntVar(&o.Replicas, "replicas", 3, "how many servers hold the state")
	flags.Int64Var(&o.MaxBytes, "max-bytes", 1<<30, "Config.MaxBytes")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	if *dir == "" || *url == "" {
		return errors.New("-dir and -url are required")
	}
	if _, err := os.Stat(*dir); err != nil {
		return err
	}
	o.MaxEventBytes = o.MaxBytes
	var opts []nats.Option
	if *credentials != "" {
		opts = append(opts, nats.UserCredentials(*credentials))
	}
	to, err := natsstore.Connect(ctx, *url, o, opts...)
	if err != nil {
		return err
	}
	records, events, err := natsstore.Move(ctx, *dir, to, *url, o)
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	fmt.Printf("%d records and %d events are in %s; %s is closed\n", records, events, *url, *dir)
	return nil
}
