package tflite

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/ebitengine/purego"
)

// symbols are the addresses of the C functions, by their names without the
// prefix TfLite.
type symbols struct {
	modelCreate, modelDelete                                            uintptr
	optionsCreate, optionsDelete, setThreads, addDelegate, setReporter  uintptr
	interpreterCreate, interpreterDelete, allocate, resizeInput, invoke uintptr
	resetVariables                                                      uintptr
	inputCount, outputCount, input, output                              uintptr
	tensorType, numDims, dim, byteSize, data, name, quantization        uintptr
	xnnpackCreate, xnnpackDelete, xnnpackFlags                          uintptr // 0: not in this library
	vsnprintf                                                           uintptr // of the C library
}

// dlopen keeps to one thread, like dlsym: why it failed is kept for the thread
// that asked.
func dlopen(path string) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func dlsym(lib uintptr, name string) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlsym(lib, name)
}

func (s *symbols) load(lib uintptr) error {
	var errs []error
	get := func(name string) uintptr {
		addr, err := dlsym(lib, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("the library has no %s: %w", name, err))
		}
		return addr
	}
	for _, f := range []struct {
		to   *uintptr
		name string
	}{
		{&s.modelCreate, "ModelCreate"}, {&s.modelDelete, "ModelDelete"},
		{&s.optionsCreate, "InterpreterOptionsCreate"}, {&s.optionsDelete, "InterpreterOptionsDelete"},
		{&s.setThreads, "InterpreterOptionsSetNumThreads"}, {&s.addDelegate, "InterpreterOptionsAddDelegate"},
		{&s.setReporter, "InterpreterOptionsSetErrorReporter"},
		{&s.interpreterCreate, "InterpreterCreate"}, {&s.interpreterDelete, "InterpreterDelete"},
		{&s.allocate, "InterpreterAllocateTensors"}, {&s.resizeInput, "InterpreterResizeInputTensor"}, {&s.invoke, "InterpreterInvoke"},
		{&s.resetVariables, "InterpreterResetVariableTensors"},
		{&s.inputCount, "InterpreterGetInputTensorCount"}, {&s.outputCount, "InterpreterGetOutputTensorCount"},
		{&s.input, "InterpreterGetInputTensor"}, {&s.output, "InterpreterGetOutputTensor"},
		{&s.tensorType, "TensorType"}, {&s.numDims, "TensorNumDims"}, {&s.dim, "TensorDim"},
		{&s.byteSize, "TensorByteSize"}, {&s.data, "TensorData"}, {&s.name, "TensorName"}, {&s.quantization, "TensorQuantizationParams"},
	} {
		*f.to = get("TfLite" + f.name)
	}
	s.xnnpackCreate, _ = dlsym(lib, "TfLiteXNNPackDelegateCreate")
	s.xnnpackDelete, _ = dlsym(lib, "TfLiteXNNPackDelegateDelete")
	s.xnnpackFlags, _ = dlsym(lib, "TfLiteXNNPackDelegateGetFlags")
	s.vsnprintf = get("vsnprintf") // the library is linked with the C library
	return errors.Join(errs...)
}

// call calls a C function; its result's low 32 bits are all that count for
// the functions that give a status or a number.
func call(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}

func callInt(fn uintptr, args ...uintptr) int { return int(int32(call(fn, args...))) }
