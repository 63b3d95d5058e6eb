package postprocess

import (
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

// TestATranslatedRefusalIsNoRefusal: an apology, or a "no", reads like a
// refusal in any language, also from one of which only a few words are known, or
// none. So does much else that looks like what a step is after.
func TestATranslatedRefusalIsNoRefusal(t *testing.T) {
	s := New("postprocess", Config{})
	for _, p := range []pair{
		{"", "hu", "en", "Sajnálom, ebben nem tudok segíteni.", "I'm sorry, I can't help with that."},
		{"", "th", "en", "ขอโทษครับ ผมช่วยเรื่องนี้ไม่ได้", "I'm sorry, I can't help with that."},
		{"", "fi", "en", "Anteeksi, en voi auttaa siinä.", "I'm sorry, I can't help with that."},
		{"", "ka", "en", "ბოდიში, ამაში ვერ დაგეხმარებით.", "I'm sorry, I can't help with that."},
		{"", "sw", "en", "Samahani, siwezi kukusaidia na hilo.", "I'm sorry, I can't help with that."},
		{"", "eu", "en", "Barkatu, ezin dizut horretan lagundu.", "I'm sorry, I can't help you with that."},
		{"", "cy", "en", "Mae'n ddrwg gen i, ni allaf helpu gyda hynny.", "I'm sorry, I can't help with that."},
		{"", "ta", "en", "மன்னிக்கவும், என்னால் இதற்கு உதவ முடியாது.", "I'm sorry, I can't help with that."},
		{"", "am", "en", "ይቅርታ፣ በዚህ ልረዳዎ አልችልም።", "I'm sorry, I can't help with that."},
		{"", "is", "en", "Því miður get ég ekki hjálpað þér með það.", "I'm sorry, I can't help with that."},
		{"", "bn", "en", "দুঃখিত, আমি এতে সাহায্য করতে পারছি না।", "I'm sorry, I can't help with that."},
		{"", "", "en", "Samahani, siwezi kukusaidia na hilo.", "I'm sorry, I can't help with that."},
		{"", "en", "es", "I am unable to assist you with this request at the moment.", "Lo siento, no puedo ayudarle con esta solicitud en este momento."},
		{"", "en", "de", "No can do, mate.", "Tut mir leid, ich kann dir dabei nicht helfen."},
		{"", "en", "es", "Translation: the act of translating", "Traducción: el acto de traducir"},
		{"", "en", "es", "Here is the translation you wanted:\nHello", "Aquí está la traducción que querías:\nHola"},
		{"", "en", "fr", "Note: this is important.", "Remarque : ceci est important."},
		{"", "en", "es", "ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha", "ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja ja"},
		{"", "en", "fr", "OK", "D'accord, c'est entendu."},
		{"", "en", "de", "Hamburg Berlin Frankfurt am Main der die das", "Hamburg Berlin Frankfurt am Main der die das"},

		// Languages of which a few words are known.
		{"", "et", "en", "Vabandust, ma ei saa sellega aidata.", "I'm sorry, I can't help with that."},
		{"", "lv", "en", "Atvainojiet, es nevaru ar to palīdzēt.", "I'm sorry, I can't help with that."},
		{"", "lt", "en", "Atsiprašau, negaliu tuo padėti.", "I'm sorry, I can't help with that."},
		{"", "sl", "en", "Žal mi je, pri tem ne morem pomagati.", "I'm sorry, I can't help with that."},
		{"", "sk", "en", "Prepáčte, s tým vám nemôžem pomôcť.", "I'm sorry, I can't help with that."},
		{"", "sq", "en", "Më vjen keq, nuk mund të të ndihmoj me këtë.", "I'm sorry, I can't help you with that."},
		{"", "mk", "en", "Жал ми е, не можам да помогнам со тоа.", "I'm sorry, I can't help with that."},
		{"", "hy", "en", "Ներողություն, ես չեմ կարող օգնել դրա հարցում։", "I'm sorry, I can't help with that."},
		{"", "az", "en", "Üzr istəyirəm, bu məsələdə kömək edə bilmərəm.", "I'm sorry, I can't help with that."},
		{"", "kk", "en", "Кешіріңіз, мен бұған көмектесе алмаймын.", "I'm sorry, I can't help with that."},
		{"", "uz", "en", "Kechirasiz, bunda yordam bera olmayman.", "I'm sorry, I can't help with that."},
		{"", "mn", "en", "Уучлаарай, би үүнд тусалж чадахгүй.", "I'm sorry, I can't help with that."},
		{"", "ne", "en", "माफ गर्नुहोस्, म यसमा मद्दत गर्न सक्दिनँ।", "I'm sorry, I can't help with that."},
		{"", "mr", "en", "क्षमस्व, मी यात मदत करू शकत नाही.", "I'm sorry, I can't help with that."},
		{"", "te", "en", "క్షమించండి, నేను దీనికి సహాయం చేయలేను.", "I'm sorry, I can't help with that."},
		{"", "kn", "en", "ಕ್ಷಮಿಸಿ, ಇದಕ್ಕೆ ಸಹಾಯ ಮಾಡಲು ನನಗೆ ಸಾಧ್ಯವಿಲ್ಲ.", "I'm sorry, I can't help with that."},
		{"", "ml", "en", "ക്ഷമിക്കണം, എനിക്ക് അതിൽ സഹായിക്കാൻ കഴിയില്ല.", "I'm sorry, I can't help with that."},
		{"", "si", "en", "සමාවෙන්න, මට ඒකට උදව් කරන්න බැහැ.", "I'm sorry, I can't help with that."},
		{"", "km", "en", "សូមទោស ខ្ញុំមិនអាចជួយរឿងនោះបានទេ។", "I'm sorry, I can't help with that."},
		{"", "lo", "en", "ຂໍໂທດ, ຂ້ອຍຊ່ວຍເລື່ອງນັ້ນບໍ່ໄດ້.", "I'm sorry, I can't help with that."},
		{"", "ur", "en", "معذرت، میں اس میں مدد نہیں کر سکتا۔", "I'm sorry, I can't help with that."},
		{"", "tl", "en", "Pasensya na, hindi kita matutulungan diyan.", "I'm sorry, I can't help you with that."},
		{"", "ga", "en", "Tá brón orm, ní féidir liom cabhrú leis sin.", "I'm sorry, I can't help with that."},
		{"", "ca", "en", "Ho sento, no et puc ajudar amb això.", "I'm sorry, I can't help you with that."},
		{"", "zu", "en", "Uxolo, angikwazi ukusiza ngalokho.", "I'm sorry, I can't help with that."},
		{"", "af", "en", "Jammer, ek kan nie daarmee help nie.", "I'm sorry, I can't help with that."},
		{"", "nn", "en", "Orsak, eg kan ikkje hjelpe deg med det.", "I'm sorry, I can't help you with that."},
		{"", "eo", "en", "Mi bedaŭras, mi ne povas helpi pri tio.", "I'm sorry, I can't help with that."},
		{"", "tr", "de", "Üzgünüm, bu konuda yardımcı olamam.", "Es tut mir leid, dabei kann ich nicht helfen."},
		{"", "hu", "es", "Sajnos ebben nem tudok segíteni.", "Lo siento, no puedo ayudar con eso."},
		{"", "fi", "fr", "Valitettavasti en voi auttaa siinä.", "Désolé, je ne peux pas vous aider."},

		// Without an apology.
		{"", "eu", "en", "Ezin dizut horretan lagundu.", "I can't help you with that."},
		{"", "hu", "en", "Ebben nem tudok segíteni.", "I can't help with that."},
		{"", "ka", "en", "ამაში ვერ დაგეხმარებით.", "I can't help with that."},
		{"", "en", "es", "Can't help you there, pal.", "Lo siento, no puedo ayudarte con eso."},
		{"", "en", "fr", "There is nothing I can do for you.", "Désolé, je ne peux pas vous aider."},
		{"", "en", "de", "Not possible, I'd have to turn you down.", "Leider kann ich dir nicht helfen."},
		{"", "de", "en", "Da kann ich dir nicht helfen.", "Sorry, I can't help you there."},
		{"", "es", "en", "No hay nada que hacer, no te puedo ayudar.", "Sorry, I can't help you there."},
		{"", "ru", "en", "Ничем не могу помочь.", "Sorry, I can't help you."},

		// Languages of which nothing is known.
		{"", "ay", "en", "Pampachawita, janiw ukamp yanapt'irjamäkiti.", "I'm sorry, I can't help with that."},
		{"", "bm", "en", "Hakɛ to, n tɛ se k'i dɛmɛ o la.", "I'm sorry, I can't help you with that."},
		{"", "gn", "en", "Ñembyasy, ndaikatúi roipytyvõ upévape.", "I'm sorry, I can't help with that."},
		{"", "", "en", "Pampachawita, janiw ukamp yanapt'irjamäkiti.", "I'm sorry, I can't help with that."},
		{"", "", "en", "Barkatu, ezin dizut horretan lagundu.", "I'm sorry, I can't help you with that."},
		{"", "", "en", "ბოდიში, ამაში ვერ დაგეხმარებით.", "I'm sorry, I can't help with that."},
		{"", "", "de", "No can do, mate.", "Tut mir leid, ich kann dir dabei nicht helfen."},
	} {
		for _, streamed := range []bool{false, true} {
			in := &core.Result{Text: p.answer, Finish: core.FinishStop}
			var out *core.Result
			var err error
			if streamed {
				h := listen(t, s, p.request(), spoken{pieces: runes(p.answer), res: in})
				out, err = h.res, h.err
				if h.text() != p.answer {
					t.Errorf("%s -> %s: %q: heard %q", p.source, p.target, p.text, h.text())
				}
			} else if res, refusal := s.look(p.request(), in, ""); refusal != nil {
				err = refusal
			} else {
				out = res
			}
			switch {
			case err != nil:
				t.Errorf("%s -> %s: %q: %q was refused: %v", p.source, p.target, p.text, p.answer, err)
			case out != in:
				t.Errorf("%s -> %s: %q: %q became %q %v", p.source, p.target, p.text, p.answer, out.Text, out.Flags)
			}
		}
	}
}

// declines are what models say instead of a translation.
var declines = map[core.Language][]string{
	"en": {"I'm sorry, but I can't help with that.", "I'm sorry, I can't assist with that request.", "I cannot translate this text.", "I'm unable to provide a translation of this content.", "As an AI language model, I cannot comply with this request."},
	"es": {"Lo siento, pero no puedo ayudar con eso.", "No puedo traducir este texto.", "Lamentablemente, no puedo proporcionar una traducción de este contenido."},
	"fr": {"Je suis désolé, mais je ne peux pas vous aider.", "Je ne peux pas traduire ce texte."},
	"de": {"Es tut mir leid, aber dabei kann ich nicht helfen.", "Ich kann diesen Text nicht übersetzen."},
	"it": {"Mi dispiace, ma non posso aiutarti.", "Non posso tradurre questo testo."},
	"pt": {"Desculpe, mas não posso ajudar com isso.", "Não posso traduzir este texto."},
	"ru": {"Извините, но я не могу с этим помочь.", "Я не могу перевести этот текст."},
	"zh": {"抱歉，我无法协助处理此事。", "很抱歉，我无法翻译这段内容。"},
	"ja": {"申し訳ありませんが、それはお手伝いできません。", "申し訳ありませんが、この文章は翻訳できません。"},
	"ko": {"죄송하지만 도와드릴 수 없습니다.", "죄송합니다. 이 텍스트는 번역할 수 없습니다."},
	"ar": {"عذرًا، لا يمكنني المساعدة في ذلك.", "آسف، لا أستطيع ترجمة هذا النص."},
}

// TestRefusalsAreCaughtInPlaceOfTranslations puts refusals in place of the
// translations of testdata/clean.tsv, in the target language and in English, with
// the source language told and not told. What it finds is in the README.
func TestRefusalsAreCaughtInPlaceOfTranslations(t *testing.T) {
	s := New("postprocess", Config{})
	type tally struct{ refused, flagged, passed int }
	for _, c := range []struct {
		name         string
		told, native bool
		refused, all float64 // what share is refused, and refused or flagged, at least
	}{
		{"in English, source told", true, false, 0.95, 0.97},
		{"in the target language, source told", true, true, 0.6, 0.95},
		{"in English, source not told", false, false, 0.8, 0.9},
		{"in the target language, source not told", false, true, 0, 0.75},
	} {
		var n tally
		for _, p := range written(t) {
			language := core.Language("en")
			if c.native {
				language = core.Language(p.target.Base())
			} else if p.target.Base() == "en" {
				continue
			}
			for _, answer := range declines[language] {
				if findRefusal(p.text) != "" || hasAny(lowerWord(p.text), apologies) {
					continue // an apology itself
				}
				req := p.request()
				if !c.told {
					req.Source = ""
				}
				res, err := s.look(req, &core.Result{Text: answer}, "")
				switch {
				case err != nil:
					n.refused++
				case len(res.Flags) > 0:
					n.flagged++
				default:
					n.passed++
					if testing.Verbose() {
						t.Logf("passed: %s -> %s: %q: %q", req.Source, p.target, p.text, answer)
					}
				}
			}
		}
		all := float64(n.refused + n.flagged + n.passed)
		t.Logf("%s: of %v refusals %.1f %% were refused, %.1f %% flagged, %.1f %% passed", c.name, all,
			100*float64(n.refused)/all, 100*float64(n.flagged)/all, 100*float64(n.passed)/all)
		if float64(n.refused) < c.refused*all || float64(n.refused+n.flagged) < c.all*all {
			t.Errorf("%s: too few were caught", c.name)
		}
	}
}
