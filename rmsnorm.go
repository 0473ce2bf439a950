package qwen

// RMSNorm keeps the numbers that flow through the network at a size that the
// next Linear was trained for. Every block uses it twice (before attention and
// before the FFN), the model once more before the output head, and Qwen3 also
// on each query and key head.
//
//	y[i] = x[i] / sqrt(mean(x²) + eps) * weight[i]
//
// LayerNorm would subtract the mean first and add a bias afterwards; RMSNorm
// does neither. A row of n numbers is scaled to length sqrt(n), and weight says how
// much of each channel, the i-th numbers of all rows, to keep. eps matters only for
// rows that are nearly zero.
//
// For example (ExampleRMSNorm), with eps 0:
//
//	x          1    3    5     1      mean(x²) = (1+9+25+1)/4 = 9
//	x / 3      .33  1    1.67  .33    of mean square 1
//	weight     2    1    1     0
//	y          .67  1    1.67  0
//
// No row depends on another, so the cores divide them: parallel(rows, size, f) calls f
// with ranges of size rows until all have had their turn. share is how many numbers make
// a range worth a core's while, so it has share/n rows. Until parallel.go, read the call
// as a loop over every row.
//
// Numerics: the squares are summed in float64 (sumSquares, kernel.go), so that the order
// of the sum does not show in the result. Then scale is rounded to float32, and so is
// each product, in the order of the reference: first x*scale, then *weight.
//
// Reference: transformers models/qwen3/modeling_qwen3.py, Qwen3RMSNorm.forward.
//
// Next: linear.go

import (
	"fmt"
	"math"
)

// RMSNorm returns x / sqrt(mean(x²)+eps) * weight, row by row.
//
// A row has len(weight) numbers: x is [rows, n], weight is [n], the result is
// [rows, n]. With weight of [headDim] and x of [seq, heads*headDim] every head
// is a row of its own: that is Qwen3's q_norm and k_norm.
//
// Panics if weight is empty or len(x) is not a multiple of len(weight).
func RMSNorm(x, weight []float32, eps float32) []float32 {
	n := len(weight)
	if n == 0 || len(x)%n != 0 {
		panic(fmt.Sprintf("qwen: RMSNorm: len(x) %d is not a multiple of len(weight) %d", len(x), n))
	}
	y := floats(len(x)) // [rows, n]
	parallel(len(x)/n, max(1, share/n), func(from, to int) {
		for r := from; r < to; r++ {
			row, out := x[r*n:(r+1)*n], y[r*n:(r+1)*n]
			scale := rmsScale(row, eps)
			for i, v := range row {
				// torch: weight * (x * torch.rsqrt(variance + eps))
				out[i] = v * scale * weight[i]
			}
		}
	})
	return y
}

// rmsScale returns 1 / sqrt(mean(row²) + eps).
func rmsScale(row []float32, eps float32) float32 {
	mean := sumSquares(row) / float64(len(row))
	return float32(1 / math.Sqrt(mean+float64(eps)))
}
