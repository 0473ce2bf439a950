package main

import (
	"flag"
	"fmt"
	"io"
	"math"

	"github.com/bc1a8f18/qwen"
)

func setupDiff(f *flag.FlagSet) func([]string) error {
	load := modelFlag(f)
	ours := textFlag(f, "ours", "a recording", "compare this `recording` with REFERENCE, instead of the model's own run; without -model nothing is computed")
	rename := textFlag(f, "rename", "a file", "`file` with a JSON object of regular expressions and the names that replace what they match")
	tolerance := floatFlag(f, "tol", math.MaxFloat32, "accept own errors up to this `share` of a tensor's largest number, and not only what rounding allows")
	layer := intFlag(f, "layer", 0, 0, most, "judge only layer `N`, on the reference's input (default: all)")
	op := f.String("op", "", "judge only this `step`, on the reference's input: q_proj and so on, a tensor's whole name, or self_attn, mlp or block as one")
	page := textFlag(f, "html", "a file", "write a page with charts to this `file`")
	asJSON := f.Bool("json", false, "print one JSON document")
	return func(args []string) error {
		if len(args) != 1 {
			return usageError("expected one REFERENCE")
		}
		renames, err := readRenames(*rename)
		if err != nil {
			return err
		}
		reference, err := qwen.ReadRecording(args[0], renames...)
		if err != nil {
			return err
		}
		o := qwen.CompareOptions{Tolerance: *tolerance, Op: *op}
		if *ours != "" {
			if o.Ours, err = qwen.ReadRecording(*ours, renames...); err != nil {
				return err
			}
		}
		var m *qwen.Model
		if *ours == "" || given(f, "model") {
			if m, err = load(); err != nil {
				return err
			}
			defer m.Close()
			if *layer >= m.Config.Layers {
				return usageError(fmt.Sprintf("-layer %d, expected 0 to %d", *layer, m.Config.Layers-1))
			}
		}
		if given(f, "layer") {
			o.Layers = []int{*layer}
		}
		done := waiting(func() string { return "comparing with " + printable(clip(args[0])) })
		report, err := o.Compare(m, reference)
		done()
		if err != nil {
			return fmt.Errorf("%s: %s", args[0], oneLine(err.Error()))
		}
		if *page != "" {
			err := writeFile(*page, func(w io.Writer) error {
				_, err := io.WriteString(w, report.HTML(args[0]))
				return err
			})
			if err != nil {
				return err
			}
		}
		return printReport(report, *asJSON)
	}
}

// printReport writes a report to stdout. Its exit status says whether it found
// anything.
func printReport(report *qwen.Report, asJSON bool) (err error) {
	if asJSON {
		err = printJSON(report)
	} else {
		_, err = io.WriteString(stdout, report.String()) // which escapes the names
	}
	if err == nil && report.Verdict != "match" {
		return exitStatus(exitDiffers)
	}
	return err
}

// maxRenames is a thousand times what such a table has.
const maxRenames = 1 << 20

// readRenames reads the table of -rename; without a file there is none.
func readRenames(file string) ([]qwen.Rename, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readFile(file, maxRenames)
	if err != nil {
		return nil, err
	}
	renames, err := qwen.ParseRenames(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", file, oneLine(err.Error()))
	}
	return renames, nil
}
