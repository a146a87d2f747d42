package cli

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/zalando/go-keyring"

	ricloud "github.com/reincubate/ricloud-go"
)

// keyringService is the name under which a keyring holds tokens.
const keyringService = "ricloud"

// settings is the file that holds the profiles. It holds a token only if the machine has
// no keyring. Only its owner can read it.
type settings struct {
	Current  string              `json:"current,omitempty"`
	Profiles map[string]*profile `json:"profiles"`
}

type profile struct {
	URL     string `json:"url,omitempty"`
	Token   string `json:"token,omitempty"`   // only without a keyring
	Keyring bool   `json:"keyring,omitempty"` // the token is in the keyring
}

func settingsPath() (string, error) { return configPath("settings.json") }

// configPath returns the path of one of this program's own files.
func configPath(name string) (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "ricloud", name), nil
}

func readSettings() (*settings, error) {
	s := &settings{Profiles: map[string]*profile{}}
	path, err := settingsPath()
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the program's own file
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("cannot read the settings in %s: the file is damaged; repair or remove it",
			path)
	}
	if s.Profiles == nil {
		s.Profiles = map[string]*profile{}
	}
	return s, nil
}

func (s *settings) write() error {
	path, err := settingsPath()
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(path, append(raw, '\n'))
}

// writePrivate replaces a file by one that only its owner can read.
func writePrivate(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ricloud-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// profileName returns the profile that this run uses.
func (a *app) profileName(s *settings) string {
	return cmp.Or(a.profile, os.Getenv("RICLOUD_PROFILE"), s.Current, "default")
}

// access is where the API is and what opens it.
type access struct {
	url    string
	token  ricloud.Secret
	source string // where the token was found, in words
}

// access finds the token and the URL: the environment, then the profile, then the settings file
// of the vendor's client.
func (a *app) access() (access, error) {
	found := access{url: os.Getenv("RICLOUD_URL")}
	s, err := readSettings()
	if err != nil {
		return access{}, err
	}
	name := a.profileName(s)
	p, known := s.Profiles[name]
	if !known && (a.profile != "" || os.Getenv("RICLOUD_PROFILE") != "") {
		return access{}, fmt.Errorf("there is no profile %q; make it with: ricloud auth login "+
			"--profile %s", name, name)
	}
	vendor, file := vendorSettings()
	switch {
	case a.profile == "" && os.Getenv("RICLOUD_TOKEN") != "":
		found.token, found.source = ricloud.NewSecret(os.Getenv("RICLOUD_TOKEN")), "RICLOUD_TOKEN"
	case known:
		if found.token, err = p.token(name); err != nil {
			return access{}, err
		}
		found.source = "the profile " + name
		if p.URL != "" && (found.url == "" || a.profile != "") {
			found.url = p.URL
		}
	case vendor["token"] != "":
		found.token, found.source = ricloud.NewSecret(vendor["token"]), file
		found.url = cmp.Or(found.url, vendor["url"])
	default:
		return access{}, noToken()
	}
	found.url = cmp.Or(a.url, found.url, ricloud.DefaultBaseURL)
	return found, nil
}

// noToken says that there is no token, and how to get on without one or with one.
func noToken() error {
	return &advised{
		fmt.Errorf("there is no token: %w", ricloud.ErrUnauthorized),
		"ricloud auth login stores one, RICLOUD_TOKEN sets one, and --sandbox needs none",
	}
}

// token reads the profile's token.
func (p *profile) token(name string) (ricloud.Secret, error) {
	if !p.Keyring {
		return ricloud.NewSecret(p.Token), nil
	}
	token, err := keyring.Get(keyringService, name)
	if err != nil {
		return ricloud.NewSecret(""), fmt.Errorf("cannot read the token of profile %q from the "+
			"keyring: %w; ricloud auth login stores it again", name, err)
	}
	return ricloud.NewSecret(token), nil
}

// save stores the token in the keyring, or in the settings file if there is no keyring. It
// returns where, in words.
func (s *settings) save(name, url string, token ricloud.Secret) (string, error) {
	p := &profile{URL: url}
	where := "the keyring"
	if err := keyring.Set(keyringService, name, token.Reveal()); err == nil {
		p.Keyring = true
	} else {
		p.Token = token.Reveal()
		if where, err = settingsPath(); err != nil {
			return "", err
		}
	}
	s.Profiles[name], s.Current = p, name
	return where, s.write()
}

func (s *settings) remove(name string) error {
	p, known := s.Profiles[name]
	if !known {
		return fmt.Errorf("there is no profile %q", name)
	}
	if p.Keyring {
		if err := keyring.Delete(keyringService, name); err != nil &&
			!errors.Is(err, keyring.ErrNotFound) {
			return fmt.Errorf("cannot remove the token from the keyring: %w", err)
		}
	}
	delete(s.Profiles, name)
	if s.Current == name {
		s.Current = ""
	}
	return s.write()
}

// vendorSettings reads [api] of the vendor's settings as their client does: ~/.ricloud.ini first,
// then the file that RICLOUD_CONF names, whose values win. A missing file is an empty one. from is
// the file that the token is from.
func vendorSettings() (values map[string]string, from string) {
	values = map[string]string{}
	home, err := os.UserHomeDir()
	if err == nil && readINI(filepath.Join(home, ".ricloud.ini"), values) {
		from = "~/.ricloud.ini"
	}
	if path := os.Getenv("RICLOUD_CONF"); path != "" && readINI(path, values) {
		from = path
	}
	return values, from
}

// readINI adds the section [api] of a file to values. It reports whether that has a token.
func readINI(path string, values map[string]string) (token bool) {
	f, err := os.Open(path) //nolint:gosec // the vendor's own file, or one that the user names
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	section := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[] ")
			continue
		}
		if section != "api" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if i := strings.IndexAny(line, "=:"); i > 0 {
			name, value := strings.ToLower(strings.TrimSpace(line[:i])), strings.TrimSpace(line[i+1:])
			values[name] = value
			token = token || name == "token" && value != ""
		}
	}
	return token
}

func (a *app) completeProfiles(
	*cobra.Command, []string, string,
) ([]string, cobra.ShellCompDirective) {
	s, err := readSettings()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(s.Profiles)), cobra.ShellCompDirectiveNoFileComp
}
