package changelog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace/state"
)

// maxWipes is how often one call begins anew before it gives up: a log that changes under
// every attempt is not mended by another one.
const maxWipes = 3

// Restore brings the local state of a task up to its changelogs and returns the
// checkpoint that it then has.
//
// The caller has fetched the task's input offsets before, stable (without pending
// transactions), and holds the task alone. The target is the high watermark that is read
// after that: the offsets' part of a transaction may have been made visible before the
// changelogs' part, so the last stable offset could leave out a transaction whose offsets
// the caller has already. An open transaction of somebody else delays the end until it is
// ended, by its timeout at the latest.
//
// State whose changelog does not fit it any more is given up and restored from the log's
// start; see Reason. Errors are ErrForeign, ErrNoTopic, ErrFormat, those of the database,
// and of the context; calling again goes on from where it was.
func (r *Restorer) Restore(ctx context.Context, t Task) (Checkpoint, error) {
	run, err := r.start(ctx, t)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := run.loop(ctx, run.restored); err != nil {
		return Checkpoint{}, err
	}
	return run.ckpt.Clone(), nil
}

// Follow keeps the local state of a standby task up to the last stable offsets of its
// changelogs until the context ends, and then returns nil. To promote it, end the context,
// wait for the return, and call Restore.
func (r *Restorer) Follow(ctx context.Context, t Task) error {
	run, err := r.start(ctx, t)
	if err == nil {
		run.follows = true
		err = run.loop(ctx, func() bool { return false })
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// run is one Restore or Follow.
type run struct {
	*Restorer
	task    Task
	infos   map[string]TopicInfo
	stores  map[Partition]*storeRun
	order   []*storeRun // by id
	ckpt    Checkpoint
	saved   bool // the database holds ckpt
	follows bool
	wipes   int
	// looked is when the targets were read.
	looked  time.Time
	started time.Time
	told    time.Time
	counts  Progress
	passed  int64 // offsets
	sorter  sorter
}

// storeRun is a store and how far its changelog has to be read.
type storeRun struct {
	Store
	target int64
}

// start brings a task's checkpoint to where reading can begin.
func (r *Restorer) start(ctx context.Context, t Task) (*run, error) {
	run := &run{Restorer: r, task: t, stores: map[Partition]*storeRun{}, started: r.cfg.Now()}
	for _, s := range t.Stores {
		sr := &storeRun{Store: s}
		if run.stores[s.Partition] != nil {
			return nil, fmt.Errorf("changelog: task %s: two stores have the changelog %v", t.Name, s.Partition)
		}
		run.stores[s.Partition] = sr
		run.order = append(run.order, sr)
	}
	slices.SortFunc(run.order, func(a, b *storeRun) int { return int(int64(a.ID) - int64(b.ID)) })
	run.counts.Task = t.Name
	return run, run.load(ctx)
}

// load takes the checkpoint of the local state, or one at the start of the logs if there
// is none that can be continued, and sets the targets.
func (run *run) load(ctx context.Context) error {
	var err error
	if run.infos, err = run.topics(ctx, run.task); err != nil {
		return err
	}
	ckpt, ok, err := LoadCheckpoint(run.cfg.DB, run.task.Key)
	var reason Reason
	switch {
	case errors.Is(err, state.ErrCorrupt):
		reason = ReasonCorrupt
	case err != nil:
		return fmt.Errorf("changelog: task %s: %w", run.task.Name, err)
	case !ok:
		if err := run.clear(run.task); err != nil {
			return err
		}
	default:
		if reason, err = run.fits(&ckpt); err != nil {
			return err
		}
	}
	fresh := !ok || reason != ""
	if fresh {
		ckpt = run.fresh()
	}
	run.looked = run.cfg.Now()
	bounds, err := run.cfg.Log.Bounds(ctx, ckpt.Positions)
	if err != nil {
		return run.readError(ctx, err)
	}
	if !fresh {
		if reason = run.reaches(&ckpt, bounds); reason != "" {
			ckpt = run.fresh()
			fresh = true
		}
	}
	if reason != "" {
		if err := run.giveUp(reason); err != nil {
			return err
		}
	}
	for i := range bounds {
		at := &ckpt.Positions[i]
		if fresh {
			at.Next = bounds[i].Start
		}
		run.stores[at.Partition].target = bounds[i].End
	}
	run.ckpt, run.saved = ckpt, !fresh
	return nil
}

// fresh is the checkpoint of a task without state; its positions still lack offsets.
func (run *run) fresh() Checkpoint {
	c := Checkpoint{Identity: run.task.Identity, Time: run.cfg.Now()}
	for _, s := range run.order {
		c.Positions = append(c.Positions, Position{
			Partition: s.Partition, ID: run.infos[s.Topic].ID, Epoch: -1,
		})
	}
	slices.SortFunc(c.Positions, func(a, b Position) int { return a.compare(b.Partition) })
	return c
}

// fits compares a checkpoint with what the task is now.
func (run *run) fits(c *Checkpoint) (Reason, error) {
	is := run.task.Identity
	if c.Cluster != is.Cluster || c.App != is.App {
		return "", fmt.Errorf("%w: task %s: it is of app %q on cluster %s, and this is app %q on cluster %s; give "+
			"this one a state directory of its own, or connect to that cluster",
			ErrForeign, run.task.Name, c.App, c.Cluster, is.App, is.Cluster)
	}
	for _, at := range c.Positions {
		if s := run.stores[at.Partition]; s != nil && run.infos[at.Topic].ID != at.ID {
			return ReasonRecreated, nil
		}
	}
	if c.Topology != is.Topology {
		return "", fmt.Errorf(
			"%w: task %s: topology %s made it, and this is topology %s; its changelogs hold what "+
				"the other one made, too: go back to that one, or drop the app (tailrace drop) to build its state anew",
			ErrForeign,
			run.task.Name,
			c.Topology,
			is.Topology,
		)
	}
	if len(c.Positions) != len(run.stores) {
		return ReasonStores, nil
	}
	for _, at := range c.Positions {
		if run.stores[at.Partition] == nil {
			return ReasonStores, nil
		}
	}
	return "", nil
}

// reaches compares a checkpoint with what the logs hold.
func (run *run) reaches(c *Checkpoint, bounds []Bounds) Reason {
	for i := range c.Positions {
		at, b := &c.Positions[i], &bounds[i]
		age := run.looked.Sub(c.Time)
		switch {
		case b.End < at.Next, b.EpochEnd >= 0 && b.EpochEnd < at.Next:
			return ReasonTruncated
		case b.Start > at.Next:
			return ReasonOutOfRange
		case b.End > at.Next && age > run.infos[at.Topic].DeleteRetention/2:
			return ReasonOld
		}
	}
	return ""
}

// giveUp removes the local state, and counts it.
func (run *run) giveUp(reason Reason) error {
	run.wipes++
	if run.wipes > maxWipes {
		return fmt.Errorf("changelog: task %s: its changelogs changed %d times while they were read, at last: %s; "+
			"see what deletes or truncates them", run.task.Name, run.wipes, reason)
	}
	run.cfg.Logger.Warn("local state is given up and restored from the start of its changelogs",
		"task", run.task.Name, "reason", string(reason))
	run.cfg.Wiped(run.task.Name, reason)
	return run.Wipe(run.task)
}

// restored reports whether all targets are reached.
func (run *run) restored() bool {
	for i := range run.ckpt.Positions {
		if at := &run.ckpt.Positions[i]; at.Next < run.stores[at.Partition].target {
			return false
		}
	}
	return true
}

// loop reads and applies until done says so or the context ends. What makes the local
// state useless on the way begins it anew.
func (run *run) loop(ctx context.Context, done func() bool) error {
	for {
		err := run.read(ctx, done)
		if err == nil {
			return run.finish()
		}
		if err := run.readError(ctx, err); err != nil {
			return err
		}
	}
}

// readError looks whether a read that failed can be begun anew, and prepares that.
func (run *run) readError(ctx context.Context, err error) error {
	reason := ReasonOutOfRange
	switch {
	case errors.Is(err, ErrRecreated):
		reason = ReasonRecreated
	case !errors.Is(err, ErrOutOfRange):
		return fmt.Errorf("changelog: task %s: %w", run.task.Name, err)
	}
	if err := run.giveUp(reason); err != nil {
		return err
	}
	return run.load(ctx)
}

func (run *run) read(ctx context.Context, done func() bool) error {
	if done() || len(run.ckpt.Positions) == 0 {
		if run.follows {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	reader, err := run.cfg.Log.Read(ctx, run.ckpt.Positions)
	if err != nil {
		return err
	}
	defer reader.Close()
	for !done() {
		chunks, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if err := run.apply(chunks); err != nil {
			return err
		}
		run.tell(false)
	}
	return nil
}

// finish notes that the state holds all that the logs held when the targets were read.
func (run *run) finish() error {
	if !run.follows && (!run.saved || run.ckpt.Time.Before(run.looked)) {
		run.ckpt.Time = run.looked
		if err := run.save(); err != nil {
			return err
		}
	}
	run.tell(true)
	return nil
}

// save writes the checkpoint alone.
func (run *run) save() error {
	b := run.cfg.DB.NewBatch()
	defer b.Close()
	if err := b.Set(run.task.Key, run.ckpt.Append(nil)); err != nil {
		return err
	}
	if err := run.cfg.DB.Commit(b, false); err != nil {
		return fmt.Errorf("changelog: task %s: write its checkpoint: %w", run.task.Name, err)
	}
	run.saved = true
	return nil
}

// tell reports progress, when it is time.
func (run *run) tell(done bool) {
	now := run.cfg.Now()
	if !done && now.Sub(run.told) < run.cfg.ProgressEvery {
		return
	}
	run.told = now
	p := run.counts
	p.Done = done
	for i := range run.ckpt.Positions {
		at := &run.ckpt.Positions[i]
		p.Left += max(run.stores[at.Partition].target-at.Next, 0)
	}
	if spent := now.Sub(run.started).Seconds(); spent > 0 {
		p.Rate = float64(run.passed) / spent
	}
	if p.Rate > 0 {
		p.ETA = time.Duration(float64(p.Left) / p.Rate * float64(time.Second))
	}
	run.cfg.Progress(p)
}
