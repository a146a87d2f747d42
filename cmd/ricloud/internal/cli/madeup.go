package cli

import (
	"crypto/rand"
	"fmt"
	"time"
)

// uuid returns a random id of the form the API uses.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// madeUp returns an event about a resource that does not exist.
func madeUp(kind, action string) object {
	date := now().UTC().Format(time.RFC3339Nano)
	data := map[string]any{"id": uuid(), "resource": kind, "organisation": 1, "date_created": date}
	switch kind {
	case "session":
		data["source"] = map[string]any{"id": 1, "type": "icloud.account"}
		data["user"], data["key"] = 1, 1
		data["state"] = action
	case "poll":
		data["session"], data["source"], data["user"], data["key"] = uuid(), 1, 1, 1
		for _, list := range []string{"pending", "processing", "suspended", "succeeded", "failed"} {
			data["tasks_"+list] = []any{}
		}
		data["results"] = map[string]any{
			"data": []any{}, "has_more": false, "total_count": 0,
			"url": "/results",
		}
		data["state"] = "pending"
		if action == "completed" {
			data["state"], data["date_completed"] = "completed", date
		}
	case "task":
		data["poll"], data["session"], data["source"] = uuid(), uuid(), 1
		data["type"], data["target"] = "data", "callkit.calls"
		data["state"] = action
		if action == "created" {
			data["state"] = "pending"
		}
		if action == "failed" {
			data["error"] = "server-error"
		}
	case "webhook_config":
		data["url"], data["state"] = "https://example.com/webhooks", "new"
	}
	return object{
		"id": uuid(), "resource": "event", "type": kind, "action": action, "data": data,
		"state": "pending", "retries": 0, "date_created": date,
	}
}
