package gateway

import (
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/state"
)

// A presence keeps a running gateway where this user's commands find it, in its
// state folder: a socket, and an address that names it. On a disk that is full, in
// a folder that was removed, it comes back as soon as it can.
type presence struct {
	past    state.Folder
	address state.Address
	serve   func(net.Listener) // until it is closed
	persist func()             // writes what else could not be written
	log     *zap.Logger

	socket   net.Listener
	withdraw func() error
	told     bool // the log says that it is not found
}

// presenceEvery is how often it is looked after.
const presenceEvery = 10 * time.Second

// begin announces the gateway, and goes on doing so until end is called.
func (p *presence) begin() (end func()) {
	p.look()
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		every := time.NewTicker(presenceEvery)
		defer every.Stop()
		for {
			select {
			case <-stop:
				p.leave()
				return
			case <-every.C:
				p.look()
				p.persist()
			}
		}
	})
	return func() { close(stop); running.Wait() }
}

// look announces the gateway where it is not.
func (p *presence) look() {
	if p.withdraw != nil && p.socket != nil && p.past.Announced(p.address) {
		return
	}
	p.leave()
	err := p.announce()
	switch {
	case err == nil && p.told:
		p.log.Info("`dragoman reload` and its like find this gateway again")
	case err != nil && !p.told:
		p.log.Warn("`dragoman reload` and its like do not find this gateway; it is tried again until they do", zap.Error(err))
	}
	p.told = err != nil
}

func (p *presence) announce() error {
	socket, name, err := p.past.Listen()
	if err != nil {
		// Over HTTP it may be reached all the same.
		p.address.Socket = ""
		p.withdraw, _ = p.past.Announce(p.address)
		return err
	}
	p.address.Socket = name
	if p.withdraw, err = p.past.Announce(p.address); err != nil {
		socket.Close()
		return err
	}
	p.socket = socket
	p.serve(socket)
	return nil
}

// leave takes back what announce has done.
func (p *presence) leave() {
	if p.withdraw != nil {
		if err := p.withdraw(); err != nil {
			p.log.Debug("withdrawing the address", zap.Error(err))
		}
		p.withdraw = nil
	}
	if p.socket != nil {
		p.socket.Close()
		p.socket = nil
	}
}
