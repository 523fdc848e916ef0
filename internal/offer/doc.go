// Package offer is what passes over the cloud's broker when a model is pushed
// to gateways: the offer, the topics of the chunks, and the report. Both sides,
// the command that pushes and the gateway that fetches, read it here.
package offer
