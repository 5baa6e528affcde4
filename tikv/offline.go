package tikv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/raftlog"
)

// offlineCacheBytes is the block cache of a tool that looks into a store.
const offlineCacheBytes = 64 << 20

// Offline is the data directory of a store that is stopped.
type Offline struct {
	*raftstore.Offline
	ClusterID, StoreID uint64
	dir                string
	closers            []io.Closer
}

// Replay brings the store's data up to what its log knows to be committed.
func (o *Offline) Replay(ctx context.Context) error {
	return o.Offline.Replay(ctx, vfs.Default, vfs.Default.PathJoin(o.dir, "snap"))
}

// OpenOffline opens a stopped store's data directory for tools. It holds the
// directory's lock, so the store cannot start until Close. The directory must
// be a store's: nothing is created in another.
func OpenOffline(dir string) (o *Offline, err error) {
	filesystem := vfs.Default
	var id identity
	f, err := filesystem.Open(filesystem.PathJoin(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not the data directory of a store: it has no %s file", dir, identityFile)
	}
	if err != nil {
		return nil, err
	}
	err = errors.Join(json.NewDecoder(f).Decode(&id), f.Close())
	if err != nil {
		return nil, fmt.Errorf("%s of %s is damaged: %w", identityFile, dir, err)
	}
	if _, err := disk.CheckFormat(filesystem, dir, "copra-store", formatVersion); err != nil {
		return nil, err
	}
	o = &Offline{ClusterID: id.ClusterID, StoreID: id.StoreID, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	lock, err := filesystem.Lock(filesystem.PathJoin(dir, "LOCK"))
	if err != nil {
		return o, fmt.Errorf("lock %s: %w; stop the store first", dir, err)
	}
	o.closers = append(o.closers, lock)
	quiet := slog.New(slog.DiscardHandler)
	data, err := engine.Open(engine.Options{Dir: filesystem.PathJoin(dir, "kv"), FS: filesystem, CacheBytes: offlineCacheBytes, Logger: quiet})
	if err != nil {
		return o, err
	}
	o.closers = append(o.closers, data)
	log, err := raftlog.Open(raftlog.Options{Dir: filesystem.PathJoin(dir, "raft"), FS: filesystem, CacheBytes: offlineCacheBytes, Logger: quiet})
	if err != nil {
		return o, err
	}
	o.closers = append(o.closers, log)
	o.Offline = raftstore.NewOffline(id.StoreID, data, log)
	return o, nil
}

// Close frees the directory.
func (o *Offline) Close() error {
	var err error
	for i := len(o.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, o.closers[i].Close())
	}
	o.closers = nil
	return err
}
