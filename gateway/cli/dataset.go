package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/gateway/dataset"
	"edgegateway/internal/link"
)

func datasetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dataset",
		Short: "Look at, label, bring in and take out what streams recorded",
		Long: `Look at, label, bring in and take out samples for training: those that streams
with record: keep, and those of a table or of pictures from elsewhere. They are
in the folder datasets/ of the gateway's data folder, which --data names, or the
configuration that --config names.`,
		Example: "  edgegateway dataset list --config /etc/edgegateway.yaml",
	}
	cmd.AddCommand(datasetListCommand(), datasetShowCommand(), datasetExportCommand(), datasetImportCommand(), datasetLabelCommand())
	return cmd
}

// dataFlags say where the gateway's data folder is.
type dataFlags struct{ data, config string }

func (f *dataFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "data folder of the gateway; $STATE_DIRECTORY or ./data where neither is given")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration of the gateway, which names its data folder")
	completeFiles(cmd, "config", "yaml", "yml")
}

func (f *dataFlags) folder() (string, error) {
	switch {
	case f.data != "" && f.config != "":
		return "", &exitError{exitUsage, errors.New("--data and --config name the same folder: give one")}
	case f.data != "":
		return f.data, nil
	case f.config == "":
		return app.DefaultConfig().Data, nil
	}
	cfg, err := app.LoadConfig(f.config)
	if err != nil {
		return "", invalid(err)
	}
	return cfg.Data, nil
}

// look is the folder of a data set and what is in it.
func (f *dataFlags) look(name string) (dir string, in dataset.Info, err error) {
	if dir, err = f.set(name); err == nil {
		in, err = dataset.Look(dir)
	}
	return dir, in, err
}

// set finds a set by its name, or by its folder.
func (f *dataFlags) set(name string) (string, error) {
	if dataset.Is(name) {
		return name, nil
	}
	data, err := f.folder()
	if err != nil {
		return "", err
	}
	if dir := dataset.Dir(data, name); dataset.Is(dir) {
		return dir, nil
	}
	list, err := dataset.List(data)
	if err != nil {
		return "", err
	}
	known := "there is none"
	for i, in := range list {
		if i == 0 {
			known = "there are " + in.Name
		} else {
			known += ", " + in.Name
		}
	}
	return "", invalid(fmt.Errorf("there is no data set %q in %s; %s", name, data, known))
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func datasetListCommand() *cobra.Command {
	var f dataFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the data sets: samples, classes, bytes, times",
		Example: "  edgegateway dataset list --data /var/lib/edgegateway",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := f.folder()
			if err != nil {
				return err
			}
			list, err := dataset.List(data)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, append([]dataset.Info{}, list...))
			}
			if len(list) == 0 {
				_, err := fmt.Fprintf(out, "no data sets in %s; record: on a stream makes one, and so does: edgegateway dataset import\n", data)
				return err
			}
			w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
			fmt.Fprintln(w, "SET\tKIND\tSAMPLES\tSIZE\tFIRST\tLAST\tCLASSES")
			for _, in := range list {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", in.Name, in.Kind, in.Samples, sizeText(in.Bytes), timeText(in.First), timeText(in.Last), classesText(in.Classes))
			}
			return w.Flush()
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func sizeText(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// classesText lists classes and their numbers, the first of them.
func classesText(list []dataset.Class) string {
	var words []string
	for i, c := range list {
		if i == 8 && len(list) > 9 {
			words = append(words, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		if c.Label == "" {
			c.Label = "(unlabelled)"
		}
		words = append(words, fmt.Sprintf("%s %d", c.Label, c.Samples))
	}
	return strings.Join(words, ", ")
}

func datasetShowCommand() *cobra.Command {
	var f dataFlags
	var asJSON bool
	var samples int
	cmd := &cobra.Command{
		Use:     "show SET",
		Short:   "Show a data set: classes, ranges of its features, its newest samples",
		Example: "  edgegateway dataset show press --samples 3",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, in, err := f.look(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), in)
			}
			newest, err := dataset.Newest(dir, max(samples, 0))
			if err != nil {
				return err
			}
			return describe(cmd.OutOrStdout(), in, newest)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, without samples")
	cmd.Flags().IntVar(&samples, "samples", 5, "how many of the newest samples are shown")
	return cmd
}

func describe(out io.Writer, in dataset.Info, newest []dataset.Entry) error {
	fmt.Fprintf(out, "%s: %s of %s, %s, %s to %s UTC\nfolder   %s\n", in.Name, count(in.Samples, "sample"), in.Kind, sizeText(in.Bytes), timeText(in.First), timeText(in.Last), in.Dir)
	if in.Damaged > 0 {
		fmt.Fprintf(out, "damaged and left out: %s\n", count(in.Damaged, "line"))
	}
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nCLASS\tSAMPLES\tPART")
	for _, c := range in.Classes {
		if c.Label == "" {
			c.Label = "(unlabelled)"
		}
		fmt.Fprintf(w, "%s\t%d\t%.1f %%\n", c.Label, c.Samples, 100*float64(c.Samples)/float64(in.Samples))
	}
	if len(in.Features) > 0 {
		fmt.Fprintln(w, "\nFEATURE\tLOWEST\tHIGHEST")
	}
	const most = 40
	for i, v := range in.Features {
		if i == most && len(in.Features) > most+1 {
			fmt.Fprintf(w, "and %d more\n", len(in.Features)-most)
			break
		}
		fmt.Fprintf(w, "%s\t%.6g\t%.6g\n", v.Name, v.Low, v.High)
	}
	if len(newest) > 0 {
		fmt.Fprintln(w, "\nNEWEST\tSOURCE\tLABEL\t")
	}
	for _, e := range newest {
		what := numbersText(e.Values)
		if e.File != "" {
			what = fmt.Sprintf("%s %dx%d, %s, %s", e.Format, e.W, e.H, sizeText(int64(len(e.Picture))), e.File)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", timeText(e.Time), e.Source, e.Label, what)
	}
	return w.Flush()
}

func numbersText(v []float64) string {
	const most = 8
	var words []string
	for _, x := range v[:min(len(v), most)] {
		words = append(words, fmt.Sprintf("%.5g", x))
	}
	if len(v) > most {
		words = append(words, fmt.Sprintf("... %d in all", len(v)))
	}
	return strings.Join(words, " ")
}

// step draws a bar, and ends the work with ctx.
func step(ctx context.Context, bar *progressbar.ProgressBar) dataset.Step {
	return func(int) error {
		_ = bar.Add(1) // a terminal that takes nothing
		return ctx.Err()
	}
}

func datasetExportCommand() *cobra.Command {
	var f dataFlags
	cmd := &cobra.Command{
		Use:   "export SET OUT",
		Short: "Write numbers to a .csv file, pictures to a folder for each class",
		Long: `Write a data set for other programs. Numbers become a table: OUT is a file that
ends in .csv, or - for standard output; columns time, source and label, then the
values. Pictures become files, as they came, in OUT/CLASS/; those without a label
in OUT/unlabelled/: sort them by hand and import them again.`,
		Example: "  edgegateway dataset export press press.csv\n  edgegateway dataset export porch pictures/",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, in, err := f.look(args[0])
			if err != nil {
				return err
			}
			bar := progress(in.Samples, "exporting", false)
			next := step(cmd.Context(), bar)
			if args[1] == "-" || strings.HasSuffix(args[1], ".csv") {
				n, left, err := exportTable(cmd.OutOrStdout(), dir, args[1], next)
				_ = bar.Finish()
				if err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s written, %d left out\n", count(n, "row"), left)
				}
				return err
			}
			n, left, err := dataset.ExportPictures(dir, args[1], next)
			_ = bar.Finish()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s written, %d left out\n", count(n, "picture"), left)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// exportTable writes beside the file and renames: it is whole or not there.
func exportTable(out io.Writer, dir, to string, next dataset.Step) (rows, left int, err error) {
	if to == "-" {
		return dataset.ExportCSV(dir, out, next)
	}
	if err := regular(to); err != nil {
		return 0, 0, err
	}
	part, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(part.Name())
	rows, left, err = dataset.ExportCSV(dir, part, next)
	if err = errors.Join(err, part.Chmod(0o644), part.Close()); err != nil {
		return 0, 0, err
	}
	return rows, left, os.Rename(part.Name(), to)
}

func datasetLabelCommand() *cobra.Command {
	var c clientFlags
	var command dataset.Command
	cmd := &cobra.Command{
		Use:   "label STREAM LABEL",
		Short: "Label what a stream records from now on",
		Long: `Label what a stream of a running gateway records from now on, for --for, or until
the next label; an empty LABEL ends that. The gateway takes it on the topic
datasets/STREAM/label of its broker, where any client may set it too.`,
		Example: "  edgegateway dataset label press fault --for 10m\n  edgegateway dataset label press ''",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" || strings.ContainsAny(args[0], "/+#") {
				return &exitError{exitUsage, fmt.Errorf("%q is no name of a stream", args[0])}
			}
			if d, err := time.ParseDuration(command.For); command.For != "" && (err != nil || d <= 0) {
				return &exitError{exitUsage, fmt.Errorf("--for: %q is no time such as 10m", command.For)}
			}
			command.Label = args[1]
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			conn, err := c.connect(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			return setLabel(ctx, cmd.OutOrStdout(), conn, args[0], command)
		},
	}
	c.add(cmd)
	cmd.Flags().StringVar(&command.Source, "source", "", "only for this source; for all where it is empty")
	cmd.Flags().StringVar(&command.For, "for", "", "how long it holds (10m); until the next where it is empty")
	return cmd
}

// setLabel publishes the command and waits for the gateway's answer.
func setLabel(ctx context.Context, out io.Writer, conn *link.Conn, stream string, command dataset.Command) error {
	topic := "datasets/" + stream + "/label"
	replies := make(chan []byte, 1)
	if err := conn.Subscribe(ctx, []string{topic + "/reply"}, 1, func(m link.Msg) {
		select {
		case replies <- m.Payload:
		default:
		}
	}); err != nil {
		return err
	}
	payload, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if err := conn.Publish(ctx, link.Msg{Topic: topic, Payload: payload, QoS: 1}); err != nil {
		return err
	}
	select {
	case b := <-replies:
		var reply struct{ Error string }
		if err := json.Unmarshal(b, &reply); err == nil && reply.Error != "" {
			return errors.New(reply.Error)
		}
		_, err := fmt.Fprintf(out, "%s is labelled %q\n", stream, command.Label)
		return err
	case <-conn.Done():
		return conn.Err()
	case <-ctx.Done():
		return fmt.Errorf("the gateway does not answer: does stream %q record?", stream)
	}
}
