package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/lazy"
)

// Load reads and checks the file. The error is a Complaints, unless the Schema
// itself is unusable.
func (s Schema) Load(o Options) (*File, error) {
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	data := o.Content
	if data == nil {
		var err error
		if data, err = readFile(o.File, "name a file with --config FILE"); err != nil {
			return nil, Complaints{{File: o.File, Message: err.Error()}}
		}
	}
	return s.loadBytes(data, s.checker(), o)
}

// loadBytes is Load without its I/O.
func (s Schema) loadBytes(data []byte, checker *checker, o Options) (*File, error) {
	folder, err := filepath.Abs(filepath.Dir(o.File))
	if err != nil {
		return nil, Complaints{{File: o.File, Message: "its folder cannot be found: " + err.Error()}}
	}
	l := &loader{
		Options: o, schema: s, checker: checker, folder: folder, said: map[Complaint]bool{},
		expand: expander{lookup: o.LookupEnv, offline: o.Offline, folder: folder, files: map[string]*named{}},
	}
	if err := l.load(data); err != nil {
		return nil, fmt.Errorf("checking %s: %w", o.File, err)
	}
	if len(l.complaints) > 0 {
		l.complaints.sort()
		return nil, l.complaints
	}
	return l.result(data), nil
}

// readFile reads at most a little more than a configuration may be long. Remedy
// says what to do when there is none.
func readFile(name, remedy string) ([]byte, error) {
	data, err := files.Head(name, MaxFile+1)
	if info, bad := os.Stat(name); err != nil && bad == nil && info.IsDir() {
		return nil, errors.New("this is a folder; " + remedy)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no such file; " + remedy)
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("the file may not be read by this user; change its owner or its mode")
	case err != nil:
		return nil, fmt.Errorf("the file cannot be read: %w", errors.Unwrap(err))
	}
	return data, nil
}

// A part is what one struct is filled from: a section, a provider or a stage.
type part struct {
	pos
	path string // as complaints write it: stages[2].queue
	key  string // as --set writes it: stages.queue
	def  string // its definition in the schema
	// shape is that definition.
	shape *jsonschema.Schema
	// file and set are what the file and --set say, mappings or nil.
	file, set *node
	// config points to the struct, at first with the defaults.
	config any

	// Of a provider or a stage:
	name string
	kind core.Kind
	typ  *node // the value of `type`
	// Of a provider: what any entry may say, whatever its kind.
	limits   core.Allowance
	accounts []account
	// Of one account of a provider: where it stands, and what it says itself.
	own     string
	ownNode *node
	enabled *node
	// enabledInFile is what the file says about that, whatever --set does.
	enabledInFile *node
}

type loader struct {
	Options
	schema     Schema
	checker    *checker
	folder     string
	complaints Complaints
	said       map[Complaint]bool
	expand     expander

	version           *node
	sections          []*part
	providers, stages []*part
	// Of these some could not be made out, so nobody may complain that one is
	// missing.
	doubtfulProviders, doubtfulStages bool
}

func (l *loader) complain(p pos, path, message string) {
	l.add(Complaint{File: l.File, Line: p.line, Column: p.col, Path: path, Message: message})
}

// add keeps c unless the same was said of the same place: an alias shows one
// mistake under two paths.
func (l *loader) add(c Complaint) {
	same := c
	if c.Line > 0 {
		same.Path = ""
	}
	if !l.said[same] {
		l.said[same] = true
		l.complaints = append(l.complaints, c)
	}
}

// about complains about n, which stands at p unless a --set gave it.
func (l *loader) about(n *node, p pos, path, key, message string) {
	if n != nil && n.set != "" {
		l.add(Complaint{File: "--set " + n.set, Path: key, Message: message})
		return
	}
	l.complain(p, path, message)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// load does everything but to report. The error is a defect of the schema.
func (l *loader) load(data []byte) error {
	r := reader{
		expand: l.expand, complain: l.complain,
		emptyFile: "the file is empty; it needs at least `providers:` and `stages:`",
		noMapping: "a configuration is a mapping (`version: 1`, `stages: ...`)",
	}
	root := r.read(data)
	whole := l.checker.viewOf("")
	for i := range l.complaints {
		l.complaints[i].Path = whole.public(l.complaints[i].Path)
	}
	if root == nil || r.full {
		return nil
	}
	root.hide(whole, false) // by what any kind says; each part by its own, later
	l.split(root)
	l.overlay()
	for _, p := range l.all() {
		if err := l.check(p); err != nil {
			return err
		}
	}
	l.checkVersion()
	l.checkReferences()
	l.checkOrder(root)
	if len(l.complaints) > 0 {
		return nil
	}
	for _, p := range l.all() {
		if err := l.decode(p); err != nil {
			return err
		}
	}
	return nil
}

// all returns the parts that can be checked.
func (l *loader) all() []*part {
	var parts []*part
	for _, p := range slices.Concat(l.sections, l.providers, l.stages) {
		if p.config != nil {
			parts = append(parts, p)
		}
	}
	return parts
}

// split takes the file apart.
func (l *loader) split(root *node) {
	known := []string{"version", "providers", "stages"}
	for _, s := range l.schema.Sections {
		known = append(known, s.Name)
		p := &part{path: s.Name, key: s.Name, name: s.Name, config: s.Config()}
		l.define(p, sectionDef(s.Name))
		if e, ok := root.get(s.Name); ok {
			p.pos, p.file = e.pos, e.value
		}
		l.sections = append(l.sections, p)
	}
	for _, e := range root.entries {
		switch {
		case e.name == "version":
			l.version = e.value
		case e.name == "providers":
			l.splitProviders(e)
		case e.name == "stages":
			l.splitStages(e)
		case strings.HasPrefix(e.name, ours):
		case !slices.Contains(known, e.name):
			message := unknownKey(e.name, known)
			if nearest(e.name, known) == "" {
				message += "; a key of your own, such as one that holds anchors, begins with " + ours
			}
			l.complain(e.pos, join("", e.name), message)
		}
	}
}

// ours begins the names of keys at the top that are the operator's own, such as
// what holds his anchors. Nobody looks below them.
const ours = "x-"

func (l *loader) define(p *part, def string) {
	p.def, p.shape = def, l.checker.document.Definitions[def]
}

var goodName = lazy.Regexp(namePattern)

const namesAre = "a name is 1 to 64 of a-z, 0-9, - and _"

func (l *loader) splitProviders(e member) {
	switch n := e.value; {
	case n.kind == yaml.MappingNode || n.isNull():
	case !n.known():
		l.doubtfulProviders = true
		return
	default:
		l.complain(n.pos, "providers", "must be a mapping of names to providers, got "+n.describe())
		l.doubtfulProviders = true
		return
	}
	for _, e := range e.value.entries {
		path := join("providers", e.name)
		if !goodName().MatchString(e.name) {
			l.complain(e.pos, path, namesAre)
		}
		p := &part{pos: e.pos, path: path, key: path, name: e.name, file: e.value}
		if t, ok := e.value.get("type"); ok {
			p.typ = t.value
		}
		l.providers = append(l.providers, p)
	}
}

func (l *loader) splitStages(e member) {
	switch n := e.value; {
	case n.kind == yaml.SequenceNode || n.isNull():
	case !n.known():
		l.doubtfulStages = true
	default:
		l.complain(n.pos, "stages", "must be a list, one `- stage` a line, got "+n.describe())
		l.doubtfulStages = true
	}
	names := map[string]*part{}
	for i, item := range e.value.items {
		p := l.stage(item, fmt.Sprintf("stages[%d]", i))
		if p == nil {
			l.doubtfulStages = true
			continue
		}
		if first, taken := names[p.name]; taken {
			l.complain(p.pos, p.path, fmt.Sprintf("the stage in line %d is called %s already; give this one a `name:` of its own", first.line, quote(p.name)))
		} else {
			names[p.name] = p
		}
		l.stages = append(l.stages, p)
	}
}

// stage makes out one item of the list; nil when that cannot be done.
func (l *loader) stage(n *node, path string) *part {
	var word member // the key that names the kind
	var name, enabled *node
	var others []member
	switch {
	case !n.known():
		return nil
	case n.kind == yaml.ScalarNode:
		text, ok := n.value.(string)
		if !ok {
			l.complain(n.pos, path, "must be a stage, such as `- postprocess` or `- cache: {...}`, got "+n.describe())
			return nil
		}
		word = member{name: text, pos: n.pos}
	case n.kind == yaml.SequenceNode || len(n.entries) == 0:
		l.complain(n.pos, path, "must be a stage, such as `- postprocess` or `- cache: {...}`, got "+n.describe())
		return nil
	}
	for _, e := range n.entries {
		switch _, isKind := l.kind(e.name, false); {
		case e.name == "name":
			name = e.value
		case e.name == "enabled":
			enabled = e.value
		case isKind && word.name == "":
			word = e
		default:
			others = append(others, e)
		}
	}
	if word.name == "" && len(others) > 0 {
		word, others = others[0], others[1:]
	}
	if word.name == "" {
		l.complain(n.pos, path, "names no stage; known are "+list(l.kindNames(false)))
		return nil
	}
	kind, ok := l.kind(word.name, false)
	if !ok {
		l.complain(word.pos, join(path, word.name), l.noStage(word.name))
		return nil
	}

	p := &part{pos: word.pos, path: join(path, kind.Name), name: kind.Name, kind: kind, file: word.value, enabled: enabled, enabledInFile: enabled, config: kind.Config()}
	l.define(p, stageDef(kind.Name))
	for _, e := range others {
		_, isKind := l.kind(e.name, false)
		_, below := p.shape.Properties.Get(e.name)
		message := unknownKey(e.name, []string{"name", "enabled"})
		switch {
		case isKind:
			message = "an item is one stage, and this is its second; begin a new one with `- `"
		case below:
			message = fmt.Sprintf("is a key of %s; indent it to stand below", kind.Name)
		}
		l.complain(e.pos, join(path, e.name), message)
	}
	if name != nil && name.known() {
		switch text, ok := name.value.(string); {
		case !ok && !name.plain:
			l.complain(name.pos, path+".name", "must be text, got "+name.describe())
		case !goodName().MatchString(cmp.Or(text, name.text)):
			l.complain(name.pos, path+".name", namesAre)
		default:
			p.name = cmp.Or(text, name.text)
		}
	}
	p.key = "stages." + p.name
	return p
}

// kind finds a kind by name, among those of providers or those of stages.
func (l *loader) kind(name string, provider bool) (core.Kind, bool) {
	for _, kind := range l.schema.kinds(provider) {
		if kind.Name == name {
			return kind, true
		}
	}
	return core.Kind{}, false
}

func (l *loader) kindNames(providers bool) []string {
	var names []string
	for _, kind := range l.schema.kinds(providers) {
		names = append(names, kind.Name)
	}
	return names
}

// noStage says what name is, if it is no kind of stage.
func (l *loader) noStage(name string) string {
	if _, ok := l.kind(name, true); ok {
		return fmt.Sprintf("%s is a type of provider; it stands in `providers:`, and the stage `%s` calls it", name, l.caller())
	}
	for _, p := range l.providers {
		if p.name == name {
			return fmt.Sprintf("%s is one of `providers:`; the stage `%s` calls it", name, l.caller())
		}
	}
	return fmt.Sprintf("there is no stage of this kind%s", orKnown(name, l.kindNames(false)))
}

// caller is the name of the kind that ends a chain.
func (l *loader) caller() string {
	for _, kind := range l.schema.Kinds {
		if kind.Role == core.RoleCaller {
			return kind.Name
		}
	}
	return "provider"
}

// resolve finds the kind of a provider, once every `--set` of a type is known.
func (l *loader) resolve(p *part) {
	types := l.kindNames(true)
	if p.typ == nil {
		switch {
		case !p.file.known():
		case p.file.kind != yaml.MappingNode && !p.file.isNull():
			l.complain(p.file.pos, p.path, "must be a mapping with a `type:`, got "+p.file.describe())
		default:
			l.complain(p.pos, p.path, "has no `type:`; known are "+list(types))
		}
		return
	}
	path, key := p.path+".type", p.key+".type"
	name, isText := p.typ.value.(string)
	if isText && p.typ.known() {
		if kind, ok := l.kind(name, true); ok {
			p.kind, p.config = kind, kind.Config()
			l.define(p, providerDef(kind.Name))
			return
		}
	}
	switch _, isStage := l.kind(name, false); {
	case p.typ.bad:
	case p.typ.missing:
		l.about(p.typ, p.typ.pos, path, key, "comes from a variable that is not set, so nothing here can be checked; give it a default")
	case isStage:
		l.about(p.typ, p.typ.pos, path, key, name+" is a stage; it stands in `stages:`")
	default:
		l.about(p.typ, p.typ.pos, path, key, oneOf(types, p.typ.describe(), name))
	}
}

// checkVersion refuses a file that is written for another program than this.
func (l *loader) checkVersion() {
	if l.version != nil {
		l.version.become("integer")
	}
	if n := l.version; n != nil && n.known() && n.value != any(int64(1)) {
		l.complain(n.pos, "version", "must be 1, the only version there is, got "+n.describe())
	}
}

// checkReferences finds what `ref` fields name.
func (l *loader) checkReferences() {
	if l.doubtfulProviders {
		return
	}
	var names []string
	for _, p := range l.providers {
		names = append(names, p.name)
	}
	for _, p := range l.all() {
		if l.disabled(p) {
			continue
		}
		eachReference(reflect.TypeOf(p.config), nil, func(path []string) {
			p.each(path, func(path []string, n *node) {
				refs := []*node{n}
				if n.kind == yaml.SequenceNode {
					refs = n.items
				}
				for i, ref := range refs {
					name, ok := ref.value.(string)
					if !ok || !ref.known() || slices.Contains(names, name) {
						continue
					}
					at := path
					if n.kind == yaml.SequenceNode {
						at = append(slices.Clip(path), fmt.Sprint(i))
					}
					holder := ""
					if via := ref.variables(); len(via) > 0 {
						holder = ", as " + through(via) + " says"
					}
					what := " " + quote(name)
					if ref.secret {
						what, name = " of that name", ""
					}
					message := fmt.Sprintf("there is no provider%s%s%s", what, holder, orKnown(name, names))
					l.about(ref, ref.pos, p.write(p.path, at), p.write(p.key, at), message)
				}
			})
		})
	}
}

// each calls visit with every value at path, in which anyItem stands for each item of a
// list. A default is not visited: it is nobody's mistake.
func (p *part) each(path []string, visit func(path []string, n *node)) {
	i := slices.Index(path, anyItem)
	if i < 0 {
		if n := p.find(path); n != nil {
			visit(path, n)
		}
		return
	}
	if n := p.find(path[:i]); n != nil {
		for item := range n.items {
			p.each(slices.Concat(path[:i], []string{fmt.Sprint(item)}, path[i+1:]), visit)
		}
	}
}

// anyItem stands in a path for each item of a list.
const anyItem = "*"

// through names what a value came through.
func through(via []string) string {
	of := "the variable "
	if strings.HasPrefix(via[0], prefixFile) {
		of = ""
	}
	return of + strings.Join(via, ", ")
}

// eachReference calls visit with the path of every field below t that names an
// entry of `providers:`.
func eachReference(t reflect.Type, path []string, visit func([]string)) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice && !fields.IsLeaf(t.Elem()) {
		eachReference(t.Elem(), append(slices.Clip(path), anyItem), visit)
		return
	}
	if fields.IsLeaf(t) {
		return
	}
	fields.Each(reflect.New(t), func(name string, tag reflect.StructTag, field reflect.Value) {
		below := append(slices.Clip(path), name)
		if tag.Get("ref") == "providers" {
			visit(below)
			return
		}
		eachReference(field.Type(), below, visit)
	})
}

func (l *loader) disabled(p *part) bool {
	return p.enabled != nil && p.enabled.value == any(false)
}

// checkOrder finds the one stage that ends the chain, and what stands on the
// wrong side of it.
func (l *loader) checkOrder(root *node) {
	var caller *part
	for _, p := range l.stages {
		if l.disabled(p) {
			continue
		}
		switch p.kind.Role {
		case core.RoleCaller:
			if caller != nil {
				l.complain(p.pos, p.path, fmt.Sprintf("a chain ends once, and the stage %s in line %d ends it already", quote(caller.name), caller.line))
				continue
			}
			caller = p
		case core.RoleGate:
			if caller != nil {
				l.complain(p.pos, p.path, fmt.Sprintf("guards every attempt of the stage %s, so it must stand before it, above line %d", quote(caller.name), caller.line))
			}
		case core.RoleLookup:
			if caller != nil {
				l.complain(p.pos, p.path, fmt.Sprintf("answers without going on, so it must stand before the stage %s, above line %d", quote(caller.name), caller.line))
			}
		}
	}
	if caller == nil && !l.doubtfulStages {
		at := root.pos
		if e, ok := root.get("stages"); ok {
			at = e.pos
		}
		l.complain(at, "stages", fmt.Sprintf("the chain has no end; add the stage that calls a provider: `- %s: {...}`", l.caller()))
	}
}

// result is what was loaded. Whoever complains later needs the places alone: the schema of
// all kinds, which is half a megabyte, goes.
func (l *loader) result(data []byte) *File {
	l.checker = nil
	for _, p := range l.all() {
		p.shape = nil
	}
	sum := sha256.Sum256(data)
	f := &File{Path: l.File, Hash: hex.EncodeToString(sum[:]), Sections: map[string]any{}, Origins: map[string]core.Origin{}}
	for _, p := range l.sections {
		f.Sections[p.name], f.Origins[p.name] = p.config, &origin{l, p}
	}
	for _, path := range slices.Sorted(maps.Keys(l.expand.files)) {
		f.named = append(f.named, l.expand.files[path])
	}
	for _, p := range l.all() {
		for _, n := range []*node{p.file, p.set} {
			n.eachMissing(p.path, func(path string) { f.unknown = append(f.unknown, path) })
		}
	}
	item := func(p *part) Item {
		return Item{
			Name: p.name, Kind: p.kind, Config: p.config, Enabled: !l.disabled(p),
			Path: p.path, Line: p.line, Column: p.col, Digest: digest(p),
			Origin: &origin{l, p},
		}
	}
	for _, p := range l.providers {
		entry := item(p)
		entry.Limits, entry.Accounts = p.limits, l.items(p)
		f.Providers = append(f.Providers, entry)
	}
	for _, p := range l.stages {
		f.Stages = append(f.Stages, item(p))
	}
	f.Values = l.values()
	return f
}

// digest changes with anything in p's configuration.
func digest(p *part) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", p.kind.Role, p.kind.Name)
	eachLeaf(reflect.ValueOf(p.config), func(path []string, _ reflect.StructTag, leaf reflect.Value) {
		fmt.Fprintf(h, "%s\x00%s\x00", strings.Join(path, "\x01"), leafText(leaf, true))
	})
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// seed keeps Value.Sum from telling anything about a secret.
var seed = maphash.MakeSeed()

// values lists every effective value: the parts in the order of the file, what
// the file leaves out at the end, and so again within a part.
func (l *loader) values() []Value {
	version := Value{Path: "version", Text: "1", From: l.from(l.version)}
	values := []Value{version}
	parts := l.all()
	slices.SortStableFunc(parts, func(a, b *part) int { return inFile(a.pos, b.pos) })
	for _, p := range parts {
		var places []pos
		var group []Value
		add := func(key, text, whole string, n, inFile *node) {
			v := Value{Path: key, Text: text, From: l.from(n), Sum: maphash.String(seed, whole)}
			if n != nil && n.set != "" && inFile != nil {
				v.Below = maphash.String(seed, fmt.Sprint(inFile.data(false)))
			}
			group = append(group, v)
			if inFile == nil {
				inFile = &node{}
			}
			places = append(places, inFile.pos)
		}
		if p.typ != nil {
			add(p.key+".type", p.kind.Name, p.kind.Name, p.typ, p.file.at([]string{"type"}))
		}
		eachLeaf(reflect.ValueOf(p.config), func(path []string, tag reflect.StructTag, leaf reflect.Value) {
			text := shown(leaf, tag)
			if p.find(path).hasFiled() {
				text = redacted
			}
			name := strings.Join(path, ".")
			if text == redacted { // a name may hold a value, for want of a blank
				name = join("", name)
			}
			add(p.key+"."+name, text, leafText(leaf, true), p.find(path), p.file.at(path))
		})
		if p.typ != nil {
			fields.Each(reflect.ValueOf(p.limits), func(name string, _ reflect.StructTag, limit reflect.Value) {
				path := []string{keyLimits, name}
				if n := p.find(path); n != nil {
					text := fmt.Sprint(limit.Int())
					add(p.key+"."+keyLimits+"."+name, text, text, n, p.file.at(path))
				}
			})
			if n := p.find([]string{keyAccounts}); n != nil && len(n.items) > 0 {
				add(p.key+"."+keyAccounts, p.shownAccounts(false), p.shownAccounts(true), n, p.file.at([]string{keyAccounts}))
			}
		}
		if p.enabled != nil {
			on := fmt.Sprint(!l.disabled(p))
			add(p.key+".enabled", on, on, p.enabled, p.enabledInFile)
		}
		order := make([]int, len(group))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return inFile(places[a], places[b]) })
		for _, i := range order {
			values = append(values, group[i])
		}
	}
	return values
}

func (c Complaints) sort() {
	slices.SortStableFunc(c, func(a, b Complaint) int {
		return inFile(pos{a.Line, a.Column}, pos{b.Line, b.Column})
	})
}

// inFile orders places as they stand in the file, those outside it last.
func inFile(a, b pos) int {
	return cmp.Or(
		cmp.Compare(btoi(a.line == 0), btoi(b.line == 0)),
		cmp.Compare(a.line, b.line), cmp.Compare(a.col, b.col),
	)
}

// from says where the value n is from; nil for a default.
func (l *loader) from(n *node) string {
	switch {
	case n == nil:
		return "default"
	case n.set != "":
		return bySet
	}
	at := fmt.Sprintf("%s:%d", filepath.Base(l.File), n.line)
	via := n.variables()
	if len(via) > 0 {
		at += " via " + strings.Join(via, ", ")
	}
	if n.missing {
		at += " (not set: the default)"
	}
	return at
}
