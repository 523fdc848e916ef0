package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// house says which of our packages a package may import, and why not more.
// A name ending in /... stands for a package and all below it. The longest
// key that fits a package counts.
var house = []struct {
	pkg string
	may []string
	why string
}{
	{".", []string{"gateway/cli"}, "main hands the command line to cli and does nothing else"},
	{"gateway/cli", []string{"gateway/app", "gateway/dataset", "gateway/learn", "configs", "sensors", "fl", "fl/simulate", "infer/...", "internal/link", "internal/keyfile", "internal/offer", "internal/chart"}, "commands use the parts; those that only look at files start no app"},
	{"gateway/app", []string{"configs", "broker", "sensors/...", "infer", "infer/drift", "infer/model/...", "infer/store", "fl", "internal/link", "internal/keyfile", "internal/offer", "gateway/pipeline", "gateway/alert", "gateway/upstream", "gateway/dataset", "gateway/dashboard", "gateway/rollout", "gateway/learn"}, "app composes and has no rule of its own"},
	{"gateway/pipeline", []string{"broker", "sensors", "infer", "infer/drift", "internal/spool"}, "a stream joins broker, sensors and infer and knows no later room"},
	{"gateway/alert", []string{"gateway/pipeline"}, "rules see results and nothing else"},
	{"gateway/dataset", []string{"gateway/pipeline", "broker", "sensors", "infer/train"}, "a data set is made of results and samples, or of messages that a stream takes"},
	{"gateway/rollout", []string{"gateway/pipeline", "broker", "sensors", "infer", "infer/drift", "infer/model/...", "infer/store"}, "a version goes from the store under the streams, its reference read before; nothing of it is known to them"},
	{"gateway/learn", []string{"fl", "gateway/pipeline", "gateway/dataset", "gateway/upstream", "sensors", "infer", "infer/model/...", "infer/store", "infer/train", "infer/compress", "internal/link", "internal/keyfile"}, "federated learning meets what a gateway has: links, recorded samples, versions of models"},
	{"gateway/upstream", []string{"internal/spool", "internal/link", "internal/offer"}, "the way up is a queue and a link, and what is offered comes down it"},
	{"fl", []string{"configs", "infer/model", "infer/train", "infer/compress", "fl/aggregate", "fl/secagg", "fl/privacy", "internal/keyfile"}, "federated learning knows no transport; a task is a file like a configuration, its messages are signed"},
	{"fl/simulate", []string{"fl", "infer/train"}, "a simulation runs the machines of fl on samples of its own"},
	{"fl/fltest", []string{"fl", "infer/train"}, "a broker for tests carries the messages of fl, and its samples are data to train on"},
	{"infer", []string{"infer/tflite", "infer/model/..."}, "models at work know neither broker nor streams"},
	{"infer/store", []string{"infer/model/...", "internal/keyfile"}, "the store keeps files and runs nothing; who signed them it sees"},
	{"infer/drift", nil, "statistics are arithmetic on numbers and know neither streams nor models"},
	{"infer/train", []string{"infer/model"}, "training ends in a model file"},
	{"infer/model", []string{"infer/model/internal/schema"}, "reading a file needs nothing of ours but the generated schema"},
	{"infer/model/pack", []string{"infer/model"}, "the transport form is made of a model"},
	{"infer/compress", []string{"infer", "infer/model/...", "infer/train"}, "compression judges what it makes"},
	{"sensors/camera", []string{"sensors"}, "a camera yields samples"},
	{"sensors", []string{"sensors/internal/sparkplug"}, "sensors is pure"},
	{"", nil, "this package stands alone"},
}

// generated code is exempt from the rules of style.
var generated = []string{"infer/model/internal/schema", "sensors/internal/sparkplug"}

func rule(pkg string) (may []string, why string) {
	for _, r := range house {
		if r.pkg == pkg || r.pkg == "" {
			return r.may, r.why
		}
	}
	return nil, ""
}

func allowed(may []string, imported string) bool {
	for _, m := range may {
		if base, all := strings.CutSuffix(m, "/..."); m == imported || all && (imported == base || strings.HasPrefix(imported, base+"/")) {
			return true
		}
	}
	return false
}

// TestHouse reads every file's imports against the table, and looks for what
// the project does not do: packages without a comment, init functions, files
// that hold too much.
func TestHouse(t *testing.T) {
	comment := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "scripts") {
				return filepath.SkipDir
			}
			return nil
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if filepath.Ext(path) != ".go" || slices.Contains(generated, pkg) {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		if n := strings.Count(string(src), "\n"); n > 800 {
			t.Errorf("%s has %d lines; over 800 a file holds more than one thing", path, n)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function; what a package needs is made by its constructor", path)
			}
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil // tests may join what they prove
		}
		comment[pkg] = comment[pkg] || f.Doc != nil
		may, why := rule(pkg)
		for _, imp := range f.Imports {
			imported, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), "edgegateway/")
			if ours && !allowed(may, imported) {
				t.Errorf("%s imports %s: refused, %s", path, imported, why)
			}
			if strings.Contains(imp.Path.Value, "eclipse/paho") && pkg != "internal/link" {
				t.Errorf("%s imports an MQTT client: refused, only internal/link does", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, ok := range comment {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}
