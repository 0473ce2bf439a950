package main

import (
	"bytes"
	"fmt"
)

// A bug is a mistake that was made in a real port, made here on purpose.
type bug struct {
	name   string
	number string // of the collection that testdata/README.md cites
	file   string
	edits  []string // old text, new text, …; an old text "" appends to the file
	named  []string // what the verdict may name
}

// mutant turns the edits into one change of the file.
func (b *bug) mutant(s sources) (*mutant, error) {
	old := s.text[b.file]
	text := old
	for i := 0; i < len(b.edits); i += 2 {
		from, to := []byte(b.edits[i]), []byte(b.edits[i+1])
		if len(from) == 0 {
			text = append(bytes.Clone(text), to...)
			continue
		}
		if n := bytes.Count(text, from); n != 1 {
			return nil, fmt.Errorf("%s: %s holds %d times %q, expected once", b.name, b.file, n, from)
		}
		text = bytes.Replace(text, from, to, 1)
	}
	return &mutant{file: b.file, function: b.named[0], kind: "porting bug", line: 1, start: 0, end: len(old), text: string(text), before: b.name, after: "", bug: b}, nil
}

var portingBugs = []bug{}
