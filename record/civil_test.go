package record

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	// The tests need a zone with summer time on any machine.
	_ "time/tzdata"
)

// TestCalendarAgreesWithPackageTime compares the calendar with another one.
func TestCalendarAgreesWithPackageTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	check := func(days int64) {
		t.Helper()
		y, m, d := civilOf(days)
		at := time.Unix((days+epochDays)*86400, 0).UTC()
		if int64(at.Year()) != y || int(at.Month()) != m || at.Day() != d {
			t.Fatalf("day %d is %d-%d-%d, package time says %v", days, y, m, d, at)
		}
		if back := daysOf(y, m, d); back != days {
			t.Fatalf("%d-%d-%d is day %d, not %d", y, m, d, back, days)
		}
		if !validDay(y, m, d) || validDay(y, m, 32) {
			t.Fatalf("%d-%d-%d: validDay is wrong", y, m, d)
		}
	}
	for days := int64(-200_000); days < 200_000; days++ {
		check(days)
	}
	for range 100_000 {
		check(minDays + r.Int64N(endDays-minDays))
	}
}

func TestTimestampAndTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 3, 31, 1, 59, 59, 123456789, berlin)
	civil := TimestampOf(at)
	if got, want := civil.String(), "2024-03-31 01:59:59.123456"; got != want {
		t.Errorf("civil time %s, want %s", got, want)
	}
	back, err := civil.In(berlin)
	if want := at.Truncate(time.Microsecond); err != nil || !back.Equal(want) {
		t.Errorf("back in Berlin: %v, %v, want %v", back, err, want)
	}
	if got, want := InstantOf(at).String(), "2024-03-31 00:59:59.123456+00"; got != want {
		t.Errorf("instant %s, want %s", got, want)
	}
	if got := civil.Date().String(); got != "2024-03-31" {
		t.Errorf("date %s", got)
	}
	if got := DateOf(time.Date(-43, 3, 15, 0, 0, 0, 0, time.UTC)).String(); got != "0044-03-15 BC" {
		t.Errorf("the ides of March are %s", got)
	}
	before, err := InstantOf(time.Unix(-1, 999_999_999)).Time()
	if err != nil || before != time.Unix(-1, 999_999_000).UTC() {
		t.Errorf("just before 1970: %v, %v", before, err)
	}
}

// TestZones reads instants as a session with another time zone would write them.
func TestZones(t *testing.T) {
	for text, want := range map[string]string{
		"2024-01-01 00:00:00+05:30":          "2023-12-31 18:30:00+00",
		"2024-01-01 00:00:00-07:52:58":       "2024-01-01 07:52:58+00",
		"2024-01-01T00:00:00Z":               "2024-01-01 00:00:00+00",
		"0001-01-01 00:30:00+01":             "0001-12-31 23:30:00+00 BC",
		"0001-12-31 23:30:00-01 BC":          "0001-01-01 00:30:00+00",
		"294276-12-31 23:59:59.999999+00":    "294276-12-31 23:59:59.999999+00",
		"294277-01-01 00:30:00.5+01":         "294276-12-31 23:30:00.5+00",
		"4714-11-23 23:30:00-01 BC":          "4714-11-24 00:30:00+00 BC",
		"2024-02-28 24:00:00+00":             "2024-02-29 00:00:00+00",
		"2024-02-29 12:00:00.000001+00:00:1": "",
	} {
		at, err := ParseInstant(text)
		if want == "" {
			if !errors.Is(err, ErrSyntax) {
				t.Errorf("%s: %v, want a syntax error", text, err)
			}
		} else if err != nil || at.String() != want {
			t.Errorf("%s is %s, %v, want %s", text, at, err, want)
		}
	}
}

func TestInfinitiesOfTimes(t *testing.T) {
	if _, err := InstantInfinity.Time(); !errors.Is(err, ErrInfinite) {
		t.Errorf("Time of infinity: %v", err)
	}
	if _, err := TimestampMinusInfinity.In(time.UTC); !errors.Is(err, ErrInfinite) {
		t.Errorf("In of -infinity: %v", err)
	}
	if d := TimestampInfinity.Date(); d != DateInfinity {
		t.Errorf("date of infinity: %s", d)
	}
	last := Timestamp{endStamp - 1}
	if got := last.AddMicros(1); got != TimestampInfinity {
		t.Errorf("behind the last timestamp: %s", got)
	}
	if got := (Timestamp{minStamp}).AddMicros(-1); got != TimestampMinusInfinity {
		t.Errorf("before the first timestamp: %s", got)
	}
	if got := last.AddMicros(1 << 62); got != TimestampInfinity {
		t.Errorf("far behind the last timestamp: %s", got)
	}
	if got := TimestampInfinity.AddMicros(-1); got != TimestampInfinity {
		t.Errorf("infinity - 1: %s", got)
	}
	if _, ok := DateInfinity.Sub(Date{}); ok {
		t.Error("infinity minus a date is a number")
	}
	if got := (Date{}).AddDays(-3_000_000); got != DateMinusInfinity {
		t.Errorf("3,000,000 days before 2000: %s", got)
	}
	if n, ok := (Date{}).AddDays(31).Sub(Date{}); n != 31 || !ok {
		t.Errorf("31 days are %d", n)
	}
}

// TestTimesRefuse has texts that look nearly right.
func TestTimesRefuse(t *testing.T) {
	for _, c := range []struct {
		text  string
		parse func(string) error
		want  error
	}{
		{"2023-02-29", parseWith[Date], ErrSyntax},
		{"2100-02-29", parseWith[Date], ErrSyntax},
		{"2024-13-01", parseWith[Date], ErrSyntax},
		{"2024-00-01", parseWith[Date], ErrSyntax},
		{"2024-1-1", parseWith[Date], ErrSyntax},
		{"24-01-01", parseWith[Date], ErrSyntax},
		{"0000-01-01", parseWith[Date], ErrSyntax},
		{"2024-01-01 AD", parseWith[Date], ErrSyntax},
		{"2024-01-01BC", parseWith[Date], ErrSyntax},
		{"4714-11-23 BC", parseWith[Date], ErrRange},
		{"5874898-06-04", parseWith[Date], ErrRange},
		{"9999999-01-01", parseWith[Date], ErrRange},
		{"99999999-01-01", parseWith[Date], ErrSyntax},
		{"", parseWith[Date], ErrSyntax},
		{"2024-01-01", parseWith[Timestamp], ErrSyntax},
		{"2024-01-01 00:00:00+00", parseWith[Timestamp], ErrSyntax},
		{"2024-01-01 24:00:01", parseWith[Timestamp], ErrSyntax},
		{"2024-01-01 00:60:00", parseWith[Timestamp], ErrSyntax},
		{"2024-01-01 00:00:00.", parseWith[Timestamp], ErrSyntax},
		{"2024-01-01 00:00:00.1234567", parseWith[Timestamp], ErrSyntax},
		{"294277-01-01 00:00:00", parseWith[Timestamp], ErrRange},
		{"4714-11-23 23:59:59 BC", parseWith[Timestamp], ErrRange},
		{"5874897-01-01 00:00:00", parseWith[Timestamp], ErrRange},
		{"2024-01-01 00:00:00", parseWith[Instant], ErrSyntax},
		{"2024-01-01 00:00:00+16", parseWith[Instant], ErrSyntax},
		{"2024-01-01 00:00:00+0", parseWith[Instant], ErrSyntax},
		{"2024-01-01 00:00:00+00:60", parseWith[Instant], ErrSyntax},
		{"294276-12-31 23:59:59-01", parseWith[Instant], ErrRange},
		{"24:00:00.000001", parseWith[TimeOfDay], ErrSyntax},
		{"25:00:00", parseWith[TimeOfDay], ErrSyntax},
		{"00:00", parseWith[TimeOfDay], ErrSyntax},
		{"00:00:00 ", parseWith[TimeOfDay], ErrSyntax},
		{"00:00:00", parseWith[TimeTZ], ErrSyntax},
		{"00:00:00+00:00:60", parseWith[TimeTZ], ErrSyntax},
		{"1 day 1 year", parseWith[Interval], ErrSyntax},
		{"1 day ", parseWith[Interval], ErrSyntax},
		{"1", parseWith[Interval], ErrSyntax},
		{"", parseWith[Interval], ErrSyntax},
		{"1 fortnight", parseWith[Interval], ErrSyntax},
		{"00:00:00 1 day", parseWith[Interval], ErrSyntax},
		{"2562047788:00:54.775808", parseWith[Interval], ErrRange},
		{"9999999999:00:00", parseWith[Interval], ErrRange},
		{"9999999999 years", parseWith[Interval], ErrRange},
	} {
		if err := c.parse(c.text); !errors.Is(err, c.want) {
			t.Errorf("%T %q: %v, want %v", c.parse, c.text, err, c.want)
		}
	}
}

func parseWith[T any, P interface {
	*T
	UnmarshalText([]byte) error
}](text string) error {
	var v T
	return P(&v).UnmarshalText([]byte(text))
}

// TestIntervalLimits has values that old versions of PostgreSQL print but do not
// read, and the infinities of version 17.
func TestIntervalLimits(t *testing.T) {
	for text, want := range map[string]Interval{
		"2562047788:00:54.775807":  {Micros: 1<<63 - 1},
		"-2562047788:00:54.775808": {Micros: -1 << 63},
		"infinity":                 IntervalInfinity,
		"-infinity":                IntervalMinusInfinity,
		"-178956970 years -8 mons": {Months: -1 << 31},
		"00:00:00":                 {},
	} {
		v, err := ParseInterval(text)
		if err != nil || v != want || v.String() != text {
			t.Errorf("%s is %#v, %v, and prints as %s", text, v, err, v)
		}
	}
}
