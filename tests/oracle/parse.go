package main

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	v1 "github.com/cilium/cilium/pkg/hubble/api/v1"
	observer "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/hubble/parser"
	"github.com/cilium/cilium/pkg/hubble/parser/options"
	"github.com/cilium/cilium/pkg/monitor/api"
	"github.com/cilium/cilium/pkg/monitor/payload"
	"github.com/cilium/cilium/pkg/proxy/accesslog"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// hubble is Hubble's parser over a world, fed as the agent feeds it.
type hubble struct {
	parser *parser.Parser
	node   string
	now    time.Time
	step   time.Duration
	count  uint64
}

func newHubble(w *World, d *directory) (*hubble, error) {
	p, err := parser.New(slog.New(slog.DiscardHandler), d, d, d, d, d, d, d, options.WithNetworkPolicyCorrelation(false))
	return &hubble{parser: p, node: w.Node, now: w.Start, step: time.Duration(w.StepNs)}, err
}

// decode gives nil without an error for what Hubble passes over in silence.
func (h *hubble) decode(p *payload.Payload) (event *v1.Event, err error) {
	monitored := observer.MonitorEvent{Timestamp: h.now, NodeName: h.node}
	// Version 4, variant 1, else the number of the event.
	monitored.UUID = uuid.UUID{6: 0x40, 8: 0x80}
	binary.BigEndian.PutUint32(monitored.UUID[12:], uint32(h.count))
	h.now = h.now.Add(h.step)
	h.count++
	if monitored.Payload, err = inProcess(p); err != nil {
		return nil, err
	}
	defer func() {
		if problem := recover(); problem != nil {
			event, err = nil, fmt.Errorf("panic: %v", problem)
		}
	}()
	return h.parser.Decode(&monitored)
}

// inProcess is the event as Hubble gets it inside the agent, where agent events are not encoded.
func inProcess(p *payload.Payload) (any, error) {
	switch p.Type {
	case payload.RecordLost:
		return &observer.LostEvent{Source: observer.LostEventSourcePerfRingBuffer, NumLostEvents: p.Lost, CPU: p.CPU}, nil
	case payload.EventSample:
	default:
		return nil, fmt.Errorf("payload type %d", p.Type)
	}
	if len(p.Data) == 0 {
		return &observer.PerfEvent{CPU: p.CPU}, nil
	}
	switch kind := p.Data[0]; kind {
	case typeAccessLog:
		var record accesslog.LogRecord
		if err := gob.NewDecoder(bytes.NewReader(p.Data[1:])).Decode(&record); err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		return &observer.AgentEvent{Type: int(kind), Message: record}, nil
	case typeAgent:
		var notify api.AgentNotify
		if err := gob.NewDecoder(bytes.NewReader(p.Data[1:])).Decode(&notify); err != nil {
			return nil, fmt.Errorf("agent notification: %w", err)
		}
		message, err := notification(notify)
		return &observer.AgentEvent{Type: int(kind), Message: message}, err
	}
	return &observer.PerfEvent{Data: p.Data, CPU: p.CPU}, nil
}

// notification undoes the agent's step to JSON: the wire has no more than the type and the text.
func notification(n api.AgentNotify) (api.AgentNotifyMessage, error) {
	into := func(value any) (any, error) {
		if err := json.Unmarshal([]byte(n.Text), value); err != nil {
			return nil, fmt.Errorf("agent notification %d: %w", n.Type, err)
		}
		return value, nil
	}
	message := api.AgentNotifyMessage{Type: n.Type}
	var err error
	switch n.Type {
	case api.AgentNotifyStart:
		var v api.TimeNotification
		_, err = into(&v)
		message.Notification = v
	case api.AgentNotifyEndpointRegenerateSuccess, api.AgentNotifyEndpointRegenerateFail:
		var v api.EndpointRegenNotification
		_, err = into(&v)
		message.Notification = v
	case api.AgentNotifyPolicyUpdated, api.AgentNotifyPolicyDeleted:
		var v api.PolicyUpdateNotification
		_, err = into(&v)
		message.Notification = v
	case api.AgentNotifyEndpointCreated, api.AgentNotifyEndpointDeleted:
		var v api.EndpointNotification
		_, err = into(&v)
		message.Notification = v
	case api.AgentNotifyIPCacheUpserted, api.AgentNotifyIPCacheDeleted:
		var v api.IPCacheNotification
		_, err = into(&v)
		message.Notification = v
	default:
		var v json.RawMessage
		_, err = into(&v)
		message.Notification = v
	}
	return message, err
}

// line is what is said of one event. One of the last five is there.
type line struct {
	N     uint64          `json:"n"`
	What  string          `json:"what,omitempty"`
	Flow  json.RawMessage `json:"flow,omitempty"`
	Agent json.RawMessage `json:"agent_event,omitempty"`
	Debug json.RawMessage `json:"debug_event,omitempty"`
	Lost  json.RawMessage `json:"lost_events,omitempty"`
	Error string          `json:"error,omitempty"`
}

// describe decodes one event and says what came of it.
func (h *hubble) describe(what string, p *payload.Payload) (line, error) {
	said := line{N: h.count, What: what}
	decoded, err := h.decode(p)
	if err != nil {
		// protobuf varies its blanks from build to build, and some texts print the whole event.
		if said.Error = strings.ReplaceAll(err.Error(), "\u00a0", " "); len(said.Error) > 120 {
			said.Error = said.Error[:120] + "..."
		}
		return said, nil
	}
	message, ok := decoded.Event.(proto.Message)
	if !ok {
		return said, errors.New("the parser gave something that is no message")
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return said, err
	}
	// The encoder varies its blanks from build to build.
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return said, err
	}
	switch message.(type) {
	case *flowpb.Flow:
		said.Flow = compact.Bytes()
	case *flowpb.AgentEvent:
		said.Agent = compact.Bytes()
	case *flowpb.DebugEvent:
		said.Debug = compact.Bytes()
	case *flowpb.LostEvent:
		said.Lost = compact.Bytes()
	default:
		return said, fmt.Errorf("the parser gave a %T", message)
	}
	return said, nil
}

func (h *hubble) describeAll(out io.Writer, events []event) error {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for i := range events {
		said, err := h.describe(events[i].what, &events[i].payload)
		if err != nil {
			return err
		}
		if err := lines.Encode(said); err != nil {
			return err
		}
	}
	return nil
}

func runParse(args []string) error {
	flags := flag.NewFlagSet("parse", flag.ExitOnError)
	world := flags.String("world", "tests/fixtures/cilium/world.json", "what the agent knows")
	_ = flags.Parse(args)
	w, err := loadWorld(*world)
	if err != nil {
		return err
	}
	for _, path := range flags.Args() {
		payloads, err := readStreams([]string{path})
		if err != nil {
			return err
		}
		events := make([]event, len(payloads))
		for i := range payloads {
			events[i].payload = payloads[i]
		}
		h, err := newHubble(w, newDirectory(w))
		if err != nil {
			return err
		}
		if err := h.describeAll(os.Stdout, events); err != nil {
			return err
		}
	}
	return nil
}
