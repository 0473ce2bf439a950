package qwen

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The package is read as documentation. These tests hold what can be counted: that
// every file leads to the next, that functions fit on a screen, that comments have
// not fallen behind, and that what they work out by hand is so.

// A source is one file of the package, without tests.
type source struct {
	name    string
	tree    *ast.File
	files   *token.FileSet
	lines   int // that are not blank
	comment int // lines of them with a comment
}

func sources(t *testing.T) map[string]source {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]source{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s := source{name: name, files: token.NewFileSet()}
		if s.tree, err = parser.ParseFile(s.files, name, data, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.TrimSpace(line) != "" {
				s.lines++
			}
		}
		commented := map[int]bool{}
		for _, group := range s.tree.Comments {
			for _, c := range group.List {
				commented[s.line(c.Pos())] = true
			}
		}
		s.comment = len(commented)
		all[name] = s
	}
	return all
}

func (s source) line(at token.Pos) int { return s.files.Position(at).Line }

// header is the text of the comments before the imports.
func (s source) header() string {
	var text strings.Builder
	for _, group := range s.tree.Comments {
		if len(s.tree.Decls) > 0 && group.Pos() < s.tree.Decls[0].Pos() {
			text.WriteString(group.Text())
		}
	}
	return text.String()
}

// longest returns the longest function and its lines.
func (s source) longest() (name string, lines int) {
	for _, d := range s.tree.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > lines {
				name, lines = f.Name.Name, n
			}
		}
	}
	return name, lines
}

func TestReadingSizes(t *testing.T) {
	limits := map[string]int{"forward": 40, "block": 15} // of qwen.go
	// Files that are tools, or a few lines: they may explain less.
	short := []string{"diagnose.go", "mistakes.go", "report.go", "page.go", "file_unix.go", "file_other.go", "simd_other.go"}
	all := sources(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		longest, lines := s.longest()
		t.Logf("%-18s %4d lines, %2d %% with a comment, longest function %s, %d lines", name, s.lines, 100*s.comment/s.lines, longest, lines)
		if 3*s.comment < s.lines && !slices.Contains(short, name) {
			t.Errorf("%s: %d of %d lines have a comment, expected at least a third: what does it teach?", name, s.comment, s.lines)
		}
		if lines > 60 {
			t.Errorf("%s: %s has %d lines, expected at most 60", name, longest, lines)
		}
		for _, d := range s.tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && name == "qwen.go" && limits[f.Name.Name] > 0 {
				if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > limits[f.Name.Name] {
					t.Errorf("%s has %d lines, expected at most %d", f.Name.Name, n, limits[f.Name.Name])
				}
			}
		}
	}
}

// TestReadingOrder follows the "Next:" of the files: from qwen.go to parallel.go, by
// way of every other one. Stubs of a few lines may stand beside the way.
func TestReadingOrder(t *testing.T) {
	left := map[string]bool{}
	for name, s := range sources(t) {
		left[name] = s.lines > 30
	}
	for _, name := range []string{"simd_amd64.s", "simd_arm64.s"} {
		left[name] = true
	}
	next := regexp.MustCompile(`(?m)^// Next: (\S+)$`)
	at := "qwen.go"
	for left[at] {
		delete(left, at)
		text, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if found := next.FindAllSubmatch(text, -1); len(found) == 1 {
			at = string(found[0][1])
		} else if at != "parallel.go" {
			t.Fatalf("%s: %d lines \"Next: FILE\", expected one", at, len(found))
		}
	}
	maps.DeleteFunc(left, func(_ string, must bool) bool { return !must })
	if at != "parallel.go" || len(left) > 0 {
		t.Errorf("the way ends at %s, where it has been before, and leaves out %v", at, slices.Sorted(maps.Keys(left)))
	}
}

// examples are what the header of a file shows indented, line by line.
func examples(t *testing.T, file string) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(sources(t)[file].header()) {
		if text, ok := strings.CutPrefix(line, "\t"); ok {
			lines = append(lines, strings.TrimRight(text, "\n"))
		}
	}
	return lines
}

// config.go shows a config.json. It is read here, with the words after each field
// cut off.
func TestReadingConfig(t *testing.T) {
	var file strings.Builder
	words := regexp.MustCompile(`  +[^ "].*$`)
	lines := examples(t, "config.go")
	from, to := slices.Index(lines, "{"), slices.Index(lines, "}")
	if from < 0 || to < from {
		t.Fatal("config.go shows no config.json")
	}
	for _, line := range lines[from : to+1] {
		file.WriteString(words.ReplaceAllString(strings.TrimLeft(line, " "), ""))
	}
	c, err := parseConfig([]byte(file.String()))
	if err != nil {
		t.Fatalf("%v in %s", err, file.String())
	}
	if n := parameters(c); n != 596_049_920 {
		t.Errorf("%d parameters, expected Qwen3-0.6B's", n)
	}
}

// What json.go, config.go, tokenizer_load.go and safetensors.go say of a file that is
// refused: the text, and the error.
func TestReadingRefused(t *testing.T) {
	refused := regexp.MustCompile(`^(\{.*?\}) {2,}(.*found .*)$`)
	for file, read := range map[string]func(data []byte) error{
		"json.go":           func(data []byte) error { return readJSON(data, func(*jsonReader) {}) },
		"config.go":         func(data []byte) error { _, err := parseConfig(data); return err },
		"tokenizer_load.go": func(data []byte) error { _, err := parseTokenizer(data); return err },
	} {
		rows := 0
		for _, line := range examples(t, file) {
			if row := refused.FindStringSubmatch(line); row != nil {
				rows++
				if err := read([]byte(row[1])); err == nil || err.Error() != row[2] {
					t.Errorf("%s: %s is refused with %v, the file says %s", file, row[1], err, row[2])
				}
			}
		}
		if rows < 5 {
			t.Errorf("%s shows %d documents that are refused, expected 5 at least", file, rows)
		}
	}
	text, err := os.ReadFile("safetensors.go")
	if err != nil {
		t.Fatal(err)
	}
	for entry, rest := range map[string][2]string{
		`{"dtype": "BF16", "shape": [896], "data_offsets": [0, 1792]}`: {"", ""},
		`{"dtype": "bf16", …}`:     {`"shape": [1], "data_offsets": [0, 2]`, `dtype: found dtype "bf16", expected one of the format's types, such as BF16`},
		`{"shape": [-1], …}`:       {`"dtype": "BF16", "data_offsets": [0, 2]`, `shape[0]: found -1, expected a number that is not negative`},
		`{"data_offsets": [0], …}`: {`"dtype": "BF16", "shape": [1]`, `data_offsets: found 1 offsets, expected two: begin and end`},
	} {
		found := ""
		err := readJSON([]byte(strings.Replace(entry, "…", rest[0], 1)), func(r *jsonReader) { readEntry(r, "") })
		if err != nil {
			found = err.Error()
		}
		if shown := regexp.MustCompile(regexp.QuoteMeta(entry) + ` +` + regexp.QuoteMeta(rest[1])); found != rest[1] || !shown.Match(text) {
			t.Errorf("%s: %q, expected %q, and to be shown in safetensors.go", entry, found, rest[1])
		}
	}
}

// The numbers that safetensors.go shows in three types: bits, and what they are.
func TestReadingTypes(t *testing.T) {
	row := regexp.MustCompile(`^(-?[\d.]+) +(\w{8}) +(\w{4})(?: +([\d.]+))? +(\w{4})(?: +([\d.]+|\+Inf))?$`)
	rows := 0
	for _, line := range examples(t, "safetensors.go") {
		cells := row.FindStringSubmatch(line)
		if cells == nil {
			continue
		}
		rows++
		for i, dtype := range []DType{F32, BF16, F16} {
			bits, err := hex.DecodeString(cells[[]int{2, 3, 5}[i]])
			if err != nil {
				t.Fatal(err)
			}
			slices.Reverse(bits) // little-endian
			x := make([]float32, 1)
			widen(x, bits, dtype)
			if want := cmp.Or(cells[[]int{1, 4, 6}[i]], cells[1]); fmt.Sprint(x[0]) != want {
				t.Errorf("%s: %s %x is %v, expected %s", line, dtype, bits, x[0], want)
			}
		}
	}
	if rows != 4 {
		t.Errorf("safetensors.go shows %d numbers, expected 4", rows)
	}
}

// parameters counts the weights of a network as load.go does by hand.
func parameters(c Config) int {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	layer := 2*q*c.Hidden + 2*kv*c.Hidden + 3*c.Intermediate*c.Hidden + 2*c.Hidden
	if c.ModelType == "qwen2" {
		layer += q + 2*kv // biases
	} else {
		layer += 2 * c.HeadDim // norms
	}
	n := c.Vocab*c.Hidden + c.Layers*layer + c.Hidden
	if !c.TieEmbeddings {
		n += c.Vocab * c.Hidden
	}
	return n
}

// The table of published sizes in config.go, and the models that are here.
func TestReadingParameters(t *testing.T) {
	rows := 0
	for _, line := range examples(t, "config.go") {
		var name, tied, count string
		var c Config
		var cache int
		if n, _ := fmt.Sscan(line, &name, &c.Vocab, &c.Hidden, &c.Intermediate, &c.Layers, &c.Heads, &c.KVHeads, &c.HeadDim, &tied, &count, &cache); n != 11 {
			continue
		}
		rows++
		c.TieEmbeddings = tied == "yes"
		c.ModelType = strings.ToLower(name[:len("qwenN")])
		if got := fmt.Sprint(parameters(c)); got != strings.ReplaceAll(count, ",", "") {
			t.Errorf("%s: %s parameters, the table says %s", name, got, count)
		}
		if got := c.Layers * 2 * c.KVHeads * c.HeadDim * 4 / 1024; got != cache {
			t.Errorf("%s: %d KiB of cache a token, the table says %d", name, got, cache)
		}
	}
	if rows < 5 {
		t.Errorf("found %d rows in the table of config.go, expected 5", rows)
	}
	readingShares(t)
	for _, dir := range []string{"testdata/qwen2-tiny", "testdata/qwen3-tiny"} {
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := m.Parameters(), parameters(m.Config); got != want {
			t.Errorf("%s: %d parameters, expected %d", dir, got, want)
		}
		m.Close()
	}
}

// readingShares does the sums of load.go, cache.go and generate.go for the two smallest
// models.
func readingShares(t *testing.T) {
	qwen25 := Config{ModelType: "qwen2", Vocab: 151936, Hidden: 896, Intermediate: 4864, Layers: 24, Heads: 14, KVHeads: 2, HeadDim: 64, TieEmbeddings: true}
	qwen3 := Config{ModelType: "qwen3", Vocab: 151936, Hidden: 1024, Intermediate: 3072, Layers: 28, Heads: 16, KVHeads: 8, HeadDim: 128, TieEmbeddings: true}
	ffn := func(c Config) float64 {
		none := c
		none.Layers = 0
		return float64(c.Layers*3*c.Intermediate*c.Hidden) / float64(parameters(c)-parameters(none))
	}
	for _, sum := range []struct {
		what   string
		number float64
		want   string // in the digits that the text gives
	}{
		{"load.go, ffn.go: FFN of a layer, Qwen3-0.6B, three fifths", ffn(qwen3), "0.60"},
		{"load.go, ffn.go: FFN of a layer, Qwen2.5-0.5B, seven eighths", ffn(qwen25), "0.88"},
		{"load.go: embedding, Qwen3-0.6B, a quarter", float64(qwen3.Vocab*qwen3.Hidden) / float64(parameters(qwen3)), "0.26"},
		{"load.go: norms and biases, Qwen2.5-0.5B, percent", 100 * float64(24*(2*896+896+2*128)+896) / float64(parameters(qwen25)), "0.01"},
		{"kernel.go: bits of ln2High", float64(bits.Len(ln2High * 512)), "9"},
		{"kernel.go: bits of the largest n of exp", float64(bits.Len(-expLow * 3 / 2)), "8"},
		{"cache.go: the whole context, Qwen3-0.6B, GB", 40960 * 224 * 1024 / 1e9, "9.4"},
		{"generate.go: Qwen3-0.6B in BF16, GB", float64(2*parameters(qwen3)) / 1e9, "1.2"},
		{"generate.go: tokens a second from 20 GB a second", 20e9 / float64(2*parameters(qwen3)), "17"},
		{"linear.go: arrays of a piece: h and y, four of queries, four of keys and values, gate and up, Qwen3-0.6B, MiB",
			float64(PrefillChunk*(2*1024+4*2048+4*1024+2*3072)) * 4 / (1 << 20), "20"},
		{"generate.go: gate, or up, of a piece, MiB", PrefillChunk * 3072 * 4 / (1 << 20), "3"},
	} {
		_, digits, _ := strings.Cut(sum.want, ".")
		if got := strconv.FormatFloat(sum.number, 'f', len(digits), 64); got != sum.want {
			t.Errorf("%s: %s, expected %s", sum.what, got, sum.want)
		}
	}
}

// trace.go lists what a trace shows, with shapes in words.
func TestReadingTrace(t *testing.T) {
	m, err := Load("testdata/qwen3-tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, cache := m.Config, m.NewCache()
	if _, err := m.Forward([]int{1, 2}, cache); err != nil { // so that past is not 0
		t.Fatal(err)
	}
	size := map[string]int{"seq": 3, "past+seq": 5, "hidden": c.Hidden, "heads": c.Heads, "kvHeads": c.KVHeads, "headDim": c.HeadDim,
		"heads*headDim": c.Heads * c.HeadDim, "kvHeads*headDim": c.KVHeads * c.HeadDim, "intermediate": c.Intermediate, "vocab": c.Vocab}
	listed := regexp.MustCompile(`^(\w\S+) +\[([^\]]+)\]`)
	var got, want []string
	for _, line := range examples(t, "trace.go") {
		if row := listed.FindStringSubmatch(line); row != nil {
			var shape []int
			for name := range strings.SplitSeq(row[2], ", ") {
				shape = append(shape, size[name])
			}
			want = append(want, fmt.Sprint(row[1], shape))
		}
	}
	err = m.Trace([]int{3, 4, 5}, cache, func(name string, shape []int, x []float32) {
		if !strings.HasPrefix(name, "model.layers.1") {
			got = append(got, fmt.Sprint(name, shape))
		}
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v: a trace shows\n%s\nand trace.go lists\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The merges of "Hello" in tokenizer.go: a vocabulary of these tokens alone, the
// pairs with the ranks given there.
func TestReadingMerge(t *testing.T) {
	ranks := map[int]string{}
	pair := regexp.MustCompile(`\((\w+),(\w+)\) (\d+)`)
	for _, line := range examples(t, "tokenizer.go") {
		for _, p := range pair.FindAllStringSubmatch(line, -1) {
			var rank int
			fmt.Sscan(p[3], &rank)
			ranks[rank] = fmt.Sprintf("[%q,%q]", p[1], p[2])
		}
	}
	var merges []string
	for _, rank := range slices.Sorted(maps.Keys(ranks)) {
		merges = append(merges, ranks[rank])
	}
	vocab := `"H":0,"e":1,"l":2,"o":3,"He":4,"el":5,"ll":6,"lo":7,"Hel":8,"ell":9,"ello":10,"Hello":11`
	e := encoderFor(t, vocab, strings.Join(merges, ","))
	for text, want := range map[string][]int{"Hello": {11}, "ello": {10}, "el": {5}, "Hell": {0, 9}, "loll": {7, 6}} {
		if got := e.merge(nil, text); !slices.Equal(got, want) {
			t.Errorf("%s: ids %v, expected %v", text, got, want)
		}
	}
}

// encoderFor returns an encoder of a tokenizer.json with this vocabulary and these merges.
func encoderFor(t *testing.T, vocab, merges string) *encoder {
	t.Helper()
	pattern := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(qwenPattern)
	tokenizer, err := parseTokenizer([]byte(`{"normalizer": {"type": "NFC"},
		"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
			{"type": "Split", "pattern": {"Regex": "` + pattern + `"}, "behavior": "Isolated", "invert": false},
			{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
		"decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
		"model": {"type": "BPE", "vocab": {` + vocab + `}, "merges": [` + merges + `]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return &encoder{t: tokenizer, splitter: splitter{classes()}}
}

// The first merges of Qwen's list in tokenizer_load.go: each joins two tokens that are
// there by then, and gets the next id.
func TestReadingRanks(t *testing.T) {
	row := regexp.MustCompile(`^(\d+) +(\S+) +(\S+) +(\S+) +(\d+)( |$)`)
	rows := 0
	for _, line := range examples(t, "tokenizer_load.go") {
		if cells := row.FindStringSubmatch(line); cells != nil {
			rows++
			rank, _ := strconv.Atoi(cells[1])
			if cells[2]+cells[3] != cells[4] || cells[5] != strconv.Itoa(256+rank) {
				t.Errorf("%s: expected %s, id %d", line, cells[2]+cells[3], 256+rank)
			}
		}
	}
	if rows != 6 {
		t.Errorf("found %d merges, expected 6", rows)
	}
	// The counts of json.go: a string for each token and two for each merge; a number for
	// each token.
	const tokens, merges = 151643, 151387
	if strings, last := tokens+2*merges, 256+merges-1; strings != 454_417 || last != tokens-1 {
		t.Errorf("%d strings in a vocabulary and its merges, and the last id is %d", strings, last)
	}
}

// The pieces that split.go lists.
func TestReadingSplit(t *testing.T) {
	for text, want := range map[string][]string{
		"don't":                    {"don", "'t"},
		" can":                     {" can"},
		"$can":                     {"$can"},
		"x = 10":                   {"x", " =", " ", "1", "0"},
		"a   b":                    {"a", "  ", " b"},
		")\n\n\tx":                 {")\n\n", "\tx"},
		"IT'LL":                    {"IT", "'LL"},
		"'tis":                     {"'t", "is"},
		"it’s":                     {"it", "’s"},
		"user\n\nHi":               {"user", "\n\n", "Hi"}, // in chat.go
		"'sx":                      {"'s", "x"},
		"It's 42  lines:\n\tx = 1": {"It", "'s", " ", "4", "2", " ", " lines", ":\n", "\tx", " =", " ", "1"},
	} {
		var got []string
		for i, s := 0, (splitter{classes()}); i < len(text); {
			end := s.next(text, i)
			got = append(got, text[i:end])
			i = end
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: pieces %q, expected %q", text, got, want)
		}
	}
}

// The verdicts that are quoted name the line of the declaration.
func TestReadingVerdict(t *testing.T) {
	quoted := regexp.MustCompile(`FIRST BROKEN: (\w+) \((\w+\.\w+:\d+)\)`)
	for _, file := range []string{"README.md", "DEBUGGING.md", "CONTRIBUTING.md", "verdict_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all := quoted.FindAllSubmatch(text, -1)
		for _, q := range all {
			if at := declaration(string(q[1])); at != string(q[2]) {
				t.Errorf("%s: %s, expected %s", file, q[0], at)
			}
		}
		if len(all) == 0 && file == "README.md" {
			t.Errorf("%s quotes no verdict", file)
		}
	}
}
