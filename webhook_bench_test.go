package ricloud_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// bareEvent is an event that is decoded without any tolerance.
type bareEvent struct {
	ID            string          `json:"id"`
	Type          string          `json:"type"`
	Action        string          `json:"action"`
	Data          json.RawMessage `json:"data"`
	State         string          `json:"state"`
	Retries       int             `json:"retries"`
	DateCreated   time.Time       `json:"date_created"`
	DateDelivered *time.Time      `json:"date_delivered"`
}

// completedPoll returns the body of a typical event: a poll with ten tasks.
func completedPoll() []byte { return completedPollOf(0) }

// completedPollOf is like completedPoll, and adds results.
func completedPollOf(results int) []byte {
	const uuid = "0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f"
	tasks := strings.TrimSuffix(strings.Repeat(`"`+uuid+`",`, 10), ",")
	result := `{"id":"` + uuid + `","resource":"result","task":"` + uuid + `","type":"data",` +
		`"identifier":"callkit.calls","url":"s3://a-bucket/results/` + uuid + `.json",` +
		`"checksum":"1B2M2Y8AsgTpgAmY7PhCfg==","size":48213,"state":"available",` +
		`"files":{"a":{"id":"` + uuid + `","size":12}},"date_created":"2020-02-25T10:26:05Z"},`
	return fmt.Appendf(nil,
		`{"id":%q,"resource":"event","type":"poll","action":"completed","data":{"id":%[1]q,`+
			`"resource":"poll",`+
			`"organisation":1,"key":1,"user":"7","session":%[1]q,"source":"12","tasks_pending":[],`+
			`"tasks_processing":[],"tasks_failed":[],`+
			`"tasks_succeeded":[%s],"results":{"data":[%s],"has_more":false,"total_count":%d,`+
			`"url":"/results"},"state":"completed",`+
			`"date_created":"2020-02-25T10:25:05.123456Z","date_started":"2020-02-25T10:25:06.123456Z",`+
			`"date_completed":"2020-02-25T10:26:05.123456Z"},`+
			`"state":"pending","retries":0,"date_created":"2020-02-25T10:26:05.223456Z",`+
			`"date_delivered":null}`, uuid, tasks,
		strings.TrimSuffix(strings.Repeat(result, results), ","), results)
}

// bare does the minimum for a delivery: compute the signature, compare it and decode the body.
func bare(key []byte, timestamp, signature string, body []byte) error {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	given, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(mac.Sum(nil), given) {
		return ricloud.ErrSignatureMismatch
	}
	return json.Unmarshal(body, new(bareEvent))
}

func verifyAndParse(header string, body []byte) error {
	if err := ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret)); err != nil {
		return err
	}
	_, err := ricloud.ParseEvent(body)
	return err
}

// BenchmarkWebhook compares VerifyWebhook and ParseEvent with bare. It alternates between the two,
// so that other load on the machine slows both down. It reports the ratio of the fastest rounds,
// which were disturbed least.
func BenchmarkWebhook(b *testing.B) {
	for _, size := range []struct {
		name    string
		results int // results of the poll
		calls   int // calls in a round
	}{
		{name: "1KB", results: 0, calls: 50},
		{name: "10KB", results: 23, calls: 5},
		{name: "1MB", results: 2500, calls: 1},
	} {
		b.Run(size.name, func(b *testing.B) {
			body := completedPollOf(size.results)
			header := sign(webhookSecret, time.Now(), body)
			timestamp, signature, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",s=")
			timed := func(f func() error) float64 {
				begin := time.Now()
				for range size.calls {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
				return time.Since(begin).Seconds()
			}
			plain := func() error { return bare([]byte(webhookSecret), timestamp, signature, body) }
			ours := func() error { return verifyAndParse(header, body) }
			fastest, fastestPlain := math.Inf(1), math.Inf(1)
			for b.Loop() {
				fastest = min(fastest, timed(ours))
				fastestPlain = min(fastestPlain, timed(plain))
			}
			b.ReportMetric(fastest/fastestPlain, "ratio")
			b.ReportMetric(testing.AllocsPerRun(1, func() { _ = plain() }), "bare-allocs")
			b.ReportMetric(testing.AllocsPerRun(1, func() { _ = ours() }), "allocs")
			b.ReportMetric(float64(len(body)), "bytes")
		})
	}
}

func TestWebhookAllocations(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts everybody's
	body := completedPoll()
	header := sign(webhookSecret, time.Now(), body)
	timestamp, signature, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",s=")
	plain := testing.AllocsPerRun(100, func() {
		err := bare([]byte(webhookSecret), timestamp, signature, body)
		require.NoError(t, err)
	})
	ours := testing.AllocsPerRun(100, func() {
		err := verifyAndParse(header, body)
		require.NoError(t, err)
	})
	assert.LessOrEqual(t, ours, plain+5, "ours %v, the plain way %v", ours, plain)
}
