package kvclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/tikv"
	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
)

// Keyspace is the name of the keyspace that holds SQL's data; PD creates it
// when it bootstraps a cluster.
const Keyspace = "copra_sql"

// callerName is who we are in PD's request metrics.
const callerName caller.Component = "copra-sql"

// Options say where the cluster is.
type Options struct {
	PDEndpoints []string
	// Local holds the stores of this process by the address under which PD
	// knows them; it may be nil and may grow while the client is in use.
	Local *Local
	// Timestamps is asked before PD is asked over the wire; it may be nil.
	Timestamps TimestampFunc
	// Security are the TLS files; the zero value means plain text.
	Security config.Security
}

// Open connects to the cluster, waiting for PD until ctx ends. ctx bounds the
// start only: what is under way when a process is told to stop still needs
// timestamps to commit.
func Open(ctx context.Context, o Options) (*tikv.KVStore, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	started := context.AfterFunc(ctx, end)
	store, err := open(life, o)
	if err == nil && !started() {
		err = errors.Join(fmt.Errorf("kvclient: connect to PD at %v: %w", o.PDEndpoints, ctx.Err()), store.Close())
	}
	if err != nil {
		end()
		return nil, err
	}
	return store, nil
}

func open(ctx context.Context, o Options) (*tikv.KVStore, error) {
	pdClient, err := pd.NewClientWithContext(ctx, callerName, o.PDEndpoints, pd.SecurityOption{
		CAPath: o.Security.ClusterSSLCA, CertPath: o.Security.ClusterSSLCert, KeyPath: o.Security.ClusterSSLKey,
	}, opt.WithCustomTimeoutOption(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("kvclient: connect to PD at %v: %w", o.PDEndpoints, err)
	}
	if o.Timestamps != nil {
		pdClient = &localTSO{Client: pdClient, now: o.Timestamps}
	}
	codecPD, err := tikv.NewCodecPDClientWithKeyspace(tikv.ModeTxn, pdClient, Keyspace)
	if err != nil {
		pdClient.Close()
		return nil, fmt.Errorf("kvclient: load keyspace %q from PD at %v: %w", Keyspace, o.PDEndpoints, err)
	}
	codec := flushCodec{codecPD.GetCodec()}
	var client tikv.Client = tikv.NewRPCClient(tikv.WithSecurity(o.Security), tikv.WithCodec(codec))
	if o.Local != nil {
		client = &localClient{Client: client, local: o.Local, codec: codec}
	}
	store, err := tikv.NewKVStore("copra-sql-"+uuid.NewString(), codecPD, tikv.NewMockSafePointKV(), FailWithoutRoom(client))
	if err != nil {
		pdClient.Close()
		return nil, fmt.Errorf("kvclient: open the transactional client: %w", err)
	}
	return store, nil
}

// Local is the registry of the stores in this process.
type Local struct {
	mu     sync.RWMutex
	stores map[string]tikvpb.TikvServer
}

// NewLocal returns an empty registry.
func NewLocal() *Local { return &Local{stores: make(map[string]tikvpb.TikvServer)} }

// Add registers the store that PD knows under addr.
func (l *Local) Add(addr string, s tikvpb.TikvServer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stores[addr] = s
}

// Remove forgets the store; requests to it go over the wire again.
func (l *Local) Remove(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stores, addr)
}

func (l *Local) get(addr string) tikvpb.TikvServer {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.stores[addr]
}
