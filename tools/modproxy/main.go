// Modproxy writes the modules of this workspace into an existing folder, in the
// layout of a Go module proxy. GOPROXY=file://FOLDER then serves the working tree
// as if it had been released.
//
//	modproxy VERSION FOLDER    run from the repository's root
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: modproxy VERSION FOLDER")
		os.Exit(2)
	}
	if err := write(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "modproxy:", err)
		os.Exit(1)
	}
}

// write adds version of every module of the workspace to folder.
func write(ctx context.Context, version, folder string) error {
	out, err := command(ctx, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}")
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	files, err := trackedFiles(ctx)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		sub, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		m := module.Version{Path: name, Version: version}
		if err := writeModule(folder, m, root, moduleFiles(files, filepath.ToSlash(sub))); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(m)
	}
	return nil
}

// trackedFiles lists the files of the repository that git does not ignore, also
// those that are not yet committed.
func trackedFiles(ctx context.Context) ([]string, error) {
	out, err := command(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	var files []string
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if _, err := os.Stat(name); err == nil { // a file that git knows may have been deleted
			files = append(files, name)
		}
	}
	return files, nil
}

// moduleFiles selects from files those of the module in folder sub ("." for
// the root), without those of the modules below it. A module without a licence
// of its own gets the root's, as with the go command.
func moduleFiles(files []string, sub string) []file {
	nested := map[string]bool{}
	licensed := false
	for _, name := range files {
		if path.Base(name) == "go.mod" && path.Dir(name) != sub {
			nested[path.Dir(name)] = true
		}
		licensed = licensed || name == path.Join(sub, "LICENSE")
	}
	var selected []file
	for _, name := range files {
		inside := name
		if sub != "." {
			rest, ok := strings.CutPrefix(name, sub+"/")
			if !ok {
				continue
			}
			inside = rest
		}
		if !belowAny(nested, path.Dir(name), sub) {
			selected = append(selected, file{inside, name})
		}
	}
	if !licensed {
		selected = append(selected, file{"LICENSE", "LICENSE"})
	}
	return selected
}

// belowAny reports whether dir is one of folders or below one, looking no
// higher than the folder top.
func belowAny(folders map[string]bool, dir, top string) bool {
	for ; dir != top && dir != "."; dir = path.Dir(dir) {
		if folders[dir] {
			return true
		}
	}
	return false
}

// writeModule writes the four files by which a proxy serves one version.
func writeModule(folder string, m module.Version, root string, files []file) error {
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	proxy, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = proxy.Close() }()
	dir := path.Join(escaped, "@v")
	if err := proxy.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	var contents []zip.File
	for _, f := range files {
		f.source = filepath.Join(root, filepath.FromSlash(f.source))
		contents = append(contents, f)
		if f.path != "go.mod" {
			continue
		}
		mod, err := os.ReadFile(f.source)
		if err != nil {
			return err
		}
		if err := proxy.WriteFile(path.Join(dir, m.Version+".mod"), mod, 0o600); err != nil {
			return err
		}
	}
	info := fmt.Appendf(nil, "{\"Version\":%q,\"Time\":\"2026-01-01T00:00:00Z\"}\n", m.Version)
	if err := proxy.WriteFile(path.Join(dir, m.Version+".info"), info, 0o600); err != nil {
		return err
	}
	if err := proxy.WriteFile(path.Join(dir, "list"), []byte(m.Version+"\n"), 0o600); err != nil {
		return err
	}
	archive, err := proxy.Create(path.Join(dir, m.Version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(zip.Create(archive, m, contents), archive.Close())
}

// file is one file of a module: its path in the module and in the tree.
type file struct{ path, source string }

func (f file) Path() string                 { return f.path }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.source) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.source) }

// command runs a program and returns what it prints.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the callers above name the program
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}
