package record

// Range is one of PostgreSQL's range types: int4range is Range[int32], numrange
// Range[Decimal], daterange Range[Date], tstzrange Range[time.Time] and so on. The
// values at an infinite or missing bound are zero. The zero value has equal,
// excluded bounds, so it is written as the empty range; a range that is read has
// Empty set where it is empty.
type Range[T any] struct {
	Lower, Upper T
	Bounds       Bounds
}

// Bounds says which ends a range has.
type Bounds uint8

// What may be said of the bounds of a range.
const (
	// Empty says that the range has no value at all.
	Empty Bounds = 1 << iota
	// LowerIncluded and UpperIncluded say that the bound belongs to the range.
	LowerIncluded
	UpperIncluded
	// LowerOpen and UpperOpen say that there is no bound on that side. This is not
	// the same as a bound whose value is infinity.
	LowerOpen
	UpperOpen
)

// Has reports whether all of b is said.
func (b Bounds) Has(c Bounds) bool { return b&c == c }

// Multirange is one of PostgreSQL's multirange types: int4multirange is
// Multirange[int32], and so on. An empty one has length 0.
type Multirange[T any] []Range[T]

// Array is an array of any number of dimensions with any lower bounds. A plain
// slice holds the usual one: one dimension that begins at 1. Elements that can be
// NULL need a nullable T, such as sql.Null.
type Array[T any] struct {
	// Elems are the elements, the last dimension's neighbours first.
	Elems []T
	// Dims are the dimensions, none for the empty array. The product of their
	// lengths is the number of elements.
	Dims []Dim
}

// Dim is a dimension of an array: its length and its first subscript.
type Dim struct{ Len, Lower int32 }
