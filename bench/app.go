package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// running is an app at work in this process. Its database is named "shop".
type running struct {
	app  *tailrace.App
	stop context.CancelFunc
	done chan error
}

// connector reads the shop through its publication, so that the server sends what it
// sends to the raw receiver.
func connector(url, slot string) *sources.Database {
	return sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: url, Slot: slot, Publication: "shop", ManagePublication: postgres.PublicationNever,
	}))
}

// startApp runs a topology over a state directory.
func startApp(ctx context.Context, dir string, topo *topology.Topology) (*running, error) {
	app, err := tailrace.New(tailrace.Config{
		App: "bench", StateDir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, topo)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	r := &running{app: app, stop: stop, done: make(chan error, 1)}
	go func() {
		err := app.Run(ctx)
		r.done <- err
	}()
	return r, nil
}

// ready waits for the views, or says why the app ended instead.
func (r *running) ready(ctx context.Context) error { return r.explain(r.app.WaitReady(ctx)) }

// reach waits until the views hold everything up to a position of the shop's log.
func (r *running) reach(ctx context.Context, position record.LSN) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.explain(r.app.WaitFor(ctx, record.Positions{"shop": uint64(position)}))
}

func (r *running) explain(err error) error {
	if err == nil {
		return nil
	}
	select {
	case ended := <-r.done:
		r.done <- ended
		return errors.Join(err, ended)
	default:
		return err
	}
}

// close stops the app and waits for its end.
func (r *running) close() error {
	r.stop()
	return <-r.done
}

// verify compares views with SQL at one position; a row that differs is an error.
func (r *running) verify(ctx context.Context, checks ...tailrace.Check) error {
	results, err := r.app.Verify(ctx, checks...)
	if err != nil {
		return r.explain(err)
	}
	for _, v := range results {
		if len(v.Differences) > 0 || v.SQLRows == 0 && v.ViewRows != 0 {
			return fmt.Errorf("view %s: %d of %d rows differ from SQL, the first: %+v",
				v.View, len(v.Differences), v.SQLRows, v.Differences[0])
		}
	}
	return nil
}

// position is where the server's log ends now, as far as the server would send it: what
// it has not flushed, such as what reading rows has written, may take seconds.
func (s *shop) position(ctx context.Context) (record.LSN, error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var at int64
	err = conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn() - '0/0'").Scan(&at)
	return record.LSN(at), err
}

// walSender returns the id of the server's process behind a slot, 0 where it has none.
func (s *shop) walSender(ctx context.Context, slot string) (pid uint32, err error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var found int64
	err = conn.QueryRow(ctx,
		"SELECT coalesce(active_pid, 0)::int8 FROM pg_replication_slots WHERE slot_name = $1",
		slot).
		Scan(&found)
	return uint32(found), err
}

// stateDir makes a directory for an app's state, and what removes it.
func stateDir() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", "tailrace-bench-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}
