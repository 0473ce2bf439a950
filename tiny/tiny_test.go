package tiny_test

import (
	"context"
	"encoding/json"
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

// TestTextsNameFiles checks that every source file the answers name is there.
func TestTextsNameFiles(t *testing.T) {
	texts, err := filepath.Glob("texts/*.txt")
	if err != nil || len(texts) == 0 {
		t.Fatalf("texts: %v, %v", texts, err)
	}
	source := regexp.MustCompile(`\b(?:[a-z]+/)*[a-z0-9_]+\.(?:go|s|py)\b`)
	named := map[string]bool{}
	for _, file := range texts {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			answer, ok := strings.CutPrefix(line, "= ")
			if !ok {
				continue
			}
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
	}
	t.Logf("%d files named in the answers", len(named))
}
