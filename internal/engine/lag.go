package engine

import (
	"fmt"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// Lag is how far the views are behind a database.
type Lag struct {
	// Head is the newest position that the source has told of, Shown that of the views; 0
	// where nothing is known yet.
	Head, Shown uint64
	// Rows have been received and are not in the views yet.
	Rows int64
	// Behind is how old what the views show is: 0 where they show all that is known of,
	// else the time since they did, or since the commit in the source of the last
	// transaction that they show, whichever is shorter. While the source cannot be reached
	// it grows, since nobody knows what there is.
	Behind time.Duration
}

// lagMeter measures the lag of one database. It is told by the reader, the loop and the
// session, a batch or an epoch at a time.
type lagMeter struct {
	mu          sync.Mutex
	head, shown uint64
	rows        int64
	fresh       time.Time // the views were complete, or showed what was committed then
	moved       time.Time // something was last done about the rows, or there were none
	// lost says that the connection was lost and the source has not told of its newest
	// position since: nobody knows what there is.
	lost bool
}

// received counts rows that a session has handed over.
func (m *lagMeter) received(b *sources.Batch) {
	if b == nil {
		return
	}
	n := int64(0)
	for i := range b.Txs {
		n += int64(len(b.Txs[i].Rows))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == 0 {
		m.moved = time.Now()
	}
	m.rows += n
}

// taken notes that the loop has taken rows.
func (m *lagMeter) taken() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved = time.Now()
}

// stalled says so if rows wait and nothing has been done about them for as long as after.
func (m *lagMeter) stalled(after time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if idle := time.Since(m.moved); m.rows > 0 && idle > after {
		return fmt.Errorf("%d rows wait, and none has been processed for %v: a function of the topology that "+
			"does not return, a transaction that takes its time, or a disk that does not answer",
			m.rows, idle.Round(time.Second))
	}
	return nil
}

// restarted forgets rows that will be sent again.
func (m *lagMeter) restarted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = 0
}

// reported takes the source's newest position.
func (m *lagMeter) reported(head uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.head, m.lost = max(m.head, head), false
	m.note(time.Time{})
}

// unheard notes that the source cannot be reached.
func (m *lagMeter) unheard() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = true
}

// show takes the position of the views, in which so many more rows are now. committed is
// when the last transaction was committed in the source, zero if there was none.
func (m *lagMeter) show(position uint64, rows int64, committed time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown, m.rows = max(m.shown, position), max(m.rows-rows, 0)
	m.moved = time.Now()
	m.note(committed)
}

func (m *lagMeter) note(committed time.Time) {
	if m.complete() && !m.lost {
		committed = time.Now()
	}
	if committed.After(m.fresh) {
		m.fresh = committed
	}
}

func (m *lagMeter) complete() bool { return m.shown > 0 && m.shown >= m.head && m.rows == 0 }

func (m *lagMeter) lag(now time.Time) Lag {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := Lag{Head: m.head, Shown: m.shown, Rows: m.rows}
	if (!m.complete() || m.lost) && !m.fresh.IsZero() {
		l.Behind = max(0, now.Sub(m.fresh))
	}
	return l
}

// Lags returns how far the views are behind each database. It may be called from any
// goroutine.
func (e *Engine) Lags() map[string]Lag {
	now := time.Now()
	out := make(map[string]Lag, len(e.databases))
	for _, d := range e.databases {
		out[d.name] = d.lag.lag(now)
	}
	return out
}

// noteShown tells that the views show what has been fed of each database.
func (e *Engine) noteShown(at map[string]uint64, fed []int64, committed time.Time) {
	for i, d := range e.databases {
		d.lag.show(at[d.name], fed[i], committed)
	}
}

// takeFed returns the rows that have been fed of each database since it was last called.
func (e *Engine) takeFed() []int64 {
	out := make([]int64, len(e.databases))
	for i, d := range e.databases {
		out[i], d.fed = d.fed, 0
	}
	return out
}
