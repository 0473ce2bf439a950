package qwen

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The recordings are made by testdata/record_tokenizer.py with Hugging Face's tokenizers. One test for each stage, in
// the order in which a text goes through them: the first that fails names the stage that is wrong.

// testFile reads a recording.
func testFile(t testing.TB, name string, value any) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "tokenizer", name))
	if err == nil && value != nil {
		err = json.Unmarshal(data, value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := parseTokenizer(testFile(t, "tokenizer.json", nil))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

type tokenizerCase struct {
	Text    *string // nil: only decoding is recorded
	NFC     *string // nil: the same as Text
	Cuts    []int   // lengths of the pieces of NFC, in bytes
	IDs     []int
	Decoded *string // nil: the same as Text
}

func (c tokenizerCase) normal() string {
	if c.NFC != nil {
		return *c.NFC
	}
	return *c.Text
}

func tokenizerCases(t testing.TB) (cases []tokenizerCase) {
	testFile(t, "cases.json", &cases)
	if len(cases) < 500 {
		t.Fatalf("%d cases", len(cases))
	}
	return cases
}

func TestTokenizerNormalize(t *testing.T) {
	defer answers(t, "normalize")()
	for _, c := range tokenizerCases(t) {
		if c.Text == nil {
			continue
		}
		if got := normalize(*c.Text); got != c.normal() {
			t.Errorf("%+q: got %+q, want %+q", *c.Text, got, c.normal())
		}
	}
}

// Every code point alone, every pair that composes, and the order of every mark against one of each class.
func TestTokenizerNormalizeUnicode(t *testing.T) {
	defer answers(t, "normalize")()
	var want struct {
		Changes [][2]any
		Marks   []rune
		Behind  [][3]int
		Pairs   []string // a pair, a space, its normal form
	}
	testFile(t, "unicode.json", &want)
	changes := map[rune]string{}
	for _, c := range want.Changes {
		changes[rune(c[0].(float64))] = c[1].(string)
	}
	after := make([]int, unicode.MaxRune+1)
	for _, r := range want.Behind {
		for c := r[0]; c <= r[1]; c++ {
			after[c] = r[2]
		}
	}
	for c := range rune(unicode.MaxRune + 1) {
		if !utf8.ValidRune(c) {
			continue
		}
		single, changed := changes[c]
		if !changed {
			single = string(c)
		}
		if got := normalize(string(c)); got != single {
			t.Errorf("%U: got %+q, want %+q", c, got, single)
		}
		if changed {
			continue
		}
		marks := want.Marks[:1] // most characters are no marks: after none
		if after[c] > 0 {
			marks = want.Marks
		}
		n := 0
		for _, m := range marks {
			if s := "q" + string(c) + string(m); normalize(s) != s {
				n++
			}
		}
		if n != after[c] {
			t.Errorf("%U sorts after %d marks, want %d", c, n, after[c])
		}
	}
	for _, p := range want.Pairs {
		pair, want, _ := strings.Cut(p, " ")
		if got := normalize(pair); got != want {
			t.Errorf("%+q: got %+q, want %+q", pair, got, want)
		}
	}
}

// Where x/text itself is right, which is for text of Unicode 9 with short runs of marks, both must agree.
func TestTokenizerNormalizeRandom(t *testing.T) {
	defer answers(t, "normalize")()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		var s strings.Builder
		for range 1 + rng.IntN(12) {
			switch rng.IntN(5) {
			case 0:
				s.WriteRune(0x300 + rune(rng.IntN(0x70)))
			case 1:
				s.WriteRune(0x1100 + rune(rng.IntN(0x100)))
			case 2:
				s.WriteRune(0x900 + rune(rng.IntN(0x500)))
			case 3:
				s.WriteRune(rune(rng.IntN(0x3100)))
			default:
				s.WriteByte("aeiouAEIOU\xff\xc3"[rng.IntN(12)])
			}
		}
		text := s.String()
		got := normalize(text)
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(inert, r) }) {
			continue
		}
		if want := norm.NFC.String(text); got != want {
			t.Fatalf("%+q: got %+q, want %+q", text, got, want)
		}
	}
}

// split returns the pieces of text.
func split(text string) (pieces []string) {
	s := splitter{classes()}
	for len(text) > 0 {
		n := s.next(text, 0)
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	return pieces
}

func TestTokenizerSplit(t *testing.T) {
	defer answers(t, "splitter")()
	for _, c := range tokenizerCases(t) {
		if c.Text == nil {
			continue
		}
		pieces := split(c.normal())
		var cuts []int
		for _, p := range pieces {
			cuts = append(cuts, len(p))
		}
		if !slices.Equal(cuts, c.Cuts) {
			t.Errorf("%q: got %q, want lengths %v", c.normal(), pieces, c.Cuts)
		}
	}
}

// Before more letters a contraction is a piece of its own, which "'real" without
// it would not be. (transformers' Split with the pattern of Qwen gives the same.)
func TestTokenizerContractions(t *testing.T) {
	defer answers(t, "splitter")()
	for _, want := range [][]string{
		{"we", "'re", "ally"}, {"x", "'ve", "x"}, {"y", "'ll", "ama"}, {"I", "'VE", "X"}, {"x", "'lL", "L"}, {"x", "'Re", "r"},
		{"x", "'s", "ad"}, {"x", "'T", "o"}, {"x", "'m", "a"}, {"x", "'d", "o"}, {"x", "'ſ", "o"},
		{"x", "'ra"}, {"x", "'la"}, {"x", "'vox"}, {"x", "'eel"}, {"x", "'lel"},
	} {
		if got := split(strings.Join(want, "")); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The class of every code point.
func TestTokenizerSplitUnicode(t *testing.T) {
	defer answers(t, "splitter")()
	var want struct{ Classes [][3]int }
	testFile(t, "unicode.json", &want)
	table := make([]class, unicode.MaxRune+1)
	for _, r := range want.Classes {
		for c := r[0]; c <= r[1]; c++ {
			table[c] = []class{isSymbol, isLetter, isNumber, isSpace}[r[2]]
		}
	}
	table['\n'], table['\r'] = isNewline, isNewline
	for c, want := range table {
		if got := classes()[c]; got != want {
			t.Errorf("%U: class %d, want %d", c, got, want)
		}
	}
}

// slowMerge is byte-pair encoding as the definition reads: look at all pairs, join the best one, begin again.
func slowMerge(t *Tokenizer, piece string) (ids []int) {
	for i := range len(piece) {
		if id := t.byteID[piece[i]]; id >= 0 {
			ids = append(ids, int(id))
		}
	}
	for {
		best, at := noRank, -1
		for i := 0; i+1 < len(ids); i++ {
			if rank := t.pairs.rank(int32(ids[i]), int32(ids[i+1])); rank < best {
				best, at = rank, i
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = int(t.merged[best])
		ids = slices.Delete(ids, at+1, at+2)
	}
}

func TestTokenizerMerge(t *testing.T) {
	defer answers(t, "encoder")()
	tok := testTokenizer(t)
	e := &encoder{t: tok, splitter: splitter{classes()}}
	check := func(piece string) {
		want := slowMerge(tok, piece)
		if got := e.merge(nil, piece); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", piece, got, want)
		}
		for range 2 { // the second time from the cache
			if got := e.piece([]int{-1}, piece); !slices.Equal(got[1:], want) {
				t.Errorf("%q as a piece: got %v, want %v", piece, got[1:], want)
			}
		}
	}
	// Pieces that are alike in their first bytes are not taken for each other.
	for _, run := range []string{"abcdefghij", "=", "-=", "ing"} { // some have so few ids that the cache keeps them
		for _, n := range []int{2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 70} {
			word := strings.Repeat(run, 80)[:n]
			for _, piece := range []string{word, word[:n-1] + "*", word + "\x00", word[:n-1] + "e", word + "+", word} {
				check(piece)
			}
		}
	}
	for _, c := range tokenizerCases(t) {
		if c.Text == nil {
			continue
		}
		for _, piece := range split(c.normal()) {
			check(piece)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		piece := make([]byte, 1+rng.IntN(40))
		alphabet := []string{"ab", "the and", "etaoinshrdlu", "\xe4\xb8\xad\xe6\x96\x87"}[rng.IntN(4)]
		for i := range piece {
			piece[i] = alphabet[rng.IntN(len(alphabet))]
		}
		check(string(piece))
	}
}

func TestTokenizerEncode(t *testing.T) {
	defer answers(t, "Tokenizer.Encode")()
	tok := testTokenizer(t)
	for _, c := range tokenizerCases(t) {
		if c.Text == nil {
			continue
		}
		got, err := tok.Encode(*c.Text)
		if err != nil || !slices.Equal(got, c.IDs) {
			t.Errorf("%q: got %v %v, want %v", *c.Text, got, err, c.IDs)
		}
	}
}

func TestTokenizerDecode(t *testing.T) {
	defer answers(t, "Tokenizer.Decode")()
	tok := testTokenizer(t)
	for _, c := range tokenizerCases(t) {
		want := c.Decoded
		if want == nil {
			want = c.Text
		}
		if got := tok.DecodeText(c.IDs); got != *want {
			t.Errorf("%v: got %q, want %q", c.IDs, got, *want)
		}
		var joined []byte
		for _, id := range c.IDs {
			b, ok := tok.Bytes(id)
			if ok != (id >= 0 && id < tok.Len()) {
				t.Errorf("Bytes(%d): %v", id, ok)
			}
			joined = append(joined, b...)
		}
		if string(joined) != tok.Decode(c.IDs) {
			t.Errorf("%v: the tokens' bytes %q are not the text %q", c.IDs, joined, tok.Decode(c.IDs))
		}
	}
	if _, ok := tok.Bytes(-1); ok || tok.Decode([]int{-1, tok.Len(), 1 << (bits.UintSize * 5 / 8)}) != "" {
		t.Error("an id that no token has is decoded")
	}
	if id, ok := tok.ID("<|im_end|>"); !ok || !tok.Special(id) {
		t.Error("<|im_end|> is not a special token")
	}
	if id, ok := tok.ID("<think>"); !ok || tok.Special(id) || tok.Special(-1) || tok.Special(5) {
		t.Error("<think> is no special token, nor are others")
	}
	if _, ok := tok.ID("the"); ok {
		t.Error("an ordinary token passes for an added one")
	}
}

// Any bytes at all: what is encoded is decoded to its normal form.
func TestTokenizerRoundTrip(t *testing.T) {
	defer answers(t, "Tokenizer.Encode")()
	tok := testTokenizer(t)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 3000 {
		text := make([]byte, rng.IntN(60))
		for j := range text {
			if text[j] = byte(rng.Uint32()); i%3 == 0 && text[j] >= 0x80 {
				text[j] = "\xcc\x81\xe4\xb8\xad\xf0\x9f\x98\x80\xff"[rng.IntN(10)]
			}
		}
		ids, err := tok.Encode(string(text))
		if want := normalize(string(text)); err != nil || tok.Decode(ids) != want {
			t.Fatalf("%q: decoded %q, want %q", text, tok.Decode(ids), want)
		}
	}
}

// A megabyte in one piece, or of marks, or of beginnings of added tokens, takes no more than its share of time.
// Anything quadratic would take minutes.
func TestTokenizerLongPieces(t *testing.T) {
	defer answers(t, "Tokenizer.Encode")()
	tok := testTokenizer(t)
	size := 1 << 20
	if testing.Short() {
		size = 1 << 14
	}
	for _, unit := range []string{"a", " ", "\n", "=", "7", "中", "ab", "the", " \n", "\u0301", "\u0316\u0301", "a\u0301", "<", "<|im_", "<|im_start|>", "'", "\xff", "\u1161", "\U0001F468\u200d"} {
		text := strings.Repeat(unit, size/len(unit))
		start := time.Now()
		ids, err := tok.Encode(text)
		took := time.Since(start)
		if err != nil || tok.Decode(ids) != normalize(text) {
			t.Errorf("%q: %v", unit, err)
		}
		t.Logf("1 MiB of %-14q %8d ids  %v", unit, len(ids), took.Round(time.Millisecond))
		if took > 5*time.Second {
			t.Errorf("1 MiB of %q takes %v", unit, took)
		}
	}
}

func TestTokenizerGoroutines(t *testing.T) {
	defer answers(t, "Tokenizer.Encode")()
	tok, cases := testTokenizer(t), tokenizerCases(t)
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range cases {
				c := cases[(i*7+g*31)%len(cases)]
				if c.Text == nil {
					continue
				}
				if got, _ := tok.Encode(*c.Text); !slices.Equal(got, c.IDs) {
					t.Errorf("%q: got %v, want %v", *c.Text, got, c.IDs)
				}
			}
		})
	}
	wait.Wait()
}

// smallTokenizer returns a tokenizer.json with the 256 bytes and three more tokens, with edits: old text, new text, …
func smallTokenizer(edits ...string) string {
	var vocab strings.Builder
	for b, letter := range byteLetters() {
		name, _ := json.Marshal(string(letter))
		fmt.Fprintf(&vocab, "%s:%d,", name, b)
	}
	pattern, _ := json.Marshal(qwenPattern)
	text := `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[` +
		`{"id":259,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},` +
		`{"id":260,"content":"<é>","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}],` +
		`"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[` +
		`{"type":"Split","pattern":{"Regex":` + string(pattern) + `},"behavior":"Isolated","invert":false},` +
		`{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]},` +
		`"post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true},` +
		`"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":null,` +
		`"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,` +
		`"vocab":{` + vocab.String() + `"ab":256,"bc":257,"abc":258},"merges":["b c","a b","a bc"]}}`
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			panic("no " + edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return text
}

func TestTokenizerLoad(t *testing.T) {
	defer answers(t, "LoadTokenizer")()
	const merges = `,"merges":["b c","a b","a bc"]`
	for _, test := range []struct {
		name, text string
		want       []int
		edits      []string
	}{
		{"as it is", "xabc ab <x>", []int{'x', 258, ' ', 256, ' ', 259}, nil},
		{"by rank, not by length", "aabcc", []int{'a', 258, 'c'}, nil},
		{"normal form of an added token", "a<e\u0301>", []int{'a', 260}, nil},
		{"a token that no merge makes", "abc", []int{'a', 257}, []string{`,"a bc"`, ``}},
		{"ignore_merges", "abc xabc", []int{258, ' ', 'x', 'a', 257}, []string{`,"a bc"`, ``, `"ignore_merges":false`, `"ignore_merges":true`}},
		{"fields that change nothing", "ab", []int{256}, []string{`"trim_offsets":false`, `"trim_offsets":true`, `"fuse_unk":false`, `"fuse_unk":true`, `"ignore_merges":false`, `"ignore_merges":null`,
			`"Sequence"`, `"Sequence","note":1`, `"dropout":null`, `"dropout":0.0`, `"vocab":`, `"more":[{}],"vocab":`, `"post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false}`, `"post_processor":null`}},
		{"fields left out", "ab", []int{256}, []string{`"truncation":null,"padding":null,`, ``, `"byte_fallback":false,"ignore_merges":false,`, ``,
			`"dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":null,`, ``}},
		{"merges before the vocabulary", "xabc", []int{'x', 258}, []string{merges, ``, `"type":"BPE"`, `"type":"BPE"` + merges}},
		{"merges as pairs", "xabc ab", []int{'x', 258, ' ', 256}, []string{`["b c","a b","a bc"]`, `[["b","c"],["a","b"],["a","bc"]]`}},
		{"an old first line", "xabc", []int{'x', 258}, []string{`["b c"`, `["#version: 0.2","b c"`}},
		{"ids with gaps", "bc<x>", []int{40000, 259}, []string{`"bc":257`, `"bc":40000`}},
		{"a byte without a token is dropped", "aéb<x>", []int{'a', 0xA9, 'b', 258}, []string{`"Ã":195,`, ``, `"abc":258`, `"abc":195`, `:259`, `:258`, `:260`, `:259`}},
		{"an added token of the vocabulary", "zabc", []int{'z', 258}, []string{`:259`, `:258`, `"<x>"`, `"abc"`, `:260`, `:259`, `,"a bc"`, ``}},
	} {
		tok, err := parseTokenizer([]byte(smallTokenizer(test.edits...)))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got, err := tok.Encode(test.text); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q: got %v %v, want %v", test.name, test.text, got, err, test.want)
		}
	}
}

func TestTokenizerLoadErrors(t *testing.T) {
	defer answers(t, "parseTokenizer")()
	for _, test := range []struct {
		want  string
		edits []string
	}{
		{`version: found "2.0", expected "1.0"`, []string{`"1.0"`, `"2.0"`}},
		{`more: found an unknown field, expected none`, []string{`"version"`, `"more":[{}],"version"`}},
		{`truncation: found a setting that changes the ids of a text, expected null`, []string{`"truncation":null`, `"truncation":{"max_length":5}`}},
		{`padding: found a setting that changes the ids of a text, expected null`, []string{`"padding":null`, `"padding":{}`}},
		{`normalizer.type: found "NFKC", expected "NFC"`, []string{`"NFC"`, `"NFKC"`}},
		{`normalizer: found null, expected NFC`, []string{`{"type":"NFC"}`, `null`}},
		{`Normalizer: found an unknown field, expected none`, []string{`"normalizer"`, `"Normalizer"`}},
		{`found no field normalizer, expected one`, []string{`"normalizer":{"type":"NFC"},`, ``}},
		{`found no field model, expected one`, []string{smallTokenizer()[strings.Index(smallTokenizer(), `,"model":`):], `}`}},
		{`normalizer: found no field type, expected one`, []string{`{"type":"NFC"}`, `{}`}},
		{`pre_tokenizer.type: found "Whitespace", expected "Sequence"`, []string{`"Sequence"`, `"Whitespace"`}},
		{`pre_tokenizer.pretokenizers[0].pattern.Regex: found "…}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+…", expected "…}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(…"`, []string{`|\\p{N}| `, `|\\p{N}{1,3}| `}},
		{`pre_tokenizer.pretokenizers[0].pattern.String: found a pattern of another kind, expected Regex`, []string{`"Regex"`, `"String"`}},
		{`pre_tokenizer.pretokenizers[0].behavior: found "Removed", expected "Isolated"`, []string{`"Isolated"`, `"Removed"`}},
		{`pre_tokenizer.pretokenizers[0].invert: found true, which is not supported, expected false`, []string{`"invert":false`, `"invert":true`}},
		{`pre_tokenizer.pretokenizers[1].add_prefix_space: found true, which is not supported, expected false`, []string{`"add_prefix_space":false`, `"add_prefix_space":true`}},
		{`pre_tokenizer.pretokenizers[1]: found no field use_regex, which means true, expected false`, []string{`,"use_regex":false`, ``}},
		{`pre_tokenizer.pretokenizers: found 3 steps, expected two: Split and ByteLevel`, []string{`"use_regex":false}`, `"use_regex":false},{"type":"Digits"}`}},
		{`post_processor.type: found "TemplateProcessing", expected "ByteLevel"`, []string{`"post_processor":{"type":"ByteLevel"`, `"post_processor":{"type":"TemplateProcessing"`}},
		{`decoder.type: found "WordPiece", expected "ByteLevel"`, []string{`"decoder":{"type":"ByteLevel"`, `"decoder":{"type":"WordPiece"`}},
		{`model.type: found "Unigram", expected "BPE"`, []string{`"BPE"`, `"Unigram"`}},
		{`model.dropout: found a setting that is not supported, expected null`, []string{`"dropout":null`, `"dropout":0.1`}},
		{`model.unk_token: found a setting that is not supported, expected null`, []string{`"unk_token":null`, `"unk_token":"<unk>"`}},
		{`model.continuing_subword_prefix: found a setting that is not supported, expected null`, []string{`prefix":""`, `prefix":"##"`}},
		{`model.end_of_word_suffix: found a setting that is not supported, expected null`, []string{`suffix":null`, `suffix":"</w>"`}},
		{`model.byte_fallback: found a setting that is not supported, expected null`, []string{`"byte_fallback":false`, `"byte_fallback":true`}},
		{`model.vocab.ab: found 1.0, expected an integer`, []string{`:256`, `:1.0`}},
		{`model.vocab.ab: found -1, expected an id of 0 to 65535`, []string{`:256`, `:-1`}},
		{`model.vocab.ab: found 4000000000, expected an id of 0 to 65535`, []string{`:256`, `:4000000000`}},
		{`model.vocab.bc: found id 256 a second time, expected each id once`, []string{`:257`, `:256`}},
		{`model.vocab.ab: found this key a second time, expected each key once`, []string{`"bc":257`, `"ab":257`}},
		{`model.vocab: found no tokens, expected some`, []string{smallTokenizer()[strings.Index(smallTokenizer(), `"vocab":{`):], `"vocab":{},"merges":[]}}`}},
		{`model.merges: found none, expected some for a vocabulary of 259 tokens`, []string{`["b c","a b","a bc"]`, `[]`}},
		{`model.merges[0]: found "bc", expected two tokens with a space between`, []string{`"b c"`, `"bc"`}},
		{`model.merges[0]: found "a b c", expected two tokens with a space between`, []string{`"b c"`, `"a b c"`}},
		{`model.merges[0]: found 1 tokens, expected two`, []string{`"b c","a b","a bc"`, `["b"]`}},
		{`model.merges[1]: found 3 tokens, expected two`, []string{`"b c","a b","a bc"`, `["a","b"],["a","b","c"]`}},
		{`model.merges[0][1]: found a number, expected a string`, []string{`"b c","a b","a bc"`, `["a",1]`}},
		{`model.merges[0]: found a number, expected a string`, []string{`"b c"`, `1`}},
		{`model.merges[1]: found an array, expected a string`, []string{`"a b"`, `["a","b"]`}},
		{`model.merges[1]: found a string, expected an array`, []string{`"b c"`, `["b","c"]`}},
		{`model.merges[2]: found "bcd", expected a token of the vocabulary`, []string{`"a bc"`, `"a bcd"`}},
		{`model.merges[2]: found "zz", expected a token of the vocabulary`, []string{`"a bc"`, `"zz bc"`}},
		{`model.merges[2]: found "bca", expected the joined pair in the vocabulary`, []string{`"a bc"`, `"bc a"`}},
		{`model.merges[2]: found "a" and "b" a second time, expected each pair once`, []string{`"a bc"`, `"a b"`}},
		{`added_tokens[0].id: found 300, expected 259: its id in the vocabulary, or the next after all before it`, []string{`:259`, `:300`}},
		{`added_tokens[0].id: found 259, expected 256: its id in the vocabulary, or the next after all before it`, []string{`"<x>"`, `"ab"`}},
		{`added_tokens[1].content: found "<x>" a second time, expected each token once`, []string{`"<é>"`, `"<x>"`}},
		{`added_tokens[1].content: found 0 bytes, expected 1 to 512`, []string{`"<é>"`, `""`}},
		{`added_tokens[1].content: found 600 bytes, expected 1 to 512`, []string{`"<é>"`, `"` + strings.Repeat("x", 600) + `"`}},
		{`added_tokens[0].lstrip: found true, which is not supported, expected false`, []string{`"lstrip":false`, `"lstrip":true`}},
		{`added_tokens[0].rstrip: found true, which is not supported, expected false`, []string{`"rstrip":false`, `"rstrip":true`}},
		{`added_tokens[0].single_word: found true, which is not supported, expected false`, []string{`"single_word":false`, `"single_word":true`}},
		{`added_tokens[0]: found no field special, expected one`, []string{`,"special":true`, ``}},
		{`added_tokens[1].id: found 260 a second time, expected each id once`, []string{`:257`, `:260`}},
		{`found the end of the file, expected a value`, []string{smallTokenizer(), ``}},
	} {
		_, err := parseTokenizer([]byte(smallTokenizer(test.edits...)))
		if err == nil {
			err = errors.New("no error")
		}
		if text := err.Error(); text != test.want {
			t.Errorf(" got %s\nwant %s", text, test.want)
		}
	}
	twice := smallTokenizer(`"content":"<x>"`, `"content":"<e\u0301>"`, `"normalized":false`, `"normalized":true`)
	if _, err := parseTokenizer([]byte(twice)); err == nil || !strings.Contains(err.Error(), "in normal form the same as another") {
		t.Errorf("two added tokens of one normal form: %v", err)
	}
}

// A file cut short, or with one bit changed, is an error or a tokenizer that works: never a panic.
func TestTokenizerLoadDamaged(t *testing.T) {
	defer answers(t, "LoadTokenizer")()
	text := smallTokenizer()
	for n := range len(text) {
		if _, err := parseTokenizer([]byte(text[:n])); err == nil {
			t.Fatalf("accepted when cut to %d bytes", n)
		}
	}
	for i := 0; i < len(text); i += 3 {
		data := []byte(text)
		data[i] ^= 1 << (i % 8)
		if tok, err := parseTokenizer(data); err == nil {
			tok.Encode("xabc <x> \x00 é")
		} else if len(err.Error()) > 2000 {
			t.Fatalf("message of %d bytes", len(err.Error()))
		}
	}
}

// TestTokenizerPublished compares a published tokenizer with Hugging Face on many megabytes. It needs two files that
// are too large to keep here: QWEN_TOKENIZER names a tokenizer.json, QWEN_TOKENIZER_CASES what
// "record_tokenizer.py big" made with it: for each text its length, the text, the number of ids, the ids (uint32).
func TestTokenizerPublished(t *testing.T) {
	file, cases := os.Getenv("QWEN_TOKENIZER"), os.Getenv("QWEN_TOKENIZER_CASES")
	if file == "" || cases == "" {
		t.Skip("QWEN_TOKENIZER and QWEN_TOKENIZER_CASES are not set")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := parseTokenizer(data)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(cases); err != nil {
		t.Fatal(err)
	}
	uint32s := func() int {
		n := binary.LittleEndian.Uint32(data)
		data = data[4:]
		return int(n)
	}
	texts, size, differences := 0, 0, 0
	var spent time.Duration
	for len(data) > 0 {
		n := uint32s()
		text := string(data[:n])
		data = data[n:]
		want := make([]int, uint32s())
		for i := range want {
			want[i] = uint32s()
		}
		start := time.Now()
		got, err := tok.Encode(text)
		spent += time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		texts, size = texts+1, size+n
		if slices.Equal(got, want) {
			continue
		}
		if differences++; differences <= 10 {
			i := 0
			for i < min(len(got), len(want)) && got[i] == want[i] {
				i++
			}
			t.Errorf("id %d: got %v, want %v, after %q", i, got[i:min(i+5, len(got))], want[i:min(i+5, len(want))], tok.Decode(want[max(0, i-5):i]))
		}
	}
	t.Logf("%d texts, %d bytes: %d differences; %.1f MB/s", texts, size, differences, float64(size)/1e6/spent.Seconds())
}

// QWEN_TOKENIZER names a tokenizer.json to measure with; without it, the small one is used.
func benchmarkFile(b *testing.B) []byte {
	if file := os.Getenv("QWEN_TOKENIZER"); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	return testFile(b, "tokenizer.json", nil)
}

func BenchmarkTokenizerLoad(b *testing.B) {
	data := benchmarkFile(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := parseTokenizer(data); err != nil {
			b.Fatal(err)
		}
	}
}

// The text is this package's own source and documents, or the file that QWEN_TOKENIZER_TEXT names.
func BenchmarkTokenizerEncode(b *testing.B) {
	tok, err := parseTokenizer(benchmarkFile(b))
	if err != nil {
		b.Fatal(err)
	}
	files, _ := filepath.Glob("*.[gm][od]")
	if file := os.Getenv("QWEN_TOKENIZER_TEXT"); file != "" {
		files = []string{file}
	}
	var text strings.Builder
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		text.Write(data)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := tok.Encode(text.String()); err != nil {
			b.Fatal(err)
		}
	}
}

// Seeds are short, or the fuzzer spends its time on making its finds smaller (see also -fuzzminimizetime).
func FuzzTokenizerLoad(f *testing.F) {
	full := smallTokenizer(":259", ":8", ":260", ":9")
	vocab := full[strings.Index(full, `"vocab":{`):strings.Index(full, `"ab":256`)]
	edit := strings.NewReplacer(vocab, `"vocab":{"a":0,"b":1,"c":2,"x":3,"Ġ":4,`, `:256`, `:5`, `:257`, `:6`, `:258`, `:7`)
	f.Add([]byte(edit.Replace(full)))
	f.Add([]byte(strings.ReplaceAll(edit.Replace(full), `"b c","a b","a bc"`, `["b","c"],["a","b"],["a","bc"]`)))
	if _, err := parseTokenizer([]byte(edit.Replace(full))); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := parseTokenizer(data)
		if err != nil {
			if len(err.Error()) > 2000 {
				t.Fatalf("message of %d bytes", len(err.Error()))
			}
			return
		}
		for _, text := range []string{"xabc <x> \x00 é e\u0301", string(data[:min(len(data), 300)])} {
			ids, err := tok.Encode(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				if _, ok := tok.Bytes(id); !ok {
					t.Fatalf("id %d of %q has no token", id, text)
				}
			}
			tok.Decode(ids)
		}
	})
}

func FuzzEncodeDecode(f *testing.F) {
	tok := testTokenizer(f)
	for _, text := range []string{"Hello, world! It's 42.", "e\u0301\u0323 한국 <|im_start|>x\r\n\r\n  y", "\xff\xc3\x00'ſ", "<think>\u0301"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		var joined []byte
		for _, id := range ids {
			b, ok := tok.Bytes(id)
			if !ok {
				t.Fatalf("id %d has no token", id)
			}
			joined = append(joined, b...)
		}
		if string(joined) != tok.Decode(ids) {
			t.Fatalf("the tokens' bytes %q are not the text %q", joined, tok.Decode(ids))
		}
		if strings.Join(split(text), "") != text {
			t.Fatalf("pieces %q do not join to the text", split(text))
		}
		// Without added tokens the text comes back in normal form; with them, the stretches between do.
		if plain := tok.encode(nil, text, func(int) bool { return false }); tok.Decode(plain) != normalize(text) {
			t.Fatalf("%q: decoded %q, want %q", text, tok.Decode(plain), normalize(text))
		}
		if again := normalize(normalize(text)); again != normalize(text) {
			t.Fatalf("%+q: normal form %+q has normal form %+q", text, normalize(text), again)
		}
	})
}
