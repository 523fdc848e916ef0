package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// slow is a table whose first epoch takes longer than anybody waits, by the
// network of the file beside it.
func slow(t *testing.T, dir string) (data, network string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("a,b,class\n")
	for i := range 30000 {
		b.WriteString([]string{"1,2,x\n", "2,3,y\n", "4,1,x\n"}[i%3])
	}
	return write(t, dir, "slow.csv", b.String()),
		write(t, dir, "slow.yaml", "layers:\n  - {type: dense, units: 4096, activation: relu}\n  - {type: dense, units: 4096, activation: relu}\n  - {type: dense, activation: softmax}\n")
}

// Ctrl-C before the first epoch is whole: a model of before stays as it was, and
// nothing is named that is not there.
func TestTrainStoppedEarly(t *testing.T) {
	dir := t.TempDir()
	data, network := slow(t, dir)
	out := write(t, dir, "good.tflite", "a model of before")
	p := start(t, "train", "--data", data, "--target", "class", "--network", network, "--out", out, "--resume")
	p.Line(`there is no checkpoint .*good.tflite.checkpoint: the training begins anew`)
	p.Line(`samples to learn from`)
	cut(t, p, "stopped before the first epoch was whole: "+out+" is not written; the same command begins anew")
	if read(t, out) != "a model of before" {
		t.Error("the model of before is gone")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*good*")); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

// Ctrl-C before the first epoch of prune or cluster is whole: what is not trained
// is not written over a model of before.
func TestTunedStoppedEarly(t *testing.T) {
	dir := t.TempDir()
	few := write(t, dir, "few.csv", "a,b,class\n"+strings.Repeat("1,2,x\n2,3,y\n4,1,x\n", 20))
	model := filepath.Join(dir, "small.tflite")
	done(t, "", "train", "--data", few, "--target", "class", "--epochs", "1", "--out", model)
	many := write(t, dir, "many.csv", "a,b,class\n"+strings.Repeat("1,2,x\n2,3,y\n4,1,x\n", 100000))
	for _, args := range [][]string{{"prune", "--sparsity", "0.9"}, {"prune", "--pattern", "channels", "--macs", "0.5"}, {"cluster"}} {
		out := write(t, dir, "good.tflite", "a model of before")
		p := start(t, append(args, "--data", many, "--target", "class", "--epochs", "5", "--batch", "1", "--out", out, model)...)
		p.Line(`column class`) // it has read the data
		cut(t, p, "stopped")
		if strings.Contains(p.Output(), "epoch 1") || read(t, out) != "a model of before" {
			t.Errorf("%v: the model of before is gone:\n%s", args, p.Output())
		}
	}
}

// Early stopping says that it stopped, and which epoch is kept; a rate that is
// far too large is no success.
func TestTrainSays(t *testing.T) {
	dir := t.TempDir()
	learn := idx(t, dir, "train", 200, 150, false)
	out := filepath.Join(dir, "m.tflite")
	said := done(t, "", "train", "--data", learn, "--epochs", "200", "--patience", "3", "--rate", "0.01", "--out", out)
	n := len(readFigures(t, out).History)
	if !strings.Contains(said, "no better epoch in 3: the training ends after ") || !strings.Contains(said, "the weights are those of epoch ") || n == 200 {
		t.Errorf("%d epochs:\n%s", n, said)
	}
	r := run(t, "", "train", "--data", learn, "--epochs", "2", "--rate", "1e9", "--out", filepath.Join(dir, "wild.tflite"))
	if r.code != 3 || !strings.Contains(r.stderr, "the training diverged") || !strings.Contains(r.stderr, "smaller") {
		t.Errorf("%+v", r)
	}
}
