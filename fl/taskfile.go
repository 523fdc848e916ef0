package fl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edgegateway/configs"
	"edgegateway/fl/aggregate"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// Bounds of a task.
const (
	maxTask   = 64 << 10 // bytes of a task on its way, without its file
	maxFile   = 64 << 20 // bytes of its file
	maxLabels = 4096     // classes
)

// DefaultTask is a task whose file says nothing: what is left for it to say is
// its name, its model and its stream.
func DefaultTask() Task {
	return Task{
		Model:    ModelConfig{Train: "all"},
		Data:     DataConfig{Minimum: 1, Holdout: 0.1},
		Local:    LocalConfig{Epochs: 1, Batch: 10, Optimizer: train.OptimizerConfig{Kind: "sgd", Rate: 0.1, Schedule: "constant"}},
		Strategy: aggregate.DefaultConfig(), Compression: aggregate.DefaultCompression(),
		Rounds: 20, Cohort: CohortConfig{Quorum: 1, Select: "random"},
		Late: "drop", Publish: PublishConfig{When: "final", Quantize: "none"}, Seed: 1,
	}
}

// LoadTask reads a task from a YAML file, with the model that it names, and
// makes its network once to see that it can be made. Errors have file, line and
// column in front.
func LoadTask(path string) (*Task, error) {
	t := DefaultTask()
	file, err := configs.Load(path, &t)
	if err != nil {
		return nil, err
	}
	if name := t.Model.File; name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(file.Dir(), name)
		}
		if t.Model.Data, err = readModel(name); err != nil {
			return nil, file.Locate(fmt.Errorf("model.file: %w", err))
		}
		t.Model.File, t.Model.Sum = filepath.Base(name), sha256.Sum256(t.Model.Data)
	}
	if err := t.Validate(); err != nil {
		return nil, file.Locate(err)
	}
	n, err := t.Network()
	if err != nil {
		return nil, file.Locate(fmt.Errorf("model: %w", err))
	}
	if t.Model.Input == nil { // participants look for samples of it before they have the file
		t.Model.Input = n.In
	}
	b, err := t.Encode()
	if err == nil && len(b) > maxTask {
		err = fmt.Errorf("the task is %d bytes, more than the %d that go in one message; are there very many classes or features?", len(b), maxTask)
	}
	return &t, file.Locate(err)
}

func readModel(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// SetFile gives a task that came without it the file that it begins with. It is
// an error where it is another one.
func (t *Task) SetFile(data []byte) error {
	if sum := Hash(sha256.Sum256(data)); sum != t.Model.Sum {
		return refuse(BadBody, "the model %s has the SHA-256 %s, not %s", t.Model.File, sum, t.Model.Sum)
	}
	t.Model.Data = data
	return nil
}

// Encode gives a task as it travels, without its model's file: the same task
// gives the same bytes.
func (t *Task) Encode() ([]byte, error) { return marshal(t) }

// ID names a task on its way: its name and the first 12 hex digits of the
// SHA-256 of what Encode gives. A task that is changed is another one.
func (t *Task) ID() (string, error) {
	b, err := t.Encode()
	if err != nil {
		return "", fmt.Errorf("task %s: %w", t.Name, err)
	}
	return taskID(t.Name, b), nil
}

func taskID(name string, encoded []byte) string {
	return fmt.Sprintf("%s-%x", name, sha256.Sum256(encoded))[:len(name)+1+12]
}

// DecodeTask reads what Encode gave, and gives its id beside it. A task that this
// program would not have loaded is an error, as is a field that it does not know:
// it would train something else than the others.
func DecodeTask(b []byte) (*Task, string, error) {
	if len(b) > maxTask {
		return nil, "", fmt.Errorf("a task of %d bytes, more than %d", len(b), maxTask)
	}
	var t Task
	if err := unmarshal(b, &t); err != nil {
		return nil, "", fmt.Errorf("task: %w; is the coordinator's program a newer one?", err)
	}
	if again, err := t.Encode(); err != nil || !bytes.Equal(again, b) {
		return nil, "", errors.New("task: it is not in the deterministic form of CBOR, by which it has its id")
	}
	if err := t.Validate(); err != nil {
		return nil, "", fmt.Errorf("task %.64q: %w", t.Name, err)
	}
	return &t, taskID(t.Name, b), nil
}

// Network makes the network of a task, with the weights that its first round
// begins with: those of its file, or drawn by its seed.
func (t *Task) Network() (*train.Network, error) {
	m := &t.Model
	if m.File != "" {
		return m.fromFile()
	}
	outputs := m.Outputs()
	spec := train.Spec{Layers: slices.Clone(m.Network.Layers)}
	if m.Preset != "" {
		var err error
		if spec, err = train.Preset(m.Preset, m.Input, outputs); err != nil {
			return nil, err
		}
	}
	if last := len(spec.Layers) - 1; m.Classes == nil && last >= 0 && spec.Layers[last].Activation == "softmax" {
		spec.Layers[last].Activation = "" // values, not chances
	}
	n, err := train.New(spec, m.Input, outputs, t.Seed)
	if err != nil {
		return nil, err
	}
	if got := n.Out.Size(); got != outputs && !(m.Classes != nil && outputs == 2 && got == 1) {
		return nil, fmt.Errorf("it answers with %d values, the task is for %d", got, outputs)
	}
	if n.Norm = m.Norm; m.Norm == nil && len(m.Input) == 3 {
		n.Normalise(&train.Dataset{Shape: m.Input, Pixels: []byte{}}) // what holds of all pictures
	}
	return n, nil
}

// Outputs is how many numbers the task's model answers with, 0 where its file
// says so alone.
func (m *ModelConfig) Outputs() int {
	if m.Classes != nil {
		return len(m.Classes)
	}
	return m.Values
}

func (m *ModelConfig) fromFile() (*train.Network, error) {
	if m.Data == nil {
		return nil, fmt.Errorf("the file %s is not here yet", m.File)
	}
	file, err := model.Read(m.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.File, err)
	}
	n, err := train.From(file)
	if err == nil && m.Train == "head" {
		err = n.KeepBody()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.File, err)
	}
	if m.Input != nil && !slices.Equal(m.Input, n.In) {
		return nil, fmt.Errorf("%s takes %v, the task gives %v", m.File, n.In, m.Input)
	}
	if o := m.Outputs(); o != 0 && o != n.Out.Size() && !(m.Classes != nil && o == 2 && n.Out.Size() == 1) {
		return nil, fmt.Errorf("%s answers with %d values, the task is for %d", m.File, n.Out.Size(), o)
	}
	return n, nil
}

// Validate says what is wrong, each error with its YAML path in front. It makes
// no network: Network says whether that can be made.
func (t *Task) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	oneOf := func(field, v string, words ...string) {
		if !slices.Contains(words, v) {
			bad(field, "%.40q is none of %s", v, strings.Join(words, ", "))
		}
	}
	within := func(field string, v, low, high int) {
		if v < low || v > high {
			bad(field, "%d is outside %d..%d", v, low, high)
		}
	}
	if err := CheckName(t.Name); err != nil {
		bad("name", "%v", err)
	} else if len(t.Name) > maxName-13 { // its id is longer
		bad("name", "is longer than %d letters", maxName-13)
	}
	errs = append(errs, t.Model.validate())
	if strings.ContainsAny(t.Data.Stream, "/\x00") || len(t.Data.Stream) > 200 {
		bad("data.stream", "%.40q is no name of a stream", t.Data.Stream)
	}
	within("data.minimum", t.Data.Minimum, 1, math.MaxInt32)
	if !(t.Data.Holdout >= 0 && t.Data.Holdout < 1) {
		bad("data.holdout", "%v is outside 0..1", t.Data.Holdout)
	}
	within("local.epochs", t.Local.Epochs, 1, 1000)
	within("local.batch", t.Local.Batch, 0, 1<<16)
	errs = append(errs, under("local", t.Local.Optimizer.Validate()))
	if !(t.Local.Proximal >= 0 && t.Local.Proximal <= 1e6) {
		bad("local.proximal", "%v is outside 0..1000000", t.Local.Proximal)
	}
	errs = append(errs, t.Strategy.Validate(), t.Compression.Validate(), t.Compression.Suits(t.Strategy))
	within("rounds", t.Rounds, 1, 1_000_000)
	within("cohort.size", t.Cohort.Size, 0, 1_000_000)
	within("cohort.quorum", t.Cohort.Quorum, 1, 1_000_000)
	within("cohort.wait_for", t.Cohort.WaitFor, 0, 1_000_000)
	if s := t.Cohort.Size; s > 0 && t.Cohort.Quorum > s {
		bad("cohort.quorum", "%d are more than the %d of a round", t.Cohort.Quorum, s)
	}
	if s := t.Cohort.Size; s > 0 && s < t.Strategy.Minimum() {
		bad("cohort.size", "%d are fewer than the %d that %s needs", s, t.Strategy.Minimum(), t.Strategy.Kind)
	}
	oneOf("cohort.select", t.Cohort.Select, "random", "data", "present")
	if t.Deadline < 0 || t.Deadline > 10*365*24*time.Hour {
		bad("deadline", "%v is no time that a round takes", t.Deadline)
	}
	oneOf("late", t.Late, "drop", "next")
	if !(t.Stop.Accuracy >= 0 && t.Stop.Accuracy <= 1) {
		bad("stop.accuracy", "%v is outside 0..1", t.Stop.Accuracy)
	}
	within("stop.patience", t.Stop.Patience, 0, 1_000_000)
	oneOf("publish.when", t.Publish.When, "final", "improved", "every")
	oneOf("publish.quantize", t.Publish.Quantize, "none", "int8")
	if t.Publish.Model == "" && t.Publish.Quantize == "int8" {
		bad("publish.quantize", "int8 is of what gateways take over, and publish.model names no model of theirs")
	}
	if len(t.Publish.Model) > 200 {
		bad("publish.model", "%.40q is no name of a model", t.Publish.Model)
	}
	return errors.Join(errs...)
}

func (m *ModelConfig) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("model.%s: %s", field, fmt.Sprintf(format, args...)))
	}
	ways := 0
	for _, given := range []bool{m.File != "", len(m.Network.Layers) > 0, m.Preset != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		errs = append(errs, errors.New("model: one of file, network and preset says what is trained"))
	}
	if m.Train != "all" && m.Train != "head" {
		bad("train", "%.40q is neither all nor head", m.Train)
	}
	if m.Train == "head" && m.File == "" {
		bad("train", "head needs a file: the layers before it must know something")
	}
	if m.File != "" && m.Sum == (Hash{}) || m.File == "" && m.Sum != (Hash{}) {
		bad("file", "%.40q without its hash, or a hash without a file", m.File)
	}
	if len(m.File) > 200 {
		bad("file", "%.40q is no name of a file", m.File)
	}
	values := 1
	for _, d := range m.Input {
		if d < 1 || d > 1<<24 || values > (1<<24)/d {
			bad("input", "%v is no shape of a sample", m.Input)
			break
		}
		values *= d
	}
	if n := len(m.Input); n != 1 && n != 3 && (n > 0 || m.File == "") {
		bad("input", "%v is neither [features] nor [height, width, channels]", m.Input)
	}
	if m.File == "" {
		if len(m.Network.Layers) > 0 {
			errs = append(errs, under("model.network", m.Network.Validate()))
		}
		if m.Preset != "" && !slices.Contains(train.Presets, m.Preset) {
			bad("preset", "%.40q is none of %s", m.Preset, strings.Join(train.Presets, ", "))
		}
		if (m.Classes != nil) == (m.Values != 0) {
			errs = append(errs, errors.New("model: either classes or values says what it answers with"))
		}
	} else if m.Classes != nil && m.Values != 0 {
		errs = append(errs, errors.New("model: classes and values cannot both be what it answers with"))
	}
	if m.Values < 0 || m.Values > 1<<16 {
		bad("values", "%d is outside 0..%d", m.Values, 1<<16)
	}
	if m.Classes != nil && (len(m.Classes) < 2 || len(m.Classes) > maxLabels) {
		bad("classes", "%d are outside 2..%d", len(m.Classes), maxLabels)
	}
	seen := map[string]bool{}
	for i, c := range m.Classes {
		if c == "" || len(c) > 200 || seen[c] {
			bad(fmt.Sprintf("classes[%d]", i), "%.40q is empty, too long or there twice", c)
		}
		seen[c] = true
	}
	if n := m.Norm; n != nil {
		switch {
		case m.File != "":
			bad("norm", "a file takes its inputs as it does already")
		case len(n.Mean) == 0 || len(n.Mean) != len(n.Std) || values%len(n.Mean) != 0:
			bad("norm", "%d means and %d deviations for %d values", len(n.Mean), len(n.Std), values)
		default:
			for i := range n.Mean {
				if n.Mean[i]-n.Mean[i] != 0 || !(n.Std[i] > 0) || n.Std[i]-n.Std[i] != 0 {
					bad("norm", "mean %v and deviation %v of feature %d", n.Mean[i], n.Std[i], i)
					break
				}
			}
		}
	}
	return errors.Join(errs...)
}

// under puts a path in front of each of the errors that are joined.
func under(path string, err error) error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s.%w", path, err)
	}
	var errs []error
	for _, e := range many.Unwrap() {
		errs = append(errs, under(path, e))
	}
	return errors.Join(errs...)
}
