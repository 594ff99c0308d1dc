//go:build !linux

package main

import "net"

// lowWater does nothing where the system has no such setting that helps.
func lowWater(net.Conn, int) {}
