package pd

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/schedule"
)

func (s *Server) operatorRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/operators":         httpOperators,
		"POST /pd/api/v1/operators":        s.httpAddOperator,
		"DELETE /pd/api/v1/operators":      httpCancelOperators,
		"GET /pd/api/v1/operators/records": httpOperatorRecords,
		"GET /pd/api/v1/operators/{id}":    httpOperator,
		"DELETE /pd/api/v1/operators/{id}": httpCancelOperator,
	}
}

// operatorJSON is an operator for programs (?object).
type operatorJSON struct {
	Desc       string     `json:"desc"`
	RegionID   uint64     `json:"region_id"`
	Kind       string     `json:"kind"`
	Steps      []string   `json:"steps"`
	At         int        `json:"at"` // steps before it are done
	Status     string     `json:"status"`
	Reason     string     `json:"reason,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

func operatorInfo(op *schedule.Operator, status pdpb.OperatorStatus) operatorJSON {
	out := operatorJSON{Desc: op.Desc, RegionID: op.Region, Kind: op.Kind.String(), Steps: []string{}, At: op.At(),
		Status: status.String(), CreatedAt: op.CreatedAt()}
	for _, step := range op.Steps {
		out.Steps = append(out.Steps, step.String())
	}
	return out
}

// httpOperators lists the operators under way, as text; kind picks some, object
// makes them objects.
func httpOperators(t *term, r *http.Request) (any, error) {
	kinds := r.URL.Query()["kind"]
	texts, objects := []string{}, []operatorJSON{}
	for _, op := range t.cluster.sched.Operators() {
		if len(kinds) == 0 || slices.Contains(kinds, op.Kind.String()) {
			texts, objects = append(texts, op.Text), append(objects, operatorInfo(&op.Operator, pdpb.OperatorStatus_RUNNING))
		}
	}
	if r.URL.Query().Has("object") {
		return objects, nil
	}
	return texts, nil
}

// httpOperatorRecords lists the operators that ended since from (Unix seconds).
func httpOperatorRecords(t *term, r *http.Request) (any, error) {
	from, err := intParam(r.URL.Query(), "from", 0)
	if err != nil {
		return nil, err
	}
	texts, objects := []string{}, []operatorJSON{}
	for _, rec := range t.cluster.sched.History(time.Unix(int64(from), 0)) {
		texts = append(texts, fmt.Sprintf("%s (finishAt:%s, duration:%s, status:%v, %s)", rec.Op, rec.FinishedAt.Format(time.RFC3339Nano),
			rec.FinishedAt.Sub(rec.Op.CreatedAt()), rec.Status, rec.Reason))
		o := operatorInfo(rec.Op, rec.Status)
		o.Reason, o.FinishedAt = rec.Reason, &rec.FinishedAt
		objects = append(objects, o)
	}
	if r.URL.Query().Has("object") {
		return objects, nil
	}
	return texts, nil
}

func httpOperator(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	rec, ok := t.cluster.sched.Status(id)
	if !ok {
		return nil, notFound(fmt.Errorf("pd: no operator on region %d is known", id))
	}
	return fmt.Sprintf("status: %v, operator: %s %s", rec.Status, rec.Op.Desc, rec.Reason), nil
}

const adminCancel = "cancelled by an administrator"

func httpCancelOperator(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if !t.cluster.sched.Cancel(id, adminCancel) {
		return nil, notFound(fmt.Errorf("pd: no operator runs on region %d", id))
	}
	return "The pending operator is canceled.", nil
}

func httpCancelOperators(t *term, _ *http.Request) (any, error) {
	for _, op := range t.cluster.sched.Operators() {
		t.cluster.sched.Cancel(op.Region, adminCancel)
	}
	return "All pending operators are canceled.", nil
}

// operatorRequest is what pd-ctl sends to add an operator.
type operatorRequest struct {
	Name           string   `json:"name"`
	RegionID       uint64   `json:"region_id"`
	StoreID        uint64   `json:"store_id"`
	FromStoreID    uint64   `json:"from_store_id"`
	ToStoreID      uint64   `json:"to_store_id"`
	ToStoreIDs     []uint64 `json:"to_store_ids"`
	PeerRoles      []string `json:"peer_roles"`
	SourceRegionID uint64   `json:"source_region_id"`
	TargetRegionID uint64   `json:"target_region_id"`
	Policy         string   `json:"policy"`
	Keys           []string `json:"keys"` // in hexadecimal
	Group          string   `json:"group"`
	RegionIDs      []uint64 `json:"region_ids"`
	StartKey       *string  `json:"start_key"`
	EndKey         *string  `json:"end_key"`
}

// need refuses a request in which an id is missing, given as pairs of names and
// ids.
func (in operatorRequest) need(pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		if id, ok := pairs[i+1].(uint64); ok && id == 0 {
			return badRequest(fmt.Errorf("pd: %s: %s is missing", in.Name, pairs[i]))
		}
	}
	return nil
}

func (s *Server) httpAddOperator(t *term, r *http.Request) (any, error) {
	var in operatorRequest
	if err := readJSON(r, &in, "the operator"); err != nil {
		return nil, err
	}
	if in.Name == "scatter-regions" {
		return s.scatterRange(t, r, rangeRequest{StartKey: in.StartKey, EndKey: in.EndKey, RegionIDs: in.RegionIDs, Group: in.Group})
	}
	if err := in.complete(); err != nil {
		return nil, err
	}
	return done("The operator is created.", in.add(t.cluster, r))
}

// complete checks that the operator's ids are there.
func (in operatorRequest) complete() error {
	switch in.Name {
	case "":
		return badRequest(errors.New("pd: name is missing: the operator's"))
	case "transfer-leader":
		return in.need("region_id", in.RegionID, "to_store_id", in.ToStoreID)
	case "transfer-peer":
		return in.need("region_id", in.RegionID, "from_store_id", in.FromStoreID, "to_store_id", in.ToStoreID)
	case "add-peer", "add-learner", "remove-peer":
		return in.need("region_id", in.RegionID, "store_id", in.StoreID)
	case "merge-region":
		return in.need("source_region_id", in.SourceRegionID, "target_region_id", in.TargetRegionID)
	case "transfer-region":
		if len(in.ToStoreIDs) == 0 {
			return badRequest(errors.New("pd: transfer-region: to_store_ids is missing"))
		}
	}
	return in.need("region_id", in.RegionID)
}

func (in operatorRequest) add(c *cluster, r *http.Request) error {
	ctx := r.Context()
	switch in.Name {
	case "transfer-leader":
		return c.transferLeader(ctx, in.RegionID, in.ToStoreID)
	case "transfer-region":
		roles := make([]string, len(in.PeerRoles))
		for i, role := range in.PeerRoles {
			roles[i] = strings.ToLower(role)
		}
		return c.transferRegion(ctx, in.RegionID, in.ToStoreIDs, roles)
	case "transfer-peer":
		return c.transferPeer(ctx, in.RegionID, in.FromStoreID, in.ToStoreID)
	case "add-peer", "add-learner":
		return c.addPeer(ctx, in.RegionID, in.StoreID, in.Name == "add-learner")
	case "remove-peer":
		return c.removePeer(ctx, in.RegionID, in.StoreID)
	case "merge-region":
		return c.mergeRegion(ctx, in.SourceRegionID, in.TargetRegionID)
	case "scatter-region":
		return c.scatterRegion(ctx, in.RegionID, in.Group)
	case "split-region":
		policy, ok := pdpb.CheckPolicy_value[strings.ToUpper(in.Policy)]
		if !ok {
			return fmt.Errorf("pd: policy %q is none of scan, approximate, usekey", in.Policy)
		}
		keys := make([][]byte, len(in.Keys))
		for i, text := range in.Keys {
			key, err := keyParam(text, "hex")
			if err != nil {
				return err
			}
			keys[i] = key
		}
		return c.splitRegion(in.RegionID, pdpb.CheckPolicy(policy), keys)
	}
	return fmt.Errorf("pd: there is no operator %s", strconv.Quote(in.Name))
}
