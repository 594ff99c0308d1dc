package debezium

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks a JSON text once, from front to back, without allocating. What is
// skipped is only matched for its brackets and strings; what is read is checked.
type scanner struct {
	b []byte
	i int
}

var errSyntax = refuse(ErrMalformed, "the text is not JSON")

// peek returns the next byte that is no space, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\n', '\r', '\t':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// take consumes a byte, and reports whether it was there.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// end reports whether nothing follows.
func (s *scanner) end() bool { return s.peek() == 0 && s.i >= len(s.b) }

// raw reads a string and returns what stands between the quotes, and whether it has
// escapes.
func (s *scanner) raw() (text []byte, escaped bool, err error) {
	if !s.take('"') {
		return nil, false, errSyntax
	}
	start, plain := s.i, true
	for i := s.i; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			text = s.b[start:i:i]
			s.i = i + 1
			if !plain && !utf8.Valid(text) {
				return nil, false, errSyntax
			}
			return text, escaped, nil
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return nil, false, errSyntax
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return nil, false, errSyntax
}

// member reads an object's next name and its colon, and leaves the scanner before the
// value. first says that the brace has just been read. ok is false at the object's end.
func (s *scanner) member(first bool) (name []byte, escaped, ok bool, err error) {
	if s.take('}') {
		return nil, false, false, nil
	}
	if !first && !s.take(',') {
		return nil, false, false, errSyntax
	}
	if s.peek() != '"' {
		return nil, false, false, errSyntax
	}
	name, escaped, err = s.raw()
	if err == nil && !s.take(':') {
		err = errSyntax
	}
	return name, escaped, err == nil, err
}

// object reads an object. member is given the name of each of its members, still escaped,
// and reads the value.
func (s *scanner) object(member func(name []byte) error) error {
	if !s.take('{') {
		return errSyntax
	}
	for first := true; ; first = false {
		name, _, ok, err := s.member(first)
		if err != nil || !ok {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
}

// element leaves the scanner before an array's next element. ok is false at the end.
func (s *scanner) element(first bool) (ok bool, err error) {
	if s.take(']') {
		return false, nil
	}
	if !first && !s.take(',') {
		return false, errSyntax
	}
	if s.peek() == ']' {
		return false, errSyntax
	}
	return true, nil
}

// literal consumes a word such as null.
func (s *scanner) literal(word string) bool {
	s.peek()
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// number reads a number and checks its form.
func (s *scanner) number() ([]byte, error) {
	s.peek()
	start := s.i
	s.accept('-')
	if !s.digits() {
		return nil, errSyntax
	}
	if s.accept('.') && !s.digits() {
		return nil, errSyntax
	}
	if s.accept('e') || s.accept('E') {
		if !s.accept('+') {
			s.accept('-')
		}
		if !s.digits() {
			return nil, errSyntax
		}
	}
	return s.b[start:s.i:s.i], nil
}

// accept passes a byte if it is the next one.
func (s *scanner) accept(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// digits passes digits, of which there has to be one.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > start
}

// skip passes a value and returns its text.
func (s *scanner) skip() ([]byte, error) {
	c := s.peek()
	start := s.i
	switch {
	case c == '"':
		if _, _, err := s.raw(); err != nil {
			return nil, err
		}
	case c == '{' || c == '[':
		if err := s.skipNested(); err != nil {
			return nil, err
		}
	case c == 'n':
		if !s.literal("null") {
			return nil, errSyntax
		}
	case c == 't':
		if !s.literal("true") {
			return nil, errSyntax
		}
	case c == 'f':
		if !s.literal("false") {
			return nil, errSyntax
		}
	default:
		if _, err := s.number(); err != nil {
			return nil, err
		}
	}
	return s.b[start:s.i:s.i], nil
}

// skipNested passes an object or array.
func (s *scanner) skipNested() error {
	depth := 0
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			s.i++
			if !s.closeQuote() {
				return errSyntax
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				s.i++
				return nil
			}
		}
		s.i++
	}
	return errSyntax
}

// closeQuote passes the rest of a string.
func (s *scanner) closeQuote() bool {
	for {
		n := bytes.IndexByte(s.b[s.i:], '"')
		if n < 0 {
			return false
		}
		end := s.i + n
		back := end
		for back > s.i && s.b[back-1] == '\\' {
			back--
		}
		s.i = end + 1
		if (end-back)%2 == 0 {
			return true
		}
	}
}

// unescape appends a JSON string's text without its escapes.
func unescape(dst, raw []byte) ([]byte, error) {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++
		if i >= len(raw) {
			return dst, errSyntax
		}
		switch raw[i] {
		case '"', '\\', '/':
			dst = append(dst, raw[i])
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, n := unescapeRune(raw[i-1:])
			if n == 0 {
				return dst, errSyntax
			}
			dst = utf8.AppendRune(dst, r)
			i += n - 2
		default:
			return dst, errSyntax
		}
	}
	return dst, nil
}

// unescapeRune reads \uXXXX, or two of them that form a pair, and returns how many bytes
// it took, 0 if it is neither.
func unescapeRune(src []byte) (rune, int) {
	r, ok := hex4(src)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := hex4(src[6:]); ok {
		if r := utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, 12
		}
	}
	return 0, 0
}

func hex4(src []byte) (rune, bool) {
	if len(src) < 6 || src[0] != '\\' || src[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range src[2:6] {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
