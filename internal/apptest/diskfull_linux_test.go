package apptest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// disk is a file system in memory whose size can be changed.
type disk struct {
	t    *testing.T
	path string
}

func newDisk(t *testing.T, size string) disk {
	t.Helper()
	d := disk{t, t.TempDir()}
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, "size="+size); errors.Is(err, syscall.EPERM) {
		t.Skip("no file system can be mounted: internal/engine has this test with one that stands for it")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.path, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d disk) resize(size string) {
	d.t.Helper()
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_REMOUNT, "size="+size); err != nil {
		d.t.Fatal(err)
	}
}

// TestDiskFull runs an app whose state and whose events are on file systems that become too
// small, while it commits, while a transaction that is larger than its memory spills, and
// while it writes events: it says where room is needed. A full state directory stops it, a
// full target is waited for. With room nothing is lost and nothing there twice.
func TestDiskFull(t *testing.T) {
	const small, large = "200m", "600m" // of which 256 MiB have to be free
	states, events := newDisk(t, large), newDisk(t, "512k")
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	path := filepath.Join(events.path, "events")
	cfg := tailrace.Config{App: "full", StateDir: filepath.Join(states.path, "state"), Memory: 256 << 10,
		IdleCommit: 20 * time.Millisecond}
	var s sum
	begin := func() started {
		b := topology.New("sum")
		shop := pgSource("shop", db)
		sinks.Stream(sources.Stream[int64, item](b, shop, "public.items", sources.As[item]("added")),
			sinks.NewTarget("log", file.Target(file.Config{Path: path})), "added")
		s.view = addSum(b, "sum", shop, amount)
		var err error
		if s.topology, err = b.Build(); err != nil {
			t.Fatal(err)
		}
		return start(t, cfg, s.topology)
	}
	shows := func() {
		await.That(t, "the view is there", func() bool {
			_, _, _, err := s.view.Get(t.Context(), "all")
			return err == nil
		})
		s.equal(t, db, "shop")
	}
	rows := 0
	insert := func(n int) {
		db.Exec(fmt.Sprintf("insert into items select i, i from generate_series(%d, %d) i", rows+1, rows+n))
		rows += n
	}
	app := begin()
	ready(t, app)
	for _, n := range []int{1, 20_000} {
		states.resize(small)
		insert(n)
		for range 2 { // also after a restart
			if err := app.wait(t); !errors.Is(err, state.ErrDiskFull) ||
				!strings.Contains(err.Error(), cfg.StateDir) ||
				!strings.Contains(err.Error(), "free space on its file system") {
				t.Errorf("%d rows: got %v", n, err)
			}
			app = begin()
		}
		_ = app.wait(t) // the same again
		states.resize(large)
		app = begin()
		shows()
	}
	for range 2 { // also after a restart
		await.That(t, "the target's failure is told", func() bool {
			err := app.app.Status().Targets["log"]
			return errors.Is(err, syscall.ENOSPC) && strings.Contains(err.Error(), path) &&
				strings.Contains(err.Error(), "free space on its file system")
		})
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
		app = begin()
		insert(1)
		shows() // which goes on
	}
	answer := httptest.NewRecorder()
	app.app.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if !strings.Contains(answer.Body.String(), `"log"`) {
		t.Errorf("/readyz answers %d %s", answer.Code, answer.Body)
	}
	events.resize("64m")
	insert(1)
	lines := ""
	await.That(t, "all events", func() bool {
		data, err := os.ReadFile(path)
		lines = string(data)
		return err == nil && strings.Count(lines, "\n") >= rows
	})
	id := 0
	for line := range strings.Lines(lines) {
		if id++; !strings.Contains(line, fmt.Sprintf(`"key":%d,`, id)) {
			t.Fatalf("event %d is %s", id, line)
		}
	}
	if id != rows {
		t.Errorf("%d events, want %d", id, rows)
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
