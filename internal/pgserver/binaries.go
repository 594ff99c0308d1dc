package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/tailrace/tailrace/internal/fetched"
)

// DefaultVersion is the version of an empty Config.Version.
const DefaultVersion = "18.1.0"

// CacheEnv names the environment variable with the directory in which binaries are
// kept. Without it that is the user's cache directory, or for root, whose home
// PostgreSQL's user usually can't enter, /var/cache.
const CacheEnv = fetched.Env

var versions = []string{"14.20.0", "15.15.0", "16.9.0", "17.7.0", "18.1.0"}

// Versions are the versions that can be started, oldest first, one a major version.
func Versions() []string { return slices.Clone(versions) }

// ResolveVersion gives the full version for a full version, a major version, or
// nothing. The error is ErrVersion.
func ResolveVersion(version string) (string, error) {
	if version == "" {
		return DefaultVersion, nil
	}
	for _, v := range versions {
		if major, _, _ := strings.Cut(v, "."); version == v || version == major {
			return v, nil
		}
	}
	return "", fmt.Errorf("%w %q: choose one of %s, or a major version of them",
		ErrVersion, version, strings.Join(versions, ", "))
}

// Fetch puts the binaries of a version into the cache, if they aren't there, and
// returns the directory that has bin, lib and share. Start does this by itself.
// Errors are ErrVersion, ErrFetch and ErrUnreachable.
func Fetch(ctx context.Context, version string, logger *slog.Logger) (string, error) {
	full, err := ResolveVersion(version)
	if err != nil {
		return "", err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return binaries(ctx, full, logger)
}

func binaries(ctx context.Context, version string, logger *slog.Logger) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, version)
	return dir, fetched.Once(dir, mark, func(part string) (string, error) {
		logger.Info("fetching PostgreSQL, once for this version", "version", version, "cache", cache)
		return filepath.Join(part, "unpacked"), fetch(ctx, version, part)
	})
}

// mark is a file that says that a version's binaries are there.
var mark = filepath.Join("bin", "postgres")

// fetch has the library download, check and unpack the binaries into temporary's
// folder "unpacked". The library can only do that on its way to a running server, and
// we want none from it: it starts servers under fixed ports, without a death signal,
// and not as root. So it is given a locale that initdb refuses; what counts is
// whether the binaries are there afterwards.
func fetch(ctx context.Context, version, temporary string) error {
	unpacked := filepath.Join(temporary, "unpacked")
	library := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.PostgresVersion(version)).
		Port(0).
		CachePath(filepath.Join(temporary, "archive")).
		RuntimePath(filepath.Join(temporary, "runtime")).
		BinariesPath(unpacked).
		Locale("tailrace-wants-the-binaries-only").
		Logger(nil))
	done := make(chan error, 1)
	go func() {
		err := library.Start()
		// The library uses the default client; its connections would linger for minutes.
		http.DefaultClient.CloseIdleConnections()
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return fmt.Errorf("%w of %s: %w", ErrFetch, version, context.Cause(ctx))
	}
	if err == nil {
		return errors.Join(
			fmt.Errorf("%w of %s: the library started a server unasked", ErrFetch, version), library.Stop())
	}
	if _, statErr := os.Stat(filepath.Join(unpacked, mark)); statErr != nil {
		return fmt.Errorf("%w of %s: %w; they come from the public Maven repository: connect to the "+
			"network once, or copy the cache of a machine that has them and name it in %s",
			ErrFetch, version, err, CacheEnv)
	}
	return openUp(unpacked)
}

// openUp lets everybody read what was unpacked, whatever the umask: the server may
// run as another user than the one who fetched it.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if info.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// cacheDir finds, and makes, the directory of the binaries.
func cacheDir() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("pgserver: %s: %w", CacheEnv, err)
		}
		return makeCache(dir)
	}
	user, err := os.UserCacheDir()
	if err == nil {
		user, err = makeCache(filepath.Join(user, "tailrace"))
	}
	if err == nil {
		return user, nil
	}
	if runAs() == nil {
		return "", fmt.Errorf("pgserver: no cache directory, name one in %s: %w", CacheEnv, err)
	}
	return makeCache(filepath.FromSlash("/var/cache/tailrace"))
}

func makeCache(dir string) (string, error) {
	dir = filepath.Join(dir, "postgres")
	// Looked at before it is made, so that a cache that can't be used isn't left behind.
	if err := checkReach(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("pgserver: make the binaries' cache: %w", err)
	}
	return dir, checkReach(dir)
}
