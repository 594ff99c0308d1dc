package record

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in PostgreSQL's write-ahead log.
type LSN uint64

// String prints the position as PostgreSQL does, two hexadecimal halves.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads the form that String prints.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok {
		h, errHi := strconv.ParseUint(hi, 16, 32)
		l, errLo := strconv.ParseUint(lo, 16, 32)
		if errHi == nil && errLo == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("record: %q is not a position in the form X/Y of two hexadecimal numbers", s)
}

// ParsePositions reads the form that Positions.String prints.
func ParsePositions(s string) (Positions, error) {
	p := Positions{}
	for part := range strings.SplitSeq(s, ",") {
		name, at, ok := strings.Cut(part, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("record: %q is not a list of source:X/Y", s)
		}
		lsn, err := ParseLSN(at)
		if err != nil {
			return nil, err
		}
		p[name] = uint64(lsn)
	}
	return p, nil
}
