package s3

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestCredentialsOfAnAWSConfiguration(t *testing.T) {
	t.Parallel()
	const secret = "a-secret-key-of-forty-characters-0123456"
	given := func(key aws.Credentials, err error) aws.CredentialsProvider {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return key, err
		})
	}
	want, err := ricloud.CredentialsFromKey("AKIDEXAMPLE", ricloud.NewSecret(secret))
	require.NoError(t, err)
	got, err := Credentials(t.Context(), given(aws.Credentials{
		AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret,
	}, nil))
	require.NoError(t, err)
	assert.Equal(t, want, got)

	unreachable := errors.New("the metadata service does not answer")
	for name, test := range map[string]struct {
		provider aws.CredentialsProvider
		field    string
		is       error
	}{
		"none":        {provider: nil, field: "provider"},
		"unreachable": {provider: given(aws.Credentials{}, unreachable), is: unreachable},
		"expiring": {field: "provider", provider: given(aws.Credentials{
			AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret, CanExpire: true,
			Expires: time.Now().Add(time.Hour),
		}, nil)},
		"of a session": {field: "provider", provider: given(aws.Credentials{
			AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret, SessionToken: "session",
		}, nil)},
		"no secret": {field: "secret_access_key", provider: given(aws.Credentials{
			AccessKeyID: "AKIDEXAMPLE",
		}, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Credentials(t.Context(), test.provider)
			require.Error(t, err)
			assert.Nil(t, got)
			assert.NotContains(t, err.Error(), secret)
			if test.is != nil {
				assert.ErrorIs(t, err, test.is)
				return
			}
			param, ok := errors.AsType[*ricloud.ParamError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, test.field, param.Field)
		})
	}
}
