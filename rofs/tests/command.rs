//! The tool mkrofs: what it prints, how it ends, and that it leaves nothing behind.

mod common;

use common::{ALL, run, sample};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn mkrofs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkrofs"));
    command.env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    command
}

/// Runs it; it must end with `status`, and say `message` on standard error.
fn ends(command: &mut Command, status: i32, message: &str) -> Output {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{command:?}: {errors}");
    assert!(errors.contains(message), "{command:?}: {errors}");
    output
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn wrong_calls_end_with_2() {
    ends(&mut mkrofs(), 2, "Usage");
    ends(mkrofs().arg("only-an-output"), 2, "SOURCE");
    ends(mkrofs().args(["--from", "floppy", "a", "b"]), 2, "floppy");
    ends(mkrofs().args(["--owner", "root", "a", "b"]), 2, "colon");
    ends(mkrofs().args(["--label", "seventeen letters", "a", "b"]), 2, "16 bytes");
    ends(mkrofs().args(["--block-size", "3000", "a", "b"]), 2, "power of 2");
    ends(mkrofs().args(["cat", "image"]), 2, "PATHS");
    ends(mkrofs().args(["gc"]), 2, "--store");
    assert!(run(mkrofs().arg("--help")).contains("verify"));
}

#[test]
fn failures_end_with_1_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (image, text) = (dir.path().join("image"), dir.path().join("text"));
    fs::write(&text, "no image and no archive").unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    for (source, message) in [
        (dir.path().join("absent"), "absent"),
        (text.clone(), "not a tar archive"),
        (Path::new("/dev/null").to_path_buf(), "not a tar archive"),
    ] {
        ends(mkrofs().arg(&image).arg(source), 1, message);
    }
    ends(mkrofs().args(["--from", "oci"]).arg(&image).arg(dir.path().join("tree")), 1, "index.json");
    ends(mkrofs().args(["--from", "bundle"]).arg(&image).arg(dir.path().join("tree")), 1, "config.json");
    ends(mkrofs().args(["--from", "dir"]).arg(&image).arg(&text), 1, "not a directory");
    ends(mkrofs().arg(dir.path().join("no/image")).arg(dir.path().join("tree")), 1, "no");
    ends(mkrofs().args(["--exclude", "["]).arg(&image).arg(dir.path().join("tree")), 1, "--exclude");
    let epoch =
        mkrofs().env("SOURCE_DATE_EPOCH", "yesterday").arg(&image).arg(dir.path().join("tree")).output();
    assert!(String::from_utf8_lossy(&epoch.unwrap().stderr).contains("yesterday"));
    for command in ["info", "ls", "verify"] {
        ends(mkrofs().arg(command).arg(&text), 1, "not an EROFS image");
        ends(mkrofs().arg(command).arg(&image), 1, "No such file");
    }
    assert_eq!(names(dir.path()), ["text", "tree"]);
}

#[test]
fn images_are_made_and_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    sample(&tree, ALL);
    let quiet = run(mkrofs().args(["--quiet", "--label", "sample"]).arg(&image).arg(&tree));
    assert_eq!(quiet, "");
    let info = run(mkrofs().arg("--info").arg(&image));
    assert_eq!(info, run(mkrofs().arg("info").arg(&image)));
    assert!(info.contains("label         sample") && info.contains("correct"), "{info}");
    assert!(run(mkrofs().arg("verify").arg(&image)).contains("correct"));
    assert_eq!(run(mkrofs().arg("cat").arg(&image).arg("/deep/../deep/a/b/c/d/e/f/g/leaf")), "leaf");
    let through = mkrofs().arg("cat").arg(&image).arg("link-root/link").output().unwrap();
    assert_eq!(through.stdout, fs::read(tree.join("size-1")).unwrap());
    let long = run(mkrofs().args(["ls", "-l"]).arg(&image));
    assert!(
        long.contains("link -> size-1") && long.contains("new\\nline") && long.contains("\\xff"),
        "{long}"
    );
    assert!(long.contains("-rws"), "{long}");
    assert_eq!(run(mkrofs().arg("ls").arg(&image).arg("many")).lines().count(), 700);
    assert!(run(mkrofs().args(["ls", "-R"]).arg(&image)).contains("deep/a/b/c/d/e/f/g/leaf"));
    let stat = run(mkrofs().arg("stat").arg(&image).args(["size-1", "link", "holes"]));
    assert!(
        stat.contains("user.newline = a\\nb=c\\n\\u{0}d") && stat.contains("981173106.789012345"),
        "{stat}"
    );
    assert!(stat.contains("target    size-1") && stat.contains("Chunked"), "{stat}");
    ends(mkrofs().arg("cat").arg(&image).arg("deep"), 1, "not a regular file");
    ends(mkrofs().arg("stat").arg(&image).arg("nowhere"), 1, "no such file");
    let out = dir.path().join("out");
    run(mkrofs().arg("extract").arg(&image).arg(&out));
    common::compare(&common::open(&image), &out, common::Compared { mtime: true });
    ends(mkrofs().arg("extract").arg(&image).arg(&out), 1, "not empty");
    // A reader that has had enough is no failure.
    let head = format!("{} ls -R {} | head -1", env!("CARGO_BIN_EXE_mkrofs"), image.display());
    let output = Command::new("bash").args(["-c", &format!("set -o pipefail; {head}")]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn owners_and_exclusions() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir_all(tree.join("var/cache/deep")).unwrap();
    fs::write(tree.join("var/cache/deep/file"), "x").unwrap();
    fs::write(tree.join("var/kept"), "x").unwrap();
    fs::write(tree.join("a.tmp"), "x").unwrap();
    let excluded = ["--exclude", "var/cache", "--exclude", "/*.tmp", "--owner", "7:70000"];
    run(mkrofs().args(excluded).arg(&image).arg(&tree));
    assert_eq!(run(mkrofs().args(["ls", "-R"]).arg(&image)), "var\nvar/kept\n");
    assert!(run(mkrofs().arg("stat").arg(&image).arg("var/kept")).contains("7:70000"));
    // The same from an archive at standard input.
    let archive = dir.path().join("archive");
    run(Command::new("tar").arg("-C").arg(&tree).arg("-czf").arg(&archive).arg("."));
    let stdin = fs::File::open(&archive).unwrap();
    run(mkrofs().args(excluded).arg(&image).arg("-").stdin(stdin));
    assert_eq!(run(mkrofs().args(["ls", "-R"]).arg(&image)), "var\nvar/kept\n");
    run(mkrofs().arg("--all-root").arg(&image).arg(&tree));
    assert!(run(mkrofs().arg("stat").arg(&image).arg("var/kept")).contains("0:0"));
}

#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    (0..500).for_each(|n| fs::write(tree.join(format!("file-{n}")), "x".repeat(n * 10)).unwrap());
    run(mkrofs().arg(&image).arg(&tree));
    let bytes = fs::read(&image).unwrap();
    let cut = dir.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    ends(mkrofs().arg("verify").arg(&cut), 1, "beyond the end");
    let mut changed = bytes.clone();
    changed[1024 + 4] ^= 1;
    fs::write(&cut, &changed).unwrap();
    ends(mkrofs().arg("verify").arg(&cut), 1, "checksum");
    let name = bytes.windows(8).rposition(|w| w == b"file-250").unwrap();
    let mut changed = bytes;
    changed[name] = b'z';
    fs::write(&cut, &changed).unwrap();
    ends(mkrofs().arg("verify").arg(&cut), 1, "out of order");
}
