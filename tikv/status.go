package tikv

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// statusHeaderTimeout bounds slow readers of the status pages.
const statusHeaderTimeout = 10 * time.Second

// serveStatus starts the HTTP server, if it is wanted.
func (n *Node) serveStatus() {
	if n.statusLis == nil {
		return
	}
	n.status = &http.Server{Handler: n.statusHandler(), ReadHeaderTimeout: statusHeaderTimeout}
	n.wg.Go(func() {
		if err := n.status.Serve(n.statusLis); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("status server failed", "err", err)
		}
	})
	n.onStop(func() { _ = n.status.Close() })
}

func (n *Node) statusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.gatherer, promhttp.HandlerOpts{}))
	// Clients of TiKV read the API version here.
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{
			"addr":    n.addr,
			"storage": map[string]any{"api-version": 1, "enable-ttl": true, "data-dir": n.cfg.DataDir, "block-cache-bytes": n.cfg.CacheBytes},
			"raftstore": map[string]any{
				"region-split-bytes": n.cfg.raftConfig().RegionSplitBytes, "region-max-bytes": n.cfg.raftConfig().RegionMaxBytes},
			"pd":                 map[string]any{"endpoints": n.cfg.PDEndpoints},
			"slow-log-threshold": n.slow.Threshold().String(),
			"security":           map[string]any{"redact-info-log": n.slow.Redact()},
		})
	})
	mux.HandleFunc("POST /config", n.changeConfig)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{
			"cluster_id": n.clusterID, "store_id": n.storeID, "address": n.addr, "version": Version,
			"started": n.started, "regions": n.regions.RegionCount(), "regions_awake": n.regions.AwakeCount(),
			"disk": n.space.Usage(), "kv_engine": n.data.Pressure(), "raft_log": n.raftLog.Pressure(),
		})
	})
	mux.HandleFunc("GET /gossip", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, n.Gossip().Members()) })
	mux.HandleFunc("GET /gc", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, n.gcPage()) })
	mux.HandleFunc("POST /gc", func(w http.ResponseWriter, _ *http.Request) {
		n.collector.Trigger()
		writeJSON(w, n.gcPage())
	})
	mux.HandleFunc("GET /regions", n.regionsPage)
	mux.HandleFunc("POST /regions/{id}/check", n.startCheck)
	mux.HandleFunc("GET /regions/{id}/hash", n.lastHash)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	// What changes something is for programs, not for the web pages that a browser
	// on this machine has open.
	return http.NewCrossOriginProtection().Handler(mux)
}

type regionPage struct {
	ID           uint64   `json:"id"`
	StartKey     string   `json:"start_key"` // hexadecimal, encoded
	EndKey       string   `json:"end_key"`
	ConfVer      uint64   `json:"conf_ver"`
	Version      uint64   `json:"version"`
	PeerID       uint64   `json:"peer_id"`
	Stores       []uint64 `json:"stores"`
	Leader       bool     `json:"leader"`
	LeaderStore  uint64   `json:"leader_store"` // 0: unknown
	Term         uint64   `json:"term"`
	AppliedIndex uint64   `json:"applied_index"`
	ApproxBytes  uint64   `json:"approximate_bytes"`
}

func (n *Node) regionsPage(w http.ResponseWriter, _ *http.Request) {
	pages := []regionPage{}
	for _, r := range n.regions.Regions() {
		p := regionPage{
			ID: r.Region.GetId(), StartKey: hex.EncodeToString(r.Region.GetStartKey()), EndKey: hex.EncodeToString(r.Region.GetEndKey()),
			ConfVer: r.Region.GetRegionEpoch().GetConfVer(), Version: r.Region.GetRegionEpoch().GetVersion(),
			PeerID: r.PeerID, Leader: r.Leader, LeaderStore: r.LeaderPeer.GetStoreId(), Term: r.Term,
			AppliedIndex: r.AppliedIndex, ApproxBytes: r.ApproxBytes,
		}
		for _, peer := range r.Region.GetPeers() {
			p.Stores = append(p.Stores, peer.GetStoreId())
		}
		pages = append(pages, p)
	}
	writeJSON(w, pages)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader may be gone
}
