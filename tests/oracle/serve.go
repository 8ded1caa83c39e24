package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/cilium/pkg/monitor/payload"
	"github.com/cilium/ebpf"
)

// counts is what the harness knows and the agent does not tell. One client balances when offered = dropped + written.
type counts struct {
	Sent        uint64  `json:"sent"`        // events given to the agent
	Offered     uint64  `json:"offered"`     // of these, times the clients then connected
	Dropped     uint64  `json:"dropped"`     // by the queues of clients
	Written     uint64  `json:"written"`     // events handed to sockets
	Bytes       uint64  `json:"bytes"`       // handed to sockets
	Connections uint64  `json:"connections"` // so far
	Clients     int     `json:"clients"`     // now
	Restarts    int     `json:"restarts"`
	CPU         float64 `json:"cpu_seconds"` // of this process, since the first event
	Seconds     float64 `json:"seconds"`     // since the first event
	Done        bool    `json:"done"`        // all events were given and written
}

// dropCounter is the agent's log: the only trace of an event that a full queue drops is a debug message.
type dropCounter struct {
	slog.Handler
	dropped *atomic.Uint64
}

func (c dropCounter) Enabled(context.Context, slog.Level) bool { return true }

func (c dropCounter) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "Per listener queue is full") {
		c.dropped.Add(1)
	}
	if r.Level >= slog.LevelWarn {
		return c.Handler.Handle(ctx, r)
	}
	return nil
}

func (c dropCounter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c dropCounter) WithGroup(string) slog.Handler      { return c }

// countedListener counts what goes through the connections it accepts.
type countedListener struct {
	net.Listener
	host *host
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	counted := &countedConn{Conn: conn, host: l.host}
	l.host.connected(counted)
	return counted, nil
}

type countedConn struct {
	net.Conn
	host    *host
	writing sync.Mutex
	writes  uint64
	once    sync.Once
	client  bool // the agent sends to it
	ended   bool
}

// Write is called by gob once for each message; the first one describes the type.
func (c *countedConn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.Conn.Write(b)
	c.host.bytes.Add(uint64(n))
	if c.writes++; c.writes > 1 && err == nil {
		c.host.written.Add(1)
	}
	return n, err
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.host.closed(c) })
	return c.Conn.Close()
}

// host runs one agent after another on the same socket path.
type host struct {
	path  string
	queue int

	mu       sync.Mutex
	agent    monitorAgent
	cancel   context.CancelFunc
	listener net.Listener
	conns    map[*countedConn]struct{}
	newest   *countedConn

	sent, offered, dropped, written, bytes, connections atomic.Uint64
	clients                                             atomic.Int64
	restarts                                            int
	started                                             time.Time
	cpu                                                 time.Duration
	done                                                atomic.Bool
}

func (h *host) connected(c *countedConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[c] = struct{}{}
	h.newest = c
	h.connections.Add(1)
}

// registered follows connected, on the same goroutine: from now on the agent offers events to that client.
func (h *host) registered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.newest.ended {
		h.newest.client = true
		h.clients.Add(1)
	}
}

func (h *host) closed(c *countedConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	c.ended = true
	if c.client {
		h.clients.Add(-1)
	}
}

// start makes the socket and an agent behind it, with the agent's own code.
func (h *host) start() error {
	logger := slog.New(dropCounter{slog.NewTextHandler(os.Stderr, nil), &h.dropped})
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := buildServer(logger, h.path)
	if err != nil {
		cancel()
		return err
	}
	agent := newMonitorAgent(ctx, logger, h.registered)
	h.mu.Lock()
	h.agent, h.cancel, h.listener = agent, cancel, listener
	h.mu.Unlock()
	go serveConnections(ctx, logger, countedListener{listener, h}, agent, h.queue)
	return nil
}

// stop ends the agent as its death would: the socket and every connection are closed at once.
func (h *host) stop() {
	h.mu.Lock()
	h.cancel()
	// The agent's own code closes it a moment later, and would take the next agent's socket away with it.
	h.listener.Close()
	conns := make([]*countedConn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.Close()
		// What it was just writing is counted before anybody asks.
		c.writing.Lock()
		c.writing.Unlock()
	}
}

func (h *host) restart() error {
	h.stop()
	h.restarts++
	return h.start()
}

func (h *host) counts() counts {
	c := counts{
		Sent: h.sent.Load(), Offered: h.offered.Load(), Dropped: h.dropped.Load(), Written: h.written.Load(), Bytes: h.bytes.Load(),
		Connections: h.connections.Load(), Clients: int(h.clients.Load()), Restarts: h.restarts, Done: h.done.Load(),
	}
	if !h.started.IsZero() {
		c.CPU, c.Seconds = (cpuTime() - h.cpu).Seconds(), time.Since(h.started).Seconds()
	}
	return c
}

// feed gives the events round and round, count in all, at rate a second; 0 is as fast as it goes, which overflows any queue.
func (h *host) feed(events []payload.Payload, count, rate uint64) {
	start := time.Now()
	for n := uint64(0); n < count; {
		batch := uint64(64)
		if rate > 0 {
			due := uint64(time.Since(start).Seconds() * float64(rate))
			if due <= n {
				time.Sleep(time.Millisecond)
				continue
			}
			batch = due - n
		}
		h.mu.Lock()
		agent := h.agent
		h.mu.Unlock()
		for range min(batch, count-n) {
			agent.send(&events[n%uint64(len(events))])
			h.offered.Add(uint64(h.clients.Load()))
			n++
		}
		h.sent.Store(n)
	}
}

func runServe(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	socket := flags.String("socket", "", "path of the socket")
	queue := flags.Int("queue", 0, "events a client's queue holds; 0 as the agent: 1,024 for each CPU, at most 16,384")
	rate := flags.Uint64("rate", 0, "events a second; 0 is full speed")
	count := flags.Uint64("count", 0, "events in all, the streams round and round; 0 is the streams once")
	wait := flags.Int("wait", 1, "clients to wait for before the first event")
	stay := flags.Bool("stay", false, "after the last event, stay until told to stop")
	_ = flags.Parse(args)
	events, err := readStreams(flags.Args())
	if err != nil {
		return err
	}
	if *count == 0 {
		*count = uint64(len(events))
	}
	if *queue == 0 {
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return err
		}
		*queue = min(cpus*1024, 16384)
	}
	h := &host{path: *socket, queue: *queue, conns: map[*countedConn]struct{}{}}
	if err := h.start(); err != nil {
		return err
	}
	defer os.Remove(*socket)
	fmt.Printf("{\"ready\":true,\"queue\":%d,\"events\":%d}\n", *queue, *count)
	finished := make(chan struct{})
	go func() {
		for h.clients.Load() < int64(*wait) {
			time.Sleep(time.Millisecond)
		}
		h.started, h.cpu = time.Now(), cpuTime()
		h.feed(events, *count, *rate)
		// Queues drain: nothing is left when every event offered to a client was dropped or written, or no client is left.
		for h.clients.Load() > 0 && h.restarts == 0 && h.written.Load()+h.dropped.Load() < h.offered.Load() {
			time.Sleep(time.Millisecond)
		}
		h.done.Store(true)
		close(finished)
	}()
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- strings.TrimSpace(in.Text())
		}
		close(lines)
	}()
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case <-finished:
			if !*stay {
				h.stop()
				return out.Encode(h.counts())
			}
			finished = nil
			if err := out.Encode(h.counts()); err != nil {
				return err
			}
		case line, more := <-lines:
			if !more && !*stay {
				lines = nil // run to the end without commands
				continue
			}
			switch line {
			case "restart":
				if err := h.restart(); err != nil {
					return err
				}
			case "stats":
			case "stop", "":
				h.stop()
				return out.Encode(h.counts())
			default:
				fmt.Fprintf(os.Stderr, "commands are restart, stats and stop; not %q\n", line)
				continue
			}
			if err := out.Encode(h.counts()); err != nil {
				return err
			}
		}
	}
}
