package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edgegateway/configs"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
)

// readNetwork reads the file with layers, where --network names one, and refuses
// what is no network before any data is read.
func (t *training) readNetwork() error {
	switch ext := strings.ToLower(filepath.Ext(t.network)); {
	case ext == ".yaml" || ext == ".yml":
		t.spec = &train.Spec{}
		file, err := configs.Load(t.network, t.spec)
		if gone := (*fs.PathError)(nil); errors.As(err, &gone) {
			return invalid(fmt.Errorf("network: %w", err))
		}
		if err != nil {
			return invalid(err)
		}
		return invalid(file.Locate(t.spec.Validate()))
	case ext == ".tflite" || ext == pack.Ext:
		return &exitError{exitUsage, fmt.Errorf("--network %s is a model, and what learns is made anew: a preset (%s) or a YAML file with layers; prune, cluster and optimize make a float model smaller, pack any", t.network, strings.Join(train.Presets, ", "))}
	case !slices.Contains(train.Presets, t.network):
		_, err := train.Preset(t.network, nil, 1)
		return &exitError{exitUsage, fmt.Errorf("--network: %w", err)}
	}
	return nil
}

// load reads the data and divides it.
func (t *training) load(ctx context.Context) error {
	var shape train.Shape
	if err := t.open(t.cfg.Augment); err != nil {
		return err
	}
	if t.base != nil {
		shape = t.shape()
	}
	if t.lesson != nil {
		var err error
		if shape, err = t.lesson.read(); err != nil {
			return err
		}
		if err := t.lesson.fits(t, shape); err != nil {
			return err
		}
	}
	t.data.loose = t.lesson.blind() || t.network == "autoencoder"
	d, err := t.data.load(ctx, shape, t.say)
	if err != nil {
		return err
	}
	t.lesson.order(d)
	t.all = d
	if err := t.learnsItself(d); err != nil {
		return err
	}
	if d.Labels != nil && slices.Min(d.Labels) == slices.Max(d.Labels) && !t.lesson.blind() && !t.itself {
		return invalid(fmt.Errorf("%s: every one of its %d samples is of the class %q: there is nothing to tell apart; one kind alone is learned by --network autoencoder", t.data.path, d.Len(), d.Classes[d.Labels[0]]))
	}
	if t.test != "" {
		other := t.data
		other.path, other.samples, other.from, other.before = t.test, 0, "", ""
		other.csv.From, other.csv.Before = time.Time{}, time.Time{}
		if t.off, err = other.load(ctx, shape, io.Discard); err != nil {
			return err
		}
		t.lesson.order(t.off)
		if !slices.Equal(t.off.Features, d.Features) || !slices.Equal(t.off.Classes, d.Classes) || !slices.Equal(t.off.Shape, d.Shape) {
			return invalid(fmt.Errorf("%s has other inputs or classes than %s", t.test, t.data.path))
		}
		t.learn = d
	} else if t.learn, t.off, err = d.Split(t.split, t.byTime, t.cfg.Seed); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--split: %w", err)}
	}
	if t.val > 0 {
		if t.learn, t.hold, err = t.learn.Split(t.val, t.byTime, t.cfg.Seed); err != nil {
			return &exitError{exitUsage, fmt.Errorf("--val: %w; --val 0 learns from all of them, and takes the last epoch", err)}
		}
	}
	if t.lesson.blind() {
		t.lesson.unlabel(t)
	}
	used := t.learn.Len()
	for _, d := range []*train.Dataset{t.hold, t.off} {
		if d != nil && (d != t.off || t.test == "") {
			used += d.Len()
		}
	}
	if n := d.Len() - used; n > 0 {
		fmt.Fprintf(t.say, "%d windows left out: they share readings with those that judge\n", n)
	}
	return t.reflect()
}

// build makes the network for the data.
func (t *training) build() (*train.Network, error) {
	outputs, classes := t.learn.Width, t.learn.Labels != nil
	if classes {
		outputs = len(t.learn.Classes)
	}
	if t.lesson.blind() {
		outputs, classes = t.lesson.teacher.Width, !t.lesson.values
	}
	var spec train.Spec
	if t.spec != nil {
		spec = train.Spec{Layers: slices.Clone(t.spec.Layers)}
	} else {
		var err error
		if spec, err = train.Preset(t.network, t.learn.Shape, outputs); err != nil {
			return nil, err
		}
	}
	last := len(spec.Layers) - 1
	if !classes && spec.Layers[last].Activation == "softmax" {
		spec.Layers[last].Activation = "" // values, not chances
	}
	net, err := train.New(spec, t.learn.Shape, outputs, t.cfg.Seed)
	if err != nil {
		return nil, err
	}
	if t.base == nil {
		net.Normalise(t.learn)
	}
	if !classes && spec.Layers[last].Type == "dense" && net.Final() == "none" && !(t.itself && t.learn.Pixels != nil) {
		net.OutNorm = t.learn.LearnOutNorm()
	}
	return net, nil
}
