package transport

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
)

// NamedSecrets returns the values of a query and of a JSON body whose names say
// that they are secret. It is for requests whose type does not say it.
func NamedSecrets(body []byte, query url.Values) []string {
	var found []string
	for name, values := range query {
		if isSecretName(name) {
			found = append(found, values...)
		}
	}
	if len(body) == 0 {
		return found
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // a code may be a number
	var value any
	if decoder.Decode(&value) != nil {
		return found
	}
	return namedIn(found, value, false)
}

// namedIn appends the secrets in a value of JSON. All that is below a secret name
// is secret.
func namedIn(found []string, value any, secret bool) []string {
	switch value := value.(type) {
	case map[string]any:
		for name, item := range value {
			found = namedIn(found, item, secret || isSecretName(name))
		}
	case []any:
		for _, item := range value {
			found = namedIn(found, item, secret)
		}
	case string:
		if secret {
			found = append(found, value)
		}
	case json.Number:
		if secret {
			found = append(found, value.String())
		}
	}
	return found
}

// isSecretName reports whether a field of this name usually holds a secret.
func isSecretName(name string) bool {
	name = strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name))
	switch name {
	case "code", "otp", "pin":
		return true
	}
	for _, part := range []string{
		"passw", "passphrase", "token", "secret", "credential", "privatekey", "apikey", "signature",
		"authorization", "signedurl",
	} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
