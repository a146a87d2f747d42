package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // what S3 verifies
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	ricloud "github.com/reincubate/ricloud-go"
)

// Sink stores result files in a bucket, for [ricloud.ResultsService.SaveAllTo].
// It is safe for concurrent use.
//
// An object appears under its key only after all of its bytes were verified. It
// is created only if the key is free, so no object is ever overwritten. Its
// metadata hold the MD5 and the SHA-256 of the file, so a later Store recognises it
// without reading it. If the key is taken by other content, the file gets a key
// with "~" and the MD5.
//
// Memory holds two parts of each file that is being stored. The client needs
// s3:PutObject, s3:GetObject, s3:AbortMultipartUpload, s3:ListBucket, without which
// S3 does not say that a key is free, and, for a retention, s3:PutObjectRetention.
type Sink struct {
	client *awss3.Client
	params SinkParams
}

// SinkParams configure a [Sink].
type SinkParams struct {
	Bucket string
	Prefix string // before the file's name in the key, such as "cases/42/"

	// RetainUntil, if set, locks each object until then: the bucket must have
	// object lock enabled. LockMode is COMPLIANCE if it is empty.
	RetainUntil time.Time
	LockMode    types.ObjectLockMode

	// PartSize is the size of the parts of an upload in bytes, at least 5 MiB. The
	// default is 16 MiB. It grows for files of more than 10,000 parts.
	PartSize int64
}

const (
	minPartSize     = 5 << 20
	defaultPartSize = 16 << 20
	maxParts        = 10_000
	abortTimeout    = 30 * time.Second

	// How long to wait before the second and the last look for another's object.
	firstLook, longestLook = 20 * time.Millisecond, time.Second

	metaMD5    = "ricloud-md5"
	metaSHA256 = "ricloud-sha256"
)

// NewSink returns a sink. It returns a *ricloud.ParamError for params that cannot
// work.
func NewSink(client *awss3.Client, params SinkParams) (*Sink, error) {
	refuse := func(field, reason string) error {
		return &ricloud.ParamError{Operation: "s3.NewSink", Field: field, Reason: reason}
	}
	switch {
	case client == nil:
		return nil, refuse("client", "is nil")
	case params.Bucket == "":
		return nil, refuse("Bucket", "is required")
	case params.PartSize != 0 && params.PartSize < minPartSize:
		return nil, refuse("PartSize", "is less than 5 MiB")
	case params.LockMode != "" && params.RetainUntil.IsZero():
		return nil, refuse("LockMode", "needs RetainUntil")
	}
	if params.PartSize == 0 {
		params.PartSize = defaultPartSize
	}
	if params.LockMode == "" && !params.RetainUntil.IsZero() {
		params.LockMode = types.ObjectLockModeCompliance
	}
	return &Sink{client, params}, nil
}

// Store implements [ricloud.Sink]. If another Store takes the key first, Store
// looks for its object, and then uses the file's other key for other content. A
// file of several parts is not sent again: it fails, and the next Store stores it.
func (s *Sink) Store(ctx context.Context, file ricloud.SinkFile) (ricloud.StoredFile, error) {
	if s.client == nil {
		return ricloud.StoredFile{}, errors.New("s3: the sink is zero: make one with NewSink")
	}
	digest, err := hex.DecodeString(file.Result.Checksum)
	if err != nil {
		return ricloud.StoredFile{},
			fmt.Errorf("s3: the checksum of result %s is not an MD5: %w", file.Result.ID, err)
	}
	u := &upload{
		Sink: s, file: file, md5: strings.ToLower(file.Result.Checksum), digest: digest,
		part: max(s.params.PartSize, file.Result.Size/maxParts+1),
	}
	store := u.inParts
	if file.Result.Size <= u.part {
		store = u.whole
	}
	for wait := firstLook; ; wait *= 2 {
		key, there, err := s.choose(ctx, file)
		if err != nil || there.Location != "" {
			return there, err
		}
		u.key = key
		if err = store(ctx); err == nil {
			return ricloud.StoredFile{Location: s.location(key)}, nil
		}
		if !taken(err) || wait > longestLook {
			return ricloud.StoredFile{}, err
		}
		if ended := pause(ctx, wait); ended != nil {
			return ricloud.StoredFile{}, errors.Join(ended, err)
		}
	}
}

// taken reports whether another Store was first, or an attempt of this one whose
// answer was lost. Some servers refuse a second object a moment before they show
// the first.
func taken(err error) bool {
	answer, ok := errors.AsType[*ricloud.StorageError](err)
	return ok && (answer.StatusCode == http.StatusPreconditionFailed ||
		answer.StatusCode == http.StatusConflict || answer.Code == "NoSuchUpload")
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), ctx.Err())
	}
}

func (s *Sink) location(key string) string { return "s3://" + s.params.Bucket + "/" + key }

// choose returns a key that is free, or the object that already holds the file.
func (s *Sink) choose(
	ctx context.Context, file ricloud.SinkFile,
) (string, ricloud.StoredFile, error) {
	sum := strings.ToLower(file.Result.Checksum)
	for _, key := range []string{s.params.Prefix + file.Name, s.params.Prefix + file.Name + "~" +
		sum} {
		there, err := s.look(ctx, key, file)
		switch {
		case errors.Is(err, ricloud.ErrNotFound):
			return key, ricloud.StoredFile{}, nil
		case err != nil:
			return "", ricloud.StoredFile{}, err
		case there.Location != "":
			return key, there, nil
		}
	}
	return "", ricloud.StoredFile{},
		fmt.Errorf("s3: bucket %s has other objects under both keys of %s", s.params.Bucket, file.Name)
}

// look returns the object under a key, without a Location if it is not that of
// file.
func (s *Sink) look(
	ctx context.Context, key string, file ricloud.SinkFile,
) (there ricloud.StoredFile, err error) {
	head, err := s.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.params.Bucket, Key: &key})
	if err != nil {
		return there, translate(err, s.params.Bucket)
	}
	if head.Metadata[metaMD5] == strings.ToLower(file.Result.Checksum) &&
		aws.ToInt64(head.ContentLength) == file.Result.Size {
		there = ricloud.StoredFile{Location: s.location(key), SHA256: head.Metadata[metaSHA256]}
	}
	return there, nil
}

// upload is one file on its way into the bucket.
type upload struct {
	*Sink

	file    ricloud.SinkFile
	md5     string
	digest  []byte // the same
	part    int64
	key     string
	body    *bytes.Buffer // of a file that fits in one part, verified
	refused error         // why the parts of a larger one were stored in vain
}

func (u *upload) retention() *time.Time {
	if u.params.RetainUntil.IsZero() {
		return nil
	}
	return &u.params.RetainUntil
}

// whole stores a file in one request, after its last byte was verified.
func (u *upload) whole(ctx context.Context) error {
	if u.body == nil {
		body := bytes.NewBuffer(make([]byte, 0, u.file.Result.Size+bytes.MinRead))
		if _, err := body.ReadFrom(u.file.Body); err != nil {
			return err
		}
		u.body = body
	}
	sha := sha256.Sum256(u.body.Bytes())
	stored, err := u.client.PutObject(ctx, &awss3.PutObjectInput{
		Bucket: &u.params.Bucket, Key: &u.key, Body: bytes.NewReader(u.body.Bytes()),
		ContentMD5:        aws.String(base64.StdEncoding.EncodeToString(u.digest)),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumSHA256:    aws.String(base64.StdEncoding.EncodeToString(sha[:])),
		IfNoneMatch:       aws.String("*"),
		Metadata:          map[string]string{metaMD5: u.md5, metaSHA256: hex.EncodeToString(sha[:])},
		ObjectLockMode:    u.params.LockMode, ObjectLockRetainUntilDate: u.retention(),
	})
	if err != nil {
		return u.failed(err)
	}
	return u.confirm(ctx, stored.ETag, stored.ChecksumSHA256,
		base64.StdEncoding.EncodeToString(sha[:]))
}

// confirm checks what the server says it has stored. Not all servers send a
// checksum. One that does not even send an ETag has to show the object.
func (u *upload) confirm(ctx context.Context, tag, checksum *string, want string) error {
	if checksum != nil && *checksum != want {
		return fmt.Errorf("s3: bucket %s has stored other bytes: their SHA-256 differs",
			u.params.Bucket)
	}
	if aws.ToString(tag) != "" {
		return nil
	}
	there, err := u.look(ctx, u.key, u.file)
	if err == nil && there.Location == "" {
		err = fmt.Errorf("s3: bucket %s shows another object under the key of the one it has stored",
			u.params.Bucket)
	}
	return err
}

func (u *upload) failed(err error) error {
	if err == nil {
		return nil
	}
	return translate(err, u.params.Bucket)
}

// inParts stores a large file. Nothing is visible before the upload is completed,
// which happens only after all bytes were verified. The metadata are fixed before
// the SHA-256 is known, so they hold the MD5 alone.
func (u *upload) inParts(ctx context.Context) error {
	if u.refused != nil {
		return u.refused
	}
	created, err := u.client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: &u.params.Bucket, Key: &u.key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		Metadata:       map[string]string{metaMD5: u.md5},
		ObjectLockMode: u.params.LockMode, ObjectLockRetainUntilDate: u.retention(),
	})
	if err != nil {
		return u.failed(err)
	}
	parts, sum, err := u.parts(ctx, created.UploadId)
	if err == nil {
		var stored *awss3.CompleteMultipartUploadOutput
		stored, err = u.client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
			Bucket: &u.params.Bucket, Key: &u.key, UploadId: created.UploadId, IfNoneMatch: aws.String("*"),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if err == nil {
			return u.confirm(ctx, stored.ETag, composite(stored.ChecksumSHA256, len(parts)), sum)
		}
		err = u.failed(err)
	}
	u.refused = err
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, abortErr := u.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{
		Bucket: &u.params.Bucket, Key: &u.key, UploadId: created.UploadId,
	})
	return errors.Join(err, u.failed(abortErr))
}

// composite returns the checksum of an upload if it is the SHA-256 of the parts'
// SHA-256, which not all servers send.
func composite(checksum *string, parts int) *string {
	sum, ok := strings.CutSuffix(aws.ToString(checksum), fmt.Sprintf("-%d", parts))
	if !ok {
		return nil
	}
	return &sum
}

// parts reads the file to its verified end and stores its parts. It returns them
// and the SHA-256 of their SHA-256.
func (u *upload) parts(
	ctx context.Context, id *string,
) (parts []types.CompletedPart, sum string, err error) {
	buffer, all := make([]byte, u.part), sha256.New()
	for number := int32(1); ; number++ {
		n, err := io.ReadFull(u.file.Body, buffer)
		last := err == io.EOF || err == io.ErrUnexpectedEOF // bare, of ReadFull
		if err != nil && !last {
			return nil, "", err
		}
		if last { // ReadFull hides which end this was
			_, err := u.file.Body.Read(make([]byte, 1))
			if err != io.EOF {
				return nil, "", cmp.Or(err, io.ErrUnexpectedEOF)
			}
		}
		if n > 0 {
			part, err := u.storePart(ctx, id, number, buffer[:n], all)
			if err != nil {
				return nil, "", err
			}
			parts = append(parts, part)
		}
		if last {
			return parts, base64.StdEncoding.EncodeToString(all.Sum(nil)), nil
		}
	}
}

// storePart stores a part, checks what the server says of it, and adds its SHA-256
// to all.
func (u *upload) storePart(
	ctx context.Context, id *string, number int32, body []byte, all io.Writer,
) (part types.CompletedPart, err error) {
	sum, sha := md5.Sum(body), sha256.Sum256(body) //nolint:gosec // see the import
	_, _ = all.Write(sha[:])                       // a hash
	checksum := base64.StdEncoding.EncodeToString(sha[:])
	stored, err := u.client.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket: &u.params.Bucket, Key: &u.key, UploadId: id, PartNumber: &number,
		Body:              bytes.NewReader(body),
		ContentMD5:        aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &checksum,
	})
	switch {
	case err != nil:
		return part, u.failed(err)
	case aws.ToString(stored.ETag) == "":
		return part, fmt.Errorf("s3: bucket %s did not store part %d: it has no ETag",
			u.params.Bucket, number)
	case stored.ChecksumSHA256 != nil && *stored.ChecksumSHA256 != checksum:
		return part, fmt.Errorf("s3: bucket %s stored other bytes as part %d: their SHA-256 differs",
			u.params.Bucket, number)
	}
	return types.CompletedPart{
		ETag: stored.ETag, PartNumber: &number, ChecksumSHA256: stored.ChecksumSHA256,
	}, nil
}
