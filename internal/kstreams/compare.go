package kstreams

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Diff is the first place where two results differ.
type Diff struct {
	// Step is the number of the input, from 0.
	Step int
	Node string
	// Kafka and Tailrace are what the node put out for that input, netted if it is a
	// table.
	Kafka, Tailrace []string
}

// String shows both sides.
func (d *Diff) String() string {
	return fmt.Sprintf("after input %d node %q gives\n  Kafka Streams: %s\n  Tailrace:      %s",
		d.Step+1, d.Node, strings.Join(d.Kafka, " "), strings.Join(d.Tailrace, " "))
}

// Compare finds the first difference of two results of a case, nil if there is none.
//
// A stream's records must be the same in the same order, but that a join's records
// without a partner and its pairs are two orders. Of a table the last output
// of each key and input counts, and that not if it is the value that the key had:
// Kafka Streams also sends intermediate values, updates that change nothing and
// needless tombstones.
func Compare(c *Case, kafka, tailrace *Result) *Diff { return compare(c, kafka, tailrace, true) }

// sameValues reports whether results differ in nothing but times.
func sameValues(c *Case, kafka, tailrace *Result) bool {
	return compare(c, kafka, tailrace, false) == nil
}

func compare(c *Case, kafka, tailrace *Result, times bool) *Diff {
	for _, node := range c.Out {
		k, t := net(c, kafka, node, times), net(c, tailrace, node, times)
		for i := range max(len(k), len(t)) {
			if i >= len(k) || i >= len(t) {
				return &Diff{Step: i, Node: node, Kafka: ended(k, i, kafka), Tailrace: ended(t, i, tailrace)}
			}
			if !slices.Equal(k[i], t[i]) {
				return &Diff{Step: i, Node: node, Kafka: k[i], Tailrace: t[i]}
			}
		}
	}
	if kafka.Error != "" || tailrace.Error != "" {
		return &Diff{
			Step: len(kafka.Steps), Kafka: []string{kafka.Error}, Tailrace: []string{tailrace.Error},
		}
	}
	return nil
}

func ended(steps [][]string, i int, r *Result) []string {
	if i < len(steps) {
		return steps[i]
	}
	return []string{"ended: " + r.Error}
}

// net returns one node's outputs, by input, as text, with their times or without.
func net(c *Case, r *Result, node string, times bool) [][]string {
	table := c.IsTable(node)
	state := map[string]string{}
	var steps [][]string
	for _, outputs := range r.Steps {
		var step []string
		last := map[string]*Output{}
		for i := range outputs {
			o := &outputs[i]
			switch {
			case o.Node != node:
			case table:
				last[o.key()] = o
			default:
				step = append(step, o.text(times))
			}
		}
		for _, key := range sortedKeys(last) {
			value := printed(textOf(last[key].Value))
			before, ok := state[key]
			if !ok {
				before = "null"
			}
			if value != before {
				step = append(step, last[key].text(times))
			}
			state[key] = value
		}
		if c.isStreamJoin(node) {
			step = aloneFirst(step)
		}
		steps = append(steps, step)
	}
	if c.Final {
		return [][]string{final(state)}
	}
	return steps
}

// Flush is the key of the record that ends a case with Final; its own rows don't count.
const Flush = "end"

// final are the rows that are there in the end.
func final(state map[string]string) []string {
	var rows []string
	for _, key := range sortedKeys(state) {
		if state[key] != "null" && !strings.HasPrefix(key, Flush+"[") {
			rows = append(rows, key+"="+state[key])
		}
	}
	return rows
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare[string])
	return keys
}

// key shows the key with its window.
func (o *Output) key() string {
	key := printed(textOf(o.Key))
	if o.Window != nil {
		key += fmt.Sprintf("[%d,%d]", o.Window[0], o.Window[1])
	}
	return key
}

// String shows an output as key=value@time, with ~ for a tombstone.
func (o *Output) String() string { return o.text(true) }

func (o *Output) text(time bool) string {
	value := "~"
	if o.Value != nil {
		value = *o.Value
	}
	if !time {
		return o.key() + "=" + value
	}
	return fmt.Sprintf("%s=%s@%d", o.key(), value, o.TS)
}

// isStreamJoin reports whether a node joins two streams.
func (c *Case) isStreamJoin(id string) bool {
	n := c.Node(id)
	return n != nil && n.Op == "join" && n.Window != nil
}

// IsTable reports whether a node's output is that of a table.
func (c *Case) IsTable(id string) bool {
	n := c.Node(id)
	if n == nil {
		return false // a branch of a split
	}
	switch n.Op {
	case "table", "global", "to-table", "aggregate", "cogroup", "suppress", "join-foreign-key":
		return true
	case "filter", "map-values", "join":
		return c.IsTable(n.In[0])
	}
	return false
}

// aloneFirst puts what went out without a partner before the pairs of the same input, as
// Kafka Streams does; here timers fire after a transaction's own rows.
func aloneFirst(outputs []string) []string {
	slices.SortStableFunc(outputs, func(a, b string) int { return rank(a) - rank(b) })
	return outputs
}

// rank tells what went out without a partner from pairs; outputs may be without times.
func rank(output string) int {
	output, _, _ = strings.Cut(output, "@")
	if strings.Contains(output, "=null-") || strings.HasSuffix(output, "-null") {
		return 0
	}
	return 1
}
