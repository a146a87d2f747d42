package cli

import (
	"context"
	"fmt"
	"iter"
	"net/url"

	ricloud "github.com/reincubate/ricloud-go"
)

// configChecks looks at the configs that the key uses.
func (a *app) configChecks(
	ctx context.Context, client *ricloud.Client, org *ricloud.Organisation, key *ricloud.Key,
) iter.Seq[check] {
	return func(yield func(check) bool) {
		storage := first(key.StorageConfig, org.StorageConfigDefault)
		webhook := first(key.WebhookConfig, org.WebhookConfigDefault)
		if !yield(storageCheck(ctx, client, storage)) || !yield(bucketCheck(ctx, client)) {
			return
		}
		yield(webhookCheck(ctx, client, webhook))
	}
}

func first(ids ...ricloud.ID) ricloud.ID {
	for _, id := range ids {
		if id != "" {
			return id
		}
	}
	return ""
}

func storageCheck(ctx context.Context, client *ricloud.Client, id ricloud.ID) check {
	if id == "" {
		return check{
			"storage", "failed", "no storage config is the default",
			"ricloud storage ensure s3://BUCKET/FOLDER --credentials FILE --default",
		}
	}
	config, err := client.StorageConfigs.Get(ctx, id)
	if err != nil {
		return check{"storage", "failed", oneLine(err.Error()), "ricloud storage list"}
	}
	c := check{
		"storage", "ok", fmt.Sprintf("config %s for %s is %s", id, config.URL, config.State),
		"",
	}
	if config.State != ricloud.ConfigValid {
		c.State, c.Next = "failed", "ricloud storage test "+string(id)
	}
	return c
}

// bucketCheck reads the newest result's object, to see that this machine can.
func bucketCheck(ctx context.Context, client *ricloud.Client) check {
	for result, err := range client.Results.All(ctx,
		ricloud.ResultListParams{ListParams: ricloud.ListParams{Limit: 1}}) {
		if err != nil {
			return check{"bucket", "failed", oneLine(err.Error()), "ricloud results list"}
		}
		document, err := client.Results.Open(ctx, result)
		if err == nil {
			_, err = document.Read(make([]byte, 1))
			_ = document.Close()
		}
		if err != nil && result.Size > 0 {
			return check{
				"bucket", "failed", oneLine(err.Error()),
				"enable signed URLs in the storage config, or see that the object is there",
			}
		}
		return check{"bucket", "ok", "the newest result can be read", ""}
	}
	return check{"bucket", "ok", "there is no result to read yet", ""}
}

func webhookCheck(ctx context.Context, client *ricloud.Client, id ricloud.ID) check {
	if id == "" {
		return check{
			"webhook", "warning", "no webhook config is the default",
			"ricloud webhooks ensure URL --key-default --secret-file FILE; without a receiver: " +
				"ricloud listen",
		}
	}
	config, err := client.WebhookConfigs.Get(ctx, id)
	if err != nil {
		return check{"webhook", "failed", oneLine(err.Error()), "ricloud webhooks list"}
	}
	c := check{
		"webhook", "ok", fmt.Sprintf("config %s for %s is %s", id, config.URL, config.State),
		"",
	}
	if config.State != ricloud.ConfigValid {
		c.State, c.Next = "failed", "see that the receiver answers 200, then: ricloud webhooks test "+
			string(id)
	}
	return c
}

// eventsCheck looks for events that the API could not deliver.
func (a *app) eventsCheck(ctx context.Context, client *ricloud.Client) check {
	failed := 0
	for _, err := range a.items(ctx, client, resourceNamed("events"),
		url.Values{"state": {"failed"}, "limit": {"100"}}) {
		if err != nil {
			return check{"events", "warning", oneLine(err.Error()), "ricloud events list"}
		}
		if failed++; failed == 100 {
			break
		}
	}
	if failed > 0 {
		return check{
			"events", "warning", fmt.Sprintf("%d or more could not be delivered", failed),
			"ricloud events replay --forward-to URL hands them over again",
		}
	}
	return check{"events", "ok", "none is undelivered", ""}
}
