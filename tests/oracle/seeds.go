package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// runSeeds writes every message to DIR/KIND/, named by its contents: what fuzz targets start from.
func runSeeds(args []string) error {
	flags := flag.NewFlagSet("seeds", flag.ExitOnError)
	out := flags.String("out", "", "folder to write to")
	_ = flags.Parse(args)
	kinds := map[byte]string{
		typeDrop: "drop", typeDebug: "debug", typeCapture: "capture", typeTrace: "trace", typeVerdict: "verdict", typeTraceSock: "sock",
		typeAccessLog: "access_log", typeAgent: "agent",
	}
	payloads, err := readStreams(flags.Args())
	if err != nil {
		return err
	}
	written := map[string]int{}
	for _, p := range payloads {
		if len(p.Data) == 0 {
			continue
		}
		kind, known := kinds[p.Data[0]]
		if !known {
			kind = "unknown"
		}
		dir := filepath.Join(*out, kind)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(p.Data))[:16]), p.Data, 0o644); err != nil {
			return err
		}
		written[kind]++
	}
	for kind, count := range written {
		fmt.Printf("%s: %d\n", kind, count)
	}
	return nil
}
