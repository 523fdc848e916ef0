package app

import (
	"context"

	"edgegateway/gateway/rollout"
	"edgegateway/infer"
	"edgegateway/infer/store"
)

// NoteAdded writes into the audit log of the data folder that a process which is
// no gateway brought a version; by is who wanted it.
func NoteAdded(data, model, version, by string) error {
	return rollout.Note(store.Dir(data), rollout.Entry{Step: rollout.StepAdded, Model: model, Version: version, By: by})
}

// NoteRemoved is NoteAdded for a version that is gone.
func NoteRemoved(data, model, version, by string) error {
	return rollout.Note(store.Dir(data), rollout.Entry{Step: rollout.StepRemoved, Model: model, Version: version, Why: "removed by command", By: by})
}

// NoteEvicted is NoteAdded for a version, NAME@VERSION, that made room for one
// which by brought.
func NoteEvicted(data, ref, by string) error { return rollout.NoteEvicted(store.Dir(data), ref, by) }

// CheckReference says what is wrong with a file that is to be the reference for
// drift of a model.
func CheckReference(model infer.ModelConfig, file string) error {
	return rollout.CheckReference(model, file)
}

// KeepFile makes the configuration's file of a model a version in the store of
// the data folder, where it is none yet, for a process that is no gateway. noted
// says why the audit log does not have that it came.
func KeepFile(ctx context.Context, s *store.Store, data, name, file string) (version string, noted, err error) {
	version, added, err := rollout.KeepFile(ctx, s, name, file)
	if added {
		noted = rollout.Note(store.Dir(data), rollout.Entry{Step: rollout.StepAdded, Model: name, Version: version, Why: rollout.WhyKept, By: store.FromConfiguration})
	}
	return version, noted, err
}
