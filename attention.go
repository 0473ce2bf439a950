package qwen

// Attention is the only place where tokens look at each other. Each token asks
// (query), it and each token before it offer (key), and what is taken is a mixture
// of the values, weighted by how well key and query match:
//
//	scores[s] = q·k[s] / sqrt(headDim)      for every token s that is not later
//	probs     = softmax(scores)
//	context   = Σ probs[s] * v[s]
//
// The steps around that sum, with the numbers used in the code below:
//
//	x ─┬─ 1 q_proj ─ 2 q_norm ─ 3 RoPE ──────────────┐
//	   ├─ 1 k_proj ─ 2 k_norm ─ 3 RoPE ─ 4 cache ─── 5 softmax(q·k)·v ─ 6 o_proj ─ y
//	   └─ 1 v_proj ───────────────────── 4 cache ────┘
//
// Grouped queries (GQA): there are fewer key and value heads than query heads,
// and group = heads/kvHeads neighbours share one. With 6 heads and 2 kvHeads:
//
//	query head  0 1 2 | 3 4 5
//	kv head     0 0 0 | 1 1 1        kvHead = h / group, and not h % kvHeads
//
// The cache is then three times smaller, and so is what decode must read of it.
//
// Three tokens, one head of one number, all keys 0 (ExampleAttention): every score is
// 0, so each token weighs alike what it may see, its own value and earlier ones:
//
//	v = 6 2 1        y = 6/1  (6+2)/2  (6+2+1)/3 = 6 4 3
//
// Causality needs no mask here: the loop over the keys of the token at position
// pos ends after key pos. The scale 1/sqrt(headDim) keeps a sum of headDim
// products at the size of one of them; without it softmax would pick one winner.
//
// Numerics: float32 throughout, as the reference's eager attention; softmax
// subtracts the row's maximum first.
//
// Reference: transformers modeling_qwen3.py, Qwen3Attention.forward and
// eager_attention_forward. GQA: Ainslie et al., 2023, arXiv 2305.13245.
//
// Next: ffn.go

import (
	"fmt"
	"math"
	"sync"
)

// AttentionWeights are the tensors of one block's attention. A bias that the
// model does not have is nil, and so are the norms of a Qwen2 model: presence is
// the switch, and these are the only two differences between the families.
type AttentionWeights struct {
	Q            Matrix    // self_attn.q_proj.weight [heads*headDim, hidden]
	K            Matrix    // self_attn.k_proj.weight [kvHeads*headDim, hidden]
	V            Matrix    // self_attn.v_proj.weight [kvHeads*headDim, hidden]
	O            Matrix    // self_attn.o_proj.weight [hidden, heads*headDim]
	QBias        []float32 // self_attn.q_proj.bias [heads*headDim] (Qwen2, Qwen2.5)
	KBias, VBias []float32 // self_attn.k_proj.bias, v_proj.bias [kvHeads*headDim] (Qwen2, Qwen2.5)
	OBias        []float32 // self_attn.o_proj.bias [hidden] (Qwen3 with attention_bias)
	QNorm, KNorm []float32 // self_attn.q_norm.weight, k_norm.weight [headDim] (Qwen3)
}

// attention returns block i's attention output for what is wanted of x, [seq, hidden],
// and like it in shape, and appends the new keys and values of all of x to the cache. cos
// and sin are the Angles of the new tokens.
func (m *Model) attention(x []float32, i int, cos, sin []float32, cache *Cache, see Trace) []float32 {
	w, c := m.Layers[i].Attention, m.Config
	// 1. Project the token into what it asks, what it offers and what it gives.
	q := Linear(m.wanted(x, i, see), w.Q, w.QBias) // [asking, heads*headDim]: seq, or the last token only
	see.step("self_attn.q_proj", q, w.Q.Rows)
	k := Linear(x, w.K, w.KBias) // [seq, kvHeads*headDim]
	see.step("self_attn.k_proj", k, w.K.Rows)
	v := Linear(x, w.V, w.VBias) // [seq, kvHeads*headDim]
	see.step("self_attn.v_proj", v, w.V.Rows)
	spent := [][]float32{q, k, v} // to recycle at the end

	// 2. Qwen3 only: bring every head to the same length, whatever the token.
	if w.QNorm != nil {
		q = RMSNorm(q, w.QNorm, c.Eps)
		see.step("self_attn.q_norm", q, c.Heads, c.HeadDim)
		k = RMSNorm(k, w.KNorm, c.Eps)
		see.step("self_attn.k_norm", k, c.KVHeads, c.HeadDim)
		spent = append(spent, q, k)
	}

	// 3. Turn queries and keys to their positions. Values are not turned.
	first := len(cos) - len(q)/w.Q.Rows*c.HeadDim/2 // the tokens that ask are the last: their angles begin here
	q = RoPE(q, cos[first:], sin[first:], c.HeadDim)
	see.step("self_attn.q_rope", q, c.Heads, c.HeadDim)
	k = RoPE(k, cos, sin, c.HeadDim)
	see.step("self_attn.k_rope", k, c.KVHeads, c.HeadDim)

	// 4. Keys and values of all tokens so far: [kvHeads] of [past+seq, headDim].
	keys, values := cache.extend(i, k, v)

	// 5. Each head mixes the values it matches.
	context := attend(q, keys, values, c.Heads, c.HeadDim, see) // [asking, heads*headDim]
	see.step("self_attn.context", context, w.O.Cols)

	// 6. Put the heads together, back to the width of the residual stream.
	y := Linear(context, w.O, w.OBias) // [asking, hidden]
	see.step("self_attn.o_proj", y, w.O.Rows)
	recycle(append(spent, q, k, context)...)
	return y
}

// Attention returns softmax(q·k / sqrt(headDim)) · v, causal, with each group of
// heads/kvHeads query heads reading the same key and value head.
//
// q is [seq, heads, headDim]; k and v are [past+seq, kvHeads, headDim], the keys
// and values of all tokens so far, of which the last seq belong to q's tokens.
// The result is [seq, heads, headDim]. see, which may be nil, is shown the
// probabilities, [heads, seq, past+seq], 0 where a token may not look.
//
// Panics if the lengths do not fit.
func Attention(q, k, v []float32, heads, kvHeads, headDim int, see Trace) []float32 {
	checkAttention(q, k, v, heads, kvHeads, headDim)
	keys, values := make([][]float32, kvHeads), make([][]float32, kvHeads)
	appendHeads(keys, k, headDim)
	appendHeads(values, v, headDim)
	return attend(q, keys, values, heads, headDim, see)
}

// attend is Attention with keys and values as the cache has them, [kvHeads] of
// [past+seq, headDim].
func attend(q []float32, keys, values [][]float32, heads, headDim int, see Trace) []float32 {
	seq, total := len(q)/(heads*headDim), len(keys[0])/headDim
	past, kvHeads, group := total-seq, len(keys), heads/len(keys)
	scale := float32(1 / math.Sqrt(float64(headDim)))
	context := floats(len(q)) // [seq, heads, headDim]
	var probs []float32
	if see != nil {
		probs = make([]float32, heads*seq*total)
	}

	// One unit of work is a few tokens and one key/value head with its group of
	// query heads: each cached row is read once for all of them.
	//
	//	tokens     0–5   6–11  12–17
	//	kvHead 0   unit 0   1     2
	//	kvHead 1        3   4     5
	blocks := (seq + attentionTokens - 1) / attentionTokens
	parallel(kvHeads*blocks, 1, func(from, to int) {
		b := attentionBuffers.Get().(*attentionBuffer)
		defer attentionBuffers.Put(b)
		for unit := from; unit < to; unit++ {
			kvHead, first := unit/blocks, unit%blocks*attentionTokens
			tokens := min(attentionTokens, seq-first)
			at := func(t int) int { return ((first+t)*heads + kvHead*group) * headDim }
			queries, out := grow(&b.queries, tokens*group*headDim), grow(&b.out, tokens*group*headDim)
			for t := range tokens {
				copy(queries[t*group*headDim:], q[at(t):at(t)+group*headDim])
			}
			visible := past + first + tokens // keys that the last of them sees
			width := (visible + 7) &^ 7      // of a row of scores: softmax works on multiples of 8
			scores := grow(&b.scores, tokens*group*width)

			// scores[t][g][s] = q·k[s] / sqrt(headDim)
			attentionScores(scores, queries, keys[kvHead][:visible*headDim], headDim, width, scale)
			// probs = softmax(scores), of the keys that are not later
			for t := range tokens {
				for g := range group {
					row := scores[(t*group+g)*width:][:width]
					seen := past + first + t + 1 // keys 0 … past+first+t
					for s := seen; s < width; s++ {
						row[s] = removed // e^-Inf is 0
					}
					current.softmax(row)
					if probs != nil {
						copy(probs[((kvHead*group+g)*seq+first+t)*total:], row[:visible])
					}
				}
			}
			// context[t][g] = Σ probs[t][g][s] * v[s]
			clear(out)
			attentionValues(out, scores, values[kvHead][:visible*headDim], headDim, width)
			for t := range tokens {
				copy(context[at(t):], out[t*group*headDim:][:group*headDim])
			}
		}
	})
	see.probs(probs, heads, seq, total)
	return context
}

// attentionTokens is how many new tokens look at the keys together. Each key that
// is loaded serves the queries of all of them; their scores, 6 * group * total
// numbers, are what a worker holds meanwhile. The kernels' tiles are 3 or 6 wide.
const attentionTokens = 6

// An attentionBuffer is what a worker holds for one unit.
type attentionBuffer struct {
	queries, out []float32 // [tokens, group, headDim]
	scores       []float32 // [tokens, group, width]
}

var attentionBuffers = sync.Pool{New: func() any { return new(attentionBuffer) }}

// checkAttention panics unless the lengths fit.
func checkAttention(q, k, v []float32, heads, kvHeads, headDim int) {
	if heads <= 0 || kvHeads <= 0 || headDim <= 0 || heads%kvHeads != 0 {
		panic(fmt.Sprintf("qwen: Attention: heads %d, kvHeads %d, headDim %d, want positive, heads a multiple of kvHeads", heads, kvHeads, headDim))
	}
	seq, total := len(q)/(heads*headDim), len(k)/(kvHeads*headDim)
	if len(q) != seq*heads*headDim || len(k) != total*kvHeads*headDim || len(v) != len(k) || seq > total {
		panic(fmt.Sprintf("qwen: Attention: len(q) %d, len(k) %d, len(v) %d for heads %d, kvHeads %d, headDim %d", len(q), len(k), len(v), heads, kvHeads, headDim))
	}
}

// Softmax returns exp(x[i]) / Σ exp(x[j]): numbers from 0 to 1 that sum to 1, in
// x's order of size. The maximum is subtracted first, which changes nothing but
// keeps exp from overflowing.
//
// An empty x gives an empty result.
func Softmax(x []float32) []float32 {
	y := append([]float32(nil), x...)
	softmax(y)
	return y
}

// softmax is Softmax in place. Kernels work on multiples of 8; what is missing
// to that is filled up with numbers whose exp is 0, in memory that tileBuffers keeps.
func softmax(x []float32) {
	if len(x)%8 == 0 {
		if len(x) > 0 {
			current.softmax(x)
		}
		return
	}
	p := tileBuffers.Get().(*tileBuffer)
	defer tileBuffers.Put(p)
	y := grow(&p.y, (len(x)+7)/8*8)
	for i := copy(y, x); i < len(y); i++ {
		y[i] = float32(math.Inf(-1))
	}
	current.softmax(y)
	copy(x, y)
}
