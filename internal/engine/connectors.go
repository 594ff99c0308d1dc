package engine

import (
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// Connectors returns the connectors of all databases and targets that topologies name, by
// those names: what the topologies brought, nil for what is bound to the app.
func Connectors(
	topologies ...*topology.Topology,
) (map[string]sources.Connector, map[string]sinks.Connector) {
	in, out := map[string]sources.Connector{}, map[string]sinks.Connector{}
	for _, t := range topologies {
		for _, n := range t.Nodes() {
			if spec, ok := n.Source.(*sources.Spec); ok {
				in[spec.Database.Name()] = spec.Database.Connector()
			}
			if spec, ok := n.Sink.(*sinks.Spec); ok {
				out[spec.Target.Name()] = spec.Target.Connector()
			}
		}
	}
	return in, out
}
