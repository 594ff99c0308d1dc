// Package topology describes what is to be computed: typed handles of streams and
// tables over a graph of named nodes. A [Topology] is a plain value that any
// driver can run: the app against a database, the test driver in memory, the
// Kafka driver in a consumer group.
//
// Users call New, the functions of packages sources, operators and sinks, and
// Build. Authors of operators use [Add] and the running forms of operator.go.
package topology

import (
	"errors"
	"fmt"
	"strings"
)

// Builder collects the nodes of a topology and everything that is wrong with
// them. It is not safe for concurrent use.
type Builder struct {
	name    string
	version int
	nodes   []*Node
	names   map[string]*Node
	twice   map[string]bool
	errs    []error
	counts  map[Kind]int
}

// Option changes a topology as a whole.
type Option func(*Builder)

// Version numbers the meaning of the topology's user functions. Raising it
// rebuilds all state: a changed function cannot be seen by a hash. Defaults to 0.
func Version(n int) Option { return func(b *Builder) { b.version = n } }

// New starts a topology. Its name is part of the names of its state and metrics:
// lower-case letters, digits and dashes, starting with a letter or digit, at most
// 63 characters.
func New(name string, opts ...Option) *Builder {
	b := &Builder{name: name, names: map[string]*Node{}, twice: map[string]bool{}, counts: map[Kind]int{}}
	for _, o := range opts {
		o(b)
	}
	if err := CheckName(name); err != nil {
		b.Errorf("topology %q: %v", name, err)
	}
	return b
}

// Name returns the topology's name.
func (b *Builder) Name() string { return b.name }

// Errorf records an error that Build returns.
func (b *Builder) Errorf(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
}

// Add adds a node to the builder and returns it. A node that keeps state or
// answers to users carries a name; others are named for their kind and place.
func Add(b *Builder, n Node) *Node {
	node := &n
	b.counts[n.Kind]++
	node.ID = len(b.nodes)
	node.Topology = b.name
	if node.Name == "" {
		node.Unnamed = true
		node.Name = fmt.Sprintf("%s#%d", n.Kind, b.counts[n.Kind])
		if n.NeedsName || len(n.Stores) > 0 {
			b.Errorf("topology %q: a %s needs a name, its first argument", b.name, n.Kind)
		}
	} else if err := checkNodeName(node.Name, n.Kind); err != nil {
		b.Errorf("topology %q: %s %q: %v", b.name, n.Kind, node.Name, err)
	}
	b.claimName(node)
	for i, in := range n.Inputs {
		if in == nil {
			b.Errorf("topology %q: %s %q: input %d is the zero handle; "+
				"pass the result of a source or an operator", b.name, n.Kind, node.Name, i+1)
			continue
		}
		if in.ID >= len(b.nodes) || b.nodes[in.ID] != in {
			b.Errorf("topology %q: %s %q: input %q belongs to topology %q; "+
				"a node can only read nodes of its own builder", b.name, n.Kind, node.Name, in.Name, in.Topology)
		}
		if in.Global && !n.ReadsGlobal {
			b.Errorf("topology %q: %s %q: input %q is a global table, which only EnrichGlobal and its "+
				"forms can read; read it with sources.Table, too", b.name, n.Kind, node.Name, in.Name)
		}
	}
	node.hash = node.computeHash()
	b.nodes = append(b.nodes, node)
	return node
}

// claimName reports a name that another node has, once however many have it.
func (b *Builder) claimName(n *Node) {
	other, taken := b.names[n.Name]
	if !taken {
		b.names[n.Name] = n
		return
	}
	if b.twice[n.Name] {
		return
	}
	b.twice[n.Name] = true
	remedy := "give one another name"
	switch {
	case n.Kind == KindSourceMessages:
		remedy = "read them once and give the handle to all that need it"
	case n.Kind.isSource():
		remedy = "read it once and give its handle to all that need it, or name one " +
			`with the option sources.As[V]("another-name")`
	}
	if other.Kind == n.Kind {
		// A name such as "view/totals" carries the kind; what the user wrote is behind it.
		name := strings.TrimPrefix(n.Name, string(n.Kind)+"/")
		b.Errorf("topology %q: more than one %s is named %q; %s", b.name, n.Kind, name, remedy)
		return
	}
	b.Errorf("topology %q: %s and %s are both named %q; %s", b.name, other.Kind, n.Kind, n.Name, remedy)
}

// Build checks the topology and returns it, or every error found.
func (b *Builder) Build() (*Topology, error) {
	t := &Topology{name: b.name, version: b.version, nodes: b.nodes}
	errs := append([]error(nil), b.errs...)
	if len(errs) == 0 {
		errs = t.validate()
	}
	if len(errs) > 0 {
		return nil, &BuildError{Topology: b.name, Errs: errs}
	}
	return t, nil
}

// MustBuild is Build for start-up wiring: it panics on an error, since a program
// with a wrong topology has nothing else to do.
func (b *Builder) MustBuild() *Topology {
	t, err := b.Build()
	if err != nil {
		panic(err)
	}
	return t
}

// BuildError holds everything that is wrong with a topology.
type BuildError struct {
	Topology string
	Errs     []error
}

// Error lists all errors, a line each.
func (e *BuildError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "topology: %q has %d error(s):", e.Topology, len(e.Errs))
	for _, err := range e.Errs {
		s.WriteString("\n  - ")
		// One that joins several keeps them under its point.
		s.WriteString(strings.ReplaceAll(err.Error(), "\n", "\n    "))
	}
	return s.String()
}

// Unwrap gives the single errors to errors.Is and errors.As.
func (e *BuildError) Unwrap() []error { return e.Errs }

// errName is what CheckName returns.
var errName = errors.New("a name is made of lower-case letters, digits and dashes, " +
	"starts with a letter or digit and has at most 63 characters")

// CheckName reports whether s may name an app or a topology. Such names become
// parts of file names, slots and topics.
func CheckName(s string) error {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return errName
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return errName
		}
	}
	return nil
}

// checkNodeName allows letters, digits, dashes, underscores and dots. Sources and
// sinks are named for tables, which may be called anything.
func checkNodeName(s string, kind Kind) error {
	if kind.isSource() || kind == "view" || strings.HasPrefix(string(kind), "sink-") {
		return nil
	}
	if strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') &&
			!strings.ContainsRune("-_.", c)
	}) || len(s) > 120 {
		return errors.New("a name is made of letters, digits, dashes, underscores and dots, at most 120")
	}
	return nil
}
