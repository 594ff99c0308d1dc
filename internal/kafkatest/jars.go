package kafkatest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tailrace/tailrace/internal/fetched"
)

// Version is the version of Apache Kafka that is started.
const Version = "4.3.1"

//go:embed pom.xml
var pom []byte

//go:embed log4j2.properties
var logging []byte

// jars returns the directory of the broker's jars, which are fetched once: by Maven,
// which knows where they are to be had.
func jars(ctx context.Context) (string, error) {
	if err := installed("java"); err != nil {
		return "", err
	}
	cache, err := fetched.Dir("kafka")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, Version+"-with-tools")
	return dir, fetched.Once(dir, "libs", func(part string) (string, error) { return part, fetch(ctx, part) })
}

// installed returns an error if a program is not there.
func installed(program string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%w: %s is not installed; tests against Kafka need Java 17 and, once, Maven; "+
			"`make java` installs them where it can", ErrStart, program)
	}
	return nil
}

func fetch(ctx context.Context, dir string) error {
	if err := installed("mvn"); err != nil {
		return err
	}
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
			"cache of a machine that has it and name it in %s\n%s", ErrStart, Version, err, fetched.Env, out)
	}
	return nil
}
