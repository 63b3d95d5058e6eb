// Package libretranslate is the door for the clients of LibreTranslate, and of the
// small protocols that share its path. Its README is the manual.
package libretranslate

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// name is this door's in logs and metrics.
const name = "libretranslate"

// A Door is the handler of the door. It is safe for concurrent use.
type Door struct {
	door.Teller
	config atomic.Pointer[Config]
	shelf  *shelf
}

// New returns a door to service, which keeps translated files in folder; without one, in
// memory.
func New(c Config, folder string, service *door.Service, metrics *door.Metrics, log *zap.Logger) *Door {
	d := &Door{Teller: door.Teller{Door: name, Service: service, Metrics: metrics, Journal: door.NewJournal(log), Patient: true}, shelf: newShelf(folder, log)}
	d.Use(c)
	return d
}

// Use makes c hold for calls that arrive from now on.
func (d *Door) Use(c Config) { d.config.Store(&c) }

// Dialect returns d as one of the gateway's doors.
func (d *Door) Dialect() door.Dialect {
	return door.Dialect{
		Name: name, Serve: d, Pages: door.Every,
		Takes:    func(r *http.Request) bool { return d.config.Load().Enabled && takes(r) },
		Refuse:   refuse,
		Deadline: func() time.Duration { return d.config.Load().Deadline },
	}
}

func takes(r *http.Request) bool {
	return door.Under(r.URL.Path, "/translate", "/detect", "/languages", "/frontend/settings", "/translate_file", "/suggest", "/download_file/") || small(r)
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Max-Age", "1728000")
	type method struct {
		method string
		serve  http.HandlerFunc
	}
	to, ok := map[string]method{
		"/translate":         {http.MethodPost, d.translate},
		"/detect":            {http.MethodPost, d.detect},
		"/languages":         {http.MethodGet, d.languages},
		"/frontend/settings": {http.MethodGet, d.settings},
		"/suggest": {http.MethodPost, func(w http.ResponseWriter, _ *http.Request) {
			say(w, http.StatusForbidden, "Suggestions are disabled on this server.")
		}},
		"/translate_file": {http.MethodPost, d.translateFile},
	}[r.URL.Path]
	switch {
	case small(r):
		d.small(w, r)
	case !ok && strings.HasPrefix(r.URL.Path, "/download_file/"):
		d.download(w, r)
	case !ok:
		say(w, http.StatusNotFound, "404 Not Found")
	case r.Method != to.method && !(r.Method == http.MethodHead && to.method == http.MethodGet):
		w.Header().Set("Allow", to.method)
		say(w, http.StatusMethodNotAllowed, "405 Method Not Allowed: The method is not allowed for the requested URL.")
	default:
		to.serve(w, r)
	}
}

// say answers with a failure as LibreTranslate words it.
func say(w http.ResponseWriter, status int, message string) {
	door.WriteJSON(w, status, map[string]string{"error": message})
}

// refuse answers with a failure that has no words of LibreTranslate's.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	row := door.AsForeign(err)
	door.RetryAfter(w.Header(), row.Wait)
	message := door.Message(err)
	over := door.OwnLimit(err)
	switch {
	case row.Kind == core.Unauthorized:
		row.Status, message = http.StatusForbidden, "Invalid API key"
	case over == nil:
	case over.Limit == usage.CharactersHeld:
		message = "Slowdown: " + message
	case over.Limit == usage.RequestsPerMinute:
		message = fmt.Sprintf("Slowdown: %d per 1 minute", over.Most)
	default:
		row.Status, message = http.StatusForbidden, "Too many request limits violations: "+message
	}
	say(w, row.Status, message)
}

// receive reads a call, or has answered it.
func (d *Door) receive(w http.ResponseWriter, r *http.Request) *door.Call {
	c, keyed, err := d.Receive(w, r, d.config.Load().Deadline, d.Service.Rules().MaxBody)
	if err == nil {
		err = keyed
	}
	if err == nil {
		return c
	}
	d.Failed(r, c.ID, c.Client, c.Begin, err)
	switch tell := failing(r, c.Params); {
	case tell != nil:
		tell(w, err)
	case keyed != nil && len(door.Keys(r, c.Params)) == 0:
		say(w, http.StatusBadRequest, "Please contact the server operator to get an API key")
	default:
		refuse(w, r, err)
	}
	return nil
}

// wrong answers a call that asks for what there is not.
func (d *Door) wrong(w http.ResponseWriter, r *http.Request, c *door.Call, kind core.ErrorKind, message string) {
	d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: kind})
	say(w, http.StatusBadRequest, message)
}

// codes are LibreTranslate's own for some languages.
var codes = map[string]string{"zt": "zh-Hant", "pb": "pt-BR"}

// language returns what a code stands for, among those of list when there is one that
// is as good as it.
func (d *Door) language(code string, list []core.Language) (core.Language, bool) {
	if own, ok := codes[strings.ToLower(code)]; ok {
		code = own
	}
	l, err := d.Service.LenientLanguage(code, "")
	if err != nil {
		return "", false
	}
	if near := door.Match(l, list); near != "" {
		return near, true
	}
	// What takes any language takes one that is not listed too.
	return l, d.Service.Languages() == nil && len(d.Service.Rules().Languages.Target) == 0
}

type detected struct {
	Confidence float64 `json:"confidence"`
	Language   string  `json:"language"`
}

// guess is what LibreTranslate says of a text that has no language: English, of which
// it is not sure at all.
func guess(l core.Language, confidence float64) detected {
	if l == "" {
		return detected{0, "en"}
	}
	return detected{float64(int(confidence * 100)), string(l)}
}

func (d *Door) translate(w http.ResponseWriter, r *http.Request) {
	c := d.receive(w, r)
	if c == nil {
		return
	}
	if d.dialect(w, r, c) {
		return
	}
	p := c.Params
	texts, several, ok := p.Texts("q")
	if several && !p.IsJSON() {
		texts, several = texts[:1], false
	}
	if !ok || len(texts) == 0 || !several && texts[0] == "" {
		d.wrong(w, r, c, core.InvalidRequest, "Invalid request: missing q parameter")
		return
	}
	source, target, format := p.Tag("source"), p.Tag("target"), strings.ToLower(p.Tag("format"))
	for _, f := range []struct{ name, value string }{{"source", source}, {"target", target}} {
		if f.value == "" {
			d.wrong(w, r, c, core.InvalidRequest, "Invalid request: missing "+f.name+" parameter")
			return
		}
	}
	alternatives := 0
	if a := p.Tag("alternatives"); a != "" {
		n, err := strconv.Atoi(a)
		if err != nil {
			d.wrong(w, r, c, core.InvalidRequest, "Invalid request: alternatives parameter is not a number")
			return
		}
		alternatives = n
	}
	if len(texts) > c.Rules.MaxTexts {
		d.wrong(w, r, c, core.TooLarge, "Invalid request: request ("+strconv.Itoa(len(texts))+") exceeds text limit ("+strconv.Itoa(c.Rules.MaxTexts)+")")
		return
	}
	for i := range texts {
		if !p.IsJSON() {
			texts[i] = strings.ReplaceAll(strings.ReplaceAll(texts[i], "\r\n", "\n"), "\r", "\n")
		}
		if n := utf8.RuneCountInString(texts[i]); n > c.Rules.MaxText {
			d.wrong(w, r, c, core.TooLarge, "Invalid request: request ("+strconv.Itoa(n)+") exceeds text limit ("+strconv.Itoa(c.Rules.MaxText)+")")
			return
		}
	}
	offer := c.Rules.Offer()
	auto := strings.EqualFold(source, "auto")
	from := core.Language("")
	if !auto {
		if from, ok = d.language(source, sources(offer)); !ok {
			d.wrong(w, r, c, core.UnsupportedLanguage, source+" is not supported")
			return
		}
	}
	to, ok := d.language(target, offer.Targets)
	if !ok {
		d.wrong(w, r, c, core.UnsupportedLanguage, target+" is not supported")
		return
	}
	if format != "" && format != "text" && format != "html" {
		d.wrong(w, r, c, core.InvalidRequest, p.Tag("format")+" format is not supported")
		return
	}
	reqs, items, err := d.ask(r, c, texts, from, []core.Language{to}, format == "html")
	if err != nil {
		if err.Kind == core.UnsupportedLanguage && from != "" {
			say(w, http.StatusBadRequest, door.Name(to)+" ("+string(to)+") is not available as a target language from "+door.Name(from)+" ("+string(from)+")")
			return
		}
		refuse(w, r, err)
		return
	}
	answer := struct {
		Translated   any `json:"translatedText"`
		Detected     any `json:"detectedLanguage,omitempty"`
		Alternatives any `json:"alternatives,omitempty"`
	}{}
	out, found, none := make([]string, len(texts)), make([]detected, len(texts)), make([][]string, len(texts))
	for i := range items {
		out[i], none[i] = items[i].Result.Text, []string{}
		found[i] = guess(door.Detected(&reqs[i], items[i].Result))
	}
	if several {
		answer.Translated = out
		if auto {
			answer.Detected = found
		}
		if alternatives > 0 {
			answer.Alternatives = none
		}
	} else {
		answer.Translated = out[0]
		if auto {
			answer.Detected = found[0]
		}
		if alternatives > 0 {
			answer.Alternatives = none[0]
		}
	}
	door.WriteJSON(w, http.StatusOK, answer)
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, len(texts), time.Since(c.Begin))
}

func sources(o door.Offer) (all []core.Language) {
	for _, pair := range o.Pairs {
		all = append(all, pair.Source)
	}
	return all
}

// ask translates texts into each of targets, all of them or none: targets outer, texts
// inner. One without a letter comes back as it is.
func (d *Door) ask(r *http.Request, c *door.Call, texts []string, from core.Language, targets []core.Language, marked bool) ([]core.Request, []door.Item, *core.Error) {
	ctx, cancel := c.Context(r.Context())
	defer cancel()
	var reqs []core.Request
	for _, to := range targets {
		reqs = append(reqs, c.Requests(texts, from, to, 0)...)
	}
	tab, err := c.Open(ctx, &d.Teller, reqs)
	if err != nil {
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		return nil, nil, core.AsError(err, "door")
	}
	defer tab.Close()
	m := door.Markup{}
	items := door.Items(reqs, func(req *core.Request) door.Item {
		switch {
		case !detect.Letters(req.Text):
			return tab.AsItIs(req)
		case marked:
			return d.OneMarked(ctx, tab, req, m)
		}
		return d.One(ctx, tab, req)
	})
	return reqs, items, tab.Whole(items)
}

func (d *Door) detect(w http.ResponseWriter, r *http.Request) {
	c := d.receive(w, r)
	if c == nil {
		return
	}
	if isAzure(r) {
		d.azureDetect(w, r, c)
		return
	}
	text := c.Params.Text("q")
	if text == "" {
		d.wrong(w, r, c, core.InvalidRequest, "Invalid request: missing q parameter")
		return
	}
	g := detect.Of(text)
	door.WriteJSON(w, http.StatusOK, []detected{guess(g.Language, g.Confidence)})
}

func (d *Door) languages(w http.ResponseWriter, r *http.Request) {
	type language struct {
		Code    string          `json:"code"`
		Name    string          `json:"name"`
		Targets []core.Language `json:"targets"`
	}
	if isAzure(r) {
		d.azureLanguages(w)
		return
	}
	all := []language{}
	for _, pair := range d.Service.Rules().Offer().Pairs {
		all = append(all, language{string(pair.Source), door.Name(pair.Source), pair.Targets})
	}
	door.WriteJSON(w, http.StatusOK, all)
}

func (d *Door) settings(w http.ResponseWriter, r *http.Request) {
	rules := d.Service.Rules()
	keyed := false
	for _, k := range rules.Keys {
		keyed = keyed || k.For(door.Translate)
	}
	target := rules.Offer().Default
	type side struct {
		Code string `json:"code"`
		Name string `json:"name"`
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{
		"charLimit": rules.MaxText, "frontendTimeout": 500, "apiKeys": keyed, "keyRequired": false, "suggestions": false,
		"filesTranslation": true, "supportedFilesFormat": door.Formats(),
		"language": map[string]side{"source": {"auto", "Auto Detect"}, "target": {string(target), door.Name(target)}},
	})
}
