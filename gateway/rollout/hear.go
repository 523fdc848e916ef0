package rollout

import (
	"errors"

	"edgegateway/gateway/pipeline"
)

// Result is the pipeline's: what the streams answer is remembered until its
// label arrives.
func (r *Rollout) Result(res *pipeline.Result, _ []byte, _ bool) {
	all := r.truths.Load()
	if all == nil || res.Infer.Model == "" {
		return
	}
	if t := (*all)[res.Infer.Model]; t != nil {
		t.answer(res.ID, res.Infer.Version, res.Infer.Label)
	}
}

// LabelTopics are the filters on which labels arrive, by model.
func (r *Rollout) LabelTopics() map[string]string {
	topics := map[string]string{}
	for name, c := range r.config().Models {
		if c.Labels != nil {
			topics[name] = c.Labels.Topic
		}
	}
	return topics
}

// Hear takes a message of a model's label topic.
func (r *Rollout) Hear(model string, payload []byte) {
	if t := r.truthsOf(model); t != nil {
		t.hear(payload)
	}
}

func (r *Rollout) truthsOf(model string) *truths {
	if all := r.truths.Load(); all != nil {
		return (*all)[model]
	}
	return nil
}

// remembering makes what remembers answers by a configuration; what is as it
// was goes on.
func (r *Rollout) remembering(models map[string]Steps) error {
	next := map[string]*truths{}
	var errs []error
	for name, c := range models {
		if c.Labels == nil {
			continue
		}
		if t := r.truthsOf(name); t != nil && t.cfg == *c.Labels {
			next[name] = t
			continue
		}
		t, err := newTruths(*c.Labels)
		errs = append(errs, err)
		next[name] = t
	}
	if len(next) == 0 {
		r.truths.Store(nil)
	} else {
		r.truths.Store(&next)
	}
	return errors.Join(errs...)
}
