package fl

import (
	"maps"
)

// Status is a task as a person looks at it.
type Status struct {
	Task     string         `json:"task"`
	ID       string         `json:"id"`
	State    string         `json:"state"` // waiting, running, done, stopped
	Why      string         `json:"why,omitempty"`
	Round    int            `json:"round"` // under way, or the last
	Rounds   int            `json:"rounds"`
	Deadline Millis         `json:"deadline,omitzero"`
	Invited  int            `json:"invited"`
	Updates  int            `json:"updates"` // of the round under way
	Model    Ref            `json:"model"`
	Score    Metrics        `json:"score"`
	Best     Ref            `json:"best"`
	BestOf   Metrics        `json:"best_score"`
	Weights  int            `json:"weights"`
	Refused  map[Reason]int `json:"refused"`
	Last     string         `json:"last_refused,omitempty"`
	Gateways []Gateway      `json:"gateways"`
}

// Gateway is one of those that said something to a task.
type Gateway struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Samples int     `json:"samples"`
	Heard   Millis  `json:"heard"` // when it said something that was not refused; of before a restart, its last Hello
	Doing   string  `json:"doing"` // away, invited, delivered, waiting, cannot
	Why     string  `json:"why,omitempty"`
	Counted string  `json:"counted,omitempty"` // what became of its last update
	Report  *Report `json:"report,omitempty"`  // of the last model that came to it
}

// Status says how the task stands.
func (c *Coordinator) Status() Status {
	s := Status{Task: c.task.Name, ID: c.id, State: c.state(), Why: c.head.Why, Round: c.round(), Rounds: c.task.Rounds,
		Updates: len(c.got), Model: c.head.Model, Score: c.head.Score, Best: c.head.Best, BestOf: c.head.BestOf, Weights: c.count,
		Refused: maps.Clone(c.head.Refused), Last: c.head.LastRefused, Gateways: []Gateway{}}
	if s.Why == "" {
		s.Why = c.why
	}
	if c.open != nil {
		s.Invited, s.Deadline = len(c.takers()), Millis(c.open.Deadline)
	}
	for _, name := range c.names() {
		m := c.members[name]
		g := Gateway{Name: name, Version: m.Hello.Version, Samples: m.Hello.Samples, Heard: Millis(max(m.Heard, m.heard)), Counted: m.record.Counted, Report: m.Report, Doing: "waiting"}
		_, call := c.callOf(m)
		_, delivered := c.got[name]
		switch ok, why := c.able(m); {
		case !ok:
			g.Doing, g.Why = "cannot", why
		case delivered:
			g.Doing = "delivered"
		case call.Invited:
			g.Doing = "invited"
		}
		s.Gateways = append(s.Gateways, g)
	}
	return s
}

// Reports is how many gateways said what became of the model that the task ended
// with: the best.
func (s *Status) Reports() int {
	n := 0
	for _, g := range s.Gateways {
		if r := g.Report; r != nil && r.Model == s.Best.Hash && (r.State == "live" || r.State == "refused") {
			n++
		}
	}
	return n
}
