package qwen

// The tokenizer: text to ids and back.
//
// A model knows a fixed list of byte strings, the tokens, by number. Text becomes ids in four stages, and each is a
// function of its own, so that a test can tell which one is wrong:
//
//	added tokens    "<|im_start|>user\nHé, 42"    cut out <|im_start|> and the like, whole, wherever they stand
//	normalize       e ◌́ → é                       (split.go)
//	split           user ⏎ Hé , ␣ 4 2             (split.go)
//	merge           H é → "H" "Ã" "©" → "H" "Ã©"  each piece on its own: byte-pair encoding
//
// Byte-pair encoding starts from single bytes, so nothing is ever unknown. The file lists pairs of tokens, the merges,
// in the order in which training joined them; a pair's place in the list is its rank. To encode a piece, join the pair
// of the lowest rank in it (the leftmost, if it is there twice) until no listed pair is left. With Qwen's own ranks:
//
//	H e l l o     (H,e) 1263   (e,l) 45   (l,l) 398   (l,o) 129      45 is the lowest
//	H el l o      (H,el) 32457   (el,l) 357   (l,o) 129              129
//	H el lo       (H,el) 32457   (el,lo) 4535                        4535
//	H ello        (H,ello) 9451                                      9451
//	Hello         id 9707
//
// Note what did not happen: (l,l) was there, and its turn never came. Ranks are the history of training, not statistics of
// the word at hand: an encoder that joins left to right, or takes the longest token that fits, gives other ids, and the
// model has never seen a text spelled in those.
//
// tokenizer.json spells tokens in letters that print: byte 0x20 is Ġ, 0x0A is Ċ, and so on (GPT-2's alphabet, see
// byteLetters). Decoding is only the way back: the tokens' bytes one after the other. A token may end in the middle of
// a UTF-8 character, so only the joined bytes are text.
//
// What is read: byte-level BPE with NFC and Qwen's split pattern, as Qwen2, Qwen2.5 and Qwen3 are published. Any other
// kind of tokenizer is refused by name; a near miss would give ids that are nearly right.
//
// Limits: ids are exactly those of Hugging Face for every text that is valid UTF-8, and then
// Decode(Encode(text)) == NFC(text), byte for byte. Other bytes go through as they are. A vocabulary need not have a
// token for each of the 256 bytes (Qwen's do); as in Hugging Face, a byte without one is dropped. Encoding takes
// O(n log n) time for n bytes in one piece, O(n) over pieces.
//
// Reference: tokenizers 0.23, models/bpe/word.rs (merge_all), pre_tokenizers/byte_level.rs, tokenizer/added_vocabulary.rs.
// Next: split.go

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	maxTokens    = 1 << tokenBits
	tokenBits    = 21         // ids and ranks are below 2,097,152: two ids and a rank fit in one word
	maxAddedLen  = 512        // bytes of one added token
	maxTextBytes = 1 << 30    // bytes of one text to encode
	noRank       = ^uint32(0) // of a pair that is not in the list: after all that are
)

// A Tokenizer converts between text and token ids. It does not change once loaded and serves many goroutines.
type Tokenizer struct {
	text   string           // one unused byte, then the bytes of all tokens, one after the other
	spans  []span           // by id: where in text
	byteID [256]int32       // the id of each byte's token, -1 if there is none
	pairs  pairTable        // ranks of the pairs that merge
	merged []int32          // by rank: the token that the pair becomes
	whole  map[string]int32 // only with ignore_merges: tokens taken whole where a piece spells one

	added      map[string]int // added tokens by content: found in the text whole, before BPE
	special    map[int]bool   // by id: whether it controls the model, as <|im_end|> does; <think> is a part of an answer
	raw        matcher        // finds added tokens in the text as given
	normalized matcher        // finds those that stand for their normal form ("normalized": true)

	encoders sync.Pool // of *encoder
}

// span is a range of bytes in Tokenizer.text; end is 0 for an id that no token has.
type span struct{ start, end uint32 }

// Encode returns the ids of text. A token is about four bytes of English, one or two Chinese characters, or one digit.
// Added tokens spelled in the text, special or not, become their ids, as in Hugging Face's encode; to encode what a user
// wrote, see [Tokenizer.EncodeChat]. It fails only for texts over 1 GiB.
func (t *Tokenizer) Encode(text string) ([]int, error) {
	if err := checkSize(len(text)); err != nil {
		return nil, err
	}
	return t.encode(make([]int, 0, len(text)/4+8), text, every), nil
}

// every accepts every added token, as Encode and the template's own text do.
func every(int) bool { return true }

// checkSize refuses texts whose positions would not fit into 32 bits with room to spare.
func checkSize(bytes int) error {
	if bytes > maxTextBytes {
		return fmt.Errorf("qwen: found a text of %d bytes, expected at most %d", bytes, maxTextBytes)
	}
	return nil
}

// encode appends the ids of text to ids. Of the added tokens in the text only those that accept agrees to become ids,
// others are text like any other.
func (t *Tokenizer) encode(ids []int, text string, accept func(id int) bool) []int {
	e, _ := t.encoders.Get().(*encoder)
	if e == nil {
		e = &encoder{t: t, splitter: splitter{classes()}}
	}
	defer t.encoders.Put(e)
	// The four stages, one inside the other. Added tokens are found before normalizing, and again after it for
	// those that ask for it; NFC and the split see only what lies between, so a mark after <|im_end|> stays alone.
	found := func(id int) { ids = append(ids, id) }
	//	"<|im_start|>user" → raw finds <|im_start|>, then between("user") → next: "user" → piece: its ids
	t.raw.cut(text, accept, found, func(between string) {
		t.normalized.cut(normalize(between), accept, found, func(between string) {
			for len(between) > 0 {
				n := e.splitter.next(between, 0)
				ids = e.piece(ids, between[:n])
				between = between[n:]
			}
		})
	})
	return ids
}

// Decode returns the bytes of all tokens, joined; special tokens as they are spelled: [9707, 1879] is "Hello world", the
// space being part of the second token. An id that no token has adds nothing. The result is valid UTF-8 if the ids are
// those of a text; a model may stop half-way through a character. Hugging Face's decode(skip_special_tokens=False) is
// [Tokenizer.DecodeText].
func (t *Tokenizer) Decode(ids []int) string {
	var b strings.Builder
	for _, id := range ids {
		if id >= 0 && id < len(t.spans) {
			b.WriteString(t.text[t.spans[id].start:t.spans[id].end])
		}
	}
	return b.String()
}

// DecodeText is Decode for people to read: what is not valid UTF-8 is shown as U+FFFD.
func (t *Tokenizer) DecodeText(ids []int) string { return toText([]byte(t.Decode(ids))) }

// toText returns b with U+FFFD in place of whatever is not valid UTF-8: one for each character that is cut short, one
// for each byte that cannot stand where it does. (strings.ToValidUTF8 puts one for all that are in a row; Hugging Face
// and browsers do as here.)
func toText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var text strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		for r == utf8.RuneError && n < len(b) && !utf8.FullRune(b[:n+1]) {
			n++ // still the beginning of a character
		}
		text.WriteRune(r)
		b = b[n:]
	}
	return text.String()
}

// Bytes returns the bytes that id stands for, and whether any token has this id. They may begin or end in the middle of
// a character: a program that prints an answer as it comes must hold them back until the character is whole.
func (t *Tokenizer) Bytes(id int) ([]byte, bool) {
	if id < 0 || id >= len(t.spans) || t.spans[id].end == 0 {
		return nil, false
	}
	return []byte(t.text[t.spans[id].start:t.spans[id].end]), true
}

// ID returns the id of an added token, such as <|im_end|>. Ordinary tokens have no name by which to ask: Encode them.
func (t *Tokenizer) ID(content string) (int, bool) {
	id, ok := t.added[content]
	return id, ok
}

// Special says whether id is a special token: one that controls the model and is not part of an answer's text.
func (t *Tokenizer) Special(id int) bool { return t.special[id] }

// Len returns the number of ids: the largest one plus one. A model's vocab_size is often larger, rounded up for the
// hardware's sake; ids from Len up have no token.
func (t *Tokenizer) Len() int { return len(t.spans) }

// An encoder is the working memory of one Encode at a time. A Tokenizer keeps some in a pool, since the cache in each is
// of most use to the next call.
type encoder struct {
	t        *Tokenizer
	splitter splitter
	symbols  []symbolLink
	queue    []uint64
	cache    [cacheSize]cachedPiece
}

// symbolLink is one symbol of a piece that is being merged: an element of a doubly linked list held in a slice.
type symbolLink struct {
	id         int32  // the token: at first a byte's, then longer and longer
	rank       uint32 // of this symbol and the next as a pair
	prev, next int32  // -1 at the ends
}

// A cachedPiece is a short piece and its ids, side by side in 48 bytes of memory. Most pieces of a text have been seen
// before; a slot holds the last one whose hash led there.
type cachedPiece struct {
	lo, hi uint64 // the piece's bytes, zero-padded
	size   uint8  // 0: empty slot
	count  uint8
	ids    [7]int32
}

const (
	cacheBits = 13
	cacheSize = 1 << cacheBits // 48 bytes each, 384 KiB: what a core's own cache holds
)

// piece appends the ids of one piece: at once if it is a byte, from the cache if it was there lately, else by merging.
// A text of 8 MB of Go code has two million pieces but a few ten thousand different ones; pieces of more than 16 bytes
// are rare and not cached.
func (e *encoder) piece(ids []int, piece string) []int {
	if len(piece) == 1 && e.t.whole == nil {
		if id := e.t.byteID[piece[0]]; id >= 0 {
			ids = append(ids, int(id))
		}
		return ids
	}
	if len(piece) > 16 {
		return e.merge(ids, piece)
	}
	// The piece itself is the key, as two words: a slot is compared whole, and no text is kept alive by the cache.
	var key [16]byte
	copy(key[:], piece)
	lo, hi := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
	slot := &e.cache[((lo^bits.RotateLeft64(hi, 29))*0x9E3779B97F4A7C15)>>(64-cacheBits)]
	if slot.lo != lo || slot.hi != hi || int(slot.size) != len(piece) {
		start := len(ids)
		ids = e.merge(ids, piece)
		if count := len(ids) - start; count <= len(slot.ids) {
			slot.lo, slot.hi, slot.size, slot.count = lo, hi, uint8(len(piece)), uint8(count)
			for i, id := range ids[start:] {
				slot.ids[i] = int32(id)
			}
		}
		return ids
	}
	for _, id := range slot.ids[:slot.count] {
		ids = append(ids, int(id))
	}
	return ids
}

// merge appends the ids of one piece by byte-pair encoding.
//
// Pieces are mostly short, and then any way would do. But a piece has no limit: a million letters without a space are
// one, and to look at all pairs again after each join would take hours.
//
// So the symbols are a linked list, which can lose one in the middle without moving the rest, and the pairs that may be
// joined, the candidates, wait in a heap, which always knows the smallest. (The reference has the same two, in word.rs.)
// A candidate is one word, its rank above its position. When two symbols become one, the pairs to its left and right are
// new candidates; the old ones stay in the heap and are recognised later by a rank that is no longer that of their
// position. Each join adds at most two candidates, so n bytes take O(n log n) time.
func (e *encoder) merge(ids []int, piece string) []int {
	if id, ok := e.t.whole[piece]; ok {
		return append(ids, int(id))
	}
	// 1. Single bytes, each linked to its neighbours. A byte that has no token is left out, as in Hugging Face.
	s := e.symbols[:0]
	for i := range len(piece) {
		if id := e.t.byteID[piece[i]]; id >= 0 {
			s = append(s, symbolLink{id: id, prev: int32(len(s)) - 1, next: int32(len(s)) + 1})
		}
	}
	e.symbols = s
	if len(s) == 0 {
		return ids
	}
	s[len(s)-1].next = -1
	// 2. Candidates: all pairs of neighbours that have a rank. The position below it makes the leftmost of equal ranks
	// come first.
	q := queue(e.queue[:0])
	candidate := func(left int32) {
		s[left].rank = noRank
		if right := s[left].next; right >= 0 {
			if rank := e.t.pairs.rank(s[left].id, s[right].id); rank != noRank {
				s[left].rank = rank
				q.push(uint64(rank)<<32 | uint64(left))
			}
		}
	}
	for i := range s {
		candidate(int32(i))
	}
	// 3. Join the best pair until none is left: the left symbol becomes the merged one, the right drops out.
	//
	//	prev ⇄ left ⇄ right ⇄ next      →      prev ⇄ left+right ⇄ next
	for len(q) > 0 {
		best := q.pop()
		rank, left := uint32(best>>32), int32(uint32(best))
		if s[left].rank != rank {
			continue // one of the two has become part of something else
		}
		right := s[left].next
		s[left].id, s[left].next = e.t.merged[rank], s[right].next
		s[right].rank = noRank
		if s[left].next >= 0 {
			s[s[left].next].prev = left
		}
		candidate(left)
		if s[left].prev >= 0 {
			candidate(s[left].prev)
		}
	}
	if e.queue = q; cap(s) > 1<<16 {
		e.symbols, e.queue = nil, nil // do not keep what one very long piece needed
	}
	for i := int32(0); i >= 0; i = s[i].next {
		ids = append(ids, int(s[i].id))
	}
	return ids
}

// A queue is a binary heap, smallest first: q[i] <= q[2i+1], q[2i+2]. (container/heap works through an interface,
// several times slower here.)
//
//	      3              push: put it last, move it up past larger parents
//	  5       4          pop: take the first, move the last down from there past smaller children
//	9   6   8
type queue []uint64

// push adds x, in O(log n).
func (q *queue) push(x uint64) {
	h := append(*q, x)
	i := len(h) - 1               // x's place, unless its parent is larger
	for i > 0 && h[(i-1)/2] > x { // then the parent comes down
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = x
	*q = h
}

// pop takes the smallest, in O(log n).
func (q *queue) pop() uint64 {
	h := *q
	top, x := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	for i := 0; len(h) > 0; { // i is free, and x must go there or deeper
		child := 2*i + 1 // the smaller of two, if there are two
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if child >= len(h) || h[child] >= x {
			h[i] = x
			break
		}
		h[i] = h[child]
		i = child
	}
	*q = h
	return top
}

// A pairTable finds the rank of a pair of tokens: of (e, l), ids 68 and 75, rank 45. It is asked for every two
// neighbours of every piece, so it is the inner loop of encoding: a Go map of the same pairs takes several times the
// memory and time. It is a hash table with open addressing and one word a slot:
//
//	bit 63 set | left id, 21 bits | right id, 21 bits | rank, 21 bits        0: empty slot
//
// The hash is the upper bits of key * multiplier, which depend on all bits of the key (Knuth, volume 3, 6.4). The
// multiplier is random, so that no file can be made whose pairs all collide and take a second each to find.
type pairTable struct {
	slots      []uint64 // a power of two, at most two thirds full
	shift      int
	multiplier uint64
}

// newPairTable returns a table with room for a number of pairs: the power of two above one and a half times as many.
func newPairTable(pairs int) pairTable {
	n := bits.Len(uint(pairs + pairs/2))
	return pairTable{make([]uint64, 1<<n), 64 - n, rand.Uint64() | 1}
}

// slot returns the place of a pair: where it is, or the empty slot where it would be. The product's upper bits are the
// hash; from there on, the next slots are tried in order, eight of them in one cache line.
func (p *pairTable) slot(left, right int32) *uint64 {
	key := 1<<(2*tokenBits) | uint64(left)<<tokenBits | uint64(right)
	for i := key * p.multiplier >> p.shift; ; i++ {
		s := &p.slots[i&uint64(len(p.slots)-1)]
		if *s == 0 || *s>>tokenBits == key {
			return s
		}
	}
}

// rank returns the rank of a pair, noRank if it is not in the list.
func (p *pairTable) rank(left, right int32) uint32 {
	if s := *p.slot(left, right); s != 0 {
		return uint32(s & (maxTokens - 1))
	}
	return noRank
}

// add puts a pair into the table and says whether it was new.
func (p *pairTable) add(left, right int32, rank int) bool {
	s := p.slot(left, right)
	if *s != 0 {
		return false
	}
	*s = 1<<63 | uint64(left)<<(2*tokenBits) | uint64(right)<<tokenBits | uint64(rank)
	return true
}

// A matcher finds added tokens in text. It is a trie: a node for each beginning of a token, and from each node an edge
// for each byte that continues it.
//
//	0 -<- 1 -|- 2 -i- 3 -m- 4 -_- 5 -s- … <|im_start|>
//	                                -e- … <|im_end|>
//	        -t- … <think>
//
// Nearly every byte of a text is dismissed by one look at first.
type matcher struct {
	first [256]bool        // bytes that a token begins with
	next  map[uint64]int32 // node<<8 | byte → node; node 0 is the empty beginning
	ids   []int            // by node: the token that ends here, or -1
}

// add puts a token in and says whether it was new.
func (m *matcher) add(content string, id int) bool {
	if m.next == nil {
		m.next, m.ids = map[uint64]int32{}, []int{-1}
	}
	m.first[content[0]] = true
	node := int32(0)
	for i := range len(content) {
		edge := uint64(node)<<8 | uint64(content[i])
		if _, ok := m.next[edge]; !ok {
			m.next[edge] = int32(len(m.ids))
			m.ids = append(m.ids, -1)
		}
		node = m.next[edge]
	}
	isNew := m.ids[node] < 0
	m.ids[node] = id
	return isNew
}

// cut goes through text from left to right and calls found for each token in it and between for each stretch without
// one:
//
//	"a<|im_end|>b"   between("a")  found(151645)  between("b")
//	"a<|im_en"       between("a<|im_en"): seven nodes deep, but no token ends there
//
// Where several tokens begin, the longest that accept agrees to counts. A byte is looked at again for each place before
// it from which the trie leads that far, so at most maxAddedLen times, whatever the text.
func (m *matcher) cut(text string, accept func(id int) bool, found func(id int), between func(text string)) {
	start := 0
	for i := 0; i < len(text); {
		if !m.first[text[i]] {
			i++
			continue
		}
		id, end := -1, i+1
		node, ok := int32(0), true
		for j := i; j < len(text); j++ {
			if node, ok = m.next[uint64(node)<<8|uint64(text[j])]; !ok {
				break
			}
			if m.ids[node] >= 0 && accept(m.ids[node]) {
				id, end = m.ids[node], j+1
			}
		}
		if id >= 0 {
			if start < i {
				between(text[start:i])
			}
			found(id)
			start = end
		}
		i = end
	}
	if start < len(text) {
		between(text[start:])
	}
}
