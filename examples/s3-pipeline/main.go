// S3-pipeline copies the results of a poll into an archive bucket, and streams
// them from your own bucket to a handler, record by record, whatever the size of
// the files. A result is acknowledged once it is in the archive and all of its
// records are committed. Run it again after a failure: it skips the results that
// were acknowledged, and copies none twice.
//
//	RICLOUD_TOKEN=… AWS_PROFILE=… go run ./examples/s3-pipeline POLL ARCHIVE
//
// Without RICLOUD_TOKEN it runs offline: against a sandbox and an S3 server,
// both inside the program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // no deferred call matters at the end
	}
}

func run(ctx context.Context, args []string) error {
	p := pipeline{committed: map[string]int{}}
	if os.Getenv("RICLOUD_TOKEN") == "" {
		if err := offline(ctx, &p); err != nil {
			return err
		}
	} else {
		if len(args) != 2 {
			return errors.New("which poll, and which bucket? give the poll's id and a bucket's name")
		}
		aws, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		objects := awss3.NewFromConfig(aws)
		if p.archive, err = s3.NewSink(objects, s3.SinkParams{Bucket: args[1]}); err != nil {
			return err
		}
		if p.client, err = ricloud.NewClientFromEnv(ricloud.WithStorage("s3",
			s3.New(objects))); err != nil {
			return err
		}
		if err := p.run(ctx, ricloud.ID(args[0])); err != nil {
			return err
		}
	}
	for identifier, n := range p.committed {
		fmt.Printf("%s: %d records\n", identifier, n)
	}
	return nil
}

// pipeline counts records, in place of whatever you do with them.
type pipeline struct {
	client    *ricloud.Client
	archive   ricloud.Sink
	committed map[string]int // records of each identifier
}

// run archives every result, and handles those that are in the archive. One that
// fails does not stop the others, and is not acknowledged.
func (p *pipeline) run(ctx context.Context, poll ricloud.ID) error {
	archived, err := p.client.Results.SaveAllTo(ctx, p.client.Polls.Results(ctx, poll), p.archive,
		ricloud.WithFileNames(func(r *ricloud.Result) string {
			return string(poll) + "-" + r.DataType()
		}))
	failures := []error{err}
	for _, saved := range archived {
		failures = append(failures, p.handle(ctx, saved.Result))
	}
	return errors.Join(failures...)
}

// handle commits the records of a result, then acknowledges it. Records arrive
// before the whole file is verified, so they are staged until then. In a database,
// use a transaction for that.
func (p *pipeline) handle(ctx context.Context, result *ricloud.Result) error {
	if result.State != ricloud.ResultAvailable {
		return nil // done by an earlier run
	}
	file, err := p.client.Results.Open(ctx, result)
	if err != nil {
		return err
	}
	defer file.Close()
	staged := 0
	for record, err := range ricloud.Records[json.RawMessage](file) {
		if err != nil {
			return fmt.Errorf("%s: %w", result.Identifier, err)
		}
		if len(record) > 0 { // your work
			staged++
		}
	}
	p.committed[result.Identifier] += staged
	_, err = p.client.Results.Acknowledge(ctx, result.ID)
	return err
}
