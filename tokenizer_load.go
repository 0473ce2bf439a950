package qwen

// Reading tokenizer.json.
//
//	{
//	  "version": "1.0", "truncation": null, "padding": null,
//	  "added_tokens": [{"id": 151645, "content": "<|im_end|>", "special": true, …}, …],
//	  "normalizer": {"type": "NFC"},
//	  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
//	      {"type": "Split", "pattern": {"Regex": "(?i:'s|…"}, "behavior": "Isolated", "invert": false},
//	      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false, …}]},
//	  "post_processor": {"type": "ByteLevel", …}, "decoder": {"type": "ByteLevel", …},
//	  "model": {"type": "BPE", "vocab": {"!": 0, …, "Ġthe": 279, …}, "merges": ["Ġ t", …] or [["Ġ","t"], …], …}
//	}
//
// Where vocab and merges come from: training begins with the 256 bytes as tokens, counts every two neighbours in a large
// text, makes the most frequent pair a token, and counts again. The pair joined first has rank 0. Of Qwen's:
//
//	rank    pair       becomes   id
//	0       Ġ  Ġ       ĠĠ        256       two spaces: code is indented
//	1       ĠĠ ĠĠ      ĠĠĠĠ      257
//	2       i  n       in        258
//	3       Ġ  t       Ġt        259       a word that begins with t
//	14      Ġt h       Ġth       270
//	23      Ġth e      Ġthe      279
//	…                                      each rank one token: ids end at 256 + 151386 = 151642
//
// So a merge is two tokens whose joined spelling is a token, and its place in the list is its rank. Added tokens were
// never joined: they are put in afterwards, <|endoftext|> at 151643, <|im_start|> at 151644, and so on. Hugging Face
// gives them these ids whatever the file says, and a file that says otherwise is refused.
//
// Whatever could change an id and is not as above is refused by name. What cannot change one is accepted: trim_offsets,
// fuse_unk, unknown fields inside the sections.
//
//	{"dictionary": {}}                              dictionary: found an unknown field, expected none
//	{"added_tokens": [{"id": 0, "content": ""}]}    added_tokens[0].content: found 0 bytes, expected 1 to 512
//	{"normalizer": {"type": "Lowercase"}}           normalizer.type: found "Lowercase", expected "NFC"
//	{"truncation": {"max_length": 512}}             truncation: found a setting that changes the ids of a text, expected null
//	{"decoder": {"type": "WordPiece"}}              decoder.type: found "WordPiece", expected "ByteLevel"
//	{"model": {"type": "Unigram"}}                  model.type: found "Unigram", expected "BPE"
//	{"model": {"vocab": {"a": -1}}}                 model.vocab.a: found -1, expected an id of 0 to 65535
//	{"model": {"merges": ["a b c"]}}                model.merges[0]: found "a b c", expected two tokens with a space between
//	{"pre_tokenizer": {"type": "Whitespace"}}       pre_tokenizer.type: found "Whitespace", expected "Sequence"
//
// Why so strict? A tokenizer that is a little wrong does not fail. It gives ids that spell the same text, the model has
// never seen that text spelled so, and answers worse than it could; nobody gets a message. Each check below stands for a
// way in which this has happened: merges in a form that the reader did not know and skipped, a split pattern of the
// family next door, a setting left over from the last program, an added token that swallows the space before it.
//
// Limits: ids below 2,097,152, and at most 524,288 tokens and as many merges. Ids need not be contiguous, but none may
// reach past 65,536 and the length of the file in bytes: tables are indexed by id, and a file cannot ask for more than
// it pays for.
//
// Reference: tokenizers 0.23, tokenizer/serialization.rs, models/bpe/serialization.rs and model.rs (BpeBuilder.build).
// Next: chat.go

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const maxAddedBytes = 1 << 20 // of all added tokens, each of which is a node of a matcher; Qwen3's have 340

const maxEntries = 1 << 19 // tokens, and merges; published checkpoints have 151,643 and 151,387

// tokenizer reads tokenizer.json, all of it at once: 11 MB in Qwen3's checkpoints and 7 in Qwen2.5's, of which the
// spellings of the tokens and the merges are nearly everything.
func (f folder) tokenizer() (*Tokenizer, error) {
	data, err := f.read("tokenizer.json", maxTokenizerFile)
	if err != nil {
		return nil, err
	}
	t, err := parseTokenizer(data)
	if err != nil {
		return nil, inFile(f.path("tokenizer.json"), ErrTokenizer, err)
	}
	return t, nil
}

// LoadTokenizer reads tokenizer.json of dir; a folder without weights will do, for a program that only counts tokens.
func LoadTokenizer(dir string) (*Tokenizer, error) { return folder{dir: dir}.tokenizer() }

// LoadTokenizerFS is LoadTokenizer for a file system.
func LoadTokenizerFS(fsys fs.FS) (*Tokenizer, error) {
	if fsys == nil {
		return nil, errNoFS()
	}
	return folder{".", fsys}.tokenizer()
}

// tokenizerFile is what tokenizer.json says, with everything checked that can be checked on the spot. The rest waits,
// because fields may come in any order: Hugging Face writes added_tokens first, whose ids depend on the vocabulary, and
// the vocabulary before the merges, but nothing says that others do.
type tokenizerFile struct {
	added  []addedEntry // some 26 in Qwen3: <|im_end|>, <think>, <tool_call>, …
	vocab  []vocabEntry // 151,643
	merges []mergeEntry // 151,387: 256 fewer, since each of the others was made by one merge
	form   byte         // of the merges: '"' for "a b", '[' for ["a", "b"]
	whole  bool         // model.ignore_merges
	maxID  int64        // no id may be larger
	bytes  int          // of the contents of added
}

// addedEntry is one element of added_tokens, without the fields that must be false.
type addedEntry struct {
	content             string // as it stands in a text
	id                  int
	special, normalized bool // it controls the model; it is looked for in normalized text
}

// vocabEntry is one entry of model.vocab. A slice of them keeps the file's order, which a map would lose.
type vocabEntry struct {
	token string // spelled in byteLetters: "Ġthe"
	id    int32
}

// mergeEntry is one merge, still as text: the vocabulary may come after the merges in the file.
type mergeEntry struct {
	left, right string // spelled in byteLetters: "Ġth", "e"
	index       int    // in the file's list, for messages
}

// parseTokenizer reads a tokenizer.json. Errors name the field, what was found and what was expected:
//
//	model.merges[17]: found "xq", expected a token of the vocabulary
//
// It takes two passes: first the document, in whatever order its fields come; then the tables, vocabulary before merges
// before added tokens, because each is checked against the one before:
//
//	vocab   "el" 301, "lo" 385, "ello" 4791     spelling → id, and the bytes of each
//	merges  rank 4535: "el" "lo"                (301, 385) → rank 4535 → 4791: all three must be tokens
//	added   151645 "<|im_end|>"                 not in vocab, so its id must be the next free one
func parseTokenizer(data []byte) (*Tokenizer, error) {
	f := tokenizerFile{maxID: int64(min(maxTokens, max(1<<16, len(data)))) - 1}
	err := readJSON(data, f.read)
	if err != nil {
		return nil, err
	}
	// ids, the spellings as they are in the file, is needed only while loading; a Tokenizer works with bytes.
	t := &Tokenizer{}
	ids, err := t.addVocab(f.vocab)
	if err == nil {
		err = t.addMerges(f.merges, f.vocab, ids)
	}
	if err == nil {
		err = t.addAdded(f.added, ids)
	}
	if err != nil {
		return nil, err
	}
	// With ignore_merges a piece that is a token is that token, even if no merges lead there. Llama 3's files ask for
	// it, Qwen's do not; a file that does is one of the few things that are easier to obey than to refuse.
	if f.whole {
		t.whole = make(map[string]int32, len(ids))
		var buf []byte
		for token, id := range ids {
			if _, ok := appendBytes(buf[:0], token); ok {
				t.whole[t.text[t.spans[id].start:t.spans[id].end]] = id
			}
		}
	}
	return t, nil
}

// read reads the file's outermost object. Each section is read where it is met; only the four without which there is
// nothing to encode with must be there. The order in which a text goes through them is another one:
//
//	encode   added_tokens  normalizer  pre_tokenizer  model        (post_processor)
//	decode                                            model        decoder
func (f *tokenizerFile) read(r *jsonReader) {
	fields(r, "normalizer pre_tokenizer decoder model", func(key string) {
		switch key {
		case "version":
			expectString(r, "1.0")
		case "truncation", "padding":
			// Settings of the last program that used the file; transformers overrides them, tokenizers obeys.
			if !r.null() {
				r.fail("a setting that changes the ids of a text", "null")
			}
		case "added_tokens": // none is no mistake: a base model of one's own may have none
			r.array(func(int) { f.addedToken(r) })
		case "normalizer":
			// {"type": "NFC"}: lower case or stripped accents, as BERT has them, would change every id
			typed(r, "NFC", "", nil)
		case "pre_tokenizer":
			preTokenizer(r)
		case "post_processor":
			// {"type": "ByteLevel", …} only moves offsets; the other kinds add tokens
			if !r.null() {
				byteLevel(r, func() { r.bool() })
			}
		case "decoder":
			byteLevel(r, func() { r.bool() })
		case "model":
			f.model(r)
		default: // Hugging Face refuses these too, though only here
			r.fail("an unknown field", "none")
		}
	})
}

// fields reads an object and calls field for each of its keys, at the value. The keys in need, separated by spaces, must
// all be there: a field that is left out may have a default in Hugging Face, and not the one that we want. The default
// of add_prefix_space is true, and so is that of use_regex. The first of need that is missing is named:
//
//	{"type": "Split", "behavior": "Isolated", …}    pre_tokenizer.pretokenizers[0]: found no field pattern, expected one
func fields(r *jsonReader, need string, field func(key string)) {
	missing := strings.Fields(need)
	r.object(func(key string) {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == key })
		field(key)
	})
	if len(missing) > 0 {
		r.fail("no field "+missing[0], "one")
	}
}

// typed reads one step of the pipeline, {"type": kind, …}, and refuses any other kind by name. need are the fields
// that must be there besides; field is called for every field but the type, and may be nil. The type may come after the
// fields: JSON has no order, so a wrong kind is sometimes found by a field that it does not have.
func typed(r *jsonReader, kind, need string, field func(key string)) {
	if r.kind() == 'n' {
		r.fail("null", kind)
	}
	fields(r, "type "+need, func(key string) {
		if key == "type" {
			expectString(r, kind)
		} else if field != nil {
			field(key)
		}
	})
}

// expectString reads a string and refuses any but the one that is supported. Supporting only one value of a setting
// keeps the code of all others out of the package; what matters is to notice.
func expectString(r *jsonReader, want string) {
	got := r.string()
	if got == want {
		return
	}
	// Of two long texts, such as split patterns, show the part that differs:
	//
	//	found "…}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s…", expected "…}]?\\p{L}+|\\p{N}| ?[^\\s…"
	same := 0
	for same < min(len(got), len(want)) && got[same] == want[same] {
		same++
	}
	if same > 30 {
		got, want = "…"+got[same-15:], "…"+want[same-15:]
	}
	r.fail(quote(got), quote(want))
}

// expectFalse reads a bool and refuses true: a switch for something that this package leaves out. A number or a string
// in its place is refused by r.bool.
func expectFalse(r *jsonReader) {
	if r.bool() {
		r.fail("true, which is not supported", "false")
	}
}

// expectNone reads what must be null, or a value that says the same: same reads it and reports whether it does. A
// dropout of 0.0 is none, and so is an "end_of_word_suffix" of "": tools write both.
func expectNone(r *jsonReader, same func() bool) {
	if !r.null() && !same() {
		r.fail("a setting that is not supported", "null")
	}
}

// byteLevel reads a step {"type": "ByteLevel", …}. setting reads add_prefix_space and use_regex.
//
// The same object stands in three places of the file and means something else in each: as pre_tokenizer it spells
// pieces in byteLetters, as decoder it goes back, as post_processor it only moves offsets, of which there are none here.
// With add_prefix_space a text would get a space in front, so that its first word is spelled like all others; Qwen's
// models were trained without.
func byteLevel(r *jsonReader, setting func()) {
	typed(r, "ByteLevel", "add_prefix_space trim_offsets", func(key string) {
		switch key {
		case "add_prefix_space", "use_regex": // both change pieces where the step is a pre_tokenizer
			setting()
		case "trim_offsets": // where in the text a token begins: of no use here
			r.bool()
		}
	})
}

// preTokenizer reads the split pattern and the step into bytes. Two steps in this order are Qwen's pipeline; one more, or
// another pattern, would cut differently, and pieces are what BPE never joins across:
//
//	Qwen               "in 2024"    in ␣ 2 0 2 4
//	GPT-4, Llama 3     "in 2024"    in ␣ 202 4        \p{N}{1,3}: a number costs a third, and 2024 and 12024 share no piece
//	GPT-2              "in 2024"    in ␣2024          one piece, then whatever merges there are
func preTokenizer(r *jsonReader) {
	// {"type": "Split", "pattern": {"Regex": "…"}, "behavior": "Isolated", "invert": false}
	// The pattern is compared as text. Two patterns may mean the same, but no one has checked these.
	split := func(key string) {
		switch key {
		case "pattern":
			fields(r, "Regex", func(key string) {
				if key != "Regex" {
					r.fail("a pattern of another kind", "Regex")
				}
				expectString(r, qwenPattern)
			})
		case "behavior": // what becomes of a match: here a piece of its own
			expectString(r, "Isolated")
		case "invert": // the pattern would describe what lies between pieces
			expectFalse(r)
		}
	}
	typed(r, "Sequence", "pretokenizers", func(key string) {
		if key != "pretokenizers" {
			return
		}
		steps := 0
		r.array(func(i int) {
			switch steps++; i {
			case 0:
				typed(r, "Split", "pattern behavior invert", split)
			case 1:
				// use_regex means GPT-2's own split on top, and its default is true: it must be there and false.
				settings := 0
				byteLevel(r, func() {
					settings++
					expectFalse(r)
				})
				if settings == 1 {
					r.fail("no field use_regex, which means true", "false")
				}
			}
		})
		if steps != 2 {
			r.fail(strconv.Itoa(steps)+" steps", "two: Split and ByteLevel")
		}
	})
}

// addedToken reads one element of added_tokens:
//
//	{"id": 151645, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false,
//	 "normalized": false, "special": true}
//
// lstrip and rstrip would swallow the white space around the token, single_word would ask for word boundaries; no
// Qwen uses them.
func (f *tokenizerFile) addedToken(r *jsonReader) {
	var a addedEntry
	fields(r, "id content single_word lstrip rstrip normalized special", func(key string) {
		switch key {
		case "id":
			a.id = int(f.id(r))
		case "content":
			if a.content = strings.Clone(r.string()); a.content == "" || len(a.content) > maxAddedLen {
				r.fail(fmt.Sprintf("%d bytes", len(a.content)), fmt.Sprintf("1 to %d", maxAddedLen))
			}
			if f.bytes += len(a.content); f.bytes > maxAddedBytes {
				r.fail("more text", fmt.Sprintf("at most %d bytes in all added tokens", maxAddedBytes))
			}
		case "single_word", "lstrip", "rstrip": // conditions on what stands before and after
			expectFalse(r)
		case "normalized":
			a.normalized = r.bool()
		case "special":
			a.special = r.bool()
		}
	})
	f.added = append(f.added, a)
}

// id reads a token's id. The upper bound is what makes tables indexed by id safe to allocate: a file of a kilobyte with
// one token whose id is a billion would otherwise cost eight gigabytes.
func (f *tokenizerFile) id(r *jsonReader) int32 {
	id := r.int()
	if id < 0 || id > f.maxID {
		r.fail(strconv.FormatInt(id, 10), fmt.Sprintf("an id of 0 to %d", f.maxID))
		return 0
	}
	return int32(id)
}

// model reads the vocabulary and the merges:
//
//	{"type": "BPE", "vocab": {"!": 0, …}, "merges": […], "dropout": null, "unk_token": null, …}
//
// The vocabulary begins with the 256 bytes, in the order of their letters: "!" is 0, "A" 32, "Ġ" 220, "Ń" 255.
// The other settings belong to other ways of splitting words. None has a meaning in byte-level BPE as Qwen uses it, and
// each that is switched on would change ids.
func (f *tokenizerFile) model(r *jsonReader) {
	typed(r, "BPE", "vocab merges", func(key string) {
		switch key {
		case "vocab":
			r.entries(func(token string) {
				if len(f.vocab) == maxEntries {
					r.fail("one more token", fmt.Sprintf("at most %d", maxEntries))
				}
				f.vocab = append(f.vocab, vocabEntry{token, f.id(r)})
			})
		case "merges":
			r.array(func(i int) { f.merge(r, i) })
		case "dropout": // leaves out merges by chance, so that a model in training sees words spelled in several ways
			expectNone(r, func() bool { return r.kind() == '0' && r.float() == 0 })
		case "unk_token": // stands for what is not in the vocabulary; with bytes, everything is
			expectNone(r, func() bool { return false })
		case "continuing_subword_prefix", "end_of_word_suffix": // BERT's ##ing, GPT-1's </w>
			expectNone(r, func() bool { return r.kind() == '"' && r.string() == "" })
		case "fuse_unk": // has no effect without unk_token
			_ = r.null() || r.bool()
		case "byte_fallback": // Llama 2's <0xE2>, for characters that are not in the vocabulary
			expectNone(r, func() bool { return r.kind() == 't' && !r.bool() })
		case "ignore_merges":
			f.whole = !r.null() && r.bool()
		}
	})
}

// merge reads one merge. All are of one form: "a b" or ["a", "b"]. The second came with tokenizers 0.20, because the
// first cannot write a merge of tokens with a space in them; the same checkpoint may be found in either. (Byte-level
// tokens have no space, since it is spelled Ġ; other tokenizers' have.)
//
//	"merges": ["Ġ Ġ", "ĠĠ ĠĠ", "i n", …]                      Qwen2.5 as published
//	"merges": [["Ġ", "Ġ"], ["ĠĠ", "ĠĠ"], ["i", "n"], …]       Qwen3 as published, each string on a line of its own
func (f *tokenizerFile) merge(r *jsonReader, index int) {
	m := mergeEntry{index: index}
	// The first merge says which form the list has; Hugging Face does not take a mixture either.
	if index == 0 {
		f.form = r.kind()
	}
	if f.form == '[' {
		n := 0
		r.array(func(i int) {
			switch n++; i {
			case 0:
				m.left = r.string()
			case 1:
				m.right = r.string()
			}
		})
		if n != 2 {
			r.fail(fmt.Sprintf("%d tokens", n), "two")
		}
	} else {
		pair, ok := r.string(), false
		if strings.HasPrefix(pair, "#version") {
			return // the first line of an old merges.txt; Hugging Face skips it here too
		}
		if m.left, m.right, ok = strings.Cut(pair, " "); !ok || strings.Contains(m.right, " ") {
			r.fail(quote(pair), "two tokens with a space between")
		}
	}
	if len(f.merges) == maxEntries {
		r.fail("one more merge", fmt.Sprintf("at most %d", maxEntries))
	}
	f.merges = append(f.merges, m)
}

// addVocab stores the bytes of every token and returns the ids by the tokens' spelling in the file. All tokens lie in
// one string, a range each: the document they were read from can go, and the garbage collector sees one object where
// 151,643 strings would be as many pointers for it to follow, again and again, as long as the program runs.
func (t *Tokenizer) addVocab(vocab []vocabEntry) (map[string]int32, error) {
	if len(vocab) == 0 {
		return nil, &fieldError{"model.vocab", "found no tokens, expected some"}
	}
	// One pass for the sizes, so that nothing grows while it is filled. A token's bytes are at most as many as those
	// of its spelling: a letter of one byte stands for one, and so does one of two, such as Ġ. Byte 0 of text is not
	// used: a span whose end is 0 is then one that no token has.
	//
	//	text    · ! " # … l o w … e l l o …        spans[4791] = {start of "ello", end of it}
	size, last := 1, int32(-1)
	for _, v := range vocab {
		size += len(v.token)
		last = max(last, v.id)
	}
	ids := make(map[string]int32, len(vocab))
	text := make([]byte, 1, size)
	t.spans = make([]span, last+1)
	for i, v := range vocab {
		if ids[v.token] = v.id; len(ids) == i { // as many as before: the token was there already
			return nil, &fieldError{"model.vocab." + plainKey(v.token), "found this key a second time, expected each key once"}
		}
		s := &t.spans[v.id]
		if s.end != 0 {
			return nil, &fieldError{"model.vocab." + plainKey(v.token), fmt.Sprintf("found id %d a second time, expected each id once", v.id)}
		}
		s.start = uint32(len(text))
		text, _ = appendBytes(text, v.token)
		s.end = uint32(len(text))
	}
	t.text = string(text)
	// Merging starts from these. In Qwen's vocabulary they are the first 256, in the order of their letters: "!" is 0.
	for b := range t.byteID {
		t.byteID[b] = -1
		if id, ok := ids[string(byteLetters()[b])]; ok {
			t.byteID[b] = id
		}
	}
	return ids, nil
}

// addMerges fills the table of pairs. Both parts and the whole must be tokens, or encoding could make an id that does
// not exist. A list without merges would load, and encode every byte by itself: five times the tokens, no message, and
// a model that still answers, badly. That happened to others (a reader that knew one form of the list only).
//
//	["el", "xq"]             model.merges[17]: found "xq", expected a token of the vocabulary
//	["el", "lo"], no ello    model.merges[17]: found "ello", expected the joined pair in the vocabulary
//	["el", "lo"] again       model.merges[17]: found "el" and "lo" a second time, expected each pair once
func (t *Tokenizer) addMerges(merges []mergeEntry, vocab []vocabEntry, ids map[string]int32) error {
	if len(merges) == 0 && len(ids) > len(t.byteID) {
		return &fieldError{"model.merges", fmt.Sprintf("found none, expected some for a vocabulary of %d tokens", len(ids))}
	}
	t.pairs = newPairTable(len(merges))
	t.merged = make([]int32, len(merges))
	for rank, m := range merges {
		fail := func(found, expected string) error {
			return &fieldError{fmt.Sprintf("model.merges[%d]", m.index), "found " + found + ", expected " + expected}
		}
		left, okLeft := ids[m.left]
		right, okRight := ids[m.right]
		// The vocabulary usually ends with the merged tokens in the order of the merges: training made them one after
		// the other. A look there first saves the longest part of loading, to join and hash 151,387 strings.
		var whole vocabEntry
		if i := len(vocab) - len(merges) + rank; i >= 0 {
			whole = vocab[i]
		}
		okWhole := len(whole.token) == len(m.left)+len(m.right) && strings.HasPrefix(whole.token, m.left) && strings.HasSuffix(whole.token, m.right)
		if !okWhole {
			whole.id, okWhole = ids[m.left+m.right]
		}
		switch {
		case !okLeft:
			return fail(quote(m.left), "a token of the vocabulary")
		case !okRight:
			return fail(quote(m.right), "a token of the vocabulary")
		case !okWhole:
			return fail(quote(m.left+m.right), "the joined pair in the vocabulary")
		case !t.pairs.add(left, right, rank):
			return fail(quote(m.left)+" and "+quote(m.right)+" a second time", "each pair once")
		}
		t.merged[rank] = whole.id // ["el", "lo"], rank 4535 → 4791, "ello"
	}
	return nil
}

// addAdded stores the added tokens. Hugging Face gives an added token the id it has in the vocabulary, or else the next
// free one after the vocabulary's size and the added tokens so far, and merely warns when the file says otherwise. A
// file that means other ids than it gets is broken in one way or the other, so it is refused here.
//
//	vocab of 151643        0 … 151642
//	<|endoftext|> 151643   the next: right
//	<|im_start|>  151645   found 151645, expected 151644: in Hugging Face's hands every answer would end with another id
func (t *Tokenizer) addAdded(added []addedEntry, ids map[string]int32) error {
	t.added, t.special = map[string]int{}, map[int]bool{}
	text := []byte(t.text)
	last := len(ids) - 1 // the largest id so far, as Hugging Face counts: by the number of tokens
	for i, a := range added {
		fail := func(field, found, expected string) error {
			return &fieldError{fmt.Sprintf("added_tokens[%d].%s", i, field), "found " + found + ", expected " + expected}
		}
		id, inVocab := ids[a.content]
		want := int(id)
		if !inVocab {
			want = last + 1
		}
		// last only grows: a token of the vocabulary in between does not move the count back.
		if last = max(last, want); a.id != want {
			return fail("id", strconv.Itoa(a.id), fmt.Sprintf("%d: its id in the vocabulary, or the next after all before it", want))
		}
		if _, ok := t.added[a.content]; ok {
			return fail("content", quote(a.content)+" a second time", "each token once")
		}
		t.added[a.content], t.special[a.id] = a.id, a.special
		// "normalized": true means that the token is looked for in normal form, in text that is in normal form.
		find, content := &t.raw, a.content // all of Qwen's are looked for in the text as given
		if a.normalized {
			find, content = &t.normalized, normalize(content)
		}
		if !find.add(content, a.id) {
			return fail("content", quote(a.content)+", in normal form the same as another", "each token once")
		}
		if inVocab {
			continue // its bytes are there already
		}
		for len(t.spans) <= a.id {
			t.spans = append(t.spans, span{})
		}
		if t.spans[a.id].end != 0 {
			return fail("id", fmt.Sprintf("%d a second time", a.id), "each id once")
		}
		start := len(text)
		text, _ = appendBytes(text, content) // in normal form, if it is found so: Hugging Face does not keep the other
		t.spans[a.id] = span{uint32(start), uint32(len(text))}
	}
	t.text = string(text)
	return nil
}

// byteLetters is GPT-2's alphabet: the character that stands for each byte. Bytes that print in Latin-1 stand for
// themselves; the other 68 (0x00 to 0x20, 0x7F to 0xA0, and 0xAD, the soft hyphen) are given U+0100, U+0101, … in order:
//
//	0x00 Ā   0x0A Ċ   0x20 Ġ   0x21 !   0x41 A   0x7E ~   0x7F ġ   0xAD Ń   0xC3 Ã   0xFF ÿ
//
// So a token that ends in the middle of a character can still be written as a JSON string: "é" is bytes C3 A9, "Ã©".
var byteLetters = sync.OnceValue(func() *[256]rune {
	letters, next := new([256]rune), rune(256) // next: U+0100, the first beyond Latin-1
	for b := range letters {
		if letters[b] = rune(b); !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			letters[b] = next
			next++
		}
	}
	return letters
})

// letterBytes is the way back: the byte that each character below U+0144 stands for, or -1. A space stands for none: the
// byte 0x20 is spelled Ġ, so a token with a space in it is no byte-level spelling.
var letterBytes = sync.OnceValue(func() *[256 + 68]int16 {
	table := new([256 + 68]int16)
	for i := range table {
		table[i] = -1
	}
	for b, letter := range byteLetters() {
		table[letter] = int16(b)
	}
	return table
})

// appendBytes appends the bytes that a token's spelling stands for, and says whether every character stands for one:
//
//	"Ġthe"          20 74 68 65         a space and three letters
//	"Ã©"            C3 A9               é
//	"<|im_end|>"    as it is: every character of it prints, and stands for itself
//	"<｜end｜>"      as it is: ｜ stands for no byte
//
// If any does not, as may be in an added token, the spelling itself is the token's text.
func appendBytes(buf []byte, token string) ([]byte, bool) {
	table, start := letterBytes(), len(buf)
	for _, c := range token {
		if int(c) >= len(table) || table[c] < 0 {
			return append(buf[:start], token...), false
		}
		buf = append(buf, byte(table[c]))
	}
	return buf, true
}
