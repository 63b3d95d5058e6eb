// Package engine translates with Apertium, the rule-based translator that
// Debian packages, by keeping its process chains running: a sentence costs
// milliseconds then, and the first one of a chain a tenth of a second. The
// output is rough.
//
// Apertium cannot be trusted to keep two texts apart by itself: a stray
// character of one can swallow the end of it. So one text is in flight in a
// chain, each carries a token of its own that must come back at its place, and a
// chain that misbehaves in any way is killed and replaced, never resynchronised.
package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Options of an Engine. Every field may stay zero.
type Options struct {
	// Installed is what to use; Find() when nil.
	Installed *Installed
	// Chains is how many process chains of a pair may run at once; 2 when 0.
	// They are started when they are needed. One of English to Spanish is 11
	// processes.
	Chains int
	// Idle is how long a chain without work is kept; 5 minutes when 0.
	Idle time.Duration
	// Timeout is how long a part of a text of at most 4 KiB may take before its
	// chain is replaced; 2 s when 0.
	Timeout time.Duration
}

// MaxText is the longest text taken, in bytes.
const MaxText = 64 << 10

// maxPart is how much of a text goes through a chain at once, in bytes.
const maxPart = 4 << 10

// startTimeout is how long a new chain has for its first sign of life, which
// includes loading its dictionaries.
const startTimeout = 15 * time.Second

// An Engine translates. Its methods may be called from any goroutine.
type Engine struct {
	options Options
	ctx     context.Context // over when the engine closes
	stop    context.CancelFunc
	running sync.WaitGroup
	texts   atomic.Uint64
	started atomic.Int64

	mu     sync.Mutex
	closed bool
	pairs  map[string]*pair // by name of the mode
}

// A pair is the chains of one mode.
type pair struct {
	mode  Mode
	slots chan struct{}
	idle  []*chain // guarded by Engine.mu; the last one was used last
}

// New returns an engine for what is installed. It starts no process: the first
// text of a pair does. The error is of kind unavailable when nothing is
// installed.
func New(o Options) (*Engine, error) {
	if o.Installed == nil {
		found, err := Find()
		if err != nil {
			return nil, err
		}
		o.Installed = found
	}
	if o.Chains == 0 {
		o.Chains = 2
	}
	if o.Idle == 0 {
		o.Idle = 5 * time.Minute
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	e := &Engine{options: o, pairs: map[string]*pair{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	for _, m := range o.Installed.Modes {
		e.pairs[m.Name] = &pair{mode: m, slots: make(chan struct{}, o.Chains)}
	}
	return e, nil
}

// Warm starts one chain of each pair in the background, one after the other and
// of the first most pairs only, those with English first: what is translated
// most. The first text of such a pair does not wait for its dictionaries then.
// A pair that cannot be started says so to its first text.
func (e *Engine) Warm(most int) {
	modes := slices.Clone(e.options.Installed.Modes)
	english := func(m Mode) bool { return m.Source.Base() == "en" || m.Target.Base() == "en" }
	slices.SortStableFunc(modes, func(a, b Mode) int {
		switch {
		case english(a) == english(b):
			return 0
		case english(a):
			return -1
		}
		return 1
	})
	e.spawn(func() {
		for _, m := range modes[:min(most, len(modes))] {
			e.warm(e.pairs[m.Name])
		}
	})
}

// warm makes sure that a chain of p runs, unless texts have seen to that.
func (e *Engine) warm(p *pair) {
	e.mu.Lock()
	busy := e.closed || len(p.idle) > 0 || len(p.slots) > 0
	e.mu.Unlock()
	if busy {
		return
	}
	select {
	case p.slots <- struct{}{}:
	case <-e.ctx.Done():
		return
	}
	defer func() { <-p.slots }()
	if c, err := e.take(p); err == nil {
		e.put(p, c)
	}
}

// Pairs returns the directions that the engine translates in, sorted.
func (e *Engine) Pairs() []Pair {
	var all []Pair
	for _, m := range e.options.Installed.Modes {
		all = append(all, Pair{m.Source, m.Target})
	}
	slices.SortFunc(all, func(a, b Pair) int {
		return strings.Compare(string(a.Source)+" "+string(a.Target), string(b.Source)+" "+string(b.Target))
	})
	return slices.Compact(all)
}

// Translate returns text in target. Lines stay lines, and white space round
// them stays as it is. Every error is a *core.Error: unsupported_language for a
// pair that is not installed, unavailable and retryable when a chain failed and
// was killed. When ctx ends first the chain finishes the text by itself.
func (e *Engine) Translate(ctx context.Context, text string, source, target core.Language) (string, error) {
	return e.Stream(ctx, text, source, target, nil)
}

// Stream is Translate, and calls heard, unless it is nil, with pieces of the answer
// as they come, sentence by sentence: joined they are the answer. An error of heard
// ends the call and is returned as it is. A sentence that goes through the chain by
// itself may be translated a little otherwise than among its neighbours.
func (e *Engine) Stream(ctx context.Context, text string, source, target core.Language, heard func(string) error) (string, error) {
	if err := check(text); err != nil {
		return "", err
	}
	mode, ok := e.options.Installed.find(source, target)
	if !ok {
		return "", e.unsupported(source, target)
	}
	if strings.TrimSpace(text) == "" {
		return text, nil // in one piece, which nobody waits for
	}
	p := e.pairs[mode.Name]
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return "", core.ContextError(ctx, "")
	case <-e.ctx.Done():
		return "", errClosed()
	}
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	cuts := parts(text)
	if heard != nil {
		cuts = sentences(text)
	}
	all := slices.Collect(cuts)
	pieces := make(chan string, len(all)) // so a chain never waits for who hears
	if !e.spawn(func() {
		defer func() { <-p.slots }()
		text, err := e.run(p, all, pieces)
		close(pieces)
		done <- answer{text, err}
	}) {
		<-p.slots
		return "", errClosed()
	}
	for pieces != nil {
		select {
		case piece, ok := <-pieces:
			if !ok {
				pieces = nil
				break
			}
			if heard != nil {
				if err := heard(piece); err != nil {
					return "", err
				}
			}
		case <-ctx.Done():
			return "", core.ContextError(ctx, "")
		}
	}
	a := <-done
	if a.err != nil {
		return "", failed(a.err)
	}
	return a.text, nil
}

func check(text string) error {
	bad := func(kind core.ErrorKind, why string) error {
		return &core.Error{Kind: kind, Field: "text", Detail: why}
	}
	switch {
	case len(text) > MaxText:
		return bad(core.TooLarge, fmt.Sprintf("the text has more than %d bytes", MaxText))
	case !utf8.ValidString(text):
		return bad(core.InvalidRequest, "the text is not valid UTF-8")
	case strings.ContainsRune(text, 0):
		return bad(core.InvalidRequest, "the text has a NUL in it")
	}
	return nil
}

func (e *Engine) unsupported(source, target core.Language) error {
	if source == "" {
		return &core.Error{Kind: core.UnsupportedLanguage, Field: "source",
			Detail: "Apertium does not detect the source language: name it"}
	}
	var has []string
	for _, p := range e.Pairs() {
		has = append(has, fmt.Sprintf("%s to %s", p.Source, p.Target))
	}
	return &core.Error{Kind: core.UnsupportedLanguage, Field: "target",
		Detail: fmt.Sprintf("Apertium has no data for %s to %s here; it has %s", source, target, strings.Join(has, ", "))}
}

func errClosed() error {
	return &core.Error{Kind: core.Unavailable, Detail: "the Apertium engine is closed"}
}

func failed(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return errClosed()
	}
	return &core.Error{Kind: core.Unavailable, Retryable: true, Cause: cause,
		Detail: "the Apertium process chain failed and is being replaced"}
}

// spawn runs work on a goroutine that Close waits for, unless closed.
func (e *Engine) spawn(work func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.running.Go(work)
	return true
}

// run translates parts in a chain of p, and sends each to pieces, which has room.
func (e *Engine) run(p *pair, parts []string, pieces chan<- string) (string, error) {
	c, err := e.take(p)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, part := range parts {
		got, err := c.exchange(e.ctx, newFrame(part, e.token()), e.options.Timeout)
		if err != nil {
			c.kill()
			return "", err
		}
		out.WriteString(got)
		pieces <- got
	}
	e.put(p, c)
	return out.String(), nil
}

// token is different for every text of this engine, and no word of any
// language.
func (e *Engine) token() string { return "dragoman" + strconv.FormatUint(e.texts.Add(1), 10) }

// parts cuts text into parts of at most maxPart bytes: between lines where
// that is possible, else between sentences, else between words.
func parts(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for text != "" {
			n := cut(text)
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

func cut(text string) int {
	if len(text) <= maxPart {
		return len(text)
	}
	head := text[:maxPart]
	for _, end := range []string{"\n", ". ", " "} {
		if i := strings.LastIndex(head, end); i >= 0 {
			return i + len(end)
		}
	}
	n := maxPart
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}

// maxPieces bounds how many pieces a text is heard in: each goes through the chain
// by itself, which takes some milliseconds.
const maxPieces = 32

// sentences cuts text into at most maxPieces parts, beside what parts cuts anyway:
// after lines and after sentences, as far as a sentence can be told from an
// abbreviation.
func sentences(text string) iter.Seq[string] {
	least := len(text)/maxPieces + 1
	return func(yield func(string) bool) {
		for text != "" {
			n := cut(text)
			if end := sentence(text[:n], least); end > 0 {
				n = end
			}
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

// sentence is the length of what stands before the first end of a line or sentence
// that leaves at least least bytes before it, with the white space behind it; 0 for
// none. A rest without a word stays with what it follows.
func sentence(text string, least int) int {
	for at, r := range text {
		space := at + utf8.RuneLen(r)
		if !unicode.IsSpace(r) || at < least || !ends(text[:at], r == '\n') {
			continue
		}
		for next, first := range text[space:] {
			if unicode.IsSpace(first) {
				continue
			}
			if r != '\n' && unicode.IsLower(first) {
				break // it goes on
			}
			return space + next
		}
	}
	return 0
}

// ends says whether a sentence ends behind before. A full stop behind a capital and
// at most three letters, as in "Mr.", may be none.
func ends(before string, line bool) bool {
	if line {
		return true
	}
	words := strings.TrimRight(before, `"')]}»”’`)
	last, n := utf8.DecodeLastRuneInString(words)
	if last != '.' {
		return last == '!' || last == '?' || last == '…'
	}
	word := words[:len(words)-n]
	word = word[strings.LastIndexFunc(word, func(r rune) bool { return !unicode.IsLetter(r) })+1:]
	first, _ := utf8.DecodeRuneInString(word)
	return !unicode.IsUpper(first) || utf8.RuneCountInString(word) > 4
}

// take returns a chain that works: the one used last, or a new one.
func (e *Engine) take(p *pair) (*chain, error) {
	for {
		e.mu.Lock()
		var c *chain
		if last := len(p.idle) - 1; last >= 0 {
			c = p.idle[last]
			p.idle = p.idle[:last]
			c.idle.Stop()
		}
		e.mu.Unlock()
		if c == nil {
			break
		}
		if c.fit() == nil {
			return c, nil
		}
		c.kill()
	}
	c, err := startChain(p.mode)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.mode.Name, err)
	}
	e.started.Add(1)
	if _, err := c.exchange(e.ctx, newFrame("", e.token()), startTimeout); err != nil {
		c.kill()
		return nil, fmt.Errorf("start %s: %w", p.mode.Name, err)
	}
	return c, nil
}

// put gives a chain back.
func (e *Engine) put(p *pair, c *chain) {
	e.mu.Lock()
	closed := e.closed
	if !closed {
		c.idle = time.AfterFunc(e.options.Idle, func() { e.retire(p, c) })
		p.idle = append(p.idle, c)
	}
	e.mu.Unlock()
	if closed {
		c.kill()
	}
}

// retire ends a chain that nobody has needed.
func (e *Engine) retire(p *pair, c *chain) {
	e.spawn(func() {
		e.mu.Lock()
		i := slices.Index(p.idle, c)
		if i >= 0 {
			p.idle = slices.Delete(p.idle, i, i+1)
		}
		e.mu.Unlock()
		if i >= 0 {
			c.kill()
		}
	})
}

// Close ends all chains and returns when nothing of them is left. A text in
// flight fails.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.running.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.pairs {
		for _, c := range p.idle {
			c.idle.Stop()
			c.kill()
		}
		p.idle = nil
	}
	return nil
}
