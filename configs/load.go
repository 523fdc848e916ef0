package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxBytes is the largest configuration that is read.
	maxBytes = 1 << 20
	// maxNesting is how deep lists and maps may stand in each other: the
	// YAML library takes time by the square of it.
	maxNesting = 64
	// maxErrors is how many errors of one file are told.
	maxErrors = 20
)

// File is a configuration file that was read: it knows where each key stands.
type File struct {
	name string
	at   map[string]*token.Token // by path, as "streams.porch.topics[0]"
}

// Load reads a file into a value that holds the defaults already. Keys that
// the value does not have, wrong types and doubled keys are errors with file,
// line and column, all of them joined; ${NAME} in a value is replaced from the
// environment. A key with nothing behind it is as if it were not there.
func Load(path string, into any) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data, into)
}

// Parse is Load of bytes; name stands for the file in errors.
func Parse(name string, data []byte, into any) (_ *File, err error) {
	// The YAML library panics on some input that is no YAML anybody writes
	// (fuzzing finds it); that is an error like another.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: is no YAML that can be read", name)
		}
	}()
	if len(data) > maxBytes {
		return nil, fmt.Errorf("%s: is longer than %d bytes, which is no configuration", name, maxBytes)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // as some editors write it
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: is no text in UTF-8", name)
	}
	f := &File{name: name, at: map[string]*token.Token{}}
	tokens := lexer.Tokenize(string(data))
	if t := tooDeep(tokens); t != nil {
		return nil, f.errorAt(t, fmt.Sprintf("lists and maps stand in each other more than %d deep", maxNesting))
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, f.describe(err)
	}
	if len(tree.Docs) > 1 {
		return nil, fmt.Errorf("%s: holds %d documents, a configuration is one", name, len(tree.Docs))
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return f, nil
	}
	switch tree.Docs[0].Body.Type() {
	case ast.NullType, ast.CommentType:
		return f, nil
	}
	w := walker{file: f}
	body := w.value(tree.Docs[0].Body, reflect.TypeOf(into), "", nil)
	if len(w.errs) > maxErrors {
		w.errs = append(w.errs[:maxErrors], fmt.Errorf("%s: and %d more", name, len(w.errs)-maxErrors))
	}
	if len(w.errs) > 0 {
		return nil, errors.Join(w.errs...)
	}
	if err := yaml.NodeToValue(body, into, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		return nil, f.describe(err)
	}
	return f, nil
}

// tooDeep finds the first token that stands deeper than maxNesting by
// brackets, or by dashes on one line. Nesting by indentation is bounded by
// the size of the file.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position != nil && t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			dashes++
		}
		if flow > maxNesting || dashes > maxNesting {
			return t
		}
	}
	return nil
}

// Dir is the folder of the file: relative paths in it are taken from there.
func (f *File) Dir() string { return filepath.Dir(f.name) }

// Locate puts file, line and column in front of each error whose text begins
// with the path of a key ("streams.porch.model: ..."); where the key is not
// there, those of the nearest key above it. The errors come in the order of
// the file.
func (f *File) Locate(err error) error {
	if err == nil {
		return nil
	}
	type located struct {
		at  token.Position
		err error
	}
	var list []located
	for _, err := range parts(err) {
		path, _, _ := strings.Cut(err.Error(), ": ")
		var t *token.Token
		for t = f.at[path]; t == nil && path != ""; t = f.at[path] {
			path = parentPath(path)
		}
		if t == nil {
			list = append(list, located{err: fmt.Errorf("%s: %w", f.name, err)})
			continue
		}
		list = append(list, located{*t.Position, fmt.Errorf("%s:%d:%d: %w", f.name, t.Position.Line, t.Position.Column, err)})
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i].at, list[j].at
		return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
	})
	errs := make([]error, len(list))
	for i := range list {
		errs[i] = list[i].err
	}
	return errors.Join(errs...)
}

// parts gives the single errors of a joined one. An error that wraps several
// within a text of its own is one error.
func parts(err error) []error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(many.Unwrap()...).Error() {
		return []error{err}
	}
	var list []error
	for _, e := range many.Unwrap() {
		list = append(list, parts(e)...)
	}
	return list
}

func parentPath(p string) string {
	if i := strings.LastIndexAny(p, ".["); i > 0 {
		return p[:i]
	}
	return ""
}

// describe turns an error of the YAML library into one of ours: position, what
// is wrong and the way out, never the line itself, which may hold a password.
func (f *File) describe(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	text := y.GetMessage()
	if m := wrongType.FindStringSubmatch(text); m != nil {
		return f.errorAt(y.GetToken(), f.pathAt(y.GetToken())+"wanted "+names[m[2]]+", found "+names[m[1]])
	}
	if m := doubled.FindStringSubmatch(text); m != nil {
		return f.errorAt(y.GetToken(), m[1]+" stands here twice, first in line "+m[2])
	}
	for _, h := range hints {
		if strings.Contains(text, h.of) {
			text = h.says
			break
		}
	}
	if strings.Contains(text, "must be specified") && variableBefore(y.GetToken()) {
		text += "; within braces and brackets ${NAME} stands in quotes"
	} else if hint := f.comment(y.GetToken()); hint != "" && unfinished.MatchString(text) {
		text += hint
	} else if strings.Contains(text, "must be specified") {
		text += "; text with a bracket or brace in it stands in quotes: ['samples[*]']"
	}
	return f.errorAt(y.GetToken(), text)
}

// hints are what the YAML library says, and what helps its reader.
var hints = []struct{ of, says string }{
	{"invalid header option", "a value that begins with | or > stands in quotes; only a block of lines begins so without"},
	{`'\t' that cannot start`, "a tab stands here; lines are indented with spaces"},
	{"found character '\t'", "a tab stands here; lines are indented with spaces"},
	{"sequence end token ']' not found", "the list that begins here has no ] at its end"},
	{"flow mapping end token '}'", "the map that begins here has no } at its end"},
	{"could not find flow map content", "a value that begins with { stands in quotes where it is text, such as '{{.Source}} is hot'"},
	{"end character of double-quoted", `a text that begins with " has none at its end`},
	{"end character of single-quoted", "a text that begins with ' has none at its end"},
	{"is a reserved character", "a value that begins with @ or ` stands in quotes"},
	{"unexpected directive value", "a value that begins with % stands in quotes"},
	{"mapping value is not allowed", "a second value begins here; text with a colon and a space in it stands in quotes, and keys that belong together stand below each other"},
}

// What the library says of a value that a section, which reads itself, does
// not take, and of a key that stands twice; names are those of its types.
var (
	wrongType = regexp.MustCompile(`^(string|int|float|boolean|sequence|mapping) was used where (sequence|mapping) is expected$`)
	doubled   = regexp.MustCompile(`^mapping key ("[^"]*") already defined at \[(\d+):`)
	names     = map[string]string{"string": "text", "int": "a whole number", "float": "a number", "boolean": "true or false", "sequence": "a list", "mapping": "a map"}
)

// pathAt is the path of the key in front of a value, with a colon; "" where it
// is not known.
func (f *File) pathAt(value *token.Token) string {
	best, at := "", token.Position{}
	if value == nil || value.Position == nil {
		return ""
	}
	for path, t := range f.at {
		p := t.Position
		if p == nil {
			continue
		}
		if p.Line < value.Position.Line || p.Line == value.Position.Line && p.Column <= value.Position.Column {
			if p.Line > at.Line || p.Line == at.Line && (p.Column > at.Column || p.Column == at.Column && len(path) > len(best)) {
				best, at = path, *p
			}
		}
	}
	if best == "" {
		return ""
	}
	return best + ": "
}

// unfinished are the errors that a comment within brackets brings about.
var unfinished = regexp.MustCompile(`must be specified|at its end`)

// comment says that a # began one, where one stands in a line from the token's
// on, as far as brackets reach that are not closed.
func (f *File) comment(t *token.Token) string {
	if t == nil || t.Position == nil {
		return ""
	}
	for p := t; p != nil && p.Position != nil && p.Position.Line >= t.Position.Line-1; p = p.Prev {
		if p.Type == token.CommentType {
			return commentHint
		}
	}
	for p := t; p != nil && p.Position != nil && p.Position.Line <= t.Position.Line+1; p = p.Next {
		if p.Type == token.CommentType {
			return commentHint
		}
	}
	return ""
}

const commentHint = `; # begins a comment here, a filter such as "#" stands in quotes`

// variableBefore says whether ${ stands on the token's line without quotes.
func variableBefore(t *token.Token) bool {
	if t == nil || t.Position == nil {
		return false
	}
	for p := t; p != nil && p.Position != nil && p.Position.Line == t.Position.Line; p = p.Prev {
		if p.Type == token.MappingStartType && p.Prev != nil && strings.HasSuffix(p.Prev.Value, "$") || p.Type == token.StringType && strings.Contains(p.Value, "$") {
			return true
		}
	}
	return false
}

func (f *File) errorAt(t *token.Token, text string) error {
	if t == nil || t.Position == nil {
		return fmt.Errorf("%s: %s", f.name, text)
	}
	return fmt.Errorf("%s:%d:%d: %s", f.name, t.Position.Line, t.Position.Column, text)
}
