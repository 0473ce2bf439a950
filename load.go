package qwen

// Load turns a folder, used as it was published, into a Model:
//
//	config.json                     what the network looks like            config.go
//	generation_config.json          which ids end an answer, sampling      config.go
//	tokenizer.json                  how text becomes ids                   tokenizer_load.go
//	chat_template.jinja             how a conversation becomes text        chat.go
//	  or tokenizer_config.json
//	model.safetensors               the weights, nearly all bytes          safetensors.go
//	  or model.safetensors.index.json and model-00001-of-00005.safetensors, …
//
// Every tensor that the config asks for is looked up by its Hugging Face name
// before the first token is computed, and its dtype and shape are checked. A
// tensor that is missing is an error; nothing is made up, cast or broadcast.
//
// The folder comes from strangers: names from the index must stay in the folder, and
// nothing is allocated by a number of the config before the weights have confirmed it.
//
// Reference: transformers modeling_utils.py, from_pretrained.
//
// Next: file.go

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Load reads the checkpoint in dir. Close the model when it is no longer needed.
//
// Errors are of type *LoadError. A folder without tokenizer.json is a model that takes
// ids; one whose chat template is not known can do all but Chat.
func Load(dir string) (*Model, error) { return load(folder{dir: dir}) }

// LoadFS is Load for a checkpoint in a file system, such as an embed.FS. Weights
// that are not in a file of the operating system are read into memory.
func LoadFS(fsys fs.FS) (*Model, error) {
	if fsys == nil {
		return nil, errNoFS()
	}
	return load(folder{dir: ".", fsys: fsys})
}

func errNoFS() error { return &LoadError{".", fs.ErrNotExist, "found no file system, expected one"} }

// load puts a model together, the cheap files first: a folder that cannot work is
// refused before gigabytes are mapped.
func load(f folder) (_ *Model, err error) {
	m := &Model{}
	defer func() {
		if err == ErrFileChanged { // of catchFault, which knows no file
			err = &LoadError{f.dir, ErrFileChanged, "a file of weights became shorter while it was read"}
		}
		if err != nil {
			m.Close()
		}
	}()
	defer catchFault(&err)()
	// 1. What the network looks like: everything after this is checked against it.
	if m.Config, err = f.config(); err != nil {
		return nil, err
	}
	// 2. How text becomes ids. A folder without a tokenizer is a model that takes ids.
	if m.Tokenizer, err = f.tokenizer(); err != nil && !f.absent("tokenizer.json", err) {
		return nil, err
	}
	if m.Tokenizer != nil {
		if id := m.Tokenizer.Len() - 1; id >= m.Config.Vocab {
			return nil, &LoadError{f.path("tokenizer.json"), ErrTokenizer, fmt.Sprintf("found token id %d, expected ids below the config's vocab_size, %d", id, m.Config.Vocab)}
		}
	}
	// 3. How a conversation becomes text.
	if m.Template, err = f.template(m.Config.ModelType); err != nil {
		return nil, err
	}
	// 4. The weights, by name, and each into its place.
	weights, source, err := f.weights(m)
	if err != nil {
		return nil, err
	}
	if err := m.connect(weights, source); err != nil {
		return nil, err
	}
	// 5. The angles of RoPE. Theta and factor come from the file, and could be such
	// that the angle of the last position is not finite.
	m.rotary = NewRotary(m.Config.RoPE, m.Config.HeadDim)
	for i, freq := range m.rotary.InvFreq {
		if last := freq * float32(m.Config.MaxPositions) * m.rotary.Scale; !finite(last) {
			return nil, &LoadError{f.path("config.json"), ErrConfig, fmt.Sprintf("rope fields: found an angle of %v for pair %d at the last position, expected a finite one", last, i)}
		}
	}
	return m, nil
}

// weights maps the files and returns every tensor by its name, and the file that
// says which tensors there are. Hugging Face cuts checkpoints of more than a few
// gigabytes into shards, and writes an index of them; a model.safetensors counts
// before an index, as in transformers. A layer's tensors may lie in two shards: they
// are cut by size.
func (f folder) weights(m *Model) (all map[string]located, source string, err error) {
	tensors, err := f.shard(m, "model.safetensors")
	if f.absent("model.safetensors", err) {
		return f.shards(m)
	} else if err != nil {
		return nil, "", err
	}
	source = f.path("model.safetensors")
	all = make(map[string]located, len(tensors))
	for _, t := range tensors {
		all[t.Name] = located{t, source}
	}
	return all, source, nil
}

// A located tensor knows its file, for messages: of five shards one is broken.
type located struct {
	Tensor
	file string
}

// shard maps one safetensors file. It is unmapped by Close, also when loading
// fails half-way: m knows of it before it is read.
func (f folder) shard(m *Model, name string) ([]Tensor, error) {
	data, release, err := f.mapFile(name)
	if err != nil {
		return nil, err
	}
	m.release = append(m.release, release)
	tensors, _, err := ParseSafetensors(data)
	if err != nil {
		return nil, inFile(f.path(name), ErrBadHeader, err)
	}
	return tensors, nil
}

// shards maps the files that model.safetensors.index.json names. A tensor comes
// from the file that the index gives for it, and from no other: two shards may hold
// a tensor of the same name, left over from another way to cut the model up.
func (f folder) shards(m *Model) (all map[string]located, source string, err error) {
	const index = "model.safetensors.index.json"
	data, err := f.read(index, maxIndexFile)
	if f.absent(index, err) {
		return nil, "", &LoadError{f.path("model.safetensors"), fs.ErrNotExist, "no such file, and no " + index + ", expected one of them"}
	} else if err != nil {
		return nil, "", err
	}
	fileOf, files, err := parseIndex(data)
	if err != nil {
		return nil, "", inFile(f.path(index), ErrConfig, err)
	}
	all = make(map[string]located, len(fileOf))
	for _, name := range files {
		tensors, err := f.shard(m, name)
		if err != nil {
			return nil, "", err
		}
		for _, t := range tensors {
			if fileOf[t.Name] == name {
				all[t.Name] = located{t, f.path(name)}
			}
		}
	}
	for _, tensor := range slices.Sorted(maps.Keys(fileOf)) {
		if _, ok := all[tensor]; !ok {
			return nil, "", &LoadError{f.path(fileOf[tensor]), ErrMissingTensor, fmt.Sprintf("%s: not found, expected it in this file, which %s gives for it", plainText(clip(tensor)), index)}
		}
	}
	return all, f.path(index), nil
}

// maxShards bounds the files of a checkpoint, each of which is opened and mapped.
const maxShards = 1 << 10

// parseIndex reads model.safetensors.index.json and returns the map and the files
// in order:
//
//	{"metadata": {"total_size": 16381470720},
//	 "weight_map": {"model.embed_tokens.weight": "model-00001-of-00005.safetensors",
//	                "lm_head.weight": "model-00005-of-00005.safetensors", …}}
func parseIndex(data []byte) (fileOf map[string]string, files []string, err error) {
	seen := map[string]bool{} // each file's name once, however many tensors it has
	err = readJSON(data, func(r *jsonReader) {
		r.object(func(key string) {
			if key != "weight_map" {
				return
			}
			fileOf = map[string]string{}
			r.object(func(tensor string) {
				name := r.string()
				if leavesFolder(name) && r.err == nil {
					r.err = &LoadError{Kind: ErrPath, Problem: r.field() + ": found " + quote(name) + ", expected the name of a file in the folder"}
				}
				if len(fileOf) == maxTensors {
					r.fail("one more tensor", fmt.Sprintf("at most %d", maxTensors))
				}
				seen[name] = true
				if len(seen) > maxShards {
					r.fail("one more file", fmt.Sprintf("at most %d", maxShards))
				}
				fileOf[tensor] = name
			})
		})
		if fileOf == nil {
			r.fail("no weight_map", "one")
		}
	})
	return fileOf, slices.Sorted(maps.Keys(seen)), err
}

// leavesFolder says whether a file name from the index could name anything but a
// file below the folder: ../../.ssh/id_rsa, /etc/passwd, and on Windows C:x, NUL
// and \\server\share.
func leavesFolder(name string) bool {
	if !filepath.IsLocal(name) || strings.ContainsAny(name, "\\\x00") {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return true
		}
	}
	return false
}

// connect puts every tensor that the config asks for into its place. source is
// the file that is named when one is missing.
//
// This is the network as a list of names, and the place to count its weights. One
// layer of Qwen3-0.6B (hidden 1024, 16 heads and 8 kvHeads of 128, intermediate 3072):
//
//	q_proj, o_proj          2 * 2048*1024 =  4,194,304
//	k_proj, v_proj          2 * 1024*1024 =  2,097,152
//	gate, up, down          3 * 3072*1024 =  9,437,184     three fifths of a layer (Qwen2.5-0.5B: 88 %)
//	norms              2*1024 + 2*128     =      2,304
//	28 layers          28 * 15,730,944    = 440,466,432
//	embedding          151936 * 1024      = 155,582,464     a quarter; the head is the same matrix
//	final norm                                    1,024
//	                                        596,049,920     "0.6B"
//
// One list for three kinds of model: a bias or a norm that one does not have is a nil
// vector, and the forward pass asks for nothing else.
//
//	                             q, k, v bias   o bias   q_norm, k_norm   lm_head.weight
//	qwen2 (Qwen2, Qwen2.5)       yes            no       no               if not tied
//	qwen3                        no             no       yes              if not tied
//	qwen3, attention_bias        yes            yes      yes              if not tied
//
// Whether a file's tensors are those of its config is not asked of a name such as
// "Qwen3ForCausalLM" but of the tensors: each is there in its shape, or Load fails.
func (m *Model) connect(tensors map[string]located, source string) error {
	c := m.Config
	g := connector{tensors: tensors, source: source, used: map[string]bool{}}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	// Qwen2 and 2.5 have biases on q, k and v, always. Qwen3 has norms there instead,
	// and biases on all four if attention_bias says so.
	qkvBias, outBias, norms := c.ModelType == "qwen2" || c.AttentionBias, c.AttentionBias, c.ModelType == "qwen3"

	embed, head := "model.embed_tokens.weight", "lm_head.weight"
	if c.TieEmbeddings && !g.has(embed) && g.has(head) {
		embed = head // tied weights may be stored under either name: they were one tensor when they were saved
	}
	m.Embed = g.matrix(embed, c.Vocab, c.Hidden)
	for i := 0; i < c.Layers && g.err == nil; i++ { // ends at the first layer that the file does not have
		name := func(suffix string) string { return fmt.Sprintf("model.layers.%d.%s", i, suffix) }
		var l Layer
		l.InputNorm = g.vector(name("input_layernorm.weight"), c.Hidden, true)
		l.Attention = AttentionWeights{
			Q:     g.matrix(name("self_attn.q_proj.weight"), q, c.Hidden),
			K:     g.matrix(name("self_attn.k_proj.weight"), kv, c.Hidden),
			V:     g.matrix(name("self_attn.v_proj.weight"), kv, c.Hidden),
			O:     g.matrix(name("self_attn.o_proj.weight"), c.Hidden, q),
			QBias: g.vector(name("self_attn.q_proj.bias"), q, qkvBias),
			KBias: g.vector(name("self_attn.k_proj.bias"), kv, qkvBias),
			VBias: g.vector(name("self_attn.v_proj.bias"), kv, qkvBias),
			OBias: g.vector(name("self_attn.o_proj.bias"), c.Hidden, outBias),
			QNorm: g.vector(name("self_attn.q_norm.weight"), c.HeadDim, norms),
			KNorm: g.vector(name("self_attn.k_norm.weight"), c.HeadDim, norms),
		}
		l.PostNorm = g.vector(name("post_attention_layernorm.weight"), c.Hidden, true)
		l.FFN = FFNWeights{
			Gate: g.matrix(name("mlp.gate_proj.weight"), c.Intermediate, c.Hidden),
			Up:   g.matrix(name("mlp.up_proj.weight"), c.Intermediate, c.Hidden),
			Down: g.matrix(name("mlp.down_proj.weight"), c.Hidden, c.Intermediate),
		}
		m.Layers = append(m.Layers, l) // one by one: the config may claim a billion
	}
	m.Norm = g.vector("model.norm.weight", c.Hidden, true)
	m.Head = m.Embed
	if !c.TieEmbeddings || embed != head && g.has(head) { // a head that is in the file counts, whatever the config says of it
		m.Head = g.matrix(head, c.Vocab, c.Hidden)
	}
	m.used = len(g.order) // all that a forward pass reads: where a logit is NaN, one of these may be why
	// What is left over is no mistake: old files have rotary_emb.inv_freq and the like. A
	// layer that the config does not count is one.
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		if g.used[name] {
			continue
		}
		g.order = append(g.order, tensors[name].Tensor)
		if layer, ok := layerOf(name); ok && layer >= c.Layers && g.err == nil { // half a network writes fluent nonsense
			g.err = &LoadError{tensors[name].file, ErrConfig, fmt.Sprintf("%s: found a layer that config.json does not count, expected num_hidden_layers, %d, of them", plainText(clip(name)), c.Layers)}
		}
	}
	m.tensors = g.order
	return g.err
}

// Tensors returns every tensor of the checkpoint as it lies in the file: those
// that the network uses, in the order of the forward pass, and then the others.
// Their Data must not be used after Close. A closed model has none.
func (m *Model) Tensors() []Tensor {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.tensors)
}

// Parameters returns the number of weights that the network uses, those of a tied
// head counted once.
func (m *Model) Parameters() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := 0
	for i, t := range m.tensors[:m.used] {
		if i > 0 && t.Name == "lm_head.weight" && m.Config.TieEmbeddings {
			continue // the embedding once more: tensor 0, under whichever name it is stored
		}
		n += len(t.Data) / t.DType.Size()
	}
	return n
}

// A connector takes tensors out of the file's table and remembers the first
// thing that was wrong, so that connect can be read as a list: no error is looked at
// between two tensors, and vectors after the first wrong one are nil.
type connector struct {
	tensors map[string]located // all that the files have
	source  string             // the file that is named when one is missing
	used    map[string]bool    // names that were taken
	order   []Tensor           // the same, in the order of the forward pass
	err     error              // the first
}

// layerOf returns the number in model.layers.NUMBER.REST: 17 of
// model.layers.17.mlp.up_proj.weight. One that is too large for an int is the largest.
func layerOf(name string) (layer int, ok bool) {
	rest, ok := strings.CutPrefix(name, "model.layers.")
	number, _, dot := strings.Cut(rest, ".")
	if !ok || !dot || number == "" || strings.Trim(number, "0123456789") != "" {
		return 0, false
	}
	if layer, err := strconv.Atoi(clip(number)); err == nil {
		return layer, true
	}
	return math.MaxInt, true
}

// has says whether there is a tensor of that name.
func (g *connector) has(name string) bool { _, ok := g.tensors[name]; return ok }

// take returns the tensor of that name, checked against its dtype and shape. Shapes
// are compared exactly: [1024] is not [1, 1024], and a weight stored the other way
// around, [in, out], is only found like this where the two differ: Qwen2.5-0.5B's
// q_proj is [896, 896], and would pass.
//
//	model.norm.weight: not found, expected shape [1024]
//	model.norm.weight: found dtype I8, expected F32, F16 or BF16
//	model.norm.weight: found shape [1, 1024], expected [1024]
func (g *connector) take(name string, shape ...int) Tensor {
	t, ok := g.tensors[name]
	switch {
	case g.err != nil:
	case !ok:
		g.err = &LoadError{g.source, ErrMissingTensor, fmt.Sprintf("%s: not found, expected shape %v", name, shape)}
	case t.DType != F32 && t.DType != F16 && t.DType != BF16:
		g.err = &LoadError{t.file, ErrDType, fmt.Sprintf("%s: found dtype %s, expected F32, F16 or BF16", name, t.DType)}
	case !slices.Equal(t.Shape, shape):
		g.err = &LoadError{t.file, ErrShape, fmt.Sprintf("%s: found shape %s, expected %v", name, shapeText(t.Shape), shape)}
	}
	g.used[name], g.order = true, append(g.order, t.Tensor)
	return t.Tensor
}

// matrix returns the tensor [rows, cols] of that name as it lies in the file: no
// copy, nothing widened. torch calls rows out_features, and cols in_features.
func (g *connector) matrix(name string, rows, cols int) Matrix {
	t := g.take(name, rows, cols)
	return Matrix{t.DType, rows, cols, t.Data}
}

// vector returns the tensor [n] of that name as float32: norms and biases are
// small, 0.01 % of the weights, and used as they are, with no kernel to widen them
// on the way. It returns nil if the model has no such tensor.
func (g *connector) vector(name string, n int, present bool) []float32 {
	if !present {
		return nil
	}
	t := g.take(name, n)
	if g.err != nil {
		return nil
	}
	x := make([]float32, n)
	widen(x, t.Data, t.DType)
	return x
}

// Close releases the weights. It waits for the calls that are using them, so it
// must not be called from a Trace; every later call returns [ErrClosed]. Embed, Head,
// the Layers and what Tensors returns are emptied; a copy of them that was kept points
// to memory that is gone. Closing twice does nothing.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, release := range m.release {
		errs = append(errs, release())
	}
	m.release, m.closed = nil, true
	// A Linear after this would read unmapped memory, and no error could say so.
	m.Embed, m.Head, m.tensors, m.used = Matrix{}, Matrix{}, nil, 0
	clear(m.Layers)
	dropRecycled()
	return errors.Join(errs...)
}

// The kinds of LoadError, for errors.Is. There are three more, which mean the same
// elsewhere: fs.ErrNotExist, fs.ErrPermission, and [ErrFileChanged], if a file of weights
// is cut short while Load reads it.
var (
	ErrTruncated     = errors.New("file is shorter than it says") // a download that was cut off
	ErrNotRegular    = errors.New("not a regular file")           // a folder, a pipe, a socket, a device
	ErrTooLarge      = errors.New("file is too large")            // to be what its name says
	ErrBadHeader     = errors.New("bad safetensors header")       // or a recording's
	ErrMissingTensor = errors.New("missing tensor")               // of those that the config asks for
	ErrShape         = errors.New("wrong shape")                  // config and weights are of different models
	ErrDType         = errors.New("wrong dtype")                  // quantised weights, as a rule
	ErrPath          = errors.New("name leaves the folder")       // in the index of shards
	ErrConfig        = errors.New("bad config")                   // config.json, generation_config.json, the index
	ErrTokenizer     = errors.New("bad tokenizer")                // or a chat template's file
)

// ErrFileChanged says that a file of weights has lost a part that the model needs. The
// methods of a Model return it as it is: they read all files as one memory, and do not
// know which it was.
var ErrFileChanged = errors.New("qwen: a file of weights became shorter while it was in use")

// ErrClosed says that a model was to run after Close.
var ErrClosed = errors.New("qwen: model is closed")

// A LoadError says which file of a checkpoint cannot be used, and why:
//
//	qwen: m/model.safetensors: model.norm.weight: found shape [36], expected [48]
//
// errors.Is(err, ErrShape) finds its kind, errors.As its fields.
type LoadError struct {
	File    string // as it was opened; the folder if it is not known which, "" if there is none
	Kind    error  // one of the kinds above; errors.Is finds it
	Problem string // the tensor or field, what was found, what was expected
}

// Error is one line of less than 2,000 bytes: a long path is cut at its front, and
// what does not print in a name from the checkpoint is escaped. An error about bytes
// that lie in no file (ParseSafetensors) names none.
func (e *LoadError) Error() string {
	if e.File == "" {
		return "qwen: " + e.Problem
	}
	file := plainText(e.File)
	if n := len(file) - 1000; n > 0 {
		file = "…" + strings.ToValidUTF8(file[n:], "")
	}
	return "qwen: " + file + ": " + e.Problem
}

// plainText returns s as it stands if every character of it prints, else quoted.
func plainText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}

// Unwrap returns the kind, for errors.Is.
func (e *LoadError) Unwrap() error { return e.Kind }

// inFile fills in the file of a LoadError, and makes one of kind out of any
// other error. The readers of formats see bytes and know no file names:
//
//	json.go     rope_theta: found a string, expected a number
//	inFile      qwen: m/config.json: rope_theta: found a string, expected a number
//
// That is the form of every error here: where, what was found, what was expected.
func inFile(file string, kind, err error) error {
	if e := (*LoadError)(nil); errors.As(err, &e) {
		e.File = file
		return e
	}
	return &LoadError{File: file, Kind: kind, Problem: err.Error()}
}
