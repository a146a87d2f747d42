package ricloudtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// An option that cannot work is refused by every call, with a clear error.
func TestOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opt  ricloudtest.Option
		want string
	}{
		"nil":                      {nil, "option 0 is nil"},
		"no token":                 {ricloudtest.WithToken(""), "token"},
		"a token with a space":     {ricloudtest.WithToken("a b"), "token"},
		"a token that is no ASCII": {ricloudtest.WithToken("schlüssel"), "token"},
		"no speed":                 {ricloudtest.WithSpeed(0), "speed"},
		"a negative speed":         {ricloudtest.WithSpeed(-1), "speed"},
		"a generation":             {ricloudtest.WithGeneration(9), "generation 9"},
		"a rate limit":             {ricloudtest.WithRateLimit(-1, time.Hour), "rate limit"},
		"a limit of no time":       {ricloudtest.WithRateLimit(5, 0), "rate limit"},
		"polls in flight":          {ricloudtest.WithInFlightLimit(-1), "in-flight"},
		"a lifetime":               {ricloudtest.WithSessionLifetime(-1), "lifetime"},
		"a delay": {
			ricloudtest.WithDelays(ricloudtest.Delays{Task: ricloudtest.Fixed(-1)}), "task",
		},
		"retries":        {ricloudtest.WithWebhookRetries(-1), "retries"},
		"a webhook":      {ricloudtest.WithWebhooks("receiver"), "receiver"},
		"a webhook rate": {ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults{Drop: 1.5}), "1.5"},
		"a receiver":     {ricloudtest.WithReceiver("https://x", nil), "https://x"},
		"a transport":    {ricloudtest.WithWebhookTransport(nil), "transport"},
		"a publisher":    {ricloudtest.WithPublisher(nil), "publisher"},
		"a folder":       {ricloudtest.WithLocalStorage(""), "folder"},
		"a logger":       {ricloudtest.WithLogger(nil), "logger"},
		"a storage key":  {ricloudtest.WithStorageKey("id", ""), "storage key"},
		"a public URL":   {ricloudtest.WithPublicURLs("sandbox", ""), "public URL"},
		"with a query":   {ricloudtest.WithPublicURLs("https://a.example?b", ""), "public URL"},
		"with a part":    {ricloudtest.WithPublicURLs("", "https://a.example#b"), "public URL"},
		"with a user":    {ricloudtest.WithPublicURLs("https://u:p@a.example", ""), "public URL"},
		"an origin":      {ricloudtest.WithCORS("https://x/y"), "https://x/y"},
		"a scope":        {ricloudtest.WithScopes(ricloudtest.Scopes{"calls": nil}), "calls"},
		"a limit's level": {
			ricloudtest.WithScopes(ricloudtest.Scopes{"data_type:x": {{Level: "world"}}}), "world",
		},
		"a fault": {
			ricloudtest.WithFaults(ricloudtest.Fault{Operation: "Pols.Get", Status: 500}),
			"Pols.Get",
		},
		"a service": {
			ricloudtest.WithAccounts(ricloudtest.Account{Service: "skype", Identifier: "x"}),
			"skype",
		},
		"a relay without code": {
			ricloudtest.WithAccounts(ricloudtest.Account{Service: "rirelay.instance", Identifier: "x"}),
			"pairing",
		},
		"nobody's account": {ricloudtest.WithAccounts(ricloudtest.Account{}), "without an identifier"},
		"a bad child": {
			ricloudtest.WithAccounts(ricloudtest.Account{
				Identifier: "x",
				Children:   []ricloudtest.Account{{}},
			}), "identifier",
		},
		"wrong codes": {
			ricloudtest.WithAccounts(ricloudtest.Account{Identifier: "x", WrongCodes: -1}),
			"WrongCodes",
		},
		"twins": {
			ricloudtest.WithAccounts(ricloudtest.Account{Identifier: "x"},
				ricloudtest.Account{Identifier: "x"}), "two",
		},
		"a dump": {ricloudtest.WithState([]byte("{}")), "version"},
	} {
		srv := start(t, test.opt)
		require.ErrorContains(t, srv.Err(), test.want, name)
		require.ErrorContains(t, srv.Start(), test.want, name)
		_, err := srv.Client().Keys.Current(t.Context())
		require.ErrorContains(t, err, test.want, name)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/key",
			http.NoBody)
		require.NoError(t, err)
		got := serve(srv, r)
		assert.Equal(t, http.StatusInternalServerError, got.status, name)
		assert.Contains(t, got.body.String(), "internal-error", name)
	}
	require.NoError(t, start(t).Err())
}

// A misspelt operation does not count as never called.
func TestMisspeltOperations(t *testing.T) {
	t.Parallel()
	srv := start(t)
	assert.Equal(t, 0, srv.CountCalls("Polls.Create"))
	assert.Equal(t, -1, srv.CountCalls("Pols.Create"))
	require.Error(t, srv.SetFaults(ricloudtest.Fault{Operation: "Pols.Create", Status: 500}))
	assert.Empty(t, srv.Faults())
	require.Error(t, srv.ExpireSession("x", "nonsense"))
}

// A client of a sandbox that answers 500 gives up within milliseconds.
func TestRetriesTakeNoTime(t *testing.T) {
	t.Parallel()
	srv := start(t, ricloudtest.WithFaults(ricloudtest.Fault{Status: 500, Count: -1}))
	began := time.Now()
	_, err := srv.Client().Keys.Current(t.Context())
	require.Error(t, err)
	assert.Greater(t, srv.CountCalls("Keys.Current"), 2, "it was tried again")
	assert.Less(t, time.Since(began), 500*time.Millisecond)
}
