package dedupesql

import (
	"strconv"
	"strings"
)

// A Dialect is the SQL that a database understands.
type Dialect int

// The dialects.
const (
	PostgreSQL Dialect = iota + 1
	SQLite             // 3.24 or later
	MySQL              // and MariaDB
)

// String returns the dialect's name.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case SQLite:
		return "SQLite"
	case MySQL:
		return "MySQL"
	}
	return "Dialect(" + strconv.Itoa(int(d)) + ")"
}

// now returns the expression for the database's clock in Unix milliseconds.
// Leases use it, so that the clocks of the processes do not matter.
func (d Dialect) now() string {
	switch d {
	case PostgreSQL:
		return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
	case SQLite:
		return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
	default:
		return "UNIX_TIMESTAMP() * 1000"
	}
}

// migrations returns, for each version of the schema, the statements that make it
// from the version before.
func (d Dialect) migrations() [][]string {
	key, bigint := "VARCHAR(255)", "BIGINT"
	if d == MySQL {
		key = "VARBINARY(255)" // compared byte by byte, whatever the collation
	}
	events := `CREATE TABLE IF NOT EXISTS {events} (
		id          ` + key + ` PRIMARY KEY,
		owner       VARCHAR(64) NOT NULL,
		done        BOOLEAN NOT NULL,
		lease_until ` + bigint + ` NOT NULL, -- Unix milliseconds
		done_at     ` + bigint + ` NOT NULL  -- Unix milliseconds, or 0
	)`
	position := `CREATE TABLE IF NOT EXISTS {cursor} (
		name     VARCHAR(64) PRIMARY KEY,
		position ` + bigint + ` NOT NULL -- Unix microseconds
	)`
	index := `CREATE INDEX IF NOT EXISTS {events}_done_at ON {events} (done_at)`
	if d == MySQL { // it has no CREATE INDEX IF NOT EXISTS
		events = strings.Replace(events, "or 0\n", "or 0\n\t\t, INDEX (done_at)\n", 1)
		return [][]string{{events, position}}
	}
	return [][]string{{events, index, position}}
}

// insertIgnore returns an INSERT that changes nothing if the key exists.
func (d Dialect) insertIgnore(into string) string {
	if d == MySQL {
		return "INSERT IGNORE INTO " + into
	}
	return "INSERT INTO " + into + " ON CONFLICT DO NOTHING"
}

// rebind replaces each "?" by the dialect's own placeholder.
func (d Dialect) rebind(statement string) string {
	if d != PostgreSQL {
		return statement
	}
	var b strings.Builder
	n := 0
	for _, r := range statement {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}
