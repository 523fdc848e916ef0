package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"edgegateway/infer/train"
	"edgegateway/internal/link"
)

// demoSite is a gateway of the demonstration with the desk in front of it, and
// what is counted of its answers. A piece of paper on the desk has a number of its
// own: t and digits where an inspector says what it is, p and digits where nobody
// does.
type demoSite struct {
	name, digits, dir, local, web string
	child                         *child
	shard                         []int // of the digits that are taught, those that are told here
	asked                         []int // of the digits that are asked, those that lie here, again and again

	mu      sync.Mutex
	sent    map[string]bool       // pieces whose picture was published
	ids     map[string]string     // of each answer, by piece
	twice   int                   // answers beyond the first of a piece, of other ids
	again   int                   // pictures that were sent again, for a kill lost them
	scores  map[string]*demoScore // by version, of the pieces that nobody told
	round   map[string]int        // of which a version was made
	refused map[int]string        // why a round's model was not wanted here
}

type demoScore struct{ right, asked int }

func newDemoSite(name, digits, dir, local, web string) *demoSite {
	return &demoSite{
		name: name, digits: digits, dir: dir, local: local, web: web,
		sent: map[string]bool{}, ids: map[string]string{}, scores: map[string]*demoScore{}, round: map[string]int{}, refused: map[int]string{},
	}
}

// shards deals the digits that are taught: each gateway gets its own, of the kinds
// that it has, as many as the task wants.
func (d *demoFL) shards() [][]int {
	shards := make([][]int, len(demoGateways))
	for i, label := range d.taught.Labels {
		at := -1
		for k, g := range demoGateways {
			if strings.Contains(g.digits, strconv.Itoa(int(label))) && len(shards[k]) < d.task.Data.Minimum && (at < 0 || len(shards[k]) < len(shards[at])) {
				at = k
			}
		}
		if at >= 0 {
			shards[at] = append(shards[at], i)
		}
	}
	return shards
}

// demoRate is how many pictures a second each camera sends.
const demoRate = 60

// work is the camera and the inspector of a gateway. told is called when the gateway
// recorded what the inspector told; then come pieces that nobody tells, until
// d.desks is closed.
func (s *demoSite) work(ctx context.Context, d *demoFL, told func()) error {
	conn, err := d.await(ctx, s.local)
	if err != nil {
		return err
	}
	defer func() { conn.Close() }()
	if err := s.tell(ctx, conn, d.taught); err != nil {
		return err
	}
	told()
	tick := time.NewTicker(time.Second / demoRate)
	defer tick.Stop()
	var last []link.Msg  // that were sent, the newest at the end
	var doubt []link.Msg // of them, those that the gateway may have had in hand when the link ended
	var after link.Msg   // the first that it took when it was back
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// Answers come up in their order: what has none now was in memory alone.
		if doubt != nil && s.has(after) {
			for _, m := range doubt {
				if !s.has(m) && conn.Publish(ctx, m) == nil {
					s.repeated()
				}
			}
			doubt = nil
		}
		select {
		case <-d.desks:
			if doubt == nil {
				return nil
			}
			if after.Topic != "" {
				continue
			}
		default:
		}
		m, err := photograph(d.asked, s.asked[i%len(s.asked)], fmt.Sprintf("p%05d", i))
		if err != nil {
			return err
		}
		err = conn.Publish(ctx, m)
		s.published(m)
		last = append(last[max(0, len(last)-demoRate):], m)
		i++
		if err == nil {
			if doubt != nil && after.Topic == "" {
				after = m
			}
			continue
		}
		// Its gateway is away.
		conn.Close()
		for ctx.Err() == nil {
			next, err := link.Connect(ctx, link.Config{URL: "tcp://" + s.local, ClientID: "camera"})
			if err == nil {
				conn = next
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		doubt, after = last, link.Msg{}
	}
}

// tell sends the shard: of each piece first what it is, then its picture. It
// returns when the gateway has recorded all.
func (s *demoSite) tell(ctx context.Context, conn *link.Conn, d *train.Dataset) error {
	var msgs []link.Msg
	for n, i := range s.shard {
		m, err := photograph(d, i, fmt.Sprintf("t%05d", n))
		if err != nil {
			return err
		}
		label := link.Msg{Topic: "inspector/desk/" + piece(m), Payload: []byte(d.Classes[d.Labels[i]]), QoS: 1}
		if msgs = append(msgs, label, m); len(msgs) < 100 && n < len(s.shard)-1 {
			continue
		}
		if _, err := conn.Window(ctx, msgs); err != nil {
			return err
		}
		for _, m := range msgs {
			if strings.HasPrefix(m.Topic, "camera/") {
				s.published(m)
			}
		}
		msgs = msgs[:0]
	}
	for {
		status, err := readStatus(ctx, "http://"+s.web)
		if err == nil && len(status.Sets) == 1 && status.Sets[0].Samples >= len(s.shard) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// photograph is the message that a camera sends of a piece.
func photograph(d *train.Dataset, i int, piece string) (link.Msg, error) {
	file, err := digitPNG(d, i)
	return link.Msg{Topic: "camera/desk/" + piece, Payload: file, QoS: 1}, err
}

func piece(m link.Msg) string { return m.Topic[strings.LastIndexByte(m.Topic, '/')+1:] }

func (s *demoSite) published(m link.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[piece(m)] = true
}

// has says whether a picture has its answer.
func (s *demoSite) has(m link.Msg) bool {
	if m.Topic == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[piece(m)] != ""
}

func (s *demoSite) repeated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again++
}

// answered takes a result. The link may bring it again, with the same id.
func (s *demoSite) answered(payload []byte, asked *train.Dataset) {
	var r struct{ ID, Source, Label, Version string }
	if json.Unmarshal(payload, &r) != nil || r.ID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.ids[r.Source]; ok {
		if id != r.ID {
			s.twice++
		}
		return
	}
	s.ids[r.Source] = r.ID
	var i int
	if n, _ := fmt.Sscanf(r.Source, "p%d", &i); n == 0 {
		return // it was taught, or will be
	}
	score := s.scores[r.Version]
	if score == nil {
		score = &demoScore{}
		s.scores[r.Version] = score
	}
	score.asked++
	if r.Label == asked.Classes[asked.Labels[s.asked[i%len(s.asked)]]] {
		score.right++
	}
}

// version takes what is said of the model's versions.
func (s *demoSite) version(payload []byte) {
	var v struct{ Step, Of, Why string }
	round := 0
	if json.Unmarshal(payload, &v) != nil {
		return
	}
	if n, _ := fmt.Sscanf(v.Why, "made of round %d", &round); n == 1 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.round[v.Of] = round
	}
}

// lost are the pieces without an answer.
func (s *demoSite) lost() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for piece := range s.sent {
		if s.ids[piece] == "" {
			n++
		}
	}
	return n
}

// of gives what the model of a round answered, and whether the gateway has a later
// one, or did not want this.
func (s *demoSite) of(round int) (score demoScore, past bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for version, v := range s.scores {
		switch made := s.round[version]; { // the file of the configuration: 0
		case made == round:
			score.asked += v.asked
			score.right += v.right
		case made > round:
			past = true
		}
	}
	for made := range s.refused {
		past = past || made >= round
	}
	return score, past
}

// looked notes what became of a new model.
func (s *demoSite) looked(ctx context.Context) {
	status, err := readStatus(ctx, "http://"+s.web)
	if err != nil || status.FL == nil || len(status.FL.Tasks) != 1 {
		return // it is away
	}
	if m := status.FL.Tasks[0].Model; m != nil && m.State == "refused" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused[m.Round] = m.Why
	}
}

// percent is a share as the table shows it.
func (v demoScore) percent() float64 { return 100 * float64(v.right) / float64(max(v.asked, 1)) }
