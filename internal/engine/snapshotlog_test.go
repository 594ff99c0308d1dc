package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSnapshotLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		without := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}
		l := newSnapshotLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: without})), "shop")
		l.complete() // a restart without a snapshot says nothing
		l.progress("a", 0, 3000)
		l.progress("b", 0, 7000)
		for i := range int64(10) { // 1,000 rows each second
			time.Sleep(time.Second) // of the test's own clock
			l.progress("a", min((i+1)*1000, 3100), 3000)
			l.progress("b", max(0, (i+1)*1000-3100), 7000)
		}
		l.complete()
		l.progress("a", 5, 5) // that of another start
		l.complete()
		want := `msg="the snapshot is being read" database=shop rows=4000 of_about=10100 rows_per_second=800 eta=8s
msg="the snapshot is being read" database=shop rows=9000 of_about=10100 rows_per_second=900 eta=1s
msg="the snapshot is complete" database=shop tables=2 rows=10000 took=10s rows_per_second=1000
msg="the snapshot is complete" database=shop tables=1 rows=5 took=0s rows_per_second=0
`
		if got := out.String(); got != want {
			t.Errorf("the log is\n%s\nwant\n%s", got, want)
		}
	})
}

// An engine tells how its snapshot goes.
func TestSnapshotIsLogged(t *testing.T) {
	var out bytes.Buffer
	b := newBench(t, asTable)
	b.logger = slog.New(slog.NewTextHandler(&out, nil))
	b.source.tx(true, 1, 2)
	if err := b.run(func(*Engine) {
		wait(t, b.observer.epochs)
		wait(t, b.source.acks)
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "the snapshot is complete") {
		t.Errorf("the log is %s", &out)
	}
}
