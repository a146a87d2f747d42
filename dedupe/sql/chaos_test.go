package dedupesql_test

import "context"

const receiverDSN = "RICLOUD_TEST_RECEIVER"

func receive(context.Context) error { return nil }
