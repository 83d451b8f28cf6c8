exec 2>&1; /usr/bin/python3 -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix != sys.base_prefix)'; rm -r v
openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
/usr/bin/python3 - <<'P'
import ssl, socket, threading, http.server, urllib.request, asyncio
ctx=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); ctx.load_cert_chain("c.pem","k.pem")
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b"s"*200000)
    def log_message(self,*a): pass
s=http.server.ThreadingHTTPServer(("localhost",0),H); s.socket=ctx.wrap_socket(s.socket,server_side=True); threading.Thread(target=s.serve_forever,daemon=True).start()
c=ssl.create_default_context(cafile="c.pem"); print([len(urllib.request.urlopen(f"https://localhost:{s.server_port}/",context=c).read()) for _ in range(5)])
async def main():
    async def h(r,w): w.write((await r.readline()).upper()); await w.drain(); w.close()
    a=await asyncio.start_server(h,"localhost",0,ssl=ctx); r,w=await asyncio.open_connection("localhost",a.sockets[0].getsockname()[1],ssl=c); w.write(b"tls line\n"); print(await r.read(), w.get_extra_info("ssl_object").version()); 
asyncio.run(main())
try: urllib.request.urlopen(f"https://localhost:{s.server_port}/")
except Exception as e: print(type(e.reason).__name__)
P
rm k.pem c.pem
