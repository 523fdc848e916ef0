package infer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"edgegateway/infer/tflite"
)

// pool is the warm interpreters of one model on one delegate.
type pool struct {
	delegate    string
	accelerator bool // may fail by itself: a stick that is pulled out
	decoder     decoder
	ins, outs   []TensorInfo
	size        int
	idle        chan *worker
	retired     chan struct{}
}

// worker is one interpreter with its delegate.
type worker struct {
	interpreter *tflite.Interpreter
	delegate    *tflite.Delegate // nil: built-in kernels
	in, out     []Tensor
	stateful    bool // its variables are emptied before each frame
}

var errRetired = errors.New("the interpreters were replaced")

// newPool warms as many interpreters as there are workers; an accelerator
// has one.
func newPool(lib *tflite.Library, m *Model, delegate string) (*pool, error) {
	p := &pool{delegate: delegate, accelerator: delegate == "external", retired: make(chan struct{})}
	p.size = m.engine.Workers
	if p.size == 0 {
		p.size = runtime.GOMAXPROCS(0)
	}
	if p.accelerator {
		p.size = 1
	}
	data := m.file.data
	if p.accelerator && m.cfg.Accelerated != "" {
		var err error
		if data, err = os.ReadFile(m.cfg.Accelerated); err != nil {
			return nil, err
		}
	}
	file, err := lib.NewModel(data)
	if err != nil {
		return nil, err
	}
	// The interpreters keep the file; the handle is needed to make them only.
	defer file.Close()
	p.idle = make(chan *worker, p.size)
	for range p.size {
		w, err := newWorker(lib, file, delegate, m.cfg.External)
		if err != nil {
			p.free()
			return nil, err
		}
		w.stateful = m.file.model.Stateful()
		p.idle <- w
	}
	w := <-p.idle
	p.ins, p.outs = describe(w.interpreter.Inputs), describe(w.interpreter.Outputs)
	p.idle <- w
	if p.decoder, err = newDecoder(m.cfg, p.ins, p.outs, m.file.model); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

// newWorker understands builtin, builtin:THREADS, xnnpack:FLAGS,
// xnnpack:FLAGS:THREADS and external.
func newWorker(lib *tflite.Library, file *tflite.Model, delegate string, ext External) (*worker, error) {
	w := &worker{}
	o := tflite.Options{Threads: 1}
	kind, rest, _ := strings.Cut(delegate, ":")
	var err error
	switch kind {
	case "builtin":
		if rest != "" {
			o.Threads, err = strconv.Atoi(rest)
		}
	case "xnnpack":
		flagText, threadText, more := strings.Cut(rest, ":")
		flags, ferr := strconv.Atoi(flagText)
		threads := 1
		if more {
			threads, err = strconv.Atoi(threadText)
		}
		if err = errors.Join(ferr, err); err == nil {
			w.delegate, err = lib.NewXNNPack(threads, uint32(flags))
		}
	case "external":
		w.delegate, err = lib.NewExternal(ext.Library, ext.Options)
	default:
		err = errors.New("unknown")
	}
	if err != nil {
		return nil, fmt.Errorf("delegate %s: %w", delegate, err)
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
	if w.interpreter != nil {
		w.interpreter.Close()
	}
	if w.delegate != nil {
		w.delegate.Close()
	}
}

// invoke runs the interpreter and looks where the outputs are now.
func (w *worker) invoke() error {
	if w.stateful {
		if err := w.interpreter.ResetState(); err != nil {
			return err
		}
	}
	if err := w.interpreter.Invoke(); err != nil {
		return err
	}
	for i := range w.out {
		w.out[i].Data = w.interpreter.Outputs[i].Data
	}
	return nil
}

// take waits for an idle interpreter.
func (p *pool) take(ctx context.Context) (*worker, error) {
	select {
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
// come back.
func (p *pool) retire() {
	close(p.retired)
	go func() {
		for range p.size {
			(<-p.idle).close()
		}
	}()
}

// free closes the interpreters of a pool that never served.
func (p *pool) free() {
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
