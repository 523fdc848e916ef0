package tflite

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// Model is a model file in memory. It may be closed while interpreters of it
// live; its memory goes with the last of them.
type Model struct {
	lib  *Library
	data []byte // must not move or go: the runtime reads weights where they are
	mu   sync.Mutex
	ptr  uintptr
	pin  runtime.Pinner
}

// NewModel takes a whole .tflite file. data must not be changed for as long
// as the model or an interpreter of it lives. The file is to be checked
// before: the runtime trusts more of it than it should.
func (l *Library) NewModel(data []byte) (*Model, error) {
	if len(data) == 0 {
		return nil, errors.New("the model file is empty")
	}
	m := &Model{lib: l, data: data}
	m.pin.Pin(unsafe.SliceData(data))
	m.ptr = call(l.sym.modelCreate, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)))
	if m.ptr == 0 {
		m.pin.Unpin()
		return nil, errors.New("the runtime refuses the model file: no .tflite, or damaged")
	}
	return m, nil
}

// Close frees the model. Closing twice is safe.
func (m *Model) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr != 0 {
		call(m.lib.sym.modelDelete, m.ptr)
		m.ptr = 0
		m.pin.Unpin()
	}
}

// Options are those of an interpreter.
type Options struct {
	Threads  int       // of the built-in kernels; 0 leaves it to the runtime
	Delegate *Delegate // nil: built-in kernels; it must outlive the interpreter
	Resize   [][]int   // by input; nil leaves an input as it is
}

// Interpreter runs a model. It is for one goroutine at a time.
type Interpreter struct {
	lib     *Library
	model   *Model // keeps the file's bytes
	ptr     uintptr
	report  *report
	Inputs  []Tensor
	Outputs []Tensor
	moving  []int     // outputs whose shape and memory are known only after Invoke
	args    []uintptr // of Invoke: kept, so that a call allocates nothing
	first   []uintptr // of the look at the first input
}

// NewInterpreter makes an interpreter with its memory allocated. Its error
// holds what the runtime said: the name of the operator or delegate that does
// not do.
func (m *Model) NewInterpreter(o Options) (*Interpreter, error) {
	s := &m.lib.sym
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == 0 {
		return nil, errors.New("the model is closed")
	}
	opt := call(s.optionsCreate)
	if opt == 0 {
		return nil, errors.New("the runtime gives no interpreter options")
	}
	defer call(s.optionsDelete, opt)
	in := &Interpreter{lib: m.lib, model: m, report: m.lib.newReport()}
	call(s.setReporter, opt, m.lib.reporter, in.report.id)
	if o.Threads > 0 {
		call(s.setThreads, opt, uintptr(o.Threads))
	}
	on := "the built-in kernels"
	if o.Delegate != nil {
		if o.Delegate.ptr == 0 {
			in.Close()
			return nil, errors.New("the delegate is closed")
		}
		on = o.Delegate.name
		call(s.addDelegate, opt, o.Delegate.ptr)
	}
	if in.ptr = call(s.interpreterCreate, m.ptr, opt); in.ptr == 0 {
		err := fmt.Errorf("%s refuse the model: %s", on, in.report.take())
		in.Close()
		return nil, err
	}
	for i, shape := range o.Resize {
		if shape == nil {
			continue
		}
		dims := make([]int32, len(shape))
		for k, d := range shape {
			dims[k] = int32(d)
		}
		code := callInt(s.resizeInput, in.ptr, uintptr(i), uintptr(unsafe.Pointer(unsafe.SliceData(dims))), uintptr(len(dims)))
		runtime.KeepAlive(dims)
		if code != 0 {
			err := fmt.Errorf("input %d cannot be resized to %v: %s", i, shape, in.report.take())
			in.Close()
			return nil, err
		}
	}
	if code := callInt(s.allocate, in.ptr); code != 0 {
		err := fmt.Errorf("%s cannot prepare the model: %s", on, in.report.take())
		in.Close()
		return nil, err
	}
	if err := in.refresh(); err != nil {
		in.Close()
		return nil, fmt.Errorf("%s: %w", on, err)
	}
	return in, nil
}

// refresh looks where the tensors' memory is.
func (in *Interpreter) refresh() error {
	s := &in.lib.sym
	in.args = []uintptr{in.ptr}
	for i := range callInt(s.inputCount, in.ptr) {
		p := call(s.input, in.ptr, uintptr(i))
		if p == 0 {
			return fmt.Errorf("the runtime has no input %d", i)
		}
		in.Inputs = append(in.Inputs, in.tensor(p))
		if i == 0 {
			in.first = []uintptr{p}
		}
	}
	for i := range callInt(s.outputCount, in.ptr) {
		p := call(s.output, in.ptr, uintptr(i))
		if p == 0 {
			return fmt.Errorf("the runtime has no output %d", i)
		}
		in.Outputs = append(in.Outputs, in.tensor(p))
		if in.Outputs[i].Data == nil {
			in.moving = append(in.moving, i)
		}
	}
	return nil
}

var errClosed = errors.New("the interpreter is closed")

// Invoke runs the model on what the inputs hold. The outputs hold the result
// until the next Invoke.
func (in *Interpreter) Invoke() error {
	if in.ptr == 0 {
		return errClosed
	}
	code := callInt(in.lib.sym.invoke, in.args...)
	// Where a tensor inside grows, all memory may be another one afterwards,
	// whatever came of it.
	if len(in.first) > 0 && call(in.lib.sym.data, in.first...) != uintptr(unsafe.Pointer(unsafe.SliceData(in.Inputs[0].Data))) {
		for _, list := range [][]Tensor{in.Inputs, in.Outputs} {
			for i := range list {
				list[i].look(&in.lib.sym)
			}
		}
	}
	if code != 0 {
		return fmt.Errorf("invoke: status %d: %s", code, in.report.take())
	}
	for _, i := range in.moving {
		in.Outputs[i].reshape(&in.lib.sym)
		in.Outputs[i].look(&in.lib.sym)
	}
	return nil
}

// ResetState empties the variables that some models keep from one Invoke to
// the next.
func (in *Interpreter) ResetState() error {
	if in.ptr == 0 {
		return errClosed
	}
	if code := callInt(in.lib.sym.resetVariables, in.args...); code != 0 {
		return fmt.Errorf("reset of the model's state: status %d: %s", code, in.report.take())
	}
	return nil
}

// Close frees the interpreter. Closing twice is safe; its tensors' memory is
// gone then.
func (in *Interpreter) Close() {
	if in.ptr != 0 {
		call(in.lib.sym.interpreterDelete, in.ptr)
		in.ptr = 0
	}
	in.lib.endReport(in.report)
	in.Inputs, in.Outputs = nil, nil
}

// Type is the type of a tensor's elements, as in the C API.
type Type int32

// The types of the C API.
const (
	NoType Type = iota
	Float32
	Int32
	Uint8
	Int64
	String
	Bool
	Int16
	Complex64
	Int8
	Float16
	Float64
)

// Tensor is an input or output of an interpreter, in its own memory.
type Tensor struct {
	Name      string
	Type      Type
	Shape     []int
	Scale     float32 // real = Scale * (q - ZeroPoint); 0: not quantized
	ZeroPoint int32
	Data      []byte // the runtime's memory; valid until the interpreter is closed
	ptr       uintptr
}

func (in *Interpreter) tensor(ptr uintptr) Tensor {
	s := &in.lib.sym
	t := Tensor{ptr: ptr, Name: goString(call(s.name, ptr)), Type: Type(callInt(s.tensorType, ptr))}
	t.reshape(s)
	// The struct of a float and an int32 comes back in one register.
	q := uint64(call(s.quantization, ptr))
	bits := uint32(q)
	t.Scale = *(*float32)(unsafe.Pointer(&bits))
	t.ZeroPoint = int32(q >> 32)
	t.look(s)
	return t
}

// reshape reads the tensor's shape. A new one is a new slice: somebody may
// hold the old.
func (t *Tensor) reshape(s *symbols) {
	n := callInt(s.numDims, t.ptr)
	same := n == len(t.Shape)
	for i := 0; same && i < n; i++ {
		same = callInt(s.dim, t.ptr, uintptr(i)) == t.Shape[i]
	}
	if same {
		return
	}
	t.Shape = make([]int, max(n, 0))
	for i := range t.Shape {
		t.Shape[i] = callInt(s.dim, t.ptr, uintptr(i))
	}
}

// look finds the tensor's memory: outputs of some operators move.
func (t *Tensor) look(s *symbols) {
	p, n := call(s.data, t.ptr), call(s.byteSize, t.ptr)
	if p == 0 {
		t.Data = nil
		return
	}
	if len(t.Data) == int(n) && uintptr(unsafe.Pointer(unsafe.SliceData(t.Data))) == p {
		return
	}
	t.Data = unsafe.Slice((*byte)(pointer(p)), n)
}

// pointer makes a pointer of an address outside Go's heap.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

func goString(addr uintptr) string {
	if addr == 0 {
		return ""
	}
	p := (*byte)(pointer(addr))
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 && n < 1<<16 {
		n++
	}
	return strings.Clone(unsafe.String(p, n))
}
