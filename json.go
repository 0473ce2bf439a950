package qwen

// A strict reader of JSON.
//
// What a checkpoint has besides weights is JSON: config.json, the tokenizer, the index of shards, and the header of
// each safetensors file. They come from strangers, and encoding/json forgives what a loader must not: it matches field
// names in any case, takes the last of two equal keys, reads null as "nothing" and turns broken UTF-8 into U+FFFD. This
// reader refuses all of that and says where.
//
// It is a pull reader: the caller walks the document and asks for what it expects to find.
//
//	{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}
//
//	err := readJSON(data, func(r *jsonReader) {
//		r.object(func(key string) {            // called once for each field of the outer object
//			if key == "model" {                // a field that the function does not read is checked and skipped
//				r.object(func(key string) { … r.int() … r.array(func(i int) { … r.string() … }) })
//			}
//		})
//	})
//
// Call by call, where ↑ is the reader's position:
//
//	{"a": [1, 2]}
//	↑                open steps into the object
//	 ↑               entries reads the key and the colon, and calls field("a")
//	      ↑          open steps into the array
//	       ↑         element(0) reads 1
//	          ↑      after a comma, element(1) reads 2
//	           ↑     more finds ], one level up
//	            ↑    more finds }, and after it is the end of the document
//
// The first error stops the walk: from then on every method returns a zero value at once, so callers need no
// error checks of their own. The error names the place: `model.merges[17]: found a number, expected a string`.
//
// Why not read everything into maps first? The vocabulary and the merges of Qwen3's tokenizer.json are 454,417 strings
// and 151,643 numbers. A tree of them, each in an interface, takes several times the file, and every use must then ask of
// every value what it is. Here the caller says what it wants when the value is at hand, so a wrong type is found where it
// stands.
//
// What the caller does not want is still read, and checked:
//
//	{"a": 1, "a": 2}       a: found this key a second time, expected each key once
//	{"a": [1, 2,]}         a[2]: found ']' at byte 12, expected a value
//	{"a": 01}              a: found '1' at byte 7, expected ',' or '}'
//	{"a": "\ud83d"}        a: found \ud83d, half a surrogate pair, expected \ud800–\udbff followed by \udc00–\udfff
//	{"a": 1} {}            found '{' at byte 9, expected nothing after the document
//
// What is refused, beyond the grammar of RFC 8259: a second value or anything but white space after the document,
// a key twice in one object (keys are compared after their escapes are read, in exact case), nesting deeper than 64,
// invalid UTF-8, \u escapes that name half a surrogate pair (no Go string can hold one), numbers beyond float64. Not
// refused: values that mean nothing to the caller. Whether a field that nobody knows is a mistake depends on the file.
//
// Numerics: float returns the nearest float64. int takes integers as written in JSON without fraction or exponent,
// in the range of int64; 1.0, 1e3 and -0 are not integers here.
//
// Limits: the document is held in memory as one string, and the strings returned are parts of it. A caller that
// keeps a few short strings of a large document should clone them, or they keep the whole document alive.
//
// Reference: RFC 8259. encoding/json/v2 refuses the same in most places; in Go 1.26 it is an experiment.
//
// Next: tokenizer.go

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is refused whatever the file is for. A checkpoint's own files nest 5 deep, and have escapes only in short strings
// and chat templates; its objects, but for the vocabulary, have a few thousand keys.
const (
	maxJSONDepth   = 64      // objects and arrays inside each other
	maxJSONKeys    = 1 << 18 // of the objects that are open: all are held, to find a key that is there twice
	maxJSONEscaped = 1 << 22 // bytes of a string with escapes, which must be copied
	maxJSONCopied  = 1 << 23 // bytes of all such strings
)

// jsonReader is a position in a document. Methods read the value at that position and move past it:
//
//	{"model": {"merges": ["a b", "c d"]}}
//	                             ↑ pos        path: model, merges, 1        field(): model.merges[1]
//
// The path is kept while reading and spelled out only for an error: of hundreds of thousands of values one may be wrong.
type jsonReader struct {
	text string     // the document
	pos  int        // of the next byte
	path []jsonStep // from the outermost value to the one being read; its length is the depth
	err  error      // the first error; once set, nothing is read any more

	keys   int // of the objects that are open
	copied int // bytes of strings with escapes so far
}

// jsonStep is one step of a path: a key of an object, or an index of an array (then key is not used). The path to the
// second of the merges above has three:
//
//	{"model", keyStep}  {"merges", keyStep}  {"", 1}        model.merges[1]
type jsonStep struct {
	key   string
	index int // from 0; keyStep for a key, noStep before the first one
}

// What a step holds when it is not an index.
const (
	keyStep = -1
	noStep  = -2
)

// fieldError is a fault in a JSON document: the field it is in, what was found there, what was expected. It is no
// LoadError, since bytes have no file name; inFile of load.go makes one of it.
type fieldError struct {
	Field   string // model.merges[17]; empty for the document as a whole
	Problem string // "found …, expected …"
}

// Error returns one line, without the file's name, which inFile puts before it.
func (e *fieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// readJSON reads data as exactly one JSON document. value is called to read it, and may read one field or none; what it
// leaves unread is checked and skipped. The result is the first error, of the reader or set by the caller with fail.
func readJSON(data []byte, value func(r *jsonReader)) error {
	r := &jsonReader{text: string(data)} // the one copy: every string read later is a part of it
	// UTF-8 is checked once for the whole document, so that nothing below has to think of it. A file saved as Latin-1
	// has "café" with the byte 0xe9 alone, which would be the beginning of a character of three bytes.
	if !utf8.Valid(data) {
		for r.pos < len(data) {
			c, size := utf8.DecodeRune(data[r.pos:])
			if c == utf8.RuneError && size == 1 {
				break
			}
			r.pos += size
		}
		r.fail(fmt.Sprintf("byte 0x%02x at offset %d", data[r.pos], r.pos), "valid UTF-8")
		return r.err
	}
	r.valueOrSkip(func() { value(r) })
	// A second document, or a forgotten half of this one, may mean that another reader would see something else: one that
	// stops at the end of the first value, or one that takes the last of several lines.
	if r.space(); r.err == nil && r.pos < len(r.text) {
		r.syntax("nothing after the document")
	}
	return r.err
}

// object reads an object and calls field for each key, at the key's value.
// A key that occurs twice is an error. What field does not read is checked and skipped.
//
// RFC 8259 leaves open what a second key means, and readers differ: first, last, both. A file that has one could
// show one value to a program that checks it and another to the program that runs it.
func (r *jsonReader) object(field func(key string)) {
	var few [16]string // keys so far: a short list is searched, a long one becomes a set
	keys, set := few[:0], map[string]bool(nil)
	defer func(n int) { r.keys = n }(r.keys)
	r.entries(func(key string) {
		switch {
		case set != nil && set[key], set == nil && slices.Contains(keys, key):
			r.fail("this key a second time", "each key once")
			return
		case r.keys == maxJSONKeys:
			r.fail("one more key", fmt.Sprintf("at most %d in an object and those around it", maxJSONKeys))
			return
		case set != nil:
			set[key] = true
		case len(keys) < len(few):
			keys = append(keys, key)
		default:
			set = map[string]bool{key: true}
			for _, k := range keys {
				set[k] = true
			}
		}
		r.keys++
		field(key)
	})
}

// entries is object for callers that find a second key themselves, as a large table does anyway: the vocabulary goes
// into a map of 151,643 keys, and a set beside it would be the same map again.
func (r *jsonReader) entries(field func(key string)) {
	if !r.open('{', "an object") {
		return
	}
	// object = '{' [ key ':' value { ',' key ':' value } ] '}'
	for first := true; r.more(first, '}'); first = false {
		if r.space(); r.peek() != '"' {
			r.syntax("a key in quotes")
			return
		}
		key := r.string()
		r.path[len(r.path)-1] = jsonStep{key, keyStep}
		if r.space(); r.peek() != ':' {
			r.syntax("':' after a key")
			return
		}
		r.pos++
		r.valueOrSkip(func() { field(key) })
	}
}

// array reads an array and calls element for each index, at the element's value.
// What element does not read is checked and skipped. Nothing is stored: a list of 151,387 merges is 151,387 calls. How
// long an array may be is for the caller to say, which knows what an element costs.
func (r *jsonReader) array(element func(i int)) {
	if !r.open('[', "an array") {
		return
	}
	// array = '[' [ value { ',' value } ] ']'
	for i := 0; r.more(i == 0, ']'); i++ {
		r.path[len(r.path)-1] = jsonStep{index: i}
		r.valueOrSkip(func() { element(i) })
	}
}

// open steps into an object or array: past its bracket, one level deeper. The new step has no key or index yet; each
// entry writes its own into it. Depth is limited because each level is a Go call, and a stack that overflows ends the
// program: no error, no recover. A megabyte of '[' would be a million levels.
func (r *jsonReader) open(bracket byte, name string) bool {
	if r.kind() != bracket {
		r.mismatch(name)
		return false
	}
	if len(r.path) == maxJSONDepth {
		r.fail("deeper nesting", fmt.Sprintf("at most %d levels", maxJSONDepth))
		return false
	}
	r.pos++
	r.path = append(r.path, jsonStep{index: noStep})
	return true
}

// more reports whether another element follows, and reads what lies between: a comma before every element but the
// first, or the closing bracket, which ends the level. A comma before the bracket, [1, 2,], is found when the element
// after it is read.
//
//	[  1  ,  2  ]           where the reader is when more is called, three times
//	 ↑   ↑     ↑            true; true, past the comma; false, past the bracket
func (r *jsonReader) more(first bool, closing byte) bool {
	if r.err != nil {
		return false
	}
	r.space()
	switch c := r.peek(); {
	case c == closing: // the end, one level up; also of an empty object or array
		r.pos++
		r.path = r.path[:len(r.path)-1]
		return false
	case first: // whatever stands there is read as the first element
		return true
	case c == ',': // and then there must be another
		r.pos++
		return true
	}
	r.syntax(fmt.Sprintf("',' or '%c'", closing))
	return false
}

// valueOrSkip calls read, and skips the value if read left it alone: so a caller's function may ignore fields. Whether
// it did is seen from the position: every value is at least one byte long.
func (r *jsonReader) valueOrSkip(read func()) {
	if r.err != nil { // the loop that calls ends with its next step
		return
	}
	r.space() // so that before is where the value itself begins
	if before := r.pos; r.pos < len(r.text) {
		read()
		if r.pos > before {
			return
		}
	}
	r.skip()
}

// skip reads any value, with every check, and drops it. What is skipped must be sound too: a file with two equal keys
// is refused wherever they are. Otherwise it would depend on the version of this package what a file may hold.
func (r *jsonReader) skip() {
	switch r.kind() {
	case '{':
		r.object(func(string) {})
	case '[':
		r.array(func(int) {})
	case '"':
		r.string() // the escapes in it are checked, too
	case '0':
		start := r.pos
		// Whether a number fits float64 is asked only where it may not: with an exponent, or 300 digits long.
		if text := r.number("a number"); len(text) > 300 || strings.ContainsAny(text, "eE") {
			r.pos = start
			r.float()
		}
	case 't':
		r.bool()
	case 'n':
		r.null()
	default:
		r.syntax("a value")
	}
}

// kind says what comes next without reading it. The first byte of a value always tells: that is what makes JSON easy to
// read, and why nothing here ever has to go back.
//
//	the next byte    {    [    "    - or a digit    t or f    n    anything else
//	kind             '{'  '['  '"'  '0'             't'       'n'  0: no value begins here
func (r *jsonReader) kind() byte {
	if r.err != nil {
		return 0
	}
	r.space()
	switch c := r.peek(); c {
	case '{', '[', '"', 'n':
		return c
	case 't', 'f':
		return 't'
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	}
	return 0
}

// null reads null if it comes next and says whether it did: for fields that may be null, "if !r.null() { r.int() }".
// The other methods never take null for a value.
func (r *jsonReader) null() bool { return r.kind() == 'n' && r.word("null") }

// bool reads true or false, and neither "false" in quotes nor 0 or 1, which programs take for one or the other.
func (r *jsonReader) bool() bool {
	if r.kind() != 't' {
		r.mismatch("true or false")
		return false
	}
	if r.text[r.pos] == 't' {
		return r.word("true")
	}
	r.word("false")
	return false
}

// word reads exactly the given word: true, false or null, in small letters. Python's True and None are no JSON. What
// follows is checked when it is read: "nullx" fails at the x.
func (r *jsonReader) word(w string) bool {
	if !strings.HasPrefix(r.text[r.pos:], w) {
		r.syntax("a value")
		return false
	}
	r.pos += len(w)
	return true
}

// int reads an integer: digits, maybe a minus sign before them, no fraction, no exponent, not -0. Sizes and ids are
// written so; 1e3 for a size is a mistake or a trap (1e400, 0.5), and float64 would round above 2^53: 9007199254740993
// read as a float64 is 9007199254740992, and an offset would point one byte off.
//
//	yes    0   -1   151936   9223372036854775807
//	no     1.0   1e3   -0   9223372036854775808   "1"
func (r *jsonReader) int() int64 {
	// The grammar first, then the integer's own rules, so that the message can say which of them is broken.
	text := r.number("an integer")
	if r.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if strings.ContainsAny(text, ".eE") || text == "-0" {
		r.fail(clip(text), "an integer")
	} else if err != nil {
		r.fail(clip(text), "an integer of at most 64 bits")
	}
	return n
}

// float reads a number. NaN and Infinity, which Python writes, are no JSON; 1e999 is, but no float64. A number too small
// for float64, such as 1e-999, is 0: that is its nearest.
func (r *jsonReader) float() float64 {
	text := r.number("a number")
	if r.err != nil {
		return 0
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil { // the grammar was right, so it can only be too large
		r.fail(clip(text), "a number of at most 1.8e308")
	}
	return x
}

// number reads the text of a number:  -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
//
//	yes    0   -0.5   1E3   1e+06   12345678901234567890
//	no     01   +1   .5   1.   0x10   1_000   NaN   -Infinity
//
// What the digits mean, and whether they fit, is for int and float to say.
func (r *jsonReader) number(want string) string {
	if r.kind() != '0' {
		r.mismatch(want)
		return ""
	}
	start := r.pos
	// One digit at least, and all that follow: after the sign, after the point, after the exponent.
	digits := func() {
		if c := r.peek(); c < '0' || c > '9' {
			r.syntax("a digit")
		}
		for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
			r.pos++
		}
	}
	// -? (0 | [1-9][0-9]*)
	if r.peek() == '-' { // + is no part of JSON here, only in an exponent
		r.pos++
	}
	if r.peek() == '0' {
		r.pos++ // a leading 0 stands alone: what follows it cannot be a digit
	} else {
		digits()
	}
	// (. [0-9]+)?
	if r.peek() == '.' { // and a digit on either side: .5 and 1. are no numbers
		r.pos++
		digits()
	}
	// ([eE] [+-]? [0-9]+)?
	if c := r.peek(); c == 'e' || c == 'E' {
		r.pos++
		if c := r.peek(); c == '+' || c == '-' {
			r.pos++
		}
		digits()
	}
	return r.text[start:r.pos]
}

// string reads a string. Without escapes, and nearly all have none, it is a part of the document, not a copy: Qwen3's
// tokenizer.json holds more than 450,000 of them. In Go a string is a pointer and a length, so a part of one costs
// nothing; the price is that the whole stays in memory as long as any part does. Keys, too, are read here, so "\u0061"
// and "a" are the same key.
//
//	"Ġthe"          5 bytes of the document: Ġ is two of them
//	"say \"hi\""    a copy: the backslashes are not part of it
//	"a	b"         refused: a tab must be written as \t
func (r *jsonReader) string() string {
	if r.kind() != '"' {
		r.mismatch("a string")
		return ""
	}
	r.pos++
	text, start := r.text, r.pos
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"': // the end, and no escape on the way
			r.pos = i + 1
			return text[start:i]
		case c == '\\': // what came before is kept, the rest is read the slow way
			r.pos = i
			return r.escaped(start)
		case c < ' ': // RFC 8259 asks for \n, \t, \u0001 …
			r.pos = i
			r.syntax("control characters written as escapes")
			return ""
		}
	}
	r.pos = len(text)
	r.syntax("'\"' at the end of a string")
	return ""
}

// escaped reads a string from start whose first backslash is at the reader's position. It builds the text byte by
// byte; bytes of longer characters pass through as they are, since none of them looks like a quote or a backslash: in
// UTF-8 every byte of a character beyond ASCII has its highest bit set. There is a limit to the length, because here a
// file makes the program allocate: without escapes a string costs nothing, however long it is.
func (r *jsonReader) escaped(start int) string {
	// \/ stands for /, \b for a backspace, and so on: the letter, and what it means, at the same place.
	const letters, values = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	var s strings.Builder
	s.WriteString(r.text[start:r.pos])
	for r.err == nil {
		switch c := r.peek(); {
		case s.Len() > maxJSONEscaped:
			r.fail("a longer string", fmt.Sprintf("at most %d bytes with escapes", maxJSONEscaped))
		case r.copied+s.Len() > maxJSONCopied:
			r.fail("more strings with escapes", fmt.Sprintf("at most %d bytes in all", maxJSONCopied))
		case c == '"': // the end; a quote in the text would have come after a backslash
			r.pos++
			r.copied += s.Len()
			return s.String()
		case r.pos == len(r.text):
			r.syntax("'\"' at the end of a string")
		case c < ' ':
			r.syntax("control characters written as escapes")
		case c != '\\':
			s.WriteByte(c)
			r.pos++
		default:
			r.pos++
			if i := strings.IndexByte(letters, r.peek()); i >= 0 {
				s.WriteByte(values[i])
				r.pos++
			} else if r.peek() == 'u' {
				s.WriteRune(r.unicodeEscape())
			} else {
				r.syntax(`one of " \ / b f n r t u after a backslash`)
			}
		}
	}
	return ""
}

// unicodeEscape reads uXXXX, and a second \uXXXX where the first is a high surrogate: characters past U+FFFF are written
// as two escapes, D800–DBFF followed by DC00–DFFF, with ten bits in each.
//
//	😀 = U+1F600    1F600 - 10000 = 0F600 = 0000111101 1000000000    \ud83d \ude00
//
// encoding/json reads half a pair as U+FFFD, so that different names become one; here it is an error. Python writes all
// beyond ASCII like this unless it is told not to, so a name in Chinese or with an emoji comes as escapes.
func (r *jsonReader) unicodeEscape() rune {
	hex := func() rune {
		if r.pos+5 <= len(r.text) {
			n, err := strconv.ParseUint(r.text[r.pos+1:r.pos+5], 16, 16) // no sign or underscore passes in base 16
			if err == nil {
				r.pos += 5 // the u and its four digits
				return rune(n)
			}
		}
		r.syntax("four hexadecimal digits after \\u")
		return 0
	}
	high := hex()
	if r.err != nil || high < 0xD800 || high > 0xDFFF {
		return high // a character by itself
	}
	if high < 0xDC00 && strings.HasPrefix(r.text[r.pos:], `\u`) {
		r.pos++
		if low := hex(); low >= 0xDC00 && low <= 0xDFFF {
			return 0x10000 + (high-0xD800)<<10 + (low - 0xDC00)
		}
	}
	if r.err == nil {
		r.fail(fmt.Sprintf("\\u%04x, half a surrogate pair", high), "\\ud800–\\udbff followed by \\udc00–\\udfff")
	}
	return 0
}

// space moves past white space: only these four characters, not all that Unicode calls space. A no-break space, which
// text from a web page may hold, is an error where a value should begin.
func (r *jsonReader) space() {
	for r.pos < len(r.text) {
		switch r.text[r.pos] {
		case ' ', '\n', '\t', '\r':
			r.pos++
		default:
			return
		}
	}
}

// peek returns the next byte without reading it, 0 at the end of the document. A 0 in the document is no part of JSON
// outside a string, so the two need not be told apart there.
func (r *jsonReader) peek() byte {
	if r.pos < len(r.text) {
		return r.text[r.pos]
	}
	return 0
}

// fail sets the reader's error at the field being read, in the words that every message of this package has: what was
// found, and what was expected. Callers use it for values that are well-formed but wrong:
//
//	if size := r.int(); size <= 0 {
//		r.fail(strconv.FormatInt(size, 10), "a positive integer")   // hidden_size: found -1, expected a positive integer
//	}
//
// Only the first error counts; what comes after it is often its consequence, and since nothing is read any more after
// it, the position and the path are still those of the fault.
func (r *jsonReader) fail(found, expected string) {
	if r.err == nil {
		r.err = &fieldError{r.field(), "found " + found + ", expected " + expected}
	}
}

// mismatch reports a value of the wrong kind, or no value at all, which syntax reports. Asked for an integer:
//
//	{"hidden_size": "1024"}    hidden_size: found a string, expected an integer
//	{"hidden_size": ?}         hidden_size: found '?' at byte 16, expected an integer
func (r *jsonReader) mismatch(expected string) {
	// In words for a person who looks at the file: kind's '0' and 't' are this reader's own. A kind of 0 has no name.
	names := map[byte]string{'{': "an object", '[': "an array", '"': "a string", '0': "a number", 't': "true or false", 'n': "null"}
	if name := names[r.kind()]; name != "" {
		r.fail(name, expected)
		return
	}
	r.syntax(expected)
}

// syntax reports text that is not JSON: the character and where it is, since there may be no field to name, as in
// `{"a" 1}`: found '1' at byte 5, expected ':' after a key.
func (r *jsonReader) syntax(expected string) {
	found := "the end of the file"
	if r.pos < len(r.text) {
		c, _ := utf8.DecodeRuneInString(r.text[r.pos:])
		found = fmt.Sprintf("%s at byte %d", strconv.QuoteRune(c), r.pos)
	}
	r.fail(found, expected)
}

// field returns the path of the value being read: weight_map."model.norm.weight", model.merges[17]. A line
// number would say little: the header of a safetensors file is one line, Qwen3's tokenizer.json three quarters of a million.
func (r *jsonReader) field() string {
	var s strings.Builder
	for _, step := range r.path {
		switch {
		case step.index >= 0:
			fmt.Fprintf(&s, "[%d]", step.index)
		case step.index == keyStep && s.Len() > 0:
			s.WriteString("." + plainKey(step.key))
		case step.index == keyStep:
			s.WriteString(plainKey(step.key))
		}
	}
	if path := s.String(); len(path) <= 400 {
		return path
	}
	return clip(s.String()) // only files made to be refused nest this long
}

// plainKey returns a key as it stands if it reads as one word, else in quotes: tensor names hold dots, and a path that
// showed them bare could not be told from a deeper one.
//
//	rope_theta              rope_theta
//	model.norm.weight       "model.norm.weight"
//	Ġthe                    "Ġthe"
func plainKey(key string) string {
	for _, c := range key {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return quote(key)
		}
	}
	if key == "" {
		return `""`
	}
	return clip(key)
}

// quote returns found text for an error message: in quotes, escaped, and cut to 60 bytes.
func quote(s string) string { return strconv.Quote(clip(s)) }

// clip cuts text to about 60 bytes, between characters. What a message quotes comes from the file, and a file may
// hold a key of a hundred megabytes. quote after it escapes what a terminal would obey, such as \x1b: a message is
// printed where somebody looks, and a file must not be able to clear the screen or to colour its own error green.
func clip(s string) string {
	if len(s) <= 60 {
		return s
	}
	n := 60
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
