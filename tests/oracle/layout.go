package main

import (
	"encoding/binary"
	"net/netip"
)

// Layouts of the datapath's messages, laid out by hand: Cilium only reads them in Go. Native byte order; the fixtures are made on little-endian machines.

var native = binary.NativeEndian

// release says which layouts one Cilium release writes.
type release struct {
	name          string
	drop, trace   uint8 // newest versions
	verdict       int   // length of the policy verdict header: 32, since 1.19 40; the version byte does not tell
	sockReordered bool  // the 40 byte socket trace of 1.19
	routing       bool  // Hubble reads VRRP and IGMP, since 1.19
}

// Message types: the first byte.
const (
	typeDrop      = 1
	typeDebug     = 2
	typeCapture   = 3
	typeTrace     = 4
	typeVerdict   = 5
	typeRecorder  = 6
	typeTraceSock = 7
	typeAccessLog = 129
	typeAgent     = 130
)

// Flags of drop (since version 2) and trace.
const (
	flagIPv6   = 1
	flagL3     = 2
	flagVXLAN  = 4
	flagGeneve = 8
)

// common begins every datapath message but the socket trace.
type common struct {
	sub    uint8
	source uint16 // endpoint id
	hash   uint32
}

func (c common) put(kind uint8, length int) []byte {
	b := make([]byte, length)
	b[0], b[1] = kind, c.sub
	native.PutUint16(b[2:], c.source)
	native.PutUint32(b[4:], c.hash)
	return b
}

// capture puts what follows in messages that carry a packet. The original was longer than what was captured.
func capture(b []byte, version uint8, packet []byte) {
	native.PutUint32(b[8:], uint32(len(packet))+1000)
	native.PutUint16(b[12:], uint16(len(packet)))
	b[14] = version
}

type drop struct {
	common
	version      uint8
	srcID, dstID uint32
	dstEndpoint  uint32
	line         uint16
	file         uint8
	extError     int8
	ifindex      uint32
	flags        uint8
	traceID      uint64
	packet       []byte
}

func (d drop) bytes() []byte {
	length := map[uint8]int{0: 36, 1: 36, 2: 40, 3: 48}[d.version]
	b := d.put(typeDrop, length)
	capture(b, d.version, d.packet)
	native.PutUint32(b[16:], d.srcID)
	native.PutUint32(b[20:], d.dstID)
	native.PutUint32(b[24:], d.dstEndpoint)
	native.PutUint16(b[28:], d.line)
	b[30], b[31] = d.file, uint8(d.extError)
	native.PutUint32(b[32:], d.ifindex)
	if d.version >= 2 {
		b[36] = d.flags
	}
	if d.version >= 3 {
		native.PutUint64(b[40:], d.traceID)
	}
	return append(b, d.packet...)
}

type trace struct {
	common
	version      uint8
	srcID, dstID uint32
	dstEndpoint  uint16 // or the proxy's port
	reason       uint8
	flags        uint8
	ifindex      uint32
	original     netip.Addr
	traceID      uint64
	packet       []byte
}

func (t trace) bytes() []byte {
	length := map[uint8]int{0: 32, 1: 48, 2: 56}[t.version]
	b := t.put(typeTrace, length)
	capture(b, t.version, t.packet)
	native.PutUint32(b[16:], t.srcID)
	native.PutUint32(b[20:], t.dstID)
	native.PutUint16(b[24:], t.dstEndpoint)
	b[26], b[27] = t.reason, t.flags
	native.PutUint32(b[28:], t.ifindex)
	if t.version >= 1 && t.original.IsValid() {
		copy(b[32:48], t.original.AsSlice())
	}
	if t.version >= 2 {
		native.PutUint64(b[48:], t.traceID)
	}
	return append(b, t.packet...)
}

type verdict struct {
	common
	remoteID uint32
	verdict  int32
	port     uint16
	proto    uint8
	bits     uint8 // direction 0x03, IPv6 0x04, match type 0x38, audited 0x40, L3 device 0x80
	auth     uint8
	cookie   uint32
	packet   []byte
}

func (v verdict) bytes(length int) []byte {
	b := v.put(typeVerdict, length)
	capture(b, 1, v.packet)
	native.PutUint32(b[16:], v.remoteID)
	native.PutUint32(b[20:], uint32(v.verdict))
	native.PutUint16(b[24:], v.port)
	b[26], b[27], b[28] = v.proto, v.bits, v.auth
	if length >= 40 {
		native.PutUint32(b[32:], v.cookie)
	}
	return append(b, v.packet...)
}

type debug struct {
	common
	arg1, arg2, arg3 uint32
}

func (d debug) bytes() []byte {
	b := d.put(typeDebug, 20)
	native.PutUint32(b[8:], d.arg1)
	native.PutUint32(b[12:], d.arg2)
	native.PutUint32(b[16:], d.arg3)
	return b
}

type debugCapture struct {
	common
	arg1, arg2 uint32
	packet     []byte
}

func (d debugCapture) bytes() []byte {
	b := d.put(typeCapture, 24)
	capture(b, 1, d.packet)
	native.PutUint32(b[16:], d.arg1)
	native.PutUint32(b[20:], d.arg2)
	return append(b, d.packet...)
}

type sockTrace struct {
	point, proto uint8
	dst          netip.Addr
	port         uint16
	cookie       uint64
	cgroup       uint64
}

func (s sockTrace) bytes(reordered bool) []byte {
	var addr [16]byte
	copy(addr[:], s.dst.AsSlice())
	ipv6 := uint8(0)
	if s.dst.Is6() {
		ipv6 = 1
	}
	if reordered {
		b := make([]byte, 40)
		b[0], b[1], b[2], b[3] = typeTraceSock, s.point, s.proto, ipv6
		native.PutUint16(b[4:], s.port)
		native.PutUint64(b[8:], s.cookie)
		native.PutUint64(b[16:], s.cgroup)
		copy(b[24:], addr[:])
		return b
	}
	b := make([]byte, 38)
	b[0], b[1] = typeTraceSock, s.point
	copy(b[2:], addr[:])
	native.PutUint16(b[18:], s.port)
	native.PutUint64(b[20:], s.cookie)
	native.PutUint64(b[28:], s.cgroup)
	b[36], b[37] = s.proto, ipv6
	return b
}

// padded appends what the kernel appends to a perf sample: its size word and the data fill a multiple of 8 bytes, with whatever was in the ring.
func padded(data []byte) []byte {
	for (4+len(data))%8 != 0 {
		data = append(data, 0xa5)
	}
	return data
}
