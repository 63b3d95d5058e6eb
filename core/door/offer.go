package door

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	"github.com/dragoman-mt/dragoman/core/text/names"
)

// Languages are what is offered to clients.
type Languages struct {
	Source        []string `json:"source" jsonschema_description:"Languages that texts may be in, as BCP-47 tags. Empty: any."`
	Target        []string `json:"target" jsonschema_description:"Languages that texts may be translated into, as BCP-47 tags. Any other is refused before a call is paid. Empty: whatever the providers take."`
	DefaultTarget string   `json:"default_target" jsonschema_description:"The target that clients are shown as chosen, where their protocol shows one."`
}

// An Offer is what the languages of a gateway are, for protocols that list them: it
// is never empty, though a provider may take any language.
type Offer struct {
	// Pairs are the sources, sorted, each with the targets that it can be translated to.
	Pairs []core.LanguageInfo
	// Targets are all that any source has, sorted.
	Targets []core.Language
	// Default is the target that is shown as chosen.
	Default core.Language
}

// Offer returns what is offered at this moment.
func (r *Rules) Offer() Offer {
	known := r.service.Languages()
	if known == nil {
		all := r.targets
		if len(all) == 0 {
			all = parsed(detect.Usual())
		}
		sources := r.sources
		if len(sources) == 0 {
			sources = slices.Compact(slices.Sorted(slices.Values(append(parsed(detect.Usual()), all...))))
		}
		for _, s := range sources {
			known = append(known, core.LanguageInfo{Source: s, Targets: all})
		}
	}
	var o Offer
	seen := map[core.Language]bool{}
	for _, pair := range known {
		if len(r.sources) > 0 && !slices.Contains(r.sources, pair.Source) {
			continue
		}
		kept := core.LanguageInfo{Source: pair.Source}
		for _, t := range pair.Targets {
			if len(r.targets) > 0 && !slices.Contains(r.targets, t) {
				continue
			}
			kept.Targets = append(kept.Targets, t)
			seen[t] = true
		}
		if len(kept.Targets) > 0 {
			slices.Sort(kept.Targets)
			o.Pairs = append(o.Pairs, kept)
		}
	}
	slices.SortFunc(o.Pairs, func(a, b core.LanguageInfo) int { return strings.Compare(string(a.Source), string(b.Source)) })
	for t := range seen {
		o.Targets = append(o.Targets, t)
	}
	slices.Sort(o.Targets)
	o.Default = r.defaultTarget
	if o.Default == "" {
		o.Default = "es"
		if !seen["es"] && len(o.Targets) > 0 {
			o.Default = o.Targets[0]
		}
	}
	return o
}

// Name is what a language is called in English.
func Name(l core.Language) string { return names.English(l.Tag()) }

func parsed(tags []string) (all []core.Language) {
	for _, tag := range tags {
		if l, err := core.ParseLanguage(tag); err == nil {
			all = append(all, l)
		}
	}
	return all
}

// Offered refuses a language that server.languages leaves out. A dialect of one that
// is listed is offered with it: en-GB where en is.
func (r *Rules) Offered(req *core.Request) error {
	in := func(list []core.Language, l core.Language) bool {
		return len(list) == 0 || slices.Contains(list, l) || slices.Contains(list, core.Language(l.Base()))
	}
	if !in(r.targets, req.Target) {
		return &core.Error{Kind: core.UnsupportedLanguage, Field: "target", Detail: fmt.Sprintf("%s is not offered as a target here (server.languages)", req.Target)}
	}
	if req.Source != "" && !in(r.sources, req.Source) {
		return &core.Error{Kind: core.UnsupportedLanguage, Field: "source", Detail: fmt.Sprintf("%s is not offered as a source here (server.languages)", req.Source)}
	}
	return nil
}

// LenientLanguage reads a language as clients of other services write it: a tag in any
// case, with - or _ between its parts and _ round it, or its English name.
func (s *Service) LenientLanguage(tag, field string) (core.Language, error) {
	tag = strings.Trim(strings.TrimSpace(tag), "_")
	if l, err := s.Language(strings.ToLower(tag), field); err == nil {
		return l, nil
	}
	if l, ok := named()[strings.ToLower(tag)]; ok {
		return l, nil
	}
	return s.Language(tag, field)
}

// named are languages by their English names, in lower case.
var named = sync.OnceValue(func() map[string]core.Language {
	all := map[string]core.Language{
		"chinese": "zh", "simplified chinese": "zh-Hans", "chinese (simplified)": "zh-Hans", "traditional chinese": "zh-Hant", "chinese (traditional)": "zh-Hant",
		"brazilian portuguese": "pt-BR", "portuguese (brazil)": "pt-BR", "portuguese (brazilian)": "pt-BR", "european portuguese": "pt-PT", "portuguese (portugal)": "pt-PT",
		"american english": "en-US", "english (american)": "en-US", "british english": "en-GB", "english (british)": "en-GB",
		"norwegian": "nb", "farsi": "fa", "tagalog": "tl",
	}
	for a := byte('a'); a <= 'z'; a++ {
		for b := byte('a'); b <= 'z'; b++ {
			base, err := language.ParseBase(string([]byte{a, b}))
			if err != nil {
				continue
			}
			l, err := core.ParseLanguage(base.String())
			if err != nil {
				continue
			}
			if name := strings.ToLower(Name(l)); name != "" {
				if _, taken := all[name]; !taken {
					all[name] = l
				}
			}
		}
	}
	return all
})
