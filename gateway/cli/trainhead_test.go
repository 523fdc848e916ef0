package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// ends is a context that ends after it was asked n times.
type ends struct {
	context.Context
	n int
}

func (e *ends) Err() error {
	if e.n--; e.n < 0 {
		return context.Canceled
	}
	return nil
}

// head is a training of a head on some pictures of cats and dogs.
func head(t *testing.T, say *bytes.Buffer) *training {
	t.Helper()
	dir := t.TempDir()
	for _, class := range []string{"cat", "other"} {
		from := testkit.Shared(t, "data/cats/"+class)
		files, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, class), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files[:12] {
			if err := os.Symlink(filepath.Join(from, f.Name()), filepath.Join(dir, class, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	tr := &training{cfg: train.DefaultConfig(), say: say, split: 0.25, val: 0.25, out: filepath.Join(t.TempDir(), "it.tflite")}
	tr.data.path, tr.data.fit = dir, "letterbox"
	tr.head = testkit.Shared(t, "models/vww_96_float.tflite")
	tr.network = "mlp"
	return tr
}

// Features that were there when a training was stopped are not computed again,
// and what they are of is what they are: those of all pictures at once are equal.
func TestFeaturesAreKept(t *testing.T) {
	var say bytes.Buffer
	tr := head(t, &say)
	tr.cfg.Augment.Flip = true
	if err := tr.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	learn, hold := tr.learn, tr.hold
	n := hold.Len() + 2*learn.Len()
	err := tr.extract(&ends{t.Context(), hold.Len() + learn.Len() + 3})
	if err == nil || !strings.Contains(err.Error(), "the same command goes on from them") {
		t.Fatal(err)
	}
	say.Reset()
	if err := tr.extract(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "are in " + tr.out + ".features from a training that was cut short"; !strings.Contains(say.String(), want) {
		t.Errorf("%q has no %q", say.String(), want)
	}
	if tr.learn.Len() != 2*learn.Len() || tr.hold.Len()+tr.learn.Len() != n {
		t.Errorf("%d and %d samples", tr.learn.Len(), tr.hold.Len())
	}
	got := tr.learn.Values
	if err := os.WriteFile(tr.out+".features", []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr.learn, tr.hold = learn, hold
	if err := tr.extract(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
	}
	if err := os.Remove(tr.out + ".features"); err != nil {
		t.Fatal(err)
	}
	if err := tr.extract(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, v := range tr.learn.Values {
		if v != got[i] {
			t.Fatalf("feature %d: %v, and %v in two parts", i, v, got[i])
		}
	}
	if half := len(got) / 2; bytes.Equal(floats(got[:half]), floats(got[half:])) {
		t.Error("the pictures are not changed")
	}
}

func floats(v []float32) (b []byte) {
	for _, x := range v {
		b = append(b, byte(int(x*100)))
	}
	return b
}

// What the bytes stand for is asked for, and changes the features; a training to
// the end leaves no features behind.
func TestHeadPixels(t *testing.T) {
	var say bytes.Buffer
	var values [2][]float32
	for i, pixels := range []string{"", "0..1"} {
		tr := head(t, &say)
		tr.pixels, tr.cfg.Epochs = pixels, 2
		if err := tr.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		values[i] = tr.learn.Values
		if _, err := os.Stat(tr.featureFile()); err == nil {
			t.Error("the features of a training that is whole are still there")
		}
	}
	if bytes.Equal(floats(values[0]), floats(values[1])) {
		t.Error("--pixels changes nothing")
	}
	for _, args := range [][]string{
		{"--pixels", "0..255"}, {"--copies", "3"}, {"--head", "x.tflite", "--copies", "3"}, {"--head", "x.tflite", "--pixels", "1..0"},
	} {
		if code := Run(t.Context(), "test", append([]string{"train", "--data", t.TempDir()}, args...)); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// Whatever lies where features are kept is read, or refused; what was written
// comes back.
func FuzzFeatures(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x.features")
	if err := (features{{1}: {1, 2, 3}}).write(path); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[len(featuresMagic)+sha256.Size:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, state []byte) {
		path := filepath.Join(t.TempDir(), "x.features")
		sum := sha256.Sum256(state)
		if err := os.WriteFile(path, bytes.Join([][]byte{[]byte(featuresMagic), sum[:], state}, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readFeatures(path)
		if err != nil {
			return
		}
		if err := got.write(path); err != nil {
			t.Fatal(err)
		}
		again, err := readFeatures(path)
		if err != nil || again.len() != got.len() {
			t.Errorf("%d values, and %d read again: %v", got.len(), again.len(), err)
		}
	})
}
