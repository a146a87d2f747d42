package ricloudtest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// listedObject is an object in a bucket's listing.
type listedObject struct {
	key string
	*stored
}

// listObjects returns the objects of a bucket with a prefix, at most limit of them, after a key.
func (s *Server) listObjects(
	bucket, prefix, after string, limit int,
) (found []listedObject, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		key, ok := strings.CutPrefix(path, bucket+"/")
		if !ok || !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if len(found) == limit {
			return found, true
		}
		found = append(found, listedObject{key, s.objects[path]})
	}
	return found, false
}

// readS3 answers an S3 client in path style: GET and HEAD of an object, HEAD of a bucket, and
// ListObjectsV2. The access key is checked; the signature is not.
func (s *Server) readS3(r *http.Request, authorization string) *reply.Answer {
	_, credential, _ := strings.Cut(authorization, "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	s.mu.Lock()
	accepted := s.storageKey == nil || id == s.storageKey[0]
	s.mu.Unlock()
	if !accepted {
		return storageError(http.StatusForbidden, "InvalidAccessKeyId",
			"The access key does not exist in our records.")
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	bucket, key, _ := strings.Cut(path, "/")
	if key != "" {
		return s.readObject(r, path)
	}
	query := r.URL.Query()
	if r.Method == http.MethodHead || query.Has("location") {
		return reply.Bytes(http.StatusOK, "application/xml", []byte(xml.Header+
			`<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>`))
	}
	return s.listS3(bucket, query)
}

// s3List is the answer to ListObjectsV2.
type s3List struct {
	XMLName     xml.Name   `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name        string     `xml:"Name"`
	Prefix      string     `xml:"Prefix"`
	KeyCount    int        `xml:"KeyCount"`
	MaxKeys     int        `xml:"MaxKeys"`
	IsTruncated bool       `xml:"IsTruncated"`
	Encoding    string     `xml:"EncodingType,omitempty"`
	Next        string     `xml:"NextContinuationToken,omitempty"`
	Contents    []s3Object `xml:"Contents"`
}

type s3Object struct {
	Key          string `xml:"Key"`
	LastModified string `xml:"LastModified"`
	ETag         string `xml:"ETag"`
	Size         int64  `xml:"Size"`
	StorageClass string `xml:"StorageClass"`
}

func (s *Server) listS3(bucket string, query url.Values) *reply.Answer {
	limit, err := strconv.Atoi(query.Get("max-keys"))
	if err != nil || limit < 1 || limit > 1000 {
		limit = 1000
	}
	after := query.Get("start-after")
	if token, err := base64.URLEncoding.DecodeString(query.Get("continuation-token")); err == nil &&
		len(token) > 0 {
		after = string(token)
	}
	found, more := s.listObjects(bucket, query.Get("prefix"), after, limit)
	list := s3List{
		Name: bucket, Prefix: query.Get("prefix"), KeyCount: len(found), MaxKeys: limit,
		IsTruncated: more, Encoding: query.Get("encoding-type"),
	}
	for _, o := range found {
		key := o.key
		if list.Encoding == "url" {
			key = url.QueryEscape(key)
		}
		list.Contents = append(list.Contents, s3Object{
			Key: key, ETag: o.etag, Size: o.content.Size(), StorageClass: "STANDARD",
			LastModified: o.created.UTC().Format("2006-01-02T15:04:05.000Z"),
		})
	}
	if more {
		list.Next = base64.URLEncoding.EncodeToString([]byte(found[len(found)-1].key))
	}
	body, err := xml.Marshal(list)
	if err != nil {
		return storageError(http.StatusInternalServerError, "InternalError", err.Error())
	}
	return reply.Bytes(http.StatusOK, "application/xml", append([]byte(xml.Header), body...))
}

// isGoogleClient recognises Google's clients, by their header or by the path of the JSON API.
func isGoogleClient(r *http.Request) bool {
	_, jsonAPI := googlePath(r.URL.EscapedPath())
	return jsonAPI || r.Header.Get("X-Goog-Api-Client") != ""
}

// googlePath strips the prefix of Google's JSON API.
func googlePath(path string) (string, bool) {
	for _, prefix := range []string{"/download/storage/v1/b/", "/storage/v1/b/", "/b/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return rest, true
		}
	}
	return "", false
}

// readGoogle answers Google's clients as an emulator does, without credentials: objects by the
// paths of the XML API, and metadata, downloads and lists by those of the JSON API.
func (s *Server) readGoogle(r *http.Request) *reply.Answer {
	rest, jsonAPI := googlePath(r.URL.EscapedPath())
	if !jsonAPI {
		return withGoogleHeaders(s.readObject(r, strings.TrimPrefix(r.URL.Path, "/")), nil)
	}
	bucket, key, ofObject := strings.Cut(rest, "/o/")
	bucket = strings.TrimSuffix(bucket, "/o")
	key, err := url.PathUnescape(key)
	if err != nil {
		return storageError(http.StatusBadRequest, "InvalidArgument", "The path is not escaped")
	}
	if !ofObject {
		return s.listGoogle(bucket, r.URL.Query())
	}
	object := s.object(bucket + "/" + key)
	if object == nil {
		return googleError(http.StatusNotFound, "No such object: "+bucket+"/"+key)
	}
	if r.URL.Query().Get("alt") == "media" {
		return withGoogleHeaders(s.readObject(r, bucket+"/"+key), object)
	}
	return reply.JSON(http.StatusOK, googleObject(bucket, key, object))
}

func withGoogleHeaders(a *reply.Answer, object *stored) *reply.Answer {
	a.Header.Set("X-Goog-Generation", "1")
	a.Header.Set("X-Goog-Metageneration", "1")
	if object != nil {
		a.Header.Set("X-Goog-Hash", "md5="+md5Base64(object))
	}
	return a
}

func md5Base64(o *stored) string {
	sum, _ := o.content.sum() // computed when the object was published
	raw, _ := hex.DecodeString(sum)
	return base64.StdEncoding.EncodeToString(raw)
}

func googleObject(bucket, key string, o *stored) object {
	return object{
		"kind": "storage#object", "id": bucket + "/" + key + "/1", "name": key,
		"bucket": bucket, "generation": "1", "metageneration": "1",
		"contentType": o.kind, "size": strconv.FormatInt(o.content.Size(), 10),
		"md5Hash": md5Base64(o), "etag": o.etag, "storageClass": "STANDARD",
		"timeCreated": o.created.UTC().Format(time.RFC3339Nano),
		"updated":     o.created.UTC().Format(time.RFC3339Nano),
	}
}

func (s *Server) listGoogle(bucket string, query url.Values) *reply.Answer {
	limit, err := strconv.Atoi(query.Get("maxResults"))
	if err != nil || limit < 1 || limit > 1000 {
		limit = 1000
	}
	found, more := s.listObjects(bucket, query.Get("prefix"), query.Get("pageToken"), limit)
	items := make([]object, 0, len(found))
	for _, o := range found {
		items = append(items, googleObject(bucket, o.key, o.stored))
	}
	list := object{"kind": "storage#objects", "items": items}
	if more {
		list["nextPageToken"] = found[len(found)-1].key
	}
	return reply.JSON(http.StatusOK, list)
}

func googleError(status int, message string) *reply.Answer {
	return reply.JSON(status, object{"error": object{"code": status, "message": message}})
}
