package serde

import (
	"strconv"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// arrayReader reads PostgreSQL's text form of arrays in two passes: shape finds
// dimensions and checks the form, elements reads the values.
type arrayReader struct {
	src   []byte
	delim byte
	at    int
	dims  []record.Dim
	count int
	body  int
}

const maxDims = 6

// shape reads the dimensions and counts the elements.
func (r *arrayReader) shape() error {
	declared, err := r.bounds()
	if err != nil {
		return err
	}
	r.body = r.at
	if string(r.src[r.at:]) == "{}" {
		return nil
	}
	var counts [maxDims]int32
	depth, deepest := 0, 0
	want := true // an element or a brace comes next, not a delimiter
	for r.at < len(r.src) {
		switch c := r.src[r.at]; {
		case c == '{' && want:
			if depth == maxDims || deepest > 0 && depth >= deepest {
				return ErrSyntax
			}
			counts[depth] = 0
			depth++
			r.at++
		case c == '}' && !want && depth > 0:
			depth--
			if err := r.close(depth, counts[depth]+1); err != nil {
				return err
			}
			r.at++
			if depth == 0 && r.at != len(r.src) {
				return ErrSyntax
			}
		case c == r.delim && !want && depth > 0:
			counts[depth-1]++
			want = true
			r.at++
		case want && depth > 0:
			if deepest == 0 {
				deepest = depth
				r.dims = make([]record.Dim, depth)
			}
			if depth != deepest || !r.skip() {
				return ErrSyntax
			}
			r.count++
			want = false
		default:
			return ErrSyntax
		}
	}
	if depth != 0 || deepest == 0 {
		return ErrSyntax
	}
	return r.place(declared)
}

// close takes the length of a finished sub-array; all of one depth are alike.
func (r *arrayReader) close(depth int, n int32) error {
	d := &r.dims[depth]
	if d.Len != 0 && d.Len != n {
		return ErrSyntax
	}
	*d = record.Dim{Len: n, Lower: 1}
	return nil
}

// place checks the declared bounds against what was found.
func (r *arrayReader) place(declared []record.Dim) error {
	if declared == nil {
		return nil
	}
	if len(declared) != len(r.dims) {
		return ErrSyntax
	}
	for i, d := range declared {
		if d.Len != r.dims[i].Len {
			return ErrSyntax
		}
	}
	r.dims = declared
	return nil
}

// bounds reads what precedes an array whose subscripts do not begin at 1:
// [0:1][-1:3]=
func (r *arrayReader) bounds() ([]record.Dim, error) {
	var dims []record.Dim
	for r.at < len(r.src) && r.src[r.at] == '[' {
		r.at++
		lower, ok1 := r.number(':')
		upper, ok2 := r.number(']')
		if !ok1 || !ok2 || upper < lower || len(dims) == maxDims {
			return nil, ErrSyntax
		}
		dims = append(dims, record.Dim{Len: int32(upper - lower + 1), Lower: int32(lower)})
	}
	if dims != nil {
		if r.at == len(r.src) || r.src[r.at] != '=' {
			return nil, ErrSyntax
		}
		r.at++
	}
	return dims, nil
}

func (r *arrayReader) number(end byte) (int64, bool) {
	start := r.at
	for r.at < len(r.src) && r.src[r.at] != end {
		r.at++
	}
	if r.at == len(r.src) {
		return 0, false
	}
	n, err := parseInt(r.src[start:r.at])
	r.at++
	return n, err == nil && n == int64(int32(n))
}

// skip moves behind an element.
func (r *arrayReader) skip() bool {
	if r.src[r.at] == '"' {
		for r.at++; r.at < len(r.src); r.at++ {
			switch r.src[r.at] {
			case '\\':
				r.at++
			case '"':
				r.at++
				return true
			}
		}
		return false
	}
	start := r.at
	for r.at < len(r.src) {
		switch c := r.src[r.at]; {
		case c == r.delim || c == '}':
			return r.at > start
		case c == '{' || c == '"':
			return false
		case c == '\\':
			r.at++
		}
		r.at++
	}
	return false
}

// elements reads all values into memory for that many.
func (r *arrayReader) elements(base unsafe.Pointer, size uintptr, elem *codec, parse parseFunc) error {
	r.at = r.body
	var buf []byte
	for i := range r.count {
		for r.src[r.at] == '{' || r.src[r.at] == '}' || r.src[r.at] == r.delim {
			r.at++
		}
		start := r.at
		r.skip()
		raw, p := r.src[start:r.at], unsafe.Add(base, uintptr(i)*size)
		if raw[0] != '"' && isNullWord(raw) {
			if elem.null == nil {
				return errElementNull
			}
			elem.null(p)
			continue
		}
		buf = unquote(buf[:0], raw)
		if err := parse(p, buf); err != nil {
			return err
		}
	}
	return nil
}

func isNullWord(raw []byte) bool {
	return len(raw) == 4 && raw[0]|' ' == 'n' && raw[1]|' ' == 'u' && raw[2]|' ' == 'l' && raw[3]|' ' == 'l'
}

// unquote appends an element without its quotes and backslashes.
func unquote(dst, raw []byte) []byte {
	if raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			i++
		}
		dst = append(dst, raw[i])
	}
	return dst
}

// arrayWriter writes the nested braces or brackets of an array.
type arrayWriter struct {
	elem *codec
	size uintptr
	// base is the first element, next the index of the next: a pointer to the next
	// would at last point behind the array, at memory that is not ours.
	base unsafe.Pointer
	next uintptr
	// json is set for JSON; else PostgreSQL's form is written.
	json *JSONOptions
}

func appendArray(dst []byte, base unsafe.Pointer, size uintptr, elem *codec, dims []record.Dim,
	n int) []byte {
	if n == 0 {
		return append(dst, "{}"...)
	}
	shifted := false
	for _, d := range dims {
		shifted = shifted || d.Lower != 1
	}
	if shifted {
		for _, d := range dims {
			dst = strconv.AppendInt(append(dst, '['), int64(d.Lower), 10)
			dst = strconv.AppendInt(append(dst, ':'), int64(d.Lower)+int64(d.Len)-1, 10)
			dst = append(dst, ']')
		}
		dst = append(dst, '=')
	}
	w := arrayWriter{elem: elem, size: size, base: base}
	return w.nested(dst, dims, '{', '}')
}

func (w *arrayWriter) nested(dst []byte, dims []record.Dim, open, end byte) []byte {
	dst = append(dst, open)
	if len(dims) == 0 {
		return append(dst, end)
	}
	for i := range dims[0].Len {
		if i > 0 {
			dst = append(dst, ',')
		}
		if len(dims) > 1 {
			dst = w.nested(dst, dims[1:], open, end)
			continue
		}
		p := unsafe.Add(w.base, w.next*w.size)
		w.next++
		if w.json != nil {
			dst = w.elem.json(dst, p, w.json)
		} else {
			dst = appendElement(dst, w.elem, p)
		}
	}
	return append(dst, end)
}

// appendElement writes an element in quotes, which are always allowed.
func appendElement(dst []byte, elem *codec, p unsafe.Pointer) []byte {
	if elem.isNull != nil && elem.isNull(p) {
		return append(dst, "NULL"...)
	}
	return appendEscaped(dst, elem, p)
}

// appendEscaped writes a value in quotes with backslashes, as arrays and ranges
// read them.
func appendEscaped(dst []byte, elem *codec, p unsafe.Pointer) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = elem.text(dst, p)
	escapes := 0
	for _, c := range dst[start:] {
		if c == '"' || c == '\\' {
			escapes++
		}
	}
	if escapes > 0 {
		end := len(dst)
		for range escapes {
			dst = append(dst, 0)
		}
		// Moved from the end, so that nothing is overwritten before it is read.
		for to := len(dst); end > start; {
			end--
			to--
			dst[to] = dst[end]
			if c := dst[end]; c == '"' || c == '\\' {
				to--
				dst[to] = '\\'
			}
		}
	}
	return append(dst, '"')
}
