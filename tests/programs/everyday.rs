//! A static program of Rust's standard library: threads, channels, files, processes, panics, time.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

fn main() -> ExitCode {
    // The program is its own child.
    match env::args().nth(1).as_deref() {
        Some("upper") => {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                println!("{}", line.to_uppercase());
            }
            return ExitCode::from(3);
        }
        Some("panic") => panic!("on purpose"),
        Some("abort") => std::process::abort(),
        _ => {}
    }
    channels();
    locks();
    files().expect("files");
    processes().expect("processes");
    time();
    ExitCode::from(42)
}

fn channels() {
    let (sender, receiver) = mpsc::channel();
    let workers: Vec<_> = (0..16u64)
        .map(|worker| {
            let sender = sender.clone();
            thread::spawn(move || (0..1000).for_each(|n| sender.send(worker * 1000 + n).expect("open")))
        })
        .collect();
    drop(sender);
    println!("sum {}", receiver.iter().sum::<u64>());
    workers.into_iter().for_each(|worker| worker.join().expect("no panic"));

    // A channel without room: each number waits for its reader.
    let (to, from) = mpsc::sync_channel(0);
    let echo = thread::spawn(move || from.iter().fold(0u64, |sum, n: u64| sum * 31 % 1_000_003 + n));
    (0..2000).for_each(|n| to.send(n).expect("open"));
    drop(to);
    println!("folded {}", echo.join().expect("no panic"));
    let (_kept, silent) = mpsc::channel::<()>();
    println!("timeout {:?}", silent.recv_timeout(Duration::from_millis(20)));
}

fn locks() {
    let shared = Arc::new((Mutex::new(0u64), Condvar::new(), AtomicU64::new(0), RwLock::new(BTreeMap::new())));
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8u64)
        .map(|id| {
            let (shared, barrier) = (Arc::clone(&shared), Arc::clone(&barrier));
            thread::Builder::new()
                .name(format!("worker {id}"))
                .stack_size(64 << 10)
                .spawn(move || {
                    barrier.wait();
                    for _ in 0..1000 {
                        shared.2.fetch_add(id, Ordering::Relaxed);
                        *shared.0.lock().expect("not poisoned") += 1;
                    }
                    // From here on only those whose turn it is count.
                    barrier.wait();
                    shared.3.write().expect("not poisoned").insert(id, thread::current().name().map(String::from));
                    // In turn: each waits for the one before it.
                    let mut turn = shared.0.lock().expect("not poisoned");
                    while *turn != 8000 + id {
                        turn = shared.1.wait(turn).expect("not poisoned");
                    }
                    *turn += 1;
                    shared.1.notify_all();
                })
                .expect("a thread")
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    println!("{} {} {:?}", shared.0.lock().expect("free"), shared.2.load(Ordering::Relaxed), shared.3.read().expect("free"));
    let panicked = thread::spawn(|| panic!("in a thread")).join();
    println!("caught {:?}", panicked.expect_err("a panic").downcast_ref::<&str>());
    println!("unwound {:?}", std::panic::catch_unwind(|| [1, 2, 3][std::hint::black_box(7)]).is_err());
}

fn files() -> io::Result<()> {
    fs::create_dir_all("a/b/c")?;
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open("a/b/data")?;
    (0..1000).try_for_each(|n| writeln!(file, "line {n}"))?;
    file.seek(SeekFrom::Start(5))?;
    let mut word = [0; 6];
    file.read_exact(&mut word)?;
    println!("{:?} {}", String::from_utf8_lossy(&word), file.metadata()?.len());
    println!("{:?}", OpenOptions::new().write(true).create_new(true).open("a/b/data").map_err(|e| e.kind()).err());
    println!("{:?}", File::open("missing").map_err(|e| (e.kind(), e.raw_os_error())).err());
    fs::rename("a/b/data", "a/moved")?;
    std::os::unix::fs::symlink("moved", "a/link")?;
    fs::hard_link("a/moved", "a/second")?;
    file.set_len(10)?;
    println!("{:?} {:?}", fs::read_to_string("a/link")?, fs::read_link("a/link")?);
    let mut names: Vec<_> = fs::read_dir("a")?.map(|e| e.map(|e| (e.file_name(), e.file_type().is_ok_and(|t| t.is_dir())))).collect::<io::Result<_>>()?;
    names.sort();
    println!("{names:?}");
    fs::remove_dir_all("a")?;
    println!("{}", fs::exists("a")?);
    Ok(())
}

fn processes() -> io::Result<()> {
    let own = env::current_exe()?;
    let mut child = Command::new(&own).arg("upper").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().expect("piped");
    let writer = thread::spawn(move || (0..500).try_for_each(|n| writeln!(input, "word {n}")));
    let output = child.stdout.take().expect("piped");
    let lines: Vec<_> = BufReader::new(output).lines().collect::<io::Result<_>>()?;
    writer.join().expect("no panic")?;
    println!("{} {:?} {:?}", lines.len(), lines.last(), child.wait()?);
    for word in ["panic", "abort"] {
        let output = Command::new(&own).arg(word).env_clear().output()?;
        println!("{word}: {:?} {}", output.status, String::from_utf8_lossy(&output.stderr).contains("on purpose"));
    }
    let mut children = (0..20).map(|_| Command::new(&own).arg("upper").stdin(Stdio::null()).spawn()).collect::<io::Result<Vec<_>>>()?;
    println!("{}", children.iter_mut().map(|c| c.wait().map(|s| s.code().unwrap_or(0))).sum::<io::Result<i32>>()?);
    println!("{:?}", Command::new("/nosuch").spawn().map_err(|e| e.kind()).err());
    let mut stuck = Command::new(&own).arg("upper").stdin(Stdio::piped()).spawn()?;
    stuck.kill()?;
    println!("{:?}", stuck.wait()?);
    Ok(())
}

fn time() {
    let (begin, wall) = (Instant::now(), SystemTime::now());
    thread::sleep(Duration::from_millis(30));
    println!("slept {}", begin.elapsed() >= Duration::from_millis(30));
    println!("forward {}", SystemTime::now() > wall && wall > SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000));
    println!("cpus {}", thread::available_parallelism().is_ok_and(|n| n.get() >= 1));
}
