package ricloudtest

import (
	"slices"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// describeAccount shows an account without its contents. The passwords are the sandbox's own.
func describeAccount(a Account) object {
	return object{
		"service": a.service(), "identifier": a.Identifier, "password": a.Password,
		"code": a.Code, "locked": a.Locked, "deactivated": a.Deactivated,
		"data": keysOf(a.Data), "info": keysOf(a.Info), "files": keysOf(a.Files),
		"fail": a.Fail, "suspend": keysOf(a.Suspend), "children": len(a.Children),
	}
}

func keysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (s *Server) adminAccounts(*adminRequest) (any, error) {
	out := []object{}
	for _, a := range s.Accounts() {
		out = append(out, describeAccount(a))
	}
	return out, nil
}

func (s *Server) adminAddAccount(r *adminRequest) (any, error) {
	var a Account
	if err := r.read(&a); err != nil {
		return nil, err
	}
	return nil, s.AddAccount(a)
}

// accountRef names an account in the admin API.
type accountRef struct {
	Service    ricloud.SourceType `json:"service"`
	Identifier string             `json:"identifier"`
}

func (a accountRef) service() ricloud.SourceType {
	if a.Service == "" {
		return iCloudAccount
	}
	return a.Service
}

func adminLock(locked bool) adminHandler {
	return func(s *Server, r *adminRequest) (any, error) {
		var in accountRef
		if err := r.read(&in); err != nil {
			return nil, err
		}
		return nil, s.LockAccount(in.service(), in.Identifier, locked)
	}
}

// adminAddData merges contents and outcomes into an account.
func (s *Server) adminAddData(r *adminRequest) (any, error) {
	var more Account
	if err := r.read(&more); err != nil {
		return nil, err
	}
	ref := accountRef{more.Service, more.Identifier}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.known[accountName(string(ref.service()), ref.Identifier)]
	if old == nil {
		return nil, refuse("there is no %s account %q", ref.service(), ref.Identifier)
	}
	changed := old.Account
	changed.Info = merge(merge(nil, changed.Info), more.Info)
	changed.Data = merge(merge(nil, changed.Data), more.Data)
	changed.Files = merge(merge(nil, changed.Files), more.Files)
	changed.Fail = merge(merge(nil, changed.Fail), more.Fail)
	changed.Suspend = merge(merge(nil, changed.Suspend), more.Suspend)
	others := slices.DeleteFunc(slices.Clone(changed.Children), func(child Account) bool {
		return slices.ContainsFunc(more.Children, func(c Account) bool {
			return c.Identifier == child.Identifier
		})
	})
	changed.Children = slices.Concat(others, more.Children) // a child that is there is replaced
	if err := changed.check(); err != nil {
		return nil, err
	}
	s.addAccount(changed)
	return object{"ok": true}, nil
}

func (s *Server) adminTrialKey(r *adminRequest) (any, error) {
	in := struct {
		Lifetime duration `json:"lifetime"`
	}{duration(24 * time.Hour)}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	token, err := s.AddTrialKey(time.Duration(in.Lifetime))
	if err != nil {
		return nil, err
	}
	return object{"token": token.Reveal()}, nil
}
