package core

import (
	"errors"
	"fmt"

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
// and returns its canonical form. The error is an unsupported_language without
// a field.
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
	if tag == language.Und {
		return "", bad(fmt.Sprintf("%q names no language", s))
	}
	return Language(tag.String()), nil
}

// Tag returns l for golang.org/x/text; language.Und when l is unknown.
func (l Language) Tag() language.Tag {
	if l == "" {
		return language.Und
	}
	return language.Make(string(l))
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
