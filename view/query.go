package view

// query is what a cursor goes on with.
type query struct{}
