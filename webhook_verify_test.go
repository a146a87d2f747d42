package ricloud_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// vector is a signature that the vendor's own client created.
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

// ageless returns a verifier that accepts signatures of any age.
func ageless(secrets ...ricloud.Secret) ricloud.WebhookVerifier {
	return ricloud.WebhookVerifier{Secrets: secrets, Past: 200 * 365 * 24 * time.Hour}
}

func TestVerifyWebhookVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		require.NoError(t, ageless(v.Secret).Verify(v.Header, v.body(t)), v.Name)
		require.ErrorIs(t, ricloud.VerifyWebhook(v.Header, v.body(t), v.Secret),
			ricloud.ErrSignatureTooOld, v.Name)
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
			require.ErrorIs(t, ageless(v.Secret).Verify(header, body), ricloud.ErrSignature, "%s: header",
				v.Name)
		}
		for changed := range flips(string(body)) {
			require.ErrorIs(t, ageless(v.Secret).Verify(v.Header, []byte(changed)),
				ricloud.ErrSignatureMismatch, "%s: body", v.Name)
		}
		for secret := range flips(v.Secret.Reveal()) {
			require.ErrorIs(t, ageless(ricloud.NewSecret(secret)).Verify(v.Header, body),
				ricloud.ErrSignatureMismatch, "%s: secret", v.Name)
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
		good:                                  nil,
		sig + "," + ts:                        nil,
		"v=2," + good + ",x=a=b=,next=":       nil,
		"":                                    ricloud.ErrSignatureMissing,
		"garbage":                             ricloud.ErrSignatureMalformed,
		",":                                   ricloud.ErrSignatureMalformed,
		ts:                                    ricloud.ErrSignatureMalformed,
		sig:                                   ricloud.ErrSignatureMalformed,
		ts + ", " + sig:                       nil,
		ts + " ,\t" + sig + " ":               nil,
		" t = " + ts[2:] + ", s = " + sig[2:]: nil,
		good + ",":                            nil,
		good + ",beta":                        nil,
		good + "," + ts:                       ricloud.ErrSignatureMalformed,
		good + "," + sig:                      ricloud.ErrSignatureMalformed,
		strings.ToUpper(ts) + "," + sig:       ricloud.ErrSignatureMalformed,
		"t=-1," + sig:                         ricloud.ErrSignatureMalformed,
		"t=+1," + sig:                         ricloud.ErrSignatureMalformed,
		"t=1e9," + sig:                        ricloud.ErrSignatureMalformed,
		"t=99999999999999999999," + sig:       ricloud.ErrSignatureMalformed,
		"t=4611686018427387903," + sig:        ricloud.ErrSignatureMismatch,
		"t=0," + sig:                          ricloud.ErrSignatureMismatch,
		ts + ",s=":                            ricloud.ErrSignatureMalformed,
		strings.TrimSuffix(good, "="):         ricloud.ErrSignatureMalformed,
		good + "=":                            ricloud.ErrSignatureMalformed,
		good[:len(good)-4] + "\r\n\n=":        ricloud.ErrSignatureMismatch,
		strings.Repeat("a=b,", 1e5) + "t":     ricloud.ErrSignatureMalformed,
	} {
		err := ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret))
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

// Only the canonical base64 spelling is accepted, although a lenient decoder accepts others.
func TestVerifyWebhookTakesOneSpellingOnly(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	body := []byte("{}")
	good := sign(webhookSecret, time.Now(), body)
	last := len(good) - 2 // the last digit before the padding, whose low two bits are unused
	digit := strings.IndexByte(alphabet, good[last])
	for low := 1; low < 4; low++ {
		alias := good[:last] + string(alphabet[digit^low]) + "="
		require.ErrorIs(t, ricloud.VerifyWebhook(alias, body, ricloud.NewSecret(webhookSecret)),
			ricloud.ErrSignatureMismatch)
	}
}

func TestVerifyWebhookRotation(t *testing.T) {
	t.Parallel()
	body := []byte("{}")
	header := sign(webhookSecret, time.Now(), body)
	require.NoError(t,
		ricloud.VerifyWebhook(header, body, ricloud.NewSecret("next"), ricloud.NewSecret(webhookSecret)))
	require.NoError(t, ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret),
		ricloud.NewSecret("former")))
	require.ErrorIs(t, ricloud.VerifyWebhook(header, body, ricloud.NewSecret("next"),
		ricloud.NewSecret("former")), ricloud.ErrSignatureMismatch)
}

func TestVerifyWebhookRefusesAnEmptySecret(t *testing.T) {
	t.Parallel()
	body := []byte("{}")
	for _, secrets := range [][]ricloud.Secret{
		nil,
		{},
		{ricloud.NewSecret("")},
		{ricloud.NewSecret(webhookSecret), ricloud.NewSecret("")},
	} {
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
		custom := ricloud.WebhookVerifier{
			Secrets: []ricloud.Secret{ricloud.NewSecret(webhookSecret)},
			Past:    time.Hour, Future: time.Second,
		}
		for _, tt := range []struct {
			verify func(string, []byte) error
			at     time.Duration
			want   error
		}{
			{verify: verifyDefault, at: -10 * time.Minute, want: nil},
			{
				verify: verifyDefault,
				at:     -10*time.Minute - time.Second,
				want:   ricloud.ErrSignatureTooOld,
			},
			{verify: verifyDefault, at: time.Minute, want: nil},
			{
				verify: verifyDefault,
				at:     time.Minute + time.Second,
				want:   ricloud.ErrSignatureTooNew,
			},
			{verify: verifyDefault, at: 1e6 * time.Second, want: ricloud.ErrSignatureTooNew},
			{verify: custom.Verify, at: -time.Hour, want: nil},
			{
				verify: custom.Verify,
				at:     -time.Hour - time.Second,
				want:   ricloud.ErrSignatureTooOld,
			},
			{verify: custom.Verify, at: time.Second, want: nil},
			{verify: custom.Verify, at: 2 * time.Second, want: ricloud.ErrSignatureTooNew},
		} {
			err := tt.verify(sign(webhookSecret, now.Add(tt.at), body), body)
			require.ErrorIs(t, err, tt.want, "signed %s from now", tt.at)
			err = tt.verify(sign("another", now.Add(tt.at), body), body)
			require.ErrorIs(t, err, ricloud.ErrSignatureMismatch, "what the API did not sign has no age")
		}
	})
}

func verifyDefault(header string, body []byte) error {
	return ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret))
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
		err := ageless(ricloud.NewSecret(webhookSecret)).Verify(header, content)
		if err != nil {
			require.ErrorIs(t, err, ricloud.ErrSignature)
			return
		}
		// Only the content of the valid header may pass.
		require.True(t, bytes.Equal(content, body), "a body that nobody signed")
		require.Contains(t, header, signature)
	})
}

// Secrets with which no delivery can be signed are refused immediately.
func TestWebhookSecretsThatCannotBeRight(t *testing.T) {
	t.Parallel()
	h, known := newWebhook(t, ignore), ricloud.NewSecret(webhookSecret)
	for _, secret := range []string{"", "x\n", "x\r\n", "\tx", " x", "x ", "\u00a0x", "[redacted]"} {
		s := ricloud.NewSecret(secret)
		var p *ricloud.ParamError
		require.ErrorAs(t, h.SetSecrets(s), &p, "%q", secret)
		require.ErrorAs(t, h.AddSecrets(known, s), &p, "%q", secret)
		require.ErrorAs(t, ricloud.VerifyWebhook("t=1,s=x", nil, s), &p, "%q", secret)
		_, err := ricloud.NewWebhookHandler(ignore, ricloud.WithWebhookSecrets(s))
		require.ErrorAs(t, err, &p, "%q", secret)
		_, err = sandboxClient(t).WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, Secrets: []ricloud.Secret{s},
		})
		require.ErrorAs(t, err, &p, "%q", secret)
	}
	assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code,
		"what is refused changes nothing")
}

// No formatting verb prints the secrets of a verifier.
func TestWebhookVerifierPrintsNoSecret(t *testing.T) {
	t.Parallel()
	v := ageless(ricloud.NewSecret(webhookSecret))
	type box struct {
		Value   ricloud.WebhookVerifier
		Pointer *ricloud.WebhookVerifier
		All     []*ricloud.WebhookVerifier
	}
	for verb := 'a'; verb <= 'z'; verb++ {
		for _, flag := range []string{"%", "%+", "%#"} {
			for _, x := range []any{
				v, &v,
				[]*ricloud.WebhookVerifier{&v},
				box{Value: v, Pointer: &v, All: []*ricloud.WebhookVerifier{&v}},
			} {
				printed := fmt.Sprintf(flag+string(verb), x)
				require.NotContains(t, printed, webhookSecret, flag+string(verb))
				require.NotContains(t, printed, fmt.Sprintf("%x", webhookSecret))
			}
		}
	}
}

// The older encoding is accepted as the vendor's 3.0.1 receiver did: the body is a JSON string, and
// the signature covers the bytes of the JSON inside it.
func TestVerifyWebhookOlderEncoding(t *testing.T) {
	t.Parallel()
	for name, inner := range map[string]string{
		"plain":   `{"id":"1","type":"poll"}`,
		"spaced":  " {\"id\":\"1\",\n\"type\":\"poll\"}\n",
		"unicode": `{"id":"1","type":"poll","data":{"name":"müller 日本 🎉"}}`,
	} {
		body, err := json.Marshal(inner)
		require.NoError(t, err)
		require.NoError(t, verifyDefault(sign(webhookSecret, time.Now(), []byte(inner)), body), name)
		event, err := ricloud.ParseEvent(body)
		require.NoError(t, err, name)
		assert.Equal(t, ricloud.ID("1"), event.ID)
		assert.Equal(t, string(body), string([]byte(event.Body)))
		for _, forged := range []string{
			strings.TrimSpace(inner) + "x", inner + " ",
			`{"id":"2","type":"poll"}`,
		} {
			other, err := json.Marshal(forged)
			require.NoError(t, err)
			require.ErrorIs(t, verifyDefault(sign(webhookSecret, time.Now(), []byte(inner)), other),
				ricloud.ErrSignatureMismatch, name)
		}
		require.ErrorIs(t, verifyDefault(sign("x", time.Now(), []byte(inner)), body),
			ricloud.ErrSignatureMismatch)
	}
}
