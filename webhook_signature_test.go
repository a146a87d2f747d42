package ricloud_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go"
)

const webhookSecret = ricloud.Secret("s3cr3t-canary")

// sign is the construction of the contract (§13), written anew.
func sign(secret ricloud.Secret, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",s=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// vector is a signature that the vendor's own client made.
type vector struct {
	Name   string         `json:"name"`
	Secret ricloud.Secret `json:"secret"`
	Body   string         `json:"body_hex"`
	Header string         `json:"header"`
}

func (v vector) body(t *testing.T) []byte {
	t.Helper()
	body, err := hex.DecodeString(v.Body)
	require.NoError(t, err)
	return body
}

func vectors(t *testing.T) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/webhook-signatures.json")
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(raw, &all))
	require.NotEmpty(t, all)
	return all
}

// ageless takes signatures of any age.
func ageless(secrets ...ricloud.Secret) ricloud.WebhookVerifier {
	return ricloud.WebhookVerifier{Secrets: secrets, Past: 200 * 365 * 24 * time.Hour}
}

func TestVerifyWebhookVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		require.NoError(t, ageless(v.Secret).Verify(v.Header, v.body(t)), v.Name)
		require.ErrorIs(t, ricloud.VerifyWebhook(v.Header, v.body(t), v.Secret), ricloud.ErrSignatureTooOld, v.Name)
	}
}

// flips yields every string that differs from s in one bit.
func flips(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		b := []byte(s)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				if !yield(string(b)) {
					return
				}
				b[i] ^= 1 << bit
			}
		}
	}
}

func TestVerifyWebhookRefusesEveryOneBitChange(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		body := v.body(t)
		for header := range flips(v.Header) {
			require.ErrorIs(t, ageless(v.Secret).Verify(header, body), ricloud.ErrSignature, "%s: header", v.Name)
		}
		for changed := range flips(string(body)) {
			require.ErrorIs(t, ageless(v.Secret).Verify(v.Header, []byte(changed)), ricloud.ErrSignatureMismatch, "%s: body", v.Name)
		}
		for secret := range flips(string(v.Secret)) {
			require.ErrorIs(t, ageless(ricloud.Secret(secret)).Verify(v.Header, body), ricloud.ErrSignatureMismatch, "%s: secret", v.Name)
		}
	}
}

func TestVerifyWebhookHeader(t *testing.T) {
	t.Parallel()
	body := []byte(`{"id":"1"}`)
	now := time.Now()
	good := sign(webhookSecret, now, body)
	ts, sig, _ := strings.Cut(good, ",")

	for header, want := range map[string]error{
		good:                              nil,
		sig + "," + ts:                    nil,
		"v=2," + good + ",x=a=b=,next=":   nil,
		"":                                ricloud.ErrSignatureMissing,
		"garbage":                         ricloud.ErrSignatureMalformed,
		",":                               ricloud.ErrSignatureMalformed,
		ts:                                ricloud.ErrSignatureMalformed,
		sig:                               ricloud.ErrSignatureMalformed,
		ts + ", " + sig:                   ricloud.ErrSignatureMalformed,
		good + "," + ts:                   ricloud.ErrSignatureMalformed,
		good + "," + sig:                  ricloud.ErrSignatureMalformed,
		good + ",":                        ricloud.ErrSignatureMalformed,
		strings.ToUpper(ts) + "," + sig:   ricloud.ErrSignatureMalformed,
		"t=-1," + sig:                     ricloud.ErrSignatureMalformed,
		"t=+1," + sig:                     ricloud.ErrSignatureMalformed,
		"t=1e9," + sig:                    ricloud.ErrSignatureMalformed,
		"t=99999999999999999999," + sig:   ricloud.ErrSignatureMalformed,
		"t=4611686018427387903," + sig:    ricloud.ErrSignatureMismatch,
		"t=0," + sig:                      ricloud.ErrSignatureMismatch,
		ts + ",s=":                        ricloud.ErrSignatureMalformed,
		strings.TrimSuffix(good, "="):     ricloud.ErrSignatureMalformed,
		good + "=":                        ricloud.ErrSignatureMalformed,
		good[:len(good)-4] + "\r\n\n=":    ricloud.ErrSignatureMismatch,
		strings.Repeat("a=b,", 1e5) + "t": ricloud.ErrSignatureMalformed,
	} {
		err := ricloud.VerifyWebhook(header, body, webhookSecret)
		if want == nil {
			require.NoError(t, err, "%.80q", header)
			continue
		}
		require.ErrorIs(t, err, want, "%.80q", header)
		require.ErrorIs(t, err, ricloud.ErrSignature)
		assert.NotContains(t, err.Error(), sig[2:12], "no error holds a signature")
		assert.NotContains(t, err.Error(), string(webhookSecret), "no error holds a secret")
	}
}

// base64 that decodes to the same bytes in a lax decoder is refused.
func TestVerifyWebhookTakesOneSpellingOnly(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	body := []byte("{}")
	good := sign(webhookSecret, time.Now(), body)
	last := len(good) - 2 // before the padding: its low two bits decode to nothing
	digit := strings.IndexByte(alphabet, good[last])
	for low := 1; low < 4; low++ {
		alias := good[:last] + string(alphabet[digit^low]) + "="
		require.ErrorIs(t, ricloud.VerifyWebhook(alias, body, webhookSecret), ricloud.ErrSignatureMismatch)
	}
}

func TestVerifyWebhookRotation(t *testing.T) {
	t.Parallel()
	body := []byte("{}")
	header := sign(webhookSecret, time.Now(), body)
	require.NoError(t, ricloud.VerifyWebhook(header, body, "next", webhookSecret))
	require.NoError(t, ricloud.VerifyWebhook(header, body, webhookSecret, "former"))
	require.ErrorIs(t, ricloud.VerifyWebhook(header, body, "next", "former"), ricloud.ErrSignatureMismatch)
}

func TestVerifyWebhookRefusesAnEmptySecret(t *testing.T) {
	t.Parallel()
	body := []byte("{}")
	for _, secrets := range [][]ricloud.Secret{nil, {}, {""}, {webhookSecret, ""}} {
		err := ricloud.VerifyWebhook(sign("", time.Now(), body), body, secrets...)
		var p *ricloud.ParamError
		require.ErrorAs(t, err, &p)
		assert.NotContains(t, err.Error(), string(webhookSecret))
	}
}

func TestVerifyWebhookTolerance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, now := []byte("{}"), time.Now()
		custom := ricloud.WebhookVerifier{Secrets: []ricloud.Secret{webhookSecret}, Past: time.Hour, Future: time.Second}
		for _, tt := range []struct {
			verify func(string, []byte) error
			at     time.Duration
			want   error
		}{
			{verifyDefault, -10 * time.Minute, nil},
			{verifyDefault, -10*time.Minute - time.Second, ricloud.ErrSignatureTooOld},
			{verifyDefault, time.Minute, nil},
			{verifyDefault, time.Minute + time.Second, ricloud.ErrSignatureTooNew},
			{verifyDefault, 1e6 * time.Second, ricloud.ErrSignatureTooNew},
			{custom.Verify, -time.Hour, nil},
			{custom.Verify, -time.Hour - time.Second, ricloud.ErrSignatureTooOld},
			{custom.Verify, time.Second, nil},
			{custom.Verify, 2 * time.Second, ricloud.ErrSignatureTooNew},
		} {
			err := tt.verify(sign(webhookSecret, now.Add(tt.at), body), body)
			require.ErrorIs(t, err, tt.want, "signed %s from now", tt.at)
			err = tt.verify(sign("another", now.Add(tt.at), body), body)
			require.ErrorIs(t, err, ricloud.ErrSignatureMismatch, "what the API did not sign has no age")
		}
	})
}

func verifyDefault(header string, body []byte) error {
	return ricloud.VerifyWebhook(header, body, webhookSecret)
}

func FuzzVerifyWebhook(f *testing.F) {
	body := []byte(`{"id":"1","type":"poll"}`)
	at := time.Unix(1_600_000_000, 0)
	good := sign(webhookSecret, at, body)
	_, signature, _ := strings.Cut(good, ",")
	f.Add(good, body)
	f.Add("s=,t=", body)
	f.Add(strings.Repeat("t=1,", 100)+"s==", []byte{})
	f.Fuzz(func(t *testing.T, header string, content []byte) {
		err := ageless(webhookSecret).Verify(header, content)
		if err != nil {
			require.ErrorIs(t, err, ricloud.ErrSignature)
			return
		}
		// Nothing the fuzzer makes fits but what the good header allows.
		require.True(t, bytes.Equal(content, body), "a body that nobody signed")
		require.Contains(t, header, signature)
	})
}
