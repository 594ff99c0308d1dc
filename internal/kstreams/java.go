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

	"github.com/tailrace/tailrace/internal/fetched"
)

// ErrJava says that the Java program can't be built or started: Java 17 or later, or
// Maven, is missing, or Maven can't get the libraries.
var ErrJava = errors.New("kstreams: no Java")

const remedy = "`make java` installs Java and Maven where it can"

//go:embed java/pom.xml java/src
var program embed.FS

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
	cache, err := fetched.Dir("kstreams")
	if err != nil {
		return "", err
	}
	version, err := programVersion()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, version)
	return dir, fetched.Once(dir, "lib", func(part string) (string, error) {
		source, err := fs.Sub(program, "java")
		if err != nil {
			return "", err
		}
		if err := os.CopyFS(part, source); err != nil {
			return "", fmt.Errorf("kstreams: write the program into the cache: %w", err)
		}
		return filepath.Join(part, "target"), compile(ctx, part)
	})
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
			ErrJava, remedy, fetched.Env, err, out)
	}
	return nil
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
