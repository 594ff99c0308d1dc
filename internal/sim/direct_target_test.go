package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sinks"
)

// directTarget is a transactional target, which outlives the app.
type directTarget struct {
	world *directWorld

	mu          sync.Mutex
	incarnation string
	seq         uint64
	position    uint64
	tables      map[string]map[string]string
	events      map[string]int
}

var errTarget = errors.New("sim: the target does not answer")

// directWriter is a connection of one life of the app.
type directWriter struct {
	target  *directTarget
	life    *directLife
	outputs map[uint32]string
	append  map[uint32]bool
}

// directConnector is the target as one life of the app sees it.
type directConnector struct {
	target *directTarget
	life   *directLife
}

func (c directConnector) Transactional() bool                           { return true }
func (c directConnector) Drop(context.Context, sinks.DropRequest) error { return nil }

// Open implements sinks.Connector.
func (c directConnector) Open(_ context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	if c.life.isCrashed() {
		return nil, errTarget
	}
	w := &directWriter{target: c.target, life: c.life, outputs: map[uint32]string{}, append: map[uint32]bool{}}
	for _, o := range req.Outputs {
		w.outputs[o.ID], w.append[o.ID] = o.Name, o.Append
	}
	t := c.target
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.incarnation != req.Incarnation {
		t.incarnation, t.seq = req.Incarnation, 0
	}
	return w, nil
}

func (w *directWriter) Close() error { return nil }

// Progress implements sinks.Writer.
func (w *directWriter) Progress(context.Context) (uint64, bool, error) {
	w.target.mu.Lock()
	defer w.target.mu.Unlock()
	return w.target.seq, w.target.seq > 0, nil
}

// Apply implements sinks.Writer.
func (w *directWriter) Apply(_ context.Context, epochs []sinks.Epoch) error {
	t := w.target
	if f := t.world.find(func(f *directFault) bool { return f.harm == dHang }); f != nil {
		time.Sleep(f.lasts) // virtual: the target takes so long
	}
	if t.world.times(dRefuse) {
		return errTarget
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.life.isCrashed() {
		return errTarget
	}
	for _, e := range epochs {
		if e.Seq <= t.seq {
			continue
		}
		if e.Reconcile {
			for id, name := range w.outputs {
				if e.Whole(id) && !w.append[id] {
					clear(t.tables[name])
				}
			}
		}
		var wrong error
		if err := e.Items(func(it sinks.Item) bool {
			wrong = errors.Join(wrong, t.take(w.outputs[it.Output], it))
			return true
		}); err != nil || wrong != nil {
			return t.world.fail(errors.Join(err, wrong))
		}
		t.seq, t.position = e.Seq, e.Positions["shop"]
		if err := t.check(t.position); err != nil {
			return t.world.fail(fmt.Errorf("target at %X: %w", t.position, err))
		}
	}
	if t.world.times(dDoubt) {
		return errTarget
	}
	return nil
}

// take takes a row or an event. t.mu is held.
func (t *directTarget) take(name string, it sinks.Item) error {
	if it.Event != nil {
		var v struct{ Text string }
		if err := json.Unmarshal(it.Event.Value, &v); err != nil {
			return fmt.Errorf("event %s: %w", it.Event.Value, err)
		}
		if !it.Event.Replayed {
			t.events[v.Text]++
		}
		return nil
	}
	var values []string
	for _, c := range it.Columns {
		values = append(values, string(c))
	}
	if t.tables[name] == nil {
		t.tables[name] = map[string]string{}
	}
	if it.Deleted {
		delete(t.tables[name], values[0])
	} else {
		t.tables[name][values[0]] = strings.Join(values[1:], " ")
	}
	return nil
}

// check compares what the target holds with what it is to hold at a position. t.mu is held.
func (t *directTarget) check(position uint64) error {
	w := t.world
	w.oracleMu.Lock()
	defer w.oracleMu.Unlock()
	want := w.oracle.at(position)
	var errs []error
	for name, rows := range want.results() {
		errs = append(errs, different("table "+name, t.tables[name], rows))
	}
	if !w.plan.streaming && !w.lost {
		said := map[string]int{}
		for text, end := range want.said {
			if end > w.server.Since() { // before it nobody kept any for us
				said[text] = 1
			}
		}

		errs = append(errs, different("events", t.events, said))
	}
	return errors.Join(errs...)
}
