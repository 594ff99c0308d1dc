package operators_test

import "database/sql"

// The types of the examples: a small shop.

type Customer struct {
	Name string
	City string
}

type Order struct {
	CustomerID int64
	Status     string
	Cents      int64
}

type Line struct {
	Customer string
	Cents    int64
}

// Parcel refers to an order, or to none.
type Parcel struct {
	OrderID sql.Null[int64]
	Weight  int64
}

type Click struct {
	CustomerID int64
	Page       string
}
