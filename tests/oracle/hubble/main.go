// Command hubble is Hubble's own command line, the test client of netflume's Observer API.
package main

import (
	"os"

	"github.com/cilium/cilium/hubble/cmd"
)

func main() {
	if err := cmd.Execute(); err != nil {
		os.Exit(1)
	}
}
