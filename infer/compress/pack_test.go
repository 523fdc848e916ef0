package compress

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
)

// Any network, pruned and clustered, comes back from its packed file to the last
// bit, alone and as what changed since it was whole, and loads in the runtime.
func TestPackRandomNetworks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawGraph(t, false)
		whole, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		c := DefaultPrune()
		c.Sparsity, c.Last = rapid.Float64Range(0.1, 0.95).Draw(t, "sparsity"), true
		step := func(made *model.Model, err error) {
			if err == nil { // else there is nothing of the kind in it
				m = made
			}
		}
		pruned, _, err := Prune(m, c)
		step(pruned, err)
		k := DefaultCluster()
		k.Clusters = rapid.IntRange(2, 20).Draw(t, "clusters")
		clustered, _, err := Cluster(m, k)
		step(clustered, err)
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		for _, base := range [][]byte{nil, whole} {
			packed, err := pack.Pack(file, base)
			if err != nil {
				t.Fatal(err)
			}
			back, err := pack.Unpack(packed, func([32]byte) ([]byte, error) { return base, nil })
			if err != nil || !bytes.Equal(back, file) {
				t.Fatalf("%d bytes came back as %d: %v", len(file), len(back), err)
			}
			s, err := infer.OpenSession(back, "builtin", "")
			if err != nil {
				t.Fatal(err)
			}
			err = s.Invoke()
			if s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
