package main

import (
	"strings"
	"testing"
)

// What encoding/json would let pass.
func TestCheckJSON(t *testing.T) {
	for text, want := range map[string]string{
		`["\ud83e\udd9c\\ud83e","\u0041\\","\"\\\uD83E\uDD9C"]`: "",
		`{"a":{"a":[{"a":1},{"a":"a"}],"b":[]},"b":[[]],"A":0}`: "",
		`"\ud83e"`:                   `\ud83e`,
		`"\udd9c"`:                   `\udd9c`,
		`"\ud83e\ud83e\udd9c"`:       `\ud83e`,
		`"\udd9c\ud83e"`:             `\udd9c`,
		`"\\\uDd9c"`:                 `\uDd9c`,
		`"\ud83e\n"`:                 `\ud83e`,
		`{"\ud83e":1}`:               `\ud83e`,
		`{"a":1,"b":2,"a":3}`:        `"a" twice`,
		`[0,{"a":[{}],"\u0061":{}}]`: `"a" twice`,
		`{"a":{"b":1,"b":1}}`:        `"b" twice`,
		"\"\xff\"":                   "UTF-8",
		`{"a":1`:                     "end of JSON",
		`1 2`:                        "after top-level value",
		strings.Repeat("[", 20000):   "depth",
	} {
		if got := checkJSON([]byte(text)); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%.60s: %q, expected %q", text, got, want)
		}
	}
}
