package sim

import "time"

// find returns the fault that happens at an occasion.
func (w *directWorld) find(is func(f *directFault) bool) *directFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm {
		return nil
	}
	for _, f := range w.plan.faults {
		if !f.armed || f.done || !is(f) {
			continue
		}
		if f.nth--; f.nth <= 0 {
			f.done = true
			return f
		}
	}
	return nil
}

// times says whether something goes wrong that goes wrong several times.
func (w *directWorld) times(harm directHarm) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.plan.faults {
		if !w.calm && f.harm == harm && f.armed && f.nth > 0 {
			f.nth--
			f.done = true
			return true
		}
	}
	return false
}

// hit is called at the crash points.
func (w *directWorld) hit(point string) error {
	w.mu.Lock()
	w.hits[point]++
	l := w.life
	w.mu.Unlock()
	if l == nil || l.isCrashed() {
		return errCrash
	}
	if f := w.find(func(f *directFault) bool { return f.harm == dCrashAt && f.point == point }); f != nil {
		if f.late {
			time.Sleep(50 * time.Millisecond) // virtual, as all time here
		}
		l.crash(f)
		return errCrash
	}
	return nil
}

// reached arms what may happen from so many transactions on, and does what happens at once.
func (w *directWorld) reached(transactions int) {
	for _, f := range w.plan.faults {
		w.mu.Lock()
		arm := !f.armed && f.after <= transactions
		f.armed = f.armed || arm
		l := w.life
		w.mu.Unlock()
		if arm {
			w.atOnce(f, l)
		}
	}
}

func (w *directWorld) atOnce(f *directFault, l *directLife) {
	s := w.server
	switch f.harm {
	case dCut, dCutAny:
		s.Cut(f.bytes, f.harm == dCut)
	case dSever:
		s.Disconnect()
	case dMute:
		s.Mute()
	case dLinger:
		s.Linger(5 * f.lasts)
	case dAgain:
		s.Again()
	case dSlow:
		s.Slow(f.bytes)
		w.later.Go(func() {
			time.Sleep(f.lasts) // how long it is slow
			s.Slow(0)
		})
	case dStop:
		s.Stop()
		w.later.Go(func() {
			time.Sleep(f.lasts) // how long it is down
			s.Start()
		})
	case dLeave:
		if l == nil || l.isCrashed() {
			return
		}
		l.stop()
		w.beginLater(l, f.lasts)
	case dLose:
		w.mu.Lock()
		w.lost = true
		w.mu.Unlock()
		if !s.Lose() {
			return
		}
	default:
		return // at an occasion
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.done = true
}

// count tells what has happened.
func (w *directWorld) count(count func(what string)) {
	for _, f := range w.plan.faults {
		if f.done {
			count(f.kind())
		}
	}
	for point := range w.hits {
		count("passed " + point)
	}
	c := w.server.Counts()
	for what, n := range map[string]int{
		"streams": c.Streams, "pieces of large transactions": c.Pieces, "subtransactions rolled back": c.Aborted,
		"resent": c.Resent, "large values left alone": c.Unchanged, "cut": c.Cut,
	} {
		for range n {
			count(what)
		}
	}
}
