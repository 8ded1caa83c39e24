//go:build !cilium_1_18

package main

import (
	"github.com/cilium/cilium/api/v1/models"
	v1 "github.com/cilium/cilium/pkg/hubble/api/v1"
)

// The release this program is built with, and the layouts its datapath writes.
var built = release{name: "1.19.4", drop: 3, trace: 2, verdict: 40, sockReordered: true, routing: true}

func init() {
	v1.FlowEmitterVersion = built.name
}

func addressPair(e Endpoint) *models.AddressPair {
	return &models.AddressPair{IPv4: e.IPv4.String(), IPv6: e.IPv6.String()}
}
