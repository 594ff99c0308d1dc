package serde

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
)

func TestColumnNames(t *testing.T) {
	for name, want := range map[string]string{
		"ID": "id", "CustomerID": "customer_id", "UserIDs": "user_ids", "HTTPServer": "http_server", "URL": "url",
		"ID2Name": "id2_name", "APIKeyV2": "api_key_v2", "Already_snake": "already_snake", "X": "x",
		"CreatedAt":  "created_at",
		"IDsOfUsers": "ids_of_users", "OAuthToken": "o_auth_token", "Größe": "größe", "ÄrztIn": "ärzt_in",
	} {
		if got := snake(name); got != want {
			t.Errorf("%s stands for %s, want %s", name, got, want)
		}
	}
}

type audit struct {
	CreatedAt time.Time
	ChangedBy *string `db:"changed_by_user"`
}

type place struct{ Street, City string }

type wide struct {
	audit
	ID      int64
	Home    place    `db:",inline"`
	Skipped chan int `db:"-"`
	hidden  int
}

func TestColumnsOfNestedStructs(t *testing.T) {
	p, err := PlanOf[wide]()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"created_at", "changed_by_user", "id", "street", "city"}
	if got := p.Columns(); !reflect.DeepEqual(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
	_ = wide{}.hidden
}

// event embeds a value type: its methods must not be taken for those of the event.
type event struct {
	record.UUID
	Line int32
}

func TestEmbeddedValuesAreColumns(t *testing.T) {
	if IsScalar(reflect.TypeFor[event]()) {
		t.Fatal("a struct that embeds a UUID is taken for one")
	}
	p, err := PlanOf[event]()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Columns(), ","); got != "uuid,line" {
		t.Errorf("columns %s", got)
	}
}

type node struct {
	Name string
	Next *node
}

// TestUnsupportedFieldsAreListed wants all problems in one error, each with its
// path and what to do.
func TestUnsupportedFieldsAreListed(t *testing.T) {
	type bad struct {
		A map[string]int
		B place
		C chan int `db:"c"`
		D time.Duration
		E int64 `db:"id"`
		F int64 `db:"id"`
		G int64 `db:"g,unheard"`
		H []place
		I any
		*audit
		K string `db:"k,array"`
	}
	_, err := PlanOf[bad]()
	wantProblems(t, err, ErrUnsupported,
		"bad.A is map[string]int", "record.JSON", "bad.B is serde.place", "inline", "bad.C is chan int",
		"bad.D is time.Duration",
		"record.Interval", `bad.F and bad.E both stand for "id"`, `bad.G has the unknown option "unheard"`,
		"bad.H[] is serde.place",
		"bad.I is interface", "bad.K is no slice")

	type badOut struct {
		A chan int
		B map[place]int
		C node
		D func()
		E struct{ F any }
		G []time.Duration
	}
	_, err = OutPlanOf[badOut]()
	wantProblems(t, err, ErrUnsupported, "badOut.A is chan int", "badOut.B is map[serde.place]int",
		"contains itself",
		"badOut.D is func()", "badOut.E.F is interface", "badOut.G[] is time.Duration")
	if _, err := JSONOf[badOut](); err == nil {
		t.Error("the type has a JSON form")
	}
	if _, err := PlanOf[int64](); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a plan of int64: %v", err)
	}
	if _, err := PlanOf[struct{ x int }](); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a plan of no fields: %v", err)
	}
}

func wantProblems(t *testing.T, err, target error, parts ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want one that is %v", err, target)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%v", part, err)
		}
	}
}

func TestUnfitColumnsAreListed(t *testing.T) {
	type narrow struct {
		ID         int32
		Status     []byte
		Note       int64
		CreatedAt  record.Timestamp
		Total      int64
		CustomerID sql.Null[int16]
		Created    time.Time `db:"createdat"`
		Nothing    string
	}
	p, err := PlanOf[narrow]()
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Bind(orders)
	wantProblems(
		t,
		err,
		ErrUnfit,
		"public.orders.id is bigint; field narrow.ID is int32; use int64",
		"public.orders.status is text; field narrow.Status is []uint8; use string",
		"public.orders.total is numeric(10,2); field narrow.Total is int64; use record.Decimal, apd.Decimal or a type with UnmarshalText",
		"public.orders.created_at is timestamp with time zone; field narrow.CreatedAt is record.Timestamp; use time.Time",
		"sql.Null[int16]",
		"int32 or int64, in a sql.Null",
		"no column createdat for field narrow.Created; if you mean created_at",
		"no column nothing for field narrow.Nothing",
	)
}

// TestFits has which Go type takes which column.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		sqlType string
		bind    func(*record.Relation) error
		want    bool
	}{
		{"numeric(18,0)", bindTo[int64], true},
		{"numeric(19,0)", bindTo[int64], false},
		{"numeric(9)", bindTo[int32], true},
		{"numeric(10)", bindTo[int32], false},
		{"numeric(18,-1)", bindTo[int64], false},
		{"numeric", bindTo[int64], false},
		{"numeric(10,2)", bindTo[float64], false},
		{"bigint", bindTo[float64], false},
		{"bigint", bindTo[uint64], true},
		{"bigint", bindTo[uint16], false},
		{"integer", bindTo[int16], false},
		{"oid", bindTo[int32], false},
		{"timestamp(3) with time zone", bindTo[time.Time], true},
		{"timestamp(3) without time zone", bindTo[time.Time], false},
		{"date", bindTo[time.Time], false},
		{"interval day to second(3)", bindTo[record.Interval], true},
		{"shop.mood", bindTo[string], true},
		{"shop.mood", bindTo[int64], false},
		{"shop.mood[]", bindTo[[]string], true},
		{"shop.mood[]", bindTo[string], true},
		{"integer[]", bindTo[[]int16], false},
		{"integer[]", bindTo[int64], false},
		{"integer", bindTo[[]int64], false},
		{"integer[]", bindTo[[]sql.Null[int64]], true},
		{"int4range", bindTo[record.Range[int64]], true},
		{"int8range", bindTo[record.Range[int32]], false},
		{"tsrange", bindTo[record.Range[time.Time]], false},
		{"int4multirange", bindTo[record.Multirange[int32]], true},
		{"int4multirange", bindTo[record.Range[int32]], false},
		{"json", bindTo[[]byte], false},
		{"jsonb", bindTo[record.JSON], true},
		{"text", bindTo[record.JSON], false},
		{"uuid", bindTo[[16]byte], true},
		{"uuid", bindTo[[8]byte], false},
		{"inet", bindTo[netip.Addr], true},
		{"cidr", bindTo[netip.Addr], false},
		{"", bindTo[int64], true},
		{"int8", bindTo[int64], true},
		{"timestamptz", bindTo[time.Time], true},
		{`"char"`, bindTo[string], true},
		{"interval", bindTo[money], true},
	} {
		rel := relationOf(c.sqlType)
		if err := c.bind(rel); (err == nil) != c.want {
			t.Errorf("%s: fits %v, want %v (%v)", c.sqlType, err == nil, c.want, err)
		}
	}
	domain := relationOf("shop.positive")
	domain.Columns[0].Base = "integer"
	if err := bindTo[int32](domain); err != nil {
		t.Errorf("a domain over integer: %v", err)
	}
	if err := bindTo[int16](domain); err == nil {
		t.Error("a domain over integer fits int16")
	}
	if err := bindTo[int32](relationOf("shop.positive")); err == nil {
		t.Error("a domain of unknown base fits int32")
	}
}

func bindTo[T any](rel *record.Relation) error {
	p, err := ScalarPlan[T]("v")
	if err != nil {
		return err
	}
	_, err = p.Bind(rel)
	return err
}

// money is a type of a user's own that has only database/sql's methods.
type money struct{ cents int64 }

func (m *money) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return errors.New("not an integer: " + reflect.TypeOf(src).String())
	}
	m.cents = n
	return nil
}

func (m money) Value() (driver.Value, error) { return m.cents, nil }

// loose is a scanner that takes NULL and keeps what it was given.
type loose struct{ got any }

func (l *loose) Scan(src any) error { l.got = src; return nil }

func TestForeignTypes(t *testing.T) {
	if got := decodeOne[money](t, "bigint", "125"); got.cents != 125 {
		t.Errorf("money: %v", got)
	}
	for _, c := range []struct {
		sqlType, text string
		want          any
	}{
		{"bigint", "7", int64(7)}, {"boolean", "t", true}, {"double precision", "0.5", 0.5}, {"text", "x", "x"},
		{"bytea", `\x01`, []byte{1}}, {"numeric", "1.50", "1.50"}, {"integer[]", "{1}", "{1}"},
		{"timestamp with time zone", "2024-01-01 00:00:00+00", time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if got := decodeOne[loose](t, c.sqlType, c.text); !reflect.DeepEqual(got.got, c.want) {
			t.Errorf("Scan of %s is given %#v, want %#v", c.sqlType, got.got, c.want)
		}
	}
	p, err := OutPlanOf[struct {
		M money
		S status
		N sql.Null[money]
		P *status
	}]()
	if err != nil {
		t.Fatal(err)
	}
	want := []OutColumn{{"m", "bigint", true}, {"s", "text", false}, {"n", "bigint", true}, {"p", "text",
		true}}
	if got := p.OutColumns(); !reflect.DeepEqual(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
}

func decodeOne[T any](t *testing.T, sqlType, text string) T {
	t.Helper()
	v, err := tryDecode[T](sqlType, record.Value{Kind: record.Text, Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func tryDecode[T any](sqlType string, value record.Value) (v T, err error) {
	p, err := ScalarPlan[T]("v")
	if err != nil {
		return v, err
	}
	b, err := p.Bind(relationOf(sqlType))
	if err != nil {
		return v, err
	}
	err = b.Decode(&v, record.Tuple{value})
	return v, err
}

func TestOutColumns(t *testing.T) {
	type all struct {
		A int64
		B int32
		C int16
		D uint64
		E uint32
		F string
		G bool
		H float64
		I float32
		J []byte
		K time.Time
		L record.Timestamp
		M record.Decimal
		N []string
		O place
		P map[string]int
		Q json.RawMessage
		R sql.Null[int64]
		S *string
		T record.Array[int64]
		U []string `db:"u,array"`
		V record.Date
		W record.Range[record.Date]
		X record.Decimal `db:"x,type=numeric(12,2)"`
		Y record.Multirange[time.Time]
		Z [4]byte
	}
	p, err := OutPlanOf[all]()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.OutColumns() {
		null := ""
		if c.Nullable {
			null = " null"
		}
		got = append(got, c.Name+" "+c.Type+null)
	}
	want := `a bigint,b integer,c smallint,d numeric(20,0),e bigint,f text,g boolean,h double precision,i real,j bytea,` +
		`k timestamptz,l timestamp,m numeric,n jsonb,o jsonb,p jsonb,q jsonb,r bigint null,s text null,t bigint[],u text[],` +
		`v date,w daterange,x numeric(12,2),y tstzmultirange,z bytea`
	if g := strings.Join(got, ","); g != want {
		t.Errorf("columns\n%s, want\n%s", g, want)
	}
}

// TestPlainWords has what a newcomer gets wrong first.
func TestPlainWords(t *testing.T) {
	type row struct{ ID int64 }
	_, err := PlanOf[*row]()
	if err == nil || !strings.Contains(err.Error(), "is a pointer; drop the *: use serde.row") {
		t.Errorf("a pointer: %v", err)
	}
	p, err := ScalarPlan[int32]("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Bind(&record.Relation{Schema: "public", Name: "t", Columns: []record.Column{
		{Name: "id", Type: "bigint", TypeOID: 20, TypeMod: -1, Key: true, NotNull: true},
	}})
	wantProblems(t, err, ErrUnfit, "public.t.id is bigint; the Go type is int32; use int64")
}
