package door

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
)

// Glossaries are those that clients can name.
type Glossaries map[string]*glossary.Glossary

// UseGlossaries makes all hold for calls that arrive from now on.
func (s *Service) UseGlossaries(all Glossaries) { s.glossaries.Store(&all) }

// Glossary returns the glossary of that name. The error, an invalid_request that names
// field, says which there are.
func (s *Service) Glossary(name, field string) (*glossary.Glossary, error) {
	all := s.Glossaries()
	if g, ok := all[name]; ok {
		return g, nil
	}
	there := "none is configured (glossaries)"
	if len(all) > 0 {
		there = "there are " + strings.Join(slices.Sorted(maps.Keys(all)), ", ")
	}
	return nil, &core.Error{Kind: core.InvalidRequest, Field: field, Detail: fmt.Sprintf("there is no glossary %.80q; %s", name, there)}
}

// Glossaries returns those that clients can name.
func (s *Service) Glossaries() Glossaries {
	if all := s.glossaries.Load(); all != nil {
		return *all
	}
	return nil
}

// Under returns r for a call in which g holds, a nil g for one without a glossary: a text
// that is a term of it is answered from it, the terms that occur in any other text go with
// it, and its translation is checked for theirs. One that lacks some carries
// core.FlagGlossaryMissed.
func (r *Rules) Under(g *glossary.Glossary) *Rules {
	if g == r.glossary {
		return r
	}
	own := *r
	own.glossary = g
	return &own
}

// MostTerms bounds the terms of one call.
const MostTerms = 1000

// ClientTerms makes a glossary of the terms that a client gave in field for texts in source,
// which may be empty. With server.instructions off there is none, and ignored says so. The
// errors, too_large and invalid_request, name the term at fault by its number from 0.
func (r *Rules) ClientTerms(terms []core.Pair, source, target core.Language, field string) (g *glossary.Glossary, ignored bool, err error) {
	if len(terms) > MostTerms {
		return nil, false, &core.Error{Kind: core.TooLarge, Field: field, Detail: fmt.Sprintf("%s has %d terms; at most %d are taken", field, len(terms), MostTerms)}
	}
	for i, t := range terms {
		for _, term := range []string{t.Source, t.Target} {
			if err := glossary.CheckTerm(strings.TrimSpace(term)); err != nil {
				name := field + "[" + strconv.Itoa(i) + "]"
				return nil, false, &core.Error{Kind: core.InvalidRequest, Field: name, Detail: name + ": " + err.Error()}
			}
		}
	}
	if r.Instructions == instructionsOff {
		return nil, true, nil
	}
	g, err = glossary.New("", source, target, terms)
	return g, false, err
}

// Bounds of the context of one call, which goes into the prompt of each of its texts.
const (
	mostEarlier = 20
	mostContext = 4000 // code points
)

// ClientContext returns the context that a client gave in field: earlier pairs, and a text
// around those of the call. With server.instructions off there is none, and ignored says
// whether there was any. The errors, too_large and invalid_request, name the pair at fault.
func (r *Rules) ClientContext(earlier []core.Pair, around, field string) (taken []core.Pair, ignored bool, err error) {
	if len(earlier) > mostEarlier {
		return nil, false, &core.Error{Kind: core.TooLarge, Field: field, Detail: fmt.Sprintf("%s has %d pairs; at most %d are taken", field, len(earlier), mostEarlier)}
	}
	n := utf8.RuneCountInString(around)
	if err := CheckText(around, field); err != nil {
		return nil, false, err
	}
	for i, p := range earlier {
		for j, text := range []string{p.Source, p.Target} {
			name := field + "[" + strconv.Itoa(i) + "]." + [...]string{"source", "target"}[j]
			if err := CheckText(text, name); err != nil {
				return nil, false, err
			}
			if strings.TrimSpace(text) == "" {
				return nil, false, &core.Error{Kind: core.InvalidRequest, Field: name, Detail: name + " is blank"}
			}
			n += utf8.RuneCountInString(text)
		}
		taken = append(taken, p)
	}
	if n > mostContext {
		return nil, false, &core.Error{Kind: core.TooLarge, Field: field, Detail: fmt.Sprintf("%s has %d code points; at most %d are taken", field, n, mostContext)}
	}
	if around = strings.TrimSpace(around); around != "" {
		taken = append([]core.Pair{{Source: around}}, taken...)
	}
	if r.Instructions == instructionsOff {
		return nil, len(taken) > 0, nil
	}
	return taken, false, nil
}

// Around returns the context of a text of which a file says in which it stands; none with
// server.instructions off.
func (r *Rules) Around(context string) []core.Pair {
	if context == "" || r.Instructions == instructionsOff {
		return nil
	}
	return []core.Pair{{Source: context}}
}

// consulted sends req on, which is nobody else's and whose text has no white space round
// it, with what the glossary of r says of it.
func (r *Rules) consulted(ctx context.Context, req *core.Request) (*core.Result, error) {
	source := req.Source
	if source == "" {
		if guess := detect.Of(req.Text); guess.Sure() {
			source = guess.Language
		}
	}
	table := r.glossary.For(source, req.Target)
	if table == nil {
		return r.send(ctx, req)
	}
	if whole, ok := table.Whole(req.Text, req.Target); ok {
		return &core.Result{Text: whole, Cached: true, Flags: fromGlossary}, nil
	}
	req.Glossary, req.GlossaryVersion, req.Terms = r.glossary.Name, r.glossary.Version, table.Find(req.Text)
	res, err := r.send(ctx, req)
	if err == nil && len(req.Terms) > 0 && len(glossary.Missed(req.Terms, req.Target, res.Text)) > 0 {
		res = res.WithFlag(core.FlagGlossaryMissed)
	}
	return res, err
}

// fromGlossary is shared by results; nobody changes a result.
var fromGlossary = []string{core.FlagGlossary}
