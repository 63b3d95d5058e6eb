// Package livetest is a translation for tests, simulators and measurements of live
// sessions, which changes its mind as a real one does.
package livetest

import (
	"context"
	"hash/fnv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Flicker translates word by word, and changes its mind while a sentence grows: the form
// of some words depends on the word behind them, some change places with it, and some
// go to the end of their sentence. It is the same for the same sentence, wherever that
// stands.
type Flicker struct{}

// Translate is that of an engine; it needs no source.
func (Flicker) Translate(_ context.Context, text string, _, target core.Language) (string, error) {
	return Translated(text, target), nil
}

// Translated is what Flicker makes of a text.
func Translated(text string, target core.Language) string {
	var out strings.Builder
	begin := 0
	for i, r := range text {
		if !strings.ContainsRune(".!?。！？؟", r) {
			continue
		}
		end := i + utf8.RuneLen(r)
		if next, _ := utf8.DecodeRuneInString(text[end:]); end < len(text) && !unicode.IsSpace(next) && r < 0x80 {
			continue
		}
		out.WriteString(sentence(text[begin:end], target))
		begin = end
	}
	out.WriteString(sentence(text[begin:], target))
	return out.String()
}

func sentence(text string, target core.Language) string {
	words := strings.Fields(text)
	if len(words) == 0 {
		return text
	}
	lead := text[:strings.Index(text, words[0])]
	last := words[len(words)-1]
	stop := last[len(strings.TrimRight(last, ".!?。！？؟")):]
	words[len(words)-1] = strings.TrimSuffix(last, stop)
	var out, end []string
	for i, w := range words {
		next := ""
		if i+1 < len(words) {
			next = strings.ToLower(words[i+1])
		}
		form := w + ending(target)
		if h := hash(w); h%3 == 0 && next != "" { // agrees with what follows
			form = w + ending(target) + string("aeio"[hash(next)%4])
		}
		if hash(w)%29 == 1 && next != "" {
			end = append(end, form)
			continue
		}
		out = append(out, form)
		if n := len(out); n > 1 && i > 0 && hash(words[i-1])%9 == 2 {
			out[n-1], out[n-2] = out[n-2], out[n-1]
		}
	}
	return lead + strings.Join(append(out, end...), " ") + stop
}

func ending(target core.Language) string {
	h := hash(string(target))
	return string([]byte{"klmnrst"[h%7], "aeiou"[h/7%5]})
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(s)))
	return h.Sum32()
}
