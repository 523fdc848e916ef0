package learn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"edgegateway/fl"
	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
)

// Make asks for a .tflite of weights, judged beside the model in use.
type Make struct {
	Task    *fl.Task
	Weights *fl.Weights
	Count   int                // of the Samples; 0: there are none
	Live    *infer.ModelConfig // the model in use as it is served; nil: there is none
	Library string             // of the runtime; "": the one inside
}

// Made is what came of it.
type Made struct {
	Model   []byte
	Verdict fl.Verdict
	Alien   string // why the model in use cannot be held against it; "": it was, or there is none
}

// mostRanged is how many samples the ranges of an int8 model are learned of.
const mostRanged = 500

// makeModel is the child's side.
func makeModel(ctx context.Context, req *Request) (*Made, error) {
	m := req.Make
	var rest, held *train.Dataset
	if m.Count > 0 {
		d, err := req.Samples.load(ctx, m.Count)
		if err != nil {
			return nil, err
		}
		if rest, held, err = divide(m.Task, d); err != nil {
			return nil, err
		}
	}
	net, err := m.Task.Network()
	if err != nil {
		return nil, err
	}
	if err := m.Weights.Into(net); err != nil {
		return nil, err
	}
	made := &Made{}
	if made.Model, err = export(m.Task, net); err != nil {
		return nil, err
	}
	if m.Task.Publish.Quantize == "int8" {
		if rest == nil {
			return nil, errors.New("there are no samples here to quantize it on")
		}
		if made.Model, err = quantize(ctx, made.Model, rest, held, m.Library); err != nil {
			return nil, fmt.Errorf("quantize: %w", err)
		}
	}
	if held == nil {
		return made, nil
	}
	if made.Verdict.New, err = judge(ctx, made.Model, m.Library, held, &compress.Samples{Set: held}); err != nil {
		return nil, fmt.Errorf("the new model: %w", err)
	}
	if m.Live != nil {
		if made.Verdict.Old, err = judgeLive(ctx, req, held); err != nil {
			made.Alien = err.Error()
		}
	}
	return made, nil
}

// divide gives the samples that are trained on and those that judge, as the
// training of rounds does; nil for none.
func divide(task *fl.Task, d *train.Dataset) (rest, held *train.Dataset, err error) {
	a, b, err := d.HoldOut(task.Data.Holdout, task.Seed)
	if err != nil {
		return nil, nil, err
	}
	if len(a) > 0 {
		rest = d.Subset(a)
	}
	if len(b) > 0 {
		held = d.Subset(b)
	}
	return rest, held, nil
}

// export gives the float .tflite of a task's network.
func export(task *fl.Task, net *train.Network) ([]byte, error) {
	var m *model.Model
	var err error
	if task.Model.File != "" {
		m, err = net.Model()
	} else {
		if len(task.Model.Classes) > 0 {
			net = net.TwoClasses()
		}
		m, err = net.Export("trained by edgegateway, federated", task.Model.Classes)
	}
	if err != nil {
		return nil, err
	}
	return m.Write()
}

// quantize makes it int8, with ranges learned of what is trained on here.
func quantize(ctx context.Context, file []byte, rest, held *train.Dataset, library string) ([]byte, error) {
	if n := rest.Len(); n > mostRanged {
		at := make([]int, mostRanged)
		for i := range at {
			at[i] = i * n / mostRanged
		}
		rest = rest.Subset(at)
	}
	job := compress.Job{File: file, Config: compress.DefaultConfig(), Calibration: &compress.Samples{Set: rest}, Library: library}
	if held != nil {
		job.Judged = &compress.Samples{Set: held}
	}
	made, err := compress.Shorten(ctx, job)
	if err != nil {
		return nil, err
	}
	return made.File, nil
}

// judge runs a model on held-out samples. Of values the loss is the mean squared
// error; of classes there is none here.
func judge(ctx context.Context, file []byte, library string, held *train.Dataset, as *compress.Samples) (fl.Metrics, error) {
	task := compress.Classes
	if held.Labels == nil {
		task = compress.Regression
	}
	q, err := compress.Judge(ctx, file, "", library, task, as, nil)
	if err != nil {
		return fl.Metrics{}, err
	}
	m := fl.Metrics{Samples: q.Samples, Accuracy: q.Top1}
	if held.Labels == nil {
		m.Accuracy, m.Loss = -1, q.RMSE*q.RMSE
	}
	return m, nil
}

// judgeLive runs the model in use on the same samples, as it takes them. An error
// says why it cannot.
func judgeLive(ctx context.Context, req *Request, held *train.Dataset) (fl.Metrics, error) {
	live := req.Make.Live
	file, err := pack.ReadFile(live.File)
	if err != nil {
		return fl.Metrics{}, errors.New("the file of the model in use cannot be read")
	}
	ins, _, err := infer.Inspect(*live)
	if err != nil || len(ins) != 1 {
		return fl.Metrics{}, errors.New("the model in use takes other inputs")
	}
	as := &compress.Samples{Set: held}
	if shape := shapeOf(ins[0].Shape); held.Pixels != nil && !slices.Equal(shape, held.Shape) {
		if req.Samples.Recorded == nil || len(shape) != 3 {
			return fl.Metrics{}, fmt.Errorf("the model in use takes pictures of %v, the task's of %v", shape, held.Shape)
		}
		again := *req.Samples.Recorded
		again.Input = shape
		d, err := again.Load(ctx, req.Make.Count)
		if err == nil {
			_, held, err = divide(req.Make.Task, d)
		}
		if err != nil || held == nil {
			return fl.Metrics{}, errors.New("the samples do not fit the model in use")
		}
		as.Set = held
	}
	if p := live.Picture; p != nil && len(p.Mean)+len(p.Std) > 0 {
		if as.Low, as.High, err = limits(p); err != nil {
			return fl.Metrics{}, err
		}
	}
	if held.Labels != nil {
		labels, err := labelsOf(live, file)
		if err != nil {
			return fl.Metrics{}, errors.New("the labels of the model in use cannot be read")
		}
		if held, err = relabel(held, labels); err != nil {
			return fl.Metrics{}, err
		}
		as.Set = held
	}
	m, err := judge(ctx, file, req.Make.Library, held, as)
	if err != nil {
		return m, fmt.Errorf("the model in use cannot be judged on these samples: %w", err)
	}
	return m, nil
}

func shapeOf(full []int) train.Shape {
	if len(full) > 1 {
		return train.Shape(full[1:])
	}
	return train.Shape(full)
}

// limits are what the bytes 0 and 255 are for a model whose bundle says so.
func limits(p *infer.PictureInput) (low, high float64, err error) {
	if len(p.Mean) > 1 || len(p.Std) > 1 {
		return 0, 0, errors.New("the model in use takes each colour of a picture by a scale of its own")
	}
	mean, std := 0.0, 1.0
	if len(p.Mean) == 1 {
		mean = p.Mean[0]
	}
	if len(p.Std) == 1 {
		std = p.Std[0]
	}
	return (0 - mean) / std, (255 - mean) / std, nil
}

// labelsOf are the labels of a model as it is served; nil where nobody says them.
func labelsOf(cfg *infer.ModelConfig, file []byte) ([]string, error) {
	if len(cfg.Classes) > 0 {
		return cfg.Classes, nil
	}
	if cfg.Labels != "" {
		text, err := os.ReadFile(cfg.Labels)
		if err != nil {
			return nil, err
		}
		return model.ParseLabels(text)
	}
	m, err := model.Read(file)
	if err != nil {
		return nil, err
	}
	return m.Labels()
}

// relabel gives samples with their classes numbered as a model's labels are.
func relabel(d *train.Dataset, labels []string) (*train.Dataset, error) {
	if len(labels) == 0 || slices.Equal(labels, d.Classes) {
		return d, nil
	}
	to := make([]int32, len(d.Classes))
	for k, name := range d.Classes {
		at := slices.Index(labels, name)
		if at < 0 {
			return nil, fmt.Errorf("the model in use does not tell the task's class number %d", k)
		}
		to[k] = int32(at)
	}
	next := *d
	next.Classes = labels
	next.Labels = make([]int32, len(d.Labels))
	for i, l := range d.Labels {
		next.Labels[i] = to[l]
	}
	return &next, nil
}
