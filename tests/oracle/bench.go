package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
)

// runBench times, on one core, what Hubble does with a stream's bytes: gob to payloads, payloads to flows, flows to metrics.
func runBench(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	world := flags.String("world", "tests/fixtures/cilium/world.json", "what the agent knows")
	config := flags.String("config", metricSets()[0].config, "plugins in Hubble's syntax")
	runs := flags.Int("runs", 5, "how many times; the median is told")
	_ = flags.Parse(args)
	runtime.GOMAXPROCS(1)
	w, err := loadWorld(*world)
	if err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("name one stream")
	}
	text, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	payloads, err := decodeStream(bytes.NewReader(text))
	if err != nil {
		return err
	}
	d := newDirectory(w)
	stages := []struct {
		name string
		run  func() error
	}{
		{"gob", func() error {
			_, err := decodeStream(bytes.NewReader(text))
			return err
		}},
		{"parser", func() error {
			h, err := newHubble(w, d)
			for i := range payloads {
				_, _ = h.decode(&payloads[i])
			}
			return err
		}},
		{"gob+parser+metrics", func() error {
			c, err := newCounter(*config)
			if err != nil {
				return err
			}
			h, err := newHubble(w, d)
			if err != nil {
				return err
			}
			return h.stream(bytes.NewReader(text), c)
		}},
	}
	fmt.Printf("Hubble %s, %d events, %d bytes, %s, one core, median of %d\n", built.name, len(payloads), len(text), runtime.Version(), *runs)
	for _, stage := range stages {
		var times []time.Duration
		var allocations, allocated uint64
		for range *runs {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := cpuTime()
			if err := stage.run(); err != nil {
				return fmt.Errorf("%s: %w", stage.name, err)
			}
			times = append(times, cpuTime()-start)
			runtime.ReadMemStats(&after)
			allocations, allocated = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
		}
		slices.Sort(times)
		took, n := times[len(times)/2], float64(len(payloads))
		fmt.Printf("%-20s %8.0f events/s %8.0f ns/event %6.1f allocations/event %7.0f bytes/event\n",
			stage.name, n/took.Seconds(), float64(took.Nanoseconds())/n, float64(allocations)/n, float64(allocated)/n)
	}
	return nil
}

// stream decodes and counts one payload after the other, keeping none.
func (h *hubble) stream(r io.Reader, c *counter) error {
	decoder := newPayloadDecoder(r)
	for {
		p, err := decoder()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		decoded, err := h.decode(p)
		if err != nil {
			continue
		}
		if flow, ok := decoded.Event.(*flowpb.Flow); ok {
			if err := c.count(flow); err != nil {
				return err
			}
		}
	}
}

// cpuTime is user and system time of this process: other work on the machine does not count.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // cannot fail with these arguments
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
