package cli

import (
	"errors"
	"fmt"
	"slices"

	"edgegateway/infer/train"
)

// maxOwnTargets is the most values that inputs are learned with as targets.
const maxOwnTargets = 1 << 29

// learnsItself decides whether the network learns to give its inputs back: an
// autoencoder does, whatever labels there are, and so does what has nothing else
// to learn.
func (t *training) learnsItself(d *train.Dataset) error {
	nothing := d.Labels == nil && (d.Targets == nil || slices.Equal(d.Targets, d.Values))
	switch {
	case t.network == "forecast" && nothing:
		return &exitError{exitUsage, errors.New("--network forecast says what comes next: --window 24 --ahead 6 has it see 24 rows of a table and say the next 6")}
	case t.lesson != nil:
		return nil
	case t.base != nil && (t.network == "autoencoder" || nothing && d.Targets == nil):
		return &exitError{exitUsage, errors.New("--head learns labels; an autoencoder learns pictures as they are, without --head")}
	}
	t.itself = t.network == "autoencoder" || nothing
	return nil
}

// reflect makes the inputs what is learned. Labels judge alone; where --class
// names one, it is what is normal: the rest is not learned from.
func (t *training) reflect() error {
	if !t.itself {
		return nil
	}
	for _, d := range []**train.Dataset{&t.learn, &t.hold, &t.all} {
		if *d == nil {
			continue
		}
		own := **d
		if t.data.class != "" {
			var at []int
			for i, l := range own.Labels {
				if l == 1 {
					at = append(at, i)
				}
			}
			if len(at) == 0 {
				return invalid(fmt.Errorf("--class %q: none of its samples is left to learn from", t.data.class))
			}
			own = *own.Subset(at)
		}
		own.Labels, own.Classes, own.Targets, own.Width = nil, nil, nil, 0
		if d != &t.all {
			own.Width = product(own.Shape)
			n := own.Len()
			if n*own.Width > maxOwnTargets {
				return &exitError{exitUsage, fmt.Errorf("%d samples of %v do not fit into memory; --samples %d does", n, []int(own.Shape), maxOwnTargets/own.Width)}
			}
			own.Targets = make([]float32, n*own.Width)
			for i := range n {
				own.Input(own.Targets[i*own.Width:(i+1)*own.Width], i)
			}
		}
		*d = &own
	}
	if t.data.class != "" {
		off := *t.off
		off.Positive = off.Classes[0] // what is not normal is looked for
		t.off = &off
	}
	return nil
}
