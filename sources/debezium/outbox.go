package debezium

import (
	"bytes"
)

// OutboxEvent is an event that Debezium's outbox event router made of a row.
type OutboxEvent struct {
	// ID is the event's id, from the header id.
	ID []byte
	// Key is the event's key: of a text its text, else its JSON.
	Key []byte
	// Payload is the event: of a text its text, else its JSON. nil where it is NULL, which
	// the router writes as a tombstone.
	Payload []byte
	// Fields is the object around the payload where columns were placed in the envelope,
	// else nil.
	Fields []byte
}

// DecodeOutbox decodes a record of the outbox event router, with or without schema, or
// as plain text. The bytes are the record's where they can be. A payload that is an
// object with a member payload is taken for one with columns placed beside it; expanded
// payloads (table.expand.json.payload) come as JSON, without members that are null.
func DecodeOutbox(r *Record) (OutboxEvent, error) {
	var ev OutboxEvent
	for i := range r.Headers {
		if r.Headers[i].Key == "id" {
			ev.ID = textOf(r.Headers[i].Value)
		}
	}
	if ev.ID == nil {
		return ev, &Error{
			Topic: r.Topic,
			Err:   ErrMalformed,
			Reason: "the record has no header id, so it is not the " +
				"outbox event router's",
		}
	}
	if r.Key != nil {
		ev.Key = textOf(r.Key)
	}
	if r.Value == nil {
		return ev, nil
	}
	var none schemas
	s, _, err := unwrap(&none, r.Value)
	if err != nil {
		return ev, &Error{Topic: r.Topic, Err: ErrMalformed, Reason: "the value's schema cannot be read"}
	}
	if s.peek() == '{' {
		inner := s
		if payload, ok := memberOf(inner, "payload"); ok {
			if ev.Fields, err = s.skip(); err != nil {
				return ev, &Error{Topic: r.Topic, Err: ErrMalformed}
			}
			ev.Payload = textOf(payload)
			return ev, nil
		}
	}
	part, err := s.skip()
	if err != nil {
		ev.Payload = r.Value // It was no JSON: the text itself, as StringConverter writes it.
		return ev, nil
	}
	ev.Payload = textOf(part)
	return ev, nil
}

// memberOf returns the text of an object's member.
func memberOf(s scanner, name string) ([]byte, bool) {
	s.take('{')
	for first := true; ; first = false {
		n, _, ok, err := s.member(first)
		if err != nil || !ok {
			return nil, false
		}
		text, err := s.skip()
		if err != nil {
			return nil, false
		}
		if string(n) == name {
			return text, true
		}
	}
}

// textOf is a JSON string's text, nil for null, and everything else as it is.
func textOf(b []byte) []byte {
	var none schemas
	s, sch, err := unwrap(&none, b)
	if err == nil && sch != nil {
		if part, err := s.skip(); err == nil {
			b = part
		}
	}
	b = bytes.TrimSpace(b)
	if string(b) == "null" {
		return nil
	}
	if len(b) < 2 || b[0] != '"' {
		return b
	}
	inner := scanner{b: b}
	raw, escaped, err := inner.raw()
	if err != nil || !inner.end() {
		return b
	}
	if !escaped {
		return raw
	}
	text, err := unescape(nil, raw)
	if err != nil {
		return b
	}
	return text
}
