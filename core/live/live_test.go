package live

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

// A bench drives a session in virtual time.
type bench struct {
	s     *Session
	now   time.Time
	calls map[int64]Call
	asked []Call
	out   []Frame
	read  bool // frames are read as they come
}

func newBench(_ any, c Config, o Options) *bench { return newBenchAt(time.Unix(1000, 0), c, o) }

func newBenchAt(now time.Time, c Config, o Options) *bench {
	b := &bench{now: now, calls: map[int64]Call{}, read: true}
	if o.Deadline == 0 {
		o.Deadline = 4500 * time.Millisecond
	}
	if o.Source == "" {
		o.Source = "en"
	}
	if o.Targets == nil {
		o.Targets = []core.Language{"es"}
	}
	b.s = New(c, o, b.now)
	b.s.Attach(0, &Ready{Head: Head{Type: "ready"}})
	b.turn()
	return b
}

// turn takes what the session asks for.
func (b *bench) turn() {
	for {
		calls, cancels := b.s.Work()
		for _, c := range calls {
			b.calls[c.ID] = c
			b.asked = append(b.asked, c)
		}
		for _, id := range cancels {
			if _, is := b.calls[id]; is {
				delete(b.calls, id)
				b.s.Answer(b.now, id, Answer{Err: &core.Error{Kind: core.Canceled}, Attempts: 1})
			}
		}
		if len(calls)+len(cancels) == 0 {
			break
		}
	}
	for b.read {
		f := b.s.Out().Next(b.now)
		if f == nil {
			break
		}
		b.out = append(b.out, f)
	}
}

func (b *bench) say(segment string, revision int64, text string, final bool) *core.Error {
	err := b.s.Take(b.now, Source{Segment: segment, Revision: revision, HasRevision: revision > 0, Text: text, Final: final, Stable: -1})
	b.turn()
	return err
}

// pass lets time go by, in steps of what is due.
func (b *bench) pass(d time.Duration) {
	end := b.now.Add(d)
	for {
		next := b.s.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		b.now = later(b.now.Add(time.Millisecond), next)
		b.s.Tick(b.now)
		b.turn()
	}
	b.now = later(b.now, end)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// shout is the translation of the tests.
func shout(text string, l core.Language) string { return strings.ToUpper(text) + "/" + string(l) }

func (b *bench) answer(id int64) {
	c := b.calls[id]
	delete(b.calls, id)
	b.s.Answer(b.now, id, Answer{Text: shout(c.Text, c.Target), Attempts: 1})
	b.turn()
}

func (b *bench) answerAll() {
	for len(b.calls) > 0 {
		ids := []int64{}
		for id := range b.calls {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		b.answer(ids[0])
	}
}

// targets returns the target frames that were sent.
func (b *bench) targets() (all []*Target) {
	for _, f := range b.out {
		if t, ok := f.(*Target); ok {
			all = append(all, t)
		}
	}
	return all
}

func (b *bench) finals() (all []*Target) {
	for _, t := range b.targets() {
		if t.Final {
			all = append(all, t)
		}
	}
	return all
}

func plainConfig() Config {
	c := Defaults()
	c.Context = 0
	c.Agreement, c.TailWords, c.Words, c.Mask = 2, 1, 4, 2 // what the tests count with
	return c
}

func TestAFinalIsItsSentencesEachTranslatedAlone(t *testing.T) {
	for _, c := range []struct {
		target core.Language
		text   string
		want   string
	}{
		{"es", "Thank you.", "THANK YOU./es"},
		{"es", "Hello. How are you?", "HELLO./es HOW ARE YOU?/es"},
		{"ja", "Hello. How are you?", "HELLO./jaHOW ARE YOU?/ja"},
		{"es", "你好。你好吗？", "你好。/es 你好吗？/es"},
		{"es", "مرحبا. كيف حالك؟ جيد.", "مرحبا./es كيف حالك؟/es جيد./es"},
		{"es", "Dr. Smith met J. Doe at 5 p.m. today. Fine.", "DR. SMITH MET J. DOE AT 5 P.M. TODAY./es FINE./es"},
		{"es", "12.5 + 3", "12.5 + 3"},
		{"es", "https://example.com 🙂", "https://example.com 🙂"},
		{"en", "Hello.", "Hello."},
	} {
		b := newBench(t, plainConfig(), Options{Targets: []core.Language{c.target}})
		b.say("s1", 1, c.text, true)
		b.answerAll()
		if got := b.finals(); len(got) != 1 || got[0].Text != c.want || got[0].Concluded != c.want {
			t.Errorf("%q into %s: %+v, want %q", c.text, c.target, got, c.want)
		}
	}
}

func TestTextWithoutWordsAndOfTheTargetCostsNoCall(t *testing.T) {
	c := plainConfig()
	c.Fillers = []string{"Uhm"}
	for _, text := range []string{"12 345", "https://example.com/a", "🙂 !", "uhm.", "me@example.com"} {
		b := newBench(t, c, Options{})
		b.say("s", 1, text, true)
		if len(b.asked) != 0 || len(b.finals()) != 1 || b.finals()[0].Text != text {
			t.Errorf("%q: %d calls, %v", text, len(b.asked), b.finals())
		}
	}
	b := newBench(t, c, Options{Source: "es"})
	b.say("s", 1, "Buenos días a todos.", true)
	if f := b.finals(); len(b.asked) != 0 || f[0].Text != "Buenos días a todos." || !slices.Contains(f[0].Flags, core.FlagSameLanguage) {
		t.Errorf("%d calls, %+v", len(b.asked), f[0])
	}
}

func TestOneCallIsUnderWayAndTheNextIsForTheNewestText(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	words := strings.Fields("so what we want to do is rather simple and it will be over very soon now I think")
	for i := range words {
		b.say("s", int64(i+1), strings.Join(words[:i+1], " "), false)
		b.pass(250 * time.Millisecond)
		if len(b.calls) > 1 {
			t.Fatalf("%d calls are under way", len(b.calls))
		}
	}
	first := b.asked[0]
	if len(b.asked) != 1 || first.Lane != core.LanePartial || first.Final {
		t.Fatalf("asked %+v", b.asked)
	}
	b.answer(first.ID)
	if len(b.calls) != 1 {
		t.Fatal("what came meanwhile is not asked for")
	}
	if next := b.asked[1]; !strings.HasPrefix(next.Text, first.Text) || len(strings.Fields(next.Text)) < len(words)-2 {
		t.Errorf("asked for %q after %q", next.Text, first.Text)
	}
}

// Revisions that shrink, or that become another text, take what was shown of them along.
func TestWhatIsTakenBackAtTheSourceIsNotShownAnyLonger(t *testing.T) {
	for _, row := range []struct {
		name      string
		revisions []string
		shown     string
	}{
		{"it has become another text", []string{"we will begin it now and never stop", "we will begin it now and never stop again", "", "no"}, ""},
		{"at once", []string{"we will begin it now and never stop", "we will begin it now and never stop again", "no they will not"}, ""},
		{"its second sentence is gone", []string{"We will begin it now. And it never stops again", "We will begin it now. And it never stops again at all", "We will begin it now."}, "WE WILL BEGIN IT NOW./es"},
		{"its last words are gone", []string{"we will begin it now and never stop", "we will begin it now and never stop again", "we will begin"}, "WE WILL BEGIN IT NOW AND NEVER STOP"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := plainConfig()
			c.Mask = 1
			b := newBench(t, c, Options{})
			for i, text := range row.revisions {
				b.say("a", int64(i+1), text, false)
				b.pass(300 * time.Millisecond)
				b.answerAll()
			}
			shown := ""
			for _, f := range b.targets() {
				shown = f.Tentative
			}
			if shown != row.shown {
				t.Errorf("%q is shown, want %q", shown, row.shown)
			}
		})
	}
}

func TestACallIsGivenUpWhenItsTextHasChanged(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	b.say("s", 1, "I think the weather is", false)
	b.say("s", 2, "I think the weather is nice", false)
	if len(b.calls) != 1 {
		t.Fatalf("%d calls", len(b.calls))
	}
	b.say("s", 3, "I think the weather is nice today", false)
	if len(b.asked) != 1 {
		t.Errorf("it is asked for again: %v", b.asked)
	}
	b.say("s", 4, "They think the leather is nice today", false)
	if b.s.Counters().Asked != 1 || len(b.asked) > 2 {
		t.Errorf("%+v", b.s.Counters())
	}
	if b.s.Counters().Wasted != 1 {
		t.Errorf("the call that was given up is not wasted: %+v", b.s.Counters())
	}
}

func TestCaseBlanksAndPunctuationAloneAreNotSentAgainButForAFinal(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	b.say("s", 1, "we will see what comes next", false)
	b.say("s", 2, "we will see what comes next", false)
	b.pass(2 * time.Second)
	b.answerAll()
	n := len(b.asked)
	for i, text := range []string{"We will see what comes next", "We will see, what comes next", "we  will see what comes next."} {
		b.say("s", int64(3+i), text, false)
		b.pass(2 * time.Second)
	}
	if len(b.asked) != n {
		t.Errorf("asked again: %+v", b.asked[n:])
	}
	b.say("s", 9, "We will see what comes next.", true)
	b.answerAll()
	if f := b.finals(); len(f) != 1 || f[0].Text != "WE WILL SEE WHAT COMES NEXT./es" {
		t.Errorf("%+v", f)
	}
}

func TestAFinalThatWasTranslatedAlreadyCostsNothing(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	b.say("s", 1, "Good evening to you all.", false)
	b.pass(3 * time.Second)
	b.answerAll()
	n := len(b.asked)
	b.say("s", 2, "Good evening to you all.", true)
	if len(b.asked) != n || len(b.finals()) != 1 {
		t.Errorf("%d calls more, %d finals", len(b.asked)-n, len(b.finals()))
	}
}

func TestAFinalWhoseTextIsUnderWayLetsThatCallGoOn(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	b.say("s", 1, "Good evening to you all.", false)
	b.say("s", 2, "Good evening to you all.", false)
	if len(b.calls) != 1 {
		t.Fatalf("%d calls", len(b.calls))
	}
	b.say("s", 3, "Good evening to you all.", true)
	if len(b.calls) != 2 {
		t.Fatalf("%d calls: that of the final joins the other", len(b.calls))
	}
	b.answerAll()
	if len(b.finals()) != 1 || b.s.Counters().Wasted != 0 {
		t.Errorf("%+v %+v", b.finals(), b.s.Counters())
	}
}

func TestASentenceThatIsOverIsConcludedOnceAndTheRestIsTentative(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	text := "We begin at nine. After that we will hear what the others have found"
	words := strings.Fields(text)
	for i := range words {
		b.say("s", int64(i+1), strings.Join(words[:i+1], " "), false)
		b.pass(500 * time.Millisecond)
		b.answerAll()
	}
	concluded := ""
	for _, f := range b.targets() {
		concluded += f.Concluded
	}
	if concluded != "WE BEGIN AT NINE./es" {
		t.Fatalf("concluded %q", concluded)
	}
	n := len(b.asked)
	b.say("s", 99, text+".", true)
	b.answerAll()
	for _, c := range b.asked[n:] {
		if strings.Contains(c.Text, "nine") {
			t.Errorf("what is concluded is translated again: %q", c.Text)
		}
	}
	f := b.finals()[0]
	if want := "WE BEGIN AT NINE./es AFTER THAT WE WILL HEAR WHAT THE OTHERS HAVE FOUND./es"; f.Text != want || concluded+f.Concluded != want || f.Corrected != 0 {
		t.Errorf("%+v", f)
	}
}

func TestAConcludedSentenceThatChangesIsCorrected(t *testing.T) {
	b := newBench(t, plainConfig(), Options{Corrections: true})
	words := strings.Fields("We begin at nine. After that we will hear what the others have found")
	for i := range words {
		b.say("s", int64(i+1), strings.Join(words[:i+1], " "), false)
		b.pass(500 * time.Millisecond)
		b.answerAll()
	}
	b.say("s", 99, "We begin at five. After that we rest.", true)
	b.answerAll()
	f := b.finals()[0]
	if want := "WE BEGIN AT FIVE./es AFTER THAT WE REST./es"; f.Text != want || f.Corrected == 0 || f.Concluded != " AFTER THAT WE REST./es" {
		t.Errorf("%+v", f)
	}
	c, ok := b.out[len(b.out)-2].(*Correction)
	if !ok || c.Text != f.Text || c.Corrected != f.Corrected {
		t.Errorf("before the final came %+v", b.out[len(b.out)-2])
	}
}

func TestWhatBadInputGets(t *testing.T) {
	b := newBench(t, plainConfig(), Options{Acks: true})
	b.say("s", 3, "one", false)
	b.say("done", 1, "over", true)
	b.answerAll()
	acks := func() (n int) {
		for _, f := range b.out {
			if _, is := f.(*Ack); is {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		what     string
		segment  string
		revision int64
		text     string
		final    bool
		field    string
		acks     int
	}{
		{"a revision that goes back", "s", 2, "on", false, "revision", 0},
		{"an equal one", "s", 3, "one", false, "", 1},
		{"a partial after the final", "done", 9, "over", false, "segment", 0},
		{"another text after the final", "done", 9, "under", true, "segment", 0},
		{"the same final again", "done", 1, "over", true, "", 1},
		{"no revision at all", "s", 0, "one two", false, "", 1},
		{"the greatest one", "s", math.MaxInt64, "one two three", false, "", 1},
		{"none behind the greatest", "s", 0, "one two three four", false, "", 1},
		{"one that goes back from there", "s", 5, "one", false, "revision", 0},
	} {
		had := acks()
		err := b.say(c.segment, c.revision, c.text, c.final)
		if (err != nil) != (c.field != "") || err != nil && err.Field != c.field || acks()-had != c.acks {
			t.Errorf("%s: %v, %d acks", c.what, err, acks()-had)
		}
	}
	if n := len(b.finals()); n != 1 {
		t.Errorf("%d finals", n)
	}
	b.pass(forget + time.Second)
	if err := b.say("done", 1, "anew", true); err != nil {
		t.Errorf("the id is not free: %v", err)
	}
}

func TestOpenSegmentsAreBounded(t *testing.T) {
	c := plainConfig()
	c.MaxSegments = 3
	b := newBench(t, c, Options{})
	for i := range 3 {
		if err := b.say(fmt.Sprint(i), 1, "a", false); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.say("x", 1, "a", false); err == nil || err.Kind != core.TooLarge || !strings.Contains(err.Detail, "live.max_segments") {
		t.Errorf("%v", err)
	}
	b.s.Finalize(b.now)
	b.turn()
	b.answerAll()
	if err := b.say("x", 1, "a", false); err != nil || len(b.finals()) != 3 || !b.finals()[0].FromFinalize {
		t.Errorf("%v %v", err, b.finals())
	}
}

func TestAnEmptyFinalWithdrawsItsSegment(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	b.say("s", 1, "hm what", false)
	b.say("s", 2, "", true)
	if f := b.finals(); len(f) != 1 || f[0].Text != "" || f[0].Last.Error != nil {
		t.Errorf("%+v", f)
	}
}

func TestAHeadThatIsLateHoldsTheOthersForSoLongAndIsMarked(t *testing.T) {
	c := plainConfig()
	b := newBench(t, c, Options{})
	b.say("open", 1, "this one is open", false)
	b.say("a", 1, "First of them.", true)
	b.say("b", 1, "Second of them.", true)
	var first, second int64
	for id, call := range b.calls {
		if call.Segment == "a" {
			first = id
		} else if call.Segment == "b" {
			second = id
		}
	}
	b.answer(second)
	b.pass(c.ReorderWait - 10*time.Millisecond)
	if len(b.finals()) != 0 {
		t.Fatal("a later final went ahead")
	}
	b.pass(20 * time.Millisecond)
	if f := b.finals(); len(f) != 1 || f[0].Segment != "b" || f[0].Late {
		t.Fatalf("%+v", f)
	}
	b.answer(first)
	if f := b.finals(); len(f) != 2 || f[1].Segment != "a" || !f[1].Late {
		t.Errorf("%+v", f)
	}
}

func TestAFinalThatCannotBeHadSaysSo(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	b.say("s", 1, "Hello there. Who is it?", true)
	for id := range b.calls {
		delete(b.calls, id)
		b.s.Answer(b.now, id, Answer{Err: &core.Error{Kind: core.ProviderFailed, Detail: "no"}})
	}
	b.turn()
	if f := b.finals(); len(f) != 1 || f[0].Text != "" || f[0].Last.Error == nil || f[0].Last.Error.Code != core.ProviderFailed {
		t.Errorf("%+v", f)
	}
}

func TestWordsOfARecogniserAreJoinedAsTheyStand(t *testing.T) {
	for _, incremental := range []bool{false, true} {
		b := newBench(t, plainConfig(), Options{Incremental: incremental})
		take := func(final bool, words ...Word) {
			if err := b.s.Take(b.now, Source{Segment: "s", Words: words, Final: final, Stable: -1}); err != nil {
				t.Fatal(err)
			}
			b.turn()
		}
		take(false, Word{"How", true}, Word{" are", false})
		if incremental {
			take(true, Word{" are", true}, Word{" you?", true}, Word{"<end>", true})
		} else {
			take(true, Word{"How", true}, Word{" are", true}, Word{" you?", true}, Word{"<end>", true})
		}
		b.answerAll()
		if f := b.finals(); len(f) != 1 || f[0].Text != "HOW ARE YOU?/es" {
			t.Errorf("incremental %v: %+v", incremental, f)
		}
	}
}

func TestContextIsWhatWasConcludedLast(t *testing.T) {
	c := Defaults()
	c.Context, c.ContextSize = 2, 1000
	b := newBench(t, c, Options{Context: []core.Pair{{Source: "given", Target: "dado"}}})
	for i, text := range []string{"One more.", "Two more.", "Three more."} {
		b.say(fmt.Sprint(i), 1, text, true)
		b.answerAll()
	}
	want := []core.Pair{{Source: "One more.", Target: "ONE MORE./es"}, {Source: "Two more.", Target: "TWO MORE./es"}}
	if got := b.asked[2].Context; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := b.asked[0].Context; len(got) != 1 || got[0].Source != "given" {
		t.Errorf("%v", got)
	}
}

func TestALongQueueMakesPartialsRareAndThenEndsThemUntilItIsOver(t *testing.T) {
	b := newBench(t, plainConfig(), Options{})
	kinds := func() (all []string) {
		for _, f := range b.out {
			if n, is := f.(*Notice); is {
				all = append(all, n.Kind+": "+n.Detail)
			}
		}
		return all
	}
	slow := func(wait time.Duration) {
		b.say(fmt.Sprint(len(b.asked)), 1, fmt.Sprintf("Number %d is it.", len(b.asked)), true)
		for id := range b.calls {
			delete(b.calls, id)
			b.s.Answer(b.now, id, Answer{Text: "x", Attempts: 1, Waited: wait})
		}
		b.turn()
	}
	slow(1500 * time.Millisecond)
	slow(3 * time.Second)
	if got := kinds(); len(got) != 2 || !strings.Contains(got[0], "fewer partials") || !strings.Contains(got[1], "finals only") {
		t.Fatalf("%v", got)
	}
	n := len(b.asked)
	b.say("p", 1, "this is a partial that is long enough", false)
	b.say("p", 2, "this is a partial that is long enough for it", false)
	if len(b.asked) != n {
		t.Errorf("a partial is asked for: %v", b.asked[n:])
	}
	b.pass(5 * time.Second)
	if got := kinds(); len(got) != 3 || !strings.HasPrefix(got[2], "recovered") {
		t.Fatalf("%v", got)
	}
	if len(b.asked) == n {
		t.Error("the partial is not asked for when the queue is empty again")
	}
}

func TestTargetsComeAndGo(t *testing.T) {
	b := newBench(t, plainConfig(), Options{Targets: []core.Language{"es", "fr"}})
	b.say("a", 1, "First of them.", true)
	b.say("b", 1, "second of them is open", false)
	b.s.Retarget(b.now, []core.Language{"es", "de"})
	b.turn()
	b.say("b", 2, "Second of them is over.", true)
	b.answerAll()
	got := []string{}
	for _, f := range b.finals() {
		got = append(got, f.Segment+" "+string(f.Target))
	}
	slices.Sort(got)
	if want := []string{"a es", "a fr", "b de", "b es"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	b.s.End(b.now)
	b.turn()
	ends := 0
	for _, f := range b.out {
		if _, is := f.(*End); is {
			ends++
		}
	}
	if !b.s.Ended() || ends != 3 {
		t.Errorf("ended %v, %d ends", b.s.Ended(), ends)
	}
}

// When nothing has its turn in time any more, finals are asked of the cache and of fallbacks
// only, and what neither has comes as it was said, flagged, in place of errors that come late;
// until the queue is empty again.
func TestWhenNothingIsTranslatedInTimeFinalsAreTheCachesAFallbacksOrTheSourceAndSaySo(t *testing.T) {
	b := newBench(t, plainConfig(), Options{Deadline: 4 * time.Second})
	for range 3 {
		b.say(fmt.Sprint(len(b.asked)), 1, fmt.Sprintf("Number %d is it.", len(b.asked)), true)
		for id, c := range b.calls {
			delete(b.calls, id)
			if c.Relieve {
				t.Errorf("%+v", c)
			}
			b.s.Answer(b.now, id, Answer{Err: &core.Error{Kind: core.DeadlineExceeded}, Waited: 4 * time.Second})
		}
		b.turn()
	}
	if !slices.ContainsFunc(b.out, func(f Frame) bool {
		n, is := f.(*Notice)
		return is && n.Kind == "degraded" && strings.HasPrefix(n.Detail, "cache and fallbacks only")
	}) {
		t.Errorf("no notice: %+v", b.out)
	}
	for i, row := range []struct {
		answer Answer
		text   string
		flags  []string
	}{
		{Answer{Text: "ES IST GESAGT.", Cached: true}, "ES IST GESAGT. ES IST GESAGT.", []string{}},
		{Answer{Text: "GESAGT.", Flags: []string{core.FlagFallback}, Attempts: 1, Waited: 3 * time.Second}, "GESAGT. GESAGT.", []string{core.FlagFallback}},
		{Answer{Err: &core.Error{Kind: core.Overloaded}}, "It is said. It is late.", []string{FlagSource}},
		{Answer{Err: &core.Error{Kind: core.DeadlineExceeded}, Waited: 1400 * time.Millisecond}, "It is said. It is late.", []string{FlagSource}},
	} {
		b.out = nil
		b.say(fmt.Sprint("now", i), 1, "It is said. It is late.", true)
		if len(b.calls) != 2 {
			t.Fatalf("row %d: %d calls", i, len(b.calls))
		}
		for id, c := range b.calls {
			delete(b.calls, id)
			if !c.Relieve || c.By.Sub(b.now) != 1400*time.Millisecond || c.Lane != core.LaneFinal {
				t.Errorf("row %d: %+v", i, c)
			}
			b.s.Answer(b.now, id, row.answer)
		}
		b.turn()
		f := b.finals()
		if len(f) != 1 || f[0].Text != row.text || f[0].Concluded != f[0].Text || f[0].Last.Error != nil || !slices.Equal(f[0].Flags, row.flags) {
			t.Fatalf("row %d: %+v", i, f)
		}
	}
	b.out = nil
	b.pass(5 * time.Second)
	b.say("then", 1, "It is over.", true)
	b.answerAll()
	if f := b.finals(); len(f) != 1 || !strings.HasPrefix(f[0].Text, "IT IS OVER.") || len(f[0].Flags) > 0 {
		t.Fatalf("%+v", f)
	}
	if c := b.asked[len(b.asked)-1]; c.Relieve {
		t.Errorf("%+v", c)
	}
}

// Whoever does not read is held so much for, and then given up: what was sent and may be
// missing, what waits, and what is remembered of it are below 1.2 MiB together.
func TestWhoDoesNotReadIsHeldLittleFor(t *testing.T) {
	const sessions = 4
	for _, long := range []int{40, 4000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		all := make([]*Session, sessions)
		for n := range all {
			s := New(Defaults(), Options{Source: "en", Targets: []core.Language{"es"}}, time.Unix(0, 0))
			s.Attach(0, &Ready{})
			for i := 0; !s.out.Overflows(); i++ {
				now := time.Unix(0, 0).Add(time.Duration(i) * 100 * time.Millisecond)
				text := fmt.Sprintf("%d %d %s.", n, i, strings.Repeat("word ", long/5))
				if err := s.Take(now, Source{Segment: fmt.Sprint(i), Text: text, Final: true, Stable: -1}); err != nil {
					t.Fatal(err)
				}
				calls, _ := s.Work()
				for _, c := range calls {
					s.Answer(now, c.ID, Answer{Text: strings.Clone(c.Text), Attempts: 1})
				}
				if i < 300 { // it reads at first
					for s.out.Next(now) != nil {
					}
				}
			}
			all[n] = s
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / sessions
		t.Logf("finals of %d letters: %d KiB each", long, each>>10)
		if each > 12<<20/10 {
			t.Errorf("finals of %d letters: %d KiB are held for each that does not read", long, each>>10)
		}
		runtime.KeepAlive(all)
	}
}

// A client appends what is concluded and takes text when it comes; connections are cut
// at random, and the client comes back with the last seq that it has seen.
type client struct {
	t         *rapid.T
	seq       int64
	concluded map[string]string
	final     map[string]*Target
	order     map[core.Language][]string
}

func (c *client) take(f Frame) {
	seq := seqNumber(f)
	if _, is := f.(*Ready); is {
		c.seq = seq - 1 // what it has not had comes behind
	}
	if seq != c.seq+1 {
		c.t.Fatalf("frame %d after %d", seq, c.seq)
	}
	c.seq = seq
	t, ok := f.(*Target)
	if !ok {
		return
	}
	key := t.Segment + " " + string(t.Target)
	if c.final[key] != nil {
		c.t.Fatalf("%s: a frame after its final", key)
	}
	c.concluded[key] += t.Concluded
	if !t.Final {
		return
	}
	c.final[key] = t
	c.order[t.Target] = append(c.order[t.Target], t.Segment)
	if t.Corrected == 0 && c.concluded[key] != t.Text {
		c.t.Fatalf("%s: concluded %q, and the text is %q", key, c.concluded[key], t.Text)
	}
}

// comes makes another connection.
func (c *client) comes(s *Session) {
	if s.Out().Stale(c.seq) || !s.Out().Provable(c.seq) {
		c.t.Fatalf("%d frames are enough to lose it", s.Out().Seq()-c.seq)
	}
	s.Attach(c.seq, &Ready{Head: Head{Type: "ready"}, Resumed: true})
}

func seqNumber(f Frame) int64 {
	switch f := f.(type) {
	case *Ready:
		return f.Seq
	case *Notice:
		return f.Seq
	case *Stats:
		return f.Seq
	}
	return seqOf(f)
}

// The former connection may be writing a final while the next one is sent it anew: what the
// former holds stays as it was.
func TestAFrameThatIsSentAgainIsAnotherOne(t *testing.T) {
	b := newBench(t, Defaults(), Options{Corrections: true})
	b.say("s", 1, "It is late.", true)
	b.answerAll()
	b.s.End(b.now)
	b.turn()
	sent := map[int64]Frame{}
	for _, f := range b.out {
		if seq := seqOf(f); seq != 0 {
			sent[seq] = f
		}
	}
	if len(sent) != 3 {
		t.Fatalf("%d frames are kept, not a final and two ends", len(sent))
	}
	b.out = nil
	b.s.Attach(0, &Ready{Head: Head{Type: "ready"}})
	b.turn()
	for seq, f := range sent {
		if seqOf(f) != seq {
			t.Errorf("%T of %d has become %d", f, seq, seqOf(f))
		}
		if slices.Contains(b.out, f) {
			t.Errorf("%T of %d is sent again itself", f, seq)
		}
	}
	if f := b.finals(); len(f) != 1 || f[0].Concluded != f[0].Text {
		t.Errorf("%+v", f)
	}
}

func TestNothingIsDroppedInvertedOrDoubledWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := plainConfig()
		c.Context = rapid.IntRange(0, 2).Draw(t, "context")
		c.ReorderWait = time.Duration(rapid.IntRange(0, 3000).Draw(t, "reorder")) * time.Millisecond
		targets := []core.Language{"es", "ja", "de"}[:rapid.IntRange(1, 3).Draw(t, "targets")]
		b := newBench(t, c, Options{Targets: targets})
		b.read, b.out = false, nil
		you := &client{t: t, concluded: map[string]string{}, final: map[string]*Target{}, order: map[core.Language][]string{}, seq: 1}
		text, ended, revision := map[string]string{}, map[string]int{}, map[string]int64{}
		began := []string{}
		var delayed []int64 // what a client had when it made connections that are heard late
		vocabulary := []string{"so", "We", "want.", "to", "do", "it.", "now", "Yes!", "12", "你好。", "สวัสดี", "مرحبا؟", "Dr."}
		for step := range rapid.IntRange(5, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 10).Draw(t, "step") {
			case 0, 1, 2, 3:
				id := fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "segment"))
				if _, over := ended[id]; over {
					continue
				}
				if _, known := text[id]; !known {
					began = append(began, id)
				}
				words := append(strings.Fields(text[id]), rapid.SliceOfN(rapid.SampledFrom(vocabulary), 0, 6).Draw(t, "words")...)
				words = words[:max(0, len(words)-rapid.IntRange(0, 2).Draw(t, "fewer"))]
				revision[id]++
				text[id] = strings.Join(words, " ")
				final := rapid.IntRange(0, 4).Draw(t, "final") == 0
				if err := b.say(id, revision[id], text[id], final); err != nil {
					t.Fatal(err)
				}
				if final {
					ended[id] = step + 1
				}
			case 4, 5, 6:
				b.pass(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			case 7, 8:
				ids := slices.Sorted(func(yield func(int64) bool) {
					for id := range b.calls {
						if !yield(id) {
							return
						}
					}
				})
				if len(ids) == 0 {
					continue
				}
				id := rapid.SampledFrom(ids).Draw(t, "call")
				b.answer(id)
			case 9: // the connection is cut; what was on its way is lost
				for range rapid.IntRange(0, 3).Draw(t, "lost") {
					b.s.Out().Next(b.now)
				}
				if rapid.Bool().Draw(t, "away") {
					b.s.Out().Detach()
					b.pass(300 * time.Millisecond)
				}
				if rapid.Bool().Draw(t, "given up") { // before it was heard
					delayed = append(delayed, you.seq)
				}
				you.comes(b.s)
			case 10: // a connection that the client has given up is heard
				if len(delayed) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(delayed)-1).Draw(t, "which")
				after := delayed[i]
				delayed = slices.Delete(delayed, i, i+1)
				if b.s.Out().Stale(after) {
					continue
				}
				if !b.s.Out().Provable(after) {
					t.Fatalf("%d is neither stale nor provable", after)
				}
				b.s.Attach(after, &Ready{Head: Head{Type: "ready"}, Resumed: true})
				for range rapid.IntRange(0, 6).Draw(t, "unheard") {
					b.s.Out().Next(b.now)
				}
				you.comes(b.s)
			}
			if rapid.Bool().Draw(t, "reads") {
				for f := b.s.Out().Next(b.now); f != nil; f = b.s.Out().Next(b.now) {
					you.take(f)
				}
			}
		}
		b.s.End(b.now)
		b.turn()
		b.answerAll()
		b.pass(10 * time.Second)
		b.answerAll()
		for f := b.s.Out().Next(b.now); f != nil; f = b.s.Out().Next(b.now) {
			you.take(f)
		}
		if !b.s.Ended() {
			t.Fatal("it does not end")
		}
		for id := range text {
			for _, l := range targets {
				f := you.final[id+" "+string(l)]
				if f == nil {
					t.Fatalf("the final of %s in %s is missing", id, l)
				}
				if want := expected(text[id], l); f.Text != want {
					t.Fatalf("%q in %s is %q, want %q", text[id], l, f.Text, want)
				}
			}
		}
		for l, order := range you.order {
			for i, id := range order {
				for _, before := range order[:i] {
					// Who began earlier, and was over by then, comes earlier or is late.
					if slices.Index(began, before) > slices.Index(began, id) && ended[id] > 0 && ended[before] > 0 && ended[id] < ended[before] && !you.final[id+" "+string(l)].Late {
						t.Fatalf("%s: %s came after %s, unmarked", l, id, before)
					}
				}
			}
		}
	})
}

// expected is the translation of each sentence alone.
func expected(text string, l core.Language) string {
	out := ""
	for i, u := range unitsOf(text) {
		piece := u.text
		if !wordless(u.text) {
			piece = shout(u.text, l)
		}
		out += joint(l, i, u.blank) + piece
	}
	return out
}

func TestWordsAndSentencesAreThoseOfTheirLanguage(t *testing.T) {
	for _, c := range []struct {
		text     string
		units    int
		quarters int
	}{
		{"So what we want to do is simple.", 1, 32},
		{"你好。我们开始吧！", 2, 14},
		{"今日は。元気ですか？", 2, 15},
		{"สวัสดีครับ", 1, 8},
		{"مرحبا بكم. كيف الحال؟", 2, 16},
		{"It costs $3.50. Cheap!", 2, 16},
		{"", 0, 0},
		{"   ", 0, 0},
	} {
		if got := len(unitsOf(c.text)); got != c.units {
			t.Errorf("%q has %d sentences, want %d: %+v", c.text, got, c.units, unitsOf(c.text))
		}
		if got := measure(c.text); got < c.quarters-3 || got > c.quarters+3 {
			t.Errorf("%q measures %d, want about %d", c.text, got, c.quarters)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"Dr. Who. Yes!", "你好。你", "a\r\nb", "…", "\xff. A", "U.S. Army. x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, u := range unitsOf(text) {
			if text[u.begin:u.end] != u.text || u.begin < end || text[end:u.begin] != u.blank || strings.TrimSpace(u.blank) != "" {
				t.Fatalf("%q: %+v", text, u)
			}
			end = u.end
		}
		if strings.TrimSpace(text[end:]) != "" {
			t.Fatalf("%q: %q is in no sentence", text, text[end:])
		}
		if n := agreed(text, text); n != len(text) {
			t.Fatalf("%q agrees with itself for %d bytes", text, n)
		}
		measure(text)
		wordless(text)
	})
}
