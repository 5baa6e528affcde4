package gcworker

import (
	"fmt"
	"strconv"
	"time"
)

// Defaults and limits of Settings.
const (
	LifeTimeDefault    = 10 * time.Minute
	RunIntervalDefault = time.Minute
	// LifeTimeMin leaves SQL nodes the time to publish what they read.
	LifeTimeMin    = 10 * time.Second
	RunIntervalMin = time.Second
)

// Settings can be changed while the cluster runs.
type Settings struct {
	Enabled     bool
	LifeTime    time.Duration // how long old versions are kept
	RunInterval time.Duration
}

// DefaultSettings are those of a new cluster.
func DefaultSettings() Settings {
	return Settings{Enabled: true, LifeTime: LifeTimeDefault, RunInterval: RunIntervalDefault}
}

// Names of the settings.
const (
	nameEnable      = "gc-enable"
	nameLifeTime    = "gc-life-time"
	nameRunInterval = "gc-run-interval"
)

// IsSetting reports whether a setting of PD's is one of these.
func IsSetting(name string) bool {
	return name == nameEnable || name == nameLifeTime || name == nameRunInterval
}

// Map is how the settings are shown and stored.
func (s Settings) Map() map[string]any {
	return map[string]any{nameEnable: s.Enabled, nameLifeTime: s.LifeTime.String(), nameRunInterval: s.RunInterval.String()}
}

// With returns the settings with the changes, or says which one is not possible.
func (s Settings) With(changes map[string]any) (Settings, error) {
	for name, v := range changes {
		var err error
		switch name {
		case nameEnable:
			if s.Enabled, err = strconv.ParseBool(fmt.Sprint(v)); err != nil {
				err = fmt.Errorf("pd: %s: %v is not true or false", name, v)
			}
		case nameLifeTime:
			s.LifeTime, err = duration(name, v, LifeTimeMin)
		case nameRunInterval:
			s.RunInterval, err = duration(name, v, RunIntervalMin)
		default:
			err = fmt.Errorf("pd: there is no setting %q of garbage collection", name)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func duration(name string, v any, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(fmt.Sprint(v))
	if err != nil {
		return 0, fmt.Errorf("pd: %s: %v is not a duration such as 10m", name, v)
	}
	if d < least {
		return 0, fmt.Errorf("pd: %s: %v is less than %v", name, d, least)
	}
	return d, nil
}
