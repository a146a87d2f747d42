package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	ricloud "github.com/reincubate/ricloud-go"
)

// readAccounts reads a CSV file as people write it: with or without a byte
// order mark and a header row, separated by commas, semicolons or tabs, perhaps
// with duplicate rows. It returns passwords by identifier. A comma in a password
// must not cut it short, so there are more columns than two only where a header
// names them, or between tabs.
func readAccounts(name string) (map[string]ricloud.Secret, error) {
	f, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("the live API needs -file: %w", err)
	}
	defer func() { _ = f.Close() }()
	accounts, err := parseAccounts(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return accounts, nil
}

func parseAccounts(r io.Reader) (map[string]ricloud.Secret, error) {
	text := bufio.NewReader(r)
	if mark, err := text.Peek(3); err == nil && bytes.Equal(mark, []byte("\ufeff")) {
		_, _ = text.Discard(3)
	}
	rows := csv.NewReader(text)
	rows.FieldsPerRecord, rows.LazyQuotes, rows.Comma = -1, true, separator(text)
	columns, accounts := 2, map[string]ricloud.Secret{}
	for first := true; ; first = false {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return accounts, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := rows.FieldPos(0)
		identifier := strings.ToLower(strings.TrimSpace(row[0]))
		switch {
		case first && isHeader(identifier):
			columns = max(columns, len(row))
			continue
		case len(row) > columns && rows.Comma != '\t':
			return nil, fmt.Errorf("line %d has %d fields: put a password with %q in it in quotation marks",
				line, len(row), rows.Comma)
		case identifier == "" || len(row) < 2 || row[1] == "":
			return nil, fmt.Errorf("line %d: want an identifier and a password", line)
		}
		password := ricloud.NewSecret(row[1])
		if known, ok := accounts[identifier]; ok && known.Reveal() != password.Reveal() {
			return nil, fmt.Errorf("line %d: %s occurs before with another password", line, identifier)
		}
		accounts[identifier] = password
	}
}

// separator returns the comma, semicolon or tab that comes first in the first line.
func separator(text *bufio.Reader) rune {
	head, _ := text.Peek(text.Size())
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if i := bytes.IndexAny(line, ",;\t"); i >= 0 {
		return rune(line[i])
	}
	return ','
}

// isHeader reports whether a first cell names a column: an identifier is an
// address or a telephone number.
func isHeader(cell string) bool {
	return !strings.ContainsFunc(cell, func(r rune) bool { return r == '@' || unicode.IsDigit(r) })
}
