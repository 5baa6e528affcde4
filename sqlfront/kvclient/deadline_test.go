package kvclient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadline(t.Context(), time.Minute)
		if at, ok := d.Deadline(); !ok || time.Until(at) != time.Minute || d.Err() != nil {
			t.Fatal(at, ok, d.Err())
		}
		done := d.Done()
		time.Sleep(time.Minute - 1)
		select {
		case <-done:
			t.Fatal("it ended early")
		default:
		}
		<-done
		if d.Err() != context.DeadlineExceeded || context.Cause(d) != context.DeadlineExceeded {
			t.Fatal(d.Err(), context.Cause(d))
		}
		d.stop()
	})
}

// TestDeadlineNotAwaited has nobody who asks for Done before the end.
func TestDeadlineNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := newDeadline(t.Context(), time.Minute)
		time.Sleep(time.Minute)
		if late.Err() != context.DeadlineExceeded {
			t.Fatal(late.Err())
		}
		<-late.Done()
		late.stop()

		over := newDeadline(t.Context(), time.Minute)
		over.stop()
		if over.Err() != context.Canceled {
			t.Fatal(over.Err())
		}
		<-over.Done()
		if over.Err() != context.Canceled {
			t.Fatal(over.Err())
		}
	})
}

// TestDeadlineOfCaller ends with its caller, for the caller's reason.
func TestDeadlineOfCaller(t *testing.T) {
	reason := errors.New("the session is gone")
	for _, waits := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		d := newDeadline(ctx, time.Hour)
		if waits {
			d.Done()
		}
		cancel(reason)
		<-d.Done()
		if d.Err() != context.Canceled || context.Cause(d) != reason {
			t.Fatal(d.Err(), context.Cause(d))
		}
		d.stop()
	}
	short, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want, _ := short.Deadline()
	if at, ok := newDeadline(short, time.Hour).Deadline(); !ok || !at.Equal(want) {
		t.Fatal(at, ok, want)
	}
}
