//go:build !cilium_1_18

package main

import v1 "github.com/cilium/cilium/pkg/hubble/api/v1"

// The release this program is built with, and the layouts its datapath writes.
var built = release{name: "1.19.4", drop: 3, trace: 2, verdict: 40, sockReordered: true, routing: true}

func init() {
	v1.FlowEmitterVersion = built.name
}
