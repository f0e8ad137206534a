// Share lets goroutines share maps in ways that are right, slow, or doubtful,
// and counts by itself what `injector maps` has to find out.
//
//	share MODE [SECONDS] [--start-on-stdin]
//
// It prints "ready PID", begins after a line on stdin, ends by itself after
// SECONDS (default 2), and prints what it counted as a line of JSON. Modes:
//
//	slow      a cache with an RWMutex, which its writer holds while it is slow
//	mutex     a map with a Mutex, held for a moment
//	shards    eight maps of one type with an RWMutex each
//	syncmap   a sync.Map that is written while Range goes through it
//	handover  a map that two goroutines hand to each other through channels
//	unlocked  a map that one goroutine writes and one reads, nothing orders them;
//	          the runtime may end the program
//	own       a goroutine that adds to the map that it iterates over
//	foreign   a goroutine that lets another write in the midst of its iteration,
//	          one after the other, so that nothing happens
//	gc        a map with a Mutex, and garbage collections
//	crowded   a cache with an RWMutex, whose writer computes while it holds it and
//	          has to share its CPU with another goroutine: all threads must have
//	          been given the same one CPU
//	sender    a cache with an RWMutex, whose writer sends while it holds it, and a
//	          goroutine that sends without any lock
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const keys = 64

var stop int32

func running() bool { return atomic.LoadInt32(&stop) == 0 }

// waited is what goroutines waited for locks, by their own clock: only what
// took long enough not to be a matter of scheduling.
var waited struct {
	count, ns, max int64
}

const long = int64(time.Millisecond)

func wait(lock func()) {
	start := time.Now()
	lock()
	ns := int64(time.Since(start))
	if ns < long {
		return
	}
	atomic.AddInt64(&waited.count, 1)
	atomic.AddInt64(&waited.ns, ns)
	for {
		max := atomic.LoadInt64(&waited.max)
		if ns <= max || atomic.CompareAndSwapInt64(&waited.max, max, ns) {
			return
		}
	}
}

type cache struct {
	mu    sync.RWMutex
	items map[string]int
}

var names [keys]string

//go:noinline
func (c *cache) refresh(index int) {
	c.mu.Lock()
	c.items[names[index%keys]] = index
	time.Sleep(5 * time.Millisecond)
	c.mu.Unlock()
}

//go:noinline
func (c *cache) get(index int) int {
	wait(c.mu.RLock)
	value := c.items[names[index%keys]]
	c.mu.RUnlock()
	return value
}

func slow(group *group) map[string]int64 {
	c := &cache{items: map[string]int{}}
	var holds int64
	group.start(func() {
		for index := 0; running(); index++ {
			c.refresh(index)
			holds++
			time.Sleep(5 * time.Millisecond)
		}
	})
	for reader := 0; reader < 3; reader++ {
		group.start(func() {
			for index := 0; running(); index++ {
				c.get(index)
				time.Sleep(500 * time.Microsecond)
			}
		})
	}
	group.wait()
	return map[string]int64{"holds": holds}
}

type guarded struct {
	mu    sync.Mutex
	items map[int]int
}

//go:noinline
func (g *guarded) add(index int) {
	wait(g.mu.Lock)
	g.items[index%keys]++
	// Long enough for others to come and wait.
	for spin := 0; spin < 2000; spin++ {
		g.items[index%keys] ^= spin
	}
	g.mu.Unlock()
}

func mutex(group *group) map[string]int64 {
	g := &guarded{items: map[int]int{}}
	var adds int64
	for adder := 0; adder < 4; adder++ {
		group.start(func() {
			for index := 0; running(); index++ {
				g.add(index)
				atomic.AddInt64(&adds, 1)
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	group.wait()
	return map[string]int64{"adds": adds}
}

//go:noinline
func newShard() *cache { return &cache{items: map[string]int{}} }

//go:noinline
func (c *cache) put(index int) {
	c.mu.Lock()
	c.items[names[index%keys]] = index
	c.mu.Unlock()
}

func shards(group *group) map[string]int64 {
	var all [8]*cache
	for index := range all {
		all[index] = newShard()
	}
	for worker := 0; worker < 4; worker++ {
		group.start(func() {
			for index := 0; running(); index++ {
				shard := all[index%len(all)]
				shard.put(index)
				shard.get(index)
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	group.wait()
	return map[string]int64{"shards": int64(len(all))}
}

var registry sync.Map

//go:noinline
func walk(visit func(key, value interface{}) bool) { registry.Range(visit) }

//go:noinline
func store(index int) { registry.Store(index%keys, index) }

func syncmap(group *group) map[string]int64 {
	for index := 0; index < keys; index++ {
		store(index)
	}
	var ranges, disturbed, ranging, inMidst int64
	group.start(func() {
		for running() {
			before := atomic.LoadInt64(&inMidst)
			atomic.StoreInt64(&ranging, 1)
			seen := 0
			walk(func(interface{}, interface{}) bool {
				if seen++; seen%8 == 0 {
					time.Sleep(time.Millisecond)
				}
				return true
			})
			atomic.StoreInt64(&ranging, 0)
			ranges++
			if atomic.LoadInt64(&inMidst) > before {
				disturbed++
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	group.start(func() {
		for index := 0; running(); index++ {
			within := atomic.LoadInt64(&ranging)
			store(index)
			atomic.AddInt64(&inMidst, within)
			time.Sleep(3 * time.Millisecond)
		}
	})
	group.wait()
	return map[string]int64{"ranges": ranges, "disturbed": disturbed, "stores": inMidst}
}

//go:noinline
func turn(m map[int]int, index int) {
	m[index%keys] = index
	_ = m[(index+1)%keys]
}

func handover(group *group) map[string]int64 {
	var turns int64
	there, back := make(chan map[int]int), make(chan map[int]int)
	group.start(func() {
		for m := range there {
			turn(m, int(atomic.AddInt64(&turns, 1)))
			back <- m
		}
	})
	group.start(func() {
		m := map[int]int{}
		for running() {
			turn(m, int(atomic.AddInt64(&turns, 1)))
			there <- m
			m = <-back
		}
		close(there)
	})
	group.wait()
	return map[string]int64{"turns": turns}
}

var bare = map[int]int{}

//go:noinline
func scribble(index int) { bare[index%keys] = index }

//go:noinline
func peek(index int) int { return bare[index%keys] }

func unlocked(group *group) map[string]int64 {
	var writes, reads int64
	group.start(func() {
		for running() {
			scribble(int(writes))
			writes++
			time.Sleep(time.Millisecond)
		}
	})
	group.start(func() {
		for running() {
			peek(int(reads))
			reads++
			time.Sleep(time.Millisecond)
		}
	})
	group.wait()
	return map[string]int64{"writes": writes, "reads": reads}
}

//go:noinline
func sprout(m map[int]int) {
	for key := range m {
		m[key+1000] = key
		m[key+2000] = key
	}
}

func own(group *group) map[string]int64 {
	var iterations int64
	group.start(func() {
		for running() {
			m := map[int]int{}
			for key := 0; key < 200; key++ {
				m[key] = key
			}
			sprout(m)
			iterations++
			time.Sleep(5 * time.Millisecond)
		}
	})
	group.wait()
	return map[string]int64{"iterations": iterations}
}

//go:noinline
func visit(m map[int]int, ask chan<- int, done <-chan int) int64 {
	var asked int64
	for key := range m {
		ask <- key
		<-done
		asked++
	}
	return asked
}

//go:noinline
func change(m map[int]int, key int) { m[key] = -key }

func foreign(group *group) map[string]int64 {
	m := map[int]int{}
	for key := 0; key < keys; key++ {
		m[key] = key
	}
	ask, done := make(chan int), make(chan int)
	var iterations, changes int64
	group.start(func() {
		for key := range ask {
			change(m, key)
			done <- key
		}
	})
	group.start(func() {
		for running() {
			changes += visit(m, ask, done)
			iterations++
			time.Sleep(2 * time.Millisecond)
		}
		close(ask)
	})
	group.wait()
	return map[string]int64{"iterations": iterations, "changes": changes}
}

var garbage [][]byte

func gc(group *group) map[string]int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	group.start(func() {
		for running() {
			garbage = nil
			for index := 0; index < 64; index++ {
				garbage = append(garbage, make([]byte, 64<<10))
			}
			runtime.GC()
			time.Sleep(10 * time.Millisecond)
		}
	})
	facts := mutex(group)
	runtime.ReadMemStats(&after)
	facts["collections"] = int64(after.NumGC - before.NumGC)
	return facts
}

var modes = map[string]func(*group) map[string]int64{
	"slow": slow, "mutex": mutex, "shards": shards, "syncmap": syncmap, "handover": handover,
	"unlocked": unlocked, "own": own, "foreign": foreign, "gc": gc, "crowded": crowded, "sender": sender,
}

// cpuTime is that of the current thread. The scheduler of Go does not hear of it,
// so that it cannot take a hold that lasts for a slow system call.
func cpuTime() int64 {
	const threadClock = 3 // CLOCK_THREAD_CPUTIME_ID, include/uapi/linux/time.h
	var now syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}

//go:noinline
func (c *cache) compute(index int) (held, had int64) {
	c.mu.Lock()
	start, cpu := time.Now(), cpuTime()
	for had = 0; had < int64(4*time.Millisecond); had = cpuTime() - cpu {
		for spin := 0; spin < 1000; spin++ {
			c.items[names[index%keys]] ^= spin
		}
	}
	held = int64(time.Since(start))
	c.mu.Unlock()
	return held, had
}

func crowded(group *group) map[string]int64 {
	// The writer, the one that has its CPU, the reader, and the rest.
	runtime.GOMAXPROCS(4)
	c := &cache{items: map[string]int{}}
	var held, had int64
	group.start(func() {
		runtime.LockOSThread()
		for index := 0; running(); index++ {
			one, cpu := c.compute(index)
			held += one
			had += cpu
			time.Sleep(2 * time.Millisecond)
		}
	})
	group.start(func() {
		for running() {
		}
	})
	group.start(func() {
		for index := 0; running(); index++ {
			c.get(index)
			time.Sleep(500 * time.Microsecond)
		}
	})
	group.wait()
	return map[string]int64{"held_ns": held, "no_cpu_ns": held - had}
}

// dial connects to a reader that throws everything away.
func dial() net.Conn {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		connection, err := listener.Accept()
		if err == nil {
			io.Copy(io.Discard, connection)
		}
	}()
	connection, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	return connection
}

//go:noinline
func (c *cache) publish(to net.Conn, index int) {
	c.mu.Lock()
	c.items[names[index%keys]] = index
	to.Write([]byte(names[index%keys]))
	c.mu.Unlock()
}

func sender(group *group) map[string]int64 {
	c := &cache{items: map[string]int{}}
	var held, free int64
	locked, alone := dial(), dial()
	group.start(func() {
		for index := 0; running(); index++ {
			c.publish(locked, index)
			held++
			time.Sleep(5 * time.Millisecond)
		}
	})
	group.start(func() {
		for index := 0; running(); index++ {
			alone.Write([]byte(names[index%keys]))
			free++
			time.Sleep(5 * time.Millisecond)
		}
	})
	for reader := 0; reader < 3; reader++ {
		group.start(func() {
			for index := 0; running(); index++ {
				c.get(index)
				time.Sleep(500 * time.Microsecond)
			}
		})
	}
	group.wait()
	return map[string]int64{"holds": held, "free_sends": free}
}

// group is of goroutines that run until time is up.
type group struct {
	running sync.WaitGroup
	seconds int
}

func (g *group) start(run func()) {
	g.running.Add(1)
	go func() {
		defer g.running.Done()
		run()
	}()
}

func (g *group) wait() {
	time.Sleep(time.Duration(g.seconds) * time.Second)
	atomic.StoreInt32(&stop, 1)
	g.running.Wait()
}

func main() {
	mode := modes[os.Args[1]]
	if mode == nil {
		fmt.Fprintln(os.Stderr, "share MODE [SECONDS]")
		os.Exit(2)
	}
	seconds := 2
	if len(os.Args) > 2 {
		if given, err := strconv.Atoi(os.Args[2]); err == nil {
			seconds = given
		}
	}
	for index := range names {
		names[index] = "key-" + strconv.Itoa(index)
	}
	fmt.Println("ready", os.Getpid())
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		os.Exit(1)
	}
	facts := mode(&group{seconds: seconds})
	facts["waits"] = waited.count
	facts["waited_ns"] = waited.ns
	facts["max_ns"] = waited.max
	line, _ := json.Marshal(facts)
	fmt.Println(string(line))
}
