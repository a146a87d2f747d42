package ricloud

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

// fixture is a file and the value that it must decode to.
type fixture struct {
	file string
	want any
	read func(t *testing.T, body []byte) any
}

func reads[T any](file string, want T) fixture {
	return fixture{file, &want, func(t *testing.T, body []byte) any {
		t.Helper()
		v := new(T)
		require.NoError(t, decode("Fixture.Get", body, v))
		return v
	}}
}

const (
	guideSession = "ed855b07-f72b-4983-ac1d-980fafee8a0b"
	guidePoll    = "f1447e76-59f1-486b-942f-6b90e3570c63"
	guideTask    = "6bdb82ad-28bf-4aad-ab2c-b4952a7aa3eb"
	guideResult  = "754cfef0-7576-44c0-acfe-8b0d8d0dd32f"
	checksum     = "2668324d21a20301ce71c28bc5e621d4"
)

// fixtures returns the fixtures of both API generations. Those of 2018 are copied from the vendor's
// guide; only a comma is fixed that made its organisation invalid JSON.
func fixtures() []fixture {
	octoberFirst := at("2018-10-01T17:04:34.160171Z")
	october := at("2019-10-02T12:59:57Z")
	november := at("2019-11-04T10:00:30Z")
	guideSessionOf := func(state SessionState, code ErrorCode) Session {
		return Session{
			ID: guideSession, Organisation: "1", User: "1", Source: Source{ID: "1"}, State: state,
			Error:       code,
			DateCreated: at("2018-11-22T13:50:12.628776Z"),
		}
	}
	guidePollOf := Poll{
		ID: guidePoll, Organisation: "1", Key: "1", User: "1", Source: "1", Session: guideSession,
		Type:         "data",
		TasksPending: []ID{}, TasksProcessing: []ID{guideTask}, TasksSucceeded: []ID{},
		Results: List[Result]{Data: []Result{}}, State: PollProcessing,
		DateCreated: at("2018-11-22T14:20:52.211618Z"), DateStarted: at("2018-11-22T14:20:52.731838Z"),
	}
	finished := guidePollOf
	finished.TasksProcessing, finished.TasksSucceeded = []ID{}, []ID{guideTask}
	finished.State = PollCompleted
	finished.DateCompleted = at("2018-11-22T14:20:53.548372Z")
	finished.unsorted = true
	finished.Results = List[Result]{Data: []Result{{
		ID: guideResult, Task: guideTask, Identifier: "data:info.account",
		URL:      "<your storage config url>",
		Checksum: checksum, Size: 12345, State: ResultAvailable,
		DateCreated: at("2018-11-22T14:20:53.506542Z"),
	}}}

	return []fixture{
		reads("2018/organisation.json", Organisation{
			ID: "1", Name: "Getting started", Slug: "getting-started",
			Permissions: Permissions{
				ID: "1", Identifier: "default", DateCreated: at("2018-11-22T12:59:57.168354Z"),
				Scopes: map[string][]ScopeLimit{
					"source_type:icloud.*": {}, "task_type:*": {},
					"data_type:icloud.account.info": {},
				},
			},
			StorageConfigs: List[StorageConfig]{Data: []StorageConfig{}},
			WebhookConfigs: List[WebhookConfig]{Data: []WebhookConfig{}},
			State:          OrganisationUnconfigured,
			DateCreated:    at("2018-11-22T12:59:57.016467Z"),
		}),
		reads("2018/organisation_configured.json", Organisation{
			ID: "1", Type: "standard", Name: "Getting started", Slug: "getting-started",
			StorageConfigs: List[StorageConfig]{Data: []StorageConfig{{
				ID: "1", Type: "local",
				URL: "gs://nonce", State: ConfigValid, DateCreated: octoberFirst,
			}}},
			StorageConfigDefault: "1",
			WebhookConfigs: List[WebhookConfig]{Data: []WebhookConfig{{
				ID: "1", Organisation: "1", URL: "https://example.com/webhooks", Secret: NewSecret("nonce"),
				State: ConfigValid, DateCreated: octoberFirst,
			}}},
			WebhookConfigDefault: "1", State: OrganisationActive, DateCreated: octoberFirst,
		}),
		reads("2018/key.json", Key{
			ID: "1", Organisation: "1", Type: "standard", StorageConfig: "1", WebhookConfig: "1",
			Token: NewSecret("nonce"),
			State: KeyActive, DateCreated: octoberFirst,
		}),
		reads("2018/user.json", User{
			ID: "1", Organisation: "1", Key: "1", Identifier: "<your user identifier>", State: UserActive,
			DateCreated: at("2018-11-22T13:49:37.215516Z"),
		}),
		reads("2018/list_users.json", List[User]{Data: []User{{
			ID: "1", Organisation: "1", Key: "1", Identifier: "customer-1", State: UserActive,
			DateCreated: at("2018-11-22T13:49:37.215516Z"),
		}}}),
		reads("2018/source.json", Source{
			ID: "1", User: "1", Type: SourceICloudAccount, Identifier: "john.appleseed@example.com",
			Children: List[Source]{Data: []Source{
				{ID: "2"}, {
					ID: "3", User: "1", Type: SourceICloudBackup, Identifier: "0b6cf9b5",
					State: SourceActive,
				},
			}},
			State: SourceActive, DateCreated: at("2018-11-22T13:50:12.628776Z"),
		}),
		reads("2018/session_pending.json", guideSessionOf(SessionPending, "")),
		reads("2018/session_failed.json", guideSessionOf(SessionFailed, CodeTwoFactorRequired)),
		reads("2018/session_succeeded.json", guideSessionOf(SessionActive, "")),
		reads("2018/poll_processing.json", guidePollOf),
		reads("2018/poll_finished.json", finished),
		reads("2018/task.json", Task{
			ID: guideTask, Organisation: "1", Key: "1", User: "1", Source: "1",
			SourceType: SourceICloudAccount,
			Session:    guideSession, Poll: guidePoll, Type: "data", Target: "callkit.calls",
			Results: List[Result]{Data: []Result{{ID: guideResult}}}, State: TaskSucceeded,
			DateCreated: at("2018-11-22T14:20:52.211618Z"), DateStarted: at("2018-11-22T14:20:52.731838Z"),
			DateCompleted: at("2018-11-22T14:20:53.548372Z"),
		}),
		reads("2018/event.json", Event{
			ID: "0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f", Type: "webhook_config", Action: "test",
			Data: Raw(`{"id":1,"resource":"webhook_config","url":"https://example.com/webhooks",` +
				`"state":"new"}`),
			State: EventPending, DateCreated: at("2018-11-22T14:20:53.548372Z"),
		}),

		reads("current/organisation.json", Organisation{
			ID: "1", Name: "Getting started", Slug: "getting-started", APIVersion: "2019-10-01",
			Config: PublishingConfig{PublishSourceFiles: new(true)},
			Permissions: Permissions{
				ID: "7", Organisation: "1", DateCreated: october,
				Scopes: map[string][]ScopeLimit{"source_type:icloud.account": {{
					Level: "user", Type: "count",
					Value: 3,
				}}, "task_type:*": nil},
			},
			StorageConfigs: List[StorageConfig]{Data: []StorageConfig{{
				ID: "2", Organisation: "1", Type: "s3", URL: "s3://my-bucket/results", SignedURLsEnabled: true,
				SignedURLsExpiry: time.Hour, State: ConfigValid, DateCreated: october,
			}}, TotalCount: 1, URL: "/configs/storage"},
			StorageConfigDefault: "2",
			WebhookConfigs:       List[WebhookConfig]{Data: []WebhookConfig{}, URL: "/configs/webhook"},
			State:                OrganisationActive, DateCreated: october,
		}),
		reads("current/key.json", Key{
			ID: "4", Organisation: "1", Type: "trial",
			Config: PublishingConfig{PublishSourceFiles: new(false)}, WebhookConfig: "5",
			Token: NewSecret("nonce"), State: KeyActive, DateCreated: october,
			DateExpires: at("2020-10-02T12:59:57Z"),
		}),
		reads("current/permissions.json", Permissions{
			ID: "8", Organisation: "1", DateCreated: october,
			Scopes: map[string][]ScopeLimit{
				"data_type:icloud.*": {
					{Level: "organisation", Type: "count", Value: 100},
					{Level: "key", Type: "count", Value: 10},
				},
				"file_type:*": {},
			},
		}),
		reads("current/user.json", User{
			ID: "12", Organisation: "1", Key: "4", Identifier: "customer-42", State: UserBlocked,
			DateCreated: october,
		}),
		reads("current/list_users.json", List[User]{
			Data: []User{{
				ID: "12", Organisation: "1", Key: "4", Identifier: "customer-42",
				State: UserBlocked, DateCreated: october,
			}},
			HasMore: true, URL: "/users",
		}),
		reads("current/source_relay.json", Source{
			ID: "31", User: "12", Type: SourceRelayInstance,
			Identifier: "b5d9f0c0-7a52-4c5e-8f0e-1d3a1b8cdb3e",
			Children: List[Source]{HasMore: true, URL: "/sources/31/children", Data: []Source{{
				ID: "32", User: "12", Type: SourceRelayDevice,
				Identifier: "3a1e6f2e-6a1b-44a5-9d4f-3f2f5b0c1e7d",
				Info: &SourceInfo{
					Name: "iPhone 8", IOSVersion: "13.2", AppleModelID: "iPhone10,4", AppleSerial: "FFABCZGTJC12",
					IsEncrypted: true,
				},
				Children: List[Source]{Data: []Source{}, URL: "/sources/32/children"},
				State:    SourceActive, DateCreated: at("2019-11-04T10:00:00Z"),
			}}},
			State: SourceActive, DateCreated: at("2019-11-04T09:59:00Z"),
		}),
		reads("current/session.json", Session{
			ID: "9f0c9d0e-54d4-4f5b-a2d5-0a6e4f5fd1c8", Organisation: "1", Key: "4", User: "12",
			Source: Source{
				ID: "30", User: "12", Type: SourceICloudAccount, Identifier: "jane.appleseed@example.com",
				State: SourceActive, DateCreated: at("2019-11-04T09:59:00Z"),
			},
			State: SessionActive, DateCreated: at("2019-11-04T10:00:00Z"),
		}),
		reads("current/session_expired.json", Session{
			ID: "9f0c9d0e-54d4-4f5b-a2d5-0a6e4f5fd1c8", Organisation: "1", Key: "4", User: "12",
			Source: Source{ID: "30"},
			State:  SessionExpired, Error: ExpiredByService, DateCreated: at("2019-11-04T10:00:00Z"),
			DateExpired: at("2019-11-05T10:00:00.5Z"),
		}),
		reads("current/poll.json", Poll{
			ID: "5b0a5f0b-9c5e-4b7a-8f40-8b2f1a5b6c7d", Organisation: "1", Key: "4", User: "12",
			Source:  "30",
			Session: "9f0c9d0e-54d4-4f5b-a2d5-0a6e4f5fd1c8", TasksPending: []ID{}, TasksProcessing: []ID{},
			TasksSuspended: []ID{"t-3"}, TasksSucceeded: []ID{"t-1"}, TasksFailed: []ID{"t-2"},
			Results: List[Result]{
				HasMore: true, TotalCount: 11, URL: "/polls/5b0a5f0b-9c5e-4b7a-8f40-8b2f1a5b6c7d/results",
				Data: []Result{{
					ID: "d5f2d1a0-3c52-4c3f-9c9e-1b2a3c4d5e6f", Organisation: "1",
					Poll: "5b0a5f0b-9c5e-4b7a-8f40-8b2f1a5b6c7d", Task: "t-1",
					Identifier: "callkit.calls", Type: "json", URL: "s3://my-bucket/results/callkit.calls.json",
					SignedURL: SignedURL{
						URL: NewSecret(
							"https://my-bucket.s3.amazonaws.com/results/callkit.calls.json?X-Amz-Signature=abc",
						),
						DateExpires: at("2020-02-29T11:59:15.110451Z"),
					},
					Checksum: checksum, Size: 12345, State: ResultAvailable,
					DateCreated: at("2019-11-04T10:01:00Z"),
				}},
			},
			Errors: List[PollFailure]{
				TotalCount: 3,
				URL:        "/polls/5b0a5f0b-9c5e-4b7a-8f40-8b2f1a5b6c7d/errors", Data: []PollFailure{
					{
						Code: CodeSessionExpired, Message: "The session has expired.",
						Raw: json.RawMessage(`{"resource": "error", "error": "session-expired",` +
							` "message": "The session has expired."}`),
					},
					{Code: "some-code", Raw: json.RawMessage(`"some-code"`)},
					{Raw: json.RawMessage(`7`)},
				},
			},
			State: PollCompleted, DateCreated: november, DateStarted: at("2019-11-04T10:00:31Z"),
			DateCompleted: at("2019-11-04T10:01:30Z"),
		}),
		reads("current/poll_failed.json", Poll{
			ID: "p-2", Organisation: "1", Key: "4", User: "12", Source: "30", Session: "s-1",
			Subscription: "sub-1",
			TasksFailed:  []ID{"t-9"}, State: PollFailed, Error: CodeSessionExpired, DateCreated: november,
		}),
		reads("current/task.json", Task{
			ID: "t-1", Organisation: "1", Key: "4", Type: "webhook_config.test", State: TaskSuspended,
			Error:   CodeMissingScope,
			Results: List[Result]{Data: []Result{}, URL: "/results?task=t-1"}, DateCreated: november,
		}),
		reads("current/result_consumed.json", Result{
			ID: "r-1", Organisation: "1", Poll: "p-1", Task: "t-1", Identifier: "a/b c",
			URL:      "gs://my-bucket/results/a%2Fb c",
			Checksum: checksum, State: ResultConsumed, DateCreated: at("2019-11-04T10:01:00Z"),
			DateConsumed: at("2019-11-04T10:02:00Z"), DateDeleted: at("2019-11-04T10:03:00Z"),
		}),
		reads("current/subscription.json", Subscription{
			ID: "sub-1", Organisation: "1", Source: "32", Session: "s-1",
			PollPayload: PollPayload{
				DataTypes:          []string{"ios_messages.messages", "whatsapp.messages"},
				PublishSourceFiles: new(true),
			},
			Interval: 24 * time.Hour, DateStart: november, State: SubscriptionPending, DateCreated: november,
		}),
		reads("current/event.json", Event{
			ID: "0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f", Type: "session", Action: "expired",
			Data:  Raw(`{"id":"s-1","resource":"session","state":"expired","error":"api"}`),
			State: EventDelivered, Retries: 2, DateCreated: november,
			DateDelivered: at("2019-11-04T10:00:31Z"),
		}),
		reads("current/storage_config.json", StorageConfig{
			ID: "2", Organisation: "1", Type: "gs", URL: "gs://my-bucket/results", State: ConfigInvalid,
			DateCreated: october,
		}),
		reads("current/webhook_config.json", WebhookConfig{
			ID: "5", Organisation: "1", URL: "https://www.mywebhook.com/webhooks/",
			Secret: NewSecret("nonce"), State: ConfigDeactivated, DateCreated: october,
		}),
	}
}

func TestFixtures(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, f := range fixtures() {
		used[filepath.FromSlash(f.file)] = true
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			body, err := os.ReadFile(filepath.Join("testdata", f.file))
			require.NoError(t, err)
			got := f.read(t, body)
			if event, ok := got.(*Event); ok {
				assert.Equal(t, string(body), string(event.Body))
				event.Body = nil
			}
			assert.Equal(t, f.want, got)
		})
		t.Run(f.file+" again", func(t *testing.T) {
			t.Parallel()
			// A value that is stored as JSON decodes to the same value. Values with a secret are not
			// encoded, so that no secret is shown or lost.
			stored, err := json.Marshal(f.want)
			if err != nil {
				require.Regexp(t, "is (never|not) encoded", err.Error())
				return
			}
			assert.NotContains(t, string(stored), `"[redacted]"`)
			again, err := json.Marshal(f.read(t, stored))
			require.NoError(t, err)
			assert.JSONEq(t, string(stored), string(again))
		})
	}
	for _, generation := range []string{"2018", "current"} {
		files, err := filepath.Glob(filepath.Join("testdata", generation, "*.json"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			rel, err := filepath.Rel("testdata", file)
			require.NoError(t, err)
			assert.True(t, used[rel], "%s is read by no test", rel)
		}
	}
}
