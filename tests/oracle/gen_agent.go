package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/cilium/pkg/monitor/api"
)

// local is an endpoint that notifications tell of.
type local struct{ Endpoint }

func (l local) GetID() uint64           { return uint64(l.ID) }
func (l local) GetID16() uint16         { return l.ID }
func (l local) GetOpLabels() []string   { return l.Labels }
func (l local) GetK8sPodName() string   { return l.Pod }
func (l local) GetK8sNamespace() string { return l.Namespace }

// agentEvents: every notification, made by the agent's own constructors, and texts that none of them makes.
func agentEvents() []event {
	var events []event
	add := func(what string, m api.AgentNotifyMessage) {
		notify, err := m.ToJSON()
		if err != nil {
			panic(err) // only plain structures here
		}
		events = append(events, sample(what, 0, agentData(typeAgent, notify)))
	}
	text := func(what string, kind api.AgentNotification, text string) {
		events = append(events, sample(what, 0, agentData(typeAgent, api.AgentNotify{Type: kind, Text: text})))
	}
	start := theWorld().Start
	add("started", api.StartMessage(start.Add(1500*time.Microsecond)))
	add("started in another zone", api.StartMessage(start.In(time.FixedZone("", -5*3600))))
	text("started, time unreadable", api.AgentNotifyStart, `{"time":"yesterday"}`)
	text("started, no time", api.AgentNotifyStart, `{}`)
	for _, labels := range [][]string{{"k8s:io.cilium.k8s.policy.name=allow", "k8s:io.cilium.k8s.policy.namespace=shop"}, nil, {}} {
		add(fmt.Sprintf("policy updated, %d labels", len(labels)), api.PolicyUpdateMessage(3, labels, 17))
		add(fmt.Sprintf("policy deleted, %d labels", len(labels)), api.PolicyDeleteMessage(0, labels, 0))
	}
	for _, e := range theWorld().Endpoints {
		add(fmt.Sprintf("endpoint %d regenerated", e.ID), api.EndpointRegenMessage(local{e}, nil))
		add(fmt.Sprintf("endpoint %d not regenerated", e.ID), api.EndpointRegenMessage(local{e}, errors.New("compile: \"exit\" <1> & more")))
		add(fmt.Sprintf("endpoint %d created", e.ID), api.EndpointCreateMessage(local{e}))
		add(fmt.Sprintf("endpoint %d deleted", e.ID), api.EndpointDeleteMessage(local{e}))
	}
	add("endpoint without anything regenerated", api.EndpointRegenMessage(local{}, nil))
	add("endpoint without anything created", api.EndpointCreateMessage(local{}))
	old := uint32(1001)
	zero := uint32(0)
	for _, c := range []struct {
		cidr         string
		old          *uint32
		host, before net.IP
		key          uint8
	}{
		{"10.0.0.1/32", nil, nil, nil, 0},
		{"10.0.1.5/32", &old, net.ParseIP("192.168.7.2"), nil, 3},
		{"fd00:1::5/128", &zero, net.ParseIP("fd07::2"), net.ParseIP("fd07::3"), 255},
		{"0.0.0.0/0", nil, net.IPv4(192, 168, 7, 2), net.IPv4(192, 168, 7, 3), 0},
	} {
		add("ipcache upserted "+c.cidr, api.IPCacheUpsertedMessage(c.cidr, 1004, c.old, c.host, c.before, c.key, "shop", "api-5f6d-7k7k7"))
		add("ipcache deleted "+c.cidr, api.IPCacheDeletedMessage(c.cidr, 1004, c.old, c.host, c.before, c.key, "", ""))
	}
	for kind := api.AgentNotification(0); kind < 16; kind++ {
		if kind < api.AgentNotifyStart || kind > api.AgentNotifyIPCacheDeleted {
			text(fmt.Sprintf("notification %d", kind), kind, `{"id":7,"frontend-address":{"ip":"10.96.0.10","port":80}}`)
		}
	}
	text("notification 4000000000", 4000000000, `"text"`)
	text("unknown members", api.AgentNotifyEndpointCreated, `{"id":78,"pod-name":"db-0","new":{"a":[1,2]}}`)
	text("escapes", api.AgentNotifyEndpointRegenerateFail, `{"id":78,"error":"\u00e4\n\u2028\ud83d\ude00","labels":["k8s:a=\"b\""]}`)
	text("large numbers", api.AgentNotifyEndpointCreated, `{"id":18446744073709551615}`)
	text("not JSON", api.AgentNotifyEndpointCreated, `nothing`)
	text("no text", api.AgentNotifyPolicyUpdated, "")
	text("wrong types", api.AgentNotifyIPCacheUpserted, `{"cidr":7}`)
	data := agentData(typeAgent, api.AgentNotify{Type: 7, Text: `{"id":78}`})
	for _, length := range []int{1, 5, len(data) / 2, len(data) - 1} {
		events = append(events, sample(fmt.Sprintf("agent event cut to %d of %d", length, len(data)), 0, data[:length]))
	}
	return events
}
