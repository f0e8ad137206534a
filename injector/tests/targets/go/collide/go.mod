module injector.example/collide

go 1.19
