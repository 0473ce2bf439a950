package qwen

// The known mistakes. Each line of the table is one way in which ports have gone
// wrong: where it can be made, and the step as it then comes out. Some have a
// constant, which is fitted to what the reference holds.
//
//	right     {"q_rope",             turn(q, halves(frequencies))}
//	mistake   {"rope-interleaved", … turn(q, neighbours(frequencies))}
//
// A new one is a new line; DEBUGGING.md lists those that cannot be told apart.
//
// Next: report.go

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A mistake is a way to get a step wrong.
type mistake struct {
	cause string
	// at lists where the mistake can be made: groups of steps that get it wrong
	// together, and, if there is a +, each step before and behind it alone.
	//
	//	"a b|c"    a and b together; c
	//	"a b+"     a and b together; a; b
	//	"a b+c"    a and b together; a; b; c
	at  string
	run func(c *call) []float64 // the step gone wrong; nil if it cannot go wrong like this here
	// tries are the constants c.value to run with. They are improved if fit says so:
	// then they need only be near enough.
	tries func(c *call) []float64
	fit   fitting
	// says describes it; a verb in it takes the constant, or what names says of it.
	says  string
	names func(c *call) string
}

// A fitting is what a mistake's constant is, and how one that was tried is improved.
type fitting int

const (
	asTried  fitting = iota // it only numbers the ways to make the mistake; not reported
	asCount                 // a whole number, such as a window: right as it was tried, or wrong
	byFactor                // above 0 and of any size, such as theta: improved by steps of its logarithm
	byStep                  // may be 0 or below, such as eps or a shift: improved by steps of itself
)

const (
	allNorms   = "input_layernorm post_attention_layernorm q_norm k_norm norm|input_layernorm post_attention_layernorm norm|input_layernorm post_attention_layernorm|q_norm k_norm+"
	allRopes   = "q_rope k_rope|k_rope|q_rope"
	allWeights = "input_layernorm q_proj k_proj v_proj q_norm k_norm o_proj post_attention_layernorm gate_proj up_proj down_proj"
	allQKV     = "q_proj k_proj v_proj|q_proj k_proj|k_proj v_proj+"
)

// mistakes are the known ones. Where several explain a recording equally well,
// the first in this list is named: the simpler before the stranger.
var mistakes = []mistake{
	{cause: "embed-scaled", at: "embed_tokens", says: "the embedding is multiplied by %.6g", fit: byFactor,
		tries: constants(1),
		run:   func(c *call) []float64 { return c.scaled(c.value()) }},
	{cause: "embed-wrong-row", at: "embed_tokens", says: "each token reads the row of id%+g", fit: asCount,
		tries: constants(1, -1, 2, -2),
		run:   func(c *call) []float64 { return c.rows(func(t int) int { return c.ids[t] + int(c.value()) }) }},
	{cause: "embed-wrong-row", at: "embed_tokens", says: "the rows that are read belong to other ids: %s",
		run:   func(c *call) []float64 { return c.rowsOf(c.rowsFound()) },
		names: func(c *call) string { return c.rowsText(c.rowsFound()) }},

	{cause: "norm-missing", at: "input_layernorm post_attention_layernorm+", says: "the RMSNorm is left out",
		run: func(c *call) []float64 { return c.normed() }},
	{cause: "final-norm-missing", at: "norm", says: "the final RMSNorm is left out",
		run: func(c *call) []float64 { return c.normed() }},
	{cause: "qk-norm-missing", at: "q_norm k_norm+", says: "the q/k norm is left out",
		run: func(c *call) []float64 { return c.normed() }},
	{cause: "norm-weight-missing", at: allNorms, says: "the norm's weight is not applied",
		run: func(c *call) []float64 { return c.rms(c.normed(), ones(len(c.vector())), c.eps(), false) }},
	{cause: "norm-weight-plus-one", at: allNorms, says: "the norm multiplies by 1+weight",
		run: func(c *call) []float64 { return c.rms(c.normed(), plusOne(c.vector()), c.eps(), false) }},
	{cause: "norm-mean-subtracted", at: allNorms, says: "the mean is subtracted first, as in LayerNorm",
		run: func(c *call) []float64 { return c.rms(c.normed(), c.vector(), c.eps(), true) }},
	{cause: "qk-norm-swapped", at: "q_norm k_norm", says: "q's norm has k's weight and k's has q's",
		run: func(c *call) []float64 { return c.rms(c.normed(), wide(c.m.norm(c.otherSide())), c.eps(), false) }},
	{cause: "qk-norm-whole-width", at: "q_norm k_norm+", says: "the q/k norm runs over all heads at once",
		run: func(c *call) []float64 { return c.wholeWidth() }},
	{cause: "qk-norm-after-rope", at: "q_norm k_norm q_rope k_rope|q_norm q_rope|k_norm k_rope", says: "the q/k norm is applied after the rotation",
		run: func(c *call) []float64 { return c.normAfterRope() }},
	{cause: "norm-eps", at: allNorms, says: "eps is %.3g", fit: byStep,
		tries: constants(0),
		run:   func(c *call) []float64 { return c.rms(c.normed(), c.vector(), max(c.value(), 0), false) }},
	{cause: "norm-wrong-weight", at: "input_layernorm post_attention_layernorm|q_norm k_norm|norm+", says: "the norm has the weight of %s",
		tries: func(c *call) []float64 { return count(len(c.otherNorms())) },
		run:   func(c *call) []float64 { return c.rms(c.normed(), wide(c.m.norm(c.otherNorm())), c.eps(), false) },
		names: func(c *call) string { return c.otherNorm().name() }},

	{cause: "bias-missing", at: allQKV + "|o_proj", says: "the bias is not added",
		run: func(c *call) []float64 { return c.withoutBias() }},
	{cause: "input-not-normed", at: "q_proj k_proj v_proj|q_proj k_proj|k_proj v_proj|q_proj v_proj|gate_proj up_proj|lm_head+", says: "the projection reads the residual stream, not its norm",
		run: func(c *call) []float64 { return c.project(c.unnormed()) }},
	{cause: "weight-transposed", at: "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj|q_proj k_proj v_proj|gate_proj up_proj down_proj|gate_proj up_proj+o_proj lm_head", says: "the weight is read as if it were transposed",
		tries: count01, run: func(c *call) []float64 { return c.transposed() }},
	{cause: "gate-up-swapped", at: "act_fn gated", says: "the activation is taken of up, and not of gate",
		run: func(c *call) []float64 {
			if c.op == "act_fn" {
				return c.each(c.get("up_proj"), silu)
			}
			return c.times(c.get("act_fn"), c.get("gate_proj"))
		}},
	{cause: "wrong-weight", at: "k_proj v_proj|gate_proj up_proj+q_proj o_proj down_proj", says: "the weight is that of %s",
		tries: func(c *call) []float64 { return count(2 * len(c.otherLinears())) },
		run:   func(c *call) []float64 { return c.otherWeight() },
		names: func(c *call) string { return c.otherLinear().name() }},

	{cause: "wrong-weight", at: allWeights, says: "the weights are those of layer %s",
		tries: func(c *call) []float64 { return count(2 * c.m.Config.Layers) },
		run:   func(c *call) []float64 { return c.otherLayer() },
		names: func(c *call) string { return strconv.Itoa(int(c.value()) / 2) }},

	{cause: "rope-missing", at: allRopes, says: "nothing is rotated",
		run: func(c *call) []float64 { return slices.Clone(c.get(c.unturned())) }},
	{cause: "rope-interleaved", at: allRopes, says: "numbers 2i and 2i+1 form a pair, and not i and i+headDim/2", tries: constants(0, 1, 2),
		run: func(c *call) []float64 { return c.rotated(c.neighbours(c.frequencies(), int(c.value()))) }},
	{cause: "rope-reversed", at: allRopes, says: "the angle is negated",
		run: func(c *call) []float64 { return c.rotated(reversed(c.halves(c.frequencies()))) }},
	{cause: "rope-twice", at: allRopes, says: "the rotation is applied twice",
		run: func(c *call) []float64 { return c.turn(c.right(), c.halves(c.frequencies()), 0) }},
	{cause: "rope-partial", at: allRopes, says: "only a part of each head is rotated", tries: constants(0, 1, 2, 3),
		run: func(c *call) []float64 { return c.rotated(c.partial(int(c.value()))) }},
	{cause: "rope-position-offset", at: allRopes, says: "positions are shifted by %+g", fit: byStep,
		tries: func(c *call) []float64 { return c.shifts() },
		run:   func(c *call) []float64 { return c.turn(c.get(c.unturned()), c.halves(c.frequencies()), c.value()) }},
	{cause: "rope-scaling", at: allRopes, says: "the rope scaling of the config is left out",
		run: func(c *call) []float64 { return c.unscaled() }},
	{cause: "rope-scaling", at: allRopes, says: "YaRN's attention factor is left out",
		run: func(c *call) []float64 { return c.withoutFactor() }},
	{cause: "rope-theta", at: allRopes, says: "theta is %.6g", fit: byFactor,
		tries: grid(10, 1e9, 1.6), // models have 1e4 to 1e8; 1.6 apart, every theta has a neighbour from which steps find it
		run:   func(c *call) []float64 { return c.rotated(c.halves(c.withTheta(c.value()))) }},
	{cause: "rope-dim", at: allRopes, says: "the frequencies are made for heads of %.6g", fit: asCount,
		tries: func(c *call) []float64 { return c.widths() },
		run:   func(c *call) []float64 { return c.rotated(c.halves(c.forWidth(c.value()))) }},
	{cause: "rope-scaling", at: allRopes, says: "every frequency is divided by %.6g", fit: byFactor,
		tries: grid(0.1, 50, 1.3), // contexts are extended by 2 to 32, and a port may take 1/factor for it
		run:   func(c *call) []float64 { return c.rotated(c.halves(c.divided(c.value()))) }},

	{cause: "scale-missing", at: "probs", says: "the scores are not divided by sqrt(headDim)",
		run: func(c *call) []float64 { return c.scores(1, causal, c.group) }},
	{cause: "mask-missing", at: "probs", says: "no causal mask: every token sees every other",
		run: func(c *call) []float64 { return c.scores(c.scale(), func(t, s int) bool { return true }, c.group) }},
	{cause: "mask-off-by-one", at: "probs", says: "each token sees one token ahead",
		run: func(c *call) []float64 { return c.scores(c.scale(), func(t, s int) bool { return s <= t+1 }, c.group) }},
	{cause: "sliding-window", at: "probs", says: "each token sees only a window of %g tokens, itself among them", fit: asCount,
		tries: func(c *call) []float64 { return count(len(c.ids))[1:] },
		run: func(c *call) []float64 {
			return c.scores(c.scale(), func(t, s int) bool { return s <= t && t-s < int(c.value()) }, c.group)
		}},
	{cause: "gqa-order", at: "probs context+", says: "query head h reads key/value head h mod kvHeads",
		run: func(c *call) []float64 { return c.heads(func(h int) int { return h % c.m.Config.KVHeads }) }},
	{cause: "scale-wrong", at: "probs", says: "the scores are multiplied by %.6g", fit: byFactor,
		tries: func(c *call) []float64 { return []float64{c.scale()} },
		run:   func(c *call) []float64 { return c.scores(c.value(), causal, c.group) }},
	{cause: "rope-on-values", at: "context", says: "the values are rotated too",
		run: func(c *call) []float64 {
			return c.mix(c.get("probs"), c.turn(c.get("v_proj"), c.halves(c.frequencies()), 0), c.group)
		}},
	{cause: "context-layout", at: "context", says: "heads and headDim are exchanged before o_proj", tries: count01,
		run: func(c *call) []float64 { return c.exchanged(int(c.value())) }},

	{cause: "residual-missing", at: "attn_residual output+", says: "the residual stream is not added",
		run: func(c *call) []float64 { return slices.Clone(c.branch()) }},
	{cause: "residual-wrong-source", at: "attn_residual output+", says: "what is added is the normed input, and not the residual stream",
		run: func(c *call) []float64 { return c.sum(c.branchInput(), c.branch()) }},
	{cause: "residual-wrong-source", at: "output", says: "the FFN is added to the block's input, and not to the stream after attention",
		run: func(c *call) []float64 { return c.sum(c.get("stream"), c.branch()) }},

	{cause: "up-missing", at: "gated", says: "silu(gate) is not multiplied by up",
		run: func(c *call) []float64 { return slices.Clone(c.get("act_fn")) }},
	{cause: "activation", at: "act_fn", says: "the activation is %s",
		tries: func(c *call) []float64 { return count(len(activations)) },
		run:   func(c *call) []float64 { return c.each(c.get("gate_proj"), activations[int(c.value())].f) },
		names: func(c *call) string { return activations[int(c.value())].name }},

	{cause: "hidden-state-after-final-norm", at: "output", says: "what is called the last layer's output was taken after the final norm; the layer itself is right",
		run: func(c *call) []float64 { return c.afterFinalNorm() }},
	{cause: "head-not-tied", at: "lm_head", says: "the output head is %s, and not the one that the config says",
		tries: func(c *call) []float64 { return count(len(c.otherHeads())) },
		run:   func(c *call) []float64 { return c.linear(c.get("norm"), c.otherHeads()[int(c.value())].w, nil) },
		names: func(c *call) string { return shown(c.otherHeads()[int(c.value())].name) }},
	{cause: "logits-scaled", at: "lm_head", says: "the logits are multiplied by %.6g", fit: byFactor,
		tries: constants(1),
		run:   func(c *call) []float64 { return c.scaled(c.value()) }},
}

// mistakeOf returns the first mistake of that cause.
func mistakeOf(cause string) *mistake {
	return &mistakes[slices.IndexFunc(mistakes, func(m mistake) bool { return m.cause == cause })]
}

// activations are what may stand in silu's place.
var activations = []struct {
	name string
	f    func(float64) float64
}{
	{"gelu", func(v float64) float64 { return v / 2 * (1 + math.Erf(v/math.Sqrt2)) }},
	{"gelu-tanh", func(v float64) float64 { return v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))) }},
	{"relu", func(v float64) float64 { return max(v, 0) }},
	{"sigmoid", func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }},
	{"quick-gelu", func(v float64) float64 { return v / (1 + math.Exp(-1.702*v)) }},
	{"tanh", math.Tanh},
	{"the identity", func(v float64) float64 { return v }},
}

// grid returns from, and so on by the factor, up to to.
func grid(from, to, factor float64) func(*call) []float64 {
	return func(*call) (all []float64) {
		for v := from; v < to; v *= factor {
			all = append(all, v)
		}
		return all
	}
}

func constants(v ...float64) func(*call) []float64 {
	return func(*call) []float64 { return v }
}

func count01(*call) []float64 { return []float64{0, 1} }

// count returns 0 … n-1.
func count(n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = float64(i)
	}
	return all
}

func ones(n int) []float64 { return plusOne(make([]float64, n)) }

func plusOne(x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v + 1
	}
	return y
}

// value is the constant of the mistake.
func (c *call) value() float64 { return c.patch.value }

// want is what the reference holds here, nil if that is not what is being judged.
func (c *call) want() []float64 {
	if c.subject == nil || c.subject.place != c.place {
		return nil
	}
	return c.subject.want
}

// scaled is the step done right, times v.
func (c *call) scaled(v float64) []float64 {
	return c.each(c.right(), func(x float64) float64 { return x * v })
}

// rowsFound returns, for each token, the row of the embedding that the reference
// holds, or -1. A row is a copy, or is rounded once; if its bits are cut instead, that is
// two units, and twice that is allowed. No other row comes so close in all its numbers.
func (c *call) rowsFound() []int {
	w := c.m.Embed
	if c.want() == nil {
		return nil
	}
	near := 4 * c.subject.prec.unit
	ids := make([]int, len(c.ids))
	row := make([]float32, w.Cols)
	for t := range ids {
		ids[t] = -1
		want := c.want()[t*w.Cols : (t+1)*w.Cols]
		for id := 0; id < w.Rows && ids[t] < 0; id++ {
			w.rowTo(row, id)
			same := true
			for i, v := range row {
				if d := math.Abs(float64(v) - want[i]); d > near*math.Abs(want[i]) {
					same = false
					break
				}
			}
			if same {
				ids[t] = id
			}
		}
	}
	return ids
}

func (c *call) rowsOf(ids []int) []float64 {
	if ids == nil {
		return nil
	}
	return c.rows(func(t int) int { return ids[t] })
}

// rowsText names the first few tokens whose row is another's.
func (c *call) rowsText(ids []int) string {
	var all []string
	for t, id := range ids {
		if id != c.ids[t] && len(all) < 3 {
			all = append(all, fmt.Sprintf("token %d, id %d, reads row %d", t, c.ids[t], id))
		}
	}
	return strings.Join(all, "; ")
}

// otherSide is k_norm for q_norm, and the other way round.
func (c *call) otherSide() place {
	if c.op == "q_norm" {
		return place{c.layer, "k_norm"}
	}
	return place{c.layer, "q_norm"}
}

// wholeWidth is RMSNorm with one mean for all heads of a token.
func (c *call) wholeWidth() []float64 {
	x, w := c.normed(), c.vector()
	tiled := make([]float64, 0, len(x)/len(c.ids))
	for len(tiled) < len(x)/len(c.ids) {
		tiled = append(tiled, w...)
	}
	return c.rms(x, tiled, c.eps(), false)
}

// normAfterRope gives q_norm and q_rope the order of each other.
func (c *call) normAfterRope() []float64 {
	side := c.op[:1]
	w := wide(c.m.norm(place{c.layer, side + "_norm"}))
	if w == nil || len(w) == 0 {
		return nil
	}
	if _, recorded := c.ref[place{c.layer, side + "_norm"}]; recorded && strings.HasSuffix(c.op, "rope") {
		return c.rms(c.right(), w, c.eps(), false)
	}
	if strings.HasSuffix(c.op, "rope") {
		return slices.Clone(c.get(side + "_norm"))
	}
	return c.rms(c.turn(c.normed(), c.halves(c.frequencies()), 0), w, c.eps(), false)
}

// otherNorms are the places whose norm's weight could be taken for this one's:
// the same layer's first, then the same step of other layers.
func (c *call) otherNorms() (all []place) {
	n := len(c.m.norm(c.place))
	for _, p := range c.m.places() {
		if p.layer == c.layer && p != c.place && len(c.m.norm(p)) == n {
			all = append(all, p)
		}
	}
	for _, p := range c.m.places() {
		if p.layer != c.layer && len(c.m.norm(p)) == n && (c.single() || p.op == c.op) && c.near(p) {
			all = append(all, p)
		}
	}
	return all
}

// single says whether the mistake changes nothing but the target itself, so that
// trying it is cheap.
func (c *call) single() bool { return c.subject == nil || len(c.subject.cone) == 1 }

// near says whether to try another layer's weight: all of them where that is
// cheap, else the neighbours and the first.
func (c *call) near(p place) bool {
	return c.single() || p.layer == c.layer-1 || p.layer == c.layer+1 || p.layer == 0
}

func (c *call) otherNorm() place {
	all := c.otherNorms()
	if i := int(c.value()); i < len(all) {
		return all[i]
	}
	return c.place
}

// otherLinears are the places whose weight has the shape of this one's.
func (c *call) otherLinears() (all []place) {
	w, _, _ := c.m.linear(c.place)
	for _, same := range []bool{true, false} {
		for _, p := range c.m.places() {
			v, _, ok := c.m.linear(p)
			if ok && p != c.place && (p.layer == c.layer) == same && v.Rows == w.Rows && v.Cols == w.Cols && (same || p.op == c.op && c.near(p)) {
				all = append(all, p)
			}
		}
	}
	return all
}

// otherLinear is the place whose weight is taken: two constants for each, the
// first with that place's bias, the second with this one's.
func (c *call) otherLinear() place {
	all := c.otherLinears()
	if i := int(c.value()) / 2; i < len(all) {
		return all[i]
	}
	return c.place
}

func (c *call) otherWeight() []float64 {
	other := c.otherLinear()
	_, own, _ := c.m.linear(c.place)
	w, bias, _ := c.m.linear(other)
	if other == c.place {
		return nil
	}
	if int(c.value())%2 == 1 {
		if own == nil && bias == nil {
			return nil
		}
		bias = own
	}
	return c.linear(c.projected(), w, bias)
}

// otherLayer takes another layer's weights: two constants for each layer, the
// second with its norms' as well.
func (c *call) otherLayer() []float64 {
	other := place{int(c.value()) / 2, c.op}
	if other.layer == c.layer || c.single() {
		return nil
	}
	w, bias, ok := c.m.linear(other)
	if ok {
		return c.linear(c.projected(), w, bias)
	}
	if int(c.value())%2 == 0 {
		return c.right()
	}
	return c.rms(c.normed(), wide(c.m.norm(other)), c.eps(), false)
}

// projected returns what the Linear at this place reads.
func (c *call) projected() []float64 {
	switch c.op {
	case "q_proj", "k_proj", "v_proj":
		return c.get("input_layernorm")
	case "o_proj":
		return c.get("context")
	case "gate_proj", "up_proj":
		return c.get("post_attention_layernorm")
	case "down_proj":
		return c.get("gated")
	}
	return c.get("norm")
}

// unnormed returns what the norm before this Linear reads.
func (c *call) unnormed() []float64 {
	if c.op == "gate_proj" || c.op == "up_proj" {
		return c.get("attn_residual")
	}
	return c.get("stream")
}

func (c *call) withoutBias() []float64 {
	w, bias, _ := c.m.linear(c.place)
	if bias == nil {
		return nil
	}
	return c.linear(c.projected(), w, nil)
}

// transposed reads the weight the wrong way round. For a square one that is its
// transpose; for another, the two ways to make the shape come out.
func (c *call) transposed() []float64 {
	w, bias, _ := c.m.linear(c.place)
	if c.value() == 1 && w.Rows == w.Cols || w.Rows*w.Cols > 1<<26 { // two copies in float32: at most 512 MB
		return nil
	}
	flat := make([]float32, w.Rows*w.Cols)
	widen(flat, w.Data, w.DType)
	turned := make([]float32, len(flat))
	for i := range turned {
		if c.value() == 0 { // the bytes as [in, out], transposed
			turned[i] = flat[i%w.Cols*w.Rows+i/w.Cols]
		} else { // the transpose's bytes as [out, in]
			turned[i] = flat[i%w.Rows*w.Cols+i/w.Rows]
		}
	}
	return c.linear(c.projected(), NewMatrix(turned, w.Rows), bias)
}

// rotated is RoPE with other turns.
func (c *call) rotated(turns []turn) []float64 {
	if turns == nil {
		return nil
	}
	return c.turn(c.get(c.unturned()), turns, 0)
}

// neighbours pairs numbers 2i and 2i+1. way 0 leaves each where it was, way 1
// takes cos and sin by half of the head all the same, way 2 puts the pairs' first
// numbers into one half and the second ones into the other.
func (c *call) neighbours(freq []float32, way int) []turn {
	n := len(freq)
	turns := make([]turn, 2*n)
	for i := range freq {
		a, b := 2*i, 2*i+1
		switch way {
		case 0:
			turns[a], turns[b] = turn{a, b, -1, freq[i]}, turn{b, a, 1, freq[i]}
		case 1:
			turns[a], turns[b] = turn{a, b, -1, freq[a%n]}, turn{b, a, 1, freq[b%n]}
		default:
			turns[i], turns[i+n] = turn{a, b, -1, freq[i]}, turn{b, a, 1, freq[i]}
		}
	}
	return turns
}

func reversed(turns []turn) []turn {
	for i := range turns {
		turns[i].sign = -turns[i].sign
	}
	return turns
}

// partial turns a part of each head: way 0 the first half, as a head of its own;
// way 1 the same with the whole head's first frequencies; way 2 the first half of
// the pairs; way 3 slices the whole head's cos and sin.
func (c *call) partial(way int) []turn {
	d := c.m.Config.HeadDim
	part := d / 2
	freq := c.frequencies()
	switch way {
	case 0, 1:
		part -= part % 2
		if part == 0 {
			return nil
		}
		if way == 0 {
			freq = NewRotary(c.m.Config.RoPE, part).InvFreq
		}
		return c.halves(freq[:part/2])
	case 2:
		turns := c.halves(freq)
		for i := range turns {
			if i%(d/2) >= part/2 {
				turns[i] = turn{i, i, 0, 0}
			}
		}
		return turns
	}
	turns := make([]turn, part) // torch: x[..., :part]*cos[..., :part] + rotate_half(x[..., :part])*sin[..., :part]
	for j := range turns {
		if split := part - part/2; j < split {
			turns[j] = turn{j, j + part/2, -1, freq[j%len(freq)]}
		} else {
			turns[j] = turn{j, j - split, 1, freq[j%len(freq)]}
		}
	}
	return turns
}

// shifts guesses by how much positions are shifted: an off-by-one, a few tokens in front
// (of a template, of a prefix), and what the angles say where the rotated heads are
// recorded. Each pair gives the shift modulo its period; the slowest has the longest,
// and each faster one refines it.
func (c *call) shifts() []float64 {
	all := []float64{1, -1, 2, -2, 3, -3, 4, -4, 8, -8}
	if c.want() == nil {
		return all
	}
	right, freq := c.right(), c.frequencies()
	d, best := c.m.Config.HeadDim, 0.0
	for i := len(freq) - 1; i >= 0; i-- {
		var along, across float64
		for h := 0; h < len(right); h += d {
			a, b := right[h+i], right[h+i+d/2]
			x, y := c.want()[h+i], c.want()[h+i+d/2]
			along, across = along+a*x+b*y, across+a*y-b*x
		}
		angle := math.Atan2(across, along)
		best = (angle + 2*math.Pi*math.Round((best*float64(freq[i])-angle)/(2*math.Pi))) / float64(freq[i])
	}
	return append(all, math.Round(best), best)
}

// unscaled is RoPE by theta alone.
func (c *call) unscaled() []float64 {
	rope := c.m.Config.RoPE
	if rope.Type == "default" {
		return nil
	}
	rope.Type = "default"
	return c.turnScaled(c.get(c.unturned()), c.halves(NewRotary(rope, c.m.Config.HeadDim).InvFreq), 0, 1)
}

func (c *call) withoutFactor() []float64 {
	if c.m.rotary.Scale == 1 {
		return nil
	}
	return c.turnScaled(c.get(c.unturned()), c.halves(c.frequencies()), 0, 1)
}

func (c *call) withTheta(theta float64) []float32 {
	rope := c.m.Config.RoPE
	rope.Theta = theta
	return NewRotary(rope, c.m.Config.HeadDim).InvFreq
}

// widths are the heads' widths that a port may have computed.
func (c *call) widths() []float64 {
	k := c.m.Config
	all := []float64{float64(k.Hidden / k.Heads), float64(k.Hidden), float64(k.Hidden / k.KVHeads), float64(2 * k.HeadDim), float64(k.HeadDim / 2), 64, 128, 256, float64(k.Heads * k.HeadDim), float64(k.KVHeads * k.HeadDim)}
	return slices.DeleteFunc(all, func(v float64) bool { return v == float64(k.HeadDim) })
}

func (c *call) forWidth(width float64) []float32 {
	freq := make([]float32, c.m.Config.HeadDim/2)
	for i := range freq {
		freq[i] = float32(math.Pow(c.m.Config.RoPE.Theta, -2*float64(i)/width))
	}
	return freq
}

func (c *call) divided(by float64) []float32 {
	freq := slices.Clone(c.frequencies())
	for i := range freq {
		freq[i] = float32(float64(freq[i]) / by)
	}
	return freq
}

// scores are the probabilities of the recorded q and k.
func (c *call) scores(scale float64, sees func(t, s int) bool, kvHead func(h int) int) []float64 {
	return c.attend(c.get("q_rope"), c.get("k_rope"), scale, sees, kvHead)
}

// heads is the step with another key/value head for each query head.
func (c *call) heads(kvHead func(h int) int) []float64 {
	if c.op == "probs" {
		return c.scores(c.scale(), causal, kvHead)
	}
	return c.mix(c.get("probs"), c.get("v_proj"), kvHead)
}

// exchanged is the context with its numbers in another order: way 0 exchanges
// heads and headDim, way 1 leaves the tokens of a head together.
func (c *call) exchanged(way int) []float64 {
	x := c.right()
	seq, heads, headDim := len(c.ids), c.m.Config.Heads, c.m.Config.HeadDim
	y := make([]float64, len(x))
	for t := range seq {
		for h := range heads {
			for i := range headDim {
				at := t*heads*headDim + i*heads + h
				if way == 1 {
					at = (h*seq+t)*headDim + i
				}
				y[at] = x[(t*heads+h)*headDim+i]
			}
		}
	}
	return y
}

// branch returns what is added to the stream here, branchInput its normed input.
func (c *call) branch() []float64 {
	if c.op == "attn_residual" {
		return c.get("o_proj")
	}
	return c.get("down_proj")
}

func (c *call) branchInput() []float64 {
	if c.op == "attn_residual" {
		return c.get("input_layernorm")
	}
	return c.get("post_attention_layernorm")
}

// afterFinalNorm is the last layer's output as transformers' output_hidden_states
// has it.
func (c *call) afterFinalNorm() []float64 {
	if c.layer != c.m.Config.Layers-1 || c.want() == nil {
		return nil
	}
	return c.rms(c.right(), wide(c.m.Norm), c.eps(), false)
}

// A namedMatrix is a matrix of the checkpoint.
type namedMatrix struct {
	name string
	w    Matrix
}

// otherHeads are the matrices that could be an output head, but for the right one.
func (c *call) otherHeads() (all []namedMatrix) {
	k := c.m.Config
	for _, t := range c.m.tensors {
		fits := slices.Equal(t.Shape, []int{k.Vocab, k.Hidden}) && (t.DType == F32 || t.DType == F16 || t.DType == BF16)
		// The name does not say which it is: a head that is stored counts, tied or not.
		if fits && &t.Data[0] != &c.m.Head.Data[0] {
			all = append(all, namedMatrix{t.Name, Matrix{t.DType, k.Vocab, k.Hidden, t.Data}})
		}
	}
	return all
}
