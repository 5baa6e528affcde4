package ycsb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const etcdDialTimeout = 10 * time.Second

// EtcdOptions say how an etcd is used.
type EtcdOptions struct {
	Endpoints []string
	// Connections to each endpoint; the workers share them.
	Connections int
	// Serializable reads are answered by any member from what it has, without
	// asking for the commit index; others are linearizable, etcd's default.
	Serializable bool
}

// etcdDB runs on etcd's key-value API: a record is one value.
type etcdDB struct {
	clients []*clientv3.Client
	read    []clientv3.OpOption
	scan    []clientv3.OpOption
}

// OpenEtcd connects to an etcd cluster.
func OpenEtcd(ctx context.Context, o EtcdOptions) (DB, error) {
	d := &etcdDB{scan: []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(keyPrefix))}}
	if o.Serializable {
		d.read = append(d.read, clientv3.WithSerializable())
		d.scan = append(d.scan, clientv3.WithSerializable())
	}
	for range max(o.Connections, 1) {
		c, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints, DialTimeout: etcdDialTimeout, Logger: zap.NewNop(), Context: ctx})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("etcd at %v: %w", o.Endpoints, err), d.Close())
		}
		d.clients = append(d.clients, c)
	}
	return d, nil
}

func (d *etcdDB) Prepare(context.Context) error { return nil }

func (d *etcdDB) Close() error {
	var errs []error
	for _, c := range d.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (d *etcdDB) client(worker int) *clientv3.Client { return d.clients[worker%len(d.clients)] }

func (d *etcdDB) Read(ctx context.Context, worker int, key string) error {
	resp, err := d.client(worker).Get(ctx, keyPrefix+key, d.read...)
	if err == nil && len(resp.Kvs) == 0 {
		return errors.New("record " + key + " not found")
	}
	return err
}

func (d *etcdDB) Scan(ctx context.Context, worker int, key string, count int) error {
	opts := append(d.scan[:len(d.scan):len(d.scan)], clientv3.WithLimit(int64(count)))
	_, err := d.client(worker).Get(ctx, keyPrefix+key, opts...)
	return err
}

func (d *etcdDB) Update(ctx context.Context, worker int, key string, _ int, fields [][]byte) error {
	return d.Insert(ctx, worker, key, fields)
}

func (d *etcdDB) Insert(ctx context.Context, worker int, key string, fields [][]byte) error {
	_, err := d.client(worker).Put(ctx, keyPrefix+key, string(bytes.Join(fields, nil)))
	return err
}
