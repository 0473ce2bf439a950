//go:build unix

package qwen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNotRegular puts a named pipe, a socket, a device, and links to such, in
// the place of each file. Load must not read from them, and must not wait.
func TestNotRegular(t *testing.T) {
	defer answers(t, "load")()
	link := func(to string) func(string) error {
		return func(name string) error { return os.Symlink(to, name) }
	}
	kinds := []struct {
		name string
		make func(name string) error
		word string
	}{
		{"named pipe", func(name string) error { return unix.Mkfifo(name, 0o666) }, "named pipe"},
		{"link to a named pipe", func(name string) error {
			pipe := filepath.Join(filepath.Dir(name), "pipe")
			return errors.Join(unix.Mkfifo(pipe, 0o666), os.Symlink("pipe", name))
		}, "named pipe"},
		{"socket", func(name string) error {
			short, err := os.MkdirTemp("", "s") // a socket's name has room for little
			if err != nil {
				return err
			}
			defer os.RemoveAll(short)
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s")})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return errors.Join(l.Close(), os.Rename(filepath.Join(short, "s"), name))
		}, "socket"},
		{"device", link("/dev/zero"), "device"},
		{"terminal", link("/dev/tty"), ""},
		{"link to a folder", link("/"), "folder"},
		{"link to itself", func(name string) error { return os.Symlink(filepath.Base(name), name) }, "cannot be opened"},
	}
	for _, file := range folderFiles {
		for _, kind := range kinds {
			t.Run(file+" is a "+kind.name, func(t *testing.T) {
				d, dir := newDraft("qwen3"), t.TempDir()
				if file == indexName || strings.HasPrefix(file, "model-") {
					d.shards()
				}
				d.without = append(d.without, file)
				d.special = func(dir string) error { return kind.make(filepath.Join(dir, file)) }
				d.write(t, dir)
				for _, load := range []func() (*Model, error){
					func() (*Model, error) { return Load(dir) },
					func() (*Model, error) { return LoadFS(os.DirFS(dir)) },
				} {
					done := make(chan error, 1)
					go func() { _, err := load(); done <- err }()
					select {
					case err := <-done:
						checkRefusal(t, err, dir, ErrNotRegular, []string{file, kind.word})
					case <-time.After(5 * time.Second):
						t.Fatal("Load waits")
					}
				}
			})
		}
	}
}

// TestLinks loads a folder of links that leave it, as in the Hugging Face cache,
// and refuses one whose link leads nowhere.
func TestLinks(t *testing.T) {
	defer answers(t, "Load")()
	d, blobs, dir := newDraft("qwen3"), t.TempDir(), filepath.Join(t.TempDir(), "snapshots", "0123")
	d.files["tokenizer.json"] = tinyTokenizer
	d.shards()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	i := 0
	for name, text := range d.contents() {
		blob := filepath.Join(blobs, fmt.Sprintf("%040d", i))
		if err := errors.Join(os.WriteFile(blob, []byte(text), 0o666), os.Symlink(blob, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		i++
	}
	plain, err := LoadFS(mapFS(newDraft("qwen3").contents()))
	if err != nil {
		t.Fatal(err)
	}
	want := logitsOf(t, plain)
	for _, load := range []func() (*Model, error){
		func() (*Model, error) { return Load(dir) },
		func() (*Model, error) { return LoadFS(os.DirFS(dir)) },
	} {
		m, err := load()
		if err != nil {
			t.Fatal(err)
		}
		if got := logitsOf(t, m); !slices.Equal(got, want) {
			t.Errorf("logits %v, want %v", got, want)
		}
		m.Close()
	}
	shard := filepath.Join(dir, shardName(1))
	if err := errors.Join(os.Remove(shard), os.Symlink(filepath.Join(blobs, "gone"), shard)); err != nil {
		t.Fatal(err)
	}
	_, err = Load(dir)
	checkRefusal(t, err, dir, fs.ErrNotExist, []string{shardName(1), "no such file", "points to nothing", "expected"})

	// A file that need not be there is not absent if a link says where it should be.
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", weightsName, indexName} {
		dir := t.TempDir()
		newDraft("qwen3").write(t, dir)
		os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(filepath.Join(blobs, "gone"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir)
		if name == indexName { // not asked for where there is one file of weights
			if err != nil {
				t.Error(err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, err, dir, fs.ErrNotExist, []string{name, "points to nothing", "expected"})
		})
	}
}

// TestUnreadable is about files that belong to somebody else.
func TestUnreadable(t *testing.T) {
	defer answers(t, "Load")()
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	for _, file := range []string{"config.json", weightsName} {
		dir := t.TempDir()
		newDraft("qwen3").write(t, dir)
		if err := os.Chmod(filepath.Join(dir, file), 0); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir)
		checkRefusal(t, err, dir, fs.ErrPermission, []string{file, "permission"})
	}
}

// fenced returns memory of n bytes between two pages that cannot be touched:
// the first byte follows one of them, or the last byte precedes the other.
func fenced(t testing.TB, n int, atEnd bool) []byte {
	t.Helper()
	page := os.Getpagesize()
	size := (n + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(all) })
	for _, guard := range [][]byte{all[:page], all[page+size:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	at := page
	if atEnd {
		at += size - n
	}
	return all[at : at+n]
}

// TestGuardedFile reads files that lie against memory that cannot be read: cut
// at every length, with every bit of the header flipped, and all the way through
// the network. A read outside of a file would end the program.
func TestGuardedFile(t *testing.T) {
	defer answers(t, "Load")()
	d := newDraft("qwen3")
	file := d.encode()
	header := int(8 + binary.LittleEndian.Uint64(file))
	room := fenced(t, len(file), true)
	for n := range len(file) + 1 {
		part := room[len(room)-n:]
		copy(part, file)
		if _, _, err := ParseSafetensors(part); (err == nil) != (n == len(file)) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for _, atEnd := range []bool{true, false} {
		room := fenced(t, len(file), atEnd)
		copy(room, file)
		for bit := range 8 * header {
			room[bit/8] ^= 1 << (bit % 8)
			if tensors, _, err := ParseSafetensors(room); err == nil {
				checkParsed(t, room, tensors)
				useTensors(tensors)
			}
			room[bit/8] ^= 1 << (bit % 8)
		}
	}

	// Every matrix ends where memory ends: the kernels read nothing beyond it.
	for _, dtype := range []DType{F32, BF16, F16} {
		for _, atEnd := range []bool{true, false} {
			m, err := LoadFS(mapFS(d.contents()))
			if err != nil {
				t.Fatal(err)
			}
			want := logitsOf(t, m)
			move := func(w *Matrix) {
				x := make([]float32, w.Rows*w.Cols)
				widen(x, w.Data, w.DType)
				data := w.Data
				if dtype != F32 {
					data = narrow(x, dtype)
				}
				w.DType, w.Data = dtype, fenced(t, len(data), atEnd)
				copy(w.Data, data)
			}
			move(&m.Embed)
			move(&m.Head)
			for i := range m.Layers {
				l := &m.Layers[i]
				for _, w := range []*Matrix{&l.Attention.Q, &l.Attention.K, &l.Attention.V, &l.Attention.O, &l.FFN.Gate, &l.FFN.Up, &l.FFN.Down} {
					move(w)
				}
			}
			if got := logitsOf(t, m); !slices.Equal(got, want) {
				t.Errorf("%s: logits %v, want %v", dtype, got, want)
			}
		}
	}
}

// useTensors reads every byte.
func useTensors(tensors []Tensor) (sum int) {
	for _, x := range tensors {
		for _, b := range x.Data {
			sum += int(b)
		}
		x.Float32()
	}
	return sum
}

// TestShrunkFile cuts files while they are mapped, as a download that starts
// again would. Each use of the model is an error then, and the program lives,
// whichever kernel and whichever goroutine reads what is gone.
func TestShrunkFile(t *testing.T) {
	defer answers(t, "Load")()
	before := runtime.NumGoroutine()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, procs := range []int{1, 4} {
		runtime.GOMAXPROCS(procs)
		for _, dtype := range []DType{F32, BF16, F16} {
			t.Run(fmt.Sprintf("%s, %d threads", dtype, procs), func(t *testing.T) { testShrunkFile(t, dtype) })
		}
	}
	noneLeft(t, before)
}

func testShrunkFile(t *testing.T, dtype DType) {
	d, dir := newDraft("qwen3"), t.TempDir()
	d.grow(dtype)
	d.write(t, dir)
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	cache := m.NewCache()
	if _, err := m.Forward([]int{1, 2}, cache); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, weightsName)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	head := int64(len(d.tensor("lm_head.weight").Data))
	expect := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrFileChanged) {
			t.Errorf("%s: %v, expected ErrFileChanged", what, err)
		}
	}
	// First half of the head is lost, which all goroutines share; then all but the
	// first rows of the embedding.
	for _, size := range []int64{info.Size() - head/2, 8192} {
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 25} { // decode and prefill have kernels of their own
			_, err := m.Forward(make([]int, n), cache)
			expect(fmt.Sprintf("Forward of %d tokens", n), err)
		}
		if cache.Len() != 2 {
			t.Errorf("the cache holds %d tokens, expected the 2 of before", cache.Len())
		}
		expect("Trace", m.Trace([]int{1, 2, 3}, m.NewCache(), func(string, []int, []float32) {}))
		for _, err := range m.Generate(t.Context(), []int{1, 2, 3}, Options{}) {
			expect("Generate", err)
		}
	}
	// A weight that is not finite sends Forward looking through all of them.
	if err := os.Truncate(file, info.Size()-head/2); err != nil {
		t.Fatal(err)
	}
	m.Norm[0] = float32(math.NaN())
	_, err = m.Forward([]int{1}, m.NewCache())
	expect("looking for a weight", err)
}

// A cuttingFS cuts the first shard, which is mapped by then, when the second is opened.
type cuttingFS struct {
	fs.FS
	dir string
}

func (f cuttingFS) Open(name string) (fs.File, error) {
	if name == shardName(1) {
		if err := os.Truncate(filepath.Join(f.dir, shardName(0)), 0); err != nil {
			return nil, err
		}
	}
	return f.FS.Open(name)
}

// TestShrunkWhileLoading cuts a file that Load has mapped and goes on to read.
func TestShrunkWhileLoading(t *testing.T) {
	defer answers(t, "load")()
	d, dir := newDraft("qwen3"), t.TempDir()
	d.shards()
	d.write(t, dir)
	m, err := load(folder{dir, cuttingFS{os.DirFS(dir), dir}})
	if m != nil {
		t.Error("a model of a file that is gone")
	}
	refused(t, "cut while it is loaded", err, ErrFileChanged, dir+": a file of weights became shorter while it was read")
}

// grow makes the matrices so large that kernels work in parallel, and their
// type dtype.
func (d *draft) grow(dtype DType) {
	const vocab, hidden = 3000, 64
	d.config["vocab_size"], d.config["hidden_size"] = fmt.Sprint(vocab), fmt.Sprint(hidden)
	for i, x := range d.tensors {
		shape := slices.Clone(x.Shape)
		n := 1
		for j := range shape {
			shape[j] = map[int]int{11: vocab, 6: hidden}[shape[j]] + map[bool]int{true: shape[j]}[shape[j] != 11 && shape[j] != 6]
			n *= shape[j]
		}
		values := make([]float32, n)
		for k := range values {
			values[k] = float32((k*7+i)%17-8) / 64
		}
		d.tensors[i] = NewTensor(x.Name, values, shape...)
		if dtype != F32 {
			d.tensors[i].DType, d.tensors[i].Data = dtype, narrow(values, dtype)
		}
	}
}
