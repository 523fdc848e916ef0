package cli

import (
	"strings"
	"syscall"
	"testing"

	"edgegateway/fl"
	"edgegateway/internal/testkit"
)

// A coordinator that is gone leaves its task at the broker. Who joins takes part in
// the one that is led: where the task was changed, and where another coordinator is
// there; a task has its name and its id.
func TestFLJoinLeadless(t *testing.T) {
	t.Parallel()
	addr := testkit.Mosquitto(t, "")
	path, file, exits := flFolder(t)
	for _, name := range []string{"boss", "lab"} {
		exits(0, "", "keys", "new", path(name))
	}
	file("lab.csv", "a,b,class\n"+strings.Repeat("0.1,0.2,low\n0.9,0.8,high\n", 20))
	task := func(name, more string) string {
		return file("task.yaml", "name: "+name+"\nmodel: {preset: mlp, input: [2], classes: [high, low]}\ndata: {stream: none}\n"+more)
	}
	lead := func(name, more string) *testkit.Process {
		return testkit.Start(t, testkit.Command(t, "fl", "coordinator", "--broker", addr, "--key", path("boss.pem"), "--enrolled", path("enrolled"), "--data", path("tasks"), task(name, more)))
	}
	args := func(more ...string) []string {
		return append([]string{"fl", "join", "--broker", addr, "--name", "lab", "--key", path("lab.pem"), "--trust", path("boss.pub"),
			"--data", path("lab.csv"), "--target", "class", "--state", path("lab-state")}, more...)
	}
	id := func(p *testkit.Process) string { return p.Line(`task ([a-z]+-[0-9a-f]{12}):`)[1] }
	exits(0, "enrolled", "fl", "enroll", "--enrolled", path("enrolled"), "lab", path("lab.pub"))
	old := lead("alpha", "rounds: 2\ncohort: {wait_for: 2}\n")
	gone := id(old)
	first := testkit.Start(t, testkit.Command(t, args()...))
	first.Line("task alpha: 40 samples") // the broker has it
	first.Kill()
	old.Kill()

	// Another task is led: the one that is gone is passed by, whichever comes first.
	beta := lead("beta", "rounds: 2\n")
	betaID := id(beta)
	lab := testkit.Start(t, testkit.Command(t, args()...))
	lab.Line("task beta is over: this command sent 2 updates")
	if code := lab.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, lab.Output())
	}
	if code := beta.Exit(); code != 0 {
		t.Errorf("coordinator: exit code %d\n%s", code, beta.Output())
	}

	// One that is gone is waited for where it is meant by its id, and that is said;
	// the state is its own meanwhile. It goes on as it was changed.
	lab = testkit.Start(t, testkit.Command(t, args("--task", "alpha")...))
	lab.Line("task alpha: 40 samples")
	exits(exitUsage, "in use by another join", args()...)
	lab.Line("no answer yet from the coordinator of " + gone + ": does it run, and is lab enrolled there with key [0-9a-f]{16}")
	changed := lead("alpha", "rounds: 1\n")
	changed.Line("it was changed: " + gone + " is stopped")
	exits(0, "stopped: it was changed, and goes on as alpha-", "fl", "status", "--data", path("tasks"), gone)
	lab.Line("task " + gone + ": it was changed, and goes on as alpha-")
	lab.Line("task alpha is over: this command sent 1 updates")
	if code := lab.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, lab.Output())
	}
	changed.Exit()

	// Who waits for another is told what there is.
	lab = testkit.Start(t, testkit.Command(t, args("--task", "bta")...))
	lab.Line("task beta is announced, and bta is waited for")
	lab.Signal(syscall.SIGINT)
	lab.Line("stopped: .*task beta is announced, and bta is waited for")
	exits(0, "task beta is over", args("--task", betaID)...)
	exits(exitInvalid, "nope.csv", append(args(), "--data", path("nope.csv"))...)
	exits(exitUsage, "--memory: 5 is under", append(args(), "--memory", "5")...)
	exits(exitUsage, "--state", append(args(), "--state", "/proc/none")...)
}

// The log of a join names the round of its job, not that which the task has come
// to meanwhile.
func TestDoingNow(t *testing.T) {
	for want, s := range map[string]fl.ParticipantStatus{
		"round 2 of 9: training":           {Doing: "training", DoingRound: 2, Round: 4, Rounds: 9},
		"round 4 of 9: refused: too few":   {Doing: "refused", DoingRound: 4, Round: 4, Rounds: 9, Why: "too few"},
		"round 2 of 9: fetching: the disk": {Doing: "fetching", DoingRound: 2, Round: 3, Rounds: 9, Why: "the disk"},
	} {
		if got := doingNow(&s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
