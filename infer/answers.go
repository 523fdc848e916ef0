package infer

import "slices"

// Answers is what a model can say.
type Answers struct {
	Known  bool     // false: the runtime alone knows it
	Values int      // numbers, beside a score
	Labels []string // classes or kinds of objects; nil: it names none
}

// InspectAnswers says what a model can answer, by its files and what its outputs
// shall mean, as Inspect reads them. Errors are those of Inspect.
func InspectAnswers(cfg ModelConfig) (Answers, error) {
	f, err := readFile(cfg)
	if err != nil {
		return Answers{}, place(err)
	}
	g := f.model.Main()
	ins, outs := inFile(g, g.Inputs), inFile(g, g.Outputs)
	if slices.ContainsFunc(outs, openShape) {
		return Answers{}, nil
	}
	d, err := newDecoder(cfg, ins, outs, f.model)
	if err != nil {
		return Answers{}, place(err)
	}
	return sayable(d, outs), nil
}

// Answers is what the version at work can say.
func (m *Model) Answers() Answers {
	v := m.live.Load()
	p := v.serving.Load()
	if p == nil {
		return Answers{}
	}
	return sayable(p.decoder, p.outs)
}

func sayable(d decoder, outs []TensorInfo) Answers {
	a := Answers{Known: true}
	switch d := d.(type) {
	case *classes:
		a.Labels = d.labels
	case *detection:
		a.Labels = d.labels
	case *blazeFace:
		a.Labels = []string{d.label}
	case *numbers:
		for _, o := range outs[:d.outputs] {
			if openShape(o) {
				return Answers{}
			}
			a.Values += elements(o.Shape)
		}
	}
	return a
}
