package pgoutput

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
)

// vectors are messages that a server sent.
func vectors(t testing.TB) map[string][][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	out := map[string][][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var messages []string
		if err := json.Unmarshal(text, &messages); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, m := range messages {
			b, err := hex.DecodeString(m)
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			name := strings.TrimSuffix(filepath.Base(f), ".json")
			out[name] = append(out[name], b)
		}
	}
	return out
}

// print decodes a message with whatever decodes its kind, and shows the result.
func print(msg []byte) (string, error) {
	if len(msg) == 0 {
		return "", ErrMalformed
	}
	kind, body := Kind(msg[0]), msg[1:]
	switch kind {
	case Begin:
		m, err := ParseBegin(body)
		return fmt.Sprintf("begin %d", m.XID), err
	case Commit:
		m, err := ParseCommit(body)
		if err == nil && m.EndLSN <= m.CommitLSN {
			err = errors.New("commit ends before it begins")
		}
		return "commit", err
	case StreamCommit:
		m, err := ParseStreamCommit(body)
		return fmt.Sprintf("stream commit %d", m.XID), err
	case StreamStart:
		xid, _, err := ParseStreamStart(body)
		return fmt.Sprintf("stream start %d", xid), err
	case StreamAbort:
		xid, sub, err := ParseStreamAbort(body)
		return fmt.Sprintf("stream abort %d %d", xid, sub), err
	case Origin:
		return ParseOrigin(body)
	case Relation:
		m, err := ParseRelation(body)
		s := fmt.Sprintf("relation %s.%s %c", m.Schema, m.Name, m.Identity)
		for _, c := range m.Columns {
			s += fmt.Sprintf(" %s:%d", c.Name, c.TypeOID)
			if c.Key {
				s += "*"
			}
		}
		return s, err
	case Truncate:
		oids, err := ParseTruncate(body, nil)
		return fmt.Sprintf("truncate %d", len(oids)), err
	case Message:
		m, err := ParseMessage(body)
		return fmt.Sprintf("message %v %s=%s", m.Transactional, m.Prefix, m.Content), err
	case Insert, Update, Delete:
		return printChange(kind, body)
	}
	_, _, err := ParseXID(body)
	return "other", err
}

func printChange(kind Kind, body []byte) (string, error) {
	m, err := ParseChange(kind, body)
	if err != nil {
		return "", err
	}
	s := fmt.Sprintf("%c", kind)
	show := func(vals []record.Value) {
		for _, v := range vals {
			switch v.Kind {
			case record.Null:
				s += " -"
			case record.Unchanged:
				s += " ?"
			default:
				s += fmt.Sprintf(" %.12s", v.Data)
			}
		}
	}
	if m.OldKind != record.OldNone {
		vals := make([]record.Value, m.Width())
		if err := m.Old(vals); err != nil {
			return "", err
		}
		s += fmt.Sprintf(" old%d", m.OldKind)
		show(vals)
	}
	if kind != Delete {
		vals := make([]record.Value, m.Width())
		if err := m.New(vals); err != nil {
			return "", err
		}
		s += " new"
		show(vals)
	}
	return s, nil
}

// Real messages decode to what was written; the lines are read off the SQL that made
// them.
func TestVectors(t *testing.T) {
	for name, want := range map[string][]string{
		"logical-message":  {"message false foo=non-tx", "message true"},
		"truncate":         {"truncate 2", "I new"},
		"pk-change":        {"U old1"},
		"replica-identity": {"D old1", "D old2", "U old2"},
	} {
		var all bytes.Buffer
		for _, msg := range vectors(t)[name] {
			s, err := print(msg)
			if err != nil {
				t.Errorf("%s: %x: %v", name, msg, err)
			}
			all.WriteString(s + "\n")
		}
		for _, w := range want {
			if !strings.Contains(all.String(), w) {
				t.Errorf("%s lacks %q:\n%s", name, w, &all)
			}
		}
	}
}

// A message that is cut short anywhere, or has a byte too many, is an error.
func TestCutMessages(t *testing.T) {
	for name, messages := range vectors(t) {
		for _, msg := range messages {
			for n := range len(msg) {
				if _, err := print(msg[:n:n]); !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %d bytes of %x: %v", name, n, msg, err)
				}
			}
			if s, err := print(append(bytes.Clone(msg), 0)); !errors.Is(err, ErrMalformed) && s != "other" {
				t.Errorf("%s: a byte more than %x: %v", name, msg, err)
			}
		}
	}
}

// Hostile bytes give an error or a value, never a panic and never much memory.
func FuzzDecode(f *testing.F) {
	for _, messages := range vectors(f) {
		for _, msg := range messages {
			f.Add(msg)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if _, err := print(msg); err == nil && len(msg) == 0 {
			t.Error("nothing decodes")
		}
	})
}
