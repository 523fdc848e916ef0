package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// view is what templates see: the event, with its result as values.
type view struct {
	*Event
	Result map[string]any `json:"result,omitempty"`
}

// resultNames are the keys of a result, as result.schema.json says them.
var resultNames = []string{
	"delegate", "features", "id", "label", "model", "objects", "received", "score",
	"seq", "source", "stream", "time", "took_us", "top", "values", "version",
}

// eventNames are the fields of an event that a template may use.
func eventNames() []string {
	t := reflect.TypeFor[Event]()
	var names []string
	for i := range t.NumField() {
		if n := t.Field(i).Name; n != "Picture" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// UnknownName is a template that names what an event does not have.
type UnknownName struct {
	Path  string   // where it stands in the rule
	Text  string   // as it is written
	Name  string   // what is unknown of it
	Known []string // what there is in its place
}

func (e *UnknownName) Error() string {
	in := ""
	if strings.HasPrefix(e.Text, ".Result.") || strings.HasPrefix(e.Text, "$.Result.") {
		in = " in a result, whose values and features are below .Result.features"
	}
	return fmt.Sprintf("%s: {{%s}}: there is no %q%s", e.Path, e.Text, e.Name, in)
}

func parseTemplate(s string) (*template.Template, error) {
	t, err := template.New("").Funcs(template.FuncMap{"json": toJSON}).Option("missingkey=error").Parse(s)
	if err != nil {
		return nil, templateError(err)
	}
	return t, nil
}

var (
	parsePlace   = regexp.MustCompile(`^template: :\d+(:\d+)?: `)
	executePlace = regexp.MustCompile(`(?s)^executing "" at <(.*?)>: (.*)$`)
)

// templateError is an error of the library without what says nothing here.
func templateError(err error) error {
	text := parsePlace.ReplaceAllString(err.Error(), "")
	if m := executePlace.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("{{%s}}: %s", m[1], m[2])
	}
	if strings.HasSuffix(text, "unexpected EOF") {
		text = "an {{if}}, {{range}} or {{with}} has no {{end}}"
	}
	if strings.HasPrefix(text, "function ") {
		text += "; a name of the event begins with a dot: {{.Source}}"
	}
	return errors.New(text)
}

// checkTemplate parses the template at path and looks at each name in it that
// is one of the event's.
func checkTemplate(path, s string) []error {
	t, err := parseTemplate(s)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", path, err)}
	}
	if t.Tree == nil {
		return nil
	}
	c := templateCheck{path: path}
	c.node(t.Tree.Root, true)
	return c.errs
}

type templateCheck struct {
	path string
	errs []error
}

// node goes through a part of a template; event says that the dot is the event.
func (c *templateCheck) node(n parse.Node, event bool) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, e := range n.Nodes {
				c.node(e, event)
			}
		}
	case *parse.ActionNode:
		c.node(n.Pipe, event)
	case *parse.TemplateNode:
		c.node(n.Pipe, event)
	case *parse.PipeNode:
		if n != nil {
			for _, cmd := range n.Cmds {
				for _, a := range cmd.Args {
					c.node(a, event)
				}
			}
		}
	case *parse.ChainNode:
		c.node(n.Node, event)
	case *parse.IfNode:
		c.node(n.Pipe, event)
		c.node(n.List, event)
		c.node(n.ElseList, event)
	case *parse.RangeNode:
		c.node(n.Pipe, event)
		c.node(n.List, false)
		c.node(n.ElseList, event)
	case *parse.WithNode:
		c.node(n.Pipe, event)
		c.node(n.List, false)
		c.node(n.ElseList, event)
	case *parse.FieldNode:
		if event {
			c.name(n.String(), n.Ident)
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			c.name(n.String(), n.Ident[1:])
		}
	}
}

// name checks a name of the event, and the one behind it where it is the
// result's.
func (c *templateCheck) name(text string, parts []string) {
	known := eventNames()
	low := strings.ToLower(parts[0])
	if slices.Contains(resultNames, low) && !slices.ContainsFunc(known, func(n string) bool { return strings.EqualFold(n, low) }) {
		c.errs = append(c.errs, fmt.Errorf("%s: {{%s}}: there is no %q; did you mean .Result.%s?", c.path, text, parts[0], low))
	} else if !slices.Contains(append(known, "Picture"), parts[0]) {
		c.errs = append(c.errs, &UnknownName{c.path, text, parts[0], known})
	} else if parts[0] == "Result" && len(parts) > 1 && !slices.Contains(resultNames, parts[1]) {
		c.errs = append(c.errs, &UnknownName{c.path, text, parts[1], resultNames})
	}
}

// plainParts is what stands in a template as it is, outside of {{}}.
func plainParts(s string) string {
	t, err := parseTemplate(s)
	if err != nil || t.Tree == nil {
		return ""
	}
	var all strings.Builder
	for _, n := range t.Tree.Root.Nodes {
		if plain, ok := n.(*parse.TextNode); ok {
			all.Write(plain.Text)
		}
	}
	return all.String()
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// render fills a template with an event; an empty one gives the event itself.
func render(text string, e *Event) ([]byte, error) {
	if text == "" {
		return e.JSON(), nil
	}
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	v := view{Event: e, Result: map[string]any{}}
	if len(e.Result) > 0 {
		if err := json.Unmarshal(e.Result, &v.Result); err != nil {
			return nil, fmt.Errorf("the result of the event: %w", err)
		}
	}
	for _, name := range resultNames { // where nothing was found it has no label
		if v.Result[name] == nil {
			v.Result[name] = ""
		}
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("a template of the alert: %w", templateError(err))
	}
	return b.Bytes(), nil
}
