// Package fkjoin is the topology of the foreign-key join example: customers with
// their addresses.
//
// It is the textbook case of joining two change streams, and where many tools are
// wrong for good: an address that moves to another customer stays with the first one
// as well, a customer's change goes out once for each address, with the list taken
// apart and put together again in between, and a customer without addresses is
// there or not depending on how it came to have none.
package fkjoin

import (
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Customer is a row of inventory.customers.
type Customer struct {
	ID        int32
	FirstName string
	LastName  string
	Email     string
}

// Address is a row of inventory.addresses.
type Address struct {
	ID         int32
	CustomerID int32
	Street     string
	City       string
	Zipcode    string
	Country    string
}

// Place is an address with the customer who lives there.
type Place struct {
	Customer Customer
	Address  Address
}

// Resident is a customer with all addresses, in the order of their ids.
type Resident struct {
	Customer  Customer
	Addresses []Address
}

// Views are the example's two results.
type Views struct {
	// WithAddresses has the customers that have an address (INNER JOIN): a customer
	// whose last address goes, goes too.
	WithAddresses *view.View[int32, Resident]
	// All has all customers (LEFT JOIN), with an empty list where there is no address.
	All *view.View[int32, Resident]
}

// SQLWithAddresses and SQLAll are what the two views always equal.
const (
	SQLWithAddresses = `SELECT c.id AS key, to_json(c) AS customer, json_agg(to_json(a) ORDER BY a.id) AS addresses
	FROM inventory.customers AS c JOIN inventory.addresses AS a ON a.customer_id = c.id GROUP BY c.id`
	SQLAll = `SELECT c.id AS key, to_json(c) AS customer,
		coalesce(json_agg(to_json(a) ORDER BY a.id) FILTER (WHERE a.id IS NOT NULL), '[]') AS addresses
	FROM inventory.customers AS c LEFT JOIN inventory.addresses AS a ON a.customer_id = c.id GROUP BY c.id`
)

// Topology builds the topology. Its results are kept as views and, where a warehouse is
// given, as its tables customers_with_addresses and customers.
func Topology(shop *sources.Database, warehouse *sinks.Target) (*topology.Topology, Views, error) {
	b := topology.New("fk-join")
	customers := sources.Table[int32, Customer](b, shop, "inventory.customers")
	addresses := sources.Table[int32, Address](b, shop, "inventory.addresses")

	// Customers that have addresses: join each address to its customer, then group.
	places := operators.JoinForeignKey("address-customer", addresses, customers,
		func(a Address) int32 { return a.CustomerID },
		func(a Address, c Customer) Place { return Place{Customer: c, Address: a} })
	residents := operators.Aggregate("addresses-per-customer",
		operators.GroupBy(places, func(_ int32, p Place) int32 { return p.Customer.ID }),
		aggregate.Combine2(
			aggregate.ArgMin(
				func(p Place) int32 { return p.Address.ID },
				func(p Place) Customer { return p.Customer }),
			aggregate.Collect(
				func(p Place) int32 { return p.Address.ID },
				func(p Place) Address { return p.Address }),
			func(c Customer, a []Address) Resident { return Resident{Customer: c, Addresses: a} }))

	// All customers: group the addresses, then join the lists to the customers.
	lists := operators.Aggregate("address-lists",
		operators.GroupBy(addresses, func(_ int32, a Address) int32 { return a.CustomerID }),
		aggregate.Collect(
			func(a Address) int32 { return a.ID },
			func(a Address) Address { return a }))
	all := operators.LeftJoin("customer-addresses", customers, lists,
		func(c Customer, list []Address, _ bool) Resident {
			if list == nil {
				list = []Address{}
			}
			return Resident{Customer: c, Addresses: list}
		})

	if warehouse != nil {
		sinks.Table(residents, warehouse, "customers_with_addresses")
		sinks.Table(all, warehouse, "customers")
	}
	v := Views{
		WithAddresses: sinks.View(residents, "customers-with-addresses"),
		All:           sinks.View(all, "customers"),
	}
	topo, err := b.Build()
	return topo, v, err
}
