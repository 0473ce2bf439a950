package qwen

// Linear is where a transformer spends its time: every projection, the FFN and
// the output head are one matrix times one vector per token.
//
//	y[r] = Σ w[r][c] * x[c] + bias[r]
//
// A weight is stored as [out, in], row-major, so each output is the dot product
// of one row, which lies in one piece in memory, with the input:
//
//	            in
//	      ┌────────────┐   x      y
//	  out │ w[0] ───── │ · │  =  w[0]·x
//	      │ w[1] ───── │   │     w[1]·x
//	      └────────────┘
//
// For example, with two outputs of two inputs (ExampleLinear):
//
//	w = 1 2    x = 5    bias =   0    y = 1*5 + 2*6 +   0 =  17
//	    3 4        6           100        3*5 + 4*6 + 100 = 139
//
// The weights stay as they lie in the file, two bytes a number as a rule, and
// are widened to float32 inside the kernel: decode must read every weight once
// per token, and memory is slower than arithmetic.
//
// On a first reading go on with rope.go when you have seen Linear. What follows it
// in this file makes it fast and changes no result; the kernel that it calls,
// current, is the one for this machine, and kernel.go says what it does.
//
// Numerics: products and sums in float32. n products summed in any order differ
// from the exact sum by at most n·2⁻²⁴·Σ|w[c]x[c]|; that bound, and no fixed
// tolerance, is what the tests use. The order of one dot product depends only on
// its length, never on how many tokens or threads there are: see kernel.go.
//
// Reference: torch.nn.functional.linear.
//
// Next: rope.go

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/x448/float16"
)

// A Matrix is a weight as it lies in the file: Rows outputs of Cols inputs each,
// row-major, little-endian.
type Matrix struct {
	DType      DType // F32, F16 or BF16
	Rows, Cols int
	Data       []byte // Rows*Cols numbers; may be mapped read-only
}

// NewMatrix returns a float32 matrix of the given rows that holds a copy of x.
// Panics if len(x) is not a multiple of rows.
func NewMatrix(x []float32, rows int) Matrix {
	if rows <= 0 || len(x)%rows != 0 {
		panic(fmt.Sprintf("qwen: NewMatrix: len(x) %d is not a multiple of rows %d", len(x), rows))
	}
	data := make([]byte, 0, 4*len(x))
	for _, v := range x {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return Matrix{F32, rows, len(x) / rows, data}
}

// Row returns row r as float32, [Cols]. Panics if there is no such row.
func (w Matrix) Row(r int) []float32 {
	row := make([]float32, w.Cols)
	w.rowTo(row, r)
	return row
}

// rowTo widens row r, which is one piece of Data, into dst, [Cols].
func (w Matrix) rowTo(dst []float32, r int) {
	size := w.Cols * w.DType.Size()
	widen(dst, w.Data[r*size:(r+1)*size], w.DType)
}

// check panics unless w holds what it says and x is made of rows as long as w's.
func (w Matrix) check(x []float32, bias []float32) {
	if w.Rows <= 0 || w.Cols <= 0 || len(w.Data) != w.Rows*w.Cols*w.DType.Size() {
		panic(fmt.Sprintf("qwen: Linear: %d bytes for a %s matrix [%d %d]", len(w.Data), w.DType, w.Rows, w.Cols))
	}
	if len(x)%w.Cols != 0 {
		panic(fmt.Sprintf("qwen: Linear: len(x) %d is not a multiple of in, %d", len(x), w.Cols))
	}
	if bias != nil && len(bias) != w.Rows {
		panic(fmt.Sprintf("qwen: Linear: len(bias) %d, want out, %d", len(bias), w.Rows))
	}
}

// widen sets dst[i] to number i of data. F16 and BF16 fit into float32 exactly:
//
//	F32    sign, 8 bits of exponent, 23 of fraction
//	BF16   sign, 8 bits of exponent,  7 of fraction     the upper half of an F32
//	F16    sign, 5 bits of exponent, 10 of fraction     finer, and 65504 at most
func widen(dst []float32, data []byte, dtype DType) {
	switch dtype {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = float16.Frombits(binary.LittleEndian.Uint16(data[2*i:])).Float32()
		}
	case BF16:
		for i := range dst { // a bfloat16 is the upper half of a float32
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	default:
		panic(fmt.Sprintf("qwen: widen: dtype %s, want F32, F16 or BF16", dtype))
	}
}

// Embed returns row tokens[i] of w for each token: the vectors that the network
// starts from. w is embed_tokens.weight [vocab, hidden], the result [seq, hidden].
//
// Panics if a token is not a row of w: Forward has refused it with an error.
func Embed(tokens []int, w Matrix) []float32 {
	x := make([]float32, len(tokens)*w.Cols)
	for i, id := range tokens {
		if id < 0 || id >= w.Rows {
			panic(fmt.Sprintf("qwen: Embed: token %d, want 0 to %d", id, w.Rows-1))
		}
		w.rowTo(x[i*w.Cols:(i+1)*w.Cols], id)
	}
	return x
}

// Linear returns x·wᵀ + bias: x is [seq, in], w is [out, in], bias is [out] or
// nil, the result is [seq, out].
//
// Panics if the widths do not fit.
func Linear(x []float32, w Matrix, bias []float32) []float32 {
	w.check(x, bias)
	seq := len(x) / w.Cols
	y := floats(seq * w.Rows)      // [seq, out]
	x, width := padRows(x, w.Cols) // [seq, width]
	piece := w.pieceRows(seq, width)
	parallel(w.Rows, piece, func(from, to int) {
		for r := from; r < to; r += piece {
			w.multiply(y, x, width, r, min(r+piece, to))
		}
		if bias != nil {
			for t := range seq {
				add(y[t*w.Rows+from:t*w.Rows+to], bias[from:to])
			}
		}
	})
	return y
}

// pieceRows is how many rows of w are one piece of parallel work for seq tokens.
func (w Matrix) pieceRows(seq, width int) int {
	if seq > 1 {
		return panelRows(width)
	}
	share := w.Rows / (2 * runtime.GOMAXPROCS(0)) // two pieces for each core, if they are short
	return max(dotRows, min(streamRows, share)/dotRows*dotRows)
}

// padRows returns rows of cols numbers filled up with zeros to a multiple of
// rowMultiple, and their new width. Rows that are one are returned as they are.
func padRows(x []float32, cols int) (padded []float32, width int) {
	width = (cols + rowMultiple - 1) / rowMultiple * rowMultiple
	if width == cols {
		return x, width
	}
	padded = make([]float32, len(x)/cols*width)
	for from, to := 0, 0; from < len(x); from, to = from+cols, to+width {
		copy(padded[to:], x[from:from+cols])
	}
	return padded, width
}

// multiply sets y[t][r] to row r times token t of x, for rows from … to-1 and all
// tokens. x is [seq, width], y [seq, out].
//
// There are two ways, which give the same bits. Few tokens, as in decode, are a
// matter of reading the weights: each token's products come straight from the
// file's bytes. Many, as in prefill, are a matter of arithmetic: the rows are
// widened once, and tiles of several rows and tokens use each number that they
// load several times.
//
//	        c →                            c →
//	rows ┌──────────────┐        tokens ┌──────────────┐
//	   r │▒▒▒▒▒▒▒▒▒▒▒▒▒▒│ ┐           t │▒▒▒▒▒▒▒▒▒▒▒▒▒▒│ ┐
//	     │▒▒▒▒▒▒▒▒▒▒▒▒▒▒│ ├ 4 rows      │▒▒▒▒▒▒▒▒▒▒▒▒▒▒│ ├ 3 tokens
//	     │▒▒▒▒▒▒▒▒▒▒▒▒▒▒│ ┘             │▒▒▒▒▒▒▒▒▒▒▒▒▒▒│ ┘
//	     └──────────────┘               └──────────────┘
//	       w, one panel                    x, all tokens
//
// One dot product at a time loads two numbers for each product. A tile of 4 rows
// and 3 tokens loads 7 for 12 products, and keeps its 12 sums in registers.
func (w Matrix) multiply(y, x []float32, width, from, to int) {
	seq := len(x) / width
	if seq == 1 || seq < current.tokens || to-from < current.rows {
		for t := range seq {
			w.dots(y[t*w.Rows+from:t*w.Rows+to], x[t*width:(t+1)*width], from)
		}
		return
	}
	p := panels.Get().(*panel)
	defer panels.Put(p)
	p.widen(w, from, to, width)
	p.multiply(y[from:], w.Rows, x, seq)
}

// dots sets y[i] to row from+i times x. Whole groups of rows are read where they
// lie, mapped from the file. The last rows, if they are fewer than a kernel works
// on, and rows of an odd length go through a copy: the kernel would read behind
// them, and behind the last row of a file there is no memory.
func (w Matrix) dots(y, x []float32, from int) {
	row := w.Cols * w.DType.Size() // bytes
	if n := len(y) &^ (dotRows - 1); n > 0 && w.Cols == len(x) {
		current.dots(y[:n], w.Data[from*row:(from+n)*row], w.DType, x)
		y, from = y[n:], from+n
	}
	if len(y) == 0 {
		return
	}
	width := len(x) * w.DType.Size()
	for padded := make([]byte, dotRows*width); len(y) > 0; from += dotRows {
		n := min(dotRows, len(y))
		for r := range n {
			copy(padded[r*width:], w.Data[(from+r)*row:(from+r+1)*row])
		}
		var sums [dotRows]float32
		current.dots(sums[:], padded, w.DType, x)
		y = y[copy(y, sums[:n]):]
	}
}

// A panel is some rows of a weight as float32. They stay in the processor's L2
// cache while all tokens go by, so that widening them, and fetching them from
// memory, is paid for once per prompt piece and not once per token.
type panel struct {
	w     []float32 // [rows, width]
	width int
	rows  int
	sums  []float32 // of the tiles on their way along the rows, [rows/current.rows][current.tokens*current.rows*8]
	tile  tile
}

// panelSize is how many numbers a panel should hold, at most: 384 KiB, which fits a
// small L2 cache.
const panelSize = 96 << 10

// tileColumns is how many columns a tile goes over: so much of its tokens, 4 KiB
// each, stays in the L1 cache while the panel's rows go by.
const tileColumns = 1024

var panels = sync.Pool{New: func() any { return new(panel) }}

// streamRows is how many rows a core reads in one call of dots, in four streams: with
// rows of 2 KiB, 128 KiB a stream. The longer, the seldomer it begins anew.
const streamRows = 256

// panelRows returns how many rows of the given width make a panel: whole tiles,
// and at least one.
func panelRows(width int) int {
	least := max(dotRows, current.rows)
	return max(least, min(64, panelSize/width)/least*least)
}

// widen fills the panel with rows from … to-1 of w.
func (p *panel) widen(w Matrix, from, to, width int) {
	row := w.Cols * w.DType.Size() // bytes
	p.rows, p.width = to-from, width
	p.w = slices.Grow(p.w[:0], p.rows*width)[:p.rows*width]
	if width == w.Cols {
		current.widen(p.w, w.Data[from*row:to*row], w.DType)
		return
	}
	clear(p.w)
	for r := range p.rows {
		current.widen(p.w[r*width:r*width+w.Cols], w.Data[(from+r)*row:(from+r+1)*row], w.DType)
	}
}

// multiply sets y[t*yStride+r] to the panel's row r times token t of x, tile by
// tile. What is left of tokens or rows when all whole tiles are done is covered
// by a tile that overlaps the one before and computes some products again.
func (p *panel) multiply(y []float32, yStride int, x []float32, seq int) {
	rows, tokens := current.rows, current.tokens
	sums := rows * tokens * len(lanes{}) // of one tile
	whole := p.rows / rows               // tiles that need not overlap
	p.sums = slices.Grow(p.sums[:0], (whole+1)*sums)[:(whole+1)*sums]
	p.tile.yStride, p.tile.wStride, p.tile.xStride = yStride, p.width, p.width
	columns := evenPiece(p.width, tileColumns)
	for t := 0; t < seq; t += tokens {
		token := min(t, seq-tokens)
		for c := 0; c < p.width; c += columns {
			p.tile.n = min(columns, p.width-c)
			p.tile.first, p.tile.last = c == 0, c+columns >= p.width
			p.tile.x = x[token*p.width+c:]
			down := func(row, tile, count int) {
				p.tile.w, p.tile.y = p.w[row*p.width+c:], y[token*yStride+row:]
				p.tile.sums, p.tile.count = p.sums[tile*sums:], count
				current.tile(&p.tile)
			}
			down(0, 0, whole)
			if p.rows%rows > 0 {
				down(p.rows-rows, whole, 1)
			}
		}
	}
}

// evenPiece returns the length of the pieces, multiples of rowMultiple, into which
// n is cut so that none is longer than most: 4864 is five pieces of 976 and not
// four of 1024 and one of 768.
func evenPiece(n, most int) int {
	pieces := (n + most - 1) / most
	return ((n+pieces-1)/pieces + rowMultiple - 1) / rowMultiple * rowMultiple
}

// floats returns n numbers of any value: an array that was recycled, or a new one.
func floats(n int) []float32 {
	if pool, ok := recycled.Load(n); ok {
		if x, ok := pool.(*sync.Pool).Get().(*[]float32); ok {
			return *x
		}
	}
	return make([]float32, n)
}

// recycle gives back results of Linear that nobody will read any more. A new array
// must be cleared, by one core while the others wait: 3 % of prefill were that.
func recycle(arrays ...[]float32) {
	for _, x := range arrays {
		pool, _ := recycled.LoadOrStore(len(x), new(sync.Pool))
		pool.(*sync.Pool).Put(&x)
	}
}

var recycled sync.Map // of *sync.Pool of *[]float32, by length
