package browsertest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// browser is one Chromium that all tests share.
type browser struct {
	start  sync.Once
	ctx    context.Context //nolint:containedctx // the browser's own life
	cancel context.CancelFunc
}

var chromium browser //nolint:gochecknoglobals // starting one takes seconds

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.cancel != nil {
		chromium.cancel()
	}
	os.Exit(code)
}

// tab opens a section of the sandbox's page in a new tab. Requests to any other host fail the test.
func tab(t *testing.T, srv *ricloudtest.Server, section string) context.Context {
	t.Helper()
	chromium.start.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
			chromedp.WindowSize(1200, 900))
		allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, cancel := chromedp.NewContext(allocator)
		//nolint:fatcontext // kept for every test's tab
		chromium.ctx, chromium.cancel = ctx, func() { cancel(); cancelAllocator() }
		require.NoError(t, chromedp.Run(ctx), "the gate needs Debian's chromium")
	})
	ctx, cancel := chromedp.NewContext(chromium.ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	chromedp.ListenTarget(ctx, func(event any) {
		if sent, ok := event.(*network.EventRequestWillBeSent); ok {
			url := sent.Request.URL
			if !strings.HasPrefix(url, srv.URL()+"/_sandbox/") && !strings.HasPrefix(url, "data:") {
				t.Errorf("the page asks for %s", url)
			}
		}
	})
	require.NoError(t, chromedp.Run(ctx, network.Enable(),
		chromedp.Navigate(srv.URL()+"/_sandbox/#"+section),
		chromedp.WaitVisible("#tabs button[aria-current]"), chromedp.WaitReady("#main > *"),
		chromedp.WaitReady("#scenario option:nth-child(2)")))
	return ctx
}

// world returns a server with at least one resource of each kind.
func world(t *testing.T) *ricloudtest.Server {
	t.Helper()
	hook := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
	})
	account := ricloudtest.SampleAccount("Ada")
	account.Identifier, account.Password = "ada@example.com", "hunter2"
	account.Fail = map[string]string{"whatsapp.messages": "service-error"}
	srv := ricloudtest.NewServer(
		ricloudtest.WithAccounts(append(ricloudtest.DefaultAccounts(), account)...),
		ricloudtest.WithReceiver("https://receiver.test/", hook),
		ricloudtest.WithWebhooks("https://receiver.test/"))
	t.Cleanup(srv.Close)
	retrieve(t, srv, "ada@example.com")
	return srv
}

// retrieve creates a session, a poll and a subscription.
func retrieve(t *testing.T, srv *ricloudtest.Server, identifier string) {
	t.Helper()
	ctx, c := t.Context(), srv.Client()
	user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	require.NoError(t, err)
	session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: identifier,
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	})
	require.NoError(t, err)
	session, err = c.Sessions.Wait(ctx, session.ID)
	require.NoError(t, err)
	poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{
			"callkit.calls", "photos.photos",
			"whatsapp.messages",
		}},
	})
	require.NoError(t, err)
	_, _ = c.Polls.Wait(ctx, poll.ID) // fails, because one of its tasks does
	_, err = c.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
		Session: session.ID, PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	require.NoError(t, err)
}

// click presses the first button with a label, and waits until the page shows a text.
func click(ctx context.Context, t *testing.T, label, says string) {
	t.Helper()
	path := fmt.Sprintf(`//button[normalize-space()=%q]`, label)
	require.NoError(t,
		chromedp.Run(ctx, chromedp.Evaluate(`document.getElementById("message").textContent = ""`, nil)))
	require.Eventually(t, func() bool { // retry, because the page may replace the button
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return chromedp.Run(once, chromedp.ScrollIntoView(path), chromedp.Click(path)) == nil
	}, 20*time.Second, 50*time.Millisecond, label)
	require.Eventually(t, func() bool {
		var text, class string
		err := chromedp.Run(ctx, chromedp.Text("#message", &text),
			chromedp.Evaluate(`document.getElementById("message").className`, &class))
		return err == nil && strings.Contains(text, says) && class == ""
	}, 20*time.Second, 50*time.Millisecond, "%s should say %q", label, says)
}

func section(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	require.NoError(t,
		chromedp.Run(ctx, chromedp.Click(fmt.Sprintf(`#tabs button[data-section=%q]`, name)),
			chromedp.WaitReady(fmt.Sprintf(`#main[data-section=%q] > *`, name))))
}

func choose(ctx context.Context, t *testing.T, kind, state, says string) {
	t.Helper()
	script := fmt.Sprintf(`(() => {
		document.getElementById("message").textContent = "";
		const s = document.querySelector("select[aria-label^='Set the state of %s ']");
		s.value = %q; s.dispatchEvent(new Event("change")); return true; })()`, kind, state)
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(script, nil)), kind)
	require.Eventually(t, func() bool {
		var text string
		return chromedp.Run(ctx, chromedp.Text("#message", &text)) == nil && strings.Contains(text, says)
	}, 20*time.Second, 50*time.Millisecond, "%s to %s", kind, state)
}

var sections = []string{ //nolint:gochecknoglobals // read-only
	"accounts", "sessions", "polls", "tasks", "results", "events", "subscriptions", "configs",
	"faults", "journal",
}

// Every button has the effect that its label promises.
func TestEveryButton(t *testing.T) { //nolint:paralleltest // one browser, one page at a time
	srv := world(t)
	ctx := tab(t, srv, "")
	clicked := map[string]bool{}
	press := func(label, says string) {
		t.Helper()
		click(ctx, t, label, says)
		clicked[label] = true
	}
	open := func(name string) {
		section(ctx, t, name)
		clicked[strings.ToUpper(name[:1])+name[1:]] = true
	}
	seen := map[string]bool{}
	look := func() {
		var labels []string
		require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(
			`[...document.querySelectorAll("button")].map((b) => b.textContent.trim())`, &labels)))
		for _, label := range labels {
			seen[label] = true
		}
	}

	open("accounts")
	look()
	press("Lock", "locked")
	assert.True(t, slices.ContainsFunc(srv.Accounts(), func(a ricloudtest.Account) bool {
		return a.Locked && strings.HasPrefix(a.Identifier, "john")
	}))
	look()
	press("Unlock", "unlocked")
	require.NoError(t,
		chromedp.Run(ctx, chromedp.Evaluate(`document.querySelector("#add-account").open = true`, nil)))
	press("Save", "saved")
	require.NoError(t,
		chromedp.Run(ctx, chromedp.Evaluate(`document.querySelector("#add-account").open = true`, nil)))
	press("Add its data", "added")
	assert.Len(t, srv.Accounts(), 7)

	open("results")
	look()
	press("Corrupt", "other bytes")
	press("Remove object", "gone")
	choose(ctx, t, "result", "consumed", "consumed")
	open("tasks")
	look()
	open("events")
	look()
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Evaluate(`document.querySelector("#main > details").open = true`, nil)))
	press("Fire", "sent")
	press("Drop", "dropped")
	press("Resend", "again")
	open("subscriptions")
	look()
	choose(ctx, t, "subscription", "deleted", "deleted")
	open("configs")
	look()
	choose(ctx, t, "user", "blocked", "blocked")
	choose(ctx, t, "user", "active", "active")
	open("polls")
	look()
	open("sessions")
	look()
	press("Expire", "expired")
	open("faults")
	look()
	press("Add", "added")
	assert.Len(t, srv.Faults(), 1)
	press("Remove all", "no faults")
	assert.Empty(t, srv.Faults())
	open("journal")
	look()
	press("Clear", "empty")
	assert.Zero(t, srv.CountCalls(""))

	press("Advance", "ahead")
	require.NoError(t, chromedp.Run(ctx, chromedp.SetValue("#scenario", "locked")))
	press("Play", "set up")
	assert.Len(t, srv.Accounts(), 1)
	press("Reset", "start")
	assert.Len(t, srv.Accounts(), 6)
	look()
	for label := range seen {
		assert.True(t, clicked[label], "the button %q was not clicked", label)
	}
}

// The dump can be downloaded and loaded again.
func TestDumpAndLoad(t *testing.T) { //nolint:paralleltest // one browser
	srv := world(t)
	ctx := tab(t, srv, "polls")
	var href, download string
	require.NoError(t, chromedp.Run(ctx, chromedp.AttributeValue("#dump", "href", &href, nil),
		chromedp.AttributeValue("#dump", "download", &download, nil)))
	assert.Equal(t, "api/state", href)
	assert.NotEmpty(t, download)
	file := filepath.Join(t.TempDir(), "state.json")
	out, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, srv.Dump(out))
	require.NoError(t, out.Close())
	srv.Reset(1)
	require.NoError(t, chromedp.Run(ctx, chromedp.SetUploadFiles("#load", []string{file})))
	require.Eventually(t, func() bool {
		var text string
		return chromedp.Run(ctx, chromedp.Text("#message", &text)) == nil &&
			strings.Contains(text, "loaded")
	}, 20*time.Second, 50*time.Millisecond)
	list, err := srv.Client().Polls.List(t.Context(), ricloud.PollListParams{})
	require.NoError(t, err)
	assert.NotEmpty(t, list.Data)
}

// The page shows the admin API's reason for a refusal.
func TestRefusals(t *testing.T) { //nolint:paralleltest // one browser
	ctx := tab(t, world(t), "faults")
	var text, class string
	require.NoError(t, chromedp.Run(ctx, chromedp.SetValue("#fault",
		`{"operation": "Pols.Create", "status": 500}`), chromedp.Click("#add-fault")))
	require.Eventually(t, func() bool {
		return chromedp.Run(ctx, chromedp.Text("#message", &text),
			chromedp.Evaluate(`document.getElementById("message").className`, &class)) == nil &&
			strings.Contains(text, "Pols.Create") && class == "bad"
	}, 20*time.Second, 50*time.Millisecond)
}

func TestEmptySections(t *testing.T) { //nolint:paralleltest // one browser
	srv := ricloudtest.NewServer(ricloudtest.WithUnconfigured())
	t.Cleanup(srv.Close)
	ctx := tab(t, srv, "")
	for name, want := range map[string]string{
		"sessions": "no sessions yet", "polls": "no polls yet", "tasks": "no tasks yet",
		"results": "no results yet",
		"events":  "no events", "subscriptions": "no subscriptions yet", "configs": "There are none",
		"faults":  "no faults",
		"journal": "no calls yet",
	} {
		section(ctx, t, name)
		require.Eventually(t, func() bool {
			var text string
			return chromedp.Run(ctx, chromedp.Text("#main", &text)) == nil && strings.Contains(text, want)
		}, 20*time.Second, 50*time.Millisecond, name)
	}
}

func TestAThousandRows(t *testing.T) { //nolint:paralleltest // one browser
	srv := ricloudtest.NewServer()
	t.Cleanup(srv.Close)
	c := srv.Client()
	user, err := c.Users.Create(t.Context(), ricloud.UserCreateParams{Identifier: "u"})
	require.NoError(t, err)
	for i := range 1000 {
		_, err := c.Sessions.Create(t.Context(), ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceMock,
				Identifier: fmt.Sprint("account-", i),
			},
		})
		require.NoError(t, err)
	}
	ctx := tab(t, srv, "sessions")
	began := time.Now()
	require.Eventually(t, func() bool {
		var rows int
		return chromedp.Run(ctx, chromedp.Evaluate(`document.querySelectorAll("#main tbody tr").length`,
			&rows)) == nil && rows == 1000
	}, 30*time.Second, 50*time.Millisecond)
	t.Logf("shown after %v", time.Since(began))
	click(ctx, t, "Expire", "expired")
}

// On a phone's screen nothing is too wide, and every control can be reached with the keyboard.
func TestNarrowScreenAndKeyboard(t *testing.T) { //nolint:paralleltest // one browser
	ctx := tab(t, world(t), "")
	require.NoError(t, chromedp.Run(ctx, emulation.SetDeviceMetricsOverride(320, 640, 1, true)))
	for _, name := range sections {
		section(ctx, t, name)
		var wide float64
		require.NoError(t, chromedp.Run(ctx,
			chromedp.Evaluate(`document.documentElement.scrollWidth - window.innerWidth`, &wide)))
		assert.LessOrEqual(t, wide, 0.0, "%s is too wide", name)
	}
	var focused, current string
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(`document.activeElement.blur()`, nil),
		chromedp.KeyEvent(kb.Tab)))
	for range 40 {
		require.NoError(t,
			chromedp.Run(ctx, chromedp.Evaluate(`document.activeElement.dataset.section || ""`, &focused)))
		if focused == "polls" {
			break
		}
		require.NoError(t, chromedp.Run(ctx, chromedp.KeyEvent(kb.Tab)))
	}
	require.Equal(t, "polls", focused)
	require.NoError(t, chromedp.Run(ctx, chromedp.KeyEvent(kb.Enter),
		chromedp.WaitReady(`#tabs button[data-section="polls"][aria-current]`),
		chromedp.AttributeValue("#tabs button[aria-current]", "data-section", &current, nil)))
	assert.Equal(t, "polls", current)
	var outline string
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Evaluate(`getComputedStyle(document.activeElement).outlineStyle`, &outline)))
	assert.Equal(t, "solid", outline, "the focus can be seen")
}

// This test creates the picture of the documentation, if SCREENSHOT=docs/sandbox.png is set.
func TestScreenshot(t *testing.T) { //nolint:paralleltest // one browser
	ctx := tab(t, world(t), "polls")
	var picture []byte
	require.NoError(t, chromedp.Run(ctx, emulation.SetDeviceMetricsOverride(960, 420, 1, false),
		chromedp.Sleep(500*time.Millisecond), chromedp.CaptureScreenshot(&picture)))
	assert.Greater(t, len(picture), 5000)
	if path := os.Getenv("SCREENSHOT"); path != "" {
		require.NoError(t, os.WriteFile(path, picture, 0o600)) //nolint:gosec // the caller's own choice
	}
}
