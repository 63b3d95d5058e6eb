package deepl_test

import (
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/deepl"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

func FuzzCalls(f *testing.F) {
	doortest.FuzzCalls(f, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		return deepl.New(deepl.Defaults(), "", s, m, log).Dialect()
	},
		[]string{"POST /v2/translate", "GET /v2/languages", "GET /v3/languages", "POST /v2/glossaries", "POST /v3/glossaries", "PUT /v3/glossaries/x/dictionaries", "PATCH /v3/glossaries/x"},
		[]string{
			`{"text":["a <b>c</b>","d"],"source_lang":"EN","target_lang":"DE","tag_handling":"xml","ignore_tags":["x"],"splitting_tags":"p,q","formality":"prefer_less","context":"e","custom_instructions":["f"],"glossary_id":"g","model_type":"latency_optimized","show_billed_characters":true}`,
			`{"name":"n","source_lang":"en","target_lang":"de","entries":"a\tb","entries_format":"tsv"}`,
			`{"name":"n","dictionaries":[{"source_lang":"en","target_lang":"de","entries":"a,b","entries_format":"csv"}]}`,
		})
}
