package cli_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// Damaged models: every command that takes a model says in one line which file
// it is and what is wrong with it, ends with 3, and writes nothing.
func TestDamagedModels(t *testing.T) {
	dir := t.TempDir()
	data := folders(t, filepath.Join(dir, "data"), 20, 32, 32)
	picture := filepath.Join(data, "upright", "000.png")
	weight := func(x *model.Tensor, v float64) {
		b := append([]byte(nil), x.Buffer...)
		binary.LittleEndian.PutUint32(b, math.Float32bits(float32(v)))
		x.Buffer = b
	}
	var runs int
	for name, c := range map[string]struct {
		from   string
		damage func(g *model.Subgraph)
		word   string // of every refusal
	}{
		"weight":  {"pretrainedResnet", func(g *model.Subgraph) { weight(&g.Tensors[g.Ops[5].Inputs[1]], -1.6e37) }, "weight 0 of"},
		"bias":    {"pretrainedResnet", func(g *model.Subgraph) { weight(&g.Tensors[g.Ops[5].Inputs[2]], math.NaN()) }, "bias 0 of"},
		"scale":   {"pretrainedResnet_quant", func(g *model.Subgraph) { g.Tensors[g.Ops[12].Inputs[0]].Quant.Scale[0] = 1e37 }, "op 12 AVERAGE_POOL_2D"},
		"stride":  {"pretrainedResnet_quant", func(g *model.Subgraph) { g.Ops[0].Builtin.(*model.Conv2DOptions).StrideH = 0 }, "op 0 CONV_2D: a stride"},
		"cut":     {"pretrainedResnet_quant", nil, "cut or damaged"},
		"nothing": {"", nil, "not a valid .tflite file"},
	} {
		var file []byte
		if c.from != "" {
			whole, err := os.ReadFile(testkit.Shared(t, "models/"+c.from+".tflite"))
			if err != nil {
				t.Fatal(err)
			}
			if file = whole[:len(whole)/3]; c.damage != nil {
				m, err := model.Read(whole)
				if err != nil {
					t.Fatal(err)
				}
				c.damage(m.Main())
				if file, err = m.Encode(); err != nil {
					t.Fatal(err)
				}
			}
		}
		path, out := write(t, dir, name+".tflite", string(file)), filepath.Join(dir, "out.tflite")
		gateway := write(t, dir, name+".yaml", "gateway: g\ndata: "+filepath.Join(dir, "d")+"\nmodels: {m: {file: "+path+"}}\nstreams: {s: {topics: [c/+], input: {image: auto}, model: m}}\n")
		for _, args := range [][]string{
			{"model", "run", path, picture},
			{"model", "try", path},
			{"evaluate", "--no-latency", "--data", data, path},
			{"evaluate", path},
			{"quantize", "--out", out, path},
			{"quantize", "--scheme", "float16", "--out", out, "--data", data, path},
			{"sensitivity", path},
			{"prune", path, "--sparsity", "0.5", "--out", out},
			{"cluster", path, "--clusters", "16", "--out", out},
			{"distill", "--teacher", path, "--network", "mlp", "--data", data, "--epochs", "1", "--out", out},
			{"train", "--head", path, "--data", data, "--epochs", "1", "--out", out},
			{"check", gateway},
			{"run", "--config", gateway},
		} {
			runs++
			r := run(t, "", args...)
			said := strings.TrimSpace(r.stderr)
			lines := strings.Split(said, "\n")
			last := lines[len(lines)-1]
			if r.code != 3 {
				t.Errorf("%s: %v: exit code %d: %.600s", name, args, r.code, said)
				continue
			}
			// The float steps refuse what is quantized before they look closer.
			if !strings.Contains(last, c.word) && !strings.Contains(last, "int8 already") {
				t.Errorf("%s: %v says %q, nothing of %q", name, args, last, c.word)
			}
			if !strings.Contains(last, name+".") || strings.Contains(said, "goroutine") || len(last) > 900 {
				t.Errorf("%s: %v: %s", name, args, said)
			}
			if _, err := os.Stat(out); err == nil {
				t.Fatalf("%s: %v: a model was written", name, args)
			}
		}
	}
	t.Logf("%d commands on damaged models, each a clear error", runs)
}
