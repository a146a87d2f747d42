package ricloud_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// bareEvent is an event read without any tolerance.
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

// completedPoll is the body of an event as it comes: a poll of ten tasks.
func completedPoll() []byte {
	const uuid = "0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f"
	tasks := strings.TrimSuffix(strings.Repeat(`"`+uuid+`",`, 10), ",")
	return fmt.Appendf(nil,
		`{"id":%q,"resource":"event","type":"poll","action":"completed","data":{"id":%[1]q,`+
			`"resource":"poll",`+
			`"organisation":1,"key":1,"user":"7","session":%[1]q,"source":"12","tasks_pending":[],`+
			`"tasks_processing":[],"tasks_failed":[],`+
			`"tasks_succeeded":[%s],"results":{"data":[],"has_more":false,"total_count":0,`+
			`"url":"/results"},"state":"completed",`+
			`"date_created":"2020-02-25T10:25:05.123456Z","date_started":"2020-02-25T10:25:06.123456Z",`+
			`"date_completed":"2020-02-25T10:26:05.123456Z"},`+
			`"state":"pending","retries":0,"date_created":"2020-02-25T10:26:05.223456Z",`+
			`"date_delivered":null}`, uuid, tasks)
}

// bare is the least that a receiver must do: compute, compare, decode.
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

// BenchmarkWebhook is the price of VerifyWebhook and ParseEvent beside that of
// the plain equivalent.
func BenchmarkWebhook(b *testing.B) {
	body := completedPoll()
	header := sign(webhookSecret, time.Now(), body)
	timestamp, signature, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",s=")
	b.Run("bare", func(b *testing.B) {
		key := []byte(webhookSecret)
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if err := bare(key, timestamp, signature, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ricloud", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if err := verifyAndParse(header, body); err != nil {
				b.Fatal(err)
			}
		}
	})
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
