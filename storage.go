package ricloud

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/download"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// An ObjectOpener opens the objects of a storage service. It must be safe for
// concurrent use.
type ObjectOpener interface {
	// OpenObject opens an object from req.Offset on. ctx bounds the reading of
	// the Body, too. An error that is or wraps a *StorageError is retried only
	// if its status is 408, 429 or at least 500. An error without a
	// *StorageError is always retried.
	OpenObject(ctx context.Context, req ObjectRequest) (*Object, error)
}

// ObjectRequest says which bytes of an object are wanted.
type ObjectRequest struct {
	Bucket, Key string // as they are stored, not escaped
	Offset      int64  // the first byte wanted
	// Version is the Version of the Object that was opened first, or "". If the
	// object has changed since, OpenObject returns ErrObjectChanged or an
	// Object with the new Version.
	Version string
}

// Object is an open object.
type Object struct {
	Body    io.ReadCloser
	Offset  int64  // where Body begins: the request's, or 0 where storage cannot seek
	Size    int64  // of the whole object, as stored; -1 if unknown
	Version string // a strong ETag or a generation; "" if there is none
}

// ErrObjectChanged means that the object in storage was replaced while it was
// read. Open, Save and SaveAll return it. Get the result again with Results.Get
// before another attempt.
var ErrObjectChanged = download.ErrChanged

// StorageError is an answer of a storage service with a status of 400 or more.
// errors.Is matches ErrForbidden for 401 and 403, ErrNotFound for 404 and 410,
// ErrObjectChanged for 412, ErrSize for 416, ErrRateLimited for 429, and
// ErrServer from 500 on.
type StorageError struct {
	Host       string // the service, or the bucket
	StatusCode int
	Code       string // the service's own code, such as "AccessDenied"
	Err        error  // what the service's client returned, if there is one
}

// Error says which service answered what. It leaves out the rest of the answer,
// which may repeat a signature.
func (e *StorageError) Error() string {
	text := fmt.Sprintf("storage at %s answered %d %s", e.Host, e.StatusCode,
		http.StatusText(e.StatusCode))
	if isStorageCode(e.Code) {
		text += ": " + e.Code
	}
	return text
}

// isStorageCode reports whether a code consists of words, and not of text that
// may repeat a request.
func isStorageCode(code string) bool {
	return code != "" && len(code) <= 64 && strings.IndexFunc(code, func(r rune) bool {
		return r != ' ' && r != '.' && r != '-' && r != '_' &&
			!('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}) < 0
}

// Unwrap returns the error of the service's client.
func (e *StorageError) Unwrap() error { return e.Err }

// Is reports whether e means target.
func (e *StorageError) Is(target error) bool {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrForbidden
	case http.StatusNotFound, http.StatusGone:
		return target == ErrNotFound
	case http.StatusPreconditionFailed:
		return target == ErrObjectChanged
	case http.StatusRequestedRangeNotSatisfiable: // it is shorter than what was read of it
		return target == ErrSize
	case http.StatusTooManyRequests:
		return target == ErrRateLimited
	}
	return e.StatusCode >= http.StatusInternalServerError && target == ErrServer
}

// mayPass reports whether the same request may succeed later.
func (e *StorageError) mayPass() bool {
	return e.StatusCode >= http.StatusInternalServerError ||
		e.StatusCode == http.StatusTooManyRequests ||
		e.StatusCode == http.StatusRequestTimeout
}

// parseObjectURL splits a result's URL. net/url would not do: keys hold "?",
// "#" and "%" as they are. One slash after the bucket is not part of the key.
func parseObjectURL(raw string) (scheme, bucket, key string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	bucket, key, _ = strings.Cut(rest, "/")
	scheme = strings.ToLower(scheme)
	if !ok || scheme == "" || key == "" || bucket == "" && scheme != localScheme {
		return "", "", "", invalid("URL", fmt.Sprintf("%q is not scheme://bucket/key", cutQuery(raw)))
	}
	return scheme, bucket, key, nil
}

// cutQuery removes the query of a URL, which may hold a signature or another
// secret.
func cutQuery(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	return raw
}

// WithStorage sets the opener for results whose URL has the scheme: "s3", "gs"
// or one of your own, without "://". The modules storage/s3 and storage/gcs
// have openers for those two. The opener is preferred to the signed URL of a
// result.
func WithStorage(scheme string, opener ObjectOpener) Option {
	return func(c *config) {
		name := strings.ToLower(scheme)
		if !isScheme(name) {
			c.refuse("WithStorage", fmt.Sprintf(`needs a URL scheme such as "s3", got %q`, scheme))
		}
		if !c.present("WithStorage", opener) {
			return
		}
		if c.storage == nil {
			c.storage = map[string]ObjectOpener{}
		}
		c.storage[name] = opener
	}
}

// isScheme reports whether s is the scheme of a URL, in lower case.
func isScheme(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z'
		other := '0' <= r && r <= '9' || r == '+' || r == '-' || r == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}

// WithPrivateStorage lets signed URLs and redirects lead to this machine and to
// private networks: a self-hosted API may have its storage there. Without it,
// they may lead only to the public Internet, unless the API itself is on this
// machine.
func WithPrivateStorage() Option { return func(c *config) { c.privateStorage = true } }

// WithLocalFiles lets the client open local:// files, which a self-hosted API
// publishes to a disk that it shares with this machine. Only files in the
// folder dir are opened, and never one outside it that a symbolic link leads
// to. A result's signed URL is preferred. Without the option, local:// URLs are
// not opened.
func WithLocalFiles(dir string) Option {
	return func(c *config) {
		if dir == "" {
			c.refuse("WithLocalFiles", "must name a folder")
		}
		c.local = dir
	}
}

// storagePolicy says where signed URLs may lead. What an API on this machine
// says is as trusted as this machine.
func storagePolicy(cfg config) download.Policy {
	base, err := url.Parse(cfg.BaseURL)
	local := err == nil && transport.IsLoopback(base.Hostname())
	return download.Policy{HTTP: cfg.AllowHTTP, Local: local || cfg.privateStorage || cfg.AllowHTTP}
}

// locate finds what opens a result's object: the caller's opener, its signed
// URL, or the disk.
func (c *Client) locate(result *Result) (ObjectOpener, ObjectRequest, error) {
	scheme, bucket, key, err := parseObjectURL(result.URL)
	object := ObjectRequest{Bucket: bucket, Key: key}
	if opener := c.downloads.storage[scheme]; err == nil && opener != nil {
		return opener, object, nil
	}
	if err != nil && result.SignedURL.URL.IsZero() {
		return nil, ObjectRequest{}, err
	}
	signed := &signedURL{client: c, result: result, scheme: scheme}
	if err == nil && scheme == localScheme && c.downloads.local != "" {
		files := localFiles(c.downloads.local)
		if result.SignedURL.URL.IsZero() {
			return files, object, nil
		}
		return &fallback{signed, files}, object, nil
	}
	return signed, object, nil
}

// fallback opens with one opener, and with another where that one has no way
// to the object.
type fallback struct{ first, second ObjectOpener }

func (f *fallback) OpenObject(ctx context.Context, req ObjectRequest) (*Object, error) {
	object, err := f.first.OpenObject(ctx, req)
	if err == nil || !errors.Is(err, ErrNoStorage) && !errors.Is(err, ErrForbidden) {
		return object, err
	}
	if object, localErr := f.second.OpenObject(ctx, req); localErr == nil {
		return object, nil
	}
	return nil, err
}

const localScheme = "local"

// localFiles opens the files of local:///path within a folder.
type localFiles string

func (dir localFiles) OpenObject(_ context.Context, req ObjectRequest) (*Object, error) {
	full := filepath.FromSlash(path.Join("/", req.Bucket, req.Key))
	if volume := filepath.VolumeName(full[1:]); volume != "" { // local:///C:/results
		full = full[1:]
	}
	own, err := filepath.Abs(string(dir))
	if err != nil {
		return nil, localError(err)
	}
	name, err := filepath.Rel(own, full)
	if err != nil || !filepath.IsLocal(name) {
		return nil, &StorageError{
			Host: "local://", StatusCode: http.StatusForbidden,
			Code: "the file is outside the folder of WithLocalFiles",
		}
	}
	root, err := os.OpenRoot(own)
	if err != nil {
		return nil, localError(err)
	}
	defer func() { _ = root.Close() }()
	f, size, err := download.OpenLocal(root, filepath.ToSlash(name), req.Offset)
	if err != nil {
		return nil, localError(err)
	}
	return &Object{Body: f, Offset: req.Offset, Size: size}, nil
}

func localError(err error) error {
	status := http.StatusForbidden
	if errors.Is(err, os.ErrNotExist) {
		status = http.StatusNotFound
	}
	return &StorageError{Host: "local://", StatusCode: status, Err: err}
}

// A Sink stores result files elsewhere than in a folder, such as in a bucket of
// your own. The module storage/s3 has one. It must be safe for concurrent use.
type Sink interface {
	// Store stores a file and returns its location. It must not make the file
	// visible before file.Body has returned io.EOF, which means that size and
	// MD5 are right. It must not overwrite a file that has other content. If it
	// has the file already, it returns without reading Body.
	Store(ctx context.Context, file SinkFile) (StoredFile, error)
}

// SinkFile is a file for a [Sink].
type SinkFile struct {
	Result *Result   // its Checksum and Size are those of the file
	Name   string    // safe as a file name; not unique, see FileName
	Body   io.Reader // nothing is read from storage before the first Read
}

// StoredFile says where a [Sink] has stored a file.
type StoredFile struct {
	Location string // such as a URL
	SHA256   string // in hex, of a file that the sink had already; may be empty
}

// SaveAllTo is SaveAll with a [Sink] in place of a folder. A result is
// acknowledged only after the sink has stored its verified file. [WithManifest]
// does not apply and is refused.
func (s *ResultsService) SaveAllTo(
	ctx context.Context, results iter.Seq2[*Result, error], sink Sink, opts ...SaveAllOption,
) ([]Saved, error) {
	const operation = "Results.SaveAllTo"
	o, err := newDownloadOptions(operation, opts, SaveAllOption.applySaveAll)
	switch {
	case err != nil:
		return nil, err
	case results == nil:
		return nil, &ParamError{Operation: operation, Field: "results", Reason: "is nil"}
	case isNil(sink):
		return nil, &ParamError{Operation: operation, Field: "sink", Reason: "is nil"}
	case o.manifest != nil:
		return nil, &ParamError{
			Operation: operation, Field: "WithManifest", Reason: "does not apply to a Sink",
		}
	}
	all := newSaveAll(operation, s, o)
	all.keep = func(ctx context.Context, item *savedFile) error {
		return s.store(ctx, operation, sink, item, all.options)
	}
	return all.run(ctx, results)
}

// store keeps the file of item.Result in a sink and fills in what is known of
// it.
func (s *ResultsService) store(
	ctx context.Context, operation string, sink Sink, item *savedFile, o downloadOptions,
) (err error) {
	ctx, seen := clientFor(s).beginTransfer(ctx, operation, item.Result)
	body := sinkBody{}
	defer func() { seen.end(err == nil, err == nil && !body.begun, err) }()
	file, own, err := clientFor(s).file(ctx, operation, item.Result, o.progress, seen)
	if err != nil {
		return err
	}
	file.SHA256 = true
	body.Reader = download.NewReader(ctx, clientFor(s).downloads.limits, file)
	defer func() { _ = body.Close() }()
	item.own = *own
	stored, err := sink.Store(ctx, SinkFile{
		Result: new(*own), Name: FileName(o.name(new(*own))), Body: &body,
	})
	if err == nil && body.begun && !body.Verified() {
		err = errors.New("the sink did not read the file to its end")
	}
	if err != nil {
		if _, ok := errors.AsType[*DownloadError](err); !ok {
			if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
				err = errors.Join(backoff.Cause(ctx), err)
			}
			err = file.Fail(body.Done(), err)
		}
		return err
	}
	item.Path, item.MD5, item.SHA256, item.kept.Found = stored.Location,
		hex.EncodeToString(file.MD5), stored.SHA256, !body.begun
	if body.begun {
		_, sha := body.Sums()
		item.SHA256 = hex.EncodeToString(sha)
	}
	return nil
}

// sinkBody knows whether it was read.
type sinkBody struct {
	*download.Reader

	begun bool
}

func (b *sinkBody) Read(p []byte) (int, error) {
	b.begun = true
	return b.Reader.Read(p)
}

func (b *sinkBody) WriteTo(w io.Writer) (int64, error) {
	b.begun = true
	return b.Reader.WriteTo(w)
}
