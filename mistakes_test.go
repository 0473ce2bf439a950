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
	y := p.run(inFloat64, nil).compute(at)
	s.cone = p.cone(at)
	s.ruler = noise(y, p.run(inFloat32, nil).compute(at), s.width, inFloat32)
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
