package deepl

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/lazy"
	terms "github.com/dragoman-mt/dragoman/core/text/glossary"
)

// A glossary is what a client stored: terms for one or several pairs of languages.
type glossary struct {
	ID      string       `json:"id"`
	Client  string       `json:"client"`
	Name    string       `json:"name"`
	Created time.Time    `json:"created"`
	Pairs   []dictionary `json:"pairs"`

	// operators is one that pipeline.yaml names, and no client changes.
	operators *terms.Glossary
	made      *made
}

// made are the dictionaries of a glossary as they are looked up, each once it is needed.
type made struct {
	mu  sync.Mutex
	all map[int]*terms.Glossary
}

// lookUp returns what holds for a call in g, nil when it has nothing for the languages.
func (g *glossary) lookUp(source, target core.Language) *terms.Glossary {
	if g.operators != nil {
		if g.operators.For(source, target) == nil {
			return nil
		}
		return g.operators
	}
	i := g.pair(source.Base(), target.Base())
	if i < 0 {
		return nil
	}
	g.made.mu.Lock()
	defer g.made.mu.Unlock()
	if t := g.made.all[i]; t != nil {
		return t
	}
	one := g.Pairs[i]
	pairs := make([]core.Pair, len(one.Terms))
	for j, t := range one.Terms {
		pairs[j] = core.Pair{Source: t.Source, Target: t.Target}
	}
	t, err := terms.New("", core.Language(one.Source), core.Language(one.Target), pairs)
	if err != nil {
		return nil // what is stored was checked when it came
	}
	if g.made.all == nil {
		g.made.all = map[int]*terms.Glossary{}
	}
	g.made.all[i] = t
	return t
}

// operator shows a glossary of pipeline.yaml as one of this protocol's, without its terms. Its
// id is made of its name, so it is the same after a restart.
func operator(name string, g *terms.Glossary, began time.Time) *glossary {
	id := sha256.Sum256([]byte("dragoman glossary " + name))
	return &glossary{ID: asUUID([16]byte(id[:16])), Name: name, Created: began, operators: g}
}

// whole returns g with its terms, as they are shown.
func (g *glossary) whole() *glossary {
	if g.operators == nil {
		return g
	}
	all := *g
	for _, source := range g.operators.Languages() {
		for _, target := range g.operators.Languages() {
			if source.Base() == target.Base() || all.pair(source.Base(), target.Base()) >= 0 {
				continue
			}
			one := dictionary{Source: source.Base(), Target: target.Base()}
			for _, p := range g.operators.Pairs(source, target) {
				one.Terms = append(one.Terms, term{p.Source, p.Target})
			}
			if len(one.Terms) > 0 {
				all.Pairs = append(all.Pairs, one)
			}
		}
	}
	return &all
}

// operators are the glossaries of pipeline.yaml, by name.
func (d *Door) operators() (all []*glossary) {
	named := d.Service.Glossaries()
	for _, name := range slices.Sorted(maps.Keys(named)) {
		all = append(all, operator(name, named[name], d.began))
	}
	return all
}

// A dictionary holds the terms for one pair, in the order in which they came. Its
// languages are base codes in lower case.
type dictionary struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Terms  []term `json:"terms"`
}

type term struct {
	Source string `json:"s"`
	Target string `json:"t"`
}

// Bounds of glossaries.
const (
	mostGlossaries = 1000 // of one client
	mostTerm       = 1024 // bytes
	mostPairs      = 100  // of one glossary
)

func (g *glossary) pair(source, target string) int {
	return slices.IndexFunc(g.Pairs, func(d dictionary) bool { return d.Source == source && d.Target == target })
}

// named returns the ids of the glossaries that a call of translate names.
func named(c *door.Call) ([]string, error) {
	ids := list(c.Params, "glossary_ids")
	one := c.Params.Tag("glossary_id")
	switch {
	case one != "" && len(ids) > 0:
		return nil, &core.Error{Kind: core.InvalidRequest, Detail: "Parameters 'glossary_id' and 'glossary_ids' exclude each other"}
	case one != "":
		return []string{one}, nil
	case len(ids) > mostOfAccount:
		return nil, &core.Error{Kind: core.InvalidRequest, Detail: fmt.Sprintf("Parameter 'glossary_ids' has %d values; at most %d are allowed", len(ids), mostOfAccount)}
	}
	return ids, nil
}

// consult makes the glossaries that w names hold for c.
func (d *Door) consult(c *door.Call, w wish) error {
	if len(w.glossaries) > 0 && w.source == "" {
		return &core.Error{Kind: core.InvalidRequest, Detail: "Use of a glossary requires the source_lang parameter to be specified"}
	}
	var all []*terms.Glossary
	for _, id := range w.glossaries {
		g, err := d.find(c, id)
		if err != nil {
			return err
		}
		says := g.lookUp(w.source, w.target)
		if says == nil {
			return &core.Error{Kind: core.InvalidRequest, Detail: "The glossary has no dictionary for this 'source_lang' and 'target_lang'"}
		}
		if g.operators != nil || !w.ignored {
			all = append(all, says)
		}
	}
	if len(all) > 0 {
		c.Rules = c.Rules.Under(terms.Join(all...))
	}
	return nil
}

var uuid = lazy.Regexp(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// find returns the glossary of that id which the client of c has, or that of the operator
// which has the id or the name.
func (d *Door) find(c *door.Call, id string) (*glossary, error) {
	for _, g := range d.operators() {
		if g.Name == id || g.ID == strings.ToLower(id) {
			return g, nil
		}
	}
	if !uuid().MatchString(id) {
		return nil, &core.Error{Kind: core.InvalidRequest, Detail: "Invalid glossary id"}
	}
	if g := d.shelf.get(c.Client, strings.ToLower(id)); g != nil {
		return g, nil
	}
	return nil, &core.Error{Kind: core.NotFound, Detail: "Glossary not found"}
}

func (d *Door) glossaryPairs(w http.ResponseWriter, c *door.Call) {
	type pair struct {
		Source string `json:"source_lang"`
		Target string `json:"target_lang"`
	}
	all, seen := []pair{}, map[pair]bool{}
	for _, info := range c.Rules.Offer().Pairs {
		for _, target := range info.Targets {
			p := pair{info.Source.Base(), target.Base()}
			if p.Source != p.Target && !seen[p] {
				all, seen[p] = append(all, p), true
			}
		}
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{"supported_languages": all})
}

// glossaries serves everything below /v2/glossaries and /v3/glossaries.
func (d *Door) glossaries(w http.ResponseWriter, r *http.Request, c *door.Call, path string) {
	version := path[1:3]
	parts := strings.Split(strings.Trim(path[len("/v2/glossaries"):], "/"), "/")
	if parts[0] == "" {
		switch r.Method {
		case http.MethodPost:
			d.create(w, r, c, version)
		case http.MethodGet:
			shown := []any{}
			for _, g := range append(d.operators(), d.shelf.all(c.Client)...) {
				shown = append(shown, g.whole().shown(version))
			}
			door.WriteJSON(w, http.StatusOK, map[string]any{"glossaries": shown})
		default:
			d.method(w, r, c, "GET, POST")
		}
		return
	}
	g, err := d.find(c, parts[0])
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	below := strings.Join(parts[1:], "/")
	if g.operators != nil && r.Method != http.MethodGet {
		d.fail(w, r, c, &core.Error{Kind: core.Forbidden, Detail: "This glossary is the operator's, and is changed in a file of his"})
		return
	}
	g = g.whole()
	switch {
	case below == "" && r.Method == http.MethodGet:
		door.WriteJSON(w, http.StatusOK, g.shown(version))
	case below == "" && r.Method == http.MethodDelete:
		if err := d.shelf.remove(g); err != nil {
			d.fail(w, r, c, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case below == "" && r.Method == http.MethodPatch && version == "v3":
		d.patch(w, r, c, g)
	case below == "entries" && r.Method == http.MethodGet:
		d.entries(w, r, c, g, version)
	case below == "dictionaries" && r.Method == http.MethodPut && version == "v3":
		d.replace(w, r, c, g)
	case below == "dictionaries" && r.Method == http.MethodDelete && version == "v3":
		d.drop(w, r, c, g)
	default:
		d.fail(w, r, c, &core.Error{Kind: core.NotFound, Detail: "Not found"})
	}
}

func (d *Door) method(w http.ResponseWriter, r *http.Request, c *door.Call, allowed string) {
	d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: core.InvalidRequest})
	w.Header().Set("Allow", allowed)
	door.WriteJSON(w, http.StatusMethodNotAllowed, map[string]string{"message": "Method not allowed"})
}

// shown is g as a version of the protocol shows it.
func (g *glossary) shown(version string) any {
	if version == "v2" {
		one := dictionary{}
		if len(g.Pairs) > 0 {
			one = g.Pairs[0]
		}
		return struct {
			ID      string    `json:"glossary_id"`
			Ready   bool      `json:"ready"`
			Name    string    `json:"name"`
			Source  string    `json:"source_lang"`
			Target  string    `json:"target_lang"`
			Created time.Time `json:"creation_time"`
			Count   int       `json:"entry_count"`
		}{g.ID, true, g.Name, one.Source, one.Target, g.Created, len(one.Terms)}
	}
	pairs := []any{}
	for _, p := range g.Pairs {
		pairs = append(pairs, p.shown())
	}
	return map[string]any{"glossary_id": g.ID, "name": g.Name, "dictionaries": pairs, "creation_time": g.Created}
}

func (d dictionary) shown() any {
	return map[string]any{"source_lang": d.Source, "target_lang": d.Target, "entry_count": len(d.Terms)}
}

func (d *Door) create(w http.ResponseWriter, r *http.Request, c *door.Call, version string) {
	g := &glossary{ID: newUUID(), Client: c.Client, Name: strings.TrimSpace(c.Params.Text("name")), Created: time.Now().UTC().Truncate(time.Millisecond)}
	if g.Name == "" {
		d.bad(w, r, c, "Missing or invalid argument: name'")
		return
	}
	given := []fields{paramFields(c.Params)}
	if version == "v3" {
		given = dictionaries(c.Params)
	}
	if len(given) == 0 || len(given) > mostPairs {
		d.bad(w, r, c, "Missing or invalid argument: dictionaries")
		return
	}
	for _, f := range given {
		one, err := d.read(f)
		if err == nil && g.pair(one.Source, one.Target) >= 0 {
			err = &core.Error{Kind: core.InvalidRequest, Detail: "Two dictionaries are for the same languages"}
		}
		if err != nil {
			d.broken(w, r, c, err)
			return
		}
		g.Pairs = append(g.Pairs, one)
	}
	if err := d.shelf.add(g); err != nil {
		d.fail(w, r, c, err)
		return
	}
	door.WriteJSON(w, http.StatusCreated, g.shown(version))
}

// broken answers with what is wrong with a dictionary.
func (d *Door) broken(w http.ResponseWriter, r *http.Request, c *door.Call, err error) {
	d.Failed(r, c.ID, c.Client, c.Begin, err)
	e := core.AsError(err, "door")
	if e.Field == "entries" {
		door.WriteJSON(w, http.StatusBadRequest, map[string]string{"message": "Invalid glossary entries provided", "detail": e.Detail})
		return
	}
	door.WriteJSON(w, http.StatusBadRequest, map[string]string{"message": e.Detail})
}

// patch gives a glossary another name, and adds terms to one of its dictionaries.
func (d *Door) patch(w http.ResponseWriter, r *http.Request, c *door.Call, g *glossary) {
	given := dictionaries(c.Params)
	if len(given) > 1 {
		d.bad(w, r, c, "At most one dictionary can be changed at a time")
		return
	}
	var more dictionary
	if len(given) == 1 {
		var err error
		if more, err = d.read(given[0]); err != nil {
			d.broken(w, r, c, err)
			return
		}
	}
	name := strings.TrimSpace(c.Params.Text("name"))
	next, err := d.shelf.change(g.ID, func(g *glossary) error {
		if name != "" {
			g.Name = name
		}
		if len(given) == 0 {
			return nil
		}
		if i := g.pair(more.Source, more.Target); i >= 0 {
			g.Pairs[i].Terms = merged(g.Pairs[i].Terms, more.Terms)
		} else {
			g.Pairs = append(g.Pairs, more)
		}
		return nil
	})
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	door.WriteJSON(w, http.StatusOK, next.shown("v3"))
}

// merged returns terms with more laid over them.
func merged(terms, more []term) []term {
	all, at := slices.Clone(terms), map[string]int{}
	for i, t := range all {
		at[t.Source] = i
	}
	for _, t := range more {
		if i, known := at[t.Source]; known {
			all[i] = t
		} else {
			all = append(all, t)
		}
	}
	return all
}

func (d *Door) replace(w http.ResponseWriter, r *http.Request, c *door.Call, g *glossary) {
	one, err := d.read(paramFields(c.Params))
	if err != nil {
		d.broken(w, r, c, err)
		return
	}
	_, err = d.shelf.change(g.ID, func(g *glossary) error {
		if i := g.pair(one.Source, one.Target); i >= 0 {
			g.Pairs[i] = one
		} else {
			g.Pairs = append(g.Pairs, one)
		}
		return nil
	})
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	door.WriteJSON(w, http.StatusOK, one.shown())
}

// chosen returns which dictionary of g a call means.
func (d *Door) chosen(c *door.Call, g *glossary) (int, error) {
	i := g.pair(base(c.Params.Tag("source_lang")), base(c.Params.Tag("target_lang")))
	if i < 0 {
		return 0, &core.Error{Kind: core.NotFound, Detail: "Dictionary not found"}
	}
	return i, nil
}

func (d *Door) drop(w http.ResponseWriter, r *http.Request, c *door.Call, g *glossary) {
	_, err := d.shelf.change(g.ID, func(g *glossary) error {
		i, err := d.chosen(c, g)
		if err == nil {
			g.Pairs = slices.Delete(g.Pairs, i, i+1)
		}
		return err
	})
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *Door) entries(w http.ResponseWriter, r *http.Request, c *door.Call, g *glossary, version string) {
	if version == "v3" {
		i, err := d.chosen(c, g)
		if err != nil {
			d.fail(w, r, c, err)
			return
		}
		one := g.Pairs[i]
		door.WriteJSON(w, http.StatusOK, map[string]any{"dictionaries": []any{map[string]any{
			"source_lang": one.Source, "target_lang": one.Target, "entries_format": "tsv", "entries": one.tsv(),
		}}})
		return
	}
	if accept := r.Header.Get("Accept"); accept != "" && !strings.Contains(accept, "text/tab-separated-values") && !strings.Contains(accept, "*/*") {
		d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: core.InvalidRequest})
		door.WriteJSON(w, http.StatusUnsupportedMediaType, map[string]string{"message": "No supported media type specified in Accept header"})
		return
	}
	w.Header().Set("Content-Type", "text/tab-separated-values; charset=UTF-8")
	if len(g.Pairs) > 0 {
		io.WriteString(w, g.Pairs[0].tsv())
	}
}

func (d dictionary) tsv() string {
	lines := make([]string, len(d.Terms))
	for i, t := range d.Terms {
		lines[i] = t.Source + "\t" + t.Target
	}
	return strings.Join(lines, "\n")
}

// fields are those of one dictionary, by name.
type fields func(string) string

func paramFields(p *door.Params) fields { return p.Text }

// dictionaries returns the dictionaries of a call: a JSON array, or fields of a form
// such as dictionaries[0].source_lang or dictionaries[0][source_lang].
func dictionaries(p *door.Params) (all []fields) {
	if raw := p.Raw("dictionaries"); raw != nil {
		var items []map[string]any
		if json.Unmarshal(raw, &items) != nil {
			return nil
		}
		for _, item := range items {
			all = append(all, func(name string) string { s, _ := item[name].(string); return s })
		}
		return all
	}
	indexed := map[int]map[string]string{}
	for _, key := range p.Names() {
		if m := indexedField.FindStringSubmatch(key); m != nil {
			i, err := strconv.Atoi(m[1])
			if err != nil || i >= mostPairs {
				continue
			}
			if indexed[i] == nil {
				indexed[i] = map[string]string{}
			}
			indexed[i][m[2]+m[3]] = p.Text(key)
		}
	}
	for i := range mostPairs {
		if item, ok := indexed[i]; ok {
			all = append(all, func(name string) string { return item[name] })
		}
	}
	return all
}

var indexedField = regexp.MustCompile(`^dictionaries\[(\d{1,3})\](?:\.(\w+)|\[(\w+)\])$`)

// base returns the base code of a language, in lower case.
func base(code string) string {
	code, _, _ = strings.Cut(strings.ToLower(strings.ReplaceAll(code, "_", "-")), "-")
	return code
}

// read reads one dictionary. An error that names the field entries is about one row.
func (d *Door) read(f fields) (one dictionary, err error) {
	wrong := func(field, format string, args ...any) (dictionary, error) {
		return one, &core.Error{Kind: core.InvalidRequest, Field: field, Detail: fmt.Sprintf(format, args...)}
	}
	one.Source, one.Target = base(f("source_lang")), base(f("target_lang"))
	for _, code := range []string{one.Source, one.Target} {
		if _, err := core.ParseLanguage(code); err != nil {
			return wrong("", "Unsupported glossary source and target language pair")
		}
	}
	if one.Source == one.Target {
		return wrong("", "Unsupported glossary source and target language pair")
	}
	switch format := strings.ToLower(f("entries_format")); format {
	case "tsv", "":
		one.Terms, err = readTSV(f("entries"))
	case "csv":
		one.Terms, err = readCSV(f("entries"), one.Source, one.Target)
	default:
		return wrong("", "Unsupported entry format specified")
	}
	if err != nil {
		return wrong("entries", "%v", err)
	}
	if len(one.Terms) == 0 {
		return wrong("entries", "No entries were given")
	}
	return one, nil
}

// A collector takes the terms of a dictionary and refuses what cannot be one.
type collector struct {
	terms []term
	index map[string]int // of sources
	start []int          // where each term begins, in code points
}

func (c *collector) add(row, start int, source, target string) error {
	source, target = strings.TrimSpace(source), strings.TrimSpace(target)
	for column, text := range []string{source, target} {
		switch {
		case text == "":
			return fmt.Errorf("row %d, column %d: the term is empty", row, column+1)
		case len(text) > mostTerm:
			return fmt.Errorf("row %d, column %d: the term has %d bytes; at most %d are allowed", row, column+1, len(text), mostTerm)
		case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\u2028' || r == '\u2029' }):
			return fmt.Errorf("row %d, column %d: the term holds a control character", row, column+1)
		}
	}
	if c.index == nil {
		c.index = map[string]int{}
	}
	if i, twice := c.index[source]; twice {
		return fmt.Errorf("Key with the index %d (starting at position %d) duplicates key with the index %d (starting at position %d)", len(c.terms), start, i, c.start[i])
	}
	c.index[source] = len(c.terms)
	c.terms, c.start = append(c.terms, term{source, target}), append(c.start, start)
	return nil
}

func readTSV(entries string) ([]term, error) {
	var c collector
	row, at := 0, 0
	for line := range strings.Lines(entries) {
		row++
		start := at
		at += utf8.RuneCountInString(line)
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		source, target, two := strings.Cut(line, "\t")
		if !two {
			return nil, fmt.Errorf("Entry with the index %d (starting at position %d) misses tab separator (row %d)", len(c.terms), start, row)
		}
		if before, _, more := strings.Cut(target, "\t"); more {
			if strings.TrimSpace(target[len(before):]) != "" {
				return nil, fmt.Errorf("row %d, column 3: there are more than two columns", row)
			}
			target = before
		}
		if err := c.add(row, start, source, target); err != nil {
			return nil, err
		}
	}
	return c.terms, nil
}

// readCSV reads rows of two columns, or of four, of which the others are the
// languages of the row.
func readCSV(entries, from, to string) ([]term, error) {
	var c collector
	r := csv.NewReader(strings.NewReader(entries))
	r.FieldsPerRecord = -1
	for {
		record, err := r.Read()
		if err == io.EOF {
			return c.terms, nil
		}
		if broken, ok := errors.AsType[*csv.ParseError](err); ok {
			return nil, fmt.Errorf("row %d, column %d: %v", broken.StartLine, broken.Column, broken.Err)
		} else if err != nil {
			return nil, err
		}
		row, _ := r.FieldPos(0)
		switch len(record) {
		case 2:
		case 4:
			if base(record[2]) != from || base(record[3]) != to {
				return nil, fmt.Errorf("row %d, column 3: its languages are not those of the dictionary", row)
			}
		default:
			return nil, fmt.Errorf("row %d has %d columns; two or four are allowed", row, len(record))
		}
		if err := c.add(row, int(r.InputOffset()), record[0], record[1]); err != nil {
			return nil, err
		}
	}
}
