package pd

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/etcdkv"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
)

// fencedStorage keeps rules under the leader's term.
type fencedStorage struct {
	fence  *etcdkv.Fence
	prefix string
}

// Save implements placement.Storage.
func (s fencedStorage) Save(ctx context.Context, changes map[string][]byte) error {
	if len(changes) > etcdkv.TxnOpsMax {
		return fmt.Errorf("pd: %d rules in one change are more than %d: change them in parts", len(changes), etcdkv.TxnOpsMax)
	}
	ops := make([]clientv3.Op, 0, len(changes))
	bytes := 0
	for key, value := range changes {
		if value == nil {
			ops = append(ops, clientv3.OpDelete(s.prefix+key))
			continue
		}
		bytes += len(key) + len(value)
		ops = append(ops, clientv3.OpPut(s.prefix+key, string(value)))
	}
	if bytes > etcdkv.RequestBytesMax/2 {
		return fmt.Errorf("pd: %d bytes of rules in one change are too many: change them in parts", bytes)
	}
	return s.fence.Txn(ctx, ops...)
}

func (s fencedStorage) load(ctx context.Context, prefixes ...string) (map[string][]byte, error) {
	saved := make(map[string][]byte)
	for _, p := range prefixes {
		err := s.fence.Scan(ctx, s.prefix+p, func(key string, value []byte) error {
			saved[strings.TrimPrefix(key, s.prefix)] = value
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return saved, nil
}

// loadRules loads placement rules and region labels. Rules that were saved win
// over what the settings say of replicas.
func (c *cluster) loadRules(ctx context.Context) error {
	st := fencedStorage{c.t.fence, c.s.root + "/"}
	saved, err := st.load(ctx, "rules/", "rule_group/")
	if err != nil {
		return err
	}
	o := c.options
	if c.rules, err = placement.NewManager(st, saved, placement.DefaultRule(o.Replicas, o.LocationLabels, o.IsolationLevel)); err != nil {
		return err
	}
	if len(saved) > 0 {
		c.followDefaultRule()
	}
	if saved, err = st.load(ctx, "region_label/"); err != nil {
		return err
	}
	c.labels, err = labeler.New(st, saved, time.Now)
	return err
}

// Rules implements schedule.Cluster. Changes go through changeRules.
func (c *cluster) Rules() *placement.Manager { return c.rules }

// Labels implements schedule.Cluster.
func (c *cluster) Labels() *labeler.Labeler { return c.labels }

// changeRules runs a change of the placement rules and lets the settings follow
// the default rule.
func (c *cluster) changeRules(change func(*placement.Manager) error) error {
	if c.Options().DisablePlacementRules {
		return errRulesDisabled
	}
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	if err := change(c.rules); err != nil {
		return err
	}
	c.followDefaultRule()
	return nil
}

var errRulesDisabled = fmt.Errorf("%w: placement rules feature is disabled (enable-placement-rules)", placement.ErrInvalid)
