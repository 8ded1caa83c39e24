package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/pkg/hubble/metrics"
	"github.com/cilium/cilium/pkg/hubble/metrics/api"
	"github.com/cilium/cilium/pkg/monitor/payload"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// counter is a set of Hubble's metric plugins.
type counter struct {
	registry *prometheus.Registry
	flows    *metrics.StaticFlowProcessor
}

// newCounter takes Hubble's own syntax: plugins separated by blanks, each name[:option[;option...]].
func newCounter(config string) (*counter, error) {
	registry := prometheus.NewPedanticRegistry()
	logger := slog.New(slog.DiscardHandler)
	handlers, err := metrics.InitMetricHandlers(logger, registry, api.ParseStaticMetricsConfig(strings.Fields(config)))
	if err != nil {
		return nil, err
	}
	if len(*handlers) != len(strings.Fields(config)) {
		return nil, fmt.Errorf("%q names a plugin that does not exist", config)
	}
	return &counter{registry, metrics.NewStaticFlowProcessor(logger, *handlers)}, nil
}

func (c *counter) count(flow *flowpb.Flow) error {
	return c.flows.ProcessFlow(context.Background(), flow)
}

func (c *counter) write(out io.Writer) error {
	families, err := c.registry.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(out, family); err != nil {
			return err
		}
	}
	return nil
}

// countStreams decodes the streams one after the other and counts their flows.
func countStreams(w *World, config string, streams [][]payload.Payload) ([]byte, error) {
	c, err := newCounter(config)
	if err != nil {
		return nil, err
	}
	for _, stream := range streams {
		h, err := newHubble(w, newDirectory(w))
		if err != nil {
			return nil, err
		}
		for i := range stream {
			decoded, err := h.decode(&stream[i])
			if err != nil {
				continue // no flow, as in Hubble
			}
			if flow, ok := decoded.Event.(*flowpb.Flow); ok {
				if err := c.count(flow); err != nil {
					return nil, fmt.Errorf("event %d: %w", i, err)
				}
			}
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Hubble %s: %s\n", built.name, config)
	err = c.write(&out)
	return out.Bytes(), err
}

func runMetrics(args []string) error {
	flags := flag.NewFlagSet("metrics", flag.ExitOnError)
	world := flags.String("world", "tests/fixtures/cilium/world.json", "what the agent knows")
	config := flags.String("config", metricSets()[0].config, "plugins in Hubble's syntax")
	_ = flags.Parse(args)
	w, err := loadWorld(*world)
	if err != nil {
		return err
	}
	var streams [][]payload.Payload
	for _, path := range flags.Args() {
		stream, err := readStreams([]string{path})
		if err != nil {
			return err
		}
		streams = append(streams, stream)
	}
	text, err := countStreams(w, *config, streams)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
