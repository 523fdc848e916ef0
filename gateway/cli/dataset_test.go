package cli_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
	"edgegateway/sensors"
)

// A gateway records numbers and pictures with labels of a topic, a command and
// a rule, and is killed again and again while it writes. What it recorded is
// whole, in order and rightly labelled; it is listed, shown, exported, and
// loads for training.
func TestDatasetOfKilledGateway(t *testing.T) {
	t.Parallel()
	dir, local := t.TempDir(), testkit.FreeAddr(t)
	data := filepath.Join(dir, "data")
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: "%s"}]}
streams:
  press:
    topics: [press/+]
    input: {json: [x, y]}
    normalise: {mean: [100], std: [7]}
    record: {label: {topic: state/+, path: state, rule: 'y > 0 ? "high" : ""'}}
  quiet: {topics: [quiet], input: {number: true}, record: {every: "3", max_samples: 20}}
  porch: {topics: [camera/+], input: {image: auto}, record: {label: {topic: door}}}
dashboard: {listen: ""}
`, data, local))
	photo := filepath.Join(dir, "photo.jpg")
	f, err := os.Create(photo)
	if err != nil {
		t.Fatal(err)
	}
	if err := jpeg.Encode(f, image.NewRGBA(image.Rect(0, 0, 64, 48)), nil); err != nil {
		t.Fatal(err)
	}
	f.Close()
	picture, err := os.ReadFile(photo)
	if err != nil {
		t.Fatal(err)
	}
	connect := func() *link.Conn {
		t.Helper()
		c, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + local, ClientID: "sensor"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	send := func(c *link.Conn, topic, payload string) {
		t.Helper()
		if err := c.Publish(t.Context(), link.Msg{Topic: topic, Payload: []byte(payload), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	// recorded waits until so many samples are in a set, as another process
	// sees it that reads while it is written.
	recorded := func(set string, n int) {
		t.Helper()
		for {
			in, err := dataset.Look(dataset.Dir(data, set))
			if err == nil && in.Samples >= n {
				return
			}
			if t.Context().Err() != nil {
				t.Fatalf("%s: %+v %v", set, in, err)
			}
		}
	}
	n := 0
	for round := range 4 {
		p := start(t, "run", "--config", config)
		p.Line(` ready `)
		c := connect()
		send(c, "state/a", `{"state":"run"}`)
		send(c, "door", "open")
		for range 40 {
			n++
			send(c, "press/a", fmt.Sprintf(`{"x":%d,"y":0}`, n))
			send(c, "press/b", fmt.Sprintf(`{"x":%d,"y":%d}`, n, n%2))
			send(c, "quiet", strconv.Itoa(n))
			send(c, "camera/left", string(picture))
		}
		// The last ones may be lost with a kill: half of them are not waited for.
		recorded("press", (round*40)*3/4+30)
		recorded("porch", 1)
		p.Kill()
	}
	p := start(t, "run", "--config", config)
	p.Line(` ready `)
	c := connect()
	if r := run(t, "", "dataset", "label", "press", "fault", "--source", "a", "--for", "1h", "--broker", "tcp://"+local); r.code != 0 || !strings.Contains(r.stdout, `press is labelled "fault"`) {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "", "dataset", "label", "nothing", "fault", "--broker", "tcp://"+local); r.code != 1 || !strings.Contains(r.stderr, `does stream "nothing" record?`) {
		t.Errorf("a stream that does not record: %+v", r)
	}
	for i := range 5 {
		send(c, "press/a", fmt.Sprintf(`{"x":%d,"y":0}`, 1000+i))
	}
	p.Signal(15)
	p.Exit()

	table := filepath.Join(dir, "press.csv")
	if r := run(t, "", "dataset", "export", "--config", config, "press", table); r.code != 0 || !strings.Contains(r.stderr, " 0 left out") {
		t.Fatalf("%+v", r)
	}
	b, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(b))).ReadAll()
	if err != nil || strings.Join(rows[0], ",") != "time,source,label,x,y" {
		t.Fatalf("%v %v", rows[:1], err)
	}
	last, faults := map[string]int{}, 0
	for _, r := range rows[1:] {
		x, err := strconv.Atoi(r[3]) // as it came, not normalised
		if err != nil || x <= last[r[1]] {
			t.Fatalf("%v after %d: %v", r, last[r[1]], err)
		}
		last[r[1]] = x
		want := map[string]string{"a0": "run", "b1": "high"}[r[1]+r[4]]
		if x >= 1000 {
			want = "fault"
			faults++
		}
		if r[2] != want || want == "" {
			t.Fatalf("%v: its label is %q", r, want)
		}
	}
	if faults != 5 {
		t.Errorf("%d samples labelled by command", faults)
	}
	var list []dataset.Info
	r := run(t, "", "dataset", "list", "--data", data, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 3 {
		t.Fatalf("%+v %v", r, err)
	}
	for i, name := range []string{"porch", "press", "quiet"} {
		in := list[i]
		if in.Name != name || in.Damaged != 0 || in.Samples == 0 || name == "quiet" && in.Samples > 20 {
			t.Errorf("%+v", in)
		}
		for _, words := range []string{in.Name, in.Kind, fmt.Sprint(in.Samples)} {
			if r := run(t, "", "dataset", "show", "--data", data, name); r.code != 0 || !strings.Contains(r.stdout, words) {
				t.Errorf("show %s without %q: %+v", name, words, r)
			}
		}
	}
	if r := run(t, "", "dataset", "show", "--data", data, "porch"); !strings.Contains(r.stdout, "jpeg 64x48") || !strings.Contains(r.stdout, ".jpg") {
		t.Errorf("%+v", r)
	}
	out := filepath.Join(dir, "out")
	if r := run(t, "", "dataset", "export", "--data", data, "porch", out); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	files, err := filepath.Glob(filepath.Join(out, "open", "*.jpg"))
	if err != nil || len(files) != list[0].Samples {
		t.Errorf("%d pictures of %d, %v", len(files), list[0].Samples, err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err != nil || string(b) != string(picture) {
			t.Fatalf("%s is not as it came: %v", file, err)
		}
	}
	d, notes, err := dataset.Load(dataset.Dir(data, "press"), dataset.LoadConfig{})
	if err != nil || len(notes) != 0 || d.Len() != len(rows)-1 || strings.Join(d.Classes, " ") != "fault high run" {
		t.Errorf("for training: %v %v", notes, err)
	}
	d, _, err = dataset.Load(dataset.Dir(data, "porch"), dataset.LoadConfig{Picture: sensors.DefaultImageConfig(), Shape: train.Shape{24, 24, 3}})
	if err != nil || d.Len() != len(files) {
		t.Errorf("pictures for training: %v", err)
	}
}

// What the commands on data sets refuse, and how they end.
func TestDatasetCommands(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	table := write(t, dir, "t.csv", "a,b,c\n1,red,0\n2,blue,1\n3,red,1\n")
	bad := write(t, dir, "bad.csv", "a,a\n1,2\n")
	if err := os.MkdirAll(filepath.Join(dir, "none"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"list", 0, "no data sets in"},
		{"show press", 3, `no data set "press" in ` + data + "; there is none"},
		{"import room " + table + " --target c", 0, "room: 3 samples"},
		{"import again " + table, 0, "b       text    input    blue, red"},
		{"import room " + table, 3, `there is a set "room"`},
		{"import x " + bad, 3, `two columns are called "a"`},
		{"import x " + table + " --target d", 3, `there is no column "d"`},
		{"import x " + write(t, dir, "room.csv", "a,Occupancy\n1,0\n2,1\n") + " --target ocupancy", 3, `did you mean "Occupancy"?`},
		{"import x " + dir + "/none", 3, "there is no folder with pictures"},
		{"import x " + dir + "/gone.csv", 3, "no such file"},
		{"import x " + table + " " + table, 3, "is no IDX file"},
		{"list", 0, "room"},
		{"show romm", 3, "there are again, room"},
		{"show room", 0, "b=blue"},
		{"export room -", 0, "time,source,label,a,b=blue,b=red"},
		{"export room " + dir + "/out", 1, ".csv file"},
		{"export room " + dir + "/gone/out.csv", 1, "no such file"},
		{"show", 2, "edgegateway dataset show takes SET"},
	} {
		args := append([]string{"dataset"}, strings.Fields(tt.args)...)
		r := run(t, "", append(args, "--data", data)...)
		out := r.stdout
		if tt.code != 0 {
			out = r.stderr
		}
		if r.code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("dataset %s: %+v; want %d and %q", tt.args, r, tt.code, tt.want)
		}
	}
	for _, args := range []string{"label a/b x", "label a x --for soon", "list --data a --config b"} {
		if r := run(t, "", append([]string{"dataset"}, strings.Fields(args)...)...); r.code != 2 {
			t.Errorf("%s: %+v", args, r)
		}
	}
}
