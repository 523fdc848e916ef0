package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"edgegateway/infer/model"
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

// checkpointMagic begins the file; the SHA-256 of the state follows, and the
// state.
const checkpointMagic = "edgegateway training 1\n"

// maxCheckpoint is the most bytes of one: weights and moments of the largest
// network, the best weights, and what they are held to.
const maxCheckpoint = 32*maxWeights + 1<<24

type savedParam struct {
	Name    string
	W, M, V []float32
	Zero    []bool // of holds
	Group   []int32
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
	fmt.Fprintf(h, "%+v %+v %v %+v %+v %v", t.Net.Spec, c, t.Net.In, t.Net.Norm, t.Net.OutNorm, t.Net.fake != nil)
	if t.Relative {
		fmt.Fprint(h, "relative")
	}
	if t.Net.origin != nil {
		h.Write(t.Net.origin.sum[:])
	}
	if p := t.Teacher; p != nil {
		fmt.Fprintf(h, "%q %v %v %v %v", p.Name, p.Temperature, p.Alpha, p.Beta, p.Hints)
	}
	for _, d := range []*Dataset{t.Train, t.Val} {
		if d == nil {
			continue
		}
		fmt.Fprintf(h, "%v %d %q", d.Shape, d.Len(), d.Classes)
		h.Write(d.Pixels)
		for _, v := range [][]float32{d.Values, d.Targets} {
			h.Write(model.FloatBytes(v))
		}
		fmt.Fprint(h, d.Labels)
		if low, high := d.limits(); low != -1 || high != 1 {
			fmt.Fprint(h, low, high)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// save writes the state beside the file and moves it there: a power cut leaves
// the old one or the new one.
func (t *Trainer) save() error {
	c := checkpoint{Of: t.identity(), History: t.History, Best: t.Best, BestAt: t.bestAt, Step: t.opt.step, BestW: t.best}
	for _, p := range t.params() {
		c.Params = append(c.Params, savedParam{p.Name, p.W, p.m, p.v, p.hold.zero, p.hold.group})
	}
	f, err := os.CreateTemp(filepath.Dir(t.Config.Checkpoint), ".checkpoint-*")
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer os.Remove(f.Name())
	var state bytes.Buffer
	err = gob.NewEncoder(&state).Encode(c)
	sum := sha256.Sum256(state.Bytes())
	for _, b := range [][]byte{[]byte(checkpointMagic), sum[:], state.Bytes()} {
		if err == nil {
			_, err = f.Write(b)
		}
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return os.Rename(f.Name(), t.Config.Checkpoint)
}

// resume takes up a checkpoint of this very training.
func (t *Trainer) resume() error {
	c, err := readCheckpoint(t.Config.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", t.Config.Checkpoint, err)
	}
	params := t.params()
	if c.Of != t.identity() || len(c.Params) != len(params) {
		return fmt.Errorf("checkpoint %s is of another network, configuration or data; remove it to begin anew", t.Config.Checkpoint)
	}
	for i, p := range params {
		s := c.Params[i]
		n := len(p.W)
		bad := s.Name != p.Name || len(s.W) != n || s.M != nil && len(s.M) != n || s.V != nil && len(s.V) != n || s.Zero != nil && len(s.Zero) != n || s.Group != nil && len(s.Group) != n
		if bad || c.BestW != nil && (len(c.BestW) != len(params) || len(c.BestW[i]) != n) {
			return fmt.Errorf("checkpoint %s: parameter %s does not fit", t.Config.Checkpoint, p.Name)
		}
		if t.Before == nil && !p.sameHolds(s) {
			return fmt.Errorf("checkpoint %s: the weights of %s were held to other zeros or groups; remove it to begin anew", t.Config.Checkpoint, p.Name)
		}
	}
	for i, p := range params {
		copy(p.W, c.Params[i].W)
		p.m, p.v = c.Params[i].M, c.Params[i].V
		p.setHolds(c.Params[i].Zero, c.Params[i].Group)
	}
	t.holds = changes(params)
	t.History, t.Best, t.bestAt, t.best, t.opt.step = c.History, c.Best, c.BestAt, c.BestW, c.Step
	return nil
}

// readCheckpoint reads a file that is what save wrote, to the last bit.
func readCheckpoint(path string) (*checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCheckpoint+1))
	if err != nil {
		return nil, err
	}
	state, ok := bytes.CutPrefix(data, []byte(checkpointMagic))
	if ok = ok && len(state) > sha256.Size && len(data) <= maxCheckpoint; ok {
		sum := sha256.Sum256(state[sha256.Size:])
		ok = bytes.Equal(sum[:], state[:sha256.Size])
	}
	if !ok {
		return nil, errors.New("it is damaged; remove it to begin anew")
	}
	c := &checkpoint{}
	if err := gob.NewDecoder(bytes.NewReader(state[sha256.Size:])).Decode(c); err != nil {
		return nil, fmt.Errorf("it is of another version: %w; remove it to begin anew", err)
	}
	return c, nil
}
