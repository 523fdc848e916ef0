package cli

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"edgegateway/fl"
	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// Data of any kind are taken by the task's classes: by their names, in its order,
// any part of them; of others they are left out. A plain train refuses one class.
func TestTaskData(t *testing.T) {
	path, file, exits := flFolder(t)
	both := file("both.csv", "a,b,state\n1,2,failure\n2,1,ok\n3,5,ok\n4,1,broken\n")
	one := file("one.csv", "a,b,state\n1,2,ok\n2,1,ok\n")
	numbers := file("numbers.csv", "a,b,state\n1,2,1\n2,1,1\n")
	strange := file("strange.csv", "a,b,state\n1,2,new\n2,1,new\n")
	for _, class := range []string{"ok", "broken"} {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 2, 1))); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"mixed", "single"} {
			if dir == "single" && class != "ok" {
				continue
			}
			if err := os.MkdirAll(path(dir+"/"+class), 0o700); err != nil {
				t.Fatal(err)
			}
			file(dir+"/"+class+"/1.png", b.String())
		}
	}
	_, err := dataset.Import(path(""), "set", dataset.Header{}, nil, func(add func(dataset.Sample) error) error {
		return add(dataset.Sample{Values: []float64{1, 2}, Label: "ok"})
	})
	if err != nil {
		t.Fatal(err)
	}
	table, pictures := train.Shape{2}, train.Shape{1, 2, 1}
	target := train.CSVConfig{Target: []string{"state"}}
	for _, c := range []struct {
		from    dataSource
		in      train.Shape
		classes string
		labels  []int32
		says    string
	}{
		{dataSource{path: both, csv: target}, table, "ok failure", []int32{1, 0, 0}, "both.csv: 1 of 4 samples are of classes that the task does not know"},
		{dataSource{path: one, csv: target}, table, "ok failure", []int32{0, 0}, ""},
		{dataSource{path: one, csv: target}, table, "failure ok", []int32{1, 1}, ""},
		{dataSource{path: numbers, csv: target}, table, "0 1", []int32{1, 1}, ""},
		{dataSource{path: strange, csv: target}, table, "ok failure", nil, "strange.csv: no sample is of one of the task's classes ok, failure; its own are new"},
		{dataSource{path: both, csv: target}, table, "", []int32{1, 2, 2, 0}, ""},
		{dataSource{path: one, csv: target}, table, "", nil, "is ok in every row"},
		{dataSource{path: one}, table, "ok failure", nil, "one.csv: the task tells the classes ok, failure, and the data has none"},
		{dataSource{path: one, csv: target}, train.Shape{3}, "ok failure", nil, "one.csv: the task takes inputs of [3], the data has [2]"},
		{dataSource{path: path("mixed"), fit: "stretch"}, pictures, "failure ok", []int32{1}, "mixed: 1 of 2 samples are of classes"},
		{dataSource{path: path("single"), fit: "stretch"}, pictures, "failure ok", []int32{1}, ""},
		{dataSource{path: dataset.Dir(path(""), "set"), fit: "letterbox"}, table, "failure ok", []int32{1}, ""},
	} {
		var said strings.Builder // a task without names has a file: the data's are taken
		task := &fl.Task{Model: fl.ModelConfig{Input: c.in, Classes: strings.Fields(c.classes)}}
		d, err := c.from.forTask(context.Background(), task, io.Discard, &said)
		if err != nil {
			said.WriteString(err.Error())
		}
		if (err != nil) != (c.labels == nil) || !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%s for %s: says %q, %v", c.from.path, c.classes, said.String(), err)
		}
		if err == nil && (!slices.Equal(d.Labels, c.labels) || c.classes != "" && !slices.Equal(d.Classes, task.Model.Classes) || !slices.Equal(d.Shape, c.in)) {
			t.Errorf("%s for %s: labels %v of %v, shape %v", c.from.path, c.classes, d.Labels, d.Classes, d.Shape)
		}
	}
	exits(exitInvalid, "is ok in every row", "train", "--data", one, "--target", "state", "--out", path("model.tflite"))
	exits(exitInvalid, "there are at least two", "train", "--data", path("single"), "--size", "1x2x1", "--out", path("model.tflite"))
}

// The commands take such data: gateways that saw one class each, data that judges
// with one class, and one that the task does not know.
func TestTaskDataCommands(t *testing.T) {
	addr := testkit.Mosquitto(t, "")
	path, file, exits := flFolder(t)
	exits(0, "", "keys", "new", path("boss"))
	file("well.csv", "a,b,state\n"+strings.Repeat("0.1,0.2,ok\n0.3,0.1,ok\n", 20))
	file("worn.csv", "a,b,state\n"+strings.Repeat("0.9,0.8,failure\n0.5,0.4,dusty\n0.7,0.9,failure\n", 10))
	task := file("task.yaml", "name: press\nmodel: {preset: mlp, input: [2], classes: [ok, failure]}\ndata: {stream: none}\nrounds: 2\ncohort: {quorum: 2, wait_for: 2}\n")
	exits(0, "worn.csv: 10 of 30 samples are of classes that the task does not know, and left out",
		"fl", "simulate", task, "--participants", "2", "--data", path("well.csv"), "--target", "state", "--holdout", path("worn.csv"))

	for _, name := range []string{"well", "worn"} {
		exits(0, "", "keys", "new", path(name))
		exits(0, "enrolled", "fl", "enroll", "--enrolled", path("enrolled"), name, path(name+".pub"))
	}
	boss := testkit.Start(t, testkit.Command(t, "fl", "coordinator", "--broker", addr, "--key", path("boss.pem"), "--enrolled", path("enrolled"), "--data", path("tasks"),
		"--holdout", path("worn.csv"), "--target", "state", task))
	boss.Line("worn.csv: 10 of 30 samples are of classes")
	for name, samples := range map[string]string{"well": "40", "worn": "20"} {
		p := testkit.Start(t, testkit.Command(t, "fl", "join", "--broker", addr, "--name", name, "--key", path(name+".pem"), "--trust", path("boss.pub"),
			"--data", path(name+".csv"), "--target", "state", "--state", path(name+"-state")))
		p.Line("task press: " + samples + " samples to take part with")
	}
	boss.Line("round 2 of 2: 2 updates, .* on 20 held-out samples")
	if code := boss.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, boss.Output())
	}
}
