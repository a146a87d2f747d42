package download

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		target string
		policy Policy
		want   string // "": allowed
	}{
		{target: "https://storage.example/k?s=1", policy: Policy{}, want: ""},
		{target: "https://93.184.216.34/k", policy: Policy{}, want: ""},
		{target: "https://[2606:2800:220:1::1]/k", policy: Policy{}, want: ""},
		{target: "ftp://storage.example/k", policy: Policy{}, want: "is not an https:// URL"},
		{target: "https:///k", policy: Policy{}, want: "is not an https:// URL"},
		{target: "http://storage.example/k?s=1", policy: Policy{}, want: "is not encrypted"},
		{target: "http://storage.example/k", policy: Policy{HTTP: true}, want: ""},
		{target: "http://storage.example/k", policy: Policy{Local: true}, want: "is not encrypted"},
		{target: "http://127.0.0.1/k", policy: Policy{Local: true}, want: ""},
		{target: "http://localhost./k", policy: Policy{Local: true}, want: ""},
		{target: "http://10.0.0.1/k", policy: Policy{Local: true}, want: "is not encrypted"},
		{target: "https://10.0.0.1/k", policy: Policy{Local: true}, want: ""},
		{target: "https://LOCALHOST/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://a.localhost/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://127.1/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://0x7f000001/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://0177.0.0.1/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://0127.0.0.1/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://10.0.0.08/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://[::ffff:0:127.0.0.1]/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://169.254.169.254/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://[::ffff:127.0.0.1]/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://[64:ff9b::7f00:1]/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://[2002:7f00:1::]/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://[fe80::1%25eth0]/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://100.64.0.1/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://[64:ff9b:1::1]/k", policy: Policy{}, want: "not on the public Internet"},
		{target: "https://\u2460\u2461\u2466.0.0.1/k?s=1", policy: Policy{}, want: "not ASCII"},
		{target: "https://127\u30020\u30020\u30021/k", policy: Policy{}, want: "not ASCII"},
		{target: "https://\u24dbocalhost/k", policy: Policy{Local: true}, want: "not ASCII"},
		{target: "https://b%C3%BCcher.example/k", policy: Policy{}, want: "not ASCII"},
		{target: "https://256.1.1.1/k", policy: Policy{}, want: ""}, // a name that never resolves
		{target: "https://4294967296/k", policy: Policy{}, want: ""},
		{target: "https://1.2.3.4.5/k", policy: Policy{}, want: ""},
		{target: "https://1_0.0.0.1/k", policy: Policy{}, want: ""},
	} {
		target, err := url.Parse(row.target)
		require.NoError(t, err)
		err = row.policy.Check(target)
		if row.want == "" {
			require.NoError(t, err, row.target)
			continue
		}
		require.ErrorContains(t, err, row.want, row.target)
		assert.NotContains(t, err.Error(), "s=1", "the query")
	}
}

// The dialer refuses local addresses for the guarded host only.
func TestDialContextRefusesTheGuardedHost(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, listener.Close()) }()
	address := listener.Addr().String()
	target, dial := &url.URL{Scheme: "https", Host: address}, DialContext(time.Second, -1)

	var refused *LocalError
	_, err = dial(Policy{}.Guard(t.Context(), target), "tcp", address)
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "not on the public Internet")
	other := &url.URL{Scheme: "http", Host: "storage.example"} // this address could be its proxy
	for _, ctx := range []context.Context{
		t.Context(), Policy{}.Guard(t.Context(), other), Policy{Local: true}.Guard(t.Context(), target),
	} {
		conn, err := dial(ctx, "tcp", address)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}
