package cli_test

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An autoencoder of pictures gives them back. Labels only judge: errors tell what
// is not of the class that was learned.
func TestTrainAutoencoderOfPictures(t *testing.T) {
	dir := t.TempDir()
	learn := idx(t, dir, "train", 300, 0, false)
	out := filepath.Join(dir, "m.tflite")
	said := done(t, "", "train", "--data", learn, "--network", "autoencoder", "--class", "1", "--epochs", "60", "--rate", "0.003", "--out", out)
	if !strings.Contains(said, "81 samples to learn from, 60 that judge") && !strings.Contains(said, "72 samples to learn from, 60 that judge") || !strings.Contains(said, "AUC of the errors") || !strings.Contains(said, "scores (reconstruction errors) of all 100 samples") {
		t.Error(said)
	}
	q, task := judged(t, "--data", learn, "--class", "1", "--positive", "not 1", out)
	if task != "reconstruction" || q["auc"] < 0.8 {
		t.Errorf("%s %v", task, q)
	}
	if _, err := os.Stat(filepath.Join(dir, "m.confusion.svg")); err == nil {
		t.Error("a confusion matrix of what has no classes")
	}
	// Without labels, as a stream recorded them; the set's pictures are of one size.
	loose := filepath.Join(dir, "pictures", "unlabelled")
	if err := os.MkdirAll(loose, 0o700); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 40 {
		var b bytes.Buffer
		if err := png.Encode(&b, bars(r, i%2, 12, 10)); err != nil {
			t.Fatal(err)
		}
		write(t, loose, fmt.Sprintf("%02d.png", i), b.String())
	}
	done(t, "", "dataset", "import", "--data", dir, "porch", filepath.Dir(loose))
	set := filepath.Join(dir, "datasets", "porch")
	for _, data := range []string{set, loose} {
		said = done(t, "", "train", "--data", data, "--network", "autoencoder", "--epochs", "3", "--out", out)
		if !strings.Contains(said, "all pictures are of 10x12x3, and stay so") || !strings.Contains(said, "an alert on what was not among them") {
			t.Error(said)
		}
	}
	// Large ones do not become a network of a hundred million weights unasked.
	large := filepath.Join(dir, "large", "a")
	if err := os.MkdirAll(large, 0o700); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, bars(r, 1, 320, 240), nil); err != nil {
		t.Fatal(err)
	}
	write(t, large, "1.jpg", b.String())
	done(t, "", "dataset", "import", "--data", dir, "hall", filepath.Dir(large))
	for _, data := range []string{filepath.Join(dir, "datasets", "hall"), filepath.Dir(large)} {
		if r := run(t, "", "train", "--data", data, "--network", "autoencoder"); r.code != 2 || !strings.Contains(r.stderr, "--size says how large they are made, such as 96x96x3 (they are of 240x320x3)") {
			t.Errorf("%+v", r)
		}
	}
}

// What cannot be meant is refused with the way out.
func TestTrainTellsTheWay(t *testing.T) {
	dir := t.TempDir()
	table := write(t, dir, "t.csv", "a,b,c\n"+strings.Repeat("1,2,x\n2,3,y\n3,5,x\n", 20))
	few := write(t, dir, "few.csv", "a,c\n1,x\n2,y\n3,x\n4,y\n")
	pictures := idx(t, dir, "train", 60, 0, false)
	model := filepath.Join(dir, "m.tflite")
	done(t, "", "train", "--data", table, "--target", "c", "--epochs", "1", "--out", model)
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a forecast of nothing":     {[]string{"train", "--data", table, "--drop", "c", "--network", "forecast"}, 2, "--window 24 --ahead 6"},
		"--size of a table":         {[]string{"train", "--data", table, "--target", "c", "--size", "8x8"}, 2, "--size is for pictures"},
		"too few":                   {[]string{"train", "--data", few, "--target", "c", "--split", "0.5", "--val", "0.1"}, 2, "--val 0 learns from all of them"},
		"out is a device":           {[]string{"train", "--data", table, "--target", "c", "--out", os.DevNull}, 2, "no regular file"},
		"out is a folder":           {[]string{"train", "--data", table, "--target", "c", "--out", dir}, 2, "no regular file"},
		"checkpoint is a device":    {[]string{"train", "--data", table, "--target", "c", "--checkpoint", os.DevNull, "--resume"}, 2, "no regular file"},
		"an empty folder":           {[]string{"train", "--data", empty}, 3, "empty holds no pictures"},
		"one class":                 {[]string{"train", "--data", write(t, dir, "one.csv", "a,n\n1,5\n2,5\n3,5\n") + "", "--target", "n"}, 3, "one"},
		"no target":                 {[]string{"evaluate", "--no-latency", "--data", table, "--drop", "c", model}, 2, "--target names the column"},
		"head of an autoencoder":    {[]string{"train", "--data", pictures, "--head", model, "--network", "autoencoder"}, 2, "--head learns labels"},
		"import of an empty folder": {[]string{"dataset", "import", "--data", dir, "nothing", empty}, 3, "empty: there is no folder with pictures"},
		"import of IDX alone":       {[]string{"dataset", "import", "--data", dir, "alone", write(t, dir, "pictures.idx", "\x00\x00\x08\x03\x00")}, 3, "given with their labels' file"},
	} {
		if r := run(t, "", c.args...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s is a file now: %v", os.DevNull, err)
	}
	// The labels of an IDX file are found beside it, and its size is what --size says.
	done(t, "", "dataset", "import", "--data", dir, "bars", pictures)
	said := done(t, "", "train", "--data", pictures, "--size", "6x6x1", "--epochs", "1", "--out", model)
	if !strings.Contains(said, " that judge; 5123 weights") {
		t.Error(said)
	}
}
