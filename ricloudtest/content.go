package ricloudtest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // MD5 is the API's own checksum
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"sync"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// Content is the content of a result. Several readers may read it at once, at any offset, and it
// need not be in memory. A *bytes.Reader, a *strings.Reader and an *io.SectionReader over a file
// are Contents.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Records returns a data type's document as the API publishes it: the items under "data" and their
// number under "metadata". An item that JSON cannot express becomes null.
func Records(items ...any) Content {
	data := make([]json.RawMessage, len(items))
	for i, item := range items {
		data[i] = reply.Encode(item)
	}
	return bytes.NewReader(reply.Encode(object{
		"data": data, "metadata": object{"count": len(data)},
	}))
}

// GenerateRecords returns a document like that of Records with count items, which is made while it
// is read. A document of gigabytes costs no memory.
//
// The function record returns item i. It is called again whenever the item's bytes are needed, so
// it must return the same for the same i and be safe for concurrent use. Each item takes width
// bytes, padded with spaces. An item that does not fit becomes null, and so does each if record is
// nil. A negative count is 0.
func GenerateRecords(count, width int, record func(i int) any) Content {
	if record == nil {
		record = func(int) any { return nil }
	}
	count, width = max(count, 0), max(width, len("null"))
	block := func(i int64) []byte {
		item := reply.Encode(record(int(i)))
		if len(item) > width {
			item = []byte("null")
		}
		block := bytes.Repeat([]byte{' '}, width+1)
		copy(block, item)
		if i < int64(count)-1 {
			block[width] = ','
		}
		return block
	}
	return generated{
		head: `{"data":[`, tail: `],"metadata":{"count":` + strconv.Itoa(count) + `}}`,
		count: int64(count), width: int64(width) + 1, block: block,
	}
}

// GenerateBytes returns a file of size bytes that costs no memory. The same seed gives the same
// bytes.
func GenerateBytes(seed, size int64) Content {
	size = max(size, 0) // a negative size is 0
	const width = 4096
	block := func(i int64) []byte {
		block := make([]byte, width)
		//nolint:gosec // bits, not a quantity
		x := uint64(seed)*0x9e3779b97f4a7c15 + uint64(i) + 1
		for j := range block {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			block[j] = byte(x >> 32) //nolint:gosec // the low byte is meant
		}
		return block
	}
	all := generated{count: size/width + 1, width: width, block: block}
	return io.NewSectionReader(all, 0, size)
}

// generated is head, then count blocks of width bytes, then tail.
type generated struct {
	head, tail   string
	count, width int64
	block        func(i int64) []byte
}

// Size implements Content.
func (g generated) Size() int64 {
	return int64(len(g.head)) + g.count*g.width + int64(len(g.tail))
}

// ReadAt implements io.ReaderAt.
func (g generated) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		piece := g.piece(off + int64(n))
		if len(piece) == 0 {
			return n, io.EOF
		}
		n += copy(p[n:], piece)
	}
	return n, nil
}

// piece returns the rest of the part that holds offset off.
func (g generated) piece(off int64) []byte {
	if off < int64(len(g.head)) {
		return []byte(g.head[off:])
	}
	off -= int64(len(g.head))
	if i := off / g.width; i < g.count {
		return g.block(i)[off%g.width:]
	}
	off -= g.count * g.width
	if off < int64(len(g.tail)) {
		return []byte(g.tail[off:])
	}
	return nil
}

// blob is a Content with its checksum, which is computed once, when the content is first published.
type blob struct {
	Content
	sum func() (string, error)
}

func newBlob(content Content) *blob {
	return &blob{content, sync.OnceValues(func() (string, error) {
		hash := md5.New() //nolint:gosec // MD5 is the API's own checksum
		if _, err := io.Copy(hash, io.NewSectionReader(content, 0, content.Size())); err != nil {
			return "", err
		}
		return hex.EncodeToString(hash.Sum(nil)), nil
	})}
}

// filterable is the size up to which a document is filtered by date.
const filterable = 16 << 20

// within returns the document with the records of a period only.
//
// Assumption (period): "since" and "until" compare with the "date" of each record, "until"
// exclusive. A record without a date is kept, and so is a document of more than 16 MiB.
func (b *blob) within(p period) *blob {
	if p == (period{}) || b.Size() > filterable {
		return b
	}
	var document struct {
		Data []json.RawMessage `json:"data"`
	}
	if json.NewDecoder(io.NewSectionReader(b, 0, b.Size())).Decode(&document) != nil {
		return b
	}
	var kept []any
	for _, record := range document.Data {
		if p.holds(record) {
			kept = append(kept, record)
		}
	}
	return newBlob(Records(kept...))
}

func (p period) holds(record json.RawMessage) bool {
	var dated struct {
		Date string `json:"date"`
	}
	if json.Unmarshal(record, &dated) != nil {
		return true
	}
	at, ok := collection.ParseTime(dated.Date)
	return !ok || !at.Before(p.since) && (p.until.IsZero() || at.Before(p.until))
}

// sourceFile is the database that a device's messages are read from.
func sourceFile() Content {
	return bytes.NewReader(append([]byte("SQLite format 3\x00"), make([]byte, 4080)...))
}
