package kafka

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/topology"
)

// errChanged is a kafka.ErrTopologyChanged, and a changelog.ErrForeign as that of local state is.
func (e *Engine) errChanged(what, was, is string) error {
	return fmt.Errorf("%w: %w: the records of %s were processed by form %s of the topologies that read it, and "+
		"this is form %s; the changelogs hold what the other one made. Go back to that one; or stop all members, "+
		"run tailrace drop --app %s --brokers ..., remove the members' state directories and start: the state is "+
		"built anew from the inputs as far as their topics hold them, and the outputs are written again; or give "+
		"the app another name", kafka.ErrTopologyChanged, changelog.ErrForeign, what, was, is, e.cfg.App)
}

// checkForm refuses a group whose offsets another form of a topology has committed
// (invariant K11), before anything is made for this one.
func (e *Engine) checkForm(committed map[kafka.Partition]kafka.Offset) error {
	parts := slices.SortedFunc(maps.Keys(committed), func(a, b kafka.Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
	for _, p := range parts {
		m, err := readMetadata(p, committed[p])
		if err != nil {
			return err
		}
		i := slices.IndexFunc(e.subs, func(s *subTopology) bool { return s.find(p.Topic) != nil })
		if i >= 0 && m.Topology != "" && m.Topology != e.subs[i].hash {
			return e.errChanged(fmt.Sprintf("topic %q", p.Topic), m.Topology, e.subs[i].hash)
		}
	}
	return nil
}

// readMetadata reads what is committed beside an offset.
func readMetadata(p kafka.Partition, o kafka.Offset) (m offsetMetadata, err error) {
	if o.Metadata == "" {
		return m, nil
	}
	if err := json.Unmarshal([]byte(o.Metadata), &m); err != nil {
		return m, fmt.Errorf("kafka: the metadata of the group's offset in %s is not Tailrace's: %w; does "+
			"another program use the app's name as its group?", p, err)
	}
	return m, nil
}

// begunTopologies are those of which any input has a committed offset: what they have made
// has to be there.
func (e *Engine) begunTopologies(committed map[kafka.Partition]kafka.Offset) map[*topology.Topology]bool {
	begun := map[*topology.Topology]bool{}
	for p := range committed {
		for _, sub := range e.subs {
			if sub.find(p.Topic) == nil {
				continue
			}
			for _, s := range sub.parts {
				begun[s.topology] = true
			}
		}
	}
	return begun
}
