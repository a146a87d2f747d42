package s3_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

// If a bucket refuses everything, nothing is stored, and the error contains the bucket's answer.
// signaturetest tests the sink with a server that checks its requests.
func TestSinkReportsARefusal(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	client := connect(server.URL)
	sink, err := s3.NewSink(client, s3.SinkParams{Bucket: "evidence"})
	require.NoError(t, err)
	_, err = sink.Store(t.Context(), ricloud.SinkFile{
		Result: &ricloud.Result{ID: "r1", Checksum: "5d41402abc4b2a76b9719d911017c592", Size: 5},
		Name:   "callkit.calls", Body: strings.NewReader("hello"),
	})
	require.ErrorIs(t, err, ricloud.ErrForbidden)
	_, err = s3.NewSink(client, s3.SinkParams{})
	require.Error(t, err)
}
