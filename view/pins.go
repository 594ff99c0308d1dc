package view

import (
	"crypto/rand"
	"encoding/base64"
	"sync"
	"time"
)

// pins are the open cursors. Each pins the moment of its first page until its time
// to live is over, so that all its pages are of one moment.
type pins struct {
	ttl time.Duration
	max int

	mu     sync.Mutex
	open   map[string]*pin
	timer  *time.Timer
	closed bool
}

// pin is one open cursor.
type pin struct {
	m       *moment
	query   query
	expires time.Time
	// stage says how much it is missed where its room is needed.
	stage pinStage
}

// pinStage is how far the client of a cursor has come.
type pinStage uint8

// In the order in which they give way: the last page has been given, and the cursor
// stays for a client that asks again; no second page has been asked for, which is
// what a client that only polls first pages leaves behind; in use.
const (
	pinFinished pinStage = iota
	pinFresh
	pinUsed
)

func (p *pins) init(ttl time.Duration, limit int) {
	p.ttl, p.max, p.open = ttl, limit, map[string]*pin{}
}

// add pins a moment for the pages of a query and returns the cursor's id. It takes
// a reference of its own.
func (p *pins) add(m *moment, q query) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", ErrClosed
	}
	now := time.Now()
	p.expire(now)
	if len(p.open) >= p.max && !p.evict() {
		return "", ErrTooManyCursors
	}
	if !m.snap.acquire() {
		return "", ErrClosed
	}
	id := newID()
	p.open[id] = &pin{m: m, query: q, expires: now.Add(p.ttl), stage: pinFresh}
	if p.timer == nil {
		p.timer = time.AfterFunc(p.ttl, p.onTimer)
	}
	return id, nil
}

// get returns an open cursor with its moment acquired; the caller releases it.
func (p *pins) get(id string) (*moment, query, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(time.Now())
	c, ok := p.open[id]
	if !ok || !c.m.snap.acquire() {
		return nil, query{}, ErrCursor
	}
	c.stage = pinUsed
	return c.m, c.query, nil
}

// finish says that the last page of a cursor has been given.
func (p *pins) finish(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.open[id]; ok {
		c.stage = pinFinished
	}
}

// evict closes the cursor that is missed least, the oldest among equals. Those in use
// stay.
func (p *pins) evict() bool {
	least := ""
	for id, c := range p.open {
		if c.stage == pinUsed {
			continue
		}
		if least == "" || c.before(p.open[least]) {
			least = id
		}
	}
	if least != "" {
		p.remove(least)
	}
	return least != ""
}

func (c *pin) before(d *pin) bool {
	if c.stage != d.stage {
		return c.stage < d.stage
	}
	return c.expires.Before(d.expires)
}

// expire closes what is over. p.mu is held.
func (p *pins) expire(now time.Time) {
	for id, c := range p.open {
		if !now.Before(c.expires) {
			p.remove(id)
		}
	}
}

func (p *pins) remove(id string) {
	p.open[id].m.snap.release()
	delete(p.open, id)
}

// onTimer closes expired cursors that nobody asks for any more, and sets the timer
// for the next one.
func (p *pins) onTimer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	now := time.Now()
	p.expire(now)
	next := time.Duration(-1)
	for _, c := range p.open {
		if left := c.expires.Sub(now); next < 0 || left < next {
			next = left
		}
	}
	if next >= 0 && !p.closed {
		p.timer = time.AfterFunc(next, p.onTimer)
	}
}

func (p *pins) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	for id := range p.open {
		p.remove(id)
	}
}

// newID returns an id that cannot be guessed: a cursor is a right to hold memory.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
