package app

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"edgegateway/gateway/learn"
	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/rollout"
	"edgegateway/gateway/upstream"
	"edgegateway/infer"
	"edgegateway/internal/keyfile"
)

// openLearn makes the gateway's part in federated learning.
func (a *App) openLearn(cfg Config, reg *prometheus.Registry) (err error) {
	locked := func(f func()) {
		a.mu.Lock()
		defer a.mu.Unlock()
		f()
	}
	g := learn.Gateway{
		Name: cfg.Gateway, Data: a.data.dir, Store: a.store, Links: map[string]*upstream.Bridge{},
		Streams: func() (streams map[string]pipeline.Config) {
			locked(func() { streams = a.cfg.Streams })
			return streams
		},
		Models: func() (models map[string]infer.ModelConfig) {
			locked(func() { models = a.cfg.Models })
			return models
		},
		Served: func(name string) (m infer.ModelConfig, err error) {
			locked(func() { m = a.cfg.Models[name] })
			set, err := rollout.Resolve(a.store, map[string]infer.ModelConfig{name: m}, nil)
			if err != nil {
				return m, err
			}
			return set.Models[name], nil
		},
		Sign: func(id string) bool {
			keys, err := keyfile.Read(cfg.Store.Keys...) // they cannot change while it runs
			return err == nil && slices.ContainsFunc(keys, func(k keyfile.Key) bool { return k.ID == id })
		},
		Added: a.roll.Added, Gate: a.engine.Gate, Library: cfg.Infer.Library, Sysfs: cfg.Infer.Sysfs,
	}
	for _, l := range a.out.links {
		g.Links[l.name] = l.bridge
	}
	a.child = &learn.Worker{}
	a.learn, err = learn.Open(cfg.FL, g, a.child, part(a.log, "fl"), reg)
	return cfg.refused(err)
}

// Learn has a program train for federated learning, in child processes: with
// these arguments it calls learn.RunChild. Without one nothing is trained. It is
// called before Run; version is that of the program, for coordinators.
func (a *App) Learn(version, program string, args ...string) {
	a.child.Program, a.child.Args = program, args
	a.learn.Say(version)
}
