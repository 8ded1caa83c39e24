//go:build cilium_1_18

package main

// The release this program is built with, and the layouts its datapath writes.
var built = release{name: "1.18.6", drop: 2, trace: 1, verdict: 32}
