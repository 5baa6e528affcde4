package tikv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/copradb/copra/internal/tracker"
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
	// batchResponsesMax answers go into one message.
	batchResponsesMax = 256
	// healthInterval is how often the store's health rides along.
	healthInterval = time.Second
)

type batchAnswer struct {
	id   uint64
	resp *batchResponse
}

// BatchCommands serves many requests over one stream. Answers go out as they
// come, in any order, with the ids of their requests.
func (s *Service) BatchCommands(stream tikvpb.Tikv_BatchCommandsServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var running sync.WaitGroup
	answers := make(chan batchAnswer, batchResponsesMax)
	sent := make(chan error, 1)
	go func() {
		sent <- s.sendAnswers(stream, answers)
		cancel() // nobody reads answers any more
	}()
	err := s.receiveBatches(ctx, stream, answers, &running)
	if err != nil {
		cancel()
	}
	running.Wait()
	close(answers)
	sendErr := <-sent
	cancel()
	if err == nil {
		err = sendErr
	}
	return err
}

// receiveBatches starts a goroutine for every request until the stream ends.
func (s *Service) receiveBatches(ctx context.Context, stream tikvpb.Tikv_BatchCommandsServer, answers chan<- batchAnswer, running *sync.WaitGroup) error {
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
			select {
			case s.batchSlots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			running.Add(1)
			go func() {
				defer running.Done()
				defer func() { <-s.batchSlots }()
				t := tracker.BeginQueued(ctx, received)
				defer t.Free()
				s.answer(t.Context(), ids[i], req, answers)
			}()
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
	select {
	case answers <- batchAnswer{id, resp}:
	case <-ctx.Done():
	}
}

// sendAnswers sends what has come, many answers in one message if there are
// many, until answers is closed or the stream fails.
func (s *Service) sendAnswers(stream tikvpb.Tikv_BatchCommandsServer, answers <-chan batchAnswer) error {
	var lastHealth time.Time
	for a := range answers {
		msg := &tikvpb.BatchCommandsResponse{}
		add := func(a batchAnswer) {
			msg.RequestIds = append(msg.RequestIds, a.id)
			msg.Responses = append(msg.Responses, a.resp)
		}
		add(a)
		for more := true; more && len(msg.Responses) < batchResponsesMax; {
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
		if now.Sub(lastHealth) >= healthInterval {
			msg.HealthFeedback, lastHealth = s.health(), now
		}
		msg.TikvSendTimeNs = uint64(now.UnixNano())
		if err := stream.Send(msg); err != nil {
			return err
		}
	}
	return nil
}

// commandName names the arm of a request, for logs.
func commandName(req *batchRequest) string {
	if req.GetCmd() == nil {
		return "none"
	}
	return fmt.Sprintf("%T", req.GetCmd())
}
