package compress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// randomNetwork draws a small network and its data. Some draws do not fit
// together: train.New refuses them.
func randomNetwork(t *rapid.T) (train.Spec, *train.Dataset) {
	d := &train.Dataset{Name: "random"}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	n := rapid.IntRange(4, 12).Draw(t, "samples")
	pictures := rapid.Bool().Draw(t, "pictures")
	size := rapid.IntRange(1, 12).Draw(t, "features")
	d.Shape = train.Shape{size}
	if pictures {
		h, w, c := rapid.IntRange(1, 9).Draw(t, "height"), rapid.IntRange(1, 9).Draw(t, "width"), rapid.SampledFrom([]int{1, 3}).Draw(t, "channels")
		d.Shape, size = train.Shape{h, w, c}, h*w*c
	}
	if pictures && rapid.Bool().Draw(t, "bytes") {
		for range n * size {
			d.Pixels = append(d.Pixels, byte(r.IntN(256)))
		}
	} else {
		// Not 1000 and a thousandth: a float32 holds too few digits of that.
		kind := [][2]float64{{1, 0}, {1, 1}, {1, 1e3}, {1e-3, 0}, {1e-3, 1}, {1e4, 0}, {1e4, 1e3}}[r.IntN(7)]
		scale, shift := kind[0], kind[1]
		for range n * size {
			d.Values = append(d.Values, float32(scale*r.NormFloat64()+shift))
		}
	}
	activation := func() string {
		return rapid.SampledFrom([]string{"", "relu", "relu6", "sigmoid", "tanh"}).Draw(t, "activation")
	}
	var s train.Spec
	kinds := []string{"dense", "dropout", "batch_norm", "activation"}
	if pictures {
		kinds = append(kinds, "conv2d", "depthwise", "max_pool", "avg_pool", "conv2d", "depthwise", "global_pool", "flatten")
	}
	for range rapid.IntRange(0, 4).Draw(t, "layers") {
		l := train.LayerSpec{Type: rapid.SampledFrom(kinds).Draw(t, "type"), Activation: activation(), BatchNorm: rapid.IntRange(0, 2).Draw(t, "norm") == 0}
		switch l.Type {
		case "dense":
			l.Units = rapid.IntRange(1, 9).Draw(t, "units")
		case "conv2d":
			l.Filters = rapid.IntRange(1, 5).Draw(t, "filters")
			fallthrough
		case "depthwise", "max_pool", "avg_pool":
			l.Kernel, l.Stride = rapid.IntRange(1, 4).Draw(t, "kernel"), rapid.IntRange(0, 3).Draw(t, "stride")
			l.Padding = rapid.SampledFrom([]string{"", "same", "valid"}).Draw(t, "padding")
		case "dropout":
			l.Rate = 0.3
		}
		s.Layers = append(s.Layers, l)
	}
	if pictures {
		s.Layers = append(s.Layers, train.LayerSpec{Type: "flatten"})
	}
	width := rapid.IntRange(1, 4).Draw(t, "outputs")
	end := ""
	if rapid.Bool().Draw(t, "classes") {
		end = "softmax"
		for c := range max(width, 2) {
			d.Classes = append(d.Classes, fmt.Sprint("class ", c))
		}
		for range n {
			d.Labels = append(d.Labels, int32(r.IntN(len(d.Classes))))
		}
	} else {
		d.Width = width
		for range n * width {
			d.Targets = append(d.Targets, float32(50+100*r.NormFloat64()))
		}
	}
	s.Layers = append(s.Layers, train.LayerSpec{Type: "dense", Activation: end})
	return s, d
}

// randomExport is a random network with its weights as they were drawn, its
// data, and its model; m is nil where its layers do not fit together.
func randomExport(t *rapid.T) (n *train.Network, d *train.Dataset, m *model.Model) {
	s, d := randomNetwork(t)
	width := d.Width
	if d.Labels != nil {
		width = len(d.Classes)
	}
	n, err := train.New(s, d.Shape, width, rapid.Uint64().Draw(t, "weights"))
	if err != nil {
		return nil, d, nil
	}
	n.Normalise(d)
	if m, err = n.Export("random", d.Classes); err != nil {
		t.Fatal(err)
	}
	return n, d, m
}

// Whatever small network is trained, exported and made int8, the runtime loads
// it on both kinds of kernels and answers as the float model does. In 3,000
// networks the mean difference was at most 3 steps of the output, and 12 where
// the least squared error had values cut; the bound is 8 and a tenth of the
// range. A hundred by default, -rapid.checks=500 for the whole.
func TestRandomNetworksInt8(t *testing.T) {
	made, misfits := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s, d := randomNetwork(t)
		outputs := d.Width
		if d.Labels != nil {
			outputs = len(d.Classes)
		}
		n, err := train.New(s, d.Shape, outputs, 1)
		if err != nil {
			misfits++
			return
		}
		n.Normalise(d)
		if d.Labels == nil {
			n.OutNorm = d.LearnOutNorm()
		}
		cfg := train.DefaultConfig()
		cfg.Epochs, cfg.Batch = 1, 4
		if err := (&train.Trainer{Net: n, Config: cfg, Train: d}).Run(t.Context()); err != nil {
			misfits++
			return
		}
		m, err := n.Export("random", d.Classes)
		if err != nil {
			t.Fatal(err)
		}
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		job := Job{File: file, Config: DefaultConfig(), Calibration: &Samples{Set: d}}
		job.Config.Method = rapid.SampledFrom(Methods).Draw(t, "method")
		job.Config.FloatIO = rapid.Bool().Draw(t, "float ends")
		short, err := Shorten(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		if short.XNNPACK == nil {
			t.Fatal(short.Notes)
		}
		step := outputSteps(short.Model)[0]
		if step == 0 {
			t.Fatal("the output was not made of integers")
		}
		for on, a := range map[string]Agreement{"builtin": short.Builtin, "XNNPACK": *short.XNNPACK} {
			if a.MeanAbs > 8*step+a.Range/10 {
				t.Errorf("%s: differs by %v on average, %.1f steps, of a range of %v", on, a.MeanAbs, a.MeanAbs/step, a.Range)
			}
		}
		made++
	})
	t.Logf("%d made int8 and run, %d misfits", made, misfits)
	if made < misfits {
		t.Error("most networks that were drawn do not fit together")
	}
}

// A convolution whose stride is larger than its kernel leaves pixels out;
// XNNPACK answers wrongly then with SAME padding, float or int8. Exported, and
// as a file that somebody else wrote, it answers as the network that was trained.
func TestStrideBeyondKernel(t *testing.T) {
	for _, kind := range []string{"conv2d", "depthwise"} {
		for _, shape := range []train.Shape{{6, 6, 2}, {3, 7, 2}, {7, 3, 2}, {8, 8, 2}} {
			d := &train.Dataset{Name: "noise", Shape: shape, Width: 3}
			r := rand.New(rand.NewPCG(1, 1))
			for range 8 {
				for range shape[0] * shape[1] * shape[2] {
					d.Values = append(d.Values, float32(r.NormFloat64()))
				}
				d.Targets = append(d.Targets, 0, 0, 0)
			}
			n, err := train.New(train.Spec{Layers: []train.LayerSpec{{Type: kind, Filters: 4, Kernel: 2, Stride: 3}, {Type: "flatten"}, {Type: "dense"}}}, shape, 3, 1)
			if err != nil {
				t.Fatal(err)
			}
			want := n.Predict(d.Values, 8)
			m, err := n.Export("stride", nil)
			if err != nil {
				t.Fatal(err)
			}
			foreign := m.Clone()
			for i := range foreign.Main().Ops {
				op := &foreign.Main().Ops[i]
				switch o := op.Builtin.(type) {
				case *model.Conv2DOptions:
					o.Padding = model.Same
				case *model.DepthwiseConv2DOptions:
					o.Padding = model.Same
				}
				if p := foreign.Main().Producer(op.Inputs[0]); p >= 0 && foreign.Main().Ops[p].Code == "PAD" {
					op.Inputs[0] = foreign.Main().Ops[p].Inputs[0]
				}
			}
			foreign.Tidy()
			for name, m := range map[string]*model.Model{"exported": m, "foreign": foreign} {
				file, err := m.Write()
				if err != nil {
					t.Fatal(err)
				}
				for _, delegate := range []string{"builtin", "xnnpack:0"} {
					s, err := infer.OpenSession(file, delegate, "")
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					for i := range 8 {
						if err := (&Samples{Set: d}).Fill(s.In, i); err != nil {
							t.Fatal(err)
						}
						if err := s.Invoke(); err != nil {
							t.Fatal(err)
						}
						for k, v := range s.Out[0].Floats(nil) {
							if w := float64(want[3*i+k]); math.Abs(v-w) > 1e-4 {
								t.Fatalf("%s of %v, %s, %s: %v, want %v", kind, shape, name, delegate, v, w)
							}
						}
					}
				}
			}
		}
	}
}
