package fl

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"edgegateway/infer/train"
)

// FromNetwork gives the weights of a network that takes part in a task: all of
// its arrays, or what it does not keep as it is.
func FromNetwork(n *train.Network) (*Weights, error) {
	layout, params, err := layoutOf(n)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, p := range params {
		total += len(p.W)
	}
	w := &Weights{Layout: layout, Values: make([]float32, 0, total)}
	for _, p := range params {
		w.Values = append(w.Values, p.W...)
	}
	if at := notFinite(w.Values); at >= 0 {
		return nil, fmt.Errorf("weight %d of the network is %v", at, w.Values[at])
	}
	return w, nil
}

// Into writes the weights into a network of the same layout.
func (w *Weights) Into(n *train.Network) error {
	layout, params, err := layoutOf(n)
	if err != nil {
		return err
	}
	total := 0
	for _, p := range params {
		total += len(p.W)
	}
	if layout != w.Layout || total != len(w.Values) {
		return fmt.Errorf("%d weights of layout %.8s for a network of %d, layout %.8s", len(w.Values), w.Layout, total, layout)
	}
	at := 0
	for _, p := range params {
		at += copy(p.W, w.Values[at:])
	}
	return nil
}

// LayoutOf is the hash of the names and shapes of a network's arrays, and the
// number of its weights: SHA-256 of the CBOR of a list of [name, [sizes]].
func LayoutOf(n *train.Network) (Hash, int, error) {
	layout, params, err := layoutOf(n)
	total := 0
	for _, p := range params {
		total += len(p.W)
	}
	return layout, total, err
}

func layoutOf(n *train.Network) (Hash, []*train.Param, error) {
	type array struct {
		_     struct{} `cbor:",toarray"`
		Name  string
		Shape []int
	}
	var list []array
	var params []*train.Param
	for _, p := range n.Params() {
		if !p.Kept() {
			list, params = append(list, array{Name: p.Name, Shape: p.Shape}), append(params, p)
		}
	}
	b, err := marshal(list)
	return sha256.Sum256(b), params, err
}

// Hash is the SHA-256 of the layout and the values, float32 in little endian.
func (w *Weights) Hash() Hash {
	return sha256.Sum256(append(w.Layout[:len(w.Layout):len(w.Layout)], floatBytes(w.Values)...))
}

// Clone is a copy.
func (w *Weights) Clone() *Weights {
	return &Weights{w.Layout, append([]float32(nil), w.Values...)}
}

// weights is the body of a model.
type weights struct {
	Layout Hash   `cbor:"1,keyasint"`
	Values []byte `cbor:"2,keyasint"` // float32, little endian
}

// Encode gives the weights as a body.
func (w *Weights) Encode() ([]byte, error) { return Pack(weights{w.Layout, floatBytes(w.Values)}) }

// DecodeWeights reads a body of n weights. What is not that is refused:
// BadBody, BadWeights or NotFinite.
func DecodeWeights(body []byte, layout Hash, n int) (*Weights, error) {
	var p weights
	if err := Unpack(body, 4*n+1024, &p); err != nil {
		return nil, err
	}
	if p.Layout != layout || len(p.Values) != 4*n {
		return nil, refuse(BadWeights, "%d bytes of layout %.8s; this task's are %d, %.8s", len(p.Values), p.Layout, 4*n, layout)
	}
	w := &Weights{p.Layout, make([]float32, n)}
	for i := range w.Values {
		w.Values[i] = math.Float32frombits(binary.LittleEndian.Uint32(p.Values[4*i:]))
	}
	if at := notFinite(w.Values); at >= 0 {
		return nil, refuse(NotFinite, "weight %d is %v", at, w.Values[at])
	}
	return w, nil
}

func floatBytes(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// notFinite is the index of the first NaN or infinity, -1 without one.
func notFinite(v []float32) int {
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}
