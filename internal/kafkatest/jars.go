package kafkatest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Version is the version of Apache Kafka that is started.
const Version = "4.3.1"

// CacheEnv names the environment variable with the directory in which the jars are
// kept; without it that is the user's cache directory.
const CacheEnv = "TAILRACE_CACHE"

//go:embed pom.xml
var pom []byte

//go:embed log4j2.properties
var logging []byte

// jars returns the directory of the broker's jars, which are fetched once: by Maven,
// which knows where they are to be had.
func jars(ctx context.Context) (string, error) {
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%w: %s is not installed; tests against Kafka need Java 17 and Maven "+
				"(Debian's packages openjdk-17-jre-headless and maven)", ErrStart, program)
		}
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, Version)
	if complete(dir) {
		return dir, nil
	}
	// Several processes (go test starts many) may want the jars at once: one fetches them,
	// the others wait and find them. The rename makes them appear whole.
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		return "", fmt.Errorf("kafkatest: lock the cache: %w", err)
	}
	defer unlock()
	if complete(dir) {
		return dir, nil
	}
	part, err := os.MkdirTemp(cache, Version+".part-")
	if err != nil {
		return "", fmt.Errorf("kafkatest: make room in the cache: %w", err)
	}
	defer func() { _ = os.RemoveAll(part) }()
	if err := fetch(ctx, part); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		return "", fmt.Errorf("kafkatest: put the jars into the cache: %w", err)
	}
	return dir, nil
}

func fetch(ctx context.Context, dir string) error {
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o644),
		os.WriteFile(filepath.Join(dir, "log4j2.properties"), logging, 0o644))
	if err != nil {
		return fmt.Errorf("kafkatest: write into the cache: %w", err)
	}
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B",
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "libs"))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: Maven cannot fetch Kafka %s: %w; connect to the network once, or copy the "+
			"cache of a machine that has it and name it in %s\n%s", ErrStart, Version, err, CacheEnv, out)
	}
	return nil
}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "libs"))
	return err == nil
}

func cacheDir() (string, error) {
	dir := os.Getenv(CacheEnv)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("kafkatest: no cache directory, name one in %s: %w", CacheEnv, err)
		}
		dir = filepath.Join(user, "tailrace")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "kafka"))
	if err != nil {
		return "", fmt.Errorf("kafkatest: %s: %w", CacheEnv, err)
	}
	return dir, os.MkdirAll(dir, 0o755)
}
