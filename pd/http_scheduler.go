package pd

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/pd/schedule"
)

// pauseSecondsMax is how long a scheduler can be paused at once.
const pauseSecondsMax = 30 * 24 * 3600

func (s *Server) schedulerRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/schedulers":                                httpSchedulers,
		"POST /pd/api/v1/schedulers":                               httpAddScheduler,
		"POST /pd/api/v1/schedulers/{name}":                        httpPauseScheduler,
		"DELETE /pd/api/v1/schedulers/{name}":                      httpRemoveScheduler,
		"GET /pd/api/v1/scheduler-config":                          httpSchedulerConfigs,
		"GET /pd/api/v1/scheduler-config/{name}/list":              httpSchedulerConfig,
		"GET /pd/api/v1/scheduler-config/{name}/config":            httpSchedulerConfig,
		"POST /pd/api/v1/scheduler-config/{name}/config":           httpSetSchedulerConfig,
		"GET /pd/api/v1/scheduler-config/{name}/roles":             httpSchedulerRoles,
		"POST /pd/api/v1/scheduler-config/{name}/roles":            httpSetSchedulerRoles,
		"DELETE /pd/api/v1/scheduler-config/{name}/delete/{store}": httpRemoveSchedulerStore,
	}
}

// httpSchedulers lists names; with status=paused or disabled of those, with
// object it tells the status of each.
func httpSchedulers(t *term, r *http.Request) (any, error) {
	status := r.URL.Query().Get("status")
	switch status {
	case "", "running", "paused", "disabled":
	default:
		return nil, badRequest(fmt.Errorf("pd: status=%q is none of running, paused, disabled", status))
	}
	names, infos := []string{}, []schedule.SchedulerInfo{}
	for _, info := range t.cluster.sched.ListSchedulers() {
		if status == "" || info.Status == status {
			names, infos = append(names, info.Name), append(infos, info)
		}
	}
	if r.URL.Query().Has("object") {
		return infos, nil
	}
	return names, nil
}

// schedulerRequest is what pd-ctl sends to add a scheduler. Keys are escaped as
// in URLs.
type schedulerRequest struct {
	Name      string  `json:"name"`
	StoreID   *uint64 `json:"store_id"`
	StartKey  *string `json:"start_key"`
	EndKey    *string `json:"end_key"`
	RangeName string  `json:"range_name"`
}

func (in schedulerRequest) args() ([]string, error) {
	var args []string
	if in.StoreID != nil {
		args = append(args, strconv.FormatUint(*in.StoreID, 10))
	}
	if (in.StartKey == nil) != (in.EndKey == nil) {
		return nil, errors.New("pd: one of start_key and end_key is missing")
	}
	if in.StartKey != nil {
		for _, escaped := range []string{*in.StartKey, *in.EndKey} {
			key, err := url.QueryUnescape(escaped)
			if err != nil {
				return nil, fmt.Errorf("pd: the key %q is not escaped as in a URL: %w", escaped, err)
			}
			args = append(args, hex.EncodeToString([]byte(key)))
		}
	}
	if in.RangeName != "" {
		args = append(args, in.RangeName)
	}
	return args, nil
}

// knownScheduler is the name of a scheduler here: newer clients call
// scatter-range scatter-range-scheduler.
func knownScheduler(name string) string {
	if rest, ok := strings.CutPrefix(name, schedule.ScatterRangeName+"-scheduler"); ok {
		return schedule.ScatterRangeName + rest
	}
	return name
}

func httpAddScheduler(t *term, r *http.Request) (any, error) {
	var in schedulerRequest
	if err := readJSON(r, &in, "the scheduler"); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, badRequest(errors.New("pd: name is missing: the scheduler's"))
	}
	args, err := in.args()
	if err != nil {
		return nil, badRequest(err)
	}
	return done("The scheduler is created.", t.cluster.sched.AddScheduler(r.Context(), knownScheduler(in.Name), args))
}

// httpPauseScheduler pauses one, or "all", for delay seconds; 0 resumes.
func httpPauseScheduler(t *term, r *http.Request) (any, error) {
	var in struct {
		Delay *int64 `json:"delay"`
	}
	if err := readJSON(r, &in, "the pause"); err != nil {
		return nil, err
	}
	if in.Delay == nil || *in.Delay < 0 || *in.Delay > pauseSecondsMax {
		return nil, badRequest(fmt.Errorf("pd: want {\"delay\": seconds}, from 0 (resume) to %d", pauseSecondsMax))
	}
	return done("Pause or resume the scheduler successfully.",
		t.cluster.sched.PauseScheduler(knownScheduler(r.PathValue("name")), time.Duration(*in.Delay)*time.Second))
}

// httpRemoveScheduler ends a scheduler; evict-leader-scheduler-4 only for store
// 4.
func httpRemoveScheduler(t *term, r *http.Request) (any, error) {
	name := knownScheduler(r.PathValue("name"))
	for _, of := range []string{schedule.EvictLeaderName, schedule.GrantLeaderName} {
		if store, ok := strings.CutPrefix(name, of+"-"); ok {
			return removeSchedulerStore(t, r, of, store)
		}
	}
	return done("The scheduler is removed.", t.cluster.sched.RemoveScheduler(r.Context(), name))
}

func httpRemoveSchedulerStore(t *term, r *http.Request) (any, error) {
	return removeSchedulerStore(t, r, knownScheduler(r.PathValue("name")), r.PathValue("store"))
}

func removeSchedulerStore(t *term, r *http.Request, name, store string) (any, error) {
	if _, err := strconv.ParseUint(store, 10, 64); err != nil {
		return nil, badRequest(fmt.Errorf("pd: %q is no store's id", store))
	}
	raw, err := t.cluster.sched.SchedulerConfig(name)
	if err != nil {
		return nil, requestError(err)
	}
	var cfg struct {
		Stores map[string]any `json:"store-id-ranges"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, err
	}
	if _, ok := cfg.Stores[store]; !ok {
		return nil, notFound(fmt.Errorf("pd: %s does not run for store %s", name, store))
	}
	delete(cfg.Stores, store)
	if len(cfg.Stores) == 0 {
		return done("The scheduler is removed.", t.cluster.sched.RemoveScheduler(r.Context(), name))
	}
	if raw, err = json.Marshal(cfg); err != nil {
		return nil, err
	}
	return done("The scheduler is removed from the store.", t.cluster.sched.SetSchedulerConfig(r.Context(), name, raw))
}

func httpSchedulerConfigs(t *term, _ *http.Request) (any, error) {
	out := map[string]json.RawMessage{}
	for _, info := range t.cluster.sched.ListSchedulers() {
		raw, err := t.cluster.sched.SchedulerConfig(info.Name)
		if errors.Is(err, schedule.ErrSchedulerNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out[info.Name] = raw
	}
	return out, nil
}

func httpSchedulerConfig(t *term, r *http.Request) (any, error) {
	raw, err := t.cluster.sched.SchedulerConfig(knownScheduler(r.PathValue("name")))
	return raw, requestError(err)
}

// httpSetSchedulerConfig changes settings. {"store_id": 4} adds a store.
func httpSetSchedulerConfig(t *term, r *http.Request) (any, error) {
	var in map[string]json.RawMessage
	if err := readJSON(r, &in, "the settings"); err != nil {
		return nil, err
	}
	delete(in, "name")
	if id, ok := in["store_id"]; ok {
		return done("The scheduler has been applied to the store.",
			t.cluster.sched.AddScheduler(r.Context(), knownScheduler(r.PathValue("name")), []string{string(id)}))
	}
	if len(in) == 0 {
		return nil, badRequest(errors.New("pd: no setting is named"))
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return done("Config updated.", t.cluster.sched.SetSchedulerConfig(r.Context(), knownScheduler(r.PathValue("name")), raw))
}

// rolesOf is the settings of a scheduler that has roles: shuffle-region.
type rolesOf struct {
	Roles []string `json:"roles"`
}

func httpSchedulerRoles(t *term, r *http.Request) (any, error) {
	raw, err := t.cluster.sched.SchedulerConfig(knownScheduler(r.PathValue("name")))
	if err != nil {
		return nil, requestError(err)
	}
	var cfg rolesOf
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, err
	}
	if cfg.Roles == nil {
		return nil, notFound(fmt.Errorf("pd: %s has no roles", knownScheduler(r.PathValue("name"))))
	}
	return cfg.Roles, nil
}

func httpSetSchedulerRoles(t *term, r *http.Request) (any, error) {
	var cfg rolesOf
	if err := readJSON(r, &cfg.Roles, "the list of roles"); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	return done("Config updated.", t.cluster.sched.SetSchedulerConfig(r.Context(), knownScheduler(r.PathValue("name")), raw))
}
