package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
)

func TestRecentTellsEachAttemptWithWhatCameOfIt(t *testing.T) {
	at := time.Now().Local().Truncate(time.Second)
	all := []door.Past{{
		At: at, Reason: door.FellOver, Request: "0123456789abcdef", Door: "native", Client: "captions", Source: "en", Target: "es", TookMS: 412.5, Provider: "spare",
		TraceID: "0af7651916cd43dd8448eb211c80319c", Stages: []door.StageTime{{Stage: "queue", MS: 1.25}, {Stage: "provider", MS: 411}},
		Attempts: []door.PastAttempt{
			{Provider: "openai", Why: "first", AfterMS: 1.3, TookMS: 200, Failure: &door.Failure{Kind: "provider_failed", Stage: "openai", Detail: "the provider failed", Cause: "status 503\x1b[2J"}},
			{Provider: "spare", Why: "fallback", AfterMS: 201.5, TookMS: 210},
		},
	}, {
		At: at, Reason: door.HasFailed, Request: "b", Door: "live", TookMS: 3, Joined: true, Failure: &door.Failure{Kind: "overloaded", Stage: "queue"},
	}}
	var out bytes.Buffer
	showRecent(&screen{&out, recentColumns, false}, all, true)
	clock := at.Format("15:04:05.000")
	want := "time           request    door           client       pair            ms  what\n" +
		clock + "   …789abcdef native         captions     en>es        412.5  fell over, answered by spare\n" +
		"    trace 0af7651916cd43dd8448eb211c80319c\n" +
		"    queue 1.2 ms, provider 411.0 ms\n" +
		"    first    openai after 1.3 ms, 200.0 ms long: provider_failed from openai, the provider failed (status 503\ufffd[2J)\n" +
		"    fallback spare after 201.5 ms, 210.0 ms long: answered\n" +
		clock + "   b          live                                       3.0  failed: overloaded from queue, in the flight of another\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheAccessLogIsWrittenWhateverTheLevelAndCanBeSwitchedWhileServing(t *testing.T) {
	var out bytes.Buffer
	_, o := newLogTo(&out, logConfig{Level: "error", Format: "json"})
	if o.Access() != nil {
		t.Error("there is an access log that nobody asked for")
	}
	planLog(t, o, logConfig{Level: "error", Format: "json", Access: true})
	o.Access().Info("text", zap.String("door", "native"))
	planLog(t, o, logConfig{Level: "error", Format: "json"})
	if o.Access() != nil {
		t.Error("the access log goes on")
	}
	o.Close()
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["logger"] != "access" || line["door"] != "native" || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%s, %v", out.String(), err)
	}
}
