package qwen

// FFN is the second half of a block: the part that works on each token alone.
// It widens the token from hidden to intermediate numbers, twice: up carries
// values, gate decides how much of each gets through; then it narrows again.
//
//	FFN(x) = down( silu(gate(x)) * up(x) )          SwiGLU
//	SiLU(x) = x / (1 + exp(-x))
//
//	x [hidden] ──┬── gate ── SiLU ──┐
//	             │                  × ── down ── [hidden]
//	             └── up ────────────┘      (all three between are [intermediate])
//
// Two thirds of a block's weights are here. Swapping gate and up gives numbers
// of the same size that are all wrong; it is a classic porting bug.
//
// Reference: transformers modeling_qwen3.py, Qwen3MLP.forward. SwiGLU: Shazeer,
// 2020, arXiv 2002.05202.
//
// Next: qwen.go, where a block puts attention and FFN together.

import "fmt"

// FFNWeights are the three Linears of a block's FFN, none of which has a bias.
type FFNWeights struct {
	Gate Matrix // mlp.gate_proj.weight [intermediate, hidden]
	Up   Matrix // mlp.up_proj.weight [intermediate, hidden]
	Down Matrix // mlp.down_proj.weight [hidden, intermediate]
}

// FFN returns down(silu(gate(x)) * up(x)), token by token: x is [seq, hidden]
// and so is the result. see, which may be nil, is shown each step by its name.
//
// Panics if the widths do not fit.
func FFN(x []float32, w FFNWeights, see Trace) []float32 {
	gate := Linear(x, w.Gate, nil) // [seq, intermediate]
	see.step("mlp.gate_proj", gate, w.Gate.Rows)
	up := Linear(x, w.Up, nil) // [seq, intermediate]
	see.step("mlp.up_proj", up, w.Up.Rows)

	act := SiLU(gate)
	see.step("mlp.act_fn", act, w.Gate.Rows)
	gated := multiply(act, up)
	see.step("mlp.gated", gated, w.Up.Rows)

	down := Linear(gated, w.Down, nil) // [seq, hidden]
	see.step("mlp.down_proj", down, w.Down.Rows)
	return down
}

// SiLU returns x * sigmoid(x) = x / (1 + exp(-x)) of each number. It lets large
// numbers through, holds negative ones back, and is smooth in between.
func SiLU(x []float32) []float32 {
	y := make([]float32, len(x))
	n := len(x) &^ 7 // kernels work on multiples of 8
	parallel(n/8, 1024, func(from, to int) { current.silu(y[8*from:8*to], x[8*from:8*to]) })
	var rest, out [8]float32
	copy(rest[:], x[n:])
	current.silu(out[:], rest[:])
	copy(y[n:], out[:])
	return y
}

// multiply returns a*b, number by number. Panics if the lengths differ.
func multiply(a, b []float32) []float32 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("qwen: multiply: lengths %d and %d", len(a), len(b)))
	}
	y := make([]float32, len(a))
	for i := range a {
		y[i] = a[i] * b[i]
	}
	return y
}

// add returns a+b, number by number: the residual sum of a block. Panics if the
// lengths differ.
func add(a, b []float32) []float32 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("qwen: add: lengths %d and %d", len(a), len(b)))
	}
	y := make([]float32, len(a))
	for i := range a {
		y[i] = a[i] + b[i]
	}
	return y
}
