package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Building takes longer than testing. So all mutants of functions and variables
// go into one binary: each changed function is there as a copy of its own, and
// the environment says which copy is called.
//
//	func add(a, b []float32) []float32 {
//		switch mutant__ {
//		case 17:
//			return add__17(a, b)
//		}
//		return add__0(a, b)
//	}
//
// A kernel in assembly is copied too, and where Go takes its address the one that is
// asked for is taken. What cannot be copied (constants, types, edits of more than one
// function) is built alone.

const selector = `package %s

import (
	"os"
	"strconv"
)

var mutant__ = func() int { n, _ := strconv.Atoi(os.Getenv("MUTANT")); return n }()

func pick__[T any](x T, others ...any) T {
	for i := 0; i < len(others); i += 2 {
		if others[i].(int) == mutant__ {
			return others[i+1].(T)
		}
	}
	return x
}

// compute__ is pick__ of values that are only computed where they are asked for: a
// changed loop may never end.
func compute__[T any](x T, others ...any) T {
	for i := 0; i < len(others); i += 2 {
		if others[i].(int) == mutant__ {
			return others[i+1].(func() any)().(T)
		}
	}
	return x
}
`

// A piece of a generated file belongs to a mutant.
type piece struct {
	start, end int
	m          *mutant
}

// schemata writes the sources with the given mutants in them into dir, and builds
// the test binary there. It numbers the mutants that are in it; others have
// number 0: alone says that they must be built alone, else they do not build.
func schemata(dir string, s sources, mutants []*mutant, binary string) error {
	out := mutants
	for _, m := range mutants {
		m.number, m.alone = 0, false
	}
	number := 0
	for _, m := range out {
		if copyable(s, m) {
			number++
			m.number = number
		} else {
			m.alone = true
		}
	}
	for range 8 {
		texts, pieces := map[string][]byte{}, map[string][]piece{}
		for _, name := range s.names {
			if strings.HasSuffix(name, ".go") {
				var here []*mutant
				for _, m := range out {
					if m.file == name && m.number > 0 {
						here = append(here, m)
					}
				}
				texts[name], pieces[name] = generate(name, s.text[name], here)
			}
		}
		assembly := map[string][]lines{}
		for _, name := range s.names {
			if strings.HasSuffix(name, ".s") {
				texts[name], assembly[name] = generateAssembly(name, s.text[name], out, texts)
			}
		}
		texts["zz_mutants.go"] = fmt.Appendf(nil, selector, s.pkg)
		bad, err := typeCheck(s, texts, pieces)
		if err != nil {
			return err
		}
		if len(bad) == 0 {
			for name, text := range texts {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
					return err
				}
			}
			cmd := exec.Command("go", "test", "-vet=off", "-c", "-o", binary, "-ldflags=-s -w", "-asmflags=-e", ".")
			cmd.Dir = dir
			output, err := cmd.CombinedOutput()
			if err == nil {
				return nil
			}
			for _, m := range asmError.FindAllSubmatch(output, -1) {
				line, _ := strconv.Atoi(string(m[2]))
				for _, l := range assembly[filepath.Base(string(m[1]))] {
					if line >= l.from && line <= l.to && !slices.Contains(bad, l.m) {
						bad = append(bad, l.m)
					}
				}
			}
			if len(bad) == 0 {
				return fmt.Errorf("%v\n%s", err, output[:min(len(output), 3000)])
			}
		}
		for _, m := range bad {
			m.number = 0
		}
	}
	return errors.New("there is always something that does not build")
}

var asmError = regexp.MustCompile(`([^\s:/(]+\.s):(\d+)`)

// lines of a generated file of assembly belong to a mutant.
type lines struct {
	from, to int
	m        *mutant
}

// generateAssembly appends a copy of its function for each mutant, and has Go choose.
func generateAssembly(name string, text []byte, mutants []*mutant, texts map[string][]byte) ([]byte, []lines) {
	out := bytes.Clone(text)
	var all []lines
	choices := map[string]string{}
	for _, m := range mutants {
		if m.file != name || m.number == 0 {
			continue
		}
		header := "TEXT ·" + m.function + "("
		from := bytes.Index(text, []byte(header))
		to := len(text)
		if next := bytes.Index(text[from+1:], []byte("\nTEXT ·")); next >= 0 {
			to = from + 1 + next
		}
		copied := string(text[from:m.start]) + m.text + string(text[m.end:to])
		first := 2 + bytes.Count(out, []byte("\n"))
		out = append(out, "\n"+strings.Replace(copied, header, fmt.Sprintf("TEXT ·%s__%d(", m.function, m.number), 1)+"\n"...)
		all = append(all, lines{first, bytes.Count(out, []byte("\n")), m})
		choices[m.function] += fmt.Sprintf(", %d, %s__%d", m.number, m.function, m.number)
	}
	for function, choice := range choices {
		declared := regexp.MustCompile(`(?m)^func ` + function + `(\(.*)$`)
		used := regexp.MustCompile(`(^|[^\w.])` + function + `\b`)
		for name, text := range texts {
			match := declared.FindSubmatch(text)
			if !strings.HasSuffix(name, ".go") || match == nil {
				continue
			}
			var changed []string
			for line := range strings.Lines(string(text)) {
				if !strings.HasPrefix(line, "func "+function) && !strings.HasPrefix(line, "//") {
					line = used.ReplaceAllString(line, "${1}pick__("+function+choice+")")
				}
				changed = append(changed, line)
			}
			more := ""
			for _, field := range strings.Split(choice, ", ") {
				if strings.Contains(field, "__") {
					more += "\n\n//go:noescape\nfunc " + field + string(match[1])
				}
			}
			texts[name] = []byte(strings.Join(changed, "") + more + "\n")
		}
	}
	return out, all
}

// enclosing returns the declaration that holds the mutant.
func enclosing(tree *ast.File, fset *token.FileSet, m *mutant) ast.Decl {
	for _, d := range tree.Decls {
		if from, to := fset.Position(d.Pos()).Offset, fset.Position(d.End()).Offset; m.start >= from && m.end <= to {
			return d
		}
	}
	return nil
}

// copyable says whether the mutant can be a copy among others.
func copyable(s sources, m *mutant) bool {
	if strings.HasSuffix(m.file, ".s") {
		return m.bug == nil
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, m.file, s.text[m.file], parser.SkipObjectResolution)
	if err != nil {
		return false
	}
	switch d := enclosing(tree, fset, m).(type) {
	case *ast.FuncDecl:
		return d.Body != nil && m.start >= fset.Position(d.Body.Pos()).Offset && d.Name.Name != "init"
	case *ast.GenDecl:
		if d.Tok != token.VAR {
			return false
		}
		for _, spec := range d.Specs {
			v := spec.(*ast.ValueSpec)
			if len(v.Names) == 1 && len(v.Values) == 1 && m.start >= fset.Position(v.Values[0].Pos()).Offset && m.end <= fset.Position(v.Values[0].End()).Offset {
				return true
			}
		}
	}
	return false
}

// generate writes a file with its mutants, and says where each is.
func generate(name string, text []byte, mutants []*mutant) ([]byte, []piece) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	check(err)
	at := func(p token.Pos) int { return fset.Position(p).Offset }
	var out bytes.Buffer
	var pieces []piece
	last := 0
	for _, d := range tree.Decls {
		from, to := at(d.Pos()), at(d.End())
		var here []*mutant
		for _, m := range mutants {
			if m.start >= from && m.end <= to {
				here = append(here, m)
			}
		}
		if len(here) == 0 {
			continue
		}
		switch d := d.(type) {
		case *ast.FuncDecl:
			out.Write(text[last:from])
			dispatch(&out, text, at, d, here)
			nameFrom, nameTo := at(d.Name.Pos()), at(d.Name.End())
			fmt.Fprintf(&out, "\n\n%s%s__0%s", text[from:nameFrom], d.Name.Name, text[nameTo:to])
			for _, m := range here {
				out.WriteString("\n\n")
				start := out.Len()
				fmt.Fprintf(&out, "%s%s__%d%s%s%s", text[from:nameFrom], d.Name.Name, m.number, text[nameTo:m.start], m.text, text[m.end:to])
				pieces = append(pieces, piece{start, out.Len(), m})
			}
			last = to
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok || len(v.Values) != 1 {
					continue
				}
				vFrom, vTo := at(v.Values[0].Pos()), at(v.Values[0].End())
				var inside []*mutant
				for _, m := range here {
					if m.start >= vFrom && m.end <= vTo {
						inside = append(inside, m)
					}
				}
				if len(inside) == 0 {
					continue
				}
				out.Write(text[last:vFrom])
				fmt.Fprintf(&out, "compute__(%s", text[vFrom:vTo])
				for _, m := range inside {
					fmt.Fprintf(&out, ", %d, func() any { return ", m.number)
					start := out.Len()
					fmt.Fprintf(&out, "%s%s%s }", text[vFrom:m.start], m.text, text[m.end:vTo])
					pieces = append(pieces, piece{start, out.Len(), m})
				}
				out.WriteString(")")
				last = vTo
			}
		}
	}
	out.Write(text[last:])
	return out.Bytes(), pieces
}

// dispatch writes a function that calls the copy that is asked for.
func dispatch(out *bytes.Buffer, text []byte, at func(token.Pos) int, d *ast.FuncDecl, mutants []*mutant) {
	source := func(n ast.Node) string { return string(text[at(n.Pos()):at(n.End())]) }
	var params, args []string
	for _, f := range d.Type.Params.List {
		names := []string{}
		for _, n := range f.Names {
			names = append(names, n.Name)
		}
		if len(names) == 0 {
			names = append(names, "_")
		}
		for _, n := range names {
			if n == "_" {
				n = fmt.Sprintf("p%d__", len(params))
			}
			params = append(params, n+" "+source(f.Type))
			if _, variadic := f.Type.(*ast.Ellipsis); variadic {
				n += "..."
			}
			args = append(args, n)
		}
	}
	results, back := "", ""
	if d.Type.Results != nil {
		var list []string
		for _, f := range d.Type.Results.List {
			for range max(1, len(f.Names)) {
				list = append(list, source(f.Type))
			}
		}
		results, back = "("+strings.Join(list, ", ")+") ", "return "
	}
	receiver, of := "", ""
	if d.Recv != nil {
		f := d.Recv.List[0]
		of = "r__"
		if len(f.Names) == 1 && f.Names[0].Name != "_" {
			of = f.Names[0].Name
		}
		receiver = "(" + of + " " + source(f.Type) + ") "
		of += "."
	}
	call := func(number int) string {
		return fmt.Sprintf("%s%s%s__%d(%s)", back, of, d.Name.Name, number, strings.Join(args, ", "))
	}
	fmt.Fprintf(out, "func %s%s(%s) %s{\n\tswitch mutant__ {\n", receiver, d.Name.Name, strings.Join(params, ", "), results)
	for _, m := range mutants {
		fmt.Fprintf(out, "\tcase %d:\n\t\t%s\n", m.number, call(m.number))
		if back == "" {
			out.WriteString("\t\treturn\n")
		}
	}
	fmt.Fprintf(out, "\t}\n\t%s\n}", call(0))
}

// typeCheck returns the mutants that do not build.
func typeCheck(s sources, texts map[string][]byte, pieces map[string][]piece) (bad []*mutant, err error) {
	fset := token.NewFileSet()
	var files []*ast.File
	note := func(p token.Position, message string) error {
		for _, x := range pieces[p.Filename] {
			if p.Offset >= x.start && p.Offset <= x.end {
				if !slices.Contains(bad, x.m) {
					bad = append(bad, x.m)
				}
				return nil
			}
		}
		return fmt.Errorf("%v: %s", p, message)
	}
	for name, text := range texts {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution|parser.AllErrors)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	exports, err := exportFiles(s.dir)
	if err != nil {
		return nil, err
	}
	var other error
	config := types.Config{
		Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }),
		Error: func(err error) {
			if e, ok := err.(types.Error); ok {
				if err := note(fset.Position(e.Pos), e.Msg); err != nil && other == nil {
					other = err
				}
			}
		},
	}
	config.Check(s.pkg, fset, files, nil)
	if len(bad) > 0 {
		return bad, nil
	}
	return nil, other
}

var exported map[string]string

// exportFiles returns the export data of everything the package imports.
func exportFiles(dir string) (map[string]string, error) {
	if exported != nil {
		return exported, nil
	}
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")
	cmd.Dir = dir
	output, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	exported = map[string]string{}
	for line := range strings.Lines(string(output)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			exported[path] = file
		}
	}
	return exported, nil
}
