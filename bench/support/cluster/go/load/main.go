// Command load makes the same unary gRPC calls to an etcd or a Cairn cluster. It prints, as one line
// of JSON, the number of answers and the time that they took.
//
// It encodes the few messages itself, and uses the same connections, keys and loops for both
// systems, so that only the servers differ.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	var p plan
	flag.StringVar(&p.system, "system", "etcd", "etcd or cairn")
	endpoints := flag.String("endpoints", "", "host:port,host:port; the connections are spread over them")
	flag.StringVar(&p.op, "op", "put", "put, get, stale (a serializable get), mixed (9 gets, 1 put), or fill (each key once)")
	flag.IntVar(&p.callers, "callers", 128, "calls in flight, at most")
	flag.IntVar(&p.connections, "connections", 8, "connections in all, at most one a caller")
	seconds := flag.Float64("seconds", 3, "time that counts")
	warm := flag.Float64("warm", 1, "time before it, in seconds, that does not count")
	flag.IntVar(&p.valueBytes, "value", 256, "bytes of a value")
	flag.IntVar(&p.keys, "keys", 10_000, "number of keys")
	flag.StringVar(&p.prefix, "prefix", "key-", "what the keys begin with")
	flag.Float64Var(&p.rate, "rate", 0, "open loop: calls a second, each measured from its intended start")
	flag.Parse()
	p.endpoints = strings.Split(*endpoints, ",")
	p.seconds = time.Duration(*seconds * float64(time.Second))
	p.warm = time.Duration(*warm * float64(time.Second))

	result, err := p.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
