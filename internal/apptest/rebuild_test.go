package apptest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// leastRights makes the app a role that may do what docs/postgres-setup.md grants, and
// as the owner the publication that it reads.
func (p *post) leastRights() {
	p.t.Helper()
	role := "post_" + p.db.Name
	p.db.Exec(fmt.Sprintf("create role %s login replication password 'x'", role),
		"grant select on customers, notices to "+role,
		"create publication tailrace_post_shop for table customers, notices")
	p.t.Cleanup(func() { p.db.Exec(fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", role)) })
	u, err := url.Parse(p.db.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	p.pg.URL, p.pg.ManagePublication = u.String(), postgres.PublicationNever
}

func (p *post) plan() *tailrace.Plan {
	p.t.Helper()
	app, err := tailrace.New(p.cfg, p.topology())
	if err != nil {
		p.t.Fatal(err)
	}
	plan, err := app.Plan(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return plan
}

// slots counts the slots of the database.
func (p *post) slots() string {
	return p.db.String("select count(*) from pg_replication_slots where database = current_database()")
}

// TestRebuildWithLeastRights rebuilds with a role that can make no publication: the
// app's own serves the snapshot too. The slot of that is never the app's, whatever the
// app's is called.
func TestRebuildWithLeastRights(t *testing.T) {
	for _, slot := range []string{"", "own"} {
		t.Run("slot="+slot, func(t *testing.T) {
			p := newPost(t)
			p.leastRights()
			if slot != "" {
				p.pg.Slot, p.pg.Publication = slot+"_"+p.db.Name, "tailrace_post_shop"
			}
			p.insert(1)
			app := start(t, p.cfg, p.topology())
			p.want(app, "1 n1 bob")
			p.stop(app)
			p.insert(2)
			p.version++
			app = start(t, p.cfg, p.topology())
			p.want(app, "1 n1 bob", "2 n2 ann again")
			p.insert(3)
			p.want(app, "1 n1 bob", "2 n2 ann again", "3 n3 bob")
			p.stop(app)
			if n := p.slots(); n != "1" {
				t.Errorf("%s slots are left", n)
			}
		})
	}
}

// TestRebuildWithoutRights changes the topology so that it reads a table that the role
// may not read: the app stops and says so, and has cost nothing.
func TestRebuildWithoutRights(t *testing.T) {
	p := newPost(t)
	p.leastRights()
	p.insert(1)
	app := start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob")
	p.stop(app)
	before := p.plan()
	p.insert(2)
	p.db.Exec("create table people as select * from customers", "alter table people add primary key (id)")
	p.table = "people"
	if err := start(t, p.cfg, p.topology()).waitEnd(t); !errors.Is(err, sources.ErrConfig) ||
		!strings.Contains(err.Error(), `GRANT SELECT ON "public"."people"`) {
		t.Fatalf("got %v", err)
	}
	changed := p.plan()
	if got := changed.Topologies[0]; got.Action != topology.ActionRebuild || got.Positions == nil {
		t.Errorf("the plan is\n%s", changed)
	}
	p.table = "customers"
	if after := p.plan(); after.String() != before.String() {
		t.Errorf("the plan is\n%s and was\n%s", after, before)
	}
	app = start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob", "2 n2 ann")
}

// TestRebuildCutShort stops in the middle of the snapshot of a rebuild: the plan says
// that it is still to come.
func TestRebuildCutShort(t *testing.T) {
	p := newPost(t)
	p.insert(1)
	app := start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob")
	p.stop(app)
	p.insert(2)
	p.db.Exec("insert into customers select i, 'x' from generate_series(10, 2000) i")
	p.pg.SnapshotRateLimit = 1 // the snapshot never ends
	p.version++
	app = start(t, p.cfg, p.topology())
	await.That(t, "the slot of the snapshot", func() bool { return p.slots() == "2" })
	await.That(t, "the old state is dropped", func() bool {
		plan, err := app.app.Plan(t.Context())
		return err == nil && len(plan.Topologies[0].Positions) == 0
	})
	p.stop(app)
	plan := p.plan()
	if got := plan.Topologies[0]; got.Action != topology.ActionRebuild || !plan.Rebuilds() {
		t.Errorf("the plan is\n%s", plan)
	}
	p.pg.SnapshotRateLimit = 0
	app = start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob", "2 n2 ann again")
}
