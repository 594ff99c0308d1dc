package pgserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range from which systems choose the local ports of
// outgoing connections. A server keeps its port while it is down, and in that range a
// client's redial could be given the server's own port, connect to itself and keep
// the server from coming back.
const (
	lowestPort  = 15_000
	highestPort = 32_000
)

func freePort() (int, error) {
	var refused error
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			refused = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("pgserver: find a free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("pgserver: find a free port: %w", refused)
}
