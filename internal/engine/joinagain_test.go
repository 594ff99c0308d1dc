package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// A newcomer that loses its source after its snapshot was written begins anew, and nothing
// of before stays, neither in its views nor in what waits for targets. The others go on.
func TestNewcomerLosesItsSource(t *testing.T) {
	for name, cut := range map[string]error{"connection": errors.New("cut"), "log": sources.ErrDataGap} {
		t.Run(name, func(t *testing.T) {
			j := newJoining(t)
			plain := j.beside
			j.beside = func(b *topology.Builder, db *sources.Database) {
				plain(b, db)
				sinks.Table(sources.Table[int64, item](b, db, "public.items", sources.As[item]("rows")), j.out, "rows")
			}
			off := failpoint.Set(failpoint.JoinerSync, func(int) error { return nil })
			defer off()
			written, ends := 0, 0
			j.source.endsJoining = func() error {
				if ends++; ends > 1 {
					return nil
				}
				await.That(t, "what it has written", func() bool { return failpoint.Hits(failpoint.JoinerSync) > 0 })
				written = failpoint.Hits(failpoint.JoinerSync)
				// What is there is another one, so that rows that have stayed would show.
				j.source.tx(true, 1, 3)
				j.source.tx(false, 4)
				return cut
			}
			close(j.source.gate)
			if err := j.run(func(e *Engine) {
				wait(t, e.Joined())
				j.reaches(j.second, 80)
				got := map[int64]bool{}
				rows := j.second.Range(t.Context(), view.All[int64]())
				for key := range rows.All() {
					got[key] = true
				}
				if want := map[int64]bool{1: true, 3: true, 4: true}; rows.Err() != nil || !maps.Equal(got, want) {
					t.Errorf("the newcomer's view holds %v, %v", got, rows.Err())
				}
				var keys []string
				for range 3 {
					keys = append(keys, wait(t, j.target.taken).columns[0])
				}
				if slices.Sort(keys); !slices.Equal(keys, []string{"1", "3", "4"}) {
					t.Errorf("the target got %q", keys)
				}
				if len(j.target.taken) > 0 {
					t.Errorf("the target got %v too", wait(t, j.target.taken))
				}
				if err := e.Status().Sources["shop"]; err != nil {
					t.Errorf("the source is said to fail: %v", err)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if written == 0 || ends < 2 {
				t.Errorf("%d commits before the cut, %d ends", written, ends)
			}
		})
	}
}

// What another session could not mend ends the engine, also where a connector has an error of
// its own for it.
func TestNewcomerFailsForGood(t *testing.T) {
	for _, cause := range []error{sources.ErrDecode, postgres.ErrTooManyRows, postgres.ErrRetainedWAL} {
		t.Run(cause.Error(), func(t *testing.T) {
			j := newJoining(t)
			j.source.endsJoining = func() error { return fmt.Errorf("session: %w", cause) }
			close(j.source.gate)
			if err := j.run(nil); !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// misfitsLater refuses the loop's sessions from the moment on at which a newcomer has one.
type misfitsLater struct {
	*scriptedSource
	on *atomic.Bool
}

func (m misfitsLater) Open(ctx context.Context, req sources.OpenRequest) (sources.Session, error) {
	ofItems := func(t sources.TableRequest) bool { return t.Name == "public.items" }
	if m.on.Load() && req.Joins == "" && slices.ContainsFunc(req.Tables, ofItems) {
		return nil, misfit{"public.items"}
	}
	if req.Joins != "" {
		m.on.Store(true)
	}
	return m.scriptedSource.Open(ctx, req)
}

// Where all who go on over a database are held, before a newcomer sets out or on its way, the
// newcomer is held, too: nothing says where it could join, and the slot is of those others.
func TestNewcomerIsStranded(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			j := newJoining(t)
			j.beside = func(b *topology.Builder, db *sources.Database) {
				j.second = sinks.View(sources.Table[int64, item](b, db, "public.more"), "second")
			}
			var on atomic.Bool
			on.Store(before)
			j.in = misfitsLater{j.source, &on}
			opens := len(j.source.opens)
			j.source.breaks = func(joins bool) error {
				if !joins && on.Load() {
					return sources.ErrReopen
				}
				return nil
			}
			err := j.run(func(e *Engine) {
				if !before {
					await.That(t, "the newcomer's session", on.Load)
					j.source.tx(false, 3)
				}
				await.That(t, "the end", func() bool { return e.Status().Stopped })
			})
			if !errors.Is(err, sources.ErrSchema) || !errors.Is(err, errStranded) {
				t.Errorf("the engine ended with %v", err)
			}
			for _, req := range j.source.opens[opens:] {
				if req.Joins == "" && req.Resume == 0 {
					t.Errorf("the app's own slot was begun anew, for %v", req.Tables)
				}
			}
		})
	}
}
