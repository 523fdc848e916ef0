package aggregate

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// paper is the number of weights of the 2NN of arXiv:1602.05629: 784-200-200-10.
const paper = 199_210

// A round of 100 updates of the paper's 2NN: time an update, all that Finish
// does included.
func BenchmarkRound(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const cohort = 100
	deltas := make([][]float32, cohort)
	for i := range deltas {
		deltas[i] = normals(r, paper, 0, 0.01)
	}
	for _, kind := range kinds() {
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			cfg := configOf(kind)
			if cfg.Attackers > 0 {
				cfg.Attackers = 20
			}
			s := mustNew(b, cfg)
			w := make([]float32, paper)
			for b.Loop() {
				if err := s.Begin(paper); err != nil {
					b.Fatal(err)
				}
				for i, d := range deltas {
					if err := s.Add(Update{From: fmt.Sprint("g", i), Samples: 600, Delta: d}); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := s.Finish(w); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*cohort), "ns/update")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*cohort*paper), "ns/weight")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	x := normals(rand.New(rand.NewPCG(1, 1)), paper, 0, 0.01)
	for _, c := range []Compression{{Kind: "none"}, {Kind: "int8"}, {Kind: "int4"}, {Kind: "topk", Share: 0.01}, {Kind: "topk-int8", Share: 0.01}} {
		data, _, err := Encode(c, x, nil, 1)
		if err != nil {
			b.Fatal(err)
		}
		z, err := zstd.NewWriter(nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.Kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Encode(c, x, nil, 1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data))/paper, "bytes/weight")
			b.ReportMetric(float64(len(z.EncodeAll(data, nil)))/paper, "zstd-bytes/weight")
		})
		b.Run(c.Kind+"/decode", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(data, paper); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
