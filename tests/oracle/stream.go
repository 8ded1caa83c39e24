package main

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cilium/cilium/pkg/monitor/payload"
)

// event is one payload of a stream and what it was made to show.
type event struct {
	what    string
	payload payload.Payload
}

// sample is an event as the datapath or the agent sends it. Nothing lies behind its end: some of Hubble's decoders look there if they can.
func sample(what string, cpu int, data []byte) event {
	return event{what, payload.Payload{Data: slices.Clip(data), CPU: cpu, Type: payload.EventSample}}
}

// encodeStream writes the bytes that one client of the monitor socket gets.
func encodeStream(events []event) ([]byte, error) {
	var out bytes.Buffer
	encoder := gob.NewEncoder(&out)
	for i := range events {
		if err := events[i].payload.EncodeBinary(encoder); err != nil {
			return nil, fmt.Errorf("event %d, %s: %w", i, events[i].what, err)
		}
	}
	return out.Bytes(), nil
}

// newPayloadDecoder reads payloads one by one; the error is io.EOF after the last.
func newPayloadDecoder(r io.Reader) func() (*payload.Payload, error) {
	decoder := gob.NewDecoder(r)
	return func() (*payload.Payload, error) {
		var p payload.Payload
		return &p, p.DecodeBinary(decoder)
	}
}

func decodeStream(r io.Reader) ([]payload.Payload, error) {
	var all []payload.Payload
	next := newPayloadDecoder(r)
	for {
		p, err := next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *p)
	}
}

func readStreams(paths []string) ([]payload.Payload, error) {
	var all []payload.Payload
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		some, err := decodeStream(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return nil, errors.New("no events: name at least one stream")
	}
	return all, nil
}

// agentData is what the agent puts in a payload for its own events: the type byte and a gob stream of its own. Maps are written in random order; the
// smallest of many encodings is the same in every run.
func agentData(kind byte, value any) []byte {
	var best []byte
	for range 200 {
		var out bytes.Buffer
		out.WriteByte(kind)
		if err := gob.NewEncoder(&out).Encode(value); err != nil {
			panic(err) // a type of ours that gob does not take
		}
		if best == nil || bytes.Compare(out.Bytes(), best) < 0 {
			best = out.Bytes()
		}
	}
	return best
}
