package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/infer/store"
)

// refOf reads NAME@VERSION of the command line.
func refOf(cmd *cobra.Command, arg string) (name, version string, err error) {
	name, version, err = store.ParseRef(arg)
	if err == nil && version == "" {
		err = fmt.Errorf("%s names no version: %s@VERSION, see `model list`", arg, name)
	}
	if err != nil {
		return "", "", usage(cmd, err)
	}
	return name, version, nil
}

func modelAddCommand() *cobra.Command {
	var f dataFlags
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "Put a version of a model into a gateway's store, and change nothing yet",
		Long: `Put a version of a model into a gateway's store. FILE is a bundle, or a .tflite or
packed model, which counts as unsigned and gets the next whole number. It is
checked, not run: model activate does that. Where there is no room, older versions
go, but never the live one and the one before it.`,
		Example: `  edgegateway model add --data /var/lib/edgegateway digits-2.bundle
  edgegateway model add --config hall.yaml --name digits@3 digits-int8.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" {
				if _, _, err := store.ParseRef(name); err != nil {
					return usage(cmd, fmt.Errorf("--name: %w", err))
				}
			}
			s, err := f.versions()
			if err != nil {
				return err
			}
			defer s.Close()
			begun := time.Now()
			model, v, err := s.AddNamed(cmd.Context(), name, args[0], "command")
			if err != nil {
				return ofModel(err)
			}
			if !v.Added.Before(begun.Round(0)) { // it was not there before
				note(cmd.ErrOrStderr(), app.NoteAdded(s.data, model, v.Version, "command"))
			}
			s.noteEvicted(cmd.ErrOrStderr())
			if asJSON {
				return printJSON(cmd.OutOrStdout(), listed{Name: model, Version: v})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s@%s, %s, %s\n", model, v.Version, sizeText(v.Bytes), signedText(v))
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "NAME or NAME@VERSION; by default what the bundle says, or the name of the file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func signedText(v store.Version) string {
	switch {
	case v.Signed != "":
		return "signed by " + v.Signed
	case v.Signature != "":
		return "signed, and no key to check it"
	}
	return "unsigned"
}

// listed is a version as `list` and `add` show it to machines.
type listed struct {
	Name string `json:"name"`
	store.Version
	Live     bool        `json:"live"`
	Previous bool        `json:"previous"`
	Want     *store.Want `json:"want,omitempty"`
}

func modelListCommand() *cobra.Command {
	var f dataFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the versions in a gateway's store: how far each has come, who signed it",
		Example: "  edgegateway model list --config hall.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.versionsToRead()
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := s.State()
			if err != nil {
				return ofModel(err)
			}
			list := []listed{}
			for _, name := range slices.Sorted(maps.Keys(st.Models)) {
				m := st.Models[name]
				for _, v := range m.Versions {
					l := listed{Name: name, Version: v, Live: v.Version == m.Live, Previous: v.Version == m.Previous}
					if m.Want != nil && m.Want.Version == v.Version {
						l.Want = m.Want
					}
					list = append(list, l)
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printVersions(cmd.OutOrStdout(), list, lineWidth(200))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printVersions(out io.Writer, list []listed, width int) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tVERSION\tSTAGE\tSIGNED\tSIZE\tADDED\tFROM\tWHY")
	for _, l := range list {
		stage := string(l.Stage)
		switch {
		case l.Want != nil:
			stage += ", wanted: " + l.Want.Do
		case l.Live && l.Broken != "":
			stage += ", not served"
		case l.Previous:
			stage += ", previous"
		}
		signed := l.Signed
		if signed == "" {
			signed = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Version.Version, stage, signed, sizeText(l.Bytes), timeText(l.Added), l.From, l.Why)
	}
	w.Flush()
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(out, shorten(strings.TrimRight(line, " \n"), width))
	}
	return nil
}

// shown is a version as `show` shows it to machines.
type shown struct {
	listed
	Minimum  string          `json:"minimum,omitempty"` // of the model
	Manifest store.Manifest  `json:"manifest"`
	Files    string          `json:"files"` // the .tflite
	Trial    json.RawMessage `json:"trial,omitempty"`
}

func modelShowCommand() *cobra.Command {
	var f dataFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME[@VERSION]",
		Short: "Show a version of a model: what it holds, how far it has come, its trial",
		Long: `Show a version of a model: what it holds, how far it has come, and the report of
its trial. Without a version the live one is shown, or the newest where none is.`,
		Example: "  edgegateway model show --config hall.yaml digits@2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, err := store.ParseRef(args[0])
			if err != nil {
				return usage(cmd, err)
			}
			s, err := f.versionsToRead()
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.show(name, version)
			if err != nil {
				return ofModel(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			return v.describe(cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (s *versions) show(name, version string) (*shown, error) {
	st, err := s.State()
	if err != nil {
		return nil, err
	}
	m := st.Models[name]
	if m == nil {
		return nil, fmt.Errorf("model %s: %w; there %s", name, store.ErrUnknown, thereAre(slices.Sorted(maps.Keys(st.Models))))
	}
	if version == "" {
		if version = m.Live; version == "" {
			version = m.Versions[len(m.Versions)-1].Version
		}
	}
	files, err := s.Files(name, version)
	if err != nil {
		return nil, err
	}
	v := *m.Find(version)
	out := &shown{listed: listed{name, v, version == m.Live, version == m.Previous, nil}, Minimum: m.Minimum, Manifest: files.Manifest, Files: files.Model}
	if m.Want != nil && m.Want.Version == version {
		out.Want = m.Want
	}
	out.Trial, err = s.Report(v)
	return out, err
}

func thereAre(names []string) string {
	if len(names) == 0 {
		return "is none"
	}
	return "are " + strings.Join(names, ", ")
}

func (v *shown) describe(out io.Writer) error {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(out, "%-11s%s\n", key, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(out, "%s@%s: %s", v.Name, v.Version.Version, v.Stage)
	if v.Why != "" {
		fmt.Fprintf(out, ", %s", v.Why)
	}
	fmt.Fprintln(out)
	if v.Broken != "" && v.Broken != v.Why {
		line("not served", "%s", v.Broken)
	}
	if v.Want != nil {
		line("wanted", "%s, by %s, %s", v.Want.Do, orNobody(v.Want.By), timeText(v.Want.At))
	}
	line("added", "%s from %s, %s", timeText(v.Added), orNobody(v.From), signedText(v.Version))
	if v.Minimum != "" {
		line("minimum", "none below %s is taken", v.Minimum)
	}
	describeManifest(out, &v.Manifest)
	line("file", "%s", v.Files)
	if v.Trial != nil {
		text, err := json.MarshalIndent(v.Trial, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\nits trial:\n%s\n", text)
	}
	return nil
}

func orNobody(s string) string {
	if s == "" {
		return "somebody"
	}
	return s
}

func modelRemoveCommand() *cobra.Command {
	var f dataFlags
	cmd := &cobra.Command{
		Use:     "rm NAME@VERSION",
		Short:   "Remove a version from a gateway's store; never the live one or the one before it",
		Example: "  edgegateway model rm --config hall.yaml digits@2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, err := refOf(cmd, args[0])
			if err != nil {
				return err
			}
			s, err := f.versionsThere()
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.Remove(name, version); err != nil {
				return ofModel(err)
			}
			note(cmd.ErrOrStderr(), app.NoteRemoved(s.data, name, version, "command"))
			fmt.Fprintf(cmd.OutOrStdout(), "%s@%s is gone\n", name, version)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
