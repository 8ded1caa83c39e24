// Command relay is Hubble's own relay: it finds nodes by netflume's Peer service and reads their flows by its Observer API.
package main

import (
	"os"

	"github.com/cilium/cilium/hubble-relay/cmd"
)

func main() {
	if err := cmd.New().Execute(); err != nil {
		os.Exit(1)
	}
}
