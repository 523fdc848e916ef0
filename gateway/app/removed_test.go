package app

import (
	"testing"

	"edgegateway/gateway/rollout"
	"edgegateway/infer/store"
)

// A version that leaves a gateway's store is told, whoever wanted it.
func TestRemoved(t *testing.T) {
	g := versioned(t, t.TempDir(), "store: {keep: 3}\n")
	in := g.subscribe("models/+/status")
	for _, version := range []string{"1", "2", "3"} {
		addVersion(t, g.store, "sine@"+version, "hello_world_int8")
	}
	wantVersion(t, g.store, store.DoActivate, "3") // the configuration's file becomes a version
	in.step(rollout.StepRemoved, "1")
	lives(t, g.store, "3")
	if _, err := g.command(t.Context(), "model/rm", []byte(`{"model":"sine","version":"2"}`)); err != nil {
		t.Fatal(err)
	}
	if st := in.step(rollout.StepRemoved, "2"); st.By != "cloud" || st.Version != "3" {
		t.Errorf("%+v", st)
	}
	if _, err := g.command(t.Context(), "model/rm", []byte(`{"model":"sine","version":"3"}`)); err == nil {
		t.Error("the live one is removed")
	}
}
