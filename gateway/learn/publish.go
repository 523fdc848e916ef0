package learn

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// publisher brings the models of one task to work here: made and judged in the
// child process, then a version of the store like any other, tried, watched, and
// taken back as the configuration's rollout says.
type publisher struct {
	g      *Gateway
	cfg    func() Config
	key    ed25519.PrivateKey
	worker *Worker
	data   *samples
	dir    string // of the task
}

// by is who wants the versions, in the store's words.
func by(task string) string { return "federated learning, task " + task }

// offered is what is kept of the last model that was offered: after a restart it
// is not made again, but waited for.
type offered struct {
	Base    string     `json:"base"` // hash of its weights
	Version string     `json:"version"`
	Verdict fl.Verdict `json:"verdict"`
}

// Publish is fl's.
func (p *publisher) Publish(ctx context.Context, m fl.NewModel) (fl.Verdict, error) {
	name := m.Task.Publish.Model
	if _, ok := p.g.Models()[name]; !ok {
		return fl.Verdict{}, fl.Told("this gateway has no model " + name)
	}
	last, err := p.read()
	if err != nil {
		return fl.Verdict{}, notNow(err)
	}
	if last.Base != m.Base.String() {
		if last, err = p.bring(ctx, name, m); err != nil {
			return last.Verdict, notNow(err)
		}
	}
	return last.Verdict, p.follow(ctx, name, last.Version)
}

// bring makes and judges a model, and puts it into the store with the wish that
// it be live.
func (p *publisher) bring(ctx context.Context, name string, m fl.NewModel) (offered, error) {
	last := offered{Base: m.Base.String()}
	made, err := p.make(ctx, name, m)
	if err != nil {
		return last, err
	}
	last.Verdict = made.Verdict
	if err := refuses(p.cfg(), made); err != nil {
		return last, err
	}
	if last.Version, err = p.add(ctx, name, m, made.Model); err != nil {
		return last, err
	}
	if err := p.write(last); err != nil {
		return last, err
	}
	err = p.g.Store.Want(name, store.Want{Version: last.Version, Do: store.DoRollout, By: by(m.Task.Name), Why: speaks(m, last.Verdict), At: time.Now().UTC()})
	if err != nil && !disk(err) {
		err = fl.Told("the store of this gateway does not take it: " + err.Error())
	}
	return last, err
}

// make has the child make the model, and judge it beside the one in use.
func (p *publisher) make(ctx context.Context, name string, m fl.NewModel) (*Made, error) {
	req := Make{Task: m.Task, Weights: m.Weights, Library: p.g.Library}
	cfg := p.g.Models()[name]
	st, err := p.g.Store.State()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fl.ErrLater, err)
	}
	if of := st.Models[name]; cfg.File != "" || of != nil && of.Live != "" {
		live, err := p.g.Served(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", fl.ErrLater, err)
		}
		req.Live = &live
	}
	l, err := p.data.labelled()
	if err != nil {
		return nil, err
	}
	if req.Count, err = p.data.Count(ctx); err != nil {
		return nil, err
	}
	return p.worker.Make(ctx, req, Samples{Recorded: l})
}

// refuses says why a new model is not wanted beside the one in use.
func refuses(cfg Config, made *Made) error {
	now, old := made.Verdict.New, made.Verdict.Old
	switch {
	case made.Alien != "":
		return fl.Told(made.Alien)
	case now.Samples < cfg.Least:
		return fl.Told(fmt.Sprintf("%d samples held out here could judge it, fl.least wants %d; windows are held out in stretches of time, of which a short recording may have none", now.Samples, cfg.Least))
	case old.Samples == 0:
		return nil // there is none in use
	case now.Accuracy >= 0 && now.Accuracy < old.Accuracy-cfg.Margin:
		return fl.Told(fmt.Sprintf("it is right on %.2f %% of the %d samples held out here, the model in use on %.2f %%: fl.margin allows %.2f less",
			100*now.Accuracy, now.Samples, 100*old.Accuracy, 100*cfg.Margin))
	case now.Accuracy < 0 && !(now.Loss <= old.Loss*(1+cfg.Margin)):
		return fl.Told(fmt.Sprintf("its mean squared error is %.6g on the %d samples held out here, that of the model in use %.6g: fl.margin allows %.2f %% more",
			now.Loss, now.Samples, old.Loss, 100*cfg.Margin))
	}
	return nil
}

// speaks says what a new model was found to be, beside the one in use.
func speaks(m fl.NewModel, v fl.Verdict) string {
	text := fmt.Sprintf("round %d of task %s", m.Round, m.Task.Name)
	figures := func(m fl.Metrics) string {
		if m.Accuracy < 0 {
			return fmt.Sprintf("a mean squared error of %.6g", m.Loss)
		}
		return fmt.Sprintf("right on %.2f %%", 100*m.Accuracy)
	}
	if v.New.Samples > 0 {
		text += fmt.Sprintf(": %s of %d samples held out here", figures(v.New), v.New.Samples)
		if v.Old.Samples > 0 {
			text += ", the model before " + figures(v.Old)
		}
	}
	return text
}

// add puts a model into the store, with what there is to say of it. One that is
// there already is that version: it is not tried again where it failed, or where
// somebody took it back.
func (p *publisher) add(ctx context.Context, name string, m fl.NewModel, file []byte) (string, error) {
	st, err := p.g.Store.State()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(file)
	next, live := 1, ""
	if of := st.Models[name]; of != nil {
		live = of.Live
		for i := range of.Versions {
			v := &of.Versions[i]
			if v.Model == hex.EncodeToString(sum[:]) {
				if why := unwanted(v); why != "" {
					return "", fl.Told(why)
				}
				return v.Version, nil
			}
			major, _, _ := strings.Cut(v.Version, ".")
			if n, err := strconv.Atoi(major); err == nil && n >= next {
				next = n + 1
			}
		}
	}
	version := strconv.Itoa(next)
	bundle, err := p.bundle(name, version, live, m, file)
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.dir, "new"+store.Ext)
	if err := writeWhole(path, bundle); err != nil {
		return "", err
	}
	defer os.Remove(path)
	added, err := p.g.Store.Add(ctx, name+"@"+version, path, by(m.Task.Name))
	if err != nil {
		if ctx.Err() == nil && !disk(err) {
			err = fl.Told("the store of this gateway does not take it: " + err.Error())
		}
		return "", err
	}
	p.g.Added(name, added.Version, fmt.Sprintf("made of round %d", m.Round), by(m.Task.Name))
	return added.Version, nil
}

// unwanted says why a version that is there already is not tried again.
func unwanted(v *store.Version) string {
	switch v.Stage {
	case store.Failed, store.Withdrawn, store.Retired:
		return fmt.Sprintf("it is the same as version %s, which is %s here: %s", v.Version, v.Stage, v.Why)
	}
	return ""
}

// bundle is the model with its labels and where it comes from; what its outputs
// mean is as with the live version.
func (p *publisher) bundle(name, version, live string, m fl.NewModel, file []byte) ([]byte, error) {
	const modelFile, labelFile = "model.tflite", "labels.txt"
	man := store.Manifest{
		Format: store.Format, Name: name, Version: version, Created: time.Now().UTC().Truncate(time.Second), Model: modelFile,
		Files:      map[string]store.Part{modelFile: store.PartOf(file)},
		Provenance: fmt.Sprintf("federated learning: task %s (%s), after round %d, weights %s", m.Task.Name, m.ID, m.Round, m.Base),
	}
	parts := map[string][]byte{modelFile: file}
	if len(m.Task.Model.Classes) > 0 {
		parts[labelFile] = []byte(strings.Join(m.Task.Model.Classes, "\n") + "\n")
		man.Labels, man.Files[labelFile] = labelFile, store.PartOf(parts[labelFile])
	}
	if live != "" {
		if f, err := p.g.Store.Files(name, live); err == nil {
			s := f.Manifest.Settings
			man.Settings = store.Settings{Output: s.Output, Threshold: s.Threshold, Top: s.Top}
		}
	}
	var key ed25519.PrivateKey
	if p.g.Sign(keyfile.ID(p.key.Public().(ed25519.PublicKey))) {
		key = p.key
	}
	var out bytes.Buffer
	err := store.WriteBundle(&out, man, parts, key)
	return out.Bytes(), err
}

// followEvery is how often it is looked what became of a version.
const followEvery = 200 * time.Millisecond

// follow waits until a version is live, or is not going to be.
func (p *publisher) follow(ctx context.Context, name, version string) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if st, err := p.g.Store.State(); err == nil {
			if done, why := became(st.Models[name], version); done {
				if why == "" {
					return nil
				}
				return fl.Told(why)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", fl.ErrLater, ctx.Err())
		}
	}
}

// stands says whether the last model that was offered still is live, and why not.
func (p *publisher) stands(name string) (base fl.Hash, decided bool, why error) {
	last, err := p.read()
	if err != nil || base.UnmarshalText([]byte(last.Base)) != nil {
		return base, false, nil
	}
	st, err := p.g.Store.State()
	if err != nil || st.Models[name] == nil {
		return base, false, nil
	}
	done, text := became(st.Models[name], last.Version)
	if text != "" {
		why = fl.Told(text)
	}
	return base, done, why
}

// became says whether it is decided what became of a version, and why it is not
// live.
func became(of *store.ModelState, version string) (done bool, why string) {
	v := of.Find(version)
	switch {
	case v == nil:
		return true, fmt.Sprintf("version %s was removed from the store", version)
	case of.Live == version && v.Broken == "":
		return true, ""
	case of.Live == version:
		return true, fmt.Sprintf("version %s: %s", version, v.Broken)
	case v.Stage == store.Failed, v.Stage == store.Withdrawn, v.Stage == store.Retired:
		return true, fmt.Sprintf("version %s is %s: %s", version, v.Stage, v.Why)
	case of.Want != nil && of.Want.Version == version, v.Stage == store.Shadow, v.Stage == store.Canary:
		return false, ""
	}
	return true, fmt.Sprintf("something else than version %s was wanted", version)
}

func (p *publisher) file() string { return filepath.Join(p.dir, "offered.json") }

func (p *publisher) read() (o offered, err error) {
	b, err := os.ReadFile(p.file())
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err == nil && json.Unmarshal(b, &o) != nil {
		o = offered{} // it is made again
	}
	return o, err
}

func (p *publisher) write(o offered) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return writeWhole(p.file(), b)
}

// disk says whether an error is the disk's, which may pass.
func disk(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) || errors.Is(err, store.ErrFull) || errors.Is(err, syscall.ENOSPC)
}

// notNow marks what may pass.
func notNow(err error) error {
	if err != nil && disk(err) {
		return fmt.Errorf("%w: %w", fl.ErrLater, err)
	}
	return err
}

// writeWhole writes a file so that its name never stands for half of it.
func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
