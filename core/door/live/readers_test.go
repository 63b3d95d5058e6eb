package live

import (
	"context"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// Whoever reads another service's live protocol reads this one by renaming fields alone:
// each reader below is as its service's documentation has it, fed with our frames under its
// names.

// deeplReader reads transcripts of translations as DeepL Voice sends them: what is concluded is
// appended, and what is tentative is replaced.
type deeplReader struct {
	concluded map[string]string
	tentative map[string]string
	ended     map[string]bool
}

type deeplUpdate struct{ Language, Concluded, Tentative string }

func (r *deeplReader) update(u deeplUpdate) {
	r.concluded[u.Language] += u.Concluded
	r.tentative[u.Language] = u.Tentative
}

func (r *deeplReader) end(language string) { r.ended[language] = true }

// sonioxReader reads tokens as Soniox sends them: final ones once, the others anew each time.
type sonioxReader struct{ final, rest string }

type sonioxToken struct {
	Text    string
	IsFinal bool
}

func (r *sonioxReader) tokens(list []sonioxToken) {
	r.rest = ""
	for _, t := range list {
		if t.IsFinal {
			r.final += t.Text
		} else {
			r.rest += t.Text
		}
	}
}

func TestForeignReadersWorkByMappingFieldsAlone(t *testing.T) {
	l := plain()
	g := serve(t, door.Defaults(), l, func(ctx context.Context, r *core.Request) (*core.Result, error) { return shout(ctx, r) })
	c := g.dial().say(begin)
	c.until("ready")
	segments := [][]string{
		{"so what we want", "So what we want to do is simple. And it takes", "So what we want to do is simple. And it takes no time at all, as you will see.", "So what we want to do is simple. And it takes no time at all, as you will see."},
		{"thank you", "Thank you."},
	}
	deepl := &deeplReader{concluded: map[string]string{}, tentative: map[string]string{}, ended: map[string]bool{}}
	soniox := &sonioxReader{}
	want := ""
	for i, revisions := range segments {
		for n, text := range revisions {
			c.say(source(string(rune('a'+i)), text, n+1 == len(revisions)))
		}
		for done := false; !done; {
			f := c.until("target")
			deepl.update(deeplUpdate{Language: f.Target, Concluded: f.Concluded, Tentative: f.Tentative})
			soniox.tokens([]sonioxToken{{f.Concluded, true}, {f.Tentative, false}})
			if done = f.Final; done {
				want += f.Text
			}
		}
	}
	c.say(`{"type":"end"}`)
	for {
		f, code := c.next()
		if code != 0 {
			break
		}
		if f.Type == "end" && f.Target != "" {
			deepl.end(f.Target)
		}
	}
	if deepl.concluded["es"] != want || deepl.tentative["es"] != "" || !deepl.ended["es"] {
		t.Errorf("as DeepL's: %+v, want %q", deepl, want)
	}
	if soniox.final != want || soniox.rest != "" || !strings.Contains(want, "SIMPLE") {
		t.Errorf("as Soniox's: %+v, want %q", soniox, want)
	}
}

// And what a recogniser of that kind hears goes in by renaming fields alone, too: its final
// tokens come once, the others anew each time, and a mark ends the segment.
func TestTokensOfARecogniserGoInByMappingFieldsAlone(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	c := g.dial().say(`{"type":"start","session":"room","source":"en","targets":["es"],"words":"incremental"}`)
	c.until("ready")
	c.say(
		`{"type":"source","segment":"a","words":[{"text":"So","is_final":true},{"text":" wat","is_final":false}]}`,
		`{"type":"source","segment":"a","words":[{"text":" what","is_final":true},{"text":" we","is_final":false}]}`,
		`{"type":"source","segment":"a","final":true,"words":[{"text":" we want.","is_final":true},{"text":"<end>","is_final":true}]}`,
	)
	if f := c.final(); f.Text != "SO WHAT WE WANT./es" {
		t.Errorf("%+v", f)
	}
}
