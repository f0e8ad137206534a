module injector.example/matrix

go 1.19
