// Package gossippb is the wire form of package internal/gossip, generated from
// gossip.proto by make proto.
package gossippb
