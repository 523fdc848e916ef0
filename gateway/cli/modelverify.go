package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// verified is what the command `verify` says to machines.
type verified struct {
	Manifest store.Manifest `json:"manifest"`
	KeyID    string         `json:"key,omitempty"` // that the signature names
	Trusted  bool           `json:"trusted"`       // one of the keys signed it
	Thin     bool           `json:"thin"`          // its model builds on an older one
}

func modelVerifyCommand() *cobra.Command {
	var keys []string
	var base string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Check a bundle: its signature, every file against its hash, its model",
		Long: `Check a bundle as a gateway does before it takes it: its signature by the public
keys that --key names, every file against the hash in the manifest, and its model,
labels, settings and reference as far as that can be told without running it. Without --key an unsigned bundle, or
one that somebody signed, passes, and it is said. A bundle that holds what changed
since an older version of the model needs that one: --base.`,
		Example: "  edgegateway model verify --key factory.pub digits-2.bundle",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := keyfile.Read(keys...)
			if err != nil {
				return invalid(err)
			}
			b, done, err := openBundle(args[0])
			if err != nil {
				return err
			}
			defer done()
			v, err := verify(b, trusted, base)
			if err != nil {
				return ofModel(fmt.Errorf("%s: %w", args[0], err))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s: %s@%s, %s\n", args[0], v.Manifest.Name, v.Manifest.Version, v.signature())
			describeManifest(out, &v.Manifest)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&keys, "key", nil, "public keys of those who are trusted")
	cmd.Flags().StringVar(&base, "base", "", "the older version of the model that a thin bundle builds on")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	completeFiles(cmd, "key", "pub", "pem")
	return cmd
}

func (v *verified) signature() string {
	switch {
	case v.Trusted:
		return "signed by " + v.KeyID
	case v.KeyID != "":
		return "signed with key " + v.KeyID + ", which nobody checked: --key names the public one"
	}
	return "unsigned"
}

func verify(b *store.Bundle, keys []keyfile.Key, base string) (*verified, error) {
	v := &verified{Manifest: b.Manifest, KeyID: b.KeyID}
	if len(keys) > 0 {
		if err := b.Verify(keys); err != nil {
			return nil, err
		}
		v.Trusted = true
	}
	old := func([32]byte) ([]byte, error) {
		v.Thin = true
		if base == "" {
			return nil, errors.New("its model builds on an older version; --base names that")
		}
		data, _, err := readModel(base)
		return data, err
	}
	dir, err := os.MkdirTemp("", "edgegateway-verify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	man := &b.Manifest
	as := map[string]string{man.Model: "model.tflite", man.Labels: "labels.txt", man.Reference: "reference.json"}
	files := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(man.Files)) {
		data, err := b.Part(name, old)
		if err == nil && as[name] != "" {
			files[name] = filepath.Join(dir, as[name])
			err = os.WriteFile(files[name], data, 0o600)
		}
		if err == nil && name == man.Model {
			var m *model.Model
			if m, err = model.Read(data); err == nil {
				_, _, _, err = m.Adapted(data)
			}
		}
		if err != nil {
			return nil, invalid(err)
		}
	}
	err = checkBeside(infer.ModelConfig{File: files[man.Model], Labels: files[man.Labels], Output: man.Settings.Output, Threshold: man.Settings.Threshold, Top: man.Settings.Top}, files[man.Reference])
	if err != nil {
		return nil, invalid(errors.New(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")))
	}
	return v, nil
}

// describeManifest says what a version holds.
func describeManifest(out io.Writer, m *store.Manifest) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(out, "%-11s%s\n", key, fmt.Sprintf(format, args...))
	}
	if !m.Created.IsZero() {
		line("made", "%s", timeText(m.Created))
	}
	p := m.Files[m.Model]
	line("model", "%s, SHA-256 %s", sizeText(p.Bytes), p.SHA256)
	if m.Accelerated != "" {
		line("twin", "for an accelerator, %s", sizeText(m.Files[m.Accelerated].Bytes))
	}
	var has []string
	if m.Labels != "" {
		has = append(has, "labels")
	}
	if n := len(m.Golden); n > 0 {
		has = append(has, fmt.Sprintf("%d golden inputs with a tolerance of %g", n, m.Golden[0].Tolerance))
	}
	if m.Reference != "" {
		has = append(has, "a reference for drift")
	}
	if has != nil {
		line("with", "%s", strings.Join(has, ", "))
	}
	if s := m.Settings; s.Output != "" || s.Threshold != nil || s.Top != 0 {
		var set []string
		if s.Output != "" {
			set = append(set, "output "+s.Output)
		}
		if s.Threshold != nil {
			set = append(set, fmt.Sprintf("threshold %g", *s.Threshold))
		}
		if s.Top != 0 {
			set = append(set, fmt.Sprintf("top %d", s.Top))
		}
		line("settings", "%s", strings.Join(set, ", "))
	}
	if in := m.Settings.Input; in != nil {
		var set []string
		if in.Fit != "" {
			set = append(set, "fit "+in.Fit)
		}
		if in.Channels != "" {
			set = append(set, "channels "+in.Channels)
		}
		if len(in.Mean) > 0 {
			set = append(set, fmt.Sprintf("mean %v", in.Mean))
		}
		if len(in.Std) > 0 {
			set = append(set, fmt.Sprintf("std %v", in.Std))
		}
		line("pictures", "%s", strings.Join(set, ", "))
	}
	var limits []string
	if ms := m.Limits.Millis; ms > 0 {
		limits = append(limits, fmt.Sprintf("%g ms", ms))
	}
	if n := m.Limits.MemoryBytes; n > 0 {
		limits = append(limits, sizeText(n)+" of memory")
	}
	if limits != nil {
		line("limits", "%s", strings.Join(limits, ", "))
	}
	if m.Minimum != "" {
		line("allows", "none below %s once it was live", m.Minimum)
	}
	if m.Licence != "" {
		line("licence", "%s", m.Licence)
	}
	if m.Provenance != "" {
		line("origin", "%s", m.Provenance)
	}
}
