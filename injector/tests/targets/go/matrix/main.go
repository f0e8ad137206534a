// A program that links every function worth a probe, and that tells what the Go
// runtime itself knows of its own code: the account that the reader in
// injector/src/go is compared with.
//
//	matrix ready     prints "ready" and waits for the end of its stdin
//	matrix frames    reads offsets from main.main, one a line, and
//	                 writes what runtime.CallersFrames says of each:
//	                 OFFSET FUNCTION FILE LINE, between tabs
//	matrix callers   writes one line for each frame of a call through inlined
//	                 functions: OFFSET FUNCTION FILE LINE. The offset is that of
//	                 the program counter in the real frame, which its inlined
//	                 callers share.
//	matrix goroutine writes the number of its goroutine
//	matrix truth     writes where its maps, locks and goroutines are, "ready",
//	                 and waits for the end of its stdin
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// wide has its own functions: they are for elements over 1024 bytes.
type wide struct{ words [160]uint64 }

var (
	sink     uint64
	strs     = map[string]int{}
	u32s     = map[uint32]int{}
	u64s     = map[uint64]int{}
	pointers = map[*wide]int{}
	wides    = map[wide]wide{}
	mutex    sync.Mutex
	rw       sync.RWMutex
	concmap  sync.Map
)

// exercise uses every kind of map and lock, so that the linker keeps them all.
func exercise(n uint64) {
	key := strconv.FormatUint(n, 10)
	strs[key]++
	u32s[uint32(n)]++
	u64s[n]++
	w := &wide{}
	w.words[0] = n
	pointers[w]++
	wides[*w] = *w
	for k, v := range u64s {
		sink += k + uint64(v)
	}
	if _, ok := strs[key]; ok {
		sink += uint64(strs[key])
	}
	if _, ok := u32s[uint32(n)]; ok {
		sink += uint64(u32s[uint32(n)])
	}
	if _, ok := u64s[n]; ok {
		sink += uint64(u64s[n])
	}
	if v, ok := wides[*w]; ok {
		sink += v.words[0] + wides[*w].words[1]
	}
	delete(strs, key)
	delete(u32s, uint32(n))
	delete(u64s, n)
	delete(pointers, w)
	delete(wides, *w)
	for k := range strs {
		delete(strs, k)
	}
	mutex.Lock()
	rw.RLock()
	rw.RUnlock()
	rw.Lock()
	rw.Unlock()
	mutex.Unlock()
	concmap.Store(key, n)
	if v, ok := concmap.Load(key); ok {
		sink += v.(uint64)
	}
	concmap.LoadOrStore(key, n)
	concmap.Range(func(_, v any) bool { sink += v.(uint64); return true })
	concmap.LoadAndDelete(key)
}

func base() uintptr { return reflect.ValueOf(main).Pointer() }

func frames() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		offset, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64)
		if err != nil {
			panic(err)
		}
		// CallersFrames takes return addresses: one more than the instruction.
		pc := uintptr(int64(base())+offset) + 1
		frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
		fmt.Fprintf(out, "%d\t%s\t%s\t%d\n", offset, frame.Function, frame.File, frame.Line)
	}
}

func innermost(pcs []uintptr) int { return runtime.Callers(1, pcs) }

func middle(pcs []uintptr) int { return innermost(pcs) }

func outer(pcs []uintptr) int { return middle(pcs) }

//go:noinline
func callers() {
	pcs := make([]uintptr, 16)
	pcs = pcs[:outer(pcs)]
	frames := runtime.CallersFrames(pcs)
	// All of them up to this function share the first one's real frame.
	offset := int64(pcs[0]) - 1 - int64(base())
	for {
		frame, more := frames.Next()
		fmt.Printf("%d\t%s\t%s\t%d\n", offset, frame.Function, frame.File, frame.Line)
		if !more || frame.Function == "main.callers" {
			return
		}
	}
}

func main() {
	for n := uint64(0); n < 64; n++ {
		exercise(n)
	}
	useC()
	mode := "ready"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	switch mode {
	case "frames":
		frames()
	case "callers":
		callers()
	case "goroutine":
		fmt.Println(number())
	case "truth":
		truth()
	default:
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}
