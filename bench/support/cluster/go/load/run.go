package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// callTimeout bounds one call: a cluster that hangs ends the run.
const callTimeout = 20 * time.Second

// afterError keeps a caller from spinning on a server that fails at once.
const afterError = 10 * time.Millisecond

// plan says which calls are made. All times count from the start of the run.
type plan struct {
	system, op, prefix                     string
	endpoints                              []string
	callers, connections, valueBytes, keys int
	seconds, warm                          time.Duration
	rate                                   float64
}

// result is what a run prints. Times are in milliseconds.
type result struct {
	// Answers in all, with those outside the time that counts.
	Calls int `json:"calls"`
	Puts  int `json:"puts"`
	// Answers a second within the time that counts.
	Rate float64 `json:"rate"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	// Seconds from the first call to the last answer.
	Elapsed float64 `json:"elapsed"`
	// CPU time of this process for each answer, in microseconds.
	CallerMicros float64 `json:"callerMicros"`
	Errors       int     `json:"errors"`
	FirstError   string  `json:"firstError,omitempty"`
	// Open loop: calls that no caller was free to make before the run ended. Each counts with the
	// time that it had waited by then.
	Unsent int `json:"unsent"`
}

// run is the state that all callers share.
type run struct {
	plan
	protocol
	conns             []*grpc.ClientConn
	value             []byte
	start, from, end  time.Time
	cutOff            time.Time
	next, inTime      atomic.Int64
	puts, failed      atomic.Int64
	unsent, firstOnly atomic.Int64
	firstError        string
}

func (p plan) run() (*result, error) {
	protocol, known := protocols[p.system]
	if !known || !slices.Contains([]string{"put", "get", "stale", "mixed", "fill"}, p.op) {
		return nil, fmt.Errorf("no such system or operation: %s %s", p.system, p.op)
	}
	r := &run{plan: p, protocol: protocol, value: make([]byte, p.valueBytes)}
	rand.Read(r.value)
	for at := range connectionCount(p.callers, p.connections, len(p.endpoints)) {
		conn, err := dial(p.endpoints[at%len(p.endpoints)])
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		conn.Connect()
		r.conns = append(r.conns, conn)
	}
	r.start = time.Now()
	r.from = r.start.Add(p.warm)
	r.end = r.from.Add(p.seconds)
	// An open loop that is overloaded gets half of the time again to catch up.
	r.cutOff = r.end.Add(p.seconds / 2)

	took := make([][]time.Duration, p.callers)
	var callers sync.WaitGroup
	for caller := range p.callers {
		callers.Go(func() { took[caller] = r.call(caller) })
	}
	callers.Wait()
	return r.summary(slices.Concat(took...))
}

// connectionCount is the same for each endpoint, and no more than the callers can use.
func connectionCount(callers, connections, endpoints int) int {
	even := (connections + endpoints - 1) / endpoints * endpoints
	return max(endpoints, min(callers, even))
}

// call is one caller: it makes its next call when it has the answer to the last one, on the next
// connection. It returns how long the calls took that began, or in an open loop were to begin, in
// the time that counts.
func (r *run) call(caller int) []time.Duration {
	var took []time.Duration
	for turn := caller; ; turn++ {
		key, began, more := r.nextCall()
		if !more {
			return took
		}
		counts := r.op == "fill" || !began.Before(r.from)
		if r.rate > 0 && time.Now().After(r.cutOff) {
			r.unsent.Add(1)
			if counts {
				took = append(took, time.Since(began))
			}
			continue
		}
		if err := r.make(r.conns[turn%len(r.conns)], key); err != nil {
			r.fail(err)
			continue
		}
		answered := time.Now()
		if counts {
			took = append(took, answered.Sub(began))
		}
		if !answered.Before(r.from) && !answered.After(r.end) {
			r.inTime.Add(1)
		}
	}
}

// nextCall returns a key and when its call begins. In an open loop it waits for that moment, which
// may be past: such a call has waited for a caller.
func (r *run) nextCall() (key []byte, began time.Time, more bool) {
	number := int(r.next.Add(1)) - 1
	key = fmt.Appendf(nil, "%s%08d", r.prefix, mathrand.IntN(r.keys))
	began = time.Now()
	switch {
	case r.op == "fill":
		return fmt.Appendf(nil, "%s%08d", r.prefix, number), began, number < r.keys
	case r.rate > 0:
		began = r.start.Add(time.Duration(float64(number) / r.rate * float64(time.Second)))
		if !began.Before(r.end) {
			return nil, began, false
		}
		time.Sleep(time.Until(began))
		return key, began, true
	default:
		return key, began, began.Before(r.end)
	}
}

func (r *run) make(conn *grpc.ClientConn, key []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	isPut := r.op == "put" || r.op == "fill" || (r.op == "mixed" && mathrand.IntN(10) == 0)
	if !isPut {
		return r.getKey(ctx, conn, key, r.op == "stale")
	}
	r.puts.Add(1)
	return r.putKey(ctx, conn, key, r.value)
}

func (r *run) fail(err error) {
	r.failed.Add(1)
	if r.firstOnly.Add(1) == 1 {
		r.firstError = err.Error()
	}
	time.Sleep(afterError)
}

func (r *run) summary(took []time.Duration) (*result, error) {
	elapsed := time.Since(r.start)
	if len(took) == 0 {
		return nil, fmt.Errorf("no call was answered; first error: %s", r.firstError)
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		index := int(math.Floor(share * float64(len(took)-1)))
		return float64(took[index].Microseconds()) / 1000
	}
	rate := float64(r.inTime.Load()) / r.seconds.Seconds()
	if r.op == "fill" {
		rate = float64(len(took)) / elapsed.Seconds()
	}
	calls := int(r.next.Load()) - r.callers - int(r.failed.Load()) - int(r.unsent.Load())
	return &result{
		Calls: calls, Puts: int(r.puts.Load()), Rate: rate, P50: at(0.5), P99: at(0.99), Max: at(1),
		Elapsed: elapsed.Seconds(), CallerMicros: cpuMicros() / float64(max(calls, 1)),
		Errors: int(r.failed.Load()), FirstError: r.firstError, Unsent: int(r.unsent.Load()),
	}, nil
}

// cpuMicros is the CPU time that this process has taken.
func cpuMicros() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1000
}
