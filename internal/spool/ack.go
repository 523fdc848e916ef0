package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ackSync is how much of the acknowledged position a power cut may forget.
// A killed process forgets none of it.
const ackSync = time.Second

// ackFile keeps the acknowledged position in two slots that are written in
// turn, so that a torn write leaves the one before.
type ackFile struct {
	fs   FS
	dir  string
	mu   sync.Mutex
	file File
	slot int64
	next time.Time // when it is synced again
	new  bool      // the folder does not know it for certain yet
}

const ackSlot = 16

func (a *ackFile) path() string { return filepath.Join(a.dir, "ack") }

// load returns the position that was kept, 0 when there is none.
func (a *ackFile) load() uint64 {
	f, err := a.fs.OpenFile(a.path(), os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	var b [2 * ackSlot]byte
	n, _ := f.ReadAt(b[:], 0)
	var seq uint64
	for i := 0; i+ackSlot <= n; i += ackSlot {
		if s := b[i : i+ackSlot]; crc32.Checksum(s[:8], castagnoli) == binary.LittleEndian.Uint32(s[8:]) {
			if v := binary.LittleEndian.Uint64(s); v > seq {
				seq, a.slot = v, int64(1-i/ackSlot)
			}
		}
	}
	return seq
}

// store keeps seq; flush makes it durable at once.
func (a *ackFile) store(seq uint64, flush bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		f, err := a.fs.OpenFile(a.path(), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		a.file, a.new = f, true
	}
	var b [ackSlot]byte
	binary.LittleEndian.PutUint64(b[:], seq)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	if _, err := a.file.WriteAt(b[:], a.slot*ackSlot); err != nil {
		return fmt.Errorf("keep the acknowledged position: %w", err)
	}
	a.slot = 1 - a.slot
	now := time.Now()
	if !flush && now.Before(a.next) {
		return nil
	}
	a.next = now.Add(ackSync)
	if err := a.file.Sync(); err != nil {
		_ = a.file.Close()
		a.file = nil // opened anew next time
		return fmt.Errorf("sync the acknowledged position: %w", err)
	}
	if a.new {
		if err := a.fs.SyncDir(a.dir); err != nil {
			return fmt.Errorf("sync %s: %w", a.dir, err)
		}
		a.new = false
	}
	return nil
}

func (a *ackFile) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
