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
		for i := range dst {
			dst[i] = bfloat16(data[2*i:])
		}
	default:
		panic(fmt.Sprintf("qwen: widen: dtype %s, want F32, F16 or BF16", dtype))
	}
}

// bfloat16 returns the first number of data: a bfloat16 is the upper half of a float32.
func bfloat16(data []byte) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(data)) << 16)
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
// nil, the result is [seq, out]. That is
//
//	y[t][r] = Σ w[r][c] * x[t][c] + bias[r]
//
// Panics if the widths do not fit.
func Linear(x []float32, w Matrix, bias []float32) []float32 {
	w.check(x, bias)
	seq := len(x) / w.Cols
	y := floats(seq * w.Rows)      // [seq, out]
	x, width := padRows(x, w.Cols) // [seq, width]
	rows := w.pieceRows(seq)
	parallel(w.Rows, rows, func(from, to int) { // one piece, or all if this goroutine works alone
		for r := from; r < to; r += rows {
			w.multiply(y, x, width, r, min(r+rows, to))
		}
		if bias != nil {
			for t := range seq {
				row := y[t*w.Rows : (t+1)*w.Rows]
				for r := from; r < to; r++ { // not add, whose parallel work would cost an allocation for each token
					row[r] += bias[r]
				}
			}
		}
	})
	return y
}

// pieceRows is how many rows one worker takes at a time: whole tiles, and whole
// groups of dotRows.
func (w Matrix) pieceRows(seq int) int {
	if seq > 1 {
		return panelRows
	}
	half := w.Rows / (2 * runtime.GOMAXPROCS(0)) // of a core's share: something is left for whoever is done first
	return max(dotRows, min(streamRows, half)/dotRows*dotRows)
}

// streamRows is how many rows dots reads in one call, at most. A kernel reads several
// streams at once, such as a quarter of the rows each, and the processor fetches a
// stream ahead of time once it has recognised it: 64 rows of 896 in bf16, 28 KiB a
// stream, took 10 to 25 % longer than 256.
const streamRows = 256

// padRows returns rows of cols numbers filled up with zeros to a multiple of
// rowMultiple, and their new width. Rows of such a width are returned as they are.
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
	columns := pieceColumns(width)
	for c := 0; c < width; c += columns {
		p.widen(w, from, to, c, min(columns, width-c))
		next, at := from, c+columns // the panel after this one: beside it, or the first one below
		if at >= width {
			next, at = to, 0
		}
		p.tile.first, p.tile.last = c == 0, c+columns >= width
		p.multiply(y[from:], w.Rows, x[c:], width, func(i int) { w.prefetch(next+i, at, columns) })
	}
}

// dots sets y[i] to row from+i times x. Whole groups of rows are read where they
// lie, mapped from the file. The last rows, if they are fewer than a kernel works
// on, and rows of a length that it does not take go through a copy: it would read past
// them, and past the last row of a file there is no memory.
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

// A panel is a piece of a weight as float32. It stays in the processor's L2 cache
// while all tokens go by, so that widening it, and fetching it from memory, is paid
// for once per prompt piece and not once per token. Rows that are longer than a panel
// take several, from left to right, and the lanes of every sum wait in between.
//
//	        pieceColumns
//	      ┌──────┬──────┬──────┐
//	from  │  1   │  2   │  3   │  panelRows
//	      ├──────┼──────┼──────┤
//	 to   │  4   │  5   │  6   │
type panel struct {
	w                     []float32 // [rows, columns], a row every stride numbers
	rows, columns, stride int
	sums                  []float32 // of every tile, where a row takes several panels: [tokens/…][rows/…][tokens*rows*8]
	tile                  tile
}

// The largest panel is 256 KiB, half of an L2 cache of 512 KiB: tokens go by in the other
// half. Of its columns, 4 rows and 3 tokens are 28 KiB, which an L1 cache of 32 KiB holds.
// Rows that do not fit into one are cut shorter than they would have to be: with the lanes
// that wait, 768 columns took 1 to 3 % less time than 1024.
const panelRows, panelColumns, cutColumns = 64, 1024, 768

var panels = sync.Pool{New: func() any { return new(panel) }}

// widen fills the panel with n columns, from c on, of rows from … to-1 of w. What lies
// past the columns that w has is 0.
//
// The panel's own rows lie a little more than n apart. Rows that are 4 KiB apart, and
// those of 1024 columns would be, compete for the same places in the L1 cache: such a
// panel took a fifth longer.
func (p *panel) widen(w Matrix, from, to, c, n int) {
	p.rows, p.columns = to-from, n
	p.stride = n + rowMultiple
	p.w = slices.Grow(p.w[:0], p.rows*p.stride)[:p.rows*p.stride]
	size := w.DType.Size()
	for r := range p.rows {
		row, at := p.w[r*p.stride:r*p.stride+n], ((from+r)*w.Cols+c)*size
		have := min(n, w.Cols-c)
		current.widen(row[:have], w.Data[at:at+have*size], w.DType)
		clear(row[have:])
	}
}

// multiply goes over the panel tile by tile; the last panel of a row sets y[t*yStride+r]
// to the row r times token t of x. What is left of tokens or rows when all whole tiles
// are done is covered by a tile that overlaps the one before and computes some products
// again. Meanwhile it asks for what comes next: for rows 0, 1, 2, … of the next panel, one
// for each tile of tokens, and, where x is cut into pieces that lie apart, for those of the next
// tile's tokens, which the processor does not foresee: 1 to 9 % less time for rows of 4864, most
// while the memory was slow. Rows that are not cut follow one another, and it does.
func (p *panel) multiply(y []float32, yStride int, x []float32, xStride int, askFor func(i int)) {
	rows, tokens, seq := current.rows, current.tokens, (len(x)+xStride-1)/xStride
	whole := p.rows / rows               // tiles that need not overlap
	size := rows * tokens * len(lanes{}) // of the sums of a tile
	column := (whole + 1) * size         // of the tiles of as many tokens
	n := (seq + tokens - 1) / tokens * column
	p.sums = slices.Grow(p.sums[:0], n)[:n]
	t := &p.tile
	t.n, t.yStride, t.wStride, t.xStride = p.columns, yStride, p.stride, xStride
	for i := 0; i*tokens < seq; i++ {
		if i < p.rows {
			askFor(i)
		}
		if p.columns < xStride && current.prefetchFloats != nil {
			for next := (i + 1) * tokens; next < min((i+2)*tokens, seq); next++ {
				current.prefetchFloats(x[next*xStride:][:p.columns])
			}
		}
		token := min(i*tokens, seq-tokens)
		t.x, t.w, t.y, t.sums, t.count = x[token*xStride:], p.w, y[token*yStride:], p.sums[i*column:], whole
		current.tile(t)
		if row := p.rows - rows; p.rows%rows > 0 {
			t.w, t.y, t.sums, t.count = p.w[row*p.stride:], t.y[row:], t.sums[whole*size:], 1
			current.tile(t)
		}
	}
}

// prefetch asks for n columns of row r, from c on, which will be wanted soon; it waits
// for nothing and changes nothing.
func (w Matrix) prefetch(r, c, n int) {
	if r < w.Rows && c < w.Cols && current.prefetchBytes != nil {
		size := w.DType.Size()
		at := (r*w.Cols + c) * size
		current.prefetchBytes(w.Data[at : at+min(n, w.Cols-c)*size])
	}
}

// pieceColumns returns the length of the pieces, multiples of rowMultiple, into which a row
// of n numbers is cut: 3000 are four pieces of 752 and not three of 768 and one of 696.
func pieceColumns(n int) int {
	if n <= panelColumns {
		return n
	}
	pieces := (n + cutColumns - 1) / cutColumns
	return ((n+pieces-1)/pieces + rowMultiple - 1) / rowMultiple * rowMultiple
}

// floats returns n numbers of any value: the shortest array that was recycled and is long
// enough, unless it is twice as long, or a new one.
func floats(n int) []float32 {
	recycled.Lock()
	best := -1
	for i, x := range recycled.arrays {
		if n <= len(x) && len(x) < 2*n && (best < 0 || len(x) < len(recycled.arrays[best])) {
			best = i
		}
	}
	if best < 0 {
		recycled.Unlock()
		return make([]float32, n) // takes a while: not behind the lock
	}
	defer recycled.Unlock()
	x := recycled.arrays[best]
	recycled.arrays = slices.Delete(recycled.arrays, best, best+1)
	return x[:n]
}

// recycle gives back arrays of floats that nobody will read any more: Linear, RMSNorm, RoPE and
// attention make them, and their callers know when they are done. A new array is cleared,
// on one core while the others wait, its memory may have to be asked of the system first, and
// as garbage it adds to what the process holds: on a Zen 4, prefill took 7 % longer in
// BenchmarkModel, a quarter in an hour in which the memory was slow, and a few percent in
// the command, which collects garbage earlier.
func recycle(arrays ...[]float32) {
	recycled.Lock()
	defer recycled.Unlock()
	for _, x := range arrays {
		if len(recycled.arrays) == maxRecycled {
			recycled.arrays = slices.Delete(recycled.arrays, 0, 1) // the one that nobody has wanted for longest
		}
		recycled.arrays = append(recycled.arrays, x[:cap(x)])
	}
}

// dropRecycled leaves what waits to the garbage collector: Model.Close, which may be the last.
func dropRecycled() {
	recycled.Lock()
	defer recycled.Unlock()
	recycled.arrays = nil
}

// maxRecycled is how many arrays wait to be used again, at most: those of one forward pass,
// 20 MiB for a piece of a prompt and 0.6 billion weights.
const maxRecycled = 16

// recycled is what waits. It is not a sync.Pool for each length: those have a place for each
// core, where others do not find what is there, and the last piece of a prompt is shorter.
var recycled struct {
	sync.Mutex
	arrays [][]float32
}
