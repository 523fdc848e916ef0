package compress

import (
	"os"
	"testing"

	"edgegateway/infer/model/pack"
	"edgegateway/internal/testkit"
)

// Channels of two public networks go without the data that they learned from and
// without training: agreement with the original on pictures that nothing was
// chosen by, against the bytes. Looked at are unlabelled pictures of the other
// half, or made up ones. With EDGEGATEWAY_LONG all rows of the table in
// docs/workshop.md; without, the one that must not get worse.
func TestPublicPruned(t *testing.T) {
	long := os.Getenv("EDGEGATEWAY_LONG") != ""
	for _, c := range []struct {
		name, file string
		high       float64 // what a white pixel is
		data       func() (look, judge samples)
		macs       []float64 // the first must not get worse
		least      float64   // of its answers that stay
		most       float64   // of its bytes that stay
	}{
		{"ResNet8", "pretrainedResnet.tflite", 255, func() (samples, samples) {
			all, _ := pictures(t, "cifar10", 32, 32, 1)
			return all.every(2, 0), all.every(2, 1)
		}, []float64{0.85, 0.95, 0.75, 0.65, 0.5}, 0.75, 0.9},
		{"vww", "vww_96_float.tflite", 1, func() (samples, samples) {
			all, _ := pictures(t, "cats", 96, 96, 1.0/255)
			photo := func(name string) string { return testkit.Cached(t, "demo/"+name) }
			look := append(all.every(2, 0), people(t, 1, 96, 1.0/255, 130, photo("sample1.jpg"), photo("sample2.jpg"), photo("sample3.jpg"), testkit.Shared(t, "data/grace_hopper.bmp"))...)
			return look, append(all.every(2, 1), people(t, 2, 96, 1.0/255, 130, photo("sample4.jpg"), photo("sample5.jpg"), photo("sample6.jpg"), testkit.Shared(t, "data/squat.bmp"))...)
		}, []float64{0.5, 0.45, 0.4, 0.3}, 0.99, 0.2},
	} {
		if c.name == "vww" && !long {
			continue // its photographs take seconds to read
		}
		m, file := sharedModel(t, c.file)
		look, judge := c.data()
		if !long {
			look, judge, c.macs = look.every(4, 0), judge.every(5, 0), c.macs[:1]
		}
		for i, share := range c.macs {
			for _, from := range []string{"pictures", "made up"} {
				cfg := DefaultPrune()
				cfg.Pattern, cfg.MACs, cfg.Least, cfg.Multiple = "channels", share, 2, 1
				j := PruneJob{Config: cfg, Samples: look}
				if from == "made up" {
					j.Samples = Structured{N: 512, Seed: 1, High: c.high}
					if !long {
						continue
					}
				}
				small, _, err := j.Run(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				made := written(t, small)
				a, err := Compare(t.Context(), file, made, [2]string{"xnnpack:0", "xnnpack:0"}, "", judge)
				if err != nil {
					t.Fatal(err)
				}
				packed, err := pack.Pack(made, nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("| %s | %.2f | %s | %d | %d | %.2f %% | %.2f %% |", c.name, share, from, len(made), len(packed), 100*a.Top1, 100*a.Relative())
				if part := float64(len(made)) / float64(len(file)); i == 0 && from == "pictures" && (a.Top1 < c.least || part > c.most) {
					t.Errorf("%s: %.2f of the bytes and %.2f %% of the answers stay", c.name, part, 100*a.Top1)
				}
			}
		}
	}
}
