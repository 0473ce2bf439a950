package main

import (
	"strings"
	"testing"

	"github.com/bc1a8f18/qwen"
)

// FuzzInput reads what comes on stdin as JSON.
func FuzzInput(f *testing.F) {
	f.Add([]byte(`["a","<|im_end|>"]`))
	f.Add([]byte(`[[1,2],[]]`))
	f.Add([]byte(`[{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"<think>y</think>z","reasoning_content":null}],"add_generation_prompt":true,"enable_thinking":null}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var texts []string
		var ids [][]int
		var all []conversation
		for _, v := range []any{&texts, &ids, &all} {
			if err := readInput(data, v, "something"); err != nil {
				if s := oneLine(err.Error()); !strings.HasPrefix(s, "stdin: ") || len(s) > 2000 {
					t.Fatalf("message %q", s)
				}
			}
		}
		for _, c := range all {
			for _, template := range []qwen.Template{qwen.TemplateQwen2, qwen.TemplateQwen25, qwen.TemplateQwen3} {
				text, err := template.Render(c.Messages, qwen.RenderOptions{AddGenerationPrompt: c.AddGenerationPrompt, Thinking: c.EnableThinking})
				if err == nil && c.AddGenerationPrompt && !strings.Contains(text, "<|im_start|>assistant\n") {
					t.Fatalf("%s: %q has no turn for the answer", template, text)
				}
			}
		}
		if _, err := parseIDs(string(data)); err != nil && len(err.Error()) > 2000+4*len(data) {
			t.Fatal(err)
		}
	})
}
