package tikv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/copradb/copra/internal/pdclient"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// Files of the data directory.
const (
	identityFile  = "STORE"     // who this store is
	bootstrapFile = "BOOTSTRAP" // a first region that may have been claimed in PD
)

// identity says to which cluster a directory belongs, and as which store.
type identity struct {
	ClusterID uint64 `json:"cluster_id"`
	StoreID   uint64 `json:"store_id"`
}

// identity reads the directory's identity, or gets one from PD.
func (n *Node) identity(ctx context.Context) (identity, error) {
	var id identity
	ok, err := n.readJSON(identityFile, &id)
	if err != nil {
		return id, err
	}
	if ok {
		if id.ClusterID != n.clusterID {
			return id, fmt.Errorf("the data belongs to cluster %d, but PD at %v serves cluster %d; use the right PD, or an empty data directory",
				id.ClusterID, n.cfg.PDEndpoints, n.clusterID)
		}
		return id, nil
	}
	if err := n.data.ScanMeta(nil, func([]byte, []byte) error {
		return fmt.Errorf("there is data, but no %s file that says whose it is; restore the file or use an empty directory", identityFile)
	}); err != nil {
		return id, err
	}
	// An id that a crash loses is never used; ids are not reused (hazard 4).
	id.ClusterID = n.clusterID
	if id.StoreID, err = n.pd.AllocID(ctx); err != nil {
		return id, fmt.Errorf("get a store id from PD: %w", err)
	}
	return id, n.writeJSON(identityFile, id)
}

// join makes the store a member of the cluster: with the cluster's first
// region, if nobody has it yet.
func (n *Node) join(ctx context.Context) error {
	if err := n.bootstrap(ctx); err != nil {
		return fmt.Errorf("bootstrap the cluster: %w", err)
	}
	if err := n.pd.PutStore(ctx, n.storeMeta()); err != nil {
		return fmt.Errorf("register store %d with PD: %w", n.storeID, err)
	}
	// From here on PD's answers and other stores' messages make sense.
	n.pd.HandleRegionHeartbeatResponse(n.regions.OnPDResponse)
	return n.regions.Start()
}

func (n *Node) storeMeta() *metapb.Store {
	m := &metapb.Store{
		Id: n.storeID, Address: n.addr, PeerAddress: n.addr, StatusAddress: n.StatusAddr(),
		Version: Version, StartTimestamp: n.started.Unix(), DeployPath: n.cfg.DataDir,
	}
	for k, v := range n.cfg.Labels {
		m.Labels = append(m.Labels, &metapb.StoreLabel{Key: k, Value: v})
	}
	return m
}

// bootstrap claims the first region in PD, if the cluster has none. Several
// stores may try: PD accepts one. The marker is written before the claim and
// removed when it is settled, so that a store that crashed in between asks PD
// what became of it.
func (n *Node) bootstrap(ctx context.Context) error {
	var region metapb.Region
	marked, err := n.readJSON(bootstrapFile, &region)
	if err != nil {
		return err
	}
	done, err := n.pd.IsBootstrapped(ctx)
	if err != nil {
		return err
	}
	if !done {
		if !marked {
			if region, err = n.firstRegion(ctx); err != nil {
				return err
			}
			if err := n.writeJSON(bootstrapFile, &region); err != nil {
				return err
			}
			marked = true
		}
		err := n.pd.Bootstrap(ctx, n.storeMeta(), &region)
		if err != nil && !pdclient.IsAlreadyBootstrapped(err) {
			return err
		}
	}
	if !marked {
		return nil
	}
	return n.settleBootstrap(ctx, &region)
}

// settleBootstrap creates the marked region if PD has accepted it. PD's answer
// to the claim itself may have been lost, so its region list decides.
func (n *Node) settleBootstrap(ctx context.Context, region *metapb.Region) error {
	_, err := n.pd.GetRegionByID(ctx, region.GetId())
	lost := errors.Is(err, pdclient.ErrRegionNotFound) // another store was first
	if err != nil && !lost {
		return err
	}
	if _, here := n.regions.Region(region.GetId()); !lost && !here {
		if err := n.regions.Bootstrap(region); err != nil {
			return err
		}
		n.log.Info("this store has the cluster's first region", "region", region.GetId())
	}
	if err := n.fs.Remove(n.fs.PathJoin(n.cfg.DataDir, bootstrapFile)); err != nil {
		return err
	}
	return disk.SyncDir(n.fs, n.cfg.DataDir)
}

func (n *Node) firstRegion(ctx context.Context) (metapb.Region, error) {
	regionID, err := n.pd.AllocID(ctx)
	if err != nil {
		return metapb.Region{}, err
	}
	peerID, err := n.pd.AllocID(ctx)
	return metapb.Region{
		Id: regionID, RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: 1},
		Peers: []*metapb.Peer{{Id: peerID, StoreId: n.storeID}},
	}, err
}

// readJSON reads a file of the data directory; ok is false if there is none.
func (n *Node) readJSON(name string, v any) (ok bool, err error) {
	path := n.fs.PathJoin(n.cfg.DataDir, name)
	f, err := n.fs.Open(path)
	if disk.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return false, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return true, nil
}

func (n *Node) writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := n.fs.PathJoin(n.cfg.DataDir, name)
	if err := disk.WriteFileAtomic(n.fs, n.cfg.DataDir, path, append(data, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
