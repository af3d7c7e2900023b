// The conformance scenario with franz-go: kgo for data, kadm for administration.
// What it prints is described in tests/clients/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"evenkeel.test/clients/report"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const partitions = report.Partitions

type run struct {
	*report.Run
}

func (r *run) client(opts ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{
		kgo.SeedBrokers(r.Bootstrap...),
		kgo.ClientID(r.ClientID),
		kgo.Dialer(r.DialContext),
	}
	c, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		panic(err)
	}
	return c
}

func (r *run) learn(c *kgo.Client) {
	brokers, err := kadm.NewClient(c).ListBrokers(r.Ctx)
	if err != nil {
		return
	}
	for _, b := range brokers {
		r.Told(fmt.Sprintf("%s:%d", b.Host, b.Port))
	}
}

func main() {
	if report.Loads() {
		report.MainLoad("franz-go", "github.com/twmb/franz-go", load)
	}
	if report.Consumes() {
		report.MainConsume("franz-go", "github.com/twmb/franz-go", consume)
	}
	if report.Copies() {
		report.MainCopy("franz-go", "github.com/twmb/franz-go", copyAll)
	}
	report.Main("franz-go", "github.com/twmb/franz-go", func(r *report.Run) { (&run{r}).scenario() })
}

func (r *run) scenario() {
	c := r.client()
	defer c.Close()
	adm := kadm.NewClient(c)
	created := r.Step("create_topic", func() (string, error) {
		resp, err := adm.CreateTopics(r.Ctx, partitions, 3, nil, r.Topic)
		if err != nil {
			return "", err
		}
		return "", resp[r.Topic].Err
	})
	if !created {
		return
	}
	r.produceAndReadBack()
	r.groupRebalance()
	r.commitAndResume(adm)
	r.seekByTime(adm)
	r.transaction(adm)
	r.Step("list_groups", func() (string, error) {
		groups, err := adm.ListGroups(r.Ctx)
		if err != nil {
			return "", err
		}
		if _, ok := groups[r.Topic+"-commit"]; !ok {
			return "", fmt.Errorf("%s is not among %v", r.Topic+"-commit", groups.Groups())
		}
		return fmt.Sprintf("%d groups", len(groups)), nil
	})
	r.Step("describe_cluster", func() (string, error) {
		m, err := adm.BrokerMetadata(r.Ctx)
		if err != nil {
			return "", err
		}
		if len(m.Brokers) < 3 || m.Controller < 0 {
			return "", fmt.Errorf("brokers %v, controller %d", m.Brokers, m.Controller)
		}
		return fmt.Sprintf("%d brokers", len(m.Brokers)), nil
	})
	r.learn(c)
	r.Step("delete_topic", func() (string, error) {
		resp, err := adm.DeleteTopics(r.Ctx, r.Topic)
		if err != nil {
			return "", err
		}
		if err := resp[r.Topic].Err; err != nil {
			return "", err
		}
		for r.Ctx.Err() == nil {
			topics, err := adm.ListTopics(r.Ctx)
			if err != nil {
				return "", err
			}
			if !topics.Has(r.Topic) {
				return "", nil
			}
			time.Sleep(100 * time.Millisecond)
		}
		return "", errors.New("still listed")
	})
}

var codecs = []struct {
	name  string
	codec kgo.CompressionCodec
}{
	{"none", kgo.NoCompression()},
	{"gzip", kgo.GzipCompression()},
	{"snappy", kgo.SnappyCompression()},
	{"lz4", kgo.Lz4Compression()},
	{"zstd", kgo.ZstdCompression()},
}

// produceAndReadBack writes a series for each way of producing and reads all of them in one go.
func (r *run) produceAndReadBack() {
	series := report.NewSeries()
	for _, codec := range codecs {
		for _, idempotent := range []bool{false, true} {
			tag := "produce_" + codec.name
			opts := []kgo.Opt{kgo.ProducerBatchCompression(codec.codec), kgo.RecordPartitioner(kgo.ManualPartitioner())}
			if idempotent {
				tag += "_idempotent"
			} else {
				opts = append(opts, kgo.DisableIdempotentWrite())
			}
			c := r.client(opts...)
			var records []*kgo.Record
			for n := 0; n < report.RecordsPerTag; n++ {
				records = append(records, &kgo.Record{Topic: r.Topic, Partition: int32(n % partitions), Value: series.Value(tag, n)})
			}
			series.Produced(tag, c.ProduceSync(r.Ctx, records...).FirstErr())
			r.learn(c)
			c.Close()
		}
	}
	c := r.client(kgo.ConsumeTopics(r.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
	defer cancel()
	for !series.Complete() && ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(func(rec *kgo.Record) { series.Seen(rec.Partition, rec.Value) })
	}
	r.learn(c)
	series.Report(r.Run)
}

// member is one consumer of a group that keeps polling and knows what it is assigned.
type member struct {
	c    *kgo.Client
	mu   sync.Mutex
	has  map[int32]bool
	stop context.CancelFunc
	done chan struct{}
}

func (r *run) join(group string) *member {
	m := &member{has: map[int32]bool{}, done: make(chan struct{})}
	update := func(add bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, ps map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, p := range ps[r.Topic] {
				if add {
					m.has[p] = true
				} else {
					delete(m.has, p)
				}
			}
		}
	}
	m.c = r.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(r.Topic), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(update(true)), kgo.OnPartitionsRevoked(update(false)), kgo.OnPartitionsLost(update(false)))
	ctx, stop := context.WithCancel(r.Ctx)
	m.stop = stop
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			m.c.PollFetches(ctx)
		}
	}()
	return m
}

func (m *member) leave() {
	m.stop()
	<-m.done
	m.c.Close()
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.has)
}

func (r *run) groupRebalance() {
	r.Step("group_rebalance", func() (string, error) {
		group := r.Topic + "-rebalance"
		a := r.join(group)
		defer a.leave()
		if err := r.Eventually("all partitions at the only member", func() bool { return a.count() == partitions }); err != nil {
			return "", err
		}
		b := r.join(group)
		err := r.Eventually("half the partitions at each of two members", func() bool { return a.count() == partitions/2 && b.count() == partitions/2 })
		b.leave()
		if err != nil {
			return "", err
		}
		return "6, 3+3, 6", r.Eventually("all partitions back at the first member", func() bool { return a.count() == partitions })
	})
}

func (r *run) commitAndResume(adm *kadm.Client) {
	r.Step("commit_resume", func() (string, error) {
		group := r.Topic + "-commit"
		// The commit is a member's own, so that it carries a generation.
		c := r.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(r.Topic), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if fetches := c.PollFetches(r.Ctx); fetches.Err() != nil {
			c.Close()
			return "", fetches.Err()
		}
		var err error
		committed := map[string]map[int32]kgo.EpochOffset{r.Topic: {}}
		for p := int32(0); p < partitions; p++ {
			committed[r.Topic][p] = kgo.EpochOffset{Epoch: -1, Offset: int64(p + 3)}
		}
		c.CommitOffsetsSync(r.Ctx, committed, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, e error) {
			err = e
			if e != nil {
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					if p.ErrorCode != 0 {
						err = fmt.Errorf("commit of partition %d: error %d", p.Partition, p.ErrorCode)
					}
				}
			}
		})
		c.Close()
		if err != nil {
			return "", err
		}
		fetched, err := adm.FetchOffsets(r.Ctx, group)
		if err != nil {
			return "", err
		}
		if o, ok := fetched.Lookup(r.Topic, 2); !ok || o.At != 5 {
			return "", fmt.Errorf("partition 2 is committed at %v, not 5", o.At)
		}
		c = r.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(r.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer c.Close()
		first := map[int32]int64{}
		ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
		defer cancel()
		for len(first) < partitions && ctx.Err() == nil {
			c.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
				if _, seen := first[rec.Partition]; !seen {
					first[rec.Partition] = rec.Offset
				}
			})
		}
		for p := int32(0); p < partitions; p++ {
			if at, ok := first[p]; !ok || at != int64(p+3) {
				return "", fmt.Errorf("partition %d resumed at %d, seen %v, committed %d", p, at, ok, p+3)
			}
		}
		return "", nil
	})
}

func (r *run) seekByTime(adm *kadm.Client) {
	r.Step("seek_by_time", func() (string, error) {
		p := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		defer p.Close()
		start := time.Now().Add(time.Minute).Truncate(time.Millisecond)
		var want int64
		for i := 0; i < 3; i++ {
			rec, err := p.ProduceSync(r.Ctx, &kgo.Record{Topic: r.Topic, Partition: 1, Timestamp: start.Add(time.Duration(i) * time.Second), Value: []byte("timed")}).First()
			if err != nil {
				return "", err
			}
			if i == 1 {
				want = rec.Offset
			}
		}
		at := start.Add(500 * time.Millisecond)
		listed, err := adm.ListOffsetsAfterMilli(r.Ctx, at.UnixMilli(), r.Topic)
		if err != nil {
			return "", err
		}
		if o, ok := listed.Lookup(r.Topic, 1); !ok || o.Offset != want {
			return "", fmt.Errorf("listed offset %d, wanted %d", o.Offset, want)
		}
		c := r.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: {1: kgo.NewOffset().AfterMilli(at.UnixMilli())}}))
		defer c.Close()
		for r.Ctx.Err() == nil {
			for _, rec := range c.PollFetches(r.Ctx).Records() {
				if rec.Offset != want {
					return "", fmt.Errorf("first record at %d, wanted %d", rec.Offset, want)
				}
				return "", nil
			}
		}
		return "", r.Ctx.Err()
	})
}

func (r *run) transaction(adm *kadm.Client) {
	r.Step("transaction", func() (string, error) {
		ends, err := adm.ListEndOffsets(r.Ctx, r.Topic)
		if err != nil {
			return "", err
		}
		c := r.client(kgo.TransactionalID(r.Topic+"-txn"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		defer c.Close()
		for _, end := range []struct {
			value  string
			commit kgo.TransactionEndTry
		}{{"committed", kgo.TryCommit}, {"aborted", kgo.TryAbort}, {"committed-2", kgo.TryCommit}} {
			if err := c.BeginTransaction(); err != nil {
				return "begin", err
			}
			for i := 0; i < 12; i++ {
				if err := c.ProduceSync(r.Ctx, &kgo.Record{Topic: r.Topic, Partition: int32(i % partitions), Value: []byte(end.value)}).FirstErr(); err != nil {
					return "produce " + end.value, err
				}
			}
			if err := c.EndTransaction(r.Ctx, end.commit); err != nil {
				return "end " + end.value, err
			}
		}
		from := map[string]map[int32]kgo.Offset{r.Topic: {}}
		ends.Each(func(o kadm.ListedOffset) { from[r.Topic][o.Partition] = kgo.NewOffset().At(o.Offset) })
		reader := r.client(kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		defer reader.Close()
		seen := map[string]int{}
		ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
		defer cancel()
		for seen["committed-2"] < 12 && ctx.Err() == nil {
			reader.PollFetches(ctx).EachRecord(func(rec *kgo.Record) { seen[string(rec.Value)]++ })
		}
		if seen["committed"] != 12 || seen["aborted"] != 0 || seen["committed-2"] != 12 {
			return "", fmt.Errorf("a read_committed consumer saw %v", seen)
		}
		return "24 committed seen, 12 aborted not", nil
	})
}
