package tikv

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/copradb/copra/internal/kv"
)

// hashPage is a replica's last hash on the status port.
type hashPage struct {
	Index   uint64 `json:"index"`
	Hash    string `json:"hash"` // hexadecimal
	Entries uint64 `json:"entries"`
}

// startCheck has the replicas of a region compared; only its leader can.
func (n *Node) startCheck(w http.ResponseWriter, r *http.Request) {
	id, ok := regionID(w, r)
	if !ok {
		return
	}
	err := n.regions.CheckConsistency(r.Context(), id)
	switch re := kv.AsRegionError(err); {
	case err == nil:
		writeJSON(w, map[string]any{"region": id, "started": true})
	case re.GetRegionNotFound() != nil:
		http.Error(w, err.Error(), http.StatusNotFound)
	case re != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// lastHash shows what the newest check of a region has found here.
func (n *Node) lastHash(w http.ResponseWriter, r *http.Request) {
	id, ok := regionID(w, r)
	if !ok {
		return
	}
	if _, ok := n.regions.Region(id); !ok {
		http.Error(w, fmt.Sprintf("region %d has no replica on store %d", id, n.storeID), http.StatusNotFound)
		return
	}
	h, _ := n.regions.LastHash(id) // index 0: none yet
	writeJSON(w, hashPage{Index: h.Index, Hash: fmt.Sprintf("%016x", h.Hash), Entries: h.Entries})
}

func regionID(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err == nil && id == 0 {
		err = errors.New("regions count from 1")
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("region %q: want a number above 0", r.PathValue("id")), http.StatusBadRequest)
		return 0, false
	}
	return id, true
}
