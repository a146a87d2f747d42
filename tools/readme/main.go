// Readme checks README.md. It compiles the Go code in a module of its own, as a
// reader would, and runs the shell commands.
//
//	readme [file]    run from the repository's root
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	file := "README.md"
	if len(os.Args) > 1 {
		file = os.Args[1]
	}
	if err := check(context.Background(), file); err != nil {
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
}

// check compiles the file's Go blocks and runs the lines of its sh blocks.
func check(ctx context.Context, file string) error {
	text, err := os.ReadFile(file) //nolint:gosec // a developer names the file
	if err != nil {
		return err
	}
	blocks := parseBlocks(string(text))
	modules, err := workspace(ctx)
	if err != nil {
		return err
	}
	return errors.Join(compile(ctx, file, blocks, modules), runAll(ctx, file, blocks, modules))
}

// module is one module of the workspace.
type module struct{ path, dir string }

// workspace lists the modules that go.work names.
func workspace(ctx context.Context) ([]module, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("list the workspace's modules: %w", err)
	}
	var modules []module
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		modules = append(modules, module{path, dir})
	}
	return modules, nil
}

// compile builds every Go block in a module that requires the SDK as a user's
// does. This working tree replaces the published version.
func compile(ctx context.Context, file string, blocks []block, modules []module) error {
	dir, err := os.MkdirTemp("", "readme")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	var mod strings.Builder
	mod.WriteString("module readme\n\ngo 1.26.0\n")
	for _, m := range modules {
		fmt.Fprintf(&mod, "require %s v0.0.0\nreplace %s => %s\n", m.path, m.path, m.dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod.String()), 0o600); err != nil {
		return err
	}
	programs, err := goPrograms(file, blocks)
	if err != nil {
		return err
	}
	for i, program := range programs {
		name := filepath.Join(dir, fmt.Sprintf("block%d", i), "main.go")
		if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := writeProgram(name, program); err != nil {
			return err
		}
	}
	fmt.Printf("%s: %d Go program(s) to compile\n", file, len(programs))
	if len(programs) == 0 {
		return nil
	}
	for _, args := range [][]string{{"mod", "tidy", "-e"}, {"build", "-o", os.DevNull, "./..."}} {
		cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments are the table above
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// runAll runs every line of the sh blocks in the current directory. It skips go
// get lines, because compile has already used this tree's code.
func runAll(ctx context.Context, file string, blocks []block, modules []module) error {
	var errs []error
	for _, b := range blocks {
		if b.lang != "sh" {
			continue
		}
		for line := range strings.Lines(b.text) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := runLine(ctx, line, modules); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %s: %w", file, b.line, line, err))
			}
		}
	}
	return errors.Join(errs...)
}

func runLine(ctx context.Context, line string, modules []module) error {
	fmt.Println("$", line)
	if path, ok := strings.CutPrefix(line, "go get "); ok {
		for _, m := range modules {
			if path == m.path {
				return nil
			}
		}
		return errors.New("not a module of this workspace")
	}
	//nolint:gosec // running the README's commands is the purpose
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
