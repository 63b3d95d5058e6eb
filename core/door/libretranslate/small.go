package libretranslate

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	tags "golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// small says whether a call is of a small protocol with a path of its own.
func small(r *http.Request) bool {
	return door.Under(r.URL.Path, "/deeplx/translate", "/deeplx", "/imme", "/kiss", "/translate_a/single", "/api/translate/content")
}

// small serves the protocols that have a path of their own.
func (d *Door) small(w http.ResponseWriter, r *http.Request) {
	c := d.receive(w, r)
	if c == nil {
		return
	}
	switch r.URL.Path {
	case "/translate_a/single":
		d.google(w, r, c)
	case "/api/translate/content":
		d.content(w, r, c)
	default:
		if !d.dialect(w, r, c) {
			err := &core.Error{Kind: core.InvalidRequest, Detail: "Invalid request: text and a target language are needed"}
			d.Failed(r, c.ID, c.Client, c.Begin, err)
			code(w, err)
		}
	}
}

// dialect serves a call of one of the protocols that share /translate, which are told
// apart by their fields; false when it is LibreTranslate's.
func (d *Door) dialect(w http.ResponseWriter, r *http.Request, c *door.Call) bool {
	p := c.Params
	switch {
	case p.List() != nil || isAzure(r):
		d.azure(w, r, c)
	case p.Has("q"):
		return false
	case p.Has("text_list"):
		d.immersive(w, r, c)
	case p.Has("target_lang"):
		d.deeplx(w, r, c)
	case p.Has("to") && (p.Has("text") || p.Has("texts")):
		d.kiss(w, r, c)
	default:
		return false
	}
	return true
}

// failing returns how the small protocol of a call tells a failure; nil when the call is
// LibreTranslate's. P is nil when its body could not be read.
func failing(r *http.Request, p *door.Params) func(http.ResponseWriter, error) {
	switch {
	case isAzure(r) || r.URL.Path == "/translate" && p != nil && p.List() != nil:
		return azureFailure
	case small(r) || r.URL.Path == "/translate" && p != nil && !p.Has("q") && (p.Has("text_list") || p.Has("target_lang") || p.Has("to") && (p.Has("text") || p.Has("texts"))):
		return code
	}
	return nil
}

// pair reads the languages of a call of a small protocol.
func (d *Door) pair(source, target string) (from, to core.Language, err error) {
	offer := d.Service.Rules().Offer()
	if source != "" && !strings.EqualFold(source, "auto") {
		l, ok := d.language(source, sources(offer))
		if !ok {
			return "", "", &core.Error{Kind: core.UnsupportedLanguage, Field: "source", Detail: "the source language is not supported"}
		}
		from = l
	}
	to, ok := d.language(target, offer.Targets)
	if !ok {
		return "", "", &core.Error{Kind: core.UnsupportedLanguage, Field: "target", Detail: "the target language is not supported"}
	}
	return from, to, nil
}

// all translates texts into each of targets for a small protocol, as ask does.
func (d *Door) all(r *http.Request, c *door.Call, texts []string, source string, targets []string, marked bool, most int) ([]core.Request, []door.Item, error) {
	var from core.Language
	var err error
	to := make([]core.Language, len(targets))
	for i := range targets {
		if from, to[i], err = d.pair(source, targets[i]); err != nil {
			break
		}
	}
	switch {
	case err != nil:
	case len(texts) == 0:
		err = &core.Error{Kind: core.InvalidRequest, Field: "text", Detail: "there is no text to translate"}
	case len(texts)*len(targets) > most:
		err = &core.Error{Kind: core.TooLarge, Field: "text", Detail: "there are more texts than one call may bring"}
	}
	if err != nil {
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		return nil, nil, err
	}
	reqs, items, failed := d.ask(r, c, texts, from, to, marked)
	if failed != nil {
		return nil, nil, failed
	}
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, len(texts), time.Since(c.Begin))
	return reqs, items, nil
}

// source returns the code of the language that a text was in: what is known, else en.
func source(req *core.Request, it door.Item) string {
	l, _ := door.Detected(req, it.Result)
	if l == "" {
		return "en"
	}
	return string(l)
}

// code answers with a failure as most small protocols do.
func code(w http.ResponseWriter, err error) {
	row, message := door.AsForeign(err), door.Message(err)
	if row.Kind == core.Unauthorized {
		message = "Invalid access token"
	}
	door.RetryAfter(w.Header(), row.Wait)
	door.WriteJSON(w, row.Status, map[string]any{"code": row.Status, "message": message})
}

// deeplx serves DeepLX: one text, whose alternatives stay empty, for there are clients
// that take the first of them in its place.
func (d *Door) deeplx(w http.ResponseWriter, r *http.Request, c *door.Call) {
	p := c.Params
	handling := p.Tag("tag_handling")
	if handling != "" && handling != "html" && handling != "xml" {
		d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: core.InvalidRequest})
		door.WriteJSON(w, http.StatusBadRequest, map[string]any{"code": 400, "message": "Invalid tag_handling value. Allowed values are 'html' and 'xml'."})
		return
	}
	texts, _, _ := p.Texts("text")
	if len(texts) > 1 {
		texts = []string{strings.Join(texts, "\n")}
	}
	reqs, items, err := d.all(r, c, texts, p.Tag("source_lang"), []string{p.Tag("target_lang")}, handling != "", 1)
	if err != nil {
		code(w, err)
		return
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{
		"code": 200, "id": c.Begin.UnixMilli(), "data": items[0].Result.Text, "alternatives": []string{},
		"source_lang": strings.ToUpper(source(&reqs[0], items[0])), "target_lang": strings.ToUpper(p.Tag("target_lang")), "method": "Free",
	})
}

// immersive serves the custom API of Immersive Translate.
func (d *Door) immersive(w http.ResponseWriter, r *http.Request, c *door.Call) {
	texts, _, _ := c.Params.Texts("text_list")
	reqs, items, err := d.all(r, c, texts, c.Params.Tag("source_lang"), []string{c.Params.Tag("target_lang")}, false, c.Rules.MaxTexts)
	if err != nil {
		code(w, err)
		return
	}
	type one struct {
		Source string `json:"detected_source_lang"`
		Text   string `json:"text"`
	}
	out := make([]one, len(items))
	for i, it := range items {
		out[i] = one{source(&reqs[i], it), it.Result.Text}
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{"translations": out})
}

// kiss serves the custom API of KISS Translator and that of MTranServer, which differ
// in what they read of the answer.
func (d *Door) kiss(w http.ResponseWriter, r *http.Request, c *door.Call) {
	p := c.Params
	texts, _, _ := p.Texts("texts")
	several := p.Has("texts")
	if !several {
		texts, _, _ = p.Texts("text")
	}
	reqs, items, err := d.all(r, c, texts, p.Tag("from"), []string{p.Tag("to")}, p.Flag("html"), c.Rules.MaxTexts)
	if err != nil {
		code(w, err)
		return
	}
	if !several {
		door.WriteJSON(w, http.StatusOK, map[string]any{"result": items[0].Result.Text, "text": items[0].Result.Text, "src": source(&reqs[0], items[0])})
		return
	}
	type one struct {
		Text string `json:"text"`
		Src  string `json:"src"`
	}
	out, results := make([]one, len(items)), make([]string, len(items))
	for i, it := range items {
		out[i], results[i] = one{it.Result.Text, source(&reqs[i], it)}, it.Result.Text
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{"translations": out, "results": results})
}

// google serves the call that Google's own pages make: an object with dj=1, else
// arrays, whose second item stays null.
func (d *Door) google(w http.ResponseWriter, r *http.Request, c *door.Call) {
	p := c.Params
	texts, _, _ := p.Texts("q")
	if len(texts) > 1 {
		texts = []string{strings.Join(texts, "\n")}
	}
	reqs, items, err := d.all(r, c, texts, p.Tag("sl"), []string{p.Tag("tl")}, false, 1)
	if err != nil {
		code(w, err)
		return
	}
	src := source(&reqs[0], items[0])
	if p.Tag("dj") == "1" {
		door.WriteJSON(w, http.StatusOK, map[string]any{"sentences": []map[string]string{{"trans": items[0].Result.Text, "orig": texts[0]}}, "src": src})
		return
	}
	door.WriteJSON(w, http.StatusOK, []any{[]any{[]any{items[0].Result.Text, texts[0]}}, nil, src})
}

// isAzure says whether a call is of Azure's translator, which names its version.
func isAzure(r *http.Request) bool { return r.URL.Query().Has("api-version") }

// azureFailure answers with a failure as Azure does.
func azureFailure(w http.ResponseWriter, err error) {
	row := door.AsForeign(err)
	number := row.Status * 1000
	if over := door.OwnLimit(err); over != nil {
		// Azure's own: 403001 for a quota, 429001 for too many calls.
		if over.Limit == usage.CharactersPerMonth {
			row.Status = http.StatusForbidden
		}
		number = row.Status*1000 + 1
	}
	door.RetryAfter(w.Header(), row.Wait)
	door.WriteJSON(w, row.Status, map[string]any{"error": map[string]any{"code": number, "message": door.Message(err)}})
}

// azureTexts reads the texts of a call of Azure's, or has answered it.
func (d *Door) azureTexts(w http.ResponseWriter, r *http.Request, c *door.Call) (texts []string, ok bool) {
	fail := func(detail string) ([]string, bool) {
		err := &core.Error{Kind: core.InvalidRequest, Detail: detail}
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		azureFailure(w, err)
		return nil, false
	}
	var body []map[string]json.RawMessage
	if json.Unmarshal(c.Params.List(), &body) != nil || len(body) == 0 {
		return fail("the body is not an array of objects with a Text")
	}
	texts = make([]string, len(body))
	for i, item := range body {
		for key, raw := range item {
			if strings.EqualFold(key, "text") && json.Unmarshal(raw, &texts[i]) != nil {
				return fail("a Text is not a string")
			}
		}
	}
	return texts, true
}

// azureDetect guesses the languages of texts.
func (d *Door) azureDetect(w http.ResponseWriter, r *http.Request, c *door.Call) {
	texts, ok := d.azureTexts(w, r, c)
	if !ok {
		return
	}
	if len(texts) > c.Rules.MaxTexts {
		err := &core.Error{Kind: core.InvalidRequest, Detail: "there are more texts than one call may bring"}
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		azureFailure(w, err)
		return
	}
	type guessed struct {
		Language       string  `json:"language"`
		Score          float64 `json:"score"`
		Translates     bool    `json:"isTranslationSupported"`
		Transliterates bool    `json:"isTransliterationSupported"`
	}
	known, out := sources(d.Service.Rules().Offer()), make([]guessed, len(texts))
	for i, text := range texts {
		g := detect.Of(text)
		if g.Language == "" {
			g.Language, g.Confidence = "en", 0 // it always names one
		}
		out[i] = guessed{Language: string(g.Language), Score: g.Confidence, Translates: door.Match(g.Language, known) != ""}
	}
	door.WriteJSON(w, http.StatusOK, out)
}

// azureLanguages lists what can be translated.
func (d *Door) azureLanguages(w http.ResponseWriter) {
	type language struct {
		Name   string `json:"name"`
		Native string `json:"nativeName"`
		Dir    string `json:"dir"`
	}
	all, offer := map[core.Language]language{}, d.Service.Rules().Offer()
	for _, l := range slices.Concat(sources(offer), offer.Targets) {
		all[l] = language{door.Name(l), door.Name(l), direction(l)}
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{"translation": all})
}

// direction is how the script of l is written, that which it mostly has if it names none.
func direction(l core.Language) string {
	script, _ := tags.Make(string(l)).Script()
	switch script.String() {
	case "Arab", "Hebr", "Thaa", "Syrc", "Nkoo":
		return "rtl"
	}
	return "ltr"
}

// azure serves version 3 of Azure's translator: several texts, each into several
// languages.
func (d *Door) azure(w http.ResponseWriter, r *http.Request, c *door.Call) {
	texts, ok := d.azureTexts(w, r, c)
	if !ok {
		return
	}
	query := r.URL.Query()
	var targets []string
	for _, to := range query["to"] {
		targets = append(targets, strings.Split(to, ",")...)
	}
	type translation struct {
		Text string `json:"text"`
		To   string `json:"to"`
	}
	type one struct {
		Detected *struct {
			Language string  `json:"language"`
			Score    float64 `json:"score"`
		} `json:"detectedLanguage,omitempty"`
		Translations []translation `json:"translations"`
	}
	if n := len(texts) * len(targets); len(targets) == 0 || n > c.Rules.MaxTexts {
		err := &core.Error{Kind: core.InvalidRequest, Detail: "the query names no language in to, or more than may be asked for at once"}
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		azureFailure(w, err)
		return
	}
	reqs, items, err := d.all(r, c, texts, query.Get("from"), targets, strings.EqualFold(query.Get("textType"), "html"), c.Rules.MaxTexts)
	if err != nil {
		azureFailure(w, err)
		return
	}
	out := make([]one, len(texts))
	for i, it := range items {
		of := &out[i%len(texts)]
		of.Translations = append(of.Translations, translation{it.Result.Text, targets[i/len(texts)]})
		if query.Get("from") == "" && of.Detected == nil {
			of.Detected = &struct {
				Language string  `json:"language"`
				Score    float64 `json:"score"`
			}{source(&reqs[i], it), 1}
		}
	}
	door.WriteJSON(w, http.StatusOK, out)
}

// Bounds of a film: its lines, and how long all of them may take.
const (
	mostLines = 5000
	filmTime  = 10 * time.Minute
)

// content serves Lingarr's own API: a list of lines, each with its position.
func (d *Door) content(w http.ResponseWriter, r *http.Request, c *door.Call) {
	type line struct {
		Position json.RawMessage `json:"position"`
		Line     string          `json:"line"`
	}
	var lines []line
	raw := c.Params.Raw("lines")
	if raw == nil {
		raw = c.Params.List()
	}
	if json.Unmarshal(raw, &lines) != nil {
		err := &core.Error{Kind: core.InvalidRequest, Detail: "lines is not a list of objects with position and line"}
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		code(w, err)
		return
	}
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = l.Line
	}
	tag := func(names ...string) string {
		for _, name := range names {
			if v := c.Params.Tag(name); v != "" {
				return v
			}
		}
		return ""
	}
	// Whoever sends a film waits for half an hour.
	c.Rules = c.Rules.Within(filmTime)
	_ = http.NewResponseController(w).SetWriteDeadline(c.Begin.Add(filmTime + time.Minute))
	_, items, err := d.all(r, c, texts, tag("sourceLanguage", "source"), []string{tag("targetLanguage", "target")}, false, mostLines)
	if err != nil {
		code(w, err)
		return
	}
	for i := range lines {
		lines[i].Line = items[i].Result.Text
	}
	door.WriteJSON(w, http.StatusOK, lines)
}
