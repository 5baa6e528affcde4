package pd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// TestStoreConfigs asks stores for the size at which they split regions: each
// once, until it restarts.
func TestStoreConfigs(t *testing.T) {
	s := startPD(t, nil)
	bootstrap(t, s, 1)
	tm, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	c := tm.cluster
	answers, asked := map[string]string{}, map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		store, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		asked[store]++
		fmt.Fprint(w, answers[store])
	}))
	defer srv.Close()
	put := func(id uint64, started int64) {
		c.stores.Put(&core.Store{HeardAt: time.Now(), Meta: &metapb.Store{
			Id: id, StatusAddress: fmt.Sprintf("%s/s%d", srv.URL, id), StartTimestamp: started}})
	}
	known := map[uint64]storeConfig{}
	learn := func(want uint64) {
		t.Helper()
		if got := c.learnStoreConfigs(testContext(t), srv.Client(), known); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	}
	learn(0) // store 1 has no status page
	answers["s10"] = `{"raftstore": {"region-max-bytes": 1000}}`
	answers["s11"] = `{"raftstore": {"region-max-bytes": 700}}`
	answers["s12"] = `nonsense`
	for id := uint64(10); id <= 12; id++ {
		put(id, 1)
	}
	learn(700)
	learn(700)
	if asked["s10"] != 1 || asked["s11"] != 1 || asked["s12"] != 1 {
		t.Fatal(asked)
	}
	answers["s11"] = `{"raftstore": {"region-max-bytes": 2000}}`
	put(11, 2)
	learn(1000)
	answers["s12"] = `{}`
	put(12, 2)
	learn(1000)
	c.stores.Put(&core.Store{Meta: &metapb.Store{Id: 10, State: metapb.StoreState_Tombstone}})
	learn(2000)
}
