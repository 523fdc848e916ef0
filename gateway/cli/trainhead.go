package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/train"
)

// front is what --head adds to a training: a model whose values are learned from.
type front struct {
	head, cut string
	pixels    string
	copies    int
	base      *train.Base // nil without --head
	low, high float64     // both 0: as the gateway gives pictures
}

// open reads the model of --head.
func (f *front) open(augment train.AugmentConfig) error {
	if f.head == "" {
		if f.pixels != "" || f.copies != 0 {
			return &exitError{exitUsage, errors.New("--pixels and --copies are about the pictures that the model of --head takes, which is not given; a network takes -1..1 and sees each picture changed anew in each epoch")}
		}
		return nil
	}
	if f.pixels != "" {
		var err error
		if f.low, f.high, err = pixelRange(f.pixels); err != nil {
			return err
		}
	}
	changed := augment != (train.AugmentConfig{})
	switch {
	case f.copies < 0 || f.copies > 1000:
		return &exitError{exitUsage, fmt.Errorf("--copies %d is outside 1..1000", f.copies)}
	case f.copies > 1 && !changed:
		return &exitError{exitUsage, errors.New("--copies are changed by --flip, --shift, --crop, --brightness or --noise; none is given")}
	case f.copies == 0 && !changed:
		f.copies = 1
	case f.copies == 0 && augment == (train.AugmentConfig{Flip: true}):
		f.copies = 2
	case f.copies == 0:
		f.copies = 4
	}
	_, m, err := usableModel(f.head)
	if err != nil {
		return err
	}
	if f.base, err = train.Cut(m, f.cut); err != nil {
		return invalid(fmt.Errorf("%s: %w", f.head, err))
	}
	return nil
}

// shape is what the model of --head takes of one sample.
func (f *front) shape() train.Shape {
	g := f.base.Model.Main()
	in := g.Tensors[g.Inputs[0]].Shape
	return train.Shape(in[min(1, len(in)):])
}

// extract replaces the pictures that are learned from, and those that choose the
// epoch, by their features, which are most of the work: a file keeps them until
// the training is whole.
func (t *training) extract(ctx context.Context) (err error) {
	file, err := t.base.Model.Write()
	if err != nil {
		return invalid(err)
	}
	s, err := infer.OpenSession(file, "builtin", "")
	if err != nil {
		return invalid(err)
	}
	defer s.Close()
	kept, err := readFeatures(t.featureFile())
	if err != nil {
		return invalid(err)
	}
	total, had := t.learn.Len()*t.copies, kept.len()/product(t.base.Shape)
	if t.hold != nil {
		total += t.hold.Len()
	}
	fmt.Fprintf(t.say, "features of %d pictures by %s", total, filepath.Base(t.head))
	if had > 0 {
		fmt.Fprintf(t.say, "; %d are in %s from a training that was cut short", had, t.featureFile())
	}
	fmt.Fprintln(t.say)
	bar := newBar("features of " + filepath.Base(t.head))
	defer bar.end()
	ready := 0
	var v []float64
	of := func(d *train.Dataset, k int) (*train.Dataset, error) {
		if d == nil {
			return nil, nil
		}
		key, width, data := featureKey(file, d, t, k), product(t.base.Shape), compress.Samples{Set: d, Low: t.low, High: t.high}
		return t.base.Extract(ctx, d, func(i int, out []float32) error {
			if have := kept[key]; len(have) >= (i+1)*width {
				copy(out, have[i*width:])
				return nil
			}
			at := i
			if k > 0 {
				var err error
				if data.Set, err = d.Variant(i, k, t.cfg.Augment, t.cfg.Seed); err != nil {
					return err
				}
				at = 0
			}
			if err := data.Fill(s.In, at); err != nil {
				return err
			}
			if err := s.Invoke(); err != nil {
				return err
			}
			v = s.Out[0].Floats(v[:0])
			for j := range out {
				out[j] = float32(v[j])
			}
			kept[key] = append(kept[key], out...)
			return nil
		}, func(int, int) { ready++; bar.step(ready, total) })
	}
	all := func() error {
		hold, err := of(t.hold, 0)
		if err != nil {
			return err
		}
		learn, err := of(t.learn, 0)
		for k := 1; k < t.copies && err == nil; k++ {
			var more *train.Dataset
			if more, err = of(t.learn, k); err == nil {
				learn.Append(more)
			}
		}
		if err == nil {
			t.learn, t.hold = learn, hold
		}
		return err
	}
	err = all()
	if keep := kept.write(t.featureFile()); keep != nil {
		return errors.Join(err, keep)
	}
	if ctx.Err() != nil && ready == 0 {
		return t.unwritten("before the first picture's features were there")
	}
	if ctx.Err() != nil {
		bar.end()
		return fmt.Errorf("stopped: the features of %d of %d pictures are in %s; %s is not written; the same command goes on from them", ready, total, t.featureFile(), t.out)
	}
	return invalid(err)
}

func product(shape train.Shape) int {
	n := 1
	for _, v := range shape {
		n *= v
	}
	return n
}

// featureFile is where features are until the training is whole.
func (t *training) featureFile() string { return t.out + ".features" }

// features are those of data, or of its first samples, by what they are of.
type features map[[32]byte][]float32

// featureKey tells apart what has other features: the model, its pictures, what
// their bytes stand for, and how they are changed.
func featureKey(model []byte, d *train.Dataset, t *training, k int) (key [32]byte) {
	h := sha256.New()
	h.Write(model)
	fmt.Fprint(h, d.Shape, t.low, t.high, k)
	if k > 0 {
		fmt.Fprint(h, t.cfg.Augment, t.cfg.Seed)
	}
	h.Write(d.Pixels)
	_ = binary.Write(h, binary.LittleEndian, d.Values) // a hash takes all
	return [32]byte(h.Sum(nil))
}

func (f features) len() (n int) {
	for _, v := range f {
		n += len(v)
	}
	return n
}

// featuresMagic begins the file; the SHA-256 of the rest follows, and the rest.
const featuresMagic = "edgegateway features 1\n"

// maxFeatures is the most bytes of such a file.
const maxFeatures = 4 << 30

func (f features) write(path string) error {
	if f.len() == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(f); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes())
	return writeWhole(path, bytes.Join([][]byte{[]byte(featuresMagic), sum[:], b.Bytes()}, nil))
}

// readFeatures reads what write wrote, to the last bit; none where there is no
// file.
func readFeatures(path string) (features, error) {
	f := features{}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFeatures {
		return nil, fmt.Errorf("%s: %d bytes are more than %d; remove it to begin anew", path, info.Size(), int64(maxFeatures))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(data, []byte(featuresMagic))
	if ok = ok && len(rest) > sha256.Size; ok {
		sum := sha256.Sum256(rest[sha256.Size:])
		ok = bytes.Equal(sum[:], rest[:sha256.Size])
	}
	if !ok {
		return nil, fmt.Errorf("%s is damaged; remove it to begin anew", path)
	}
	if err := gob.NewDecoder(bytes.NewReader(rest[sha256.Size:])).Decode(&f); err != nil {
		return nil, fmt.Errorf("%s is of another version: %w; remove it to begin anew", path, err)
	}
	return f, nil
}
