package fl

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"edgegateway/fl/aggregate"
)

// finish ends the round under way: its updates become new weights, which are
// judged and kept in one step with what the strategy remembers.
func (c *Coordinator) finish(now time.Time) error {
	r := RoundReport{Round: c.open.Round, Began: Millis(c.open.Began), Ended: Millis(now.UnixMilli()), Base: c.head.Model.Hash, Invited: len(c.takers()), Updates: len(c.got)}
	said := map[string]string{}
	w, err := c.sum(&r, said)
	if err != nil {
		return err
	}
	h := c.head
	h.Round, h.State = r.Round, stateRunning
	if h.Strategy, err = c.strategy.MarshalBinary(); err != nil {
		return err
	}
	var stop error
	for _, after := range c.cfg.After {
		if stop = after(r.Round, w.Values); stop != nil {
			w, r.Why = c.weights, words(stop)
			break
		}
	}
	if at := notFinite(w.Values); at >= 0 {
		return fmt.Errorf("weight %d is %v after round %d", at, w.Values[at], r.Round)
	}
	body, err := w.Encode()
	if err != nil {
		return err
	}
	if ref := c.ref(w, body, r.Round); ref.Hash != h.Model.Hash {
		h.Model = ref
	}
	r.Model = h.Model.Hash
	if err := c.judge(&h, &r, w); err != nil {
		return err
	}
	c.end(&h, stop)
	for _, name := range c.takers() {
		if _, there := c.got[name]; !there && !c.asynchronous() {
			said[name] = fmt.Sprintf("round %d ended without it", r.Round)
		}
	}
	c.retain(&h)
	return c.commit(h, &r, w, body, said)
}

// sum makes new weights of the updates that are kept, one at a time, and fills
// the report. said is what became of each.
func (c *Coordinator) sum(r *RoundReport, said map[string]string) (*Weights, error) {
	names := slices.SortedFunc(maps.Keys(c.got), cmp.Compare)
	if c.asynchronous() {
		slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(c.got[a].order, c.got[b].order) })
	}
	if err := c.strategy.Begin(c.count); err != nil {
		return nil, err
	}
	var before, after mean
	for _, name := range names {
		var k kept
		if ok, err := c.get(updateName(r.Round, name), &k); err != nil || !ok {
			return nil, errors.Join(err, missing(ok, updateName(r.Round, name)))
		}
		age := r.Round - k.Round
		r.Bytes += int64(k.Bytes)
		if age > 0 {
			r.Late++
		}
		if err := c.add(name, &k, age); err != nil {
			r.SetAside = append(r.SetAside, aggregate.Aside{From: name, Why: words(err)})
			continue
		}
		said[name] = fmt.Sprintf("counted in round %d", r.Round)
		if age == 0 {
			before.add(k.Update.Before)
		}
		after.add(k.Update.After)
		r.Trained += k.Update.Seconds
	}
	w := c.weights.Clone()
	done, err := c.strategy.Finish(w.Values)
	if at := notFinite(w.Values); err == nil && at >= 0 {
		err = fmt.Errorf("weight %d became %v", at, w.Values[at])
	}
	if err != nil { // the round led nowhere; the next one has other updates
		r.Why, w = words(err), c.weights
		c.cfg.Say(fmt.Sprintf("round %d leaves the weights as they were: %v", r.Round, err))
		if c.strategy, err = c.remembered(); err != nil {
			return nil, err
		}
		done = &aggregate.Report{}
	}
	r.Counted, r.Samples, r.Norm = done.Counted, done.Samples, finite(done.Norm)
	r.SetAside = append(r.SetAside, done.SetAside...)
	r.Outliers, r.Waiting = done.Outliers, done.Waiting
	for _, list := range [][]aggregate.Aside{r.SetAside, r.Outliers} {
		for i := range list {
			list[i].Score = finite(list[i].Score)
		}
	}
	gone := map[string]bool{}
	for _, a := range r.SetAside {
		if gone[a.From] { // shortened too, say: that it was set aside is what counts
			continue
		}
		gone[a.From] = !a.Counted
		said[a.From] = fmt.Sprintf("%s in round %d: %s", a.Fate(), r.Round, a.Why)
	}
	r.Before, r.After = before.metrics(), after.metrics()
	return w, nil
}

// add hands one update to the strategy.
func (c *Coordinator) add(name string, k *kept, age int) error {
	if _, ok := c.enrolled.Key(name); !ok {
		return errors.New("it is not enrolled any more")
	}
	delta, err := aggregate.Decode(k.Update.Delta, c.count)
	if err != nil {
		return err
	}
	return c.strategy.Add(aggregate.Update{From: name, Samples: int64(k.Update.Samples), Delta: delta, Age: age})
}

// remembered is the strategy as it was after the last round.
func (c *Coordinator) remembered() (aggregate.Strategy, error) {
	s, err := aggregate.New(c.task.Strategy)
	if err == nil && len(c.head.Strategy) > 0 {
		err = s.UnmarshalBinary(c.head.Strategy)
	}
	return s, err
}

// judge evaluates the weights: the new ones where there is a held-out set, else
// those that the round began with, by what the participants found.
func (c *Coordinator) judge(h *head, r *RoundReport, w *Weights) (err error) {
	if c.cfg.Evaluate != nil {
		if r.Held, err = c.cfg.Evaluate(w); err != nil {
			return fmt.Errorf("evaluation of round %d: %w", r.Round, err)
		}
		if err := r.Held.check(); err != nil {
			return fmt.Errorf("evaluation of round %d: %w", r.Round, err)
		}
	}
	h.Score = r.Held
	switch m, round := r.Judged(); {
	case m.Samples > 0:
		h.Judged = round
		of := c.head.Model
		if round == r.Round {
			of = h.Model
		}
		if m.Better(h.BestOf) {
			h.Best, h.BestOf, h.BestAt = of, m, h.Judged
			r.Best = true
		}
	case h.BestOf.Samples == 0: // nothing ever judged
		h.Best = h.Model
	}
	return nil
}

// end says whether the task is over after a round, and which weights it leaves.
func (c *Coordinator) end(h *head, stop error) {
	known, s := h.BestOf.Samples > 0, c.task.Stop
	switch {
	case stop != nil:
		h.State, h.Why = stateStopped, words(stop)
	case known && s.Accuracy > 0 && h.BestOf.Accuracy >= s.Accuracy:
		h.State, h.Why = stateDone, fmt.Sprintf("an accuracy of %.4f is enough", h.BestOf.Accuracy)
	case known && s.Patience > 0 && h.Judged-h.BestAt >= s.Patience:
		h.State, h.Why = stateDone, fmt.Sprintf("no better evaluation in %d rounds", s.Patience)
	case h.Round >= c.task.Rounds:
		h.State, h.Why = stateDone, fmt.Sprintf("all of %d rounds are over", c.task.Rounds)
		if known && h.Judged < h.Round && h.BestAt == h.Judged {
			// Nobody has judged the last weights; those before were the best so far.
			h.Best, h.BestOf = h.Model, h.Score
		}
	default:
		return
	}
	h.Model, h.Score = h.Best, h.BestOf
}

// retain says which models the broker keeps after a round, and which no more.
func (c *Coordinator) retain(h *head) {
	used := map[Hash]bool{h.Model.Body: true, h.Best.Body: true}
	if h.State == stateRunning {
		for _, m := range c.members {
			if m.Invited > 0 && !m.Overdue {
				hash := c.base(m.Invited).Hash
				for _, ref := range h.Kept {
					used[ref.Body] = used[ref.Body] || ref.Hash == hash
				}
			}
		}
	}
	old := h.Kept
	h.Kept = nil
	gone := slices.Clone(h.Cleared)
	for _, ref := range old {
		if used[ref.Body] || h.State == stateRunning && ref.Round >= h.Round-1 {
			h.Kept = append(h.Kept, ref)
		} else {
			gone = append(gone, ref)
		}
	}
	if !slices.ContainsFunc(h.Kept, func(r Ref) bool { return r.Body == h.Model.Body }) {
		h.Kept = append(h.Kept, h.Model)
	}
	gone = slices.DeleteFunc(gone, func(r Ref) bool {
		return slices.ContainsFunc(h.Kept, func(k Ref) bool { return k.Body == r.Body })
	})
	h.Cleared = gone[max(0, len(gone)-maxCleared):]
}

// maxCleared is of how many models it is said again that they are not needed.
const maxCleared = 8

// commit writes what came of a round: with head it is over.
func (c *Coordinator) commit(h head, r *RoundReport, w *Weights, body []byte, said map[string]string) error {
	made := c.ref(w, body, r.Round).Body
	if slices.ContainsFunc(h.Kept, func(k Ref) bool { return k.Body == made }) {
		if err := c.st.Put(modelName(made), body); err != nil {
			return err
		}
	}
	if err := c.put(historyName(r.Round), r); err != nil {
		return err
	}
	for name, text := range said {
		m := c.member(name)
		m.record.Name, m.record.Counted = name, text
	}
	h.Seen = c.records()
	if err := c.put("head", &h); err != nil {
		return err
	}
	before := c.head
	takers := c.takers()
	c.head, c.open, c.got, c.told = h, nil, map[string]delivery{}, false
	c.history = append(c.history, *r)
	if w.Hash() != h.Model.Hash { // it ends with others
		var err error
		if w, err = c.readWeights(h.Model); err != nil {
			return err
		}
	}
	c.weights = w
	for _, name := range takers {
		c.dirty[name] = true
	}
	for name, m := range c.members {
		if m.Overdue || c.Done() {
			c.dirty[name] = true
		}
	}
	if err := c.clearOld(); err != nil {
		return err
	}
	if err := c.sayNew(&before); err != nil {
		return err
	}
	if c.cfg.Kept != nil {
		c.cfg.Kept(*r)
	}
	return nil
}

// finite gives 0 for what is no number that a report can hold.
func finite(v float64) float64 {
	if v-v != 0 {
		return 0
	}
	return v
}
