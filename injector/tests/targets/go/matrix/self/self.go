// Package self tells where the runtime keeps the goroutine that asks.
package self

import "unsafe"

// G is the address of the goroutine's g.
func G() unsafe.Pointer
