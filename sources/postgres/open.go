package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/pgtls"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// opening is the state of one Open.
type opening struct {
	cfg    Config
	own    bool // the slot's name is the default: nobody else's
	conn   *pgx.ConnConfig
	log    *slog.Logger
	req    sources.OpenRequest
	query  *pgx.Conn
	repl   *pgconn.PgConn
	server *server
	system string
	// timeline is the server's.
	timeline uint32
	tables   map[string]*table
	plan     planner
	slot     *slot
}

// Open checks the server and makes publications and slot. See the package comment for
// what it needs.
func (c *connector) Open(ctx context.Context, req sources.OpenRequest) (sources.Session, error) {
	for attempt := 1; ; attempt++ {
		s, err := c.openOnce(ctx, req)
		if attempt == 5 || !errors.Is(err, errAltered) {
			return s, err
		}
	}
}

func (c *connector) openOnce(ctx context.Context, req sources.OpenRequest) (sources.Session, error) {
	cfg, err := c.cfg.joining(req.Joins, req.App, req.Database).withDefaults(req.App, req.Database)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, sources.ErrConfig)
	}
	conn, err := parseURL(cfg.URL, cfg.silence)
	if err != nil {
		return nil, err
	}
	o := &opening{cfg: cfg, own: c.cfg.Slot == "" || req.Joins != "", conn: conn, log: req.Logger, req: req}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if o.req.Observe == nil {
		o.req.Observe = nobody{}
	}
	c.warned.Do(func() { pgtls.Warn(&conn.Config, o.log) })
	defer o.close(ctx)
	return o.open(ctx)
}

// close closes what the session hasn't taken over.
func (o *opening) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if o.query != nil {
		o.query.Close(ctx)
	}
	if o.repl != nil {
		o.repl.Close(ctx)
	}
}

func (o *opening) open(ctx context.Context) (sources.Session, error) {
	var err error
	if o.query, err = connect(ctx, o.conn); err != nil {
		return nil, err
	}
	if o.server, err = readServer(ctx, o.query); err != nil {
		return nil, err
	}
	if o.server.recovery && (o.req.Resume != 0 || o.req.System != "") {
		// A failover is under way. Where nothing was read before, the URL is what is wrong.
		return nil, fmt.Errorf("%w; if it is not about to be: name all hosts in the URL, with"+
			" target_session_attrs=read-write", errStandby)
	}
	problems := checkServer(o.server, o.cfg)
	more, err := o.replication(ctx)
	if err != nil {
		return nil, err
	}
	problems = append(problems, more...)
	if more, err = o.look(ctx); err != nil {
		return nil, err
	}
	if err := o.refuse(append(problems, more...)); err != nil {
		o.relieve(ctx)
		return nil, err
	}
	o.warnAdvice()
	plan, _ := o.plan.plan()
	if o.req.Resume != 0 {
		if err := o.resume(ctx, plan); err != nil {
			return nil, err
		}
	}
	if err := plan.apply(ctx, o.query, o.log); err != nil {
		return nil, err
	}
	return o.start(ctx, plan)
}

// refuse returns all that keeps us from reading, types that do not fit among it. Where no
// more is wrong than with certain tables, readers of others can tell.
func (o *opening) refuse(problems []Problem) error {
	var types error
	if o.req.Check != nil {
		types = o.req.Check(o.relations())
	}
	if len(problems) == 0 {
		return types
	}
	err := setupError(o.server.database, problems)
	var tables sources.TableError
	switch {
	case types == nil:
		return err
	case errors.As(err, &tables):
		return errors.Join(err, types)
	}
	return setupError(o.server.database, append(problems,
		Problem{Subject: "types", Text: types.Error(), Kind: sources.ErrSchema}))
}

// relations are the tables' shapes as the log will have them.
func (o *opening) relations() map[string]*record.Relation {
	out := map[string]*record.Relation{}
	for _, t := range o.tables {
		out[t.req.Name] = t.relation(o.plan.publishesGenerated(t), o.plan.columnList(t))
	}
	return out
}

// replication opens the replication connection and asks for the system's identity.
func (o *opening) replication(ctx context.Context) ([]Problem, error) {
	repl, err := connectReplication(ctx, o.conn)
	switch code := sqlState(err); {
	case code == "42501":
		return []Problem{{Subject: "role " + ident(o.server.role), Kind: sources.ErrConfig,
			Text: "it may not replicate", Fix: "ALTER ROLE " + ident(o.server.role) + " REPLICATION;"}}, nil
	case code == "53300" && o.server.senders >= o.server.maxSenders:
		return nil, nil // Reported already.
	case err != nil:
		return nil, err
	}
	o.repl = repl
	id, err := pglogrepl.IdentifySystem(ctx, repl)
	if err != nil {
		return nil, fmt.Errorf("postgres: IDENTIFY_SYSTEM: %w", err)
	}
	o.system = id.SystemID + "/" + id.DBName
	if o.req.System != "" && o.req.System != o.system {
		return nil, wrongSystem(o.req.System, o.system)
	}
	o.timeline = uint32(id.Timeline)
	return nil, checkTimeline(ctx, repl, o.timeline, o.req.Timeline, o.req.Resume)
}

// look reads tables, publications and slot, and returns what is wrong with them.
func (o *opening) look(ctx context.Context) ([]Problem, error) {
	var err error
	if o.tables, err = readTables(ctx, o.query, o.req.Tables); err != nil {
		return nil, err
	}
	problems := checkTables(o.server, o.req.Tables, o.tables)
	o.plan = planner{cfg: o.cfg, server: o.server, adding: o.req.Partial,
		comment: ownComment(o.req.App, o.req.Database, o.cfg.Slot)}
	for _, req := range o.req.Tables {
		if t := o.tables[req.Name]; t != nil && (t.kind == 'r' || t.kind == 'p') {
			o.plan.tables = append(o.plan.tables, t)
		}
	}
	o.plan.pubs, err = readPublications(ctx, o.query, o.server.version, o.cfg.Publication,
		o.cfg.Publication+insertSuffix)
	if err != nil {
		return nil, err
	}
	problems = append(problems, o.gaps()...)
	_, more := o.plan.plan()
	problems = append(problems, more...)
	if o.slot, err = readSlot(ctx, o.query, o.cfg.Slot); err != nil {
		return nil, err
	}
	return append(problems, o.checkSlot()...), nil
}

// checkSlot returns the problems with the slot that is there, or with making one.
func (o *opening) checkSlot() []Problem {
	if o.slot == nil {
		if o.req.Resume == 0 {
			return checkSlots(o.server)
		}
		return nil
	}
	drop := fmt.Sprintf(
		"set Config.Slot to another name, or, if nobody needs it: SELECT pg_drop_replication_slot(%s);",
		literal(o.cfg.Slot),
	)
	if o.req.Resume != 0 {
		drop += " What was written since our own slot was there cannot be had any more: " + beginAnew
	}
	if err := o.slot.mine(o.server.database); err != nil {
		return []Problem{
			{Subject: "slot " + o.cfg.Slot, Text: strings.TrimPrefix(err.Error(), "postgres: "), Fix: drop,
				Kind: ErrSlotForeign},
		}
	}
	if main := o.plan.main(); o.req.Resume == 0 && !o.own && (main == nil || !main.madeBy(o.plan.comment)) {
		return []Problem{{Subject: "slot " + o.cfg.Slot, Kind: ErrSlotForeign, Fix: drop,
			Text: "it is there, there is no state that continues from it, and nothing shows that this app made it"}}
	}
	return nil
}

// resume checks that slot and publications still deliver what follows the state.
func (o *opening) resume(ctx context.Context, plan plan) error {
	if o.slot == nil {
		return slotMissing(o.cfg.Slot, o.req.Resume)
	}
	s, err := o.waitForSlot(ctx)
	if err != nil {
		return err
	}
	if s == nil {
		return slotMissing(o.cfg.Slot, o.req.Resume)
	}
	if err := s.resumable(o.req.Resume); err != nil {
		return err
	}
	if s.walStatus == "unreserved" {
		o.log.Warn(
			"the server is about to remove log that the slot needs; raise max_slot_wal_keep_size",
			"slot",
			s.name,
		)
	}
	if plan.creates {
		return fmt.Errorf(
			"postgres: publication %s is not there: what was written meanwhile was not published; %s: %w",
			strings.Join(plan.missing(&o.plan), ", "),
			beginAnew,
			ErrPublicationMissing,
		)
	}
	return nil
}

// missing names the publications that are not there.
func (p plan) missing(of *planner) []string {
	var out []string
	for _, n := range p.names {
		if of.pubs[n] == nil {
			out = append(out, ident(n))
		}
	}
	return out
}

// start makes the slot, if there is no state, and the session.
func (o *opening) start(ctx context.Context, plan plan) (sources.Session, error) {
	from := o.req.Resume
	var snap *snapshotter
	if from == 0 {
		var err error
		if snap, err = o.beginSnapshot(ctx); err != nil {
			return nil, err
		}
		from = snap.point
	}
	if len(plan.sql) > 0 {
		var err error
		if o.plan.pubs, err = readPublications(ctx, o.query, o.server.version, plan.names...); err != nil {
			return nil, err
		}
	}
	s := &session{
		cfg: o.cfg, conn: o.conn, log: o.log, req: o.req, observer: o.req.Observe, server: o.server,
		system: o.system, relations: map[string]*record.Relation{}, pubs: plan.names,
		watch: newWatch(o.plan, plan.names), wake: make(chan struct{}, 1), space: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.status = newStatusSender(s)
	s.timeline.Store(o.timeline)
	if o.req.Resume != 0 {
		// Not more than was acknowledged before: others may need what lies before the resume.
		s.acked.Store(o.slot.confirmed)
	}
	s.handed.Store(o.req.Resume)
	prefixes := map[string]bool{}
	for _, p := range o.req.Messages {
		prefixes[p] = true
	}
	if o.req.EventTime {
		prefixes[sources.HeartbeatPrefix] = true
	}
	if main := o.plan.main(); o.plan.ours(main) &&
		(main == nil || main.owned && main.comment == o.plan.comment) {
		s.mark = "COMMENT ON PUBLICATION " + ident(o.cfg.Publication) + " IS " + literal(o.plan.comment+startedMark)
	}
	s.asm = &assembler{
		source:   o.req.Database,
		prefixes: prefixes,
		rels:     map[uint32]relation{},
		describe: newDescriber(o, s),
		from:     from,
		cur:      &batch{},
	}
	if snap != nil {
		s.snapshotOut = make(chan *sources.Batch, 1)
		s.snapshot = s.snapshotOut
		snap.relations = s.relations
	}
	s.wg.Add(1)
	go s.run(snap)
	s.wg.Go(s.monitor)
	if o.req.EventTime {
		s.wg.Go(s.heartbeats)
	}
	return s, nil
}

// publishesGenerated reports whether the log has the table's stored generated columns.
func (p *planner) publishesGenerated(t *table) bool {
	if p.ours(p.main()) && p.ours(p.inserts()) {
		return p.server.version >= 18 && (p.generated() || p.main() != nil && p.main().generated)
	}
	for _, pub := range p.covering(t) {
		if pub.generated || pub.members[t.oid].columns != nil { // A column list says which.
			return true
		}
	}
	return false
}

// columnList returns the columns the log has where a column list says so, else nil.
func (p *planner) columnList(t *table) []string {
	for _, pub := range p.covering(t) {
		if list := pub.members[t.oid].columns; list != nil {
			return list
		}
	}
	return nil
}

// nobody observes nothing.
type nobody struct{}

func (nobody) SnapshotProgress(string, int64, int64) {}
func (nobody) Lag(uint64, int64)                     {}
func (nobody) Disconnected(error)                    {}
func (nobody) Reconnected(error)                     {}
