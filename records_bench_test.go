package ricloud_test

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

type call struct {
	Number string `json:"number"`
	Length int    `json:"length"`
}

// benchmarked returns a document of 10,000 records. One in twenty refers to a file.
func benchmarked() string {
	var document strings.Builder
	document.WriteString(`{"data":[`)
	for i := range 10_000 {
		files := "[]"
		if i%20 == 0 {
			files = fmt.Sprintf(`[{"file_id":"file-%d","name":"IMG_%d.JPG"}]`, i, i)
		}
		fmt.Fprintf(&document, `{"number":"+44 %d","length":%d,"text":"%s","attachments":%s},`,
			i, i, strings.Repeat("x", 100), files)
	}
	return strings.TrimSuffix(document.String(), ",") + `],"metadata":{"count":10000}}`
}

// BenchmarkRecords compares Records with a hand-written loop over the standard decoder that checks
// nothing, for typed and for raw records. Records should not be slower. With GOEXPERIMENT=jsonv2,
// it should take at most 1.1 times as long as a loop over encoding/json/jsontext (jsonv2).
func BenchmarkRecords(b *testing.B) {
	text := benchmarked()
	run := func(name string, read func(r io.Reader) (int, error)) {
		b.Run(name, func(b *testing.B) {
			measureCPU(b, int64(len(text)), func() {
				n, err := read(strings.NewReader(text))
				require.NoError(b, err)
				require.Equal(b, 10_000, n)
			})
		})
	}
	run("typed/records", countRecords[call])
	run("typed/decoder", countDecoded[call])
	run("raw/records", countRecords[json.RawMessage])
	run("raw/decoder", countDecoded[json.RawMessage])
	for name, read := range jsonv2Loops() {
		run(name, read)
	}
}

// BenchmarkFileRefs reads the files that raw records refer to. It should take at most 1.6 times as
// long as Records alone.
func BenchmarkFileRefs(b *testing.B) {
	text := benchmarked()
	b.Run("records", func(b *testing.B) {
		measureCPU(b, int64(len(text)), func() {
			n, err := countRecords[json.RawMessage](strings.NewReader(text))
			require.NoError(b, err)
			require.Equal(b, 10_000, n)
		})
	})
	b.Run("refs", func(b *testing.B) {
		measureCPU(b, int64(len(text)), func() {
			n := 0
			for record, err := range ricloud.Records[json.RawMessage](strings.NewReader(text)) {
				require.NoError(b, err)
				n += len(ricloud.FileRefs(record))
			}
			require.Equal(b, 500, n)
		})
	})
}

func countRecords[T any](r io.Reader) (n int, err error) {
	for _, err := range ricloud.Records[T](r) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// countDecoded is the loop from the documentation of encoding/json.
func countDecoded[T any](r io.Reader) (n int, err error) {
	d := json.NewDecoder(r)
	for range 3 { // {"data":[
		if _, err := d.Token(); err != nil {
			return 0, err
		}
	}
	for ; d.More(); n++ {
		var v T
		if err := d.Decode(&v); err != nil {
			return n, err
		}
	}
	return n, nil
}
