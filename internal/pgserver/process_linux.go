package pgserver

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The postmaster's shutdown signals.
const (
	fastShutdown      = syscall.SIGINT
	immediateShutdown = syscall.SIGQUIT
)

// serverUser is "nobody": PostgreSQL refuses to run as root.
const serverUser = 65534

// runAs is the user under whom the server's programs run, or nil for our own.
func runAs() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: serverUser, Gid: serverUser}
}

// processAttributes: own user if we are root, own process group so that a terminal's
// Ctrl-C doesn't stop the database under the program that is using it, and an
// immediate shutdown when we die.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: runAs(), Setpgid: true, Pdeathsig: immediateShutdown}
}

func reaperAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// giveAway makes the server's user the owner of a path.
func giveAway(path string) error {
	user := runAs()
	if user == nil {
		return nil
	}
	if err := os.Chown(path, int(user.Uid), int(user.Gid)); err != nil {
		return fmt.Errorf("pgserver: give %s to the server's user: %w", path, err)
	}
	return nil
}

// checkReach says whether the server's user can enter dir, as far as it exists.
func checkReach(dir string) error {
	user := runAs()
	if user == nil {
		return nil
	}
	return checkReachOf(dir, user)
}

func checkReachOf(dir string, user *syscall.Credential) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("pgserver: %w", err)
		}
		if err == nil && !mayEnter(info, user) {
			return fmt.Errorf("%w: PostgreSQL can't run as root, and user %d can't enter %s (mode %v): "+
				"name another place (%s for the binaries, TMPDIR for data) or run as an ordinary user",
				ErrUnreachable, user.Uid, dir, info.Mode(), CacheEnv)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func mayEnter(info fs.FileInfo, user *syscall.Credential) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case ok && stat.Uid == user.Uid:
		return mode&0o100 != 0
	case ok && stat.Gid == user.Gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// killFamily kills the postmaster and its children. It is stopped first: otherwise it
// could have a child between our look at its children and its end, and a busy child
// goes on for a while without a postmaster.
func killFamily(postmaster *os.Process) {
	_ = postmaster.Signal(syscall.SIGSTOP)
	family := children(postmaster.Pid)
	_ = postmaster.Kill()
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func children(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // It has ended.
		}
		// "pid (name) state ppid ...", and the name may contain anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}
