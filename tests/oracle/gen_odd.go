package main

import (
	"fmt"

	"github.com/cilium/cilium/pkg/proxy/accesslog"
)

// odd: events that netflume reads otherwise than Hubble, because it knows what later releases know, takes what Hubble refuses, or does not follow a
// slip. They are kept apart so that the metrics of all other streams can be compared as they are.
func odd() []event {
	var events []event
	packet := framed(ip(protoTCP, web4, db4, tcp(1, 2, syn)))
	events = append(events, sample("drop reason 207", 0, drop{common: common{207, 77, 1}, version: built.drop, srcID: webID, dstID: dbID, packet: packet}.bytes()))
	if !built.routing {
		events = append(events, routing()...)
	}
	inner := framed(ip(protoTCP, web4, api4, tcp(1, 2, syn)))
	again := framed(ip(protoUDP, web4, api4, udp(1, 4789, vxlan(3, inner)...)))
	for i, outer := range [][]byte{vxlan(910000, again), geneve(910000, 0x6558, nil, again)} {
		events = append(events, tracePacket("a tunnel in a tunnel", pick[uint8](i, flagVXLAN, flagGeneve), framed(ip(protoUDP, host4, node4, udp(1, 8472, outer...)))))
	}
	// The ring's padding is no packet, but Hubble reads it as such: here it completes or spoils what was cut.
	for _, n := range []int{0, 4, 12, 14, 30, 52} {
		t := trace{common: common{0, 77, 1}, version: built.trace, srcID: webID, dstID: dbID, packet: packet[:n]}
		events = append(events, sample(fmt.Sprintf("packet cut to %d and padded", n), 0, padded(t.bytes())))
	}
	for i, version := range []uint8{built.drop + 1, 200, built.trace + 1, 200} {
		data := drop{common: common{133, 77, 1}, version: built.drop, packet: packet}.bytes()
		if i >= 2 {
			data = trace{common: common{0, 77, 1}, version: built.trace, packet: packet}.bytes()
		}
		data[14] = version
		events = append(events, sample(fmt.Sprintf("%s of version %d", pick(i/2, "drop", "trace"), version), 0, data))
	}
	for _, t := range []uint16{35} {
		for _, kind := range []accesslog.FlowType{accesslog.TypeRequest, accesslog.TypeResponse} {
			r := base(kind, 1, logWeb, logDNS)
			r.TransportProtocol = protoUDP
			r.DNS = &accesslog.LogRecordDNS{Query: "name.example.com.", ObservationSource: accesslog.DNSSourceProxy, QTypes: []uint16{t}, AnswerTypes: []uint16{t}}
			events = append(events, sample(fmt.Sprintf("dns %s of type %d", kind, t), 0, agentData(typeAccessLog, r)))
		}
	}
	for _, change := range []struct {
		what string
		do   func(*accesslog.LogRecord)
	}{
		{"transport protocol 262", func(r *accesslog.LogRecord) { r.TransportProtocol = 262 }},
		{"addresses that are none", func(r *accesslog.LogRecord) { r.SourceEndpoint.IPv4, r.DestinationEndpoint.IPv4 = "x", "10.0.0.300" }},
		{"ip version 7", func(r *accesslog.LogRecord) { r.IPVersion = 7 }},
		{"dns and http in one", func(r *accesslog.LogRecord) {
			r.DNS, r.HTTP = &accesslog.LogRecordDNS{Query: "a.b."}, &accesslog.LogRecordHTTP{Method: "GET"}
		}},
	} {
		r := base(accesslog.TypeRequest, 2, logWeb, logDB)
		change.do(&r)
		events = append(events, sample(change.what, 0, agentData(typeAccessLog, r)))
	}
	return events
}
