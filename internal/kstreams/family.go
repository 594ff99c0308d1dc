package kstreams

import (
	"fmt"
	"slices"
)

// Family is one kind of cases.
type Family struct {
	Name string
	// Make draws a case; its ID is set afterwards.
	Make func(g Gen) *Case
	// Known are the differences that are no bugs of Tailrace's.
	Known []Known
}

// Known is a difference with a reason: a defect of Kafka Streams, or a declared choice.
type Known struct {
	// Name is the name in docs/semantics.md.
	Name string
	// Explains reports whether the difference is this one. It must not hold for any
	// other: where it can, it computes the right result and compares Tailrace's with it.
	Explains func(c *Case, d *Diff, kafka, tailrace *Result) bool
}

var families []*Family

// addFamily registers a family; its result is for a package variable.
func addFamily(f *Family) bool {
	if FamilyNamed(f.Name) != nil {
		panic("kstreams: family " + f.Name + " is added twice")
	}
	families = append(families, f)
	return true
}

// Families are all families, by name.
func Families() []*Family {
	all := slices.Clone(families)
	slices.SortFunc(all, func(a, b *Family) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// FamilyNamed returns a family, nil if there is none of that name.
func FamilyNamed(name string) *Family {
	for _, f := range families {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// Case draws a family's case of a number, from 1, under a seed.
func (f *Family) Case(seed uint64, number int) *Case {
	c := f.Make(newGen(seed, f.Name, number))
	c.ID = int64(number)
	return c
}

// Verdict is what came of one case.
type Verdict struct {
	Case            *Case
	Kafka, Tailrace *Result
	// Diff is nil where both agree, Known the name of the difference that explains it.
	Diff  *Diff
	Known string
}

// Failed says that there is a difference without an explanation.
func (v *Verdict) Failed() bool { return v.Diff != nil && v.Known == "" }

// Outputs counts what Tailrace put out.
func (v *Verdict) Outputs() int {
	n := 0
	for _, step := range v.Tailrace.Steps {
		n += len(step)
	}
	return n
}

// Check runs a case on both and judges the difference.
func (f *Family) Check(o *Oracle, c *Case) (*Verdict, error) {
	v := &Verdict{Case: c}
	var err error
	if v.Kafka, err = o.Run(c); err != nil {
		return nil, err
	}
	if v.Tailrace, err = Run(c, Never); err != nil {
		return nil, err
	}
	if err := sameRestarted(c, v.Tailrace); err != nil {
		return nil, err
	}
	if v.Diff = Compare(c, v.Kafka, v.Tailrace); v.Diff == nil {
		return v, nil
	}
	for _, k := range f.Known {
		if k.Explains(c, v.Diff, v.Kafka, v.Tailrace) {
			v.Known = k.Name
			break
		}
	}
	return v, nil
}

// sameRestarted runs a case with a restart before every record, which must change
// nothing.
func sameRestarted(c *Case, want *Result) error {
	got, err := Run(c, Always)
	if err != nil {
		return err
	}
	if d := Compare(c, want, got); d != nil {
		return fmt.Errorf("kstreams: with restarts %s\n(where Kafka Streams stands for Tailrace without)\n%s",
			d, c)
	}
	return nil
}

// Minimise drops records while the case still fails, and returns the smallest that it
// found.
func (f *Family) Minimise(o *Oracle, v *Verdict) (*Verdict, error) {
	for size := len(v.Case.Records) / 2; size > 0; {
		smaller := false
		for from := 0; from+size <= len(v.Case.Records); {
			c := *v.Case
			c.Records = append(slices.Clone(v.Case.Records[:from]), v.Case.Records[from+size:]...)
			less, err := f.Check(o, &c)
			if err != nil {
				return nil, err
			}
			if less.Failed() {
				v, smaller = less, true
			} else {
				from++
			}
		}
		if !smaller || size > len(v.Case.Records) {
			size /= 2
		}
	}
	return v, nil
}
