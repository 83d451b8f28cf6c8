cd "$DIR"; umask 022
mkdir -p a/b/c && echo one > a/b/f && mv a/b a/d && cat a/d/f && rmdir a/d/c && ls -R a
ln a/d/f a/hard && ln -s d/f a/soft && cat a/soft && stat -c '%h %F %a' a/hard a/soft && readlink a/soft
chmod 640 a/hard; chmod 1777 a; chown 1000:1001 a/d/f; stat -c '%a %u %g' a/hard a a/d/f; touch -d @1000000 a/hard; touch -a -d @5 a/hard; stat -c '%X %Y' a/hard; touch -h -d @77 a/soft; stat -c %Y a/soft
truncate -s 100000 a/t; stat -c %s a/t; truncate -s 3 a/d/f; od -c a/d/f; truncate -s 10 a/d/f; od -c a/d/f; fallocate -l 10 a/none 2>/dev/null; rm -f a/none
echo over > a/x; mv a/x a/d/f; cat a/d/f a/hard; mv -n a/t a/hard; ls a; mv -T a/d a/e; ls a/e; mkdir a/g a/g/h; mv -T a/g a/e 2>&1 | sed 's/.*: //'; rmdir a 2>&1 | sed 's/.*: //'; mkdir a 2>&1 | sed 's/.*: //'
rm -r a; ls; mkdir t; for i in $(seq 50); do mkdir -p t/d$i; echo $i > t/d$i/f; ln -s f t/d$i/l; done; tar cf t.tar t; rm -r t; tar xf t.tar; rm t.tar; find t | sort | md5sum; cat t/*/l | md5sum; cp -a t u; diff -r t u; rm -r t
python3 - <<'P'
import os, mmap, tempfile, sqlite3
f = open("o", "w+b"); f.write(b"x" * 5000); f.flush(); os.unlink("o"); f.write(b"y" * 5000); f.flush(); s = os.fstat(f.fileno()); print(s.st_size, s.st_nlink); f.seek(4998); print(f.read(4)); f.truncate(7); print(os.fstat(f.fileno()).st_size)
os.mkdir("p"); g = open("p/q", "w+"); os.rename("p", "r"); g.write("kept"); g.flush(); os.fsync(g.fileno()); print(open("r/q").read()); os.rename("r/q", "r/s"); print(os.listdir("r")); d = os.open("r", os.O_RDONLY); os.mkdir("in", dir_fd=d); os.rename("r", "v"); print(sorted(os.listdir(d))); os.rmdir("in", dir_fd=d)
for call in (lambda: os.rename("v", "v/w"), lambda: os.link("v", "l"), lambda: os.unlink("v"), lambda: os.rmdir("v"), lambda: os.mkdir("none/x"), lambda: os.symlink("x", "v"), lambda: os.rename("none", "x"), lambda: os.chmod("none", 0), lambda: os.mkdir("x" * 256), lambda: os.rename("v", "u/d1/f")):
    try: call(); print("ok")
    except OSError as e: print(e.errno)
with tempfile.TemporaryDirectory(dir=".") as d: open(d + "/a", "w").close()
db = sqlite3.connect("db"); db.execute("create table t(a)"); db.executemany("insert into t values(?)", ((i,) for i in range(1000))); db.commit(); print(db.execute("select sum(a) from t").fetchone()); db.execute("vacuum")
m = mmap.mmap(os.open("db", os.O_RDONLY), 0, access=mmap.ACCESS_READ); print(m[:6]); print(sorted(os.listdir(".")))
P
git init -q g && cd g && git config user.email a@example.org && git config user.name n && for i in 1 2 3; do echo $i > f$i; git add .; git commit -qm c$i; done && git gc -q && git fsck 2>&1 && git log --oneline | wc -l; cd ..; rm -rf g db; cp u/d3/f w; (umask 077; mkdir k; touch k/l); find . -printf '%P %y %m %U %G %n %l\n' | sort
