package tikv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/copradb/copra/internal/tracker"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limits of BatchCommands.
const (
	// batchRequestsMax requests of all streams are served, or refused, or have
	// answers that the client does not read, at a time; further ones wait in the
	// transport. requestCountMax comes first where clients read their answers.
	batchRequestsMax = 2 * requestCountMax
	// One stream has 1/batchStreamShare of them at most, so that a client that does
	// not read its answers waits alone.
	batchStreamShare = 8
	// batchIdleMax goroutines of a stream wait for its next requests.
	batchIdleMax = 32
	// batchResponsesMax answers go into one message.
	batchResponsesMax = 256
	// healthInterval is how often the store's health rides along.
	healthInterval = time.Second
)

type batchAnswer struct {
	id    uint64
	resp  *batchResponse
	bytes int64
}

// BatchCommands serves many requests over one stream. Answers go out as they
// come, in any order, with the ids of their requests.
func (s *Service) BatchCommands(stream tikvpb.Tikv_BatchCommandsServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	answers := make(chan batchAnswer, batchResponsesMax)
	sent := make(chan error, 1)
	go func() {
		sent <- s.sendAnswers(stream, answers)
		cancel() // nobody reads answers any more
	}()
	slots := batchSlots{s.batchSlots, make(chan struct{}, max(cap(s.batchSlots)/batchStreamShare, 1))}
	w := &batchWorkers{jobs: make(chan batchJob), serve: func(j batchJob) {
		defer slots.release()
		t := tracker.BeginQueued(ctx, j.received)
		defer t.Free()
		s.answer(t.Context(), j.id, j.req, answers)
	}}
	err := s.receiveBatches(ctx, stream, slots, w)
	if err != nil {
		cancel()
	}
	w.finish()
	close(answers)
	sendErr := <-sent
	for a := range answers { // the stream has failed
		s.inFlight.answers.Release(a.bytes)
	}
	cancel()
	if err == nil {
		err = sendErr
	}
	return err
}

// batchSlots are the places for requests: those of all streams, and of one.
type batchSlots struct{ all, own chan struct{} }

func (b batchSlots) acquire(ctx context.Context) error {
	for _, c := range [...]chan struct{}{b.own, b.all} {
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err() // the stream is over, and its own places with it
		}
	}
	return nil
}

func (b batchSlots) release() {
	<-b.all
	<-b.own
}

// receiveBatches serves every request on a goroutine of its own until the
// stream ends.
func (s *Service) receiveBatches(ctx context.Context, stream tikvpb.Tikv_BatchCommandsServer, slots batchSlots, w *batchWorkers) error {
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		received := tracker.Now()
		ids, requests := batch.GetRequestIds(), batch.GetRequests()
		if len(ids) != len(requests) {
			return status.Errorf(codes.InvalidArgument, "batch of %d requests has %d ids", len(requests), len(ids))
		}
		s.metrics.batchSize.Observe(float64(len(requests)))
		for i, req := range requests {
			if err := slots.acquire(ctx); err != nil {
				return err
			}
			w.start(batchJob{ids[i], req, received})
		}
	}
}

func (s *Service) answer(ctx context.Context, id uint64, req *batchRequest, answers chan<- batchAnswer) {
	resp, ok, known := s.dispatch(ctx, req)
	if !known {
		// There is no way to say so in one answer of a batch: the client has no
		// arm to look at. An empty one ends its wait with an error.
		s.log.Warn("a batched command is not supported", "type", commandName(req))
		resp, ok = &batchResponse{}, true
	}
	if !ok {
		return
	}
	a := batchAnswer{id, resp, int64(resp.Size())}
	s.inFlight.answers.hold(a.bytes)
	select {
	case answers <- a:
	case <-ctx.Done():
		s.inFlight.answers.Release(a.bytes)
	}
}

// sendAnswers sends what has come, many answers in one message if there are
// many, until answers is closed or the stream fails.
func (s *Service) sendAnswers(stream tikvpb.Tikv_BatchCommandsServer, answers <-chan batchAnswer) error {
	var lastHealth time.Time
	for a := range answers {
		msg := &tikvpb.BatchCommandsResponse{}
		var bytes int64
		add := func(a batchAnswer) {
			bytes += a.bytes
			msg.RequestIds = append(msg.RequestIds, a.id)
			msg.Responses = append(msg.Responses, a.resp)
		}
		add(a)
		for more := true; more && len(msg.Responses) < batchResponsesMax && bytes < answerMessageBytesMax; {
			select {
			case a, open := <-answers:
				if !open {
					more = false
				} else {
					add(a)
				}
			default:
				more = false
			}
		}
		now := time.Now()
		if asked := askedHealth(msg.Responses); asked != nil {
			msg.HealthFeedback, lastHealth = asked, now
		} else if now.Sub(lastHealth) >= healthInterval {
			msg.HealthFeedback, lastHealth = s.health(), now
		}
		msg.TikvSendTimeNs = uint64(now.UnixNano())
		err := stream.Send(msg)
		s.inFlight.answers.Release(bytes)
		if err != nil {
			return err
		}
	}
	return nil
}

// askedHealth is the newest health among the answers: who asks for it on a stream
// looks for it where it rides along, and not into the answer.
func askedHealth(answers []*batchResponse) (h *kvrpcpb.HealthFeedback) {
	for _, a := range answers {
		f := a.GetGetHealthFeedback().GetHealthFeedback()
		if f.GetFeedbackSeqNo() > h.GetFeedbackSeqNo() {
			h = f
		}
	}
	return h
}

// commandName names the arm of a request, for logs.
func commandName(req *batchRequest) string {
	if req.GetCmd() == nil {
		return "none"
	}
	return fmt.Sprintf("%T", req.GetCmd())
}
