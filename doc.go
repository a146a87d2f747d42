// Package ricloud is a client for version 3 of Reincubate's ricloud API: with
// an account owner's consent, it logs in to an iCloud account or a device,
// polls it for data, and hands over the results as verified files and signed
// events.
//
// # The journey
//
// An organisation holds keys, whose tokens authenticate. A user is an end user
// of yours. A session logs in to a source. A poll asks the source for data,
// with tasks that publish results as files in your own bucket:
//
//	client, err := ricloud.NewClient(token)
//	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
//	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
//		Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com"},
//		Payload: ricloud.SessionPayload{Password: password},
//	}, func(ctx context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) { return ask(c.Attempt) })
//	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
//		Session: session.ID,
//		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
//	})
//	for result, err := range client.Polls.Results(ctx, poll.ID) { // while the poll still runs
//		saved, err := client.Results.Save(ctx, result, dir) // size and MD5 verified, atomic, resumable
//		_, err = client.Results.Acknowledge(ctx, result.ID)
//	}
//
// The examples folder has whole programs: a quickstart, a backend that gets
// the two-factor code in a later request, a webhook receiver, a fleet.
//
// # Services
//
// A [Client] has a service for each resource, with the verbs the resource has:
// Get, Create, Update, Delete, List for one page and All for every page.
// What takes time has Wait, which returns the last state it saw whatever the
// error, and Watch, which yields each change. An endpoint this package does
// not know is reached with [Client.Call].
//
// # Waiting
//
// All waits of a client share their requests: a few resources are read one by
// one, many by list pages, and those that events tell of ([Client.Notify])
// hardly ever. They take a fifth of the quota at most, and yield to other
// calls when WithRateLimit is short. The goroutine that serves them is there
// while anything waits. A wait outlives ten minutes in which the API cannot be
// read. One that ends with its context can be taken up again later, in another
// process, with the id alone.
//
// # Errors
//
// Errors are found by meaning, with errors.Is and the Err… values, and by
// detail, with errors.AsType. An error of an ended context is its cause and
// its Err; the client's own timeouts are context.DeadlineExceeded, too, and
// leave ctx.Err() nil.
//
//   - [*Error]: the API answered 400 or more.
//   - [*CallError]: no usable answer came. MaybeApplied says whether the API
//     may have acted all the same.
//   - [*DecodeError]: an answer does not fit its Go type.
//   - [*AcknowledgeError]: an AcknowledgeAll did not reach all results.
//   - [*StateError]: a resource ended in failure, or a poll completed with
//     tasks that did not succeed.
//   - [*ParamError]: a parameter was refused before any request.
//
// # What is sent twice, and what never is
//
// Reads, deletes, updates, acknowledgements, config tests and Users.Create
// (which returns an existing user) are tried again when they fail in passing.
// Other creates, and Keys.Rotate, are sent once, unless it is proven that the
// API did not act: no connection was made, or it answered 429. A session
// created twice would prompt the account's owner twice.
//
// # Limits and times
//
// One attempt takes 30 seconds at most, a whole call 2 minutes; a body that
// falls silent for 30 seconds is given up, and one of more than 32 MiB is
// refused. A call is tried again 4 times, after waits that double from half a
// second to 30 seconds at most, drawn at random; a Retry-After of up to a
// minute is obeyed. Each has an [Option].
//
// # Versions of the API
//
// The API's documents disagree about shapes: ids are strings or numbers,
// nested lists arrays or objects, a session's source an id or a resource. All
// variants read into the same Go types. Unknown fields, states and codes never
// fail a call; [WithResponse] gives the raw answer.
//
// # Secrets
//
// A [Secret] prints as [redacted], and encoders fail on it. No error, log
// record or dump of this package holds a token, password, code, credential,
// webhook secret or signed query.
package ricloud
