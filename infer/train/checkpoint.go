package train

import (
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checkpoint is the whole state after an epoch.
type checkpoint struct {
	Of      string // what is trained how on what: other trainings do not go on from it
	History []Epoch
	Best    int
	BestAt  float64
	Step    int
	Params  []savedParam
	BestW   [][]float32
}

type savedParam struct {
	Name    string
	W, M, V []float32
}

// identity tells trainings apart that must not be mixed. More epochs of the
// same training are the same training where the rate does not depend on them.
func (t *Trainer) identity() string {
	c := t.Config
	c.Checkpoint = ""
	if c.Optimizer.Schedule == "constant" {
		c.Epochs = 0
	}
	h := sha256.New()
	fmt.Fprintf(h, "%+v %+v %v %d %v %v", t.Net.Spec, c, t.Net.In, t.Train.Len(), t.Train.Classes, t.Net.fake != nil)
	if n := len(t.Train.Pixels); n > 0 {
		h.Write(t.Train.Pixels[:min(n, 1<<20)])
	}
	fmt.Fprint(h, t.Train.Values[:min(len(t.Train.Values), 1<<12)])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// save writes the state beside the file and moves it there: a power cut leaves
// the old one or the new one.
func (t *Trainer) save() error {
	c := checkpoint{Of: t.identity(), History: t.History, Best: t.Best, BestAt: t.bestAt, Step: t.opt.step, BestW: t.best}
	for _, p := range t.Net.Params() {
		c.Params = append(c.Params, savedParam{p.Name, p.W, p.m, p.v})
	}
	f, err := os.CreateTemp(filepath.Dir(t.Config.Checkpoint), ".checkpoint-*")
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer os.Remove(f.Name())
	err = gob.NewEncoder(f).Encode(c)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return os.Rename(f.Name(), t.Config.Checkpoint)
}

// resume takes up a checkpoint of this very training.
func (t *Trainer) resume() error {
	f, err := os.Open(t.Config.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer f.Close()
	var c checkpoint
	if err := gob.NewDecoder(f).Decode(&c); err != nil {
		return fmt.Errorf("checkpoint %s is damaged: %w; remove it to begin anew", t.Config.Checkpoint, err)
	}
	params := t.Net.Params()
	if c.Of != t.identity() || len(c.Params) != len(params) {
		return fmt.Errorf("checkpoint %s is of another network, configuration or data; remove it to begin anew", t.Config.Checkpoint)
	}
	for i, p := range params {
		s := c.Params[i]
		if s.Name != p.Name || len(s.W) != len(p.W) {
			return fmt.Errorf("checkpoint %s: parameter %s does not fit", t.Config.Checkpoint, p.Name)
		}
		copy(p.W, s.W)
		p.m, p.v = s.M, s.V
	}
	t.History, t.Best, t.bestAt, t.best, t.opt.step = c.History, c.Best, c.BestAt, c.BestW, c.Step
	return nil
}
