package compress

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// Two public networks share weights without the data that they were trained on:
// agreement with the original on pictures that nothing was chosen by, against
// the bytes zipped and packed. With EDGEGATEWAY_LONG all rows of the table in
// docs/workshop.md; without, the one that must not get worse.
func TestPublicClustered(t *testing.T) {
	long := os.Getenv("EDGEGATEWAY_LONG") != ""
	for _, c := range []struct {
		name, file string
		judge      func() samples
	}{
		{"ResNet8", "pretrainedResnet.tflite", func() samples {
			s, _ := pictures(t, "cifar10", 32, 32, 1)
			return s
		}},
		{"vww", "vww_96_float.tflite", func() samples {
			s, _ := pictures(t, "cats", 96, 96, 1.0/255)
			s = s.every(2, 1)
			return append(s, people(t, 2, 96, 1.0/255, 130, testkit.Cached(t, "demo/sample4.jpg"), testkit.Cached(t, "demo/sample5.jpg"), testkit.Cached(t, "demo/sample6.jpg"), testkit.Shared(t, "data/squat.bmp"))...)
		}},
	} {
		if c.name == "vww" && !long {
			continue // its photographs take seconds to read
		}
		m, file := sharedModel(t, c.file)
		given := m
		judge := c.judge()
		if !long {
			judge = judge.every(10, 0)
		}
		row := func(what string, m *model.Model) (a Agreement, times float64) {
			t.Helper()
			made, err := m.Write()
			if err != nil {
				t.Fatal(err)
			}
			if m == given {
				made = file // to the last byte, as it was given
			}
			if a, err = Compare(t.Context(), file, made, [2]string{"xnnpack:0", "xnnpack:0"}, "", judge); err != nil {
				t.Fatal(err)
			}
			packed, err := pack.Pack(made, nil)
			if err != nil {
				t.Fatal(err)
			}
			times = float64(len(file)) / float64(len(packed))
			t.Logf("| %s | %s | %d | %d | %d (%.1f times) | %.2f %% | %.2f %% |", c.name, what, len(made), cost(t, made).Zipped, len(packed), times, 100*a.Top1, 100*a.Relative())
			return a, times
		}
		clustered := func(clusters int, channel bool, method string) (Agreement, float64) {
			t.Helper()
			made, _, err := Cluster(m, ClusterConfig{Clusters: clusters, PerChannel: channel, Method: method})
			if err != nil {
				t.Fatal(err)
			}
			per := "layer"
			if channel {
				per = "channel"
			}
			return row(fmt.Sprintf("%d a %s, %s", clusters, per, method), made)
		}
		pruned := func(sparsity float64, clusters int) {
			t.Helper()
			cfg := DefaultPrune()
			cfg.Pattern, cfg.Sparsity = "unstructured", sparsity
			small, _, err := Prune(m, cfg)
			if err != nil {
				t.Fatal(err)
			}
			made, _, err := Cluster(small, ClusterConfig{Clusters: clusters, Method: "optimal"})
			if err != nil {
				t.Fatal(err)
			}
			row(fmt.Sprintf("%.0f %% of weights 0, then %d a layer, optimal", 100*sparsity, clusters), made)
		}
		if long {
			row("as it is", m)
			for _, clusters := range []int{8, 16, 32, 64, 128, 256} {
				for _, method := range ClusterMethods {
					clustered(clusters, false, method)
				}
				if clusters <= 32 {
					clustered(clusters, true, "linear")
				}
			}
			for _, sparsity := range []float64{0.1, 0.2, 0.3} {
				pruned(sparsity, 64)
				pruned(sparsity, 128)
			}
		}
		if a, times := clustered(128, false, "linear"); a.Top1 < 0.95 || times < 2 {
			t.Errorf("%s: %.1f times smaller with an agreement of %.1f %%", c.name, times, 100*a.Top1)
		}
	}
}

// Without data there are made up pictures, and what the original says of them:
// trained on these, shared values come back a good part of the way; with
// EDGEGATEWAY_LONG as far as docs/workshop.md says, without a little.
func TestPublicClusteredTrained(t *testing.T) {
	learned, epochs, least := 1200, 4, 0.65
	m, file := sharedModel(t, "pretrainedResnet.tflite")
	judge, _ := pictures(t, "cifar10", 32, 32, 1)
	if os.Getenv("EDGEGATEWAY_LONG") == "" {
		learned, epochs, least, judge = 240, 2, 0.5, judge.every(4, 0)
	}
	d := &train.Dataset{Name: "made up", Shape: train.Shape{32, 32, 3}}
	v := make([]float64, 32*32*3)
	for i := range learned {
		picture(v, 32, 32, 3, rand.New(rand.NewPCG(9, uint64(i))))
		for _, x := range v {
			d.Pixels = append(d.Pixels, byte(255*min(max(x, 0), 1)))
		}
	}
	c, _, err := Cluster(m, ClusterConfig{Clusters: 16, Method: "linear"})
	if err != nil {
		t.Fatal(err)
	}
	tune := DefaultTune()
	tune.Config.Epochs, tune.Config.Batch = epochs, 32
	tune.Learn, tune.Teacher, tune.Shared, tune.High = d, file, 16, 255
	tuned, err := tune.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tuned.Write()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Compare(t.Context(), file, made, [2]string{"xnnpack:0", "xnnpack:0"}, "", judge)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := pack.Pack(made, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("| ResNet8 | 16 a layer, trained on made up pictures | %d | %d | %d | %.2f %% | %.2f %% |", len(made), cost(t, made).Zipped, len(packed), 100*a.Top1, 100*a.Relative())
	untrained, err := Compare(t.Context(), file, written(t, c), [2]string{"xnnpack:0", "xnnpack:0"}, "", judge)
	if err != nil {
		t.Fatal(err)
	}
	if a.Top1 < least || a.Top1 <= untrained.Top1 {
		t.Errorf("the first class is the same in %.1f %%; untrained in %.1f %%", 100*a.Top1, 100*untrained.Top1)
	}
}
