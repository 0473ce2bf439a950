// Package qwen runs Qwen2, Qwen2.5 and Qwen3 language models in plain Go, and is
// written to be read.
//
// # What a token goes through
//
//	text ── tokenizer.go ──► ids                          "What" → 3838
//	ids ─── Embed ─────────► x [seq, hidden]              one row of a table per token
//	        ┌──────────────────────────────────────────┐
//	        │ x += attention(RMSNorm(x))               │  tokens look at themselves and earlier ones
//	        │ x += FFN(RMSNorm(x))                     │  each token by itself
//	        └──────────────── once per layer ──────────┘
//	x ───── RMSNorm, Linear ► logits [vocab]              a score for each token that may come next
//	logits  sample.go ──────► id, and around again        softmax makes probabilities of the scores
//
// x is the residual stream: every layer reads it and adds to it, none replaces it.
//
// # Names
//
// Matrices lie row after row in one slice, and [a, b] after a name says that it has
// a rows of b numbers. There is one text at a time, so no dimension for a batch.
//
//	seq, past        tokens of this call, and tokens before them, which are in the cache
//	pos              a token's place in its text, from 0: past + its place in the call
//	vocab            number of tokens that the model knows
//	hidden           numbers that x has for each token
//	heads, kvHeads   query heads; key/value heads, each of which serves group = heads/kvHeads query heads
//	headDim          numbers of one head
//	intermediate     numbers of a token inside the FFN
//	eps, theta       constants of RMSNorm and of RoPE
//
// # Reading order
//
//   - qwen.go: this map, then [Model.Forward] and block
//   - rmsnorm.go: the smallest component
//   - linear.go: where the time goes
//   - rope.go: how a token knows its place
//   - attention.go: how tokens look at each other; grouped queries; causality
//   - ffn.go: the gate
//   - cache.go, generate.go: prefill and decode
//   - config.go, load.go, file.go, safetensors.go, json.go: from a folder to a Model
//   - tokenizer.go, split.go, tokenizer_load.go, chat.go: from text to ids, and from a conversation to text
//   - sample.go: from logits to the next id
//   - trace.go: looking at every intermediate
//   - diagnose.go, mistakes.go, report.go, page.go: a tool that says what is wrong with
//     another implementation, and why
//   - kernel.go, simd_amd64.go and .s, simd_arm64.go and .s: the arithmetic that takes the time
//   - parallel.go: all cores, without waking threads two hundred times a token
//   - qwen_test.go: each function held against PyTorch
//
// Up to trace.go this is a textbook, which goes on at kernel.go. The tool between the two
// is long, and nothing else needs it. Every file opens with the problem it solves and ends
// its header with "Next:".
//
// # Use
//
//	m, err := qwen.Load("Qwen3-0.6B") // a folder as published on Hugging Face
//	…
//	for token, err := range m.Chat(ctx, []qwen.Message{{Role: "user", Content: "Hello"}}, qwen.Options{}) {
//		…
//		fmt.Print(token.Text)
//	}
//
// A [Model] serves many goroutines at once; each conversation has a [Cache] of its own.
// Another implementation of the network is judged by what it computed on the way:
// [ReadRecording], then [Compare].
//
// # What is left out
//
// Quantised weights, sliding windows, mixtures of experts: [Load] refuses a checkpoint that
// needs one of them. Tools: [Model.Chat] refuses their messages. Training. Batches: run goroutines
// instead, which share the weights.
package qwen

// Next: rmsnorm.go

import (
	"errors"
	"fmt"
	"sync"
)

// A Model is a loaded checkpoint: its config, its weights as they lie in the
// file, its tokenizer. Only Close changes it, so many goroutines can use one.
type Model struct {
	Config    Config
	Tokenizer *Tokenizer // nil if the folder has no tokenizer.json
	Template  Template   // how a conversation is written
	Embed     Matrix     // model.embed_tokens.weight [vocab, hidden]
	Layers    []Layer
	Norm      []float32 // model.norm.weight [hidden]
	Head      Matrix    // lm_head.weight [vocab, hidden], or Embed if they are tied

	rotary  Rotary       // how fast RoPE turns each pair of numbers
	tensors []Tensor     // what Tensors returns
	used    int          // how many of them, from the first, a forward pass reads
	mu      sync.RWMutex // held for reading while the weights are in use
	closed  bool
	release []func() error // unmap the files
}

// A Layer holds the weights of one block, model.layers.N.
type Layer struct {
	InputNorm []float32 // input_layernorm.weight [hidden]
	Attention AttentionWeights
	PostNorm  []float32 // post_attention_layernorm.weight [hidden]: it comes after attention and before the FFN
	FFN       FFNWeights
}

// ErrContextFull says that a text is longer than the model's context,
// Config.MaxPositions tokens.
var ErrContextFull = errors.New("qwen: context is full")

// Forward runs tokens through the network and returns the logits of the token
// that follows the last of them, [vocab], which the caller may keep and change. The
// tokens continue what the cache holds, and are added to it: a whole prompt at once
// (prefill), pieces of it, or one token at a time (decode) give the same logits.
//
// It returns an error if there are no tokens, an id is not in the vocabulary,
// the cache belongs to another model, the context is full ([ErrContextFull]), the
// model is closed ([ErrClosed]), its file was cut short ([ErrFileChanged]), or the logits
// are not finite ([ErrNotFinite]). The cache is then as it was.
func (m *Model) Forward(tokens []int, cache *Cache) ([]float32, error) {
	return m.forward(tokens, cache, nil)
}

// forward is Forward, with see shown every intermediate. see is nil, and its lines do
// nothing, unless somebody watches (Model.Trace): on a first reading skip every line that
// begins with see. When it is not nil, the logits of all tokens are computed, and the
// last's returned.
//
// Linear and Embed are in linear.go, Angles in rope.go.
func (m *Model) forward(tokens []int, cache *Cache, see Trace) (logits []float32, err error) {
	m.mu.RLock() // Close waits
	defer m.mu.RUnlock()
	defer catchFault(&err)() // the file of weights may be cut short meanwhile: see file.go
	if err := m.checkInput(tokens, cache); err != nil {
		return nil, err
	}
	c := m.Config

	x := Embed(tokens, m.Embed) // [seq, hidden]
	see.step("model.embed_tokens", x, c.Hidden)
	cos, sin := m.rotary.Angles(cache.Len(), len(tokens)) // [seq, headDim/2]
	for i := range m.Layers {
		x = m.block(x, i, cos, sin, cache, see.layer(i)) // [seq, hidden]; after the last layer what is wanted of it
	}

	x = RMSNorm(x, m.Norm, c.Eps)
	see.step("model.norm", x, c.Hidden)
	logits = Linear(x, m.Head, nil) // [1, vocab], or [seq, vocab] for see
	see.step("lm_head", logits, c.Vocab)

	logits = logits[len(logits)-c.Vocab:]
	if err := m.checkFinite(logits); err != nil {
		return nil, err
	}
	cache.tokens = append(cache.tokens, tokens...)
	return logits, nil
}

// block is one layer: attention and FFN, each on the normed stream, each added
// to the stream x, [seq, hidden], in place. It returns x, or what is wanted of it.
// m.attention is in attention.go, FFN and residual are in ffn.go. recycle keeps memory for the
// next call: skip it, as see.
func (m *Model) block(x []float32, i int, cos, sin []float32, cache *Cache, see Trace) []float32 {
	l, hidden := m.Layers[i], m.Config.Hidden
	h := RMSNorm(x, l.InputNorm, m.Config.Eps)
	see.step("input_layernorm", h, hidden)
	x = residual(m.wanted(x, i, see), m.attention(h, i, cos, sin, cache, see))
	recycle(h)
	see.step("attn_residual", x, hidden)

	h = RMSNorm(x, l.PostNorm, m.Config.Eps)
	see.step("post_attention_layernorm", h, hidden)
	x = residual(x, FFN(h, l.FFN, see))
	recycle(h)
	see.step("", x, hidden) // the block's output has no name but its layer's, which see puts before all of these
	return x
}

// wanted returns what of x, [seq, hidden], anybody asks for after layer i. Later layers need
// every token, to look at; after the last one only the last token's logits are wanted, unless
// see is shown all. So in the last layer the other tokens need keys and values and nothing
// else: for a long prompt, almost one layer less.
func (m *Model) wanted(x []float32, i int, see Trace) []float32 {
	if i < len(m.Layers)-1 || see != nil {
		return x
	}
	return x[len(x)-m.Config.Hidden:]
}

// checkInput returns what is wrong with the arguments of Forward.
func (m *Model) checkInput(tokens []int, cache *Cache) error {
	switch {
	case m.closed:
		return ErrClosed
	case cache == nil || cache.model != m:
		return errors.New("qwen: the cache was made by another model, expected one of this model's NewCache")
	case len(tokens) == 0:
		return errors.New("qwen: found no tokens, expected at least one")
	case cache.Len()+len(tokens) > m.Config.MaxPositions:
		return fmt.Errorf("%w: found %d tokens, expected at most %d", ErrContextFull, cache.Len()+len(tokens), m.Config.MaxPositions)
	}
	for i, id := range tokens {
		if id < 0 || id >= m.Config.Vocab {
			return fmt.Errorf("qwen: token %d of the input: found id %d, expected 0 to %d", i, id, m.Config.Vocab-1)
		}
	}
	return nil
}
