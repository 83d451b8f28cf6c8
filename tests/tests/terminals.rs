//! Dialogues on a terminal: natively, by `run` on the terminal of the caller, and by `create` and `start` on one that
//! the runtime makes and sends to a console socket. All must show the same.

use runsc_tests::terminal::Terminal;
use runsc_tests::{Bundle, code, native, platforms};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Waits for signals that may come at any moment after `ready`: quit ends it, another tells the size of the window.
const WAIT: &str = "import os, signal, sys
signals = {signal.SIGQUIT, signal.SIGWINCH}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print('ready', flush=True)
while signal.sigwait(signals) != signal.SIGQUIT: print(*os.get_terminal_size(), flush=True)
sys.exit(3)";

const ENV: [(&str, &str); 5] = [
    ("TERM", "dumb"),
    ("PS1", "$ "),
    ("PYTHON_HISTORY", "/dev/null"),
    ("HISTFILE", "/dev/null"),
    ("WAIT", WAIT),
];

/// Holds `dialogue` with the program `args` on each kind of terminal and compares what was shown and the exit code.
fn each(args: &[&str], dialogue: impl Fn(&mut Terminal)) {
    let work = tempfile::tempdir().expect("a directory");
    let mut command = native(args);
    command.envs(ENV).env("HOME", work.path());
    let mut terminal = Terminal::open("natively").expect("a terminal");
    let mut child = terminal.spawn(&command).expect("the native run");
    dialogue(&mut terminal);
    let expected = (plain(&terminal.finish()), code(child.wait().expect("wait")));
    // Closed before, it would hang up on a program that is about to end, and change its exit code.
    drop(terminal);
    for platform in platforms() {
        let bundle = bundle(args);
        assert_eq!(run(&bundle, platform, &dialogue), expected, "{args:?} by run on {platform}");
        assert_eq!(create(&bundle, platform, &dialogue), expected.0, "{args:?} by create on {platform}");
    }
}

fn bundle(args: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(Path::new("/"), args).expect("a bundle");
    let process = &mut bundle.config()["process"];
    process["terminal"] = json!(true);
    let env = process["env"].as_array_mut().expect("an array");
    env.extend(ENV.map(|(name, value)| json!(format!("{name}={value}"))));
    bundle
}

fn run(bundle: &Bundle, platform: &str, dialogue: impl Fn(&mut Terminal)) -> (String, Option<i32>) {
    let mut terminal = Terminal::open(&format!("by run on {platform}")).expect("a terminal");
    let launch = bundle.launch(platform, &["run"]).expect("a bundle");
    let mut child = terminal.spawn(&launch.command).expect("run");
    dialogue(&mut terminal);
    let text = terminal.finish();
    (plain(&text), code(child.wait().expect("wait")))
}

fn create(bundle: &Bundle, platform: &str, dialogue: impl Fn(&mut Terminal)) -> String {
    let socket = bundle.path().join("console.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a socket");
    let path = socket.to_string_lossy().into_owned();
    let mut launch = bundle.launch(platform, &["create", "--console-socket", &path]).expect("a bundle");
    let command = launch.command.stdin(Stdio::null()).stdout(Stdio::null());
    assert!(command.status().expect("create").success(), "create on {platform}");
    let mut terminal = Terminal::of(&format!("by create on {platform}"), receive(&listener));
    terminal.resize(24, 80).expect("a terminal");
    assert!(bundle.runsc(&["start", &launch.id]).status().expect("start").success(), "start on {platform}");
    dialogue(&mut terminal);
    let text = terminal.finish();
    // The terminal is hung up a moment before the sandbox is gone.
    let begin = Instant::now();
    while !bundle.runsc(&["delete", &launch.id]).stderr(Stdio::null()).status().expect("delete").success() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the container does not end on {platform}");
        std::thread::sleep(Duration::from_millis(10));
    }
    plain(&text)
}

/// Takes the one descriptor that comes over the socket.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().expect("a connection");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::empty())
        .expect("a message");
    assert!(name[..got.bytes].starts_with(b"/dev/pts/"), "{:?}", String::from_utf8_lossy(&name[..got.bytes]));
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.next().and_then(|mut fds| fds.next()).expect("a descriptor")
}

/// Leaves out what is not the same everywhere, such as the process ids of `[1] 123`.
fn plain(text: &str) -> String {
    let line = |line: &str| match line.split_once("] ") {
        Some((job, pid)) if job.starts_with('[') && pid.trim_end().parse::<u32>().is_ok() => {
            format!("{job}] N")
        }
        _ => line.to_string(),
    };
    // The interrupt may come before the loop of this string or in it.
    let text = text.replace("<string>\", line 1", "<string>\", line 2");
    // A program that this ends may be gone before it is shown.
    let text = text.replace("^\\", "");
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

const BASH: [&str; 4] = ["/bin/bash", "--norc", "--noprofile", "-i"];
const BASH_PLAIN: [&str; 5] = ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"];

#[test]
fn the_terminal_is_one() {
    let script = "for f in 0 1 2; do test -t $f; echo $?; done; tty | sed 's/[0-9]*$/N/'; stty size; stty -a | grep -o 'isig icanon'; \
                  ls -l /dev/tty | cut -c 1; echo to tty > /dev/tty; perl -e 'use POSIX; print getpgrp() == tcgetpgrp(0), \"\\n\"'; exit 6";
    each(&["/bin/bash", "-c", script], |_| {});
}

#[test]
fn lines_are_edited_and_echoed() {
    each(&["/bin/sh", "-c", "echo ready; exec cat"], |terminal| {
        terminal.expect("ready\r\n");
        terminal.ask("hello\n", "hello\r\nhello\r\n");
        terminal.ask("wrong\u{15}right\n", "right\r\nright\r\n");
        terminal.ask("abcd\u{7f}\u{7f}X\n", "\r\nabX\r\n");
        terminal.ask("one two\u{17}three\n", "\r\none three\r\n");
        terminal.ask("\u{16}\u{3}\n", "\r\n\u{3}\r\n");
        // Output is held, and goes on; what is typed meanwhile is shown afterwards.
        terminal.send("\u{13}held\n");
        terminal.ask("\u{11}", "held\r\nheld\r\n");
        terminal.ask("unfinished\u{4}", "unfinishedunfinished");
        terminal.send("\u{4}");
    });
    each(
        &[
            "/bin/bash",
            "-c",
            "stty -echo; echo re''ady; read -r x; stty echo; echo got $x; stty raw -echo; echo ra''w; dd bs=1 count=3 2>/dev/null | od -c; stty sane; exit 5",
        ],
        |terminal| {
            terminal.expect("ready");
            terminal.ask("secret\n", "got secret");
            terminal.expect("raw");
            terminal.send("\u{3}a\r");
        },
    );
}

#[test]
fn the_window_changes() {
    each(&["/usr/bin/python3", "-c", WAIT], |terminal| {
        terminal.expect("ready\r\n");
        terminal.resize(50, 132).expect("a terminal");
        terminal.expect("132 50\r\n");
        terminal.resize(10, 20).expect("a terminal");
        terminal.expect("20 10\r\n");
        terminal.send("\u{1c}");
    });
}

#[test]
fn an_interactive_shell_controls_jobs() {
    for shell in [&BASH[..], &BASH_PLAIN] {
        each(shell, |terminal| {
            terminal.expect("$ ");
            terminal.ask("echo $((6 * 7)) $- | tr -d sH\n", "\r\n42");
            terminal.expect("$ ");
            terminal.ask("sh -c 'echo re\"\"ady; exec sleep 100'\n", "\nready");
            terminal.ask("\u{3}", "$ ");
            terminal.ask("echo status $?\n", "\nstatus 130\r\n$ ");
            terminal.ask("sh -c 'echo on\"\"e; exec sleep 100'\n", "\none");
            terminal.ask("\u{1a}", "Stopped");
            terminal.expect("$ ");
            terminal.ask("jobs\n", "Stopped");
            terminal.expect("$ ");
            terminal.ask("bg\n", "&\r\n$ ");
            terminal.ask("jobs\n", "Running");
            terminal.expect("$ ");
            terminal.ask("kill %1; wait %1; echo status $?\n", "status 143\r\n");
            terminal.expect("$ ");
            // Each answer proves that the job is in the foreground.
            terminal.ask("sh -c 'echo re\"\"ady; exec cat'\n", "\nready\r\n");
            terminal.ask("one\n", "one\r\none\r\n");
            terminal.ask("\u{1a}", "Stopped");
            terminal.expect("$ ");
            terminal.ask("fg\n", "exec cat'\r\n");
            terminal.ask("two\n", "two\r\ntwo\r\n");
            terminal.ask("\u{1a}", "Stopped");
            terminal.expect("$ ");
            terminal.ask("fg %sh\n", "exec cat'\r\n");
            terminal.ask("three\n", "three\r\nthree\r\n");
            terminal.ask("\u{3}", "$ ");
            terminal.ask("sh -c 'echo ready; exec cat' | tr a-z A-Z\n", "\r\n");
            terminal.expect("READY\r\n");
            terminal.ask("shout\n\u{4}", "SHOUT\r\n$ ");
            terminal.ask("python3 -c \"$WAIT\"\n", "\nready\r\n");
            terminal.ask("\u{1c}", "$ ");
            terminal.ask("echo status $?\n", "\nstatus 3\r\n$ ");
            terminal.ask("echo no\"\"w; read -r a b; echo \"<$b>\"\n", "\nnow\r\n");
            terminal.ask("x y z\n", "<y z>\r\n$ ");
            terminal.ask("half a li\u{15}(exit 9)\n", "\n$ ");
            terminal.ask("\u{4}", "exit");
        });
    }
}

#[test]
fn pythons_prompt() {
    each(&["/usr/bin/python3", "-q", "-i"], |terminal| {
        terminal.expect(">>> ");
        terminal.ask("6 * 7\n", "\n42\r\n>>> ");
        terminal.ask("def f(x):\n", "... ");
        terminal.ask("    return x + 1\n", "... ");
        terminal.ask("\n", ">>> ");
        terminal.ask("f(1)\n", "\n2\r\n>>> ");
        terminal.ask("input('na' + 'me? ')\n", "\nname? ");
        terminal.ask("who\n", "'who'\r\n>>> ");
        terminal.ask("exec(\"print('lo' + 'op')\\nwhile True: pass\")\n", "\nloop\r\n");
        terminal.ask("\u{3}", "KeyboardInterrupt\r\n>>> ");
        terminal.ask("import os, sys; os.isatty(0), sys.stdout.isatty()\n", "(True, True)\r\n>>> ");
        terminal.ask("os.get_terminal_size()[:]\n", "(80, 24)\r\n>>> ");
        terminal.ask("1 +* 2\n", "SyntaxError: invalid syntax\r\n>>> ");
        terminal.send("raise SystemExit(7)\n");
    });
}

#[test]
fn a_hung_up_terminal_ends_its_shell() {
    for platform in platforms() {
        let bundle = bundle(&BASH);
        let mut terminal = Terminal::open(&format!("by run on {platform}")).expect("a terminal");
        let launch = bundle.launch(platform, &["run"]).expect("a bundle");
        let mut child = terminal.spawn(&launch.command).expect("run");
        terminal.expect("$ ");
        drop(terminal);
        let begin = Instant::now();
        while child.try_wait().expect("wait").is_none() {
            assert!(begin.elapsed() < Duration::from_secs(30), "the shell does not end on {platform}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn the_terminal_of_the_caller_is_as_before() {
    for platform in platforms() {
        let bundle = bundle(&["/bin/bash", "-c", "stty raw; exit 3"]);
        let mut terminal = Terminal::open(&format!("by run on {platform}")).expect("a terminal");
        let launch = bundle.launch(platform, &["run"]).expect("a bundle");
        // A shell runs it and lives on, so that the terminal stays open.
        let mut shell = native(&["/bin/sh", "-c", "\"$@\"; echo status $?; read -r end", "sh"]);
        shell.arg(launch.command.get_program()).args(launch.command.get_args());
        let mut child = terminal.spawn(&shell).expect("sh");
        terminal.expect("status 3");
        assert!(terminal.is_cooked().expect("a terminal"), "{platform}");
        terminal.send("\n");
        child.wait().expect("wait");
    }
}
