package sensors

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func assembler(max int, timeout time.Duration) *Assembler {
	return NewAssembler(InputConfig{MaxBytes: max, ChunkTimeout: timeout})
}

func TestChunks(t *testing.T) {
	j := jpegOf(t, 32, 16)
	a := assembler(4096, time.Minute)
	for _, step := range []struct {
		topic   string
		payload []byte
		ok      bool
		reason  string
	}{
		{"cam/a/start", nil, false, ""}, {"cam/a/chunk", j[:100], false, ""}, {"cam/b/image", j[:50], false, ""},
		{"cam/a/chunk", j[100:], false, ""}, {"cam/a/end", nil, true, ""},
		{"cam/b/image", j[50:], false, ""}, {"cam/b/image_end", nil, true, ""},
		{"cam/a/end", nil, false, tornChunks}, {"cam/a/chunk", j, false, tornChunks},
		{"cam/a/start", j[:9], false, ""}, {"cam/a/start", j, false, tornChunks}, {"cam/a/end", nil, true, ""},
		{"cam/a/start", make([]byte, 4000), false, ""}, {"cam/a/chunk", make([]byte, 200), false, tooLarge},
		{"cam/a", j, true, ""},
	} {
		whole, ok, err := a.Add(step.topic, step.payload)
		if ok != step.ok || Reason(err) != step.reason {
			t.Errorf("%s: %v %v, want %v %q", step.topic, ok, err, step.ok, step.reason)
		}
		if ok && !bytes.Equal(whole, j) {
			t.Errorf("%s: the picture is %d bytes, want %d", step.topic, len(whole), len(j))
		}
	}
	if got := ChunkSource("porch/chunk") + ChunkSource("porch/x") + ChunkSource("end"); got != "porchporch/x" {
		t.Errorf("sources %q", got)
	}
}

// The payload of a start may tell about the picture instead of beginning it.
func TestChunkAnnouncement(t *testing.T) {
	j := jpegOf(t, 32, 16)
	for _, start := range []string{"", "begin", "1234", `{"size":1234,"chunks":2,"name":"porch"}`} {
		a := assembler(1<<20, time.Minute)
		a.Add("cam/start", []byte(start))
		a.Add("cam/chunk", j)
		if whole, ok, err := a.Add("cam/end", nil); !ok || !bytes.Equal(whole, j) {
			t.Errorf("after start %q: %v %v", start, ok, err)
		}
	}
}

// A picture that is not complete in time is torn, said once, and its memory
// is free; the next one is whole.
func TestChunkTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := assembler(1000, 10*time.Second)
		piece := bytes.Repeat([]byte{0xff, 0xd8, 0xff}, 20)
		a.Add("cam/start", piece)
		time.Sleep(9 * time.Second)
		if _, _, err := a.Add("cam/chunk", piece); err != nil {
			t.Fatalf("in time: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, _, err := a.Add("cam/chunk", piece); Reason(err) != tornChunks {
			t.Fatalf("too late: %v", err)
		}
		if a.held != 0 || len(a.open) != 0 {
			t.Errorf("%d bytes in %d pictures are still held", a.held, len(a.open))
		}
		a.Add("cam/start", piece)
		time.Sleep(11 * time.Second)
		if _, _, err := a.Add("cam/start", piece); Reason(err) != tornChunks {
			t.Errorf("the late picture was not counted: %v", err)
		}
		if whole, ok, err := a.Add("cam/end", nil); !ok || len(whole) != len(piece) {
			t.Errorf("the picture after it: %d bytes, %v %v", len(whole), ok, err)
		}
	})
}

// A picture whose rest never comes is found without another word on its topic;
// one that has time left says when to look again.
func TestChunksLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := assembler(1000, 10*time.Second)
		if late, next := a.Late(); late != nil || next != 10*time.Second {
			t.Errorf("nothing is under way: %v, %v", late, next)
		}
		piece := bytes.Repeat([]byte{0xff, 0xd8, 0xff}, 20)
		a.Add("cam/a/start", piece)
		time.Sleep(4 * time.Second)
		a.Add("cam/b/image", piece)
		if late, next := a.Late(); late != nil || next != 6*time.Second || a.Open() != 2 {
			t.Errorf("none is late: %v, %v", late, next)
		}
		time.Sleep(6 * time.Second)
		late, next := a.Late()
		if len(late) != 1 || Reason(late[0]) != tornChunks || next != 4*time.Second {
			t.Fatalf("one is late: %v, %v", late, next)
		}
		if want := "topic cam/a: a picture of 60 bytes was begun 10s ago and is not complete"; late[0].Error() != want {
			t.Errorf("it says %q, want %q", late[0], want)
		}
		if a.held != len(piece) || a.Open() != 1 {
			t.Errorf("%d bytes in %d pictures are held", a.held, a.Open())
		}
	})
}

// However many cameras begin pictures, what is held stays bounded and the
// oldest gives way.
func TestChunkBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := assembler(1000, time.Hour)
		torn := 0
		for i := range 500 {
			time.Sleep(time.Millisecond)
			if _, _, err := a.Add(fmt.Sprintf("cam%d/start", i), bytes.Repeat([]byte{0xff, 0xd8, 0xff}, 20)); Reason(err) == tornChunks {
				torn++
			}
			if len(a.open) > maxOpen || a.held > maxHeld*1000 {
				t.Fatalf("%d bytes in %d pictures", a.held, len(a.open))
			}
		}
		if want := 500 - len(a.open); torn != want {
			t.Errorf("%d pictures gave way, %d were counted", want, torn)
		}
		if _, ok := a.open["cam499"]; !ok {
			t.Error("the newest gave way")
		}
		if _, ok := a.open["cam0"]; ok {
			t.Error("the oldest is still there")
		}
	})
}

// Cameras that send at once, each from a goroutine of its own as the broker's
// clients are, get their own pictures back.
func TestChunksOfManyCameras(t *testing.T) {
	a := assembler(1<<16, time.Minute)
	var all sync.WaitGroup
	for c := range byte(8) {
		all.Go(func() {
			cam := fmt.Sprintf("cam%d", c)
			piece := bytes.Repeat([]byte{0xff, 0xd8, 0xff, c}, 50)
			for range 3000 {
				a.Add(cam+"/start", piece)
				a.Add(cam+"/chunk", piece)
				whole, ok, err := a.Add(cam+"/end", piece)
				if !ok || err != nil || !bytes.Equal(whole, bytes.Repeat(piece, 3)) {
					t.Errorf("%s: %d bytes, %v %v", cam, len(whole), ok, err)
					return
				}
			}
		})
	}
	all.Wait()
	if a.held != 0 || len(a.open) != 0 {
		t.Errorf("%d bytes in %d pictures are held", a.held, len(a.open))
	}
}

// FuzzChunks feeds pieces in any order: what comes out whole is within the
// limit, and what is held is what is open.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("\x00start\x01chunk of a picture\x02"), byte(7))
	f.Add([]byte("\x03\xff\xd8\xff\xe0\x04\x02\x01"), byte(3))
	f.Fuzz(func(t *testing.T, script []byte, step byte) {
		a := assembler(64, time.Minute)
		kinds := []string{"start", "chunk", "end", "image", "image_end", "other"}
		for len(script) > 0 {
			n := min(len(script), 1+int(step))
			c := script[0]
			whole, ok, err := a.Add(fmt.Sprintf("cam%d/%s", c>>5, kinds[int(c&31)%len(kinds)]), script[:n])
			if err != nil && Reason(err) == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			if kind := kinds[int(c&31)%len(kinds)]; ok && kind != "other" && len(whole) > 64 {
				t.Fatalf("%d bytes came out, the limit is 64", len(whole))
			}
			held := 0
			for _, p := range a.open {
				held += len(p.data)
			}
			if held != a.held || held > maxHeld*64 {
				t.Fatalf("%d bytes are held, %d are counted", held, a.held)
			}
			script = script[n:]
		}
	})
}
