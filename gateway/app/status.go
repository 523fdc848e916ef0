package app

import (
	"os"
	"strings"

	"edgegateway/gateway/alert"
	"edgegateway/gateway/dashboard"
	"edgegateway/gateway/dataset"
	"edgegateway/gateway/learn"
	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/upstream"
	"edgegateway/infer"
)

// Status is the gateway as a person looks at it.
type Status struct {
	Gateway string              `json:"gateway"`
	Process int                 `json:"process"`
	Config  string              `json:"config"` // the file that a reload reads
	Ready   bool                `json:"ready"`
	Broker  []string            `json:"broker"`
	Clients int                 `json:"clients"`
	Streams []pipeline.Status   `json:"streams"`
	Models  []infer.ModelStatus `json:"models"`
	Alerts  []alert.Event       `json:"alerts"` // those that are raised
	Links   []LinkStatus        `json:"upstream"`
	Sets    []dataset.Status    `json:"datasets,omitempty"` // of the streams that record
	FL      *learn.Status       `json:"fl,omitempty"`       // where it takes part
	Reload  *ReloadStatus       `json:"reload"`
}

// ReloadStatus is how the last reload of the configuration went.
type ReloadStatus struct {
	Count int    `json:"count"` // since the start, with those that were refused
	Error string `json:"error,omitempty"`
}

// LinkStatus is one way up.
type LinkStatus struct {
	Name           string          `json:"name"`
	Bridge         upstream.Status `json:"bridge"`
	PendingAlerts  int             `json:"pending_alerts"`
	PendingResults int             `json:"pending_results"`
}

// Status gives the present state; it satisfies dashboard.Source.
func (a *App) Status() any {
	s := Status{
		Gateway: a.name, Process: os.Getpid(), Config: a.file, Ready: a.ready.Load(), Broker: a.broker.Addrs(), Clients: a.broker.Clients(),
		Streams: list(a.pipe.Status()), Models: list(a.engine.Models()), Alerts: list(a.alerts.Active()), Links: []LinkStatus{},
		Reload: a.reloaded.Load(), Sets: a.sets.Status(), FL: a.learn.Status(),
	}
	for _, l := range a.out.links {
		ls := LinkStatus{Name: l.name, Bridge: l.bridge.Status()}
		ls.PendingAlerts, ls.PendingResults = l.outbox.Pending()
		s.Links = append(s.Links, ls)
	}
	return s
}

// list is a list that is [] as JSON where there is nothing, not null.
func list[T any](l []T) []T { return append([]T{}, l...) }

// Ready says whether the broker accepts.
func (a *App) Ready() bool { return a.ready.Load() }

// Health lists the parts. A cloud out of reach, a slow delegate or a training
// that fails is no illness, the gateway is built to go on without; a disk that
// takes nothing is,
// and so is a store of versions that was damaged, until somebody looked at it,
// and a model whose live version cannot be served.
func (a *App) Health() []dashboard.Health {
	all := []dashboard.Health{{Part: "broker", OK: a.ready.Load()}}
	if !all[0].OK {
		all[0].Detail = "does not accept"
	}
	all = append(all, a.storeHealth())
	st, _ := a.store.State() // storeHealth says what is wrong
	for _, m := range a.engine.Models() {
		h := dashboard.Health{Part: "model " + m.Name, OK: true, Detail: m.Delegate + ": " + m.Why}
		if m.Version != "" {
			h.Detail = "version " + m.Version + ", " + h.Detail
		}
		if of := st.Models[m.Name]; of != nil && of.Live != "" && of.Find(of.Live).Broken != "" {
			h.OK, h.Detail = false, "version "+of.Live+" is to be live: "+of.Find(of.Live).Broken
		}
		all = append(all, h)
	}
	for _, l := range a.out.links {
		st := l.bridge.Status()
		detail := "connected"
		if !st.Connected {
			detail = "not connected: " + st.LastError
		}
		all = append(all, dashboard.Health{Part: "upstream " + l.name, OK: true, Detail: detail})
		if why := l.failing.Load(); why != nil {
			all = append(all, dashboard.Health{Part: "outbox " + l.name, Detail: "takes nothing, results are lost: " + *why})
		} else {
			all = append(all, dashboard.Health{Part: "outbox " + l.name, OK: true})
		}
	}
	for _, s := range a.sets.Status() {
		h := dashboard.Health{Part: "dataset " + s.Stream, OK: s.Error == ""}
		if !h.OK {
			h.Detail = "samples are not kept: " + s.Error
		}
		all = append(all, h)
	}
	if s := a.learn.Status(); s != nil {
		for i := range s.Tasks {
			all = append(all, dashboard.Health{Part: "fl " + s.Name(i), OK: true, Detail: s.Tasks[i].Line()})
		}
	}
	return all
}

// stateDamaged says what became of a store whose state file was damaged.
const stateDamaged = "the state of the versions was damaged or gone: the files that the configuration names serve, and what was live nobody knows; " +
	"activate again what shall be live, then remove the file that tells of it"

// storeHealth says whether the versions are known.
func (a *App) storeHealth() dashboard.Health {
	h := dashboard.Health{Part: "versions"}
	if _, err := a.store.State(); err != nil {
		h.Detail = "what is live goes on, and nothing else can become it: " + err.Error()
	} else if aside := a.store.Aside(); len(aside) > 0 {
		h.Detail = stateDamaged + ": " + strings.Join(aside, ", ")
	} else {
		h.OK = true
	}
	return h
}
