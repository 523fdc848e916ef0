package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edgegateway/infer/compress"
	"edgegateway/infer/model/pack"
)

// packing is what pack says of what it made, and unpack of what it gave back.
type packing struct {
	Out     string      `json:"out"`
	Bytes   int         `json:"bytes"` // of the .tflite
	Packed  int         `json:"packed"`
	Content string      `json:"sha256"` // of the .tflite
	Base    string      `json:"base_sha256,omitempty"`
	Alone   bool        `json:"base_saves_nothing,omitempty"` // and is not needed
	Parts   []pack.Part `json:"parts,omitempty"`              // of pack
}

func packCommand() *cobra.Command {
	var out, base string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pack MODEL",
		Short: "Make a model's file small for a thin link; it comes back to the last bit",
		Long: `Write a model as a packed file, which every command and the gateway take like the
.tflite itself. Each tensor is held in the form that is smallest for it: few
different values as a list and indexes, zeros hardly at all. With --base it holds
only what changed since an older version of the model, which must then be at hand
where it is unpacked: in the same folder, whatever its name. Where that is no
smaller the model is packed without.`,
		Example: `  edgegateway pack digits.tflite
  edgegateway pack --base digits.tflite --out digits-2.pack digits-2.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = strings.TrimSuffix(args[0], filepath.Ext(args[0])) + pack.Ext
			}
			made, file, err := packModel(cmd.Context(), args[0], base, out)
			if err != nil {
				return err
			}
			if err := writeWhole(out, file); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			return made.describe(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "the file to write; by default MODEL"+pack.Ext)
	f.StringVar(&base, "base", "", "an older version of the model that the other side has")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// quickPack is the most bytes of a model that is packed only to say how small it
// is then: that takes less than a second.
const quickPack = 2 << 20

// costOf is what a model takes, packed too where that is quick, or asked for.
func costOf(file []byte, packed bool) (*compress.Cost, error) {
	cost, err := compress.CostOf(file)
	if err == nil && (packed || len(file) <= quickPack) {
		err = cost.Pack(file)
	}
	return cost, err
}

// packModel packs a model and proves that it comes back.
func packModel(ctx context.Context, path, base, out string) (*packing, []byte, error) {
	if data, err := os.ReadFile(path); err == nil && pack.Is(data) {
		return nil, nil, invalid(fmt.Errorf("%s is packed already; unpack gives the .tflite back", path))
	}
	if err := spares(out, path, base); err != nil {
		return nil, nil, err
	}
	file, _, err := readModel(path)
	if err != nil {
		return nil, nil, err
	}
	var old []byte
	if base != "" {
		if old, _, err = readModel(base); err != nil {
			return nil, nil, err
		}
	}
	done := waiting("packing " + filepath.Base(path))
	packed, parts, err := pack.PackParts(file, old)
	alone := false
	if err == nil && old != nil { // a base of something else only costs its name
		var bare []byte
		var bareParts []pack.Part
		if bare, bareParts, err = pack.PackParts(file, nil); err == nil && len(bare) <= len(packed) {
			packed, parts, old, alone = bare, bareParts, nil, true
		}
	}
	done()
	if err != nil {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	back, err := pack.Unpack(packed, func([32]byte) ([]byte, error) { return old, nil })
	if err != nil || !bytes.Equal(back, file) {
		return nil, nil, fmt.Errorf("%s does not come back from what was packed, which is not written: %w", path, err)
	}
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("stopped: %s is not written", out)
	}
	h, err := pack.ReadHeader(packed)
	if err != nil {
		return nil, nil, err
	}
	made := &packing{Out: out, Bytes: len(file), Packed: len(packed), Content: hex.EncodeToString(h.Content[:]), Alone: alone, Parts: parts}
	if h.Base != nil {
		made.Base = hex.EncodeToString(h.Base[:])
	}
	return made, packed, nil
}

// listedParts is how many tensors the table names.
const listedParts = 20

func (p *packing) describe(out io.Writer) error {
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TENSOR\tTYPE\tSHAPE\tBYTES\tPACKED\tFORM")
	line := func(name, kind, shape string, bytes, packed int, form string) {
		if r := []rune(name); len(r) > 48 { // converters join the names of all they folded
			name = string(r[:47]) + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", name, kind, shape, bytes, packed, form)
	}
	tensors, rest := slices.Clone(p.Parts[:len(p.Parts)-1]), p.Parts[len(p.Parts)-1]
	slices.SortStableFunc(tensors, func(a, b pack.Part) int { return cmp.Compare(b.Packed, a.Packed) })
	others, bytes, packed := 0, 0, 0
	for i, t := range tensors {
		if i < listedParts {
			line(t.Name, t.Type, fmt.Sprint(t.Shape), t.Bytes, t.Packed, t.Form)
			continue
		}
		others, bytes, packed = others+1, bytes+t.Bytes, packed+t.Packed
	}
	if others > 0 {
		line(fmt.Sprintf("%d others", others), "", "", bytes, packed, "")
	}
	line("header and tables", "", "", rest.Bytes, rest.Packed, rest.Form)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d bytes, 1/%.1f of %d\n", p.Out, p.Packed, float64(p.Bytes)/float64(p.Packed), p.Bytes)
	if p.Alone {
		fmt.Fprintln(out, "--base saves nothing: it is packed without, and needs none where it is unpacked")
	}
	if p.Base != "" {
		fmt.Fprintf(out, "unpacking it takes the model with SHA-256 %s\n", p.Base)
	}
	return nil
}

func unpackCommand() *cobra.Command {
	var out, base string
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "unpack FILE",
		Short: "Give back the .tflite file of a packed model",
		Long: `Write the .tflite file that a packed model was made of, the same to the last bit.
What it builds on, where it was packed with --base, is looked for in its folder.
Another file of the name that --out has by default is not written over.`,
		Example: `  edgegateway unpack digits.pack
  edgegateway unpack --base old/digits.tflite --out digits-2.tflite digits-2.pack`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			named := out != ""
			if !named {
				out = strings.TrimSuffix(args[0], filepath.Ext(args[0])) + ".tflite"
			}
			if err := unpacked(out, args[0], base); err != nil {
				return err
			}
			made, file, err := unpackModel(args[0], base)
			if err != nil {
				return err
			}
			if old, err := os.ReadFile(out); err == nil && !named && !force && !bytes.Equal(old, file) {
				return &exitError{exitUsage, fmt.Errorf("%s is there, and is not what %s holds: --out names another file, --force writes over it", out, args[0])}
			}
			made.Out = out
			if err := writeWhole(out, file); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", out, len(file))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "the file to write; by default FILE with .tflite in place of "+pack.Ext)
	f.StringVar(&base, "base", "", "the model that it builds on, where that is not in its folder")
	f.BoolVar(&force, "force", false, "write over another file that stands where --out is by default")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func unpackModel(path, base string) (*packing, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, invalid(err)
	}
	if !pack.Is(data) {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, pack.ErrFormat))
	}
	h, err := pack.ReadHeader(data)
	if err != nil {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	made := &packing{Bytes: h.Size, Packed: len(data), Content: hex.EncodeToString(h.Content[:])}
	if h.Base != nil {
		made.Base = hex.EncodeToString(h.Base[:])
	}
	find := pack.Beside(path)
	if base != "" {
		if h.Base == nil {
			return nil, nil, &exitError{exitUsage, fmt.Errorf("--base does nothing here: %s builds on no other model", path)}
		}
		find = func([32]byte) ([]byte, error) { return pack.ReadFile(base) }
	}
	file, err := pack.Unpack(data, find)
	if err != nil {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	return made, file, nil
}
