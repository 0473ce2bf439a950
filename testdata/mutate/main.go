// Command mutate asks whether the tests bite: it changes one thing at a time in
// the package's sources, runs the tests on a copy, and says which changes they
// did not notice, and whether the verdict named the function that was changed.
//
//	go run ./testdata/mutate                 the known porting bugs, and 600 changes drawn by -seed
//	go run ./testdata/mutate -n 0            the porting bugs only
//	go run ./testdata/mutate -in rope.go     every change of one file (or function: -in RoPE)
//	go run ./testdata/mutate -list           what there is to change, without running anything
//
// A change that does not build is no mutant. One that cannot be noticed is listed
// in equivalent.txt with the reason. Whether a change is drawn depends on nothing but
// the seed and its own text, so that a draw can be tried in parts (-only), and stays
// the same in files that do not change. Run it from the root of the repository.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A mutant is one change of one file.
type mutant struct {
	file, function string
	kind           string
	line           int
	start, end     int    // bytes of the file that are replaced
	text           string // by this
	before, after  string // the line, as it was and as it is
	bug            *bug   // a named one

	number int  // in the binary of all, 0 if it is not there
	alone  bool // must be built alone

	outcome string // caught, not caught, equivalent, does not build
	verdict string // the function that the tests name
	reason  string // why it is equivalent, or the verdict line
	took    time.Duration
}

// key identifies a mutant in equivalent.txt, wherever it moves in the file.
func (m *mutant) key() string { return m.function + " | " + m.before + " | " + m.after }

func main() {
	count := flag.Int("n", 600, "about how many changes to draw of all files; every fourth or so does not build")
	seed := flag.Uint64("seed", 1, "of the draw")
	workers := flag.Int("workers", 2, "how many to try at the same time")
	in := flag.String("in", "", "only changes of this file or function, all of them")
	part := flag.String("part", "1/1", "of the changes, only one part of so many: 2/3")
	only := flag.String("only", "", "of the draw, only the changes of these files: a.go,b.go")
	from := flag.String("from", "", "not a draw, but the changes that this result file (-o) lists; those that it says were caught and named right, or are equivalent, are not tried again")
	list := flag.Bool("list", false, "list the changes, do not try them")
	named := flag.Bool("named", true, "try the known porting bugs")
	out := flag.String("o", "", "append every result to this file as it comes")
	flag.Parse()

	sources, err := readSources(".")
	check(err)
	var all []*mutant
	for _, name := range sources.names {
		if strings.HasSuffix(name, ".s") {
			all = append(all, assemblyMutants(name, sources.text[name])...)
		} else {
			more, err := goMutants(name, sources.text[name])
			check(err)
			all = append(all, more...)
		}
	}
	reasons, err := readEquivalent("testdata/mutate/equivalent.txt")
	check(err)

	var before []*mutant
	switch {
	case *from != "":
		all, before = readResults(*from, all)
	case *in != "":
		all = slices.DeleteFunc(all, func(m *mutant) bool { return m.file != *in && m.function != *in })
	default:
		all = draw(all, *seed, *count)
		if *only != "" {
			all = slices.DeleteFunc(all, func(m *mutant) bool { return !slices.Contains(strings.Split(*only, ","), m.file) })
		}
	}
	var k, parts int
	if _, err := fmt.Sscanf(*part, "%d/%d", &k, &parts); err != nil || k < 1 || k > parts {
		check(fmt.Errorf("found -part %s, expected such as 2/3", *part))
	}
	all = all[len(all)*(k-1)/parts : len(all)*k/parts]
	var bugs []*mutant
	if *named && *in == "" && *only == "" {
		for i := range portingBugs {
			m, err := portingBugs[i].mutant(sources)
			check(err)
			bugs = append(bugs, m)
		}
	}
	if *list {
		for _, m := range slices.Concat(bugs, all) {
			fmt.Printf("%s:%d %s: %s: %s  =>  %s\n", m.file, m.line, m.function, m.kind, m.before, m.after)
		}
		fmt.Printf("%d changes\n", len(bugs)+len(all))
		return
	}

	var log *os.File
	if *out != "" {
		log, err = os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		check(err)
	}
	run(sources, bugs, *workers, reasons, log)
	drawn := append(before, run(sources, all, *workers, reasons, log)...)
	report(os.Stdout, bugs, drawn)
}

// draw returns about n of the changes.
func draw(all []*mutant, seed uint64, n int) (drawn []*mutant) {
	times := map[string]int{}
	for _, m := range all {
		key := fmt.Sprint(m.file, m.kind, m.key())
		times[key]++
		h := fnv.New64a()
		fmt.Fprint(h, key, times[key])
		if rand.New(rand.NewPCG(seed, h.Sum64())).IntN(len(all)) < n {
			drawn = append(drawn, m)
		}
	}
	return drawn
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
}

// sources are the files of the package that can be changed.
type sources struct {
	dir   string
	pkg   string
	names []string
	text  map[string][]byte
}

func readSources(dir string) (sources, error) {
	s := sources{dir: dir, pkg: "qwen", text: map[string][]byte{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".s") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return s, err
		}
		if !builtHere(name, text) {
			continue // no test on this machine can see it
		}
		s.names = append(s.names, name)
		s.text[name] = text
	}
	return s, nil
}

// readEquivalent reads "function | line | changed line | reason", one a line.
func readEquivalent(file string) (map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " | ")
		if at < 0 || strings.Count(line, " | ") < 3 {
			return nil, fmt.Errorf("%s: %q has no reason", file, line)
		}
		reasons[line[:at]] = line[at+3:]
	}
	return reasons, nil
}

// readResults returns the mutants of a result file that are to be tried again, and
// the others.
func readResults(file string, all []*mutant) (again, done []*mutant) {
	data, err := os.ReadFile(file)
	check(err)
	byKey := map[string][]*mutant{}
	for _, m := range all {
		byKey[m.kind+m.key()] = append(byKey[m.kind+m.key()], m)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) < 7 || len(byKey[f[3]+f[4]]) == 0 {
			fmt.Fprintf(os.Stderr, "the source has changed: %s", line)
			continue
		}
		m := byKey[f[3]+f[4]][0]
		byKey[f[3]+f[4]] = byKey[f[3]+f[4]][1:]
		m.outcome, m.verdict = f[0], strings.Trim(f[5], "[]")
		if m.outcome == "equivalent" || m.rightly() == "named right" {
			done = append(done, m)
		} else {
			m.outcome, m.verdict = "", ""
			again = append(again, m)
		}
	}
	return again, done
}

// run tries mutants: those of one binary, and those that are built alone. What does
// not build does not count.
func run(s sources, mutants []*mutant, workers int, reasons map[string]string, log *os.File) (done []*mutant) {
	if len(mutants) == 0 {
		return nil
	}
	work, err := os.MkdirTemp("", "mutate-")
	check(err)
	defer os.RemoveAll(work)
	build, binary := filepath.Join(work, "build"), filepath.Join(work, "all.test")
	check(copyTree(build, s.dir))
	check(schemata(build, s, mutants, binary))
	var queue []*mutant
	for _, m := range mutants {
		if m.number > 0 || m.alone {
			queue = append(queue, m)
		}
	}
	fmt.Fprintf(os.Stderr, "%d changes, %d of them build or may\n", len(mutants), len(queue))

	var mu sync.Mutex
	want := len(queue)
	next := func() *mutant {
		mu.Lock()
		defer mu.Unlock()
		if len(queue) == 0 {
			return nil
		}
		m := queue[0]
		queue = queue[1:]
		return m
	}
	var all sync.WaitGroup
	for i := range workers {
		dir := filepath.Join(work, fmt.Sprint("worker", i))
		check(copyTree(dir, s.dir))
		all.Go(func() {
			for m := next(); m != nil; m = next() {
				m.try(dir, binary, s.text[m.file])
				mu.Lock()
				for _, key := range []string{m.key(), m.function + " | " + m.before + " | *", m.function + " | * | *"} {
					if why, ok := reasons[key]; ok && m.outcome == "not caught" {
						m.outcome, m.reason = "equivalent", why
					}
				}
				if m.outcome != "does not build" {
					done = append(done, m)
					line := fmt.Sprintf("%s\t%.1fs\t%s:%d\t%s\t%s\t[%s]\t%s\n", m.outcome, m.took.Seconds(), m.file, m.line, m.kind, m.key(), m.verdict, m.rightly())
					fmt.Fprintf(os.Stderr, "%d/%d %s", len(done), want, line)
					if log != nil {
						log.WriteString(line)
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return done
}

// copyTree copies what the tests need.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || rel == "cmd" || rel == "examples" || rel == "testdata/mutate") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
}

var copyNumber = regexp.MustCompile(`__\d+$`)

var verdictLine = regexp.MustCompile(`(?m)^FIRST BROKEN: ([^ ]+) .*$`)

// Tests that answer for a function are asked first, but for those that take most of
// the time and find next to nothing that others do not. All the rest is asked
// about what these let pass.
const slow = "^(TestBadInput|TestGuardedFile|TestCutFile|TestFlippedBits|TestShrunkFile|TestLinks|TestNotRegular|TestUnreadable|" +
	"TestOddInput|TestTiedInput|TestWriteRead|TestTokenizerGoroutines|TestTokenizerLongPieces|TestLinearSameBits|TestLinearBits|" +
	"TestJSONLimits|TestSafetensorsLimits|TestTokenizerLimits)$"

var testName = regexp.MustCompile(`^Test\w*$`)

var stageOf = regexp.MustCompile(`(?:golden|answers)\(t, "([^"]+)"`)

// groups are the stages of the diagnosis in the order of the verdict, in parts that
// are asked one after the other; what comes before them is the network, group 0.
var groups = [][]string{
	{"placeOf", "Recording", "yardstick", "plain"},
	{"plain.find", "mistake"},
	{"Growth.fit", "Compare"},
	{"Report.String", "Report.HTML"},
}

// testGroups returns the tests that answer for a function, by group.
func testGroups(dir string) (names [5][]string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		for _, f := range strings.Split(string(text), "\nfunc ")[1:] {
			name, _, ok := strings.Cut(f, "(t *testing.T) {")
			stage := stageOf.FindStringSubmatch(f)
			if ok && stage != nil && testName.MatchString(name) && !regexp.MustCompile(slow).MatchString(name) {
				group := 1 + slices.IndexFunc(groups, func(g []string) bool { return slices.Contains(g, stage[1]) })
				names[group] = append(names[group], name)
			}
		}
	}
	return names
}

// firstGroup says whose tests to ask first: those of functions that do not read the
// file come last, since it cannot break them.
var firstGroup = map[string]int{"diagnose.go": 1, "mistakes.go": 1, "report.go": 3, "page.go": 4}

// try runs the tests in dir: those of the binary with all mutants, or of this one
// alone, whose file is changed for the time.
func (m *mutant) try(dir, binary string, source []byte) {
	names := testGroups(dir)
	var order []string
	for i := range names {
		order = append(order, "-test.run=^("+strings.Join(names[(i+firstGroup[m.file])%len(names)], "|")+")$")
	}
	order = append(order, "-test.skip=^("+strings.Join(slices.Concat(names[:]...), "|")+")$")
	for _, which := range order {
		if m.outcome == "" || m.outcome == "not caught" {
			m.tests(dir, binary, source, which)
		}
	}
}

func (m *mutant) tests(dir, binary string, source []byte, which string) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.short", "-test.timeout=250s", which)
	cmd.Env = append(os.Environ(), fmt.Sprint("MUTANT=", m.number), "QWEN_TEST_FIRST=1")
	if m.alone {
		path := filepath.Join(dir, m.file)
		check(os.WriteFile(path, slices.Concat(source[:m.start], []byte(m.text), source[m.end:]), 0o644))
		defer os.WriteFile(path, source, 0o644)
		cmd = exec.CommandContext(ctx, "go", "test", "-vet=off", "-short", "-count=1", "-timeout=250s", "-ldflags=-s -w", strings.Replace(which, "-test.", "-", 1), ".")
		cmd.Env = append(os.Environ(), "QWEN_TEST_FIRST=1")
	}
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	output, err := cmd.CombinedOutput()
	m.took += time.Since(start)
	if match := verdictLine.FindSubmatch(output); match != nil {
		m.verdict, m.reason = copyNumber.ReplaceAllString(string(match[1]), ""), string(match[0])
	}
	switch {
	case err == nil:
		m.outcome = "not caught"
	case bytes.Contains(output, []byte("[build failed]")) || bytes.Contains(output, []byte("[setup failed]")):
		m.outcome = "does not build"
	default:
		m.outcome = "caught"
		if m.verdict == "" && m.reason == "" {
			m.reason = lastLines(output)
		}
	}
}

func lastLines(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " / ")
}
