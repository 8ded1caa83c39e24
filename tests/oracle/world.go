package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	cgroups "github.com/cilium/cilium/pkg/cgroups/manager"
	"github.com/cilium/cilium/pkg/hubble/parser/getters"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/ipcache"
	slim "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/core/v1"
	slim_meta "github.com/cilium/cilium/pkg/k8s/slim/k8s/apis/meta/v1"
	"github.com/cilium/cilium/pkg/labels"
	policy "github.com/cilium/cilium/pkg/policy/types"
)

// World is what the agent knows beside the events: both sides of a comparison load it from world.json.
type World struct {
	Node       string     `json:"node"`      // as in flows: cluster/node
	Start      time.Time  `json:"start"`     // time of a stream's first event
	StepNs     int64      `json:"step_ns"`   // time between two events
	Endpoints  []Endpoint `json:"endpoints"` // local ones
	Identities []Identity `json:"identities"`
	IPCache    []IPEntry  `json:"ip_cache"`
	Services   []Service  `json:"services"`
	Names      []Names    `json:"names"`
	Links      []Link     `json:"links"`
	Cgroups    []Cgroup   `json:"cgroups"`
}

type Endpoint struct {
	ID        uint16     `json:"id"`
	Identity  uint32     `json:"identity"`
	IPv4      netip.Addr `json:"ipv4"`
	IPv6      netip.Addr `json:"ipv6"`
	Namespace string     `json:"namespace,omitempty"`
	Pod       string     `json:"pod,omitempty"`
	Labels    []string   `json:"labels"`
	PodMeta   *PodMeta   `json:"pod_meta,omitempty"`
}

// PodMeta is the part of a pod from which its workload follows.
type PodMeta struct {
	GenerateName string            `json:"generate_name,omitempty"`
	OwnerKind    string            `json:"owner_kind,omitempty"` // of the controlling owner
	OwnerName    string            `json:"owner_name,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

type Identity struct {
	ID     uint32   `json:"id"`
	Labels []string `json:"labels"`
}

type IPEntry struct {
	CIDR      netip.Prefix `json:"cidr"`
	Identity  uint32       `json:"identity"`
	Namespace string       `json:"namespace,omitempty"`
	Pod       string       `json:"pod,omitempty"`
}

type Service struct {
	IP        netip.Addr `json:"ip"`
	Port      uint16     `json:"port"`
	Name      string     `json:"name"`
	Namespace string     `json:"namespace"`
}

// Names are the DNS names that an endpoint looked up for an address.
type Names struct {
	Endpoint uint32     `json:"endpoint"`
	IP       netip.Addr `json:"ip"`
	Names    []string   `json:"names"`
}

type Link struct {
	Index uint32 `json:"index"`
	Name  string `json:"name"`
}

type Cgroup struct {
	ID        uint64   `json:"id"`
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	IPs       []string `json:"ips"`
}

func loadWorld(path string) (*World, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var w World
	if err := json.Unmarshal(text, &w); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &w, nil
}

// directory answers Hubble's questions from a World. It is indexed once, so that benchmarks do not measure it.
type directory struct {
	byIP       map[netip.Addr]*endpoint
	byID       map[uint16]*endpoint
	identities map[uint32]*identity.Identity
	prefixes   map[netip.Prefix]ipcache.Identity
	pods       map[netip.Addr]*ipcache.K8sMetadata
	services   map[netip.AddrPort]*flowpb.Service
	dns        map[dnsKey][]string
	links      map[uint32]string
	cgroups    map[uint64]*cgroups.PodMetadata
}

type dnsKey struct {
	endpoint uint32
	ip       netip.Addr
}

func newDirectory(w *World) *directory {
	d := &directory{
		byIP: map[netip.Addr]*endpoint{}, byID: map[uint16]*endpoint{}, identities: map[uint32]*identity.Identity{},
		prefixes: map[netip.Prefix]ipcache.Identity{}, pods: map[netip.Addr]*ipcache.K8sMetadata{},
		services: map[netip.AddrPort]*flowpb.Service{}, dns: map[dnsKey][]string{}, links: map[uint32]string{},
		cgroups: map[uint64]*cgroups.PodMetadata{},
	}
	for _, e := range w.Endpoints {
		known := &endpoint{Endpoint: e, labels: labels.NewLabelsFromModel(e.Labels), pod: e.PodMeta.pod(e)}
		d.byID[e.ID] = known
		for _, addr := range []netip.Addr{e.IPv4, e.IPv6} {
			if addr.IsValid() {
				d.byIP[addr] = known
			}
		}
	}
	for _, i := range w.Identities {
		d.identities[i.ID] = &identity.Identity{ID: identity.NumericIdentity(i.ID), Labels: labels.NewLabelsFromModel(i.Labels)}
	}
	for _, e := range w.IPCache {
		d.prefixes[e.CIDR.Masked()] = ipcache.Identity{ID: identity.NumericIdentity(e.Identity)}
		if e.Pod != "" {
			d.pods[e.CIDR.Addr()] = &ipcache.K8sMetadata{Namespace: e.Namespace, PodName: e.Pod}
		}
	}
	for _, s := range w.Services {
		d.services[netip.AddrPortFrom(s.IP, s.Port)] = &flowpb.Service{Name: s.Name, Namespace: s.Namespace}
	}
	for _, n := range w.Names {
		d.dns[dnsKey{n.Endpoint, n.IP}] = n.Names
	}
	for _, l := range w.Links {
		d.links[l.Index] = l.Name
	}
	for _, c := range w.Cgroups {
		d.cgroups[c.ID] = &cgroups.PodMetadata{Name: c.Pod, Namespace: c.Namespace, IPs: c.IPs}
	}
	return d
}

func (m *PodMeta) pod(e Endpoint) *slim.Pod {
	if m == nil {
		return nil
	}
	pod := &slim.Pod{ObjectMeta: slim_meta.ObjectMeta{Name: e.Pod, Namespace: e.Namespace, GenerateName: m.GenerateName, Labels: m.Labels}}
	if m.OwnerKind != "" {
		controls := true
		pod.OwnerReferences = []slim_meta.OwnerReference{{Kind: m.OwnerKind, Name: m.OwnerName, Controller: &controls}}
	}
	return pod
}

func (d *directory) GetEndpointInfo(addr netip.Addr) (getters.EndpointInfo, bool) {
	e, ok := d.byIP[addr]
	return e, ok
}

func (d *directory) GetEndpointInfoByID(id uint16) (getters.EndpointInfo, bool) {
	e, ok := d.byID[id]
	return e, ok
}

func (d *directory) GetIdentity(id uint32) (*identity.Identity, error) {
	if i, ok := d.identities[id]; ok {
		return i, nil
	}
	return nil, fmt.Errorf("identity %d is not known", id)
}

func (d *directory) GetK8sMetadata(addr netip.Addr) *ipcache.K8sMetadata {
	return d.pods[addr]
}

func (d *directory) LookupSecIDByIP(addr netip.Addr) (ipcache.Identity, bool) {
	if !addr.IsValid() {
		return ipcache.Identity{}, false
	}
	for bits := addr.BitLen(); bits >= 0; bits-- {
		prefix, _ := addr.Prefix(bits)
		if id, ok := d.prefixes[prefix]; ok {
			return id, true
		}
	}
	return ipcache.Identity{}, false
}

func (d *directory) GetServiceByAddr(addr netip.Addr, port uint16) *flowpb.Service {
	return d.services[netip.AddrPortFrom(addr, port)]
}

func (d *directory) GetNamesOf(endpoint uint32, addr netip.Addr) []string {
	return d.dns[dnsKey{endpoint, addr}]
}

func (d *directory) GetIfNameCached(index int) (string, bool) {
	name, ok := d.links[uint32(index)]
	return name, ok
}

func (d *directory) Name(index uint32) string {
	if name, ok := d.links[index]; ok {
		return name
	}
	return fmt.Sprint(index)
}

func (d *directory) GetPodMetadataForContainer(cgroup uint64) *cgroups.PodMetadata {
	return d.cgroups[cgroup]
}

// endpoint is what Hubble sees of a local endpoint.
type endpoint struct {
	Endpoint
	labels labels.Labels
	pod    *slim.Pod
}

func (e *endpoint) GetID() uint64 { return uint64(e.ID) }
func (e *endpoint) GetIdentity() identity.NumericIdentity {
	return identity.NumericIdentity(e.Identity)
}
func (e *endpoint) GetK8sPodName() string    { return e.Endpoint.Pod }
func (e *endpoint) GetK8sNamespace() string  { return e.Namespace }
func (e *endpoint) GetLabels() labels.Labels { return e.labels }

// GetPod gives a copy where Hubble would change the original: it deletes a label when it finds a deployment configuration, and with the next event
// calls the same pod's workload by another name.
func (e *endpoint) GetPod() *slim.Pod {
	if e.pod != nil && e.pod.Labels["deploymentconfig"] != "" {
		return e.pod.DeepCopy()
	}
	return e.pod
}

// The policy maps live in the agent's memory: no outsider can correlate with them.
func (e *endpoint) GetPolicyCorrelationInfoForKey(policy.Key) (policy.PolicyCorrelationInfo, bool) {
	return policy.PolicyCorrelationInfo{}, false
}
