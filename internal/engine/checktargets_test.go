package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/sinks"
)

// A target that is wrong ends a start before a source is opened, which would make a slot, or
// state is dropped; the next start, with the target put right, goes on. Where nothing begins
// anew it is not asked.
func TestTargetsAreCheckedFirst(t *testing.T) {
	wrong := fmt.Errorf("%w: by a test", sinks.ErrTargetSchema)
	b := newBench(t, asEvents)
	asked := 0
	check := func(err error) {
		b.target.check = func(sinks.OpenRequest) error {
			asked++
			return err
		}
	}
	check(wrong)
	if err := b.run(nil); !errors.Is(err, wrong) || len(b.source.opens) > 0 {
		t.Fatalf("got %v, and the source was opened %d times", err, len(b.source.opens))
	}
	check(nil)
	b.twoEvents()
	before := b.content()
	opens := len(b.source.opens)
	check(wrong)
	b.version++
	if err := b.run(nil); !errors.Is(err, wrong) || len(b.source.opens) != opens {
		t.Fatalf("got %v, and the source was opened %d times", err, len(b.source.opens)-opens)
	}
	if got := b.content(); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("the directory holds\n%v, and before\n%v", got, before)
	}
	b.version--
	asked = 0
	b.source.tx(false, 4)
	if err := b.run(func(*Engine) {
		if ev := wait(t, b.target.taken).event; string(ev.Key) != "4" || ev.Replayed {
			t.Errorf("got %+v", ev)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if asked != 0 {
		t.Errorf("a start that goes on has asked %d times", asked)
	}
}

// A target that is down keeps no app from its first start.
func TestTargetDownWhenItIsChecked(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	b.target.check = func(sinks.OpenRequest) error { return errDown }
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
}

// A target that is the source is known when the source's system is, ahead of all that is made.
func TestTargetIsCheckedAgainstItsSource(t *testing.T) {
	b := newBench(t, asTable)
	own := []sinks.SourceTable{{System: "scripted", Name: "public.items"}}
	b.target.check = func(req sinks.OpenRequest) error {
		if slices.Equal(req.Outputs[0].Reads, own) {
			return sinks.ErrTargetSchema
		}
		return nil
	}
	if err := b.run(nil); !errors.Is(err, sinks.ErrTargetSchema) {
		t.Fatalf("got %v", err)
	}
	if n := len(b.source.opens); n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
}
