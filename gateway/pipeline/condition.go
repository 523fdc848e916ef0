package pipeline

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// Fields are what a stream's results hold.
type Fields struct {
	Features []string // names such as cpu or cpu.mean
	Model    bool     // a model speaks in them
}

// maxNamed is how many names an error lists; a spectrum has thousands.
const maxNamed = 24

// Condition compiles an expression that is true or false of a result, checked
// against what the stream's results hold. It is run on an Environment.
func Condition(text string, f Fields) (*vm.Program, error) {
	return compile(text, f, expr.AsBool())
}

// Text compiles an expression that makes a text of a result.
func Text(text string, f Fields) (*vm.Program, error) {
	return compile(text, f, expr.AsKind(reflect.String))
}

// ConditionOver is Condition over something else than a result: env declares
// what it holds, and names are what an error says there is.
func ConditionOver(text string, env types.Map, names []string) (*vm.Program, error) {
	return compileOver(text, env, names, Fields{Model: true}, expr.AsBool())
}

func compile(text string, f Fields, kind expr.Option) (*vm.Program, error) {
	return compileOver(text, declare(f), known(f), f, kind)
}

func compileOver(text string, env types.Map, names []string, f Fields, kind expr.Option) (*vm.Program, error) {
	program, err := expr.Compile(text, expr.Env(env), kind)
	if err != nil {
		// The library draws the place below the text; a line is enough here.
		message, _, _ := strings.Cut(err.Error(), "\n")
		message = explain(message, f)
		if len(names) > maxNamed {
			names = append(names[:maxNamed], "...")
		}
		return nil, fmt.Errorf("%q: %s; there are %s", text, message, strings.Join(names, ", "))
	}
	return program, nil
}

var gives = regexp.MustCompile(`^expected bool, but got (\w+)`)

// explain adds to what the library says what was probably meant.
func explain(message string, f Fields) string {
	if m := gives.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("is a %s and no condition, which is true or false: compare it, for example with >", strings.TrimSuffix(m[1], "64"))
	}
	if strings.HasPrefix(message, `unexpected token Operator("=")`) {
		return message + "; equal is =="
	}
	if strings.HasPrefix(message, "unexpected token EOF") {
		return message + "; it ends too early"
	}
	if m := unknown.FindStringSubmatch(message); m != nil && !f.Model && own(m[1], true) {
		return message + ": the stream has no model"
	}
	return message
}

var unknown = regexp.MustCompile(`^unknown name (\w+)`)

func known(f Fields) []string {
	names := []string{"stream", "source", "seq"}
	if f.Model {
		names = append(names, "label", "score", "top", "objects", "values")
	}
	return append(names, f.Features...)
}

// own says whether a name is the result's own; a feature of that name is
// reached by features["label"].
func own(name string, model bool) bool {
	switch name {
	case "features", "stream", "source", "seq":
		return true
	case "label", "score", "top", "objects", "values":
		return model
	}
	return false
}

// declare is the type of the environment that Environment makes.
func declare(f Fields) types.Map {
	class := types.Map{"label": types.String, "score": types.Float64}
	env := types.Map{
		"stream": types.String, "source": types.String, "seq": types.Int,
		"features": types.Map{types.Extra: types.Float64},
	}
	if f.Model {
		env["label"], env["score"] = types.String, types.Float64
		env["top"] = types.Array(class)
		env["objects"] = types.Array(types.Map{"label": types.String, "score": types.Float64, "box": types.Array(types.Float64)})
		env["values"] = types.Array(types.Float64)
	}
	for _, name := range f.Features {
		parent, m := name, env
		if p, _, _ := strings.Cut(name, "."); own(p, f.Model) {
			continue
		}
		for {
			var rest string
			var dotted bool
			if parent, rest, dotted = strings.Cut(parent, "."); !dotted {
				break
			}
			child, ok := m[parent].(types.Map)
			if !ok {
				child = types.Map{}
				m[parent] = child
			}
			m, parent = child, rest
		}
		m[parent] = types.Float64
	}
	return env
}

// Environment is what expressions see of a result. It is used before the
// result's memory is.
func Environment(r *Result) map[string]any {
	model := r.Infer.Model != ""
	features := make(map[string]any, len(r.Features))
	env := map[string]any{"features": features}
	for _, f := range r.Features {
		features[f.Name] = f.Value
		parent, m := f.Name, env
		if p, _, _ := strings.Cut(f.Name, "."); own(p, model) {
			continue
		}
		for {
			var rest string
			var dotted bool
			if parent, rest, dotted = strings.Cut(parent, "."); !dotted {
				break
			}
			child, ok := m[parent].(map[string]any)
			if !ok {
				child = map[string]any{}
				m[parent] = child
			}
			m, parent = child, rest
		}
		m[parent] = f.Value
	}
	env["stream"], env["source"], env["seq"] = r.Stream, r.Source, int(r.Seq)
	if !model {
		return env
	}
	env["label"], env["score"] = r.Infer.Label, r.Infer.Score
	top := make([]any, len(r.Infer.Top))
	for i, c := range r.Infer.Top {
		top[i] = map[string]any{"label": c.Label, "score": c.Score}
	}
	objects := make([]any, len(r.Infer.Objects))
	for i, o := range r.Infer.Objects {
		objects[i] = map[string]any{"label": o.Label, "score": o.Score, "box": o.Box[:]}
	}
	env["top"], env["objects"], env["values"] = top, objects, r.Infer.Values
	return env
}
