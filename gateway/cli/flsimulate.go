package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/fl"
	"edgegateway/fl/simulate"
	"edgegateway/infer/train"
	"edgegateway/internal/chart"
)

// simulation is one run of the command.
type simulation struct {
	data              dataSource
	holdout           string
	partition, attack string
	cfg               simulate.Config
	out               string
	asJSON            bool
	result, say       io.Writer
	task              *fl.Task
	learn, held       *train.Dataset
	began             time.Time
	used              time.Duration // of processors, when it began
	heap              uint64        // in use at most, so far
}

func flSimulateCommand() *cobra.Command {
	s := &simulation{cfg: simulate.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "simulate TASK.yaml",
		Short: "Run a task with virtual participants in this process",
		Long: `Run a task with virtual participants in this process: the coordinator and the
participants of the real thing, on a clock that jumps to what comes next. --data
is divided among them; --holdout judges the model after each round. The same
task, flags and data give the same weights. With --out NAME the history is in
NAME.history.json and .csv, its curve in NAME.curve.svg and .png, and the model
in NAME.tflite. Ctrl-C writes what there is until then.`,
		Example: `  edgegateway fl simulate configs/fl/digits.yaml --data train-images-idx3-ubyte --holdout t10k-images-idx3-ubyte
  edgegateway fl simulate configs/fl/digits-attacked.yaml --data train-images-idx3-ubyte --holdout t10k-images-idx3-ubyte --participants 20 --partition dirichlet:0.5 --attack gaussian:0.2:5`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.result, s.say = cmd.OutOrStdout(), cmd.OutOrStdout()
			if s.asJSON {
				s.say = cmd.ErrOrStderr()
			}
			if err := noneIdle(cmd, idle{s.cfg.Dropout == 0, "it is about --dropout, which is 0", []string{"away"}}); err != nil {
				return err
			}
			return s.run(cmd.Context(), args[0])
		},
	}
	s.data.add(cmd, "what is divided among the participants")
	f := cmd.Flags()
	f.StringVar(&s.holdout, "holdout", "", "data of the same kind that judges the model after each round; none: participants do, a round later, on what they hold out")
	f.IntVar(&s.cfg.Participants, "participants", s.cfg.Participants, "virtual participants")
	f.StringVar(&s.partition, "partition", "iid", "how data is divided: iid, shards:N (each gets N of as many times N pieces, sorted by class), dirichlet:ALPHA (of classes) or quantity:ALPHA (of sizes)")
	f.StringVar(&s.attack, "attack", "", "what hostile participants do, the share of them, and how strongly: sign-flip:0.3, scale:0.1:10, label-flip:0.2 or gaussian:0.2:1")
	f.DurationVar(&s.cfg.SampleTime, "sample-time", s.cfg.SampleTime, "time on their clock that the median participant trains on a sample")
	f.Float64Var(&s.cfg.Spread, "spread", s.cfg.Spread, "of the participants' speeds: the deviation of their logarithms; 0: all are alike")
	f.Float64Var(&s.cfg.Dropout, "dropout", 0, "chance that a participant loses its link while it trains")
	f.DurationVar(&s.cfg.Away, "away", s.cfg.Away, "how long it is away then, in the mean")
	f.DurationVar(&s.cfg.Latency, "latency", s.cfg.Latency, "of each message")
	f.Float64Var(&s.cfg.Rate, "link", s.cfg.Rate, "bytes a second that the broker's link takes, each way")
	f.IntVar(&s.cfg.Workers, "workers", 0, "participants that train at a time here; 0: as many as there are processors")
	f.StringVar(&s.out, "out", "", "write history, curve and model under this name")
	f.BoolVar(&s.asJSON, "json", false, "print what it came to as JSON, and the rest to standard error")
	completeWords(cmd, "partition", "iid", "shards:2", "dirichlet:0.5", "quantity:0.5")
	completeWords(cmd, "attack", "sign-flip:0.2", "scale:0.2", "label-flip:0.2", "gaussian:0.2")
	return cmd
}

func (s *simulation) run(ctx context.Context, file string) (err error) {
	if s.cfg.Partition, err = simulate.ParsePartition(s.partition); err != nil {
		return &exitError{exitUsage, err}
	}
	if s.cfg.Attack, err = simulate.ParseAttack(s.attack); err != nil {
		return &exitError{exitUsage, err}
	}
	if err := s.cfg.Validate(); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--%w", err)}
	}
	if k := s.cfg.Participants; s.attack != "" && s.cfg.Attack.Attackers(k) == 0 {
		return &exitError{exitUsage, fmt.Errorf("--attack %s: a share of %v of %s is nobody", s.attack, s.cfg.Attack.Share, count(k, "participant"))}
	}
	if s.task, err = fl.LoadTask(file); err != nil {
		return invalid(err)
	}
	if s.out != "" {
		for _, end := range []string{".tflite", ".history.json", ".history.csv", ".curve.svg", ".curve.png"} {
			if err := writable("--out", s.out+end); err != nil {
				return err
			}
		}
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	s.warn()
	bar := newBar("")
	defer bar.end()
	last := ""
	s.cfg.Round = func(r fl.RoundReport) {
		last = roundText(r)
		if every := max(1, s.task.Rounds/20); r.Round%every == 0 || r.Round == s.task.Rounds {
			bar.end()
			fmt.Fprintf(s.say, "round %d of %d: %s\n", r.Round, s.task.Rounds, last)
		}
	}
	s.cfg.Step = func(round, made, of int) {
		s.heap = max(s.heap, liveHeap())
		bar.what = strings.TrimSuffix(fmt.Sprintf("round %d of %d, the last: %s", round, s.task.Rounds, last), ", the last: ")
		bar.step((round-1)*of+min(made, of), s.task.Rounds*of)
	}
	s.began, s.used = time.Now(), processorTime()
	out, stopped := simulate.Run(ctx, *s.task, s.cfg, s.learn, s.held)
	if ctx.Err() != nil && (out == nil || len(out.History) == 0) {
		return errors.New("stopped before round 1 was over")
	}
	if out == nil || len(out.History) == 0 {
		return invalid(stopped)
	}
	bar.end()
	if ctx.Err() != nil && out.Status.State != "done" {
		out.Status.State, out.Status.Why = "stopped", fmt.Sprintf("by the user after round %d", len(out.History))
	}
	if err := s.write(out); err != nil {
		return errors.Join(stopped, err)
	}
	if err := s.report(out); err != nil {
		return errors.Join(stopped, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped after %d of %d rounds", len(out.History), s.task.Rounds)
	}
	return invalid(stopped)
}

// warn says what of the task and the flags comes to something else than it may
// have been meant for.
func (s *simulation) warn() {
	k := s.cfg.Participants
	if size := s.task.Cohort.Size; size > k {
		fmt.Fprintf(s.say, "cohort.size of the task is %d, and there are %s: each round has all of them\n", size, count(k, "participant"))
	}
	switch n := s.cfg.Attack.Attackers(k); {
	case n == k:
		fmt.Fprintf(s.say, "--attack %s: all %s are hostile, and there is nothing right to learn from\n", s.attack, count(k, "participant"))
	case 2*n >= k:
		fmt.Fprintf(s.say, "--attack %s: %d of %s are hostile; no strategy bears half or more\n", s.attack, n, count(k, "participant"))
	}
}

// load reads the data, and what judges.
func (s *simulation) load(ctx context.Context) (err error) {
	if s.learn, err = s.data.forTask(ctx, s.task, s.say, s.say); err != nil || s.holdout == "" {
		return err
	}
	other := s.data
	other.path, other.samples, other.from, other.before = s.holdout, 0, "", ""
	other.csv.From, other.csv.Before = time.Time{}, time.Time{}
	s.held, err = other.forTask(ctx, s.task, io.Discard, s.say)
	return err
}

// roundText says how a round went.
func roundText(r fl.RoundReport) string {
	m, round := r.Judged()
	of := "held-out samples"
	if round < r.Round {
		of = fmt.Sprintf("samples that participants hold out, of the weights after round %d", round)
		if round == 0 {
			of = "samples that participants hold out, of the weights before round 1"
		}
	}
	text := fmt.Sprintf("%d updates, %.3f MB up", r.Updates, float64(r.Bytes)/1e6)
	aside := r.Aside()
	if aside > 0 {
		text += fmt.Sprintf(", %d set aside", aside)
	}
	if n := len(r.SetAside) - aside; n > 0 {
		text += fmt.Sprintf(", %d counted for less", n)
	}
	switch {
	case r.Why != "":
		text += ", " + r.Why
	case m.Samples > 0 && m.Accuracy >= 0:
		text += fmt.Sprintf(", accuracy %.4f, loss %.4f on %d %s", m.Accuracy, m.Loss, m.Samples, of)
	case m.Samples > 0:
		text += fmt.Sprintf(", loss %.5g on %d %s", m.Loss, m.Samples, of)
	}
	return text
}

// write writes history, curve and model beside each other.
func (s *simulation) write(out *simulate.Outcome) error {
	if s.out == "" {
		return nil
	}
	if err := errors.Join(writeHistory(s.out+".", out.History), writeCurve(s.out+".", s.task, out.History)); err != nil {
		return err
	}
	file, err := federated(s.task, out.Weights)
	if err != nil {
		return err
	}
	return writeWhole(s.out+".tflite", file)
}

// curve draws how the weights after each round were judged, and how those did
// that each participant trained from them by itself.
func curve(title string, history []fl.RoundReport) *chart.Drawing {
	kinds := []struct {
		name string
		back int // the weights are those of so many rounds before
		of   func(*fl.RoundReport) fl.Metrics
	}{
		{"held out", 0, func(r *fl.RoundReport) fl.Metrics { return r.Held }},
		{"at the participants", 1, func(r *fl.RoundReport) fl.Metrics { return r.Before }},
		{"each participant's own", 0, func(r *fl.RoundReport) fl.Metrics { return r.After }},
	}
	var series []chart.Series
	for _, k := range kinds {
		accuracy, loss := chart.Series{Name: "accuracy, " + k.name, Dash: true}, chart.Series{Name: "loss, " + k.name}
		for i := range history {
			m, round := k.of(&history[i]), float64(history[i].Round-k.back)
			if m.Samples == 0 {
				continue
			}
			loss.X, loss.Y = append(loss.X, round), append(loss.Y, m.Loss)
			if m.Accuracy >= 0 {
				accuracy.X, accuracy.Y = append(accuracy.X, round), append(accuracy.Y, m.Accuracy)
			}
		}
		for _, one := range []chart.Series{accuracy, loss} {
			if len(one.Y) > 0 {
				series = append(series, one)
			}
		}
	}
	return chart.Lines{Title: title, X: "round", Y: "accuracy, loss", Series: series}.Draw()
}

// federated is the .tflite of a task's weights.
func federated(task *fl.Task, w *fl.Weights) ([]byte, error) {
	net, err := task.Network()
	if err != nil {
		return nil, err
	}
	if err := w.Into(net); err != nil {
		return nil, err
	}
	if task.Model.File != "" {
		m, err := net.Model()
		if err != nil {
			return nil, err
		}
		return m.Write()
	}
	if task.Model.Classes != nil {
		net = net.TwoClasses()
	}
	m, err := net.Export("trained by edgegateway, federated", task.Model.Classes)
	if err != nil {
		return nil, err
	}
	return m.Write()
}
