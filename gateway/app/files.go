package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"edgegateway/gateway/rollout"
	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// ConfigError says that the configuration, or a model or another file that it
// names, is not right: to start again is no help.
type ConfigError struct{ err error }

func (e *ConfigError) Error() string { return e.err.Error() }
func (e *ConfigError) Unwrap() error { return e.err }

// refused is the error of a configuration that cannot be served; it names file,
// line and column. It keeps nil.
func (c Config) refused(err error) error {
	if err == nil {
		return nil
	}
	if c.read != nil {
		err = c.read.Locate(err)
	}
	return &ConfigError{err}
}

// CheckFiles reads the models, labels and keys that a checked configuration
// names, without the runtime, and holds the streams against what the models take.
// What is not there is told apart: it may be so on the gateway's own machine.
// So is what is served, and perhaps not meant.
func (c Config) CheckFiles() (warning, absent, err error) {
	var warn, gone, errs []error
	inputs := map[string][]infer.TensorInfo{}
	set, err := c.served()
	if set == nil {
		set = &rollout.Set{}
	}
	models := set.Models
	warn = append(append(warn, set.PassedOver...), set.Damaged...)
	for _, e := range flatten(err) {
		if errors.Is(e, store.ErrUnknown) || errors.Is(e, fs.ErrNotExist) {
			gone = append(gone, e)
		} else {
			errs = append(errs, e)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(models)) {
		ins, w, err := infer.Inspect(models[name])
		if w != "" {
			warn = append(warn, fmt.Errorf("models.%s.%s", name, w))
		}
		for _, e := range flatten(err) {
			if e = fmt.Errorf("models.%s.%w", name, e); errors.Is(e, fs.ErrNotExist) {
				gone = append(gone, e)
			} else {
				errs = append(errs, e)
			}
		}
		if err == nil {
			inputs[name] = ins
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Streams)) {
		s := c.Streams[name]
		if s.Drift == nil || s.Drift.Reference == "" {
			continue
		}
		model, ok := models[s.ModelName()]
		if !ok && s.Model != "" {
			continue // that is told
		}
		err := rollout.CheckReference(model, s.Drift.Reference)
		if err != nil {
			err = fmt.Errorf("streams.%s.drift.%w", name, err)
		}
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, err)
		} else {
			errs = append(errs, err)
		}
	}
	if c.Infer.Library != "" && len(c.Models) > 0 {
		if _, err := os.Stat(c.Infer.Library); err != nil {
			gone = append(gone, fmt.Errorf("infer.library: %w", err))
		}
	}
	if c.FL.Key != "" {
		if _, err := keyfile.ReadPrivate(c.FL.Key); err != nil {
			errs = append(errs, fmt.Errorf("fl.%w", err))
		}
	}
	for i, name := range c.FL.Keys {
		if _, err := keyfile.Read(name); err != nil {
			errs = append(errs, fmt.Errorf("fl.keys[%d]: %w", i, err))
		}
	}
	errs = append(errs, c.fit(func(name string) []infer.TensorInfo { return inputs[name] }))
	return c.refused(errors.Join(warn...)), c.refused(errors.Join(gone...)), c.refused(errors.Join(errs...))
}

// served are the models as a gateway would serve them: those in its store
// first, where there is one.
func (c Config) served() (*rollout.Set, error) {
	var s *store.Store
	if _, err := os.Stat(filepath.Join(store.Dir(c.Data), "state.json")); err == nil {
		if s, err = store.OpenToRead(store.Dir(c.Data), c.Store); err != nil {
			return nil, fmt.Errorf("store.%w", err)
		}
		defer s.Close()
		if _, err := s.State(); errors.Is(err, store.ErrDamaged) {
			s = nil // run goes on without, and says so
		}
	}
	return rollout.Resolve(s, c.Models, c.Streams)
}

// ModelFiles are the files of the models, on which packed ones may build.
func (c Config) ModelFiles() (files []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		if file := c.Models[name].File; file != "" {
			files = append(files, file)
		}
	}
	return files
}

// fit holds the streams against what their models take; inputs gives nil for
// a model that is not known.
func (c Config) fit(inputs func(model string) []infer.TensorInfo) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Streams)) {
		s := c.Streams[name]
		if s.Model == "" {
			continue
		}
		if in := inputs(s.ModelName()); len(in) > 0 {
			if err := s.Fits(in); err != nil {
				errs = append(errs, fmt.Errorf("streams.%s.%w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// inputsOf are the inputs of loaded models.
func inputsOf(models interface {
	Model(name string) (*infer.Model, error)
}) func(string) []infer.TensorInfo {
	return func(name string) []infer.TensorInfo {
		m, err := models.Model(name)
		if err != nil {
			return nil
		}
		return m.Inputs()
	}
}

// Activate makes a version the live one where no gateway runs on the data
// folder, and notes so in its audit log: the next one watches it as it would
// watch one that it took over itself. noted says why the log does not have it; the
// version is live all the same.
func Activate(s *store.Store, data, name string, w store.Want) (noted, err error) {
	st, err := s.State()
	if err != nil {
		return nil, err
	}
	before := ""
	if m := st.Models[name]; m != nil {
		before = m.Live
	}
	why := w.Do + " by command, no gateway was running"
	if err := s.Activate(name, w.Version, why); err != nil {
		return nil, err
	}
	return rollout.Activated(store.Dir(data), name, w.Version, before, why, w.By), nil
}

// Try tries a version that is wanted, where no gateway runs, as the next one
// would before it goes live: by run, beside what the configuration serves, for
// the streams that it has. What came of it is in the store; an error says why
// the version may not go live.
func (c Config) Try(ctx context.Context, s *store.Store, run infer.PreflightFunc, name string, w store.Want) error {
	fits := func(ins []infer.TensorInfo) error {
		return c.fit(func(model string) []infer.TensorInfo {
			if model != name {
				return nil
			}
			return ins
		})
	}
	trial := rollout.Preflight(run, func() (infer.Config, rollout.PreflightConfig) {
		how := c.Rollout.Preflight
		how.Eager = true // nothing is live that it could slow
		return c.Infer, how
	})
	return rollout.Alone(ctx, s, c.Models, fits, trial, name, w)
}
