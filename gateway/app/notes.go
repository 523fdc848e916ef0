package app

import (
	"edgegateway/gateway/rollout"
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
