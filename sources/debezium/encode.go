package debezium

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
)

// value writes PostgreSQL's text of a value as Debezium does.
func (e *Encoder) value(dst []byte, c *conv, precision int, text []byte) ([]byte, error) {
	switch c.code {
	case asText:
		return serde.AppendJSONString(dst, string(text)), nil
	case asInt:
		if _, err := strconv.ParseInt(string(text), 10, 64); err != nil {
			return dst, errForm
		}
		return append(dst, text...), nil
	case asFloat, asDouble:
		return appendJavaFloat(dst, text, c.wide || c.code == asDouble)
	case asBool, asBit:
		return strconv.AppendBool(dst, string(text) == "t" || string(text) == "1" || string(text) == "true"), nil
	case asBits:
		return e.base64(dst, packBits(text), inBase64), nil
	case asBytes:
		raw, ok := strings.CutPrefix(string(text), `\x`)
		b, err := hex.DecodeString(raw)
		if !ok || err != nil {
			return dst, errForm
		}
		return e.base64(dst, b, c.enc), nil
	case asBase64Text:
		return e.base64(dst, text, c.enc), nil
	case asDecimal, asVariable, asDecimalText:
		return e.decimal(dst, c, text)
	case asArray:
		return e.array(dst, c, precision, text)
	case asHStore, asHStoreMap:
		return e.hstore(dst, c, text)
	case asPoint:
		return e.point(dst, text)
	}
	return e.time(dst, c, precision, text)
}

func (e *Encoder) base64(dst, b []byte, enc encoding) []byte {
	dst = append(dst, '"')
	switch enc {
	case inHex:
		dst = hex.AppendEncode(dst, b)
	case inURL:
		dst = base64.URLEncoding.AppendEncode(dst, b)
	default:
		dst = base64.StdEncoding.AppendEncode(dst, b)
	}
	return append(dst, '"')
}

// packBits makes bytes of a bit string, the last bit first, without zeros at the end.
func packBits(text []byte) []byte {
	out := make([]byte, (len(text)+7)/8)
	for i := range text {
		if text[len(text)-1-i] == '1' {
			out[i/8] |= 1 << (i % 8)
		}
	}
	for len(out) > 0 && out[len(out)-1] == 0 {
		out = out[:len(out)-1]
	}
	return out
}

// appendJavaFloat writes a float as Java does: 1000.0, 1.0E10; what JSON has no number
// for as a string.
func appendJavaFloat(dst, text []byte, wide bool) ([]byte, error) {
	size := 32
	if wide {
		size = 64
	}
	f, err := strconv.ParseFloat(string(text), size)
	switch {
	case err != nil:
		return dst, errForm
	case math.IsNaN(f):
		return append(dst, `"NaN"`...), nil
	case math.IsInf(f, 0):
		return append(dst, map[bool]string{true: `"Infinity"`, false: `"-Infinity"`}[f > 0]...), nil
	}
	abs := math.Abs(f)
	if abs == 0 || abs >= 1e-3 && abs < 1e7 {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, size)
		if !strings.ContainsRune(string(dst[start:]), '.') {
			dst = append(dst, ".0"...)
		}
		return dst, nil
	}
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, size), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exp)
	return strconv.AppendInt(append(append(dst, mantissa...), 'E'), int64(n), 10), nil
}

func (e *Encoder) decimal(dst []byte, c *conv, text []byte) ([]byte, error) {
	s := string(text)
	if c.code == asDecimalText {
		switch s {
		case "NaN":
			s = "NAN"
		case "Infinity":
			s = "POSITIVE_INFINITY"
		case "-Infinity":
			s = "NEGATIVE_INFINITY"
		}
		return serde.AppendJSONString(dst, s), nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	scale := c.scale
	if c.code == asVariable {
		frac = strings.TrimRight(frac, "0")
		scale = len(frac)
	}
	for len(frac) < scale {
		frac += "0"
	}
	if len(frac) > scale {
		return dst, errRange
	}
	n, ok := new(big.Int).SetString(whole+frac, 10)
	if !ok {
		return dst, refuse(ErrValue, "Debezium has no form for NaN and infinity in a precise decimal; use string")
	}
	if c.code == asDecimal {
		return e.base64(dst, twosComplement(n), inBase64), nil
	}
	dst = strconv.AppendInt(append(dst, `{"scale":`...), int64(scale), 10)
	return append(e.base64(append(dst, `,"value":`...), twosComplement(n), inBase64), '}'), nil
}

// twosComplement is Java's BigInteger.toByteArray.
func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := uint(new(big.Int).Not(n).BitLen()/8 + 1)
	return new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), size*8)).FillBytes(make([]byte, size))
}

// array writes a one-dimensional array.
func (e *Encoder) array(dst []byte, c *conv, precision int, text []byte) ([]byte, error) {
	elems, ok := splitArray(text)
	if !ok {
		return dst, refuse(ErrValue, "Debezium has no form for arrays of several dimensions or other bounds")
	}
	dst = append(dst, '[')
	var err error
	for i, el := range elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		if el == nil {
			dst = append(dst, "null"...)
			continue
		}
		if dst, err = e.value(dst, c.elem, precision, el); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// splitArray takes an array's text apart; a NULL is nil.
func splitArray(text []byte) (elems [][]byte, ok bool) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, false
	}
	in := text[1 : len(text)-1]
	for len(in) > 0 {
		el := []byte{}
		if in[0] == '"' {
			i := 1
			for ; i < len(in) && in[i] != '"'; i++ {
				if in[i] == '\\' && i+1 < len(in) {
					i++
				}
				el = append(el, in[i])
			}
			if i >= len(in) {
				return nil, false
			}
			in = in[i+1:]
		} else {
			i := 0
			for i < len(in) && in[i] != ',' {
				if in[i] == '{' {
					return nil, false
				}
				i++
			}
			el, in = in[:i:i], in[i:]
			if string(el) == "NULL" {
				el = nil
			}
		}
		elems = append(elems, el)
		if len(in) > 0 {
			if in[0] != ',' || len(in) == 1 {
				return nil, false
			}
			in = in[1:]
		}
	}
	return elems, true
}

// hstore writes an hstore as a JSON object, in a string or by itself.
func (e *Encoder) hstore(dst []byte, c *conv, text []byte) ([]byte, error) {
	out := []byte{'{'}
	in := string(text)
	quoted := func() (string, bool) {
		if !strings.HasPrefix(in, `"`) {
			return "", false
		}
		var b strings.Builder
		for i := 1; i < len(in); i++ {
			switch in[i] {
			case '\\':
				i++
				if i < len(in) {
					b.WriteByte(in[i])
				}
			case '"':
				in = in[i+1:]
				return b.String(), true
			default:
				b.WriteByte(in[i])
			}
		}
		return "", false
	}
	for in != "" {
		key, ok := quoted()
		if !ok || !strings.HasPrefix(in, "=>") {
			return dst, errForm
		}
		in = in[2:]
		out = append(serde.AppendJSONString(out, key), ':')
		if rest, ok := strings.CutPrefix(in, "NULL"); ok {
			in, out = rest, append(out, "null"...)
		} else {
			value, ok := quoted()
			if !ok {
				return dst, errForm
			}
			out = serde.AppendJSONString(out, value)
		}
		if in = strings.TrimPrefix(in, ", "); in != "" {
			out = append(out, ',')
		}
	}
	out = append(out, '}')
	if c.code == asHStoreMap {
		return append(dst, out...), nil
	}
	return serde.AppendJSONString(dst, string(out)), nil
}

func (e *Encoder) point(dst, text []byte) ([]byte, error) {
	x, y, ok := strings.Cut(strings.Trim(string(text), "()"), ",")
	fx, errX := strconv.ParseFloat(x, 64)
	fy, errY := strconv.ParseFloat(y, 64)
	if !ok || errX != nil || errY != nil {
		return dst, errForm
	}
	wkb := []byte{1, 1, 0, 0, 0}
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(fx))
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(fy))
	dst, _ = appendJavaFloat(append(dst, `{"x":`...), []byte(x), true) // parsed above
	dst, _ = appendJavaFloat(append(dst, `,"y":`...), []byte(y), true)
	return append(e.base64(append(dst, `,"wkb":`...), wkb, inBase64), `,"srid":null}`...), nil
}

// time writes dates, times and intervals.
func (e *Encoder) time(dst []byte, c *conv, precision int, text []byte) ([]byte, error) {
	switch c.code {
	case asDate, asISODate:
		return encodeDate(dst, c, text)
	case asTime, asISOTime:
		t, err := record.ParseTimeOfDay(text)
		if err != nil {
			return dst, errForm
		}
		us := t.SinceMidnight().Microseconds()
		if c.code == asTime {
			if c.scale == nanos {
				return strconv.AppendInt(dst, us*1000, 10), nil
			}
			return strconv.AppendInt(dst, us/(micros/int64(c.scale)), 10), nil
		}
		return append(appendISOClock(append(dst, '"'), us%microsPerDay, -1), `Z"`...), nil
	case asZonedTime:
		t, err := record.ParseTimeTZ(text)
		if err != nil {
			return dst, errForm
		}
		us := t.Local().SinceMidnight().Microseconds() - int64(t.East())*micros
		us = (us%microsPerDay + microsPerDay) % microsPerDay
		return append(appendISOClock(append(dst, '"'), us, -1), `Z"`...), nil
	case asTimestamp, asISOTimestamp:
		return encodeTimestamp(dst, c, text)
	case asInstant:
		return encodeInstant(dst, precision, text)
	case asInterval, asDuration:
		v, err := record.ParseInterval(text)
		if err != nil {
			return dst, errForm
		}
		return encodeInterval(dst, c, v), nil
	}
	return dst, refuse(ErrType, "Debezium has no form for this type")
}

func encodeDate(dst []byte, c *conv, text []byte) ([]byte, error) {
	d, err := record.ParseDate(text)
	if err != nil {
		return dst, errForm
	}
	days, finite := d.Sub(record.Date{})
	n := int64(days) + epochDays
	if !finite {
		n = dateInfinity
		if d == record.DateMinusInfinity {
			n = dateMinusInfinity
		}
	}
	if c.code == asDate {
		return strconv.AppendInt(dst, n, 10), nil
	}
	return append(appendISODate(append(dst, '"'), n), `Z"`...), nil
}

func encodeTimestamp(dst []byte, c *conv, text []byte) ([]byte, error) {
	t, err := record.ParseTimestamp(text)
	if err != nil {
		return dst, errForm
	}
	us, finite := t.Sub(record.Timestamp{})
	switch {
	case finite && us > math.MaxInt64-epochMicros:
		return dst, errRange
	case finite:
		us += epochMicros
	case t == record.TimestampInfinity:
		us = stampInfinity
	default:
		us = stampMinusInfinity
	}
	switch {
	case c.code == asISOTimestamp:
		dst = append(appendISODate(append(dst, '"'), floorDiv(us, microsPerDay)), 'T')
		return append(appendISOClock(dst, us-floorDiv(us, microsPerDay)*microsPerDay, -1), `Z"`...), nil
	case c.scale == micros:
		return strconv.AppendInt(dst, us, 10), nil
	case c.scale == millis:
		return strconv.AppendInt(dst, floorDiv(us, 1000), 10), nil
	case t == record.TimestampInfinity:
		return strconv.AppendInt(dst, math.MaxInt64, 10), nil
	case t == record.TimestampMinusInfinity:
		return strconv.AppendInt(dst, math.MinInt64, 10), nil
	case us > math.MaxInt64/1000 || us < math.MinInt64/1000:
		return dst, refuse(ErrValue, "the timestamp does not fit into nanoseconds")
	}
	return strconv.AppendInt(dst, us*1000, 10), nil
}

func encodeInstant(dst []byte, precision int, text []byte) ([]byte, error) {
	var t record.Instant
	if err := t.UnmarshalText(text); err != nil {
		return dst, errForm
	}
	if t.IsInfinite() {
		return append(append(append(dst, '"'), text...), '"'), nil
	}
	us, _ := t.Sub(record.Instant{})
	if us > math.MaxInt64-epochMicros {
		return dst, errRange
	}
	us += epochMicros
	day := floorDiv(us, microsPerDay)
	dst = append(appendISODate(append(dst, '"'), day), 'T')
	return append(appendISOClock(dst, us-day*microsPerDay, precision), `Z"`...), nil
}

// appendISODate writes YYYY-MM-DD with an astronomical year, as Java does.
func appendISODate(dst []byte, days int64) []byte {
	year, month, day := civil(days)
	if year < 0 {
		dst, year = append(dst, '-'), -year
	} else if year > 9999 {
		dst = append(dst, '+')
	}
	dst = appendPadded(dst, year, 4)
	dst = appendPadded(append(dst, '-'), month, 2)
	return appendPadded(append(dst, '-'), day, 2)
}

// civil is the inverse of daysOf.
func civil(days int64) (year, month, day int64) {
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day, month, year = doy-(153*mp+2)/5+1, mp+3, yoe+era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	return year, month, day
}

func appendPadded(dst []byte, n int64, width int) []byte {
	digits := strconv.Itoa(int(n))
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// appendISOClock writes hh:mm:ss with that many digits of a fraction, with -1 as many as
// are needed.
func appendISOClock(dst []byte, us int64, digits int) []byte {
	dst = appendPadded(dst, us/3600/micros, 2)
	dst = appendPadded(append(dst, ':'), us/60/micros%60, 2)
	dst = appendPadded(append(dst, ':'), us/micros%60, 2)
	frac := string(appendPadded(nil, us%micros, 6))
	if digits < 0 {
		frac = strings.TrimRight(frac, "0")
	} else {
		frac = frac[:min(digits, 6)]
	}
	if frac == "" {
		return dst
	}
	return append(append(dst, '.'), frac...)
}

func encodeInterval(dst []byte, c *conv, v record.Interval) []byte {
	if c.code == asDuration {
		// 30.4375 days of 86,400 seconds a month.
		us := int64(v.Months)*2_629_800*micros + int64(v.Days)*microsPerDay + v.Micros
		return strconv.AppendInt(dst, us, 10)
	}
	part := func(n int64, unit byte) {
		dst = append(strconv.AppendInt(dst, n, 10), unit)
	}
	dst = append(dst, `"P`...)
	part(int64(v.Months/12), 'Y')
	part(int64(v.Months%12), 'M')
	part(int64(v.Days), 'D')
	dst = append(dst, 'T')
	part(v.Micros/3600/micros, 'H')
	part(v.Micros/60/micros%60, 'M')
	seconds := v.Micros % (60 * micros)
	if seconds < 0 {
		dst, seconds = append(dst, '-'), -seconds
	}
	dst = strconv.AppendInt(dst, seconds/micros, 10)
	if frac := strings.TrimRight(string(appendPadded(nil, seconds%micros, 6)), "0"); frac != "" {
		dst = append(append(dst, '.'), frac...)
	}
	return append(dst, `S"`...)
}
