// Package sessions is the load test that the gateway was planned with: a few
// live sessions, each a steady trickle of texts, and the question whether the
// slowest of them still gets its translations in time.
//
// It drives whole programs from outside, a gateway and the simulated upstream
// as child processes, because that is what an operator runs: what a benchmark
// in process leaves out (sockets, JSON, start-up, the garbage of a long run) is
// in its figures. It lives beside the command because it serves nothing else,
// and in a package of its own because the command's files should stay as short
// as the commands they are.
//
// # The load
//
// Requests come at times that were drawn before the run and do not wait for
// answers, so a slow gateway gets no lighter load and no delay hides another.
// The arrivals of a session are a Poisson process at its rate: sessions are
// people who know nothing of each other, and of all processes with a given mean
// this one assumes least. It also brings what a metronome never does, several
// requests within one min_interval. Texts have the lengths of live captions, and
// are all different, so that each is a call upstream, unless a share of repeats
// is asked for.
//
// Cells with as many sessions have the same arrivals and texts, their upstreams
// the same draws, and they run at the same time, on gateways of their own: what
// else the machine does hits all of them. A p99 wants a thousand requests a
// cell; at the planned rate that is ten minutes, whatever the number of cells.
//
// # The figures
//
// Latency is what the caller sees, from sending to the last byte. What the
// upstream took by itself is known from the simulator's book, joined by request
// id, and one round trip; the rest, without the wait for min_interval, is what
// the gateway added. In mode direct that is above all the new connection. Percentiles
// are exact: nearest rank over all samples.
package sessions
