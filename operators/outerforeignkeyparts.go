package operators

import (
	"github.com/tailrace/tailrace/topology"
)

// PartitionKey says that a row is divided as the left or right row is that it stands for.
func (EitherKey[K, F]) PartitionKey(encoded []byte) []byte {
	var k K
	var f F
	if encoded[0] == 0 { // there is no left key
		return partitionKey(f, encoded[2:])
	}
	return partitionKey(k, encoded[1:len(encoded)-1])
}

func partitionKey(key any, encoded []byte) []byte {
	if p, ok := key.(topology.PartDivided); ok {
		return p.PartitionKey(encoded)
	}
	return encoded
}

// outerParts are the parts of an outer foreign-key join: those of the left join, and one
// that puts beside its results the right rows without references. Those are where the
// right rows are, which know the references, and go by their keys, as EitherKey does. So
// both tables are part of one sub-topology.
func outerParts[K, F comparable, L, R, O any](
	p *foreignKeyParts[K, F, L, R, O], left, right *topology.Node, orphans joinFunc[R, int64, O],
	equalRight func(a, b *R) bool,
) []*topology.Node {
	parts := p.add(left, right)
	reply, rows := parts[1], parts[2]
	return append(parts, topology.TablePart[EitherKey[K, F], O](topology.Node{
		Inputs: []*topology.Node{rows, right, reply},
		Needs:  []topology.Need{topology.ByKey(), topology.ByKey(), topology.Any()}, Divided: topology.DividedByKey,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			in := topology.TableInput[K, O](rt, 0).(keyedOutput[K, O])
			references := topology.TableInput[K, answer[F, R]](rt, 2).(*answers[K, F, R]).references
			j := &outerForeignKeyJoin[K, F, L, R, O]{rows: elsewhere[K, O]{in}, references: references}
			j.orphans = newOrphans(rt, topology.TableInput[F, R](rt, 1), references, orphans, equalRight,
				p.codecs.equalOut)
			j.keep = fanOut(rt)
			return j, nil
		},
	}))
}

// elsewhere is a table whose steps are not this node's.
type elsewhere[K comparable, O any] struct{ keyedOutput[K, O] }

// Step does nothing.
func (elsewhere[K, O]) Step(*topology.Step) error { return nil }

// EndStep does nothing.
func (elsewhere[K, O]) EndStep() {}
