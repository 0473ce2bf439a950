package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// A tally counts what became of some mutants.
type tally struct{ all, equivalent, caught, right int }

func (t *tally) add(m *mutant) {
	t.all++
	switch m.outcome {
	case "equivalent":
		t.equivalent++
	case "caught":
		t.caught++
		if m.rightly() == "named right" {
			t.right++
		}
	}
}

func percent(n, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}

func (t tally) row(name string) string {
	real := t.all - t.equivalent
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %s | %s |", name, t.all, t.equivalent, t.caught, real-t.caught, percent(t.caught, real), percent(t.right, t.caught))
}

// report writes what belongs into testdata/README.md, and then what remains to do.
func report(w io.Writer, bugs, drawn []*mutant) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	if len(bugs) > 0 {
		slices.SortFunc(bugs, func(a, b *mutant) int { return strings.Compare(a.bug.name, b.bug.name) })
		line("| porting bug | numbers in the collection | changed | the verdict names |\n|---|---|---|---|")
		var t tally
		for _, m := range bugs {
			t.add(m)
			if m.outcome == "" {
				m.outcome = "does not build"
			}
			says := m.verdict
			if m.rightly() != "named right" {
				says = "**" + m.outcome + ", " + m.verdict + "**, expected " + strings.Join(m.bug.named, " or ")
			}
			line("| %s | %s | %s | %s |", m.bug.name, m.bug.number, m.file, says)
		}
		line("\n%d porting bugs, %d caught, %d named right.\n", t.all, t.caught, t.right)
	}
	if len(drawn) > 0 {
		files := map[string]*tally{}
		kinds := map[string]*tally{}
		var all tally
		for _, m := range drawn {
			for _, group := range []struct {
				in  map[string]*tally
				key string
			}{{files, m.file}, {kinds, m.kind}} {
				if group.in[group.key] == nil {
					group.in[group.key] = &tally{}
				}
				group.in[group.key].add(m)
			}
			all.add(m)
		}
		for _, group := range []struct {
			title string
			of    map[string]*tally
		}{{"file", files}, {"change", kinds}} {
			line("| %s | mutants | equivalent | caught | not caught | caught of the rest | named right, of those caught |\n|---|---|---|---|---|---|---|", group.title)
			var names []string
			for name := range group.of {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				line("%s", group.of[name].row(name))
			}
			line("%s\n", all.row("**all**"))
		}
	}
	slices.SortStableFunc(drawn, func(a, b *mutant) int { return strings.Compare(a.file, b.file) })
	line("Not caught:")
	for _, m := range slices.Concat(bugs, drawn) {
		if m.outcome == "not caught" {
			line("%s:%d %s: %s", m.file, m.line, m.kind, m.key())
		}
	}
	line("\nNamed wrong:")
	for _, m := range slices.Concat(bugs, drawn) {
		if m.outcome == "caught" && m.rightly() != "named right" {
			line("%s:%d %s: %s\n    %s", m.file, m.line, m.kind, m.key(), m.reason)
		}
	}
}
