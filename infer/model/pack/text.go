package pack

import "errors"

// codeText codes bytes that are no weights, as a file's tables are: names,
// offsets, small numbers in fields of four bytes. Each byte is guessed from the
// one to four before it, and from those one and two fields back. It takes the
// bits that it guesses from left.
func codeText(c *coder, t *logistic, data []byte, left *int) error {
	if *left -= 8 * len(data); *left < 0 {
		return errors.New("it has more bytes under all contexts than a file may have")
	}
	m := newMixer(t, 16*len(data), 8*4, false)
	back := func(i, n int) uint32 {
		if i < n {
			return 0
		}
		return uint32(data[i-n])
	}
	for i := range data {
		one, two, field := back(i, 1), back(i, 2), back(i, 4)
		three := one | two<<8 | back(i, 3)<<16
		at := uint32(i & 3)
		contexts := [inputs]uint32{
			one, one | two<<8 | 1<<16, three*0x2F0B4C47 + 1, (three|field<<24)*0x6B43A9B5 + 2, field | at<<8, field | back(i, 8)<<8 | at<<16,
		}
		node := uint32(1)
		for bit := 7; bit >= 0; bit-- {
			var ctx [inputs]uint32
			for k, x := range contexts {
				ctx[k] = x*0x9E3779B1 + node*0x85EBCA6B
			}
			node = node<<1 | uint32(m.code(c, &ctx, (7-bit)*4+int(at), int(data[i]>>bit&1)))
		}
		data[i] = byte(node)
		if c.cut() {
			return errCut
		}
	}
	return nil
}
