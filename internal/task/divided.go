package task

import (
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// dividedSource is a source node in all partitions: it sees the log in order and hands
// each row to the partition of its key (invariant X1). An update that moves a row to a
// key of another partition takes the row along.
type dividedSource struct {
	cut   *cut
	node  *topology.Node
	parts []topology.Operator
}

func newDividedSource(c *cut, n *topology.Node, parts []topology.Operator) topology.Operator {
	s := &dividedSource{cut: c, node: n, parts: parts}
	if _, ok := parts[0].(topology.Replayer); ok {
		return &dividedReplayer{s}
	}
	return s
}

// Step does nothing: the parts are run.
func (s *dividedSource) Step(*topology.Step) error { return nil }

// EndStep does nothing.
func (s *dividedSource) EndStep() {}

// MaxTime is the largest event time fed to any partition in this step: stream time is
// one for all (invariant X5).
func (s *dividedSource) MaxTime() int64 {
	at := int64(topology.NoTime)
	for _, p := range s.parts {
		if op, ok := p.(topology.SourceOperator); ok {
			at = max(at, op.MaxTime())
		}
	}
	return at
}

// Feed hands rows to the partitions that they are for.
func (s *dividedSource) Feed(tx *record.Tx, seq uint32, rows []record.Row) error {
	return s.divide(rows, func(op topology.Operator, rows []record.Row) error {
		return op.(topology.SourceOperator).Feed(tx, seq, rows)
	}, func(from, to topology.DividedSource, row *record.Row) error {
		moved, err := from.MoveOut(tx, row)
		if err != nil {
			return err
		}
		return to.MoveIn(tx, seq, row, moved)
	})
}

// feeding is the running form of a partition, which is at work now.
func (s *dividedSource) feeding(partition int) topology.Operator {
	s.cut.part = partition
	return s.parts[partition]
}

// divide feeds runs of rows that are for the same partition. move is given rows that
// change the partition; nil feeds those to the one that they come to.
func (s *dividedSource) divide(
	rows []record.Row, feed func(op topology.Operator, rows []record.Row) error,
	move func(from, to topology.DividedSource, row *record.Row) error,
) error {
	if s.node.Global {
		return s.feedAll(rows, feed)
	}
	router, ok := s.parts[0].(topology.DividedSource)
	if !ok {
		return fmt.Errorf("task: %q cannot run in partitions: its running form divides no rows", s.node.Name)
	}
	first, at := 0, 0 // the run that has not been fed, and where it goes
	flush := func(end int) error {
		if first == end {
			return nil
		}
		run := rows[first:end]
		first = end
		return feed(s.feeding(at), run)
	}
	for i := range rows {
		s.cut.part = 0
		route, err := router.Route(&rows[i])
		if err != nil {
			return err
		}
		from, to := topology.PartitionOf(route.From, s.cut.count), topology.PartitionOf(route.To, s.cut.count)
		if route.Every || to != at || from != to && move != nil {
			if err := flush(i); err != nil {
				return err
			}
		}
		at = to
		switch {
		case route.Every:
			err = s.feedAll(rows[i:i+1], feed)
			first = i + 1
		case from != to && move != nil:
			s.cut.part = from
			err = move(s.parts[from].(topology.DividedSource), s.parts[to].(topology.DividedSource), &rows[i])
			first = i + 1
		}
		if err != nil {
			return err
		}
	}
	return flush(len(rows))
}

func (s *dividedSource) feedAll(
	rows []record.Row, feed func(op topology.Operator, rows []record.Row) error,
) error {
	for i := range s.parts {
		if err := feed(s.feeding(i), rows); err != nil {
			return err
		}
	}
	return nil
}

// FeedMessage hands a message to the partition that it is for.
func (s *dividedSource) FeedMessage(tx *record.Tx, seq uint32, m record.Message) error {
	op, ok := s.parts[0].(topology.MessageOperator)
	if !ok {
		return fmt.Errorf("task: %q reads messages but its running form takes none", s.node.Name)
	}
	to := topology.PartitionOf(op.Division(&m), s.cut.count)
	return s.feeding(to).(topology.MessageOperator).FeedMessage(tx, seq, m)
}

// dividedReplayer is a dividedSource of events.
type dividedReplayer struct{ *dividedSource }

// FeedReplayed hands replayed rows to the partitions that they are for.
func (s *dividedReplayer) FeedReplayed(tx *record.Tx, seq uint32, rows []record.Row) error {
	return s.divide(rows, func(op topology.Operator, rows []record.Row) error {
		return op.(topology.Replayer).FeedReplayed(tx, seq, rows)
	}, nil)
}

// SnapshotOnce is the partitions'.
func (s *dividedReplayer) SnapshotOnce() bool { return s.parts[0].(topology.Replayer).SnapshotOnce() }
