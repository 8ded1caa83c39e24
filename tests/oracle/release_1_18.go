//go:build cilium_1_18

package main

import "github.com/cilium/cilium/api/v1/models"

// The release this program is built with, and the layouts its datapath writes.
var built = release{name: "1.18.6", drop: 2, trace: 1, verdict: 32}

func addressPair(e Endpoint) *models.AddressPair {
	return &models.AddressPair{IPV4: e.IPv4.String(), IPV6: e.IPv6.String()}
}
