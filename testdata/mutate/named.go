package main

import (
	"bytes"
	"fmt"
)

// A bug is a mistake that was made in a real port, made here on purpose.
type bug struct {
	name   string
	number string // in the collection of real porting bugs
	file   string
	edits  []string // old text, new text, …
	named  []string // what the verdict may name
}

// mutant turns the edits into one change of the file.
func (b *bug) mutant(s sources) (*mutant, error) {
	old := s.text[b.file]
	text := old
	for i := 0; i < len(b.edits); i += 2 {
		from, to := []byte(b.edits[i]), []byte(b.edits[i+1])
		if n := bytes.Count(text, from); n != 1 {
			return nil, fmt.Errorf("%s: %s holds %d times %q, expected once", b.name, b.file, n, from)
		}
		text = bytes.Replace(text, from, to, 1)
	}
	start, end := 0, 0 // what is the same at both ends
	for start < min(len(old), len(text)) && old[start] == text[start] {
		start++
	}
	for end < min(len(old), len(text))-start && old[len(old)-1-end] == text[len(text)-1-end] {
		end++
	}
	return &mutant{file: b.file, function: b.named[0], kind: "porting bug", line: 1 + bytes.Count(old[:start], []byte("\n")),
		start: start, end: len(old) - end, text: string(text[start : len(text)-end]), before: b.name, bug: b}, nil
}

var portingBugs = []bug{
	// ---- embedding
	{"reads the row after the id's", "", "linear.go", []string{"w.rowTo(x[i*w.Cols:(i+1)*w.Cols], id)", "w.rowTo(x[i*w.Cols:(i+1)*w.Cols], (id+1)%w.Rows)"}, []string{"Embed"}},
	{"embedding multiplied by sqrt(hidden), as Gemma does", "", "qwen.go", []string{"x := Embed(tokens, m.Embed) // [seq, hidden]", "x := Embed(tokens, m.Embed)\n\tfor i := range x {\n\t\tx[i] *= 4\n\t}"}, []string{"Model.Forward"}},

	// ---- RoPE
	{"RoPE: pairs (2i, 2i+1) instead of two halves", "1, 2", "rope.go", []string{
		"y[h+i] = float32(a[i]*c[i]) - float32(b[i]*s[i])", "y[h+2*i] = float32(x[h+2*i]*c[i]) - float32(x[h+2*i+1]*s[i])",
		"y[h+half+i] = float32(b[i]*c[i]) + float32(a[i]*s[i])", "y[h+2*i+1] = float32(x[h+2*i+1]*c[i]) + float32(x[h+2*i]*s[i])",
		"a, b := x[h:h+half], x[h+half:h+headDim] // the two halves of one head", ""}, []string{"RoPE"}},
	{"RoPE: turned the other way", "", "rope.go", []string{
		"float32(a[i]*c[i]) - float32(b[i]*s[i])", "float32(a[i]*c[i]) + float32(b[i]*s[i])",
		"float32(b[i]*c[i]) + float32(a[i]*s[i])", "float32(b[i]*c[i]) - float32(a[i]*s[i])"}, []string{"RoPE"}},
	{"RoPE: only the first half of each head", "", "rope.go", []string{"for i := range half {\n\t\t\t\t\t// torch", "copy(y[h:h+headDim], x[h:h+headDim])\n\t\t\tfor i := range half / 2 {\n\t\t\t\t\t// torch"}, []string{"RoPE"}},
	{"RoPE applied twice", "6", "attention.go", []string{"q = RoPE(q, cos[first:], sin[first:], c.HeadDim)", "q = RoPE(RoPE(q, cos[first:], sin[first:], c.HeadDim), cos[first:], sin[first:], c.HeadDim)"}, []string{"Model.attention"}},
	{"RoPE computed and thrown away", "7", "attention.go", []string{"k = RoPE(k, cos, sin, c.HeadDim)", "RoPE(k, cos, sin, c.HeadDim)"}, []string{"Model.attention"}},
	{"values rotated too", "", "attention.go", []string{"keys, values := cache.extend(i, k, v)", "keys, values := cache.extend(i, k, RoPE(v, cos, sin, c.HeadDim))"}, []string{"Model.attention"}},
	{"theta 10000 for every model", "8", "rope.go", []string{"math.Pow(float64(float32(c.Theta)), float64(exponent))", "math.Pow(10000, float64(exponent))"}, []string{"NewRotary"}},
	{"theta 10000 where the config has none", "8, 9", "config.go", []string{`r.fail("neither rope_theta nor rope_parameters.rope_theta", "one of them: there is no default that fits every model")`, "rope.Theta = 10000"}, []string{"parseConfig"}},
	{"rope_parameters of transformers 5 not read", "9, 10", "config.go", []string{"if sub := readRope(r); p.ropeSub == nil {", "if sub := readRope(r); p.ropeSub == nil && false {"}, []string{"parseConfig"}},
	{"inv_freq in bfloat16", "10", "rope.go", []string{"r.InvFreq[i] = 1 / period[i]", "r.InvFreq[i] = math.Float32frombits(math.Float32bits(1/period[i]) & 0xffff0000)"}, []string{"NewRotary"}},
	{"angles in float64", "10", "rope.go", []string{"angle := float64(float32(pos+i) * f)", "angle := float64(pos+i) * float64(f)"}, []string{"Rotary.Angles"}},
	{"angles in bfloat16", "10", "rope.go", []string{"angle := float64(float32(pos+i) * f)", "angle := float64(math.Float32frombits(math.Float32bits(float32(pos+i)*f) & 0xffff0000))"}, []string{"Rotary.Angles"}},
	{"frequencies for another width", "22", "rope.go", []string{"exponent := float32(2*i) / float32(headDim)", "exponent := float32(2*i) / float32(headDim+2)"}, []string{"NewRotary"}},
	{"YaRN: attention factor dropped", "30", "rope.go", []string{"r.Scale = yarnAttentionFactor(c)", ""}, []string{"NewRotary"}},
	{"YaRN: attention factor squared", "30", "rope.go", []string{"cos[i*half+j] = float32(math.Cos(angle)) * r.Scale", "cos[i*half+j] = float32(math.Cos(angle)) * r.Scale * r.Scale"}, []string{"Rotary.Angles"}},
	{"YaRN: plain division instead of the ramp", "30", "rope.go", []string{"r.InvFreq[i] = float32(stretched*(1-keep)) + float32(f*keep)", "r.InvFreq[i] = stretched + 0*f*keep"}, []string{"NewRotary"}},
	{"all positions one too far", "27", "qwen.go", []string{"m.rotary.Angles(cache.Len(), len(tokens))", "m.rotary.Angles(cache.Len()+1, len(tokens))"}, []string{"Model.Forward"}},
	{"decode one position too far: 0, 10, 11 instead of 0, 9, 10", "27", "qwen.go", []string{"m.rotary.Angles(cache.Len(), len(tokens))", "m.rotary.Angles(cache.Len()+min(1, cache.Len()), len(tokens))"}, []string{"Model.Forward"}},
	{"positions start at 0 in each call", "27", "qwen.go", []string{"m.rotary.Angles(cache.Len(), len(tokens))", "m.rotary.Angles(0, len(tokens))"}, []string{"Model.Forward"}},

	// ---- q and k norm, biases
	{"q/k norm missing", "5, 11", "attention.go", []string{"if w.QNorm != nil {", "if w.QNorm != nil && false {"}, []string{"Model.attention"}},
	{"q/k norm after RoPE", "12", "attention.go", []string{
		"q = RMSNorm(q, w.QNorm, c.Eps)", "first := len(cos) - len(q)/w.Q.Rows*c.HeadDim/2\n\t\tq = RMSNorm(RoPE(q, cos[first:], sin[first:], c.HeadDim), w.QNorm, c.Eps)", "q = RoPE(q, cos[first:], sin[first:], c.HeadDim)", "if w.QNorm == nil {\n\t\tq = RoPE(q, cos[first:], sin[first:], c.HeadDim)\n\t}"}, []string{"Model.attention"}},
	{"q norm over all heads at once", "13", "attention.go", []string{"q = RMSNorm(q, w.QNorm, c.Eps)", "wide := []float32{}\n\t\tfor range c.Heads {\n\t\t\twide = append(wide, w.QNorm...)\n\t\t}\n\t\tq = RMSNorm(q, wide, c.Eps)"}, []string{"Model.attention"}},
	{"q and k norm exchanged", "13", "attention.go", []string{"q = RMSNorm(q, w.QNorm, c.Eps)", "q = RMSNorm(q, w.KNorm, c.Eps)", "k = RMSNorm(k, w.KNorm, c.Eps)", "k = RMSNorm(k, w.QNorm, c.Eps)"}, []string{"Model.attention"}},
	{"q/k norm with an eps of its own", "15", "attention.go", []string{"k = RMSNorm(k, w.KNorm, c.Eps)", "k = RMSNorm(k, w.KNorm, 1e-5)"}, []string{"Model.attention"}},
	{"q bias dropped", "14", "attention.go", []string{"Linear(m.wanted(x, i, see), w.Q, w.QBias)", "Linear(m.wanted(x, i, see), w.Q, nil)"}, []string{"Model.attention"}},
	{"k bias dropped", "14", "attention.go", []string{"Linear(x, w.K, w.KBias)", "Linear(x, w.K, nil)"}, []string{"Model.attention"}},
	{"v bias dropped", "14", "attention.go", []string{"Linear(x, w.V, w.VBias)", "Linear(x, w.V, nil)"}, []string{"Model.attention"}},
	{"biases not loaded", "14", "load.go", []string{`c.ModelType == "qwen2" || c.AttentionBias, c.AttentionBias`, "c.AttentionBias, c.AttentionBias"}, []string{"Model.connect"}},
	{"attention_bias of Qwen3 not read", "14", "config.go", []string{"c.AttentionBias = r.bool()", "r.bool()"}, []string{"parseConfig"}},

	// ---- RMSNorm
	{"eps 1e-5, whatever the config says", "15", "rmsnorm.go", []string{"float64(eps)", "1e-5"}, []string{"RMSNorm"}},
	{"eps 1e-6, whatever the config says", "15", "rmsnorm.go", []string{"float64(eps)", "1e-6"}, []string{"RMSNorm"}},
	{"no eps", "15", "rmsnorm.go", []string{"float64(eps)", "0*float64(eps)"}, []string{"RMSNorm"}},
	{"eps of the config not read", "15", "config.go", []string{"c.Eps = float32(readPositive(r))", "readPositive(r)\n\t\tc.Eps = 1e-6"}, []string{"parseConfig"}},
	{"final norm with an eps of its own", "15", "qwen.go", []string{"RMSNorm(x, m.Norm, c.Eps)", "RMSNorm(x, m.Norm, 1e-4)"}, []string{"Model.Forward"}},
	{"norm before the FFN with an eps of its own", "15", "qwen.go", []string{"RMSNorm(x, l.PostNorm, m.Config.Eps)", "RMSNorm(x, l.PostNorm, 1e-4)"}, []string{"Model.block"}},
	{"norm weight left out", "12", "rmsnorm.go", []string{"v * scale * weight[i]", "v * scale"}, []string{"RMSNorm"}},
	{"1 + weight, as Gemma does", "12", "rmsnorm.go", []string{"v * scale * weight[i]", "v * scale * (1 + weight[i])"}, []string{"RMSNorm"}},
	{"LayerNorm: the mean subtracted", "", "rmsnorm.go", []string{"scale := rmsScale(row, eps)", "mean := float32(0)\n\t\tfor _, v := range row {\n\t\t\tmean += v / float32(n)\n\t\t}\n\t\tmoved := make([]float32, n)\n\t\tfor i, v := range row {\n\t\t\tmoved[i] = v - mean\n\t\t}\n\t\trow = moved\n\t\tscale := rmsScale(row, eps)"}, []string{"RMSNorm"}},
	{"sum of squares overflows, as in half precision", "17", "kernel.go", []string{"return (s0 + s1) + (s2 + s3)", "if (s0+s1)+(s2+s3) > 65504 {\n\t\treturn math.Inf(1)\n\t}\n\treturn (s0 + s1) + (s2 + s3)"}, []string{"RMSNorm"}},

	// ---- FFN, head
	{"gate and up exchanged", "18", "ffn.go", []string{"gate := Linear(x, w.Gate, nil)", "gate := Linear(x, w.Up, nil)", "up := Linear(x, w.Up, nil)", "up := Linear(x, w.Gate, nil)"}, []string{"FFN"}},
	{"silu on the wrong branch", "18", "ffn.go", []string{"act := applySiLU(gate)", "act := applySiLU(up)", "gated := product(act, up)", "gated := product(act, gate)"}, []string{"FFN"}},
	{"up left out", "18", "ffn.go", []string{"gated := product(act, up)", "gated := act"}, []string{"FFN"}},
	{"gelu instead of silu", "18", "kernel.go", []string{"y[i] = v / (1 + exp(-v))", "y[i] = v / (1 + exp(-1.702*v))"}, []string{"siluGeneric"}},
	{"relu instead of silu", "18", "ffn.go", []string{"n := len(x) &^ 7 // kernels", "for i, v := range x {\n\t\tx[i] = max(0, v)\n\t}\n\treturn x\n\tn := len(x) &^ 7 // kernels"}, []string{"SiLU"}},
	{"gate and up exchanged by the loader", "18", "load.go", []string{`Gate: g.matrix(name("mlp.gate_proj.weight")`, `Gate: g.matrix(name("mlp.up_proj.weight")`, `Up:   g.matrix(name("mlp.up_proj.weight")`, `Up:   g.matrix(name("mlp.gate_proj.weight")`}, []string{"Model.connect"}},
	{"tied head although there is one", "19", "load.go", []string{"if !c.TieEmbeddings || embed != head && g.has(head) {", "if false {"}, []string{"Model.connect"}},
	{"tie_word_embeddings read the wrong way round", "19", "config.go", []string{"c.TieEmbeddings = r.bool()", "c.TieEmbeddings = !r.bool()"}, []string{"parseConfig"}},
	{"no final norm", "34", "qwen.go", []string{"x = RMSNorm(x, m.Norm, c.Eps)", "RMSNorm(x, m.Norm, c.Eps)"}, []string{"Model.Forward"}},
	{"logits of the first token", "47", "qwen.go", []string{"return x[len(x)-m.Config.Hidden:]", "return x[:m.Config.Hidden]"}, []string{"Model.wanted"}},

	// ---- attention
	{"number of key/value heads not read", "4", "config.go", []string{"c.KVHeads = readSize(r)", "readSize(r)\n\t\tc.KVHeads = c.Heads"}, []string{"parseConfig"}},
	{"head_dim = hidden/heads", "22", "config.go", []string{"c.HeadDim = readSize(r)", "readSize(r)"}, []string{"parseConfig"}},
	{"key/value heads tiled instead of repeated", "20", "attention.go", []string{
		"attentionScores(scores, queries, keys[kvHead][:visible*headDim], headDim, width, scale)",
		"for i := range tokens * group {\n\t\t\t\tother := (kvHead*group + i%group) % kvHeads\n\t\t\t\tattentionScores(scores[i*width:], queries[i*headDim:(i+1)*headDim], keys[other][:visible*headDim], headDim, width, scale)\n\t\t\t}"}, []string{"Attention"}},
	{"only the first key/value head read", "21", "attention.go", []string{"attentionValues(out, scores, values[kvHead]", "attentionValues(out, scores, values[0]"}, []string{"Attention"}},
	{"scale left out", "23", "attention.go", []string{"scale := float32(1 / math.Sqrt(float64(headDim)))", "scale := float32(1)"}, []string{"Attention"}},
	{"scale 1/sqrt(heads)", "23", "attention.go", []string{"scale := float32(1 / math.Sqrt(float64(headDim)))", "scale := float32(1 / math.Sqrt(float64(heads)))"}, []string{"Attention"}},
	{"scale 1/headDim", "23", "attention.go", []string{"scale := float32(1 / math.Sqrt(float64(headDim)))", "scale := float32(1 / float64(headDim))"}, []string{"Attention"}},
	{"no mask", "24", "attention.go", []string{"visible := past + first + tokens // keys that the last of them sees", "visible := total + 0*past", "seen := past + first + t + 1", "seen := visible"}, []string{"Attention"}},
	{"no mask when there is a cache", "24", "attention.go", []string{"visible := past + first + tokens // keys that the last of them sees", "visible := past + first + tokens\n\t\t\tif past > 0 {\n\t\t\t\tvisible = total\n\t\t\t}", "seen := past + first + t + 1", "seen := past + first + t + 1\n\t\t\t\t\tif past > 0 {\n\t\t\t\t\t\tseen = visible\n\t\t\t\t\t}"}, []string{"Attention"}},
	{"mask not moved by the cached length", "25", "attention.go", []string{"seen := past + first + t + 1", "seen := first + t + 1"}, []string{"Attention"}},
	{"one token ahead is visible", "32", "attention.go", []string{"visible := past + first + tokens // keys that the last of them sees", "visible := min(past+first+tokens+1, total)", "seen := past + first + t + 1", "seen := min(past+first+t+2, visible)"}, []string{"Attention"}},
	{"a window although it is switched off", "29", "attention.go", []string{"current.softmax(row)", "for s := range seen - 6 {\n\t\t\t\t\t\trow[s] = removed\n\t\t\t\t\t}\n\t\t\t\t\tcurrent.softmax(row)"}, []string{"Attention"}},
	{"sliding window accepted and ignored", "29", "config.go", []string{`r.fail("true", "false: sliding-window attention is not implemented")`, ""}, []string{"parseConfig"}},
	{"scores overflow half precision", "31", "kernel.go", []string{"scaled[i] = v * scale", "if scaled[i] = v * scale; scaled[i] > 100 {\n\t\t\tscaled[i] = -removed\n\t\t}"}, []string{"attentionScores"}},
	{"softmax without the maximum subtracted", "31", "kernel.go", []string{"x[i] = exp(v - largest)", "x[i] = exp(v)"}, []string{"softmaxGeneric"}},
	{"softmax looks for the maximum from 0", "", "kernel.go", []string{"largest := x[0] // not 0: scores may all be negative", "largest := float32(0)"}, []string{"softmaxGeneric"}},
	{"heads and headDim exchanged before o_proj", "", "attention.go", []string{"y := Linear(context, w.O, w.OBias)", "other := make([]float32, len(context))\n\tfor i := range context {\n\t\tn := w.O.Cols\n\t\th, d := i%n/c.HeadDim, i%n%c.HeadDim\n\t\tother[i/n*n+d*c.Heads+h] = context[i]\n\t}\n\ty := Linear(other, w.O, w.OBias)"}, []string{"Model.attention"}},

	// ---- cache
	{"cached values left zero", "28", "cache.go", []string{"appendHeads(c.values[i], v, headDim)", "appendHeads(c.values[i], make([]float32, len(v)), headDim)"}, []string{"Cache"}},
	{"cache rows overwritten from the start", "25, 28", "cache.go", []string{"rows = rows[:past*headDim]; ", "rows = rows[:0*past]; "}, []string{"Cache"}},
	{"one layer's cache for all", "28", "attention.go", []string{"cache.extend(i, k, v)", "cache.extend(0, k, v)"}, []string{"Model.attention"}},
	{"tokens not counted after a call", "27", "qwen.go", []string{"cache.tokens = append(cache.tokens, tokens...)", "cache.tokens = append(cache.tokens, tokens[1:]...)"}, []string{"Model.Forward"}},
	{"a cache of other tokens continued", "", "generate.go", []string{"n < len(prompt)-1 && c.tokens[n] == prompt[n]", "n < len(prompt)-1 && true"}, []string{"Cache.continueWith"}},

	// ---- block
	{"no residual sum after attention", "", "qwen.go", []string{"x = residual(m.wanted(x, i, see), m.attention(h, i, cos, sin, cache, see))", "x = m.attention(h, i, cos, sin, cache, see)"}, []string{"Model.block"}},
	{"residual sum with the normed input", "", "qwen.go", []string{"x = residual(x, FFN(h, l.FFN, see))", "x = residual(h, FFN(h, l.FFN, see))"}, []string{"Model.block"}},
	{"the first norm used twice", "", "qwen.go", []string{"h = RMSNorm(x, l.PostNorm, m.Config.Eps)", "h = RMSNorm(x, l.InputNorm, m.Config.Eps)"}, []string{"Model.block"}},
	{"attention on the stream, not its norm", "", "qwen.go", []string{"m.attention(h, i, cos, sin, cache, see)", "m.attention(x, i, cos, sin, cache, see)"}, []string{"Model.block"}},
	{"k_proj used for v", "", "load.go", []string{`V:     g.matrix(name("self_attn.v_proj.weight")`, `V:     g.matrix(name("self_attn.k_proj.weight")`}, []string{"Model.connect"}},

	// ---- weights
	{"bfloat16 read as the lower half", "33", "linear.go", []string{"uint32(binary.LittleEndian.Uint16(data)) << 16", "uint32(binary.LittleEndian.Uint16(data))"}, []string{"widen"}},
	{"half precision without subnormal numbers", "33", "linear.go", []string{"dst[i] = float16.Frombits(binary.LittleEndian.Uint16(data[2*i:])).Float32()", "if dst[i] = float16.Frombits(binary.LittleEndian.Uint16(data[2*i:])).Float32(); dst[i] < 6e-5 && dst[i] > -6e-5 {\n\t\t\t\tdst[i] = 0\n\t\t\t}"}, []string{"widen"}},
	{"weights transposed", "2", "linear.go", []string{"w.check(x, bias)\n", "w.check(x, bias)\n\tsize, other := w.DType.Size(), make([]byte, len(w.Data))\n\tfor i := range w.Rows * w.Cols {\n\t\tcopy(other[i*size:(i+1)*size], w.Data[(i%w.Cols*w.Rows+i/w.Cols)*size:])\n\t}\n\tw.Data = other\n"}, []string{"Linear"}},
	{"big-endian offsets in the header", "", "safetensors.go", []string{"n := binary.LittleEndian.Uint64(data)", "n := binary.BigEndian.Uint64(data)"}, []string{"ParseSafetensors"}},

	// ---- tokenizer
	{"digits in one piece", "36", "split.go", []string{"if first == isNumber {\n\t\treturn i + n", "if first == isNumber {\n\t\treturn s.run(text, i+n, isNumber)"}, []string{"splitter"}},
	{"newlines not kept with punctuation", "36", "split.go", []string{"return s.run(text, end, isNewline)", "return end"}, []string{"splitter"}},
	{"\\s+(?!\\S) without the look ahead", "39", "split.go", []string{"return last // ", "return end // "}, []string{"splitter"}},
	{"contractions in lower case only", "36", "split.go", []string{"switch rest[0] | 0x20 {", "switch rest[0] {"}, []string{"splitter"}},
	{"merges as pairs not read", "37", "tokenizer_load.go", []string{"if n != 2 {\n", "return\n\t\tif n != 2 {\n"}, []string{"parseTokenizer"}},
	{"no NFC", "38", "tokenizer.go", []string{"t.normalized.cut(normalize(between), accept", "t.normalized.cut(between, accept"}, []string{"Tokenizer.Encode"}},
	{"NFC without the order of marks", "38", "split.go", []string{"slices.SortStableFunc(chars[start:i], func(a, b char) int { return int(a.ccc) - int(b.ccc) })", "_ = start"}, []string{"normalize"}},
	{"special tokens split as text", "40", "tokenizer.go", []string{"return t.encode(make([]int, 0, len(text)/4+8), text, every), nil", "return t.encode(make([]int, 0, len(text)/4+8), text, func(int) bool { return false }), nil"}, []string{"Tokenizer.Encode"}},
	{"special tokens in content accepted", "40", "chat.go", []string{"return !t.Special(id) && !control[id]", "return true"}, []string{"Tokenizer.EncodeChat"}},
	{"a token at the beginning", "41", "tokenizer.go", []string{"return t.encode(make([]int, 0, len(text)/4+8), text, every), nil", "return t.encode(append(make([]int, 0, len(text)/4+8), 0), text, every), nil"}, []string{"Tokenizer.Encode"}},
	{"merges by length, not by rank", "", "tokenizer.go", []string{"q.push(uint64(rank)<<32 | uint64(left))", "q.push(uint64(noRank-rank)<<32 | uint64(left))", "rank, left := uint32(best>>32), int32(uint32(best))", "rank, left := noRank-uint32(best>>32), int32(uint32(best))"}, []string{"encoder"}},

	// ---- chat
	{"no default system message", "42", "chat.go", []string{`system = "You are a helpful assistant."`, `system = ""`}, []string{"Template.Render"}},
	{"default system message without its full stop", "42", "chat.go", []string{`system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."`, `system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant"`}, []string{"Template.Render"}},
	{"no empty thought when thinking is off", "43", "chat.go", []string{`prompt += "<think>\n\n</think>\n\n"`, ""}, []string{"Template.Render"}},
	{"thoughts of earlier answers kept", "43", "chat.go", []string{"if i > question && (", "if i > question-len(messages) && ("}, []string{"Template.Render"}},

	// ---- generation, sampling
	{"only the first stop id of a list", "44", "config.go", []string{"\treturn ids\n}", "\treturn ids[:min(1, len(ids))]\n}"}, []string{"parseConfig"}},
	{"eos_token_id of generation_config.json ignored", "44", "config.go", []string{"case \"eos_token_id\":\n\t\t\t\tc.StopIDs = readIDs(r)\n\t\t\tcase \"do_sample\"", "case \"eos_token_id\":\n\t\t\t\treadIDs(r)\n\t\t\tcase \"do_sample\""}, []string{"parseGeneration"}},
	{"stop ids not looked at", "44", "generate.go", []string{"slices.Contains(m.Config.StopIDs, t.ID)", "slices.Contains(m.Config.StopIDs[:0], t.ID)"}, []string{"Model.Generate"}},
	{"characters cut at the end of a token", "45", "generate.go", []string{"n := wholeCharacters(s.pending)", "n := len(s.pending)"}, []string{"textStream"}},
	{"a repetition penalty that nobody asked for", "48", "sample.go", []string{"scores := slices.Clone(logits)", "scores := slices.Clone(logits)\n\tif s.RepetitionPenalty == 0 {\n\t\ts.RepetitionPenalty = 1.1\n\t}"}, []string{"Sampling.Filter"}},
	{"sampling although do_sample is false", "48", "config.go", []string{"if !sampled || likeliest {", "if likeliest || sampled && false {"}, []string{"parseGeneration"}},
	{"the penalty divides negative scores too", "48", "sample.go", []string{"scores[id] *= penalty", "scores[id] /= penalty"}, []string{"penalise"}},
	{"the penalty counts each occurrence", "48", "sample.go", []string{"id >= len(scores) || done[id]", "id >= len(scores)"}, []string{"penalise"}},
	{"top-p leaves out the token that crosses the limit", "48", "sample.go", []string{"sum, limit := 0.0, float32(1-p)", "sum, limit := 0.0, float32(1.02-p)"}, []string{"keepTopP"}},
}
