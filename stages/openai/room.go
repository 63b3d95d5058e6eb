package openai

import (
	"errors"
	"maps"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// thinkingRoom is what a model may spend on reasoning that cannot be switched
	// off, in tokens.
	thinkingRoom = 1024
	// moreRoom is what it gets when it was found to think; all of max_output comes
	// after that.
	moreRoom = 2048
)

// roomier returns res and err, the answer to req, as one to ask again after when it
// ended at its cap before the translation began. What was learned of the room that
// answers take is remembered, for thoughts and for the target language.
func (p *Provider) roomier(req *core.Request, sent *params, res *core.Result, err error) (*core.Result, error) {
	short, thought := errors.AsType[*cutShort](err)
	if thought {
		res, err = short.res, nil
	}
	if sent.cap == "" {
		return res, err
	}
	had := p.cap(req, sent)
	switch {
	case errors.Is(err, errSpent):
		if p.widen(had) {
			return nil, &askAgain{err}
		}
	case thought:
		// One that nobody has heard of is asked for again at once.
		if p.widen(had) && !short.heard {
			return nil, &askAgain{p.again(core.ProviderFailed, "the model spent its output on thoughts", nil)}
		}
	case res != nil && res.Finish == core.FinishLength && had < p.cfg.Request.MaxOutput && req.Attempt == 0:
		if p.scripts.widen(req.Target) {
			p.env.Log.Info("answers in this language take more tokens than they were given; they get more from now on", zap.String("target", string(req.Target)), zap.String("model", p.cfg.Model))
		}
	}
	return res, err
}

// widen makes more room for thoughts after a call with the cap had, and says whether
// there was any to be made.
func (p *Provider) widen(had int) bool {
	most := p.cfg.Request.MaxOutput
	if had >= most {
		return false
	}
	room := min(moreRoom, most)
	if had >= room {
		room = most
	}
	for {
		known := p.params.Load()
		if known.thinking >= room {
			return true // another call has learned it meanwhile
		}
		refused := known.refused
		refused.room = room
		if p.params.CompareAndSwap(known, p.known(refused)) {
			p.env.Log.Info("the model thinks before it answers, its answers get more room from now on", zap.Int("tokens", room), zap.String("model", p.cfg.Model))
			return true
		}
	}
}

// usualFactor is how many tokens of an answer there may be to a token of its text.
const usualFactor = 3

// factors are those of languages whose scripts are cut into small pieces by the
// tokenizers in use: up to a token a byte. It is written to by nobody.
var factors = map[string]int{
	"lo": 12, "my": 12, "km": 12, "am": 12, "ti": 12, "bo": 12, "dz": 12, "shn": 12, "mnw": 12, "ksw": 12, "or": 12, "ml": 12, "si": 12,
	"chr": 12, "iu": 12, "dv": 12, "nqo": 12, "sat": 12, "mni": 12, "zgh": 12, "syr": 12, "ii": 12, "ug": 6,
	"ta": 6, "te": 6, "kn": 6, "ka": 6, "hy": 6, "gu": 6, "pa": 6, "bn": 6, "as": 6, "ne": 6, "mr": 6, "hi": 6, "th": 6,
}

// scripts keeps how much room answers in a language were found to take. The zero
// value knows what factors says. It is safe for concurrent use.
type scripts struct {
	learned atomic.Pointer[map[string]int]
}

const (
	// maxFactor bounds what is learned: more is no translation.
	maxFactor = 24
	// maxLearned is of how many languages that is kept; clients choose them.
	maxLearned = 256
)

func (s *scripts) factor(target core.Language) int {
	base := target.Base()
	if learned := s.learned.Load(); learned != nil {
		if f := (*learned)[base]; f > 0 {
			return f
		}
	}
	if f := factors[base]; f > 0 {
		return f
	}
	return usualFactor
}

// widen doubles the factor of target and says whether it could.
func (s *scripts) widen(target core.Language) bool {
	now := s.factor(target)
	if now >= maxFactor {
		return false
	}
	for {
		former := s.learned.Load()
		var learned map[string]int
		if former != nil && len(*former) < maxLearned {
			learned = maps.Clone(*former)
		} else {
			learned = map[string]int{}
		}
		learned[target.Base()] = min(2*now, maxFactor)
		if s.learned.CompareAndSwap(former, &learned) {
			return true
		}
	}
}

// inherit takes over what from has learned.
func (s *scripts) inherit(from *scripts) { s.learned.Store(from.learned.Load()) }
