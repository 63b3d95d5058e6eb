package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// recorder is a file that is laid over the gateway's sources when it is built
// to be profiled: the product itself has no way to be.
//
//go:embed testdata/recorder.go
var recorder []byte

// recorderEnv tells the recorder where to write.
const recorderEnv = "DRAGOMAN_BENCH_PROFILE"

// buildRecorder builds a gateway that can be profiled and uses that one.
func (s *lab) buildRecorder() error {
	if err := os.MkdirAll(s.profiles, 0o755); err != nil {
		return err
	}
	dir, err := filepath.Abs(filepath.Join("cmd", "dragoman"))
	if err != nil {
		return err
	}
	source := filepath.Join(s.temp, "recorder.go")
	if err := os.WriteFile(source, recorder, 0o644); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(dir, "recorder_overlay.go"): source}})
	if err != nil {
		return err
	}
	file := filepath.Join(s.temp, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o644); err != nil {
		return err
	}
	s.dragoman = filepath.Join(s.temp, "dragoman")
	out, err := exec.Command("go", "build", "-overlay", file, "-o", s.dragoman, "./cmd/dragoman").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building a gateway to profile: %w: %s", err, out)
	}
	return os.Setenv(recorderEnv, filepath.Join(s.temp, "cpu.pprof"))
}

// record starts a CPU profile of p, when profiles are wanted, and returns what
// ends it and keeps it as name. Profiling costs a few per cent; a figure taken
// with it is no figure.
func (s *lab) record(p *child, name string) (finish func()) {
	if s.profiles == "" {
		return func() {}
	}
	p.cmd.Process.Signal(syscall.SIGUSR1)
	return func() {
		p.cmd.Process.Signal(syscall.SIGUSR2)
		written := os.Getenv(recorderEnv)
		for range 500 { // it appears when it is whole
			if os.Rename(written, filepath.Join(s.profiles, name+".pprof")) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Fprintln(os.Stderr, "no profile was written:", p.said)
	}
}
