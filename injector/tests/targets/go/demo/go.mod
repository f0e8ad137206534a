module injector.example/demo

go 1.19
