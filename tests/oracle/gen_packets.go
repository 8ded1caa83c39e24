package main

import (
	"fmt"
	"net/netip"
)

// packets: what can be inside a trace event. Not padded: here Hubble takes everything after the header for packet.
func packets() []event {
	var events []event
	add := func(what string, flags uint8, packet []byte) {
		t := trace{
			common: common{0, 77, 0x6000 + uint32(len(events))}, version: built.trace, srcID: webID, dstID: dbID, reason: 1, flags: flags, packet: packet,
		}
		events = append(events, sample(what, 0, t.bytes()))
	}
	both := func(what string, proto4, proto6 uint8, transport []byte) {
		add(what+" in IPv4", 0, framed(ip(proto4, web4, db4, transport)))
		add(what+" in IPv6", flagIPv6, framed(ip(proto6, web6, db6, transport)))
	}
	for bit := range 9 {
		both(fmt.Sprintf("tcp flags %#x", 1<<bit), protoTCP, protoTCP, tcp(1000, 2000, 1<<bit))
	}
	for _, flags := range []uint16{0, 0x1ff, syn | ack, fin | ack, rst | ack, psh | ack, syn | ece | cwr} {
		both(fmt.Sprintf("tcp flags %#x", flags), protoTCP, protoTCP, tcp(65535, 0, flags, []byte("payload")...))
	}
	for kind := range 21 {
		for _, code := range []uint8{0, 1, 2, 3, 4, 15, 16} {
			if code < 2 || kind == 3 || kind == 5 || kind == 11 || kind == 12 || code == 16 && kind%4 == 0 {
				add(fmt.Sprintf("icmp %d/%d", kind, code), 0, framed(ip(protoICMP, web4, db4, icmp(uint8(kind), code))))
			}
		}
	}
	for code := range 17 {
		add(fmt.Sprintf("icmp 3/%d", code), 0, framed(ip(protoICMP, web4, db4, icmp(3, uint8(code)))))
	}
	for _, kind := range []uint8{0, 1, 2, 3, 4, 5, 100, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 141, 143, 155, 255} {
		for code := range uint8(9) {
			if code < 2 || kind == 1 || kind < 5 && code < 5 {
				add(fmt.Sprintf("icmpv6 %d/%d", kind, code), flagIPv6, framed(ip(protoICMPv6, web6, db6, append(icmp(kind, code), make([]byte, 24)...))))
			}
		}
	}
	both("icmpv6 in the other family", protoICMPv6, protoICMP, icmp(8, 0))
	for chunk := range uint8(16) {
		both(fmt.Sprintf("sctp chunk %d", chunk), protoSCTP, protoSCTP, sctp(36412, 5000, chunk))
	}
	both("sctp without a chunk", protoSCTP, protoSCTP, sctp(36412, 5000, 1)[:12])
	if built.routing {
		events = append(events, routing()...)
	}
	for _, port := range []uint16{53, 123, 443, 4789, 6081, 8472} {
		both(fmt.Sprintf("udp port %d without a tunnel flag", port), protoUDP, protoUDP, udp(40000, port, vxlan(5, []byte{1, 2, 3})...))
	}
	both("udp without payload", protoUDP, protoUDP, udp(1, 2))
	for _, proto := range []uint8{0, 3, 41, 43, 44, 47, 50, 51, 59, 60, 89, 103, 135, 137, 253, 255} {
		payload := append([]byte{59, 0, 1, 4, 0, 0, 0, 0}, tcp(1, 2, syn)...)
		both(fmt.Sprintf("protocol %d", proto), proto, proto, payload)
	}
	events = append(events, links()...)
	events = append(events, lengths()...)
	events = append(events, fragments()...)
	events = append(events, tunnels()...)
	return events
}

// routing: VRRP and IGMP.
func routing() []event {
	var events []event
	both := func(what string, proto uint8, transport []byte) {
		events = append(events, tracePacket(what+" in IPv4", 0, framed(ip(proto, web4, db4, transport))), tracePacket(what+" in IPv6", flagIPv6, framed(ip(proto, web6, db6, transport))))
	}
	for _, kind := range []uint8{0, 1, 2, 15} {
		both(fmt.Sprintf("vrrp type %d", kind), protoVRRP, vrrp(kind, 2))
	}
	both("vrrp version 3", protoVRRP, vrrp(1, 3))
	for _, kind := range []uint8{0x11, 0x12, 0x16, 0x17, 0x22, 0x99} {
		both(fmt.Sprintf("igmp type %#x", kind), protoIGMP, igmp(kind))
	}
	for n := 20; n <= 28; n++ {
		events = append(events,
			tracePacket(fmt.Sprintf("igmp cut to %d", n), flagL3, ip(protoIGMP, web4, db4, igmp(0x16))[:n]),
			tracePacket(fmt.Sprintf("vrrp cut to %d", n), flagL3, ip(protoVRRP, web4, db4, vrrp(1, 2))[:n]))
	}
	for _, inside := range [][]byte{ip(protoVRRP, web4, api4, vrrp(1, 2)), ip(protoIGMP, web4, api4, igmp(0x16))} {
		outer := udp(45000, 8472, vxlan(77, framed(inside))...)
		events = append(events, tracePacket("vxlan with vrrp or igmp", flagVXLAN, framed(ip(protoUDP, host4, node4, outer))))
	}
	return append(events, tracePacket("igmpv3 report", 0, framed(ip(protoIGMP, web4, db4, append(igmp(0x22), make([]byte, 8)...)))))
}

// tracePacket is a packet in a trace event of the newest layout.
func tracePacket(what string, flags uint8, packet []byte) event {
	t := trace{common: common{3, 78, 0x7000}, version: built.trace, srcID: webID, dstID: dbID, flags: flags, packet: packet}
	return sample(what, 0, t.bytes())
}

// links: what is under the network layer.
func links() []event {
	inner := ip(protoTCP, web4, db4, tcp(1, 2, syn))
	inner6 := ip(protoTCP, web6, db6, tcp(1, 2, syn))
	return []event{
		tracePacket("empty packet", 0, nil),
		tracePacket("arp", 0, eth(etherARP, make([]byte, 28))),
		tracePacket("vlan", 0, eth(etherVLAN, join([]byte{0, 7, 8, 0}, inner))),
		tracePacket("lldp", 0, eth(0x88cc, make([]byte, 20))),
		tracePacket("802.3 with a length", 0, eth(40, make([]byte, 60))),
		tracePacket("unknown ethernet type", 0, eth(0x1234, inner)),
		tracePacket("mpls", 0, eth(0x8847, inner)),
		tracePacket("ethernet says IPv6, packet is IPv4", 0, eth(etherIPv6, inner)),
		tracePacket("ethernet says IPv4, packet is IPv6", 0, eth(etherIPv4, inner6)),
		tracePacket("ethernet only", 0, eth(etherIPv4, nil)),
		tracePacket("L3 device IPv4", flagL3, inner),
		tracePacket("L3 device IPv6", flagL3|flagIPv6, inner6),
		tracePacket("L3 device, flag says IPv6, packet is IPv4", flagL3|flagIPv6, inner),
		tracePacket("L3 device, flag says IPv4, packet is IPv6", flagL3, inner6),
		tracePacket("IPv4 in IPv4", 0, framed(ip(4, host4, node4, inner))),
		tracePacket("IPv6 in IPv4", 0, framed(ip(41, host4, node4, inner6))),
		tracePacket("IPv4 in IPv6", flagIPv6, framed(ip(4, host6, node6, inner))),
		tracePacket("IPv6 in IPv6", flagIPv6, framed(ip(41, host6, node6, inner6))),
		tracePacket("trailer after IPv4", 0, append(framed(inner), 1, 2, 3, 4, 5, 6)),
		tracePacket("trailer after IPv6", flagIPv6, append(framed(inner6), 1, 2, 3, 4, 5, 6)),
		tracePacket("IPv4-mapped addresses", flagIPv6, framed(ip(protoTCP, addr("::ffff:10.0.0.1"), addr("::ffff:10.0.0.2"), tcp(1, 2, syn)))),
		tracePacket("unspecified and multicast", flagIPv6, framed(ip(protoUDP, zero6, addr("ff02::1:2"), udp(546, 547)))),
		tracePacket("broadcast", 0, framed(ip(protoUDP, zero4, addr("255.255.255.255"), udp(68, 67)))),
	}
}

// lengths: packets cut at every byte, and headers whose lengths are wrong.
func lengths() []event {
	var events []event
	add := func(what string, flags uint8, packet []byte) {
		events = append(events, tracePacket(what, flags, packet))
	}
	whole := framed(ip(protoTCP, web4, db4, tcp(1, 2, syn|ack)))
	for n := 1; n <= len(whole); n++ {
		add(fmt.Sprintf("tcp over IPv4 cut to %d", n), 0, whole[:n])
	}
	whole = framed(ip(protoUDP, web6, db6, udp(1, 2, 3)))
	for n := 14; n <= len(whole); n += 2 {
		add(fmt.Sprintf("udp over IPv6 cut to %d", n), flagIPv6, whole[:n])
	}
	for n := 20; n <= 28; n++ {
		add(fmt.Sprintf("icmp cut to %d", n), flagL3, ip(protoICMP, web4, db4, icmp(3, 1))[:n])
	}
	for n := 30; n <= 34; n++ {
		add(fmt.Sprintf("sctp cut to %d", n), flagL3, ip(protoSCTP, web4, db4, sctp(1, 2, 1))[:n])
	}
	for n := 40; n <= 46; n++ {
		add(fmt.Sprintf("icmpv6 cut to %d", n), flagL3|flagIPv6, ip(protoICMPv6, web6, db6, icmp(128, 0))[:n])
	}
	header := func(change func(h []byte)) []byte {
		packet := ip(protoTCP, web4, db4, tcp(1, 2, syn, 1, 2, 3, 4))
		change(packet)
		return framed(packet)
	}
	for _, total := range []uint16{0, 1, 19, 20, 21, 39, 40, 41, 44, 45, 60, 1500, 65535} {
		add(fmt.Sprintf("IPv4 total length %d", total), 0, header(func(h []byte) { network.PutUint16(h[2:], total) }))
	}
	for _, first := range []byte{0x40, 0x44, 0x46, 0x47, 0x4f, 0x55, 0x65, 0x05} {
		add(fmt.Sprintf("IPv4 first byte %#x", first), 0, header(func(h []byte) { h[0] = first }))
	}
	for i, options := range [][]byte{{0, 0, 0, 0}, {1, 1, 1, 1}, {7, 4, 0, 0}, {7, 2, 0, 0}, {7, 1, 0, 0}, {7, 9, 0, 0}, {1, 1, 1, 7}, {148, 4, 0, 0}} {
		packet := join(ip(protoTCP, web4, db4, nil), options, tcp(1, 2, syn))
		packet[0] = 0x46
		network.PutUint16(packet[2:], uint16(len(packet)))
		add(fmt.Sprintf("IPv4 options %d", i), 0, framed(packet))
	}
	for i, options := range [][]byte{{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 4, 5, 180}, {3, 3, 7, 0}, {4, 2, 0, 0}, {8, 10, 0, 0}, {9, 1, 0, 0}, {9, 0, 0, 0}, {1, 1, 1, 9}, {254, 4, 1, 2}} {
		segment := tcp(1, 2, syn, options...)
		segment[12] = 6 << 4
		add(fmt.Sprintf("tcp options %d", i), 0, framed(ip(protoTCP, web4, db4, segment)))
	}
	for _, words := range []byte{0, 4, 5, 6, 7, 15} {
		segment := tcp(1, 2, syn, 0, 0, 0, 0)
		segment[12] = words << 4
		add(fmt.Sprintf("tcp data offset %d", words), 0, framed(ip(protoTCP, web4, db4, segment)))
	}
	for _, length := range []uint16{0, 1, 7, 8, 9, 12, 13, 1000} {
		datagram := udp(1, 2, 3, 4, 5, 6)
		network.PutUint16(datagram[4:], length)
		add(fmt.Sprintf("udp length %d", length), 0, framed(ip(protoUDP, web4, db4, datagram)))
	}
	for _, length := range []uint16{0, 1, 8, 12, 13, 1000} {
		packet := ip(protoUDP, web6, db6, udp(1, 2, 3, 4, 5, 6))
		network.PutUint16(packet[4:], length)
		add(fmt.Sprintf("IPv6 payload length %d", length), flagIPv6, framed(packet))
	}
	return events
}

// fragments and extension headers.
func fragments() []event {
	var events []event
	for _, offset := range []uint16{0x2000, 0x2001, 0x0001, 0x4000, 0x8000, 0x6000} {
		packet := ip(protoUDP, web4, db4, udp(1, 2, 3))
		network.PutUint16(packet[6:], offset)
		events = append(events, tracePacket(fmt.Sprintf("IPv4 fragment field %#x", offset), 0, framed(packet)))
	}
	hop := func(next, words byte, options ...byte) []byte { return append([]byte{next, words}, options...) }
	padN := []byte{1, 4, 0, 0, 0, 0}
	segment := tcp(1, 2, syn)
	for _, c := range []struct {
		what    string
		next    uint8
		payload []byte
	}{
		{"hop-by-hop then tcp", 0, join(hop(protoTCP, 0, padN...), segment)},
		{"hop-by-hop then icmpv6", 0, join(hop(protoICMPv6, 0, 5, 2, 0, 0, 1, 0), icmp(143, 0))},
		{"long hop-by-hop then udp", 0, join(hop(protoUDP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), udp(1, 2))},
		{"hop-by-hop with pad1", 0, join(hop(protoTCP, 0, 0, 0, 0, 0, 0, 0), segment)},
		{"hop-by-hop too long", 0, join(hop(protoTCP, 9, padN...), segment)},
		{"hop-by-hop with an option too long", 0, join(hop(protoTCP, 0, 5, 60, 0, 0, 0, 0), segment)},
		{"hop-by-hop cut", 0, []byte{protoTCP}},
		{"hop-by-hop jumbo", 0, join(hop(protoTCP, 0, 0xc2, 4, 0, 0, 0, 28), segment)},
		{"hop-by-hop, hop-by-hop again", 0, join(hop(0, 0, padN...), hop(protoTCP, 0, padN...), segment)},
		{"hop-by-hop then destination options", 0, join(hop(60, 0, padN...), hop(protoTCP, 0, padN...), segment)},
		{"routing", 43, join([]byte{protoTCP, 2, 4, 0, 0, 0, 0, 0}, make([]byte, 16), segment)},
		{"fragment", 44, join([]byte{protoTCP, 0, 0, 1, 0, 0, 0, 9}, segment)},
		{"destination options", 60, join(hop(protoTCP, 0, padN...), segment)},
		{"authentication", 51, join([]byte{protoTCP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, segment)},
		{"no next header", 59, nil},
	} {
		events = append(events, tracePacket("IPv6 "+c.what, flagIPv6, framed(ip(c.next, web6, db6, c.payload))))
	}
	jumbo := ip(0, web6, db6, join([]byte{protoTCP, 0, 0xc2, 4, 0, 0, 0, 28}, segment))
	network.PutUint16(jumbo[4:], 0)
	return append(events, tracePacket("IPv6 jumbogram", flagIPv6, framed(jumbo)))
}

// tunnels: overlay packets; what is inside is what the flow is about. The outer packet always is UDP, as the datapath has it: without, Hubble would
// decode the packet before.
func tunnels() []event {
	inner4 := ip(protoTCP, web4, api4, tcp(5000, 8080, psh|ack))
	inner6 := ip(protoUDP, web6, api6, udp(5000, 53, 1))
	insides := []struct {
		what string
		eth  []byte
	}{
		{"tcp over IPv4", framed(inner4)},
		{"udp over IPv6", framed(inner6)},
		{"icmp", framed(ip(protoICMP, web4, api4, icmp(8, 0)))},
		{"icmpv6", framed(ip(protoICMPv6, web6, api6, icmp(129, 0)))},
		{"sctp", framed(ip(protoSCTP, web4, api4, sctp(1, 2, 2)))},
		{"arp", eth(etherARP, make([]byte, 28))},
		{"nothing", nil},
		{"cut ethernet", framed(inner4)[:9]},
		{"cut IPv4", framed(inner4)[:30]},
		{"cut tcp", framed(inner4)[:44]},
		{"ethernet only", framed(inner4)[:14]},
	}
	var events []event
	outer := func(what string, flags uint8, src, dst netip.Addr, payload []byte) {
		t := trace{common: common{4, 77, 0x8000}, version: built.trace, srcID: 6, dstID: apiID, reason: 1, flags: flags | six(src), packet: framed(ip(protoUDP, src, dst, udp(45000, 8472, payload...)))}
		events = append(events, sample(what, 0, t.bytes()))
	}
	for i, inside := range insides {
		outer("vxlan with "+inside.what, flagVXLAN, host4, node4, vxlan(uint32(i)*70000, inside.eth))
		outer("geneve with "+inside.what, flagGeneve, host6, node6, geneve(uint32(i)*70000, 0x6558, nil, inside.eth))
	}
	option := []byte{1, 2, 0x80, 1, 0xaa, 0xbb, 0xcc, 0xdd}
	outer("geneve with options", flagGeneve, host4, node4, geneve(7, 0x6558, option, framed(inner4)))
	outer("geneve with IPv4", flagGeneve, host4, node4, geneve(7, etherIPv4, nil, inner4))
	outer("geneve with IPv6", flagGeneve, host4, node4, geneve(7, etherIPv6, nil, inner6))
	outer("geneve with an unknown type", flagGeneve, host4, node4, geneve(7, 0x9999, nil, inner4))
	outer("geneve, options past the end", flagGeneve, host4, node4, append([]byte{0x3f}, geneve(7, 0x6558, nil, nil)[1:]...))
	outer("geneve, option length past the options", flagGeneve, host4, node4, geneve(7, 0x6558, []byte{1, 2, 0x80, 31}, framed(inner4)))
	outer("vxlan and geneve flags", flagVXLAN|flagGeneve, host4, node4, vxlan(9, framed(inner4)))
	outer("vxlan without the VNI flag", flagVXLAN, host4, node4, append(make([]byte, 8), framed(inner4)...))
	for n := range 9 {
		outer(fmt.Sprintf("vxlan cut to %d", n), flagVXLAN, host4, node4, vxlan(1, nil)[:min(n, 8)])
		outer(fmt.Sprintf("geneve cut to %d", n), flagGeneve, host4, node4, geneve(1, 0x6558, nil, nil)[:min(n, 8)])
	}
	for i, flags := range []uint8{flagVXLAN, flagGeneve} {
		header := [][]byte{vxlan(5, framed(inner4)), geneve(5, 0x6558, nil, framed(inner4))}[i]
		d := drop{common: common{133, 77, 1}, version: built.drop, srcID: webID, dstID: apiID, flags: flags | flagL3, packet: ip(protoUDP, host4, node4, udp(1, 8472, header...))}
		events = append(events, sample("dropped tunnel packet of an L3 device", 0, d.bytes()))
	}
	translated := trace{
		common: common{4, 77, 1}, version: built.trace, srcID: webID, dstID: apiID, reason: 0x81, flags: flagVXLAN, original: job4,
		packet: framed(ip(protoUDP, host4, node4, udp(1, 8472, vxlan(5, framed(inner4))...))),
	}
	return append(events, sample("vxlan with an original address", 0, translated.bytes()))
}
