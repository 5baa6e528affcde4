package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// Kind is what an operator counts against.
type Kind int

// The kinds of operators.
const (
	KindLeader  Kind = iota // moves leaders
	KindRegion              // moves peers for balance
	KindReplica             // repairs
	KindAdmin               // was asked for, or ends a change under way
	KindHot                 // spreads hot regions
	KindMerge               // merges regions
	KindSplit               // splits regions
	kindCount
)

func (k Kind) String() string {
	return [...]string{"leader", "region", "replica", "admin", "hot-region", "merge", "split"}[k]
}

// Priority says which operator on a region replaces which: one of a higher
// priority one of a lower.
type Priority int

// The priorities.
const (
	PriorityLow Priority = iota
	PriorityMedium
	PriorityHigh
	PriorityUrgent
)

func (k Kind) priority() Priority {
	switch k {
	case KindReplica:
		return PriorityHigh
	case KindAdmin:
		return PriorityUrgent
	}
	return PriorityMedium
}

// Operator is a list of steps on one region. Its moving parts belong to the
// Controller.
type Operator struct {
	Desc   string
	Kind   Kind
	Region uint64
	Steps  []Step
	// Priority comes from the kind.
	Priority Priority
	confVer  uint64
	version  uint64
	// related is the region of the other operator of a merge: they end together.
	related uint64
	// patience is how much longer than its timeout a step may take.
	patience time.Duration

	at          int    // the present step
	confDone    uint64 // by how much the steps before it moved conf_ver, at most
	created     time.Time
	stepStarted time.Time
	toldAt      time.Time        // when the leader was last told
	share       []storeInfluence // what the controller has counted for it
}

// NewOperator returns an operator on the region as it is now.
func NewOperator(desc string, kind Kind, r *core.Region, steps ...Step) *Operator {
	return &Operator{
		Desc: desc, Kind: kind, Region: r.ID(), Steps: steps, Priority: kind.priority(),
		confVer: r.Epoch().ConfVer, version: r.Epoch().Version,
	}
}

// String says all about the operator in one line.
func (o *Operator) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s {region %d, kind %v, epoch %d/%d, step %d of %d:", o.Desc, o.Region, o.Kind, o.version, o.confVer, o.at, len(o.Steps))
	for i, s := range o.Steps {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		b.WriteString(s.String())
	}
	b.WriteByte('}')
	return b.String()
}

// advance steps over what is done and reports whether all is.
func (o *Operator) advance(r *core.Region, now time.Time) bool {
	for o.at < len(o.Steps) && o.Steps[o.at].Done(r) {
		o.confDone += o.Steps[o.at].ConfChanges(r)
		o.at++
		o.stepStarted = now
	}
	return o.at == len(o.Steps)
}

// stale returns why the region's epoch is not what the operator's own steps
// explain.
func (o *Operator) stale(r *core.Region) error {
	e := r.Epoch()
	if e.Version < o.version || e.Version > o.version+o.versionChanges() {
		return fmt.Errorf("the region was split or merged: version %d, was %d", e.Version, o.version)
	}
	own := o.confDone
	if o.at < len(o.Steps) {
		own += o.Steps[o.at].ConfChanges(r)
	}
	if e.ConfVer > o.confVer+own {
		return fmt.Errorf("the peers were changed by somebody else: conf_ver %d, expected at most %d", e.ConfVer, o.confVer+own)
	}
	return nil
}

// versionChanges is by how much the operator's own steps, up to the present one,
// may have moved the version.
func (o *Operator) versionChanges() uint64 {
	var n uint64
	for i := 0; i <= o.at && i < len(o.Steps); i++ {
		if s, ok := o.Steps[i].(rangeStep); ok {
			n += s.versionChanges()
		}
	}
	return n
}

// merges reports whether the operator merges its region away and has come to
// that step: a region that is gone is its success then.
func (o *Operator) merges() bool {
	if o.at >= len(o.Steps) {
		return false
	}
	m, ok := o.Steps[o.at].(MergeRegion)
	return ok && !m.Passive
}

// CreatedAt is when the operator was added; zero before.
func (o *Operator) CreatedAt() time.Time { return o.created }

// At is the present step: steps before it are done.
func (o *Operator) At() int { return o.at }

func (o *Operator) timedOut(now time.Time) bool {
	return o.at < len(o.Steps) && now.Sub(o.stepStarted) > o.Steps[o.at].Timeout()+o.patience
}

// Record is what is remembered of an operator.
type Record struct {
	Op         *Operator
	Status     pdpb.OperatorStatus
	Reason     string
	FinishedAt time.Time
}
