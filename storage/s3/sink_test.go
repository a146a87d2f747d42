package s3_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

// The sink itself is tested in signaturetest, against a server that checks
// conditions.
func TestNewSinkRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	client := connect("http://localhost")
	for field, tc := range map[string]struct {
		client *awss3.Client
		params s3.SinkParams
	}{
		"client":   {nil, s3.SinkParams{Bucket: "b"}},
		"Bucket":   {client, s3.SinkParams{}},
		"PartSize": {client, s3.SinkParams{Bucket: "b", PartSize: 1 << 20}},
		"LockMode": {client, s3.SinkParams{Bucket: "b", LockMode: types.ObjectLockModeGovernance}},
	} {
		_, err := s3.NewSink(tc.client, tc.params)
		var refused *ricloud.ParamError
		require.ErrorAs(t, err, &refused, field)
		assert.Equal(t, field, refused.Field)
	}
	_, err := s3.NewSink(client, s3.SinkParams{Bucket: "b", RetainUntil: time.Now()})
	require.NoError(t, err)
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	got, err := s3.Credentials(t.Context(), credentials.NewStaticCredentialsProvider("AKIA1", "canary-secret", ""))
	require.NoError(t, err)
	assert.Equal(t, "AKIA1", got["access_key_id"].Reveal())
	assert.Equal(t, "canary-secret", got["secret_access_key"].Reveal())
	for name, provider := range map[string]aws.CredentialsProvider{
		"a session":   credentials.NewStaticCredentialsProvider("AKIA1", "canary-secret", "canary-token"),
		"no secret":   credentials.NewStaticCredentialsProvider("AKIA1", "", ""),
		"none at all": nil,
		"failing": aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no profile")
		}),
	} {
		_, err := s3.Credentials(t.Context(), provider)
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "canary")
	}
}
