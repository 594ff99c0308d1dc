package tailrace

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// checkNumbers refuses negative numbers; zero is each field's default.
func (c *Config) checkNumbers() (errs []error) {
	numbers := map[string]int64{
		"EpochRows": int64(c.EpochRows), "Memory": c.Memory, "QueueBytes": c.QueueBytes,
		"IdleCommit": int64(c.IdleCommit), "MaxIdle": int64(c.MaxIdle), "Partitions": int64(c.Partitions),
	}
	if k := c.Kafka; k != nil {
		numbers["Kafka.Standbys"] = int64(k.Standbys)
		numbers["Kafka.CommitInterval"] = int64(k.CommitInterval)
		numbers["Kafka.SessionTimeout"] = int64(k.SessionTimeout)
		numbers["Kafka.TransactionTimeout"] = int64(k.TransactionTimeout)
		numbers["Kafka.MaxIdle"] = int64(k.MaxIdle)
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		if numbers[name] < 0 {
			errs = append(errs, fmt.Errorf("%s is negative; leave it out for its default", "Config."+name))
		}
	}
	return errs
}

// checkMode refuses what only direct mode has, where the app runs over topics, and an address
// that other members could not reach.
func (c *Config) checkMode() (errs []error) {
	if c.Kafka == nil {
		return nil
	}
	if at := c.Kafka.Advertise; at != "" {
		if err := view.CheckAddress(at); err != nil {
			errs = append(errs, fmt.Errorf("Config.Kafka.Advertise: %w", err))
		}
	}
	for _, f := range []struct {
		name, instead string
		set           bool
	}{
		{"OneTransaction", "topics hold no transactions of the source", c.OneTransaction},
		{"Partitions", "the topics' partitions divide the work", c.Partitions > 0},
		{"StopOnLostState", "state that is lost is restored from its changelogs", c.StopOnLostState},
		{"QueueBytes", "outputs are written with the transaction and not queued", c.QueueBytes > 0},
		{"IdleCommit", "Kafka.CommitInterval says when is committed", c.IdleCommit > 0},
		{"Production", "Kafka.Options say how brokers are reached, and are not looked into", c.Production},
		{"MaxIdle", "Kafka.MaxIdle bounds how long partitions wait for each other", c.MaxIdle > 0},
		{"VerifySQL", "there is no position of a database's log to compare at", c.VerifySQL},
	} {
		if f.set {
			errs = append(errs, fmt.Errorf("%s is for direct mode, and Config.Kafka is set: %s; leave it out",
				"Config."+f.name, f.instead))
		}
	}
	return errs
}

// checkBound refuses connectors that were bound to names which no topology uses.
func (c *Config) checkBound(topologies []*topology.Topology) (errs []error) {
	in, out := c.connectors(topologies)
	for _, name := range slices.Sorted(maps.Keys(c.sources)) {
		if _, ok := in[name]; !ok {
			errs = append(errs, fmt.Errorf("Config.Bind(%q): no topology reads a database of that name, but %s",
				name, listed(in)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.targets)) {
		if _, ok := out[name]; !ok {
			errs = append(errs, fmt.Errorf("Config.BindTarget(%q): no topology writes a target of that name, but %s",
				name, listed(out)))
		}
	}
	return errs
}

// checkTransport refuses, in production, connections that others can read or answer.
func (c *Config) checkTransport(topologies []*topology.Topology) (errs []error) {
	if !c.Production || c.Kafka != nil {
		return nil
	}
	in, out := c.connectors(topologies)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if t, ok := in[name].(sources.Transport); ok {
			if err := t.CheckTransport(); err != nil {
				errs = append(errs, fmt.Errorf("Config.Production is set: database %q: %w", name, err))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if t, ok := out[name].(sinks.Transport); ok {
			if err := t.CheckTransport(); err != nil {
				errs = append(errs, fmt.Errorf("Config.Production is set: target %q: %w", name, err))
			}
		}
	}
	if c.Addr != "" && c.TLS == nil && !view.Loopback(c.Addr) {
		errs = append(errs, fmt.Errorf("Config.Production is set, and the token would go over plain HTTP to %s: "+
			"set Config.TLS, or listen on 127.0.0.1 behind a proxy that does", c.Addr))
	}
	return errs
}

// listed are names in quotes.
func listed[V any](names map[string]V) string {
	if len(names) == 0 {
		return "none at all"
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, fmt.Sprintf("%q", name))
	}
	return strings.Join(out, ", ")
}

// checkPolicies refuses error policies of sinks whose targets cannot follow them.
func (c *Config) checkPolicies(topologies []*topology.Topology) (errs []error) {
	_, out := c.connectors(topologies)
	for _, t := range topologies {
		if t == nil {
			continue // validate tells
		}
		for _, n := range t.Nodes() {
			spec, ok := n.Sink.(*sinks.Spec)
			if !ok || n.OnError == nil {
				continue
			}
			target := spec.Target.Name()
			_, asks := out[target].(sinks.Refuser)
			switch {
			case c.Kafka != nil:
				errs = append(errs, fmt.Errorf("%w: topology %q: sink %q: in Kafka mode outputs are written with the "+
					"task's own transaction; leave sinks.OnError out", sinks.ErrNoPolicy, t.Name(), n.Name))
			case !asks && out[target] != nil:
				errs = append(errs, fmt.Errorf("%w: topology %q: sink %q: target %q does not say which row it "+
					"refuses; leave sinks.OnError out, and set a policy on the node before the sink",
					sinks.ErrNoPolicy, t.Name(), n.Name, target))
			}
		}
	}
	return errs
}

// checkViews refuses views of one name, under which a reader would find either.
func checkViews(topologies []*topology.Topology) (errs []error) {
	owners := map[string]string{}
	for _, t := range topologies {
		if t == nil {
			continue // validate tells
		}
		for _, n := range t.Nodes() {
			port, ok := n.Sink.(view.Port)
			if !ok {
				continue
			}
			if other, dup := owners[port.Name()]; dup && other != t.Name() {
				errs = append(errs, fmt.Errorf("topologies %q and %q both keep a view %q; give one another name",
					other, t.Name(), port.Name()))
			}
			owners[port.Name()] = t.Name()
		}
	}
	return errs
}
