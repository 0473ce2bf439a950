package qwen

// Sampling chooses the next token from the logits. Greedy takes the largest;
// anything else draws one, after bending the distribution in Hugging Face's
// order and by its definitions, where l is a logit:
//
//	1 repetition penalty   each id that occurred: l/p if l > 0, else l*p
//	2 temperature          l / t: below 1 sharper, above 1 flatter
//	3 top-k                only the k largest (all that tie with the k-th stay)
//	4 top-p                only the smallest set of the likeliest whose sum is at least p
//	5 min-p                only those at least p times as likely as the likeliest
//	6 draw from the softmax of what is left
//
// A logit is a score of any size; softmax, exp(l) of each over the sum of all, makes
// probabilities of them (attention.go).
//
// Why not always the likeliest? Greedy text repeats itself: what was just said
// makes itself likelier, until the text goes in a circle. Why not simply draw?
// A vocabulary has 150,000 tokens, and nearly all of them are wrong at any place;
// each is unlikely, together they are not, and one of them is enough to lead a
// text astray. Steps 3 to 5 cut off this tail: by number, by sum, by ratio.
//
// Each step alone, on the same four logits (ExampleSampling_Filter runs them):
//
//	                          id 0     1     2     3
//	logits                     2.0   1.0   0.0  -1.0
//	their softmax             .644  .237  .087  .032
//	penalty 2 after 0 and 3    1.0   1.0   0.0  -2.0
//	temperature 0.5            4.0   2.0   0.0  -2.0   softmax .865 .117 .016 .002
//	top-k 2                    2.0   1.0    -     -
//	top-p 0.9                  2.0   1.0   0.0    -    .644+.237 is not yet 0.9
//	min-p 0.2                  2.0   1.0    -     -    the bar is 0.2*.644 = .129
//
// Numerics: float32, as the reference; the running sum of top-p in float64, each
// partial sum rounded to float32 before it is compared, which is what
// torch.cumsum does on the CPU. The random numbers are not torch's: the same seed
// gives the same text here, not the text that it gives there.
//
// Reference: transformers generation/logits_process.py and
// generation/utils.py, _get_logits_processor.
//
// Next: trace.go

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how to choose a token. The zero value is greedy.
type Sampling struct {
	Temperature       float64 // 0: greedy
	TopK              int     // 0 or -1: off
	TopP              float64 // 0 or 1: off
	MinP              float64 // 0: off
	RepetitionPenalty float64 // 0 or 1: off; it counts for greedy too
	// Seed decides what is drawn: the same seed gives the same choices. 0 is a seed like any
	// other: set it where answers should differ.
	Seed uint64
}

// check returns what is wrong with the settings, or "".
func (s Sampling) check() string {
	within := func(name string, x, low, high float64) string {
		if !(x >= low && x <= high) { // NaN is not
			return fmt.Sprintf("%s: found %v, expected %v to %v", name, x, low, high)
		}
		return ""
	}
	return cmp.Or(
		within("temperature", s.Temperature, 0, math.MaxFloat32),
		within("top_p", s.TopP, 0, 1),
		within("min_p", s.MinP, 0, 1),
		within("repetition_penalty", s.RepetitionPenalty, 0, math.MaxFloat32),
		within("top_k", float64(s.TopK), -1, maxSize),
	)
}

// choose returns the id of the next token. ids are the tokens so far, prompt included.
func (s Sampling) choose(logits []float32, ids []int, random *rand.Rand) int {
	scores := s.Filter(logits, ids)
	if s.Temperature == 0 {
		return argmax(scores)
	}
	return draw(scores, random.Float64())
}

// Filter returns the logits after repetition penalty, temperature, top-k, top-p and
// min-p, in this order, [vocab] like logits: a removed token is at -Inf, where its
// probability is e^-Inf = 0. ids are the tokens so far, prompt included, for the penalty.
// Greedy settings (Temperature 0) only penalise.
//
// The order is part of the definition. Top-p after a temperature below 1 keeps
// fewer tokens than before it, and what top-k has removed counts nothing in the
// sum of top-p.
func (s Sampling) Filter(logits []float32, ids []int) []float32 {
	scores := slices.Clone(logits)
	if s.RepetitionPenalty != 0 && s.RepetitionPenalty != 1 {
		penalise(scores, ids, float32(s.RepetitionPenalty))
	}
	if s.Temperature == 0 || len(scores) == 0 {
		return scores
	}
	best := argmax(scores)
	if s.Temperature != 1 {
		for i := range scores {
			scores[i] /= float32(s.Temperature)
		}
	}
	if !finite(scores[best]) { // so cold that the scores overflow: only the likeliest is left
		for i := range scores {
			scores[i] = removed
		}
		scores[best] = 0
	}
	if s.TopK > 0 && s.TopK < len(scores) {
		keepTopK(scores, s.TopK)
	}
	if s.TopP > 0 && s.TopP < 1 {
		keepTopP(scores, s.TopP)
	}
	if s.MinP > 0 {
		keepMinP(scores, float32(s.MinP))
	}
	return scores
}

var removed = float32(math.Inf(-1)) // a score that cannot be drawn

// penalise makes each id that occurred less likely, once, however often it did:
// l/p where l > 0, l*p where it is not, since dividing -1 by 2 would raise it.
//
// The formula is an odd one. Softmax does not care about a constant added to all
// logits, but this does: the same distribution, moved up by 10, is penalised more.
// It is kept because published settings are tuned to it.
//
// Reference: RepetitionPenaltyLogitsProcessor; Keskar et al., 2019, arXiv 1909.05858.
func penalise(scores []float32, ids []int, penalty float32) {
	done := make(map[int]bool, len(ids))
	for _, id := range ids {
		if id < 0 || id >= len(scores) || done[id] {
			continue
		}
		done[id] = true
		if scores[id] < 0 {
			scores[id] *= penalty
		} else {
			scores[id] /= penalty
		}
	}
}

// keepTopK removes what is smaller than the k-th largest score. It keeps the same
// number of tokens whether the model is sure or has no idea: too many after "New
// York is in the United", too few after "My name is".
//
// torch: scores < torch.topk(scores, top_k)[0][..., -1, None]
func keepTopK(scores []float32, k int) {
	top := largest(scores, k)
	kth := scores[top[len(top)-1]]
	for i, v := range scores {
		if v < kth {
			scores[i] = removed
		}
	}
}

// keepTopP removes the least likely tokens as long as their probabilities sum to
// no more than 1-p. The likeliest always stays. How many are left depends on the
// distribution: one where the model is sure, thousands where it is not.
//
//	p = 0.9, likely last    id 3    2       1       0
//	running sum             .032    .119    .356    1
//	                        ≤ .1    > .1: stop, this one and all after it stay
//
// torch: cumulative_probs <= (1 - top_p), on probabilities sorted upwards.
// Holtzman et al., 2019, arXiv 1904.09751 (nucleus sampling).
func keepTopP(scores []float32, p float64) {
	order := make([]int, 0, len(scores)) // the ids that are left, [at most vocab], least likely first
	for i, v := range scores {
		if v > removed {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { // of equals the higher id goes first
		return cmp.Or(cmp.Compare(scores[a], scores[b]), cmp.Compare(b, a))
	})
	probs := make([]float32, len(order))
	for i, id := range order {
		probs[i] = scores[id]
	}
	softmax(probs)
	sum, limit := 0.0, float32(1-p)
	for i, id := range order[:len(order)-1] {
		if sum += float64(probs[i]); float32(sum) > limit {
			break
		}
		scores[id] = removed
	}
}

// keepMinP removes what is less than p times as likely as the likeliest: where the
// model is sure the bar is high, where it is not the bar is low.
//
// torch: probs < min_p * top_probs. Nguyen et al., 2024, arXiv 2407.01082.
func keepMinP(scores []float32, p float32) {
	probs := Softmax(scores)
	limit := p * probs[argmax(probs)]
	for i, v := range probs {
		if v < limit {
			scores[i] = removed
		}
	}
}

// draw returns the token at u, 0 <= u < 1, of the probabilities laid end to end:
//
//	0                .644     .881 .968 1
//	├──────── 0 ───────┼── 1 ──┼─ 2 ─┼3┤
//	                       ↑ u = 0.7 is token 1
//
// A token that was removed has no length, so u cannot hit it. The sum is taken
// again in float64 and u scaled by it: 150,000 roundings to float32 leave the
// probabilities a little off 1, and a u beyond their end would hit nothing.
func draw(scores []float32, u float64) int {
	probs := Softmax(scores)
	total := 0.0
	for _, p := range probs {
		total += float64(p)
	}
	last, sum := 0, 0.0
	for i, p := range probs {
		if p == 0 {
			continue
		}
		if last, sum = i, sum+float64(p); u*total < sum {
			break
		}
	}
	return last
}

// argmax returns the index of the largest number, the first of equals, as
// torch.argmax does: two engines that break ties differently write different texts.
func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// largest returns the indices of the k largest numbers, largest first, the lower
// index first among equals. 0 < k <= len(x).
func largest(x []float32, k int) []int {
	before := func(a, b int) int { return cmp.Or(cmp.Compare(x[b], x[a]), cmp.Compare(a, b)) }
	if k > 256 { // inserting into a long list costs more than sorting everything
		order := make([]int, len(x))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, before)
		return order[:k]
	}
	top := make([]int, 0, k+1) // sorted
	for i := range x {
		if len(top) == k && x[i] <= x[top[k-1]] {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, i, before)
		top = slices.Insert(top, at, i)[:min(len(top)+1, k)]
	}
	return top
}

// logProbs returns the k most likely tokens with log softmax of their logits:
//
//	log(exp(l[i]) / Σ exp(l[j])) = l[i] - peak - log(Σ exp(l[j] - peak))
//
// The right side never takes the logarithm of a probability that has become 0, nor
// exp of anything above 0.
func logProbs(logits []float32, k int) []LogProb {
	peak := float64(logits[argmax(logits)])
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - peak)
	}
	var out []LogProb
	for _, id := range largest(logits, min(k, len(logits))) {
		out = append(out, LogProb{id, float64(logits[id]) - peak - math.Log(sum)})
	}
	return out
}
