package file

import (
	"context"
	"fmt"
	"io"

	"github.com/tailrace/tailrace/sinks"
)

// streamWriter writes events to what cannot be cut; it remembers nothing over a restart.
type streamWriter struct {
	out     io.Writer
	target  string
	streams map[uint32]string
	seq     uint64
	has     bool
	// torn says that a write ended inside a line.
	torn bool
	buf  []byte
}

// Progress implements sinks.Writer: there is none.
func (w *streamWriter) Progress(context.Context) (seq uint64, ok bool, err error) {
	return 0, false, nil
}

// Apply implements sinks.Writer. An epoch is written at once, or in large pieces, and
// after an error whole once more.
func (w *streamWriter) Apply(ctx context.Context, epochs []sinks.Epoch) error {
	w.buf = w.buf[:0]
	if w.torn {
		w.buf = append(w.buf, '\n')
	}
	for _, e := range epochs {
		if w.has && e.Seq <= w.seq {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var failed error
		err := e.Items(func(it sinks.Item) bool {
			failed = w.add(&e, it)
			return failed == nil
		})
		if failed == nil {
			failed = err
		}
		if failed == nil {
			failed = w.flush()
		}
		if failed != nil {
			return fmt.Errorf("sinks/file: target %q: %w", w.target, failed)
		}
		w.seq, w.has = e.Seq, true
	}
	return nil
}

func (w *streamWriter) add(e *sinks.Epoch, it sinks.Item) error {
	stream, ok := w.streams[it.Output]
	if !ok || it.Event == nil {
		return fmt.Errorf("item of output %d is unknown or no event; this is a bug", it.Output)
	}
	buf, err := appendLine(w.buf, stream, it.Event)
	if err != nil {
		return refused(e, it, err)
	}
	w.buf = buf
	if len(w.buf) >= flushBytes {
		return w.flush()
	}
	return nil
}

func (w *streamWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	n, err := w.out.Write(w.buf)
	if n > 0 {
		w.torn = w.buf[n-1] != '\n'
	}
	w.buf = w.buf[:0]
	return err
}

// Close implements sinks.Writer; standard output stays open.
func (w *streamWriter) Close() error { return nil }
