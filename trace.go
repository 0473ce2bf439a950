package qwen

// Trace shows every intermediate of the forward pass to a function, by the name
// that Hugging Face's modules have, so that a run can be held against another
// implementation's, tensor by tensor.
//
//	model.embed_tokens
//	model.layers.0.input_layernorm
//	model.layers.0.self_attn.q_proj
//	…
//	model.layers.0                     the block's output
//	…
//	model.norm
//	lm_head
//
// The forward pass is not written twice for this: it calls see.step after each
// step, and a nil Trace makes that a comparison with nil.
//
// Next: diagnose.go

import (
	"errors"
	"fmt"
	"math"
)

// A Trace is shown each intermediate: its name, its shape, and its numbers, which
// it must neither change nor keep. A nil Trace is shown nothing.
type Trace func(name string, shape []int, x []float32)

// Trace runs tokens like Forward and shows see every intermediate, of all tokens.
func (m *Model) Trace(tokens []int, cache *Cache, see Trace) error {
	_, err := m.forward(tokens, cache, see)
	return err
}

// step shows x, whose shape is [seq, dims...].
func (see Trace) step(name string, x []float32, dims ...int) {
	if see == nil {
		return
	}
	n := 1
	for _, d := range dims {
		n *= d
	}
	see(name, append([]int{len(x) / n}, dims...), x)
}

// probs shows attention's probabilities, [heads, seq, past+seq].
func (see Trace) probs(x []float32, heads, seq, total int) {
	if see != nil {
		see("self_attn.probs", []int{heads, seq, total}, x)
	}
}

// layer returns a Trace that puts the name of layer i before each name. An empty
// name becomes the layer's own, that of its output.
func (see Trace) layer(i int) Trace {
	if see == nil {
		return nil
	}
	prefix := fmt.Sprintf("model.layers.%d", i)
	return func(name string, shape []int, x []float32) {
		if name != "" {
			name = "." + name
		}
		see(prefix+name, shape, x)
	}
}

// ErrNotFinite says that the network computed NaN or Inf.
var ErrNotFinite = errors.New("qwen: not finite")

// checkFinite returns an error that names the first weight that is not finite if
// a logit is not: text made of such numbers is garbage.
func (m *Model) checkFinite(logits []float32) error {
	for _, v := range logits {
		if !finite(v) {
			return m.blame()
		}
	}
	return nil
}

// finite says whether v is a number: neither NaN nor an infinity.
func finite(v float32) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }

// blame looks for the first weight, in the order of the forward pass, that is
// not finite.
func (m *Model) blame() error {
	for _, t := range m.tensors[:m.used] {
		x, err := t.Float32()
		if err != nil {
			continue // not a weight that the network uses
		}
		for i, v := range x {
			if !finite(v) {
				return fmt.Errorf("%w: weight %s: found %v at element %d, expected a finite number", ErrNotFinite, t.Name, v, i)
			}
		}
	}
	return fmt.Errorf("%w: the logits, although every weight is finite: the activations overflowed", ErrNotFinite)
}
