package host

import (
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// A Program says what a plugin is and how it is run. Two entries with the same
// Program share one process.
type Program struct {
	Command   []string               `json:"command" jsonschema:"maxItems=64" jsonschema_description:"The program and its arguments. A program with a slash in its name is looked up from the folder of this file, which is also its working directory; any other in PATH."`
	Address   string                 `json:"address" credentials:"true" jsonschema:"maxLength=200" jsonschema_description:"Where a plugin that somebody else starts listens: unix:PATH or 127.0.0.1:PORT. Instead of command."`
	Env       map[string]core.Secret `json:"env" jsonschema_description:"Its environment; nothing else of the gateway's gets in. Values are never shown."`
	SHA256    map[string]string      `json:"sha256" jsonschema_description:"Checksums of files, from the folder of this file: the program, a script, whatever it needs. They are compared before each start, and what is executed is what was compared."`
	MaxMemory core.Size              `json:"max_memory" jsonschema_extras:"minSize=0B,maxSize=1024GiB" jsonschema_description:"A plugin that holds more than this is started anew, once its calls have ended. 0: no bound."`
}

// ProviderConfig is an entry of `providers:` of type plugin.
type ProviderConfig struct {
	Program
	Config     map[string]any `json:"config" secret:"true" jsonschema_description:"The plugin's own keys, checked by what it says about them. Values are never shown, since any may be a secret."`
	ConfigFrom string         `json:"config_from" ref:"providers" jsonschema_description:"Another provider whose keys the plugin gets, with the pool's ca_file and proxy. Instead of config."`
	Price      *core.Price    `json:"price" jsonschema_description:"What the provider takes, so that usage is told in money too."`

	// Inherited is what ConfigFrom stands for, as JSON would hold it. Who loads
	// the configuration sets it.
	Inherited map[string]any `json:"-"`
}

// StageConfig is the stage `plugin` in pipeline.yaml.
type StageConfig struct {
	Program
	Config  map[string]any `json:"config" secret:"true" jsonschema_description:"The plugin's own keys, checked by what it says about them. Values are never shown, since any may be a secret."`
	OnError string         `json:"on_error" jsonschema:"enum=fail,enum=skip" jsonschema_description:"fail: a request fails when the plugin does. skip: it goes on without the plugin, which then has at most half of the time that is left. An answer such as invalid_request is none of these."`
}

// The values of StageConfig.OnError.
const (
	onErrorFail = "fail"
	onErrorSkip = "skip"
)

// check says what the schema cannot.
func (p *Program) check() error {
	switch {
	case len(p.Command) == 0 && p.Address == "":
		return fmt.Errorf("needs a command or an address")
	case len(p.Command) > 0 && p.Address != "":
		return fmt.Errorf("has both a command and an address; the one starts the plugin, the other says that somebody else does")
	case p.Address != "" && (len(p.Env) > 0 || len(p.SHA256) > 0 || p.MaxMemory > 0):
		return fmt.Errorf("env, sha256 and max_memory are for a command; who starts the plugin at an address has its environment")
	case len(p.Command) > 0 && p.Command[0] == "":
		return fmt.Errorf("command: the program has no name")
	}
	if p.Address != "" {
		if _, _, err := endpoint(p.Address); err != nil {
			return fmt.Errorf("address: %w", err)
		}
	}
	for file, sum := range p.SHA256 {
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
			return fmt.Errorf("sha256.%s: must be 64 hexadecimal digits, as sha256sum prints them", file)
		}
	}
	for name := range p.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("env: %q is not the name of a variable", name)
		}
	}
	return nil
}

// endpoint reads an address. What is said over it is not encrypted, so it may
// not leave the machine.
func endpoint(address string) (network, at string, err error) {
	if strings.Contains(address, "@") && !strings.HasPrefix(address, "unix:/") { // what stands before it may be a password
		return "", "", fmt.Errorf("must be unix:PATH or 127.0.0.1:PORT, without a name or a password before an @")
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return "", "", fmt.Errorf("must be unix: and an absolute path, got %q", address)
		}
		return "unix", path, nil
	}
	name, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return "", "", fmt.Errorf("must be unix:PATH or 127.0.0.1:PORT, got %q", address)
	}
	if ip := net.ParseIP(name); name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", "", fmt.Errorf("must be on this machine, a loopback address or a Unix socket, since nothing encrypts it; got %q", address)
	}
	return "tcp", address, nil
}

// Kinds declares the provider and the stage `plugin`, whose processes h owns.
func (h *Host) Kinds() []core.Kind {
	const doc = "A program that runs out of process, in any language."
	return []core.Kind{
		core.NewKind("plugin", core.RoleProvider, doc, func() ProviderConfig { return ProviderConfig{} }, h.buildProvider),
		core.NewKind("plugin", core.RoleStage, doc, func() StageConfig { return StageConfig{OnError: onErrorFail} }, h.buildStage),
	}
}
