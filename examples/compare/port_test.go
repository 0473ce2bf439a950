package port

import (
	"math"
	"slices"
	"testing"

	"github.com/bc1a8f18/qwen"
)

// The steps of this port, right and with mistakes that ports really have. Each is
// fed with what the recording says its input was, so a wrong step cannot hide
// behind another, and what it gives takes the place of the recorded output.
func TestPort(t *testing.T) {
	m, err := qwen.Load("../../testdata/qwen3-tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, layer := m.Config, m.Layers[0]
	halves := func(i int) (int, int) { return i, i + c.HeadDim/2 }
	neighbours := func(i int) (int, int) { return 2 * i, 2*i + 1 }
	silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
	gelu := func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }

	for _, test := range []struct {
		name   string
		output string // of layer 0
		run    func(input func(name string) []float32) []float32
		cause  string // of the difference that must be found; empty: there must be none
	}{
		{"norm", ".input_layernorm", func(input func(string) []float32) []float32 {
			return rmsNorm(input("model.embed_tokens"), layer.InputNorm, float64(c.Eps))
		}, ""},
		{"norm with the eps of another model", ".input_layernorm", func(input func(string) []float32) []float32 {
			return rmsNorm(input("model.embed_tokens"), layer.InputNorm, 1e-3)
		}, "norm-eps"},
		{"rotation", ".self_attn.q_rope", func(input func(string) []float32) []float32 {
			return rotate(input(".self_attn.q_norm"), c.Heads, c.HeadDim, c.RoPE.Theta, halves)
		}, ""},
		{"rotation of neighbours, as in Meta's Llama", ".self_attn.q_rope", func(input func(string) []float32) []float32 {
			return rotate(input(".self_attn.q_norm"), c.Heads, c.HeadDim, c.RoPE.Theta, neighbours)
		}, "rope-interleaved"},
		{"rotation with Llama 2's theta", ".self_attn.q_rope", func(input func(string) []float32) []float32 {
			return rotate(input(".self_attn.q_norm"), c.Heads, c.HeadDim, 10000, halves)
		}, "rope-theta"},
		{"gate", ".mlp.gated", func(input func(string) []float32) []float32 {
			return gate(input(".mlp.gate_proj"), input(".mlp.up_proj"), silu)
		}, ""},
		{"gate on the wrong side", ".mlp.gated", func(input func(string) []float32) []float32 {
			return gate(input(".mlp.up_proj"), input(".mlp.gate_proj"), silu)
		}, "gate-up-swapped"},
		{"gate with GELU", ".mlp.gated", func(input func(string) []float32) []float32 {
			return gate(input(".mlp.gate_proj"), input(".mlp.up_proj"), gelu)
		}, "activation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Recorded with transformers (testdata/trace.py). act_fn is left out: this port
			// has no such step, its gate does both.
			recording, err := qwen.ReadRecording("../../testdata/qwen3-tiny/trace.safetensors")
			if err != nil {
				t.Fatal(err)
			}
			recording.Tensors = slices.DeleteFunc(recording.Tensors, func(x qwen.Tensor) bool { return x.Name == "model.layers.0.mlp.act_fn" })
			at := func(name string) *qwen.Tensor {
				if name[0] == '.' {
					name = "model.layers.0" + name
				}
				i := slices.IndexFunc(recording.Tensors, func(x qwen.Tensor) bool { return x.Name == name })
				if i < 0 {
					t.Fatalf("%s is not in the recording", name)
				}
				return &recording.Tensors[i]
			}
			output := at(test.output)
			*output = qwen.NewTensor(output.Name, test.run(func(name string) []float32 {
				x, err := at(name).Float32()
				if err != nil {
					t.Fatal(err)
				}
				return x
			}), output.Shape...)

			// Judge this step alone: that the recorded ones behind it no longer follow from
			// it is what the test has done.
			report, err := qwen.CompareOptions{Layers: []int{0}, Op: output.Name[len("model.layers.0."):]}.Compare(m, recording)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.cause == "" && report.Verdict != "match":
				t.Errorf("%s\n%s", test.name, report)
			case test.cause != "" && (report.Cause == nil || *report.Cause != test.cause || *report.First != output.Name):
				t.Errorf("found another cause than %s at %s:\n%s", test.cause, output.Name, report)
			}
		})
	}
}
