package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"injector.example/matrix/self"
)

type order struct{ id int }

type index map[uint16]order

type cache struct {
	mu    sync.Mutex
	hits  int
	items map[string]*order
}

type server struct {
	name string
	sync.RWMutex
	sessions map[int]string
	inner    cache
	shards   []*cache
	fixed    [3]cache
	all      *sync.Map
}

var (
	orders = map[string]*order{"a": {1}, "b": {2}}
	store  = newServer()
	ways   [4]cache
)

func newCache(n int) *cache {
	made := &cache{items: map[string]*order{}}
	for ; n > 0; n-- {
		made.items[fmt.Sprint(n)] = &order{n}
	}
	return made
}

func newServer() *server {
	made := &server{sessions: map[int]string{7: "x"}, all: &sync.Map{}}
	made.inner.items = map[string]*order{}
	made.fixed[2].items = map[string]*order{}
	for n := 0; n < 300; n++ {
		made.shards = append(made.shards, newCache(n))
	}
	return made
}

func tellMap(name string, value any) {
	of := reflect.ValueOf(value)
	mapType := (*[2]uintptr)(unsafe.Pointer(&value))[0]
	fmt.Printf("map\t%#x\t%s\t%#x\t%T\t%d\n", of.Pointer(), name, mapType, value, of.Len())
}

func tellLock(kind, name string, address any) {
	fmt.Printf("%s\t%#x\t%s\n", kind, reflect.ValueOf(address).Pointer(), name)
}

func number() string {
	text := make([]byte, 64)
	return strings.Fields(string(text[:runtime.Stack(text, false)]))[1]
}

// truth tells the addresses of what the runtime and this program have, the
// names that they should be given, and waits.
func truth() {
	for n := range ways {
		ways[n].items = map[string]*order{}
	}
	tellMap("main.orders", orders)
	tellMap("main.strs", strs)
	tellMap("main.store.sessions", store.sessions)
	tellMap("main.store.inner.items", store.inner.items)
	tellMap("main.store.shards[255].items", store.shards[255].items)
	tellMap("main.store.fixed[2].items", store.fixed[2].items)
	tellMap("main.ways[3].items", ways[3].items)
	tellLock("lock", "main.mutex", &mutex)
	tellLock("lock", "main.rw", &rw)
	tellLock("lock", "main.store.RWMutex", &store.RWMutex)
	tellLock("lock", "main.store.shards[17].mu", &store.shards[17].mu)
	tellLock("lock", "main.ways[3].mu", &ways[3].mu)
	tellLock("sync.Map", "main.concmap", &concmap)
	tellLock("sync.Map", "main.store.all", store.all)
	// No variable leads to these.
	hidden := newCache(5)
	tellMap("?", hidden.items)
	fmt.Printf("guard\t%#x\t%#x\t16\tmain.cache.mu\tmain.cache.items\n",
		reflect.ValueOf(&hidden.mu).Pointer(), reflect.ValueOf(hidden.items).Pointer())
	tellMap("?", index{1: {}})
	made := reflect.MapOf(reflect.TypeOf(int16(0)), reflect.TypeOf(order{}))
	tellMap("?", reflect.MakeMap(made).Interface())

	told := make(chan bool)
	wait := make(chan bool)
	parent := number()
	go func() {
		fmt.Printf("goroutine\t%s\t%#x\t%s\n", number(), uintptr(self.G()), parent)
		told <- true
		<-wait
	}()
	<-told
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(wait)
	runtime.KeepAlive(hidden)
}
