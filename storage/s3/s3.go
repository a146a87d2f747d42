// Package s3 lets a ricloud client read results from Amazon S3, and from
// storage that speaks its protocol, with the AWS SDK:
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	…
//	opener := s3.New(awss3.NewFromConfig(cfg))
//	client, err := ricloud.NewClient(token, ricloud.WithStorage("s3", opener))
//
// Region, credentials, endpoint and retries are those of the AWS client. Its
// checksums of answers are not computed, because the ricloud client verifies
// each file by size and MD5. The AWS client needs the permission s3:GetObject on
// the bucket.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	ricloud "github.com/reincubate/ricloud-go"
)

// Opener opens s3:// objects. It is safe for concurrent use.
type Opener struct{ client *awss3.Client }

// New returns an opener that reads with client.
func New(client *awss3.Client) *Opener { return &Opener{client} }

// OpenObject implements ricloud.ObjectOpener with GetObject. A status of 400 or
// more is returned as a *ricloud.StorageError.
func (o *Opener) OpenObject(
	ctx context.Context, req ricloud.ObjectRequest,
) (*ricloud.Object, error) {
	if o.client == nil {
		return nil, errors.New("s3: the client is nil: give New one")
	}
	input := &awss3.GetObjectInput{Bucket: &req.Bucket, Key: &req.Key}
	if req.Offset > 0 {
		input.Range = aws.String(fmt.Sprintf("bytes=%d-", req.Offset))
		if req.Version != "" {
			input.IfMatch = &req.Version
		}
	}
	out, err := o.client.GetObject(ctx, input, withoutChecksums)
	if err != nil {
		return nil, translate(err, req.Bucket)
	}
	object := &ricloud.Object{Body: out.Body, Size: -1, Version: aws.ToString(out.ETag)}
	if out.ContentRange == nil && !isPart(out) { // the whole of it, whatever was asked for
		if out.ContentLength != nil {
			object.Size = *out.ContentLength
		}
		return object, nil
	}
	var last int64
	n, _ := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-%d/%d", &object.Offset, &last,
		&object.Size)
	if n < 2 { // the size may be "*"
		return nil, errors.Join(
			fmt.Errorf("s3: bucket %s sent a part with no or an unreadable Content-Range", req.Bucket),
			out.Body.Close())
	}
	return object, nil
}

// isPart reports whether an answer says that it is a part of the object.
func isPart(out *awss3.GetObjectOutput) bool {
	answer, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
	return ok && answer.StatusCode == http.StatusPartialContent
}

// withoutChecksums saves a second checksum of each object.
func withoutChecksums(o *awss3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// translate keeps the status and the code of S3's answer. The SDK's own text
// goes no further than Unwrap: it has the request's id in it, and no use.
func translate(err error, bucket string) error {
	answer, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || answer.HTTPStatusCode() == 0 { // there was no answer
		return fmt.Errorf("s3: bucket %s: %w", bucket, err)
	}
	storage := &ricloud.StorageError{
		Host: "s3://" + bucket, StatusCode: answer.HTTPStatusCode(),
		Err: err,
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && isCode(api.ErrorCode()) {
		storage.Code = api.ErrorCode()
	}
	return storage
}

// isCode reports whether an error's code is one, and not text that may repeat
// the request.
func isCode(code string) bool {
	return len(code) <= 64 && strings.IndexFunc(code, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}) < 0
}
