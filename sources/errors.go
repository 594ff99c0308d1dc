package sources

import (
	"errors"

	"github.com/tailrace/tailrace/topology"
)

// TableError is an error of Open that concerns certain tables only: readers of others
// can go on.
type TableError interface {
	error
	// Of returns what is wrong with some of the tables, nil if nothing is.
	Of(tables []string) error
}

// Errors of connectors; test with errors.Is. The messages name the place and the
// remedy. All but ErrReopen and ErrQuery are ErrPermanent, too.
var (
	// ErrPermanent: asking the source again does not help. Readers retry all other errors.
	ErrPermanent = errors.New("sources: trying again does not help")
	// ErrConfig: the source's settings, rights or tables do not allow the read.
	ErrConfig = Permanent("sources: the source has to be set up for this first, trying again does not help")
	// ErrSchema: a table's shape does not fit the topology's types.
	ErrSchema = Permanent("sources: table does not fit the topology")
	// ErrDataGap: the source can no longer deliver what follows our position.
	ErrDataGap = Permanent("sources: data gap")
	// ErrWrongSystem: the source is another installation than the state came from,
	// or went back in time.
	ErrWrongSystem = Permanent("sources: another source system")
	// ErrReopen: a session has ended because its tables have to be looked at anew; what it
	// has not delivered comes in the next one. It is no fault.
	ErrReopen = errors.New("sources: session has to be opened again")
	// ErrInUse: another process reads with our slot.
	ErrInUse = Permanent("sources: in use by another process")
	// ErrQuery: a query that the user gave cannot be run as it is.
	ErrQuery = errors.New("sources: the query cannot be run")
	// ErrDecode: a value cannot be represented in the Go type. It is the fault of one
	// row: see topology.ErrorPolicy.
	ErrDecode error = decodeFault{}
)

type decodeFault struct{}

func (decodeFault) Error() string { return "sources: value cannot be decoded" }

// Is makes it the fault of an input, which trying again does not mend.
func (decodeFault) Is(target error) bool {
	return target == topology.ErrInput || target == ErrPermanent
}

// Permanent makes an error of its own that is ErrPermanent.
func Permanent(text string) error { return &permanent{text} }

type permanent struct{ text string }

func (p *permanent) Error() string { return p.text }

// Is makes it ErrPermanent.
func (p *permanent) Is(target error) bool { return target == ErrPermanent }
