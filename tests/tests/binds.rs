//! A host directory that is shared both ways: what programs do to it is what the host sees, on each platform.

use runsc_tests::{Bundle, code, compile, finish, platforms, same};
use serde_json::json;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

/// What stands in a directory, but for sizes of directories.
fn tree(dir: &Path) -> String {
    let mut find = Command::new("/usr/bin/find");
    find.arg(dir).args([
        "-printf",
        "%P %y %m %U %G %n %l\\n",
        "-type",
        "f",
        "-exec",
        "/usr/bin/md5sum",
        "{}",
        ";",
    ]);
    let output = find.current_dir(dir).output().expect("find");
    let text = String::from_utf8_lossy(&output.stdout).replace(&dir.display().to_string(), "");
    let mut lines: Vec<_> = text.lines().map(str::to_string).collect();
    lines.sort();
    lines.join("\n")
}

fn in_sandbox(platform: &str, dir: &Path, args: &[&str], options: &[&str]) -> Output {
    with_mounts(platform, &[("/mnt", dir, options)], args)
}

fn with_mounts(platform: &str, mounts: &[(&str, &Path, &[&str])], args: &[&str]) -> Output {
    let mut bundle = Bundle::new(Path::new("/"), args).expect("a bundle");
    let config = bundle.config();
    for (destination, source, options) in mounts {
        let mount = json!({"destination": destination, "type": "bind", "source": source, "options": options});
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    }
    config["process"]["env"].as_array_mut().expect("env").push(json!("DIR=/mnt"));
    bundle.run(platform, b"", LIMIT).expect("the run in the sandbox")
}

#[test]
fn names_attributes_and_lengths() {
    let script = include_str!("../scripts/bind.sh");
    let work = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("/bin/bash");
    command.args(["-c", script]).env_clear().env("LANG", "C").env("HOME", "/tmp").env("DIR", work.path());
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let native = finish(command, b"", LIMIT).expect("the native run");
    for platform in platforms() {
        let shared = tempfile::tempdir().expect("a directory");
        let sandboxed = in_sandbox(platform, shared.path(), &["/bin/bash", "-c", script], &["rbind", "rw"]);
        same(&format!("on {platform}"), &native, &sandboxed);
        assert_eq!(tree(work.path()), tree(shared.path()), "on {platform}");
    }
}

/// A directory that is shared for reading only takes no change, and syncing it harms nobody.
#[test]
fn what_is_read_only_stays() {
    let script = "cd /mnt; for c in 'mkdir d' 'rm f' 'mv f g' 'ln f g' 'ln -s f g' 'chmod 600 f' 'chown 1 f' \
        'touch f' 'truncate -s 1 f' 'touch n'; do $c 2>&1 | sed 's/.*: //'; done; sync f; cat f; python3 -c 'import os; os.fsync(os.open(\"f\", 0))'; echo $?";
    for platform in platforms() {
        let shared = tempfile::tempdir().expect("a directory");
        std::fs::write(shared.path().join("f"), "text\n").expect("a file");
        let before = tree(shared.path());
        let output = in_sandbox(platform, shared.path(), &["/bin/bash", "-c", script], &["rbind", "ro"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = format!("{}text\n0\n", "Read-only file system\n".repeat(10));
        assert_eq!((text, code(output.status)), (expected, Some(0)), "on {platform}");
        assert_eq!(before, tree(shared.path()), "on {platform}");
    }
}

/// A link of the shared directory leads nowhere out of it on the host.
#[test]
fn links_lead_nowhere_out() {
    for platform in platforms() {
        let (shared, secret) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let file = secret.path().join("file");
        std::fs::write(&file, "secret").expect("a file");
        std::os::unix::fs::symlink(&file, shared.path().join("link")).expect("a link");
        std::os::unix::fs::symlink(secret.path(), shared.path().join("dir")).expect("a link");
        let script = "cd /mnt; (chmod 777 link; truncate -s 0 link; mkdir dir/new; rm dir/file; mv dir/file x; touch dir/t) 2>/dev/null; \
            rm -f link; ls -l dir | wc -c";
        in_sandbox(platform, shared.path(), &["/bin/bash", "-c", script], &["rbind", "rw"]);
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), "secret", "on {platform}");
        assert_eq!(std::fs::read_dir(secret.path()).expect("a directory").count(), 1, "on {platform}");
    }
}

/// Runs a program of `tests/programs` natively and on each platform, in a directory of its own that `DIR` names; the
/// host meanwhile does `act` to the directory.
fn program_in_shared(name: &str, args: &[&str], act: impl Fn(&Path) + Sync) {
    let built = tempfile::tempdir().expect("a directory");
    let binary = compile(name, built.path());
    let run = |run: &dyn Fn(&Path) -> Output| {
        let shared = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| act(shared.path()));
            let output = run(shared.path());
            acting.join().expect("what the host does");
            output
        })
    };
    let native = run(&|dir| {
        let mut command = Command::new(&binary);
        command.args(args).env_clear().env("DIR", dir);
        finish(command, b"", LIMIT).expect("the native run")
    });
    for platform in platforms() {
        let sandboxed = run(&|dir| {
            let program = format!("/srv/{name}");
            let words = [&[program.as_str()], args].concat();
            with_mounts(platform, &[("/mnt", dir, &["rw"]), ("/srv", built.path(), &["ro"])], &words)
        });
        same(&format!("{name} on {platform}"), &native, &sandboxed);
    }
}

/// Waits until a file is there.
fn wait_for(file: &Path) {
    let end = Instant::now() + LIMIT;
    while !file.exists() {
        assert!(Instant::now() < end, "{} does not come", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// inotify tells of what the container itself does as it does natively.
#[test]
fn watches_tell_of_own_changes() {
    program_in_shared("watches", &[], |_| {});
}

/// inotify tells of what a process of the host does, and what it tells of can be seen then.
#[test]
fn watches_tell_of_the_host_s_changes() {
    program_in_shared("watches", &["others"], |dir| {
        let ask = || {
            std::fs::write(dir.join("asked"), "").expect("a file");
            wait_for(&dir.join("answered"));
            std::fs::remove_file(dir.join("answered")).expect("the answer");
        };
        wait_for(&dir.join("ready"));
        std::fs::write(dir.join("known"), "a longer text").expect("a file");
        ask();
        std::fs::write(dir.join("dir/later"), "text").expect("a file");
        ask();
        std::fs::write(dir.join("new"), "text").expect("a file");
        std::fs::rename(dir.join("new"), dir.join("dir/new")).expect("a rename");
        std::fs::rename(dir.join("dir"), dir.join("moved")).expect("a rename");
        std::fs::set_permissions(dir.join("known"), std::fs::Permissions::from_mode(0o600)).expect("a mode");
        ask();
        std::fs::remove_file(dir.join("known")).expect("the file");
        std::fs::remove_dir_all(dir.join("moved")).expect("the directory");
        std::fs::write(dir.join("stop"), "").expect("a file");
    });
}

/// Shared mappings are one with the file and with each other.
#[test]
fn mappings_are_coherent() {
    program_in_shared("shared_maps", &[], |_| {});
}

/// What is stored reaches the host, and what the host writes is seen, at the latest after a while.
#[test]
fn mappings_are_shared_with_the_host() {
    program_in_shared("shared_maps", &["others"], |dir| {
        let file = dir.join("f");
        let wait_for = |what: &dyn Fn(&[u8]) -> bool| {
            let end = Instant::now() + LIMIT;
            while !std::fs::read(&file).is_ok_and(|bytes| what(&bytes)) {
                assert!(Instant::now() < end, "a store does not come");
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        wait_for(&|bytes| bytes.get(100..106) == Some(b"synced"));
        wait_for(&|bytes| bytes.first() == Some(&b'1'));
        let open = std::fs::OpenOptions::new().write(true).open(&file).expect("the file");
        open.write_all_at(b"2host\0", 4096).expect("a write");
        wait_for(&|bytes| bytes.get(8192..8199) == Some(b"the end") && bytes.first() == Some(&b'3'));
        open.set_len(4096).expect("a length");
        wait_for(&|bytes| bytes.get(200) == Some(&b'L'));
    });
}

/// Programs that live on shared mappings: WAL of sqlite with two processes, mmap of python.
#[test]
fn databases_of_two_processes() {
    let script = r#"cd "$DIR"; python3 - <<'P'
import mmap, os, sqlite3, subprocess, sys
db = sqlite3.connect("db"); print(db.execute("pragma journal_mode=wal").fetchone()); db.execute("create table t(p, i)"); db.commit()
code = "import sqlite3, sys\ndb = sqlite3.connect('db', timeout=60)\nfor i in range(100):\n    db.execute('insert into t values(?, ?)', (sys.argv[1], i)); db.commit()\n    assert db.execute('select count(*) from t where p=?', sys.argv[1:]).fetchone() == (i + 1,)\n"
print([c.wait() for c in [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]])
print(db.execute("select p, count(*), sum(i) from t group by p").fetchall(), sorted(os.listdir(".")))
print(db.execute("pragma integrity_check").fetchone()); db.close()
with open("m", "w+b") as f:
    f.truncate(10000); m = mmap.mmap(f.fileno(), 0); m[5000:5005] = b"hello"; m.flush(); f.seek(5000); print(f.read(5)); f.seek(9000); f.write(b"bye"); f.flush(); print(m[9000:9003]); m.resize(20000); m[19999] = 1; m.close(); print(os.path.getsize("m"))
P
sqlite3 db 'select count(*) from t' 2>/dev/null; md5sum m"#;
    let work = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("/bin/bash");
    command.args(["-c", script]).env_clear().env("LANG", "C").env("DIR", work.path());
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let native = finish(command, b"", LIMIT).expect("the native run");
    for platform in platforms() {
        let shared = tempfile::tempdir().expect("a directory");
        let sandboxed = in_sandbox(platform, shared.path(), &["/bin/bash", "-c", script], &["rw"]);
        same(&format!("on {platform}"), &native, &sandboxed);
        let read = |dir: &Path| std::fs::read(dir.join("m")).expect("the file");
        assert_eq!(read(work.path()), read(shared.path()), "on {platform}");
    }
}

/// Files that have no name yet or no longer, fifos and sockets.
#[test]
fn nameless_files_fifos_and_sockets() {
    program_in_shared("nameless", &[], |_| {});
}
