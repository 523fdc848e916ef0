package infer

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// floats32 is a float32 tensor.
func floats32(shape []int, v ...float64) Tensor {
	t := Tensor{Type: Float32, Shape: shape}
	for _, f := range v {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(float32(f)))
	}
	return t
}

// infos describes tensors as a model would.
func infos(tensors ...Tensor) []TensorInfo {
	var list []TensorInfo
	for _, t := range tensors {
		list = append(list, TensorInfo{Name: "t", Type: t.Type, Shape: t.Shape, Scale: t.Scale, ZeroPoint: t.ZeroPoint})
	}
	return list
}

func decodeOne(t testing.TB, cfg ModelConfig, m *model.Model, in, out []Tensor) (Result, error) {
	t.Helper()
	d, err := newDecoder(cfg, infos(in...), infos(out...), m)
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	err = d.decode(in, out, &r)
	return r, err
}

func number(v float64) *float64 { return &v }

func TestClasses(t *testing.T) {
	int8s := Tensor{Type: Int8, Shape: []int{1, 4}, Scale: 1. / 256, ZeroPoint: -128, Data: []byte{0x80, 0x7f, 0x00, 0xc0}}
	logits := floats32([]int{1, 6}, -3, 7, 2, 7, 0, 5)
	for _, c := range []struct {
		name string
		cfg  ModelConfig
		out  Tensor
		want []Class
	}{
		{"quantized, labels by index where they end", ModelConfig{Classes: []string{"a", "b", ""}, Top: 3}, int8s,
			[]Class{{"b", 1, 255. / 256}, {"2", 2, 0.5}, {"3", 3, 0.25}}},
		{"more asked than there are", ModelConfig{Top: 9}, int8s,
			[]Class{{"1", 1, 255. / 256}, {"2", 2, 0.5}, {"3", 3, 0.25}, {"0", 0, 0}}},
		{"logits as they are, equal ones by index", ModelConfig{Top: 4}, logits,
			[]Class{{"1", 1, 7}, {"3", 3, 7}, {"5", 5, 5}, {"2", 2, 2}}},
		{"five without a number", ModelConfig{}, logits,
			[]Class{{"1", 1, 7}, {"3", 3, 7}, {"5", 5, 5}, {"2", 2, 2}, {"4", 4, 0}}},
		{"threshold", ModelConfig{Threshold: number(0.5)}, int8s,
			[]Class{{"1", 1, 255. / 256}, {"2", 2, 0.5}}},
		{"nothing over the threshold", ModelConfig{Threshold: number(8)}, logits, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Output = "classes"
			r, err := decodeOne(t, c.cfg, nil, nil, []Tensor{c.out})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, r.Top); d != "" {
				t.Error(d)
			}
			if len(c.want) > 0 && (r.Label != c.want[0].Label || r.Score != c.want[0].Score) {
				t.Errorf("label %q, score %v", r.Label, r.Score)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	a := floats32([]int{1, 2}, 1.5, -2)
	b := Tensor{Type: Int16, Shape: []int{1}, Scale: 0.5, Data: []byte{0xfe, 0xff}}
	for kind, want := range map[string][]float64{"raw": {1.5, -2, -1}, "regression": {1.5, -2}} {
		r, err := decodeOne(t, ModelConfig{Output: kind}, nil, nil, []Tensor{a, b})
		if err != nil || !cmp.Equal(want, r.Values) {
			t.Errorf("%s: %v, %v", kind, r.Values, err)
		}
	}
}

// TestReconstruction works the mean squared error of a float and of a
// quantized autoencoder.
func TestReconstruction(t *testing.T) {
	in, out := floats32([]int{1, 4}, 1, 2, 3, 4), floats32([]int{1, 4}, 1, 2, 5, 3)
	r, err := decodeOne(t, ModelConfig{Output: "reconstruction"}, nil, []Tensor{in}, []Tensor{out})
	if err != nil || r.Score != (4+1)/4. {
		t.Errorf("float: %v, %v", r.Score, err)
	}
	qin := Tensor{Type: Int8, Shape: []int{1, 2}, Scale: 0.5, ZeroPoint: 2, Data: []byte{4, 0}}       // 1, -1
	qout := Tensor{Type: Uint8, Shape: []int{1, 2}, Scale: 2, ZeroPoint: 128, Data: []byte{128, 129}} // 0, 2
	if r, err = decodeOne(t, ModelConfig{Output: "reconstruction"}, nil, []Tensor{qin}, []Tensor{qout}); err != nil || r.Score != (1+9)/2. {
		t.Errorf("quantized: %v, %v", r.Score, err)
	}
}

func TestDetection(t *testing.T) {
	out := []Tensor{
		floats32([]int{1, 4, 4}, 0.1, 0.2, 0.3, 0.4, -0.5, 0.5, 0.5, 1.5, 0, 0, 1, 1, 2, 2, 3, 3),
		floats32([]int{1, 4}, 1, 1200, 0, 0),
		floats32([]int{1, 4}, 0.6, 0.9, 0.2, 0.8),
		floats32([]int{1}, 4),
	}
	want := []Object{
		{Label: "dog", Score: 0.6, Box: [4]float64{0.2, 0.1, 0.4, 0.3}},
		{Label: "1200", Score: 0.9, Box: [4]float64{0.5, 0, 1, 0.5}},
	}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-6 })
	none := cmp.Transformer("points", func(p [][2]float64) int { return len(p) })
	r, err := decodeOne(t, ModelConfig{Output: "detection", Classes: []string{"cat", "dog"}}, nil, nil, out)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, r.Objects, near, none); d != "" {
		t.Error(d)
	}
	if r.Label != "1200" {
		t.Errorf("best label %q", r.Label)
	}
	r, err = decodeOne(t, ModelConfig{Output: "detection", Threshold: number(0.1)}, nil, nil, out)
	if err != nil || len(r.Objects) != 3 || r.Objects[2].Label != "0" {
		t.Errorf("threshold 0.1: %+v, %v", r.Objects, err)
	}
	out[3] = floats32([]int{1}, 1)
	if r, err = decodeOne(t, ModelConfig{Output: "detection"}, nil, nil, out); err != nil || len(r.Objects) != 1 {
		t.Errorf("count 1: %+v, %v", r.Objects, err)
	}
}

func TestNotFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		two := floats32([]int{1, 2}, 1, bad)
		good := floats32([]int{1, 2}, 1, 2)
		face := faceOutputs()
		put(face[0], 3, bad)
		det := func(role int) []Tensor {
			out := []Tensor{
				floats32([]int{1, 1, 4}, 0, 0, 1, 1), floats32([]int{1, 1}, 1), floats32([]int{1, 1}, 0.9), floats32([]int{1}, 1),
			}
			put(out[role], 0, bad)
			return out
		}
		for name, c := range map[string]struct {
			kind    string
			in, out []Tensor
		}{
			"classes":         {"classes", nil, []Tensor{two}},
			"raw":             {"raw", nil, []Tensor{good, two}},
			"regression":      {"regression", nil, []Tensor{two}},
			"reconstruction":  {"reconstruction", []Tensor{good}, []Tensor{two}},
			"its input":       {"reconstruction", []Tensor{two}, []Tensor{good}},
			"face logit":      {"blazeface", []Tensor{faceInput()}, face},
			"detection box":   {"detection", nil, det(0)},
			"detection class": {"detection", nil, det(1)},
			"detection score": {"detection", nil, det(2)},
			"detection count": {"detection", nil, det(3)},
		} {
			if r, err := decodeOne(t, ModelConfig{Output: c.kind}, nil, c.in, c.out); err == nil {
				t.Errorf("%s with %v: no error, but %+v", name, bad, r)
			}
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	one := []TensorInfo{{Name: "out", Type: Float32, Shape: []int{1, 2}}}
	for name, c := range map[string]struct {
		cfg       ModelConfig
		ins, outs []TensorInfo
		want      string
	}{
		"unknown kind":    {ModelConfig{Output: "boxes"}, nil, one, "boxes"},
		"no output":       {ModelConfig{}, nil, nil, "no output"},
		"type":            {ModelConfig{}, nil, []TensorInfo{{Name: "text"}}, `"text"`},
		"many labels":     {ModelConfig{Output: "classes", Classes: []string{"a", "b", "c"}}, nil, one, `label_list: 3 labels, and output "out" has 2 classes`},
		"no label file":   {ModelConfig{Labels: "/nowhere.txt"}, nil, one, "/nowhere.txt"},
		"no faces":        {ModelConfig{Output: "blazeface"}, one, one, "896"},
		"four outputs":    {ModelConfig{Output: "detection"}, one, one, "4 outputs"},
		"autoencoder":     {ModelConfig{Output: "reconstruction"}, []TensorInfo{{Shape: []int{3}}}, one, "as large as the input"},
		"too many values": {ModelConfig{Output: "raw"}, nil, []TensorInfo{{Type: Int8, Shape: []int{300, 300}}}, "90000 numbers"},
	} {
		if _, err := newDecoder(c.cfg, c.ins, c.outs, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestLabelFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.txt")
	if err := os.WriteFile(path, []byte("no\r\nyes\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := decodeOne(t, ModelConfig{Output: "classes", Labels: path}, nil, nil, []Tensor{floats32([]int{1, 2}, 0.1, 0.9)})
	if err != nil || r.Label != "yes" {
		t.Errorf("label %q, %v", r.Label, err)
	}
}

// modelInfos are the inputs and outputs of a file.
func modelInfos(t testing.TB, path string) (*model.Model, []TensorInfo, []TensorInfo) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	g := m.Main()
	info := func(list []int) (infos []TensorInfo) {
		kinds := map[model.Type]ElemType{model.Float32: Float32, model.Int8: Int8, model.Uint8: Uint8, model.Int16: Int16, model.Int32: Int32}
		for _, i := range list {
			x := &g.Tensors[i]
			infos = append(infos, TensorInfo{Name: x.Name, Type: kinds[x.Type], Shape: x.Shape})
		}
		return infos
	}
	return m, info(g.Inputs), info(g.Outputs)
}

// TestGuessOutput: what the real models are for is seen without being told.
func TestGuessOutput(t *testing.T) {
	for name, want := range map[string]string{
		"ad01_fp32": "reconstruction", "ad01_int8": "reconstruction",
		"audio_preprocessor_float": "raw",
		"detect":                   "detection", "face_detection_front": "blazeface",
		"hello_world_float": "regression", "hello_world_int8": "regression",
		"keras_lstm_mnist_ptq": "classes", "kws_ref_model": "classes", "kws_ref_model_float32": "classes",
		"micro_speech_quantized": "classes", "mobilenet_v1_0.25_128_quant": "classes", "mobilenet_v2_1.0_224_quant": "classes",
		"movenet_single_pose_lightning_ptq": "raw", "movie_review": "classes", "nl_classifier_with_regex_tokenizer": "classes",
		"pretrainedResnet": "classes", "pretrainedResnet_quant": "classes", "regex_one_embedding_with_metadata": "raw",
		"str_ww_ref_model": "classes", "trained_lstm": "classes", "trained_lstm_int8": "classes",
		"vww_96_float": "classes", "vww_96_int8": "classes", "yamnet_audio_classifier_with_metadata": "classes",
	} {
		m, ins, outs := modelInfos(t, testkit.Shared(t, "models/"+name+".tflite"))
		labels, err := m.Labels()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := guessOutput(ins, outs, m, len(labels) > 0); got != want {
			t.Errorf("%s looks like %s, it is for %s", name, got, want)
		}
	}
}
