module github.com/reincubate/ricloud-go/otel

go 1.26.0

replace github.com/reincubate/ricloud-go => ..

require (
	github.com/reincubate/ricloud-go v0.2.0
	github.com/stretchr/testify v1.12.1
	go.opentelemetry.io/otel v1.47.0
	go.opentelemetry.io/otel/metric v1.47.0
	go.opentelemetry.io/otel/sdk v1.47.0
	go.opentelemetry.io/otel/sdk/metric v1.47.0
	go.opentelemetry.io/otel/trace v1.47.0
)
