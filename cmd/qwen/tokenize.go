package main

import (
	"flag"
	"fmt"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// tokenizerFlag defines -model for the commands that need no weights.
func tokenizerFlag(f *flag.FlagSet) (tokenizer func() (*qwen.Tokenizer, error), template func() (qwen.Template, error)) {
	name := textFlag(f, "model", "a folder or a repository name", "checkpoint or tokenizer `folder`, or repository name (default: the embedded model)")
	tokenizer = func() (*qwen.Tokenizer, error) {
		if *name == "" {
			return qwen.LoadTokenizerFS(tiny.FS)
		}
		dir, err := findModel(*name)
		if err != nil {
			return nil, err
		}
		return qwen.LoadTokenizer(dir)
	}
	template = func() (qwen.Template, error) {
		if *name == "" {
			return qwen.LoadTemplateFS(tiny.FS)
		}
		dir, err := findModel(*name)
		if err != nil {
			return "", err
		}
		return qwen.LoadTemplate(dir)
	}
	return tokenizer, template
}

type tokenized struct {
	IDs     []int  `json:"ids"`
	Decoded string `json:"decoded"`
}

func setupTokenize(f *flag.FlagSet) func([]string) error {
	tokenizer, _ := tokenizerFlag(f)
	decode := f.Bool("decode", false, "ids in, text out")
	asJSON := f.Bool("json", false, "stdin is a JSON array of strings (with -decode: of arrays of ids), stdout one document")
	return func(args []string) error {
		if len(args) > 0 {
			return usageError("expected no arguments: the text comes on stdin")
		}
		t, err := tokenizer()
		if err != nil {
			return err
		}
		input, err := readStdin()
		if err != nil {
			return err
		}
		if *asJSON {
			return tokenizeJSON(t, input, *decode)
		}
		if *decode {
			ids, err := parseIDs(string(input))
			if err != nil {
				return fmt.Errorf("stdin: %w", err)
			}
			fmt.Fprint(stdout, t.DecodeText(ids))
			return nil
		}
		ids, err := t.Encode(string(input))
		if err != nil {
			return err
		}
		printIDs(ids)
		return nil
	}
}

// tokenizeJSON encodes every text of a JSON array, or decodes every list of ids.
func tokenizeJSON(t *qwen.Tokenizer, input []byte, decode bool) error {
	out := []tokenized{}
	if decode {
		var lists [][]int
		if err := readInput(input, &lists, "an array of arrays of ids"); err != nil {
			return err
		}
		for _, ids := range lists {
			out = append(out, tokenized{append([]int{}, ids...), t.DecodeText(ids)})
		}
		return printJSON(out)
	}
	var texts []string
	if err := readInput(input, &texts, "an array of strings"); err != nil {
		return err
	}
	for _, text := range texts {
		ids, err := t.Encode(text)
		if err != nil {
			return err
		}
		out = append(out, tokenized{append([]int{}, ids...), t.DecodeText(ids)})
	}
	return printJSON(out)
}

type conversation struct {
	Messages            []qwen.Message `json:"messages"`
	AddGenerationPrompt bool           `json:"add_generation_prompt"`
	EnableThinking      *bool          `json:"enable_thinking"`
}

func setupRender(f *flag.FlagSet) func([]string) error {
	_, template := tokenizerFlag(f)
	name := f.String("template", "", "qwen2.5 or qwen3 (default: the model's own)")
	asJSON := f.Bool("json", false, "print a JSON array of strings")
	return func(args []string) error {
		if len(args) > 0 {
			return usageError("expected no arguments: the conversations come on stdin")
		}
		t := qwen.Template(*name)
		switch t {
		case "":
			var err error
			if t, err = template(); err != nil {
				return err
			}
		case qwen.TemplateQwen2, qwen.TemplateQwen25, qwen.TemplateQwen3:
		default:
			return usageError(fmt.Sprintf("-template %q, expected qwen2.5 or qwen3", *name))
		}
		input, err := readStdin()
		if err != nil {
			return err
		}
		var all []conversation
		if err := readInput(input, &all, "an array of conversations"); err != nil {
			return err
		}
		out := []string{}
		for i, c := range all {
			text, err := t.Render(c.Messages, qwen.RenderOptions{AddGenerationPrompt: c.AddGenerationPrompt, Thinking: c.EnableThinking})
			if err != nil {
				return fmt.Errorf("stdin: conversation %d: %w", i, err)
			}
			out = append(out, text)
		}
		if *asJSON {
			return printJSON(out)
		}
		for _, text := range out {
			fmt.Fprint(stdout, text)
		}
		return nil
	}
}
