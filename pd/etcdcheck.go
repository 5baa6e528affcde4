package pd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/embed"
)

// boltLockTimeout is how long to wait for another process's lock on etcd's
// database.
const boltLockTimeout = time.Second

// startEmbedded starts etcd; data that etcd cannot read is an error here, where
// etcd itself panics, for its database even in a goroutine of its own.
func startEmbedded(ec *embed.Config) (e *embed.Etcd, err error) {
	path := filepath.Join(ec.Dir, "member", "snap", "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: boltLockTimeout})
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, damaged(path, err)
	default:
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("close %s: %w", path, err)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			err = damaged(ec.Dir, p)
		}
	}()
	return embed.StartEtcd(ec)
}

func damaged(path string, why any) error {
	return fmt.Errorf("%s cannot be read (%v); restore it from a copy", path, why)
}
