package qwen

// From a folder to a Model: each file's parser on documents written by hand, the
// checks on files and tensors, and everything that must be refused, with the
// message that it is refused with.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// configText returns a config.json of Qwen3 with some fields changed: "name",
// "value" and so on; an empty value takes the field out.
func configText(changes ...string) string {
	fields := []string{
		"model_type", `"qwen3"`, "vocab_size", "61", "hidden_size", "20", "intermediate_size", "28", "num_hidden_layers", "2",
		"num_attention_heads", "6", "num_key_value_heads", "2", "head_dim", "8", "max_position_embeddings", "128",
		"rms_norm_eps", "1e-6", "rope_theta", "1000000.0",
	}
	for i := 0; i < len(changes); i += 2 {
		if at := slices.Index(fields, changes[i]); at >= 0 && at%2 == 0 {
			fields[at+1] = changes[i+1]
		} else {
			fields = append(fields, changes[i], changes[i+1])
		}
	}
	var text strings.Builder
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] != "" {
			fmt.Fprintf(&text, `,%q:%s`, fields[i], fields[i+1])
		}
	}
	return "{" + strings.TrimPrefix(text.String(), ",") + "}"
}

func TestParseConfig(t *testing.T) {
	defer answers(t, "parseConfig")()
	factor := 0.75
	for _, test := range []struct {
		changes []string
		edit    func(c *Config)
	}{
		{nil, func(c *Config) {}},
		{[]string{"head_dim", ""}, nil},
		{[]string{"head_dim", ""}, func(c *Config) { c.HeadDim = 128 }},
		{[]string{"model_type", `"qwen2"`, "head_dim", "", "hidden_size", "36"}, func(c *Config) { c.ModelType, c.Hidden, c.HeadDim = "qwen2", 36, 6 }},
		{[]string{"model_type", `"qwen2"`, "head_dim", "null", "hidden_size", "12"}, func(c *Config) { c.ModelType, c.Hidden, c.HeadDim = "qwen2", 12, 2 }},
		{[]string{"model_type", `"qwen2"`, "attention_bias", "true"}, func(c *Config) { c.ModelType = "qwen2" }},
		{[]string{"attention_bias", "true", "tie_word_embeddings", "true"}, func(c *Config) { c.AttentionBias, c.TieEmbeddings = true, true }},
		{[]string{"attention_bias", "false", "tie_word_embeddings", "false"}, func(c *Config) {}},
		{[]string{"vocab_size", "1073741824", "num_key_value_heads", "6"}, func(c *Config) { c.Vocab, c.KVHeads = 1<<30, 6 }},
		{[]string{"vocab_size", "1", "num_key_value_heads", "1"}, func(c *Config) { c.Vocab, c.KVHeads = 1, 1 }},
		{[]string{"num_key_value_heads", "null"}, func(c *Config) { c.KVHeads = 6 }},
		{[]string{"eos_token_id", "0"}, func(c *Config) { c.StopIDs = []int{0} }},
		{[]string{"eos_token_id", "[5,1073741824]"}, func(c *Config) { c.StopIDs = []int{5, 1 << 30} }},
		{[]string{"eos_token_id", "null"}, func(c *Config) {}},
		{[]string{"rms_norm_eps", "3e-40"}, func(c *Config) { c.Eps = 3e-40 }}, // float32 holds it, as a subnormal number
		// What other models have and this one may say that it has not.
		{[]string{"hidden_act", `"silu"`, "use_sliding_window", "false", "layer_types", `["full_attention","full_attention"]`, "partial_rotary_factor", "1.0", "sliding_window", "4096", "quantization_config", "null", "unknown", `{"a":[1]}`}, func(c *Config) {}},
		// RoPE, as published and as transformers 5 writes it.
		{[]string{"rope_scaling", "null"}, func(c *Config) {}},
		{[]string{"rope_scaling", "{}"}, func(c *Config) {}},
		{[]string{"rope_theta", "", "rope_parameters", `{"rope_type":"default","rope_theta":5e5}`}, func(c *Config) { c.RoPE.Theta = 5e5 }},
		{[]string{"rope_theta", "7e5", "rope_parameters", `{"rope_type":"default"}`}, func(c *Config) { c.RoPE.Theta = 7e5 }},
		{[]string{"rope_theta", "7e5", "rope_parameters", `{"rope_theta":5e5,"rope_type":null}`}, func(c *Config) { c.RoPE.Theta = 5e5 }},
		{[]string{"rope_scaling", `{"type":"linear","factor":2.5}`}, func(c *Config) { c.RoPE.Type, c.RoPE.Factor = "linear", 2.5 }},
		{[]string{"rope_scaling", `{"type":"yarn","rope_type":"linear","factor":2}`}, func(c *Config) { c.RoPE.Type, c.RoPE.Factor = "linear", 2 }},
		{[]string{"rope_parameters", `{"rope_type":"linear","factor":9,"rope_theta":9}`, "rope_scaling", `{"type":"linear","factor":2}`}, func(c *Config) { c.RoPE.Type, c.RoPE.Factor = "linear", 2 }},
		{[]string{"rope_scaling", `{"type":"linear","factor":2}`, "rope_parameters", `{"rope_type":"linear","factor":9,"rope_theta":9}`}, func(c *Config) { c.RoPE.Type, c.RoPE.Factor = "linear", 2 }},
		{[]string{"rope_scaling", `{}`, "rope_parameters", `{"rope_type":"linear","factor":9}`}, func(c *Config) { c.RoPE.Type, c.RoPE.Factor = "linear", 9 }},
		{[]string{"rope_scaling", `{"type":"yarn","factor":4}`}, func(c *Config) {
			c.RoPE = RoPEConfig{Type: "yarn", Theta: 1e6, Factor: 4, OriginalMaxPositions: 128, BetaFast: 32, BetaSlow: 1}
		}},
		{[]string{"rope_scaling", `{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32,"beta_fast":16,"beta_slow":2,"mscale":0.5,"mscale_all_dim":0.25,"attention_factor":0.75,"truncate":false}`}, func(c *Config) {
			c.RoPE = RoPEConfig{"yarn", 1e6, 4, 32, &factor, 16, 2, 0.5, 0.25, true}
		}},
		{[]string{"rope_scaling", `{"type":"yarn","original_max_position_embeddings":32,"truncate":true}`}, func(c *Config) {
			c.RoPE = RoPEConfig{Type: "yarn", Theta: 1e6, Factor: 4, OriginalMaxPositions: 32, BetaFast: 32, BetaSlow: 1}
		}},
		{[]string{"original_max_position_embeddings", "64", "rope_scaling", `{"type":"yarn","factor":3}`}, func(c *Config) {
			c.RoPE = RoPEConfig{Type: "yarn", Theta: 1e6, Factor: 3, OriginalMaxPositions: 64, BetaFast: 32, BetaSlow: 1}
		}},
		{[]string{"original_max_position_embeddings", "64", "rope_scaling", `{"type":"yarn","factor":3,"original_max_position_embeddings":64}`}, func(c *Config) {
			c.RoPE = RoPEConfig{Type: "yarn", Theta: 1e6, Factor: 3, OriginalMaxPositions: 64, BetaFast: 32, BetaSlow: 1}
		}},
		{[]string{"original_max_position_embeddings", "64"}, func(c *Config) {}}, // of no use without YaRN
	} {
		want := Config{ModelType: "qwen3", Vocab: 61, Hidden: 20, Intermediate: 28, Layers: 2, Heads: 6, KVHeads: 2, HeadDim: 8,
			MaxPositions: 128, Eps: 1e-6, RoPE: RoPEConfig{Type: "default", Theta: 1e6}}
		if test.edit == nil { // an error, below
			continue
		}
		test.edit(&want)
		got, err := parseConfig([]byte(configText(test.changes...)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", test.changes, got, err, want)
		}
	}
}

// Every field that is required is an error when it is missing, and every value
// that could change the numbers without being known.
func TestParseConfigErrors(t *testing.T) {
	defer answers(t, "parseConfig")()
	type changes = []string
	tests := []struct {
		changes changes
		want    string
	}{
		{changes{"model_type", `"llama"`}, `model_type: found "llama", expected "qwen2" or "qwen3"`},
		{changes{"vocab_size", "0"}, "vocab_size: found 0, expected 1 to 1073741824"},
		{changes{"hidden_size", "1073741825"}, "hidden_size: found 1073741825, expected 1 to 1073741824"},
		{changes{"num_key_value_heads", "-1"}, "num_key_value_heads: found -1, expected 1 to 1073741824"},
		{changes{"num_key_value_heads", "4"}, "found num_attention_heads 6 and num_key_value_heads 4, expected heads to be a multiple of key/value heads"},
		{changes{"model_type", `"qwen2"`, "head_dim", ""}, "found no head_dim, hidden_size 20 and num_attention_heads 6, expected head_dim, or a hidden_size that is a multiple of the heads"},
		{changes{"head_dim", "7"}, "found a head_dim of 7, expected an even number: RoPE turns pairs"},
		{changes{"model_type", `"qwen2"`, "head_dim", "", "hidden_size", "18"}, "found a head_dim of 3, expected an even number: RoPE turns pairs"},
		{changes{"rms_norm_eps", "0"}, "rms_norm_eps: found 0, expected a number above 0 that 32 bits can hold"},
		{changes{"rms_norm_eps", "-1e-6"}, "rms_norm_eps: found -1e-06, expected a number above 0 that 32 bits can hold"},
		{changes{"rms_norm_eps", "1e-60"}, "rms_norm_eps: found 1e-60, expected a number above 0 that 32 bits can hold"},
		{changes{"rms_norm_eps", "1e39"}, "rms_norm_eps: found 1e+39, expected a number above 0 that 32 bits can hold"},
		{changes{"tie_word_embeddings", "1"}, "tie_word_embeddings: found a number, expected true or false"},
		{changes{"eos_token_id", "-1"}, "eos_token_id: found -1, expected a token id"},
		{changes{"eos_token_id", "[1,1073741825]"}, "eos_token_id[1]: found 1073741825, expected a token id"},
		{changes{"eos_token_id", "[" + strings.Repeat("1,", 1024) + "1]"}, "eos_token_id[1024]: found one more id, expected at most 1024"},
		{changes{"hidden_act", `"gelu"`}, `hidden_act: found "gelu", expected "silu"`},
		{changes{"use_sliding_window", "true"}, "use_sliding_window: found true, expected false: sliding-window attention is not implemented"},
		{changes{"layer_types", `["full_attention","sliding_attention"]`}, `layer_types[1]: found "sliding_attention", expected "full_attention": sliding-window attention is not implemented`},
		{changes{"partial_rotary_factor", "0.5"}, "partial_rotary_factor: found 0.5, expected 1: partial rotation is not implemented"},
		{changes{"quantization_config", "{}"}, "quantization_config: found a quantised checkpoint, expected weights in F32, F16 or BF16"},
		{changes{"rope_theta", ""}, "found neither rope_theta nor rope_parameters.rope_theta, expected one of them: there is no default that fits every model"},
		{changes{"rope_theta", "", "rope_parameters", "{}"}, "found neither rope_theta nor rope_parameters.rope_theta, expected one of them: there is no default that fits every model"},
		{changes{"rope_scaling", `{"type":"dynamic","factor":2}`}, `found rope type "dynamic", expected "default", "linear" or "yarn"`},
		{changes{"rope_scaling", `{"type":"linear"}`}, `found no rope factor, expected "factor" for rope type "linear"`},
		{changes{"rope_scaling", `{"type":"yarn"}`}, `found no rope factor, expected "factor" for rope type "yarn"`},
		{changes{"rope_scaling", `{"type":"yarn"}`, "original_max_position_embeddings", "64"}, `found no rope factor, expected "factor" for rope type "yarn"`},
		{changes{"rope_scaling", `{"type":"yarn","factor":2,"original_max_position_embeddings":64}`, "original_max_position_embeddings", "32"}, "found original_max_position_embeddings 32 and, in the rope fields, 64, expected the same number"},
		{changes{"rope_scaling", `{"type":"yarn","factor":2}`, "rope_theta", "1"}, `found rope_theta 1, expected a larger one for rope type "yarn"`},
		{changes{"rope_scaling", `{"type":"linear","factor":0}`}, "rope_scaling.factor: found 0, expected a number above 0 that 32 bits can hold"},
		{changes{"rope_scaling", `{"partial_rotary_factor":0.25}`}, "rope_scaling.partial_rotary_factor: found 0.25, expected 1: partial rotation is not implemented"},
		{changes{"rope_scaling", `[]`}, "rope_scaling: found an array, expected an object"},
	}
	for _, name := range []string{"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
		"num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps"} {
		want := "found no " + name + ", expected it to be given"
		for _, value := range []string{"", "null"} {
			if value == "null" && name == "num_key_value_heads" {
				continue // as many as query heads
			}
			tests = append(tests, struct {
				changes changes
				want    string
			}{changes{name, value}, want})
		}
	}
	for _, test := range tests {
		if _, err := parseConfig([]byte(configText(test.changes...))); err == nil || err.Error() != test.want {
			t.Errorf("%q:\n got %v\nwant %s", test.changes, err, test.want)
		}
	}
	for text, want := range map[string]string{
		"[]":                                 "found an array, expected an object",
		"":                                   "found the end of the file, expected a value",
		`{"vocab_size":"61","vocab_size":1}`: "vocab_size: found a string, expected an integer",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// TestRecordedConfigs holds what is read against encoding/json's view of the
// files that transformers wrote.
func TestRecordedConfigs(t *testing.T) {
	defer answers(t, "parseConfig")()
	files, _ := filepath.Glob("testdata/*/*/config.json")
	for _, file := range append(files, "testdata/qwen3-tiny/config.json", "testdata/qwen2-tiny/config.json") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var raw struct {
			ModelType    string  `json:"model_type"`
			Vocab        int     `json:"vocab_size"`
			Hidden       int     `json:"hidden_size"`
			Intermediate int     `json:"intermediate_size"`
			Layers       int     `json:"num_hidden_layers"`
			Heads        int     `json:"num_attention_heads"`
			KVHeads      int     `json:"num_key_value_heads"`
			HeadDim      int     `json:"head_dim"`
			MaxPositions int     `json:"max_position_embeddings"`
			Eps          float32 `json:"rms_norm_eps"`
			Tie          bool    `json:"tie_word_embeddings"`
			Bias         bool    `json:"attention_bias"`
			EOS          int     `json:"eos_token_id"`
			Theta        float64 `json:"rope_theta"`
			RoPE         struct {
				Theta float64 `json:"rope_theta"`
			} `json:"rope_parameters"`
		}
		if err := json.Unmarshal(data, &raw); err != nil {
			t.Fatal(err)
		}
		c, err := parseConfig(data)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if raw.HeadDim == 0 {
			raw.HeadDim = raw.Hidden / raw.Heads
		}
		if raw.Theta == 0 {
			raw.Theta = raw.RoPE.Theta
		}
		c.RoPE = RoPEConfig{Theta: c.RoPE.Theta}
		want := Config{raw.ModelType, raw.Vocab, raw.Hidden, raw.Intermediate, raw.Layers, raw.Heads, raw.KVHeads, raw.HeadDim,
			raw.MaxPositions, raw.Eps, RoPEConfig{Theta: raw.Theta}, raw.Tie, raw.Bias, []int{raw.EOS}, Sampling{}}
		if !reflect.DeepEqual(c, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", file, c, want)
		}
	}
}

func TestParseGeneration(t *testing.T) {
	defer answers(t, "parseGeneration")()
	for _, test := range []struct {
		text string
		want Config
	}{
		{`{}`, Config{StopIDs: []int{1}}},
		{`{"do_sample":true}`, Config{StopIDs: []int{1}, Sampling: Sampling{Temperature: 1, TopK: 50}}},
		{`{"do_sample":true,"temperature":0.7,"top_k":20,"top_p":0.8,"min_p":0.1,"repetition_penalty":1.1,"eos_token_id":[7,8],"other":[]}`,
			Config{StopIDs: []int{7, 8}, Sampling: Sampling{0.7, 20, 0.8, 0.1, 1.1, 0}}},
		{`{"do_sample":false,"temperature":0.7,"top_k":20,"top_p":0.8,"repetition_penalty":1.1,"eos_token_id":9}`,
			Config{StopIDs: []int{9}, Sampling: Sampling{RepetitionPenalty: 1.1}}},
		{`{"do_sample":true,"temperature":null,"top_k":null,"eos_token_id":null}`, Config{StopIDs: []int{1}, Sampling: Sampling{Temperature: 1, TopK: 50}}},
		{`{"do_sample":true,"top_k":-9}`, Config{StopIDs: []int{1}, Sampling: Sampling{Temperature: 1, TopK: -1}}},
		{`{"do_sample":true,"top_k":9000000000}`, Config{StopIDs: []int{1}, Sampling: Sampling{Temperature: 1, TopK: 1 << 30}}},
		{`{"do_sample":true,"top_k":0}`, Config{StopIDs: []int{1}, Sampling: Sampling{Temperature: 1}}},
		{`{"top_p":0,"do_sample":true,"temperature":0.7,"repetition_penalty":1.1}`, Config{StopIDs: []int{1}, Sampling: Sampling{RepetitionPenalty: 1.1}}},
		{`{"do_sample":true,"top_p":null}`, Config{StopIDs: []int{1}, Sampling: Sampling{Temperature: 1, TopK: 50}}},
	} {
		got := Config{StopIDs: []int{1}}
		if err := parseGeneration([]byte(test.text), &got); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", test.text, got, err, test.want)
		}
	}
	for text, want := range map[string]string{
		`{"top_p":1.5}`:         "top_p: found 1.5, expected 0 to 1",
		`{"temperature":"hot"}`: "temperature: found a string, expected a number",
		`{"do_sample":1}`:       "do_sample: found a number, expected true or false",
		`[]`:                    "found an array, expected an object",
	} {
		c := Config{StopIDs: []int{1}}
		if err := parseGeneration([]byte(text), &c); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
		if !reflect.DeepEqual(c.Sampling, Sampling{}) {
			t.Errorf("%s is refused, and changes the config to %+v", text, c)
		}
	}
}

func TestParseIndex(t *testing.T) {
	defer answers(t, "parseIndex")()
	fileOf, files, err := parseIndex([]byte(`{"metadata":{"total_size":1},"weight_map":{"b":"2.safetensors","a":"1.safetensors","c":"2.safetensors","d":"sub/..x"}}`))
	want := map[string]string{"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors", "d": "sub/..x"}
	if err != nil || !reflect.DeepEqual(fileOf, want) || !slices.Equal(files, []string{"1.safetensors", "2.safetensors", "sub/..x"}) {
		t.Errorf("got %v, %v, %v", fileOf, files, err)
	}
	for _, name := range []string{"", ".", "..", "/etc/passwd", "../x", "a/../../x", "a/../x", "./x", "a//x", "a/", "a/./x", `a\x`, "x\x00", "a/.."} {
		quoted, _ := json.Marshal(name)
		_, _, err := parseIndex([]byte(`{"weight_map":{"a.b":` + string(quoted) + `}}`))
		if want := fmt.Sprintf(`weight_map."a.b": found %q, expected the name of a file in the folder`, name); !errors.Is(err, ErrPath) || err.(*LoadError).Problem != want {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
	for text, want := range map[string]string{
		`{}`:                                     "found no weight_map, expected one",
		`{"weight_map":[]}`:                      "weight_map: found an array, expected an object",
		`{"weight_map":{"a":1}}`:                 "weight_map.a: found a number, expected a string",
		`{"weight_map":{"a":"x","b":1,"c":"/"}}`: "weight_map.b: found a number, expected a string",
	} {
		if _, _, err := parseIndex([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestParseChatTemplate(t *testing.T) {
	defer answers(t, "parseChatTemplate")()
	for text, want := range map[string]string{
		`{"chat_template":"a"}`:        "a",
		`{}`:                           "",
		`{"chat_template":null,"b":1}`: "",
		`{"x":"y","chat_template":"a","bos_token":""}`: "a",
		`{"chat_template":[{"name":"tool_use","template":"t"},{"template":"d","name":"default","x":1},{"name":"rag","template":"r"}]}`: "d",
		`{"chat_template":[]}`: "",
	} {
		if got, err := parseChatTemplate([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"chat_template":7}`:   "chat_template: found a number, expected an array",
		`{"chat_template":[1]}`: "chat_template[0]: found a number, expected an object",
	} {
		if _, err := parseChatTemplate([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// refused checks an error of loading: its kind, its file, and what it says.
func refused(t *testing.T, name string, err, kind error, text string) {
	t.Helper()
	e := (*LoadError)(nil)
	if !errors.As(err, &e) || !errors.Is(err, kind) || err.Error() != "qwen: "+text {
		t.Errorf("%s:\n got %v\nwant qwen: %s", name, err, text)
	}
}

// TestConfigMissing adds one field after the other: what is asked for is the next one.
func TestConfigMissing(t *testing.T) {
	defer answers(t, "parseConfig")()
	text := `{"tie_word_embeddings": true`
	for _, field := range []string{`"model_type": "qwen3"`, `"hidden_size": 12`, `"intermediate_size": 4`, `"num_hidden_layers": 1`, `"num_attention_heads": 6`,
		`"num_key_value_heads": 2`, `"vocab_size": 9`, `"max_position_embeddings": 8`, `"rms_norm_eps": 1e-6`} {
		name := strings.Split(field, `"`)[1]
		if _, err := parseConfig([]byte(text + "}")); err == nil || err.Error() != "found no "+name+", expected it to be given" {
			t.Errorf("without %s: %v", name, err)
		}
		text += ", " + field
	}
}

func TestLoadError(t *testing.T) {
	golden(t, "LoadError", func(c *check) {
		long := strings.Repeat("é", 600) // 1,200 bytes
		for _, test := range []struct{ file, want string }{
			{"a/b c", "qwen: a/b c: p"}, {"", "qwen: p"}, {"é中", "qwen: é中: p"}, {"a\nb", `qwen: "a\nb": p`}, {"\xff", `qwen: "\xff": p`},
			{long, "qwen: …" + long[200:] + ": p"}, {"x" + long, "qwen: …" + long[200:] + ": p"}, {long + "x", "qwen: …" + long[202:] + "x: p"},
			{long[:1000], "qwen: " + long[:1000] + ": p"}, {long[:998] + "abc", "qwen: …" + long[:996] + "abc: p"},
		} {
			e := &LoadError{File: test.file, Kind: ErrShape, Problem: "p"}
			c.equal("message", e.Error(), test.want)
		}
		var e error = &LoadError{File: "a", Kind: ErrShape, Problem: "b"}
		if got := inFile("c", ErrDType, fmt.Errorf("x: %w", e)); got.Error() != "qwen: c: b" || !errors.Is(got, ErrShape) || errors.Is(got, ErrDType) {
			c.fail("inFile of a LoadError: %v", got)
		}
		if got := inFile("c", ErrDType, io.EOF); got.Error() != "qwen: c: EOF" || !errors.Is(got, ErrDType) {
			c.fail("inFile of another error: %v", got)
		}
	})
}

// TestFolder reads files, and refuses what is not one.
func TestFolder(t *testing.T) {
	defer answers(t, "folder")()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("five", "12345")
	write("empty", "")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("five", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	disk := folder{dir: dir}
	memory := folder{dir: ".", fsys: fstest.MapFS{
		"five": {Data: []byte("12345")}, "empty": {}, "link": {Data: []byte("12345")}, "sub": {Mode: fs.ModeDir},
		"pipe": {Mode: fs.ModeNamedPipe}, "socket": {Mode: fs.ModeSocket}, "device": {Mode: fs.ModeDevice},
	}}
	for kind, f := range map[string]folder{"disk": disk, "memory": memory} {
		at := func(name string) string {
			if kind == "disk" {
				return filepath.Join(dir, name)
			}
			return name
		}
		for name, want := range map[string]string{"five": "12345", "link": "12345", "empty": ""} {
			got, err := f.read(name, 5)
			if err != nil || string(got) != want {
				t.Errorf("%s: read %s: got %q, %v", kind, name, got, err)
			}
			data, release, err := f.mapFile(name)
			if err != nil || string(data) != want {
				t.Errorf("%s: map %s: got %q, %v", kind, name, data, err)
			} else if err := release(); err != nil {
				t.Errorf("%s: release %s: %v", kind, name, err)
			}
		}
		_, err := f.read("five", 4)
		refused(t, kind+", too large", err, ErrTooLarge, at("five")+": found 5 bytes, expected at most 4")
		_, err = f.read("none", 4)
		refused(t, kind+", missing", err, fs.ErrNotExist, at("none")+": no such file, expected one")
		_, _, err = f.mapFile("none")
		refused(t, kind+", missing", err, fs.ErrNotExist, at("none")+": no such file, expected one")
		_, err = f.read("sub", 4)
		refused(t, kind+", a folder", err, ErrNotRegular, at("sub")+": found a folder, expected a regular file")
		_, _, err = f.mapFile("sub")
		refused(t, kind+", a folder", err, ErrNotRegular, at("sub")+": found a folder, expected a regular file")
	}
	for name, what := range map[string]string{"pipe": "a named pipe", "socket": "a socket", "device": "a device"} {
		_, err := memory.read(name, 4)
		refused(t, name, err, ErrNotRegular, name+": found "+what+", expected a regular file")
	}
	_, err := disk.read("five/six", 4)
	if !errors.Is(err, ErrNotRegular) || strings.Count(err.Error(), "five") != 1 {
		t.Errorf("a file as a folder: %v", err)
	}
	if info, err := os.Stat(os.DevNull); err == nil && !info.Mode().IsRegular() {
		_, _, err = folder{dir: filepath.Dir(os.DevNull)}.mapFile(filepath.Base(os.DevNull))
		refused(t, "a device", err, ErrNotRegular, os.DevNull+": found a device, expected a regular file")
	}

	// Files that fail: to be opened, to say what they are, to be read to the end.
	for name, test := range map[string]struct {
		open, stat error
		short      bool
		kind       error
		want       string
	}{
		"open":  {&fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}, nil, false, fs.ErrPermission, "x: cannot be opened: permission denied, expected a file that may be read"},
		"stat":  {nil, io.ErrClosedPipe, false, ErrNotRegular, "x: io: read/write on closed pipe"},
		"short": {nil, nil, true, ErrTruncated, "x: cannot be read: unexpected EOF"},
	} {
		f := folder{dir: ".", fsys: brokenFS{test.open, test.stat, test.short}}
		_, err := f.read("x", 10)
		refused(t, name, err, test.kind, test.want)
		_, _, err = f.mapFile("x")
		refused(t, name, err, test.kind, test.want)
	}
}

// A hugeFS has one file of a certain size and nothing in it.
type hugeFS struct{ size int64 }

func (h hugeFS) Open(string) (fs.File, error)     { return hugeFile{h}, nil }
func (h hugeFS) Stat(string) (fs.FileInfo, error) { return hugeInfo{h}, nil }

type hugeFile struct{ hugeFS }

func (h hugeFile) Stat() (fs.FileInfo, error) { return hugeInfo{h.hugeFS}, nil }
func (h hugeFile) Read([]byte) (int, error)   { return 0, io.EOF }
func (h hugeFile) Close() error               { return nil }

type hugeInfo struct{ h hugeFS }

func (h hugeInfo) Name() string       { return "x" }
func (h hugeInfo) Size() int64        { return h.h.size }
func (h hugeInfo) Mode() fs.FileMode  { return 0o444 }
func (h hugeInfo) ModTime() time.Time { return time.Time{} }
func (h hugeInfo) IsDir() bool        { return false }
func (h hugeInfo) Sys() any           { return nil }

// TestLargeFiles goes to the largest files that are read as a whole, and beyond.
func TestLargeFiles(t *testing.T) {
	defer answers(t, "load")()
	for name, test := range map[string]struct {
		limit int64
		read  func(f folder) error
	}{
		"config.json":         {16 << 20, func(f folder) error { _, err := f.config(); return err }},
		"tokenizer.json":      {64 << 20, func(f folder) error { _, err := f.tokenizer(); return err }},
		"chat_template.jinja": {16 << 20, func(f folder) error { _, err := f.template("qwen3"); return err }},
	} {
		err := test.read(folder{".", hugeFS{test.limit + 1}})
		refused(t, name, err, ErrTooLarge, fmt.Sprintf("%s: found %d bytes, expected at most %d", name, test.limit+1, test.limit))
		err = test.read(folder{".", hugeFS{test.limit}})
		refused(t, name, err, ErrTruncated, name+": cannot be read: EOF")
	}
}

// brokenFS has one file, x, that says it has 9 bytes and misbehaves.
type brokenFS struct {
	open, stat error
	short      bool
}

func (b brokenFS) Open(string) (fs.File, error) { return brokenFile{b}, b.open }

// Stat is what folder looks at before it opens the file.
func (b brokenFS) Stat(string) (fs.FileInfo, error) {
	return fstest.MapFS{"x": {Data: make([]byte, 9)}}.Stat("x")
}

type brokenFile struct{ b brokenFS }

func (f brokenFile) Stat() (fs.FileInfo, error) {
	if f.b.stat != nil {
		return nil, f.b.stat
	}
	return f.b.Stat("x")
}

func (f brokenFile) Read(p []byte) (int, error) { return 3, io.EOF }
func (f brokenFile) Close() error               { return nil }

// TestConnect looks for every tensor of the recorded models in its place.
func TestConnect(t *testing.T) {
	golden(t, "Model.connect", func(c *check) {
		for _, name := range []string{"qwen3-tiny", "qwen2-tiny", "variants/qwen3-bias"} {
			r, m, files := read(c, "testdata/"+name+"/model.safetensors"), &Model{}, map[string]located{}
			data, err := os.ReadFile("testdata/" + name + "/config.json")
			c.must(err)
			m.Config, err = parseConfig(data)
			c.must(err)
			for name, e := range r.entries {
				files[name] = located{Tensor{name, DType(e.DType), e.Shape, e.data}, "FILE"}
			}
			c.must(m.connect(files, "SOURCE"))
			used := 0
			matrix := func(what string, got Matrix, rows, cols int) {
				e := r.entry(what)
				used++
				c.equal(name+" "+what, []any{got.DType, got.Rows, got.Cols, bytes.Equal(got.Data, e.data)}, []any{DType(e.DType), rows, cols, true})
				c.equal(name+" "+what+", shape", e.Shape, []int{rows, cols})
			}
			vector := func(what string, got []float32, n int) {
				if !r.has(what) {
					c.equal(name+" "+what+", which the file has not", got, []float32(nil))
					return
				}
				used++
				sameBits(c, name+" "+what, got, r.numbers(what))
				c.equal(name+" "+what+", length", len(got), n)
			}
			k := m.Config
			q, kv := k.Heads*k.HeadDim, k.KVHeads*k.HeadDim
			matrix("model.embed_tokens.weight", m.Embed, k.Vocab, k.Hidden)
			for i, l := range m.Layers {
				at := fmt.Sprintf("model.layers.%d.", i)
				vector(at+"input_layernorm.weight", l.InputNorm, k.Hidden)
				a := l.Attention
				matrix(at+"self_attn.q_proj.weight", a.Q, q, k.Hidden)
				matrix(at+"self_attn.k_proj.weight", a.K, kv, k.Hidden)
				matrix(at+"self_attn.v_proj.weight", a.V, kv, k.Hidden)
				matrix(at+"self_attn.o_proj.weight", a.O, k.Hidden, q)
				vector(at+"self_attn.q_proj.bias", a.QBias, q)
				vector(at+"self_attn.k_proj.bias", a.KBias, kv)
				vector(at+"self_attn.v_proj.bias", a.VBias, kv)
				vector(at+"self_attn.o_proj.bias", a.OBias, k.Hidden)
				vector(at+"self_attn.q_norm.weight", a.QNorm, k.HeadDim)
				vector(at+"self_attn.k_norm.weight", a.KNorm, k.HeadDim)
				vector(at+"post_attention_layernorm.weight", l.PostNorm, k.Hidden)
				matrix(at+"mlp.gate_proj.weight", l.FFN.Gate, k.Intermediate, k.Hidden)
				matrix(at+"mlp.up_proj.weight", l.FFN.Up, k.Intermediate, k.Hidden)
				matrix(at+"mlp.down_proj.weight", l.FFN.Down, k.Hidden, k.Intermediate)
			}
			vector("model.norm.weight", m.Norm, k.Hidden)
			if k.TieEmbeddings {
				c.equal("tied head", m.Head, m.Embed)
			} else {
				matrix("lm_head.weight", m.Head, k.Vocab, k.Hidden)
			}
			c.equal("layers", len(m.Layers), k.Layers)
			c.equal("every tensor of the file is used", used, len(r.entries))

			var order []string
			parameters := 0
			for _, x := range m.Tensors() {
				order = append(order, x.Name)
				parameters += len(r.entry(x.Name).numbers())
			}
			c.equal("Parameters", m.Parameters(), parameters)
			c.equal("tensors in the order of the network", []string{order[0], order[1], order[2], order[len(order)-1]},
				[]string{"model.embed_tokens.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight", map[bool]string{true: "model.norm.weight", false: "lm_head.weight"}[k.TieEmbeddings]})
		}
	})
}

// TestConnectErrors leaves out and spoils one tensor at a time.
func TestConnectErrors(t *testing.T) {
	defer answers(t, "Model.connect")()
	for _, name := range []string{"qwen3-tiny", "qwen2-tiny", "variants/qwen3-bias"} {
		data, err := os.ReadFile("testdata/" + name + "/config.json")
		if err != nil {
			t.Fatal(err)
		}
		config, err := parseConfig(data)
		if err != nil {
			t.Fatal(err)
		}
		all := func() map[string]located {
			r := read(&check{T: t}, "testdata/"+name+"/model.safetensors")
			tensors := map[string]located{}
			for name, e := range r.entries {
				tensors[name] = located{Tensor{name, DType(e.DType), e.Shape, e.data}, "FILE"}
			}
			return tensors
		}
		connect := func(tensors map[string]located) (*Model, error) {
			m := &Model{Config: config}
			return m, m.connect(tensors, "SOURCE")
		}
		tensors := all()
		tensors["b"] = located{Tensor{"b", "U8", []int{1}, []byte{1}}, "FILE"}
		tensors["a"] = located{NewTensor("a", []float32{1}, 1), "FILE"}
		if m, err := connect(tensors); err != nil {
			t.Error(err)
		} else if n := len(m.tensors); n != len(tensors) || m.used != n-2 || m.tensors[n-2].Name != "a" || m.tensors[n-1].Name != "b" {
			t.Errorf("tensors that the network does not use: %d in all, %d used, %d expected", n, m.used, len(tensors))
		}
		for name, was := range all() {
			tensors := all()
			delete(tensors, name)
			_, err := connect(tensors)
			refused(t, "without "+name, err, ErrMissingTensor, fmt.Sprintf("SOURCE: %s: not found, expected shape %v", name, was.Shape))

			spoiled := was
			spoiled.DType = "F64"
			tensors[name] = spoiled
			_, err = connect(tensors)
			refused(t, name, err, ErrDType, "FILE: "+name+": found dtype F64, expected F32, F16 or BF16")

			spoiled = was
			spoiled.Shape = append(slices.Clone(was.Shape[1:]), was.Shape[0]+1)
			tensors[name] = spoiled
			_, err = connect(tensors)
			refused(t, name, err, ErrShape, fmt.Sprintf("FILE: %s: found shape %v, expected %v", name, spoiled.Shape, was.Shape))
		}
	}
	// A tied head: the embedding under either name, but a head that is in the file goes before.
	for _, has := range []string{"embed_tokens", "lm_head", "both"} {
		r, files := read(&check{T: t}, "testdata/qwen2-tiny/model.safetensors"), map[string]located{}
		for name, e := range r.entries {
			files[name] = located{Tensor{name, DType(e.DType), e.Shape, e.data}, "FILE"}
		}
		embed, head := r.entries["model.embed_tokens.weight"].data, r.entries["lm_head.weight"].data
		switch has {
		case "embed_tokens":
			delete(files, "lm_head.weight")
			head = embed
		case "lm_head":
			delete(files, "model.embed_tokens.weight")
			embed = head
		}
		data, _ := os.ReadFile("testdata/qwen2-tiny/config.json")
		m := &Model{}
		m.Config, _ = parseConfig(data)
		m.Config.TieEmbeddings = true
		if err := m.connect(files, "SOURCE"); err != nil || !bytes.Equal(m.Embed.Data, embed) || !bytes.Equal(m.Head.Data, head) {
			t.Errorf("tied, %s in the file: %v", has, err)
		}
		if got, want := m.Parameters(), parameters(m.Config); got != want || m.used != len(files) {
			t.Errorf("tied, %s in the file: %d parameters, expected %d; %d tensors used, expected %d", has, got, want, m.used, len(files))
		}
	}
	// A config that asks for a billion layers is refused at the first that is not there.
	start := time.Now()
	m := &Model{Config: Config{ModelType: "qwen2", Vocab: 1, Hidden: 1, Intermediate: 1, Heads: 1, KVHeads: 1, HeadDim: 2, Layers: maxSize}}
	if err := m.connect(nil, "SOURCE"); err == nil || time.Since(start) > time.Second || len(m.Layers) > 1 {
		t.Errorf("a billion layers: %v after %v, %d layers", err, time.Since(start), len(m.Layers))
	}
}

// checkpoint returns the files of a recorded model in a file system that can be
// changed.
func checkpoint(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	entries, err := os.ReadDir("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if data, err := os.ReadFile("testdata/" + name + "/" + e.Name()); err == nil && !strings.HasPrefix(e.Name(), "golden") && !strings.HasPrefix(e.Name(), "trace") {
			files[e.Name()] = &fstest.MapFile{Data: data}
		}
	}
	return files
}

// A tokenizer.json with the least that is accepted.
const leastTokenizer = `{"version":"1.0","added_tokens":[{"id":2,"content":"<|im_end|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[
{"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true},
"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}`

func TestLoad(t *testing.T) {
	defer answers(t, "load")()
	for _, name := range []string{"qwen3-tiny", "variants/qwen3-bf16-sharded", "variants/qwen2-stop"} {
		files := checkpoint(t, name)
		mapped, err := Load("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		inMemory, err := LoadFS(files)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(mapped.Config, inMemory.Config) || !reflect.DeepEqual(mapped.Layers, inMemory.Layers) || !reflect.DeepEqual(mapped.rotary, inMemory.rotary) ||
			!reflect.DeepEqual(mapped.Tensors(), inMemory.Tensors()) || len(mapped.rotary.InvFreq) != mapped.Config.HeadDim/2 {
			t.Errorf("%s: Load and LoadFS differ", name)
		}
		if mapped.Tokenizer != nil {
			t.Errorf("%s: a tokenizer out of nothing", name)
		}
		released := 0
		mapped.release = append(mapped.release, func() error { released++; return io.ErrClosedPipe })
		if err := mapped.Close(); !errors.Is(err, io.ErrClosedPipe) || released != 1 {
			t.Errorf("Close: %v, released %d times", err, released)
		}
		if err := mapped.Close(); err != nil || released != 1 {
			t.Errorf("Close, again: %v, released %d times", err, released)
		}
		inMemory.Close()
	}
	files := checkpoint(t, "variants/qwen2-stop")
	m, err := LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	want := Sampling{Temperature: 0.7, TopK: 20, TopP: 0.8, RepetitionPenalty: 1.1}
	if len(m.Config.StopIDs) != 2 || m.Config.Sampling != want {
		t.Errorf("generation_config.json: stop ids %v, sampling %+v", m.Config.StopIDs, m.Config.Sampling)
	}
	delete(files, "generation_config.json")
	if m, err = LoadFS(files); err != nil || !slices.Equal(m.Config.StopIDs, []int{60}) {
		t.Errorf("without generation_config.json: %v, %v", m, err)
	}

	// With a tokenizer, and with the template that comes with it.
	files["tokenizer.json"] = &fstest.MapFile{Data: []byte(leastTokenizer)}
	if m, err = LoadFS(files); err != nil || m.Tokenizer.Len() != 3 || m.Template != TemplateQwen25 {
		t.Fatalf("with a tokenizer: %v", err)
	}
	if tokenizer, err := LoadTokenizerFS(files); err != nil || tokenizer.Len() != 3 {
		t.Errorf("LoadTokenizerFS: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(leastTokenizer), 0o600); err != nil {
		t.Fatal(err)
	}
	if tokenizer, err := LoadTokenizer(dir); err != nil || tokenizer.Len() != 3 {
		t.Errorf("LoadTokenizer: %v", err)
	}
	if _, err := LoadTemplate(dir); err == nil {
		t.Error("a template out of nothing")
	}
	files["config.json"].Data = bytes.Replace(files["config.json"].Data, []byte(`"vocab_size": 61`), []byte(`"vocab_size": 2`), 1)
	_, err = LoadFS(files)
	refused(t, "vocabulary smaller than the tokenizer's", err, ErrTokenizer, "tokenizer.json: found token id 2, expected ids below the config's vocab_size, 2")
	files["config.json"].Data = bytes.Replace(files["config.json"].Data, []byte(`"vocab_size": 2`), []byte(`"vocab_size": 3`), 1)
	_, err = LoadFS(files)
	refused(t, "vocabulary as large as the tokenizer's", err, ErrShape, "model.safetensors: model.embed_tokens.weight: found shape [61 24], expected [3 24]")
}

func TestLoadTemplate(t *testing.T) {
	defer answers(t, "load")()
	qwen2, qwen25 := string(testFile(t, "qwen2.jinja", nil)), string(testFile(t, "qwen2.5.jinja", nil))
	quoted := func(s string) []byte { b, _ := json.Marshal(map[string]string{"chat_template": s}); return b }
	for _, test := range []struct {
		name  string
		files fstest.MapFS
		want  Template
		own   string // error of LoadTemplateFS
	}{
		{"of the model type", fstest.MapFS{"config.json": {Data: []byte(configText())}}, TemplateQwen3, ""},
		{"tokenizer_config.json", fstest.MapFS{"config.json": {Data: []byte(configText())}, "tokenizer_config.json": {Data: quoted(qwen25)}}, TemplateQwen25, ""},
		{"chat_template.jinja comes first", fstest.MapFS{"config.json": {Data: []byte(configText())}, "chat_template.jinja": {Data: []byte(qwen2)}, "tokenizer_config.json": {Data: quoted(qwen25)}}, TemplateQwen2, ""},
		{"tokenizer_config.json without one", fstest.MapFS{"config.json": {Data: []byte(configText("model_type", `"qwen2"`))}, "tokenizer_config.json": {Data: []byte("{}")}}, TemplateQwen25, ""},
		{"an unknown one", fstest.MapFS{"config.json": {Data: []byte(configText())}, "chat_template.jinja": {Data: []byte("x")}}, "", "qwen: tokenizer_config.json: found no chat template that this package knows, expected Qwen2's, Qwen2.5's or Qwen3's"},
	} {
		got, err := (folder{".", test.files}).template("qwen3")
		if test.name == "tokenizer_config.json without one" {
			got, err = (folder{".", test.files}).template("qwen2")
		}
		if err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
		}
		if got, err = LoadTemplateFS(test.files); got != test.want || fmt.Sprint(err) != cmpOr(test.own, "<nil>") {
			t.Errorf("%s: LoadTemplateFS: got %q, %v", test.name, got, err)
		}
	}
	for name, bad := range map[string]fstest.MapFS{
		"chat_template.jinja: found a folder, expected a regular file":       {"chat_template.jinja": {Mode: fs.ModeDir}},
		"tokenizer_config.json: found a folder, expected a regular file":     {"tokenizer_config.json": {Mode: fs.ModeDir}},
		"tokenizer_config.json: found the end of the file, expected a value": {"tokenizer_config.json": {}},
	} {
		if _, err := (folder{".", bad}).template("qwen3"); err == nil || err.Error() != "qwen: "+name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// TestLoadErrors spoils one file at a time.
func TestLoadErrors(t *testing.T) {
	defer answers(t, "load")()
	short := file(`{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "012")
	for _, test := range []struct {
		model, file string
		data        *fstest.MapFile // nil: the file is taken away
		kind        error
		want        string
	}{
		{"qwen3-tiny", "config.json", nil, fs.ErrNotExist, "config.json: no such file, expected one"},
		{"qwen3-tiny", "config.json", &fstest.MapFile{Mode: fs.ModeDir}, ErrNotRegular, "config.json: found a folder, expected a regular file"},
		{"qwen3-tiny", "config.json", &fstest.MapFile{Data: []byte("{}")}, ErrConfig, "config.json: found no model_type, expected it to be given"},
		{"qwen3-tiny", "generation_config.json", &fstest.MapFile{Data: []byte("[]")}, ErrConfig, "generation_config.json: found an array, expected an object"},
		{"qwen3-tiny", "generation_config.json", &fstest.MapFile{Mode: fs.ModeDir}, ErrNotRegular, "generation_config.json: found a folder, expected a regular file"},
		{"qwen3-tiny", "tokenizer.json", &fstest.MapFile{Data: []byte("[]")}, ErrTokenizer, "tokenizer.json: found an array, expected an object"},
		{"qwen3-tiny", "tokenizer.json", &fstest.MapFile{Mode: fs.ModeDir}, ErrNotRegular, "tokenizer.json: found a folder, expected a regular file"},
		{"qwen3-tiny", "chat_template.jinja", &fstest.MapFile{Mode: fs.ModeDir}, ErrNotRegular, "chat_template.jinja: found a folder, expected a regular file"},
		{"qwen3-tiny", "model.safetensors", nil, fs.ErrNotExist, "model.safetensors: no such file, and no model.safetensors.index.json, expected one of them"},
		{"qwen3-tiny", "model.safetensors", &fstest.MapFile{Mode: fs.ModeDir}, ErrNotRegular, "model.safetensors: found a folder, expected a regular file"},
		{"qwen3-tiny", "model.safetensors", &fstest.MapFile{Data: short}, ErrTruncated, "model.safetensors: x: data_offsets: found end 4, expected at most the 3 bytes that follow the header"},
		{"qwen3-tiny", "model.safetensors", &fstest.MapFile{Data: file("{}", "")}, ErrMissingTensor, "model.safetensors: model.embed_tokens.weight: not found, expected shape [97 36]"},
		{"variants/qwen3-bf16-sharded", "model-00002-of-00003.safetensors", nil, fs.ErrNotExist, "model-00002-of-00003.safetensors: no such file, expected one"},
		{"variants/qwen3-bf16-sharded", "model-00001-of-00003.safetensors", &fstest.MapFile{Data: file("{}", "")}, ErrMissingTensor, "model-00001-of-00003.safetensors: model.embed_tokens.weight: not found, expected it in this file, which model.safetensors.index.json gives for it"},
		{"variants/qwen3-bf16-sharded", "model.safetensors.index.json", &fstest.MapFile{Data: []byte(`{"weight_map":{}}`)}, ErrMissingTensor, "model.safetensors.index.json: model.embed_tokens.weight: not found, expected shape [61 20]"},
		{"variants/qwen3-bf16-sharded", "model.safetensors.index.json", &fstest.MapFile{Data: []byte(`{"weight_map":{"x":"../x"}}`)}, ErrPath, `model.safetensors.index.json: weight_map.x: found "../x", expected the name of a file in the folder`},
		{"variants/qwen3-bf16-sharded", "model.safetensors.index.json", &fstest.MapFile{Data: []byte(`{}`)}, ErrConfig, "model.safetensors.index.json: found no weight_map, expected one"},
		{"variants/qwen3-bf16-sharded", "model.safetensors.index.json", &fstest.MapFile{Mode: fs.ModeDir}, ErrNotRegular, "model.safetensors.index.json: found a folder, expected a regular file"},
	} {
		files := checkpoint(t, test.model)
		if files[test.file] = test.data; test.data == nil {
			delete(files, test.file)
		}
		_, err := LoadFS(files)
		refused(t, test.file, err, test.kind, test.want)
	}

	// A tensor comes from the file that the index gives for it, and from no other.
	files := checkpoint(t, "variants/qwen3-bf16-sharded")
	last := "model-00003-of-00003.safetensors"
	tensors, _, err := ParseSafetensors(files[last].Data)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	wrong := Tensor{"model.embed_tokens.weight", "U8", []int{1}, []byte{1}}
	if err := WriteSafetensors(&out, append(tensors, wrong), nil); err != nil {
		t.Fatal(err)
	}
	files[last].Data = out.Bytes()
	if _, err := LoadFS(files); err != nil {
		t.Errorf("a second tensor of the same name in another shard: %v", err)
	}

	// Whatever was mapped is given back.
	m := &Model{}
	_, _, err = folder{dir: "testdata/qwen3-tiny"}.weights(m)
	if err != nil || len(m.release) != 1 {
		t.Errorf("%d files to release, %v", len(m.release), err)
	}
	m.Close()
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestFileChanged shortens a file of weights while it is mapped.
func TestFileChanged(t *testing.T) {
	defer answers(t, "Model.Forward")()
	dir := t.TempDir()
	for name, f := range checkpoint(t, "qwen2-tiny") {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // other goroutines meet the fault too
	cache := m.NewCache()
	if _, err := m.Forward([]int{1}, cache); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{128 << 10, 64 << 10, 4 << 10, 0} {
		if err := os.Truncate(filepath.Join(dir, "model.safetensors"), size); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := m.Forward([]int{1}, cache); err != ErrFileChanged && err != nil { // where files are not mapped, nothing happens
				t.Errorf("a file that became shorter: %v", err)
			}
		}
	}
	if n := cache.Len(); runtime.GOOS == "linux" && n != 1 {
		t.Errorf("%d tokens in the cache, want 1", n)
	}
}

// TestCatchFault does the same to a file that is nothing but mapped.
func TestCatchFault(t *testing.T) {
	defer answers(t, "load")()
	name := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	data, release, err := folder{dir: filepath.Dir(name)}.mapFile("x")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		before := debug.SetPanicOnFault(false)
		read := func() (sum byte, err error) {
			defer catchFault(&err)()
			return data[len(data)-1], nil
		}
		if _, err := read(); err != ErrFileChanged && err != nil { // where files are not mapped, nothing happens
			t.Errorf("a file that became shorter: %v", err)
		} else if err == nil && runtime.GOOS == "linux" {
			t.Error("no error")
		}
		if debug.SetPanicOnFault(before) {
			t.Error("faults stay panics afterwards")
		}
	}
	// A panic of another kind goes on.
	defer func() {
		if r := recover(); r != io.EOF {
			t.Errorf("catchFault makes %v of io.EOF", r)
		}
	}()
	func() {
		defer catchFault(new(error))()
		panic(io.EOF)
	}()
}

func TestLoadNoFS(t *testing.T) {
	defer answers(t, "load")()
	_, errTokenizer := LoadTokenizerFS(nil)
	_, errTemplate := LoadTemplateFS(nil)
	for _, err := range []error{errTokenizer, errTemplate} { // and not the folder in which the program runs
		refused(t, "no file system", err, fs.ErrNotExist, ".: found no file system, expected one")
	}
	if _, err := LoadFS(nil); err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "found no file system, expected one") {
		t.Errorf("got %v", err)
	}
}
