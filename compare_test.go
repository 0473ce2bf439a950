package qwen

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

// A port is a recording that a test changes: its numbers by name.
type port map[string][]float32

// portOf returns transformers' recording of a tiny model, and the numbers that the
// faults of that model changed.
func portOf(t *testing.T, model string) (m *Model, ids []int, good port, changed map[string]port) {
	t.Helper()
	changed = map[string]port{}
	for _, f := range faultsOf(t, model) {
		m, ids = f.model, f.right.IDs
		if good == nil {
			good = port{}
			for _, x := range f.right.Tensors {
				good[x.Name], _ = numbers(x)
			}
		}
		changed[f.Name] = port{}
		for name, x := range f.changed {
			changed[f.Name][name], _ = numbers(x)
		}
	}
	return m, ids, good, changed
}

// with is the port with other numbers in some places; nil takes a tensor out.
func (p port) with(others ...port) port {
	q := maps.Clone(p)
	for _, o := range others {
		maps.Copy(q, o)
	}
	maps.DeleteFunc(q, func(_ string, x []float32) bool { return x == nil })
	return q
}

// only keeps the tensors that end like this.
func (p port) only(endings ...string) port {
	q := maps.Clone(p)
	maps.DeleteFunc(q, func(name string, _ []float32) bool {
		return !slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(name, e) })
	})
	return q
}

// recording is what the port wrote.
func (p port) recording(m *Model, ids []int) *Recording {
	r := &Recording{IDs: ids}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		at, _ := placeOf(name, m.Config.Layers)
		r.Tensors = append(r.Tensors, NewTensor(name, p[name], m.shape(at, len(ids))...))
	}
	return r
}

// rounded rounds every number.
func (p port) rounded(round func(float64) float64) port {
	q := port{}
	for name, x := range p {
		y := make([]float32, len(x))
		for i, v := range x {
			y[i] = float32(round(float64(v)))
		}
		q[name] = y
	}
	return q
}

func scaledBy(x []float32, v float32) []float32 {
	y := slices.Clone(x)
	for i := range y {
		y[i] *= v
	}
	return y
}

// TestCompareVerdicts has what one tensor alone does not decide.
func TestCompareVerdicts(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, changed := portOf(t, "qwen3-tiny")
	const l0, l1 = "model.layers.0.", "model.layers.1."
	normOf := func(x []float32) []float32 { return RMSNorm(x, m.Norm, m.Config.Eps) }
	trap := port{"model.layers.1": good["model.norm"]}
	// An engine that computes in two bytes and keeps its stream in four.
	inside := func(prec precision) port {
		p := newPlain(m, ids)
		p.ref[place{-1, "embed_tokens"}] = wide(good["model.embed_tokens"])
		r := p.trial(prec, nil)
		y := make([]float32, len(good["model.layers.0"]))
		a, b := r.compute(place{0, "o_proj"}), r.compute(place{0, "down_proj"})
		for i := range y {
			y[i] = good["model.embed_tokens"][i] + float32(a[i]) + float32(b[i])
		}
		return port{"model.embed_tokens": good["model.embed_tokens"], "model.layers.0": y}
	}
	// One that keeps everything in two bytes.
	engine := func(prec precision) port {
		p, y := newPlain(m, ids).trial(prec, nil), port{}
		for _, at := range m.places() {
			for _, v := range p.input(at) {
				y[at.name()] = append(y[at.name()], float32(v))
			}
		}
		return y
	}
	cut := func(v float64) float64 { return float64(math.Float32frombits(math.Float32bits(float32(v)) &^ 0xffff)) }
	// One in two bytes that does not scale: its scores are large, and so are their roundings.
	unscaled := good.only("_rope", "embed_tokens", "model.layers.0").rounded(roundBF16)
	for layer := range 2 {
		at := place{layer, "probs"}
		c := &call{newPlain(m, ids).trial(inBF16, nil), at}
		q, k := wide(unscaled[place{layer, "q_rope"}.name()]), wide(unscaled[place{layer, "k_rope"}.name()])
		for _, v := range c.attend(q, k, 1, causal, c.group) {
			unscaled[at.name()] = append(unscaled[at.name()], float32(v))
		}
	}
	noisy := slices.Clone(good["lm_head"])
	for i := range noisy {
		noisy[i] += float32(i%5) / 2
	}
	for _, tt := range []struct {
		name                  string
		port                  port
		verdict, first, cause string
		detail                string
		others                int
	}{
		{"good", good, "match", "", "", "agreement to rounding, in 41 tensors", 0},
		{"the state after the final norm", good.with(trap), "mislabelled", "model.layers.1", "hidden-state-after-final-norm", "model.layers.1 holds the last layer's output after the final norm (as the last of transformers' hidden_states does); the layer itself is right", 0},
		{"that, and a mistake", good.with(trap, changed["logits-scaled"]), "differs", "lm_head", "logits-scaled", "the logits are multiplied by 0.125; besides, model.layers.1 was taken after the final norm", 0},
		{"a final norm in the layer, and one after it", good.with(trap, port{"model.norm": normOf(good["model.norm"])}), "differs", "model.layers.1", "hidden-state-after-final-norm",
			"what is called the last layer's output was taken after the final norm; the layer itself is right, in layer 1; it explains 0 of 1 other broken tensor", 1},
		{"the final norm's input in its place", good.with(port{"hidden_states.2": good["model.norm"], "model.norm": good["model.layers.1"], "lm_head": nil}), "mislabelled", "model.norm", "final-norm-missing", "model.norm was taken before the final norm; the norm itself was applied", 0},
		{"no final norm", good.with(port{"model.norm": good["model.layers.1"]}), "differs", "model.norm", "final-norm-missing", "the final RMSNorm is left out; it explains 0 of 1 other broken tensor", 1},

		{"rounded to bfloat16", good.rounded(roundBF16), "precision", "model.layers.0.input_layernorm", "bf16-rounding", "rounding to bfloat16 explains every difference (40 tensors); nothing else is wrong", 0},
		{"cut to bfloat16", engine(precision{"", 0x1p-8, 1, 1, cut}), "precision", "model.layers.0.input_layernorm", "bf16-rounding", "rounding to bfloat16 explains every difference (40 tensors); nothing else is wrong; the errors all point towards zero, as if bits were cut off and not rounded", 0},
		{"rounded to float16", good.rounded(roundF16), "precision", "model.layers.0.input_layernorm", "f16-rounding", "rounding to float16 explains every difference (40 tensors); nothing else is wrong", 0},
		{"rounded but for one", good.rounded(roundBF16).with(good.only("0.mlp.act_fn")), "precision", "model.layers.0.input_layernorm", "bf16-rounding", "rounding to bfloat16 explains every difference (40 tensors); nothing else is wrong", 0},
		{"rounded inside to bfloat16", inside(inBF16), "precision", "model.layers.0", "bf16-rounding", "rounding to bfloat16 explains every difference (1 tensor); nothing else is wrong", 0},
		{"rounded inside to float16", inside(inF16), "precision", "model.layers.0", "f16-rounding", "rounding to float16 explains every difference (1 tensor); nothing else is wrong", 0},
		{"rounded, and broken", good.only("0.self_attn.q_norm", "0.self_attn.k_norm").with(changed["rope-interleaved"]).rounded(roundBF16), "differs", "model.layers.0.self_attn.q_rope", "rope-interleaved",
			"numbers 2i and 2i+1 form a pair, and not i and i+headDim/2, in layer 0; it explains 1 of 1 other broken tensor", 0},

		{"rounded, and not scaled", unscaled, "differs", "model.layers.0.self_attn.probs", "scale-missing", "the scores are not divided by sqrt(headDim), in every layer; it explains 1 of 2 other broken tensors; from what was recorded this cannot be told from scale-wrong (the scores are multiplied by 1)", 1},

		{"v alone not normed", good.only("embed_tokens", "0.self_attn.q_proj", "0.self_attn.k_proj").with(changed["not-normed-v"]), "differs", l0 + "self_attn.v_proj", "input-not-normed",
			"the projection reads the residual stream, not its norm, in v_proj, in layer 0; from what was recorded this cannot be told from norm-missing (the RMSNorm is left out, in input_layernorm)", 0},
		{"none of them normed", good.only("embed_tokens").with(changed["not-normed-qkv"]), "differs", l0 + "self_attn.q_proj", "norm-missing",
			"the RMSNorm is left out, in input_layernorm, in layer 0; it explains 2 of 2 other broken tensors; from what was recorded this cannot be told from input-not-normed (the projection reads the residual stream, not its norm, in q_proj)", 0},
		{"q's norm alone has the other's weight", good.only("0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.k_norm").with(changed["qk-swapped"].only("q_norm")), "differs", l0 + "self_attn.q_norm", "norm-wrong-weight", "the norm has the weight of model.layers.0.self_attn.k_norm, in layer 0", 0},
		{"k's norm alone has the other's weight", good.only("0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.q_norm").with(changed["qk-swapped"].only("k_norm")), "differs", l0 + "self_attn.k_norm", "norm-wrong-weight", "the norm has the weight of model.layers.0.self_attn.q_norm, in layer 0", 0},
		{"the norm after the rotation", good.only("0.self_attn.q_proj").with(port{l0 + "self_attn.q_norm": good[l0+"self_attn.q_proj"]}, changed["qk-after-rope-absent"].only("q_rope")), "differs", l0 + "self_attn.q_norm", "qk-norm-after-rope",
			"the q/k norm is applied after the rotation, in layer 0; it explains 1 of 1 other broken tensor", 0},
		{"gate and up exchanged by the loader", good.only("0.post_attention_layernorm").with(changed["gate-up-loaded"].only("_proj")), "differs", l0 + "mlp.gate_proj", "gate-up-swapped", "the activation is taken of up, and not of gate, in layer 0; it explains 1 of 1 other broken tensor", 0},
		{"gate alone has up's weight", good.only("0.post_attention_layernorm").with(changed["gate-up-loaded"].only("gate_proj")), "differs", l0 + "mlp.gate_proj", "wrong-weight", "the weight is that of model.layers.0.mlp.up_proj, in layer 0", 0},
		{"two thetas", good.only("0.self_attn.q_norm", "0.self_attn.k_norm").with(changed["rope-theta-1e4"].only("q_rope"), changed["rope-theta-k"]), "differs", l0 + "self_attn.q_rope", "rope-theta", "theta is 10000, or the frequencies are made for heads of 15: these are the same numbers, in layer 0; it explains 0 of 1 other broken tensor", 1},
		{"logits that have something to do with the embedding", good.only("model.norm").with(port{"lm_head": noisy}), "differs", "lm_head", "unknown", "largest own error 2, largest number 6.7, and none of the 47 known mistakes reproduces it", 0},
	} {
		r, err := Compare(m, tt.port.recording(m, ids))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		first, cause := "", ""
		if r.First != nil {
			first, cause = *r.First, *r.Cause
		}
		if r.Verdict != tt.verdict || first != tt.first || cause != tt.cause || r.Detail != tt.detail || len(r.Others) != tt.others {
			t.Errorf("%s: got\n%s, %s, %s, %d others: %s\nwant\n%s, %s, %s, %d others: %s", tt.name, r.Verdict, first, cause, len(r.Others), r.Detail, tt.verdict, tt.first, tt.cause, tt.others, tt.detail)
		}
		unexplained := Number(0)
		for _, row := range r.Tensors {
			if row.Name == first {
				unexplained = row.OwnRelative
			}
		}
		if r.Verdict == "match" && r.Residual != 0 || cause == "unknown" && r.Residual != unexplained || cause != "unknown" && !(r.Residual < 0.02 && r.Residual <= unexplained) {
			t.Errorf("%s: the cause leaves %g of the largest number, the whole error is %g", tt.name, float64(r.Residual), float64(unexplained))
		}
	}
}

// TestCompareRoundedTable has a port in two bytes of a model in four: its embedding is
// rounded, which is no mistake, and what is wrong is still found.
func TestCompareRoundedTable(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, changed := portOf(t, "qwen2-tiny") // F32
	rows := slices.Clone(good["model.embed_tokens"])
	copy(rows[3*48:4*48], m.Embed.Row(5))
	const l0 = "model.layers.0."
	for _, prec := range []precision{inBF16, inF16} {
		for _, tt := range []struct {
			port                   port
			verdict, first, detail string
		}{
			{good, "precision", "model.embed_tokens", "rounding to"},
			{good.only("embed_tokens", "0.input_layernorm").with(changed["bias-missing"]), "differs", l0 + "self_attn.q_proj", "the bias is not added"},
			{good.only("0.input_layernorm").with(port{"model.embed_tokens": rows}), "differs", "model.embed_tokens", fmt.Sprintf("the rows that are read belong to other ids: token 3, id %d, reads row 5", ids[3])},
		} {
			r, err := Compare(m, tt.port.rounded(prec.round).recording(m, ids))
			if err != nil || r.Verdict != tt.verdict || *r.First != tt.first || !strings.HasPrefix(r.Detail, tt.detail) {
				t.Errorf("%s: got %v, %v, want %s at %s: %s", prec.cause, err, r, tt.verdict, tt.first, tt.detail)
			}
		}
	}
}

// TestCompareOthers has more broken tensors than causes are looked for.
func TestCompareOthers(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, changed := portOf(t, "qwen3-tiny")
	broken := port{}
	for _, op := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
		name := "model.layers.0.self_attn." + op
		broken[name] = slices.Clone(good[name])
		for i := range broken[name] {
			broken[name][i] += float32(i % 3)
		}
	}
	broken["model.layers.0.self_attn.k_proj"][7] = float32(math.NaN())
	r, err := Compare(m, good.with(broken, changed["norm-eps"]).recording(m, ids))
	if err != nil {
		t.Fatal(err)
	}
	if want := "eps is 0.01, in layer 0; it explains 0 of 8 other broken tensors"; *r.Cause != "norm-eps" || r.Detail != want {
		t.Errorf("got %s, want %s", r.Detail, want)
	}
	var got []string // of four that are looked at: what is not a number has no cause
	for _, o := range r.Others {
		got = append(got, strings.TrimPrefix(o.First, "model.layers.0.self_attn.")+" "+o.Cause)
	}
	if want := []string{"q_proj unknown", "v_proj unknown", "q_norm unknown"}; !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	r, err = Compare(m, good.with(port{"model.layers.0.self_attn.k_proj": broken["model.layers.0.self_attn.k_proj"]}).recording(m, ids))
	if err != nil || *r.First != "model.layers.0.self_attn.k_proj" || *r.Cause != "unknown" || r.Detail != "holds NaN or Inf (1 of 160 numbers), and what it was made of is finite" || r.Residual != 1 {
		t.Errorf("not a number: %v, %v", err, r)
	}
	// A cause that is found once is named once, whether or not that of the first is known.
	turned := changed["rope-interleaved"]
	for name, first := range map[string]port{"q_proj unknown": {"model.layers.0.self_attn.q_proj": broken["model.layers.0.self_attn.q_proj"]}, "input_layernorm norm-eps q_proj unknown k_proj unknown": changed["norm-eps"]} {
		r, err = Compare(m, good.only("embed_tokens", "0.input_layernorm", "0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.q_norm", "0.self_attn.k_norm").with(first.only("input_layernorm", "q_proj"), turned).recording(m, ids))
		if err != nil {
			t.Fatal(err)
		}
		got := []string{strings.TrimPrefix(strings.TrimPrefix(*r.First, "model.layers.0."), "self_attn.") + " " + *r.Cause}
		for _, o := range r.Others {
			got = append(got, strings.TrimPrefix(o.First, "model.layers.0.self_attn.")+" "+o.Cause)
		}
		if name == "q_proj unknown" { // what follows from q_proj is not what was made of it
			name += " q_norm unknown"
		}
		if want := name + " q_rope rope-interleaved"; strings.Join(got, " ") != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// broken is what a port records that makes these mistakes, and computes all else as it should.
func broken(m *Model, ids []int, made ...patch) port {
	p, q := newPlain(m, ids), port{}
	for _, at := range m.places() {
		t := p.trial(inFloat32, nil)
		for _, a := range made {
			if a.hits(at) {
				t = p.trial(inFloat32, &a)
			}
		}
		for _, v := range t.compute(at) {
			q[at.name()] = append(q[at.name()], float32(v))
		}
		p.ref[at] = wide(q[at.name()])
	}
	return q
}

// TestCompareSame has ports with two mistakes: how many of the broken tensors does the
// cause of the first explain?
func TestCompareSame(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, _, _ := portOf(t, "qwen3-tiny")
	in := func(cause string, layer int, value float64, ops ...string) patch {
		return patch{mistakeOf(cause), ops, layer, value}
	}
	const eps, theta = "norm-eps", "rope-theta"
	for _, tt := range []struct {
		made   []patch
		cause  string
		detail string // its end
		others []string
	}{
		{[]patch{in(eps, 0, 0.01, "input_layernorm")}, eps, "eps is 0.01, in layer 0", nil},
		{[]patch{in(eps, everyLayer, 0.01, "input_layernorm")}, eps, "eps is 0.01, in every layer; it explains 1 of 1 other broken tensor", nil},
		{[]patch{in(eps, 0, 0.01, "input_layernorm"), in(eps, 1, 0.01, "post_attention_layernorm")}, eps, "eps is 0.01, in every layer; it explains 1 of 1 other broken tensor", nil},
		{[]patch{in(eps, 0, 0.01, "input_layernorm"), in(eps, 1, 0.02, "input_layernorm")}, eps, "eps is 0.01, in layer 0; it explains 0 of 1 other broken tensor", []string{"norm-eps 0.02"}},
		{[]patch{in(theta, 0, 1e4, "q_rope", "k_rope"), in(theta, 1, 3e4, "k_rope")}, theta, "in layer 0; it explains 1 of 2 other broken tensors", []string{"rope-theta 30000"}},
		{[]patch{in("wrong-weight", 0, 0, "k_proj"), in("wrong-weight", 1, 2, "v_proj")}, "wrong-weight", "the weight is that of model.layers.0.self_attn.v_proj, in every layer; it explains 1 of 1 other broken tensor", nil},
		{[]patch{in(eps, 0, 0.01, "input_layernorm"), in("wrong-weight", 1, 0, "k_proj")}, eps, "eps is 0.01, in layer 0; it explains 0 of 1 other broken tensor", []string{"wrong-weight"}},
		{[]patch{in("wrong-weight", 0, 0, "gate_proj", "up_proj")}, "gate-up-swapped", "the activation is taken of up, and not of gate, in layer 0; it explains 1 of 1 other broken tensor", nil},
		{[]patch{in("wrong-weight", 0, 0, "gate_proj", "up_proj"), in(eps, 1, 0.02, "input_layernorm")}, "gate-up-swapped", "in layer 0; it explains 1 of 2 other broken tensors", []string{"norm-eps 0.02"}},
		{[]patch{in("rope-interleaved", 0, 0, "q_rope"), in("rope-interleaved", 1, 0, "k_rope"), in("mask-missing", 1, 0, "probs")}, "rope-interleaved", "in every layer; it explains 1 of 2 other broken tensors", []string{"mask-missing"}},
	} {
		r, err := Compare(m, broken(m, ids, tt.made...).recording(m, ids))
		if err != nil {
			t.Fatal(err)
		}
		var others []string
		for _, o := range r.Others {
			if others = append(others, o.Cause); o.Value != nil {
				others[len(others)-1] += fmt.Sprintf(" %g", float64(*o.Value))
			}
		}
		if r.Verdict != "differs" || *r.Cause != tt.cause || !strings.HasSuffix(r.Detail, tt.detail) || !slices.Equal(others, tt.others) {
			t.Errorf("got %s, %s, others %q, want %s, %s, others %q", *r.Cause, r.Detail, others, tt.cause, tt.detail, tt.others)
		}
	}
}

// TestExplain has a tensor of another shape before or after those that are broken, and
// tensors that are rounded.
func TestExplain(t *testing.T) {
	defer answers(t, "Compare")()
	for _, tt := range []struct {
		tensors string // in order: broken, of another shape, soft in f16 or bf16, right, and trapped
		first   int
		verdict string
		detail  string // the beginning
	}{
		{"r", -1, "match", "agreement to rounding, in 1 tensor"},
		{"rr", -1, "match", "agreement to rounding, in 2 tensors"},
		{"rx", 1, "differs", "misfit"},
		{"x", 0, "differs", "misfit"},
		{"xb", 0, "differs", "misfit"},
		{"bx", 0, "differs", "largest own error"},
		{"bxb", 0, "differs", "largest own error"},
		{"bb", 0, "differs", "largest own error"},
		{"xbb", 0, "differs", "misfit"},
		{"rfr", 1, "precision", "rounding to float16 explains every difference (1 tensor)"},
		{"fn", 0, "precision", "rounding to float16 explains every difference (2 tensors)"},
		{"nfr", 0, "precision", "rounding to bfloat16 explains every difference (2 tensors)"},
		{"bn", 0, "differs", "largest own error"},
		{"nb", 1, "differs", "largest own error"},
		{"tn", 0, "mislabelled", "t0 holds the last layer's output after the final norm"},
		{"ntx", 2, "differs", "misfit"},
		{"tb", 1, "differs", "largest own error"},
	} {
		k, holds := toyComparison()
		for i, kind := range tt.tensors {
			s := holds(0, "a", map[rune]float64{'b': 100, 't': 50}[kind])
			s.name = fmt.Sprint(string(kind), i)
			switch kind {
			case 'b':
				k.broken = append(k.broken, s)
			case 't':
				k.broken, k.trapped = append(k.broken, s), s
			case 'x':
				s.want, s.misfit = nil, "misfit"
			case 'f', 'n':
				k.soft = append(k.soft, s)
				s.prec = map[rune]precision{'f': inF16, 'n': inBF16}[kind]
			}
		}
		k.explain()
		first := -1
		if k.report.First != nil {
			first = int((*k.report.First)[1] - '0')
		}
		if r := k.report; r.Verdict != tt.verdict || first != tt.first || !strings.HasPrefix(r.Detail, tt.detail) || (tt.detail == "misfit") && r.Residual != 1 {
			t.Errorf("%s: got %s at %d: %s, residual %g, want %s at %d: %s", tt.tensors, r.Verdict, first, r.Detail, float64(r.Residual), tt.verdict, tt.first, tt.detail)
		}
	}
}

// TestCompareErrors has what cannot be compared.
func TestCompareErrors(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, _ := portOf(t, "qwen3-tiny")
	rec := good.recording(m, ids)
	counts := &Recording{IDs: ids, Tensors: []Tensor{idTensor("lm_head", I64, []int{1}, 1)}}
	closed, _ := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	closed.Close()
	for _, tt := range []struct {
		name string
		m    *Model
		o    CompareOptions
		rec  *Recording
		want string
	}{
		{"no reference", m, CompareOptions{}, nil, "qwen: Compare: found no reference, expected a recording"},
		{"no reference and no model", nil, CompareOptions{Ours: rec}, nil, "qwen: Compare: found no reference, expected a recording"},
		{"an id that is not in the vocabulary", m, CompareOptions{Op: "q_proj"}, &Recording{IDs: []int{1, 97}, Tensors: rec.Tensors}, "qwen: token 1 of the input: found id 97, expected 0 to 96"},
		{"the same, of one layer", m, CompareOptions{Layers: []int{0}}, &Recording{IDs: []int{-1}, Tensors: rec.Tensors}, "qwen: token 0 of the input: found id -1, expected 0 to 96"},
		{"the same, of both", m, CompareOptions{Ours: &Recording{IDs: []int{97}}}, &Recording{IDs: []int{97}, Tensors: rec.Tensors}, "qwen: token 0 of the input: found id 97, expected 0 to 96"},
		{"no ids", m, CompareOptions{Op: "mlp"}, &Recording{Tensors: rec.Tensors}, "qwen: found no tokens, expected at least one"},
		{"no ids, of two recordings", nil, CompareOptions{Ours: &Recording{Tensors: rec.Tensors}}, &Recording{Tensors: rec.Tensors}, "qwen: the recording: found no ids, expected those that were run"},
		{"too many ids", m, CompareOptions{Op: "mlp"}, &Recording{IDs: make([]int, m.Config.MaxPositions+1), Tensors: rec.Tensors}, "qwen: context is full: found"},
		{"fewer bytes than the shape needs", m, CompareOptions{}, &Recording{IDs: ids, Tensors: []Tensor{{"lm_head", F32, []int{8, 97}, make([]byte, 4)}}}, `qwen: lm_head: found 4 bytes for shape [8 97] of "F32", expected 3104`},
		{"no tensor in both", nil, CompareOptions{Ours: &Recording{IDs: ids, Tensors: rec.Tensors[:1]}}, &Recording{IDs: ids, Tensors: rec.Tensors[1:]}, "qwen: the recordings: found no tensor in both, expected one to compare"},
		{"no tensor of that step", nil, CompareOptions{Ours: rec, Op: "q_norm", Layers: []int{0, 4}}, &Recording{IDs: ids, Tensors: rec.Tensors[:1]}, "qwen: the recordings: found no tensor of step q_norm in layers [0 4] in both, expected one to compare"},
		{"no such step, without a model", nil, CompareOptions{Ours: rec, Op: "q"}, rec, `qwen: step "q": not known, expected one of self_attn, mlp, block, embed_tokens,`},
		{"a step that the recording lacks", m, CompareOptions{Op: "q_norm", Layers: []int{1}}, &Recording{IDs: ids, Tensors: []Tensor{NewTensor("lm_head", good["lm_head"], 8, 97)}}, "qwen: the recording: found no tensor of step q_norm in layer 1, expected one to judge"},
		{"no tensors", m, CompareOptions{}, &Recording{IDs: ids}, "qwen: the recording: found no tensor whose name is known among 0 tensors, expected names"},
		{"names of a megabyte", m, CompareOptions{}, &Recording{IDs: ids, Tensors: []Tensor{{Name: strings.Repeat("\x01", 1<<20)}}}, `\x01…", expected names`},
		{"a shape and a name of a megabyte", m, CompareOptions{}, &Recording{IDs: ids, Tensors: []Tensor{NewTensor(strings.Repeat("\x01", 1<<20)+".lm_head", []float32{1}, 1)}}, `\x01…": found shape [1], expected [8 97]: no tensor fits`},
		{"an op of a megabyte", m, CompareOptions{Op: strings.Repeat("\x01", 1<<20)}, rec, `\x01…": not known, expected`},
		{"nothing of ours", nil, CompareOptions{}, rec, "qwen: Compare: found no model and no recording of ours, expected one of them"},
		{"a model that is closed", closed, CompareOptions{Ours: rec}, rec, ErrClosed.Error()},
		{"a closed model's own run", closed, CompareOptions{}, rec, ErrClosed.Error()},
		{"ours holds no numbers", m, CompareOptions{Ours: counts}, rec, "I64"},
		{"theirs holds no numbers", m, CompareOptions{}, counts, "I64"},
		{"neither does, without a model", nil, CompareOptions{Ours: rec, Op: "lm_head"}, counts, "qwen: left out: lm_head: found dtype I64, expected F32, F16, BF16 or F64; found no tensor of numbers of step lm_head in both recordings, expected one to compare"},
		{"nor ours", nil, CompareOptions{Ours: counts}, rec, "I64"},
		{"no such step", m, CompareOptions{Op: "q_projection"}, rec, `qwen: step "q_projection": not known, expected one of self_attn, mlp, block, embed_tokens, input_layernorm, q_proj, k_proj, v_proj, q_norm, k_norm, q_rope, k_rope, probs, context, o_proj, attn_residual, post_attention_layernorm, gate_proj, up_proj, act_fn, gated, down_proj, output, norm, lm_head`},
		{"no such layer", m, CompareOptions{Layers: []int{7}}, rec, "qwen: the recording: found no tensor in layer 7, expected one to judge"},
		{"no name that is known", m, CompareOptions{}, &Recording{IDs: ids, Tensors: []Tensor{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "x_outputs"}}}, "qwen: the recording: found no tensor whose name is known among 5 tensors, such as a, b, c, expected names such as model.layers.0.input_layernorm; see -rename"},
		{"no shape that fits", m, CompareOptions{}, &Recording{IDs: ids, Tensors: []Tensor{NewTensor("lm_head", []float32{1}, 1)}}, "qwen: lm_head: found shape [1], expected [8 97]: no tensor fits the config and 8 ids"},
	} {
		if r, err := tt.o.Compare(tt.m, tt.rec); r != nil || err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2000 || strings.Count(err.Error(), "qwen: ") != 1 || strings.Contains(err.Error(), "\x01") {
			t.Errorf("%s: got %v, %v, want %s", tt.name, r, err, tt.want)
		}
	}
	if r, err := Compare(closed, rec); r != nil || !errors.Is(err, ErrClosed) {
		t.Errorf("a closed model: %v", err)
	}
}

// TestCompareNames has tensors whose names are not known: a few of them are listed, and
// what they hold is nobody's business.
func TestCompareNames(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, _ := portOf(t, "qwen3-tiny")
	for n, want := range map[int]string{
		0: "[]", 1: "[1 name not known, left out: a]", 5: "[5 names not known, left out: a, b, c, d, e]", 6: "[6 names not known, left out: a, b, c, d, e]"} {
		rec := good.recording(m, ids)
		for i := range n {
			rec.Tensors = append(rec.Tensors, idTensor("abcdef"[i:i+1], I64, []int{1}, 1))
		}
		rec.Tensors = append(rec.Tensors, idTensor("model.layers.0.mlp_inputs_kwargs_x", I64, []int{1}, 1), idTensor("rotary_emb_outputs", I64, []int{1}, 1))
		for _, o := range []CompareOptions{{}, {Ours: rec}} {
			r, err := o.Compare(m, rec)
			if err != nil || r.Verdict != "match" || fmt.Sprint(r.Warnings) != want {
				t.Errorf("%d: %v, %v", n, r, err)
			}
		}
	}
	// What comes first is ours where there are two of a name; the reference is called by its own name where it can be.
	twice := good.recording(m, ids)
	twice.Tensors = append(twice.Tensors, NewTensor("base.model.norm", scaledBy(good["model.norm"], 2), 8, 36))
	r, err := CompareOptions{Ours: twice}.Compare(m, good.recording(m, ids))
	if err != nil || r.Verdict != "match" || slices.ContainsFunc(r.Tensors, func(x TensorReport) bool { return x.MaxAbs != 0 }) {
		t.Errorf("ours twice: %v, %v", r, err)
	}
	twice.Tensors = slices.Insert(twice.Tensors, 0, twice.Tensors[len(twice.Tensors)-1])
	r, err = Compare(m, twice)
	if err != nil || r.Verdict != "differs" || *r.First != "base.model.norm" || *r.Cause != "norm-weight-missing" && *r.Cause != "unknown" {
		t.Errorf("theirs twice: %v, %v", r, err)
	}
	for _, x := range r.Tensors {
		if (x.Name == "base.model.norm") != (x.Status == "broken") {
			t.Errorf("theirs twice: %s is %s", x.Name, x.Status)
		}
	}
}

// TestCompareShapes has tensors of another size before and after one that is wrong.
func TestCompareShapes(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, changed := portOf(t, "qwen3-tiny")
	misshapen := func(p port, name string) *Recording {
		r := p.recording(m, ids)
		for i := range r.Tensors {
			if x := &r.Tensors[i]; x.Name == name {
				x.Shape = []int{len(ids), x.Shape[1] - 1}
				x.Data = x.Data[:4*x.Shape[0]*x.Shape[1]]
			}
		}
		return r
	}
	const up, gate = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.gate_proj"
	for _, tt := range []struct {
		rec          *Recording
		first, cause string
	}{
		{misshapen(good, up), up, "unknown"},
		{misshapen(good.with(changed["norm-eps"]), up), "model.layers.0.input_layernorm", "norm-eps"},
		{misshapen(good.with(changed["up-missing"]), gate), gate, "unknown"},
	} {
		r, err := Compare(m, tt.rec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != "differs" || *r.First != tt.first || *r.Cause != tt.cause || len(r.Warnings) != 1 || !strings.HasSuffix(r.Warnings[0], "_proj: found shape [8 51], expected [8 52]") {
			t.Errorf("got %v, %v, want %s, %s", r, r.Warnings, tt.first, tt.cause)
		}
		if want := r.Warnings[0] + ": the config says another size, or the recording holds something else"; tt.cause == "unknown" && r.Detail != want {
			t.Errorf("got %s, want %s", r.Detail, want)
		}
		for _, x := range r.Tensors {
			if (x.Status == "shape") != strings.HasPrefix(r.Warnings[0], x.Name+": ") {
				t.Errorf("%s: %s", x.Name, x.Status)
			}
		}
	}
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	turned := []float32{1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12} // [3 2 2] of [2 3 2]
	for _, tt := range []struct {
		found, want []int
		y           []float32
	}{
		{[]int{3, 4}, []int{3, 4}, x},
		{[]int{1, 3, 4}, []int{3, 4}, x},
		{[]int{1, 1, 3, 4}, []int{3, 4}, x},
		{[]int{12}, []int{1, 12}, nil},
		{[]int{4, 3}, []int{3, 4}, nil},
		{[]int{2, 3, 4}, []int{3, 4}, nil},
		{[]int{1, 12}, []int{1, 12}, x},
		{[]int{1, 1, 12}, []int{1, 12}, x},
		{[]int{3, 2, 2}, []int{3, 4}, x},
		{[]int{3, 1, 4}, []int{3, 4}, x},
		{[]int{3, 4, 1}, []int{3, 4}, x},
		{[]int{3, 2, 3}, []int{3, 4}, nil},
		{[]int{2, 2, 3}, []int{3, 4}, nil},
		{[]int{3, 4}, []int{3, 2, 2}, x},
		{[]int{3, 5}, []int{3, 2, 2}, nil},
		{[]int{4, 3}, []int{3, 2, 2}, nil},
		{[]int{1, 3, 2, 2}, []int{3, 2, 2}, x},
		{[]int{2, 3, 2}, []int{3, 2, 2}, turned},
		{[]int{1, 2, 3, 2}, []int{3, 2, 2}, turned},
		{[]int{2, 3, 3}, []int{3, 2, 2}, nil},
		{[]int{1, 3, 4}, []int{1, 4, 3}, nil},
		{[]int{3, 1, 4}, []int{1, 3, 4}, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{[]int{}, []int{3, 4}, nil},
	} {
		y, ok := fitShape(x, tt.found, tt.want)
		if ok != (tt.y != nil) || !slices.Equal(y, tt.y) {
			t.Errorf("%v as %v: got %v, %v, want %v", tt.found, tt.want, y, ok, tt.y)
		}
	}
}

// TestCompareRecordings compares without a model.
func TestCompareRecordings(t *testing.T) {
	defer answers(t, "Compare")()
	tensor := func(name string, x ...float32) Tensor { return NewTensor(name, x, len(x)) }
	ours := &Recording{IDs: []int{1, 2, 3}, Tensors: []Tensor{
		tensor("model.layers.0.mlp.up_proj", 1, 2, 3), tensor("zero", 0, 0, 0), tensor("model.norm", 1, 2, 3), tensor("model.layers.0.mlp.gate_proj", 3, 4, 0), tensor("lm_head", 1, 2), tensor("nan", float32(math.NaN()), 1, 1)}}
	theirs := &Recording{IDs: []int{1, 2, 3}, Tensors: []Tensor{
		tensor("other", 1, 1, 1), tensor("zero", 0, 0, 0), tensor("nan", 1, 1, 1), tensor("lm_head", 1, 2, 3), tensor("model.norm", 1, 2, 2.5), tensor("model.layers.0.mlp.up_proj", 1, 2, 3+0x1p-12), tensor("model.layers.0.mlp.gate_proj", 3, 0, 4)}}
	r, err := CompareOptions{Ours: ours}.Compare(nil, theirs)
	if err != nil {
		t.Fatal(err)
	}
	inf := math.Inf(1)
	want := []TensorReport{
		{Name: "model.layers.0.mlp.gate_proj", Status: "broken", MaxAbs: 4, RMS: Number(math.Sqrt(32. / 3)), Relative: 1, Cosine: 9. / 25},
		{Name: "model.layers.0.mlp.up_proj", Status: "ok", MaxAbs: 0x1p-12, RMS: Number(0x1p-12 / math.Sqrt(3)), Relative: 0x1p-12 / (3 + 0x1p-12), Cosine: 1},
		{Name: "model.norm", Status: "inherited", MaxAbs: 0.5, RMS: Number(0.5 / math.Sqrt(3)), Relative: 0.2, Cosine: Number(12.5 / math.Sqrt(14*11.25))},
		{Name: "lm_head", Status: "shape"},
		{Name: "other", Status: "missing"},
		{Name: "zero", Status: "ok", Cosine: 1},
		{Name: "nan", Status: "inherited", MaxAbs: Number(inf), RMS: Number(inf), Relative: Number(inf), Cosine: none},
	}
	near := func(a, b Number) bool {
		return a == b || math.Abs(float64(a-b)) < 1e-6*math.Abs(float64(b)) || math.IsNaN(float64(a)) && math.IsNaN(float64(b))
	}
	for i, w := range want {
		g := r.Tensors[i]
		if g.Name != w.Name || g.Status != w.Status || !near(g.MaxAbs, w.MaxAbs) || !near(g.RMS, w.RMS) || !near(g.Relative, w.Relative) || !near(g.Cosine, w.Cosine) || !math.IsNaN(float64(g.OwnMaxAbs+0*g.OwnExcess)) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	if len(r.Tensors) != len(want) || r.Verdict != "differs" || *r.First != want[0].Name || *r.Cause != "unknown" ||
		r.Detail != "the first tensor that differs by more than 0.0001 of its largest number; without a model (-model) nothing is known of its cause" || r.Growth.Layers == nil {
		t.Errorf("got %+v", r)
	}
	if r, err = (CompareOptions{Ours: ours, Tolerance: 0.5}).Compare(nil, &Recording{IDs: ours.IDs, Tensors: theirs.Tensors[4:6]}); err != nil || r.Verdict != "match" || r.Detail != "agreement to 0.5 of the largest number, in 2 tensors" {
		t.Errorf("with a tolerance: %v, %v", r, err)
	}
	m, _, _, _ := portOf(t, "qwen3-tiny")
	for _, m := range []*Model{nil, m} {
		for want, ids := range map[string][]int{"the ids differ from token 1 on (3 and 3 tokens)": {1, 3, 3}, "the ids differ from token 3 on (3 and 4 tokens)": {1, 2, 3, 4}, "the ids differ from token 2 on (3 and 2 tokens)": {1, 2}} {
			rec := &Recording{IDs: ids, Tensors: []Tensor{NewTensor("model.embed_tokens", make([]float32, 36*len(ids)), len(ids), 36)}}
			r, err := CompareOptions{Ours: ours}.Compare(m, rec)
			if err != nil || r.Verdict != "differs" || *r.First != "input_ids" || r.Detail != want+": the tokenizers disagree, or the prompts do" {
				t.Errorf("%v: %v, %v", ids, r, err)
			}
		}
	}
}

// TestCompareTwo has pairs of recordings that differ in how they are written down, or in
// what they hold.
func TestCompareTwo(t *testing.T) {
	defer answers(t, "Compare")()
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	count := func(n int) (x []float32) {
		for i := range n {
			x = append(x, float32(i))
		}
		return x
	}
	other := scaledBy(count(24), 2)
	turned := []float32{0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23} // [3 2 4] of [2 3 4]
	const rope, norm = "model.layers.1.self_attn.q_rope", "model.layers.3.input_layernorm"
	for _, tt := range []struct {
		name                 string
		ours, theirs         []Tensor
		o                    CompareOptions
		verdict, first       string
		residual             Number
		detail, warning, all string
	}{
		{"a batch of one in theirs", []Tensor{NewTensor(rope, count(24), 2, 3, 4)}, []Tensor{NewTensor(rope, count(24), 1, 2, 3, 4)}, CompareOptions{}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "", "ok"},
		{"a batch of one in ours", []Tensor{NewTensor(rope, count(24), 1, 2, 3, 4)}, []Tensor{NewTensor(rope, count(24), 2, 3, 4)}, CompareOptions{}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "", "ok"},
		{"heads in one dimension", []Tensor{NewTensor(rope, count(24), 2, 12)}, []Tensor{NewTensor(rope, count(24), 2, 3, 4)}, CompareOptions{}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "", "ok"},
		{"heads first", []Tensor{NewTensor(rope, turned, 3, 2, 4)}, []Tensor{NewTensor(rope, count(24), 2, 3, 4)}, CompareOptions{}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "", "ok"},
		{"another shape", []Tensor{NewTensor("a", count(24), 24), NewTensor("b", count(2), 2)}, []Tensor{NewTensor("a", count(23), 23), NewTensor("b", count(2), 2)}, CompareOptions{}, "differs", "a", 1, "a: found shape [23], and [24] in ours", "", "shape ok"},
		{"as many numbers in another shape", []Tensor{NewTensor("a", count(24), 4, 6)}, []Tensor{NewTensor("a", count(24), 6, 4)}, CompareOptions{}, "differs", "a", 1, "a: found shape [6 4], and [4 6] in ours", "", "shape"},
		{"an error, and then another shape", []Tensor{NewTensor(rope, other, 24), NewTensor("b", count(2), 2)}, []Tensor{NewTensor("b", count(1), 1), NewTensor(rope, count(24), 24)}, CompareOptions{}, "differs", rope, 1, "", "", "broken shape"},
		{"another shape, and then an error", []Tensor{NewTensor(rope, other, 24), NewTensor("lm_head", other, 24)}, []Tensor{NewTensor("lm_head", count(24), 24), NewTensor(rope, count(12), 12)}, CompareOptions{}, "differs", rope, 1, "", "", "shape inherited"},
		{"something in front", []Tensor{NewTensor("net."+norm, count(24), 24), NewTensor("net."+rope, other, 24), NewTensor("lm_head", other, 24)},
			[]Tensor{NewTensor("lm_head", count(24), 24), NewTensor(norm, count(24), 24), NewTensor(rope, count(24), 24)}, CompareOptions{}, "differs", rope, 1, "", "", "broken ok inherited"},
		{"something in front of theirs", []Tensor{NewTensor(norm, other, 24), NewTensor(rope, other, 24)}, []Tensor{NewTensor("net."+norm, count(24), 24), NewTensor("a.net."+rope, count(24), 24)}, CompareOptions{}, "differs", "a.net." + rope, 1, "", "", "broken inherited"},
		{"a state and a block", []Tensor{NewTensor("hidden_states.1", count(24), 24), NewTensor("hidden_states.2", other, 24)}, []Tensor{NewTensor("model.norm", count(24), 24), NewTensor("model.layers.0", count(24), 24)}, CompareOptions{}, "differs", "model.norm", 1, "", "", "ok broken"},
		{"one of its own name before one of its place", []Tensor{NewTensor("net."+norm, other, 24), NewTensor(norm, count(24), 24), NewTensor(norm, other, 24)}, []Tensor{NewTensor(norm, count(24), 24)}, CompareOptions{}, "match", "", 0, "", "", "ok"},
		{"counts among them", []Tensor{idTensor("position_ids", I64, []int{2}, 0, 1), NewTensor("a", count(2), 2)}, []Tensor{idTensor("position_ids", I64, []int{2}, 0, 1), NewTensor("a", count(2), 2)}, CompareOptions{}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "left out: position_ids: found dtype I64, expected F32, F16, BF16 or F64", "ok"},
		{"counts in ours alone", []Tensor{idTensor("b", I64, []int{2}, 0, 1), NewTensor("a", count(2), 2)}, []Tensor{NewTensor("b", count(2), 2), NewTensor("a", count(2), 2)}, CompareOptions{}, "match", "", 0, "", "left out: b: found dtype I64, expected F32, F16, BF16 or F64", "ok"},
		{"a mask", []Tensor{NewTensor("a", []float32{0, inf, nan, 4}, 4)}, []Tensor{NewTensor("a", []float32{0, inf, nan, 4}, 4)}, CompareOptions{}, "match", "", 0, "", "", "ok"},
		{"an error beside a mask", []Tensor{NewTensor("a", []float32{0, inf, nan, 3}, 4)}, []Tensor{NewTensor("a", []float32{0, inf, nan, 4}, 4)}, CompareOptions{}, "differs", "a", 0.25, "", "", "broken"},
		{"infinities that differ", []Tensor{NewTensor("a", []float32{0, -inf}, 2)}, []Tensor{NewTensor("a", []float32{0, inf}, 2)}, CompareOptions{}, "differs", "a", Number(math.Inf(1)), "", "", "broken"},
		{"no numbers", []Tensor{NewTensor("a", nil, 0)}, []Tensor{NewTensor("a", nil, 0)}, CompareOptions{}, "match", "", 0, "", "", "ok"},
		{"one step", []Tensor{NewTensor("a", other, 24), NewTensor(norm, other, 24), NewTensor(rope, count(24), 24)}, []Tensor{NewTensor("a", count(24), 24), NewTensor(norm, count(24), 24), NewTensor(rope, count(24), 24)}, CompareOptions{Op: "q_rope"}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "", "ok"},
		{"one layer", []Tensor{NewTensor("a", other, 24), NewTensor(norm, other, 24), NewTensor(rope, count(24), 24)}, []Tensor{NewTensor("a", count(24), 24), NewTensor(norm, count(24), 24), NewTensor(rope, count(24), 24)}, CompareOptions{Layers: []int{1}}, "match", "", 0, "agreement to 0.0001 of the largest number, in 1 tensor", "", "ok"},
	} {
		tt.o.Ours = &Recording{IDs: []int{5, 6}, Tensors: tt.ours}
		r, err := tt.o.Compare(nil, &Recording{IDs: []int{5, 6}, Tensors: tt.theirs})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		first, all, warning := "", "", strings.Join(r.Warnings, "; ")
		if r.First != nil {
			first = *r.First
		}
		for _, x := range r.Tensors {
			all += " " + x.Status
		}
		if r.Verdict != tt.verdict || first != tt.first || tt.detail != "" && r.Detail != tt.detail || warning != tt.warning || strings.TrimSpace(all) != tt.all {
			t.Errorf("%s: got %s, %q, %q, warning %q, %s\nwant %s, %q, %q, warning %q, %s", tt.name, r.Verdict, first, r.Detail, warning, all, tt.verdict, tt.first, tt.detail, tt.warning, tt.all)
		}
		if r.Residual != tt.residual && !(first == rope || strings.HasSuffix(first, rope) || first == "model.norm") {
			t.Errorf("%s: residual %g, want %g", tt.name, float64(r.Residual), float64(tt.residual))
		}
		if r.Verdict == "differs" && len(r.Tensors) > 0 && !strings.Contains(all, "shape") {
			for _, x := range r.Tensors {
				if x.Name == first && x.Relative != r.Residual {
					t.Errorf("%s: residual %g, want the relative error %g", tt.name, float64(r.Residual), float64(x.Relative))
				}
			}
		}
	}
}

// TestCompareOurs writes our recording down in other ways: the same chain.
func TestCompareOurs(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, _ := portOf(t, "qwen3-tiny")
	rec := good.recording(m, ids)
	ours := good.recording(m, ids)
	for i := range ours.Tensors {
		x := &ours.Tensors[i]
		x.Shape = append([]int{1}, x.Shape...)
		if x.Name == "model.layers.1.self_attn.q_rope" { // as torch has it, [1, heads, seq, headDim]
			turned, _ := fitShape(good[x.Name], []int{8, 6, 10}, []int{6, 8, 10})
			*x = NewTensor(x.Name, turned, 1, 6, 8, 10)
		}
	}
	ours.Tensors = append(ours.Tensors, NewTensor("net.model.norm", []float32{1}, 1))
	r, err := CompareOptions{Ours: ours}.Compare(m, rec)
	if err != nil || r.Verdict != "match" || len(r.Warnings) > 0 {
		t.Fatalf("%v, %v", err, r)
	}
	for _, x := range r.Tensors {
		if x.MaxAbs != 0 {
			t.Errorf("%s: the same numbers differ by %g", x.Name, float64(x.MaxAbs))
		}
	}
	ours.Tensors = slices.Insert(ours.Tensors, 0, ours.Tensors[len(ours.Tensors)-1])
	r, err = CompareOptions{Ours: ours}.Compare(m, rec)
	if want := "[net.model.norm of ours: found shape [1], expected [8 36]]"; err != nil || fmt.Sprint(r.Warnings) != want {
		t.Errorf("got %v, %v, want %s", err, r.Warnings, want)
	}
}

// TestComparePart judges attention, the FFN and a block as one step each: what lies
// inside may be wrong.
func TestComparePart(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, _ := portOf(t, "qwen3-tiny")
	const l0 = "model.layers.0."
	wrong := func(names ...string) port {
		p := port{}
		for _, n := range names {
			p[l0+n] = scaledBy(good[l0+n], 2)
		}
		return p
	}
	for _, tt := range []struct {
		op      string
		layers  []int
		port    port
		verdict string
		judged  []string
	}{
		{"self_attn", nil, wrong("self_attn.q_proj", "self_attn.k_rope", "self_attn.context", "self_attn.probs"), "match", []string{l0 + "self_attn.o_proj", "model.layers.1.self_attn.o_proj"}},
		{"self_attn", []int{0}, wrong("self_attn.o_proj"), "differs", []string{l0 + "self_attn.o_proj"}},
		{"self_attn", []int{0}, wrong("input_layernorm"), "differs", []string{l0 + "self_attn.o_proj"}},
		{"mlp", []int{0}, wrong("mlp.gate_proj", "mlp.gated", "mlp.act_fn"), "match", []string{l0 + "mlp.down_proj"}},
		{"mlp", []int{0}, wrong("post_attention_layernorm"), "differs", []string{l0 + "mlp.down_proj"}},
		{"block", []int{0}, wrong("mlp.down_proj", "self_attn.o_proj", "attn_residual", "input_layernorm"), "match", []string{"model.layers.0"}},
		{"block", []int{1}, wrong("mlp.down_proj"), "match", []string{"model.layers.1"}},
		{"block", []int{1}, port{"model.layers.0": scaledBy(good["model.layers.0"], 2)}, "differs", []string{"model.layers.1"}},
		{"mlp.gated", []int{0}, wrong("mlp.act_fn"), "differs", []string{l0 + "mlp.gated"}},
		{"model.norm", nil, nil, "match", []string{"model.norm"}},
		{"", []int{1}, wrong("mlp.gated"), "match", nil},
		{"model.layers.0.mlp.gated", nil, wrong("mlp.act_fn"), "differs", []string{l0 + "mlp.gated"}},
		{"model.layers.1.mlp.gated", nil, wrong("mlp.act_fn"), "match", []string{"model.layers.1.mlp.gated"}},
		{"model.layers.1.mlp.gated", []int{0}, wrong("mlp.act_fn"), "differs", []string{l0 + "mlp.gated"}},
		{"model.layers.0", nil, wrong("mlp.down_proj"), "differs", []string{"model.layers.0"}},
		{"hidden_states.2", nil, wrong("mlp.down_proj"), "match", []string{"model.norm"}},
		{"q_proj", []int{}, nil, "match", []string{l0 + "self_attn.q_proj", "model.layers.1.self_attn.q_proj"}},
		{"lm_head", nil, port{"lm_head": scaledBy(good["lm_head"], 2)}, "differs", []string{"lm_head"}},
	} {
		r, err := CompareOptions{Op: tt.op, Layers: tt.layers}.Compare(m, good.with(tt.port).recording(m, ids))
		if err != nil {
			t.Fatalf("%q %v: %v", tt.op, tt.layers, err)
		}
		var names []string
		for _, x := range r.Tensors {
			if x.Status != "missing" {
				names = append(names, x.Name)
			}
		}
		if r.Verdict != tt.verdict || tt.judged != nil && !slices.Equal(names, tt.judged) {
			t.Errorf("%q %v: got %s, %v, want %s, %v", tt.op, tt.layers, r.Verdict, names, tt.verdict, tt.judged)
		}
		for _, x := range r.Tensors {
			if !math.IsNaN(float64(x.MaxAbs)) {
				t.Errorf("%s: a step alone has no chain", x.Name)
			}
		}
	}
}

// TestCompareRows computes what a report says of one tensor, and of the layers.
func TestCompareRows(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, _ := portOf(t, "qwen3-tiny")
	const name = "model.layers.0"
	x := slices.Clone(good[name])
	x[5], x[36+2], x[7*36+35] = x[5]+0.5, x[36+2]-2, x[7*36+35]+1
	bad := good.with(port{name: x})
	r, err := CompareOptions{Ours: good.recording(m, ids)}.Compare(m, bad.recording(m, ids))
	if err != nil {
		t.Fatal(err)
	}
	size := 0.0
	for _, v := range x {
		size = max(size, math.Abs(float64(v)))
	}
	near := func(got Number, want float64) bool { return math.Abs(float64(got)-want) <= 1e-4*math.Abs(want) }
	wrong := false
	for _, row := range r.Tensors {
		at, _ := placeOf(row.Name, 2)
		status := "ok"
		if row.Name == name {
			wrong, status = true, "broken"
			if !near(row.MaxAbs, 2) || !near(row.RMS, math.Sqrt(5.25/float64(len(x)))) || !near(row.Relative, 2/size) || !near(row.OwnMaxAbs, 2) || !near(row.OwnRelative, 2/size) || !(row.OwnExcess > 1e3) {
				t.Errorf("got %+v", row)
			}
			if len(row.Worst) != 3 || !slices.Equal(row.Worst[0].Index, []int{1, 2}) || !slices.Equal(row.Worst[1].Index, []int{7, 35}) || !slices.Equal(row.Worst[2].Index, []int{0, 5}) ||
				!near(row.Worst[0].Reference, float64(x[38])) || !near(row.Worst[0].Ours, float64(good[name][38])) || !near(row.Worst[0].Ratio, float64(x[38])/float64(good[name][38])) {
				t.Errorf("the worst are %v", row.Worst)
			}
			for i, p := range row.positions {
				var e, of float64
				for j := i * 36; j < i*36+36; j++ {
					e, of = e+math.Pow(float64(x[j]-good[name][j]), 2), of+math.Pow(float64(x[j]), 2)
				}
				if want := math.Sqrt(e / of); math.Abs(p-want) > 1e-9 {
					t.Errorf("position %d: got %g, want %g", i, p, want)
				}
			}
			if len(row.positions) != len(ids) {
				t.Errorf("%d positions", len(row.positions))
			}
		} else if wrong && at.layer == 1 && (at.op == "input_layernorm" || at.op == "attn_residual") {
			status = "broken" // they were made of the right numbers
		}
		if row.Status != status {
			t.Errorf("%s: %s, want %s", row.Name, row.Status, status)
		}
		if row.Status == "ok" && (row.MaxAbs != 0 || row.RMS != 0 || row.Relative != 0 || !near(row.Cosine, 1)) {
			t.Errorf("%s is the same in both: %+v", row.Name, row)
		}
		if at.op == "embed_tokens" && (row.OwnRelative != 0 || row.OwnMaxAbs != 0) {
			t.Errorf("a row of the table is what it is: %+v", row)
		}
		if (row.positions == nil) != (at.op == "probs") {
			t.Errorf("%s: %d positions", row.Name, len(row.positions))
		}
	}
	rms := func(a []float32, b []float32) float64 {
		sum := 0.0
		for i := range a {
			d := float64(a[i])
			if b != nil {
				d -= float64(b[i])
			}
			sum += d * d
		}
		return math.Sqrt(sum / float64(len(a)))
	}
	g := r.Growth.Layers
	if len(g) != 3 || g[0].Name != "model.embed_tokens" || g[1].Name != name || g[2].Name != "model.layers.1" {
		t.Fatalf("got %v", g)
	}
	var sum, most float64
	for i := range ids {
		d := rms(x[i*36:i*36+36], good["model.embed_tokens"][i*36:i*36+36]) * 6 // the square root of 36
		sum, most = sum+d/float64(len(ids)), max(most, d)
	}
	if g[0].Error != 0 || g[0].ChangeMax != 0 || !near(g[1].Error, rms(x, good[name])/rms(x, nil)) || g[1].Increase != 0 || !near(g[1].Own, 2/size) || !near(g[1].ChangeMean, sum) || !near(g[1].ChangeMax, most) || g[2].Error != 0 || g[2].Increase != 0 || len(g[1].positions) != len(ids) {
		t.Errorf("got %+v", g)
	}
}

// TestCompareChain lets an error run through the layers: what follows from it is
// inherited.
func TestCompareChain(t *testing.T) {
	defer answers(t, "Compare")()
	m, ids, good, changed := portOf(t, "qwen3-tiny")
	p := newPlain(m, ids)
	p.ref[place{-1, "embed_tokens"}] = wide(good["model.embed_tokens"])
	y := wide(changed["scale-heads"]["model.layers.0.self_attn.probs"])
	p.ref[place{0, "probs"}] = y
	wrong, q := false, port{}
	for _, at := range m.places() {
		for _, v := range p.trial(inFloat32, nil).input(at) {
			q[at.name()] = append(q[at.name()], float32(v))
		}
	}
	r, err := Compare(m, q.recording(m, ids))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Tensors {
		want := "ok"
		if row.Name == "model.layers.0.self_attn.probs" {
			wrong, want = true, "broken"
		} else if wrong && !strings.Contains(row.Name, "0.self_attn.v_proj") {
			want = "inherited"
		}
		if row.Status != want {
			t.Errorf("%s: %s, want %s", row.Name, row.Status, want)
		}
	}
	if g := r.Growth.Layers; g[0].Error != 0 || g[1].Increase != 0 || g[2].Increase != g[2].Error/g[1].Error {
		t.Errorf("growth %+v", g)
	}
}

// TestExtent says in which layers a mistake was made.
func TestExtent(t *testing.T) {
	defer answers(t, "Compare")()
	k := &comparison{plain: &plain{m: &Model{Config: Config{Layers: 4}}}}
	k.m = k.plain.m
	at := func(op string, layers ...int) *subject {
		s := &subject{}
		for _, l := range layers {
			s.cone = append(s.cone, place{l, op})
		}
		return s
	}
	one := finding{patch: patch{ops: []string{"a"}, layer: 1}}
	every := finding{patch: patch{ops: []string{"a"}, layer: everyLayer}}
	for _, tt := range []struct {
		f         finding
		s         *subject
		explained []*subject
		rest      int
		want      string
	}{
		{one, at("a", 1), nil, 0, ", in layer 1"},
		{one, at("norm", 4), nil, 0, ""},
		{one, at("embed_tokens", -1), nil, 2, "; it explains 0 of 2 other broken tensors"},
		{one, at("a", 1), []*subject{at("a", 3)}, 0, ", in 2 of 4 layers; it explains 1 of 1 other broken tensor"},
		{one, at("a", 0), []*subject{at("a", 1), at("a", 2), at("a", 3)}, 1, ", in every layer; it explains 3 of 4 other broken tensors"},
		{every, at("a", 0, 1), nil, 0, ", in every layer"},
		{one, at("b", 0, 1), []*subject{at("a", 2, 3)}, 0, ", in 2 of 4 layers; it explains 1 of 1 other broken tensor"},
		{one, at("b", 2), nil, 0, ", in layer 2"},
	} {
		if got := k.extent(tt.f, tt.s, tt.explained, tt.rest); got != tt.want {
			t.Errorf("%v, %v: got %q, want %q", tt.s.cone, tt.explained, got, tt.want)
		}
	}
}

// TestFingerprint tells how numbers were rounded.
func TestFingerprint(t *testing.T) {
	defer answers(t, "Compare")()
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, tt := range []struct {
		x     []float32
		cause string
	}{
		{[]float32{1.5, 0.1}, ""},
		{[]float32{0, 1, 0}, ""},
		{nil, ""},
		{[]float32{0.100097656, 1}, "bf16-rounding"},
		{[]float32{0.099975586, 1, inf, nan}, "f16-rounding"},
		{[]float32{1e30, 1}, ""},
		{[]float32{0x1p100, 3}, "bf16-rounding"},
		{[]float32{0.5, 0.25}, "bf16-rounding"}, // either: the coarser one
	} {
		if got := fingerprint(tt.x).cause; got != tt.cause {
			t.Errorf("%v: got %q, want %q", tt.x, got, tt.cause)
		}
	}
	for _, tt := range []struct {
		ours, want []float64
		bias       float64
	}{
		{[]float64{1, -2, 3}, []float64{0.5, -1, 2}, 1},
		{[]float64{1, -2, 3}, []float64{1.5, -3, 4}, -1},
		{[]float64{1, -2, 3, 0, 5}, []float64{0.5, -3, 3, 7, 5}, 0},
		{[]float64{1, 2, 3, 4}, []float64{0.5, 1, 2, 5}, 0.5},
		{[]float64{1, 2}, []float64{1, 2}, 0},
	} {
		if got := towardsZero(tt.ours, tt.want); got != tt.bias {
			t.Errorf("%v and %v: bias %g, want %g", tt.ours, tt.want, got, tt.bias)
		}
	}
	nan64 := math.NaN()
	spots := worst([]float64{0, 0, 0, 0, 0, 0}, []float64{3, 1, nan64, 4, 4, 2}, []int{2, 3})
	if got := fmt.Sprint(spots[0].Index, spots[1].Index, spots[2].Index); len(spots) != 3 || got != "[0 2] [1 0] [1 1]" {
		t.Errorf("the worst are at %s", got)
	}
	if n := nonFinite([]float64{1, nan64, math.Inf(1), math.Inf(-1), 0}); n != 3 {
		t.Errorf("%d numbers are not finite, want 3", n)
	}
}

// toyComparison judges steps made here: each makes the one number 8, and the number of
// a mistake's constant with a mistake. A rounding adds 1/4.
func toyComparison(ops ...string) (k *comparison, subjectOf func(layer int, op string, want float64) *subject) {
	p, a := toy([]float64{8}, nil)
	for _, op := range ops {
		p.steps[op] = p.steps[a.ops[0]]
	}
	k = &comparison{plain: p, rows: map[*subject]*TensorReport{}, report: &Report{}}
	return k, func(layer int, op string, want float64) *subject {
		at := place{layer, op}
		s := &subject{place: at, name: at.name(), want: []float64{want}, width: 1, prec: toyPrecision, cone: []place{at}}
		k.measure(s, []float64{8}, toyPrecision)
		k.subjects, k.rows[s] = append(k.subjects, s), &TensorReport{Name: s.name, Status: "ok"}
		return s
	}
}

// toyFinding is a mistake in some of those steps.
func toyFinding(value float64, layer int, ops ...string) finding {
	m := &mistake{cause: fmt.Sprint(value), run: func(c *call) []float64 {
		return c.each([]float64{c.value()}, func(v float64) float64 { return v })
	}}
	return finding{patch: patch{m, ops, layer, value}}
}

// TestMostConsistent asks findings what they say of the same layer's other tensors.
func TestMostConsistent(t *testing.T) {
	defer answers(t, "Compare")()
	for _, tt := range []struct {
		name  string
		found []finding
		want  int
	}{
		{"one", []finding{toyFinding(1, 0, "a")}, 0},
		{"nothing else is known", []finding{toyFinding(1, 0, "a"), toyFinding(2, 0, "a")}, 0},
		{"wrong of another", []finding{toyFinding(1, 0, "a", "one"), toyFinding(2, 0, "a")}, 1},
		{"right of another", []finding{toyFinding(2, 0, "a"), toyFinding(2, 0, "a", "two")}, 1},
		{"as far off as rounding goes", []finding{toyFinding(2, 0, "a"), toyFinding(2.25, 0, "a", "two")}, 1},
		{"a little farther", []finding{toyFinding(2, 0, "a"), toyFinding(2.26, 0, "a", "two")}, 0},
		{"right of one, wrong of one", []finding{toyFinding(2, 0, "a", "two", "three"), toyFinding(2, 0, "a", "two")}, 1},
		{"right of one, wrong of two", []finding{toyFinding(2, 0, "a", "two", "three", "four"), toyFinding(9, 0, "a")}, 1},
		{"as right", []finding{toyFinding(2, 0, "a", "two"), toyFinding(3, 0, "a", "three")}, 0},
		{"another layer", []finding{toyFinding(2, 0, "a"), toyFinding(2, everyLayer, "a", "far")}, 0},
		{"another layer, wrong", []finding{toyFinding(1, everyLayer, "a", "far"), toyFinding(2, 0, "a")}, 0},
		{"of another shape", []finding{toyFinding(1, 0, "a", "shapeless"), toyFinding(2, 0, "a")}, 0},
		{"not judged", []finding{toyFinding(1, 0, "a", "unjudged"), toyFinding(2, 0, "a")}, 0},
		{"itself", []finding{toyFinding(1, 0, "a"), toyFinding(7, 0, "a")}, 0},
	} {
		k, holds := toyComparison("one", "two", "three", "four", "far", "shapeless", "unjudged")
		s := holds(0, "a", 7)
		holds(0, "one", 8)
		holds(0, "two", 2)
		holds(0, "three", 3)
		holds(0, "four", 4)
		holds(1, "far", 2)
		holds(0, "shapeless", 2).want = nil
		holds(0, "unjudged", 2).cone = nil
		if got := k.mostConsistent(s, tt.found); got.cause != tt.found[tt.want].cause || fmt.Sprint(got.ops) != fmt.Sprint(tt.found[tt.want].ops) {
			t.Errorf("%s: got %s of %s, want number %d", tt.name, got.cause, got.ops, tt.want)
		}
	}
}

// TestPrecisionLevel has recordings of which some tensors are rounded.
func TestPrecisionLevel(t *testing.T) {
	defer answers(t, "Compare")()
	for _, tt := range []struct {
		single, brain, half int // tensors of each precision
		level               precision
	}{
		{3, 0, 0, inFloat32}, {1, 2, 0, inBF16}, {2, 2, 0, inFloat32}, {1, 0, 2, inF16}, {2, 0, 2, inFloat32}, {0, 2, 2, inFloat32}, {1, 2, 1, inFloat32}, {0, 3, 2, inBF16}, {0, 2, 3, inF16}, {0, 0, 0, inFloat32},
	} {
		k := &comparison{m: &Model{Embed: Matrix{DType: BF16}}}
		low := map[string]int{}
		for prec, n := range map[*precision]int{&inFloat32: tt.single, &inBF16: tt.brain, &inF16: tt.half} {
			for range n {
				low[prec.cause]++
				k.subjects = append(k.subjects, &subject{place: place{0, "q_proj"}, prec: *prec})
			}
		}
		k.subjects = append(k.subjects, &subject{place: place{-1, "embed_tokens"}, prec: inFloat32})
		k.setLevel(low)
		if k.level.cause != tt.level.cause {
			t.Errorf("%+v: got %q, want %q", tt, k.level.cause, tt.level.cause)
		}
		for _, s := range k.subjects {
			switch {
			case s.op == "embed_tokens" && s.prec.cause != map[string]string{"f16-rounding": "f16-rounding"}[tt.level.cause]: // the table has bfloat16: those are copies
				t.Errorf("%+v: the embedding is judged by %q", tt, s.prec.cause)
			case s.op != "embed_tokens" && (s.prec.unit < tt.level.unit || s.prec.cause == "" && tt.level.cause != ""):
				t.Errorf("%+v: a tensor is judged by %q", tt, s.prec.cause)
			}
		}
	}
}

// TestAccepted has an own error on either side of what needs an explanation.
func TestAccepted(t *testing.T) {
	defer answers(t, "Compare")()
	for _, tt := range []struct {
		want, tolerance float64
		accepted        bool
	}{{8, 0, true}, {8.25, 0, true}, {8.26, 0, false}, {10, 0.2, true}, {10, 0.19, false}, {4, 1, true}} {
		k, holds := toyComparison()
		k.Tolerance = tt.tolerance
		if got := k.accepted(holds(0, "a", tt.want)); got != tt.accepted {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

// TestPrecisionVerdict says whether bits were cut off, by the mean of all tensors.
func TestPrecisionVerdict(t *testing.T) {
	defer answers(t, "Compare")()
	const rounded, cut = "rounding to float16 explains every difference (2 tensors); nothing else is wrong", "; the errors all point towards zero, as if bits were cut off and not rounded"
	for _, tt := range []struct {
		a, b   Number
		detail string
	}{{0, 0, rounded}, {1, 0, rounded}, {1, 0.02, rounded + cut}, {0.6, 0.6, rounded + cut}, {-1, -1, rounded}, {1, 1, rounded + cut}} {
		k, holds := toyComparison()
		a, b := holds(0, "a", 7), holds(1, "a", 6)
		k.rows[a].TowardsZero, k.rows[b].TowardsZero = tt.a, tt.b
		k.rows[a].OwnRelative, k.rows[b].OwnRelative = 0.5, 0.25
		k.concludePrecision([]*subject{a, b}, inF16)
		r := k.report
		if r.Verdict != "precision" || *r.First != a.name || *r.Cause != "f16-rounding" || r.Detail != tt.detail || r.Residual != 0.5 || k.rows[a].Status != "broken" || k.rows[b].Status != "broken" {
			t.Errorf("%v, %v: got %s", tt.a, tt.b, r)
		}
	}
}

// TestCoarseRounding has steps whose results are all that is known, and roundings
// inside of them.
func TestCoarseRounding(t *testing.T) {
	defer answers(t, "Compare")()
	const yard = 1.5 * 0x1p-9 // of 1: half a unit, and one unit of itself
	for _, tt := range []struct {
		want  []float64
		cause string
	}{
		{[]float64{1 + yard}, "bf16-rounding"},
		{[]float64{1 + yard/8}, "f16-rounding"}, // the finer one is enough
		{[]float64{1 + 3*yard}, ""},
		{[]float64{1 + 2.4*yard}, "bf16-rounding"},
		{[]float64{1 + 2.6*yard}, ""},
		{[]float64{1 + yard, 1 - yard}, "bf16-rounding"},
		{[]float64{1 + yard, 1 + 3*yard}, ""},
		{[]float64{1 + 3*yard, 1 + yard}, ""},
		{[]float64{1 + yard, 1}, "bf16-rounding"},
		{[]float64{1 + yard, 1, 1}, ""}, // most have nothing to explain
		{[]float64{1 + 0.06*yard/8}, "f16-rounding"},
		{[]float64{1 + 0.04*yard/8}, ""},
	} {
		k, holds := toyComparison()
		k.steps["a"] = func(c *call) []float64 { return []float64{1} }
		var broken []*subject
		for i, w := range tt.want {
			broken = append(broken, holds(i, "a", w))
		}
		if prec, ok := k.coarseRounding(broken); prec.cause != tt.cause || ok != (tt.cause != "") {
			t.Errorf("%v: got %q, %v, want %q", tt.want, prec.cause, ok, tt.cause)
		}
	}
}

// TestThetaOrWidth has frequencies that another theta makes, or another width.
func TestThetaOrWidth(t *testing.T) {
	defer answers(t, "Compare")()
	m := &Model{Config: Config{HeadDim: 10, RoPE: RoPEConfig{Type: "default", Theta: 1e6}}}
	for _, tt := range []struct {
		theta float64
		kind  string
		cause string
		value float64
		says  string
	}{
		{1e4, "default", "rope-theta", 1e4, "theta is 10000, or the frequencies are made for heads of 15: these are the same numbers"},
		{2e4, "default", "rope-theta", 2e4, "theta is %.6g"},
		{1e4, "yarn", "rope-theta", 1e4, "theta is %.6g"},
		{1e3, "default", "rope-theta", 1e3, "theta is 1000, or the frequencies are made for heads of 20: these are the same numbers"},
		{math.Pow(1e6, 10./18), "default", "rope-dim", 18, "theta is 2154.43, or the frequencies are made for heads of 18: these are the same numbers"},
		{math.Pow(1e6, 10./(18*1.0019)), "default", "rope-dim", 18, "theta is 2123.3, or the frequencies are made for heads of 18: these are the same numbers"},
		{math.Pow(1e6, 10./(18*1.0021)), "default", "rope-theta", math.Pow(1e6, 10./(18*1.0021)), "theta is %.6g"},
		{math.Pow(1e6, 10./(18/1.0019)), "default", "rope-dim", 18, "theta is 2186.08, or the frequencies are made for heads of 18: these are the same numbers"},
		{math.Pow(1e6, 10./(18/1.0021)), "default", "rope-theta", math.Pow(1e6, 10./(18/1.0021)), "theta is %.6g"},
	} {
		k := &comparison{m: m, plain: &plain{m: m}}
		k.m.Config.RoPE.Type = tt.kind
		f := k.thetaOrWidth(finding{patch: patch{mistakeOf("rope-theta"), []string{"q_rope"}, 0, tt.theta}})
		if f.cause != tt.cause || f.value != tt.value || f.mistake.says != tt.says || f.number() == nil {
			t.Errorf("%g: got %s %g, %q, want %s %g, %q", tt.theta, f.cause, f.value, f.mistake.says, tt.cause, tt.value, tt.says)
		}
	}
	if m := mistakeOf("rope-theta"); m.says != "theta is %.6g" || m.fit != byFactor {
		t.Errorf("the known mistake has changed: %+v", m)
	}
}

// TestGuessHead has logits that have more or less to do with the tied head's.
func TestGuessHead(t *testing.T) {
	defer answers(t, "Compare")()
	for _, tt := range []struct {
		want  []float64 // of logits 3, 4
		tied  bool
		op    string
		steps int
		ok    bool
	}{
		{[]float64{4, -3}, true, "lm_head", 1, true},
		{[]float64{4, -3}, false, "lm_head", 1, false},
		{[]float64{4, -3}, true, "lm_head", 2, false},
		{[]float64{4, -3}, true, "norm", 1, false},
		{[]float64{3, 4}, true, "lm_head", 1, false},
		{[]float64{-30, -40}, true, "lm_head", 1, false},
		{[]float64{3 * 0.49 * 7, 4 * 0.49 * 7}, true, "lm_head", 1, false},
		{[]float64{0.49*3 + 0.872*4, 0.49*4 - 0.872*3}, true, "lm_head", 1, true},
		{[]float64{-0.49*3 + 0.872*4, -0.49*4 - 0.872*3}, true, "lm_head", 1, true},
		{[]float64{0.51*3 + 0.86*4, 0.51*4 - 0.86*3}, true, "lm_head", 1, false},
		{[]float64{-0.51*3 + 0.86*4, -0.51*4 - 0.86*3}, true, "lm_head", 1, false},
	} {
		k, _ := toyComparison()
		k.m = &Model{Config: Config{TieEmbeddings: tt.tied}}
		k.steps[tt.op] = func(c *call) []float64 { return []float64{3, 4} }
		s := &subject{place: place{2, tt.op}, want: tt.want, cone: make([]place, tt.steps), own: distance{max: 5}}
		f, ties, ok := k.guessHead(s)
		if ok != tt.ok || ties != nil || ok && (f.cause != "head-not-tied" || f.residual.max != 5 || f.number() != nil || f.layer != 2 || !slices.Equal(f.ops, []string{"lm_head"})) {
			t.Errorf("%+v: got %v, %+v", tt, ok, f)
		}
	}
}

// TestStatuses has a tensor that is wrong, and others before and after it that differ
// by more or less than an error that is handed on.
func TestStatuses(t *testing.T) {
	defer answers(t, "Compare")()
	m, _ := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	k := &comparison{m: m, plain: newPlain(m, nil), rows: map[*subject]*TensorReport{}, report: &Report{}}
	k.Layers = []int{-1, 0}
	for _, tt := range []struct {
		op, status string
		off        Number
	}{
		{"input_layernorm", "ok", 1}, {"q_proj", "broken", 1}, {"k_proj", "ok", 1.99e-5}, {"k_proj", "ok", 2e-5}, {"k_proj", "ok", 2.01e-5}, {"v_proj", "shape", 1}, {"q_norm", "ok", none}, {"o_proj", "broken", 1}, {blockOutput, "ok", 3.9e-5},
	} {
		at := place{0, tt.op}
		s := &subject{place: at, name: at.name(), own: distance{size: 2}}
		k.subjects, k.rows[s] = append(k.subjects, s), &TensorReport{Name: tt.op, Status: tt.status, MaxAbs: tt.off}
	}
	k.finish()
	var got []string
	for _, x := range k.report.Tensors {
		if x.Status != "missing" {
			got = append(got, x.Name+" "+x.Status)
		} else if p, ok := placeOf(x.Name, 2); !ok || p.layer > 0 || x.Worst == nil || !math.IsNaN(float64(x.MaxAbs+x.RMS+x.Relative+x.Cosine+x.OwnMaxAbs+x.OwnRelative+x.OwnExcess+x.TowardsZero)) {
			t.Errorf("missing: %+v", x)
		}
	}
	want := []string{"input_layernorm ok", "q_proj broken", "k_proj ok", "k_proj ok", "k_proj inherited", "v_proj shape", "q_norm ok", "o_proj broken", "output inherited"}
	if !slices.Equal(got, want) || len(k.report.Tensors) != 1+19+2 || k.report.Tensors[0].Name != "model.embed_tokens" || k.report.Tensors[0].Status != "missing" {
		t.Errorf("got %s of %d\nwant %s", got, len(k.report.Tensors), want)
	}
}
