// Package tiny is a very small Qwen3 chat model, trained for this repository and built into the program.
// It answers questions about package qwen and about how a transformer works.
//
// FS is its checkpoint folder, for qwen.LoadFS. README.md says how it was made.
package tiny

import (
	"embed"
	"io/fs"
)

//go:embed model/config.json model/generation_config.json model/model.safetensors model/tokenizer.json model/tokenizer_config.json
var files embed.FS

// FS holds the model as Hugging Face lays it out: config.json, generation_config.json, model.safetensors,
// tokenizer.json and tokenizer_config.json at its root.
var FS = folder()

func folder() fs.FS {
	sub, err := fs.Sub(files, "model")
	if err != nil {
		panic(err) // the name is a constant: it cannot be invalid
	}
	return sub
}
