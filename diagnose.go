package qwen

// Where does another implementation go wrong, and how?
//
// A difference at the end of a network says little: it is the first step that
// went wrong, and all that followed from it. So every recorded intermediate is
// judged alone: the step that makes it is run on the REFERENCE's inputs, and its
// output is held against the reference's. What is left is the step's own error;
// errors that it was handed do not count.
//
//	reference   x ──────────► q_proj ──────────► q_rope ──────────► probs
//	                │ Linear ▲          │ RoPE  ▲          │ softmax ▲
//	                └────────┘          └───────┘          └─────────┘
//	                own error 2e-7      own error 0.8      own error 1e-7
//
// Then the step is run again with each known mistake made on purpose. The one
// whose output is the reference's, to rounding, is the cause. A constant in it
// (theta, eps, a factor) is solved from the numbers first.
//
// Inputs that the reference did not record are computed from what it did: the
// steps between form one step, its cone, and mistakes are tried in each of them.
// A recording of block outputs alone is judged block by block like this.
//
// For this the network is written here a second time, step by step and as plain
// as it can be, in float64: the fast path's roundings do not count as errors of
// the reference, and the tests hold the fast path against it.
//
// The words for it:
//
//	place      where an intermediate arises: q_rope of layer 3
//	step       how it is made of others; a call is one step being run at one place
//	patch      a mistake made in some steps, of one layer or of all, with its constant
//	trial      calls that share a rounding and a patch, or have none
//	subject    a tensor of the reference to be judged; its cone is the steps that made it
//	yardstick  how far rounding alone may lead
//
// Numerics: how much an honest engine may be off is not guessed but tried. Each
// step is also run with every result rounded to float32 and every sum added up
// in order; the distance of that from float64 is the yardstick (see noise).
//
// Next: mistakes.go

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/x448/float16"
)

// A place is where an intermediate arises: step op of a layer, by the last part
// of its name. Layer -1 comes before the layers, Config.Layers after them.
type place struct {
	layer int
	op    string
}

// blockOutput is the op of a block's last step; its name is the layer's own.
const blockOutput = "output"

// name is the place's name in a recording.
func (p place) name() string {
	switch p.op {
	case "lm_head":
		return p.op
	case "embed_tokens", "norm":
		return "model." + p.op
	case blockOutput:
		return fmt.Sprintf("model.layers.%d", p.layer)
	}
	return fmt.Sprintf("model.layers.%d.%s%s", p.layer, parent(p.op), p.op)
}

// parent is the module that a step of a block belongs to.
func parent(op string) string {
	switch op {
	case "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "q_rope", "k_rope", "probs", "context", "o_proj":
		return "self_attn."
	case "gate_proj", "up_proj", "act_fn", "gated", "down_proj":
		return "mlp."
	}
	return ""
}

// A step is how one intermediate is made of others.
type step struct {
	op  string
	run func(c *call) []float64
}

// steps is the network, in the order of the data flow. q_norm and k_norm are
// left out where the model has none.
var steps = []step{
	{"embed_tokens", func(c *call) []float64 { return c.rows(func(t int) int { return c.ids[t] }) }},
	{"input_layernorm", func(c *call) []float64 { return c.rms(c.get("stream"), c.vector(), c.eps(), false) }},
	{"q_proj", func(c *call) []float64 { return c.project(c.get("input_layernorm")) }},
	{"k_proj", func(c *call) []float64 { return c.project(c.get("input_layernorm")) }},
	{"v_proj", func(c *call) []float64 { return c.project(c.get("input_layernorm")) }},
	{"q_norm", func(c *call) []float64 { return c.rms(c.get("q_proj"), c.vector(), c.eps(), false) }},
	{"k_norm", func(c *call) []float64 { return c.rms(c.get("k_proj"), c.vector(), c.eps(), false) }},
	{"q_rope", func(c *call) []float64 { return c.turn(c.get(c.unturned()), c.halves(c.frequencies()), 0) }},
	{"k_rope", func(c *call) []float64 { return c.turn(c.get(c.unturned()), c.halves(c.frequencies()), 0) }},
	{"probs", func(c *call) []float64 { return c.attend(c.get("q_rope"), c.get("k_rope"), c.scale(), causal, c.group) }},
	{"context", func(c *call) []float64 { return c.mix(c.get("probs"), c.get("v_proj"), c.group) }},
	{"o_proj", func(c *call) []float64 { return c.project(c.get("context")) }},
	{"attn_residual", func(c *call) []float64 { return c.sum(c.get("stream"), c.get("o_proj")) }},
	{"post_attention_layernorm", func(c *call) []float64 { return c.rms(c.get("attn_residual"), c.vector(), c.eps(), false) }},
	{"gate_proj", func(c *call) []float64 { return c.project(c.get("post_attention_layernorm")) }},
	{"up_proj", func(c *call) []float64 { return c.project(c.get("post_attention_layernorm")) }},
	{"act_fn", func(c *call) []float64 { return c.each(c.get("gate_proj"), silu) }},
	{"gated", func(c *call) []float64 { return c.times(c.get("act_fn"), c.get("up_proj")) }},
	{"down_proj", func(c *call) []float64 { return c.project(c.get("gated")) }},
	{blockOutput, func(c *call) []float64 { return c.sum(c.get("attn_residual"), c.get("down_proj")) }},
	{"norm", func(c *call) []float64 { return c.rms(c.get("stream"), c.vector(), c.eps(), false) }},
	{"lm_head", func(c *call) []float64 { return c.project(c.get("norm")) }},
}

// isStep says whether there is a step of that name.
func isStep(op string) bool {
	for _, s := range steps {
		if s.op == op {
			return true
		}
	}
	return false
}

// The names that a recording may use for a place.
var (
	layerName    = regexp.MustCompile(`^model\.layers\.(\d{1,6})(?:\.(?:self_attn\.|mlp\.)?(\w+))?$`)
	stateName    = regexp.MustCompile(`^hidden_states\.(\d{1,6})$`) // output_hidden_states=True
	foreignName  = regexp.MustCompile(`^(?:(.*)\.)?((?:model\.)?(?:embed_tokens|layers\.\d+.*|norm)|lm_head)$`)
	debuggerName = regexp.MustCompile(`^(.+?)_(outputs|inputs_args_0)$`)             // a module's output, or its input
	debuggerMore = regexp.MustCompile(`_(outputs_|inputs_args_|inputs_kwargs_)\w+$`) // what else it writes: masks, cos and sin, …
)

// placeOf returns where the tensor of that name arises in a network of so many
// layers. Besides the names of Trace it knows hidden_states.N, names with
// something before "model." or without "model.", and those of transformers'
// model debugger, X_outputs and X_inputs_args_0. With two layers:
//
//	model.layers.1.mlp.up_proj               layer 1, up_proj
//	base_model.model.layers.1.mlp.up_proj    the same
//	layers.1.mlp.up_proj_outputs             the same
//	layers.1.self_attn.o_proj_inputs_args_0  layer 1, context: what o_proj reads
//	hidden_states.0                          the embedding
//	hidden_states.1                          layer 0, its output
//	hidden_states.2                          not layer 1's output: after the final norm
func placeOf(name string, layers int) (p place, ok bool) {
	if n := stateName.FindStringSubmatch(name); n != nil {
		switch i, _ := strconv.Atoi(n[1]); {
		case i == 0: // before the first layer
			return place{-1, "embed_tokens"}, true
		case i < layers: // counted from 1, since 0 is the embedding
			return place{i - 1, blockOutput}, true
		default:
			return place{layers, "norm"}, i == layers // taken after the final norm
		}
	}
	input := false
	if n := debuggerName.FindStringSubmatch(name); n != nil {
		name, input = n[1], n[2] != "outputs"
	}
	n := foreignName.FindStringSubmatch(name)
	if n == nil || strings.Contains(n[1], "layers.") { // a layer's own norm is not the final one
		return p, false
	}
	if name = n[2]; name != "lm_head" {
		name = "model." + strings.TrimPrefix(name, "model.")
	}
	switch name {
	case "model.embed_tokens":
		p = place{-1, "embed_tokens"}
	case "model.norm":
		p = place{layers, "norm"}
	case "lm_head":
		p = place{layers, "lm_head"}
	default:
		n := layerName.FindStringSubmatch(name)
		if n == nil {
			return p, false
		}
		p.op = n[2]
		if p.layer, _ = strconv.Atoi(n[1]); p.op == "" {
			p.op = blockOutput
		}
		if p.layer >= layers || p.name() != name || !isStep(p.op) {
			return p, false
		}
	}
	if input {
		return inputOf(p, layers)
	}
	return p, true
}

// inputOf returns where what the module at p reads arises, if it has a name.
func inputOf(p place, layers int) (place, bool) {
	switch p.op {
	case "o_proj":
		return place{p.layer, "context"}, true
	case "post_attention_layernorm":
		return place{p.layer, "attn_residual"}, true
	case "down_proj":
		return place{p.layer, "gated"}, true
	case "norm":
		return place{layers - 1, blockOutput}, true
	case blockOutput:
		return place{p.layer - 1, blockOutput}, p.layer > 0
	}
	return p, false
}

// places returns every place of m, in the order of the data flow.
func (m *Model) places() []place {
	all := []place{{-1, "embed_tokens"}}
	for layer := range m.Config.Layers {
		for _, s := range steps[1 : len(steps)-2] {
			if (s.op != "q_norm" && s.op != "k_norm") || m.Layers[layer].Attention.QNorm != nil {
				all = append(all, place{layer, s.op})
			}
		}
	}
	return append(all, place{m.Config.Layers, "norm"}, place{m.Config.Layers, "lm_head"})
}

// shape is the shape of the intermediate that arises at p.
func (m *Model) shape(p place, seq int) []int {
	c := m.Config
	switch p.op {
	case "q_proj", "context":
		return []int{seq, c.Heads * c.HeadDim}
	case "k_proj", "v_proj":
		return []int{seq, c.KVHeads * c.HeadDim}
	case "q_norm", "q_rope":
		return []int{seq, c.Heads, c.HeadDim}
	case "k_norm", "k_rope":
		return []int{seq, c.KVHeads, c.HeadDim}
	case "probs":
		return []int{c.Heads, seq, seq}
	case "gate_proj", "up_proj", "act_fn", "gated":
		return []int{seq, c.Intermediate}
	case "lm_head":
		return []int{seq, c.Vocab}
	}
	return []int{seq, c.Hidden}
}

// norm returns the weight of the RMSNorm at p, nil if p is something else.
func (m *Model) norm(p place) []float32 {
	if p.op == "norm" {
		return m.Norm
	}
	if p.layer < 0 || p.layer >= len(m.Layers) {
		return nil
	}
	l := m.Layers[p.layer]
	switch p.op {
	case "input_layernorm":
		return l.InputNorm
	case "post_attention_layernorm":
		return l.PostNorm
	case "q_norm":
		return l.Attention.QNorm
	case "k_norm":
		return l.Attention.KNorm
	}
	return nil
}

// linear returns the weights of the Linear at p; ok is false if p is something else.
func (m *Model) linear(p place) (w Matrix, bias []float32, ok bool) {
	switch {
	case p.op == "lm_head":
		return m.Head, nil, true
	case p.layer < 0 || p.layer >= len(m.Layers):
		return Matrix{}, nil, false
	}
	a, f := m.Layers[p.layer].Attention, m.Layers[p.layer].FFN
	switch p.op {
	case "q_proj":
		return a.Q, a.QBias, true
	case "k_proj":
		return a.K, a.KBias, true
	case "v_proj":
		return a.V, a.VBias, true
	case "o_proj":
		return a.O, a.OBias, true
	case "gate_proj":
		return f.Gate, nil, true
	case "up_proj":
		return f.Up, nil, true
	case "down_proj":
		return f.Down, nil, true
	}
	return Matrix{}, nil, false
}

// A precision is how far results are rounded. unit is the largest relative error
// of one rounding. most and mean are how many times the yardstick an error may be, at
// its worst number and as the root of the mean square.
//
// The yardstick is one engine's error, and another adds up in another order, so that its
// errors are others of about the same size: each number's is some normal deviate times the
// yardstick, and the largest of a million is 5. The rest of most is for numbers of which the
// one engine happened to be right. In two bytes a result is rounded from a sum in float32,
// which leaves less room for the order. transformers' recordings and this package's, of all
// the test models, stay below half of both (TestCompareGood), and the faults of
// testdata/faults.py are above.
type precision struct {
	cause      string
	unit       float64
	most, mean float64
	round      func(float64) float64
}

var (
	inFloat64 = precision{}
	inFloat32 = precision{"", 0x1p-24, 60, 5, func(v float64) float64 { return float64(float32(v)) }}
	inBF16    = precision{"bf16-rounding", 0x1p-9, 40, 2.5, roundBF16}
	inF16     = precision{"f16-rounding", 0x1p-12, 40, 2.5, roundF16}
)

// roundBF16 returns the nearest bfloat16, ties to even.
func roundBF16(v float64) float64 {
	if !finite(float32(v)) {
		return v
	}
	bits := math.Float32bits(float32(v))
	bits += 0x7fff + bits>>16&1
	return float64(math.Float32frombits(bits &^ 0xffff))
}

// roundF16 returns the nearest half, at most its largest number.
func roundF16(v float64) float64 {
	return float64(float16.Fromfloat32(float32(min(max(v, -65504), 65504))).Float32())
}

// plain is the plain network on one recording: what the reference holds, and
// what was computed where it holds nothing.
type plain struct {
	m     *Model
	ids   []int
	steps map[string]func(c *call) []float64
	ref   map[place][]float64 // recorded, and believed as input
	memo  map[memoKey][]float64
	deps  map[place]map[place]bool // what a step looked at
}

// A memoKey names what was computed without mistakes, by its rounding.
type memoKey struct {
	place
	unit float64
}

func newPlain(m *Model, ids []int) *plain {
	p := &plain{m, ids, map[string]func(c *call) []float64{}, map[place][]float64{}, map[memoKey][]float64{}, map[place]map[place]bool{}}
	for _, s := range steps {
		p.steps[s.op] = s.run
	}
	return p
}

// A patch is a mistake made somewhere: in the given steps of one layer, or of all
// of them (layer -2), with a constant.
type patch struct {
	*mistake
	ops   []string
	layer int
	value float64
}

const everyLayer = -2

// hits says whether the mistake is made at p.
func (a *patch) hits(p place) bool {
	return a != nil && (a.layer == p.layer || a.layer == everyLayer) && slices.Contains(a.ops, p.op)
}

// A trial computes intermediates with one rounding and one mistake, or none.
type trial struct {
	*plain
	prec    precision
	patch   *patch
	subject *subject // what the mistake is tried on
	changed map[place][]float64
	changes map[place]bool
	bad     bool // the mistake cannot be made here
}

func (p *plain) trial(prec precision, a *patch) *trial {
	return &trial{plain: p, prec: prec, patch: a, changed: map[place][]float64{}, changes: map[place]bool{}}
}

// compute runs the step at target on the reference's inputs, or on what follows
// from them where it did not record one.
func (r *trial) compute(target place) []float64 {
	if r.patch == nil && r.deps[target] == nil {
		r.deps[target] = map[place]bool{}
	}
	c := &call{r, target}
	if !r.patch.hits(target) {
		return c.right()
	}
	y := r.patch.run(c)
	if y == nil {
		r.bad = true
		y = c.right()
	}
	return y
}

// input returns an intermediate: the reference's, or what the step computes.
func (r *trial) input(p place) []float64 {
	if x, ok := r.ref[p]; ok {
		return x
	}
	if r.patch != nil && r.isChanged(p) {
		if r.changed[p] == nil {
			r.changed[p] = r.compute(p)
		}
		return r.changed[p]
	}
	key := memoKey{p, r.prec.unit}
	if r.memo[key] == nil {
		r.memo[key] = r.plain.trial(r.prec, nil).compute(p)
	}
	return r.memo[key]
}

// isChanged says whether the mistake changes what arises at p.
func (r *trial) isChanged(p place) bool {
	if hit, ok := r.changes[p]; ok {
		return hit
	}
	hit := r.patch.hits(p)
	if !hit {
		if r.deps[p] == nil {
			r.plain.trial(r.prec, nil).input(p)
		}
		for d := range r.deps[p] {
			if _, recorded := r.ref[d]; !recorded && r.isChanged(d) {
				hit = true
				break
			}
		}
	}
	r.changes[p] = hit
	return hit
}

// cone returns target, which has been computed, and the steps before it back to
// what the reference holds, in the order of the data flow.
func (p *plain) cone(target place) []place {
	in := map[place]bool{target: true}
	var walk func(place)
	walk = func(at place) {
		for d := range p.deps[at] {
			if _, recorded := p.ref[d]; !recorded && !in[d] {
				in[d] = true
				walk(d)
			}
		}
	}
	walk(target)
	var cone []place
	for _, q := range p.m.places() {
		if in[q] {
			cone = append(cone, q)
		}
	}
	return cone
}

// A call is one step being run.
type call struct {
	*trial
	place
}

// get returns an intermediate of the same layer; "stream" is what the layer, or
// the final norm, reads.
func (c *call) get(op string) []float64 {
	p := place{c.layer, op}
	if op == "stream" {
		if p = (place{c.layer - 1, blockOutput}); c.layer == 0 {
			p = place{-1, "embed_tokens"}
		}
	}
	if c.patch == nil {
		c.deps[c.place][p] = true
	}
	return c.input(p)
}

// right runs the step without the mistake.
func (c *call) right() []float64 { return c.steps[c.op](c) }

// unturned names what q_rope or k_rope reads.
func (c *call) unturned() string {
	side := c.op[:1]
	if c.m.Layers[c.layer].Attention.QNorm != nil {
		return side + "_norm"
	}
	return side + "_proj"
}

// normed returns what the norm at this place reads.
func (c *call) normed() []float64 {
	switch c.op {
	case "post_attention_layernorm":
		return c.get("attn_residual")
	case "q_norm":
		return c.get("q_proj")
	case "k_norm":
		return c.get("k_proj")
	}
	return c.get("stream")
}

func (c *call) eps() float64      { return float64(c.m.Config.Eps) }
func (c *call) vector() []float64 { return wide(c.m.norm(c.place)) }
func (c *call) scale() float64    { return 1 / math.Sqrt(float64(c.m.Config.HeadDim)) }
func (c *call) group(h int) int   { return h / (c.m.Config.Heads / c.m.Config.KVHeads) }

// wide returns x in float64.
func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// r rounds, if this trial does.
func (c *call) r(v float64) float64 {
	if c.prec.round == nil {
		return v
	}
	return c.prec.round(v)
}

// each returns f of every number.
func (c *call) each(x []float64, f func(float64) float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = c.r(f(v))
	}
	return y
}

func (c *call) sum(a, b []float64) []float64 {
	y := make([]float64, len(a))
	for i := range a {
		y[i] = c.r(a[i] + b[i])
	}
	return y
}

func (c *call) times(a, b []float64) []float64 {
	y := make([]float64, len(a))
	for i := range a {
		y[i] = c.r(a[i] * b[i])
	}
	return y
}

// rows returns a row of the embedding for each token.
func (c *call) rows(of func(t int) int) []float64 {
	w := c.m.Embed
	y := make([]float64, 0, len(c.ids)*w.Cols)
	for t := range c.ids {
		id := of(t)
		if id < 0 || id >= w.Rows {
			return nil
		}
		for _, v := range w.Row(id) {
			y = append(y, c.r(float64(v)))
		}
	}
	return y
}

// rms is RMSNorm of rows of len(w), or LayerNorm without a bias if centre.
func (c *call) rms(x, w []float64, eps float64, centre bool) []float64 {
	n := len(w)
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += n {
		row := x[at : at+n]
		mean, square := 0.0, 0.0
		if centre {
			for _, v := range row {
				mean += v / float64(n)
			}
		}
		for _, v := range row {
			square += (v - mean) * (v - mean)
			if c.prec.round != nil {
				square = float64(float32(square)) // in every precision: engines sum squares in float32
			}
		}
		scale := 1 / math.Sqrt(square/float64(n)+eps)
		for i, v := range row {
			y[at+i] = c.r(c.r((v-mean)*scale) * c.r(w[i]))
		}
	}
	return y
}

// project is the Linear of this place.
func (c *call) project(x []float64) []float64 {
	w, bias, _ := c.m.linear(c.place)
	return c.linear(x, w, bias)
}

// linear is x·wᵀ + bias.
func (c *call) linear(x []float64, w Matrix, bias []float32) []float64 {
	seq := len(x) / w.Cols
	y := make([]float64, seq*w.Rows)
	parallel(w.Rows, 16, func(from, to int) {
		stored, row := make([]float32, w.Cols), make([]float64, w.Cols)
		for r := from; r < to; r++ {
			w.rowTo(stored, r)
			for i, v := range stored {
				row[i] = c.r(float64(v))
			}
			b := 0.0
			if bias != nil {
				b = c.r(float64(bias[r]))
			}
			for t := range seq {
				y[t*w.Rows+r] = c.r(c.r(c.dot(row, x[t*w.Cols:])) + b)
			}
		}
	})
	return y
}

// dot is Σ a[i]*b[i]. A trial that rounds adds up in float32, one number after the
// other: of all the usual ways to add up it loses most.
func (c *call) dot(a, b []float64) float64 {
	if c.prec.round == nil {
		return dotExact(a, b)
	}
	var sum float32
	for i, v := range a {
		sum += float32(v * b[i])
	}
	return float64(sum)
}

// dotExact is Σ a[i]*b[i] in float64.
func dotExact(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// A turn says how one number of a head is made by the rotation:
// y[j] = x[self]*cos(pos*freq) + sign*x[other]*sin(pos*freq).
type turn struct {
	self, other int
	sign        float64
	freq        float32
}

// frequencies are the config's, [headDim/2].
func (c *call) frequencies() []float32 { return c.m.rotary.InvFreq }

// halves pairs number i of a head with number i+half: the way of Qwen.
func (c *call) halves(freq []float32) []turn {
	n := len(freq)
	turns := make([]turn, 2*n)
	for i, f := range freq {
		turns[i], turns[i+n] = turn{i, i + n, -1, f}, turn{i + n, i, 1, f}
	}
	return turns
}

// turn is RoPE with any pairs: a head has len(turns) numbers turned, and leaves
// the rest as it is. shift is added to every position.
func (c *call) turn(x []float64, turns []turn, shift float64) []float64 {
	return c.turnScaled(x, turns, shift, float64(c.m.rotary.Scale))
}

func (c *call) turnScaled(x []float64, turns []turn, shift, scale float64) []float64 {
	headDim, seq := c.m.Config.HeadDim, len(c.ids)
	y := slices.Clone(x)
	cos, sin := make([]float64, len(turns)), make([]float64, len(turns))
	for t := range seq {
		for j, u := range turns {
			if c.prec.round != nil { // others compute the frequency in another way, and their last bit differs
				u.freq = math.Nextafter32(u.freq, 2)
			}
			angle := float64(float32(float64(t)+shift) * u.freq) // a float32 product, as in the reference
			cos[j], sin[j] = c.r(math.Cos(angle)*scale), c.r(math.Sin(angle)*scale)
		}
		width := len(x) / seq
		for h := t * width; h < (t+1)*width; h += headDim {
			for j, u := range turns {
				y[h+j] = c.r(c.r(x[h+u.self]*cos[j]) + c.r(u.sign*x[h+u.other]*sin[j]))
			}
		}
	}
	return y
}

// causal says that token t sees token s.
func causal(t, s int) bool { return s <= t }

// attend returns the probabilities, [heads, seq, seq].
func (c *call) attend(q, k []float64, scale float64, sees func(t, s int) bool, kvHead func(h int) int) []float64 {
	cfg, seq := c.m.Config, len(c.ids)
	probs := make([]float64, cfg.Heads*seq*seq)
	parallel(cfg.Heads*seq, 4, func(from, to int) {
		for unit := from; unit < to; unit++ {
			h, t := unit/seq, unit%seq
			row := probs[unit*seq : (unit+1)*seq]
			query := q[(t*cfg.Heads+h)*cfg.HeadDim:][:cfg.HeadDim]
			largest, total := math.Inf(-1), 0.0
			for s := range seq {
				if sees(t, s) {
					key := k[(s*cfg.KVHeads+kvHead(h))*cfg.HeadDim:][:cfg.HeadDim]
					row[s] = c.r(c.r(c.dot(query, key)) * scale)
					largest = max(largest, row[s])
				}
			}
			for s := range seq {
				if sees(t, s) {
					row[s] = math.Exp(row[s] - largest)
					total += row[s]
				}
			}
			for s := range seq {
				row[s] = c.r(row[s] / total)
			}
		}
	})
	return probs
}

// mix returns the values mixed by the probabilities, [seq, heads, headDim].
func (c *call) mix(probs, v []float64, kvHead func(h int) int) []float64 {
	cfg, seq := c.m.Config, len(c.ids)
	y := make([]float64, seq*cfg.Heads*cfg.HeadDim)
	parallel(cfg.Heads*seq, 4, func(from, to int) {
		for unit := from; unit < to; unit++ {
			h, t := unit/seq, unit%seq
			out := y[(t*cfg.Heads+h)*cfg.HeadDim:][:cfg.HeadDim]
			for s, p := range probs[unit*seq : (unit+1)*seq] {
				value := v[(s*cfg.KVHeads+kvHead(h))*cfg.HeadDim:][:cfg.HeadDim]
				for i, x := range value {
					out[i] += p * x
				}
				if c.prec.round != nil {
					for i := range out {
						out[i] = float64(float32(out[i]))
					}
				}
			}
			for i := range out {
				out[i] = c.r(out[i])
			}
		}
	})
	return y
}

func silu(v float64) float64 { return v / (1 + math.Exp(-v)) }

// A subject is one tensor of the reference, to be judged.
type subject struct {
	place
	name   string // in the recording
	misfit string // what is wrong with its shape, if want is nil
	want   []float64
	width  int       // of a row
	prec   precision // how the reference was rounded, as its numbers show
	cone   []place   // the steps that made it, back to what is recorded
	own    distance
	ruler  yardstick // of own
}

// measure sets the subject's own error: y is its step in float64, and how far it may
// be off is tried by rounding to prec.
func (p *plain) measure(s *subject, y []float64, prec precision) {
	s.ruler = noise(y, p.trial(prec, nil).compute(s.place), s.width, prec)
	s.own = s.ruler.distance(y, s.want)
}

// A yardstick is how far each number of an intermediate may be off by rounding:
// sigma of its row, and unit times itself.
type yardstick struct {
	sigma []float64
	prec  precision
}

// noise tries how far rounding leads: x and y were computed in float64 and with
// every result rounded. A row that came out lucky is given the usual share.
func noise(x, y []float64, width int, prec precision) yardstick {
	rows := len(x) / width
	s := yardstick{make([]float64, rows), prec}
	size, share := make([]float64, rows), make([]float64, 0, rows)
	for r := range rows {
		for i := r * width; i < (r+1)*width; i++ {
			if d := math.Abs(x[i]-y[i]) - prec.unit*math.Abs(x[i]); d > 0 && !math.IsInf(d, 0) {
				s.sigma[r] += d * d
			}
			size[r] += x[i] * x[i]
		}
		s.sigma[r], size[r] = math.Sqrt(s.sigma[r]/float64(width)), math.Sqrt(size[r]/float64(width))
		if size[r] > 0 {
			share = append(share, s.sigma[r]/size[r])
		}
	}
	if len(share) > 0 {
		slices.Sort(share)
		for r := range rows {
			// The usual share is the median of all rows, and at least what one rounding makes of an
			// average number, half a unit.
			s.sigma[r] = max(s.sigma[r], share[len(share)/2]*size[r], prec.unit/2*size[r])
		}
	}
	return s
}

// A distance is how far two tensors are apart. excess is in units of what rounding
// allows: up to 1 there is nothing to explain.
type distance struct {
	max, rms, size float64 // absolute; size is the largest number of the reference
	yards          float64 // rms in units of the yardstick
	excess         float64
}

// relative is the largest error ÷ the largest number.
func (d distance) relative() Number {
	if d.max == 0 {
		return 0
	}
	return Number(d.max / d.size)
}

// distance measures got against want.
func (s yardstick) distance(got, want []float64) distance {
	var d distance
	width, square, yards, worst := len(want)/len(s.sigma), 0.0, 0.0, 0.0
	for i, w := range want {
		e := math.Abs(got[i] - w)
		if math.IsNaN(e) {
			if e = math.Inf(1); got[i] == w || math.IsNaN(got[i]) && math.IsNaN(w) {
				e = 0 // it was handed what is not a number
			}
		}
		d.max, d.size = max(d.max, e), max(d.size, math.Abs(w))
		square += e * e
		if e > 0 && !math.IsNaN(s.sigma[i/width]) { // NaN: the row was made of what is not a number
			e /= s.sigma[i/width] + s.prec.unit*max(math.Abs(w), math.Abs(got[i])) + math.SmallestNonzeroFloat32
			worst, yards = max(worst, e), yards+e*e
		}
	}
	n := float64(len(want))
	d.rms, d.yards = math.Sqrt(square/n), math.Sqrt(yards/n)
	d.excess = max(worst/s.prec.most, d.yards/s.prec.mean)
	return d
}

// try runs the subject's step with a mistake, or none, in the given precision; ok is
// false if the mistake cannot be made there.
func (p *plain) try(s *subject, a *patch, prec precision) (y []float64, ok bool) {
	r := p.trial(prec, a)
	r.subject = s
	y = r.compute(s.place)
	return y, !r.bad
}

// A finding is a mistake that reproduces a subject.
type finding struct {
	patch
	residual distance
}

// says describes the mistake.
func (f finding) says(p *plain, s *subject) string {
	switch {
	case f.names != nil:
		return fmt.Sprintf(f.mistake.says, f.names(p.callOf(s, f.patch)))
	case strings.Contains(f.mistake.says, "%"):
		return fmt.Sprintf(f.mistake.says, f.value)
	}
	return f.mistake.says
}

// callOf is a call of the first step that the patch changes.
func (p *plain) callOf(s *subject, a patch) *call {
	r := p.trial(inFloat64, &a)
	r.subject = s
	return &call{r, s.cone[slices.IndexFunc(s.cone, a.hits)]}
}

// sites returns the groups of steps in which m could be made within cone.
func (m *mistake) sites(cone []place) (groups [][]string) {
	add := func(ops []string) {
		var here []string
		for _, op := range ops {
			if slices.ContainsFunc(cone, func(p place) bool { return p.op == op }) {
				here = append(here, op)
			}
		}
		if len(here) > 0 && !slices.ContainsFunc(groups, func(g []string) bool { return slices.Equal(g, here) }) {
			groups = append(groups, here)
		}
	}
	together, alone, each := strings.Cut(m.at, "+")
	parts := strings.Split(together, "|")
	for _, part := range parts {
		add(strings.Fields(part))
	}
	if each {
		for _, op := range strings.Fields(strings.ReplaceAll(together, "|", " ") + " " + alone) {
			add([]string{op})
		}
	}
	return groups
}

// layersOf returns where in cone a group could go wrong: in every layer, and in
// each one.
func layersOf(ops []string, cone []place) (layers []int) {
	for _, p := range cone {
		if slices.Contains(ops, p.op) && !slices.Contains(layers, p.layer) {
			layers = append(layers, p.layer)
		}
	}
	if len(layers) > 1 {
		layers = append([]int{everyLayer}, layers...)
	}
	return layers
}

// find tries every mistake in every step of the subject's cone and returns those
// that reproduce it.
func (p *plain) find(s *subject) []finding {
	var found []finding
	for i := range mistakes {
		m := &mistakes[i]
		for _, ops := range m.sites(s.cone) {
			for _, layer := range layersOf(ops, s.cone) {
				if f, ok := p.fitted(s, patch{mistake: m, ops: ops, layer: layer}); ok {
					found = append(found, f)
				}
			}
		}
	}
	return likely(found)
}

// likely leaves out the findings that come much less close than the best: a mistake that
// leaves three times as much is another one that does nearly the same (an eps for a missing
// weight). Half a yard is added, since below that it is chance which one comes closer.
func likely(found []finding) []finding {
	best := math.Inf(1)
	for _, f := range found {
		best = min(best, f.residual.yards)
	}
	return slices.DeleteFunc(found, func(f finding) bool { return f.residual.yards > 3*best+0.5 })
}

// leftover is the largest share of the error that a mistake may leave to count. The right one
// leaves rounding alone, and whatever leaves more than a fifth has explained a part at most. In
// two bytes the rounding itself may be a large part of a small error.
func leftover(prec precision) float64 {
	if prec.unit > inFloat32.unit {
		return 0.5
	}
	return 0.2
}

// A start is a constant to begin with, and how far the subject is from its step with
// that in it, by the yardstick of the step done right.
type start struct{ value, yards float64 }

func closer(a, b start) int { return compareFloat(a.yards, b.yards) }

// fitted finds the constant with which a reproduces the subject best, and says
// whether it then does so to rounding.
func (p *plain) fitted(s *subject, a patch) (f finding, ok bool) {
	values := []float64{0}
	if a.tries != nil {
		values = a.tries(p.callOf(s, a))
	}
	var starts []start
	for _, v := range values {
		starts = append(starts, start{v, p.yards(s, a.with(v))})
	}
	if len(starts) == 0 {
		return f, false
	}
	slices.SortStableFunc(starts, closer)
	if a.fit == byFactor || a.fit == byStep {
		// The constant lies between the two best of a grid, and may be nearer to the second.
		starts = starts[:min(2, len(starts))]
		for i := range starts {
			starts[i] = p.improve(s, a, starts[i])
		}
		best := slices.MinFunc(starts, closer)
		starts[0] = start{p.nice(s, a, best), best.yards}
	}
	f.patch = a.with(starts[0].value)
	f.residual, ok = p.reproduces(s, f.patch)
	return f, ok
}

// with is the same mistake with another constant.
func (a patch) with(value float64) patch {
	a.value = value
	return a
}

// yards is how far the subject is from its step with a mistake in it: infinitely
// where the mistake cannot be made.
func (p *plain) yards(s *subject, a patch) float64 {
	y, ok := p.try(s, &a, inFloat64)
	if !ok {
		return math.Inf(1)
	}
	return s.ruler.distance(y, s.want).yards
}

// reproduces says whether the mistake with its constant explains the subject: it
// leaves little of the error, and no more than the roundings of its own step make.
func (p *plain) reproduces(s *subject, a patch) (residual distance, ok bool) {
	if !(p.yards(s, a) <= leftover(s.prec)*s.own.yards) {
		return residual, false
	}
	return p.residual(s, &a, s.prec)
}

// residual is how far the subject is from its step with a mistake in it, or with
// none, by the yardstick of that; ok says whether rounding explains as much.
func (p *plain) residual(s *subject, a *patch, prec precision) (d distance, ok bool) {
	y, ok := p.try(s, a, inFloat64)
	if !ok {
		return d, false
	}
	z, _ := p.try(s, a, prec)
	d = noise(y, z, s.width, prec).distance(y, s.want)
	return d, d.excess <= 1
}

func compareFloat(a, b float64) int {
	switch {
	case a < b || math.IsNaN(b) && !math.IsNaN(a):
		return -1
	case a > b:
		return 1
	}
	return 0
}

// improve makes Gauss-Newton steps from a constant: the change of the output with
// it is measured, and the step is the one that would make up for the difference if
// the change went on like that.
func (p *plain) improve(s *subject, a patch, best start) start {
	at := func(u float64) patch {
		if a.fit == byFactor {
			return a.with(math.Exp(u))
		}
		return a.with(u)
	}
	u := best.value
	if a.fit == byFactor {
		u = math.Log(u)
	}
	for range 20 { // steps: each about squares the error, so that from anywhere near five are enough
		// The change must be beyond float64's noise, and small enough to be straight. An eps may
		// begin at 0: 1e-10 is far below any that is used.
		h := 1e-4
		if a.fit == byStep {
			h = max(1e-3*math.Abs(u), 1e-10)
		}
		here, there := at(u), at(u+h)
		y, _ := p.try(s, &here, inFloat64)
		z, _ := p.try(s, &there, inFloat64)
		var up, down float64
		for i, w := range s.want {
			yard := s.ruler.sigma[i/s.width] + s.ruler.prec.unit*math.Abs(w) + math.SmallestNonzeroFloat32
			slope := (z[i] - y[i]) / h / yard
			up, down = up+slope*(w-y[i])/yard, down+slope*slope
		}
		step := up / down
		if a.fit == byFactor {
			step = min(max(step, -1), 1) // a factor of e: beyond the grid's next the slope says nothing
		}
		moved := false
		for range 8 { // halves: to less than a hundredth of the step
			if yards := p.yards(s, at(u+step)); yards < best.yards {
				u += step
				best, moved = start{at(u).value, yards}, true
				break
			}
			step /= 2
		}
		if !moved || math.Abs(step) < 1e-9*math.Abs(u) { // more digits than a report shows, or than float32 has
			break
		}
	}
	return best
}

// nice returns the shortest number that reproduces the subject about as well: a tenth more,
// or a twentieth of a yard, which is nothing. With five digits and more no number is shorter
// for being rounded: 0.243495 was nobody's choice.
func (p *plain) nice(s *subject, a patch, best start) float64 {
	shorter := []float64{0}
	if a.fit == byFactor { // which is never 0
		shorter = nil
	}
	for digits := 1; digits <= 4; digits++ {
		shorter = append(shorter, roundTo(best.value, digits))
	}
	for _, v := range shorter {
		if p.yards(s, a.with(v)) <= 1.1*best.yards+0.05 {
			return v
		}
	}
	return best.value
}

// roundTo returns v with so many digits.
func roundTo(v float64, digits int) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits-1, 64), 64)
	return r
}
