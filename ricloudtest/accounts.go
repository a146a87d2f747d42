package ricloudtest

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// The services that the sandbox knows, as source types.
const (
	iCloudAccount = "icloud.account"
	iCloudBackup  = "icloud.backup" // a child of an iCloud account, which an info poll finds
	relayInstance = "rirelay.instance"
	relayDevice   = "rirelay.source" // a child of a Relay instance
	mocksMock     = "mocks.mock"
)

// Account is one account of a third-party service.
type Account struct {
	Service    ricloud.SourceType // ricloud.SourceICloudAccount if empty
	Identifier string             // the username; if empty in a mocks.mock account, any
	Password   string             // if empty, any
	Code       string             // the 2FA or pairing code; if empty, none is asked for
	WrongCodes int                // refuse this many codes first, even if they are right

	Locked      bool   // the service has locked it: sessions fail with "source-locked"
	Deactivated bool   // the service has closed it: sessions fail with "source-deactivated"
	SessionFail string // another error code that its sessions fail with, such as "init_failed"
	PollFail    string // an error code with which whole polls end as failed

	// Info, Data and Files are what polls find, by info type, data type and file ID. A data type
	// that is not here is an empty document. A file that is not here fails its task.
	Info  map[string]any
	Data  map[string]Content
	Files map[string]File

	// Fail and Suspend are by data type, info type or file ID. The task fails with the error code,
	// or is suspended for a while.
	Fail    map[string]string
	Suspend map[string]bool

	// Children are Relay's devices, which exist once a session is active, or an iCloud account's
	// backups, which exist after an info poll.
	Children []Account
}

// File is a file of an account.
type File struct {
	Type    string // the result's type, such as "jpg"; "bin" if empty
	Content Content
}

// check returns what is wrong with an account.
func (a Account) check() error {
	known := []ricloud.SourceType{
		"", iCloudAccount, iCloudBackup, relayInstance, relayDevice, mocksMock,
	}
	switch {
	case !slices.Contains(known, a.Service):
		return refuse("account %q: the sandbox has no service %q", a.Identifier, a.Service)
	case a.Service == relayInstance && a.Code == "":
		return refuse("account %q: a Relay instance needs a pairing code", a.Identifier)
	case a.Identifier == "" && a.Service != mocksMock:
		return refuse("an account of %s without an identifier", a.service())
	case a.WrongCodes < 0:
		return refuse("account %q: the number of wrong codes, %d, is negative", a.Identifier,
			a.WrongCodes)
	case unnamed(a.Data) || unnamed(a.Info) || unnamed(a.Files) || unnamed(a.Suspend) ||
		unnamed(a.Fail):
		return refuse("account %q: the name of something in data, info, files, suspend or fail is empty",
			a.Identifier)
	}
	for name, code := range a.Fail {
		if code == "" {
			return refuse("account %q: fail %s: an error code is missing", a.Identifier, name)
		}
	}
	names := map[string]bool{}
	for _, child := range a.Children {
		if err := child.check(); err != nil {
			return err
		}
		child = a.adopt(child)
		name := accountName(child.service(), child.Identifier)
		if names[name] {
			return refuse("account %q: there are two %s children %q", a.Identifier,
				child.service(), child.Identifier)
		}
		names[name] = true
	}
	return nil
}

// unnamed reports whether an entry of a map has an empty name.
func unnamed[V any](entries map[string]V) bool {
	_, found := entries[""]
	return found
}

// adopt returns a child with its service, which its parent decides unless it has one.
func (a Account) adopt(child Account) Account {
	if child.Service == "" {
		child.Service = iCloudBackup
		if a.Service == relayInstance {
			child.Service = relayDevice
		}
	}
	return child
}

func (a Account) service() string {
	if a.Service == "" {
		return iCloudAccount
	}
	return string(a.Service)
}

// account is an Account in use.
type account struct {
	Account

	name  string           // service and identifier; of a child, after its parent's
	blobs map[string]*blob // by "data:", "info:" or "files:" and the target
	kids  []*account
}

func accountName(service, identifier string) string { return service + " " + identifier }

func newAccount(a Account, parent string) *account {
	a.Service = ricloud.SourceType(a.service())
	acc := &account{
		Account: a, name: parent + accountName(a.service(), a.Identifier), blobs: map[string]*blob{},
	}
	for name, content := range a.Data {
		acc.blobs["data:"+name] = newBlob(content)
	}
	for name, info := range a.Info {
		acc.blobs["info:"+name] = newBlob(bytes.NewReader(reply.Encode(info)))
	}
	for id, file := range a.Files {
		acc.blobs["files:"+id] = newBlob(file.Content)
	}
	for _, child := range a.Children {
		acc.kids = append(acc.kids, newAccount(a.adopt(child), acc.name+" / "))
	}
	return acc
}

// find returns what a task of a kind publishes for target, and the result's type.
//
// Assumption (missing-data): a known account without records of a data type publishes an empty
// document; a file that it lacks fails its task.
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
		types := slices.Sorted(maps.Keys(a.Info))
		found = newBlob(bytes.NewReader(reply.Encode(object{"types": types})))
	}
	return found, "json", true
}

// addAccount makes an account known, in place of one with the same service and identifier. The
// sources of the old one become sources of the new one. s.mu is held.
func (s *Server) addAccount(a Account) {
	acc := newAccount(a, "")
	if old := s.known[acc.name]; old != nil {
		s.forgetAccount(old)
	}
	s.known[acc.name] = acc
	s.order = append(s.order, acc.name)
	if a.Code != "" {
		s.pairing[a.service()+" "+a.Code] = acc
	}
	replacements := map[string]*account{acc.name: acc}
	for _, kid := range acc.kids {
		replacements[kid.name] = kid
	}
	for _, x := range s.sources.All() {
		if x.Account != nil && replacements[x.Account.name] != nil {
			x.Account = replacements[x.Account.name]
		}
	}
}

func (s *Server) forgetAccount(a *account) {
	delete(s.known, a.name)
	delete(s.pairing, a.service()+" "+a.Code)
	s.order = slices.DeleteFunc(s.order, func(name string) bool { return name == a.name })
}

// AddAccount adds an account, or replaces the one with the same service and identifier. It refuses
// an account of a service that the sandbox does not know.
func (s *Server) AddAccount(a Account) error {
	if err := a.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addAccount(a)
	return nil
}

// Accounts returns the accounts, in the order in which they were added.
func (s *Server) Accounts() []Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	accounts := make([]Account, 0, len(s.order))
	for _, name := range s.order {
		accounts = append(accounts, s.known[name].Account)
	}
	return accounts
}

// LockAccount has the service lock an account, or unlock it. The account's sources change state at
// once, and later sessions fail while it is locked.
func (s *Server) LockAccount(service ricloud.SourceType, identifier string, locked bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	acc := s.known[accountName(string(service), identifier)]
	if acc == nil {
		return refuse("lock account: there is no %s account %q", service, identifier)
	}
	acc.Locked = locked
	for _, x := range s.sources.All() {
		switch {
		case x.Account != acc:
		case locked:
			x.State = stateLocked
		case x.State == stateLocked:
			x.State = stateActive
		}
	}
	return nil
}

// DefaultAccounts returns the accounts of a server that was given none:
//
//   - john.appleseed@example.com, password hunter2, no 2FA
//   - jane.appleseed@example.com, password hunter2, 2FA code 123456
//   - locked@example.com, password hunter2, locked by the service
//   - a Relay instance with pairing code PAIR-1234 and one device
//   - mocks.mock with any identifier and any password
func DefaultAccounts() []Account {
	john := SampleAccount("John")
	john.Identifier, john.Password = "john.appleseed@example.com", "hunter2"
	jane := SampleAccount("Jane")
	jane.Identifier, jane.Password = "jane.appleseed@example.com", "hunter2"
	jane.Code = "123456"
	device := SampleAccount("Jane's iPhone")
	device.Service, device.Identifier = relayDevice, "FFABCZGTJC12"
	device.Children = nil
	mock := SampleAccount("Mock")
	mock.Service = mocksMock
	mock.Children = nil
	relay := Account{
		Service: relayInstance, Identifier: "relay-1", Code: "PAIR-1234",
		Children: []Account{device},
	}
	locked := Account{Identifier: "locked@example.com", Password: "hunter2", Locked: true}
	return []Account{john, jane, locked, relay, mock}
}

// SampleAccount returns an account with a little of everything: calls, messages with attachments,
// WhatsApp messages, photos, and the files that they name. It has no identifier yet.
func SampleAccount(name string) Account {
	files := map[string]File{}
	attach := func(id, kind string) object {
		content := GenerateBytes(int64(len(files)), 2048)
		files[id] = File{Type: kind, Content: content}
		return object{
			"file_id": id, "type": "file", "name": "IMG_" + id[:4], "extension": kind,
			"size": content.Size(),
		}
	}
	calls := Records(
		object{
			"id": 1, "address": "+441632960001", "duration": 61.5, "type": "outgoing",
			"date": "2018-11-20T09:12:00Z",
		},
		object{
			"id": 2, "address": "+441632960002", "duration": 0, "type": "missed",
			"date": "2018-11-21T18:40:10Z",
		},
	)
	messages := Records(
		object{
			"id": 1, "text": "On my way", "from_me": true,
			"attachments": []object{attach("7a10photo", "jpg")},
		},
		object{"id": 2, "text": "日本 🎉", "from_me": false, "attachments": []object{}},
	)
	voice := attach("9c31voice", "opus")["file_id"]
	image := attach("5b22image", "heic")["file_id"]
	return Account{
		Info: map[string]any{iCloudAccount: object{
			"first_name": name, "last_name": "Appleseed", "full_name": name + " Appleseed",
		}},
		Data: map[string]Content{
			"icloud.account.info":   Records(object{"first_name": name, "last_name": "Appleseed"}),
			"callkit.calls":         calls,
			"ios_messages.messages": messages,
			"whatsapp.messages": Records(object{
				"id": 1, "text": "Hello", "file": object{"id": "9c31voice", "file_id": voice},
			}),
			"photos.photos": Records(object{
				"id": 1, "files": []object{{"id": "5b22image", "file_id": image}},
			}),
		},
		Files: files,
		Children: []Account{{
			Identifier: strings.ToLower(name) + "-backup",
			Data:       map[string]Content{"callkit.calls": Records()},
		}},
	}
}

// MockAccounts returns n iCloud accounts without 2FA for tests of a fleet: user-0@example.com and
// so on, with password hunter2 and one record of each data type.
func MockAccounts(n int, dataTypes ...string) []Account {
	data := map[string]Content{}
	for _, name := range dataTypes {
		data[name] = Records(object{"id": 1})
	}
	accounts := make([]Account, max(n, 0))
	for i := range accounts {
		accounts[i] = Account{
			Identifier: "user-" + strconv.Itoa(i) + "@example.com", Password: "hunter2", Data: data,
		}
	}
	return accounts
}
