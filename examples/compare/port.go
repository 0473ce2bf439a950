// Package port stands for somebody's own port of Qwen: a few steps of the network,
// written anew, perhaps for another machine. Its test shows how to hold such code
// against a recording with qwen.Compare, and to be told which mistake it is.
package port

import "math"

// rmsNorm is x / sqrt(mean(x²) + eps) * weight for each row of len(weight) numbers.
func rmsNorm(x, weight []float32, eps float64) []float32 {
	y := make([]float32, len(x))
	for at := 0; at < len(x); at += len(weight) {
		squares := 0.0
		for i := range weight {
			squares += float64(x[at+i]) * float64(x[at+i])
		}
		scale := float32(1 / math.Sqrt(squares/float64(len(weight))+eps))
		for i, w := range weight {
			y[at+i] = x[at+i] * scale * w
		}
	}
	return y
}

// rotate turns every head of x, [seq, heads, headDim], to its token's position.
// Number i of a head is turned with number pair(i).
func rotate(x []float32, heads, headDim int, theta float64, pair func(i int) (first, second int)) []float32 {
	y := make([]float32, len(x))
	for at := 0; at < len(x); at += headDim {
		pos := at / (heads * headDim)
		for i := range headDim / 2 {
			sin, cos := math.Sincos(float64(pos) * math.Pow(theta, -2*float64(i)/float64(headDim)))
			a, b := pair(i)
			y[at+a] = float32(float64(x[at+a])*cos - float64(x[at+b])*sin)
			y[at+b] = float32(float64(x[at+b])*cos + float64(x[at+a])*sin)
		}
	}
	return y
}

// gate is activation(gate) * up, the middle of the FFN.
func gate(gate, up []float32, activation func(x float64) float64) []float32 {
	y := make([]float32, len(gate))
	for i := range y {
		y[i] = float32(activation(float64(gate[i])) * float64(up[i]))
	}
	return y
}
