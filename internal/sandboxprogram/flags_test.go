package sandboxprogram

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// running starts the program. It returns the banner, and a function that stops the program.
func running(t *testing.T, args ...string) (banner, func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, append([]string{"-addr", "127.0.0.1:0", "-banner", "json"}, args...), in,
			io.Discard)
		_ = in.Close()
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		cancel()
		require.NoError(t, <-ended)
	}
	var b banner
	require.NoError(t, json.Unmarshal(line, &b))
	return b, func() error { cancel(); return <-ended }
}

func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// Two sandboxes that keep their state in one file would undo what the other writes.
func TestStateIsOneSandboxs(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state.json")
	_, end := running(t, "-state", state)
	err := Run(t.Context(), []string{"-addr", "127.0.0.1:0", "-state", state}, io.Discard, io.Discard)
	require.ErrorContains(t, err, "another sandbox keeps its state in "+state)
	require.NoError(t, end())
	_, end = running(t, "-state", state)
	require.NoError(t, end())
}

// A program that has a YAML parser reads scenarios that are written in it.
func TestScenarioInYAML(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{"mine.yaml": "x", "bad.yml": "y"})
	toJSON := func(text []byte) ([]byte, error) {
		if string(text) == "y" {
			return nil, errors.New("line 1 is odd")
		}
		return []byte(`{"accounts":[{"identifier":"ada@example.com"}],"rate_limit":{"requests":-1}}`), nil
	}
	for name, want := range map[string]string{
		"mine.yaml": "rate limit of -1", "bad.yml": "line 1 is odd",
	} {
		args := []string{"-addr", "127.0.0.1:0", "-scenario", filepath.Join(dir, name)}
		err := RunWithYAML(t.Context(), args, io.Discard, io.Discard, toJSON)
		require.ErrorContains(t, err, want)
	}
}

// A mistake is not answered with all the flags.
func TestMistakesAreUsageErrors(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-nonsense"},
		{"extra"},
		{"-banner", "song"},
		{"-speed", "x"},
		{"-addr", "127.0.0.1:0", "-speed", "0"},
		{"-addr", "127.0.0.1:0", "-old-actions", "maybe"},
		{"-generation", "2020"},
	} {
		var errs strings.Builder
		err := Run(t.Context(), args, io.Discard, &errs)
		require.ErrorIs(t, err, ErrUsage)
		assert.Empty(t, errs.String())
	}
}

// The state survives a restart.
func TestStateSurvives(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state.json")
	var id ricloud.ID
	for _, again := range []bool{false, true} {
		b, end := running(t, "-state", state)
		client, err := ricloud.NewClient(b.Token, ricloud.WithBaseURL(b.URL))
		require.NoError(t, err)
		users, err := client.Users.List(t.Context(), ricloud.UserListParams{})
		require.NoError(t, err)
		if again {
			require.Len(t, users.Data, 1)
			assert.Equal(t, id, users.Data[0].ID)
		} else {
			user, err := client.Users.Create(t.Context(), ricloud.UserCreateParams{Identifier: "u"})
			require.NoError(t, err)
			id = user.ID
		}
		client.Close()
		require.NoError(t, end())
	}
}

// Every option has a flag, and the files and scenarios that flags name are read.
func TestFlags(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{
		"accounts.json": `[{"identifier":"ada@example.com","password":"x","sample":"Ada"}]`,
		"scopes.json":   `{"data_type:*":[]}`, "faults.json": `[{"operation":"Keys.List","status":503}]`,
		"scenario.json": `{"name":"mine","accounts":[{"identifier":"eve@example.com"}]}`,
	})
	b, end := running(t, "-generation", "2019", "-old-actions", "no", "-string-deliveries",
		"-succeeded-sessions",
		"-numeric-version", "-inclusive-cursors", "-no-batch-acknowledge", "-unconfigured",
		"-remote-admin",
		"-accounts", filepath.Join(dir, "accounts.json"), "-scopes", filepath.Join(dir, "scopes.json"),
		"-faults", filepath.Join(dir, "faults.json"), "-webhook", "http://127.0.0.1:9", "-webhook-faults",
		"drop=0.5,duplicate=1",
		"-webhook-retries", "1s,2s", "-storage-key", "id:secret", "-delay", "task=1s-2s,poll=1s",
		"-speed", "2", "-seed", "7",
		"-rate-limit", "100", "-rate-limit-per", "1m", "-in-flight-limit", "3", "-session-lifetime", "1h",
		"-cors", "https://x.example",
		"-public-url", "http://sandbox.example", "-public-storage-url", "http://storage.example", "-v")
	require.Len(t, b.Accounts, 1)
	assert.Equal(t, "ada@example.com", b.Accounts[0].Identifier)
	assert.Equal(t, "http://sandbox.example", b.URL)
	assert.Equal(t, "http://storage.example", b.StorageURL)
	require.NoError(t, end())
	for _, scenario := range []string{"locked", filepath.Join(dir, "scenario.json")} {
		b, end = running(t, "-scenario", scenario, "-delay", "task=1s")
		require.Len(t, b.Accounts, 1)
		require.NoError(t, end())
	}
}

func TestFlagsThatCannotWork(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{"bad.json": "no", "object.json": "{}", "mine.yaml": "name: x"})
	bad, object := filepath.Join(dir, "bad.json"), filepath.Join(dir, "object.json")
	for flags, want := range map[string]string{
		"-scenario nothing": "two-factor", "-scenario " + bad: "scenario",
		"-scenario ./none.json": "none.json",
		"-accounts " + bad:      "-accounts", "-scopes " + bad: "-scopes", "-faults " + bad: "-faults",
		"-old-actions maybe": "maybe",
		"-delay task":        "task", "-delay nap=1s": "nap", "-delay task=2s-1s": "2s-1s",
		"-webhook-faults drop":  "drop",
		"-webhook-retries soon": "soon", "-banner song": "song", "-tls-cert x": "belong together",
		"-tls-cert " + bad + " -tls-key " + bad: "-tls-cert", "-rate-limit -1": "rate limit",
		"-check " + dir: "bad.json", "-record x -upstream nowhere": "upstream",
		"-record " + dir + " -addr nowhere": "port", "-record " + bad: "-record",
		"-storage-addr nowhere": "-storage-addr", "-state " + bad: bad + ": ricloudtest: load",
		"-state " + dir: "-state", "-health -addr 127.0.0.1:1": "refused",
		"-health -addr nowhere": "port", "-storage-key id": "storage key",
		"-rate-limit-per 1m":              "-rate-limit-per needs -rate-limit",
		"-storage-dir " + bad:             "-storage-dir",
		"-accounts " + object:             "the JSON: want an array, got object",
		"-scenario " + dir + "/mine.yaml": "this program reads JSON; for YAML, run ricloud sandbox",
	} {
		args := strings.Fields(flags)
		if !strings.Contains(flags, "-addr") {
			args = append(args, "-addr", "127.0.0.1:0")
		}
		err := Run(t.Context(), args, io.Discard, io.Discard)
		require.Error(t, err, flags)
		require.ErrorContains(t, err, want, flags)
	}
}

func TestVersionAndBanners(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, Run(t.Context(), []string{"-version"}, &out, io.Discard))
	assert.Contains(t, out.String(), ricloud.Version)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for form, want := range map[string]string{"none": "", "text": "locked"} {
		out.Reset()
		require.NoError(t,
			Run(ended, []string{"-addr", "127.0.0.1:0", "-banner", form}, &out, io.Discard))
		assert.Contains(t, out.String(), want)
		assert.Equal(t, form == "none", out.String() == "")
	}
	assert.Equal(t, "127.0.0.1:8322", nextTo("127.0.0.1:8321"))
}

// certificate creates a certificate for this machine.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	dir := files(t, map[string]string{
		"cert.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})),
	})
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// The health check of containers works over HTTP and HTTPS.
func TestHealth(t *testing.T) {
	t.Parallel()
	b, end := running(t)
	require.NoError(t, Run(t.Context(),
		[]string{"-health", "-addr", strings.TrimPrefix(b.URL, "http://")}, io.Discard, io.Discard))
	require.NoError(t, end())
	cert, key := certificate(t)
	b, end = running(t, "-tls-cert", cert, "-tls-key", key)
	require.True(t, strings.HasPrefix(b.URL, "https://"))
	require.NoError(t, Run(t.Context(), []string{
		"-health", "-tls-cert", cert, "-tls-key", key, "-addr", strings.TrimPrefix(b.URL, "https://"),
	}, io.Discard, io.Discard))
	require.NoError(t, end())
}

// A proxy records the traffic that it forwards, and the recording agrees with the contract.
func TestRecordAndCheck(t *testing.T) {
	t.Parallel()
	upstream, endUpstream := running(t)
	dir := filepath.Join(t.TempDir(), "fixtures")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, []string{"-addr", "127.0.0.1:0", "-record", dir, "-upstream", upstream.URL}, in,
			io.Discard)
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(strings.TrimPrefix(line, "URL"))
	transport := &http.Transport{}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/organisation", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Token "+upstream.Token)
	res, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	require.NoError(t, endUpstream())
	res, err = transport.RoundTrip(r.Clone(ctx))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusBadGateway, res.StatusCode)
	transport.CloseIdleConnections()
	cancel()
	require.NoError(t, out.Close())
	require.NoError(t, <-ended)
	var report strings.Builder
	require.NoError(t, Run(t.Context(), []string{"-check", dir}, &report, io.Discard))
	assert.Contains(t, report.String(), "no differences")
	odd := `{"method":"GET","path":"/key","status":200,"response":{"resource":"key","colour":"red"}}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "odd.json"), []byte(odd), 0o600))
	require.ErrorContains(t, Run(t.Context(), []string{"-check", dir}, &report, io.Discard),
		"1 differences")
	assert.Contains(t, report.String(), "colour")
}

// Environment variables set flags, and the error of an invalid value names the variable.
func TestEnvironment(t *testing.T) {
	t.Setenv("RICLOUD_SANDBOX_TOKEN", "tok-env")
	b, end := running(t)
	assert.Equal(t, "tok-env", b.Token)
	require.NoError(t, end())
	t.Setenv("RICLOUD_SANDBOX_SPEED", "fast")
	require.ErrorContains(t, Run(t.Context(), nil, io.Discard, io.Discard), "RICLOUD_SANDBOX_SPEED")
}
