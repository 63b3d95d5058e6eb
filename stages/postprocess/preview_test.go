package postprocess

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A spoken answer comes in pieces.
type spoken struct {
	pieces []string
	res    *core.Result // nil: what the pieces are together
	err    error        // instead of a result
	finish core.Finish
}

func (s spoken) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	for _, piece := range s.pieces {
		if ctx.Err() != nil {
			return nil, core.ContextError(ctx, "spoken")
		}
		if err := req.OnDelta(piece); err != nil {
			return nil, err
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	if s.res != nil {
		return s.res, nil
	}
	return &core.Result{Text: strings.Join(s.pieces, ""), Finish: s.finish}, nil
}

// What a caller heard: deltas while the answer came in, and those after it.
type heard struct {
	early, late []string
	res         *core.Result
	err         error
}

func (h heard) text() string { return strings.Join(h.early, "") + strings.Join(h.late, "") }

// listen asks s for an answer that comes in the given way.
func listen(tb rapid.TB, s *Stage, req *core.Request, below core.Translator) (h heard) {
	over, returned := false, false
	asked := *req
	asked.OnDelta = func(text string) error {
		switch {
		case returned:
			tb.Errorf("a delta left after Translate had returned: %q", text)
		case over:
			h.late = append(h.late, text)
		default:
			h.early = append(h.early, text)
		}
		return nil
	}
	h.res, h.err = s.Wrap(core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		defer func() { over = true }()
		return below.Translate(ctx, req)
	})).Translate(context.Background(), &asked)
	returned = true
	return h
}

// swallowed says whether answer closes a think block that it has not opened: the
// thoughts before cannot be told from a translation.
func swallowed(answer string) bool {
	answer = strings.ToLower(answer)
	for _, tag := range thoughtTags {
		for rest := answer; ; {
			open, shut := strings.Index(rest, "<"+tag+">"), strings.Index(rest, "</"+tag+">")
			if shut < 0 {
				break
			}
			if open < 0 || shut < open {
				return true
			}
			rest = rest[shut+len(tag)+3:]
		}
	}
	return false
}

// agrees checks that what is heard of answer in pieces is what look says of the
// whole.
func agrees(tb rapid.TB, s *Stage, req *core.Request, answer string, finish core.Finish, pieces []string) (h heard) {
	tb.Helper()
	whole, refusal := s.look(req, &core.Result{Text: answer, Finish: finish}, "")
	h = listen(tb, s, req, spoken{pieces: pieces, finish: finish})
	failf := func(format string, args ...any) {
		tb.Helper()
		tb.Errorf("%s -> %s: %q: %q in %q: %s", req.Source, req.Target, req.Text, answer, pieces, fmt.Sprintf(format, args...))
	}
	if (h.res == nil) == (h.err == nil) {
		failf("got %+v and %v", h.res, h.err)
		return h
	}
	switch sent := h.text(); {
	case core.KindOf(h.err) == core.ProviderRefused && len(answer) > maxRefusal && sent == "":
		// A refusal of a short text, that went on and on: it was not waited for, so
		// it does not matter what the whole is.
	case refusal == nil && h.err != nil:
		failf("refused with %v, though the whole is not", h.err)
	case refusal == nil:
		if !reflect.DeepEqual(whole, h.res) { // in no time; to say in what takes a while
			failf("the result is not that of the whole:\n%s", cmp.Diff(whole, h.res))
		}
		if sent != whole.Text && answer != "" && !swallowed(answer) {
			failf("%q was heard of %q", sent, whole.Text)
		}
	case len(h.early) == 0:
		if sent != "" || core.KindOf(h.err) != refusal.Kind {
			failf("got %+v, %v after %q, want %v", h.res, h.err, sent, refusal)
		}
	case h.err != nil:
		failf("%q had left, and then it failed: %v", sent, h.err)
	default:
		if !h.res.NoStore || len(h.res.Flags) == 0 {
			failf("%q had left of what would be refused (%v), and it has neither flag nor NoStore: %+v", sent, refusal, h.res)
		}
		if h.res.Text != sent && !swallowed(answer) {
			failf("%q was heard of %q", sent, h.res.Text)
		}
	}
	return h
}

// runes cuts s into its code points.
func runes(s string) (all []string) {
	for i := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		all = append(all, s[i:i+size])
	}
	return all
}

// bytewise cuts s into its bytes.
func bytewise(s string) (all []string) {
	for i := range len(s) {
		all = append(all, s[i:i+1])
	}
	return all
}

// TestAnySplitOfACleanAnswerIsHeardWhole streams every clean pair, in one piece
// and in many: what is heard is the result, and the result is what came.
func TestAnySplitOfACleanAnswerIsHeardWhole(t *testing.T) {
	s := New("postprocess", Config{})
	all := written(t)
	long := 0
	for _, p := range append(all, composed(all)...) {
		for _, pieces := range [][]string{{p.answer}, runes(p.answer), bytewise(p.answer), strings.SplitAfter(p.answer, " ")} {
			h := listen(t, s, p.request(), spoken{pieces: pieces, finish: core.FinishStop})
			if h.err != nil || h.text() != p.answer || h.res.Text != p.answer || h.res.NoStore || h.res.Flags != nil {
				t.Errorf("%s: %q in %d pieces: heard %q, got %+v, %v", p.name, p.answer, len(pieces), h.text(), h.res, h.err)
			}
			if len(h.early) > 1 {
				long++
			}
		}
	}
	if long < 500 {
		t.Errorf("only %d answers were heard before they had ended", long)
	}
}

// TestAnswersLeaveAsTheyCome is what deltas are for.
func TestAnswersLeaveAsTheyCome(t *testing.T) {
	s := New("postprocess", Config{})
	req := &core.Request{Source: "en", Target: "de", Text: strings.Repeat("The committee met on Tuesday. ", 4)}
	answer := strings.TrimSpace(strings.Repeat("Das Komitee traf sich am Dienstag. ", 4))
	h := listen(t, s, req, spoken{pieces: strings.SplitAfter(answer, " ")})
	// The blank of a word leaves with the next one.
	if n := utf8.RuneCountInString(h.early[0]); n < hold || n > hold+10 {
		t.Errorf("the first delta has %d code points: %q", n, h.early[0])
	}
	if want := len(strings.Fields(answer)) - len(strings.Fields(h.early[0])); len(h.early) != want+1 || len(h.late) != 1 {
		t.Errorf("heard %q and then %q, want each word as it comes", h.early, h.late)
	}
}

// TestWhatIsKnownIsNotHeldBack: what a repair has taken off, or can no longer,
// delays nothing that stands behind it.
func TestWhatIsKnownIsNotHeldBack(t *testing.T) {
	s := New("postprocess", Config{})
	for _, c := range []struct{ text, answer, heard string }{
		{english, "Here is the translation:\n\n" + spanish, spanish},
		{english, "Sure! Here is the translation: " + spanish, spanish},
		{english, "<think>hm</think>\n\n<think>hm</think>" + spanish, spanish},
		{english, "Es la traducción de un texto sobre la biblioteca que está abierta. " + spanish, ""},
		{english, "La biblioteca (nota: la nueva) está abierta. " + spanish, ""},
		{english, "La biblioteca\nestá abierta.\n" + spanish, ""},
		{english, "La biblioteca\nNota\nestá abierta: " + spanish, ""},
		{english, "1 < 2, y <b>la biblioteca</b> está abierta. " + spanish, ""},
		{"**Note** " + english, "**Nota** " + spanish, ""},
		{`"Hello" ` + english, `"Hola" ` + spanish, ""},
		{"```" + english, "```" + spanish, ""},
		{"<think>" + english, "<think>" + spanish, ""},
		{"# Note: " + english, "# Nota: " + spanish, ""},
	} {
		if c.heard == "" {
			c.heard = c.answer
		}
		req := sentence()
		req.Text = c.text
		h := listen(t, s, req, spoken{pieces: runes(c.answer)})
		if h.text() != c.heard || h.err != nil {
			t.Errorf("%q: heard %q, got %v", c.answer, h.text(), h.err)
		}
		if len(h.early) == 0 || utf8.RuneCountInString(h.early[0]) > hold+10 || utf8.RuneCountInString(strings.Join(h.late, "")) > 2 {
			t.Errorf("%q: heard %q and then %q", c.answer, h.early, h.late)
		}
	}
}

// A label that names the target language stands before a translation, so what follows is
// not waited for as the text before one; simulators write so.
func TestALabelOfTheTargetLanguageHoldsNothingBack(t *testing.T) {
	req := sentence()
	req.Text = strings.Repeat(english+" ", 4)
	answer := strings.TrimSpace("[es] " + req.Text)
	if h := listen(t, New("postprocess", Config{}), req, spoken{pieces: runes(answer)}); h.err != nil || h.text() != answer+" " || len(h.early) < 100 {
		t.Errorf("heard %d pieces before the end, %q, %v", len(h.early), h.text(), h.err)
	}
}

// TestEveryCaseOfEveryStepStreams streams what each step repairs, refuses and
// leaves alone, by itself and at length, split at every code point.
func TestEveryCaseOfEveryStepStreams(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	s := New("postprocess", Config{})
	for _, cases := range steps {
		for _, c := range cases {
			for _, longer := range []bool{false, true} {
				if longer {
					// So that a part of it leaves before its end.
					if c.want == "" || !strings.Contains(c.answer, c.want) {
						continue
					}
					c.answer = strings.Replace(c.answer, c.want, c.want+" "+strings.Repeat(c.want+", ", 12)+"7", 1)
					c.text += " " + strings.Repeat(c.text+", ", 12) + "7"
				}
				all := runes(c.answer)
				agrees(t, s, c.request(), c.answer, core.FinishStop, all)
				for i := 0; i <= len(all); i += 1 + len(all)/40 {
					agrees(t, s, c.request(), c.answer, core.FinishStop, []string{strings.Join(all[:i], ""), strings.Join(all[i:], "")})
				}
			}
		}
	}
}

// What a model may put round a translation, and what may be found in one.
var (
	heads = []string{"", "", "Here is the translation:\n\n", "Here is the translation: ", "**Translation:** ", "Sure! ", "### Translation\n\n", "<think>hm, a (b) c:\nd</think>\n\n", "<think>hm</think>",
		"```\n", "```text\n", "<translation>", "\"", "“", "«", "'", "**", " \n", "Spanish: ", "Deutsch: ", "— ", "The translation of \"" + english + "\" is: ", "<think>hm</think>Sure! ", "Sure! " + strings.Repeat("…", hold), "Aquí está la traducción: ", "以下是翻译：\n", "Voici la traduction en français :\n\n", "<thinking>one", "A thought.\n</think>\n"}
	tails = []string{"", "", "\n```", "</translation>", "\"", "”", "»", "'", "**", "\n\n", " ", "\u00a0", "　", "\n\nNote: The tone of the original was kept.", "\n\n(Note: I kept the tone.)", " (literally: what it says)", " (lit. what it says)", " (note that it is so)", " (note: b (c))", " (a (note: b))", " (Note: one) (Note: two)",
		"\n---\n*Note: it is informal.*", "\n\n---\n\n", " -", " - \n***\nNote: x", "\n---", " (", " (lit", " (a [b) c]", "\n\nAlternatively: something else", "\nLet me know if you need anything else!", "\nNo", "\nOr", " <", " <th", " <think>hm</think>", " <think>hm", "<b>", ":", " :", "\n- ", "\xc2", "\xe3\x80"}
)

// TestWhateverIsPutRoundATranslationIsHeardAsTheWholeIsJudged combines any two
// heads and any two tails.
func TestWhateverIsPutRoundATranslationIsHeardAsTheWholeIsJudged(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	s := New("postprocess", Config{})
	try := func(answer string, size int) {
		agrees(t, s, sentence(), answer, core.FinishStop, split(answer, []int{size}))
	}
	for _, outer := range heads {
		for _, inner := range heads {
			for _, tail := range []string{"", "\n```", "</translation>", "\"", "**", "\n\nNote: The tone was kept."} {
				try(outer+inner+spanish+tail, 3)
			}
		}
	}
	for _, inner := range tails {
		for _, outer := range tails {
			try(spanish+inner+outer, 1)
			try("Translation: "+spanish+inner+" y más"+outer, 2)
		}
	}
}

// TestTheEndSaysNothingAboutTheBeginning: a colon that ends what has come looks
// like a label, which the text has, until it turns out to be a time of day.
func TestTheEndSaysNothingAboutTheBeginning(t *testing.T) {
	req := sentence()
	req.Text = "Opening hours: " + english
	answer := "Here is the translation: " + spanish + " Y a las 10:30 se cierra."
	for i := range answer {
		h := agrees(t, New("postprocess", Config{}), req, answer, core.FinishStop, []string{answer[:i], answer[i:]})
		if h.text() != answer || len(h.early) > 0 {
			t.Errorf("heard %q and then %q", h.early, h.late)
		}
	}
}

// TestTheEndOfThoughtsIsNoticedAtOnce: what they were does not count as waiting.
func TestTheEndOfThoughtsIsNoticedAtOnce(t *testing.T) {
	whole := "<think>" + strings.Repeat("This is long. ", 500) + "</think>\n\n" + spanish
	h := listen(t, New("postprocess", Config{}), sentence(), spoken{pieces: runes(whole)})
	if h.text() != spanish || len(h.early) < 2 || utf8.RuneCountInString(h.early[0]) > hold+10 {
		t.Errorf("heard %q and then %q", h.early, h.late)
	}
}

// TestASkippedStepIsSkippedInDeltas: what one step leaves alone is not held back
// for it.
func TestASkippedStepIsSkippedInDeltas(t *testing.T) {
	for _, c := range []struct {
		skip   Step
		answer string
		early  bool
	}{
		{Space, " \n" + spanish + "\n ", false}, // whether it stays, the rest decides
		{Space, " \n" + spanish + "\n\nNote: The tone was kept.", false},
		{Space, spanish + "\n ", true},
		{Think, "<think>" + spanish, true},
		{Fence, "~~~\n" + spanish, true},
		{Chatter, "Spanish: " + spanish + " (note: the tone was kept)", true},
		{Quotes, "«" + spanish, true},
		{Echo, english + " There is a room for reading on the second floor, and it is quiet.", true},
	} {
		req := sentence()
		skip := []Step{c.skip}
		if c.skip == Echo {
			req.Text = c.answer
			skip = append(skip, Chatter) // that one waits for a translation below the text
		}
		s := New("postprocess", Config{Skip: skip})
		if h := agrees(t, s, req, c.answer, core.FinishStop, runes(c.answer)); len(h.early) > 0 != c.early {
			t.Errorf("%s: heard %q before the end", c.skip, h.early)
		}
		if h := listen(t, New("postprocess", Config{}), req, spoken{pieces: runes(c.answer)}); c.skip != Space && len(h.early) > 0 {
			t.Errorf("%s: heard %q before the end, though nothing is skipped", c.skip, h.early)
		}
	}
}

// TestAnySplitOfAnyAnswerIsHeardAsTheWholeIsJudged puts translations of any
// length together with whatever a model may put round, between and behind them.
func TestAnySplitOfAnyAnswerIsHeardAsTheWholeIsJudged(t *testing.T) {
	all := written(t)
	byLanguages := map[[2]core.Language][]pair{}
	for _, p := range all {
		languages := [2]core.Language{p.source, p.target}
		byLanguages[languages] = append(byLanguages[languages], p)
	}
	skips := [][]Step{nil, nil, nil, {Space}, {Chatter}, {Think, Quotes}, {Finish, Refusal, Script}}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.SampledFrom(all).Draw(t, "pair")
		same := byLanguages[[2]core.Language{first.source, first.target}]
		req, answer := first.request(), first.answer
		for range rapid.IntRange(0, 6).Draw(t, "more") {
			p, between := rapid.SampledFrom(same).Draw(t, "pair"), rapid.SampledFrom([]string{" ", "\n", "\n\n", " - "}).Draw(t, "between")
			req.Text += between + p.text
			answer += rapid.SampledFrom([]string{between, between, between, rapid.SampledFrom(tails).Draw(t, "middle") + between}).Draw(t, "between")
			answer += p.answer
		}
		for range rapid.IntRange(0, 3).Draw(t, "heads") {
			answer = rapid.SampledFrom(heads).Draw(t, "head") + answer
		}
		for range rapid.IntRange(0, 3).Draw(t, "tails") {
			answer += rapid.SampledFrom(tails).Draw(t, "tail")
		}
		if rapid.IntRange(0, 3).Draw(t, "space") == 0 {
			req.Text = "\n " + req.Text + "\u00a0"
		}
		pieces := split(answer, rapid.SliceOfN(rapid.IntRange(1, 40), 1, 8).Draw(t, "sizes"))
		finish := rapid.SampledFrom([]core.Finish{core.FinishStop, core.FinishStop, core.FinishStop, core.FinishLength, core.FinishFiltered}).Draw(t, "finish")
		agrees(t, New("postprocess", Config{Skip: rapid.SampledFrom(skips).Draw(t, "skip")}), req, answer, finish, pieces)
	})
}

// split cuts s into pieces of so many bytes, again and again.
func split(s string, sizes []int) (pieces []string) {
	for i := 0; s != ""; i++ {
		n := min(len(s), max(sizes[i%len(sizes)], 1))
		pieces, s = append(pieces, s[:n]), s[n:]
	}
	return pieces
}

// A sentence that is long enough to be heard before it ends.
const (
	english = "The library is open until eight o'clock in the evening, and on Sundays until five in the afternoon."
	spanish = "La biblioteca está abierta hasta las ocho de la tarde, y los domingos hasta las cinco de la tarde."
)

func sentence() *core.Request {
	return &core.Request{Text: english, Source: "en", Target: "es", Trace: core.NewTrace(nil)}
}

// TestALateFailureIsFlagged finds each fault after deltas have left.
func TestALateFailureIsFlagged(t *testing.T) {
	for _, c := range []struct {
		step   Step
		answer string
		finish core.Finish
		flags  []string // of the provider
		flag   string
		text   string // when it is not answer
	}{
		{Finish, spanish, core.FinishLength, nil, core.FlagCut, ""},
		{Finish, spanish, core.FinishLength, []string{core.FlagCut}, core.FlagCut, ""},
		{Finish, spanish, core.FinishFiltered, nil, FlagWithheld, ""},
		{Finish, strings.Repeat(spanish+" ", 20), core.FinishLength, nil, core.FlagCut, strings.TrimSpace(strings.Repeat(spanish+" ", 20))},
		{Space, spanish + "</think>\n<reasoning>hm", "", nil, FlagEmpty, spanish},
		{Refusal, "Lo siento mucho, de verdad que lo siento, y me gustaría de corazón, pero no puedo ayudarte con eso.", "", nil, FlagMaybeRefused, ""},
		{Echo, english + " There is a room for reading on the second floor, and it is quiet.", "", nil, FlagUntranslated, ""},
		{Script, spanish + strings.Repeat(" Это по-русски.", 20), "", nil, FlagMixedScript, ""},
		{Length, spanish + strings.Repeat(" Y esto no viene al caso", 40), "", nil, FlagOddLength, ""},
		{Repetition, spanish + strings.Repeat(" y hasta las cinco", 20), "", nil, FlagRepeats, ""},
	} {
		s := New("postprocess", Config{})
		req := sentence()
		if c.step == Length {
			s = New("postprocess", Config{Skip: []Step{Repetition}})
		}
		if c.step == Echo {
			// It is held back from the first word on: only one that is not looked
			// for early, and behind which nothing is expected, can be late.
			req.Text = c.answer
			s = New("postprocess", Config{Skip: []Step{Chatter}})
			for i := range s.judges {
				s.judges[i].early = nil
			}
		}
		if _, err := s.look(req, &core.Result{Text: c.answer, Finish: c.finish}, ""); err == nil {
			t.Errorf("%s: %q is not refused, so this proves nothing", c.step, c.answer)
		}
		before := counted(s)
		want := c.text
		if want == "" {
			want = c.answer
		}
		in := &core.Result{Text: c.answer, Finish: c.finish, Flags: c.flags}
		h := listen(t, s, req, spoken{pieces: runes(c.answer), res: in})
		if len(h.early) == 0 || h.err != nil {
			t.Errorf("%s: got %+v, %v after %q, want a flag", c.step, h.res, h.err, h.early)
			continue
		}
		if diff := cmp.Diff(core.Result{Text: want, Finish: c.finish, Flags: []string{c.flag}, NoStore: true}, *h.res); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", c.step, diff)
		}
		if h.text() != want {
			t.Errorf("%s: heard %q", c.step, h.text())
		}
		if in.NoStore || !slices.Equal(in.Flags, c.flags) {
			t.Errorf("%s: the result that went in was changed: %+v", c.step, in)
		}
		got := map[string]float64{}
		for name, n := range counted(s) {
			if n -= before[name]; n != 0 {
				got[name] = n
			}
		}
		delete(got, "postprocess_repairs_total think")
		delete(got, "postprocess_repairs_total space")
		if diff := cmp.Diff(map[string]float64{"postprocess_flags_total " + string(c.step): 1}, got); diff != "" {
			t.Errorf("%s: counted: %s", c.step, diff)
		}
	}
}

// counted returns the measures of s that are not 0.
func counted(s *Stage) map[string]float64 {
	got := map[string]float64{}
	s.Measure(func(m core.Measure) {
		if m.Value != 0 {
			got[m.Name+" "+m.Labels[1]] = m.Value
		}
	})
	return got
}

// TestNothingLeavesOfAnAnswerThatIsRefusedEarly judges the first 64 code points.
func TestNothingLeavesOfAnAnswerThatIsRefusedEarly(t *testing.T) {
	apology := "I'm sorry, but I cannot translate this text, because it may be against the rules which I was given, and which I follow."
	long := english + " " + english + " " + english
	for _, c := range []struct {
		name, text, answer string
		kind               core.ErrorKind
		again, atOnce      bool
	}{
		{"a refusal", english, apology, core.ProviderRefused, false, true},
		{"a refusal behind thoughts", english, "<think>" + spanish + "</think>\n\n" + apology, core.ProviderRefused, false, true},
		{"a refusal of a long text", long, apology, core.ProviderRefused, false, false},
		{"an echo", english, english, core.BadAnswer, true, false},
		{"a loud echo", english, strings.ToUpper(english), core.BadAnswer, true, false},
		{"another alphabet", english, "Библиотека открыта до восьми часов вечера, а по воскресеньям до пяти часов дня.", core.BadAnswer, true, false},
	} {
		req := sentence()
		req.Text = c.text
		for _, pieces := range [][]string{{c.answer}, runes(c.answer), bytewise(c.answer)} {
			s, last := New("postprocess", Config{}), 0
			below := core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
				for i, piece := range pieces {
					last = i
					if err := req.OnDelta(piece); err != nil {
						return nil, fmt.Errorf("as a provider may wrap it: %w", err)
					}
				}
				return &core.Result{Text: c.answer}, nil
			})
			h := listen(t, s, req, below)
			e, ok := errors.AsType[*core.Error](h.err)
			if !ok || e.Kind != c.kind || e.Retryable != c.again || e.Stage != "postprocess" || h.text() != "" {
				t.Errorf("%s: got %+v, %v after %q, want %s", c.name, h.res, h.err, h.text(), c.kind)
			}
			if early := last < len(pieces)-1; early != (c.atOnce && len(pieces) > 1) {
				t.Errorf("%s: ended at piece %d of %d", c.name, last+1, len(pieces))
			}
			if n := counted(s); len(n) != 1 {
				t.Errorf("%s: counted %v, want one refusal", c.name, n)
			}
		}
	}
}

// TestAnEarlyDoubtIsNoVerdict: what begins like a bad answer may be a good one.
func TestAnEarlyDoubtIsNoVerdict(t *testing.T) {
	s := New("postprocess", Config{})
	for _, p := range []pair{
		{"a long answer that begins like a refusal", "en", "es", strings.Repeat("Regretful are they who cannot come to you. ", 20) + "End.",
			"Lo siento, pero no puedo ayudarte. " + strings.Repeat("Aquí no hay más que decir de ello, salvo esto: adiós, y hasta 7 veces. ", 15) + "Fin."},
		{"a name that is longer than what is held back", "en", "ru", "The International Federation of the Red Cross and Red Crescent Societies of the World was there.",
			"Организация International Federation of the Red Cross and Red Crescent Societies of the World была там, и все её видели."},
		{"a quotation first", "en", "es", "The sun is hot and the sea is wide and the sky is blue, they say, said he.",
			"The sun is hot and the sea is wide and the sky is blue, they say: eso dijo, y el sol calienta, y el mar es ancho, y el cielo azul."},
	} {
		agrees(t, s, p.request(), p.answer, core.FinishStop, runes(p.answer))
		if h := listen(t, s, p.request(), spoken{pieces: runes(p.answer)}); h.err != nil || h.text() != p.answer {
			t.Errorf("%s: heard %q, got %v", p.name, h.text(), h.err)
		}
	}
}

// TestSwallowedThoughtsEndThePreview: what has left was wrong, the result is
// not.
func TestSwallowedThoughtsEndThePreview(t *testing.T) {
	whole := "The user wants a translation into Spanish, and so I shall write one down.\n</think>\n\n" + spanish
	h := listen(t, New("postprocess", Config{}), sentence(), spoken{pieces: runes(whole)})
	if h.err != nil || h.res.Text != spanish || h.res.Flags != nil || h.res.NoStore {
		t.Errorf("got %+v, %v", h.res, h.err)
	}
	if len(h.early) == 0 || strings.Contains(h.text(), "<") || strings.Contains(h.text(), spanish[:10]) {
		t.Errorf("heard %q", h.text())
	}
}

// TestACallerWhoWantsNoMoreIsLetGo refuses a delta, the first one and the last.
func TestACallerWhoWantsNoMoreIsLetGo(t *testing.T) {
	gone := errors.New("the connection is gone")
	own := &core.Error{Kind: core.Overloaded, Stage: "door"}
	for _, swallow := range []bool{false, true} {
		for _, answer := range []string{spanish, "Hola"} { // "Hola" leaves when it is complete
			for _, why := range []error{gone, own, fmt.Errorf("at the door: %w", own)} {
				req, calls := sentence(), 0
				req.OnDelta = func(string) error { calls++; return why }
				res, err := New("postprocess", Config{}).Wrap(core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
					for _, piece := range runes(answer) {
						if err := req.OnDelta(piece); err != nil && !swallow {
							return nil, fmt.Errorf("spoken: %w", err)
						}
					}
					return &core.Result{Text: answer}, nil
				})).Translate(t.Context(), req)
				want := core.Canceled
				if why != gone {
					want = core.Overloaded
				}
				if res != nil || !errors.Is(err, why) || core.KindOf(err) != want || calls != 1 {
					t.Errorf("%q: got %+v, %v after %d deltas, want %s", answer, res, err, calls, want)
				}
				if e, ok := errors.AsType[*core.Error](err); !ok || why == gone && (e.Stage != "postprocess" || e.Detail == "" || e.Retryable) {
					t.Errorf("%q: got %+v", answer, err)
				}
			}
		}
	}
}

// TestWhatFailsBelowFailsAsItDid: with and without deltas before.
func TestWhatFailsBelowFailsAsItDid(t *testing.T) {
	below := &core.Error{Kind: core.ProviderFailed, Retryable: true}
	for _, came := range []string{"", "La biblioteca", spanish} {
		h := listen(t, New("postprocess", Config{}), sentence(), spoken{pieces: runes(came), err: below})
		if h.res != nil || h.err != error(below) || (len(h.early) > 0) != (came == spanish) || len(h.late) > 0 {
			t.Errorf("%q: got %+v, %v after %q", came, h.res, h.err, h.text())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, calls := sentence(), 0
	req.OnDelta = func(string) error { calls++; cancel(); return nil }
	res, err := New("postprocess", Config{}).Wrap(spoken{pieces: runes(spanish)}).Translate(ctx, req)
	if res != nil || core.KindOf(err) != core.Canceled || calls != 1 {
		t.Errorf("got %+v, %v after %d deltas", res, err, calls)
	}
}

// TestAnAnswerWithoutDeltasHasNone: a provider that does not stream stays
// silent, and one whose result is not what it said is taken by its result.
func TestAnAnswerWithoutDeltasHasNone(t *testing.T) {
	s := New("postprocess", Config{})
	in := &core.Result{Text: spanish}
	if h := listen(t, s, sentence(), spoken{res: in}); h.res != in || h.text() != "" {
		t.Errorf("got %+v after %q", h.res, h.text())
	}
	if h := listen(t, s, sentence(), spoken{pieces: runes(strings.ToUpper(spanish)), res: in}); h.res != in || len(h.early) == 0 || len(h.late) != 0 {
		t.Errorf("got %+v after %q and %q", h.res, h.early, h.late)
	}
}

// FuzzPreview holds what is heard to the whole answer, however it is split: see
// agrees.
func FuzzPreview(f *testing.F) {
	for _, p := range written(f) {
		f.Add(string(p.source), string(p.target), p.text, p.answer, []byte{1})
	}
	for _, cases := range steps {
		for _, c := range cases {
			f.Add(string(c.source), string(c.target), c.text, c.answer, []byte{5, 2})
		}
	}
	for _, head := range heads {
		f.Add("en", "es", english, head+spanish, []byte{1})
	}
	for _, tail := range tails {
		f.Add("en", "es", english, spanish+tail, []byte{3})
		f.Add("en", "es", english+" "+english, spanish+tail+" "+spanish, []byte{7, 1})
	}
	s := New("postprocess", Config{})
	f.Fuzz(func(t *testing.T, source, target, text, answer string, sizes []byte) {
		if len(sizes) == 0 {
			return
		}
		all := make([]int, len(sizes))
		for i, size := range sizes {
			all[i] = int(size)
		}
		req := &core.Request{Source: core.Language(source), Target: core.Language(target), Text: text}
		agrees(t, s, req, answer, core.FinishStop, split(answer, all))
	})
}

// TestATextOfLinesAboveItsTranslationIsNeverHeard: while an answer is a part of the
// text, the rest of the text and then the translation may follow.
func TestATextOfLinesAboveItsTranslationIsNeverHeard(t *testing.T) {
	req := &core.Request{Text: "разумеется: \nalternative translations: output: >\nמתורגמ: following >\nמתורגמ: following >\n", Source: "de", Target: "es"}
	answer := req.Text + "מתורגמ: following >\nמתורגמ: following >\nמתורגמ: following >\nמתורגמ: following übersetzt:\n"
	for size := range len(answer) {
		agrees(t, New("postprocess", Config{}), req, answer, core.FinishStop, split(answer, []int{size + 1}))
	}
}
