package deepl_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// TestDeepLsLibraryRunsUnmodified against the door, with nothing but another serverUrl.
func TestDeepLsLibraryRunsUnmodified(t *testing.T) {
	c := door.Defaults()
	c.Keys = []door.Key{{Key: "right"}}
	url := serve(t, c, t.TempDir(), doortest.Pseudo(new(atomic.Int64)))
	got := doortest.Node(t, []string{"deepl-node@1.27.0"}, `
import * as deepl from 'deepl-node';
const t = new deepl.Translator('right', {serverUrl: process.env.URL});
const one = await t.translateText('proton beam', 'en', 'de');
console.log(one.text, one.detectedSourceLang, one.billedCharacters);
const many = await t.translateText(['a', 'b', 'c'], null, 'pt-BR', {formality: 'prefer_more', context: 'x', tagHandling: 'xml', splitSentences: 'off', modelType: 'quality_optimized', extraRequestParameters: {example: '1'}});
console.log(many.map(m => m.text).join('|'), many[0].modelTypeUsed);
console.log((await t.getSourceLanguages()).find(l => l.code === 'en').name, (await t.getTargetLanguages()).find(l => l.code === 'de').supportsFormality);
console.log('used', (await t.getUsage()).character.count);
const g = await t.createGlossary('mine', 'en', 'de', new deepl.GlossaryEntries({entries: {artist: 'Maler', prize: 'Gewinn'}}));
console.log(g.name, g.entryCount, g.ready, g.sourceLang, g.creationTime instanceof Date);
console.log((await t.getGlossaryEntries(g)).toTsv().replace(/\s/g, ' '), (await t.listGlossaries()).length, (await t.getGlossaryLanguagePairs()).length > 10);
console.log((await t.translateText('artist', 'en', 'de', {glossary: g})).text);
const csv = await t.createGlossaryWithCsv('csv', 'en', 'de', Buffer.from('a,b,en,de\n"c, d",e,en,de'));
console.log(csv.entryCount);
const big = {}; for (let i = 0; i < 10000; i++) big['term ' + i] = 'Wort ' + i;
const large = await t.createGlossary('large', 'en', 'de', new deepl.GlossaryEntries({entries: big}));
console.log(large.entryCount);
await t.deleteGlossary(large);
await t.deleteGlossary(g);
await t.getGlossary(g.glossaryId).catch(e => console.log(e.constructor.name));
await t.createGlossary('', 'en', 'de', new deepl.GlossaryEntries({entries: {a: 'b'}})).catch(e => console.log(e.constructor.name));
const d = new deepl.DeepLClient('right', {serverUrl: process.env.URL});
const m = await d.createMultilingualGlossary('multi', [{sourceLangCode: 'en', targetLangCode: 'de', entries: new deepl.GlossaryEntries({entries: {x: 'y'}})}, {sourceLangCode: 'de', targetLangCode: 'en', entries: new deepl.GlossaryEntries({entries: {y: 'x'}})}]);
console.log(m.name, m.dictionaries.length);
const entries = await d.getMultilingualGlossaryDictionaryEntries(m.glossaryId, 'en', 'de');
console.log(entries.entries.toTsv().replace(/\s/g, ' '));
await d.updateMultilingualGlossaryName(m.glossaryId, 'other');
console.log((await d.listMultilingualGlossaries()).map(g => g.name).join('|'));
await d.deleteMultilingualGlossary(m.glossaryId);
import fs from 'fs'; import os from 'os'; import path from 'path';
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doc-'));
for (const [name, content] of [['a.txt', 'one\n\ntwo'], ['a.html', '<p>one <b>two</b></p>']]) {
  fs.writeFileSync(path.join(folder, name), content);
  const done = await t.translateDocument(path.join(folder, name), path.join(folder, 'out-' + name), 'en', 'de');
  console.log(JSON.stringify(fs.readFileSync(path.join(folder, 'out-' + name), 'utf8')), done.billedCharacters);
}
fs.writeFileSync(path.join(folder, 'a.pdf'), 'x');
await t.translateDocument(path.join(folder, 'a.pdf'), path.join(folder, 'b.pdf'), 'en', 'de').catch(e => console.log(e.constructor.name, e.message.includes('Invalid file data')));
fs.rmSync(folder, {recursive: true});
await new deepl.Translator('wrong', {serverUrl: process.env.URL}).translateText('x', null, 'de').catch(e => console.log(e.constructor.name));
await t.translateText('x', null, 'zz').catch(e => console.log(e.message));
`, "URL="+url)
	want := `[de] proton beam en 11
[pt-BR] a|[pt-BR] b|[pt-BR] c quality_optimized
English true
used 14
mine 2 true en true
artist Maler prize Gewinn 1 true
Maler
2
10000
GlossaryNotFoundError
DeepLError
multi 2
x y
csv|other
"[de] one\n\n[de] two" 8
"<p>[de] one <b>two</b></p>" 21
DocumentTranslationError true
AuthorizationError
Bad request, message: Value for 'target_lang' not supported.
`
	if got != want {
		t.Errorf("it printed\n%s\nwant\n%s", got, want)
	}
}

// TestALibraryThatAsksAgainGetsThrough what passes: a provider that pauses for longer
// than one call may take.
func TestALibraryThatAsksAgainGetsThrough(t *testing.T) {
	var calls atomic.Int64
	url := serve(t, door.Defaults(), "", doortest.Translator(func(context.Context, *core.Request) (*core.Result, error) {
		if calls.Add(1) <= 3 {
			return nil, &core.Error{Kind: core.RateLimited, RetryAfter: time.Minute}
		}
		return &core.Result{Text: "there"}, nil
	}))
	got := doortest.Node(t, []string{"deepl-node@1.27.0"}, `
import * as deepl from 'deepl-node';
console.log((await new deepl.Translator('any', {serverUrl: process.env.URL}).translateText('x', 'en', 'de')).text);
`, "URL="+url)
	if strings.TrimSpace(got) != "there" {
		t.Errorf("it printed %q", got)
	}
}
