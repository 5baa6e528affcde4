package cluster

import (
	"context"

	"google.golang.org/grpc"

	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/copradb/copra/tikv"
	"github.com/copradb/copra/tikv/importer"
)

// Locals are the ways around gRPC to the stores and placement drivers of this
// process.
type Locals struct {
	KV   *kvclient.Local
	Copr *client.Local
	// Import hands the files of bulk loads to stores.
	Import *importer.Local
	// Timestamps asks the placement drivers of this process.
	Timestamps kvclient.TimestampFunc
}

// Store is a storage node with its coprocessor.
type Store struct {
	*tikv.Node
	copr   *server.Service
	locals *Locals
}

// StartStore starts a storage node with the coprocessor's Flight service beside
// TiKV's on its port. locals, if not nil, learn of it.
func StartStore(ctx context.Context, cfg tikv.Config, locals *Locals) (*Store, error) {
	s := &Store{locals: locals}
	if cfg.Columns == nil { // with the usual limits
		cfg.Columns = columnar.New(columnar.Options{BytesMax: ColumnsBytes(), Registerer: cfg.Registerer})
	}
	cfg.ExtraServices = func(g *grpc.Server, n *tikv.Node) {
		s.copr = server.New(server.Options{
			Source: server.TxnSource(n.Txn()), Columns: cfg.Columns, ClusterID: n.ClusterID(), Logger: cfg.Logger, Slow: n.SlowLog(), Registerer: cfg.Registerer,
		})
		s.copr.Register(g)
	}
	node, err := tikv.Start(ctx, cfg)
	if err != nil {
		if s.copr != nil {
			s.copr.Close()
		}
		return nil, err
	}
	s.Node = node
	if locals != nil {
		locals.KV.Add(node.Addr(), node.Service())
		locals.Copr.Set(node.Addr(), s.copr)
		locals.Import.Add(node.StoreID(), node.Raftstore())
	}
	return s, nil
}

// Stop ends the coprocessor's requests and then the node.
func (s *Store) Stop() {
	if s.locals != nil {
		s.locals.KV.Remove(s.Addr())
		s.locals.Copr.Set(s.Addr(), nil)
		s.locals.Import.Remove(s.StoreID())
	}
	s.copr.Close()
	s.Node.Stop()
}
