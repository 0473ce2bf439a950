package qwen

// RoPE tells attention where a token stands. Each head is cut into pairs of
// numbers, each pair is a point in a plane, and the point of a token at
// position pos is turned by the angle pos*invFreq[i]. The dot product of two
// turned points depends on their positions only through the difference, so a query
// sees how far back a key lies, and not where in the text the two stand.
//
// Which two numbers form a pair? Hugging Face's Qwen takes one from each half:
//
//	split halves (this file)           interleaved (Meta's Llama, GGUF's llama)
//	x:  0  1  2  3 | 4  5  6  7        x:  0  1 | 2  3 | 4  5 | 6  7
//	    a  b  c  d   a  b  c  d            a  a   b  b   c  c   d  d
//	pairs (0,4) (1,5) (2,6) (3,7)      pairs (0,1) (2,3) (4,5) (6,7)
//
// The numbers of a pair share a letter; there are the same four pairs in both pictures,
// laid out in two ways. The rows of a checkpoint's q_proj and k_proj are in the order of
// one of them, and the other takes apart what belongs together.
//
// With half = headDim/2 and pair i = (x[i], x[i+half]):
//
//	y[i]      = x[i]*cos - x[i+half]*sin
//	y[i+half] = x[i+half]*cos + x[i]*sin        angle = pos * invFreq[i]
//	                                            invFreq[i] = theta^(-2i/headDim)
//
// Pair 0 turns by one radian a token and pair half-1 by about 1/theta: the
// first pairs tell neighbours apart, the last ones tell chapters apart.
//
// Two ways to stretch this to texts longer than any in training are understood here:
// "linear" divides every frequency by a factor; "yarn" divides only the slow ones, and
// multiplies cos and sin by an attention factor.
//
// Numerics: Hugging Face forms invFreq and the angle in float32. A float32
// angle near 32767 is only good to 0.002, so an engine that multiplies in
// float64 gets other numbers, better ones, and does not agree with the
// reference. This file rounds where transformers rounds. float32(a*b) + c rounds the
// product, then the sum; without the conversion Go may round once for both, and on
// arm64 it does.
//
// Reference: transformers modeling_rope_utils.py (_compute_yarn_parameters,
// _compute_linear_scaling_rope_parameters) and modeling_qwen3.py
// (Qwen3RotaryEmbedding.forward, apply_rotary_pos_emb, rotate_half).
// YaRN: Peng et al., 2023, arXiv 2309.00071.
//
// Next: attention.go

import (
	"fmt"
	"math"
)

// RoPEConfig is rope_theta and rope_scaling, or rope_parameters, of config.json.
// Only Type and Theta are used by type "default"; "linear" adds Factor; the rest
// belongs to "yarn", where a pointer is nil if the file does not give the field.
type RoPEConfig struct {
	Type                 string   // rope_type: "default", "linear" or "yarn"
	Theta                float64  // rope_theta: 1e6 in Qwen2.5 and Qwen3
	Factor               float64  // how much longer than in training a text may be
	OriginalMaxPositions float64  // original_max_position_embeddings: the training length
	AttentionFactor      *float64 // attention_factor: multiplies cos and sin
	BetaFast, BetaSlow   float64  // turns within the training length above which a pair is kept, below which it is stretched
	MScale, MScaleAllDim float64  // mscale, mscale_all_dim: attention_factor by two weights, as DeepSeek has it; 0 if not given
	NoTruncate           bool     // "truncate": false: the bounds of the ramp stay fractions
}

// Rotary is a RoPEConfig worked out for one head width.
type Rotary struct {
	InvFreq []float32 // [headDim/2], radians a token
	Scale   float32   // multiplies cos and sin; 1 except for yarn
}

// NewRotary returns the frequencies of c for heads of headDim numbers:
// theta^(-2i/headDim) for pair i, stretched as c.Type says.
//
// Panics if headDim is odd or not positive, or if c.Type is unknown: Load has
// refused both with an error.
func NewRotary(c RoPEConfig, headDim int) Rotary {
	if headDim <= 0 || headDim%2 != 0 {
		panic(fmt.Sprintf("qwen: NewRotary: headDim %d, want a positive even number", headDim))
	}
	r := Rotary{InvFreq: make([]float32, headDim/2), Scale: 1}
	period := make([]float32, headDim/2) // tokens a radian: theta^(2i/headDim)
	for i := range period {
		// torch: 1.0 / base ** (torch.arange(0, dim, 2).float() / dim)
		exponent := float32(2*i) / float32(headDim)
		period[i] = float32(math.Pow(float64(float32(c.Theta)), float64(exponent)))
		r.InvFreq[i] = 1 / period[i]
	}
	switch c.Type {
	case "default":
	case "linear":
		for i := range r.InvFreq {
			r.InvFreq[i] /= float32(c.Factor)
		}
	case "yarn":
		r.stretchYaRN(c, period)
	default:
		panic(fmt.Sprintf("qwen: NewRotary: rope type %q, want default, linear or yarn", c.Type))
	}
	return r
}

// stretchYaRN divides the slow frequencies of r by c.Factor, keeps the fast
// ones, and blends between: a pair that makes more than BetaFast turns within
// the training length has seen every angle and needs no stretching, one that
// makes fewer than BetaSlow would meet angles it never saw.
//
//	keep[i]    = 1 - clamp((i - low) / (high - low), 0, 1)
//	invFreq[i] = invFreq[i]/factor * (1-keep[i]) + invFreq[i] * keep[i]
//
// low and high are the pairs with BetaFast and BetaSlow turns; period is
// 1/invFreq before its rounding.
func (r *Rotary) stretchYaRN(c RoPEConfig, period []float32) {
	headDim := 2 * len(period)
	// The pair that makes the given number of turns: solve
	// original * theta^(-2i/headDim) = 2π*turns for i.
	pairOf := func(turns float64) float64 {
		return float64(headDim) * math.Log(c.OriginalMaxPositions/(turns*2*math.Pi)) / (2 * math.Log(c.Theta))
	}
	low, high := pairOf(c.BetaFast), pairOf(c.BetaSlow)
	if !c.NoTruncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(headDim-1))
	if low == high {
		high += 0.001 // no division by zero: the ramp becomes a step
	}
	for i, f := range r.InvFreq {
		keep := 1 - min(max((float32(i)-float32(low))/float32(high-low), 0), 1)
		stretched := 1 / (float32(c.Factor) * period[i])
		r.InvFreq[i] = float32(stretched*(1-keep)) + float32(f*keep)
	}
	r.Scale = yarnAttentionFactor(c)
}

// yarnAttentionFactor returns what YaRN multiplies cos and sin with, so that
// attention over a longer text stays as sharp: 0.1*ln(factor) + 1, unless the
// config says otherwise.
func yarnAttentionFactor(c RoPEConfig) float32 {
	mscale := func(weight float64) float64 {
		if c.Factor <= 1 {
			return 1
		}
		return 0.1*weight*math.Log(c.Factor) + 1
	}
	switch {
	case c.AttentionFactor != nil:
		return float32(*c.AttentionFactor)
	case c.MScale != 0 && c.MScaleAllDim != 0:
		return float32(mscale(c.MScale) / mscale(c.MScaleAllDim))
	}
	return float32(mscale(1))
}

// Angles returns the cosines and sines of seq tokens, the first of which stands
// at position pos: each [seq, headDim/2]. They are the same in every layer.
func (r Rotary) Angles(pos, seq int) (cos, sin []float32) {
	half := len(r.InvFreq)
	cos, sin = make([]float32, seq*half), make([]float32, seq*half)
	for i := range seq {
		for j, f := range r.InvFreq {
			angle := float64(float32(pos+i) * f) // a float32 product, as in the reference
			cos[i*half+j] = float32(math.Cos(angle)) * r.Scale
			sin[i*half+j] = float32(math.Sin(angle)) * r.Scale
		}
	}
	return cos, sin
}

// RoPE returns x with every head turned to its token's position:
//
//	y[i]      = x[i]*cos[i]      - x[i+half]*sin[i]
//	y[i+half] = x[i+half]*cos[i] + x[i]*sin[i]
//
// x is [seq, heads, headDim], cos and sin are [seq, headDim/2] from
// [Rotary.Angles]; the result is [seq, heads, headDim].
//
// Panics if the lengths do not fit.
func RoPE(x, cos, sin []float32, headDim int) []float32 {
	half := headDim / 2
	if half == 0 || headDim%2 != 0 || len(cos) != len(sin) || len(cos)%half != 0 {
		panic(fmt.Sprintf("qwen: RoPE: len(cos) %d, len(sin) %d, want the same multiple of headDim/2, headDim %d", len(cos), len(sin), headDim))
	}
	seq := len(cos) / half
	if seq == 0 || len(x)%(seq*headDim) != 0 {
		panic(fmt.Sprintf("qwen: RoPE: len(x) %d, want a multiple of seq*headDim, %d*%d", len(x), seq, headDim))
	}
	width := len(x) / seq // heads*headDim
	y := floats(len(x))
	parallel(seq, max(1, share/max(1, width)), func(from, to int) {
		for t := from; t < to; t++ {
			c, s := cos[t*half:(t+1)*half], sin[t*half:(t+1)*half]
			for h := t * width; h < (t+1)*width; h += headDim {
				a, b := x[h:h+half], x[h+half:h+headDim] // the two halves of one head
				for i := range half {
					// torch: (q * cos) + (rotate_half(q) * sin)
					y[h+i] = float32(a[i]*c[i]) - float32(b[i]*s[i])
					y[h+half+i] = float32(b[i]*c[i]) + float32(a[i]*s[i])
				}
			}
		}
	})
	return y
}
