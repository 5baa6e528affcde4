package schedule

import (
	"context"
	"errors"
	"fmt"

	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// ErrHasOperator is wrapped where a region is busy with something that is not
// less urgent.
var ErrHasOperator = errors.New("has an operator already")

// Admin starts an operator that somebody asked for.
func (c *Controller) Admin(desc string, r *core.Region) *Builder {
	return c.Build(desc, KindAdmin, r)
}

// AddAdmin starts what was built, or says why not.
func (c *Controller) AddAdmin(ctx context.Context, b *Builder) error {
	for store := range b.target {
		s := c.cluster.Stores().Get(store)
		if b.r.StorePeer(store) == nil && (s == nil || !s.IsUp()) {
			return fmt.Errorf("pd: store %d takes no peers", store)
		}
	}
	op, err := b.Operator(ctx)
	if err != nil {
		return fmt.Errorf("pd: %w", err)
	}
	if len(op.Steps) > 0 {
		if err := op.Steps[0].Check(b.r, c.cluster.Stores()); err != nil {
			return fmt.Errorf("pd: %s of region %d: %w", b.desc, b.r.ID(), err)
		}
	}
	if err := c.AddAll(op); err != nil {
		return fmt.Errorf("pd: %w", err)
	}
	return nil
}

// AddMerge merges a region into its neighbour, whatever their sizes.
func (c *Controller) AddMerge(ctx context.Context, from, to *core.Region) error {
	switch {
	case from.Leader == nil || to.Leader == nil:
		return fmt.Errorf("pd: region %d or %d has no known leader", from.ID(), to.ID())
	case !isHealthy(from) || !isHealthy(to):
		return fmt.Errorf("pd: region %d or %d is not whole", from.ID(), to.ID())
	}
	if err := c.mergeRefused(from, to); err != nil {
		return fmt.Errorf("pd: %w", err)
	}
	ops, err := c.mergeOperators(ctx, "admin-merge-region", KindAdmin, from, to)
	if err != nil {
		return fmt.Errorf("pd: %w", err)
	}
	if err := c.AddAll(ops...); err != nil {
		return fmt.Errorf("pd: %w", err)
	}
	return nil
}

// AddSplit splits a region at keys, or by a policy of its store.
func (c *Controller) AddSplit(r *core.Region, policy pdpb.CheckPolicy, keys [][]byte) error {
	if policy == splitAtKeys && (len(keys) == 0 || len(keys) > splitVersionsMax) {
		return fmt.Errorf("pd: a split of region %d at %d keys is outside of 1 to %d", r.ID(), len(keys), splitVersionsMax)
	}
	step := SplitRegion{Start: r.Meta.StartKey, End: r.Meta.EndKey, Policy: policy, Keys: keys}
	if err := step.Check(r, c.cluster.Stores()); err != nil {
		return fmt.Errorf("pd: split region %d: %w", r.ID(), err)
	}
	if err := c.AddAll(NewOperator("admin-split-region", KindAdmin, r, step)); err != nil {
		return fmt.Errorf("pd: %w", err)
	}
	return nil
}

// CheckSoon has the region checked before others.
func (c *Controller) CheckSoon(r *core.Region) { c.wait(r) }
