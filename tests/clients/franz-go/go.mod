module evenkeel.test/clients/franz-go

go 1.21
