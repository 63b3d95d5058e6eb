package live

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
)

// inferring returns what asks a door with live.infer for a text of that client; a call
// takes 300 ms.
func inferring(f translator) func(ctx context.Context, client, text string) (*core.Result, error) {
	c := plain()
	c.Infer = true
	d := New(c, door.New(door.Defaults(), f), door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
	return func(ctx context.Context, client, text string) (*core.Result, error) {
		return d.Infer(ctx, "libretranslate", "", &core.Request{Text: text, Source: "en", Target: "es", Client: client}, func(r *core.Request) (*core.Result, error) {
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return nil, core.ContextError(ctx, "test")
			}
			return f(ctx, r)
		})
	}
}

func growing(n int) (all []string) {
	words := strings.Fields("so this is what we want to say and it goes on for longer than one would think at first")
	for i := range n {
		all = append(all, strings.Join(words[:i+1], " "))
	}
	return all
}

// A client that is no speaker has the translation of each of its texts, whatever they look
// like: pages at once, lists one after another.
func TestWhatIsNoSpeechIsNeverAnsweredWithAnotherText(t *testing.T) {
	for _, row := range []struct {
		what  string
		texts []string
		every time.Duration // 0 at once; below it one after the answer to another
	}{
		{"a page whose texts begin alike", growing(15), 0},
		{"a page, a little apart", growing(15), 10 * time.Millisecond},
		{"a list, one after another", growing(15), -1},
		{"chapters, one after another", []string{"Chapter 1", "Chapter 1: a b", "Chapter 1: a b c", "Chapter 1: a b c d", "Chapter 12"}, -1},
		{"texts that are alike in nothing", []string{"One here.", "Two there", "Three and four", "Five", "Six or seven"}, 300 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			ask := inferring(shout)
			var all sync.WaitGroup
			for _, text := range row.texts {
				one := func() {
					res, err := ask(t.Context(), "page", text)
					if want := strings.ToUpper(text) + "/es"; err != nil || res.Text != want {
						t.Errorf("%s: %q is answered with %+v %v", row.what, text, res, err)
					}
				}
				if row.every < 0 {
					one()
					continue
				}
				all.Go(one)
				time.Sleep(row.every)
			}
			all.Wait()
		})
	}
}

// Once a client is known to speak, a text that has grown meanwhile is answered with the
// translation of another revision, and says so. The last one has its own.
func TestATextThatHasGrownIsAnsweredWithADraftAndTheLastOneWithItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var mu sync.Mutex
		ask := inferring(func(ctx context.Context, r *core.Request) (*core.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			calls++
			return shout(ctx, r)
		})
		texts := growing(16)
		got := make([]*core.Result, len(texts))
		var all sync.WaitGroup
		for i, text := range texts {
			all.Go(func() {
				res, err := ask(t.Context(), "speaker", text)
				if err != nil {
					t.Error(err)
				}
				got[i] = res
			})
			time.Sleep(400 * time.Millisecond)
		}
		all.Wait()
		drafts := 0
		for i, res := range got {
			own := strings.ToUpper(texts[i]) + "/es"
			if slices.Contains(res.Flags, live.FlagDraft) {
				drafts++
				if !res.Cached || !strings.HasPrefix(own, strings.TrimSuffix(res.Text, "/es")) && !strings.HasPrefix(res.Text, strings.ToUpper(texts[i])) {
					t.Errorf("%q has the draft %+v", texts[i], res)
				}
			} else if res.Text != own {
				t.Errorf("%q is answered with %+v", texts[i], res)
			}
		}
		if last := got[len(got)-1]; last.Text != strings.ToUpper(texts[len(texts)-1])+"/es" || len(last.Flags) > 0 {
			t.Errorf("the last one is answered with %+v", last)
		}
		if drafts < len(texts)/2 || calls > len(texts)/2 {
			t.Errorf("%d drafts, %d calls for %d texts", drafts, calls, len(texts))
		}
	})
}

// Whatever comes when, fails or leaves: every text that stays has an answer in its time,
// which is its own or a draft, and the latest of a segment has its own.
func TestAnInferredSessionLosesNobody(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type say struct {
			text   string
			after  time.Duration
			leaves time.Duration // 0 for never
			fails  bool
		}
		var all []say
		for segment := range rapid.IntRange(1, 4).Draw(rt, "segments") {
			for _, text := range growing(rapid.IntRange(1, 12).Draw(rt, "words")) {
				own := strings.ReplaceAll(text+" ", " ", fmt.Sprint(segment, " ")) // no word of another one
				s := say{text: strings.TrimSpace(own), after: time.Duration(rapid.IntRange(0, 1500).Draw(rt, "after")) * time.Millisecond, fails: rapid.IntRange(0, 9).Draw(rt, "fails") == 0}
				if rapid.IntRange(0, 4).Draw(rt, "leaves") == 0 {
					s.leaves = time.Duration(rapid.IntRange(1, 900).Draw(rt, "after so long")) * time.Millisecond
				}
				all = append(all, s)
			}
		}
		synctest.Test(t, func(t *testing.T) {
			ask := inferring(func(ctx context.Context, r *core.Request) (*core.Result, error) {
				for _, s := range all {
					if s.text == r.Text && s.fails {
						return nil, &core.Error{Kind: core.ProviderFailed}
					}
				}
				return shout(ctx, r)
			})
			var pending sync.WaitGroup
			for i, s := range all {
				pending.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
					defer cancel()
					if s.leaves > 0 {
						ctx, cancel = context.WithCancel(ctx)
						time.AfterFunc(s.leaves, cancel)
					}
					begin := time.Now()
					res, err := ask(ctx, "speaker", s.text)
					took := time.Since(begin)
					switch {
					case ctx.Err() != nil && s.leaves > 0:
					case err != nil && (!s.fails || core.KindOf(err) != core.ProviderFailed):
						t.Errorf("%q fails: %v", s.text, err)
					case err != nil:
					case took > 4*time.Second:
						t.Errorf("%q takes %v", s.text, took)
					case res.Text != strings.ToUpper(s.text)+"/es" && !slices.Contains(res.Flags, live.FlagDraft):
						t.Errorf("%q is answered with %q", s.text, res.Text)
					case slices.Contains(res.Flags, live.FlagDraft) && (i+1 == len(all) || !strings.HasPrefix(all[i+1].text, strings.Fields(s.text)[0])):
						t.Errorf("%q, the last of its segment, is answered with a draft", s.text)
					}
				})
				time.Sleep(s.after)
			}
			pending.Wait()
		})
	})
}

// A call that panics is contained by whoever asked, and is nobody else's trouble.
func TestAnInferredCallThatPanicsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := inferring(func(ctx context.Context, r *core.Request) (*core.Result, error) {
			if r.Text == "so" {
				panic("a part is broken")
			}
			return shout(ctx, r)
		})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("nothing panicked")
				}
			}()
			ask(t.Context(), "caption", "so")
		}()
		if res, err := ask(t.Context(), "caption", "so this"); err != nil || res.Text != "SO THIS/es" {
			t.Errorf("%+v %v", res, err)
		}
	})
}

// Without the key nothing is held and nothing is known of anybody.
func TestInferenceIsOffUntilItIsAskedFor(t *testing.T) {
	if live.Defaults().Infer {
		t.Fatal("it is on")
	}
	d := New(plain(), door.New(door.Defaults(), translator(shout)), door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
	for _, text := range growing(9) {
		if res, err := d.Infer(t.Context(), "openai", "", &core.Request{Text: text, Target: "es", Client: "a"}, func(r *core.Request) (*core.Result, error) { return shout(t.Context(), r) }); err != nil || res.Text != strings.ToUpper(text)+"/es" {
			t.Errorf("%+v %v", res, err)
		}
	}
	if n := d.plainly.of.Counts(time.Now()); n != (live.Inferred{}) {
		t.Errorf("%+v", n)
	}
}
