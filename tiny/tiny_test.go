package tiny_test

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// TestAnswers holds the engine to what transformers generates with the same
// folder, greedy, in float32: prompt ids, ids and text (testdata/answers.json,
// written by train.py).
func TestAnswers(t *testing.T) {
	m, err := qwen.LoadFS(tiny.FS)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	data, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var records []struct {
		Kind     string
		Messages []struct{ Role, Content string }
		Thinking *bool `json:"enable_thinking"`
		Prompt   []int `json:"prompt_ids"`
		IDs      []int
		Text     string
	}
	if err := json.Unmarshal(data, &records); err != nil {
		t.Fatal(err)
	}
	if len(records) < 20 {
		t.Fatalf("%d recorded answers, want at least 20", len(records))
	}
	for _, r := range records {
		var messages []qwen.Message
		for _, m := range r.Messages {
			messages = append(messages, qwen.Message{Role: m.Role, Content: m.Content})
		}
		question := messages[len(messages)-1].Content
		options := qwen.Options{MaxTokens: 128, Thinking: r.Thinking}
		prompt, err := m.ChatIDs(messages, options)
		if err != nil {
			t.Errorf("%s: %q: %v", r.Kind, question, err)
			continue
		}
		if !slices.Equal(prompt, r.Prompt) {
			t.Errorf("%s: %q: prompt ids %v, want %v", r.Kind, question, prompt, r.Prompt)
			continue
		}
		var ids []int
		var text strings.Builder
		for token, err := range m.Generate(context.Background(), prompt, options) {
			if err != nil {
				t.Fatalf("%s: %q: %v", r.Kind, question, err)
			}
			ids = append(ids, token.ID)
			text.WriteString(token.Text)
		}
		if !slices.Equal(ids, r.IDs) || text.String() != r.Text {
			t.Errorf("%s: %q: got %q %v, want %q %v", r.Kind, question, text.String(), ids, r.Text, r.IDs)
		}
	}
	t.Logf("%d answers equal to those of transformers", len(records))
}

// answers returns the answers of the texts, each with the file that it is in.
func answers(t *testing.T) map[string]string {
	t.Helper()
	texts, err := filepath.Glob("texts/*.txt")
	if err != nil || len(texts) == 0 {
		t.Fatalf("texts: %v, %v", texts, err)
	}
	all := map[string]string{}
	for _, file := range texts {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if answer, ok := strings.CutPrefix(line, "= "); ok {
				all[strings.TrimSpace(answer)] = file
			}
		}
	}
	return all
}

// TestTextsNameFiles checks that every source file the answers name is there.
func TestTextsNameFiles(t *testing.T) {
	source := regexp.MustCompile(`\b(?:[a-z]+/)*[a-z0-9_]+\.(?:go|s|py)\b`)
	named := map[string]bool{}
	for answer, file := range answers(t) {
		for _, name := range source.FindAllString(answer, -1) {
			named[name] = true
			found := false
			for _, folder := range []string{"..", ".", "../testdata"} {
				_, err := os.Stat(filepath.Join(folder, name))
				found = found || err == nil
			}
			if !found {
				t.Errorf("%s: there is no %s: %s", file, name, answer)
			}
		}
	}
	t.Logf("%d files named in the answers", len(named))
}

// TestTextsNameFunctions checks that every function, method, type and field the
// answers name is there, and in the file where "X is in y.go" says it is.
func TestTextsNameFunctions(t *testing.T) {
	declared := declarations(t)
	// Names from elsewhere that look like ours.
	foreign := []string{"PyTorch", "SwiGLU", "ReLU", "NaN", "YaRN", "LayerNorm", "ChatML", "MoE"}
	// Load(dir), qwen.Load, m.Chat(…), or a word with a capital inside, as LoadFS.
	name := regexp.MustCompile(`\b([A-Z]\w*)\(|\b(?:qwen|m|cache|token)\.([A-Z]\w*)|\b([A-Z][a-z]+[A-Z]\w*)\b`)
	place := regexp.MustCompile(`^(.*?) (?:is|are) in (\w+\.go)`)
	word := regexp.MustCompile(`\b[A-Z]\w+\b`)
	named, placed := map[string]bool{}, 0
	for answer, file := range answers(t) {
		for _, found := range name.FindAllStringSubmatch(answer, -1) {
			n := found[1] + found[2] + found[3]
			if slices.Contains(foreign, n) {
				continue
			}
			if named[n] = true; declared[n] == nil {
				t.Errorf("%s: there is no %s: %s", file, n, answer)
			}
		}
		for sentence := range strings.SplitSeq(answer, ". ") {
			says := place.FindStringSubmatch(sentence)
			if says == nil {
				continue
			}
			for _, n := range word.FindAllString(says[1], -1) {
				if declared[n] == nil {
					continue // an ordinary word
				}
				if placed++; !slices.Contains(declared[n], says[2]) {
					t.Errorf("%s: %s is in %v: %s", file, n, declared[n], answer)
				}
			}
		}
	}
	t.Logf("%d names, %d places", len(named), placed)
	if len(named) < 10 || placed < 10 {
		t.Errorf("found %d names and %d places in the answers, expected at least 10 of each: are they still found?", len(named), placed)
	}
}

// declarations returns the files in which package qwen declares each exported
// function, method, type, variable and field.
func declarations(t *testing.T) map[string][]string {
	t.Helper()
	sources, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string][]string{}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		add := func(names ...*ast.Ident) {
			for _, n := range names {
				declared[n.Name] = append(declared[n.Name], filepath.Base(source))
			}
		}
		for _, d := range tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				add(d.Name)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						add(spec.Names...)
					case *ast.TypeSpec:
						add(spec.Name)
						if s, ok := spec.Type.(*ast.StructType); ok {
							for _, field := range s.Fields.List {
								add(field.Names...)
							}
						}
					}
				}
			}
		}
	}
	return declared
}
