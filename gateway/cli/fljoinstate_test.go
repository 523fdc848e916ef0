package cli

import (
	"os"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// A state folder is of one task and of one name: what was begun there is gone on
// with, though another task is announced, and where it ended meanwhile the command
// ends as well. Another name is refused.
func TestFLJoinState(t *testing.T) {
	t.Parallel()
	addr := testkit.Mosquitto(t, "")
	path, file, exits := flFolder(t)
	exits(0, "", "keys", "new", path("boss"))
	file("data.csv", "a,b,class\n"+strings.Repeat("0.1,0.2,low\n0.9,0.8,high\n", 20))
	for _, name := range []string{"lab", "shop"} {
		exits(0, "", "keys", "new", path(name))
		exits(0, "enrolled", "fl", "enroll", "--enrolled", path("enrolled"), name, path(name+".pub"))
	}
	lead := func(name, more string) *testkit.Process {
		task := file(name+".yaml", "name: "+name+"\nmodel: {preset: mlp, input: [2], classes: [high, low]}\ndata: {stream: none}\n"+more)
		return testkit.Start(t, testkit.Command(t, "fl", "coordinator", "--broker", addr, "--key", path("boss.pem"), "--enrolled", path("enrolled"), "--data", path("tasks"), task))
	}
	args := func(name string, more ...string) []string {
		return append([]string{"fl", "join", "--broker", addr, "--name", name, "--key", path(name + ".pem"), "--trust", path("boss.pub"),
			"--data", path("data.csv"), "--target", "class", "--state", path(name + "-state")}, more...)
	}
	join := func(name string) *testkit.Process { return testkit.Start(t, testkit.Command(t, args(name)...)) }

	// It is killed, and its task ends without it; another one is there by then, and
	// is the first by its name.
	press := lead("press", "rounds: 2\ndeadline: 2s\ncohort: {wait_for: 2}\n")
	lab, shop := join("lab"), join("shop")
	lab.Line("round 1 of 2: ")
	lab.Kill()
	shop.Line("task press is over: this command sent 2 updates")
	if code := press.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, press.Output())
	}
	lathe := lead("lathe", "rounds: 1\ncohort: {wait_for: 2}\n")
	lathe.Line("waiting until 2 participants are there")
	exits(0, "task press is over: this command sent 0 updates; --task takes part in another", args("lab")...)
	exits(0, "task press is over: this command sent 0 updates; --task takes part in another", args("shop")...) // its folder says so
	exits(exitUsage, "is the folder of lab, not of shop", append(args("shop"), "--state", path("lab-state"))...)

	// Another task is taken where it is named; a folder from before said nothing of
	// itself, and is taken.
	if err := os.Remove(path("shop-state/join.json")); err != nil {
		t.Fatal(err)
	}
	lab, shop = testkit.Start(t, testkit.Command(t, args("lab", "--task", "lathe")...)), join("shop")
	for _, p := range []*testkit.Process{lab, shop} {
		p.Line("task lathe is over: this command sent 1 updates")
		if code := p.Exit(); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.Output())
		}
	}
	lathe.Exit()
	exits(0, "task lathe is over", args("lab")...)
	file("lab-state/join.json", "{")
	exits(exitUsage, "join.json", args("lab")...)
}
