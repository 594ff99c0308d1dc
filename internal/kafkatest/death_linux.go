package kafkatest

import "syscall"

// ownGroup keeps signals of the terminal from the broker, which dies with us.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
