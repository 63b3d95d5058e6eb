package libretranslate_test

import (
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/door/libretranslate"
)

func FuzzCalls(f *testing.F) {
	doortest.FuzzCalls(f, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		return libretranslate.New(libretranslate.Defaults(), "", s, m, log).Dialect()
	},
		[]string{"POST /translate", "POST /detect", "GET /languages", "POST /deeplx/translate", "POST /imme", "POST /kiss", "GET /translate_a/single", "POST /api/translate/content"},
		[]string{
			`{"q":["a","<p>b</p>"],"source":"auto","target":"es","format":"html","alternatives":2,"api_key":null}`,
			`{"text":"a","source_lang":"auto","target_lang":"ES","tag_handling":"html"}`,
			`{"text_list":["a","b"],"source_lang":"en","target_lang":"es"}`,
			`{"texts":["a","b"],"from":"","to":"es","html":true}`,
			`[{"Text":"a"},{"text":"b"}]`,
			`{"sourceLanguage":"en","targetLanguage":"es","lines":[{"position":1,"line":"a"},{"position":2,"line":""}]}`,
		})
}
