package ricloudtest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// StorageGet is the operation of a read of a stored object, as the journal and the faults know it.
// It is not an endpoint of the API.
const StorageGet = "Storage.Get"

// Publisher takes the objects that the API publishes, in place of a bucket. The url is what the
// result will carry, such as "s3://bucket/path/key". An error fails the task, or the test of the
// storage config. Calls are concurrent.
type Publisher interface {
	Publish(ctx context.Context, url string, content Content) error
}

// stored is an object in the sandbox's own buckets.
type stored struct {
	path    string // bucket and key
	kind    string
	content *blob
	etag    string
	created time.Time
}

func objectPath(raw string) string {
	_, path, _ := strings.Cut(raw, "://")
	return path
}

func mediaType(kind string) string {
	if kind == "json" {
		return "application/json"
	}
	return "application/octet-stream"
}

// writer returns a function that writes objects to a storage URL outside the sandbox, or nil if the
// objects stay in the sandbox.
func (s *Server) writer(to string) func(context.Context, string, Content) error {
	switch {
	case scheme(to) == "local":
		return writeFile
	case s.publisher != nil:
		return s.publisher.Publish
	}
	return nil
}

func writeFile(_ context.Context, to string, content Content) error {
	path := objectPath(to)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.Create(path) //nolint:gosec // below the folder that the user gave
	if err != nil {
		return err
	}
	_, err = io.Copy(file, io.NewSectionReader(content, 0, content.Size()))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// sign returns a URL that reads one object until it expires.
func (s *Server) sign(origin, path string, expires time.Time) string {
	until := strconv.FormatInt(expires.Unix(), 10)
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return origin + "/" + strings.Join(segments, "/") + "?expires=" + until +
		"&signature=" + s.storageSignature(path, until)
}

func (s *Server) storageSignature(path, until string) string {
	mac := hmac.New(sha256.New, s.storing)
	mac.Write([]byte(path + "\n" + until))
	return hex.EncodeToString(mac.Sum(nil))
}

// serveStorage answers a read of stored objects.
func (s *Server) serveStorage(r *http.Request) *reply.Answer {
	path := strings.TrimPrefix(r.URL.Path, "/")
	entry := s.journal.begin(StorageGet, r, nil)
	a := s.disturb(r, target{operation: StorageGet, id: path}, func() *reply.Answer {
		return s.readStored(r)
	})
	s.date(a)
	s.journal.end(entry, a)
	return a
}

// readStored answers as a bucket does. It takes a signed URL without other credentials, the
// vendors' S3 clients with the sandbox's access key, and Google's clients as their emulator does.
func (s *Server) readStored(r *http.Request) *reply.Answer {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return storageError(http.StatusMethodNotAllowed, "MethodNotAllowed", "Reads only")
	}
	header, query := r.Header.Get("Authorization"), r.URL.Query()
	signed := query.Has("signature") || query.Has("expires")
	switch {
	case signed && header != "":
		return storageError(http.StatusBadRequest, "InvalidArgument",
			"Only one auth mechanism allowed")
	case signed:
		return s.readSigned(r)
	case strings.HasPrefix(header, "AWS4-HMAC-SHA256 "):
		return s.readS3(r, header)
	case isGoogleClient(r):
		return s.readGoogle(r)
	case header != "":
		return storageError(http.StatusBadRequest, "InvalidArgument",
			"Unsupported Authorization Type")
	}
	return storageError(http.StatusForbidden, "AccessDenied", "Access Denied")
}

// readSigned answers a signed URL: 403 where the signature is wrong or has expired.
func (s *Server) readSigned(r *http.Request) *reply.Answer {
	path, query := strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query()
	until := query.Get("expires")
	seconds, _ := strconv.ParseInt(until, 10, 64)
	s.mu.Lock()
	now, expected := s.clock.Now(), s.storageSignature(path, until)
	s.mu.Unlock()
	if !hmac.Equal([]byte(expected), []byte(query.Get("signature"))) {
		return storageError(http.StatusForbidden, "SignatureDoesNotMatch",
			"The signature does not match")
	}
	if now.Unix() >= seconds {
		return storageError(http.StatusForbidden, "AccessDenied", "Request has expired")
	}
	return s.readObject(r, path)
}

// object returns a stored object, or nil.
func (s *Server) object(path string) *stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// readObject serves an object with ranges and conditions.
func (s *Server) readObject(r *http.Request, path string) *reply.Answer {
	object := s.object(path)
	if object == nil {
		return storageError(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	if strings.Contains(r.Header.Get("Range"), ",") { // buckets serve one range, or all
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	return reply.Of(func(w http.ResponseWriter) {
		w.Header().Set("ETag", object.etag)
		w.Header().Set("Content-Type", object.kind)
		content := io.NewSectionReader(object.content, 0, object.content.Size())
		http.ServeContent(w, r, "", object.created, content)
	})
}

func storageError(status int, code, message string) *reply.Answer {
	body := fmt.Appendf(nil, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
	return reply.Bytes(status, "application/xml", body)
}
