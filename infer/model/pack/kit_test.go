package pack

import (
	"math"
	"math/rand/v2"

	"edgegateway/infer/model"
)

// constant is a tensor of a test's model.
type constant struct {
	name  string
	kind  model.Type
	shape []int
	data  []byte
}

// fileOf gives a .tflite file with these constants.
func fileOf(t interface{ Fatal(...any) }, list ...constant) []byte {
	g := model.Subgraph{Name: "main"}
	for _, c := range list {
		g.Tensors = append(g.Tensors, model.Tensor{Name: c.name, Type: c.kind, Shape: c.shape, Buffer: c.data})
	}
	m := &model.Model{Version: 3, Description: "made by a test", Subgraphs: []model.Subgraph{g}}
	file, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// dense are rows x cols weights as training leaves them.
func dense(r *rand.Rand, n int) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(r.NormFloat64() * 0.05)
	}
	return w
}

// sparse keeps the part keep of the weights and sets the others to 0.
func sparse(r *rand.Rand, w []float32, keep float64) []float32 {
	for i := range w {
		if r.Float64() >= keep {
			w[i] = 0
		}
	}
	return w
}

// shared rounds the weights that are not 0 to k values.
func shared(w []float32, k int) []float32 {
	for i, v := range w {
		if v != 0 {
			w[i] = (float32(math.Floor(float64(v)/0.3*float64(k))) + 0.5) * 0.3 / float32(k)
		}
	}
	return w
}

func bytesOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(int8(max(-127, min(127, math.Round(r.NormFloat64()*30)))))
	}
	return b
}

func weights(name string, rows, cols int, w []float32) constant {
	return constant{name, model.Float32, []int{rows, cols}, model.FloatBytes(w)}
}
