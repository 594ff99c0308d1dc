// Package outbox is the topology of the outbox example: the events that an
// application writes into an outbox table, each enriched with the order and the
// customer it is about, and delivered exactly once.
package outbox

import (
	"database/sql"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// Event is a row of the outbox.
type Event struct {
	Kind       string
	OrderID    int64
	CustomerID sql.Null[int64]
	Payload    record.JSON
}

// Order and Customer are the reference rows.
type (
	Order    struct{ Status string }
	Customer struct{ Name, City string }
)

// WithOrder is an event with its order's state.
type WithOrder struct {
	Event
	Status sql.Null[string]
}

// Message is what is delivered.
type Message struct {
	Kind     string
	OrderID  int64
	Status   sql.Null[string]
	Customer sql.Null[string]
	City     sql.Null[string]
	Payload  record.JSON
}

// Topology builds the topology. Its messages go to the stream "shop-events" of the
// target. An application may delete an outbox row in the transaction that wrote it:
// the row's insert is the event.
//
// The reference rows are those of the event's own transaction: an order and the event
// about it, written together, meet, and a later change of the order does not
// touch what has gone out.
func Topology(shop *sources.Database, target *sinks.Target) (*topology.Topology, error) {
	b := topology.New("outbox")
	events := sources.Outbox[record.UUID, Event](b, shop, "public.outbox")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")

	withOrder := operators.LeftEnrich("event-order", events, orders,
		func(e Event) int64 { return e.OrderID },
		func(e Event, o Order, ok bool) WithOrder {
			return WithOrder{Event: e, Status: sql.Null[string]{V: o.Status, Valid: ok}}
		})
	messages := operators.EnrichContext("event-customer", withOrder, customers,
		func(_ record.Context, _ record.UUID, e WithOrder) (int64, bool, error) {
			return e.CustomerID.V, e.CustomerID.Valid, nil
		},
		func(_ record.Context, _ record.UUID, e WithOrder, c Customer, ok bool) (Message, bool, error) {
			return Message{
				Kind: e.Kind, OrderID: e.OrderID, Status: e.Status, Payload: e.Payload,
				Customer: sql.Null[string]{V: c.Name, Valid: ok}, City: sql.Null[string]{V: c.City, Valid: ok},
			}, true, nil
		})

	sinks.Stream(messages, target, "shop-events")
	return b.Build()
}
