package ricloud

import "sync/atomic"

// Stats counts what a Client does and has done since it was made. See [Client.Stats].
type Stats struct {
	// Requests to the API, retries included, and what came of them.
	Sent         int64
	Retries      int64 // of those sent
	Succeeded    int64 // answers below 400
	Refused      int64 // answers of 400 or more, except the next two
	RateLimited  int64 // 429
	ServerErrors int64 // 500 and more
	NoAnswer     int64 // no usable answer came

	InFlight     int64 // requests to the API now
	TurnsWaiting int64 // requests that wait for their turn now

	// QuotaLeft is the rest of this hour's quota, if no other client uses it: 10,000
	// requests or what WithRateLimit allows in an hour, less those sent in the last 60 minutes.
	QuotaLeft int64

	Waits         int64 // in progress now
	ReadsByShare  int64 // reads that were saved because one request served several waits
	ReadsByEvents int64 // changes that waits were told of without a read

	Downloads       int64 // in progress now
	Verified        int64 // downloads that ended with the published size and MD5
	Unverified      int64 // downloads that ended in another way
	BytesDownloaded int64 // from storage
	Resumes         int64 // broken connections to storage that were resumed
}

// counts are the counters behind Stats that the transport does not keep.
type counts struct {
	waits, readsByEvents                      atomic.Int64
	downloads, verified, unverified, received atomic.Int64
	resumes                                   atomic.Int64
}

// quotaPerHour is what an organisation may send, by the API's own documentation.
const quotaPerHour = 10_000

// Stats returns the counts so far. It makes no request, is cheap, and is safe at any time. The
// fields are not all read at the same instant.
func (c *Client) Stats() Stats {
	t := c.transport.Stats()
	n := c.counts
	return Stats{
		Sent: t.Sent, Retries: t.Retries, Succeeded: t.Succeeded, Refused: t.Refused,
		RateLimited: t.RateLimited, ServerErrors: t.ServerError, NoAnswer: t.NoAnswer,
		InFlight: t.InFlight, TurnsWaiting: t.TurnsWanted, QuotaLeft: max(0, c.quota-t.LastHour),
		Waits: n.waits.Load(), ReadsByShare: c.waits.shared(), ReadsByEvents: n.readsByEvents.Load(),
		Downloads: n.downloads.Load(), Verified: n.verified.Load(), Unverified: n.unverified.Load(),
		BytesDownloaded: n.received.Load(), Resumes: n.resumes.Load(),
	}
}
