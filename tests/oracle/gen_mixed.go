package main

import (
	"bufio"
	"encoding/gob"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"

	"github.com/cilium/cilium/pkg/monitor/api"
	"github.com/cilium/cilium/pkg/proxy/accesslog"
)

// runMixed writes what a busy node sends: mostly traces of TCP connections with 118 captured bytes, some verdicts and drops, a few access logs.
func runMixed(args []string) error {
	flags := flag.NewFlagSet("mixed", flag.ExitOnError)
	count := flags.Int("n", 65536, "events")
	seed := flags.Uint64("seed", 1, "of the random choices")
	out := flags.String("out", "", "file to write")
	_ = flags.Parse(args)
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(f)
	encoder := gob.NewEncoder(buffered)
	m := mixer{rand: rand.New(rand.NewPCG(*seed, 0)), logs: mixedLogs()}
	for i := range *count {
		e := m.next(i)
		if err := e.payload.EncodeBinary(encoder); err != nil {
			return err
		}
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return f.Close()
}

type mixer struct {
	rand *rand.Rand
	logs [][]byte
}

func (m *mixer) next(i int) event {
	cpu := m.rand.IntN(8)
	t := talks()[m.rand.IntN(len(talks()))]
	if t.src.Is6() != t.dst.Is6() {
		t = talks()[0]
	}
	port := uint16(32768 + m.rand.IntN(28000))
	payload := make([]byte, 64)
	var transport []byte
	proto := uint8(protoTCP)
	switch roll := m.rand.IntN(100); {
	case roll < 82:
		flags := []uint16{ack, ack, ack | psh, ack | psh, syn, syn | ack, fin | ack, rst}[m.rand.IntN(8)]
		transport = tcp(port, 8080, flags, payload...)
	case roll < 95:
		proto, transport = protoUDP, udp(port, 53, payload...)
	case t.src.Is6():
		proto, transport = protoICMPv6, icmp(128, 0)
	default:
		proto, transport = protoICMP, icmp(8, 0)
	}
	packet := framed(ip(proto, t.src, t.dst, transport))
	hash := m.rand.Uint32()
	switch roll := m.rand.IntN(1000); {
	case roll < 850:
		point := []uint8{0, 0, 2, 3, 4, 5, 9, 10, 11}[m.rand.IntN(9)]
		reason := []uint8{0, 1, 1, 1, 2, 2}[m.rand.IntN(6)]
		return sample("", cpu, padded(trace{common: common{point, t.source, hash}, version: built.trace, srcID: t.srcID, dstID: t.dstID, reason: reason, flags: six(t.src), ifindex: uint32(m.rand.IntN(20)), packet: packet}.bytes()))
	case roll < 910:
		outcome := []int32{0, 0, 0, 15001, -133}[m.rand.IntN(5)]
		direction := uint8(1 + m.rand.IntN(2))
		return sample("", cpu, padded(verdict{common: common{0, t.source, hash}, remoteID: t.dstID, verdict: outcome, port: 8080, proto: proto, bits: direction | six(t.src)<<2 | 2<<3, packet: packet}.bytes(built.verdict)))
	case roll < 970:
		reason := []uint8{133, 133, 181, 169, 150, 154}[m.rand.IntN(6)]
		return sample("", cpu, padded(drop{common: common{reason, t.source, hash}, version: built.drop, srcID: t.srcID, dstID: t.dstID, line: 1234, file: 2, flags: six(t.src), packet: packet}.bytes()))
	case roll < 998:
		return sample("", 0, m.logs[i%len(m.logs)])
	default:
		message := api.EndpointRegenMessage(local{theWorld().Endpoints[m.rand.IntN(3)]}, nil)
		notify, err := message.ToJSON()
		if err != nil {
			panic(err) // a plain structure
		}
		return sample("", 0, agentData(typeAgent, notify))
	}
}

// mixedLogs are pairs of requests and responses, made once: the agent's encoding is not what is measured.
func mixedLogs() [][]byte {
	var logs [][]byte
	for i := range 64 {
		id := fmt.Sprintf("mixed-%d", i)
		for _, kind := range []accesslog.FlowType{accesslog.TypeRequest, accesslog.TypeResponse} {
			r := base(kind, i*10+len(logs)%2*7, logWeb, logAPI)
			if i%2 == 0 {
				r.HTTP = &accesslog.LogRecordHTTP{Method: "GET", URL: location("http://api.shop.svc:8080/items?page=1"), Protocol: "HTTP/1.1", Headers: http.Header{"X-Request-Id": {id}}}
				if kind == accesslog.TypeResponse {
					r.HTTP.Code = 200
				}
			} else {
				r.SourceEndpoint, r.DestinationEndpoint, r.TransportProtocol = logWeb, logDNS, protoUDP
				r.DNS = &accesslog.LogRecordDNS{Query: "api.shop.svc.", ObservationSource: accesslog.DNSSourceProxy, QTypes: []uint16{1}}
				if kind == accesslog.TypeResponse {
					r.SourceEndpoint, r.DestinationEndpoint = logDNS, logWeb
					r.DNS.IPs, r.DNS.TTL, r.DNS.AnswerTypes = []netip.Addr{api4}, 30, []uint16{1}
				}
			}
			logs = append(logs, agentData(typeAccessLog, r))
		}
	}
	return logs
}
