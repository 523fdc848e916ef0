package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"edgegateway/internal/testkit"
)

// Every wrong configuration stands here with the words that its error must
// hold: file, line and column, what is wrong, and the way out.
func TestBadConfigurations(t *testing.T) {
	table := map[string][]string{
		"section":       {":1:1: ", "streasm", `did you mean "streams"?`},
		"key":           {":4:5: ", "inptu", `did you mean "input"?`},
		"type":          {":2:", "streams.a.queue"},
		"nomodel":       {":4:", `streams.porch.model: there is no model "face"`, `did you mean "faces"?`},
		"nostream":      {":4:", `alerts.hot.stream: there is no stream "proch"`, `did you mean "porch"?`},
		"condition":     {":6:5: ", `alerts.busy.when: "cpu.max > 0.9"`, "there are", "cpu.mean"},
		"conditiontype": {":6:5: ", `alerts.busy.when: "cpu > \"high\""`, "mismatched types float64 and string"},
		"listenertwice": {":4:7: ", "broker.listeners[1].websocket: localhost:1883 is where listeners[0] listens already"},
		"listenerall":   {":5:7: ", "broker.listeners[1].tcp: :1883 is where listeners[0] listens already"},
		"listenerdash":  {":2:13: ", "dashboard.listen: 127.0.0.1:9464 is where broker.listeners[0] listens"},
		"nopassword":    {":3:5: ", "broker.users.press7: has neither password_file nor password", "tls.client_ca"},
		"level2":        {":3:3: ", "streams.topics: stands a level too high: it belongs below a name, as streams: {NAME: {topics: ...}}"},
		"linklevel":     {":2:3: ", "upstream.url: stands a level too high"},
		"placeholder":   {":2:50: ", "streams.s.results.topic: there is no {stram}; there are {stream} and {source}"},
		"prefix":        {":2:26: ", "upstream.c.prefix: there is no {gatway}; there is {gateway}"},
		"featuretwice":  {":2:59: ", `streams.s.features: "t.mean" is there twice`},
		"valuetwice":    {":2:20: ", `streams.s.input: "t" is there twice`},
		"rulestream":    {":2:3: ", "alerts.a.stream: the rule needs the name of a stream"},
		"textend":       {":3:31: ", "alerts.a.message: an {{if}}, {{range}} or {{with}} has no {{end}}"},
		"textlabel":     {":3:31: ", `{{.Label}}: there is no "Label"; did you mean .Result.label?`},
		"textresult":    {":3:31: ", `there is no "t" in a result, whose values and features are below .Result.features`},
		"bytes":         {":2:50: ", "found text; it is written in full: 104857600"},
		"days":          {":2:44: ", "units are ms, s, m, h"},
		"data":          {":1:1: ", "data: names no folder"},
		"alertname":     {":3:3: ", `alerts.a/b: "a/b" is no name here`},
		"linkname":      {":2:3: ", `".." is no name here`},
		"emptyname":     {":2:3: ", `"" is no name here`},
		"port":          {":1:23: ", `broker.listeners[0].tcp: "127.0.0.1:99999" is no address and port such as 127.0.0.1:1883`},
		"dashport":      {":1:13: ", `dashboard.listen: "9464" is no address and port such as 127.0.0.1:9464`},
		"notcondition":  {":3:18: ", `alerts.a.when: "t": is a float and no condition`, "compare it"},
		"equals":        {":3:18: ", "equal is =="},
		"nolabel":       {":3:18: ", "unknown name label", "the stream has no model"},
		"clearunit":     {":3:31: ", `alerts.a.clear: "10" has no unit: a time is written 10s`},
		"fortime":       {":3:31: ", "it counts results, hold and clear are times"},
		"wildcard":      {":3:42: ", `alerts.a.publish[0].topic: "x/#" is no topic to publish to`},
		"fllink":        {":2:", "fl: it needs a link to the cloud: put one under upstream"},
		"fllinks":       {":2:", "fl.upstream: say over which link, of the 2 under upstream"},
		"nowindow":      {":2:40: ", "streams.s.window.size: is missing"},
		"shape":         {":2:27: ", "streams.s.input: wanted a map, found text"},
		"template":      {":8:9: ", "alerts.hot.publish[0].payload: {{.Sorce}}: there is no \"Sorce\"; did you mean \"Source\"?"},
		"clear":         {":7:5: ", "alerts.busy.clear: neither a time such as 5s nor a condition"},
		"of":            {":4:", `alerts.busy.for: "5 of 3" is not of the form "3 of 5"`},
		"loop":          {":2:", "streams.room.results.topic: what is published to room/#", "streams.room.topics[0]"},
		"loopdefault":   {":2:", "results/all/#", "streams.all.topics[0] (#)"},
		"loopown":       {":5:", "alerts.hot: what is published to alerts/hot/#", "streams.all.topics[0] (alerts/#)"},
		"loopalert":     {":9:", "alerts.hot.publish[1].topic: what is published to room/#", "streams.room.topics[0]"},
		"features":      {":2:", "streams.host.features: need a window, for example window: {size: 10s, every: 1s}"},
		"feature":       {":2:", "streams.host.features: ", `"avg"`},
		"filter":        {":2:", "streams.host.topics[0]: "},
		"input":         {":2:", "streams.host.input.number: json is given too; give one of json, csv, raw, number and image"},
		"twoinputs":     {":2:", "streams.porch.input.image: json is given too"},
		"policy":        {":2:", `"newest"`, "block, drop-oldest, latest"},
		"streamname":    {":2:3: ", `streams.a/b: "a/b" is no name here: it becomes one level of a topic`},
		"gateway":       {":1:1: ", `"hall/7"`},
		"level":         {":1:", `"loud"`, "debug, info, warn, error"},
		"upstream":      {":2:", "upstream.cloud.url: ", "has no port; brokers use 1883"},
		"send":          {":2:", "alert", "alerts, results"},
		"listener":      {":2:", "broker.listeners[0]"},
		"dashboard":     {":1:", "dashboard.listen"},
		"output":        {":2:", `"boxes"`, "blazeface"},
		"duration":      {":4:", "alerts.a.hold"},
		"secret":        {":2:", "EDGEGATEWAY_TEST_NOT_SET"},
		"several":       {":2:", "models.m.top", ":4:", "streams.a.topics", `there is no model "n"`, ":6:", `there is no stream "b"`, "alerts.x.when"},
	}
	files, err := filepath.Glob("testdata/*.bad.yml")
	if err != nil || len(files) != len(table) {
		t.Fatalf("%d files, %d rows: %v", len(files), len(table), err)
	}
	for name, words := range table {
		file := "testdata/" + name + ".bad.yml"
		_, err := LoadConfig(file)
		if err == nil {
			t.Errorf("%s is taken", file)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, file+":") {
			t.Errorf("the error does not begin with the file: %s", text)
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in: %s", file, w, text)
			}
		}
		if name != "several" && strings.Contains(text, "\n") {
			t.Errorf("%s: one fault, several errors: %s", file, text)
		}
	}
}

// Every example and every YAML block of the documents is a configuration that
// loads; models and their files need not be there.
func TestExamplesLoad(t *testing.T) {
	root := testkit.Root(t)
	blocks := map[string]string{}
	examples, err := filepath.Glob(filepath.Join(root, "configs", "*.yaml"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("%v: %v", examples, err)
	}
	for _, file := range examples {
		if _, err := LoadConfig(file); err != nil {
			t.Error(err)
		}
	}
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("%v: %v", docs, err)
	}
	// The files of passwords and certificates that a block names are there.
	secret := regexp.MustCompile(`(?:password_file|ca|cert|key): ?((?:secrets|certs)/[\w./-]+)`)
	pair := keyPair(t)
	fence := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	for _, file := range append(docs, filepath.Join(root, "README.md")) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatchIndex(string(b), -1) {
			line := strings.Count(string(b[:m[2]]), "\n")
			// As many empty lines before it, so that errors name the line.
			blocks[file] = strings.Repeat("\n", line) + string(b[m[2]:m[3]])
			path := filepath.Join(t.TempDir(), filepath.Base(file))
			for _, name := range secret.FindAllStringSubmatch(blocks[file], -1) {
				named := filepath.Join(filepath.Dir(path), name[1])
				if err := os.MkdirAll(filepath.Dir(named), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(named, pair, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, []byte(blocks[file]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadConfig(path); err != nil {
				t.Error(err)
			}
		}
	}
	if len(blocks) == 0 {
		t.Error("no YAML block in any document")
	}
}

// keyPair is a certificate and its key in one file, which also serves as a
// password.
func keyPair(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hall"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
}
