package view

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"sync/atomic"
)

// Port is a view without its types, as a driver and the HTTP handler see it. The
// driver finds it in the Sink field of a node of kind "view" and binds it with
// [Host.Bind]. Only *View implements it.
type Port interface {
	// Topology and Name name the view.
	Topology() string
	Name() string
	// Stores are the names of the node's stores: first the rows, named "", then one
	// for each index, named for it.
	Stores() []string
	port() *core
}

// Changed is implemented by the running form of a view node: what it has written
// since the last commit.
type Changed interface {
	// Dirty calls fn for every row written since the last commit, with the row's key
	// and value as stored, in ascending key order, until it returns false. The slices
	// are valid during the call.
	Dirty(fn func(key, value []byte, deleted bool) bool) error
}

// core is what a view is without its types.
type core struct {
	self           Port
	topology, name string
	key, value     reflect.Type
	indexes        []indexCore
	text           rowText
	// divide returns the part of an encoded key that keys are divided by.
	divide  func(key []byte) []byte
	binding atomic.Pointer[binding]
}

// indexCore is a declared index without its types.
type indexCore struct {
	name  string
	value reflect.Type
	text  keyText
}

// binding ties a view to the host of a running app.
type binding struct {
	host *Host
	// rows is the prefix of the row store, indexes those of the index stores in
	// order of declaration.
	rows    []byte
	indexes [][]byte
}

// bound returns the view's binding.
func (c *core) bound() (*binding, error) {
	b := c.binding.Load()
	if b == nil {
		return nil, fmt.Errorf("%w (view %q)", ErrNotBound, c.name)
	}
	return b, nil
}

// index returns the place of a declared index.
func (c *core) index(name string) (int, error) {
	for i := range c.indexes {
		if c.indexes[i].name == name {
			return i, nil
		}
	}
	names := make([]string, len(c.indexes))
	for i := range c.indexes {
		names[i] = c.indexes[i].name
	}
	return 0, fmt.Errorf("%w: %q on view %q, which declares %q; declare it with view.Index at sinks.View",
		ErrNoIndex, name, c.name, names)
}

// storePrefix is how a store's keys begin in the database.
func storePrefix(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }
