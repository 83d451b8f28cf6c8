memcached -u root -l 127.0.0.1 -p 11299 -t 4 -m 64 & M=$!
python3 - <<'P'
import socket,time,threading
for i in range(100):
    try: s=socket.create_connection(("127.0.0.1",11299)); break
    except OSError: time.sleep(0.05)
f=s.makefile("rwb")
def cmd(b):
    f.write(b); f.flush(); return f.readline()
print(cmd(b"set a 0 0 5\r\nhello\r\n")); f.write(b"get a\r\n"); f.flush(); print(f.readline(),f.readline(),f.readline())
def work(n):
    c=socket.create_connection(("127.0.0.1",11299)); g=c.makefile("rwb")
    for i in range(300):
        v=(b"%d" % (i*n))*50; g.write(b"set k%d-%d 0 0 %d\r\n%s\r\n" % (n,i,len(v),v)); g.flush(); assert g.readline()==b"STORED\r\n"
        g.write(b"get k%d-%d\r\n" % (n,i)); g.flush(); g.readline(); assert g.readline()==v+b"\r\n"; g.readline()
t=[threading.Thread(target=work,args=(n,)) for n in range(10)]
[x.start() for x in t]; [x.join() for x in t]; f.write(b"stats\r\n"); f.flush()
while (l:=f.readline())!=b"END\r\n":
    if l.split()[1] in (b"cmd_get",b"cmd_set",b"get_hits",b"threads"): print(l)
P
kill $M; wait $M; echo $?
