// Package chains tests operators behind one another: random topologies of all kinds of
// them give the same however the work is cut, crashed and divided.
package chains
