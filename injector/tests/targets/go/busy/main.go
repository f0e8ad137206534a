// Busy uses maps in ways that are hard on a tracer, and counts what it does.
//
//	busy fixed|many|deep|exec|named N [--start-on-stdin]
//
//	fixed  assigns to a map N times and reads it N times
//	many   does so in N goroutines at once, ten times each, under a lock
//	deep   lets N goroutines, one after the other, recurse with a map operation
//	       at each depth, so that their stacks grow in the midst of it
//	named  lets four goroutines use, N times each, maps that have names: in
//	       variables and in structs with a lock that they wait for
//	exec   executes itself anew N times, with a map operation in between
//
// It prints "ready PID", begins after a line on stdin, and ends with a line of
// JSON: how often it assigned and read, and whether it has found what it put.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// How deep goroutines recurse: to some megabytes of stack.
const depth = 3000

type counts struct{ assigns, reads int }

var (
	shared = map[int]int{}
	lock   sync.Mutex
	done   counts
)

//go:noinline
func put(values map[int]int, key, value int) { values[key] = value }

//go:noinline
func get(values map[int]int, key int) int { return values[key] }

func fixed(n int) bool {
	right := true
	for i := 0; i < n; i++ {
		put(shared, i%64, i)
		right = right && get(shared, i%64) == i
	}
	done.assigns, done.reads = n, n
	return right
}

func many(n int) bool {
	var running sync.WaitGroup
	running.Add(n)
	for g := 0; g < n; g++ {
		go func() {
			defer running.Done()
			for i := 0; i < 10; i++ {
				lock.Lock()
				put(shared, i, get(shared, i)+1)
				done.assigns++
				done.reads++
				lock.Unlock()
				runtime.Gosched()
			}
		}()
	}
	running.Wait()
	return len(shared) == 10 && shared[9] == n
}

// recurse keeps some of the stack for itself.
//
//go:noinline
func recurse(values map[int]int, left int) int {
	var own [64]int
	own[left%64] = left
	put(values, left%128, left)
	below := 0
	if left > 0 {
		below = recurse(values, left-1)
	}
	return below + own[left%64]
}

func deep(n int) bool {
	right := true
	for g := 0; g < n; g++ {
		result := make(chan int)
		go func() { result <- recurse(map[int]int{}, depth) }()
		right = right && <-result == depth*(depth+1)/2
	}
	done.assigns = n * (depth + 1)
	return right
}

type cache struct {
	mu    sync.Mutex
	hits  int
	items map[string]int
}

type server struct {
	name string
	sync.RWMutex
	sessions map[int]int
}

var (
	store = &server{sessions: map[int]int{}}
	table sync.Map
)

func named(n int) bool {
	// No variable of a package leads to it.
	hidden := &cache{items: map[string]int{}}
	var running sync.WaitGroup
	running.Add(4)
	for g := 0; g < 4; g++ {
		go func() {
			defer running.Done()
			for i := 0; i < n; i++ {
				hidden.mu.Lock()
				hidden.items["a"]++
				time.Sleep(100 * time.Microsecond)
				hidden.mu.Unlock()
				store.Lock()
				put(store.sessions, i%8, i)
				time.Sleep(100 * time.Microsecond)
				store.Unlock()
				table.Store(i%8, i)
				table.Range(func(_, _ interface{}) bool { return true })
			}
		}()
	}
	running.Wait()
	done.assigns = 8 * n
	return hidden.items["a"] == 4*n && len(store.sessions) == 8
}

func again(n int) bool {
	fixed(16)
	if n == 0 {
		return true
	}
	time.Sleep(20 * time.Millisecond)
	arguments := []string{os.Args[0], "exec", strconv.Itoa(n - 1), "--again"}
	err := syscall.Exec("/proc/self/exe", arguments, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	return false
}

var modes = map[string]func(int) bool{"fixed": fixed, "many": many, "deep": deep, "exec": again, "named": named}

func main() {
	run := modes[os.Args[1]]
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	if os.Args[len(os.Args)-1] != "--again" {
		fmt.Println("ready", os.Getpid())
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			os.Exit(1)
		}
	}
	right := run(n)
	fmt.Printf("{\"right\":%t,\"assigns\":%d,\"reads\":%d}\n", right, done.assigns, done.reads)
}
