// Package ricloud is a client for version 3 of Reincubate's ricloud API. With the consent of an
// account's owner, it logs in to an iCloud account or a device, polls it for data, and delivers
// the results as verified files and signed events.
//
// # The journey
//
// An organisation holds keys, and the token of a key authenticates each call. A user is an end
// user of yours. A session logs in to a source, such as the user's iCloud account. A poll asks the
// source for data. Its tasks publish results, which are files in your own bucket:
//
//	client, err := ricloud.NewClient(token)
//	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
//	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
//		Source: ricloud.SourceParams{
//			User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com",
//		},
//		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret(password)},
//	}, func(ctx context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
//		return askForCode(ctx, c.Attempt)
//	})
//	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
//		Session: session.ID,
//		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
//	})
//	for result, err := range client.Polls.Results(ctx, poll.ID) { // while the poll still runs
//		saved, err := client.Results.Save(ctx, result, dir) // verified by size and MD5
//		_, err = client.Results.Acknowledge(ctx, result.ID)
//	}
//
// The examples folder has whole programs. Among them are a quickstart, a backend that gets the
// two-factor code in a later request, a webhook receiver, and a fleet of many accounts.
//
// # Services
//
// A [Client] has a service for each kind of resource. Services have the methods that their
// resource supports: Get, Create, Update, Delete, List for one page, and All for every page.
// Sessions, polls, tasks and subscriptions also have Watch, which yields each change, and Wait,
// which returns when the resource is ready or has failed. [Client.Call] reaches an endpoint that
// this package does not know.
//
// # Waiting
//
// The waits of a client share their requests, so that many of them cost little. Together they use
// at most a fifth of the quota, and your own calls go first. Webhook events that you pass to
// [Client.Notify] replace most of the reads. A wait tolerates ten minutes of failed reads. A wait
// whose context ended can be started again with the ID alone, also by another process.
//
// # Events
//
// The API reports each change as an event. [NewWebhookHandler] receives signed deliveries and
// handles each event once. [WebhookHandler.Replay] handles those that were missed, and
// [EventsService.Watch] reads events where no webhook can reach the program. The file
// docs/events.md explains what each guarantees.
//
// # Errors
//
// Use errors.Is with the Err… values to find out what an error means, and errors.AsType with
// these types for its details:
//
//   - [*ParamError]: a parameter or an option was refused. Nothing was sent.
//   - [*Error]: the API answered with a status of 400 or more.
//   - [*CallError]: a call ended without an answer that can be used. Its MaybeApplied method
//     reports whether the API may have acted on the request.
//   - [*DecodeError]: an answer is not JSON, or a field that matters has the wrong type.
//   - [*StateError]: a resource ended in failure, or a poll completed with tasks that failed.
//   - [*AcknowledgeError]: AcknowledgeAll did not acknowledge all results.
//   - [*DownloadError]: a result could not be downloaded or verified.
//   - [*StorageError]: a storage service answered with a status of 400 or more.
//   - [*RecordError]: a data result is damaged, or a record does not fit its Go type.
//
// When a context ends, errors.Is matches both context.Cause(ctx) and ctx.Err(). The client's own
// timeouts match context.DeadlineExceeded and leave ctx.Err() nil.
//
// # Retries
//
// Reads, deletes, updates, acknowledgements, config tests and Users.Create, which returns an
// existing user, are retried after a temporary failure. Other creates and Keys.Rotate are sent
// once, unless it is certain that the API did not act on the request. A session that is created
// twice would prompt the owner of the account twice.
//
// # Limits
//
// An attempt takes at most 30 seconds, and a call at most 2 minutes. An answer may pause for at
// most 30 seconds and be at most 32 MiB long. A call is retried at most 4 times. The pauses between
// attempts are random and grow from half a second to 30 seconds. A Retry-After header of up to a
// minute is obeyed. Each of these limits has an [Option].
//
// # Versions of the API
//
// Versions of the API disagree about types: an ID can be a string or a number, a list inside a
// resource an array or an object, the source of a session an ID or a resource. All of them are
// read into the same Go types. Unknown fields, states and codes never fail a call. A field of an
// unexpected type is left empty and reported to the logger and to [DecodeHook], unless the call or
// a wait depends on it. [WithResponse] returns the answer as it came. The file docs/contract.md
// says what is known of the API, and how sure it is.
//
// # Secrets
//
// A [Secret] prints as [redacted], and encoders fail on it. No error, log record or printed value
// of this package shows a token, a password, a code, a credential, a webhook secret or a signed
// URL.
package ricloud
