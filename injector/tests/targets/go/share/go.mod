module injector.example/share

go 1.19
