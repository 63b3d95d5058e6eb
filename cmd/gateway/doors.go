package gateway

import (
	"fmt"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/door/deepl"
	"github.com/dragoman-mt/dragoman/core/door/libretranslate"
	livedoor "github.com/dragoman-mt/dragoman/core/door/live"
	"github.com/dragoman-mt/dragoman/core/door/native"
	"github.com/dragoman-mt/dragoman/core/door/openai"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/shared"
)

// doorsConfig is the section `doors`: those for the clients of other services.
type doorsConfig struct {
	LibreTranslate libretranslate.Config `json:"libretranslate" jsonschema_description:"The door for clients of LibreTranslate, DeepLX and the small protocols that share its path. false closes it."`
	DeepL          deepl.Config          `json:"deepl" jsonschema_description:"The door for clients of DeepL: /v2/ and /v3/. false closes it."`
	OpenAI         openai.Config         `json:"openai" jsonschema_description:"The door for clients of OpenAI's chat completions, whose models translate. false closes it."`
}

// Check returns what no bound of a single key can find. Its errors begin with the key.
func (c doorsConfig) Check() error {
	if key, why := c.OpenAI.Check(); key != "" {
		return fmt.Errorf("doors.openai.%s: %s", key, why)
	}
	return nil
}

// ChatProviders tells each of the providers that the doors need for chats.
func (c *doorsConfig) ChatProviders(each func(key, provider string)) {
	if c.OpenAI.Enabled {
		c.OpenAI.Providers(func(key, provider string) { each("openai."+key, provider) })
	}
}

func doorsDefaults() doorsConfig {
	return doorsConfig{LibreTranslate: libretranslate.Defaults(), DeepL: deepl.Defaults(), OpenAI: openai.Defaults()}
}

// doors are all that are served on server.listen.
type doors struct {
	native         *native.Door
	libretranslate *libretranslate.Door
	deepl          *deepl.Door
	openai         *openai.Door
	live           *livedoor.Door
}

// newDoors makes the doors to service. What their clients store is kept in folder.
func newDoors(c doorsConfig, l live.Config, folder string, service *door.Service, metrics *door.Metrics, log *zap.Logger) *doors {
	d := &doors{
		native:         native.New(service, metrics, log.Named("native")),
		libretranslate: libretranslate.New(c.LibreTranslate, filepath.Join(folder, "files"), service, metrics, log.Named("libretranslate")),
		deepl:          deepl.New(c.DeepL, filepath.Join(folder, "glossaries"), service, metrics, log.Named("deepl")),
		openai:         openai.New(c.OpenAI, service, metrics, log.Named("openai")),
		live:           livedoor.New(l, service, metrics, log.Named("live")),
	}
	service.InferBy(d.live.Infer)
	return d
}

// share lets the doors go on with what another gateway of the group began.
func (d *doors) share(with *shared.Store) {
	if with != nil {
		d.live.Share(with)
	}
}

// all are the doors in the order in which they are asked whether a call is theirs.
func (d *doors) all() door.Doors {
	return door.Doors{d.libretranslate.Dialect(), d.openai.Dialect(), d.deepl.Dialect(), d.live.Dialect(), d.native.Dialect()}
}

// close waits for what the doors do without a call.
func (d *doors) close() {
	d.live.Close()
	d.deepl.Close()
}

// Plan takes another section `doors` in place, for the calls that arrive after apply.
func (d *doors) Plan(config any) (apply func(), err error) {
	c, ok := config.(*doorsConfig)
	if !ok {
		return nil, fmt.Errorf("doors: planned with a %T, want a %T", config, c)
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return func() {
		d.libretranslate.Use(c.LibreTranslate)
		d.deepl.Use(c.DeepL)
		d.openai.Use(c.OpenAI)
	}, nil
}

// sessions are the live sessions that are open, as the admin door tells of them.
func (d *doors) sessions() (all []admin.Session) {
	for _, s := range d.live.Sessions() {
		all = append(all, admin.Session{
			Client: s.Client, Session: s.Session, Epoch: s.Epoch, Targets: s.Targets, Connected: s.Connected,
			Seconds: s.Seconds, Segments: s.Segments, Revisions: s.Revisions, Finals: s.Finals, Failed: s.Failed, Late: s.Late, Corrected: s.Corrected,
			Calls: s.Calls, Wasted: s.Wasted, Amplification: s.Amplification, Erasure: s.Erasure, OnTime: s.OnTime,
			FinalP50MS: s.FinalLag.P50, FinalP99MS: s.FinalLag.P99, DraftP50MS: s.DraftLag.P50, StableP50MS: s.StableLag.P50,
			QueueMS: s.QueueMS, Level: s.Level, Tokens: s.PromptTokens + s.CompletionTokens, Cost: s.Cost,
		})
	}
	return all
}

// record is a recording as the admin door tells of it.
func (d *doors) record(session string, texts bool) (*admin.Recording, error) {
	events, stop, err := d.live.Record(session, texts)
	if err != nil {
		return nil, err
	}
	told := make(chan admin.Recorded)
	done := make(chan struct{})
	go func() {
		defer close(told)
		for e := range events {
			r := admin.Recorded{AtMS: e.At.Milliseconds(), Session: e.Session, Segment: e.Segment, Revision: e.Revision, Text: e.Text, Final: e.Final, Speaker: e.Speaker}
			if !texts {
				r.CodePoints = e.CodePoints
			}
			select {
			case told <- r:
			case <-done:
				return
			}
		}
	}()
	return &admin.Recording{Events: told, Stop: func() { close(done); stop() }}, nil
}
