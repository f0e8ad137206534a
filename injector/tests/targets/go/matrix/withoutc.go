//go:build !cgo

package main

func useC() {}
