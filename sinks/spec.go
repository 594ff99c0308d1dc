package sinks

import (
	"fmt"

	"github.com/tailrace/tailrace/topology"
)

// Spec is what a sink node writes to: topology.Node.Sink of the nodes made by Table
// and Stream. It is for drivers.
type Spec struct {
	Target *Target
	// Output describes the output; the driver sets its ID.
	Output Output
	// Row decodes what the node put out for a row into the values of its columns, of
	// the key columns only where the row was deleted. The result is valid until the
	// bytes change.
	Row func(payload []byte, columns [][]byte) (out [][]byte, deleted bool, err error)
	// windowed is the same output with its windows as columns, nil where it has none.
	windowed *Spec
}

// For returns the form of the output that a connector takes. What the node puts out is the
// same.
func (s *Spec) For(c Connector) *Spec {
	if _, ok := c.(WindowColumns); ok && s.windowed != nil {
		return s.windowed
	}
	return s
}

// Fingerprint implements topology.Fingerprinter: the columns, which rows that wait for
// the target are encoded by.
func (s *Spec) Fingerprint() string {
	if w := s.windowed; w != nil {
		return fmt.Sprintf("%q %v %v %d", s.Output.Name, s.Output.Columns, w.Output.Columns, s.Output.KeyLen)
	}
	return fmt.Sprintf("%q %v %d %v", s.Output.Name, s.Output.Columns, s.Output.KeyLen, s.Output.Append)
}

// Option is what a user may say about one output to the connector of its target: a
// postgres.Output or a kafka.Output. Opening a target refuses one of another connector.
type Option interface {
	// SinkOption does nothing: it tells options from other values.
	SinkOption()
}

// oneOption returns the option of an output, nil where none was given.
func oneOption(b *topology.Builder, output string, option []Option) Option {
	switch len(option) {
	case 0:
		return nil
	case 1:
		return option[0]
	}
	b.Errorf("topology: sink %q takes one option, got %d; put them into one value", output, len(option))
	return nil
}
