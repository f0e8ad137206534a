// Churn does one kind of operation over and over, so that what tracing it costs
// can be measured.
//
//	churn assign|access|delete|iterate|mutex RATE [--start-on-stdin]
//
// One goroutine works as fast as it can; RATE operations a second are map
// operations, the rest of its time is arithmetic. RATE 0: nothing but map
// operations. "mutex" has a second goroutine, and both contend for a lock.
//
// It prints "ready PID", waits for a line on stdin, and begins. To each further
// line it answers with a line of JSON: how many operations it has done since the
// last one, and in how many nanoseconds. It ends with stdin.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const keys = 1024

var (
	table = map[int]int{}
	lock  sync.Mutex
	done  int64
	sink  int
)

//go:noinline
func assign(index int) { table[index%keys] = index }

//go:noinline
func access(index int) { sink = table[index%keys] }

//go:noinline
func remove(index int) { delete(table, index%keys) }

// iterate is one operation with as many calls of the runtime as there are
// elements.
//
//go:noinline
func iterate(int) {
	for key := range table {
		sink = key
	}
}

//go:noinline
func mutex(index int) {
	lock.Lock()
	for turn := 0; turn < 200; turn++ {
		index = index*25214903917 + 11
	}
	sink = index
	lock.Unlock()
}

//go:noinline
func work(turns int) int {
	state := 1
	for turn := 0; turn < turns; turn++ {
		state = state*25214903917 + 11
	}
	return state
}

var operations = map[string]func(int){
	"assign": assign, "access": access, "delete": remove, "iterate": iterate, "mutex": mutex,
}

// turnsFor says how much arithmetic fills the time between two operations.
func turnsFor(rate int) int {
	if rate == 0 {
		return 0
	}
	const probe = 1000000
	best := time.Hour
	for round := 0; round < 20; round++ {
		start := time.Now()
		sink += work(probe)
		if took := time.Since(start); took < best {
			best = took
		}
	}
	return int(float64(probe) * 1e9 / float64(rate) / float64(best.Nanoseconds()))
}

func churn(operation func(int), turns int) {
	for index := 0; ; index++ {
		operation(index)
		if turns > 0 {
			sink = work(turns)
			atomic.AddInt64(&done, 1)
		} else if index%64 == 63 {
			atomic.AddInt64(&done, 64)
		}
	}
}

func main() {
	if len(os.Args) < 3 || operations[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "churn assign|access|delete|iterate|mutex RATE")
		os.Exit(2)
	}
	rate, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for index := 0; index < keys; index++ {
		table[index] = index
	}
	turns := turnsFor(rate)
	fmt.Println("ready", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	if !lines.Scan() {
		os.Exit(1)
	}
	workers := 1
	if os.Args[1] == "mutex" {
		workers = 2
	}
	for worker := 0; worker < workers; worker++ {
		go churn(operations[os.Args[1]], turns)
	}
	before, start := int64(0), time.Now()
	for lines.Scan() {
		now, count := time.Now(), atomic.LoadInt64(&done)
		fmt.Printf("{\"ops\":%d,\"ns\":%d}\n", count-before, now.Sub(start).Nanoseconds())
		before, start = count, now
	}
}
