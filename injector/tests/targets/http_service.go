// http_service: an HTTP service as Go's standard library makes it; a target that nobody wrote
// with delays in mind.
//
//	http_service
//
// Listens on a free port of 127.0.0.1 and prints "ready PID PORT". Each request is answered with
// a kilobyte, by one write of the goroutine of its connection. It ends when its stdin does.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "http_service:", err)
		os.Exit(1)
	}
	body := bytes.Repeat([]byte("x"), 1024)
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		// A client that is gone needs no answer.
		_, _ = w.Write(body)
	})
	fmt.Printf("ready %d %d\n", os.Getpid(), listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, "http_service:", http.Serve(listener, nil))
	os.Exit(1)
}
