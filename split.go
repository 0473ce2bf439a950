package qwen

// Text before BPE: normalise, then split.
//
// The same word can be typed in several ways: é is one code point (U+00E9) or two (e, U+0301). Normal form C (NFC)
// picks the composed spelling wherever Unicode has one, so that the model sees one word, not two:
//
//	1. take every character apart      é ậ  →  e ◌́   a ◌̣ ◌̂      (normal form D)
//	2. sort each run of marks by their combining class, a number that says where a mark attaches; equals keep their order
//	3. put characters together again, each mark with the letter before it unless an equal or higher class lies between
//
// Then the text is cut into pieces that BPE will never merge across. Without the cut, "the dog." and "the dog!" would
// each become tokens of their own if the training text had them often enough, and a vocabulary would fill up with
// phrases; the cut keeps it to words, numbers and punctuation. Qwen's tokenizer.json gives the cut as a
// regular expression of seven alternatives; the first that matches at a position wins:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
//	"It's 42  lines:\n\tx = 1"  →  It 's ␣ 4 2 ␣ ␣lines :⏎ ⇥x ␣= ␣ 1
//
// Go's regexp has no lookahead, (?!\S), so the alternatives are written out below as a scanner, each quoted above its
// code. The scanner looks at every byte at most three times, whatever the text.
//
// Limits: "exactly as Hugging Face" includes the Unicode version. Measured over all code points with tokenizers 0.23.3:
// its regular expressions know the letters and numbers of Unicode 16, its NFC the marks and compositions of Unicode 9
// or so. Go's own tables move with each release of Go (15 in Go 1.26). The tables at the end of this file make up the
// difference both ways, and tests compare every code point with a recording. Bytes that are not UTF-8 cannot reach
// Hugging Face at all; here each passes NFC unchanged and counts as a symbol, like U+FFFD.
//
// Reference: tokenizers, normalizers/unicode.rs (NFC) and pre_tokenizers/split.rs. Unicode Standard Annex 15.
// Next: tokenizer_load.go

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// qwenPattern is the only split that this package knows.
const qwenPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// normalize returns text in normal form C.
//
// Nearly all text is normal already: x/text finds the stretches that are (QuickSpan), and only what lies between is
// composed here. x/text could compose too, but it would put U+034F into runs of more than 30 marks (its "stream-safe"
// form) and knows newer marks than Hugging Face does.
func normalize(text string) string {
	n := norm.NFC.QuickSpanString(text)
	if n == len(text) {
		return text // no copy
	}
	var out strings.Builder
	out.Grow(len(text) + len(text)/8)
	for {
		out.WriteString(text[:n])
		if text = text[n:]; text == "" {
			return out.String()
		}
		n = segment(text)
		compose(&out, text[:n])
		text = text[n:]
		n = norm.NFC.QuickSpanString(text)
	}
}

// segment returns the length of the first character of text and all that may sort or compose with it: the marks after
// it, and letters that can be the second half of another (the vowels and finals of Korean, some vowels of India).
//
//	"e◌̣◌̂x"  →  5, "e◌̣◌̂": x begins the next         ᄒ ᅡ ᆫ  →  9, three letters that become 한
func segment(text string) int {
	r, n := utf8.DecodeRuneInString(text)
	if unicode.Is(inert, r) || r == utf8.RuneError && n == 1 {
		return n // has nothing to do with what follows
	}
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if size == 1 || unicode.Is(inert, r) || norm.NFC.PropertiesString(text[n:]).BoundaryBefore() {
			break
		}
		n += size
	}
	return n
}

// compose appends the normal form of text, one segment, in the three steps of the file's header. By hand, for a ◌̂ ◌̣ (a
// circumflex above, a dot below, in the order in which somebody typed them):
//
//	apart     a 0    ◌̂ 230    ◌̣ 220         each with its combining class
//	sorted    a 0    ◌̣ 220    ◌̂ 230         lower class first
//	together  a + ◌̣ = ạ (U+1EA1),  ạ + ◌̂ = ậ (U+1EAD): one character
func compose(out *strings.Builder, text string) {
	type char struct {
		r   rune
		ccc uint8 // combining class: 0 for letters, and for marks where they attach (220 below, 230 above, …)
	}
	// 1. Take apart. One character at a time, so x/text's limit of 30 marks never comes into play.
	var chars []char
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if unicode.Is(inert, r) || r == utf8.RuneError && size == 1 { // alone in its segment
			out.WriteString(text)
			return
		}
		apart := norm.NFD.String(text[i : i+size])
		for j, r := range apart {
			chars = append(chars, char{r, norm.NFD.PropertiesString(apart[j:]).CCC()})
		}
		i += size
	}
	// 2. Sort the marks between one letter and the next. Marks of different classes attach at different places, so
	// their order in the text means nothing; marks of one class stack, so theirs does: the sort must be stable.
	for i := 0; i < len(chars); i++ {
		start := i
		for i < len(chars) && chars[i].ccc != 0 {
			i++
		}
		slices.SortStableFunc(chars[start:i], func(a, b char) int { return int(a.ccc) - int(b.ccc) })
	}
	// 3. Put together. kept[letter] is the last letter; nothing of the same or a higher class may lie between
	// it and what joins it. The composed form of a pair is what x/text makes of the two alone, if that is one character.
	kept, letter := chars[:0], -1
	for _, c := range chars {
		if letter >= 0 && (letter == len(kept)-1 || kept[len(kept)-1].ccc < c.ccc) {
			pair := norm.NFC.String(string([]rune{kept[letter].r, c.r}))
			if r, size := utf8.DecodeRuneInString(pair); size == len(pair) {
				kept[letter].r = r
				continue
			}
		}
		if kept = append(kept, c); c.ccc == 0 {
			letter = len(kept) - 1
		}
	}
	for _, c := range kept {
		out.WriteRune(c.r)
	}
}

// A class is what the split pattern can tell about a character: five sets that share none and leave none out, so that
// every term of the pattern is one of them, or several.
type class = uint8

const (
	isSymbol  class = iota // [^\s\p{L}\p{N}]: punctuation, emoji, control characters, unassigned; marks such as ◌́ too
	isLetter               // \p{L}: of any script, CJK as well, where a "word" is a whole run without spaces
	isNumber               // \p{N}: 7, and also ½ ² Ⅷ ٣
	isSpace                // \s but for \r and \n: with U+00A0 and U+3000, without U+200B
	isNewline              // [\r\n]
)

// classes holds the class of every code point, in a megabyte of which ordinary text touches a few pages. One load
// answers for any character, where unicode.Is would search its tables. Built once, in about a millisecond.
var classes = sync.OnceValue(func() *[unicode.MaxRune + 1]class {
	table := new([unicode.MaxRune + 1]class)
	fill := func(t *unicode.RangeTable, c class) {
		for _, r := range t.R16 {
			for x := uint32(r.Lo); x <= uint32(r.Hi); x += uint32(r.Stride) {
				table[x] = c
			}
		}
		for _, r := range t.R32 {
			for x := r.Lo; x <= r.Hi; x += r.Stride {
				table[x] = c
			}
		}
	}
	// Go's own classes, whichever Unicode they are of, then what makes them those of Unicode 16. The order matters: what
	// is filled in later wins. All that nothing fills in stays 0, a symbol.
	fill(unicode.L, isLetter)
	fill(unicode.N, isNumber)
	fill(lateSymbols, isSymbol)
	fill(letters16, isLetter)
	fill(numbers16, isNumber)
	fill(unicode.White_Space, isSpace)
	table['\r'], table['\n'] = isNewline, isNewline
	return table
})

// A splitter cuts text into the pieces of Qwen's pattern. It carries the table, so that the inner loops need not ask
// for it. A regular expression engine tries the alternatives one after the other at each place and backs up when one
// fails half-way. Here, but for the first, the classes of two characters already say which alternative it will be. The
// first row that fits counts:
//
//	first      second    alternative
//	'          s, t, …   1   a contraction
//	letter     any       2   letters
//	other      letter    2   letters, with the first before them (not a digit or a newline)
//	digit      any       3   alone
//	symbol     any       4   symbols, then newlines
//	U+0020     symbol    4   the same, with the space before them
//	space      any       5, 6 or 7: white space
type splitter struct{ class *[unicode.MaxRune + 1]class } // by code point

// at returns the class and the length in bytes of the character at i, and length 0 at the end of the text.
func (s splitter) at(text string, i int) (class, int) {
	if i >= len(text) {
		return isSymbol, 0
	}
	if text[i] < utf8.RuneSelf {
		return s.class[text[i]], 1
	}
	r, n := utf8.DecodeRuneInString(text[i:])
	return s.class[r], n
}

// run returns the end of the run of characters of class c that begins at i. ASCII does not go through the decoder: it
// is nearly all of code and of English.
func (s splitter) run(text string, i int, c class) int {
	for i < len(text) {
		if b := text[i]; b < utf8.RuneSelf {
			if s.class[b] != c {
				break
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if s.class[r] != c {
			break
		}
		i += n
	}
	return i
}

// next returns the end of the piece that begins at i, i < len(text). The alternatives come in the pattern's order and
// the first that matches wins, even if a later one would match more: "'sx" is 's and x.
//
//	text        pieces              because
//	don't       don 't              don is letters; then the contraction
//	 can        ␣can                one character that is no letter may stand in front
//	$can        $can                a dollar sign may, too
//	x = 10      x ␣= ␣ 1 0          a digit takes nothing in front, so the space stays alone
//	a   b       a ␣␣ ␣b             all spaces but the last, which goes with b
//	)⏎⏎⇥x       )⏎⏎ ⇥x              symbols take the newlines after them
func (s splitter) next(text string, i int) int {
	first, n := s.at(text, i)

	// (?i:'s|'t|'re|'ve|'m|'ll|'d)
	if text[i] == '\'' {
		if end := contraction(text, i); end > 0 {
			return end
		}
	}

	// [^\r\n\p{L}\p{N}]?\p{L}+
	// Letters, with whatever one character stands before them: a space, a dot, a quote, a bracket, a mark.
	if first == isLetter {
		return s.run(text, i+n, isLetter)
	}
	second, m := s.at(text, i+n)
	if first != isNumber && first != isNewline && second == isLetter && m > 0 {
		return s.run(text, i+n+m, isLetter)
	}

	// \p{N}
	// Digits one by one: Qwen spells numbers, 2024 is four pieces.
	if first == isNumber {
		return i + n
	}

	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	// Symbols, with one space before them (only U+0020) and the line ends after them: " {\n" is one piece.
	if first == isSymbol || text[i] == ' ' && second == isSymbol && m > 0 {
		end := s.run(text, i+n, isSymbol)
		return s.run(text, end, isNewline)
	}

	// What is left is white space, to which three alternatives apply; one look at the whole run decides.
	// \s*[\r\n]+ takes it up to the last newline in it: the indentation after that belongs to the next line.
	// \s+(?!\S) takes all of it before the end of the text, else all but the last character, if any are left:
	// that one stays for the word after it, as in " word".
	// \s+ takes that last one if nothing else has taken it, as before a digit.
	end, last, afterNewline := i, i, 0 // of the run; of all but its last character; of what its last newline ends
	for c, n := first, n; n > 0 && (c == isSpace || c == isNewline); c, n = s.at(text, end) {
		last = end
		if end += n; c == isNewline {
			afterNewline = end
		}
	}
	switch {
	case afterNewline > 0:
		return afterNewline // \s*[\r\n]+
	case end == len(text) || last == i:
		return end // \s+(?!\S) at the end of the text, or \s+ for a single one
	}
	return last // \s+(?!\S) before a word
}

// contraction returns the end of a contraction at i, where text has an apostrophe, or 0. Letters match in either
// case; the long ſ, U+017F, counts as another case of s, the only such letter here (all code points were tried).
// The apostrophe is U+0027 only: ’ is a symbol like others.
//
//	it's    it 's            IT'LL    IT 'LL         'tis    't is: the pattern knows no English
//	it’s    it ’s: the second alternative, letters with one character before them
func contraction(text string, i int) int {
	const longS = "ſ"  // two bytes
	rest := text[i+1:] // after the apostrophe
	if len(rest) > 0 { // |0x20 makes capitals small; no other byte becomes one of these letters
		switch rest[0] | 0x20 {
		case 's', 't', 'm', 'd':
			return i + 2
		}
	}
	if strings.HasPrefix(rest, longS) {
		return i + 1 + len(longS)
	}
	if len(rest) > 1 {
		switch string([]byte{rest[0] | 0x20, rest[1] | 0x20}) {
		case "re", "ve", "ll":
			return i + 3
		}
	}
	return 0
}

// The rest of this file is data: where the Unicode of Go, of x/text and of Hugging Face's Rust crates differ. Each range
// is {first, last, stride}. All were found by running every code point through both sides and recording Hugging Face's
// answer (testdata/record_tokenizer.py); TestTokenizerSplitUnicode compares all 1,114,112 again, so a Go release that brings a
// newer Unicode fails there, and not in somebody's ids.

// inert holds the characters that gained a combining class or a decomposition after Hugging Face's NFC was made
// (known up to Unicode 18). NFC leaves them as they are, and nothing sorts past them or composes with them. Ranges run
// on over characters that NFC never touches.
var inert = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x05C8, 0x05C9, 1}, {0x07FD, 0x07FD, 1}, {0x0897, 0x08D3, 1}, {0x09FE, 0x09FE, 1}, {0x0C3C, 0x0C3C, 1},
		{0x0D3B, 0x0D3C, 1}, {0x0EBA, 0x0EBA, 1}, {0x1715, 0x1715, 1}, {0x1ABF, 0x1AF0, 1}, {0x1DF6, 0x1DFA, 1},
		{0xA82C, 0xA82C, 1},
	},
	R32: []unicode.Range32{
		{0x105C9, 0x105E4, 1}, {0x10D24, 0x10F85, 1}, {0x11070, 0x11070, 1}, {0x1133B, 0x1133B, 1},
		{0x11382, 0x113D0, 1}, {0x1145E, 0x1145E, 1}, {0x11839, 0x11A99, 1}, {0x11D42, 0x1612F, 1},
		{0x16D63, 0x16FF1, 1}, {0x1D127, 0x1D128, 1}, {0x1D250, 0x1D281, 1}, {0x1E08F, 0x1E6F5, 1},
	},
}

// letters16 and numbers16 hold the letters and numbers that Unicode 15.1 and 16 added to those of Unicode 15: Garay,
// Todhri, Sunuwar, Tulu-Tigalari, Gurung Khema, Kirat Rai, Ol Onal, more Egyptian hieroglyphs, a block of Han. Where Go
// knows them already, they change nothing.
var letters16 = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1C89, 0x1C8A, 1}, {0xA7CB, 0xA7CD, 1}, {0xA7DA, 0xA7DC, 1}},
	R32: []unicode.Range32{
		{0x105C0, 0x105F3, 1}, {0x10D4A, 0x10D65, 1}, {0x10D6F, 0x10D85, 1}, {0x10EC2, 0x10EC4, 1},
		{0x11380, 0x11389, 1}, {0x1138B, 0x1138B, 1}, {0x1138E, 0x1138E, 1}, {0x11390, 0x113B5, 1},
		{0x113B7, 0x113B7, 1}, {0x113D1, 0x113D1, 1}, {0x113D3, 0x113D3, 1}, {0x11BC0, 0x11BE0, 1},
		{0x13460, 0x143FA, 1}, {0x16100, 0x1611D, 1}, {0x16D40, 0x16D6C, 1}, {0x18CFF, 0x18CFF, 1},
		{0x1E5D0, 0x1E5ED, 1}, {0x1E5F0, 0x1E5F0, 1}, {0x2EBF0, 0x2EE5D, 1},
	},
}

var numbers16 = &unicode.RangeTable{
	R32: []unicode.Range32{
		{0x10D40, 0x10D49, 1}, {0x116D0, 0x116E3, 1}, {0x11BF0, 0x11BF9, 1}, {0x16130, 0x16139, 1},
		{0x16D70, 0x16D79, 1}, {0x1CCF0, 0x1CCF9, 1}, {0x1E5F1, 0x1E5FA, 1},
	},
}

// lateSymbols holds the letters and numbers that came after Unicode 16 (known up to 18): to the pattern they are
// unassigned, so symbols, also where Go knows better. Ranges run on over characters that are symbols anyway.
var lateSymbols = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x0558, 0x0558, 1}, {0x058B, 0x058C, 1}, {0x088F, 0x088F, 1}, {0x0C5C, 0x0C5C, 1}, {0x0CDC, 0x0CDC, 1},
		{0x208F, 0x208F, 1}, {0x209D, 0x209F, 1}, {0xA7CE, 0xA7CF, 1}, {0xA7D2, 0xA7D2, 1}, {0xA7D4, 0xA7D4, 1},
		{0xA7DD, 0xA7F1, 1}, {0xAB6C, 0xAB6D, 1},
	},
	R32: []unicode.Range32{
		{0x107BB, 0x107BF, 1}, {0x10940, 0x10959, 1}, {0x10EC5, 0x10EEE, 1}, {0x11B0A, 0x11B0A, 1},
		{0x11DB0, 0x11DF1, 1}, {0x1246F, 0x1247F, 1}, {0x12550, 0x12686, 1}, {0x16EA0, 0x16ED3, 1},
		{0x16FF2, 0x16FF6, 1}, {0x187F8, 0x187FF, 1}, {0x18CD6, 0x18CDA, 1}, {0x18D09, 0x191D2, 1},
		{0x1B123, 0x1B128, 1}, {0x1B168, 0x1B168, 1}, {0x1D6A6, 0x1D6A6, 1}, {0x1DF1F, 0x1DF24, 1},
		{0x1DF2B, 0x1DFFF, 1}, {0x1E6C0, 0x1E6FF, 1}, {0x2B73A, 0x2B73F, 1}, {0x2B81E, 0x2B81E, 1},
		{0x2CEA2, 0x2CEAD, 1}, {0x323B0, 0x3FC3F, 1},
	},
}
