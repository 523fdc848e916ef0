package store

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgegateway/internal/testkit"
)

var (
	rounds = flag.Int("rounds", 24, "of TestKilled: so many processes are killed")
	seed   = flag.Uint64("seed", 0, "of TestKilled: what is done, and at which step it is killed; 0: another each time")
)

// TestMain lets the test run itself as the process that is killed.
func TestMain(m *testing.M) { testkit.Main(m, program) }

// program is DIR STEP DO NAME VERSION [FILE]: it does one thing to a store and
// kills itself before that step, counted from 1; 0: never.
func program(args []string) int {
	stop, err := strconv.Atoi(args[1])
	if err != nil {
		panic(err)
	}
	n := 0
	s, err := openOn(disk{step: func(string, string) {
		if n++; n == stop {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}, args[0], killConfig(), false)
	if err == nil {
		err = act(s, args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func killConfig() Config {
	cfg := DefaultConfig()
	cfg.Keep = 4
	return cfg
}

// act does DO NAME VERSION [FILE] to a store.
func act(s *Store, do []string) error {
	name, version := do[1], do[2]
	switch do[0] {
	case "add":
		_, err := s.Add(context.Background(), name, do[3], "a test")
		return err
	case "want":
		return s.Want(name, Want{Version: version, Do: DoActivate})
	case "activate":
		return s.Activate(name, version, "a test")
	case "rollback":
		return s.Want(name, Want{Do: DoRollback})
	case "mark":
		return s.Mark(name, version, Failed, "a test", []byte(`{"version":"`+version+`"}`))
	case "remove":
		return s.Remove(name, version)
	}
	panic("what is " + do[0])
}

// timeless leaves the times out, which differ from run to run.
func timeless(s State) State {
	s = s.clone()
	for _, m := range s.Models {
		if m.Want != nil {
			m.Want.At = time.Time{}
		}
		for i := range m.Versions {
			m.Versions[i].Added = time.Time{}
		}
	}
	return s
}

// asItLies reads the state of a store that nobody has opened since, and holds
// every file of every version against its hash.
func asItLies(t *testing.T, dir string) State {
	t.Helper()
	s := &Store{dir: dir}
	st, err := s.load()
	do(t, err)
	for name, m := range st.Models {
		for i := range m.Versions {
			v := &m.Versions[i]
			if _, err := s.filesOf(v); err != nil {
				t.Errorf("%s@%s: %v", name, v.Version, err)
			}
			if _, err := s.Report(*v); err != nil {
				t.Errorf("%s@%s: %v", name, v.Version, err)
			}
		}
	}
	return timeless(st)
}

// copied is a copy of a store.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "models")
	do(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// TestKilled does one thing after the other to one store, in processes that are
// killed by SIGKILL before a step of them: a write, a sync, a rename, a removal.
// The store then holds the state from before or the one from after, and every
// file of every version in it is whole.
func TestKilled(t *testing.T) {
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("-seed=%d", from)
	r := rand.New(rand.NewPCG(from, 6))
	dir := filepath.Join(t.TempDir(), "models")
	first := open(t, dir, killConfig())
	for i := range 3 {
		add(t, first, "door", strconv.Itoa(i+1), i)
	}
	do(t, first.Activate("door", "1", ""))
	do(t, first.Activate("door", "2", ""))
	old, news, killed := 0, 0, 0
	for i := range *rounds {
		before := asItLies(t, dir)
		what := draw(t, r, before.Models["door"], i)
		aside := copied(t, dir)
		steps := whole(t, aside, what)
		after := asItLies(t, aside)
		step := 1 + r.IntN(len(steps)+1) // one too many: it comes to its end
		cmd := testkit.Command(t, append([]string{dir, strconv.Itoa(step)}, what...)...)
		said, err := cmd.CombinedOutput()
		if w := cmd.ProcessState.Sys().(syscall.WaitStatus); w.Signaled() && w.Signal() == syscall.SIGKILL {
			killed++
		} else if err != nil {
			t.Fatalf("round %d: %v: %v\n%s", i, what, err, said)
		}
		switch now := asItLies(t, dir); {
		case cmp.Equal(now, before):
			old++
		case cmp.Equal(now, after):
			news++
		default:
			t.Fatalf("round %d: %v, killed before step %d: neither the state before nor the one after:\n%s", i, what, step, cmp.Diff(after, now))
		}
		// What was left behind goes with the next who opens it.
		s := open(t, dir, killConfig())
		nothingLeft(t, s)
		do(t, s.Close())
		if cmp.Equal(asItLies(t, dir), before) && r.IntN(2) == 0 {
			whole(t, dir, what) // so that there is something else to do it to
		}
	}
	t.Logf("%d rounds: %d killed, %d times the old state, %d times the new one", *rounds, killed, old, news)
	if killed < *rounds/2 || *rounds >= 100 && (old == 0 || news == 0) {
		t.Errorf("of %d rounds were %d killed, with %d old and %d new states: the steps are not those of the store any more", *rounds, killed, old, news)
	}
}

// whole does one thing to a store to its end and gives the steps that it took.
func whole(t *testing.T, dir string, what []string) (steps []string) {
	t.Helper()
	s, err := openOn(disk{step: func(do, path string) { steps = append(steps, do+" "+filepath.Base(path)) }}, dir, killConfig(), false)
	do(t, err)
	do(t, act(s, what))
	do(t, s.Close())
	return steps
}

// draw chooses what is done next to a store that can be done.
func draw(t *testing.T, r *rand.Rand, m *ModelState, round int) []string {
	t.Helper()
	one := m.Versions[r.IntN(len(m.Versions))].Version
	rollback := []string{"rollback", "door", ""}
	if m.Find(m.Previous).Stage == Failed { // the way back is refused
		rollback = []string{"activate", "door", m.Previous}
	}
	switch k := r.IntN(10); {
	case k < 4:
		version := strconv.Itoa(10 + round)
		man, parts := aBundle(t, "door", version, round)
		return []string{"add", "door", version, bundleFile(t, man, parts, nil)}
	case k < 6:
		return []string{"activate", "door", one}
	case k < 7:
		return rollback
	case k < 8:
		return []string{"want", "door", one}
	case k < 9:
		return []string{"mark", "door", one}
	}
	for _, v := range m.Versions {
		if v.Version != m.Live && v.Version != m.Previous && !v.atWork() {
			return []string{"remove", "door", v.Version}
		}
	}
	return rollback
}

// nothingLeft looks for files that nobody needs.
func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	need := map[string]bool{"state.json": true, "lock": true, reserve: true, "files": true, "reports": true, "incoming": true}
	st := state(t, s)
	for _, m := range st.Models {
		for i := range m.Versions {
			v := &m.Versions[i]
			need[v.Manifest], need[v.Signature], need[v.Report] = true, true, true
			man, _, err := s.manifest(v)
			do(t, err)
			for _, p := range man.Files {
				need[p.SHA256] = true
			}
		}
	}
	for _, folder := range []string{"", "files", "reports", "incoming"} {
		entries, err := os.ReadDir(s.path(folder))
		do(t, err)
		for _, e := range entries {
			if !need[e.Name()] {
				t.Errorf("%s/%s is left over", folder, e.Name())
			}
		}
	}
}

// TestEachStep kills adding, activating and going back before every one of
// their steps.
func TestEachStep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "models")
	s := open(t, dir, killConfig())
	add(t, s, "door", "1", 1)
	add(t, s, "door", "2", 2)
	do(t, s.Activate("door", "1", ""))
	do(t, s.Activate("door", "2", ""))
	do(t, s.Want("door", Want{Version: "1", Do: DoRollback}))
	do(t, s.Close())
	man, parts := aBundle(t, "door", "3", 3)
	bundle := bundleFile(t, man, parts, nil)
	before := asItLies(t, dir)
	for _, what := range [][]string{{"add", "door", "3", bundle}, {"activate", "door", "1"}, {"rollback", "door", ""}, {"mark", "door", "1"}} {
		t.Run(what[0], func(t *testing.T) {
			aside := copied(t, dir)
			steps := whole(t, aside, what)
			after := asItLies(t, aside)
			commit := slices.Index(steps, "rename state.json")
			if commit < 0 {
				t.Fatalf("the state is not renamed: %v", steps)
			}
			every := 1
			if testing.Short() {
				every = 5
			}
			for n := 1; n <= len(steps); n += every {
				work := copied(t, dir)
				cmd := testkit.Command(t, append([]string{work, strconv.Itoa(n)}, what...)...)
				if _, err := cmd.CombinedOutput(); err == nil {
					t.Fatalf("it was not killed before step %d, %s", n, steps[n-1])
				}
				want := before
				if n-1 > commit {
					want = after
				}
				if diff := cmp.Diff(want, asItLies(t, work)); diff != "" {
					t.Errorf("killed before step %d, %s:\n%s", n, steps[n-1], diff)
				}
			}
		})
	}
}

// TestPowerCut holds the order of steps that a power cut asks for: a file is
// synced before it gets its name, the folder with the files of a version is
// before the state names them, and that of the state at the end.
func TestPowerCut(t *testing.T) {
	var steps []string
	s, err := openOn(disk{step: func(do, path string) { steps = append(steps, do+" "+path) }}, filepath.Join(t.TempDir(), "models"), DefaultConfig(), false)
	do(t, err)
	defer s.Close()
	steps = nil
	add(t, s, "door", "1", 1)
	synced := map[string]bool{}
	filesAt, commit := -1, -1
	for i, step := range steps {
		var what, path string
		_, err := fmt.Sscan(step, &what, &path)
		do(t, err)
		switch what {
		case "sync":
			synced[filepath.Base(path)] = true
		case "rename":
			name := filepath.Base(path)
			if name == "state.json" {
				commit = i
				name = fmt.Sprintf("state.json.%d.new", os.Getpid())
			}
			if !synced[name] {
				t.Errorf("%s was not synced before its rename", name)
			}
		case "syncdir":
			if filepath.Base(path) == "files" {
				filesAt = i
			}
		}
	}
	if filesAt < 0 || commit < filesAt {
		t.Errorf("the folder of files is synced at step %d, the state is renamed at %d", filesAt, commit)
	}
	if rest := steps[commit+1:]; !slices.Contains(rest, "syncdir "+s.dir) {
		t.Errorf("behind the rename of the state its folder is not synced: %v", rest)
	}
}

// TestProcesses lets several processes work on one store at once: nobody's
// change is lost.
func TestProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "models")
	s := open(t, dir, killConfig())
	const models = 4
	names := []string{"a", "b", "c", "d"}
	for round := range 4 {
		var running []*testkit.Process
		for i := range models {
			version := strconv.Itoa(round + 1)
			man, parts := aBundle(t, names[i], version, 10*round+i)
			running = append(running, testkit.Start(t, testkit.Command(t, dir, "0", "add", names[i], version, bundleFile(t, man, parts, nil))))
			if round > 0 {
				running = append(running, testkit.Start(t, testkit.Command(t, dir, "0", "activate", names[i], strconv.Itoa(round))))
			}
		}
		for _, p := range running {
			if code := p.Exit(); code != 0 {
				t.Fatalf("a process ended with %d:\n%s", code, p.Output())
			}
		}
	}
	st := asItLies(t, dir)
	for _, name := range names {
		if m := st.Models[name]; m == nil || len(m.Versions) != 4 || m.Live != "3" || m.Previous != "2" {
			t.Errorf("model %s: %+v", name, m)
		}
	}
	nothingLeft(t, s)
}
