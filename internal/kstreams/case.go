package kstreams

import "encoding/json"

// Case is a topology and its input, in the form that the Java program reads.
type Case struct {
	ID int64 `json:"id"`
	// Nodes are the operators, each after its inputs.
	Nodes []Node `json:"nodes"`
	// Out names the nodes whose output is compared.
	Out []string `json:"out"`
	// Records are fed one at a time; here each is a transaction.
	Records []Input `json:"records"`
	// Final compares only what is there after the last record, not when it came.
	Final bool `json:"final,omitempty"`
}

// Node is one operator. Functions are named; functions.go has them.
type Node struct {
	ID string `json:"id"`
	// Op is stream, table, global (sources); filter, map-values, flat-map, map, rekey,
	// merge, split, repartition, process, deduplicate, to-table, to-stream, aggregate,
	// cogroup, suppress, join or join-foreign-key.
	Op string   `json:"op"`
	In []string `json:"in,omitempty"`
	// Topic is what a source reads.
	Topic string `json:"topic,omitempty"`
	// Kind is inner, left or outer of a join; reduce of an aggregate.
	Kind string `json:"kind,omitempty"`
	// By names a function that computes a key: map, rekey, the group of an aggregate
	// ("" is the key), the foreign key, the key in a global table, the id of a deduplicate.
	By string `json:"by,omitempty"`
	// Fn names a predicate, a value function, a flat function, an aggregator or a
	// processor, as the operator needs; Fns the aggregators of a cogroup, one an input.
	Fn  string   `json:"fn,omitempty"`
	Fns []string `json:"fns,omitempty"`
	// Branches are those of a split; branch b of split s is the node "s.b".
	Branches []Branch `json:"branches,omitempty"`
	Window   *Window  `json:"window,omitempty"`
	// Close emits when windows close: of an aggregate, or of suppress.
	Close bool `json:"close,omitempty"`
	// Limit is the time limit of a suppress without Close, Max its number of records; of
	// the processor expire Limit is how long a key may be silent.
	Limit int64 `json:"limit,omitempty"`
	Max   int64 `json:"max,omitempty"`
	// History makes a table versioned.
	History int64 `json:"history,omitempty"`
	// Grace is that of a join of a stream with a versioned table.
	Grace *int64 `json:"grace,omitempty"`
	// Retention is that of an aggregate's window store in Kafka Streams, 0 its default,
	// which loses results; Store gives a table operator a store there. Tailrace has neither.
	Retention int64 `json:"retention,omitempty"`
	Store     bool  `json:"store,omitempty"`
	// AsSQL makes Tailrace aggregate a table as it does by default and SQL does: groups that
	// lose their last row are deleted, and NULL is a group.
	AsSQL bool `json:"-"`
	// Whole makes Tailrace build the node and the joins below it as one operator.
	Whole *Whole `json:"-"`
}

// Branch is a branch of a split; without Fn it takes the rest.
type Branch struct {
	Name string `json:"name"`
	Fn   string `json:"fn,omitempty"`
}

// Window is a window of an aggregate or of a join of streams.
type Window struct {
	// Kind is tumbling, hopping, sliding, session or join.
	Kind string `json:"kind"`
	// Size is the size of a window, the difference of a sliding one, the gap of a
	// session.
	Size    int64 `json:"size,omitempty"`
	Advance int64 `json:"advance,omitempty"`
	Grace   int64 `json:"grace"`
	Before  int64 `json:"before,omitempty"`
	After   int64 `json:"after,omitempty"`
}

// Input is one record. A nil key or value is null.
type Input struct {
	Topic string  `json:"topic"`
	Key   *string `json:"key"`
	Value *string `json:"value"`
	TS    int64   `json:"ts"`
}

// Output is one record that a node put out. Window holds the start and the end of
// its key's window as Kafka Streams gives them: the end is part of a sliding or a
// session window, and not of the others.
type Output struct {
	Node   string    `json:"node"`
	Key    *string   `json:"key,omitempty"`
	Window *[2]int64 `json:"window,omitempty"`
	Value  *string   `json:"value,omitempty"`
	TS     int64     `json:"ts"`
}

// Result is what a case put out, for each input in turn. With an Error the steps end
// before the input that failed.
type Result struct {
	ID    int64      `json:"id"`
	Steps [][]Output `json:"steps"`
	Error string     `json:"error,omitempty"`
}

// String prints the case as JSON, which can be fed to the Java program.
func (c *Case) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Node returns the node with an ID, nil if there is none.
func (c *Case) Node(id string) *Node {
	for i := range c.Nodes {
		if c.Nodes[i].ID == id {
			return &c.Nodes[i]
		}
	}
	return nil
}
