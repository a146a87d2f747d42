package ricloud_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// bucket is storage in memory. The API writes to it, and the client reads from it.
type bucket struct {
	mu      sync.Mutex
	objects map[string]ricloudtest.Content
}

func (b *bucket) Publish(_ context.Context, url string, content ricloudtest.Content) error {
	_, path, _ := strings.Cut(url, "://")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[path] = content
	return nil
}

func (b *bucket) OpenObject(_ context.Context, req ricloud.ObjectRequest) (*ricloud.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.objects[req.Bucket+"/"+req.Key]
	if !ok {
		return nil, &ricloud.StorageError{Host: req.Bucket, StatusCode: http.StatusNotFound}
	}
	body := io.NopCloser(io.NewSectionReader(content, req.Offset, content.Size()-req.Offset))
	return &ricloud.Object{Body: body, Offset: req.Offset, Size: content.Size()}, nil
}

// fastSandbox returns a sandbox with one account whose work takes no time, and a client that polls
// it often.
func fastSandbox(
	t *testing.T, account ricloudtest.Account, opts ...ricloudtest.Option,
) (*ricloudtest.Server, *ricloud.Client) {
	t.Helper()
	sandbox := ricloudtest.NewServer(append([]ricloudtest.Option{
		ricloudtest.WithAccounts(account), ricloudtest.WithDelays(ricloudtest.Delays{}),
	}, opts...)...)
	t.Cleanup(sandbox.Close)
	client := sandbox.Client(ricloud.WithPolling(time.Millisecond, 10*time.Millisecond))
	t.Cleanup(client.Close)
	return sandbox, client
}

// resultsAndFailures returns the identifiers of a poll's results and files, and the errors between.
func resultsAndFailures(
	t *testing.T, client *ricloud.Client, poll *ricloud.Poll,
) (identifiers []string, failures []error) {
	t.Helper()
	for result, err := range client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles()) {
		if err != nil {
			failures = append(failures, err)
			continue
		}
		identifiers = append(identifiers, result.Identifier)
	}
	return identifiers, failures
}

func TestResultsWithFiles(t *testing.T) {
	t.Parallel()
	for name, generation := range map[string]ricloudtest.Generation{
		"2018":    ricloudtest.Generation2018,
		"current": ricloudtest.GenerationCurrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 150 // more files than one poll may ask for
			account := fileAccount(n)
			account.Fail["file-007"] = "not-found"
			objects := &bucket{objects: map[string]ricloudtest.Content{}} // the older API has no signed URLs
			sandbox := ricloudtest.NewServer(ricloudtest.WithPublisher(objects),
				ricloudtest.WithGeneration(generation), ricloudtest.WithAccounts(account),
				ricloudtest.WithDelays(ricloudtest.Delays{}))
			defer sandbox.Close()
			client := sandbox.Client(ricloud.WithPolling(time.Millisecond, 10*time.Millisecond),
				ricloud.WithStorage("s3", objects), ricloud.WithStorage("gs", objects))
			defer client.Close()
			poll := pollMessages(t, client)

			identifiers, failures := resultsAndFailures(t, client, poll)
			require.Len(t, failures, 1)
			var state *ricloud.StateError
			require.ErrorAs(t, failures[0], &state)
			assert.Len(t, state.Failed, 1, "also where the poll itself does not tell failed tasks")
			require.Len(t, identifiers, 1+n-1)
			assert.Contains(t, identifiers[0], "ios_messages.messages")
			slices.Sort(identifiers)
			assert.Len(t, slices.Compact(identifiers), n)
			assert.Equal(t, 3, sandbox.CountCalls("Polls.Create"))
		})
	}
}

// A second run over a complete folder creates no poll and fetches nothing. The first run reads each
// object once.
func TestResultsWithFilesResume(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]func(*ricloud.Poll) []ricloud.SaveAllOption{
		"plain": func(*ricloud.Poll) []ricloud.SaveAllOption { return nil },
		"with manifest": func(p *ricloud.Poll) []ricloud.SaveAllOption {
			return []ricloud.SaveAllOption{ricloud.WithManifest(p)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 150
			sandbox, client := fastSandbox(t, fileAccount(n))
			poll, dir := pollMessages(t, client), t.TempDir()
			save := func() []ricloud.Saved {
				results := client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles())
				saved, err := client.Results.SaveAll(t.Context(), results, dir,
					append(opts(poll), ricloud.WithAcknowledge())...)
				require.NoError(t, err)
				require.Len(t, saved, n+1)
				return saved
			}
			first := save()
			assert.Equal(t, n+1, sandbox.CountCalls("Storage.Get"), "each object is read once")
			polls := sandbox.CountCalls("Polls.Create")
			assert.Equal(t, 3, polls)
			notes := notesOf(t, dir)
			save()
			assert.Equal(t, notes, notesOf(t, dir), "what is noted is not noted again")
			assert.Equal(t, polls, sandbox.CountCalls("Polls.Create"), "a complete folder needs no poll")
			assert.Equal(t, n+1, sandbox.CountCalls("Storage.Get"))

			for _, s := range first { // one file is missing: its poll is the only new one
				if s.Result.DataType() == "file-007" {
					require.NoError(t, os.Remove(s.Path))
				}
			}
			save()
			assert.Equal(t, polls+1, sandbox.CountCalls("Polls.Create"))
			assert.Equal(t, n+2, sandbox.CountCalls("Storage.Get"))
			if name == "with manifest" {
				require.NoError(t, ricloud.VerifyFolder(t.Context(), dir))
			}
		})
	}
}

// notesOf returns what SaveAll has noted in a folder.
func notesOf(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, ".ricloud-*.files"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	notes, err := os.ReadFile(names[0])
	require.NoError(t, err)
	return string(notes)
}

// A SaveAll leaves a note of the poll for files, as soon as it is made. If it is
// interrupted, the next one goes on with that poll.
func TestResultsWithFilesContinuesThePollForFiles(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]ricloudtest.Fault{
		"while it is waited for":  {},
		"while files are fetched": {Operation: "Storage.Get", Nth: 2, Count: -1, Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 5
			sandbox, client := fastSandbox(t, fileAccount(n),
				ricloudtest.WithDelays(ricloudtest.Delays{Task: ricloudtest.Fixed(200 * time.Millisecond)}))
			poll, dir := pollMessages(t, client), t.TempDir()
			save := func(ctx context.Context) ([]ricloud.Saved, error) {
				results := client.Polls.Results(ctx, poll.ID, ricloud.WithFiles())
				return client.Results.SaveAll(ctx, results, dir)
			}
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			operation := "Polls.Get"
			if fault.Operation != "" {
				operation = fault.Operation
				require.NoError(t, sandbox.SetFaults(fault))
			}
			var interrupted []ricloud.Saved
			ended := make(chan error, 1)
			go func() {
				saved, err := save(ctx)
				interrupted = saved
				ended <- err
			}()
			more := func(operation string, than int) {
				require.Eventually(t, func() bool { return sandbox.CountCalls(operation) > than },
					time.Minute, time.Millisecond)
			}
			more("Polls.Create", 1)
			before := 1 // the records
			if fault.Operation == "" {
				before = sandbox.CountCalls(operation)
			}
			more(operation, before)
			interrupt()
			err := <-ended
			require.ErrorIs(t, err, context.Canceled)
			assert.Len(t, interrupted, 1, "the records only")

			require.NoError(t, sandbox.SetFaults())
			saved, err := save(t.Context())
			require.NoError(t, err)
			assert.Len(t, saved, 1+n)
			assert.Equal(t, 2, sandbox.CountCalls("Polls.Create"), "no poll is made again")
			assert.Zero(t, sandbox.CountCalls("Polls.List"), "it is known, and not looked for")
		})
	}
}

// If the answer to the creation of a poll for files is lost, the next SaveAll looks for that poll
// among those of the session, and takes no files of others.
func TestResultsWithFilesFindsALostPoll(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]ricloudtest.Fault{
		"applied":     {Operation: "Polls.Create", After: true, Reset: true},
		"not applied": {Operation: "Polls.Create", Reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 5
			sandbox, client := fastSandbox(t, fileAccount(n))
			earlier, dir := pollMessages(t, client), t.TempDir()
			var poll *ricloud.Poll
			for poll == nil || !earlier.DateCreated.Before(poll.DateCreated) {
				var err error
				poll, err = client.Polls.Create(t.Context(), ricloud.PollCreateParams{
					Session: earlier.Session, Type: "data",
					Payload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
				})
				require.NoError(t, err)
			}
			save := func() ([]ricloud.Saved, error) {
				results := client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles())
				return client.Results.SaveAll(t.Context(), results, dir)
			}
			require.NoError(t, sandbox.SetFaults(lost))
			_, err := save()
			call, ok := errors.AsType[*ricloud.CallError](err)
			require.True(t, ok, "%v", err)
			require.True(t, call.MaybeApplied())
			require.NoError(t, sandbox.SetFaults())
			_, err = client.Polls.Create(t.Context(), ricloud.PollCreateParams{
				Session: poll.Session, Source: poll.Source,
				Payload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
			})
			require.NoError(t, err, "another program's")

			before := sandbox.CountCalls("Polls.Create")
			saved, err := save()
			require.NoError(t, err)
			assert.Len(t, saved, 1+n)
			made := 0
			if name == "not applied" {
				made = 1
			}
			assert.Equal(t, before+made, sandbox.CountCalls("Polls.Create"))
			listed := sandbox.CountCalls("Polls.List")
			assert.Positive(t, listed)
			for _, call := range sandbox.Calls() {
				assert.NotEqual(t, "/polls/"+string(earlier.ID), call.Path, "it was there before")
			}

			saved, err = save()
			require.NoError(t, err)
			assert.Len(t, saved, 1+n)
			assert.Equal(t, before+made, sandbox.CountCalls("Polls.Create"))
			assert.Equal(t, listed, sandbox.CountCalls("Polls.List"), "nothing is lost any more")
		})
	}
}

// If one result of a hundred is not acknowledged, the others are, and the error names it.
func TestSaveAllSaysWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(fileAccount(20)),
		ricloudtest.WithDelays(ricloudtest.Delays{}), ricloudtest.WithoutBatchAcknowledge())
	defer sandbox.Close()
	client := sandbox.Client(ricloud.WithPolling(time.Millisecond, 10*time.Millisecond),
		ricloud.WithRetries(0))
	defer client.Close()
	results := messagesAndFiles(t, client)
	require.NoError(t, sandbox.SetFaults(ricloudtest.Fault{
		Operation: "Results.Acknowledge", Nth: 5,
		Status: http.StatusNotFound,
	}))
	saved, err := client.Results.SaveAll(t.Context(), sequence(results), t.TempDir(),
		ricloud.WithAcknowledge())
	require.ErrorIs(t, err, ricloud.ErrNotFound)
	require.Len(t, saved, len(results))
	acknowledged := map[ricloud.ID]bool{}
	for r, err := range client.Results.All(t.Context(),
		ricloud.ResultListParams{State: ricloud.ResultConsumed}) {
		require.NoError(t, err)
		acknowledged[r.ID] = true
	}
	assert.Len(t, acknowledged, len(results)-1)
	for _, s := range saved {
		assert.Equal(t, acknowledged[s.Result.ID], s.Acknowledged)
		if !s.Acknowledged {
			var failed *ricloud.DownloadError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, s.Result.ID, failed.Result)
		}
	}
}

func TestFilesStopsAtAnError(t *testing.T) {
	t.Parallel()
	sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(fileAccount(1)))
	defer sandbox.Close()
	client := sandbox.Client()
	defer client.Close()
	for poll, want := range map[*ricloud.Poll]string{
		nil:                     "poll is required",
		{}:                      "Session is required",
		{Session: "no session"}: "400",
	} {
		seen := 0
		for result, err := range client.Polls.Files(t.Context(), poll, []ricloud.ID{"a", "a"}) {
			seen++
			assert.Nil(t, result)
			require.ErrorContains(t, err, want)
		}
		assert.Equal(t, 1, seen)
	}
	for _, err := range client.Polls.Files(t.Context(), &ricloud.Poll{Session: "s"}, nil) {
		assert.Fail(t, "nothing was asked for", "%v", err)
	}
}

func TestAcknowledgeAllWithoutTheBatch(t *testing.T) {
	t.Parallel()
	_, client := fastSandbox(t, fileAccount(3), ricloudtest.WithoutBatchAcknowledge())
	poll := pollMessages(t, client)
	saved, err := client.Results.SaveAll(t.Context(), client.Polls.Results(t.Context(), poll.ID,
		ricloud.WithFiles()), t.TempDir(), ricloud.WithAcknowledge())
	require.NoError(t, err)
	require.Len(t, saved, 4)
	for _, s := range saved {
		assert.True(t, s.Acknowledged)
		result, err := client.Results.Get(t.Context(), s.Result.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ResultConsumed, result.State)
	}
	require.ErrorIs(t, client.Results.AcknowledgeAll(t.Context(),
		[]ricloud.ID{"unknown", saved[0].Result.ID}), ricloud.ErrNotFound)
}

// If a data result cannot be read, only its own files are missing.
func TestResultsWithFilesOfADamagedResult(t *testing.T) {
	t.Parallel()
	account := fileAccount(2)
	account.Data["callkit.calls"] = ricloudtest.Records(
		map[string]any{"files": []any{map[string]any{"id": "file-000"}}},
	)
	sandbox, client := fastSandbox(t, account)
	poll := pollTwo(t, client)
	_, err := client.Polls.Wait(t.Context(), poll.ID)
	require.NoError(t, err)
	for result, err := range client.Polls.Results(t.Context(), poll.ID) {
		require.NoError(t, err)
		if result.Identifier == "ios_messages.messages" {
			require.NoError(t, sandbox.RemoveObject(result.ID))
		}
	}
	identifiers, failures := resultsAndFailures(t, client, poll)
	require.Len(t, failures, 1)
	require.ErrorIs(t, failures[0], ricloud.ErrNotFound)
	assert.ElementsMatch(t, []string{"ios_messages.messages", "callkit.calls", "file-000"},
		identifiers)

	seen := 0
	//nolint:errcheck // counted only
	for range client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles()) {
		seen++
		break
	}
	assert.Equal(t, 1, seen)
	for result, err := range client.Polls.Results(t.Context(), "none", ricloud.WithFiles()) {
		assert.Nil(t, result)
		require.ErrorIs(t, err, ricloud.ErrNotFound)
	}
}

// pollTwo polls for messages and for calls.
func pollTwo(t *testing.T, client *ricloud.Client) *ricloud.Poll {
	t.Helper()
	session, err := login(t.Context(), client)
	require.NoError(t, err)
	poll, err := client.Polls.Create(t.Context(), ricloud.PollCreateParams{
		Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{
			"ios_messages.messages",
			"callkit.calls",
		}},
	})
	require.NoError(t, err)
	return poll
}

// The files of what succeeded are asked for although another task has failed. The failure comes
// last, once.
func TestResultsWithFilesOfAPollThatFailedInPart(t *testing.T) {
	t.Parallel()
	account := fileAccount(2)
	account.Data["callkit.calls"] = ricloudtest.Records()
	account.Fail["callkit.calls"] = "not-found"
	_, client := fastSandbox(t, account)
	identifiers, failures := resultsAndFailures(t, client, pollTwo(t, client))
	assert.Len(t, identifiers, 1+2)
	require.Len(t, failures, 1)
	_, ok := errors.AsType[*ricloud.StateError](failures[0])
	require.True(t, ok, "%v", failures[0])
}

// A data result that SaveAll cannot save is one failure: nothing is said of its files.
func TestSaveAllWithFilesOfAResultThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	account := fileAccount(2)
	account.Data["callkit.calls"] = ricloudtest.Records(map[string]any{"file_id": "file-000"})
	sandbox, client := fastSandbox(t, account)
	poll := pollTwo(t, client)
	_, err := client.Polls.Wait(t.Context(), poll.ID)
	require.NoError(t, err)
	for result, err := range client.Polls.Results(t.Context(), poll.ID) {
		require.NoError(t, err)
		if result.DataType() == "callkit.calls" {
			require.NoError(t, sandbox.RemoveObject(result.ID))
		}
	}
	results := client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles())
	saved, err := client.Results.SaveAll(t.Context(), results, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrNotFound)
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	assert.Len(t, joined.Unwrap(), 1, "%v", err)
	assert.Len(t, saved, 1+2)
}

// keeper is a Sink in memory.
type keeper struct {
	mu    sync.Mutex
	files map[string]string
}

func (k *keeper) Store(
	_ context.Context, file ricloud.SinkFile,
) (ricloud.StoredFile, error) {
	var content strings.Builder
	if _, err := io.Copy(&content, file.Body); err != nil {
		return ricloud.StoredFile{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.files[file.Name] = content.String()
	return ricloud.StoredFile{Location: file.Name}, nil
}

// A sink keeps no notes and opens no files: the cascade reads the records from storage.
func TestSaveAllToASinkWithFiles(t *testing.T) {
	t.Parallel()
	const n = 3
	_, client := fastSandbox(t, fileAccount(n))
	poll, sink := pollMessages(t, client), &keeper{files: map[string]string{}}
	results := client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles())
	saved, err := client.Results.SaveAllTo(t.Context(), results, sink, ricloud.WithAcknowledge())
	require.NoError(t, err)
	assert.Len(t, saved, n+1)
	assert.Len(t, sink.files, n+1)
	assert.Equal(t, "the content of file-001", sink.files["file-001"])
}

// The files of a poll for files are not read to look for more files, also where the API does not
// say what a result is.
func TestResultsWithFilesOfFiles(t *testing.T) {
	t.Parallel()
	sandbox, client := fastSandbox(t, fileAccount(2),
		ricloudtest.WithGeneration(ricloudtest.Generation2018))
	poll := pollMessages(t, client)
	files, err := client.Polls.Create(t.Context(), ricloud.PollCreateParams{
		Session: poll.Session, Source: poll.Source, Type: "files",
		Payload: ricloud.PollPayload{Files: []ricloud.ID{"file-000", "file-001"}},
	})
	require.NoError(t, err)
	identifiers, failures := resultsAndFailures(t, client, files)
	assert.Empty(t, failures)
	assert.Len(t, identifiers, 2)
	assert.Zero(t, sandbox.CountCalls("Storage.Get"))
}
