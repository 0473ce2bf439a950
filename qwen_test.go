package qwen

// Each function held against PyTorch, in the order of the data flow, on inputs
// that PyTorch recorded: testdata/README.md says what is where. verdict_test.go
// says what comes of it.
//
// Where a tolerance is not 0 it is derived. A dot product of n numbers may differ
// from the exact one by n·2⁻²⁴·Σ|aᵢbᵢ|, whatever the order of its sums; so may
// PyTorch's. Each result is held against the exact one, computed here in float64
// from the recorded operands, within its own bound, and against PyTorch's within
// the sum of both.
//
// The data flow begins with files, and so do the first 600 lines here. For the network
// begin at TestRMSNorm: the tests after it are made like it. What they all use, golden,
// cases and within, is in verdict_test.go.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"
)

// file puts a header in front of a body.
func file(header, body string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+body...)
}

// TestSafetensors parses bytes written by hand.
func TestSafetensors(t *testing.T) {
	golden(t, "ParseSafetensors", func(c *check) {
		data := file(`{"__metadata__":{"format":"pt","a\nb":""},`+
			`"second":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]},`+
			`"first":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},`+
			`"none":{"dtype":"I64","shape":[4,0],"data_offsets":[14,14]},`+
			`"four bits":{"shape":[2,3],"data_offsets":[14,17],"dtype":"F4"},`+
			`"one":{"dtype":"U8","shape":[],"data_offsets":[17,18]}}    `, "01234567abcdefXYZ!")
		tensors, meta, err := ParseSafetensors(data)
		c.must(err)
		c.equal("metadata", meta, map[string]string{"format": "pt", "a\nb": ""})
		c.equal("tensors in the order of the file", tensors, []Tensor{
			{"first", F32, []int{2}, []byte("01234567")},
			{"second", BF16, []int{1, 3}, []byte("abcdef")},
			{"none", I64, []int{4, 0}, []byte{}},
			{"four bits", "F4", []int{2, 3}, []byte("XYZ")},
			{"one", "U8", []int{}, []byte("!")},
		})
		for _, x := range tensors {
			if cap(x.Data) != len(x.Data) {
				c.fail("%s: append to its data would write into the next tensor", x.Name)
			}
		}
		tensors[0].Data[0] = 'x' // it is a part of the file, not a copy
		c.equal("no copy", string(data[len(data)-18:len(data)-16]), "x1")

		_, meta, err = ParseSafetensors(file(`{}`, ""))
		c.equal("an empty file", []any{meta, err}, []any{map[string]string(nil), nil})
		for dtype, size := range map[DType]int{F32: 4, F16: 2, BF16: 2, I64: 8, "U8": 1, "F4": 0, "F6_E2M3": 0, "": 0, "C64": 8, "BOOL": 1} {
			c.equal("size of "+string(dtype), dtype.Size(), size)
		}
	})
}

// manyDimensions has n tensors of so many dimensions, and one more of its own.
func manyDimensions(n, dimensions, last int) []byte {
	var header strings.Builder
	header.WriteString("{")
	shape := strings.TrimSuffix(strings.Repeat("0,", dimensions), ",")
	for i := range n {
		fmt.Fprintf(&header, `"%d":{"dtype":"U8","shape":[%s],"data_offsets":[0,0]},`, i, shape)
	}
	fmt.Fprintf(&header, `"last":{"dtype":"U8","shape":[%s],"data_offsets":[0,0]}}`, strings.TrimSuffix(strings.Repeat("0,", last), ","))
	return file(header.String(), "")
}

// TestJSONMore has what a mutation of the reader got past the other tests with.
func TestJSONMore(t *testing.T) {
	defer answers(t, "jsonReader")()
	var got string
	if err := readJSON([]byte(`"\n a b"`), func(r *jsonReader) { got = r.string() }); err != nil || got != "\n a b" {
		t.Errorf("a space after an escape: %q, %v", got, err)
	}
	for _, n := range []int{308, 309, 310, 400, 600} {
		text := strings.Repeat("9", n)
		for _, skip := range []bool{true, false} {
			err := readJSON([]byte(text), func(r *jsonReader) {
				if !skip {
					r.float()
				}
			})
			if (err == nil) != (n == 308) {
				t.Errorf("a number of %d digits, skipped %v: %v", n, skip, err)
			}
		}
	}
	for _, text := range []string{`"\ud800"`, `"\udbff"`, `"\udc00"`, `"\udfff"`} {
		if err := readJSON([]byte(text), func(*jsonReader) {}); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	for n := range 66 { // cut at 60 bytes, or before the character that lies there
		for _, c := range []string{"é", "中", "😀", "x"} {
			s := strings.Repeat("a", n) + c + strings.Repeat("b", 60)
			want := s[:60] + "…"
			if n < 60 && n+len(c) > 60 {
				want = s[:n] + "…"
			}
			if got := clip(s); got != want {
				t.Errorf("clip(%q): got %q, want %q", s, got, want)
			}
		}
	}
	if s := strings.Repeat("a", 60); clip(s) != s {
		t.Error("60 bytes are cut")
	}
}

// TestSafetensorsLimits goes to what a header may hold, and beyond.
func TestSafetensorsLimits(t *testing.T) {
	defer answers(t, "ParseSafetensors")()
	if tensors, _, err := ParseSafetensors(manyDimensions(1<<15-1, 64, 64)); err != nil || len(tensors) != 1<<15 {
		t.Errorf("as many dimensions as may be: %v", err)
	}
	want := "qwen: header: last: found one more tensor, expected at most 2097152 dimensions in all"
	if _, _, err := ParseSafetensors(manyDimensions(1<<15, 64, 1)); fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestJSONEnds ends a text where a value would begin.
func TestJSONEnds(t *testing.T) {
	defer answers(t, "jsonReader")()
	for _, text := range []string{`{"a":`, `{"a": `, `{"a":1,"b":`} {
		err := readJSON([]byte(text), func(r *jsonReader) { r.object(func(string) { r.number("a number") }) })
		if err == nil || !strings.Contains(err.Error(), "found the end of the file, expected a value") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestJSONLimits goes to what one object and one string may hold, and beyond.
func TestJSONLimits(t *testing.T) {
	defer answers(t, "jsonReader")()
	keys := func(n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `,"%d":0`, i)
		}
		return "{" + text.String()[1:] + "}"
	}
	for _, test := range []struct{ name, text, want string }{
		{"as many keys as may be", keys(1 << 18), "<nil>"},
		{"one more", keys(1<<18 + 1), "262144: found one more key, expected at most 262144 in an object and those around it"},
		{"one more with those around it", `{"a":[` + keys(1<<18) + "]}", "a[0].262143: found one more key, expected at most 262144 in an object and those around it"},
		{"as many, one object after the other", "[" + keys(1<<18) + "," + keys(1<<18) + "]", "<nil>"},
		{"as many bytes of escaped strings as may be", `["\n` + strings.Repeat("a", 1<<22-1) + `","\n` + strings.Repeat("b", 1<<22-1) + `"]`, "<nil>"},
		{"one more", `["\n` + strings.Repeat("a", 1<<22-1) + `","\n` + strings.Repeat("b", 1<<22-1) + `","\n"]`, "[2]: found more strings with escapes, expected at most 8388608 bytes in all"},
		{"a string with escapes as long as may be", `"\n` + strings.Repeat("a", 1<<22-1) + `"`, "<nil>"},
		{"one more", `"\n` + strings.Repeat("a", 1<<22) + `"`, "found a longer string, expected at most 4194304 bytes with escapes"},
		{"without escapes there is no limit", `"` + strings.Repeat("a", 1<<22+1) + `"`, "<nil>"},
	} {
		if err := readJSON([]byte(test.text), func(*jsonReader) {}); fmt.Sprint(err) != test.want {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

// TestSafetensorsSizes gives eight numbers of each type the bytes that they take, and
// one more and one less.
func TestSafetensorsSizes(t *testing.T) {
	defer answers(t, "ParseSafetensors")()
	for bits, dtypes := range map[int][]string{
		4: {"F4"}, 6: {"F6_E2M3", "F6_E3M2"}, 8: {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"},
		16: {"I16", "U16", "F16", "BF16"}, 32: {"I32", "U32", "F32"}, 64: {"C64", "F64", "I64", "U64"},
	} {
		for _, d := range dtypes {
			for _, n := range []int{bits - 1, bits, bits + 1} {
				data := file(fmt.Sprintf(`{"x":{"dtype":%q,"shape":[8],"data_offsets":[0,%d]}}`, d, n), strings.Repeat("x", n))
				if _, _, err := ParseSafetensors(data); (err == nil) != (n == bits) {
					t.Errorf("%s: eight numbers in %d bytes: %v", d, n, err)
				}
			}
			if got := DType(d).Size(); got != bits/8 {
				t.Errorf("%s: Size is %d", d, got)
			}
		}
	}
}

// TestSafetensorsErrors has a file for each way to be wrong.
func TestSafetensorsErrors(t *testing.T) {
	defer answers(t, "ParseSafetensors")()
	entry := func(fields string) []byte { return file(`{"x":{`+fields+`}}`, "0123") }
	good := `"dtype":"F32","shape":[1],"data_offsets":[0,4]`
	if _, _, err := ParseSafetensors(entry(good)); err != nil {
		t.Fatal(err)
	}
	tooLong := binary.LittleEndian.AppendUint64(nil, maxHeader+1)
	longest := binary.LittleEndian.AppendUint64(nil, maxHeader)
	many := strings.TrimSuffix(strings.Repeat("1,", 8), ",")
	for _, test := range []struct {
		name string
		data []byte
		kind error
		want string
	}{
		{"nothing", nil, ErrTruncated, "header length: found 0 bytes, expected at least 8"},
		{"seven bytes", make([]byte, 7), ErrTruncated, "header length: found 7 bytes, expected at least 8"},
		{"empty header", make([]byte, 8), ErrBadHeader, "header: found the end of the file, expected a value"},
		{"huge header", tooLong, ErrBadHeader, "header length: found 100000001, expected at most 100000000"},
		{"longest header", longest, ErrTruncated, "header length: found 100000000, expected at most the 0 bytes that follow"},
		{"header cut", file(`{}`, "")[:9], ErrTruncated, "header length: found 2, expected at most the 1 bytes that follow"},
		{"not JSON", file(`{x`, ""), ErrBadHeader, "header: found 'x' at byte 1, expected a key in quotes"},
		{"metadata", file(`{"__metadata__":{"a":1}}`, ""), ErrBadHeader, "header: __metadata__.a: found a number, expected a string"},
		{"name twice", file(`{"x":{`+good+`},"x":{`+good+`}}`, "0123"), ErrBadHeader, "header: x: found this key a second time, expected each key once"},
		{"no dtype", entry(`"shape":[1],"data_offsets":[0,4]`), ErrBadHeader, "header: x: found an entry without all of its fields, expected dtype, shape and data_offsets"},
		{"no shape", entry(`"dtype":"F32","data_offsets":[0,4]`), ErrBadHeader, "header: x: found an entry without all of its fields, expected dtype, shape and data_offsets"},
		{"no offsets", entry(`"dtype":"F32","shape":[1]`), ErrBadHeader, "header: x: found an entry without all of its fields, expected dtype, shape and data_offsets"},
		{"strange dtype", entry(`"dtype":"F31","shape":[1],"data_offsets":[0,4]`), ErrBadHeader, `header: x.dtype: found dtype "F31", expected one of the format's types, such as BF16`},
		{"negative size", entry(`"dtype":"F32","shape":[-1],"data_offsets":[0,4]`), ErrBadHeader, "header: x.shape[0]: found -1, expected a number that is not negative"},
		{"negative offset", entry(`"dtype":"F32","shape":[1],"data_offsets":[-4,0]`), ErrBadHeader, "header: x.data_offsets[0]: found -4, expected a number that is not negative"},
		{"one offset", entry(`"dtype":"F32","shape":[1],"data_offsets":[0]`), ErrBadHeader, "header: x.data_offsets: found 1 offsets, expected two: begin and end"},
		{"three offsets", entry(`"dtype":"F32","shape":[1],"data_offsets":[0,4,4]`), ErrBadHeader, "header: x.data_offsets[2]: found a third offset, expected two: begin and end"},
		{"hole", entry(`"dtype":"F32","shape":[0],"data_offsets":[1,1]`), ErrBadHeader, "x: data_offsets: found [1, 1], expected to begin at 0, where the tensor before it ends"},
		{"overlap", file(`{"x":{`+good+`},"y":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}`, "01234"), ErrBadHeader, "y: data_offsets: found [3, 5], expected to begin at 4, where the tensor before it ends"},
		{"backwards", file(`{"w":{`+good+`},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, "0123"), ErrBadHeader, "x: data_offsets: found [4, 0], expected to begin at 4, where the tensor before it ends"},
		{"too few bytes", entry(`"dtype":"F32","shape":[2],"data_offsets":[0,4]`), ErrBadHeader, "x: data_offsets: found 4 bytes, expected 8 for shape [2] of F32"},
		{"half a byte", entry(`"dtype":"F4","shape":[3],"data_offsets":[0,1]`), ErrBadHeader, "x: data_offsets: found 1 bytes, expected a whole number of bytes below 2^61 for shape [3] of F4"},
		{"overflow", entry(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]`), ErrBadHeader, "x: data_offsets: found 4 bytes, expected a whole number of bytes below 2^61 for shape [4294967296 4294967296] of F32"},
		{"wrap to the size", entry(`"dtype":"F32","shape":[576460752303423489,8],"data_offsets":[0,4]`), ErrBadHeader, "x: data_offsets: found 4 bytes, expected a whole number of bytes below 2^61 for shape [576460752303423489 8] of F32"},
		{"nine dimensions", entry(`"dtype":"F32","shape":[` + many + `,3],"data_offsets":[0,4]`), ErrBadHeader, "x: data_offsets: found 4 bytes, expected 12 for shape [1 1 1 1 1 1 1 1] and 1 more dimensions of F32"},
		{"eight dimensions", entry(`"dtype":"F32","shape":[1,1,1,1,1,1,1,3],"data_offsets":[0,4]`), ErrBadHeader, "x: data_offsets: found 4 bytes, expected 12 for shape [1 1 1 1 1 1 1 3] of F32"},
		{"65 dimensions", entry(`"dtype":"F32","shape":[` + strings.Repeat("1,", 64) + `1],"data_offsets":[0,4]`), ErrBadHeader, "header: x.shape[64]: found one more dimension, expected at most 64"},
		{"beyond the end", entry(`"dtype":"F32","shape":[2],"data_offsets":[0,8]`), ErrTruncated, "x: data_offsets: found end 8, expected at most the 4 bytes that follow the header"},
		{"bytes left over", entry(`"dtype":"F16","shape":[1],"data_offsets":[0,2]`), ErrBadHeader, "file length: found 4 bytes after the header, expected 2, where the last tensor ends"},
	} {
		_, _, err := ParseSafetensors(test.data)
		e := (*LoadError)(nil)
		if !errors.As(err, &e) || !errors.Is(err, test.kind) || e.Problem != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.name, err, test.want)
		}
	}
}

func TestWriteSafetensors(t *testing.T) {
	golden(t, "WriteSafetensors", func(c *check) {
		tensors := []Tensor{
			NewTensor("b\"", []float32{1, -2}, 2, 1),
			{"a", I64, []int{}, []byte("12345678")},
			{"none", BF16, []int{0}, nil},
		}
		c.equal("a tensor of float32", tensors[0], Tensor{"b\"", F32, []int{2, 1}, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}})
		c.equal("no numbers", len(NewTensor("", nil, 0).Data), 0)
		c.panics("numbers that do not fill the shape", "NewTensor: x: 2 numbers for shape [3]", func() { NewTensor("x", []float32{1, 2}, 3) })
		c.panics("a shape below 0", "NewTensor: x: 1 numbers for shape [-1 -1]", func() { NewTensor("x", []float32{1}, -1, -1) })

		var out bytes.Buffer
		c.must(WriteSafetensors(&out, tensors, map[string]string{"z": "1", "a": "é\n"}))
		header := `{"__metadata__":{"a":"é\n","z":"1"},"b\"":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},` +
			`"a":{"dtype":"I64","shape":[],"data_offsets":[8,16]},"none":{"dtype":"BF16","shape":[0],"data_offsets":[16,16]}}`
		header += strings.Repeat(" ", 7-(len(header)+7)%8)
		c.equal("the file", out.String(), string(file(header, "\x00\x00\x80\x3f\x00\x00\x00\xc012345678")))
		out.Reset()
		c.must(WriteSafetensors(&out, nil, nil))
		c.equal("an empty file", out.String(), string(file("{}      ", "")))
		out.Reset()
		c.must(WriteSafetensors(&out, tensors[1:2], nil))
		c.equal("one tensor", out.String(), string(file(`{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}   `, "12345678")))

		for want, tensors := range map[string][]Tensor{
			"a: found 3 bytes for shape [1] of F32, expected 4, and each name once":                                                                                               {{"a", F32, []int{1}, make([]byte, 3)}},
			"a: found 4 bytes for shape [1] of F32, expected 4, and each name once":                                                                                               {{"a", F32, []int{1}, make([]byte, 4)}, {"a", F32, []int{1}, make([]byte, 4)}},
			"__metadata__: found 0 bytes for shape [0] of F32, expected 0, and each name once":                                                                                    {{"__metadata__", F32, []int{0}, nil}},
			"a: found dtype \"F32\" and shape [-1 0], expected a dtype of the format, at most 64 dimensions, none below 0, and a name in UTF-8":                                   {{"a", F32, []int{-1, 0}, nil}},
			"\"a\\xff\": found dtype \"F32\" and shape [0], expected a dtype of the format, at most 64 dimensions, none below 0, and a name in UTF-8":                             {{"a\xff", F32, []int{0}, nil}},
			"a: found dtype \"F32\" and shape [1 1 1 1 1 1 1 1] and 57 more dimensions, expected a dtype of the format, at most 64 dimensions, none below 0, and a name in UTF-8": {{"a", F32, slices.Repeat([]int{1}, 65), make([]byte, 4)}},
			"a: found 0 bytes for shape [1] of F4, expected a whole number of bytes below 2^61, and each name once":                                                               {{"a", "F4", []int{1}, nil}},
		} {
			if err := WriteSafetensors(io.Discard, tensors, nil); err == nil || err.Error() != "qwen: "+want {
				c.fail("got the error %v, want %s", err, want)
			}
		}
		for key, value := range map[string]string{"a\xff": "b", "a": "b\xff"} {
			err := WriteSafetensors(io.Discard, nil, map[string]string{key: value})
			c.equal("metadata", fmt.Sprint(err), fmt.Sprintf("qwen: metadata %q: found %q, expected UTF-8", key, value))
		}
		for n := range 3 { // the writer's own errors come through, from each of the three writes
			if err := WriteSafetensors(&failingWriter{n}, tensors, nil); err != io.ErrShortWrite {
				c.fail("write %d fails, and WriteSafetensors says %v", n, err)
			}
		}
	})
}

// failingWriter fails at its n-th write.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.n--; w.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// TestMatcher cuts texts by hand-made tokens, some of them beginnings of others.
func TestMatcher(t *testing.T) {
	golden(t, "matcher", func(c *check) {
		var m matcher
		cut := func(text string, accept func(int) bool) (got string) {
			m.cut(text, accept, func(id int) { got += fmt.Sprintf("<%d>", id) }, func(text string) { got += "[" + text + "]" })
			return got
		}
		c.equal("no tokens", cut("abc", every), "[abc]")
		for i, token := range []string{"<a>", "<ab>", "<", "ab", "<a>b<", "\xff\x00", "é"} {
			c.equal("new: "+token, m.add(token, i), true)
		}
		c.equal("known", m.add("<ab>", 1), false)
		odd := func(id int) bool { return id%2 == 1 }
		for _, test := range []struct {
			text   string
			accept func(int) bool
			want   string
		}{
			{"", every, ""}, {"x", every, "[x]"}, {"<a>", every, "<0>"}, {"<ab>", every, "<1>"}, {"<a", every, "<2>[a]"}, {"<", every, "<2>"},
			{"x<a>y", every, "[x]<0>[y]"}, {"<a><a>", every, "<0><0>"}, {"<a>b<", every, "<4>"}, {"<a>b", every, "<0>[b]"}, {"abab", every, "<3><3>"},
			{"<<a>b>", every, "<2><0>[b>]"}, {"a\xff\x00\xff", every, "[a]<5>[\xff]"}, {"aéb\xc3", every, "[a]<6>[b\xc3]"},
			{"<a>", odd, "[<a>]"}, {"<ab>", odd, "<1>"}, {"x<a>b<ab>y", odd, "[x<a>b]<1>[y]"}, {"<a>b<", odd, "[<a>b<]"}, {"<<ab>", odd, "[<]<1>"},
			{"<ab", odd, "[<]<3>"}, {"aab", odd, "[a]<3>"},
		} {
			c.equal(fmt.Sprintf("%q", test.text), cut(test.text, test.accept), test.want)
		}
		c.equal("another id", []any{m.add("ab", 8), cut("ab", every)}, []any{false, "<8>"})
	})
}

// TestExpectString shows two long texts from where they differ.
func TestExpectString(t *testing.T) {
	defer answers(t, "parseTokenizer")()
	for n, want := range map[int]string{
		0: `found "Xb", expected "Yb"`, 30: `found "` + strings.Repeat("a", 30) + `Xb", expected "` + strings.Repeat("a", 30) + `Yb"`,
		31: `found "…` + strings.Repeat("a", 15) + `Xb", expected "…` + strings.Repeat("a", 15) + `Yb"`,
	} {
		same := strings.Repeat("a", n)
		err := readJSON([]byte(`"`+same+`Xb"`), func(r *jsonReader) { expectString(r, same+"Yb") })
		if err == nil || err.Error() != want {
			t.Errorf("%d the same: got %v, want %s", n, err, want)
		}
	}
	end := strings.Repeat("a", 40) // the same at the end does not count
	err := readJSON([]byte(`"X`+end+`"`), func(r *jsonReader) { expectString(r, "Y"+end) })
	if want := `found "X` + end + `", expected "Y` + end + `"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCheckSize(t *testing.T) {
	defer answers(t, "Tokenizer.Encode")()
	if err := checkSize(1 << 30); err != nil {
		t.Error(err)
	}
	if err := checkSize(1<<30 + 1); err == nil || err.Error() != "qwen: found a text of 1073741825 bytes, expected at most 1073741824" {
		t.Errorf("a text of 1 GiB and a byte: %v", err)
	}
}

// TestTokenizerLimits goes to what a tokenizer.json may hold, and beyond.
func TestTokenizerLimits(t *testing.T) {
	defer answers(t, "parseTokenizer")()
	vocab := strings.Repeat(`"a":0,`, maxEntries)
	merges := strings.Repeat(`"a b",`, maxEntries)
	for _, test := range []struct{ edit, text, want string }{
		{`"vocab":{`, `"vocab":{` + vocab, "model.vocab.\"!\": found one more token, expected at most 524288"},
		{`"merges":[`, `"merges":[` + merges, "model.merges[524288]: found one more merge, expected at most 524288"},
	} {
		if _, err := parseTokenizer([]byte(smallTokenizer(test.edit, test.text))); err == nil || !strings.HasSuffix(err.Error(), test.want[strings.Index(test.want, ": "):]) || !strings.HasPrefix(err.Error(), test.want[:9]) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// TestParseTokenizer holds the tables of a tokenizer against encoding/json's view of
// the file: every token's bytes, every merge's rank and result, every added token.
func TestParseTokenizer(t *testing.T) {
	golden(t, "parseTokenizer", func(c *check) {
		for name, text := range map[string]string{
			"recorded": string(testFile(c, "tokenizer.json", nil)), "small": smallTokenizer(),
			"more merges than tokens": strings.NewReplacer(`"id":2`, `"id":4`, `"vocab":{"a":0,"b":1},"merges":[]`,
				`"vocab":{"a":0,"aa":1,"aaa":2,"aaaa":3},"merges":["a a","aa a","a aa","aaa a","a aaa","aa aa"]`).Replace(leastTokenizer),
			"merges as pairs":              smallTokenizer(`["b c","a b","a bc"]`, `[["b","c"],["a","b"],["a","bc"]]`),
			"merges come first":            smallTokenizer(`,"merges":["b c","a b","a bc"]`, ``, `"type":"BPE"`, `"type":"BPE","merges":["b c","a b","a bc"]`),
			"merges out of order":          smallTokenizer(`["b c","a b","a bc"]`, `["a bc","b c","a b"]`),
			"ignore_merges":                smallTokenizer(`"ignore_merges":false`, `"ignore_merges":true`),
			"ids with gaps":                smallTokenizer(`"bc":257`, `"bc":40000`),
			"no token for a byte":          smallTokenizer(`"Ã":195,`, ``, `"abc":258`, `"abc":195`, `:259`, `:258`, `:260`, `:259`),
			"added, and in the vocabulary": smallTokenizer(`:259`, `:258`, `"<x>"`, `"abc"`, `:260`, `:259`, `,"a bc"`, ``),
			"without post-processor":       smallTokenizer(`"post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false}`, `"post_processor":null`),
		} {
			tokenizerTables(c, name, text)
		}
	})
}

func tokenizerTables(c *check, name, text string) {
	var file struct {
		Added []struct {
			ID         int
			Content    string
			Special    bool
			Normalized bool
		} `json:"added_tokens"`
		Model struct {
			Vocab  map[string]int
			Merges []any
			Whole  bool `json:"ignore_merges"`
		}
	}
	c.must(json.Unmarshal([]byte(text), &file))
	t, err := parseTokenizer([]byte(text))
	c.must(err)

	// GPT-2's alphabet: what prints stands for itself, the rest for U+0100 and up.
	letters, next := map[rune]byte{}, rune(0x100)
	var letterOf [256]rune
	for b := range 256 {
		r := rune(b)
		if !(r > ' ' && r < 0x7f || r > 0xa0 && r != 0xad) {
			r, next = next, next+1
		}
		letters[r], letterOf[b] = byte(b), r
	}
	bytesOf := func(token string) string {
		var out []byte
		for _, r := range token {
			b, ok := letters[r]
			if !ok {
				return token
			}
			out = append(out, b)
		}
		return string(out)
	}
	want, got, last := map[int]string{}, map[int]string{}, 0
	for token, id := range file.Model.Vocab {
		want[id], last = bytesOf(token), max(last, id)
	}
	added, special := map[string]int{}, map[int]bool{}
	for _, a := range file.Added {
		if _, ok := want[a.ID]; !ok {
			want[a.ID] = bytesOf(a.Content)
			if a.Normalized {
				want[a.ID] = bytesOf(norm.NFC.String(a.Content))
			}
		}
		last = max(last, a.ID)
		added[a.Content], special[a.ID] = a.ID, a.Special
	}
	for id, span := range t.spans {
		if span.end != 0 {
			got[id] = t.text[span.start:span.end]
		}
	}
	c.equal(name+", bytes of every token", got, want)
	c.equal(name+", ids", t.Len(), last+1)
	c.equal(name+", added tokens", t.added, added)
	c.equal(name+", special tokens", t.special, special)
	for b, r := range letterOf {
		id, ok := file.Model.Vocab[string(r)]
		if !ok {
			id = -1
		}
		if int(t.byteID[b]) != id {
			c.fail("%s: byte %#02x has id %d, want %d", name, b, t.byteID[b], id)
		}
	}
	ranks := map[[2]int]bool{}
	for rank, m := range file.Model.Merges {
		var left, right string
		switch m := m.(type) {
		case string:
			left, right, _ = strings.Cut(m, " ")
		case []any:
			left, right = m[0].(string), m[1].(string)
		}
		l, r := file.Model.Vocab[left], file.Model.Vocab[right]
		ranks[[2]int{l, r}] = true
		if got := t.pairs.rank(int32(l), int32(r)); int(got) != rank {
			c.fail("%s: merge of %q and %q has rank %d, want %d", name, left, right, got, rank)
		} else if whole := file.Model.Vocab[left+right]; int(t.merged[rank]) != whole {
			c.fail("%s: merge %d makes %d, want %d", name, rank, t.merged[rank], whole)
		}
	}
	for l := range min(last, 200) {
		for r := range min(last, 200) {
			if got := t.pairs.rank(int32(l), int32(r)); got != noRank && !ranks[[2]int{l, r}] {
				c.fail("%s: %d and %d merge with rank %d, and are not in the list", name, l, r, got)
			}
		}
	}
	if len(t.pairs.slots)*2 < 3*len(ranks) || len(t.pairs.slots) > 4*len(ranks)+4 {
		c.fail("%s: %d slots for %d pairs", name, len(t.pairs.slots), len(ranks))
	}
	if (t.whole != nil) != file.Model.Whole || t.whole != nil && len(t.whole) != len(file.Model.Vocab) {
		c.fail("%s: %d tokens to be taken whole", name, len(t.whole))
	}
	for token := range t.whole {
		if want[int(t.whole[token])] != token {
			c.fail("%s: %q is taken for %d", name, token, t.whole[token])
		}
	}
	// Added tokens are looked for as they are, or in normal form.
	for _, a := range file.Added {
		m := &t.raw
		if a.Normalized {
			m = &t.normalized
		}
		var found []int
		content := a.Content
		if a.Normalized {
			content = norm.NFC.String(content)
		}
		m.cut(content, every, func(id int) { found = append(found, id) }, func(string) {})
		c.equal(name+", matcher of "+a.Content, found, []int{a.ID})
	}
}

// TestWiden goes through all 65,536 values of each narrow type.
func TestWiden(t *testing.T) {
	golden(t, "widen", func(c *check) {
		data := make([]byte, 0, 2<<16)
		for i := range 1 << 16 {
			data = binary.LittleEndian.AppendUint16(data, uint16(i))
		}
		for name, r := range cases(c, "convert") {
			dtype := map[string]DType{"float16": F16, "bfloat16": BF16}[name]
			got := make([]float32, 1<<16)
			widen(got, data, dtype)
			sum := sha256.New()
			for _, v := range got {
				b := math.Float32bits(v)
				if v != v {
					b = 0x7fc00000
				}
				binary.Write(sum, binary.LittleEndian, b)
			}
			sample, want := r.ids("in"), r.numbers("out")
			for i, id := range sample { // which of them is wrong?
				if g := got[id]; g != want[i] && !(g != g && want[i] != want[i]) {
					c.fail("max error %.1e, tolerance 0, worst at bits %#04x of %s: got %v, want %v", math.Abs(float64(g-want[i])), id, dtype, g, want[i])
				}
			}
			c.equal("checksum of all values of "+string(dtype), hex.EncodeToString(sum.Sum(nil)), r.meta[name+".sha256"])
			for n := range 70 { // every length, at every alignment, and nothing beyond
				part, at := make([]float32, n+1), 2*(31000+37*n)
				part[n] = 7
				widen(part[:n], append([]byte{0}, data[at:at+2*n]...)[1:], dtype)
				sameBits(c, fmt.Sprintf("%d numbers of %s", n, dtype), part, append(slices.Clone(got[at/2:at/2+n]), 7))
			}
		}
		got := make([]float32, 3)
		widen(got, []byte{0, 0, 0x80, 0x3f, 1, 2, 3, 4, 0, 0, 0, 0x80, 99}, F32)
		sameBits(c, "F32", got, []float32{1, math.Float32frombits(0x04030201), float32(math.Copysign(0, -1))})
		c.panics("another type", "widen: dtype I64", func() { widen(got, make([]byte, 24), I64) })

		x, err := Tensor{"x", BF16, []int{1, 2}, []byte{0x80, 0x3f, 0, 0xc0}}.Float32()
		c.equal("a tensor's numbers", []any{x, err}, []any{[]float32{1, -2}, nil})
		_, err = Tensor{"x", I64, []int{1}, make([]byte, 8)}.Float32()
		c.equal("not of floating-point numbers", fmt.Sprint(err), "qwen: x: found dtype I64, expected F32, F16 or BF16")
	})
}

// TestWidenKernels asks each kernel for all values of each narrow type.
func TestWidenKernels(t *testing.T) {
	golden(t, "kernel.widen", func(c *check) {
		for name, r := range cases(c, "convert") {
			dtype := map[string]DType{"float16": F16, "bfloat16": BF16}[name]
			c.about(map[DType]any{F16: current.widenF16, BF16: current.widenBF16}[dtype])
			data := []byte{0}
			for i := range 1 << 16 {
				data = binary.LittleEndian.AppendUint16(data, uint16(i))
			}
			got := make([]float32, 1<<16+1)
			got[1<<16] = 7
			current.widen(got[:1<<16], data[1:], dtype)
			sum := sha256.New()
			for _, v := range got[:1<<16] {
				b := math.Float32bits(v)
				if v != v {
					b = 0x7fc00000
				}
				binary.Write(sum, binary.LittleEndian, b)
			}
			c.equal("checksum of all values of "+string(dtype), hex.EncodeToString(sum.Sum(nil)), r.meta[name+".sha256"])
			c.equal("the number after", got[1<<16], float32(7))
			for n := range 70 {
				part, at := make([]float32, n+1), 2*(31000+37*n)
				part[n] = 7
				current.widen(part[:n], data[1+at:1+at+2*n], dtype)
				sameBits(c, fmt.Sprintf("%d numbers of %s", n, dtype), part, append(slices.Clone(got[at/2:at/2+n]), 7))
			}
		}
		c.about(nil)
		got := make([]float32, 3)
		current.widen(got, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x80}, F32)
		sameBits(c, "F32", got, []float32{1, 0, float32(math.Copysign(0, -1))})
	})
}

func TestNewMatrix(t *testing.T) {
	golden(t, "NewMatrix", func(c *check) {
		w := NewMatrix([]float32{1, -2, 0, 0.5, 3, 4}, 2)
		c.equal("shape", []any{w.DType, w.Rows, w.Cols, len(w.Data)}, []any{F32, 2, 3, 24})
		c.equal("bytes", w.Data[:8], []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0})
		sameBits(c, "row 1", w.Row(1), []float32{0.5, 3, 4})
		c.equal("no columns", NewMatrix(nil, 1).Cols, 0)
		c.panics("rows of unequal length", "len(x) 3 is not a multiple of rows 2", func() { NewMatrix(make([]float32, 3), 2) })
		c.panics("no rows", "rows 0", func() { NewMatrix(make([]float32, 3), 0) })
	})
}

func TestEmbed(t *testing.T) {
	golden(t, "Embed", func(c *check) {
		for name, r := range cases(c, "embedding") {
			sameBits(c, name, Embed(r.ids("ids"), r.matrix("weight")), r.numbers("out"))
		}
		w := NewMatrix(make([]float32, 6), 3)
		c.panics("no such row", "token 3, want 0 to 2", func() { Embed([]int{3}, w) })
		c.panics("no such row", "token -1", func() { Embed([]int{0, -1}, w) })
	})
}

// TestRMSNorm has rows of size 1, 1e-3, 1e3, 1e15, one far from mean 0 and one of
// zeros; the eps shows in the second, the order of the roundings in none.
func TestRMSNorm(t *testing.T) {
	golden(t, "RMSNorm", func(c *check) {
		for name, r := range cases(c, "rmsnorm") {
			rmsNorm(c, "width "+name, r)
		}
		for name, r := range cases(c, "qknorm") { // Qwen3's: each head is a row
			rmsNorm(c, name+"_norm", r)
		}
		c.panics("no weight", "len(weight) 0", func() { RMSNorm(nil, nil, 1e-6) })
		c.panics("half a row", "len(x) 3 is not a multiple of len(weight) 2", func() { RMSNorm(make([]float32, 3), make([]float32, 2), 1e-6) })
		c.equal("no rows", len(RMSNorm(nil, make([]float32, 2), 1e-6)), 0)
	})
}

// rmsNorm allows one rounding for the scale and one for each of two products.
// PyTorch sums n squares in float32, which may put the mean off by n roundings
// and its root by half of that, and rounds the mean, the sum with eps and the
// root besides.
func rmsNorm(c *check, name string, r recording) {
	x, w, eps := r.numbers("in"), r.numbers("weight"), r.number("eps")
	n := len(w)
	want, bound := make([]float64, len(x)), make([]float64, len(x))
	for at := 0; at < len(x); at += n {
		sum := 0.0
		for _, v := range x[at : at+n] {
			sum += float64(v) * float64(v)
		}
		for i := range n {
			want[at+i] = float64(x[at+i]) / math.Sqrt(sum/float64(n)+float64(float32(eps))) * float64(w[i])
			bound[at+i] = 3.1*ulp*math.Abs(want[at+i]) + 1e-44
		}
	}
	got := RMSNorm(x, w, float32(eps))
	within(c, name, got, want, bound, r.shape("in")...)
	within(c, name+", PyTorch", got, r.numbers("out"), times((3.1+float64(n)/2+6)/3.1, bound), r.shape("in")...)
}

// dots returns x·wᵀ + bias in float64 and how far a float32 sum may be from it.
func dots(x []float32, w []float32, rows int, bias []float32) (y, bound []float64) {
	cols := len(w) / rows
	for t := 0; t < len(x); t += cols {
		for r := range rows {
			sum, size := 0.0, 0.0
			for i, v := range w[r*cols : (r+1)*cols] {
				p := float64(v) * float64(x[t+i])
				sum, size = sum+p, size+math.Abs(p)
			}
			n := float64(cols)
			if bias != nil {
				sum, size, n = sum+float64(bias[r]), size+math.Abs(float64(bias[r])), n+1
			}
			y, bound = append(y, sum), append(bound, n*ulp*size)
		}
	}
	return y, bound
}

func TestLanes(t *testing.T) {
	golden(t, "lanes", func(c *check) {
		dot := func(a, b []float32) float32 {
			var s lanes
			s.add(blocks(a, len(a), 1, 1), blocks(b, len(b), 1, 1))
			return s.sum()
		}
		for name, r := range cases(c, "linear") {
			if r.has("bias") {
				continue
			}
			x, w, rows := r.numbers("in"), r.entry("weight").numbers(), r.shape("weight")[0]
			cols := len(w) / rows
			want, bound := dots(x, w, rows, nil)
			var got []float32
			for at := 0; at < len(x); at += cols {
				for i := range rows {
					got = append(got, dot(w[i*cols:(i+1)*cols], x[at:at+cols]))
				}
			}
			within(c, name, got, want, bound, rows)
			within(c, name+", PyTorch", got, r.numbers("out"), times(2, bound), rows)
		}
		// Every length, at every alignment, between numbers that must not be read.
		random := rand.New(rand.NewPCG(1, 2))
		nan := float32(math.NaN())
		for n := 1; n <= 200; n++ {
			var got []float32
			var want, bound []float64
			for shift := range 4 {
				a, b := make([]float32, n+12), make([]float32, n+12)
				for i := range a {
					a[i], b[i] = nan, nan
				}
				from, to := 4+shift, 4+shift+n
				for i := from; i < to; i++ {
					a[i], b[i] = float32(random.NormFloat64()), float32(random.NormFloat64())
				}
				w, e := dots(a[from:to], b[from:to], 1, nil)
				got, want, bound = append(got, dot(a[from:to], b[from:to])), append(want, w[0]), append(bound, e[0])
			}
			within(c, fmt.Sprint("length ", n), got, want, bound)
		}
		for n := 8; n <= 64; n += 8 { // lanes go on where they were
			a, b := make([]float32, 2*n), make([]float32, 2*n)
			for i := range a {
				a[i], b[i] = float32(random.NormFloat64()), float32(random.NormFloat64())
			}
			var s lanes
			s.add(a[:n], b[:n])
			s.add(a[n:], b[n:])
			want, bound := dots(a, b, 1, nil)
			within(c, fmt.Sprint("lanes in two parts of ", n), []float32{s.sum()}, want, bound)
		}
	})
}

// blocks returns rows of cols numbers as a kernel wants them: filled up with zeros
// to a multiple of block, and as many as a multiple of n, the last ones zero.
func blocks[T any](x []T, cols, per, n int) []T { // per: elements of x a number
	rows := len(x) / (cols * per)
	width := (cols + rowMultiple - 1) / rowMultiple * rowMultiple
	y := make([]T, (rows+n-1)/n*n*width*per)
	for r := range rows {
		copy(y[r*width*per:], x[r*cols*per:(r+1)*cols*per])
	}
	return y
}

// TestKernelDots asks each kernel for one vector times the rows of a weight, for
// the recorded inputs of Linear, and for every length up to 40 blocks.
func TestKernelDots(t *testing.T) {
	golden(t, "kernel.dots", func(c *check) {
		one := func(name string, dtype DType, w []byte, wide, x []float32, rows int, torch []float32) {
			c.about(map[DType]any{F32: current.dotsF32, F16: current.dotsF16, BF16: current.dotsBF16}[dtype])
			want, bound := dots(x, wide, rows, nil)
			data := blocks(w, len(x), dtype.Size(), dotRows)
			vector := blocks(x, len(x), 1, 1)
			got := make([]float32, (rows+dotRows-1)/dotRows*dotRows+2)
			got[len(got)-1], got[len(got)-2] = 7, 7
			data = append(append([]byte{0}, data...), 0xff, 0xff, 0xff, 0xff) // at an odd address, and a NaN after them
			current.dots(got[:len(got)-2], data[1:len(data)-4], dtype, vector)
			within(c, name, got[:rows], want, bound)
			if torch != nil {
				within(c, name+", PyTorch", got[:rows], torch, times(2, bound))
			}
			if got[len(got)-1] != 7 || got[len(got)-2] != 7 {
				c.fail("%s: writes beyond y", name)
			}
		}
		for name, r := range cases(c, "linear") {
			if e := r.entry("weight"); !r.has("bias") {
				rows, cols, torch := e.Shape[0], e.Shape[1], r.numbers("out")
				for t := range r.shape("in")[0] {
					one(fmt.Sprint(name, ", token ", t), DType(e.DType), e.data, e.numbers(), r.numbers("in")[t*cols:(t+1)*cols], rows, torch[t*rows:(t+1)*rows])
				}
			}
		}
		random := rand.New(rand.NewPCG(11, 12))
		for _, dtype := range []DType{F32, F16, BF16} {
			for n := 1; n <= 40; n++ {
				e := entry{DType: string(dtype)}
				for range 8 * n * rowMultiple {
					v := math.Float32bits(float32(random.NormFloat64()))
					switch dtype {
					case F32:
						e.data = binary.LittleEndian.AppendUint32(e.data, v)
					case F16:
						e.data = binary.LittleEndian.AppendUint16(e.data, uint16(random.Uint32())&0xbfff) // below 2 in size
					case BF16:
						e.data = binary.LittleEndian.AppendUint16(e.data, uint16(v>>16))
					}
				}
				x := make([]float32, n*rowMultiple)
				for i := range x {
					x[i] = float32(random.NormFloat64())
				}
				one(fmt.Sprint(dtype, ", ", n, " blocks"), dtype, e.data, e.numbers(), x, 8, nil)
			}
		}
	})
}

// TestKernelTile multiplies tiles of random numbers, in one piece and in pieces
// that hand on their sums, with room between the rows.
func TestKernelTile(t *testing.T) {
	golden(t, "tile", func(c *check) {
		c.about(current.tile)
		random := rand.New(rand.NewPCG(13, 14))
		rows, tokens := current.rows, current.tokens
		nan := float32(math.NaN())
		for _, n := range []int{rowMultiple, 2 * rowMultiple, 3 * rowMultiple, 5 * rowMultiple, 12 * rowMultiple} {
			strides := [3]int{rows + 3, n + 5, n + 11} // of y, w and x
			fill := func(count, stride int) []float32 {
				x := make([]float32, count*stride)
				for i := range x {
					if x[i] = nan; i%stride < n {
						x[i] = float32(random.NormFloat64())
					}
				}
				return x
			}
			const count = 3
			strides[0] += (count - 1) * rows
			w, x := fill(count*rows, strides[1]), fill(tokens, strides[2])
			var want, bound []float64
			for t := range tokens {
				for r := range count * rows {
					v, e := dots(x[t*strides[2]:t*strides[2]+n], w[r*strides[1]:r*strides[1]+n], 1, nil)
					want, bound = append(want, v...), append(bound, e...)
				}
			}
			for _, piece := range []int{n, rowMultiple, 2 * rowMultiple} {
				y := make([]float32, tokens*strides[0])
				for i := range y {
					y[i] = 7
				}
				sums := make([]float32, count*rows*tokens*8+8)
				for i := range sums {
					sums[i] = nan // not to be read in the first piece
				}
				for at := 0; at < n; at += piece {
					size := min(piece, n-at)
					current.tile(&tile{y: y, w: w[at:], x: x[at:], sums: sums, yStride: strides[0], wStride: strides[1], xStride: strides[2],
						n: size, count: count, first: at == 0, last: at+size == n})
					if last := at+size == n; !last && y[0] != 7 {
						c.fail("%d columns in pieces of %d: writes y before the last", n, piece)
					}
				}
				var got []float32
				for t := range tokens {
					got = append(got, y[t*strides[0]:t*strides[0]+count*rows]...)
					for _, v := range y[t*strides[0]+count*rows : (t+1)*strides[0]] {
						if v != 7 {
							c.fail("%d columns: writes between the rows of y", n)
						}
					}
				}
				within(c, fmt.Sprint(n, " columns in pieces of ", piece), got, want, bound, count*rows)
				for _, v := range sums[count*rows*tokens*8:] {
					if v == v {
						c.fail("%d columns: writes beyond sums", n)
					}
				}
			}
		}
	})
}

// eights returns x filled up to a multiple of 8 with v, and a 7 after it that must
// stay.
func eights(x []float32, v float32) []float32 {
	y := slices.Clone(x)
	for len(y)%8 != 0 {
		y = append(y, v)
	}
	return append(y, 7)
}

// TestKernelSoftmax asks each kernel for the recorded rows, filled up with -Inf.
func TestKernelSoftmax(t *testing.T) {
	golden(t, "kernel.softmax", func(c *check) {
		c.about(current.softmax)
		for name, r := range cases(c, "softmax") {
			x := r.numbers("in")
			want, bound := softmax64(widen64(x))
			got := eights(x, removed)
			current.softmax(got[: len(got)-1 : len(got)-1])
			within(c, name, got[:len(x)], want, times(2, bound))
			within(c, name+", PyTorch", got[:len(x)], r.numbers("out"), times(3, bound))
			for _, v := range got[len(x) : len(got)-1] {
				c.equal(name+", where -Inf was", v, float32(0))
			}
			c.equal(name+", the number after", got[len(got)-1], float32(7))
		}
		for at := range 40 { // the largest, wherever it is; e^-200 is 0
			x, want := make([]float32, 40), make([]float32, 40)
			x[at], want[at] = 200, 1
			current.softmax(x)
			c.equal(fmt.Sprintf("the largest at %d", at), x, want)
			x = make([]float32, 40)
			x[at] = float32(math.NaN())
			current.softmax(x)
			c.equal(fmt.Sprintf("not a number at %d: stays that", at), x[at] != x[at], true)
		}
	})
}

// TestKernelSiLU asks each kernel for the recorded values.
func TestKernelSiLU(t *testing.T) {
	golden(t, "kernel.silu", func(c *check) {
		c.about(current.silu)
		for name, r := range cases(c, "silu") {
			x := r.numbers("in")
			padded := eights(x, 0)
			got := make([]float32, len(padded))
			got[len(got)-1] = 7
			n := len(got) - 1
			current.silu(got[:n:n], padded[:n:n])
			want, bound := make([]float64, len(x)), make([]float64, len(x))
			for i, v := range x {
				want[i] = float64(v) / (1 + math.Exp(-float64(v)))
				bound[i] = 6*ulp*math.Abs(want[i]) + 3e-37
			}
			within(c, name, got[:len(x)], want, bound)
			within(c, name+", PyTorch", got[:len(x)], r.numbers("out"), times(2.5, bound))
			c.equal(name+", the number after", got[n], float32(7))
		}
		// Beyond the range of the exponential.
		inf, most := float32(math.Inf(1)), float32(math.MaxFloat32)
		large := []float32{90, 104, 106, 175, 200, 1000, most, inf}
		got := make([]float32, 16)
		current.silu(got, append(slices.Clone(large), -90, -104, -106, -175, -200, -1000, -1e30, 0))
		exact(c, "large numbers", got[:8], large)
		within(c, "far below 0", got[8:14], make([]float64, 6), []float64{1e-33})
		current.silu(got[:8], []float32{0, 1, float32(math.NaN()), 0, 1, 0, 0, 0})
		c.equal("not a number stays that", got[2] != got[2] && got[1] == got[4], true)
	})
}

// TestKernelMix adds up rows of random numbers, with room between them.
func TestKernelMix(t *testing.T) {
	golden(t, "kernel.mix", func(c *check) {
		c.about(current.mix)
		random := rand.New(rand.NewPCG(15, 16))
		columns, tokens := current.mixColumns, current.mixTokens
		nan := float32(math.NaN())
		for _, n := range []int{1, 2, 3, 7, 16, 33, 64} {
			yStride, wStride, xStride := columns+3, columns+5, n+2
			fill := func(count, width, stride int) []float32 {
				x := make([]float32, count*stride)
				for i := range x {
					if x[i] = nan; i%stride < width {
						x[i] = float32(random.NormFloat64())
					}
				}
				return x
			}
			w, x, y := fill(n, columns, wStride), fill(tokens, n, xStride), fill(tokens, columns, yStride)
			var got []float32
			var want, bound []float64
			for t := range tokens {
				for col := range columns {
					sum := float64(y[t*yStride+col])
					size := math.Abs(sum)
					for i := range n {
						v := float64(x[t*xStride+i]) * float64(w[i*wStride+col])
						sum, size = sum+v, size+math.Abs(v)
					}
					want, bound = append(want, sum), append(bound, float64(n+1)*ulp*size)
				}
			}
			current.mix(&tile{y: y, w: w, x: x, yStride: yStride, wStride: wStride, xStride: xStride, n: n})
			for t := range tokens {
				got = append(got, y[t*yStride:t*yStride+columns]...)
				for _, v := range y[t*yStride+columns : (t+1)*yStride] {
					if v == v {
						c.fail("%d rows: writes between the rows of y", n)
					}
				}
			}
			within(c, fmt.Sprint(n, " rows"), got, want, bound, columns)
		}
	})
}

// aside returns n random numbers that lie between two NaN.
func aside(random *rand.Rand, n int) []float32 {
	x := make([]float32, n+2)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	x[0], x[n+1] = float32(math.NaN()), float32(math.NaN())
	return x[1 : n+1]
}

// TestKernelKeys multiplies rows of random numbers with one vector. A kernel that has only
// tiles has nothing to show here.
func TestKernelKeys(t *testing.T) {
	golden(t, "kernel.keys", func(c *check) {
		if current.keys == nil {
			return
		}
		c.about(current.keys)
		random := rand.New(rand.NewPCG(17, 18))
		for _, rows := range []int{dotRows, 2 * dotRows, 9 * dotRows} {
			for _, n := range []int{16, 32, 80, 128} {
				w, x, y := aside(random, rows*n), aside(random, n), aside(random, rows)
				current.keys(y, w, x)
				want, bound := dots(x, w, rows, nil)
				within(c, fmt.Sprint(rows, " rows of ", n), y, want, bound)
				for r := range rows {
					c.equal(fmt.Sprint("bits of row ", r), y[r], dotReference(w[r*n:(r+1)*n], x, true))
				}
				for _, v := range []float32{y[:rows+1][rows], w[:rows*n+1][rows*n]} {
					c.equal("what lies after y and w: NaN still", v != v, true)
				}
			}
		}
	})
}

// TestKernelValues adds up whole rows of random numbers.
func TestKernelValues(t *testing.T) {
	golden(t, "kernel.values", func(c *check) {
		if current.values == nil {
			return
		}
		c.about(current.values)
		random := rand.New(rand.NewPCG(19, 20))
		for _, rows := range []int{1, 2, 3, 7, 40} {
			for _, n := range []int{16, 32, 80, 128} {
				w, x, y := aside(random, rows*n), aside(random, rows), aside(random, n)
				var want, bound []float64
				var bits []float32
				for col := range n {
					b := y[col]
					sum := float64(b)
					size := math.Abs(sum)
					for i := range rows {
						v := float64(x[i]) * float64(w[i*n+col])
						sum, size, b = sum+v, size+math.Abs(v), fma(x[i], w[i*n+col], b)
					}
					want, bound, bits = append(want, sum), append(bound, float64(rows+1)*ulp*size), append(bits, b)
				}
				current.values(y, w, x)
				within(c, fmt.Sprint(rows, " rows of ", n), y, want, bound)
				sameBits(c, "row after row", y, bits)
				c.equal("what lies after y: NaN still", y[:n+1][n] != y[:n+1][n], true)
			}
		}
	})
}

// TestParallel counts who does what.
func TestParallel(t *testing.T) {
	golden(t, "parallel", func(c *check) {
		for _, procs := range []int{1, 2, 3, 4} {
			runtime.GOMAXPROCS(procs)
			for _, least := range []int{1, 2, 16} {
				for _, n := range []int{0, 1, 2, 3, 15, 16, 17, 31, 33, 64, 257} {
					var mu sync.Mutex
					done, short, pieces := make([]int, n), 0, 0
					parallel(n, least, func(from, to int) {
						mu.Lock()
						defer mu.Unlock()
						for i := from; i < to; i++ {
							done[i]++
						}
						if pieces++; to-from < least && to < n {
							short++
						}
					})
					for i, times := range done {
						if times != 1 {
							c.fail("%d threads, n %d, least %d: element %d is done %d times", procs, n, least, i, times)
							return
						}
					}
					if short > 0 {
						c.fail("%d threads, n %d, least %d: a piece is smaller", procs, n, least)
					}
					want := (n + least - 1) / least
					if want > 1 && procs == 1 {
						want = 1
					}
					if want == 0 {
						want = 1 // with nothing to do
					}
					if pieces != want {
						c.fail("%d threads, n %d, least %d: %d pieces, want %d", procs, n, least, pieces, want)
					}
				}
			}
		}
		// All of them at once: each waits for the others. Seldom one that was counted on
		// as a helper is about to end just then.
		runtime.GOMAXPROCS(4)
		var mu sync.Mutex
		here, most := 0, 0
		for try := 0; try < 4 && most < 4; try++ {
			deadline := time.Now().Add(time.Second)
			parallel(16, 1, func(from, to int) {
				mu.Lock()
				here++
				most = max(most, here)
				mu.Unlock()
				for waiting := true; waiting && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
					mu.Lock()
					waiting = most < 4
					mu.Unlock()
				}
				mu.Lock()
				here--
				mu.Unlock()
			})
		}
		c.equal("goroutines at the same time", most, 4)
		// A panic in any goroutine is the caller's: two pieces, both begun before one of them panics.
		for panics := range 2 {
			begun := make(chan int, 2)
			begun <- 0
			var both sync.WaitGroup
			both.Add(2)
			func() {
				defer func() { c.equal("the panic of a piece", recover(), any(io.EOF)) }()
				runtime.GOMAXPROCS(2)
				parallel(2, 1, func(from, to int) {
					order := <-begun
					begun <- order + 1
					both.Done()
					both.Wait()
					if order == panics {
						panic(io.EOF)
					}
				})
			}()
		}
	})
}

func TestLinear(t *testing.T) {
	golden(t, "Linear", func(c *check) {
		for name, r := range cases(c, "linear") {
			x, w := r.numbers("in"), r.matrix("weight")
			var bias []float32
			if r.has("bias") {
				bias = r.entry("bias").numbers()
			}
			want, bound := dots(x, r.entry("weight").numbers(), w.Rows, bias)
			shape := r.shape("out")
			got := Linear(x, w, bias)
			within(c, name, got, want, bound, shape...)
			within(c, name+", PyTorch", got, r.numbers("out"), times(2, bound), shape...)

			// A weight may begin anywhere in a file, and a token's result may not
			// depend on its neighbours or on the number of threads.
			w.Data = slices.Clip(append([]byte{0}, w.Data...)[1:])
			for _, procs := range []int{2, 5} {
				runtime.GOMAXPROCS(procs)
				sameBits(c, fmt.Sprint(procs, " threads"), Linear(x, w, bias), got)
			}
			runtime.GOMAXPROCS(1)
			for t := range shape[0] {
				sameBits(c, fmt.Sprint("token ", t, " alone"), Linear(x[t*w.Cols:(t+1)*w.Cols], w, bias), got[t*w.Rows:(t+1)*w.Rows])
			}
		}
		w := NewMatrix(make([]float32, 6), 2)
		c.equal("no tokens", len(Linear(nil, w, nil)), 0)
		c.panics("width of x", "len(x) 4 is not a multiple of in, 3", func() { Linear(make([]float32, 4), w, nil) })
		c.panics("width of bias", "len(bias) 3, want out, 2", func() { Linear(make([]float32, 3), w, make([]float32, 3)) })
		for _, bad := range []Matrix{{F32, 2, 3, make([]byte, 23)}, {F32, 0, 3, nil}, {F32, 3, 0, nil}, {BF16, 2, 3, make([]byte, 24)}, {F32, -2, -3, make([]byte, 24)}} {
			c.panics("a matrix that is not one", "Linear: ", func() { Linear(make([]float32, 3), bad, nil) })
		}
		// Pieces of a row: one up to 1024, then as even as multiples of 16 can be, none longer than 768, no more than it takes.
		c.equal("pieces", []int{pieceColumns(16), pieceColumns(1024), pieceColumns(1040), pieceColumns(1537), pieceColumns(3000), pieceColumns(4864)}, []int{16, 1024, 528, 528, 752, 704})
		for n := 16; n < 9000; n += 16 {
			p, most := pieceColumns(n), 768
			if n <= 1024 {
				most = 1024
			}
			if p%16 != 0 || p > most || (n+p-1)/p != (n+most-1)/most {
				c.fail("pieces of %d: %d", n, p)
			}
		}
	})
}

// ropeConfig is the recorded rope_parameters with what transformers fills in.
func ropeConfig(c *check, r recording) RoPEConfig {
	var p struct {
		Type      string   `json:"rope_type"`
		Theta     float64  `json:"rope_theta"`
		Factor    float64  `json:"factor"`
		Original  float64  `json:"original_max_position_embeddings"`
		Attention *float64 `json:"attention_factor"`
		BetaFast  float64  `json:"beta_fast"`
		BetaSlow  float64  `json:"beta_slow"`
		MScale    float64  `json:"mscale"`
		MScaleAll float64  `json:"mscale_all_dim"`
		Truncate  bool     `json:"truncate"`
	}
	p.Original, p.BetaFast, p.BetaSlow, p.Truncate = r.number("max_position_embeddings"), 32, 1, true
	c.must(json.Unmarshal([]byte(r.meta[r.prefix+"rope_parameters"]), &p))
	return RoPEConfig{p.Type, p.Theta, p.Factor, p.Original, p.Attention, p.BetaFast, p.BetaSlow, p.MScale, p.MScaleAll, !p.Truncate}
}

// TestNewRotary allows a frequency 6 roundings: the power (PyTorch's may be off by
// two), its inverse and the stretching, here and there. YaRN has ten more, of
// numbers as large as the frequency before stretching.
func TestNewRotary(t *testing.T) {
	golden(t, "NewRotary", func(c *check) {
		for name, r := range cases(c, "rope") {
			config, headDim := ropeConfig(c, r), r.shape("in")[2]
			rotary := NewRotary(config, headDim)
			want, bound := r.numbers("inv_freq"), make([]float64, headDim/2)
			for i := range bound {
				bound[i] = 8 * ulp * float64(want[i])
				if config.Type == "yarn" {
					bound[i] = 16 * ulp * math.Pow(config.Theta, -2*float64(i)/float64(headDim))
				}
			}
			within(c, name, rotary.InvFreq, want, bound)
			exact(c, name+", attention factor", []float32{rotary.Scale}, r.numbers("attention_scaling"))
		}
		// Where both ends of YaRN's ramp fall on one pair it is a step.
		step := NewRotary(RoPEConfig{Type: "yarn", Theta: 100, Factor: 2, OriginalMaxPositions: 6, BetaFast: 32, BetaSlow: 1}, 4)
		within(c, "a step", step.InvFreq, []float64{1, 0.05}, []float64{1e-6})
		for _, headDim := range []int{0, -2, 7} {
			c.panics("width", fmt.Sprint("headDim ", headDim), func() { NewRotary(RoPEConfig{Type: "default", Theta: 1e6}, headDim) })
		}
		c.panics("type", `rope type "longrope"`, func() { NewRotary(RoPEConfig{Type: "longrope", Theta: 1e6}, 8) })
	})
}

// TestAngles takes the recorded frequencies. The angle is then the same float32
// product, at any position, and only cos and sin themselves may differ: by one
// rounding here and two there, and one each for the attention factor.
func TestAngles(t *testing.T) {
	golden(t, "Rotary.Angles", func(c *check) {
		for name, r := range cases(c, "rope") {
			rotary := Rotary{r.numbers("inv_freq"), r.numbers("attention_scaling")[0]}
			positions, half := r.ids("positions"), len(rotary.InvFreq)
			var cos, sin []float32
			for _, pos := range positions {
				a, b := rotary.Angles(pos, 1)
				cos, sin = append(cos, a...), append(sin, b...)
			}
			bound := []float64{5 * ulp * max(1, float64(rotary.Scale))}
			within(c, name+", cos", cos, r.numbers("cos"), bound, half)
			within(c, name+", sin", sin, r.numbers("sin"), bound, half)
			if first, n := positions[0], len(positions); positions[n-1] == first+n-1 { // without gaps: all at once
				a, b := rotary.Angles(first, n)
				sameBits(c, name+", all at once", append(a, b...), append(cos, sin...))
			}
		}
	})
}

// TestRoPE takes the recorded cos and sin: two products and a difference.
func TestRoPE(t *testing.T) {
	golden(t, "RoPE", func(c *check) {
		for name, r := range cases(c, "rope") {
			x, cos, sin, shape := r.numbers("in"), r.numbers("cos"), r.numbers("sin"), r.shape("in")
			seq, heads, dim := shape[0], shape[1], shape[2]
			want, bound := make([]float64, len(x)), make([]float64, len(x))
			for i := range x {
				t, d := i/(heads*dim), i%dim
				pair, sign := i+dim/2, -1.0
				if d >= dim/2 {
					pair, sign = i-dim/2, 1
				}
				at := t*dim/2 + d%(dim/2)
				a, b := float64(x[i])*float64(cos[at]), sign*float64(x[pair])*float64(sin[at])
				want[i], bound[i] = a+b, 2*ulp*(math.Abs(a)+math.Abs(b))
			}
			got := RoPE(x, cos, sin, dim)
			within(c, name, got, want, bound, shape...)
			within(c, name+", PyTorch", got, r.numbers("out"), times(2, bound), shape...)
			if seq != 6 {
				c.fail("%s: %d tokens", name, seq)
			}
		}
		four := make([]float32, 4)
		c.equal("no heads", len(RoPE(nil, four, four, 4)), 0)
		c.panics("odd width", "headDim 3", func() { RoPE(make([]float32, 12), four, four, 3) })
		c.panics("width 0", "headDim 0", func() { RoPE(four, four, four, 0) })
		c.panics("cos and sin of different length", "len(cos) 4, len(sin) 2", func() { RoPE(make([]float32, 8), four, four[:2], 4) })
		c.panics("cos of another width", "len(cos) 4", func() { RoPE(make([]float32, 12), four, four, 6) })
		c.panics("no tokens", "seq*headDim", func() { RoPE(four, nil, nil, 4) })
		c.panics("x of another width", "len(x) 10", func() { RoPE(make([]float32, 10), four, four, 4) })
	})
}

// softmax64 returns the softmax of x in float64 and how far that of float32 may be
// from it: the difference to the maximum is rounded, so is its exponential, the
// sum of n of them and the quotient.
func softmax64(x []float64) (p, bound []float64) {
	largest, sum := slices.Max(x), 0.0
	for _, v := range x {
		p = append(p, math.Exp(v-largest))
		sum += p[len(p)-1]
	}
	off := 0.0 // of the sum, relative: that of its parts, weighted, and of n additions
	for i := range p {
		p[i] /= sum
		if p[i] > 0 {
			off += p[i] * (largest - x[i])
		}
	}
	for i, v := range p {
		e := float64(len(x)) + 4 + off
		if v > 0 {
			e += largest - x[i]
		}
		bound = append(bound, e*ulp*v+2e-38) // below that float32 loses digits
	}
	return p, bound
}

func TestSoftmax(t *testing.T) {
	golden(t, "Softmax", func(c *check) {
		for name, r := range cases(c, "softmax") {
			x := r.numbers("in")
			want, bound := softmax64(widen64(x))
			got := Softmax(x)
			within(c, name, got, want, bound)
			within(c, name+", PyTorch", got, r.numbers("out"), times(2, bound))
			sameBits(c, name+", the argument is as it was", x, r.numbers("in"))
		}
		c.equal("empty", len(Softmax(nil)), 0)
		// Of two numbers the bound is narrow: an exponential that is 10 ulp off shows, wherever it is reduced to.
		var got []float32
		var want, bound []float64
		for i := range 200 {
			x := []float32{0, -0.001 - float32(i)/64}
			w, b := softmax64(widen64(x))
			got, want, bound = append(got, Softmax(x)...), append(want, w...), append(bound, b...)
		}
		within(c, "of two numbers", got, want, bound)
		within(c, "exp", []float32{exp(0), exp(1), exp(-2)}, []float64{1, math.E, math.Exp(-2)}, []float64{math.E * ulp})
	})
}

func widen64(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// An attentionCase is a recorded attention and what float64 makes of it.
type attentionCase struct {
	q, k, v, probs, out                       []float32
	heads, kvHeads, headDim, seq, past, total int
}

func attentionCaseOf(r recording) attentionCase {
	a := attentionCase{
		q: r.numbers("q"), k: r.numbers("k"), v: r.numbers("v"), probs: r.numbers("probs"), out: r.numbers("out"),
		heads: r.int("heads"), kvHeads: r.int("kv_heads"), headDim: r.int("head_dim"), past: r.int("past"),
	}
	a.seq, a.total = r.shape("q")[0], r.shape("k")[0]
	return a
}

// row returns head h of token t of x, [tokens, heads, headDim].
func (a attentionCase) row(x []float32, heads, t, h int) []float32 {
	at := (t*heads + h) * a.headDim
	return x[at : at+a.headDim]
}

// scores returns the scores of token t and head h in float64, and their bounds:
// a dot product and the product with the scale.
func (a attentionCase) scores(t, h int) (s, bound []float64) {
	scale := 1 / math.Sqrt(float64(a.headDim))
	for i := range a.past + t + 1 {
		y, e := dots(a.row(a.q, a.heads, t, h), a.row(a.k, a.kvHeads, i, h*a.kvHeads/a.heads), 1, nil)
		s, bound = append(s, y[0]*scale), append(bound, e[0]*scale+2*ulp*math.Abs(y[0]*scale))
	}
	return s, bound
}

// attend returns the probabilities and the output of token t and head h. An error
// of e in a score changes a probability by at most a factor exp(2e).
func (a attentionCase) attend(t, h int) (p, pBound, out, outBound []float64) {
	s, sBound := a.scores(t, h)
	p, pBound = softmax64(s)
	grow := math.Expm1(2 * slices.Max(sBound))
	for i := range p {
		pBound[i] += grow * p[i]
	}
	out, outBound = make([]float64, a.headDim), make([]float64, a.headDim)
	for i := range p {
		for d, v := range a.row(a.v, a.kvHeads, i, h*a.kvHeads/a.heads) {
			out[d] += p[i] * float64(v)
			outBound[d] += math.Abs(float64(v)) * (pBound[i] + p[i]*ulp*float64(len(p)+1))
		}
	}
	return p, pBound, out, outBound
}

// rows returns the rows of key/value head h of the first tokens of x, [tokens, kvHeads,
// headDim], as the kernels read them.
func (a attentionCase) rows(x []float32, tokens, h int) (rows []float32) {
	for t := range tokens {
		rows = append(rows, a.row(x, a.kvHeads, t, h)...)
	}
	return rows
}

func TestAttentionScores(t *testing.T) {
	golden(t, "attentionScores", func(c *check) {
		for name, r := range cases(c, "attention") {
			a := attentionCaseOf(r)
			group := a.heads / a.kvHeads
			var got, probs []float32
			var want, bound, wantProbs, probsBound []float64
			for t := range a.seq {
				visible := a.past + t + 1
				for kv := range a.kvHeads {
					at := (t*a.heads + kv*group) * a.headDim
					width := visible + 5 // a row of scores is longer than what is seen
					scores := slices.Repeat([]float32{7}, group*width)
					attentionScores(scores, a.q[at:at+group*a.headDim], a.rows(a.k, visible, kv), a.headDim, width, float32(1/math.Sqrt(float64(a.headDim))))
					for g := range group {
						h := kv*group + g
						row := scores[g*width : (g+1)*width]
						got = append(got, row[:visible]...)
						c.equal(name+": between the rows", row[visible:], []float32{7, 7, 7, 7, 7})
						s, e := a.scores(t, h)
						want, bound = append(want, s...), append(bound, e...)
						p, _ := softmax64(widen64(row[:visible]))
						_, pe, _, _ := a.attend(t, h)
						wantProbs, probsBound = append(wantProbs, p...), append(probsBound, pe...)
						probs = append(probs, a.probs[(h*a.seq+t)*a.total:][:visible]...)
					}
				}
			}
			within(c, name, got, want, bound)
			within(c, name+", probabilities against PyTorch", probs, wantProbs, times(2, probsBound))
		}
		// Two queries of 32 numbers, which read the keys as a stream: two whole pieces of it, and some more.
		random := rand.New(rand.NewPCG(21, 22))
		const queries, headDim, keys, width = 2, 32, 2*streamRows + 6, 2*streamRows + 9
		q, k, scores := aside(random, queries*headDim), aside(random, keys*headDim), make([]float32, queries*width)
		attentionScores(scores, q, k, headDim, width, 0.25)
		for i := range queries {
			want, bound := dots(q[i*headDim:(i+1)*headDim], k, keys, nil)
			within(c, fmt.Sprint("stream, query ", i), scores[i*width:i*width+keys], times(0.25, want), bound)
			c.equal("between the rows", scores[i*width+keys:(i+1)*width], make([]float32, width-keys))
		}
		few := current.keys != nil
		c.equal("who streams", []bool{streams(1, 16), streams(4, 64), streams(8, 128), streams(9, 128), streams(16, 240), streams(2, 40), streams(7, 64)}, []bool{few, few, few, false, false, false, false})
	})
}

func TestAttentionValues(t *testing.T) {
	golden(t, "attentionValues", func(c *check) {
		for name, r := range cases(c, "attention") {
			a := attentionCaseOf(r)
			group := a.heads / a.kvHeads
			var got, torch []float32
			var want, bound []float64
			nan := float32(math.NaN()) // between the rows of probabilities
			for t := range a.seq {
				visible := a.past + t + 1
				for kv := range a.kvHeads {
					out := make([]float32, group*a.headDim)
					var probs []float32
					for g := range group {
						h := kv*group + g
						row := a.probs[(h*a.seq+t)*a.total:][:visible]
						probs = append(append(probs, row...), nan, nan, nan)
						torch = append(torch, a.row(a.out, a.heads, t, h)...)
						for d := range a.headDim {
							sum, size := 0.0, 0.0
							for i, p := range row {
								v := float64(p) * float64(a.row(a.v, a.kvHeads, i, kv)[d])
								sum, size = sum+v, size+math.Abs(v)
							}
							want, bound = append(want, sum), append(bound, float64(visible)*ulp*size)
						}
					}
					attentionValues(out, probs, a.rows(a.v, visible, kv), a.headDim, visible+3)
					got = append(got, out...)
				}
			}
			within(c, name, got, want, bound, a.heads, a.headDim)
			within(c, name+", PyTorch", got, torch, times(2, bound), a.heads, a.headDim)
		}
		// Two queries of 32 numbers, which read the values as a stream.
		random := rand.New(rand.NewPCG(23, 24))
		const queries, headDim, keys, width = 2, 32, 2*streamRows + 6, 2*streamRows + 9
		probs, v, out := aside(random, queries*width), aside(random, keys*headDim), make([]float32, queries*headDim)
		attentionValues(out, probs, v, headDim, width)
		for i := range queries {
			want, bound := make([]float64, headDim), make([]float64, headDim)
			for s := range keys {
				for d := range headDim {
					p := float64(probs[i*width+s]) * float64(v[s*headDim+d])
					want[d], bound[d] = want[d]+p, bound[d]+keys*ulp*math.Abs(p)
				}
			}
			within(c, fmt.Sprint("stream, query ", i), out[i*headDim:(i+1)*headDim], want, bound)
		}
	})
}

// TestAttention covers one token and several, with and without a past, one
// key/value head, as many as query heads, and scores in the thousands.
func TestAttention(t *testing.T) {
	golden(t, "Attention", func(c *check) {
		for name, r := range cases(c, "attention") {
			a := attentionCaseOf(r)
			var shape []int
			var probs []float32
			got := Attention(a.q, a.k, a.v, a.heads, a.kvHeads, a.headDim, func(name string, dims []int, x []float32) {
				shape, probs = dims, slices.Clone(x)
			})
			want, bound := make([]float64, len(got)), make([]float64, len(got))
			wantP, boundP := make([]float64, a.heads*a.seq*a.total), make([]float64, a.heads*a.seq*a.total)
			for t := range a.seq {
				for h := range a.heads {
					p, pe, out, oe := a.attend(t, h)
					copy(want[(t*a.heads+h)*a.headDim:], out)
					copy(bound[(t*a.heads+h)*a.headDim:], oe)
					copy(wantP[(h*a.seq+t)*a.total:], p)
					copy(boundP[(h*a.seq+t)*a.total:], pe)
				}
			}
			within(c, name, got, want, bound, a.heads, a.headDim)
			within(c, name+", PyTorch", got, a.out, times(2, bound), a.heads, a.headDim)
			c.equal("shape of the probabilities", shape, []int{a.heads, a.seq, a.total})
			within(c, name+", probabilities", probs, wantP, boundP, shape...)
			within(c, name+", probabilities, PyTorch", probs, a.probs, times(2, boundP), shape...)
			for _, procs := range []int{2, 5} {
				runtime.GOMAXPROCS(procs)
				sameBits(c, fmt.Sprint(procs, " threads"), Attention(a.q, a.k, a.v, a.heads, a.kvHeads, a.headDim, nil), got)
			}
			runtime.GOMAXPROCS(1)
		}
		x := make([]float32, 24)
		for _, bad := range []struct{ q, k, v, heads, kvHeads, headDim int }{
			{24, 24, 24, 0, 2, 3}, {24, 24, 24, 4, 0, 3}, {24, 24, 24, 4, 2, 0}, {24, 24, 24, 4, 3, 1}, {24, 24, 24, -4, -2, -3},
			{23, 24, 24, 4, 2, 3}, {24, 23, 23, 4, 2, 3}, {24, 24, 18, 4, 2, 3}, {24, 6, 6, 4, 2, 3},
		} {
			found := fmt.Sprintf("heads %d, kvHeads %d, headDim %d", bad.heads, bad.kvHeads, bad.headDim)
			if bad.heads > 0 && bad.kvHeads > 0 && bad.headDim > 0 && bad.heads%bad.kvHeads == 0 {
				found = fmt.Sprintf("len(q) %d, len(k) %d, len(v) %d for ", bad.q, bad.k, bad.v) + found
			}
			c.panics(fmt.Sprint(bad), "Attention: "+found, func() { Attention(x[:bad.q], x[:bad.k], x[:bad.v], bad.heads, bad.kvHeads, bad.headDim, nil) })
		}
	})
}

// byToken returns heads, [kvHeads] of [tokens, headDim], as [tokens, kvHeads, headDim].
func byToken(heads [][]float32, headDim int) (x []float32) {
	for at := 0; at < len(heads[0]); at += headDim {
		for _, rows := range heads {
			x = append(x, rows[at:at+headDim]...)
		}
	}
	return x
}

// TestAppendHeads looks for each number of a few tokens, and of so many that all cores append:
// number d of head h of token t.
func TestAppendHeads(t *testing.T) {
	golden(t, "appendHeads", func(c *check) {
		const headDim = 6
		for _, n := range []struct{ heads, had, seq int }{{1, 0, 1}, {3, 0, 5}, {3, 4, 2}, {2, 1, share/headDim + 1}} {
			heads := make([][]float32, n.heads)
			for h := range heads {
				heads[h] = slices.Repeat([]float32{-1}, n.had*headDim)
			}
			x := make([]float32, n.seq*n.heads*headDim)
			for i := range x {
				x[i] = float32(i)
			}
			appendHeads(heads, x, headDim)
			for h := range heads {
				want := slices.Repeat([]float32{-1}, n.had*headDim)
				for t := range n.seq {
					for d := range headDim {
						want = append(want, float32((t*n.heads+h)*headDim+d))
					}
				}
				sameBits(c, fmt.Sprintf("head %d of %v", h, n), heads[h], want)
			}
		}
	})
}

// TestCache writes down what must be in the cache after each step.
func TestCache(t *testing.T) {
	golden(t, "Cache", func(c *check) {
		m := &Model{Config: Config{KVHeads: 2, HeadDim: 3}, Layers: make([]Layer, 2)}
		cache := m.NewCache()
		c.equal("layers", []int{len(cache.keys), len(cache.values), cache.Len()}, []int{2, 2, 0})
		numbers := func(from, n int) []float32 { // n tokens' worth
			x := make([]float32, 6*n)
			for i := range x {
				x[i] = float32(1000*from + i)
			}
			return x
		}
		for i := range 2 {
			k, v := cache.extend(i, numbers(1+i, 3), numbers(3+i, 3))
			sameBits(c, "keys of the first tokens", byToken(k, 3), numbers(1+i, 3))
			sameBits(c, "values of the first tokens", byToken(v, 3), numbers(3+i, 3))
		}
		// A forward pass that failed half-way leaves no trace.
		k, v := cache.extend(0, numbers(5, 2), numbers(6, 2))
		sameBits(c, "keys after a failed pass", byToken(k, 3), numbers(5, 2))
		sameBits(c, "values after a failed pass", byToken(v, 3), numbers(6, 2))
		cache.tokens = append(cache.tokens, 10, 11)
		c.equal("length", cache.Len(), 2)
		k, v = cache.extend(0, numbers(7, 1), numbers(8, 1))
		sameBits(c, "keys of all tokens", byToken(k, 3), append(numbers(5, 2), numbers(7, 1)...))
		sameBits(c, "values of all tokens", byToken(v, 3), append(numbers(6, 2), numbers(8, 1)...))
		cache.tokens = append(cache.tokens, 12)

		ids := cache.Tokens()
		c.equal("ids", ids, []int{10, 11, 12})
		ids[0] = 99
		c.equal("ids are a copy", cache.Tokens(), []int{10, 11, 12})
		for _, n := range []int{-1, 4} {
			c.panics("Truncate", fmt.Sprintf("Cache.Truncate: n %d, want 0 to 3", n), func() { cache.Truncate(n) })
		}
		cache.Truncate(3)
		c.equal("all kept", cache.Tokens(), []int{10, 11, 12})
		cache.Truncate(1)
		c.equal("one kept", cache.Tokens(), []int{10})
		k, _ = cache.extend(0, numbers(9, 1), numbers(9, 1))
		sameBits(c, "another continuation", byToken(k, 3), append(numbers(5, 1), numbers(9, 1)...))
		cache.Truncate(0)
		c.equal("none kept", cache.Len(), 0)

		// Room in advance changes nothing, and is enough.
		cache.extend(1, numbers(1, 2), numbers(2, 2))
		cache.tokens = []int{10, 11}
		cache.Reserve(100)
		room := &cache.keys[1][0][0]
		k, v = cache.extend(1, numbers(3, 100), numbers(4, 100))
		sameBits(c, "keys after Reserve", byToken(k, 3), append(numbers(1, 2), numbers(3, 100)...))
		sameBits(c, "values after Reserve", byToken(v, 3), append(numbers(2, 2), numbers(4, 100)...))
		c.equal("where they lie", &k[0][0] == room, true)
		c.equal("room for 64 more", []int{cap(k[0]), cap(v[1])}, []int{3 * (102 + 64), 3 * (102 + 64)})
		cache.tokens = make([]int, 102)
		k, _ = cache.extend(1, numbers(5, 64), numbers(6, 64))
		c.equal("all of it is used", &k[0][0] == room, true)
		cache.tokens = make([]int, 166)
		k, v = cache.extend(1, numbers(7, 3034), numbers(8, 3034))
		c.equal("room for a 32nd", []int{cap(k[1]), cap(v[0])}, []int{3 * 3300, 3 * 3300})
		sameBits(c, "keys after a move", byToken(k, 3), slices.Concat(numbers(1, 2), numbers(3, 100), numbers(5, 64), numbers(7, 3034)))
		sameBits(c, "values after a move", byToken(v, 3), slices.Concat(numbers(2, 2), numbers(4, 100), numbers(6, 64), numbers(8, 3034)))
		cache.Reserve(0)
		c.equal("room is kept", cap(k[1]), 3*3300)
	})
}

// tiny loads a recorded model, and closes it when the check is over.
func tiny(c *check, name string) *Model {
	c.Helper()
	m, err := Load("testdata/" + name)
	c.must(err)
	c.Cleanup(func() { m.Close() })
	return m
}

var tinyModels = []string{"qwen3-tiny", "qwen2-tiny"}

// Functions made of several others are held against PyTorch within a hundred
// roundings of the largest number: their sums have up to 68 terms, three or four
// of them follow each other, and a norm after a small row enlarges what came
// before it. Their parts have checks of their own; a mistake in the wiring is as
// large as the numbers themselves.
func wiring(want []float32) []float64 {
	largest := 0.0
	for _, v := range want {
		largest = max(largest, math.Abs(float64(v)))
	}
	return []float64{100 * ulp * largest}
}

// TestModelAttention runs one layer's attention on the recorded output of
// input_layernorm, whole and in two pieces.
func TestModelAttention(t *testing.T) {
	golden(t, "Model.attention", func(c *check) {
		for _, name := range tinyModels {
			m, r := tiny(c, name), read(c, "testdata/"+name+"/trace.safetensors")
			seq := len(r.ids("input_ids"))
			for i := range m.Layers {
				layer := fmt.Sprintf("model.layers.%d.", i)
				x, want := r.numbers(layer+"input_layernorm"), r.numbers(layer+"self_attn.o_proj")
				before := slices.Clone(x)
				width := len(x) / seq
				cache := m.NewCache()
				var got []float32
				var steps []string
				for _, piece := range [][2]int{{0, 5}, {5, 6}, {6, 8}} {
					cos, sin := m.rotary.Angles(piece[0], piece[1]-piece[0])
					y := m.attention(x[piece[0]*width:piece[1]*width], i, cos, sin, cache, func(step string, shape []int, y []float32) {
						if piece[0] == 0 {
							steps = append(steps, strings.TrimPrefix(step, "self_attn."))
						}
						if step == "self_attn.probs" {
							return
						}
						n := len(y) / (piece[1] - piece[0])
						w := r.numbers(layer + step)
						within(c, fmt.Sprint(name, " ", layer, step, piece), y, w[piece[0]*n:piece[1]*n], wiring(w), shape[1:]...)
						c.equal(step+", shape", shape[1:], r.shape(layer + step)[1:])
					})
					got = append(got, y...)
					cache.tokens = append(cache.tokens, make([]int, piece[1]-piece[0])...)
				}
				order := "q_proj k_proj v_proj q_norm k_norm q_rope k_rope probs context o_proj"
				if name == "qwen2-tiny" {
					order = "q_proj k_proj v_proj q_rope k_rope probs context o_proj"
				}
				c.equal("steps", strings.Join(steps, " "), order)
				within(c, name+" "+layer+"self_attn", got, want, wiring(want), width)
				sameBits(c, "x is as it was", x, before)
				if i == len(m.Layers)-1 { // where only the last token asks, unless somebody sees the others
					cos, sin := m.rotary.Angles(0, seq)
					last := m.attention(x, i, cos, sin, m.NewCache(), nil)
					sameBits(c, name+" "+layer+"self_attn of the last token", last, got[len(got)-width:])
				}
				k := r.numbers(layer + "self_attn.k_rope")
				within(c, name+" "+layer+"cached keys", byToken(cache.keys[i], m.Config.HeadDim), k, wiring(k))
			}
		}
	})
}

// TestSiLU allows the exponential two roundings (PyTorch three), the sum one and
// the quotient one. Where exp(-x) overflows the result is 0 instead of 2.6e-37.
func TestSiLU(t *testing.T) {
	golden(t, "SiLU", func(c *check) {
		for name, r := range cases(c, "silu") {
			x := r.numbers("in")
			want, bound := make([]float64, len(x)), make([]float64, len(x))
			for i, v := range x {
				want[i] = float64(v) / (1 + math.Exp(-float64(v)))
				bound[i] = 4*ulp*math.Abs(want[i]) + 3e-37
			}
			got := SiLU(x)
			within(c, name, got, want, bound)
			within(c, name+", PyTorch", got, r.numbers("out"), times(2.5, bound))
			// Kernels work on multiples of 8. What is left over, or fewer than 8 alone, must
			// come out the same, and what lies after it stay as it was.
			for n := range 20 {
				few := append(slices.Clone(x[:n]), x[:16]...)
				sameBits(c, fmt.Sprintf("%s, the first %d", name, n), applySiLU(few[:n]), got[:n])
				sameBits(c, fmt.Sprintf("%s, after the first %d", name, n), few[n:], x[:16])
			}
		}
		for _, name := range tinyModels {
			r := read(c, "testdata/"+name+"/trace.safetensors")
			want := r.numbers("model.layers.1.mlp.act_fn")
			within(c, name, SiLU(r.numbers("model.layers.1.mlp.gate_proj")), want, wiring(want))
		}
	})
}

// One rounding of the same operands: PyTorch's result to the last bit.
func TestMultiply(t *testing.T) {
	golden(t, "product", func(c *check) {
		for _, name := range tinyModels {
			r := read(c, "testdata/"+name+"/trace.safetensors")
			for i := range 2 {
				layer := fmt.Sprintf("model.layers.%d.mlp.", i)
				sameBits(c, name+" "+layer+"gated", product(r.numbers(layer+"act_fn"), r.numbers(layer+"up_proj")), r.numbers(layer+"gated"))
			}
		}
		c.panics("lengths", "product: lengths 2 and 3", func() { product(make([]float32, 2), make([]float32, 3)) })
	})
}

func TestFFN(t *testing.T) {
	golden(t, "FFN", func(c *check) {
		for name, r := range cases(c, "ffn") {
			x := r.numbers("in")
			gate, up, down := r.entry("gate").numbers(), r.entry("up").numbers(), r.entry("down").numbers()
			g, gBound := dots(x, gate, r.shape("gate")[0], nil)
			u, uBound := dots(x, up, r.shape("up")[0], nil)
			// silu is nowhere steeper than 1.1.
			mid, midBound := make([]float64, len(g)), make([]float64, len(g))
			for i := range g {
				s := g[i] / (1 + math.Exp(-g[i]))
				mid[i] = s * u[i]
				midBound[i] = (1.1*gBound[i]+4*ulp*math.Abs(s))*math.Abs(u[i]) + math.Abs(s)*uBound[i] + ulp*math.Abs(mid[i])
			}
			rows, n := r.shape("down")[0], r.shape("down")[1]
			var want, bound []float64
			for t := 0; t < len(mid); t += n {
				for o := range rows {
					sum, e := 0.0, 0.0
					for i := range n {
						w := float64(down[o*n+i])
						sum += w * mid[t+i]
						e += math.Abs(w) * (midBound[t+i] + float64(n)*ulp*math.Abs(mid[t+i]))
					}
					want, bound = append(want, sum), append(bound, e)
				}
			}
			got := FFN(x, FFNWeights{r.matrix("gate"), r.matrix("up"), r.matrix("down")}, nil)
			within(c, name, got, want, bound, rows)
			within(c, name+", PyTorch", got, r.numbers("out"), times(2.5, bound), rows)
		}
		for _, name := range tinyModels { // and each of its steps
			m, r := tiny(c, name), read(c, "testdata/"+name+"/trace.safetensors")
			for i := range m.Layers {
				layer := fmt.Sprintf("model.layers.%d.", i)
				var steps []string
				FFN(r.numbers(layer+"post_attention_layernorm"), m.Layers[i].FFN, func(step string, shape []int, y []float32) {
					steps = append(steps, step)
					w := r.numbers(layer + step)
					within(c, name+" "+layer+step, y, w, wiring(w), shape...)
				})
				c.equal("steps", steps, []string{"mlp.gate_proj", "mlp.up_proj", "mlp.act_fn", "mlp.gated", "mlp.down_proj"})
			}
		}
	})
}

func TestAdd(t *testing.T) {
	golden(t, "add", func(c *check) {
		for _, name := range tinyModels {
			r := read(c, "testdata/"+name+"/trace.safetensors")
			for i, x := range []string{"model.embed_tokens", "model.layers.0"} {
				layer := fmt.Sprintf("model.layers.%d", i)
				sameBits(c, name+" "+layer+".attn_residual", add(r.numbers(x), r.numbers(layer+".self_attn.o_proj")), r.numbers(layer+".attn_residual"))
				sameBits(c, name+" "+layer, add(r.numbers(layer+".attn_residual"), r.numbers(layer+".mlp.down_proj")), r.numbers(layer))
			}
		}
		c.panics("lengths", "add: lengths 2 and 3", func() { add(make([]float32, 2), make([]float32, 3)) })
	})
}

// TestWanted holds that every layer but the last one is wanted whole, and that one of the
// last token only, unless somebody sees it all.
func TestWanted(t *testing.T) {
	golden(t, "Model.wanted", func(c *check) {
		m := &Model{Config: Config{Hidden: 2}, Layers: make([]Layer, 3)}
		x := []float32{1, 2, 3, 4, 5, 6}
		see := Trace(func(string, []int, []float32) {})
		for i := range m.Layers {
			c.equal(fmt.Sprint("layer ", i, ", seen"), m.wanted(x, i, see), x)
		}
		c.equal("layer 0", m.wanted(x, 0, nil), x)
		c.equal("layer 1", m.wanted(x, 1, nil), x)
		c.equal("layer 2, the last", m.wanted(x, 2, nil), []float32{5, 6})
		c.equal("layer 2 of one token", m.wanted(x[:2], 2, nil), []float32{1, 2})
	})
}

func TestBlock(t *testing.T) {
	golden(t, "Model.block", func(c *check) {
		for name, r := range cases(c, "block") {
			model, _, _ := strings.Cut(name, ".")
			m, x, i := tiny(c, model), r.numbers("in"), r.int("layer")
			shape, want := r.shape("in"), r.numbers("out")
			cos, sin := m.rotary.Angles(0, shape[0])
			if i == len(m.Layers)-1 { // of which only the last token is wanted, unless somebody sees the others
				last := m.block(slices.Clone(x), i, cos, sin, m.NewCache(), nil)
				within(c, name+", the last token", last, want[len(want)-shape[1]:], wiring(want))
			}
			got := m.block(x, i, cos, sin, m.NewCache(), func(string, []int, []float32) {})
			within(c, name, got, want, wiring(want), shape...)
			sameBits(c, name+", the stream is added to in place", x, got)
		}
		for _, name := range tinyModels { // and each of its steps
			m, r := tiny(c, name), read(c, "testdata/"+name+"/trace.safetensors")
			for i, input := range []string{"model.embed_tokens", "model.layers.0"} {
				layer, cache := fmt.Sprintf("model.layers.%d", i), m.NewCache()
				cos, sin := m.rotary.Angles(0, 8)
				own := ""
				m.block(r.numbers(input), i, cos, sin, cache, func(step string, shape []int, y []float32) {
					if !strings.Contains(step, ".") {
						own += " [" + step + "]"
					}
					if step != "" {
						step = "." + step
					}
					w := r.numbers(layer + step)
					within(c, name+" "+layer+step, y, w, wiring(w), shape...)
				})
				c.equal("steps", own, " [input_layernorm] [attn_residual] [post_attention_layernorm] []")
				k := r.numbers(layer + ".self_attn.k_rope")
				within(c, name+" "+layer+", cached keys", byToken(cache.keys[i], m.Config.HeadDim), k, wiring(k))
				v := r.numbers(layer + ".self_attn.v_proj")
				within(c, name+" "+layer+", cached values", byToken(cache.values[i], m.Config.HeadDim), v, wiring(v))
			}
		}
	})
}

func TestCheckInput(t *testing.T) {
	golden(t, "Model.checkInput", func(c *check) {
		m := &Model{Config: Config{Vocab: 5, MaxPositions: 4, KVHeads: 1, HeadDim: 2}, Layers: make([]Layer, 1)}
		cache := m.NewCache()
		cache.tokens = []int{1}
		other := (&Model{}).NewCache()
		for _, test := range []struct {
			tokens []int
			cache  *Cache
			want   string
		}{
			{[]int{0, 4, 2}, cache, "<nil>"},
			{[]int{0}, nil, "qwen: the cache was made by another model, expected one of this model's NewCache"},
			{[]int{0}, other, "qwen: the cache was made by another model, expected one of this model's NewCache"},
			{nil, cache, "qwen: found no tokens, expected at least one"},
			{[]int{0, 1, 2, 3}, cache, "qwen: context is full: found 5 tokens, expected at most 4"},
			{[]int{0, 5}, cache, "qwen: token 1 of the input: found id 5, expected 0 to 4"},
			{[]int{-1}, cache, "qwen: token 0 of the input: found id -1, expected 0 to 4"},
		} {
			c.equal(fmt.Sprint(test.tokens), fmt.Sprint(m.checkInput(test.tokens, test.cache)), test.want)
		}
		if err := m.checkInput(make([]int, 4), cache); !errors.Is(err, ErrContextFull) {
			c.fail("got %v, want ErrContextFull", err)
		}
		m.closed = true
		c.equal("closed", m.checkInput([]int{0}, cache), ErrClosed)
	})
}

func TestCheckFinite(t *testing.T) {
	golden(t, "Model.checkFinite", func(c *check) {
		inf, nan := float32(math.Inf(1)), float32(math.NaN())
		m := &Model{tensors: []Tensor{
			NewTensor("good", []float32{1, math.MaxFloat32}, 2),
			NewTensor("bad", []float32{0, 0, nan, inf}, 4),
			NewTensor("worse", []float32{inf}, 1),
		}, used: 3}
		c.equal("finite", m.checkFinite([]float32{1, -math.MaxFloat32, 0}), nil)
		for _, v := range []float32{inf, -inf, nan} {
			err := m.checkFinite([]float32{0, v})
			c.equal(fmt.Sprint(v), fmt.Sprint(err), "qwen: not finite: weight bad: found NaN at element 2, expected a finite number")
			c.equal("kind", errors.Is(err, ErrNotFinite), true)
		}
		m.used = 1
		c.equal("overflow", fmt.Sprint(m.checkFinite([]float32{nan})), "qwen: not finite: the logits, although every weight is finite: the activations overflowed")
	})
}

// TestTraceNames looks at the names and shapes that Trace puts together.
func TestTraceNames(t *testing.T) {
	golden(t, "Trace", func(c *check) {
		var seen []string
		see := Trace(func(name string, shape []int, x []float32) { seen = append(seen, fmt.Sprint(name, shape, len(x))) })
		x := make([]float32, 24)
		see.step("a", x, 12)
		see.step("b", x, 3, 4)
		see.probs(x, 2, 3, 4)
		see.layer(7).step("c", x, 8)
		see.layer(0).step("", x, 8)
		see.layer(10).probs(x, 1, 2, 12)
		c.equal("names and shapes", seen, []string{"a[2 12] 24", "b[2 3 4] 24", "self_attn.probs[2 3 4] 24", "model.layers.7.c[3 8] 24", "model.layers.0[3 8] 24", "model.layers.10.self_attn.probs[1 2 12] 24"})
		none := Trace(nil)
		none.step("a", x, 0)
		none.probs(x, 0, 0, 0)
		c.equal("nil", none.layer(1) == nil, true)
	})
}

// TestForward begins with the head: a model without layers, whose embedding is
// what PyTorch put into the final norm.
func TestForward(t *testing.T) {
	golden(t, "Model.Forward", func(c *check) {
		for name, r := range cases(c, "head") {
			m := tiny(c, name)
			m.Layers, m.Config.Vocab = nil, r.shape("logits")[1]
			m.Embed = NewMatrix(r.numbers("in"), 4)
			rest := m.Embed.Data // ids above 3 are not used; the head may be another matrix
			m.Embed.Data, m.Embed.Rows = rest, 4
			norm, logits := r.numbers("norm"), r.numbers("logits")
			for i := range 4 {
				got, err := m.Forward([]int{i}, m.NewCache())
				c.must(err)
				want := logits[i*m.Config.Vocab : (i+1)*m.Config.Vocab]
				within(c, fmt.Sprint(name, ", logits of row ", i), got, want, wiring(want))
			}
			var steps []string
			c.must(m.Trace([]int{0, 1, 2, 3}, m.NewCache(), func(step string, _ []int, x []float32) {
				if steps = append(steps, step); step == "model.norm" {
					within(c, name+", model.norm", x, norm, wiring(norm), m.Config.Hidden)
				} else if step == "lm_head" {
					within(c, name+", lm_head", x, logits, wiring(logits), m.Config.Vocab)
				}
			}))
			c.equal("steps", steps, []string{"model.embed_tokens", "model.norm", "lm_head"})
		}
		for _, name := range tinyModels {
			forwardWhole(c, name)
			forwardProbes(c, name)
		}
	})
}

// forwardWhole compares with the logits at every position of three prompts, and
// with those of each step of a decode.
func forwardWhole(c *check, name string) {
	m, r := tiny(c, name), read(c, "testdata/"+name+"/golden.safetensors")
	for _, n := range []string{"0", "1", "2"} {
		prompt, want := r.ids("prompt."+n), r.numbers("logits."+n)
		cache := m.NewCache()
		var got []float32
		for i := range prompt {
			logits, err := m.Forward(prompt[i:i+1], cache)
			c.must(err)
			got = append(got, logits...)
		}
		within(c, name+", prompt "+n+", token by token", got, want, times(4, wiring(want)), m.Config.Vocab)
		c.equal("tokens in the cache", cache.Tokens(), prompt)
	}
	// Positions moved by the same number move no logit: RoPE is relative. They show in the rotated queries.
	trace := read(c, "testdata/"+name+"/trace.safetensors")
	ids, rotated := trace.ids("input_ids"), trace.numbers("model.layers.0.self_attn.q_rope")
	cache := m.NewCache()
	for at, n := 0, 5; at < len(ids); at, n = at+n, 1 {
		c.must(m.Trace(ids[at:at+n], cache, func(step string, shape []int, x []float32) {
			if step == "model.layers.0.self_attn.q_rope" {
				width := len(x) / n
				within(c, fmt.Sprint(name, ", positions from ", at), x, rotated[at*width:(at+n)*width], wiring(rotated), shape[1:]...)
			}
		}))
	}

	cache, want := m.NewCache(), r.numbers("steps.1")
	next := r.ids("prompt.1")
	var got []float32
	for _, id := range r.ids("greedy.1") {
		logits, err := m.Forward(next, cache)
		c.must(err)
		got, next = append(got, logits...), []int{id}
	}
	within(c, name+", steps of a decode", got, want, times(4, wiring(want)), m.Config.Vocab)

	length := cache.Len()
	if _, err := m.Forward([]int{m.Config.Vocab}, cache); err == nil || cache.Len() != length {
		c.fail("an id that is not in the vocabulary: error %v, %d tokens in the cache, want an error and %d", err, cache.Len(), length)
	}
	bad := slices.Clone(m.Norm)
	m.Norm = slices.Clone(bad)
	m.Norm[0] = float32(math.NaN())
	if _, err := m.Forward(next, cache); !errors.Is(err, ErrNotFinite) || cache.Len() != length {
		c.fail("NaN: error %v, %d tokens in the cache, want ErrNotFinite and %d", err, cache.Len(), length)
	}
	m.Norm = bad
	c.must(m.Close())
	if _, err := m.Forward(next, cache); err != ErrClosed {
		c.fail("after Close: %v, want ErrClosed", err)
	}
}

// forwardProbes looks for what must not make a difference, to the last bit, and
// for what must.
func forwardProbes(c *check, name string) {
	m, r := tiny(c, name), read(c, "testdata/"+name+"/golden.safetensors")
	prompt, vocab := r.ids("prompt.2"), m.Config.Vocab
	all := func(tokens []int, cache *Cache) []float32 { // logits of every token
		var logits []float32
		c.must(m.Trace(tokens, cache, func(step string, _ []int, x []float32) {
			if step == "lm_head" {
				logits = slices.Clone(x)
			}
		}))
		return logits
	}
	whole := all(prompt, m.NewCache())
	n := len(prompt)

	other := slices.Clone(prompt)
	other[n-1] = (other[n-1] + 1) % vocab
	changed := all(other, m.NewCache())
	sameBits(c, "causality: the last token changes, what came before does not", changed[:(n-1)*vocab], whole[:(n-1)*vocab])
	if slices.Equal(changed[(n-1)*vocab:], whole[(n-1)*vocab:]) {
		c.fail("the last token changes, and its logits do not")
	}
	other = slices.Clone(prompt)
	other[0] = (other[0] + 1) % vocab
	if changed = all(other, m.NewCache()); slices.Equal(changed[(n-1)*vocab:], whole[(n-1)*vocab:]) {
		c.fail("the first token changes, and the last logits do not")
	}

	for _, size := range []int{1, 2, 5, 22} { // decode, and prefill in pieces
		cache := m.NewCache()
		var got []float32
		for at := 0; at < n; at += size {
			got = append(got, all(prompt[at:min(at+size, n)], cache)...)
		}
		sameBits(c, fmt.Sprint("in pieces of ", size), got, whole)
	}
	cache := m.NewCache()
	all(other, cache)
	cache.Truncate(0)
	all(prompt[:9], cache)
	all(other[:9], cache)
	cache.Truncate(9)
	sameBits(c, "after Truncate", all(prompt[9:], cache), whole[9*vocab:])

	for _, procs := range []int{2, 3, 8} {
		runtime.GOMAXPROCS(procs)
		sameBits(c, fmt.Sprint(procs, " threads"), all(prompt, m.NewCache()), whole)
	}
	runtime.GOMAXPROCS(1)
	last, err := m.Forward(prompt, m.NewCache())
	c.must(err)
	sameBits(c, "Forward returns the last token's", last, whole[(n-1)*vocab:])

	// The ids are only names of rows.
	order := rand.New(rand.NewPCG(3, 4)).Perm(vocab)
	permute := func(w Matrix) Matrix {
		size := len(w.Data) / w.Rows
		data := make([]byte, len(w.Data))
		for id, to := range order {
			copy(data[to*size:(to+1)*size], w.Data[id*size:(id+1)*size])
		}
		return Matrix{w.DType, w.Rows, w.Cols, data}
	}
	m.Embed, m.Head = permute(m.Embed), permute(m.Head)
	renamed := make([]int, n)
	for i, id := range prompt {
		renamed[i] = order[id]
	}
	got := all(renamed, m.NewCache())
	want := make([]float32, len(whole))
	for i := range whole {
		want[i/vocab*vocab+order[i%vocab]] = whole[i]
	}
	sameBits(c, "vocabulary in another order", got, want)
}

// TestTrace holds every intermediate of a whole run, with its name and shape,
// against the recorded trace. Nothing may be missing and nothing added.
func TestTrace(t *testing.T) {
	golden(t, "Model.Trace", func(c *check) {
		for _, name := range tinyModels {
			m, r := tiny(c, name), read(c, "testdata/"+name+"/trace.safetensors")
			seen := map[string]bool{"input_ids": true, "hidden_states.0": true, "hidden_states.1": true, "hidden_states.2": true}
			cache := m.NewCache()
			c.must(m.Trace(r.ids("input_ids"), cache, func(step string, shape []int, x []float32) {
				want := r.numbers(step)
				c.equal(step+", shape", shape, r.shape(step))
				within(c, name+" "+step, x, want, times(4, wiring(want)), shape...)
				if seen[step] {
					c.fail("%s is shown twice", step)
				}
				seen[step] = true
			}))
			for step := range r.entries {
				if !seen[step] {
					c.fail("%s is not shown", step)
				}
			}
			c.equal("tokens in the cache", cache.Tokens(), r.ids("input_ids"))
			states := []string{"model.embed_tokens", "model.layers.0", "model.norm"} // as transformers counts them
			for i, step := range states {
				sameBits(c, "the recording agrees with itself", r.numbers(fmt.Sprint("hidden_states.", i)), r.numbers(step))
			}
		}
	})
}

// removedAs holds scores against PyTorch's: the same tokens at -Inf, the others
// within two roundings.
func removedAs(c *check, name string, got, want []float32) {
	c.Helper()
	bound := make([]float64, len(want))
	for i, v := range want {
		if !math.IsInf(float64(v), 0) {
			bound[i] = 2 * ulp * math.Abs(float64(v))
		}
	}
	within(c, name, got, want, bound)
}

// filterCases runs f on the recorded cases that use nothing but one filter.
func filterCases(c *check, only string, f func(scores []float32, value float64, ids []int)) {
	n := 0
	for name, r := range cases(c, "sampling") {
		off := map[string]float64{"repetition_penalty": 1, "temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
		if !r.has("ids") {
			continue
		}
		other := false
		for p, neutral := range off {
			other = other || p != only && r.number(p) != neutral
		}
		if value := r.number(only); !other && value != off[only] {
			scores := r.numbers("in")
			f(scores, value, r.ids("ids"))
			removedAs(c, name, scores, r.numbers("out"))
			n++
		}
	}
	if n == 0 {
		c.fail("no recorded case of %s alone", only)
	}
}

func TestArgmax(t *testing.T) {
	golden(t, "argmax", func(c *check) {
		for name, r := range cases(c, "sampling") {
			if name == "argmax-tied" {
				c.equal(name, argmax(r.numbers("in")), r.ids("out")[0])
			}
		}
		for _, test := range []struct {
			x    []float32
			want int
		}{{[]float32{-3}, 0}, {[]float32{-3, -2, -9}, 1}, {[]float32{1, 1}, 0}, {[]float32{0, 5, 2, 5}, 1}, {[]float32{9, 5, 2, 5}, 0}, {[]float32{1, 2, 3}, 2}} {
			c.equal(fmt.Sprint(test.x), argmax(test.x), test.want)
		}
	})
}

func TestLargest(t *testing.T) {
	golden(t, "largest", func(c *check) {
		random := rand.New(rand.NewPCG(5, 6))
		for _, n := range []int{1, 2, 7, 300, 700} {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(random.IntN(1 + n/2)) // many equals
			}
			want := make([]int, n) // by selection, the slow way
			used := make([]bool, n)
			for i := range want {
				best := -1
				for j, v := range x {
					if !used[j] && (best < 0 || v > x[best]) {
						best = j
					}
				}
				want[i], used[best] = best, true
			}
			for _, k := range []int{1, 2, 3, 6, 7, 255, 256, 257, 258, 299, 300, 700} {
				if k <= n {
					c.equal(fmt.Sprint(k, " of ", n), largest(x, k), want[:k])
				}
			}
		}
	})
}

func TestPenalise(t *testing.T) {
	golden(t, "penalise", func(c *check) {
		filterCases(c, "repetition_penalty", func(scores []float32, value float64, ids []int) { penalise(scores, ids, float32(value)) })
		scores := []float32{2, -2, 4, 0}
		penalise(scores, []int{-1, 4, 99, 1, 0, 1, 3}, 2) // ids outside of the vocabulary are not looked at
		sameBits(c, "by hand", scores, []float32{1, -4, 4, 0})
	})
}

func TestKeepTopK(t *testing.T) {
	golden(t, "keepTopK", func(c *check) {
		filterCases(c, "top_k", func(scores []float32, value float64, _ []int) { keepTopK(scores, min(int(value), len(scores))) })
	})
}

func TestKeepTopP(t *testing.T) {
	golden(t, "keepTopP", func(c *check) {
		filterCases(c, "top_p", func(scores []float32, value float64, _ []int) { keepTopP(scores, value) })
		inf := float32(math.Inf(-1))
		scores := []float32{inf, 1, 1, inf, 1}
		keepTopP(scores, 0.5) // of equals the first stay
		sameBits(c, "equals", scores, []float32{inf, 1, 1, inf, inf})
		scores = []float32{inf, 3, inf}
		keepTopP(scores, 1e-9)
		sameBits(c, "the last one stays", scores, []float32{inf, 3, inf})
		scores = []float32{0, 0, 0, 0}
		keepTopP(scores, 0.75) // 0.25 is no more than 1-0.75
		sameBits(c, "on the limit", scores, []float32{0, 0, 0, inf})
	})
}

func TestKeepMinP(t *testing.T) {
	golden(t, "keepMinP", func(c *check) {
		filterCases(c, "min_p", func(scores []float32, value float64, _ []int) { keepMinP(scores, float32(value)) })
		inf := float32(math.Inf(-1))
		scores := []float32{inf, 1, inf, 1}
		keepMinP(scores, 1)
		sameBits(c, "on the limit", scores, []float32{inf, 1, inf, 1})
	})
}

// TestFilterCold divides by so little that the scores overflow.
func TestFilterCold(t *testing.T) {
	golden(t, "Sampling.Filter", func(c *check) {
		got := Sampling{Temperature: 1e-40}.Filter([]float32{1, 5, -3, 4.75}, nil)
		c.equal("one is left", got, []float32{removed, 0, removed, removed})
		never := []float32{0, -1000} // the second has a probability of 0 in float32
		c.equal("top_p of 1 is off", Sampling{Temperature: 1, TopP: 1}.Filter(never, nil), never)
	})
}

// TestFilter has every setting alone and together with others.
func TestFilter(t *testing.T) {
	golden(t, "Sampling.Filter", func(c *check) {
		for name, r := range cases(c, "sampling") {
			if !r.has("ids") {
				continue
			}
			logits, ids := r.numbers("in"), r.ids("ids")
			s := Sampling{r.number("temperature"), r.int("top_k"), r.number("top_p"), r.number("min_p"), r.number("repetition_penalty"), 0}
			if s.TopP == 0 {
				s.TopP = 1e-10 // transformers takes 0 at its word; here 0 is off
			}
			got := s.Filter(logits, ids)
			removedAs(c, name, got, r.numbers("out"))
			sameBits(c, name+", the logits are as they were", logits, r.numbers("in"))
			s.Temperature = 0 // greedy: nothing but the penalty
			greedy := s.Filter(logits, ids)
			if p := s.RepetitionPenalty; p != 1 {
				want := slices.Clone(logits)
				penalise(want, ids, float32(p))
				sameBits(c, name+", greedy", greedy, want)
			} else {
				sameBits(c, name+", greedy", greedy, logits)
			}
			c.equal("choose, greedy", s.choose(logits, ids, nil), argmax(greedy))
		}
		x := []float32{1, 2, 3}
		sameBits(c, "the zero value", Sampling{}.Filter(x, []int{0}), x)
		sameBits(c, "everything off", Sampling{Temperature: 1, TopK: -1, TopP: 1, RepetitionPenalty: 1}.Filter(x, []int{0}), x)
		sameBits(c, "top-k of all", Sampling{Temperature: 1, TopK: 3}.Filter(x, nil), x)

		// The same seed, the same choices; and as often as they are likely.
		s := Sampling{Temperature: 1, TopK: 2}
		random := func() *rand.Rand { return rand.New(rand.NewPCG(9, 0)) }
		a, b := random(), random()
		count := make([]int, 3)
		for range 2000 {
			id := s.choose(x, nil, a)
			if again := s.choose(x, nil, b); again != id {
				c.fail("the same seed gives %d and %d", id, again)
			}
			count[id]++
		}
		c.equal("a token that is removed is never drawn", count[0], 0)
		within(c, "share of the second", []float64{float64(count[1]) / 2000}, []float64{1 / (1 + math.E)}, []float64{0.05}) // 5 standard deviations
	})
}

func TestSamplingCheck(t *testing.T) {
	golden(t, "Sampling.check", func(c *check) {
		for want, s := range map[string]Sampling{
			"": {Temperature: 2, TopK: -1, TopP: 1, MinP: 1, RepetitionPenalty: 2},
			"temperature: found -1, expected 0 to 3.4028234663852886e+38":          {Temperature: -1, TopP: 2},
			"temperature: found NaN, expected 0 to 3.4028234663852886e+38":         {Temperature: math.NaN()},
			"top_p: found 1.5, expected 0 to 1":                                    {TopP: 1.5, MinP: 2}, // the first that is wrong
			"min_p: found -0.5, expected 0 to 1":                                   {MinP: -0.5},
			"repetition_penalty: found +Inf, expected 0 to 3.4028234663852886e+38": {RepetitionPenalty: math.Inf(1)},
			"top_k: found -2, expected -1 to 1.073741824e+09":                      {TopK: -2},
		} {
			c.equal("settings", s.check(), want)
		}
	})
}

// TestDraw puts the recorded probabilities end to end and asks for the token in
// the middle of each, and just inside both its ends.
func TestDraw(t *testing.T) {
	golden(t, "draw", func(c *check) {
		for name, r := range cases(c, "sampling") {
			if !r.has("probs") {
				continue
			}
			scores, probs := r.numbers("out"), r.numbers("probs")
			total, sum := 0.0, 0.0
			for _, p := range probs {
				total += float64(p)
			}
			wrong := 0
			for id, p := range probs {
				if p > 1e-5 { // rounding moves the ends by 1e-7 or so
					for _, part := range []float64{0.05, 0.5, 0.95} {
						if got := draw(scores, (sum+part*float64(p))/total); got != id {
							wrong++
						}
					}
				}
				sum += float64(p)
			}
			c.equal(name+", wrong draws", wrong, 0)
		}
		inf := float32(math.Inf(-1))
		scores := []float32{inf, 0, inf, 0, inf}
		for u, want := range map[float64]int{0: 1, 0.49: 1, 0.5: 3, 0.99: 3, math.Nextafter(1, 0): 3, 1: 3} {
			c.equal(fmt.Sprint("u ", u), draw(scores, u), want)
		}
	})
}

func TestLogProbs(t *testing.T) {
	golden(t, "logProbs", func(c *check) {
		for name, r := range cases(c, "sampling") {
			if name != "logprobs" {
				continue
			}
			logits, want := r.numbers("in"), r.numbers("out")
			for _, k := range []int{1, 5, 97, 200} {
				top := logProbs(logits, k)
				order := largest(logits, min(k, 97))
				var ids []int
				var got []float64
				var torch []float32
				for _, p := range top {
					ids, got, torch = append(ids, p.ID), append(got, p.LogProb), append(torch, want[p.ID])
				}
				c.equal("ids", ids, order)
				within(c, fmt.Sprint(k, " most likely"), got, torch, []float64{97 * ulp}) // a float32 sum of 97 there, float64 here
			}
		}
	})
}

func TestContinueWith(t *testing.T) {
	golden(t, "Cache.continueWith", func(c *check) {
		m := &Model{Config: Config{KVHeads: 1, HeadDim: 1, MaxPositions: 9, Vocab: 9}}
		for _, test := range []struct{ cached, prompt, kept, rest []int }{
			{nil, []int{1, 2}, nil, []int{1, 2}},
			{[]int{1, 2}, []int{1, 2, 3, 4}, []int{1, 2}, []int{3, 4}},
			{[]int{1, 2, 3}, []int{1, 2, 4}, []int{1, 2}, []int{4}},
			{[]int{1, 9, 3}, []int{1, 2, 3, 4}, []int{1}, []int{2, 3, 4}},
			{[]int{1, 2, 3}, []int{1, 2, 3}, []int{1, 2}, []int{3}}, // its last token's logits are wanted
			{[]int{1, 2, 3, 4}, []int{1, 2}, []int{1}, []int{2}},
			{[]int{5}, []int{6}, nil, []int{6}},
		} {
			cache := m.NewCache()
			cache.tokens = slices.Clone(test.cached)
			rest, err := cache.continueWith(m, test.prompt)
			c.must(err)
			if !slices.Equal(rest, test.rest) || !slices.Equal(cache.tokens, test.kept) {
				c.fail("%v cached, prompt %v: kept %v, to do %v; want %v and %v", test.cached, test.prompt, cache.tokens, rest, test.kept, test.rest)
			}
		}
		if _, err := m.NewCache().continueWith(&Model{}, []int{1}); err == nil {
			c.fail("the cache of another model is accepted")
		}
		cache := m.NewCache()
		cache.tokens = []int{5}
		for _, wrong := range [][]int{nil, {9}, {-1}, make([]int, 10)} {
			if rest, err := cache.continueWith(m, wrong); err == nil || rest != nil || cache.Len() != 1 {
				c.fail("prompt %v: to do %v, %v, %d tokens in the cache, want an error and the cache as it was", wrong, rest, err, cache.Len())
			}
		}
	})
}

// steppingContext is cancelled after it has been asked a number of times.
type steppingContext struct {
	context.Context
	left int
}

func (s *steppingContext) Err() error {
	if s.left--; s.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestRecycled fills the arrays that a forward pass will take from those that were recycled
// with NaN: whoever reads one before it is written shows it.
func TestRecycled(t *testing.T) {
	golden(t, "Model.Forward", func(c *check) {
		nan := float32(math.NaN())
		for _, name := range []string{"qwen2-tiny", "qwen3-tiny"} {
			m := tiny(c, name)
			for _, ids := range [][]int{{5, 3, 8, 13, 21, 2, 7}, {5}} {
				want, err := m.Forward(ids, m.NewCache())
				c.must(err)
				if len(recycled.arrays) == 0 {
					c.fail("%s: nothing is recycled", name)
				}
				for _, x := range recycled.arrays {
					copy(x, slices.Repeat([]float32{nan}, len(x)))
				}
				got, err := m.Forward(ids, m.NewCache())
				c.must(err)
				sameBits(c, fmt.Sprint(name, ", ", len(ids), " tokens"), got, want)
			}
		}
	})
}

// TestForwardPieces has a prompt that is longer than two pieces.
func TestForwardPieces(t *testing.T) {
	golden(t, "Model.forwardPieces", func(c *check) {
		m := tiny(c, "qwen3-tiny")
		m.Config.MaxPositions = 1000
		m.Layers = m.Layers[:1] // enough to see the order of the pieces
		random := rand.New(rand.NewPCG(7, 8))
		lengths := []int{1, PrefillChunk, PrefillChunk + 1}
		if !testing.Short() {
			lengths = append(lengths, 2*PrefillChunk+1)
		}
		for _, n := range lengths {
			ids := make([]int, n)
			for i := range ids {
				ids[i] = random.IntN(m.Config.Vocab)
			}
			want, err := m.Forward(ids, m.NewCache())
			c.must(err)
			cache := m.NewCache()
			got, err := m.forwardPieces(context.Background(), ids, cache)
			c.must(err)
			sameBits(c, fmt.Sprint(n, " tokens"), got, want)
			c.equal("tokens in the cache", cache.Tokens(), ids)

			pieces := (n - 1) / PrefillChunk // ctx is looked at after each but the last
			if _, err := m.forwardPieces(&steppingContext{context.Background(), pieces}, ids, m.NewCache()); err != nil {
				c.fail("%d tokens: ctx is looked at more than %d times", n, pieces)
			}
			if pieces > 0 {
				cache = m.NewCache()
				_, err = m.forwardPieces(&steppingContext{context.Background(), pieces - 1}, ids, cache)
				c.equal("cancelled", []any{err, cache.Len()}, []any{context.Canceled, pieces * PrefillChunk})
				ids[1] = -1
				if _, err = m.forwardPieces(context.Background(), ids, m.NewCache()); err == nil {
					c.fail("an id of -1 in the first piece is accepted")
				}
			}
		}
		c.equal("PrefillChunk", PrefillChunk, 258) // README's memory was measured with it
		for _, k := range kernels {
			c.equal("tokens of PrefillChunk that do not fill a tile of "+k.name, PrefillChunk%k.tokens, 0)
		}
	})
}

// collect runs a generation to its end.
func collect(seq func(yield func(Token, error) bool)) (tokens []Token, err error) {
	for t, e := range seq {
		if e != nil {
			return tokens, e
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

func idsOf(tokens []Token) (ids []int) {
	for _, t := range tokens {
		ids = append(ids, t.ID)
	}
	return ids
}

func TestGenerate(t *testing.T) {
	golden(t, "Model.Generate", func(c *check) {
		ctx := context.Background()
		for _, name := range tinyModels {
			m, r := tiny(c, name), read(c, "testdata/"+name+"/golden.safetensors")
			prompt, greedy := r.ids("prompt.1"), r.ids("greedy.1")
			cache := m.NewCache()
			tokens, err := collect(m.Generate(ctx, prompt, Options{MaxTokens: 24, LogProbs: 3, Cache: cache}))
			c.must(err)
			c.equal(name+", greedy ids", idsOf(tokens), greedy)
			for i, t := range tokens {
				want := ""
				if i == 23 {
					want = "length"
				}
				c.equal(fmt.Sprint("finish of token ", i), t.Finish, want)
				c.equal("the likeliest", []int{len(t.LogProbs), t.LogProbs[0].ID}, []int{3, t.ID})
				if i < 2 { // of the step's own logits
					logits := r.numbers("steps.1")[i*m.Config.Vocab:][:m.Config.Vocab]
					want := logProbs(logits, 3)
					within(c, "log-probabilities", []float64{t.LogProbs[0].LogProb, t.LogProbs[2].LogProb}, []float64{want[0].LogProb, want[2].LogProb}, times(4, wiring(logits)))
				}
			}
			c.equal("tokens in the cache", cache.Tokens(), slices.Concat(prompt, greedy[:23]))

			// The conversation goes on: only what is new is computed.
			prompt2 := append(slices.Concat(prompt, greedy), 5)
			want, err := collect(m.Generate(ctx, prompt2, Options{MaxTokens: 3}))
			c.must(err)
			tokens, err = collect(m.Generate(ctx, prompt2, Options{MaxTokens: 3, Cache: cache}))
			c.must(err)
			c.equal("continued with the cache", tokens, want)

			// A stop id ends it, unless it is to be ignored; the zero value goes on to the end of the context.
			m.Config.StopIDs = []int{-5, greedy[4]}
			first := slices.Index(greedy, greedy[4])
			tokens, err = collect(m.Generate(ctx, prompt, Options{}))
			c.must(err)
			c.equal("up to the stop id", idsOf(tokens), greedy[:first+1])
			c.equal("finish", tokens[first].Finish, "stop")
			tokens, err = collect(m.Generate(ctx, prompt, Options{IgnoreStop: true, MaxTokens: 24}))
			c.must(err)
			c.equal("stop ids ignored", idsOf(tokens), greedy)
			m.Config.StopIDs, m.Config.MaxPositions = nil, len(prompt)+7
			tokens, err = collect(m.Generate(ctx, prompt, Options{}))
			if !errors.Is(err, ErrContextFull) || !slices.Equal(idsOf(tokens), greedy[:8]) {
				c.fail("until the context is full: %v, %v", idsOf(tokens), err)
			}

			for want, o := range map[string]Options{
				"qwen: options: MaxTokens: found -1, expected 0 or more":                           {MaxTokens: -1},
				"qwen: options: LogProbs: found -1, expected 0 or more":                            {LogProbs: -1},
				"qwen: options: top_p: found 2, expected 0 to 1":                                   {Sampling: Sampling{TopP: 2}},
				"qwen: the cache was made by another model, expected one of this model's NewCache": {Cache: (&Model{}).NewCache()},
			} {
				_, err = collect(m.Generate(ctx, prompt, o))
				c.equal("error", fmt.Sprint(err), want)
			}
			_, err = collect(m.Generate(ctx, []int{-1}, Options{}))
			c.equal("error of Forward", fmt.Sprint(err), fmt.Sprintf("qwen: token 0 of the input: found id -1, expected 0 to %d", m.Config.Vocab-1))
			tokens, err = collect(m.Generate(&steppingContext{ctx, 3}, prompt, Options{}))
			c.equal("cancelled after three tokens", []any{idsOf(tokens), err}, []any{greedy[:3], context.Canceled})
			n := 0
			for range m.Generate(ctx, prompt, Options{}) { // the consumer has enough
				if n++; n == 2 {
					break
				}
			}
			c.equal("tokens until the break", n, 2)
		}
		generateStops(c)
		generateSampled(c)
	})
}

// generateStops has recorded stop ids and a recorded penalty.
func generateStops(c *check) {
	m, r := tiny(c, "variants/qwen2-stop"), read(c, "testdata/variants/qwen2-stop/golden.safetensors")
	c.equal("stop ids of generation_config.json", m.Config.StopIDs, r.ids("stop.ids"))
	tokens, err := collect(m.Generate(context.Background(), r.ids("prompt.0"), Options{}))
	c.must(err)
	c.equal("until a stop id", idsOf(tokens), r.ids("stop.greedy"))
	penalty := r.number("penalty")
	tokens, err = collect(m.Generate(context.Background(), r.ids("prompt.0"), Options{MaxTokens: 24, IgnoreStop: true, Sampling: Sampling{RepetitionPenalty: penalty}}))
	c.must(err)
	c.equal("with a repetition penalty", idsOf(tokens), r.ids("penalty.greedy"))
}

// generateSampled draws with a seed: again the same, and another one differs.
func generateSampled(c *check) {
	m := tiny(c, "qwen3-tiny")
	run := func(seed uint64) []int {
		tokens, err := collect(m.Generate(context.Background(), []int{1, 2, 3}, Options{MaxTokens: 40, IgnoreStop: true, Sampling: Sampling{Temperature: 1, Seed: seed}}))
		c.must(err)
		return idsOf(tokens)
	}
	a := run(1)
	c.equal("the same seed", run(1), a)
	if slices.Equal(run(2), a) || slices.Equal(run(0), a) {
		c.fail("another seed gives the same text")
	}
}

// TestTextStream feeds the recorded ids one by one: what comes out, joined, is
// what Hugging Face decodes, and each part ends between characters.
func TestTextStream(t *testing.T) {
	golden(t, "textStream", func(c *check) {
		tok, inside := testTokenizer(c), 0
		for i, r := range tokenizerCases(c) {
			want := r.Decoded
			if want == nil {
				want = r.Text
			}
			s, text := textStream{t: tok}, ""
			var plain []int
			for _, id := range r.IDs {
				if tok.Special(id) {
					c.equal("text of a special token", s.add(id), "")
					continue
				}
				plain = append(plain, id)
				part := s.add(id)
				if strings.HasSuffix(part, "\ufffd") && !strings.Contains(*want, "\ufffd") {
					inside++
				}
				text += part
			}
			if text += s.rest(); len(plain) == len(r.IDs) && text != *want || text != tok.DecodeText(plain) {
				c.fail("case %d: got %q, want %q", i, text, *want)
			}
			if rest := s.rest(); rest != "" {
				c.fail("case %d: %q is left twice", i, rest)
			}
		}
		c.equal("parts that end inside a character", inside, 0)
		c.equal("without a tokenizer", (&textStream{}).add(1), "")
		for text, want := range map[string]int{
			"": 0, "a": 1, "é": 2, "\xc3": 0, "a\xc3": 1, "中": 3, "a\xe4\xb8": 1, "\xe4": 0, "😀": 4, "b\xf0\x9f\x98": 1, "b\xf0\x9f": 1, "b\xf0": 1,
			"\xff": 1, "a\x80": 2, "\x80\x80\x80\x80\x80": 5, "\xf0\x9f\x98\x80\x80": 5, "é\x80": 3, "\xc3a": 2, "\xe4\xe4": 1,
		} {
			c.equal(fmt.Sprintf("whole characters of %q", text), wholeCharacters([]byte(text)), want)
		}
	})
}

// chatModel is a recorded model with a tokenizer of 261 tokens, and rows for them.
func chatModel(c *check) *Model {
	m := tiny(c, "qwen3-tiny")
	tok, err := parseTokenizer([]byte(smallTokenizer(`"content":"<x>"`, `"content":"<|im_end|>"`)))
	c.must(err)
	for _, w := range []*Matrix{&m.Embed, &m.Head} {
		w.Data = slices.Concat(w.Data, w.Data, w.Data)[:len(w.Data)/97*261]
		w.Rows = 261
	}
	m.Tokenizer, m.Config.Vocab, m.Config.MaxPositions = tok, 261, 400
	return m
}

// TestChat looks at what Generate makes of its ids in text, and Chat of messages.
func TestChat(t *testing.T) {
	golden(t, "Model.Chat", func(c *check) {
		m, ctx := chatModel(c), context.Background()
		off := false
		messages := []Message{{Role: "user", Content: "Hé?"}}
		for _, thinking := range []*bool{nil, &off} {
			want, err := m.Tokenizer.EncodeChat(TemplateQwen3, messages, RenderOptions{AddGenerationPrompt: true, Thinking: thinking})
			c.must(err)
			ids, err := m.ChatIDs(messages, Options{Thinking: thinking})
			c.must(err)
			c.equal("ids of a conversation", ids, want)
			// Drawn ids are any bytes at all; the texts, joined, are what they decode to.
			o := Options{MaxTokens: 60, Thinking: thinking, Sampling: Sampling{Temperature: 5, Seed: 3}}
			direct, err := collect(m.Generate(ctx, want, o))
			c.must(err)
			tokens, err := collect(m.Chat(ctx, messages, o))
			c.must(err)
			c.equal("Chat is Generate of these ids", tokens, direct)
			text := ""
			var plain []int
			for _, t := range tokens {
				if text += t.Text; !m.Tokenizer.Special(t.ID) {
					plain = append(plain, t.ID)
				}
			}
			c.equal("the texts, joined", text, m.Tokenizer.DecodeText(plain))
			if len(tokens) != 60 || !strings.Contains(text, "\ufffd") {
				c.fail("%d tokens without half a character: %q", len(tokens), text)
			}
			// A stop id has no text of its own, and what was left before it comes with it.
			for n, t := range tokens {
				if n > 0 && t.Text != "" && tokens[n-1].Text == "" && slices.Index(idsOf(tokens), t.ID) == n {
					m.Config.StopIDs = []int{t.ID}
					stopped, err := collect(m.Generate(ctx, want, o))
					c.must(err)
					text := ""
					for _, t := range stopped {
						text += t.Text
					}
					c.equal("up to a stop id", []any{len(stopped), stopped[n].Finish, text}, []any{n + 1, "stop", m.Tokenizer.DecodeText(idsOf(stopped[:n]))})
					m.Config.StopIDs = nil
					break
				}
			}
		}
		_, err := collect(m.Chat(ctx, nil, Options{}))
		c.equal("no messages", fmt.Sprint(err), "qwen: found no messages, expected at least one")
		for range m.Chat(ctx, messages, Options{}) { // the consumer has enough
			break
		}
		m.Tokenizer = nil
		_, err = collect(m.Chat(ctx, messages, Options{}))
		c.equal("no tokenizer", fmt.Sprint(err), "qwen: this model has no tokenizer.json, expected one for Chat")
	})
}

// TestVariants holds whole models against transformers: every way in which a
// checkpoint may be written, the logits at every position and 24 greedy ids.
func TestVariants(t *testing.T) {
	entries, err := os.ReadDir("testdata/variants")
	if err != nil || len(entries) < 10 {
		t.Fatalf("found %d variants (%v), expected at least 10", len(entries), err)
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			golden(t, "Load", func(c *check) { variant(c, e.Name()) })
		})
	}
}

func variant(c *check, name string) {
	m, r := tiny(c, "variants/"+name), read(c, "testdata/variants/"+name+"/golden.safetensors")
	for _, n := range []string{"0", "1", "2"} {
		prompt, want := r.ids("prompt."+n), r.numbers("logits."+n)
		var logits []float32
		c.must(m.Trace(prompt, m.NewCache(), func(step string, _ []int, x []float32) {
			if step == "lm_head" {
				logits = slices.Clone(x)
			}
		}))
		within(c, "prompt "+n, logits, want, times(10, wiring(want)), m.Config.Vocab)
		tokens, err := collect(m.Generate(context.Background(), prompt, Options{MaxTokens: 24, IgnoreStop: true}))
		c.must(err)
		c.equal("greedy ids", idsOf(tokens), r.ids("greedy."+n))
	}
}
