package infer

import (
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"image"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// answer runs a shared or cached model once and decodes its outputs as the
// configuration says.
func answer(t testing.TB, path string, cfg ModelConfig, inputs ...[]byte) Result {
	t.Helper()
	m, ins, _ := modelInfos(t, path)
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	out, err := invoke(t, path, builtin, inputs...)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDecoder(cfg, ins, infos(out...), m)
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	var in []Tensor
	for i, x := range ins {
		in = append(in, Tensor{Type: x.Type, Shape: x.Shape, Data: inputs[i]})
	}
	if err := d.decode(in, out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPersonOrNot: the two pictures hold int8 as they stand.
func TestPersonOrNot(t *testing.T) {
	for name, want := range map[string]string{"person": "person", "no_person": "nobody"} {
		p, ok := readPicture(t, testkit.Shared(t, "data/"+name+".bmp")).(*image.Paletted)
		if !ok || len(p.Pix) != 96*96 {
			t.Fatalf("%s.bmp is no 96x96 picture of one byte a pixel", name)
		}
		var in []byte
		for _, b := range p.Pix {
			in = append(in, b, b, b)
		}
		r := answer(t, testkit.Shared(t, "models/vww_96_int8.tflite"), ModelConfig{Classes: []string{"nobody", "person"}}, in)
		t.Logf("%s: %+v", name, r.Top)
		if r.Label != want || r.Score < 0.8 {
			t.Errorf("%s: %s %.3f", name, r.Label, r.Score)
		}
	}
}

// TestPersonDetectIsRefused: the runtime's own words help nobody; ours name
// the fault and the way out.
func TestPersonDetectIsRefused(t *testing.T) {
	path := testkit.Shared(t, "models/person_detect.tflite")
	m, _, _ := modelInfos(t, path)
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "quantized_dimension is 3") || !strings.Contains(err.Error(), "convert the model again") {
		t.Errorf("Check: %v", err)
	}
	if _, err := invoke(t, path, builtin, make([]byte, 96*96)); err == nil {
		t.Error("the runtime takes it: the check is out of date")
	}
}

func TestPhotographs(t *testing.T) {
	for _, c := range []struct {
		photo, model string
		side         int
		want         []string // one of these
	}{
		{"cat.bmp", "mobilenet_v1_0.25_128_quant", 128, []string{"cat", "Egyptian cat", "tabby", "tiger cat", "lynx"}},
		{"cat.bmp", "mobilenet_v2_1.0_224_quant", 224, []string{"cat", "Egyptian cat", "tabby", "tiger cat", "lynx"}},
		{"grace_hopper.bmp", "mobilenet_v2_1.0_224_quant", 224, []string{"military uniform"}},
		{"grace_hopper.bmp", "mobilenet_v1_0.25_128_quant", 128, []string{"academic gown"}},
	} {
		p := readPicture(t, testkit.Shared(t, "data/"+c.photo))
		// The labels are those packed in the model.
		r := answer(t, testkit.Shared(t, "models/"+c.model+".tflite"), ModelConfig{}, rgb(p, c.side, c.side, false))
		t.Logf("%s by %s: %v", c.photo, c.model, r.Top[:3])
		found := false
		for _, w := range c.want {
			found = found || r.Label == w || strings.HasPrefix(r.Label, w+",")
		}
		if !found {
			t.Errorf("%s by %s: %s", c.photo, c.model, r.Label)
		}
	}
}

func TestTwoDogs(t *testing.T) {
	p := readPicture(t, testkit.Shared(t, "data/pets.jpg"))
	r := answer(t, testkit.Shared(t, "models/detect.tflite"), ModelConfig{Labels: testkit.Shared(t, "models/coco_labels.txt"), Threshold: number(0.6)}, rgb(p, 300, 300, false))
	t.Logf("%+v", r.Objects)
	if len(r.Objects) != 2 || r.Objects[0].Label != "dog" || r.Objects[1].Label != "dog" {
		t.Fatalf("found %+v", r.Objects)
	}
	if a, b := r.Objects[0].Box, r.Objects[1].Box; overlap(a, b) > 0.5 {
		t.Errorf("the dogs stand in one place: %v and %v", a, b)
	}
}

// TestFaces: in each photograph of the demonstration a face is found.
func TestFaces(t *testing.T) {
	short := testkit.Cached(t, "demo/face_detection_short_range.tflite")
	front := testkit.Shared(t, "models/face_detection_front.tflite")
	for i := 1; i <= 6; i++ {
		p := readPicture(t, testkit.Cached(t, fmt.Sprintf("demo/sample%d.jpg", i)))
		in := unit(rgb(p, 128, 128, true))
		r := answer(t, short, ModelConfig{}, in)
		if r.Label != "face" || r.Score < 0.5 {
			t.Fatalf("sample%d: %+v", i, r)
		}
		t.Logf("sample%d: short range %d faces, best %.3f at %.3f", i, len(r.Objects), r.Score, r.Objects[0].Box)
		for _, o := range r.Objects {
			checkFace(t, o)
		}
		other := answer(t, front, ModelConfig{}, in)
		t.Logf("sample%d: front %d faces, best %.3f", i, len(other.Objects), other.Score)
		if other.Label != "face" {
			t.Errorf("sample%d: front finds %+v", i, other)
		}
	}
}

// checkFace: eyes above the mouth, the right eye (of the person) left of the
// left one, all of them about the box.
func checkFace(t testing.TB, o Object) {
	t.Helper()
	if len(o.Points) != facePoints {
		t.Fatalf("points %v", o.Points)
	}
	right, left, mouth := o.Points[0], o.Points[1], o.Points[3]
	if right[0] >= left[0] || right[1] >= mouth[1] || left[1] >= mouth[1] {
		t.Errorf("no face has eyes at %v and %v and a mouth at %v", right, left, mouth)
	}
	w, h := o.Box[2]-o.Box[0], o.Box[3]-o.Box[1]
	for _, p := range o.Points {
		if p[0] < o.Box[0]-w/2 || p[0] > o.Box[2]+w/2 || p[1] < o.Box[1]-h/2 || p[1] > o.Box[3]+h/2 {
			t.Errorf("point %v is far from the box %v", p, o.Box)
		}
	}
}

// TestPose holds key points against those published for the photograph, which
// were computed elsewhere from a picture resized in an unknown way: the model
// moves points by 0.02 to 0.05 from one way of resizing to the next, so that
// one coordinate of the 34 may be farther off than 0.02. How well this runtime
// computes, TestDifferential says.
func TestPose(t *testing.T) {
	p := readPicture(t, testkit.Shared(t, "data/squat.bmp"))
	r := answer(t, testkit.Shared(t, "models/movenet_single_pose_lightning_ptq.tflite"), ModelConfig{}, rgb(p, 192, 192, false))
	f, err := os.Open(testkit.Shared(t, "data/movenet_single_pose_lightning_ptq_reference.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Values) != 51 || len(rows) != 18 {
		t.Fatalf("%d values, %d lines in the reference", len(r.Values), len(rows))
	}
	worst, far := 0.0, 0
	for i, row := range rows[1:] { // pose, its score, point, its score, x, y
		for k, column := range []int{5, 4} { // the model says y, x, score
			want, err := strconv.ParseFloat(row[column], 64)
			if err != nil {
				t.Fatal(err)
			}
			off := math.Abs(r.Values[3*i+k] - want)
			worst = max(worst, off)
			if off > 0.02 {
				far++
			}
		}
	}
	t.Logf("farthest key point is off by %.4f, %d of 34 coordinates by more than 0.02", worst, far)
	if worst > 0.03 || far > 1 {
		t.Errorf("key points are off by up to %.4f, %d of 34 coordinates by more than 0.02", worst, far)
	}
}

// TestReviews: two sentences by word ids of the vocabulary.
func TestReviews(t *testing.T) {
	text, err := os.ReadFile(testkit.Shared(t, "models/movie_review_vocab.txt"))
	if err != nil {
		t.Fatal(err)
	}
	vocabulary := map[string]uint32{}
	for line := range strings.Lines(string(text)) {
		word, id, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		vocabulary[word] = uint32(n)
	}
	for sentence, want := range map[string]string{
		"what a wonderful film i loved every minute a brilliant and touching story": "positive",
		"this was the worst movie a boring waste of time with terrible acting":      "negative",
	} {
		ids := []uint32{vocabulary["<START>"]}
		for word := range strings.FieldsSeq(sentence) {
			id, ok := vocabulary[word]
			if !ok {
				t.Fatalf("%q is not in the vocabulary", word)
			}
			ids = append(ids, id)
		}
		in := make([]byte, 4*256)
		for i, id := range ids {
			binary.LittleEndian.PutUint32(in[4*i:], id)
		}
		r := answer(t, testkit.Shared(t, "models/movie_review.tflite"), ModelConfig{Classes: []string{"negative", "positive"}}, in)
		t.Logf("%s: %+v", sentence, r.Top)
		if r.Label != want {
			t.Errorf("%s: %s %.3f", sentence, r.Label, r.Score)
		}
	}
}
