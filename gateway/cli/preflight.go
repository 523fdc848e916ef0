package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/store"
)

// preflightRun is what the command was told.
type preflightRun struct {
	model     modelFlags
	req       infer.PreflightRequest
	golden    []string // IN,...=OUT,...
	tolerance float64
	memory    float64 // MB
	live      string
	load      float64 // live inferences a second meanwhile
	json      bool
}

func modelPreflightCommand() *cobra.Command {
	var p preflightRun
	cmd := &cobra.Command{
		Use:   "preflight FILE|BUNDLE",
		Short: "Say whether a model may serve on this box: right, quick, bounded, and nothing that crashes",
		Long: `Try a version of a model as the gateway does before it serves: a child process of
lowest priority loads it on every delegate, holds it against its golden answers
and the delegates against each other, times it, and looks for a leak. What
crashes, hangs or takes too much memory ends the child alone. A bundle brings
its settings, golden answers and limits itself; its signature is not asked for
here. Ends with 3 where the version is refused.`,
		Example: `  edgegateway model preflight kws_ref_model.tflite
  edgegateway model preflight --live digits-1.tflite --golden seven.raw=answer.raw --max-ms 5 digits-2.tflite
  edgegateway model preflight --live kws_ref_model.tflite --load 200 kws_ref_model_float32.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	p.model.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&p.golden, "golden", nil, "files of an input and its right answer, raw tensor bytes: IN=OUT, of several tensors IN,IN=OUT,OUT")
	f.Float64Var(&p.tolerance, "tolerance", 0, "what a golden answer may be off: a share of the output's range, of integers steps; 0: 0.001 and 6")
	f.Float64Var(&p.req.Limits.Millis, "max-ms", 0, "milliseconds in which 99 of 100 inferences must be done; 0: none")
	f.Float64Var(&p.memory, "max-memory", 0, "MB that an interpreter with the model may take; 0: none")
	f.IntVar(&p.req.Calls, "calls", 1000, "inferences that are timed and watched for a leak")
	f.StringVar(&p.live, "live", "", "the model that serves now: 10 times slower than it fails where no limit is named")
	f.Float64Var(&p.load, "load", 0, "run the live model so often a second meanwhile, and say by how much that slows")
	f.DurationVar(&p.req.Patience, "patience", 20*time.Second, "processor time after which an inference hangs")
	f.BoolVar(&p.req.Eager, "eager", false, "keep the usual priority: quicker where nothing is live; by default all else on the box goes first")
	f.BoolVar(&p.json, "json", false, "print JSON")
	f.BoolVar(&p.req.Unchecked, "unchecked", false, "hand the file to the runtime without our own check: for tests of what a child is there for")
	_ = f.MarkHidden("unchecked")
	return cmd
}

// preflightCommand is the child; the gateway starts it by itself.
func preflightCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "preflight",
		Hidden:  true,
		Short:   "Run the pre-flight of a model; the gateway starts it by itself",
		Example: "  edgegateway preflight < request",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return infer.RunPreflight(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
}

// childPreflight tries versions in a child process: this same program.
func childPreflight() (infer.PreflightFunc, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return infer.ChildPreflight(exe, "preflight"), nil
}

func (p *preflightRun) run(ctx context.Context, path string, out io.Writer) error {
	cfg := p.model.cfg
	cfg.File = path
	if err := cfg.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if p.load > 0 && p.live == "" {
		return &exitError{exitUsage, errors.New("--load needs --live: the model that runs meanwhile")}
	}
	if !(p.load >= 0 && p.load <= maxLoad) || p.req.Calls < 1 || p.req.Patience <= 0 || p.req.Limits.Millis < 0 || p.memory < 0 {
		return &exitError{exitUsage, fmt.Errorf("--calls is 1 or more, --load 0 to %d, --patience more than 0, --max-ms and --max-memory no less", maxLoad)}
	}
	p.req.Library, p.req.Model = p.model.library, cfg
	p.req.Limits.MemoryBytes = int64(p.memory * 1e6)
	for _, text := range p.golden {
		in, answer, ok := strings.Cut(text, "=")
		if !ok {
			return &exitError{exitUsage, fmt.Errorf("--golden %s: it is IN=OUT", text)}
		}
		p.req.Golden = append(p.req.Golden, infer.GoldenFiles{Inputs: strings.Split(in, ","), Outputs: strings.Split(answer, ","), Tolerance: p.tolerance})
	}
	if _, err := os.Stat(path); err != nil {
		return invalid(err)
	}
	if filepath.Ext(path) == store.Ext {
		dir, err := os.MkdirTemp("", "edgegateway-preflight-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := p.bundle(path, dir); err != nil {
			return invalid(fmt.Errorf("%s: %w", path, err))
		}
	}
	try, err := childPreflight()
	if err != nil {
		return err
	}
	var live *liveLoad
	var gate func() bool
	if p.live != "" {
		p.req.Live = &infer.ModelConfig{File: p.live}
		if _, _, err := readModel(p.live); err != nil {
			return err
		}
	}
	if p.load > 0 {
		if live, err = startLoad(ctx, p.model.library, p.live, p.load); err != nil {
			return err
		}
		defer live.stop()
		gate = live.gate()
	}
	done := waiting("pre-flight of " + filepath.Base(path))
	report, err := try(ctx, p.req, gate)
	if done(); err != nil {
		return err
	}
	report.File = filepath.Base(path)
	var beside *besideReport
	if live != nil {
		if beside, err = live.report(ctx); err != nil {
			return err
		}
	}
	if p.json {
		err = printJSON(out, struct {
			*infer.PreflightReport
			Live *besideReport `json:"live,omitempty"`
		}{report, beside})
	} else {
		_, err = io.WriteString(out, report.Text())
		if len(report.Candidates) > 0 {
			fmt.Fprintln(out)
			printCandidates(out, report.Candidates, lineWidth(200))
		}
		if beside != nil {
			fmt.Fprintf(out, "\n%s\n", beside.text(report))
		}
	}
	if err == nil && !report.OK {
		return invalid(fmt.Errorf("%s is refused: %s", path, report.Why))
	}
	return err
}

// bundle unpacks a bundle and takes what it says, where the command line says
// nothing else.
func (p *preflightRun) bundle(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := store.ReadBundle(f, info.Size(), store.Bounds{})
	if err != nil {
		return err
	}
	n := 0
	unpacked := func(name string) (string, error) {
		if name == "" {
			return "", nil
		}
		data, err := b.Part(name, nil)
		if err != nil {
			return "", err
		}
		// Two parts may have one base name in the bundle.
		n++
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", n, filepath.Base(name)))
		return to, os.WriteFile(to, data, 0o600)
	}
	m, c := &b.Manifest, &p.req.Model
	var errs []error
	take := func(name string) string {
		to, err := unpacked(name)
		errs = append(errs, err)
		return to
	}
	c.File = take(m.Model)
	if c.Accelerated == "" {
		c.Accelerated = take(m.Accelerated)
	}
	if c.Labels == "" {
		c.Labels = take(m.Labels)
	}
	for _, g := range m.Golden {
		one := infer.GoldenFiles{Tolerance: g.Tolerance}
		for _, name := range g.Inputs {
			one.Inputs = append(one.Inputs, take(name))
		}
		for _, name := range g.Outputs {
			one.Outputs = append(one.Outputs, take(name))
		}
		p.req.Golden = append(p.req.Golden, one)
	}
	if s := m.Settings; s.Output != "" && (c.Output == "" || c.Output == "auto") {
		c.Output = s.Output
	}
	if c.Threshold == nil {
		c.Threshold = m.Settings.Threshold
	}
	if p.req.Limits.Millis == 0 {
		p.req.Limits.Millis = m.Limits.Millis
	}
	if p.req.Limits.MemoryBytes == 0 {
		p.req.Limits.MemoryBytes = m.Limits.MemoryBytes
	}
	reference := take(m.Reference)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return checkBeside(*c, reference)
}
