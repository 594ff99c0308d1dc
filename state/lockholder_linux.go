package state

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockHolder returns the process that has a lock on a file, 0 where that is not known. It does not
// open the file: to close it again would release a lock that this process has.
func lockHolder(file string) int {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	dev := uint64(of.Dev) //nolint:unconvert // It is smaller on some architectures.
	major, minor := dev>>8&0xfff|dev>>32&^0xfff, dev&0xff|dev>>12&^0xff
	place := fmt.Sprintf("%02x:%02x:%d", major, minor, of.Ino)
	for line := range strings.Lines(string(locks)) {
		// 1: POSIX  ADVISORY  WRITE 4711 08:01:123456 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[2] == "->" || fields[5] != place {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}
