package qwen

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A fault is a mistake that faults.py made with transformers, in every layer. Its
// tensors are those that the mistake itself changed: what they were made of is as
// it should be.
type fault struct {
	Name              string
	Cause, BlockCause []string // the likeliest first; BlockCause where only the block's output is known
	Value             *float64
	Tensors           []string

	model   *Model
	right   *Recording // what a port without the mistake records
	changed map[string]Tensor
}

// faultsOf reads the faults of one model.
func faultsOf(t *testing.T, model string) (all []fault) {
	t.Helper()
	r := read(&check{T: t}, "testdata/faults/"+filepath.Base(model)+".safetensors")
	m, err := Load(filepath.Join("testdata", model))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	tensor := func(name string) Tensor {
		e, ok := r.entries[name]
		if !ok {
			t.Fatalf("%s holds no %s", r.file, name)
		}
		return Tensor{Name: name[strings.IndexByte(name, ':')+1:], DType: DType(e.DType), Shape: e.Shape, Data: e.data}
	}
	right := &Recording{}
	if _, ok := r.entries["input_ids"]; ok {
		right.IDs = r.ids("input_ids")
		for name := range r.entries {
			if strings.HasPrefix(name, "right:") {
				right.Tensors = append(right.Tensors, tensor(name))
			}
		}
	} else {
		trace := read(&check{T: t}, "testdata/"+model+"/trace.safetensors")
		right.IDs = trace.ids("input_ids")
		for name, e := range trace.entries {
			if name != "input_ids" && !strings.HasPrefix(name, "hidden_states") {
				right.Tensors = append(right.Tensors, Tensor{Name: name, DType: DType(e.DType), Shape: e.Shape, Data: e.data})
			}
		}
	}
	if err := json.Unmarshal([]byte(r.meta["cases"]), &all); err != nil || len(all) < 2 {
		t.Fatalf("%s: %d cases, %v", r.file, len(all), err)
	}
	for i := range all {
		f := &all[i]
		f.model, f.right, f.changed = m, right, map[string]Tensor{}
		for _, name := range f.Tensors {
			f.changed[name] = tensor(f.Name + ":" + name)
		}
	}
	return all
}

var faultModels = []string{"qwen2-tiny", "qwen3-tiny", "variants/qwen3-yarn"}

func (f fault) String() string { return f.model.Config.ModelType + " " + f.Name }

// isValue says whether v is the constant that was put in.
func (f fault) isValue(v float64) bool {
	return f.Value == nil || math.Abs(v-*f.Value) <= 1e-4*math.Abs(*f.Value)
}

// absent says whether the port has no such tensor: one that leaves out a norm may
// have no name for its output.
func (f fault) absent(p place) bool {
	return strings.HasSuffix(f.Name, "-absent") && (p.op == "q_norm" || p.op == "k_norm")
}

// judged returns the plain network on what f's port would record without the
// mistake, and its tensor of that name as a subject.
func (f fault) judged(t *testing.T, name string) (*plain, *subject) {
	t.Helper()
	p := newPlain(f.model, f.right.IDs)
	for _, x := range f.right.Tensors {
		at, _ := placeOf(x.Name, f.model.Config.Layers)
		v, err := numbers(x)
		if err != nil {
			t.Fatal(err)
		}
		if !f.absent(at) {
			p.ref[at] = wide(v)
		}
	}
	at, ok := placeOf(name, f.model.Config.Layers)
	v, err := numbers(f.changed[name])
	if !ok || err != nil {
		t.Fatalf("%s: %s: %v, %v", f, name, at, err)
	}
	shape := f.model.shape(at, len(f.right.IDs))
	s := &subject{place: at, name: name, want: wide(v), width: shape[len(shape)-1], prec: inFloat32}
	y := p.trial(inFloat64, nil).compute(at)
	s.cone = p.cone(at)
	s.ruler = noise(y, p.trial(inFloat32, nil).compute(at), s.width, inFloat32)
	s.own = s.ruler.distance(y, s.want)
	return p, s
}

// fittedNumber is a number in a description: its last digits are those of a fit.
var fittedNumber = regexp.MustCompile(`\d+(\.\d+)?(e[+-]\d+)?`)

func threeDigits(text string) string {
	return fittedNumber.ReplaceAllStringFunc(text, func(s string) string {
		v, _ := strconv.ParseFloat(s, 64)
		if v > 1e9 { // whatever makes a frequency nothing
			return "very much"
		}
		return fmt.Sprintf("%.3g", v)
	})
}

// TestMistakes looks for the cause of each tensor that a mistake changed, among all
// mistakes that can be made in its step.
func TestMistakes(t *testing.T) {
	defer answers(t, "mistake")()
	// Where one tensor alone cannot tell, or the mistake is not a known one.
	alone := map[string]string{"gate-up-loaded": "wrong-weight", "rope-dim": "rope-theta", "rope-dim-double": "rope-theta", "unknown-cube": "", "qwen3 head-not-tied": ""}
	var lines []string
	for _, model := range faultModels {
		for _, f := range faultsOf(t, model) {
			for _, name := range f.Tensors {
				if strings.HasPrefix(name, "hidden_states") {
					continue
				}
				p, s := f.judged(t, name)
				if s.own.excess <= 1 {
					t.Errorf("%s: %s: own error %.2g, want more than 1", f, name, s.own.excess)
				}
				want, ok := alone[f.Name]
				if other, also := alone[f.String()]; also {
					want, ok = other, also
				}
				found := p.find(s)
				switch {
				case !ok && (len(found) == 0 || found[0].cause != f.Cause[0] || !f.isValue(found[0].value)):
					t.Errorf("%s: %s: got %v, want %s %v", f, name, found, f.Cause[0], f.Value)
				case ok && want == "" && len(found) > 0, ok && want != "" && found[0].cause != want:
					t.Errorf("%s: %s: got %v, want %q", f, name, found, want)
				}
				line := f.String() + ": " + name + ": unknown"
				if len(found) > 0 {
					line = threeDigits(fmt.Sprintf("%s: %s: %s %g: %s", f, name, found[0].cause, found[0].value, found[0].says(p, s)))
				}
				lines = append(lines, line)
			}
		}
	}
	sameText(t, "mistakes.txt", strings.Join(lines, "\n"))
}

// TestMistakesInBlocks looks for mistakes of several steps in the output of a block
// of which the input alone is known.
func TestMistakesInBlocks(t *testing.T) {
	defer answers(t, "mistake")()
	var lines []string
	for _, model := range faultModels[:2] {
		for _, f := range faultsOf(t, model) {
			if !slices.Contains([]string{"wrong-weight-layer", "norm-exchanged", "qk-after-rope-absent", "gate-up-loaded"}, f.Name) {
				continue
			}
			p, s := f.judged(t, "hidden_states.1")
			for at := range p.ref {
				if at.layer == 0 {
					delete(p.ref, at)
				}
			}
			clear(p.deps)
			p.trial(inFloat64, nil).compute(s.place)
			s.cone = p.cone(s.place)
			for _, g := range p.find(s) {
				lines = append(lines, fmt.Sprintf("%s: %s in %s: %s", f, g.cause, g.ops, g.says(p, s)))
			}
		}
	}
	sameText(t, "inblocks.txt", strings.Join(lines, "\n"))
}

// TestMistakeRows reads other rows of the embedding, with a rounding error or two.
func TestMistakeRows(t *testing.T) {
	defer answers(t, "mistake")()
	m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	at := place{-1, "embed_tokens"}
	rows := func(of func(t int) int, off float64) *subject {
		var want []float64
		for t := range rec.IDs {
			for i, v := range m.Embed.Row(of(t)) {
				want = append(want, float64(v)*(1+off*float64(i%2)))
			}
		}
		p := newPlain(m, rec.IDs)
		p.trial(inFloat64, nil).compute(at)
		return subjectOf(p, at, want)
	}
	for _, tt := range []struct {
		of   func(t int) int
		off  float64
		want string
	}{
		{func(t int) int { return rec.IDs[t] - 1 }, 0, "each token reads the row of id-1"},
		{func(t int) int { return rec.IDs[t] + 2 }, 0, "each token reads the row of id+2"},
		{func(t int) int { return rec.IDs[t] - 2 }, 0, "each token reads the row of id-2"},
		{func(t int) int { return []int{rec.IDs[t], 0, 96}[t%3] }, 0, fmt.Sprintf("the rows that are read belong to other ids: token 1, id %d, reads row 0; token 2, id %d, reads row 96; token 4, id %d, reads row 0", rec.IDs[1], rec.IDs[2], rec.IDs[4])},
		{func(t int) int { return []int{rec.IDs[t], 5}[t/7] }, 2e-7, fmt.Sprintf("the rows that are read belong to other ids: token 7, id %d, reads row 5", rec.IDs[7])},
		{func(t int) int { return []int{rec.IDs[t], 5}[t/7] }, 1e-4, ""},
	} {
		s := rows(tt.of, tt.off)
		p := newPlain(m, rec.IDs)
		p.trial(inFloat64, nil).compute(at)
		got := ""
		if found := p.find(s); len(found) > 0 {
			got = found[0].says(p, s)
		}
		if got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestMistakeWeights asks which weights may be taken for others, and has what
// cannot be tried.
func TestMistakeWeights(t *testing.T) {
	defer answers(t, "mistake")()
	m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	p := newPlain(m, rec.IDs)
	at := func(p *plain, layer int, op string, value float64) *call {
		return &call{p.trial(inFloat64, &patch{&mistake{}, []string{op}, layer, value}), place{layer, op}}
	}
	names := func(all []place) (text string) {
		for _, p := range all {
			text += " " + strings.TrimPrefix(p.name(), "model.layers.")
		}
		return strings.TrimSpace(text)
	}
	for _, tt := range []struct{ got, want string }{
		{names(at(p, 0, "input_layernorm", 0).otherNorms()), "0.post_attention_layernorm 1.input_layernorm 1.post_attention_layernorm model.norm"},
		{names(at(p, 1, "q_norm", 0).otherNorms()), "1.k_norm 0.q_norm 0.k_norm"},
		{names(at(p, 2, "norm", 0).otherNorms()), "0.input_layernorm 0.post_attention_layernorm 1.input_layernorm 1.post_attention_layernorm"},
		{names(at(p, 0, "k_proj", 0).otherLinears()), "0.self_attn.v_proj 1.self_attn.k_proj"},
		{names(at(p, 1, "up_proj", 0).otherLinears()), "1.mlp.gate_proj 0.mlp.up_proj"},
		{names(at(p, 1, "q_proj", 0).otherLinears()), "0.self_attn.q_proj"},
		{names([]place{at(p, 1, "k_proj", 3).otherLinear(), at(p, 1, "k_proj", 4).otherLinear(), at(p, 1, "k_norm", 2).otherNorm(), at(p, 1, "k_norm", 3).otherNorm()}), "0.self_attn.k_proj 1.self_attn.k_proj 0.k_norm 1.k_norm"},
	} {
		if got := strings.ReplaceAll(tt.got, "self_attn.q_norm", "q_norm"); strings.ReplaceAll(got, "self_attn.k_norm", "k_norm") != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	// Where trying is dear, the layers next to it and the first.
	deep := &Model{Config: m.Config}
	deep.Config.Layers = 6
	for range 3 {
		deep.Layers = append(deep.Layers, m.Layers...)
	}
	d := newPlain(deep, rec.IDs)
	far := at(d, 3, "o_proj", 0)
	far.subject = &subject{cone: make([]place, 2)}
	if got := names(far.otherLinears()); got != "0.self_attn.o_proj 2.self_attn.o_proj 4.self_attn.o_proj" {
		t.Errorf("of a deep model: %s", got)
	}
	far = at(d, 3, "k_norm", 0)
	far.subject = &subject{cone: make([]place, 2)}
	if got := names(far.otherNorms()); got != "3.self_attn.q_norm 0.self_attn.k_norm 2.self_attn.k_norm 4.self_attn.k_norm" {
		t.Errorf("of a deep model: %s", got)
	}

	for name, y := range map[string][]float64{
		"no other weight":               at(p, 1, "q_proj", 2).otherWeight(),
		"a bias of neither":             at(p, 1, "q_proj", 1).otherWeight(),
		"no bias to leave out":          at(p, 1, "q_proj", 0).withoutBias(),
		"no scaling to leave out":       at(p, 1, "q_rope", 0).unscaled(),
		"no factor to leave out":        at(p, 1, "q_rope", 0).withoutFactor(),
		"no turns":                      at(p, 1, "q_rope", 0).rotated(nil),
		"not the last layer":            at(p, 0, blockOutput, 0).afterFinalNorm(),
		"not what is judged":            at(p, 1, blockOutput, 0).afterFinalNorm(),
		"another layer, of a step":      at(p, 1, "q_proj", 0).otherLayer(),
		"no rows, but what is recorded": at(p, -1, "embed_tokens", 0).rowsOf(at(p, -1, "embed_tokens", 0).rowsFound()),
	} {
		if y != nil {
			t.Errorf("%s: it was tried all the same", name)
		}
	}
	for value, want := range map[float64]string{0: "0", 2: "1", 5: "2"} {
		i := slices.IndexFunc(mistakes, func(m mistake) bool { return m.says == "the weights are those of layer %s" })
		if got := mistakes[i].names(at(p, 0, "q_proj", value)); got != want {
			t.Errorf("constant %g: layer %s, want %s", value, got, want)
		}
	}
	// A head in the file is the head, whether or not the config ties it to the embedding.
	stored, _ := openTiny(t, "qwen2-tiny", "qwen2-tiny/trace.safetensors")
	tied := &Model{Config: stored.Config, Layers: stored.Layers, Head: stored.Head, tensors: append([]Tensor{{Name: "empty", DType: F32, Shape: []int{0}}}, stored.tensors...)}
	tied.Config.TieEmbeddings = true
	for _, dtype := range []DType{F16, BF16, I64} {
		tied.tensors = append(tied.tensors, Tensor{"in " + string(dtype), dtype, []int{97, 48}, make([]byte, 97*48*dtype.Size())})
	}
	for m, want := range map[*Model]string{stored: "model.embed_tokens.weight", tied: "model.embed_tokens.weight, in F16, in BF16", m: ""} {
		var names []string
		for _, h := range at(newPlain(m, rec.IDs), 2, "lm_head", 0).otherHeads() {
			names = append(names, h.name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("tied: %v: other heads %s, want %s", m.Config.TieEmbeddings, got, want)
		}
	}
	narrow := &Model{Config: m.Config, Layers: m.Layers, rotary: m.rotary}
	narrow.Config.HeadDim = 2
	n := at(newPlain(narrow, rec.IDs), 0, "q_rope", 0)
	if n.partial(0) != nil || n.partial(1) != nil {
		t.Error("half of a head of two was rotated")
	}
	large := &Model{Config: m.Config, Layers: []Layer{{Attention: AttentionWeights{O: Matrix{F32, 1 << 13, 1<<13 + 1, nil}}}}}
	if at(newPlain(large, rec.IDs), 0, "o_proj", 0).transposed() != nil {
		t.Error("a matrix of 2^26 numbers and more was transposed")
	}
	square := &Model{Config: m.Config, Layers: []Layer{{Attention: AttentionWeights{O: Matrix{F32, 8, 8, nil}}}}}
	if at(newPlain(square, rec.IDs), 0, "o_proj", 1).transposed() != nil {
		t.Error("a square matrix has a second transpose")
	}
	if c := at(p, 0, "q_rope", 0); !slices.Equal(c.shifts(), []float64{1, -1, 2, -2, 3, -3, 4, -4, 8, -8}) {
		t.Errorf("shifts to try where nothing is recorded: %v", c.shifts())
	}
	// qwen3-tiny: hidden 36, 6 heads of 10, 2 key heads
	if got, want := at(p, 0, "q_rope", 0).widths(), []float64{6, 36, 18, 20, 5, 64, 128, 256, 60, 20}; !slices.Equal(got, want) {
		t.Errorf("widths to try: %v, want %v", got, want)
	}
}

// TestCompareMistakes judges what ports with these mistakes would record: the
// tensors before the mistake, and those that it changed.
func TestCompareMistakes(t *testing.T) {
	defer answers(t, "Compare")()
	compareFaults(t, "compared.txt", false)
}

// TestCompareBlocks judges the first block's output alone.
func TestCompareBlocks(t *testing.T) {
	defer answers(t, "Compare")()
	compareFaults(t, "blocks.txt", true)
}

func compareFaults(t *testing.T, file string, blocks bool) {
	var lines []string
	for _, model := range faultModels {
		for _, f := range faultsOf(t, model) {
			order := map[place]int{}
			for i, p := range f.model.places() {
				order[p] = i
			}
			rec := &Recording{IDs: f.right.IDs}
			causes, first, last := f.Cause, f.Tensors[0], -1
			if blocks {
				causes, first, last = f.BlockCause, "hidden_states.1", 1
			}
			for name, x := range f.changed {
				if at, _ := placeOf(name, f.model.Config.Layers); strings.HasPrefix(name, "hidden_states") == blocks {
					rec.Tensors, last = append(rec.Tensors, x), max(last, order[at])
				}
			}
			if len(rec.Tensors) == 0 {
				continue
			}
			for _, x := range f.right.Tensors {
				at, _ := placeOf(x.Name, f.model.Config.Layers)
				if _, changed := f.changed[x.Name]; !changed && order[at] < last && !f.absent(at) && (!blocks || at.op == "embed_tokens") {
					rec.Tensors = append(rec.Tensors, x)
				}
			}
			r, err := Compare(f.model, rec)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != "differs" || r.First == nil || *r.First != first || !slices.Contains(causes, *r.Cause) || *r.Cause == f.Cause[0] && r.Value != nil && !f.isValue(float64(*r.Value)) {
				t.Errorf("%s: got %v, want differs at %s, %v %v", f, r, first, causes, f.Value)
				continue
			}
			value := ""
			if r.Value != nil {
				value = fmt.Sprintf(" %.3g", float64(*r.Value))
			}
			lines = append(lines, threeDigits(fmt.Sprintf("%s: %s: %s%s: %s", f, first, *r.Cause, value, r.Detail)))
			for _, o := range r.Others {
				lines = append(lines, threeDigits("    "+o.First+": "+o.Cause+": "+o.Detail))
			}
		}
	}
	sameText(t, file, strings.Join(lines, "\n"))
}

// TestMistakeConstants makes each mistake that has a constant with many of them, and
// looks for the constant.
func TestMistakeConstants(t *testing.T) {
	defer answers(t, "mistake")()
	m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	constants := map[string][]float64{
		"embed-scaled":         {1e-3, 0.3, 6, 1000},
		"norm-eps":             {0, 1e-9, 3e-8, 4e-7, 5e-6, 6e-5, 7e-4, 8e-3, 0.09, 1, 30},
		"rope-position-offset": {1, -1, 5, -9, 17, 0.5, 1000, 12345},
		"rope-theta":           {20, 300, 1e4, 7e5, 3e7, 5e8},
		"rope-scaling":         {0.1, 0.2, 0.5, 3, 8, 40},
		"scale-wrong":          {0.01, 0.1, 1, 3},
		"logits-scaled":        {0.01, 0.5, 3, 100},
	}
	for i := range mistakes {
		a := &mistakes[i]
		if a.fit != byFactor && a.fit != byStep {
			continue
		}
		if len(constants[a.cause]) == 0 {
			t.Errorf("%s has a constant that is not tried here", a.cause)
		}
		p := newPlain(m, rec.IDs)
		p.ref = tensorsOf(t, m, rec)
		for _, at := range m.places() {
			if len(a.sites([]place{at})) == 0 {
				continue
			}
			right := p.trial(inFloat64, nil).compute(at)
			for _, v := range constants[a.cause] {
				made := patch{a, []string{at.op}, at.layer, v}
				want, _ := p.try(&subject{place: at, want: right}, &made, inFloat32)
				s := subjectOf(p, at, want)
				f, ok := p.fitted(s, made.with(0))
				if s.own.excess > 1 && (!ok || math.Abs(f.value-v) > 1e-3*math.Abs(v)) {
					t.Errorf("%s %g at %s (%.2g beyond rounding): got %v, %g", a.cause, v, at.name(), s.own.excess, ok, f.value)
				}
			}
		}
	}
}
