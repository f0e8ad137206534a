module injector.example/churn

go 1.19
