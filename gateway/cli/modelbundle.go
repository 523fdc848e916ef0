package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// bundling is what the command was told.
type bundling struct {
	manifest                       store.Manifest
	labels, accelerated, reference string // files
	key, base, out, memory         string
	packed                         bool
	golden                         int
	tolerance                      float64
	data                           judgedData
}

func modelBundleCommand() *cobra.Command {
	var b bundling
	cmd := &cobra.Command{
		Use:   "bundle MODEL",
		Short: "Make a version of a model: one file with all that belongs to it",
		Long: `Make a version of a model: one file NAME-VERSION.bundle with the model, its labels
and settings, limits, and golden inputs with the answers that the model gives to
them on the built-in kernels, by which every gateway tries it before it goes live.
Golden inputs are taken from --data, spread evenly over it, or made up without it.
--key signs it. --pack holds the model packed, --base packed on an older version
that the gateways have.`,
		Example: `  edgegateway model bundle --name digits --version 2 --golden 5 --data train-images-idx3-ubyte --key factory.pem digits-int8.tflite
  edgegateway model bundle --name door --version 1.4.0 --minimum 1.2 --output blazeface --max-ms 40 --golden 3 face_detection_short_range.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.idle(cmd); err != nil {
				return err
			}
			return b.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	m := &b.manifest
	f.StringVar(&m.Name, "name", "", "name of the model; by default that of the file")
	f.StringVar(&m.Version, "version", "", "dotted numbers, such as 3 or 1.4.0; it must be said")
	f.StringVar(&m.Minimum, "minimum", "", "once this version was live, none below that one is taken")
	f.StringVar(&b.labels, "labels", "", "file with a label a line; those packed in the model where it is empty")
	f.StringVar(&b.accelerated, "accelerated", "", "the same model compiled for the accelerator")
	f.StringVar(&b.reference, "reference", "", "what its inputs and answers look like, by which gateways tell drift")
	f.StringVar(&m.Settings.Output, "output", "", "what the outputs mean: auto, classes, blazeface, detection, regression, reconstruction, raw")
	f.Func("threshold", "the least score that is reported", func(text string) error {
		v, err := strconv.ParseFloat(text, 64)
		m.Settings.Threshold = &v
		return err
	})
	f.IntVar(&m.Settings.Top, "top", 0, "how many classes are reported")
	f.Float64Var(&m.Limits.Millis, "max-ms", 0, "the most milliseconds of one call, of 99 in 100; 0: no limit")
	f.StringVar(&b.memory, "max-memory", "", "the most memory that it may take, such as 64MB")
	f.StringVar(&m.Licence, "licence", "", "its licence, such as Apache-2.0; by default what the model's metadata says")
	f.StringVar(&m.Provenance, "provenance", "", "who made it, of what; by default what the model's metadata says")
	f.IntVar(&b.golden, "golden", 0, "golden inputs with the model's own answers")
	f.Float64Var(&b.tolerance, "tolerance", 0, "how far an answer may be off: of floats in parts of their range, of integers in steps; by default as kernels differ")
	f.StringVar(&b.key, "key", "", "private key that signs it, as keys new makes one")
	f.BoolVar(&b.packed, "pack", false, "hold the model packed")
	f.StringVar(&b.base, "base", "", "an older version of the model that the gateways have: hold what changed since")
	f.StringVar(&b.out, "out", "", "the file to write; by default NAME-VERSION"+store.Ext)
	b.data.add(cmd, "where golden inputs are taken from")
	completeFiles(cmd, "key", "pem")
	completeWords(cmd, "output", "auto", "classes", "blazeface", "detection", "regression", "reconstruction", "raw")
	return cmd
}

func (b *bundling) idle(cmd *cobra.Command) error {
	none := b.data.noData("pixels")
	if err := noneIdle(cmd, none, idle{b.golden == 0, "it is about golden inputs, and --golden says none", []string{"data", "tolerance", "library"}}); err != nil {
		return err
	}
	if b.golden < 0 || b.golden > 100 {
		return usage(cmd, fmt.Errorf("--golden %d is outside 0..100", b.golden))
	}
	if b.manifest.Version == "" {
		return usage(cmd, errors.New("--version is missing: dotted numbers, such as 3 or 1.4.0"))
	}
	return nil
}

func (b *bundling) run(ctx context.Context, path string, out, say io.Writer) error {
	file, m, err := usableModel(path)
	if err != nil {
		return err
	}
	man := &b.manifest
	about := m.About()
	man.Licence, man.Provenance = cmp.Or(man.Licence, about.Licence), cmp.Or(man.Provenance, about.String())
	if man.Name == "" {
		man.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	if err := errors.Join(store.CheckName(man.Name), store.CheckVersion(man.Version)); err != nil {
		return &exitError{exitUsage, err}
	}
	if b.out == "" {
		b.out = man.Name + "-" + man.Version + store.Ext
	}
	if err := spares(b.out, path, b.base, b.labels, b.accelerated, b.reference, b.key); err != nil {
		return err
	}
	memory, err := bytesOf("max-memory", b.memory)
	if err != nil {
		return err
	}
	man.Limits.MemoryBytes = int64(memory)
	var key ed25519.PrivateKey
	if b.key != "" {
		if key, err = keyfile.ReadPrivate(b.key); err != nil {
			return invalid(err)
		}
	}
	parts, err := b.parts(file)
	if err != nil {
		return err
	}
	if err := checkBeside(infer.ModelConfig{File: path, Labels: b.labels, Output: man.Settings.Output, Threshold: man.Settings.Threshold, Top: man.Settings.Top}, b.reference); err != nil {
		return invalid(err)
	}
	if b.golden > 0 {
		if err := b.addGolden(ctx, file, m, parts, say); err != nil {
			return err
		}
	}
	if b.packed || b.base != "" {
		if parts[man.Model], err = b.pack(file); err != nil {
			return err
		}
	}
	man.Format, man.Created = store.Format, time.Now().UTC().Truncate(time.Second)
	var bundle bytes.Buffer
	if err := store.WriteBundle(&bundle, *man, parts, key); err != nil {
		return invalid(err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped: %s is not written", b.out)
	}
	if err := writeWhole(b.out, bundle.Bytes()); err != nil {
		return err
	}
	by := "unsigned"
	if key != nil {
		by = "signed with key " + keyfile.ID(key.Public().(ed25519.PublicKey))
	}
	fmt.Fprintf(out, "%s: %s@%s, %d bytes, %d files, %d golden inputs, %s\n", b.out, man.Name, man.Version, bundle.Len(), len(man.Files), len(man.Golden), by)
	return nil
}

// parts are the files of the bundle but its golden inputs, which go into the
// manifest too.
func (b *bundling) parts(file []byte) (map[string][]byte, error) {
	man := &b.manifest
	man.Model = "model.tflite"
	parts := map[string][]byte{man.Model: file}
	man.Files = map[string]store.Part{man.Model: store.PartOf(file)}
	for _, p := range []struct {
		from, name string
		to         *string
	}{{b.labels, "labels.txt", &man.Labels}, {b.reference, "reference.json", &man.Reference}, {b.accelerated, "model_edgetpu.tflite", &man.Accelerated}} {
		if p.from == "" {
			continue
		}
		data, err := pack.ReadFile(p.from)
		if err != nil {
			return nil, invalid(err)
		}
		if p.to == &man.Labels {
			if _, err := model.ParseLabels(data); err != nil {
				return nil, invalid(fmt.Errorf("%s: %w", p.from, err))
			}
		}
		*p.to, parts[p.name], man.Files[p.name] = p.name, data, store.PartOf(data)
	}
	if b.accelerated != "" {
		m, err := model.Read(parts[man.Accelerated])
		if err == nil {
			err = m.CheckAccelerated()
		}
		if err != nil {
			return nil, invalid(fmt.Errorf("%s: %w", b.accelerated, err))
		}
	}
	return parts, nil
}

// checkBeside holds what a version brings beside its model against it: labels
// that name every class, settings that its outputs take, and a reference for
// drift, a file or none, that may be of it. What fails here would be at work
// without a word.
func checkBeside(c infer.ModelConfig, reference string) error {
	_, warning, err := infer.Inspect(c)
	switch {
	case err != nil:
		return err
	case c.Labels != "" && warning != "":
		return errors.New(warning)
	case reference == "":
		return nil
	}
	return app.CheckReference(c, reference)
}

// pack gives the model as it travels, proven to come back.
func (b *bundling) pack(file []byte) ([]byte, error) {
	var old []byte
	var err error
	if b.base != "" {
		if old, _, err = readModel(b.base); err != nil {
			return nil, err
		}
	}
	done := waiting("packing the model")
	packed, err := pack.Pack(file, old)
	done()
	if err != nil {
		return nil, invalid(err)
	}
	back, err := pack.Unpack(packed, func([32]byte) ([]byte, error) { return old, nil })
	if err != nil || !bytes.Equal(back, file) {
		return nil, fmt.Errorf("the model does not come back from what was packed, and no bundle is written: %w", err)
	}
	return packed, nil
}

func modelSignCommand() *cobra.Command {
	var key, out string
	cmd := &cobra.Command{
		Use:     "sign BUNDLE",
		Short:   "Sign a bundle, in place of whoever signed it",
		Example: "  edgegateway model sign --key factory.pem digits-2.bundle",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usage(cmd, errors.New("--key is missing: the private key; `keys new` makes one"))
			}
			private, err := keyfile.ReadPrivate(key)
			if err != nil {
				return invalid(err)
			}
			b, done, err := openBundle(args[0])
			if err != nil {
				return err
			}
			defer done()
			var signed bytes.Buffer
			if err := b.Sign(&signed, private); err != nil {
				return invalid(fmt.Errorf("%s: %w", args[0], err))
			}
			if out == "" {
				out = args[0]
			}
			if err := writeWhole(out, signed.Bytes()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s@%s, signed with key %s\n", out, b.Manifest.Name, b.Manifest.Version, keyfile.ID(private.Public().(ed25519.PublicKey)))
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "private key that signs")
	cmd.Flags().StringVar(&out, "out", "", "the file to write; by default BUNDLE itself")
	completeFiles(cmd, "key", "pem")
	return cmd
}

// openBundle opens a bundle of the command line; done closes its file.
func openBundle(path string) (b *store.Bundle, done func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, invalid(err)
	}
	info, err := f.Stat()
	if err == nil {
		b, err = store.ReadBundle(f, info.Size(), store.Bounds{})
	}
	if err != nil {
		f.Close()
		if _, _, not := readModel(path); not == nil {
			err = errors.New("this is a model, and no bundle; model bundle makes one of it")
		}
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	return b, func() { f.Close() }, nil
}
