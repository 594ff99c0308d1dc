package apptest

import (
	"errors"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// lost sees that the topology is held since changes of its table are lost, while the other
// one goes on and equals SQL.
func (m *misfit) lost() {
	m.t.Helper()
	m.start()
	m.ready()
	m.fits.equal(m.t, m.db, "shop")
	await.That(m.t, "the topology is held", func() bool { return m.app.app.Status().Held["others"] != nil })
	if err := m.app.app.Status().Held["others"]; !errors.Is(err, postgres.ErrPublicationChanged) ||
		!errors.Is(err, sources.ErrDataGap) {
		m.t.Errorf("the topology is held by %v", err)
	}
	m.stop()
}

// TestUnpublishedTable takes a table out of the publication while the app is down, and puts
// it back: its readers are held, the others go on, and a new Version mends it. A start of
// the new version that fails hides nothing from the old one.
func TestUnpublishedTable(t *testing.T) {
	m := newMisfit(t)
	m.start()
	m.ready()
	m.stop()
	m.db.Exec("alter publication tailrace_misfit_shop drop table others",
		"insert into others values (11, 11)", "insert into items values (11, 11)")
	m.lost()
	m.db.Exec("alter publication tailrace_misfit_shop add table only others", "insert into items values (12, 12)")
	m.lost()

	m.version++
	off := failpoint.Set(failpoint.SlotCreated, func(int) error {
		return errors.Join(errors.New("no slot for the newcomer"), sources.ErrConfig)
	})
	m.start()
	if err := m.app.wait(t); !errors.Is(err, sources.ErrConfig) {
		t.Errorf("the app ended with %v", err)
	}
	off()
	m.version--
	m.lost()

	m.version++
	m.start()
	m.ready()
	for _, id := range []int64{1, 11} {
		if got, ok, _, err := m.others.Get(deadline(t), id); !ok || err != nil || got.Amount != id {
			t.Errorf("%d: %v %v %v", id, got, ok, err)
		}
	}
	m.stop()
	m.start() // and again, from the state
	m.ready()
	m.stop()
}

// TestUnpublishedAtWork takes a table out while the app runs: its readers are held, and the
// others go on, also after another start.
func TestUnpublishedAtWork(t *testing.T) {
	m := newMisfit(t)
	m.source = sources.NewDatabase("shop",
		postgres.Source(postgres.Config{URL: m.db.URL, MonitorInterval: 50 * time.Millisecond}))
	m.start()
	m.ready()
	m.db.Exec("alter publication tailrace_misfit_shop drop table others", "insert into others values (11, 11)")
	await.That(t, "the topology is held", func() bool { return m.app.app.Status().Held["others"] != nil })
	m.db.Exec("insert into items values (11, 11)")
	m.fits.equal(t, m.db, "shop")
	m.stop()
	m.lost()
}
