package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"edgegateway/broker"
)

func named(source string, n int) item {
	return item{msg: broker.Message{Topic: fmt.Sprint(n)}, source: source}
}

func topics(items []item) (list []string) {
	for _, it := range items {
		list = append(list, it.source+it.msg.Topic)
	}
	return list
}

func TestQueuePolicies(t *testing.T) {
	for name, c := range map[string]struct {
		policy policy
		want   []string
		left   map[string]int
	}{
		"drop-oldest": {dropOldest, []string{"a2", "b2", "c0"}, map[string]int{queueFull: 4}},
		"latest":      {latest, []string{"b2", "c0", "d0"}, map[string]int{superseded: 3, queueFull: 1}},
	} {
		q := newQueue(c.policy, 3)
		var batch []item
		for range 3 { // the buffers change places
			left := map[string]int{}
			list := []item{named("a", 0), named("b", 0), named("b", 1), named("a", 1), named("a", 2), named("b", 2), named("c", 0)}
			if c.policy == latest {
				list = append(list[:4], named("b", 2), named("c", 0), named("d", 0))
			}
			for _, it := range list {
				why, ok := q.push(t.Context(), it)
				if !ok {
					t.Fatal("refused")
				}
				if why != "" {
					left[why]++
				}
			}
			batch = q.take(batch)
			if got := topics(batch); !cmp.Equal(got, c.want) || !cmp.Equal(left, c.left) {
				t.Errorf("%s: %v, left %v, want %v, %v", name, got, left, c.want, c.left)
			}
		}
	}
}

// A full queue that blocks lets the publisher go on when the worker takes,
// when the queue is closed, and when the intake ends.
func TestQueueBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(block, 2)
		ctx, stop := context.WithCancel(t.Context())
		pushed := make(chan bool)
		push := func(n int) {
			_, ok := q.push(ctx, named("a", n))
			pushed <- ok
		}
		for i := range 3 {
			go push(i)
			if i < 2 {
				<-pushed
			}
		}
		synctest.Wait()
		select {
		case <-pushed:
			t.Fatal("a full queue took one more")
		default:
		}
		if got := topics(q.take(nil)); !cmp.Equal(got, []string{"a0", "a1"}) {
			t.Errorf("took %v", got)
		}
		if ok := <-pushed; !ok {
			t.Error("refused after there was room")
		}
		go push(3)
		<-pushed
		go push(4)
		synctest.Wait()
		stop()
		if ok := <-pushed; ok {
			t.Error("taken though the intake has ended")
		}
		q.close()
		if got := topics(q.take(nil)); !cmp.Equal(got, []string{"a2", "a3"}) {
			t.Errorf("after close %v", got)
		}
		if q.take(nil) != nil {
			t.Error("a closed, empty queue gave something")
		}
		// Nobody takes it any more: who brings it learns of that, and counts it.
		if _, ok := q.push(t.Context(), named("a", 5)); ok {
			t.Error("a closed queue took something")
		}
	})
}

// Many publishers and one worker: all arrive, each publisher's in order.
func TestQueueOrder(t *testing.T) {
	q := newQueue(block, 7)
	const publishers, each = 8, 2000
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				q.push(t.Context(), named(fmt.Sprint(p), i))
			}
		})
	}
	go func() { wg.Wait(); q.close() }()
	next := map[string]int{}
	var batch []item
	for {
		if batch = q.take(batch); batch == nil {
			break
		}
		for _, it := range batch {
			if it.msg.Topic != fmt.Sprint(next[it.source]) {
				t.Fatalf("source %s: got %s, want %d", it.source, it.msg.Topic, next[it.source])
			}
			next[it.source]++
		}
	}
	for p := range publishers {
		if next[fmt.Sprint(p)] != each {
			t.Errorf("publisher %d: %d arrived", p, next[fmt.Sprint(p)])
		}
	}
}
