package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/image/draw"

	"edgegateway/infer"
	"edgegateway/sensors"
)

// peerServer is another gateway, which runs already.
func (b *bench) peerServer() (*server, error) {
	s := &server{url: b.peer, in: "peer/in/", out: "peer/out/"}
	for _, text := range strings.FieldsFunc(b.peerPids, func(r rune) bool { return r == ',' }) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--peer-pids: %q is no process id", text)}
		}
		s.pids = append(s.pids, pid)
	}
	return s, nil
}

// resized is the picture of a file as a JPEG of the given size.
func resized(path, size string) ([]byte, error) {
	var w, h int
	if _, err := fmt.Sscanf(size, "%dx%d", &w, &h); err != nil || w < 1 || h < 1 || w > 10000 || h > 10000 {
		return nil, &exitError{exitUsage, fmt.Errorf("--size: %q is no size such as 640x480", size)}
	}
	img, err := openPicture(path)
	if err != nil {
		return nil, err
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.ApproxBiLinear.Scale(out, out.Bounds(), img, img.Bounds(), draw.Src, nil)
	var b bytes.Buffer
	err = jpeg.Encode(&b, out, &jpeg.Options{Quality: 85})
	return b.Bytes(), err
}

// direct measures decode, resize and invoke called in loops, as many as a
// stream has workers, while the publisher sends to the echo what the gateway
// took: what the whole way costs more is the difference. Loops and gateway
// take turns.
func (b *bench) direct(ctx context.Context, out io.Writer, payload []byte, delegate string, echo, gateway *server) error {
	var loops, whole []float64
	n := b.publishers[len(b.publishers)-1]
	for range b.rounds {
		g, err := gateway.measure(ctx, payload, n, 0, b.length, 0)
		if err != nil {
			return err
		}
		whole = append(whole, g.rate)
		rate, err := b.loops(ctx, payload, delegate, echo, int(g.rate), n)
		if err != nil {
			return err
		}
		loops = append(loops, rate)
	}
	w, l := middle(whole), middle(loops)
	fmt.Fprintf(out, "\npictures: whole way %.1f/s, decode + resize + invoke in loops %.1f/s: %.0f %%\n", w, l, 100*w/l)
	return nil
}

// loops runs the direct loops in a process of their own and gives their rate.
func (b *bench) loops(ctx context.Context, payload []byte, delegate string, echo *server, rate, publishers int) (float64, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	file, err := os.CreateTemp("", "edgegateway-bench-*.jpg")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(payload)
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, exe, "bench", "loops", "--model", b.model, "--output", b.output,
		"--picture", file.Name(), "--jpeg", b.jpeg, "--delegate", delegate, "--seconds", b.length.String())
	cmd.Stderr = os.Stderr
	r, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(r)
	lines.Scan() // it is warm
	var wg sync.WaitGroup
	var published error
	wg.Go(func() { _, published = echo.measure(ctx, payload, publishers, 0, b.length, max(rate, 1)) })
	lines.Scan()
	per, err := strconv.ParseFloat(lines.Text(), 64)
	wg.Wait()
	if werr := cmd.Wait(); werr != nil {
		return 0, fmt.Errorf("bench loops: %w", werr)
	}
	if published != nil {
		return 0, published
	}
	return per, err
}

// loopsCommand is the process that loops does start: one line when it is
// warm, then the rate.
func loopsCommand() *cobra.Command {
	var f modelFlags
	var picture, decoder, file string
	var length time.Duration
	cmd := &cobra.Command{
		Use: "loops", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := os.ReadFile(picture)
			if err != nil {
				return err
			}
			cfg := sensors.DefaultImageConfig()
			cfg.JPEG = decoder
			workers := runtime.GOMAXPROCS(0) // as a stream has
			f.workers = workers
			e, m, err := f.open(file, os.TempDir(), nil)
			if err != nil {
				return err
			}
			defer e.Close()
			var wg sync.WaitGroup
			counts := make([]int, workers)
			errs := make([]error, workers)
			fmt.Println("warm")
			begin := time.Now()
			for i := range workers {
				wg.Go(func() {
					images := sensors.NewImageDecoder()
					var res infer.Result
					fill := func(in []infer.Tensor) error {
						dst, err := pictureTarget(in[0])
						if err != nil {
							return err
						}
						_, err = images.Into(data, cfg, dst)
						return err
					}
					for time.Since(begin) < length && errs[i] == nil {
						errs[i] = m.Run(cmd.Context(), fill, &res)
						counts[i]++
					}
				})
			}
			wg.Wait()
			total := 0
			for i, n := range counts {
				if errs[i] != nil {
					return errs[i]
				}
				total += n
			}
			fmt.Printf("%.1f\n", float64(total)/time.Since(begin).Seconds())
			return nil
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&file, "model", "", "")
	fl.StringVar(&picture, "picture", "", "")
	fl.StringVar(&decoder, "jpeg", "auto", "")
	fl.DurationVar(&length, "seconds", time.Second, "")
	return cmd
}
