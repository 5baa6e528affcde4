// Package coprpb has the messages between SQL nodes and coprocessors, generated
// from coprpb.proto. copr/plan validates and converts plans; nothing here is to
// be trusted before that.
package coprpb

//go:generate protoc --go_out=paths=source_relative:. coprpb.proto
