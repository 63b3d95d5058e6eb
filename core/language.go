package core

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/language"
)

// A Language is a BCP-47 tag in canonical form ("en", "pt-BR", "zh-Hant"), or
// empty for unknown. Make one with ParseLanguage; two equal languages are equal
// strings.
type Language string

// maxLanguage is the longest tag taken, in bytes. RFC 5646 section 4.4.1 asks
// for at least 35.
const maxLanguage = 35

// ParseLanguage reads a BCP-47 tag in any case, with - or _ between subtags,
// and returns its canonical form: language, script, region and variants, each of
// which the registry has a meaning for. Extensions ("de-u-co-phonebk") say nothing
// about the language and are dropped, and so is a private part ("en-x-house"),
// which has a meaning for its author alone, and could be any text. A tag that is
// nothing else names no language. The error is an unsupported_language without a
// field.
func ParseLanguage(s string) (Language, error) {
	bad := func(why string) error {
		return &Error{Kind: UnsupportedLanguage, Detail: why + `; write a BCP-47 tag such as "en", "pt-BR" or "zh-Hant"`}
	}
	if s == "" {
		return "", bad("the language is empty")
	}
	if len(s) > maxLanguage {
		return "", bad(fmt.Sprintf("the language is longer than %d bytes", maxLanguage))
	}
	tag, err := language.Parse(s)
	if err != nil {
		var value language.ValueError
		if errors.As(err, &value) {
			return "", bad(fmt.Sprintf("%q is not a language that is known here", s))
		}
		return "", bad(fmt.Sprintf("%q is not a language tag", s))
	}
	if named := named(tag); named != language.Und {
		return Language(named.String()), nil
	}
	return "", bad(fmt.Sprintf("%q names no language", s))
}

// named returns what tag says of a language; language.Und for nothing.
func named(tag language.Tag) language.Tag {
	base, script, region := tag.Raw()
	if base == (language.Base{}) || base.String() == "und" || base.IsPrivateUse() {
		return language.Und
	}
	parts := []any{base, region, tag.Variants()}
	if !script.IsPrivateUse() {
		parts = append(parts, script)
	}
	named, err := language.Compose(parts...)
	if err != nil {
		return language.Und
	}
	return named
}

// Named returns the tag of l without anything that its author could have filled
// with words: fit for a prompt, whoever made l. It is language.Und when that
// leaves no language.
func (l Language) Named() language.Tag { return named(l.Tag()) }

// Tag returns l for golang.org/x/text; language.Und when l is unknown.
func (l Language) Tag() language.Tag {
	if l == "" {
		return language.Und
	}
	return language.Make(string(l))
}

// Covers says whether what is meant for l is meant for other: the same language, or one
// that l says less of, as de does of de-AT and zh-Hant of zh-Hant-TW. An unknown
// language is covered by none.
func (l Language) Covers(other Language) bool {
	rest, ok := strings.CutPrefix(string(other), string(l))
	return ok && l != "" && (rest == "" || rest[0] == '-')
}

// Base returns the primary language subtag: "pt" of "pt-BR".
func (l Language) Base() string {
	for i := 0; i < len(l); i++ {
		if l[i] == '-' {
			return string(l[:i])
		}
	}
	return string(l)
}
