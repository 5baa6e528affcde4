package tikv

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// configBodyBytesMax bounds a change of the settings.
const configBodyBytesMax = 64 << 10

// changeConfig changes settings of a node that runs, with TiKV's names: a JSON
// object of names and values. All of them are changed, or none.
func (n *Node) changeConfig(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, configBodyBytesMax))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(body, &values); err != nil {
		http.Error(w, "settings are one JSON object: "+err.Error(), http.StatusBadRequest)
		return
	}
	var apply []func()
	for name, v := range values {
		set, err := n.setting(name, v)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		apply = append(apply, set)
	}
	for _, set := range apply {
		set()
	}
	n.log.Info("settings changed", "values", string(body))
}

// setting checks one value and returns what sets it.
func (n *Node) setting(name string, v json.RawMessage) (func(), error) {
	if string(v) == "null" { // which json takes for false
		return nil, fmt.Errorf("%s: null is no value", name)
	}
	switch name {
	case "slow-log-threshold":
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return nil, fmt.Errorf("%s: want a duration as a string, such as \"500ms\"", name)
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return func() { n.slow.SetThreshold(d) }, nil
	case "security.redact-info-log":
		var on bool
		if err := json.Unmarshal(v, &on); err != nil {
			return nil, fmt.Errorf("%s: want true or false", name)
		}
		return func() { n.slow.SetRedact(on) }, nil
	}
	return nil, fmt.Errorf("%s cannot be changed while the store runs; slow-log-threshold and security.redact-info-log can", name)
}
