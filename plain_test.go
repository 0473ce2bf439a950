package qwen

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tensorsOf returns a recording's numbers by their place.
func tensorsOf(t *testing.T, m *Model, r *Recording) map[place][]float64 {
	t.Helper()
	all := map[place][]float64{}
	for _, x := range r.Tensors {
		v, err := numbers(x)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := placeOf(x.Name, m.Config.Layers); ok {
			all[p] = wide(v)
		}
	}
	return all
}

// apart is the largest difference, by the largest number. NaN is Inf.
func apart(got, want []float64) float64 {
	if len(got) != len(want) || len(got) == 0 {
		return math.Inf(1)
	}
	most, size := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(got[i] - w)
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		most, size = max(most, d), max(size, math.Abs(w))
	}
	return most / size
}

// TestPlain runs each step of the plain network on transformers' own inputs.
func TestPlain(t *testing.T) {
	defer answers(t, "plain")()
	for _, model := range []string{"qwen2-tiny", "qwen3-tiny"} {
		m, rec := openTiny(t, model, model+"/trace.safetensors")
		ref := tensorsOf(t, m, rec)
		places := m.places()
		if want := map[string]int{"qwen2-tiny": 1 + 2*17 + 2, "qwen3-tiny": 1 + 2*19 + 2}[model]; len(places) != want || len(ref) != want {
			t.Errorf("%s: %d places, %d of them recorded, want %d", model, len(places), len(ref), want)
		}
		p := newPlain(m, rec.IDs)
		p.ref = ref
		for _, at := range places {
			for _, x := range rec.Tensors {
				if x.Name == at.name() && !slices.Equal(x.Shape, m.shape(at, len(rec.IDs))) {
					t.Errorf("%s: %s has the shape %v, transformers' %v", model, x.Name, m.shape(at, len(rec.IDs)), x.Shape)
				}
			}
			y := p.trial(inFloat64, nil).compute(at)
			if e := apart(y, ref[at]); !(e <= 2e-6) {
				t.Errorf("%s: %s: error %.1e of the largest number, tolerance 2e-06", model, at.name(), e)
			}
			if cone := p.cone(at); !slices.Equal(cone, []place{at}) {
				t.Errorf("%s: %s is made of %v, though all of that is recorded", model, at.name(), cone)
			}
			for _, tt := range []struct {
				prec      precision
				tolerance float64
			}{{inFloat32, 4e-6}, {inBF16, 0.1}, {inF16, 0.01}} {
				z := p.trial(tt.prec, nil).compute(at)
				if e := apart(z, y); !(e <= tt.tolerance) {
					t.Errorf("%s: %s: rounded to %s: %.1e apart, tolerance %.0e", model, at.name(), tt.prec.cause, e, tt.tolerance)
				}
				for i, v := range z {
					if tt.prec.round(v) != v {
						t.Errorf("%s: %s: element %d is %v, which is not rounded to %s", model, at.name(), i, v, tt.prec.cause)
						break
					}
				}
			}
		}
	}
}

// TestPlainVariants holds the plain network against the fast one, whose logits are
// transformers': biases, YaRN, one key head, and so on.
func TestPlainVariants(t *testing.T) {
	defer answers(t, "plain")()
	dirs, _ := filepath.Glob("testdata/variants/*")
	if len(dirs) < 15 {
		t.Fatalf("%d variants", len(dirs))
	}
	for _, dir := range dirs {
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		ids := make([]int, 11)
		for i := range ids {
			ids[i] = (7*i*i + 3) % m.Config.Vocab
		}
		rec, err := m.Record(ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := newPlain(m, ids)
		p.ref = tensorsOf(t, m, rec)
		for _, at := range m.places() {
			y := p.trial(inFloat64, nil).compute(at)
			if e := apart(y, p.ref[at]); !(e <= 4e-6) {
				t.Errorf("%s: %s: error %.1e of the largest number, tolerance 4e-06", dir, at.name(), e)
			}
		}
		// From the ids alone.
		alone, head := newPlain(m, ids), place{m.Config.Layers, "lm_head"}
		if e := apart(alone.trial(inFloat64, nil).compute(head), p.ref[head]); !(e <= 2e-5) {
			t.Errorf("%s: the logits from the ids alone: error %.1e of the largest number, tolerance 2e-05", dir, e)
		}
		if cone := alone.cone(head); !slices.Equal(cone, m.places()) {
			t.Errorf("%s: the logits are made of %v", dir, cone)
		}
		m.Close()
	}
}

// TestPlainPlaces asks for the weights of every place.
func TestPlainPlaces(t *testing.T) {
	defer answers(t, "plain")()
	m, _ := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	for _, at := range m.places() {
		norm, linear := strings.Contains(at.op, "norm"), strings.HasSuffix(at.op, "_proj") || at.op == "lm_head"
		w, _, ok := m.linear(at)
		if (m.norm(at) != nil) != norm || ok != linear || ok && w.Rows == 0 {
			t.Errorf("%s: a norm's weight of %d, a Linear's: %v", at.name(), len(m.norm(at)), ok)
		}
	}
	for _, at := range []place{{-1, "q_proj"}, {2, "q_proj"}, {-1, "q_norm"}, {2, "input_layernorm"}, {0, "gated"}, {-1, "embed_tokens"}} {
		if w, _, ok := m.linear(at); ok || w.Data != nil || m.norm(at) != nil {
			t.Errorf("%v has weights", at)
		}
	}
	for op, want := range map[string]bool{"embed_tokens": true, "lm_head": true, blockOutput: true, "probs": true, "q": false, "": false, "self_attn": false} {
		if isStep(op) != want {
			t.Errorf("isStep(%q) is %v", op, !want)
		}
	}
}

// TestPlainRows has no ids outside of the table.
func TestPlainRows(t *testing.T) {
	defer answers(t, "plain")()
	m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	c := &call{newPlain(m, rec.IDs).trial(inFloat64, nil), place{-1, "embed_tokens"}}
	for row, ok := range map[int]bool{0: true, 96: true, 97: false, -1: false} {
		if y := c.rows(func(int) int { return row }); (y != nil) != ok || ok && len(y) != len(rec.IDs)*m.Config.Hidden {
			t.Errorf("row %d: got %d numbers", row, len(y))
		}
	}
}

// TestPlainRounding computes what an engine of that precision would, one number
// after the other; without rounding, float64 is what the result must have.
func TestPlainRounding(t *testing.T) {
	defer answers(t, "plain")()
	m, rec := openTiny(t, "qwen2-tiny", "qwen2-tiny/trace.safetensors")
	ids := rec.IDs[:3]
	cfg, seq := m.Config, len(ids)
	asIs := func(v float64) float64 { return v }
	for _, prec := range []precision{inFloat64, inFloat32, inBF16, inF16} {
		r, single := prec.round, func(v float64) float64 { return float64(float32(v)) }
		if r == nil {
			r, single = asIs, asIs
		}
		random := uint32(1)
		numbers := func(n int) []float64 {
			x := make([]float64, n)
			for i := range x {
				random = random*1664525 + 1013904223
				x[i] = r(float64(int32(random)) / (1 << 29))
			}
			return x
		}
		dot := func(a, b []float64) float64 {
			sum := 0.0
			for i, v := range a {
				sum = single(sum + single(v*b[i]))
			}
			return sum
		}
		same := func(what string, got, want []float64) {
			t.Helper()
			if !slices.Equal(got, want) && !(prec.round == nil && apart(got, want) < 1e-14) {
				t.Errorf("%s of %q is not rounded as it should be: %.1e apart", what, prec.cause, apart(got, want))
			}
		}
		c := &call{newPlain(m, ids).trial(prec, nil), place{1, "q_proj"}}

		x, w := numbers(seq*cfg.Hidden), numbers(cfg.Hidden)
		for _, centre := range []bool{false, true} {
			var want []float64
			for t := range seq {
				row, mean, square := x[t*cfg.Hidden:(t+1)*cfg.Hidden], 0.0, 0.0
				for _, v := range row {
					mean += v / float64(cfg.Hidden)
				}
				if !centre {
					mean = 0
				}
				for _, v := range row {
					square = single(square + (v-mean)*(v-mean))
				}
				for i, v := range row {
					want = append(want, r(r((v-mean)*(1/math.Sqrt(square/float64(cfg.Hidden)+1e-3)))*r(w[i])))
				}
			}
			same("RMSNorm", c.rms(x, w, 1e-3, centre), want)
		}

		matrix, bias, _ := m.linear(c.place)
		for _, b := range [][]float32{bias, nil} {
			want := make([]float64, seq*matrix.Rows)
			for t := range seq {
				for j := range matrix.Rows {
					row := wide(matrix.Row(j))
					for i := range row {
						row[i] = r(row[i])
					}
					add := 0.0
					if b != nil {
						add = r(float64(b[j]))
					}
					want[t*matrix.Rows+j] = r(r(dot(row, x[t*cfg.Hidden:(t+1)*cfg.Hidden])) + add)
				}
			}
			same("Linear", c.linear(x, matrix, b), want)
		}

		q, k := numbers(seq*cfg.Heads*cfg.HeadDim), numbers(seq*cfg.KVHeads*cfg.HeadDim)
		var turned []float64
		n := cfg.HeadDim / 2
		for t := range seq {
			for h := range cfg.Heads {
				head := q[(t*cfg.Heads+h)*cfg.HeadDim:][:cfg.HeadDim]
				for j := range head {
					freq := m.rotary.InvFreq[j%n]
					if prec.round != nil {
						freq = math.Nextafter32(freq, 2)
					}
					angle := float64(float32(t+1) * freq)
					other := -head[(j+n)%cfg.HeadDim]
					if j >= n {
						other = head[j-n]
					}
					turned = append(turned, r(r(head[j]*r(math.Cos(angle)*1.5))+r(other*r(math.Sin(angle)*1.5))))
				}
			}
		}
		same("RoPE", c.turnScaled(q, c.halves(c.frequencies()), 1, 1.5), turned)

		probs := make([]float64, cfg.Heads*seq*seq)
		mixed := make([]float64, seq*cfg.Heads*cfg.HeadDim)
		group := cfg.Heads / cfg.KVHeads
		for h := range cfg.Heads {
			for t := range seq {
				row, total, largest := probs[(h*seq+t)*seq:][:seq], 0.0, math.Inf(-1)
				for s := range t + 1 {
					row[s] = r(r(dot(q[(t*cfg.Heads+h)*cfg.HeadDim:][:cfg.HeadDim], k[(s*cfg.KVHeads+h/group)*cfg.HeadDim:][:cfg.HeadDim])) * 0.3)
					largest = max(largest, row[s])
				}
				for s := range t + 1 {
					row[s] = math.Exp(row[s] - largest)
					total += row[s]
				}
				for s := range t + 1 {
					row[s] = r(row[s] / total)
				}
				out := mixed[(t*cfg.Heads+h)*cfg.HeadDim:][:cfg.HeadDim]
				for i := range out {
					for s := range seq {
						out[i] = single(out[i] + row[s]*k[(s*cfg.KVHeads+h/group)*cfg.HeadDim+i])
					}
					out[i] = r(out[i])
				}
			}
		}
		same("softmax", c.attend(q, k, 0.3, causal, c.group), probs)
		same("the mixed values", c.mix(probs, k, c.group), mixed)
		sum, product := make([]float64, len(q)), make([]float64, len(q))
		for i, v := range q {
			sum[i], product[i] = r(v+turned[i]), r(v*turned[i])
		}
		same("a sum", c.sum(q, turned), sum)
		same("a product", c.times(q, turned), product)
	}
}

// TestRounding has ties and the ends of the range.
func TestRounding(t *testing.T) {
	defer answers(t, "yardstick")()
	inf := math.Inf(1)
	for _, tt := range []struct {
		name  string
		round func(float64) float64
		pairs [][2]float64
	}{
		{"bfloat16", roundBF16, [][2]float64{{1, 1}, {1 + 1.0/256, 1}, {1 + 3.0/256, 1 + 4.0/256}, {1 + 1.1/256, 1 + 2.0/256}, {-1 - 3.0/256, -1 - 4.0/256}, {1e-3, 0.00099945068359375}, {inf, inf}, {-inf, -inf}, {1e39, 1e39}, {0, 0}}},
		{"float16", roundF16, [][2]float64{{1, 1}, {1 + 1.0/2048, 1}, {1 + 3.0/2048, 1 + 4.0/2048}, {65504, 65504}, {1e6, 65504}, {-1e6, -65504}, {inf, 65504}, {0, 0}, {6e-8, 0x1p-24}}},
		{"float32", inFloat32.round, [][2]float64{{1 + 0x1p-24, 1}, {1 + 0x3p-24, 1 + 0x1p-22}, {0.5, 0.5}}},
	} {
		for _, p := range tt.pairs {
			if got := tt.round(p[0]); got != p[1] {
				t.Errorf("%g rounded to %s is %g, want %g", p[0], tt.name, got, p[1])
			}
		}
	}
	if !math.IsNaN(roundBF16(math.NaN())) {
		t.Error("NaN rounded to bfloat16 is a number")
	}
	// unit is the largest relative error of one rounding, or half of it.
	for _, prec := range []precision{inFloat32, inBF16, inF16} {
		worst := 0.0
		for v := 1.0; v < 2; v += prec.unit / 8 {
			worst = max(worst, math.Abs(prec.round(v)-v)/v)
			if prec.unit < 1e-6 && v > 1+1e-5 {
				break
			}
		}
		want := prec.unit
		if prec.cause != "" { // in two bytes
			want *= 2
		}
		if !(worst <= want && worst > 0.98*want) {
			t.Errorf("%s: the largest error of a rounding is %g, want %g", prec.cause, worst, want)
		}
	}
}

// TestNoise computes the yardstick of a few rows by its definition.
func TestNoise(t *testing.T) {
	defer answers(t, "yardstick")()
	prec := precision{unit: 0.01}
	x := []float64{
		3, -4, // its own noise is the largest: 0.3 and 0.5, beyond 0.03 and 0.04 of one rounding each
		30, 40, // half a unit of its size, and less noise than usual
		0, 0, // nothing
		6, 8, // no noise: the usual share of its size
		1, 1, // infinite noise counts for nothing
	}
	y := []float64{3.3, -4.5, 30.1, 40.2, 0, 0, 6, 8, math.Inf(1), 1}
	rms := func(a, b float64) float64 { return math.Sqrt((a*a + b*b) / 2) }
	own := rms(0.3-0.03, 0.5-0.04)
	// shares of the rows that are not zero: own by size, 0, 0, 0: the third of four in order is 0
	want := []float64{own, 0.005 * rms(30, 40), 0, 0.005 * rms(6, 8), 0.005}
	near := func(got, want []float64) bool {
		return slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Abs(b) })
	}
	if s := noise(x, y, 2, prec); !near(s.sigma, want) || s.prec.unit != prec.unit {
		t.Errorf("got %v, want %v", s.sigma, want)
	}
	// Two noisy rows of three: their share is the usual one.
	x, y = []float64{1, 1, 1, 1, 4, 4}, []float64{1.2, 1.2, 1.3, 1.3, 4, 4}
	want = []float64{0.19, 0.29, 0.19 * 4}
	if s := noise(x, y, 2, prec); !near(s.sigma, want) {
		t.Errorf("got %v, want %v", s.sigma, want)
	}
	if s := noise([]float64{0, 0}, []float64{0, 0}, 2, prec); !slices.Equal(s.sigma, []float64{0}) {
		t.Errorf("of zeros: got %v", s.sigma)
	}
}

// TestDistance measures by hand.
func TestDistance(t *testing.T) {
	defer answers(t, "yardstick")()
	inf, nan := math.Inf(1), math.NaN()
	s := yardstick{[]float64{0.5, 2, nan}, precision{unit: 0.25, most: 3, mean: 2}}
	for _, tt := range []struct {
		name      string
		got, want []float64
		d         distance
	}{
		{"equal", []float64{1, 2, 3, 4, 5, 6}, []float64{1, 2, 3, 4, 5, 6}, distance{0, 0, 6, 0, 0}},
		// 1 of 0.5+0.25*2 is 1 yard; 3 of 2+0.25*4 is 1 yard
		{"one in each of two rows", []float64{2, 2, 1, 4, 5, 6}, []float64{1, 2, 4, 4, 5, 6}, distance{3, math.Sqrt(10. / 6), 6, math.Sqrt(2. / 6), 1. / 3}},
		{"a large one", []float64{1, 2, 3, 14, 5, 6}, []float64{1, 2, 3, 4, 5, 6}, distance{10, 10 / math.Sqrt(6), 6, 10 / 5.5 / math.Sqrt(6), 10 / 5.5 / 3}},
		{"the mean is what counts", []float64{9, 9, 9, 9, 5, 6}, []float64{-9, -9, -9, -9, 5, 6}, distance{18, 18 * math.Sqrt(4./6), 9, math.Sqrt((2*math.Pow(18/2.75, 2) + 2*math.Pow(18/4.25, 2)) / 6), math.Sqrt((2*math.Pow(18/2.75, 2)+2*math.Pow(18/4.25, 2))/6) / 2}},
		{"not a number", []float64{nan, 2, 3, 4, 5, 6}, []float64{1, 2, 3, 4, 5, 6}, distance{inf, inf, 6, nan, nan}},
		{"the same infinity", []float64{inf, 2, 3, 4, 5, 6}, []float64{inf, 2, 3, 4, 5, 6}, distance{0, 0, inf, 0, 0}},
		{"not a number in either", []float64{nan, 2, 3, 4, 5, 6}, []float64{nan, 2, 3, 4, 5, 6}, distance{0, 0, nan, 0, 0}},
		{"a row without a yardstick", []float64{1, 2, 3, 4, 50, 6}, []float64{1, 2, 3, 4, 5, 6}, distance{45, 45 / math.Sqrt(6), 6, 0, 0}},
	} {
		d := s.distance(tt.got, tt.want)
		g, w := []float64{d.max, d.rms, d.size, d.yards, d.excess}, []float64{tt.d.max, tt.d.rms, tt.d.size, tt.d.yards, tt.d.excess}
		for i := range g {
			if !(g[i] == w[i] || math.Abs(g[i]-w[i]) <= 1e-12*w[i] || math.IsNaN(g[i]) && math.IsNaN(w[i])) {
				t.Errorf("%s: got %v, want %v", tt.name, g, w)
				break
			}
		}
	}
	// A mean that exceeds its share although no single number does.
	s = yardstick{[]float64{1}, precision{most: 60, mean: 0.5}}
	if d := s.distance([]float64{1, 1}, []float64{0, 0}); math.Abs(d.excess-2) > 1e-12 {
		t.Errorf("excess is %g, want 2", d.excess)
	}
}

// findTest is a mistake that is known to this test only.
var findTest = mistake{cause: "test", at: "q_proj", says: "times %g", fit: byFactor, tries: constants(1),
	run: func(c *call) []float64 { return c.scaled(c.value()) }}

// subjectOf is what a reference holds at a place, to be explained.
func subjectOf(p *plain, at place, want []float64) *subject {
	y := p.trial(inFloat64, nil).compute(at)
	shape := p.m.shape(at, len(p.ids))
	s := &subject{place: at, name: at.name(), want: want, width: shape[len(shape)-1], prec: inFloat32, cone: p.cone(at)}
	s.ruler = noise(y, p.trial(inFloat32, nil).compute(at), s.width, inFloat32)
	s.own = s.ruler.distance(y, want)
	return s
}

// TestFitted finds a constant that was put in here.
func TestFitted(t *testing.T) {
	defer answers(t, "plain.find")()
	m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	at := place{1, "q_proj"}
	for _, tt := range []struct {
		name  string
		fit   fitting
		tries []float64
		value float64 // that was put in
		run   func(c *call, v float64) []float64
		ok    bool
	}{
		{"a factor", byFactor, []float64{1}, 3.5, func(c *call, v float64) []float64 { return c.scaled(v) }, true},
		{"a factor far away", byFactor, []float64{1}, 4000, func(c *call, v float64) []float64 { return c.scaled(v) }, true},
		{"a small factor", byFactor, []float64{1}, 0.00125, func(c *call, v float64) []float64 { return c.scaled(v) }, true},
		{"a factor of no short form", byFactor, []float64{1, 100}, 1.2345678, func(c *call, v float64) []float64 { return c.scaled(v) }, true},
		{"a step", byStep, []float64{0}, 0.25, func(c *call, v float64) []float64 { return c.each(c.right(), func(x float64) float64 { return x + v }) }, true},
		{"a step that is not straight", byStep, []float64{1}, -3, func(c *call, v float64) []float64 {
			return c.each(c.right(), func(x float64) float64 { return math.Atan(x + v) })
		}, true},
		{"a tiny step", byStep, []float64{0, 1}, 2e-6, func(c *call, v float64) []float64 {
			return c.each(c.right(), func(x float64) float64 { return x + 1e4*v })
		}, true},
		{"a tiny step that is not straight", byStep, []float64{0}, 2e-6, func(c *call, v float64) []float64 {
			return c.each(c.right(), func(x float64) float64 { return x + math.Tanh(1e6*v) })
		}, true},
		{"not possible further on", byFactor, []float64{1}, 2, func(c *call, v float64) []float64 {
			if v > 1.5 && v != 2 {
				return nil
			}
			return c.scaled(v)
		}, false},
		{"possible only here", byFactor, []float64{1}, 2, func(c *call, v float64) []float64 {
			if v > 1.00001 && v != 2 {
				return nil
			}
			return c.scaled(v)
		}, false},
		{"the second best start", byStep, []float64{-2, 10, 2.5}, 3, func(c *call, v float64) []float64 {
			return c.each(c.right(), func(x float64) float64 { return x * v * v * v })
		}, true},
		{"as tried", asTried, []float64{5, 7, 6}, 6, func(c *call, v float64) []float64 { return c.scaled(v) }, true},
		{"a count", asCount, []float64{5, 7, 6}, 7, func(c *call, v float64) []float64 { return c.scaled(v) }, true},
		{"a count that was not tried", asCount, []float64{5, 7, 6}, 7.1, func(c *call, v float64) []float64 { return c.scaled(v) }, false},
		{"no constant", asTried, nil, 0, func(c *call, v float64) []float64 { return c.scaled(2) }, true},
		{"nothing of the kind", byFactor, []float64{1}, math.NaN(), func(c *call, v float64) []float64 { return c.scaled(v) }, false},
		{"nothing to see", byFactor, []float64{1}, 2, func(c *call, v float64) []float64 { return c.right() }, false},
		{"not possible here", byFactor, []float64{1}, 2, func(c *call, v float64) []float64 { return nil }, false},
	} {
		p := newPlain(m, rec.IDs)
		p.ref = tensorsOf(t, m, rec)
		right := p.trial(inFloat64, nil).compute(at)
		k := &mistake{cause: "test", at: at.op, fit: tt.fit, run: func(c *call) []float64 { return tt.run(c, c.value()) }}
		if tt.tries != nil {
			k.tries = constants(tt.tries...)
		}
		want := make([]float64, len(right))
		if made, ok := p.try(&subject{place: at, want: right}, &patch{k, []string{at.op}, at.layer, tt.value}, inFloat32); ok && !math.IsNaN(tt.value) {
			copy(want, made)
		} else {
			for i, v := range right {
				want[i] = v + float64(i%7)
			}
		}
		if tt.name == "nothing to see" {
			want[3]++
		}
		s := subjectOf(p, at, want)
		f, ok := p.fitted(s, patch{k, []string{at.op}, at.layer, 0})
		if ok != tt.ok || ok && !(math.Abs(f.value-tt.value) <= 2e-7*math.Abs(tt.value)) || ok && f.residual.excess > 1 {
			t.Errorf("%s: got %v, %.9g, excess %.2g, want %v, %.9g", tt.name, ok, f.value, f.residual.excess, tt.ok, tt.value)
		}
	}
}

// TestTry makes a mistake in the middle of a block of which only the ends are
// recorded, and holds what comes out against the same done by hand.
func TestTry(t *testing.T) {
	defer answers(t, "plain.find")()
	m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	all := tensorsOf(t, m, rec)
	ends := func() *plain {
		p := newPlain(m, rec.IDs)
		for _, at := range []place{{-1, "embed_tokens"}, {0, blockOutput}, {1, blockOutput}} {
			p.ref[at] = all[at]
		}
		return p
	}
	at := place{1, blockOutput}
	p := ends()
	right := p.trial(inFloat64, nil).compute(at)
	var names []string
	for _, c := range p.cone(at) {
		names = append(names, c.name())
	}
	var want []string
	for _, c := range m.places() {
		if c.layer == 1 {
			want = append(want, c.name())
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("the block is made of %v", names)
	}
	for _, tt := range []struct {
		ops   []string
		layer int
	}{{[]string{"q_proj"}, 1}, {[]string{"k_norm"}, 1}, {[]string{"q_proj", "gated"}, everyLayer}, {[]string{blockOutput}, 1}, {[]string{"q_proj"}, 0}, {[]string{"norm"}, everyLayer}} {
		a := patch{&findTest, tt.ops, tt.layer, 3}
		got, ok := p.try(&subject{place: at, want: right, cone: p.cone(at)}, &a, inFloat64)
		if fresh, ok := ends().try(&subject{place: at, want: right}, &a, inFloat64); !ok || !slices.Equal(fresh, got) {
			t.Errorf("%v in layer %d: the network must be run without a mistake first", tt.ops, tt.layer)
		}
		hand := ends() // each changed step is recorded as it then is
		for _, op := range tt.ops {
			c := place{1, op}
			if tt.layer == 0 || op == "norm" {
				continue
			}
			x := slices.Clone(hand.trial(inFloat64, nil).compute(c))
			for i := range x {
				x[i] *= 3
			}
			if c == at {
				hand.ref[at] = x
				continue
			}
			hand.ref[c] = x
		}
		w := hand.trial(inFloat64, nil).compute(at)
		if tt.ops[0] == blockOutput {
			w = hand.ref[at]
		}
		if !ok || apart(got, w) > 1e-12 {
			t.Errorf("%v in layer %d: %v, %.1e apart", tt.ops, tt.layer, ok, apart(got, w))
		}
		if changed := apart(got, right) > 1e-6; changed != (tt.layer != 0 && tt.ops[0] != "norm") {
			t.Errorf("%v in layer %d: changed: %v", tt.ops, tt.layer, changed)
		}
	}
	if again := p.trial(inFloat64, nil).compute(at); !slices.Equal(again, right) {
		t.Error("what a mistake made has stayed")
	}
	if rounded := p.trial(inFloat32, nil).compute(at); apart(rounded, right) == 0 || apart(rounded, right) > 1e-5 {
		t.Errorf("the whole block rounded is %.1e apart", apart(rounded, right))
	}
}

// TestSites has every form of the list of steps, in cones that hold some of them.
func TestSites(t *testing.T) {
	defer answers(t, "plain.find")()
	cone := func(layer int, ops ...string) (all []place) {
		for _, op := range ops {
			all = append(all, place{layer, op})
		}
		return all
	}
	for _, tt := range []struct {
		at, want string
		cone     []place
	}{
		{"a", "[[a]]", cone(0, "a", "b")},
		{"a b", "[[a b]]", cone(0, "a", "b", "c")},
		{"a b", "[[b]]", cone(0, "b", "c")},
		{"a b", "[]", cone(0, "c")},
		{"a b|c", "[[a b] [c]]", cone(0, "a", "b", "c")},
		{"a b|a", "[[a]]", cone(0, "a", "c")},
		{"a b+", "[[a b] [a] [b]]", cone(0, "a", "b", "c")},
		{"a b+", "[[a]]", cone(0, "a")},
		{"a b|c+d", "[[a b] [c] [a] [b] [d]]", cone(0, "a", "b", "c", "d")},
		{"a b|c d|e+f", "[[b] [d] [f]]", cone(0, "b", "d", "f")},
	} {
		if got := fmt.Sprint((&mistake{at: tt.at}).sites(tt.cone)); got != tt.want {
			t.Errorf("%q in %v: got %s, want %s", tt.at, tt.cone, got, tt.want)
		}
	}
	two := append(cone(0, "a", "b"), cone(1, "a", "c")...)
	for op, want := range map[string]string{"a": "[-2 0 1]", "b": "[0]", "c": "[1]", "d": "[]"} {
		if got := fmt.Sprint(layersOf([]string{op}, two)); got != want {
			t.Errorf("%s in %v: got %s, want %s", op, two, got, want)
		}
	}
	var no *patch
	a := &patch{&findTest, []string{"a", "b"}, 1, 0}
	every := &patch{&findTest, []string{"a"}, everyLayer, 0}
	if no.hits(place{1, "a"}) || !a.hits(place{1, "b"}) || a.hits(place{0, "b"}) || a.hits(place{1, "c"}) || !every.hits(place{7, "a"}) || every.hits(place{7, "b"}) {
		t.Error("a patch is not made where it should be")
	}
}

func TestRoundTo(t *testing.T) {
	defer answers(t, "plain.find")()
	inf := math.Inf(1)
	for _, tt := range []struct {
		v      float64
		digits int
		want   float64
	}{{123456, 2, 120000}, {123456, 4, 123500}, {-0.0987, 1, -0.1}, {1e-300, 3, 1e-300}, {0, 3, 0}, {inf, 2, inf}, {-inf, 2, -inf}} {
		if got := roundTo(tt.v, tt.digits); got != tt.want {
			t.Errorf("%g to %d digits is %g, want %g", tt.v, tt.digits, got, tt.want)
		}
	}
	if !math.IsNaN(roundTo(math.NaN(), 3)) {
		t.Error("NaN is rounded")
	}
	nan := math.NaN()
	x := []float64{nan, 2, inf, 1, nan, -1, 1}
	slices.SortStableFunc(x, compareFloat)
	if got := fmt.Sprint(x); got != "[-1 1 1 2 +Inf NaN NaN]" || compareFloat(1, 1) != 0 || compareFloat(nan, nan) != 0 {
		t.Errorf("in order: %s", got)
	}
	if leftover(inFloat32) != 0.2 || leftover(inFloat64) != 0.2 || leftover(inBF16) != 0.5 || leftover(inF16) != 0.5 {
		t.Error("a rounded recording leaves as much unexplained as one that is not")
	}
}

// TestAllowed has errors on either side of what rounding may do: one number of ten thousand
// that is off by so many yards, and all of them.
func TestAllowed(t *testing.T) {
	defer answers(t, "yardstick")()
	for _, tt := range []struct {
		prec     precision
		one, all float64
	}{{inFloat32, 60, 5}, {inBF16, 40, 2.5}, {inF16, 40, 2.5}} {
		s := yardstick{[]float64{1}, precision{most: tt.prec.most, mean: tt.prec.mean}}
		for _, off := range []float64{0.99, 1.01} {
			one, all := make([]float64, 10_000), make([]float64, 10_000)
			one[7] = off * tt.one
			for i := range all {
				all[i] = off * tt.all
			}
			for _, x := range [][]float64{one, all} {
				if d := s.distance(x, make([]float64, len(x))); (d.excess > 1) != (off > 1) {
					t.Errorf("%q: one number off by %g, or all by %g: excess %g", tt.prec.cause, x[7], x[8], d.excess)
				}
			}
		}
	}
}

// TestLikely leaves out what comes less close by far.
func TestLikely(t *testing.T) {
	defer answers(t, "plain.find")()
	for _, tt := range []struct{ yards, want []float64 }{
		{[]float64{1, 2, 3.4, 3.6, 0.9, 3.25}, []float64{1, 2, 0.9}},
		{[]float64{0, 0.4, 0.6}, []float64{0, 0.4}},
		{[]float64{5, 1, 3.45, 3.55}, []float64{1, 3.45}},
		{[]float64{7}, []float64{7}},
		{nil, nil},
	} {
		var found []finding
		for _, y := range tt.yards {
			found = append(found, finding{residual: distance{yards: y}})
		}
		var got []float64
		for _, f := range likely(found) {
			got = append(got, f.residual.yards)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.yards, got, tt.want)
		}
	}
}

// TestGrowth fits errors of which the law is known.
func TestGrowth(t *testing.T) {
	defer answers(t, "Growth.fit")()
	series := func(n int, f func(i float64) float64) (all []float64) {
		for i := range n {
			all = append(all, f(float64(i)))
		}
		return all
	}
	inf := math.Inf(1)
	for _, tt := range []struct {
		name           string
		errors         []float64
		fit            string
		rate, expected float64
	}{
		{"nothing", nil, "", 0, 0},
		{"two layers", []float64{1, 2}, "", 0, 0},
		{"two that are not zero", []float64{0, 1, 2}, "", 0, 0},
		{"three", []float64{1, 2, 3}, "linear", 1, 3},
		{"linear", series(6, func(i float64) float64 { return 2e-7 + 3e-7*i }), "linear", 3e-7, 17e-7},
		{"linear from zero", series(6, func(i float64) float64 { return 3e-7 * i }), "linear", 3e-7, 15e-7},
		{"exponential", series(8, func(i float64) float64 { return 1e-7 * math.Pow(1.5, i) }), "exponential", 1.5, 1e-7 * math.Pow(1.5, 7)},
		{"fast", series(8, func(i float64) float64 { return 1e-7 * math.Pow(25, i) }), "exponential", 25, 1e-7 * math.Pow(25, 7)},
		{"constant", []float64{3, 3, 3, 3}, "bounded", 0, 3},
		{"up and down", []float64{1, 4, 1, 4}, "bounded", 0, 2},
		{"decreasing", series(6, func(i float64) float64 { return 7 - i }), "bounded", 0, math.Pow(7*6*5*4*3*2, 1./6)},
		{"decaying", series(4, func(i float64) float64 { return math.Pow(0.5, i) }), "bounded", 0, math.Pow(0.5, 1.5)},
		{"a jump", []float64{1e-7, 2e-7, 1, 1.5, 2.25, 3.375}, "exponential", 1.5, 3.375},
		{"a jump at the end", []float64{1e-7, 2e-7, 3e-7, 4e-7, 1}, "", 0, 0},
		{"infinite in between", []float64{1, inf, 3, 4, 5}, "linear", 1, 5},
		{"not a number", []float64{1, math.NaN(), 3, 4, 5}, "linear", 1, 5},
	} {
		var g Growth
		for i, e := range tt.errors {
			l := LayerGrowth{Error: Number(e)}
			if i > 0 && tt.errors[i-1] > 0 {
				l.Increase = Number(e / tt.errors[i-1])
			}
			if math.IsInf(float64(l.Increase), 0) {
				l.Increase = 0
			}
			g.Layers = append(g.Layers, l)
		}
		g.fit()
		near := func(got Number, want float64) bool { return math.Abs(float64(got)-want) <= 1e-9*want }
		if g.Fit != tt.fit || !near(g.Rate, tt.rate) || !near(g.Expected, tt.expected) {
			t.Errorf("%s: got %q, %.4g, %.4g, want %q, %.4g, %.4g", tt.name, g.Fit, float64(g.Rate), float64(g.Expected), tt.fit, tt.rate, tt.expected)
		}
	}
	// The law that halves the squares of the others: not one that is a little better.
	for _, tt := range []struct {
		errors []Number
		fit    string
	}{{[]Number{1, 1.4, 1, 1.4, 1.2, 1.5}, "bounded"}, {[]Number{1, 2.2, 2.9, 4.1, 5, 5.9, 7.1, 8}, "linear"}, {[]Number{1, 2.1, 3.9, 8.2, 16, 31}, "exponential"},
		{[]Number{1, 2.5, 2.7, 3.3, 6.9, 2.5}, "linear"},                     // 0.483 of the squares
		{[]Number{1.2, 2.4, 3.2, 2.8, 5.7, 2.5}, "bounded"},                  // 0.525
		{[]Number{1, 2.1, 0.8, 1.9, 3, 1.7, 3.6, 3.1}, "exponential"},        // 0.481, and 0.510 if linear
		{[]Number{1, 2.14, 0.76, 1.9, 3.04, 1.66, 3.64, 3.1}, "bounded"},     // 0.508, and 0.540
		{[]Number{1, 1.72, 1.18, 1.9, 2.62, 2.08, 3.22, 3.1}, "linear"},      // 0.200 either way
		{[]Number{1, 1.74, 1.16, 1.9, 2.64, 2.06, 3.24, 3.1}, "exponential"}, // 0.215, and 0.216
	} {
		var g Growth
		for _, e := range tt.errors {
			g.Layers = append(g.Layers, LayerGrowth{Error: e})
		}
		if g.fit(); g.Fit != tt.fit {
			t.Errorf("%v: got %q, want %q", tt.errors, g.Fit, tt.fit)
		}
	}
	for increase, fit := range map[Number]string{29.5: "bounded", 30: "bounded", 30.5: ""} {
		g := Growth{Layers: []LayerGrowth{{Error: 1}, {Error: 1}, {Error: 1, Increase: increase}}}
		if g.fit(); g.Fit != fit {
			t.Errorf("an increase of %g: got %q, want %q", float64(increase), g.Fit, fit)
		}
	}
}

// toy is a network of one step, made here: right without a mistake, wrong with one,
// which has a constant. No number is made of others. A rounding adds 1/4.
func toy(right []float64, wrong func(v float64) []float64) (*plain, patch) {
	run := func(y []float64) func(c *call) []float64 {
		return func(c *call) []float64 { return c.each(y, func(v float64) float64 { return v }) }
	}
	p := newPlain(nil, nil)
	p.steps["a"] = run(right)
	m := &mistake{cause: "toy", at: "a", fit: byStep, run: func(c *call) []float64 {
		y := wrong(c.value())
		if y == nil {
			return nil
		}
		return run(y)(c)
	}}
	return p, patch{m, []string{"a"}, 0, 0}
}

// toyPrecision allows as much as its rounding adds.
var toyPrecision = precision{most: 1, mean: 1, round: func(v float64) float64 { return v + 0.25 }}

// TestReproduces has an error on either side of what a mistake may leave.
func TestReproduces(t *testing.T) {
	defer answers(t, "plain.find")()
	for _, tt := range []struct {
		want     float64 // of a step that makes 8, and 3 with the mistake
		own      float64 // yards of 1/4 that the subject is off
		residual float64
		ok       bool
	}{
		{3, 5, 0, true},
		{3.125, 5, 0.125, true},
		{3.25, 5, 0.25, true}, // a fifth of the own error, and as much as rounding makes
		{2.75, 5, 0.25, true},
		{3.26, 5.5, 0.26, false}, // more than rounding makes
		{3.25, 4.99, 0, false},   // more than a fifth
		{8, 0, 0, false},
		{3, math.NaN(), 0, false},
	} {
		p, a := toy([]float64{8}, func(v float64) []float64 { return []float64{v} })
		s := &subject{place: place{0, "a"}, want: []float64{tt.want}, width: 1, prec: toyPrecision, cone: []place{{0, "a"}}}
		s.ruler, s.own.yards = yardstick{[]float64{0.25}, toyPrecision}, tt.own
		d, ok := p.reproduces(s, a.with(3))
		if ok != tt.ok || math.Abs(d.max-tt.residual) > 1e-9 {
			t.Errorf("%g, %g yards off: got %v, %g, want %v, %g", tt.want, tt.own, ok, d.max, tt.ok, tt.residual)
		}
		p.measure(s, []float64{8}, toyPrecision)
		if d, ok := p.residual(s, nil, toyPrecision); ok != (tt.want == 8) || d != s.own || d.max != 8-tt.want || math.Abs(d.excess-4*d.max) > 1e-9 {
			t.Errorf("%g, without a mistake: %v, %v, measured %v", tt.want, ok, d, s.own)
		}
	}
	p, a := toy([]float64{8}, func(float64) []float64 { return nil })
	s := &subject{place: place{0, "a"}, want: []float64{8}, width: 1, prec: toyPrecision, cone: []place{{0, "a"}}}
	p.measure(s, []float64{7}, toyPrecision)
	if _, ok := p.residual(s, &a, toyPrecision); ok {
		t.Error("a mistake that cannot be made explains something")
	}
	if _, ok := p.reproduces(s, a); ok {
		t.Error("a mistake that cannot be made reproduces something")
	}
	a.mistake.run = func(c *call) []float64 { return c.want() } // what it is tried on is known to it
	if d, ok := p.reproduces(s, a); !ok || d.max != 0 {
		t.Errorf("what the reference holds: got %v, %v", ok, d)
	}
}

// TestImprove has numbers that no constant reproduces all: what is found has the
// least squares, each number counting by its yardstick.
func TestImprove(t *testing.T) {
	defer answers(t, "plain.find")()
	slopes, want := []float64{1, 2, -4, 3}, []float64{3, 10, -7, 8}
	prec := precision{unit: 0.1, most: 1, mean: 1}
	sigma := []float64{2, 7}
	var up, down float64
	for i, w := range want {
		yard := sigma[i/2] + 0.1*math.Abs(w)
		up, down = up+slopes[i]*w/(yard*yard), down+slopes[i]*slopes[i]/(yard*yard)
	}
	for name, tt := range map[string]struct {
		fit       fitting
		from      float64
		y         func(v float64) float64 // times the slopes
		want, off float64
	}{
		"a step":              {byStep, 1, func(v float64) float64 { return v }, up / down, 1e-6},
		"a step from nothing": {byStep, 0, func(v float64) float64 { return v }, up / down, 1e-6},
		"a factor":            {byFactor, 2, func(v float64) float64 { return math.Log(v) }, math.Exp(up / down), 1e-5},
		"far away":            {byFactor, 0.05, func(v float64) float64 { return math.Log(v) }, math.Exp(up / down), 1e-5},
		// The yardstick grows with the number, so that it has its least elsewhere by a little.
		"too far at once": {byStep, 1.4, func(v float64) float64 { return up/down + math.Atan(5*(v-2)) }, 2, 0.05},
	} {
		p, a := toy(nil, func(v float64) (y []float64) {
			for _, slope := range slopes {
				y = append(y, slope*tt.y(v))
			}
			return y
		})
		a.mistake.fit = tt.fit
		s := &subject{place: place{0, "a"}, want: want, width: 2, ruler: yardstick{sigma, prec}}
		yards := p.yards(s, a.with(tt.from))
		got := p.improve(s, a, start{tt.from, yards})
		if left := p.yards(s, a.with(got.value)); math.Abs(got.value-tt.want) > tt.off || got.yards != left || !(left < yards) {
			t.Errorf("%s: got %.9g with %g left, want %.9g with %g", name, got.value, got.yards, tt.want, left)
		}
	}
}

// TestNice shortens a number as far as the error allows: a tenth more, and 0.05 yards.
func TestNice(t *testing.T) {
	defer answers(t, "plain.find")()
	for _, tt := range []struct {
		found, want, left, nice float64
		fit                     fitting
	}{
		{1.26, 1, 0, 1, byStep},
		{1.26, 1.049, 0, 1, byStep},
		{1.26, 1.051, 0, 1.26, byStep},
		{1.2e-300, 0.05, 0, 1e-300, byFactor}, // as much as is allowed, and no more
		{1.26, 1.3, 0.226, 1.3, byStep},
		{1.26, 1.3, 0.228, 1, byStep},
		{1.26, 1.26, 0, 1.3, byStep},       // 0.04 off
		{1.23456, 1.23456, 0, 1.2, byStep}, // 0.03456 off
		{1234.56, 1234.56, 0, 1234.56, byStep},
		{1234.56, 1235, 0, 1235, byStep},
		{0.0123456, 0.0123456, 0, 0.01, byFactor},
		{0.0123456, 0.0123456, 0, 0, byStep}, // a factor is never 0, an eps may be
		{1e-14, 0.051, 0, 1e-14, byStep},
		{-7.77, -8.01, 0, -8, byStep},
	} {
		p, a := toy(nil, func(v float64) []float64 { return []float64{v} })
		a.mistake.fit = tt.fit
		s := &subject{place: place{0, "a"}, want: []float64{tt.want}, width: 1, ruler: yardstick{[]float64{1}, toyPrecision}}
		if got := p.nice(s, a, start{tt.found, tt.left}); got != tt.nice {
			t.Errorf("%g, where %g is right and %g left: got %g, want %g", tt.found, tt.want, tt.left, got, tt.nice)
		}
	}
	p, a := toy(nil, func(v float64) []float64 {
		if v == 1 {
			return nil
		}
		return []float64{v}
	})
	s := &subject{place: place{0, "a"}, want: []float64{1.04}, width: 1, ruler: yardstick{[]float64{1}, toyPrecision}}
	if got := p.nice(s, a, start{1.04, 0}); got != 1.04 {
		t.Errorf("a constant that cannot be: got %g", got)
	}
}
