//! Real programs of this machine, natively and in the sandbox on each platform, with the machine's own root as the
//! read-only lower layer: output and exit status must agree.

use runsc_tests::{Bundle, compare, platforms};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn bash(script: &str) {
    compare(&["/bin/bash", "-c", script], b"");
}

#[test]
fn bash_pipelines_and_here_documents() {
    bash("seq 1 5000 | sort -rn | tail -3; cat <<X | tr a-z A-Z\nhere $((6*7))\nX\nexit 5");
    bash(
        "for i in 1 2 3; do (echo $i; exit $i) & done | sort; wait; x=$(printf '%s,' a b c); echo ${x%,}; echo ${PIPESTATUS[@]}",
    );
    bash(
        "false | true; echo ${PIPESTATUS[@]}; trap 'echo term' TERM; kill -TERM $$; echo after; \
          sh -c 'kill -9 $$'; echo $?; set -m; sleep 100 & kill -STOP %1; sleep 0.1; jobs; kill %1; kill -CONT %1; wait %1; echo $?",
    );
}

#[test]
fn standard_input_is_a_pipe() {
    compare(
        &["/bin/bash", "-c", "while read -r line; do echo \"<$line>\"; done; wc -c"],
        b"one\ntwo\nthree\n",
    );
    let long: Vec<u8> = (0..200_000u32).flat_map(|i| i.to_le_bytes()).collect();
    compare(&["/usr/bin/md5sum"], &long);
}

#[test]
fn coreutils_find_grep_sed_tar_gzip() {
    bash(
        "mkdir -p a/b/c; for i in $(seq 50); do echo line $i > a/b/f$i; done; find a -type f | sort | head -3; \
          grep -rl 'line 7$' a | sort; sed -n '2,3s/line/LINE/p' a/b/f2 a/b/f3; tar czf t.tgz a; rm -r a; \
          tar xzf t.tgz; find a | wc -l; cat a/b/f* | md5sum; gzip -dc t.tgz | tar tf - | wc -l; du -a a | wc -l",
    );
    bash(
        "echo hi > f; ln f g; ln -s f s; stat -c '%h %F %s' f s; cp -a s s2; readlink s2; mv f h; cat g; cat s 2>&1; \
          chmod 640 h; ls -l h | cut -c1-10; touch -d @1000 h; stat -c %Y h; test -x h; echo $?; head -c 3 /dev/zero | od -c",
    );
    bash(
        "find /usr/share/doc -maxdepth 1 | sort | md5sum; find /etc -xdev -type f -readable 2>/dev/null | wc -l",
    );
}

#[test]
fn perl_runs() {
    compare(
        &[
            "/usr/bin/perl",
            "-e",
            "my %h; $h{$_ % 7} += $_ for 1..100000; print join(',', map {\"$_=$h{$_}\"} sort keys %h), \"\\n\"; open(my $p, '-|', 'echo from a child') or die; print <$p>; exit 9",
        ],
        b"",
    );
}

#[test]
fn python_runs() {
    let script = r#"
import hashlib, mmap, os, signal, sqlite3, subprocess, sys, tempfile, threading, time
total = []
def work(n):
    total.append(sum(range(n)))
threads = [threading.Thread(target=work, args=(i * 1000,)) for i in range(20)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(total))
print(subprocess.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True))
print(subprocess.check_output(["tr", "a-z", "A-Z"], input=b"shout"))
with tempfile.TemporaryFile() as f:
    f.write(b"x" * 100000); f.flush()
    with mmap.mmap(f.fileno(), 0) as m:
        m[5:10] = b"hello"
        print(m[3:12], hashlib.sha256(m).hexdigest())
db = sqlite3.connect("test.db")
db.execute("create table t(a integer primary key, b text)")
db.executemany("insert into t values(?, ?)", ((i, str(i) * 3) for i in range(5000)))
db.commit()
print(db.execute("select count(*), sum(a), max(b) from t").fetchone())
signal.signal(signal.SIGALRM, lambda *a: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.1)
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(w, b"child"); os._exit(4)
print(os.read(r, 100), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
sys.exit(11)
"#;
    compare(&["/usr/bin/python3", "-c", script], b"");
}

#[test]
fn many_processes_and_threads() {
    bash(
        "for i in $(seq 200); do (sleep 0.3; exit $((i % 7))) & p=\"$p $!\"; done; n=0; for i in $p; do wait $i; n=$((n + $?)); done; echo $n",
    );
    let script = "
import threading
started = threading.Barrier(1001)
threading.stack_size(65536)
threads = [threading.Thread(target=started.wait) for _ in range(1000)]
[t.start() for t in threads]
started.wait(); [t.join() for t in threads]
print(len(threads))";
    compare(&["/usr/bin/python3", "-c", script], b"");
}

#[test]
fn exit_status_of_programs_that_die() {
    // As a child: the first process of a PID namespace takes no signal that it does not handle.
    bash(
        "for s in SEGV TERM KILL ABRT; do bash -c \"ulimit -c 0; kill -$s \\$\\$\" 2>/dev/null; echo $?; done; exit 77",
    );
    compare(&["/usr/bin/perl", "-e", "kill 'KILL', fork || (sleep 10); wait; print $? & 127, \"\\n\""], b"");
}

/// Programs that only compute keep no other from its turns: sleepers wake, signals arrive, output comes.
#[test]
fn spinning_programs_starve_none() {
    bash(
        "for i in 1 2 3 4 5 6; do (while :; do :; done) & p=\"$p $!\"; done; for i in $(seq 10); do sleep 0.02; echo $i | cat; done; \
         kill $p; wait $p; echo $?",
    );
}

/// A container of which every vCPU computes dies at once when it is killed.
#[test]
fn a_spinning_container_is_killed() {
    let script = "for i in 1 2 3 4 5 6; do (while :; do :; done) & done; echo ready; while :; do :; done";
    for platform in platforms() {
        let bundle = Bundle::new(Path::new("/"), &["/bin/bash", "-c", script]).expect("a bundle");
        let out = bundle.path().join("out");
        let mut command = bundle.command(platform, "spin").expect("a command");
        let file = std::fs::File::create(&out).expect("a file");
        let mut child = command.stdin(Stdio::null()).stdout(file).spawn().expect("runsc");
        let start = Instant::now();
        while std::fs::read_to_string(&out).expect("output").trim_end() != "ready" {
            assert!(start.elapsed() < LIMIT, "on {platform}: it does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        let kill = bundle.runsc(&["kill", "spin", "KILL"]).output().expect("runsc");
        assert!(kill.status.success(), "{}", String::from_utf8_lossy(&kill.stderr));
        while child.try_wait().expect("a child").is_none() {
            assert!(start.elapsed() < LIMIT, "on {platform}: it does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(child.wait().expect("a child").code(), Some(137), "on {platform}");
    }
}
