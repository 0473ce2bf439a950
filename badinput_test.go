package qwen

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// A draft is a checkpoint folder that a test is about to write: a valid tiny
// one, until the test edits it.
type draft struct {
	config  map[string]string // field → JSON text
	tensors []Tensor          // of model.safetensors
	meta    map[string]string
	header  func(header string) string // edits the header's text
	weights func(file []byte) []byte   // edits the whole file
	files   map[string]string          // other files, and those that replace the ones above
	without []string                   // files that are not written
	special func(dir string) error     // makes what is not a file
}

// newDraft returns a valid checkpoint. Every dimension is different, and every
// weight is a multiple of 1/16 that F16 and BF16 hold exactly.
func newDraft(modelType string) *draft {
	d := &draft{files: map[string]string{}, config: map[string]string{
		"model_type": strconv.Quote(modelType), "vocab_size": "11", "hidden_size": "6", "intermediate_size": "10",
		"num_hidden_layers": "2", "num_attention_heads": "4", "num_key_value_heads": "2", "head_dim": "4",
		"max_position_embeddings": "32", "rms_norm_eps": "1e-6", "rope_theta": "10000.0", "tie_word_embeddings": "false",
		"hidden_act": `"silu"`, "eos_token_id": "10", "attention_bias": "false", "architectures": `["Any"]`,
	}}
	random := rand.New(rand.NewPCG(1, 2))
	add := func(name string, shape ...int) {
		n := 1
		for _, s := range shape {
			n *= s
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(random.IntN(33)-16) / 16
			if strings.HasSuffix(name, "norm.weight") {
				x[i]++
			}
		}
		d.tensors = append(d.tensors, NewTensor(name, x, shape...))
	}
	add("model.embed_tokens.weight", 11, 6)
	for i := range 2 {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(layer+"input_layernorm.weight", 6)
		add(layer+"self_attn.q_proj.weight", 16, 6)
		add(layer+"self_attn.k_proj.weight", 8, 6)
		add(layer+"self_attn.v_proj.weight", 8, 6)
		add(layer+"self_attn.o_proj.weight", 6, 16)
		if modelType == "qwen2" {
			add(layer+"self_attn.q_proj.bias", 16)
			add(layer+"self_attn.k_proj.bias", 8)
			add(layer+"self_attn.v_proj.bias", 8)
		} else {
			add(layer+"self_attn.q_norm.weight", 4)
			add(layer+"self_attn.k_norm.weight", 4)
		}
		add(layer+"post_attention_layernorm.weight", 6)
		add(layer+"mlp.gate_proj.weight", 10, 6)
		add(layer+"mlp.up_proj.weight", 10, 6)
		add(layer+"mlp.down_proj.weight", 6, 10)
	}
	add("model.norm.weight", 6)
	add("lm_head.weight", 11, 6)
	return d
}

// tinyTokenizer is a valid tokenizer.json for newDraft's vocabulary of 11.
const tinyTokenizer = `{"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":3,"content":"<|im_end|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"NFC"},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[
{"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]},
"post_processor":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false},
"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,
"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`

// configText is config.json, its fields in order.
func (d *draft) configText() string {
	var fields []string
	for _, key := range slices.Sorted(maps.Keys(d.config)) {
		fields = append(fields, strconv.Quote(key)+": "+d.config[key])
	}
	return "{\n  " + strings.Join(fields, ",\n  ") + "\n}\n"
}

// encode returns tensors as a file, after the draft's edits.
func (d *draft) encode() []byte {
	var b bytes.Buffer
	if err := WriteSafetensors(&b, d.tensors, d.meta); err != nil {
		panic(err)
	}
	file := b.Bytes()
	if d.header != nil {
		n := binary.LittleEndian.Uint64(file)
		file = assemble(d.header(string(file[8:8+n])), file[8+n:])
	}
	if d.weights != nil {
		file = d.weights(slices.Clone(file))
	}
	return file
}

// assemble puts a safetensors file together.
func assemble(header string, body []byte) []byte {
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), body...)
}

// contents returns the folder's files.
func (d *draft) contents() map[string]string {
	files := map[string]string{"config.json": d.configText(), "model.safetensors": string(d.encode())}
	maps.Copy(files, d.files)
	for _, name := range d.without {
		delete(files, name)
	}
	return files
}

// write writes the folder to dir.
func (d *draft) write(t testing.TB, dir string) {
	t.Helper()
	for name, text := range d.contents() {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if d.special != nil {
		if err := d.special(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// tensor returns the tensor of that name.
func (d *draft) tensor(name string) *Tensor {
	i := slices.IndexFunc(d.tensors, func(t Tensor) bool { return t.Name == name })
	if i < 0 {
		panic("no tensor " + name)
	}
	return &d.tensors[i]
}

// remove drops the tensor of that name.
func (d *draft) remove(name string) {
	d.tensor(name)
	d.tensors = slices.DeleteFunc(d.tensors, func(t Tensor) bool { return t.Name == name })
}

// replaceOnce replaces old, which must be there, by new.
func replaceOnce(s, old, new string) string {
	if !strings.Contains(s, old) {
		panic(fmt.Sprintf("%q is not in %.200q", old, s))
	}
	return strings.Replace(s, old, new, 1)
}

// inHeader is an edit of the header.
func inHeader(old, new string) func(*draft) {
	return func(d *draft) { d.header = func(h string) string { return replaceOnce(h, old, new) } }
}

// shards moves the tensors into two files with an index: whole layers first, the
// rest second.
func (d *draft) shards() {
	var parts [2][]Tensor
	var weightMap []string
	for _, t := range d.tensors {
		i := 1
		if strings.HasPrefix(t.Name, "model.layers.") {
			i = 0
		}
		parts[i] = append(parts[i], t)
		weightMap = append(weightMap, fmt.Sprintf("%q:%q", t.Name, shardName(i)))
	}
	for i, part := range parts {
		var b bytes.Buffer
		if err := WriteSafetensors(&b, part, nil); err != nil {
			panic(err)
		}
		d.files[shardName(i)] = b.String()
	}
	d.files[indexName] = `{"metadata":{"total_size":1},"weight_map":{` + strings.Join(weightMap, ",") + `}}`
	d.without = append(d.without, "model.safetensors")
}

const indexName = "model.safetensors.index.json"

func shardName(i int) string { return fmt.Sprintf("model-%05d-of-00002.safetensors", i+1) }

// A badInput is a checkpoint that must be refused, and how.
type badInput struct {
	name  string
	edit  func(d *draft)
	kind  error
	words []string // in the message, beside the file's name, which is the first
}

// badInputs returns every bad checkpoint that all systems can hold.
func badInputs() []badInput {
	return slices.Concat(badLengths(), badHeaders(), badEntries(), badOffsets(), badTensors(), badIndexes(), badConfigs(), badRopes(), badGenerations(), badTokenizers(), badFolders())
}

const weightsName = "model.safetensors"

// badLengths breaks rules 1 to 3 and 15: what the file's length must confirm.
func badLengths() (all []badInput) {
	add := func(name string, kind error, edit func(file []byte) []byte, words ...string) {
		all = append(all, badInput{"length/" + name, func(d *draft) { d.weights = edit }, kind, append([]string{weightsName}, words...)})
	}
	for n := range 8 {
		add(fmt.Sprintf("file of %d bytes", n), ErrTruncated, func(file []byte) []byte { return file[:n] }, "found "+strconv.Itoa(n), "at least 8")
	}
	for _, n := range []uint64{100_000_001, 1 << 31, 1 << 32, 1<<32 + 100, 1 << 40, 1 << 62, 1<<63 - 8, 1 << 63, math.MaxUint64 - 7, math.MaxUint64} {
		add(fmt.Sprintf("header of %d bytes", n), ErrBadHeader, func(file []byte) []byte { binary.LittleEndian.PutUint64(file, n); return file }, "header length", strconv.FormatUint(n, 10), "100000000")
	}
	for _, n := range []int{1, 2, 8, 1000, 1_000_000, 90_000_000} {
		add(fmt.Sprintf("header %d bytes past the end", n), ErrTruncated, func(file []byte) []byte {
			binary.LittleEndian.PutUint64(file, uint64(len(file)-8+n))
			return file
		}, "header length", "bytes that follow")
	}
	add("length in big-endian", ErrBadHeader, func(file []byte) []byte {
		binary.BigEndian.PutUint64(file, binary.LittleEndian.Uint64(file))
		return file
	}, "header length")
	add("header one byte short", ErrBadHeader, func(file []byte) []byte {
		binary.LittleEndian.PutUint64(file, uint64(bytes.IndexByte(file[8:], '}')))
		return file
	}, "header")
	for _, n := range []int{1, 2, 4, 8, 100, 4096, 65536} {
		add(fmt.Sprintf("%d bytes after the last tensor", n), ErrBadHeader, func(file []byte) []byte { return append(file, make([]byte, n)...) }, "file length")
	}
	add("zip archive appended", ErrBadHeader, func(file []byte) []byte {
		b := bytes.NewBuffer(file)
		w := zip.NewWriter(b)
		w.Create("x")
		w.Close()
		return b.Bytes()
	}, "file length")
	for _, n := range []int{1, 3, 4, 100, 1000} {
		add(fmt.Sprintf("last %d bytes missing", n), ErrTruncated, func(file []byte) []byte { return file[:len(file)-n] }, "data_offsets", "expected")
	}
	add("no numbers", ErrTruncated, func(file []byte) []byte { return file[:8+binary.LittleEndian.Uint64(file)] }, "data_offsets")
	for _, text := range []string{"", "<html>not found</html>", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "PK\x03\x04\x00\x00\x00\x00\x00\x00", "\x80\x02}q\x00.", "GGUF\x03\x00\x00\x00\x00\x00\x00\x00"} {
		kind := ErrBadHeader
		if len(text) < 8 || strings.HasPrefix(text, "PK") { // read as a length, PK is less than the greatest
			kind = ErrTruncated
		}
		add(fmt.Sprintf("other contents %.9q", text), kind, func([]byte) []byte { return []byte(text) }, "header length")
	}
	return all
}

// badHeaders breaks rules 4, 5, 8 and 9: the header as a JSON document.
func badHeaders() (all []badInput) {
	add := func(name string, edit func(h string) string, words ...string) {
		all = append(all, badInput{"header/" + name, func(d *draft) { d.meta = map[string]string{"format": "pt"}; d.header = edit }, ErrBadHeader, append([]string{weightsName, "header"}, words...)})
	}
	whole := func(name, header string, words ...string) {
		add(name, func(string) string { return header }, words...)
	}
	replace := func(name, old, new string, words ...string) {
		add(name, func(h string) string { return replaceOnce(h, old, new) }, words...)
	}
	whole("empty", "", "the end of the file")
	whole("white space", " \n\t\r ", "the end of the file")
	for _, h := range []string{"null", "[]", `"x"`, "1", "true", "[{}]"} {
		whole("not an object "+h, h, "expected an object")
	}
	for _, h := range []string{"{", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":{`, `{"a" 1}`, "{a:1}", "{'a':1}", "{1:2}", `{"a":1,}`, `{,}`, `{"a":nul}`, `{"a":tru}`, `{"a":01}`,
		`{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":-Infinity}`, `{"a":0x10}`, `{"a":'b'}`, `{"a":/**/1}`, "}", "]", `{"a":[1,]}`, `{"a":]}`, `{"a":{]}`} {
		whole("syntax "+h, h, "found", "expected")
	}
	add("object twice", func(h string) string { return h + "{}" }, "nothing after the document")
	add("text after the object", func(h string) string { return h + "x" }, "nothing after the document")
	add("comma after the object", func(h string) string { return h + "," }, "nothing after the document")
	add("NUL after the object", func(h string) string { return h + "\x00\x00" }, "nothing after the document")
	add("byte order mark", func(h string) string { return "\ufeff" + h }, "expected")
	add("NUL before the object", func(h string) string { return "\x00" + h }, "expected")
	add("no-break space before the object", func(h string) string { return "\u00a0" + h }, "expected")
	add("no closing brace", func(h string) string { return strings.TrimSuffix(strings.TrimSpace(h), "}") }, "end of the file")
	for _, bad := range []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"} {
		replace(fmt.Sprintf("name with %q", bad), `"model.norm.weight"`, `"model.norm`+bad+`.weight"`, "valid UTF-8")
		replace(fmt.Sprintf("metadata with %q", bad), `"pt"`, `"`+bad+`"`, "valid UTF-8")
	}
	for _, bad := range []string{`\ud800`, `\udc00`, `\ud800\u0041`, `\x41`, `\u12g4`, `\u12`, `\`} {
		replace("escape "+bad, `"model.norm.weight"`, `"model.norm`+bad+`.weight"`, "expected")
	}
	for _, bad := range []string{"\n", "\x00", "\x1f"} {
		replace(fmt.Sprintf("name with a raw %q", bad), `"model.norm.weight"`, `"model.norm`+bad+`"`, "control characters")
	}
	for _, depth := range []int{64, 65, 128, 1000, 100_000} {
		deep := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		replace(fmt.Sprintf("entry with %d arrays in each other", depth), `"dtype":"F32"`, `"x":`+deep+`,"dtype":"F32"`, "deeper nesting")
		whole(fmt.Sprintf("%d objects in each other", depth), strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth), "header")
		whole(fmt.Sprintf("%d brackets that stay open", depth), strings.Repeat("[", depth), "header")
	}
	norm := `"model.norm.weight":{"dtype":"F32","shape":[6],`
	add("tensor twice", func(h string) string {
		at := strings.Index(h, norm)
		entry := h[at : at+strings.IndexByte(h[at:], '}')+1]
		return replaceOnce(h, entry, entry+","+entry)
	}, "model.norm.weight", "a second time")
	add("tensor twice, once empty", func(h string) string {
		return replaceOnce(h, norm, `"model.norm.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`+norm)
	}, "model.norm.weight", "a second time")
	add("tensor twice, once in escapes", func(h string) string {
		return replaceOnce(h, norm, `"\u006dodel.norm.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`+norm)
	}, "model.norm.weight", "a second time")
	replace("dtype twice", `"dtype":"F32"`, `"dtype":"F32","dtype":"F32"`, "model.embed_tokens.weight", "a second time")
	replace("shape twice", `"shape":[11,6]`, `"shape":[11,6],"shape":[11,6]`, "model.embed_tokens.weight", "shape", "a second time")
	replace("offsets twice", `"data_offsets":[0,264]`, `"data_offsets":[0,264],"data_offsets":[0,264]`, "data_offsets", "a second time")
	replace("unknown field twice", `"dtype":"F32"`, `"x":1,"x":1,"dtype":"F32"`, "a second time")
	replace("__metadata__ twice", `{"__metadata__"`, `{"__metadata__":{},"__metadata__"`, "__metadata__", "a second time")
	replace("metadata key twice", `"format":"pt"`, `"format":"pt","format":"pt"`, "format", "a second time")
	for _, value := range []string{"1", "null", "true", "[]", `["pt"]`, "{}", "1.5"} {
		replace("metadata of "+value, `"pt"`, value, "__metadata__.format", "expected a string")
	}
	for _, value := range []string{"null", "[]", `"pt"`, "1", "false"} {
		replace("__metadata__ is "+value, `{"format":"pt"}`, value, "__metadata__", "expected an object")
	}
	return all
}

// badEntries breaks rule 10 and the form of an entry.
func badEntries() (all []badInput) {
	const entry = `"model.norm.weight":{"dtype":"F32","shape":[6],"data_offsets":[`
	add := func(name, old, new string, words ...string) {
		all = append(all, badInput{"entry/" + name, func(d *draft) {
			d.header = func(h string) string {
				return replaceOnce(h, entry, replaceOnce(entry, old, new))
			}
		}, ErrBadHeader, append([]string{weightsName, "model.norm.weight"}, words...)})
	}
	for _, dtype := range []string{`""`, `"f32"`, `"F32 "`, `" F32"`, `"float32"`, `"FP32"`, `"F-32"`, `"BF"`, `"F33"`, `"Q4_0"`, `"F8"`, `"I4"`, `"\u0000"`, `"` + strings.Repeat("F32", 1000) + `"`, `"F32\n\n"`} {
		add("dtype "+dtype[:min(len(dtype), 12)], `"F32"`, dtype, "dtype", "one of the format's types")
	}
	for _, dtype := range []string{"null", "32", "true", `["F32"]`, `{"F32":1}`} {
		add("dtype "+dtype, `"F32"`, dtype, "dtype", "expected a string")
	}
	for _, n := range []string{"-1", "-6", "9223372036854775808", "18446744073709551615", "18446744073709551622", "1e400", "6.0", "6e0", "0.6e1", "-0", `"6"`, "null", "true", "[6]", "{}"} {
		add("shape ["+n+"]", "[6]", "["+n+"]", "shape[0]", "expected")
	}
	for _, n := range []string{"null", "6", `"[6]"`, "{}", "true"} {
		add("shape "+n, "[6]", n, "shape", "expected an array")
	}
	add("shape [06]", "[6]", "[06]", "expected")
	add("shape [6,]", "[6]", "[6,]", "expected")
	add("shape [6 1]", "[6]", "[6 1]", "expected")
	add("shape of 65 dimensions", "[6]", "[6"+strings.Repeat(",1", 64)+"]", "shape", "at most 64")
	add("shape of 1,000,000 dimensions", "[6]", "[6"+strings.Repeat(",1", 999_999)+"]", "shape", "at most 64")
	all = all[:len(all):len(all)]
	offsets := func(name, offsets string, words ...string) {
		all = append(all, badInput{"entry/offsets " + name, func(d *draft) {
			d.header = func(h string) string {
				at := strings.Index(h, entry) + len(entry) - 1
				end := at + strings.IndexByte(h[at:], ']') + 1
				return h[:at] + offsets + h[end:]
			}
		}, ErrBadHeader, append([]string{weightsName, "model.norm.weight", "data_offsets"}, words...)})
	}
	for _, o := range []string{"[]", "[0]", "[0,24,48]", "[0,24,]", "null", "0", `"0,24"`, "{}", `[0,"24"]`, "[0,null]", "[0,24.0]", "[0,2.4e1]", "[-24,0]", "[-0,24]", "[0,-1]", "[[0,24]]", "[0,9223372036854775808]", "[0,18446744073709551615]", "[true,false]"} {
		offsets(o, o, "expected")
	}
	for _, field := range []string{`"dtype":"F32",`, `"shape":[6],`} {
		add("without "+field, field, "", "an entry without all of its fields")
	}
	add("without data_offsets", `"data_offsets"`, `"offsets"`, "an entry without all of its fields")
	for _, field := range []string{"dtype", "shape", "data_offsets"} {
		add(field+" in capitals", `"`+field+`"`, `"`+strings.ToUpper(field)+`"`, "an entry without all of its fields")
	}
	for _, value := range []string{"null", "1", `"F32"`, "true", `["F32",[6],[0,24]]`, "[]"} {
		all = append(all, badInput{"entry/is " + value, func(d *draft) {
			d.header = func(h string) string {
				at := strings.Index(h, entry) + len(`"model.norm.weight":`)
				end := at + strings.IndexByte(h[at:], '}') + 1
				return h[:at] + value + h[end:]
			}
		}, ErrBadHeader, []string{weightsName, "model.norm.weight", "expected an object"}})
	}
	return all
}

// badOffsets breaks rules 11 to 14: how tensors lie in the file.
func badOffsets() (all []badInput) {
	add := func(name string, kind error, edit func(d *draft), words ...string) {
		all = append(all, badInput{"offsets/" + name, edit, kind, append([]string{weightsName}, words...)})
	}
	embed := `"shape":[11,6],"data_offsets":[0,264]`
	add("first tensor begins at 4", ErrBadHeader, inHeader(embed, `"shape":[65],"data_offsets":[4,264]`), "model.embed_tokens.weight", "[4, 264]", "begin at 0")
	add("hole", ErrBadHeader, inHeader(embed, `"shape":[65],"data_offsets":[0,260]`), "expected to begin at 260")
	add("overlap by 4", ErrBadHeader, inHeader(embed, `"shape":[67],"data_offsets":[0,268]`), "expected to begin at 268")
	add("reversed", ErrBadHeader, inHeader("[0,264]", "[264,0]"), "expected to begin at")
	add("end before begin", ErrBadHeader, inHeader("[0,264]", "[0,0]"), "model.embed_tokens.weight", "found 0 bytes", "264")
	add("past the end", ErrTruncated, func(d *draft) {
		d.tensors = d.tensors[:1]
		d.header = func(h string) string {
			return replaceOnce(h, embed, `"shape":[1000000,6],"data_offsets":[0,24000000]`)
		}
	}, "model.embed_tokens.weight", "24000000")
	add("far past the end", ErrTruncated, func(d *draft) {
		d.tensors = d.tensors[:1]
		d.header = func(h string) string {
			return replaceOnce(h, embed, `"shape":[288230376151711744],"data_offsets":[0,1152921504606846976]`)
		}
	}, "model.embed_tokens.weight", "1152921504606846976")
	add("ten tensors on the same bytes", ErrBadHeader, func(d *draft) {
		d.header = func(string) string {
			var h []string
			for i := range 10 {
				h = append(h, fmt.Sprintf(`"t%d":{"dtype":"F32","shape":[66],"data_offsets":[0,264]}`, i))
			}
			return "{" + strings.Join(h, ",") + "}"
		}
	}, "expected to begin at 264")
	add("empty tensor in the middle of another", ErrBadHeader, inHeader(`{"model.embed`, `{"x":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"model.embed`), "expected to begin at")
	add("empty tensor past the end", ErrBadHeader, inHeader(`{"model.embed`, `{"x":{"dtype":"F32","shape":[0],"data_offsets":[999999,999999]},"model.embed`), "x", "expected to begin at")
	add("header of no tensors before numbers", ErrBadHeader, func(d *draft) { d.header = func(string) string { return "{}" } }, "file length")
	for _, shape := range []string{"[11,7]", "[11,5]", "[12,6]", "[66,1,2]", "[]", "[0]", "[11,0]", "[0,6]", "[1]", "[264]"} {
		add("shape "+shape+" for 264 bytes", ErrBadHeader, inHeader("[11,6]", shape), "model.embed_tokens.weight", "found 264 bytes", "of F32")
	}
	for _, dtype := range []string{"BF16", "F16", "F64", "U8", "I64", "BOOL", "C64", "F8_E4M3"} {
		add("264 bytes of "+dtype, ErrBadHeader, inHeader("F32", dtype), "model.embed_tokens.weight", "found 264 bytes", "of "+dtype)
	}
	for _, shape := range []string{"[4294967296,4294967296]", "[9223372036854775807,2]", "[9223372036854775807,9223372036854775807]", "[4611686018427387904,4]", "[2,9223372036854775807,0]", "[4611686018427387904]", "[2305843009213693952,8]", "[65536,65536,65536,65536]", "[6148914691236517206,3]"} {
		add("shape "+shape+" overflows", ErrBadHeader, inHeader("[11,6]", shape), "model.embed_tokens.weight", "found 264 bytes", "expected")
	}
	add("nine bits of bytes", ErrBadHeader, inHeader(`{"model.embed`, `{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,2]},"model.embed`), "x", "whole number of bytes")
	add("six bits", ErrBadHeader, inHeader(`{"model.embed`, `{"x":{"dtype":"F6_E2M3","shape":[1],"data_offsets":[0,1]},"model.embed`), "x", "whole number of bytes")
	return all
}

// badTensors is about tensors that the network needs: there, of its shape, of a
// type that it computes with.
func badTensors() (all []badInput) {
	for _, modelType := range []string{"qwen2", "qwen3"} {
		for _, want := range newDraft(modelType).tensors {
			name, shape := want.Name, fmt.Sprint(want.Shape)
			add := func(what string, kind error, edit func(d *draft), words ...string) {
				all = append(all, badInput{"tensor/" + modelType + " " + name + " " + what, func(d *draft) {
					*d = *newDraft(modelType)
					edit(d)
				}, kind, append([]string{weightsName, name, shape}, words...)})
			}
			reshape := func(what string, found ...int) {
				n := 1
				for _, s := range found {
					n *= s
				}
				add(what, ErrShape, func(d *draft) { *d.tensor(name) = NewTensor(name, make([]float32, n), found...) }, "found shape "+fmt.Sprint(found))
			}
			add("missing", ErrMissingTensor, func(d *draft) { d.remove(name) }, "not found")
			if modelType == "qwen2" && !strings.Contains(name, "bias") {
				continue
			}
			first := want.Shape[0]
			reshape("one row more", append([]int{first + 1}, want.Shape[1:]...)...)
			reshape("no rows", append([]int{0}, want.Shape[1:]...)...)
			reshape("another dimension", append([]int{1}, want.Shape...)...)
			reshape("rank 0", []int{}...)
			reshape("one number to broadcast", 1)
			if len(want.Shape) == 2 {
				reshape("transposed", want.Shape[1], first)
				reshape("flat", first*want.Shape[1])
				reshape("a column less", first, want.Shape[1]-1)
			} else {
				reshape("a column", first, 1)
			}
			for _, dtype := range []DType{"F64", "I32", "U8", "BOOL", "F8_E4M3", "I64", "U16"} {
				n := len(want.Data) / 4
				add(string(dtype), ErrDType, func(d *draft) {
					*d.tensor(name) = Tensor{name, dtype, want.Shape, make([]byte, n*dtype.Size())}
				}, "found dtype "+string(dtype), "F32, F16 or BF16")
			}
		}
	}
	for i := range all { // a type is wrong whatever the shape, and the shape need not be in that message
		if all[i].kind == ErrDType {
			all[i].words = slices.Delete(all[i].words, 2, 3)
		}
	}
	add := func(name string, kind error, edit func(d *draft), words ...string) {
		all = append(all, badInput{"tensor/" + name, edit, kind, append([]string{weightsName}, words...)})
	}
	rename := func(name string, to func(string) string) {
		add(name, ErrMissingTensor, func(d *draft) {
			for i := range d.tensors {
				d.tensors[i].Name = to(d.tensors[i].Name)
			}
		}, "model.embed_tokens.weight", "not found")
	}
	rename("names in capitals", strings.ToUpper)
	rename("names without model.", func(s string) string { return strings.TrimPrefix(s, "model.") })
	rename("names with another prefix", func(s string) string { return "base." + s })
	rename("names with a space", func(s string) string { return s + " " })
	rename("names with a look-alike letter", func(s string) string { return strings.ReplaceAll(s, "e", "е") })
	add("no tensors at all", ErrMissingTensor, func(d *draft) { d.tensors = nil }, "model.embed_tokens.weight")
	add("a layer less than the config says", ErrMissingTensor, func(d *draft) { d.config["num_hidden_layers"] = "3" }, "model.layers.2.")
	add("a billion layers less than the config says", ErrMissingTensor, func(d *draft) { d.config["num_hidden_layers"] = "1073741824" }, "model.layers.2.")
	add("a layer more than the config says", ErrConfig, func(d *draft) { d.config["num_hidden_layers"] = "1" }, "model.layers.1.", "num_hidden_layers, 1")
	for _, number := range []string{"99999999999999999999", strings.Repeat("9", 100), "007"} {
		add("layer "+number, ErrConfig, func(d *draft) {
			d.tensors = append(d.tensors, NewTensor("model.layers."+number+".x", make([]float32, 1), 1))
		}, "model.layers."+number[:3], "num_hidden_layers, 2")
	}
	add("no head, not tied", ErrMissingTensor, func(d *draft) { d.remove("lm_head.weight") }, "lm_head.weight", "[11 6]")
	add("neither embedding nor head, tied", ErrMissingTensor, func(d *draft) {
		d.remove("lm_head.weight")
		d.remove("model.embed_tokens.weight")
		d.config["tie_word_embeddings"] = "true"
	}, "model.embed_tokens.weight", "[11 6]")
	add("tied, and a head of another shape", ErrShape, func(d *draft) {
		*d.tensor("lm_head.weight") = NewTensor("lm_head.weight", make([]float32, 72), 12, 6)
		d.config["tie_word_embeddings"] = "true"
	}, "lm_head.weight", "[12 6]", "[11 6]")
	add("no biases for attention_bias", ErrMissingTensor, func(d *draft) { d.config["attention_bias"] = "true" }, "model.layers.0.self_attn.", "bias")
	add("qwen3 weights in a qwen2 config", ErrMissingTensor, func(d *draft) { d.config["model_type"] = `"qwen2"` }, "q_proj.bias")
	add("qwen2 weights in a qwen3 config", ErrMissingTensor, func(d *draft) {
		*d = *newDraft("qwen2")
		d.config["model_type"] = `"qwen3"`
	}, "q_norm.weight")
	for field, tensor := range map[string]string{"vocab_size": "model.embed_tokens.weight", "hidden_size": "model.embed_tokens.weight", "intermediate_size": "mlp.gate_proj.weight",
		"num_attention_heads": "self_attn.q_proj.weight", "head_dim": "self_attn.q_proj.weight", "num_key_value_heads": "self_attn.k_proj.weight"} {
		for _, size := range []string{"2", "8", "1024", "1073741824"} {
			if field == "num_key_value_heads" {
				if size = map[string]string{"2": "1", "8": "4"}[size]; size == "" {
					continue
				}
			}
			add(field+" "+size, ErrShape, func(d *draft) { d.config[field] = size }, tensor, "found shape")
		}
	}
	return all
}

// badIndexes is about model.safetensors.index.json and its shards.
func badIndexes() (all []badInput) {
	add := func(name, file string, kind error, edit func(d *draft), words ...string) {
		all = append(all, badInput{"index/" + name, func(d *draft) { d.shards(); edit(d) }, kind, append([]string{file}, words...)})
	}
	index := func(name, old, new string, kind error, words ...string) {
		add(name, indexName, kind, func(d *draft) { d.files[indexName] = replaceOnce(d.files[indexName], old, new) }, words...)
	}
	const norm = `"model.norm.weight":"model-00002-of-00002.safetensors"`
	for _, path := range []string{"../model.safetensors", "/etc/passwd", "/", "..", ".", "", "a/../model.safetensors", "./model.safetensors", "a/./b", "a//b", "a/", "../../../../../../etc/passwd",
		"a/../../b", `..\\model.safetensors`, `a\\b`, `C:\\model.safetensors`, `\\\\host\\share`, `a\u0000b`, `\u0000`, `\u002e\u002e/model.safetensors`, `\/etc\/passwd`, "//etc/passwd", "model.safetensors/..", "a/..", "/dev/zero", "../" + strings.Repeat("../", 100) + "dev/zero"} {
		index("path "+path[:min(len(path), 40)], norm, `"model.norm.weight":"`+path+`"`, ErrPath, "model.norm.weight", "the name of a file in the folder")
	}
	for _, value := range []string{"null", "1", "true", "[]", "{}", `["model-00002-of-00002.safetensors"]`} {
		index("file name is "+value, norm, `"model.norm.weight":`+value, ErrConfig, "model.norm.weight", "expected a string")
	}
	for _, path := range []string{"gone.safetensors", "sub/gone.safetensors", "~/x", "%2e%2e/x", "model-00003-of-00002.safetensors", "MODEL-00002-OF-00002.SAFETENSORS.X"} {
		add("shard "+path+" is not there", filepath.Base(path), fs.ErrNotExist, func(d *draft) {
			d.files[indexName] = replaceOnce(d.files[indexName], norm, `"model.norm.weight":"`+path+`"`)
		}, "no such file")
	}
	add("shard with a name that is too long", "aaaa", ErrNotRegular, func(d *draft) {
		d.files[indexName] = replaceOnce(d.files[indexName], norm, `"model.norm.weight":"`+strings.Repeat("a", 100_000)+`"`)
	}, "cannot be opened")
	add("shard with line ends in its name", `a\nb`, fs.ErrNotExist, func(d *draft) {
		d.files[indexName] = replaceOnce(d.files[indexName], norm, `"model.norm.weight":"a\nb\u001b[31m"`)
	}, "no such file")
	for _, text := range []string{"", "{", "null", "[]", `"x"`, "1", "{}", `{"metadata":{}}`, `{"weight_map":null}`, `{"weight_map":[]}`, `{"weight_map":"x"}`, `{"weight_map":1}`, `{"Weight_Map":{}}`,
		`{"weight_map":{}}x`, `{"weight_map":{},"weight_map":{}}`, `{"weight_map":{"a":"b","a":"b"}}`, `{"weight_map":{"a":"b",}}`, "\xff", `{"weight_map":{"a":"` + "\xff" + `"}}`, `{"metadata":NaN,"weight_map":{}}`,
		strings.Repeat(`{"weight_map":`, 100), `{"x":` + strings.Repeat("[", 100_000)} {
		add(fmt.Sprintf("contents %.40q", text), indexName, ErrConfig, func(d *draft) { d.files[indexName] = text }, "found", "expected")
	}
	many := func(n int, entry string) string { // an index of n entries
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, entry, i)
		}
		return `{"weight_map":{` + text.String()[1:] + "}}"
	}
	add("more files than may be", indexName, ErrConfig, func(d *draft) { d.files[indexName] = many(maxShards+1, `,"t%[1]d":"f%[1]d"`) }, "weight_map.t1024", "one more file", "at most 1024")
	add("more tensors than may be", indexName, ErrConfig, func(d *draft) { d.files[indexName] = many(maxTensors+1, `,"t%d":"f"`) }, "weight_map.t32768", "one more tensor", "at most 32768")
	add("empty weight_map", indexName, ErrMissingTensor, func(d *draft) { d.files[indexName] = `{"weight_map":{}}` }, "model.embed_tokens.weight")
	add("tensor that is not in its file", shardName(1), ErrMissingTensor, func(d *draft) {
		d.files[indexName] = replaceOnce(d.files[indexName], norm, norm+`,"extra":"`+shardName(1)+`"`)
	}, "extra", indexName)
	add("tensor in the other file", shardName(0), ErrMissingTensor, func(d *draft) {
		d.files[indexName] = replaceOnce(d.files[indexName], norm, `"model.norm.weight":"`+shardName(0)+`"`)
	}, "model.norm.weight", indexName)
	add("tensor that the index leaves out", indexName, ErrMissingTensor, func(d *draft) {
		d.files[indexName] = replaceOnce(d.files[indexName], norm+",", "")
	}, "model.norm.weight")
	add("shard cut short", shardName(0), ErrTruncated, func(d *draft) {
		d.files[shardName(0)] = d.files[shardName(0)][:1000]
	}, "expected")
	add("empty shard", shardName(1), ErrTruncated, func(d *draft) { d.files[shardName(1)] = "" }, "at least 8")
	add("shard with a bad header", shardName(1), ErrBadHeader, func(d *draft) {
		d.files[shardName(1)] = string(assemble(`{"x":1}`, nil))
	}, "header", "x")
	add("shard with a longer tail", shardName(1), ErrBadHeader, func(d *draft) { d.files[shardName(1)] += "x" }, "file length")
	add("config as shard", "config.json", ErrBadHeader, func(d *draft) {
		d.files[indexName] = replaceOnce(d.files[indexName], norm, `"model.norm.weight":"config.json"`)
	}, "header length")
	add("wrong dtype in a shard", shardName(1), ErrDType, func(d *draft) {
		d.without = nil
		d.tensor("model.norm.weight").DType = "I32"
		d.shards()
	}, "model.norm.weight", "I32")
	add("wrong shape in a shard", shardName(1), ErrShape, func(d *draft) {
		d.without = nil
		d.tensor("model.norm.weight").Shape = []int{6, 1}
		d.shards()
	}, "model.norm.weight", "[6 1]", "[6]")
	return all
}

// badConfigs is about the fields of config.json.
func badConfigs() (all []badInput) {
	add := func(name string, edit func(d *draft), words ...string) {
		all = append(all, badInput{"config/" + name, edit, ErrConfig, append([]string{"config.json"}, words...)})
	}
	set := func(field, value string, words ...string) {
		add(field+" "+value, func(d *draft) { d.config[field] = value }, append([]string{field}, words...)...)
	}
	sizes := []string{"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}
	for _, field := range sizes {
		for _, value := range []string{"0", "-1", "-9223372036854775808", "1073741825", "2147483648", "4294967297", "9223372036854775807", "9223372036854775808", "1e400", "-0", "6.0", "6e0", "1.5", `"6"`, "true", "[6]", "{}", "NaN", "06", "+6", ""} {
			set(field, value, "expected")
		}
	}
	for _, field := range []string{"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta"} {
		add("no "+field, func(d *draft) { delete(d.config, field) }, field, "no")
		add(field+" in capitals", func(d *draft) { d.config[strings.ToUpper(field)] = d.config[field]; delete(d.config, field) }, field)
		if field != "num_key_value_heads" {
			set(field, "null")
		}
		add(field+" twice", func(d *draft) {
			d.files["config.json"] = replaceOnce(d.configText(), "{", `{"`+field+`":`+d.config[field]+",")
		}, field, "a second time")
	}
	for _, field := range []string{"rms_norm_eps", "rope_theta"} {
		for _, value := range []string{"0", "0.0", "-1e-6", "-1", "1e-50", "1e39", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", `"1e-6"`, "true", "[1]", "{}"} {
			set(field, value, "expected")
		}
	}
	for _, field := range []string{"tie_word_embeddings", "attention_bias", "use_sliding_window"} {
		for _, value := range []string{"1", "0", `"true"`, "[]", "{}", "True", "tru"} {
			set(field, value, "expected")
		}
	}
	for _, value := range []string{`""`, `"llama"`, `"qwen"`, `"Qwen3"`, `"qwen3 "`, `"qwen3_moe"`, `"qwen2_vl"`, `"qwen2_moe"`, `"qwen3_next"`, "3", "true", `["qwen3"]`, `"` + strings.Repeat("qwen3", 1000) + `"`} {
		set("model_type", value)
	}
	for _, value := range []string{`"gelu"`, `"SiLU"`, `"swish"`, `""`, "1", `["silu"]`} {
		set("hidden_act", value)
	}
	for _, value := range []string{"-1", `"10"`, "1.0", "[1,null]", "[[1]]", "{}", "true", "[-1]", "9223372036854775808"} {
		set("eos_token_id", value)
	}
	set("use_sliding_window", "true", "sliding")
	set("is_causal", "false", "found false", "expected true", "looks ahead")
	set("rope_parameters", `{"full_attention":{"rope_type":"yarn","factor":4.0,"rope_theta":10000.0}}`, "full_attention", "found an object", "each type of layer")
	set("rope_scaling", `{"rope_theta":10000.0,"sliding_attention":{}}`, "sliding_attention", "found an object")
	set("partial_rotary_factor", "0.5", "0.5")
	set("quantization_config", `{"quant_method":"gptq","bits":4}`, "quantised")
	for _, value := range []string{`["full_attention"]`, `["full_attention","full_attention","full_attention"]`, "[]"} {
		set("layer_types", value, "num_hidden_layers")
	}
	for _, value := range []string{`["full_attention","sliding_attention"]`, `["full_attention",1]`, `"full_attention"`, "{}"} {
		set("layer_types", value)
	}
	for _, kv := range []string{"3", "5", "8", "16"} {
		set("num_key_value_heads", kv, "num_attention_heads 4", "multiple")
	}
	set("head_dim", "3", "even")
	set("head_dim", "1", "even")
	add("no head_dim, and heads that do not divide hidden_size", func(d *draft) {
		*d = *newDraft("qwen2")
		delete(d.config, "head_dim")
	}, "head_dim", "hidden_size 6")
	texts := []string{"", " ", "null", "[]", `"x"`, "1", "{", "}", "{}{}", `{"model_type":"qwen3"`, `{"model_type":}`, "{'model_type':'qwen3'}", "\xff\xfe{\x00}\x00", "\x00", "<html></html>", strings.Repeat("[", 1_000_000),
		strings.Repeat(`{"a":`, 1000), `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}", `{"a":"` + strings.Repeat("x", 1_000_000)}
	for _, text := range texts {
		add(fmt.Sprintf("contents %.20q of %d bytes", text, len(text)), func(d *draft) { d.files["config.json"] = text }, "found", "expected")
	}
	for _, edit := range []struct{ name, suffix string }{{"text after", "x"}, {"second object after", "{}"}, {"NUL after", "\x00"}, {"comma after", ","}} {
		add(edit.name, func(d *draft) { d.files["config.json"] = d.configText() + edit.suffix }, "nothing after the document")
	}
	add("byte order mark", func(d *draft) { d.files["config.json"] = "\ufeff" + d.configText() }, "expected")
	add("UTF-16", func(d *draft) {
		b := []byte{0xff, 0xfe}
		for _, c := range []byte(d.configText()) {
			b = append(b, c, 0)
		}
		d.files["config.json"] = string(b)
	}, "UTF-8")
	add("bad UTF-8 in a field that nobody reads", func(d *draft) { d.config["x"] = "\"\xff\"" }, "UTF-8")
	add("field twice that nobody reads", func(d *draft) { d.config["x"] = `{"a":1,"a":1}` }, "a second time")
	add("comment", func(d *draft) { d.files["config.json"] = "// config\n" + d.configText() }, "expected")
	add("comma at the end", func(d *draft) { d.files["config.json"] = strings.Replace(d.configText(), "\n}", ",\n}", 1) }, "expected")
	return all
}

// badRopes is about rope_theta, rope_scaling and rope_parameters.
func badRopes() (all []badInput) {
	for _, outer := range []string{"rope_scaling", "rope_parameters"} {
		add := func(value string, words ...string) {
			all = append(all, badInput{"rope/" + outer + " " + value, func(d *draft) { d.config[outer] = value }, ErrConfig, append([]string{"config.json"}, words...)})
		}
		for _, value := range []string{"1", `"yarn"`, "[]", "true"} {
			add(value, outer, "expected an object")
		}
		for _, kind := range []string{"dynamic", "llama3", "longrope", "su", "mrope", "ntk", "YARN", "", "proportional"} {
			add(`{"rope_type":"`+kind+`","factor":2.0}`, "rope type", strconv.Quote(kind))
			add(`{"type":"`+kind+`","factor":2.0}`, "rope type", strconv.Quote(kind))
		}
		add(`{"rope_type":1}`, outer+".rope_type", "expected a string")
		add(`{"rope_type":"linear"}`, "factor")
		add(`{"rope_type":"yarn"}`, "factor")
		for _, x := range []string{"0", "-1", "0.0", "1e400", "NaN", "Infinity", `"4"`, "true", "[4]", "1e-60"} {
			add(`{"rope_type":"yarn","factor":`+x+`}`, outer+".factor")
			add(`{"rope_type":"linear","factor":`+x+`}`, outer+".factor")
		}
		for _, field := range []string{"rope_theta", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"} {
			for _, x := range []string{"0", "-1", `"4"`, "Infinity", "true"} {
				add(`{"rope_type":"yarn","factor":4.0,"`+field+`":`+x+`}`, outer+"."+field)
			}
		}
		add(`{"rope_type":"yarn","factor":4.0,"truncate":1}`, outer+".truncate")
		add(`{"rope_type":"yarn","factor":4.0,"factor":4.0}`, "factor", "a second time")
		add(`{"rope_type":"default","partial_rotary_factor":0.25}`, outer+".partial_rotary_factor")
		add(`{"full_attention":{"rope_type":"default","rope_theta":1e4},"partial_rotary_factor":0.5}`, "full_attention", "found an object")
		add(`{"rope_type":"yarn","factor":4.0,"rope_theta":1}`, "rope_theta 1")
	}
	for _, value := range []string{`{"rope_type":"linear","factor":1e-44}`, `{"rope_type":"yarn","factor":2,"attention_factor":3e38}`} {
		all = append(all, badInput{"rope/angles that overflow, of " + value, func(d *draft) {
			d.config["rope_scaling"] = value
		}, ErrConfig, []string{"config.json", "rope", "finite"}})
	}
	all = append(all, badInput{"rope/two training lengths", func(d *draft) {
		d.config["original_max_position_embeddings"] = "16"
		d.config["rope_scaling"] = `{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":8}`
	}, ErrConfig, []string{"config.json", "original_max_position_embeddings", "16", "8"}})
	return all
}

// badGenerations is about generation_config.json.
func badGenerations() (all []badInput) {
	const file = "generation_config.json"
	add := func(text string, words ...string) {
		all = append(all, badInput{fmt.Sprintf("generation/%.60s", text), func(d *draft) { d.files[file] = text }, ErrConfig, append([]string{file}, words...)})
	}
	for _, text := range []string{"", "null", "[]", "1", "{", "{}x", `{"a":1,"a":1}`, "\xff", `{"do_sample":true,}`, strings.Repeat("[", 100_000)} {
		add(text, "expected")
	}
	for _, field := range []string{"temperature", "top_p", "min_p", "repetition_penalty"} {
		for _, value := range []string{"-1", "-0.5", "1e400", "NaN", "Infinity", `"1"`, "true", "[1]", "{}", "1e39"} {
			add(`{"do_sample":true,"`+field+`":`+value+"}", field)
		}
	}
	for _, value := range []string{"1.5", `"50"`, "true", "[50]", "50.0"} {
		add(`{"do_sample":true,"top_k":`+value+"}", "top_k")
	}
	add(`{"do_sample":true,"top_p":1.1}`, "top_p", "1.1")
	add(`{"do_sample":true,"min_p":2}`, "min_p", "2")
	for _, value := range []string{"1", `"true"`, "[]"} {
		add(`{"do_sample":`+value+"}", "do_sample")
	}
	for _, value := range []string{"-1", `"1"`, "1.0", "[null]", "{}", "[1,-2]", "true"} {
		add(`{"eos_token_id":`+value+"}", "eos_token_id")
	}
	return all
}

// badTokenizers is about tokenizer.json and tokenizer_config.json.
func badTokenizers() (all []badInput) {
	const file = "tokenizer.json"
	add := func(name, text string, words ...string) {
		all = append(all, badInput{"tokenizer/" + name, func(d *draft) { d.files[file] = text }, ErrTokenizer, append([]string{file}, words...)})
	}
	replace := func(old, new string, words ...string) {
		add(fmt.Sprintf("%.40s to %.40s", old, new), replaceOnce(tinyTokenizer, old, new), words...)
	}
	for _, text := range []string{"", "{", "null", "[]", `"x"`, "{}", tinyTokenizer + "x", "\xff", strings.Repeat("[", 100_000), strings.Repeat(`{"model":`, 1000)} {
		add(fmt.Sprintf("contents %.20q of %d bytes", text, len(text)), text, "expected")
	}
	replace(`"merges":["a b"]`, `"merges":["a c"]`, "model.merges[0]", `"c"`)
	replace(`"merges":["a b"]`, `"merges":["b a"]`, "model.merges[0]", `"ba"`)
	replace(`"merges":["a b"]`, `"merges":["a b","a b"]`, "model.merges[1]", "a second time")
	for _, merge := range []string{`"ab"`, `"a  b"`, `"a b c"`, `""`, "1", "null", "[]", `["a"]`, `["a","b","c"]`, `["a",1]`, `{}`} {
		replace(`"merges":["a b"]`, `"merges":[`+merge+`]`, "model.merges[0]")
	}
	replace(`"merges":["a b"]`, `"merges":{}`, "model.merges")
	replace(`,"merges":["a b"]`, "", "merges")
	for _, id := range []string{"-1", "1.0", `"2"`, "null", "true", "2147483648", "99999999", "9223372036854775808", "1e3", "[2]"} {
		replace(`"ab":2`, `"ab":`+id, "model.vocab.ab")
		replace(`"id":3`, `"id":`+id, "added_tokens[0].id")
	}
	replace(`"ab":2`, `"ab":1`, "model.vocab.ab", "id 1", "a second time")
	replace(`"ab":2`, `"ab":2,"ab":2`, "model.vocab.ab", "a second time")
	add("id past the config's vocabulary", replaceOnce(tinyTokenizer, `"ab":2`, `"ab":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11`), "added_tokens[0].id")
	add("added token past the config's vocabulary", strings.NewReplacer(`"ab":2`, `"ab":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10`, `"id":3`, `"id":11`).Replace(tinyTokenizer), "found token id 11", "vocab_size, 11")
	replace(`"id":3`, `"id":4`, "added_tokens[0].id", "found 4", "3")
	replace(`"id":3`, `"id":2`, "added_tokens[0].id")
	replace(`"vocab":{"a":0,"b":1,"ab":2}`, `"vocab":[]`, "model.vocab")
	replace(`"vocab":{"a":0,"b":1,"ab":2},`, "", "vocab")
	replace(`"content":"<|im_end|>"`, `"content":""`, "added_tokens[0].content")
	replace(`"content":"<|im_end|>"`, `"content":7`, "added_tokens[0].content")
	replace(`"content":"<|im_end|>"`, `"content":"`+strings.Repeat("x", 10_000)+`"`, "added_tokens[0].content")
	const entry = `{"id":3,"content":"<|im_end|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}`
	var long []string // 512 bytes each
	for i := range maxAddedBytes/maxAddedLen + 1 {
		long = append(long, strings.NewReplacer(`"id":3`, fmt.Sprint(`"id":`, 3+i), "<|im_end|>", fmt.Sprintf("%0512d", i)).Replace(entry))
	}
	replace(entry, strings.Join(long, ","), "added_tokens[2048].content", "at most 1048576 bytes in all")
	for _, field := range []string{"single_word", "lstrip", "rstrip"} {
		replace(`"`+field+`":false`, `"`+field+`":true`, "added_tokens[0]."+field)
		replace(`"`+field+`":false`, `"`+field+`":0`, "added_tokens[0]."+field)
	}
	for _, kind := range []string{"WordPiece", "Unigram", "WordLevel", "bpe", ""} {
		replace(`"type":"BPE"`, `"type":"`+kind+`"`, "model.type", `"BPE"`)
	}
	replace(`"type":"NFC"`, `"type":"NFKC"`, "normalizer", "NFC")
	replace(`{"type":"NFC"}`, "null", "normalizer", "NFC")
	replace(`"behavior":"Isolated"`, `"behavior":"Removed"`, "behavior")
	replace(`"invert":false`, `"invert":true`, "invert")
	replace(`(?i:'s|`, `(?i:'x|`, "pattern")
	replace(`(?i:'s|`, `(((((a*)*)*)*)*|`, "pattern")
	replace(`"Regex":`, `"String":`, "pattern")
	replace(`"add_prefix_space":false`, `"add_prefix_space":true`, "add_prefix_space")
	replace(`"dropout":null`, `"dropout":0.5`, "dropout")
	replace(`"unk_token":null`, `"unk_token":"a"`, "unk_token")
	replace(`"byte_fallback":false`, `"byte_fallback":true`, "byte_fallback")
	replace(`"continuing_subword_prefix":""`, `"continuing_subword_prefix":"##"`, "continuing_subword_prefix")
	replace(`"version":"1.0"`, `"version":"2.0"`, "version")
	replace(`"truncation":null`, `"truncation":{"max_length":4}`, "truncation")
	replace(`"decoder":{"type":"ByteLevel"`, `"decoder":{"type":"Metaspace"`, "decoder")
	for _, text := range []string{"", "{", "[]", `{"chat_template":1}`, `{"chat_template":"a","chat_template":"a"}`, "\xff", `{"chat_template":[1]}`, `{"chat_template":{}}`} {
		all = append(all, badInput{fmt.Sprintf("tokenizer/tokenizer_config %q", text), func(d *draft) { d.files["tokenizer_config.json"] = text }, ErrTokenizer, []string{"tokenizer_config.json", "expected"}})
	}
	return all
}

// badFolders is about files that are not there, or not files.
func badFolders() (all []badInput) {
	add := func(name, file string, kind error, edit func(d *draft), words ...string) {
		all = append(all, badInput{"folder/" + name, edit, kind, append([]string{file}, words...)})
	}
	add("no config.json", "config.json", fs.ErrNotExist, func(d *draft) { d.without = []string{"config.json"} }, "no such file")
	add("no weights", weightsName, fs.ErrNotExist, func(d *draft) { d.without = []string{weightsName} }, "no such file", indexName)
	add("empty folder", "config.json", fs.ErrNotExist, func(d *draft) { d.without = []string{"config.json", weightsName} }, "no such file")
	add("pickled weights only", weightsName, fs.ErrNotExist, func(d *draft) {
		d.without = []string{weightsName}
		d.files["pytorch_model.bin"] = "\x80\x02}q\x00."
	}, "no such file")
	for _, name := range folderFiles {
		add(name+" is a folder", name, ErrNotRegular, func(d *draft) {
			if strings.HasPrefix(name, "model.safetensors.") || strings.HasPrefix(name, "model-") {
				d.shards()
			}
			d.without = append(d.without, name)
			d.special = func(dir string) error { return os.Mkdir(filepath.Join(dir, name), 0o777) }
		}, "found a folder", "a regular file")
	}
	for name, limit := range map[string]int64{"config.json": maxConfigFile, "generation_config.json": maxConfigFile, "tokenizer.json": maxTokenizerFile, "tokenizer_config.json": maxConfigFile, "chat_template.jinja": maxConfigFile, indexName: maxTokenizerFile} {
		add(name+" is too large", name, ErrTooLarge, func(d *draft) {
			if name == indexName {
				d.shards()
			}
			if d.files[name] == "" {
				d.files[name] = "{}"
			}
			d.special = func(dir string) error { return os.Truncate(filepath.Join(dir, name), 1<<40) }
		}, strconv.FormatInt(1<<40, 10), strconv.FormatInt(limit, 10))
	}
	add("weights of zeros", weightsName, ErrBadHeader, func(d *draft) {
		d.special = func(dir string) error {
			return errors.Join(os.Truncate(filepath.Join(dir, weightsName), 0), os.Truncate(filepath.Join(dir, weightsName), 1<<32))
		}
	}, "header")
	return all
}

// folderFiles are the files that Load reads, where they are there.
var folderFiles = []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", weightsName, indexName, shardName(0), shardName(1)}

// goType matches what only a Go programmer would understand.
var goType = regexp.MustCompile(`\b(u?int(8|16|32|64)?|float(32|64)|uintptr|interface|struct|func)\b|\bqwen\.[A-Z]|\*\w+\.|[^.]json: |map\[|\[\]\w|strconv|reflect|runtime error|goroutine|invalid character|cannot unmarshal|0x[0-9a-f]{8}|%!`)

var quoted = regexp.MustCompile(`"(\\\\.|[^"])*"`) // what a message repeats from the file

// checkRefusal tests that err is what a bad input of that kind in dir must give.
func checkRefusal(t *testing.T, err error, dir string, kind error, words []string) {
	t.Helper()
	if err == nil {
		t.Fatal("loaded, expected an error")
	}
	var e *LoadError
	if !errors.As(err, &e) || !errors.Is(err, kind) {
		t.Errorf("%q is a %T of kind %v, expected a *LoadError of kind %v", err, err, errors.Unwrap(err), kind)
	}
	message := err.Error()
	if !strings.HasPrefix(message, "qwen: ") || strings.ContainsAny(message, "\n\r\x00\x1b") || len(message) >= 2000 {
		t.Errorf("message %q of %d bytes, expected one line of less than 2,000 that begins with qwen:", message, len(message))
	}
	if found := goType.FindString(quoted.ReplaceAllString(message, "")); found != "" {
		t.Errorf("%q: %q means nothing to the reader", message, found)
	}
	message = strings.ReplaceAll(message, dir, "") // its digits are not an answer
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("%q does not say %q", message, word)
		}
	}
}

// TestBadInput loads every bad checkpoint from a folder and from a file system.
// Each is refused in time, in little memory, with a message that says where.
func TestBadInput(t *testing.T) {
	defer answers(t, "load")()
	all := badInputs()
	t.Logf("%d bad checkpoints", len(all))
	names, shared, written := map[string]bool{}, t.TempDir(), map[string]string{}
	for _, bad := range all {
		if names[bad.name] {
			t.Errorf("%s: this test is there twice", bad.name)
		}
		names[bad.name] = true
		d, dir := newDraft("qwen3"), shared
		bad.edit(d)
		if d.special != nil {
			dir = t.TempDir()
			d.write(t, dir)
		} else { // most differ in one file from the one before
			written = d.update(t, dir, written)
		}
		testBadInput(t, bad, dir)
	}
}

// update writes what is not yet in dir, which holds written, and returns what it
// then holds.
func (d *draft) update(t testing.TB, dir string, written map[string]string) map[string]string {
	t.Helper()
	files := d.contents()
	for name := range written {
		if _, ok := files[name]; !ok {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range files {
		if old, ok := written[name]; ok && old == text {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func testBadInput(t *testing.T, bad badInput, dir string) {
	t.Run(bad.name, func(t *testing.T) {
		start, before := time.Now(), allocated()
		_, err := Load(dir)
		if took, mb := time.Since(start), (allocated()-before)>>20; took > 5*time.Second || mb > 128 {
			t.Errorf("refused after %v and %d MB, expected less than 5 s and 128 MB", took, mb)
		}
		checkRefusal(t, err, dir, bad.kind, bad.words)
		_, err = LoadFS(os.DirFS(dir))
		checkRefusal(t, err, dir, bad.kind, bad.words)
	})
}

// allocated returns the bytes that the program has allocated so far, those that
// are free again included.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// logitsOf runs a few tokens.
func logitsOf(t testing.TB, m *Model) []float32 {
	t.Helper()
	logits, err := m.Forward([]int{1, 5, 2, 10, 0}, m.NewCache())
	if err != nil {
		t.Fatal(err)
	}
	return logits
}

// TestOddInput loads checkpoints that look strange and are right: the logits are
// those of the plain one, bit for bit.
func TestOddInput(t *testing.T) {
	defer answers(t, "Load")()
	convert := func(to DType) func(d *draft) {
		return func(d *draft) {
			for i, x := range d.tensors {
				values, _ := x.Float32()
				d.tensors[i].DType = to
				d.tensors[i].Data = narrow(values, to)
			}
		}
	}
	extra := func(x ...Tensor) func(d *draft) {
		return func(d *draft) { d.tensors = slices.Insert(d.tensors, 3, x...) }
	}
	field := func(name, value string) func(d *draft) { return func(d *draft) { d.config[name] = value } }
	wrap := func(before, after string) func(d *draft) {
		return func(d *draft) { d.header = func(h string) string { return before + h + after } }
	}
	for name, edit := range map[string]func(d *draft){
		"plain":                             func(d *draft) {},
		"BF16":                              convert(BF16),
		"F16":                               convert(F16),
		"white space before the header":     wrap(" \n\t\r  ", ""),
		"white space after the header":      wrap("", " \n\t\r  "),
		"much white space":                  wrap(strings.Repeat(" ", 1_000_000), strings.Repeat("\n", 1_000_000)),
		"numbers at an odd address":         wrap(" ", ""),
		"metadata":                          func(d *draft) { d.meta = map[string]string{"format": "pt", "": "", "ü": "\n"} },
		"empty metadata":                    func(d *draft) { d.meta = map[string]string{} },
		"empty tensors":                     extra(Tensor{"e1", F32, []int{0}, nil}, Tensor{"e2", BF16, []int{3, 0, math.MaxInt}, nil}, Tensor{"e3", "I8", []int{math.MaxInt, 0}, nil}),
		"tensors of rank 0":                 extra(Tensor{"s1", F32, []int{}, make([]byte, 4)}, Tensor{"s2", "U8", nil, make([]byte, 1)}),
		"tensors of other types":            extra(Tensor{"x1", "F64", []int{2}, make([]byte, 16)}, Tensor{"x2", "F8_E4M3", []int{3}, make([]byte, 3)}, Tensor{"x3", "BOOL", []int{1}, make([]byte, 1)}, Tensor{"x4", "F4", []int{2, 3}, make([]byte, 3)}),
		"tensors of nobody":                 extra(NewTensor("model.layers.0.self_attn.rotary_emb.inv_freq", []float32{1, 2}, 2), NewTensor("", []float32{1}, 1), NewTensor("名前 \n\"\\", []float32{1}, 1)),
		"64 dimensions":                     extra(Tensor{"deep", F32, slices.Repeat([]int{1}, 64), make([]byte, 4)}),
		"unsorted header":                   func(d *draft) { d.header = reverseEntries },
		"names in escapes":                  inHeader("model.embed_tokens", `\u006d\u006Fdel.\u0065mbed_tokens`),
		"other fields in an entry":          inHeader(`"dtype":"F32"`, `"x":{"y":[1,2.5e3,null,"\ud83d\ude00"]},"dtype":"F32"`),
		"fields of an entry in other order": inHeader(`"dtype":"F32","shape":[11,6],"data_offsets":[0,264]`, `"data_offsets":[0,264],"shape":[11,6],"dtype":"F32"`),
		"spaces in the header":              func(d *draft) { d.header = func(h string) string { return strings.ReplaceAll(h, ",", " ,\n ") } },
		"shards":                            (*draft).shards,
		"shards in a folder":                func(d *draft) { d.shards(); d.inSubfolder() },
		"shards beside a whole file":        func(d *draft) { d.shards(); d.without = nil },
		"index with other fields": func(d *draft) {
			d.shards()
			d.files[indexName] = replaceOnce(d.files[indexName], `{"metadata"`, `{"x":[{}],"metadata"`)
		},
		"config with other fields": field("x", `{"y":[null,true,-1.5e-3,"ü"]}`),
		"config without white space": func(d *draft) {
			d.files["config.json"] = strings.NewReplacer("\n", "", " ", "").Replace(d.configText())
		},
		"config with line ends of Windows": func(d *draft) { d.files["config.json"] = strings.ReplaceAll(d.configText(), "\n", "\r\n") },
		"config with keys in escapes": func(d *draft) {
			d.files["config.json"] = replaceOnce(d.configText(), "hidden_size", `\u0068idden_size`)
		},
		"config as transformers 5 writes it": func(d *draft) {
			delete(d.config, "rope_theta")
			d.config["rope_parameters"] = `{"rope_type":"default","rope_theta":10000}`
		},
		"rope_scaling null":  field("rope_scaling", "null"),
		"rope_scaling empty": field("rope_scaling", "{}"),
		"several ends":       field("eos_token_id", "[9,10]"),
		"no end":             field("eos_token_id", "null"),
		"fields that are null": func(d *draft) {
			d.config["sliding_window"] = "null"
			d.config["hidden_act"] = "null"
			d.config["layer_types"] = "null"
		},
		"no hidden_act": func(d *draft) { delete(d.config, "hidden_act") },
		"layer_types":   field("layer_types", `["full_attention","full_attention"]`),
		"generation_config": func(d *draft) {
			d.files["generation_config.json"] = `{"do_sample":true,"temperature":0.7,"top_k":20,"top_p":0.8,"eos_token_id":[10,9]}`
		},
		"generation_config empty":    func(d *draft) { d.files["generation_config.json"] = `{}` },
		"tokenizer":                  func(d *draft) { d.files["tokenizer.json"] = tinyTokenizer },
		"tokenizer, merges as pairs": func(d *draft) { d.files["tokenizer.json"] = replaceOnce(tinyTokenizer, `"a b"`, `["a","b"]`) },
		"tokenizer_config": func(d *draft) {
			d.files["tokenizer_config.json"] = `{"chat_template":"{{ messages }}","added_tokens_decoder":{}}`
		},
		"tied, with a head of its own": field("tie_word_embeddings", "true"),
	} {
		t.Run(name, func(t *testing.T) {
			plain, d, dir := newDraft("qwen3"), newDraft("qwen3"), t.TempDir()
			edit(d)
			d.write(t, dir)
			wantModel, err := LoadFS(mapFS(plain.contents()))
			if err != nil {
				t.Fatal(err)
			}
			want := logitsOf(t, wantModel)
			for _, load := range []func() (*Model, error){
				func() (*Model, error) { return Load(dir) },
				func() (*Model, error) { return LoadFS(os.DirFS(dir)) },
				func() (*Model, error) { return LoadFS(mapFS(d.contents())) },
			} {
				m, err := load()
				if err != nil {
					t.Fatal(err)
				}
				if got := logitsOf(t, m); !slices.Equal(got, want) {
					t.Errorf("logits %v, want %v", got, want)
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestTiedInput says which tensor a tied head is: the embedding, under either
// name, but a head that is in the file goes before.
func TestTiedInput(t *testing.T) {
	defer answers(t, "Load")()
	load := func(edit func(d *draft)) []float32 {
		d := newDraft("qwen3")
		edit(d)
		m, err := LoadFS(mapFS(d.contents()))
		if err != nil {
			t.Fatal(err)
		}
		return logitsOf(t, m)
	}
	twice := func(d *draft) { // untied, both the same
		*d.tensor("lm_head.weight") = NewTensor("lm_head.weight", floatsOf(*d.tensor("model.embed_tokens.weight")), 11, 6)
	}
	want := load(twice)
	for name, edit := range map[string]func(d *draft){
		"under the embedding's name": func(d *draft) { d.remove("lm_head.weight") },
		"under the head's name":      func(d *draft) { twice(d); d.remove("model.embed_tokens.weight") },
		"under both":                 twice,
	} {
		if got := load(func(d *draft) { edit(d); d.config["tie_word_embeddings"] = "true" }); !slices.Equal(got, want) {
			t.Errorf("tied %s: logits %v, want %v", name, got, want)
		}
	}
}

func floatsOf(t Tensor) []float32 {
	x, err := t.Float32()
	if err != nil {
		panic(err)
	}
	return x
}

// inSubfolder moves the shards one folder down.
func (d *draft) inSubfolder() {
	for i := range 2 {
		d.files["weights/"+shardName(i)] = d.files[shardName(i)]
		delete(d.files, shardName(i))
	}
	d.files[indexName] = strings.ReplaceAll(d.files[indexName], `:"model-`, `:"weights/model-`)
}

// reverseEntries writes a header's entries last to first.
func reverseEntries(h string) string {
	entries := strings.SplitAfter(strings.TrimSpace(h), "},")
	entries[0] = strings.TrimPrefix(entries[0], "{")
	last := len(entries) - 1
	entries[last] = strings.TrimSuffix(entries[last], "}") + ","
	slices.Reverse(entries)
	return "{" + strings.TrimSuffix(strings.Join(entries, ""), ",") + "}"
}

// narrow writes numbers that fit exactly as F16 or BF16.
func narrow(x []float32, to DType) (data []byte) {
	for _, v := range x {
		b := math.Float32bits(v)
		half := b >> 16
		if to == F16 {
			if half = b >> 16 & 0x8000; v != 0 {
				half |= (b>>23&0xff-112)<<10 | b>>13&0x3ff
			}
		}
		data = binary.LittleEndian.AppendUint16(data, uint16(half))
	}
	return data
}

// mapFS is a file system in memory.
func mapFS(files map[string]string) fs.FS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// checkParsed tests what every file that is accepted must have: tensors that
// follow each other without holes, each of exactly the bytes of its shape and
// type, inside of the file.
func checkParsed(t testing.TB, file []byte, tensors []Tensor) {
	t.Helper()
	at := 8 + int(binary.LittleEndian.Uint64(file))
	names := map[string]bool{}
	for _, x := range tensors {
		size, ok := byteSize(x.Shape, x.DType)
		if !ok || uint64(len(x.Data)) != size || cap(x.Data) != len(x.Data) || names[x.Name] {
			t.Fatalf("%s: %d bytes (cap %d) for shape %v of %s, expected %d", x.Name, len(x.Data), cap(x.Data), x.Shape, x.DType, size)
		}
		names[x.Name] = true
		if len(x.Data) > 0 && &x.Data[0] != &file[at] {
			t.Fatalf("%s does not begin at byte %d of the file", x.Name, at)
		}
		at += len(x.Data)
	}
	if at != len(file) {
		t.Fatalf("tensors end at byte %d of %d", at, len(file))
	}
}

// largerDraft is a checkpoint of about 30 kB.
func largerDraft() []byte {
	d := newDraft("qwen3")
	d.tensors = append(d.tensors, NewTensor("extra", make([]float32, 5000), 50, 100))
	return d.encode()
}

// TestCutFile cuts a file at every length. Only the whole file is one.
func TestCutFile(t *testing.T) {
	defer answers(t, "ParseSafetensors")()
	file := largerDraft()
	t.Logf("%d bytes", len(file))
	for n := range file {
		_, _, err := ParseSafetensors(file[:n:n])
		if e := (*LoadError)(nil); !errors.As(err, &e) || !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d: %v, expected ErrTruncated", n, err)
		}
	}
	tensors, _, err := ParseSafetensors(file)
	if err != nil {
		t.Fatal(err)
	}
	checkParsed(t, file, tensors)
}

// TestFlippedBits flips every bit of the header. Some flips give another valid
// file, such as one in which a tensor has another name; none gives anything else.
func TestFlippedBits(t *testing.T) {
	defer answers(t, "ParseSafetensors")()
	file := largerDraft()
	n := int(8 + binary.LittleEndian.Uint64(file))
	valid := 0
	for bit := range 8 * n {
		file[bit/8] ^= 1 << (bit % 8)
		tensors, _, err := ParseSafetensors(file)
		if e := (*LoadError)(nil); err != nil && !errors.As(err, &e) {
			t.Fatalf("bit %d: error of type %T", bit, err)
		} else if err == nil {
			checkParsed(t, file, tensors)
			valid++
		}
		file[bit/8] ^= 1 << (bit % 8)
	}
	t.Logf("%d of %d are valid", valid, 8*n)
}

// TestWriteRead writes 1,000 random files and reads them back.
func TestWriteRead(t *testing.T) {
	defer answers(t, "WriteSafetensors")()
	random := rand.New(rand.NewPCG(3, 4))
	dtypes := slices.Sorted(maps.Keys(dtypeBits))
	word := func() string {
		b := make([]rune, random.IntN(9))
		for i := range b {
			b[i] = []rune("aZ._09 \"\\/\n\x00\x7f\u0080é名\u2028😀<&")[random.IntN(20)]
		}
		return string(b)
	}
	for range 1000 {
		var want []Tensor
		names := map[string]bool{"__metadata__": true}
		for range random.IntN(8) {
			x := Tensor{Name: word(), DType: dtypes[random.IntN(len(dtypes))], Shape: []int{}}
			for range random.IntN(5) {
				x.Shape = append(x.Shape, random.IntN(5))
			}
			size, ok := byteSize(x.Shape, x.DType)
			if !ok || names[x.Name] {
				continue
			}
			names[x.Name] = true
			x.Data = make([]byte, size)
			for i := range x.Data {
				x.Data[i] = byte(random.Uint32())
			}
			want = append(want, x)
		}
		var meta map[string]string
		if random.IntN(2) == 0 {
			meta = map[string]string{}
			for range random.IntN(4) {
				meta[word()] = word()
			}
		}
		var b bytes.Buffer
		if err := WriteSafetensors(&b, want, meta); err != nil {
			t.Fatal(err)
		}
		got, gotMeta, err := ParseSafetensors(b.Bytes())
		if err != nil {
			t.Fatalf("%v, of %q", err, b.String())
		}
		checkParsed(t, b.Bytes(), got)
		if !maps.Equal(gotMeta, meta) || (gotMeta == nil) != (meta == nil) {
			t.Fatalf("metadata %q, want %q", gotMeta, meta)
		}
		same := func(a, b Tensor) bool {
			return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Shape, b.Shape) && bytes.Equal(a.Data, b.Data)
		}
		// Empty tensors share their place with what follows, so their order is free.
		byName := func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) }
		slices.SortFunc(got, byName)
		slices.SortFunc(want, byName)
		if !slices.EqualFunc(got, want, same) {
			t.Fatalf("read %v, wrote %v", got, want)
		}
	}
}

// TestWriteRefuses gives WriteSafetensors what no file can hold.
func TestWriteRefuses(t *testing.T) {
	defer answers(t, "WriteSafetensors")()
	x := NewTensor("x", []float32{1, 2}, 2)
	for name, tensors := range map[string][]Tensor{
		"a name twice":     {x, x},
		"the metadata":     {{"__metadata__", F32, []int{0}, nil}},
		"too few bytes":    {{"x", F32, []int{3}, x.Data}},
		"an unknown dtype": {{"x", "F33", []int{0}, nil}},
		"half a byte":      {{"x", "F4", []int{1}, nil}},
		"a negative size":  {{"x", F32, []int{-1}, nil}},
		"broken text":      {{"\xff", F32, []int{0}, nil}},
	} {
		var b bytes.Buffer
		if err := WriteSafetensors(&b, tensors, nil); err == nil {
			t.Errorf("%s was written, expected an error", name)
		}
	}
}

// TestLongHeader gives headers that are wrong only at their end and ask for the
// largest tables: memory stays bounded.
func TestLongHeader(t *testing.T) {
	defer answers(t, "ParseSafetensors")()
	if testing.Short() {
		t.Skip("headers of 14 MB")
	}
	many := func(n int, entry string) string {
		b := []byte{'{'}
		for i := range n {
			b = append(append(strconv.AppendInt(append(b, '"'), int64(i), 10), entry...), ',')
		}
		return string(b) + `"z":1}`
	}
	for word, header := range map[string]string{
		"at most 32768":                     many(70_000, `":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`),
		"at most 2097152 dimensions in all": many(40_000, `":{"dtype":"U8","shape":[0`+strings.Repeat(",0", 63)+`],"data_offsets":[0,0]}`),
		"bytes with escapes":                `{"` + strings.Repeat(`\n`, 5_000_000) + `":1}`,
		"z: found a number":                 many(10, strings.Repeat("x", 1_000_000)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`),
	} {
		file := assemble(header, nil)
		before := allocated()
		_, _, err := ParseSafetensors(file)
		if mb := (allocated() - before) >> 20; err == nil || !strings.Contains(err.Error(), word) || mb > 128 {
			t.Errorf("%d MB allocated for a header of %d MB: %v, expected less than 128 and %q", mb, len(file)>>20, err, word)
		}
	}
}
