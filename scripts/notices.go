//go:build ignore

// Notices writes THIRD_PARTY_NOTICES: every module that is linked into the
// program on any of its platforms, with its licence, and what is known to be
// inside the TensorFlow Lite library that the program carries.
//
//	go run scripts/notices.go          write it
//	go run scripts/notices.go -check   fail where a linked part is missing
//
// A licence that is none of those the project accepts is an error.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var platforms = []string{"linux/amd64", "linux/arm64", "darwin/arm64"}

// kinds are the accepted licences, and words that only their texts hold. The
// first that fits counts.
var kinds = []struct{ name, words string }{
	{"EPL-2.0", "Eclipse Public License - v 2.0"},
	{"MPL-2.0", "Mozilla Public License Version 2.0"},
	{"BSD", "Redistribution and use in source and binary forms"},
	{"Apache-2.0", "Apache License"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining"},
}

// part is something of others in the program.
type part struct{ name, version, kind, text string }

// runtime is TensorFlow Lite 2.9.0 as the npm package tfjs-tflite-node@0.0.2
// carries it in cc_deps, and what is linked into it: by the names in its
// symbols and texts, and by what its sources of that version include. Behind
// it stands what a module holds under terms of its own.
var runtime = []struct{ name, version, licence string }{
	{"TensorFlow Lite, libtensorflowlite_c and libexternal_delegate_obj", "2.9.0", "../LICENSE"},
	{"FlatBuffers (C++), within TensorFlow Lite", "", "../LICENSE"},
	{"gemmlowp, within TensorFlow Lite", "", "../LICENSE"},
	{"ruy, within TensorFlow Lite", "", "../LICENSE"},
	{"XNNPACK, within TensorFlow Lite", "", "licenses/xnnpack.txt"},
	{"cpuinfo and clog, within TensorFlow Lite", "", "licenses/cpuinfo.txt"},
	{"pthreadpool, within TensorFlow Lite", "", "licenses/pthreadpool.txt"},
	{"FP16, within TensorFlow Lite", "", "licenses/fp16.txt"},
	{"FXdiv, within TensorFlow Lite", "", "licenses/fxdiv.txt"},
	{"FarmHash, within TensorFlow Lite", "", "licenses/farmhash.txt"},
	{"NEON_2_SSE, within TensorFlow Lite on x86-64", "", "licenses/neon2sse.txt"},
	{"Eigen, within TensorFlow Lite (its source: https://gitlab.com/libeigen/eigen)", "", "licenses/eigen.txt"},
	{"fft2d by Takuya Ooura, within TensorFlow Lite", "", "licenses/fft2d.txt"},
	{"Go Bold, the typeface of labels in pictures, by Bigelow & Holmes", "", "licenses/gofont.txt"},
}

func main() {
	check := flag.Bool("check", false, "compare, write nothing")
	file := flag.String("file", "THIRD_PARTY_NOTICES", "the file")
	flag.Parse()
	if err := run(*file, *check); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func run(file string, check bool) error {
	parts, err := linked()
	if err != nil {
		return err
	}
	for _, r := range runtime {
		text, err := os.ReadFile(filepath.Join("scripts", r.licence))
		if err != nil {
			return err
		}
		kind := kindOf(string(text))
		if kind == "" && strings.HasPrefix(r.name, "fft2d") {
			kind = "free use, modification and distribution"
		}
		parts = append(parts, part{r.name, r.version, kind, string(text)})
	}
	for _, p := range parts {
		if p.kind == "" {
			return fmt.Errorf("%s %s: its licence is none that this project accepts", p.name, p.version)
		}
	}
	if !check {
		return os.WriteFile(file, render(parts), 0o644)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var missing []string
	for _, p := range parts {
		if !bytes.Contains(have, []byte(entry(p))) {
			missing = append(missing, strings.TrimSpace(p.name+" "+p.version))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks %s; write it anew: make notices", file, strings.Join(missing, ", "))
	}
	return nil
}

// linked lists the modules of the packages that the program is made of, and
// Go itself, whose runtime and library are in every program.
func linked() ([]part, error) {
	dirs := map[string]string{}
	for _, p := range platforms {
		goos, goarch, _ := strings.Cut(p, "/")
		cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", ".")
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", p, err)
		}
		for _, line := range strings.Split(string(out), "\n") {
			if module, dir, ok := strings.Cut(line, "\t"); ok {
				dirs[strings.ReplaceAll(module, " ", "@")] = dir
			}
		}
	}
	var parts []part
	for _, m := range slices.Sorted(maps.Keys(dirs)) {
		name, version, _ := strings.Cut(m, "@")
		text, err := licence(dirs[m])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m, err)
		}
		if name == "golang.org/x/sys" { // by the same authors under the same terms
			parts = append(parts, part{"The Go programming language: runtime and standard library", "", kindOf(text), text})
		}
		parts = append(parts, part{name, version, kindOf(text), text})
	}
	return parts, nil
}

// licence joins the texts that a module's top folder holds about its licence.
func licence(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var texts []string
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.ToUpper(e.Name()), ".")
		if e.IsDir() || !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, name) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n"))+"\n")
	}
	if len(texts) == 0 {
		return "", fmt.Errorf("no licence in %s", dir)
	}
	return strings.Join(texts, "\n"), nil
}

func kindOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, k := range kinds {
		if strings.Contains(text, k.words) {
			return k.name
		}
	}
	return ""
}

func entry(p part) string {
	return fmt.Sprintf("  %s (%s)\n", strings.TrimSpace(p.name+" "+p.version), p.kind)
}

// render lists the parts, those with the same text together.
func render(parts []part) []byte {
	var b bytes.Buffer
	b.WriteString(`Edge Gateway contains, or carries inside, work of others. This file is made by
"make notices" from what is linked; the texts follow each group.

The face detector and the photographs of the demonstration, which its set-up
fetches, are no part of the program: @mediapipe/face_detection (Apache-2.0) and
@vladmandic/face-api (MIT).
`)
	var order []string
	groups := map[string][]part{}
	for _, p := range parts {
		if groups[p.text] == nil {
			order = append(order, p.text)
		}
		groups[p.text] = append(groups[p.text], p)
	}
	for _, text := range order {
		b.WriteString("\n" + strings.Repeat("=", 78) + "\n")
		for _, p := range groups[text] {
			b.WriteString(entry(p))
		}
		b.WriteString("\n" + strings.TrimRight(text, "\n") + "\n")
	}
	return b.Bytes()
}
