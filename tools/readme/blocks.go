package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"

	"golang.org/x/tools/imports"
)

// block is one fenced block of a Markdown file.
type block struct {
	lang string
	line int // of its first line
	text string
}

// parseBlocks returns the fenced blocks of text in order. A comment that opens
// with "<!--go" is a Go block that readers do not see. It declares what the
// fragments below it use.
func parseBlocks(text string) []block {
	var (
		blocks []block
		open   *block
		end    string
	)
	number := 0
	for line := range strings.Lines(text) {
		number++
		trimmed := strings.TrimSpace(line)
		switch {
		case open != nil && trimmed == end:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line
		case strings.HasPrefix(trimmed, "```"):
			open, end = &block{lang: strings.TrimPrefix(trimmed, "```"), line: number + 1}, "```"
		case trimmed == "<!--go":
			open, end = &block{lang: "go", line: number + 1}, "-->"
		}
	}
	return blocks
}

// goPrograms turns the Go blocks into whole files. A block that starts with a
// package clause is a whole file already. The others are fragments of one function.
// Each has a scope within that of the fragment before it, so it sees the names
// above it, as its reader does, and may declare the same name again.
func goPrograms(file string, blocks []block) ([]string, error) {
	var (
		programs  []string
		fragments strings.Builder
		depth     int
	)
	for _, b := range blocks {
		if b.lang != "go" {
			continue
		}
		source := fmt.Sprintf("//line %s:%d\n%s", file, b.line, b.text)
		if strings.HasPrefix(strings.TrimSpace(b.text), "package ") {
			programs = append(programs, source)
			continue
		}
		names, err := declared(source)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&fragments, "{\n%s\n", source)
		for _, name := range names {
			fmt.Fprintf(&fragments, "_ = %s\n", name)
		}
		depth++
	}
	if depth > 0 {
		programs = append(programs, "package main\n\nfunc main() { _ = fragments }\n\n"+
			"func fragments(ctx context.Context, client *ricloud.Client) error {\n"+
			fragments.String()+strings.Repeat("}", depth)+"\nreturn nil\n}\n")
	}
	return programs, nil
}

// declared lists the variables that a fragment declares. It is no error if the
// fragment does not use one: it is for the reader's next line.
func declared(fragment string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p; func _() {\n"+fragment+"\n}",
		parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	//nolint:forcetypeassert // the source above declares a function
	body := file.Decls[0].(*ast.FuncDecl).Body
	var names []string
	add := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok && id.Name != "_" {
			names = append(names, id.Name)
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, left := range n.Lhs {
					add(left)
				}
			}
			return false
		case *ast.ValueSpec:
			for _, id := range n.Names {
				add(id)
			}
			return false
		case *ast.DeclStmt, *ast.GenDecl:
			return true
		default: // what an inner statement declares, it must use
			return n == body
		}
	})
	return names, nil
}

// writeProgram adds the imports that source lacks and writes it to name.
func writeProgram(name, source string) error {
	options := &imports.Options{AllErrors: true, Comments: true, TabIndent: true, TabWidth: 8}
	whole, err := imports.Process(name, []byte(source), options)
	if err != nil {
		return fmt.Errorf("imports: %w", err)
	}
	return os.WriteFile(name, whole, 0o600)
}
