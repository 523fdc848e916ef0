package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/fl"
)

// flStanding is how a task stands, as it is printed.
type flStanding struct {
	fl.Status
	Running bool `json:"coordinator_runs"`
}

func flStatusCommand() *cobra.Command {
	var data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [TASK]",
		Short: "Say how the tasks of a coordinator stand, and what each gateway does",
		Long: `Say how tasks stand, as their coordinator wrote it down last, whether it runs or
not: the round, who was invited, whose update is there, how good the model is, and
the messages that were refused, by reason. TASK is a task's name or id.`,
		Example: `  edgegateway fl status --data tasks
  edgegateway fl status --data tasks --json digits`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := standings(data, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			for i := range list {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := list[i].print(cmd.OutOrStdout()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "folder that the coordinator was given")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	if err := cmd.MarkFlagRequired("data"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// standings reads how the tasks in a folder stand; all where no one is named.
func standings(data, name string) ([]flStanding, error) {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--data: %w", err)}
	}
	var list []flStanding
	var known []string
	for _, e := range entries {
		path := filepath.Join(data, e.Name(), "status.json")
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		var s flStanding
		if err == nil {
			err = json.Unmarshal(text, &s.Status)
		}
		if err != nil {
			return nil, invalid(fmt.Errorf("%s: %w", path, err))
		}
		known = append(known, s.ID)
		if name != "" && s.Task != name && s.ID != name {
			continue
		}
		lock, err := lockTask(filepath.Join(data, e.Name()))
		if err == nil {
			lock.Close()
		}
		s.Running = err != nil
		list = append(list, s)
	}
	if len(list) == 0 && name != "" && len(known) > 0 {
		return nil, &exitError{exitUsage, fmt.Errorf("there is no task %s in %s; there is %s", name, data, strings.Join(known, ", "))}
	}
	if len(list) == 0 {
		return nil, &exitError{exitUsage, fmt.Errorf("%s holds no task of a coordinator", data)}
	}
	return list, nil
}

func (s *flStanding) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	state := s.State
	if s.Why != "" {
		state += ": " + s.Why
	}
	if !s.Running && s.State != "done" && s.State != "stopped" {
		state += " (its coordinator does not run)"
	}
	row("task", "%s", s.ID)
	row("state", "%s", state)
	round := fmt.Sprintf("%d of %d", s.Round, s.Rounds)
	if s.State == "running" {
		round += fmt.Sprintf(", %d invited, %d updates are there", s.Invited, s.Updates)
	}
	if s.Deadline > 0 {
		round += ", deadline " + s.Deadline.Time().Local().Format(time.DateTime)
	}
	row("round", "%s", round)
	row("model", "%s", scored(s.Model, s.Score))
	row("best", "%s", scored(s.Best, s.BestOf))
	if len(s.Refused) > 0 {
		var list []string
		for _, why := range slices.Sorted(maps.Keys(s.Refused)) {
			list = append(list, fmt.Sprintf("%s %d", why, s.Refused[why]))
		}
		row("refused", "%s", strings.Join(list, ", "))
		row("", "the last: %s", s.Last)
	}
	if err := w.Flush(); err != nil || len(s.Gateways) == 0 {
		return err
	}
	fmt.Fprintln(out)
	fmt.Fprintln(w, "gateway\tsamples\theard\tdoes\tlast update\tmodel")
	for _, g := range s.Gateways {
		does := g.Doing
		if g.Why != "" {
			does += ": " + g.Why
		}
		report := ""
		if r := g.Report; r != nil {
			if report = r.State; r.Why != "" {
				report += ": " + r.Why
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", g.Name, g.Samples, g.Heard.Time().Local().Format(time.DateTime), does, g.Counted, report)
	}
	return w.Flush()
}

// scored says how good weights are.
func scored(r fl.Ref, m fl.Metrics) string {
	text := fmt.Sprintf("after round %d", r.Round)
	switch {
	case m.Samples > 0 && m.Accuracy >= 0:
		return text + fmt.Sprintf(": accuracy %.4f, loss %.4g on %d samples", m.Accuracy, m.Loss, m.Samples)
	case m.Samples > 0:
		return text + fmt.Sprintf(": loss %.5g on %d samples", m.Loss, m.Samples)
	}
	return text + ", not judged"
}
