package postprocess

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
)

// look judges a complete answer, of which sent has left as deltas.
func (s *Stage) look(req *core.Request, res *core.Result, sent string) (*core.Result, *core.Error) {
	return s.judged(newQuestion(context.Background(), req), res, sent)
}

func TestConforms(t *testing.T) {
	coretest.Stage(t, Kind(), nil)
	coretest.Stage(t, Kind(), &Config{Skip: []Step{Echo, Quotes}})
}

// A bad answer and what becomes of it: another text, a refusal, or a flag.
type bad struct {
	pair
	want string
	kind core.ErrorKind
	flag string
}

func fixed(source, target core.Language, text, answer, want string) bad {
	return bad{pair: pair{"", source, target, text, answer}, want: want}
}

func flagged(source, target core.Language, text, answer, flag string) bad {
	return bad{pair: pair{"", source, target, text, answer}, want: answer, flag: flag}
}

func rejected(source, target core.Language, text, answer string, kind core.ErrorKind) bad {
	return bad{pair: pair{"", source, target, text, answer}, kind: kind}
}

// untouched is what looks bad and may be good: the stage leaves it alone.
func untouched(source, target core.Language, text, answer string) bad {
	return fixed(source, target, text, answer, answer)
}

var steps = map[Step][]bad{
	Think: {
		fixed("en", "es", "Hello", "<think>A greeting.</think>Hola", "Hola"),
		fixed("en", "es", "Hello", "<THINKING>\nA greeting.\n</thinking>\n\nHola", "Hola"),
		fixed("en", "es", "Hello", "<think>one <think>two</think> three</think>\nHola", "Hola"),
		fixed("en", "es", "Hello", "<think>one</think><reasoning>two</reasoning> Hola", "Hola"),
		fixed("en", "es", "Hello", "A greeting, so I greet.\n</think>\n\nHola", "Hola"),
		fixed("en", "es", "Hello", "Hola <think>That is right.</think>", "Hola"),
		fixed("en", "es", "Good day", "Buenos <think>hm</think> días", "Buenos días"),
		fixed("en", "es", "one\nNote: two", "<think>a\nb</think>\n\n<think>c: d</think>\n\nuno\n\nNote: dos", "uno\n\nNote: dos"),
		rejected("en", "es", "Hello", "<think>A greeting, so I", core.BadAnswer),
		rejected("en", "es", "Hello", "<think>A greeting.</think>", core.BadAnswer),
		untouched("en", "es", "The tag <think> opens it", "<think> lo abre"),
		untouched("en", "es", "1 < 2", "1 < 2"),
	},
	Fence: {
		fixed("en", "es", "Hello", "```\nHola\n```", "Hola"),
		fixed("en", "es", "Hello", "```text\nHola\n```", "Hola"),
		fixed("en", "es", "Hello\nthere", "```markdown\nHola\na todos\n```", "Hola\na todos"),
		fixed("en", "es", "Hello", "```Hola```", "Hola"),
		fixed("en", "es", "Hello there", "~~~\nHola a todos\n~~~", "Hola a todos"),
		fixed("en", "es", "one\ntwo", "```uno\ndos\n```", "uno\ndos"),
		fixed("en", "es", "Hello", "<translation>Hola</translation>", "Hola"),
		untouched("en", "es", "```\nx\n```", "```\nx\n```"),
		untouched("en", "es", "Hello", "```\nHola\n```\ny\n```\nadiós\n```"),
	},
	Chatter: {
		fixed("en", "es", "Hello", "Here is the translation:\n\nHola", "Hola"),
		fixed("en", "es", "Hello", "Here’s the Spanish translation of your text: Hola", "Hola"),
		fixed("en", "es", "Hello", "Sure! Here is the translation into Spanish:\nHola", "Hola"),
		fixed("en", "es", "Hello", "**Translation:** Hola", "Hola"),
		fixed("en", "es", "Hello", "### Translation\n\nHola", "Hola"),
		fixed("en", "es", "Hello", "Translation (Spanish): Hola", "Hola"),
		fixed("en", "es", "Hello", `The translation of "Hello" is: Hola`, "Hola"),
		fixed("en", "es", "Hello", "Spanish: Hola", "Hola"),
		fixed("en", "es", "Hello", "Sure! Hola", "Hola"),
		fixed("en", "es", "Hello", "Aquí está la traducción al español: Hola", "Hola"),
		fixed("en", "fr", "Hello", "Voici la traduction en français :\n\nBonjour", "Bonjour"),
		fixed("en", "de", "Hello", "Hier ist die Übersetzung: Hallo", "Hallo"),
		fixed("en", "it", "Hello", "Ecco la traduzione: Ciao", "Ciao"),
		fixed("en", "pt", "Hello", "Claro! Aqui está a tradução: Olá", "Olá"),
		fixed("en", "nl", "Hello", "Hier is de vertaling: Hallo", "Hallo"),
		fixed("en", "ru", "Hello", "Вот перевод текста на русский язык: Привет", "Привет"),
		fixed("en", "zh", "Hello", "以下是翻译：\n你好", "你好"),
		fixed("en", "ja", "Hello", "以下は翻訳です：こんにちは", "こんにちは"),
		fixed("en", "ko", "Hello", "번역: 안녕하세요", "안녕하세요"),
		fixed("en", "ar", "Hello", "إليك الترجمة: مرحبا", "مرحبا"),
		fixed("en", "es", "Here is the translation: Hello", "Here is the translation: Aquí está la traducción: Hola", "Aquí está la traducción: Hola"),
		fixed("en", "es", "I need the translation", "Here is the translation: Necesito la traducción", "Necesito la traducción"),
		fixed("en", "es", "Hello", "Hola\n\nNote: This is informal.", "Hola"),
		fixed("en", "es", "Hello", "Hola\n\n**Note:** This is informal.\n- Or not.", "Hola"),
		fixed("en", "es", "Hello", "Hola\n\n---\n*Note: This is informal.*", "Hola"),
		fixed("en", "es", "Hello", "Hola (Note: this is informal)", "Hola"),
		fixed("en", "es", "Hello (x)", "Hola (x) (Note: this is informal)", "Hola (x)"),
		fixed("en", "es", "Break a leg", "Mucha mierda (literally: much dung)", "Mucha mierda"),
		fixed("en", "es", "Hello", "Hola\n\nAlternative translations:\n- Buenas\n- Qué tal", "Hola"),
		fixed("en", "es", "Hello", "Hola\n\nAlternatively: Buenas", "Hola"),
		fixed("en", "de", "Hello", "Hallo\n\nHinweis: Das ist informell.", "Hallo"),
		fixed("en", "zh", "Hello", "你好\n\n注：这是非正式的。", "你好"),
		fixed("en", "ja", "Hello", "こんにちは（注：くだけた表現）", "こんにちは"),
		fixed("en", "es", "Hello.", "Hola.\n\nLet me know if you need anything else!", "Hola."),
		fixed("en", "es", "one\nNote: two", "uno\nNota: dos\n\nNote: I kept the lines.", "uno\nNota: dos"),
		fixed("en", "es", "Hello", "Translation:\n```\nHola\n```\n\nNote: This is informal.", "Hola"),
		untouched("en", "es", "The rule", "Nota: la regla"),
		untouched("en", "es", "The type. (Note that it is signed.)", "El tipo. (Note that it is signed.)"),
		untouched("en", "es", "Hello", "Here is the translation:"),
		untouched("en", "es", "Hello. Note that it rains.", "Hola.\nNota que llueve."),
		untouched("en", "es", "Bring water. Note: no glass.", "Traiga agua.\nNota: sin vidrio."),
	},
	Quotes: {
		fixed("en", "es", "Hello", `"Hola"`, "Hola"),
		fixed("en", "es", "Hello", "“Hola”", "Hola"),
		fixed("en", "fr", "Hello", "« Bonjour »", "Bonjour"),
		fixed("en", "de", "Hello", "„Hallo“", "Hallo"),
		fixed("en", "ja", "Hello", "「こんにちは」", "こんにちは"),
		fixed("en", "es", "Hello", "'Hola'", "Hola"),
		fixed("en", "fr", "The child's toy", "'L'enfant'", "L'enfant"),
		fixed("en", "es", "Hello", "`Hola`", "Hola"),
		fixed("en", "es", "Hello", "**Hola**", "Hola"),
		fixed("en", "es", "Hello", "“\"Hola\"”", "Hola"),
		fixed("en", "es", "Hello", "\"Here is the translation: Hola\"", "Hola"),
		untouched("en", "es", `He said "yes"`, `"Dijo que sí"`),
		untouched("en", "es", "one and two", `"uno" y "dos"`),
		untouched("en", "es", "— Hi", `"Hola"`),
		untouched("en", "es", "Hello", `""`),
		untouched("en", "es", "Hello", `"Hola`),
	},
	Space: {
		fixed("en", "es", "Hello", " \nHola\n\n", "Hola"),
		fixed("en", "es", "\n  Hello\n", "Hola", "\n  Hola\n"),
		fixed("en", "es", "Hello", "　Hola\u00a0", "Hola"),
		rejected("en", "es", "Hello", " \n ", core.BadAnswer),
		rejected("en", "es", "Hello", "", core.BadAnswer),
		untouched("en", "es", "one\ntwo", "uno\n\n  dos"),
	},
	Refusal: {
		rejected("en", "es", "Hello, my friend", "I'm sorry, but I can't help with that.", core.ProviderRefused),
		rejected("en", "es", "I do not like it", "I’m sorry, but I can’t assist with that request.", core.ProviderRefused),
		rejected("en", "ja", "How are you?", "I cannot translate this text because it violates the policy.", core.ProviderRefused),
		rejected("en", "de", "How are you?", "As an AI language model, I am unable to provide a translation of this.", core.ProviderRefused),
		rejected("es", "en", "Buenos días, amigo mío", "I'm sorry, but I can't help with that.", core.ProviderRefused),
		rejected("en", "es", "How to open a door", "Lo siento, pero no puedo ayudarte con esa solicitud.", core.ProviderRefused),
		rejected("en", "fr", "How to open a door", "Je suis désolé, mais je ne peux pas vous aider.", core.ProviderRefused),
		rejected("en", "de", "How to open a door", "Es tut mir leid, aber dabei kann ich nicht helfen.", core.ProviderRefused),
		rejected("en", "zh", "How to open a door", "抱歉，我无法协助处理这个请求。", core.ProviderRefused),
		rejected("en", "ja", "How to open a door", "申し訳ありませんが、そのお手伝いはできません。", core.ProviderRefused),
		rejected("en", "ru", "How to open a door", "Извините, но я не могу вам с этим помочь.", core.ProviderRefused),
		flagged("es", "en", "No me gusta el coche nuevo.", "I'm sorry, but I can't help with that.", FlagMaybeRefused),
		flagged("eu", "en", "Egun on, zer moduz?", "I'm sorry, but I can't help with that.", FlagMaybeRefused),
		flagged("", "en", "Buenos días", "I'm sorry, but I can't help with that.", FlagMaybeRefused),
		untouched("es", "en", "Lo siento, pero no puedo ayudarte.", "I'm sorry, but I can't help you."),
		untouched("de", "en", "Da ist leider nichts zu machen.", "I'm sorry, but I can't help with that."),
		untouched("es", "fr", "Dijo: I can't help you", "I can't help you, dit-il"),
	},
	Echo: {
		rejected("en", "es", "Good morning. The new car is very fast.", "Good morning. The new car is very fast.", core.BadAnswer),
		rejected("en", "ja", "The train was late and we have missed the boat.", "The train was late and we have missed the boat.", core.BadAnswer),
		rejected("de", "en", "Das Wetter ist heute sehr schön und wir gehen spazieren.", "Das Wetter ist heute sehr schön und wir gehen spazieren.", core.BadAnswer),
		rejected("ru", "en", "Завтра будет хорошая погода.", "Завтра будет хорошая погода.", core.BadAnswer),
		rejected("ja", "en", "明日は友達と映画を見に行きます。", "明日は友達と映画を見に行きます。", core.BadAnswer),
		rejected("ja", "zh", "これはわたしのいちばん好きなほんです。", "これはわたしのいちばん好きなほんです。", core.BadAnswer),
		flagged("en", "es", "The cat is sleeping today.", "The cat is sleeping today.", FlagUntranslated),
		flagged("en", "lb", "Good morning. The new car is very fast.", "Good morning. The new car is very fast.", FlagUntranslated),
		flagged("", "es", "Good morning. The new car is very fast and it was cheap.", "Good morning. The new car is very fast and it was cheap.", FlagUntranslated),
		flagged("ru", "en", "Иван Петров", "Иван Петров", FlagUntranslated),
		untouched("en", "es", "Hotel Ritz", "Hotel Ritz"),
		untouched("en", "es", "The Lord of the Rings", "The Lord of the Rings"),
		untouched("", "es", "Buenos días. El coche nuevo es muy rápido y barato.", "Buenos días. El coche nuevo es muy rápido y barato."),
		untouched("en", "es", "cat file.txt | grep 'the is and' > out", "cat file.txt | grep 'the is and' > out"),
	},
	Script: {
		rejected("en", "es", "Good morning, my friend", "Доброе утро, мой друг", core.BadAnswer),
		rejected("en", "es", "Good morning, my friend", "早上好，我的朋友", core.BadAnswer),
		rejected("es", "ru", "Buenos días, amigo mío, ¿cómo estás?", "good morning my friend, how are you today", core.BadAnswer),
		rejected("en", "ja", "Good morning", "좋은 아침입니다", core.BadAnswer),
		rejected("en", "zh-Hant", "Good morning", "おはようございます", core.BadAnswer),
		rejected("en", "sr-Cyrl", "Good morning to all of you", "dobro jutro svima vama ovde", core.BadAnswer),
		flagged("en", "es", "The world is big and round", "El 世界 es grande y redondo", FlagMixedScript),
		untouched("en", "sr", "Good morning to all of you", "dobro jutro svima vama ovde"),
		untouched("en", "es", "Say привет to Olga", "Dile привет a Olga"),
		untouched("zh", "ru", "微软办公软件个人版", "Microsoft Office Personal"),
		untouched("en", "ru", "Write to them", "info@example.com"),
		untouched("en", "es", "pi", "π"),
	},
	Length: {
		rejected("en", "es", "Hello", "Esta palabra inglesa es un saludo que se usa en muchas ocasiones, tanto al encontrarse dos personas como al empezar una llamada de teléfono o una carta entre amigos. Viene de otra lengua y significa lo mismo que en la nuestra, salvo que aquí se dice de otra manera, y que entre desconocidos se prefiere a menudo desear los buenos días.", core.BadAnswer),
		rejected("en", "es", strings.Repeat("A sentence with some words in it that say nothing new. And one more. ", 4), "Una frase.", core.BadAnswer),
		untouched("en", "de", "AC", "Wechselstrom, im Unterschied zum Gleichstrom"),
		untouched("en", "zh", "The quick brown fox jumps over the lazy dog while the farmer watches from his porch and wonders whether it will ever learn to behave.", "敏捷的棕狐跳过懒狗，农夫在门廊上看着，不知它何时才会学乖。"),
	},
	Repetition: {
		rejected("en", "es", "Hello, how are you?", strings.TrimSpace(strings.Repeat("Hola, ¿cómo estás? ", 4)), core.BadAnswer),
		rejected("en", "es", "I know that you know it.", "Sé que "+strings.Repeat("lo sabes que ", 12), core.BadAnswer),
		rejected("en", "ja", "It is a very good day.", "とても"+strings.Repeat("良い", 30), core.BadAnswer),
		untouched("en", "es", strings.Repeat("go on and on, ", 12)+"end", strings.Repeat("sigue y sigue, ", 12)+"fin"),
		untouched("en", "es", "-", "----------------------------------------------------------------------------------"),
	},
}

// TestEachStepDoesItsOneThing runs every step by itself, and then all together.
func TestEachStepDoesItsOneThing(t *testing.T) {
	for step, cases := range steps {
		alone := Config{}
		for _, other := range order {
			if other != step && other != Space {
				alone.Skip = append(alone.Skip, other)
			}
		}
		for _, c := range cases {
			all := Config{}
			if c.kind == "" && c.flag == "" && c.want == c.answer {
				all = alone // what one step leaves alone, another may not
			}
			s := New("postprocess", all)
			in := &core.Result{Text: c.answer, Finish: core.FinishStop, Usage: core.Usage{CompletionTokens: 3}}
			before := *in
			out, err := s.look(c.request(), in, "")
			if c.kind != "" {
				if err == nil || err.Kind != c.kind || err.Retryable != (c.kind == core.BadAnswer) || err.Detail == "" || err.Stage != "postprocess" {
					t.Errorf("%s: %s -> %s: %q: %q: got %+v, %v, want %s", step, c.source, c.target, c.text, c.answer, out, err, c.kind)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %s -> %s: %q: %q was refused: %v", step, c.source, c.target, c.text, c.answer, err)
				continue
			}
			want := before
			want.Text = c.want
			if c.flag != "" {
				want.Flags, want.NoStore = []string{c.flag}, true
			}
			if diff := cmp.Diff(want, *out); diff != "" {
				t.Errorf("%s: %s -> %s: %q: %q (-want +got):\n%s", step, c.source, c.target, c.text, c.answer, diff)
			}
			if diff := cmp.Diff(before, *in); diff != "" {
				t.Errorf("%s: %q: the result that went in was changed:\n%s", step, c.answer, diff)
			}
		}
	}
}

// TestASkippedStepDoesNothing turns each step off, and finds that what it
// would have done is left undone.
func TestASkippedStepDoesNothing(t *testing.T) {
	for step, cases := range steps {
		for _, c := range cases {
			if c.answer == "" || c.kind == "" && c.flag == "" && c.want == c.answer {
				continue
			}
			s := New("postprocess", Config{Skip: order[:]})
			in := &core.Result{Text: c.answer, Finish: core.FinishLength}
			if strings.TrimSpace(c.answer) == "" {
				continue // an empty answer is never one
			}
			if out, err := s.look(c.request(), in, ""); err != nil || out != in {
				t.Errorf("%s: %q: with every step left out, got %+v, %v", step, c.answer, out, err)
			}
		}
	}
	quotes := New("postprocess", Config{Skip: []Step{Quotes}})
	in := &core.Result{Text: `"Hola"`}
	if out, err := quotes.look(&core.Request{Text: "Hello", Target: "es"}, in, ""); err != nil || out != in {
		t.Errorf("skip: [quotes]: got %+v, %v", out, err)
	}
}

func TestCutAndWithheldAnswersAreRefused(t *testing.T) {
	s := New("postprocess", Config{})
	req := &core.Request{Text: "Hello", Target: "es", Trace: core.NewTrace(nil)}
	for finish, kind := range map[core.Finish]core.ErrorKind{core.FinishLength: core.BadAnswer, core.FinishFiltered: core.ProviderRefused} {
		limits := &core.Limits{}
		_, err := s.look(req, &core.Result{Text: "Hola", Finish: finish, Usage: core.Usage{CompletionTokens: 7}, Limits: limits}, "")
		if err == nil || err.Kind != kind || err.Retryable != (kind == core.BadAnswer) {
			t.Errorf("%s: got %v, want %s", finish, err, kind)
		}
		if err.Usage.CompletionTokens != 7 || err.Limits != limits {
			t.Errorf("%s: what the refused answer cost is not in the error", finish)
		}
	}
}

func TestErrorsFromBelowPassAsTheyAre(t *testing.T) {
	below := &core.Error{Kind: core.RateLimited}
	stage := New("postprocess", Config{}).Wrap(core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return nil, below }))
	if res, err := stage.Translate(t.Context(), &core.Request{Text: "x", Target: "es"}); res != nil || err != error(below) {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestFindingsAreCounted(t *testing.T) {
	s := New("postprocess", Config{})
	for _, answer := range []string{`"Hola"`, "Hola", "I'm sorry, but I can't help with that.", "Hola 世界 a todos", " Hola"} {
		s.look(&core.Request{Text: "Hello to you", Source: "en", Target: "es"}, &core.Result{Text: answer}, "")
	}
	got := map[string]float64{}
	s.Measure(func(m core.Measure) {
		if m.Value != 0 {
			got[m.Name+" "+m.Labels[1]] = m.Value
		}
	})
	want := map[string]float64{
		"postprocess_repairs_total quotes": 1, "postprocess_repairs_total space": 1,
		"postprocess_refusals_total refusal": 1, "postprocess_flags_total script": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFingerprintNamesTheStepsInUse(t *testing.T) {
	all, some := New("a", Config{}), New("b", Config{Skip: []Step{Echo, Finish}})
	if got := all.Fingerprint(); got != "postprocess 5 finish think fence chatter quotes space refusal echo script length repetition" {
		t.Errorf("got %q", got)
	}
	if got := some.Fingerprint(); got != "postprocess 5 think fence chatter quotes space refusal script length repetition" {
		t.Errorf("got %q", got)
	}
}

func TestPlacesInOrder(t *testing.T) {
	if order[atFinish] != Finish || order[atSpace] != Space || order[atLength] != Length {
		t.Errorf("atFinish, atSpace and atLength point at %s, %s and %s", order[atFinish], order[atSpace], order[atLength])
	}
}

// FuzzLook holds the stage to what it promises for any text and answer: it
// never panics; what is valid UTF-8 stays so; it only takes away (what is left
// stands in the answer in the same order); its own output passes unchanged; and
// the text to be translated, given back by the provider, is never cut down.
func FuzzLook(f *testing.F) {
	for _, p := range written(f) {
		f.Add(string(p.source), string(p.target), p.text, p.answer)
	}
	for _, cases := range steps {
		for _, c := range cases {
			f.Add(string(c.source), string(c.target), c.text, c.answer)
		}
	}
	s := New("postprocess", Config{})
	f.Fuzz(func(t *testing.T, source, target, text, answer string) {
		req := &core.Request{Source: core.Language(source), Target: core.Language(target), Text: text}
		in := &core.Result{Text: answer}
		out, err := s.look(req, in, "")
		if (out == nil) == (err == nil) {
			t.Fatalf("got %v and %v", out, err)
		}
		if in.Text != answer || in.Flags != nil || in.NoStore {
			t.Fatal("the result that went in was changed")
		}
		if out != nil {
			if utf8.ValidString(answer) && utf8.ValidString(text) && !utf8.ValidString(out.Text) {
				t.Errorf("%q became %q, which is not UTF-8", answer, out.Text)
			}
			if rest := strings.TrimSpace(out.Text); !isSubsequence(rest, answer) {
				t.Errorf("%q became %q, which has more in it", answer, out.Text)
			}
			if again, err := s.look(req, out, ""); err != nil || again != out {
				t.Errorf("%q became %q and then %+v, %v", answer, out.Text, again, err)
			}
		}
		if echo, err := s.look(req, &core.Result{Text: text}, ""); err == nil && strings.TrimSpace(text) != "" && echo.Text != text {
			t.Errorf("the text %q itself became %q", text, echo.Text)
		}
	})
}

// isSubsequence says whether the bytes of part stand in whole, in order.
func isSubsequence(part, whole string) bool {
	for i := 0; i < len(whole) && part != ""; i++ {
		if whole[i] == part[0] {
			part = part[1:]
		}
	}
	return part == ""
}

func TestEveryStepHasItsCases(t *testing.T) {
	for _, step := range order {
		if step != Finish && len(steps[step]) == 0 {
			t.Errorf("no case for %s", step)
		}
	}
	if slices.Contains(order[:], Step("")) {
		t.Error("an unnamed step")
	}
}
