module injector.example/busy

go 1.19
