// Command etcdnode is etcd itself, of the release that copra's placement driver
// embeds, with etcd's own flags: the peer that the benchmarks measure copra
// against.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
