package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// statusPage is the HTTP endpoint of a SQL node or a playground: a page for
// people, /metrics, /status (JSON), /healthz and profiles.
type statusPage struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

// statusInfo is what the page shows and /status returns.
type statusInfo struct {
	Version string            `json:"version"`
	Started time.Time         `json:"started"`
	Connect map[string]string `json:"connect"`
	Stores  []storeInfo       `json:"stores,omitempty"`
}

type storeInfo struct {
	ID      uint64 `json:"id"`
	Address string `json:"address"`
	Status  string `json:"status_address"`
	Regions int    `json:"regions"`
	Leaders int    `json:"leaders"`
}

var statusTemplate = template.Must(template.New("status").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>copra</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #ddd}
code{background:#f4f4f4;padding:.1rem .3rem;border-radius:3px}</style>
<h1>copra <small>{{.Version}}</small></h1><p>Up since {{.Started.Format "2006-01-02 15:04:05 MST"}}.</p>
<h2>Connect</h2><table>{{range $k, $v := .Connect}}<tr><td>{{$k}}</td><td><code>{{$v}}</code></td></tr>{{end}}</table>
{{if .Stores}}<h2>Stores</h2><table><tr><th>store</th><th>address</th><th>regions</th><th>leaders</th><th></th></tr>
{{range .Stores}}<tr><td>{{.ID}}</td><td>{{.Address}}</td><td>{{.Regions}}</td><td>{{.Leaders}}</td><td><a href="http://{{.Status}}/regions">regions</a> <a href="http://{{.Status}}/metrics">metrics</a></td></tr>{{end}}</table>{{end}}
<p><a href="/metrics">metrics</a> · <a href="/status">status as JSON</a> · <a href="/debug/pprof/">profiles</a></p></html>
`))

func startStatus(addr string, gatherer prometheus.Gatherer, info func() statusInfo) (*statusPage, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("status address %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(info()) // the client may be gone
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = statusTemplate.Execute(w, info()) // the client may be gone
	})
	p := &statusPage{listener: l, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return
		}
	}()
	return p, nil
}

func (p *statusPage) addr() string { return p.listener.Addr().String() }

func (p *statusPage) stop() {
	_ = p.server.Close()
	<-p.done
}
