package qwen

// A kernel is the arithmetic that takes the time, written for one kind of
// processor: products of a weight's rows with activations, in the assembly of
// simd_amd64.s and simd_arm64.s, and in plain Go here for every other machine.
//
// # One order of summation
//
// Floating-point sums depend on their order, so an engine that adds up a token's
// numbers in one way when it comes alone (decode) and in another when it comes
// with others (prefill) gives it two slightly different meanings. Here every dot
// product, of any kernel and on any path, is the sum of eight lanes:
//
//	lane j = Σ w[c]*x[c]  over c = j, j+8, j+16, …  from left to right
//	dot    = ((lane 0 + lane 1) + (lane 2 + lane 3)) + ((lane 4 + lane 5) + (lane 6 + lane 7))
//
// With w and x of 16 numbers each lane has two products:
//
//	c       0   1   2   3   4   5   6   7 | 8   9  10  11  12  13  14  15
//	lane    0   1   2   3   4   5   6   7 | 0   1   2   3   4   5   6   7
//
// Eight, because that is one AVX2 register; half of an AVX-512 one, two of NEON.
// The pairs at the end are what an instruction that adds neighbours does.
//
// That the order shows at all is easily seen: in float32, (1e8 + 1) - 1e8 is 0, since
// 1e8 + 1 is no float32 and is rounded to 1e8, and (1e8 - 1e8) + 1 is 1.
//
// What a kernel may choose is how many rows and tokens it works on at a time, so
// that the processor has other sums to go on with while one addition waits for
// the last. So the logits of a token are the same bits in prefill, in pieces of
// any size and in decode, for any number of threads; and the assembly kernels,
// all of which multiply and add with one rounding (FMA), agree on every dot
// product to the last bit. The generic kernel rounds twice, after the product and after
// the sum, because Go has no fused float32 operation.
//
// Rows are multiples of 16 long. One of another length is copied and filled up
// with zeros: 0*0 added to a lane does not change it.
//
// Next: simd_amd64.go

import (
	"math"
	"sync"
)

// rowMultiple is what the length of every row given to a kernel is a multiple of:
// two AVX2 registers of products, so that no kernel needs a loop for single numbers.
const rowMultiple = 16

// dotRows is how many rows the dots functions work on at a time: len(y) is a
// multiple of it.
const dotRows = 4

// A kernel is one implementation. Lengths are the caller's duty: assembly does
// not check them.
type kernel struct {
	name string

	// dots sets y[r] = Σ w[r][c]*x[c]: rows that lie one after the other, one
	// vector. This is decode. len(x) is a multiple of rowMultiple, len(y) of dotRows.
	dotsF32, dotsF16, dotsBF16 func(y []float32, w []byte, x []float32)

	// widen converts len(dst) numbers, a multiple of rowMultiple.
	widenF32, widenF16, widenBF16 func(dst []float32, src []byte)

	// tile multiplies rows rows of w by tokens rows of x, count times. This is prefill.
	tile         func(t *tile)
	rows, tokens int

	// mix is what attention does with the values: y[t][c] += Σ x[t][i]*w[i][c], over n
	// rows in order, for mixTokens rows and mixColumns columns of y. x holds the
	// probabilities, w the cached values. Its sums run along the rows of w, so it needs
	// no lanes: neighbouring columns are neighbouring sums.
	mix                   func(t *tile)
	mixTokens, mixColumns int

	// keys and values are attention for one query, with cached rows that come from memory:
	// y[r] = Σ w[r][c]*x[c] as dotsF32, and y[c] += Σ x[i]*w[i][c] as mix, over len(x) whole
	// rows in order, len(y) a multiple of rowMultiple. Both are nil where there are only tiles.
	keys, values func(y, w, x []float32)

	// softmax and silu work on a multiple of 8 numbers, and on 8 at least.
	softmax func(x []float32)
	silu    func(y, x []float32)

	// prefetchBytes and prefetchFloats ask for x to be brought into a cache. They wait for
	// nothing and change nothing; nil where they have not been tried.
	prefetchBytes  func(x []byte)
	prefetchFloats func(x []float32)
}

// A tile is a piece of the product of two float32 matrices, small enough for its
// sums to stay in registers: y[t][r] = Σ w[r][c]*x[t][c] over n columns. Rows of
// y, w and x start yStride, wStride and xStride numbers apart. A long row takes
// several tiles, which hand on their lanes in sums, [tokens*rows*8]. One call does
// count tiles: the same tokens, with rows after rows of w.
//
// With AVX2's 4 rows and 3 tokens each of the twelve cells is a register of eight
// lanes; of the other four, three hold numbers of x and one a row of w:
//
//	         w[0]      w[1]      w[2]      w[3]
//	x[0]   y[0][0]   y[0][1]   y[0][2]   y[0][3]
//	x[1]   y[1][0]   y[1][1]   y[1][2]   y[1][3]
//	x[2]   y[2][0]   y[2][1]   y[2][2]   y[2][3]
type tile struct {
	y, w, x, sums             []float32
	yStride, wStride, xStride int
	n                         int  // columns, a multiple of rowMultiple; mix: rows of w, any number
	count                     int  // tiles, down the rows of w; mix: not used
	first                     bool // sums start at zero, not from sums
	last                      bool // the lanes are added up and stored in y, not in sums
}

// kernels are those that this machine can run, the best first.
var kernels = append(machineKernels(), &kernel{
	name:    "generic",
	dotsF32: dotsGeneric(F32), dotsF16: dotsGeneric(F16), dotsBF16: dotsBF16Generic,
	widenF32: widenGeneric(F32), widenF16: widenGeneric(F16), widenBF16: widenGeneric(BF16),
	tile: tileGeneric, rows: 1, tokens: 1,
	mix: mixGeneric, mixTokens: 1, mixColumns: 8,
	softmax: softmaxGeneric, silu: siluGeneric,
})

// current is the kernel in use; tests run with each in turn.
var current = kernels[0]

// Kernel returns the name of the kernel in use: "avx512", "avx2", "neon" or
// "generic".
func Kernel() string { return current.name }

// dots is dotsF32, dotsF16 or dotsBF16.
func (k *kernel) dots(y []float32, w []byte, dtype DType, x []float32) {
	switch dtype {
	case F32:
		k.dotsF32(y, w, x)
	case F16:
		k.dotsF16(y, w, x)
	default:
		k.dotsBF16(y, w, x)
	}
}

// widen is the function widen, most of it in assembly.
func (k *kernel) widen(dst []float32, src []byte, dtype DType) {
	n := len(dst) &^ (rowMultiple - 1) // the rest is too short for a kernel
	switch {
	case n > 0 && dtype == F32:
		k.widenF32(dst[:n], src[:4*n])
	case n > 0 && dtype == F16:
		k.widenF16(dst[:n], src[:2*n])
	case n > 0 && dtype == BF16:
		k.widenBF16(dst[:n], src[:2*n])
	default:
		n = 0
	}
	widen(dst[n:], src[n*dtype.Size():], dtype)
}

// attentionScores sets scores[i*width+s] = q[i]·k[s]*scale for each query i and each
// key s: q is [queries, headDim], k is [keys, headDim]. width, of which the first
// numbers count, is at least as many as there are keys.
//
// It goes tile by tile, the keys as the tile's rows of w and the queries as its
// tokens; what does not fill a tile goes through a copy that does. Few queries read the
// keys as a stream, as far as they are whole groups of dotRows.
func attentionScores(scores, q, k []float32, headDim, width int, scale float32) {
	rows, tokens := current.rows, current.tokens
	p := tileBuffers.Get().(*tileBuffer)
	defer tileBuffers.Put(p)
	scaled := grow(&p.q, len(q)) // a query once, and not each of its scores
	for i, v := range q {
		scaled[i] = v * scale
	}
	scaled, padded := padRows(scaled, headDim)
	queries, keys := len(q)/headDim, len(k)/headDim
	streamed := 0 // keys that were
	if streams(queries, headDim) {
		streamed = keys &^ (dotRows - 1)
	}
	for s := 0; s < streamed; s += streamRows {
		n := min(streamRows, streamed-s)
		for i := range queries {
			current.keys(scores[i*width+s:][:n], k[s*headDim:][:n*headDim], scaled[i*headDim:][:headDim])
		}
	}
	t := &p.tile
	t.n, t.first, t.last = padded, true, true
	for s, n := streamed, 0; s < keys; s += n {
		if n = min(attentionRows(headDim), keys-s); n > rows {
			n -= n % rows // the rest comes alone
		}
		t.w, t.wStride, t.count = k[s*headDim:], headDim, (n+rows-1)/rows
		if n < rows || padded > headDim {
			t.w, t.wStride = fill(&p.w, t.count*rows, padded, t.w, headDim, n, headDim), padded
		}
		for i := 0; i < queries; i += tokens {
			t.x, t.xStride = scaled[i*padded:], padded
			t.y, t.yStride = scores[i*width+s:], width
			if m := min(tokens, queries-i); m < tokens || n < rows {
				t.x = fill(&p.x, tokens, padded, t.x, padded, m, padded)
				y := t.y
				t.y, t.yStride = grow(&p.y, tokens*t.count*rows), t.count*rows
				current.tile(t)
				for j := range m {
					copy(y[j*width:][:n], t.y[j*t.yStride:])
				}
			} else {
				current.tile(t)
			}
		}
	}
}

// attentionValues adds Σ probs[i*width+s] * v[s] to out[i] for each query i: out is
// [queries, headDim], v is [keys, headDim]. It goes tile by tile, over so many rows of
// v that they stay in the L1 cache while all queries go by:
//
//	             v, in tiles of mixColumns
//	            ┌──────────┬──────────┐
//	rows 0–63   │    1     │    2     │          for each tile in this order,
//	            ├──────────┼──────────┤          all queries, mixTokens at a time
//	rows 64–127 │    3     │    4     │
//	            └──────────┴──────────┘
//
// The copies are for what does not fill a tile: the last queries, and a headDim that
// is no multiple of mixColumns. What is filled up is 0, and what comes of it dropped.
// Few queries read the values as a stream.
func attentionValues(out, probs, v []float32, headDim, width int) {
	queries, keys := len(out)/headDim, len(v)/headDim
	if streams(queries, headDim) {
		for s := 0; s < keys; s += streamRows {
			n := min(streamRows, keys-s)
			for i := range queries {
				current.values(out[i*headDim:][:headDim], v[s*headDim:][:n*headDim], probs[i*width+s:][:n])
			}
		}
		return
	}
	columns, tokens := current.mixColumns, current.mixTokens
	p := tileBuffers.Get().(*tileBuffer)
	defer tileBuffers.Put(p)
	t := &p.tile
	for s := 0; s < keys; s += attentionRows(headDim) {
		t.n = min(attentionRows(headDim), keys-s)
		for c := 0; c < headDim; c += columns {
			t.w, t.wStride = v[s*headDim+c:], headDim
			here := min(columns, headDim-c)
			if here < columns {
				t.w, t.wStride = fill(&p.w, t.n, columns, t.w, headDim, t.n, here), columns
			}
			for i := 0; i < queries; i += tokens {
				t.x, t.xStride = probs[i*width+s:], width
				t.y, t.yStride = out[i*headDim+c:], headDim
				if m := min(tokens, queries-i); m < tokens || here < columns {
					t.x, t.xStride = fill(&p.x, tokens, t.n, t.x, width, m, t.n), t.n
					y := t.y
					t.y, t.yStride = fill(&p.y, tokens, columns, y, headDim, m, here), columns
					current.mix(t)
					for j := range m {
						copy(y[j*headDim:][:here], t.y[j*columns:])
					}
				} else {
					current.mix(t)
				}
			}
		}
	}
}

// streams says whether queries are so few, those of one token as a rule, that attention is a
// matter of reading the cache. Then rows go by in pieces of streamRows, which come from memory
// for the first query and from the L2 cache for the others, and are read one after the other:
// where a tile jumps between short pieces of rows, the processor does not foresee what comes
// next. Behind 4096 tokens, 16 GB/s became 31 with 2 queries of 128 numbers, 12 became 14 with 8;
// with 6 of 64, 18 became 16 (two cores of a Zen 4 that read 35).
func streams(queries, headDim int) bool {
	return current.keys != nil && 16*queries <= headDim && headDim%rowMultiple == 0
}

// attentionRows is how many keys or values all queries pass before the next: 16 KiB of
// them, 64 rows of 64 numbers, which leave room in the L1 cache for the queries.
func attentionRows(headDim int) int { return max(16, 4096/headDim) }

// A tileBuffer holds what does not fill a tile, padded with zeros.
type tileBuffer struct {
	tile       tile
	q, w, x, y []float32
}

var tileBuffers = sync.Pool{New: func() any { return new(tileBuffer) }}

// grow returns the first n numbers of *buffer, which it makes longer if need be.
func grow(buffer *[]float32, n int) []float32 {
	if cap(*buffer) < n {
		*buffer = make([]float32, n)
	}
	return (*buffer)[:n]
}

// fill returns a matrix [rows, width] of which the upper left part, [n, m], is
// taken from x, whose rows are stride apart, and the rest is 0.
func fill(buffer *[]float32, rows, width int, x []float32, stride, n, m int) []float32 {
	y := grow(buffer, rows*width)
	clear(y)
	for i := range n {
		copy(y[i*width:][:m], x[i*stride:])
	}
	return y
}

// sumSquares returns Σ x[i]², in four sums: an addition takes three or four cycles, and the
// next one to the same sum waits for it. With one, RMSNorm took a third longer.
func sumSquares(x []float32) float64 {
	var s0, s1, s2, s3 float64
	for ; len(x) >= 4; x = x[4:] {
		s0 += float64(x[0]) * float64(x[0])
		s1 += float64(x[1]) * float64(x[1])
		s2 += float64(x[2]) * float64(x[2])
		s3 += float64(x[3]) * float64(x[3])
	}
	for _, v := range x {
		s0 += float64(v) * float64(v)
	}
	return (s0 + s1) + (s2 + s3)
}

// lanes are the eight sums of one dot product, in plain Go: named variables in the
// loops below, since those stay in registers and an array's elements do not. From
// here on stands the generic kernel, which is also what assembly is held against.
type lanes [8]float32

// add adds the products of a and b, whose length is a multiple of 8.
func (s *lanes) add(a, b []float32) {
	s0, s1, s2, s3, s4, s5, s6, s7 := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
	for len(a) >= 8 && len(b) >= 8 {
		// float32() keeps the compiler from fusing, which it does on some machines.
		s0 += float32(a[0] * b[0])
		s1 += float32(a[1] * b[1])
		s2 += float32(a[2] * b[2])
		s3 += float32(a[3] * b[3])
		s4 += float32(a[4] * b[4])
		s5 += float32(a[5] * b[5])
		s6 += float32(a[6] * b[6])
		s7 += float32(a[7] * b[7])
		a, b = a[8:], b[8:]
	}
	*s = lanes{s0, s1, s2, s3, s4, s5, s6, s7}
}

// sum adds the lanes up.
func (s *lanes) sum() float32 {
	return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
}

// dotsGeneric returns dots for rows of any dtype: each is widened piece by piece,
// into an array that stays in the L1 cache.
func dotsGeneric(dtype DType) func(y []float32, w []byte, x []float32) {
	return func(y []float32, w []byte, x []float32) {
		var piece [256]float32
		size := dtype.Size()
		for r := range y {
			var s lanes
			for c := 0; c < len(x); c += len(piece) {
				n := min(len(piece), len(x)-c)
				at := (r*len(x) + c) * size
				widen(piece[:n], w[at:at+n*size], dtype)
				s.add(piece[:n], x[c:c+n])
			}
			y[r] = s.sum()
		}
	}
}

func widenGeneric(dtype DType) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) { widen(dst, src, dtype) }
}

// dotsBF16Generic widens each weight where it is multiplied: decode spends its time here on a
// machine without a kernel of its own. Sixteen in a round, since that was 3 % faster than eight.
//
// It takes 1.7 cycles a weight on a Zen 4, which is a fifth to a quarter of what memory delivers.
// To read a table of all 65536 bfloat16 instead, and move none from an integer to a float
// register, took 1.6, and 256 KiB of cache.
func dotsBF16Generic(y []float32, w []byte, x []float32) {
	for r := range y {
		row, b := w[:2*len(x)], x
		w = w[2*len(x):]
		var s0, s1, s2, s3, s4, s5, s6, s7 float32
		for len(row) >= 32 && len(b) >= 16 {
			s0 += float32(bfloat16(row) * b[0])
			s1 += float32(bfloat16(row[2:]) * b[1])
			s2 += float32(bfloat16(row[4:]) * b[2])
			s3 += float32(bfloat16(row[6:]) * b[3])
			s4 += float32(bfloat16(row[8:]) * b[4])
			s5 += float32(bfloat16(row[10:]) * b[5])
			s6 += float32(bfloat16(row[12:]) * b[6])
			s7 += float32(bfloat16(row[14:]) * b[7])
			s0 += float32(bfloat16(row[16:]) * b[8])
			s1 += float32(bfloat16(row[18:]) * b[9])
			s2 += float32(bfloat16(row[20:]) * b[10])
			s3 += float32(bfloat16(row[22:]) * b[11])
			s4 += float32(bfloat16(row[24:]) * b[12])
			s5 += float32(bfloat16(row[26:]) * b[13])
			s6 += float32(bfloat16(row[28:]) * b[14])
			s7 += float32(bfloat16(row[30:]) * b[15])
			row, b = row[32:], b[16:]
		}
		y[r] = (&lanes{s0, s1, s2, s3, s4, s5, s6, s7}).sum()
	}
}

// tileGeneric is a column of tiles of one row and one token.
func tileGeneric(t *tile) {
	for i := range t.count {
		var s lanes
		if !t.first {
			s = lanes(t.sums[i*len(s):])
		}
		s.add(t.w[i*t.wStride:][:t.n], t.x[:t.n])
		if t.last {
			t.y[i] = s.sum()
		} else {
			copy(t.sums[i*len(s):], s[:])
		}
	}
}

// mixGeneric is mix for one token and eight columns: t.x are the weights of t.n
// rows of w, whose first eight numbers are mixed.
func mixGeneric(t *tile) {
	s0, s1, s2, s3, s4, s5, s6, s7 := t.y[0], t.y[1], t.y[2], t.y[3], t.y[4], t.y[5], t.y[6], t.y[7]
	for i, v := range t.x[:t.n] {
		w := t.w[i*t.wStride:][:8]
		s0 += float32(v * w[0])
		s1 += float32(v * w[1])
		s2 += float32(v * w[2])
		s3 += float32(v * w[3])
		s4 += float32(v * w[4])
		s5 += float32(v * w[5])
		s6 += float32(v * w[6])
		s7 += float32(v * w[7])
	}
	copy(t.y, []float32{s0, s1, s2, s3, s4, s5, s6, s7})
}

// exp returns e^x, at most 1.5 units in the last place off (TestExp). It is what
// softmax and SiLU need of a kernel, and math.Exp is float64. With x = n*ln 2 + r,
// n whole and |r| at most ln(2)/2,
//
//	e^x = 2^n * e^r,    e^r = 1 + r + r²/2! + … + r⁷/7!
//
// whose next term is below 2⁻²⁷ of it. For x = 1: n = 1, r = 1 - 0.6931 = 0.3069,
// e^r = 1.3591, and twice that is e. The assembly does the same, eight numbers at a
// time, with fused products and sums.
//
// ln 2 is taken off in two parts. n times the first, which has nine bits, is exact,
// and so is its difference from x; n*ln 2 in one product would be rounded where r is
// small beside x, and r is what everything after it depends on.
func exp(x float32) float32 {
	if x != x {
		return x
	}
	x = min(max(x, expLow), expHigh) // so that powerOf2 of half of n exists
	n := float32(math.RoundToEven(float64(float32(x * log2e))))
	r := x - float32(n*ln2High) // exact: ln2High has nine bits, n has eight
	r -= float32(n * ln2Low)
	p := float32(1.0 / 5040)
	for _, c := range [...]float32{1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1, 1} {
		p = float32(p*r) + c
	}
	// In two steps, since 2^n alone may overflow or underflow where e^x does not.
	half := int32(n) >> 1
	return p * powerOf2(half) * powerOf2(int32(n)-half)
}

// powerOf2 returns 2^n for -126 <= n <= 127: a float32 is a sign bit, eight bits
// of exponent, n+127, and 23 bits of fraction.
func powerOf2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

const (
	expLow  = -105 // e^x is 0 from here down
	expHigh = 89   // and +Inf from here up
	log2e   = math.Log2E
	ln2High = 355.0 / 512
	ln2Low  = math.Ln2 - ln2High
)

// expTable holds the constants of exp for assembly, eight times each.
var expTable = func() (table [12][8]float32) {
	for i, c := range [...]float32{expLow, expHigh, log2e, ln2High, ln2Low, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1} {
		for j := range table[i] {
			table[i][j] = c
		}
	}
	return table
}()

// siluGeneric sets y[i] = x[i] / (1 + e^-x[i]).
func siluGeneric(y, x []float32) {
	for i, v := range x {
		y[i] = v / (1 + exp(-v))
	}
}

// softmaxGeneric is softmax of attention.go. The sum has lanes, as a dot product.
func softmaxGeneric(x []float32) {
	largest := x[0] // not 0: scores may all be negative
	for _, v := range x {
		largest = max(largest, v)
	}
	var s lanes
	for i, v := range x {
		x[i] = exp(v - largest)
		s[i%8] += x[i]
	}
	sum := s.sum()
	for i := range x {
		x[i] /= sum
	}
}
