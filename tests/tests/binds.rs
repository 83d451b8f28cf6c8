//! A host directory that is shared both ways: what programs do to it is what the host sees, on each platform.

use runsc_tests::{Bundle, code, finish, platforms, same};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

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
    let mut bundle = Bundle::new(Path::new("/"), args).expect("a bundle");
    let config = bundle.config();
    let mount = json!({"destination": "/mnt", "type": "bind", "source": dir, "options": options});
    config["mounts"].as_array_mut().expect("mounts").push(mount);
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
