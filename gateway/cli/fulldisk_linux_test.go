package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// onDisk is a configuration whose data folder is on a small disk and whose model
// file is not.
func onDisk(t *testing.T, disk, model, more string) (config, data string) {
	t.Helper()
	data = filepath.Join(disk, "data")
	return write(t, t.TempDir(), "hall.yaml", fmt.Sprintf(`gateway: hall-7
data: %s
infer: {delegate: builtin}
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
dashboard: {listen: ""}
models: {m: {file: %s}}
rollout: {preflight: {calls: 20, eager: true}}
%s`, data, testkit.Shared(t, "models/"+model+".tflite"), more)), data
}

// On a disk that takes nothing what is there can be looked at.
func TestReadOnlyVersions(t *testing.T) {
	disk := testkit.SmallDisk(t, 4<<20)
	config, data := onDisk(t, disk, "hello_world_float", "")
	done(t, "", "model", "add", "--config", config, "--name", "m@1", testkit.Shared(t, "models/hello_world_int8.tflite"))
	done(t, "", "model", "activate", "--config", config, "m@1")
	testkit.ReadOnly(t, disk)
	if text := done(t, "", "model", "list", "--config", config); !strings.Contains(text, "live") || strings.Count(text, "\n") != 3 {
		t.Error(text)
	}
	if text := done(t, "", "model", "show", "--data", data, "m"); !strings.Contains(text, "m@1: live") {
		t.Error(text)
	}
	if text := done(t, "", "model", "diff", "--data", data, "m@0", "m@1"); !strings.Contains(text, "float32") {
		t.Error(text)
	}
	done(t, "", "check", config)
	if got := run(t, "", "model", "rm", "--data", data, "m@0"); got.code == 0 || !strings.Contains(got.stderr, "read-only file system") {
		t.Errorf("%+v", got)
	}
}

// On a disk without a byte left the versions can be looked at and one taken
// back; where the reserve is used up too nothing changes, and what to do is said.
func TestVersionsOnFullDisk(t *testing.T) {
	disk := testkit.SmallDisk(t, 1<<20)
	config, data := onDisk(t, disk, "hello_world_float", "")
	for _, version := range []string{"1", "2", "3"} {
		done(t, "", "model", "add", "--config", config, "--name", "m@"+version, testkit.Shared(t, "models/hello_world_int8.tflite"))
	}
	done(t, "", "model", "activate", "--config", config, "m@1")
	done(t, "", "model", "activate", "--config", config, "m@3")
	audit := filepath.Join(store.Dir(data), "audit.jsonl")
	if text := read(t, audit); strings.Count(text, `"step":"added","model":"m","version":"0"`) != 1 {
		t.Errorf("the audit log holds\n%s", text)
	}
	// A log that takes nothing is told, and what was done is done.
	if err := os.Remove(audit); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(audit, 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.FillDisk(t, disk)
	done(t, "", "model", "list", "--config", config)
	got := run(t, "", "model", "rollback", "--config", config, "m")
	if got.code != 0 || !strings.Contains(got.stdout, "m@1 is live") || !strings.Contains(got.stderr, "the audit log takes nothing: ") {
		t.Errorf("%+v", got)
	}
	filler := testkit.FillDisk(t, disk)
	const full = "nothing is changed, for the disk is full and the reserve of the store is used up; remove something else from the disk"
	for _, args := range [][]string{{"rm", "m@2"}, {"activate", "m@2"}, {"rollback", "m"}} {
		if got := run(t, "", append([]string{"model", "--config", config}, args...)...); got.code != 1 || !strings.Contains(got.stderr, full) {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if text := done(t, "", "model", "list", "--config", config); strings.Count(text, "\n") != 5 || strings.Contains(text, "wanted") {
		t.Error(text)
	}
	if err := os.Truncate(filler, 100<<10); err != nil {
		t.Fatal(err)
	}
	done(t, "", "model", "rm", "--config", config, "m@2")
	done(t, "", "model", "rollback", "--config", config, "m")
}

// A good version whose way back cannot be kept, for the disk is full, stays what
// it was: by a gateway that runs, and without one.
func TestGoodVersionOnFullDisk(t *testing.T) {
	disk := testkit.SmallDisk(t, 1<<20)
	config, data := onDisk(t, disk, "vww_96_float", "")
	done(t, "", "model", "add", "--config", config, "--name", "m@1", testkit.Shared(t, "models/hello_world_int8.tflite"))
	const says = "m@1 is wanted still, and not live: models.m.file is not kept to go back to: "
	got := run(t, "", "model", "activate", "--config", config, "m@1")
	if got.code != 1 || !strings.Contains(got.stderr, says) || !strings.Contains(got.stderr, "model rm of a version that is not needed makes room") {
		t.Errorf("%+v", got)
	}
	gateway := start(t, "run", "--config", config)
	gateway.Line(`failed .*not made live, and not for its own sake: the configuration's file is not kept to go back to: .*no space left`)
	s := openStore(t, data)
	if m := stateOf(t, s, "m"); m.Want != nil || m.Live != "" || m.Find("1").Stage != store.Passed || !strings.Contains(m.Find("1").Why, "not for its own sake") {
		t.Errorf("%+v", m)
	}
	got = run(t, "", "model", "activate", "--config", config, "m@1")
	if got.code != 3 || !strings.Contains(got.stderr, "m@1 passed: not made live, and not for its own sake: ") {
		t.Errorf("%+v", got)
	}
	interrupt(t, gateway)
	done(t, "", "model", "activate", "--data", data, "m@1") // no file that it takes the place of
}
