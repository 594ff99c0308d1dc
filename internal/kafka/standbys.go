package kafka

import (
	"cmp"
	"slices"
)

// names are the tasks that a unit's task consists of.
func (p *plan) names(t *planTask) []Task {
	var names []Task
	for _, s := range p.units[t.unit].subs {
		if t.number < p.tasksOf(&p.subs[s]) {
			names = append(names, Task{p.subs[s].ID, t.number})
		}
	}
	return names
}

// tasksOf is how many tasks a sub-topology has.
func (p *plan) tasksOf(s *SubTopology) int32 {
	var tasks int32
	for _, topic := range s.Topics {
		tasks = max(tasks, p.counts[topic])
	}
	return tasks
}

// follow gives each stateful task so many standbys, as far as there are members in other
// processes than its own: in other racks than where it runs and is followed already, if
// that can be had; then where there is state; and evenly.
func (p *plan) follow(count int) {
	p.standbys = make([][]Task, len(p.members))
	if count <= 0 || len(p.members) < 2 {
		return
	}
	type stateful struct {
		task *planTask
		name Task
	}
	var all []stateful
	for i := range p.tasks {
		t := &p.tasks[i]
		for _, name := range p.names(t) {
			if t.planned >= 0 && p.isStateful(name.SubTopology) {
				all = append(all, stateful{t, name})
			}
		}
	}
	share := (len(all)*count + len(p.members) - 1) / len(p.members)
	for _, s := range all {
		hosts := []int{s.task.planned}
		for range count {
			m := p.standby(s.name, hosts, share)
			if m < 0 {
				break
			}
			hosts = append(hosts, m)
			p.standbys[m] = append(p.standbys[m], s.name)
		}
	}
}

func (p *plan) isStateful(id string) bool {
	return slices.ContainsFunc(p.subs, func(s SubTopology) bool { return s.ID == id && s.Stateful })
}

// standby chooses a member to follow a task that hosts run and follow already, -1 if there
// is none.
func (p *plan) standby(name Task, hosts []int, share int) int {
	best := -1
	var bestScore [4]int
	for m := range p.members {
		score, ok := p.standbyScore(name, m, hosts, share)
		if ok && (best < 0 || slices.Compare(score[:], bestScore[:]) < 0) {
			best, bestScore = m, score
		}
	}
	return best
}

func (p *plan) standbyScore(name Task, m int, hosts []int, share int) (score [4]int, ok bool) {
	is := &p.members[m]
	for _, h := range hosts {
		if h == m || p.members[h].process == is.process {
			return score, false
		}
		if cmp.Or(is.rack, p.members[h].rack) == p.members[h].rack {
			score[0]++
		}
	}
	if len(p.standbys[m]) >= share {
		score[1] = 1
	}
	score[2] = maxLag
	if lag, has := is.lags[name]; has {
		score[2] = min(lag, maxLag-1)
	}
	score[3] = len(p.standbys[m])
	return score, true
}
