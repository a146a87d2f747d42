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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go"
)

// StorageGet is the operation of a read of a stored object, as the journal and
// the faults know it. It is no endpoint of the API.
const StorageGet = "Storage.Get"

// Publisher takes the objects that the API publishes, in place of a bucket: url
// is what the result will carry, such as "s3://bucket/path/key". An error fails
// the task, or the test of the storage config. Calls are concurrent.
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

// destination is the storage config that a key publishes to, nil for none.
func (s *Server) destination(k *key) *storageConfig {
	for _, x := range []*storageConfig{k.storage, s.org.storageDefault} {
		if x != nil && x.state == stateValid {
			return x
		}
	}
	return nil
}

func (s *Server) configured() bool {
	return slices.ContainsFunc(s.storages.all, func(x *storageConfig) bool { return x.state == stateValid })
}

func scheme(raw string) string {
	kind, _, _ := strings.Cut(raw, "://")
	return kind
}

// immediate is the size up to which an object is hashed where it is published;
// larger ones are read beside the server.
const immediate = 256 << 10

// publish writes what a task found to its storage, then ends the task.
func (s *Server) publish(t *task, content *blob, kind string) {
	to := s.destination(t.key)
	if to == nil {
		s.finish(t, codeUnconfigured)
		return
	}
	r := &result{head: s.unique(), task: t, identifier: t.target, kind: kind, size: content.Size(), state: stateAvailable}
	r.url = strings.TrimSuffix(to.url, "/") + "/" + t.poll.id + "/" + r.id
	if to.signed {
		r.signed = r.created.Add(time.Duration(float64(to.signedFor) / s.clock.speed))
	}
	ours := s.writer(to.url) == nil
	store := func() error {
		sum, err := content.sum()
		r.checksum = sum
		if err != nil || ours {
			return err
		}
		return s.writer(to.url)(s.ctx, r.url, content.Content)
	}
	done := func(err error) {
		if err != nil {
			s.finish(t, codePublishFailed)
			return
		}
		if ours {
			path := strings.TrimPrefix(r.url, scheme(r.url)+"://")
			r.object = &stored{path, mediaType(kind), content, `"` + r.checksum + `"`, r.created}
			s.objects[path] = r.object
		}
		t.results = append(t.results, r)
		s.results.add(r)
		s.finish(t, "")
	}
	if ours && content.Size() <= immediate {
		done(store())
		return
	}
	s.spawn(func() {
		err := store()
		s.mu.Lock()
		defer s.mu.Unlock()
		done(err)
	})
}

// writer is how objects of a config leave the sandbox, nil where they stay.
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
	path := strings.TrimPrefix(to, "local://")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.Create(path) //nolint:gosec // below the folder the user gave
	if err != nil {
		return err
	}
	_, err = io.Copy(file, io.NewSectionReader(content, 0, content.Size()))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

func mediaType(kind string) string {
	if kind == "json" {
		return "application/json"
	}
	return "application/octet-stream"
}

// sign makes a URL that reads one object until it expires.
func (s *Server) sign(origin string, object *stored, expires time.Time) string {
	until := strconv.FormatInt(expires.Unix(), 10)
	segments := strings.Split(object.path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return origin + "/" + strings.Join(segments, "/") + "?expires=" + until + "&signature=" + s.storageSignature(object.path, until)
}

func (s *Server) storageSignature(path, until string) string {
	mac := hmac.New(sha256.New, s.storing)
	mac.Write([]byte(path + "\n" + until))
	return hex.EncodeToString(mac.Sum(nil))
}

// serveStorage answers a read of a stored object.
func (s *Server) serveStorage(r *http.Request) *answer {
	entry := s.journal.begin(StorageGet, r)
	a := s.disturb(r.Context(), StorageGet, func() *answer { return s.readObject(r) })
	s.journal.end(entry, a)
	return a
}

// readObject answers as a bucket does: 400 to two kinds of credentials at
// once, 403 to a signature that is wrong or over, ranges and conditions.
func (s *Server) readObject(r *http.Request) *answer {
	if r.Header.Get("Authorization") != "" {
		return storageError(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return storageError(http.StatusMethodNotAllowed, "MethodNotAllowed", "The method is not allowed")
	}
	path, until := strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query().Get("expires")
	seconds, _ := strconv.ParseInt(until, 10, 64)
	s.mu.Lock()
	object, now := s.objects[path], s.clock.now()
	s.mu.Unlock()
	if !hmac.Equal([]byte(s.storageSignature(path, until)), []byte(r.URL.Query().Get("signature"))) {
		return storageError(http.StatusForbidden, "SignatureDoesNotMatch", "The signature does not match")
	}
	if now.Unix() >= seconds {
		return storageError(http.StatusForbidden, "AccessDenied", "Request has expired")
	}
	if object == nil {
		return storageError(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	if strings.Contains(r.Header.Get("Range"), ",") { // buckets serve one range, or all
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	return answerOf(func(w http.ResponseWriter) {
		w.Header().Set("ETag", object.etag)
		w.Header().Set("Content-Type", object.kind)
		http.ServeContent(w, r, "", object.created, io.NewSectionReader(object.content, 0, object.content.Size()))
	})
}

func storageError(status int, code, message string) *answer {
	return bytesAnswer(status, "application/xml", fmt.Appendf(nil, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message))
}

// RemoveObject makes a result's object vanish from the sandbox's storage.
func (s *Server) RemoveObject(resultID ricloud.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.results.get(string(resultID))
	if err != nil {
		return fmt.Errorf("ricloudtest: remove object of result %s: %w", resultID, err)
	}
	if r.object != nil {
		delete(s.objects, r.object.path)
	}
	return nil
}

// ReplaceObject puts other bytes in place of a result's object; the result
// keeps its checksum and size, so a careful client finds out.
func (s *Server) ReplaceObject(resultID ricloud.ID, content Content) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.results.get(string(resultID))
	if err == nil && r.object == nil {
		err = notFound("object")
	}
	if err != nil {
		return fmt.Errorf("ricloudtest: replace object of result %s: %w", resultID, err)
	}
	changed := *r.object
	changed.content = newBlob(content)
	changed.etag = `"` + s.newSecret("")[:32] + `"`
	s.objects[changed.path] = &changed
	return nil
}
