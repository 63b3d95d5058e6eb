// Package native is Dragoman's own door: POST /v1/translate and GET
// /v1/languages, in JSON. Its README is the manual.
package native

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// name is this door's in logs and metrics.
const name = "native"

// maxName bounds session and segment, in code points: they are kept while a
// session lives.
const maxName = 128

// A Door is the handler of the native door. It is safe for concurrent use.
type Door struct {
	door.Teller
	buffers sync.Pool // of *bytes.Buffer

	// Those of package door; tests are less patient.
	heartbeat, patience time.Duration
}

var _ http.Handler = (*Door)(nil)

// New returns a door to service.
func New(service *door.Service, metrics *door.Metrics, log *zap.Logger) *Door {
	return &Door{
		Teller:    door.Teller{Door: name, Service: service, Metrics: metrics, Journal: door.NewJournal(log)},
		buffers:   sync.Pool{New: func() any { return new(bytes.Buffer) }},
		heartbeat: door.Heartbeat, patience: door.Patience,
	}
}

// Dialect returns d as one of the gateway's doors: it answers whatever no other door
// takes.
func (d *Door) Dialect() door.Dialect { return door.Dialect{Name: name, Serve: d} }

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/translate":
		if door.Allow(w, r, http.MethodPost) {
			d.translate(w, r)
		}
	case "/v1/languages":
		if door.Allow(w, r, http.MethodGet) {
			d.languages(w, r)
		}
	default:
		door.NotFound(w, r)
	}
}

func (d *Door) translate(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	id := door.RequestID(w, r)
	p, err := d.prepare(w, r, id)
	ctx := r.Context()
	if err == nil {
		// The client may only shorten what the service allows, and its time began
		// when its call arrived.
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, begin.Add(p.within))
		defer cancel()
		err = p.tab.Open(ctx, &d.Teller, p.rules, p.client, begin, door.Characters(p.requests))
	}
	if err != nil {
		d.refuse(w, r, id, p.client, begin, err)
		return
	}
	defer p.end(d.Service)

	if p.call.stream {
		status := d.stream(ctx, w, r, id, p, begin)
		d.Journal.Served(name, id, p.client, status, len(p.requests), time.Since(begin))
		return
	}
	items := door.Items(p.requests, func(req *core.Request) door.Item { return d.one(ctx, p, req) })
	for i := range items {
		p.settle(&items[i], i)
	}
	p.tab.Settle()
	status := d.answer(w, r, id, p, items, begin)
	d.Journal.Served(name, id, p.client, status, len(items), time.Since(begin))
}

// end comes when p has been answered, and nothing runs for it any more.
func (p *plan) end(s *door.Service) {
	p.tab.Close()
	for i := range p.requests {
		s.Traces.Return(p.requests[i].Trace)
	}
}

// one asks for one text of p.
func (d *Door) one(ctx context.Context, p *plan, req *core.Request) door.Item {
	if p.markup != nil {
		return d.OneMarked(ctx, &p.tab, req, *p.markup)
	}
	return d.One(ctx, &p.tab, req)
}

// refuse answers a call none of whose texts was asked for.
func (d *Door) refuse(w http.ResponseWriter, r *http.Request, id, client string, begin time.Time, err error) {
	d.Failed(r, id, client, begin, err)
	door.WriteError(w, r, err)
}

// settle gives item i what is this call's alone: the name of the text at fault, and
// that instructions were ignored.
func (p *plan) settle(it *door.Item, i int) {
	switch {
	case it.Err == nil && p.ignored:
		it.Result = it.Result.WithFlag(core.FlagInstructionsIgnored)
	case it.Err != nil && p.call.several && it.Err.Field == "text":
		named := *it.Err
		named.Field = "text[" + strconv.Itoa(i/p.targets) + "]"
		it.Err = &named
	}
}

// A plan is a call that was understood: texts outer, targets inner.
type plan struct {
	rules    *door.Rules
	tab      door.Tab
	call     *call
	client   string
	targets  int
	within   time.Duration
	ignored  bool         // the client's instructions are
	markup   *door.Markup // nil for plain text
	requests []core.Request
}

// prepare reads and checks a call. What is wrong with a single text is found
// later and fails that text alone; everything else fails the call, and the plan then tells
// no more than whose call it is, as far as that is known.
func (d *Door) prepare(w http.ResponseWriter, r *http.Request, id string) (*plan, error) {
	rules := d.Service.Rules().For(r)
	client, err := rules.Client(r, door.Bearer(r), name)
	if err != nil {
		return &plan{}, err
	}
	body, err := rules.Body(w, r, client)
	if err != nil {
		return &plan{client: client}, err
	}
	defer body.Close()
	c, err := decode(body.Bytes())
	if err != nil {
		return &plan{client: client}, err
	}
	if !c.has(fStream) {
		c.stream = takesStream(r)
	}
	p, err := d.plan(rules, c, client, id)
	if err != nil {
		return &plan{client: client}, err
	}
	if only := door.OnlyOf(r); only != "" {
		for i := range p.requests {
			p.requests[i].Only, p.requests[i].NoCache = only, true
		}
	}
	if linger := door.LingerOf(r); linger > 0 {
		for i := range p.requests {
			p.requests[i].Linger = linger
		}
	}
	return p, nil
}

func (d *Door) plan(rules *door.Rules, c *call, client, id string) (*plan, error) {
	if !c.has(fText) {
		return nil, missing(fText, `say what to translate: "text": "Good morning"`)
	}
	if len(c.texts) == 0 {
		return nil, invalid(names[fText], "text is an empty array; give at least one text")
	}
	source, targets, err := d.languagesOf(c)
	if err != nil {
		return nil, err
	}
	if n := len(c.texts) * len(targets); n > rules.MaxTexts {
		return nil, &core.Error{Kind: core.TooLarge, Field: names[fText], Detail: fmt.Sprintf("the call asks for %d translations (texts times targets); at most %d are taken (server.max_texts)", n, rules.MaxTexts)}
	}
	formality, err := c.tone()
	if err != nil {
		return nil, err
	}
	markup, err := c.markup()
	if err != nil {
		return nil, err
	}
	instructions, ignored, err := rules.ClientInstructions(c.instructions, names[fInstructions])
	if err != nil {
		return nil, err
	}
	earlier, unread, err := rules.ClientContext(c.earlier, c.around, names[fContext])
	if err != nil {
		return nil, err
	}
	rules, unused, err := d.glossary(rules, c, source, targets)
	if err != nil {
		return nil, err
	}
	if err := c.checkSession(); err != nil {
		return nil, err
	}
	within := rules.Deadline
	if c.has(fDeadline) {
		if c.deadlineMS <= 0 {
			return nil, &core.Error{Kind: core.DeadlineExceeded, Field: names[fDeadline], Detail: "deadline_ms is in the past; it counts the milliseconds that are left"}
		}
		if c.deadlineMS < within.Milliseconds() {
			within = time.Duration(c.deadlineMS) * time.Millisecond
		}
	}

	p := &plan{rules: rules, call: c, markup: markup, client: client, targets: len(targets), within: within, ignored: ignored || unread || unused}
	n := len(c.texts) * len(targets)
	p.requests = make([]core.Request, n)
	seats := core.NewSeats(n)
	for i := range p.requests {
		p.requests[i] = core.Request{
			ID: id, Text: c.texts[i/len(targets)], Source: source, Target: targets[i%len(targets)],
			Formality: formality, Context: earlier, Instructions: instructions,
			Client: client, Session: c.session, Segment: c.segment, Revision: c.revision,
			Final: c.final, Lane: door.Lane(c.final, c.bulk), NoCache: c.noCache,
			Trace: d.Service.Traces.Take(),
		}
		if n > 1 {
			p.requests[i].ID = id + "." + strconv.Itoa(i)
			p.requests[i].Batch = seats[i]
		}
	}
	return p, nil
}

// glossary returns rules with the glossary of c; ignored says that it has terms of its own,
// and the operator takes nothing of clients into a prompt.
func (d *Door) glossary(rules *door.Rules, c *call, source core.Language, targets []core.Language) (under *door.Rules, ignored bool, err error) {
	switch field := names[fGlossary]; {
	case len(c.terms) > 0 && len(targets) > 1:
		return nil, false, invalid(field, "glossary has terms for one target, and the call has several; make a call for each, or name a glossary")
	case len(c.terms) > 0:
		g, ignored, err := rules.ClientTerms(c.terms, source, targets[0], field)
		if err != nil || ignored {
			return rules, ignored, err
		}
		return rules.Under(g), false, nil
	case c.glossary != "":
		g, err := d.Service.Glossary(c.glossary, field)
		if err != nil {
			return nil, false, err
		}
		return rules.Under(g), false, nil
	}
	return rules, false, nil
}

func invalid(field, detail string) error {
	return &core.Error{Kind: core.InvalidRequest, Field: field, Detail: detail}
}

func missing(f field, advice string) error {
	return invalid(names[f], names[f]+" is missing; "+advice)
}

// unknownSource says whether a client left it open what language its text is in:
// other services' clients write auto for that, or nothing at all.
func unknownSource(tag string) bool { return tag == "" || strings.EqualFold(tag, "auto") }

// languagesOf returns the languages of c in canonical form.
func (d *Door) languagesOf(c *call) (source core.Language, targets []core.Language, err error) {
	if c.has(fSource) && !unknownSource(c.source) {
		if source, err = d.Service.Language(c.source, names[fSource]); err != nil {
			return "", nil, err
		}
	}
	switch {
	case c.has(fTarget) && c.has(fTargets):
		return "", nil, invalid(names[fTargets], "target and targets are both given; give one of them")
	case c.has(fTarget) && strings.EqualFold(c.target, "auto"):
		return "", nil, &core.Error{Kind: core.UnsupportedLanguage, Field: names[fTarget], Detail: `target is "auto"; only the source may be left open, so name the language wanted: "target": "es"`}
	case c.has(fTarget):
		target, err := d.Service.Language(c.target, names[fTarget])
		return source, []core.Language{target}, err
	case !c.has(fTargets):
		return "", nil, missing(fTarget, `say into which language: "target": "es"`)
	case len(c.targets) == 0:
		return "", nil, invalid(names[fTargets], "targets is an empty array; give at least one language")
	}
	first := make(map[core.Language]int, len(c.targets))
	for i, t := range c.targets {
		field := "targets[" + strconv.Itoa(i) + "]"
		target, err := d.Service.Language(t, field)
		if err != nil {
			return "", nil, err
		}
		if j, twice := first[target]; twice {
			return "", nil, invalid(field, fmt.Sprintf("%s is the same language as targets[%d]", field, j))
		}
		first[target] = i
		targets = append(targets, target)
	}
	return source, targets, nil
}

func (c *call) tone() (core.Formality, error) {
	switch c.formality {
	case "", "default":
		return core.FormalityDefault, nil
	case "formal":
		return core.Formal, nil
	case "informal":
		return core.Informal, nil
	}
	return "", invalid(names[fFormality], `formality must be "default", "formal" or "informal"`)
}

// markup is what the texts are written in.
func (c *call) markup() (*door.Markup, error) {
	switch c.format {
	case "", "text":
		return nil, nil
	case "html":
		return &door.Markup{}, nil
	case "xml":
		return &door.Markup{XML: true}, nil
	}
	return nil, invalid(names[fFormat], `format must be "text", "html" or "xml"`)
}

func (c *call) checkSession() error {
	for _, n := range []struct {
		field field
		value string
	}{{fSession, c.session}, {fSegment, c.segment}} {
		if utf8.RuneCountInString(n.value) > maxName {
			return &core.Error{Kind: core.TooLarge, Field: names[n.field], Detail: fmt.Sprintf("%s has more than %d code points", names[n.field], maxName)}
		}
		if strings.ContainsFunc(n.value, unicode.IsControl) {
			return invalid(names[n.field], names[n.field]+" holds a control character")
		}
	}
	if c.segment != "" && c.session == "" {
		return invalid(names[fSegment], "segment is a part of a session; give session too")
	}
	if c.sessionUsage && c.session == "" {
		return invalid(names[fSessionUsage], "session_usage is about a session; give session too")
	}
	if c.revision < 0 {
		return invalid(names[fRevision], "revision counts up from 0")
	}
	return nil
}
