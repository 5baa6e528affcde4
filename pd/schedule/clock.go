package schedule

import (
	"log/slog"
	"math/rand/v2"
	"time"
)

// NewSimulated returns a controller that lives on the given time and picks at
// random from the given seed. Who made it calls Patrol, Balance and Sweep
// instead of Run.
func NewSimulated(cluster Cluster, log *slog.Logger, now func() time.Time, seed uint64) *Controller {
	c := newController(cluster, log, nil, now)
	c.rnd = rand.New(rand.NewPCG(seed, 0))
	return c
}
