package infer

// Beside opens a version of a model to work beside the one at work, under the
// model's name and as one that could take its place: what Swap refuses it
// refuses. It has no trial of its own: tried is what one came to. One that gives
// way has one interpreter, whose threads have the lowest priority, and Invoke
// has it too where the system lets a thread take its own back. Who opened it
// closes it, before the engine is closed.
func (e *Engine) Beside(name string, cfg ModelConfig, givesWay bool, fits func(in []TensorInfo) error, tried []CandidateReport) (m *Model, err error) {
	e.mu.RLock()
	shared := e.cfg
	e.mu.RUnlock()
	open := func() {
		var v *version
		if _, v, err = e.successor(name, shared, cfg, fits, tried); err == nil {
			m = newModel(v)
		}
	}
	if !givesWay {
		open()
		return m, err
	}
	shared.Workers = 1
	onLowest(open)
	if err == nil {
		m.live.Load().yields = mayRaise()
	}
	return m, err
}

// Close lets go of a model that Beside gave, after what is under way; what
// comes later gets ErrClosed.
func (m *Model) Close() { m.retire() }

// invoke runs the interpreter at the priority of the version.
func (m *version) invoke(w *worker) error {
	if m.yields {
		return yielding(w.invoke)
	}
	return w.invoke()
}
