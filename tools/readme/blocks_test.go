package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseBlocks(t *testing.T) {
	t.Parallel()
	text := "# Title\n\n```sh\ngo test work\n```\n<!--go\nvar dir string\n-->\n```go\nx := " +
		"1\n```\n```\nplain\n```\n"
	want := []block{
		{"sh", 4, "go test work\n"},
		{"go", 7, "var dir string\n"},
		{"go", 10, "x := 1\n"},
		{"", 13, "plain\n"},
	}
	if got := parseBlocks(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestGoProgramsNestFragments(t *testing.T) {
	t.Parallel()
	blocks := parseBlocks("```go\npackage main\n```\n```go\nx, err := f()\n```\n```go\nx, err := " +
		"g(x)\n```\n")
	got, err := goPrograms("README.md", blocks)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("got %d programs, want the whole one and the fragments: %q", len(got), got)
	}
	if want := "//line README.md:2\npackage main\n"; got[0] != want {
		t.Errorf("whole program: got %q, want %q", got[0], want)
	}
	want := "{\n//line README.md:5\nx, err := f()\n\n_ = x\n_ = err\n{\n//line README.md:8\nx, err " +
		":= g(x)\n\n_ = x\n_ = err\n}}"
	if !strings.Contains(got[1], want) {
		t.Errorf("fragments: got %q, want it to hold %q", got[1], want)
	}
}

func TestGoProgramsNamesABrokenFragment(t *testing.T) {
	t.Parallel()
	_, err := goPrograms("README.md", parseBlocks("\n```go\nx := (\n```\n"))
	if err == nil || !strings.Contains(err.Error(), "README.md:") {
		t.Errorf("got %v, want an error that points into README.md", err)
	}
}
