module evenkeel.test/clients/franz-go

go 1.21

require (
	evenkeel.test/clients/report v0.0.0
	github.com/twmb/franz-go v1.17.0
	github.com/twmb/franz-go/pkg/kadm v1.12.0
	github.com/twmb/franz-go/pkg/kmsg v1.8.0
)

require (
	github.com/klauspost/compress v1.17.8 // indirect
	github.com/pierrec/lz4/v4 v4.1.21 // indirect
	golang.org/x/crypto v0.23.0 // indirect
)

replace evenkeel.test/clients/report => ../go-report
