package qwen

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestVariants holds whole models against transformers: every way in which a
// checkpoint may be written, the logits at every position and 24 greedy ids.
func TestVariants(t *testing.T) {
	dirs, err := filepath.Glob("testdata/variants/*")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("found %d variants (%v), expected at least 10", len(dirs), err)
	}
	for _, dir := range append(dirs, "testdata/qwen2-tiny", "testdata/qwen3-tiny") {
		t.Run(filepath.Base(dir), func(t *testing.T) { testVariant(t, dir) })
	}
}

func testVariant(t *testing.T, dir string) {
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	golden := readGolden(t, filepath.Join(dir, "golden.safetensors"))
	for _, n := range []string{"0", "1", "2"} {
		prompt, want := golden.ids("prompt."+n), golden.floats("logits."+n)
		var logits []float32
		err := m.Trace(prompt, m.NewCache(), func(name string, shape []int, x []float32) {
			if name == "lm_head" {
				logits = slices.Clone(x)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		largest, worst := 0.0, 0.0
		for i := range want {
			largest = max(largest, math.Abs(float64(want[i])))
			if d := math.Abs(float64(logits[i] - want[i])); !(d <= worst) {
				worst = d
			}
		}
		t.Logf("prompt %s: max error %.1e of %.1f", n, worst, largest)
		if !(worst <= 1e-4*largest) {
			t.Errorf("prompt %s: max error %g, tolerance %g", n, worst, 1e-4*largest)
		}
		var ids []int
		for token, err := range m.Generate(context.Background(), prompt, Options{MaxTokens: 24, IgnoreStop: true}) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, token.ID)
		}
		if want := golden.ids("greedy." + n); !slices.Equal(ids, want) {
			t.Errorf("prompt %s: greedy ids %v, want %v", n, ids, want)
		}
	}
}

// goldenFile is a recording of transformers.
type goldenFile struct {
	t       *testing.T
	file    string
	tensors map[string]Tensor
	meta    map[string]string
}

func readGolden(t *testing.T, file string) goldenFile {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tensors, meta, err := ParseSafetensors(data)
	if err != nil {
		t.Fatal(err)
	}
	g := goldenFile{t, file, map[string]Tensor{}, meta}
	for _, x := range tensors {
		g.tensors[x.Name] = x
	}
	return g
}

// tensor returns an entry, and fails the test if there is none.
func (g goldenFile) tensor(name string) Tensor {
	g.t.Helper()
	x, ok := g.tensors[name]
	if !ok {
		g.t.Fatalf("%s: no tensor %s", g.file, name)
	}
	return x
}

func (g goldenFile) floats(name string) []float32 {
	g.t.Helper()
	x, err := g.tensor(name).Float32()
	if err != nil {
		g.t.Fatal(err)
	}
	return x
}

func (g goldenFile) ids(name string) []int {
	g.t.Helper()
	x := g.tensor(name)
	if x.DType != I64 {
		g.t.Fatalf("%s: %s has dtype %s, want I64", g.file, name, x.DType)
	}
	var ids []int
	for i := 0; i < len(x.Data); i += 8 {
		ids = append(ids, int(uint64(x.Data[i])|uint64(x.Data[i+1])<<8|uint64(x.Data[i+2])<<16))
	}
	return ids
}
