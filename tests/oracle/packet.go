package main

import (
	"encoding/binary"
	"net/netip"
)

// Packets, written by hand so that they can also be wrong.

var network = binary.BigEndian

var (
	macA = []byte{0x02, 0, 0, 0, 0, 0x0a}
	macB = []byte{0x02, 0, 0, 0, 0, 0x0b}
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100

	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoVRRP   = 112
	protoSCTP   = 132
)

// TCP flags in the order of the header; NS is the low bit of the byte before.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
	ece
	cwr
	ns
)

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func eth(kind uint16, payload []byte) []byte {
	return join(macB, macA, network.AppendUint16(nil, kind), payload)
}

// ip builds the header that the addresses ask for; v6 "protocol" is the next header.
func ip(proto uint8, src, dst netip.Addr, payload []byte) []byte {
	if src.Is6() {
		h := make([]byte, 40)
		h[0] = 0x60
		network.PutUint16(h[4:], uint16(len(payload)))
		h[6], h[7] = proto, 64
		copy(h[8:], src.AsSlice())
		copy(h[24:], dst.AsSlice())
		return append(h, payload...)
	}
	h := make([]byte, 20)
	h[0] = 0x45
	network.PutUint16(h[2:], uint16(20+len(payload)))
	network.PutUint16(h[4:], 0x1234)
	h[8], h[9] = 64, proto
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	return append(h, payload...)
}

// framed puts the Ethernet header that fits before an IP packet.
func framed(packet []byte) []byte {
	if packet[0]>>4 == 6 {
		return eth(etherIPv6, packet)
	}
	return eth(etherIPv4, packet)
}

func tcp(src, dst uint16, flags uint16, payload ...byte) []byte {
	h := make([]byte, 20)
	network.PutUint16(h, src)
	network.PutUint16(h[2:], dst)
	network.PutUint32(h[4:], 1000)
	network.PutUint16(h[12:], 5<<12|flags)
	network.PutUint16(h[14:], 512)
	return append(h, payload...)
}

func udp(src, dst uint16, payload ...byte) []byte {
	h := make([]byte, 8)
	network.PutUint16(h, src)
	network.PutUint16(h[2:], dst)
	network.PutUint16(h[4:], uint16(8+len(payload)))
	return append(h, payload...)
}

func sctp(src, dst uint16, chunk uint8) []byte {
	h := make([]byte, 12)
	network.PutUint16(h, src)
	network.PutUint16(h[2:], dst)
	return append(h, chunk, 0, 0, 8, 1, 2, 3, 4)
}

func icmp(kind, code uint8) []byte {
	return []byte{kind, code, 0, 0, 0, 1, 0, 2, 0xde, 0xad}
}

func vrrp(kind, version uint8) []byte {
	return []byte{version<<4 | kind, 7, 100, 1, 0, 1, 0, 0, 10, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0}
}

func igmp(kind uint8) []byte {
	return []byte{kind, 10, 0, 0, 224, 0, 0, 251}
}

func vxlan(vni uint32, inner []byte) []byte {
	h := make([]byte, 8)
	h[0] = 0x08
	network.PutUint32(h[4:], vni<<8)
	return append(h, inner...)
}

func geneve(vni uint32, kind uint16, options, inner []byte) []byte {
	h := make([]byte, 8)
	h[0] = uint8(len(options) / 4)
	network.PutUint16(h[2:], kind)
	network.PutUint32(h[4:], vni<<8)
	return join(h, options, inner)
}
