// Demo is a shop with four troubles, for `injector demo --program` and the tutorial.
//
//	demo [SECONDS] [--start-on-stdin]
//
// It prints "ready PID", begins after a line on stdin, and ends when stdin does or
// after SECONDS (default 120). Then it prints what it counted as a line of JSON.
//
//	prices    a cache with an RWMutex, which its writer holds while it sends the
//	          news over TCP
//	sessions  a sync.Map that changes while Range goes through it
//	carts     a map in eight shards with a lock each, as it should be
//	limits    a map that one goroutine writes and another reads without a lock
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const goods = 64

var names [goods]string

// stop is set when it is time to end.
var stop int32

func running() bool { return atomic.LoadInt32(&stop) == 0 }

// waited is what shoppers waited for prices, by their own clock.
var waited struct{ count, ns int64 }

// A wait that is shorter is a matter of scheduling.
const long = int64(time.Millisecond)

// Catalog keeps prices. Whoever changes one tells it to the warehouse before
// anybody else can see it: the lock is held for as long as the send takes.
type Catalog struct {
	mu     sync.RWMutex
	prices map[string]int
}

var catalog = &Catalog{prices: map[string]int{}}

//go:noinline
func (c *Catalog) publish(to net.Conn, name string, price int) {
	c.mu.Lock()
	c.prices[name] = price
	fmt.Fprintf(to, "%s %d\n", name, price)
	c.mu.Unlock()
}

//go:noinline
func (c *Catalog) price(name string) int {
	start := time.Now()
	c.mu.RLock()
	ns := int64(time.Since(start))
	price := c.prices[name]
	c.mu.RUnlock()
	if ns >= long {
		atomic.AddInt64(&waited.count, 1)
		atomic.AddInt64(&waited.ns, ns)
	}
	return price
}

// sessions change while expire looks at them: it may or may not see what came
// in the meantime.
var sessions sync.Map

//go:noinline
func login(id int) { sessions.Store(id, time.Now()) }

//go:noinline
func expire(age time.Duration) {
	seen := 0
	sessions.Range(func(id, since interface{}) bool {
		if time.Since(since.(time.Time)) > age {
			sessions.Delete(id)
		}
		if seen++; seen%16 == 0 {
			// To write it down somewhere.
			time.Sleep(time.Millisecond)
		}
		return true
	})
}

// Cart is a shard: a lock for one eighth of all carts.
type Cart struct {
	mu    sync.RWMutex
	items map[string]int
}

var carts [8]*Cart

//go:noinline
func newCart() *Cart { return &Cart{items: map[string]int{}} }

//go:noinline
func (c *Cart) add(name string) {
	c.mu.Lock()
	c.items[name]++
	c.mu.Unlock()
}

//go:noinline
func (c *Cart) count(name string) int {
	c.mu.RLock()
	count := c.items[name]
	c.mu.RUnlock()
	return count
}

// limits has no lock, and it has two users: a mistake that nobody has noticed,
// since the two have never met in it. The day they do, the runtime ends the
// program. That would spoil the demonstration, so here chance has help: alone
// lets one of them go another time when the other is in there. This orders
// nothing that injector can see, as luck would not.
var limits = map[string]int{}

var inside int32

func alone(use func()) {
	if atomic.CompareAndSwapInt32(&inside, 0, 1) {
		use()
		atomic.StoreInt32(&inside, 0)
	}
}

//go:noinline
func reload(name string, limit int) { limits[name] = limit }

//go:noinline
func check(name string) int { return limits[name] }

var workers sync.WaitGroup

// every calls work until it is time to end, with a pause after each call.
func every(pause time.Duration, work func(turn int)) {
	for turn := 0; running(); turn++ {
		work(turn)
		time.Sleep(pause)
	}
	workers.Done()
}

// What the workers did, for the end.
var updates, logins, reloads int64

// How to reach the warehouse.
var news, orders net.Conn

func pricer() {
	every(10*time.Millisecond, func(turn int) {
		catalog.publish(news, names[turn%goods], turn)
		updates++
	})
}

func shopper() {
	every(2*time.Millisecond, func(turn int) { catalog.price(names[turn%goods]) })
}

// orderer sends without a lock: nobody waits for it.
func orderer() {
	every(10*time.Millisecond, func(turn int) { fmt.Fprintf(orders, "order %d\n", turn) })
}

func visitor() {
	every(5*time.Millisecond, func(turn int) {
		login(turn % 256)
		logins++
	})
}

func janitor() {
	every(50*time.Millisecond, func(int) { expire(time.Second) })
}

func packer() {
	every(5*time.Millisecond, func(turn int) {
		cart := carts[turn%len(carts)]
		cart.add(names[turn%goods])
		cart.count(names[turn%goods])
	})
}

func reloader() {
	every(20*time.Millisecond, func(turn int) {
		alone(func() { reload(names[turn%8], turn) })
		reloads++
	})
}

func checker() {
	every(5*time.Millisecond, func(turn int) { alone(func() { check(names[turn%8]) }) })
}

// dial connects to a warehouse that reads and says nothing.
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

func main() {
	seconds := 120
	if len(os.Args) > 1 {
		if given, err := strconv.Atoi(os.Args[1]); err == nil {
			seconds = given
		}
	}
	for index := range names {
		names[index] = "item-" + strconv.Itoa(index)
	}
	for index := range carts {
		carts[index] = newCart()
	}
	news, orders = dial(), dial()

	fmt.Println("ready", os.Getpid())
	stdin := bufio.NewReader(os.Stdin)
	if _, err := stdin.ReadString('\n'); err != nil {
		os.Exit(1)
	}

	workers.Add(11)
	go pricer()
	go shopper()
	go shopper()
	go shopper()
	go orderer()
	go visitor()
	go janitor()
	go packer()
	go packer()
	go reloader()
	go checker()

	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, stdin)
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(time.Duration(seconds) * time.Second):
	}
	atomic.StoreInt32(&stop, 1)
	workers.Wait()
	line, _ := json.Marshal(map[string]int64{
		"updates": updates, "logins": logins, "reloads": reloads,
		"shards": int64(len(carts)), "waits": waited.count, "waited_ns": waited.ns,
	})
	fmt.Println(string(line))
}
