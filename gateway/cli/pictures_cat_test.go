package cli_test

import (
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// twoHidden is a network with two hidden layers that answers yes or no; its
// loss is binary cross-entropy.
const twoHidden = `layers:
  - {type: flatten}
  - {type: dense, units: 64, activation: relu}
  - {type: dense, units: 16, activation: relu}
  - {type: dense, units: 1, activation: sigmoid}
`

// descent is gradient descent, as the workshop's page says it.
var descent = []string{"--val", "0", "--optimizer", "sgd", "--rate", "0.01", "--batch", "16", "--epochs", "20"}

// long says whether whole data sets are to be gone through, not parts.
func long() bool { return os.Getenv("EDGEGATEWAY_LONG") != "" }

// aPart makes folders of pictures by class, to learn from and held out, of so
// many of each class of a folder, as links.
func aPart(t *testing.T, from string, learn, held int) (toLearn, toJudge string) {
	t.Helper()
	dir := t.TempDir()
	toLearn, toJudge = filepath.Join(dir, "learn"), filepath.Join(dir, "held")
	classes, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range classes {
		files, err := filepath.Glob(filepath.Join(from, c.Name(), "*.jpg"))
		if err != nil || len(files) < learn+held {
			t.Fatalf("%s has %d pictures: %v", c.Name(), len(files), err)
		}
		for i := range learn + held {
			to := toLearn
			if i >= learn {
				to = toJudge
			}
			// Spread over all of them.
			f := files[i*len(files)/(learn+held)]
			if err := os.MkdirAll(filepath.Join(to, c.Name()), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(f, filepath.Join(to, c.Name(), filepath.Base(f))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return toLearn, toJudge
}

// learned runs train and gives the file and how much the file got right of
// what it was not trained on.
func learned(t *testing.T, args ...string) (file string, right float64) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "it.tflite")
	r := run(t, "", append([]string{"train", "--out", file}, args...)...)
	if r.code != 0 {
		t.Fatalf("train %s: %+v", strings.Join(args, " "), r)
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	t.Log(strings.Replace(lines[len(lines)-1], file, "the model", 1))
	var m struct {
		Test struct{ Top1 float64 }
	}
	text, err := os.ReadFile(strings.TrimSuffix(file, ".tflite") + ".metrics.json")
	if err != nil || json.Unmarshal(text, &m) != nil {
		t.Fatalf("%s %v", text, err)
	}
	return file, m.Test.Top1
}

// deployed starts a gateway with a model, publishes the pictures of a folder by
// class with the program's own client, as JPEG at QoS 1, and gives the labels
// that were answered: by class, in the order of the files' names.
func deployed(t *testing.T, model, fit, delegate, pictures string) map[string][]string {
	t.Helper()
	dir, broker := t.TempDir(), testkit.FreeAddr(t)
	p := start(t, "run", "--config", write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s/data
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
models:
  ours: {file: %q, output: classes, top: 1, delegate: %q}
streams:
  look: {topics: [camera/+], input: {image: jpeg}, picture: {fit: %s}, model: ours}
`, dir, broker, model, delegate, fit)))
	p.Line(` ready `)
	conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	results := newInbox(t, conn, "results/look/#")
	classes, err := os.ReadDir(pictures)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string][]string{}
	for _, c := range classes {
		folder := filepath.Join(pictures, c.Name())
		files, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		if r := run(t, "", "replay", "--broker", "tcp://"+broker, "camera/"+c.Name(), folder); r.code != 0 {
			t.Fatalf("replay: %+v", r)
		}
		for range files {
			var body struct{ Source, Label string }
			if m := results.next(); json.Unmarshal(m.Payload, &body) != nil || body.Source != c.Name() || body.Label == "" {
				t.Fatalf("%s: %s", m.Topic, m.Payload)
			}
			said[c.Name()] = append(said[c.Name()], body.Label)
		}
	}
	interrupt(t, p)
	return said
}

// share is how much of what was said is the class itself.
func share(said map[string][]string) float64 {
	right, all := 0, 0
	for class, labels := range said {
		for _, l := range labels {
			if all++; l == class {
				right++
			}
		}
	}
	return float64(right) / float64(all)
}

// Is there a cat in the picture? A head on the features of a public MobileNet,
// two hidden layers, binary cross-entropy, gradient descent, asked over MQTT.
// A part of the pictures by default, all 1,000 of them where it may take long.
func TestCatInThePicture(t *testing.T) {
	t.Parallel()
	// Of 30 pictures one is 3.3 %.
	learn, held, delegate, least := 30, 15, "builtin", 0.9
	if long() {
		learn, held, delegate, least = 350, 150, "auto", 0.95
	}
	cats, mobilenet := testkit.Shared(t, "data/cats"), testkit.Shared(t, "models/mobilenet_v2_1.0_224_quant.tflite")
	toLearn, toJudge := aPart(t, cats, learn, held)
	network := write(t, t.TempDir(), "two.yaml", twoHidden)
	args := append([]string{"--data", toLearn, "--test", toJudge, "--network", network}, descent...)

	model, offline := learned(t, append(args, "--head", mobilenet)...)
	said := deployed(t, model, "letterbox", delegate, toJudge)
	got := share(said)
	t.Logf("the deployed gateway has %.2f %% right of %d and %d", 100*got, len(said["cat"]), len(said["other"]))
	if got < least || offline < least || len(said["cat"]) != held || len(said["other"]) != held {
		t.Errorf("%v right in the gateway, %v of the file", got, offline)
	}
	// The same network on the pixels themselves.
	if _, pixels := learned(t, append(args, "--size", "32x32")...); pixels > offline-0.1 {
		t.Errorf("pixels alone have %v right: then the features are worth little", pixels)
	}
}

// One class of Fashion-MNIST against the rest, by the same command: on pixels,
// and on the features of a MobileNet where it may take long.
func TestOneOfFashion(t *testing.T) {
	const folder = "/usr/share/datasets/fashion-mnist/"
	if _, err := os.Stat(folder); err != nil {
		testkit.Missing(t, "needs Debian's dataset-fashion-mnist")
	}
	const bag = 8
	network := write(t, t.TempDir(), "two.yaml", twoHidden)
	data := []string{"--data", folder + "train-images-idx3-ubyte.gz", "--class", "8", "--network", network}
	samples := "4000"
	if long() {
		samples = "0"
	}
	model, offline := learned(t, slices.Concat(data, descent, []string{"--test", folder + "t10k-images-idx3-ubyte.gz", "--samples", samples, "--epochs", "5"})...)
	if offline < 0.95 {
		t.Errorf("%v of the test file are right", offline)
	}
	// Half bags, so that saying no to all is no answer.
	d, err := train.LoadIDX(folder+"t10k-images-idx3-ubyte.gz", folder+"t10k-labels-idx1-ubyte.gz")
	if err != nil {
		t.Fatal(err)
	}
	pictures, count := t.TempDir(), map[string]int{}
	for i, l := range d.Labels {
		class := "not 8"
		if l == bag {
			class = "8"
		}
		if count[class]++; count[class] <= 100 {
			savePicture(t, filepath.Join(pictures, class, fmt.Sprintf("%05d.jpg", i)), d.Pixels[i*784:(i+1)*784])
		}
	}
	got := share(deployed(t, model, "letterbox", "builtin", pictures))
	t.Logf("the deployed gateway has %.2f %% right of 100 bags and 100 others", 100*got)
	if got < 0.95 {
		t.Errorf("%v right in the gateway", got)
	}
	if !long() {
		return
	}
	if _, right := learned(t, slices.Concat(data, descent, []string{"--samples", "1000", "--split", "0.3", "--head", testkit.Shared(t, "models/mobilenet_v2_1.0_224_quant.tflite")})...); right < 0.95 {
		t.Errorf("%v right on features", right)
	}
}

// savePicture writes grey pixels of 28 lines as a JPEG file.
func savePicture(t *testing.T, path string, pixels []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := jpeg.Encode(f, &image.Gray{Pix: pixels, Stride: 28, Rect: image.Rect(0, 0, 28, 28)}, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
}

// --class takes half of the samples of the class, and only classes that exist;
// IDX pictures are fitted to what a model takes, as far as they have room.
func TestOneClass(t *testing.T) {
	images := filepath.Join(testkit.Cached(t, "mnist/data"), "t10k-images-idx3-ubyte")
	mobilenet := testkit.Shared(t, "models/mobilenet_v1_0.25_128_quant.tflite")
	out := filepath.Join(t.TempDir(), "it.tflite")
	base := []string{"train", "--data", images, "--out", out, "--head", mobilenet, "--epochs", "1"}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, `--class "x" is none of the classes`, []string{"--class", "x"}},
		{2, "--samples 43690 does", nil},
		{0, "", []string{"--class", "3", "--samples", "60", "--split", "0.5"}},
	} {
		if c.want == "--samples 43690 does" {
			base[2] = strings.Replace(images, "t10k", "train", 1)
		}
		r := run(t, "", append(slices.Clone(base), c.args...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %+v", c.args, r)
		}
		base[2] = images
	}
	text, err := os.ReadFile(strings.TrimSuffix(out, ".tflite") + ".metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Test struct {
			Classes []struct {
				Name    string
				Samples int
			}
		}
	}
	if err := json.Unmarshal(text, &m); err != nil || len(m.Test.Classes) != 2 {
		t.Fatalf("%s %v", text, err)
	}
	for i, name := range []string{"not 3", "3"} {
		if c := m.Test.Classes[i]; c.Name != name || c.Samples < 12 || c.Samples > 18 {
			t.Errorf("%+v of 30 judged samples", c)
		}
	}
}
