package pgserver

import (
	"fmt"
	"io"
	"os"
	"os/exec"
)

// reaper is a small process that outlives ours, for one purpose: to remove the
// server's temporary directory when we were killed and could not.
type reaper struct {
	cmd  *exec.Cmd
	hold io.Closer // its end, by us or by the kernel, lets the reaper work
}

// The script waits until its input ends, ends a server that is left (there should be
// none: see processAttributes), and removes the directory.
const reaperScript = `cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
	kill -QUIT "$pid" 2>/dev/null
	for i in 1 2 3 4 5 6 7 8 9 10; do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.5
	done
	kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
`

// startReaper does nothing where there is no shell.
func startReaper(dir string) (*reaper, error) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // A system without a shell has no reaper, and works.
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pgserver: start the reaper: %w", err)
	}
	cmd := exec.Command(shell, "-c", reaperScript, "reaper", dir)
	cmd.Stdin = reader
	cmd.SysProcAttr = reaperAttributes()
	err = cmd.Start()
	_ = reader.Close()
	if err != nil {
		_ = writer.Close()
		return nil, fmt.Errorf("pgserver: start the reaper: %w", err)
	}
	return &reaper{cmd: cmd, hold: writer}, nil
}

// release lets the reaper go and waits for it.
func (r *reaper) release() {
	if r == nil {
		return
	}
	_ = r.hold.Close()
	_ = r.cmd.Wait()
}
