package qwen

// Trace shows every intermediate of the forward pass to a function, by the name
// that Hugging Face's modules have, so that a run can be held against another
// implementation's, tensor by tensor.
//
//	model.embed_tokens                         [seq, hidden]
//	model.layers.0.input_layernorm             [seq, hidden]
//	model.layers.0.self_attn.q_proj            [seq, heads*headDim]     bias added
//	model.layers.0.self_attn.k_proj            [seq, kvHeads*headDim]
//	model.layers.0.self_attn.v_proj            [seq, kvHeads*headDim]
//	model.layers.0.self_attn.q_norm            [seq, heads, headDim]    Qwen3
//	model.layers.0.self_attn.k_norm            [seq, kvHeads, headDim]  Qwen3
//	model.layers.0.self_attn.q_rope            [seq, heads, headDim]
//	model.layers.0.self_attn.k_rope            [seq, kvHeads, headDim]
//	model.layers.0.self_attn.probs             [heads, seq, past+seq]   after softmax
//	model.layers.0.self_attn.context           [seq, heads*headDim]     what o_proj reads
//	model.layers.0.self_attn.o_proj            [seq, hidden]
//	model.layers.0.attn_residual               [seq, hidden]            x + o_proj
//	model.layers.0.post_attention_layernorm    [seq, hidden]
//	model.layers.0.mlp.gate_proj               [seq, intermediate]
//	model.layers.0.mlp.up_proj                 [seq, intermediate]
//	model.layers.0.mlp.act_fn                  [seq, intermediate]
//	model.layers.0.mlp.gated                   [seq, intermediate]      what down_proj reads
//	model.layers.0.mlp.down_proj               [seq, hidden]
//	model.layers.0                             [seq, hidden]            the block's output
//	…
//	model.norm                                 [seq, hidden]
//	lm_head                                    [seq, vocab]
//
// Most are outputs of transformers' modules, which a forward hook sees. The six
// that are no module's output there (q_rope, k_rope, probs, context, attn_residual,
// and gated) are those where ports go wrong most often, so they are named here.
//
// The forward pass is not written twice for this: it calls see.step after each
// step, and a nil Trace makes that a comparison with nil. The smallest use
// (ExampleModel_Trace shows what it prints):
//
//	m.Trace(ids, m.NewCache(), func(name string, shape []int, x []float32) {
//		fmt.Println(name, shape)
//	})
//
// A Recording is what such a function saw, here or elsewhere, as a safetensors
// file has it: every intermediate under its name, and input_ids. Where in the network
// each name belongs is for diagnose.go to say.
//
// And one look is always taken: a logit that is NaN makes Forward fail, and blame
// says which weight is the reason.
//
// Reference: torch.nn.Module.register_forward_hook; transformers
// model_debugging_utils.py, model_addition_debugger_context. testdata/trace.py
// makes the same file with the first.
//
// Next: diagnose.go

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Trace is shown each intermediate: its name, its shape, and its numbers, which
// it must neither change nor keep. A nil Trace is shown nothing.
type Trace func(name string, shape []int, x []float32)

// Trace runs tokens like Forward and shows see every intermediate, of all tokens. Forward
// itself computes less: of the last layer, the last norm and the logits only what the last
// token needs, and those numbers are the same bits.
func (m *Model) Trace(tokens []int, cache *Cache, see Trace) error {
	_, err := m.forward(tokens, cache, see)
	return err
}

// step shows x, whose shape is [seq, dims...]; seq follows from len(x).
func (see Trace) step(name string, x []float32, dims ...int) {
	if see == nil {
		return
	}
	n := 1
	for _, d := range dims {
		n *= d
	}
	see(name, append([]int{len(x) / n}, dims...), x)
}

// probs shows attention's probabilities, [heads, seq, past+seq].
func (see Trace) probs(x []float32, heads, seq, total int) {
	if see != nil {
		see("self_attn.probs", []int{heads, seq, total}, x)
	}
}

// layer returns a Trace that puts the name of layer i before each name. An empty
// name becomes the layer's own, that of its output: so block and attention need not
// know which layer they are, and a nil Trace stays nil all the way down.
func (see Trace) layer(i int) Trace {
	if see == nil {
		return nil
	}
	prefix := fmt.Sprintf("model.layers.%d", i)
	return func(name string, shape []int, x []float32) {
		if name != "" {
			name = "." + name
		}
		see(prefix+name, shape, x)
	}
}

// ErrNotFinite says that the network computed NaN or Inf.
var ErrNotFinite = errors.New("qwen: not finite")

// checkFinite returns an error that names the first weight that is not finite if
// a logit is not: text made of such numbers is garbage. One NaN is enough, since
// every sum that it goes into is NaN; so it is looked for at the end, where looking
// costs nothing, and only then is its source searched.
func (m *Model) checkFinite(logits []float32) error {
	for _, v := range logits {
		if !finite(v) {
			return m.blame()
		}
	}
	return nil
}

// finite says whether v is a number: neither NaN nor an infinity.
func finite(v float32) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }

// blame looks for the first weight, in the order of the forward pass, that is
// not finite. If there is none the activations themselves have left the range of
// float32, which a trace shows layer by layer.
//
//	qwen: not finite: weight model.layers.3.mlp.up_proj.weight: found NaN at element 17, expected a finite number
func (m *Model) blame() error {
	const piece = 1 << 16 // bytes at a time: a tensor as float32 can be larger than the memory
	for _, t := range m.tensors[:m.used] {
		for at := 0; at < len(t.Data); at += piece {
			data := t.Data[at:min(at+piece, len(t.Data))]
			x := make([]float32, len(data)/t.DType.Size())
			widen(x, data, t.DType)
			for i, v := range x {
				if !finite(v) {
					return fmt.Errorf("%w: weight %s: found %v at element %d, expected a finite number", ErrNotFinite, shown(t.Name), v, at/t.DType.Size()+i)
				}
			}
		}
	}
	return fmt.Errorf("%w: the logits, although every weight is finite: the activations overflowed", ErrNotFinite)
}

// A Recording is one run of a network, of this package's or of another: its ids
// and its intermediates by name. Record makes one, ReadRecording reads one,
// WriteSafetensors writes All of it, and Compare judges it.
type Recording struct {
	IDs     []int // input_ids
	Tensors []Tensor
}

// Record runs tokens from an empty cache and returns every intermediate whose
// name keep accepts; a nil keep accepts all. They are many: in Qwen3-0.6B
//
//	a layer, but for probs    30 * 1024 numbers a token
//	28 layers, and the logits 1.0 million numbers, 4 MB a token
//	probs                     28 layers * 16 heads * seq * seq: 1.8 GB for 1,000 tokens
func (m *Model) Record(tokens []int, keep func(name string) bool) (*Recording, error) {
	r := &Recording{IDs: slices.Clone(tokens)}
	err := m.Trace(tokens, m.NewCache(), func(name string, shape []int, x []float32) {
		if keep == nil || keep(name) {
			r.Tensors = append(r.Tensors, NewTensor(name, x, shape...))
		}
	})
	return r, err
}

// All returns the recording as a safetensors file holds it: input_ids first, as I64
// because that is what torch writes.
func (r *Recording) All() []Tensor {
	var ids []byte
	for _, id := range r.IDs {
		ids = binary.LittleEndian.AppendUint64(ids, uint64(id))
	}
	return append([]Tensor{{"input_ids", I64, []int{len(r.IDs)}, ids}}, r.Tensors...)
}

// A Rename replaces names that match From, as a whole, by To, in which $1 stands
// for the first group. llama.cpp's names, for example:
//
//	Qcur_normed-(\d+)   model.layers.$1.self_attn.q_norm   Qcur_normed-3 is that of layer 3
//	result_norm         model.norm
type Rename struct {
	From *regexp.Regexp
	To   string
}

// ParseRenames reads a JSON object of regular expressions and their replacements,
// such as {"Qcur_normed-(\\d+)": "model.layers.$1.self_attn.q_norm"}. The
// first that matches a name counts.
func ParseRenames(data []byte) (renames []Rename, err error) {
	err = readJSON(data, func(r *jsonReader) {
		r.object(func(key string) {
			from, err := regexp.Compile("^(?:" + key + ")$")
			if err != nil {
				r.fail("a name that is no regular expression: "+quote(key), "one, with literal dots written \\.")
				return
			}
			// $1x is group 1 and an x, and not a group of the name 1x
			renames = append(renames, Rename{from, groupNumber.ReplaceAllString(r.string(), "$${$1}")})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("qwen: rename table: %w", err)
	}
	return renames, nil
}

var groupNumber = regexp.MustCompile(`\$(\d+)`)

// ReadRecording reads a recording: a safetensors file, or a folder of them, such
// as transformers' model_addition_debugger_context(use_repr=False) writes, where
// each file holds one tensor, "data", and has the name of its module:
//
//	model.layers.0.mlp.up_proj_outputs.safetensors
//
// An error is a *LoadError that names the file, or the folder where it is about all
// of them.
func ReadRecording(path string, renames ...Rename) (*Recording, error) {
	files := []string{path}
	info, err := os.Stat(path)
	isFolder := err == nil && info.IsDir() // what else is not a regular file, opening it says
	if isFolder {
		if files, err = recordingFiles(path); err != nil {
			return nil, err
		}
	}
	var all []Tensor
	for _, file := range files {
		tensors, err := readTensors(file)
		if errors.Is(err, ErrFileChanged) { // catchFault knows no file
			return nil, &LoadError{file, ErrFileChanged, "the file became shorter while it was read"}
		}
		if err != nil {
			return nil, err
		}
		for _, t := range tensors {
			if isFolder && t.Name == "data" {
				t.Name = strings.TrimSuffix(filepath.Base(file), ".safetensors")
			}
			all = append(all, t)
		}
	}
	r, err := newRecording(all, renames)
	if err != nil {
		return nil, inFile(path, ErrBadHeader, err)
	}
	return r, nil
}

// recordingFiles returns the files of a folder that can be a recording's, by name. They are
// not looked for by a pattern: the folder's own name may hold a [ or a *.
func recordingFiles(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil { // a folder that may not be read, or has gone since Stat
		kind := ErrNotRegular
		if errors.Is(err, fs.ErrPermission) {
			kind = fs.ErrPermission
		}
		return nil, &LoadError{dir, kind, "cannot be read: " + reason(err) + ", expected a folder of recordings"}
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".safetensors") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, &LoadError{dir, ErrMissingTensor, "found no .safetensors file in the folder, expected a recording"}
	}
	return files, nil
}

// maxRecording is the largest file that is read as a recording, in bytes: a recording
// lies in memory, some of it several times.
const maxRecording = 16 << 30

// readTensors reads one file. It is mapped where the system can, so that the header is
// judged before memory for the rest is asked for; the numbers are copied, since nobody closes
// a Recording.
func readTensors(file string) (tensors []Tensor, err error) {
	data, release, err := folder{}.mapFile(file)
	if err != nil {
		return nil, err
	}
	defer release()
	defer catchFault(&err)()
	if int64(len(data)) > maxRecording {
		return nil, &LoadError{file, ErrTooLarge, fmt.Sprintf("found %d bytes, expected at most %d", len(data), int64(maxRecording))}
	}
	if tensors, _, err = ParseSafetensors(data); err != nil {
		return nil, inFile(file, ErrBadHeader, err)
	}
	for i := range tensors {
		tensors[i].Data = slices.Clone(tensors[i].Data)
	}
	return tensors, nil
}

// NewRecording makes a recording of tensors, one of which is input_ids. Whoever has
// another format reads it, makes a NewTensor of each intermediate, and calls this.
//
// It returns an error if there are no ids, or none that are integers in one list, if two
// tensors of ids differ, or if a tensor has more or fewer bytes than its shape needs. What
// the tensors are is for Compare to judge.
func NewRecording(tensors []Tensor, renames ...Rename) (*Recording, error) {
	r, err := newRecording(tensors, renames)
	if err != nil {
		return nil, fmt.Errorf("qwen: %w", err)
	}
	return r, nil
}

// newRecording is NewRecording, whose errors are yet to be told where they come from.
func newRecording(tensors []Tensor, renames []Rename) (*Recording, error) {
	r, found := &Recording{}, false
	for _, t := range tensors {
		for _, n := range renames {
			if n.From.MatchString(t.Name) {
				t.Name = n.From.ReplaceAllString(t.Name, n.To)
				break
			}
		}
		if err := checkBytes(t); err != nil {
			return nil, err
		}
		// The debugger of transformers records the ids as an argument of each module that takes them.
		if t.Name != "input_ids" && !strings.HasSuffix(t.Name, "_inputs_kwargs_input_ids") {
			r.Tensors = append(r.Tensors, t)
			continue
		}
		ids, err := integers(t)
		if err != nil {
			return nil, err
		}
		if found && !slices.Equal(ids, r.IDs) {
			return nil, fmt.Errorf("%s: found other ids than in another tensor of ids, expected the same", shown(t.Name))
		}
		r.IDs, found = ids, true
	}
	if !found {
		return nil, errors.New("input_ids: not found, expected the ids that were run, as I64")
	}
	return r, nil
}

// checkBytes says whether a tensor has the bytes that its shape needs: a reader makes sure
// of that, but anybody can make a Tensor.
func checkBytes(t Tensor) error {
	if size, ok := byteSize(t.Shape, t.DType); !ok || size != uint64(len(t.Data)) {
		return fmt.Errorf("%s: found %d bytes for shape %s of %s, expected %s", shown(t.Name), len(t.Data), shapeText(t.Shape), quote(string(t.DType)), sizeText(size, ok))
	}
	return nil
}

// integers returns a list of ids, [seq] or [1, seq]: torch makes I64, other engines
// what they have. An id that is too large for the vocabulary, or below 0, is Compare's to
// refuse: only there is the model known.
func integers(t Tensor) (ids []int, err error) {
	size := t.DType.Size()
	shape := t.Shape
	if len(shape) == 2 && shape[0] == 1 { // a batch of one
		shape = shape[1:]
	}
	if len(shape) != 1 || shape[0] == 0 || (t.DType != I64 && t.DType != "I32" && t.DType != "U32" && t.DType != "U64") {
		return nil, fmt.Errorf("%s: found %s %s, expected I64 [seq]", shown(t.Name), plainText(clip(string(t.DType))), shapeText(t.Shape))
	}
	for at := 0; at < len(t.Data); at += size {
		switch t.DType {
		case "I32":
			ids = append(ids, int(int32(binary.LittleEndian.Uint32(t.Data[at:]))))
		case "U32":
			ids = append(ids, int(binary.LittleEndian.Uint32(t.Data[at:])))
		default:
			ids = append(ids, int(int64(binary.LittleEndian.Uint64(t.Data[at:]))))
		}
	}
	return ids, nil
}

// numbers returns a tensor's numbers as float32, in which an honest engine computes;
// a recording in float64 loses nothing that a comparison could see: the last bit of a
// float32 is a 16-millionth, and rounding in a network makes ten times that.
func numbers(t Tensor) ([]float32, error) {
	if err := checkBytes(t); err != nil {
		return nil, fmt.Errorf("qwen: %w", err)
	}
	switch t.DType {
	case F32, F16, BF16:
		return t.Float32()
	case "F64":
		x := make([]float32, len(t.Data)/8)
		for i := range x {
			x[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
		return x, nil
	}
	return nil, fmt.Errorf("qwen: %s: found dtype %s, expected F32, F16, BF16 or F64", shown(t.Name), plainText(clip(string(t.DType))))
}
