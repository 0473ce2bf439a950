package qwen

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestRealWeights asks a real, trained model a question. testdata/real_model.py
// makes the folder, QWEN_MODEL names it.
func TestRealWeights(t *testing.T) {
	dir := os.Getenv("QWEN_MODEL")
	if dir == "" {
		t.Skip("QWEN_MODEL is not set: testdata/real_model.py makes the folder that it should name")
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	prompt, err := m.Tokenizer.Encode("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" +
		"<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	finish := ""
	for token, err := range m.Generate(context.Background(), prompt, Options{MaxTokens: 32}) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(token.Text)
		finish = token.Finish
	}
	if got, want := text.String(), "The capital of France is Paris."; got != want || finish != "stop" {
		t.Errorf("got %q, finish %q, want %q, finish \"stop\"", got, finish, want)
	}
}
