package infer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"edgegateway/infer/tflite"
	"edgegateway/internal/testkit"
)

// builtin stands for no delegate where flags of XNNPACK are asked for.
const builtin = -1

// openRuntime opens the library in the program, once for all tests: it stays
// open until the process ends.
var openRuntime = sync.OnceValues(func() (*tflite.Library, error) { return tflite.Open("") })

// invoke runs a model on one thread, once in a fresh interpreter, and returns
// copies of its outputs. It is the runtime alone, without the Engine's choices,
// so that answers can be held against what each kernel gives.
func invoke(t testing.TB, path string, flags int, inputs ...[]byte) ([]Tensor, error) {
	t.Helper()
	lib, err := openRuntime()
	if errors.Is(err, tflite.ErrNoLibrary) {
		testkit.Missing(t, "%v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := lib.NewModel(data)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	options := tflite.Options{Threads: 1}
	if flags != builtin {
		d, err := lib.NewXNNPack(1, uint32(flags))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		options.Delegate = d
	}
	in, err := m.NewInterpreter(options)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if len(inputs) != len(in.Inputs) {
		return nil, fmt.Errorf("%d inputs for a model of %d", len(inputs), len(in.Inputs))
	}
	for i, x := range inputs {
		if len(x) != len(in.Inputs[i].Data) {
			return nil, fmt.Errorf("input %d takes %d bytes, not %d", i, len(in.Inputs[i].Data), len(x))
		}
		copy(in.Inputs[i].Data, x)
	}
	if err := in.Invoke(); err != nil {
		return nil, err
	}
	kinds := map[tflite.Type]ElemType{
		tflite.Float32: Float32, tflite.Int8: Int8, tflite.Uint8: Uint8, tflite.Int16: Int16,
		tflite.Int32: Int32, tflite.Int64: Int64, tflite.Bool: Bool,
	}
	var out []Tensor
	for _, x := range in.Outputs {
		out = append(out, Tensor{
			Type: kinds[x.Type], Shape: slices.Clone(x.Shape),
			Scale: x.Scale, ZeroPoint: x.ZeroPoint, Data: bytes.Clone(x.Data),
		})
	}
	return out, nil
}
