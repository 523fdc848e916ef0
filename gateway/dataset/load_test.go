package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
	"edgegateway/sensors"
)

// Numbers that were recorded, as the trainer takes them.
func TestLoadNumbers(t *testing.T) {
	dir := t.TempDir()
	s := func(label string, v ...float64) Sample { return Sample{Time: noon, Label: label, Values: v} }
	write(t, dir, Header{Features: []string{"old"}}, plenty, s("x", 9))
	write(t, dir, pair, plenty, s("10", 1, 2), s("9", 3, 4), s("", 5, 6), s("9", 7, 8, 9), s("word", 7, 8))
	d, notes, err := Load(dir, LoadConfig{})
	if err != nil {
		t.Fatal(err)
	}
	want := &train.Dataset{Name: dir, Shape: train.Shape{2}, Features: []string{"x", "y"}, Values: []float32{1, 2, 3, 4, 7, 8},
		Labels: []int32{1, 0, 2}, Classes: []string{"9", "10", "word", "x"}, Times: d.Times}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantNotes := []string{"1 of 6 samples left out: another number of values than 2", "1 of 6 samples left out: recorded with other features than the newest", "1 of 6 samples left out: without a label"}
	if diff := cmp.Diff(wantNotes, notes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	d, notes, err = Load(dir, LoadConfig{Regression: true})
	if err != nil || !slices.Equal(d.Targets, []float32{10, 9}) || d.Width != 1 || len(notes) != 4 {
		t.Errorf("as numbers: %+v %v %v", d, notes, err)
	}
	windows := t.TempDir()
	write(t, windows, Header{Features: []string{"x", "y"}, Readings: true}, plenty, s("", 1, 2, 3, 4), s("", 5, 6, 7, 8))
	d, _, err = Load(windows, LoadConfig{})
	if err != nil || d.Row != 2 || !slices.Equal(d.Features, []string{"x[-1]", "y[-1]", "x[0]", "y[0]"}) || !slices.Equal(d.Targets, d.Values) || d.Width != 4 {
		t.Errorf("windows without labels: %+v %v", d, err)
	}
	if _, _, err := Load(t.TempDir(), LoadConfig{}); err == nil {
		t.Error("an empty folder loads")
	}
}

// Pictures are decoded as the stream decodes them for its model.
func TestLoadPictures(t *testing.T) {
	dir := t.TempDir()
	wide := jpegOf(t, 40, 20, color.White)
	write(t, dir, Header{Pictures: true}, plenty,
		Sample{Label: "white", Picture: wide}, Sample{Label: "black", Picture: jpegOf(t, 20, 20, color.Black)},
		Sample{Label: "white", Picture: wide[:len(wide)/2]}, Sample{Picture: wide})
	cfg := LoadConfig{Picture: sensors.DefaultImageConfig(), Shape: train.Shape{8, 8, 3}}
	d, notes, err := Load(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if d.Len() != 2 || !slices.Equal(d.Labels, []int32{1, 0}) || !slices.Equal(d.Classes, []string{"black", "white"}) || len(notes) != 2 {
		t.Fatalf("%d samples, %v of %v, %v", d.Len(), d.Labels, d.Classes, notes)
	}
	want := make([]byte, 8*8*3*4)
	if _, err := sensors.NewImageDecoder().Into(wide, cfg.Picture, sensors.Target{W: 8, H: 8, C: 3, Type: sensors.Float32, Data: want}); err != nil {
		t.Fatal(err)
	}
	// What a float model is given is what the network sees.
	seen := make([]float32, 8*8*3)
	d.Input(seen, 0)
	for i, v := range floats(want) {
		if diff := v - seen[i]; diff > 0.005 || diff < -0.005 {
			t.Fatalf("value %d: the gateway gives %v, the trainer sees %v", i, v, seen[i])
		}
	}
	if seen[0] != -1 { // the bar of a letterbox
		t.Errorf("the first pixel is %v", seen[0])
	}
	for name, cfg := range map[string]LoadConfig{"no shape": {Picture: cfg.Picture}, "mean": {Picture: sensors.ImageConfig{Fit: "stretch", MaxPixels: 1e6, Mean: []float64{1}}, Shape: cfg.Shape}} {
		if _, _, err := Load(dir, cfg); err == nil {
			t.Errorf("%s: loads", name)
		}
	}
}

// Out and in again: the table that is exported is read as what was recorded,
// and so are the pictures by class.
func TestExportImport(t *testing.T) {
	data := t.TempDir()
	dir := Dir(data, "press")
	var samples []Sample
	for i := range 30 {
		s := values(i)
		s.Label = []string{"ok", "fault, \"hot\""}[i%2]
		s.Values[1] = 1 / float64(i+3)
		samples = append(samples, s)
	}
	write(t, dir, pair, plenty, samples...)
	var table bytes.Buffer
	rows, left, err := ExportCSV(dir, &table, nil)
	if err != nil || rows != 30 || left != 0 {
		t.Fatal(rows, left, err)
	}
	if first, _, _ := strings.Cut(table.String(), "\n"); first != "time,source,label,x,y" {
		t.Errorf("header %s", first)
	}
	csv := filepath.Join(data, "press.csv")
	if err := os.WriteFile(csv, table.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, _, err := ImportCSV(data, "again", csv, train.CSVConfig{Target: []string{"label"}}, nil); err != nil || n != 30 {
		t.Fatal(n, err)
	}
	first, _, err := Load(dir, LoadConfig{})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Load(Dir(data, "again"), LoadConfig{})
	if err != nil {
		t.Fatal(err)
	}
	second.Name = first.Name
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-recorded +exported and imported)\n%s", diff)
	}
	if _, _, err := ImportCSV(data, "again", csv, train.CSVConfig{}, nil); err == nil || !strings.Contains(err.Error(), `there is a set "again"`) {
		t.Errorf("twice: %v", err)
	}
	if _, _, err := ExportPictures(dir, t.TempDir(), nil); err == nil {
		t.Error("numbers are exported as pictures")
	}

	porch := Dir(data, "porch")
	photo := jpegOf(t, 16, 16, color.White)
	write(t, porch, Header{Pictures: true}, plenty, Sample{Time: noon, Label: "../cat", Picture: photo}, Sample{Time: noon, Label: "dog", Picture: photo}, Sample{Picture: photo})
	out := filepath.Join(data, "out")
	if n, _, err := ExportPictures(porch, out, nil); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	if err := os.WriteFile(filepath.Join(out, "dog", "broken.jpg"), []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, refused, err := ImportFolder(data, "sorted", out, nil)
	if err != nil || n != 3 || len(refused) != 1 {
		t.Fatal(n, refused, err)
	}
	in, err := Look(Dir(data, "sorted"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Class{{"", 1}, {"_..-cat", 1}, {"dog", 1}}, in.Classes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got, _ := all(t, Dir(data, "sorted")); !bytes.Equal(got[0].Picture, photo) {
		t.Error("a picture is not as it came")
	}
}

// MNIST's form in, and the same pixels out.
func TestImportIDX(t *testing.T) {
	data := t.TempDir()
	pixels := make([]byte, 3*4*5)
	for i := range pixels {
		pixels[i] = byte(i * 4)
	}
	images, marks := filepath.Join(data, "i"), filepath.Join(data, "l")
	if err := errors.Join(os.WriteFile(images, append([]byte{0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5}, pixels...), 0o600),
		os.WriteFile(marks, []byte{0, 0, 8, 1, 0, 0, 0, 3, 1, 0, 1}, 0o600)); err != nil {
		t.Fatal(err)
	}
	if n, err := ImportIDX(data, "digits", images, marks, nil); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	d, _, err := Load(Dir(data, "digits"), LoadConfig{Picture: sensors.DefaultImageConfig(), Shape: train.Shape{4, 5, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.Pixels, pixels) || !slices.Equal(d.Labels, []int32{1, 0, 1}) {
		t.Errorf("%v %v", d.Pixels, d.Labels)
	}
}

// An import that fails, or is stopped, leaves nothing; a real table comes in.
func TestImport(t *testing.T) {
	data := t.TempDir()
	file := testkit.Shared(t, "data/occupancy_train.csv")
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := ImportCSV(data, "room", file, train.CSVConfig{Target: []string{"Occupancy"}}, func(done int) error {
		if done == 100 {
			cancel()
		}
		return ctx.Err()
	})
	if left, _ := filepath.Glob(filepath.Join(data, "datasets", "*")); !errors.Is(err, context.Canceled) || len(left) != 0 {
		t.Fatalf("stopped: %v, left %v", err, left)
	}
	if left, _ := filepath.Glob(filepath.Join(data, "datasets", ".*")); len(left) != 0 {
		t.Fatalf("left %v", left)
	}
	n, _, err := ImportCSV(data, "room", file, train.CSVConfig{Target: []string{"Occupancy"}}, nil)
	if err != nil || n != 8143 {
		t.Fatal(n, err)
	}
	straight, _, err := train.LoadCSV(file, train.CSVConfig{Target: []string{"Occupancy"}})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := Load(Dir(data, "room"), LoadConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d.Name = straight.Name
	if diff := cmp.Diff(straight, d); diff != "" {
		t.Errorf("(-the table +the set)\n%.2000s", diff)
	}
	list, err := List(data)
	if err != nil || len(list) != 1 || list[0].Name != "room" || list[0].Samples != 8143 || fmt.Sprint(list[0].Classes) != "[{0 6414} {1 1729}]" || list[0].Features[2].High < 1546 || list[0].Features[2].High > 1547 {
		t.Errorf("%+v %v", list, err)
	}
}
