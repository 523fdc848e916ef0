package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/store"
)

// Set is the models of a configuration as they are to be served: by name those
// that are live, by NAME@VERSION those that a stream is pinned to.
type Set struct {
	Models map[string]infer.ModelConfig
	// Damaged are live versions that cannot be served, for which another one is,
	// and files of the configuration that cannot be kept.
	Damaged []error
	// PassedOver are the files of the configuration that say nothing: they are
	// gone, or no models any more. What is live goes on.
	PassedOver []error
	over       map[string]bool   // models whose file is passed over
	broken     map[string]string // by model, why its live version is not served, and what is
	spoke      []string          // models whose file in the configuration was changed
	keep       func(name, file string) (version string, err error)
}

// Resolve says what is to be served: of a model with a live version in the
// store that one, unless the file that the configuration names is another than
// it was when the version went live: whoever spoke last counts. It changes
// nothing. Errors begin with the key that is to blame. s may be nil.
func Resolve(s *store.Store, models map[string]infer.ModelConfig, streams map[string]pipeline.Config) (*Set, error) {
	return resolve(s, models, streams, nil)
}

// resolve is Resolve; keep makes a changed file of the configuration a version.
func resolve(s *store.Store, models map[string]infer.ModelConfig, streams map[string]pipeline.Config, keep func(name, file string) (string, error)) (*Set, error) {
	st := store.State{}
	if s != nil {
		var err error
		if st, err = s.State(); err != nil {
			return nil, err
		}
	}
	set := &Set{Models: map[string]infer.ModelConfig{}, broken: map[string]string{}, over: map[string]bool{}, keep: keep}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(models)) {
		cfg, err := set.one(s, name, models[name], st.Models[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("models.%s.%w", name, err))
			continue
		}
		set.Models[name] = cfg
	}
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		c := streams[name]
		base, ok := models[c.Model]
		if c.Version == "" || !ok {
			continue
		}
		cfg, err := version(s, c.Model, c.Version, base, st.Models[c.Model])
		if err != nil {
			errs = append(errs, fmt.Errorf("streams.%s.version: %w", name, err))
			continue
		}
		set.Models[c.ModelName()] = cfg
	}
	return set, errors.Join(errs...)
}

// one is what serves a model.
func (set *Set) one(s *store.Store, name string, cfg infer.ModelConfig, m *store.ModelState) (infer.ModelConfig, error) {
	if m == nil || m.Live == "" {
		if cfg.File == "" {
			return cfg, fmt.Errorf("file: is missing, and the model has no live version in its place: %w", store.ErrUnknown)
		}
		return cfg, nil
	}
	if cfg.File != "" {
		sum, err := sumOf(cfg.File)
		changed := err == nil && sum != m.Configured
		if changed {
			err = isModel(cfg.File)
		}
		switch {
		case err != nil:
			set.over[name] = true
			set.PassedOver = append(set.PassedOver, fmt.Errorf("models.%s.file: %s is passed over, and version %s of the store is to be live: %w", name, cfg.File, m.Live, err))
		case changed && m.Configured != "": // else the version went live where no configuration was at hand
			if set.keep != nil {
				if cfg.Version, err = set.keep(name, cfg.File); err != nil {
					// It serves all the same: the next start tries again.
					err = fmt.Errorf("model %s: its file was changed and cannot be kept as a version: %w", name, err)
					set.instead(name, err, "")
					return cfg, nil
				}
			}
			set.spoke = append(set.spoke, name)
			return cfg, nil
		}
	}
	of, err := version(s, name, m.Live, cfg, m)
	if err == nil {
		return of, nil
	}
	if m.Previous != "" {
		of, wrong := version(s, name, m.Previous, cfg, m)
		if wrong == nil {
			set.instead(name, err, m.Previous)
			return of, nil
		}
		set.Damaged = append(set.Damaged, wrong)
	}
	if cfg.File != "" {
		set.instead(name, err, "")
		return cfg, nil
	}
	return cfg, fmt.Errorf("file: is missing, and %w", err)
}

// instead notes why not the live version of a model is served, but another one.
func (set *Set) instead(name string, why error, version string) {
	set.Damaged = append(set.Damaged, why)
	set.broken[name] = why.Error() + "; " + whoAnswers(version)
}

// whoAnswers says which version of a model does.
func whoAnswers(version string) string {
	if version == "" {
		return "the file that the configuration names answers"
	}
	return "version " + version + " answers"
}

// version is a model as one of its versions is served.
func version(s *store.Store, name, v string, base infer.ModelConfig, m *store.ModelState) (infer.ModelConfig, error) {
	if s == nil {
		return base, fmt.Errorf("model %s@%s: %w", name, v, store.ErrUnknown)
	}
	f, err := s.Files(name, v)
	if err != nil {
		return base, err
	}
	return Apply(base, *m.Find(v), f), nil
}

// Apply is a model of the configuration with a version's files and settings.
// What the configuration says in as many words wins, but for the labels: they
// belong to the model's outputs. The version that is the configuration's own
// file is served from there, with what lies beside it.
func Apply(base infer.ModelConfig, v store.Version, f store.Files) infer.ModelConfig {
	c := base
	c.Version = v.Version
	if v.From == store.FromConfiguration && base.File != "" {
		if sum, err := sumOf(base.File); err == nil && sum == v.Model {
			return c
		}
	}
	c.File, c.Accelerated = f.Model, f.Accelerated
	if f.Labels != "" {
		c.Labels, c.Classes = f.Labels, nil
	}
	s := f.Manifest.Settings
	if (c.Output == "" || c.Output == "auto") && s.Output != "" {
		c.Output = s.Output
	}
	if c.Threshold == nil {
		c.Threshold = s.Threshold
	}
	if s.Input != nil {
		c.Picture = &infer.PictureInput{Fit: s.Input.Fit, Channels: s.Input.Channels, Mean: s.Input.Mean, Std: s.Input.Std}
	}
	if (c.Top == 0 || c.Top == defaultTop) && s.Top > 0 {
		c.Top = s.Top
	}
	return c
}

// defaultTop is that of infer.ModelConfig: who wrote it down is not seen.
const defaultTop = 5

// sumOf is the SHA-256 of a model file, unpacked, in hex digits.
func sumOf(path string) (string, error) {
	data, err := pack.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// isModel says why a file is no model that this program would run.
func isModel(path string) error {
	data, err := pack.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := model.Read(data)
	if err == nil {
		_, _, _, err = m.Adapted(data)
	}
	return err
}

// configured is the version that a file of the configuration has become, nil
// where it has not.
func configured(m *store.ModelState, sum string) *store.Version {
	for i := range m.Versions {
		if v := &m.Versions[i]; v.From == store.FromConfiguration && v.Model == sum {
			return v
		}
	}
	return nil
}

// KeepFile makes the configuration's file of a model a version in the store,
// where it is none yet; added says that it was not.
func KeepFile(ctx context.Context, s *store.Store, name, file string) (version string, added bool, err error) {
	sum, err := sumOf(file)
	if err != nil {
		return "", false, err
	}
	st, err := s.State()
	if err != nil {
		return "", false, err
	}
	if m := st.Models[name]; m != nil {
		if v := configured(m, sum); v != nil {
			return v.Version, false, nil
		}
	}
	v, err := s.Add(ctx, name, file, store.FromConfiguration)
	return v.Version, err == nil, err
}

// keepFile is KeepFile, and tells what came.
func (r *Rollout) keepFile(ctx context.Context, name, file string) (string, error) {
	v, added, err := KeepFile(ctx, r.g.Store, name, file)
	if added {
		r.Added(name, v, WhyKept, store.FromConfiguration)
	}
	return v, err
}

// WhyKept is why the configuration's file comes into the store.
const WhyKept = "the file that the configuration names"
