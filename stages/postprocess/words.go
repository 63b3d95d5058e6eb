package postprocess

import (
	"strings"
	"unicode"
)

// The tables in this file are never changed. All words are in lower case, with
// straight apostrophes.

// announceKeys are the words one of which every announcement has. In languages
// without spaces a whole announcement is one word.
var announceKeys = set(`
	translation translations translated translates traducción traducciones traducido traduce traduction traductions traduit traduite
	tradução traduções traduzido traduzione traduzioni tradotto traducció traducere traducerea übersetzung übersetzungen übersetzt vertaling vertaald
	oversættelse oversættelsen oversettelse oversettelsen översättning översättningen käännös перевод переводится переклад превод
	tłumaczenie przekład překlad preklad prevod prijevod fordítás çeviri çevirisi μετάφραση الترجمة ترجمة ترجمه תרגום התרגום अनुवाद terjemahan terjemahannya dịch
	翻译 译文 翻译如下 译文如下 翻译结果 以下是翻译 以下是译文 以下为翻译 以下为译文 这是翻译 中文翻译 英文翻译 以下是中文翻译 以下是英文翻译 翻译为
	翻譯 譯文 翻譯如下 譯文如下 翻譯結果 以下是翻譯 以下是譯文 這是翻譯 中文翻譯 英文翻譯
	翻訳 訳文 翻訳結果 翻訳文 日本語訳 英訳 以下は翻訳です 以下が翻訳です 以下は翻訳文です 翻訳は以下の通りです 翻訳は次のとおりです 以下は日本語訳です
	번역 번역문 번역은 번역입니다 번역본 번역하면`)

// announceWords are the other words of which an announcement is made.
var announceWords = set(`
	here here's heres is are the a an your my our this that this's it it's its i i'd i'll i've can be happy glad to help with sure certainly of course absolutely okay ok yes great
	thing no problem text sentence phrase passage message paragraph word words content document in into from for you and as follows follow following below would final direct
	natural accurate result output answer response version original requested provided given english-to-spanish please find
	aquí está esta este tienes tiene la el las los su tu del al en de texto frase es sería siguiente versión claro por supuesto con gusto
	voici le du votre ta texte est serait français-anglais bien sûr avec plaisir
	hier ist die der das ins auf aus dem deiner deine ihre ihr ihres textes wie folgt lautet natürlich gerne selbstverständlich
	ecco il nel testo tua sua certo certamente ovviamente volentieri
	aqui o a do seu sua teu tua para está certamente claro
	vertaling: van het uw je jouw naar tekst natuurlijk zeker
	här är av din och her er af av på naturligvis självklart
	вот ваш твой на с текста текст язык мову українську конечно разумеется следующий это ось ваш звісно
	oto twoje jest na z tekstu oczywiście jasne
	zde je tu textu samozřejmě
	işte metnin tabii elbette
	إليك هنا هي هو إلى النص بالطبع
	다음은 물론입니다 여기 당신의 결과 한국어 영어
	tentu berikut adalah ini dari teks
	đây là bản của tất nhiên`)

// languageNames are the names of languages, in English and in their own words.
var languageNames = func() map[string]string {
	names := map[string]string{}
	for line := range strings.Lines(`
		ar arabic العربية
		bg bulgarian български
		ca catalan català
		cs czech čeština
		da danish dansk
		de german deutsch deutsche
		el greek ελληνικά
		en english inglés anglais englisch englische inglese inglês engels английский
		es spanish español castellano espagnol spanisch spagnolo espanhol испанский
		fa persian farsi فارسی
		fi finnish suomi
		fr french français française francés französisch französische francese francês французский
		he hebrew עברית
		hi hindi हिन्दी हिंदी
		hr croatian hrvatski
		hu hungarian magyar
		id indonesian indonesia
		it italian italiano italiana italien italienisch
		ja japanese 日本語 日语
		ko korean 한국어
		nl dutch nederlands
		no norwegian norsk
		pl polish polski
		pt portuguese português portuguesa portugués portugais
		ro romanian română
		ru russian русский russe russisch
		sk slovak slovenčina
		sr serbian српски
		sv swedish svenska
		th thai ไทย
		tr turkish türkçe
		uk ukrainian українська
		vi vietnamese việt
		zh chinese 中文 汉语 chino chinois chinesisch
	`) {
		if fields := strings.Fields(line); len(fields) > 0 {
			for _, name := range fields[1:] {
				names[name] = fields[0]
			}
		}
	}
	return names
}()

// translateStems are how languages speak of translating.
var translateStems = prefixesOf(strings.Fields(`
	translat tradu tradot übersetz vertal vertaa oversæt oversett oversat översätt översatt käännö kääntä перевод перевед перевест переклад переклас
	превод tłumacz przekład přeložit překlad preklad prelož prevod prijevod prevesti fordít çevir tercüme μετάφρ μεταφρ ترجم תרגו תרגם מתורגמ अनुवाद 翻译 翻譯 译文 譯文
	訳 번역 terjemah dịch แปล tõlk tulko vertim þýð itzul تۆرجم թարգման თარგმ অনুবাদ மொழிபெயர் అనువాద tafsiri
	cyfieith përkthe tərcümə тәрҗем аударма tarjima орчуул भाषांतर भाषान्तर અનુવાદ ਅਨੁਵਾਦ ಅನುವಾದ വിവർത്തന പരിഭാഷ തർജ്ജമ පරිවර්තන ဘာသာပြန် បកប្រែ
	aistriú eadar-theang iwwersetz humusha omsetj пераклад перакла преведа преведу fassara terjum isalin ተርጉ ተርጎ išvers vertim`))

// assents are what an assistant says before it does what it was asked.
var assents = []string{"sure!", "sure thing!", "of course!", "certainly!", "absolutely!", "okay!", "sure.", "certainly.", "of course."}

// notes introduce a note to the reader, before a colon.
var notes = prefixesOf(phrasesOf(`
	note
	notes
	translation note
	translation notes
	translator's note
	translator note
	note on translation
	explanation
	literal translation
	literally
	literal
	alternative
	alternatives
	alternative translation
	alternative translations
	alternatively
	other options
	another option
	breakdown
	pronunciation
	transliteration
	romanization
	back-translation
	or
	nota
	notas
	nota de traducción
	nota del traductor
	explicación
	literalmente
	alternativa
	alternativas
	nota de tradução
	nota do tradutor
	explicação
	observação
	remarque
	note de traduction
	note du traducteur
	explication
	littéralement
	hinweis
	anmerkung
	anmerkungen
	erklärung
	wörtlich
	nota di traduzione
	nota del traduttore
	spiegazione
	letteralmente
	opmerking
	toelichting
	letterlijk
	obs
	anm
	примечание
	пояснение
	буквально
	примітка
	пояснення
	uwaga
	wyjaśnienie
	dosłownie
	poznámka
	açıklama
	注
	注意
	备注
	注释
	说明
	解释
	備註
	註
	說明
	解釋
	注記
	補足
	解説
	備考
	참고
	설명
	주석
	ملاحظة
	توضيح
	catatan
	lưu ý
	ghi chú
	`))

// bracketNotes introduce a note in brackets without a colon.
var bracketNotes = []string{"note that", "literally", "lit.", "literal translation", "this translation", "literalmente", "littéralement", "wörtlich", "letteralmente", "буквально"}

// asides are how an assistant begins to talk about its own translation.
var asides = prefixesOf([]string{
	"let me know if", "please let me know if", "i hope this helps", "feel free to ask", "would you like me to", "is there anything else i can",
	"this translation ", "the translation ", "in this translation", "i have translated", "i've translated", "i translated", "i used ", "i kept ", "i have kept", "i've kept", "please note that",
	"alternatively, ", "you could also say", "you can also say",
})

// A refusal in a language: it begins with one of opens, says one of middles and
// then one of ends.
type refusal struct {
	language             string
	opens, middles, ends []string
}

var refusals = []refusal{
	{
		"en",
		[]string{"i'm sorry", "i am sorry", "sorry,", "sorry but", "i apologize", "my apologies", "apologies", "unfortunately", "i'm afraid", "i can't", "i cannot", "i can not", "i'm unable", "i am unable", "i'm not able", "i am not able", "i won't", "as an ai", "as a language model", "i must decline"},
		[]string{"i can't", "i cannot", "i can not", "unable to", "not able to", "i won't", "i will not", "not comfortable", "must decline"},
		[]string{"assist", "help", "translat", "provid", "comply", "fulfill", "fulfil", "continue with", "process th", "do that", "engage", "answer th", "respond to", "generat", "creat", "complete this", "support th", "this request", "that request"},
	},
	{
		"es",
		[]string{"lo siento", "lo lamento", "disculp", "lamentablemente", "me temo", "no puedo", "perdón", "como modelo de lenguaje", "como una ia", "como ia"},
		[]string{"no puedo", "no podemos", "no me es posible", "no soy capaz", "no estoy en condiciones"},
		[]string{"ayudar", "traducir", "asistir", "proporcionar", "cumplir", "continuar con", "procesar", "responder a", "realizar es", "con eso", "esa solicitud"},
	},
	{
		"fr",
		[]string{"je suis désolé", "désolé", "je regrette", "malheureusement", "je ne peux pas", "je m'excuse", "en tant que modèle", "en tant qu'ia"},
		[]string{"je ne peux pas", "je ne suis pas en mesure", "je ne puis", "il m'est impossible"},
		[]string{"aider", "traduire", "répondre à", "fournir", "traiter", "assister", "donner suite", "satisfaire"},
	},
	{
		"de",
		[]string{"es tut mir leid", "tut mir leid", "entschuldigung", "leider", "ich kann", "als ki", "als sprachmodell", "ich bedauere"},
		[]string{"kann ich", "ich kann", "bin ich nicht", "ich bin nicht"},
		[]string{"nicht helfen", "nicht weiterhelfen", "nicht übersetzen", "nicht nachkommen", "nicht bearbeiten", "nicht behilflich", "nicht unterstützen", "in der lage", "keine übersetzung", "nicht beantworten", "nicht erfüllen"},
	},
	{
		"it",
		[]string{"mi dispiace", "spiacente", "purtroppo", "non posso", "sono spiacente", "come modello linguistico", "mi scuso"},
		[]string{"non posso", "non sono in grado", "non mi è possibile"},
		[]string{"aiutar", "tradurre", "assister", "fornire", "soddisfare", "rispondere a", "elaborare"},
	},
	{
		"pt",
		[]string{"desculp", "sinto muito", "lamento", "infelizmente", "peço desculpa", "não posso", "não consigo", "como um modelo de linguagem", "como modelo de linguagem"},
		[]string{"não posso", "não consigo", "não sou capaz", "não é possível"},
		[]string{"ajudar", "traduzir", "atender", "fornecer", "auxiliar", "responder a", "cumprir", "com isso", "com essa"},
	},
	{
		"nl",
		[]string{"het spijt me", "sorry", "helaas", "ik kan", "als ai"},
		[]string{"ik kan", "kan ik", "ik ben niet"},
		[]string{"niet helpen", "niet vertalen", "niet mee helpen", "niet voldoen", "niet verwerken", "geen hulp", "niet verder helpen", "in staat", "niet bij helpen"},
	},
	{
		"pl",
		[]string{"przepraszam", "przykro mi", "niestety", "nie mogę", "jako model językowy"},
		[]string{"nie mogę", "nie jestem w stanie"},
		[]string{"pomóc", "przetłumaczyć", "tłumaczyć", "spełnić", "zrealizować", "udzielić", "odpowiedzieć na"},
	},
	{
		"sv",
		[]string{"tyvärr", "jag är ledsen", "förlåt", "jag beklagar", "jag kan inte"},
		[]string{"kan inte", "kan jag inte"},
		[]string{"hjälpa", "översätta", "tillhandahålla", "besvara"},
	},
	{
		"ru",
		[]string{"извините", "простите", "к сожалению", "прошу прощения", "мне жаль", "мне очень жаль", "сожалею", "я не могу", "не могу", "как языковая модель", "как ии"},
		[]string{"не могу", "не в состоянии", "не смогу", "не имею возможности"},
		[]string{"помочь", "перевести", "переводить", "выполнить", "ответить на", "предоставить", "помогать", "обработать"},
	},
	{
		"uk",
		[]string{"вибачте", "на жаль", "перепрошую", "мені шкода", "я не можу"},
		[]string{"не можу", "не зможу", "не в змозі"},
		[]string{"допомогти", "перекласти", "виконати", "відповісти на", "надати"},
	},
	{
		"zh",
		[]string{"抱歉", "很抱歉", "非常抱歉", "对不起", "對不起", "我无法", "我無法", "作为一个人工智能", "作为ai", "作为一个ai", "作為"},
		[]string{"无法", "無法", "不能", "没办法", "沒辦法"},
		[]string{"协助", "帮", "翻译", "提供", "满足", "回答", "处理", "完成", "協助", "幫", "翻譯", "滿足", "處理"},
	},
	{
		"ja",
		[]string{"申し訳", "すみません", "すいません", "恐れ入りますが", "ごめんなさい", "恐縮ですが", "残念ながら"},
		[]string{"手伝い", "翻訳", "対応", "お応え", "お答え", "提供", "要望", "支援", "お助け", "ご依頼"},
		[]string{"できません", "できかねます", "しかねます", "致しかねます", "いたしかねます", "できない"},
	},
	{
		"ko",
		[]string{"죄송", "미안하지만", "유감스럽게도"},
		[]string{"도와", "도움", "번역", "제공", "요청", "답변", "지원"},
		[]string{"수 없", "수가 없", "어렵", "못"},
	},
	{
		"ar",
		[]string{"عذر", "آسف", "أنا آسف", "أعتذر", "للأسف", "اعتذر", "معذرة"},
		[]string{"لا أستطيع", "لا يمكنني", "لا استطيع", "لست قادر", "لن أتمكن", "لا أقدر"},
		[]string{"مساعد", "ترجم", "تقديم", "تلبية", "الرد على", "الإجابة"},
	},
	{
		"tr",
		[]string{"üzgünüm", "maalesef", "özür dilerim", "ne yazık ki"},
		[]string{"yardımcı", "çevir", "bu isteği", "bu talebi", "yardım"},
		[]string{"olamam", "olamıyorum", "çeviremem", "çeviremiyorum", "getiremem", "edemem", "edemiyorum", "getiremiyorum"},
	},
	{
		"vi",
		[]string{"xin lỗi", "rất tiếc", "tôi xin lỗi", "tôi rất tiếc"},
		[]string{"không thể"},
		[]string{"giúp", "hỗ trợ", "dịch", "cung cấp", "đáp ứng"},
	},
	{
		"id",
		[]string{"maaf", "mohon maaf", "saya minta maaf", "sayangnya"},
		[]string{"tidak dapat", "tidak bisa"},
		[]string{"membantu", "menerjemahkan", "memenuhi", "memberikan"},
	},
}

// apologies, of all languages, and negations, by language, are what a text says
// in some way if its translation reads like a refusal. They are the beginnings
// of words; a $ ends a word that is no beginning.
var (
	apologies = strings.Fields(`
		sorry apolog unfortunately regret afraid forgive pardon excuse
		siento lamento lament disculp perdón perdon lástima pena temo
		désolé desole regrett malheureusement excus navré dommage
		leid entschuldig bedau verzeih leider schade sorry
		dispiac spiacen purtroppo scus perdon peccato
		desculp sinto$ infelizmente perdão lamento
		spijt helaas jammer excuses
		przepraszam przykro niestety przepros wybacz szkoda
		tyvärr ledsen förlåt beklag beklagar unnskyld undskyld desværre dessverre
		извин прост жаль сожал прощ увы
		вибач перепрош жаль шкода пробач
		抱歉 对不起 對不起 遗憾 遺憾 不好意思 申し訳 すみません すいません ごめん 恐れ入 恐縮 残念
		죄송 미안 유감 아쉽 عذر آسف أسف اعتذر أعتذر للأسف معذرة סליח צטער צערי מצטער क्षमा माफ़ माफ खेद
		üzgün maalesef özür affed yazık lỗi tiếc maaf sayang
		λυπ συγγνώμη δυστυχώς bohužel promiň omlouv mrzí litu bohužiaľ prepáč žao oprosti sajnál bocsán elnézést sajnos scuze rău regret anteeksi valitettavasti pahoillani съжал извин متأسف ببخشید معذرت ขอโทษ เสียใจ`)
	negations = func() map[string][]string {
		all := map[string][]string{}
		for line := range strings.Lines(`
			en not$ no$ cannot can't won't don't n't$ isn't doesn't didn't couldn't wouldn't aren't wasn't haven't unable impossible never nor$ without nothing nobody none refuse decline fail
			es no$ ni$ nunca jamás imposible incapaz incapac tampoco nadie nada sin$ nieg rechaz
			fr ne$ n' pas$ non$ jamais impossible incapable aucun rien$ sans$ refus
			de nicht nichts kein nie$ niemals unmöglich ohne nein unfähig außerstande weiger ablehn
			it non$ mai$ impossibil incapac niente nessun né$ senza rifiut
			pt não nunca impossível incapaz nem$ nada sem$ ninguém recus
			nl niet geen nooit onmogelijk niets nee$ zonder weiger niemand
			pl nie bez$ żaden żadn nigdy odm
			sv inte ej$ aldrig omöjlig ingen inget utan vägra
			da ikke ingen aldrig umulig uden nægte
			nb ikke ingen aldri umulig uten nekte
			no ikke ingen aldri umulig uten nekte
			ru не ни нельзя никогда никто без$ отказ
			uk не ні немож ніхто без$ відмов
			zh 不 没 沒 无 無 未 别 別 拒
			ja ない ません ず ぬ 無 不 なく なかっ 拒
			ko 안 못 없 않 아니 불가 거절
			ar لا لن لم ليس ما غير رفض عدم
			fa ن غیر
			he לא אין אי בלי מסרב
			hi नह न$ मत$ असमर्थ बिना
			vi không chẳng chưa đừng
			id tidak bukan tak$ jangan tanpa tolak menolak belum
			ms tidak bukan tak$ jangan tanpa tolak menolak belum
			el δεν μη όχι ούτε αδύνατ χωρίς αρν
			cs ne bez$ žádn nikdy odmít
			hr ne nije nema bez$ nikad odb
			sr не није нема без$ никад одб ne nije nema bez$
			bg не няма без$ никога отказ
			ro nu$ n- nici fără imposibil refuz`) {
			if fields := strings.Fields(line); len(fields) > 0 {
				all[fields[0]] = fields[1:]
			}
		}
		return all
	}()
)

// abilities are how languages say that one can do something, beside the words of
// their refusals.
var abilities = func() map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(`
		en can_do could_do can_be_done able possible help assist out_of_the_question no_way no_chance no_dice nothing_doing
		es ayud posib de_ninguna_manera ni_hablar no_se_puede nada_que_hacer
		fr aid possib pas_question rien_à_faire rien_faire rien_y_faire en_aucun_cas peux_rien
		de helf hilf möglich nichts_zu_machen nichts_machen nichts_tun auf_keinen_fall geht_nicht
		it aiut possib niente_da_fare non_se_ne_parla non_si_può
		pt ajud possí nem_pensar de_jeito nada_a_fazer
		nl help mogelijk niets_doen niets_aan_te_doen geen_sprake
		pl pomóc pomog możliw nie_da_się nic_nie_mog nie_ma_mowy
		sv hjälp möjlig går_inte inget_att_göra
		da hjælp mulig går_ikke intet_at_gøre
		nb hjelp mulig går_ikke ingenting_å_gjøre
		no hjelp mulig går_ikke ingenting_å_gjøre
		ru помо помог возможн получится выйдет ничем ничего_не_подела ни_за_что
		uk допомо можлив вийде нічого_не_вді нізащо
		zh 帮 幫 办 辦 能 行 可以
		ja 手伝 助け 力に できま 出来 でき 無理
		ko 도와 도움 수_없 불가 안_돼 안_됩
		ar ساعد يمكن ممكن أستطيع استطيع أقدر
		fa کمک توان ممکن
		he לעזור עזר אפשר יכול
		hi मदद सहायता सक संभव
		vi giúp thể được
		id bantu bisa dapat mungkin
		ms bantu boleh dapat mungkin
		el βοηθ μπορ γίνεται δυνατ
		cs pom může nejde nedá možn
		hr pomo može mogu mogu_nić
		sr помо може могу pomo može mogu
		bg помо мога може възмож става
		ro ajut pot putea posibil`) {
		if fields := strings.Fields(line); len(fields) > 0 {
			all[fields[0]] = spaced(fields[1:])
		}
	}
	return all
}()

// Words are what is known of a language of which not all is known that a
// refusal may be translated from: what has none of them may be one still.
type words struct{ apologies, negations []string }

var fewWords = func() map[string]*words {
	all := map[string]*words{}
	for line := range strings.Lines(`
		af | jammer verskoon spyt ongelukkig | nie$ geen niks nooit
		am | ይቅርታ አዝና ያሳዝና እናዝና | አል አይ የለም ሊሆን_አይ
		az | üzr bağışla təəssüf heyif | yox deyil bilmirəm bilmərəm bilmərik bilmirik mümkün_deyil olmaz
		be | прабач выбач шкад на_жаль | не ні нельга без$ бяз
		bn | দুঃখিত ক্ষমা মাফ দুর্ভাগ্য আফসোস | না নয় নেই নি$ পারব_না অসম্ভব
		bs | žao oprost izvin nažalost | ne nije nema bez$ nikad
		ca | ho_sento perdó perdona disculp lamento malaurad em_sap_greu | no$ ni$ mai$ cap$ sense impossib res$
		ceb | pasayloa pasensya sori ikasubo | dili wala ayaw
		cy | ddrwg sori anffodus ymddiheur | ni$ nid na$ nac$ nad$ dim ddim methu amhosib heb$ fedra
		eo | bedaŭr pardon | ne$ neniu neniam neebl sen$
		et | vabanda kahju andeks andesta kahetse | ei$ mitte ära$ pole$ ilma võimatu
		eu | barkatu barka$ sentitz tamalez zoritxarrez atsekabe | ez$ ezin ezer inoiz gabe
		fi | anteeksi valitettavasti pahoillani pahoittel ikävä harmi | en$ et$ ei$ emme$ ette$ eivät$ älä ilman mahdoton
		fil | pasens patawad paumanhin sori ikinalulungkot nakalulungkot | hindi wala huwag di$
		fo | orsaka umber haldið_mær | ikki eingin einki uttan
		fy | spyt sorry ferjou | net$ gjin noait
		ga | leithscéal tá_brón brón_orm faraor ár_leithscéal | ní$ níl nach$ gan$ níor cha$
		gd | duilich leisgeul gu_mì | chan$ cha$ nach$ gun$
		gl | sinto síntoo desculp perdoa lamento por_desgraza | non nunca nin$ sen$ nada imposib
		gu | માફ ક્ષમા દિલગીર ખેદ કમનસીબે અફસોસ | નથી નહીં ના$ ન$ શકતો_નથી
		ha | hakuri gafara tuba ban_hakuri | ba$ ban$ babu baya
		ht | eskize dezole padon regrèt | pa$ pap$ anyen
		hu | sajnál bocsán elnézést sajnos bocs | nem ne$ sem$ nincs semmi lehetetlen
		hy | ներող ցավում ցավոք կներե ներիր ներեցե | չ ոչ անհնար
		ig | ndo gbaghara biko | enweghị apụghị agaghị ghị
		is | því_miður miður afsak fyrirgef leitt leiðinlegt harma | ekki enginn engin ekkert aldrei án ófær ómögul
		jv | nuwun_sewu ngapunten ngapura | ora mboten ndak dudu
		ka | ბოდიში უკაცრავად სამწუხაროდ ვწუხვარ ვნანობ მაპატი | ვერ არ ნუ შეუძლებ
		kk | кешір өкініш өкін ғафу | жоқ емес алмай мүмкін_емес
		km | សុំទោស សូមទោស អភ័យទោស ស្តាយ | មិន គ្មាន អត់ កុំ
		kn | ಕ್ಷಮಿಸ ಮನ್ನಿಸ ವಿಷಾದ ದುರದೃಷ್ಟ | ಇಲ್ಲ ಆಗುವುದಿಲ್ಲ ಸಾಧ್ಯವಿಲ್ಲ ಬೇಡ ಆಗಲ್ಲ
		ku | bibore lêborîn mixabin uzir | na nikar ne$ tune
		ky | кечир өкүн тилекке_каршы | жок эмес албай
		la | paenitet ignosce doleo miserere | non$ nec$ neque nihil sine$
		lb | leed entschëlleg pardon leider | net$ keen näischt ouni
		lo | ຂໍໂທດ ຂໍອະໄພ ເສຍໃຈ | ບໍ່
		lt | atsipraš apgail deja gaila atleisk | ne
		lv | atvain diemžēl piedod žēl nožēl | ne nav
		mg | miala_tsiny azafady mampalahelo | tsy
		mi | aroha_mai pouri mō_taku_hē | kāore kāhore ehara
		mk | извини жал прости | не нема без$ никогаш
		ml | ക്ഷമിക്ക ക്ഷമിക്കണം മാപ്പ് ഖേദ നിർഭാഗ്യ | ഇല്ല കഴിയില്ല അല്ല വേണ്ട പറ്റില്ല
		mn | уучлаар харамсал өршөө | үгүй биш чадахгүй болохгүй
		mr | माफ क्षमा क्षमस्व दिलगीर खेद | नाही न शकत_नाही
		mt | skuż jiddispja sfortunat jisk | ma$ mhux mhi xejn
		my | တောင်းပန် ဝမ်းနည်း ခွင့်လွှတ် ကန်တော့ | ဘူး မဟုတ် မရ
		ne | माफ क्षमा दुःख अफसोस खेद | छैन न सक्दिन होइन
		nn | orsak beklagar diverre lei_meg | ikkje ingen aldri utan umogleg
		oc | desolat perdon desencus malaür | non$ pas$ pòdi
		pa | ਮਾਫ਼ ਮਾਫ ਮੁਆਫ਼ ਮੁਆਫ ਖੇਦ ਅਫ਼ਸੋਸ ਅਫਸੋਸ | ਨਹੀਂ ਨਾ$
		ps | بخښنه بښنه افسوس | نه نشم
		rw | mbabarira ihangane | nti si
		si | සමාව කණගාටු අවාසනා | නැ නොහැක බැහැ බෑ නොහැකි
		sk | prepáč ľutuj bohužiaľ mrzí ospravedl žiaľ | ne nie bez$ nikdy nič
		sl | oprosti žal žao opravič | ne ni$ nič brez nikoli
		sm | fa'amalie malie | leai lē
		sn | urombo ndiregerere pamusoroi | handi hazvi kwete
		so | waan_ka_xumahay raali cafi nasiib_darro | ma$ kuma maya
		sq | falni fal$ keq$ keqardh fatkeq mjerisht | nuk$ s'$ mos$ pa$ asnj pamund
		st | tshwarelo masoabi | ha$ ke_ke_ke
		su | hapunten punten$ | teu henteu moal
		sw | samahani samahan pole$ nasikit kusikitik bahati_mbaya radhi | siwez hatuwez hawez haiwez hawawez hakuna hapana si$ sio$ bila$
		ta | மன்னி வருந்த வருத்த துரதிர்ஷ்ட | முடியாது முடியவில்லை இல்லை வேண்டாம் மாட்ட இயலாது
		te | క్షమించ మన్నించ విచారి దురదృష్ట | లేదు లేను లేము కాదు వద్దు కుదరదు
		tg | бахшед узр мебахшед афсус | на не ҳеҷ
		th | ขอโทษ เสียใจ ขออภัย | ไม่ มิ อย่า
		ti | ይቅሬታ | ኣይ
		tk | bagyşla gynansak ötünç | däl ýok
		tl | pasens patawad paumanhin sori ikinalulungkot nakalulungkot | hindi wala huwag di$
		tr | üzgün maalesef özür affed yazık kusura | değil yok hayır hiç olmaz mam mem mıyor miyor muyor müyor
		tt | гафу кичер үкенеч | юк түгел алмыйм
		ur | معذرت معاف افسوس شرمندہ | نہیں نہ مت
		uz | kechir afsus uzr | yo'q emas olmayman bo'lmaydi
		wo | baal$ jéggël | du$ mënul dama
		xh | uxolo ndicela_uxolo ndiyaxolisa | andi ayi akukho
		yi | אנטשולדיק | נישט ניט
		yo | má_bínú e_má_bínú pẹ̀lẹ́ jọ̀ọ́ | kò kì
		zu | uxolo ngiyaxolis ngicela_uxolo | angi ayi akukho`) {
		parts := strings.Split(line, "|")
		if len(parts) == 3 {
			all[strings.TrimSpace(parts[0])] = &words{spaced(strings.Fields(parts[1])), spaced(strings.Fields(parts[2]))}
		}
	}
	return all
}()

// models is what models call themselves.
var models = []string{"as an ai", "language model", "modelo de lenguaje", "modelo de linguagem", "modèle de langage", "modèle linguistique", "sprachmodell", "als ki", "modello linguistico",
	"taalmodel", "model językowy", "språkmodell", "языковая модель", "языковой модел", "мовна модель", "语言模型", "人工智能", "語言模型", "言語モデル", "언어 모델", "نموذج لغو", "dil modeli"}

// scripts are those that tell a language of which words are known.
var scripts = []struct {
	table    *unicode.RangeTable
	language string
}{
	{unicode.Han, "zh"}, {unicode.Hiragana, "ja"}, {unicode.Katakana, "ja"}, {unicode.Hangul, "ko"}, {unicode.Thai, "th"}, {unicode.Hebrew, "he"}, {unicode.Greek, "el"},
	{unicode.Bengali, "bn"}, {unicode.Tamil, "ta"}, {unicode.Telugu, "te"}, {unicode.Kannada, "kn"}, {unicode.Malayalam, "ml"}, {unicode.Gujarati, "gu"}, {unicode.Gurmukhi, "pa"}, {unicode.Sinhala, "si"},
	{unicode.Georgian, "ka"}, {unicode.Armenian, "hy"}, {unicode.Ethiopic, "am"}, {unicode.Khmer, "km"}, {unicode.Lao, "lo"}, {unicode.Myanmar, "my"},
}

// spaced returns stems with blanks in place of underscores.
func spaced(stems []string) []string {
	for i := range stems {
		stems[i] = strings.ReplaceAll(stems[i], "_", " ")
	}
	return stems
}

// functionWords are words that carry grammar, by language. A word that two
// languages share says nothing about either; see words.grammar.
var functionWords = func() map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(`
		en the and is are was were of to in that it with for on you this not have has we they be but from my your his her she he what which will would can could there their i'm don't it's been by an at or if do does did very a
		es el la los las un una de que y en es son fue con por para no lo se su sus está están pero como más muy mi tu me te nos hay ha he este esta esto ese esa al del o si yo tú él ella cuando donde porque qué también
		pt o a os as um uma de que e em é são foi com por para não se seu sua está estão mas como mais muito meu minha me te nos há eu você ele ela do da dos das no na nos nas ao este esta isso quando onde porque também ou
		fr le la les un une des de du et est sont était avec pour dans sur que qui ne pas ce cette ces il elle nous vous ils je tu mais comme plus très mon ma mes ton ta son sa au aux en se ou où quand parce aussi c'est j'ai n'est a
		it il lo la i gli le un una di che e è sono era con per in su non si questo questa ma come più molto mio mia tuo suo sua ho hai ha abbiamo del della dei delle al alla nel nella io lui lei noi quando dove perché anche o da
		ca el la els les un una de que i en és són amb per a no es seu seva està però com més molt meu meva del dels al hi ha jo tu ell ella quan on perquè també o això aquest aquesta
		gl o a os as un unha de que e en é son con por para non se seu súa está pero como máis moi meu miña do da dos das no na ao eu ti el ela cando onde porque tamén ou isto este
		ro și este sunt a fost cu pentru în pe că nu se un o lui ei dar cum mai foarte meu mea de la din care eu tu el ea noi voi când unde ce sau acest această
		de der die das und ist sind war mit für von zu den dem ein eine einen nicht ich du er sie es wir ihr aber wie auf an im in auch nur noch sehr mein dein sein wird haben hat kann wenn dass bei aus oder was wo
		nl de het een en is zijn was met voor van te dat die niet ik jij hij zij we wij jullie maar als op in aan ook nog zeer mijn jouw haar wordt hebben heeft kan bij uit of wat waar er naar om je
		af die 'n en is was met vir van te dat nie ek jy hy sy ons julle maar as op in aan ook nog baie my jou sy haar word het kan by uit of wat waar daar na om
		sv och är var med för av att det den en ett inte jag du han hon vi ni de men som på i till också mycket min din har kan om eller vad när från detta
		da og er var med for af at det den en et ikke jeg du han hun vi i de men som på til også meget min din har kan om eller hvad når fra dette
		no og er var med for av at det den en et ikke jeg du han hun vi dere de men som på i til også veldig min din har kan om eller hva når fra dette
		nb og er var med for av at det den en et ikke jeg du han hun vi dere de men som på i til også veldig min din har kan om eller hva når fra dette
		nn og er var med for av at det den ein eit ikkje eg du han ho vi de dei men som på i til også veldig min din har kan om eller kva når frå dette
		fi ja on ovat oli ei en et että se hän minä sinä me te he mutta kuin kun myös hyvin tämä joka mitä missä tai jos niin ole
		et ja on olid oli ei et see ta mina sina me te nad aga kui ka väga mis kus või siis ole seda
		pl i jest są był była z na do w nie to że się ja ty on ona my wy oni ale jak co też bardzo mój twój dla od po czy gdzie kiedy ten ta przez o za
		cs a je jsou byl byla s na do v ne to že se já ty on ona my vy oni ale jak co také velmi můj tvůj pro od po kde když ten ta z o za si
		sk a je sú bol bola s na do v nie to že sa ja ty on ona my vy oni ale ako čo tiež veľmi môj tvoj pre od po kde keď ten tá z o za si
		sl in je so bil bila s z na v ne to da se jaz ti on ona mi vi oni ampak kot kaj tudi zelo moj tvoj za od po kje ko ta o si
		hr i je su bio bila s sa na u ne to da se ja ti on ona mi vi oni ali kao što također vrlo moj tvoj za od po gdje kad ovaj ova iz o si
		bs i je su bio bila s sa na u ne to da se ja ti on ona mi vi oni ali kao što također vrlo moj tvoj za od po gdje kad ovaj ova iz o si
		hu a az és van volt nem hogy ez egy én te ő mi ti ők de mint is nagyon ha mit hol vagy meg csak már
		tr ve bir bu ile için de da değil ben sen o biz siz onlar ama gibi çok mi mı ne nerede veya var yok olan daha
		az və bir bu ilə üçün də da deyil mən sən o biz siz onlar amma kimi çox nə harada var yox olan daha
		id dan yang di ke dari ini itu dengan untuk tidak saya kamu dia kami kita mereka tetapi sangat adalah akan sudah bisa atau apa ada juga pada
		ms dan yang di ke dari ini itu dengan untuk tidak saya kamu dia kami kita mereka tetapi sangat adalah akan sudah boleh atau apa ada juga pada
		tl ang ng mga sa at ay na ako ikaw siya kami tayo sila pero hindi ito iyan kung ano para may wala
		vi và là của có không một này cho với tôi bạn anh chị em chúng ta họ nhưng rất được trong đã sẽ ở những các
		sw na ya wa ni kwa katika hii hiyo si mimi wewe yeye sisi nyinyi wao lakini kama sana la za
		ru и в на не что он она они мы вы я ты это как с по для от из у к о но был была было были есть если когда где очень мой твой его её так уже или
		uk і в на не що він вона вони ми ви я ти це як з по для від із у до о але був була було були є якщо коли де дуже мій твій його її так вже або та
		be і ў на не што ён яна яны мы вы я ты гэта як з па для ад да але быў была было былі ёсць калі дзе вельмі мой твой яго яе так ужо ці
		bg и в на не че той тя те ние вие аз ти това как с по за от из у към но беше са е ако когато къде много мой твой му така вече или да се
		sr и у на не да он она они ми ви ја ти то као с са по за од из али био била је су ако кад где врло мој твој се или
		mk и во на не дека тој таа тие ние вие јас ти тоа како со по за од но беше се е ако кога каде многу мој твој или да
		el και το η ο οι τα τον την του της των με για από στο στη στην στον δεν είναι ήταν που να θα αυτό εγώ εσύ αλλά πολύ μου σου ένα μια
		ar في من على أن إلى هذا هذه التي الذي لا ما كان هو هي نحن أنا أنت مع عن كل قد لم لن ليس أو ثم
		fa و در به از که این آن با را است بود برای من تو او ما شما آنها اما نه یک هم می
		ur اور میں کے کی کا سے ہے ہیں کو نے یہ وہ پر کہ نہیں تھا تھی ہم آپ بھی ایک
		he של את על לא זה היא הוא אני אתה אנחנו הם עם אבל גם כי מה יש אין כל או אם היה
		hi है हैं और के की का में से को ने यह वह पर कि नहीं था थी हम आप मैं भी एक लिए
		mr आहे आहेत आणि च्या मध्ये ला ने हे ते वर की नाही होता होती आम्ही तुम्ही मी पण एक
		ne छ छन् र को मा बाट लाई ले यो त्यो कि छैन थियो हामी तपाईं म पनि एक
	`) {
		if fields := strings.Fields(line); len(fields) > 0 {
			all[fields[0]] = fields[1:]
		}
	}
	return all
}()

func set(words string) map[string]bool {
	s := map[string]bool{}
	for _, word := range strings.Fields(words) {
		s[word] = true
	}
	return s
}

func phrasesOf(text string) (all []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}
