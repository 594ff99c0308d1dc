// Package file writes event streams as JSON lines, to a file or to standard output.
//
// A line is one event:
//
//	{"id":"...","stream":"paid-orders","key":7,"value":{...},"source":"shop","position":"0/1A2B3C",
//	 "xid":731,"time":"2026-11-22T03:15:26.000001Z","last":true}
//
// id is stable over crashes and replays, last marks the last event of its source
// transaction in the file, and "replayed":true follows where an event is delivered
// again after the state was lost, or by a replay of dead letters. What is replayed of a
// transaction has a "last" of its own, since the transaction may have ended in the file before:
// "last":true with "replayed":true ends what that replay delivers of it.
//
// A file holds each event once, whatever crashes: its checkpoint (Config.Path with
// ".progress" appended) says how long the file was when the last epoch was complete,
// and what is longer is cut off at the next start. Without a checkpoint the file is kept
// up to its last complete transaction, and events up to there are skipped. Standard
// output cannot be cut, so it gets each event at least once.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tailrace/tailrace/sinks"
)

// Config says where the file is.
type Config struct {
	// Path is the file, made with mode 0600 if it is not there; its directory has to
	// exist (sinks.ErrConfig at start). A symbolic link is refused. The file should be left alone while the app
	// runs; to rotate it, stop the app and move it away together with its ".progress".
	Path string
}

// Target returns a connector that appends events to a file.
func Target(cfg Config) sinks.Connector { return &fileConnector{path: cfg.Path} }

// Stdout returns a connector that writes events to standard output.
func Stdout() sinks.Connector { return &streamConnector{out: os.Stdout} }

type fileConnector struct{ path string }

// Transactional reports false: a reader of the file may see part of an epoch. Each
// event is in it once nevertheless.
func (c *fileConnector) Transactional() bool { return false }

// AsksOnError implements sinks.Refuser.
func (c *fileConnector) AsksOnError() {}

// Open implements sinks.Connector.
func (c *fileConnector) Open(_ context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	w, err := c.newWriter(req)
	if err != nil {
		return nil, err
	}
	if err := w.open(); err != nil {
		w.release()
		return nil, fmt.Errorf("sinks/file: target %q: %w", req.Target, withRemedy(err))
	}
	return w, nil
}

// Check implements sinks.Checker. It takes no lock: somebody may be about to open the file.
func (c *fileConnector) Check(_ context.Context, req sinks.OpenRequest) error {
	w, err := c.newWriter(req)
	if err != nil {
		return err
	}
	if err := w.look(); err != nil {
		return fmt.Errorf("sinks/file: target %q: %w", req.Target, withRemedy(err))
	}
	path, err := filepath.Abs(c.path)
	if err != nil || req.Claim == nil {
		return err
	}
	if err := req.Claim("file " + path); err != nil {
		return fmt.Errorf("sinks/file: target %q: %w", req.Target, err)
	}
	return nil
}

func (c *fileConnector) newWriter(req sinks.OpenRequest) (*Writer, error) {
	streams, err := eventStreams(req)
	if err != nil {
		return nil, err
	}
	if c.path == "" {
		return nil, fmt.Errorf("sinks/file: target %q: Config.Path is empty; name a file: %w", req.Target,
			sinks.ErrConfig)
	}
	w := &Writer{path: c.path, streams: streams, log: req.Logger}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.check = checkpoint{App: req.App, Target: req.Target, Incarnation: req.Incarnation}
	return w, nil
}

// Drop removes the checkpoint; the file stays.
func (c *fileConnector) Drop(_ context.Context, req sinks.DropRequest) error {
	fail := func(err error) error { return fmt.Errorf("sinks/file: target %q: %w", req.Target, err) }
	f, err := openPlain(c.path, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail(err)
	default:
		defer func() { _ = f.Close() }()
		if err := lock(f); err != nil {
			return fail(err)
		}
	}
	if err := os.Remove(c.path + progressSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	return nil
}

// eventStreams maps the outputs to their names, and refuses tables.
func eventStreams(req sinks.OpenRequest) (map[uint32]string, error) {
	streams := map[uint32]string{}
	var errs []error
	for _, o := range req.Outputs {
		if !o.Append {
			errs = append(errs, fmt.Errorf("%w: sinks/file: target %q: output %q is a table, and a file "+
				"only takes "+
				"events; write a stream (ToStream makes one of a table), or use a database",
				sinks.ErrTargetSchema,
				req.Target, o.Name))
		}
		streams[o.ID] = o.Name
	}
	return streams, errors.Join(errs...)
}

// openPlain opens a regular file that is no symbolic link; flag os.O_CREATE makes it,
// with mode 0600.
func openPlain(path string, flag int) (*os.File, error) {
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
		// O_EXCL follows no link that appears in between.
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file (%s); name the file itself: %w", path, before.Mode().Type(),
			sinks.ErrConfig)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was replaced while it was opened", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// streamConnector writes to what cannot be cut.
type streamConnector struct{ out io.Writer }

// Transactional reports false.
func (c *streamConnector) Transactional() bool { return false }

// AsksOnError implements sinks.Refuser.
func (c *streamConnector) AsksOnError() {}

// Open implements sinks.Connector.
func (c *streamConnector) Open(_ context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	streams, err := eventStreams(req)
	if err != nil {
		return nil, err
	}
	return &streamWriter{out: c.out, streams: streams, target: req.Target}, nil
}

// Check implements sinks.Checker.
func (c *streamConnector) Check(_ context.Context, req sinks.OpenRequest) error {
	_, err := eventStreams(req)
	return err
}

// Drop does nothing: there is no progress.
func (c *streamConnector) Drop(context.Context, sinks.DropRequest) error { return nil }

// refused asks the error policy about an event that cannot be written as a line: nil says to
// go on without it, once what is kept of it is durable.
func refused(e *sinks.Epoch, it sinks.Item, err error) error {
	err = fmt.Errorf("%w: %w", sinks.ErrRejected, err)
	if e.SetAside == nil || !e.SetAside.Refused(it, err) {
		return err
	}
	return e.SetAside.Keep()
}
