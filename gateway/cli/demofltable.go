package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"edgegateway/fl"
	"edgegateway/gateway/dataset"
	"edgegateway/sensors"
)

// demoTable is what is printed: a line a round with what each gateway's model of
// that round answered to what is on its desk.
type demoTable struct {
	*demoFL
	reports map[int]demoRound
	printed int // rounds, the one before the first among them
	over    bool
	aside   map[string]int
}

func newDemoTable(d *demoFL) *demoTable {
	return &demoTable{demoFL: d, reports: map[int]demoRound{}, aside: map[string]int{}}
}

// demoEnough is how many answers a share is counted of, where no newer model comes
// first.
const demoEnough = 300

// follow prints rounds until the last one.
func (t *demoTable) follow(ctx context.Context, failed <-chan error) error {
	head := ""
	for _, s := range t.sites {
		head += fmt.Sprintf("%7s", s.name)
	}
	t.say("", "%% of the digits on the desk that are answered rightly:")
	t.say("", "%s", head)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	over := t.coordinator.done
	var late <-chan time.Time
	for t.printed <= t.task.Rounds {
		select {
		case r := <-t.rounds:
			t.reports[r.Round] = r
			for _, a := range r.SetAside {
				if !a.Counted {
					t.aside[a.From]++
				}
			}
		case <-tick.C:
			for _, s := range t.sites {
				s.looked(ctx)
			}
			t.print(false)
		case <-over: // all its rounds were handed on before
			if err := t.coordinator.err; err != nil {
				return fmt.Errorf("demo fl: the coordinator: %w", err)
			}
			over, late = nil, time.After(time.Minute)
			t.over = true
		case <-late:
			t.print(true)
			return nil
		case err := <-failed:
			return err
		case err := <-t.died:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// print prints the rounds that are complete; all that ended where there is nothing
// to wait for.
func (t *demoTable) print(all bool) {
	for ; t.printed <= t.task.Rounds; t.printed++ {
		report, ended := t.reports[t.printed]
		if t.printed > 0 && !ended {
			return
		}
		// At the end gateways take the best model, where they do not have it already.
		best := 0
		for _, r := range t.reports {
			if r.Best {
				best = max(best, r.Round)
			}
		}
		worse := t.over && t.printed > best
		line := ""
		var remarks []string
		for _, s := range t.sites {
			score, past := s.of(t.printed)
			switch {
			case score.asked < demoEnough && !past && !(worse && score.asked == 0) && !all:
				return
			case score.asked == 0:
				line += fmt.Sprintf("%7s", "-")
			default:
				line += fmt.Sprintf("%7.1f", score.percent())
			}
			s.mu.Lock()
			if s.refused[t.printed] != "" {
				remarks = append(remarks, s.name+" keeps the old")
			}
			s.mu.Unlock()
		}
		for _, a := range report.SetAside {
			if !a.Counted {
				remarks = append(remarks, "without "+a.From)
			}
		}
		if worse {
			remarks = append(remarks, fmt.Sprintf("%d is better", best))
		}
		t.say(fmt.Sprintf("round %d", t.printed), "%s", strings.TrimRight(line+"  "+strings.Join(remarks, ", "), " "))
	}
}

// kill kills a gateway while it trains, and starts it again.
func (d *demoFL) kill(ctx context.Context) error {
	at := slices.IndexFunc(d.sites, func(s *demoSite) bool { return s.name == demoVictim })
	s := d.sites[at]
	for after := min(2, d.task.Rounds-1); ; {
		if status, err := readStatus(ctx, "http://"+s.web); err == nil && status.FL != nil && len(status.FL.Tasks) == 1 {
			if t := status.FL.Tasks[0]; t.Doing == "training" && t.Round > after {
				d.killed = t.Round
				break
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.coordinator.done:
			return errors.New("demo fl: no gateway was seen training, to be killed then")
		case <-time.After(10 * time.Millisecond):
		}
	}
	d.meant.Store(s.child, true)
	if err := s.child.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.child.done
	d.say(s.name, "killed by SIGKILL while it trains for round %d", d.killed)
	if err := d.open(s); err != nil {
		return err
	}
	began := time.Now()
	for {
		if status, err := readStatus(ctx, "http://"+s.web); err == nil && status.FL != nil && len(status.FL.Tasks) == 1 && status.FL.Tasks[0].Sent > 0 {
			d.say(s.name, "is back; the round waited, and has its update after %.1f s", time.Since(began).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// close ends the pictures, waits for their answers and says what was shown.
func (t *demoTable) close(ctx context.Context, failed <-chan error) error {
	close(t.desks)
	late := time.After(time.Minute)
	for {
		lost := 0
		for _, s := range t.sites {
			lost += s.lost()
		}
		if lost == 0 {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
			continue
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
		}
		break
	}
	alone, err := t.alone(ctx)
	if err != nil {
		return err
	}
	return t.sum(alone)
}

// alone is how a gateway does by itself: the same network, as many steps, on what
// it recorded.
func (t *demoTable) alone(ctx context.Context) (float64, error) {
	s, task := t.sites[0], *t.task
	d, err := (&dataset.Labelled{Dir: dataset.Dir(s.dir+"/data", task.Data.Stream), Input: task.Model.Input, Classes: task.Model.Classes, Picture: sensors.DefaultImageConfig()}).Load(ctx, len(s.shard))
	if err != nil {
		return 0, err
	}
	net, err := task.Network()
	if err != nil {
		return 0, err
	}
	base, err := fl.FromNetwork(net)
	if err != nil {
		return 0, err
	}
	var delta []float32
	task.Local.Epochs *= task.Rounds
	l, err := fl.NewLocal(&task)
	if err != nil {
		return 0, err
	}
	l.Before = append(l.Before, func(_ *fl.Job, v []float32) error { delta = slices.Clone(v); return nil })
	if _, err := l.Train(ctx, &fl.Job{Task: &task, Round: 1, Gateway: s.name, Base: base, Samples: d.Len(), Seed: task.Seed}, d, nil); err != nil {
		return 0, err
	}
	for i, v := range delta {
		base.Values[i] += v
	}
	if err := base.Into(net); err != nil {
		return 0, err
	}
	m, err := fl.Judge(net, t.asked)
	return 100 * m.Accuracy, err
}

// sum says what was shown, and what of it went wrong.
func (t *demoTable) sum(alone float64) error {
	var errs []error
	var first, last []float64
	sent, swaps, again := 0, 0, 0
	for _, s := range t.sites {
		lost := s.lost()
		s.mu.Lock()
		sent += len(s.sent)
		again += s.again
		newest := 0
		for version, score := range s.scores {
			if s.round[version] > 0 {
				swaps++
			}
			if score.asked >= demoEnough/3 {
				newest = max(newest, s.round[version])
			}
		}
		twice := s.twice
		s.mu.Unlock()
		a, _ := s.of(0)
		b, _ := s.of(newest)
		first, last = append(first, a.percent()), append(last, b.percent())
		if lost+twice > 0 {
			errs = append(errs, fmt.Errorf("demo fl: %s: %d pictures without an answer, %d with two", s.name, lost, twice))
		}
	}
	if r := t.reports[t.killed]; r.Updates != r.Invited {
		errs = append(errs, fmt.Errorf("demo fl: round %d, in which %s was killed, has %d of %d updates", t.killed, demoVictim, r.Updates, r.Invited))
	}
	t.say("shown", "%.0f to %.0f %% right at first, %.0f to %.0f %% after %d rounds together;", slices.Min(first), slices.Max(first), slices.Min(last), slices.Max(last), t.task.Rounds)
	t.say("", "%s alone, on its own digits with as many steps: %.0f %%", t.sites[0].name, alone)
	t.say("", "%d pictures, each answered once, over %d swaps of models", sent, swaps)
	if again > 0 {
		t.say("", "%s sent again that %s had when it was killed", count(again, "picture"), demoVictim)
	}
	t.say("", "%s set aside in %d of %d rounds", demoRogue, t.aside[demoRogue], t.task.Rounds)
	return errors.Join(errs...)
}
