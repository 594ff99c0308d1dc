package record

// The calendar arithmetic that the civil types share: the proleptic Gregorian
// calendar with astronomical years (1 BC is year 0), days counted from
// 2000-01-01 and microseconds from its midnight, as PostgreSQL counts them. Its
// epoch is needed: counted from 1970, PostgreSQL's last 35 years do not fit into
// 64 bits.

const (
	microsPerSecond = 1_000_000
	microsPerMinute = 60 * microsPerSecond
	microsPerHour   = 60 * microsPerMinute
	microsPerDay    = 24 * microsPerHour

	// epochDays and epochMicros lead from PostgreSQL's epoch to Unix time.
	epochDays   = 10957
	epochMicros = epochDays * microsPerDay

	// The range of PostgreSQL's timestamps: 4714-11-24 BC up to, but not
	// including, 294277-01-01.
	minStamp = -211_813_488_000_000_000
	endStamp = 9_223_371_331_200_000_000

	// The range of PostgreSQL's dates: 4714-11-24 BC up to, but not including,
	// 5874898-06-04.
	minDays = -2_451_545
	endDays = 2_145_031_949
)

// daysOf returns the days from 2000-01-01 to a date of the civil calendar.
func daysOf(year int64, month, day int) int64 {
	if month <= 2 {
		year--
	}
	era := floorDiv(year, 400)
	yearOfEra := year - era*400
	dayOfYear := int64((153*((month+9)%12)+2)/5 + day - 1)
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468 - epochDays
}

// civilOf is the inverse of daysOf.
func civilOf(days int64) (year int64, month, day int) {
	z := days + 719468 + epochDays
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy-(153*mp+2)/5) + 1
	month = int(mp) + 3
	year = yoe + era*400
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

var monthDays = [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func validDay(year int64, month, day int) bool {
	if month < 1 || month > 12 || day < 1 || day > monthDays[month] {
		return false
	}
	return month != 2 || day < 29 || year%4 == 0 && (year%100 != 0 || year%400 == 0)
}

// scanner reads the fixed forms of dates and times. A method that does not find
// what it looks for sets bad; the caller looks at it once, at the end.
type scanner struct {
	src []byte
	at  int
	bad bool
}

// two reads exactly two digits.
func (s *scanner) two() int {
	if s.at+2 > len(s.src) {
		s.bad = true
		return 0
	}
	a, b := s.src[s.at]-'0', s.src[s.at+1]-'0'
	if a > 9 || b > 9 {
		s.bad = true
	}
	s.at += 2
	return int(a)*10 + int(b)
}

// expect reads one character.
func (s *scanner) expect(c byte) {
	if !s.accept(c) {
		s.bad = true
	}
}

// accept reads one character if it is there.
func (s *scanner) accept(c byte) bool {
	if s.at < len(s.src) && s.src[s.at] == c {
		s.at++
		return true
	}
	return false
}

// date reads YYYY-MM-DD with a year of four to seven digits.
func (s *scanner) date() (year int64, month, day int) {
	start := s.at
	for s.at < len(s.src) && s.src[s.at]-'0' <= 9 && s.at-start < 8 {
		year = year*10 + int64(s.src[s.at]-'0')
		s.at++
	}
	if n := s.at - start; n < 4 || n > 7 {
		s.bad = true
	}
	s.expect('-')
	month = s.two()
	s.expect('-')
	day = s.two()
	return year, month, day
}

// clock reads HH:MM:SS with up to six digits of a fraction, as microseconds.
// Hours may be 24 only in 24:00:00.
func (s *scanner) clock() int64 {
	h := s.two()
	s.expect(':')
	m := s.two()
	s.expect(':')
	sec := s.two()
	us := int64(h)*microsPerHour + int64(m)*microsPerMinute + int64(sec)*microsPerSecond
	if m > 59 || sec > 59 {
		s.bad = true
	}
	if s.accept('.') {
		start, unit := s.at, int64(microsPerSecond)
		for s.at < len(s.src) && s.src[s.at]-'0' <= 9 {
			unit /= 10
			us += int64(s.src[s.at]-'0') * unit
			s.at++
		}
		if n := s.at - start; n < 1 || n > 6 {
			s.bad = true
		}
	}
	if us > microsPerDay {
		s.bad = true
	}
	return us
}

// zone reads Z or +HH[:MM[:SS]], as seconds east of Greenwich.
func (s *scanner) zone() int64 {
	if s.accept('Z') {
		return 0
	}
	west := s.accept('-')
	if !west {
		s.expect('+')
	}
	sec := int64(s.two()) * 3600
	if s.accept(':') {
		m := s.two()
		sec += int64(m) * 60
		if s.accept(':') {
			n := s.two()
			sec += int64(n)
			s.bad = s.bad || n > 59
		}
		s.bad = s.bad || m > 59
	}
	if sec >= 16*3600 {
		s.bad = true
	}
	if west {
		return -sec
	}
	return sec
}

// era reads an optional " BC" and returns the astronomical year.
func (s *scanner) era(year int64) int64 {
	if s.at == len(s.src) {
		s.bad = s.bad || year == 0
		return year
	}
	if string(s.src[s.at:]) != " BC" || year == 0 {
		s.bad = true
		return year
	}
	s.at = len(s.src)
	return 1 - year
}

// parseStamp reads a timestamp with or without a zone.
func parseStamp(src []byte, zoned bool) (int64, error) {
	s := scanner{src: src}
	year, month, day := s.date()
	if !s.accept(' ') {
		s.expect('T')
	}
	us := s.clock()
	if zoned && !s.bad {
		us -= s.zone() * microsPerSecond
	}
	year = s.era(year)
	if s.bad || !validDay(year, month, day) {
		return 0, ErrSyntax
	}
	days := daysOf(year, month, day)
	// A day of room at both ends is for the zone and for 24:00:00; further out the
	// multiplication would overflow.
	if days < minStamp/microsPerDay-1 || days > endStamp/microsPerDay+1 {
		return 0, ErrRange
	}
	stamp := days*microsPerDay + us
	if stamp < minStamp || stamp >= endStamp {
		return 0, ErrRange
	}
	return stamp, nil
}

// appendStamp writes a finite timestamp, with what stands between date and time
// and with a zone.
func appendStamp(dst []byte, stamp int64, sep byte, zone string) []byte {
	days := floorDiv(stamp, microsPerDay)
	year, month, day := civilOf(days)
	dst = appendYMD(dst, year, month, day)
	dst = append(dst, sep)
	dst = appendClock(dst, stamp-days*microsPerDay)
	dst = append(dst, zone...)
	return appendEra(dst, year)
}

func appendYMD(dst []byte, year int64, month, day int) []byte {
	if year <= 0 {
		year = 1 - year
	}
	if year > 9999 {
		dst = appendUint(dst, uint64(year))
	} else {
		dst = appendTwo(appendTwo(dst, int(year/100)), int(year%100))
	}
	dst = appendTwo(append(dst, '-'), month)
	return appendTwo(append(dst, '-'), day)
}

func appendEra(dst []byte, year int64) []byte {
	if year <= 0 {
		return append(dst, " BC"...)
	}
	return dst
}

// appendClock writes HH:MM:SS with the digits of the fraction that are needed.
func appendClock(dst []byte, us int64) []byte {
	dst = appendTwo(dst, int(us/microsPerHour))
	dst = appendTwo(append(dst, ':'), int(us/microsPerMinute%60))
	dst = appendTwo(append(dst, ':'), int(us/microsPerSecond%60))
	return appendFraction(dst, us%microsPerSecond)
}

func appendFraction(dst []byte, us int64) []byte {
	if us == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int64(microsPerSecond / 10); us > 0; unit /= 10 {
		dst = append(dst, byte('0'+us/unit))
		us %= unit
	}
	return dst
}

func appendTwo(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

func appendUint(dst []byte, n uint64) []byte {
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = byte('0' + n%10)
		n /= 10
		if n == 0 {
			return append(dst, buf[i:]...)
		}
	}
}
