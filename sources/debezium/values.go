package debezium

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"

	"github.com/tailrace/tailrace/record"
)

// values turns JSON values into PostgreSQL's text. The text lies in the record itself
// where it stands there as it is, else in an arena, where it stays until reset.
type values struct {
	arena []byte
	row   []record.Value
	// tmp and list are for what is made on the way.
	tmp, list []byte
	// early says that a date before the Gregorian calendar was read.
	early bool
}

// reset gives the memory up to be used again.
func (v *values) reset() { v.arena, v.row = v.arena[:0], v.row[:0] }

// tuple returns n NULLs that live until reset.
func (v *values) tuple(n int) record.Tuple {
	start := len(v.row)
	if cap(v.row)-start < n {
		// What has been handed out stays where it is.
		v.row, start = make([]record.Value, 0, max(2*cap(v.row), n, 256)), 0
	}
	v.row = v.row[:start+n]
	t := v.row[start : start+n : start+n]
	clear(t)
	return t
}

// since returns what the arena has grown by.
func (v *values) since(start int) []byte { return v.arena[start:len(v.arena):len(v.arena)] }

// str reads a string.
func (v *values) str(s *scanner) ([]byte, error) {
	raw, escaped, err := s.raw()
	if err != nil || !escaped {
		return raw, err
	}
	start := len(v.arena)
	v.arena, err = unescape(v.arena, raw)
	return v.since(start), err
}

var (
	errKind  = refuse(ErrValue, "the value is of another JSON type than the column's type asks for")
	errRange = refuse(ErrValue, "the value is out of the type's range")
	errForm  = refuse(ErrValue, "the text is not in the form of the type")
)

// read reads the value before the scanner.
func (v *values) read(c *conv, s *scanner) (record.Value, error) {
	if s.peek() == 'n' {
		if !s.literal("null") {
			return record.Value{}, errSyntax
		}
		return record.Value{}, nil
	}
	text, err := v.text(c, s)
	if err != nil {
		return record.Value{}, err
	}
	if c.unavailable != nil && bytes.Equal(text, c.unavailable) {
		// The text is kept: an insert leaves nothing out, so there it is a value.
		return record.Value{Kind: record.Unchanged, Data: text}, nil
	}
	return record.Value{Kind: record.Text, Data: text}, nil
}

// text reads a value that is not null.
func (v *values) text(c *conv, s *scanner) ([]byte, error) {
	if c.code == asAny {
		return v.plainText(s)
	}
	switch first := s.peek(); first {
	case '"':
		return v.ofString(c, s)
	case '{':
		return v.ofObject(c, s)
	case '[':
		return v.ofArray(c, s)
	case 't', 'f':
		return v.ofBool(c, s, first == 't')
	}
	lit, err := s.number()
	if err != nil {
		return nil, err
	}
	return v.ofNumber(c, lit)
}

func (v *values) ofBool(c *conv, s *scanner, yes bool) ([]byte, error) {
	word, text := "false", "f"
	if yes {
		word, text = "true", "t"
	}
	if !s.literal(word) {
		return nil, errSyntax
	}
	switch c.code {
	case asBit:
		text = "0"
		if yes {
			text = "1"
		}
	case asBool:
	default:
		return nil, errKind
	}
	return bits[text[0]], nil
}

// bits are the texts of booleans, so that they need no memory.
var bits = func() (t [128][]byte) {
	for _, c := range "tf01" {
		t[c] = []byte{byte(c)}
	}
	return t
}()

func (v *values) ofString(c *conv, s *scanner) ([]byte, error) {
	text, err := v.str(s)
	if err != nil {
		return nil, err
	}
	switch c.code {
	case asText:
		return checkText(text)
	case asBytes, asBase64Text, asBits, asDecimal:
		return v.ofBytes(c, text)
	case asFloat, asDouble:
		return special(text)
	case asDecimalText:
		return v.decimalText(c, text)
	case asHStore:
		return v.hstoreText(c, text)
	case asISODate, asISOTime, asISOTimestamp, asInstant, asZonedTime, asInterval:
		return v.timeText(c, text)
	}
	return nil, errKind
}

// checkText refuses what no text of PostgreSQL holds.
func checkText(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, refuse(ErrValue, "the text holds a zero byte")
	}
	if bytes.HasPrefix(text, []byte("[Ljava.lang.")) {
		return nil, refuse(ErrAmbiguous, "the connector wrote a Java object's name; arrays of several dimensions "+
			"are lost in Debezium")
	}
	return text, nil
}

// special reads the names of the floats that JSON has no numbers for.
func special(text []byte) ([]byte, error) {
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return text, nil
	}
	return nil, errForm
}

// ofBytes reads values that are bytes.
func (v *values) ofBytes(c *conv, text []byte) (out []byte, err error) {
	switch {
	case c.enc == inHex:
		v.tmp, err = hex.AppendDecode(v.tmp[:0], text)
	case c.enc == inURL && len(text)%4 != 0:
		v.tmp, err = base64.RawURLEncoding.AppendDecode(v.tmp[:0], text)
	case c.enc == inURL:
		v.tmp, err = base64.URLEncoding.AppendDecode(v.tmp[:0], text)
	default:
		v.tmp, err = base64.StdEncoding.AppendDecode(v.tmp[:0], text)
	}
	if err != nil && c.code == asDecimal {
		return nil, refuse(ErrValue, "the decimal is not base64; is decimal.handling.mode string?")
	}
	if err != nil {
		return nil, errForm
	}
	start := len(v.arena)
	switch c.code {
	case asBits:
		if v.arena, err = appendBits(v.arena, v.tmp, c.scale); err != nil {
			return nil, err
		}
	case asDecimal:
		if v.arena, err = appendUnscaled(v.arena, v.tmp, c.scale); err != nil {
			return nil, err
		}
	case asBase64Text:
		v.arena = append(v.arena, v.tmp...)
		return checkText(v.since(start))
	default:
		v.arena = hex.AppendEncode(append(v.arena, `\x`...), v.tmp)
	}
	return v.since(start), nil
}

// appendBits writes a bit string, whose lowest bit comes first, with its last bit in
// the first byte. A varying one (length -1) begins at its highest bit that is set.
func appendBits(dst, src []byte, length int) ([]byte, error) {
	n := len(src) * 8
	for n > 0 && src[(n-1)/8]>>((n-1)%8)&1 == 0 {
		n--
	}
	if length >= 0 {
		if n > length || length > 1<<20 {
			return dst, errRange
		}
		n = length
	}
	for i := n - 1; i >= 0; i-- {
		bit := byte('0')
		if i/8 < len(src) && src[i/8]>>(i%8)&1 == 1 {
			bit = '1'
		}
		dst = append(dst, bit)
	}
	return dst, nil
}

func (v *values) ofNumber(c *conv, lit []byte) ([]byte, error) {
	switch c.code {
	case asInt:
		if !integral(lit) {
			return nil, errKind
		}
		return lit, nil
	case asFloat:
		return v.float(c, lit)
	case asDouble, asDecimal, asDecimalText:
		start := len(v.arena)
		var err error
		scale := c.scale
		if c.code == asDecimalText {
			scale = -1
		}
		v.arena, err = appendPlain(v.arena, lit, scale, c.code == asDouble)
		return v.since(start), err
	case asDate, asTime, asTimestamp, asDuration:
		n, ok := parseInt64(lit)
		if !ok {
			return nil, errKind
		}
		return v.timeNumber(c, n)
	}
	return nil, errKind
}

func integral(lit []byte) bool {
	for i, b := range lit {
		if b-'0' > 9 && (i != 0 || b != '-') {
			return false
		}
	}
	return true
}

// parseInt64 reads an integer; ok is false for other numbers and for larger ones.
func parseInt64(lit []byte) (n int64, ok bool) {
	neg := len(lit) > 0 && lit[0] == '-'
	digits := lit
	if neg {
		digits = lit[1:]
	}
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	var u uint64
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	switch {
	case neg && u <= 1<<63:
		return -int64(u), true
	case neg || u > 1<<63-1:
		return 0, false
	}
	return int64(u), true
}
