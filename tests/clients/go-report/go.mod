module evenkeel.test/clients/report

go 1.21
