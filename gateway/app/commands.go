package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"edgegateway/gateway/rollout"
	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/store"
)

// commands are what the cloud can ask a gateway for, by name.
var commands = map[string]func(a *App, ctx context.Context, payload []byte) (any, error){
	"status": func(a *App, _ context.Context, _ []byte) (any, error) { return a.Status(), nil },
	"reload": func(a *App, _ context.Context, _ []byte) (any, error) {
		return map[string]bool{"reloaded": true}, a.Reload()
	},
	"model/list":     (*App).listModels,
	"model/show":     (*App).showModel,
	"model/activate": want(store.DoActivate),
	"model/rollout":  want(store.DoRollout),
	"model/rollback": want(store.DoRollback),
	"model/withdraw": ofBeside(store.DoWithdraw),
	"model/promote":  ofBeside(store.DoActivate),
	"model/rm":       (*App).removeModel,
	"model/diff":     (*App).diffModels,
	"dataset/list":   func(a *App, _ context.Context, _ []byte) (any, error) { return list(a.sets.Status()), nil },
	"dataset/label": func(a *App, _ context.Context, payload []byte) (any, error) {
		reply, err := a.label("", payload, time.Now())
		return json.RawMessage(reply), err
	},
}

// command answers a command from the cloud.
func (a *App) command(ctx context.Context, name string, payload []byte) ([]byte, error) {
	do := commands[name]
	if do == nil {
		return nil, fmt.Errorf("unknown command %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(commands)), ", "))
	}
	answer, err := do(a, ctx, payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// ModelCommand is the payload of a command about versions of a model.
type ModelCommand struct {
	ID      any    `json:"id,omitempty"` // of the command, for its sender
	Model   string `json:"model"`        // NAME or NAME@VERSION
	Version string `json:"version,omitempty"`
	To      string `json:"to,omitempty"`    // model/diff: the other version; "": the live one
	Force   bool   `json:"force,omitempty"` // model/activate: without a pre-flight
}

// ParseModelCommand reads such a payload.
func ParseModelCommand(payload []byte) (c ModelCommand, err error) {
	if len(payload) > 4096 {
		return c, fmt.Errorf("the command has %d bytes, more than 4096", len(payload))
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	err = dec.Decode(&c)
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) && wrong.Field != "" {
		err = fmt.Errorf("%q is a JSON %s, and has to be a %s, such as \"3\"", wrong.Field, wrong.Value, wrong.Type)
	}
	if err != nil {
		return c, fmt.Errorf(`the command is {"model": NAME, "version": VERSION}: %w`, err)
	}
	name, version, err := store.ParseRef(c.Model)
	if err != nil {
		return c, err
	}
	if c.Model = name; version != "" {
		if c.Version != "" && c.Version != version {
			return c, fmt.Errorf("it is both version %s and %s", version, c.Version)
		}
		c.Version = version
	}
	return c, nil
}

// ListedModel is a model with its versions; one that is in the store only has
// no file and no delegate.
type ListedModel struct {
	infer.ModelStatus
	Live     string          `json:"live,omitempty"` // "": the configuration's file
	Previous string          `json:"previous,omitempty"`
	Wanted   *store.Want     `json:"wanted,omitempty"`
	Versions []store.Version `json:"versions,omitempty"`

	Beside *rollout.Progress `json:"beside,omitempty"` // how the version does that is beside the live one
}

// listModels gives all models, those that serve and those that are in the
// store only.
func (a *App) listModels(context.Context, []byte) (any, error) {
	st, err := a.store.State()
	if err != nil {
		return nil, err
	}
	all := map[string]*ListedModel{}
	for name, m := range st.Models {
		all[name] = &ListedModel{infer.ModelStatus{Name: name}, m.Live, m.Previous, m.Want, m.Versions, nil}
	}
	for _, s := range a.engine.Models() {
		if all[s.Name] == nil {
			all[s.Name] = &ListedModel{}
		}
		all[s.Name].ModelStatus = s
		if p, ok := a.roll.Progress(s.Name); ok {
			all[s.Name].Beside = &p
		}
	}
	found := []ListedModel{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		found = append(found, *all[name])
	}
	return found, nil
}

// showModel gives one version, the live one where none is named, with its
// manifest and what its pre-flight said.
func (a *App) showModel(_ context.Context, payload []byte) (any, error) {
	c, err := ParseModelCommand(payload)
	if err != nil {
		return nil, err
	}
	st, err := a.store.State()
	if err != nil {
		return nil, err
	}
	m := st.Models[c.Model]
	if m != nil && c.Version == "" {
		c.Version = m.Live
	}
	f, err := a.store.Files(c.Model, c.Version)
	if err != nil {
		return nil, err
	}
	v := m.Find(c.Version)
	if v == nil {
		return nil, fmt.Errorf("model %s@%s: %w", c.Model, c.Version, store.ErrUnknown)
	}
	report, err := a.store.Report(*v)
	if err != nil {
		return nil, err
	}
	return struct {
		Name string `json:"name"`
		Live bool   `json:"live"`
		store.Version
		Content   store.Manifest  `json:"bundle"`
		Preflight json.RawMessage `json:"preflight,omitempty"`
	}{c.Model, m.Live == v.Version, *v, f.Manifest, report}, nil
}

// want is the command that notes what is wanted; what becomes of it is said on
// models/NAME/status.
func want(do string) func(*App, context.Context, []byte) (any, error) {
	return func(a *App, _ context.Context, payload []byte) (any, error) {
		c, err := ParseModelCommand(payload)
		if err != nil {
			return nil, err
		}
		w := store.Want{Version: c.Version, Do: do, Force: c.Force, By: fromCloud, At: time.Now().UTC()}
		if err := a.store.Want(c.Model, w); err != nil {
			return nil, err
		}
		a.roll.Wake()
		return map[string]any{"model": c.Model, "wanted": w}, nil
	}
}

// ofBeside is the command that wishes something of the version that is beside
// the live one, where none is named: that it is live (DoActivate), whatever its
// rules say of it yet, or that it goes (DoWithdraw).
func ofBeside(do string) func(*App, context.Context, []byte) (any, error) {
	return func(a *App, ctx context.Context, payload []byte) (any, error) {
		c, err := ParseModelCommand(payload)
		if err != nil {
			return nil, err
		}
		st, err := a.store.State()
		if err != nil {
			return nil, err
		}
		switch {
		case do != store.DoWithdraw:
			c.Version, err = st.Beside(c.Model, c.Version)
		case c.Version == "": // one that is named may be the live one too
			c.Version, err = st.Withdrawable(c.Model, "")
		}
		if err != nil {
			return nil, err
		}
		if payload, err = json.Marshal(c); err != nil {
			return nil, err
		}
		return want(do)(a, ctx, payload)
	}
}

func (a *App) removeModel(_ context.Context, payload []byte) (any, error) {
	c, err := ParseModelCommand(payload)
	if err != nil {
		return nil, err
	}
	if err := a.store.Remove(c.Model, c.Version); err != nil {
		return nil, err
	}
	a.roll.Removed(c.Model, c.Version, "removed by command", fromCloud)
	return map[string]string{"model": c.Model, "removed": c.Version}, nil
}

// diffModels says how two versions differ.
func (a *App) diffModels(_ context.Context, payload []byte) (any, error) {
	c, err := ParseModelCommand(payload)
	if err != nil {
		return nil, err
	}
	read := func(version string) (*model.Model, error) {
		f, err := a.store.Files(c.Model, version)
		if err != nil {
			return nil, err
		}
		data, err := pack.ReadFile(f.Model)
		if err != nil {
			return nil, err
		}
		return model.Read(data)
	}
	from, err := read(c.Version)
	if err != nil {
		return nil, err
	}
	to, err := read(c.To)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	if err := model.Diff(from, to).Describe(&text); err != nil {
		return nil, err
	}
	const most = 100 << 10 // of a message to the cloud
	said := text.String()
	if len(said) > most {
		said = said[:most] + "\n..."
	}
	return map[string]any{"model": c.Model, "version": c.Version, "to": c.To, "differences": strings.Split(strings.TrimSpace(said), "\n")}, nil
}
