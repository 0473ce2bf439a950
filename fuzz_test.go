package qwen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Each target reads one thing that comes from strangers. Whatever it is: an
// error of one line, or a result that keeps its promises. Seeds are small. What
// was found is in testdata/fuzz, and run with every go test.

// checkMessage tests an error for its reader.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); len(s) >= 2000 || strings.ContainsAny(s, "\n\r\x00\x1b") {
		t.Fatalf("message %q of %d bytes, expected one line", s, len(s))
	}
}

// fuzzBody is what follows the headers of the fuzzer.
func fuzzBody(n int) []byte {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(i * 37)
	}
	return body
}

func FuzzSafetensors(f *testing.F) {
	f.Add([]byte(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}`), uint16(10))
	f.Add([]byte(` {"__metadata__":{"format":"pt"},"e":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]},"\u00e9":{"dtype":"I64","shape":[0,9],"data_offsets":[0,0],"x":[null,1e3]}} `), uint16(3))
	f.Add([]byte(`{}`), uint16(0))
	f.Fuzz(func(t *testing.T, header []byte, n uint16) {
		file := assemble(string(header), fuzzBody(int(n)))
		for _, file := range [][]byte{file, header} { // the fuzzer's text as a header, and as a whole file
			tensors, metadata, err := ParseSafetensors(file)
			if err != nil {
				if e := (*LoadError)(nil); !errors.As(err, &e) || e.Kind != ErrBadHeader && e.Kind != ErrTruncated {
					t.Fatalf("%v is a %T", err, err)
				}
				checkMessage(t, err)
				continue
			}
			checkParsed(t, file, tensors)
			var b bytes.Buffer
			if err := WriteSafetensors(&b, tensors, metadata); err != nil {
				t.Fatal(err)
			}
			again, _, err := ParseSafetensors(b.Bytes())
			if err != nil || len(again) != len(tensors) {
				t.Fatalf("%d tensors written and %d read: %v", len(tensors), len(again), err)
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"sub/x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x","b":"\\x","c":"\u0000"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fileOf, files, err := parseIndex(data)
		if err != nil {
			checkMessage(t, &LoadError{File: "x", Problem: err.Error()})
			return
		}
		for _, name := range fileOf {
			if leavesFolder(name) || !slices.Contains(files, name) {
				t.Fatalf("file %q is accepted, among %q", name, files)
			}
		}
		if !slices.IsSorted(files) || len(slices.Compact(slices.Clone(files))) != len(files) {
			t.Fatalf("files %q", files)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(newDraft("qwen3").configText()))
	f.Add([]byte(newDraft("qwen2").configText()))
	d := newDraft("qwen3")
	d.config["rope_scaling"] = `{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":8,"beta_fast":32,"beta_slow":1,"mscale":1.0,"mscale_all_dim":0.5,"truncate":false,"attention_factor":1.2}`
	d.config["layer_types"] = `["full_attention","full_attention"]`
	f.Add([]byte(d.configText()))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			checkMessage(t, err)
			return
		}
		for _, n := range []int{c.Vocab, c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads, c.HeadDim, c.MaxPositions} {
			if n < 1 || n > maxSize {
				t.Fatalf("size %d in %+v", n, c)
			}
		}
		if c.Heads%c.KVHeads != 0 || c.HeadDim%2 != 0 || !(c.Eps > 0) || !finite(c.Eps) {
			t.Fatalf("%+v", c)
		}
		if c.HeadDim <= 1024 {
			r := NewRotary(c.RoPE, c.HeadDim)
			for i, v := range r.InvFreq {
				if !finite(v) || v < 0 || !finite(r.Scale) {
					t.Fatalf("frequency %d is %v, scale %v, of %+v", i, v, r.Scale, c.RoPE)
				}
			}
		}
	})
}

func FuzzGenerationConfig(f *testing.F) {
	f.Add([]byte(`{"do_sample":true,"temperature":0.7,"top_k":20,"top_p":0.8,"min_p":0.05,"repetition_penalty":1.05,"eos_token_id":[1,2]}`), uint64(1))
	f.Add([]byte(`{"do_sample":false,"repetition_penalty":1e-30,"eos_token_id":0}`), uint64(2))
	f.Add([]byte(`{"do_sample":true,"temperature":1e-40,"top_k":-1,"top_p":1e-40,"min_p":1}`), uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		var c Config
		if err := parseGeneration(data, &c); err != nil {
			checkMessage(t, err)
			return
		}
		if problem := c.Sampling.check(); problem != "" {
			t.Fatal(problem)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		logits := make([]float32, 50)
		for i := range logits {
			logits[i] = float32(random.NormFloat64() * 10)
		}
		for range 3 {
			id := c.Sampling.choose(logits, []int{0, 7, 7}, random)
			if id < 0 || id >= len(logits) {
				t.Fatalf("token %d of %+v", id, c.Sampling)
			}
		}
	})
}

// FuzzFolder loads whole folders, and runs those that load.
func FuzzFolder(f *testing.F) {
	for _, edit := range []func(d *draft){
		func(d *draft) {},
		(*draft).shards,
		func(d *draft) { d.files["tokenizer.json"], d.config["tie_word_embeddings"] = tinyTokenizer, "true" },
		func(d *draft) { *d = *newDraft("qwen2") },
	} {
		d := newDraft("qwen3")
		edit(d)
		files := d.contents()
		header := func(name string) string {
			file := files[name]
			if file == "" {
				return ""
			}
			return file[8 : 8+binary.LittleEndian.Uint64([]byte(file))]
		}
		f.Add(files["config.json"], header(weightsName), files[indexName], header(shardName(0)), header(shardName(1)), files["tokenizer.json"], `{"do_sample":true,"eos_token_id":10}`, `{"chat_template":"x"}`)
	}
	const room = 1 << 14 // bytes behind a header, cut to what the last offset says
	f.Fuzz(func(t *testing.T, config, whole, index, first, second, tokenizer, generation, template string) {
		files := map[string]string{"config.json": config, indexName: index, "tokenizer.json": tokenizer, "generation_config.json": generation, "tokenizer_config.json": template}
		for name, header := range map[string]string{weightsName: whole, shardName(0): first, shardName(1): second} {
			for _, n := range []int{lastOffset(header), room} {
				if n >= 0 && n <= room && header != "" {
					files[name] = string(assemble(header, fuzzWeights(n)))
					break
				}
			}
		}
		for name, text := range files {
			if text == "" {
				delete(files, name)
			}
		}
		m, err := LoadFS(mapFS(files))
		if err != nil {
			if e := (*LoadError)(nil); !errors.As(err, &e) {
				t.Fatalf("%v is a %T", err, err)
			}
			checkMessage(t, err)
			return
		}
		defer m.Close()
		for _, x := range m.Tensors() {
			if size, ok := byteSize(x.Shape, x.DType); !ok || size != uint64(len(x.Data)) {
				t.Fatalf("%s: %d bytes of shape %v", x.Name, len(x.Data), x.Shape)
			}
		}
		n := 0
		for token, err := range m.Generate(t.Context(), []int{0, m.Config.Vocab - 1}, Options{MaxTokens: 3, Sampling: m.Config.Sampling}) {
			if err != nil {
				checkMessage(t, err)
				break
			}
			if n++; token.ID < 0 || token.ID >= m.Config.Vocab || n > 3 {
				t.Fatalf("token %d, number %d", token.ID, n)
			}
		}
	})
}

// fuzzWeights are finite as F32, F16 and BF16.
func fuzzWeights(n int) []byte {
	body := make([]byte, n)
	for i := range body {
		body[i] = [4]byte{0, 0x3d, 0x80, 0x3c}[i%4]
	}
	return body
}

// lastOffset returns the largest number before a closing bracket, -1 if there is
// none: where the numbers of a plausible header end.
func lastOffset(header string) int {
	last := -1
	for part := range strings.SplitSeq(header, "]") {
		var n int
		if _, err := fmt.Sscan(part[strings.LastIndexAny(part, ",[")+1:], &n); err == nil {
			last = max(last, n)
		}
	}
	return last
}

// FuzzRecording reads what diff is given: a recording and a table of names.
func FuzzRecording(f *testing.F) {
	m := draftModel(f, newDraft("qwen3"))
	rec, err := m.Record([]int{1, 2}, func(name string) bool {
		return strings.HasPrefix(name, "model.layers.0.self_attn.") || name == "model.norm"
	})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteSafetensors(&b, rec.All(), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[8:8+binary.LittleEndian.Uint64(b.Bytes())], uint16(b.Len()), []byte(`{"a(.*)":"b$1"}`))
	f.Add([]byte(`{"input_ids":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]},"lm_head":{"dtype":"F16","shape":[2,11],"data_offsets":[8,52]}}`), uint16(52), []byte(`{}`))
	f.Fuzz(func(t *testing.T, header []byte, n uint16, table []byte) {
		renames, err := ParseRenames(table)
		if err != nil {
			checkMessage(t, err)
			renames = nil
		}
		size := lastOffset(string(header))
		if size < 0 || size > 1<<16 {
			size = int(n)
		}
		body := fuzzWeights(size)
		clear(body[:min(len(body), 16)]) // ids, if they come first
		tensors, _, err := ParseSafetensors(assemble(string(header), body))
		if err != nil {
			return
		}
		reference, err := NewRecording(tensors, renames...)
		if err != nil {
			checkMessage(t, err)
			return
		}
		if len(reference.IDs) > 8 {
			return
		}
		for _, o := range []CompareOptions{{}, {Ours: rec}} {
			report, err := o.Compare(m, reference)
			if err != nil {
				checkMessage(t, fmt.Errorf("%.1900s", err))
				continue
			}
			if report.Verdict == "" || math.IsNaN(float64(len(report.String()))) {
				t.Fatalf("%+v", report)
			}
			report.HTML("x")
		}
	})
}
