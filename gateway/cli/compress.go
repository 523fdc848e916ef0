package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"edgegateway/configs"
	"edgegateway/infer/compress"
	"edgegateway/infer/model"
)

// compressing is what the command was told.
type compressing struct {
	fitting
	recipe string
	asJSON bool
}

func compressCommand() *cobra.Command {
	c := &compressing{}
	cmd := &cobra.Command{
		Use:   "compress MODEL",
		Short: "Make a smaller model by a recipe: prune, share weights, train, quantize",
		Long: `Make a smaller model by a recipe, a YAML file with steps, each of which does what
the command of its name does; "optimize" writes such recipes. Where there is data
the model is trained on after the steps that say epochs, and is judged on the
part of the data that took no part.`,
		Example: `  edgegateway compress --recipe digits-best.recipe.yaml --data train-images-idx3-ubyte --out small.tflite digits.tflite`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.idle(cmd); err != nil {
				return err
			}
			return c.run(cmd, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.add(cmd)
	f := cmd.Flags()
	f.StringVar(&c.recipe, "recipe", "", "the YAML file with the steps")
	f.StringVar(&c.out, "out", "", "the file to write; by default MODEL-small.tflite")
	f.BoolVar(&c.asJSON, "json", false, "print JSON")
	return cmd
}

func (c *compressing) run(cmd *cobra.Command, path string, out, say io.Writer) error {
	ctx := cmd.Context()
	if c.recipe == "" {
		return &exitError{exitUsage, errors.New("--recipe is missing: the YAML file with the steps")}
	}
	var recipe compress.Recipe
	file, err := configs.Load(c.recipe, &recipe)
	if gone := (*fs.PathError)(nil); errors.As(err, &gone) {
		return invalid(fmt.Errorf("recipe: %w", err))
	}
	if err != nil {
		return invalid(err)
	}
	if err := recipe.Validate(); err != nil {
		return invalid(file.Locate(err))
	}
	if c.out, err = madeOf(path, c.out, "small"); err != nil {
		return err
	}
	trains := slices.ContainsFunc(recipe.Steps, func(s compress.Step) bool { return s.Epochs > 0 })
	if err := noneIdle(cmd, idle{!trains, "no step of the recipe trains", learning}); err != nil {
		return err
	}
	if err := c.load(ctx, path, say); err != nil {
		return err
	}
	var show steps
	defer show.end()
	ground, made := c.ground(&show), c.file
	for i, s := range recipe.Steps {
		if s.Epochs > 0 && c.learn == nil {
			return &exitError{exitUsage, fmt.Errorf("%s: steps[%d] trains for %d epochs: it needs --data", c.recipe, i, s.Epochs)}
		}
	}
	for i, s := range recipe.Steps {
		if made, err = s.Apply(ctx, ground, made); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("stopped in steps[%d], %s: %s is not written", i, s, c.out)
			}
			return invalid(fmt.Errorf("steps[%d], %s: %w", i, s, err))
		}
		show.end()
		fmt.Fprintf(say, "%s: %d bytes\n", s, len(made))
		if s.Sparse && dense(made) {
			fmt.Fprintln(say, "  no weights stand in sparse rows: the file would not have a fifth less")
		}
	}
	list := []compress.Evaluation{{Name: "before", File: path}, {Name: "after", File: c.out}}
	trial, err := childTrial()
	if err != nil {
		return err
	}
	watch := &stopwatch{trial, c.data.library}
	for i, f := range [][]byte{c.file, made} {
		cost, err := costOf(f, false)
		if err != nil {
			return invalid(err)
		}
		list[i].Cost = *cost
		if c.off != nil {
			s := &compress.Samples{Set: c.off, Low: c.samples.Low, High: c.samples.High}
			if list[i].Quality, err = compress.Judge(ctx, f, "", c.data.library, c.kind(), s, nil); err != nil {
				return invalid(err)
			}
		}
		if list[i].Latency, err = watch.all(ctx, f); err != nil {
			return err
		}
	}
	doubt, err := c.agreement(ctx, made, &list[1])
	if err != nil {
		return invalid(err)
	}
	if err := writeWhole(c.out, made); err != nil {
		return err
	}
	if c.asJSON {
		return printJSON(out, list)
	}
	fmt.Fprintf(out, "%s\n%v\n", compress.Table(list, false), list[1].Agreement)
	doubted(out, doubt)
	return nil
}

// agreement is how what was made answers as the model did, on the samples that
// judge, or on made up ones, which can be doubted.
func (c *compressing) agreement(ctx context.Context, made []byte, e *compress.Evaluation) (*compress.Doubt, error) {
	inputs := c.part(c.off)
	var guess compress.Structured
	if inputs == nil {
		m, err := model.Read(c.given)
		if err != nil {
			return nil, err
		}
		ground := c.ground(&steps{})
		guess = compress.MadeUp(m, 100, 2)
		guess.Low, guess.High = ground.Low, ground.High
		inputs = guess
	}
	a, err := compress.Compare(ctx, c.given, made, [2]string{}, c.data.library, inputs)
	if err != nil {
		return nil, err
	}
	if e.Agreement = &a; !a.MadeUp {
		return nil, nil
	}
	return compress.Doubted(ctx, c.given, made, [2]string{}, c.data.library, guess, a)
}

// dense says that a model has no weights in sparse rows.
func dense(file []byte) bool {
	m, err := model.Read(file)
	return err == nil && !slices.ContainsFunc(m.Main().Ops, func(op model.Op) bool { return op.Code == "DENSIFY" })
}
