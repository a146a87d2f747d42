package watch

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/reincubate/ricloud-go/internal/transport"
)

func TestOfAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status  int
		code    string
		body    string
		verdict Verdict
	}{
		{status: 401, body: "", verdict: Refused},
		{status: 401, body: ` {"detail":"x"}`, verdict: Refused},
		{status: 401, body: "<html>", verdict: Retry},
		{status: 403, body: "<html>", verdict: Retry},
		{status: 404, body: "<html>", verdict: Retry},
		{status: 404, code: "Not Found", verdict: Retry},
		{status: 403, code: "access denied", verdict: Retry},
		{status: 403, code: "missing-scope", verdict: Final},
		{status: 404, code: "not-found", verdict: Missing},
		{status: 410, code: "gone", verdict: Missing},
		{status: 408, code: "timeout", verdict: Retry},
		{status: 425, code: "too-early", verdict: Retry},
		{status: 429, code: "rate-limited", verdict: Retry},
		{status: 503, code: "maintenance", verdict: Retry},
	}
	for _, tc := range tests {
		assert.Equal(t, tc.verdict, OfAnswer(tc.status, tc.code, []byte(tc.body)), "%+v", tc)
	}
}

func TestOfFailure(t *testing.T) {
	t.Parallel()
	for verdict, causes := range map[Verdict][]error{
		Unsent:  {transport.ErrTooLate},
		Refused: {&transport.ProxyError{StatusCode: 407}},
		Permanent: {
			&tls.CertificateVerificationError{Err: errDown},
			x509.UnknownAuthorityError{},
			x509.HostnameError{Certificate: &x509.Certificate{}},
			x509.CertificateInvalidError{},
		},
		Retry: {errDown, &transport.ProxyError{StatusCode: 403}},
	} {
		for _, err := range causes {
			assert.Equal(t, verdict, OfFailure(fmt.Errorf("GET: %w", err)), "%v", err)
		}
	}
}
