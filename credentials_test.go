package ricloud

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const serviceAccountJSON = `{"type":"service_account","project_id":"p","private_key_id":"k",
	"private_key":"-----BEGIN canary\n","client_email":"a@p.iam",
	"client_id":"1","auth_uri":"https://a","token_uri":"https://t","client_x509_cert_url":"https://c",
	"universe":null}`

func TestCredentialsFromFile(t *testing.T) {
	t.Parallel()
	key := Credentials{
		"access_key_id":     NewSecret("AKIA1"),
		"secret_access_key": NewSecret("canary/+="),
	}
	for name, tc := range map[string]struct {
		text string
		want Credentials
		err  string
	}{
		"service account": {text: serviceAccountJSON, want: Credentials{
			"type": NewSecret("service_account"), "project_id": NewSecret("p"),
			"private_key_id": NewSecret("k"), "private_key": NewSecret("-----BEGIN canary\n"),
			"client_email": NewSecret("a@p.iam"),
			"client_id":    NewSecret("1"), "auth_uri": NewSecret("https://a"),
			"token_uri": NewSecret("https://t"), "client_x509_cert_url": NewSecret("https://c"),
		}},
		"key":           {text: "Access key ID,Secret access key\r\nAKIA1,canary/+=\r\n", want: key},
		"key, with BOM": {text: "\ufeffAccess key ID,Secret access key\nAKIA1,canary/+=", want: key},
		"user": {text: "User name,Password,Access key ID,Secret access key,Console login " +
			"link\njane,canary,AKIA1,canary/+=,https://x\n", want: key},
		"no private key": {
			text: `{"type":"service_account","client_email":"a@p.iam"}`,
			err:  "private_key is required",
		},
		"a user's own": {
			text: `{"type":"authorized_user","refresh_token":"canary"}`,
			err:  "its type is not service_account",
		},
		"broken JSON": {text: `{"private_key":"canary`, err: "cannot be parsed"},
		"no secret":   {text: "Access key ID\nAKIA1\n", err: "secret_access_key is required"},
		"titles only": {text: "Access key ID,Secret access key\n", err: "is neither"},
		"two keys": {
			text: "Access key ID,Secret access key\na,canary\nb,canary\n",
			err:  "more than one",
		},
		"nothing": {text: "", err: "is neither"},
		"a profile": {
			text: "[default]\naws_secret_access_key = canary\n",
			err:  "access_key_id is required",
		},
		"a quote left open": {
			text: "Access key ID,Secret access key\n\"AKIA1,canary",
			err:  "is required",
		},
		"larger than sense ": {text: string(make([]byte, maxCredentials+1)), err: "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "credentials")
			require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
			got, err := CredentialsFromFile(path)
			assert.Equal(t, tc.want, got)
			if tc.err == "" {
				require.NoError(t, err)
				assert.NotContains(t, fmt.Sprintf("%+v %#v %s", got, got, got), "canary")
				return
			}
			require.ErrorContains(t, err, tc.err)
			require.ErrorContains(t, err, path)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
	_, err := CredentialsFromFile(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzCredentials(f *testing.F) {
	f.Add(serviceAccountJSON)
	f.Add("Access key ID,Secret access key\nAKIA1,secret")
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func([]byte) (Credentials, error){serviceAccount, accessKey} {
			if c, err := read([]byte(text)); err == nil {
				assert.NotEmpty(t, c)
			}
		}
	})
}
