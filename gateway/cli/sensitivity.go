package cli

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edgegateway/infer/compress"
)

// layerName is a tensor's name, fit for a column: converters join the names of
// all that they folded into one, and the end of the first says most.
func layerName(name string) string {
	name, _, _ = strings.Cut(name, ";")
	const most = 40
	if r := []rune(name); len(r) > most {
		name = "…" + string(r[len(r)-most+1:])
	}
	return name
}

func sensitivityCommand() *cobra.Command {
	var data judgedData
	var task string
	var ways []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sensitivity MODEL",
		Short: "Say which layer of a float model loses how much by int8, pruning and shared weights",
		Long: `Make one layer after the other smaller alone, all others staying as they are, and
say what the model loses by it: int8, half, 80 % and 90 % of its weights 0, or all
of them sharing 16 values. Of each way the layers that lose most come first. What
is best kept float can then be named: quantize --keep-float.`,
		Example: `  edgegateway sensitivity --data cifar10/ --pixels 0..255 --samples 200 pretrainedResnet.tflite
  edgegateway sensitivity --by int8,pruned-80 pretrainedResnet.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := noneIdle(cmd, data.noData("task")); err != nil {
				return err
			}
			for _, w := range ways {
				if !slices.Contains(compress.Ways, w) {
					return &exitError{exitUsage, fmt.Errorf("--by %q is none of %s", w, strings.Join(compress.Ways, ", "))}
				}
			}
			file, m, err := usableModel(args[0])
			if err != nil {
				return err
			}
			if err := compress.CheckFloat(m); err != nil {
				return invalid(fmt.Errorf("%s: %w", args[0], err))
			}
			var show steps
			defer show.end()
			job := compress.Job{File: file, Config: compress.DefaultConfig(), Library: data.library, Progress: show.show}
			kind := compress.Task("")
			if data.path != "" {
				s, err := data.samples(cmd.Context(), m, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				kind = data.taskOf(task, s.Set)
				job.Calibration, job.Judged = s, s
			} else {
				if _, _, err := data.levels(); err != nil {
					return err
				}
				job.Calibration = data.madeUp(m, 64, 1)
				fmt.Fprintln(cmd.ErrOrStderr(), "without --data the inputs are made up: the order of layers is a guess")
			}
			before, layers, err := compress.Sensitivity(cmd.Context(), job, kind, ways)
			show.end()
			stopped := cmd.Context().Err() != nil
			if err != nil && (!stopped || len(layers) == 0) {
				if stopped {
					return errors.New("stopped before the first layer was judged")
				}
				return invalid(fmt.Errorf("%s: %w", args[0], err))
			}
			if stopped {
				defer func() {
					if err == nil {
						err = fmt.Errorf("stopped: %d rows were judged, and the others not", len(layers))
					}
				}()
			}
			slices.SortStableFunc(layers, func(a, b compress.Layer) int {
				return cmp.Or(cmp.Compare(slices.Index(ways, a.Way), slices.Index(ways, b.Way)), cmp.Compare(b.Difference, a.Difference))
			})
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Float  *compress.Quality `json:"float,omitempty"`
					Layers []compress.Layer  `json:"layers"`
				}{before, layers})
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
			lost, figure := "LOST", func(v float64) string { return fmt.Sprintf("%.4g", v) }
			if before != nil && len(before.Figures()) > 0 {
				f := before.Figures()[0]
				if lost = "LOST " + f.Name; f.Share {
					figure = func(v float64) string { return fmt.Sprintf("%.2f %%", math.Round(1e4*v)/100+0) }
				}
				fmt.Fprintf(cmd.OutOrStdout(), "float model: %s %s\n", f.Name, figure(f.Value))
			}
			fmt.Fprintf(w, "BY\tOP\tKIND\tLAYER\tWEIGHTS\tDIFFERENCE\tSAME TOP1\t%s\n", lost)
			for _, l := range layers {
				loss := "-"
				if before != nil {
					loss = figure(l.Lost)
				}
				same := "-"
				if l.Classes {
					same = fmt.Sprintf("%.2f %%", 100*l.Top1)
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%.3f %%\t%s\t%s\n", l.Way, l.Op, l.Code, layerName(l.Name), l.Weights, 100*l.Difference, same, loss)
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringSliceVar(&ways, "by", compress.Ways, "what is done to a layer: "+strings.Join(compress.Ways, ", "))
	cmd.Flags().StringVar(&task, "task", "auto", "what the answers are: auto, classes, regression, forecast, reconstruction")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	data.add(cmd, "samples to calibrate and judge with")
	completeWords(cmd, "by", compress.Ways...)
	completeWords(cmd, "task", "auto", "classes", "regression", "forecast", "reconstruction")
	return cmd
}
