package main

import (
	"net/netip"
	"time"
)

// The node that the fixtures play on: pods of its own, of other nodes, hosts, the world; IPv4 and IPv6.

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

var (
	web4, web6     = addr("10.0.0.1"), addr("fd00::1")   // endpoint 77
	db4, db6       = addr("10.0.0.2"), addr("fd00::2")   // endpoint 78
	job4, job6     = addr("10.0.0.3"), addr("fd00::3")   // endpoint 79
	api4, api6     = addr("10.0.1.5"), addr("fd00:1::5") // a pod elsewhere
	dns4, dns6     = addr("10.0.1.53"), addr("fd00:1::53")
	host4, host6   = addr("192.168.7.1"), addr("fd07::1") // this node
	node4, node6   = addr("192.168.7.2"), addr("fd07::2") // another
	world4, world6 = addr("198.51.100.34"), addr("2001:db8:34::34")
	cidr4, cidr6   = addr("203.0.113.9"), addr("2001:db8:99::9")
	unknown4       = addr("172.31.0.99")
	service4       = addr("10.96.0.10")
	service6       = addr("fd96::10")
	zero4, zero6   = addr("0.0.0.0"), addr("::")
	webID, dbID    = uint32(1001), uint32(1002)
	jobID, apiID   = uint32(1003), uint32(1004)
	dnsID          = uint32(1005)
	cidrID         = uint32(16777217)
	fqdnID         = uint32(16777218)
	remoteID       = uint32(33554433)
)

func theWorld() *World {
	cluster := "k8s:io.cilium.k8s.policy.cluster=default"
	pod := func(namespace string, more ...string) []string {
		return append([]string{cluster, "k8s:io.kubernetes.pod.namespace=" + namespace}, more...)
	}
	webLabels := pod("shop", "k8s:app=web", "k8s:app.kubernetes.io/name=storefront", "k8s:tier=front")
	dbLabels := pod("shop", "k8s:k8s-app=postgres", "k8s:app=db")
	jobLabels := pod("batch", "k8s:job")
	apiLabels := pod("shop", "k8s:app=api")
	dnsLabels := pod("kube-system", "k8s:k8s-app=kube-dns")
	return &World{
		Node:   "default/node-a",
		Start:  time.Date(2026, 5, 13, 10, 0, 0, 0, time.UTC),
		StepNs: 1_000_001,
		Endpoints: []Endpoint{
			{ID: 77, Identity: webID, IPv4: web4, IPv6: web6, Namespace: "shop", Pod: "web-7d4b9c6f5-x2x1z", Labels: webLabels,
				PodMeta: &PodMeta{GenerateName: "web-7d4b9c6f5-", OwnerKind: "ReplicaSet", OwnerName: "web-7d4b9c6f5", Labels: map[string]string{"pod-template-hash": "7d4b9c6f5", "app": "web"}}},
			{ID: 78, Identity: dbID, IPv4: db4, IPv6: db6, Namespace: "shop", Pod: "db-0", Labels: dbLabels,
				PodMeta: &PodMeta{GenerateName: "db-", OwnerKind: "StatefulSet", OwnerName: "db"}},
			{ID: 79, Identity: jobID, IPv4: job4, IPv6: job6, Namespace: "batch", Pod: "report-28512340-abcde", Labels: jobLabels,
				PodMeta: &PodMeta{GenerateName: "report-28512340-", OwnerKind: "Job", OwnerName: "report-28512340"}},
			{ID: 80, Identity: webID, IPv4: addr("10.0.0.4"), IPv6: addr("fd00::4"), Namespace: "shop", Pod: "bare", Labels: webLabels, PodMeta: &PodMeta{}},
			{ID: 81, Identity: webID, IPv4: addr("10.0.0.5"), IPv6: addr("fd00::6"), Namespace: "shop", Pod: "lone-rs-k9k9k", Labels: webLabels,
				PodMeta: &PodMeta{GenerateName: "lone-rs-", OwnerKind: "ReplicaSet", OwnerName: "lone-rs"}},
			{ID: 82, Identity: webID, IPv4: addr("10.0.0.6"), IPv6: addr("fd00::7"), Namespace: "shop", Pod: "oc-1-k9k9k", Labels: webLabels,
				PodMeta: &PodMeta{GenerateName: "oc-1-", OwnerKind: "ReplicationController", OwnerName: "oc-1", Labels: map[string]string{"deploymentconfig": "oc"}}},
			{ID: 4, Identity: 4, IPv4: addr("10.0.0.250"), IPv6: addr("fd00::fa"), Labels: []string{"reserved:health"}},
			{ID: 500, Identity: 1, IPv4: host4, IPv6: host6, Labels: []string{"reserved:host", "k8s:node-role.kubernetes.io/worker"}},
		},
		Identities: []Identity{
			{0, []string{"reserved:unknown"}},
			{1, []string{"reserved:host"}},
			{2, []string{"reserved:world"}},
			{3, []string{"reserved:unmanaged"}},
			{4, []string{"reserved:health"}},
			{5, []string{"reserved:init"}},
			{6, []string{"reserved:remote-node"}},
			{7, []string{"reserved:kube-apiserver", "reserved:remote-node"}},
			{8, []string{"reserved:ingress"}},
			{9, []string{"reserved:world-ipv4"}},
			{10, []string{"reserved:world-ipv6"}},
			{webID, webLabels}, {dbID, dbLabels}, {jobID, jobLabels}, {apiID, apiLabels}, {dnsID, dnsLabels},
			{cidrID, []string{"cidr:203.0.113.0/24", "cidr:203.0.0.0/8", "cidr:0.0.0.0/0", "reserved:world-ipv4", "cidrgroup:io.cilium.policy.cidrgroupname/partners"}},
			{16777219, []string{"cidr:2001-db8-99--/48", "cidr:2001-db8--/32", "reserved:world-ipv6"}},
			{fqdnID, []string{"fqdn:example.com", "reserved:world"}},
			{remoteID, []string{"reserved:remote-node", "k8s:topology.kubernetes.io/zone=z2"}},
		},
		IPCache: []IPEntry{
			{netip.PrefixFrom(web4, 32), webID, "shop", "web-7d4b9c6f5-x2x1z"},
			{netip.PrefixFrom(web6, 128), webID, "shop", "web-7d4b9c6f5-x2x1z"},
			{netip.PrefixFrom(db4, 32), dbID, "shop", "db-0"},
			{netip.PrefixFrom(db6, 128), dbID, "shop", "db-0"},
			{netip.PrefixFrom(job4, 32), jobID, "batch", "report-28512340-abcde"},
			{netip.PrefixFrom(api4, 32), apiID, "shop", "api-5f6d-7k7k7"},
			{netip.PrefixFrom(api6, 128), apiID, "shop", "api-5f6d-7k7k7"},
			{netip.PrefixFrom(dns4, 32), dnsID, "kube-system", "coredns-1-a"},
			{netip.PrefixFrom(dns6, 128), dnsID, "kube-system", "coredns-1-a"},
			{netip.PrefixFrom(host4, 32), 1, "", ""},
			{netip.PrefixFrom(host6, 128), 1, "", ""},
			{netip.PrefixFrom(node4, 32), remoteID, "", ""},
			{netip.PrefixFrom(node6, 128), 6, "", ""},
			{netip.MustParsePrefix("203.0.113.0/24"), cidrID, "", ""},
			{netip.MustParsePrefix("2001:db8:99::/48"), 16777219, "", ""},
			{netip.PrefixFrom(world4, 32), fqdnID, "", ""},
			{netip.MustParsePrefix("0.0.0.0/0"), 2, "", ""},
			{netip.MustParsePrefix("::/0"), 10, "", ""},
		},
		Services: []Service{
			{service4, 80, "web", "shop"},
			{service6, 80, "web", "shop"},
			{service4, 53, "kube-dns", "kube-system"},
			{api4, 8080, "api-headless", "shop"},
		},
		Names: []Names{
			{77, world4, []string{"example.com", "www.example.com"}},
			{77, world6, []string{"example.com"}},
			{78, cidr4, []string{"partner.example.org"}},
			{77, dns4, []string{"dns.shop.svc"}},
		},
		Links: []Link{{1, "lo"}, {2, "eth0"}, {9, "cilium_host"}, {15, "lxc77"}},
		Cgroups: []Cgroup{
			{4711, "shop", "web-7d4b9c6f5-x2x1z", []string{"10.0.0.1", "fd00::1"}},
			{4712, "shop", "db-0", []string{"10.0.0.2"}},
			{4713, "shop", "broken", []string{"not-an-address"}},
		},
	}
}
