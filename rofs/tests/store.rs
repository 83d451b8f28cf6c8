//! Images as chunks: kept once, fetched from directories and servers, verified, collected.

mod common;

use common::{image_of, noise, run};
use rofs::Failure;
use rofs::progress::Silent;
use rofs::store::{ChunkSource, HttpSource, Index, Store, assemble, fetch_chunk, write_prefetch};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An image with data, its equal parts, and zeros, as a file.
fn image(dir: &Path, name: &str, last: u64) -> PathBuf {
    let (tree, image) = (dir.join(format!("{name}.tree")), dir.join(name));
    fs::create_dir(&tree).unwrap();
    for number in 0..20 {
        let seed = if number == 19 { last } else { number };
        fs::write(tree.join(format!("file-{number:02}")), noise(100_000, seed + 1)).unwrap();
        common::set_time(&tree.join(format!("file-{number:02}")), 1, 0);
    }
    common::set_time(&tree, 1, 0);
    image_of(&tree, &image);
    // Zeros at the end, as an image that is padded has.
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(fs::metadata(&image).unwrap().len().next_multiple_of(65_536) + 200_000).unwrap();
    image
}

fn kept(store: &Store, image: &Path, name: &str) -> (Index, rofs::store::Kept) {
    store.keep(&File::open(image).unwrap(), name, 65_536, &Silent).unwrap()
}

#[test]
fn images_share_chunks_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let (one, two) = (image(dir.path(), "one", 100), image(dir.path(), "two", 200));
    let (first, new) = kept(&store, &one, "one");
    assert!(new.zero >= 3 && new.shared == 0 && new.new > 20, "{new:?}");
    let (second, shared) = kept(&store, &two, "two");
    assert!(shared.shared > 20 && shared.new <= 4, "{shared:?}");
    assert_eq!(kept(&store, &one, "again").1.new, 0);
    for (index, image) in [(&first, &one), (&second, &two)] {
        let out = dir.path().join("out");
        assemble(&store.source(), index, &out, &Silent).unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(image).unwrap());
    }
    // An index comes back from its file, and a second run of the same is the same.
    let path = store.index_path("one").unwrap();
    assert_eq!(Index::load(&path).unwrap(), first);
    assert_eq!(fs::read(&path).unwrap(), fs::read(store.index_path("again").unwrap()).unwrap());
    assert!(store.index_path("../x").is_err() && store.index_path("").is_err());
}

#[test]
fn what_no_index_names_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let (one, two) = (image(dir.path(), "one", 100), image(dir.path(), "two", 200));
    kept(&store, &one, "one");
    let (second, _) = kept(&store, &two, "two");
    assert_eq!(store.collect(false).unwrap().removed, 0);
    fs::remove_file(store.index_path("one").unwrap()).unwrap();
    let would = store.collect(true).unwrap();
    assert!(would.removed > 0 && would.bytes > 0);
    assert_eq!(store.collect(false).unwrap(), would);
    assert_eq!(store.collect(false).unwrap().removed, 0);
    assemble(&store.source(), &second, &dir.path().join("out"), &Silent).unwrap();
    // An index that is not understood could name any chunk.
    fs::write(store.index_path("broken").unwrap(), "{}").unwrap();
    assert!(store.collect(false).is_err());
    assert!(Store::open(dir.path()).is_err());
}

#[test]
fn wrong_chunks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let (index, _) = kept(&store, &image(dir.path(), "one", 100), "one");
    let digest = index.chunks()[3].unwrap();
    let path = store.source().path(&digest);
    let out = dir.path().join("out");
    let good = fs::read(&path).unwrap();
    for bad in [noise(65_536, 9), good[..100].to_vec(), [&good[..], b"x"].concat()] {
        fs::write(&path, bad).unwrap();
        let error = assemble(&store.source(), &index, &out, &Silent).unwrap_err();
        assert!(matches!(error, Failure::Digest { .. }), "{error}");
        assert!(error.to_string().contains("chunk 3"), "{error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(fetch_chunk(&store.source(), &index, 3), Err(Failure::Io { .. })));
    assert!(fetch_chunk(&store.source(), &index, 1 << 40).is_err());
    assert!(!out.exists());
}

#[test]
fn indexes_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let (index, _) = kept(&store, &image(dir.path(), "one", 100), "one");
    let path = store.index_path("one").unwrap();
    let count = index.chunks().len() as u64;
    write_prefetch(&path, vec![count - 1, 0]).unwrap();
    assert_eq!(Index::load(&path).unwrap().prefetch(), [count - 1, 0]);
    assert!(write_prefetch(&path, vec![count]).is_err());
    assert_eq!(Index::load(&path).unwrap().prefetch(), [count - 1, 0]);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("rofs-index", "other"),
        ("\"version\":1", "\"version\":2"),
        ("\"chunk_size\":65536", "\"chunk_size\":65537"),
        ("\"chunk_size\":65536", "\"chunk_size\":0"),
        ("\"length\":", "\"length\":9"),
        ("\"image\":\"", "\"image\":\"xy"),
        ("{", ""),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        assert!(Index::load(&path).is_err(), "{to}");
    }
    let file = File::open(dir.path().join("one")).unwrap();
    assert!(store.keep(&file, "x", 1000, &Silent).is_err());
    assert!(store.keep(&file, "x", 0, &Silent).is_err());
}

/// A small server of files beneath a directory, with ranges; the first `failures` requests are answered 503.
fn serve(root: PathBuf, failures: u32) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let number = count.fetch_add(1, Ordering::SeqCst);
            answer(stream, &root, number < failures);
        }
    });
    (url, requests)
}

fn answer(mut stream: TcpStream, root: &Path, fail: bool) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some((first, last)) = line.strip_prefix("range: bytes=").and_then(|r| r.split_once('-')) {
            range = Some((first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap()));
        }
    }
    let path = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let file = File::open(root.join(path)).ok().filter(|f| f.metadata().unwrap().is_file());
    let (status, body) = match (fail, file, range) {
        (true, ..) => ("503 Busy", Vec::new()),
        (_, None, _) => ("404 Not Found", Vec::new()),
        (_, Some(file), Some((first, last))) => {
            let mut data = vec![0; (last - first + 1) as usize];
            file.read_exact_at(&mut data, first).unwrap();
            ("206 Partial Content", data)
        }
        (_, Some(file), None) => {
            let mut data = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut data, 0).unwrap();
            ("200 OK", data)
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

#[test]
fn chunks_come_from_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let one = image(dir.path(), "one", 100);
    let (index, _) = kept(&store, &one, "one");
    let (url, requests) = serve(dir.path().to_path_buf(), 2);
    let out = dir.path().join("out");
    // A store, after a server that was busy; then the whole image by ranges.
    assemble(&HttpSource::store(&format!("{url}/store/")).unwrap(), &index, &out, &Silent).unwrap();
    assert!(fs::read(&out).unwrap() == fs::read(&one).unwrap());
    let named = index.chunks().iter().flatten().count() as u32;
    assert_eq!(requests.load(Ordering::SeqCst), named + 2);
    fs::remove_file(&out).unwrap();
    assemble(&HttpSource::image(&format!("{url}/one")).unwrap(), &index, &out, &Silent).unwrap();
    assert!(fs::read(&out).unwrap() == fs::read(&one).unwrap());
    // Another image at the address.
    let two = image(dir.path(), "two", 200);
    let error = assemble(
        &HttpSource::image(&format!("{url}/{}", two.file_name().unwrap().display())).unwrap(),
        &index,
        &dir.path().join("never"),
        &Silent,
    );
    assert!(matches!(error.unwrap_err(), Failure::Digest { .. }));
    let absent = HttpSource::store(&format!("{url}/nowhere")).unwrap();
    let error = fetch_chunk(&absent, &index, 0).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("nowhere"), "{error}");
    assert!(HttpSource::store("https://localhost/").is_err());
    assert_eq!(HttpSource::store(&url).unwrap().name(), url);
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let (index, _) = kept(&store, &image(dir.path(), "one", 100), "one");
    let (url, requests) = serve(dir.path().to_path_buf(), u32::MAX);
    let error = fetch_chunk(&HttpSource::store(&url).unwrap(), &index, 0).unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("attempts"), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 5);
}

#[test]
fn the_tool_keeps_fetches_and_collects() {
    let dir = tempfile::tempdir().unwrap();
    let mkrofs = || Command::new(env!("CARGO_BIN_EXE_mkrofs"));
    image(dir.path(), "one", 100);
    let (tree, store) = (dir.path().join("one.tree"), dir.path().join("store"));
    let index = dir.path().join("mine.index");
    let made =
        run(mkrofs().arg("--store").arg(&store).args(["--chunk-size", "65536"]).arg(&index).arg(&tree));
    assert!(made.contains("chunks:"), "{made}");
    assert_eq!(fs::read(&index).unwrap(), fs::read(store.join("images/mine.index")).unwrap());
    run(mkrofs().arg("--store").arg(&store).args(["--name", "other"]).arg(&tree));
    assert!(store.join("images/other.index").exists());
    let (url, _) = serve(dir.path().to_path_buf(), 0);
    let plain = dir.path().join("plain");
    run(mkrofs().arg(&plain).arg(&tree));
    for source in [store.display().to_string(), format!("{url}/store"), format!("{url}/plain")] {
        let out = dir.path().join("out");
        run(mkrofs()
            .arg("fetch")
            .arg(&index)
            .arg("--source")
            .arg(&source)
            .arg(&out)
            .env_remove("http_proxy"));
        assert!(fs::read(&out).unwrap() == fs::read(&plain).unwrap(), "{source}");
        fs::remove_file(out).unwrap();
    }
    let list = dir.path().join("list");
    fs::write(&list, "2\n\n0\n").unwrap();
    run(mkrofs().arg("prefetch").arg(&index).arg(&list));
    assert_eq!(Index::load(&index).unwrap().prefetch(), [2, 0]);
    fs::write(&list, "2\nx\n").unwrap();
    let wrong = mkrofs().arg("prefetch").arg(&index).arg(&list).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("line 2"));
    fs::remove_file(store.join("images/other.index")).unwrap();
    assert!(run(mkrofs().arg("gc").arg("--store").arg(&store)).contains("removed"));
    let files: Vec<_> = fs::read_dir(&store).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
}
