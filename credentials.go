package ricloud

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxCredentials bounds a credentials file: real ones have a few kilobytes.
const maxCredentials = 1 << 20

// CredentialsFromFile reads the credentials of a storage config from the file
// that a cloud hands out: the JSON of a Google service account, or the CSV of an
// access key from the AWS IAM console. Its error names the field that is missing,
// and no value. For a profile of the AWS SDK, see Credentials in the module
// storage/s3.
func CredentialsFromFile(path string) (Credentials, error) {
	raw, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\ufeff")))
	if bytes.HasPrefix(text, []byte("{")) {
		c, err := serviceAccount(text)
		return c, inFile(path, err)
	}
	c, err := accessKey(text)
	return c, inFile(path, err)
}

// CredentialsFromKey returns an AWS access key as the credentials of a storage
// config.
func CredentialsFromKey(id string, secret Secret) (Credentials, error) {
	if err := required("access_key_id", id, "secret_access_key", secret.Reveal()); err != nil {
		return nil, err
	}
	if err := checkSecret("secret_access_key", secret); err != nil {
		return nil, err
	}
	return Credentials{"access_key_id": NewSecret(id), "secret_access_key": secret}, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, fmt.Errorf("ricloud: credentials: %w", err)
	}
	defer func() { _ = f.Close() }()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, maxCredentials+1)); err != nil {
		return nil, fmt.Errorf("ricloud: credentials: %w", err)
	}
	if b.Len() > maxCredentials {
		return nil, inFile(path, errors.New("is too large to be a credentials file"))
	}
	return b.Bytes(), nil
}

// inFile says which file err is about. What parsers say is left out where it
// may quote the file.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ricloud: credentials: %s: %s", path, strings.TrimPrefix(err.Error(),
		"ricloud: "))
}

// serviceAccount reads the key file of a Google service account.
func serviceAccount(text []byte) (Credentials, error) {
	var fields map[string]any
	if json.Unmarshal(text, &fields) != nil {
		return nil, errors.New("begins like JSON but cannot be parsed")
	}
	c := Credentials{}
	for name, value := range fields {
		if s, ok := value.(string); ok {
			c[name] = NewSecret(s)
		}
	}
	if kind := fields["type"]; kind != "service_account" {
		return nil, errors.New("is not the key of a service account: its type is not service_account")
	}
	err := required("client_email", c["client_email"].Reveal(), "private_key",
		c["private_key"].Reveal(),
		"private_key_id", c["private_key_id"].Reveal(), "project_id", c["project_id"].Reveal(),
		"token_uri", c["token_uri"].Reveal())
	if err != nil {
		return nil, err
	}
	return c, nil
}

// accessKey reads the CSV of the IAM console: a row of titles, a row of values.
func accessKey(text []byte) (Credentials, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.LazyQuotes, r.FieldsPerRecord = true, -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 2 {
		return nil, errors.New("is neither a service account's JSON nor an access key's CSV")
	}
	if len(rows) > 2 {
		return nil, errors.New("holds more than one access key")
	}
	fields := map[string]string{}
	for i, title := range rows[0] {
		if i < len(rows[1]) {
			fields[strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), " ",
				"_")] = strings.TrimSpace(rows[1][i])
		}
	}
	return CredentialsFromKey(fields["access_key_id"], NewSecret(fields["secret_access_key"]))
}
