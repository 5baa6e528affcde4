package pd

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/copradb/copra/pd/gcworker"
	"github.com/copradb/copra/pd/schedule"
)

func (s *Server) configRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/config":                  s.httpConfig,
		"POST /pd/api/v1/config":                 s.httpSetConfig,
		"GET /pd/api/v1/config/default":          s.httpDefaultConfig,
		"GET /pd/api/v1/config/schedule":         s.httpScheduleConfig,
		"POST /pd/api/v1/config/schedule":        s.httpSetConfig,
		"GET /pd/api/v1/config/replicate":        s.httpReplicateConfig,
		"POST /pd/api/v1/config/replicate":       s.httpSetConfig,
		"GET /pd/api/v1/config/pd-server":        func(*term, *http.Request) (any, error) { return serverConfig(), nil },
		"GET /pd/api/v1/config/cluster-version":  func(*term, *http.Request) (any, error) { return Version, nil },
		"GET /pd/api/v1/config/replication-mode": func(*term, *http.Request) (any, error) { return replicationMode(), nil },
	}
}

// serverConfig is what pd-ctl shows as pd-server: nothing of it can be changed.
func serverConfig() map[string]any {
	return map[string]any{"key-type": "table", "use-region-storage": "true"}
}

func replicationMode() map[string]any { return map[string]any{"replication-mode": "majority"} }

func (s *Server) httpScheduleConfig(t *term, _ *http.Request) (any, error) {
	return scheduleConfig(t.cluster.Options()), nil
}

func scheduleConfig(o schedule.Options) map[string]any {
	return map[string]any{
		"max-store-down-time": o.MaxStoreDownTime.String(), "leader-schedule-limit": o.LeaderLimit,
		"region-schedule-limit": o.RegionLimit, "replica-schedule-limit": o.ReplicaLimit,
		"merge-schedule-limit": o.MergeLimit, "hot-region-schedule-limit": o.HotRegionLimit,
		"max-merge-region-size": o.MaxMergeRegionMiB, "max-merge-region-keys": o.MaxMergeRegionKeys,
		"region-max-size": o.RegionMaxMiB, "split-merge-interval": o.SplitMergeInterval.String(),
		"enable-one-way-merge": o.OneWayMerge, "enable-cross-table-merge": !o.DisableCrossTableMerge,
		"leader-schedule-policy": o.LeaderPolicy, "tolerant-size-ratio": o.TolerantSizeRatio,
		"hot-region-cache-hits-threshold": o.HotCacheHits,
		"max-snapshot-count":              o.MaxSnapshots, "max-pending-peer-count": o.MaxPendingPeers,
		"low-space-ratio": o.LowSpaceRatio, "store-limit": o.StoreRates, "default-store-limit": o.StoreRate,
		"store-adding-peers-limit": o.StoreLimit, "patrol-region-interval": o.PatrolInterval.String(),
		"balance-interval": o.BalanceInterval.String(), "disable-balance": o.DisableBalance,
	}
}

func (s *Server) httpReplicateConfig(t *term, _ *http.Request) (any, error) {
	return replicateConfig(t.cluster.Options()), nil
}

func replicateConfig(o schedule.Options) map[string]any {
	return map[string]any{
		"max-replicas": o.Replicas, "location-labels": strings.Join(o.LocationLabels, ","), "strictly-match-label": "false",
		"enable-placement-rules": strconv.FormatBool(!o.DisablePlacementRules), "isolation-level": o.IsolationLevel,
	}
}

func (s *Server) httpConfig(t *term, _ *http.Request) (any, error) {
	all := s.config(t.cluster.Options())
	all["gc"] = t.collector.Settings().Map()
	return all, nil
}

// httpDefaultConfig has the settings that this member was started with.
func (s *Server) httpDefaultConfig(*term, *http.Request) (any, error) {
	all := s.config(s.cfg.Schedule)
	all["gc"] = gcworker.DefaultSettings().Map()
	return all, nil
}

func (s *Server) config(o schedule.Options) map[string]any {
	return map[string]any{
		"name": s.cfg.Name, "data-dir": s.cfg.DataDir, "client-urls": "http://" + s.clientAddr,
		"peer-urls": "http://" + s.peerAddr, "advertise-client-urls": s.clientURL,
		"lease": s.cfg.LeaderLeaseSeconds, "cluster-version": Version,
		"schedule": scheduleConfig(o), "replication": replicateConfig(o),
		"pd-server": serverConfig(), "replication-mode": replicationMode(),
	}
}

// httpSetConfig changes settings by name. pd-ctl sends "schedule.x" or
// {"schedule": {"x": …}}, too.
func (s *Server) httpSetConfig(t *term, r *http.Request) (any, error) {
	if r.URL.Query().Has("ttlSecond") {
		return nil, &httpError{http.StatusNotImplemented, errors.New("pd: settings for a while (ttlSecond) are not supported: set them, and set them back")}
	}
	changes := map[string]any{}
	if err := readJSON(r, &changes, "the settings"); err != nil {
		return nil, err
	}
	flat := map[string]any{}
	for k, v := range changes {
		if sub, ok := v.(map[string]any); ok && (k == "schedule" || k == "replication" || k == "gc") {
			for k, v := range sub {
				flat[k] = v
			}
			continue
		}
		k = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(k, "schedule."), "replication."), "gc.")
		flat[k] = v
	}
	if len(flat) == 0 {
		return nil, badRequest(errors.New("pd: no setting is named"))
	}
	gc := splitGCSettings(flat)
	if _, err := t.collector.Settings().With(gc); err != nil {
		return nil, badRequest(err)
	}
	if _, err := applyOptions(t.cluster.Options(), flat); err != nil {
		return nil, badRequest(err)
	}
	if len(gc) > 0 {
		if err := t.collector.Change(r.Context(), gc); err != nil {
			return nil, requestError(err)
		}
	}
	if len(flat) == 0 {
		return "The config is updated.", nil
	}
	if err := t.cluster.setOptions(r.Context(), flat); err != nil {
		return nil, requestError(err)
	}
	return "The config is updated.", nil
}
