// Package openaitest is an OpenAI-compatible server for tests, benchmarks and
// the program openai-sim: chat completions, plain and streaming, and models,
// with the latencies, limits, faults and bad habits of the real thing.
//
// The zero Config is a plain HTTP/1.1 server on a free port of 127.0.0.1 that
// answers at once with a pseudo-translation:
//
//	sim, err := openaitest.Start(openaitest.Config{})
//	defer sim.Close()
//	sim.FailNext(2, openaitest.Error500) // the next two calls fail, the third succeeds
//
// What it answers comes from an Engine. The text is the last user message; the
// languages are read from the system message, which must name them as
// "from English (en) to Spanish (es)", or "to Spanish (es)" alone.
//
// Beside the API stand GET and POST /sim/config, and GET and DELETE /sim/stats.
package openaitest
