package main

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// builtHere says whether a file is part of the package on this machine.
func builtHere(name string, text []byte) bool {
	base := strings.TrimSuffix(strings.TrimSuffix(name, ".go"), ".s")
	for _, arch := range []string{"amd64", "arm64", "arm", "386", "riscv64", "wasm"} {
		if strings.HasSuffix(base, "_"+arch) && arch != runtime.GOARCH {
			return false
		}
	}
	for line := range strings.Lines(string(text)) {
		if x, err := constraint.Parse(strings.TrimSpace(line)); err == nil {
			return x.Eval(func(tag string) bool {
				return tag == runtime.GOOS || tag == runtime.GOARCH || tag == "unix" && runtime.GOOS != "windows" || strings.HasPrefix(tag, "go1.")
			})
		}
		if strings.HasPrefix(line, "package") || strings.HasPrefix(line, "TEXT") {
			break
		}
	}
	return true
}

// swaps are the operators that may stand for each other.
var swaps = map[token.Token][]token.Token{
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.QUO},
	token.SHL: {token.SHR}, token.SHR: {token.SHL}, token.AND: {token.OR}, token.OR: {token.AND}, token.XOR: {token.OR}, token.AND_NOT: {token.AND},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LSS: {token.LEQ, token.GTR}, token.LEQ: {token.LSS, token.GTR}, token.GTR: {token.GEQ, token.LSS}, token.GEQ: {token.GTR, token.LSS},
	token.ADD_ASSIGN: {token.SUB_ASSIGN}, token.SUB_ASSIGN: {token.ADD_ASSIGN}, token.MUL_ASSIGN: {token.QUO_ASSIGN}, token.QUO_ASSIGN: {token.MUL_ASSIGN},
	token.OR_ASSIGN: {token.AND_ASSIGN}, token.SHL_ASSIGN: {token.SHR_ASSIGN}, token.SHR_ASSIGN: {token.SHL_ASSIGN},
	token.INC: {token.DEC}, token.DEC: {token.INC},
}

// goMutants returns every change of a Go file, in the order of the file.
func goMutants(file string, text []byte) ([]*mutant, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var all []*mutant
	offset := func(p token.Pos) int { return fset.Position(p).Offset }
	source := func(n ast.Node) string { return string(text[offset(n.Pos()):offset(n.End())]) }
	for _, decl := range tree.Decls {
		function := declName(decl)
		if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			continue
		}
		add := func(kind string, from, to token.Pos, replacement string) {
			m := &mutant{file: file, function: function, kind: kind, line: fset.Position(from).Line, start: offset(from), end: offset(to), text: replacement}
			m.describe(text)
			all = append(all, m)
		}
		replace := func(kind string, n ast.Node, replacement string) { add(kind, n.Pos(), n.End(), replacement) }
		swap := func(kind string, a, b ast.Expr) {
			if source(a) != source(b) {
				add(kind, a.Pos(), b.End(), source(b)+string(text[offset(a.End()):offset(b.Pos())])+source(a))
			}
		}
		distances := map[ast.Expr]bool{} // in math.Abs(a - b)
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				for _, op := range swaps[n.Op] {
					add("operator", n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), op.String())
				}
				if n.Op == token.SUB && distances[n] {
					break // the same in any order
				}
				if n.Op == token.SUB || n.Op == token.QUO || n.Op == token.SHL || n.Op == token.REM {
					swap("operands", n.X, n.Y)
				}
			case *ast.AssignStmt:
				for _, op := range swaps[n.Tok] {
					add("operator", n.TokPos, n.TokPos+token.Pos(len(n.Tok.String())), op.String())
				}
			case *ast.IncDecStmt:
				add("operator", n.TokPos, n.TokPos+2, swaps[n.Tok][0].String())
			case *ast.UnaryExpr:
				if n.Op == token.NOT || n.Op == token.SUB || n.Op == token.XOR {
					add("operator", n.OpPos, n.OpPos+1, "")
				}
			case *ast.BasicLit:
				for _, v := range literals(n) {
					replace("constant", n, v)
				}
			case *ast.Ident:
				if n.Name == "true" || n.Name == "false" {
					replace("constant", n, map[string]string{"true": "false", "false": "true"}[n.Name])
				}
			case *ast.IfStmt:
				replace("condition", n.Cond, "!("+source(n.Cond)+")")
			case *ast.RangeStmt:
				if n.Value == nil { // an integer, perhaps: otherwise it does not build
					replace("loop bound", n.X, "("+source(n.X)+") - 1")
					replace("loop bound", n.X, "("+source(n.X)+") + 1")
				}
			case *ast.IndexExpr:
				replace("index", n.Index, source(n.Index)+" + 1")
				replace("index", n.Index, source(n.Index)+" - 1")
			case *ast.SliceExpr:
				for _, bound := range []ast.Expr{n.Low, n.High} {
					if bound != nil {
						replace("index", bound, source(bound)+" + 1")
						replace("index", bound, source(bound)+" - 1")
					}
				}
			case *ast.CallExpr:
				if source(n.Fun) == "math.Abs" {
					distances[n.Args[0]] = true
				}
				if source(n.Fun) == "math.Inf" { // of its argument only the sign counts
					replace("constant", n, map[string]string{"math.Inf(1)": "math.Inf(-1)", "math.Inf(-1)": "math.Inf(1)"}[source(n)])
					return false
				}
				for i := range len(n.Args) - 1 {
					if slices.Contains([]string{"min", "max", "slices.Equal", "c.sum", "c.times"}, source(n.Fun)) {
						break // the same in any order
					}
					swap("arguments", n.Args[i], n.Args[i+1])
				}
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "min" || f.Name == "max") {
					replace("function", f, map[string]string{"min": "max", "max": "min"}[f.Name])
				}
			case *ast.BlockStmt:
				removals(n.List, replace, source)
			case *ast.CaseClause:
				removals(n.Body, replace, source)
			}
			return true
		})
	}
	return all, nil
}

// removals takes out one statement at a time. Where that leaves variables without
// use it does not build, and so is no mutant.
func removals(list []ast.Stmt, replace func(string, ast.Node, string), source func(ast.Node) string) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.BranchStmt:
			replace("statement", s, "")
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				replace("statement", s, "")
			}
		case *ast.IfStmt:
			if s.Else == nil && s.Init == nil {
				replace("statement", s, "")
			}
		}
	}
}

// literals returns a number plus one, minus one and doubled.
func literals(n *ast.BasicLit) (all []string) {
	switch n.Kind {
	case token.INT:
		v, err := strconv.ParseInt(n.Value, 0, 64)
		if err != nil {
			u, err := strconv.ParseUint(n.Value, 0, 64)
			if err != nil {
				return nil
			}
			return []string{strconv.FormatUint(u+1, 10), strconv.FormatUint(u-1, 10)}
		}
		all = append(all, strconv.FormatInt(v+1, 10), strconv.FormatInt(v-1, 10))
		if v > 2 {
			all = append(all, strconv.FormatInt(2*v, 10))
		}
	case token.FLOAT:
		v, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsInf(v, 0) {
			return nil
		}
		for _, w := range []float64{v + 1, v - 1, 2 * v} {
			if w != v {
				all = append(all, strconv.FormatFloat(w, 'g', -1, 64))
			}
		}
	case token.CHAR:
		if v, _, _, err := strconv.UnquoteChar(n.Value[1:len(n.Value)-1], '\''); err == nil {
			all = append(all, strconv.QuoteRune(v+1))
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == n.Value })
}

// declName is the name that the verdict would use.
func declName(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return d.Name.Name
		}
		of := d.Recv.List[0].Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		return fmt.Sprint(of) + "." + d.Name.Name
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				return s.Names[0].Name
			case *ast.TypeSpec:
				return s.Name.Name
			}
		}
	}
	return "?"
}

// describe sets before and after to the first line that changes.
func (m *mutant) describe(text []byte) {
	from := strings.LastIndexByte(string(text[:m.start]), '\n') + 1
	lineEnd := func(s string, at int) int {
		if i := strings.IndexByte(s[at:], '\n'); i >= 0 {
			return at + i
		}
		return len(s)
	}
	old := string(text)
	changed := old[:m.start] + m.text + old[m.end:]
	m.before = strings.TrimSpace(old[from:lineEnd(old, m.start)])
	m.after = strings.TrimSpace(changed[from:lineEnd(changed, m.start)])
	if m.text == "" && m.kind == "statement" {
		m.after = "(removed)"
	}
}
