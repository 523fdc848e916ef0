package cli

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"edgegateway/internal/testkit"
)

// A machine without a gateway takes part with a table: three processes and a
// broker, one machine killed and back. Who is not trusted, and data of another
// form, is refused.
func TestFLJoin(t *testing.T) {
	addr := testkit.Mosquitto(t, "")
	path, file, exits := flFolder(t)
	for _, name := range []string{"boss", "stranger", "lab", "shop"} {
		exits(0, "", "keys", "new", path(name))
	}
	for _, name := range []string{"lab", "shop"} {
		exits(0, "enrolled", "fl", "enroll", "--enrolled", path("enrolled"), name, path(name+".pub"))
		r := rand.New(rand.NewPCG(uint64(len(name)), 1))
		text := "a,b,class\n"
		for i := range 80 {
			text += fmt.Sprintf("%.4f,%.4f,%s\n", r.NormFloat64()+2*float64(i%2), r.NormFloat64(), []string{"low", "high"}[i%2])
		}
		file(name+".csv", text)
	}
	task := file("task.yaml", `
name: clouds
model: {preset: mlp, input: [2], classes: [high, low]}
data: {stream: none}
local: {epochs: 30}
rounds: 3
cohort: {quorum: 2, wait_for: 2}
`)
	join := func(name string, more ...string) *testkit.Process {
		args := append([]string{"fl", "join", "--eager", "--broker", addr, "--name", name, "--key", path(name + ".pem"), "--trust", path("boss.pub"),
			"--data", path(name + ".csv"), "--target", "class", "--state", path(name + "-state")}, more...)
		return testkit.Start(t, testkit.Command(t, args...))
	}
	lab := join("lab")
	lab.Line("waiting for a task")
	boss := testkit.Start(t, testkit.Command(t, "fl", "coordinator", "--broker", addr, "--key", path("boss.pem"), "--enrolled", path("enrolled"), "--data", path("tasks"), task))
	lab.Line("80 samples to take part with")
	file("wide.csv", "a,b,c,class\n1,2,3,low\n2,2,3,low\n1,4,4,high\n")
	exits(exitInvalid, "the task takes inputs of [2]", "fl", "join", "--state", path("wide"), "--broker", addr, "--name", "shop", "--key", path("shop.pem"), "--trust", path("boss.pub"), "--data", path("wide.csv"), "--target", "class")
	exits(exitUsage, "--trust", "fl", "join", "--state", path("nobody"), "--broker", addr, "--name", "shop", "--key", path("shop.pem"), "--trust", path("nobody.pub"), "--data", path("shop.csv"))
	exits(exitUsage, "hours[0]", "fl", "join", "--state", path("late"), "--broker", addr, "--name", "shop", "--key", path("shop.pem"), "--trust", path("boss.pub"), "--data", path("shop.csv"), "--hours", "late")
	stranger := testkit.Start(t, testkit.Command(t, "fl", "join", "--state", path("stranger"), "--broker", addr, "--name", "shop", "--key", path("shop.pem"), "--trust", path("stranger.pub"), "--data", path("shop.csv")))
	stranger.Line(`passed over: .*key`)
	stranger.Kill()
	at := time.Now().Add(6 * time.Hour)
	hours := at.Format("15:04") + "-" + at.Add(time.Hour).Format("15:04")
	shut := join("shop", "--hours", hours)
	shut.Line("pauses until " + hours)
	shut.Kill()
	lab.Kill()
	lab, shop := join("lab"), join("shop")
	for _, p := range []*testkit.Process{lab, shop} {
		p.Line(`round 3: trained on \d+ samples`)
		p.Line(`task clouds is over`)
		if code := p.Exit(); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.Output())
		}
	}
	if code := boss.Exit(); code != 0 {
		t.Errorf("coordinator: exit code %d\n%s", code, boss.Output())
	}
}
