package view

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/serde"
)

// View returns the view with a name, without its types. The error is ErrNoView.
func (h *Host) View(name string) (Port, error) {
	if c, ok := h.lookup(name); ok {
		return c.self, nil
	}
	var known []string
	for _, c := range h.list() {
		known = append(known, c.name)
	}
	slices.Sort(known)
	return nil, fmt.Errorf("%w %q; this app has: %s", ErrNoView, name, strings.Join(known, ", "))
}

// TypesOf returns the types of a view's keys and values.
func TypesOf(p Port) (key, value reflect.Type) { return p.port().key, p.port().value }

// PositionOf returns the position that a view has at the moment; it is an earlier
// one than the moment's where the view's topology stands still.
func (m *Moment) PositionOf(p Port) Position { return m.m.position(p.Topology()) }

// ExportJSON calls fn with the key and the value of every row of a view, as JSON,
// in the order of their keys. The bytes are valid during the call.
func (m *Moment) ExportJSON(ctx context.Context, p Port, fn func(key, value []byte) error) (err error) {
	c := p.port()
	b, err := c.bound()
	if err != nil {
		return err
	}
	if b.host != m.host {
		return fmt.Errorf("%w: view %q belongs to another app than the moment", ErrPositions, c.name)
	}
	if m.done.Load() {
		return fmt.Errorf("%w (the Moment has been closed)", ErrClosed)
	}
	if err := m.m.shows(c.topology); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			failed, ok := p.(*serde.EncodeError)
			if !ok {
				panic(p)
			}
			err = failed
		}
	}()
	var keyText, valueText []byte
	n := 0
	return scan(m.m.snap, b.rows, nil, nil, false, func(key, value []byte) (bool, error) {
		if n++; n%ctxEvery == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		var err error
		if keyText, err = c.text.key.append(keyText[:0], key, false); err != nil {
			return false, fmt.Errorf("view: %q: stored key: %w", c.name, err)
		}
		if valueText, err = c.text.value(valueText[:0], value, false); err != nil {
			return false, fmt.Errorf("view: %q: stored value: %w", c.name, err)
		}
		if err := fn(keyText, valueText); err != nil {
			return false, err
		}
		return true, nil
	})
}
