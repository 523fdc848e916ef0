package cli_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// driftEvent is the alert of drift as its readers see it.
type driftEvent struct {
	Stream, State, Message string
	Drift                  struct {
		Drift       float64
		Feature     string
		Since, Time time.Time
	}
}

// watchedGateway is a running gateway whose streams' drift is looked at.
type watchedGateway struct {
	t      *testing.T
	broker string
	http   string
	data   string
	run    *testkit.Process
	conn   *link.Conn
	events chan link.Msg
}

func startWatched(t *testing.T, dir, config string) *watchedGateway {
	t.Helper()
	g := &watchedGateway{t: t, broker: testkit.FreeAddr(t), http: testkit.FreeAddr(t), data: filepath.Join(dir, "data"), events: make(chan link.Msg, 1000)}
	config += fmt.Sprintf("data: %s\nbroker: {listeners: [{tcp: %q}]}\ndashboard: {listen: %q}\n", g.data, g.broker, g.http)
	g.run = start(t, "run", "--config", write(t, dir, "watched.yaml", config))
	g.run.Line(` ready `)
	var err error
	if g.conn, err = link.Connect(t.Context(), link.Config{URL: "tcp://" + g.broker, ClientID: "reader"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.conn.Close)
	if err := g.conn.Subscribe(t.Context(), []string{"alerts/drift/#"}, 1, func(m link.Msg) { g.events <- m }); err != nil {
		t.Fatal(err)
	}
	return g
}

// until waits until the status of a stream is as it should be.
func (g *watchedGateway) until(stream, what string, cond func(results uint64, state string) bool) {
	g.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + g.http + "/api/status")
		if err != nil {
			g.t.Fatal(err)
		}
		var s struct {
			Streams []struct {
				Stream  string
				Results uint64
				Drift   struct{ State, Text string }
			}
		}
		err = json.NewDecoder(resp.Body).Decode(&s)
		resp.Body.Close()
		if err != nil {
			g.t.Fatal(err)
		}
		for _, one := range s.Streams {
			if one.Stream == stream && cond(one.Results, one.Drift.State) {
				return
			}
			if one.Stream == stream && time.Now().After(deadline) {
				g.t.Fatalf("%s: %s: waited long enough: %+v", stream, what, one)
			}
		}
	}
}

// replay publishes files and waits until all of it is through.
func (g *watchedGateway) replay(topic, stream string, before, n int, files ...string) {
	g.t.Helper()
	done(g.t, "", append([]string{"replay", topic, "--quiet", "--broker", "tcp://" + g.broker}, files...)...)
	g.until(stream, "replayed", func(results uint64, _ string) bool { return results >= uint64(before+n) })
}

// learns publishes what a stream learns, and waits until it has.
func (g *watchedGateway) learns(topic, stream string, n int, file string) {
	g.t.Helper()
	g.replay(topic, stream, 0, n, file)
	g.until(stream, "learned", func(_ uint64, state string) bool { return state == "fills" })
}

// told stops the gateway, which tells all there is to tell, and gives what was
// said of a stream but that it is steady.
func (g *watchedGateway) told() map[string][]driftEvent {
	g.t.Helper()
	g.run.Signal(syscall.SIGTERM)
	if code := g.run.Exit(); code != 0 {
		g.t.Errorf("the gateway ends with %d: %s", code, g.run.Output())
	}
	<-g.conn.Done()
	all := map[string][]driftEvent{}
	for {
		select {
		case m := <-g.events:
			var e driftEvent
			if err := json.Unmarshal(m.Payload, &e); err != nil {
				g.t.Fatal(err)
			}
			g.t.Logf("%s %s at %s (window from %s): %.2f %s", e.Stream, e.State, e.Drift.Time.Format("01-02 15:04"), e.Drift.Since.Format("01-02 15:04"), e.Drift.Drift, e.Message)
			all[e.Stream] = append(all[e.Stream], e)
		default:
			return all
		}
	}
}

// shuffledRows gives rows whose times stay and whose values are in another
// order: it is as each of its parts is.
func shuffledRows(rows [][]string, seed uint64) [][]string {
	out, order := slices.Clone(rows), rand.New(rand.NewPCG(seed, 1)).Perm(len(rows))
	for i, k := range order {
		out[i] = append([]string{rows[i][0]}, rows[k][1:]...)
	}
	return out
}

func rowsFile(t *testing.T, dir, name string, rows [][]string) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintln(&b, strings.Join(r, ","))
	}
	return write(t, dir, name, b.String())
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, ok := train.ParseTime(text)
	if !ok {
		t.Fatalf("%q is no time", text)
	}
	return v
}

// Two public tables through a real gateway, each learned from its first part:
// drift is raised where the data changes and nowhere else, and not at all of
// copies in another order. Where it changes is judged by what the streams do
// not see: NAB's windows, which people set, and whether anybody was in the room.
func TestDriftOfSensors(t *testing.T) {
	shared := func(name string) string { return testkit.Shared(t, "data/"+name) }
	dir := t.TempDir()
	g := startWatched(t, dir, `
gateway: hall-7
streams:
  machine:
    topics: [machine/+]
    input: {csv: {columns: [timestamp, temperature]}, time: timestamp}
    drift: {window: 864, learn: 10000, false_alarms: 0.01}
  mixed-machine:
    topics: [mixed-machine/+]
    input: {csv: {columns: [timestamp, temperature]}, time: timestamp}
    drift: {window: 864, learn: 10000, false_alarms: 0.01}
  room:
    topics: [room/+]
    input:
      csv: {columns: [date, temperature, humidity, light, co2, ratio, occupied], values: [temperature, humidity, light, co2, ratio]}
      time: date
    drift: {window: 1440, learn: 5760, false_alarms: 0.01}
  mixed-room:
    topics: [mixed-room/+]
    input:
      csv: {columns: [date, temperature, humidity, light, co2, ratio, occupied], values: [temperature, humidity, light, co2, ratio]}
      time: date
    drift: {window: 1440, learn: 5760, false_alarms: 0.01}
`)
	// From the day on on which the machine was repaired.
	machine := slices.DeleteFunc(table(t, shared("machine_temperature_system_failure.csv")), func(r []string) bool { return r[0] < "2013-12-18" })
	// The two files follow each other.
	var room [][]string
	for _, r := range append(table(t, shared("occupancy_test.csv")), table(t, shared("occupancy_train.csv"))...) {
		room = append(room, r[1:]) // without the number of the row
	}
	for _, s := range []struct {
		stream string
		rows   [][]string
		learn  int
	}{{"machine", machine, 10000}, {"mixed-machine", shuffledRows(machine, 1), 10000}, {"room", room, 5760}, {"mixed-room", shuffledRows(room, 2), 5760}} {
		g.learns(s.stream+"/7", s.stream, s.learn, rowsFile(t, dir, "learn.csv", s.rows[:s.learn]))
		g.replay(s.stream+"/7", s.stream, s.learn, len(s.rows)-s.learn, rowsFile(t, dir, "rest.csv", s.rows[s.learn:]))
	}
	told := g.told()
	if n := len(told["mixed-machine"]) + len(told["mixed-room"]); n > 0 {
		t.Errorf("copies in another order raise drift: %+v", told)
	}

	// Of the two anomalies that come after what is learned, the second is unlike
	// anything before; the first is within what the machine did in December.
	windows := anomalies(t, shared("nab_windows.json"))
	hits := map[int]bool{}
	for _, e := range told["machine"] {
		if e.State != "raised" {
			continue
		}
		in := slices.IndexFunc(windows, func(w [2]time.Time) bool { return e.Drift.Since.Before(w[1]) && e.Drift.Time.After(w[0]) })
		if in < 0 {
			t.Errorf("machine: raised at %v, where NAB has no anomaly", e.Drift.Time)
		}
		hits[in] = true
	}
	if !hits[3] {
		t.Errorf("machine: not raised in the last anomaly: %+v", told["machine"])
	}

	// The part of a day's window in which somebody is in the room: where it is
	// below that of every such window that was learned, nobody comes.
	const day = 1440
	used := func(from, to int) (n float64) {
		for _, r := range room[from:to] {
			if r[6] == "1" {
				n++
			}
		}
		return n / float64(to-from)
	}
	least := 1.0
	for i := 0; i+day <= 5760; i += 60 {
		least = min(least, used(i, i+day))
	}
	first := -1
	for i := 5760 + day; i < len(room); i++ {
		if used(i-day, i) < least {
			first = i
			break
		}
	}
	events := told["room"]
	if len(events) == 0 || events[0].State != "raised" {
		t.Fatalf("room: %+v", events)
	}
	raised := events[0].Drift.Time
	t.Logf("room: in each day's window that was learned somebody is there for %.3f of it or more; first below at %s, raised at %v", least, room[first][0], raised)
	end := slices.IndexFunc(room, func(r []string) bool { return at(t, r[0]).Equal(raised) }) + 1
	if part := used(end-day, end); part >= least {
		t.Errorf("room: raised at %v, with somebody there for %.3f of the window", raised, part)
	}
	if late := raised.Sub(at(t, room[first][0])); late < 0 || late > 24*time.Hour {
		t.Errorf("room: raised %v after the change", late)
	}
}

// digitsOf are pictures of an IDX file.
func picturesOf(t *testing.T, path string, from, n int) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if binary.BigEndian.Uint32(b) != 0x803 {
		t.Fatalf("%s: no pictures", path)
	}
	var list [][]byte
	for i := from; i < from+n; i++ {
		list = append(list, b[16+i*784:][:784])
	}
	return list
}

// Pictures of digits: a reference made of the file that the model learned from
// is held against others. Their negative, blurred ones and a single digit alone
// drift; others do not. What is kept for labelling can be taken out.
func TestDriftOfPictures(t *testing.T) {
	t.Parallel()
	mnist := filepath.Join(testkit.Cached(t, "mnist/data"))
	dir := t.TempDir()
	model, ref := filepath.Join(dir, "digits.tflite"), filepath.Join(dir, "digits.reference.json")
	learn := filepath.Join(mnist, "train-images-idx3-ubyte")
	done(t, "", "train", "--data", learn, "--network", "mlp", "--samples", "6000", "--epochs", "2", "--val", "0", "--out", model)
	if said := done(t, "", "model", "reference", "--data", learn, "--samples", "4000", "--out", ref, "--drift-window", "256", model); !strings.Contains(said, "4000 samples, windows of up to 256") || !strings.Contains(said, "label") {
		t.Errorf("it said %s", said)
	}
	g := startWatched(t, dir, `
gateway: hall-7
models: {digits: {file: digits.tflite, delegate: builtin}}
streams:
  digits:
    topics: [camera/+]
    input: {image: png}
    model: digits
    drift: {reference: digits.reference.json, window: 256}
`)
	files := 0
	sent := 0
	send := func(pictures [][]byte, change func(p []byte)) {
		t.Helper()
		folder := filepath.Join(dir, fmt.Sprintf("frames%d", files))
		files++
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for i, p := range pictures {
			p = slices.Clone(p)
			change(p)
			var b bytes.Buffer
			if err := png.Encode(&b, &image.Gray{Pix: p, Stride: 28, Rect: image.Rect(0, 0, 28, 28)}); err != nil {
				t.Fatal(err)
			}
			write(t, folder, fmt.Sprintf("%04d.png", i), b.String())
		}
		g.replay("camera/1", "digits", sent, len(pictures), folder)
		sent += len(pictures)
	}
	test := picturesOf(t, filepath.Join(mnist, "t10k-images-idx3-ubyte"), 0, 10_000)
	from := 0
	next := func(n int) [][]byte { from += n; return test[from-n : from] }
	same := func([]byte) {}
	var want []string
	send(next(1024), same)
	for _, change := range []func(p []byte){
		func(p []byte) { // the negative
			for i := range p {
				p[i] = 255 - p[i]
			}
		},
		func(p []byte) { // blurred
			was := slices.Clone(p)
			for i := 29; i+29 < len(p); i++ {
				sum := 0
				for _, k := range []int{-29, -28, -27, -1, 0, 1, 27, 28, 29} {
					sum += int(was[i+k])
				}
				p[i] = byte(sum / 9)
			}
		},
		func(p []byte) { copy(p, test[3]) }, // it stands still
	} {
		send(next(256), change)
		send(next(512), same)
		want = append(want, "raised", "cleared")
	}
	var got []string
	for _, e := range g.told()["digits"] {
		got = append(got, e.State)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	list := done(t, "", "dataset", "list", "--data", g.data)
	out := filepath.Join(dir, "look")
	done(t, "", "dataset", "export", "--data", g.data, "digits.review", out)
	found, _ := filepath.Glob(filepath.Join(out, "unlabelled", "*.png"))
	if !strings.Contains(list, "digits.review") || len(found) < 16 || len(found) > 8*sent/256+8 {
		t.Errorf("%d pictures for labelling: %s", len(found), list)
	}
}
