//go:build !purego

package qwen

// Which kernels an amd64 processor can run, and what their assembly is called.
//
// A feature counts only if the processor has it and the operating system saves
// its registers when it switches between threads: golang.org/x/sys/cpu asks both.
//
//	avx2     Intel since 2013 (Haswell), AMD since 2015: AVX2, FMA, F16C
//	avx512   wider tiles for prefill and attention; decode is the same, since it
//	         waits for memory and not for arithmetic
//
// That package also reads GODEBUG, which is how to try another kernel than the
// best: GODEBUG=cpu.avx512f=off for avx2, GODEBUG=cpu.avx2=off for generic.
//
// Next: simd_amd64.s

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// machineKernels returns the kernels of this processor, the best first.
func machineKernels() []*kernel {
	if !(cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C) {
		return nil
	}
	avx2 := &kernel{
		name:    "avx2",
		dotsF32: dotsF32AVX2, dotsF16: dotsF16AVX2, dotsBF16: dotsBF16AVX2,
		widenF32: widenF32, widenF16: widenF16AVX2, widenBF16: widenBF16AVX2,
		tile: tileAVX2, rows: 4, tokens: 3,
		mix: mixAVX2, mixTokens: 3, mixColumns: 32,
		keys: keysAVX2, values: valuesAVX2,
		softmax: softmaxAVX2, silu: siluAVX2,
		prefetchBytes: prefetchBytes, prefetchFloats: prefetchFloats,
	}
	if !(cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL) {
		return []*kernel{avx2}
	}
	avx512 := *avx2
	avx512.name = "avx512"
	avx512.tile, avx512.rows, avx512.tokens = tileAVX512, 8, 6
	avx512.mix, avx512.mixTokens, avx512.mixColumns = mixAVX512, 6, 64
	return []*kernel{&avx512, avx2}
}

// widenF32 copies: amd64 is little-endian like the file.
func widenF32(dst []float32, src []byte) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*len(dst)), src)
}

// prefetchFloats is prefetchBytes for numbers.
func prefetchFloats(x []float32) {
	prefetchBytes(unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x)))
}

//go:noescape
func dotsF32AVX2(y []float32, w []byte, x []float32)

//go:noescape
func dotsF16AVX2(y []float32, w []byte, x []float32)

//go:noescape
func dotsBF16AVX2(y []float32, w []byte, x []float32)

//go:noescape
func widenF16AVX2(dst []float32, src []byte)

//go:noescape
func widenBF16AVX2(dst []float32, src []byte)

//go:noescape
func tileAVX2(t *tile)

//go:noescape
func tileAVX512(t *tile)

//go:noescape
func prefetchBytes(x []byte)

//go:noescape
func mixAVX2(t *tile)

//go:noescape
func mixAVX512(t *tile)

//go:noescape
func keysAVX2(y, w, x []float32)

//go:noescape
func valuesAVX2(y, w, x []float32)

//go:noescape
func softmaxAVX2(x []float32)

//go:noescape
func siluAVX2(y, x []float32)
