package ricloudtest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // MD5 is the API's own checksum
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"sync"
)

// Content is what a result holds. It is read at any offset, by many readers at
// once, and need not be in memory: *bytes.Reader and *strings.Reader are
// Contents, and so is an *io.SectionReader over a file.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Records is a data type's document, as the API publishes it: the items under
// "data" and their number under "metadata". An item that JSON cannot express
// becomes null.
func Records(items ...any) Content {
	data := make([]json.RawMessage, len(items))
	for i, item := range items {
		data[i] = encode(item)
	}
	return bytes.NewReader(encode(object{"data": data, "metadata": object{"count": len(data)}}))
}

// GenerateRecords is a document like that of Records with count items, made
// while it is read: record returns item i, and is called again whenever its
// bytes are needed, so it must return the same for the same i and be safe for
// concurrent use. Each item takes width bytes, padded with spaces; one that
// does not fit becomes null. A document of gigabytes costs no memory.
func GenerateRecords(count, width int, record func(i int) any) Content {
	width = max(width, len("null"))
	tail := `],"metadata":{"count":` + strconv.Itoa(count) + `}}`
	return generated{head: `{"data":[`, tail: tail, count: int64(count), width: int64(width) + 1, block: func(i int64) []byte {
		item := encode(record(int(i)))
		if len(item) > width {
			item = []byte("null")
		}
		block := bytes.Repeat([]byte{' '}, width+1)
		copy(block, item)
		if i < int64(count)-1 {
			block[width] = ','
		}
		return block
	}}
}

// GenerateBytes is a file of size bytes that costs no memory. The same seed
// gives the same bytes.
func GenerateBytes(seed, size int64) Content {
	const width = 4096
	all := generated{count: size/width + 1, width: width, block: func(i int64) []byte {
		block := make([]byte, width)
		x := uint64(seed)*0x9e3779b97f4a7c15 + uint64(i) + 1 //nolint:gosec // bits, not a quantity
		for j := range block {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			block[j] = byte(x >> 32) //nolint:gosec // the low byte is meant
		}
		return block
	}}
	return io.NewSectionReader(all, 0, size)
}

// generated is head, then count blocks of width bytes, then tail.
type generated struct {
	head, tail   string
	count, width int64
	block        func(i int64) []byte
}

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

// blob is a Content with its checksum, which is computed once, when it is
// first published.
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
