package infer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// outputKinds are the meanings that a model's outputs can have, as the
// configuration names them.
var outputKinds = []string{"auto", "classes", "blazeface", "detection", "regression", "reconstruction", "raw"}

// decoder turns the output tensors of one call into a result. decode appends
// to the slices of r, which was Reset, and allocates nothing once they are
// large enough; in holds the inputs of the same call. It may be called from
// several goroutines at once.
type decoder interface {
	decode(in, out []Tensor, r *Result) error
}

// newDecoder is the decoder that cfg.Output names; "" and auto choose it by the
// graph. m is the model's file and may be nil, for a runtime that has no file
// to show; then labels that are packed in it are not found.
func newDecoder(cfg ModelConfig, ins, outs []TensorInfo, m *model.Model) (decoder, error) {
	for _, o := range outs {
		if o.Type.Size() == 0 {
			return nil, fmt.Errorf("output %q has the type %v, which no result can hold", o.Name, o.Type)
		}
	}
	if len(outs) == 0 {
		return nil, fmt.Errorf("the model has no output")
	}
	labels, err := loadLabels(cfg, m)
	if err != nil {
		return nil, err
	}
	kind := cfg.Output
	if kind == "" || kind == "auto" {
		kind = guessOutput(ins, outs, m, len(labels) > 0)
	}
	if t := cfg.Threshold; t != nil && (*t < 0 || *t > 1) {
		if kind == "blazeface" || kind == "detection" || kind == "classes" && endsInSoftmax(m) {
			return nil, &keyError{"threshold", fmt.Errorf("%v is not in 0..1, as the scores of this model are", *t)}
		}
	}
	var d decoder
	switch kind {
	case "classes":
		d, err = newClasses(cfg, outs, labels)
	case "blazeface":
		d, err = newBlazeFace(cfg, ins, outs, labels)
	case "detection":
		d, err = newDetection(cfg, outs, labels, m)
	case "regression":
		d, err = newNumbers(outs[:1])
	case "raw":
		d, err = newNumbers(outs)
	case "reconstruction":
		d, err = newReconstruction(ins, outs)
	default:
		err = fmt.Errorf("%q is none of %s", cfg.Output, strings.Join(outputKinds, ", "))
	}
	var key *keyError
	if err != nil && kind == cfg.Output && !errors.As(err, &key) {
		err = &keyError{"output", err}
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// guessOutput is the kind of output by what the graph looks like.
func guessOutput(ins, outs []TensorInfo, m *model.Model, labelled bool) string {
	switch {
	case postProcess(m) != nil:
		return "detection"
	case isBlazeFace(ins, outs):
		return "blazeface"
	case len(outs) > 1:
		return "raw"
	case isVector(outs[0].Shape) && (labelled || endsInSoftmax(m)):
		return "classes"
	case len(ins) == 1 && elements(ins[0].Shape) > 1 && slices.Equal(ins[0].Shape, outs[0].Shape):
		return "reconstruction"
	case elements(outs[0].Shape) == 1:
		return "regression"
	}
	return "raw"
}

// endsInSoftmax says whether the first output is a softmax, or a logistic of
// several values, perhaps with its type changed behind it.
func endsInSoftmax(m *model.Model) bool {
	if m == nil || len(m.Main().Outputs) == 0 {
		return false
	}
	g := m.Main()
	at := g.Outputs[0]
	for i := len(g.Ops) - 1; i >= 0; i-- {
		op := &g.Ops[i]
		if !slices.Contains(op.Outputs, at) {
			continue
		}
		switch op.Code {
		case "SOFTMAX":
			return true
		case "LOGISTIC":
			return elements(g.Tensors[at].Shape) > 1
		case "DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE":
			if len(op.Inputs) == 0 || op.Inputs[0] < 0 {
				return false
			}
			at = op.Inputs[0]
		default:
			return false
		}
	}
	return false
}

// elements is the number of elements of a shape, 0 where it is open.
func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= max(d, 0)
	}
	return n
}

// finite says whether v is neither NaN nor infinite.
func finite(v float64) bool { return v-v == 0 }

// errNotFinite is the error of an output that holds NaN or an infinity: the
// input was outside what the model was made for, or the model is broken.
func errNotFinite(output, element int, v float64) error {
	return fmt.Errorf("output %d holds %v at element %d: the input is outside what the model can take, or the model is broken", output, v, element)
}

// sized says whether t holds at least n elements, as an error.
func sized(t *Tensor, output, n int) error {
	if t.Len() < n {
		return fmt.Errorf("output %d holds %d elements, %d are expected", output, t.Len(), n)
	}
	return nil
}

// block is how many elements the decoders read at a time.
const block = 128

// read fills dst with the elements of t from index from on, as Float gives
// them: the common types in loops of their own, several times as fast.
func read(t *Tensor, from int, dst []float64) {
	scale, zero := float64(t.Scale), int64(t.ZeroPoint)
	if scale == 0 {
		scale, zero = 1, 0
	}
	switch t.Type {
	case Float32:
		data := t.Data[4*from : 4*(from+len(dst))]
		for i := range dst {
			dst[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
		}
	case Int8:
		for i, q := range t.Data[from : from+len(dst)] {
			dst[i] = scale * float64(int64(int8(q))-zero)
		}
	case Uint8:
		for i, q := range t.Data[from : from+len(dst)] {
			dst[i] = scale * float64(int64(q)-zero)
		}
	default:
		for i := range dst {
			dst[i] = t.Float(from + i)
		}
	}
}
