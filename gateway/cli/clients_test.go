package cli_test

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// gateway runs a gateway with more configuration and returns its process and
// the addresses of its broker and its status page.
func gateway(t *testing.T, more string) (p *testkit.Process, broker, web string) {
	t.Helper()
	broker, web = testkit.FreeAddr(t), testkit.FreeAddr(t)
	dir := t.TempDir()
	config := write(t, dir, "gateway.yaml", fmt.Sprintf("gateway: hall-7\ndata: %s/data\nbroker: {listeners: [{tcp: %q}]%s\ndashboard: {listen: %q}\n", dir, broker, more, web))
	p = start(t, "run", "--config", config)
	p.Line(` ready `)
	return p, broker, web
}

// watching subscribes as a client of its own.
func watching(t *testing.T, broker, filter string) *inbox {
	t.Helper()
	conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: "watching"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return newInbox(t, conn, filter)
}

// done runs a command that must succeed.
func done(t *testing.T, in string, args ...string) string {
	t.Helper()
	got := run(t, in, args...)
	if got.code != 0 {
		t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
	}
	return got.stdout
}

// interrupt ends a command as Ctrl-C does; it must take it well.
func interrupt(t *testing.T, p *testkit.Process) {
	t.Helper()
	p.Signal(syscall.SIGINT)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, p.Output())
	}
}

// cut ends work before its end as Ctrl-C does: it has failed, and says what it
// kept.
func cut(t *testing.T, p *testkit.Process, says string) {
	t.Helper()
	p.Signal(syscall.SIGINT)
	if code := p.Exit(); code != 1 || !strings.Contains(p.Output(), says) {
		t.Errorf("exit code %d after Ctrl-C, without %q:\n%s", code, says, p.Output())
	}
}

func TestPublishAndSub(t *testing.T) {
	_, broker, _ := gateway(t, "}")
	// Before anybody subscribes: who does meanwhile may get it twice.
	done(t, "", "publish", "--broker", broker, "--retain", "kept", "from before")
	sub := start(t, "sub", "--broker", broker, "--count", "4", "a/#", "kept")
	sub.Line(`^kept \(retained\) from before$`)
	done(t, "", "publish", "--broker", "tcp://"+broker, "a/text", `{"v":  1}`)
	sub.Line(`^a/text \{"v": 1\}$`)
	done(t, "", "publish", "--broker", broker, "--qos", "0", "a/file", "@"+write(t, t.TempDir(), "f", "\x00\x01\x1b[2J"))
	sub.Line(`^a/file \(6 bytes\)$`)
	done(t, "piped", "publish", "--broker", broker, "a/stdin", "-")
	sub.Line(`^a/stdin piped$`)
	if code := sub.Exit(); code != 0 {
		t.Errorf("sub --count 4 ended with %d", code)
	}
	if got := done(t, "", "sub", "--broker", broker, "--raw", "--count", "1", "kept"); got != "from before\n" {
		t.Errorf("sub --raw: %q", got)
	}
	if got := run(t, "", "sub", "--broker", broker, "a/#/b"); got.code != 1 || !strings.Contains(got.stderr, "a/#/b") {
		t.Errorf("%d %s", got.code, got.stderr)
	}
	big := write(t, t.TempDir(), "big", strings.Repeat("x", 4<<20))
	if got := run(t, "", "publish", "--broker", broker, "a/big", "@"+big); got.code != 1 || !strings.Contains(got.stderr, "4194304 bytes are more than it takes, for a gateway broker.limits.max_packet_bytes, 1049600 where") || strings.Contains(got.stderr, "user") {
		t.Errorf("%d %s", got.code, got.stderr)
	}
	endless := start(t, "sub", "--broker", broker)
	endless.Line(`^kept \(retained\) from before$`)
	interrupt(t, endless)
}

// Who may not do what it wants is told so, with its name, the topic and what
// would change that; not that a connection was lost.
func TestForbidden(t *testing.T) {
	dir, broker, ws := t.TempDir(), testkit.FreeAddr(t), testkit.FreeAddr(t)
	unix := filepath.Join(dir, "mqtt.sock")
	start(t, "run", "--config", write(t, dir, "gateway.yaml", fmt.Sprintf(`data: %s/data
broker:
  listeners: [{tcp: %q}, {websocket: %q}, {unix: %q}]
  users: {press7: {password: pw, publish: [factory/#], subscribe: [cmd/#]}}
  anonymous: {publish: [open]}
dashboard: {listen: ""}
`, dir, broker, ws, unix))).Line(` ready `)
	t.Setenv("EDGEGATEWAY_PASSWORD", "pw")
	rows := write(t, t.TempDir(), "rows.csv", "1\n2\n3\n")
	for args, want := range map[string]string{
		"publish other/x 1 --user press7":                    `publish other/x: the broker refused it: user "press7" may not publish there; a gateway's configuration allows it: broker.users.press7.publish: ["other/x"]`,
		"publish other/x 1 --user press7 -b ws://" + ws:      `publish other/x: the broker refused it: user "press7"`,
		"publish other/x 1 --user press7 -b unix://" + unix:  `publish other/x: the broker refused it: user "press7"`,
		"publish other/x 1":                                  `publish other/x: the broker refused it: a client without a user may not publish there; --user names one, or a gateway's configuration allows it: broker.anonymous.publish: ["other/x"]`,
		"publish $SYS/x 1 --user press7":                     "publish $SYS/x: the broker refused it: no client publishes to topics that begin with $",
		"publish --host --every 100ms other/x --user press7": `publish other/x: the broker refused it: user "press7"`,
		"replay other/x " + rows + " --user press7":          `publish other/x: the broker refused it: user "press7"`,
		"replay other/x " + rows + " --every 10ms":           `publish other/x: the broker refused it: a client without a user`,
		"sub results/# --user press7":                        `subscribe results/#: the broker refuses it: user "press7" may not subscribe there; a gateway's configuration allows it: broker.users.press7.subscribe: ["results/#"]`,
		"sub results/#":                                      `a client without a user may not subscribe there`,
	} {
		got := run(t, "", append([]string{strings.Fields(args)[0], "--broker", broker}, strings.Fields(args)[1:]...)...)
		if got.code != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %d %q, want %q", args, got.code, got.stderr, want)
		}
	}
	done(t, "", "publish", "factory/a", "1", "--user", "press7", "--broker", broker)
}

// A broker that went away refused nothing.
func TestBrokerGone(t *testing.T) {
	p, broker, _ := gateway(t, "}")
	pub := start(t, "publish", "--host", "--every", "100ms", "--broker", broker, "a")
	in := watching(t, broker, "a")
	in.next()
	p.Kill()
	if code := pub.Exit(); code != 1 || !strings.Contains(pub.Output(), "connection lost: the broker ended it") || strings.Contains(pub.Output(), "refused it") {
		t.Errorf("%d %s", code, pub.Output())
	}
}

func TestPublishHost(t *testing.T) {
	_, broker, _ := gateway(t, "}")
	in := watching(t, broker, "host/#")
	p := start(t, "publish", "--host", "--broker", broker, "--every", "100ms", "host/a/telemetry")
	for n := range 3 {
		var r struct {
			Time, CPU, Memory, Disk float64
			Seq                     int
			Rx, Tx                  *float64
		}
		m := in.next()
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			t.Fatal(err)
		}
		at := time.UnixMicro(int64(r.Time * 1e6))
		if r.Seq != n+1 || time.Since(at).Abs() > time.Hour || r.CPU < 0 || r.CPU > 1 || r.Memory <= 0 || r.Memory >= 1 || r.Disk <= 0 || r.Disk > 1 {
			t.Errorf("reading %d: %s", n, m.Payload)
		}
	}
	interrupt(t, p)
}

func TestReplayRows(t *testing.T) {
	_, broker, _ := gateway(t, "}")
	in := watching(t, broker, "rows")
	file := testkit.Shared(t, "data/occupancy_test.csv")
	got := run(t, "", "replay", "--broker", broker, "--skip", "1", "rows", file)
	if got.code != 0 || !strings.Contains(got.stderr, "2665 messages published") {
		t.Errorf("%d %s", got.code, got.stderr)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(content), "\r", "")), "\n")[1:]
	for n, row := range rows {
		if m := in.next(); string(m.Payload) != row || m.QoS != 1 {
			t.Fatalf("message %d is %q, row %q", n, m.Payload, row)
		}
	}
	if len(rows) != 2665 {
		t.Error(len(rows), "rows")
	}
}

// With the original rhythm nothing comes before its time. Later it may come:
// that is the machine's affair, and no test of it.
func TestReplayRhythm(t *testing.T) {
	_, broker, _ := gateway(t, "}")
	in := watching(t, broker, "rows")
	file := write(t, t.TempDir(), "rows.csv", "date,v\n2024-01-01 00:00:00,1\n2024-01-01 00:00:10,2\n2024-01-01 00:00:10,3\n2024-01-01 00:00:30,4\n")
	began := time.Now()
	start(t, "replay", "--broker", broker, "--original", "date", "--speed", "100", "rows", file)
	for n, least := range []time.Duration{0, 100, 100, 300} {
		m := in.next()
		if want := fmt.Sprint(n + 1); !strings.HasSuffix(string(m.Payload), ","+want) {
			t.Errorf("message %d is %s", n, m.Payload)
		}
		if at := time.Since(began); at < least*time.Millisecond {
			t.Errorf("message %d came after %v, its time is %v ms", n, at, int64(least))
		}
	}
	began = time.Now()
	done(t, "", "replay", "--broker", broker, "--skip", "1", "--every", "50ms", "rows", file)
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("four messages, one each 50 ms, in %v", took)
	}
}

func TestReplayPictures(t *testing.T) {
	_, broker, _ := gateway(t, "}")
	in := watching(t, broker, "camera/#")
	dir := t.TempDir()
	for _, name := range []string{"b.jpg", "a.PNG", "c.bmp", "notes.txt"} {
		write(t, dir, name, "picture "+name)
	}
	p := start(t, "replay", "--broker", broker, "--loop", "--every", "10ms", "camera/door", dir)
	for _, name := range []string{"a.PNG", "b.jpg", "c.bmp", "a.PNG"} {
		if m := in.next(); string(m.Payload) != "picture "+name || m.Topic != "camera/door" {
			t.Errorf("%s: %s, want %s", m.Topic, m.Payload, name)
		}
	}
	interrupt(t, p)
	fast := start(t, "replay", "--broker", broker, "--loop", "camera/fast", dir)
	for in.next().Topic != "camera/fast" {
	}
	interrupt(t, fast)
}

func TestWatchAndRun(t *testing.T) {
	dir, broker, web := t.TempDir(), testkit.FreeAddr(t), testkit.FreeAddr(t)
	file := write(t, dir, "gateway.yaml", fmt.Sprintf("gateway: hall-7\ndata: %s/data\nbroker: {listeners: [{tcp: %q}]}\ndashboard: {listen: %q}\nstreams: {rows: {topics: [rows/+], input: {json: [v]}}}\n", dir, broker, web))
	p := start(t, "run", "--config", file)
	p.Line(` ready `)
	done(t, "", "publish", "--broker", broker, "rows/a", `{"v": 1}`)
	for _, args := range [][]string{{"--url", "http://" + web}, {"--url", web}, {"--url", "http://" + web + "/"}, {"--config", file}} {
		got := done(t, "", append([]string{"watch", "--once"}, args...)...)
		if !regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  gateway hall-7, 0 clients, broker tcp://127`).MatchString(got) || !strings.Contains(got, "\nrows ") {
			t.Errorf("%v: %s", args, got)
		}
	}
	// Into a pipe each table has its time and stands apart from the one before.
	w := start(t, "watch", "--url", web)
	w.Line(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  gateway hall-7`)
	w.Line(`^rows +1 +1 +-`)
	w.Line(`^-{80}$`)
	w.Line(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  gateway hall-7`)
	w.Line(`^rows +1 +1 +0\.0`)
	interrupt(t, w)
	if strings.Contains(w.Output(), "\x1b") {
		t.Errorf("a terminal is steered where there is none: %q", w.Output())
	}

	// The file is wrong since; who looks at the gateway wants to know that too.
	write(t, dir, "gateway.yaml", read(t, file)+"streasm: {}\n")
	if got := done(t, "", "watch", "--once", "--config", file); !strings.Contains(got, "gateway hall-7") {
		t.Error(got)
	}
	quiet := write(t, dir, "quiet.yaml", fmt.Sprintf("data: %s/quiet\nbroker: {listeners: [{tcp: 127.0.0.1:0}]}\ndashboard: {listen: ''}\n", dir))
	start(t, "run", "--config", quiet).Line(` ready `)
	interrupt(t, p)
	p.Line(`stopped`)
	for args, want := range map[string]string{
		"--url ftp://hall":             `2 --url: "ftp://hall" is no address of a dashboard such as http://127.0.0.1:9464 or 127.0.0.1:9464`,
		"--url http://":                "2 --url: ",
		"--url 127.0.0.1:x":            "2 --url: ",
		"--url " + web:                 "1 no gateway answers at http://" + web,
		"--url " + web + " -c " + file: "2 give --url or --config, not both",
		"--config " + file:             "1 no gateway runs on the data folder " + dir + "/data",
		"--config " + dir + "/gone":    "3 configuration: open " + dir + "/gone: no such file",
		"--config " + quiet:            "has no dashboard: dashboard.listen of its configuration is empty",
	} {
		got := run(t, "", append([]string{"watch", "--once"}, strings.Fields(args)...)...)
		if said := fmt.Sprint(got.code, " ", strings.TrimPrefix(got.stderr, "edgegateway: ")); !strings.Contains(said, want) {
			t.Errorf("%s: %q, want %q", args, said, want)
		}
	}
}

// Two gateways on one folder of data would spoil it: the second is told who
// has it.
func TestSecondInstance(t *testing.T) {
	dir := t.TempDir()
	config := func(name string) string {
		return write(t, dir, name+".yaml", fmt.Sprintf("gateway: %s\ndata: %s/data\nbroker: {listeners: [{tcp: 127.0.0.1:0}]}\ndashboard: {listen: ''}\n", name, dir))
	}
	start(t, "run", "--config", config("first")).Line(` ready `)
	got := run(t, "", "run", "--config", config("second"))
	if got.code != 1 || !strings.Contains(got.stderr, `in use by gateway "first", process `) {
		t.Errorf("%d %s", got.code, got.stderr)
	}
}

func TestModelInspect(t *testing.T) {
	file := testkit.Shared(t, "models/hello_world_int8.tflite")
	if got := done(t, "", "model", "inspect", file); !strings.Contains(got, "FULLY_CONNECTED") || strings.Contains(got, "refuse") {
		t.Error(got)
	}
	var report map[string]any
	if err := json.Unmarshal([]byte(done(t, "", "model", "inspect", "--json", file)), &report); err != nil || len(report) == 0 {
		t.Error(report, err)
	}
	if got := done(t, "", "model", "inspect", testkit.Shared(t, "models/person_detect.tflite")); !strings.Contains(got, "would refuse or misread it") {
		t.Error(got)
	}
}

func TestModelTry(t *testing.T) {
	got := done(t, "", "model", "try", testkit.Shared(t, "models/hello_world_float.tflite"))
	if !strings.Contains(got, "builtin") || !strings.Contains(got, "xnnpack:") || strings.Count(got, "chosen") != 1 {
		t.Error(got)
	}
}

// A picture, a row and a raw file are classified at once.
func TestModelRun(t *testing.T) {
	dir := t.TempDir()
	cat := done(t, "", "model", "run", "--labels", testkit.Shared(t, "models/imagenet_labels.txt"),
		testkit.Shared(t, "models/mobilenet_v2_1.0_224_quant.tflite"), testkit.Shared(t, "data/cat.bmp"))
	if !strings.Contains(cat, "  0.969 Egyptian cat\n") {
		t.Error(cat)
	}
	// The small model of a sine: sin(1) and sin(-2) come near.
	sine := testkit.Shared(t, "models/hello_world_float.tflite")
	rows := done(t, "", "model", "run", "--csv", sine, write(t, dir, "rows.csv", "1\n1.5\n"))
	raw := done(t, "", "model", "run", "--raw", sine, write(t, dir, "one.raw", "\x00\x00\x80\x3f"))
	if !strings.Contains(rows, "rows.csv:1 (") || !strings.Contains(rows, "[0.98") || !strings.Contains(raw, "[0.86") || !strings.Contains(rows, "[0.86") {
		t.Errorf("%s%s", rows, raw)
	}
	for args, want := range map[string]string{
		sine + " " + testkit.Shared(t, "data/cat.bmp"):                                                            "use --csv or --raw",
		"--csv " + sine + " " + write(t, dir, "wide.csv", "1,2,3\n"):                                              "line 1",
		"--raw " + sine + " " + write(t, dir, "short.raw", "\x00"):                                                "short.raw",
		"--output clases " + sine + " " + filepath.Join(dir, "one.raw"):                                           "clases",
		testkit.Shared(t, "models/person_detect.tflite") + " " + testkit.Shared(t, "data/person.bmp"):             "convert the model again",
		"--fit none " + sine + " " + testkit.Shared(t, "data/cat.bmp"):                                            "letterbox",
		"--library /gone/libtensorflowlite_c.so " + sine + " --raw " + write(t, dir, "x.raw", "\x00\x00\x00\x00"): "/gone/libtensorflowlite_c.so",
	} {
		got := run(t, "", append([]string{"model", "run"}, strings.Fields(args)...)...)
		if got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %d %q, want %q", args, got.code, got.stderr, want)
		}
	}
}

// The faces of the demonstration are found and drawn where they are.
func TestModelRunDraw(t *testing.T) {
	model, photo := testkit.Cached(t, "demo/face_detection_short_range.tflite"), testkit.Cached(t, "demo/sample1.jpg")
	to := filepath.Join(t.TempDir(), "faces.png")
	got := done(t, "", "model", "run", "--draw", to, model, photo)
	if n := strings.Count(got, "  face 0."); n != 3 {
		t.Errorf("%d faces: %s", n, got)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds() != image.Rect(0, 0, 1920, 1280) {
		t.Error(img.Bounds())
	}
	var box [4]float64
	var score float64
	line := got[strings.Index(got, "  face"):]
	if _, err := fmt.Sscanf(line, "  face %f  box %f %f %f %f", &score, &box[0], &box[1], &box[2], &box[3]); err != nil {
		t.Fatal(err)
	}
	r, g, b, _ := img.At(int((box[0]+box[2])/2*1920), int(box[1]*1280)+4).RGBA()
	if r>>8 != 0 || g>>8 != 220 || b>>8 != 80 {
		t.Errorf("no frame at the top of %v: %d %d %d", box, r>>8, g>>8, b>>8)
	}
}
