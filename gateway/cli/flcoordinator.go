package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgegateway/fl"
	"edgegateway/internal/keyfile"
)

// coordination is one run of `fl coordinator`.
type coordination struct {
	clientFlags
	data, key, enrolled string
	holdout             []string
	held                dataSource
	chunk               int
	stay, asJSON        bool
	out, say            io.Writer
	tasks               []*flTask
	mu                  sync.Mutex // of out, say and refused
	refused             map[fl.Reason]int
}

func flCoordinatorCommand() *cobra.Command {
	c := &coordination{refused: map[fl.Reason]int{}}
	cmd := &cobra.Command{
		Use:   "coordinator TASK.yaml...",
		Short: "Lead tasks: invite gateways, make a common model of their updates, hand it back",
		Long: `Lead tasks of federated learning over an MQTT broker that the gateways reach too.
Only gateways whose public key lies in the folder --enrolled take part; that
folder may change at any time. All that matters is in --data, a folder a task: a
coordinator that was killed goes on with the same round and the updates that it
has, when the same command is given again. There are also history.json,
history.csv, curve.svg, curve.png and, at the end, model.tflite.

It ends when all tasks are over. With --stay it goes on, for gateways that come
late and for what they report of the model.`,
		Example: `  edgegateway fl coordinator --broker mqtts://cloud.example:8883 --key coordinator.pem --enrolled enrolled --data tasks configs/fl/digits.yaml
  edgegateway fl coordinator --key coordinator.pem --enrolled enrolled --data tasks --holdout t10k-images-idx3-ubyte configs/fl/digits.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.out, c.say = cmd.OutOrStdout(), cmd.OutOrStdout()
			if c.asJSON {
				c.say = cmd.ErrOrStderr()
			}
			return c.run(cmd.Context(), args)
		},
	}
	c.addWith(cmd, "cert-key")
	f := cmd.Flags()
	f.StringVar(&c.data, "data", "", "folder for what the tasks come to")
	f.StringVar(&c.key, "key", "", "private key that signs what the coordinator says; gateways know its public one (keys new)")
	f.StringVar(&c.enrolled, "enrolled", "", "folder with the public key of each gateway that may take part, NAME.pub (fl enroll)")
	f.StringArrayVar(&c.holdout, "holdout", nil, "data that judges each new model: a CSV file, a folder with a folder of pictures a class, PICTURES.idx,LABELS.idx, or the folder of a recorded data set; NAME=DATA for one task of several; none: what the gateways hold out judges")
	f.IntVar(&c.chunk, "chunk", fl.DefaultChunk, "bytes of a model in a message, from a task's beginning on")
	f.BoolVar(&c.stay, "stay", false, "go on when all tasks are over")
	f.BoolVar(&c.asJSON, "json", false, "print rounds as JSON, a line each, and the rest to standard error")
	// How --holdout is read is said as of other data.
	how := &cobra.Command{}
	c.held.add(how, "")
	how.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "data" {
			flag.Usage = "of --holdout: " + strings.TrimPrefix(flag.Usage, "of ")
			f.AddFlag(flag)
		}
	})
	for _, name := range []string{"data", "key", "enrolled"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
	completeFiles(cmd, "key", "pem")
	return cmd
}

func (c *coordination) run(ctx context.Context, files []string) error {
	key, err := keyfile.ReadPrivate(c.key)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("--key: %w", err)}
	}
	if info, err := os.Stat(c.enrolled); err != nil || !info.IsDir() {
		return &exitError{exitUsage, fmt.Errorf("--enrolled %s: there is no such folder; fl enroll makes it", c.enrolled)}
	}
	names, err := fl.KeyDir(c.enrolled).Names()
	if err != nil {
		return invalid(err)
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	defer c.close()
	for i, file := range files {
		for _, other := range files[:i] {
			if filepath.Clean(other) == filepath.Clean(file) {
				return &exitError{exitUsage, fmt.Errorf("%s is given twice", file)}
			}
		}
		t, err := c.open(ctx, file, key)
		if err != nil {
			return err
		}
		for _, o := range c.tasks {
			if o.c.ID() == t.c.ID() {
				return &exitError{exitUsage, fmt.Errorf("%s and %s are the same task", o.file, file)}
			}
		}
		c.tasks = append(c.tasks, t)
	}
	if err := c.allJudged(); err != nil {
		return err
	}
	var list []*fl.Coordinator
	var also []fl.Message
	for _, t := range c.tasks {
		list = append(list, t.c)
		t.begin(len(names))
		old, err := t.replaces(key)
		if err != nil {
			return err
		}
		also = append(also, old...)
	}
	transport := newFLTransport(cfg, func(s string) { c.line("%s", s) })
	ctx, cancel := context.WithCancel(ctx)
	var link sync.WaitGroup
	link.Go(func() { transport.run(ctx) })
	err = fl.ServeCoordinator(ctx, transport, list, fl.CoordinatorLoop{Log: c.log, Step: c.step, Again: writeEvery, Stay: c.stay, Also: also})
	stopped := ctx.Err() != nil
	cancel()
	link.Wait()
	return errors.Join(err, c.end(stopped))
}

// line says something that is not what was asked for.
func (c *coordination) line(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tasks {
		t.bar.end()
	}
	fmt.Fprintf(c.say, format+"\n", args...)
}

// log says what a loop found; of refusals of one kind the first few alone, and
// then every hundredth.
func (c *coordination) log(id string, err error) {
	text := err.Error()
	for _, t := range c.tasks {
		if t.c.ID() == id {
			text = t.label(text)
		}
	}
	if why := fl.ReasonOf(err); why != "" {
		c.mu.Lock()
		c.refused[why]++
		n := c.refused[why]
		c.mu.Unlock()
		if n > 5 && n%100 != 0 {
			return
		}
		if n >= 5 {
			text += fmt.Sprintf(" (%d of this kind)", n)
		}
	}
	c.line("%s", text)
}

// step writes down how a task stands, by the goroutine that runs it.
func (c *coordination) step(m *fl.Coordinator) {
	for _, t := range c.tasks {
		if t.c == m {
			t.step()
		}
	}
}

// end says how the tasks stand, and whether that is what was wanted.
func (c *coordination) end(stopped bool) error {
	var errs []error
	over := true
	for _, t := range c.tasks {
		t.bar.end()
		errs = append(errs, t.write(true))
		s := t.c.Status()
		over = over && t.c.Done()
		if stopped && !t.c.Done() {
			c.line("%s", t.label(fmt.Sprintf("stopped in round %d of %d; the same command goes on there", s.Round, s.Rounds)))
		}
		if n := s.Reports(); t.c.Done() && !c.stay && t.task.Publish.Model != "" && n < len(s.Gateways) {
			c.line("%s", t.label(fmt.Sprintf("%d of %d have said what became of the model; with --stay it is heard of other gateways that publish it, too", n, len(s.Gateways))))
		}
		if s.State == "stopped" {
			errs = append(errs, fmt.Errorf("task %s: stopped: %s", s.Task, s.Why))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if stopped && !over && !c.stay {
		return errors.New("stopped before all tasks were over")
	}
	return nil
}

func (c *coordination) close() {
	for _, t := range c.tasks {
		t.bar.end()
		t.lock.Close()
	}
}

// heldOf is the data that judges a task.
func (c *coordination) heldOf(task string) (path string) {
	for _, h := range c.holdout {
		name, of, ok := strings.Cut(h, "=")
		switch _, err := os.Stat(h); {
		case ok && err != nil && name == task:
			return of
		case !ok || err == nil:
			path = h
		}
	}
	return path
}

// allJudged refuses data for a task that is not here.
func (c *coordination) allJudged() error {
	for _, h := range c.holdout {
		name, _, ok := strings.Cut(h, "=")
		if _, err := os.Stat(h); !ok || err == nil {
			continue
		}
		known := false
		var names []string
		for _, t := range c.tasks {
			known = known || t.task.Name == name
			names = append(names, t.task.Name)
		}
		if !known {
			return &exitError{exitUsage, fmt.Errorf("--holdout %s: there is no task %s; there is %s", h, name, strings.Join(names, ", "))}
		}
	}
	return nil
}

// folder is where a task's files are.
func (c *coordination) folder(id string) string { return filepath.Join(c.data, id) }
