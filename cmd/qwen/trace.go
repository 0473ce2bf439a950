package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/bc1a8f18/qwen"
)

func setupTrace(f *flag.FlagSet) func([]string) error {
	load := modelFlag(f)
	idList := idsFlag(f)
	raw := f.Bool("raw", false, "PROMPT is the model's input as it is, without the chat template")
	out := f.String("o", "", "safetensors `file` to write")
	only := f.String("only", "*", "only the intermediates whose names match `glob`, such as 'model.layers.0.*'")
	return func(args []string) error {
		ids := *idList
		if (ids == nil) == (len(args) == 0) {
			return usageError("expected a PROMPT or -ids, and not both")
		}
		if *out == "" {
			return usageError("expected -o FILE")
		}
		if _, err := path.Match(*only, ""); err != nil {
			return usageError("-only: found " + *only + ", expected a pattern such as 'model.layers.0.*'")
		}
		m, err := load()
		if err != nil {
			return err
		}
		defer m.Close()
		if ids == nil {
			if ids, err = promptIDs(m, strings.Join(args, " "), "", *raw, qwen.Options{}); err != nil {
				return err
			}
		}
		done := waiting(func() string { return fmt.Sprintf("running %d tokens", len(ids)) })
		rec, err := m.Record(ids, func(name string) bool {
			match, _ := path.Match(*only, name)
			return match
		})
		done()
		if err != nil {
			return err
		}
		if len(rec.Tensors) == 0 {
			return errors.New("-only " + *only + ": no intermediate has such a name")
		}
		err = writeFile(*out, func(w io.Writer) error {
			return qwen.WriteSafetensors(w, rec.All(), map[string]string{"dtype": "float32", "engine": "qwen", "model_type": m.Config.ModelType})
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %d tokens, %d tensors\n", printable(*out), len(ids), len(rec.Tensors)+1)
		return nil
	}
}
