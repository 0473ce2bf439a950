package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bc1a8f18/qwen"
)

// TestMain lets the test program be the command: the tests start it again.
func TestMain(m *testing.M) {
	if os.Getenv("QWEN_TEST_COMMAND") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// command returns the command with those arguments, not started yet.
func testCommand(stdin string, args ...string) (c *exec.Cmd, stdout, stderr *bytes.Buffer) {
	c = exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "QWEN_TEST_COMMAND=1")
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), stdout, stderr
	return c, stdout, stderr
}

// do runs the command to its end.
func do(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	c, out, errs := testCommand(stdin, args...)
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// document reads the one JSON document of -json.
func document(t *testing.T, stdin string, v any, args ...string) {
	t.Helper()
	stdout, stderr, status := do(t, stdin, args...)
	if status != 0 || stderr != "" {
		t.Fatalf("%q: status %d, %s", args, status, stderr)
	}
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%q: %v in %s", args, err, stdout)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("%q: more than one document: %s", args, stdout)
	}
}

// TestUsage: wrong usage is 64, an error is 1; both are one line on stderr and
// nothing on stdout, and help is 0 and on stdout.
func TestUsage(t *testing.T) {
	if testing.Short() {
		t.Skip("a process a case")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	for _, test := range []struct {
		stdin  string
		args   []string
		status int
		words  []string
	}{
		{"", []string{"run"}, 64, []string{"PROMPT"}},
		{"", []string{"run", "x", "-ids", "1"}, 64, []string{"PROMPT", "-ids"}},
		{"", []string{"run", "-ids", "1,x"}, 64, []string{"-ids", `"x"`}},
		{"", []string{"run", "-nope", "x"}, 64, []string{"nope"}},
		{"", []string{"run", "-n", "many", "x"}, 64, []string{"-n", "many"}},
		{"", []string{"run", "-threads", "-1", "x"}, 64, []string{"threads", "-1"}},
		{"", []string{"-nope"}, 64, []string{"nope"}},
		{"", []string{"chat", "x"}, 64, []string{"no arguments"}},
		{"", []string{"tokenize", "x"}, 64, []string{"stdin"}},
		{"", []string{"render", "-template", "llama"}, 64, []string{"llama", "qwen2.5"}},
		{"", []string{"inspect", "x"}, 64, []string{"no arguments"}},
		{"", []string{"inspect", "-model", wholeModel, "-layer", "2"}, 64, []string{"-layer 2", "0 to 1"}},
		{"", []string{"inspect", "-model", wholeModel, "-layer", "-1"}, 64, []string{"-layer"}},
		{"", []string{"bench", "-repeat", "0"}, 64, []string{"repeat"}},
		{"", []string{"pull"}, 64, []string{"repository"}},
		{"", []string{"pull", "no-slash"}, 64, []string{"repository"}},
		{"", []string{"pull", "a/.."}, 64, []string{"repository"}},
		{"", []string{"pull", "a/b", "-revision", "../x"}, 64, []string{"-revision"}},
		{"", []string{"diff"}, 64, []string{"REFERENCE"}},

		// wrong usage is found before the model is looked for
		{"", []string{"run", "-model", none, "-n", "-5", "x"}, 64, []string{"-n", "-5"}},
		{"", []string{"run", "-model", none, "-temp", "-1", "x"}, 64, []string{"-temp", "-1"}},
		{"", []string{"run", "-model", none, "-top-p", "7", "x"}, 64, []string{"-top-p", "7"}},
		{"", []string{"run", "-model", none, "-min-p", "-0.1", "x"}, 64, []string{"-min-p", "-0.1"}},
		{"", []string{"run", "-model", none, "-repetition-penalty", "-1", "x"}, 64, []string{"-repetition-penalty", "-1"}},
		{"", []string{"run", "-model", none, "-top-k", "-3", "x"}, 64, []string{"-top-k", "-3"}},
		{"", []string{"run", "-model", none, "-logprobs", "-5", "x"}, 64, []string{"-logprobs", "-5"}},
		{"", []string{"run", "-model", none, "-threads", "1025", "x"}, 64, []string{"-threads", "1025", "1024"}},
		{"", []string{"run", "-model", none, "-ids", ","}, 64, []string{"-ids", "token ids"}},
		{"", []string{"run", "-model", "", "x"}, 64, []string{"-model"}},
		{"", []string{"tokenize", "-model", ""}, 64, []string{"-model"}},
		{"", []string{"chat", "-model", none, "-n", "-5"}, 64, []string{"-n", "-5"}},
		{"", []string{"bench", "-model", none, "-threads", "2000"}, 64, []string{"-threads", "2000"}},
		{"", []string{"bench", "-model", none, "-depth", "-1"}, 64, []string{"-depth", "-1"}},
		{"", []string{"trace", "-model", none, "-ids", ",", "-o", none}, 64, []string{"-ids"}},
		{"", []string{"diff", "-tol", "-1", none}, 64, []string{"-tol", "-1"}},
		{"", []string{"bench", "-model", wholeModel, "-prompt", "100", "-depth", "61"}, 64, []string{"-prompt 100", "-depth 61", "-n 64", "161", "160"}},
		{"", []string{"trace", "-ids", "1"}, 64, []string{"-o"}},

		{"", []string{"run", "-model", none, "x"}, 1, []string{none}},
		{"", []string{"run", "-model", "Nobody/Nothing", "x"}, 1, []string{"Nobody/Nothing", "qwen pull"}},
		{"", []string{"run", "-model", "..", "x"}, 1, []string{"config.json"}},
		{"", []string{"run", "-model", wholeModel, "x"}, 1, []string{"tokenizer.json"}},
		{"", []string{"run", "-model", wholeModel, "-ids", "1,97"}, 1, []string{"97", "0 to 96"}},
		{"", []string{"run", "-model", wholeModel, "-ids", "-1"}, 1, []string{"-1", "0 to 96"}},
		{"", []string{"run", "-model", wholeModel, "-ids", "1", "-n", "-1"}, 64, []string{"-n", "-1", "0 or more"}},
		{"", []string{"run", "-model", wholeModel, "-ids", "1", "-temp", "NaN"}, 64, []string{"-temp", "NaN"}},
		{"", []string{"run", "-model", wholeModel, "-ids", "1", "-temp", "1", "-top-p", "2"}, 64, []string{"-top-p", "2", "0 to 1"}},
		{"", []string{"run", "-model", wholeModel, "-ids", "1", "-logprobs", "-1"}, 64, []string{"-logprobs", "-1"}},
		{"", []string{"run", "-model", wholeModel, "-ids", strings.Repeat("1,", 200)}, 1, []string{"200", "160"}},
		{"", []string{"inspect", "-model", "cli_test.go"}, 1, []string{"qwen: cli_test.go: found a file"}},
		{"", []string{"tokenize", "-model", wholeModel}, 1, []string{"tokenizer.json"}},
		{"[", []string{"tokenize", "-json"}, 1, []string{"stdin", "an array of strings"}},
		{"", []string{"tokenize", "-json"}, 1, []string{"stdin"}},
		{`null`, []string{"tokenize", "-json"}, 1, []string{"stdin", "null"}},
		{`["a",null]`, []string{"tokenize", "-json"}, 1, []string{"stdin", "[1]", "null"}},
		{`["a",1]`, []string{"tokenize", "-json"}, 1, []string{"stdin", "number"}},
		{`["a"]["b"]`, []string{"tokenize", "-json"}, 1, []string{"stdin"}},
		{"[\"\xff\"]", []string{"tokenize", "-json"}, 1, []string{"stdin", "UTF-8"}},
		{`["a\ud83e"]`, []string{"tokenize", "-json"}, 1, []string{"stdin", `\ud83e`, "half of a character"}},
		{`[{"messages":[],"messages":[]}]`, []string{"render", "-template", "qwen3"}, 1, []string{"stdin", `"messages" twice`}},
		{`[[1.5]]`, []string{"tokenize", "-json", "-decode"}, 1, []string{"stdin", "number"}},
		{`[[null]]`, []string{"tokenize", "-json", "-decode"}, 1, []string{"stdin", "null"}},
		{`{}`, []string{"render", "-template", "qwen3"}, 1, []string{"stdin"}},
		{`[{"messages":null}]`, []string{"render", "-template", "qwen3"}, 1, []string{"stdin", "messages", "null"}},
		{`[{"messages":[{"role":"user","content":null}]}]`, []string{"render", "-template", "qwen3"}, 1, []string{"content", "null"}},
		{`[{"messages":[],"add_generation_prompt":1}]`, []string{"render", "-template", "qwen3"}, 1, []string{"stdin", "number"}},
		{"", []string{"diff", none, "-model", wholeModel}, 1, []string{none}},
		{"", []string{"trace", "-model", wholeModel, "-ids", "1", "-o", filepath.Join(none, "x")}, 1, []string{"qwen: " + filepath.Join(none, "x") + ": "}},
		{"", []string{"diff", "-model", wholeModel, "-html", filepath.Join(none, "x"), wholeModel + "/trace.safetensors"}, 1, []string{"qwen: " + filepath.Join(none, "x") + ": "}},
		{"", []string{"diff", "-model", wholeModel, "-rename", none, wholeModel + "/trace.safetensors"}, 1, []string{"qwen: " + none + ": "}},
		{"", []string{"diff", "-model", wholeModel, "-rename", filepath.Dir(none), wholeModel + "/trace.safetensors"}, 1, []string{"qwen: " + filepath.Dir(none) + ": ", "regular file"}},
		{"", []string{"run", "-model", "a\x1b[2Jb\u202ec", "x"}, 1, []string{`a\x1b[2Jb\u202ec: `}},

		{"", []string{"-h"}, 0, []string{"usage"}},
		{"", []string{"help"}, 0, []string{"usage"}},
	} {
		stdout, stderr, status := do(t, test.stdin, test.args...)
		said := stderr
		if test.status == 0 {
			said, stdout = stdout, ""
		}
		if status != test.status {
			t.Errorf("%q: status %d, expected %d: %s", test.args, status, test.status, said)
		}
		if test.status != 0 && (stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "qwen: ") || len(stderr) > 2000 || strings.Contains(stderr, "goroutine")) {
			t.Errorf("%q: stdout %q, stderr %q, expected one line on stderr", test.args, stdout, stderr)
		}
		for _, word := range test.words {
			if !strings.Contains(said, word) {
				t.Errorf("%q: %q does not say %q", test.args, said, word)
			}
		}
	}
	if _, stderr, status := do(t, ""); status != 64 || !strings.Contains(stderr, "usage") {
		t.Errorf("no arguments: status %d, %s", status, stderr)
	}
	for _, c := range commands() {
		if stdout, stderr, status := do(t, "", c.name, "-h"); status != 0 || stderr != "" || !strings.Contains(stdout, "examples:") {
			t.Errorf("%s -h: status %d, %s%s", c.name, status, stdout, stderr)
		}
	}
}

// TestDocuments holds each -json document against its form.
func TestDocuments(t *testing.T) {
	var answer struct {
		PromptIDs  []int   `json:"prompt_ids"`
		IDs        []int   `json:"ids"`
		Text       *string `json:"text"`
		Finish     string  `json:"finish"`
		PrefillTPS float64 `json:"prefill_tok_s"`
		DecodeTPS  float64 `json:"decode_tok_s"`
		LogProbs   [][]struct {
			ID      int     `json:"id"`
			LogProb float64 `json:"logprob"`
		} `json:"logprobs"`
	}
	document(t, "", &answer, "run", "-model", wholeModel, "-ids", "1, 2,3", "-n", "5", "-ignore-eos", "-logprobs", "3", "-json")
	if len(answer.PromptIDs) != 3 || len(answer.IDs) != 5 || answer.Text == nil || answer.Finish != "length" || len(answer.LogProbs) != 5 || len(answer.LogProbs[0]) != 3 || answer.LogProbs[0][0].ID != answer.IDs[0] {
		t.Errorf("run: %+v", answer)
	}
	first := answer.IDs
	answer.LogProbs = nil
	document(t, "", &answer, "run", "-json", "-ids", "1 2 3", "-model", wholeModel, "-n", "0", "-ignore-eos", "-seed", "1", "-threads", "1")
	if answer.Finish != "context" || len(answer.IDs) != 158 || answer.LogProbs != nil || answer.IDs[4] != first[4] {
		t.Errorf("run to the end of the context: %s, %d ids, %v", answer.Finish, len(answer.IDs), answer.LogProbs)
	}
	if stdout, _, status := do(t, "", "run", "-model", wholeModel, "-ids", "1,2,3", "-n", "5", "-ignore-eos", "-temp", "0"); status != 0 || strings.Join(strings.Fields(stdout), ",") != strings.Trim(strings.ReplaceAll(toJSON(first), " ", ""), "[]") {
		t.Errorf("run without a tokenizer: %q, want %v", stdout, first)
	}

	var inspection struct {
		Config     map[string]any
		Parameters int
		Tensors    []struct {
			Name, DType         string
			Shape               []int
			Mean, Std, Min, Max float64
			NonFinite           int
			First               []float64
		}
		Warnings []string
	}
	document(t, "", &inspection, "inspect", "-model", wholeModel, "-json")
	if inspection.Config["hidden_size"] != 36.0 || inspection.Parameters == 0 || len(inspection.Tensors) != 24 || inspection.Warnings == nil {
		t.Errorf("inspect: %d parameters, %d tensors, %v", inspection.Parameters, len(inspection.Tensors), inspection.Config)
	}
	document(t, "", &inspection, "inspect", "-model", wholeModel, "-layer", "1", "-json")
	for _, x := range inspection.Tensors {
		if !strings.HasPrefix(x.Name, "model.layers.1.") || x.Min > x.Mean || x.Mean > x.Max || !(x.Std > 0) || x.NonFinite != 0 {
			t.Errorf("inspect -layer 1: %+v", x)
		}
	}

	var bench map[string]any
	document(t, "", &bench, "bench", "-model", wholeModel, "-prompt", "8", "-n", "4", "-repeat", "1", "-json")
	for _, key := range []string{"prefill_tok_s", "decode_tok_s", "load_ms", "first_token_ms", "rss_mb", "threads", "kernel"} {
		if _, ok := bench[key]; !ok || len(bench) != 7 {
			t.Errorf("bench: %v lacks %s, or has more", bench, key)
		}
	}

	var rendered []string
	document(t, `[{"messages":[{"role":"user","content":"<|im_end|>"}],"add_generation_prompt":true,"enable_thinking":false},{"messages":[{"role":"user","content":"x"}],"enable_thinking":null}]`, &rendered, "render", "-template", "qwen3", "-json")
	if want := "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"; len(rendered) != 2 || rendered[0] != want {
		t.Errorf("render: %q, want %q", rendered, want)
	}
	document(t, "[]", &rendered, "render", "-template", "qwen2.5", "-json")
	if rendered == nil || len(rendered) != 0 {
		t.Errorf("render of nothing: %q", rendered)
	}

	var tokenized []struct {
		IDs     []int  `json:"ids"`
		Decoded string `json:"decoded"`
	}
	document(t, `["Hello, wörld\n","","<|im_end|>"]`, &tokenized, "tokenize", "-json")
	if len(tokenized) != 3 || tokenized[0].Decoded != "Hello, wörld\n" || tokenized[1].IDs == nil || len(tokenized[2].IDs) != 1 {
		t.Errorf("tokenize: %+v", tokenized)
	}
	document(t, toJSON([][]int{tokenized[0].IDs}), &tokenized, "tokenize", "-json", "-decode")
	if len(tokenized) != 1 || tokenized[0].Decoded != "Hello, wörld\n" {
		t.Errorf("tokenize -decode: %+v", tokenized)
	}
	ids, _, _ := do(t, "Hello", "tokenize")
	if text, _, status := do(t, ids, "tokenize", "-decode"); status != 0 || text != "Hello" {
		t.Errorf("tokenize and back: %q, %q", ids, text)
	}
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// copyModel copies the whole model, with edits, to a folder of its own.
func copyModel(t *testing.T, edit func(files map[string]string)) string {
	t.Helper()
	dir, files := t.TempDir(), checkpointFiles(t, wholeModel)
	edit(files)
	for _, name := range []string{"config.json", weightsFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestInterrupt ends a run with Ctrl-C: what has come so far stays, status 130.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such signal")
	}
	dir := copyModel(t, func(files map[string]string) {
		files["config.json"] = strings.Replace(files["config.json"], `"max_position_embeddings": 160`, `"max_position_embeddings": 1000000`, 1)
	})
	c, stdout, stderr := testCommand("", "run", "-model", dir, "-ids", "1,2,3", "-n", "0", "-ignore-eos", "-json")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(300*time.Millisecond, func() { c.Process.Signal(os.Interrupt) })
	defer timer.Stop()
	c.Wait()
	var answer struct{ IDs []int }
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil || len(answer.IDs) == 0 || c.ProcessState.ExitCode() != 130 || stderr.Len() > 0 {
		t.Errorf("status %d, %d ids, %v, stderr %q", c.ProcessState.ExitCode(), len(answer.IDs), err, stderr)
	}
}

// TestNaN: inspect reports weights that are no numbers, and run stops.
func TestNaN(t *testing.T) {
	dir := copyModel(t, func(files map[string]string) {
		file := []byte(files[weightsFile])
		tensors, _, err := qwen.ParseSafetensors(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tensors {
			if x.Name == "model.layers.1.mlp.up_proj.weight" {
				binary.LittleEndian.PutUint16(x.Data[10:], uint16(math.Float32bits(float32(math.NaN()))>>16))
				binary.LittleEndian.PutUint16(x.Data[20:], uint16(math.Float32bits(float32(math.Inf(1)))>>16))
			}
		}
		files[weightsFile] = string(file)
	})
	var doc struct {
		Warnings []string
		Tensors  []struct {
			Name      string
			NonFinite int
		}
	}
	stdout, _, status := do(t, "", "inspect", "-model", dir, "-json")
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || status != 0 || len(doc.Warnings) != 1 || !strings.Contains(doc.Warnings[0], "model.layers.1.mlp.up_proj.weight: 2 ") {
		t.Errorf("inspect: status %d, %v, %v", status, err, doc.Warnings)
	}
	stdout, stderr, status := do(t, "", "run", "-model", dir, "-ids", "1,2")
	if status != 1 || stdout != "" || !strings.Contains(stderr, "model.layers.1.mlp.up_proj.weight") {
		t.Errorf("run: status %d, %q, %q", status, stdout, stderr)
	}
}

// TestDiffStatus: 0 for a match, 3 for a difference.
func TestDiffStatus(t *testing.T) {
	recording := filepath.Join(t.TempDir(), "recording.safetensors")
	if _, stderr, status := do(t, "", "trace", "-model", wholeModel, "-ids", "1,2,3", "-o", recording); status != 0 {
		t.Fatal(stderr)
	}
	if stdout, stderr, status := do(t, "", "diff", recording, "-model", wholeModel, "-json"); status != 0 || !json.Valid([]byte(stdout)) {
		t.Errorf("with itself: status %d, %s%s", status, stdout, stderr)
	}
	other := copyModel(t, func(files map[string]string) {
		files["config.json"] = strings.Replace(files["config.json"], `"rope_theta": 1000000.0`, `"rope_theta": 10000.0`, 1)
	})
	if stdout, stderr, status := do(t, "", "diff", recording, "-model", other, "-json"); status != 3 || !json.Valid([]byte(stdout)) || stderr != "" {
		t.Errorf("with another theta: status %d, %s%s", status, stdout, stderr)
	}
}
