package cli_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// Ctrl-C in the middle of a training: the best so far is a model
// that runs, the same command goes on with --resume, and what comes out is, to
// the last bit, what comes out without the stop.
func TestTrainResumed(t *testing.T) {
	dir := t.TempDir()
	data := testkit.Shared(t, "data/occupancy_train.csv")
	command := func(out, epochs string, more ...string) []string {
		return append([]string{"train", "--data", data, "--target", "Occupancy", "--out", filepath.Join(dir, out), "--epochs", epochs}, more...)
	}
	p := start(t, command("a.tflite", "1000000")...)
	p.Line(`epoch 2 of`)
	cut(t, p, "a.tflite is the best so far; the same command with --resume goes on from")
	epochs := func(out string) int { return len(readFigures(t, filepath.Join(dir, out)).History) }
	ran := epochs("a.tflite")
	if r := run(t, "", "model", "inspect", filepath.Join(dir, "a.tflite")); ran < 2 || r.code != 0 || !strings.Contains(r.stdout, "SOFTMAX") {
		t.Fatalf("after %d epochs: %+v", ran, r)
	}
	before, err := os.ReadFile(filepath.Join(dir, "a.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprint(ran + 3)
	if r := run(t, "", command("a.tflite", all)...); r.code != 2 || !strings.Contains(r.stderr, "--resume") {
		t.Errorf("without --resume: %+v", r)
	}
	if r := run(t, "", command("a.tflite", all, "--resume", "--batch", "32")...); r.code != 3 || !strings.Contains(r.stderr, "another network, configuration or data") {
		t.Errorf("as another training: %+v", r)
	}
	said := done(t, "", command("a.tflite", all, "--resume")...)
	if strings.Contains(said, "epoch 1 of") || !strings.Contains(said, fmt.Sprintf("epoch %s of %s", all, all)) || epochs("a.tflite") != ran+3 {
		t.Errorf("resumed:\n%s", said)
	}
	done(t, "", command("b.tflite", all)...)
	a, errA := os.ReadFile(filepath.Join(dir, "a.tflite"))
	b, errB := os.ReadFile(filepath.Join(dir, "b.tflite"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) || bytes.Equal(a, before) {
		t.Errorf("%d and %d bytes, the same: %v; changed by the rest: %v; %v %v", len(a), len(b), bytes.Equal(a, b), !bytes.Equal(a, before), errA, errB)
	}
	done(t, "", command("c.tflite", all, "--seed", "2")...)
	if c, err := os.ReadFile(filepath.Join(dir, "c.tflite")); err != nil || bytes.Equal(c, b) {
		t.Errorf("another seed gives the same model, %v", err)
	}
}

// Bars across and bars upright, and what is neither: pictures of n classes.
func bars(r *rand.Rand, class, w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	at := 2 + r.IntN(w-4)
	for y := range h {
		for x := range w {
			v := uint8(20 + r.IntN(60))
			if class == 0 && (y == at || y == at+1) || class == 1 && (x == at || x == at+1) || class == 2 && (x-y == at-w/2 || x-y == at-w/2+1) {
				v = 250
			}
			img.Set(x, y, color.RGBA{v, v, uint8(50 * class), 255})
		}
	}
	return img
}

// idx writes pictures and labels as MNIST has them, some of them wrong ones.
func idx(t *testing.T, dir, name string, n, wrong int, zip bool) string {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 1))
	pictures, labels := []byte{0, 0, 8, 3, 0, 0, byte(n >> 8), byte(n), 0, 0, 0, 12, 0, 0, 0, 12}, []byte{0, 0, 8, 1, 0, 0, byte(n >> 8), byte(n)}
	for i := range n {
		img := bars(r, i%3, 12, 12)
		for k := range 144 {
			pictures = append(pictures, img.Pix[4*k])
		}
		label := i % 3
		if i < wrong {
			label = r.IntN(3)
		}
		labels = append(labels, byte(label))
	}
	put := func(name string, b []byte) string {
		if zip {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			w.Close()
			name, b = name+".gz", z.Bytes()
		}
		return write(t, dir, name, string(b))
	}
	put(name+"-labels-idx1-ubyte", labels)
	return put(name+"-images-idx3-ubyte", pictures)
}

// IDX files and a network of one's own; early stopping, curves, confusion and
// metrics beside the model.
func TestTrainIDX(t *testing.T) {
	dir := t.TempDir()
	learn, test := idx(t, dir, "train", 400, 100, true), idx(t, dir, "t10k", 150, 0, true)
	net := write(t, dir, "net.yaml", `layers:
  - {type: conv2d, filters: 8, kernel: 3, batch_norm: true, activation: relu}
  - {type: max_pool}
  - {type: flatten}
  - {type: dropout, rate: 0.1}
  - {type: dense, activation: softmax}
`)
	out := filepath.Join(dir, "m.tflite")
	said := done(t, "", "train", "--data", learn, "--test", test, "--network", net, "--epochs", "300", "--patience", "3", "--rate", "0.01", "--out", out)
	m := readFigures(t, out)
	if m.Test.Samples != 150 || m.Test.Top1 < 0.9 {
		t.Errorf("%+v", m.Test)
	}
	if n := len(m.History); n < 4 || n >= 300 || strings.Count(said, "\nepoch ") != n {
		t.Errorf("%d epochs with patience:\n%s", n, said)
	}
	b, err := os.ReadFile(filepath.Join(dir, "m.metrics.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Config  map[string]any
		History []map[string]*float64
		Test    struct{ Confusion [][]int }
	}
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Config) == 0 || doc.History[0]["val_loss"] == nil || doc.History[0]["accuracy"] == nil {
		t.Errorf("%s %v", b, err)
	}
	total, right := 0, 0
	for i, row := range doc.Test.Confusion {
		right += row[i]
		for _, n := range row {
			total += n
		}
	}
	if total != 150 || float64(right)/150 != m.Test.Top1 {
		t.Errorf("%v: %d of %d, %v", doc.Test.Confusion, right, total, m.Test.Top1)
	}
	for _, name := range []string{"m.curves", "m.confusion"} {
		figure(t, filepath.Join(dir, name))
	}
	// The same pair, named in full and evaluated.
	q, task := judged(t, "--data", test+","+strings.Replace(strings.Replace(test, "images", "labels", 1), "idx3", "idx1", 1), out)
	near(t, q, "top1", m.Test.Top1)
	if task != "classes" || q["samples"] != 150 {
		t.Errorf("%s %v", task, q)
	}
}

// figure is a picture that can be read, as PNG and as SVG.
func figure(t *testing.T, stem string) {
	t.Helper()
	f, err := os.Open(stem + ".png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil || img.Bounds().Dx() < 200 {
		t.Errorf("%s.png: %v", stem, err)
	}
	colors := map[color.Color]bool{}
	for x := range img.Bounds().Dx() {
		for y := range img.Bounds().Dy() {
			colors[img.At(x, y)] = true
		}
	}
	svg, err := os.ReadFile(stem + ".svg")
	if err != nil || len(colors) < 3 || !bytes.Contains(svg, []byte("<svg")) {
		t.Errorf("%s.svg: %v; the picture has %d colours", stem, err, len(colors))
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s.svg: %v", stem, err)
		}
	}
}

// folders writes pictures a class.
func folders(t *testing.T, dir string, each, w, h int) string {
	t.Helper()
	r := rand.New(rand.NewPCG(9, 9))
	for class, name := range []string{"across", "upright"} {
		in := filepath.Join(dir, "pictures", name)
		if err := os.MkdirAll(in, 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range each {
			var b bytes.Buffer
			if err := png.Encode(&b, bars(r, class, w, h)); err != nil {
				t.Fatal(err)
			}
			write(t, in, fmt.Sprintf("%03d.png", i), b.String())
		}
	}
	return filepath.Join(dir, "pictures")
}

// A folder a class, from nothing and as a head on a public model; a picture
// that is none is left out by name.
func TestTrainPictures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := folders(t, dir, 50, 24, 24)
	write(t, filepath.Join(data, "across"), "torn.png", "no picture")
	out := filepath.Join(dir, "m.tflite")
	said := done(t, "", "train", "--data", data, "--size", "16x16x1", "--network", "mlp", "--epochs", "30", "--rate", "0.003", "--out", out)
	if m := readFigures(t, out); m.Test.Samples != 20 || m.Test.Top1 < 0.8 || !strings.Contains(said, "left out: "+filepath.Join(data, "across", "torn.png")) {
		t.Errorf("%+v\n%s", m.Test, said)
	}
	base := testkit.Shared(t, "models/vww_96_int8.tflite")
	head := filepath.Join(dir, "head.tflite")
	done(t, "", "train", "--data", data, "--head", base, "--epochs", "40", "--rate", "0.01", "--out", head)
	if m := readFigures(t, head); m.Test.Samples != 20 || m.Test.Top1 < 0.9 {
		t.Errorf("a head: %+v", m.Test)
	}
	// One file: it takes pictures and says the classes of the folders.
	for _, class := range []string{"across", "upright"} {
		args := []string{"model", "run", head}
		for i := range 10 {
			args = append(args, filepath.Join(data, class, fmt.Sprintf("%03d.png", i)))
		}
		right := 0
		for _, said := range strings.Split(done(t, "", args...), ".png (")[1:] {
			if first := strings.Split(said, "\n")[1]; strings.Contains(first, class) {
				right++
			}
		}
		if right < 8 {
			t.Errorf("%d of 10 are %s to model run", right, class)
		}
	}
	q, _ := judged(t, "--data", data, head)
	if q["samples"] != 100 || q["top1"] < 0.9 {
		t.Errorf("evaluate: %v", q)
	}
}

// --by-time judges by the latest rows: those of a law that began to hold only
// then are not foreseen, which random rows hide.
func TestTrainByTime(t *testing.T) {
	dir := t.TempDir()
	text := "at,x,y\n"
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 500 {
		x := r.Float64()
		at := i * 7 % 500 // the rows stand in another order than they happened
		text += fmt.Sprintf("2026-01-01 %02d:%02d:00,%v,%s\n", at/60, at%60, float32(x), map[bool]string{true: "b", false: "a"}[(x > 0.5) != (at >= 400)])
	}
	data := write(t, dir, "t.csv", text)
	accuracy := func(more ...string) float64 {
		out := filepath.Join(dir, "m.tflite")
		done(t, "", append([]string{"train", "--data", data, "--target", "y", "--epochs", "40", "--rate", "0.02", "--val", "0", "--out", out}, more...)...)
		return readFigures(t, out).Test.Top1
	}
	if random, late := accuracy(), accuracy("--by-time"); random < 0.6 || late > 0.3 {
		t.Errorf("random rows: %v right; the latest: %v", random, late)
	}
}
