package compress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
)

// trialLog keeps trials on disk: trials.jsonl, whose first line says of what
// they are, and a file for each model that came of one.
type trialLog struct {
	dir   string
	file  *os.File
	known map[string]*Trial // by the recipe, of this search and those before
	order []*Trial          // the same, as they were tried
}

// maxTrialLog is the most bytes of trials.jsonl that are read.
const maxTrialLog = 64 << 20

// openTrials opens the log of a search, of being what it is a search of.
func openTrials(dir, of string) (*trialLog, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "trials.jsonl")
	l := &trialLog{dir: dir, known: map[string]*Trial{}}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(data) > maxTrialLog {
		return nil, fmt.Errorf("%s: %d bytes are too many; remove it to begin anew", path, len(data))
	}
	head, _ := json.Marshal(map[string]string{"of": of})
	lines := bytes.Split(data, []byte{'\n'})
	if len(data) > 0 && !bytes.Equal(lines[0], head) {
		return nil, fmt.Errorf("%s is of another model, data or setting, or of a program whose steps do something else; remove the folder or give another with --work", path)
	}
	// A line that a power cut left half is no trial; what is whole is kept.
	keep := append(slices.Clone(head), '\n')
	for _, line := range lines[min(1, len(lines)):] {
		t := &Trial{}
		if json.Unmarshal(line, t) != nil || len(line) == 0 {
			continue
		}
		l.keep(t)
		keep = append(append(keep, line...), '\n')
	}
	if err := os.WriteFile(path+".new", keep, 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, err
	}
	l.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	return l, err
}

func (l *trialLog) close() { l.file.Close() }

func (l *trialLog) keep(t *Trial) {
	k := key(t.Recipe)
	if l.known[k] == nil {
		l.order = append(l.order, t)
	}
	l.known[k] = t
}

// add appends a trial.
func (l *trialLog) add(t *Trial) error {
	line, err := json.Marshal(t)
	if err != nil {
		return err
	}
	l.keep(t)
	_, err = l.file.Write(append(line, '\n'))
	return err
}

// path is where the model of a recipe is kept.
func (l *trialLog) path(r Recipe) string { return filepath.Join(l.dir, key(r)+".tflite") }

// key names a recipe.
func key(r Recipe) string {
	text, _ := json.Marshal(r)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// begin checks what is asked and takes up the trials of an earlier run.
func (s *Search) begin() error {
	if err := s.Budget.Validate(); err != nil {
		return err
	}
	h := sha256.New()
	h.Write(s.given())
	fmt.Fprintf(h, "%q %v %v %v %v %+v", s.Task, s.Packed, s.Time != nil, s.Ground.Low, s.Ground.High, s.Ground.Train)
	// What a step does that its recipe does not say.
	fmt.Fprintf(h, "%+v %+v %+v", DefaultPrune(), DefaultCluster(), DefaultConfig())
	if s.Choose == nil {
		fmt.Fprintf(h, "made up, %d", judges)
	}
	sets := []*train.Dataset{s.Ground.Learn, s.Ground.Val}
	if l, ok := s.Choose.(Labelled); ok {
		sets = append(sets, l.Data())
	}
	for _, d := range sets {
		if d != nil {
			fmt.Fprintf(h, "%v %q %v", d.Shape, d.Classes, d.Labels)
			h.Write(d.Pixels)
			h.Write(model.FloatBytes(d.Values))
			h.Write(model.FloatBytes(d.Targets))
		}
	}
	var err error
	s.log, err = openTrials(s.Dir, hex.EncodeToString(h.Sum(nil)[:16]))
	return err
}

// try makes a model by a recipe, unless that was done before, and says what
// came of it. An error is one that ends the search.
func (s *Search) try(ctx context.Context, steps []Step) (*Trial, error) {
	r := Recipe{Steps: steps}
	k := key(r)
	if slices.ContainsFunc(s.list, func(t *Trial) bool { return key(t.Recipe) == k }) {
		return s.log.known[k], nil
	}
	if len(s.list) >= s.Trials {
		return nil, errEnough
	}
	t := s.log.known[k]
	if t == nil {
		t = &Trial{Recipe: r}
		err := s.make(ctx, t)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			t.Why = err.Error()
		}
		if err := s.log.add(t); err != nil {
			return nil, err
		}
	}
	if len(steps) == 0 {
		s.base = t.Quality
	}
	s.took(t)
	return t, nil
}

func (s *Search) took(t *Trial) {
	s.list = append(s.list, t)
	if s.Done != nil {
		s.Done(t)
	}
}

// earlier takes up what runs before this one tried and this one did not come to:
// a model that fits is not lost to one that does not because there are fewer
// trials now, or other epochs.
func (s *Search) earlier() {
	if len(s.list) == 0 {
		return
	}
	for _, t := range s.log.order {
		if slices.Contains(s.list, t) {
			continue
		}
		if _, err := s.Model(t); t.Why == "" && err != nil {
			continue // somebody removed its file
		}
		s.took(t)
	}
}

// Model is the file that came of a trial.
func (s *Search) Model(t *Trial) ([]byte, error) {
	if len(t.Recipe.Steps) == 0 {
		return s.given(), nil
	}
	return os.ReadFile(s.log.path(t.Recipe))
}

// given is the model as it is.
func (s *Search) given() []byte {
	if s.Given != nil {
		return s.Given
	}
	return s.File
}

// make applies what a recipe adds to one whose model is kept, and judges it.
func (s *Search) make(ctx context.Context, t *Trial) error {
	steps, file, from := t.Recipe.Steps, s.File, 0
	if len(steps) == 0 {
		file = s.given()
	}
	for n := len(steps) - 1; n > 0; n-- {
		if f, err := os.ReadFile(s.log.path(Recipe{Steps: steps[:n]})); err == nil {
			file, from = f, n
			break
		}
	}
	for i := from; i < len(steps); i++ {
		var err error
		if file, err = steps[i].Apply(ctx, s.Ground, file); err != nil {
			return fmt.Errorf("%s: %w", steps[i], err)
		}
		path := s.log.path(Recipe{Steps: steps[:i+1]})
		if err := os.WriteFile(path+".new", file, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return s.judge(ctx, t, file)
}

// judge fills in what a model takes and loses.
func (s *Search) judge(ctx context.Context, t *Trial, file []byte) error {
	cost, err := CostOf(file)
	if err != nil {
		return err
	}
	t.Bytes, t.Peak, t.MACs = cost.Bytes, cost.Peak, cost.MACs
	if s.Packed {
		p, err := pack.Pack(file, nil)
		if err != nil {
			return err
		}
		t.Bytes = len(p)
	}
	if t.Quality, t.Drop, err = s.quality(ctx, file, len(t.Recipe.Steps) == 0); err != nil {
		return err
	}
	if s.Time != nil {
		t.Micros, t.On, err = s.Time(ctx, file)
	}
	return err
}

// quality is the figure that counts and what it loses beside the model as it is.
func (s *Search) quality(ctx context.Context, file []byte, first bool) (is, drop float64, err error) {
	data := s.Choose
	if data == nil {
		m, err := model.Read(s.given())
		if err != nil {
			return 0, 0, err
		}
		data = s.Ground.madeUp(m, 100, judges)
	}
	if l, ok := data.(Labelled); ok && s.Task != "" {
		q, err := Judge(ctx, file, "", s.Ground.Library, s.Task, l, nil)
		if err != nil {
			return 0, 0, err
		}
		f := q.Figures()[0]
		is = f.Value
		if f.Name == "mae" { // an error: what it grows by
			base := s.base
			if first {
				base = is
			}
			return is, is/max(base, 1e-30) - 1, nil
		}
		if first {
			return is, 0, nil
		}
		return is, s.base - is, nil
	}
	if first {
		return 1, 0, nil
	}
	a, err := Compare(ctx, s.given(), file, [2]string{}, s.Ground.Library, data)
	if err != nil {
		return 0, 0, err
	}
	if is = a.Top1; s.Task != Classes {
		is = 1 - a.Relative()
	}
	return is, 1 - is, nil
}
