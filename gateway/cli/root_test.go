package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"edgegateway/internal/testkit"
)

// Every command says what it does and shows at least one example, and every
// example is a command line that the program takes.
func TestHelpExamples(t *testing.T) {
	for _, c := range everyCommand(newRoot("test")) {
		path := c.CommandPath()
		if c.Short == "" {
			t.Errorf("%s has no short text", path)
		}
		// Backquotes in a flag's text make what is between them its value's name.
		for line := range strings.Lines(c.LocalFlags().FlagUsages()) {
			if !flagLine.MatchString(line) {
				t.Errorf("%s: a flag's value is no word: %s", path, line)
			}
		}
		if name, _, _ := strings.Cut(strings.TrimPrefix(path, "edgegateway "), " "); name == "completion" || name == "help" {
			continue // cobra's own
		}
		if c.Example == "" {
			t.Errorf("%s has no example", path)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			words := shellWords(line)
			if len(words) == 0 || words[0] != "edgegateway" {
				t.Errorf("%s: %q is no example", path, line)
				continue
			}
			// A tree of its own: flags keep what they were set to.
			if err := takes(newRoot("test"), words[1:]); err != nil {
				t.Errorf("%s: %s: %v", path, line, err)
			}
			if c.HasParent() && !strings.HasPrefix(strings.Join(words, " "), path+" ") && strings.Join(words, " ") != path {
				t.Errorf("%s: %q is an example of another command", path, line)
			}
		}
	}
}

var flagLine = regexp.MustCompile(`^ +(-\w, )?--[\w-]+( \S+)?   +\S`)

func everyCommand(c *cobra.Command) []*cobra.Command {
	if c.Hidden {
		return nil // the program starts it by itself
	}
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, everyCommand(sub)...)
	}
	return list
}

// takes says whether a command line is right, without running it.
func takes(root *cobra.Command, args []string) error {
	c, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// shellWords splits a line as a shell does, up to a pipe or a redirection.
func shellWords(line string) (words []string) {
	var word strings.Builder
	quote, within := rune(0), false
	end := func() {
		if within {
			words = append(words, word.String())
		}
		word.Reset()
		within = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, within = r, true
		case quote == 0 && r == ' ':
			end()
		case quote == 0 && strings.ContainsRune("|<>", r):
			end()
			return words
		default:
			word.WriteRune(r)
			within = true
		}
	}
	end()
	return words
}

// docs/commands.md tells of every command, and each command line in the
// documents is one that the program takes.
func TestDocumentedCommands(t *testing.T) {
	root := testkit.Root(t)
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, file := range append(files, filepath.Join(root, "README.md"), filepath.Join(root, "configs", "edgegateway.service")) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "commands.md" {
			for _, c := range everyCommand(newRoot("test")) {
				name := strings.TrimPrefix(c.CommandPath(), "edgegateway ")
				if !(c.HasSubCommands() && name != "bench") && !strings.HasPrefix(name, "completion") && name != "help" && !strings.Contains(string(b), "\n## "+name+"\n") {
					t.Errorf("%s: no section %q", file, name)
				}
			}
		}
		for _, m := range documented.FindAllStringSubmatch(string(b), -1) {
			lines++
			line, _, _ := strings.Cut(m[1], " #")
			words := shellWords(strings.TrimSuffix(line, " &"))
			for i, w := range words {
				words[i] = strings.ReplaceAll(w, "$(hostname)", "a")
			}
			if len(words) < 2 || words[1] == "COMMAND" || strings.HasPrefix(words[1], "v0.1.0") { // what version says
				continue
			}
			if err := takes(newRoot("test"), words[1:]); err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
			}
		}
	}
	if lines < 20 {
		t.Errorf("only %d command lines", lines)
	}
}

// documented is a command line in a document: indented, after a prompt or
// not, or in a systemd unit.
var documented = regexp.MustCompile(`(?m)^(?:    (?:\$ )?(?:bin/)?|ExecStart=/usr/local/bin/)(edgegateway(?: [^:\n]*(?::[^ \n][^\n]*)?)?)$`)
