//! Images of file systems as roots and mounts: what programs see is what is in the directory that the image was made of,
//! what they write is theirs alone, and the host is not asked for files.

use rofs::build::{Options, build_to};
use rofs::input::add_directory;
use rofs::progress::Silent;
use rofs::tree::Layers;
use runsc_tests::{Bundle, code, compile, finish, native, platforms, runsc, same, wait_for};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// Makes an image of a directory.
fn image(dir: &Path, image: &Path) {
    let mut layers = Layers::new();
    add_directory(&mut layers, dir, &|_| false, &Silent).expect("the directory is read");
    build_to(&layers.into_tree(), image, &Options::default(), &Silent).expect("an image");
}

/// A root with busybox.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    for dir in ["bin", "tmp", "proc", "dev", "sys", "data"] {
        fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("busybox-static is installed");
    for applet in
        ["sh", "ls", "find", "cat", "md5sum", "xargs", "sort", "touch", "mount", "wc", "stat", "readlink"]
    {
        symlink("busybox", root.path().join("bin").join(applet)).expect("a link");
    }
    root
}

/// Bytes of which no page is like another.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn run(bundle: &Bundle, platform: &str, options: &[&str]) -> Output {
    let mut launch = bundle.launch(platform, &["run"]).expect("a command");
    launch.command.args(options);
    finish(launch.command, b"", LIMIT).expect("a run")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn files_are_written_mapped_and_cut_as_elsewhere() {
    let root = root();
    let data = root.path().join("data");
    compile("images", root.path());
    for (name, len) in [
        ("whole", 12288),
        ("whole2", 12288),
        ("wide", 12288),
        ("copied", 12288),
        ("part", 10_000),
        ("small", 100),
        ("gone", 300),
        ("one", 5000),
        ("empty", 0),
        ("punched", 1 << 20),
        ("big", 3 << 20),
    ] {
        fs::write(data.join(name), bytes(len, len as u64 + name.len() as u64)).expect("a file");
    }
    fs::hard_link(data.join("small"), data.join("linked")).expect("a link");
    fs::hard_link(data.join("one"), data.join("two")).expect("a link");
    symlink("whole/../part", data.join("sym")).expect("a link");
    let hole = fs::File::create(data.join("hole")).expect("a file");
    hole.write_all_at(b"the end", (1 << 20) + 4090).expect("write");
    let place = tempfile::tempdir().expect("a directory");
    let made = place.path().join("image");
    image(root.path(), &made);
    // The native run changes its files.
    let mut command = native(&[root.path().join("images").to_str().expect("UTF-8")]);
    command.current_dir(&data);
    let native = finish(command, b"", LIMIT).expect("the native run");
    for platform in platforms() {
        for cpus in ["1", "2", "4"] {
            let mut bundle = Bundle::new(&made, &["/images"]).expect("a bundle");
            bundle.config()["process"]["cwd"] = json!("/data");
            same(&format!("{cpus} vCPUs on {platform}"), &native, &run(&bundle, platform, &["--cpus", cpus]));
        }
    }
}

#[test]
fn all_of_a_tree_is_there() {
    let root = root();
    let data = root.path().join("data");
    // Every kind of name and file that a directory can have.
    let names: [&[u8]; 5] = [&[b'n'; 255], b"new\nline", b"\xff\xfe not UTF-8", b"-dash", b" space "];
    for (number, name) in names.iter().enumerate() {
        fs::write(data.join(std::ffi::OsStr::from_bytes(name)), bytes(number * 3000, 7)).expect("a file");
    }
    for number in 0..3000 {
        let dir = data.join(format!("dir{}", number % 7));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("file-{number}")), bytes(number * 5 % 9000, number as u64))
            .expect("a file");
    }
    fs::set_permissions(data.join("dir1/file-1"), fs::Permissions::from_mode(0o4751)).expect("chmod");
    let fifo = Command::new("mkfifo").arg(data.join("fifo")).status().expect("mkfifo");
    let node = Command::new("mknod").arg(data.join("node")).args(["c", "4", "300"]).status().expect("mknod");
    assert!(fifo.success() && node.success());
    let script = "cd /data && find . -type f -print0 | sort -z | xargs -0 md5sum; \
        find . -print0 | sort -z | xargs -0 stat -c '%N %f %u %g %s %Y %t %T %F'; find . | wc -l";
    let place = tempfile::tempdir().expect("a directory");
    let made = place.path().join("image");
    image(root.path(), &made);
    // Link counts and sizes of directories are the file system's affair, all else is not.
    let listing = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .map(|line| if line.ends_with(" directory") { "directory" } else { line }.to_string())
            .collect::<Vec<_>>()
    };
    let chroot = ["/usr/sbin/chroot", root.path().to_str().expect("UTF-8"), "/bin/sh", "-c", script];
    let expected = finish(native(&chroot), b"", LIMIT).expect("the native run");
    assert!(listing(&expected).len() > 6000, "{}", text(&expected));
    for platform in platforms() {
        let bundle = Bundle::new(&made, &["/bin/sh", "-c", script]).expect("a bundle");
        let got = run(&bundle, platform, &[]);
        assert_eq!(
            listing(&expected),
            listing(&got),
            "on {platform}: {}",
            String::from_utf8_lossy(&got.stderr)
        );
    }
}

#[test]
fn an_image_is_chosen_in_every_way() {
    let root = root();
    fs::write(root.path().join("data/marker"), "from the image\n").expect("a file");
    let other = root_without_marker();
    let place = tempfile::tempdir().expect("a directory");
    let made = place.path().join("image");
    image(root.path(), &made);
    let before = fs::read(&made).expect("the image");
    let show = ["/bin/sh", "-c", "cat /data/marker; touch /data/new && echo written; cat /data/new"];
    for platform in platforms() {
        let options = ["--rootfs-image", made.to_str().expect("UTF-8")];
        let bundle = Bundle::new(other.path(), &show).expect("a bundle");
        assert_eq!(text(&run(&bundle, platform, &options)), "from the image\nwritten\n", "on {platform}");

        let mut bundle = Bundle::new(other.path(), &show).expect("a bundle");
        bundle.config()["annotations"] = json!({"dev.runsc.rootfs.image": made});
        assert_eq!(text(&run(&bundle, platform, &[])), "from the image\nwritten\n", "on {platform}");

        let mut bundle = Bundle::new(&made, &show).expect("a bundle");
        bundle.config()["root"]["readonly"] = json!(true);
        let output = run(&bundle, platform, &[]);
        assert!(
            text(&output).contains("from the image\ntouch: /data/new: Read-only file system"),
            "{}",
            text(&output)
        );

        let mount = ["/bin/sh", "-c", "cat /mnt/data/marker; touch /mnt/x; mount | grep /mnt"];
        let mut bundle = Bundle::new(other.path(), &mount).expect("a bundle");
        let erofs = json!({"destination": "/mnt", "type": "erofs", "source": made});
        bundle.config()["mounts"].as_array_mut().expect("mounts").push(erofs);
        let output = run(&bundle, platform, &[]);
        assert!(text(&output).starts_with("from the image\n"), "on {platform}: {}", text(&output));
        assert!(
            text(&output).contains("touch: /mnt/x: Read-only file system"),
            "on {platform}: {}",
            text(&output)
        );

        let mut command = bundle.runsc(&["--platform", platform, "do", "--rootfs"]);
        command.arg(&made).args(["--", "/bin/cat", "/data/marker"]);
        let output = finish(command, b"", LIMIT).expect("a run");
        assert_eq!(text(&output), "from the image\n", "on {platform}");
    }
    assert!(fs::read(&made).expect("the image") == before, "the image has changed");
}

fn root_without_marker() -> tempfile::TempDir {
    let root = root();
    fs::create_dir(root.path().join("mnt")).expect("a directory");
    root
}

#[test]
fn what_is_no_image_is_named() {
    let root = root();
    let place = tempfile::tempdir().expect("a directory");
    let file = |name: &str| place.path().join(name);
    image(root.path(), &file("good"));
    let mut damaged = fs::read(file("good")).expect("the image");
    damaged[1024 + 20] ^= 1;
    fs::write(file("damaged"), &damaged).expect("a file");
    fs::write(file("empty"), "").expect("a file");
    fs::write(file("text"), vec![b'x'; 10_000]).expect("a file");
    let compressed = Command::new("mkfs.erofs").arg("-zlz4").arg(file("lz4")).arg(root.path()).output();
    assert!(compressed.expect("erofs-utils are installed").status.success());
    for platform in platforms() {
        for (name, words) in [
            ("damaged", "the image is damaged"),
            ("empty", "not an EROFS image"),
            ("text", "not an EROFS image"),
            ("lz4", "compressed"),
            ("missing", "No such file or directory"),
            (".", "is a directory, not an image"),
        ] {
            let bundle = Bundle::new(root.path(), &["/bin/sh"]).expect("a bundle");
            let output = run(&bundle, platform, &["--rootfs-image", file(name).to_str().expect("UTF-8")]);
            assert_eq!(code(output.status), Some(1), "{name} on {platform}");
            assert!(text(&output).contains(words), "{name} on {platform}: {}", text(&output));
            let states = fs::read_dir(bundle.path().join("state")).map_or(0, Iterator::count);
            assert_eq!(states, 0, "{name} on {platform}: a state is left");
        }
    }
}

/// A file on the host that becomes shorter takes what it has lost from the programs, and nothing else from anybody.
#[test]
fn an_image_that_becomes_shorter() {
    let files = tempfile::tempdir().expect("a directory");
    fs::write(files.path().join("big"), bytes(3 << 20, 5)).expect("a file");
    fs::create_dir(files.path().join("dir")).expect("a directory");
    fs::write(files.path().join("dir/other"), bytes(200, 6)).expect("a file");
    let root = root_without_marker();
    compile("shrunk", root.path());
    let place = tempfile::tempdir().expect("a directory");
    for platform in platforms() {
        let made = place.path().join(platform);
        image(files.path(), &made);
        let mut bundle =
            Bundle::new(root.path(), &["/shrunk", "/mnt/big", "/mnt/dir/other"]).expect("a bundle");
        let erofs = json!({"destination": "/mnt", "type": "erofs", "source": made});
        bundle.config()["mounts"].as_array_mut().expect("mounts").push(erofs);
        let mut command = bundle.launch(platform, &["run"]).expect("a command").command;
        let out = place.path().join("out");
        command.stdin(Stdio::piped()).stdout(fs::File::create(&out).expect("a file"));
        let mut child = command.spawn().expect("runsc");
        let mut input = child.stdin.take().expect("a pipe");
        let file = fs::OpenOptions::new().write(true).open(&made).expect("the image");
        let length = file.metadata().expect("the image").len();
        for (times, left) in [(1, length - (1 << 20)), (2, 0)] {
            let said = || fs::read_to_string(&out).expect("the output").matches("ready").count();
            wait_for("the program is not ready", LIMIT, || said() == times);
            file.set_len(left).expect("length");
            input.write_all(b"go\n").expect("the program reads");
        }
        let status = child.wait().expect("wait");
        let said = fs::read_to_string(&out).expect("the output");
        let expected = "mapped: 0\nprivate: 0\nready\nmapped: SIGBUS\nnot mapped: SIGBUS\nprivate: SIGBUS\n\
            private, not mapped: SIGBUS\nread -1 EIO\nwhat is left 4096 0\nfrom a mapping -1 EFAULT\nready\n\
            refused\nmapped: SIGBUS\ndone\n";
        assert_eq!(said, expected, "on {platform}");
        assert_eq!(code(status), Some(0), "on {platform}");
    }
}

/// Reading a whole image, the sandbox asks the host for no file.
#[test]
fn the_host_is_asked_for_no_file() {
    if !platforms().iter().any(|platform| platform == "kvm") {
        eprintln!("not tested here: kvm is not usable");
        return;
    }
    let root = root();
    for number in 0..500 {
        let at = root.path().join(format!("data/file-{number}"));
        fs::write(at, bytes(number * 50, number as u64)).expect("a file");
    }
    let place = tempfile::tempdir().expect("a directory");
    let made = place.path().join("image");
    image(root.path(), &made);
    let script = "find / -xdev -type f -print0 | xargs -0 md5sum | wc -l";
    let calls = |root: &Path| {
        let mut bundle = Bundle::new(root, &["/bin/sh", "-c", script]).expect("a bundle");
        let mounts = bundle.config()["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["type"] != "sysfs");
        let launch = bundle.launch("kvm", &["run"]).expect("a command");
        let log = bundle.path().join("calls");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=openat2,preadv,readlinkat,getdents64,statx", "-o"]).arg(&log);
        strace.arg(runsc()).args(launch.command.get_args());
        let output = finish(strace, b"", LIMIT).expect("strace is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "501", "{}", text(&output));
        let log = fs::read_to_string(&log).expect("the log");
        // What the sandbox process asks for beneath donated directories, and not the command for itself.
        log.lines()
            .filter(|l| l.contains("openat2(") || l.contains("preadv(") || l.contains("getdents64("))
            .count()
    };
    let (of_a_directory, of_an_image) = (calls(root.path()), calls(&made));
    assert!(of_a_directory > 500, "{of_a_directory} calls for a directory: they are not seen");
    // The command removes its state directory.
    assert!(of_an_image <= 2, "{of_an_image} calls for an image");
}
