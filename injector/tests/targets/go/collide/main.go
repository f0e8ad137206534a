// Collide lets two goroutines use one map at once, until the runtime ends the
// program, beside others that do everything right.
//
//	collide writes|read|iterate|locked [SECONDS] [calm] [--start-on-stdin]
//
// It prints "ready PID", then the ground truth as a line of JSON: which two
// goroutines share the map and what each does with it, and which innocent ones
// there are. It begins after a line on stdin. "locked" is the same with a lock;
// it ends by itself after SECONDS (default 2) and prints how many operations
// there were. The others give up after SECONDS (default 20) with exit code 3.
// "calm" makes some 20,000 operations a second of all goroutines together, and lets
// the two begin when the others have run for a while.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Keys of the shared map: enough that iterating takes a while, few enough that
// it does not grow for long.
const keys = 64

type party struct {
	Goroutine uint64 `json:"goroutine"`
	Role      string `json:"role"`
}

type truth struct {
	Pair      []party `json:"pair"`
	Innocents []party `json:"innocents"`
}

var (
	shared = map[int]int{}
	lock   sync.Mutex
	locked bool
	stop   int32
	done   int64
	sink   int
)

// goroutine is the number of the current one, from the only place that tells.
func goroutine() uint64 {
	var text [64]byte
	words := strings.Fields(string(text[:runtime.Stack(text[:], false)]))
	number, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

// The two who are calm sleep after a burst of operations: single ones, between
// timers that fire together, hardly ever meet. The innocent ones sleep after each
// round of six, and are alone for a while.
const (
	burst = 20
	pause = 4 * time.Millisecond
	round = 2 * time.Millisecond
	alone = 5 * time.Second
)

var calm bool

func guarded(operation func(int), index int) {
	if locked {
		lock.Lock()
		defer lock.Unlock()
	}
	operation(index)
}

//go:noinline
func assign(index int) { shared[index%keys] = index }

//go:noinline
func remove(index int) {
	if index%2 == 0 {
		delete(shared, index%keys)
	} else {
		shared[index%keys] = index
	}
}

//go:noinline
func access(index int) { sink = shared[index%keys] }

//go:noinline
func iterate(int) {
	for key := range shared {
		sink = key
	}
}

var roles = map[string]func(int){"assign": assign, "delete": remove, "access": access, "iterate": iterate}

var accidents = map[string][2]string{
	"writes":  {"assign", "delete"},
	"read":    {"access", "assign"},
	"iterate": {"iterate", "assign"},
	"locked":  {"access", "assign"},
}

// collide is one of the two.
//
//go:noinline
func collide(operation func(int)) {
	for index := 0; atomic.LoadInt32(&stop) == 0; index++ {
		guarded(operation, index)
		if calm && index%burst == burst-1 {
			time.Sleep(pause)
		}
		if index%256 == 0 {
			atomic.AddInt64(&done, 256)
			runtime.Gosched()
		}
	}
}

// behave writes and reads a map of its own, and one that it locks.
//
//go:noinline
func behave(own map[string]int, common map[string]int, guard *sync.RWMutex) {
	for index := 0; atomic.LoadInt32(&stop) == 0; index++ {
		key := strconv.Itoa(index % keys)
		own[key]++
		guard.Lock()
		common[key] += own[key]
		guard.Unlock()
		guard.RLock()
		_ = common[key]
		guard.RUnlock()
		if calm {
			time.Sleep(round)
		} else {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func main() {
	pair, known := accidents[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, "collide writes|read|iterate|locked [SECONDS]")
		os.Exit(2)
	}
	locked = os.Args[1] == "locked"
	seconds := 20
	if locked {
		seconds = 2
	}
	if len(os.Args) > 2 {
		if given, err := strconv.Atoi(os.Args[2]); err == nil {
			seconds = given
		}
	}
	calm = len(os.Args) > 3 && os.Args[3] == "calm"
	for index := 0; index < keys; index++ {
		shared[index] = index
	}

	begin := make(chan struct{})
	told := make(chan party)
	var running sync.WaitGroup
	start := func(role string, run func()) party {
		running.Add(1)
		go func() {
			defer running.Done()
			told <- party{goroutine(), role}
			<-begin
			run()
		}()
		return <-told
	}
	var facts truth
	common, guard := map[string]int{}, &sync.RWMutex{}
	for index := 0; index < 4; index++ {
		facts.Innocents = append(facts.Innocents, start("behave", func() { behave(map[string]int{}, common, guard) }))
	}
	for _, role := range pair {
		operation := roles[role]
		facts.Pair = append(facts.Pair, start(role, func() {
			if calm {
				time.Sleep(alone)
			}
			collide(operation)
		}))
	}
	fmt.Println("ready", os.Getpid())
	line, _ := json.Marshal(facts)
	fmt.Println(string(line))
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		os.Exit(1)
	}
	close(begin)
	time.Sleep(time.Duration(seconds) * time.Second)
	atomic.StoreInt32(&stop, 1)
	running.Wait()
	fmt.Printf("{\"ok\":%d}\n", atomic.LoadInt64(&done))
	if !locked {
		os.Exit(3)
	}
}
