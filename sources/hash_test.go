package sources_test

import (
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// building makes a source node in a topology.
type building func(*topology.Builder, *sources.Database) *topology.Node

// Types of one name that map other columns: what a changed tag looks like to the next
// release of an app.
func amounts() (building, reading) {
	type row struct {
		Amount int64 `db:"amount"`
	}
	type key struct {
		ID int64 `db:"id"`
	}
	return tableOf[key, row], streamOf[int64, row]
}

func totals() (building, reading) {
	type row struct {
		Amount int64 `db:"total"`
	}
	type key struct {
		ID int64 `db:"id"`
	}
	return tableOf[key, row], streamOf[int64, row]
}

func otherKey() (building, reading) {
	type row struct {
		Amount int64 `db:"amount"`
	}
	type key struct {
		ID int64 `db:"number"`
	}
	return tableOf[key, row], streamOf[key, row]
}

type reading func(snapshot, outbox bool) building

func tableOf[K comparable, V any](b *topology.Builder, db *sources.Database) *topology.Node {
	t := sources.Table[K, V](b, db, "public.t")
	sinks.View(t, "v")
	return t.Node()
}

func streamOf[K comparable, V any](snapshot, outbox bool) building {
	return func(b *topology.Builder, db *sources.Database) *topology.Node {
		var s topology.Stream[K, V]
		switch {
		case outbox:
			s = sources.Outbox[K, V](b, db, "public.t")
		case snapshot:
			s = sources.Stream[K, V](b, db, "public.t", sources.WithSnapshot[V]())
		default:
			s = sources.Stream[K, V](b, db, "public.t")
		}
		sinks.View(operators.ToTable("rows", s), "v")
		return s.Node()
	}
}

// TestHashFollowsWhatIsRead: what a source node reads of a table is part of its hash, so
// that a change rebuilds the state instead of mixing old values with new ones.
func TestHashFollowsWhatIsRead(t *testing.T) {
	hash := func(build building) uint64 {
		b := topology.New("t")
		n := build(b, sources.NewDatabase("shop", nil))
		if _, err := b.Build(); err != nil {
			t.Fatal(err)
		}
		return n.Hash()
	}
	amountTable, amountStream := amounts()
	totalTable, totalStream := totals()
	keyTable, keyStream := otherKey()
	same := map[string]uint64{
		"a table": hash(amountTable), "a table with another column": hash(totalTable),
		"a table with another key":   hash(keyTable),
		"a stream":                   hash(amountStream(false, false)),
		"a stream of another column": hash(totalStream(false, false)),
		"a stream with another key":  hash(keyStream(false, false)),
		"a stream with a snapshot":   hash(amountStream(true, false)), "an outbox": hash(amountStream(true, true)),
	}
	seen := map[uint64]string{}
	for name, h := range same {
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[h] = name
	}
	again, _ := amounts()
	if hash(amountTable) != hash(again) {
		t.Error("a hash changes by itself")
	}
}
