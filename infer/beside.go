package infer

// Beside opens a version of a model to work beside the one at work, under the
// model's name and as one that could take its place: what Swap refuses it
// refuses. It has so many warm interpreters, with 0 as many as the
// configuration says, and no trial of its own: tried is what one came to.
// Threads of the runtime that it starts have the priority of the caller's. Who
// opened it closes it, before the engine is closed.
func (e *Engine) Beside(name string, cfg ModelConfig, interpreters int, fits func(in []TensorInfo) error, tried []CandidateReport) (*Model, error) {
	e.mu.RLock()
	shared := e.cfg
	e.mu.RUnlock()
	if interpreters > 0 {
		shared.Workers = interpreters
	}
	_, v, err := e.successor(name, shared, cfg, fits, tried)
	if err != nil {
		return nil, err
	}
	return newModel(v), nil
}

// Close lets go of a model that Beside gave, after what is under way; what
// comes later gets ErrClosed.
func (m *Model) Close() { m.retire() }
