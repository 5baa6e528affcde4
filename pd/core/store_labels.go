package core

import "strings"

// Label is the value of the store's label, "" where it has none. Keys compare
// without regard to case, as in PD.
func (s *Store) Label(key string) string {
	for _, l := range s.Meta.Labels {
		if strings.EqualFold(l.Key, key) {
			return l.Value
		}
	}
	return ""
}

// CompareLocation returns the index of the first of the labels, from the
// widest to the narrowest, in which the stores differ; -1 where they are at the
// same place. A store without a label is where all others without it are.
func (s *Store) CompareLocation(o *Store, labels []string) int {
	for i, key := range labels {
		if !strings.EqualFold(s.Label(key), o.Label(key)) {
			return i
		}
	}
	return -1
}
