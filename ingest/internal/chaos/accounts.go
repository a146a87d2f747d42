package main

import (
	"fmt"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func key(i int) string { return fmt.Sprintf("customer-%d", i) }

// fleet returns the accounts as the sandbox and as the engine know them.
func (w *world) fleet() ([]ricloudtest.Account, []ingest.Account) {
	there, here := make([]ricloudtest.Account, w.accounts), make([]ingest.Account, w.accounts)
	for i := range w.accounts {
		a := ricloudtest.Account{
			Identifier: key(i) + "@example.com", Password: password + key(i), Locked: w.isLocked(i),
			Data: map[string]ricloudtest.Content{
				"callkit.calls":     ricloudtest.Records(i, i+1, i+2),
				"whatsapp.messages": ricloudtest.Records(i),
			},
		}
		if w.hasCode(i) {
			a.Code = code
		}
		there[i] = a
		here[i] = ingest.Account{
			Key:    key(i),
			Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: a.Identifier},
			Poll:   ricloud.PollPayload{DataTypes: []string{"callkit.calls", "whatsapp.messages"}},
		}
	}
	return there, here
}

func (w *world) isLocked(i int) bool { return !w.calm && i%100 == 50 }
func (w *world) hasCode(i int) bool  { return !w.calm && i%100 < 3 }
