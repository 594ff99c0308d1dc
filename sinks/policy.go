package sinks

import (
	"github.com/tailrace/tailrace/topology"
)

// OnError sets the error policy of a sink: what becomes of a row or an event that the
// target refuses, by a constraint, say, or since a value does not fit into a column. It is
// given beside the connector's own option. Without one, or with topology.Stop, the app
// stops before the epoch.
//
// With topology.Skip and topology.DeadLetter the rest of the epoch is written, in one
// transaction with the target's progress as ever. In a table the key keeps the row that
// the target has, and is written again with its next change; DeadLetter keeps the row
// that was refused until then, or until it is replayed or dropped. Readers of the target
// no longer see whole transactions, which the app says at its start.
//
// The policy is called by the target's own goroutine, with the target's error in f.Err; it
// must be pure, since an epoch may be written again. What is no single row's fault always
// stops: a target's table that has changed, a deferred constraint that fails. A target that
// is down is tried again. Targets that do not identify what they refuse
// take no policy (ErrNoPolicy at New): of those of this module, Kafka's.
func OnError(p topology.ErrorPolicy) Option { return policyOption{p} }

type policyOption struct{ policy topology.ErrorPolicy }

// SinkOption implements Option.
func (policyOption) SinkOption() {}

// Refuser is a Connector whose writers ask Epoch.SetAside about what the target refuses.
type Refuser interface {
	Connector
	// AsksOnError does nothing: it tells such connectors from others.
	AsksOnError()
}

// SetAside decides about what a target refuses of one epoch.
type SetAside interface {
	// Refused reports whether an item is left out, of which the target says err. If it
	// is not, Apply returns the error.
	Refused(it Item, err error) bool
	// Keep makes durable what is kept of items that are left out. It is called before the
	// commit that leaves them out.
	Keep() error
}

// EncodeRow encodes a row as Spec.Row decodes it.
func EncodeRow(dst []byte, columns [][]byte, deleted bool) []byte {
	if deleted {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
	}
	for _, c := range columns {
		dst = appendColumn(dst, func(dst []byte) ([]byte, bool) { return append(dst, c...), c == nil })
	}
	return dst
}

// splitOptions returns the connector's option of an output, nil where none was given, and
// its error policy, nil for topology.Stop.
func splitOptions(b *topology.Builder, output string, options []Option) (Option, topology.ErrorPolicy) {
	var own []Option
	var policy topology.ErrorPolicy
	for _, o := range options {
		p, ok := o.(policyOption)
		switch {
		case !ok:
			own = append(own, o)
		case p.policy == nil:
			b.Errorf("topology: sink %q: the error policy is nil", output)
		case policy != nil:
			b.Errorf("topology: sink %q has two error policies; put them into one function", output)
		default:
			policy = p.policy
		}
	}
	return oneOption(b, output, own), policy
}
