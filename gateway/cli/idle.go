package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// idle are flags that say nothing in some case, and why.
type idle struct {
	so    bool // it is the case
	why   string
	flags []string
}

// noneIdle refuses flags that were given and would do nothing: whoever gave them
// takes what comes out for what they asked for.
func noneIdle(cmd *cobra.Command, list ...idle) error {
	for _, l := range list {
		for _, f := range l.flags {
			if l.so && cmd.Flags().Changed(f) {
				return usage(cmd, fmt.Errorf("--%s does nothing here: %s", f, l.why))
			}
		}
	}
	return nil
}

// noData are the flags about --data, which do nothing where that is not given.
func (s *dataSource) noData(more ...string) idle {
	return idle{s.path == "", "it is about --data, which is not given",
		append(more, "target", "drop", "time", "regression", "window", "ahead", "before", "from", "size", "fit", "samples", "class")}
}

// noTable refuses what is said of tables where there is none.
func (s *dataSource) noTable(is string) error {
	for _, f := range []struct {
		name  string
		given bool
	}{{"target", len(s.csv.Target) > 0}, {"drop", len(s.csv.Drop) > 0}, {"time", s.csv.Time != ""},
		{"regression", s.csv.Regression}, {"window", s.csv.Window != 0}, {"ahead", s.csv.Ahead != 0}} {
		if f.given {
			return &exitError{exitUsage, fmt.Errorf("--%s does nothing here: it is about tables, and %s %s", f.name, s.path, is)}
		}
	}
	return nil
}
