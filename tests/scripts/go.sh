export HOME=$PWD GOCACHE=$PWD/c GOFLAGS=-mod=mod GO111MODULE=on GOTOOLCHAIN=local
mkdir p; cd p; cat > go.mod <<G
module example.org/m
go 1.19
G
cat > m.go <<'G'
package main
import ("fmt"; "net"; "sync"; "os"; "os/exec"; "time"; "runtime"; "os/signal"; "syscall")
func main() {
 var wg sync.WaitGroup; c := make(chan int, 10); s := 0
 for i := 0; i < 1000; i++ { wg.Add(1); go func(i int) { defer wg.Done(); runtime.Gosched(); c <- i }(i) }
 go func() { wg.Wait(); close(c) }(); for v := range c { s += v }; fmt.Println(s)
 l, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { panic(err) }
 go func() { for { c, err := l.Accept(); if err != nil { return }; go func() { b := make([]byte, 100); n, _ := c.Read(b); c.Write(append([]byte("hello "), b[:n]...)); c.Close() }() } }()
 for i := 0; i < 20; i++ { c, err := net.Dial("tcp", l.Addr().String()); if err != nil { panic(err) }; fmt.Fprintf(c, "%d", i); b := make([]byte, 100); n, _ := c.Read(b); c.Close(); if i % 5 == 0 { fmt.Println(string(b[:n])) } }
 out, err := exec.Command("sh", "-c", "echo child; exit 4").CombinedOutput(); fmt.Println(string(out), err)
 sig := make(chan os.Signal, 1); signal.Notify(sig, syscall.SIGUSR1); syscall.Kill(os.Getpid(), syscall.SIGUSR1); fmt.Println(<-sig)
 t := time.NewTicker(time.Millisecond); n := 0; for range t.C { n++; if n == 20 { break } }; fmt.Println(n)
 i, _ := net.Interfaces(); fmt.Println(i[0].Name); a, e := net.LookupHost("localhost"); fmt.Println(len(a) > 0, e)
 var m [][]byte; for i := 0; i < 300; i++ { m = append(m, make([]byte, 1 << 20)) ; if len(m) > 20 { m = nil } }; fmt.Println(len(m)); os.Exit(6) }
G
go build -o m . ; ./m; echo $?; CGO_ENABLED=0 go build -o m0 . ; ./m0 | md5sum; cd ..; chmod -R u+w .; rm -rf p c go
