package kstreams

import (
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Text is a key or a value that may be null.
type Text = sql.Null[string]

func text(s string) Text { return Text{V: s, Valid: true} }

// print shows a text as Java's string concatenation does.
func printed(t Text) string {
	if !t.Valid {
		return "null"
	}
	return t.V
}

// The functions below are those of Functions.java under the same names. A name that
// is not known panics: a mistake in a family.

func test(name string, key, value Text) bool {
	switch name {
	case "all":
		return true
	case "none":
		return false
	case "has-value":
		return value.Valid
	case "key-a":
		return key == text("a")
	case "starts-b":
		return strings.HasPrefix(value.V, "b")
	case "not-a":
		return !strings.HasPrefix(value.V, "a")
	case "even":
		return number(value)%2 == 0
	}
	panic(unknown("predicate", name))
}

func valueOf(name string, key, value Text) Text {
	switch name {
	case "same":
		return value
	case "upper":
		value.V = strings.ToUpper(value.V)
		return value
	case "first":
		return first(value)
	case "with-key":
		return text(printed(key) + ":" + printed(value))
	case "half":
		return text(strconv.FormatInt(number(value)/2, 10))
	case "null-b":
		if strings.HasPrefix(value.V, "b") {
			return Text{}
		}
		return value
	}
	panic(unknown("value function", name))
}

func keyOf(name string, key, value Text) Text {
	switch name {
	case "key":
		return key
	case "first":
		return first(value)
	case "value":
		return value
	case "ref":
		return reference(value)
	case "ref2":
		return secondReference(value)
	case "number":
		if !value.Valid {
			return Text{}
		}
		return text(strconv.FormatInt(number(value), 10))
	case "one":
		return text("1")
	case "pair":
		return text(printed(key) + printed(first(value)))
	}
	panic(unknown("key function", name))
}

func flat(name string, key, value Text, emit func(key, value Text)) {
	switch name {
	case "none":
	case "twice":
		emit(key, text(printed(value)+"1"))
		emit(key, text(printed(value)+"2"))
	case "swap":
		emit(first(value), text(printed(key)+printed(value)))
	case "chars":
		for i := range value.V {
			emit(text(value.V[i:i+1]), value)
		}
	default:
		panic(unknown("flat function", name))
	}
}

func joined(left, right Text) Text { return text(printed(left) + "-" + printed(right)) }

func initial(name string) string {
	if name == "count" || name == "sum" {
		return "0"
	}
	return ""
}

func add(name, agg string, value Text) string {
	switch name {
	case "count":
		return plus(agg, 1)
	case "sum":
		return plus(agg, number(value))
	case "concat":
		if agg == "" {
			return printed(value)
		}
		return agg + "+" + printed(value)
	case "sorted":
		return sorted(agg, printed(value), true)
	case "last":
		return printed(value)
	}
	panic(unknown("aggregator", name))
}

func remove(name, agg string, value Text) string {
	switch name {
	case "count":
		return plus(agg, -1)
	case "sum":
		return plus(agg, -number(value))
	case "sorted":
		return sorted(agg, printed(value), false)
	}
	panic(unknown("aggregator that removes", name))
}

// merged puts two aggregates together, as sessions do.
func merged(name, one, two string) string {
	switch name {
	case "count", "sum":
		n, err := strconv.ParseInt(two, 10, 64)
		if err != nil {
			panic(err)
		}
		return plus(one, n)
	case "concat":
		switch {
		case one == "":
			return two
		case two == "":
			return one
		}
		return one + "+" + two
	case "sorted":
		for _, v := range strings.Split(two, "+") {
			if two != "" {
				one = sorted(one, v, true)
			}
		}
		return one
	}
	panic(unknown("aggregator that merges", name))
}

func plus(agg string, n int64) string {
	a, err := strconv.ParseInt(agg, 10, 64)
	if err != nil {
		panic(err)
	}
	return strconv.FormatInt(a+n, 10)
}

func sorted(agg, value string, add bool) string {
	var values []string
	if agg != "" {
		values = strings.Split(agg, "+")
	}
	if add {
		values = append(values, value)
	} else if i := slices.Index(values, value); i >= 0 {
		values = slices.Delete(values, i, i+1)
	}
	slices.Sort(values)
	return strings.Join(values, "+")
}

func first(value Text) Text {
	if value.V == "" {
		return Text{}
	}
	return text(value.V[:1])
}

// reference is the foreign key of a value such as x/rest; null where it begins with
// the slash or has none.
func reference(value Text) Text {
	ref, _, ok := strings.Cut(value.V, "/")
	if !ok || ref == "" {
		return Text{}
	}
	return text(ref)
}

// secondReference is the foreign key behind the slash of a value such as x/y-rest.
func secondReference(value Text) Text {
	_, rest, _ := strings.Cut(value.V, "/")
	if rest, _, _ = strings.Cut(rest, "-"); rest == "" {
		return Text{}
	}
	return text(rest)
}

// number reads the digits of a value as a number.
func number(value Text) int64 {
	n := int64(0)
	for _, c := range []byte(value.V) {
		if c >= '0' && c <= '9' {
			n = (n*10 + int64(c-'0')) % 1_000_000_007
		}
	}
	return n
}

func unknown(what, name string) error {
	return fmt.Errorf("kstreams: no %s is called %q", what, name)
}
