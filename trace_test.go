package qwen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestPlaceOf asks for the place of every name that a recording may use, and of
// names that look like one, in a network of three layers.
func TestPlaceOf(t *testing.T) {
	defer answers(t, "placeOf")()
	type places map[string]place
	for name, want := range (places{
		"model.embed_tokens":                      {-1, "embed_tokens"},
		"model.norm":                              {3, "norm"},
		"lm_head":                                 {3, "lm_head"},
		"model.layers.0":                          {0, blockOutput},
		"model.layers.2":                          {2, blockOutput},
		"model.layers.1.input_layernorm":          {1, "input_layernorm"},
		"model.layers.2.attn_residual":            {2, "attn_residual"},
		"model.layers.2.self_attn.k_rope":         {2, "k_rope"},
		"model.layers.0.mlp.gated":                {0, "gated"},
		"hidden_states.0":                         {-1, "embed_tokens"},
		"hidden_states.1":                         {0, blockOutput},
		"hidden_states.2":                         {1, blockOutput},
		"hidden_states.3":                         {3, "norm"},
		"embed_tokens":                            {-1, "embed_tokens"},
		"norm":                                    {3, "norm"},
		"layers.1.mlp.act_fn":                     {1, "act_fn"},
		"base.model.norm":                         {3, "norm"},
		"a.b.layers.0.self_attn.probs":            {0, "probs"},
		"net.lm_head":                             {3, "lm_head"},
		"model.layers.1.self_attn.v_proj_outputs": {1, "v_proj"},
		"x.model.layers.1_outputs":                {1, blockOutput},
		"lm_head_outputs":                         {3, "lm_head"},
		"model.layers.1.self_attn.o_proj_inputs_args_0":         {1, "context"},
		"model.layers.1.post_attention_layernorm_inputs_args_0": {1, "attn_residual"},
		"model.layers.1.mlp.down_proj_inputs_args_0":            {1, "gated"},
		"model.norm_inputs_args_0":                              {2, blockOutput},
		"model.layers.1_inputs_args_0":                          {0, blockOutput},
	}) {
		if got, ok := placeOf(name, 3); !ok || got != want {
			t.Errorf("%s: got %v, %v, want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "model", "model.layers", "model.layers.3", "model.layers.3.mlp.gated", "model.layers.00", "model.layers.-1", "model.layers.1234567",
		"model.layers.0.q_proj", "model.layers.0.mlp.q_proj", "model.layers.0.self_attn.gated", "model.layers.0.self_attn", "model.layers.0.other", "model.layers.0.output",
		"model.layers.0.norm", "model.layers.0.lm_head", "model.layers.0.embed_tokens", "model.layers.0.mlp.", "hidden_states.4", "hidden_states.", "hidden_states.1234567",
		"lm_head.weight", "xlm_head", "model.lm_head.x", "model.embed_tokens_inputs_args_0", "model.layers.0_inputs_args_0", "model.layers.0.self_attn.q_proj_inputs_args_0",
		"model.layers.0.self_attn.q_proj_inputs_args_1", "input_ids"} {
		if got, ok := placeOf(name, 3); ok {
			t.Errorf("%q: got %v, want none", name, got)
		}
	}
	for _, p := range []place{{-1, "embed_tokens"}, {2, "norm"}, {2, "lm_head"}, {1, blockOutput}, {1, "q_norm"}, {0, "down_proj"}, {1, "input_layernorm"}} {
		if got, ok := placeOf(p.name(), 2); !ok || got != p {
			t.Errorf("%v has the name %s, which is the place %v, %v", p, p.name(), got, ok)
		}
	}
}

// idTensor is a tensor of ids in any of the types.
func idTensor(name string, dtype DType, shape []int, ids ...int64) Tensor {
	t := Tensor{Name: name, DType: dtype, Shape: shape}
	for _, id := range ids {
		if dtype.Size() == 4 {
			t.Data = binary.LittleEndian.AppendUint32(t.Data, uint32(id))
		} else {
			t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(id))
		}
	}
	return t
}

func TestNewRecording(t *testing.T) {
	defer answers(t, "Recording")()
	x := NewTensor("x", []float32{1, 2}, 2)
	ids := idTensor("input_ids", I64, []int{2}, 7, -9)
	debugger := idTensor("Model_inputs_kwargs_input_ids", I64, []int{1, 2}, 7, -9)
	large := int64(1<<31 + 5) // negative as an I32
	for _, tt := range []struct {
		name    string
		tensors []Tensor
		ids     []int
		err     string // or
	}{
		{"I64", []Tensor{ids, x}, []int{7, -9}, ""},
		{"I64 with a batch of one", []Tensor{x, idTensor("input_ids", I64, []int{1, 3}, 1, 2, 3)}, []int{1, 2, 3}, ""},
		{"I32", []Tensor{idTensor("input_ids", "I32", []int{3}, 7, -9, 1)}, []int{7, -9, 1}, ""},
		{"U32", []Tensor{idTensor("input_ids", "U32", []int{2}, 7, large)}, []int{7, int(large)}, ""},
		{"U64", []Tensor{idTensor("input_ids", "U64", []int{2}, 7, 5)}, []int{7, 5}, ""},
		{"another's name", []Tensor{debugger}, []int{7, -9}, ""},
		{"twice", []Tensor{ids, debugger}, []int{7, -9}, ""},
		{"two kinds", []Tensor{ids, idTensor("Model_inputs_kwargs_input_ids", I64, []int{1, 2}, 7, 9)}, nil, "Model_inputs_kwargs_input_ids: found other ids than in another tensor of ids, expected the same"},
		{"none", []Tensor{x}, nil, "input_ids: not found, expected the ids that were run, as I64"},
		{"numbers", []Tensor{NewTensor("input_ids", []float32{1, 2}, 2)}, nil, "input_ids: found F32 [2], expected I64 [seq]"},
		{"a batch of two", []Tensor{idTensor("input_ids", I64, []int{2, 1}, 1, 2)}, nil, "input_ids: found I64 [2 1], expected I64 [seq]"},
		{"three dimensions", []Tensor{idTensor("input_ids", I64, []int{1, 1, 2}, 1, 2)}, nil, "input_ids: found I64 [1 1 2], expected I64 [seq]"},
		{"empty", []Tensor{idTensor("input_ids", I64, []int{0})}, nil, "input_ids: found I64 [0], expected I64 [seq]"},
		{"fewer bytes than ids", []Tensor{{"input_ids", I64, []int{2}, make([]byte, 15)}}, nil, `input_ids: found 15 bytes for shape [2] of "I64", expected 16`},
		{"more bytes than numbers", []Tensor{ids, {"x", F32, []int{2, 3}, make([]byte, 28)}}, nil, `x: found 28 bytes for shape [2 3] of "F32", expected 24`},
		{"a dimension below 0", []Tensor{ids, {"x", F32, []int{-1, 3}, make([]byte, 12)}}, nil, `x: found 12 bytes for shape [-1 3] of "F32", expected a whole number of bytes below 2^61`},
		{"a type that nobody knows", []Tensor{ids, {"\a", "F\a", []int{1}, make([]byte, 4)}}, nil, `"\a": found 4 bytes for shape [1] of "F\a", expected 0`},
		{"an empty batch", []Tensor{idTensor("input_ids", I64, []int{1, 0})}, nil, "input_ids: found I64 [1 0], expected I64 [seq]"},
	} {
		r, err := NewRecording(tt.tensors)
		switch {
		case tt.err != "":
			if fmt.Sprint(err) != "qwen: "+tt.err || r != nil {
				t.Errorf("%s: got %v, %v, want the error %s", tt.name, r, err, tt.err)
			}
		case err != nil || !slices.Equal(r.IDs, tt.ids):
			t.Errorf("%s: got %v, %v, want the ids %v", tt.name, r, err, tt.ids)
		case slices.ContainsFunc(tt.tensors, func(t Tensor) bool { return t.Name == "x" }) != (len(r.Tensors) == 1 && r.Tensors[0].Name == "x"):
			t.Errorf("%s: got the tensors %v", tt.name, r.Tensors)
		}
	}

	renames, err := ParseRenames([]byte(`{"(bl)k-(.*)": "layer.$2x$1", "blk-0": "never", "(lm)": "$1_head", "i": "input_ids"}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRecording([]Tensor{idTensor("i", I64, []int{1}, 3), {Name: "blk-0"}, {Name: "lm"}, {Name: "lm2"}}, renames...)
	if err != nil || !slices.Equal(r.IDs, []int{3}) {
		t.Fatalf("renamed ids: %v, %v", r, err)
	}
	for i, want := range []string{"layer.0xbl", "lm_head", "lm2"} {
		if r.Tensors[i].Name != want {
			t.Errorf("renamed: got %s, want %s", r.Tensors[i].Name, want)
		}
	}
	for text, want := range map[string]string{
		`{"a(": "b"}`: `qwen: rename table: "a(": found a name that is no regular expression: "a(", expected one, with literal dots written \.`,
		`{"a": 1}`:    "qwen: rename table: a: found a number, expected a string",
	} {
		if _, err := ParseRenames([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestReadRecording reads what WriteSafetensors made of a recording, and a folder
// with a file for each tensor.
func TestReadRecording(t *testing.T) {
	defer answers(t, "Recording")()
	dir := t.TempDir()
	save := func(file string, tensors ...Tensor) string {
		t.Helper()
		var b bytes.Buffer
		if err := WriteSafetensors(&b, tensors, nil); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := &Recording{IDs: []int{5, -1, 300}, Tensors: []Tensor{NewTensor("a", []float32{1, 2, 3}, 3), NewTensor("data", []float32{4}, 1)}}
	path := save("one.safetensors", made.All()...)
	rename, err := ParseRenames([]byte(`{"a": "b"}`))
	if err != nil {
		t.Fatal(err)
	}
	if first := made.All()[0]; first.Name != "input_ids" || first.DType != I64 || !slices.Equal(first.Shape, []int{3}) {
		t.Errorf("All begins with %v", first)
	}
	r, err := ReadRecording(path, rename...)
	if err != nil || !slices.Equal(r.IDs, made.IDs) || len(r.Tensors) != 2 || r.Tensors[0].Name != "b" || r.Tensors[1].Name != "data" || !bytes.Equal(r.Tensors[0].Data, made.Tensors[0].Data) {
		t.Errorf("a file: got %v, %v", r, err)
	}

	save("many/input_ids.safetensors", idTensor("data", I64, []int{2}, 8, 9))
	save("many/model.norm.safetensors", NewTensor("data", []float32{4}, 1))
	save("many/other.safetensors", NewTensor("own.name", []float32{4}, 1))
	r, err = ReadRecording(filepath.Join(dir, "many"), rename...)
	if err != nil || !slices.Equal(r.IDs, []int{8, 9}) || len(r.Tensors) != 2 || r.Tensors[0].Name != "model.norm" || r.Tensors[1].Name != "own.name" {
		t.Errorf("a folder: got %v, %v", r, err)
	}

	cut := save("cut.safetensors", made.All()...)
	if err := os.Truncate(cut, 100); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.safetensors")
	if err := os.WriteFile(broken, []byte("\x02\x00\x00\x00\x00\x00\x00\x00[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	save("[a]/input_ids.safetensors", idTensor("data", I64, []int{1}, 8)) // no pattern
	save("[a]/notes.txt", NewTensor("data", []float32{4}, 1))
	if r, err := ReadRecording(filepath.Join(dir, "[a]")); err != nil || !slices.Equal(r.IDs, []int{8}) || len(r.Tensors) != 0 {
		t.Errorf("a folder whose name looks like a pattern: got %v, %v", r, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "["), 0o755); err != nil {
		t.Fatal(err)
	}
	save("full/input_ids.safetensors", idTensor("data", I64, []int{2}, 8, 9))
	if err := os.Mkdir(filepath.Join(dir, "full", "z.safetensors"), 0o755); err != nil {
		t.Fatal(err)
	}
	type bad struct {
		path, want string
		kind       error
	}
	all := []bad{
		{filepath.Join(dir, "full"), "z.safetensors: ", ErrNotRegular},
		{filepath.Join(dir, "none"), "none: no such file, expected one", fs.ErrNotExist},
		{filepath.Join(dir, "none") + string(filepath.Separator), "none: no such file, expected one", fs.ErrNotExist},
		{"", "no such file, expected one", fs.ErrNotExist},
		{t.TempDir(), ": found no .safetensors file in the folder, expected a recording", ErrMissingTensor},
		{filepath.Join(dir, "["), "[: found no .safetensors file in the folder, expected a recording", ErrMissingTensor},
		{cut, "cut.safetensors: ", ErrTruncated},
		{broken, "broken.safetensors: ", ErrBadHeader},
		{save("x.safetensors", made.Tensors...), "x.safetensors: input_ids: not found, expected the ids that were run, as I64", ErrBadHeader},
	}
	if runtime.GOOS != "windows" {
		all = append(all, bad{filepath.Join(path, "x"), "x: cannot be opened: not a directory, expected a regular file", ErrNotRegular},
			bad{os.DevNull, os.DevNull + ": found a device, expected a regular file", ErrNotRegular})
	}
	for _, tt := range all {
		if r, err := ReadRecording(tt.path); r != nil || !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || strings.Count(err.Error(), "qwen: ") != 1 || len(err.Error()) > 2000 {
			t.Errorf("%s: got %v, want %v with %q", tt.path, err, tt.kind, tt.want)
		}
	}
}

// TestReadRecordingHeader has a file as large as a recording may be, all of it hole, whose
// header is wrong: that is said before memory for the rest is asked for.
func TestReadRecordingHeader(t *testing.T) {
	defer answers(t, "Recording")()
	if runtime.GOOS == "windows" {
		t.Skip("files are not mapped there, and have no holes")
	}
	path := filepath.Join(t.TempDir(), "large.safetensors")
	for _, tt := range []struct {
		size int64
		want string
		kind error
	}{
		{maxRecording, "large.safetensors: header: ", ErrBadHeader},
		{maxRecording + 1, "large.safetensors: found 17179869185 bytes, expected at most 17179869184", ErrTooLarge},
	} {
		if err := os.WriteFile(path, []byte("\x02\x00\x00\x00\x00\x00\x00\x00[]"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, tt.size); err != nil {
			t.Skipf("no file of %d bytes can be made: %v", tt.size, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ReadRecording(path)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d bytes: got %v, want %v with %q", tt.size, err, tt.kind, tt.want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; runtime.GOOS == "linux" && n > 1<<20 {
			t.Errorf("%d bytes: %d bytes of memory, to say that the header is wrong", tt.size, n)
		}
	}
}

// llamaNames is the table of DEBUGGING.md for llama.cpp, whose callback shows these names.
const llamaNames = `{"attn_norm-(\\d+)":   "model.layers.$1.input_layernorm",
 "Qcur_normed-(\\d+)": "model.layers.$1.self_attn.q_norm",
 "Kcur_normed-(\\d+)": "model.layers.$1.self_attn.k_norm",
 "ffn_inp-(\\d+)":     "model.layers.$1.attn_residual",
 "ffn_norm-(\\d+)":    "model.layers.$1.post_attention_layernorm",
 "l_out-(\\d+)":       "model.layers.$1",
 "result_norm":        "model.norm",
 "result_output":      "lm_head"}`

// TestRenameLlama reads llama.cpp's names with the table of DEBUGGING.md.
func TestRenameLlama(t *testing.T) {
	defer answers(t, "Recording")()
	renames, err := ParseRenames([]byte(llamaNames))
	if err != nil {
		t.Fatal(err)
	}
	for theirs, ours := range map[string]string{
		"attn_norm-0": "model.layers.0.input_layernorm", "Qcur_normed-11": "model.layers.11.self_attn.q_norm", "Kcur_normed-1": "model.layers.1.self_attn.k_norm",
		"ffn_inp-27": "model.layers.27.attn_residual", "ffn_norm-3": "model.layers.3.post_attention_layernorm", "l_out-9": "model.layers.9",
		"result_norm": "model.norm", "result_output": "lm_head", "Qcur-0": "Qcur-0", "xl_out-9": "xl_out-9"} {
		r, err := NewRecording([]Tensor{idTensor("input_ids", I64, []int{1}, 3), {Name: theirs}}, renames...)
		if err != nil || r.Tensors[0].Name != ours {
			t.Errorf("%s: got %v, %v, want %s", theirs, r, err, ours)
		}
		if _, ok := placeOf(ours, 28); ok != (theirs != ours) {
			t.Errorf("%s: its place is known: %v", ours, ok)
		}
	}
	guide, err := os.ReadFile("DEBUGGING.md")
	if err != nil || !strings.Contains(string(guide), "    "+strings.ReplaceAll(llamaNames, "\n", "\n    ")) {
		t.Errorf("DEBUGGING.md has another table (%v)", err)
	}
}

// TestRecord holds what the model records of itself against what Trace shows.
func TestRecord(t *testing.T) {
	defer answers(t, "Recording")()
	m, good := openTiny(t, "qwen3-tiny", "qwen3-tiny/trace.safetensors")
	all, err := m.Record(good.IDs, nil)
	shapes := map[string][]int{} // as transformers has them
	for _, x := range good.Tensors {
		if !strings.HasPrefix(x.Name, "hidden_states") {
			shapes[x.Name] = x.Shape
		}
	}
	if err != nil || !slices.Equal(all.IDs, good.IDs) || len(all.Tensors) != len(shapes) {
		t.Fatalf("%v, %d tensors, want %d", err, len(all.Tensors), len(shapes))
	}
	for _, x := range all.Tensors {
		if want, ok := shapes[x.Name]; !ok || !slices.Equal(x.Shape, want) {
			t.Errorf("%s has the shape %v, want %v", x.Name, x.Shape, want)
		}
		delete(shapes, x.Name)
	}
	some, err := m.Record(good.IDs, func(name string) bool { return name == "lm_head" })
	if err != nil || len(some.Tensors) != 1 || !bytes.Equal(some.Tensors[0].Data, all.Tensors[len(all.Tensors)-1].Data) {
		t.Errorf("one tensor: %v, %v", err, some)
	}
	if _, err := m.Record([]int{97}, nil); err == nil {
		t.Error("an id that is not in the vocabulary was run")
	}
}

// TestNumbers widens what a recording may hold.
func TestNumbers(t *testing.T) {
	defer answers(t, "Recording")()
	var data []byte
	for _, v := range []float64{1.5, -2, 1e300} {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
	}
	x, err := numbers(Tensor{Name: "x", DType: "F64", Shape: []int{3}, Data: data})
	if err != nil || !slices.Equal(x, []float32{1.5, -2, float32(math.Inf(1))}) {
		t.Errorf("F64: got %v, %v", x, err)
	}
	if x, err = numbers(Tensor{Name: "x", DType: BF16, Shape: []int{1}, Data: []byte{0x40, 0x40}}); err != nil || !slices.Equal(x, []float32{3}) {
		t.Errorf("BF16: got %v, %v", x, err)
	}
	for want, x := range map[string]Tensor{
		"qwen: x: found dtype I64, expected F32, F16, BF16 or F64":         {"x", I64, []int{1}, data[:8]},
		`qwen: x: found 8 bytes for shape [2] of "F64", expected 16`:       {"x", "F64", []int{2}, data[:8]},
		`qwen: "\x1b[2J": found dtype I64, expected F32, F16, BF16 or F64`: {"\x1b[2J", I64, []int{1}, data[:8]},
	} {
		if _, err := numbers(x); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
