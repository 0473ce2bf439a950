package main

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	textLine    = regexp.MustCompile(`^TEXT ·(\w+)`)
	instruction = regexp.MustCompile(`^\t([A-Z][A-Z0-9]+)\b(.*)$`)
	register    = regexp.MustCompile(`\b([XYZ])(\d+)\b`)
	immediate   = regexp.MustCompile(`\$(-?(?:0x[0-9a-fA-F]+|\d+))\b`)
	offset      = regexp.MustCompile(`(^|[ ,])(-?\d+)\(`)
	pointer     = regexp.MustCompile(`\b(AX|BX|CX|DX|SI|DI|R8|R9|R10|R11|R12|R13)\b`)
)

// jumps are the conditions that may stand for each other.
var jumps = map[string]string{
	"JGE": "JGT", "JGT": "JGE", "JLT": "JLE", "JLE": "JLT", "JEQ": "JNE", "JNE": "JEQ", "JZ": "JNZ", "JNZ": "JZ",
	"JL": "JLE", "JG": "JGE", "JAE": "JA", "JA": "JAE", "JB": "JBE", "JBE": "JB", "JHS": "JHI", "JHI": "JHS", "JLO": "JLS", "JLS": "JLO",
	"JCS": "JCC", "JCC": "JCS",
}

// assemblyMutants returns every change of one instruction: another register,
// offset, constant or condition, two operands exchanged, or none at all.
func assemblyMutants(file string, text []byte) (all []*mutant) {
	function, at := "", 0
	for number, line := range strings.Split(string(text), "\n") {
		start := at
		at += len(line) + 1
		if m := textLine.FindStringSubmatch(line); m != nil {
			function = m[1]
		}
		code, _, _ := strings.Cut(line, "//")
		m := instruction.FindStringSubmatch(strings.TrimRight(code, " \t"))
		if m == nil || function == "" || m[1] == "RET" {
			continue
		}
		add := func(kind string, from, to int, replacement string) { // from and to count in the line
			x := &mutant{file: file, function: function, kind: "assembly: " + kind, line: number + 1, start: start + from, end: start + to, text: replacement}
			x.describe(text)
			all = append(all, x)
		}
		name, operands, first := m[1], m[2], 1+len(m[1])
		if to := jumps[name]; to != "" {
			add("condition", 1, first, to)
		}
		if name != "JMP" {
			add("removed", 1, len(strings.TrimRight(code, " \t")), "NOP")
		}
		for _, r := range register.FindAllStringSubmatchIndex(operands, -1) {
			n, _ := strconv.Atoi(operands[r[4]:r[5]])
			add("register", first+r[0], first+r[1], operands[r[2]:r[3]]+strconv.Itoa((n+1)%16))
		}
		for _, r := range pointer.FindAllStringIndex(operands, -1) {
			other := map[string]string{"AX": "BX", "BX": "AX", "SI": "DI", "DI": "SI", "CX": "DX", "DX": "CX", "R8": "R9", "R9": "R8", "R10": "R11", "R11": "R10", "R12": "R13", "R13": "R12"}[operands[r[0]:r[1]]]
			add("register", first+r[0], first+r[1], other)
		}
		for _, r := range immediate.FindAllStringSubmatchIndex(operands, -1) {
			v, _ := strconv.ParseInt(operands[r[2]:r[3]], 0, 64)
			for _, w := range []int64{v + 1, v - 1, 2 * v} {
				if w != v {
					add("constant", first+r[2], first+r[3], strconv.FormatInt(w, 10))
				}
			}
		}
		for _, r := range offset.FindAllStringSubmatchIndex(operands, -1) {
			v, _ := strconv.ParseInt(operands[r[4]:r[5]], 10, 64)
			for _, w := range []int64{v + 4, v - 4} {
				add("offset", first+r[4], first+r[5], strconv.FormatInt(w, 10))
			}
		}
		if parts := strings.Split(operands, ", "); len(parts) >= 2 {
			a, b := strings.TrimSpace(parts[0]), strings.TrimSpace(parts[1])
			sum := strings.HasPrefix(name, "VADD") || strings.HasPrefix(name, "VMUL") || strings.HasPrefix(name, "VFMADD231") // the same in either order
			if a != b && !sum {
				swapped := " " + strings.Join(append([]string{b, a}, parts[2:]...), ", ")
				add("operands", first, first+len(operands), swapped)
			}
		}
	}
	return all
}
