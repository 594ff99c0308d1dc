package kstreams

import (
	"math"
	"slices"
)

// deletionForgotten is a defect of Kafka Streams' versioned tables: of a deletion that
// has the time of the row that it deletes nothing is kept but the end of an older
// version, if there is one. A row that comes later and is older then counts as the
// newest. It holds where the right rows over plain tables give Tailrace's result and
// the rows with the defect that of Kafka Streams.
var deletionForgotten = Known{
	Name: "deletion forgotten",
	Explains: func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		return sameAsPlain(c, tailrace, false) && sameAsPlain(c, kafka, true)
	},
}

// sameAsPlain reports whether a result is that of tables without history which get only
// the rows that are the newest of their keys when they come.
func sameAsPlain(c *Case, r *Result, forgets bool) bool {
	plain := *c
	plain.Nodes, plain.Records = slices.Clone(c.Nodes), slices.Clone(c.Records)
	for i := range plain.Nodes {
		n := &plain.Nodes[i]
		if n.History == 0 {
			continue
		}
		t := versionedTable{history: n.History, forgets: forgets, keys: map[string]newest{}}
		n.History = 0
		for j := range plain.Records {
			if in := &plain.Records[j]; in.Topic == n.Topic && in.Key != nil && !t.put(in) {
				in.Key = nil // a table takes no such record
			}
		}
	}
	want, err := Run(&plain, Never)
	return err == nil && sameValues(c, want, r)
}

// versionedTable is a model of which rows of a table with history are the newest.
type versionedTable struct {
	history int64
	forgets bool
	time    int64
	keys    map[string]newest
}

// newest says from when on a row of a key is the newest one.
type newest struct {
	live bool
	// at is the time of the row that there is; end the largest time at which a version
	// ended that is in the history.
	at, end int64
}

func (n newest) time() int64 {
	if n.live {
		return n.at
	}
	return n.end
}

// put takes a row and reports whether it is the newest of its key.
func (t *versionedTable) put(in *Input) bool {
	if len(t.keys) == 0 {
		t.time = in.TS
	}
	t.time = max(t.time, in.TS)
	if in.TS < t.time-t.history {
		return false
	}
	n, ok := t.keys[*in.Key]
	if !ok {
		n = newest{at: math.MinInt64, end: math.MinInt64}
	}
	is := in.TS >= n.time()
	switch {
	case !is && n.live && in.TS >= n.end:
		n.end = n.at // the late row ends where the newest begins
	case is && (!n.live && in.Value == nil || n.live && in.TS > n.at || !t.forgets && in.Value == nil):
		n.end = in.TS
	}
	if is {
		n.live, n.at = in.Value != nil, in.TS
	}
	t.keys[*in.Key] = n
	return is
}
