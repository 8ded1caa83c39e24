package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/cilium/pkg/monitor/payload"
)

// A stream of the fixtures: one connection's worth of events of a kind.
type stream struct {
	name   string
	events []event
}

func streams() []stream {
	return []stream{
		{"drop", drops()},
		{"trace", traces()},
		{"verdict", verdicts()},
		{"packet", packets()},
		{"other", others()},
		{"l7", accessLogs()},
		{"agent", agentEvents()},
		{"odd", odd()},
	}
}

// metricSet is one configuration of the metric plugins whose counts are kept.
type metricSet struct {
	name, config string
}

func metricSets() []metricSet {
	sets := []metricSet{
		{"default", "drop:sourceContext=pod|reserved-identity;destinationContext=pod|reserved-identity tcp:sourceContext=pod|reserved-identity;destinationContext=pod|reserved-identity flow:destinationContext=pod|reserved-identity"},
		{"plain", "dns drop flow flows-to-world http icmp kafka policy port-distribution tcp"},
		{"http-v2", "httpV2:sourceContext=pod;destinationContext=pod;labelsContext=source_namespace,destination_namespace,traffic_direction"},
		{"options", "dns:query;ignoreAAAA flows-to-world:any-drop;port;syn-only;sourceContext=app http:sourceContext=workload;destinationContext=workload-name"},
		{"world", "flows-to-world:any-drop;port;sourceContext=pod-name flow:sourceContext=reserved-identity|namespace;destinationContext=reserved-identity|dns|ip"},
		{"direction", "flow:sourceEgressContext=pod;sourceIngressContext=identity;destinationEgressContext=dns|ip;destinationIngressContext=pod-name drop:sourceEgressContext=workload;destinationIngressContext=workload"},
		{"labels", "flow:labelsContext=source_ip,source_pod,source_namespace,source_workload,source_workload_kind,source_app,destination_ip,destination_pod,destination_namespace,destination_workload,destination_workload_kind,destination_app,traffic_direction"},
		{"rest", "icmp:sourceContext=ip policy:sourceContext=app;destinationContext=identity port-distribution:labelsContext=source_app,destination_app kafka:sourceContext=pod tcp:destinationContext=namespace"},
	}
	return sets
}

func runGen(args []string) error {
	flags := flag.NewFlagSet("gen", flag.ExitOnError)
	out := flags.String("out", "tests/fixtures/cilium", "folder of the fixtures")
	_ = flags.Parse(args)
	w := theWorld()
	text, err := json.MarshalIndent(w, "", " ")
	if err != nil {
		return err
	}
	dir := filepath.Join(*out, built.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*out, "world.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := writeAnswers(w, filepath.Join(dir, "api")); err != nil {
		return err
	}
	var payloads [][]payload.Payload
	for _, s := range streams() {
		encoded, err := encodeStream(s.events)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		h, err := newHubble(w, newDirectory(w))
		if err != nil {
			return err
		}
		var expected bytes.Buffer
		if err := h.describeAll(&expected, s.events); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, s.name+".gob"), encoded, 0o644); err != nil {
			return err
		}
		if err := writePacked(filepath.Join(dir, s.name+".jsonl.gz"), expected.Bytes()); err != nil {
			return err
		}
		fmt.Printf("%s/%s: %d events, %d bytes\n", built.name, s.name, len(s.events), len(encoded))
		all := make([]payload.Payload, len(s.events))
		for i := range s.events {
			all[i] = s.events[i].payload
		}
		if s.name != "odd" {
			payloads = append(payloads, all)
		}
	}
	for _, set := range metricSets() {
		text, err := countStreams(w, set.config, payloads)
		if err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
		if err := writePacked(filepath.Join(dir, set.name+".prom.gz"), text); err != nil {
			return err
		}
	}
	return nil
}

// writePacked compresses without a time, so that the same contents give the same file.
func writePacked(path string, text []byte) error {
	var out bytes.Buffer
	packer, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := packer.Write(text); err != nil {
		return err
	}
	if err := packer.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// pick goes round a list.
func pick[T any](i int, list ...T) T {
	return list[i%len(list)]
}
