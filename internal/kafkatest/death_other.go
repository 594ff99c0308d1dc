//go:build !linux

package kafkatest

import "syscall"

// ownGroup does nothing: here a broker outlives a test that is killed.
func ownGroup() *syscall.SysProcAttr { return nil }
