package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dragoman-mt/dragoman/core"
	rules "github.com/dragoman-mt/dragoman/core/schema"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

const sentence = "Good morning. The new car is very fast."

// long returns a text of n bytes.
func long(n int) string { return strings.Repeat(sentence+" ", n/(len(sentence)+1)) }

func roleName(r wire.Role) string {
	switch r {
	case wire.Role_ROLE_PROVIDER:
		return "provider"
	case wire.Role_ROLE_STAGE:
		return "stage"
	}
	return "role " + r.String()
}

// judge says what is wrong with a description.
func judge(d *wire.Description) error {
	switch {
	case d.GetProtocol() != wire.Protocol:
		return fmt.Errorf("Describe says protocol %d, and this gateway speaks %d", d.GetProtocol(), wire.Protocol)
	case d.GetName() == "":
		return errors.New("Describe gives no name; the gateway's log calls the plugin by it")
	case len(d.GetParts()) == 0:
		return errors.New("Describe names no part: say that it is a provider, a stage, or one of each")
	}
	was, version := d.GetName(), d.GetVersion()
	if err := wire.Bound(d); err != nil {
		return fmt.Errorf("Describe says too much: %w", err)
	}
	if d.GetName() != was || d.GetVersion() != version {
		return fmt.Errorf("Describe gives a name or a version of more than %d printable characters on one line: the gateway cuts it", wire.MaxName)
	}
	seen := map[wire.Role]bool{}
	for _, part := range d.GetParts() {
		role := part.GetRole()
		switch {
		case role != wire.Role_ROLE_PROVIDER && role != wire.Role_ROLE_STAGE:
			return fmt.Errorf("Describe names a part of %s: a part is a provider or a stage", roleName(role))
		case seen[role]:
			return fmt.Errorf("Describe names two parts of role %s: a program serves one of each", roleName(role))
		case role == wire.Role_ROLE_STAGE && !part.GetBefore() && !part.GetAfter():
			return errors.New("the stage has neither Before nor After, so it is never called: say in Describe which it has")
		}
		seen[role] = true
		if err := schemaOf(part).fault; err != nil {
			return fmt.Errorf("the config_schema of the %s cannot be used: %w: give the JSON Schema of an object, also when there are no keys", roleName(role), err)
		}
	}
	return nil
}

// A schema is what a part says about its configuration.
type schema struct {
	fault      error
	properties map[string]struct {
		Type any `json:"type"`
	}
	required []string
	rules    *rules.Schema
}

func schemaOf(part *wire.Part) (s schema) {
	var err error
	s.rules, err = rules.Parse(part.GetConfigSchema())
	var top struct {
		Type       string `json:"type"`
		Properties map[string]struct {
			Type any `json:"type"`
		} `json:"properties"`
		Required []string `json:"required"`
	}
	if err == nil {
		err = json.Unmarshal(part.GetConfigSchema(), &top)
	}
	if err == nil && top.Type != "object" {
		err = fmt.Errorf("its type is %q", top.Type)
	}
	s.fault, s.properties, s.required = err, top.Properties, top.Required
	return s
}

// config is what a part is configured with: of a program with several, the keys
// that it knows.
func (k *kit) config(part *wire.Part) []byte {
	var given map[string]json.RawMessage
	if len(k.about.GetParts()) < 2 || json.Unmarshal(k.o.Config, &given) != nil {
		return k.o.Config
	}
	properties := schemaOf(part).properties
	for key := range given {
		if _, known := properties[key]; !known && slices.ContainsFunc(k.about.GetParts(), func(other *wire.Part) bool {
			_, known := schemaOf(other).properties[key]
			return known
		}) {
			delete(given, key)
		}
	}
	config, _ := json.Marshal(given) // cannot fail
	return config
}

// fits holds the configuration against the schema of each part, as the gateway
// does before a plugin sees it.
func (k *kit) fits() error {
	var missing []string
	example := map[string]any{}
	for _, part := range k.about.GetParts() {
		s := schemaOf(part)
		var given map[string]json.RawMessage
		json.Unmarshal(k.config(part), &given) // it was looked at before
		for _, key := range s.required {
			if _, ok := given[key]; !ok && !slices.Contains(missing, key) {
				missing = append(missing, key)
				example[key] = "..."
				switch s.properties[key].Type {
				case "integer", "number":
					example[key] = 1
				case "boolean":
					example[key] = true
				case "array":
					example[key] = []any{}
				case "object":
					example[key] = map[string]any{}
				}
			}
		}
	}
	if len(missing) > 0 {
		text, _ := json.Marshal(example) // cannot fail
		return fmt.Errorf("its schema says that %s must be there, and the gateway would refuse a file without: give what is missing with --config, such as --config '%s'", strings.Join(missing, " and "), text)
	}
	for _, part := range k.about.GetParts() {
		var given any
		if err := json.Unmarshal(k.config(part), &given); err != nil {
			return err
		}
		if wrong := schemaOf(part).rules.Check(given); len(wrong) > 0 {
			at, rule := strings.Join(wrong[0].At, "."), wrong[0].Keyword
			if rule == "additionalProperties" {
				at, rule = strings.Trim(at+"."+wrong[0].Names[0], "."), "list of keys"
			}
			// Not the value: it may be a key.
			return fmt.Errorf("the schema of the %s does not allow the configuration, and the gateway would refuse it: see %s, and the schema's %s: mend it in --config, or the schema", roleName(part.GetRole()), at, rule)
		}
	}
	return nil
}

// configureAll makes one instance of each part of p, named by its role.
func (k *kit) configureAll(ctx context.Context, p *program) error {
	for _, part := range k.about.GetParts() {
		said, err := k.make(ctx, p, part, roleName(part.GetRole()), k.config(part))
		if err != nil {
			return err
		}
		if len(said) > 0 {
			return fmt.Errorf("it refuses its configuration: %s: give the one that it needs with --config", complaints(said))
		}
	}
	return nil
}

// make configures an instance and returns what the plugin has against it.
func (k *kit) make(ctx context.Context, p *program, part *wire.Part, instance string, config []byte) ([]*wire.ConfigError, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	reply, err := p.plugin.Configure(ctx, &wire.Config{Instance: instance, Role: part.GetRole(), Name: instance, Config: config, Deadline: durationpb.New(callWait)})
	if err != nil {
		return nil, p.fault("Configure", err, "what is wrong with a configuration is said in the reply's errors, with status OK")
	}
	if languages := reply.GetLanguages(); part.GetRole() == wire.Role_ROLE_PROVIDER && len(languages) > 0 && len(languages[0].GetTargets()) > 0 {
		if _, err := wire.DecodeLanguages(languages); err != nil {
			return nil, fmt.Errorf("Configure offers languages that are none: %w: give BCP-47 tags", err)
		}
		if k.source == "" && k.target == "" {
			k.source, k.target = core.Language(languages[0].GetSource()), core.Language(languages[0].GetTargets()[0])
		}
	}
	return reply.GetErrors(), nil
}

func complaints(all []*wire.ConfigError) string {
	var said []string
	for _, e := range all {
		if e.GetField() != "" {
			said = append(said, e.GetField()+": "+e.GetDetail())
		} else {
			said = append(said, e.GetDetail())
		}
	}
	return strings.Join(said, ", ")
}

// An answer is a text or why there is none.
type answer struct {
	text string
	err  *wire.Error
}

// failed says that a text which nothing speaks against got no translation.
func (a answer) failed() error {
	if a.err == nil {
		return nil
	}
	return fmt.Errorf("%q is not translated: %s: %s; name languages that it has with --from and --to, and what it needs with --config and --env", sentence, a.err.GetKind(), a.err.GetDetail())
}

func overloaded(e *wire.Error) bool {
	return e.GetKind() == string(core.Overloaded) || e.GetKind() == string(core.RateLimited)
}

func (k *kit) text(id, text string) *wire.Text {
	t := &wire.Text{Id: id, Text: text, Source: string(k.source), Target: string(k.target), Final: true, Deltas: true}
	if t.Source == "" && t.Target == "" {
		t.Source, t.Target = "en", "es"
	}
	return t
}

// ask sends one text through a part: there, or there and back. The error is a
// breach of the protocol.
func (k *kit) ask(ctx context.Context, p *program, part *wire.Part, id, text string) (answer, error) {
	if part.GetRole() == wire.Role_ROLE_PROVIDER {
		return k.translate(ctx, p, id, text)
	}
	down, state, err := k.before(ctx, p, part, id, text)
	if err != nil || down.err != nil {
		return down, err
	}
	return k.after(ctx, p, part, id, text, down, state)
}

// translate asks in both ways that the gateway has: at once, and as a stream.
func (k *kit) translate(ctx context.Context, p *program, id, text string) (answer, error) {
	if a, err := k.answered(ctx, p, id, text); err != nil || a.err != nil {
		return a, err
	}
	return k.streamed(ctx, p, id, text)
}

func (k *kit) answered(ctx context.Context, p *program, id, text string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	asked := k.text(id, text)
	asked.Deltas = false
	e, err := p.provider.Answer(ctx, &wire.Visit{Instance: "provider", Text: asked})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return answer{}, p.fault("Answer", err, "serve it: it is how the gateway asks for a text of which it wants no deltas")
	case err != nil:
		return answer{}, p.fault("Answer", err, plainAnswer)
	}
	got, err := last("Answer", e)
	if err == nil && got == nil {
		err = errors.New("Answer gave a delta: it gives one result or one error")
	}
	if err != nil {
		return answer{}, err
	}
	return *got, nil
}

func (k *kit) streamed(ctx context.Context, p *program, id, text string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	stream, err := p.provider.Translate(ctx, &wire.Call{Instance: "provider", Texts: []*wire.Text{k.text(id, text)}})
	if err != nil {
		return answer{}, p.fault("Translate", err, plainAnswer)
	}
	var got *answer
	for {
		e, err := stream.Recv()
		switch {
		case err == io.EOF && got == nil:
			return answer{}, errors.New("Translate ended without a result: each text gets one result or one error")
		case err == io.EOF:
			return *got, nil
		case err != nil:
			return answer{}, p.fault("Translate", err, plainAnswer)
		case got != nil:
			return answer{}, errors.New("Translate went on after the result: it is the last event of its text")
		}
		if got, err = last("Translate", e); err != nil {
			return answer{}, err
		}
	}
}

// last returns the answer in an event, or nil when it is a delta. The error is a
// breach of the protocol.
func last(call string, e *wire.Event) (*answer, error) {
	if e.GetIndex() != 0 {
		return nil, fmt.Errorf("%s answered the text %d of a call with one: an event has the index of its text, from 0", call, e.GetIndex())
	}
	switch what := e.GetWhat().(type) {
	case *wire.Event_Delta:
		return nil, nil
	case *wire.Event_Result:
		if strings.TrimSpace(what.Result.GetText()) == "" {
			return nil, fmt.Errorf("%s answered with a blank text: answer with an error when there is no translation", call)
		}
		if err := wire.Excess(what.Result); err != nil {
			return nil, fmt.Errorf("%s answered with more than is taken: %w", call, err)
		}
		return &answer{text: what.Result.GetText()}, nil
	case *wire.Event_Error:
		return &answer{err: what.Error}, kindOf(what.Error)
	}
	return nil, fmt.Errorf("%s sent an event with neither a delta, a result nor an error", call)
}

const plainAnswer = "a failure is an answer: send an error, with status OK"

// before asks on the way down. Its answer is the text that goes on, or the one
// of a stage that answers by itself.
func (k *kit) before(ctx context.Context, p *program, part *wire.Part, id, text string) (answer, []byte, error) {
	if !part.GetBefore() {
		return answer{text: text}, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	v, err := p.stage.Before(ctx, &wire.Visit{Instance: "stage", Text: k.text(id, text)})
	if err != nil {
		return answer{}, nil, p.fault("Before", err, plainAnswer)
	}
	if n := len(v.GetState()); n > wire.MaxState {
		return answer{}, nil, fmt.Errorf("Before keeps %d bytes for After, and %d are the most", n, wire.MaxState)
	}
	switch what := v.GetWhat().(type) {
	case *wire.Verdict_Request:
		if strings.TrimSpace(what.Request.GetText()) == "" || what.Request.GetTarget() == "" {
			return answer{}, nil, errors.New("Before changed the request into one without a text or a target: return the whole request, changed")
		}
		return answer{text: what.Request.GetText()}, v.GetState(), nil
	case *wire.Verdict_Result:
		return answer{text: what.Result.GetText()}, v.GetState(), nil
	case *wire.Verdict_Error:
		return answer{err: what.Error}, nil, kindOf(what.Error)
	}
	return answer{text: text}, v.GetState(), nil
}

// after asks on the way up, with what went down as the translation.
func (k *kit) after(ctx context.Context, p *program, part *wire.Part, id, text string, down answer, state []byte) (answer, error) {
	if !part.GetAfter() || down.err != nil {
		return down, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	reply, err := p.stage.After(ctx, &wire.Done{Instance: "stage", Text: k.text(id, text), Result: &wire.Result{Text: down.text, Finish: string(core.FinishStop)}, State: state})
	if err != nil {
		return answer{}, p.fault("After", err, plainAnswer)
	}
	switch what := reply.GetWhat().(type) {
	case *wire.Reply_Result:
		return answer{text: what.Result.GetText()}, nil
	case *wire.Reply_Error:
		return answer{err: what.Error}, kindOf(what.Error)
	}
	return answer{}, errors.New("After gave neither a result nor an error: return the result as it came when there is nothing to change")
}

// kindOf says whether an error can be understood.
func kindOf(e *wire.Error) error {
	if wire.DecodeError(e, "").Kind != core.ErrorKind(e.GetKind()) {
		return fmt.Errorf("an error has the kind %q, which is none: plugins/wire lists them", e.GetKind())
	}
	return nil
}

// badConfiguration sends what no plugin can take, and then a good one.
func (k *kit) badConfiguration(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, fresh)
	if err != nil {
		return "", err
	}
	defer k.spend(p)
	for _, part := range k.about.GetParts() {
		said, err := k.make(ctx, p, part, "bad", []byte(`["no object"`))
		if err != nil {
			return "", err
		}
		if len(said) == 0 {
			return "", fmt.Errorf("the %s takes a configuration that is no JSON", roleName(part.GetRole()))
		}
		key, wrong := mistake(part)
		if key == "" {
			continue
		}
		said, err = k.make(ctx, p, part, "bad", wrong)
		if err != nil {
			return "", err
		}
		if len(said) == 0 {
			return "", fmt.Errorf("the %s takes %s, which its schema does not allow: check the configuration again, for the schema of the gateway may be that of a build before", roleName(part.GetRole()), wrong)
		}
		if !slices.ContainsFunc(said, func(e *wire.ConfigError) bool { return strings.HasPrefix(e.GetField(), key) }) {
			return "", fmt.Errorf("the %s refuses %s without naming the key: put %q into the field of the error, so that the gateway can print its line", roleName(part.GetRole()), wrong, key)
		}
	}
	if _, err := p.plugin.Health(ctx, &wire.Instance{}); err != nil {
		return "", p.fault("Health after a bad configuration", err, "say what is wrong and go on: a mistake must not end the program")
	}
	return "", nil
}

// mistake returns a configuration with one key of a wrong type, if the schema
// has one whose type is known.
func mistake(part *wire.Part) (key string, config []byte) {
	properties := schemaOf(part).properties
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		switch properties[key].Type {
		case "string", "integer", "number", "boolean":
			config, _ := json.Marshal(map[string]any{key: map[string]any{"a": 1}}) // cannot fail
			return key, config
		}
	}
	return "", nil
}

// instances looks at several in one process, and at what is none.
func (k *kit) instances(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	for _, part := range k.about.GetParts() {
		role := roleName(part.GetRole())
		if said, err := k.make(ctx, p, part, "second", k.config(part)); err != nil || len(said) > 0 {
			return "", fmt.Errorf("a second instance of the %s beside the first: %s: one process serves as many as the file has", role, first(errors.Join(err, complaint(said))))
		}
		if _, err := p.plugin.Release(ctx, &wire.Instance{Id: "second"}); err != nil {
			return "", p.fault("Release", err, "it ends one instance, and the others go on")
		}
		if _, err := k.ask(ctx, p, part, "after Release", sentence); err != nil {
			return "", fmt.Errorf("after another instance was released: %w", err)
		}
		for _, id := range []string{"second", "nobody"} {
			if err := unknown(ctx, p, part, id); status.Code(err) != codes.NotFound {
				return "", fmt.Errorf("a call for an instance that was released or never made ended with %s: answer with the status NOT_FOUND, by which the gateway sees that it has to configure it", status.Code(err))
			}
			if _, err := p.plugin.Release(ctx, &wire.Instance{Id: id}); err != nil {
				return "", p.fault("Release of what is not there", err, "it is no mistake")
			}
		}
	}
	return "", nil
}

func complaint(said []*wire.ConfigError) error {
	if len(said) == 0 {
		return nil
	}
	return errors.New(complaints(said))
}

// unknown calls a part as an instance that is not there.
func unknown(ctx context.Context, p *program, part *wire.Part, id string) error {
	text := &wire.Text{Id: "unknown", Text: sentence, Source: "en", Target: "es"}
	switch {
	case part.GetRole() == wire.Role_ROLE_PROVIDER:
		if _, err := p.provider.Answer(ctx, &wire.Visit{Instance: id, Text: text}); status.Code(err) != codes.NotFound {
			return err
		}
		stream, err := p.provider.Translate(ctx, &wire.Call{Instance: id, Texts: []*wire.Text{text}})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	case part.GetBefore():
		_, err := p.stage.Before(ctx, &wire.Visit{Instance: id, Text: text})
		return err
	}
	_, err := p.stage.After(ctx, &wire.Done{Instance: id, Text: text, Result: &wire.Result{Text: "x"}})
	return err
}

// cancel leaves calls at any moment of them, and looks whether the plugin is
// free afterwards.
func (k *kit) cancel(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	defer k.spend(p)
	for _, part := range k.about.GetParts() {
		left := make(chan struct{})
		for n := range maxTexts {
			go func() {
				ctx, leave := context.WithCancel(ctx)
				time.AfterFunc(time.Duration(n)*time.Millisecond, leave)
				defer leave()
				k.ask(ctx, p, part, "left alone", sentence)
				left <- struct{}{}
			}()
		}
		for range maxTexts {
			<-left
		}
		began := time.Now()
		a, err := k.ask(ctx, p, part, "after the others", sentence)
		if err == nil {
			err = a.failed()
		}
		if err != nil {
			return "", fmt.Errorf("after %d calls that were canceled: %w: end what a call has begun when it is canceled, and keep no lock", maxTexts, err)
		}
		release, done := context.WithTimeout(ctx, endLimit)
		_, err = p.plugin.Release(release, &wire.Instance{Id: roleName(part.GetRole())})
		done()
		if err != nil {
			return "", p.fault(fmt.Sprintf("Release, %v after %d calls were canceled,", time.Since(began).Round(time.Millisecond), maxTexts), err, "a call that is canceled is over: end its work")
		}
	}
	return "", nil
}

// first returns the first of several errors.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}
