package main

import (
	_ "github.com/BurntSushi/toml"
	_ "github.com/anishathalye/porcupine"
	_ "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	_ "github.com/apache/arrow/go/v17/arrow/array"
	_ "github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	_ "github.com/cockroachdb/apd/v3"
	_ "github.com/cockroachdb/datadriven"
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/pgproto3"
	_ "github.com/lib/pq"
	_ "github.com/multigres/multigres/go/common/parser"
	_ "github.com/pingcap/kvproto/pkg/tikvpb"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/spf13/cobra"
	_ "github.com/tikv/client-go/v2/rawkv"
	_ "github.com/tikv/client-go/v2/tikv"
	_ "github.com/tikv/client-go/v2/txnkv"
	_ "github.com/tikv/pd/client"
	_ "github.com/xdg-go/scram"
	_ "github.com/zeebo/xxh3"
	_ "go.etcd.io/etcd/server/v3/embed"
	_ "go.etcd.io/raft/v3"
	_ "google.golang.org/grpc/health"
	_ "pgregory.net/rapid"
)

func main() {}
