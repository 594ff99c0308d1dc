package postgres

import (
	"errors"
	"fmt"
	"strings"
)

// PostgreSQL's own decoding has bugs where tables are rewritten while transactions are open,
// most of all where it sends these before they commit. It then ends each connection at the
// same place with an internal error (class XX), which no new connection mends.

// errDecoding marks internal errors of the server that a stream ended with.
var errDecoding = errors.New("PostgreSQL's own decoding of the log fails")

// decodingFailed marks an error if it is an internal one of the server.
func decodingFailed(err error) error {
	if strings.HasPrefix(sqlState(err), "XX") {
		return fmt.Errorf("postgres: %w: %w", errDecoding, err)
	}
	return err
}

// decoding counts the connections in a row that the server's decoding has ended at one place.
type decoding struct {
	times int
	at    uint64
}

// decodingTimes is after how many of them there is more to say than that it is tried again.
const decodingTimes = 3

// judge returns the error that a connection ended with, with a remedy where it has come
// several times without progress, and whether whole transactions are to be asked for instead
// of those that are open. It stays one that a new connection may mend: a newer release of the
// server may be started meanwhile.
func (d *decoding) judge(err error, received uint64, streaming bool) (judged error, whole bool) {
	switch {
	case !errors.Is(err, errDecoding):
		*d = decoding{}
		return err, false
	case received != d.at || d.times == 0:
		*d = decoding{times: 1, at: received}
	default:
		d.times++
	}
	switch {
	case d.times < decodingTimes:
		return err, false
	case streaming:
		*d = decoding{} // Whole transactions have as many times.
		return fmt.Errorf("%w (%d connections in a row ended with it; without Config.Streaming, protocol 1, it "+
			"may get past)", err, decodingTimes), true
	}
	return fmt.Errorf("%w (%d connections in a row ended with it at one place: look for it in the server's "+
		"log, and for a newer minor release of the server; where it stays: %s)", err, d.times, beginAnew), false
}

// streams reports whether the server is to send transactions before they commit.
func (s *session) streams() bool {
	// A message of a subtransaction that was rolled back cannot be told from others in a
	// streamed transaction, so messages and streaming exclude each other.
	return s.cfg.Streaming && !s.whole && len(s.req.Messages) == 0
}

// judgeDecoding is d.judge for the stream that the session has just lost.
func (s *session) judgeDecoding(d *decoding, err error) error {
	err, whole := d.judge(err, s.received.Load(), s.streams())
	if whole {
		s.whole = true
		s.log.Warn("PostgreSQL cannot decode its log with Config.Streaming: whole transactions are read "+
			"(protocol 1) until the source is opened again; if it gets past, set Streaming to false",
			"slot", s.cfg.Slot, "error", err)
	}
	return err
}
