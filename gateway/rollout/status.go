package rollout

import (
	"time"

	"edgegateway/infer/store"
)

// The steps of a version, as status messages and the audit log name them.
const (
	StepAdded      = "added"       // to the store
	StepRemoved    = "removed"     // from it, by somebody or to make room
	StepTrying     = "trying"      // its pre-flight began
	StepPassed     = "passed"      // its pre-flight
	StepFailed     = "failed"      // it is not live, and why
	StepLive       = "live"        // it answers from now on
	StepActivated  = "activated"   // it is live by command, no gateway was running
	StepRolledBack = "rolled_back" // it was live; the one before answers again
	StepShadow     = "shadow"      // it is asked too, beside the live one
	StepCanary     = "canary"      // it answers for some of the sources
	StepWithdrawn  = "withdrawn"   // somebody does not want it any more
	StepStart      = "start"       // of the gateway
	StepStop       = "stop"        // of the gateway, not killed
)

// counted are the steps of a model's versions.
var counted = []string{StepAdded, StepRemoved, StepTrying, StepPassed, StepFailed, StepLive, StepRolledBack, StepWithdrawn}

// Status is the message that stays on models/NAME/status.
type Status struct {
	Model    string      `json:"model"`
	Version  string      `json:"version,omitempty"`  // the one that answers; "": the configuration's file
	Broken   string      `json:"broken,omitempty"`   // why that is not the one that is to be live
	Previous string      `json:"previous,omitempty"` // the one before it
	Wanted   *store.Want `json:"wanted,omitempty"`   // what is not done yet
	Step     string      `json:"step"`               // the last one
	Of       string      `json:"of,omitempty"`       // the version that the step was of
	Why      string      `json:"why,omitempty"`
	By       string      `json:"by,omitempty"`
	Time     time.Time   `json:"time"`
}

// Topic is where the status of a model is published.
func Topic(model string) string { return "models/" + model + "/status" }

// ReportTopic is where the report of a model's last pre-flight is published.
func ReportTopic(model string) string { return "models/" + model + "/report" }

// step tells all who want to know: the log, the audit log, those who look from
// outside.
func (r *Rollout) step(e Entry) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	r.steps.WithLabelValues(e.Model, e.Step).Inc()
	line := r.log.Info()
	if e.Step == StepFailed || e.Step == StepRolledBack {
		line = r.log.Warn()
	}
	line.Str("model", e.Model).Str("version", e.Version).Str("why", e.Why).Msg(e.Step)
	if err := r.audit.add(e); err != nil {
		r.log.Error().Err(err).Msg("the audit log takes nothing")
	}
	if r.g.Say != nil {
		r.g.Say(Topic(e.Model), r.status(e.Model, e))
	}
}

// announce says at the start how the models are: the last step of each.
func (r *Rollout) announce() {
	st, err := r.g.Store.State()
	if err != nil {
		return // look says it
	}
	last := map[string]Entry{}
	entries, _ := r.audit.Entries() // what is not there is not said
	for _, e := range entries {
		last[e.Model] = e
	}
	for name, m := range st.Models {
		e, ok := last[name]
		if e.Step == StepActivated {
			e.Step = StepLive
		}
		switch {
		case m.Live != "" && m.Find(m.Live).Broken != "":
			if e.Step != StepFailed || e.Version != m.Live {
				e, ok = Entry{Step: StepFailed, Version: m.Live, Why: m.Find(m.Live).Broken, Time: time.Now().UTC()}, true
			}
		case m.Live != "" && (!ok || e.Step == StepLive && e.Version != m.Live): // made live while no gateway ran
			e, ok = Entry{Step: StepLive, Version: m.Live, Why: m.Find(m.Live).Why, Time: time.Now().UTC()}, true
		case m.Live == "" && e.Step == StepLive:
			e.Step, e.Why, e.Time = StepFailed, "the store knows no more that it was live; the configuration's file answers", time.Now().UTC()
		}
		if ok {
			r.g.Say(Topic(name), r.status(name, e))
		}
	}
}
