package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/store"
)

// How far kernels of one machine may be from those of another: as far as a trial
// lets two delegates differ, and a little.
const (
	floatTolerance = 0.01 // of a float model, in parts of the range
	stepTolerance  = 6    // of integers, in steps
	mixedTolerance = 0.03 // of floats that are made of integers: 6 steps of 256, and a little
)

// addGolden puts golden inputs into the manifest and their bytes into parts: the
// inputs from the data, or made up, the outputs from the model itself on the
// built-in kernels.
func (b *bundling) addGolden(ctx context.Context, file []byte, m *model.Model, parts map[string][]byte, say io.Writer) error {
	in, err := b.inputs(ctx, m, say)
	if err != nil {
		return err
	}
	s, err := infer.OpenSession(file, "builtin", b.data.library)
	if err != nil {
		return invalid(err)
	}
	defer s.Close()
	for _, t := range slices.Concat(s.In, s.Out) {
		if t.Type == infer.Unknown {
			return invalid(fmt.Errorf("the model takes or gives tensors of a type that this program does not know; make the bundle without --golden"))
		}
	}
	man := &b.manifest
	bar := newBar("golden inputs")
	defer bar.end()
	for i := range min(b.golden, in.Len()) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := in.Fill(s.In, i); err != nil {
			return invalid(err)
		}
		inputs := copies(s.In)
		if err := s.Invoke(); err != nil {
			return invalid(fmt.Errorf("golden input %d: %w", i, err))
		}
		g := store.Golden{Tolerance: b.tolerance}
		if g.Tolerance == 0 {
			g.Tolerance = usualTolerance(m, s.Out)
		}
		put := func(kind string, list [][]byte) (names []string) {
			for k, data := range list {
				name := fmt.Sprintf("golden/%d/%s%d.bin", i, kind, k)
				parts[name], man.Files[name] = data, store.PartOf(data)
				names = append(names, name)
			}
			return names
		}
		g.Inputs, g.Outputs = put("in", inputs), put("out", copies(s.Out))
		man.Golden = append(man.Golden, g)
		bar.step(i+1, b.golden)
	}
	return nil
}

func copies(list []infer.Tensor) (data [][]byte) {
	for _, t := range list {
		data = append(data, bytes.Clone(t.Data))
	}
	return data
}

// inputs are what golden inputs are made of. How pictures become inputs is kept
// for the streams that use the model.
func (b *bundling) inputs(ctx context.Context, m *model.Model, say io.Writer) (compress.Inputs, error) {
	if b.data.path == "" {
		fmt.Fprintln(say, "golden inputs are made up: --data names real ones")
		return compress.MadeUp(m, b.golden, 1), nil
	}
	if b.data.dataSource.samples == 0 {
		b.data.dataSource.samples = b.golden
	}
	s, err := b.data.samples(ctx, m, say)
	if err != nil {
		return nil, err
	}
	if s.Len() < b.golden {
		return nil, &exitError{exitUsage, fmt.Errorf("--golden %d: %s has %d samples", b.golden, b.data.path, s.Len())}
	}
	if s.Set.Pixels == nil {
		return s, nil
	}
	low, high, err := b.data.levels()
	if err != nil {
		return nil, err
	}
	in := &store.Input{Fit: b.data.fit}
	if b.data.pixels == usualPixels {
		s.Low, s.High = 0, 0 // as the gateway gives pictures to a model
	} else {
		// low + (high-low) * byte/255 as the gateway has it: (byte - mean) / std.
		std := 255 / (high - low)
		in.Mean, in.Std = []float64{-low * std}, []float64{std}
	}
	b.manifest.Settings.Input = in
	return s, nil
}

// usualTolerance is how far kernels differ on answers of this kind.
func usualTolerance(m *model.Model, out []infer.Tensor) float64 {
	if !slices.ContainsFunc(out, func(t infer.Tensor) bool { return t.Type == infer.Float32 }) {
		return stepTolerance
	}
	for _, t := range m.Main().Tensors {
		if t.Type != model.Float32 && len(t.Quant.Scale) > 0 {
			return mixedTolerance
		}
	}
	return floatTolerance
}
