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
	// finished says that the last page has been given; it stays readable, for a
	// client that asks again, until its room is needed.
	finished bool
}

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
	p.open[id] = &pin{m: m, query: q, expires: now.Add(p.ttl)}
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
	return c.m, c.query, nil
}

// finish says that the last page of a cursor has been given.
func (p *pins) finish(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.open[id]; ok {
		c.finished = true
	}
}

// evict closes the finished cursor that expires first.
func (p *pins) evict() bool {
	var oldest string
	for id, c := range p.open {
		if c.finished && (oldest == "" || c.expires.Before(p.open[oldest].expires)) {
			oldest = id
		}
	}
	if oldest != "" {
		p.remove(oldest)
	}
	return oldest != ""
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
