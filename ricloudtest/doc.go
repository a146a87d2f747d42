// Package ricloudtest is a ricloud API that fits in a test: every endpoint,
// resource, state and error of the v3 contract, in memory.
//
// A [Server] answers as an [http.RoundTripper], with no socket and, inside
// testing/synctest, on the bubble's clock; and over loopback HTTP, for a client
// in any language, from its URL on.
//
// It starts with the accounts of [DefaultAccounts], a key with [Server.Token],
// and a storage to publish to, whose objects are served at signed URLs on a
// host of their own. Options change every part: accounts, delays, API
// generation, permissions, webhooks, faults. [Server.Calls] tells afterwards
// what was asked.
//
// # Assumptions
//
// Where the contract is silent the sandbox has chosen. Code that depends on one
// of these choices is marked "Assumption:".
//
//   - Errors: the names of the codes for a missing token, an unknown resource,
//     a rate limit, wrong credentials, a locked or deactivated account, a failed
//     config test and a failed publication are the sandbox's own. Validation,
//     unconfigured and session-expired answer 400; scopes and limits 403.
//     "params" maps a parameter's dotted name to a sentence.
//   - Rate limit: a fixed window, 429, no Retry-After. Too many polls in flight
//     for a session answer 429 as well.
//   - Lists: newest first; cursors exclusive; unknown filters ignored;
//     total_count is what the indexed filters leave; date filters are spelled
//     date_created__gt, __gte, __lt, __lte.
//   - A poll has one task for each data type, info type and file, and each task
//     publishes one result. Its identifier is the type or the file ID ("data:"
//     and the type in the 2018 generation). A data type that the account lacks
//     is an empty document; a file that it lacks fails its task.
//   - Objects are named <storage url>/<poll>/<result>.
//   - Items of poll.errors have task, error and message. Suspended tasks go on
//     by themselves. A session's own task is of type "session.create".
//   - Deleting a session expires it with the cause "organisation". Deleted
//     configs answer as deactivated and are gone from lists.
//   - POST /results/ack takes {"results": ["id"]}, acknowledges all or nothing,
//     and answers with a list of the results.
//   - Keys: rotation ends the old token at once, or after the seconds in
//     "expire". Permissions are created with "scopes" and, to bind them, "key".
//     A scope type that no scope mentions is not restricted. Source limits
//     count sources made; the others count tasks.
//   - The first valid storage or webhook config becomes the default where there
//     is none.
//   - Subscriptions poll first as soon as they are active; without an interval,
//     once a day.
//   - Webhooks: any 2xx within ten seconds is a delivery; retries come after 1,
//     10, 30 and 120 minutes; events without a valid webhook config are not
//     recorded; a config's test is sent once. Events of one moment may arrive
//     in any order.
//   - Ricloud-Await may be a fraction; more than the most allowed is clamped.
package ricloudtest
