package ricloudtest

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/reincubate/ricloud-go"
)

// The services the sandbox knows, as source types.
const (
	iCloudAccount = "icloud.account"
	iCloudBackup  = "icloud.backup" // a child of iCloudAccount; an info poll finds it
	relayInstance = "rirelay.instance"
	relayDevice   = "rirelay.source" // a child of relayInstance: a device
	mocksMock     = "mocks.mock"
)

// Account is one account of a third-party service, as data.
type Account struct {
	Service    ricloud.SourceType // ricloud.SourceICloudAccount if empty
	Identifier string             // the username; empty in a Mock account: any
	Password   string             // empty: any
	Code       string             // the 2FA code, or Relay's pairing code; empty: none asked

	Locked      bool   // the service has locked it: sessions fail with "source-locked"
	Deactivated bool   // the service has closed it: sessions fail with "source-deactivated"
	SessionFail string // any other error code for its sessions to fail with, such as "init_failed"

	Info    map[string]any     // info type to its document
	Data    map[string]Content // data type to its document; one that is not here is empty
	Files   map[string]File    // file ID to file
	Fail    map[string]string  // data type, info type or file ID to the error its task fails with
	Suspend map[string]bool    // data type, info type or file ID whose task is suspended for a while

	Children []Account // Relay: devices, there once a session is active. iCloud: backups, there after an info poll
}

// File is a file of an account.
type File struct {
	Type    string // the result's type, such as "jpg"; empty: "bin"
	Content Content
}

// account is an Account in use.
type account struct {
	Account
	blobs map[string]*blob // by "data:", "info:" or "files:" and the target
	kids  []*account
}

func newAccount(a Account) *account {
	if a.Service == "" {
		a.Service = iCloudAccount
	}
	acc := &account{Account: a, blobs: map[string]*blob{}}
	for name, content := range a.Data {
		acc.blobs["data:"+name] = newBlob(content)
	}
	for name, info := range a.Info {
		acc.blobs["info:"+name] = newBlob(bytes.NewReader(encode(info)))
	}
	for id, file := range a.Files {
		acc.blobs["files:"+id] = newBlob(file.Content)
	}
	for _, child := range a.Children {
		if child.Service == "" {
			child.Service = map[ricloud.SourceType]ricloud.SourceType{relayInstance: relayDevice}[a.Service]
		}
		if child.Service == "" {
			child.Service = iCloudBackup
		}
		acc.kids = append(acc.kids, newAccount(child))
	}
	return acc
}

// find returns what a task of that kind publishes for target, and its type.
// Assumption: a known account without records of a data type publishes an
// empty document; a file that is not there fails its task.
func (a *account) find(kind, target string) (*blob, string, bool) {
	found, ok := a.blobs[kind+":"+target]
	if kind == "files" {
		if t := a.Files[target].Type; t != "" {
			return found, t, ok
		}
		return found, "bin", ok
	}
	if !ok && kind == "data" {
		found = newBlob(Records())
	}
	if !ok && kind == "info" {
		found = newBlob(bytes.NewReader(encode(object{"types": a.infoTypes()})))
	}
	return found, "json", true
}

func (a *account) infoTypes() []string {
	return slices.Sorted(maps.Keys(a.Info))
}

// DefaultAccounts are the ready-made accounts of a server that was given none:
//
//   - john.appleseed@example.com, password hunter2, no 2FA
//   - jane.appleseed@example.com, password hunter2, 2FA code 123456
//   - locked@example.com, password hunter2, locked by the service
//   - Relay pairing code PAIR-1234, with one device
//   - mocks.mock: any identifier and any password
func DefaultAccounts() []Account {
	john := sampleAccount("John")
	john.Identifier, john.Password = "john.appleseed@example.com", "hunter2"
	jane := sampleAccount("Jane")
	jane.Identifier, jane.Password, jane.Code = "jane.appleseed@example.com", "hunter2", "123456"
	device := sampleAccount("Jane's iPhone")
	device.Service, device.Identifier = relayDevice, "FFABCZGTJC12"
	device.Children = nil
	mock := sampleAccount("Mock")
	mock.Service = mocksMock
	mock.Children = nil
	return []Account{
		john, jane,
		{Identifier: "locked@example.com", Password: "hunter2", Locked: true},
		{Service: relayInstance, Identifier: "relay-1", Code: "PAIR-1234", Children: []Account{device}},
		mock,
	}
}

// sampleAccount has a little of everything: calls, messages with attachments,
// WhatsApp messages, and the files they name.
func sampleAccount(name string) Account {
	files := map[string]File{}
	attach := func(id, kind string) object {
		content := GenerateBytes(int64(len(files)), 2048)
		files[id] = File{Type: kind, Content: content}
		return object{"file_id": id, "type": "file", "name": "IMG_" + id[:4], "extension": kind, "size": content.Size()}
	}
	return Account{
		Info: map[string]any{iCloudAccount: object{"first_name": name, "last_name": "Appleseed", "full_name": name + " Appleseed"}},
		Data: map[string]Content{
			"icloud.account.info": Records(object{"first_name": name, "last_name": "Appleseed"}),
			"callkit.calls": Records(
				object{"id": 1, "address": "+441632960001", "duration": 61.5, "type": "outgoing", "date": "2018-11-20T09:12:00Z"},
				object{"id": 2, "address": "+441632960002", "duration": 0, "type": "missed", "date": "2018-11-21T18:40:10Z"},
			),
			"ios_messages.messages": Records(
				object{"id": 1, "text": "On my way", "from_me": true, "attachments": []object{attach("7a10photo", "jpg")}},
				object{"id": 2, "text": "日本 🎉", "from_me": false, "attachments": []object{}},
			),
			"whatsapp.messages": Records(
				object{"id": 1, "text": "Hello", "file": object{"id": "9c31voice", "file_id": attach("9c31voice", "opus")["file_id"]}},
			),
			"photos.photos": Records(
				object{"id": 1, "files": []object{{"id": "5b22image", "file_id": attach("5b22image", "heic")["file_id"]}}},
			),
		},
		Files:    files,
		Children: []Account{{Identifier: strings.ToLower(name) + "-backup", Data: map[string]Content{"callkit.calls": Records()}}},
	}
}

// MockAccounts makes n accounts without 2FA, user-0@example.com and so on, all
// with password hunter2 and the data types given, for tests of a fleet.
func MockAccounts(n int, dataTypes ...string) []Account {
	data := map[string]Content{}
	for _, name := range dataTypes {
		data[name] = Records(object{"id": 1})
	}
	accounts := make([]Account, n)
	for i := range accounts {
		accounts[i] = Account{Identifier: "user-" + strconv.Itoa(i) + "@example.com", Password: "hunter2", Data: data}
	}
	return accounts
}
