// Package fetched keeps on disk what is fetched or built once, and used by many runs of
// tests, examples and benchmarks: server binaries, jars.
package fetched

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Env names the environment variable with the directory under which everything that is
// fetched is kept. Without it that is "tailrace" in the user's cache directory.
const Env = "TAILRACE_CACHE"

// Dir makes and returns the directory of one kind of things.
func Dir(kind string) (string, error) {
	base := os.Getenv(Env)
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("fetched: no cache directory, name one in %s: %w", Env, err)
		}
		base = filepath.Join(user, "tailrace")
	}
	dir, err := filepath.Abs(filepath.Join(base, kind))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("fetched: make the cache: %w", err)
	}
	return dir, nil
}

// Once makes dir, unless it is there with the file or directory called mark in it: get
// is given an empty directory beside it to work in, and returns which directory of that
// is to become dir.
//
// Several processes (go test starts many) may want the same at once: one gets it, the
// others wait and find it. The rename makes it appear whole.
func Once(dir, mark string, get func(part string) (whole string, err error)) error {
	complete := func() bool {
		_, err := os.Stat(filepath.Join(dir, mark))
		return err == nil
	}
	if complete() {
		return nil
	}
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		return fmt.Errorf("fetched: lock the cache: %w", err)
	}
	defer unlock()
	if complete() {
		return nil
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".part-")
	if err != nil {
		return fmt.Errorf("fetched: make room in the cache: %w", err)
	}
	defer func() { _ = os.RemoveAll(part) }()
	whole, err := get(part)
	if err != nil {
		return err
	}
	if err := os.Rename(whole, dir); err != nil {
		return fmt.Errorf("fetched: put it into the cache: %w", err)
	}
	return nil
}
