package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

// rawCounts is what one client was given.
type rawCounts struct {
	Events  uint64  `json:"events"`
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"` // of this process
	Error   string  `json:"error,omitempty"`
}

// gobMessages finds the ends of the messages of a gob stream, and how many at the start describe types.
func gobMessages(stream []byte) (ends []int, types int, err error) {
	at := 0
	number := func() (uint64, error) {
		if at >= len(stream) {
			return 0, errors.New("the stream ends in a message")
		}
		first := stream[at]
		at++
		if first < 128 {
			return uint64(first), nil
		}
		size := int(256 - uint(first))
		if size > 8 || at+size > len(stream) {
			return 0, errors.New("the stream holds a number that is none")
		}
		var n uint64
		for _, b := range stream[at : at+size] {
			n = n<<8 | uint64(b)
		}
		at += size
		return n, nil
	}
	for at < len(stream) {
		length, err := number()
		if err != nil {
			return nil, 0, err
		}
		end := at + int(length)
		id, err := number()
		if err != nil || end > len(stream) {
			return nil, 0, errors.New("the stream ends in a message")
		}
		// The low bit is the sign: negative ids come with descriptions of types.
		if id&1 == 1 {
			if types != len(ends) {
				return nil, 0, errors.New("a type is described after the first value")
			}
			types++
		}
		ends = append(ends, end)
		at = end
	}
	return ends, types, nil
}

// runServeRaw gives every client the stream's types once and its values again and again, with no more work than the writing.
func runServeRaw(args []string) error {
	flags := flag.NewFlagSet("serve-raw", flag.ExitOnError)
	socket := flags.String("socket", "", "path of the socket")
	repeat := flags.Uint64("repeat", 1, "how often the values are written")
	rate := flags.Uint64("rate", 0, "events a second; 0 is full speed")
	clients := flags.Int("clients", 1, "clients to serve, one after the other")
	cut := flags.Uint64("cut", 0, "close each connection after that many bytes, also inside a message")
	_ = flags.Parse(args)
	if flags.NArg() != 1 {
		return errors.New("name one stream")
	}
	stream, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	ends, types, err := gobMessages(stream)
	if err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	os.Remove(*socket)
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Printf("{\"ready\":true,\"events\":%d}\n", uint64(len(ends)-types)**repeat)
	out := json.NewEncoder(os.Stdout)
	for range *clients {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		w := rawWriter{conn: conn, stream: stream, ends: ends, types: types, cut: *cut}
		start, cpu := time.Now(), cpuTime()
		err = w.write(*repeat, *rate)
		conn.Close()
		w.counts.Seconds, w.counts.CPU = time.Since(start).Seconds(), (cpuTime() - cpu).Seconds()
		if err != nil {
			w.counts.Error = err.Error()
		}
		if err := out.Encode(w.counts); err != nil {
			return err
		}
	}
	return nil
}

type rawWriter struct {
	conn   net.Conn
	stream []byte
	ends   []int
	types  int
	cut    uint64
	counts rawCounts
}

var errCut = errors.New("cut as told")

// put writes a piece that holds that many events.
func (w *rawWriter) put(piece []byte, events uint64) error {
	cut := w.cut > 0 && w.counts.Bytes+uint64(len(piece)) > w.cut
	if cut {
		piece, events = piece[:w.cut-w.counts.Bytes], 0
	}
	n, err := w.conn.Write(piece)
	w.counts.Bytes += uint64(n)
	if err == nil {
		w.counts.Events += events
		if cut {
			err = errCut
		}
	}
	return err
}

func (w *rawWriter) write(repeat, rate uint64) error {
	head := 0
	if w.types > 0 {
		head = w.ends[w.types-1]
	}
	if err := w.put(w.stream[:head], 0); err != nil {
		return err
	}
	values := w.ends[w.types:]
	start := time.Now()
	for range repeat {
		if rate == 0 {
			if err := w.put(w.stream[head:], uint64(len(values))); err != nil {
				return err
			}
			continue
		}
		for done := 0; done < len(values); {
			due := int64(time.Since(start).Seconds()*float64(rate)) - int64(w.counts.Events)
			if due <= 0 {
				time.Sleep(time.Millisecond)
				continue
			}
			next := min(done+int(due), len(values))
			from := head
			if done > 0 {
				from = values[done-1]
			}
			if err := w.put(w.stream[from:values[next-1]], uint64(next-done)); err != nil {
				return err
			}
			done = next
		}
	}
	return nil
}
