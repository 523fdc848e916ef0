package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// away is the line of a cloud that does not let the gateway in.
var away = regexp.MustCompile(`(not let this user|not right).*the cloud is away`)

// No password shows in a log, an error, check's output or on the pages of a
// running gateway, wherever it came from and whatever is wrong.
func TestSecretsDoNotShow(t *testing.T) {
	const secret = "hunter2-s3cret"
	t.Setenv("HALL_PASSWORD", secret)
	t.Setenv("EDGEGATEWAY_PASSWORD", secret)
	dir := t.TempDir()
	file := write(t, dir, "password", secret+"\n")
	cloud := testkit.Mosquitto(t, "allow_anonymous false")
	broker, web := testkit.FreeAddr(t), testkit.FreeAddr(t)
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s/data
log: {level: debug, format: json}
broker:
  listeners: [{tcp: "%s"}]
  users:
    press7: {password_file: password, publish: ["#"], subscribe: ["#"]}
    press8: {password: "${HALL_PASSWORD}", publish: ["#"]}
streams: {rows: {topics: [rows/+], input: {json: [v]}}}
upstream:
  one: {url: "tcp://%s", user: hall, password: "${HALL_PASSWORD}", retry_min: 50ms}
  two: {url: "tcp://%s", user: hall, password_file: %s, retry_min: 50ms}
dashboard: {listen: "%s"}
`, dir, broker, cloud, cloud, file, web))
	said := map[string]string{}
	note := func(what string, r ran, code int) {
		t.Helper()
		said[what] = r.stdout + r.stderr
		if r.code != code {
			t.Errorf("%s: exit code %d, want %d: %s", what, r.code, code, said[what])
		}
	}
	note("check", run(t, "", "check", config), 0)

	p := start(t, "run", "--config", config)
	p.Line(`ready`)
	for !away.MatchString(p.Output()) { // it may have come before
		p.Line(``)
	}
	note("publish", run(t, "", "publish", "--broker", broker, "--user", "press7", "rows/a", `{"v": 1}`), 0)
	note("publish with a file", run(t, "", "publish", "--broker", broker, "--user", "press8", "--password-file", file, "rows/a", `{"v": 1}`), 0)
	note("publish as nobody", run(t, "", "publish", "--broker", broker, "--user", "press9", "rows/a", `{"v": 1}`), 1)
	note("publish in the address", run(t, "", "publish", "--broker", "tcp://a:"+secret+"@"+testkit.FreeAddr(t), "rows/a", `{"v": 1}`), 2)
	note("watch", run(t, "", "watch", "--once", "--url", "http://"+web), 0)
	for _, page := range []string{"/", "/metrics", "/api/status", "/healthz", "/readyz"} {
		resp, err := http.Get("http://" + web + page)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		said[page] = string(body)
	}
	interrupt(t, p)
	said["run"] = p.Output()

	// Mistakes right beside a password.
	for n, text := range []string{
		"upstream: {a: {url: 'tcp://h:%s@cloud:1883'}}",
		"upstream: {a: {url: 'tcp://cloud:1883', password: %s}}",
		"upstream: {a: {url: 'tcp://cloud:1883', user: u, password: [%s]}}",
		"upstream: {a: {url: 'tcp://cloud:1883', user: u, password: %s, password_file: gone}}",
		"upstream: {a: {url: 'tcp://cloud:1883', user: u, password: '%s}}",
		"upstream: {a: {user: u, password: %s, {}]",
		"broker: {users: {a: {pasword: %s}}}",
		"broker: {users: {a: {password: {%s: 1}}}}",
	} {
		note(text, run(t, "", "check", write(t, dir, fmt.Sprintf("wrong%d.yaml", n), fmt.Sprintf(text, secret))), 3)
	}
	for what, text := range said {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the password: %s", what, text)
		}
	}
}
