//go:build !linux

package postgres

import "net"

// quiet does nothing where the system has no such setting that helps.
func quiet(net.Conn, int) {}

// loud undoes quiet.
func loud(net.Conn) {}
