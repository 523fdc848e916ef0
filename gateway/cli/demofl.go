package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/fl"
	"edgegateway/infer/train"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
)

func demoFLCommand() *cobra.Command {
	d := &demoFL{demo: &demo{}}
	cmd := &cobra.Command{
		Use:     "fl",
		Hidden:  true,
		Short:   "Conduct the demonstration of federated learning: a cloud, a coordinator, five gateways",
		Example: "  edgegateway demo fl --configs configs",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM) // as of demo
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			d.out = cmd.OutOrStdout()
			return d.conduct(ctx)
		},
	}
	cmd.Flags().StringVar(&d.configs, "configs", "configs", "folder with demo-fl.yaml and cloud.yaml")
	cmd.Flags().StringVar(&d.cache, "cache", os.Getenv("EDGEGATEWAY_CACHE"), "folder that the set-up filled")
	cmd.Flags().StringVar(&d.taskFile, "task", "", "the task; fl/demo.yaml there where it is empty")
	return cmd
}

// demoFL conducts a coordinator, five gateways and one who means them ill, all of
// them processes of this same program.
type demoFL struct {
	*demo
	taskFile    string
	task        *fl.Task
	data        string         // folder of all that is written
	taught      *train.Dataset // digits that inspectors tell
	asked       *train.Dataset // digits that nobody is taught
	cloud       string         // its broker
	sites       []*demoSite
	coordinator *child

	desks  chan struct{}  // closed when no more pictures are to come
	meant  sync.Map       // children that are to end
	rounds chan demoRound // as the coordinator prints them
	now    atomic.Int64   // rounds that are over
	killed int            // round in which a gateway was
	ending atomic.Bool
}

// demoRound is a line of fl coordinator --json.
type demoRound struct{ fl.RoundReport }

// Who takes part: five gateways, and one more that has a key too.
var demoGateways = []struct{ name, digits string }{
	{"north", "012"}, {"east", "234"}, {"south", "456"}, {"west", "678"}, {"yard", "890"},
}

const (
	demoRogue  = "rogue"
	demoVictim = "south" // is killed
)

func (d *demoFL) conduct(ctx context.Context) (err error) {
	d.died, d.rounds = make(chan error, 16), make(chan demoRound, 1000)
	d.desks = make(chan struct{})
	if d.exe, err = os.Executable(); err != nil {
		return err
	}
	if d.data, err = os.MkdirTemp("", "edgegateway-demo-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.data)
	defer d.end()
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	if err = d.prepare(); err == nil {
		err = d.show(ctx, &beside)
	}
	if err != nil { // Ctrl-C may reach a child that was born a moment ago first
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		beside.Wait()
		d.end()
		d.say("stopped", "%d of %d rounds were over", d.now.Load(), d.task.Rounds)
		return nil
	}
	return err
}

// end ends all children; that they end is no news from now on.
func (d *demoFL) end() {
	d.ending.Store(true)
	d.children = slices.DeleteFunc(d.children, func(c *child) bool { return c == nil })
	for _, c := range d.children {
		d.meant.Store(c, true)
	}
	d.stop()
}

// prepare writes what a user would: keys, who is enrolled, a folder with a
// configuration and a model for each gateway.
func (d *demoFL) prepare() (err error) {
	if d.taskFile == "" {
		d.taskFile = filepath.Join(d.configs, "fl", "demo.yaml")
	}
	if d.task, err = fl.LoadTask(d.taskFile); err != nil {
		return err
	}
	digits := filepath.Join(d.cache, "mnist", "data")
	for name, set := range map[string]**train.Dataset{"train": &d.taught, "t10k": &d.asked} {
		if *set, err = train.LoadIDX(filepath.Join(digits, name+"-images-idx3-ubyte"), filepath.Join(digits, name+"-labels-idx1-ubyte")); err != nil {
			return fmt.Errorf("demo fl: MNIST is not there; use: make demo-fl (%w)", err)
		}
	}
	first, err := untaught(d.task)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(d.configs, "demo-fl.yaml"))
	if err != nil {
		return err
	}
	leader, err := d.pair(".", "coordinator")
	if err != nil {
		return err
	}
	addrs, err := freeAddrs(1 + 2*len(demoGateways))
	if err != nil {
		return err
	}
	d.cloud = addrs[0]
	shards := d.shards()
	for i, g := range demoGateways {
		s := newDemoSite(g.name, g.digits, filepath.Join(d.data, g.name), addrs[1+2*i], addrs[2+2*i])
		// In an order of its own: those of MNIST come in stretches of easy and hard ones.
		s.shard, s.asked = shards[i], rand.New(rand.NewPCG(d.task.Seed, uint64(i))).Perm(d.asked.Len())
		d.sites = append(d.sites, s)
		own, err := d.pair(g.name, "gateway")
		if err != nil {
			return err
		}
		for path, data := range map[string][]byte{
			filepath.Join(s.dir, "gateway.yaml"): config, filepath.Join(s.dir, "digits.tflite"): first, filepath.Join(s.dir, "coordinator.pub"): leader,
			filepath.Join(d.data, "enrolled", g.name+".pub"): own,
		} {
			if err := writeAt(path, data); err != nil {
				return err
			}
		}
	}
	rogue, err := d.pair(demoRogue, "gateway")
	if err != nil {
		return err
	}
	return writeAt(filepath.Join(d.data, "enrolled", demoRogue+".pub"), rogue)
}

// pair makes a pair of keys and gives the public one.
func (d *demoFL) pair(folder, name string) ([]byte, error) {
	private, public, _, err := keyfile.New()
	path := filepath.Join(d.data, folder, name)
	if err == nil {
		err = errors.Join(writeAt(path+".pem", private), writeAt(path+".pub", public))
	}
	return public, err
}

func writeAt(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// untaught is the .tflite of the weights that a task begins with.
func untaught(t *fl.Task) ([]byte, error) {
	n, err := t.Network()
	if err != nil {
		return nil, err
	}
	m, err := n.Export("untaught", t.Model.Classes)
	if err != nil {
		return nil, err
	}
	return m.Write()
}

// begin starts this program; that it ends before it is meant to ends all. What
// the coordinator tells comes by out too.
func (d *demoFL) begin(name string, env []string, out io.Writer, args ...string) (*child, error) {
	c, err := startChild(d.exe, env, out, func(line string) {
		if !d.ending.Load() && (out == nil || strings.HasPrefix(line, "edgegateway: ")) {
			d.say(name, "%s", line)
		}
	}, args...)
	if err != nil {
		return nil, fmt.Errorf("demo fl: %s: %w", name, err)
	}
	go func() {
		<-c.done
		if _, ok := d.meant.Load(c); !ok {
			d.died <- fmt.Errorf("demo fl: %s (edgegateway %s) ended: %v", name, strings.Join(args, " "), c.err)
		}
	}()
	return c, nil
}

// show is the demonstration itself. What runs beside it ends with ctx.
func (d *demoFL) show(ctx context.Context, beside *sync.WaitGroup) error {
	c, err := d.begin("cloud", []string{"EDGEGATEWAY_CLOUD_DATA=" + filepath.Join(d.data, "cloud"), "EDGEGATEWAY_DEMO_CLOUD_LISTEN=" + d.cloud}, nil,
		"run", "--config", filepath.Join(d.configs, "cloud.yaml"))
	if err != nil {
		return err
	}
	d.children = append(d.children, c)
	conn, err := d.await(ctx, d.cloud)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.say("cloud", "a broker: tcp://%s", d.cloud)
	if err := conn.Subscribe(ctx, []string{"gateways/+/results/#", "gateways/+/models/#"}, 1, d.heard); err != nil {
		return err
	}
	d.children = append(d.children, nil) // the coordinator's place: it ends after the gateways
	for _, s := range d.sites {
		if err := d.open(s); err != nil {
			return err
		}
	}
	failed := make(chan error, len(d.sites))
	var recorded sync.WaitGroup
	for _, s := range d.sites {
		recorded.Add(1)
		beside.Go(func() {
			err := s.work(ctx, d, recorded.Done)
			if err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("demo fl: the camera of %s: %w", s.name, err)
			}
		})
	}
	all := make(chan struct{})
	go func() { recorded.Wait(); close(all) }()
	if err := d.until(ctx, all, failed, 3*time.Minute, "the gateways to record their digits"); err != nil {
		return err
	}
	for _, s := range d.sites {
		d.say(s.name, "recorded %d digits, none but %s, as its inspector told", len(s.shard), strings.Join(strings.Split(s.digits, ""), " "))
	}
	if err := d.lead(); err != nil {
		return err
	}
	t := newDemoTable(d)
	killed := make(chan struct{})
	beside.Go(func() {
		defer close(killed)
		if err := d.kill(ctx); err != nil && ctx.Err() == nil {
			failed <- err
		}
	})
	if err := t.follow(ctx, failed); err != nil {
		return err
	}
	if err := d.until(ctx, killed, failed, time.Minute, "the gateway that was killed"); err != nil {
		return err
	}
	return t.close(ctx, failed)
}

// until waits for something, as long as nothing goes wrong.
func (d *demoFL) until(ctx context.Context, done <-chan struct{}, failed <-chan error, most time.Duration, what string) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	select {
	case <-done:
		return nil
	case err := <-failed:
		return err
	case err := <-d.died:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return fmt.Errorf("demo fl: waited %v for %s", most, what)
	}
}

// open starts a gateway, the same again where it was.
func (d *demoFL) open(s *demoSite) error {
	c, err := d.begin(s.name, []string{
		"EDGEGATEWAY_DEMO_NAME=" + s.name, "EDGEGATEWAY_DEMO_DATA=" + filepath.Join(s.dir, "data"), "EDGEGATEWAY_DEMO_BROKER=" + s.local,
		"EDGEGATEWAY_DEMO_HTTP=" + s.web, "EDGEGATEWAY_DEMO_CLOUD=tcp://" + d.cloud,
	}, nil, "run", "--config", filepath.Join(s.dir, "gateway.yaml"))
	if err != nil {
		return err
	}
	d.hand(c)
	s.child = c
	return nil
}

// hand has a child ended with the others.
func (d *demoFL) hand(c *child) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.children = append(d.children, c)
}

// lead starts the coordinator, and the one who means ill.
func (d *demoFL) lead() error {
	out := &rows{then: func(line []byte) {
		var r demoRound
		if json.Unmarshal(line, &r) == nil && r.Round > 0 {
			d.now.Store(int64(r.Round))
			d.rounds <- r
		}
	}}
	url := "tcp://" + d.cloud
	c, err := d.begin("leader", nil, out, "fl", "coordinator", "--json", "--broker", url, "--key", filepath.Join(d.data, "coordinator.pem"),
		"--enrolled", filepath.Join(d.data, "enrolled"), "--data", filepath.Join(d.data, "tasks"),
		"--holdout", filepath.Join(d.cache, "mnist", "data", "t10k-images-idx3-ubyte"), d.taskFile)
	if err != nil {
		return err
	}
	d.meant.Store(c, true) // it ends with the task
	d.coordinator, d.children[1] = c, c
	c, err = d.begin(demoRogue, nil, nil, "demo", "rogue", "--broker", url, "--key", filepath.Join(d.data, demoRogue, "gateway.pem"),
		"--trust", filepath.Join(d.data, "coordinator.pub"), "--data", filepath.Join(d.cache, "mnist", "data"), d.taskFile)
	if err != nil {
		return err
	}
	d.hand(c)
	d.say(demoRogue, "is enrolled, and sends %d times the opposite of what it learns", rogueBy)
	return nil
}

// rows is a writer that hands on whole lines.
type rows struct {
	rest []byte
	then func(line []byte)
}

func (w *rows) Write(b []byte) (int, error) {
	for _, c := range b {
		if c != '\n' {
			w.rest = append(w.rest, c)
			continue
		}
		w.then(w.rest)
		w.rest = w.rest[:0]
	}
	return len(b), nil
}

// heard takes what arrives at the cloud.
func (d *demoFL) heard(m link.Msg) {
	parts := strings.Split(m.Topic, "/") // gateways/NAME/results/desk/PIECE, gateways/NAME/models/digits/status
	for _, s := range d.sites {
		switch {
		case len(parts) != 5 || parts[1] != s.name:
		case parts[2] == "results":
			s.answered(m.Payload, d.asked)
		case parts[4] == "status":
			s.version(m.Payload)
		}
	}
}
