package s3_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

// object is a stored object, with the headers it was stored with.
type object struct {
	body   []byte
	header http.Header
	hidden int // number of looks that do not find it yet
}

// objectServer speaks as much of S3 as the sink and the opener need. It checks
// the digests and the conditions of what it stores.
type objectServer struct {
	// before may answer a request in place of the server: it returns true then.
	before func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	objects  map[string]*object
	uploads  map[string]*object // headers of unfinished uploads, by id
	parts    map[string][]byte  // by id and number
	requests []string           // each method with its key, such as "PUT /results/a"
}

func newObjectServer() *objectServer {
	return &objectServer{
		objects: map[string]*object{}, uploads: map[string]*object{}, parts: map[string][]byte{},
	}
}

// start returns a client of the server.
func (s *objectServer) start(t testing.TB) *awss3.Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return connect(server.URL)
}

// store puts an object in place, as another program would.
func (s *objectServer) store(key string, o *object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.header == nil {
		o.header = http.Header{}
	}
	s.objects["/"+bucket+"/"+key] = o
}

// keys returns the keys of all objects, sorted.
func (s *objectServer) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.objects {
		keys = append(keys, strings.TrimPrefix(key, "/"+bucket+"/"))
	}
	slices.Sort(keys)
	return keys
}

func (s *objectServer) object(t testing.TB, key string) *object {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects["/"+bucket+"/"+key]
	require.NotNil(t, o, "no object %s", key)
	return o
}

// count returns how many requests had a method.
func (s *objectServer) count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.HasPrefix(r, method+" ") {
			n++
		}
	}
	return n
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>for %s</Message></Error>", code, accessKey)
}

func (s *objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.before != nil && s.before(w, r) {
		return
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		return
	}
	body := b.Bytes()
	if digest := r.Header.Get("Content-MD5"); digest != "" {
		sum := md5.Sum(body)
		if digest != base64.StdEncoding.EncodeToString(sum[:]) {
			refuse(w, http.StatusBadRequest, "BadDigest")
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	upload := r.URL.Query().Get("uploadId")
	switch {
	case r.Method == http.MethodHead, r.Method == http.MethodGet:
		s.read(w, r)
	case r.Method == http.MethodPost && upload == "":
		id := strconv.Itoa(len(s.uploads) + 1)
		s.uploads[id] = &object{header: r.Header}
		_, _ = fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId>"+
			"</InitiateMultipartUploadResult>", id)
	case r.Method == http.MethodPost:
		o := s.uploads[upload]
		for n := 1; s.parts[upload+"/"+strconv.Itoa(n)] != nil; n++ {
			o.body = append(o.body, s.parts[upload+"/"+strconv.Itoa(n)]...)
		}
		if s.publish(w, r, o) {
			delete(s.uploads, upload)
			_, _ = fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
		}
	case r.Method == http.MethodPut && upload != "":
		s.parts[upload+"/"+r.URL.Query().Get("partNumber")] = body
		w.Header().Set("ETag", `"part"`)
		w.Header().Set("X-Amz-Checksum-Sha256", sha(body))
	case r.Method == http.MethodPut:
		if sum := r.Header.Get("X-Amz-Checksum-Sha256"); sum != "" && sum != sha(body) {
			refuse(w, http.StatusBadRequest, "BadDigest")
			return
		}
		s.publish(w, r, &object{body: body, header: r.Header})
	case r.Method == http.MethodDelete:
		delete(s.uploads, upload)
		w.WriteHeader(http.StatusNoContent)
	}
}

func sha(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// publish makes an object visible, unless it must not exist and does.
func (s *objectServer) publish(w http.ResponseWriter, r *http.Request, o *object) bool {
	if r.Header.Get("If-None-Match") == "*" && s.objects[r.URL.Path] != nil {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return false
	}
	s.objects[r.URL.Path] = o
	return true
}

func (s *objectServer) read(w http.ResponseWriter, r *http.Request) {
	o := s.objects[r.URL.Path]
	if o == nil || o.hidden > 0 {
		if o != nil {
			o.hidden--
		}
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	for name, values := range o.header {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			w.Header()[name] = values
		}
	}
	w.Header().Set("ETag", `"`+sha(o.body)+`"`)
	if match := r.Header.Get("If-Match"); match != "" && match != w.Header().Get("ETag") {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(o.body)))
}

// fileOf returns a file for a sink, as SaveAllTo would give it.
func fileOf(name string, body []byte) ricloud.SinkFile {
	return fileFrom(name, body, strings.NewReader(string(body)))
}

func fileFrom(name string, body []byte, from io.Reader) ricloud.SinkFile {
	sum := md5.Sum(body)
	return ricloud.SinkFile{
		Result: &ricloud.Result{
			ID: "r1", Identifier: name, Checksum: hex.EncodeToString(sum[:]), Size: int64(len(body)),
		},
		Name: name, Body: from,
	}
}

func newSink(t testing.TB, client *awss3.Client, params s3.SinkParams) *s3.Sink {
	t.Helper()
	params.Bucket = bucket
	sink, err := s3.NewSink(client, params)
	require.NoError(t, err)
	return sink
}
