package pipeline

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"edgegateway/infer"
	"edgegateway/infer/drift"
)

// ReferenceFits says why a reference for drift cannot be of a model that takes
// such inputs and answers so, nil where it can.
func ReferenceFits(ref *drift.Reference, ins []infer.TensorInfo, answers infer.Answers) error {
	k := drift.Kind{Answers: answers.Known, Values: answers.Values, Labels: answers.Labels}
	if len(ins) == 1 {
		k.Inputs = 1
		long := 0 // sides of a picture, or readings and their values
		for _, d := range ins[0].Shape {
			k.Inputs *= max(d, 0)
			if d > 1 {
				long++
			}
		}
		k.Picture = long > 1
	}
	return ref.Fits(k)
}

// newWatch takes the reference that there is: of the configuration, of the
// model's bundle, or what was learned before.
func newWatch(stream string, cfg Config, model *infer.Model, rec Recorder, out Watcher, log zerolog.Logger) (*watch, error) {
	d := *cfg.Drift
	w := &watch{stream: stream, model: cfg.Model, of: model, cfg: d, rec: rec, out: out, log: log, wake: make(chan struct{}, 1)}
	if cfg.Reviews() && rec != nil {
		w.keep = d.Keep
	}
	var err error
	if w.every, err = parseEvery(d.Every); err != nil {
		return nil, fmt.Errorf("drift.every: %w", err)
	}
	var ref *drift.Reference
	switch {
	case d.Reference != "":
		w.from = "file"
		if ref, err = drift.ReadFile(d.Reference); err != nil {
			return nil, fmt.Errorf("drift.reference: %w", err)
		}
		if err := w.fits(ref); err != nil {
			return nil, fmt.Errorf("drift.reference: %s: %w", d.Reference, err)
		}
	case out != nil:
		w.from = "bundle"
		if cfg.Model != "" {
			if ref, err = out.Bundled(cfg.Model, cfg.Version); ref != nil {
				if err = w.fits(ref); err != nil {
					ref = nil
				}
			}
		}
		if ref == nil {
			if err != nil {
				w.log.Error().Err(err).Msg("drift: the bundle's reference is not used; the stream is learned")
			}
			w.from = "stream"
			if ref, err = out.Learned(stream); err != nil {
				w.log.Error().Err(err).Msg("drift: what was learned is not read; it is learned anew")
			}
		}
	default:
		w.from = "stream"
	}
	if ref != nil {
		return w, w.use(ref)
	}
	return w, nil
}

// fits says why a reference cannot be of the model of the stream, nil where it
// can, or the stream has none.
func (w *watch) fits(ref *drift.Reference) error {
	if w.of == nil {
		return nil
	}
	if err := ReferenceFits(ref, w.of.Inputs(), w.of.Answers()); err != nil {
		return fmt.Errorf("the reference is not of model %s: %w", w.model, err)
	}
	return nil
}

// use begins to hold samples against a reference.
func (w *watch) use(ref *drift.Reference) error {
	m, err := drift.NewMonitor(ref, drift.Config{Window: w.cfg.Window, FalseAlarms: w.cfg.FalseAlarms})
	if err != nil {
		return fmt.Errorf("drift: %w", err)
	}
	w.monitor, w.learner = m, nil
	w.first, w.quarter = time.Time{}, nil
	w.notable = review{most: w.keep}
	if b := m.Blind(); len(b) > 0 {
		w.log.Warn().Strs("features", b).Int("window", w.cfg.Window).Msg("drift: of these a window of this size tells nothing, they differ as much by themselves; a longer one is needed (drift.window)")
	}
	return nil
}

// learned makes the reference and keeps it; a learner that is full is changed
// by nobody else.
func (w *watch) learned(l *drift.Learner) {
	ref, err := l.Reference(w.cfg.Window)
	if err == nil && w.model != "" {
		w.mu.Lock()
		ref.Model = w.model + "@" + w.version
		w.mu.Unlock()
	}
	if err == nil && w.out != nil {
		if err := w.out.Keep(w.stream, ref); err != nil {
			w.log.Error().Err(err).Msg("drift: what was learned is not kept; after a restart it is learned anew")
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		err = w.use(ref)
	}
	if err != nil {
		w.log.Error().Err(err).Msg("drift: nothing is learned of these samples; the next ones are tried")
		w.learner = nil
		return
	}
	w.log.Info().Int("samples", l.Len()).Msg("drift: learned what is ordinary")
}

// rebase takes the reference that another version of the model brought. Without
// one what was learned goes on, for the inputs alone.
func (w *watch) rebase(version string) {
	if w.out == nil {
		return
	}
	ref, err := w.out.Bundled(w.model, version)
	if err != nil {
		w.log.Error().Err(err).Str("version", version).Msg("drift: the bundle's reference is not read; the one before goes on")
	}
	if ref == nil {
		return
	}
	if err = w.fits(ref); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		err = w.use(ref)
	}
	if err != nil {
		w.log.Error().Err(err).Str("version", version).Msg("drift: the bundle's reference is not used; the one before goes on")
		return
	}
	w.from, w.misfit, w.refit = "bundle", nil, false
}
