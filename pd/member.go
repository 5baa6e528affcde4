package pd

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// handOverTimeout bounds how long a stopping leader tries to make another member
// etcd's leader; without, the others notice and elect one by themselves.
const handOverTimeout = time.Second

// Failed tells why this member ended by itself: it was removed, or etcd failed.
// It is closed by Stop.
func (s *Server) Failed() <-chan error { return s.failed }

// watchEtcd notices that etcd ended without being told to.
func (s *Server) watchEtcd(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.etcd.Server.StopNotify():
	case err := <-s.etcd.Err():
		s.fail(fmt.Errorf("pd: etcd failed: %w", err))
		return
	}
	if ctx.Err() != nil {
		return
	}
	if !s.told.Load() && s.etcd.Server.Cluster().Member(s.etcd.Server.MemberID()) != nil {
		s.fail(errors.New("pd: etcd stopped by itself; its log says why"))
		return
	}
	if err := s.updateFormat(func(f *dataFormat) { f.Removed = true }); err != nil {
		s.log.Warn("pd: that this member was removed is not noted in its data directory", "err", err)
	}
	s.fail(removedError(s.cfg.Name, s.cfg.DataDir))
}

func (s *Server) fail(err error) {
	s.log.Error("pd: this member ends", "err", err)
	select {
	case s.failed <- err:
	default:
	}
}

// removedError is what a member that was removed says.
func removedError(name, dir string) error {
	return fmt.Errorf("pd: member %s was removed from its cluster and cannot come back with its data: delete %s, then start it with --join to become a new member", name, dir)
}

// handOver makes another member etcd's leader, and so PD's, before this one
// stops.
func (s *Server) handOver() {
	if s.etcd.Server.Leader() != s.etcd.Server.MemberID() || len(s.etcd.Server.Cluster().Members()) < 2 {
		return
	}
	done := make(chan error, 1)
	go func() { done <- s.etcd.Server.TryTransferLeadershipOnShutdown() }()
	t := time.NewTimer(handOverTimeout)
	defer t.Stop()
	select {
	case err := <-done:
		if err != nil {
			s.log.Info("pd: leading was not handed over", "err", err)
		}
	case <-t.C:
	}
}
