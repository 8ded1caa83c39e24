package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/cilium/api/v1/models"
	"github.com/cilium/cilium/pkg/identity"
	identity_model "github.com/cilium/cilium/pkg/identity/model"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/go-openapi/strfmt"
)

// What the agent's API says of a World, by the path under /v1: the answers that an outsider enriches flows with. They are written by the API's own
// models. Of a pod's owner the agent says nothing.
func apiAnswers(w *World) map[string]any {
	return map[string]any{
		"endpoint":             endpointModels(w),
		"identity":             identityModels(w),
		"ip":                   ipModels(w),
		"service":              serviceModels(w),
		"cgroup-dump-metadata": cgroupModels(w),
		"fqdn/cache":           nameModels(w),
		"healthz": &models.StatusResponse{
			Cilium:  &models.Status{State: models.StatusStateOk, Msg: fmt.Sprintf("%s (v%s-0123456789)", built.name, built.name)},
			Cluster: &models.ClusterStatus{Self: w.Node},
		},
	}
}

func identityModel(id uint32, list []string) *models.Identity {
	return identity_model.CreateModel(identity.NewIdentity(identity.NumericIdentity(id), labels.NewLabelsFromModel(list)))
}

func endpointModels(w *World) []*models.Endpoint {
	all := []*models.Endpoint{}
	for _, e := range w.Endpoints {
		state := models.EndpointStateReady
		names := &models.EndpointIdentifiers{ContainerID: fmt.Sprintf("c0ffee%d", e.ID)}
		if e.Pod != "" {
			names.K8sNamespace, names.K8sPodName, names.PodName = e.Namespace, e.Pod, e.Namespace+"/"+e.Pod
		}
		net := &models.EndpointNetworking{Addressing: []*models.AddressPair{addressPair(e)}}
		for _, l := range w.Links {
			if l.Name == fmt.Sprintf("lxc%d", e.ID) {
				net.InterfaceName, net.InterfaceIndex = l.Name, int64(l.Index)
			}
		}
		all = append(all, &models.Endpoint{
			ID: int64(e.ID),
			Status: &models.EndpointStatus{
				ExternalIdentifiers: names,
				Identity:            identityModel(e.Identity, e.Labels),
				Labels:              &models.LabelConfigurationStatus{SecurityRelevant: e.Labels},
				Networking:          net,
				State:               &state,
			},
		})
	}
	// One that waits for its identity.
	state := models.EndpointStateWaitingDashForDashIdentity
	return append(all, &models.Endpoint{ID: 99, Status: &models.EndpointStatus{
		ExternalIdentifiers: &models.EndpointIdentifiers{}, Networking: &models.EndpointNetworking{}, State: &state,
	}})
}

func identityModels(w *World) []*models.Identity {
	all := []*models.Identity{}
	for _, i := range w.Identities {
		all = append(all, identityModel(i.ID, i.Labels))
	}
	return all
}

func ipModels(w *World) []*models.IPListEntry {
	all := []*models.IPListEntry{}
	for _, e := range w.IPCache {
		cidr, id := e.CIDR.String(), int64(e.Identity)
		entry := &models.IPListEntry{Cidr: &cidr, Identity: &id, HostIP: node4.String()}
		if e.Pod != "" {
			entry.Metadata = &models.IPListEntryMetadata{Source: "k8s", Namespace: e.Namespace, Name: e.Pod}
		}
		all = append(all, entry)
	}
	return all
}

func serviceModels(w *World) []*models.Service {
	all := []*models.Service{}
	add := func(s Service, protocol, scope string) {
		spec := &models.ServiceSpec{
			ID:              int64(len(all) + 1),
			FrontendAddress: &models.FrontendAddress{IP: s.IP.String(), Port: s.Port, Protocol: protocol, Scope: scope},
			Flags:           &models.ServiceSpecFlags{Name: s.Name, Namespace: s.Namespace, Type: models.ServiceSpecFlagsTypeClusterIP},
		}
		all = append(all, &models.Service{Spec: spec, Status: &models.ServiceStatus{Realized: spec}})
	}
	for _, s := range w.Services {
		add(s, models.FrontendAddressProtocolTCP, models.FrontendAddressScopeExternal)
		add(Service{s.IP, s.Port, s.Name + "-udp", s.Namespace}, models.FrontendAddressProtocolUDP, models.FrontendAddressScopeExternal)
		add(Service{s.IP, s.Port + 1, "inside", s.Namespace}, models.FrontendAddressProtocolTCP, models.FrontendAddressScopeInternal)
	}
	return all
}

func cgroupModels(w *World) *models.CgroupDumpMetadata {
	all := &models.CgroupDumpMetadata{}
	for _, c := range w.Cgroups {
		all.PodMetadatas = append(all.PodMetadatas, &models.CgroupPodMetadata{
			Name: c.Pod, Namespace: c.Namespace, Ips: c.IPs,
			Containers: []*models.CgroupContainerMetadata{{CgroupID: c.ID, CgroupPath: "/kubepods/" + c.Pod}},
		})
	}
	// One whose containers have not started.
	all.PodMetadatas = append(all.PodMetadatas, &models.CgroupPodMetadata{Name: "starting", Namespace: "shop"})
	return all
}

func nameModels(w *World) []*models.DNSLookup {
	all := []*models.DNSLookup{}
	for _, n := range w.Names {
		for _, name := range n.Names {
			all = append(all, &models.DNSLookup{
				EndpointID: int64(n.Endpoint), Fqdn: name + ".", Ips: []string{n.IP.String()}, Source: "lookup", TTL: 60,
				LookupTime: strfmt.DateTime(w.Start), ExpirationTime: strfmt.DateTime(w.Start.Add(time.Minute)),
			})
		}
		// A name that ran out and lives on for its connections: Hubble does not show it.
		all = append(all, &models.DNSLookup{EndpointID: int64(n.Endpoint), Fqdn: "old.example.com.", Ips: []string{n.IP.String()}, Source: "connection"})
	}
	return all
}

// writeAnswers keeps them as files, for tests that run without this program.
func writeAnswers(w *World, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for path, answer := range apiAnswers(w) {
		text, err := json.MarshalIndent(answer, "", " ")
		if err != nil {
			return err
		}
		file := filepath.Join(dir, strings.ReplaceAll(path, "/", "-")+".json")
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// answer finds what belongs to a path under /v1: a whole list, or one of it.
func answer(w *World, path string) (any, bool) {
	all := apiAnswers(w)
	if found, ok := all[path]; ok {
		return found, true
	}
	list, id, _ := strings.Cut(path, "/")
	switch list {
	case "endpoint":
		for _, e := range endpointModels(w) {
			if fmt.Sprint(e.ID) == id {
				return e, true
			}
		}
	case "identity":
		for _, i := range identityModels(w) {
			if fmt.Sprint(i.ID) == id {
				return i, true
			}
		}
	}
	return nil, false
}

func runServeAPI(args []string) error {
	flags := flag.NewFlagSet("serve-api", flag.ExitOnError)
	socket := flags.String("socket", "", "path of the socket")
	world := flags.String("world", "tests/fixtures/cilium/world.json", "what the agent knows")
	_ = flags.Parse(args)
	w, err := loadWorld(*world)
	if err != nil {
		return err
	}
	os.Remove(*socket)
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	said := json.NewEncoder(os.Stdout)
	if err := said.Encode(map[string]bool{"ready": true}); err != nil {
		return err
	}
	return http.Serve(listener, http.HandlerFunc(func(out http.ResponseWriter, asked *http.Request) {
		path, under := strings.CutPrefix(asked.URL.Path, "/v1/")
		found, ok := answer(w, path)
		if !under || !ok || asked.Method != http.MethodGet {
			out.WriteHeader(http.StatusNotFound)
			return
		}
		out.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(out).Encode(found)
	}))
}
