package qwen

// Opening the files of a checkpoint, and bringing gigabytes of weights into memory
// without reading them.
//
// The weights are not read but mapped: the file becomes a range of addresses, and
// the operating system brings in a page of 4 KiB when a Linear first touches it.
//
//	file      ├─ header ─┼─ embed_tokens ───────────┼─ layers.0 … ───────────┼─ …
//	memory    ▓▓▓▓▓▓▓▓▓▓▓   ▓     ▓        ▓         ▓▓▓▓▓▓▓▓▓▓▓▓
//	          read by Load  rows of tokens that      as far as the first token
//	                        have occurred            has come
//
// So loading costs the headers and the tokenizer, whatever the size of the model;
// programs that load the same model share the memory; and under pressure the system
// drops pages, which it can read again, instead of swapping them out. Three things
// follow. The weights cannot be written to. They must stay in the file's own format,
// which is why Linear works on bytes. And if somebody cuts the file short while it is in
// use, a read of the lost part is no error but a fault, which would end the program: see
// catchFault.
//
// The folder comes from strangers, so only regular files are read, and the small ones
// only up to a limit. Files may be links, and may point out of the folder, because the
// Hugging Face cache is made of such links:
//
//	models--Qwen--Qwen3-0.6B/snapshots/COMMIT/model.safetensors → ../../blobs/SHA256
//
// What differs between systems is in file_unix.go and file_other.go: how a file is
// opened without waiting, and how it is mapped.
//
// Reference: mmap(2); Go's runtime/debug.SetPanicOnFault.
//
// Next: safetensors.go

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
)

// The largest files that are read as a whole. Weights are mapped, and may be as
// large as they like.
const (
	maxConfigFile    = 16 << 20 // a config.json has a kilobyte
	maxTokenizerFile = 64 << 20 // Qwen3's tokenizer.json has 11 MB, Qwen2.5's 7
	maxIndexFile     = 64 << 20 // an index of shards has about 100 bytes a tensor
)

// A folder is where a checkpoint lies: a directory of the system, or an fs.FS. The files
// of an embed.FS are in memory already and are not mapped; those of os.DirFS are.
type folder struct {
	dir  string // name for messages and, if fsys is nil, where the files are
	fsys fs.FS
}

// path returns the file's name for messages.
func (f folder) path(name string) string {
	if f.fsys != nil {
		return path.Join(f.dir, name)
	}
	return filepath.Join(f.dir, name)
}

// open opens a file and checks that it is a regular one before anything is read. A
// named pipe would wait for ever for a writer, /dev/zero would never end, and a
// folder called config.json would fail later with a message that says less.
func (f folder) open(name string) (file fs.File, size int64, err error) {
	if f.fsys != nil {
		var info fs.FileInfo // looked at before the file is opened: opening a named pipe may wait for ever
		if info, err = fs.Stat(f.fsys, name); err == nil && !info.Mode().IsRegular() {
			return nil, 0, &LoadError{f.path(name), ErrNotRegular, "found " + modeName(info.Mode()) + ", expected a regular file"}
		}
		file, err = f.fsys.Open(name)
	} else {
		file, err = openPlain(f.path(name))
	}
	// Two kinds keep the meaning that they have in package fs, so that a caller can ask
	// for them: a missing tokenizer.json is no error, an unreadable one is.
	switch {
	case f.dangling(name): // a download that was not finished, as a rule
		return nil, 0, &LoadError{f.path(name), fs.ErrNotExist, "no such file: found a link that points to nothing, expected a regular file"}
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, &LoadError{f.path(name), fs.ErrNotExist, "no such file, expected one"}
	case errors.Is(err, fs.ErrPermission):
		return nil, 0, &LoadError{f.path(name), fs.ErrPermission, "cannot be opened: " + reason(err) + ", expected a file that may be read"}
	case err != nil: // a socket, or links that go in a circle, or a path that has a file for a folder
		found := "cannot be opened: " + reason(err)
		if info, err := os.Stat(f.path(name)); err == nil && f.fsys == nil {
			found = "found " + modeName(info.Mode())
		}
		return nil, 0, &LoadError{f.path(name), ErrNotRegular, found + ", expected a regular file"}
	}
	info, err := file.Stat() // of what was opened, whatever its name means by now
	if err == nil && !info.Mode().IsRegular() {
		err = &LoadError{f.path(name), ErrNotRegular, "found " + modeName(info.Mode()) + ", expected a regular file"}
	} else if err == nil && info.Size() < 0 { // of an fs.FS that is wrong
		err = errors.New("found a size below 0, expected a regular file")
	}
	if err != nil {
		file.Close()
		return nil, 0, inFile(f.path(name), ErrNotRegular, err)
	}
	return file, info.Size(), nil
}

// absent says whether err means that a file, which need not be there, is not. A link
// that points to nothing is another matter: the file was meant to be there.
func (f folder) absent(name string, err error) bool {
	return errors.Is(err, fs.ErrNotExist) && !f.dangling(name)
}

// dangling says whether name is a link that points to nothing.
func (f folder) dangling(name string) bool {
	if f.fsys != nil {
		return false
	}
	_, link := os.Lstat(f.path(name))
	_, err := os.Stat(f.path(name))
	return link == nil && errors.Is(err, fs.ErrNotExist)
}

// reason says why the system refused, in its words: err without the file name that
// package os puts before it.
func reason(err error) string {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// modeName names a kind of file, for "found a named pipe, expected a regular file".
func modeName(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode.IsRegular(): // after an open that failed for a reason of its own, such as too many open files
		return "a file that cannot be opened"
	}
	return "a device"
}

// read returns a whole file of at most limit bytes. The size is that of the open
// file, so it does not matter if the name means another file by now.
func (f folder) read(name string, limit int64) ([]byte, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > limit {
		return nil, &LoadError{f.path(name), ErrTooLarge, fmt.Sprintf("found %d bytes, expected at most %d", size, limit)}
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, &LoadError{f.path(name), ErrTruncated, "cannot be read: " + reason(err)}
	}
	return data, nil
}

// mapFile returns the bytes of a file, mapped where the system can, and what
// releases them. The file itself is closed at once: a mapping outlives it, and so a
// model holds no descriptors. An empty file cannot be mapped; it is read.
func (f folder) mapFile(name string) (data []byte, release func() error, err error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if size != int64(int(size)) { // on a machine of 32 bits
		return nil, nil, &LoadError{f.path(name), ErrTooLarge, fmt.Sprintf("found %d bytes, more than this machine can address", size)}
	}
	release = func() error { return nil }
	if plain, ok := file.(*os.File); ok && size > 0 {
		data, release, err = mapPlain(plain, int(size))
	} else {
		data = make([]byte, size)
		_, err = io.ReadFull(file, data)
	}
	if err != nil {
		return nil, nil, &LoadError{f.path(name), ErrTruncated, "cannot be read: " + reason(err)}
	}
	return data, release, nil
}

// catchFault, deferred as in "defer catchFault(&err)()", turns the fault of
// reading a mapped file that has become shorter into ErrFileChanged. Without it
// such a read would end the process: the memory is there, its contents are not.
//
//	mapped    page 0  page 1  page 2  page 3
//	the file  ▓▓▓▓▓▓  ▓▓▓▓▓▓  ▓▓▓                 cut to 10,000 bytes by somebody else
//	read      numbers numbers zeros   a fault
//
// Page 2 is there, filled up with zeros; page 3 is not. The processor reports that, the
// system sends SIGBUS, and Go turns it into a panic only in a goroutine that has asked
// for one with SetPanicOnFault. A panic with an address becomes the error; any other goes
// on, since it is a mistake in the program.
func catchFault(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		r := recover()
		if r == nil {
			return
		}
		if _, fault := r.(interface{ Addr() uintptr }); !fault {
			panic(r)
		}
		*err = ErrFileChanged
	}
}
