package infer

import (
	"context"
	"errors"
	"fmt"

	"edgegateway/infer/tflite"
)

// pool is the warm interpreters of one model on one delegate.
type pool struct {
	delegate  string
	decoder   decoder
	ins, outs []TensorInfo
	size      int
	idle      chan *worker
	retired   chan struct{}
	// cpu is the same model on the built-in kernels where an accelerator
	// computes it, which may fail by itself: a stick that is pulled out.
	cpu *pool
}

// worker is one interpreter with its delegate.
type worker struct {
	interpreter *tflite.Interpreter
	delegate    *tflite.Delegate // nil: built-in kernels
	in, out     []Tensor
	stateful    bool   // its variables are emptied before each frame
	judge       *judge // of an accelerator: holds it against the CPU

	wide   [len(widths)]*wide // for several samples at once; nil: not made, or not worth it
	isWide [len(widths)]bool  // it was tried
}

var errRetired = errors.New("the interpreters were replaced")

// newPool warms the interpreters of m on a delegate.
func newPool(lib *tflite.Library, m *version, name string) (_ *pool, err error) {
	d, err := parseDelegate(name)
	if err != nil {
		return nil, err
	}
	if err := d.takes(m.file.model); err != nil {
		return nil, err
	}
	p := &pool{delegate: name, size: d.workers(m.engine.Workers), retired: make(chan struct{})}
	p.idle = make(chan *worker, p.size)
	defer func() {
		if err != nil {
			p.free()
		}
	}()
	data := m.file.data
	if d.kind == "external" {
		if m.accel == nil {
			return nil, errors.New("no accelerator is configured")
		}
		if data, err = m.accel.bytes(data); err != nil {
			return nil, err
		}
		if p.cpu, err = newPool(lib, m, "builtin"); err != nil {
			return nil, err
		}
	}
	file, err := lib.NewModel(data)
	if err != nil {
		return nil, err
	}
	// The interpreters keep the file; the handle is needed to make them only.
	defer file.Close()
	for range p.size {
		w, err := newWorker(lib, file, d, m.accel)
		if err != nil {
			return nil, err
		}
		w.stateful = m.file.model.Stateful()
		for i := range w.in {
			w.in[i].Picture = m.cfg.Picture
		}
		p.idle <- w
	}
	w := <-p.idle
	p.idle <- w
	if p.cpu != nil {
		c := <-p.cpu.idle
		p.cpu.idle <- c
		if err := interchangeable(c, w); err != nil {
			return nil, err
		}
		w.judge = newJudge(m.file.model)
	}
	p.ins, p.outs = describe(w.interpreter.Inputs), describe(w.interpreter.Outputs)
	if err := m.cfg.Picture.fits(p.ins); err != nil {
		return nil, err
	}
	if p.decoder, err = newDecoder(m.cfg, p.ins, p.outs, m.file.model); err != nil {
		return nil, err
	}
	return p, nil
}

// interchangeable says whether an accelerator's worker takes and gives what
// the CPU's does.
func interchangeable(cpu, acc *worker) error {
	why := sameInterface("input", cpu.in, acc.in)
	if why == "" {
		why = sameInterface("output", cpu.out, acc.out)
	}
	if why != "" {
		return fmt.Errorf("the file compiled for it is of another model: %s", why)
	}
	return nil
}

// newWorker makes an interpreter on a delegate of its own.
func newWorker(lib *tflite.Library, file *tflite.Model, d delegate, accel *accelerator) (w *worker, err error) {
	w = &worker{}
	o := tflite.Options{Threads: d.threads}
	switch d.kind {
	case "xnnpack":
		o.Threads = 1 // of what XNNPACK leaves to the built-in kernels
		w.delegate, err = lib.NewXNNPack(d.threads, d.flags)
	case "external":
		w.delegate, err = lib.NewExternal(accel.Library, accel.Options)
	}
	if err != nil {
		return nil, err
	}
	o.Delegate = w.delegate
	if w.interpreter, err = file.NewInterpreter(o); err != nil {
		w.close()
		return nil, err
	}
	w.in, w.out = views(w.interpreter.Inputs), views(w.interpreter.Outputs)
	return w, nil
}

func (w *worker) close() {
	for _, b := range w.wide {
		if b != nil {
			b.w.close()
		}
	}
	if w.interpreter != nil {
		w.interpreter.Close()
	}
	if w.delegate != nil {
		w.delegate.Close()
	}
}

// invoke runs the interpreter and looks where inputs and outputs are now.
func (w *worker) invoke() error {
	if w.stateful {
		if err := w.interpreter.ResetState(); err != nil {
			return err
		}
	}
	err := w.interpreter.Invoke()
	for i := range w.in { // they may have moved
		w.in[i].Data = w.interpreter.Inputs[i].Data
	}
	if err != nil {
		return err
	}
	for i := range w.out {
		w.out[i].Shape, w.out[i].Data = w.interpreter.Outputs[i].Shape, w.interpreter.Outputs[i].Data
	}
	return nil
}

// take waits for an idle interpreter.
func (p *pool) take(ctx context.Context) (*worker, error) {
	select {
	case <-p.retired:
		return nil, errRetired
	case w := <-p.idle:
		return w, nil
	default:
	}
	select {
	case w := <-p.idle:
		return w, nil
	case <-p.retired:
		return nil, errRetired
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pool) give(w *worker) { p.idle <- w }

// retire sends those that wait elsewhere and frees the interpreters as they
// come back. It is called once, by who took the pool out of service; keepCPU
// says that what stood in for it has taken over.
func (p *pool) retire(keepCPU bool) {
	close(p.retired)
	go func() {
		for range p.size {
			(<-p.idle).close()
		}
		if p.cpu != nil && !keepCPU {
			p.cpu.retire(false)
		}
	}()
}

// free closes the interpreters of a pool that never served.
func (p *pool) free() {
	if p.cpu != nil {
		p.cpu.free()
	}
	for {
		select {
		case w := <-p.idle:
			w.close()
		default:
			return
		}
	}
}

// fromC are the C API's types that a tensor here can have.
var fromC = map[tflite.Type]ElemType{
	tflite.Float32: Float32, tflite.Int32: Int32, tflite.Uint8: Uint8, tflite.Int64: Int64,
	tflite.Bool: Bool, tflite.Int16: Int16, tflite.Int8: Int8,
}

func describe(list []tflite.Tensor) []TensorInfo {
	out := make([]TensorInfo, len(list))
	for i, t := range list {
		out[i] = TensorInfo{Name: t.Name, Type: fromC[t.Type], Shape: t.Shape, Scale: t.Scale, ZeroPoint: t.ZeroPoint}
	}
	return out
}

func views(list []tflite.Tensor) []Tensor {
	out := make([]Tensor, len(list))
	for i, t := range list {
		out[i] = Tensor{Type: fromC[t.Type], Shape: t.Shape, Scale: t.Scale, ZeroPoint: t.ZeroPoint, Data: t.Data}
	}
	return out
}
