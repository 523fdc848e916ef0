package infer

import (
	"errors"
	"fmt"

	"edgegateway/infer/model"
	"edgegateway/infer/tflite"
)

// Session is one interpreter of one model on one delegate, for tools that look
// at models: calibration, comparison, measurement. It is for one goroutine.
// What serves streams is an Engine.
type Session struct {
	In, Out []Tensor // in place; Out is valid after Invoke
	w       *worker
	file    *tflite.Model
}

// OpenSession loads a checked model from memory. delegate is builtin,
// builtin:THREADS, xnnpack:FLAGS or xnnpack:FLAGS:THREADS; library is the path
// of the TensorFlow Lite library, "" for the one in the program. The bytes
// must not change for as long as the session lives.
func OpenSession(data []byte, delegate, library string) (*Session, error) {
	m, err := model.Read(data)
	if err != nil {
		return nil, err
	}
	// As the engine takes it: what this runtime would misread is written again.
	m, data, _, err = m.Adapted(data)
	if err != nil {
		return nil, err
	}
	d, err := parseDelegate(delegate)
	if err != nil {
		return nil, err
	}
	if d.kind == "external" {
		return nil, errors.New("a session runs on the CPU")
	}
	if err := d.takes(m); err != nil {
		return nil, fmt.Errorf("delegate %s: %w", delegate, err)
	}
	lib, err := tflite.Open(library)
	if err != nil {
		return nil, err
	}
	s := &Session{}
	if s.file, err = lib.NewModel(data); err != nil {
		return nil, err
	}
	if s.w, err = newWorker(lib, s.file, d, nil); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("delegate %s: %w", delegate, err)
	}
	s.w.stateful = m.Stateful()
	s.In, s.Out = s.w.in, s.w.out
	return s, nil
}

// Invoke runs the model on what In holds.
func (s *Session) Invoke() error {
	err := s.w.invoke()
	s.Out = s.w.out
	return err
}

// Close frees the interpreter; Close twice does nothing.
func (s *Session) Close() {
	if s.w != nil {
		s.w.close()
		s.file.Close()
		s.w = nil
	}
}
