package kstreams

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// ErrJava says that the Java program can't be built or started: Java 17 or later, or
// Maven, is missing, or Maven can't get the libraries.
var ErrJava = errors.New("kstreams: no Java")

const remedy = "`make java` installs Java and Maven where it can"

//go:embed java/pom.xml java/src
var program embed.FS

// cacheEnv names the directory of what is fetched and built, as for package pgserver.
const cacheEnv = "TAILRACE_CACHE"

// command finds a program of Java's or Maven's.
func command(name, homeEnv string) (string, error) {
	if home := os.Getenv(homeEnv); home != "" {
		if path, err := exec.LookPath(filepath.Join(home, "bin", name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w; %s", ErrJava, err, remedy)
	}
	return path, nil
}

// build compiles the program, once for each version of it, and returns the directory
// with its classes and libraries.
func build(ctx context.Context) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	version, err := programVersion()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, version)
	if complete(dir) {
		return dir, nil
	}
	// Packages are tested in several processes: one builds, the others find what it
	// built, which the rename makes appear whole.
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		return "", fmt.Errorf("kstreams: lock the cache: %w", err)
	}
	defer unlock()
	if complete(dir) {
		return dir, nil
	}
	part, err := os.MkdirTemp(cache, version+".part-")
	if err != nil {
		return "", fmt.Errorf("kstreams: make room in the cache: %w", err)
	}
	defer func() { _ = os.RemoveAll(part) }()
	source, err := fs.Sub(program, "java")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(part, source); err != nil {
		return "", fmt.Errorf("kstreams: write the program into the cache: %w", err)
	}
	if err := compile(ctx, part); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(part, "target"), dir); err != nil {
		return "", fmt.Errorf("kstreams: put the program into the cache: %w", err)
	}
	return dir, nil
}

func compile(ctx context.Context, dir string) error {
	maven, err := command("mvn", "MAVEN_HOME")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, maven, "-B", "-q", "compile", "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory=target/lib")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: Maven can't build the program (it needs a JDK of 17 or later and, once, "+
			"the network; %s; a cache that is named in %s can be copied from another machine): %w\n%s",
			ErrJava, remedy, cacheEnv, err, out)
	}
	return nil
}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "lib"))
	return err == nil
}

// programVersion is a hash of the sources.
func programVersion() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(program, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := program.ReadFile(path)
		if err == nil {
			_, err = fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

func cacheDir() (string, error) {
	dir := os.Getenv(cacheEnv)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("kstreams: no cache directory, name one in %s: %w", cacheEnv, err)
		}
		dir = filepath.Join(user, "tailrace")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "kstreams"))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("kstreams: make the cache: %w", err)
	}
	return dir, nil
}
