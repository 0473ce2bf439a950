//go:build !purego

// The kernels for arm64: NEON, which every such processor has. kernel.go says what
// each must compute and in which order; simd_amd64.s explains the same loops with
// wider registers.
//
// How to read this file. Sources come first and the destination last: VFMLA V14.S4,
// V8.S4, V0.S4 means V0 += V8*V14, with one rounding, for four float32. V0 to V31
// are registers of 16 bytes: S4 reads one as four words, H8 as eight halves. VLD1.P
// 16(R1) loads from R1 and moves it on. Eight lanes are two registers, a sum s is
// slo, lanes 0 to 3, and shi, lanes 4 to 7.
//
// Go's assembler has no vector addition of floats: a + b is written a + b*1, which
// is the same number, with V31 or V29 full of ones.
//
// Next: parallel.go

#include "go_asm.h"
#include "textflag.h"

// func dotsBF16NEON(y []float32, w []byte, x []float32)
//
// dotsBF16NEON sets y[r] = Σ w[r][c]*x[c], four rows at a time. len(x) is a multiple
// of 16, len(y) of 4.
//
// Registers: R0 = y   R1–R4 = w0–w3   R5 = x   R6 = rows left   R7 = bytes of a row   R8 = columns left
// R9 = x   R10 = what to prefetch, in a straight line through the weights
// V0–V7 = s0lo, s0hi … s3lo, s3hi   V8, V9 = eight numbers of x   V10–V13 = eight weights of each row
// V14, V15 = a row's weights as float32   V30 = 0   V31 = ones
//
// A bfloat16 is the upper half of a float32: VZIP1 and VZIP2 put zeros in front of
// the first and the last four weights.
TEXT ·dotsBF16NEON(SB), NOSPLIT, $0-72
	MOVD    y_base+0(FP), R0
	MOVD    y_len+8(FP), R6
	MOVD    w_base+24(FP), R1
	MOVD    x_base+48(FP), R5
	MOVD    x_len+56(FP), R7
	LSL     $1, R7, R7                         // 2 bytes a column
	ADD     R7<<1, R7, R10
	ADD     R1, R10, R10
	ADD     $2048, R10                         // three rows and 2 KiB ahead
	VEOR    V30.B16, V30.B16, V30.B16
	FMOVS   $(1.0), F31
	VDUP    V31.S[0], V31.S4

rows:
	ADD     R7, R1, R2                         // w1
	ADD     R7, R2, R3                         // w2
	ADD     R7, R3, R4                         // w3
	VEOR    V0.B16, V0.B16, V0.B16             // s0 … s3 = 0
	VEOR    V1.B16, V1.B16, V1.B16
	VEOR    V2.B16, V2.B16, V2.B16
	VEOR    V3.B16, V3.B16, V3.B16
	VEOR    V4.B16, V4.B16, V4.B16
	VEOR    V5.B16, V5.B16, V5.B16
	VEOR    V6.B16, V6.B16, V6.B16
	VEOR    V7.B16, V7.B16, V7.B16
	MOVD    R5, R9
	MOVD    x_len+56(FP), R8

columns:
	VLD1.P  32(R9), [V8.S4, V9.S4]             // x[0:8]
	VLD1.P  16(R1), [V10.H8]                   // w0[0:8]
	VLD1.P  16(R2), [V11.H8]                   // w1[0:8]
	VLD1.P  16(R3), [V12.H8]                   // w2[0:8]
	VLD1.P  16(R4), [V13.H8]                   // w3[0:8]
	VZIP1   V10.H8, V30.H8, V14.H8             // as float32: w[0:4]
	VZIP2   V10.H8, V30.H8, V15.H8             // w[4:8]
	VFMLA   V14.S4, V8.S4, V0.S4               // s0lo += w0[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V1.S4               // s0hi += w0[4:8]*x[4:8]
	VZIP1   V11.H8, V30.H8, V14.H8
	VZIP2   V11.H8, V30.H8, V15.H8
	VFMLA   V14.S4, V8.S4, V2.S4               // s1lo += w1[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V3.S4               // s1hi += w1[4:8]*x[4:8]
	VZIP1   V12.H8, V30.H8, V14.H8
	VZIP2   V12.H8, V30.H8, V15.H8
	VFMLA   V14.S4, V8.S4, V4.S4               // s2lo += w2[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V5.S4               // s2hi += w2[4:8]*x[4:8]
	VZIP1   V13.H8, V30.H8, V14.H8
	VZIP2   V13.H8, V30.H8, V15.H8
	VFMLA   V14.S4, V8.S4, V6.S4               // s3lo += w3[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V7.S4               // s3hi += w3[4:8]*x[4:8]
	PRFM    (R10), PLDL1KEEP
	ADD     $64, R10
	SUBS    $8, R8, R8
	BNE     columns

	VUZP1   V2.S4, V0.S4, V16.S4
	VUZP2   V2.S4, V0.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V16.S4             // s0[0]+s0[1] s0[2]+s0[3] s1[0]+s1[1] …
	VUZP1   V6.S4, V4.S4, V17.S4
	VUZP2   V6.S4, V4.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V17.S4             // … of s2, s3
	VUZP1   V17.S4, V16.S4, V19.S4
	VUZP2   V17.S4, V16.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V19.S4             // lanes 0 to 3 of s0 s1 s2 s3
	VUZP1   V3.S4, V1.S4, V16.S4
	VUZP2   V3.S4, V1.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V16.S4             // the same of lanes 4 to 7
	VUZP1   V7.S4, V5.S4, V17.S4
	VUZP2   V7.S4, V5.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V17.S4
	VUZP1   V17.S4, V16.S4, V0.S4
	VUZP2   V17.S4, V16.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V0.S4
	VFMLA   V0.S4, V31.S4, V19.S4              // both halves: four finished dot products
	VST1.P  [V19.S4], 16(R0)                   // y[0:4]
	MOVD    R4, R1                             // over the other three rows
	SUBS    $4, R6, R6
	BNE     rows
	RET

// func dotsF32NEON(y []float32, w []byte, x []float32)
//
// dotsF32NEON is dotsBF16NEON for weights that need no widening.
TEXT ·dotsF32NEON(SB), NOSPLIT, $0-72
	MOVD    y_base+0(FP), R0
	MOVD    y_len+8(FP), R6
	MOVD    w_base+24(FP), R1
	MOVD    x_base+48(FP), R5
	MOVD    x_len+56(FP), R7
	LSL     $2, R7, R7                         // 4 bytes a column
	ADD     R7<<1, R7, R10
	ADD     R1, R10, R10
	ADD     $2048, R10                         // three rows and 2 KiB ahead
	FMOVS   $(1.0), F31
	VDUP    V31.S[0], V31.S4

rows:
	ADD     R7, R1, R2                         // w1
	ADD     R7, R2, R3                         // w2
	ADD     R7, R3, R4                         // w3
	VEOR    V0.B16, V0.B16, V0.B16             // s0 … s3 = 0
	VEOR    V1.B16, V1.B16, V1.B16
	VEOR    V2.B16, V2.B16, V2.B16
	VEOR    V3.B16, V3.B16, V3.B16
	VEOR    V4.B16, V4.B16, V4.B16
	VEOR    V5.B16, V5.B16, V5.B16
	VEOR    V6.B16, V6.B16, V6.B16
	VEOR    V7.B16, V7.B16, V7.B16
	MOVD    R5, R9
	MOVD    x_len+56(FP), R8

columns:
	VLD1.P  32(R9), [V8.S4, V9.S4]             // x[0:8]
	VLD1.P  32(R1), [V14.S4, V15.S4]           // w0[0:8]
	VFMLA   V14.S4, V8.S4, V0.S4               // s0lo += w0[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V1.S4               // s0hi += w0[4:8]*x[4:8]
	VLD1.P  32(R2), [V14.S4, V15.S4]           // w1[0:8]
	VFMLA   V14.S4, V8.S4, V2.S4               // s1lo += w1[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V3.S4               // s1hi += w1[4:8]*x[4:8]
	VLD1.P  32(R3), [V14.S4, V15.S4]           // w2[0:8]
	VFMLA   V14.S4, V8.S4, V4.S4               // s2lo += w2[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V5.S4               // s2hi += w2[4:8]*x[4:8]
	VLD1.P  32(R4), [V14.S4, V15.S4]           // w3[0:8]
	VFMLA   V14.S4, V8.S4, V6.S4               // s3lo += w3[0:4]*x[0:4]
	VFMLA   V15.S4, V9.S4, V7.S4               // s3hi += w3[4:8]*x[4:8]
	PRFM    (R10), PLDL1KEEP
	PRFM    64(R10), PLDL1KEEP
	ADD     $128, R10
	SUBS    $8, R8, R8
	BNE     columns

	VUZP1   V2.S4, V0.S4, V16.S4
	VUZP2   V2.S4, V0.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V16.S4             // s0[0]+s0[1] s0[2]+s0[3] s1[0]+s1[1] …
	VUZP1   V6.S4, V4.S4, V17.S4
	VUZP2   V6.S4, V4.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V17.S4             // … of s2, s3
	VUZP1   V17.S4, V16.S4, V19.S4
	VUZP2   V17.S4, V16.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V19.S4             // lanes 0 to 3 of s0 s1 s2 s3
	VUZP1   V3.S4, V1.S4, V16.S4
	VUZP2   V3.S4, V1.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V16.S4             // the same of lanes 4 to 7
	VUZP1   V7.S4, V5.S4, V17.S4
	VUZP2   V7.S4, V5.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V17.S4
	VUZP1   V17.S4, V16.S4, V0.S4
	VUZP2   V17.S4, V16.S4, V18.S4
	VFMLA   V18.S4, V31.S4, V0.S4
	VFMLA   V0.S4, V31.S4, V19.S4              // both halves: four finished dot products
	VST1.P  [V19.S4], 16(R0)                   // y[0:4]
	MOVD    R4, R1                             // over the other three rows
	SUBS    $4, R6, R6
	BNE     rows
	RET

// func tileNEON(t *tile)
//
// tileNEON multiplies 4 rows of weights with 2 tokens over n columns, t.count times:
// tileAVX2 with a token less.
//
// Registers: R0 = t   R1–R4 = w0–w3   R5, R6 = x0, x1   R7 = bytes between rows of w   R8 = columns left   R9 = sums
// R10 = sums while loading   R11 = tiles left   R12, R2 = y of the tokens   R13, R15 = bytes between tokens of y, of x
// R14 = w of the next tile
// V0–V7 = s[0][0]lo, s[0][0]hi … s[0][3]lo, s[0][3]hi   V8–V15 = s[1]   V16, V17 = x0[0:8]   V18, V19 = x1[0:8]
// V20, V21 = eight weights of a row   V22–V25 for adding up   V29 = ones
TEXT ·tileNEON(SB), NOSPLIT, $0-8
	MOVD    t+0(FP), R0
	MOVD    tile_w(R0), R14
	MOVD    tile_wStride(R0), R7
	LSL     $2, R7, R7                         // 4 bytes a number
	MOVD    tile_xStride(R0), R15
	LSL     $2, R15, R15
	MOVD    tile_sums(R0), R9
	MOVD    tile_y(R0), R12
	MOVD    tile_yStride(R0), R13
	LSL     $2, R13, R13
	MOVD    tile_count(R0), R11
	FMOVS   $(1.0), F29
	VDUP    V29.S[0], V29.S4

tiles:
	MOVD    R14, R1
	ADD     R7, R1, R2
	ADD     R7, R2, R3
	ADD     R7, R3, R4
	ADD     R7, R4, R14                        // w of the next tile
	MOVD    tile_x(R0), R5
	ADD     R15, R5, R6
	MOVD    tile_n(R0), R8
	MOVBU   tile_first(R0), R10
	CBZ     R10, resume
	VEOR    V0.B16, V0.B16, V0.B16
	VEOR    V1.B16, V1.B16, V1.B16
	VEOR    V2.B16, V2.B16, V2.B16
	VEOR    V3.B16, V3.B16, V3.B16
	VEOR    V4.B16, V4.B16, V4.B16
	VEOR    V5.B16, V5.B16, V5.B16
	VEOR    V6.B16, V6.B16, V6.B16
	VEOR    V7.B16, V7.B16, V7.B16
	VEOR    V8.B16, V8.B16, V8.B16
	VEOR    V9.B16, V9.B16, V9.B16
	VEOR    V10.B16, V10.B16, V10.B16
	VEOR    V11.B16, V11.B16, V11.B16
	VEOR    V12.B16, V12.B16, V12.B16
	VEOR    V13.B16, V13.B16, V13.B16
	VEOR    V14.B16, V14.B16, V14.B16
	VEOR    V15.B16, V15.B16, V15.B16
	B       columns

resume:
	MOVD    R9, R10
	VLD1.P  64(R10), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1.P  64(R10), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1.P  64(R10), [V8.S4, V9.S4, V10.S4, V11.S4]
	VLD1.P  64(R10), [V12.S4, V13.S4, V14.S4, V15.S4]

columns:
	VLD1.P  32(R5), [V16.S4, V17.S4]           // x0[0:8]
	VLD1.P  32(R6), [V18.S4, V19.S4]           // x1[0:8]
	VLD1.P  32(R1), [V20.S4, V21.S4]           // w0[0:8]
	VFMLA   V20.S4, V16.S4, V0.S4              // s[0][0]lo += w0[0:4]*x0[0:4]
	VFMLA   V21.S4, V17.S4, V1.S4              // s[0][0]hi += w0[4:8]*x0[4:8]
	VFMLA   V20.S4, V18.S4, V8.S4              // s[1][0]lo += w0[0:4]*x1[0:4]
	VFMLA   V21.S4, V19.S4, V9.S4              // s[1][0]hi += w0[4:8]*x1[4:8]
	VLD1.P  32(R2), [V20.S4, V21.S4]           // w1[0:8]
	VFMLA   V20.S4, V16.S4, V2.S4              // s[0][1]lo += w1[0:4]*x0[0:4]
	VFMLA   V21.S4, V17.S4, V3.S4              // s[0][1]hi += w1[4:8]*x0[4:8]
	VFMLA   V20.S4, V18.S4, V10.S4             // s[1][1]lo += w1[0:4]*x1[0:4]
	VFMLA   V21.S4, V19.S4, V11.S4             // s[1][1]hi += w1[4:8]*x1[4:8]
	VLD1.P  32(R3), [V20.S4, V21.S4]           // w2[0:8]
	VFMLA   V20.S4, V16.S4, V4.S4              // s[0][2]lo += w2[0:4]*x0[0:4]
	VFMLA   V21.S4, V17.S4, V5.S4              // s[0][2]hi += w2[4:8]*x0[4:8]
	VFMLA   V20.S4, V18.S4, V12.S4             // s[1][2]lo += w2[0:4]*x1[0:4]
	VFMLA   V21.S4, V19.S4, V13.S4             // s[1][2]hi += w2[4:8]*x1[4:8]
	VLD1.P  32(R4), [V20.S4, V21.S4]           // w3[0:8]
	VFMLA   V20.S4, V16.S4, V6.S4              // s[0][3]lo += w3[0:4]*x0[0:4]
	VFMLA   V21.S4, V17.S4, V7.S4              // s[0][3]hi += w3[4:8]*x0[4:8]
	VFMLA   V20.S4, V18.S4, V14.S4             // s[1][3]lo += w3[0:4]*x1[0:4]
	VFMLA   V21.S4, V19.S4, V15.S4             // s[1][3]hi += w3[4:8]*x1[4:8]
	SUBS    $8, R8, R8
	BNE     columns

	MOVBU   tile_last(R0), R10
	CBZ     R10, pause
	ADD     R13, R12, R2
	VUZP1   V2.S4, V0.S4, V22.S4
	VUZP2   V2.S4, V0.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V22.S4             // s0[0]+s0[1] s0[2]+s0[3] s1[0]+s1[1] …
	VUZP1   V6.S4, V4.S4, V23.S4
	VUZP2   V6.S4, V4.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V23.S4             // … of s2, s3
	VUZP1   V23.S4, V22.S4, V25.S4
	VUZP2   V23.S4, V22.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V25.S4             // lanes 0 to 3 of s0 s1 s2 s3
	VUZP1   V3.S4, V1.S4, V22.S4
	VUZP2   V3.S4, V1.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V22.S4             // the same of lanes 4 to 7
	VUZP1   V7.S4, V5.S4, V23.S4
	VUZP2   V7.S4, V5.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V23.S4
	VUZP1   V23.S4, V22.S4, V0.S4
	VUZP2   V23.S4, V22.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V0.S4
	VFMLA   V0.S4, V29.S4, V25.S4              // both halves: four finished dot products
	VST1.P  [V25.S4], 16(R12)                  // y[0][0:4], and on to y of the next tile
	VUZP1   V10.S4, V8.S4, V22.S4
	VUZP2   V10.S4, V8.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V22.S4             // s0[0]+s0[1] s0[2]+s0[3] s1[0]+s1[1] …
	VUZP1   V14.S4, V12.S4, V23.S4
	VUZP2   V14.S4, V12.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V23.S4             // … of s2, s3
	VUZP1   V23.S4, V22.S4, V25.S4
	VUZP2   V23.S4, V22.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V25.S4             // lanes 0 to 3 of s0 s1 s2 s3
	VUZP1   V11.S4, V9.S4, V22.S4
	VUZP2   V11.S4, V9.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V22.S4             // the same of lanes 4 to 7
	VUZP1   V15.S4, V13.S4, V23.S4
	VUZP2   V15.S4, V13.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V23.S4
	VUZP1   V23.S4, V22.S4, V8.S4
	VUZP2   V23.S4, V22.S4, V24.S4
	VFMLA   V24.S4, V29.S4, V8.S4
	VFMLA   V8.S4, V29.S4, V25.S4              // both halves: four finished dot products
	VST1    [V25.S4], (R2)                     // y[1][0:4]
	ADD     $256, R9                           // and its sums
	B       next

pause:
	VST1.P  [V0.S4, V1.S4, V2.S4, V3.S4], 64(R9)
	VST1.P  [V4.S4, V5.S4, V6.S4, V7.S4], 64(R9)
	VST1.P  [V8.S4, V9.S4, V10.S4, V11.S4], 64(R9)
	VST1.P  [V12.S4, V13.S4, V14.S4, V15.S4], 64(R9)

next:
	SUBS    $1, R11, R11
	BNE     tiles
	RET
