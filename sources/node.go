package sources

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/topology"
)

// Option changes one source node of rows of type V.
type Option[V any] func(*options[V])

type options[V any] struct {
	name      string
	eventTime func(V) time.Time
	timed     bool // EventTime was given
	lag       time.Duration
	lagging   bool
	snapshot  bool
	outbox    bool
}

// EventTime takes the event time from the row instead of the commit time of its
// transaction. A zero time means the commit time.
//
// Since such times may lie behind the clock by any amount, an idle table then lets no
// stream time pass: windows close when later rows come. Lag bounds that amount.
func EventTime[V any](of func(V) time.Time) Option[V] {
	return func(o *options[V]) { o.eventTime, o.timed = of, true }
}

// Lag declares that a row's event time lies at most d behind its commit, so that
// heartbeats of an idle database move stream time to d before them. Rows that come
// later still are late. It goes with EventTime, without which the lag is 0.
func Lag[V any](d time.Duration) Option[V] {
	return func(o *options[V]) { o.lag, o.lagging = d, true }
}

// WithSnapshot makes a stream begin with the rows that the table holds, as inserts:
// when the app starts for the first time, and whenever its state is rebuilt from a new
// snapshot. By default a stream begins with what is written from then on. For rows
// that must not be emitted again at a rebuild see Outbox.
func WithSnapshot[V any]() Option[V] { return func(o *options[V]) { o.snapshot = true } }

// As names the node, where one topology reads a table more than once. Defaults to
// database/schema.table.
func As[V any](name string) Option[V] { return func(o *options[V]) { o.name = name } }

// Spec is what a source node reads: topology.Node.Source of the nodes of this
// package. It is for drivers.
type Spec struct {
	Database *Database
	// Table is what is asked of the connector; its Name is "" for messages.
	Table TableRequest
	// Messages is the prefix of the logical messages to read, else "".
	Messages string
	// NoHeartbeats says that heartbeats tell nothing about event times; otherwise the
	// source is complete up to Lag, in microseconds, before a heartbeat.
	NoHeartbeats bool
	Lag          int64
	// Check reports everything that does not fit between a relation and the node's
	// Go types.
	Check func(rel *record.Relation) error
	// NullGaps returns the columns that can be NULL and whose fields cannot, where the
	// relation fits and its source tells. They are no error: a column may be empty of
	// NULLs for ever without a constraint that says so.
	NullGaps func(rel *record.Relation) []serde.NullGap

	fingerprint string
}

// Fingerprint implements topology.Fingerprinter: the columns in the order of the Go
// types' fields, and which rows of a snapshot are read.
func (s *Spec) Fingerprint() string { return s.fingerprint }

// Input implements topology.Source.
func (s *Spec) Input() topology.Input {
	return topology.Input{Database: s.Database.Name(), Table: s.Table.Name, Messages: s.Messages}
}

// HeartbeatTime implements topology.Source.
func (s *Spec) HeartbeatTime(at int64) int64 {
	if s.NoHeartbeats {
		return topology.NoTime
	}
	return at - s.Lag
}

// newSpec checks the arguments of a source of rows and makes its spec and node
// name. Errors go to the builder.
func newSpec[K comparable, V any](
	b *topology.Builder, db *Database, table string, kind topology.Kind, opts []Option[V],
) (*Spec, *rowType[K, V], options[V]) {
	o := options[V]{}
	for _, opt := range opts {
		opt(&o)
	}
	if db == nil {
		b.Errorf("topology: %s %q: no database was given; make one with sources.NewDatabase", kind, table)
		db = NewDatabase("none", nil)
	} else if err := topology.CheckName(db.Name()); err != nil {
		b.Errorf("topology: database %q: %w", db.Name(), err)
	}
	if o.name == "" {
		o.name = db.Name() + "/" + table
	}
	if !strings.Contains(table, ".") {
		b.Errorf("topology: %s %q: give the table's schema, too, such as %q", kind, o.name, "public."+table)
	}
	rt, err := newRowType[K, V]()
	if err != nil {
		b.Errorf("topology: %s %q: %w", kind, o.name, err)
	}
	if o.timed && o.eventTime == nil {
		b.Errorf("topology: %s %q: EventTime was given nil; give it a function, or leave it out for the "+
			"commit time", kind, o.name)
	}
	lag, whole := record.SpanMicros(o.lag)
	if o.lag < 0 || !whole {
		b.Errorf("topology: %s %q: the lag is %v; it must not be negative, and a multiple of a microsecond",
			kind, o.name, o.lag)
	}
	spec := &Spec{
		Database:     db,
		NoHeartbeats: o.eventTime != nil && !o.lagging, Lag: lag,
		Table: TableRequest{
			Name: table, Columns: rt.columns(), KeyColumns: rt.keyColumns(),
			Snapshot: o.snapshot,
		},
		Check: func(rel *record.Relation) error {
			_, err := rt.bind(rel)
			return err
		},
		NullGaps: rt.nullGaps,
	}
	spec.fingerprint = fmt.Sprintf("%q %q snapshot=%v outbox=%v event-time=%v",
		spec.Table.Columns, spec.Table.KeyColumns, o.snapshot, o.outbox, o.eventTime != nil)
	return spec, rt, o
}

// rowType maps rows of a table to keys of type K and values of type V.
type rowType[K comparable, V any] struct {
	value  *serde.Plan[V]
	key    *serde.Plan[K] // nil for a scalar key, whose column the relation tells
	scalar bool
	noKey  bool
}

// NoKey is the key type of a stream of a table that has no key.
type NoKey struct{}

func newRowType[K comparable, V any]() (*rowType[K, V], error) {
	t := &rowType[K, V]{}
	var errV, errK error
	t.value, errV = serde.PlanOf[V]()
	if reflect.TypeFor[K]() == reflect.TypeFor[NoKey]() {
		t.noKey = true
		return t, errV
	}
	if t.scalar = serde.IsScalar(reflect.TypeFor[K]()); !t.scalar {
		t.key, errK = serde.PlanOf[K]()
	}
	return t, errors.Join(errV, errK)
}

func (t *rowType[K, V]) columns() []string {
	var cols []string
	if t.value != nil {
		cols = append(cols, t.value.Columns()...)
	}
	for _, c := range t.keyColumns() {
		if !slices.Contains(cols, c) {
			cols = append(cols, c)
		}
	}
	return cols
}

func (t *rowType[K, V]) keyColumns() []string {
	if t.key == nil {
		return nil
	}
	return t.key.Columns()
}

// boundRow decodes rows of one relation.
type boundRow[K comparable, V any] struct {
	rel   *record.Relation
	key   *serde.Binding[K]
	value *serde.Binding[V]
}

// bind resolves the types against a relation and reports all that does not fit.
func (t *rowType[K, V]) bind(rel *record.Relation) (*boundRow[K, V], error) {
	out := &boundRow[K, V]{rel: rel}
	var errs []error
	var err error
	if out.value, err = t.value.Bind(rel); err != nil {
		errs = append(errs, err)
	}
	if !t.noKey {
		if out.key, err = t.bindKey(rel); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrSchema, errors.Join(errs...))
	}
	return out, nil
}

func (t *rowType[K, V]) bindKey(rel *record.Relation) (*serde.Binding[K], error) {
	var keys []string
	for _, c := range rel.Columns {
		if c.Key {
			keys = append(keys, c.Name)
		}
	}
	plan := t.key
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("table %s has no key in the log, which is that of its replica identity, a primary "+
			"key by default; give it one, or read it with sources.Stream and the key type sources.NoKey", rel)
	case t.scalar && len(keys) > 1:
		return nil, fmt.Errorf("the key of table %s has the columns %v, the key type %s is a single value; "+
			"use a struct with these columns", rel, keys, reflect.TypeFor[K]())
	case t.scalar:
		var err error
		if plan, err = serde.ScalarPlan[K](keys[0]); err != nil {
			return nil, err
		}
	default:
		want, have := slices.Sorted(slices.Values(plan.Columns())), slices.Sorted(slices.Values(keys))
		if !slices.Equal(want, have) {
			return nil, fmt.Errorf("the key of table %s has the columns %v, the key type %s has %v",
				rel, have, reflect.TypeFor[K](), want)
		}
	}
	return plan.BindKey(rel)
}

// nullGaps are those of the key and the value.
func (t *rowType[K, V]) nullGaps(rel *record.Relation) []serde.NullGap {
	// A catalog tells of every column; what else describes relations may not know.
	tells := rel.OID != 0 || slices.ContainsFunc(rel.Columns, func(c record.Column) bool { return c.NotNull })
	bound, err := t.bind(rel)
	if err != nil || !tells {
		return nil
	}
	var gaps []serde.NullGap
	if bound.key != nil {
		gaps = bound.key.NullGaps()
	}
	for _, g := range bound.value.NullGaps() {
		if !slices.ContainsFunc(gaps, func(k serde.NullGap) bool { return k.Column == g.Column }) {
			gaps = append(gaps, g)
		}
	}
	return gaps
}

// decodeError wraps what a binding could not decode.
func decodeError(rel *record.Relation, err error) error {
	return fmt.Errorf("%w: table %s: %w", ErrDecode, rel, err)
}
