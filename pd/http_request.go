package pd

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/schedule"
)

// readJSON decodes the request's body.
func readJSON(r *http.Request, v any, what string) error {
	err := json.NewDecoder(r.Body).Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return &httpError{http.StatusRequestEntityTooLarge, fmt.Errorf("pd: the request has more than %d bytes", tooLarge.Limit)}
	case errors.Is(err, io.EOF):
		return badRequest(fmt.Errorf("pd: the request has no body: send %s as JSON", what))
	}
	return badRequest(fmt.Errorf("pd: %s: not the JSON that is expected: %w", what, err))
}

// requestError gives an error the status that fits it: what somebody asks for
// is wrong, is not there, or is in the way of something else, unless PD fails.
func requestError(err error) error {
	var he *httpError
	var etcd rpctypes.EtcdError
	switch {
	case err == nil, errors.As(err, &he), isServerError(err), errors.Is(err, errNotBootstrapped), errors.As(err, &etcd):
		return err
	case errors.Is(err, errStoreNotFound), errors.Is(err, errRegionUnknown), errors.Is(err, placement.ErrNotFound),
		errors.Is(err, labeler.ErrNotFound), errors.Is(err, schedule.ErrSchedulerNotFound):
		return notFound(err)
	case errors.Is(err, schedule.ErrHasOperator), errors.Is(err, schedule.ErrSchedulerExists):
		return &httpError{http.StatusConflict, err}
	case errors.Is(err, errStoreTombstone):
		return &httpError{http.StatusGone, err}
	}
	if _, ok := status.FromError(err); ok {
		return err // a call failed
	}
	return badRequest(err)
}

// done answers for something that only has to succeed.
func done(answer string, err error) (any, error) {
	if err != nil {
		return nil, requestError(err)
	}
	return answer, nil
}

func pathID(r *http.Request) (uint64, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, badRequest(fmt.Errorf("pd: %q is no id", r.PathValue("id")))
	}
	return id, nil
}

// flagParam reports whether a parameter is there, and is not false.
func flagParam(r *http.Request, name string) bool {
	return r.URL.Query().Has(name) && r.URL.Query().Get(name) != "false"
}

// intParam is a whole number among the query's parameters.
func intParam(q url.Values, name string, def int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, badRequest(fmt.Errorf("pd: %s=%q is no number", name, text))
	}
	return n, nil
}

// keyParam is a key, as it is or in hexadecimal.
func keyParam(text, format string) ([]byte, error) {
	switch format {
	case "", "raw":
		return []byte(text), nil
	case "hex":
		key, err := hex.DecodeString(text)
		if err != nil {
			return nil, badRequest(fmt.Errorf("pd: the key %q is not hexadecimal", text))
		}
		return key, nil
	}
	return nil, badRequest(fmt.Errorf("pd: format=%q is neither hex nor raw", format))
}

// hexRange is a range of keys in hexadecimal.
func hexRange(start, end string) (from, to []byte, err error) {
	if from, err = keyParam(start, "hex"); err != nil {
		return nil, nil, err
	}
	to, err = keyParam(end, "hex")
	return from, to, err
}
