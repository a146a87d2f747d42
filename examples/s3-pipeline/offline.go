package main

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
	"github.com/reincubate/ricloud-go/storage/s3"
)

const (
	bucket   = "my-bucket"
	archive  = "my-archive"
	keyID    = "AKIAEXAMPLE"
	password = "hunter2"
)

// offline runs the pipeline on a poll of the sandbox, which publishes to an S3
// server in memory.
func offline(ctx context.Context, p *pipeline) error {
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	defer server.Close()
	objects := awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: "example"}, nil
		}),
	})
	for _, name := range []string{bucket, archive} {
		made := &awss3.CreateBucketInput{Bucket: &name}
		if _, err := objects.CreateBucket(ctx, made); err != nil {
			return err
		}
	}
	sink, err := s3.NewSink(objects, s3.SinkParams{Bucket: archive})
	if err != nil {
		return err
	}
	sandbox := ricloudtest.NewServer(ricloudtest.WithUnconfigured(),
		ricloudtest.WithPublisher(publisher{objects}), ricloudtest.WithSpeed(10))
	defer sandbox.Close()
	p.archive = sink
	p.client = sandbox.Client(ricloud.WithStorage("s3", s3.New(objects)))

	credentials, err := ricloud.CredentialsFromKey(keyID, ricloud.NewSecret("example"))
	if err != nil {
		return err
	}
	if _, err := p.client.StorageConfigs.Ensure(ctx, ricloud.StorageConfigEnsureParams{
		URL: "s3://" + bucket + "/ricloud", Credentials: credentials, MakeOrganisationDefault: true,
	}); err != nil {
		return err
	}
	user, err := p.client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		return err
	}
	session, err := p.client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret(password)},
	}, nil)
	if err != nil {
		return err
	}
	poll, err := p.client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls", "ios_messages.messages"}},
	})
	if err != nil {
		return err
	}
	return p.run(ctx, poll.ID)
}

// publisher writes what the sandbox publishes to the bucket.
type publisher struct{ client *awss3.Client }

func (p publisher) Publish(ctx context.Context, url string, content ricloudtest.Content) error {
	key := strings.TrimPrefix(url, "s3://"+bucket+"/")
	_, err := p.client.PutObject(ctx, &awss3.PutObjectInput{
		Bucket: aws.String(bucket), Key: &key, Body: io.NewSectionReader(content, 0, content.Size()),
	})
	return err
}
