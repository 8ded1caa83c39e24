// Command oracle says what Cilium's own code makes of monitor events: it writes monitor streams, decodes them with Hubble's parser, counts them with
// Hubble's metric plugins, and serves them with the agent's own listener. netflume is compared with its answers.
package main

import (
	"fmt"
	"os"
)

// A command of the program: what it does and how it is called.
type command struct {
	name, args, does string
	run              func(args []string) error
}

func commands() []command {
	return []command{
		{"gen", "-out DIR", "writes the fixtures: streams, expected lines, world, metrics", runGen},
		{"mixed", "-n EVENTS -out FILE [-seed N]", "writes one long stream as a busy node would, for speed tests", runMixed},
		{"parse", "[-world FILE] STREAM...", "prints what Hubble's parser makes of each event, one JSON line each", runParse},
		{"metrics", "[-world FILE] -config METRICS STREAM...", "prints what Hubble's metric plugins count, as Prometheus text", runMetrics},
		{"bench", "[-world FILE] [-config METRICS] STREAM", "measures gob, parser and metrics on one stream", runBench},
		{"serve", "-socket PATH STREAM...", "serves the monitor socket with the agent's listener; commands on standard input", runServe},
		{"serve-raw", "-socket PATH -repeat N STREAM", "writes a stream's exact bytes to every client, counting them", runServeRaw},
		{"serve-api", "-socket PATH [-world FILE]", "answers on a socket as the agent's API does", runServeAPI},
		{"version", "", "prints the Cilium release this was built with", runVersion},
	}
}

func main() {
	if len(os.Args) > 1 {
		for _, c := range commands() {
			if c.name != os.Args[1] {
				continue
			}
			if err := c.run(os.Args[2:]); err != nil {
				fmt.Fprintf(os.Stderr, "oracle %s: %v\n", c.name, err)
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage:")
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  oracle %s %s\n        %s\n", c.name, c.args, c.does)
	}
	os.Exit(2)
}

func runVersion([]string) error {
	fmt.Println(built.name)
	return nil
}
