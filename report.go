package qwen

// From a recording to a verdict. Compare judges every tensor of the reference in
// the order of the data flow, names the first that is wrong, looks for the cause,
// and follows the error through the layers. A Report is what `qwen diff` prints,
// as text, as JSON, or as a page.
//
// Three traps are known here. A recording made in bf16 is full of differences,
// none of which is a mistake: what its numbers can hold says how it was rounded,
// and that much is allowed. The last of transformers' hidden_states is taken after
// the final norm: called the last layer's output, it looks as if that layer were
// wrong. And positions shifted by a constant change no hidden state, so that
// nothing is said about them unless the rotated heads were recorded.
//
// Reference: none; the method is what people do by hand, see DEBUGGING.md.
//
// Next: page.go

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A Number is a float64 whose JSON is null where it is not finite.
type Number float64

// MarshalJSON writes null for NaN and infinities.
func (n Number) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// A Report says how a reference differs from a model. String and HTML show it to
// people; its JSON is what `qwen diff -json` prints.
type Report struct {
	Verdict  string         `json:"verdict"`  // match, differs, precision or mislabelled
	First    *string        `json:"first"`    // the first tensor whose own error is beyond rounding
	Cause    *string        `json:"cause"`    // the mistake that reproduces it, or unknown
	Detail   string         `json:"detail"`   // in words
	Value    *Number        `json:"value"`    // the constant that was fitted
	Residual Number         `json:"residual"` // largest error that the cause leaves ÷ largest number; all of first's own error if it is unknown
	Tensors  []TensorReport `json:"tensors"`
	Others   []Finding      `json:"others"` // further tensors that are wrong for other reasons
	Growth   Growth         `json:"growth"`
	Warnings []string       `json:"warnings"`
}

// A Finding is what was found out about one more tensor.
type Finding struct {
	First  string  `json:"first"`
	Cause  string  `json:"cause"`
	Detail string  `json:"detail"`
	Value  *Number `json:"value"`
}

// A TensorReport compares one tensor of the reference: the first numbers are of
// our whole chain against it, those called own of our step run on its inputs.
type TensorReport struct {
	Name        string `json:"name"`
	MaxAbs      Number `json:"max_abs"`
	RMS         Number `json:"rms"`
	Relative    Number `json:"relative"` // max_abs ÷ the largest number of the reference
	Cosine      Number `json:"cosine"`
	OwnMaxAbs   Number `json:"own_max_abs"`
	OwnRelative Number `json:"own_relative"` // own_max_abs ÷ the same
	OwnExcess   Number `json:"own_excess"`   // own error in units of what rounding allows
	Status      string `json:"status"`       // ok, inherited, broken, missing or shape
	Worst       []Spot `json:"worst"`        // where the own error is largest
	TowardsZero Number `json:"towards_zero"` // mean of the own error's sign towards zero: rounding has about 0, truncation 1

	place     place     // where in the network; its op is "" if the name says nothing
	positions []float64 // rms error of each token ÷ the rms of the token's row
}

// A Spot is one number that differs.
type Spot struct {
	Index     []int  `json:"index"`
	Ours      Number `json:"ours"`
	Reference Number `json:"reference"`
	Ratio     Number `json:"ratio"` // reference ÷ ours
}

// CompareOptions are the finer points of a comparison. The zero value compares
// everything.
type CompareOptions struct {
	Ours      *Recording // compare this recording instead of the model's own run
	Tolerance float64    // accept an own error up to this share of the tensor's largest number
	Layers    []int      // judge only these layers; empty: all
	// Op is the only step to judge: its name within the layer (q_proj, or self_attn.q_proj), or
	// self_attn, mlp or block, which are judged as one step each. A tensor's whole name is that
	// step of that layer. Empty: all.
	Op string
}

// Compare judges a recording of another implementation by the model m: which step
// is the first that is wrong, and which known mistake reproduces its numbers.
//
// It returns an error if the two cannot be compared: ids that the model cannot run
// (as Forward), tensors none of which has a name that Trace uses or that DEBUGGING.md
// lists, or one with such a name that holds no numbers.
func Compare(m *Model, reference *Recording) (*Report, error) {
	return CompareOptions{}.Compare(m, reference)
}

// Compare is Compare with options. m may be nil if Ours is given: then there are
// no own errors and no causes, only differences.
func (o CompareOptions) Compare(m *Model, reference *Recording) (report *Report, err error) {
	k := &comparison{CompareOptions: o, m: m, rec: reference, report: &Report{Tensors: []TensorReport{}, Others: []Finding{}, Warnings: []string{}}}
	switch {
	case reference == nil:
		return nil, errors.New("qwen: Compare: found no reference, expected a recording")
	case m == nil && o.Ours == nil:
		return nil, errors.New("qwen: Compare: found no model and no recording of ours, expected one of them")
	case m == nil:
		return k.recordings()
	}
	if err := k.choose(m.Config.Layers); err != nil {
		return nil, err
	}
	if err := k.runOurs(); err != nil {
		return nil, err
	}
	m.mu.RLock() // Close waits
	defer m.mu.RUnlock()
	defer catchFault(&err)()
	if err := m.checkInput(reference.IDs, &Cache{model: m}); err != nil {
		return nil, err
	}
	k.plain = newPlain(m, reference.IDs)
	if err := k.read(); err != nil {
		return nil, err
	}
	if !k.sameIDs() {
		if err := k.judge(); err != nil {
			return nil, err
		}
		k.explain()
	}
	k.finish()
	return k.report, nil
}

// A comparison is one Compare at work.
type comparison struct {
	CompareOptions
	*plain
	m        *Model
	rec      *Recording
	report   *Report
	ours     map[place][]float32 // our whole chain
	subjects []*subject          // in the order of the data flow
	rows     map[*subject]*TensorReport
	broken   []*subject
	soft     []*subject // beyond float32's rounding, within that of the reference
	trapped  *subject   // the last layer's output that was taken after the final norm
	trap     distance   // what that leaves unexplained
	level    precision  // how the reference as a whole is rounded
}

// choose reads Op, which may be written in several ways, for a network of so many layers.
func (k *comparison) choose(layers int) error {
	if p, ok := placeOf(k.Op, layers); ok {
		k.Op = p.op
		if p.layer >= 0 && p.layer < layers && len(k.Layers) == 0 {
			k.Layers = []int{p.layer}
		}
		return nil
	}
	op := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(k.Op, "model."), "self_attn."), "mlp.")
	if op != "" && op != "self_attn" && op != "mlp" && op != "block" && !isStep(op) {
		known := []string{"self_attn", "mlp", "block"}
		for _, s := range steps {
			known = append(known, s.op)
		}
		return fmt.Errorf("qwen: step %s: not known, expected one of %s", quote(k.Op), strings.Join(known, ", "))
	}
	k.Op = op
	return nil
}

// chosen says which part is to be judged, for an error.
func (k *comparison) chosen() (text string) {
	if k.Op != "" {
		text = " of step " + k.Op
	}
	switch len(k.Layers) {
	case 0:
		return text
	case 1:
		return fmt.Sprintf("%s in layer %d", text, k.Layers[0])
	}
	return text + " in layers " + shapeText(k.Layers)
}

// runOurs fills in our chain: the model's run, or the other recording.
func (k *comparison) runOurs() error {
	k.ours = map[place][]float32{}
	layers := k.m.Config.Layers
	if k.Ours != nil {
		for _, t := range k.Ours.Tensors {
			p, ok := placeOf(t.Name, layers)
			if !ok || k.ours[p] != nil {
				continue
			}
			x, err := numbers(t)
			if err != nil {
				return err
			}
			want := k.m.shape(p, len(k.Ours.IDs))
			if x, ok = fitShape(x, t.Shape, want); !ok {
				k.warn("%s of ours: found shape %s, expected %v", shown(t.Name), shapeText(t.Shape), want)
				continue
			}
			k.ours[p] = x
		}
		return nil
	}
	if len(k.Layers) > 0 || k.Op != "" {
		return nil // steps alone need no chain
	}
	wanted := map[place]bool{}
	for _, t := range k.rec.Tensors {
		if p, ok := placeOf(t.Name, layers); ok {
			wanted[p] = true
		}
	}
	return k.m.Trace(k.rec.IDs, k.m.NewCache(), func(name string, shape []int, x []float32) {
		if p, ok := placeOf(name, layers); ok && wanted[p] {
			k.ours[p] = slices.Clone(x)
		}
	})
}

// warn adds a warning.
func (k *comparison) warn(format string, args ...any) {
	k.report.Warnings = append(k.report.Warnings, fmt.Sprintf(format, args...))
}

// shown is a name from a file as a message shows it: cut if it is longer than any that
// belongs there, and what a terminal would obey escaped.
func shown(name string) string {
	if len(name) > 120 { // base_model.model.model.layers.27.self_attn.o_proj_inputs_args_0 has 64 bytes
		name = clip(name)
	}
	return plainText(name)
}

// counted is "1 tensor", "2 tensors".
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// sameIDs reports a difference of the ids of two recordings.
func (k *comparison) sameIDs() (differ bool) {
	if k.Ours == nil || slices.Equal(k.Ours.IDs, k.rec.IDs) {
		return false
	}
	at := 0
	for at < min(len(k.Ours.IDs), len(k.rec.IDs)) && k.Ours.IDs[at] == k.rec.IDs[at] {
		at++
	}
	k.conclude("differs", "input_ids", "unknown", fmt.Sprintf("the ids differ from token %d on (%d and %d tokens): the tokenizers disagree, or the prompts do", at, len(k.Ours.IDs), len(k.rec.IDs)), nil, 1)
	return true
}

// conclude writes the verdict. residual is what the cause leaves of the error, 1 (all of
// it) where that is no matter of size.
func (k *comparison) conclude(verdict, first, cause, detail string, value *Number, residual Number) {
	r := k.report
	r.Verdict, r.Detail, r.Value, r.Residual = verdict, detail, value, residual
	if first != "" {
		r.First, r.Cause = &first, &cause
	}
}

// read takes the reference's tensors apart: what they are, whether their shape
// and their numbers can be right.
func (k *comparison) read() error {
	order := map[place]int{}
	for i, p := range k.m.places() {
		order[p] = i
	}
	k.rows = map[*subject]*TensorReport{}
	unknown, low := []string{}, map[string]int{}
	for _, t := range k.rec.Tensors {
		p, ok := placeOf(t.Name, k.m.Config.Layers)
		if _, known := order[p]; !ok || !known {
			if !debuggerName.MatchString(t.Name) && !debuggerMore.MatchString(t.Name) {
				unknown = append(unknown, shown(t.Name))
			}
			continue
		}
		x, err := numbers(t)
		if err != nil {
			return err
		}
		shape := k.m.shape(p, len(k.ids))
		x, ok = fitShape(x, t.Shape, shape)
		s := &subject{place: p, name: t.Name, width: shape[len(shape)-1], prec: inFloat32}
		row := &TensorReport{Name: t.Name, Status: "ok", Worst: []Spot{}, place: p}
		k.rows[s] = row
		k.subjects = append(k.subjects, s)
		if !ok {
			row.Status = "shape"
			s.misfit = fmt.Sprintf("%s: found shape %s, expected %v", shown(t.Name), shapeText(t.Shape), shape)
			k.warn("%s", s.misfit)
			continue
		}
		s.want = wide(x)
		if p.op != "embed_tokens" {
			s.prec = fingerprint(x)
			low[s.prec.cause]++
		}
		if k.ref[p] == nil || t.Name == p.name() {
			k.ref[p] = s.want
		}
	}
	if len(k.subjects) == 0 {
		found := counted(len(k.rec.Tensors), "tensor")
		if len(unknown) > 0 {
			found += ", such as " + strings.Join(unknown[:min(3, len(unknown))], ", ")
		}
		return fmt.Errorf("qwen: the recording: found no tensor whose name is known among %s, expected names such as model.layers.0.input_layernorm; see -rename", found)
	}
	if !slices.ContainsFunc(k.subjects, func(s *subject) bool { return s.want != nil }) {
		return fmt.Errorf("qwen: %s: no tensor fits the config and %s", k.subjects[0].misfit, counted(len(k.ids), "id"))
	}
	if n := len(unknown); n > 0 {
		k.warn("%s not known, left out: %s", counted(n, "name"), strings.Join(unknown[:min(5, n)], ", "))
	}
	k.setLevel(low)
	slices.SortStableFunc(k.subjects, func(a, b *subject) int { return cmp.Compare(order[a.place], order[b.place]) })
	return nil
}

// setLevel decides how the reference as a whole is rounded: as more than half of its
// tensors are, of which low counts how many show which rounding. An engine may keep some in
// float32 (its norms, or the probabilities), and a tensor may look rounded by chance.
func (k *comparison) setLevel(low map[string]int) {
	k.level = inFloat32
	for _, l := range []precision{inBF16, inF16} {
		if 2*low[l.cause] > low[inFloat32.cause]+low[inBF16.cause]+low[inF16.cause] {
			k.level = l
		}
	}
	for _, s := range k.subjects { // in a recording that is rounded, no tensor is better than the rest
		copied := s.op == "embed_tokens" && map[DType]string{BF16: inBF16.cause, F16: inF16.cause}[k.m.Embed.DType] == k.level.cause
		if k.level.unit > s.prec.unit && !copied { // a row that the table has in that precision is copied as it is
			s.prec = k.level
		}
	}
}

// fitShape returns x as shape wants it: a batch of one is dropped, heads and
// headDim may be one dimension, and [heads, seq, headDim] is turned round.
func fitShape(x []float32, found, want []int) (_ []float32, ok bool) {
	for len(found) > 1 && found[0] == 1 && len(found) > len(want)-1 && !slices.Equal(found, want) {
		found = found[1:]
	}
	if slices.Equal(found, want) {
		return x, true
	}
	if len(want) == 3 {
		if slices.Equal(found, []int{want[0], want[1] * want[2]}) {
			return x, true
		}
		if slices.Equal(found, []int{want[1], want[0], want[2]}) {
			seq, heads, n := want[0], want[1], want[2]
			y := make([]float32, len(x))
			for t := range seq {
				for h := range heads {
					copy(y[(t*heads+h)*n:(t*heads+h+1)*n], x[(h*seq+t)*n:])
				}
			}
			return y, true
		}
	} else if len(found) == 3 && len(want) == 2 && found[0] == want[0] && found[1]*found[2] == want[1] {
		return x, true
	}
	return nil, false
}

// fingerprint returns the precision whose numbers are all that x holds.
func fingerprint(x []float32) precision {
	isBrain, isHalf, some := true, true, false
	for _, v := range x {
		isBrain = isBrain && math.Float32bits(v)&0xffff == 0
		isHalf = isHalf && (roundF16(float64(v)) == float64(v) || !finite(v))
		some = some || v != 0 && v != 1
		if !isBrain && !isHalf {
			return inFloat32
		}
	}
	switch {
	case !some:
		return inFloat32
	case isBrain:
		return inBF16
	}
	return inF16
}

// judged says whether a tensor is to be judged.
func (k *comparison) judged(p place) bool {
	if len(k.Layers) > 0 && !slices.Contains(k.Layers, p.layer) {
		return false
	}
	switch k.Op {
	case "":
		return true
	case "self_attn":
		return p.op == "o_proj"
	case "mlp":
		return p.op == "down_proj"
	case "block":
		return p.op == blockOutput
	}
	return p.op == k.Op
}

// hide takes what lies inside of the part to be judged out of the inputs, so that
// attention, FFN or block run as one.
func (k *comparison) hide() {
	for p := range k.ref {
		inside := parent(p.op) == k.Op+"." && p.op != "o_proj" && p.op != "down_proj"
		if k.Op == "block" {
			inside = p.layer >= 0 && p.op != blockOutput // the final norm too, which no block reads
		}
		if inside {
			delete(k.ref, p)
		}
	}
}

// judge measures every tensor: our chain against it, and our step alone.
func (k *comparison) judge() error {
	k.hide()
	kept := k.subjects[:0]
	for _, s := range k.subjects {
		if k.judged(s.place) {
			kept = append(kept, s)
		}
	}
	if k.subjects = kept; len(kept) == 0 {
		return fmt.Errorf("qwen: the recording: found no tensor%s, expected one to judge", k.chosen())
	}
	for _, s := range k.subjects {
		row := k.rows[s]
		if s.want == nil {
			continue
		}
		k.chain(s, row)
		k.own(s, row)
		if row.Status == "broken" && s.op == blockOutput && s.layer == k.m.Config.Layers-1 && k.isTrap(s) {
			delete(k.ref, s.place)
			clear(k.memo)
			clear(k.deps)
		}
	}
	return nil
}

// chain compares the whole chains.
func (k *comparison) chain(s *subject, row *TensorReport) {
	ours := k.ours[s.place]
	if ours == nil {
		row.MaxAbs, row.RMS, row.Relative, row.Cosine = Number(math.NaN()), Number(math.NaN()), Number(math.NaN()), Number(math.NaN())
		return
	}
	row.differences(ours, s.want)
	if s.op == "probs" { // its rows are heads
		return
	}
	n := len(s.want) / len(k.ids)
	for t := range k.ids {
		var e, size float64
		for i := t * n; i < (t+1)*n; i++ {
			d := float64(ours[i]) - s.want[i]
			e, size = e+d*d, size+s.want[i]*s.want[i]
		}
		row.positions = append(row.positions, math.Sqrt(e/max(size, math.SmallestNonzeroFloat64)))
	}
}

// differences fills in what two tensors of the same size say of each other.
func (row *TensorReport) differences(ours []float32, want []float64) {
	var most, square, largest, aa, bb, ab float64
	for i, w := range want {
		v := float64(ours[i])
		d := math.Abs(v - w)
		if math.IsNaN(d) {
			if d = math.Inf(1); v == w || math.IsNaN(v) && math.IsNaN(w) {
				d = 0 // the same, and no number: a mask has -Inf
			}
		}
		if finite(float32(w)) {
			largest = max(largest, math.Abs(w))
		}
		most, square = max(most, d), square+d*d
		aa, bb, ab = aa+v*v, bb+w*w, ab+v*w
	}
	row.MaxAbs, row.RMS = Number(most), Number(math.Sqrt(square/float64(max(len(want), 1))))
	if row.Relative = Number(most / largest); most == 0 {
		row.Relative = 0
	}
	if row.Cosine = Number(ab / math.Sqrt(aa*bb)); aa == 0 && bb == 0 {
		row.Cosine = 1
	}
}

// own judges our step, run on the reference's inputs.
func (k *comparison) own(s *subject, row *TensorReport) {
	y := k.trial(inFloat64, nil).compute(s.place)
	s.cone = k.cone(s.place)
	k.measure(s, y, inFloat32)
	row.OwnMaxAbs, row.OwnRelative, row.OwnExcess = Number(s.own.max), s.own.relative(), Number(s.own.excess)
	row.TowardsZero = Number(towardsZero(y, s.want))
	row.Worst = worst(y, s.want, k.m.shape(s.place, len(k.ids)))
	if k.accepted(s) {
		return
	}
	if s.prec.cause != "" {
		k.measure(s, y, s.prec)
		row.OwnExcess = Number(s.own.excess)
		if s.own.excess <= 1 {
			k.soft = append(k.soft, s)
			return
		}
	}
	row.Status = "broken"
	k.broken = append(k.broken, s)
}

// accepted says whether the own error needs no explanation.
func (k *comparison) accepted(s *subject) bool {
	return s.own.excess <= 1 || s.own.max <= k.Tolerance*s.own.size
}

// towardsZero is 1 if every error of the reference makes its number smaller, -1 if
// larger.
func towardsZero(ours, want []float64) float64 {
	smaller, larger := 0, 0
	for i, w := range want {
		switch outwards := (w - ours[i]) * ours[i]; {
		case outwards < 0:
			smaller++
		case outwards > 0:
			larger++
		}
	}
	return float64(smaller-larger) / float64(max(smaller+larger, 1))
}

// worst returns the three numbers that differ most: one may be chance, of three one sees
// whether they share a token or a column.
func worst(ours, want []float64, shape []int) []Spot {
	var at []int
	off := func(i int) float64 {
		if d := math.Abs(ours[i] - want[i]); !math.IsNaN(d) {
			return d
		}
		return math.Inf(1)
	}
	for i := range want {
		if len(at) < 3 || off(i) > off(at[len(at)-1]) {
			at = append(at, i)
			slices.SortStableFunc(at, func(a, b int) int { return -cmp.Compare(off(a), off(b)) })
			at = at[:min(3, len(at))]
		}
	}
	spots := []Spot{}
	for _, i := range at {
		index, rest := make([]int, len(shape)), i
		for d := len(shape) - 1; d >= 0; d-- {
			index[d], rest = rest%shape[d], rest/shape[d]
		}
		spots = append(spots, Spot{index, Number(ours[i]), Number(want[i]), Number(want[i] / ours[i])})
	}
	return spots
}

// isTrap says whether the last layer's output was taken after the final norm: the
// norm of what the layer makes is what is recorded, and what follows does not
// read it.
func (k *comparison) isTrap(s *subject) bool {
	left, ok := k.reproduces(s, patch{mistakeOf("hidden-state-after-final-norm"), []string{blockOutput}, s.layer, 0})
	if !ok {
		return false
	}
	for _, t := range k.subjects {
		if t.want != nil && t.name == "model.norm" {
			if _, right := k.residual(t, nil, t.prec); right {
				return false
			}
		}
	}
	k.trapped, k.trap = s, left
	return true
}

// explain looks for the cause and writes the verdict.
func (k *comparison) explain() {
	broken := slices.DeleteFunc(k.broken, func(s *subject) bool { return s == k.trapped })
	for _, s := range k.subjects {
		if s.want == nil && (len(broken) == 0 || k.before(s, broken[0])) {
			k.conclude("differs", s.name, "unknown", s.misfit+": the config says another size, or the recording holds something else", nil, 1)
			return
		}
	}
	switch {
	case len(broken) > 0:
		k.differs(broken)
	case k.trapped != nil:
		k.conclude("mislabelled", k.trapped.name, "hidden-state-after-final-norm",
			shown(k.trapped.name)+" holds the last layer's output after the final norm (as the last of transformers' hidden_states does); the layer itself is right", nil, k.trap.relative())
	case len(k.soft) > 0:
		k.concludePrecision(k.soft, k.soft[0].prec)
	default:
		k.conclude("match", "", "", "agreement to rounding, in "+counted(len(k.subjects), "tensor"), nil, 0)
	}
}

// before says whether a comes before b in the data flow.
func (k *comparison) before(a, b *subject) bool {
	return slices.Index(k.subjects, a) < slices.Index(k.subjects, b)
}

// concludePrecision says that rounding explains everything.
func (k *comparison) concludePrecision(all []*subject, prec precision) {
	name := map[string]string{inBF16.cause: "bfloat16", inF16.cause: "float16"}[prec.cause]
	detail := fmt.Sprintf("rounding to %s explains every difference (%s); nothing else is wrong", name, counted(len(all), "tensor"))
	one := 0.0
	for _, s := range all {
		k.rows[s].Status = "broken"
		one += float64(k.rows[s].TowardsZero) / float64(len(all))
	}
	if one > 0.5 { // between 0, of numbers that are rounded, and 1, of numbers that are cut
		detail += "; the errors all point towards zero, as if bits were cut off and not rounded"
	}
	k.conclude("precision", all[0].name, prec.cause, detail, nil, k.rows[all[0]].OwnRelative)
}

// differs looks for the cause of the first broken tensor, and then whether it is
// the cause of the others.
func (k *comparison) differs(broken []*subject) {
	first := broken[0]
	if n := nonFinite(first.want); n > 0 {
		k.conclude("differs", first.name, "unknown", fmt.Sprintf("holds NaN or Inf (%d of %s), and what it was made of is finite", n, counted(len(first.want), "number")), nil, 1)
		return
	}
	f, ties, ok := k.cause(first)
	if !ok {
		if prec, all := k.coarseRounding(broken); all {
			k.concludePrecision(broken, prec)
			return
		}
		k.conclude("differs", first.name, "unknown", k.unknown(first), nil, first.own.relative())
		k.others(broken[1:], nil)
		return
	}
	detail := k.describe(f, first)
	if f.cause == "final-norm-missing" && len(broken) == 1 && k.isElsewhere(first) {
		k.conclude("mislabelled", first.name, f.cause, shown(first.name)+" was taken before the final norm; the norm itself was applied", nil, f.residual.relative())
		return
	}
	explained, rest := k.others(broken[1:], &f)
	detail += k.extent(f, first, explained, rest)
	if len(ties) > 0 {
		detail += "; from what was recorded this cannot be told from " + strings.Join(ties, ", nor from ")
	}
	if k.trapped != nil {
		detail += "; besides, " + shown(k.trapped.name) + " was taken after the final norm"
	}
	k.conclude("differs", first.name, f.cause, detail, f.number(), f.residual.relative())
}

// isElsewhere says whether what arises at the subject's place was recorded under
// another name too, and is right there.
func (k *comparison) isElsewhere(s *subject) bool {
	return slices.ContainsFunc(k.subjects, func(t *subject) bool {
		return t != s && t.place == s.place && k.rows[t].Status == "ok"
	})
}

// number is the fitted constant, nil if there is none.
func (f finding) number() *Number {
	if f.fit == asTried {
		return nil
	}
	v := Number(f.value)
	return &v
}

func nonFinite(x []float64) (n int) {
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			n++
		}
	}
	return n
}

// cause returns the mistake that explains a subject best, and what other causes
// explain it as well.
func (k *comparison) cause(s *subject) (f finding, ties []string, ok bool) {
	found := k.find(s)
	if len(found) == 0 {
		return k.guessHead(s)
	}
	best := k.mostConsistent(s, found)
	f = k.refined(s, best)
	said := map[string]bool{best.cause: true, f.cause: true}
	for _, g := range found {
		if !said[g.cause] {
			said[g.cause], ties = true, append(ties, g.cause+" ("+k.describe(g, s)+")")
		}
	}
	return f, ties, true
}

// mostConsistent chooses among findings by what they say of the layer's other
// tensors: a mistake must show in all that it reaches.
func (k *comparison) mostConsistent(s *subject, found []finding) finding {
	best, most := found[0], math.MinInt
	for _, f := range found {
		var score int
		for _, t := range k.subjects {
			if t == s || t.want == nil || t.cone == nil || t.layer != s.layer || !slices.ContainsFunc(t.cone, f.hits) {
				continue
			}
			if _, ok := k.residual(t, &f.patch, t.prec); ok {
				score++
			} else {
				score--
			}
		}
		if score > most {
			best, most = f, score
		}
	}
	return best
}

// refined looks at the neighbours of a finding, which may tell more.
func (k *comparison) refined(s *subject, f finding) finding {
	rename := func(cause string) finding {
		m := *mistakeOf(cause)
		m.names, m.fit, m.tries = nil, f.fit, nil
		f.mistake = &m
		return f
	}
	switch {
	case f.cause == "rope-theta":
		return k.thetaOrWidth(f)
	case f.cause == "wrong-weight" && (s.op == "gate_proj" || s.op == "up_proj") && len(s.cone) == 1:
		other := place{s.layer, map[string]string{"gate_proj": "up_proj", "up_proj": "gate_proj"}[s.op]}
		if k.callOf(s, f.patch).otherLinear() == other && k.isBroken(other) {
			f.value = 0
			return rename("gate-up-swapped")
		}
	case f.cause == "qk-norm-swapped" && len(s.cone) == 1:
		if other := (place{s.layer, map[string]string{"q_norm": "k_norm", "k_norm": "q_norm"}[s.op]}); k.isFine(other) {
			return rename("norm-wrong-weight").saying("the norm has the weight of " + other.name())
		}
	case f.cause == "qk-norm-missing":
		if k.normComesLater(s) {
			return rename("qk-norm-after-rope")
		}
	}
	return f
}

// saying is f with another description.
func (f finding) saying(text string) finding {
	m := *f.mistake
	m.says, m.names = strings.ReplaceAll(text, "%", "%%"), nil
	f.mistake = &m
	return f
}

func (k *comparison) isBroken(p place) bool {
	return slices.ContainsFunc(k.broken, func(s *subject) bool { return s.place == p })
}

// isFine says whether p was recorded and judged to be right.
func (k *comparison) isFine(p place) bool {
	return k.ref[p] != nil && !k.isBroken(p)
}

// normComesLater says whether a q or k norm that seems to be missing is applied
// to the rotated heads.
func (k *comparison) normComesLater(s *subject) bool {
	for _, t := range k.broken {
		if t.layer != s.layer || t == s {
			continue
		}
		r := k.trial(inFloat64, nil)
		normed := func(op string) []float64 {
			w := wide(k.m.norm(place{s.layer, op[:1] + "_norm"}))
			return (&call{r, place{s.layer, op}}).rms(r.input(place{s.layer, op}), w, float64(k.m.Config.Eps), false)
		}
		var y []float64
		switch c := (&call{r, t.place}); t.op {
		case "q_rope", "k_rope":
			x := c.turn(c.get(t.op[:1]+"_proj"), c.halves(c.frequencies()), 0)
			y = c.rms(x, wide(k.m.norm(place{s.layer, t.op[:1] + "_norm"})), c.eps(), false)
		case "probs":
			y = c.attend(normed("q_rope"), normed("k_rope"), c.scale(), causal, c.group)
		default:
			continue
		}
		if t.ruler.distance(y, t.want).excess <= 2 { // not 1: the yardstick is that of the step done right
			return true
		}
	}
	return false
}

// thetaOrWidth decides what to call frequencies that are another theta's: that,
// if it is a round number, or else those of heads of another width, if that is a
// whole number.
func (k *comparison) thetaOrWidth(f finding) finding {
	c := k.m.Config
	width := float64(c.HeadDim) * math.Log(c.RoPE.Theta) / math.Log(f.value)
	whole := math.Round(width)
	// 2e-3: the fit of theta has three digits, and a width of 250 is still told from its neighbours.
	isWhole := math.Abs(width-whole) < 2e-3*whole && c.RoPE.Type == "default"
	if isWhole {
		f = f.saying(fmt.Sprintf("theta is %.6g, or the frequencies are made for heads of %g: these are the same numbers", f.value, whole))
	}
	if isWhole && roundTo(f.value, 2) != f.value {
		m := *f.mistake
		m.cause, m.fit = "rope-dim", asCount
		f.mistake, f.value = &m, whole
	}
	return f
}

// guessHead names a head that no matrix of the checkpoint is, where the config
// ties it to the embedding and the logits have nothing to do with that.
func (k *comparison) guessHead(s *subject) (f finding, ties []string, ok bool) {
	if s.op != "lm_head" || len(s.cone) > 1 || !k.m.Config.TieEmbeddings {
		return f, nil, false
	}
	y := k.trial(inFloat64, nil).compute(s.place)
	var aa, bb, ab float64
	for i, w := range s.want {
		aa, bb, ab = aa+y[i]*y[i], bb+w*w, ab+y[i]*w
	}
	// The cosine: unrelated logits have next to none, those of the right head mostly more, even
	// with some mistake in them.
	if math.Abs(ab) > 0.5*math.Sqrt(aa*bb) {
		return f, nil, false
	}
	m := &mistake{cause: "head-not-tied", says: "the logits have nothing to do with the embedding, which the config ties the head to: another head was used, or an untrained one"}
	return finding{patch: patch{m, []string{"lm_head"}, s.layer, 0}, residual: s.own}, nil, true
}

// coarseRounding says whether rounding inside of what was recorded explains all
// that is broken, although the recorded numbers themselves are not rounded.
func (k *comparison) coarseRounding(broken []*subject) (precision, bool) {
	for _, prec := range []precision{inF16, inBF16} {
		all, some := true, 0
		for _, s := range broken {
			var d distance
			if d, all = k.residual(s, nil, prec); !all {
				break
			}
			if d.yards > 0.05 { // less is no trace of this rounding at all: it would make about 1
				some++
			}
		}
		if all && 2*some >= len(broken) { // a rounding that is there shows in most
			return prec, true
		}
	}
	return precision{}, false
}

// describe says what a finding is.
func (k *comparison) describe(f finding, s *subject) string {
	text := f.says(k.plain, s)
	if len(s.cone) > 1 && len(f.ops) > 0 {
		text += ", in " + strings.Join(f.ops, ", ")
	}
	return text
}

// extent says where else the cause holds.
func (k *comparison) extent(f finding, s *subject, explained []*subject, rest int) string {
	layers := map[int]bool{}
	for _, t := range append(explained, s) {
		for _, p := range t.cone { // where it was made
			if p.layer >= 0 && p.layer < k.m.Config.Layers && (len(t.cone) == 1 || slices.Contains(f.ops, p.op)) {
				layers[p.layer] = true
			}
		}
	}
	text := ""
	switch {
	case len(layers) == 0:
	case f.layer == everyLayer || len(layers) == k.m.Config.Layers && len(layers) > 1:
		text = ", in every layer"
	case len(layers) == 1:
		text = fmt.Sprintf(", in layer %d", slices.Collect(maps.Keys(layers))[0])
	default:
		text = fmt.Sprintf(", in %d of %d layers", len(layers), k.m.Config.Layers)
	}
	if len(explained)+rest > 0 {
		text += fmt.Sprintf("; it explains %d of %s", len(explained), counted(len(explained)+rest, "other broken tensor"))
	}
	return text
}

// unknown describes a tensor that no known mistake reproduces.
func (k *comparison) unknown(s *subject) string {
	text := fmt.Sprintf("largest own error %.2g, largest number %.3g, and none of the %d known mistakes reproduces it", s.own.max, s.own.size, len(mistakes))
	if len(s.cone) > 1 {
		text += fmt.Sprintf("; it was recorded as one of %d steps: record what lies between", len(s.cone))
	}
	return text
}

// others sorts the further broken tensors into those that the same mistake
// explains and the rest, and looks for the causes of a few of the rest.
func (k *comparison) others(broken []*subject, f *finding) (explained []*subject, rest int) {
	var known []*finding
	if f != nil {
		known = append(known, f)
	}
	searches := 4 // each takes as long as the first's; a port with more mistakes is judged again when these are mended
	for _, s := range broken {
		at := slices.IndexFunc(known, func(f *finding) bool { return k.same(s, f) })
		switch {
		case at == 0 && f != nil:
			explained = append(explained, s)
			continue
		case at >= 0:
			rest++
			continue
		}
		rest++
		if searches--; searches < 0 || nonFinite(s.want) > 0 {
			continue
		}
		o := Finding{First: s.name, Cause: "unknown", Detail: ""}
		if g, _, ok := k.cause(s); ok {
			known = append(known, &g)
			o.Cause, o.Detail, o.Value = g.cause, k.describe(g, s), g.number()
		} else {
			o.Detail = k.unknown(s)
		}
		k.report.Others = append(k.report.Others, o)
	}
	return explained, rest
}

// same says whether the mistake of f, made in any of its steps, explains s too.
func (k *comparison) same(s *subject, f *finding) bool {
	for i := range mistakes {
		m := &mistakes[i]
		if m.cause != f.cause && !(f.cause == "gate-up-swapped" && m.cause == "wrong-weight") {
			continue
		}
		for _, ops := range m.sites(s.cone) {
			for _, layer := range layersOf(ops, s.cone) {
				var explains bool
				if a := (patch{m, ops, layer, f.value}); m.fit == asTried {
					_, explains = k.fitted(s, a)
				} else { // the constant must be the same
					_, explains = k.reproduces(s, a)
				}
				if explains {
					return true
				}
			}
		}
	}
	return false
}

// Growth follows the error through the layers.
type Growth struct {
	Layers   []LayerGrowth `json:"layers"`
	Fit      string        `json:"fit"`      // bounded, linear or exponential; "" with fewer than three layers
	Rate     Number        `json:"rate"`     // error added by a layer, or its factor
	Expected Number        `json:"expected"` // the fit's value after the last layer
}

// LayerGrowth is one block output: the error of our chain against the reference,
// relative to the reference's size, and how much the layer changes the stream.
type LayerGrowth struct {
	Name       string `json:"name"`
	Error      Number `json:"error"`       // rms of the difference ÷ rms of the reference
	Increase   Number `json:"increase"`    // error ÷ that of the layer before
	Own        Number `json:"own"`         // largest own error ÷ largest number
	ChangeMean Number `json:"change_mean"` // ‖out-in‖, mean over the tokens
	ChangeMax  Number `json:"change_max"`  // and the largest

	positions []float64
}

// finish fills in what remains: tensors that are missing, statuses, growth.
func (k *comparison) finish() {
	r := k.report
	recorded := map[place]bool{}
	for _, s := range k.subjects {
		recorded[s.place] = true
	}
	at, wrong := 0, false
	for _, p := range k.m.places() {
		if !recorded[p] {
			if k.judged(p) {
				none := Number(math.NaN())
				r.Tensors = append(r.Tensors, TensorReport{Name: p.name(), Status: "missing", Worst: []Spot{}, place: p,
					MaxAbs: none, RMS: none, Relative: none, Cosine: none, OwnMaxAbs: none, OwnRelative: none, OwnExcess: none, TowardsZero: none})
			}
			continue
		}
		for ; at < len(k.subjects) && k.subjects[at].place == p; at++ {
			row := *k.rows[k.subjects[at]]
			// 1e-5: two honest chains are about 1e-6 apart, so this much came from what is wrong.
			if row.Status == "ok" && wrong && float64(row.MaxAbs) > 1e-5*k.subjects[at].own.size {
				row.Status = "inherited"
			}
			wrong = wrong || row.Status == "broken"
			r.Tensors = append(r.Tensors, row)
		}
	}
	k.measureGrowth()
}

// measureGrowth fills in the growth of the error over the block outputs.
func (k *comparison) measureGrowth() {
	g := &k.report.Growth
	g.Layers = []LayerGrowth{}
	var before []float64
	done := map[place]bool{}
	for _, s := range k.subjects {
		if s.want == nil || done[s.place] || s.op != blockOutput && s.op != "embed_tokens" {
			continue
		}
		done[s.place] = true
		row, square := k.rows[s], 0.0
		for _, v := range s.want {
			square += v * v
		}
		l := LayerGrowth{Name: s.name, Error: row.RMS / Number(math.Sqrt(square/float64(len(s.want)))), Own: row.OwnRelative, positions: row.positions}
		if n := len(g.Layers); n > 0 && g.Layers[n-1].Error > 0 {
			l.Increase = l.Error / g.Layers[n-1].Error
		}
		if before != nil {
			l.ChangeMean, l.ChangeMax = change(before, s.want, s.width)
		}
		before = s.want
		g.Layers = append(g.Layers, l)
	}
	g.fit()
}

// change returns the mean and the largest length of a token's change.
func change(in, out []float64, width int) (mean, most Number) {
	rows := len(out) / width
	for t := range rows {
		sum := 0.0
		for i := t * width; i < (t+1)*width; i++ {
			sum += (out[i] - in[i]) * (out[i] - in[i])
		}
		mean, most = mean+Number(math.Sqrt(sum)/float64(rows)), max(most, Number(math.Sqrt(sum)))
	}
	return mean, most
}

// fit describes the error after layer i by e, e + rate*i or e * rate^i, whichever
// comes closest: bounded unless one of the others halves the squares, since with one
// number more any fit is a little closer. Two layers are not enough to tell them apart.
func (g *Growth) fit() {
	var x, y, ln []float64
	for i, l := range g.Layers {
		// A layer that is wrong itself: growth begins after it. An honest one makes an error a few
		// times larger at most.
		if l.Increase > 30 {
			x, y, ln = nil, nil, nil
		}
		if e := float64(l.Error); e > 0 && !math.IsInf(e, 0) {
			x, y, ln = append(x, float64(i)), append(y, e), append(ln, math.Log(e))
		}
	}
	if len(x) < 3 {
		return
	}
	flat := squares(x, ln, func(float64) float64 { return mean(ln) })
	a, b := line(x, y)
	straight := squares(x, ln, func(v float64) float64 { return math.Log(max(a+b*v, 1e-300)) })
	c, d := line(x, ln)
	curved := squares(x, ln, func(v float64) float64 { return c + d*v })
	last := x[len(x)-1]
	switch {
	case b > 0 && straight < flat/2 && straight <= curved:
		g.Fit, g.Rate, g.Expected = "linear", Number(b), Number(a+b*last)
	case d > 0 && curved < flat/2:
		g.Fit, g.Rate, g.Expected = "exponential", Number(math.Exp(d)), Number(math.Exp(c+d*last))
	default:
		g.Fit, g.Expected = "bounded", Number(math.Exp(mean(ln)))
	}
}

// line fits y = a + b*x.
func line(x, y []float64) (a, b float64) {
	mx, my, xx, xy := mean(x), mean(y), 0.0, 0.0
	for i := range x {
		xx, xy = xx+(x[i]-mx)*(x[i]-mx), xy+(x[i]-mx)*(y[i]-my)
	}
	b = xy / xx
	return my - b*mx, b
}

func mean(x []float64) (m float64) {
	for _, v := range x {
		m += v / float64(len(x))
	}
	return m
}

// squares returns the sum of the squared errors of f.
func squares(x, y []float64, f func(float64) float64) (sum float64) {
	for i := range x {
		sum += (y[i] - f(x[i])) * (y[i] - f(x[i]))
	}
	return sum
}

// recordings compares two recordings without a model: differences, no causes.
func (k *comparison) recordings() (*Report, error) {
	// Two engines in float32 that add up in other orders come within 1e-5 of each other.
	tolerance := cmp.Or(k.Tolerance, 1e-4)
	layers := depth(slices.Concat(k.Ours.Tensors, k.rec.Tensors))
	if err := k.choose(layers); err != nil {
		return nil, err
	}
	if len(k.rec.IDs) == 0 {
		return nil, errors.New("qwen: the recording: found no ids, expected those that were run")
	}
	r := k.report
	r.Growth.Layers = []LayerGrowth{}
	if k.sameIDs() {
		return r, nil
	}
	byName, byPlace := map[string]Tensor{}, map[place]Tensor{}
	for _, t := range slices.Backward(k.Ours.Tensors) { // the first of a name counts
		byName[t.Name] = t
		if p, ok := placeOf(t.Name, layers); ok {
			byPlace[p] = t
		}
	}
	compared := 0
	for _, t := range inOrder(k.rec.Tensors, layers) {
		p, known := placeOf(t.Name, layers)
		if !known && k.chosen() != "" || known && !k.judged(p) {
			continue
		}
		if !known {
			p = place{}
		}
		o, ok := byName[t.Name]
		if !ok && known {
			o, ok = byPlace[p]
		}
		none := Number(math.NaN())
		row := TensorReport{Name: t.Name, Status: "missing", Worst: []Spot{}, place: p, OwnMaxAbs: none, OwnRelative: none, OwnExcess: none, TowardsZero: none}
		if ok {
			if err := k.compareTwo(&row, t, o, tolerance); err != nil { // a mask, or ids of another kind
				k.warn("left out: %s", strings.TrimPrefix(err.Error(), "qwen: "))
				continue
			}
			compared++
		}
		r.Tensors = append(r.Tensors, row)
	}
	switch {
	case compared == 0 && len(r.Warnings) > 0:
		return nil, fmt.Errorf("qwen: %s; found no tensor of numbers%s in both recordings, expected one to compare", r.Warnings[0], k.chosen())
	case compared == 0:
		return nil, fmt.Errorf("qwen: the recordings: found no tensor%s in both, expected one to compare", k.chosen())
	case r.First == nil:
		k.conclude("match", "", "", fmt.Sprintf("agreement to %g of the largest number, in %s", tolerance, counted(compared, "tensor")), nil, 0)
	}
	return r, nil
}

// compareTwo fills in the row of a tensor that two recordings have, and concludes that
// they differ if it is the first that does. It returns an error if one holds no numbers.
func (k *comparison) compareTwo(row *TensorReport, theirs, ours Tensor, tolerance float64) error {
	x, err := numbers(theirs)
	if err != nil {
		return err
	}
	y, err := numbers(ours)
	if err != nil {
		return err
	}
	isFirst := k.report.First == nil
	if x, y, ok := sameShape(x, theirs.Shape, y, ours.Shape); !ok {
		row.Status = "shape"
		if isFirst {
			k.conclude("differs", row.Name, "unknown", fmt.Sprintf("%s: found shape %s, and %s in ours", shown(row.Name), shapeText(theirs.Shape), shapeText(ours.Shape)), nil, 1)
		}
	} else if row.differences(y, wide(x)); float64(row.Relative) <= tolerance {
		row.Status = "ok"
	} else if row.Status = "inherited"; isFirst {
		row.Status = "broken"
		k.conclude("differs", row.Name, "unknown", fmt.Sprintf("the first tensor that differs by more than %g of its largest number; without a model (-model) nothing is known of its cause", tolerance), nil, row.Relative)
	}
	return nil
}

// sameShape returns the numbers of two tensors in an order that both have: one may
// have a batch of one, or heads and headDim as one dimension, and the other not.
func sameShape(x []float32, xShape []int, y []float32, yShape []int) (_, _ []float32, ok bool) {
	if z, ok := fitShape(y, yShape, xShape); ok {
		return x, z, true
	}
	z, ok := fitShape(x, xShape, yShape)
	return z, y, ok
}

// depth returns how many layers the names of tensors speak of.
func depth(tensors []Tensor) (layers int) {
	const many = 1 << 30 // no name says so large a number
	for _, t := range tensors {
		if p, ok := placeOf(t.Name, many); ok && p.layer < many-1 { // neither the final norm nor what it reads
			layers = max(layers, p.layer+1)
		}
	}
	return layers
}

// inOrder sorts tensors by the data flow, those of unknown names last.
func inOrder(tensors []Tensor, layers int) []Tensor {
	rank := func(t Tensor) int {
		p, ok := placeOf(t.Name, layers)
		if !ok {
			return math.MaxInt
		}
		return (p.layer+1)*len(steps) + slices.IndexFunc(steps, func(s step) bool { return s.op == p.op })
	}
	all := slices.Clone(tensors)
	slices.SortStableFunc(all, func(a, b Tensor) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}
