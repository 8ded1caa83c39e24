package main

import (
	"context"
	"log/slog"
	"net"
	"unsafe"

	"github.com/cilium/cilium/api/v1/models"
	"github.com/cilium/cilium/pkg/monitor/agent"
	"github.com/cilium/cilium/pkg/monitor/agent/consumer"
	"github.com/cilium/cilium/pkg/monitor/agent/listener"
	"github.com/cilium/cilium/pkg/monitor/payload"
)

// The agent's monitor is private to its package: its exported door listens only on /var/run/cilium and takes no samples but from a perf ring. These
// declarations reach the private functions by their symbols, so that what runs is the agent's code, with a socket path and samples of ours. The
// releases are fixed in go.mod; agent.go, server.go and listener1_2.go are the same in both.

//go:linkname buildServer github.com/cilium/cilium/pkg/monitor/agent.buildServer
func buildServer(logger *slog.Logger, path string) (*net.UnixListener, error)

//go:linkname newAgent github.com/cilium/cilium/pkg/monitor/agent.newAgent
func newAgent(ctx context.Context, logger *slog.Logger) unsafe.Pointer

//go:linkname sendToListeners github.com/cilium/cilium/pkg/monitor/agent.(*agent).sendToListeners
func sendToListeners(agent unsafe.Pointer, p *payload.Payload)

//go:linkname registerNewListener github.com/cilium/cilium/pkg/monitor/agent.(*agent).RegisterNewListener
func registerNewListener(agent unsafe.Pointer, l listener.MonitorListener)

//go:linkname removeListener github.com/cilium/cilium/pkg/monitor/agent.(*agent).RemoveListener
func removeListener(agent unsafe.Pointer, l listener.MonitorListener)

//go:linkname connectionHandler github.com/cilium/cilium/pkg/monitor/agent.(*server).connectionHandler1_2
func connectionHandler(server unsafe.Pointer, ctx context.Context, queueSize int)

// monitorServer has the layout of the agent's server structure.
type monitorServer struct {
	logger   *slog.Logger
	listener net.Listener
	monitor  agent.Agent
}

// serveConnections is the agent's accept loop; it ends with ctx.
func serveConnections(ctx context.Context, logger *slog.Logger, l net.Listener, a monitorAgent, queueSize int) {
	connectionHandler(unsafe.Pointer(&monitorServer{logger, l, a}), ctx, queueSize)
}

// monitorAgent is the agent's own monitor, under its interface.
type monitorAgent struct {
	real       unsafe.Pointer
	registered func()
}

var _ agent.Agent = monitorAgent{}

func newMonitorAgent(ctx context.Context, logger *slog.Logger, registered func()) monitorAgent {
	return monitorAgent{newAgent(ctx, logger), registered}
}

// send is the step that follows reading a sample from the perf ring.
func (a monitorAgent) send(p *payload.Payload) { sendToListeners(a.real, p) }

func (a monitorAgent) RegisterNewListener(l listener.MonitorListener) {
	registerNewListener(a.real, l)
	a.registered()
}

func (a monitorAgent) RemoveListener(l listener.MonitorListener) { removeListener(a.real, l) }

// The accept loop uses none of these.
func (a monitorAgent) AttachToEventsMap(int) error                  { return nil }
func (a monitorAgent) SendEvent(int, any) error                     { return nil }
func (a monitorAgent) RegisterNewConsumer(consumer.MonitorConsumer) {}
func (a monitorAgent) RemoveConsumer(consumer.MonitorConsumer)      {}
func (a monitorAgent) State() *models.MonitorStatus                 { return nil }
