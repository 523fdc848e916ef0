package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killEnv is how many runs TestFLKilled makes, and seedEnv the seed of the first;
// three and one of chance where they are not set, as in CI.
const (
	killEnv = "FL_KILLED_RUNS"
	seedEnv = "FL_KILLED_SEED"
)

func numberOf(t *testing.T, env string, or uint64) uint64 {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return or
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// Coordinator, participants and broker are killed again and again, several at a
// time too, and started again: the model is the one that fl simulate makes, which
// nobody disturbs. The broker is somebody else's that forgets everything or what
// it heard in the last second, or ours. The moments are of chance, so a seed says
// what is killed, and about when.
func TestFLKilled(t *testing.T) {
	t.Parallel()
	runs, first := numberOf(t, killEnv, 3), numberOf(t, seedEnv, rand.Uint64N(1e9))
	if runs == 3 && os.Getenv("EDGEGATEWAY_LONG") != "" {
		runs = 100
	}
	const gateways, rounds = 3, 5
	brokers := []string{"mosquitto", "mosquitto-kept", "ours"}
	tasks := []string{
		"cohort: {quorum: 3, wait_for: 3}\ncompression: {kind: topk-int8, share: 0.1}\n",
		"cohort: {quorum: 3, wait_for: 3}\n",
	}
	models := map[string][]byte{}
	for seed := first; seed < first+runs; seed++ {
		broker, more := brokers[seed%3], tasks[seed/3%2]+fmt.Sprintf("rounds: %d\n", rounds)
		t.Run(fmt.Sprintf("%d", seed), func(t *testing.T) {
			f := newFLFleet(t, gateways, broker, more)
			if models[more] == nil {
				models[more] = f.simulated()
			}
			began := time.Now()
			f.begin()
			said := f.disturb(rand.New(rand.NewPCG(seed, 1)))
			f.end()
			f.same(models[more], rounds, gateways)
			t.Logf("%s, %.1f s:%s", broker, time.Since(began).Seconds(), said)
		})
	}
}

// disturb kills and starts processes until the task is over or that was often
// enough, and says what it did.
func (f *flFleet) disturb(r *rand.Rand) (said string) {
	f.Helper()
	over := func() bool { return strings.Contains(f.lead.Output(), " is over") }
	chance := func(most time.Duration) { time.Sleep(time.Duration(r.Int64N(int64(most)))) } // any moment will do
	brokerWas := false
	for range 2 + r.IntN(7) {
		chance(time.Second)
		if over() {
			break
		}
		victims := r.Perm(f.size + 2)[:1+r.IntN(3)]
		for _, v := range victims {
			switch {
			case v < f.size:
				said += " " + partName(v)
				kill := -f.joined[v].Pid()
				if r.IntN(2) == 0 {
					kill = -kill // the child that trains for it is left
				}
				_ = syscall.Kill(kill, syscall.SIGKILL) // it may have ended by itself
				f.joined[v].Exit()
			case v == f.size:
				said += " coordinator"
				f.lead.Kill()
			default:
				said += " broker"
				f.cloud.Kill()
				brokerWas = true
			}
		}
		said += ","
		r.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		for _, v := range victims {
			chance(300 * time.Millisecond)
			switch {
			case v < f.size:
				f.join(v)
			case v == f.size:
				f.coordinate()
			default:
				f.cloud = f.start()
			}
		}
	}
	if brokerWas {
		// A broker may have been killed after the coordinator had gone, whose word it
		// does not know any more: whoever sees that starts it once more.
		f.lead.Line(`task \S+ is over`)
		f.lead.Exit()
		f.coordinate()
	}
	return said
}
