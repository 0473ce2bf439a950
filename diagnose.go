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
// Numerics: how much an honest engine may be off is not guessed but tried. Each
// step is also run with every result rounded to float32 and every sum added up
// in order; the distance of that from float64 is the yardstick (see noise).
//
// Next: report.go

import (
	"fmt"
	"math"
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
// of one rounding; most and mean are how many times the yardstick an error may be,
// at its worst number and as a mean: an engine may add up in another order than
// the one that was tried, but bf16 leaves little room for order.
type precision struct {
	cause      string
	unit       float64
	most, mean float64
	round      func(float64) float64
}

var (
	exact  = precision{}
	single = precision{"", 0x1p-24, 12, 5, func(v float64) float64 { return float64(float32(v)) }}
	brain  = precision{"bf16-rounding", 0x1p-9, 6, 2.5, roundBF16}
	half   = precision{"f16-rounding", 0x1p-12, 6, 2.5, roundF16}
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

// A run computes intermediates with one rounding and one mistake, or none.
type run struct {
	*plain
	prec    precision
	patch   *patch
	subject *subject // what the mistake is tried on
	changed map[place][]float64
	changes map[place]bool
	bad     bool // the mistake cannot be made here
}

func (p *plain) run(prec precision, a *patch) *run {
	return &run{plain: p, prec: prec, patch: a, changed: map[place][]float64{}, changes: map[place]bool{}}
}

// compute runs the step at target on the reference's inputs, or on what follows
// from them where it did not record one.
func (r *run) compute(target place) []float64 {
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
func (r *run) input(p place) []float64 {
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
		r.memo[key] = r.plain.run(r.prec, nil).compute(p)
	}
	return r.memo[key]
}

// isChanged says whether the mistake changes what arises at p.
func (r *run) isChanged(p place) bool {
	if hit, ok := r.changes[p]; ok {
		return hit
	}
	hit := r.patch.hits(p)
	if !hit {
		if r.deps[p] == nil {
			r.plain.run(r.prec, nil).input(p)
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
	*run
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

// r rounds, if this run does.
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

// linear is x·wᵀ + bias. A run that rounds adds up in float32, from first to last.
func (c *call) linear(x []float64, w Matrix, bias []float32) []float64 {
	seq := len(x) / w.Cols
	y := make([]float64, seq*w.Rows)
	low := make([]float32, len(x))
	for i, v := range x {
		low[i] = float32(v)
	}
	parallel(w.Rows, 16, func(from, to int) {
		row, full := make([]float32, w.Cols), make([]float64, w.Cols)
		for r := from; r < to; r++ {
			w.rowTo(row, r)
			b := 0.0
			if bias != nil {
				b = c.r(float64(bias[r]))
			}
			for i, v := range row {
				if c.prec.round != nil {
					v = float32(c.prec.round(float64(v)))
				}
				row[i], full[i] = v, float64(v)
			}
			for t := 0; t < seq; t++ {
				if c.prec.round == nil {
					y[t*w.Rows+r] = dotExact(full, x[t*w.Cols:]) + b
				} else {
					y[t*w.Rows+r] = c.r(c.r(float64(dotInOrder(row, low[t*w.Cols:]))) + b)
				}
			}
		}
	})
	return y
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

// dotInOrder is Σ a[i]*b[i] in float32, one number after the other: of all the
// usual ways to add up it loses most.
func dotInOrder(a, b []float32) (sum float32) {
	b = b[:len(a)]
	for i, v := range a {
		sum += float32(v * b[i])
	}
	return sum
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

// dot is one dot product in this run's precision.
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

// A mistake is a way to get a step wrong.
type mistake struct {
	cause string
	// at lists where the mistake can be made: groups of steps that get it wrong
	// together, "a b|c"; a + at the end also tries each step alone.
	at  string
	run func(c *call) []float64 // the step gone wrong; nil if it cannot go wrong like this here
	// tries are the constants c.value to run with. They are improved if fit says so.
	tries func(c *call) []float64
	fit   fitting
	// says describes it; a verb in it takes the constant, or what names says of it.
	says  string
	names func(c *call) string
}

// A fitting is how a constant is improved: not at all, or by steps of its
// logarithm, or by steps of itself.
type fitting int

const (
	asTried fitting = iota // the constant only numbers the ways to make the mistake
	asCount                // the constant is a number, but a whole one
	byFactor
	byStep
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
		tries: func(c *call) []float64 { return []float64{math.Sqrt(float64(c.m.Config.Hidden)), 0.5} },
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
		tries: constants(0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
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
		tries: func(c *call) []float64 { return thetas },
		run:   func(c *call) []float64 { return c.rotated(c.halves(c.withTheta(c.value()))) }},
	{cause: "rope-dim", at: allRopes, says: "the frequencies are made for heads of %.6g", fit: asCount,
		tries: func(c *call) []float64 { return c.widths() },
		run:   func(c *call) []float64 { return c.rotated(c.halves(c.forWidth(c.value()))) }},
	{cause: "rope-scaling", at: allRopes, says: "every frequency is divided by %.6g", fit: byFactor,
		tries: constants(2, 4, 8, 16, 32, 0.5, 0.25),
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
		tries: func(c *call) []float64 { return c.scales() },
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
		names: func(c *call) string { return c.otherHeads()[int(c.value())].name }},
	{cause: "logits-scaled", at: "lm_head", says: "the logits are multiplied by %.6g", fit: byFactor,
		tries: constants(0.5, 2),
		run:   func(c *call) []float64 { return c.scaled(c.value()) }},
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

// thetas are where the search for theta begins: what models use, and a grid.
var thetas = func() []float64 {
	all := []float64{1e3, 1e4, 1e5, 5e5, 1e6, 5e6, 1e7}
	for v := 10.0; v < 1e9; v *= 1.6 {
		all = append(all, v)
	}
	return all
}()

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
// holds, or -1.
func (c *call) rowsFound() []int {
	w := c.m.Embed
	if c.want() == nil {
		return nil
	}
	ids := make([]int, len(c.ids))
	row := make([]float32, w.Cols)
	for t := range ids {
		ids[t] = -1
		want := c.want()[t*w.Cols : (t+1)*w.Cols]
		for id := 0; id < w.Rows && ids[t] < 0; id++ {
			w.rowTo(row, id)
			same := true
			for i, v := range row {
				if d := math.Abs(float64(v) - want[i]); d > max(2*c.prec.unit, 1e-6)*math.Abs(want[i]) {
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
	if c.value() == 1 && w.Rows == w.Cols || w.Rows*w.Cols > 1<<26 {
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

// shifts guesses by how much positions are shifted: small numbers, and what the
// angles say where the rotated heads are recorded. Each pair gives the shift
// modulo its period; the slowest has the longest, and each faster one refines it.
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

// scales are the factors of the scores that ports have used.
func (c *call) scales() []float64 {
	k := c.m.Config
	all := []float64{1 / float64(k.HeadDim), c.scale() / 2, c.scale() * 2, c.scale() * 4, c.scale() / 4}
	for _, n := range []int{k.Hidden, k.Hidden / k.Heads, k.Heads, k.KVHeads, k.KVHeads * k.HeadDim} {
		all = append(all, 1/math.Sqrt(float64(max(n, 1))))
	}
	return all
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
		right := "lm_head.weight"
		if k.TieEmbeddings {
			right = "model.embed_tokens.weight"
		}
		if t.Name != right && slices.Equal(t.Shape, []int{k.Vocab, k.Hidden}) && (t.DType == F32 || t.DType == F16 || t.DType == BF16) {
			all = append(all, namedMatrix{t.Name, Matrix{t.DType, k.Vocab, k.Hidden, t.Data}})
		}
	}
	return all
}

// A subject is one tensor of the reference, to be judged.
type subject struct {
	place
	name  string // in the recording
	want  []float64
	width int       // of a row
	prec  precision // how the reference was rounded, as its numbers show
	cone  []place   // the steps that made it, back to what is recorded
	got   []float64 // what our step makes of the reference's inputs; only while it is judged
	own   distance
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
		if e > 0 {
			e /= s.sigma[i/width] + s.prec.unit*max(math.Abs(w), math.Abs(got[i])) + math.SmallestNonzeroFloat32
			worst, yards = max(worst, e), yards+e*e
		}
	}
	n := float64(len(want))
	d.rms, d.yards = math.Sqrt(square/n), math.Sqrt(yards/n)
	d.excess = max(worst/s.prec.most, d.yards/s.prec.mean)
	return d
}

// try runs the subject's step with a mistake, in the given precision; ok is false
// if the mistake cannot be made there.
func (p *plain) try(s *subject, a patch, prec precision) (y []float64, ok bool) {
	r := p.run(prec, &a)
	r.subject = s
	y = r.compute(s.place)
	return y, !r.bad && len(y) == len(s.want)
}

// A finding is a mistake that reproduces a subject.
type finding struct {
	patch
	residual distance
	order    int // in the list of mistakes
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
	r := p.run(exact, &a)
	r.subject = s
	for _, at := range s.cone {
		if a.hits(at) {
			return &call{r, at}
		}
	}
	return &call{r, s.place}
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

// layers returns where in cone a group could go wrong: in every layer, and in
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
// that reproduce it, the likeliest first.
func (p *plain) find(s *subject, ruler yardstick) []finding {
	var found []finding
	for i := range mistakes {
		m := &mistakes[i]
		for _, ops := range m.sites(s.cone) {
			for _, layer := range layersOf(ops, s.cone) {
				a := patch{m, ops, layer, 0}
				if f, ok := p.fitted(s, a, ruler); ok {
					f.order = i
					found = append(found, f)
				}
			}
		}
	}
	best := math.Inf(1)
	for _, f := range found {
		best = min(best, f.residual.yards)
	}
	slices.SortStableFunc(found, func(a, b finding) int {
		far := func(f finding) int {
			if f.residual.yards > 3*best+0.5 {
				return 1
			}
			return 0
		}
		return far(a) - far(b)
	})
	return found
}

// enough is the share of the error that a mistake must explain to count.
func enough(prec precision) float64 {
	if prec.unit > single.unit {
		return 0.5
	}
	return 0.2
}

// fitted finds the constant with which a reproduces the subject best, and says
// whether it then does so to rounding.
func (p *plain) fitted(s *subject, a patch, ruler yardstick) (f finding, ok bool) {
	values := []float64{0}
	if a.tries != nil {
		values = a.tries(p.callOf(s, a))
	}
	type tried struct {
		value float64
		distance
	}
	var all []tried
	for _, v := range values {
		a.value = v
		if y, ok := p.try(s, a, exact); ok {
			all = append(all, tried{v, ruler.distance(y, s.want)})
		}
	}
	if len(all) == 0 {
		return f, false
	}
	slices.SortStableFunc(all, func(a, b tried) int { return compareFloat(a.yards, b.yards) })
	best := all[0]
	if a.fit == byFactor || a.fit == byStep {
		for _, start := range all[:min(2, len(all))] {
			a.value = start.value
			if v, d := p.improve(s, a, start.distance, ruler); d.yards < best.yards {
				best = tried{v, d}
			}
		}
	}
	if !(best.yards <= enough(s.prec)*s.own.yards) {
		return f, false
	}
	a.value = best.value
	if a.fit == byFactor || a.fit == byStep {
		a.value = p.nice(s, a, best.distance, ruler)
	}
	y, _ := p.try(s, a, exact)
	z, _ := p.try(s, a, s.prec.orSingle())
	d := noise(y, z, s.width, s.prec.orSingle()).distance(y, s.want)
	return finding{patch: a, residual: d}, d.excess <= 1
}

// orSingle is the precision to try roundings with.
func (p precision) orSingle() precision {
	if p.round == nil {
		return single
	}
	return p
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

// improve makes Gauss-Newton steps from a.value: the change of the output with
// the constant is measured, and the step is the one that would make up for the
// difference if the change went on like that.
func (p *plain) improve(s *subject, a patch, d distance, ruler yardstick) (float64, distance) {
	at := func(u float64) patch {
		b := a
		if b.value = u; a.fit == byFactor {
			b.value = math.Exp(u)
		}
		return b
	}
	u := a.value
	if a.fit == byFactor {
		u = math.Log(u)
	}
	scale := make([]float64, len(s.want))
	for i, w := range s.want {
		scale[i] = 1 / (ruler.sigma[i/s.width] + ruler.prec.unit*math.Abs(w) + math.SmallestNonzeroFloat32)
	}
	for range 20 {
		h := 1e-4
		if a.fit == byStep {
			h = max(1e-3*math.Abs(u), 1e-10)
		}
		y, ok := p.try(s, at(u), exact)
		z, ok2 := p.try(s, at(u+h), exact)
		if !ok || !ok2 {
			break
		}
		var up, down float64
		for i, w := range s.want {
			j := (z[i] - y[i]) / h * scale[i]
			up, down = up+j*(w-y[i])*scale[i], down+j*j
		}
		step := up / down
		if !(down > 0) || math.IsNaN(step) {
			break
		}
		if a.fit == byFactor {
			step = min(max(step, -1), 1)
		}
		moved := false
		for range 8 {
			if z, ok := p.try(s, at(u+step), exact); ok {
				if e := ruler.distance(z, s.want); e.yards < d.yards {
					u, d, moved = u+step, e, true
					break
				}
			}
			step /= 2
		}
		if !moved || math.Abs(step) < 1e-9*max(math.Abs(u), 1e-9) {
			break
		}
	}
	return at(u).value, d
}

// nice returns the shortest number that reproduces the subject as well as a.value.
func (p *plain) nice(s *subject, a patch, d distance, ruler yardstick) float64 {
	v := a.value
	for digits := 1; digits <= 4; digits++ {
		a.value = roundTo(v, digits)
		if y, ok := p.try(s, a, exact); ok && ruler.distance(y, s.want).yards <= 1.1*d.yards+0.05 {
			return a.value
		}
	}
	return v
}

// roundTo returns v with so many digits.
func roundTo(v float64, digits int) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits-1, 64), 64)
	return r
}
