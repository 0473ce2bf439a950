package main

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"

	"github.com/bc1a8f18/qwen"
)

// tensorStats is one row of qwen inspect. Statistics are over the finite numbers.
type tensorStats struct {
	Name      string     `json:"name"`
	DType     qwen.DType `json:"dtype"`
	Shape     []int      `json:"shape"`
	Mean      float64    `json:"mean"`
	Std       float64    `json:"std"`
	Min       float64    `json:"min"`
	Max       float64    `json:"max"`
	NonFinite int        `json:"nonfinite"`
	First     []float32  `json:"first"` // the first numbers, to check the index order of a loader
}

type inspection struct {
	Config     map[string]any `json:"config"`
	Parameters int            `json:"parameters"`
	Tensors    []tensorStats  `json:"tensors"`
	Layers     []layerStats   `json:"-"` // for people
	Warnings   []string       `json:"warnings"`
}

func setupInspect(f *flag.FlagSet) func([]string) error {
	load := modelFlag(f)
	layer := intFlag(f, "layer", -1, 0, most, "only the tensors of layer `N` (default: all)")
	asJSON := f.Bool("json", false, "print one JSON document")
	return func(args []string) error {
		if len(args) > 0 {
			return usageError("expected no arguments")
		}
		m, err := load()
		if err != nil {
			return err
		}
		defer m.Close()
		if *layer >= m.Config.Layers {
			return usageError(fmt.Sprintf("-layer %d, expected 0 to %d", *layer, m.Config.Layers-1))
		}
		doc, err := inspect(m, *layer)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(doc)
		}
		doc.print(m)
		return nil
	}
}

// inspect computes the statistics of the tensors of one layer, or of all (-1).
func inspect(m *qwen.Model, layer int) (inspection, error) {
	doc := inspection{Config: configFields(m.Config), Tensors: []tensorStats{}, Warnings: []string{}}
	var chosen []qwen.Tensor
	for _, t := range m.Tensors() {
		if layer < 0 || strings.HasPrefix(t.Name, fmt.Sprintf("model.layers.%d.", layer)) {
			chosen = append(chosen, t)
		}
	}
	doc.Tensors = make([]tensorStats, len(chosen))
	failed := make([]error, len(chosen))
	var read atomic.Int64
	defer waiting(func() string { return fmt.Sprintf("reading the weights: %d of %d tensors", read.Load(), len(chosen)) })()
	var all sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, t := range chosen {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			doc.Tensors[i], failed[i] = stats(t)
			read.Add(1)
		})
	}
	all.Wait()
	if err := cmp.Or(failed...); err != nil {
		return doc, err
	}
	used := m.Parameters()
	doc.Parameters = used
	for _, s := range doc.Tensors {
		doc.Warnings = append(doc.Warnings, s.suspicions()...)
	}
	doc.Layers = sideBySide(doc.Tensors)
	doc.Warnings = append(doc.Warnings, standouts(doc.Layers)...)
	return doc, nil
}

// stats looks at every number of a tensor. The file may become shorter under it.
func stats(t qwen.Tensor) (s tensorStats, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = fmt.Errorf("%s: %w", t.Name, qwen.ErrFileChanged)
		}
	}()
	s = tensorStats{Name: t.Name, DType: t.DType, Shape: append([]int{}, t.Shape...), First: []float32{}}
	if _, notFloats := (qwen.Tensor{DType: t.DType}).Float32(); notFloats != nil {
		return s, nil // not numbers that a network is made of
	}
	all := func(see func(x float64)) { // in pieces: a tensor as float32 can be larger than the memory
		const piece = 1 << 18
		for at := 0; at < len(t.Data); at += piece {
			x, _ := qwen.Tensor{DType: t.DType, Data: t.Data[at:min(at+piece, len(t.Data))]}.Float32()
			for _, v := range x {
				see(float64(v))
			}
		}
	}
	finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	s.Min, s.Max = math.Inf(1), math.Inf(-1)
	n, at, sum := 0, 0, 0.0
	all(func(x float64) {
		if !finite(x) {
			s.NonFinite++
		} else {
			n++
			sum += x
			s.Min, s.Max = min(s.Min, x), max(s.Max, x)
			if at < 4 {
				s.First = append(s.First, float32(x))
			}
		}
		at++
	})
	if n == 0 {
		s.Min, s.Max = 0, 0
		return s, nil
	}
	s.Mean = sum / float64(n)
	square := 0.0
	all(func(x float64) {
		if finite(x) {
			square += (x - s.Mean) * (x - s.Mean)
		}
	})
	s.Std = math.Sqrt(square / float64(n))
	return s, nil
}

// suspicions says what looks wrong about a tensor.
func (s tensorStats) suspicions() (warnings []string) {
	if s.NonFinite > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: %d numbers are NaN or Inf", s.Name, s.NonFinite))
	}
	constant := s.Min == s.Max && len(s.First) > 1
	if constant && !strings.HasSuffix(s.Name, ".bias") {
		warnings = append(warnings, fmt.Sprintf("%s: every number is %g: untrained?", s.Name, s.Min))
	}
	if strings.HasSuffix(s.Name, "norm.weight") && s.Max <= 0 && !constant {
		warnings = append(warnings, fmt.Sprintf("%s: no weight above 0, as if 1 were to be added", s.Name))
	}
	return warnings
}

// layerStats puts one layer's tensors beside those of the others: the standard
// deviation of each matrix and bias, the mean of each norm's weight, by the short
// name of the tensor.
type layerStats struct {
	Layer  int
	Values map[string]float64
	Odd    []string // the tensors that stand out from the other layers'
}

// layerTensor is the name of a tensor of a layer.
var layerTensor = regexp.MustCompile(`^model\.layers\.(\d+)\.(?:self_attn\.|mlp\.)?(\w+?)(?:_proj|_layernorm)?\.(weight|bias)$`)

// sideBySide sorts the statistics by layer, and marks what lies more than eight
// times as far from the median over the layers as half of the layers do.
func sideBySide(tensors []tensorStats) []layerStats {
	layers := []layerStats{}
	for _, t := range tensors {
		n := layerTensor.FindStringSubmatch(t.Name)
		if n == nil {
			continue
		}
		i, _ := strconv.Atoi(n[1])
		at := slices.IndexFunc(layers, func(l layerStats) bool { return l.Layer == i })
		if at < 0 {
			at = len(layers)
			layers = append(layers, layerStats{i, map[string]float64{}, []string{}})
		}
		short, value := n[2], t.Std
		if strings.HasSuffix(n[2], "norm") || strings.Contains(t.Name, "layernorm") {
			short, value = strings.TrimSuffix(n[2], "_norm")+" norm", t.Mean
		}
		if n[3] == "bias" {
			short += " bias"
		}
		layers[at].Values[short] = value
	}
	slices.SortFunc(layers, func(a, b layerStats) int { return cmp.Compare(a.Layer, b.Layer) })
	for _, column := range columns(layers) {
		var all []float64
		for _, l := range layers {
			all = append(all, math.Log(math.Abs(l.Values[column])+1e-12))
		}
		middle := median(all)
		var far []float64
		for _, v := range all {
			far = append(far, math.Abs(v-middle))
		}
		usual := median(far)
		for i := range layers {
			if len(layers) >= 4 && far[i] > 8*usual && far[i] > math.Log(1.5) {
				layers[i].Odd = append(layers[i].Odd, column)
			}
		}
	}
	return layers
}

// columns returns the short names of the layers' tensors, attention first.
func columns(layers []layerStats) []string {
	var all []string
	for _, name := range []string{"q", "k", "v", "o", "q bias", "k bias", "v bias", "o bias", "q norm", "k norm", "gate", "up", "down", "input norm", "post_attention norm"} {
		if len(layers) > 0 {
			if _, ok := layers[0].Values[name]; ok {
				all = append(all, name)
			}
		}
	}
	return all
}

// standouts are the warnings about layers that are unlike the others.
func standouts(layers []layerStats) (warnings []string) {
	for i, l := range layers {
		for _, column := range l.Odd {
			if i == 0 || i == len(layers)-1 {
				continue // the first and the last often are
			}
			var all []float64
			for _, other := range layers {
				all = append(all, other.Values[column])
			}
			warnings = append(warnings, fmt.Sprintf("model.layers.%d: %s is %.3g, where the middle of all layers is %.3g", l.Layer, column, l.Values[column], median(all)))
		}
	}
	return warnings
}

// printLayers writes the layers side by side.
func printLayers(layers []layerStats) {
	if len(layers) < 2 {
		return
	}
	fmt.Fprintln(stdout, "\nlayers side by side: standard deviation of a weight or bias, mean of a norm's weight; ! stands out")
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	names := columns(layers)
	fmt.Fprintln(w, "layer\t"+strings.ReplaceAll(strings.Join(names, "\t"), "post_attention", "post")+"\t")
	for _, l := range layers {
		fmt.Fprintf(w, "%d\t", l.Layer)
		for _, name := range names {
			mark := ""
			if slices.Contains(l.Odd, name) {
				mark = "!"
			}
			fmt.Fprintf(w, "%s%.3g\t", mark, l.Values[name])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// configFields is the config under the names of config.json.
func configFields(c qwen.Config) map[string]any {
	rope := map[string]any{"rope_type": c.RoPE.Type, "rope_theta": c.RoPE.Theta}
	if c.RoPE.Type != "default" {
		rope["factor"] = c.RoPE.Factor
	}
	if c.RoPE.Type == "yarn" {
		rope["original_max_position_embeddings"] = c.RoPE.OriginalMaxPositions
	}
	return map[string]any{
		"model_type": c.ModelType, "vocab_size": c.Vocab, "hidden_size": c.Hidden, "intermediate_size": c.Intermediate,
		"num_hidden_layers": c.Layers, "num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads, "head_dim": c.HeadDim,
		"max_position_embeddings": c.MaxPositions, "rms_norm_eps": c.Eps, "tie_word_embeddings": c.TieEmbeddings,
		"attention_bias": c.AttentionBias, "eos_token_id": c.StopIDs, "rope_parameters": rope,
	}
}

// print writes the inspection as tables.
func (doc inspection) print(m *qwen.Model) {
	c := m.Config
	bytes := 0
	for _, t := range m.Tensors() {
		bytes += len(t.Data)
	}
	fmt.Fprintf(stdout, "%s: %d layers, hidden %d, intermediate %d, %d query and %d key/value heads of %d, vocab %d, context %d, rope %s theta %g, tied %v\n",
		printable(c.ModelType), c.Layers, c.Hidden, c.Intermediate, c.Heads, c.KVHeads, c.HeadDim, c.Vocab, c.MaxPositions, printable(c.RoPE.Type), c.RoPE.Theta, c.TieEmbeddings)
	fmt.Fprintf(stdout, "%d parameters, %.1f MB of weights, %.1f KB of cache a token\n\n", doc.Parameters, float64(bytes)/1e6, float64(8*c.Layers*c.KVHeads*c.HeadDim)/1e3)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "name\tdtype\tshape\tmean\tstd\tmin\tmax\tnonfinite\tfirst\t")
	for _, s := range doc.Tensors {
		fmt.Fprintf(w, "%s\t%s\t%v\t%.4g\t%.4g\t%.4g\t%.4g\t%d\t%.4g\t\n", printable(s.Name), s.DType, s.Shape, s.Mean, s.Std, s.Min, s.Max, s.NonFinite, s.First)
	}
	w.Flush()
	printLayers(doc.Layers)
	for _, warning := range doc.Warnings {
		fmt.Fprintln(stdout, "warning:", printable(warning))
	}
}
