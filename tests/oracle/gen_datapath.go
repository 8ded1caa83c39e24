package main

import (
	"fmt"
	"net/netip"
)

// talk is one direction of a conversation, as a packet and as the identities that the datapath reports for it.
type talk struct {
	name     string
	src, dst netip.Addr
	srcID    uint32
	dstID    uint32
	source   uint16 // the endpoint whose program speaks
}

// talks are the traffic directions: out of a local pod, into one, between two, host, world, unknown ends, in both families.
func talks() []talk {
	return []talk{
		{"pod-to-pod-elsewhere", web4, api4, webID, apiID, 77},
		{"pod-elsewhere-to-pod", api6, web6, apiID, webID, 77},
		{"pod-to-pod-here", web4, db4, webID, dbID, 77},
		{"pod-to-pod-here-receiver", web6, db6, webID, dbID, 78},
		{"pod-to-world", web4, world4, webID, fqdnID, 77},
		{"world-to-pod", world6, web6, 10, webID, 77},
		{"pod-to-cidr", db4, cidr4, dbID, cidrID, 78},
		{"pod-to-cidr6", web6, cidr6, webID, 16777219, 77},
		{"host-to-pod", host4, job4, 1, jobID, 79},
		{"node-to-host", node4, host4, remoteID, 1, 500},
		{"no-source", unknown4, web4, 2, 0, 0},
		{"identities-from-tables", job4, node6, 0, 0, 79},
		{"stale-identity", web4, api4, 2222, 0, 77},
		{"to-service", job6, service6, jobID, 0, 79},
		{"kube-apiserver", db6, node6, dbID, 7, 78},
		{"bare-pod", addr("10.0.0.4"), addr("10.0.0.5"), 0, 0, 80},
		{"oc-pod", addr("fd00::7"), addr("fd00::fa"), webID, 4, 82},
	}
}

// protocols gives a transport packet that suits the family, and its protocol number.
func protocols(i int, six bool) (string, uint8, []byte) {
	switch i % 6 {
	case 0:
		return "tcp", protoTCP, tcp(34567, 8080, syn)
	case 1:
		return "udp", protoUDP, udp(5353, 53, 1, 2, 3, 4)
	case 2:
		if six {
			return "icmpv6", protoICMPv6, icmp(128, 0)
		}
		return "icmp", protoICMP, icmp(8, 0)
	case 3:
		return "sctp", protoSCTP, sctp(36412, 36413, 1)
	case 4:
		return "tcp", protoTCP, tcp(80, 34567, ack|psh, []byte("data")...)
	default:
		return "tcp", protoTCP, tcp(34567, 80, fin|ack)
	}
}

// made is a packet of a talk; bare is without the Ethernet header.
func made(i int, t talk, bare bool) (string, []byte) {
	name, proto, transport := protocols(i, t.dst.Is6())
	src := t.src
	if t.src.Is6() != t.dst.Is6() { // a table-only talk: take the family of the sender
		t.dst = map[bool]netip.Addr{false: node4, true: node6}[src.Is6()]
		name, proto, transport = protocols(i, src.Is6())
	}
	packet := ip(proto, src, t.dst, transport)
	if !bare {
		packet = framed(packet)
	}
	return name + " " + t.name, packet
}

func six(a netip.Addr) uint8 {
	if a.Is6() {
		return 1
	}
	return 0
}

// files are the numbers of the datapath's source files; other releases number the headers otherwise, so older messages carry only those all share.
func file(i int, newest bool) uint8 {
	if !newest {
		return uint8(1 + i%7)
	}
	all := []uint8{0, 8, 99, 100, 118, 255}
	for f := uint8(1); f <= 7; f++ {
		all = append(all, f)
	}
	for f := uint8(101); f <= 117; f++ {
		all = append(all, f)
	}
	return all[i%len(all)]
}

// drops: every reason number, in the layouts this release can meet.
func drops() []event {
	var events []event
	for reason := 0; reason < 256; reason++ {
		if reason == 207 {
			continue // odd
		}
		t := talks()[reason%len(talks())]
		version := built.drop
		if reason%4 == 3 { // an agent that was upgraded before its programs
			version = uint8(reason/4) % (built.drop + 1)
		}
		flags := uint8(0)
		if version >= 2 {
			flags = six(t.src)
			if reason%5 == 2 {
				flags |= flagL3
			}
		}
		name, packet := made(reason/2, t, flags&flagL3 != 0)
		d := drop{
			common: common{uint8(reason), t.source, 0x1000 + uint32(reason)}, version: version, srcID: t.srcID, dstID: t.dstID, line: uint16(reason * 7),
			file: file(reason, version == built.drop), extError: int8(pick(reason, 0, 0, -2, 4)), ifindex: uint32(pick(reason, 0, 2, 99)), flags: flags, packet: packet,
		}
		if reason%3 == 1 {
			d.dstEndpoint = 78
		}
		if version >= 3 && reason%4 == 1 {
			d.traceID = uint64(reason)<<32 | 7
		}
		what := fmt.Sprintf("reason %d, version %d, %s", reason, version, name)
		events = append(events, sample(what, reason%4, padded(d.bytes())))
	}
	return events
}

// traces: every observation point with every reason, encrypted or not, with and without an original address.
func traces() []event {
	var events []event
	points := []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}
	i := 0
	for _, point := range points {
		for reason := uint8(0); reason <= 9; reason++ {
			i++
			t := talks()[i%len(talks())]
			version := built.trace
			if i%4 == 3 {
				version = uint8(i/4) % (built.trace + 1)
			}
			flags := six(t.src)
			if i%5 == 2 {
				flags |= flagL3
			}
			name, packet := made(i, t, flags&flagL3 != 0)
			r := trace{
				common: common{point, t.source, 0x2000 + uint32(i)}, version: version, srcID: t.srcID, dstID: t.dstID, reason: reason, flags: flags,
				ifindex: uint32(pick(i, 0, 2, 15, 77)), packet: packet,
			}
			original := "none"
			switch i % 7 {
			case 1: // the same as in the header
				r.original, original = t.src, "same"
			case 3, 4: // translated
				original = "other"
				r.original = map[bool]netip.Addr{false: api4, true: api6}[t.src.Is6()]
			case 6: // all zero is not set
				r.original, original = zero6, "zero"
			}
			if i%2 == 1 {
				r.reason |= 0x80
			}
			switch {
			case point == 1:
				r.dstEndpoint = 15001
			case i%3 == 0:
				r.dstEndpoint = 78
			}
			if version >= 2 && i%4 == 0 {
				r.traceID = 0xfeed0000 + uint64(i)
			}
			what := fmt.Sprintf("point %d, reason %#x, version %d, original %s, %s", point, r.reason, version, original, name)
			events = append(events, sample(what, i%128, padded(r.bytes())))
		}
	}
	return events
}

// verdicts: every match type with every outcome, both directions, both families, with and without Ethernet, all authentication types.
func verdicts() []event {
	var events []event
	i := 0
	for match := uint8(0); match < 8; match++ {
		for _, outcome := range []int32{0, 15001, -133, -181, -189, -1, -255} {
			for _, audited := range []bool{false, true} {
				i++
				direction := uint8(pick(i, 1, 2, 1, 2, 2, 1, 0, 3))
				t := talks()[i%len(talks())]
				bits := direction | six(t.src)<<2 | match<<3
				if audited {
					bits |= 0x40
				}
				if i%5 == 2 {
					bits |= 0x80
				}
				name, packet := made(i, t, bits&0x80 != 0)
				remote := t.srcID
				if direction != 1 {
					remote = t.dstID
				}
				v := verdict{
					common: common{0, t.source, 0x3000 + uint32(i)}, remoteID: remote, verdict: outcome, port: 8080, proto: protoTCP, bits: bits,
					auth: uint8(pick(i, 0, 0, 1, 2, 3)), cookie: uint32(i), packet: packet,
				}
				what := fmt.Sprintf("match %d, verdict %d, bits %#x, %s", match, outcome, bits, name)
				events = append(events, sample(what, i%4, padded(v.bytes(built.verdict))))
			}
		}
	}
	return events
}

// others: debug messages, debug captures, socket traces, lost records, and what Hubble does not take.
func others() []event {
	var events []event
	add := func(what string, data []byte) { events = append(events, sample(what, len(events)%8, padded(data))) }
	for sub := 0; sub <= 70; sub++ {
		for variant, args := range [][3]uint32{{2, 1, 6}, {0x0201000a, 0x5000bb01, 0x901f0006}} {
			d := debug{common{uint8(sub), pick[uint16](sub+variant, 77, 0, 999), 0x4000 + uint32(sub)}, args[0], args[1], args[2]}
			add(fmt.Sprintf("debug %d, arguments %d", sub, variant), d.bytes())
		}
	}
	add("debug 255", debug{common: common{255, 78, 1}}.bytes())
	for sub := 0; sub <= 13; sub++ {
		t := talks()[sub]
		arg := uint32(pick(sub, 2, 15, 404))
		if sub == 8 || sub == 9 {
			arg = 0x901f // port 8080 in network order
		}
		name, packet := made(sub, t, false)
		add(fmt.Sprintf("capture %d, %s", sub, name), debugCapture{common{uint8(sub), t.source, 0x5000}, arg, 3, packet}.bytes())
	}
	add("capture 4 without an interface", debugCapture{common: common{sub: 4}, packet: framed(ip(protoUDP, web4, db4, udp(1, 2)))}.bytes())
	targets := []netip.Addr{service4, world4, api4, service6, api6, world6, unknown4}
	for i := 0; i < 5*3*len(targets); i++ {
		s := sockTrace{
			point: uint8(i % 5), proto: uint8(i / 5 % 3), dst: targets[i/15], port: pick[uint16](i, 80, 53, 8080, 443), cookie: 0xc00c1e<<32 + uint64(i),
			cgroup: pick[uint64](i, 4711, 4711, 4712, 4711, 1, 4711, 4713, 0),
		}
		add(fmt.Sprintf("socket point %d, protocol %d, to %s, cgroup %d", s.point, s.proto, s.dst, s.cgroup), s.bytes(built.sockReordered))
	}
	add("socket point 9, protocol 7", sockTrace{9, 7, web4, 1, 2, 4711}.bytes(built.sockReordered))
	for i, lost := range []uint64{1, 300, 1 << 40} {
		e := sample(fmt.Sprintf("lost %d", lost), i*64, nil)
		e.payload.Type, e.payload.Lost = 2, lost
		events = append(events, e)
	}
	recorder := make([]byte, 24, 96)
	recorder[0], recorder[1] = typeRecorder, 1
	add("recorder capture", append(recorder, framed(ip(protoTCP, web4, db4, tcp(1, 2, syn)))...))
	for _, kind := range []byte{0, 8, 99, 128, 131, 255} {
		data := make([]byte, 64)
		data[0] = kind
		add(fmt.Sprintf("message type %d", kind), data)
	}
	events = append(events, sample("no data", 3, nil))
	return append(events, shortened()...)
}

// shortened: one message of each kind, cut before and after each end of its header.
func shortened() []event {
	var events []event
	packet := framed(ip(protoTCP, web4, db4, tcp(1, 2, syn)))
	whole := map[string][]byte{
		"drop":    drop{common: common{133, 77, 1}, version: built.drop, packet: packet}.bytes(),
		"trace":   trace{common: common{0, 77, 1}, version: built.trace, packet: packet}.bytes(),
		"verdict": verdict{common: common{0, 77, 1}, packet: packet}.bytes(built.verdict),
		"capture": debugCapture{common: common{4, 77, 1}, packet: packet}.bytes(),
		"debug":   debug{common: common{1, 77, 1}}.bytes(),
		"socket":  sockTrace{1, 1, web4, 80, 1, 4711}.bytes(built.sockReordered),
	}
	for _, kind := range []string{"drop", "trace", "verdict", "capture", "debug", "socket"} {
		for _, length := range []int{1, 8, 16, 20, 24, 31, 32, 35, 36, 38, 39, 40, 47, 48, 55, 56} {
			if data := whole[kind]; length <= len(data) {
				events = append(events, sample(fmt.Sprintf("%s cut to %d", kind, length), 0, data[:length]))
			}
		}
	}
	return events
}
