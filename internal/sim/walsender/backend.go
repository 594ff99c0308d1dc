package walsender

import (
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// backend serves a connection.
type backend struct {
	s    *Server
	pid  int32
	link *link
	wire *pgproto3.Backend

	replicates bool
	inTx       bool
	// at is what the transaction sees, 0 for all there is.
	at uint64
	// commits are what the transaction has done.
	commits []func()
}

// fault is an error that a client is told.
type fault struct{ code, text string }

func (f *fault) Error() string { return f.text }

// run serves until the connection ends.
func (b *backend) run() {
	defer b.end()
	b.wire = pgproto3.NewBackend(b.link, b.link)
	m, err := b.wire.ReceiveStartupMessage()
	if err != nil {
		return
	}
	start, ok := m.(*pgproto3.StartupMessage)
	if !ok {
		return // the request to cancel something, mostly
	}
	b.replicates = start.Parameters["replication"] == "database"
	b.wire.Send(&pgproto3.AuthenticationOk{})
	for _, p := range [][2]string{
		{"server_version", "17.2"}, {"client_encoding", "UTF8"}, {"standard_conforming_strings", "on"},
	} {
		b.wire.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	b.wire.Send(&pgproto3.BackendKeyData{ProcessID: uint32(b.pid), SecretKey: []byte{1, 2, 3, 4}})
	if b.ready() == nil {
		b.serve()
	}
}

func (b *backend) end() {
	b.link.cut()
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.backs, b)
	for name, holder := range s.locks {
		if holder == b {
			delete(s.locks, name)
		}
	}
	if s.slot != nil && s.slot.reader == b {
		s.slot.reader, s.slot.until = nil, time.Now().Add(s.harm.linger)
		s.harm.linger = 0
	}
}

func (b *backend) ready() error {
	status := byte('I')
	if b.inTx {
		status = 'T'
	}
	b.wire.Send(&pgproto3.ReadyForQuery{TxStatus: status})
	return b.wire.Flush()
}

// serve answers what is asked.
func (b *backend) serve() {
	var sql string
	var args []string
	skip := false // up to a Sync, after an error
	for {
		m, err := b.wire.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			if strings.HasPrefix(m.String, "START_REPLICATION ") {
				err := b.stream(m.String)
				if f := (*fault)(nil); errors.As(err, &f) {
					b.refuse(f)
					break
				}
				return
			}
			b.simple(m.String)
		case *pgproto3.Parse:
			sql = m.Query
			b.wire.Send(&pgproto3.ParseComplete{})
			continue
		case *pgproto3.Bind:
			args = args[:0]
			for _, p := range m.Parameters {
				args = append(args, string(p))
			}
			b.wire.Send(&pgproto3.BindComplete{})
			continue
		case *pgproto3.Describe:
			continue // with the execution
		case *pgproto3.Execute:
			if !skip {
				skip = !b.answer(sql, args, true)
			}
			continue
		case *pgproto3.Sync:
			skip = false
		case *pgproto3.Terminate:
			return
		default:
			return
		}
		if b.ready() != nil {
			return
		}
	}
}

// simple answers statements one after the other.
func (b *backend) simple(sql string) {
	for one := range strings.SplitSeq(sql, ";") {
		if one = strings.TrimSpace(one); one != "" && !b.answer(one, nil, false) {
			return
		}
	}
}

func (b *backend) refuse(f *fault) {
	b.wire.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: f.code, Message: f.text})
}

// answer answers a statement.
func (b *backend) answer(sql string, args []string, described bool) bool {
	b.s.mu.Lock()
	out, err := b.execute(sql, args)
	b.s.mu.Unlock()
	if err != nil {
		f := &fault{"0A000", err.Error()}
		errors.As(err, &f)
		b.refuse(f)
		return false
	}
	if out.copied {
		b.wire.Send(&pgproto3.CopyOutResponse{})
		for _, line := range out.lines {
			b.wire.Send(&pgproto3.CopyData{Data: []byte(line)})
		}
		b.wire.Send(&pgproto3.CopyDone{})
	} else if out.rows != nil {
		b.wire.Send(&pgproto3.RowDescription{Fields: out.fields})
		for _, r := range out.rows {
			b.wire.Send(&pgproto3.DataRow{Values: r})
		}
	} else if described {
		b.wire.Send(&pgproto3.NoData{})
	}
	b.wire.Send(&pgproto3.CommandComplete{CommandTag: []byte("OK")})
	return true
}
