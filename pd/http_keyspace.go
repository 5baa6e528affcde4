package pd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pingcap/kvproto/pkg/keyspacepb"

	"github.com/copradb/copra/pd/keyspace"
)

func (s *Server) httpKeyspaces(t *term, _ *http.Request) (any, error) {
	list := []keyspaceJSON{}
	for _, ks := range t.keyspaces.List(0, keyspaceListMax) {
		list = append(list, keyspaceInfo(ks))
	}
	return map[string]any{"keyspaces": list, "next_page_token": ""}, nil
}

type keyspaceJSON struct {
	ID             uint32            `json:"id"`
	Name           string            `json:"name"`
	State          string            `json:"state"`
	CreatedAt      int64             `json:"created_at"`
	StateChangedAt int64             `json:"state_changed_at"`
	Config         map[string]string `json:"config"`
}

func keyspaceInfo(ks *keyspacepb.KeyspaceMeta) keyspaceJSON {
	return keyspaceJSON{ks.Id, ks.Name, ks.State.String(), ks.CreatedAt, ks.StateChangedAt, ks.Config}
}

func keyspaceAnswer(ks *keyspacepb.KeyspaceMeta, err error) (any, error) {
	switch {
	case errors.Is(err, keyspace.ErrNotFound):
		return nil, notFound(err)
	case err != nil && isServerError(err):
		return nil, err
	case err != nil:
		return nil, badRequest(err)
	}
	return keyspaceInfo(ks), nil
}

func (s *Server) httpKeyspace(t *term, r *http.Request) (any, error) {
	return keyspaceAnswer(t.keyspaces.ByName(r.PathValue("name")))
}

func (s *Server) httpKeyspaceByID(t *term, r *http.Request) (any, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
	if err != nil {
		return nil, badRequest(fmt.Errorf("pd: %q is no keyspace id", r.PathValue("id")))
	}
	return keyspaceAnswer(t.keyspaces.ByID(uint32(id)))
}

func (s *Server) httpCreateKeyspace(t *term, r *http.Request) (any, error) {
	var req struct {
		Name   string            `json:"name"`
		Config map[string]string `json:"config"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, badRequest(fmt.Errorf("pd: the keyspace is no JSON object: %w", err))
	}
	return keyspaceAnswer(t.keyspaces.Create(r.Context(), req.Name, req.Config))
}

func (s *Server) httpKeyspaceState(t *term, r *http.Request) (any, error) {
	var req struct {
		State string `json:"state"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, badRequest(fmt.Errorf("pd: the state is no JSON object: %w", err))
	}
	state, ok := keyspacepb.KeyspaceState_value[strings.ToUpper(req.State)]
	if !ok {
		return nil, badRequest(fmt.Errorf("pd: there is no keyspace state %q", req.State))
	}
	ks, err := t.keyspaces.ByName(r.PathValue("name"))
	if err == nil {
		ks, err = t.keyspaces.SetState(r.Context(), ks.Id, keyspacepb.KeyspaceState(state))
	}
	return keyspaceAnswer(ks, err)
}
