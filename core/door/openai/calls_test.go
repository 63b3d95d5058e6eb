package openai_test

import (
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/door/openai"
)

func FuzzCalls(f *testing.F) {
	doortest.FuzzCalls(f, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		return openai.New(models(), s, m, log).Dialect()
	},
		[]string{"POST /v1/chat/completions", "POST /v1/responses", "GET /v1/models/translate/es", "POST /openai/deployments/translate/chat/completions"},
		[]string{
			`{"model":"translate/es","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"}]}],"stream":true,"stream_options":{"include_usage":true}}`,
			`{"model":"translate","messages":[{"role":"user","content":"a"}],"translation_options":{"target_lang":"Spanish","source_lang":"auto","domains":"d","terms":[{"source":"a","target":"b"}]}}`,
			`{"model":"translate/es","messages":[{"role":"user","content":"[\"a\",\"b\"]"}],"response_format":{"type":"json_schema"},"tools":[]}`,
			`{"model":"captions-es","instructions":"i","input":[{"role":"user","content":[{"type":"input_text","text":"a:\n\nb"}]}],"stream":true}`,
		})
}
