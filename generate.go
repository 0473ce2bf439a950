package qwen

// Generate is the loop around Forward: run the prompt (prefill), choose a token
// from the logits, run that token (decode), choose the next, until the model
// says stop.
//
//	the prompt    What is Ro PE ?       five tokens at once, RoPE being two: prefill
//	its last token's logits ──► It      the first new token
//	It ──────────────────────► turns    one token at a time: decode
//	turns ───────────────────► pairs    what came before is in the cache
//	…  ──────────────────────► <|im_end|>, a stop id
//
// The two phases have different limits. Prefill reads each weight once for many
// tokens and is bound by arithmetic. Decode reads every weight for one token:
// Qwen3-0.6B in BF16 is 1.2 GB, so memory that delivers 20 GB a second gives at
// most 17 tokens a second, however fast the processor multiplies. A smaller model
// changes that, or fewer bytes for a weight, or several tokens in each pass: those of
// other texts, or guesses of which the pass keeps the right ones.
//
// Two details matter to a program that shows the text. A token is a piece of bytes,
// not of text: an emoji may take three tokens, and half an emoji must not be printed,
// so bytes wait until they are whole characters. And the model may end its answer with
// any of several ids.
//
// Reference: transformers generation/utils.py, GenerationMixin._sample.
//
// Next: config.go

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"unicode/utf8"
)

// Options say how to generate. The zero value is greedy, and goes on to a stop id.
type Options struct {
	MaxTokens  int      // most tokens to generate; 0: up to the context, 40,960 tokens in Qwen3, prompt included
	Sampling   Sampling // how to choose; Model.Config.Sampling is what the authors use
	IgnoreStop bool     // go on after a stop id
	LogProbs   int      // report the log-probabilities of this many most likely tokens
	Cache      *Cache   // continue a conversation: the longest common prefix is not computed again
	Thinking   *bool    // Chat with Qwen3: false asks for an answer without reasoning
}

// A Token is one step of a generation.
type Token struct {
	ID       int
	Text     string    // what can be shown now: whole characters, "" while one is incomplete; special tokens have none
	Finish   string    // on the last token: "stop" (it is a stop id) or "length" (MaxTokens)
	LogProbs []LogProb // of this step, the most likely first, if asked for
}

// A LogProb is a token that could have come, and the logarithm of its
// probability before temperature and filters.
type LogProb struct {
	ID      int
	LogProb float64
}

// Chat answers a conversation: the messages in the model's chat template, then
// Generate. The content of a message cannot forge a turn; see [Tokenizer.EncodeChat].
//
// A Qwen3 model thinks first, in text between <think> and </think>, unless o.Thinking
// points to false.
func (m *Model) Chat(ctx context.Context, messages []Message, o Options) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		prompt, err := m.ChatIDs(messages, o)
		if err != nil {
			yield(Token{}, err)
			return
		}
		m.Generate(ctx, prompt, o)(yield) // an iterator is a function that calls yield
	}
}

// ChatIDs returns the ids that Chat generates from.
func (m *Model) ChatIDs(messages []Message, o Options) ([]int, error) {
	if m.Tokenizer == nil {
		return nil, errors.New("qwen: this model has no tokenizer.json, expected one for Chat")
	}
	return m.Tokenizer.EncodeChat(m.Template, messages, RenderOptions{AddGenerationPrompt: true, Thinking: o.Thinking})
}

// Generate continues prompt, a token at a time. The sequence ends after a stop
// id, after MaxTokens, or with an error: ctx's when it is cancelled, which is
// looked at between tokens; [ErrContextFull] when the context is full; those of
// Forward.
//
// Joined, the texts of all tokens are what [Tokenizer.DecodeText] gives for their ids without the
// special ones and a stop id at the end.
func (m *Model) Generate(ctx context.Context, prompt []int, o Options) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		if err := m.generate(ctx, prompt, o, func(t Token) bool { return yield(t, nil) }); err != nil {
			yield(Token{}, err)
		}
	}
}

// generate is Generate with a yield that reports false when no more is wanted.
func (m *Model) generate(ctx context.Context, prompt []int, o Options, yield func(Token) bool) error {
	if problem := o.check(); problem != "" {
		return fmt.Errorf("qwen: options: %s", problem)
	}
	cache := o.Cache
	if cache == nil {
		cache = m.NewCache()
	}
	next, err := cache.continueWith(m, prompt) // the tokens to run: at first what is new of the prompt
	if err != nil {
		return err
	}
	ids := slices.Clone(prompt) // all so far: the repetition penalty looks at them
	random := rand.New(rand.NewPCG(o.Sampling.Seed, 0))
	text := textStream{t: m.Tokenizer}

	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := m.forwardPieces(ctx, next, cache) // the first round is prefill, each later one a token: decode
		if err != nil {
			return err
		}
		t := Token{ID: o.Sampling.choose(logits, ids, random)} // logits: [vocab]
		if o.LogProbs > 0 {
			t.LogProbs = logProbs(logits, o.LogProbs)
		}
		recycle(logits)
		if !o.IgnoreStop && slices.Contains(m.Config.StopIDs, t.ID) {
			t.Finish, t.Text = "stop", text.rest()
		} else if t.Text = text.add(t.ID); n == o.MaxTokens {
			t.Finish, t.Text = "length", t.Text+text.rest()
		}
		if !yield(t) || t.Finish != "" {
			return nil
		}
		ids = append(ids, t.ID)
		next = ids[len(ids)-1:]
	}
}

// PrefillChunk is how many tokens of a prompt go through the network at once:
// enough that reading the weights costs little for each, few enough that the
// intermediates stay small, such as gate and up: 258 * 3072 float32 each in Qwen3-0.6B,
// 3 MiB. It is a multiple of the 2, 3 or 6 tokens that kernels work on at a time.
// It is exported for benchmarks.
const PrefillChunk = 258

// forwardPieces is Forward of at most PrefillChunk tokens at a time. It looks at ctx
// between the pieces, so that a long prompt can be cancelled.
func (m *Model) forwardPieces(ctx context.Context, tokens []int, cache *Cache) (logits []float32, err error) {
	if len(tokens) > PrefillChunk {
		cache.Reserve(len(tokens))
	}
	for len(tokens) > PrefillChunk {
		logits, err := m.Forward(tokens[:PrefillChunk], cache)
		if err != nil {
			return nil, err
		}
		recycle(logits)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tokens = tokens[PrefillChunk:]
	}
	return m.Forward(tokens, cache)
}

// continueWith takes the cache back to the longest prefix that it has in common
// with prompt and returns the rest of the prompt: at least its last token, whose
// logits are wanted, and logits are not in the cache.
//
//	cache    <|im_start|> user ⏎ Hello <|im_end|> ⏎ <|im_start|> assistant ⏎ Hi
//	prompt   <|im_start|> user ⏎ Hello <|im_end|> ⏎ <|im_start|> assistant ⏎ Hi <|im_end|> ⏎ <|im_start|> user …
//	         └──────────────────── kept, not computed again ─────────────────┘ └───────── returned ─────────
//
// A system message or an answer that was edited meanwhile shows in the ids; nobody has
// to say so.
func (c *Cache) continueWith(m *Model, prompt []int) ([]int, error) {
	m.mu.RLock()
	err := m.checkInput(prompt, &Cache{model: c.model}) // before the cache is touched, and before half of the work is done
	m.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	n := 0
	for n < len(c.tokens) && n < len(prompt)-1 && c.tokens[n] == prompt[n] {
		n++
	}
	c.Truncate(n)
	return prompt[n:], nil
}

// check returns what is wrong with the options, or "".
func (o Options) check() string {
	switch {
	case o.MaxTokens < 0:
		return fmt.Sprintf("MaxTokens: found %d, expected 0 or more", o.MaxTokens)
	case o.LogProbs < 0:
		return fmt.Sprintf("LogProbs: found %d, expected 0 or more", o.LogProbs)
	}
	return o.Sampling.check()
}

// A textStream turns ids into text that ends between characters. In Qwen's
// vocabulary 🦜, bytes F0 9F A6 9C, is two tokens:
//
//	add(123918)    F0 9F A6    → ""      the beginning of a character: wait
//	add(250)       9C          → "🦜"
type textStream struct {
	t       *Tokenizer // nil: no text
	pending []byte     // the beginning of a character
}

// add returns the text that is complete once id has come.
func (s *textStream) add(id int) string {
	if s.t == nil || s.t.Special(id) {
		return ""
	}
	piece, _ := s.t.Bytes(id) // an id that no token has adds nothing
	s.pending = append(s.pending, piece...)
	n := wholeCharacters(s.pending)
	text := toText(s.pending[:n])
	s.pending = append([]byte(nil), s.pending[n:]...)
	return text
}

// rest returns what is left when no more ids come, as U+FFFD where it is half a
// character.
func (s *textStream) rest() string {
	text := toText(s.pending)
	s.pending = nil
	return text
}

// wholeCharacters returns the length of b without the beginning of a character
// at its end that later bytes may complete.
func wholeCharacters(b []byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}
