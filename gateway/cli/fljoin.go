package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"edgegateway/fl"
	"edgegateway/gateway/learn"
	"edgegateway/infer/train"
	"edgegateway/internal/keyfile"
)

// joining is one run of `fl join`.
type joining struct {
	clientFlags
	from             dataSource
	part             dataPart
	name, key, state string
	trust            []string
	task             string
	chunk            int
	limits           learn.Limits
	version          string
	say              io.Writer
	joined           joined // what the folder says
}

func flJoinCommand(version string) *cobra.Command {
	j := &joining{limits: learn.DefaultLimits(), version: version}
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Take part in a task with data that lies here, without a gateway",
		Long: `Take part in a task of federated learning with data that lies on this machine. It
never leaves it: what goes to the coordinator is how far the weights moved, the
number of samples and figures. Training runs in a child process at the lowest
priority.

The first task that a trusted coordinator announces is taken, or the one that --task
names; where its coordinator does not answer, the next that is announced. What was
begun is in --state: the same command goes on with it after a kill. It ends when the
task is over; another one is taken with another --state, or by --task.`,
		Example: `  edgegateway fl join --broker mqtts://cloud.example:8883 --name lab --key lab.pem --trust coordinator.pub --data samples.csv --target class`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j.say = cmd.OutOrStdout()
			if err := noneIdle(cmd, j.part.idle()); err != nil {
				return err
			}
			return j.run(cmd.Context())
		},
	}
	j.addWith(cmd, "cert-key")
	j.from.add(cmd, "what it trains on")
	j.part.add(cmd)
	f := cmd.Flags()
	f.StringVar(&j.name, "name", "", "name by which the coordinator enrolled it")
	f.StringVar(&j.key, "key", "", "private key of that name (keys new)")
	f.StringSliceVar(&j.trust, "trust", nil, "public keys of coordinators that are trusted")
	f.StringVar(&j.task, "task", "", "name or id of the task; empty: the first that is announced")
	f.StringVar(&j.state, "state", "fl-state", "folder for what must outlive a kill; one process at a time")
	f.IntVar(&j.chunk, "chunk", fl.DefaultChunk, "bytes of an update in a message; fewer on a thin link")
	f.Float64Var(&j.limits.CPU, "cpu", j.limits.CPU, "processors that training may take, 0.5 for half of the time of one")
	f.Int64Var(&j.limits.Memory, "memory", j.limits.Memory, "bytes of memory that it may take")
	f.StringSliceVar(&j.limits.Hours, "hours", nil, "local times of day at which it may work, such as 22:00-06:00")
	f.BoolVar(&j.limits.Eager, "eager", false, "train at the usual priority: quicker on a busy machine, and slower for all else")
	f.Float64Var(&j.limits.Celsius, "celsius", 0, "pause while a sensor of this machine is hotter; 0: however hot")
	for _, name := range []string{"data", "name", "key", "trust"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
	completeFiles(cmd, "key", "pem")
	completeFiles(cmd, "trust", "pub")
	return cmd
}

// limitFlags puts flags in the place of what the configuration calls them.
var limitFlags = strings.NewReplacer("\nmemory_bytes:", "\n--memory:", "\ncpu:", "\n--cpu:", "\nhours[", "\n--hours[", "\ncelsius:", "\n--celsius:")

func (j *joining) run(ctx context.Context) error {
	bad := func(flag string, err error) error { return &exitError{exitUsage, fmt.Errorf("--%s: %w", flag, err)} }
	if err := fl.CheckName(j.name); err != nil {
		return bad("name", err)
	}
	if err := j.limits.Validate(); err != nil {
		return &exitError{exitUsage, errors.New(limitFlags.Replace("\n" + err.Error())[1:])}
	}
	if _, _, _, err := j.part.read(); err != nil {
		return &exitError{exitUsage, err}
	}
	key, err := keyfile.ReadPrivate(j.key)
	if err != nil {
		return bad("key", err)
	}
	keys, err := keyfile.Read(j.trust...)
	if err != nil {
		return bad("trust", err)
	}
	var trusted []ed25519.PublicKey
	for _, k := range keys {
		trusted = append(trusted, k.Public)
	}
	cfg, err := j.config()
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := j.from.there(); err != nil {
		return err
	}
	lock, err := lockFolder(j.state, "another join")
	if err != nil {
		return bad("state", err)
	}
	defer lock.Close()
	if err := j.recall(); err != nil {
		return bad("state", err)
	}
	var mu sync.Mutex
	line := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(j.say, format+"\n", args...)
	}
	who := &flSelf{key: key, trusted: trusted, exe: exe, say: line}
	own := j.joined.Task
	if j.task != "" {
		own = ""
	}
	if own != "" {
		p, err := j.participant(who, own)
		if err != nil {
			return err
		}
		if s := p.Status(); isOver(s) && !fl.Replaced(s.Why) {
			line("%s", ended(own[:max(0, strings.LastIndexByte(own, '-'))], s))
			return nil
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	transport := newFLTransport(cfg, func(s string) { line("%s", s) })
	var link sync.WaitGroup
	defer link.Wait()
	defer cancel()
	link.Go(func() { transport.run(ctx) })
	tasks := &flOffers{name: j.task, own: own, say: line, news: make(chan struct{}, 1)}
	if err := transport.Subscribe(ctx, []string{fl.TaskFilter}, func(m fl.Message) { tasks.hear(m, fl.Trusted(trusted)) }); err != nil {
		return err
	}
	line("waiting for a task")
	who.transport = transport
	for {
		o, err := tasks.next(ctx)
		if err != nil {
			return err
		}
		if again, err := j.follow(ctx, who, tasks, o); !again {
			return err
		}
		transport.remind()
	}
}

// flSet is data in memory as a participant has it.
type flSet struct{ d *train.Dataset }

func (s flSet) Count(context.Context) (int, error)                { return s.d.Len(), nil }
func (s flSet) Load(context.Context, int) (*train.Dataset, error) { return s.d, nil }
