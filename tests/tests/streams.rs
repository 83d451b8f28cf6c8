//! Standard streams that are files, pipes and devices of the caller, natively and in the sandbox.

use runsc_tests::{Bundle, code, native, platforms};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Hands a command that runs `script` to `check`, first one that runs natively, then one for each platform; all
/// results must agree.
fn each<T: PartialEq + std::fmt::Debug>(script: &str, check: impl Fn(Command) -> T) {
    let args = ["/bin/bash", "-c", script];
    let expected = check(native(&args));
    for platform in platforms() {
        let bundle = Bundle::new(Path::new("/"), &args).expect("a bundle");
        let launch = bundle.launch(platform, &["run"]).expect("a bundle");
        assert_eq!(check(launch.command), expected, "{script} on {platform}");
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> File {
    options.open(path).expect("a file")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file")
}

#[test]
fn a_file_as_input_shares_its_offset() {
    each("read -r x; echo $x; dd bs=4 count=2 2>/dev/null; echo; stat -Lc %F /dev/stdin", |mut command| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("in");
        fs::write(&path, (0..100).map(|i| format!("line {i}\n")).collect::<String>()).expect("write");
        let mut input = open(&path, OpenOptions::new().read(true));
        input.seek(SeekFrom::Start(7)).expect("seek");
        let output = command.stdin(input.try_clone().expect("copy")).output().expect("run");
        (output.stdout, code(output.status), input.stream_position().expect("seek"))
    });
    each("tail -c 5; md5sum < /dev/null; echo x >&0; echo $?", |mut command| {
        let mut input = tempfile::tempfile().expect("a file");
        input.write_all(&[b'y'; 300_000]).expect("write");
        input.rewind().expect("seek");
        let output = command.stdin(input.try_clone().expect("copy")).output().expect("run");
        (output.stdout, input.stream_position().expect("seek"), input.metadata().expect("stat").len())
    });
}

#[test]
fn files_as_outputs() {
    // One open file description for both: what is written follows what was written.
    each("echo out; echo err >&2; /bin/echo child; echo end >&2; exit 4", |mut command| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out");
        let mut file = open(&path, OpenOptions::new().create(true).truncate(false).write(true));
        file.write_all(b"before\n").expect("write");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("copy"))
            .stderr(file.try_clone().expect("copy"));
        let status = command.status().expect("run");
        file.write_all(b"after\n").expect("write");
        (read(&path), code(status), file.stream_position().expect("seek"))
    });
    // Two descriptions that append.
    each("for i in 1 2 3; do echo out $i; echo err $i >&2; done", |mut command| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out");
        fs::write(&path, "there\n").expect("write");
        let file = || open(&path, OpenOptions::new().append(true));
        let status = command.stdin(Stdio::null()).stdout(file()).stderr(file()).status().expect("run");
        (read(&path), code(status))
    });
    // A description that neither appends nor truncates, and one that is read and written.
    each("printf AB; read -r -N 2 x <&1; echo $? >&2; exec >&-; echo gone; echo $? >&2", |mut command| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out");
        fs::write(&path, "0123456789").expect("write");
        let file = open(&path, OpenOptions::new().write(true));
        let output = command.stdin(Stdio::null()).stdout(file).output().expect("run");
        let errors =
            String::from_utf8_lossy(&output.stderr).lines().filter(|l| l.len() < 3).collect::<String>();
        (read(&path), errors)
    });
    each("printf AB; read -r -N 3 x <&1; printf $x; printf '%s' $x >&2", |mut command| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out");
        fs::write(&path, "0123456789").expect("write");
        let file = open(&path, OpenOptions::new().read(true).write(true));
        let output = command.stdin(Stdio::null()).stdout(file).output().expect("run");
        (read(&path), output.stderr)
    });
}

#[test]
fn a_pipe_whose_reader_is_gone() {
    let closed_after_a_line = |mut command: Command| {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run");
        let mut start = [0; 2];
        child.stdout.take().expect("a pipe").read_exact(&mut start).expect("a line");
        let output = child.wait_with_output().expect("run");
        (start, String::from_utf8_lossy(&output.stderr).into_owned(), code(output.status))
    };
    each("yes; echo $? >&2", closed_after_a_line);
    each("trap '' PIPE; yes 2>&1 >&1 | :; yes 2>/dev/null; echo $? >&2; exit 3", closed_after_a_line);
    let never_read = |mut command: Command| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output =
            command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().expect("run");
        (output.stderr, code(output.status))
    };
    each("/bin/echo x; echo $? >&2; (trap '' PIPE; /bin/echo x 2>/dev/null; echo $? >&2)", never_read);
}

#[test]
fn a_pipe_whose_writer_is_gone() {
    each("cat; echo end; read -r x; echo $?", |mut command| {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"last words\n").expect("write");
        drop(writer);
        let output = command.stdin(reader).output().expect("run");
        (output.stdout, code(output.status))
    });
}

#[test]
fn a_pipe_that_is_slow() {
    // The program waits for input that comes in parts, and for a reader that takes its time.
    each("while read -r l; do echo \"<$l>\"; done; head -c 300000 /dev/zero", |mut command| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
        let (mut input, mut output) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        for part in ["on", "e\ntwo", "\nthree\n"] {
            input.write_all(part.as_bytes()).expect("write");
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        drop(input);
        std::thread::sleep(std::time::Duration::from_millis(100));
        let mut got = Vec::new();
        output.read_to_end(&mut got).expect("read");
        (got, code(child.wait().expect("wait")))
    });
}

#[test]
fn devices_as_streams() {
    each(
        "wc -c; echo thrown away; stat -Lc '%F %t %T' /dev/stdin /dev/stdout >&2; tty >&2; test -t 0; exit $?",
        |mut command| {
            let null = || OpenOptions::new().read(true).write(true).open("/dev/null").expect("/dev/null");
            let output = command.stdin(null()).stdout(null()).output().expect("run");
            (output.stderr, code(output.status))
        },
    );
    each("head -c 5 | od -c; echo full > /dev/stdout; echo $? >&2", |mut command| {
        let zero = File::open("/dev/zero").expect("/dev/zero");
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = command.stdin(zero).stdout(full).output().expect("run");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            errors.lines().last().map(String::from),
            errors.matches("No space left").count(),
            code(output.status),
        )
    });
}

#[test]
fn descriptors_that_are_closed() {
    // The shell closes them for what it runs. A container has all three: /dev/null stands in.
    for platform in platforms() {
        let script = "cat; echo unseen; echo $? > /tmp/x; exit $(cat /tmp/x)";
        let bundle = Bundle::new(Path::new("/"), &["/bin/bash", "-c", script]).expect("a bundle");
        let launch = bundle.launch(platform, &["run"]).expect("a bundle");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exec \"$@\" <&- >&-", "sh"]).arg(launch.command.get_program());
        let output = shell.args(launch.command.get_args()).output().expect("run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((code(output.status), &*errors), (Some(0), ""), "{platform}");
    }
}
