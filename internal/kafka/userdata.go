package kafka

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
)

// protocolVersion is the first byte of what members and the leader tell each other. A
// leader refuses members of a newer one, and reads older ones.
const protocolVersion = 1

// caughtUp is how many records a task may lack and still count as one that lacks none, so
// that small differences decide nothing.
const caughtUp = 10_000

// bucket is the order of magnitude of a lag: what members say must not change with every
// record, or every join would be a new one.
func bucket(lag int64) int {
	if lag <= caughtUp {
		return 0
	}
	return min(bits.Len64(uint64(lag/caughtUp)), maxLag-1)
}

// memberData is what a member tells the leader.
type memberData struct {
	version  byte
	topology string
	process  string
	address  string
	lags     map[Task]int
}

// append encodes the data. Sub-topologies are named by their place in the order of ids, on
// which members of one topology agree.
func (d *memberData) append(dst []byte, ids []string) []byte {
	dst = append(dst, d.version)
	for _, s := range []string{d.topology, d.process, d.address} {
		dst = appendString(dst, s)
	}
	tasks := slices.SortedFunc(maps.Keys(d.lags), compareTasks)
	dst = appendTasks(dst, tasks, ids)
	for _, t := range tasks {
		if slices.Contains(ids, t.SubTopology) {
			dst = append(dst, byte(d.lags[t]))
		}
	}
	return dst
}

func compareTasks(t, u Task) int {
	return cmp.Or(cmp.Compare(t.SubTopology, u.SubTopology), cmp.Compare(t.Partition, u.Partition))
}

var errUserData = errors.New("kafka: malformed data of a group member")

// decodeMember reads what append has written; of a newer version only that. ids are those
// of the reader, and mean something if the topology is the same.
func decodeMember(src []byte, topology string, ids []string) (memberData, error) {
	if len(src) == 0 {
		return memberData{}, errUserData
	}
	d := memberData{version: src[0], lags: map[Task]int{}}
	if d.version > protocolVersion {
		return d, nil
	}
	r := reader{rest: src[1:]}
	d.topology, d.process, d.address = r.text(), r.text(), r.text()
	if r.bad {
		return memberData{}, errUserData
	}
	if d.topology != topology {
		return d, nil
	}
	tasks := r.tasks(ids)
	for _, t := range tasks {
		d.lags[t] = int(r.byte())
	}
	if r.bad {
		return memberData{}, errUserData
	}
	return d, nil
}

// The kinds of assignments.
const (
	// assigned is a plan's.
	assigned = iota
	// kept says to go on with what there was.
	kept
	// refused and topicsChanged have a text.
	refused
	topicsChanged
)

// assignmentData is what the leader tells a member besides its partitions.
type assignmentData struct {
	kind     byte
	topology string
	text     string
	tasks    []Task
	standbys []Task
	hosts    []Host
}

func (d *assignmentData) append(dst []byte, ids []string) []byte {
	dst = append(dst, protocolVersion, d.kind)
	dst = appendString(appendString(dst, d.topology), d.text)
	dst = appendTasks(appendTasks(dst, d.tasks, ids), d.standbys, ids)
	dst = binary.AppendUvarint(dst, uint64(len(d.hosts)))
	for _, h := range d.hosts {
		dst = appendString(dst, h.Address)
		dst = appendTasks(appendTasks(dst, h.Tasks, ids), h.Standbys, ids)
	}
	return dst
}

func decodeAssignment(src []byte, topology string, ids []string) (assignmentData, error) {
	if len(src) < 2 {
		return assignmentData{}, errUserData
	}
	if src[0] > protocolVersion {
		return assignmentData{kind: refused, text: fmt.Sprintf("the leader speaks version %d of the group's "+
			"protocol, and this member up to %d; upgrade it", src[0], protocolVersion)}, nil
	}
	d := assignmentData{kind: src[1]}
	r := reader{rest: src[2:]}
	d.topology, d.text = r.text(), r.text()
	if d.topology == topology {
		d.tasks, d.standbys = r.tasks(ids), r.tasks(ids)
		for n := r.count(); n > 0; n-- {
			d.hosts = append(d.hosts, Host{r.text(), r.tasks(ids), r.tasks(ids)})
		}
	}
	if r.bad {
		return assignmentData{}, errUserData
	}
	return d, nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendTasks appends sorted tasks; those of sub-topologies that nobody has are left out.
func appendTasks(dst []byte, tasks []Task, ids []string) []byte {
	known := make([]Task, 0, len(tasks))
	for _, t := range tasks {
		if slices.Contains(ids, t.SubTopology) {
			known = append(known, t)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(known)))
	for _, t := range known {
		place, _ := slices.BinarySearch(ids, t.SubTopology)
		dst = binary.AppendUvarint(dst, uint64(place))
		dst = binary.AppendUvarint(dst, uint64(t.Partition))
	}
	return dst
}

// reader reads the parts of an encoding; bad is set by the first that is not there.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count is a number of things of a byte at least.
func (r *reader) count() uint64 {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return 0
	}
	return n
}

func (r *reader) text() string {
	n := r.count()
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) tasks(ids []string) []Task {
	var tasks []Task
	for n := r.count(); n > 0; n-- {
		place, number := r.uvarint(), r.uvarint()
		if place >= uint64(len(ids)) {
			r.bad = true
			return nil
		}
		tasks = append(tasks, Task{ids[place], int32(number)})
	}
	return tasks
}
