package speech

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

// A Plan is what `openai-sim play` is asked for, as JSON on its standard input: one trace,
// played once for each run in virtual time. It answers with the runs, as they were Played.
type Plan struct {
	Trace    []traffic.Event `json:"trace"`
	Targets  []core.Language `json:"targets"`
	Deadline time.Duration   `json:"deadline_ns"` // what makes a final late
	Runs     []Run           `json:"runs"`
}

// A Run is a policy, or without one the client that asks for every revision.
type Run struct {
	Name   string       `json:"name"`
	Policy *live.Config `json:"policy,omitempty"`
}

// Played is what a run was measured to be, with what a page shows of it.
type Played struct {
	Measured
	Lags  []Point           `json:"lags"`
	Views map[string][]View `json:"views"`
}

// PlayedOf is a measured run as it is sent.
func PlayedOf(m Measured) Played { return Played{m, m.Lags, m.Views} }

// maxComplaint bounds what is read of the program's complaint.
const maxComplaint = 2000

// Play has openai-sim, which stands beside this program, play the plan.
func (p Plan) Play(ctx context.Context) (all []Measured, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return p.PlayWith(ctx, filepath.Join(filepath.Dir(self), "openai-sim"))
}

// PlayWith has this openai-sim play the plan.
func (p Plan) PlayWith(ctx context.Context, program string) (all []Measured, err error) {
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("openai-sim, which simulates the provider, is not beside this program: `make build` builds both (%w)", err)
	}
	plan, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "play")
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(plan), &complaint
	raw, err := cmd.Output()
	if err != nil {
		said := strings.TrimSpace(complaint.String())
		return nil, fmt.Errorf("openai-sim play: %w\n%s", err, said[max(0, len(said)-maxComplaint):])
	}
	var played []Played
	if err := json.Unmarshal(raw, &played); err != nil || len(played) != len(p.Runs) {
		return nil, fmt.Errorf("openai-sim is not of the same version as this program: it answers a plan of %d runs with %d (%v)", len(p.Runs), len(played), err)
	}
	for _, one := range played {
		m := one.Measured
		m.Lags, m.Views = one.Lags, one.Views
		all = append(all, m)
	}
	return all, nil
}
