package qwen

// The verdict: `go test -v .` ends with one line that names the function that no
// longer agrees with PyTorch, the first in the order of the data flow:
//
//	all 48 functions agree with PyTorch
//	FIRST BROKEN: RoPE (rope.go:179) max error 8.1e-01, tolerance 1.0e-05, worst at [11 3 40]
//
// A test that answers for a function is a golden: it feeds the function recorded
// inputs, so that a function that is broken makes its own golden fail, and not
// those of the functions that come after it. dataflow lists them. Functions made
// of others come after their parts: where only they fail, the wiring is broken.
//
// A broken function may also panic, loop for ever or end the process. Panics are
// caught where they happen. For the rest TestMain runs the tests in a second
// process and watches it: the goldens write down where they are. The tests that
// were still to come are then run in another one.
//
// QWEN_TEST_INLINE=1 runs everything in one process, for a debugger.

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A stage is a function that the verdict can name. Its name is that of a
// declaration: a function, Type.Method, or a type for a group of methods.
type stage struct {
	name  string
	parts bool // made of functions that stand before it: if only it fails, the wiring is wrong
}

// dataflow is the order of judgement: from the bytes of a file to the text of an
// answer, and then the diagnosis of other implementations; every function after
// those that it calls.
var dataflow = []stage{
	{name: "jsonReader"},
	{name: "LoadError"},
	{name: "ParseSafetensors"},
	{name: "widen"},
	{name: "NewMatrix"},
	{name: "WriteSafetensors"},
	{name: "parseConfig"},
	{name: "Sampling.check"},
	{name: "parseGeneration"},
	{name: "parseIndex"},
	{name: "parseChatTemplate"},
	{name: "normalize"},
	{name: "splitter"},
	{name: "matcher"},
	{name: "parseTokenizer"},
	{name: "encoder"},
	{name: "Tokenizer.Decode"},
	{name: "Tokenizer.Encode", parts: true},
	{name: "LoadTokenizer", parts: true},
	{name: "templateFor"},
	{name: "Template.Render"},
	{name: "Tokenizer.EncodeChat", parts: true},
	{name: "folder"},
	{name: "Model.connect"},
	{name: "NewRotary"},
	{name: "load", parts: true},
	{name: "parallel"},
	{name: "Embed"},
	{name: "RMSNorm"},
	{name: "lanes"},
	{name: "kernel.dots"},
	{name: "kernel.widen"},
	{name: "tile"},
	{name: "kernel.mix"},
	{name: "kernel.keys"},
	{name: "kernel.values"},
	{name: "kernel.softmax"},
	{name: "kernel.silu"},
	{name: "Linear"},
	{name: "Rotary.Angles"},
	{name: "RoPE"},
	{name: "Softmax"},
	{name: "appendHeads"},
	{name: "attentionScores"},
	{name: "attentionValues"},
	{name: "Attention"},
	{name: "Cache"},
	{name: "Model.wanted"},
	{name: "Model.attention", parts: true},
	{name: "SiLU"},
	{name: "product"},
	{name: "FFN", parts: true},
	{name: "add"},
	{name: "Model.block", parts: true},
	{name: "Model.checkInput"},
	{name: "Model.checkFinite"},
	{name: "Trace"},
	{name: "Model.Forward", parts: true},
	{name: "Model.Trace", parts: true},
	{name: "argmax"},
	{name: "largest"},
	{name: "penalise"},
	{name: "keepTopK"},
	{name: "keepTopP"},
	{name: "keepMinP"},
	{name: "draw"},
	{name: "Sampling.Filter", parts: true},
	{name: "logProbs"},
	{name: "textStream"},
	{name: "Cache.continueWith"},
	{name: "Model.forwardPieces", parts: true},
	{name: "Model.Generate", parts: true},
	{name: "Model.Chat", parts: true},
	{name: "Load", parts: true},
	{name: "placeOf"},
	{name: "Recording"},
	{name: "yardstick"},
	{name: "plain"},
	{name: "plain.find"},
	{name: "mistake"},
	{name: "Growth.fit"},
	{name: "Compare", parts: true},
	{name: "Report.String"},
	{name: "Report.HTML"},
}

// A golden takes milliseconds. One that works for so long, where the system says
// how long a process worked, or does nothing at all for so long, never returns.
// The limits leave room for a busy machine and the race detector; testdata/mutate,
// which breaks hundreds of functions and has the machine to itself, does not wait.
var wallLimit, cpuLimit, memoryLimit = 5 * time.Minute, 2 * time.Minute, int64(4 << 30)

func init() {
	if os.Getenv("QWEN_TEST_FIRST") != "" {
		wallLimit, cpuLimit, memoryLimit = 30*time.Second, 15*time.Second, 1<<30
	}
}

// A note is what a golden writes down for the process that watches.
type note struct {
	State    string // "begins", "fails", "ends" with one kernel, "done" with all
	Function string
	Kernel   string // that ran, "" if the check does not depend on it
	Part     string // the function that was called, where the stage has one for each kernel
	Test     string // the top-level test
	Detail   string
}

// notes is where goldens write, nil if nobody watches.
var notes *os.File

func write(n note) {
	if notes != nil {
		line, _ := json.Marshal(n)
		notes.Write(append(line, '\n'))
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	if name := os.Getenv("QWEN_TEST_NOTES"); name != "" { // the process that is watched
		var err error
		if notes, err = os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0); err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		os.Exit(m.Run())
	}
	set := func(name string) bool {
		f := flag.Lookup("test." + name)
		return f != nil && f.Value.String() != "" && f.Value.String() != "false"
	}
	if set("bench") || set("fuzz") || set("fuzzworker") || set("list") || os.Getenv("QWEN_TEST_INLINE") != "" {
		os.Exit(m.Run())
	}
	code, all := watch()
	if len(all) > 0 { // some golden ran
		verdict, broken := judge(all, code != 0)
		if broken && code == 0 {
			code = 1
		}
		if whole := !set("run") && !set("skip"); whole && code == 0 {
			for _, s := range dataflow {
				if !slices.ContainsFunc(all, func(n note) bool { return n.Function == s.name }) {
					verdict, code = "no test answers for "+s.name, 1
				}
			}
		}
		fmt.Println(verdict)
	}
	os.Exit(code)
}

// watch runs the tests in another process, and again those that were left when
// it died. It returns the exit code and what the goldens wrote.
func watch() (code int, all []note) {
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return 2, nil
	}
	dir, err := os.MkdirTemp("", "qwen-test-")
	if err != nil {
		fmt.Println(err)
		return 2, nil
	}
	defer os.RemoveAll(dir)
	skip, only := flag.Lookup("test.skip").Value.String(), flag.Lookup("test.run").Value.String()
	for run := range 9 {
		file := filepath.Join(dir, strconv.Itoa(run))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			fmt.Println(err)
			return 2, all
		}
		child := exec.Command(self, append(slices.Clone(os.Args[1:]), "-test.run="+only, "-test.skip="+skip)...)
		child.Env = append(os.Environ(), "QWEN_TEST_NOTES="+file)
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 2, all
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		reason := guard(child.Process, file, all, ended)
		list := readNotes(file)
		all = append(all, list...)
		if reason == enough {
			return 1, all
		}
		switch n, exit := len(list), child.ProcessState.ExitCode(); {
		case n > 0 && list[n-1].State != "ends" && list[n-1].State != "done": // it died inside a golden: that one is broken, the rest is still to be asked
			if last := list[n-1]; last.State == "begins" {
				last.State, last.Detail = "fails", reason
				all = append(all, last)
			}
		case (exit == 0 || exit == 1) || only != "":
			return max(code, exit&0xff), all
		default: // it died in another test: the goldens are still to be asked
			only = "^(" + strings.Join(slices.Sorted(maps.Keys(goldenTests())), "|") + ")$"
		}
		code = 1
		if verdictStands(all) {
			return code, all
		}
		for _, n := range list {
			if name := "^" + regexp.QuoteMeta(n.Test) + "$"; !strings.Contains(skip, name) {
				skip = strings.TrimPrefix(skip+"|"+name, "|")
			}
		}
	}
	return code, all
}

var (
	testName = regexp.MustCompile(`^Test\w*$`)
	stageOf  = regexp.MustCompile(`(?:golden|answers)\(t, "([^"]+)"`)
)

// goldenTests returns the tests that answer for a function, and for which.
var goldenTests = sync.OnceValue(func() map[string]string {
	tests := map[string]string{}
	files, _ := filepath.Glob("*_test.go")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, f := range strings.Split(string(text), "\nfunc ")[1:] {
			name, _, ok := strings.Cut(f, "(t *testing.T) {")
			if stage := stageOf.FindStringSubmatch(f); ok && stage != nil && testName.MatchString(name) {
				tests[name] = stage[1]
			}
		}
	}
	return tests
})

// verdictStands says whether every test of every function before the first broken
// one has been run, so that the rest cannot change the verdict.
func verdictStands(all []note) bool {
	if !slices.ContainsFunc(all, func(n note) bool { return n.State == "fails" }) {
		return false
	}
	run, skip := regexp.MustCompile(flag.Lookup("test.run").Value.String()), flag.Lookup("test.skip").Value.String()
	ended := map[string]bool{}
	for _, n := range all {
		if n.State == "done" {
			ended[n.Test] = true
		}
	}
	tests := goldenTests()
	for _, s := range dataflow {
		for _, n := range all {
			if n.Function == s.name && n.State == "fails" {
				return true
			}
		}
		for test, function := range tests {
			if function == s.name && !ended[test] && run.MatchString(test) && (skip == "" || !regexp.MustCompile(skip).MatchString(test)) {
				return false
			}
		}
	}
	return false
}

// enough is why testdata/mutate has the tests ended as soon as the verdict stands.
const enough = "the verdict stands"

// guard waits for the end of the process, or brings it about when a check takes
// too long or too much memory, and says what happened. before is what other
// processes wrote.
func guard(p *os.Process, file string, before []note, ended chan error) string {
	size, since, worked := int64(0), time.Now(), time.Duration(0)
	for {
		select {
		case err := <-ended:
			return fmt.Sprint("ended the process: ", err)
		case <-time.After(50 * time.Millisecond):
		}
		cpu, memory := usage(p.Pid)
		if info, err := os.Stat(file); err == nil && info.Size() != size {
			size, since, worked = info.Size(), time.Now(), cpu
		}
		reason, list := "", readNotes(file)
		inside := len(list) > 0 && list[len(list)-1].State != "ends" && list[len(list)-1].State != "done"
		switch {
		case inside && (time.Since(since) > wallLimit || cpu-worked > cpuLimit):
			reason = "does not return"
		case memory > memoryLimit:
			reason = fmt.Sprintf("takes more than %d MiB of memory", memoryLimit>>20)
		case os.Getenv("QWEN_TEST_FIRST") != "" && verdictStands(slices.Concat(before, list)):
			reason = enough
		default:
			continue
		}
		p.Kill()
		<-ended
		return reason
	}
}

// usage returns the time that a process worked and the bytes that it has in
// memory, where the system tells: 0 elsewhere.
func usage(pid int) (cpu time.Duration, memory int64) {
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, rest, _ := strings.Cut(string(data), ") ") // state is field 3, user and system time are 14 and 15
		if f := strings.Fields(rest); len(f) > 13 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			cpu = time.Duration(user+system) * time.Second / 100
		}
	}
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)); err == nil {
		var total, resident int64
		fmt.Sscan(string(data), &total, &resident)
		memory = resident * int64(os.Getpagesize())
	}
	return cpu, memory
}

func readNotes(file string) (all []note) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var n note
		if json.Unmarshal(s.Bytes(), &n) == nil {
			all = append(all, n)
		}
	}
	return all
}

// judge returns the verdict on what the goldens wrote.
func judge(all []note, failed bool) (verdict string, broken bool) {
	names := map[string]bool{}
	for _, n := range all {
		names[n.Function] = true
	}
	for _, s := range dataflow {
		for _, n := range all {
			if n.Function != s.name || n.State != "fails" {
				continue
			}
			name, what := cmp.Or(n.Part, s.name), ""
			if s.parts {
				what = "wiring: its parts agree; "
			}
			return fmt.Sprintf("FIRST BROKEN: %s (%s) %s%s", name, declaration(name), what, n.Detail), true
		}
	}
	if failed {
		return fmt.Sprintf("all %d functions agree with PyTorch, but other tests failed, see above", len(names)), false
	}
	return fmt.Sprintf("all %d functions agree with PyTorch", len(names)), false
}

// declaration returns FILE:LINE of a function, method or type of this package,
// as it is built here.
func declaration(name string) string {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		return err.Error()
	}
	for _, file := range pkg.SFiles { // "TEXT ·name(SB)"
		text, _ := os.ReadFile(file)
		before, _, ok := strings.Cut(string(text), "TEXT ·"+name+"(")
		if ok {
			return fmt.Sprintf("%s:%d", file, 1+strings.Count(before, "\n"))
		}
	}
	fset := token.NewFileSet()
	for _, file := range pkg.GoFiles {
		tree, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		for _, d := range tree.Decls {
			if at := declares(d, name); at != token.NoPos {
				return fmt.Sprintf("%s:%d", file, fset.Position(at).Line)
			}
		}
	}
	return "not found"
}

// declares returns the position of name in d, if d declares it.
func declares(d ast.Decl, name string) token.Pos {
	switch d := d.(type) {
	case *ast.FuncDecl:
		full := d.Name.Name
		if d.Recv != nil {
			of := d.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			full = of.(*ast.Ident).Name + "." + full
		}
		if full == name {
			return d.Pos()
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok && t.Name.Name == name {
				return t.Pos()
			}
		}
	}
	return token.NoPos
}

// A check is one golden, for one kernel.
type check struct {
	*testing.T
	note
}

// answers marks the test that calls it as one that answers for a function of
// dataflow, whatever helpers it uses: if it fails or panics, so has the function.
//
//	defer answers(t, "parseConfig")()
func answers(t *testing.T, function string) (done func()) {
	known(t, function)
	c := &check{t, note{Function: function, Test: topLevel(t)}}
	c.begin()
	return func() {
		if r := recover(); r != nil {
			c.fail("panic: %v\n%s", r, debug.Stack())
		}
		c.end()
		write(note{State: "done", Function: function, Test: topLevel(t)})
	}
}

// golden runs f once for each kernel as the check of a function of dataflow.
// One goroutine does all the work, so that a panic in a worker can be caught.
func golden(t *testing.T, function string, f func(c *check)) {
	known(t, function)
	defer write(note{State: "done", Function: function, Test: topLevel(t)})
	for i, k := range kernels {
		if i > 0 && testing.Short() && !slices.Contains(kernelStages, function) {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			defer useKernel(k)()
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a kernel that reads beyond its operands
			c := &check{t, note{Function: function, Kernel: k.name, Test: topLevel(t)}}
			c.begin()
			defer c.end()
			defer func() {
				if r := recover(); r != nil {
					c.fail("panic: %v", r)
					t.Logf("%s", debug.Stack())
				}
			}()
			f(c)
		})
	}
}

// useKernel switches to another kernel, and returns what switches back. Nothing may be
// running meanwhile.
func useKernel(k *kernel) (restore func()) {
	was := current
	current = k
	return func() { current = was }
}

// kernelStages are the goldens that -short runs for every kernel, and not only for
// the best.
var kernelStages = []string{"lanes", "kernel.dots", "kernel.widen", "tile", "kernel.mix", "kernel.keys", "kernel.values", "kernel.softmax", "kernel.silu", "Softmax", "SiLU", "Linear", "attentionScores", "attentionValues", "Attention", "Model.Forward"}

func known(t *testing.T, function string) {
	if !slices.ContainsFunc(dataflow, func(s stage) bool { return s.name == function }) {
		t.Fatalf("%s is not in dataflow", function)
	}
}

func topLevel(t *testing.T) string {
	name, _, _ := strings.Cut(t.Name(), "/")
	return name
}

// about says which of a kernel's functions is called next: what fails then is its
// failure.
func (c *check) about(function any) {
	c.Part = ""
	if function != nil {
		name := runtime.FuncForPC(reflect.ValueOf(function).Pointer()).Name()
		parts := strings.Split(name[strings.LastIndex(name, "/")+1:], ".") // qwen.dotsGeneric.func1, or qwen.init.dotsGeneric.func1 where it was inlined
		for len(parts) > 2 && strings.HasPrefix(parts[len(parts)-1], "func") {
			parts = parts[:len(parts)-1]
		}
		c.Part = parts[len(parts)-1]
		if c.State == "begins" { // it may never return
			write(c.note)
		}
	}
}

func (c *check) begin() {
	c.State = "begins"
	write(c.note)
}

func (c *check) end() {
	if c.Failed() && c.State == "begins" { // by t.Error, and not by one of the methods here
		c.State, c.Detail = "fails", "see "+c.Name()
		write(c.note)
	}
	c.State, c.Detail = "ends", ""
	write(c.note)
}

// fail is Errorf, and the first time also what the verdict will say.
func (c *check) fail(format string, args ...any) {
	c.Helper()
	detail := fmt.Sprintf(format, args...)
	c.Error(detail)
	if c.State != "fails" {
		c.State, c.Detail = "fails", detail
		if line, _, _ := strings.Cut(detail, "\n"); line != detail {
			c.Detail = line
		}
		write(c.note)
	}
}

// within holds numbers against numbers: |got-want| may be tolerance[i] at most,
// tolerance[0] if there is only one. It logs the element that comes nearest to
// its tolerance, or exceeds it most, even when all is well. NaN never is.
func within[G, W float32 | float64](c *check, name string, got []G, want []W, tolerance []float64, shape ...int) {
	c.Helper()
	if len(got) != len(want) {
		c.fail("%s: %d numbers, want %d", name, len(got), len(want))
		return
	}
	if len(got) == 0 || len(tolerance) != 1 && len(tolerance) != len(want) {
		c.fail("%s: nothing to compare: %d numbers, %d tolerances", name, len(got), len(tolerance))
		return
	}
	at, worst, worstError, worstTolerance, bad := 0, -1.0, 0.0, 0.0, 0
	for i := range got {
		g, w := float64(got[i]), float64(want[i])
		tol, e := tolerance[min(i, len(tolerance)-1)], math.Abs(g-w)
		if g == w { // infinities too
			e = 0
		}
		ratio := e / tol
		switch {
		case e == 0 && !math.IsNaN(tol):
			ratio = 0
		case !(e <= tol):
			bad++
			if ratio = max(ratio, 1); math.IsNaN(ratio) {
				ratio = math.Inf(1)
			}
		}
		if ratio > worst {
			at, worst, worstError, worstTolerance = i, ratio, e, tol
		}
	}
	text := fmt.Sprintf("max error %.1e, tolerance %.1e, worst at %v", worstError, worstTolerance, index(at, len(got), shape))
	c.Logf("%s: %s", name, text)
	if bad > 0 {
		c.fail("%s, in %s: got %v, want %v; %d of %d are beyond", text, name, got[at], want[at], bad, len(got))
	}
}

// index turns the position at in n numbers into an index of the shape; the first
// dimension may be left out.
func index(at, n int, dims []int) []int {
	if len(dims) == 0 {
		return []int{at}
	}
	size := 1
	for _, d := range dims {
		size *= d
	}
	var idx []int
	if size != n {
		idx, at = append(idx, at/size), at%size
	}
	for _, d := range dims {
		size /= d
		idx, at = append(idx, at/size), at%size
	}
	return idx
}

// exact is within for numbers that must agree to the last bit: a copy, or one
// rounding of the same operands.
func exact[W float32 | float64](c *check, name string, got []float32, want []W, shape ...int) {
	c.Helper()
	within(c, name, got, want, []float64{0}, shape...)
}

// sameBits also tells 0 from -0.
func sameBits(c *check, name string, got, want []float32) {
	c.Helper()
	if len(got) != len(want) {
		c.fail("%s: %d numbers, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			c.fail("max error %.1e, tolerance 0, in %s: at %d got %v, want %v to the last bit", math.Abs(float64(got[i]-want[i])), name, i, got[i], want[i])
			return
		}
	}
	c.Logf("%s: %d numbers, the same bits", name, len(got))
}

// equal is for what is not a number.
func (c *check) equal(name string, got, want any) {
	c.Helper()
	if !reflect.DeepEqual(got, want) {
		c.fail("%s: got %.300s, want %.300s", name, show(got), show(want))
		return
	}
	c.Logf("%s: as it should be", name)
}

func show(x any) string {
	if s, ok := x.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(x)
}

// panics wants f to panic with a message of this package's that contains text.
func (c *check) panics(name, text string, f func()) {
	c.Helper()
	defer func() {
		c.Helper()
		if got, ok := recover().(string); !ok || !strings.HasPrefix(got, "qwen: ") || !strings.Contains(got, text) {
			c.fail("%s: got the panic %q, want one with %q", name, got, text)
		}
	}()
	f()
}

// must is for errors of helpers and of what is not under test.
func (c *check) must(err error) {
	c.Helper()
	if err != nil {
		c.fail("%v", err)
		c.FailNow()
	}
}

// ulp is the largest relative error of one rounding to float32.
const ulp = 1.0 / (1 << 24)

// times returns f*x for each x.
func times(f float64, x []float64) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = f * x[i]
	}
	return y
}

// A recording is a safetensors file that transformers filled. It is read by
// encoding/json and by the few lines below, and not by the package's own
// functions: those are under test, and a fault in one of them must not make every
// test fail.
type recording struct {
	c       *check
	file    string
	prefix  string // of the case, with its dot
	entries map[string]entry
	meta    map[string]string
}

type entry struct {
	DType   string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"`
	data    []byte
}

func read(c *check, file string) recording {
	c.Helper()
	f, err := os.Open(file)
	c.must(err)
	defer f.Close()
	data, err := io.ReadAll(f)
	c.must(err)
	n := 8 + int(data[0]) + int(data[1])<<8 + int(data[2])<<16
	var raw map[string]json.RawMessage
	c.must(json.Unmarshal(data[8:n], &raw))
	r := recording{c: c, file: file, entries: map[string]entry{}, meta: map[string]string{}}
	for name, text := range raw {
		if name == "__metadata__" {
			c.must(json.Unmarshal(text, &r.meta))
			continue
		}
		var e entry
		c.must(json.Unmarshal(text, &e))
		e.data = slices.Clip(data[n+e.Offsets[0] : n+e.Offsets[1]]) // to read behind it is a panic
		r.entries[name] = e
	}
	return r
}

// cases returns the recorded cases of testdata/ops/NAME.safetensors, of which
// there must be some.
func cases(c *check, name string) func(yield func(string, recording) bool) {
	r := read(c, "testdata/ops/"+name+".safetensors")
	names := strings.Fields(r.meta["cases"])
	if len(names) == 0 {
		c.fail("%s holds no cases", r.file)
	}
	return func(yield func(string, recording) bool) {
		for _, name := range names {
			r.prefix = name + "."
			if !yield(name, r) {
				return
			}
		}
	}
}

func (r recording) entry(name string) entry {
	r.c.Helper()
	e, ok := r.entries[r.prefix+name]
	if !ok {
		r.c.fail("%s: no tensor %s%s", r.file, r.prefix, name)
		r.c.FailNow()
	}
	return e
}

func (r recording) has(name string) bool { _, ok := r.entries[r.prefix+name]; return ok }

func (r recording) shape(name string) []int { r.c.Helper(); return r.entry(name).Shape }

// numbers returns a tensor of floating-point numbers.
func (r recording) numbers(name string) []float32 {
	r.c.Helper()
	return r.entry(name).numbers()
}

func (e entry) numbers() []float32 {
	var x []float32
	switch d := e.data; e.DType {
	case "F32":
		for i := 0; i < len(d); i += 4 {
			x = append(x, math.Float32frombits(uint32(d[i])|uint32(d[i+1])<<8|uint32(d[i+2])<<16|uint32(d[i+3])<<24))
		}
	case "BF16":
		for i := 0; i < len(d); i += 2 {
			x = append(x, math.Float32frombits(uint32(d[i])<<16|uint32(d[i+1])<<24))
		}
	case "F16":
		for i := 0; i < len(d); i += 2 {
			x = append(x, half(uint16(d[i])|uint16(d[i+1])<<8))
		}
	default:
		panic("a tensor of " + e.DType)
	}
	return x
}

// half is IEEE half precision, by its definition: sign, 5 bits of exponent, 10 of
// fraction.
func half(b uint16) float32 {
	exponent, fraction := int(b>>10&31), float64(b&1023)
	v := math.Ldexp(1024+fraction, exponent-25)
	switch {
	case exponent == 0:
		v = math.Ldexp(fraction, -24)
	case exponent == 31 && fraction == 0:
		v = math.Inf(1)
	case exponent == 31:
		v = math.NaN()
	}
	if b>>15 == 1 {
		v = -v
	}
	return float32(v)
}

// ids returns a tensor of I64.
func (r recording) ids(name string) []int {
	r.c.Helper()
	e := r.entry(name)
	if e.DType != "I64" {
		r.c.fail("%s: %s is %s, want I64", r.file, name, e.DType)
		r.c.FailNow()
	}
	var x []int
	for i := 0; i < len(e.data); i += 8 {
		v := 0
		for j := range 8 {
			v |= int(e.data[i+j]) << (8 * j)
		}
		x = append(x, v)
	}
	return x
}

// matrix returns a weight [rows, cols] as it lies in the file.
func (r recording) matrix(name string) Matrix {
	r.c.Helper()
	e := r.entry(name)
	return Matrix{DType(e.DType), e.Shape[0], e.Shape[1], e.data}
}

// number returns a parameter of the case.
func (r recording) number(name string) float64 {
	r.c.Helper()
	x, err := strconv.ParseFloat(r.meta[r.prefix+name], 64)
	r.c.must(err)
	return x
}

func (r recording) int(name string) int { r.c.Helper(); return int(r.number(name)) }
