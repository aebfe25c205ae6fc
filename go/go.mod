module smol.local/smol

go 1.24
