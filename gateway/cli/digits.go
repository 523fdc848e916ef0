package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"edgegateway/infer/compress"
	"edgegateway/infer/train"
	"edgegateway/internal/link"
)

// then begins the lines of configs/demo.yaml that count once the model is
// there. Behind it they are as a user would add them.
const then = "# then: "

// Where the model is written, in the folder of the demonstration.
const (
	digitsFloat = "digits.tflite"
	digitsInt8  = "digits-int8.tflite"
)

// digits is the part of the demonstration that makes its own model: train,
// quantize, evaluate, deploy, each by the command that a user would type, then
// handwritten digits by MQTT, and while they come another version of the model.
type digits struct {
	demo   *demo
	mnist  string // folder with the IDX files
	data   string // folder to write to
	config string // of the gateway
	env    []string
	broker string // of the gateway
	cloud  string // the broker there
}

// run ends with ctx, or says what went wrong and lets the rest go on.
func (s *digits) run(ctx context.Context) {
	say := func(err error) {
		if err != nil && ctx.Err() == nil {
			s.demo.say("digits", "not shown: %v", err)
		}
	}
	if err := s.make(ctx); err != nil {
		say(err)
		return
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { say(s.rollout(ctx)) })
	say(s.publish(ctx))
}

func (s *digits) make(ctx context.Context) error {
	images, test := filepath.Join(s.mnist, "train-images-idx3-ubyte"), filepath.Join(s.mnist, "t10k-images-idx3-ubyte")
	if _, err := os.Stat(test); err != nil {
		return errors.New("MNIST is not there; use: make run")
	}
	s.demo.say("train", "a network of this box's own, on the 60,000 digits of MNIST")
	if _, err := s.command(ctx, "train", "train", "--data", images, "--test", test, "--val", "0",
		"--epochs", "3", "--rate", "0.003", "--schedule", "cosine", "--out", digitsFloat); err != nil {
		return err
	}
	s.demo.say("quantize", "its weights and values to int8")
	if _, err := s.command(ctx, "quantize", "quantize", "--data", images, "--samples", "1000", "--out", digitsInt8, digitsFloat); err != nil {
		return err
	}
	text, err := s.command(ctx, "", "evaluate", "--no-latency", "--format", "json", "--data", test, digitsFloat, digitsInt8)
	if err != nil {
		return err
	}
	var judged []compress.Evaluation
	if err := json.Unmarshal(text, &judged); err != nil || len(judged) != 2 || judged[0].Quality == nil || judged[1].Quality == nil {
		return fmt.Errorf("evaluate said %q: %v", text, err)
	}
	for i, name := range []string{"float", "int8"} {
		s.demo.say("evaluate", "%-5s  %.2f %% of %d right, %.0f kB", name, 100*judged[i].Quality.Top1, judged[i].Quality.Samples, float64(judged[i].Cost.Bytes)/1000)
	}
	return s.deploy(ctx)
}

// deploy adds what a user would add to the configuration, and reloads.
func (s *digits) deploy(ctx context.Context) error {
	text, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	s.demo.say("deploy", "the lines marked then: in configs/demo.yaml, and a reload")
	if err := writeWhole(s.config, bytes.ReplaceAll(text, []byte(then), nil)); err != nil {
		return err
	}
	_, err = s.command(ctx, "deploy", "reload", "--config", s.config)
	return err
}

// command runs this program with arguments and gives what it printed, which is
// said line by line as who, if anybody.
func (s *digits) command(ctx context.Context, who string, args ...string) ([]byte, error) {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = filepath.Base(a)
	}
	say := func(text string) {
		for _, line := range wrap(text, s.demo.width-len("15:04:05  gateway  ")) {
			s.demo.say(who, "%s", line)
		}
	}
	if who != "" {
		say("$ edgegateway " + strings.Join(shown, " "))
	}
	// Killed at once by Ctrl-C: nobody wants the best so far of this.
	cmd := exec.CommandContext(ctx, s.demo.exe, args...)
	cmd.Dir, cmd.Env = s.data, append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var wrong, out bytes.Buffer
	cmd.Stderr = &wrong
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	in := bufio.NewReader(lines)
	for {
		line, err := in.ReadString('\n')
		out.WriteString(line)
		if text := strings.TrimSpace(line); text != "" && who != "" {
			say(text)
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("edgegateway %s: %w: %s", args[0], err, bytes.TrimSpace(wrong.Bytes()))
	}
	return out.Bytes(), nil
}

// How many digits a second are published, and which part of them is shown: a
// line each other second.
const (
	digitsRate  = 10
	digitsShown = 20
)

// publish sends digits that the model was not trained on, as PNG, each to a
// topic that ends in what it is.
func (s *digits) publish(ctx context.Context) error {
	d, err := train.LoadIDX(filepath.Join(s.mnist, "t10k-images-idx3-ubyte"), filepath.Join(s.mnist, "t10k-labels-idx1-ubyte"))
	if err != nil {
		return err
	}
	conn, err := link.Connect(ctx, link.Config{URL: "tcp://" + s.broker, ClientID: "scanner"})
	if err != nil {
		return err
	}
	defer conn.Close()
	s.demo.say("scanner", "%d handwritten digits a second to scanner/desk/N, where N is", digitsRate)
	s.demo.say("", "what was written; one answer in %d is shown, behind digits/N", digitsShown)
	tick := time.NewTicker(time.Second / digitsRate)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % d.Len() {
		file, err := digitPNG(d, i)
		if err != nil {
			return err
		}
		if err := conn.Publish(ctx, link.Msg{Topic: fmt.Sprintf("scanner/desk/%d", d.Labels[i]), Payload: file, QoS: 1}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Done():
			return conn.Err()
		case <-tick.C:
		}
	}
}

// digitPNG is a picture of a set as a file.
func digitPNG(d *train.Dataset, i int) ([]byte, error) {
	h, w := d.Shape[0], d.Shape[1]
	var file bytes.Buffer
	err := png.Encode(&file, &image.Gray{Pix: d.Pixels[i*h*w : (i+1)*h*w], Stride: w, Rect: image.Rect(0, 0, w, h)})
	return file.Bytes(), err
}
