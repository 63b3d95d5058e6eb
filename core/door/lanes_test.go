package door_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/deepl"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/door/libretranslate"
	"github.com/dragoman-mt/dragoman/core/door/native"
	"github.com/dragoman-mt/dragoman/core/door/openai"
)

// chatting is a translator that answers chats too.
type chatting struct{ doortest.Translator }

func (chatting) Chats() []core.ChatModel { return []core.ChatModel{{Provider: "p", Model: "m"}} }

// TestNoTextOfAKeyIsInAHigherLaneThanItsOwn on any door, whatever it says of itself; a lower one
// it keeps, and other keys have theirs.
func TestNoTextOfAKeyIsInAHigherLaneThanItsOwn(t *testing.T) {
	var got atomic.Int64
	engine := chatting{func(_ context.Context, req *core.Request) (*core.Result, error) {
		got.Store(int64(req.Lane))
		return &core.Result{Text: `{"choices":[{"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}`}, nil
	}}
	c := door.Defaults()
	c.Keys = []door.Key{{Name: "free", Key: "free-key"}, {Name: "second", Key: "second-key", MaxLane: "partial"}, {Name: "last", Key: "last-key", MaxLane: "bulk"}}
	url := doortest.Serve(t, c, engine, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		all := door.Doors{
			libretranslate.New(libretranslate.Defaults(), "", s, m, log).Dialect(), deepl.New(deepl.Defaults(), "", s, m, log).Dialect(),
			openai.New(openai.Defaults(), s, m, log).Dialect(), native.New(s, m, log).Dialect(),
		}
		return door.Dialect{Name: "all", Serve: http.HandlerFunc(all.ServeHTTP), Pages: door.Keyed}
	})
	for _, call := range []struct {
		name, path, body string
		lane             core.Lane // of a key without a limit
	}{
		{"native", "/v1/translate", `{"text":"a","target":"es"}`, core.LaneFinal},
		{"native, a partial", "/v1/translate", `{"text":"a","target":"es","final":false}`, core.LanePartial},
		{"native, bulk", "/v1/translate", `{"text":"a","target":"es","bulk":true}`, core.LaneBulk},
		{"native, several", "/v1/translate", `{"text":["a","b"],"targets":["es","fr"]}`, core.LaneFinal},
		{"native, a stream", "/v1/translate", `{"text":"a","target":"es","stream":true}`, core.LaneFinal},
		{"LibreTranslate", "/translate", `{"q":"a","source":"en","target":"es"}`, core.LaneFinal},
		{"LibreTranslate, HTML", "/translate", `{"q":"<p>a <b>b</b></p>","source":"en","target":"es","format":"html"}`, core.LaneFinal},
		{"DeepLX", "/translate", `{"text":"a","source_lang":"en","target_lang":"es"}`, core.LaneFinal},
		{"DeepL", "/v2/translate", `{"text":["a"],"target_lang":"es"}`, core.LaneFinal},
		{"DeepL, XML", "/v2/translate", `{"text":["<p>a <b>b</b></p>"],"target_lang":"es","tag_handling":"xml"}`, core.LaneFinal},
		{"OpenAI", "/v1/chat/completions", `{"model":"translate/es","messages":[{"role":"user","content":"a"}]}`, core.LaneFinal},
		{"OpenAI, a chat", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"a"}]}`, core.LaneFinal},
		{"OpenAI, a chat that streams", "/v1/chat/completions", `{"model":"m","stream":true,"messages":[{"role":"user","content":"a"}]}`, core.LaneFinal},
	} {
		for key, most := range map[string]core.Lane{"free-key": core.LaneFinal, "second-key": core.LanePartial, "last-key": core.LaneBulk} {
			got.Store(-1)
			res, body := doortest.Do(t, "POST", url+call.path, call.body, "Content-Type", "application/json", "Authorization", "Bearer "+key)
			if res.StatusCode != 200 || strings.Contains(body, `"error"`) {
				t.Fatalf("%s: %d %s", call.name, res.StatusCode, body)
			}
			if lane, want := core.Lane(got.Load()), max(call.lane, most); lane != want {
				t.Errorf("%s with %s: the lane is %s, want %s", call.name, key, lane, want)
			}
		}
	}
}
