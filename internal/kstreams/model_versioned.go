package kstreams

import (
	"math"
	"slices"
	"strings"
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

// deletionForgottenAsOf is the same defect where a stream is joined: nothing is left of the
// row either. It holds where Tailrace gives Kafka Streams' result if from then on the key is
// another one, or, where records wait, if neither the row nor its deletion had been there.
var deletionForgottenAsOf = Known{
	Name: "deletion forgotten",
	Explains: func(c *Case, _ *Diff, kafka, _ *Result) bool {
		for _, forget := range []func(records []Input, deletion int){useAnotherKey, leaveOut} {
			if want, err := Run(forgetting(c, forget), Never); err == nil {
				for _, step := range want.Steps {
					for i := range step {
						if k := step[i].Key; k != nil {
							step[i].Key = pointer(strings.TrimRight(*k, anew))
						}
					}
				}
				if sameValues(c, want, kafka) {
					return true
				}
			}
		}
		return false
	},
}

// forgetting applies forget to a case at each deletion of a row of a table with history at the
// row's own time, unless an older version ended then.
func forgetting(c *Case, forget func(records []Input, deletion int)) *Case {
	other := *c
	other.Records = slices.Clone(c.Records)
	for _, n := range c.Nodes {
		if n.History == 0 {
			continue
		}
		t := versionedTable{history: n.History, forgets: true, keys: map[string]newest{}}
		for i := range other.Records {
			in := &other.Records[i]
			if in.Topic != n.Topic || in.Key == nil {
				continue
			}
			was := t.keys[*in.Key]
			if t.put(in) && in.Value == nil && was.live && was.at == in.TS && was.end < in.TS {
				forget(other.Records, i)
			}
		}
	}
	return &other
}

// anew marks the key that a key is once its row has been forgotten.
const anew = "'"

func useAnotherKey(records []Input, deletion int) {
	key := *records[deletion].Key
	for i := deletion + 1; i < len(records); i++ {
		if r := &records[i]; r.Key != nil && *r.Key == key {
			r.Key = pointer(key + anew)
		}
	}
}

func leaveOut(records []Input, deletion int) {
	d := records[deletion]
	for i := range records[:deletion+1] {
		if r := &records[i]; r.Topic == d.Topic && r.Key != nil && *r.Key == *d.Key && r.TS == d.TS {
			r.Key = nil // a table takes no such record
		}
	}
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
