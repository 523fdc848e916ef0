package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"edgegateway/infer/tflite"
)

// widths are how many samples one Invoke can take where messages wait, the
// widest first. A dense layer reads all its weights for one row as for many:
// of an autoencoder of 270,000 weights 16 rows cost as much as 5.
var widths = [...]int{16, 4}

// wide is an interpreter of the same model for several samples at once.
type wide struct {
	n       int
	w       *worker
	in, out [][]Tensor // of each row
}

// runMany is Model.RunMany on this version.
func (m *version) runMany(ctx context.Context, n int, fill func(i int, in []Tensor) error, result func(i int) *Result, errs []error) (taken int) {
	p := m.serving.Load()
	if p == nil || !m.batches || n < widths[len(widths)-1] {
		return 0
	}
	w, err := p.take(ctx)
	if err != nil { // Run says what it is
		return 0
	}
	defer p.give(w)
	for k, width := range widths {
		if n-taken < width {
			continue
		}
		if !m.widened.Load() {
			m.widened.Store(true)
		}
		w.widen(m, p.delegate, k)
		for w.wide[k] != nil && n-taken >= width {
			w.wide[k].run(m, p, taken, fill, result, errs)
			taken += width
		}
	}
	return taken
}

// run takes the samples from on.
func (b *wide) run(m *version, p *pool, from int, fill func(int, []Tensor) error, result func(int) *Result, errs []error) {
	begin := time.Now()
	for k := range b.n {
		errs[from+k] = fill(from+k, b.in[k])
	}
	if err := b.w.invoke(); err != nil {
		for k := range b.n {
			errs[from+k] = err
		}
		m.counts.failed(b.n)
		return
	}
	b.rows()
	took := time.Since(begin) / time.Duration(b.n)
	for k := range b.n {
		if errs[from+k] != nil {
			continue
		}
		r := result(from + k)
		if errs[from+k] = p.decoder.decode(b.in[k], b.out[k], r); errs[from+k] != nil {
			m.counts.failed(1)
			continue
		}
		m.answered(p, r, took)
	}
}

// rows looks where each row's part of the outputs is.
func (b *wide) rows() {
	for o := range b.w.out {
		data := b.w.out[o].Data
		size := len(data) / b.n
		for k := range b.n {
			b.out[k][o].Data = data[k*size : (k+1)*size]
		}
	}
}

// widen makes the worker's interpreter for the k-th width, once.
func (w *worker) widen(m *version, delegate string, k int) {
	if !w.isWide[k] {
		w.isWide[k] = true
		w.wide[k] = m.widen(w, delegate, widths[k])
	}
}

// widen makes the wide interpreter of a worker, nil where the answers are not
// those of the narrow one to the last bit or it is hardly faster.
func (m *version) widen(narrow *worker, delegate string, n int) *wide {
	b, err := m.newWide(delegate, n)
	if err == nil {
		if err = b.proves(narrow); err == nil {
			return b
		}
		b.w.close()
	}
	m.log.Debug().Err(err).Int("samples", n).Msg("samples are taken one by one")
	return nil
}

func (m *version) newWide(delegate string, n int) (*wide, error) {
	d, err := parseDelegate(delegate)
	if err != nil {
		return nil, err
	}
	file, err := m.batched(n)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := &wide{n: n}
	if b.w, err = newWorker(m.lib, file, d, nil); err != nil {
		return nil, err
	}
	row := func(t Tensor, k int) Tensor {
		size := len(t.Data) / n
		t.Data = t.Data[k*size : (k+1)*size]
		t.Shape = slices.Clone(t.Shape)
		t.Shape[0] = 1
		return t
	}
	for k := range n {
		var in, out []Tensor
		for _, t := range b.w.in {
			in = append(in, row(t, k))
		}
		for _, t := range b.w.out {
			out = append(out, row(t, k))
		}
		b.in, b.out = append(b.in, in), append(b.out, out)
	}
	return b, nil
}

// batched opens the file for n samples; it is written once for all workers.
func (m *version) batched(n int) (*tflite.Model, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data := m.files[n]
	if data == nil {
		c := m.file.model.Batched(n)
		if c == nil {
			return nil, errors.New("its layers do not keep samples apart")
		}
		var err error
		if data, err = c.Write(); err != nil {
			return nil, err
		}
		if m.files == nil {
			m.files = map[int][]byte{}
		}
		m.files[n] = data
	}
	return m.lib.NewModel(data)
}

// proves holds the rows' answers against those of the narrow interpreter, and
// both against the clock.
func (b *wide) proves(narrow *worker) error {
	var want [inputs][][]byte
	for v := range inputs {
		fixedInput(narrow.in, v)
		if err := narrow.invoke(); err != nil {
			return err
		}
		for _, o := range narrow.out {
			want[v] = append(want[v], bytes.Clone(o.Data))
		}
	}
	for k := range b.n {
		fixedInput(b.in[k], k%inputs)
	}
	if err := b.w.invoke(); err != nil {
		return err
	}
	b.rows()
	for k := range b.n {
		for o := range b.out[k] {
			if !bytes.Equal(b.out[k][o].Data, want[k%inputs][o]) {
				return fmt.Errorf("row %d of %d answers otherwise than alone", k, b.n)
			}
		}
	}
	one, all := time.Hour, time.Hour
	for range 15 {
		begin := time.Now()
		for range b.n {
			if err := narrow.invoke(); err != nil {
				return err
			}
		}
		one = min(one, time.Since(begin))
		begin = time.Now()
		if err := b.w.invoke(); err != nil {
			return err
		}
		all = min(all, time.Since(begin))
	}
	if all > one*8/10 {
		return fmt.Errorf("%d samples take %v at once and %v one by one", b.n, all, one)
	}
	return nil
}
