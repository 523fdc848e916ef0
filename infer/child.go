package infer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// trialLimit is how long one child may take.
const trialLimit = time.Minute

// ChildTrial is a TrialFunc that starts a program with arguments as the
// child, gives it the request and reads its reports. Where the child dies,
// the candidate it had begun is to blame, and another child tries the rest.
func ChildTrial(program string, args ...string) TrialFunc {
	return func(ctx context.Context, req TrialRequest) ([]CandidateReport, error) {
		all := req.Candidates
		found := map[string]CandidateReport{}
		for len(req.Candidates) > 0 {
			begun, err := runChild(ctx, program, args, req, found)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err == nil {
				break
			}
			if begun == "" || begun == all[0] {
				return nil, err
			}
			found[begun] = CandidateReport{Name: begun, Why: fmt.Sprintf("the child process died of it: %v", err)}
			req.Candidates = slices.DeleteFunc(slices.Clone(req.Candidates), func(n string) bool {
				return n == begun || found[n].Name != "" && !found[n].OK
			})
		}
		var list []CandidateReport
		for _, n := range all {
			if r, ok := found[n]; ok {
				list = append(list, r)
			}
		}
		return list, nil
	}
}

// runChild runs one child; begun is whom it touched last when it died.
func runChild(ctx context.Context, program string, args []string, req TrialRequest, found map[string]CandidateReport) (begun string, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	b, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(string(b))
	var said tail
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("the child process cannot be started: %w", err)
	}
	dec := json.NewDecoder(io.LimitReader(out, 1<<20))
	for {
		var r CandidateReport
		if dec.Decode(&r) != nil {
			break
		}
		if r.Begun {
			begun = r.Name
			continue
		}
		found[r.Name] = r
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not done within %v", trialLimit)
		}
		return begun, fmt.Errorf("%w %s", err, strings.TrimSpace(said.text))
	}
	return begun, nil
}

// tail keeps the last of what a child says.
type tail struct{ text string }

func (t *tail) Write(p []byte) (int, error) {
	t.text += string(p)
	if len(t.text) > 400 {
		t.text = t.text[len(t.text)-400:]
	}
	return len(p), nil
}
