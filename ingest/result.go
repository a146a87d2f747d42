package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"

	ricloud "github.com/reincubate/ricloud-go"
)

// Result is one result to handle. The embedded Result says what it is: ID,
// Identifier, Type, Size, Checksum, URL.
type Result struct {
	ricloud.Result

	Account string // its Account.Key
	Attempt int    // 1 at first; deaths of a process count

	own *ownResult
}

// ownResult is what the engine keeps of a result to itself: the handler may change its own.
type ownResult struct {
	result   ricloud.Result
	client   *ricloud.Client
	verified atomic.Bool
}

var errNoResult = errors.New("ingest: this is no Result that Handlers.Result was called with")

// Key returns a name for one record of the result, counted from 0. It is the
// same in every attempt. Write it in the same transaction as the record's
// effect, so that a repeated call changes nothing twice. Key(-1) names the whole
// result.
//
//	INSERT INTO handled (key) VALUES ($1) ON CONFLICT DO NOTHING
func (r *Result) Key(record int) string {
	if record < 0 {
		return string(r.ID)
	}
	return string(r.ID) + "/" + strconv.Itoa(record)
}

// Open opens the result's file, as ricloud.ResultsService.Open does: the
// io.EOF at its end says that size and MD5 are right.
//
//	file, err := r.Open(ctx)
//	…
//	defer file.Close()
//	for call, err := range ricloud.Records[Call](file) { … }
func (r *Result) Open(ctx context.Context, opts ...ricloud.DownloadOption) (io.ReadCloser, error) {
	own := r.own
	if own == nil {
		return nil, errNoResult
	}
	file, err := own.client.Results.Open(ctx, &own.result, opts...)
	if err != nil {
		return nil, err
	}
	return &verifiedFile{file, own}, nil
}

// Save saves the result's file to a folder, as ricloud.ResultsService.Save does.
func (r *Result) Save(
	ctx context.Context, dir string, opts ...ricloud.SaveOption,
) (*ricloud.Saved, error) {
	own := r.own
	if own == nil {
		return nil, errNoResult
	}
	saved, err := own.client.Results.Save(ctx, &own.result, dir, opts...)
	if err == nil {
		own.verified.Store(true)
	}
	return saved, err
}

// verify makes sure that size and MD5 hold, where the handler has not.
func (r *ownResult) verify(ctx context.Context) error {
	if r.verified.Load() {
		return nil
	}
	file, err := r.client.Results.Open(ctx, &r.result)
	if err != nil {
		return fmt.Errorf("the handler did not read the file to its end, and it cannot be verified: %w",
			err)
	}
	_, err = io.Copy(io.Discard, file)
	return errors.Join(err, file.Close())
}

// verifiedFile notes that it was read to its end.
type verifiedFile struct {
	io.ReadCloser

	result *ownResult
}

// Read reads on.
func (f *verifiedFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		f.result.verified.Store(true)
	}
	return n, err //nolint:wrapcheck // io.EOF is compared
}

// WriteTo lets io.Copy use the buffer that suits the file.
func (f *verifiedFile) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, f.ReadCloser)
	if err == nil {
		f.result.verified.Store(true)
	}
	return n, err
}
