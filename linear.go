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
// The weights stay as they lie in the file, two bytes a number as a rule, and
// are widened to float32 inside the kernel: decode must read every weight once
// per token, and memory is slower than arithmetic.
//
// Numerics: products and sums in float32. n products summed in any order differ
// from the exact sum by at most n·2⁻²⁴·Σ|w[c]x[c]|; that bound, and no fixed
// tolerance, is what the tests use. The order of one dot product depends only on
// its length: never on how many tokens or threads there are.
//
// Reference: torch.nn.functional.linear.
//
// Next: rope.go

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

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

// Row returns row r as float32, [Cols].
func (w Matrix) Row(r int) []float32 {
	row := make([]float32, w.Cols)
	w.rowTo(row, r)
	return row
}

// rowTo widens row r into dst.
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

// widen sets dst[i] to number i of data. F16 and BF16 fit into float32 exactly.
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
	y := make([]float32, seq*w.Rows)
	parallel(w.Rows, 16, func(from, to int) {
		row := make([]float32, w.Cols)
		for r := from; r < to; r++ {
			w.rowTo(row, r)
			for t := range seq {
				sum := dot(row, x[t*w.Cols:(t+1)*w.Cols])
				if bias != nil {
					sum += bias[r]
				}
				y[t*w.Rows+r] = sum
			}
		}
	})
	return y
}

// dot returns Σ a[i]*b[i]. Panics if b is shorter than a.
func dot(a, b []float32) float32 { return dotGeneric(a, b) }

// dotGeneric is dot in plain Go, with four sums so that one addition need not
// wait for the last.
func dotGeneric(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float32(a[i] * b[i])
		s1 += float32(a[i+1] * b[i+1])
		s2 += float32(a[i+2] * b[i+2])
		s3 += float32(a[i+3] * b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float32(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

// parallel calls work on pieces of 0 … n-1 that together are the whole, from as
// many goroutines as Go may run at once. No piece but the last has fewer than
// least elements. It is the only place where the forward pass starts goroutines.
// A panic in one of them is the caller's.
func parallel(n, least int, work func(from, to int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+least-1)/least)
	if workers <= 1 {
		work(0, n)
		return
	}
	piece := max(least, (n+4*workers-1)/(4*workers)) // four pieces each: nobody waits long for the slowest
	var next atomic.Int64
	take := func() {
		for {
			to := int(next.Add(int64(piece)))
			if from := to - piece; from < n {
				work(from, min(to, n))
			} else {
				return
			}
		}
	}
	var all sync.WaitGroup
	var panicked atomic.Pointer[any] // in another goroutine: it goes on in this one, where it can be caught
	for range workers - 1 {
		all.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					panicked.Store(&r)
				}
			}()
			debug.SetPanicOnFault(true) // see catchFault
			take()
		})
	}
	func() {
		defer all.Wait()
		take()
	}()
	if r := panicked.Load(); r != nil {
		panic(*r)
	}
}
