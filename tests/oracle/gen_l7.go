package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/proxy/accesslog"
)

// logEndpoint is an end of a conversation as the proxy logs it.
func logEndpoint(id, identity uint64, four, sixth netip.Addr, port uint16, texts ...string) accesslog.EndpointInfo {
	return accesslog.EndpointInfo{
		ID: id, IPv4: four.String(), IPv6: sixth.String(), Port: port, Identity: identity, Labels: labels.ParseLabelArray(texts...),
	}
}

var (
	logWeb = logEndpoint(77, 1001, web4, web6, 40000, "k8s:io.cilium.k8s.policy.cluster=default", "k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop")
	logAPI = logEndpoint(0, 1004, api4, api6, 8080, "k8s:app=api", "k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop")
	logDNS = logEndpoint(0, 1005, dns4, dns6, 53, "k8s:k8s-app=kube-dns", "k8s:novalue")
	logDB  = logEndpoint(78, 1002, db4, db6, 9092, "k8s:app=db")
	logOut = logEndpoint(0, uint64(cidrID), cidr4, cidr6, 443, "cidr:203.0.113.0/24", "cidr:0.0.0.0/0", "reserved:world")
)

// logTime is n milliseconds after the start of the fixtures.
func logTime(ms int) string {
	return theWorld().Start.Add(time.Duration(ms)*time.Millisecond + 123456).Format(time.RFC3339Nano)
}

// base is a forwarded record of the given type; a response comes from the server.
func base(kind accesslog.FlowType, ms int, client, server accesslog.EndpointInfo) accesslog.LogRecord {
	r := accesslog.LogRecord{
		Type: kind, Timestamp: logTime(ms), NodeAddressInfo: accesslog.NodeAddressInfo{IPv4: host4.String(), IPv6: host6.String()}, ObservationPoint: accesslog.Egress,
		SourceEndpoint: client, DestinationEndpoint: server, Verdict: accesslog.VerdictForwarded, TransportProtocol: protoTCP,
	}
	if kind == accesslog.TypeResponse {
		r.SourceEndpoint, r.DestinationEndpoint = server, client
	}
	return r
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func location(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err) // the texts below are fixed
	}
	return u
}

func accessLogs() []event {
	var events []event
	add := func(what string, r accesslog.LogRecord) {
		events = append(events, sample(what, 0, agentData(typeAccessLog, r)))
	}
	// ask adds a request and its response, ms later.
	ask := func(what string, start, took int, request, response accesslog.LogRecordHTTP, change func(*accesslog.LogRecord)) {
		for i, h := range []accesslog.LogRecordHTTP{request, response} {
			r := base(pick(i, accesslog.TypeRequest, accesslog.TypeResponse), start+i*took, logWeb, logAPI)
			r.HTTP = &h
			if change != nil {
				change(&r)
			}
			add(pick(i, "http request, ", "http response, ")+what, r)
		}
	}
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for i, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "get", ""} {
		id := fmt.Sprintf("id-%d", i)
		uri := location(fmt.Sprintf("http://api.shop.svc:8080/items/%d?page=%d&x=%%20y", i, i))
		code := pick(i, 200, 201, 204, 301, 304, 400, 401, 403, 404, 500, 503)
		protocol := pick(i, "HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/3", "")
		h := header("X-Request-Id", id, "Accept", "text/html", "User-Agent", "curl/8")
		if i%3 == 0 {
			h.Add("Traceparent", parent)
		}
		ask(fmt.Sprintf("%s %d %s", method, code, protocol), i*100, 7+i*31,
			accesslog.LogRecordHTTP{Method: method, URL: uri, Protocol: protocol, Headers: h},
			accesslog.LogRecordHTTP{Code: code, Method: method, URL: uri, Protocol: protocol, Headers: header("X-Request-Id", id, "Content-Type", "text/plain")},
			func(r *accesslog.LogRecord) {
				if i%2 == 1 {
					r.ObservationPoint, r.IPVersion = accesslog.Ingress, accesslog.VersionIPV6
				}
			})
	}
	plain := accesslog.LogRecordHTTP{Method: "GET", URL: location("http://svc/"), Protocol: "HTTP/1.1"}
	answer := func(code int, h http.Header) accesslog.LogRecordHTTP {
		return accesslog.LogRecordHTTP{Code: code, Method: "GET", URL: location("http://svc/"), Protocol: "HTTP/1.1", Headers: h}
	}
	with := func(h http.Header) accesslog.LogRecordHTTP {
		request := plain
		request.Headers = h
		return request
	}
	ask("no request id", 5000, 20, plain, answer(200, nil), nil)
	ask("response before its request", 6000, -20, with(header("X-Request-Id", "early")), answer(200, header("X-Request-Id", "early")), nil)
	ask("ids differ", 6100, 20, with(header("X-Request-Id", "one")), answer(200, header("X-Request-Id", "other")), nil)
	ask("id in lower case in the map", 6200, 20, with(http.Header{"x-request-id": {"low"}}), answer(200, http.Header{"x-request-id": {"low"}}), nil)
	ask("two values and an id twice", 6300, 1500, with(header("X-Request-Id", "twice", "Cookie", "a=1", "Cookie", "b=2")), answer(200, header("X-Request-Id", "twice", "X-Request-Id", "own")), nil)
	ask("broken traceparent", 6400, 0, with(header("X-Request-Id", "tp", "Traceparent", "00-xyz-1-01")), answer(200, header("X-Request-Id", "tp")), nil)
	ask("traceparent without request id", 6500, 1, with(header("Traceparent", parent)), answer(200, header("Traceparent", parent)), nil)
	ask("all-zero trace", 6600, 1, with(header("Traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")), answer(200, nil), nil)
	ask("future traceparent", 6700, 1, with(header("Traceparent", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra")), answer(200, nil), nil)
	ask("missing and rejected headers", 6800, 1, accesslog.LogRecordHTTP{Method: "GET", URL: location("http://svc/"), Protocol: "HTTP/1.1", MissingHeaders: header("X-A", "1"), RejectedHeaders: header("X-B", "2")}, answer(403, nil), func(r *accesslog.LogRecord) {
		r.Verdict = accesslog.VerdictDenied
		reason := accesslog.DropReason(181)
		r.DropReason = &reason
	})
	for i, text := range []string{"http://user:secret@host:81/p?q=1#frag", "http://user@host/", "/only/path?x=1", "//host/path", "mailto:someone@example.com", "http://[fd00::1]:80/%E4%BD%A0/a%2Fb?ü=1", "", "http://host?q", "*"} {
		ask("url "+text, 7000+i*10, 3, accesslog.LogRecordHTTP{Method: "GET", URL: location(text), Protocol: "HTTP/1.1"}, accesslog.LogRecordHTTP{Code: 200, Method: "GET", URL: location(text), Protocol: "HTTP/1.1"}, nil)
	}
	ask("no url", 7500, 3, accesslog.LogRecordHTTP{Method: "GET"}, accesslog.LogRecordHTTP{Code: -1}, nil)
	for i, verdict := range []accesslog.FlowVerdict{accesslog.VerdictForwarded, accesslog.VerdictDenied, accesslog.VerdictError, accesslog.VerdictRedirected, "", "Other"} {
		ask("verdict "+string(verdict), 8000+i*10, 3, plain, answer(pick(i, 200, 403), nil), func(r *accesslog.LogRecord) {
			r.Verdict, r.Info, r.Metadata = verdict, "rule 7", []string{"a", "b"}
			r.FlowEvent = pick(i, accesslog.FlowAdded, accesslog.FlowRemoved)
			r.ServiceInfo = &accesslog.ServiceInfo{Name: "shop/web", IPPort: accesslog.IPPort{IP: service4.String(), Port: 80}}
		})
	}
	for _, kind := range []accesslog.FlowType{accesslog.TypeSample, "", "Other"} {
		r := base(kind, 9000, logWeb, logAPI)
		h := answer(200, header("X-Request-Id", "sample"))
		r.HTTP = &h
		add("http of type "+string(kind), r)
		r.HTTP, r.DNS = nil, &accesslog.LogRecordDNS{Query: "a.b.", QTypes: []uint16{1}, IPs: []netip.Addr{api4}, TTL: 5}
		add("dns of type "+string(kind), r)
	}
	for _, proto := range []accesslog.TransportProtocol{0, 1, 6, 17, 58, 132, 255} {
		r := base(accesslog.TypeRequest, 9100, logWeb, logOut)
		r.TransportProtocol = proto
		add(fmt.Sprintf("transport protocol %d", proto), r)
	}
	for _, change := range []struct {
		what string
		do   func(*accesslog.LogRecord)
	}{
		{"no timestamp", func(r *accesslog.LogRecord) { r.Timestamp = "" }},
		{"bad timestamp", func(r *accesslog.LogRecord) { r.Timestamp = "2026-13-01T00:00:00Z" }},
		{"timestamp of another zone", func(r *accesslog.LogRecord) { r.Timestamp = "2026-05-13T12:00:00.5+02:00" }},
		{"timestamp with a comma", func(r *accesslog.LogRecord) { r.Timestamp = "2026-05-13T12:00:00,5Z" }},
		{"timestamp before all", func(r *accesslog.LogRecord) { r.Timestamp = "0000-01-01T00:00:00Z" }},
		{"unknown observation point", func(r *accesslog.LogRecord) { r.ObservationPoint = "Sideways" }},
		{"no addresses", func(r *accesslog.LogRecord) {
			r.SourceEndpoint, r.DestinationEndpoint = accesslog.EndpointInfo{}, accesslog.EndpointInfo{Port: 5}
		}},
		{"large numbers", func(r *accesslog.LogRecord) { r.SourceEndpoint.ID, r.SourceEndpoint.Identity = 1<<32+5, 1<<33+6 }},
	} {
		r := base(accesslog.TypeRequest, 9200, logWeb, logDB)
		change.do(&r)
		add(change.what, r)
	}
	events = append(events, dnsLogs()...)
	return append(events, otherLogs()...)
}

// dnsLogs: questions and answers through the DNS proxy.
func dnsLogs() []event {
	var events []event
	ms := 20000
	add := func(what string, kind accesslog.FlowType, d accesslog.LogRecordDNS, change func(*accesslog.LogRecord)) {
		r := base(kind, ms, logWeb, logDNS)
		ms += 5
		r.TransportProtocol, r.DNS = protoUDP, &d
		if change != nil {
			change(&r)
		}
		events = append(events, sample(what, 0, agentData(typeAccessLog, r)))
	}
	for i, t := range []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 28, 33, 41, 43, 46, 47, 48, 52, 64, 65, 99, 252, 255, 256, 257, 65535} {
		question := accesslog.LogRecordDNS{Query: "name.example.com.", ObservationSource: accesslog.DNSSourceProxy, QTypes: []uint16{t}}
		add(fmt.Sprintf("dns question of type %d", t), accesslog.TypeRequest, question, nil)
		question.AnswerTypes, question.TTL = []uint16{t, 5}, uint32(i*60)
		add(fmt.Sprintf("dns answer of type %d", t), accesslog.TypeResponse, question, nil)
	}
	for code := range 26 {
		d := accesslog.LogRecordDNS{Query: "no.such.", ObservationSource: accesslog.DNSSourceProxy, RCode: code, QTypes: []uint16{1}}
		add(fmt.Sprintf("dns answer code %d", code), accesslog.TypeResponse, d, nil)
	}
	answers := []accesslog.LogRecordDNS{
		{Query: "one.example.com.", IPs: []netip.Addr{world4}, TTL: 30, QTypes: []uint16{1}, AnswerTypes: []uint16{1}},
		{Query: "two.example.com.", IPs: []netip.Addr{world4, cidr4}, TTL: 30, CNAMEs: []string{"c.example.com.", "d.example.com."}, QTypes: []uint16{1}, AnswerTypes: []uint16{5, 5, 1, 1}},
		{Query: "six.example.com.", IPs: []netip.Addr{world6}, TTL: 4294967295, QTypes: []uint16{28}, AnswerTypes: []uint16{28}},
		{Query: "mapped.example.com.", IPs: []netip.Addr{addr("::ffff:10.1.2.3"), {}}, QTypes: []uint16{28}},
		{Query: "zone.example.com.", IPs: []netip.Addr{addr("fe80::1%eth0")}, QTypes: []uint16{28}},
		{Query: "alias.example.com.", CNAMEs: []string{"c.example.com."}, QTypes: []uint16{5}, AnswerTypes: []uint16{5}},
		{Query: "both.example.com.", QTypes: []uint16{1, 28}},
		{Query: "", QTypes: nil},
		{Query: "Quo\"te\\.exämple.com.", CNAMEs: []string{"q\"uote\\\n."}, IPs: []netip.Addr{world4}, QTypes: []uint16{1}},
	}
	for i, d := range answers {
		for _, from := range []accesslog.DNSDataSource{accesslog.DNSSourceProxy, "standalone-proxy", ""} {
			d.ObservationSource = from
			add(fmt.Sprintf("dns answer %d from %q", i, from), accesslog.TypeResponse, d, nil)
		}
		add(fmt.Sprintf("dns question %d", i), accesslog.TypeRequest, d, nil)
	}
	for i, verdict := range []accesslog.FlowVerdict{accesslog.VerdictDenied, accesslog.VerdictError, accesslog.VerdictRedirected} {
		for _, kind := range []accesslog.FlowType{accesslog.TypeRequest, accesslog.TypeResponse} {
			d := accesslog.LogRecordDNS{Query: "denied.example.com.", ObservationSource: accesslog.DNSSourceProxy, RCode: 5, QTypes: []uint16{pick[uint16](i, 1, 28, 12)}}
			add(fmt.Sprintf("dns %s %s", kind, verdict), kind, d, func(r *accesslog.LogRecord) {
				r.Verdict, r.IPVersion, r.ObservationPoint = verdict, accesslog.VersionIPV6, pick(i, accesslog.Egress, accesslog.Ingress)
			})
		}
	}
	return events
}

// otherLogs: Kafka, protocols that Hubble has no message for, and data that is no record.
func otherLogs() []event {
	var events []event
	for i, kind := range []accesslog.FlowType{accesslog.TypeRequest, accesslog.TypeResponse, accesslog.TypeSample} {
		for _, topic := range []string{"orders", ""} {
			r := base(kind, 30000+i, logWeb, logDB)
			r.Kafka = &accesslog.LogRecordKafka{ErrorCode: i - 1, APIVersion: int16(-i), APIKey: pick(i, "produce", "fetch"), CorrelationID: int32(-1 + i*7), Topic: accesslog.KafkaTopic{Topic: topic}}
			events = append(events, sample(fmt.Sprintf("kafka %s of topic %q", kind, topic), 0, agentData(typeAccessLog, r)))
		}
		r := base(kind, 30100+i, logWeb, logDB)
		r.L7 = &accesslog.LogRecordL7{Proto: "cassandra", Fields: map[string]string{"query": "select", "table": "t", "a": ""}}
		events = append(events, sample(fmt.Sprintf("generic %s", kind), 0, agentData(typeAccessLog, r)))
		r.L7 = &accesslog.LogRecordL7{}
		events = append(events, sample(fmt.Sprintf("generic %s without anything", kind), 0, agentData(typeAccessLog, r)))
	}
	r := base(accesslog.TypeRequest, 30200, logWeb, logDB)
	events = append(events, sample("no protocol", 0, agentData(typeAccessLog, r)))
	whole := agentData(typeAccessLog, r)
	for _, length := range []int{1, 2, 10, len(whole) / 2, len(whole) - 1} {
		events = append(events, sample(fmt.Sprintf("access log cut to %d of %d", length, len(whole)), 0, whole[:length]))
	}
	return append(events, sample("access log of another type", 0, agentData(typeAccessLog, struct{ Nothing, Known int }{1, 2})))
}
