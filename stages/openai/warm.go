package openai

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// Some servers load a model when it is asked for, unload it when it is not, and give a
// load up when the one who asked leaves: a request with a deadline of some seconds never
// gets an answer of them. So the load is made by a call that nobody waits for.

const (
	// longestLoad is how long one load may take.
	longestLoad = 10 * time.Minute
	// loadAgain is how long after a failed one the next begins, doubled up to
	// loadSlowest.
	loadAgain   = time.Second
	loadSlowest = time.Minute
)

// errLoading is why a provider is not ready whose model is being loaded.
var errLoading = &core.Error{Kind: core.Unavailable, Detail: "its model is being loaded"}

// stayWarm makes a call at once and whenever there was none for as long as warm says,
// until ctx ends.
func (p *Provider) stayWarm(ctx context.Context) {
	again := loadAgain
	for pause := time.Duration(0); ; {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if last := p.answered.Load(); last != nil && p.loaded.Load() {
			if idle := time.Since(*last); idle < p.cfg.Warm {
				pause = p.cfg.Warm - idle
				continue
			}
		}
		begin := time.Now()
		_, err := p.translate(ctx, &core.Request{Text: "Good morning.", Source: "en", Target: "es", Trace: core.NewTrace(nil)}, longestLoad)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if again == loadAgain {
				p.env.Log.Warn("the model cannot be loaded now; it is tried again", zap.String("model", p.cfg.Model), zap.Error(err))
			}
			p.loaded.Store(false)
			pause, again = again, min(2*again, loadSlowest)
			continue
		case !p.loaded.Swap(true):
			p.env.Log.Info("the model is loaded", zap.String("model", p.cfg.Model), zap.Duration("took", time.Since(begin)))
		}
		pause, again = p.cfg.Warm, loadAgain
	}
}
