// Command release makes what is handed out: for each architecture a tar.gz, a deb and a rpm with the
// gateway, its plugins, manual, completions and units, an SBOM, and SHA256SUMS of all. The same
// commit gives the same bytes, whoever makes them where; SOURCE_DATE_EPOCH, else the commit, says the time.
//
// It is a module of its own: what makes packages is none of the gateway's business.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	arches := flag.String("arch", "amd64,arm64", "architectures")
	out := flag.String("out", "dist", "folder for what is made")
	version := flag.String("version", "", "version; that of the last tag v*, else 0.0.0 with the commit")
	flag.Parse()
	if err := run(*out, *version, strings.Split(*arches, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// A release is what all architectures have in common.
type release struct {
	top     string // of the checkout
	out     string
	work    string // for what is built
	version string
	at      time.Time
	shared  []file
}

// A file is one that is handed out.
type file struct {
	from   string // on this machine
	to     string // on theirs
	mode   fs.FileMode
	config bool // theirs to change
	only   string
}

func run(out, version string, arches []string) (err error) {
	r := &release{version: version}
	if r.top, err = git("rev-parse", "--show-toplevel"); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(out); err != nil {
		return err
	}
	if r.at, err = epoch(); err != nil {
		return err
	}
	if r.version == "" {
		if r.version, err = r.versionOfCommit(); err != nil {
			return err
		}
	}
	if r.work, err = os.MkdirTemp("", "dragoman-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if err := r.share(); err != nil {
		return err
	}
	var made []string
	for _, arch := range arches {
		of, err := r.arch(arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		made = append(made, of...)
	}
	return r.sum(made)
}

// epoch is the time that everything in the packages bears.
func epoch() (time.Time, error) {
	at := os.Getenv("SOURCE_DATE_EPOCH")
	if at == "" {
		var err error
		if at, err = git("log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, err
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q; it is a number of seconds since 1970", at)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// versionOfCommit is that of the last tag, and how far the commit is from it.
func (r *release) versionOfCommit() (string, error) {
	if tag, err := git("describe", "--tags", "--match", "v[0-9]*", "--exact-match"); err == nil {
		return strings.TrimPrefix(tag, "v"), nil
	}
	commit, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "", err
	}
	tag, err := git("describe", "--tags", "--match", "v[0-9]*", "--abbrev=0")
	if err != nil {
		tag = "v0.0.0"
	}
	return strings.TrimPrefix(tag, "v") + "+git" + r.at.Format("20060102150405") + "." + commit, nil
}

// share makes what is the same for every architecture: manual, completions, units, papers.
func (r *release) share() error {
	man := filepath.Join(r.work, "man")
	if err := os.Mkdir(man, 0o755); err != nil {
		return err
	}
	// The gateway writes its own manual and completions, here and as a stranger to this user's variables.
	host := filepath.Join(r.work, "host", "dragoman")
	if err := r.build("cmd/dragoman", runtime.GOOS, runtime.GOARCH, host); err != nil {
		return err
	}
	said := func(args ...string) ([]byte, error) {
		cmd := exec.Command(host, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.work, "SOURCE_DATE_EPOCH=" + strconv.FormatInt(r.at.Unix(), 10)}
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("dragoman %s: %w", strings.Join(args, " "), err)
		}
		return out, nil
	}
	completion := func(shell string) func(io.Writer) error {
		return func(w io.Writer) error {
			out, err := said("completion", shell)
			if err == nil {
				_, err = w.Write(out)
			}
			return err
		}
	}
	if _, err := said("manual", man); err != nil {
		return err
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return err
	}
	for _, p := range pages {
		page, err := r.zipped(filepath.Join(man, p.Name()), path.Join("/usr/share/man/man1", p.Name()+".gz"), "")
		if err != nil {
			return err
		}
		r.shared = append(r.shared, page)
	}
	for to, write := range map[string]func(io.Writer) error{
		"/usr/share/bash-completion/completions/dragoman":    completion("bash"),
		"/usr/share/zsh/vendor-completions/_dragoman":        completion("zsh"),
		"/usr/share/fish/vendor_completions.d/dragoman.fish": completion("fish"),
		"/usr/share/doc/dragoman/changelog.Debian":           r.changelog,
		"/usr/share/doc/dragoman/copyright":                  r.copyright,
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		from := filepath.Join(r.work, filepath.Base(to))
		if err := os.WriteFile(from, b.Bytes(), 0o644); err != nil {
			return err
		}
		if strings.HasSuffix(to, "changelog.Debian") {
			zipped, err := r.zipped(from, to+".gz", "deb")
			if err != nil {
				return err
			}
			r.shared = append(r.shared, zipped)
			continue
		}
		r.shared = append(r.shared, file{from: from, to: to})
	}
	deploy := filepath.Join(r.top, "examples", "deploy")
	r.shared = append(r.shared,
		file{from: filepath.Join(deploy, "pipeline.yaml"), to: "/etc/dragoman/pipeline.yaml", config: true},
		file{from: filepath.Join(r.top, "pipeline.schema.json"), to: "/usr/share/dragoman/pipeline.schema.json"},
		file{from: filepath.Join(r.top, "LICENSE"), to: "/usr/share/licenses/dragoman/LICENSE", only: "rpm"},
		file{from: filepath.Join(r.top, "LICENSE"), to: "/LICENSE", only: "tar"},
		file{from: filepath.Join(r.top, "cmd/internal/release/debian/lintian-overrides"), to: "/usr/share/lintian/overrides/dragoman", only: "deb"},
	)
	for _, unit := range []string{"dragoman.service", "dragoman.socket"} {
		from := filepath.Join(deploy, "systemd", unit)
		r.shared = append(r.shared, file{from: from, to: "/lib/systemd/system/" + unit, only: "deb"}, file{from: from, to: "/usr/lib/systemd/system/" + unit, only: "rpm"}, file{from: from, to: "/lib/systemd/system/" + unit, only: "tar"})
	}
	// What git knows, and not what lies about.
	known, err := exec.Command("git", "-C", deploy, "ls-files").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.Lines(string(known)) {
		name = strings.TrimSpace(name)
		r.shared = append(r.shared, file{from: filepath.Join(deploy, name), to: path.Join("/usr/share/doc/dragoman/examples", name)})
	}
	return nil
}

// zipped compresses a file as Debian's policy wants it.
func (r *release) zipped(from, to, only string) (file, error) {
	raw, err := os.ReadFile(from)
	if err != nil {
		return file{}, err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return file{}, err
	}
	if _, err := z.Write(raw); err != nil {
		return file{}, err
	}
	if err := z.Close(); err != nil {
		return file{}, err
	}
	if err := os.WriteFile(from+".gz", b.Bytes(), 0o644); err != nil {
		return file{}, err
	}
	return file{from: from + ".gz", to: to, only: only}, nil
}

const maintainer = "Dragoman <maintainers@dragoman.invalid>"

func (r *release) changelog(w io.Writer) error {
	_, err := fmt.Fprintf(w, "dragoman (%s-1) stable; urgency=medium\n\n  * Made from the source of this version; what changed is told by its history.\n\n -- %s  %s\n", r.version, maintainer, r.at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return err
}

// copyright is what Debian's policy wants: the text of a common license is on every machine.
func (r *release) copyright(w io.Writer) error {
	_, err := fmt.Fprintf(w, `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Dragoman
Source: https://github.com/dragoman-mt/dragoman
Comment: The programs hold modules of others, whose licenses are in THIRD-PARTY.gz beside this file.

Files: *
Copyright: %d the authors of Dragoman
License: Apache-2.0
 On Debian systems, the text of the license is in /usr/share/common-licenses/Apache-2.0.
`, r.at.Year())
	return err
}

// licenses are those of the modules that the binaries hold, which ask to be handed on.
func (r *release) licenses(w io.Writer, binaries []string) error {
	modules := map[string]string{}
	for _, b := range binaries {
		info, err := buildinfo.ReadFile(b)
		if err != nil {
			return err
		}
		for _, m := range info.Deps {
			modules[m.Path] = m.Version
		}
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		find := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", name)
		find.Dir = r.top
		dir, err := find.Output()
		if err != nil {
			return fmt.Errorf("where is the module %s: %w", name, err)
		}
		entries, err := os.ReadDir(strings.TrimSpace(string(dir)))
		if err != nil {
			return err
		}
		found := false
		for _, e := range entries {
			upper := strings.ToUpper(e.Name())
			if e.IsDir() || !strings.HasPrefix(upper, "LICEN") && !strings.HasPrefix(upper, "COPYING") && !strings.HasPrefix(upper, "NOTICE") {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), e.Name()))
			if err != nil {
				return err
			}
			found = true
			fmt.Fprintf(w, "== %s %s, %s\n\n%s\n", name, modules[name], e.Name(), raw)
		}
		if !found {
			return fmt.Errorf("the module %s %s has no license that could be handed on", name, modules[name])
		}
	}
	return nil
}

// programs are those that are handed out, by where they go.
var programs = map[string]string{
	"cmd/dragoman":     "/usr/bin/dragoman",
	"plugins/apertium": "/usr/lib/dragoman/plugins/apertium",
}

// build builds a program of ours.
func (r *release) build(from, system, arch, to string) error {
	build := exec.Command("go", "build", "-trimpath", "-tags=grpcnotrace", "-buildvcs=true", "-ldflags=-s -w", "-o", to, "./"+from)
	build.Dir = r.top
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", from, err, out)
	}
	return nil
}

// arch makes everything for one architecture, and returns the names of what it made.
func (r *release) arch(arch string) ([]string, error) {
	all := slices.Clone(r.shared)
	var binaries []string
	for _, from := range slices.Sorted(maps.Keys(programs)) {
		binary := filepath.Join(r.work, arch, filepath.Base(from))
		if err := r.build(from, "linux", arch, binary); err != nil {
			return nil, err
		}
		all = append(all, file{from: binary, to: programs[from], mode: 0o755})
		binaries = append(binaries, binary)
	}
	// The same for every architecture but for modules that only one needs.
	var licenses bytes.Buffer
	if err := r.licenses(&licenses, binaries); err != nil {
		return nil, err
	}
	third := filepath.Join(r.work, arch, "THIRD-PARTY")
	if err := os.WriteFile(third, licenses.Bytes(), 0o644); err != nil {
		return nil, err
	}
	zipped, err := r.zipped(third, "/usr/share/doc/dragoman/THIRD-PARTY.gz", "")
	if err != nil {
		return nil, err
	}
	all = append(all, zipped)
	slices.SortFunc(all, func(a, b file) int { return cmp.Or(strings.Compare(a.to, b.to), strings.Compare(a.only, b.only)) })
	base := "dragoman_" + r.version + "_linux_" + arch
	made := []string{base + ".tar.gz", base + ".cdx.json"}
	if err := r.write(base+".tar.gz", func(w io.Writer) error { return r.tarball(w, base, all) }); err != nil {
		return nil, err
	}
	if err := r.write(base+".cdx.json", func(w io.Writer) error { return r.sbom(w, arch, binaries) }); err != nil {
		return nil, err
	}
	for _, packager := range []string{"deb", "rpm"} {
		name, err := r.pack(packager, arch, all)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", packager, err)
		}
		made = append(made, name)
	}
	return made, nil
}

// write writes a whole file, or none.
func (r *release) write(name string, content func(io.Writer) error) error {
	var b bytes.Buffer
	if err := content(&b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(r.out, name), b.Bytes(), 0o644)
}

// tarball is the tree of a machine below a folder of its own.
func (r *release) tarball(w io.Writer, base string, all []file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range all {
		if f.only != "" && f.only != "tar" {
			continue
		}
		raw, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		head := &tar.Header{Name: base + f.to, Mode: int64(cmp.Or(f.mode, 0o644)), Size: int64(len(raw)), ModTime: r.at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(head); err != nil {
			return err
		}
		if _, err := t.Write(raw); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// sbom says which modules the programs are made of, as `go version -m` does.
func (r *release) sbom(w io.Writer, arch string, binaries []string) error {
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.at.Format(time.RFC3339),
		Component: &cyclonedx.Component{
			BOMRef: "dragoman", Type: cyclonedx.ComponentTypeApplication, Name: "dragoman", Version: r.version,
			PackageURL: "pkg:golang/github.com/dragoman-mt/dragoman@" + r.version + "?goarch=" + arch + "&goos=linux",
		},
	}
	found := map[string]cyclonedx.Component{}
	for _, b := range binaries {
		info, err := buildinfo.ReadFile(b)
		if err != nil {
			return err
		}
		found["std"] = cyclonedx.Component{BOMRef: "std", Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			ref := "pkg:golang/" + m.Path + "@" + m.Version
			c := cyclonedx.Component{BOMRef: ref, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: ref}
			if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
				if raw, err := base64.StdEncoding.DecodeString(sum); err == nil {
					c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
				}
			}
			found[ref] = c
		}
	}
	var components []cyclonedx.Component
	var refs []string
	for _, ref := range slices.Sorted(maps.Keys(found)) {
		components, refs = append(components, found[ref]), append(refs, ref)
	}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: "dragoman", Dependencies: &refs}}
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}

// pack makes a package, and returns its name.
func (r *release) pack(packager, arch string, all []file) (string, error) {
	scripts := filepath.Join(r.top, "cmd/internal/release", map[string]string{"deb": "debian", "rpm": "rpm"}[packager])
	info := &nfpm.Info{
		Name: "dragoman", Arch: arch, Platform: "linux", Version: r.version, VersionSchema: "none", Release: "1",
		Section: "net", Priority: "optional", Maintainer: maintainer, Vendor: "Dragoman", License: "Apache-2.0",
		Homepage: "https://github.com/dragoman-mt/dragoman", MTime: r.at, DisableGlobbing: true,
		Description: "translation gateway for live captions and texts\n" +
			"Dragoman stands between programs that translate and the services that do\n" +
			"so: one chain of stages, declared in a file, with a cache, limits, retries\n" +
			"and fallbacks. Clients of OpenAI, DeepL and LibreTranslate need one line.",
		Overridables: nfpm.Overridables{
			Recommends: map[string][]string{"deb": {"ca-certificates"}, "rpm": {"ca-certificates"}}[packager],
			RPM:        nfpm.RPM{BuildHost: "dragoman", Summary: "Translation gateway for live captions and texts", Compression: "zstd"},
			Deb:        nfpm.Deb{Compression: "gzip"},
			Scripts: nfpm.Scripts{
				PostInstall: filepath.Join(scripts, "postinst"), PreRemove: filepath.Join(scripts, "prerm"), PostRemove: filepath.Join(scripts, "postrm"),
			},
		},
	}
	for _, f := range all {
		if f.only != "" && f.only != packager {
			continue
		}
		to, kind := f.to, files.TypeFile
		switch {
		case f.config:
			kind = files.TypeConfigNoReplace
		case packager == "rpm" && strings.HasPrefix(to, "/usr/share/zsh/vendor-completions/"):
			to = "/usr/share/zsh/site-functions/_dragoman"
		}
		info.Contents = append(info.Contents, &files.Content{
			Source: f.from, Destination: to, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: cmp.Or(f.mode, 0o644), MTime: r.at},
		})
	}
	p, err := nfpm.Get(packager)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, packager); err != nil {
		return "", err
	}
	name := p.ConventionalFileName(info)
	return name, r.write(name, func(w io.Writer) error { return p.Package(info, w) })
}

// sum writes SHA256SUMS, for `sha256sum -c`.
func (r *release) sum(made []string) error {
	slices.Sort(made)
	return r.write("SHA256SUMS", func(w io.Writer) error {
		for _, name := range made {
			raw, err := os.ReadFile(filepath.Join(r.out, name))
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%x  %s\n", sha256.Sum256(raw), name)
			fmt.Printf("%8.1f MB  %s\n", float64(len(raw))/1e6, name)
		}
		return nil
	})
}
