// Package pgdial makes the connections to databases that are read.
package pgdial

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Func dials, as net.Dialer.DialContext does.
type Func func(ctx context.Context, network, address string) (net.Conn, error)

// dialer notices, in the end, that the other side is gone.
var dialer = &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
	Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4,
}}

var instead atomic.Pointer[Func]

// Dial connects.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if f := instead.Load(); f != nil {
		return (*f)(ctx, network, address)
	}
	return dialer.DialContext(ctx, network, address)
}

// Instead has all connections be made by f, until the function returned is called: simulations
// have their servers in memory.
func Instead(f Func) (undo func()) {
	instead.Store(&f)
	return func() { instead.Store(nil) }
}
