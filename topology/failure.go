package topology

import (
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/record"
)

// ErrUserFunction says that a function given by the user returned an error or
// panicked. Test with errors.Is; errors.As with *Failure gives the details.
var ErrUserFunction = errors.New("topology: user function failed")

// Failure is an error at one input of one node: which node, which key, which
// transaction. The state stays at the last epoch before it.
type Failure struct {
	Node *Node
	// Key is the key of the input, as it would be printed. It is not part of the
	// message, which may be logged where keys may not be.
	Key any
	Tx  *record.Tx
	Err error
}

// Error names the node and the transaction.
func (f *Failure) Error() string {
	at := ""
	if f.Tx != nil {
		at = fmt.Sprintf(" at %s:%s", f.Tx.Source, record.LSN(f.Tx.Position))
		if f.Tx.Log != "" {
			at = fmt.Sprintf(" at offset %d of %s (%s)", f.Tx.CommitStart, f.Tx.Log, f.Tx.Source)
		}
	}
	return fmt.Sprintf("topology: %s %q%s: %v", f.Node.Kind, f.Node.Name, at, f.Err)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
