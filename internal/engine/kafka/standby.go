package kafka

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
)

// standbys are the tasks whose changelogs this member follows into its state, so that it has
// little to restore when it is given one of them.
type standbys struct {
	mu sync.Mutex
	// wanted is what the group's leader has said last, lags how far the state of each is behind.
	wanted []kafka.Task
	lags   map[kafka.Task]int64
	// running is the loop's alone.
	running map[kafka.Task]*follower
}

// follower follows one task.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (s *standbys) want(tasks []kafka.Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = tasks
}

func (s *standbys) tasks() []kafka.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

// note keeps how many offsets a task's state lacks; the first is told before it is known.
func (s *standbys) note(task kafka.Task, lag int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lags == nil {
		s.lags = map[kafka.Task]int64{}
	}
	s.lags[task] = lag
}

// lag is what note was told last; 0 of a task that was not followed: what a member has left
// is better than what nobody has.
func (s *standbys) lag(task kafka.Task) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lags[task]
}

// follow begins and ends followers as the group wants it. Tasks that run here, or are about
// to, are not followed.
func (e *Engine) follow(ctx context.Context) error {
	wanted := e.standbys.tasks()
	for t := range e.standbys.running {
		if !slices.Contains(wanted, t) {
			e.unfollow(t)
		}
	}
	for _, t := range wanted {
		sub := slices.IndexFunc(e.subs, func(s *subTopology) bool { return s.name == t.SubTopology })
		if sub < 0 || t.Partition >= e.subs[sub].tasks() || e.standbys.running[t] != nil ||
			e.tasks[taskID{sub, t.Partition}] != nil {
			continue
		}
		task, err := e.taskOf(e.subs[sub], t.Partition)
		if err != nil {
			return err
		}
		e.log.Info("a standby begins", "task", task.Name)
		ctx, cancel := context.WithCancel(ctx)
		f := &follower{cancel: cancel, done: make(chan struct{})}
		if e.standbys.running == nil {
			e.standbys.running = map[kafka.Task]*follower{}
		}
		e.standbys.running[t] = f
		go func() {
			defer close(f.done)
			e.followOne(ctx, t, task)
		}()
	}
	return nil
}

// followOne follows until ctx ends. A standby that cannot is none, and stops nobody else.
func (e *Engine) followOne(ctx context.Context, name kafka.Task, task changelog.Task) {
	restorer, err := e.newRestorer(func(p changelog.Progress) {
		e.standbys.note(name, p.Left)
		if e.cfg.Standby != nil {
			e.cfg.Standby(task.Name, p.Left)
		}
	})
	for err == nil && ctx.Err() == nil {
		if err = restorer.Follow(ctx, task); err == nil || !kafka.Passes(err) {
			break
		}
		e.log.Warn("a standby is interrupted", "task", task.Name, "error", err)
		err = nil
		select {
		case <-ctx.Done():
		case <-time.After(e.limits.Retry):
		}
	}
	if err != nil {
		e.log.Error("a standby has ended; the task's state is not followed here", "task", task.Name, "error", err)
	}
}

// unfollow ends a follower, and waits until it has written what it has read.
func (e *Engine) unfollow(t kafka.Task) {
	f := e.standbys.running[t]
	if f == nil {
		return
	}
	f.cancel()
	<-f.done
	delete(e.standbys.running, t)
	e.standbys.note(t, 0)
}

// unfollowAll ends all followers.
func (e *Engine) unfollowAll() {
	for t := range e.standbys.running {
		e.unfollow(t)
	}
}
