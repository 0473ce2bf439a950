package qwen

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The reports here are made by hand, of numbers that are written out: what the text
// and the page make of them does not depend on any computation.

var none = Number(math.NaN())

// aRow is a line of a report's table.
func aRow(name, status string, own Number) TensorReport {
	at, _ := placeOf(name, 1000)
	return TensorReport{Name: name, MaxAbs: 2 * own, RMS: own / 4, Relative: own / 8, Cosine: 1 - own/1e3, OwnMaxAbs: own, OwnRelative: own / 8, OwnExcess: 1e6 * own, Status: status, Worst: []Spot{}, place: at}
}

// reports are the ones that are compared with testdata/report.
func reports() map[string]*Report {
	text := func(s string) *string { return &s }
	number := func(v Number) *Number { return &v }

	// A deep model that goes wrong in layer 5, its error growing over more decades than the axis has room for.
	long := &Report{Verdict: "differs", First: text("model.layers.5.self_attn.q_rope"), Cause: text("rope-theta"), Detail: "theta is <10000>", Value: number(10000), Residual: 4.9e-7,
		Others:   []Finding{{"model.layers.7.mlp.gated", "unknown", "largest own error 1, largest number 2 & more", nil}},
		Warnings: []string{"2 names not known, left out: <a>, b"}}
	long.Tensors = append(long.Tensors, aRow("model.embed_tokens", "ok", 0))
	for layer := range 30 {
		own := Number(2e-7)
		if layer == 5 {
			long.Tensors = append(long.Tensors,
				aRow("model.layers.5.self_attn.q_proj", "ok", 4e-7),
				aRow("model.layers.5.self_attn.k_proj", "missing", none),
				aRow("model.layers.5.self_attn.q_rope", "broken", 0.5),
				aRow("base.model.layers.5.self_attn.q_rope", "ok", 1e-7), // twice: the worse one is drawn
				aRow("model.layers.5.post_attention_layernorm", "inherited", 2e-5),
				aRow("model.layers.5.mlp.up_proj", "shape", none))
			long.Tensors[len(long.Tensors)-4].Worst = []Spot{{[]int{3, 0, 7}, 1.25, -0.5, -0.4}, {[]int{0, 1, 2}, 0, 1, Number(math.Inf(1))}, {[]int{7, 5, 9}, 3, none, none}}
			own = 3e-3
		}
		long.Tensors = append(long.Tensors, aRow(fmt.Sprintf("model.layers.%d", layer), "inherited", own))
	}
	long.Tensors = append(long.Tensors, aRow("lm_head", "inherited", 3e-7), aRow("model.layers.9.mlp.other", "ok", 1e-7))
	long.Growth = Growth{Fit: "exponential", Rate: 2.345, Expected: 8.8e3}
	for i := range 31 {
		l := LayerGrowth{Name: fmt.Sprintf("model.layers.%d", i-1), Error: Number(math.Ldexp(1e-9, 2*i)), Own: 2e-7, Increase: 4, ChangeMean: 1.5, ChangeMax: 2.25}
		switch i {
		case 0:
			l.Name, l.Error, l.Increase, l.ChangeMean, l.ChangeMax = "model.embed_tokens", 0, 0, 0, 0
		case 2, 3:
			for t := range 60 {
				l.positions = append(l.positions, []float64{0, 9e-6, 2e-5, 9e-5, 2e-4, 9e-3, 2e-2, 9e-2, 2e-1, math.Inf(1)}[(t+3*i)%10])
			}
		case 7:
			l.Own = Number(math.Inf(1))
		case 9:
			l.Error = none
		}
		long.Growth.Layers = append(long.Growth.Layers, l)
	}

	// Nothing is wrong, and there is more than the text has room for.
	match := &Report{Verdict: "match", Detail: "agreement to rounding, in 28 tensors", Others: []Finding{}, Warnings: []string{}}
	for layer := range 28 {
		match.Tensors = append(match.Tensors, aRow(fmt.Sprintf("model.layers.%d", layer), "ok", 1e-7*Number(layer*11%28)))
	}
	match.Tensors = append(match.Tensors, aRow("model.norm", "missing", none))
	match.Tensors[3].Cosine = none
	match.Growth = Growth{Fit: "linear", Rate: 2e-8, Expected: 5e-7, Layers: []LayerGrowth{
		{Name: "hidden_states.0", Error: 1e-7, Own: 2e-7, positions: []float64{1e-7, 2e-5, 2e-3, 2e-2, 2}},
		{Name: "hidden_states.1", Error: 5e-7, Own: 3e-7, Increase: 5, ChangeMean: 1, ChangeMax: 2, positions: []float64{1e-7, 2e-5, 2e-3, 2e-2, 2}},
	}}

	// A cause without a constant, and as many rows as the text lists; nothing to draw over the layers.
	short := &Report{Verdict: "mislabelled", First: text("model.norm"), Cause: text("final-norm-missing"), Detail: "taken before the final norm", Others: []Finding{}, Warnings: []string{}}
	for i := range mostRows - 1 {
		short.Tensors = append(short.Tensors, aRow(fmt.Sprintf("model.layers.%d", i), "ok", Number(i)/1e7))
	}
	short.Tensors = append(short.Tensors, aRow("model.norm", "broken", Number(math.Inf(1))))
	short.Growth.Layers = []LayerGrowth{{Name: "model.layers.0", Error: 1}}
	for r, layers := range map[*Report]int{long: 30, match: 28, short: mostRows - 1} {
		for i := range r.Tensors {
			r.Tensors[i].place, _ = placeOf(r.Tensors[i].Name, layers)
		}
	}
	return map[string]*Report{"long": long, "match": match, "short": short}
}

// sameText holds a text against a file of testdata/report. How a report looks is
// this package's to decide: where it is changed on purpose, look at what the test
// prints, and copy it.
func sameText(t *testing.T, file, got string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "report", file))
	if err != nil {
		t.Error(err)
	}
	want := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || line != want[i] {
			t.Errorf("%s:%d: got\n%s\nwant\n%s\nThe whole:\n%s", file, i+1, line, strings.Join(want[min(i, len(want)):min(i+1, len(want))], ""), got)
			return
		}
	}
	if n := strings.Count(got, "\n") + 1; n != len(want) {
		t.Errorf("%s: %d lines, want %d", file, n, len(want))
	}
}

func TestReportString(t *testing.T) {
	defer answers(t, "Report.String")()
	for name, r := range reports() {
		sameText(t, name+".txt", r.String())
	}
	for v, want := range map[Number]string{none: "-", Number(math.Inf(1)): "inf", Number(math.Inf(-1)): "inf", 0: "0", 1.26e-7: "1.3e-07", -20: "-2.0e+01"} {
		if got := v.String(); got != want {
			t.Errorf("%g is written %s, want %s", float64(v), got, want)
		}
	}
	for fit, want := range map[string]string{"linear": "linear, 2.5e+00 a layer", "exponential": "exponential, times 2.50 a layer", "bounded": "bounded"} {
		if got := (Growth{Fit: fit, Rate: 2.5}).rateText(); got != want {
			t.Errorf("%s: got %s, want %s", fit, got, want)
		}
	}
	got, err := json.Marshal([]Number{none, Number(math.Inf(1)), Number(math.Inf(-1)), 0.5})
	if want := "[null,null,null,0.5]"; err != nil || string(got) != want {
		t.Errorf("as JSON: got %s, %v, want %s", got, err, want)
	}
}

func TestReportHTML(t *testing.T) {
	defer answers(t, "Report.HTML")()
	for name, r := range reports() {
		page := r.HTML("a<b")
		_, body, _ := strings.Cut(page, "<main>\n")
		sameText(t, name+".html", body)
		if !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.Contains(page, "<title>qwen diff: a&lt;b</title>") || strings.Contains(page, "<script") || strings.Contains(page, "http") {
			t.Errorf("%s: the page names something from elsewhere, or does not escape", name)
		}
	}
}

// TestReportNothing draws nothing of what was not recorded.
func TestReportNothing(t *testing.T) {
	defer answers(t, "Report.HTML")()
	page := (&Report{Verdict: "match", Tensors: []TensorReport{aRow("lm_head", "ok", 0)}}).HTML("")
	if strings.Contains(page, "<svg") || strings.Count(page, "<h2") != 1 {
		t.Errorf("got %s", page[strings.Index(page, "<main>"):])
	}
	first, cause := "input_ids", "unknown"
	empty := &Report{Verdict: "differs", First: &first, Cause: &cause, Detail: "the ids differ", Residual: 1}
	if page := empty.HTML(""); strings.Contains(page, "<table") {
		t.Errorf("a table of nothing: %s", page[strings.Index(page, "<main>"):])
	}
	if got, want := empty.String(), "verdict   differs\nfirst     input_ids\ncause     unknown, residual 1.0e+00\ndetail    the ids differ\ntensors   none was compared\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// oddNames are reports with names that a terminal would obey, that are very long, and that
// have something in front.
func oddNames(t *testing.T) (reports []*Report) {
	m, ids, good, _ := portOf(t, "qwen3-tiny")
	rec := good.with(port{"model.norm": nil, "\a.model.norm": scaledBy(good["model.norm"], 2), "base.model.layers.1.mlp.gated": good["model.layers.1.mlp.gated"], "model.layers.1.mlp.gated": nil}).recording(m, ids)
	rec.Tensors = append(rec.Tensors, NewTensor("\x1b[31m"+strings.Repeat("x", 1<<20), nil, 0))
	for _, o := range []CompareOptions{{}, {Ours: good.recording(m, ids)}} {
		r, err := o.Compare(m, rec)
		if err != nil || *r.First != "\a.model.norm" {
			t.Fatalf("got %v, %v", err, r)
		}
		reports = append(reports, r)
	}
	return reports
}

// isHarmless says whether a text about oddNames can be shown.
func isHarmless(text string) bool {
	return !strings.ContainsAny(text, "\a\x1b") && len(text) < 1<<16 && strings.Contains(text, `\a.model.norm`)
}

func TestReportNames(t *testing.T) {
	defer answers(t, "Report.String")()
	for _, r := range oddNames(t) {
		if text := r.String(); !isHarmless(text) {
			t.Errorf("%d bytes: %.2000q", len(text), text)
		}
	}
	// The whole of a long name of another's, and how an absurd one is cut.
	long := "base_model.model.model.layers.27.self_attn.o_proj_inputs_args_0"
	if got := shown(long); got != long {
		t.Errorf("got %s", got)
	}
	for name, want := range map[string]int{strings.Repeat("x", 120): 120, strings.Repeat("x", 121): 63, strings.Repeat("\x01", 121): 4*60 + 5} {
		if got := shown(name); len(got) != want {
			t.Errorf("%d bytes are shown as %d, want %d", len(name), len(got), want)
		}
	}
}

func TestReportNamesHTML(t *testing.T) {
	defer answers(t, "Report.HTML")()
	for _, r := range oddNames(t) {
		if page := r.HTML(""); !isHarmless(page) || !strings.Contains(page, "<title>base.model.layers.1.mlp.gated: ok") {
			t.Errorf("%d bytes: %.2000q", len(page), page)
		}
	}
	// Without a model the names alone say what there is to draw.
	x := []Tensor{NewTensor("model.layers.4.mlp.other", []float32{1}, 1), NewTensor("a", []float32{1}, 1)}
	y := append(x, NewTensor("net.layers.1.mlp.gated", []float32{1}, 1), NewTensor("net.norm", []float32{1}, 1))
	for _, tt := range []struct {
		tensors []Tensor
		cells   int
	}{{x, 0}, {y, 2}} {
		r := &Recording{IDs: []int{1}, Tensors: tt.tensors}
		report, err := CompareOptions{Ours: r}.Compare(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		if page := report.HTML(""); strings.Count(page, "<rect") != tt.cells || strings.Contains(page, "<svg") != (tt.cells > 0) {
			t.Errorf("%d tensors: %d cells, want %d", len(tt.tensors), strings.Count(page, "<rect"), tt.cells)
		}
	}
}

// An element of a page: its name, its attributes, the text in it, and that of a
// <title> in it.
type element struct {
	name, class, d, text, title string
	x, y, width, height         float64
}

// elements returns those of the part of a page that begins with a heading.
func elements(t *testing.T, page, heading string) (all []element) {
	t.Helper()
	_, part, ok := strings.Cut(page, "<h2>"+heading)
	part, _, _ = strings.Cut(part, "<h2")
	part, _, _ = strings.Cut(part, "</main>")
	if !ok {
		t.Fatalf("the page has no heading %q", heading)
	}
	r := xml.NewDecoder(strings.NewReader("<h2>" + part))
	r.Strict, r.AutoClose, r.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	inTitle, open := false, false
	for {
		token, err := r.Token()
		if err == io.EOF || err != nil && strings.Contains(err.Error(), "unexpected EOF") {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if inTitle = token.Name.Local == "title"; inTitle {
				continue
			}
			e := element{name: token.Name.Local}
			for _, a := range token.Attr {
				v, _ := strconv.ParseFloat(a.Value, 64)
				switch a.Name.Local {
				case "class":
					e.class = a.Value
				case "d":
					e.d = a.Value
				case "x":
					e.x = v
				case "y":
					e.y = v
				case "width":
					e.width = v
				case "height":
					e.height = v
				}
			}
			all, open = append(all, e), true
		case xml.CharData:
			if inTitle {
				all[len(all)-1].title += string(token)
			} else if open {
				all[len(all)-1].text += string(token)
			}
		case xml.EndElement:
			inTitle, open = false, false
		}
	}
}

// TestReportCharts reads the charts back: the value of a point by the labels of the
// axes, the step and the layer of a cell by its row's and its column's label.
func TestReportCharts(t *testing.T) {
	defer answers(t, "Report.HTML")()
	for _, name := range []string{"long", "match"} {
		r := reports()[name]
		page := r.HTML("")
		chart := elements(t, page, "Error over the layers")
		var levels, powers, columns []float64 // y of a power of ten; x of a layer
		var names []string
		for _, e := range chart {
			switch power, isPower := strings.CutPrefix(e.text, "1e"); {
			case e.name == "text" && isPower:
				p, _ := strconv.ParseFloat(power, 64)
				levels, powers = append(levels, e.y-4), append(powers, p)
			case e.name == "text":
				columns, names = append(columns, e.x), append(names, e.text)
			}
		}
		value := func(y float64) float64 {
			n := len(levels) - 1
			return math.Pow(10, powers[0]+(y-levels[0])*(powers[n]-powers[0])/(levels[n]-levels[0]))
		}
		if len(names) < 2 || len(levels) < 2 || len(levels) > 11 {
			t.Fatalf("%s: %d labels of layers, %d of powers", name, len(names), len(levels))
		}
		each := len(r.Growth.Layers) / len(names) // layers by label
		if len(r.Growth.Layers)%len(names) > 0 {
			each++
		}
		step := (columns[len(names)-1] - columns[0]) / float64((len(names)-1)*each)
		for i, label := range names {
			if got := shortLayer(r.Growth.Layers[i*each].Name); label != got || math.Abs(columns[i]-columns[0]-step*float64(i*each)) > 0.11 {
				t.Errorf("%s: label %d is %s at %g", name, i, label, columns[i])
			}
		}
		for _, line := range []struct {
			class string
			of    func(LayerGrowth) Number
		}{{"chain", func(l LayerGrowth) Number { return l.Error }}, {"own", func(l LayerGrowth) Number { return l.Own }}} {
			var want []element
			for i, l := range r.Growth.Layers {
				if v := float64(line.of(l)); v > 0 && !math.IsInf(v, 0) {
					want = append(want, element{x: columns[0] + step*float64(i), y: v})
				}
			}
			for _, e := range chart {
				if e.class != line.class {
					continue
				}
				points := strings.FieldsFunc(e.d, func(r rune) bool { return r == 'M' || r == 'L' })
				if len(points) != len(want) || strings.Count(e.d, "M") != 1 || e.d[0] != 'M' {
					t.Errorf("%s, %s: %d points, want %d, in %s", name, line.class, len(points), len(want), e.d)
					continue
				}
				for i, p := range points {
					var x, y float64
					if _, err := fmt.Sscan(p, &x, &y); err != nil || math.Abs(x-want[i].x) > 0.11 || math.Abs(math.Log10(value(y)/want[i].y)) > 0.02 {
						t.Errorf("%s, %s: point %d at %s is %.3g, want %.3g at %g", name, line.class, i, p, value(y), want[i].y, want[i].x)
					}
				}
			}
		}

		rows, cols := map[float64]string{}, map[float64]string{}
		cells := elements(t, page, "Own error of every step")
		for _, e := range cells {
			if _, err := strconv.Atoi(e.text); e.name == "text" && err == nil {
				cols[e.x] = e.text
			} else if e.name == "text" {
				rows[e.y] = strings.Replace(e.text, "post_attn_norm", "post_attention_layernorm", 1)
			}
		}
		drawn := 0
		for _, e := range cells {
			if e.name != "rect" {
				continue
			}
			drawn++
			at, _, _ := strings.Cut(e.title, ": ")
			p, ok := placeOf(at, 30)
			if label := cols[e.x+e.width/2]; !ok || rows[e.y+12] != p.op || label != "" && label != fmt.Sprint(p.layer) {
				t.Errorf("%s: the cell of %s is in the row of %s, in column %q", name, e.title, rows[e.y+12], label)
			}
			status, class := "", ""
			for _, x := range r.Tensors {
				if x.Name != at || status != "" {
					continue
				}
				status = fmt.Sprintf("%s: %s, own %s", x.Name, x.Status, x.OwnMaxAbs)
				switch v := float64(x.OwnExcess); {
				case math.IsNaN(v):
					class = "none"
				case v <= 0.3:
					class = "c0"
				case v <= 1:
					class = "c1"
				case v <= 100:
					class = "c2"
				case v <= 10_000:
					class = "c3"
				default:
					class = "c4"
				}
			}
			if e.title != status || e.class != class {
				t.Errorf("%s: a cell of class %s says %q, want %s, %q", name, e.class, e.title, class, status)
			}
		}
		if want := map[string]int{"long": 37, "match": 29}[name]; drawn != want || len(rows) != len(steps) {
			t.Errorf("%s: %d cells in %d rows, want %d in %d", name, drawn, len(rows), want, len(steps))
		}

		rows, cols = map[float64]string{}, map[float64]string{}
		cells = elements(t, page, "Error by position")
		for _, e := range cells {
			if e.name == "text" && e.x == 38 {
				rows[e.y] = e.text
			} else if e.name == "text" {
				cols[e.x] = e.text
			}
		}
		drawn = 0
		for _, e := range cells {
			if e.name != "rect" {
				continue
			}
			drawn++
			at, rest, _ := strings.Cut(e.title, ", position ")
			position, number, _ := strings.Cut(rest, ": ")
			i, _ := strconv.Atoi(position)
			for _, l := range r.Growth.Layers {
				if l.Name != at {
					continue
				}
				v := l.positions[i]
				class := "c4"
				for j, limit := range []float64{1e-5, 1e-4, 1e-2, 1e-1} {
					if v <= limit {
						class = fmt.Sprint("c", j)
						break
					}
				}
				if e.class != class || number != Number(v).String() || rows[e.y+11] != shortLayer(at) {
					t.Errorf("%s: a cell of class %s in the row of %s says %q, want class %s for %g", name, e.class, rows[e.y+11], e.title, class, v)
				}
			}
			if label := cols[e.x+math.Ceil(e.width/2)]; label != "" && label != position {
				t.Errorf("%s: the cell of %s is in column %s", name, e.title, label)
			}
		}
		if want := map[string]int{"long": 120, "match": 10}[name]; drawn != want {
			t.Errorf("%s: %d cells, want %d", name, drawn, want)
		}
	}
}

// TestColour goes to both sides of every limit.
func TestColour(t *testing.T) {
	defer answers(t, "Report.HTML")()
	for v, want := range map[float64]string{0: "c0", 0.3: "c0", 0.31: "c1", 1: "c1", 1.01: "c2", 100: "c2", 100.1: "c3", 1e4: "c3", 10000.5: "c4", math.Inf(1): "c4", math.NaN(): "none"} {
		if got := colour(v); got != want {
			t.Errorf("%g: got %s, want %s", v, got, want)
		}
	}
}

// TestLogScale has the ends of the axis, and what cannot be drawn.
func TestLogScale(t *testing.T) {
	defer answers(t, "Report.HTML")()
	for _, tt := range []struct {
		values    []float64
		low, high int
	}{
		{[]float64{2e-7, 3e-2}, -7, -1},
		{[]float64{3e-2, 2e-7, 0, -1, math.Inf(1), math.NaN()}, -7, -1},
		{[]float64{1e-3}, -3, -2},
		{[]float64{0}, -8, 0},
		{nil, -8, 0},
	} {
		if s := newLogScale(200, tt.values...); s != (logScale{tt.low, tt.high, 200}) {
			t.Errorf("%v: got %v, want 1e%d to 1e%d", tt.values, s, tt.low, tt.high)
		}
	}
	s := logScale{-4, 0, 200}
	for v, want := range map[float64]float64{1: 0, 1e-4: 200, 1e-2: 100, 1e-1: 50, 1e3: 0, 1e-9: 200, 0: 200, -1: 200, math.NaN(): 200} {
		if got := s.y(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("%g is at %g, want %g", v, got, want)
		}
	}
}

// TestReportSizes draws reports of many lengths: the charts stay narrow as long as
// they can be read, and labels do not run into each other.
func TestReportSizes(t *testing.T) {
	defer answers(t, "Report.HTML")()
	labels := func(all []element, prefix string) (text string) {
		for _, e := range all {
			if number, ok := strings.CutPrefix(e.text, prefix); ok && e.name == "text" {
				text += " " + number
			}
		}
		return text
	}
	numbers := func(n, every int) (text string) {
		for i := 0; i < n; i += every {
			text += fmt.Sprint(" ", i)
		}
		return text
	}
	for _, tt := range []struct {
		seq, cell, every int // tokens, width of a cell, cells between two labels
	}{{1, 16, 2}, {43, 16, 2}, {44, 15, 2}, {60, 11, 3}, {70, 10, 4}, {87, 8, 5}, {100, 7, 5}, {140, 5, 8}, {141, 4, 10}, {175, 4, 10}, {300, 4, 10}} {
		r := &Report{Growth: Growth{Layers: []LayerGrowth{{Name: "model.layers.0", positions: make([]float64, tt.seq)}}}}
		all := elements(t, r.HTML(""), "Error by position")
		var cells, texts []element
		for _, e := range all {
			if e.name == "rect" {
				cells = append(cells, e)
			} else if e.name == "text" && e.x != 38 {
				texts = append(texts, e)
			}
		}
		if len(cells) != tt.seq || cells[0].width != float64(max(tt.cell-1, 3)) || tt.seq > 1 && cells[1].x-cells[0].x != float64(tt.cell) {
			t.Errorf("%d tokens: %d cells, the first %+v", tt.seq, len(cells), cells[0])
		}
		if got := labels(texts, ""); got != numbers(tt.seq, tt.every) {
			t.Errorf("%d tokens: labels%s", tt.seq, got)
		}
	}
	for _, tt := range []struct {
		layers int
		step   float64 // between two layers
		every  int     // layers between two labels of the chart
		strip  int     // and of the steps
	}{{2, 60, 1, 1}, {10, 60, 1, 1}, {11, 58.2, 1, 1}, {23, 27.8, 1, 1}, {24, 26.7, 1, 2}, {25, 25.6, 2, 2}, {36, 17.8, 2, 3}, {45, 14.2, 2, 3}, {46, 14, 2, 3}, {80, 14, 2, 6}} {
		r := &Report{}
		for i := range tt.layers {
			name := fmt.Sprintf("model.layers.%d", i)
			r.Growth.Layers = append(r.Growth.Layers, LayerGrowth{Name: name, Error: 1e-3, Own: 1e-3})
			r.Tensors = append(r.Tensors, aRow(name, "ok", 1e-7))
		}
		page := r.HTML("")
		var x []float64
		for _, e := range elements(t, page, "Error over the layers") {
			if e.class == "chain" {
				for _, point := range strings.FieldsFunc(e.d, func(r rune) bool { return r == 'M' || r == 'L' }) {
					at, _ := strconv.ParseFloat(strings.Fields(point)[0], 64)
					x = append(x, at)
				}
			}
		}
		if len(x) != tt.layers || math.Abs(x[1]-x[0]-tt.step) > 0.11 {
			t.Errorf("%d layers: points at %v", tt.layers, x)
		}
		var texts []element
		for _, e := range elements(t, page, "Error over the layers") {
			if e.y == 228 {
				texts = append(texts, e)
			}
		}
		if got := labels(texts, ""); got != numbers(tt.layers, tt.every) {
			t.Errorf("%d layers: labels%s", tt.layers, got)
		}
		texts = texts[:0]
		for _, e := range elements(t, page, "Own error of every step") {
			if _, err := strconv.Atoi(e.text); err == nil {
				texts = append(texts, e)
			}
		}
		if got := labels(texts, ""); got != numbers(tt.layers, tt.strip) {
			t.Errorf("%d layers: labels of the steps%s", tt.layers, got)
		}
	}
	for decades, want := range map[int]string{1: " -1 0", 10: " -10 -9 -8 -7 -6 -5 -4 -3 -2 -1 0", 11: " -11 -9 -7 -5 -3 -1", 12: " -12 -10 -8 -6 -4 -2 0"} {
		r := &Report{Growth: Growth{Layers: []LayerGrowth{{Name: "model.layers.0", Error: Number(1.5 * math.Pow10(-decades)), Own: 0.5}, {Name: "model.layers.1", Error: 0.5}}}}
		if got := labels(elements(t, r.HTML(""), "Error over the layers"), "1e"); got != want {
			t.Errorf("%d decades: labels%s, want%s", decades, got, want)
		}
	}
}
