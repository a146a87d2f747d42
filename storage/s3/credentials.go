package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	ricloud "github.com/reincubate/ricloud-go"
)

// Credentials returns the access key of an AWS configuration as the credentials
// of a storage config. The AWS SDK reads profiles, environment and files:
//
//	cfg, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile("ricloud"))
//	…
//	credentials, err := s3.Credentials(ctx, cfg.Credentials)
//
// Credentials that expire are refused, because the API uses them later. Use the
// key of an IAM user.
func Credentials(
	ctx context.Context, provider aws.CredentialsProvider,
) (ricloud.Credentials, error) {
	if provider == nil {
		return nil, &ricloud.ParamError{Operation: "s3.Credentials", Field: "provider", Reason: "is nil"}
	}
	key, err := provider.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("s3: credentials: %w", err)
	}
	if key.SessionToken != "" || key.CanExpire {
		return nil, &ricloud.ParamError{
			Operation: "s3.Credentials", Field: "provider",
			Reason: "gives credentials that expire; an IAM user's own key is needed",
		}
	}
	credentials, err := ricloud.CredentialsFromKey(key.AccessKeyID,
		ricloud.NewSecret(key.SecretAccessKey))
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return credentials, nil
}
