//go:build !linux

package pgserver

import (
	"os"
	"syscall"
)

// The postmaster's shutdown signals.
const (
	fastShutdown      = syscall.SIGINT
	immediateShutdown = syscall.SIGQUIT
)

// credential stands for a user to run as; elsewhere than on Linux there is only our own.
type credential struct{}

func runAs() *credential { return nil }

// processAttributes: there is no death signal here; the reaper does that work, where
// there is a shell.
func processAttributes() *syscall.SysProcAttr { return nil }

func reaperAttributes() *syscall.SysProcAttr { return nil }

func giveAway(string) error { return nil }

func checkReach(string) error { return nil }

// killFamily leaves the children to notice the postmaster's death.
func killFamily(postmaster *os.Process) { _ = postmaster.Kill() }
