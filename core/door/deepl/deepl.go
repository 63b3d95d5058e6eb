// Package deepl is the door for the clients of DeepL. Its README is the manual.
package deepl

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// name is this door's in logs and metrics.
const name = "deepl"

// Bounds of a call, those of DeepL.
const (
	mostTexts     = 50
	mostBody      = 128 << 10
	mostGlossary  = 11 << 20 // of a call that brings one
	unlimited     = 1_000_000_000_000
	linger        = 10 * time.Second // a library asks again after 5 s, and finds what the first call began
	mostContext   = 1000             // code points of context that reach a prompt
	mostOfAccount = 5                // glossary_ids of a call
)

// A Door is the handler of the door. It is safe for concurrent use.
type Door struct {
	door.Teller
	config atomic.Pointer[Config]
	shelf  *shelf
	desk   *desk
	began  time.Time
}

// New returns a door to service, which keeps the glossaries of its clients in folder, and
// their documents in one beside it. Without a folder it keeps them as long as it lives.
func New(c Config, folder string, service *door.Service, metrics *door.Metrics, log *zap.Logger) *Door {
	documents := ""
	if folder != "" {
		documents = filepath.Join(filepath.Dir(folder), "documents")
	}
	d := &Door{
		Teller: door.Teller{Door: name, Service: service, Metrics: metrics, Journal: door.NewJournal(log), Patient: true},
		shelf:  newShelf(folder, log), desk: newDesk(documents, log), began: time.Now().UTC().Truncate(time.Millisecond),
	}
	d.Use(c)
	return d
}

// Use makes c hold for calls that arrive from now on.
func (d *Door) Use(c Config) { d.config.Store(&c) }

// Dialect returns d as one of the gateway's doors.
func (d *Door) Dialect() door.Dialect {
	return door.Dialect{
		Name: name, Serve: d, Pages: door.Keyed, Refuse: refuse,
		Takes:    func(r *http.Request) bool { return d.config.Load().Enabled && door.Under(r.URL.Path, "/v2/", "/v3/") },
		Deadline: func() time.Duration { return d.config.Load().Deadline },
	}
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Trace-Id", door.RequestID(w, r))
	path := r.URL.Path
	most := core.Size(mostBody)
	if strings.Contains(path, "/glossaries") || path == "/v2/document" {
		most = mostGlossary
	}
	c, keyed, err := d.Receive(w, r, d.config.Load().Deadline, most)
	if err == nil {
		err = keyed
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	switch read := r.Method == http.MethodGet || r.Method == http.MethodHead; {
	case !read && r.Method != http.MethodPost && door.Under(path, "/v2/translate", "/v2/languages", "/v2/usage", "/v3/languages"):
		d.method(w, r, c, "GET, POST")
	case path == "/v2/translate":
		d.translate(w, r, c)
	case path == "/v2/languages":
		d.languages(w, r, c)
	case path == "/v3/languages":
		d.features(w, r, c)
	case path == "/v3/languages/resources":
		door.WriteJSON(w, http.StatusOK, []any{
			map[string]any{"name": "translate_text", "features": []any{map[string]any{"name": "formality", "needs_target_support": true}, map[string]any{"name": "glossary", "needs_source_support": true, "needs_target_support": true}}},
			map[string]any{"name": "glossary", "features": []any{}},
		})
	case path == "/v2/usage":
		d.usage(w, c)
	case path == "/v3/style_rules" && r.Method == http.MethodGet:
		door.WriteJSON(w, http.StatusOK, map[string]any{"style_rules": []any{}})
	case path == "/v3/translation_memories" && r.Method == http.MethodGet:
		door.WriteJSON(w, http.StatusOK, map[string]any{"translation_memories": []any{}, "total_count": 0})
	case path == "/v2/document" && r.Method == http.MethodPost:
		d.document(w, r, c)
	case strings.HasPrefix(path, "/v2/document/"):
		d.documents(w, r, c, strings.TrimPrefix(path, "/v2/document/"))
	case path == "/v2/glossary-language-pairs":
		d.glossaryPairs(w, c)
	case door.Under(path, "/v2/glossaries", "/v2/glossaries/", "/v3/glossaries", "/v3/glossaries/"):
		d.glossaries(w, r, c, path)
	default:
		d.fail(w, r, c, &core.Error{Kind: core.NotFound, Detail: "Not found: this gateway serves translate, languages, usage, glossaries and documents; write and voice are DeepL's alone"})
	}
}

func (d *Door) fail(w http.ResponseWriter, r *http.Request, c *door.Call, err error) {
	d.Failed(r, c.ID, c.Client, c.Begin, err)
	refuse(w, r, err)
}

// bad answers with what is wrong with a call.
func (d *Door) bad(w http.ResponseWriter, r *http.Request, c *door.Call, message string) {
	d.fail(w, r, c, &core.Error{Kind: core.InvalidRequest, Detail: message})
}

// refuse answers with a failure. DeepL's libraries take nothing but 403 for a wrong
// key, and ask again after 429 and every 5xx, so what will not change is none of those.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	row := door.AsForeign(err)
	door.RetryAfter(w.Header(), row.Wait)
	message := door.Message(err)
	switch over := door.OwnLimit(err); {
	case over == nil:
	case over.Limit == usage.CharactersPerMonth:
		row.Status, message = statusQuota, "Quota for this billing period has been exceeded."
	default:
		message = "Too many requests"
	}
	switch row.Kind {
	case core.Unauthorized:
		row.Status = http.StatusForbidden
	case core.ProviderRefused:
		row.Status = http.StatusBadRequest
	case core.UnsupportedLanguage:
		message = "Value for 'target_lang' not supported."
		if core.AsError(err, "").Field == "source" {
			message = "Value for 'source_lang' not supported."
		}
	}
	door.WriteJSON(w, row.Status, map[string]string{"message": message})
}

// statusQuota is DeepL's for characters that are used up.
const statusQuota = 456

// A wish is what a call of translate asks for besides its texts.
type wish struct {
	source, target core.Language
	formality      core.Formality
	marked         bool
	markup         door.Markup
	instructions   []string
	context        []core.Pair
	ignored        bool     // server.instructions says so
	glossaries     []string // their ids
	version        string   // of how tags are handled
	model          string
	billed         bool
}

// put gives each of reqs what all texts of the call have in common.
func (w *wish) put(reqs []core.Request) {
	for i := range reqs {
		reqs[i].Formality, reqs[i].Instructions, reqs[i].Context = w.formality, w.instructions, w.context
	}
}

func (d *Door) translate(w http.ResponseWriter, r *http.Request, c *door.Call) {
	texts, _, ok := c.Params.Texts("text")
	most := min(mostTexts, c.Rules.MaxTexts)
	switch {
	case !ok:
		d.bad(w, r, c, "Parameter 'text' is neither a text nor a list of texts.")
		return
	case len(texts) == 0:
		d.bad(w, r, c, "Parameter 'text' not specified")
		return
	case len(texts) > most:
		d.bad(w, r, c, fmt.Sprintf("Parameter 'text' has %d values; at most %d are allowed.", len(texts), most))
		return
	}
	wish, err := d.wish(c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	ctx, cancel := c.Context(r.Context())
	defer cancel()
	reqs := c.Requests(texts, wish.source, wish.target, linger)
	wish.put(reqs)
	tab, err := c.Open(ctx, &d.Teller, reqs)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	defer tab.Close()
	items := door.Items(reqs, func(req *core.Request) door.Item {
		if wish.marked {
			return d.OneMarked(ctx, tab, req, wish.markup)
		}
		return d.One(ctx, tab, req)
	})
	if err := tab.Whole(items); err != nil {
		refuse(w, r, err)
		return
	}
	type translation struct {
		Source  string `json:"detected_source_language"`
		Text    string `json:"text"`
		Billed  *int   `json:"billed_characters,omitempty"`
		Model   string `json:"model_type_used,omitempty"`
		Version string `json:"tag_handling_version,omitempty"`
	}
	out := make([]translation, len(items))
	for i, it := range items {
		n := utf8.RuneCountInString(texts[i])
		out[i] = translation{Source: "EN", Text: it.Result.Text, Model: wish.model, Version: wish.version}
		if l, _ := door.Detected(&reqs[i], it.Result); l != "" {
			out[i].Source = strings.ToUpper(l.Base())
		}
		if wish.billed {
			out[i].Billed = &n
		}
	}
	door.TellFlags(w.Header(), items)
	door.WriteJSON(w, http.StatusOK, map[string]any{"translations": out})
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, len(texts), time.Since(c.Begin))
}

func badValue(parameter string) error {
	return &core.Error{Kind: core.InvalidRequest, Detail: "Value for '" + parameter + "' not supported."}
}

// wish reads everything of a call of translate but its texts. What has no meaning here
// is read and passed over.
func (d *Door) wish(c *door.Call) (w wish, err error) {
	p := c.Params
	if p.Tag("target_lang") == "" {
		return w, &core.Error{Kind: core.InvalidRequest, Detail: "Parameter 'target_lang' not specified"}
	}
	offer := c.Rules.Offer()
	if w.target, err = d.language(p.Tag("target_lang"), offer.Targets); err != nil {
		return w, badValue("target_lang")
	}
	if s := p.Tag("source_lang"); s != "" && !strings.EqualFold(s, "auto") {
		var known []core.Language
		for _, pair := range offer.Pairs {
			known = append(known, pair.Source)
		}
		if w.source, err = d.language(s, known); err != nil {
			return w, badValue("source_lang")
		}
	}
	formality := strings.ToLower(p.Tag("formality"))
	switch formality {
	case "", "default":
	case "more", "prefer_more":
		w.formality = core.Formal
	case "less", "prefer_less":
		w.formality = core.Informal
	default:
		return w, badValue("formality")
	}
	if (formality == "more" || formality == "less") && !formal[w.target.Base()] {
		return w, &core.Error{Kind: core.InvalidRequest, Detail: "'formality' is not supported for given 'target_lang'."}
	}
	for _, one := range []struct {
		parameter string
		values    []string
	}{
		{"split_sentences", []string{"", "0", "1", "nonewlines", "true", "false"}},
		{"model_type", []string{"", "quality_optimized", "latency_optimized", "prefer_quality_optimized"}},
		{"tag_handling", []string{"", "xml", "html"}},
		{"tag_handling_version", []string{"", "v1", "v2"}},
	} {
		if !slices.Contains(one.values, strings.ToLower(p.Tag(one.parameter))) {
			return w, badValue(one.parameter)
		}
	}
	switch p.Tag("model_type") {
	case "":
	case "latency_optimized":
		w.model = "latency_optimized"
	default:
		w.model = "quality_optimized"
	}
	if handling := strings.ToLower(p.Tag("tag_handling")); handling != "" {
		w.marked, w.markup.XML = true, handling == "xml"
		w.markup.Ignore, w.markup.Splitting = list(p, "ignore_tags"), list(p, "splitting_tags")
		if w.version = p.Tag("tag_handling_version"); w.version == "" {
			w.version = "v1"
		}
	}
	w.billed = p.Flag("show_billed_characters")
	custom, _, ok := p.Texts("custom_instructions")
	if !ok {
		return w, badValue("custom_instructions")
	}
	if len(custom) > 0 && w.model == "latency_optimized" {
		return w, &core.Error{Kind: core.InvalidRequest, Detail: "Parameter 'custom_instructions' cannot be used with the 'model_type' latency_optimized."}
	}
	if w.instructions, w.ignored, err = c.Rules.ClientInstructions(custom, "custom_instructions"); err != nil {
		return w, &core.Error{Kind: core.InvalidRequest, Field: "custom_instructions", Detail: "Parameter 'custom_instructions' is invalid: " + core.AsError(err, "").Detail}
	}
	w.ignored = c.Rules.Instructions == "off"
	if context := strings.Join(strings.Fields(p.Text("context")), " "); context != "" && !w.ignored {
		if runes := []rune(context); len(runes) > mostContext {
			context = string(runes[:mostContext])
		}
		w.context = []core.Pair{{Source: context}}
	}
	for _, parameter := range []string{"style_id", "translation_memory_id"} {
		if p.Tag(parameter) != "" {
			return w, &core.Error{Kind: core.NotFound, Detail: "Not found: there is no such '" + parameter + "'"}
		}
	}
	if w.glossaries, err = named(c); err != nil {
		return w, err
	}
	return w, d.consult(c, w)
}

// list returns a parameter that is a list: an array, or text with commas.
func list(p *door.Params, parameter string) (all []string) {
	values, _, _ := p.Texts(parameter)
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one != "" {
				all = append(all, one)
			}
		}
	}
	return all
}

// language returns what a code of DeepL's stands for, among those of list when there
// is one as good.
func (d *Door) language(code string, list []core.Language) (core.Language, error) {
	l, err := d.Service.LenientLanguage(code, "")
	if err != nil {
		return "", err
	}
	if d.Service.Languages() == nil && len(d.Service.Rules().Languages.Target) == 0 {
		return l, nil
	}
	if near := door.Match(l, list); near != "" {
		return near, nil
	}
	return "", &core.Error{Kind: core.UnsupportedLanguage}
}

func (d *Door) usage(w http.ResponseWriter, c *door.Call) {
	used, most := c.Rules.Used(c.Client)
	if most == 0 {
		most = unlimited
	}
	door.WriteJSON(w, http.StatusOK, map[string]int64{"character_count": used, "character_limit": most})
}

// formal are the languages whose readers can be addressed in two ways.
var formal = map[string]bool{"de": true, "fr": true, "it": true, "es": true, "nl": true, "pl": true, "pt": true, "ja": true, "ru": true}

// targets are the offered targets, with the variants that DeepL's clients ask for in
// place of a language that has some.
func targets(offer door.Offer, any bool) (all []core.Language) {
	for _, l := range offer.Targets {
		all = append(all, l)
		if any && l == "en" {
			all = append(all, "en-GB", "en-US")
		}
		if any && l == "pt" {
			all = append(all, "pt-PT")
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (d *Door) languages(w http.ResponseWriter, r *http.Request, c *door.Call) {
	type language struct {
		Language  string `json:"language"`
		Name      string `json:"name"`
		Formality *bool  `json:"supports_formality,omitempty"`
	}
	offer, all := c.Rules.Offer(), []language{}
	switch strings.ToLower(c.Params.Tag("type")) {
	case "", "source":
		seen := map[string]bool{}
		for _, pair := range offer.Pairs {
			base := pair.Source.Base()
			if !seen[base] {
				all = append(all, language{Language: strings.ToUpper(base), Name: door.Name(core.Language(base))})
			}
			seen[base] = true
		}
	case "target":
		for _, l := range targets(offer, d.Service.Languages() == nil) {
			can := formal[l.Base()]
			all = append(all, language{strings.ToUpper(string(l)), door.Name(l), &can})
		}
	default:
		d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: core.InvalidRequest})
		door.WriteJSON(w, http.StatusBadRequest, map[string]string{"message": "Parameter 'type' is invalid. 'source' and 'target' are valid values."})
		return
	}
	door.WriteJSON(w, http.StatusOK, all)
}

// features serves version 3 of languages.
func (d *Door) features(w http.ResponseWriter, r *http.Request, c *door.Call) {
	complain := func(message string) {
		d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: core.InvalidRequest})
		door.WriteJSON(w, http.StatusBadRequest, map[string]string{"message": message})
	}
	if c.Params.Has("product") {
		complain("Bad request. Reason: The 'product' parameter has been renamed to 'resource'.")
		return
	}
	resource := c.Params.Tag("resource")
	switch resource {
	case "translate_text", "glossary":
	case "translate_document", "voice", "write", "style_rules", "translation_memory":
		door.WriteJSON(w, http.StatusOK, []any{})
		return
	case "":
		complain("Bad request. Reason: Parameter 'resource' is required.")
		return
	default:
		complain("Bad request. Reason: Value for 'resource' not supported.")
		return
	}
	type language struct {
		Lang     string         `json:"lang"`
		Name     string         `json:"name"`
		Source   bool           `json:"usable_as_source"`
		Target   bool           `json:"usable_as_target"`
		Status   string         `json:"status"`
		Features map[string]any `json:"features"`
	}
	offer := c.Rules.Offer()
	all := map[core.Language]*language{}
	get := func(l core.Language) *language {
		if all[l] == nil {
			all[l] = &language{Lang: string(l), Name: door.Name(l), Status: "stable", Features: map[string]any{}}
			if formal[l.Base()] && resource == "translate_text" {
				all[l].Features["formality"] = map[string]string{"status": "stable"}
			}
		}
		return all[l]
	}
	for _, pair := range offer.Pairs {
		get(core.Language(pair.Source.Base())).Source = true
	}
	any := d.Service.Languages() == nil
	for _, l := range targets(offer, any) {
		if l == "en" && any {
			continue // its variants are
		}
		get(l).Target = true
	}
	out := make([]*language, 0, len(all))
	for _, l := range all {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *language) int { return strings.Compare(a.Lang, b.Lang) })
	door.WriteJSON(w, http.StatusOK, out)
}
