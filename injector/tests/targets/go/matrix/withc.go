//go:build cgo

package main

// static int twice(int n) { return n + n; }
import "C"

func useC() { sink += uint64(C.twice(21)) }
