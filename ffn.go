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
// With one number everywhere (ExampleSiLU), gate(x) = 2 and up(x) = 3: silu(2) = 2/(1+e^-2) = 1.76,
// and 1.76*3 = 5.28 goes down. With gate(x) = -2 it is -0.24*3 = -0.72: the gate is nearly shut.
//
// Most of a block's weights are here: three fifths in Qwen3-0.6B, seven eighths in
// Qwen2.5-0.5B. Swapping gate and up gives numbers of the same size that are all
// wrong; it is a classic porting bug.
//
// Reference: transformers modeling_qwen3.py, Qwen3MLP.forward. SwiGLU: Shazeer,
// 2020, arXiv 2002.05202.
//
// qwen.go's block puts attention and FFN together.
//
// Next: cache.go

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

	act := applySiLU(gate) // in place, as the product below: these are the largest activations
	see.step("mlp.act_fn", act, w.Gate.Rows)
	gated := product(act, up)
	see.step("mlp.gated", gated, w.Up.Rows)

	down := Linear(gated, w.Down, nil) // [seq, hidden]
	see.step("mlp.down_proj", down, w.Down.Rows)
	recycle(gate, up)
	return down
}

// SiLU returns x * sigmoid(x) = x / (1 + exp(-x)) of each number. It lets large
// numbers through, holds negative ones back, and is smooth in between.
func SiLU(x []float32) []float32 {
	return applySiLU(append([]float32(nil), x...))
}

// applySiLU is SiLU in place. It returns x.
func applySiLU(x []float32) []float32 {
	n := len(x) &^ 7 // kernels work on multiples of 8
	if n > 0 {
		parallel(n, share, func(from, to int) { current.silu(x[from:to], x[from:to]) })
	}
	var rest [8]float32
	copy(rest[:], x[n:])
	current.silu(rest[:], rest[:])
	copy(x[n:], rest[:])
	return x
}

// product multiplies each number of a by that of b, in place, and returns a: what
// the gate lets through of up. Panics if the lengths differ.
func product(a, b []float32) []float32 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("qwen: product: lengths %d and %d", len(a), len(b)))
	}
	parallel(len(a), share, func(from, to int) {
		a, b := a[from:to], b[from:to]
		for i := range a {
			a[i] *= b[i]
		}
	})
	return a
}

// residual is a block's x += y, in place. It returns x, and recycles y.
func residual(x, y []float32) []float32 {
	x = add(x, y)
	recycle(y)
	return x
}

// add adds each number of b to that of a, in place, and returns a. Panics if the
// lengths differ.
func add(a, b []float32) []float32 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("qwen: add: lengths %d and %d", len(a), len(b)))
	}
	parallel(len(a), share, func(from, to int) {
		a, b := a[from:to], b[from:to]
		for i := range a {
			a[i] += b[i]
		}
	})
	return a
}
