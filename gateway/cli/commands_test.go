package cli_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// How commands end that need nobody else: the exit code, and words that their
// output holds. What is not right names the thing and the way out.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	right := write(t, dir, "right.yaml", "gateway: hall-7\nstreams: {rows: {topics: [rows/+], input: {json: [v]}}}\n")
	wrong := write(t, dir, "wrong.yaml", "gateway: hall-7\nstreems: {}\n")
	text := write(t, dir, "text.tflite", "this is a text and no model at all\n")
	table := write(t, dir, "table.csv", "date,v\n2024-01-01 00:00:00,1\n")
	gone := write(t, dir, "gonemodel.yaml", "data: "+dir+"/data\nbroker: {listeners: [{tcp: \"127.0.0.1:0\"}]}\ndashboard: {listen: \"\"}\nmodels: {m: {file: gone.tflite}}\n")
	broken := write(t, dir, "broken.yaml", "data: "+dir+"/data\nmodels:\n  m: {file: text.tflite}\n")
	used := foreignListener(t)
	busy := write(t, dir, "busy.yaml", "data: "+dir+"/busy\nbroker: {listeners: [{tcp: \"127.0.0.1:0\"}]}\ndashboard: {listen: \""+used+"\"}\n")
	empty := t.TempDir()
	nobody := testkit.FreeAddr(t)
	const ok, failed, usage, invalid = 0, 1, 2, 3
	for _, tt := range []struct {
		args string
		code int
		want string // on stdout where the code is 0, else on stderr
	}{
		{"", ok, "Available Commands"},
		{"--help", ok, "Exit codes"},
		{"version", ok, "edgegateway v0-test"},
		{"--version", ok, "v0-test"},
		{"help run", ok, "--config"},
		{"rum", usage, `no command "rum"; did you mean "run"`},
		{"rum --help", usage, `no command "rum"; did you mean "run"`},
		{"model inspekt -h", usage, `no command "inspekt"; did you mean "inspect"`},
		{"run --confg x", usage, "--confg; see: edgegateway run --help"},
		{"version now", usage, `version takes no argument, "now" is given; see: edgegateway version --help`},

		{"check " + right, ok, "right: gateway hall-7, 1 stream, 0 models, 0 alerts, 0 links up"},
		{"check " + right + " " + wrong, invalid, `wrong.yaml:2:1: unknown key "streems"; did you mean "streams"`},
		{"check " + wrong + " " + right, invalid, `wrong.yaml:2:1: unknown key "streems"`},
		{"check " + dir + "/gone.yaml", invalid, "gone.yaml: no such file"},
		{"check", usage, "edgegateway check takes FILE..., 0 arguments are given; for example: edgegateway check configs/demo.yaml; see: "},
		{"run", invalid, "--config names another file"},
		{"run --config " + wrong, invalid, "wrong.yaml:2:1"},
		{"run --config " + gone, invalid, "gonemodel.yaml:4:14: models.m.file: open " + dir + "/gone.tflite: no such file"},
		{"run --config " + broken, invalid, "broken.yaml:3:7: models.m.file: text.tflite: not a valid .tflite file"},
		{"check " + broken, invalid, "broken.yaml:3:7: models.m.file: text.tflite: not a valid .tflite file"},
		{"run " + right, usage, "; a configuration is named by --config; see: "},
		{"run --config " + busy, failed, "dashboard.listen: listen tcp " + used + ": bind: address already in use; another gateway or program listens there"},
		{"schema", ok, `"$schema"`},

		{"sub --broker " + nobody, failed, nobody + ": nobody listens there"},
		{"sub --broker ftp://hall", usage, "--broker ftp:// is none of mqtt://"},
		{"sub --password-file " + dir + "/gone", failed, "gone: no such file"},
		{"publish a", usage, "a payload or --host"},
		{"publish --host a b", usage, "a payload or --host"},
		{"publish a/# b", usage, "a/#: a wildcard"},
		{"publish a b --qos 2", usage, "--qos is 0 or 1"},
		{"publish a @" + dir + "/gone.jpg", failed, "gone.jpg: no such file"},
		{"publish a b --broker " + nobody, failed, "nobody listens there"},
		{"replay a", usage, "edgegateway replay takes TOPIC FILE|FOLDER..., 1 argument is given; for example: edgegateway replay "},
		{"replay a " + dir + "/gone.csv", failed, "gone.csv: no such file"},
		{"replay a " + empty, failed, "nothing to replay"},
		{"replay a --speed 0 " + table, usage, "--speed is positive"},
		{"replay a --original clock " + table, failed, `no column "clock"`},
		{"watch --once --url http://" + nobody, failed, "no gateway answers at http://" + nobody},
		{"watch --once --url :", usage, "--url"},

		{"model", ok, "inspect"},
		{"model inspct a", usage, `did you mean "inspect"`},
		{"model inspect", usage, "edgegateway model inspect takes FILE, 0 arguments are given; for example: edgegateway model inspect "},
		{"model inspect " + dir + "/gone.tflite", invalid, "gone.tflite: no such file"},
		{"model inspect " + text, invalid, "text.tflite: not a valid .tflite file"},
		{"model try " + text, invalid, "text.tflite: not a valid .tflite file"},
		{"model run " + text + " " + table, invalid, "text.tflite: not a valid .tflite file"},
		{"model run " + text, usage, "edgegateway model run takes FILE INPUT..., 1 argument is given; for example: edgegateway model run "},
		{"completion tcsh", usage, "tcsh"},
	} {
		t.Run(strings.ReplaceAll(tt.args, dir, ""), func(t *testing.T) {
			got := run(t, "", strings.Fields(tt.args)...)
			said, other := got.stdout, got.stderr
			if tt.code != ok {
				said, other = got.stderr, got.stdout
				if n := strings.Count(got.stderr, "\n"); n != 1 || !strings.HasPrefix(got.stderr, "edgegateway: ") {
					t.Errorf("it said %d lines: %s", n, got.stderr)
				}
			}
			if got.code != tt.code || !strings.Contains(said, tt.want) {
				t.Errorf("exit code %d, want %d; it said %q, want %q", got.code, tt.code, said, tt.want)
			}
			if tt.code == ok && other != "" {
				t.Errorf("and on stderr: %s", other)
			}
		})
	}
}

// foreignListener is an address that somebody else listens on.
func foreignListener(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A check tells of a model that is not there: it may be where the gateway runs.
func TestCheckTellsOfAbsentModels(t *testing.T) {
	dir := t.TempDir()
	got := run(t, "", "check", write(t, dir, "hall.yaml", "models: {m: {file: gone.tflite, labels: gone.txt}}\n"))
	for _, want := range []string{"hall.yaml:1:14: models.m.file: ", "hall.yaml:1:33: models.m.labels: ", "run refuses"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("no %q in %s", want, got.stderr)
		}
	}
	if got.code != 0 || !strings.Contains(got.stdout, "right: ") {
		t.Errorf("%d: %s", got.code, got.stdout)
	}
}

// What the schema says of the demonstration's configuration is what the
// loader says.
func TestSchemaIsJSON(t *testing.T) {
	var schema struct {
		Properties map[string]any
	}
	if err := json.Unmarshal([]byte(run(t, "", "schema").stdout), &schema); err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"gateway", "broker", "models", "streams", "alerts", "upstream", "dashboard"} {
		if schema.Properties[section] == nil {
			t.Errorf("no %s", section)
		}
	}
}

// The example configurations are right as they stand, where the set-up brought
// the model that one of them names, and their reader made the keys.
func TestExampleConfigurations(t *testing.T) {
	t.Setenv("EDGEGATEWAY_DEMO_MODEL", testkit.Cached(t, "demo/face_detection_short_range.tflite"))
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testkit.Root(t), "configs"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hall-7", "gateway", "coordinator"} {
		if got := run(t, "", "keys", "new", filepath.Join(dir, name)); got.code != 0 {
			t.Fatal(got.stderr)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	if got := run(t, "", append([]string{"check"}, files...)...); got.code != 0 || strings.Count(got.stdout, ": right: ") != len(files) {
		t.Errorf("%d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// A shell completes commands, flags and names of files by the script that the
// program prints.
func TestCompletion(t *testing.T) {
	bash := testkit.Program(t, "bash")
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "edgegateway")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "completion.bash", run(t, "", "completion", "bash").stdout)
	for line, want := range map[string]string{
		"edgegateway mod":                 "model",
		"edgegateway model in":            "inspect",
		"edgegateway replay --orig":       "--original",
		"edgegateway model run --output ": "blazeface",
		"edgegateway run --config ":       "yaml",
	} {
		words := strings.Split(line, " ")
		// What bash itself does at the Tab key, without the package
		// bash-completion, which may be missing.
		script := fmt.Sprintf(`PATH=%s:$PATH; . %s/completion.bash
words=(%s); cword=%d; cur=%q; COMP_LINE=%q; COMP_POINT=${#COMP_LINE}
__edgegateway_get_completion_results; echo "$directive"; echo "$out"`,
			dir, dir, regexp.MustCompile(`\S+|$`).ReplaceAllString(strings.Join(words[:len(words)-1], " "), `"$0"`)+` "`+words[len(words)-1]+`"`, len(words)-1, words[len(words)-1], line)
		cmd := testkit.Command(t) // for its environment
		cmd.Path, cmd.Args = bash, []string{"bash", "--norc", "-c", script}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v: %s", line, err, out)
		}
	}
	for _, shell := range []string{"zsh", "fish", "powershell"} {
		if got := run(t, "", "completion", shell); got.code != 0 || !strings.Contains(got.stdout, "edgegateway") {
			t.Errorf("%s: %d %s", shell, got.code, got.stderr)
		}
	}
}
