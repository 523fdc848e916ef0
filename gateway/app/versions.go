package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"edgegateway/gateway/rollout"
	"edgegateway/gateway/upstream"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/store"
	"edgegateway/internal/offer"
)

// versions brings what the clouds offer into the store.
type versions struct{ *App }

// fromCloud is where such a version came from, in the store's words.
const fromCloud = "cloud"

// Has says whether a model is in the store to build on. One that the
// configuration names comes into it for that.
func (v versions) Has(sum string) bool {
	st, err := v.store.State()
	if err != nil {
		return false // the next step says what is wrong with the store
	}
	for _, m := range st.Models {
		if slices.ContainsFunc(m.Versions, func(v store.Version) bool { return v.Model == sum }) {
			return true
		}
	}
	v.mu.Lock()
	models := v.cfg.Models
	v.mu.Unlock()
	for name, m := range models {
		file, err := pack.ReadFile(m.File)
		if err != nil || store.PartOf(file).SHA256 != sum {
			continue
		}
		version, added, err := rollout.KeepFile(context.Background(), v.store, name, m.File)
		if err != nil {
			v.log.Warn().Err(err).Str("model", name).Msg("the model of the configuration does not come into the store, so nothing can build on it")
			return false
		}
		if added {
			v.roll.Added(name, version, rollout.WhyKept+", and what is offered builds on it", store.FromConfiguration)
		}
		return true
	}
	return false
}

// find is the version that an offer is of; nil where it is not there.
func find(st store.State, name, version, sum string) (*store.ModelState, *store.Version) {
	m := st.Models[name]
	if m == nil {
		return nil, nil
	}
	for i := range m.Versions {
		if v := &m.Versions[i]; v.Model == sum && (version == "" || v.Version == version) {
			return m, v
		}
	}
	return m, nil
}

// Standing says what became of a version.
func (v versions) Standing(name, version, sum string) (state, why string) {
	st, err := v.store.State()
	if err != nil {
		return "", ""
	}
	m, is := find(st, name, version, sum)
	switch {
	case is == nil:
		return "", ""
	case m.Live == is.Version && is.Broken != "":
		return offer.Failed, is.Broken
	case m.Live == is.Version:
		return offer.Live, is.Why
	case m.Want != nil && m.Want.Version == is.Version && is.Stage != store.Trying && is.Stage != store.Shadow && is.Stage != store.Canary:
		return offer.Wanted, "" // what was said of it before counts no more
	case is.Stage == store.Added:
		return offer.Got, ""
	case is.Stage == store.Passed: // and nobody wants it any more
		return offer.Failed, is.Why
	}
	return string(is.Stage), is.Why
}

// Refuses says why a version would not be taken, before any of it is fetched.
func (v versions) Refuses(o *offer.Offer) error {
	if err := store.CheckName(o.Name); err != nil {
		return err
	}
	st, err := v.store.State()
	if err != nil {
		return fmt.Errorf("%w: %w", upstream.ErrNotNow, err)
	}
	m := st.Models[o.Name]
	if o.Version == "" || m == nil {
		return nil
	}
	if err := store.CheckVersion(o.Version); err != nil {
		return err
	}
	if is := m.Find(o.Version); is != nil && is.Model != o.Model {
		return fmt.Errorf("%s@%s is here with other content; a new model needs a new version", o.Name, o.Version)
	}
	if m.Minimum != "" && store.CompareVersions(o.Version, m.Minimum) < 0 {
		return fmt.Errorf("%s@%s is older than %s, the oldest that is taken; give it a version from there on", o.Name, o.Version, m.Minimum)
	}
	return nil
}

// Receive puts a version into the store and notes what is wanted of it.
func (v versions) Receive(ctx context.Context, o *offer.Offer, path string) error {
	st, err := v.store.State()
	if err != nil {
		return fmt.Errorf("%w: %w", upstream.ErrNotNow, err)
	}
	_, is := find(st, o.Name, o.Version, o.Model)
	if path != "" {
		ref := o.Name
		if o.Version != "" {
			ref += "@" + o.Version
		}
		added, err := v.store.Add(ctx, ref, path, fromCloud)
		if err != nil {
			return notNow(fmt.Errorf("%s: %w", ref, err))
		}
		if added.Model != o.Model {
			return fmt.Errorf("%s@%s holds the model with SHA-256 %s, not %s as the offer says", o.Name, added.Version, added.Model, o.Model)
		}
		if is == nil {
			v.roll.Added(o.Name, added.Version, "pushed", fromCloud)
		}
		is = &added
	}
	if is == nil {
		return fmt.Errorf("%w: %s is not in the store any more", upstream.ErrNotNow, o.Name)
	}
	if m := st.Models[o.Name]; o.Then == offer.Keep || m != nil && m.Live == is.Version && is.Broken == "" {
		return nil
	}
	return notNow(v.store.Want(o.Name, store.Want{Version: is.Version, Do: o.Then, By: fromCloud, At: time.Now().UTC()}))
}

// notNow marks errors of the disk, which may pass.
func notNow(err error) error {
	var path *fs.PathError
	if err != nil && (errors.Is(err, store.ErrFull) || errors.As(err, &path) || errors.Is(err, syscall.ENOSPC)) {
		return fmt.Errorf("%w: %w", upstream.ErrNotNow, err)
	}
	return err
}
