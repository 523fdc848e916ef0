package cli_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// bomb is a PNG of some bytes that claims w times h pixels.
func bomb(w, h uint32) string {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(name string, data []byte) {
		binary.Write(&b, binary.BigEndian, uint32(len(data)))
		b.WriteString(name)
		b.Write(data)
		binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(append([]byte(name), data...)))
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	chunk("IHDR", append(head, 8, 2, 0, 0, 0))
	chunk("IDAT", []byte{0x78, 0x9c, 3, 0, 0, 0, 0, 1})
	chunk("IEND", nil)
	return b.String()
}

// Damaged and misnamed data: one clear error to each command that takes data,
// with the file, the place in it and the way out, and no model.
func TestDamagedData(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return write(t, dir, name, text) }
	folder := func(name string, files ...string) string { // class/file=content
		for _, f := range files {
			path, content, _ := strings.Cut(f, "=")
			in := filepath.Join(dir, name, filepath.Dir(path))
			if err := os.MkdirAll(in, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, in, filepath.Base(path), content)
		}
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	cut := func(path, name string, n int) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return file(name, string(b[:len(b)-n]))
	}
	plain, zip := idx(t, dir, "whole", 60, 0, false), idx(t, dir, "zip", 60, 0, true)
	labels, zipLabels := filepath.Join(dir, "whole-labels-idx1-ubyte"), filepath.Join(dir, "zip-labels-idx1-ubyte.gz")
	good := "a,b,Occupied\n" + strings.Repeat("1,2,x\n2,3,y\n", 50)
	var odd strings.Builder
	for i := range 200 {
		fmt.Fprintf(&odd, "%d.5,%d\n", i, i%2)
	}
	recorded := folder("set", "00000001.log=00000000 {}\n")
	room := filepath.Join(dir, "room.tflite")
	done(t, "", "train", "--data", file("good.csv", good), "--target", "Occupied", "--epochs", "1", "--out", room)
	out := filepath.Join(dir, "out.tflite")
	runs := 0
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"gzip cut short":      {[]string{"--data", cut(zip, "cut.gz", 50) + "," + zipLabels}, []string{"cut.gz", "cut short", "fetch it again"}},
		"IDX cut short":       {[]string{"--data", cut(plain, "cut.idx", 50) + "," + labels}, []string{"cut.idx", "8590 of 8640 bytes", "fetch it again"}},
		"labels of others":    {[]string{"--data", plain + "," + cut(labels, "few.idx", 8)}, []string{"few.idx", "52 of 60"}},
		"labels swapped":      {[]string{"--data", labels + "," + plain}, []string{"whole-labels", "pictures are"}},
		"no labels there":     {[]string{"--data", file("x-images-idx3-ubyte", "\x00\x00\x08\x03\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x07")}, []string{"x-labels-idx1-ubyte", "no such file"}},
		"ragged":              {[]string{"--data", file("ragged.csv", good+"1,2\n"), "--target", "Occupied"}, []string{"ragged.csv", "row 101, line 102", "has 2 fields"}},
		"an open quote":       {[]string{"--data", file("quote.csv", good+"1,\"2,x\n"), "--target", "Occupied"}, []string{"quote.csv", "line 10"}},
		"a misspelt target":   {[]string{"--data", file("good.csv", good), "--target", "Ocupied"}, []string{"good.csv", `no column "Ocupied"`, `did you mean "Occupied"?`}},
		"another target":      {[]string{"--data", file("good.csv", good), "--target", "zzz"}, []string{"there are a, b, Occupied"}},
		"a number misspelt":   {[]string{"--data", file("odd.csv", "a,y\n"+strings.Replace(odd.String(), "\n77.5", "\n77,5,", 1)), "--target", "y"}, []string{"odd.csv", "row 78"}},
		"text in a number":    {[]string{"--data", file("odd2.csv", "a,y\n"+strings.Replace(odd.String(), "\n77.5", "\n77.S", 1)), "--target", "y"}, []string{"odd2.csv", `column "a"`, `row 78 holds "77.S"`, "correct it"}},
		"a target not there":  {[]string{"--data", file("hole.csv", good+"1,2,NaN\n"), "--target", "Occupied"}, []string{"hole.csv", `target "Occupied" is empty in 1 rows, the first of them row 101`}},
		"one class":           {[]string{"--data", file("one.csv", "a,c\n1,x\n2,x\n"), "--target", "c"}, []string{"one.csv", "x in every row"}},
		"one class of IDX":    {[]string{"--data", plain + "," + file("ones.idx", "\x00\x00\x08\x01\x00\x00\x00\x3c"+strings.Repeat("\x01", 60))}, []string{`the class "1"`, "nothing to tell apart"}},
		"no class":            {[]string{"--data", folder("empty"), "--size", "8x8"}, []string{"empty", "each class is a folder"}},
		"one folder":          {[]string{"--data", folder("single", "cat/a.png=x"), "--size", "8x8"}, []string{"single", "at least two"}},
		"no picture":          {[]string{"--data", folder("words", "cat/a.png=x", "dog/b.png=y"), "--size", "8x8"}, []string{"words", "a.png", "no picture could be read"}},
		"bombs":               {[]string{"--data", folder("bombs", "cat/a.png="+bomb(60000, 60000), "dog/b.png="+bomb(60000, 60000)), "--size", "8x8"}, []string{"bombs", "60000"}},
		"a bomb in one class": {[]string{"--data", mixed(t, dir), "--size", "8x8"}, []string{`no picture of the class "upright"`, "000.png", "60000"}},
		"no size":             {[]string{"--data", mixed(t, dir)}, []string{"--size"}},
		"a torn set":          {[]string{"--data", recorded}, []string{"set", "1 are torn or damaged"}},
		"a time that is none": {[]string{"--data", file("good.csv", good), "--target", "Occupied", "--before", "soon"}, []string{"--before", "soon", "2026-05-01"}},
		"no times":            {[]string{"--data", file("good.csv", good), "--target", "Occupied", "--before", "2026-05-01"}, []string{"good.csv: the samples have no times"}},
		"no such file":        {[]string{"--data", filepath.Join(dir, "none.csv")}, []string{"none.csv", "no such file"}},
		"a binary":            {[]string{"--data", testkit.Shared(t, "models/hello_world_float.tflite")}, []string{"hello_world_float.tflite", "no table of text"}},
	} {
		for _, command := range [][]string{{"train", "--out", out}, {"evaluate", "--no-latency", room}} {
			if command[0] == "evaluate" && (name == "one class of IDX" || name == "no size") {
				continue // one class can be judged; the model says the size
			}
			runs++
			r := run(t, "", append(command, c.args...)...)
			lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
			last := lines[len(lines)-1]
			if r.code != 2 && r.code != 3 {
				t.Errorf("%s: %s: exit code %d: %s", name, command[0], r.code, r.stderr)
			}
			for _, w := range c.want {
				if !strings.Contains(last, w) {
					t.Errorf("%s: %s says %q, nothing of %q", name, command[0], last, w)
				}
			}
			if strings.Contains(r.stderr, "panic") || strings.Contains(r.stderr, "goroutine") || len(last) > 600 {
				t.Errorf("%s: %s: %s", name, command[0], r.stderr)
			}
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%s: a model was written", name)
		}
	}
	t.Logf("%d commands on damaged data, each a clear error", runs)
}

// mixed is a folder with a class that can be read and one of bombs alone.
func mixed(t *testing.T, dir string) string {
	t.Helper()
	data := folders(t, filepath.Join(dir, "mixed"), 3, 16, 16)
	for i := range 3 {
		write(t, filepath.Join(data, "upright"), fmt.Sprintf("%03d.png", i), bomb(60000, 60000))
	}
	return data
}
