package qwen

// One token of a small model takes some twenty milliseconds and two hundred
// pieces of parallel work, most of them shorter than it takes to wake a sleeping
// thread. So the goroutines that help do not sleep between two pieces: they look
// for work for a fraction of a millisecond, and end when there is none.
//
//	caller   parallel(n, …) ─ publishes a region ─ works ─ works ─ waits for the rest
//	helper   … looks for a region ──────────────── works ─ works ─ looks for the next … ends
//
// A region is cut into as many ranges as there are workers, so that each walks
// through memory of its own, and a range into pieces, so that whoever is done
// first takes over pieces of the others: a core that is slow or busy with other
// things holds up nobody for longer than one piece.
//
// There are never more helpers than Go may run threads, however many goroutines
// call Forward, and they help one region at a time. A caller that finds them
// busy does its work alone: when there are more callers than cores, every core
// has its work anyway.
//
// Which goroutine computes a piece has no influence on the result: pieces write to
// different numbers, and none adds to what another has begun.
//
// This is the last of the files. What each function computes is held against PyTorch in
// qwen_test.go, and CONTRIBUTING.md says how to change one.

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A region is one call of parallel. It is made anew each time, so that a helper
// that comes late finds nothing left to do in it, and not another call's work.
type region struct {
	work     func(from, to int)
	ranges   []workRange
	piece    int          // elements that are taken at a time
	joined   atomic.Int32 // helpers so far: the next one begins with the range of this number
	left     atomic.Int64 // elements that are not done
	panicked atomic.Pointer[any]
}

// A workRange is a part of a region that one worker walks through.
type workRange struct {
	next atomic.Int64
	to   int64
	_    [48]byte // ranges on one cache line would slow each other down
}

var (
	open    atomic.Pointer[region] // what the helpers help with
	helpers atomic.Int32           // goroutines that run help
)

// helperPatience is how long a helper looks for work before it ends: longer than
// the sequential steps of a forward pass take.
const helperPatience = 200 * time.Microsecond

// share is how many numbers are worth a piece of parallel work where each takes
// little more than being read and written. A multiple of 8.
const share = 8192

// parallel calls work on pieces of 0 … n-1 that together are the whole, on as
// many goroutines as Go may run at once, and returns when all are done. Pieces
// begin at multiples of size and have size elements, but for the last; a caller that
// works alone has one piece, the whole. If work panics, so does parallel.
func parallel(n, size int, work func(from, to int)) {
	pieces := (n + size - 1) / size
	workers := min(runtime.GOMAXPROCS(0), pieces)
	if workers <= 1 {
		work(0, n)
		return
	}
	r := &region{work: work, ranges: make([]workRange, workers), piece: size}
	r.left.Store(int64(n))
	for i := range r.ranges {
		r.ranges[i].next.Store(int64(i * pieces / workers * size))
		r.ranges[i].to = int64(min((i+1)*pieces/workers*size, n))
	}
	if !open.CompareAndSwap(nil, r) {
		work(0, n)
		return
	}
	for int(helpers.Load()) < workers-1 {
		helpers.Add(1)
		go help()
	}
	r.run(0)
	open.Store(nil)
	for spins := 0; r.left.Load() > 0; spins++ {
		pause(spins)
	}
	if p := r.panicked.Load(); p != nil {
		panic(*p)
	}
}

// help works on open regions until there has been none for a while. It keeps no
// region but the last one, so that it joins each once.
func help() {
	defer helpers.Add(-1)
	debug.SetPanicOnFault(true) // see catchFault in file.go
	var last *region
	idle := time.Now()
	for spins := 0; ; spins++ {
		if r := open.Load(); r != nil && r != last {
			if i := int(r.joined.Add(1)); i < len(r.ranges) {
				r.run(i)
			}
			last, spins, idle = r, 0, time.Now()
		}
		if spins%64 == 63 && time.Since(idle) > helperPatience {
			return
		}
		pause(spins)
	}
}

// pause lets time pass in a loop that waits for another goroutine: none at first,
// since it is a matter of microseconds as a rule; then Go's scheduler may run
// something else on this thread; at last the thread sleeps, because the other
// one must have lost its core.
func pause(spins int) {
	switch {
	case spins < 1000 && spins%16 != 15:
	case spins < 100_000:
		runtime.Gosched()
	default:
		time.Sleep(20 * time.Microsecond)
	}
}

// run works on pieces, those of range i first, until all are taken. A piece is
// taken by adding to its range's next, which two workers cannot do at once; who
// finds next past the end goes on with the following range.
func (r *region) run(i int) {
	for k := range r.ranges {
		for own := &r.ranges[(i+k)%len(r.ranges)]; own.next.Load() < own.to; {
			from := own.next.Add(int64(r.piece)) - int64(r.piece)
			if from < own.to {
				r.do(int(from), int(min(from+int64(r.piece), own.to)))
			}
		}
	}
}

// do works on one piece. A panic is kept for the caller of parallel: in a helper
// nobody could recover from it, and it would end the program. What was counted
// off left is visible to the caller that sees it at 0: atomics order memory.
func (r *region) do(from, to int) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked.Store(&p)
		}
		r.left.Add(int64(from - to))
	}()
	r.work(from, to)
}
