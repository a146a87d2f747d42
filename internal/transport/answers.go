package transport

import (
	"sync/atomic"
	"time"
)

// leastAnswerTime is the shortest time that an answer is expected to take.
const leastAnswerTime = time.Second

// answerTimes estimates how long the API takes to answer: the longest recent
// time, which each shorter answer reduces by an eighth. A request is not sent
// when less time than that is left for its answer.
type answerTimes struct{ longest atomic.Int64 }

// add notes how long an answer took, less the time for which the API was asked
// to hold it back.
func (a *answerTimes) add(took time.Duration) {
	longest := time.Duration(a.longest.Load())
	if took > longest {
		a.longest.Store(int64(took))
		return
	}
	if longest > leastAnswerTime {
		a.longest.Store(int64(longest - (longest-took)/8))
	}
}

// typical returns the time that is kept for an answer.
func (a *answerTimes) typical() time.Duration {
	return max(leastAnswerTime, time.Duration(a.longest.Load()))
}
