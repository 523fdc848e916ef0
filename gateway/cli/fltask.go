package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"edgegateway/fl"
	"edgegateway/internal/chart"
)

// flTask is one task that a coordinator leads here.
type flTask struct {
	*coordination
	file    string
	task    *fl.Task
	c       *fl.Coordinator
	dir     string
	lock    *os.File
	bar     *bar
	written time.Time
	drawn   time.Time
	rounds  int    // in the history that is written
	shown   int    // in the curve that is written
	changed bool   // something is not written
	last    string // how the last round went
	over    bool   // it was said that the task is over
}

// open makes a task's coordinator over its folder.
func (c *coordination) open(ctx context.Context, file string, key ed25519.PrivateKey) (_ *flTask, err error) {
	t := &flTask{coordination: c, file: file, bar: newBar("")}
	if t.task, err = fl.LoadTask(file); err != nil {
		return nil, invalid(err)
	}
	if m := t.task.Model; len(m.Classes) == 0 && m.Values == 0 {
		return nil, invalid(fmt.Errorf("%s: model: say the names of its classes, in the order of the outputs of %s, or values: gateways match what they recorded to them", file, m.File))
	}
	id, err := t.task.ID()
	if err != nil {
		return nil, err
	}
	t.dir = c.folder(id)
	if t.lock, err = lockTask(t.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.lock.Close()
		}
	}()
	cfg := fl.CoordinatorConfig{Chunk: c.chunk, Kept: t.kept, Say: func(s string) { c.line("%s", t.label(s)) }}
	if cfg.Evaluate, err = t.judge(ctx); err != nil {
		return nil, err
	}
	st, err := fl.NewDir(filepath.Join(t.dir, "state"))
	if err != nil {
		return nil, err
	}
	if t.c, err = fl.NewCoordinator(*t.task, cfg, st, key, fl.KeyDir(c.enrolled)); err != nil {
		return nil, invalid(err)
	}
	t.changed, t.rounds, t.shown = true, -1, -1
	return t, nil
}

// lockTask makes a task's folder and keeps others out of it.
func lockTask(dir string) (*os.File, error) { return lockFolder(dir, "another coordinator") }

// lockFolder makes a folder and keeps others out of it, until the file is closed or
// the program ends.
func lockFolder(dir, others string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, &exitError{exitUsage, fmt.Errorf("%s is in use by %s", dir, others)}
	}
	return f, nil
}

// replaces gives what the broker is to be told of tasks that this one is, as it was
// changed: those of its name in the same folder that nobody leads.
func (t *flTask) replaces(key ed25519.PrivateKey) ([]fl.Message, error) {
	dirs, err := filepath.Glob(filepath.Join(t.data, t.task.Name+"-????????????", "state"))
	if err != nil {
		return nil, err
	}
	var all []fl.Message
	for _, state := range dirs {
		dir := filepath.Dir(state)
		lock, err := lockTask(dir)
		if err != nil {
			continue // somebody leads it, this program perhaps
		}
		st, err := fl.NewDir(state)
		var list []fl.Message
		if err == nil {
			list, err = fl.Replace(st, t.c.ID(), key, time.Now())
		}
		lock.Close()
		if err != nil {
			return nil, invalid(fmt.Errorf("%s: %w; is it of an older program? move it out of the way", dir, err))
		}
		if len(list) > 0 {
			if err := noteReplaced(dir, t.c.ID()); err != nil {
				return nil, err
			}
			t.line("%s", t.label("it was changed: "+filepath.Base(dir)+" is stopped, and is told so"))
			all = append(all, list...)
		}
	}
	return all, nil
}

// noteReplaced writes down for fl status that nobody goes on with a task.
func noteReplaced(dir, by string) error {
	path := filepath.Join(dir, "status.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s fl.Status
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return invalid(fmt.Errorf("%s: %w", path, err))
	}
	s.State, s.Why, s.Deadline = "stopped", fl.ReplacedBy(by), 0
	if text, err = json.MarshalIndent(s, "", "  "); err != nil {
		return err
	}
	return writeWhole(path, append(text, '\n'))
}

// judge reads the data that judges the task's models; nil where there are none.
func (t *flTask) judge(ctx context.Context) (func(*fl.Weights) (fl.Metrics, error), error) {
	path := t.heldOf(t.task.Name)
	if path == "" {
		return nil, nil
	}
	net, err := t.task.Network()
	if err != nil {
		return nil, invalid(err)
	}
	source := t.held
	source.path = path
	d, err := source.forTask(ctx, t.task, io.Discard, t.say)
	if err != nil {
		return nil, err
	}
	return func(w *fl.Weights) (fl.Metrics, error) {
		if err := w.Into(net); err != nil {
			return fl.Metrics{}, err
		}
		return fl.Judge(net, d)
	}, nil
}

// label puts the task's name in front where there are several.
func (t *flTask) label(text string) string {
	if len(t.tasks) > 1 {
		return t.task.Name + ": " + text
	}
	return text
}

// begin says what there is.
func (t *flTask) begin(enrolled int) {
	s := t.c.Status()
	text := fmt.Sprintf("task %s: %d weights, %d gateways are enrolled; data in %s", s.ID, s.Weights, enrolled, t.dir)
	if n := len(t.c.History()); n > 0 {
		text += fmt.Sprintf("; goes on after round %d of %d", n, s.Rounds)
		if s.Updates > 0 {
			text += fmt.Sprintf(" with %d updates of the next", s.Updates)
		}
	} else if s.Updates > 0 {
		text += fmt.Sprintf("; goes on with %d updates of the first round", s.Updates)
	}
	t.line("%s", text)
}

// kept is told of each round.
func (t *flTask) kept(r fl.RoundReport) {
	t.last = roundText(r)
	t.line("%s", t.label(fmt.Sprintf("round %d of %d: %s", r.Round, t.task.Rounds, t.last)))
	for _, a := range r.SetAside {
		t.line("%s", t.label(fmt.Sprintf("round %d: %s %s: %s", r.Round, a.Fate(), a.From, a.Why)))
	}
	if t.asJSON {
		t.mu.Lock()
		defer t.mu.Unlock()
		_ = json.NewEncoder(t.out).Encode(struct {
			Task string `json:"task"`
			ID   string `json:"id"`
			fl.RoundReport
		}{t.task.Name, t.c.ID(), r})
	}
}

// step is called after each step of the coordinator.
func (t *flTask) step() {
	t.changed = true
	if err := t.write(t.c.Done()); err != nil {
		t.line("%s", t.label(err.Error()))
		return
	}
	if t.c.Done() && !t.over {
		t.over = true
		t.line("%s", t.outcome(t.c.Status()))
	}
}

// How often the files for people follow, at most: a figure is work.
const (
	writeEvery = time.Second
	drawEvery  = 10 * time.Second
)

// write writes the files for people, where something changed and the last time
// was a while ago, or now. The State has all of it: what is not written when the
// program is killed is when it starts again.
func (t *flTask) write(now bool) error {
	if !now && (!t.changed || time.Since(t.written) < writeEvery) {
		return nil
	}
	s := t.c.Status()
	t.written, t.changed = time.Now(), false
	if len(t.tasks) == 1 && !t.c.Done() {
		t.mu.Lock()
		t.bar.what = fmt.Sprintf("round %d of %d", s.Round, s.Rounds)
		if t.last != "" {
			t.bar.what += ", the last: " + t.last
		}
		if s.Invited > 0 {
			t.bar.step(min(s.Updates, s.Invited), s.Invited)
		}
		t.mu.Unlock()
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := writeWhole(filepath.Join(t.dir, "status.json"), append(text, '\n')); err != nil {
		return err
	}
	history := t.c.History()
	if len(history) != t.rounds {
		if err := writeHistory(t.dir+"/", history); err != nil {
			return err
		}
		t.rounds = len(history)
	}
	if len(history) == t.shown || !now && time.Since(t.drawn) < drawEvery {
		return nil
	}
	if err := writeCurve(t.dir+"/", t.task, history); err != nil {
		return err
	}
	t.shown, t.drawn = len(history), time.Now()
	if !t.c.Done() {
		return nil
	}
	file, err := federated(t.task, t.c.Weights())
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(t.dir, "model.tflite"), file)
}

// writeHistory writes the rounds, the files' names behind stem.
func writeHistory(stem string, history []fl.RoundReport) error {
	text, err := fl.HistoryJSON(history)
	if err != nil {
		return err
	}
	table, err := fl.HistoryCSV(history)
	if err != nil {
		return err
	}
	return errors.Join(writeWhole(stem+"history.json", text), writeWhole(stem+"history.csv", table))
}

// writeCurve draws the rounds.
func writeCurve(stem string, task *fl.Task, history []fl.RoundReport) error {
	return writeFigures(stem, map[string]*chart.Drawing{"curve": curve("Rounds of "+task.Name, history)})
}

// outcome says what a task that is over came to.
func (t *flTask) outcome(s fl.Status) string {
	text := fmt.Sprintf("task %s is over, %s: %s has the weights after round %d", s.ID, s.Why, filepath.Join(t.dir, "model.tflite"), s.Model.Round)
	switch m := s.Score; {
	case m.Samples > 0 && m.Accuracy >= 0:
		text += fmt.Sprintf(", accuracy %.4f on %d samples", m.Accuracy, m.Samples)
	case m.Samples > 0:
		text += fmt.Sprintf(", loss %.5g on %d samples", m.Loss, m.Samples)
	default:
		text += ", which nobody has judged"
	}
	return text
}
