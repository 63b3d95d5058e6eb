package exchange

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shortestSecret is the shortest value that is taken for a secret, in bytes.
const shortestSecret = 8

// Secrets finds what must never reach a log.
type Secrets struct{ found *strings.Replacer }

// NewSecrets returns one that finds secrets, such as keys and the values of headers, as
// they are and as JSON writes them. What is shorter than any key, such as the "x" that
// servers without keys are given, is no secret: it stands in every other word.
func NewSecrets(secrets ...string) *Secrets {
	var pairs []string
	add := func(secret string) {
		if secret = strings.TrimSpace(secret); len(secret) < shortestSecret {
			return
		}
		quoted, _ := json.Marshal(secret)
		for _, form := range []string{secret, string(quoted[1 : len(quoted)-1]), strings.ReplaceAll(secret, "/", `\/`)} {
			pairs = append(pairs, form, "[redacted]")
		}
	}
	for _, secret := range secrets {
		add(secret)
		if _, key, ok := strings.Cut(secret, " "); ok {
			add(key) // "Bearer sk-…"
		}
	}
	return &Secrets{strings.NewReplacer(pairs...)}
}

// Redact returns text without secrets.
func (s *Secrets) Redact(text string) string { return s.found.Replace(text) }

// maxCause is the most that is kept of the reason for a failed connection, in
// characters.
const maxCause = 200

// oneLine keeps at most most characters of s, on one line.
func oneLine(s string, most int) string {
	var b strings.Builder
	blank := false
	for _, r := range s {
		if most == 0 {
			break
		}
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			blank = b.Len() > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			blank = false
			if most--; most == 0 {
				break
			}
		}
		if r == utf8.RuneError {
			r = '?'
		}
		b.WriteRune(r)
		most--
	}
	return b.String()
}
