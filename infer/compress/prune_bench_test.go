package compress

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// Networks at half of their multiply-adds, float and int8, beside what they were,
// in turns on every candidate; the best of each counts. Weights are as they were
// drawn: what they are makes no difference to the time.
func BenchmarkHalfTheMultiplyAdds(b *testing.B) {
	dense := func(units int) train.LayerSpec {
		return train.LayerSpec{Type: "dense", Units: units, Activation: "relu"}
	}
	point := func(kind string, filters, kernel, stride int) train.LayerSpec {
		return train.LayerSpec{Type: kind, Filters: filters, Kernel: kernel, Stride: stride, BatchNorm: true, Activation: "relu"}
	}
	last := train.LayerSpec{Type: "dense", Activation: "softmax"}
	preset, err := train.Preset("ds-cnn", train.Shape{28, 28, 1}, 10)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		layers []train.LayerSpec
	}{
		{"mlp", []train.LayerSpec{{Type: "flatten"}, dense(1024), dense(1024), dense(128), last}},
		{"ds-cnn", preset.Layers},
		{"ds-cnn-512", []train.LayerSpec{point("conv2d", 256, 3, 2), point("depthwise", 0, 3, 1), point("conv2d", 512, 1, 1),
			point("depthwise", 0, 3, 2), point("conv2d", 512, 1, 1), {Type: "global_pool"}, last}},
	} {
		n, err := train.New(train.Spec{Layers: c.layers}, train.Shape{28, 28, 1}, 10, 1)
		if err != nil {
			b.Fatal(err)
		}
		m, err := n.Export(c.name, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, multiple := range []int{1, 8, 16} {
			b.Run(fmt.Sprintf("%s/multiple-%d", c.name, multiple), func(b *testing.B) { beside(b, m, multiple) })
		}
	}
}

func beside(b *testing.B, m *model.Model, multiple int) {
	cfg := DefaultPrune()
	cfg.Pattern, cfg.MACs, cfg.Multiple = "channels", 0.5, multiple
	data := Structured{N: 64, Seed: 1}
	half, report, err := PruneJob{Config: cfg, Samples: data}.Run(b.Context(), m)
	if err != nil {
		b.Fatal(err)
	}
	var files [][]byte
	for _, m := range []*model.Model{m, half} {
		file, err := m.Write()
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, file)
	}
	q := DefaultConfig()
	q.Method, q.CorrectBias = "minmax", "no"
	for _, file := range files[:2] {
		short, err := Shorten(b.Context(), Job{File: file, Config: q, Calibration: data})
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, short.File)
	}
	type lane struct {
		s     *infer.Session
		file  int
		times []float64
	}
	var lanes []*lane
	for i, file := range files {
		for _, on := range []string{"builtin", "xnnpack:0", "xnnpack:3"} {
			s, err := infer.OpenSession(file, on, "")
			if err != nil {
				b.Fatal(on, err)
			}
			defer s.Close()
			if err := data.Fill(s.In, 0); err != nil {
				b.Fatal(err)
			}
			lanes = append(lanes, &lane{s: s, file: i})
		}
	}
	for b.Loop() {
		for _, l := range lanes {
			begin, n := time.Now(), 0
			for n == 0 || time.Since(begin) < time.Millisecond {
				if err := l.s.Invoke(); err != nil {
					b.Fatal(err)
				}
				n++
			}
			l.times = append(l.times, float64(time.Since(begin).Nanoseconds())/1e3/float64(n))
		}
	}
	best := make([]float64, len(files))
	for _, l := range lanes {
		slices.Sort(l.times)
		if t := l.times[len(l.times)/10]; best[l.file] == 0 || t < best[l.file] {
			best[l.file] = t
		}
	}
	b.ReportMetric(float64(report.MACs[1])/float64(report.MACs[0]), "of-multiply-adds")
	b.ReportMetric(best[0], "µs-float")
	b.ReportMetric(best[1], "µs-half")
	b.ReportMetric(best[3], "µs-half-int8")
	b.ReportMetric(best[0]/best[1], "times-as-fast")
	b.ReportMetric(best[0]/best[3], "times-with-int8")
	b.ReportMetric(best[0]/best[2], "times-int8-alone")
	b.ReportMetric(0, "ns/op")
}
