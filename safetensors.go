package qwen

// A safetensors file is a JSON table of contents and then the numbers:
//
//	byte 0        8                  8+N
//	     ┌────────┬──────────────────┬──────────┬─────────────┬───
//	     │ N, u64 │ header, N bytes  │ tensor 0 │ tensor 1    │ …
//	     └────────┴──────────────────┴──────────┴─────────────┴───
//	header: {"__metadata__": {"format": "pt"},
//	         "model.norm.weight": {"dtype": "BF16", "shape": [896], "data_offsets": [0, 1792]}, …}
//
// data_offsets count from byte 8+N. All numbers are little-endian, tensors are
// row-major. Nothing is compressed, so a tensor can be used where it lies: the
// loader maps the file and hands out slices of the mapping.
//
// A whole file, one tensor "a" with the numbers 1 and -2 (ExampleWriteSafetensors
// prints it; so does xxd):
//
//	38 00 00 00 00 00 00 00   N = 0x38 = 56, the least significant byte first
//	7b 22 61 22 3a 7b 22 64   {"a":{"d
//	74 79 70 65 22 3a 22 46   type":"F
//	33 32 22 2c 22 73 68 61   32","sha
//	70 65 22 3a 5b 32 5d 2c   pe":[2],
//	22 64 61 74 61 5f 6f 66   "data_of
//	66 73 65 74 73 22 3a 5b   fsets":[
//	30 2c 38 5d 7d 7d 20 20   0,8]}}, and spaces up to a multiple of 8
//	00 00 80 3f 00 00 00 c0   1 = 0x3f800000, -2 = 0xc0000000
//
// The three dtypes of weights, from the highest bit to the lowest:
//
//	F32   s eeeeeeee fffffffffffffffffffffff     (-1)^s * 1.f * 2^(e-127), for e between 1 and 254
//	BF16  s eeeeeeee fffffff                     an F32 cut off: the same range, 2 decimal digits instead of 7
//	F16   s eeeee ffffffffff                     2^(e-15), e between 1 and 30: 3 digits, but nothing above 65504
//
// An e of 0 or of all ones means other things: 0 and numbers close to it, Inf, and NaN.
//
// Four numbers, each as the nearest that a type has:
//
//	            F32          BF16                   F16
//	1           3f800000     3f80                   3c00
//	-2          c0000000     c000                   c000
//	0.1         3dcccccd     3dcd  0.100097656      2e66  0.099975586
//	70000       4788b800     4789  70144            7c00  +Inf
//
// So a model trained in BF16 cannot always be stored in F16, though both have two
// bytes; and a BF16 weight with 16 zero bits after it is an F32, which is how it is read.
//
// Numerics: none. Numbers stay the bytes that they are; widen in linear.go turns
// them into float32, exactly.
//
// The file comes from strangers. What the header claims is believed only after
// the length of the file confirms it: tensors must follow each other without
// holes or overlaps, begin at 0 and end with the file, and each must have exactly
// the bytes its shape and dtype need. That leaves no room for a slice outside of
// the file, nor for bytes that no tensor owns.
//
// Reference: the safetensors format, huggingface/safetensors README.md and
// safetensors/src/tensor.rs; this reader is stricter on keys that occur twice.
//
// Next: json.go

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxHeader is the longest header, in bytes, that the format allows.
const maxHeader = 100_000_000

// Bounds of this reader, far above any checkpoint's, so that a header of that
// length cannot ask for gigabytes of tables.
const (
	maxTensors    = 1 << 15 // Qwen3-32B has 707
	maxRank       = 64      // dimensions of a tensor
	maxDimensions = 1 << 21 // of all tensors together
)

// A DType is the type of a tensor's numbers, by its name in the file.
type DType string

// The dtypes that weights may have here, and that of ids in recordings. A file may
// hold tensors of other types.
const (
	F32  DType = "F32"  // IEEE single precision
	F16  DType = "F16"  // IEEE half precision: 5 bits of exponent, 10 of fraction
	BF16 DType = "BF16" // the upper half of an F32: 8 bits of exponent, 7 of fraction
	I64  DType = "I64"  // two's complement; no weight has it
)

// dtypeBits is the width of a number of each type that the format knows. In bits,
// because F4 and F6 are narrower than a byte: four F6 numbers are three bytes. E and M in
// a name count the bits of exponent and fraction ("mantissa").
var dtypeBits = map[DType]uint64{
	"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
	"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"I16": 16, "U16": 16, F16: 16, BF16: 16, "I32": 32, "U32": 32, F32: 32,
	"C64": 64, "F64": 64, I64: 64, "U64": 64,
}

// Size returns the bytes of one number, 0 for types narrower than a byte and
// for unknown ones.
func (d DType) Size() int {
	switch d { // those that Linear asks for, with every row of weights: the map took 0.7 % of prefill
	case F16, BF16:
		return 2
	case F32:
		return 4
	}
	return int(dtypeBits[d] / 8)
}

// A Tensor is one entry of a safetensors file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int  // from the outermost to the one whose numbers are neighbours: [rows, columns]; [] for a single number
	Data  []byte // row-major, little-endian; may be mapped read-only
}

// Float32 returns the numbers of an F32, F16 or BF16 tensor as float32, or an
// error that names the tensor if it has another type.
func (t Tensor) Float32() ([]float32, error) {
	if t.DType != F32 && t.DType != F16 && t.DType != BF16 {
		return nil, fmt.Errorf("qwen: %s: found dtype %s, expected F32, F16 or BF16", t.Name, t.DType)
	}
	x := make([]float32, len(t.Data)/t.DType.Size())
	widen(x, t.Data, t.DType)
	return x, nil
}

// NewTensor returns x as an F32 tensor. Panics if shape does not have len(x)
// elements.
func NewTensor(name string, x []float32, shape ...int) Tensor {
	if size, ok := byteSize(shape, F32); !ok || size != uint64(4*len(x)) {
		panic(fmt.Sprintf("qwen: NewTensor: %s: %d numbers for shape %v", name, len(x), shape))
	}
	return Tensor{name, F32, shape, NewMatrix(x, max(1, len(x))).Data}
}

// ParseSafetensors reads a whole file that lies in data. It takes three steps: cut
// the header from the numbers, read its entries, and check the entries against each
// other and against the numbers that are there. The tensors' Data are parts of data,
// no copies; they come in the order in which they lie in the file. metadata is the
// header's __metadata__, nil if there is none.
//
// An error names the tensor, what was found and what was expected. It is a
// *LoadError, without a file name, of the kinds ErrTruncated and ErrBadHeader.
func ParseSafetensors(data []byte) (tensors []Tensor, metadata map[string]string, err error) {
	header, body, err := splitSafetensors(data)
	if err != nil {
		return nil, nil, err
	}
	// Room for as many entries as the header has "data_offsets": a guess whose cost is bounded by the header's length.
	entries := make([]headerEntry, 0, min(maxTensors, bytes.Count(header, []byte(`"data_offsets"`))))
	dimensions := 0
	err = readJSON(header, func(r *jsonReader) {
		r.object(func(name string) {
			if name == "__metadata__" {
				metadata = map[string]string{}
				r.object(func(key string) { metadata[key] = r.string() })
				return
			}
			e := readEntry(r, name)
			if dimensions += len(e.shape); dimensions > maxDimensions {
				r.fail("one more tensor", fmt.Sprintf("at most %d dimensions in all", maxDimensions))
			}
			if len(entries) == maxTensors {
				r.fail("one more tensor", fmt.Sprintf("at most %d", maxTensors))
			}
			entries = append(entries, e)
		})
	})
	if err != nil {
		return nil, nil, &LoadError{Kind: ErrBadHeader, Problem: "header: " + err.Error()}
	}
	tensors, err = cutTensors(entries, body)
	return tensors, metadata, err
}

// splitSafetensors returns the header and what follows it. N comes from the file,
// so it is compared with what is there before anything is cut; as unsigned, since
// as an int a large one would be negative and pass.
func splitSafetensors(data []byte) (header, body []byte, err error) {
	if len(data) < 8 {
		return nil, nil, badFile(ErrTruncated, "header length: found %d bytes, expected at least 8", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		return nil, nil, badFile(ErrBadHeader, "header length: found %d, expected at most %d", n, maxHeader)
	}
	if n > uint64(len(data)-8) {
		return nil, nil, badFile(ErrTruncated, "header length: found %d, expected at most the %d bytes that follow", n, len(data)-8)
	}
	return data[8 : 8+n], data[8+n:], nil
}

// A headerEntry is what the header says of one tensor, not yet believed.
type headerEntry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int64 // data_offsets, bytes from the end of the header
}

// readEntry reads {"dtype": …, "shape": […], "data_offsets": [begin, end]}: all
// three, in any order. What else an entry may hold is skipped. A shape of [] is one
// number, a shape with a 0 in it is none.
//
//	{"dtype": "BF16", "shape": [896], "data_offsets": [0, 1792]}    896 numbers of 2 bytes
//	{"dtype": "bf16", …}            dtype: found dtype "bf16", expected one of the format's types, such as BF16
//	{"shape": [-1], …}              shape[0]: found -1, expected a number that is not negative
//	{"data_offsets": [0], …}        data_offsets: found 1 offsets, expected two: begin and end
func readEntry(r *jsonReader, name string) headerEntry {
	e := headerEntry{name: name}
	var shape [maxRank]int
	seen, rank := 0, 0 // a bit for each of the three fields; dimensions so far
	size := func() int64 {
		n := r.int()
		if n < 0 {
			r.fail(strconv.FormatInt(n, 10), "a number that is not negative")
		} else if n > math.MaxInt { // of 32 bits
			r.fail(strconv.FormatInt(n, 10), "a number that this machine can address")
		}
		return n
	}
	r.object(func(key string) {
		switch key {
		case "dtype":
			seen |= 1
			text := r.string()
			if e.dtype = DType(text); dtypeBits[e.dtype] == 0 {
				r.fail("dtype "+quote(text), "one of the format's types, such as BF16")
			}
		case "shape":
			seen |= 2
			r.array(func(i int) {
				if i == maxRank {
					r.fail("one more dimension", "at most "+strconv.Itoa(maxRank))
					return
				}
				shape[i], rank = int(size()), i+1
			})
		case "data_offsets":
			seen |= 4
			n := 0
			r.array(func(i int) {
				switch n++; i {
				case 0:
					e.begin = size()
				case 1:
					e.end = size()
				default:
					r.fail("a third offset", "two: begin and end")
				}
			})
			if n != 2 {
				r.fail(fmt.Sprintf("%d offsets", n), "two: begin and end")
			}
		}
	})
	e.shape = append(make([]int, 0, rank), shape[:rank]...)
	if seen != 7 {
		r.fail("an entry without all of its fields", "dtype, shape and data_offsets")
	}
	return e
}

// cutTensors checks the entries against each other and against the length of the
// body, and returns the tensors in the order of the file. Without that, two tensors
// could share bytes, so that a scan of one says nothing about what the other will
// hold, or a file could carry along what no reader shows.
//
// Sorted by where they begin, each must begin where the one before ends, the first
// at 0, and the last must end with the file. One pass with one number, at, shows
// all of it:
//
//	begin == at, size == end-begin, end <= len(body); then at = end
//
//	[0, 8) [8, 24)          fine
//	[0, 8) [4, 20)          begins at 4, expected 8: two tensors share bytes
//	[0, 8) [16, 32)         begins at 16, expected 8: bytes that nobody owns
func cutTensors(entries []headerEntry, body []byte) ([]Tensor, error) {
	// The header lists them in any order; Hugging Face sorts by width and then by name.
	slices.SortStableFunc(entries, func(a, b headerEntry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	tensors := make([]Tensor, 0, len(entries))
	at := int64(0)
	for _, e := range entries {
		if e.begin != at || e.end < e.begin {
			return nil, badFile(ErrBadHeader, "%s: data_offsets: found [%d, %d], expected to begin at %d, where the tensor before it ends", plainText(clip(e.name)), e.begin, e.end, at)
		}
		size, ok := byteSize(e.shape, e.dtype)
		if !ok || size != uint64(e.end-e.begin) {
			return nil, badFile(ErrBadHeader, "%s: data_offsets: found %d bytes, expected %s for shape %s of %s", plainText(clip(e.name)), e.end-e.begin, sizeText(size, ok), shapeText(e.shape), e.dtype)
		}
		if e.end > int64(len(body)) {
			return nil, badFile(ErrTruncated, "%s: data_offsets: found end %d, expected at most the %d bytes that follow the header", plainText(clip(e.name)), e.end, len(body))
		}
		// The third index: an append to a tensor's Data must not write into the next one.
		tensors = append(tensors, Tensor{e.name, e.dtype, e.shape, body[e.begin:e.end:e.end]})
		at = e.end
	}
	if at != int64(len(body)) {
		return nil, badFile(ErrBadHeader, "file length: found %d bytes after the header, expected %d, where the last tensor ends", len(body), at)
	}
	return tensors, nil
}

// byteSize returns the bytes of a tensor; ok is false if they are not a whole
// number of bytes or do not fit into 64 bits. The product must not be taken with *:
// a shape of [2^32, 2^32] has 2^64 numbers, which as a product is 0, the size of an
// empty tensor. bits.Mul64 gives the upper half of the product as well.
func byteSize(shape []int, dtype DType) (size uint64, ok bool) {
	size = 1
	for _, d := range shape {
		high, low := bits.Mul64(size, uint64(d))
		if high != 0 {
			return 0, false
		}
		size = low
	}
	high, size := bits.Mul64(size, dtypeBits[dtype])
	return size / 8, high == 0 && size%8 == 0
}

// sizeText is byteSize's result for an error message.
func sizeText(size uint64, ok bool) string {
	if !ok {
		return "a whole number of bytes below 2^61"
	}
	return strconv.FormatUint(size, 10)
}

// shapeText writes a shape as [151936 896], cut if it is absurdly long.
func shapeText(shape []int) string {
	if len(shape) > 8 {
		return fmt.Sprintf("%v and %d more dimensions", shape[:8], len(shape)-8)
	}
	return fmt.Sprint(shape)
}

// badFile is a LoadError without a file name, which the caller fills in (inFile): here
// only bytes are known.
func badFile(kind error, format string, args ...any) *LoadError {
	return &LoadError{Kind: kind, Problem: fmt.Sprintf(format, args...)}
}

// appendJSON appends s as a JSON string, with whatever must be escaped: a name is any
// text, and may hold quotes and line ends. To write one, encoding/json will do.
func appendJSON(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // Marshal of a string cannot fail
	}
	return append(b, quoted...)
}

// WriteSafetensors writes tensors as one file, in the order given, the header
// padded so that the numbers begin at a multiple of 8: a program that maps the file can
// then use them as float32 without a copy. The same input gives the same bytes. It
// returns w's error, or one that names a tensor whose Data do not fit its shape, or
// whose name occurs twice.
func WriteSafetensors(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	header := []byte{'{'}
	if metadata != nil {
		header = append(header, `"__metadata__":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if i > 0 {
				header = append(header, ',')
			}
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return fmt.Errorf("qwen: metadata %s: found %s, expected UTF-8", quote(key), quote(metadata[key]))
			}
			header = appendJSON(append(appendJSON(header, key), ':'), metadata[key])
		}
		header = append(header, '}')
	}
	at, names := 0, map[string]bool{"__metadata__": true} // the next offset; names that are taken
	for _, t := range tensors {
		size, ok := byteSize(t.Shape, t.DType)
		if !ok || size != uint64(len(t.Data)) || names[t.Name] {
			return fmt.Errorf("qwen: %s: found %d bytes for shape %s of %s, expected %s, and each name once", plainText(clip(t.Name)), len(t.Data), shapeText(t.Shape), t.DType, sizeText(size, ok))
		}
		if dtypeBits[t.DType] == 0 || !utf8.ValidString(t.Name) || len(t.Shape) > maxRank || slices.ContainsFunc(t.Shape, func(d int) bool { return d < 0 }) {
			return fmt.Errorf("qwen: %s: found dtype %s and shape %s, expected a dtype of the format, at most %d dimensions, none below 0, and a name in UTF-8", plainText(clip(t.Name)), quote(string(t.DType)), shapeText(t.Shape), maxRank)
		}
		names[t.Name] = true
		if len(header) > 1 {
			header = append(header, ',')
		}
		header = append(appendJSON(header, t.Name), fmt.Sprintf(`:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`,
			t.DType, strings.ReplaceAll(fmt.Sprint(append([]int{}, t.Shape...)), " ", ","), at, at+len(t.Data))...)
		at += len(t.Data)
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}
