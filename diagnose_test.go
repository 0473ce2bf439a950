package qwen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// openTiny loads a model of testdata and a recording of it.
func openTiny(t *testing.T, model, file string) (*Model, *Recording) {
	t.Helper()
	m, err := Load(filepath.Join("testdata", model))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	r, err := ReadRecording(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return m, r
}

// TestCompareFaults judges recordings of broken ports, made by faults.py with
// transformers. (faults.py makes and scores 1,394 more.)
func TestCompareFaults(t *testing.T) {
	defer answers(t, "Compare")()
	var cases []struct {
		File, Model, Verdict, First string
		Cause                       []string
		Value                       *float64
	}
	data, err := os.ReadFile("testdata/faults/cases.json")
	if err == nil {
		err = json.Unmarshal(data, &cases)
	}
	if err != nil || len(cases) < 12 {
		t.Fatalf("%d cases (%v), want at least 12", len(cases), err)
	}
	for _, c := range cases {
		t.Run(strings.TrimSuffix(c.File, ".safetensors"), func(t *testing.T) {
			m, rec := openTiny(t, c.Model, "faults/"+c.File)
			r, err := Compare(m, rec)
			if err != nil {
				t.Fatal(err)
			}
			if c.Verdict == "match" {
				if r.Verdict != "match" || r.First != nil || r.Cause != nil {
					t.Fatalf("got %s, want match", r)
				}
				return
			}
			if r.Verdict != c.Verdict || r.First == nil || *r.First != c.First || !slices.Contains(c.Cause, *r.Cause) {
				t.Fatalf("got %s\nwant %s, first %s, cause %v", r, c.Verdict, c.First, c.Cause)
			}
			if c.Value != nil && *r.Cause == c.Cause[0] && (r.Value == nil || math.Abs(float64(*r.Value)-*c.Value) > 0.01**c.Value) {
				t.Errorf("value %v, want %g", r.Value, *c.Value)
			}
			t.Logf("%s: %s", *r.Cause, r.Detail)
		})
	}
}

// TestCompareGood judges transformers' own recordings: nothing may be claimed.
// The plain network is thereby held against transformers, step by step.
func TestCompareGood(t *testing.T) {
	defer answers(t, "Compare")()
	for _, name := range []string{"qwen2-tiny", "qwen3-tiny"} {
		m, rec := openTiny(t, name, name+"/trace.safetensors")
		r, err := Compare(m, rec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != "match" {
			t.Errorf("%s: %s", name, r)
		}
		for _, row := range r.Tensors {
			if row.Status != "ok" || !(row.OwnExcess <= 0.5) {
				t.Errorf("%s: %s: %s, own error %g of what rounding allows, want ok with less than half", name, row.Name, row.Status, float64(row.OwnExcess))
			}
		}
	}
}

// TestComparePlain lets the plain network be the oracle of the fast one: a
// recording of the fast path must be judged free of errors, for every variant.
func TestComparePlain(t *testing.T) {
	defer answers(t, "Compare")()
	dirs, _ := filepath.Glob("testdata/variants/*")
	for _, dir := range append(dirs, "testdata/qwen2-tiny", "testdata/qwen3-tiny") {
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		ids := make([]int, 19)
		for i := range ids {
			ids[i] = rng.IntN(m.Config.Vocab)
		}
		rec, err := m.Record(ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Compare(m, rec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != "match" || len(r.Tensors) != len(rec.Tensors) {
			t.Errorf("%s: %s", dir, r)
		}
		m.Close()
	}
}

// TestComparePrecision rounds a recording, as an engine that keeps its
// activations in two bytes does.
func TestComparePrecision(t *testing.T) {
	defer answers(t, "Compare")()
	for _, prec := range []precision{inBF16, inF16} {
		m, rec := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
		for i := range rec.Tensors {
			x, err := rec.Tensors[i].Float32()
			if err != nil {
				t.Fatal(err)
			}
			for j, v := range x {
				x[j] = float32(prec.round(float64(v)))
			}
			rec.Tensors[i] = NewTensor(rec.Tensors[i].Name, x, rec.Tensors[i].Shape...)
		}
		r, err := Compare(m, rec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != "precision" || *r.Cause != prec.cause {
			t.Errorf("got %s, want precision, %s", r, prec.cause)
		}
	}
}

// edited is a recording with its tensors changed; f returns false to drop one.
func edited(rec *Recording, f func(t *Tensor, x []float32) bool) *Recording {
	out := &Recording{IDs: slices.Clone(rec.IDs)}
	for _, t := range rec.Tensors {
		x, err := t.Float32()
		if err != nil {
			panic(err)
		}
		if t.Shape = slices.Clone(t.Shape); f(&t, x) {
			n := 1
			for _, d := range t.Shape {
				n *= d
			}
			out.Tensors = append(out.Tensors, NewTensor(t.Name, x[:n], t.Shape...))
		}
	}
	return out
}

// TestCompareBadRecordings feeds what cannot be right, and what looks odd but is.
func TestCompareBadRecordings(t *testing.T) {
	defer answers(t, "Compare")()
	m, good := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	all := func(*Tensor, []float32) bool { return true }
	tests := []struct {
		name    string
		rec     *Recording
		err     string // or
		verdict string
		first   string
	}{
		{"no ids", &Recording{Tensors: good.Tensors}, "found no tokens", "", ""},
		{"id out of range", &Recording{IDs: []int{1, 97}, Tensors: good.Tensors}, "found id 97", "", ""},
		{"other ids", &Recording{IDs: good.IDs[:4], Tensors: good.Tensors}, "found shape [8 36], expected [4 36]", "", ""},
		{"no tensors", &Recording{IDs: good.IDs}, "no tensor whose name is known", "", ""},
		{"unknown names", edited(good, func(t *Tensor, x []float32) bool { t.Name = "a." + t.Name + ".b"; return true }), "no tensor whose name is known", "", ""},
		{"batch of one", edited(good, func(t *Tensor, x []float32) bool { t.Shape = append([]int{1}, t.Shape...); return true }), "", "match", ""},
		{"prefix", edited(good, func(t *Tensor, x []float32) bool { t.Name = "base." + t.Name; return true }), "", "match", ""},
		{"no prefix", edited(good, func(t *Tensor, x []float32) bool { t.Name = strings.TrimPrefix(t.Name, "model."); return true }), "", "match", ""},
		{"logits alone", edited(good, func(t *Tensor, x []float32) bool { return t.Name == "lm_head" }), "", "match", ""},
		{"NaN", edited(good, func(t *Tensor, x []float32) bool {
			if t.Name == "model.layers.1.self_attn.k_proj" {
				x[3] = float32(math.NaN())
			}
			return true
		}), "", "differs", "model.layers.1.self_attn.k_proj"},
		{"shape", edited(good, func(t *Tensor, x []float32) bool {
			if t.Name == "model.layers.1.mlp.up_proj" {
				t.Shape[1]--
			}
			return true
		}), "", "differs", "model.layers.1.mlp.up_proj"},
		{"good", edited(good, all), "", "match", ""},
	}
	for _, tt := range tests {
		r, err := Compare(m, tt.rec)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.err)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case r.Verdict != tt.verdict || tt.first != "" && (*r.First != tt.first || *r.Cause != "unknown"):
			t.Errorf("%s: got %s", tt.name, r)
		}
		if r != nil {
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	}
}

// TestCompareRecording writes a recording, reads it back and renames it.
func TestCompareRecording(t *testing.T) {
	defer answers(t, "Compare")()
	m, good := openTiny(t, "qwen2-tiny", "qwen2-tiny/trace.safetensors")
	for i := range good.Tensors {
		good.Tensors[i].Name = strings.Replace(good.Tensors[i].Name, "model.layers.", "blk-", 1)
	}
	var file bytes.Buffer
	if err := WriteSafetensors(&file, good.All(), nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "r.safetensors")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	renames, err := ParseRenames([]byte(`{"(bl)k-(.*)": "model.layers.$2", "blk-0": "never", "(lm)": "$1_head"}`))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := ReadRecording(path, renames...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compare(m, rec)
	if err != nil || r.Verdict != "match" || !slices.Equal(rec.IDs, good.IDs) {
		t.Fatalf("%v, %v", err, r)
	}
	for _, r := range r.Tensors {
		if r.Status != "ok" {
			t.Errorf("%s: %s", r.Name, r.Status)
		}
	}
	if _, err := ParseRenames([]byte(`{"a(": "b"}`)); err == nil {
		t.Error("a broken expression was accepted")
	}
	if _, err := ReadRecording(t.TempDir()); !errors.Is(err, ErrMissingTensor) {
		t.Errorf("empty folder: %v", err)
	}
	if err := os.Truncate(path, 9000); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecording(path); !errors.Is(err, ErrTruncated) {
		t.Errorf("truncated file: %v, want ErrTruncated", err)
	}
}

// TestCompareParts judges one step alone, and two recordings without a model.
func TestCompareParts(t *testing.T) {
	defer answers(t, "Compare")()
	m, good := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	bad := edited(good, func(t *Tensor, x []float32) bool {
		if strings.HasPrefix(t.Name, "model.layers.1.") {
			for i := range x {
				x[i] *= 1.01
			}
		}
		return true
	})
	for _, tt := range []struct {
		o             CompareOptions
		verdict, last string
	}{
		{CompareOptions{Layers: []int{0}}, "match", "model.layers.0"},
		{CompareOptions{Layers: []int{1}}, "differs", "model.layers.1"},
		{CompareOptions{Op: "self_attn", Layers: []int{0}}, "match", "model.layers.0.self_attn.o_proj"},
		{CompareOptions{Op: "mlp", Layers: []int{0}}, "match", "model.layers.0.mlp.down_proj"},
		{CompareOptions{Op: "mlp.down_proj", Layers: []int{1}}, "match", "model.layers.1.mlp.down_proj"},
		{CompareOptions{Op: "block", Layers: []int{0}}, "match", "hidden_states.1"},
		{CompareOptions{Tolerance: 0.05}, "match", "lm_head"},
		{CompareOptions{Ours: good}, "differs", "lm_head"},
		{CompareOptions{Ours: &Recording{IDs: []int{1}}}, "differs", ""},
	} {
		r, err := tt.o.Compare(m, bad)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != tt.verdict {
			t.Errorf("%+v: got %s, want %s", tt.o, r, tt.verdict)
		}
	}
	r, err := CompareOptions{Ours: good}.Compare(nil, bad)
	if err != nil || r.Verdict != "differs" || *r.First != "model.layers.1.input_layernorm" {
		t.Errorf("two recordings: %v, %v", r, err)
	}
	if r, err := (CompareOptions{Ours: good}).Compare(nil, good); err != nil || r.Verdict != "match" {
		t.Errorf("the same recording twice: %v, %v", r, err)
	}
	if page := r.HTML("a<b"); !strings.Contains(page, "a&lt;b") || strings.Contains(page, "<script") || strings.Contains(page, "http") {
		t.Error("the page names something from elsewhere, or does not escape")
	}
}

// TestDebuggingGuide runs the commands that DEBUGGING.md quotes: the lines after each are
// those that it prints, from the first on.
func TestDebuggingGuide(t *testing.T) {
	defer answers(t, "Compare")()
	guide, err := os.ReadFile("DEBUGGING.md")
	if err != nil {
		t.Fatal(err)
	}
	rounding := regexp.MustCompile(`\d\.\de-0[6-9]`) // whose digits another processor may find otherwise
	lines := strings.Split(strings.ReplaceAll(string(guide), "\r\n", "\n"), "\n")
	commands := 0
	for i, line := range lines {
		command, ok := strings.CutPrefix(line, "    $ qwen diff -model ")
		if !ok {
			continue
		}
		commands++
		args := strings.Fields(command)
		m, rec := openTiny(t, strings.TrimPrefix(args[0], "testdata/"), strings.TrimPrefix(args[1], "testdata/"))
		r, err := Compare(m, rec)
		if err != nil {
			t.Fatal(err)
		}
		printed := strings.Split(r.String(), "\n")
		quoted := 0
		for j := i + 1; strings.HasPrefix(lines[j], "    ") || lines[j] == "" && strings.HasPrefix(lines[j+1], "    "); j++ {
			got, want := rounding.ReplaceAllString(strings.TrimPrefix(lines[j], "    "), "tiny"), rounding.ReplaceAllString(printed[quoted], "tiny")
			if got != want {
				t.Errorf("DEBUGGING.md:%d: says\n%s\nbut %s prints\n%s", j+1, got, args[1], want)
			}
			quoted++
		}
		if quoted < 4 {
			t.Errorf("DEBUGGING.md:%d: quotes %d lines, want the verdict at least", i+1, quoted)
		}
	}
	if commands != 2 {
		t.Errorf("DEBUGGING.md quotes %d commands, want 2", commands)
	}
}

// A port whose scores are multiplied by another factor than 1/sqrt(headDim). It
// recorded block outputs, and nothing of its attention.
func ExampleCompare() {
	m, err := Load("testdata/qwen3-tiny")
	if err != nil {
		panic(err)
	}
	defer m.Close()
	port, err := ReadRecording("testdata/faults/qwen3-tiny.scale-odd.all.coarse.safetensors")
	if err != nil {
		panic(err)
	}
	report, err := Compare(m, port)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s at %s: %s, %.4f\n", report.Verdict, *report.First, *report.Cause, float64(*report.Value))
	// Output: differs at hidden_states.1: scale-wrong, 0.2435
}
