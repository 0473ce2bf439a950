// Command draw makes the pictures of the README.
//
//	go run ./docs/draw docs      # block-light.svg and block-dark.svg
//
// The picture of a report is a screenshot, of a port whose theta is not the model's:
//
//	cp -r tiny/model port
//	sed -i 's/"rope_theta": 1000000/"rope_theta": 100000/' port/config.json
//	qwen trace -model port -o port.safetensors "What does RMSNorm do?"
//	qwen diff -model tiny/model -html report.html port.safetensors
//	chromium --headless --hide-scrollbars --window-size=940,1120 --screenshot=docs/diff.png report.html
package main

import (
	"fmt"
	"html"
	"log"
	"os"
	"path/filepath"
	"strings"
)

// colours of the picture: of text, of lines, of boxes, of file names, of the stream.
type colours struct{ text, line, box, file, stream string }

var schemes = map[string]colours{
	"block-light.svg": {"#1f2328", "#6e7781", "#f0f3f6", "#0550ae", "#bc4c00"},
	"block-dark.svg":  {"#e6edf3", "#848d97", "#21262d", "#79c0ff", "#ffa657"},
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: draw FOLDER")
	}
	for name, c := range schemes {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(block(c)), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// A picture is an SVG that grows.
type picture struct {
	strings.Builder
	colours
}

// The columns: of the residual stream, and of q, k and v.
const stream, q, k, v = 60, 220, 370, 520

// block draws one layer of the network, from top to bottom, with the file of each
// step at the right.
func block(c colours) string {
	p := &picture{colours: c}
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 800" font-family="system-ui, sans-serif" font-size="14" role="img">
<title>The data flow of one block</title>
<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="%[1]s"/></marker>
<marker id="s" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" orient="auto"><path d="M0 0 8 4 0 8z" fill="%[2]s"/></marker></defs>
`, c.line, c.stream)
	p.label(10, 20, "x [seq, hidden]", c.stream, "start")
	p.flow(stream, 28, 433, true)
	p.label(stream+14, 250, "residual", c.stream, "start")
	p.label(stream+14, 268, "stream", c.stream, "start")

	p.path("M%d 50H%dV68", stream, k)
	p.box(70, k, 430, "RMSNorm", "input_layernorm", "rmsnorm.go")
	for _, x := range []int{q, k, v} {
		p.flow(x, 104, 128, false)
	}
	p.box(130, q, 130, "q_proj", "heads·headDim", "")
	p.box(130, k, 130, "k_proj", "kvHeads·headDim", "")
	p.box(130, v, 130, "v_proj", "kvHeads·headDim", "linear.go")
	p.flow(q, 164, 188, false)
	p.flow(k, 164, 188, false)
	p.flow(v, 164, 308, false)
	p.box(190, q, 130, "q_norm", "Qwen3", "")
	p.box(190, k, 130, "k_norm", "Qwen3", "rmsnorm.go")
	p.flow(q, 224, 248, false)
	p.flow(k, 224, 248, false)
	p.box(250, q, 130, "RoPE", "", "")
	p.box(250, k, 130, "RoPE", "", "rope.go")
	p.flow(q, 284, 368, false)
	p.flow(k, 284, 308, false)
	p.box(310, (k+v)/2, 280, "keys and values so far", "", "cache.go")
	p.flow(k, 344, 368, false)
	p.flow(v, 344, 368, false)
	p.box(370, k, 430, "softmax(q·k / √headDim) · v", "each head", "attention.go")
	p.flow(k, 404, 428, false)
	p.box(430, k, 430, "o_proj", "hidden", "linear.go")
	p.plus(447)
	p.path("M%d 447H%d", k-215, stream+14)

	p.flow(stream, 461, 723, true)
	p.path("M%d 480H%dV498", stream, k)
	p.box(500, k, 430, "RMSNorm", "post_attention_layernorm", "rmsnorm.go")
	p.flow(q, 534, 558, false)
	p.flow((k+v)/2, 534, 558, false)
	p.box(560, q, 130, "gate_proj", "intermediate", "")
	p.box(560, (k+v)/2, 280, "up_proj", "intermediate", "linear.go")
	p.flow(q, 594, 608, false)
	p.flow((k+v)/2, 594, 658, false)
	p.box(610, q, 130, "SiLU", "", "ffn.go")
	p.flow(q, 644, 658, false)
	p.box(660, k, 430, "SiLU(gate) × up", "", "ffn.go")
	p.flow(k, 694, 718, false)
	p.box(720, k, 430, "down_proj", "hidden", "linear.go")
	p.plus(737)
	p.path("M%d 737H%d", k-215, stream+14)
	p.flow(stream, 751, 778, true)
	p.label(10, 795, "to the next layer", c.stream, "start")
	p.WriteString("</svg>\n")
	return p.String()
}

// box draws a step: its name, a smaller word behind it, and its file at the right.
func (p *picture) box(y, middle, width int, name, more, file string) {
	fmt.Fprintf(p, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"34\" rx=\"5\" fill=\"%s\" stroke=\"%s\"/>\n", middle-width/2, y, width, p.colours.box, p.line)
	if more != "" && width < 200 {
		p.label(middle, y+15, name, p.text, "middle")
		fmt.Fprintf(p, "<text x=\"%d\" y=\"%d\" fill=\"%s\" font-size=\"11\" text-anchor=\"middle\">%s</text>\n", middle, y+28, p.line, html.EscapeString(more))
	} else {
		if more != "" {
			more = fmt.Sprintf(" <tspan fill=\"%s\" font-size=\"11\">%s</tspan>", p.line, html.EscapeString(more))
		}
		fmt.Fprintf(p, "<text x=\"%d\" y=\"%d\" fill=\"%s\" text-anchor=\"middle\">%s%s</text>\n", middle, y+22, p.text, html.EscapeString(name), more)
	}
	if file != "" {
		fmt.Fprintf(p, "<text x=\"610\" y=\"%d\" fill=\"%s\" font-family=\"ui-monospace, monospace\">%s</text>\n", y+22, p.file, file)
	}
}

// flow draws an arrow downwards.
func (p *picture) flow(x, from, to int, residual bool) {
	colour, width, end := p.line, 1.5, "a"
	if residual {
		colour, width, end = p.stream, 3, "s"
	}
	fmt.Fprintf(p, "<path d=\"M%d %dV%d\" stroke=\"%s\" stroke-width=\"%g\" marker-end=\"url(#%s)\"/>\n", x, from, to, colour, width, end)
}

// path draws an arrow around a corner.
func (p *picture) path(format string, at ...any) {
	fmt.Fprintf(p, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" marker-end=\"url(#a)\"/>\n", fmt.Sprintf(format, at...), p.line)
}

// plus draws the sum with the residual stream.
func (p *picture) plus(y int) {
	fmt.Fprintf(p, "<circle cx=\"%d\" cy=\"%d\" r=\"13\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", stream, y, p.stream)
	fmt.Fprintf(p, "<path d=\"M%d %dh14m-7 -7v14\" stroke=\"%s\" stroke-width=\"2\"/>\n", stream-7, y, p.stream)
}

func (p *picture) label(x, y int, text, colour, anchor string) {
	fmt.Fprintf(p, "<text x=\"%d\" y=\"%d\" fill=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, colour, anchor, html.EscapeString(text))
}
