package qwen

// A Report for people: as text for a terminal, and as one page that needs nothing
// from elsewhere, with charts drawn in SVG. The page follows the reader's choice
// of light or dark, and its charts scroll sideways where the screen is narrow.
//
// Next: kernel.go

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// mostRows is how many tensors the text lists before it keeps to the layer in
// which the first one is wrong.
const mostRows = 24

// String is the report as text: the verdict, the tensors around the first that is
// wrong, and the error over the layers.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "verdict   %s\n", r.Verdict)
	if r.First != nil {
		fmt.Fprintf(&b, "first     %s\ncause     %s", shown(*r.First), *r.Cause)
		if r.Value != nil {
			fmt.Fprintf(&b, ", value %.6g", float64(*r.Value))
		}
		fmt.Fprintf(&b, ", residual %s\n", r.Residual)
	}
	fmt.Fprintf(&b, "detail    %s\ntensors   %s\n", r.Detail, r.counts())
	for _, o := range r.Others {
		fmt.Fprintf(&b, "also      %s: %s: %s\n", shown(o.First), o.Cause, o.Detail)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning   %s\n", w)
	}
	r.writeRows(&b)
	r.writeGrowth(&b)
	return b.String()
}

// counts says how many tensors have which status.
func (r *Report) counts() string {
	if len(r.Tensors) == 0 {
		return "none was compared"
	}
	n := map[string]int{}
	for _, t := range r.Tensors {
		n[t.Status]++
	}
	var all []string
	for _, status := range []string{"ok", "broken", "inherited", "shape", "missing"} {
		if n[status] > 0 {
			all = append(all, fmt.Sprintf("%d %s", n[status], status))
		}
	}
	return strings.Join(all, ", ")
}

// around returns the tensors to list: those that are not missing, and of many
// only those near the first that is wrong.
func (r *Report) around() (rows []TensorReport, left int) {
	for _, t := range r.Tensors {
		if t.Status != "missing" {
			rows = append(rows, t)
		}
	}
	if len(rows) <= mostRows {
		return rows, 0
	}
	at := slices.IndexFunc(rows, func(t TensorReport) bool { return r.First != nil && t.Name == *r.First })
	if at < 0 { // nothing is wrong: the worst ones, which say how close it was
		slices.SortStableFunc(rows, func(a, b TensorReport) int { return -compareFloat(float64(a.OwnExcess), float64(b.OwnExcess)) })
		return rows[:6], len(rows) - 6
	}
	from := max(0, at-4)                  // a few of those that are right, to see the step
	to := min(len(rows), from+mostRows-4) // and the rest of a layer after it
	return rows[from:to], len(rows) - (to - from)
}

func (r *Report) writeRows(b *strings.Builder) {
	rows, left := r.around()
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(b)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tensor\tmax abs\trms\trelative\tcosine\town max abs\town÷rounding\tstatus\t")
	for _, t := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", shown(t.Name), t.MaxAbs, t.RMS, t.Relative, cosineText(t.Cosine), t.OwnMaxAbs, t.OwnExcess, t.Status)
	}
	w.Flush()
	if left > 0 {
		fmt.Fprintf(b, "and %d more (-json lists all)\n", left)
	}
	for _, t := range rows {
		if r.First == nil || t.Name != *r.First || len(t.Worst) == 0 {
			continue
		}
		fmt.Fprintf(b, "\nworst numbers of %s\n", shown(t.Name))
		for _, s := range t.Worst {
			fmt.Fprintf(b, "  %v  ours %.6g  reference %.6g  ratio %.4g\n", s.Index, float64(s.Ours), float64(s.Reference), float64(s.Ratio))
		}
	}
}

// String is the number with two digits, - if there is none.
func (n Number) String() string {
	switch v := float64(n); {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 0):
		return "inf"
	case v == 0:
		return "0"
	}
	return fmt.Sprintf("%.1e", float64(n))
}

func cosineText(n Number) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return fmt.Sprintf("%.6f", float64(n))
}

func (r *Report) writeGrowth(b *strings.Builder) {
	if len(r.Growth.Layers) < 2 {
		return
	}
	fmt.Fprintln(b)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "block output\terror\tincrease\town\tchange of the stream\tlargest\t")
	for _, l := range r.Growth.Layers {
		fmt.Fprintf(w, "%s\t%s\t%.3g\t%s\t%.3g\t%.3g\t\n", shown(l.Name), l.Error, float64(l.Increase), l.Own, float64(l.ChangeMean), float64(l.ChangeMax))
	}
	w.Flush()
	if g := r.Growth; g.Fit != "" {
		fmt.Fprintf(b, "growth of the error: %s; expected after the last layer %s, found %s\n", g.rateText(), g.Expected, g.Layers[len(g.Layers)-1].Error)
	}
}

// rateText says how the error grows.
func (g Growth) rateText() string {
	switch g.Fit {
	case "linear":
		return fmt.Sprintf("linear, %s a layer", g.Rate)
	case "exponential":
		return fmt.Sprintf("exponential, times %.2f a layer", float64(g.Rate))
	}
	return g.Fit
}

// HTML is the report as a page. title says what was compared.
func (r *Report) HTML(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, html.EscapeString(title))
	fmt.Fprintf(&b, "<header class=\"%s\"><p class=\"verdict\">%s</p><p>%s</p>", r.Verdict, r.Verdict, html.EscapeString(r.Detail))
	if r.First != nil {
		fmt.Fprintf(&b, "<dl><dt>first</dt><dd>%s</dd><dt>cause</dt><dd>%s</dd>", html.EscapeString(shown(*r.First)), *r.Cause)
		if r.Value != nil {
			fmt.Fprintf(&b, "<dt>value</dt><dd>%.6g</dd>", float64(*r.Value))
		}
		fmt.Fprintf(&b, "<dt>residual</dt><dd>%s</dd></dl>", r.Residual)
	}
	fmt.Fprintf(&b, "<p class=\"note\">%s &middot; %s</p></header>\n", html.EscapeString(title), r.counts())
	for _, o := range r.Others {
		fmt.Fprintf(&b, "<p>also <b>%s</b>: %s: %s</p>\n", html.EscapeString(shown(o.First)), o.Cause, html.EscapeString(o.Detail))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "<p class=\"note\">%s</p>\n", html.EscapeString(w))
	}
	r.growthChart(&b)
	r.strip(&b)
	r.positions(&b)
	r.table(&b)
	b.WriteString("</main></body></html>\n")
	return b.String()
}

const pageHead = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>qwen diff: %s</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #5b6570; --line: #d5dae0; --ink: #0b62c4; --own: #b3470b;
  --c0: #e3ecf5; --c1: #b9d3ec; --c2: #f6c667; --c3: #e8833a; --c4: #bb2b2b; --good: #1a7a3c; --bad: #b3261e; --warn: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --text: #e6e9ed; --soft: #9aa4af; --line: #343b44; --ink: #6db3ff; --own: #ff9a5c;
  --c0: #22303f; --c1: #33526f; --c2: #8f6f1c; --c3: #c8702a; --c4: #f0605a; --good: #5fd08a; --bad: #ff7b72; --warn: #e3b341 } }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 1rem }
header { border-left: .4rem solid var(--bad); padding: .2rem 0 .2rem 1rem; overflow-wrap: anywhere }
header.match { border-color: var(--good) } header.precision, header.mislabelled { border-color: var(--warn) }
.verdict { font-size: 2rem; font-weight: 700; margin: 0; color: var(--bad) }
.match .verdict { color: var(--good) } .precision .verdict, .mislabelled .verdict { color: var(--warn) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0 } dt { color: var(--soft) } dd { margin: 0; font-weight: 600 }
h2 { font-size: 1.15rem; margin: 2rem 0 .2rem } .note { color: var(--soft); font-size: .9rem; margin: .2rem 0 .6rem; overflow-wrap: anywhere }
.wide { overflow-x: auto } svg { display: block } svg text { fill: var(--soft); font: 11px system-ui, sans-serif }
.axis { stroke: var(--line); fill: none } .chain { stroke: var(--ink); fill: none; stroke-width: 2 } .own { stroke: var(--own); fill: none; stroke-width: 2 }
.c0 { fill: var(--c0) } .c1 { fill: var(--c1) } .c2 { fill: var(--c2) } .c3 { fill: var(--c3) } .c4 { fill: var(--c4) } .none { fill: none; stroke: var(--line) }
.key span { display: inline-block; width: .9rem; height: .9rem; vertical-align: -.1rem; margin: 0 .25rem 0 .9rem } 
.k0 { background: var(--c0) } .k1 { background: var(--c1) } .k2 { background: var(--c2) } .k3 { background: var(--c3) } .k4 { background: var(--c4) } .kc { background: var(--ink) } .ko { background: var(--own) }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums } td, th { padding: .15rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
td:first-child, th:first-child { text-align: left } tr.broken td { color: var(--bad) } tr.missing td { color: var(--soft) }
</style></head><body><main>
`

// logScale maps values to heights, by powers of ten.
type logScale struct {
	low, high int // exponents
	height    float64
}

func newLogScale(height float64, values ...float64) logScale {
	s := logScale{math.MaxInt, math.MinInt, height}
	for _, v := range values {
		if v > 0 && !math.IsInf(v, 0) {
			s.low, s.high = min(s.low, int(math.Floor(math.Log10(v)))), max(s.high, int(math.Ceil(math.Log10(v))))
		}
	}
	if s.low > s.high {
		s.low, s.high = -8, 0
	}
	if s.low == s.high {
		s.high++
	}
	return s
}

// y is the distance of v from the top.
func (s logScale) y(v float64) float64 {
	if !(v > 0) {
		return s.height
	}
	at := (math.Log10(v) - float64(s.low)) / float64(s.high-s.low)
	return s.height * (1 - min(max(at, 0), 1))
}

// growthChart draws the error after each layer.
func (r *Report) growthChart(b *strings.Builder) {
	layers := r.Growth.Layers
	if len(layers) < 2 {
		return
	}
	var values []float64
	for _, l := range layers {
		values = append(values, float64(l.Error), float64(l.Own))
	}
	s := newLogScale(200, values...)
	step := max(14, min(60, 640/float64(len(layers))))
	width := 60 + step*float64(len(layers))
	fmt.Fprintf(b, "<h2>Error over the layers</h2><p class=\"note key\"><span class=\"kc\"></span>error of the whole chain, rms of the difference ÷ rms of the reference <span class=\"ko\"></span>largest own error ÷ largest number</p><div class=\"wide\"><svg width=\"%.0f\" height=\"250\" role=\"img\" aria-label=\"error over the layers\">", width)
	for e := s.low; e <= s.high; e++ {
		y := 10 + s.y(math.Pow10(e))
		fmt.Fprintf(b, "<path class=\"axis\" d=\"M48 %.1fH%.0f\"/>", y, width)
		if (s.high-s.low) <= 10 || (e-s.low)%2 == 0 {
			fmt.Fprintf(b, "<text x=\"44\" y=\"%.1f\" text-anchor=\"end\">1e%d</text>", y+4, e)
		}
	}
	for _, line := range []struct {
		class string
		of    func(LayerGrowth) Number
	}{{"chain", func(l LayerGrowth) Number { return l.Error }}, {"own", func(l LayerGrowth) Number { return l.Own }}} {
		var path strings.Builder
		pen := "M"
		for i, l := range layers {
			if v := float64(line.of(l)); v > 0 && !math.IsInf(v, 0) {
				fmt.Fprintf(&path, "%s%.1f %.1f", pen, 56+step*float64(i), 10+s.y(v))
				pen = "L"
			}
		}
		fmt.Fprintf(b, "<path class=\"%s\" d=\"%s\"/>", line.class, path.String())
	}
	every := int(math.Ceil(26 / step))
	for i, l := range layers {
		if i%every == 0 {
			fmt.Fprintf(b, "<text x=\"%.1f\" y=\"228\" text-anchor=\"middle\">%s</text>", 56+step*float64(i), shortLayer(l.Name))
		}
	}
	b.WriteString("</svg></div>")
	if r.Growth.Fit != "" {
		fmt.Fprintf(b, "<p class=\"note\">Growth: %s. Expected after the last layer %s, found %s.</p>", r.Growth.rateText(), r.Growth.Expected, layers[len(layers)-1].Error)
	}
	b.WriteString("\n")
}

// shortLayer is a block output's name for an axis.
func shortLayer(name string) string {
	if strings.HasSuffix(name, "embed_tokens") {
		return "emb"
	}
	return name[strings.LastIndexByte(name, '.')+1:]
}

// colour is the class of an own error in units of what rounding allows: up to 0.3 it is as
// usual, up to 1 nothing to explain; a mistake makes more than 100 as a rule.
func colour(excess float64) string {
	switch {
	case math.IsNaN(excess):
		return "none"
	case excess <= 0.3:
		return "c0"
	case excess <= 1:
		return "c1"
	case excess <= 100:
		return "c2"
	case excess <= 1e4:
		return "c3"
	}
	return "c4"
}

// strip draws layers × steps, coloured by own error.
func (r *Report) strip(b *strings.Builder) {
	const cell, left = 16, 132
	layers, found := 0, map[place]TensorReport{}
	for _, t := range r.Tensors {
		if t.place.op != "norm" && t.place.op != "lm_head" && t.place.op != "" {
			layers = max(layers, t.place.layer+1)
		}
		if old, twice := found[t.place]; !twice || old.OwnExcess < t.OwnExcess {
			found[t.place] = t
		}
	}
	if layers == 0 {
		return
	}
	fmt.Fprintf(b, `<h2>Own error of every step</h2><p class="note key">in units of what rounding allows: <span class="k0"></span>to 0.3<span class="k1"></span>to 1<span class="k2"></span>to 100<span class="k3"></span>to 10&#8239;000<span class="k4"></span>more; an empty cell was not recorded</p>`)
	fmt.Fprintf(b, "<div class=\"wide\"><svg width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"own error by layer and step\">", left+cell*(layers+2), cell*len(steps)+22)
	for row, s := range steps {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", left-6, row*cell+12, strings.Replace(s.op, "post_attention_layernorm", "post_attn_norm", 1))
		for col := -1; col <= layers; col++ {
			t, ok := found[place{col, s.op}]
			if !ok {
				continue
			}
			class := colour(float64(t.OwnExcess))
			if t.Status == "missing" || t.Status == "shape" {
				class = "none"
			}
			fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"><title>%s: %s, own %s</title></rect>", class, left+(col+1)*cell, row*cell, cell-2, cell-2, html.EscapeString(shown(t.Name)), t.Status, t.OwnMaxAbs)
		}
	}
	for i := 0; i < layers; i += max(1, layers/12) {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%d</text>", left+(i+1)*cell+cell/2-1, cell*len(steps)+14, i)
	}
	b.WriteString("</svg></div>\n")
}

// positions draws block outputs × positions, coloured by the chain's error.
func (r *Report) positions(b *strings.Builder) {
	var rows []LayerGrowth
	seq := 0
	for _, l := range r.Growth.Layers {
		if len(l.positions) > 0 {
			rows, seq = append(rows, l), len(l.positions)
		}
	}
	if seq == 0 {
		return
	}
	cell := max(4, min(16, 700/seq))
	b.WriteString(`<h2>Error by position</h2><p class="note key">rms of the difference ÷ rms of the reference: <span class="k0"></span>to 1e-5<span class="k1"></span>to 1e-4<span class="k2"></span>to 1e-2<span class="k3"></span>to 1e-1<span class="k4"></span>more; a row for each block output</p>`)
	fmt.Fprintf(b, "<div class=\"wide\"><svg width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"error by position\">", 46+cell*seq, 14*len(rows)+22)
	for row, l := range rows {
		fmt.Fprintf(b, "<text x=\"38\" y=\"%d\" text-anchor=\"end\">%s</text>", row*14+11, shortLayer(l.Name))
		for t, v := range l.positions {
			level := 0
			for _, limit := range []float64{1e-5, 1e-4, 1e-2, 1e-1} {
				if v > limit {
					level++
				}
			}
			fmt.Fprintf(b, "<rect class=\"c%d\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"12\"><title>%s, position %d: %s</title></rect>", level, 44+t*cell, row*14, max(cell-1, 3), html.EscapeString(shown(l.Name)), t, Number(v))
		}
	}
	for t := 0; t < seq; t += 40 / cell {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%d</text>", 44+t*cell+cell/2, 14*len(rows)+14, t)
	}
	b.WriteString("</svg></div>\n")
}

// table lists every tensor, and the worst numbers of the first that is wrong.
func (r *Report) table(b *strings.Builder) {
	for _, t := range r.Tensors {
		if r.First == nil || t.Name != *r.First || len(t.Worst) == 0 {
			continue
		}
		fmt.Fprintf(b, "<h2>Worst numbers of %s</h2><div class=\"wide\"><table><tr><th>index</th><th>ours</th><th>reference</th><th>ratio</th></tr>", html.EscapeString(shown(t.Name)))
		for _, s := range t.Worst {
			fmt.Fprintf(b, "<tr><td>%v</td><td>%.6g</td><td>%.6g</td><td>%.4g</td></tr>", s.Index, float64(s.Ours), float64(s.Reference), float64(s.Ratio))
		}
		b.WriteString("</table></div>\n")
	}
	if len(r.Tensors) == 0 {
		return
	}
	b.WriteString("<details><summary><h2 style=\"display:inline\">All tensors</h2></summary><div class=\"wide\"><table><tr><th>tensor</th><th>max abs</th><th>rms</th><th>relative</th><th>cosine</th><th>own max abs</th><th>own ÷ rounding</th><th>status</th></tr>")
	for _, t := range r.Tensors {
		fmt.Fprintf(b, "<tr class=\"%s\"><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", t.Status, html.EscapeString(shown(t.Name)), t.MaxAbs, t.RMS, t.Relative, cosineText(t.Cosine), t.OwnMaxAbs, t.OwnExcess, t.Status)
	}
	b.WriteString("</table></div></details>\n")
}
