package qwen

// config.json says what the network looks like: how wide, how deep, which
// family. This is Qwen3-0.6B's, less what changes nothing here:
//
//	{
//	  "model_type": "qwen3",             which family: biases on q, k, v (qwen2) or norms (qwen3)
//	  "hidden_size": 1024,               numbers a token is made of between two layers
//	  "intermediate_size": 3072,         numbers it is widened to inside an FFN
//	  "num_hidden_layers": 28,
//	  "num_attention_heads": 16,         query heads
//	  "num_key_value_heads": 8,          each serves 2 query heads
//	  "head_dim": 128,                   16*128 = 2048: the heads need not add up to hidden_size
//	  "max_position_embeddings": 40960,  the longest text
//	  "vocab_size": 151936,              rows of the embedding, and logits
//	  "rms_norm_eps": 1e-06,             inside the square root of every norm
//	  "rope_theta": 1000000,             the slowest pair turns once in 2π·theta tokens, or nearly
//	  "tie_word_embeddings": true,       the head is the embedding again
//	  "attention_bias": false,
//	  "hidden_act": "silu",              of the FFN's gate
//	  "eos_token_id": 151645             <|im_end|>
//	}
//
// The other sizes differ in these numbers, and Qwen2.5's instruct models have a context of
// 32,768:
//
//	              vocab   hidden intermediate layers heads kvHeads headDim tied    parameters  KiB of cache a token (float32)
//	Qwen2.5-0.5B  151936     896      4864      24     14     2      64    yes    494,032,768           24
//	Qwen2.5-7B    152064    3584     18944      28     28     4     128    no   7,615,616,512          112
//	Qwen3-0.6B    151936    1024      3072      28     16     8     128    yes    596,049,920          224
//	Qwen3-4B      151936    2560      9728      36     32     8     128    yes  4,022,468,096          288
//	Qwen3-8B      151936    4096     12288      36     32     8     128    no   8,190,735,360          288
//
// config.json exists in two styles, and both are read: as published with Qwen2, 2.5 and
// 3, with rope_theta and rope_scaling at the top level, and as transformers 5 writes
// it, with rope_parameters.
//
// Nothing that changes the numbers is guessed. Without a rope theta transformers
// would silently take 10000, and a checkpoint trained with 1e6 would still write
// fluent text, a little worse; here that is an error. So is every switch for
// something that this package does not implement: sliding windows, other activations,
// quantised weights, partial rotation, other RoPE types.
//
//	{"hidden_size": "1024"}                hidden_size: found a string, expected an integer
//	{"hidden_size": 0}                     hidden_size: found 0, expected 1 to 1073741824
//	{"model_type": "qwen2_moe"}            model_type: found "qwen2_moe", expected "qwen2" or "qwen3"
//	{"hidden_act": "gelu"}                 hidden_act: found "gelu", expected "silu"
//	{"use_sliding_window": true}           use_sliding_window: found true, expected false: sliding-window attention is not implemented
//	{"rope_scaling": {"factor": -4}}       rope_scaling.factor: found -4, expected a number above 0 that 32 bits can hold
//	{"model_type": "qwen3"}                found no hidden_size, expected it to be given
//
// generation_config.json says how to run it: which ids end an answer, and how
// the authors sample. It may be missing; then eos_token_id is that of config.json, and
// the default is greedy.
//
// In the code r is a jsonReader. r.object calls a function for each key of an object, at
// the key's value; r.int, r.string and so on read the value, and a value that nobody reads
// is skipped. r.fail notes an error: the first counts, and after it nothing more is read,
// so there is no error to look at after each step. r.kind says what comes next. json.go has the rest.
//
// Numerics: rms_norm_eps becomes float32, in which the network computes; theta and
// the constants of YaRN stay float64 until rope.go rounds them where transformers
// does.
//
// Reference: transformers models/qwen2/configuration_qwen2.py,
// models/qwen3/configuration_qwen3.py, modeling_rope_utils.py
// (convert_rope_params_to_dict).
//
// Next: load.go

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Config is config.json. The names in the comments are its fields.
type Config struct {
	ModelType     string     // model_type: "qwen2" (Qwen2 and Qwen2.5) or "qwen3"
	Vocab         int        // vocab_size: rows of the embedding, often more than the tokenizer has tokens
	Hidden        int        // hidden_size: width of the residual stream
	Intermediate  int        // intermediate_size: width of the FFN
	Layers        int        // num_hidden_layers
	Heads         int        // num_attention_heads: query heads
	KVHeads       int        // num_key_value_heads
	HeadDim       int        // head_dim; where the file has none, 128 for qwen3 and Hidden/Heads for qwen2; Heads*HeadDim need not be Hidden
	MaxPositions  int        // max_position_embeddings: the longest context
	Eps           float32    // rms_norm_eps
	RoPE          RoPEConfig // rope_theta and rope_scaling, or rope_parameters
	TieEmbeddings bool       // tie_word_embeddings: the output head is the embedding matrix
	AttentionBias bool       // attention_bias (Qwen3 only): biases on q, k, v and o

	// StopIDs are the ids that end an answer: eos_token_id of
	// generation_config.json or, where that has none, of config.json.
	StopIDs []int
	// Sampling is how the authors sample, from generation_config.json: greedy
	// unless do_sample is true.
	Sampling Sampling
}

// maxSize bounds every number of a config that is the size of something, so that
// no product of two of them overflows: 2^30 * 2^30 is below 2^63.
const maxSize = 1 << 30

// A configReader collects what config.json holds before it is judged: fields come
// in any order, and whether one is wrong often depends on another.
type configReader struct {
	c        Config
	ropeMain ropeFields      // top level: rope_theta
	ropeSub  *ropeFields     // rope_parameters, or rope_scaling if that is there
	seen     map[string]bool // fields that are there and not null: 0 and false are values too

	layerTypes int // length of layer_types
}

// ropeFields are the fields of rope_parameters or rope_scaling:
//
//	"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
//	"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000000, "factor": 4.0, …}
//
// The first is what Qwen's model cards ask to be written into config.json for long
// texts, the second what transformers 5 makes of it.
type ropeFields struct {
	RoPEConfig
	kind, oldKind string // rope_type, and type as it was called before
	seen          map[string]bool
}

// config reads config.json and, if there is one, generation_config.json: a model that
// was never meant to generate by itself, or an old one, has none.
func (f folder) config() (Config, error) {
	data, err := f.read("config.json", maxConfigFile)
	if err != nil {
		return Config{}, err
	}
	c, err := parseConfig(data)
	if err != nil {
		return Config{}, inFile(f.path("config.json"), ErrConfig, err)
	}
	data, err = f.read("generation_config.json", maxConfigFile)
	if f.absent("generation_config.json", err) {
		return c, nil
	} else if err != nil {
		return Config{}, err
	}
	if err := parseGeneration(data, &c); err != nil {
		return Config{}, inFile(f.path("generation_config.json"), ErrConfig, err)
	}
	return c, nil
}

// parseConfig reads config.json, in two steps: field takes each value and refuses
// what is wrong whatever the others say, finish judges the whole. The error names the
// field, what was found and what was expected.
func parseConfig(data []byte) (Config, error) {
	p := configReader{seen: map[string]bool{}}
	err := readJSON(data, func(r *jsonReader) {
		r.object(func(key string) {
			if !r.null() {
				p.seen[key] = true
				p.field(r, key)
			} else if key == "num_key_value_heads" { // as many as query heads
				p.seen[key] = true
			} // any other field that is null is a field that is not there
		})
		p.finish(r)
	})
	return p.c, err
}

// field reads the value of one top-level field. A field that is not listed changes
// nothing in the numbers: torch_dtype (each tensor says its own), use_cache,
// initializer_range, attention_dropout, transformers_version.
func (p *configReader) field(r *jsonReader, key string) {
	c := &p.c
	switch key {
	case "model_type": // qwen2_moe, qwen2_vl, qwen3_moe and so on are other networks
		if c.ModelType = r.string(); c.ModelType != "qwen2" && c.ModelType != "qwen3" {
			r.fail(quote(c.ModelType), `"qwen2" or "qwen3"`)
		}
	// The sizes. The weights confirm every one but max_position_embeddings and, in Qwen2, the
	// number of heads: q_proj [896, 896] is 14 heads of 64 or 28 of 32, and the wrong one
	// loads and writes nonsense.
	case "vocab_size":
		c.Vocab = readSize(r)
	case "hidden_size":
		c.Hidden = readSize(r)
	case "intermediate_size":
		c.Intermediate = readSize(r)
	case "num_hidden_layers":
		c.Layers = readSize(r)
	case "num_attention_heads":
		c.Heads = readSize(r)
	case "num_key_value_heads":
		c.KVHeads = readSize(r)
	case "head_dim": // Qwen2's files have none
		c.HeadDim = readSize(r)
	case "max_position_embeddings":
		c.MaxPositions = readSize(r)
	case "rms_norm_eps":
		c.Eps = float32(readPositive(r))
	case "tie_word_embeddings":
		c.TieEmbeddings = r.bool()
	case "attention_bias":
		c.AttentionBias = r.bool()
	case "eos_token_id":
		c.StopIDs = readIDs(r)
	case "rope_theta": // transformers up to 4
		p.ropeMain.Theta = readPositive(r)
	case "rope_parameters": // transformers 5
		if sub := readRope(r); p.ropeSub == nil {
			p.ropeSub = sub
		}
	case "rope_scaling": // where it is there and not empty, transformers reads nothing else
		if sub := readRope(r); len(sub.seen) > 0 {
			p.ropeSub = sub
		}
	case "original_max_position_embeddings": // as a rule inside of rope_scaling
		p.ropeMain.OriginalMaxPositions = readPositive(r)
	case "layer_types": // one word a layer
		r.array(func(i int) {
			p.layerTypes = i + 1
			if kind := r.string(); kind != "full_attention" {
				r.fail(quote(kind), `"full_attention": sliding-window attention is not implemented`)
			}
		})
	default:
		refuseSwitch(r, key)
	}
}

// refuseSwitch is an error for a field that asks for something that this package
// does not do. Any other field is left for the reader to skip. Qwen's own configs
// say "use_sliding_window": false and give a window next to it; only the switch
// counts:
//
//	"use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 21      accepted
func refuseSwitch(r *jsonReader, key string) {
	switch key {
	case "hidden_act": // "gelu", "relu", "gelu_new", …
		if act := r.string(); act != "silu" {
			r.fail(quote(act), `"silu"`)
		}
	case "use_sliding_window":
		if r.bool() {
			r.fail("true", "false: sliding-window attention is not implemented")
		}
	case "partial_rotary_factor": // how much of a head is turned; other families turn a half or a quarter
		if f := r.float(); f != 1 {
			r.fail(decimal(f), "1: partial rotation is not implemented")
		}
	case "is_causal": // false: every token sees every other, as in embedding and draft models
		if !r.bool() {
			r.fail("false", "true: attention that looks ahead is not implemented")
		}
	case "quantization_config": // GPTQ, AWQ, FP8: packed weights, and scales beside them
		r.fail("a quantised checkpoint", "weights in F32, F16 or BF16")
	}
}

// finish judges what was read: what must be there, and what must fit together. It
// also fills in what transformers derives, and only that:
//
//	head_dim missing, qwen2         hidden_size / num_attention_heads, 896/14 = 64
//	head_dim missing, qwen3         128, the default of Qwen3Config
//	num_key_value_heads: null       num_attention_heads: every query head has its own keys
func (p *configReader) finish(r *jsonReader) {
	c := &p.c
	require := func(names ...string) {
		for _, name := range names {
			if !p.seen[name] {
				r.fail("no "+name, "it to be given")
			}
		}
	}
	require("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
		"num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps")
	if r.err != nil {
		return
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads // null in the file
	}
	if c.Heads%c.KVHeads != 0 {
		r.fail("num_attention_heads "+strconv.Itoa(c.Heads)+" and num_key_value_heads "+strconv.Itoa(c.KVHeads), "heads to be a multiple of key/value heads")
		return
	}
	if p.seen["layer_types"] && p.layerTypes != c.Layers {
		r.fail("layer_types for "+strconv.Itoa(p.layerTypes)+" layers", "num_hidden_layers, "+strconv.Itoa(c.Layers)+", of them")
	}
	if c.HeadDim == 0 && c.ModelType == "qwen3" {
		c.HeadDim = 128 // as the reference does; the weights must agree
	}
	if c.HeadDim == 0 {
		if c.Hidden%c.Heads != 0 {
			r.fail("no head_dim, hidden_size "+strconv.Itoa(c.Hidden)+" and num_attention_heads "+strconv.Itoa(c.Heads), "head_dim, or a hidden_size that is a multiple of the heads")
			return
		}
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.HeadDim%2 != 0 {
		r.fail("a head_dim of "+strconv.Itoa(c.HeadDim), "an even number: RoPE turns pairs")
	}
	if c.ModelType == "qwen2" {
		c.AttentionBias = false // the field is not Qwen2's: q, k and v always have a bias there, o never
	}
	p.finishRope(r)
}

// finishRope settles theta, type and the fields that the type needs. Where both
// styles are in one file the inner theta wins, as in transformers.
//
//	"rope_theta": 1000000                                        as published: type "default"
//	"rope_theta": 1000000, "rope_scaling": null                  the same
//	"rope_theta": 1000000, "rope_scaling": {"type": "yarn", …}   "type" until 2024, "rope_type" since
//	"rope_parameters": {"rope_type": "default", "rope_theta": 1000000}
//
// "dynamic" and "longrope" would change the frequencies while a text grows, "llama3"
// has a ramp of its own: no Qwen was trained with them, so they are refused.
func (p *configReader) finishRope(r *jsonReader) {
	sub := &ropeFields{}
	if p.ropeSub != nil {
		sub = p.ropeSub
	}
	rope := sub.RoPEConfig
	rope.Type = "default"
	if sub.seen["rope_type"] {
		rope.Type = sub.kind
	} else if sub.seen["type"] {
		rope.Type = sub.oldKind
	}
	if !sub.seen["rope_theta"] {
		if rope.Theta = p.ropeMain.Theta; rope.Theta == 0 {
			r.fail("neither rope_theta nor rope_parameters.rope_theta", "one of them: there is no default that fits every model")
		}
	}
	switch rope.Type {
	case "default":
	case "linear":
		if rope.Factor == 0 {
			r.fail("no rope factor", `"factor" for rope type "linear"`)
		}
	case "yarn":
		p.finishYaRN(r, &rope, sub)
	default:
		r.fail("rope type "+quote(rope.Type), `"default", "linear" or "yarn"`)
	}
	p.c.RoPE = rope
}

// finishYaRN fills in what transformers would, and refuses what it leaves open. The
// training length stands inside of the rope fields or beside them; two that differ
// are a mistake that transformers would settle in silence.
//
//	factor 4, original 32768      as written; max_position_embeddings is 131072 then
//	factor missing                max_position_embeddings / original, if original is given
//	original missing              max_position_embeddings
//	beta_fast, beta_slow          32 and 1 turns, the paper's values
func (p *configReader) finishYaRN(r *jsonReader, rope *RoPEConfig, sub *ropeFields) {
	top, given := p.ropeMain.OriginalMaxPositions, rope.OriginalMaxPositions
	switch {
	case top != 0 && given != 0 && top != given:
		r.fail("original_max_position_embeddings "+decimal(top)+" and, in the rope fields, "+decimal(given), "the same number")
	case given == 0 && top != 0:
		rope.OriginalMaxPositions = top
	case given == 0:
		rope.OriginalMaxPositions = float64(p.c.MaxPositions)
	}
	if rope.Factor == 0 && sub.seen["original_max_position_embeddings"] {
		rope.Factor = float64(p.c.MaxPositions) / rope.OriginalMaxPositions
	}
	if rope.Factor == 0 {
		r.fail("no rope factor", `"factor" for rope type "yarn"`)
	}
	if rope.Theta == 1 { // then every pair turns alike, and log(theta), by which YaRN divides, is 0
		r.fail("rope_theta 1", `a larger one for rope type "yarn"`)
	}
	if rope.BetaFast == 0 {
		rope.BetaFast = 32
	}
	if rope.BetaSlow == 0 {
		rope.BetaSlow = 1
	}
}

// readRope reads rope_parameters or rope_scaling. Strings are cloned: they would keep
// the whole document in memory as long as the model lives.
func readRope(r *jsonReader) *ropeFields {
	f := &ropeFields{seen: map[string]bool{}}
	r.object(func(key string) {
		if r.null() {
			return
		}
		f.seen[key] = true
		switch key {
		case "rope_type":
			f.kind = strings.Clone(r.string())
		case "type":
			f.oldKind = strings.Clone(r.string())
		case "rope_theta":
			f.Theta = readPositive(r)
		case "factor":
			f.Factor = readPositive(r)
		case "original_max_position_embeddings":
			f.OriginalMaxPositions = readPositive(r)
		case "attention_factor":
			factor := readPositive(r)
			f.AttentionFactor = &factor
		case "beta_fast":
			f.BetaFast = readPositive(r)
		case "beta_slow":
			f.BetaSlow = readPositive(r)
		case "mscale":
			f.MScale = readPositive(r)
		case "mscale_all_dim":
			f.MScaleAllDim = readPositive(r)
		case "truncate":
			f.NoTruncate = !r.bool()
		default:
			if r.kind() == '{' { // {"full_attention": {…}, "sliding_attention": {…}}
				r.fail("an object", "a setting: rope fields for each type of layer are not implemented")
			}
			refuseSwitch(r, key)
		}
	})
	return f
}

// readSize reads an integer from 1 to maxSize. After an error it returns 1, so that what
// is derived from it divides by nothing that is 0.
func readSize(r *jsonReader) int {
	n := r.int()
	if n < 1 || n > maxSize {
		r.fail(strconv.FormatInt(n, 10), "1 to "+strconv.Itoa(maxSize))
		return 1
	}
	return int(n)
}

// readPositive reads a number above 0 that float32 can hold: 1e-60 is above 0 and
// would become 0, as an eps that is not there.
func readPositive(r *jsonReader) float64 {
	x := r.float()
	if narrow := float32(x); !(narrow > 0) || math.IsInf(float64(narrow), 0) {
		r.fail(decimal(x), "a number above 0 that 32 bits can hold")
	}
	return x
}

const maxStopIDs = 1024 // published checkpoints have one or two

// readIDs reads a token id or a list of them: 151645, or [151645, 151643], where an
// answer may end with <|im_end|> or <|endoftext|>.
func readIDs(r *jsonReader) []int {
	var ids []int
	id := func() {
		n := r.int()
		if n < 0 || n > maxSize {
			r.fail(strconv.FormatInt(n, 10), "a token id")
		}
		if ids = append(ids, int(n)); len(ids) > maxStopIDs {
			r.fail("one more id", "at most "+strconv.Itoa(maxStopIDs))
		}
	}
	if r.kind() == '[' {
		r.array(func(int) { id() })
	} else {
		id()
	}
	return ids
}

// decimal writes x as briefly as possible.
func decimal(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// parseGeneration reads generation_config.json into c. Qwen3's:
//
//	{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95,
//	 "eos_token_id": [151645, 151643], "pad_token_id": 151643, "bos_token_id": 151643}
//
// Its eos_token_id replaces that of config.json, which names one id only: an answer
// ends with <|im_end|>, a text that is continued with <|endoftext|>. "do_sample": false
// is greedy, whatever temperature stands next to it. So is "top_p": 0, since the
// smallest set of the likeliest whose sum is at least 0 is the likeliest; in Sampling 0
// means that nobody asked.
func parseGeneration(data []byte, c *Config) error {
	sampled, likeliest := false, false
	// What transformers does where the file is silent: GenerationConfig's defaults. A top_k
	// of 50 that nobody asked for surprises people; it is kept all the same.
	s := Sampling{Temperature: 1, TopK: 50}
	err := readJSON(data, func(r *jsonReader) {
		r.object(func(key string) {
			if r.null() {
				return
			}
			switch key {
			case "eos_token_id":
				c.StopIDs = readIDs(r)
			case "do_sample":
				sampled = r.bool()
			case "temperature":
				s.Temperature = r.float()
			case "top_k":
				s.TopK = int(min(max(r.int(), -1), maxSize))
			case "top_p":
				s.TopP = r.float()
				likeliest = s.TopP == 0
			case "min_p":
				s.MinP = r.float()
			case "repetition_penalty":
				s.RepetitionPenalty = r.float()
			}
		})
	})
	if problem := s.check(); err == nil && problem != "" {
		err = errors.New(problem) // top_p: found 1.1, expected 0 to 1
	}
	if err != nil {
		return err
	}
	if !sampled || likeliest { // greedy, but for the penalty, which transformers applies all the same
		s = Sampling{RepetitionPenalty: s.RepetitionPenalty}
	}
	c.Sampling = s
	return nil
}
