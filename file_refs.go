package ricloud

import (
	"encoding/json"
	"slices"
	"strings"
)

// FileRefs returns the ids of the files that a record refers to, to be asked
// for with Polls.Files: those in its "files", its "file" and its
// "attachments", each under "file_id" or "id", and its own "file_id". Digital
// Touch messages are left out: they are attachments without a file. What is
// not JSON, or has none of these, refers to no file.
func FileRefs(record json.RawMessage) []ID {
	var fields map[string]json.RawMessage
	if json.Unmarshal(record, &fields) != nil {
		return nil
	}
	var refs []ID
	add := func(raw json.RawMessage) {
		if id := fileRef(raw); id != "" && !slices.Contains(refs, id) {
			refs = append(refs, id)
		}
	}
	if _, ok := fields["file_id"]; ok {
		add(record)
	}
	add(fields["file"])
	for _, name := range []string{"files", "attachments"} {
		var items []json.RawMessage
		_ = json.Unmarshal(fields[name], &items)
		for _, item := range items {
			add(item)
		}
	}
	return refs
}

// noFile is in the ids of attachments that have no file (contract §17).
const noFile = "dtouch"

func fileRef(raw json.RawMessage) ID {
	var ref map[string]json.RawMessage
	if json.Unmarshal(raw, &ref) != nil {
		return ""
	}
	for _, name := range []string{"file_id", "id"} {
		var id ID
		if raw, ok := ref[name]; ok && json.Unmarshal(raw, &id) == nil && id != "" {
			if strings.Contains(string(id), noFile) {
				return ""
			}
			return id
		}
	}
	return ""
}
