package ricloud_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// askForMessages creates a poll whose records refer to a file.
func askForMessages(ctx context.Context, client *ricloud.Client) (*ricloud.Poll, error) {
	session, err := login(ctx, client)
	if err != nil {
		return nil, err
	}
	return client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
	})
}

func ExampleResultsService_SaveAll() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()
	dir, err := os.MkdirTemp("", "ricloud-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	poll, err := askForMessages(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	// the messages, then their attachments
	results := client.Polls.Results(ctx, poll.ID, ricloud.WithFiles())
	saved, err := client.Results.SaveAll(ctx, results, dir, ricloud.WithAcknowledge())
	if err != nil {
		fmt.Println(err) // the error joins every failure; the other results are saved
	}
	for _, s := range saved {
		fmt.Println(filepath.Base(s.Path), s.Acknowledged)
	}
	// Output:
	// ios_messages.messages true
	// 7a10photo true
}

func ExampleRecords() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	poll, err := askForMessages(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	type message struct {
		Text   string `json:"text"`
		FromMe bool   `json:"from_me"`
	}
	for result, err := range client.Polls.Results(ctx, poll.ID) {
		if err != nil {
			fmt.Println(err)
			return
		}
		file, err := client.Results.Open(ctx, result)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer file.Close()
		for m, err := range ricloud.Records[message](file) {
			if err != nil {
				fmt.Println(err) // for example ErrChecksum, if the file is damaged
				return
			}
			fmt.Println(m.FromMe, m.Text)
		}
	}
	// Output:
	// true On my way
	// false 日本 🎉
}

func ExampleStorageConfigsService_Ensure() {
	sandbox := ricloudtest.NewServer(ricloudtest.WithUnconfigured())
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	// see also CredentialsFromFile
	credentials, err := ricloud.CredentialsFromKey("AKIAEXAMPLE", ricloud.NewSecret("…"))
	if err != nil {
		fmt.Println(err)
		return
	}
	config, err := client.StorageConfigs.Ensure(ctx, ricloud.StorageConfigEnsureParams{
		URL:                     "s3://my-bucket/results",
		Credentials:             credentials,
		MakeOrganisationDefault: true,
	})
	if err != nil {
		fmt.Println(err) // the error says what to check
		return
	}
	fmt.Println(config.URL, config.State)
	// Output: s3://my-bucket/results valid
}
