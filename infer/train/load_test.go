package train

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgegateway/internal/testkit"
)

// uses are the columns of a table by what they are used for.
func uses(columns []Column) map[string]string {
	m := map[string]string{}
	for _, c := range columns {
		m[c.Name] = c.Kind + " " + c.Use
	}
	return m
}

// What the shared tables become: R's row numbers, a byte order mark, times.
func TestLoadCSVRealTables(t *testing.T) {
	for _, tt := range []struct {
		file   string
		cfg    CSVConfig
		rows   int
		uses   map[string]string
		counts []int // samples a class
	}{
		{"occupancy_train.csv", CSVConfig{Target: []string{"Occupancy"}}, 8143, map[string]string{
			"#": "number dropped", "date": "time time", "Temperature": "number input", "Humidity": "number input",
			"Light": "number input", "CO2": "number input", "HumidityRatio": "number input", "Occupancy": "number target",
		}, []int{6414, 1729}},
		{"occupancy_test.csv", CSVConfig{Target: []string{"Occupancy"}, Drop: []string{"Light"}}, 2665, map[string]string{
			"#": "number dropped", "date": "time time", "Temperature": "number input", "Humidity": "number input",
			"Light": "number dropped", "CO2": "number input", "HumidityRatio": "number input", "Occupancy": "number target",
		}, []int{1693, 972}},
		{"ai4i2020.csv", CSVConfig{Target: []string{"Machine failure"}, Drop: []string{"UDI"}}, 10000, map[string]string{
			"UDI": "number dropped", "Product ID": "text dropped", "Type": "text input", "Air temperature [K]": "number input",
			"Process temperature [K]": "number input", "Rotational speed [rpm]": "number input", "Torque [Nm]": "number input",
			"Tool wear [min]": "number input", "Machine failure": "number target",
		}, []int{9661, 339}},
		{"machine_temperature_system_failure.csv", CSVConfig{}, 22695, map[string]string{
			"timestamp": "time time", "value": "number input"}, nil},
	} {
		d, columns, err := LoadCSV(testkit.Shared(t, "data/"+tt.file), tt.cfg)
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
			continue
		}
		if diff := cmp.Diff(tt.uses, uses(columns)); diff != "" {
			t.Errorf("%s: columns (-want +got)\n%s", tt.file, diff)
		}
		counts := make([]int, len(d.Classes))
		for _, l := range d.Labels {
			counts[l]++
		}
		if d.Len() != tt.rows || len(d.Classes) > 0 && !slices.Equal(counts, tt.counts) {
			t.Errorf("%s: %d rows, classes %v %v", tt.file, d.Len(), d.Classes, counts)
		}
		if tt.cfg.Target == nil && !slices.Equal(d.Targets, d.Values) {
			t.Errorf("%s: without a target the inputs are not the targets", tt.file)
		}
		if uses := tt.uses["Type"]; uses != "" && !slices.Equal(d.Features[:3], []string{"Type=H", "Type=L", "Type=M"}) {
			t.Errorf("%s: inputs %v", tt.file, d.Features)
		}
	}
	d, _, err := LoadCSV(testkit.Shared(t, "data/ai4i2020.csv"), CSVConfig{Target: []string{"Machine failure"}, Drop: []string{"UDI"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{0, 0, 1, 298.1, 308.6, 1551, 42.8, 0, 0, 1, 0, 298.2, 308.7, 1408, 46.3, 3}, d.Values[:16]); diff != "" {
		t.Errorf("the first rows (-want +got)\n%s", diff)
	}
}

// Small tables, each with something odd that is read right.
func TestLoadCSVOddTables(t *testing.T) {
	for name, tt := range map[string]struct {
		text     string
		cfg      CSVConfig
		features []string
		values   []float32
		classes  []string
		labels   []int32
		targets  []float32
	}{
		"byte order mark, quotes, CRLF": {"\ufeff\"a, b\",c\r\n\"1\",x\r\n2,\"y\"\"z\"\r\n", CSVConfig{Target: []string{"c"}},
			[]string{"a, b"}, []float32{1, 2}, []string{"x", `y"z`}, []int32{0, 1}, nil},
		"semicolons, a comma in quotes": {"\"a,b,c,d\";e\n1;x\n2;y\n", CSVConfig{Target: []string{"e"}},
			[]string{"a,b,c,d"}, []float32{1, 2}, []string{"x", "y"}, []int32{0, 1}, nil},
		"tabs with empty fields": {"a\tb\tc\n1\t\t0\n2\t5\t1\n\t6\t1\n", CSVConfig{Target: []string{"c"}},
			[]string{"a", "b"}, []float32{1, 5, 2, 5, 2, 6}, []string{"0", "1"}, []int32{0, 1, 1}, nil},
		"missing values": {"a,b,c\n,1,0\nNaN,2,1\n3,?,0\n4,5,1\nnull,6,1\n", CSVConfig{Target: []string{"c"}},
			[]string{"a", "b"}, []float32{3, 1, 3, 2, 3, 2, 4, 5, 4, 6}, []string{"0", "1"}, []int32{0, 1, 0, 1, 1}, nil},
		"text of few values": {"a,b,c\nred,1,0\nblue,2,1\n,3,1\n", CSVConfig{Target: []string{"c"}},
			[]string{"a=blue", "a=red", "b"}, []float32{0, 1, 1, 1, 0, 2, 0, 0, 3}, []string{"0", "1"}, []int32{0, 1, 1}, nil},
		"pandas' row numbers, a constant": {",a,k,c\n0,1,7,u\n1,2,7,v\n", CSVConfig{Target: []string{"c"}},
			[]string{"a"}, []float32{1, 2}, []string{"u", "v"}, []int32{0, 1}, nil},
		"numbers as classes in their order": {"a,c\n1,10\n2,9\n3,2\n", CSVConfig{Target: []string{"c"}},
			[]string{"a"}, []float32{1, 2, 3}, []string{"2", "9", "10"}, []int32{2, 1, 0}, nil},
		"numbers as values": {"a,c\n1,10\n2,9\n3,2\n", CSVConfig{Target: []string{"c"}, Regression: true},
			[]string{"a"}, []float32{1, 2, 3}, nil, nil, []float32{10, 9, 2}},
		"fractions are values": {"a,c\n1,0.5\n2,9\n", CSVConfig{Target: []string{"c"}},
			[]string{"a"}, []float32{1, 2}, nil, nil, []float32{0.5, 9}},
		"two targets": {"a,b,c\n1,2,3\n4,5,6\n", CSVConfig{Target: []string{"b", "c"}},
			[]string{"a"}, []float32{1, 4}, nil, nil, []float32{2, 3, 5, 6}},
		"years and dates are text": {"a,y,c\n1,2013,0\n2,2013-01-01,1\n", CSVConfig{Target: []string{"c"}},
			[]string{"a", "y=2013", "y=2013-01-01"}, []float32{1, 1, 0, 2, 0, 1}, []string{"0", "1"}, []int32{0, 1}, nil},
		"a forecast": {"a\n1\n2\n3\n4\n", CSVConfig{Window: 2, Ahead: 1},
			[]string{"a[-1]", "a[0]"}, []float32{1, 2, 2, 3}, nil, nil, []float32{3, 4}},
		"windows of a target": {"a,c\n1,0\n2,1\n3,0\n", CSVConfig{Target: []string{"c"}, Window: 2},
			[]string{"a[-1]", "a[0]"}, []float32{1, 2, 2, 3}, []string{"0", "1"}, []int32{1, 0}, nil},
	} {
		d, columns, err := parseCSV(strings.NewReader(tt.text), tt.cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := []any{d.Features, d.Values, d.Classes, d.Labels, d.Targets}
		want := []any{tt.features, tt.values, tt.classes, tt.labels, tt.targets}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s%v", name, diff, columns)
		}
	}
}

// Tables that cannot be read, each with the words that say why.
func TestLoadCSVRefuses(t *testing.T) {
	target := CSVConfig{Target: []string{"c"}}
	var many strings.Builder
	many.WriteString("a,c\n")
	for i := range 100 {
		fmt.Fprintf(&many, "%d,name%d\n", i, i)
	}
	for name, tt := range map[string]struct {
		text string
		cfg  CSVConfig
		want string
	}{
		"nothing":             {"", target, "no header"},
		"no rows":             {"a,c\n", target, "no rows"},
		"no header":           {"1,2\n3,4\n", CSVConfig{}, "first line holds numbers alone"},
		"two of one name":     {"a,b,a,c\n1,2,3,4\n", target, `two columns are called "a"`},
		"a ragged row":        {"a,b,c\n1,2,3\n1,2\n", target, "row 2, line 3, has 2 fields, the header 3"},
		"an odd number":       {strings.Replace(many.String(), "\n50,name50", "\n5o,name50", 1), CSVConfig{}, `column "a" is of numbers, but row 51 holds "5o"`},
		"an odd target":       {strings.ReplaceAll(strings.Replace(many.String(), "name50", "x", 1), "name", "1."), target, `target "c" is of numbers, but row 51 holds "x"`},
		"an infinite value":   {strings.Replace(many.String(), "\n50,", "\n+Inf,", 1), CSVConfig{}, `row 51 holds "+Inf"`},
		"ahead of nothing":    {"a\n1\n2\n", CSVConfig{Ahead: 1}, "a forecast needs a window"},
		"ahead with a target": {"a,c\n1,2\n2,3\n3,4\n", CSVConfig{Target: []string{"c"}, Window: 1, Ahead: 1}, "takes no target"},
		"no time to choose":   {"a,c\n1,2\n2,3\n", CSVConfig{Before: time.Unix(9, 0)}, "no times to choose by"},
		"an open quote":       {"a,c\n\"1,2\n", target, "quote"},
		"no such column":      {"a,b\n1,2\n", target, `there is no column "c"; there are a, b`},
		"an empty target":     {"a,c\n1,2\n2,\n", target, "empty in 1 rows"},
		"one class":           {"a,c\n1,x\n2,x\n", target, "x in every row"},
		"a target of names":   {many.String(), target, "more than 64 values"},
		"a target of times":   {"a,c\n1,2024-01-01\n2,2024-01-02\n", target, "is a time"},
		"no input":            {"k,c\n1,0\n1,1\n", target, "no column is left"},
		"a time of numbers":   {"a,c\n1,0\n2,1\n", CSVConfig{Target: []string{"c"}, Time: "a"}, "holds no times"},
		"an empty time":       {"t,a,c\n2024-01-01,1,0\n,2,1\n", CSVConfig{Target: []string{"c"}, Time: "t"}, "empty in 1 rows"},
		"beyond float32":      {"a,c\n1e300,0\n2,1\n", target, "no number"},
		"text among targets":  {"a,b,c\n1,x,1\n2,y,2\n", CSVConfig{Target: []string{"b", "c"}}, "of several targets"},
		"windows of too many": {"a\n1\n2\n", CSVConfig{Window: 3}, "there are 2 rows"},
	} {
		d, _, err := parseCSV(strings.NewReader(tt.text), tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, d, err, tt.want)
		}
	}
}

func idxBytes(kind byte, sizes []uint32, data []byte) []byte {
	b := []byte{0, 0, kind, byte(len(sizes))}
	for _, n := range sizes {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, data...)
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// IDX files, as they are and gzipped, and those that lie.
func TestLoadIDX(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	pixels := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255}
	pictures := idxBytes(8, []uint32{2, 2, 3}, pixels)
	marks := idxBytes(8, []uint32{2}, []byte{2, 0})
	colour := idxBytes(8, []uint32{2, 2, 1, 3}, pixels)
	for name, shape := range map[string]Shape{"plain": {2, 3, 1}, "gzip": {2, 3, 1}, "colour": {2, 1, 3}} {
		p, l := pictures, marks
		switch name {
		case "gzip":
			p, l = zipped(t, p), zipped(t, l)
		case "colour":
			p = colour
		}
		d, err := LoadIDX(save(name+"-p", p), save(name+"-l", l))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(d.Shape, shape) || !bytes.Equal(d.Pixels, pixels) || !slices.Equal(d.Labels, []int32{2, 0}) || !slices.Equal(d.Classes, []string{"0", "1", "2"}) {
			t.Errorf("%s: %+v", name, d)
		}
		x := make([]float32, 6)
		if d.Input(x, 1); x[5] != 1 || math.Abs(float64(x[0])-(6/127.5-1)) > 1e-7 {
			t.Errorf("%s: a network sees %v", name, x)
		}
	}
	broken := zipped(t, pictures)
	broken[len(broken)-6] ^= 1 // of the checksum
	right := save("right-l", marks)
	for name, tt := range map[string]struct {
		pictures []byte
		labels   string
		want     string
	}{
		"empty":             {nil, right, "no IDX file"},
		"a text":            {[]byte("pictures of digits"), right, "no IDX file"},
		"ends in its head":  {pictures[:9], right, "ends in its head"},
		"truncated":         {pictures[:len(pictures)-1], right, "holds 11 of 12 bytes"},
		"truncated gzip":    {zipped(t, pictures)[:30], right, "gzip was cut short"},
		"a broken gzip":     {broken, right, "gzip is damaged"},
		"more than it says": {append(slices.Clone(pictures), 0), right, "more than the 12 bytes"},
		"claims gigabytes":  {idxBytes(8, []uint32{1 << 30, 1 << 30, 1 << 30}, pixels), right, "claims a dimension"},
		"claims much":       {idxBytes(8, []uint32{1 << 10, 1 << 10, 1 << 10}, pixels), right, "holds 12 of 1073741824"},
		"a dimension of 0":  {idxBytes(8, []uint32{2, 0, 3}, nil), right, "claims a dimension of 0"},
		"floats":            {idxBytes(0x0d, []uint32{2, 2, 3}, pixels), right, "type 0xd"},
		"labels as both":    {marks, right, "pictures are"},
		"fewer labels":      {pictures, save("one", idxBytes(8, []uint32{1}, []byte{1})), "[1] labels for 2 pictures"},
		"pictures as both":  {pictures, save("both", pictures), "labels for 2 pictures"},
		"no labels":         {pictures, filepath.Join(dir, "gone"), "gone"},
	} {
		d, err := LoadIDX(save("bad", tt.pictures), tt.labels)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, d, err, tt.want)
		}
	}
}

// Folders by class: a broken picture is named and left out, a class of none
// but such is an error, hidden folders and other files do not count.
func TestLoadFolder(t *testing.T) {
	dir := t.TempDir()
	save := func(name, content string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	decode := func(file, pixels []byte) error {
		if len(file) != len(pixels) {
			return errors.New("broken")
		}
		copy(pixels, file)
		return nil
	}
	shape := Shape{1, 1, 3}
	save("cat/2.JPG", "cde")
	save("cat/1.png", "abc")
	save("cat/notes.txt", "xyz")
	save(".git/1.jpg", "xyz")
	save("stray.jpg", "xyz")
	if _, _, err := LoadFolder(dir, shape, decode, nil, nil); err == nil || !strings.Contains(err.Error(), "1 folders with pictures") {
		t.Errorf("one class: %v", err)
	}
	if d, _, err := LoadPart(dir, shape, decode, nil, nil); err != nil || string(d.Pixels) != "abccde" || !slices.Equal(d.Labels, []int32{0, 0}) || !slices.Equal(d.Classes, []string{"cat"}) {
		t.Errorf("one class as a part: %+v, %v", d, err)
	}
	// Without classes what lies in the folder itself is taken too.
	if d, _, err := LoadPictures(dir, shape, decode, nil, nil); err != nil || string(d.Pixels) != "abccdexyz" || d.Labels != nil || d.Classes != nil {
		t.Errorf("without labels: %+v, %v", d, err)
	}
	if _, _, err := LoadPictures(t.TempDir(), shape, decode, nil, nil); err == nil || !strings.Contains(err.Error(), "neither it nor a folder in it has pictures") {
		t.Errorf("an empty folder: %v", err)
	}
	save("dog/1.bmp", "no")
	if _, refused, err := LoadFolder(dir, shape, decode, nil, nil); err == nil || !strings.Contains(err.Error(), `class "dog"`) || len(refused) != 1 {
		t.Errorf("a class of broken pictures: %v %v", refused, err)
	}
	save("dog/2.jpeg", "efg")
	steps := 0
	d, refused, err := LoadFolder(dir, shape, decode, func(int, int) { steps++ }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(d.Pixels) != "abccdeefg" || !slices.Equal(d.Labels, []int32{0, 0, 1}) || !slices.Equal(d.Classes, []string{"cat", "dog"}) || steps != 4 {
		t.Errorf("%s %v %v, %d steps", d.Pixels, d.Labels, d.Classes, steps)
	}
	if len(refused) != 1 || !strings.Contains(refused[0], filepath.Join("dog", "1.bmp")+": broken") {
		t.Errorf("refused: %v", refused)
	}
	// Only what is picked is read.
	steps = 0
	some, refused, err := LoadFolder(dir, shape, decode, func(int, int) { steps++ }, func(classes []string, labels []int32) []int {
		if !slices.Equal(classes, []string{"cat", "dog"}) || !slices.Equal(labels, []int32{0, 0, 1, 1}) {
			t.Errorf("to pick from: %v %v", classes, labels)
		}
		return []int{1, 3}
	})
	if err != nil || string(some.Pixels) != "cdeefg" || !slices.Equal(some.Labels, []int32{0, 1}) || steps != 2 || len(refused) != 0 {
		t.Errorf("picked: %+v, %v, %v, %d steps", some, refused, err, steps)
	}
	if same, _, err := LoadPictures(dir, shape, decode, nil, nil); err != nil || !slices.Equal(same.Labels, d.Labels) || !slices.Equal(same.Classes, d.Classes) {
		t.Errorf("with classes all the same: %+v, %v", same, err)
	}
}

// Splits: the same part of each class, by the seed and no other; the latest by
// time; groups stay together.
func TestSplitTable(t *testing.T) {
	d, _, err := LoadCSV(testkit.Shared(t, "data/occupancy_train.csv"), CSVConfig{Target: []string{"Occupancy"}})
	if err != nil {
		t.Fatal(err)
	}
	share := func(d *Dataset) float64 {
		ones := 0
		for _, l := range d.Labels {
			ones += int(l)
		}
		return float64(ones) / float64(len(d.Labels))
	}
	a, b, err := d.Split(0.3, false, 1)
	if err != nil {
		t.Fatal(err)
	}
	if a.Len()+b.Len() != d.Len() || math.Abs(share(a)-share(d)) > 1e-3 || math.Abs(share(b)-share(d)) > 1e-3 || b.Len() != 2443 {
		t.Errorf("%d %.4f and %d %.4f of %d %.4f", a.Len(), share(a), b.Len(), share(b), d.Len(), share(d))
	}
	_, same, _ := d.Split(0.3, false, 1)
	_, other, _ := d.Split(0.3, false, 2)
	if !slices.Equal(b.Values, same.Values) || slices.Equal(b.Values, other.Values) {
		t.Error("the seed does not decide")
	}
	early, late, err := d.Split(0.25, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	if first := late.Times[0]; late.Len() != 2036 || early.Times[early.Len()-1].After(first) {
		t.Errorf("by time: %d, from %v", late.Len(), first)
	}
	d.Groups = make([]int32, d.Len())
	for i := range d.Groups {
		d.Groups[i] = int32(i / 100)
	}
	a, b, err = d.Split(0.3, false, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range a.Groups {
		if slices.Contains(b.Groups, g) {
			t.Fatalf("group %d is on both sides", g)
		}
	}
	for _, part := range []float64{0, 1, -1, math.NaN(), 1e-9} {
		if _, _, err := d.Split(part, false, 1); err == nil {
			t.Errorf("split at %v", part)
		}
	}
}

// What is learned of the scale comes from the training part alone: whatever
// stands in the other, it stays. A feature that never changes keeps its scale.
func TestNormOfTrainingPartOnly(t *testing.T) {
	load := func(late string) *Norm {
		t.Helper()
		text := "t,a,k,c\n"
		for i := range 8 {
			v, k := fmt.Sprint(i%2), "5"
			if i >= 6 {
				v = late
			}
			if i == 7 {
				k = "6"
			}
			text += fmt.Sprintf("2024-01-0%d,%s,%s,%d\n", i+1, v, k, i%2)
		}
		d, _, err := parseCSV(strings.NewReader(text), CSVConfig{Target: []string{"c"}})
		if err != nil {
			t.Fatal(err)
		}
		first, _, err := d.Split(0.25, true, 0)
		if err != nil {
			t.Fatal(err)
		}
		return first.LearnNorm()
	}
	want := &Norm{Mean: []float32{0.5, 5}, Std: []float32{0.5, 1}}
	for _, late := range []string{"0", "1000000"} {
		if diff := cmp.Diff(want, load(late)); diff != "" {
			t.Errorf("with %s in the other part: (-want +got)\n%s", late, diff)
		}
	}
}

// Whatever a table holds, it is read into a set that fits together, or refused.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"a,b,c\n1,2,0\n3,4,1\n", "\ufeffa;c\n1;x\n2;y\n", "t,a,c\n2024-01-01 00:00:00,1,0\n2024-01-02 00:00:00,,1\n",
		"\"a\"\tc\n1\t2\n\t3\n", ",a,c\n0,1,u\n1,2,v\n", "a,c\n1e38,nan\n-1e39,1\n", "a|c\nx|1\ny|2\nz|3\n",
	} {
		f.Add([]byte(s), 0, 0)
		f.Add([]byte(s), 1, 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, window, ahead int) {
		for _, target := range [][]string{nil, {"c"}} {
			d, _, err := parseCSV(bytes.NewReader(b), CSVConfig{Target: target, Window: window % 8, Ahead: ahead % 8})
			if err != nil {
				continue
			}
			if err := d.Check(); err != nil {
				t.Fatal(err)
			}
			if len(d.Features) != product(d.Shape) {
				t.Fatalf("%d names of %v", len(d.Features), d.Shape)
			}
		}
	})
}

// An IDX file gives as many bytes as its shape says, or an error.
func FuzzIDX(f *testing.F) {
	right := idxBytes(8, []uint32{2, 2, 3}, make([]byte, 12))
	f.Add(right)
	f.Add(zipped(f, right))
	f.Add(right[:10])
	f.Add(idxBytes(8, []uint32{1 << 31, 2}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		shape, data, err := parseIDX(bytes.NewReader(b))
		if err == nil && len(data) != product(shape) {
			t.Fatalf("%d bytes of %v", len(data), shape)
		}
	})
}
