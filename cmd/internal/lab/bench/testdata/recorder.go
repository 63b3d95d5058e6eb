package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// SIGUSR1 begins a CPU profile, SIGUSR2 ends it.
func init() {
	file := os.Getenv("DRAGOMAN_BENCH_PROFILE")
	begin, end := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	signal.Notify(end, syscall.SIGUSR2)
	go func() {
		<-begin
		f, err := os.Create(file + ".part")
		if err != nil {
			panic(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			panic(err)
		}
		<-end
		pprof.StopCPUProfile()
		f.Close()
		os.Rename(file+".part", file)
	}()
}
