package infer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// standIn answers a frame on the CPU that the accelerator did not answer, or
// answered wrongly, and takes the accelerator out of service.
func (m *Model) standIn(ctx context.Context, p *pool, cause error, begin time.Time, fill func([]Tensor) error, r *Result) error {
	m.fails.Inc()
	c, err := m.builtin()
	if err != nil {
		return fmt.Errorf("%w; and on the CPU: %w", cause, err)
	}
	if m.serving.CompareAndSwap(p, c) {
		p.retire()
		m.cpu.CompareAndSwap(c, nil)
		m.mu.Lock()
		m.degraded = cause.Error()
		m.backoff = time.Second
		m.retryAt = time.Now().Add(m.backoff)
		m.mu.Unlock()
		m.log.Warn().Err(cause).Str("delegate", p.delegate).Msg("the accelerator fails, the CPU goes on; it is tried again")
	}
	w, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer c.give(w)
	if err := fill(w.in); err != nil {
		return err
	}
	if err := w.invoke(); err != nil {
		return err
	}
	if err := c.decoder.decode(w.in, w.out, r); err != nil {
		return err
	}
	r.Model, r.Delegate, r.Took = m.name, c.delegate, time.Since(begin)
	return nil
}

// builtin gives the pool that stands in for the accelerator, and makes it
// when it is first needed.
func (m *Model) builtin() (*pool, error) {
	if c := m.cpu.Load(); c != nil {
		return c, nil
	}
	c, err := m.open("builtin")
	if err != nil {
		return nil, err
	}
	if !m.cpu.CompareAndSwap(nil, c) {
		c.retire()
		return m.builtin()
	}
	return c, nil
}

// compare runs the frame once more on the CPU: an accelerator that answers
// wrongly does not say so.
func (m *Model) compare(ctx context.Context, w *worker, fill func([]Tensor) error) error {
	c, err := m.builtin()
	if err != nil {
		return nil // no second opinion to be had
	}
	ref, err := c.take(ctx)
	if err != nil {
		return nil
	}
	defer c.give(ref)
	if err := fill(ref.in); err != nil {
		return nil
	}
	if err := ref.invoke(); err != nil {
		return nil
	}
	if why := disagree(ref.out, w.out); why != "" {
		return fmt.Errorf("its answer is not the CPU's: %s", why)
	}
	return nil
}

// coral are the USB ids of a Coral stick before and after its firmware is
// loaded.
var coral = [][2]string{{"1a6e", "089a"}, {"18d1", "9302"}}

// present says whether a Coral stick is plugged in, as the kernel lists it.
func present(sysfs string) bool {
	vendors, _ := filepath.Glob(filepath.Join(sysfs, "bus/usb/devices/*/idVendor"))
	for _, v := range vendors {
		vendor, err1 := os.ReadFile(v)
		product, err2 := os.ReadFile(filepath.Join(filepath.Dir(v), "idProduct"))
		if err1 != nil || err2 != nil {
			continue
		}
		for _, id := range coral {
			if strings.TrimSpace(string(vendor)) == id[0] && strings.TrimSpace(string(product)) == id[1] {
				return true
			}
		}
	}
	return false
}

// maxBackoff is the longest pause between two tries of an accelerator.
const maxBackoff = 5 * time.Minute

// revive tries an accelerator again that is out of service: when its time
// has come, and at once when a stick was plugged in. It serves again only
// when it agrees with the CPU.
func (m *Model) revive(ctx context.Context) {
	m.mu.Lock()
	out := m.degraded != "" && (m.cfg.Delegate == "external" || m.wantsAccelerator())
	usb := m.cfg.Accelerated != "" && present(m.engine.Sysfs)
	arrived := usb && !m.plugged
	m.plugged = usb
	due := out && (arrived || time.Now().After(m.retryAt))
	if due {
		m.backoff = min(max(2*m.backoff, time.Second), maxBackoff)
		m.retryAt = time.Now().Add(m.backoff)
	}
	m.mu.Unlock()
	if !due || m.serving.Load() == nil {
		return
	}
	p, err := m.open("external")
	if err == nil {
		err = m.proves(ctx, p)
	}
	if err != nil {
		if p != nil {
			p.free()
		}
		m.mu.Lock()
		m.degraded = err.Error()
		m.mu.Unlock()
		return
	}
	m.mu.Lock()
	m.degraded, m.why = "", "the accelerator is back and agrees with the CPU"
	m.mu.Unlock()
	m.swap(p)
	m.log.Info().Str("delegate", p.delegate).Msg("the accelerator is back")
}

// wantsAccelerator says whether the accelerator was the trial's choice.
func (m *Model) wantsAccelerator() bool {
	for _, c := range m.table {
		if c.Chosen && c.Name == "external" {
			return true
		}
	}
	return false
}

// proves runs a fixed input on a new pool and on the CPU.
func (m *Model) proves(ctx context.Context, p *pool) error {
	w, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer p.give(w)
	fixedInput(w.in, 0)
	if err := w.invoke(); err != nil {
		return err
	}
	return m.compare(ctx, w, func(in []Tensor) error { fixedInput(in, 0); return nil })
}
