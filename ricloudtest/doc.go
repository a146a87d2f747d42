// Package ricloudtest is a ricloud API for tests: every endpoint, resource, state and error of the
// v3 contract, in memory.
//
// A [Server] answers in two ways. As an [http.RoundTripper] it needs no socket and, inside
// testing/synctest, runs on the bubble's clock. Over loopback HTTP, at its [Server.URL], it answers
// clients in any language.
//
// A server starts with the accounts of [DefaultAccounts], a key with [Server.Token], and a storage
// to publish to, whose objects are served at signed URLs on a host of their own. Options change
// every part: accounts, delays, API generation, permissions, webhooks and faults. A [Scenario] is a
// set of options in a file. [WithReceiver] delivers webhooks to your handler in memory, and
// [Server.Deliver] sends it an event of your choice. [Server.Calls] lists the requests that came.
//
// Beside the API, a listening server has an admin API and a page under /_sandbox/, for tests in
// other languages. The file docs/sandbox.md of the repository describes them.
//
// # Drift
//
// [Record] is an [http.RoundTripper] that writes real traffic as redacted fixtures, and [CheckDir]
// compares fixtures with the contract. Together they show where the contract, and so this package,
// is wrong.
//
// # Assumptions
//
// Where the contract is silent, the sandbox has chosen. The code that depends on a choice is marked
// "Assumption" with the name from this list.
//
//   - api-version: the organisation's api_version is a date.
//   - await: Ricloud-Await may be a fraction, text counts as 0, and a value above the longest
//     wait counts as the longest wait.
//   - batch-acknowledge: POST /results/ack takes {"results": ["id"]}, acknowledges all or
//     nothing, and answers with a list of the results.
//   - config-delete: a deleted config answers as deactivated, is gone from lists, and nothing
//     refers to it any more.
//   - credentials: a bucket accepts credentials that have the fields of their kind, unless
//     WithStorageKey names the only ones.
//   - error-codes: the codes for a missing token, an unknown resource, a rate limit, wrong
//     credentials, a locked or deactivated account, a failed config test and a failed publication
//     are the sandbox's own.
//   - error-params: "params" maps a parameter's dotted name to a sentence.
//   - error-statuses: validation, unconfigured and session-expired answer 400; scopes, limits and
//     what is not allowed answer 403.
//   - event-receivers: an event without a valid webhook config is recorded and stays pending, and
//     a later config does not receive it; events of one moment may arrive in any order.
//   - first-config: the first valid config of a kind becomes the default where there is none.
//   - interval: a subscription polls first as soon as it is active, and then at most once a
//     minute, or once an hour for Relay, as the contract says.
//   - isolation: every key of an organisation reads and changes all of its resources.
//   - limits: limits on source types count the sources that were made; all others count tasks.
//   - lists: newest first, exclusive cursors, unknown filters ignored, total_count counts what the
//     indexed filters match, and date filters spelled date_created__gt, __gte, __lt and __lte.
//   - missing-data: a data type that an account lacks is an empty document; a file that it lacks
//     fails its task.
//   - object-names: objects are named <storage url>/<poll>/<result>.
//   - period: since and until compare with each record's "date", until exclusive.
//   - permission-params: permissions are created with "scopes" and, to apply them, "key".
//   - poll-errors: items have task, error and message, and the list's url answers with the same
//     list.
//   - poll-failed: a poll that fails as a whole has the state failed and an error; its event is
//     poll.completed.
//   - poll-tasks: each data type, info type and file has one task, which publishes one result,
//     named after the type or the file ("data:" and the type in the 2018 generation).
//   - rate-limit: a fixed window, 429 and no Retry-After; too many polls in flight answer 429 as
//     well.
//   - rotation: the old token ends at once, or after the seconds in "expire".
//   - session-delete: deleting a session expires it with the cause "organisation".
//   - session-task: a session's own task is of type session.create.
//   - source-files: with publish_source_files, ios_messages.messages from Relay has a second
//     result, sms.db of type db; other data types have none.
//   - state-updates: an organisation may activate and deactivate keys, users and sources, and set
//     no other state.
//   - stopped: a deactivated or blocked organisation, user or source answers reads; new work
//     answers 403.
//   - suspended: a suspended task continues by itself.
//   - unmentioned-scopes: a scope type that no scope mentions is not restricted.
//   - user-identity: a user's identifier is unique in the organisation, whatever the key.
//   - webhook-retries: retries come after 1, 10, 30 and 120 minutes.
//   - webhook-success: any 2xx within ten seconds is a delivery.
//   - webhook-test: the test of a webhook config is sent once.
package ricloudtest
