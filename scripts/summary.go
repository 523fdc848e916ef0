//go:build ignore

// Summary reads `go test -json` and prints what a person wants to know: the
// packages as they end, the output of what failed, what was skipped and why,
// and one closing line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// reason is the message of a skip: "    file_test.go:12: why".
var reason = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)$`)

func main() {
	var passed, failed int
	skips := map[string]int{}
	output := map[string][]string{}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			output[key] = append(output[key], e.Output)
		case "build-fail":
			failed++
			fmt.Print(strings.Join(output[key], ""))
		case "pass", "fail", "skip":
			if e.Test == "" {
				if e.Action != "skip" || len(output[key]) > 1 {
					fmt.Printf("%-5s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
				}
				if e.Action == "fail" {
					fmt.Print(strings.Join(output[key], ""))
				}
				continue
			}
			switch e.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				fmt.Print(strings.Join(output[key], ""))
			case "skip":
				why := "no reason given"
				for _, line := range output[key] {
					if m := reason.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
						why = m[1]
					}
				}
				skips[why]++
			}
			delete(output, key)
		}
	}
	skipped := 0
	var whys []string
	for why, n := range skips {
		skipped += n
		whys = append(whys, fmt.Sprintf("  %d: %s", n, why))
	}
	sort.Strings(whys)
	if skipped > 0 {
		fmt.Printf("skipped:\n%s\n", strings.Join(whys, "\n"))
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 {
		os.Exit(1)
	}
}
