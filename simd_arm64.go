//go:build !purego

package qwen

// The NEON kernel: the products of Linear and the scores of attention, which are
// nearly all of the time. The rest is the generic kernel's. Newer processors have a dot
// product for BF16 (BFDOT), which takes activations in BF16 as well: it would round
// them, and give other logits than float32 does.
//
// Next: simd_arm64.s

import "unsafe"

// machineKernels returns the kernel of every arm64 processor.
func machineKernels() []*kernel {
	return []*kernel{{
		name:    "neon",
		dotsF32: dotsF32NEON, dotsF16: dotsF16NEON, dotsBF16: dotsBF16NEON,
		widenF32: widenGeneric(F32), widenF16: widenGeneric(F16), widenBF16: widenGeneric(BF16),
		tile: tileNEON, rows: 4, tokens: 2,
		mix: mixGeneric, mixTokens: 1, mixColumns: 8,
		softmax: softmaxGeneric, silu: siluGeneric,
	}}
}

//go:noescape
func dotsF32NEON(y []float32, w []byte, x []float32)

//go:noescape
func dotsBF16NEON(y []float32, w []byte, x []float32)

//go:noescape
func tileNEON(t *tile)

// dotsF16NEON widens four rows at a time: Go's assembler has no vector conversion
// of half precision.
func dotsF16NEON(y []float32, w []byte, x []float32) {
	rows := make([]float32, dotRows*len(x))
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&rows[0])), 4*len(rows))
	for ; len(y) > 0; y, w = y[dotRows:], w[2*len(rows):] {
		widen(rows, w[:2*len(rows)], F16)
		dotsF32NEON(y[:dotRows], bytes, x)
	}
}
