package ricloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader is the header that carries the signature of a delivery:
//
//	Ricloud-Signature: t=<unix seconds>,s=<base64 of HMAC-SHA256(secret, "<t>.<body>")>
const SignatureHeader = "Ricloud-Signature"

// How far from now a signature may be dated, unless a WebhookVerifier says
// otherwise: what the vendor's client allows the past, and a clock that is
// slightly off.
const (
	DefaultTolerance       = 10 * time.Minute
	DefaultFutureTolerance = time.Minute
)

// Why a delivery is not believed. ErrSignature is all of them. None of their
// texts repeats a signature or a secret.
var (
	ErrSignature          = errors.New("ricloud: webhook signature")
	ErrSignatureMissing   = fmt.Errorf("%w: the %s header is missing", ErrSignature, SignatureHeader)
	ErrSignatureMalformed = fmt.Errorf("%w: the %s header is not t=<seconds>,s=<base64>", ErrSignature, SignatureHeader)
	ErrSignatureMismatch  = fmt.Errorf("%w: it does not fit the body and the secret: is it this webhook config's, and did nothing change the body on its way?", ErrSignature)
	ErrSignatureTooOld    = fmt.Errorf("%w: it is too old", ErrSignature)
	ErrSignatureTooNew    = fmt.Errorf("%w: it is dated in the future", ErrSignature)
)

// VerifyWebhook reports whether body is what the API sent: nil, or an error
// that is ErrSignature and says which kind. The header is the value of
// SignatureHeader, the body the raw bytes of the request, the secret the one
// of the WebhookConfig. While a secret is being replaced, give both. A missing
// or empty secret is a *ParamError. WebhookVerifier has other tolerances than
// the default. (Contract §13.)
func VerifyWebhook(header string, body []byte, secrets ...Secret) error {
	return WebhookVerifier{Secrets: secrets}.Verify(header, body)
}

// WebhookVerifier is VerifyWebhook with settings. It is safe for concurrent
// use.
type WebhookVerifier struct {
	Secrets []Secret      // one must fit; none may be empty
	Past    time.Duration // how old a signature may be; 0: DefaultTolerance
	Future  time.Duration // how far ahead it may be dated; 0: DefaultFutureTolerance
}

// Verify is VerifyWebhook with v's settings.
func (v WebhookVerifier) Verify(header string, body []byte) error {
	if err := checkSecrets(v.Secrets); err != nil {
		return err
	}
	if header == "" {
		return ErrSignatureMissing
	}
	t, signature, ok := parseSignature(header)
	if !ok {
		return ErrSignatureMalformed
	}
	seconds, err := strconv.ParseUint(t, 10, 62)
	if err != nil {
		return ErrSignatureMalformed
	}
	if !v.fits(t, signature, body) {
		return ErrSignatureMismatch
	}
	// Only what the API did sign is worth a look at its date.
	age := time.Now().Unix() - int64(seconds)
	if past := seconds64(v.Past, DefaultTolerance); age > past {
		return fmt.Errorf("%w: %d s, and %d s are allowed; is this server's clock right?", ErrSignatureTooOld, age, past)
	}
	if future := seconds64(v.Future, DefaultFutureTolerance); -age > future {
		return fmt.Errorf("%w: %d s, and %d s are allowed; is this server's clock right?", ErrSignatureTooNew, -age, future)
	}
	return nil
}

// fits reports, in a time that tells nothing, whether one of the secrets makes
// the signature. Encodings are compared, not digests: base64 has spellings
// that decode alike.
func (v WebhookVerifier) fits(t, signature string, body []byte) bool {
	given, prefix := []byte(signature), append([]byte(t), '.')
	found := false
	for _, secret := range v.Secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(prefix)
		mac.Write(body)
		want := base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
		found = hmac.Equal(want, given) || found
	}
	return found
}

// parseSignature reads fields in any order and passes over unknown ones. A
// field that comes twice is nothing the API sends.
func parseSignature(header string) (t, signature string, ok bool) {
	for field := range strings.SplitSeq(header, ",") {
		name, value, found := strings.Cut(field, "=")
		if !found {
			return "", "", false
		}
		into := &t
		switch name {
		case "t":
		case "s":
			into = &signature
		default:
			continue
		}
		if value == "" || *into != "" {
			return "", "", false
		}
		*into = value
	}
	return t, signature, t != "" && len(signature) == base64.StdEncoding.EncodedLen(sha256.Size)
}

func checkSecrets(secrets []Secret) error {
	switch {
	case len(secrets) == 0:
		return invalid("webhook secret", "is required: it is WebhookConfig.Secret")
	case slices.Contains(secrets, ""):
		return invalid("webhook secret", "is empty: anyone could sign with it")
	}
	return nil
}

func seconds64(d, otherwise time.Duration) int64 {
	if d <= 0 {
		d = otherwise
	}
	return int64(d / time.Second)
}
