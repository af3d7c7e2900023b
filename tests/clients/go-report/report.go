// Package report is what the Go clients' programs share: the lines that they print, the addresses
// that they collect and the numbered series of records. It knows no Kafka library.
// What is printed is described in tests/clients/README.md.
package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	Partitions      = 6
	RecordsPerTag   = 60
	WaitMax         = 30 * time.Second
	scenarioTimeMax = 150 * time.Second
)

// Run is one pass through the scenario.
type Run struct {
	Ctx       context.Context
	Bootstrap []string
	Topic     string
	ClientID  string

	failed  bool
	mu      sync.Mutex
	told    map[string]bool
	dialled map[string]bool
}

// Main runs the scenario against the bootstrap servers of the command line and exits.
func Main(client, modulePath string, scenario func(*Run)) {
	if len(os.Args) < 2 {
		fmt.Fprintf(os.Stderr, "usage: %s BOOTSTRAP --out json\n", client)
		os.Exit(2)
	}
	version := moduleVersion(modulePath)
	ctx, cancel := context.WithTimeout(context.Background(), scenarioTimeMax)
	defer cancel()
	id := fmt.Sprintf("conformance-%s-%s", client, version)
	r := &Run{
		Ctx:       ctx,
		Bootstrap: strings.Split(os.Args[1], ","),
		Topic:     fmt.Sprintf("%s-%d", id, time.Now().UnixNano()),
		ClientID:  id,
		told:      map[string]bool{},
		dialled:   map[string]bool{},
	}
	emit(map[string]any{"client": client, "version": version})
	scenario(r)
	emit(map[string]any{"told": sorted(r.told)})
	emit(map[string]any{"dialled": sorted(r.dialled)})
	if r.failed {
		os.Exit(1)
	}
}

func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == path {
				return strings.TrimPrefix(d.Version, "v")
			}
		}
	}
	return "unknown"
}

func sorted(m map[string]bool) []string {
	out := []string{}
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func emit(v map[string]any) {
	line, _ := json.Marshal(v)
	fmt.Println(string(line))
}

// Step runs one step and prints its result.
func (r *Run) Step(name string, f func() (string, error)) bool {
	detail, err := f()
	if err != nil {
		r.failed = true
		emit(map[string]any{"step": name, "ok": false, "detail": strings.TrimSpace(detail + " " + err.Error())})
		return false
	}
	emit(map[string]any{"step": name, "ok": true, "detail": detail})
	return true
}

// Unsupported says that the library has no such thing.
func (r *Run) Unsupported(name, reason string) {
	emit(map[string]any{"step": name, "unsupported": reason})
}

// Told records an address that the library learnt from the cluster.
func (r *Run) Told(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told[address] = true
}

// DialContext connects, and records every address that is tried, also where nobody answers.
func (r *Run) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	r.dialled[address] = true
	r.mu.Unlock()
	return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
}

// Dial is DialContext for libraries whose dialers have no context.
func (r *Run) Dial(network, address string) (net.Conn, error) {
	return r.DialContext(r.Ctx, network, address)
}

// Eventually waits until f holds.
func (r *Run) Eventually(what string, f func() bool) error {
	ctx, cancel := context.WithTimeout(r.Ctx, WaitMax)
	defer cancel()
	for !f() {
		if ctx.Err() != nil {
			return errors.New("never seen: " + what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// Series checks that each tag's records are read back whole and in order, partition by partition.
type Series struct {
	tags    []string
	failure map[string]error
	next    map[string]int
	twice   map[string]int
	missing int
}

func NewSeries() *Series {
	return &Series{failure: map[string]error{}, next: map[string]int{}, twice: map[string]int{}}
}

// Value is the n-th of a tag's records; it belongs into partition n modulo Partitions.
func (s *Series) Value(tag string, n int) []byte {
	return []byte(fmt.Sprintf("%s:%d:%s", tag, n/Partitions, strings.Repeat("evenkeel", 20)))
}

// Produced notes that a tag was produced, or why not.
func (s *Series) Produced(tag string, err error) {
	s.tags = append(s.tags, tag)
	if err != nil {
		s.failure[tag] = err
		return
	}
	s.missing += RecordsPerTag
}

// Complete says whether as many records were seen as were produced.
func (s *Series) Complete() bool { return s.missing <= 0 }

// Seen takes the next record of a partition.
func (s *Series) Seen(partition int32, value []byte) {
	tag, rest, _ := strings.Cut(string(value), ":")
	var seq int
	if _, err := fmt.Sscanf(rest, "%d:", &seq); err != nil {
		return
	}
	key := fmt.Sprintf("%s/%d", tag, partition)
	if seq < s.next[key] && !strings.HasSuffix(tag, "_idempotent") {
		// Without idempotence a retry may write twice, as on a cluster that has just started; order is judged by the first appearance.
		s.twice[tag]++
		return
	}
	s.missing--
	if seq != s.next[key] && s.failure[tag] == nil {
		s.failure[tag] = fmt.Errorf("partition %d: record %d where %d was due", partition, seq, s.next[key])
	}
	s.next[key]++
}

// Report prints a step for each tag.
func (s *Series) Report(r *Run) {
	for _, tag := range s.tags {
		r.Step(tag, func() (string, error) {
			if err := s.failure[tag]; err != nil {
				return "", err
			}
			for p := 0; p < Partitions; p++ {
				if n := s.next[fmt.Sprintf("%s/%d", tag, p)]; n != RecordsPerTag/Partitions {
					return "", fmt.Errorf("partition %d: %d of %d records read back", p, n, RecordsPerTag/Partitions)
				}
			}
			if n := s.twice[tag]; n > 0 {
				return fmt.Sprintf("%d records, %d of them twice", RecordsPerTag, n), nil
			}
			return fmt.Sprintf("%d records", RecordsPerTag), nil
		})
	}
}
