//go:build !purego

// The kernels for amd64: AVX2 with FMA and F16C, and two of them for AVX-512.
// kernel.go says what each must compute and in which order; simd_amd64.go says
// when they may be used.
//
// How to read this file. Go's assembler writes sources first and the destination
// last: VFMADD231PS Y4, Y8, Y0 means Y0 += Y8*Y4, with one rounding. Y0 to Y15 are
// registers of eight float32, X0 to X15 their lower halves, Z0 to Z31 registers of
// sixteen. y_base+0(FP) is an argument, whose place go vet checks; tile_w(AX) is
// the field w of the tile that AX points to, from go_asm.h. At the right stands
// what a line does, in Go: s0 to s3 are [8]float32 sums, w0 to w3 four rows of
// weights, x, x0, x1 … rows of activations, each slice moving on with its loop.
//
// Every function that uses Y or Z registers ends with VZEROUPPER: as long as the upper halves of the
// registers are in use, the SSE code that Go compiles to runs slowly.
//
// None checks a length. Loads need no alignment.
//
// Next: simd_arm64.go

#include "go_asm.h"
#include "textflag.h"

// func dotsBF16AVX2(y []float32, w []byte, x []float32)
//
// dotsBF16AVX2 sets y[r] = Σ w[r][c]*x[c]. len(x) is a multiple of 16, len(y) of 4. The
// rows are read in four streams, each a quarter of them. In Go, with q = len(y)/4:
//
//	for r := range q {                                 // rows
//		w0, w1, w2, w3 = rows r, q+r, 2q+r, 3q+r of w
//		s0, s1, s2, s3 = 0, 0, 0, 0
//		for c := 0; c < len(x); c += 16 {              // columns, as two times 8
//			s0 += float32(w0[c:c+8])*x[c:c+8]; s1 += float32(w1[c:c+8])*x[c:c+8]; …
//			s0 += float32(w0[c+8:c+16])*x[c+8:c+16]; …
//		}
//		y[r], y[q+r], y[2q+r], y[3q+r] = sum of s0, s1, s2, s3
//	}
//
// Registers: DI = y[r]   SI = w0   DX = x   BX = rounds left, at first q   R8 = bytes of a quarter of w   R9 = of three
// R10 = x in the row   R11 = columns left in the row   R12 = bytes of a quarter of y   R13 = of three
// Y0–Y3 = s0–s3   Y4–Y7 = eight weights of each row   Y8 = eight numbers of x
//
// A bfloat16 is the upper half of a float32: VPMOVZXWD puts eight of them into the
// lower halves of eight 32-bit words, VPSLLD moves them up. All bits are kept.
//
// Why one sum a row: its order is the same in a tile, so that decode and prefill
// agree. Why four rows: an FMA takes 4 or 5 cycles and the next one on the same sum
// has to wait for it. Four sums make 64 bytes of weights in that time, several times
// what memory delivers.
//
// Why a quarter apart: each stream goes straight on from row to row, the processor
// sees that and fetches what comes next. Four neighbouring rows would be four streams
// that end after 2 KB each, too short to be recognised: 26 GB/s of 45 on a Zen 4, 38
// with prefetches, where four long streams read 52.
//
// Why prefetch nevertheless: six lines ahead in each stream, it read 6 to 18 % more on a Zen 4
// (float32 weights, with twice the bytes an iteration: nothing more). Ten lines ahead it read
// 20 % less than without: those are more than the processor keeps under way.
//
// The sums are added up pairwise, as kernel.go says:
//
//	VHADDPS Y1, Y0:   s0[0]+s0[1]  s0[2]+s0[3]  s1[0]+s1[1]  s1[2]+s1[3] | the same of lanes 4 to 7
//	VHADDPS Y3, Y2:   … of s2 and s3
//	VHADDPS of both:  lanes 0 to 3 of   s0  s1  s2  s3                   | lanes 4 to 7 of s0 s1 s2 s3
//	VEXTRACTF128, VADDPS: the lower half plus the upper half: four finished dot products
TEXT ·dotsBF16AVX2(SB), NOSPLIT, $0-72
	MOVQ          y_base+0(FP), DI
	MOVQ          y_len+8(FP), BX
	MOVQ          w_base+24(FP), SI
	MOVQ          x_base+48(FP), DX
	SHRQ          $2, BX                               // rows of a quarter
	MOVQ          x_len+56(FP), R8                     // columns
	SHLQ          $1, R8                               // 2 bytes each
	IMULQ         BX, R8                               // bytes of a quarter
	LEAQ          (R8)(R8*2), R9
	MOVQ          BX, R12
	SHLQ          $2, R12                              // bytes of a quarter of y
	LEAQ          (R12)(R12*2), R13

rows:
	VXORPS        Y0, Y0, Y0                           // s0 = 0
	VXORPS        Y1, Y1, Y1                           // s1 = 0
	VXORPS        Y2, Y2, Y2                           // s2 = 0
	VXORPS        Y3, Y3, Y3                           // s3 = 0
	MOVQ          DX, R10
	MOVQ          x_len+56(FP), R11

columns:
	PREFETCHT0    384(SI)
	PREFETCHT0    384(SI)(R8*1)
	PREFETCHT0    384(SI)(R8*2)
	PREFETCHT0    384(SI)(R9*1)
	VMOVUPS       (R10), Y8                            // x[0:8]
	VPMOVZXWD     (SI), Y4                             // w0[0:8]
	VPMOVZXWD     (SI)(R8*1), Y5                       // w1[0:8]
	VPMOVZXWD     (SI)(R8*2), Y6                       // w2[0:8]
	VPMOVZXWD     (SI)(R9*1), Y7                       // w3[0:8]
	VPSLLD        $16, Y4, Y4                          // as float32
	VPSLLD        $16, Y5, Y5
	VPSLLD        $16, Y6, Y6
	VPSLLD        $16, Y7, Y7
	VFMADD231PS   Y4, Y8, Y0                           // s0 += w0[0:8]*x[0:8]
	VFMADD231PS   Y5, Y8, Y1                           // s1 += w1[0:8]*x[0:8]
	VFMADD231PS   Y6, Y8, Y2                           // s2 += w2[0:8]*x[0:8]
	VFMADD231PS   Y7, Y8, Y3                           // s3 += w3[0:8]*x[0:8]
	VMOVUPS       32(R10), Y8                          // x[8:16]
	VPMOVZXWD     16(SI), Y4                           // w0[8:16]
	VPMOVZXWD     16(SI)(R8*1), Y5                     // w1[8:16]
	VPMOVZXWD     16(SI)(R8*2), Y6                     // w2[8:16]
	VPMOVZXWD     16(SI)(R9*1), Y7                     // w3[8:16]
	VPSLLD        $16, Y4, Y4                          // as float32
	VPSLLD        $16, Y5, Y5
	VPSLLD        $16, Y6, Y6
	VPSLLD        $16, Y7, Y7
	VFMADD231PS   Y4, Y8, Y0                           // s0 += w0[8:16]*x[8:16]
	VFMADD231PS   Y5, Y8, Y1                           // s1 += w1[8:16]*x[8:16]
	VFMADD231PS   Y6, Y8, Y2                           // s2 += w2[8:16]*x[8:16]
	VFMADD231PS   Y7, Y8, Y3                           // s3 += w3[8:16]*x[8:16]
	ADDQ          $32, SI
	ADDQ          $64, R10
	SUBQ          $16, R11
	JNZ           columns

	VHADDPS       Y1, Y0, Y0
	VHADDPS       Y3, Y2, Y2
	VHADDPS       Y2, Y0, Y0
	VEXTRACTF128  $1, Y0, X1
	VADDPS        X1, X0, X0
	VMOVSS        X0, (DI)                             // y[0] = sum of s0
	VEXTRACTPS    $1, X0, (DI)(R12*1)                  // y[q] = sum of s1
	VEXTRACTPS    $2, X0, (DI)(R12*2)                  // y[2q] = sum of s2
	VEXTRACTPS    $3, X0, (DI)(R13*1)                  // y[3q] = sum of s3
	ADDQ          $4, DI
	DECQ          BX                                   // SI is at the next row of each quarter
	JNZ           rows
	VZEROUPPER
	RET

// func dotsF16AVX2(y []float32, w []byte, x []float32)
//
// dotsF16AVX2 is dotsBF16AVX2 for half-precision weights: VCVTPH2PS widens eight.
TEXT ·dotsF16AVX2(SB), NOSPLIT, $0-72
	MOVQ          y_base+0(FP), DI
	MOVQ          y_len+8(FP), BX
	MOVQ          w_base+24(FP), SI
	MOVQ          x_base+48(FP), DX
	SHRQ          $2, BX                               // rows of a quarter
	MOVQ          x_len+56(FP), R8                     // columns
	SHLQ          $1, R8                               // 2 bytes each
	IMULQ         BX, R8                               // bytes of a quarter
	LEAQ          (R8)(R8*2), R9
	MOVQ          BX, R12
	SHLQ          $2, R12                              // bytes of a quarter of y
	LEAQ          (R12)(R12*2), R13

rows:
	VXORPS        Y0, Y0, Y0                           // s0 = 0
	VXORPS        Y1, Y1, Y1                           // s1 = 0
	VXORPS        Y2, Y2, Y2                           // s2 = 0
	VXORPS        Y3, Y3, Y3                           // s3 = 0
	MOVQ          DX, R10
	MOVQ          x_len+56(FP), R11

columns:
	PREFETCHT0    384(SI)
	PREFETCHT0    384(SI)(R8*1)
	PREFETCHT0    384(SI)(R8*2)
	PREFETCHT0    384(SI)(R9*1)
	VMOVUPS       (R10), Y8                            // x[0:8]
	VCVTPH2PS     (SI), Y4                             // w0[0:8]
	VCVTPH2PS     (SI)(R8*1), Y5                       // w1[0:8]
	VCVTPH2PS     (SI)(R8*2), Y6                       // w2[0:8]
	VCVTPH2PS     (SI)(R9*1), Y7                       // w3[0:8]
	VFMADD231PS   Y4, Y8, Y0                           // s0 += w0[0:8]*x[0:8]
	VFMADD231PS   Y5, Y8, Y1                           // s1 += w1[0:8]*x[0:8]
	VFMADD231PS   Y6, Y8, Y2                           // s2 += w2[0:8]*x[0:8]
	VFMADD231PS   Y7, Y8, Y3                           // s3 += w3[0:8]*x[0:8]
	VMOVUPS       32(R10), Y8                          // x[8:16]
	VCVTPH2PS     16(SI), Y4                           // w0[8:16]
	VCVTPH2PS     16(SI)(R8*1), Y5                     // w1[8:16]
	VCVTPH2PS     16(SI)(R8*2), Y6                     // w2[8:16]
	VCVTPH2PS     16(SI)(R9*1), Y7                     // w3[8:16]
	VFMADD231PS   Y4, Y8, Y0                           // s0 += w0[8:16]*x[8:16]
	VFMADD231PS   Y5, Y8, Y1                           // s1 += w1[8:16]*x[8:16]
	VFMADD231PS   Y6, Y8, Y2                           // s2 += w2[8:16]*x[8:16]
	VFMADD231PS   Y7, Y8, Y3                           // s3 += w3[8:16]*x[8:16]
	ADDQ          $32, SI
	ADDQ          $64, R10
	SUBQ          $16, R11
	JNZ           columns

	VHADDPS       Y1, Y0, Y0
	VHADDPS       Y3, Y2, Y2
	VHADDPS       Y2, Y0, Y0
	VEXTRACTF128  $1, Y0, X1
	VADDPS        X1, X0, X0
	VMOVSS        X0, (DI)                             // y[0] = sum of s0
	VEXTRACTPS    $1, X0, (DI)(R12*1)                  // y[q] = sum of s1
	VEXTRACTPS    $2, X0, (DI)(R12*2)                  // y[2q] = sum of s2
	VEXTRACTPS    $3, X0, (DI)(R13*1)                  // y[3q] = sum of s3
	ADDQ          $4, DI
	DECQ          BX                                   // SI is at the next row of each quarter
	JNZ           rows
	VZEROUPPER
	RET

// func dotsF32AVX2(y []float32, w []byte, x []float32)
//
// dotsF32AVX2 is dotsBF16AVX2 for weights that need no widening: the FMA itself
// loads them.
TEXT ·dotsF32AVX2(SB), NOSPLIT, $0-72
	MOVQ          y_base+0(FP), DI
	MOVQ          y_len+8(FP), BX
	MOVQ          w_base+24(FP), SI
	MOVQ          x_base+48(FP), DX
	SHRQ          $2, BX                               // rows of a quarter
	MOVQ          x_len+56(FP), R8                     // columns
	SHLQ          $2, R8                               // 4 bytes each
	IMULQ         BX, R8                               // bytes of a quarter
	LEAQ          (R8)(R8*2), R9
	MOVQ          BX, R12
	SHLQ          $2, R12                              // bytes of a quarter of y
	LEAQ          (R12)(R12*2), R13

rows:
	VXORPS        Y0, Y0, Y0                           // s0 = 0
	VXORPS        Y1, Y1, Y1                           // s1 = 0
	VXORPS        Y2, Y2, Y2                           // s2 = 0
	VXORPS        Y3, Y3, Y3                           // s3 = 0
	MOVQ          DX, R10
	MOVQ          x_len+56(FP), R11

columns:
	VMOVUPS       (R10), Y8                            // x[0:8]
	VFMADD231PS   (SI), Y8, Y0                         // s0 += w0[0:8]*x[0:8]
	VFMADD231PS   (SI)(R8*1), Y8, Y1                   // s1 += w1[0:8]*x[0:8]
	VFMADD231PS   (SI)(R8*2), Y8, Y2                   // s2 += w2[0:8]*x[0:8]
	VFMADD231PS   (SI)(R9*1), Y8, Y3                   // s3 += w3[0:8]*x[0:8]
	VMOVUPS       32(R10), Y8                          // x[8:16]
	VFMADD231PS   32(SI), Y8, Y0                       // s0 += w0[8:16]*x[8:16]
	VFMADD231PS   32(SI)(R8*1), Y8, Y1                 // s1 += w1[8:16]*x[8:16]
	VFMADD231PS   32(SI)(R8*2), Y8, Y2                 // s2 += w2[8:16]*x[8:16]
	VFMADD231PS   32(SI)(R9*1), Y8, Y3                 // s3 += w3[8:16]*x[8:16]
	ADDQ          $64, SI
	ADDQ          $64, R10
	SUBQ          $16, R11
	JNZ           columns

	VHADDPS       Y1, Y0, Y0
	VHADDPS       Y3, Y2, Y2
	VHADDPS       Y2, Y0, Y0
	VEXTRACTF128  $1, Y0, X1
	VADDPS        X1, X0, X0
	VMOVSS        X0, (DI)                             // y[0] = sum of s0
	VEXTRACTPS    $1, X0, (DI)(R12*1)                  // y[q] = sum of s1
	VEXTRACTPS    $2, X0, (DI)(R12*2)                  // y[2q] = sum of s2
	VEXTRACTPS    $3, X0, (DI)(R13*1)                  // y[3q] = sum of s3
	ADDQ          $4, DI
	DECQ          BX                                   // SI is at the next row of each quarter
	JNZ           rows
	VZEROUPPER
	RET

// func widenBF16AVX2(dst []float32, src []byte)
//
// widenBF16AVX2 sets dst[i] to the bfloat16 number i of src, sixteen at a time. len(dst)
// is a multiple of 16.
//
// Registers: DI = dst   SI = src   CX = numbers left
TEXT ·widenBF16AVX2(SB), NOSPLIT, $0-48
	MOVQ          dst_base+0(FP), DI
	MOVQ          dst_len+8(FP), CX
	MOVQ          src_base+24(FP), SI

numbers:
	VPMOVZXWD     (SI), Y0                             // src[0:8]
	VPMOVZXWD     16(SI), Y1                           // src[8:16]
	VPSLLD        $16, Y0, Y0                          // as float32
	VPSLLD        $16, Y1, Y1
	VMOVUPS       Y0, (DI)                             // dst[0:8]
	VMOVUPS       Y1, 32(DI)                           // dst[8:16]
	ADDQ          $32, SI
	ADDQ          $64, DI
	SUBQ          $16, CX
	JNZ           numbers
	VZEROUPPER
	RET

// func widenF16AVX2(dst []float32, src []byte)
//
// widenF16AVX2 sets dst[i] to the half-precision number i of src, sixteen at a time. len(dst)
// is a multiple of 16.
//
// Registers: DI = dst   SI = src   CX = numbers left
TEXT ·widenF16AVX2(SB), NOSPLIT, $0-48
	MOVQ          dst_base+0(FP), DI
	MOVQ          dst_len+8(FP), CX
	MOVQ          src_base+24(FP), SI

numbers:
	VCVTPH2PS     (SI), Y0                             // src[0:8]
	VCVTPH2PS     16(SI), Y1                           // src[8:16]
	VMOVUPS       Y0, (DI)                             // dst[0:8]
	VMOVUPS       Y1, 32(DI)                           // dst[8:16]
	ADDQ          $32, SI
	ADDQ          $64, DI
	SUBQ          $16, CX
	JNZ           numbers
	VZEROUPPER
	RET

// func tileAVX2(t *tile)
//
// tileAVX2 multiplies 4 rows of weights with 3 tokens over n columns, n a multiple
// of 16, and goes on with the next 4 rows until it has done so t.count times. With
// s[i][r] the lanes of token i and row r:
//
//	for ; count > 0; count-- {                         // tiles
//		s := sums, or 0 if t.first
//		for c := 0; c < t.n; c += 16 {                 // columns, as two times 8
//			s[i][r] += w[r][c:c+8] * x[i][c:c+8]       // 12 times
//			s[i][r] += w[r][c+8:c+16] * x[i][c+8:c+16] // 12 times
//		}
//		if t.last { y[i][r] = sum of s[i][r] } else { sums = s }
//		w, y, sums = w[4:], y[i][4:], sums[4*3*8:]     // w by rows, y of each token
//	}
//
// Registers: AX = t   SI = w0   DX = x0   R8, R9 = bytes to the next row of w, to the third
// R10 = bytes to the next token of x   CX = columns left   BX = sums   DI = y   R11 = bytes to the next token of y
// R12 = tiles left   R13 = w of the next tile
// Y0–Y3 = sums of token 0 and rows 0 to 3   Y4–Y7 of token 1   Y8–Y11 of token 2
// Y12–Y14 = eight numbers of each token   Y15 = eight weights of one row
//
// Why 4 by 3: the processor starts two FMAs a cycle that take 4, so 8 sums must be
// on their way; it also loads two registers a cycle, and here 7 loads serve 12
// FMAs. Sums, numbers and a weight fill all 16 registers. Why the loop over tiles is in
// here: a call from Go and its slices took 5 % of the time of a tile. Why 16 columns a
// round: the loop's own instructions are run half as often. With 8, a tile took 2 to 4 %
// longer while others used the same cores of a Zen 4, and as long while nobody did.
TEXT ·tileAVX2(SB), NOSPLIT, $0-8
	MOVQ          t+0(FP), AX
	MOVQ          tile_w(AX), R13
	MOVQ          tile_wStride(AX), R8
	MOVQ          tile_xStride(AX), R10
	MOVQ          tile_sums(AX), BX
	MOVQ          tile_y(AX), DI
	MOVQ          tile_yStride(AX), R11
	MOVQ          tile_count(AX), R12
	SHLQ          $2, R8                               // 4 bytes a number
	SHLQ          $2, R10
	SHLQ          $2, R11
	LEAQ          (R8)(R8*2), R9

tiles:
	MOVQ          R13, SI
	LEAQ          (R13)(R8*4), R13                     // w of the next tile
	MOVQ          tile_x(AX), DX
	MOVQ          tile_n(AX), CX
	CMPB          tile_first(AX), $0
	JEQ           resume
	VXORPS        Y0, Y0, Y0
	VXORPS        Y1, Y1, Y1
	VXORPS        Y2, Y2, Y2
	VXORPS        Y3, Y3, Y3
	VXORPS        Y4, Y4, Y4
	VXORPS        Y5, Y5, Y5
	VXORPS        Y6, Y6, Y6
	VXORPS        Y7, Y7, Y7
	VXORPS        Y8, Y8, Y8
	VXORPS        Y9, Y9, Y9
	VXORPS        Y10, Y10, Y10
	VXORPS        Y11, Y11, Y11
	JMP           columns

resume:
	VMOVUPS       (BX), Y0
	VMOVUPS       32(BX), Y1
	VMOVUPS       64(BX), Y2
	VMOVUPS       96(BX), Y3
	VMOVUPS       128(BX), Y4
	VMOVUPS       160(BX), Y5
	VMOVUPS       192(BX), Y6
	VMOVUPS       224(BX), Y7
	VMOVUPS       256(BX), Y8
	VMOVUPS       288(BX), Y9
	VMOVUPS       320(BX), Y10
	VMOVUPS       352(BX), Y11

columns:
	VMOVUPS       (DX), Y12                            // x0[0:8]
	VMOVUPS       (DX)(R10*1), Y13                     // x1[0:8]
	VMOVUPS       (DX)(R10*2), Y14                     // x2[0:8]
	VMOVUPS       (SI), Y15                            // w0[0:8]
	VFMADD231PS   Y15, Y12, Y0                         // s[0][0] += w0[0:8]*x0[0:8]
	VFMADD231PS   Y15, Y13, Y4                         // s[1][0] += w0[0:8]*x1[0:8]
	VFMADD231PS   Y15, Y14, Y8                         // s[2][0] += w0[0:8]*x2[0:8]
	VMOVUPS       (SI)(R8*1), Y15                      // w1[0:8]
	VFMADD231PS   Y15, Y12, Y1                         // s[0][1] += w1[0:8]*x0[0:8]
	VFMADD231PS   Y15, Y13, Y5                         // s[1][1] += w1[0:8]*x1[0:8]
	VFMADD231PS   Y15, Y14, Y9                         // s[2][1] += w1[0:8]*x2[0:8]
	VMOVUPS       (SI)(R8*2), Y15                      // w2[0:8]
	VFMADD231PS   Y15, Y12, Y2                         // s[0][2] += w2[0:8]*x0[0:8]
	VFMADD231PS   Y15, Y13, Y6                         // s[1][2] += w2[0:8]*x1[0:8]
	VFMADD231PS   Y15, Y14, Y10                        // s[2][2] += w2[0:8]*x2[0:8]
	VMOVUPS       (SI)(R9*1), Y15                      // w3[0:8]
	VFMADD231PS   Y15, Y12, Y3                         // s[0][3] += w3[0:8]*x0[0:8]
	VFMADD231PS   Y15, Y13, Y7                         // s[1][3] += w3[0:8]*x1[0:8]
	VFMADD231PS   Y15, Y14, Y11                        // s[2][3] += w3[0:8]*x2[0:8]
	VMOVUPS       32(DX), Y12                          // x0[8:16]
	VMOVUPS       32(DX)(R10*1), Y13                   // x1[8:16]
	VMOVUPS       32(DX)(R10*2), Y14                   // x2[8:16]
	VMOVUPS       32(SI), Y15                          // w0[8:16]
	VFMADD231PS   Y15, Y12, Y0                         // s[0][0] += w0[8:16]*x0[8:16]
	VFMADD231PS   Y15, Y13, Y4                         // s[1][0] += w0[8:16]*x1[8:16]
	VFMADD231PS   Y15, Y14, Y8                         // s[2][0] += w0[8:16]*x2[8:16]
	VMOVUPS       32(SI)(R8*1), Y15                    // w1[8:16]
	VFMADD231PS   Y15, Y12, Y1                         // s[0][1] += w1[8:16]*x0[8:16]
	VFMADD231PS   Y15, Y13, Y5                         // s[1][1] += w1[8:16]*x1[8:16]
	VFMADD231PS   Y15, Y14, Y9                         // s[2][1] += w1[8:16]*x2[8:16]
	VMOVUPS       32(SI)(R8*2), Y15                    // w2[8:16]
	VFMADD231PS   Y15, Y12, Y2                         // s[0][2] += w2[8:16]*x0[8:16]
	VFMADD231PS   Y15, Y13, Y6                         // s[1][2] += w2[8:16]*x1[8:16]
	VFMADD231PS   Y15, Y14, Y10                        // s[2][2] += w2[8:16]*x2[8:16]
	VMOVUPS       32(SI)(R9*1), Y15                    // w3[8:16]
	VFMADD231PS   Y15, Y12, Y3                         // s[0][3] += w3[8:16]*x0[8:16]
	VFMADD231PS   Y15, Y13, Y7                         // s[1][3] += w3[8:16]*x1[8:16]
	VFMADD231PS   Y15, Y14, Y11                        // s[2][3] += w3[8:16]*x2[8:16]
	ADDQ          $64, SI
	ADDQ          $64, DX
	SUBQ          $16, CX
	JNZ           columns

	CMPB          tile_last(AX), $0
	JEQ           pause
	VHADDPS       Y1, Y0, Y0
	VHADDPS       Y3, Y2, Y2
	VHADDPS       Y2, Y0, Y0
	VEXTRACTF128  $1, Y0, X1
	VADDPS        X1, X0, X0
	VMOVUPS       X0, (DI)                             // y[0][0:4] = sums, as in dotsBF16AVX2
	VHADDPS       Y5, Y4, Y4
	VHADDPS       Y7, Y6, Y6
	VHADDPS       Y6, Y4, Y4
	VEXTRACTF128  $1, Y4, X5
	VADDPS        X5, X4, X4
	VMOVUPS       X4, (DI)(R11*1)                      // y[1][0:4] = sums, as in dotsBF16AVX2
	VHADDPS       Y9, Y8, Y8
	VHADDPS       Y11, Y10, Y10
	VHADDPS       Y10, Y8, Y8
	VEXTRACTF128  $1, Y8, X9
	VADDPS        X9, X8, X8
	VMOVUPS       X8, (DI)(R11*2)                      // y[2][0:4] = sums, as in dotsBF16AVX2
	ADDQ          $16, DI                              // y of the next tile
	JMP           next

pause:
	VMOVUPS       Y0, (BX)
	VMOVUPS       Y1, 32(BX)
	VMOVUPS       Y2, 64(BX)
	VMOVUPS       Y3, 96(BX)
	VMOVUPS       Y4, 128(BX)
	VMOVUPS       Y5, 160(BX)
	VMOVUPS       Y6, 192(BX)
	VMOVUPS       Y7, 224(BX)
	VMOVUPS       Y8, 256(BX)
	VMOVUPS       Y9, 288(BX)
	VMOVUPS       Y10, 320(BX)
	VMOVUPS       Y11, 352(BX)

next:
	ADDQ          $384, BX                             // and its sums
	DECQ          R12
	JNZ           tiles
	VZEROUPPER
	RET

// func keysAVX2(y, w, x []float32)
//
// keysAVX2 is dotsF32AVX2, whose w are the same numbers as bytes.
TEXT ·keysAVX2(SB), NOSPLIT, $0-72
	JMP           ·dotsF32AVX2(SB)

// func valuesAVX2(y, w, x []float32)
//
// valuesAVX2 adds to y what it takes of each row of w, of which there are len(x) and each as long
// as y, a multiple of 16:
//
//	for i := range x {                                 // rows
//		for c := 0; c < len(y); c += 16 {              // columns, as two times 8
//			y[c:c+16] += x[i] * w[i][c:c+16]
//		}
//	}
//
// Registers: DI = y   BX = its length   SI = w, from row to row   DX = x   CX = rows left
// R10 = y in the row   R11 = columns left   Y0, Y1 = y[c:c+16]   Y4 = eight times x[i]
//
// Why y is not kept in registers, as in mixAVX2: a row of 128 would need all of them, and half
// a row at a time would read w in short pieces. From the L1 cache this reads 90 GB/s
// (BenchmarkKernels, Zen 4), several times what memory delivers.
TEXT ·valuesAVX2(SB), NOSPLIT, $0-72
	MOVQ          y_base+0(FP), DI
	MOVQ          y_len+8(FP), BX
	MOVQ          w_base+24(FP), SI
	MOVQ          x_base+48(FP), DX
	MOVQ          x_len+56(FP), CX

rows:
	VBROADCASTSS  (DX), Y4                             // x[i]
	MOVQ          DI, R10
	MOVQ          BX, R11

columns:
	VMOVUPS       (R10), Y0                            // y[0:8]
	VMOVUPS       32(R10), Y1                          // y[8:16]
	VFMADD231PS   (SI), Y4, Y0                         // y[0:8] += x[i]*w[i][0:8]
	VFMADD231PS   32(SI), Y4, Y1                       // y[8:16] += x[i]*w[i][8:16]
	VMOVUPS       Y0, (R10)
	VMOVUPS       Y1, 32(R10)
	ADDQ          $64, SI                              // the next row follows
	ADDQ          $64, R10
	SUBQ          $16, R11
	JNZ           columns
	ADDQ          $4, DX
	DECQ          CX
	JNZ           rows
	VZEROUPPER
	RET

// func mixAVX2(t *tile)
//
// mixAVX2 adds to 3 rows of y, 32 columns wide, what each takes of n rows of w:
//
//	for i := range t.n {                               // rows
//		y[j][0:32] += x[j][i] * w[i][0:32]             // j = 0, 1, 2, as 12 times 8 columns
//	}
//
// Registers: DI, R8 = y, bytes to its next row   SI, R9 = w, likewise   DX, R10 = x, likewise
// CX = rows left   BX = y while loading   R11 = bytes to the sixteenth next row of w
// Y0–Y3 = y[0]   Y4–Y7 = y[1]   Y8–Y11 = y[2]   Y12–Y14 = eight times x[j][i]   Y15 = eight columns of w[i]
//
// Why prefetch: in decode, where queries are too many for valuesAVX2, w is the cached values,
// which come from memory, and 32 of a row's columns are a short piece far from the next, which
// the processor does not foresee.
TEXT ·mixAVX2(SB), NOSPLIT, $0-8
	MOVQ          t+0(FP), AX
	MOVQ          tile_y(AX), DI
	MOVQ          tile_yStride(AX), R8
	MOVQ          tile_w(AX), SI
	MOVQ          tile_wStride(AX), R9
	MOVQ          tile_x(AX), DX
	MOVQ          tile_xStride(AX), R10
	MOVQ          tile_n(AX), CX
	SHLQ          $2, R8                               // 4 bytes a number
	SHLQ          $2, R9
	SHLQ          $2, R10
	MOVQ          R9, R11
	SHLQ          $4, R11                              // 16 rows
	MOVQ          DI, BX
	VMOVUPS       (BX), Y0                             // y[0]
	VMOVUPS       32(BX), Y1
	VMOVUPS       64(BX), Y2
	VMOVUPS       96(BX), Y3
	ADDQ          R8, BX
	VMOVUPS       (BX), Y4                             // y[1]
	VMOVUPS       32(BX), Y5
	VMOVUPS       64(BX), Y6
	VMOVUPS       96(BX), Y7
	ADDQ          R8, BX
	VMOVUPS       (BX), Y8                             // y[2]
	VMOVUPS       32(BX), Y9
	VMOVUPS       64(BX), Y10
	VMOVUPS       96(BX), Y11

rows:
	VBROADCASTSS  (DX), Y12                            // x[0][i]
	VBROADCASTSS  (DX)(R10*1), Y13                     // x[1][i]
	VBROADCASTSS  (DX)(R10*2), Y14                     // x[2][i]
	VMOVUPS       (SI), Y15                            // w[i][0:8]
	VFMADD231PS   Y15, Y12, Y0                         // y[0][0:8] += x[0][i]*w[i][0:8]
	VFMADD231PS   Y15, Y13, Y4                         // y[1][0:8] += x[1][i]*w[i][0:8]
	VFMADD231PS   Y15, Y14, Y8                         // y[2][0:8] += x[2][i]*w[i][0:8]
	VMOVUPS       32(SI), Y15                          // w[i][8:16]
	VFMADD231PS   Y15, Y12, Y1                         // y[0][8:16] += x[0][i]*w[i][8:16]
	VFMADD231PS   Y15, Y13, Y5                         // y[1][8:16] += x[1][i]*w[i][8:16]
	VFMADD231PS   Y15, Y14, Y9                         // y[2][8:16] += x[2][i]*w[i][8:16]
	VMOVUPS       64(SI), Y15                          // w[i][16:24]
	VFMADD231PS   Y15, Y12, Y2                         // y[0][16:24] += x[0][i]*w[i][16:24]
	VFMADD231PS   Y15, Y13, Y6                         // y[1][16:24] += x[1][i]*w[i][16:24]
	VFMADD231PS   Y15, Y14, Y10                        // y[2][16:24] += x[2][i]*w[i][16:24]
	VMOVUPS       96(SI), Y15                          // w[i][24:32]
	VFMADD231PS   Y15, Y12, Y3                         // y[0][24:32] += x[0][i]*w[i][24:32]
	VFMADD231PS   Y15, Y13, Y7                         // y[1][24:32] += x[1][i]*w[i][24:32]
	VFMADD231PS   Y15, Y14, Y11                        // y[2][24:32] += x[2][i]*w[i][24:32]
	PREFETCHT0    (SI)(R11*1)
	PREFETCHT0    64(SI)(R11*1)
	ADDQ          R9, SI
	ADDQ          $4, DX
	DECQ          CX
	JNZ           rows

	VMOVUPS       Y0, (DI)
	VMOVUPS       Y1, 32(DI)
	VMOVUPS       Y2, 64(DI)
	VMOVUPS       Y3, 96(DI)
	ADDQ          R8, DI
	VMOVUPS       Y4, (DI)
	VMOVUPS       Y5, 32(DI)
	VMOVUPS       Y6, 64(DI)
	VMOVUPS       Y7, 96(DI)
	ADDQ          R8, DI
	VMOVUPS       Y8, (DI)
	VMOVUPS       Y9, 32(DI)
	VMOVUPS       Y10, 64(DI)
	VMOVUPS       Y11, 96(DI)
	VZEROUPPER
	RET

// func prefetchBytes(x []byte)
//
// prefetchBytes has x brought into the L2 cache, and waits for none of it.
//
// Registers: SI = x   CX = bytes left
TEXT ·prefetchBytes(SB), NOSPLIT, $0-24
	MOVQ          x_base+0(FP), SI
	MOVQ          x_len+8(FP), CX

line:
	PREFETCHT1    (SI)
	ADDQ          $64, SI
	SUBQ          $64, CX
	JGT           line
	RET

// func siluAVX2(y, x []float32)
//
// siluAVX2 sets y[i] = x[i] / (1 + e^-x[i]). The length is a multiple of 8. The
// exponential is exp of kernel.go, line by line, with FMA; its constants lie in
// expTable, eight times each.
//
// Registers: DI = y   SI = x   CX = numbers left   Y0 = x, then r   Y1 = n   Y2 = p   Y3 = half
// Y4 = x[i]   Y5 = sign bits   Y14, Y15 = expLow, expHigh
TEXT ·siluAVX2(SB), NOSPLIT, $0-48
	MOVQ          y_base+0(FP), DI
	MOVQ          y_len+8(FP), CX
	MOVQ          x_base+24(FP), SI
	VMOVUPS       ·expTable+0(SB), Y14
	VMOVUPS       ·expTable+32(SB), Y15
	VPCMPEQD      Y5, Y5, Y5                           // all bits
	VPSLLD        $31, Y5, Y5                          // the sign bits

numbers:
	VMOVUPS       (SI), Y4                             // x[0:8]
	VXORPS        Y5, Y4, Y0                           // -x
	VMAXPS        Y0, Y14, Y0                          // x = max(x, expLow); NaN stays NaN
	VMINPS        Y0, Y15, Y0                          // x = min(x, expHigh)
	VMULPS        ·expTable+64(SB), Y0, Y1             // n = x*log2e
	VROUNDPS      $0, Y1, Y1                           // n = round(n)
	VFNMADD231PS  ·expTable+96(SB), Y1, Y0             // r = x - n*ln2High
	VFNMADD231PS  ·expTable+128(SB), Y1, Y0            // r -= n*ln2Low
	VMOVUPS       ·expTable+160(SB), Y2                // p = 1/7!
	VFMADD213PS   ·expTable+192(SB), Y0, Y2            // p = p*r + 1/6!
	VFMADD213PS   ·expTable+224(SB), Y0, Y2            // p = p*r + 1/5!
	VFMADD213PS   ·expTable+256(SB), Y0, Y2            // p = p*r + 1/4!
	VFMADD213PS   ·expTable+288(SB), Y0, Y2            // p = p*r + 1/3!
	VFMADD213PS   ·expTable+320(SB), Y0, Y2            // p = p*r + 1/2!
	VFMADD213PS   ·expTable+352(SB), Y0, Y2            // p = p*r + 1
	VFMADD213PS   ·expTable+352(SB), Y0, Y2            // p = p*r + 1
	VCVTPS2DQ     Y1, Y1                               // n as int32
	VPSRAD        $1, Y1, Y3                           // half = n >> 1
	VPSUBD        Y3, Y1, Y1                           // n - half
	VPSLLD        $23, Y3, Y3
	VPSLLD        $23, Y1, Y1
	VPADDD        ·expTable+352(SB), Y3, Y3            // 2^half: half added to the exponent of 1
	VPADDD        ·expTable+352(SB), Y1, Y1            // 2^(n-half)
	VMULPS        Y3, Y2, Y2                           // p *= 2^half
	VMULPS        Y1, Y2, Y2                           // p *= 2^(n-half)
	VADDPS        ·expTable+352(SB), Y2, Y2            // 1 + e^-x
	VDIVPS        Y2, Y4, Y2                           // x / (1 + e^-x)
	VMOVUPS       Y2, (DI)                             // y[0:8]
	ADDQ          $32, SI
	ADDQ          $32, DI
	SUBQ          $8, CX
	JNZ           numbers
	VZEROUPPER
	RET

// func softmaxAVX2(x []float32)
//
// softmaxAVX2 sets x[i] = e^(x[i]-m) / Σ e^(x[j]-m), m the largest. The length is a
// multiple of 8, above 0. Three passes: the largest; the exponentials, as in
// siluAVX2, and their sum in eight lanes; the quotients.
//
// Registers: SI = x   CX = its length   DI, DX = x and numbers left in a pass   Y0–Y3, Y14, Y15 as in siluAVX2
// Y6 = m   Y7 = the sum
TEXT ·softmaxAVX2(SB), NOSPLIT, $0-24
	MOVQ          x_base+0(FP), SI
	MOVQ          x_len+8(FP), CX
	VMOVUPS       ·expTable+0(SB), Y14
	VMOVUPS       ·expTable+32(SB), Y15
	MOVQ          SI, DI
	MOVQ          CX, DX
	VMOVUPS       (SI), Y6                             // not 0: scores may all be negative

largest:
	VMAXPS        (DI), Y6, Y6                         // m[0:8] = max(m[0:8], x[0:8])
	ADDQ          $32, DI
	SUBQ          $8, DX
	JNZ           largest

	VEXTRACTF128  $1, Y6, X7                           // m[4:8]
	VMAXPS        X7, X6, X6                           // four are left
	VPERMILPS     $0x4E, X6, X7                        // m[2], m[3], m[0], m[1]
	VMAXPS        X7, X6, X6                           // two are left, twice
	VPERMILPS     $0xB1, X6, X7                        // m[1], m[0], m[3], m[2]
	VMAXPS        X7, X6, X6
	VBROADCASTSS  X6, Y6                               // m, eight times

	MOVQ          SI, DI
	MOVQ          CX, DX
	VXORPS        Y7, Y7, Y7                           // sum = 0

exponentials:
	VMOVUPS       (DI), Y0
	VSUBPS        Y6, Y0, Y0                           // x[0:8] - m
	VMAXPS        Y0, Y14, Y0                          // x = max(x, expLow); NaN stays NaN
	VMINPS        Y0, Y15, Y0                          // x = min(x, expHigh)
	VMULPS        ·expTable+64(SB), Y0, Y1             // n = x*log2e
	VROUNDPS      $0, Y1, Y1                           // n = round(n)
	VFNMADD231PS  ·expTable+96(SB), Y1, Y0             // r = x - n*ln2High
	VFNMADD231PS  ·expTable+128(SB), Y1, Y0            // r -= n*ln2Low
	VMOVUPS       ·expTable+160(SB), Y2                // p = 1/7!
	VFMADD213PS   ·expTable+192(SB), Y0, Y2            // p = p*r + 1/6!
	VFMADD213PS   ·expTable+224(SB), Y0, Y2            // p = p*r + 1/5!
	VFMADD213PS   ·expTable+256(SB), Y0, Y2            // p = p*r + 1/4!
	VFMADD213PS   ·expTable+288(SB), Y0, Y2            // p = p*r + 1/3!
	VFMADD213PS   ·expTable+320(SB), Y0, Y2            // p = p*r + 1/2!
	VFMADD213PS   ·expTable+352(SB), Y0, Y2            // p = p*r + 1
	VFMADD213PS   ·expTable+352(SB), Y0, Y2            // p = p*r + 1
	VCVTPS2DQ     Y1, Y1                               // n as int32
	VPSRAD        $1, Y1, Y3                           // half = n >> 1
	VPSUBD        Y3, Y1, Y1                           // n - half
	VPSLLD        $23, Y3, Y3
	VPSLLD        $23, Y1, Y1
	VPADDD        ·expTable+352(SB), Y3, Y3            // 2^half: half added to the exponent of 1
	VPADDD        ·expTable+352(SB), Y1, Y1            // 2^(n-half)
	VMULPS        Y3, Y2, Y2                           // p *= 2^half
	VMULPS        Y1, Y2, Y2                           // p *= 2^(n-half)
	VMOVUPS       Y2, (DI)                             // x[0:8] = e^(x[0:8]-m)
	VADDPS        Y2, Y7, Y7                           // sum[0:8] += x[0:8]
	ADDQ          $32, DI
	SUBQ          $8, DX
	JNZ           exponentials

	VHADDPS       Y7, Y7, Y7                           // the eight lanes, as in dotsBF16AVX2
	VHADDPS       Y7, Y7, Y7
	VEXTRACTF128  $1, Y7, X6
	VADDPS        X6, X7, X7
	VBROADCASTSS  X7, Y7

quotients:
	VMOVUPS       (SI), Y0
	VDIVPS        Y7, Y0, Y0                           // x[0:8] /= sum
	VMOVUPS       Y0, (SI)
	ADDQ          $32, SI
	SUBQ          $8, CX
	JNZ           quotients
	VZEROUPPER
	RET

// func tileAVX512(t *tile)
//
// tileAVX512 is tileAVX2 for 8 rows and 6 tokens, with the same bits: a register of
// sixteen holds the eight lanes of two rows, r and r+4, and the token's eight
// numbers come twice.
//
// Registers: as in tileAVX2, but R11 = w4   R12 = x3   R15 = tiles left
// SI, DX = y in the tile, bytes to the next token of y, when the columns are done
// Z(4i+r) = sums of token i and rows r | r+4   Z24–Z29 = eight numbers of each token, twice
// Z30, Z31 = eight weights of rows r | r+4, in turn   K1 = the upper half of a register
//
// Why a masked load for the upper half, and not VINSERTF64X4: an insertion takes one
// of the slots that FMAs need, a load under a mask does not. It is 4 % of the tile.
TEXT ·tileAVX512(SB), NOSPLIT, $0-8
	MOVQ          t+0(FP), AX
	MOVQ          tile_w(AX), R13
	MOVQ          tile_wStride(AX), R8
	MOVQ          tile_xStride(AX), R10
	MOVQ          tile_sums(AX), BX
	MOVQ          tile_y(AX), DI
	MOVQ          tile_count(AX), R15
	SHLQ          $2, R8                               // 4 bytes a number
	SHLQ          $2, R10
	LEAQ          (R8)(R8*2), R9
	MOVL          $0xF0, CX                            // of eight times 64 bits
	KMOVW         CX, K1

tiles:
	MOVQ          R13, SI
	LEAQ          (R13)(R8*4), R11                     // w4
	LEAQ          (R13)(R8*8), R13                     // w of the next tile
	MOVQ          tile_x(AX), DX
	LEAQ          (R10)(R10*2), R12
	ADDQ          DX, R12                              // x3
	MOVQ          tile_n(AX), CX
	CMPB          tile_first(AX), $0
	JEQ           resume
	VPXORQ        Z0, Z0, Z0
	VPXORQ        Z1, Z1, Z1
	VPXORQ        Z2, Z2, Z2
	VPXORQ        Z3, Z3, Z3
	VPXORQ        Z4, Z4, Z4
	VPXORQ        Z5, Z5, Z5
	VPXORQ        Z6, Z6, Z6
	VPXORQ        Z7, Z7, Z7
	VPXORQ        Z8, Z8, Z8
	VPXORQ        Z9, Z9, Z9
	VPXORQ        Z10, Z10, Z10
	VPXORQ        Z11, Z11, Z11
	VPXORQ        Z12, Z12, Z12
	VPXORQ        Z13, Z13, Z13
	VPXORQ        Z14, Z14, Z14
	VPXORQ        Z15, Z15, Z15
	VPXORQ        Z16, Z16, Z16
	VPXORQ        Z17, Z17, Z17
	VPXORQ        Z18, Z18, Z18
	VPXORQ        Z19, Z19, Z19
	VPXORQ        Z20, Z20, Z20
	VPXORQ        Z21, Z21, Z21
	VPXORQ        Z22, Z22, Z22
	VPXORQ        Z23, Z23, Z23
	JMP           columns

resume:
	VMOVUPS       (BX), Z0
	VMOVUPS       64(BX), Z1
	VMOVUPS       128(BX), Z2
	VMOVUPS       192(BX), Z3
	VMOVUPS       256(BX), Z4
	VMOVUPS       320(BX), Z5
	VMOVUPS       384(BX), Z6
	VMOVUPS       448(BX), Z7
	VMOVUPS       512(BX), Z8
	VMOVUPS       576(BX), Z9
	VMOVUPS       640(BX), Z10
	VMOVUPS       704(BX), Z11
	VMOVUPS       768(BX), Z12
	VMOVUPS       832(BX), Z13
	VMOVUPS       896(BX), Z14
	VMOVUPS       960(BX), Z15
	VMOVUPS       1024(BX), Z16
	VMOVUPS       1088(BX), Z17
	VMOVUPS       1152(BX), Z18
	VMOVUPS       1216(BX), Z19
	VMOVUPS       1280(BX), Z20
	VMOVUPS       1344(BX), Z21
	VMOVUPS       1408(BX), Z22
	VMOVUPS       1472(BX), Z23

columns:
	VBROADCASTF64X4(DX), Z24                           // x0[0:8] | x0[0:8]
	VBROADCASTF64X4(DX)(R10*1), Z25                    // x1[0:8] | x1[0:8]
	VBROADCASTF64X4(DX)(R10*2), Z26                    // x2[0:8] | x2[0:8]
	VBROADCASTF64X4(R12), Z27                          // x3[0:8] | x3[0:8]
	VBROADCASTF64X4(R12)(R10*1), Z28                   // x4[0:8] | x4[0:8]
	VBROADCASTF64X4(R12)(R10*2), Z29                   // x5[0:8] | x5[0:8]
	VMOVUPS       (SI), Y30                            // w0[0:8]
	VMOVUPD       -32(R11), K1, Z30                    // w0[0:8] | w4[0:8]
	VFMADD231PS   Z30, Z24, Z0                         // s[0][0|4] += w0|w4 * x0
	VFMADD231PS   Z30, Z25, Z4                         // s[1][0|4] += …
	VFMADD231PS   Z30, Z26, Z8                         // s[2][0|4] += …
	VFMADD231PS   Z30, Z27, Z12                        // s[3][0|4] += …
	VFMADD231PS   Z30, Z28, Z16                        // s[4][0|4] += …
	VFMADD231PS   Z30, Z29, Z20                        // s[5][0|4] += …
	VMOVUPS       (SI)(R8*1), Y31                      // w1[0:8]
	VMOVUPD       -32(R11)(R8*1), K1, Z31              // w1[0:8] | w5[0:8]
	VFMADD231PS   Z31, Z24, Z1                         // s[0][1|5] += w1|w5 * x0
	VFMADD231PS   Z31, Z25, Z5                         // s[1][1|5] += …
	VFMADD231PS   Z31, Z26, Z9                         // s[2][1|5] += …
	VFMADD231PS   Z31, Z27, Z13                        // s[3][1|5] += …
	VFMADD231PS   Z31, Z28, Z17                        // s[4][1|5] += …
	VFMADD231PS   Z31, Z29, Z21                        // s[5][1|5] += …
	VMOVUPS       (SI)(R8*2), Y30                      // w2[0:8]
	VMOVUPD       -32(R11)(R8*2), K1, Z30              // w2[0:8] | w6[0:8]
	VFMADD231PS   Z30, Z24, Z2                         // s[0][2|6] += w2|w6 * x0
	VFMADD231PS   Z30, Z25, Z6                         // s[1][2|6] += …
	VFMADD231PS   Z30, Z26, Z10                        // s[2][2|6] += …
	VFMADD231PS   Z30, Z27, Z14                        // s[3][2|6] += …
	VFMADD231PS   Z30, Z28, Z18                        // s[4][2|6] += …
	VFMADD231PS   Z30, Z29, Z22                        // s[5][2|6] += …
	VMOVUPS       (SI)(R9*1), Y31                      // w3[0:8]
	VMOVUPD       -32(R11)(R9*1), K1, Z31              // w3[0:8] | w7[0:8]
	VFMADD231PS   Z31, Z24, Z3                         // s[0][3|7] += w3|w7 * x0
	VFMADD231PS   Z31, Z25, Z7                         // s[1][3|7] += …
	VFMADD231PS   Z31, Z26, Z11                        // s[2][3|7] += …
	VFMADD231PS   Z31, Z27, Z15                        // s[3][3|7] += …
	VFMADD231PS   Z31, Z28, Z19                        // s[4][3|7] += …
	VFMADD231PS   Z31, Z29, Z23                        // s[5][3|7] += …
	ADDQ          $32, SI
	ADDQ          $32, R11
	ADDQ          $32, DX
	ADDQ          $32, R12
	SUBQ          $8, CX
	JNZ           columns

	CMPB          tile_last(AX), $0
	JEQ           pause
	MOVQ          DI, SI
	MOVQ          tile_yStride(AX), DX
	SHLQ          $2, DX

	// VHADDPS knows no registers of sixteen: VSHUFPS $0x88 takes the even lanes of
	// two registers, $0xDD the odd ones, in each quarter; their sum is the same. Two
	// rounds of it leave, for one token, quarters of lanes 0 to 3 and 4 to 7 of rows 0
	// to 3, and of rows 4 to 7. VSHUFF64X2 then brings together the first and third
	// quarters of two tokens, and the second and fourth.
	VSHUFPS       $0x88, Z1, Z0, Z26
	VSHUFPS       $0xDD, Z1, Z0, Z27
	VADDPS        Z27, Z26, Z0                         // rows 0, 1 | 4, 5
	VSHUFPS       $0x88, Z3, Z2, Z26
	VSHUFPS       $0xDD, Z3, Z2, Z27
	VADDPS        Z27, Z26, Z2                         // rows 2, 3 | 6, 7
	VSHUFPS       $0x88, Z2, Z0, Z26
	VSHUFPS       $0xDD, Z2, Z0, Z27
	VADDPS        Z27, Z26, Z24                        // token 0, all rows
	VSHUFPS       $0x88, Z5, Z4, Z26
	VSHUFPS       $0xDD, Z5, Z4, Z27
	VADDPS        Z27, Z26, Z4                         // rows 0, 1 | 4, 5
	VSHUFPS       $0x88, Z7, Z6, Z26
	VSHUFPS       $0xDD, Z7, Z6, Z27
	VADDPS        Z27, Z26, Z6                         // rows 2, 3 | 6, 7
	VSHUFPS       $0x88, Z6, Z4, Z26
	VSHUFPS       $0xDD, Z6, Z4, Z27
	VADDPS        Z27, Z26, Z25                        // token 1, all rows
	VSHUFF64X2    $0x88, Z25, Z24, Z26                 // lanes 0 to 3
	VSHUFF64X2    $0xDD, Z25, Z24, Z27                 // lanes 4 to 7
	VADDPS        Z27, Z26, Z26
	VMOVUPS       Y26, (SI)                            // y[0][0:8]
	VEXTRACTF64X4 $1, Z26, (SI)(DX*1)                  // y[1][0:8]
	LEAQ          (SI)(DX*2), SI
	VSHUFPS       $0x88, Z9, Z8, Z26
	VSHUFPS       $0xDD, Z9, Z8, Z27
	VADDPS        Z27, Z26, Z8                         // rows 0, 1 | 4, 5
	VSHUFPS       $0x88, Z11, Z10, Z26
	VSHUFPS       $0xDD, Z11, Z10, Z27
	VADDPS        Z27, Z26, Z10                        // rows 2, 3 | 6, 7
	VSHUFPS       $0x88, Z10, Z8, Z26
	VSHUFPS       $0xDD, Z10, Z8, Z27
	VADDPS        Z27, Z26, Z24                        // token 2, all rows
	VSHUFPS       $0x88, Z13, Z12, Z26
	VSHUFPS       $0xDD, Z13, Z12, Z27
	VADDPS        Z27, Z26, Z12                        // rows 0, 1 | 4, 5
	VSHUFPS       $0x88, Z15, Z14, Z26
	VSHUFPS       $0xDD, Z15, Z14, Z27
	VADDPS        Z27, Z26, Z14                        // rows 2, 3 | 6, 7
	VSHUFPS       $0x88, Z14, Z12, Z26
	VSHUFPS       $0xDD, Z14, Z12, Z27
	VADDPS        Z27, Z26, Z25                        // token 3, all rows
	VSHUFF64X2    $0x88, Z25, Z24, Z26                 // lanes 0 to 3
	VSHUFF64X2    $0xDD, Z25, Z24, Z27                 // lanes 4 to 7
	VADDPS        Z27, Z26, Z26
	VMOVUPS       Y26, (SI)                            // y[2][0:8]
	VEXTRACTF64X4 $1, Z26, (SI)(DX*1)                  // y[3][0:8]
	LEAQ          (SI)(DX*2), SI
	VSHUFPS       $0x88, Z17, Z16, Z26
	VSHUFPS       $0xDD, Z17, Z16, Z27
	VADDPS        Z27, Z26, Z16                        // rows 0, 1 | 4, 5
	VSHUFPS       $0x88, Z19, Z18, Z26
	VSHUFPS       $0xDD, Z19, Z18, Z27
	VADDPS        Z27, Z26, Z18                        // rows 2, 3 | 6, 7
	VSHUFPS       $0x88, Z18, Z16, Z26
	VSHUFPS       $0xDD, Z18, Z16, Z27
	VADDPS        Z27, Z26, Z24                        // token 4, all rows
	VSHUFPS       $0x88, Z21, Z20, Z26
	VSHUFPS       $0xDD, Z21, Z20, Z27
	VADDPS        Z27, Z26, Z20                        // rows 0, 1 | 4, 5
	VSHUFPS       $0x88, Z23, Z22, Z26
	VSHUFPS       $0xDD, Z23, Z22, Z27
	VADDPS        Z27, Z26, Z22                        // rows 2, 3 | 6, 7
	VSHUFPS       $0x88, Z22, Z20, Z26
	VSHUFPS       $0xDD, Z22, Z20, Z27
	VADDPS        Z27, Z26, Z25                        // token 5, all rows
	VSHUFF64X2    $0x88, Z25, Z24, Z26                 // lanes 0 to 3
	VSHUFF64X2    $0xDD, Z25, Z24, Z27                 // lanes 4 to 7
	VADDPS        Z27, Z26, Z26
	VMOVUPS       Y26, (SI)                            // y[4][0:8]
	VEXTRACTF64X4 $1, Z26, (SI)(DX*1)                  // y[5][0:8]
	ADDQ          $32, DI                              // y of the next tile
	JMP           next

pause:
	VMOVUPS       Z0, (BX)
	VMOVUPS       Z1, 64(BX)
	VMOVUPS       Z2, 128(BX)
	VMOVUPS       Z3, 192(BX)
	VMOVUPS       Z4, 256(BX)
	VMOVUPS       Z5, 320(BX)
	VMOVUPS       Z6, 384(BX)
	VMOVUPS       Z7, 448(BX)
	VMOVUPS       Z8, 512(BX)
	VMOVUPS       Z9, 576(BX)
	VMOVUPS       Z10, 640(BX)
	VMOVUPS       Z11, 704(BX)
	VMOVUPS       Z12, 768(BX)
	VMOVUPS       Z13, 832(BX)
	VMOVUPS       Z14, 896(BX)
	VMOVUPS       Z15, 960(BX)
	VMOVUPS       Z16, 1024(BX)
	VMOVUPS       Z17, 1088(BX)
	VMOVUPS       Z18, 1152(BX)
	VMOVUPS       Z19, 1216(BX)
	VMOVUPS       Z20, 1280(BX)
	VMOVUPS       Z21, 1344(BX)
	VMOVUPS       Z22, 1408(BX)
	VMOVUPS       Z23, 1472(BX)

next:
	ADDQ          $1536, BX                            // and its sums
	DECQ          R15
	JNZ           tiles
	VZEROUPPER
	RET

// func mixAVX512(t *tile)
//
// mixAVX512 is mixAVX2 for 6 rows of y, 64 columns wide.
//
// Registers: as in mixAVX2, and R12 = x3
// Z(4j)–Z(4j+3) = y[j]   Z24–Z29 = sixteen times x[j][i]   Z30, Z31 = sixteen columns of w[i], in turn
TEXT ·mixAVX512(SB), NOSPLIT, $0-8
	MOVQ          t+0(FP), AX
	MOVQ          tile_y(AX), DI
	MOVQ          tile_yStride(AX), R8
	MOVQ          tile_w(AX), SI
	MOVQ          tile_wStride(AX), R9
	MOVQ          tile_x(AX), DX
	MOVQ          tile_xStride(AX), R10
	MOVQ          tile_n(AX), CX
	SHLQ          $2, R8                               // 4 bytes a number
	SHLQ          $2, R9
	SHLQ          $2, R10
	LEAQ          (R10)(R10*2), R12
	ADDQ          DX, R12                              // x3
	MOVQ          R9, R11
	SHLQ          $4, R11                              // 16 rows
	MOVQ          DI, BX
	VMOVUPS       (BX), Z0                             // y[0]
	VMOVUPS       64(BX), Z1
	VMOVUPS       128(BX), Z2
	VMOVUPS       192(BX), Z3
	ADDQ          R8, BX
	VMOVUPS       (BX), Z4                             // y[1]
	VMOVUPS       64(BX), Z5
	VMOVUPS       128(BX), Z6
	VMOVUPS       192(BX), Z7
	ADDQ          R8, BX
	VMOVUPS       (BX), Z8                             // y[2]
	VMOVUPS       64(BX), Z9
	VMOVUPS       128(BX), Z10
	VMOVUPS       192(BX), Z11
	ADDQ          R8, BX
	VMOVUPS       (BX), Z12                            // y[3]
	VMOVUPS       64(BX), Z13
	VMOVUPS       128(BX), Z14
	VMOVUPS       192(BX), Z15
	ADDQ          R8, BX
	VMOVUPS       (BX), Z16                            // y[4]
	VMOVUPS       64(BX), Z17
	VMOVUPS       128(BX), Z18
	VMOVUPS       192(BX), Z19
	ADDQ          R8, BX
	VMOVUPS       (BX), Z20                            // y[5]
	VMOVUPS       64(BX), Z21
	VMOVUPS       128(BX), Z22
	VMOVUPS       192(BX), Z23

rows:
	VBROADCASTSS  (DX), Z24                            // x[0][i]
	VBROADCASTSS  (DX)(R10*1), Z25                     // x[1][i]
	VBROADCASTSS  (DX)(R10*2), Z26                     // x[2][i]
	VBROADCASTSS  (R12), Z27                           // x[3][i]
	VBROADCASTSS  (R12)(R10*1), Z28                    // x[4][i]
	VBROADCASTSS  (R12)(R10*2), Z29                    // x[5][i]
	VMOVUPS       (SI), Z30                            // w[i][0:16]
	VFMADD231PS   Z30, Z24, Z0                         // y[0][0:16] += x[0][i]*w[i][0:16]
	VFMADD231PS   Z30, Z25, Z4                         // y[1][0:16] += x[1][i]*w[i][0:16]
	VFMADD231PS   Z30, Z26, Z8                         // y[2][0:16] += x[2][i]*w[i][0:16]
	VFMADD231PS   Z30, Z27, Z12                        // y[3][0:16] += x[3][i]*w[i][0:16]
	VFMADD231PS   Z30, Z28, Z16                        // y[4][0:16] += x[4][i]*w[i][0:16]
	VFMADD231PS   Z30, Z29, Z20                        // y[5][0:16] += x[5][i]*w[i][0:16]
	VMOVUPS       64(SI), Z31                          // w[i][16:32]
	VFMADD231PS   Z31, Z24, Z1                         // y[0][16:32] += x[0][i]*w[i][16:32]
	VFMADD231PS   Z31, Z25, Z5                         // y[1][16:32] += x[1][i]*w[i][16:32]
	VFMADD231PS   Z31, Z26, Z9                         // y[2][16:32] += x[2][i]*w[i][16:32]
	VFMADD231PS   Z31, Z27, Z13                        // y[3][16:32] += x[3][i]*w[i][16:32]
	VFMADD231PS   Z31, Z28, Z17                        // y[4][16:32] += x[4][i]*w[i][16:32]
	VFMADD231PS   Z31, Z29, Z21                        // y[5][16:32] += x[5][i]*w[i][16:32]
	VMOVUPS       128(SI), Z30                         // w[i][32:48]
	VFMADD231PS   Z30, Z24, Z2                         // y[0][32:48] += x[0][i]*w[i][32:48]
	VFMADD231PS   Z30, Z25, Z6                         // y[1][32:48] += x[1][i]*w[i][32:48]
	VFMADD231PS   Z30, Z26, Z10                        // y[2][32:48] += x[2][i]*w[i][32:48]
	VFMADD231PS   Z30, Z27, Z14                        // y[3][32:48] += x[3][i]*w[i][32:48]
	VFMADD231PS   Z30, Z28, Z18                        // y[4][32:48] += x[4][i]*w[i][32:48]
	VFMADD231PS   Z30, Z29, Z22                        // y[5][32:48] += x[5][i]*w[i][32:48]
	VMOVUPS       192(SI), Z31                         // w[i][48:64]
	VFMADD231PS   Z31, Z24, Z3                         // y[0][48:64] += x[0][i]*w[i][48:64]
	VFMADD231PS   Z31, Z25, Z7                         // y[1][48:64] += x[1][i]*w[i][48:64]
	VFMADD231PS   Z31, Z26, Z11                        // y[2][48:64] += x[2][i]*w[i][48:64]
	VFMADD231PS   Z31, Z27, Z15                        // y[3][48:64] += x[3][i]*w[i][48:64]
	VFMADD231PS   Z31, Z28, Z19                        // y[4][48:64] += x[4][i]*w[i][48:64]
	VFMADD231PS   Z31, Z29, Z23                        // y[5][48:64] += x[5][i]*w[i][48:64]
	PREFETCHT0    (SI)(R11*1)
	PREFETCHT0    64(SI)(R11*1)
	PREFETCHT0    128(SI)(R11*1)
	PREFETCHT0    192(SI)(R11*1)
	ADDQ          R9, SI
	ADDQ          $4, DX
	ADDQ          $4, R12
	DECQ          CX
	JNZ           rows

	VMOVUPS       Z0, (DI)
	VMOVUPS       Z1, 64(DI)
	VMOVUPS       Z2, 128(DI)
	VMOVUPS       Z3, 192(DI)
	ADDQ          R8, DI
	VMOVUPS       Z4, (DI)
	VMOVUPS       Z5, 64(DI)
	VMOVUPS       Z6, 128(DI)
	VMOVUPS       Z7, 192(DI)
	ADDQ          R8, DI
	VMOVUPS       Z8, (DI)
	VMOVUPS       Z9, 64(DI)
	VMOVUPS       Z10, 128(DI)
	VMOVUPS       Z11, 192(DI)
	ADDQ          R8, DI
	VMOVUPS       Z12, (DI)
	VMOVUPS       Z13, 64(DI)
	VMOVUPS       Z14, 128(DI)
	VMOVUPS       Z15, 192(DI)
	ADDQ          R8, DI
	VMOVUPS       Z16, (DI)
	VMOVUPS       Z17, 64(DI)
	VMOVUPS       Z18, 128(DI)
	VMOVUPS       Z19, 192(DI)
	ADDQ          R8, DI
	VMOVUPS       Z20, (DI)
	VMOVUPS       Z21, 64(DI)
	VMOVUPS       Z22, 128(DI)
	VMOVUPS       Z23, 192(DI)
	VZEROUPPER
	RET
