package drift

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// drawn is a made-up picture: a bright bar on dark ground somewhere.
func drawn(rng *rand.Rand, pix []byte) {
	at := 4 + rng.IntN(16)
	for i := range pix {
		x, y := i%28, i/28
		pix[i] = byte(rng.IntN(20))
		if x >= at && x < at+4 && y > 4 && y < 24 {
			pix[i] = byte(200 + rng.IntN(50))
		}
	}
}

// Pictures that are brighter, turned to their negative, blurred or of
// something else are told from those that were learned; others are not.
func TestPictures(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pix, work := make([]byte, 28*28), make([]byte, 28*28)
	var look Look
	pixel := func(i int) float64 { return float64(pix[i]) }
	l, err := NewLearner(append(PictureNames, "score"), len(PictureNames), false, 600)
	if err != nil {
		t.Fatal(err)
	}
	for !l.Full() {
		drawn(rng, pix)
		look.From(28, 28, 1, pixel)
		l.AddPicture(&look, []float64{rng.Float64()}, "")
	}
	ref, err := l.Reference()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := ref.Write(&file); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", file.Len())
	if ref, err = Read(&file); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func()
		drifts bool
	}{
		{"unchanged", func() {}, false},
		{"brighter", func() {
			for i := range pix {
				pix[i] = byte(min(255, int(pix[i])+30))
			}
		}, true},
		{"negative", func() {
			for i := range pix {
				pix[i] = 255 - pix[i]
			}
		}, true},
		{"blurred", func() {
			copy(work, pix)
			for i := 1; i+1 < len(pix); i++ {
				pix[i] = byte((int(work[i-1]) + int(work[i]) + int(work[i+1])) / 3)
			}
		}, true},
		{"lying", func() {
			copy(work, pix)
			for i := range pix {
				pix[i] = work[i%28*28+i/28]
			}
		}, true},
	} {
		m, err := NewMonitor(ref, Config{100, 0.001})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			drawn(rng, pix)
			c.change()
			look.From(28, 28, 1, pixel)
			if _, ok := m.AddPicture(&look, []float64{rng.Float64()}, ""); !ok {
				t.Fatal("refused")
			}
		}
		v := m.Judge(true)
		t.Logf("%s: %.2f %s", c.name, v.Drift, v.Feature)
		if (v.Drift > 1) != c.drifts || v.Feature == "score" && c.drifts {
			t.Errorf("%s: %+v", c.name, v)
		}
		if n := testing.AllocsPerRun(20, func() {
			look.From(28, 28, 1, pixel)
			m.AddPicture(&look, []float64{0.5}, "")
		}); n != 0 {
			t.Errorf("%v allocations a picture", n)
		}
	}
}

// Any size is looked at, and all of it.
func TestLook(t *testing.T) {
	for _, s := range [][3]int{{1, 1, 1}, {3, 5, 3}, {16, 16, 1}, {640, 480, 3}} {
		w, h, c := s[0], s[1], s[2]
		var l Look
		l.From(w, h, c, func(i int) float64 {
			if i < 0 || i >= w*h*c {
				t.Fatalf("%v: pixel %d", s, i)
			}
			return 96
		})
		if l.Bright != 96 || l.Contrast != 0 || l.Sharp != 0 || l.Histogram[6] != 1 {
			t.Errorf("%v: %+v", s, l)
		}
	}
}
