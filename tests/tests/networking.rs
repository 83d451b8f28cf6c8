//! Servers and clients of this machine over the loopback interface, in one container: natively, in a network namespace
//! of its own, and in the sandbox on each platform they must print the same.

use runsc_tests::compare_script;

/// The same for a script of Python.
fn python(script: &str) {
    assert!(!script.contains('\''), "it is quoted by these");
    compare_script(&format!("exec /usr/bin/python3 -c '{script}'"));
}

#[test]
fn python_servers() {
    python(
        r#"
import http.server, socketserver, threading, urllib.request, socket
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.path.encode() * 50000)
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("localhost", 0), Page)
thread = threading.Thread(target=server.serve_forever); thread.start()
print([len(urllib.request.urlopen(f"http://localhost:{server.server_port}/{i}").read()) for i in range(20)])
server.shutdown(); thread.join(); server.server_close()
class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(line.upper())
for kind, where in (socketserver.ThreadingTCPServer, ("127.0.0.1", 0)), (socketserver.ThreadingUnixStreamServer, "upper.sock"):
    with kind(where, Upper) as server:
        thread = threading.Thread(target=server.serve_forever); thread.start()
        client = socket.socket(server.address_family); client.connect(server.server_address)
        client.sendall(b"one\ntwo\n"); client.shutdown(socket.SHUT_WR); print(client.makefile().read()); client.close()
        server.shutdown(); thread.join()
print(socket.if_nameindex(), socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))
"#,
    );
}

#[test]
fn python_asyncio() {
    python(
        r#"
import asyncio
async def echo(r, w):
    while data := await r.read(1000):
        w.write(data); await w.drain()
    w.close()
async def talk(open_connection):
    r, w = await open_connection(); n = 0
    for i in range(100):
        w.write(b"message %d\n" % i); n += len(await r.readline())
    w.write(b"x" * 300000); w.write_eof(); n += len(await r.read(-1)); w.close(); return n
async def main():
    a = await asyncio.start_server(echo, "127.0.0.1", 0)
    b = await asyncio.start_unix_server(echo, "echo.sock")
    c = await asyncio.start_server(echo, "::1", 0)
    ports = [s.sockets[0].getsockname()[1] for s in (a, c)]
    ways = [lambda: asyncio.open_connection("127.0.0.1", ports[0]), lambda: asyncio.open_unix_connection("echo.sock"), lambda: asyncio.open_connection("::1", ports[1])]
    print(await asyncio.gather(*[talk(ways[i % 3]) for i in range(60)]))
    try: await asyncio.open_connection("127.0.0.1", 1)
    except OSError as e: print(e.errno)
    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, t): self.t = t
        def datagram_received(self, data, address): self.t.sendto(data[::-1], address)
    t, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    got = asyncio.get_running_loop().create_future()
    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, address): got.set_result(data)
    u, _ = await asyncio.get_running_loop().create_datagram_endpoint(Client, remote_addr=t.get_extra_info("sockname"))
    u.sendto(b"datagram"); print(await got)
asyncio.run(main())
"#,
    );
}

#[test]
fn python_multiprocessing() {
    python(
        r#"
import multiprocessing as m, multiprocessing.connection, os, socket
m.set_start_method("fork")
def square(x): return x * x
def send(q): q.put(list(range(1000)))
def child(c): c.send(("child", 1)); c.send(c.recv() * 2)
with m.Pool(4) as p: print(sum(p.map(square, range(2000))))
q = m.Queue(); p = m.Process(target=send, args=(q,)); p.start(); print(sum(q.get())); p.join()
a, b = m.Pipe(); p = m.Process(target=child, args=(b,)); p.start(); print(a.recv()); a.send([1, 2]); print(a.recv()); p.join()
with m.Manager() as manager:
    d = manager.dict(); d["a"] = 1; print(dict(d))
l = multiprocessing.connection.Listener(("localhost", 0), authkey=b"key")
if not os.fork():
    c = multiprocessing.connection.Client(l.address, authkey=b"key"); c.send("hello"); c.close(); os._exit(0)
print(l.accept().recv()); os.wait()
x, y = socket.socketpair()
r, w = os.pipe(); socket.send_fds(x, [b"fd"], [w]); data, fds, flags, _ = socket.recv_fds(y, 10, 5); os.write(fds[0], b"passed"); print(data, os.read(r, 10))
"#,
    );
}

#[test]
fn redis() {
    compare_script(
        r#"redis-server --port 6379 --unixsocket "$PWD/redis.sock" --save "" --dir "$PWD" > log 2>&1 &
for i in $(seq 200); do redis-cli ping 2>/dev/null | grep -q PONG && break; sleep 0.05; done
redis-cli set a 1; redis-cli incr a; redis-cli rpush l x y z; redis-cli lrange l 0 -1
head -c 1000000 /dev/zero | tr '\0' r | redis-cli -x set big; redis-cli get big | md5sum
redis-cli -s "$PWD/redis.sock" strlen big
redis-benchmark -q -n 5000 -t set,get,lpush -c 50 | tr '\r' '\n' | grep -o '^[A-Z]*: .*requests per' | sed 's/[0-9.]*//g'
redis-cli dbsize; (echo multi; echo incr a; echo incr a; echo exec) | redis-cli
redis-cli shutdown nosave; wait; redis-cli ping 2>&1"#,
    );
}

#[test]
fn nginx_and_curl() {
    compare_script(
        r#"n=$(mktemp -d); mkdir $n/www; head -c 3000000 /dev/zero | tr '\0' n > $n/www/big; echo hello > $n/www/index.html
cat > $n/conf <<X
worker_processes 2; error_log $n/log; pid $n/pid; user root;
events { worker_connections 256; }
http { access_log off; client_body_temp_path $n/b; proxy_temp_path $n/p; fastcgi_temp_path $n/f; uwsgi_temp_path $n/u; scgi_temp_path $n/s; sendfile on;
server { listen 127.0.0.1:8080; listen [::1]:8080; root $n/www; location /p/ { proxy_pass http://unix:$n/sock:/; } }
server { listen unix:$n/sock; root $n/www; } }
X
nginx -e $n/log -c $n/conf; cat $n/log
get() { curl --silent --show-error --globoff "$@"; }
get http://127.0.0.1:8080/; get http://[::1]:8080/; get http://localhost:8080/big | md5sum; get http://localhost:8080/p/big | md5sum
get --unix-socket $n/sock http://x/; get -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/none
for i in $(seq 20); do get http://127.0.0.1:8080/big http://127.0.0.1:8080/ | wc -c & done | sort | uniq -c; wait
kill -QUIT $(cat $n/pid); while [ -e $n/pid ]; do sleep 0.05; done; get http://127.0.0.1:8080/ 2>&1; echo $?; rm -r $n"#,
    );
}

#[test]
fn node() {
    let script = r#"
const http = require("http"), net = require("net"), dgram = require("dgram"), os = require("os"), worker = require("cluster");
console.log(JSON.stringify(os.networkInterfaces()));
const server = http.createServer((q, r) => { let n = 0; q.on("data", d => n += d.length); q.on("end", () => r.end("got " + n)); });
server.listen(0, "127.0.0.1", () => {
  const port = server.address().port; let left = 50, all = 0;
  for (let i = 0; i < 50; i++) {
    const q = http.request({port, host: "127.0.0.1", method: "POST"}, r => {
      r.on("data", d => all += d.length); r.on("end", () => { if (--left == 0) { console.log(all); server.close(); datagram(); } });
    });
    q.end("x".repeat(100000));
  }
});
function datagram() {
  const a = dgram.createSocket("udp4");
  a.on("message", (m, from) => { console.log(String(m), from.address); a.close(); local(); });
  a.bind(0, "127.0.0.1", () => { const b = dgram.createSocket("udp4"); b.send("datagram", a.address().port, "127.0.0.1", () => b.close()); });
}
function local() {
  const path = process.cwd() + "/node.sock", server = net.createServer(c => c.end("over unix")).listen(path, () => {
    net.connect(path).on("data", d => console.log(String(d))).on("close", () => { server.close(); refused(); });
  });
}
function refused() { net.connect(1, "127.0.0.1").on("error", e => console.log(e.code)); }
"#;
    compare_script(&format!("exec /usr/bin/node -e '{script}'"));
}
