package qwen

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

// readAny reads any document into plain Go values, so that a test can compare whole documents.
func readAny(r *jsonReader) any {
	switch r.kind() {
	case '{':
		m := map[string]any{}
		r.object(func(key string) { m[key] = readAny(r) })
		return m
	case '[':
		a := []any{}
		r.array(func(int) { a = append(a, readAny(r)) })
		return a
	case '"':
		return r.string()
	case '0':
		return r.float()
	case 't':
		return r.bool()
	}
	r.null()
	return nil
}

func TestJSONValues(t *testing.T) {
	defer answers(t, "jsonReader")()
	type object = map[string]any
	type array = []any
	for _, test := range []struct {
		text string
		want any
	}{
		{`{}`, object{}},
		{" \t\r\n[ ] \n", array{}},
		{`null`, nil},
		{`[true,false , null]`, array{true, false, nil}},
		{`{"a":{"b":[1,2.5,-3e2]},"A":"x"}`, object{"a": object{"b": array{1., 2.5, -300.}}, "A": "x"}},
		{`"a\"\\\/\b\f\n\r\tz"`, "a\"\\/\b\f\n\r\tz"},
		{`"\u0000\u00e9\u20AC\ud83d\uDE00"`, "\x00é€😀"},
		{`"\ud800\udc00\udbff\udfff"`, "\U00010000\U0010ffff"},
		{`"\ud7ff\ue000"`, "\ud7ff\ue000"}, // beside the surrogates
		{`"\u005cu0041"`, `\u0041`},
		{"\"é€😀\u2028\x7f\"", "é€😀\u2028\x7f"},
		{`[0,-0,0.0,1E+2,1e-2,123456789]`, array{0., math.Copysign(0, -1), 0., 100., 0.01, 123456789.}},
		{`{"":{"":[]}}`, object{"": object{"": array{}}}},
		{strings.Repeat("[", 64) + strings.Repeat("]", 64), nest(64)},
	} {
		var got any
		if err := readJSON([]byte(test.text), func(r *jsonReader) { got = readAny(r) }); err != nil {
			t.Errorf("%.60q: %v", test.text, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%.60q: got %v, want %v", test.text, got, test.want)
		}
		if err := readJSON([]byte(test.text), func(*jsonReader) {}); err != nil {
			t.Errorf("%.60q, skipped: %v", test.text, err)
		}
		// Cut anywhere, a document is an error (a cut number or white space at the end may still be whole).
		for n := range strings.TrimRight(test.text, " \n") {
			if err := readJSON([]byte(test.text[:n]), func(r *jsonReader) { readAny(r) }); err == nil {
				t.Errorf("%.60q cut to %d bytes is accepted", test.text, n)
			}
		}
	}
}

func nest(n int) any {
	a := []any{}
	for range n - 1 {
		a = []any{a}
	}
	return a
}

func TestJSONErrors(t *testing.T) {
	defer answers(t, "jsonReader")()
	for _, test := range []struct{ text, want string }{
		{``, `found the end of the file, expected a value`},
		{`{} x`, `found 'x' at byte 3, expected nothing after the document`},
		{`{}{}`, `found '{' at byte 2, expected nothing after the document`},
		{"\ufeff{}", `found '\ufeff' at byte 0, expected a value`},
		{`{"a":1,}`, `a: found '}' at byte 7, expected a key in quotes`},
		{`{"a" 1}`, `a: found '1' at byte 5, expected ':' after a key`},
		{`{"a":1 "b":2}`, `a: found '"' at byte 7, expected ',' or '}'`},
		{`{a:1}`, `found 'a' at byte 1, expected a key in quotes`},
		{`[1,]`, `[1]: found ']' at byte 3, expected a value`},
		{`[1 2]`, `[0]: found '2' at byte 3, expected ',' or ']'`},
		{`[1`, `[0]: found the end of the file, expected ',' or ']'`},
		{`{"a":{"b":1,"c":2,"b":3}}`, `a.b: found this key a second time, expected each key once`},
		{`{"a":1,"\u0061":2}`, `a: found this key a second time, expected each key once`},
		{`{"a:":[1,2,nul],"Az_09-":0}`, `"a:"[2]: found 'n' at byte 11, expected a value`},
		{`{"Az_09-":nul}`, `Az_09-: found 'n' at byte 10, expected a value`},
		{`{"model.norm":[{"x y":[1,2,nul]}]}`, `"model.norm"[0]."x y"[2]: found 'n' at byte 27, expected a value`},
		{`{"":tru}`, `"": found 't' at byte 4, expected a value`},
		{`[truth]`, `[0]: found 't' at byte 1, expected a value`},
		{`[01]`, `[0]: found '1' at byte 2, expected ',' or ']'`},
		{`[-]`, `[0]: found ']' at byte 2, expected a digit`},
		{`[1.]`, `[0]: found ']' at byte 3, expected a digit`},
		{`[.5]`, `[0]: found '.' at byte 1, expected a value`},
		{`[+1]`, `[0]: found '+' at byte 1, expected a value`},
		{`[1e+]`, `[0]: found ']' at byte 4, expected a digit`},
		{`[1e999]`, `[0]: found 1e999, expected a number of at most 1.8e308`},
		{`[NaN]`, `[0]: found 'N' at byte 1, expected a value`},
		{`[Infinity]`, `[0]: found 'I' at byte 1, expected a value`},
		{`["\ud83d"]`, `[0]: found \ud83d, half a surrogate pair, expected \ud800–\udbff followed by \udc00–\udfff`},
		{`["\ud83dx"]`, `[0]: found \ud83d, half a surrogate pair, expected \ud800–\udbff followed by \udc00–\udfff`},
		{`["\ude00\ud83d"]`, `[0]: found \ude00, half a surrogate pair, expected \ud800–\udbff followed by \udc00–\udfff`},
		{`["\ud83d\u0041"]`, `[0]: found \ud83d, half a surrogate pair, expected \ud800–\udbff followed by \udc00–\udfff`},
		{`["\u00g0"]`, `[0]: found 'u' at byte 3, expected four hexadecimal digits after \u`},
		{`["\u+123"]`, `[0]: found 'u' at byte 3, expected four hexadecimal digits after \u`},
		{`["\x41"]`, `[0]: found 'x' at byte 3, expected one of " \ / b f n r t u after a backslash`},
		{"[\"a\nb\"]", `[0]: found '\n' at byte 3, expected control characters written as escapes`},
		{"[\"\\n\x01\"]", `[0]: found '\x01' at byte 4, expected control characters written as escapes`},
		{`["abc`, `[0]: found the end of the file, expected '"' at the end of a string`},
		{`["\u0041`, `[0]: found the end of the file, expected '"' at the end of a string`},
		{`["ab\n`, `[0]: found the end of the file, expected '"' at the end of a string`},
		{"[\"a\xff\"]", `found byte 0xff at offset 3, expected valid UTF-8`},
		{"[\"\xed\xa0\x80\"]", `found byte 0xed at offset 2, expected valid UTF-8`},
		{"[\"\xc0\x80\"]", `found byte 0xc0 at offset 2, expected valid UTF-8`},
		{"{} \xe2", `found byte 0xe2 at offset 3, expected valid UTF-8`},
		{strings.Repeat("[", 65), strings.Repeat("[0]", 64) + `: found deeper nesting, expected at most 64 levels`},
	} {
		for _, mode := range []string{"read", "skip"} {
			err := readJSON([]byte(test.text), func(r *jsonReader) {
				if mode == "read" {
					readAny(r)
				}
			})
			if err == nil || err.Error() != test.want {
				t.Errorf("%s %.40q:\n got %v\nwant %s", mode, test.text, err, test.want)
			}
		}
	}
}

func TestJSONTypes(t *testing.T) {
	defer answers(t, "jsonReader")()
	reads := map[string]func(r *jsonReader) any{
		"int": func(r *jsonReader) any { return r.int() }, "float": func(r *jsonReader) any { return r.float() },
		"string": func(r *jsonReader) any { return r.string() }, "bool": func(r *jsonReader) any { return r.bool() },
		"null":   func(r *jsonReader) any { return r.null() },
		"object": func(r *jsonReader) any { r.object(func(string) {}); return "object" },
		"array":  func(r *jsonReader) any { r.array(func(int) {}); return "array" },
	}
	for _, test := range []struct{ read, text, want string }{
		{"int", `9223372036854775807`, "9223372036854775807"},
		{"int", `-9223372036854775808`, "-9223372036854775808"},
		{"int", `0`, "0"},
		{"int", `9223372036854775808`, "x: found 9223372036854775808, expected an integer of at most 64 bits"},
		{"int", `1.0`, "x: found 1.0, expected an integer"},
		{"int", `1e3`, "x: found 1e3, expected an integer"},
		{"int", `-0`, "x: found -0, expected an integer"},
		{"int", `"1"`, "x: found a string, expected an integer"},
		{"int", `true`, "x: found true or false, expected an integer"},
		{"int", `null`, "x: found null, expected an integer"},
		{"float", `2`, "2"},
		{"float", `1e-400`, "0"},
		{"float", `[]`, "x: found an array, expected a number"},
		{"string", `{}`, "x: found an object, expected a string"},
		{"string", `7`, "x: found a number, expected a string"},
		{"bool", `false`, "false"},
		{"bool", `0`, "x: found a number, expected true or false"},
		{"null", `null`, "true"},
		{"null", `[null, {"a": 0}]`, "false"},
		{"object", `[]`, "x: found an array, expected an object"},
		{"object", `null`, "x: found null, expected an object"},
		{"array", `{}`, "x: found an object, expected an array"},
	} {
		var got any
		err := readJSON([]byte(`{"x": `+test.text+` }`), func(r *jsonReader) {
			r.object(func(string) { got = reads[test.read](r) })
		})
		if err != nil {
			got = err
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%s of %s: got %v, want %s", test.read, test.text, got, test.want)
		}
	}
}

// A second key is found among few keys (a list) and among many (a set); messages stay short whatever they quote.
func TestJSONManyKeys(t *testing.T) {
	defer answers(t, "jsonReader")()
	for n := 1; n < 100; n++ {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `"key %d": 0, `, i)
		}
		for i := range n {
			data := fmt.Sprintf(`{%s"key %d": 0}`, text.String(), i)
			want := fmt.Sprintf(`"key %d": found this key a second time, expected each key once`, i)
			if err := readJSON([]byte(data), func(*jsonReader) {}); err == nil || err.Error() != want {
				t.Fatalf("%d keys, key %d twice: got %v", n, i, err)
			}
		}
		if err := readJSON([]byte(`{`+text.String()+`"last": 0}`), func(*jsonReader) {}); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat(`{"`+strings.Repeat("key é", 1000)+`":`, 40)
	if err := readJSON([]byte(long), func(*jsonReader) {}); err == nil || len(err.Error()) > 500 {
		t.Errorf("message of %d bytes", len(err.Error()))
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, -2.5e3, "x\u00e9\ud83d\ude00", true, false, null], "b": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got any
		err := readJSON(data, func(r *jsonReader) { got = readAny(r) })
		skipped := readJSON(data, func(*jsonReader) {})
		if (err == nil) != (skipped == nil) {
			t.Fatalf("reading: %v; skipping: %v", err, skipped)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Fatalf("message of %d bytes", len(err.Error()))
		}
		_ = got
	})
}
